"""What the runtime logs, and where to. Nothing is logged until one of the `enable` functions is called."""

from __future__ import annotations

import os

from . import _native
from ._types import LogLevel


def set_loglevel(level: LogLevel) -> None:
    """Logs what is at least as important as `level` from now on. The level is WARNING at first."""
    _native.set_loglevel(level)


def enable_console_log() -> None:
    """Writes logs to the standard error stream from now on."""
    _native.enable_console_log()


def enable_file_log(path: str | os.PathLike[str]) -> None:
    """Appends logs to the file at `path` from now on."""
    _native.enable_file_log(path)

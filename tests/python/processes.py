"""Python in a process of its own, which sees the modules that this one sees."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest


def start(code: str, *arguments: Any, **environment: str) -> subprocess.Popen[str]:
    """Begins to run `code`, in a process group of its own."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(code: str, *arguments: Any, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `code`; the test fails where that does not end in time."""
    process = start(code, *arguments, **environment)
    try:
        out, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # The group is ended together, so that a forked child that hangs does not outlive the test.
        os.killpg(process.pid, 9)
        out, error = process.communicate()
        pytest.fail(f"hangs; so far: {out}{error}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)

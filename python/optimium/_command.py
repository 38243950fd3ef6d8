"""Where the command `optimium` begins, before anything is imported that takes time."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command. An interrupt while its packages are imported ends the process at once: there is nothing to be told then."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from optimium.runtime.cli import main as command

    command()

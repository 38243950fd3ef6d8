"""The command `optimium`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Runs the command. Its packages are an extra: without them it says how to install them.

    Where interrupts end the process, as `optimium._command` lets them while packages are imported, the command takes them over.
    """
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.exit("the command line needs more packages: pip install 'optimium-runtime[cli]'")
    from ._app import app

    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except KeyboardInterrupt:
        # Between here and where the command itself looks out for interrupts.
        sys.exit(128 + signal.SIGINT)

"""The command `optimium`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command. Its packages are an extra: without them it says how to install them."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.exit("the command line needs more packages: pip install 'optimium-runtime[cli]'")
    from ._app import app

    app()

"""Tables of the command line: one line for each row, also on narrow terminals."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

#: Columns of what is no terminal: as many as a row needs, so that programs find it on one line.
_UNLIMITED = 100_000


def console() -> Console:
    """The standard output."""
    return Console(width=None if sys.stdout.isatty() else _UNLIMITED)


class Name:
    """Text of which the end tells most: where there is no room for all, the begin is left out."""

    _SHORTEST: ClassVar[int] = 12

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """How many columns it takes."""
        return Measurement(min(len(self.text), self._SHORTEST), len(self.text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As much of it as there is room for."""
        room = options.max_width
        shown = self.text if len(self.text) <= room else "…" + self.text[len(self.text) - room + 1 :]
        yield Text(shown, no_wrap=True, overflow="crop")


def remark(text: str) -> Text:
    """Text of which the begin tells most: where there is no room for all, the end is left out."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def table(title: str, *columns: str, figures: Sequence[str] = ()) -> Table:
    """A table without rows. Its `figures` are never cut; of the other columns, names and remarks are, the widest first."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        is_figure = column in figures
        made.add_column(column, justify="right" if is_figure else "left", no_wrap=is_figure, overflow="fold")
    return made

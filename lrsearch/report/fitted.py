"""A table that leaves columns out where the terminal is narrow, and says which: what names a row never gives way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

NAME_WIDTH = 12
"""Columns that a name has at least before others give way; a longer one is folded, so that it can be read whole."""


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    gives_way: int
    options: dict[str, Any]


class FittedTable:
    """A table whose less important columns give way.

    Args:
        elsewhere: where what was left out can be seen, in words: "lrsearch trials --format csv has them".
        style: keyword arguments of rich's ``Table``.
    """

    def __init__(self, elsewhere: str, **style: Any) -> None:
        self._elsewhere, self._style = elsewhere, style
        self._columns: list[_Column] = []
        self._rows: list[tuple[Sequence[str | Text], str | None]] = []

    def add_column(self, heading: str, *, gives_way: int = 0, **options: Any) -> None:
        """Add a column.

        Args:
            heading: its name.
            gives_way: 0 for never; the column with the highest number is the first to go.
            options: keyword arguments of rich's ``Table.add_column``.
        """
        self._columns.append(_Column(heading, gives_way, options))

    def add_row(self, *cells: str | Text, style: str | None = None) -> None:
        """Add a row with a cell for each column."""
        assert len(cells) == len(self._columns)
        self._rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw as many columns as fit."""
        left = sorted({c.gives_way for c in self._columns} - {0}, reverse=True)
        kept = list(range(len(self._columns)))
        while True:
            narrowest = Measurement.get(console, options.update(width=10_000), self._table(kept, folded=True))
            if not left or narrowest.maximum <= options.max_width:
                break
            gone = left.pop(0)
            kept = [i for i in kept if self._columns[i].gives_way != gone]
        yield self._table(kept)
        out = [c.heading.replace("\n", " ") for i, c in enumerate(self._columns) if i not in kept and c.heading]
        if out:
            yield Text(f"too narrow for {', '.join(out)}: {self._elsewhere}", "dim")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the width of the whole table."""
        return Measurement.get(console, options, self._table(range(len(self._columns))))

    def _table(self, kept: Sequence[int], *, folded: bool = False) -> Table:
        table = Table(**self._style)
        for i in kept:
            options = self._columns[i].options
            narrow = {"max_width": NAME_WIDTH} if folded and options.get("overflow") == "fold" else {}
            table.add_column(self._columns[i].heading, **{**options, **narrow})
        for cells, style in self._rows:
            table.add_row(*(cells[i] for i in kept), style=style)
        return table

"""A CSV file as rows of text: its delimiter and its marks of nothing, whatever program wrote it."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lrsearch.errors import DataError
from lrsearch.text import shown

NOTHING = frozenset({"", "-", "--", "n/a", "na", "null", "none", "<na>", "nat", "undefined"})
"""Cells that say nothing, in lower case; ``nan`` is none of them: a score of it is a result."""
DELIMITERS = ",;\t|"
LONGEST_CELL = 10_000_000
"""[characters]; a cell may hold a score for each of thousands of epochs."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table."""

    number: int
    """As a spreadsheet counts: the header is row 1."""
    cells: Mapping[str, str]
    """By header; what says nothing is left out."""


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A table as it was read."""

    headers: tuple[str, ...]
    lines: tuple[Line, ...]


def text_of(file: Path) -> str:
    """Return the text of a CSV file, without the mark with which Excel begins it.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no file {shown(str(file))}") from None
    except OSError as error:
        raise DataError(f"{shown(str(file))} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{shown(str(file))} must be a CSV file in UTF-8, and is none: save it as that") from None


def read(text: str, what: str) -> CsvTable:
    r"""Return the rows of a CSV file, empty ones left out.

    The delimiter is the one of comma, semicolon, tab and bar that the header has most of. Where it is not the comma,
    a comma between digits is a decimal point.

    Args:
        text: the file.
        what: its name, for an error.

    Raises:
        DataError: it has no header, or no rows below it.

    >>> read("lr;accuracy\n0,1;93,5\n;\n", "past.csv").lines
    (Line(number=2, cells={'lr': '0.1', 'accuracy': '93.5'}),)
    """
    csv.field_size_limit(LONGEST_CELL)
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{what} cannot be read as a CSV file: {error}") from None
    headers = tuple(shown(cell.strip()) for cell in rows[0]) if rows else ()
    if not any(headers):
        raise DataError(f"{what} must begin with a row of column names, got an empty one")
    if twice := sorted({name for name in headers if name and headers.count(name) > 1}):
        raise DataError(f"{what} has two columns of the name '{twice[0]}': rename or delete one of them")
    lines = []
    for number, row in enumerate(rows[1:], start=2):
        cells = {name: cell.strip() for name, cell in zip(headers, row, strict=False) if name}
        if delimiter != ",":
            cells = {name: _with_points(cell) for name, cell in cells.items()}
        if said := {name: cell for name, cell in cells.items() if cell.lower() not in NOTHING or _is_word(name, cell)}:
            lines.append(Line(number, said))
    if not lines:
        raise DataError(f"{what} has a row of column names and no trainings below it")
    return CsvTable(headers, tuple(lines))


def _with_points(cell: str) -> str:
    return cell.replace(",", ".") if re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", cell) else cell


def _is_word(name: str, cell: str) -> bool:
    """Whether ``none`` is the name of a schedule, and so says that there is none."""
    return cell.lower() == "none" and "sched" in name.lower()

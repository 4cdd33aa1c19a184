"""A CSV file as rows of text: its delimiter and its marks of nothing, whatever program wrote it."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
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
        cells = _opened({name: cell.strip() for name, cell in zip(headers, row, strict=False) if name})
        if delimiter != ",":
            cells = {name: _with_points(cell) for name, cell in cells.items()}
        if said := {name: cell for name, cell in cells.items() if cell.lower() not in NOTHING or _is_word(name, cell)}:
            lines.append(Line(number, said))
    if not lines:
        raise DataError(f"{what} has a row of column names and no trainings below it")
    opened = dict.fromkeys(name for line in lines for name in line.cells if name not in headers)
    return CsvTable((*headers, *opened), tuple(lines))


def _opened(cells: Mapping[str, str]) -> dict[str, str]:
    """Return the cells with those that hold a mapping taken apart: ``config`` as Weights & Biases' API gives it.

    >>> _opened({"name": "a", "config": "{'lr': 0.1, 'model': {'depth': 18}}"})
    {'name': 'a', 'config.lr': '0.1', 'config.model.depth': '18'}
    """
    out: dict[str, str] = {}
    for name, cell in cells.items():
        found = _mapping(cell)
        out |= {name: cell} if found is None else {f"{name}.{key}": value for key, value in _flat(found)}
    return out


def _mapping(cell: str) -> Mapping[object, object] | None:
    """Return what a cell holds as Python or as JSON writes a mapping; None for what is none."""
    if not (cell.startswith("{") and cell.endswith("}")):
        return None
    # Neither knows what is not a number; as a word it is read for what it is.
    text = re.sub(r"(?<![\w'\"])(-?)(nan|NaN|inf|Infinity)(?![\w'\"])", r"'\1\2'", cell)
    for read_as in (ast.literal_eval, json.loads):
        try:
            found = read_as(text if read_as is ast.literal_eval else cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, dict) else None
    return None


def _flat(found: Mapping[object, object]) -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        if isinstance(value, dict) and set(value) == {"desc", "value"}:
            yield str(key), str(value["value"])  # as the API writes a configuration down
        elif isinstance(value, dict):
            yield from ((f"{key}.{inner}", said) for inner, said in _flat(value))
        else:
            yield str(key), str(value)


def _with_points(cell: str) -> str:
    return cell.replace(",", ".") if re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", cell) else cell


def _is_word(name: str, cell: str) -> bool:
    """Whether ``none`` is the name of a schedule, and so says that there is none."""
    return cell.lower() == "none" and "sched" in name.lower()

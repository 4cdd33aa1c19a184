"""Pictures in a table: a line for each, with its file and its label."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path, PureWindowsPath
from typing import Final

from lrsearch.errors import StudyFileError, nearest
from lrsearch.pictures.folder import SETS
from lrsearch.pictures.found import Found, Listing, SetName, composed, given_classes, in_order, some
from lrsearch.text import counted, shown

PATHS: Final = ("path", "file", "file_name", "filename", "image")
"""What the column of files may be called, in any case of letters."""
LABELS: Final = ("label", "class", "category")
SPLITS: Final = ("split", "set", "subset")
PARENT: Final = "parent"
"""The group of pictures that lie in one folder, where the table has no column of that name."""


@dataclass(frozen=True, slots=True)
class _Columns:
    path: int
    label: int
    split: int | None
    group: int | None


def listing(path: str, where: Path | None, *, group: str | None, classes: str | None) -> Listing:
    """Return the pictures of ``csv:FILE``.

    Args:
        path: that FILE.
        where: the table here, or a folder that holds one of its name, or else the folder to which its file names are
            relative; None: the table lies where ``path`` says, and its files beside it.
        group: a column of the table, or ``parent``, or None.
        classes: the file that names the classes, or None.

    Raises:
        StudyFileError: no such table, no such column, a line that says nothing, files that are not there, one class
            only, or classes that only a set besides train has; line and column are named.
    """
    table, root = _places(Path(path).expanduser().absolute(), where)
    what = f"the table {shown(str(table))}"
    found: list[Found] = []
    missing: list[str] = []
    for line, picture in _read(table, root, what, group):
        found.append(picture)
        if not picture.path.is_file():
            missing.append(f"line {line}: {picture.name}")
    if missing:
        raise StudyFileError(
            f"dataset.name: the files of {what} must lie in {shown(str(root))}, and {counted(len(missing), 'file')} "
            f"{'does' if len(missing) == 1 else 'do'} not: {some(missing)}; name the folder to which they are "
            f"relative with --data-dir"
        )
    order = in_order(found, given_classes(classes, root), what)
    return Listing(root, tuple(sorted(found, key=attrgetter("name", "label"))), order)


def _places(table: Path, where: Path | None) -> tuple[Path, Path]:
    """Return the table, and the folder to which its file names are relative."""
    root = table.parent
    if where is not None:
        there = where.expanduser().absolute()
        if there.is_dir():
            table, root = (there / table.name if (there / table.name).is_file() else table), there
        else:
            table, root = there, there.parent
    if not table.is_file():
        is_folder = f"{shown(str(table))} is a folder" if table.is_dir() else f"there is no file {shown(str(table))}"
        raise StudyFileError(f"dataset.name: csv:FILE must name a table of files and labels, and {is_folder}")
    return table, root


def _read(table: Path, root: Path, what: str, group: str | None) -> Iterator[tuple[int, Found]]:
    """Yield the lines: the number of each, and its picture."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, None)
            if header is None:
                raise StudyFileError(f"dataset.name: {what} must have a line of column names, and is empty")
            columns = _columns(header, what, group)
            for cells in rows:
                if cells:
                    yield rows.line_num, _picture(cells, header, columns, root, f"{what}, line {rows.line_num}", group)
    except UnicodeDecodeError as error:
        raise StudyFileError(f"dataset.name: {what} must be a text file in UTF-8, and is not: {error.reason}") from None
    except csv.Error as error:
        raise StudyFileError(f"dataset.name: {what}, line {rows.line_num}: no line of a table: {error}") from None
    except OSError as error:
        raise StudyFileError(f"dataset.name: {what} cannot be read: {error.strerror}") from None


def _columns(header: Sequence[str], what: str, group: str | None) -> _Columns:
    names = [name.strip().lower() for name in header]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise StudyFileError(f"dataset.name: {what}, line 1: the column '{shown(twice[0])}' must be there once")
    path, label, split = (
        next((names.index(n) for n in known if n in names), None) for known in (PATHS, LABELS, SPLITS)
    )
    for column, known, holds in ((path, PATHS, "files"), (label, LABELS, "labels")):
        if column is None:
            raise StudyFileError(
                f"dataset.name: {what}, line 1: there must be a column of {holds}, called {' or '.join(known)}, "
                f"got {some([name.strip() for name in header])}"
            )
    assert path is not None
    assert label is not None
    by = None
    if group is not None and group.strip().lower() in names:
        by = names.index(group.strip().lower())
    elif group not in (None, PARENT):
        raise StudyFileError(
            f"dataset.group: {what} has no column '{shown(group or '')}'{nearest(group or '', names)}; "
            f"it has {some(names)}"
        )
    return _Columns(path, label, split, by)


def _picture(
    cells: Sequence[str], header: Sequence[str], columns: _Columns, root: Path, place: str, group: str | None
) -> Found:
    if len(cells) != len(header):
        raise StudyFileError(
            f"dataset.name: {place}: must have {counted(len(header), 'cell')} as the first line has, got {len(cells)}"
        )

    def cell(column: int) -> str:
        return cells[column].strip()

    for column in (columns.path, columns.label):
        if not cell(column):
            raise StudyFileError(f"dataset.name: {place}, column '{shown(header[column].strip())}': must not be empty")
    of: SetName | None = None
    if columns.split is not None and cell(columns.split):
        word = cell(columns.split).lower()
        if word not in SETS:
            raise StudyFileError(
                f"dataset.name: {place}, column '{shown(header[columns.split].strip())}': must be one of "
                f"{', '.join(SETS)}, or empty, got '{shown(cell(columns.split))}'{nearest(word, SETS)}"
            )
        of = SETS[word]
    path = root / cell(columns.path)
    if "\\" in cell(columns.path) and not path.exists():
        path = root / PureWindowsPath(cell(columns.path))  # a table that was written on Windows
    relative = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    folder = path.parent.as_posix() if group == PARENT else ""
    together = folder if columns.group is None else cell(columns.group)
    return Found(composed(relative), path, composed(cell(columns.label)), of, composed(together))

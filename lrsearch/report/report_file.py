"""A report in a file: never in the place of something that is no report."""

from collections.abc import Iterable
from pathlib import Path

from lrsearch.errors import UsageError
from lrsearch.report.text_file import check_folder

HEAD = 2000
"""Bytes in which a report says that it is one."""
MARKS = (
    *(f'<meta name="generator" content="lrsearch {verb}'.encode() for verb in ("report", "compare")),
    b"<!-- lrsearch report",
    b'"schema": "lrsearch/report/',
    b"Software\x00lrsearch report",
)
"""What stands there in HTML, in Markdown and SVG, in JSON, in PNG."""


def check(path: Path, *, force: bool) -> None:
    """Make sure that a report may be written there.

    Raises:
        UsageError: there is no such folder, or something stands there that is no report and ``force`` was not given.
    """
    check_folder(path)
    if path.exists() and not force and not _is_report(path):
        raise UsageError(f"{path} exists and is no report of lrsearch: name another file with -o, or add --force")


def check_all(folder: Path, names: Iterable[str], *, force: bool) -> None:
    """Make sure that files of a report may be written into a folder, which need not be there yet.

    Raises:
        UsageError: as ``check``, or it is no folder.
    """
    if folder.is_dir():
        for name in names:
            check(folder / name, force=force)
    elif folder.exists():
        raise UsageError(f"{folder} is no folder, and every chart is a file of its own: name a folder with -o")
    elif not folder.parent.is_dir():
        raise UsageError(f"{folder} cannot be made: there is no folder {folder.parent}")


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UsageError(f"{path} exists and cannot be read: {error.strerror}") from error
    # An empty file holds nothing that could be lost: mktemp makes one.
    return not head or any(mark in head for mark in MARKS)

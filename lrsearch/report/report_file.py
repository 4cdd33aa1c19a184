"""A report in a file: never in the place of something that is no report."""

from pathlib import Path

from lrsearch.errors import UsageError
from lrsearch.report.text_file import check_folder

HEAD = 2000
"""Bytes in which a report says that it is one."""
MARKS = (b'<meta name="generator" content="lrsearch report', b"<!-- lrsearch report", b'"schema": "lrsearch/report/')
"""What stands there in HTML, Markdown and JSON."""


def check(path: Path, *, force: bool) -> None:
    """Make sure that a report may be written there.

    Raises:
        UsageError: there is no such folder, or something stands there that is no report and ``force`` was not given.
    """
    check_folder(path)
    if path.exists() and not force and not _is_report(path):
        raise UsageError(f"{path} exists and is no report of lrsearch: name another file with -o, or add --force")


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UsageError(f"{path} exists and cannot be read: {error.strerror}") from error
    # An empty file holds nothing that could be lost: mktemp makes one.
    return not head or any(mark in head for mark in MARKS)

"""A report in a file: whole or not at all, and never in the place of something that is no report."""

import os
from contextlib import suppress
from pathlib import Path

from lrsearch.errors import LrsearchError, UsageError

HEAD = 2000
"""Bytes in which a report says that it is one."""
MARKS = (b'<meta name="generator" content="lrsearch report', b"<!-- lrsearch report", b'"schema": "lrsearch/report/')
"""What stands there in HTML, Markdown and JSON."""


def check(path: Path, *, force: bool) -> None:
    """Make sure that a report may be written there.

    Raises:
        UsageError: there is no such folder, or something stands there that is no report and ``force`` was not given.
    """
    if not path.parent.is_dir():
        raise UsageError(f"the report cannot be written to {path}: there is no folder {path.parent}")
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"the report cannot be written to {path}: that is no file")
    if not force and not _is_report(path):
        raise UsageError(f"{path} exists and is no report of lrsearch: name another file with -o, or add --force")


def write(path: Path, text: str) -> None:
    """Write the report; whoever reads the file meanwhile finds the old one or the new one.

    Raises:
        LrsearchError: the file cannot be written.
    """
    path = path.resolve()  # A link stays a link.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, "utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise LrsearchError(f"the report cannot be written to {path}: {error.strerror}") from error


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise UsageError(f"{path} exists and cannot be read: {error.strerror}") from error
    # An empty file holds nothing that could be lost: mktemp makes one.
    return not head or any(mark in head for mark in MARKS)

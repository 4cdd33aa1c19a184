"""A text, or what else a file holds: written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from lrsearch.errors import UsageError

STDOUT = "-"
"""What is typed for a file where stdout is meant."""


def file_or_stdout(named: str | None) -> Path | None:
    """Return the file that somebody names for what is written; None: it goes to stdout.

    >>> [str(file_or_stdout(named)) for named in ("a.csv", "-", None)]
    ['a.csv', 'None', 'None']

    Raises:
        UsageError: the name is empty.
    """
    if named == "":
        raise UsageError(f"-o takes the name of a file, or {STDOUT} for stdout")
    return None if named in (None, STDOUT) else Path(str(named))


def named_path(named: str | None) -> Path | None:
    """Return the file or folder that somebody names for what is too large, or too many files, for stdout.

    Raises:
        UsageError: the name is empty, or stands for stdout.
    """
    if named in ("", STDOUT):
        raise UsageError(f"-o takes the name of a file or folder here, got {named!r}")
    return None if named is None else Path(named)


def check_free(path: Path, *, force: bool) -> None:
    """Make sure that a file may be written there; ``force`` allows one that is there already.

    Raises:
        UsageError: it may not.
    """
    check_folder(path)
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; name another file, or overwrite it with --force")


def check_folder(path: Path) -> None:
    """Make sure that there is a folder for the file, and that nothing but a file is in its place.

    Raises:
        UsageError: there is none, or something is.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        what = "a folder; name a file in it" if path.is_dir() else "no file; name another"
        raise UsageError(f"{path} is {what}")


def write(path: Path, text: str) -> None:
    """Write a text; a reader of the file finds what was there before, or all of what is new.

    Raises:
        UsageError: the file cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as ``write`` does."""
    whole = path.resolve()  # A link stays a link.
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(whole)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None

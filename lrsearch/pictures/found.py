"""What a data set of a person's own consists of, before anything is decoded: files, labels, sets, groups."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrsearch.errors import StudyFileError, nearest
from lrsearch.text import counted, shown

SetName = Literal["train", "validation", "test"]

FIRST = 10
"""Of many, so many are named."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture that is named somewhere."""

    name: str
    """Relative, with ``/``, in Unicode's composed form: the same on every machine."""
    path: Path
    """Where it lies here; nowhere for a picture of a function."""
    label: str
    """The name of its class."""
    of: SetName | None = None
    """The set to which it belongs by where it lies; None where it may be drawn for any."""
    group: str = ""
    """What stays together; empty: it stands for itself."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All pictures of a data set."""

    root: Path
    """The folder to which their names are relative."""
    pictures: tuple[Found, ...]
    """In the order of their names: file systems list them in orders of their own."""
    classes: tuple[str, ...]
    """Names, by label."""
    warnings: tuple[str, ...] = ()
    """What was passed over, in sentences."""


def composed(text: str) -> str:
    """Return the text in Unicode's composed form: macOS stores letters and accents apart."""
    return unicodedata.normalize("NFC", text)


def some(names: Sequence[str], n: int = FIRST) -> str:
    """Return the first of some names for a sentence, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - n:,} more" if len(names) > n else ""
    return ", ".join(shown(name) for name in names[:n]) + more


def in_order(found: Sequence[Found], given: Sequence[str] | None, what: str) -> tuple[str, ...]:
    """Return the classes, by label: the order of text as torchvision has it, or the order that a person gave.

    Args:
        found: all pictures.
        given: the classes of ``dataset.classes``; None where there is none.
        what: the data, in words.

    Raises:
        StudyFileError: one class or none, a class of another set than train that train does not have, or classes that
            were given and are others.
    """
    for name in sorted({one.label for one in found}):
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # what Python makes of bytes that are no text
            raise StudyFileError(
                f"dataset.name: the names of classes must be text in UTF-8, and '{shown(name)}' of {what} is none: "
                f"rename it"
            )
    own = {one.label for one in found if one.of in (None, "train")}
    classes = sorted(own) if given is None else list(given)
    for of in ("validation", "test"):
        if strange := sorted({one.label for one in found if one.of == of} - own):
            raise StudyFileError(
                f"dataset.name: the {of} pictures of {what} must have the classes of the training pictures, and "
                f"{counted(len(strange), 'class', 'classes')} there {'is' if len(strange) == 1 else 'are'} not among "
                f"them: {some(strange)}{nearest(strange[0], classes)}; rename the folder, or add training pictures"
            )
    if strange := sorted(own - set(classes)):
        raise StudyFileError(
            f"dataset.classes: must name every class, and {some(strange)} of {what} "
            f"{'is' if len(strange) == 1 else 'are'} missing{nearest(strange[0], classes)}"
        )
    if lacking := [name for name in classes if name not in own]:
        raise StudyFileError(
            f"dataset.classes: every class must have a training picture, and {some(lacking)} "
            f"{'has' if len(lacking) == 1 else 'have'} none in {what}{nearest(lacking[0], sorted(own))}"
        )
    if len(classes) < 2:
        only = f"one class, '{shown(classes[0])}'" if classes else "none"
        raise StudyFileError(
            f"dataset.name: {what} must have two classes or more, got {only}: there is nothing to tell apart"
        )
    return tuple(classes)


def no_twins(names: Sequence[str], what: str) -> None:
    """Refuse names that look the same and are written in two ways.

    Raises:
        StudyFileError: naming them.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(composed(name), name)
        if other != name:
            raise StudyFileError(
                f"dataset.name: {what} holds '{shown(name)}' twice, with its accents written in two ways "
                f"({_written(other)} and {_written(name)}): rename or merge them"
            )


def _written(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode("ascii")


def given_classes(name: str | None, folder: Path) -> tuple[str, ...] | None:
    """Return the classes that a text file names, one a line; None where no file is given.

    Args:
        name: of the file, as ``dataset.classes`` has it: from here, or from the folder of the data.
        folder: of the data.

    Raises:
        StudyFileError: no such file, not UTF-8, empty, or a class that is named twice.
    """
    if name is None:
        return None
    path = next((one for one in (Path(name).expanduser(), folder / name) if one.is_file()), None)
    if path is None:
        raise StudyFileError(f"dataset.classes: there is no file {shown(name)}, neither here nor in {folder}")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(
            f"dataset.classes: {path} must be a text file in UTF-8, and cannot be read: {error}"
        ) from None
    classes: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        word = composed(line.strip())
        if word and classes.setdefault(word, number) != number:
            raise StudyFileError(
                f"dataset.classes: every class must be named once, and '{shown(word)}' stands in lines "
                f"{classes[word]} and {number} of {path}"
            )
    if not classes:
        raise StudyFileError(f"dataset.classes: {path} must name the classes, one a line, and is empty")
    return tuple(classes)

"""A person's own pictures, found and decoded: what is known of them before they are divided."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NoReturn

import numpy as np

from lrsearch.errors import StudyFileError
from lrsearch.pictures.cache import Stored
from lrsearch.pictures.choice import Chosen
from lrsearch.pictures.decode import Decoding
from lrsearch.pictures.found import FIRST, Found, Listing, some
from lrsearch.pictures.pieces import Reading
from lrsearch.pictures.split import Indices
from lrsearch.pictures.survey import Seen
from lrsearch.spec.study import DatasetSpec
from lrsearch.text import counted, shown

MOST_BAD: Final = 0.05
"""Part of the pictures that may be left out because they cannot be read: more is no accident."""


@dataclass(frozen=True, eq=False)
class Known:
    """All that is known of the pictures before they are divided; those that cannot be read are still among them."""

    listing: Listing
    seen: tuple[Seen, ...]
    """Of each picture; none for those of a function."""
    stored: Stored
    chosen: Chosen

    @property
    def how(self) -> Decoding:
        """What they were brought to, but for the channels, of which ``stored`` may have kept one."""
        return self.chosen.how

    @cached_property
    def bad(self) -> tuple[tuple[str, str], ...]:
        """Name and reason of each picture that cannot be read."""
        pairs = zip(self.listing.pictures, self.stored.readings, strict=True)
        return tuple((found.name, reading.reason) for found, reading in pairs if reading.reason)

    @cached_property
    def good(self) -> tuple[Found, ...]:
        """The others, by row."""
        pairs = zip(self.listing.pictures, self.stored.readings, strict=True)
        return tuple(found for found, reading in pairs if not reading.reason)

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """Of these, by row."""
        return tuple(one for one in self.stored.readings if not one.reason)

    @cached_property
    def labels(self) -> Indices:
        """Of these, by row."""
        number = {name: label for label, name in enumerate(self.listing.classes)}
        return np.array([number[one.label] for one in self.good], dtype=np.int64)

    @cached_property
    def digests(self) -> Indices:
        """Of these, by row: equal pictures have equal numbers."""
        return numbered([one.digest for one in self.readings])


def refuse_bad(known: Known, dataset: DatasetSpec) -> None:
    """Refuse pictures that cannot be read, unless they are few and may be left out.

    Raises:
        StudyFileError: naming the first of them, with the reason.
    """
    bad, n = known.bad, len(known.listing.pictures)
    if not bad:
        return
    if dataset.on_error != "skip":
        refuse(bad, n)
    if len(bad) > MOST_BAD * n:
        refuse(bad, n, f"at most {MOST_BAD:.0%} of them may be left out, and these are {len(bad) / n:.0%}")
    left = {one.label for one in known.good if one.of in (None, "train")}
    if gone := [name for name in known.listing.classes if name not in left]:
        refuse(bad, n, f"no other training picture is of {some(gone)}")


def refuse(bad: Sequence[tuple[str, str]], n: int, why: str = "") -> NoReturn:
    """Refuse these pictures; ``why`` they are not left out.

    Raises:
        StudyFileError: naming the first of them, with the reason.
    """
    first = ", ".join(f"{shown(name)} {shown(reason)}" for name, reason in bad[:FIRST])
    more = f", and {len(bad) - FIRST:,} more" if len(bad) > FIRST else ""
    what = why or 'mend or remove them, or have them left out with dataset.on_error = "skip"'
    raise StudyFileError(f"dataset.name: {len(bad):,} of {counted(n, 'picture')} cannot be read: {first}{more}; {what}")


def numbered(words: Sequence[str]) -> Indices:
    """Return a number for each word ``[n]``; equal words have equal numbers."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)

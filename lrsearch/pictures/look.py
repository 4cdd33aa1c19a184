"""What there is to know of a person's own pictures before anything is trained, in numbers."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lrsearch.errors import StudyFileError
from lrsearch.pictures import notes, own
from lrsearch.pictures.known import Known, refuse_bad
from lrsearch.pictures.split import Indices, Split
from lrsearch.spec.study import DatasetSpec

QUANTILES: Final = (0, 50, 100)
"""Least, median and most."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class, in pictures."""

    name: str
    found: int
    """Files, or images of a function."""
    bad: int
    """Of these, that cannot be read."""
    train: int
    validation: int
    test: int


@dataclass(frozen=True, eq=False, slots=True)
class Overview:
    """What was seen."""

    known: Known
    refused: StudyFileError | None
    """Why these pictures cannot be searched with, as they are."""
    classes: tuple[ClassRow, ...]
    widths: tuple[int, int, int]
    """Of the pictures before they were brought to one size: least, median, most [pixels]."""
    heights: tuple[int, int, int]
    """[pixels]"""
    modes: tuple[tuple[str, int], ...]
    """Pillow's, the most frequent first; none for a function's pictures."""
    n_equal: int
    """Pictures that are equal to another one."""
    of_two_classes: tuple[tuple[str, str], ...]
    """Equal pictures with two labels: the names of two of each."""
    without_validation: tuple[str, ...]
    """Classes."""
    majority: tuple[str, float] | None
    """The class that is most frequent among the validation images, and how often [0..1]."""
    fingerprint: str
    """Empty where there is no split."""
    said: tuple[str, ...]
    """Warnings first, and then what needs no answer."""

    @property
    def place(self) -> Path:
        """The folder of the decoded pictures."""
        return self.known.stored.folder


def look(
    dataset: DatasetSpec, where: Path | None = None, *, cache: Path | None = None, progress: bool = False
) -> Overview:
    """Find and decode the pictures, and draw the three sets as a search would; nothing is trained.

    Args:
        dataset: what the study file says; its ``own`` is not None.
        where: stands in for the path in ``dataset.name``.
        cache: folder for decoded pictures, as of ``own.read``.
        progress: whether a bar is drawn on stderr.

    Raises:
        StudyFileError: nothing can be seen, because there are no pictures or no classes.
        DataError: the cache cannot be used.
    """
    known = own.gather(dataset, where, cache=cache, progress=progress)
    refused: StudyFileError | None = None
    divided: Split | None = None
    try:
        refuse_bad(known, dataset)
        divided = own.divide(known, dataset)
    except StudyFileError as error:
        refused = error
    labels, classes = known.labels, known.listing.classes
    counts = [np.bincount(labels[rows], minlength=len(classes)) for rows in _sets(divided)]
    found = Counter(one.label for one in known.listing.pictures)
    good = Counter(one.label for one in known.good)
    headers = [one.header for one in known.seen if one.header is not None]
    height, width = known.stored.images.shape[2:]
    return Overview(
        known=known,
        refused=refused,
        classes=tuple(
            ClassRow(name, found[name], found[name] - good[name], *(int(one[label]) for one in counts))
            for label, name in enumerate(classes)
        ),
        widths=_quantiles([one.width for one in headers] or [width]),
        heights=_quantiles([one.height for one in headers] or [height]),
        modes=tuple(Counter(one.mode for one in headers).most_common()),
        n_equal=notes.n_equal(known),
        of_two_classes=tuple(notes.of_two_classes(known)),
        without_validation=tuple(name for name, n in zip(classes, counts[1], strict=True) if divided and not n),
        majority=None if divided is None else notes.majority(known, divided),
        fingerprint="" if divided is None else own.fingerprint(known, divided),
        said=(*notes.warnings(known, divided), *notes.remarks(known)),
    )


def _sets(divided: Split | None) -> tuple[Indices, Indices, Indices]:
    none = np.zeros(0, np.int64)
    return (none, none, none) if divided is None else (divided.train, divided.validation, divided.test)


def _quantiles(sizes: list[int]) -> tuple[int, int, int]:
    least, median, most = np.percentile(sizes, QUANTILES, method="nearest")
    return int(least), int(median), int(most)

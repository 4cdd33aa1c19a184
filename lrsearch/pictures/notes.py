"""What a person should know of pictures of their own: what was done to them, what is there twice, what is lacking.

Warnings are of what a person may have to mend; the others need no answer, and tell how the pictures were dealt with.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from lrsearch.pictures.found import some
from lrsearch.pictures.known import Known
from lrsearch.pictures.split import Split
from lrsearch.text import counted, shown


def warnings(known: Known, divided: Split | None) -> Iterator[str]:
    """Yield what a person should mind, in sentences; of the pictures alone where they could not be divided."""
    yield from known.listing.warnings
    yield from known.chosen.warnings
    if torn := [f"{shown(one)} = {shown(other)}" for one, other in of_two_classes(known)]:
        yield f"{counted(len(torn), 'picture')} of two classes at once: {some(torn, 3)}"
    if divided is not None:
        yield from _of_split(known, divided)


def remarks(known: Known) -> Iterator[str]:
    """Yield what was chosen for the pictures and done to them, in sentences that need no answer."""
    yield from known.chosen.said
    done: Counter[str] = Counter()
    for one in known.readings:
        done.update("first of its frames" if "frames" in words else words for words in one.done)
    n = len(known.readings)
    for words, what in (
        ("first of its frames", "{} of several frames, of which the first is taken"),
        ("turned as its EXIF data say", "{} turned upright as their EXIF data say"),
        ("transparent parts made white", "{} with transparent parts, which became white"),
        ("colours made grey", "{} whose colours were made grey"),
    ):
        if done[words]:
            yield what.format(counted(done[words], "picture"))
    if known.stored.images.shape[1] == 3 and (n_grey := n - sum(one.coloured for one in known.readings)):
        yield f"{n_grey:,} of {counted(n, 'picture')} have no colours, and three equal channels here"


def _of_split(known: Known, divided: Split) -> Iterator[str]:
    classes, labels, digests = known.listing.classes, known.labels, known.digests
    if bad := known.bad:
        yield f"left out {counted(len(bad), 'picture')} that cannot be read: {some([name for name, _ in bad], 3)}"
    for rows, what in ((divided.validation, "validation"), (divided.test, "test")):
        if shared := int(np.isin(digests[rows], digests[divided.train]).sum()):
            yield (
                f"{counted(shared, f'{what} image')} equal to training images, as a person put them: that flatters "
                f"the score"
            )
        lacking = np.flatnonzero(np.bincount(labels[rows], minlength=len(classes)) == 0)
        if len(rows) and len(lacking):
            names = some([classes[label] for label in lacking])
            yield f"no {what} images of {counted(len(lacking), 'class', 'classes')}, which count nowhere there: {names}"


def majority(known: Known, divided: Split) -> tuple[str, float]:
    """Return the class of most training images, and how often it is right of the validation images [0..1]."""
    label = int(np.bincount(known.labels[divided.train]).argmax())
    return known.listing.classes[label], float((known.labels[divided.validation] == label).mean())


def n_equal(known: Known) -> int:
    """Return how many pictures are equal to another one, as they were decoded."""
    counts = np.bincount(known.digests)
    return int(counts[counts > 1].sum())


def of_two_classes(known: Known) -> Iterator[tuple[str, str]]:
    """Yield the names of two equal pictures with two labels, for each such picture."""
    n_classes = len(known.listing.classes)
    pairs, first = np.unique(known.digests * n_classes + known.labels, return_index=True)
    for at in np.flatnonzero(np.diff(pairs // n_classes) == 0):
        yield known.good[first[at]].name, known.good[first[at + 1]].name

"""What a person should read of pictures of their own: what was done to them, what is there twice, what is lacking."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from lrsearch.pictures.found import some
from lrsearch.pictures.known import Known
from lrsearch.pictures.split import Split
from lrsearch.text import counted, shown


def skipped(known: Known) -> Iterator[str]:
    """Yield what became of pictures that are not like the others."""
    if bad := known.bad:
        yield f"left out {counted(len(bad), 'picture')} that cannot be read: {some([name for name, _ in bad], 3)}"
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


def of_split(known: Known, divided: Split) -> Iterator[str]:
    """Yield what a person should know of the three sets."""
    classes, labels = known.listing.classes, known.labels
    yield from _equal(known, divided)
    for rows, what in ((divided.validation, "validation"), (divided.test, "test")):
        lacking = np.flatnonzero(np.bincount(labels[rows], minlength=len(classes)) == 0)
        if len(rows) and len(lacking):
            names = some([classes[label] for label in lacking])
            yield f"no {what} images of {counted(len(lacking), 'class', 'classes')}, which count nowhere there: {names}"
    name, score = majority(known, divided)
    yield f"whoever says '{shown(name)}' of every picture is right in {score:.3f} of the validation images"


def majority(known: Known, divided: Split) -> tuple[str, float]:
    """Return the class that is most frequent among the validation images, and how often it is right [0..1]."""
    counts = np.bincount(known.labels[divided.validation])
    return known.listing.classes[int(counts.argmax())], float(counts.max() / counts.sum())


def n_equal(known: Known) -> int:
    """Return how many pictures are equal to another one, as they were decoded."""
    counts = np.bincount(known.digests)
    return int(counts[counts > 1].sum())


def of_two_classes(known: Known) -> Iterator[tuple[str, str]]:
    """Yield the names of two equal pictures with two labels, for each such picture."""
    digests, labels = known.digests, known.labels
    pairs, first = np.unique(np.stack((digests, labels)), axis=1, return_index=True)
    for at in np.flatnonzero(np.diff(pairs[0]) == 0):
        yield known.good[first[at]].name, known.good[first[at + 1]].name


def _equal(known: Known, divided: Split) -> Iterator[str]:
    if not (n := n_equal(known)):
        return
    yield f"{n:,} pictures are equal to another one; equal ones are drawn for one side of the split"
    torn = [f"{shown(one)} = {shown(other)}" for one, other in of_two_classes(known)]
    if torn:
        yield f"{counted(len(torn), 'picture')} of two classes at once: {some(torn, 3)}"
    digests = known.digests
    for rows, what in ((divided.validation, "validation"), (divided.test, "test")):
        if shared := int(np.isin(digests[rows], digests[divided.train]).sum()):
            yield (
                f"{counted(shared, f'{what} image')} equal to training images, as a person put them: that flatters "
                f"the score"
            )

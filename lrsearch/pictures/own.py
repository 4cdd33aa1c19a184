"""Pictures of a person's own, as the images of a study: found, decoded once, divided into three sets."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lrsearch.errors import StudyFileError
from lrsearch.pictures import cache as caching
from lrsearch.pictures import folder, function, notes, table
from lrsearch.pictures.choice import choose
from lrsearch.pictures.decode import Decoding, Pixels
from lrsearch.pictures.found import Listing
from lrsearch.pictures.known import Known, numbered, refuse, refuse_bad
from lrsearch.pictures.split import Fractions, Indices, Split, split, units_of
from lrsearch.pictures.survey import survey
from lrsearch.spec.sources import Code, Pictures
from lrsearch.spec.study import DatasetSpec
from lrsearch.text import shown

TEST_FRACTION: Final = 0.2
"""Where the study file says nothing."""
AT_ONCE: Final = 256
"""Images that are hashed at once."""


@dataclass(frozen=True, eq=False, slots=True)
class OwnImages:
    """The images of a study, of a person's own."""

    images: Pixels
    """uint8 ``[n, c, h, w]``; a read-only memory map of the cache file."""
    labels: Indices
    """int64 ``[n]``, each in 0..n_classes-1."""
    train: Indices
    """Rows, rising."""
    validation: Indices
    test: Indices
    """May be none."""
    classes: tuple[str, ...]
    """Names, by label."""
    names: tuple[str, ...]
    """Of the files, relative and with ``/``, by row; of a function's pictures ``train/0`` and so on."""
    fingerprint: str
    """SHA-256 of the shape, the classes, and of the images and labels of the three sets in their order; no path."""
    warnings: tuple[str, ...]
    """What a person should mind, in sentences."""
    said: tuple[str, ...]
    """What was chosen and done, in sentences that need no answer."""
    how: Decoding
    """What the pictures were brought to: other pictures must be brought to the same."""


def read(
    dataset: DatasetSpec,
    where: Path | None = None,
    *,
    cache: Path | None = None,
    colour: bool = False,
    size: int | None = None,
    progress: bool = False,
) -> OwnImages:
    """Return a person's own images; they are decoded where nobody has done it yet.

    Args and errors are those of ``gather``, and besides them:

    Raises:
        StudyFileError: pictures that cannot be read, or a split that cannot be made; the key is named.
    """
    known = gather(dataset, where, cache=cache, colour=colour, size=size, progress=progress)
    refuse_bad(known, dataset)
    divided = divide(known, dataset)
    return OwnImages(
        images=known.stored.images,
        labels=known.labels,
        train=divided.train,
        validation=divided.validation,
        test=divided.test,
        classes=known.listing.classes,
        names=tuple(one.name for one in known.good),
        fingerprint=fingerprint(known, divided),
        warnings=tuple(notes.warnings(known, divided)),
        said=tuple(notes.remarks(known)),
        how=known.how,
    )


def gather(
    dataset: DatasetSpec,
    where: Path | None = None,
    *,
    cache: Path | None = None,
    colour: bool = False,
    size: int | None = None,
    progress: bool = False,
) -> Known:
    """Find the pictures and decode them where nobody has done it yet, whether or not all can be read.

    Args:
        dataset: what the study file says; its ``own`` is not None.
        where: stands in for the path in ``dataset.name``, which may be mounted elsewhere here: the folder; for a table
            it, a folder that holds one of its name, or the folder to which its file names are relative.
        cache: folder for decoded pictures; None: ``pictures`` in the folder of ``LRSEARCH_CACHE``, or else in
            ``lrsearch`` in the user's cache.
        colour: whether the model's weights want three channels.
        size: height and width that these weights want [pixels]; None: whatever suits the pictures.
        progress: whether a bar is drawn on stderr.

    Raises:
        StudyFileError: what was named is not there or is no data set, or no picture of it can be read; the key is
            named.
        DataError: the cache cannot be used, or a file changes meanwhile.
    """
    at = caching.folder(cache)
    match dataset.own:
        case Code() as code:
            listing, stored, chosen = function.load(
                code, dataset, where, at, colour=colour, size=size, progress=progress
            )
            return Known(listing, (), stored, chosen)
        case Pictures(kind="csv", path=path):
            listing = _found(table.listing, path, where, dataset)
        case Pictures(path=path):
            listing = _found(folder.listing, path, where, dataset)
        case None:
            raise AssertionError(dataset.name)
    paths = [one.path for one in listing.pictures]
    place = hashlib.sha256(str(listing.root).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    seen = survey(paths, at / "seen" / f"{place}.json", progress=progress)
    headers = [one.header for one in seen if one.header is not None]
    if not headers:
        refuse([(found.name, one.reason) for found, one in zip(listing.pictures, seen, strict=True)], len(paths))
    chosen = choose(dataset, headers, colour=colour, size=size)
    stored = caching.of_files(paths, seen, chosen.how, at, any_channels=chosen.any_channels, progress=progress)
    return Known(listing, tuple(seen), stored, chosen)


def divide(known: Known, dataset: DatasetSpec) -> Split:
    """Return the three sets.

    Raises:
        StudyFileError: as ``split``.
    """
    test = TEST_FRACTION if dataset.test_fraction is None else dataset.test_fraction
    # A picture without a group is one of its own, under a name that no group has.
    groups = numbered([one.group or f"\0{row}" for row, one in enumerate(known.good)])
    return split(
        known.labels,
        units_of(groups, known.digests),
        [one.of for one in known.good],
        len(known.listing.classes),
        Fractions(dataset.validation_fraction, test, dataset.limit),
        dataset.split_seed,
    )


def fingerprint(known: Known, divided: Split) -> str:
    """Return the SHA-256 of what is trained on, reading it only where nobody has done so."""
    images, labels, classes = known.stored.images, known.labels, known.listing.classes
    sets = (divided.train, divided.validation, divided.test)
    head = hashlib.sha256(json.dumps([images.shape[1:], classes, [len(rows) for rows in sets]]).encode())
    short = head.copy()
    for rows in sets:
        short.update(rows.astype("<i8").tobytes() + labels[rows].astype("<i8").tobytes())
    kept = known.stored.folder / f"split-{short.hexdigest()[:32]}.txt"
    if kept.exists():
        return kept.read_text("ascii")
    for rows in sets:
        for at in range(0, len(rows), AT_ONCE):
            head.update(images[rows[at : at + AT_ONCE]].data)
        head.update(labels[rows].astype("<i8").tobytes())
    with suppress(OSError):  # it is worked out again next time
        part = kept.with_suffix(f".{os.getpid()}.part")
        part.write_text(head.hexdigest(), "ascii")
        part.replace(kept)
    return head.hexdigest()


def _found(find: Callable[..., Listing], path: str, where: Path | None, dataset: DatasetSpec) -> Listing:
    """Return the pictures where the study names them, or else where they are to lie on this machine.

    A person may have set LRSEARCH_DATA_DIR, for published sets, once and for all: what is named counts where it is.

    Raises:
        StudyFileError: of the place that is named if anything is there, else of the other, and why it was looked at.
    """
    errors = []
    for place in (None,) if where is None else (None, where):
        try:
            return find(path, place, group=dataset.group, classes=dataset.classes)
        except StudyFileError as error:
            errors.append(error)
    if where is None or Path(path).expanduser().exists():
        raise errors[0]
    raise StudyFileError(
        f"{errors[-1]}; it was looked at because {shown(path)}, which the study names, is not on this machine, and "
        f"--data-dir or LRSEARCH_DATA_DIR says {shown(str(where))}"
    )

"""A person's own pictures once more: which of them train, validate and test, and what they were brought to.

The first is what a program of `lrsearch export` reads beside itself. The names are those that the search drew, so that
nothing of the drawing need be repeated: it depends on which pictures are equal when they are decoded.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrsearch.errors import DataError
from lrsearch.pictures import own
from lrsearch.pictures.decode import Decoding
from lrsearch.pictures.known import Known
from lrsearch.spec.sources import Code
from lrsearch.spec.study import StudySpec


@dataclass(frozen=True, slots=True)
class OwnSplit:
    """The pictures of a study, divided."""

    root: str
    """The folder to which their names are relative; empty for those of a function."""
    how: Decoding
    """What they are brought to."""
    names: dict[str, list[str]]
    """Of the pictures of each set, in the order of the search; of a function's pictures ``train/0`` and so on."""
    labels: dict[str, list[int]]
    """Likewise."""

    def document(self, spec: StudySpec) -> dict[str, Any]:
        """Return what stands in the file."""
        sets = {of: {"names": self.names[of], "labels": self.labels[of]} for of in self.names}
        return {"study": spec.name, "classes": list(spec.facts.classes), **sets}


def own_split(spec: StudySpec, where: Path | None, *, progress: bool = False) -> OwnSplit:
    """Return the pictures of a study, read where they lie now.

    Args:
        spec: the study; its data are a person's own.
        where: stands in for the place that the data set names.
        progress: whether decoding shows its progress, where somebody has removed what the search decoded.

    Raises:
        StudyFileError: they cannot be read.
        DataError: they are not those of the search.
    """
    known = _known(spec, where, progress=progress)
    divided = own.divide(known, spec.dataset)
    if own.fingerprint(known, divided) != spec.facts.fingerprint:
        raise DataError(
            f"the pictures of {spec.dataset.name} here are not those that the study '{spec.name}' was filed with, so "
            f"that a program could not train on the same: name their folder with --data-dir"
        )
    rows = {"train": divided.train, "validation": divided.validation, "test": divided.test}
    is_code = isinstance(spec.dataset.own, Code)
    root = known.listing.root
    # As they are written on this disk, which may be in another form of Unicode than their names.
    names = [one.name if is_code else _relative(one.path, root) for one in known.good]
    return OwnSplit(
        "" if is_code else str(root.absolute()),
        _how(spec, known),
        {of: [names[row] for row in rows[of]] for of in rows},
        {of: known.labels[rows[of]].tolist() for of in rows},
    )


def _known(spec: StudySpec, where: Path | None, *, progress: bool) -> Known:
    """Return the pictures as the search read them: what the weights want is seen by what came of it."""
    channels, height, width = spec.facts.shape
    begins = spec.model.starts_from_weights
    size = height if begins and height == width else None
    return own.gather(spec.dataset, where, colour=begins and channels > 1, size=size, progress=progress)


def _how(spec: StudySpec, known: Known) -> Decoding:
    # One channel is kept where no picture has turned out to have colours.
    return replace(known.how, channels=spec.facts.shape[0])


def _relative(path: Path, root: Path) -> str:
    """Return the path from ``root``; of a table's picture that lies elsewhere, the path as it is."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()

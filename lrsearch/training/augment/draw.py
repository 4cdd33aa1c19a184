"""What is drawn for the images of an update: numbers that the seed and the number of the update alone decide.

So a resumed training needs no state of a generator, and trials of one seed and batch size change their images alike.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lrsearch.spec.training import AugmentSpec
from lrsearch.training import draws

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Truths = np.ndarray[Any, np.dtype[np.bool_]]

TRIES: Final = 10
"""Rectangles that are drawn for an image, of which the first that fits is taken."""
PER_RECTANGLE: Final = 2 * TRIES + 2
"""An area and a proportion for each, and a place."""

NUMBERS: Final = {
    "flip": 1,
    "crop": 2,
    "affine": 1,
    "translate": 2,
    "scale": 1,
    "shear": 1,
    "resized_crop": PER_RECTANGLE,
    "brightness": 1,
    "contrast": 1,
    "saturation": 1,
    "trivial": 3,
    "erase": 1 + PER_RECTANGLE,
    "cutmix": 3,
}
"""Numbers that a key draws for an image."""


@dataclass(frozen=True, eq=False, slots=True)
class Draws:
    """Of some images."""

    uniform: dict[str, Floats]
    """In [0, 1), ``[k, n]`` by key, see ``NUMBERS``; of the keys that are on."""
    partner: Integers | None
    """Which of these images each is blended with ``[n]``; None where none is."""
    kept: dict[str, Floats]
    """What part of an image stays, ``[n]`` by key: ``mixup`` and ``cutmix``, where they are on."""


class Source:
    """Where the numbers of a training come from."""

    def __init__(self, spec: AugmentSpec, seed: int) -> None:
        self._seed = seed
        self._keys = [key for key in NUMBERS if getattr(spec, key) is not None]
        self._rows = sum(NUMBERS[key] for key in self._keys)
        alphas = {"mixup": spec.mixup, "cutmix": spec.cutmix}
        self._alphas = {key: alpha for key, alpha in alphas.items() if alpha is not None}

    def at(self, step: int, n: int) -> Draws:
        """Draw for the ``n`` images of update ``step`` (0-based)."""
        source = np.random.Generator(np.random.Philox(key=draws.number(self._seed, "augment", step)))
        rows = source.random((self._rows, n))
        uniform, start = {}, 0
        for key in self._keys:
            uniform[key] = rows[start : start + NUMBERS[key]]
            start += NUMBERS[key]
        if not self._alphas:
            return Draws(uniform, None, {})
        # One cycle through all images: none is blended with itself, and each is some other's partner once.
        cycle = source.permutation(n)
        partner = np.empty(n, np.int64)
        partner[cycle] = np.roll(cycle, 1)
        return Draws(uniform, partner, {key: source.beta(a, a, n) for key, a in self._alphas.items()})


def joined(parts: list[Draws]) -> Draws:
    """Return what was drawn for several updates as if for one: each image stays with its batch."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    uniform = {key: np.concatenate([one.uniform[key] for one in parts], axis=1) for key in first.uniform}
    kept = {key: np.concatenate([one.kept[key] for one in parts]) for key in first.kept}
    if first.partner is None:
        return Draws(uniform, None, kept)
    partners, behind = [], 0
    for one in parts:
        assert one.partner is not None
        partners.append(one.partner + behind)
        behind += len(one.partner)
    return Draws(uniform, np.concatenate(partners), kept)

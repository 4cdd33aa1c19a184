"""What is done to each image, by what was drawn for it: the parameters of every change, one an image."""

from dataclasses import dataclass

import numpy as np

from lrsearch.spec.training import AugmentSpec
from lrsearch.training.augment import mixing, trivial
from lrsearch.training.augment.draw import Draws, Floats, Integers, Truths
from lrsearch.training.augment.geometry import inverse, windows

BLENDS = ("brightness", "contrast", "saturation")
"""Keys of the study file that are a factor, in the order in which they act."""


@dataclass(frozen=True, eq=False, slots=True)
class Parameters:
    """Of n images, in the order in which they act; None where a change is off."""

    factors: dict[str, Floats]
    """Of brightness, contrast and saturation ``[n]``, those that are on."""
    op: Integers | None
    """Of TrivialAugment, a number of ``trivial.OPS`` ``[n]``."""
    strength: Floats | None
    """Its strength ``[n]``."""
    maps: Floats | None
    """Where pixels come from, ``[n, 3, 3]``, see ``geometry.inverse``."""
    moved: Truths | None
    """Whether they come from elsewhere ``[n]``: other images are left alone."""
    cut: Integers | None
    """What is brought to the whole size: top, left, height, width ``[n, 4]`` [pixels]."""
    shift: Integers | None
    """Where in its frame an image is cut out: row and column ``[2, n]`` [pixels]."""
    flip: Truths | None
    """Whether it is mirrored ``[n]``."""
    erased: Integers | None
    """The rectangle that is erased ``[n, 4]``, of no area where none is."""
    partner: Integers | None
    """The image that it is blended with ``[n]``."""
    share: Floats | None
    """What part of each pixel stays ``[n]``: 1 where it shows its partner in a rectangle."""
    patch: Integers | None
    """This rectangle ``[n, 4]``, of no area where it is blended."""
    kept: Floats | None
    """What its label counts ``[n]``, its partner's the rest."""


def parameters(spec: AugmentSpec, drawn: Draws, height: int, width: int) -> Parameters:
    """Return what is done to images of that size [pixels]."""
    uniform = drawn.uniform
    op, strength = trivial.choose(uniform["trivial"]) if "trivial" in uniform else (None, None)
    maps, moved = _maps(spec, uniform, height, width)
    if op is not None and strength is not None:
        bent, which = trivial.maps(op, strength, height, width), trivial.moves(op)
        maps, moved = (bent, which) if maps is None or moved is None else (maps @ bent, moved | which)
    frame = spec.crop
    share, patch, kept = _blend(drawn, height, width)
    return Parameters(
        factors={key: _factor(uniform[key][0], getattr(spec, key)) for key in BLENDS if key in uniform},
        op=op,
        strength=strength,
        maps=maps,
        moved=moved,
        cut=windows(uniform["resized_crop"], spec.resized_crop, height, width) if spec.resized_crop else None,
        shift=np.floor(uniform["crop"] * (2 * frame + 1)).astype(np.int64) if frame else None,
        flip=uniform["flip"][0] < 0.5 if spec.flip else None,
        erased=mixing.erasures(uniform["erase"], spec.erase, height, width) if spec.erase else None,
        partner=drawn.partner,
        share=share,
        patch=patch,
        kept=kept,
    )


def _factor(uniform: Floats, most: float) -> Floats:
    """Return factors from ``1 - most`` to ``1 + most``."""
    return 1 + most * (2 * uniform - 1)


def _maps(
    spec: AugmentSpec, uniform: dict[str, Floats], height: int, width: int
) -> tuple[Floats | None, Truths | None]:
    """Return where pixels come from by rotation, shift, scaling and shear; None where none of them is on."""
    keys = [key for key in ("affine", "translate", "scale", "shear") if key in uniform]
    if not keys:
        return None, None
    none = np.zeros(uniform[keys[0]].shape[1])

    def signed(key: str, most: float, row: int = 0) -> Floats:
        return most * (2 * uniform[key][row] - 1) if key in uniform else none

    part = spec.translate or 0.0
    shifts = signed("translate", part * width), signed("translate", part * height, 1)
    shear = signed("shear", spec.shear or 0.0), none
    maps = inverse(signed("affine", spec.affine or 0.0), shifts, 1 + signed("scale", spec.scale or 0.0), shear)
    return maps, np.ones(len(none), bool)


def _blend(drawn: Draws, height: int, width: int) -> tuple[Floats | None, Integers | None, Floats | None]:
    """Return what part of its pixels an image keeps, in which rectangle it shows its partner, what its label counts."""
    by_mixup, by_cutmix = drawn.kept.get("mixup"), drawn.kept.get("cutmix")
    if by_cutmix is None:
        return by_mixup, None, by_mixup
    which, *middle = drawn.uniform["cutmix"]
    patch = mixing.patches(np.stack(middle), by_cutmix, height, width)
    kept = mixing.kept_of(patch, height, width)
    if by_mixup is None:
        return None, patch, kept
    is_cut = which < 0.5
    return np.where(is_cut, 1.0, by_mixup), np.where(is_cut[:, None], patch, 0), np.where(is_cut, kept, by_mixup)

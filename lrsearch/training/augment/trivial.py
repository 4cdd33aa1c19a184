"""TrivialAugmentWide: one of fourteen changes for each image, of one of 31 strengths.

Source: Mueller and Hutter, TrivialAugment, 2021, arXiv:2103.10158, table 1 (wide); strengths and names are those of
torchvision's ``TrivialAugmentWide``. Between pixels is read bilinearly, and what comes from outside is the mean.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch

from lrsearch.training.augment import colour
from lrsearch.training.augment.draw import Floats, Integers
from lrsearch.training.augment.geometry import inverse

STRENGTHS: Final = 31
OPS: Final = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "saturation", "contrast", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize"),
)
SIGNED: Final = slice(OPS.index("shear_x"), OPS.index("sharpness") + 1)
"""Ops whose strength has a sign."""
MOVING: Final = slice(OPS.index("shear_x"), OPS.index("rotate") + 1)
"""Ops that move pixels."""

Recolour = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

RECOLOURING: Final[Mapping[str, Recolour]] = {
    "brightness": lambda images, strength: colour.brightened(images, 1 + strength),
    "saturation": lambda images, strength: colour.saturated(images, 1 + strength),
    "contrast": lambda images, strength: colour.contrasted(images, 1 + strength),
    "sharpness": lambda images, strength: colour.sharpened(images, 1 + strength),
    "posterize": colour.posterized,
    "solarize": lambda images, strength: colour.solarized(images, colour.BRIGHTEST * strength),
    "autocontrast": lambda images, _: colour.stretched(images),
    "equalize": lambda images, _: colour.equalized(images),
}
"""The other ops, by name: of images on the scale 0..255 and their strengths ``[n]``."""


def _strengths() -> Floats:
    """Return the strengths of each op, ``[14, 31]``; 0 where it has none."""
    out = np.zeros((len(OPS), STRENGTHS))
    upto = {"translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0}
    for number in range(len(OPS))[SIGNED]:
        out[number] = np.linspace(0.0, upto.get(OPS[number], 0.99), STRENGTHS)
    out[OPS.index("posterize")] = np.rint(8 - np.arange(STRENGTHS) / ((STRENGTHS - 1) / 6))
    out[OPS.index("solarize")] = np.linspace(1.0, 0.0, STRENGTHS)
    return out


_TABLE: Final = _strengths()


def choose(uniform: Floats) -> tuple[Integers, Floats]:
    """Return the op of each image ``[n]`` and its strength, by three numbers for each ``[3, n]``."""
    op = np.floor(uniform[0] * len(OPS)).astype(np.int64)
    strength = _TABLE[op, np.floor(uniform[1] * STRENGTHS).astype(np.int64)]
    minus = (uniform[2] < 0.5) & (op >= SIGNED.start) & (op < SIGNED.stop)
    return op, np.where(minus, -strength, strength)


def moves(op: Integers) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether each op moves pixels."""
    return (op >= MOVING.start) & (op < MOVING.stop)


def maps(op: Integers, strength: Floats, height: int, width: int) -> Floats:
    """Return where pixels come from, ``[n, 3, 3]``, see ``geometry.inverse``; from where they are for other ops."""
    none = np.zeros(len(op))

    def of(name: str, values: Floats) -> Floats:
        return np.where(op == OPS.index(name), values, 0.0)

    bent = np.degrees(np.arctan(np.where(moves(op), strength, 0.0)))
    shifts = of("translate_x", np.trunc(strength)), of("translate_y", np.trunc(strength))
    turned = inverse(of("rotate", -strength), shifts, none + 1, (none, none))
    # A shear leaves the upper left corner where it is, as Pillow's does.
    corner = -width / 2, -height / 2
    sheared = inverse(none, (none, none), none + 1, (of("shear_x", bent), of("shear_y", bent)), corner)
    return turned @ sheared

"""What pictures are brought to where the study file leaves it open: size, channels, how they are resized."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lrsearch.pictures.decode import DEEPEST, GREY_MODES, Decoding, Header, Resize, is_deep
from lrsearch.spec.study import DatasetSpec
from lrsearch.text import counted

LARGEST_DEFAULT: Final = 224
"""Height and width up to which the pictures' own size is taken [pixels]: what most published weights were made with."""
WIDE_SPREAD: Final = 1.5
"""Between the proportions of the narrowest and the widest pictures: above it they would be squashed too differently."""
TAILS: Final = (5, 95)
"""Percentiles between which the proportions of nine pictures in ten lie: one odd picture decides nothing."""
TWELVE_BITS: Final = 4095


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen."""

    how: Decoding
    any_channels: bool
    """Whether one channel is kept where no picture turns out to have colours."""
    said: tuple[str, ...]
    """Why, in sentences that need no answer."""
    warnings: tuple[str, ...]
    """The same of what a person should check."""


def choose(dataset: DatasetSpec, headers: Sequence[Header], *, colour: bool, size: int | None) -> Chosen:
    """Return what pictures with these headers are brought to.

    Args:
        dataset: what the study file says.
        headers: of the pictures that have one.
        colour: whether the model's weights want three channels.
        size: height and width that the weights want [pixels], or None.
    """
    said: list[str] = []
    side = dataset.image_size or size
    if side is None:
        median = round(float(np.median([min(one.width, one.height) for one in headers])))
        side = max(1, min(median, LARGEST_DEFAULT))
        why = f"the median short side is {median}" + (f", and {LARGEST_DEFAULT} the most by default" * (median > side))
        said.append(f"images are {side}x{side} pixels (dataset.image_size): {why}")
    resize = _resize(dataset, headers, said)
    channels, any_channels = _channels(dataset, headers, colour=colour)
    warnings: list[str] = []
    darkest, brightest = _range(headers, warnings)
    how = Decoding(side, side, channels, resize, darkest, brightest)
    return Chosen(how, any_channels, tuple(said), tuple(warnings))


def _resize(dataset: DatasetSpec, headers: Sequence[Header], said: list[str]) -> Resize:
    if dataset.resize is not None and dataset.resize != "auto":
        return dataset.resize
    low, high = np.percentile([one.width / one.height for one in headers], TAILS)
    if high / low <= WIDE_SPREAD:
        return "squash"
    said.append(
        f"pictures are kept in proportion and framed in the colour of their edge (dataset.resize = pad): in nine of "
        f"ten the width is {low:.2f} to {high:.2f} of the height"
    )
    return "pad"


def _channels(dataset: DatasetSpec, headers: Sequence[Header], *, colour: bool) -> tuple[int, bool]:
    if dataset.channels is not None:
        return dataset.channels, False
    if colour:
        return 3, False
    if all(one.mode in GREY_MODES or is_deep(one.mode) for one in headers):
        return 1, False
    return 3, True


def _range(headers: Sequence[Header], warnings: list[str]) -> tuple[int, int]:
    deep = [one for one in headers if is_deep(one.mode)]
    if not deep:
        return 0, DEEPEST
    low, high = min(one.darkest for one in deep), max(one.brightest for one in deep)
    bits = ", as a camera of 12 bits has it" if 255 < high <= TWELVE_BITS else ""
    warnings.append(
        f"{counted(len(deep), 'picture')} of 16 bits: {low:,} becomes black and {high:,} white, the range of "
        f"all of them{bits}"
    )
    return low, high

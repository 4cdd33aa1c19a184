"""What the pixels of an image become where they are: brighter, inverted, of less contrast; of each image by its factor.

Images are float32 ``[n, c, h, w]`` on the scale 0..255, grey or of three colours, and are changed in place. The
formulas are those of ``torchvision.transforms.v2.functional``, which has one factor for all images.
"""

from typing import Final

import torch
from torch.nn import functional

GREY: Final = (0.2989, 0.587, 0.114)
"""What red, green and blue count in the brightness of a pixel. Source: ITU-R BT.601, as torchvision rounds it."""
BRIGHTEST: Final = 255.0
LEVELS: Final = 256


def brightened(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images between black (0), themselves (1) and brighter; ``factor`` ``[n]``."""
    return images.mul_(_each(factor)).clamp_(0, BRIGHTEST)


def contrasted(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images between their mean grey (0), themselves (1) and more contrast."""
    return _blended(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def saturated(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images between their grey (0), themselves (1) and stronger colours; grey ones as they are."""
    return images if images.shape[1] == 1 else _blended(images, grey(images), factor)


def sharpened(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images between blurred (0), themselves (1) and sharper; what has no neighbours stays."""
    if min(images.shape[2:]) < 3:
        return images
    inside = images[:, :, 1:-1, 1:-1]
    # Each of the nine pixels counts 1 of 13, and the middle one 4 more.
    blurred = functional.avg_pool2d(images, 3, 1).mul_(9 / 13).add_(inside, alpha=4 / 13)
    _blended(inside, blurred, factor)
    return images


def posterized(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Return images of which the highest ``bits`` of each byte are kept; 0..8, ``[n]``."""
    step = _each(torch.exp2(8 - bits))
    return images.div_(step).floor_().mul_(step)


def solarized(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Return images whose values from ``threshold`` on are inverted; 0..255, ``[n]``."""
    return torch.where(images >= _each(threshold), BRIGHTEST - images, images)


def stretched(images: torch.Tensor) -> torch.Tensor:
    """Return images of which each channel goes from black to white; one of a single value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    factor = BRIGHTEST / torch.where(flat, BRIGHTEST, high - low)
    return images.sub_(torch.where(flat, 0.0, low)).mul_(factor).clamp_(0, BRIGHTEST)


def equalized(images: torch.Tensor) -> torch.Tensor:
    """Return images of which each channel has its values as evenly as they can be, as bytes.

    The first value with so many pixels below it becomes the part that they are, of all but the last value's; a channel
    with fewer of these than there are steps stays. Source: Pillow's ``ImageOps.equalize``.
    """
    bytes_of = images.round().flatten(2).long()
    counts = images.new_zeros((*bytes_of.shape[:2], LEVELS), dtype=torch.int64)
    counts.scatter_add_(2, bytes_of, torch.ones_like(bytes_of))
    up_to = counts.cumsum(2)
    last = up_to.argmax(2, keepdim=True)  # the first that has all: the highest value there is
    step = (bytes_of.shape[2] - counts.gather(2, last)).div(LEVELS - 1, rounding_mode="floor")
    below = functional.pad(up_to[..., :-1], (1, 0))
    becomes = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(0, LEVELS - 1)
    becomes[..., 0] = 0
    found = torch.where(step > 0, becomes.gather(2, bytes_of), bytes_of)
    return images.copy_(found.view(images.shape))


def grey(images: torch.Tensor) -> torch.Tensor:
    """Return the brightness of each pixel ``[n, 1, h, w]``."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def _blended(images: torch.Tensor, others: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return ``factor`` of the images and what is left of the others."""
    share = _each(factor)
    return images.mul_(share).add_(others * (1 - share)).clamp_(0, BRIGHTEST)


def _each(factor: torch.Tensor) -> torch.Tensor:
    """Return a factor for each image so that it acts upon all its pixels."""
    return factor.view(-1, 1, 1, 1)

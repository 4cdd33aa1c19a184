"""Where the pixels of an image go: mirrored, shifted, and moved by an affine map; each image of a batch by its own.

Images are normalised, so that what comes from outside is 0: the mean of the training images. A map leads from the place
of a pixel in the result to that in the image, both counted from the middle of the image [pixels].
"""

from typing import Final

import numpy as np
import torch
from torch.nn import functional

from lrsearch.training.augment.draw import TRIES, Floats, Integers

PROPORTIONS: Final = (3 / 4, 4 / 3)
"""Width over height of what is cut out, at least and at most. Source: Szegedy et al., 2014, section 6."""


def mirrored(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Return images ``[n, c, h, w]``, those of ``which`` (int64 ``[k]``) left to right; changes them in place."""
    return images.index_copy_(0, which, images.index_select(0, which).flip(3))


class Framing:
    """Frames of zeros around images, out of which images of the same size are cut."""

    def __init__(self, width: int) -> None:
        self._width = width
        """[pixels]"""
        self._room = torch.empty(0)  # framed images: what is outside stays 0, and the memory is asked for once

    def cut(self, images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return of each image ``[n, c, h, w]``, float32, what lies in its frame from that row and column on.

        ``rows`` and ``columns`` are int64 ``[n]``, 0..2 * width.
        """
        n, c, h, w = images.shape
        frame, tall, wide = self._width, h + 2 * self._width, w + 2 * self._width
        if len(self._room) < n or self._room.shape[1:] != (c, tall, wide):
            self._room = images.new_zeros(n, c, tall, wide)
        self._room[:n, :, frame : frame + h, frame : frame + w] = images
        # Each row of the result is a piece of the memory of the framed images: twice as fast as taking windows.
        pieces = self._room.view(-1).as_strided((n * c * tall * wide - w + 1, w), (1, 1))
        planes = torch.arange(n * c, device=images.device).view(n, c, 1) * (tall * wide)
        lines = (torch.arange(h, device=images.device) + rows[:, None]) * wide + columns[:, None]
        return pieces.index_select(0, (planes + lines[:, None]).view(-1)).view(n, c, h, w)


def inverse(
    angle: Floats,
    translate: tuple[Floats, Floats],
    scale: Floats,
    shear: tuple[Floats, Floats],
    centre: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """Return the maps ``[n, 3, 3]`` that undo a shear, a scaling, a rotation and a shift, in this order.

    All are those of torchvision's ``affine``: that of a place p is ``T C R S Sy Sx C^-1 p``.

    Args:
        angle: clockwise [degrees].
        translate: to the right, and down [pixels].
        scale: above 0.
        shear: along the rows, and along the columns [degrees].
        centre: what stays where it is in rotation and shear, from the middle to the right and down [pixels].
    """
    turn, along, across = np.radians(angle), np.radians(shear[0]), np.radians(shear[1])
    a = np.cos(turn - across) / np.cos(across)
    b = -a * np.tan(along) - np.sin(turn)
    c = np.sin(turn - across) / np.cos(across)
    d = -c * np.tan(along) + np.cos(turn)
    # The determinant of the four is 1.
    linear = np.stack((np.stack((d, -b), -1), np.stack((-c, a), -1)), -2) / scale[:, None, None]
    middle = np.array(centre)
    offset = middle - (linear @ (middle + np.stack(translate, -1))[:, :, None])[:, :, 0]
    out = np.zeros((len(angle), 3, 3))
    out[:, :2, :2], out[:, :2, 2], out[:, 2, 2] = linear, offset, 1
    return out


def windows(uniform: Floats, least: float, height: int, width: int) -> Integers:
    """Return which part of each image is brought to the whole size: top, left, height, width ``[n, 4]`` [pixels].

    Its area is drawn evenly from ``least`` to 1 times the image's, its proportions evenly by their logarithm; the first
    of ten that fits, and otherwise the largest in the middle. As torchvision's ``RandomResizedCrop``.

    Args:
        uniform: ``[PER_RECTANGLE, n]``.
        least: above 0, below 1.
        height: of the images [pixels].
        width: likewise.
    """
    area = height * width * (least + uniform[:TRIES] * (1 - least))
    low, high = np.log(PROPORTIONS)
    proportions = np.exp(low + uniform[TRIES : 2 * TRIES] * (high - low))
    wide = np.rint(np.sqrt(area * proportions)).astype(np.int64)
    tall = np.rint(np.sqrt(area / proportions)).astype(np.int64)
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first, each = fits.argmax(0), np.arange(fits.shape[1])
    some = fits.any(0)
    whole_tall = min(height, round(width / PROPORTIONS[0]))
    whole_wide = min(width, round(height * PROPORTIONS[1]))
    tall, wide = np.where(some, tall[first, each], whole_tall), np.where(some, wide[first, each], whole_wide)
    down, right = (np.where(some, place, 0.5) for place in uniform[2 * TRIES :])
    top = np.floor(down * (height - tall + some)).astype(np.int64)
    left = np.floor(right * (width - wide + some)).astype(np.int64)
    return np.stack((top, left, tall, wide), -1)


def warped(images: torch.Tensor, maps: torch.Tensor | None, cut: torch.Tensor | None) -> torch.Tensor:
    """Return images that are read at other places, between pixels bilinearly, outside of them as 0.

    Args:
        images: float32 ``[n, c, h, w]``.
        maps: float32 ``[n, 2, 3]``, see ``inverse``; None: each place is its own.
        cut: float32 ``[n, 4]``, top, left, height and width of the part of the mapped image that is brought to the
            whole size, its edge going on outside of it; None: all of it.
    """
    n, _, height, width = images.shape
    rows, columns = (torch.arange(size, dtype=torch.float32, device=images.device) for size in (height, width))
    if cut is None:
        rows, columns = rows.expand(n, height), columns.expand(n, width)
    else:
        top, left, tall, wide = cut[:, :, None].unbind(1)
        rows = _between(top + (rows + 0.5) * (tall / height) - 0.5, top, top + tall - 1)
        columns = _between(left + (columns + 0.5) * (wide / width) - 0.5, left, left + wide - 1)
    down, right = rows - (height - 1) / 2, columns - (width - 1) / 2
    places = images.new_empty((n, height, width, 2))
    if maps is None:
        places[..., 0], places[..., 1] = right[:, None, :] * (2 / width), down[:, :, None] * (2 / height)
    else:
        for axis, size in enumerate((width, height)):
            by_right, by_down, shift = (maps[:, axis] * (2 / size))[:, :, None].unbind(1)
            torch.add((right * by_right)[:, None, :], (down * by_down + shift)[:, :, None], out=places[..., axis])
    return functional.grid_sample(images, places, mode="bilinear", padding_mode="zeros", align_corners=False)


def _between(value: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(value, low), high)

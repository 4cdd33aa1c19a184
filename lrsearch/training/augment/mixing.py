"""What of an image is erased, and what it takes over of another one of its batch; and of labels likewise."""

from typing import Final

import numpy as np
import torch
from torch.nn import functional

from lrsearch.training.augment.draw import TRIES, Floats, Integers

ERASED: Final = (0.02, 0.33)
"""Part of the area that is erased, at least and at most. Source: Zhong et al., Random Erasing, 2017, torchvision."""
PROPORTIONS: Final = (0.3, 3.3)
"""Height over width of what is erased."""


def erasures(uniform: Floats, probability: float, height: int, width: int) -> Integers:
    """Return the rectangle of each image that is erased: top, left, height, width ``[n, 4]``; of no area for others.

    Of ten rectangles the first that is smaller than the image.

    Args:
        uniform: ``[1 + PER_RECTANGLE, n]``.
        probability: that an image is one of them [0..1].
        height: of the images [pixels].
        width: likewise.
    """
    least, most = ERASED
    area = height * width * (least + uniform[1 : 1 + TRIES] * (most - least))
    low, high = np.log(PROPORTIONS)
    proportions = np.exp(low + uniform[1 + TRIES : 1 + 2 * TRIES] * (high - low))
    tall = np.rint(np.sqrt(area * proportions)).astype(np.int64)
    wide = np.rint(np.sqrt(area / proportions)).astype(np.int64)
    fits = (tall < height) & (wide < width)
    first, each = fits.argmax(0), np.arange(fits.shape[1])
    some = fits.any(0) & (uniform[0] < probability)
    tall, wide = (np.where(some, sides[first, each], 0) for sides in (tall, wide))
    down, right = uniform[1 + 2 * TRIES :]
    top = np.floor(down * (height - tall + 1)).astype(np.int64)
    left = np.floor(right * (width - wide + 1)).astype(np.int64)
    return np.stack((top, left, tall, wide), -1)


def patches(uniform: Floats, kept: Floats, height: int, width: int) -> Integers:
    """Return the rectangle of each image that shows another one: top, left, height, width ``[n, 4]``.

    Its middle lies anywhere, and what is outside of the image is cut off: see ``kept_of``. Source: Yun et al., CutMix,
    2019, algorithm 1.

    Args:
        uniform: ``[2, n]``.
        kept: the part of the area that the rest should have ``[n]``.
        height: of the images [pixels].
        width: likewise.
    """
    half = 0.5 * np.sqrt(1 - kept)
    ends = []
    for place, size in zip(uniform, (height, width), strict=True):
        middle, reach = np.floor(place * size), np.floor(half * size)
        ends.append((np.maximum(middle - reach, 0), np.minimum(middle + reach, size)))
    (top, bottom), (left, right) = ends
    return np.stack((top, left, bottom - top, right - left), -1).astype(np.int64)


def kept_of(patch: Integers, height: int, width: int) -> Floats:
    """Return the part of each image that its rectangle leaves ``[n]``."""
    return np.asarray(1 - patch[:, 2] * patch[:, 3] / (height * width))


def inside(rectangles: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return which pixels lie in the rectangle of their image, ``[n, 1, h, w]``; rectangles int64 ``[n, 4]``."""
    top, left, tall, wide = rectangles[:, :, None].unbind(1)
    rows, columns = (torch.arange(size, device=rectangles.device) for size in (height, width))
    down, right = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    return (down[:, :, None] & right[:, None, :])[:, None]


def mixed_labels(labels: torch.Tensor, others: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return as float32 ``[n, 3]`` two labels of each image and what the first counts [0..1].

    One tensor, so that a batch is divided as any other; float32 holds every whole number below 16 million.
    """
    return torch.stack((labels.float(), others.float(), kept), 1)


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean cross entropy of images with one label each or two.

    The mean is weighted where classes are: ``sum w l / sum w``, w of an image that of its labels by what they count. So
    torch's ``cross_entropy`` is the case of two equal labels.

    Args:
        logits: ``[b, C]``.
        labels: int64 ``[b]``, or see ``mixed_labels``.
        weight: of each class ``[C]``.
        label_smoothing: part of a label that is spread over all classes [0..1).
    """
    if labels.ndim == 1:
        return functional.cross_entropy(logits, labels, weight, label_smoothing=label_smoothing)
    one, other, kept = labels.unbind(1)
    first, second = (
        functional.cross_entropy(logits, label.long(), weight, reduction="none", label_smoothing=label_smoothing)
        for label in (one, other)
    )
    return torch.lerp(second, first, kept.to(first.dtype)).sum() / mass(labels, weight)


def mass(labels: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor | int:
    """Return what images of these labels count in the mean over a batch; ``weight`` of each class ``[C]``."""
    if weight is None:
        return len(labels)
    if labels.ndim == 1:
        return weight.index_select(0, labels).sum()
    one, other, kept = labels.unbind(1)
    return torch.lerp(weight[other.long()], weight[one.long()], kept).sum()

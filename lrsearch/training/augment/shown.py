"""Some pictures as training sees them: each as it is, and as several updates change it."""

import warnings
from typing import Any

import numpy as np
import torch

from lrsearch.spec.training import AugmentSpec
from lrsearch.training import data
from lrsearch.training.augment.augmenter import Augmenter
from lrsearch.training.data import ImageSet, ImageSplits

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

SEED = 0


def shown(
    spec: AugmentSpec, images: Bytes, labels: Rows, train: Rows, some: Rows, n_updates: int, *, unit: bool = False
) -> Bytes:
    """Return pictures as bytes ``[k, 1 + n_updates, c, h, w]``: as they are, and as a batch of them is changed.

    Args:
        spec: the changes, by what they come to for these pictures.
        images: ``[m, c, h, w]``.
        labels: ``[m]``.
        train: rows of those that train, whose mean stands for what comes from outside of a picture.
        some: rows of the k pictures.
        n_updates: as of a training with the seed 0.
        unit: whether that is black, as with ``dataset.scaling = "unit"``.
    """
    rows = torch.from_numpy(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a map of a file cannot be written to, and nobody does
        one = ImageSet(torch.from_numpy(images), torch.from_numpy(labels)[rows], rows)
    channels = images.shape[1]
    mean, std = ((0.0,) * channels, (1.0,) * channels) if unit else data.statistics(one)
    splits = ImageSplits(one, one, one, (), mean, tuple(value or 1.0 for value in std))
    batch, classes = torch.from_numpy(images[some]), torch.from_numpy(labels[some])
    change = Augmenter(spec, splits, SEED)
    middle, scale = (torch.tensor(values).view(-1, 1, 1) for values in (splits.mean, splits.std))
    changed = [change(batch, classes, step, len(batch))[0] * scale + middle for step in range(n_updates)]
    as_bytes = [(one * 255).round_().clamp_(0, 255).to(torch.uint8) for one in changed]
    return torch.stack((batch, *as_bytes), 1).numpy()

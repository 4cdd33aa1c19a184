"""The lowest loss of a training whose images have more than one class: what a network pays that knows them all."""

from typing import Final

import numpy as np
import torch

from lrsearch.spec.training import AugmentSpec

DRAWN: Final = 4096
"""Pairs of images by which the floor of blended ones is known, to about a hundredth."""


def smoothed(shares: torch.Tensor, part: float) -> torch.Tensor:
    """Return what labels come to, ``[..., C]``, of which ``part`` is spread over all classes."""
    return shares * (1 - part) + part / shares.shape[-1]


def lowest_loss(augment: AugmentSpec, shares: torch.Tensor) -> float:
    """Return the mean entropy of what the labels of an image come to [nats/example].

    As if no rectangle of CutMix were cut off at an edge: the mean is then a little lower.

    Args:
        augment: whether labels are smoothed, and images blended.
        shares: part of the images of each class, float64 ``[C]``.
    """
    part, alphas = augment.label_smoothing or 0.0, [one for one in (augment.mixup, augment.cutmix) if one is not None]
    n_classes, source = len(shares), np.random.Generator(np.random.Philox(key=0))
    kept = np.concatenate([source.beta(a, a, DRAWN // len(alphas)) for a in alphas]) if alphas else np.ones(1)
    first = torch.from_numpy(kept)
    # Of two images of one class, and of two.
    one, two = torch.zeros(2, len(kept), n_classes, dtype=torch.float64)
    one[:, 0] = 1
    two[:, 0] = first
    two[:, min(1, n_classes - 1)] += 1 - first
    alike = shares.square().sum()
    of_one, of_two = (-torch.special.xlogy(p, p).sum(1).mean() for p in (smoothed(one, part), smoothed(two, part)))
    return float(alike * of_one + (1 - alike) * of_two)

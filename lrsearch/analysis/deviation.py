"""How far the learning rates of another package's scheduler lie from ours, update by update."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lrsearch.schedules import Factors, factors
from lrsearch.trial import TrialConfig

SMALL: Final = 0.2
"""Part of the peak learning rate up to which a deviation is small; see docs/decisions/0037."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """The difference of two learning rates over a training."""

    peak_lr: float
    n_updates: int
    largest: float
    """Absolute."""
    at: int
    """The update at which it is largest, 0-based; of several the first."""
    ours: float
    """The learning rate that was searched, there."""
    theirs: float
    """That of the other scheduler, there."""
    mean: float
    """Absolute, over all updates."""
    lasting: float
    """What is left of the largest where theirs may be ours of an update earlier or later, or between the two."""

    @property
    def is_small(self) -> bool:
        """Whether the training may be called the same: a shift by one update is never seen."""
        return self.lasting <= SMALL * self.peak_lr


def searched_rates(config: TrialConfig, n_updates: int) -> Factors:
    """Return our learning rates for a training of so many updates, `[n_updates]`.

    Where a script makes fewer updates than the search did, the schedule is stretched to them, as lrsearch would.
    """
    return factors(config.schedule, n_updates) * config.optimizer.peak_lr


def deviation(ours: Factors, theirs: Factors, peak_lr: float) -> Deviation:
    """Return how far learning rates lie from ours, both `[n_updates]`, at least one.

    >>> ours = np.array([0.25, 0.5, 0.75, 1.0, 1.0, 0.5])
    >>> found = deviation(ours, np.array([0.0, 0.25, 0.5, 0.75, 1.0, 0.5]), 1.0)  # a ramp that is one update behind
    >>> found.largest, found.at, found.lasting
    (0.25, 0, 0.0)
    """
    off = np.abs(theirs - ours)
    at = int(off.argmax())
    # Before the first update and after the last the curve goes on as it began and ended, but never below zero.
    ends = np.maximum([2 * ours[0] - ours[min(1, len(ours) - 1)], 2 * ours[-1] - ours[max(-2, -len(ours))]], 0)
    around = np.concatenate([ends[:1], ours, ends[1:]])
    near = np.stack([around[:-2], around[1:-1], around[2:]])
    outside = np.maximum(near.min(axis=0) - theirs, theirs - near.max(axis=0))
    return Deviation(
        peak_lr=peak_lr,
        n_updates=len(ours),
        largest=float(off[at]),
        at=at,
        ours=float(ours[at]),
        theirs=float(theirs[at]),
        mean=float(off.mean()),
        lasting=float(max(outside.max(), 0.0)),
    )

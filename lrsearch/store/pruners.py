"""Who ends a trial early: pure functions over rung scores already read, with Optuna's names and meanings.

Three things differ from asking Optuna: nothing is written, a score made during warm-up is neither judged nor held
against anyone, and the last epoch is never pruned.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrsearch.spec.study import AshaSpec, MedianSpec, StudySpec
from lrsearch.trial import ScheduleConfig


@dataclass(frozen=True, slots=True)
class RungRow:
    """What another trial scored at the epoch in question."""

    score: float
    complete: bool
    """Whether that trial has been trained through."""
    comparable: bool
    """Whether its warm-up was over."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Keep or prune, and the numbers that decided it."""

    prune: bool
    cut: float | None = None
    """The score that had to be reached."""
    n_compared: int = 0
    """Trials compared with, this one included."""


KEEP = Comparison(prune=False)


def comparable_from(schedule: ScheduleConfig, epochs: int) -> int:
    """Return the first epoch (1-based, completed) at which a trial may be judged: its rise to the peak is over.

    The rise is the warm-up; one_cycle and triangular warm up by their own shape.
    """
    rise = schedule.warmup_fraction
    if schedule.family == "one_cycle":
        rise += (1 - rise) * (schedule.rise_fraction or 0.0)
    elif schedule.family == "triangular":
        rise += (1 - rise) / (2 * (schedule.cycles or 1))
    return max(1, math.ceil(rise * epochs - 1e-9))


def judge(spec: StudySpec, epoch: int, own: Sequence[float], others: Sequence[RungRow], n_complete: int) -> Comparison:
    """Decide about a trial at ``epoch``.

    Args:
        spec: the study.
        epoch: completed epochs of this trial.
        own: its rung scores so far, the latest last.
        others: what the other trials scored at this epoch.
        n_complete: complete trials of the study.
    """
    maximize = spec.objective.direction == "maximize"
    pruner = spec.pruner
    if not pruner.compares_at(epoch, spec.epochs):
        return KEEP
    at_that_epoch = [row for row in others if row.comparable]
    match pruner:
        case AshaSpec():
            scores = [row.score for row in at_that_epoch]
            return asha(own[-1], scores, pruner.reduction_factor, maximize=maximize)
        case MedianSpec():
            return median(
                own,
                [row.score for row in at_that_epoch if row.complete],
                n_complete=n_complete,
                n_startup_trials=pruner.n_startup_trials,
                n_min_trials=pruner.n_min_trials,
                maximize=maximize,
            )
        case _:
            return KEEP


def asha(value: float, others: Sequence[float], reduction_factor: int, *, maximize: bool) -> Comparison:
    """Asynchronous successive halving: go on if among the best ``1/reduction_factor`` that reached this rung.

    With fewer trials than ``reduction_factor`` at the rung, the best one goes on.

    Source: Li et al. 2018, arXiv 1810.05934; optuna.pruners.SuccessiveHalvingPruner.

    >>> asha(0.8, [0.7, 0.9, 0.6, 0.5, 0.4], 3, maximize=True)
    Comparison(prune=False, cut=0.8, n_compared=6)
    """
    if math.isnan(value):
        return Comparison(prune=True)
    ranked = sorted([*(score for score in others if not math.isnan(score)), value], reverse=maximize)
    cut = ranked[max(len(ranked) // reduction_factor - 1, 0)]
    worse = value < cut if maximize else value > cut
    return Comparison(worse, cut, len(ranked))


def median(
    own: Sequence[float],
    others: Sequence[float],
    *,
    n_complete: int,
    n_startup_trials: int,
    n_min_trials: int,
    maximize: bool,
) -> Comparison:
    """Prune if the best score so far is worse than the median of complete trials at this epoch.

    Source: Golovin et al. 2017 (Vizier); optuna.pruners.MedianPruner.

    >>> median([0.2, 0.3], [0.5, 0.1, 0.4], n_complete=3, n_startup_trials=1, n_min_trials=1, maximize=True)
    Comparison(prune=True, cut=0.4, n_compared=4)
    """
    if n_complete == 0 or n_complete < n_startup_trials:
        return KEEP
    finite = [score for score in own if not math.isnan(score)]
    if not finite:
        return Comparison(prune=True)
    if len(others) < n_min_trials or not any(not math.isnan(v) for v in others):
        return KEEP
    best = max(finite) if maximize else min(finite)
    cut = float(np.nanmedian(np.asarray(others, dtype=float)))
    return Comparison(best < cut if maximize else best > cut, cut, len(others) + 1)

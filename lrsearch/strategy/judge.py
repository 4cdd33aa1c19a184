"""Who ends a trial early: pure functions over rung scores already read, with Optuna's names and meanings.

Three things differ from asking Optuna: nothing is written, no trial is judged, or compared with others, at an epoch
before its learning rate has risen to its peak, and the last epoch is never pruned.
"""

import math
from collections.abc import Sequence

import numpy as np

from lrsearch.spec.deciding import AshaSpec, GradualSpec, HyperbandSpec, MedianSpec
from lrsearch.strategy.view import KEEP, Judgement, Reached, RungRow


def judge(reached: Reached) -> Judgement:
    """Decide about a trial at an epoch that is not its last: by the hours that are left, then by the pruner."""
    if reached.hours_left is not None and reached.hours_left <= 0:
        return Judgement("out_of_budget")
    spec, pruner = reached.spec, reached.spec.pruner
    if not (reached.comparable and pruner.compares_at(reached.epoch, spec.epochs)):
        return KEEP
    maximize = spec.metric.maximize
    at_that_epoch = [row for row in reached.others if row.comparable]
    match pruner:
        case AshaSpec():
            scores = [row.score for row in at_that_epoch]
            return asha(reached.own[-1], scores, pruner.reduction_factor, maximize=maximize)
        case HyperbandSpec():
            return hyperband(reached, at_that_epoch, pruner)
        case GradualSpec():
            scores = [row.score for row in at_that_epoch]
            return gradual(reached.own[-1], scores, pruner.share(reached.epoch), maximize=maximize)
        case MedianSpec():
            return median(
                reached.own,
                [row.score for row in at_that_epoch if row.complete],
                n_complete=reached.n_complete,
                n_startup_trials=pruner.n_startup_trials,
                n_min_trials=pruner.n_min_trials,
                maximize=maximize,
            )
        case _:
            return KEEP


def asha(value: float, others: Sequence[float], reduction_factor: int, *, maximize: bool) -> Judgement:
    """Asynchronous successive halving: go on if among the best ``1/reduction_factor`` that reached this rung.

    With fewer trials than ``reduction_factor`` at the rung, the best one goes on.

    Source: Li et al. 2018, arXiv 1810.05934; optuna.pruners.SuccessiveHalvingPruner.

    >>> asha(0.8, [0.7, 0.9, 0.6, 0.5, 0.4], 3, maximize=True)
    Judgement(fate='keep', cut=0.8, n_compared=6)
    """
    if math.isnan(value):
        return Judgement("prune")
    ranked = _ranked(value, others, maximize=maximize)
    return _among_the_best(value, ranked, len(ranked) // reduction_factor, maximize=maximize)


def hyperband(reached: Reached, others: Sequence[RungRow], pruner: HyperbandSpec) -> Judgement:
    """Decide as ``asha`` does among the trials of the same bracket, at the rungs of that bracket.

    Unlike in Optuna a sampler learns from the trials of all brackets.

    Source: Li et al. 2018, arXiv 1603.06560; optuna.pruners.HyperbandPruner.
    """
    spec = reached.spec
    mine = pruner.bracket(spec.seed, reached.number, spec.epochs)
    if reached.epoch not in pruner.rungs(spec.epochs, mine):
        return KEEP
    scores = [row.score for row in others if pruner.bracket(spec.seed, row.number, spec.epochs) == mine]
    return asha(reached.own[-1], scores, pruner.reduction_factor, maximize=spec.metric.maximize)


def gradual(value: float, others: Sequence[float], share: float, *, maximize: bool) -> Judgement:
    """Go on if among the best ``share`` [0..1] of those that came to this epoch, a half rounded up.

    Successive halving whose rungs are all epochs: little is decided by any one comparison.

    Source: docs/decisions/0043-prune-in-small-steps.md.

    >>> gradual(0.6, [0.7, 0.9, 0.5, 0.4], 0.6, maximize=True)
    Judgement(fate='keep', cut=0.6, n_compared=5)
    >>> gradual(0.5, [0.7, 0.9, 0.6, 0.4], 0.6, maximize=True)
    Judgement(fate='prune', cut=0.6, n_compared=5)
    """
    if math.isnan(value):
        return Judgement("prune")
    ranked = _ranked(value, others, maximize=maximize)
    return _among_the_best(value, ranked, math.floor(len(ranked) * share + 0.5), maximize=maximize)


def _ranked(value: float, others: Sequence[float], *, maximize: bool) -> list[float]:
    return sorted([*(score for score in others if not math.isnan(score)), value], reverse=maximize)


def _among_the_best(value: float, ranked: Sequence[float], n: int, *, maximize: bool) -> Judgement:
    """Keep what is among the best ``n``, and whatever equals them; the best one always."""
    cut = ranked[max(n, 1) - 1]
    worse = value < cut if maximize else value > cut
    return Judgement("prune" if worse else "keep", cut, len(ranked))


def median(
    own: Sequence[float],
    others: Sequence[float],
    *,
    n_complete: int,
    n_startup_trials: int,
    n_min_trials: int,
    maximize: bool,
) -> Judgement:
    """Prune if the best score so far is worse than the median of complete trials at this epoch.

    Source: Golovin et al. 2017 (Vizier); optuna.pruners.MedianPruner.

    >>> median([0.2, 0.3], [0.5, 0.1, 0.4], n_complete=3, n_startup_trials=1, n_min_trials=1, maximize=True)
    Judgement(fate='prune', cut=0.4, n_compared=4)
    """
    if n_complete == 0 or n_complete < n_startup_trials:
        return KEEP
    finite = [score for score in own if not math.isnan(score)]
    if not finite:
        return Judgement("prune")
    if len(others) < n_min_trials or not any(not math.isnan(v) for v in others):
        return KEEP
    best = max(finite) if maximize else min(finite)
    cut = float(np.nanmedian(np.asarray(others, dtype=float)))
    worse = best < cut if maximize else best > cut
    return Judgement("prune" if worse else "keep", cut, len(others) + 1)

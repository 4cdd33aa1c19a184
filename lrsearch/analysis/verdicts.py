"""How the trials of one optimizer compare with its best: good, fair, far, diverged or undecided."""

import math
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from lrsearch.analysis.precision import Tolerance, tolerance
from lrsearch.analysis.ranking import best
from lrsearch.schedules import factors
from lrsearch.spec import StudySpec
from lrsearch.trial import EpochMetrics, ScheduleConfig, State, Trial


class Verdict(StrEnum):
    """What a trial says about its learning rate."""

    GOOD = "good"
    """Complete, and close to the best."""
    FAIR = "fair"
    """Complete, and neither close to the best nor far from it."""
    FAR = "far"
    """Complete and far from the best; or pruned, and at that epoch far from every good trial."""
    DIVERGED = "diverged"
    UNDECIDED = "undecided"
    """Pruned, and nothing that it was compared with says that it would have ended badly."""


def verdicts(trials: Sequence[Trial], spec: StudySpec) -> dict[int, Verdict]:
    """Return the verdict of every complete, pruned and diverged trial, by number; all trials are of one optimizer.

    A pruned trial is censored: nobody knows where it would have ended. Its last rung score is held against the scores
    that the good trials had at the same epoch, the worst of them, among those whose learning rate had reached its peak.
    """
    close = tolerance(spec)
    top = best(trials, spec.objective.direction)
    out: dict[int, Verdict] = {}
    for trial in trials:
        if trial.state == State.DIVERGED:
            out[trial.number] = Verdict.DIVERGED
        elif trial.state == State.COMPLETE and top is not None:
            out[trial.number] = _complete(trial, top, close)
    good = [t for t in trials if out.get(t.number) == Verdict.GOOD]
    for trial in trials:
        if trial.state == State.PRUNED:
            out[trial.number] = _pruned(trial, good, spec, close)
    return out


def rung_score(row: EpochMetrics, metric: str) -> float:
    """Return what the pruner looked at: the averaged accuracy where there is one, for the loss the raw one."""
    if metric == "loss":
        return row.val_loss
    return row.val_accuracy if row.averaged_val_accuracy is None else row.averaged_val_accuracy


@lru_cache(maxsize=4096)
def risen(schedule: ScheduleConfig, epoch: int, epochs: int) -> bool:
    """Whether the learning rate has reached its peak within ``epoch`` completed epochs.

    >>> schedule = ScheduleConfig("linear", warmup_fraction=0.2, final_fraction=0.0)
    >>> [risen(schedule, epoch, 10) for epoch in (1, 2)]
    [False, True]
    """
    n_steps = 1000  # Enough to find the peak to a thousandth of the training.
    return bool(factors(schedule, n_steps).argmax() / n_steps <= epoch / epochs + 1e-9)


def _complete(trial: Trial, top: Trial, close: Tolerance) -> Verdict:
    value, reference = _value(trial), _value(top)
    if close.is_close(value, reference):
        return Verdict.GOOD
    return Verdict.FAR if close.is_far(value, reference) else Verdict.FAIR


def _pruned(trial: Trial, good: Sequence[Trial], spec: StudySpec, close: Tolerance) -> Verdict:
    if not trial.metrics:
        return Verdict.UNDECIDED
    metric, epoch = spec.objective.metric, trial.metrics[-1].epoch
    scores = [
        rung_score(row, metric)
        for other in good
        if risen(other.config.schedule, epoch, other.config.epochs)
        for row in other.metrics
        if row.epoch == epoch
    ]
    finite = [score for score in scores if math.isfinite(score)]
    if not finite:
        return Verdict.UNDECIDED
    worst = min(finite) if metric == "accuracy" else max(finite)
    return Verdict.FAR if close.is_far(rung_score(trial.metrics[-1], metric), worst) else Verdict.UNDECIDED


def _value(trial: Trial) -> float:
    return math.nan if trial.outcome is None or trial.outcome.value is None else trial.outcome.value

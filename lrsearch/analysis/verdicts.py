"""How the trials of one optimizer compare with its best: good, fair, far, diverged or undecided."""

import math
from collections.abc import Sequence
from enum import StrEnum

from lrsearch.analysis.precision import Tolerance, tolerance
from lrsearch.analysis.ranking import best
from lrsearch.spec.study import StudySpec
from lrsearch.trial import State, Trial


class Verdict(StrEnum):
    """What a trial says about its learning rate."""

    GOOD = "good"
    """Complete, and close to the best."""
    FAIR = "fair"
    """Complete, and neither close to the best nor far from it."""
    FAR = "far"
    """Complete and far from the best; or pruned, and at that epoch far from every good trial."""
    DIVERGED = "diverged"
    """Diverged, for a reason that its learning rate is to blame for."""
    UNDECIDED = "undecided"
    """Pruned, and nothing that it was compared with says that it would have ended badly; or diverged for a reason that
    says nothing of the rate."""


def verdicts(trials: Sequence[Trial], spec: StudySpec) -> dict[int, Verdict]:
    """Return the verdict of every complete, pruned and diverged trial, by number; all trials are of one optimizer.

    A pruned trial is censored: nobody knows where it would have ended. Its last rung score is held against the scores
    that the good trials had at the same epoch, the worst of them, among those whose learning rate had reached its peak.
    """
    close = tolerance(spec)
    top = best(trials, spec.metric.direction)
    out: dict[int, Verdict] = {}
    for trial in trials:
        if trial.state == State.DIVERGED:
            blamed = trial.outcome is None or trial.outcome.reason.blames_the_rate
            out[trial.number] = Verdict.DIVERGED if blamed else Verdict.UNDECIDED
        elif trial.state == State.COMPLETE and top is not None:
            out[trial.number] = _complete(trial, top, close)
    good = [t for t in trials if out.get(t.number) == Verdict.GOOD]
    for trial in trials:
        if trial.state == State.PRUNED:
            out[trial.number] = _pruned(trial, good, spec, close)
    return out


def _complete(trial: Trial, top: Trial, close: Tolerance) -> Verdict:
    value, reference = _value(trial), _value(top)
    if close.is_close(value, reference):
        return Verdict.GOOD
    return Verdict.FAR if close.is_far(value, reference) else Verdict.FAIR


def _pruned(trial: Trial, good: Sequence[Trial], spec: StudySpec, close: Tolerance) -> Verdict:
    if not trial.metrics:
        return Verdict.UNDECIDED
    last = trial.metrics[-1]
    at_that_epoch = [row for other in good for row in other.metrics if row.epoch == last.epoch and row.comparable]
    scores = [row.rung_score for row in at_that_epoch if row.rung_score is not None]
    if not scores:
        return Verdict.UNDECIDED
    worst = min(scores) if spec.metric.direction == "maximize" else max(scores)
    score = math.nan if last.rung_score is None else last.rung_score
    return Verdict.FAR if close.is_far(score, worst) else Verdict.UNDECIDED


def _value(trial: Trial) -> float:
    return math.nan if trial.outcome is None or trial.outcome.value is None else trial.outcome.value

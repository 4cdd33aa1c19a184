"""What each trial of an optimizer says of its learning rate: whether it ended close enough to the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lrsearch.analysis.precision import tolerance
from lrsearch.families import FAMILIES
from lrsearch.spec.study import StudySpec
from lrsearch.trial import State, Trial

Floats = NDArray[np.float64]

PRUNED_SHORT = 0.9
"""Trials far behind when they were pruned that would have ended short [parts of all]."""
PRUNED_GOOD = 0.4
"""Above one half, trials that kept up until they were pruned at the end that would have ended well [parts of all]."""


class Kind(IntEnum):
    """How a trial ended, of those that finished."""

    GOOD = 0
    """Close enough to the best, or so it stood when it was pruned."""
    SHORT = 1
    DIVERGED = 2
    UNDECIDED = 3
    """Nobody knows how it would have ended, or its learning rate is not to blame."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Finished trials, lowest learning rate first."""

    x: Floats
    """Learning rates [octaves]."""
    batch: Floats
    """Batch sizes [octaves]."""
    holds: Floats
    """1 where the schedule holds its rate to the end, else 0."""
    sure: Floats
    """How surely the trial is of its kind, 0.5 to 1; less than 1 of pruned ones."""
    kind: NDArray[np.int64]
    """The ``Kind`` of each."""
    complete: NDArray[np.bool_]
    pruned: NDArray[np.bool_]
    stayed: NDArray[np.bool_]
    """Whether the trial has shown that it does not diverge: its learning rate has been at its peak."""


def evidence(trials: Sequence[Trial], spec: StudySpec, floor: float, distance: float) -> Evidence:
    """Return what the finished trials of one optimizer say.

    Args:
        trials: of the optimizer, each setting and seed once.
        spec: the study.
        floor: what a complete trial comes to at least (at most, of a loss) that ended well; not a number: none did.
        distance: how far from the best a trial may be that does.
    """
    reached = [t for t in trials if t.state == State.COMPLETE and _reaches(_score(t), floor, spec)]
    rows = []
    for trial in trials:
        if not trial.state.counts:
            continue
        complete, kind = trial.state == State.COMPLETE, Kind.UNDECIDED
        if trial.state == State.DIVERGED:
            blamed = trial.outcome is None or trial.outcome.reason.blames_the_rate
            kind = Kind.DIVERGED if blamed else Kind.UNDECIDED
        elif complete:
            kind = Kind.GOOD if _reaches(_score(trial), floor, spec) else Kind.SHORT
        else:
            kind = _of_pruned(trial, reached, spec, distance)
        sure = 1.0 if trial.state != State.PRUNED else PRUNED_SHORT if kind == Kind.SHORT else _surely_good(trial)
        stayed = complete or (trial.state == State.PRUNED and any(row.comparable for row in trial.metrics))
        octave, batch = math.log2(trial.config.optimizer.peak_lr), math.log2(trial.config.batch_size)
        rows.append((octave, batch, holds(trial), sure, kind, complete, trial.state == State.PRUNED, stayed))
    columns = list(zip(*sorted(rows), strict=True)) or [()] * 8
    octaves, batches, held, sure_of = (np.array(column, np.float64) for column in columns[:4])
    completes, pruned, stays = (np.array(column, np.bool_) for column in columns[5:])
    return Evidence(octaves, batches, held, sure_of, np.array(columns[4], np.int64), completes, pruned, stays)


def holds(trial: Trial) -> float:
    """Return 1 where the schedule of a trial holds its rate to the end, else 0."""
    return float(FAMILIES[trial.config.schedule.family].floor is None)


def _of_pruned(pruned: Trial, reached: Sequence[Trial], spec: StudySpec, distance: float) -> Kind:
    """Return how a trial stood when it was pruned, held against those that ended well, at the same epoch.

    Only those are looked at whose learning rate had reached its peak by then. Nobody knows where it would have ended:
    what is neither far behind the last of them nor close to the first is undecided.
    """
    last = pruned.metrics[-1] if pruned.metrics else None
    if last is None or last.rung_score is None:
        return Kind.UNDECIDED
    at_that_epoch = [row for other in reached for row in other.metrics if row.epoch == last.epoch and row.comparable]
    scores = [row.rung_score for row in at_that_epoch if row.rung_score is not None]
    if not scores:
        return Kind.UNDECIDED
    first, behind = (max(scores), min(scores)) if spec.metric.maximize else (min(scores), max(scores))
    if tolerance(spec).is_far(last.rung_score, behind):
        return Kind.SHORT
    close = _reaches(last.rung_score, first - distance if spec.metric.maximize else first + distance, spec)
    return Kind.GOOD if close else Kind.UNDECIDED


def _surely_good(pruned: Trial) -> float:
    """Return how surely a trial that kept up until it was pruned would have ended well; the later the more."""
    return 0.5 + PRUNED_GOOD * len(pruned.metrics) / pruned.config.epochs


def _reaches(score: float, floor: float, spec: StudySpec) -> bool:
    # Accuracies are multiples of 1/n: without the slack, rounding would decide at the edge.
    return score >= floor - 1e-9 if spec.metric.maximize else score <= floor + 1e-9


def _score(trial: Trial) -> float:
    return math.nan if trial.outcome is None or trial.outcome.value is None else trial.outcome.value

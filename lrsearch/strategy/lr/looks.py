"""What trials have shown so far, as the model takes it: scores at rungs, each held against the best of its rung."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrsearch.schedules import comparable_from
from lrsearch.spec.metrics import Metric
from lrsearch.strategy.lr.constants import Constants
from lrsearch.strategy.view import KnownTraining, ScoreCurve
from lrsearch.trial import State, TrialConfig

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rungs:
    """The epochs at which trials are looked at."""

    epochs: int
    """Of a whole training."""
    at: tuple[int, ...]

    @classmethod
    def of(cls, epochs: int, constants: Constants) -> "Rungs":
        """Return the rungs of a training of so many epochs."""
        return cls(epochs, tuple(sorted({min(epochs, max(1, round(epochs * part))) for part in constants.rungs})))

    def after(self, config: TrialConfig, epoch: int) -> int:
        """Return the next rung after an epoch at which a trial may be compared: its rise to the peak is over."""
        first = comparable_from(config.schedule, self.epochs)
        return next((rung for rung in self.at if rung > epoch and rung >= first), self.epochs)

    def contains(self, config: TrialConfig, epoch: int) -> bool:
        """Whether a trial stops at an epoch for a decision."""
        return epoch < self.epochs and epoch in self.at and epoch >= comparable_from(config.schedule, self.epochs)


@dataclass(frozen=True, slots=True)
class Looks:
    """Scores at rungs: how far below the best of the rung, squashed."""

    trial: Ints
    """`[n]`, which trial; those that are known from elsewhere come after the study's own."""
    level: Ints
    """`[n]`, scores of one level are compared with each other; between levels nothing is said."""
    fraction: Floats
    """`[n]`, log10 of the part of a training."""
    value: Floats
    """`[n]`, 0 at the best of the level, below 0 elsewhere."""


def looks(curves: Sequence[ScoreCurve], rungs: Rungs, metric: Metric, c: Constants) -> Looks:
    """Return what the trials of a study have shown."""
    found: list[tuple[int, int, float, float]] = []
    for level, rung in enumerate(rungs.at):
        scores = [(i, _at_rung(one, rung, rungs, metric, c)) for i, one in enumerate(curves)]
        here = [(i, score) for i, score in scores if score is not None]
        found += [
            (i, level, math.log10(rung / rungs.epochs), value)
            for (i, _), value in zip(here, below_best([s for _, s in here], metric, c), strict=True)
        ]
    return _made(found)


def known_looks(known: Sequence[KnownTraining], first: int, metric: Metric, c: Constants) -> Looks:
    """Return what trainings from elsewhere show, numbered from ``first``; each source has levels of its own."""
    found: list[tuple[int, int, float, float]] = []
    groups: dict[tuple[str, int], list[int]] = {}
    for i, one in enumerate(known):
        groups.setdefault((one.source, one.config.epochs), []).append(i)
    level = len(c.rungs)
    for (_, epochs), members in groups.items():
        rungs = Rungs.of(epochs, c)
        for rung in rungs.at:
            scores = [(i, _of_known(known[i], rung, rungs, metric, c)) for i in members]
            here = [(i, score) for i, score in scores if score is not None]
            if len(here) > 1:
                values = below_best([s for _, s in here], metric, c)
                fraction = math.log10(rung / epochs)
                found += [(first + i, level, fraction, v) for (i, _), v in zip(here, values, strict=True)]
            level += 1
    return _made(found)


def _made(found: Sequence[tuple[int, int, float, float]]) -> Looks:
    columns = list(zip(*found, strict=True)) or [()] * 4
    return Looks(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        np.array(columns[3], np.float64),
    )


def _at_rung(one: ScoreCurve, rung: int, rungs: Rungs, metric: Metric, c: Constants) -> float | None:
    """Return a trial's score at a rung, higher is better; -inf: it had diverged by then; None: nobody knows."""
    if rung <= one.shared:
        return None  # it is its parent's
    if one.state == State.DIVERGED:
        return -math.inf if rung >= one.epochs else _mean(one.scores, rung, rungs, metric, c, one.config)
    if rung == rungs.epochs:
        if one.state != State.COMPLETE:
            return None
        return _signed(one.scores[-1] if one.value is None else one.value, metric)
    return _mean(one.scores, rung, rungs, metric, c, one.config) if one.epochs >= rung else None


def _of_known(one: KnownTraining, rung: int, rungs: Rungs, metric: Metric, c: Constants) -> float | None:
    if one.state == State.DIVERGED:
        return -math.inf if rung >= len(one.scores) else None
    if rung == rungs.epochs:
        return None if one.value is None else _signed(one.value, metric)
    return _mean(one.scores, rung, rungs, metric, c, one.config) if len(one.scores) >= rung else None


def _mean(
    scores: Sequence[float], rung: int, rungs: Rungs, metric: Metric, c: Constants, config: TrialConfig
) -> float | None:
    if rung < comparable_from(config.schedule, rungs.epochs):
        return None
    last = scores[rung - max(1, int(c.average * rung)) : rung]
    finite = [score for score in last if math.isfinite(score)]
    return _signed(sum(finite) / len(finite), metric) if finite else -math.inf


def _signed(score: float, metric: Metric) -> float:
    if not math.isfinite(score):
        return -math.inf
    return score if metric.maximize else -score


def lowest(c: Constants) -> float:
    """Return the value of a score that counts as lost."""
    return -c.clip * c.amplitude


def below_best(scores: Sequence[float], metric: Metric, c: Constants) -> list[float]:
    """Return each score as its squashed distance from the best, 0 or below; the lowest for what diverged."""
    least = lowest(c)
    alive = [score for score in scores if score > -math.inf]
    if not alive:
        return [least] * len(scores)
    best = max(alive)
    unit = 1.0 if metric.is_share else _unit(alive, best)
    return [
        max(-c.squash * math.log1p((best - score) / unit / c.squash), least) if score > -math.inf else least
        for score in scores
    ]


def _unit(alive: Sequence[float], best: float) -> float:
    """Return what counts as much as a whole of a share does, for a metric in a unit of its own.

    A loss differs by its ratio: 2 % of the best loss count as 1 point. What is not positive is measured by the median
    distance from the best, which counts as 5 points.
    """
    if best < 0:
        return max(-best * 2.0, 1e-12)
    distances = sorted(best - score for score in alive)
    return max(distances[len(distances) // 2] / 0.05, 1e-12)

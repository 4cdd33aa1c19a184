"""The model: a Gaussian process over (setting, fraction of a training), of which only differences within a rung count.

Neighbours in learning rate and schedule share what is known of them; a score early in a training says the more about
the end the later it is. What is not known beforehand (whether the best rate moves while a training goes on, whether
early scores mislead, how loud a training is, whether another study's results hold here) is a few values, weighed by how
well each foretells the scores.

Source: Swersky, Snoek and Adams 2014, arXiv 1406.3896 (freeze-thaw); docs/decisions/0045-pause-and-go-on-by-a-model.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrsearch.strategy.lr.constants import Constants
from lrsearch.strategy.lr.features import Floats, encode, factor_so_far, lean, relative_rate
from lrsearch.strategy.lr.kinship import remembered
from lrsearch.strategy.lr.looks import Ints, Looks
from lrsearch.trial import ScheduleConfig, TrialConfig

LEVEL_VARIANCE = 1.0
"""Of the level of a rung, which is unknown: far above that of scores."""
LOUDER_SD = 1.0
"""Of the prior of how loud trainings are, in natural logarithms."""


@dataclass(frozen=True, slots=True)
class Points:
    """Settings as the model sees them."""

    x: Floats
    """`[n, d]`, features; the first is the learning rate."""
    optimizer: Ints
    """`[n]`"""
    mean: Floats
    """`[n]`, expected score before anything is known."""
    elsewhere: NDArray[np.bool_]
    """`[n]`, of another study."""
    schedules: Sequence[ScheduleConfig]
    """`[n]`"""

    @classmethod
    def of(cls, configs: Sequence[TrialConfig], n_here: int, c: Constants) -> "Points":
        """Return settings as the model sees them, those after the first ``n_here`` from another study."""
        order = {name: i for i, name in enumerate(dict.fromkeys(config.optimizer.name for config in configs))}
        off = np.array([min(abs(relative_rate(config)), 2.0) for config in configs])
        return cls(
            np.array([encode(config, c.length) for config in configs]),
            np.array([order[config.optimizer.name] for config in configs]),
            -c.prior * c.amplitude * off**2,
            np.arange(len(configs)) >= n_here,
            [config.schedule for config in configs],
        )

    def moved_at(self, trial: Ints, fraction: Floats, c: Constants) -> Floats:
        """Return by how many decades a rate counts for more after a fraction of a training than after the whole.

        Args:
            trial: `[m]`, which setting.
            fraction: `[m]`, log10 of the part of the training.
            c: constants.
        """
        moved = [
            factor_so_far(schedule, 10.0**f) - factor_so_far(schedule) - lean(schedule, c) * f if f else 0.0
            for schedule, f in ((self.schedules[i], f) for i, f in zip(trial, fraction, strict=True))
        ]
        return np.array(moved, np.float64)

    def covariance(self, c: Constants) -> Floats:
        """Return the covariances of final scores before anything is known, `[n, n]`, noise apart."""
        n = len(self.schedules)
        at_end = np.arange(n), np.zeros(n), np.zeros(n)
        return _kernel(self, at_end, at_end, c, _hypotheses(c, known=False)[0])


class _Hypothesis(NamedTuple):
    """What may hold, but for how loud trainings are."""

    drift: float
    """Decades by which the best rate moves while the fraction trained grows tenfold."""
    shared: float
    memory: float
    """How alike scores after two fractions are, as ``Constants`` has it."""
    holds: float
    """Whether trainings from elsewhere hold here, 0 or 1,"""
    shift: float
    """and by how many decades their rates are off."""
    odds: float
    """The logarithm of its odds before anything is seen."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed of final scores."""

    mean: Floats
    """`[n]`"""
    weights: Floats
    """`[h]`, of the hypotheses."""
    _means: tuple[Floats, ...]
    _explained: tuple[Floats, ...]
    _prior: Floats
    _own: tuple[float, ...]
    """Variance of what trainings have of their own,"""
    _alike: Floats
    """and how alike that is at their ends, `[n, n]`: those that part at a state have of it in common."""
    noise: float
    """Of a training as a whole, as it is weighed."""

    def against(self, j: int) -> tuple[Floats, Floats]:
        """Return the variance of every score, `[n]`, and its covariance with that of ``j``, `[n]`."""
        variance, covariance = np.zeros(len(self.mean)), np.zeros(len(self.mean))
        for weight, mean, v, own in zip(self.weights, self._means, self._explained, self._own, strict=True):
            apart = mean - self.mean
            variance += weight * (np.diag(self._prior) + own - (v * v).sum(0) + apart**2)
            covariance += weight * (self._prior[j] + own * self._alike[j] - v[:, j] @ v + apart * apart[j])
        return variance, covariance

    def covariance(self, among: Ints) -> Floats:
        """Return the covariances of some scores, `[m, m]`."""
        out = np.zeros((len(among), len(among)))
        for weight, mean, v, own in zip(self.weights, self._means, self._explained, self._own, strict=True):
            apart = (mean - self.mean)[among]
            part = v[:, among]
            block = np.ix_(among, among)
            prior = self._prior[block] + own * self._alike[block]
            out += weight * (prior - part.T @ part + np.outer(apart, apart))
        return out


def posterior(points: Points, seen: Looks, believed: Looks, n: int, c: Constants, in_common: Floats) -> Posterior:
    """Return what is believed of the final scores of the first ``n`` points.

    Args:
        points: trials of the study, new settings, then trainings from elsewhere.
        seen: scores.
        believed: rungs to which trials are on their way: they change what is uncertain, not what is expected.
        n: how many of the points may be trained on.
        c: constants.
        in_common: what each two of the points have in common, as ``kinship.common`` has it.
    """
    all_of = [np.concatenate([getattr(seen, k), getattr(believed, k)]) for k in ("trial", "level", "fraction")]
    trial, level, fraction = all_of[0].astype(int), all_of[1], all_of[2]
    n_seen = len(seen.trial)
    targets = np.arange(n)
    at_end = targets, np.zeros(n), np.zeros(n)
    hypotheses = _hypotheses(c, known=bool(points.elsewhere.any()))
    prior = _kernel(points, at_end, at_end, c, hypotheses[0])
    same_level = (level[:, None] == level[None]) * LEVEL_VARIANCE
    same_trial = c.trial_noise**2 * remembered(fraction, fraction, in_common[np.ix_(trial, trial)], c.own_memory)
    epoch_noise = c.noise**2 * (1 - 2 * fraction)
    mine = remembered(fraction, np.zeros(n), in_common[np.ix_(trial, targets)], c.own_memory)
    alike = remembered(np.zeros(n), np.zeros(n), in_common[:n, :n], c.own_memory)
    means, explained, evidence, louder = list[Floats](), list[Floats](), list[float](), list[float]()
    seen_at = trial, fraction, points.moved_at(trial, fraction, c)
    for h in hypotheses:
        there = _moved(points, h.shift / c.length)
        k = _kernel(there, seen_at, seen_at, c, h)
        towards = _kernel(there, seen_at, at_end, c, h)
        for loud in c.louder:
            full = k + same_level + same_trial * loud**2
            full[np.diag_indices(len(full))] += epoch_noise * max(1.0, loud / 2) ** 2
            own = towards + mine * c.own * (c.trial_noise * loud) ** 2
            lower = np.linalg.cholesky(full[:n_seen, :n_seen])
            residual = _solved(lower, seen.value - points.mean[trial[:n_seen]])
            log_evidence = -0.5 * residual @ residual - np.log(np.diag(lower)).sum()
            log_evidence -= 0.5 * (math.log(loud) / LOUDER_SD) ** 2
            v = _solved(lower, own[:n_seen])
            means.append(points.mean[:n] + v.T @ residual)
            explained.append(v if len(full) == n_seen else _solved(np.linalg.cholesky(full), own))
            evidence.append(float(log_evidence) + h.odds)
            louder.append(loud)
    weights = np.exp(np.array(evidence) - max(evidence))
    weights /= weights.sum()
    keep = np.flatnonzero(weights > 1e-4 * weights.max())
    weights = weights[keep] / weights[keep].sum()
    mean: Floats = np.einsum("h,hn->n", weights, np.array([means[i] for i in keep]))
    noise = c.trial_noise * float(sum(w * louder[i] for w, i in zip(weights, keep, strict=True)))
    return Posterior(
        mean,
        weights,
        tuple(means[i] for i in keep),
        tuple(explained[i] for i in keep),
        prior,
        tuple(c.own * (c.trial_noise * louder[i]) ** 2 for i in keep),
        alike,
        noise,
    )


def _hypotheses(c: Constants, *, known: bool) -> list[_Hypothesis]:
    """Return all that may hold; of other studies only where something is ``known`` from them.

    A study that another one resembles in all but where its best rate lies is the common case: where only "as there" and
    "not at all" can be said, a prior that is two octaves off is believed for too long.
    """
    there = [(1.0, shift, -0.5 * (shift / c.study_shift_sd) ** 2) for shift in c.study_shifts] + [(0.0, 0.0, 0.0)]
    lasts = [(c.shared, c.memory, 0.0), (c.shared_little, c.memory_little, math.log(c.odds_little))]
    return [
        _Hypothesis(drift, shared, memory, holds, shift, -0.5 * (drift / c.drift_sd) ** 2 + odds + odds_there)
        for drift, (holds, shift, odds_there), (shared, memory, odds) in product(
            c.drifts, there if known else [(1.0, 0.0, 0.0)], lasts
        )
    ]


def _moved(points: Points, by: float) -> Points:
    """Return the points with the rates of trainings from elsewhere moved, in units of the first feature."""
    if not by:
        return points
    x = points.x.copy()
    x[points.elsewhere, 0] += by
    return replace(points, x=x)


def _kernel(
    points: Points,
    of: tuple[Ints, Floats, Floats],
    to: tuple[Ints, Floats, Floats],
    c: Constants,
    h: _Hypothesis,
) -> Floats:
    """Return covariances of scores, `[len(of), len(to)]`, levels and noise apart.

    Scores are told by their trial, the fraction trained, and what ``Points.moved_at`` says of both.
    """
    (a, fraction_a, rate_a), (b, fraction_b, rate_b) = of, to
    xa, xb = points.x[a].copy(), points.x[b].copy()
    xa[:, 0] += (rate_a - h.drift * fraction_a) / c.length
    xb[:, 0] += (rate_b - h.drift * fraction_b) / c.length
    square = (xa**2).sum(1)[:, None] + (xb**2).sum(1)[None] - 2 * xa @ xb.T
    distance = np.sqrt(np.maximum(square, 0) * 5)
    alike = (1 + distance + distance * distance / 3) * np.exp(-distance)  # Matern, 5/2
    apart = np.abs(fraction_a[:, None] - fraction_b[None]) * math.log(10) / h.memory
    remembered = h.shared + (1 - h.shared) * np.exp(-apart)
    same_optimizer = points.optimizer[a][:, None] == points.optimizer[b][None]
    same_study = points.elsewhere[a][:, None] == points.elsewhere[b][None]
    out: Floats = c.amplitude**2 * alike * remembered * np.where(same_optimizer, 1.0, c.other_optimizer)
    return out * np.where(same_study, 1.0, c.other_study * h.holds)


def _solved(lower: Floats, right: Floats) -> Floats:
    out: Floats = np.asarray(np.linalg.solve(lower, right), np.float64)
    return out

"""What trials say about the best learning rate elsewhere: at another batch size, number of epochs or of images.

One curve of shortfall against learning rate is taken to hold at every scale, shifted along the log-lr axis by an
exponent times the log of the scale. The exponent is that by which the trials of each scale are best foretold by those
of the others; neither the curve's shape nor its place is assumed. See docs/decisions/0042.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lrsearch.analysis.precision import tolerance
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import StudySpec
from lrsearch.trial import OptimizerName, Role, State, Trial

Numbers = NDArray[np.float64]

BANDWIDTH = 0.2
"""Of the kernel that smooths a curve along the learning rate [decades]."""
EXPONENTS = np.linspace(-1.5, 2.0, 71)
"""Those that are tried."""
DRAWS = 200
"""Of the weights of the trials, for the intervals."""
LEVEL = 0.9
LEAST_TRIALS = 6
"""At a scale, diverged ones included."""
LEAST_COMPLETE = 4
"""Of them those that were trained through."""
LEAST_SEARCHED = 40
"""Trials in all where a search chose their rates, at random and mostly elsewhere: with fewer the interval is too narrow
(tests/test_transfer.py). Rates that are evenly apart need no more than ``LEAST_TRIALS`` at a scale."""
DEEPEST = 4.0
"""Standard errors below the best of its scale beyond which a trial is simply bad: the curve is cut off there."""
NEAR = 0.5
"""Standard errors above the lowest point of the curve up to which learning rates are called the best."""
WIDEST = 8.0
"""Times that the interval of the predicted learning rate may span before it is called no evidence."""
FARTHEST = 2.0
"""Times the measured span of scales, in logarithms, by which may be extrapolated."""


class Scaling(StrEnum):
    """What changes between here and there."""

    BATCH_SIZE = "batch_size"
    EPOCHS = "epochs"
    IMAGES = "images"

    @property
    def words(self) -> str:
        """As one says it of a number."""
        return {"batch_size": "batch size", "epochs": "epochs", "images": "training images"}[self.value]


def scale_of(scaling: Scaling, spec: StudySpec, trial: Trial) -> int:
    """Return where on the axis a trial stands."""
    match scaling:
        case Scaling.BATCH_SIZE:
            return trial.config.batch_size
        case Scaling.EPOCHS:
            return trial.config.epochs
        case Scaling.IMAGES:
            return spec.facts.n_train


@dataclass(frozen=True, slots=True)
class Sample:
    """A training that counts as evidence."""

    scale: int
    lr: float
    short: float
    """How far below the best of its scale, as a part of what is cut off [0..1]; 1 of a diverged one."""
    complete: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the interval that holds it with a probability of ``LEVEL``."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AtScale:
    """What was measured at one scale."""

    scale: int
    n_trials: int
    n_complete: int
    best_lr: float | None
    """Of the best trial there; None where none was trained through."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How the best learning rate moves with the scale, and where it is at the target."""

    exponent: Estimate
    """Of ``lr ~ scale ** exponent``."""
    lr: Estimate
    """At the target."""


@dataclass(frozen=True, slots=True)
class NamedRule:
    """A learning rate that a rule of the literature gives, from that at the base scale."""

    name: str
    exponent: float
    lr: float
    source: str
    usual: bool
    """Whether it is the one for this kind of optimizer."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What is known of the best learning rate of one optimizer at the target."""

    scaling: Scaling
    target: int
    optimizer: OptimizerName
    measured: tuple[AtScale, ...]
    """By scale."""
    base: AtScale
    """The measured scale that is nearest to the target, from which rules start."""
    rules: tuple[NamedRule, ...]
    shift: Shift | None
    """None where there is not enough evidence."""
    lacking: str
    """What is lacking then, as a clause; else empty."""


def samples(studies: Sequence[tuple[StudySpec, Sequence[Trial]]], scaling: Scaling, optimizer: str) -> list[Sample]:
    """Return what counts as evidence: trials that were trained through, and those whose rate made them diverge.

    A pruned trial has no final value, and is none. Each is held against the best of its scale, so that what a scale
    does to the accuracy itself is left out.
    """
    found: dict[int, list[tuple[float, float | None]]] = {}
    metric = studies[0][0].metric
    for spec, trials in studies:
        for trial in trials:
            config, end = trial.config, trial.outcome
            if config.optimizer.name != optimizer or end is None or trial.role == Role.RANGE_TEST:
                continue
            value = None
            if trial.state == State.COMPLETE and end.value is not None and math.isfinite(end.value):
                value = end.value
            elif not (trial.state == State.DIVERGED and end.reason.blames_the_rate):
                continue
            found.setdefault(scale_of(scaling, spec, trial), []).append((config.optimizer.peak_lr, value))
    out = []
    near = tolerance(studies[0][0])
    for scale, rows in sorted(found.items()):
        values = [value for _, value in rows if value is not None]
        if not values:
            out += [Sample(scale, lr, 1.0, complete=False) for lr, _ in rows]
            continue
        best = max(values) if metric.maximize else min(values)
        depth = DEEPEST * max(near.width(best), 1e-12)
        out += [
            Sample(scale, lr, 1.0 if value is None else min(1.0, abs(best - value) / depth), complete=value is not None)
            for lr, value in rows
        ]
    return out


def elsewhere(
    studies: Sequence[tuple[StudySpec, Sequence[Trial]]],
    scaling: Scaling,
    optimizer: str,
    target: int,
    *,
    evenly: bool = False,
) -> Elsewhere | None:
    """Return what the trials of one or several studies say about the best learning rate at the target.

    Args:
        studies: that differ in nothing but the scale, each with its trials.
        scaling: what changes.
        optimizer: whose learning rate is meant.
        target: the batch size, number of epochs or of training images that is asked about.
        evenly: whether the trials were run to measure it, at rates evenly apart.

    Returns:
        None where no trial of the optimizer was trained through.
    """
    points = samples(studies, scaling, optimizer)
    measured = tuple(_at(scale, points) for scale in sorted({point.scale for point in points}))
    known = [one for one in measured if one.best_lr is not None]
    if not known:
        return None
    others = [one for one in known if one.scale != target] or known
    base = min(others, key=lambda one: (abs(math.log(one.scale / target)), -one.n_complete))
    lacking = _lacking(measured, scaling, target, 0 if evenly else LEAST_SEARCHED)
    shift = None
    if not lacking:
        enough = {one.scale for one in measured if _is_enough(one)}
        beyond = scaling == Scaling.BATCH_SIZE and target > max(enough)
        shift, lacking = _shift([point for point in points if point.scale in enough], target, levels_off=beyond)
    assert base.best_lr is not None
    rules = _rules(scaling, optimizer, base.best_lr, target / base.scale)
    return Elsewhere(scaling, target, optimizer, measured, base, rules, shift, lacking)


def _at(scale: int, points: Sequence[Sample]) -> AtScale:
    mine = [point for point in points if point.scale == scale]
    complete = [point for point in mine if point.complete]
    best = min(complete, key=lambda point: point.short, default=None)
    return AtScale(scale, len(mine), len(complete), None if best is None else best.lr)


def _is_enough(one: AtScale) -> bool:
    return one.n_trials >= LEAST_TRIALS and one.n_complete >= LEAST_COMPLETE


def _lacking(measured: Sequence[AtScale], scaling: Scaling, target: int, least: int) -> str:
    enough = [one.scale for one in measured if _is_enough(one)]
    need = f"{LEAST_TRIALS} trials ({LEAST_COMPLETE} of them trained through)"
    if len(enough) < 2:
        there = ", ".join(f"{one.n_trials} at {one.scale}" for one in measured)
        return f"it takes {need} at each of two numbers of {_plural(scaling)}, and {there} is all there is"
    n = sum(one.n_trials for one in measured if one.scale in enough)
    if n < least:
        return f"it takes {least} trials of a search in all, and there are {n}; --measure runs the few that settle it"
    return "" if is_near(target, enough) else too_far(target, enough, scaling)


def is_near(target: int, measured: Sequence[int]) -> bool:
    """Whether a target lies at most ``FARTHEST`` times the span of what is measured beyond it."""
    span = math.log(max(measured) / min(measured))
    beyond = max(math.log(target / max(measured)), math.log(min(measured) / target))
    return beyond <= FARTHEST * span + 1e-9


def too_far(target: int, measured: Sequence[int], scaling: Scaling) -> str:
    """Say that it does not."""
    return (
        f"{target} lies too far beyond the {_plural(scaling)} that are measured, {min(measured)} to {max(measured)}: "
        f"more than {FARTHEST:g} times their span"
    )


def _plural(scaling: Scaling) -> str:
    return {"batch_size": "images a batch", "epochs": "epochs", "images": "training images"}[scaling.value]


def _shift(points: Sequence[Sample], target: int, *, levels_off: bool) -> tuple[Shift | None, str]:
    """Fit the exponent and the best rate at the target; return why that says nothing, where it does not.

    With ``levels_off`` the best rate may stop growing at the largest scale that was measured, as it does above some
    batch size that nobody knows before: power law and standstill then count the same.

    Source: McCandlish et al. 2018, arXiv 1812.06162; Shallue et al. 2019, arXiv 1811.03600.
    """
    lr = np.log10([point.lr for point in points])
    # Seen from the target, the curve needs no shift there.
    scale = np.log10([point.scale / target for point in points])
    short = np.array([point.short for point in points])
    other = scale[:, None] != scale[None, :]
    # Trials are weighed at random, as Bayes' bootstrap has it: drawn with repetition they would foretell themselves.
    weights = np.random.default_rng(0).exponential(size=(DRAWS + 1, len(points)))
    weights[0] = 1.0
    errors = np.stack([_error(lr - a * scale, other, short, weights) for a in EXPONENTS])
    exponents = EXPONENTS[errors.argmin(axis=0)]
    lowest = [_lowest(lr - a * scale, short, w) for a, w in zip(exponents, weights, strict=True)]
    place = np.array([at for at, _ in lowest])
    still = place + exponents * scale.max() if levels_off else place
    middle = (place[:1] + still[:1]) / 2
    rates = 10.0 ** np.concatenate([middle, place[1:], still[1:]])
    shift = Shift(_estimate(exponents), _estimate(rates))
    if shift.exponent.value in (EXPONENTS[0], EXPONENTS[-1]):
        return None, (
            f"no exponent from {EXPONENTS[0]:g} to {EXPONENTS[-1]:g} fits: the best learning rates lie too far apart "
            "to be one curve shifted"
        )
    if lowest[0][1]:
        return None, "the best learning rates lie at the edge of those that were tried: widen their range"
    if shift.lr.high > WIDEST * shift.lr.low:
        return None, (
            f"the trials leave the learning rate there open from {shift.lr.low:.2g} to {shift.lr.high:.2g}, and the "
            f"exponent from {shift.exponent.low:.2f} to {shift.exponent.high:.2f}"
        )
    return shift, ""


def _kernel(apart: Numbers) -> Numbers:
    return np.exp(-0.5 * np.square(apart / BANDWIDTH))


def _error(place: Numbers, other: NDArray[np.bool_], short: Numbers, weights: Numbers) -> Numbers:
    """Return how badly trials are foretold by those of other scales, for each row of weights, `[n_draws]`.

    Where no trial of another scale is near, the mean of all stands for the forecast.
    """
    kernel = _kernel(place[:, None] - place[None, :]) * other
    faint = 0.1  # of one trial: the pull of the mean
    mean = (weights @ short / weights.sum(axis=1))[:, None]
    foretold = (weights * short @ kernel + faint * mean) / (weights @ kernel + faint)
    return np.asarray((weights * np.square(short - foretold)).sum(axis=1), dtype=np.float64)


def _lowest(place: Numbers, short: Numbers, weights: Numbers) -> tuple[float, bool]:
    """Return the middle of the best places [decades], and whether they touch the end of what was tried."""
    grid = np.linspace(place.min(), place.max(), 161)
    near = _kernel(grid[:, None] - place[None, :]) * weights
    mass = near.sum(axis=1)
    curve = np.where(mass > 0.5 * weights.mean(), near @ short / np.maximum(mass, 1e-12), np.inf)
    at = int(curve.argmin())
    good = curve <= curve[at] + NEAR / DEEPEST
    low = high = at
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(grid) - 1 and good[high + 1]:
        high += 1
    return float((grid[low] + grid[high]) / 2), low == 0 or high == len(grid) - 1


def _estimate(draws: Numbers) -> Estimate:
    """Return the first, of equal weights, with the interval of the others."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws[1:], [tail, 1 - tail])
    value = float(draws[0])
    return Estimate(value, min(float(low), value), max(float(high), value))


def _rules(scaling: Scaling, optimizer: str, base: float, ratio: float) -> tuple[NamedRule, ...]:
    same = NamedRule("unchanged", 0.0, base, "", usual=scaling != Scaling.BATCH_SIZE)
    if scaling != Scaling.BATCH_SIZE:
        return (same,)
    adaptive = OPTIMIZERS[optimizer].adaptive
    root = "Malladi et al. 2022, arXiv 2205.10287" if adaptive else "Krizhevsky 2014, arXiv 1404.5997"
    return (
        NamedRule("linear", 1.0, base * ratio, "Goyal et al. 2017, arXiv 1706.02677", usual=not adaptive),
        NamedRule("square root", 0.5, base * math.sqrt(ratio), root, usual=adaptive),
        same,
    )

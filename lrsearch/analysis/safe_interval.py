"""How far one may stray from the best learning rate: the safe interval of an optimizer, and the zones around it.

Each trial is one answer to one question: did it end close enough to the best? Two edges on the logarithmic axis explain
the answers: below the lower one a learning rate is too low, above the upper one too high; a third edge says where
trainings begin to diverge. Edges are soft, other settings of a trial may have spoilt it wherever it lies, and a larger
batch may move all edges upwards. How well each place of the edges explains the trials is computed on a grid, and what
is said of a learning rate is the mean over all places, weighted so (Bayes' rule with even priors).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lrsearch.analysis.evidence import Evidence, Floats, Kind, evidence, holds
from lrsearch.analysis.precision import tolerance
from lrsearch.analysis.ranking import best
from lrsearch.spec.bounds import ENOUGH_COMPLETE, ENOUGH_FINISHED
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial

ERRORS = 2 * math.sqrt(2)
"""Standard errors of the best score that a training inside may end below it: two of a difference, because both have
theirs, and the best of many had luck besides."""
LEAST_POINTS = 0.01
"""What it may end below it at least, of a share of images: nobody minds less."""
PROBABILITY = 0.05
"""Of divergence, at most, inside."""
CERTAINTY_BELOW = 0.55
"""Of being between the edges, at least, at the lower end of the interval; inside it is higher."""
CERTAINTY_ABOVE = 0.75
"""Likewise at the upper end, beyond which things get worse faster."""
OUTSIDE = 0.75
"""Of being beyond an edge, at least, in the zones that are called too low and unstable."""

ENOUGH_GOOD = 3
"""Trials close enough to the best, that among them, below which there is no interval."""

NARROWEST = 0.25
"""Width below which an interval is none [octaves]."""

STEP = 0.5
"""Between two places of an edge [octaves]."""
BEYOND = 3.0
"""How far beyond the trials an edge is looked for [octaves]."""
FINE = 8
"""Learning rates in an octave at which zones may begin."""
SOFTNESS = (0.2, 0.5, 1.0)
"""How far from an edge three of four trials lie on their side of it, over ln 3 [octaves]."""
SPOILT = (0.02, 0.1, 0.25, 0.5)
"""Trials between the edges that other settings have spoilt [parts of all]."""
BATCH_EXPONENTS = (0.0, 0.5, 1.0)
"""By which power of the batch size edges move: not at all, the square root (Krizhevsky 2014), in proportion (Goyal et
al. 2017)."""
HOLDS = (0.0, 1.0, 2.0)
"""How much lower the upper edge lies of a schedule that holds its rate to the end [octaves]: nothing settles there."""
STRAY = 0.005
"""Trainings that diverge whatever the rate [parts of all]."""


class ZoneKind(StrEnum):
    """What learning rates of a zone do."""

    TOO_LOW = "too low"
    GOOD = "good"
    UNSTABLE = "unstable"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class Zone:
    """Neighbouring learning rates of one kind, with the trials that lie there."""

    kind: ZoneKind
    low: float
    """The learning rate where it begins; at the end of the axis that where trials begin."""
    high: float
    n: int
    """Trials there that ended as complete, pruned or diverged."""
    n_good: int
    """Of them close enough to the best; those that were pruned by their scores at that epoch."""
    n_short: int
    """Too far from it, likewise."""
    n_pruned: int
    """Of the short ones those that were pruned."""
    n_diverged: int


@dataclass(frozen=True, slots=True)
class SafeInterval:
    """The learning rates that end close to the best and seldom diverge, and what lies around them."""

    distance: float | None
    """How far from the best a training inside may end, in the study's metric; None where none was trained through."""
    floor: float | None
    """What a training inside therefore comes to at least (at most, of a loss)."""
    probability: float
    """Of divergence, at most, inside."""
    low: float | None
    """None where there is no interval; ``why_none`` says why."""
    high: float | None
    centre: float | None
    """The learning rate that is equally many octaves from both ends: the robust choice."""
    octaves: float | None
    """Its width: how often a learning rate doubles from one end to the other."""
    open_low: bool
    """Whether no trial below it ended badly, so that it may well be wider."""
    open_high: bool
    """Likewise above it."""
    why_none: str
    zones: tuple[Zone, ...]
    """By learning rate, lowest first; what lies between two of them is not known. Without an interval at most that from
    which on every trial diverged."""

    def zone(self, kind: ZoneKind) -> Zone | None:
        """Return the zone of a kind, or None where there is none."""
        return next((one for one in self.zones if one.kind == kind), None)


def allowed_distance(spec: StudySpec, score: float) -> float:
    """Return how far from the best ``score`` a safe learning rate may end.

    Two standard errors of a difference of shares of images, and a point at least; of another metric so many times what
    is close.
    """
    distance = ERRORS * tolerance(spec).width(score)
    return max(distance, LEAST_POINTS) if spec.metric.is_share else distance


def safe_interval(trials: Sequence[Trial], spec: StudySpec) -> SafeInterval:
    """Return the safe interval of one optimizer, whose finished trials these are, each setting and seed once.

    It is that of the best trial's other settings: those of the others are allowed to have spoilt their trials.
    """
    top = best(trials, spec.metric.direction)
    if top is None or top.outcome is None or top.outcome.value is None:
        return _none(evidence(trials, spec, math.nan, math.nan), "no trial was trained through", None, None)
    value = top.outcome.value
    distance = allowed_distance(spec, value)
    floor = value - distance if spec.metric.maximize else value + distance
    seen = evidence(trials, spec, floor, distance)
    if tolerance(spec).is_guess(value):
        return _none(seen, "the best trial is no better than a guess", distance, floor)
    have = {
        "finished": (len(seen.x), ENOUGH_FINISHED),
        "complete": (int(np.sum(seen.complete)), ENOUGH_COMPLETE),
        "close to the best": (int(np.sum(seen.kind == Kind.GOOD)), ENOUGH_GOOD),
    }
    for what, (n, needed) in have.items():
        if n < needed:
            return _none(seen, f"{n} {what}, {needed} are needed", distance, floor)
    if seen.x[-1] - seen.x[0] < NARROWEST:
        several = f"learning rates within {NARROWEST:g} octaves were"
        which = "one learning rate was" if seen.x[-1] == seen.x[0] else several
        return _none(seen, f"only {which} tried", distance, floor)
    return _found(seen, top, distance, floor)


def _none(seen: Evidence, why: str, distance: float | None, floor: float | None) -> SafeInterval:
    others = np.flatnonzero(seen.kind != Kind.DIVERGED)
    # A learning rate that was tried twice, and once did not diverge, is none from which on every trial did.
    above = seen.x > seen.x[others[-1]] if len(others) else np.ones(len(seen.x), bool)
    zones = (_zone(seen, ZoneKind.DIVERGED, float(seen.x[above][0]), float(seen.x[-1])),) if above.any() else ()
    return SafeInterval(
        distance,
        floor,
        PROBABILITY,
        low=None,
        high=None,
        centre=None,
        octaves=None,
        open_low=False,
        open_high=False,
        why_none=why,
        zones=zones,
    )


def _found(seen: Evidence, top: Trial, distance: float, floor: float) -> SafeInterval:
    moved, held = seen.batch - math.log2(top.config.batch_size), seen.holds - holds(top)
    first, last = float(seen.x[0]), float(seen.x[-1])
    at = np.linspace(first, last, max(math.ceil((last - first) * FINE), 1) + 1)
    too_low, between = _between_edges(seen, moved, held, at)
    diverging = _diverging(seen, moved, at)
    above_middle = np.arange(len(at)) > np.argmax(between)
    inside = (between >= np.where(above_middle, CERTAINTY_ABOVE, CERTAINTY_BELOW)) & (diverging <= PROBABILITY)
    begin, end = _longest(inside)
    low, high = float(at[begin]), float(at[end])
    if high - low < NARROWEST:
        return _none(seen, "good and bad learning rates lie too close together", distance, floor)
    bad_ones = seen.x[(seen.kind == Kind.SHORT) | (seen.kind == Kind.DIVERGED)]
    # Where nothing ended badly a rate is bad by the priors alone, which is no reason to call it so.
    open_low, open_high = not np.any(bad_ones < low), not np.any(bad_ones > high)
    marks: list[tuple[ZoneKind, float, float]] = []
    below = at[:begin][too_low[:begin] >= OUTSIDE]
    if len(below) and not open_low:
        marks.append((ZoneKind.TOO_LOW, first, float(below[-1])))
    marks.append((ZoneKind.GOOD, low, high))
    if not open_high:
        marks += _above(at[end + 1 :], between[end + 1 :], diverging[end + 1 :])
    zones = tuple(_zone(seen, *mark) for mark in marks)
    return SafeInterval(
        distance,
        floor,
        PROBABILITY,
        low=2**low,
        high=2**high,
        centre=2 ** ((low + high) / 2),
        octaves=high - low,
        open_low=open_low,
        open_high=open_high,
        why_none="",
        zones=zones,
    )


def _above(at: Floats, between: Floats, diverging: Floats) -> list[tuple[ZoneKind, float, float]]:
    """Return the zones above the safe interval, given how probably each rate there is safe, and how it diverges."""
    marks: list[tuple[ZoneKind, float, float]] = []
    broken = at[diverging >= 0.5]
    until = float(broken[0] if len(broken) else at[-1])
    unstable = at[((1 - between >= OUTSIDE) | (diverging > PROBABILITY)) & (at < until)]
    if len(unstable):
        marks.append((ZoneKind.UNSTABLE, float(unstable[0]), until))
    if len(broken):
        marks.append((ZoneKind.DIVERGED, until, float(at[-1])))
    return marks


def _between_edges(seen: Evidence, moved: Floats, held: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Return how probably each learning rate is below the lower edge, and how probably between the edges.

    For every pair of edges, softness, part that is spoilt, exponent of the batch size and lower edge of schedules that
    hold their rate the probability of what was seen is computed; the answers are their means, weighted by it.

    Args:
        seen: the trials.
        moved: how much larger the batch of each is than that which is asked about [octaves].
        held: 1 where its schedule holds the rate and that which is asked about does not, -1 the other way, else 0.
        at: the learning rates that are asked about [octaves].
    """
    places = np.arange(seen.x[0] - BEYOND, seen.x[-1] + BEYOND + STEP, STEP)
    lower, upper = (places[index] for index in np.triu_indices(len(places), 1))
    weights, below, inside = [], [], []
    for exponent, hold in product(BATCH_EXPONENTS, HOLDS):
        x = seen.x - exponent * moved
        for softness in SOFTNESS:
            over_lower = _sigmoid((x - lower[:, None]) / softness)
            under_upper = _sigmoid((upper[:, None] - x - hold * held) / softness)
            for spoilt in SPOILT:
                good = (1 - spoilt) * over_lower * under_upper
                # Nothing diverges for a learning rate that is too low.
                stays = (1 - spoilt) * under_upper
                as_good = seen.sure * good + (1 - seen.sure) * (1 - good)
                as_short = seen.sure * (1 - good) + (1 - seen.sure) * good
                told = np.choose(seen.kind, (as_good, as_short, 1 - stays, np.ones_like(good)))
                weights.append(np.log(np.maximum(told, 1e-300)).sum(axis=1))
            reach_lower = _sigmoid((at - lower[:, None]) / softness)
            below.append(1 - reach_lower)
            inside.append(reach_lower * _sigmoid((upper[:, None] - at) / softness))
    shape = (len(BATCH_EXPONENTS) * len(HOLDS) * len(SOFTNESS), len(SPOILT), len(lower))
    weight = np.exp(np.array(weights) - np.max(weights)).reshape(shape).sum(axis=1)
    weight /= weight.sum()
    return np.einsum("ap,apx->x", weight, np.array(below)), np.einsum("ap,apx->x", weight, np.array(inside))


def _diverging(seen: Evidence, moved: Floats, at: Floats) -> Floats:
    """Return how probably a training diverges at each learning rate, by the same rule with one edge."""
    places = np.arange(seen.x[0] - BEYOND, seen.x[-1] + 2 * BEYOND + STEP, STEP)[:, None]
    broke = seen.kind == Kind.DIVERGED
    known = broke | seen.stayed
    weights, diverging = [], []
    for exponent in BATCH_EXPONENTS:
        x = (seen.x - exponent * moved)[known]
        for softness in SOFTNESS:
            over = STRAY + (1 - STRAY) * _sigmoid((x - places) / softness)
            told = np.where(broke[known], over, 1 - over)
            weights.append(np.log(np.maximum(told, 1e-300)).sum(axis=1))
            diverging.append(STRAY + (1 - STRAY) * _sigmoid((at - places) / softness))
    weight = np.exp(np.array(weights) - np.max(weights))
    mean: Floats = np.einsum("ap,apx->x", weight / weight.sum(), np.array(diverging))
    return mean


def _sigmoid(z: Floats) -> Floats:
    found: Floats = 0.5 * (1 + np.tanh(0.5 * z))
    return found


def _longest(inside: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first and the last index of the longest run of true values; 0 and 0 where there is none."""
    if not inside.any():
        return 0, 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], inside, [False])).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2] - 1
    index = int(np.argmax(ends - begins))
    return int(begins[index]), int(ends[index])


def _zone(seen: Evidence, kind: ZoneKind, low: float, high: float) -> Zone:
    there = (seen.x >= low - 1e-9) & (seen.x <= high + 1e-9)
    short = there & (seen.kind == Kind.SHORT)
    return Zone(
        kind,
        2**low,
        2**high,
        n=int(there.sum()),
        n_good=int((there & (seen.kind == Kind.GOOD)).sum()),
        n_short=int(short.sum()),
        n_pruned=int((short & seen.pruned).sum()),
        n_diverged=int((there & (seen.kind == Kind.DIVERGED)).sum()),
    )

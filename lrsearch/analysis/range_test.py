"""What a range test says: from the losses of sweeps to learning rates between which a search is worth its trainings.

A sweep raises the learning rate exponentially, so that its losses stay at their start, fall, and climb back. Three
rates are read off each, and over several seeds each has an interval:

* *lowest useful*: from there on most of the descent is made. Below it a training learns, but more slowly than it could.
* *steepest*: where the loss falls most per octave.
* *divergence*: where the loss is back at its start, so that all that was learned is lost.

They bound a search and are never its answer: the best rate of a whole training, with its schedule, lies between them.
Source of the sweep: Smith 2017, arXiv 1506.01186; the rules are judged in docs/benchmarks.md.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.text import counted
from lrsearch.trial import N_START, OptimizerName, RangeTest

DESCENT = 0.85
"""Part of the descent that has been made at the lowest useful rate."""
AT_ONCE = 0.25
"""Part of the descent that is made in the first updates where it has begun before them."""
LOST = 0.5
"""Part of the descent that is lost again, for good, from the edge of divergence on."""
LEAST_DESCENT = 0.1
"""Part of the start by which the loss must fall to have learned anything."""
NOISE = 3.0
"""Times its scatter by which it must."""
LEAST_SEEDS = 3
"""Sweeps that must show a rate before anything is bounded by it."""
DISAGREE_OCTAVES = 3.0
"""Between two seeds, from which on they contradict each other."""
LEAST_OCTAVES = 1.0
"""Between lowest useful and divergence: less is no descent that anybody could search in."""


@dataclass(frozen=True, slots=True)
class SweepReading:
    """What one sweep shows; None where it does not show it."""

    lowest_useful: float | None
    steepest: float | None
    divergence: float | None
    learned: bool
    """Whether its loss fell at all."""

    @property
    def falls_at_once(self) -> bool:
        """Whether its loss fell from the first updates on, so that lower rates may be useful too."""
        return self.learned and self.lowest_useful is None


@dataclass(frozen=True, slots=True)
class Spread:
    """A learning rate over several seeds: the middle one, the smallest and the largest."""

    value: float
    low: float
    high: float
    n: int
    """Sweeps that show it."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Between which learning rates to search: those of all seeds, rounded outward to two digits."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What the sweeps of one optimizer say together."""

    name: OptimizerName
    lowest_useful: Spread | None
    steepest: Spread | None
    divergence: Spread | None
    suggestion: Suggestion | None
    why_none: str
    """Why there is no suggestion, in a sentence without its stop; empty where there is one."""
    n_sweeps: int
    n_updates: int
    """Of all sweeps together."""
    seconds: float
    """Likewise [seconds]."""


def smoothed(rates: Sequence[float], losses: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the running median of losses over an octave of learning rate, ``[n]``; what is no number is infinite.

    A median, because a spike that recovers is no divergence, and how large a loss explodes says nothing.
    """
    finite = np.nan_to_num(np.asarray(losses, dtype=np.float64), nan=np.inf, posinf=np.inf, neginf=np.inf)
    half = per_octave(rates) // 2
    padded = np.pad(finite, half, mode="edge")
    # The mean of the two middle ones of an even window would make infinities of what half of them are not.
    found: npt.NDArray[np.float64] = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return found


def per_octave(rates: Sequence[float]) -> int:
    """Return the updates in which the learning rate doubles, 2 or more."""
    return max(2, round((len(rates) - 1) * math.log(2) / math.log(rates[-1] / rates[0])))


def read(sweep: RangeTest) -> SweepReading:
    """Return what one sweep shows."""
    nothing = SweepReading(None, None, None, learned=False)
    if len(sweep.losses) <= N_START:
        return nothing
    losses, octave = smoothed(sweep.rates, sweep.losses), per_octave(sweep.rates)
    start, least = sweep.start, int(np.argmin(losses))
    descent = start - float(losses[least])
    rough = np.abs(np.diff(np.asarray(sweep.losses[: least + 1])))
    scatter = float(np.median(rough)) / math.sqrt(2) / 0.6745 if len(rough) else math.inf
    if not (math.isfinite(start) and descent > max(LEAST_DESCENT * start, NOISE * scatter)):
        return nothing
    made = int(np.argmax(losses <= start - DESCENT * descent))
    begins = float(losses[0] - losses[N_START]) < AT_ONCE * descent
    falls = losses[: least + 1 - octave] - losses[octave : least + 1]
    steepest = None if not len(falls) else sweep.rates[int(np.argmax(falls)) + octave // 2]
    kept = np.flatnonzero(losses < start - LOST * descent)
    return SweepReading(
        lowest_useful=sweep.rates[made] if begins and made >= octave else None,
        steepest=steepest,
        divergence=sweep.rates[int(kept[-1]) + 1] if kept[-1] + 1 < len(losses) else None,
        learned=True,
    )


def findings(sweeps: Sequence[RangeTest]) -> tuple[Finding, ...]:
    """Return what the sweeps say, an optimizer each, in their order."""
    names = dict.fromkeys(sweep.optimizer for sweep in sweeps)
    return tuple(_finding(name, [sweep for sweep in sweeps if sweep.optimizer == name]) for name in names)


def _finding(name: OptimizerName, sweeps: Sequence[RangeTest]) -> Finding:
    readings = [read(sweep) for sweep in sweeps]
    low, steepest, edge = (
        _spread(getattr(reading, what) for reading in readings) for what in ("lowest_useful", "steepest", "divergence")
    )
    why = _why_none(sweeps, readings, low, edge)
    suggestion = None
    if not why:
        assert low is not None
        assert edge is not None
        suggestion = Suggestion(outward(low.low, up=False), outward(edge.high, up=True))
    updates, seconds = sum(len(sweep.losses) for sweep in sweeps), sum(sweep.seconds for sweep in sweeps)
    return Finding(name, low, steepest, edge, suggestion, why, len(sweeps), updates, seconds)


def _spread(values: Iterable[float | None]) -> Spread | None:
    there = [value for value in values if value is not None]
    return Spread(median(there), min(there), max(there), len(there)) if there else None


def _why_none(
    sweeps: Sequence[RangeTest], readings: Sequence[SweepReading], low: Spread | None, edge: Spread | None
) -> str:
    """Return why nothing is bounded by these sweeps, or nothing."""
    n = len(readings)
    if n < LEAST_SEEDS:
        return f"{counted(n, 'sweep')} cannot tell how far seeds differ: a suggestion takes {LEAST_SEEDS} or more"
    begins, ends = min(sweep.rates[0] for sweep in sweeps), max(sweep.rates[-1] for sweep in sweeps)
    learned = sum(reading.learned for reading in readings)
    if learned < LEAST_SEEDS:
        return f"the loss fell clearly in {learned} of {n} sweeps only: too few updates, or too little to learn in them"
    if low is None or low.n < LEAST_SEEDS:
        return f"the loss falls from the first updates on: rates below {begins:.3g} may be useful too"
    if edge is None or edge.n < LEAST_SEEDS:
        return f"the loss has not climbed back at {ends:.3g}: no rate up to there is known to be too high"
    for what, spread in (("the lowest useful rate", low), ("the edge of divergence", edge)):
        if math.log2(spread.high / spread.low) > DISAGREE_OCTAVES:
            return f"the seeds disagree on {what}, from {spread.low:.3g} to {spread.high:.3g}"
    if math.log2(edge.value / low.value) < LEAST_OCTAVES:
        return (
            f"the loss climbs back where it has just fallen, from {edge.value:.3g} on: there is less than an octave "
            f"between the lowest useful rate and the edge of divergence"
        )
    if not OPTIMIZERS[sweeps[0].optimizer].sweep_finds_edge:
        return f"whole trainings with {sweeps[0].optimizer} bear rates at which its sweeps have lost their descent"
    return ""


def outward(rate: float, *, up: bool) -> float:
    """Return a learning rate > 0 to two digits, rounded away from what it bounds.

    >>> outward(0.0123, up=False), outward(0.0123, up=True), outward(0.3, up=True)
    (0.012, 0.013, 0.3)
    """
    exponent = math.floor(math.log10(rate)) - 1
    digits = rate / 10.0**exponent
    whole = math.ceil(digits - 1e-9) if up else math.floor(digits + 1e-9)
    return float(f"{whole}e{exponent}")

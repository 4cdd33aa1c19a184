"""How far the learning rates of a search reach: its ends, whether the best trial lies there, and how they move.

All of it is a function of the trials that have ended, so that every worker that knows the same trials finds the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard, TypeVar

from pydantic import BaseModel

from lrsearch.domain import Choice, Domain, Fixed, Range, high_end, low_end
from lrsearch.spec.space import SearchSpace
from lrsearch.trial import OptimizerName

TOUCH = 0.05
"""Part of the axis (logarithmic where the range is) that counts as its edge."""

WIDER = 10.0
"""Times a logarithmic edge is moved."""

HIGHEST = 1e6
"""A learning rate above it is no study (see lrsearch.spec.optimizers)."""
LOWEST = 1e-30
"""One below it moves no weight of float32."""

ENOUGH_FINISHED = 5
"""Complete, pruned and diverged trials of an optimizer below which nothing is said of its range."""
ENOUGH_COMPLETE = 2
"""Complete ones likewise."""
ENOUGH_DIVERGED = 2
"""Trials, all of them diverged, from which on the range is said to begin too high."""

Side = Literal["lower", "upper"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What one trial that has ended says about where its learning rate lies."""

    lr: float
    value: float | None
    """The objective, of a complete one; None of any other."""
    diverged: bool
    """Whether its learning rate was too high for it."""


def touched(domain: Domain, low: float, high: float) -> tuple[Side, ...]:
    """Return the edges of ``domain`` that the learning rates from ``low`` to ``high`` touch.

    >>> space = Range(1e-3, 1.0, log=True)
    >>> touched(space, 0.01, 0.1), touched(space, 0.0012, 0.1), touched(space, 0.1, 0.8)
    ((), ('lower',), ('upper',))
    """
    if isinstance(domain, Fixed):
        return ()
    bottom, top = low_end(domain), high_end(domain)
    margin_low, margin_high = bottom, top
    if isinstance(domain, Range):
        if domain.log:
            step = TOUCH * math.log(top / bottom)
            margin_low, margin_high = bottom * math.exp(step), top * math.exp(-step)
        else:
            step = TOUCH * (top - bottom)
            margin_low, margin_high = bottom + step, top - step
    found: list[Side] = []
    if low <= margin_low:
        found.append("lower")
    if high >= margin_high:
        found.append("upper")
    return tuple(found)


def open_sides(domain: Domain, tried: Iterable[Tried], *, maximize: bool) -> tuple[Side, ...]:
    """Return the edges of ``domain`` beyond which better learning rates may lie.

    The best of these trials lies there, or one that is as good, and none with a rate above it has diverged, which would
    be evidence; or all of them have diverged.

    >>> rows = [Tried(lr, accuracy, diverged=False) for lr, accuracy in ((0.1, 0.5), (0.2, 0.6), (0.9, 0.7))]
    >>> space = Range(1e-3, 1.0, log=True)
    >>> open_sides(space, rows, maximize=True), open_sides(space, [*rows, *rows], maximize=True)
    ((), ('upper',))
    """
    walk = _EdgeWalk(maximize=maximize)
    for one in tried:
        walk.add(one)
    return walk.open_sides(domain)


class _EdgeWalk:
    """What trials say about the edges, one after the other."""

    def __init__(self, *, maximize: bool) -> None:
        self._maximize = maximize
        self.n_finished = self.n_complete = self.n_diverged = 0
        self._best: float | None = None
        self._lowest_best = self._highest_best = math.nan
        """Learning rates of the trials whose value is the best."""
        self._highest_diverged = -math.inf

    def add(self, one: Tried) -> None:
        """Take note of a trial."""
        self.n_finished += 1
        self.n_diverged += one.diverged
        if one.diverged:
            self._highest_diverged = max(self._highest_diverged, one.lr)
        if one.value is not None and math.isfinite(one.value):
            self.n_complete += 1
            if self._best is None or self._beats(one.value, self._best):
                self._best, self._lowest_best, self._highest_best = one.value, one.lr, one.lr
            elif one.value == self._best:
                self._lowest_best = min(self._lowest_best, one.lr)
                self._highest_best = max(self._highest_best, one.lr)

    def _beats(self, value: float, other: float) -> bool:
        return value > other if self._maximize else value < other

    def open_sides(self, domain: Domain) -> tuple[Side, ...]:
        """Return the edges beyond which better learning rates may lie."""
        if self.n_diverged == self.n_finished:
            return ("lower",) if self.n_finished >= ENOUGH_DIVERGED else ()
        if self.n_finished < ENOUGH_FINISHED or self.n_complete < ENOUGH_COMPLETE:
            return ()
        sides = touched(domain, self._lowest_best, self._highest_best)
        return tuple(side for side in sides if side == "lower" or self._highest_diverged < self._highest_best)


def has_room(domain: Domain, side: Side) -> bool:
    """Whether there are learning rates beyond an edge."""
    return low_end(domain) / WIDER >= LOWEST if side == "lower" else high_end(domain) < HIGHEST


def widened(domain: Domain, side: Side) -> Domain:
    """Return the domain with one edge moved outwards, where there is room.

    >>> widened(Range(0.01, 1.0, log=True), "upper")
    Range(low=0.01, high=10.0, log=True, step=None, integer=False)
    """
    match domain:
        case Fixed(value=only):
            rate = float(only)
            low, high = (rate / WIDER, rate) if side == "lower" else (rate, min(rate * WIDER, HIGHEST))
            return Range(low, high, log=True)
        case Choice(values=values):
            rates = sorted(float(v) for v in values)
            ratio = min(rates[1] / rates[0] if side == "lower" else rates[-1] / rates[-2], WIDER)
            beyond = rates[0] / ratio if side == "lower" else min(rates[-1] * ratio, HIGHEST)
            return Choice((beyond, *rates) if side == "lower" else (*rates, beyond))
        case Range(low=low, high=high, log=log, step=step):
            if log:
                low, high = (low / WIDER, high) if side == "lower" else (low, min(high * WIDER, HIGHEST))
            elif side == "upper":
                high = min(2 * high - low, HIGHEST)
            elif step is None:
                low = max(2 * low - high, low / WIDER)  # a learning rate stays above 0,
            else:
                low -= step * min(math.ceil(low / step) - 1, round((high - low) / step))  # and a grid on its points
            return Range(low, high, log=log, step=step)


def moves(domain: Domain) -> TypeGuard[Range]:
    """Whether the edges of a domain may move within a study: those of a range that is not a grid.

    It alone may differ between two trials of a study of Optuna.
    """
    return isinstance(domain, Range) and domain.step is None


def extended(domain: Domain, tried: Sequence[Tried], *, maximize: bool) -> Domain:
    """Return the range of learning rates as the trials that have ended, in that order, have widened it.

    After every one of them an edge at which the best lies moves outwards, never beyond ``LOWEST`` and ``HIGHEST``, and
    none moves back. Of those that all diverged every fifth moves the lower edge.

    >>> rows = [Tried(0.9, 0.5 + lr, diverged=False) for lr in (0.1, 0.2, 0.3, 0.2, 0.1)]
    >>> extended(Range(1e-3, 1.0, log=True), rows, maximize=True).high
    10.0
    """
    if not moves(domain):
        return domain
    wide, walk = domain, _EdgeWalk(maximize=maximize)
    for one in tried:
        walk.add(one)
        sides = walk.open_sides(wide)
        if walk.n_diverged == walk.n_finished and walk.n_finished % ENOUGH_FINISHED:
            sides = ()
        for side in sides:
            moved = widened(wide, side) if has_room(wide, side) else wide
            assert isinstance(moved, Range)
            wide = moved
    return wide


def extended_space(
    space: SearchSpace, tried: Mapping[OptimizerName, Sequence[Tried]], *, maximize: bool
) -> SearchSpace:
    """Return the space with the learning rates of its optimizers as their trials have widened them, where it may be."""
    if not space.auto_extend:
        return space
    domains = {
        name: extended(fields["peak_lr"], tried.get(name, ()), maximize=maximize)
        for name, fields in space.optimizers.items()
    }
    return with_rates(space, domains)


def space_that_holds(space: SearchSpace, rates: Mapping[OptimizerName, Iterable[float]]) -> SearchSpace:
    """Return a space that widens as wide as these learning rates of its trials; itself where it holds them."""
    if not space.auto_extend:
        return space
    domains = {
        name: _that_holds(space.optimizers[name]["peak_lr"], list(found))
        for name, found in rates.items()
        if name in space.optimizers
    }
    return with_rates(space, domains)


def _that_holds(domain: Domain, rates: Sequence[float]) -> Domain:
    if not rates or not moves(domain):
        return domain
    return Range(min(domain.low, *rates), max(domain.high, *rates), log=domain.log)


def with_rates(space: SearchSpace, domains: Mapping[OptimizerName, Domain]) -> SearchSpace:
    """Return the space with these learning rates of some of its optimizers; itself where they are its own."""
    known = space.optimizers
    changed = {name: domain for name, domain in domains.items() if domain != known[name]["peak_lr"]}
    if not changed:
        return space
    tables = {name: _copy(getattr(space.optimizer, name), peak_lr=domain) for name, domain in changed.items()}
    return _copy(space, optimizer=_copy(space.optimizer, **tables))


Model = TypeVar("Model", bound=BaseModel)


def _copy(model: Model, **update: object) -> Model:
    return model.model_copy(update=update)

"""Learning-rate schedules as pure functions: a schedule and a number of updates give an array of factors.

The learning rate of update t is ``peak_lr * factors(schedule, n_steps)[t]``. Nothing here has state, so a schedule is
resumed, plotted and exported exactly. The formula of every family is in ``lrsearch.shapes``.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar, assert_never

import numpy as np

from lrsearch import shapes
from lrsearch.errors import StudyFileError, nearest
from lrsearch.shapes import Factors, round_half_up
from lrsearch.trial import ScheduleConfig, ScheduleFamily

__all__ = ["SHAPE_FIELDS", "Factors", "describe", "factors", "validate", "warmup_steps"]

T = TypeVar("T")

SHAPE_FIELDS: Final[Mapping[ScheduleFamily, tuple[str, ...]]] = MappingProxyType(
    {
        "constant": (),
        "step": ("final_fraction", "drops"),
        "multistep": ("final_fraction", "milestones"),
        "exponential": ("final_fraction",),
        "linear": ("final_fraction",),
        "cosine": ("final_fraction",),
        "polynomial": ("final_fraction", "power"),
        "inverse_sqrt": ("final_fraction",),
        "one_cycle": ("final_fraction", "rise_fraction", "initial_fraction"),
        "triangular": ("final_fraction", "cycles"),
        "warm_restarts": ("final_fraction", "cycles", "cycle_mult"),
        "wsd": ("final_fraction", "decay_fraction"),
        "plateau": ("final_fraction", "drop_factor", "patience_epochs"),
    }
)
"""The fields of ScheduleConfig that each family takes, and needs, beside ``family`` and ``warmup_fraction``."""


def factors(schedule: ScheduleConfig, n_steps: int) -> Factors:
    """Return what the peak learning rate is multiplied by at each update, `[n_steps]`, each in 0..1.

    ``factor(t) = shape(0) (t + 1) / W`` for t < W, the ``warmup_steps``, then ``shape(t - W)``. With t + 1 the first
    update learns. The ramp ends at the first factor of the shape, so that one_cycle and triangular, which start low,
    follow it without a jump; for all other families that factor is exactly 1 and the largest.

    >>> factors(ScheduleConfig("linear", warmup_fraction=0.5, final_fraction=0.0), 8).tolist()
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]

    Raises: StudyFileError for a schedule that ``validate`` refuses, ValueError for ``n_steps`` < 1.
    Source: Goyal et al. 2017, arXiv 1706.02677 (gradual warm-up); torch LinearLR(start_factor=1/W, total_iters=W-1).
    """
    validate(schedule)
    warmup = warmup_steps(schedule, n_steps)
    shape = _shape(schedule, n_steps - warmup, n_steps)
    ramp = np.arange(1, warmup + 1) / max(warmup, 1)
    return np.concatenate([shape[0] * ramp, shape])


def warmup_steps(schedule: ScheduleConfig, n_steps: int) -> int:
    """Return W, the updates of warm-up: ``warmup_fraction * n_steps``, a half rounded up, at most ``n_steps - 1``.

    >>> [warmup_steps(ScheduleConfig("constant", warmup_fraction=0.25), n) for n in (1, 2, 5, 6, 8)]
    [0, 1, 1, 2, 2]

    Raises: ValueError for ``n_steps`` < 1.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be 1 or more, got {n_steps}")
    return min(round_half_up(schedule.warmup_fraction * n_steps), n_steps - 1)


def _shape(schedule: ScheduleConfig, shape_steps: int, n_steps: int) -> Factors:
    """Return the factors of the ``shape_steps`` updates after warm-up, `[shape_steps]`; the schedule is valid."""
    final = schedule.final_fraction or 0.0  # None for constant only, which does not look at it
    match schedule.family:
        case "constant":
            return shapes.constant(shape_steps)
        case "step":
            return shapes.step(shape_steps, final, _given(schedule.drops))
        case "multistep":
            return shapes.multistep(shape_steps, final, _given(schedule.milestones))
        case "exponential":
            return shapes.exponential(shape_steps, final)
        case "linear":
            return shapes.linear(shape_steps, final)
        case "cosine":
            return shapes.cosine(shape_steps, final)
        case "polynomial":
            return shapes.polynomial(shape_steps, final, _given(schedule.power))
        case "inverse_sqrt":
            return shapes.inverse_sqrt(shape_steps, final)
        case "one_cycle":
            rise, initial = _given(schedule.rise_fraction), _given(schedule.initial_fraction)
            return shapes.one_cycle(shape_steps, final, rise, initial)
        case "triangular":
            return shapes.triangular(shape_steps, final, _given(schedule.cycles))
        case "warm_restarts":
            return shapes.warm_restarts(shape_steps, final, _given(schedule.cycles), _given(schedule.cycle_mult))
        case "wsd":
            # Of all updates, as warmup_fraction is; a long warm-up leaves less than that to decay in.
            decay_steps = max(round_half_up(_given(schedule.decay_fraction) * n_steps), 1)
            return shapes.wsd(shape_steps, final, min(decay_steps, shape_steps))
        case "plateau":
            return shapes.plateau(shape_steps)
        case _ as unknown:
            assert_never(unknown)


class _Rule(NamedTuple):
    """What a field must be: the words that follow "must be", the types it may have, the test of a value so typed."""

    words: str
    kinds: tuple[type, ...]
    holds: Callable[[Any], bool]


_NUMBER = (int, float)
# Beyond this a count is a slip of the keyboard, and its product with the number of updates might overflow.
_MOST = 1000

_COUNT = _Rule(f"a whole number from 1 to {_MOST}", (int,), lambda value: 1 <= value <= _MOST)
_POSITIVE = _Rule("above 0 and at most 1", _NUMBER, lambda value: 0 < value <= 1)
_INSIDE = _Rule("above 0 and below 1", _NUMBER, lambda value: 0 < value < 1)
_MILESTONES = _Rule(
    "a tuple of rising fractions, all above 0 and below 1",
    (tuple,),
    lambda value: (
        len(value) > 0
        and all(isinstance(milestone, _NUMBER) and 0 < milestone < 1 for milestone in value)
        and all(early < late for early, late in pairwise(value))
    ),
)
_RULES: Final[Mapping[str, _Rule]] = MappingProxyType(
    {
        "warmup_fraction": _Rule("at least 0 and below 1", _NUMBER, lambda value: 0 <= value < 1),
        "final_fraction": _Rule("at least 0 and at most 1", _NUMBER, lambda value: 0 <= value <= 1),
        "drops": _COUNT,
        "milestones": _MILESTONES,
        "power": _Rule("above 0 and finite", _NUMBER, lambda value: 0 < value <= sys.float_info.max),
        "rise_fraction": _INSIDE,
        "initial_fraction": _POSITIVE,
        "cycles": _COUNT,
        "cycle_mult": _COUNT,
        "decay_fraction": _POSITIVE,
        "drop_factor": _INSIDE,
        "patience_epochs": _Rule("a whole number, 0 or more", (int,), lambda value: value >= 0),
    }
)
# Equal factors never multiply to zero, a root never grows to infinity, and one_cycle would waste its last update.
_NEVER_ZERO: Final = frozenset({"step", "multistep", "exponential", "inverse_sqrt", "one_cycle"})


def validate(schedule: ScheduleConfig) -> None:
    """Refuse a schedule with a field that its family does not take, or lacks, or that is out of range.

    Raises: StudyFileError, one sentence with what must hold and what came.
    """
    family = schedule.family
    if family not in SHAPE_FIELDS:
        hint = nearest(str(family), tuple(SHAPE_FIELDS))
        raise StudyFileError(f"the family of a schedule must be one of {', '.join(SHAPE_FIELDS)}, got {family!r}{hint}")
    takes = ("warmup_fraction", *SHAPE_FIELDS[family])
    for name in (field.name for field in fields(schedule) if field.name != "family"):
        value = getattr(schedule, name)
        if name not in takes:
            if value is not None:
                raise StudyFileError(f"schedule '{family}' takes only {', '.join(takes)}; got {name} = {value!r}")
            continue
        rule = _POSITIVE if name == "final_fraction" and family in _NEVER_ZERO else _RULES[name]
        if value is None:
            raise StudyFileError(f"schedule '{family}' needs {name} ({rule.words}), got none")
        if isinstance(value, bool) or not isinstance(value, rule.kinds) or not rule.holds(value):
            raise StudyFileError(f"{name} of schedule '{family}' must be {rule.words}, got {value!r}")


def describe(schedule: ScheduleConfig) -> str:
    """Return the schedule in a few words, numbers to three digits.

    >>> describe(ScheduleConfig("cosine", warmup_fraction=0.05, final_fraction=0.01))
    'cosine to 0.01 of the peak, warm-up 5 %'

    Raises: StudyFileError for a schedule that ``validate`` refuses.
    """
    validate(schedule)
    warmup = f", warm-up {_percent(schedule.warmup_fraction)}" if schedule.warmup_fraction else ""
    return schedule.family.replace("_", " ") + _describe_shape(schedule) + warmup


def _describe_shape(schedule: ScheduleConfig) -> str:
    """Return the words that follow the family's name."""
    final = _of_peak(schedule.final_fraction or 0.0)  # None for constant only, which does not look at it
    match schedule.family:
        case "constant":
            return ""
        case "exponential" | "linear" | "cosine" | "inverse_sqrt":
            return f" to {final}"
        case "step":
            return f" to {final} in {_count(_given(schedule.drops), 'drop')}"
        case "multistep":
            milestones = "/".join(f"{100 * milestone:.3g}" for milestone in _given(schedule.milestones))
            return f" to {final}, drops at {milestones} %"
        case "polynomial":
            return f" of power {_given(schedule.power):.3g} to {final}"
        case "one_cycle":
            rise = _percent(_given(schedule.rise_fraction))
            return f" from {_of_peak(_given(schedule.initial_fraction))} up in {rise}, then down to {final}"
        case "triangular":
            return f" from {final}, {_count(_given(schedule.cycles), 'cycle')}"
        case "warm_restarts":
            mult = _given(schedule.cycle_mult)
            longer = f", each {mult} times as long as the last" if mult > 1 else ""
            return f" to {final}, {_count(_given(schedule.cycles), 'cycle')}{longer}"
        case "wsd":
            return f" to {final} over the last {_percent(_given(schedule.decay_fraction))}"
        case "plateau":
            drop, patience = _given(schedule.drop_factor), _count(_given(schedule.patience_epochs), "epoch")
            return f" to {final}, times {drop:.3g} after more than {patience} without progress"
        case _ as unknown:
            assert_never(unknown)


def _of_peak(fraction: float) -> str:
    return f"{fraction:.3g} of the peak" if fraction else "zero"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _given(value: T | None) -> T:
    assert value is not None, "validate() let a missing field pass"
    return value

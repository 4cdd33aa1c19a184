"""Learning-rate schedules as pure functions: a schedule and a number of updates give an array of factors.

The learning rate of update t is ``peak_lr * factors(schedule, n_steps)[t]``; only plateau lowers it further, by drops
that follow the validation loss. Nothing here has state, so every other schedule is known before the training: it is
resumed, plotted and exported exactly. The formula of every family is in ``lrsearch.shapes``, what else there is to know
of it in ``lrsearch.families``.
"""

import math
from dataclasses import fields
from typing import Any

import numpy as np

from lrsearch import families
from lrsearch.domain import round_half_up
from lrsearch.errors import StudyFileError, nearest
from lrsearch.families import FAMILIES
from lrsearch.shapes import Factors
from lrsearch.trial import ScheduleConfig

__all__ = ["Factors", "comparable_from", "curve", "describe", "factors", "validate", "warmup_steps"]


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
    shape = families.of(schedule).shape(schedule, n_steps - warmup, n_steps)
    ramp = np.arange(1, warmup + 1) / max(warmup, 1)
    return np.concatenate([shape[0] * ramp, shape])


def curve(family: str, n_steps: int, peak_lr: float = 1.0, **settings: object) -> Factors:
    """Return the learning rate at each update, `[n_steps]`, of a schedule that is named by its family.

    What ``settings`` does not name is as in a setting (``"sgd lr=0.1 cosine"``) that does not name it.

    >>> curve("linear", n_steps=5, peak_lr=0.1, warmup_fraction=0.2, final_fraction=0.0).tolist()
    [0.1, 0.1, 0.07500000000000001, 0.05, 0.025]

    Raises: StudyFileError for a family or a setting that is not known, or out of range; for plateau, whose rates depend
    on validation results.
    """
    if family not in FAMILIES:
        raise StudyFileError(
            f"unknown schedule {family!r}{nearest(str(family), FAMILIES)}; known: {', '.join(FAMILIES)}"
        )
    takes = ("warmup_fraction", *FAMILIES[family].takes)
    for name in settings:
        if name not in takes:
            raise StudyFileError(
                f"schedule '{family}' has no {name}{nearest(name, takes)}; it takes {', '.join(takes)}"
            )
    if FAMILIES[family].feedback:
        raise StudyFileError(f"schedule '{family}' drops after validation results that nobody knows before a training")
    given: dict[str, Any] = families.neutral(family) | settings
    return factors(ScheduleConfig(family, **given), n_steps) * peak_lr


def warmup_steps(schedule: ScheduleConfig, n_steps: int) -> int:
    """Return W, the updates of warm-up: ``warmup_fraction * n_steps``, a half rounded up, at most ``n_steps - 1``.

    >>> [warmup_steps(ScheduleConfig("constant", warmup_fraction=0.25), n) for n in (1, 2, 5, 6, 8)]
    [0, 1, 1, 2, 2]

    Raises: ValueError for ``n_steps`` < 1.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be 1 or more, got {n_steps}")
    return min(round_half_up(schedule.warmup_fraction * n_steps), n_steps - 1)


def comparable_from(schedule: ScheduleConfig, epochs: int) -> int:
    """Return the first epoch (1-based, completed) at which a trial may be judged: its rise to the peak is over.

    The rise is the warm-up, and what a family that starts low rises by itself.

    >>> [comparable_from(ScheduleConfig("cosine", warmup_fraction=w, final_fraction=0.0), 10) for w in (0, 0.2, 0.21)]
    [1, 2, 3]
    """
    rises = families.of(schedule).rise
    warmup = schedule.warmup_fraction
    rise = warmup if rises is None else warmup + (1 - warmup) * rises(schedule)
    return max(1, math.ceil(rise * epochs - 1e-9))


def validate(schedule: ScheduleConfig) -> None:
    """Refuse a schedule with a field that its family does not take, or lacks, or that is out of range.

    Raises: StudyFileError, one sentence with what must hold and what came.
    """
    name = schedule.family
    if name not in FAMILIES:
        hint = nearest(str(name), tuple(FAMILIES))
        raise StudyFileError(f"the family of a schedule must be one of {', '.join(FAMILIES)}, got {name!r}{hint}")
    family = FAMILIES[name]
    takes = ("warmup_fraction", *family.takes)
    for key in (one.name for one in fields(schedule) if one.name != "family"):
        value = getattr(schedule, key)
        if key not in takes:
            if value is not None:
                raise StudyFileError(f"schedule '{name}' takes only {', '.join(takes)}; got {key} = {value!r}")
            continue
        rule = family.floor if key == families.FLOOR else families.RULES[key]
        assert rule is not None
        if value is None:
            raise StudyFileError(f"schedule '{name}' needs {key} ({rule.words}), got none")
        if isinstance(value, bool) or not isinstance(value, rule.kinds) or not rule.holds(value):
            raise StudyFileError(f"{key} of schedule '{name}' must be {rule.words}, got {value!r}")


def describe(schedule: ScheduleConfig) -> str:
    """Return the schedule in a few words, numbers to three digits.

    >>> describe(ScheduleConfig("cosine", warmup_fraction=0.05, final_fraction=0.01))
    'cosine to 0.01 of the peak, warm-up 5 %'

    Raises: StudyFileError for a schedule that ``validate`` refuses.
    """
    validate(schedule)
    warmup = f", warm-up {families.percent(schedule.warmup_fraction)}" if schedule.warmup_fraction else ""
    return schedule.family.replace("_", " ") + families.of(schedule).words(schedule) + warmup

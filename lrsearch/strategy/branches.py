"""Which trials share a trunk: where a state is worth keeping, and from whose state a new setting may go on. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

from lrsearch.domain import Choice, Domain, Fixed, Scalar, parse_fractions
from lrsearch.families import FAMILIES
from lrsearch.sharing import shared_epochs
from lrsearch.spec.space import SearchSpace
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import ScheduleConfig, ScheduleFamily, TrialConfig

PARTS = 10
"""Of a training: between two of them a state is kept, so that a branch trains at most a tenth more than it must."""
FIRST = 0.4
"""Part of a training before which none is kept: what branches earlier saves little, most trials do not come so
far, and a state of a large network is hundreds of megabytes."""


def worth_keeping(spec: StudySpec, config: TrialConfig) -> tuple[int, ...]:
    """Return the epochs (1-based, completed) after which the state of a training is worth keeping.

    Between its tenths, as long as some other schedule of the space, with the same warm-up, has had the same learning
    rates. None where the study does not branch, or is trained by a person's own loop, which alone knows what else
    follows from the schedule.
    """
    if spec.strategy is None or not spec.strategy.branching or spec.loop is not None:
        return ()
    last = _longest(spec.space, config, spec.steps_per_epoch(config.batch_size))
    n = min(PARTS, config.epochs)
    return tuple(epoch for i in range(math.ceil(FIRST * n), n) if (epoch := config.epochs * i // n) <= last)


def can_share(spec: StudySpec, curves: Sequence[ScoreCurve], config: TrialConfig) -> tuple[str, int] | None:
    """Return from whose kept state a setting goes on, and after which epoch; None where there is none.

    The latest state that it shares; of equal ones that of the first trial.
    """
    best: tuple[str, int] | None = None
    steps = 0
    for one in curves:
        epochs = [epoch for epoch in one.trunks if best is None or epoch > best[1]]
        if not epochs:
            continue
        steps = steps or spec.steps_per_epoch(config.batch_size)
        shared = min(shared_epochs(one.config, config, steps), config.epochs - 1)
        found = max((epoch for epoch in epochs if epoch <= shared), default=0)
        if found:
            best = (one.slot, found)
    return best


def _longest(space: SearchSpace, config: TrialConfig, steps_per_epoch: int) -> int:
    """Return how many epochs the schedule of the space that leaves a training last has in common with it."""
    others = _others(space, config.schedule)
    return max((shared_epochs(config, replace(config, schedule=one), steps_per_epoch) for one in others), default=0)


@lru_cache(maxsize=64)
def _corners(space: SearchSpace) -> tuple[tuple[ScheduleFamily, tuple[tuple[str, tuple[Scalar, ...]], ...]], ...]:
    """Return the families of a space, each with its parameters and the ends of these."""
    return tuple(
        (family, tuple((name, _ends(domain)) for name, domain in fields.items()))
        for family, fields in space.schedules.items()
    )


def _others(space: SearchSpace, schedule: ScheduleConfig) -> Iterator[ScheduleConfig]:
    """Yield the other schedules at the corners of a space, with the same warm-up.

    What a family shares with another one is most where its drop or decay comes last: at a corner of its own range.
    """
    for family, fields in _corners(space):
        record = FAMILIES[family]
        floors: tuple[float | None, ...] = (None,)
        if record.floor is not None:
            own = () if schedule.final_fraction is None else (schedule.final_fraction,)
            floors = (*own, *(float(end) for end in _ends(space.final_fraction)))
        warmup = schedule.warmup_fraction if record.rise is None else 0.0
        for floor, values in product(floors, product(*(ends for _, ends in fields))):
            shape: dict[str, Any] = dict(zip((name for name, _ in fields), values, strict=True))
            if "milestones" in shape:
                shape["milestones"] = parse_fractions(str(shape["milestones"]))
            one = ScheduleConfig(family, warmup, floor, **shape)
            if one != schedule:
                yield one


def _ends(domain: Domain) -> tuple[Scalar, ...]:
    match domain:
        case Fixed(value=only):
            return (only,)
        case Choice(values=values):
            return values
        case _:
            return (int(domain.low), int(domain.high)) if domain.integer else (domain.low, domain.high)

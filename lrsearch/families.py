"""The schedule families: a record for each, with all that there is to know of it but its code for an export.

The formulas stand in ``lrsearch.shapes``. Whatever asks about a family (the study file, the search space, the pruner,
the charts, the words) reads its record here.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

from lrsearch.domain import Choice, Field, Fixed, Range, fractions, integer, number, round_half_up
from lrsearch.records import Records
from lrsearch.text import counted
from lrsearch.trial import ScheduleConfig

if TYPE_CHECKING:
    from lrsearch.shapes import Factors

T = TypeVar("T")

FLOOR: Final = "final_fraction"

TurnName = Literal["drops to", "restarts", "decay begins"]


class Rule(NamedTuple):
    """What a field must be: the words that follow "must be", the types it may have, the test of a value so typed."""

    words: str
    kinds: tuple[type, ...]
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A way for the learning rate to go after its warm-up."""

    name: str
    shape: "Callable[[ScheduleConfig, int, int], Factors]"
    """From the schedule, the updates after warm-up and all updates to the factors after warm-up, `[shape_steps]`."""
    words: Callable[[ScheduleConfig], str]
    """What follows the family's name in a description; begins with a blank or a comma, or is empty."""
    fields: Mapping[str, Field] = field(default_factory=dict)
    """Of its own: the fields of ScheduleConfig that it takes beside warm-up and floor, and what is searched."""
    floor: Rule | None = None
    """What final_fraction must be; None: the family takes none."""
    rise: Callable[[ScheduleConfig], float] | None = None
    """For one that starts low by itself: the part of the updates after warm-up until the peak. It gets no warm-up."""
    by_factors: bool = False
    """Whether it falls by equal factors, so that a chart of a deep fall has a logarithmic axis."""
    turn: TurnName | None = None
    """What a step is called at which the rate drops, rises again, or begins to fall."""
    feedback: bool = False
    """Whether it follows the validation loss, so that its rates are not known beforehand."""

    @property
    def takes(self) -> tuple[str, ...]:
        """The fields of ScheduleConfig that it takes, and needs, beside ``family`` and ``warmup_fraction``."""
        return (*(() if self.floor is None else (FLOOR,)), *self.fields)


_NUMBER = (int, float)
# Beyond this a count is a slip of the keyboard, and its product with the number of updates might overflow.
_MOST = 1000

_COUNT = Rule(f"a whole number from 1 to {_MOST}", (int,), lambda value: 1 <= value <= _MOST)
_POSITIVE = Rule("above 0 and at most 1", _NUMBER, lambda value: 0 < value <= 1)
_INSIDE = Rule("above 0 and below 1", _NUMBER, lambda value: 0 < value < 1)
_MILESTONES = Rule(
    "a tuple of rising fractions, all above 0 and below 1",
    (tuple,),
    lambda value: (
        len(value) > 0
        and all(isinstance(milestone, _NUMBER) and 0 < milestone < 1 for milestone in value)
        and all(early < late for early, late in pairwise(value))
    ),
)
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "warmup_fraction": Rule("at least 0 and below 1", _NUMBER, lambda value: 0 <= value < 1),
        "drops": _COUNT,
        "milestones": _MILESTONES,
        "power": Rule("above 0 and finite", _NUMBER, lambda value: 0 < value <= sys.float_info.max),
        "rise_fraction": _INSIDE,
        "initial_fraction": _POSITIVE,
        "cycles": _COUNT,
        "cycle_mult": _COUNT,
        "decay_fraction": _POSITIVE,
        "drop_factor": _INSIDE,
        "patience_epochs": Rule("a whole number, 0 or more", (int,), lambda value: value >= 0),
    }
)
"""Of the fields that mean the same in every family."""
NEUTRAL_FLOOR: Final = 1e-3
"""What a setting takes that does not name its floor."""

DOWN_TO_ZERO: Final = Rule("at least 0 and at most 1", _NUMBER, lambda value: 0 <= value <= 1)
ABOVE_ZERO: Final = _POSITIVE
"""Equal factors never multiply to zero, a root never grows to infinity, one_cycle would waste its last update."""


def floor_of(schedule: ScheduleConfig) -> float:
    """Return the floor as a fraction of the peak; 0 where the family takes none."""
    return schedule.final_fraction or 0.0


def _to(schedule: ScheduleConfig) -> str:
    return f" to {of_peak(floor_of(schedule))}"


def of_peak(fraction: float) -> str:
    """Say a fraction of the peak."""
    return f"{fraction:.3g} of the peak" if fraction else "zero"


def percent(fraction: float) -> str:
    """Say a fraction of the training."""
    return f"{100 * fraction:.3g} %"


def given(value: T | None) -> T:
    """Return a field that the family takes."""
    assert value is not None, "validate() let a missing field pass"
    return value


def _multistep_words(schedule: ScheduleConfig) -> str:
    milestones = "/".join(f"{100 * milestone:.3g}" for milestone in given(schedule.milestones))
    return f"{_to(schedule)}, drops at {milestones} %"


def _one_cycle_words(schedule: ScheduleConfig) -> str:
    initial, rise = of_peak(given(schedule.initial_fraction)), percent(given(schedule.rise_fraction))
    return f" from {initial} up in {rise}, then down{_to(schedule)}"


def _warm_restarts_words(schedule: ScheduleConfig) -> str:
    mult = given(schedule.cycle_mult)
    longer = f", each {mult} times as long as the last" if mult > 1 else ""
    return f"{_to(schedule)}, {counted(given(schedule.cycles), 'cycle')}{longer}"


def _plateau_words(schedule: ScheduleConfig) -> str:
    drop, patience = given(schedule.drop_factor), counted(given(schedule.patience_epochs), "epoch")
    return f"{_to(schedule)}, times {drop:.3g} after more than {patience} without progress"


def _decay_steps(schedule: ScheduleConfig, shape_steps: int, n_steps: int) -> int:
    # Of all updates, as warmup_fraction is; a long warm-up leaves less than that to decay in.
    return min(max(round_half_up(given(schedule.decay_fraction) * n_steps), 1), shape_steps)


def curves() -> ModuleType:
    """Return ``lrsearch.shapes``, which loads numpy: only where a curve is computed, not for ``--help``."""
    from lrsearch import shapes

    return shapes


FAMILIES: Final = Records(
    Family(name="constant", shape=lambda _s, n, _all: curves().constant(n), words=lambda _s: ""),
    Family(
        name="step",
        shape=lambda s, n, _all: curves().step(n, floor_of(s), given(s.drops)),
        words=lambda s: f"{_to(s)} in {counted(given(s.drops), 'drop')}",
        fields={"drops": Field(integer(1, 20), Range(1, 4, integer=True), 2)},
        floor=ABOVE_ZERO,
        by_factors=True,
        turn="drops to",
    ),
    Family(
        name="multistep",
        shape=lambda s, n, _all: curves().multistep(n, floor_of(s), given(s.milestones)),
        words=_multistep_words,
        fields={"milestones": Field(fractions(), Choice(("0.5,0.75", "0.6,0.9", "0.3,0.6,0.9")), (0.5, 0.75))},
        floor=ABOVE_ZERO,
        by_factors=True,
        turn="drops to",
    ),
    Family(
        name="exponential",
        shape=lambda s, n, _all: curves().exponential(n, floor_of(s)),
        words=_to,
        floor=ABOVE_ZERO,
        by_factors=True,
    ),
    Family(name="linear", shape=lambda s, n, _all: curves().linear(n, floor_of(s)), words=_to, floor=DOWN_TO_ZERO),
    Family(name="cosine", shape=lambda s, n, _all: curves().cosine(n, floor_of(s)), words=_to, floor=DOWN_TO_ZERO),
    Family(
        name="polynomial",
        shape=lambda s, n, _all: curves().polynomial(n, floor_of(s), given(s.power)),
        words=lambda s: f" of power {given(s.power):.3g}{_to(s)}",
        fields={"power": Field(number(0, 10, low_open=True), Range(0.5, 3.0), 1.0)},
        floor=DOWN_TO_ZERO,
    ),
    Family(
        name="inverse_sqrt",
        shape=lambda s, n, _all: curves().inverse_sqrt(n, floor_of(s)),
        words=_to,
        floor=ABOVE_ZERO,
        by_factors=True,
    ),
    Family(
        # Up, then down below where it began.
        name="one_cycle",
        shape=lambda s, n, _all: curves().one_cycle(n, floor_of(s), given(s.rise_fraction), given(s.initial_fraction)),
        words=_one_cycle_words,
        fields={
            "rise_fraction": Field(number(0, 1, low_open=True, high_open=True), Range(0.1, 0.45), 0.3),
            "initial_fraction": Field(number(0, 1, low_open=True), Fixed(0.04), 0.04),
        },
        floor=ABOVE_ZERO,
        rise=lambda s: s.rise_fraction or 0.0,
    ),
    Family(
        # Up and down in straight lines.
        name="triangular",
        shape=lambda s, n, _all: curves().triangular(n, floor_of(s), given(s.cycles)),
        words=lambda s: f" from {of_peak(floor_of(s))}, {counted(given(s.cycles), 'cycle')}",
        fields={"cycles": Field(integer(1, 100), Range(1, 4, integer=True), 1)},
        floor=DOWN_TO_ZERO,
        rise=lambda s: 1 / (2 * (s.cycles or 1)),
    ),
    Family(
        name="warm_restarts",
        shape=lambda s, n, _all: curves().warm_restarts(n, floor_of(s), given(s.cycles), given(s.cycle_mult)),
        words=_warm_restarts_words,
        fields={
            "cycles": Field(integer(1, 20), Range(1, 3, integer=True), 1),
            "cycle_mult": Field(integer(1, 4), Choice((1, 2)), 1),
        },
        floor=DOWN_TO_ZERO,
        turn="restarts",
    ),
    Family(
        # Stable, then a straight decay at the end.
        name="wsd",
        shape=lambda s, n, every: curves().wsd(n, floor_of(s), _decay_steps(s, n, every)),
        words=lambda s: f"{_to(s)} over the last {percent(given(s.decay_fraction))}",
        fields={"decay_fraction": Field(number(0, 1, low_open=True), Range(0.1, 0.5), 0.2)},
        floor=DOWN_TO_ZERO,
        turn="decay begins",
    ),
    Family(
        # Stable, then half a cosine at the end.
        name="wsd_cosine",
        shape=lambda s, n, every: curves().wsd_cosine(n, floor_of(s), _decay_steps(s, n, every)),
        words=lambda s: f"{_to(s)} over the last {percent(given(s.decay_fraction))}",
        fields={"decay_fraction": Field(number(0, 1, low_open=True), Range(0.1, 0.5), 0.2)},
        floor=DOWN_TO_ZERO,
        turn="decay begins",
    ),
    Family(
        # On the validation loss: how it drops, the engine asks of PyTorch's own scheduler.
        name="plateau",
        shape=lambda _s, n, _all: curves().plateau(n),
        words=_plateau_words,
        fields={
            "drop_factor": Field(number(0, 1, low_open=True, high_open=True), Fixed(0.1), 0.1),
            "patience_epochs": Field(integer(0, 1000), Range(1, 5, integer=True), 2),
        },
        floor=DOWN_TO_ZERO,
        by_factors=True,
        turn="drops to",
        feedback=True,
    ),
)
"""In the order in which they are listed."""


def of(schedule: ScheduleConfig) -> Family:
    """Return the record of a schedule's family."""
    return FAMILIES[schedule.family]


def neutral(family: str) -> dict[str, Any]:
    """Return what a setting of the family takes for the fields that it does not name."""
    record = FAMILIES[family]
    floor = {} if record.floor is None else {FLOOR: NEUTRAL_FLOOR}
    return {**floor, **{name: one.neutral for name, one in record.fields.items()}}

"""The search space of a study file: which optimizers and schedules, and what each of their parameters may be.

A table of the file is a class here and a key is a field, so that defaults, bounds and errors stand in one place.
"""

from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from lrsearch.errors import nearest
from lrsearch.spec.domain import (
    Choice,
    Domain,
    Fixed,
    Range,
    boolean,
    contains,
    fractions,
    high_end,
    integer,
    low_end,
    number,
)
from lrsearch.trial import OptimizerName, ScheduleFamily

OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
SCHEDULES: tuple[ScheduleFamily, ...] = get_args(ScheduleFamily)

SELF_RISING: frozenset[ScheduleFamily] = frozenset({"one_cycle", "triangular"})
"""Families that start low by themselves; the search gives them no warm-up."""

DEFAULT_OPTIMIZERS: tuple[OptimizerName, ...] = ("sgd", "adamw")
DEFAULT_SCHEDULES: tuple[ScheduleFamily, ...] = ("constant", "step", "linear", "cosine", "one_cycle", "wsd")


NEUTRAL_SHAPE: dict[str, Any] = {
    "final_fraction": 1e-3,
    "drops": 2,
    "milestones": (0.5, 0.75),
    "power": 1.0,
    "rise_fraction": 0.3,
    "initial_fraction": 0.04,
    "cycles": 1,
    "cycle_mult": 1,
    "decay_fraction": 0.2,
    "drop_factor": 0.1,
    "patience_epochs": 2,
}
"""What a setting takes for a field of its schedule that it does not name."""

SHORT = {"lr": "peak_lr", "batch": "batch_size", "warmup": "warmup_fraction", "final": "final_fraction"}
"""Words of a setting that may be typed for a field: ``"sgd lr=0.1 cosine warmup=0.05"``."""


class Strict(BaseModel):
    """No unknown key, no coercion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _lr(low: float, high: float) -> Domain:
    return Range(low, high, log=True)


PeakLr = Annotated[Domain, number(0, 1e6, low_open=True, hint="a learning rate is positive")]
WeightDecay = Annotated[Domain, number(0, 1e3)]
Beta = Annotated[Domain, number(0, 1, high_open=True)]
Epsilon = Annotated[Domain, number(0, 1, low_open=True)]


class SgdSpace(Strict):
    """torch.optim.SGD."""

    peak_lr: PeakLr = _lr(1e-3, 3.0)
    momentum: Annotated[Domain, number(0, 1, high_open=True)] = Fixed(0.9)
    dampening: Annotated[Domain, number(0, 1)] = Fixed(0.0)
    nesterov: Annotated[Domain, boolean()] = Fixed(value=False)
    weight_decay: WeightDecay = Fixed(5e-4)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if contains(self.nesterov, True) and (low_end(self.momentum) <= 0 or high_end(self.dampening) > 0):  # noqa: FBT003
            raise ValueError("nesterov = true needs momentum above 0 and dampening = 0 in every trial")
        return self


class AdamSpace(Strict):
    """torch.optim.Adam."""

    peak_lr: PeakLr = _lr(1e-5, 1e-1)
    beta1: Beta = Fixed(0.9)
    beta2: Beta = Fixed(0.999)
    eps: Epsilon = Fixed(1e-8)
    weight_decay: WeightDecay = Fixed(0.0)


class AdamWSpace(Strict):
    """torch.optim.AdamW."""

    peak_lr: PeakLr = _lr(1e-5, 1e-1)
    beta1: Beta = Fixed(0.9)
    beta2: Beta = Fixed(0.999)
    eps: Epsilon = Fixed(1e-8)
    weight_decay: WeightDecay = Fixed(0.01)


class RmspropSpace(Strict):
    """torch.optim.RMSprop."""

    peak_lr: PeakLr = _lr(1e-5, 1e-1)
    alpha: Beta = Fixed(0.99)
    momentum: Annotated[Domain, number(0, 1, high_open=True)] = Fixed(0.0)
    eps: Epsilon = Fixed(1e-8)
    weight_decay: WeightDecay = Fixed(0.0)


class Shapeless(Strict):
    """A family without parameters of its own."""


class StepSpace(Strict):
    """Equal drops at equal distances."""

    drops: Annotated[Domain, integer(1, 20)] = Range(1, 4, integer=True)


class MultistepSpace(Strict):
    """Equal drops at chosen fractions of the training after warm-up."""

    milestones: Annotated[Domain, fractions()] = Choice(("0.5,0.75", "0.6,0.9", "0.3,0.6,0.9"))


class PolynomialSpace(Strict):
    """Decay by a power of what is left."""

    power: Annotated[Domain, number(0, 10, low_open=True)] = Range(0.5, 3.0)


class OneCycleSpace(Strict):
    """Up, then down below where it began (torch's OneCycleLR)."""

    rise_fraction: Annotated[Domain, number(0, 1, low_open=True, high_open=True)] = Range(0.1, 0.45)
    initial_fraction: Annotated[Domain, number(0, 1, low_open=True)] = Fixed(0.04)


class TriangularSpace(Strict):
    """Up and down in straight lines (torch's CyclicLR)."""

    cycles: Annotated[Domain, integer(1, 100)] = Range(1, 4, integer=True)


class WarmRestartsSpace(Strict):
    """Cosine cycles (SGDR)."""

    cycles: Annotated[Domain, integer(1, 20)] = Range(1, 3, integer=True)
    cycle_mult: Annotated[Domain, integer(1, 4)] = Choice((1, 2))


class WsdSpace(Strict):
    """Stable, then a straight decay at the end."""

    decay_fraction: Annotated[Domain, number(0, 1, low_open=True)] = Range(0.1, 0.5)


class PlateauSpace(Strict):
    """torch's ReduceLROnPlateau on the validation loss."""

    drop_factor: Annotated[Domain, number(0, 1, low_open=True, high_open=True)] = Fixed(0.1)
    patience_epochs: Annotated[Domain, integer(0, 1000)] = Range(1, 5, integer=True)


class OptimizerSpace(Strict):
    """The optimizers to choose from; those that are None are not in the search."""

    sgd: SgdSpace | None = None
    adam: AdamSpace | None = None
    adamw: AdamWSpace | None = None
    rmsprop: RmspropSpace | None = None


class ScheduleSpace(Strict):
    """The schedule families to choose from; those that are None are not in the search."""

    constant: Shapeless | None = None
    step: StepSpace | None = None
    multistep: MultistepSpace | None = None
    exponential: Shapeless | None = None
    linear: Shapeless | None = None
    cosine: Shapeless | None = None
    polynomial: PolynomialSpace | None = None
    inverse_sqrt: Shapeless | None = None
    one_cycle: OneCycleSpace | None = None
    triangular: TriangularSpace | None = None
    warm_restarts: WarmRestartsSpace | None = None
    wsd: WsdSpace | None = None
    plateau: PlateauSpace | None = None


def _named(raw: object, known: tuple[str, ...], what: str) -> object:
    """Turn ``"adam"`` and ``["sgd", "adam"]`` into tables of defaults; leave a table as it is."""
    if isinstance(raw, str):
        raw = [raw]
    if not isinstance(raw, list | tuple):
        if isinstance(raw, dict) and not raw:
            raise ValueError(f"must name at least one {what}; known: {', '.join(known)}")
        return raw
    if not raw:
        raise ValueError(f"must name at least one {what}; known: {', '.join(known)}")
    for name in raw:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}{nearest(str(name), known)}; known: {', '.join(known)}")
        if raw.count(name) > 1:
            raise ValueError(f"must not repeat a name, got {name!r} twice")
    return {name: {} for name in raw}


class SearchSpace(Strict):
    """What may vary, and how."""

    NEEDS_POSITIVE_FLOOR: ClassVar[tuple[str, ...]] = ("step", "multistep", "exponential", "inverse_sqrt", "one_cycle")

    batch_size: Annotated[Domain, integer(1, hint="[examples]")] = Choice((32, 64, 128))
    warmup_fraction: Annotated[
        Domain, number(0, 1, high_open=True, hint="warm-up cannot be longer than the training")
    ] = Range(0.0, 0.2)
    final_fraction: Annotated[Domain, number(0, 1)] = Range(1e-3, 0.1, log=True)
    seed: Annotated[Domain, integer(0, 10**9)] | None = None
    """Of a trial; None: that of the study. Several train each setting with each of them."""
    optimizer: OptimizerSpace = OptimizerSpace(sgd=SgdSpace(), adamw=AdamWSpace())
    schedule: ScheduleSpace = ScheduleSpace.model_validate({name: {} for name in DEFAULT_SCHEDULES})

    @field_validator("optimizer", mode="before")
    @classmethod
    def _optimizer_names(cls, raw: object) -> object:
        return _named(raw, OPTIMIZERS, "optimizer")

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule_names(cls, raw: object) -> object:
        return _named(raw, SCHEDULES, "schedule")

    @model_validator(mode="after")
    def _floor(self) -> Self:
        if low_end(self.final_fraction) <= 0:
            for family in self.NEEDS_POSITIVE_FLOOR:
                if family in self.schedules:
                    raise ValueError(
                        f"final_fraction must be above 0 for the schedule '{family}', which never reaches 0, "
                        f"got {low_end(self.final_fraction):g}"
                    )
        return self

    @property
    def optimizers(self) -> dict[OptimizerName, dict[str, Domain]]:
        """The optimizers in the search, each with its parameters."""
        return {n: _fields(getattr(self.optimizer, n)) for n in OPTIMIZERS if getattr(self.optimizer, n) is not None}

    @property
    def schedules(self) -> dict[ScheduleFamily, dict[str, Domain]]:
        """The schedule families in the search, each with its own shape's parameters."""
        return {n: _fields(getattr(self.schedule, n)) for n in SCHEDULES if getattr(self.schedule, n) is not None}


def _fields(table: Strict) -> dict[str, Domain]:
    return {name: getattr(table, name) for name in type(table).model_fields}

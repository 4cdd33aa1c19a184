"""The search space of a study file: which optimizers and schedules, and what each of their parameters may be.

A table of the file is a class here and a key is a field, so that defaults, bounds and errors stand in one place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, create_model, field_validator, model_validator
from pydantic_core import core_schema

from lrsearch.domain import Choice, Domain, Range, integer, low_end, number
from lrsearch.errors import nearest
from lrsearch.families import FAMILIES, Family
from lrsearch.records import Records
from lrsearch.spec.optimizers import OPTIMIZERS, Optimizer
from lrsearch.trial import OptimizerName, ScheduleFamily

DEFAULT_OPTIMIZERS: tuple[OptimizerName, ...] = ("sgd", "adamw")
DEFAULT_SCHEDULES: tuple[ScheduleFamily, ...] = ("constant", "step", "linear", "cosine", "one_cycle", "wsd")

SHORT = {"lr": "peak_lr", "batch": "batch_size", "warmup": "warmup_fraction", "final": "final_fraction"}
"""Words of a setting that may be typed for a field: ``"sgd lr=0.1 cosine warmup=0.05"``."""


class Strict(BaseModel):
    """No unknown key, no coercion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The metadata of a field that is a name: it must be that of a record, or have a form that needs none."""

    records: Records[Any]
    other: Callable[[str], object] = lambda _: None
    """Returns what a name stands for that has no record; None where it stands for nothing."""
    forms: str = ""
    """Those forms, in words."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], core_schema.CoreSchema]
    ) -> core_schema.CoreSchema:
        """Tell pydantic to look the name up first."""
        return core_schema.no_info_before_validator_function(self.known, handler(source))

    def known(self, raw: object) -> object:
        """Return a name that is known.

        Raises:
            ValueError: it is not.
        """
        names = tuple(self.records)
        if raw not in names and not (isinstance(raw, str) and self.other(raw) is not None):
            own = f"; or your own: {self.forms}" if self.forms else ""
            raise ValueError(f"unknown name {raw!r}{nearest(str(raw), names)}; known: {', '.join(names)}{own}")
        return raw


def _fields(table: Strict) -> dict[str, Domain]:
    return {name: getattr(table, name) for name in _names(type(table))}


@cache
def _names(table: type[Strict]) -> tuple[str, ...]:
    return tuple(table.model_fields)


def _table(record: Optimizer | Family) -> type[Strict]:
    """Return the table of a study file that says what the parameters of one optimizer or family may be."""

    def fit_together(table: Strict) -> Strict:
        if isinstance(record, Optimizer) and (wrong := record.check(_fields(table))) is not None:
            raise ValueError(wrong)
        return table

    fields = {key: (Annotated[Domain, field.parameter], field.default) for key, field in record.fields.items()}
    validators: dict[str, Any] = {"fit_together": model_validator(mode="after")(fit_together)}
    made: type[Strict] = create_model(
        f"{type(record).__name__}_{record.name}",
        __base__=Strict,
        __module__=__name__,
        __validators__=validators,
        **cast("dict[str, Any]", fields),
    )
    # A spec goes from process to process by pickle, which finds a class by its name in its module.
    globals()[made.__name__] = made
    return made


def _tables(what: str, records: Records[Any]) -> type[Strict]:
    """Return the table of all tables of a kind; those that are None are not in the search."""
    # From here on a record that is added would have no key in a study file.
    records.close()
    typed: dict[str, Any] = {name: (_table(record) | None, None) for name, record in records.items()}
    return create_model(what, __base__=Strict, __module__=__name__, **typed)


OptimizerSpace = _tables("OptimizerSpace", OPTIMIZERS)
ScheduleSpace = _tables("ScheduleSpace", FAMILIES)


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

    batch_size: Annotated[Domain, integer(1, hint="[examples]")] = Choice((32, 64, 128))
    warmup_fraction: Annotated[
        Domain, number(0, 1, high_open=True, hint="warm-up cannot be longer than the training")
    ] = Range(0.0, 0.2)
    final_fraction: Annotated[Domain, number(0, 1)] = Range(1e-3, 0.1, log=True)
    seed: Annotated[Domain, integer(0, 10**9)] | None = None
    """Of a trial; None: that of the study. Several train each setting with each of them."""
    stem_ratio: Annotated[Domain, number(0, 1, low_open=True)] | None = None
    """Learning rate of the first level of layers over that of the head; searched where training starts from weights."""
    layer_decay: Annotated[Domain, number(0, 1, low_open=True)] | None = None
    """The same said by its step: the learning rate of a level over that of the next."""
    backbone_ratio: Annotated[Domain, number(0, 1, low_open=True)] | None = None
    """Factor upon the learning rates of all levels but the head."""
    auto_extend: bool | None = None
    """Whether a range of learning rates moves outwards where the best trial lies at its edge; None: no."""
    optimizer: OptimizerSpace = OptimizerSpace.model_validate({name: {} for name in DEFAULT_OPTIMIZERS})  # type: ignore[valid-type]
    schedule: ScheduleSpace = ScheduleSpace.model_validate({name: {} for name in DEFAULT_SCHEDULES})  # type: ignore[valid-type]

    @field_validator("optimizer", mode="before")
    @classmethod
    def _optimizer_names(cls, raw: object) -> object:
        return _named(raw, tuple(OPTIMIZERS), "optimizer")

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule_names(cls, raw: object) -> object:
        return _named(raw, tuple(FAMILIES), "schedule")

    @field_validator("auto_extend", mode="before")
    @classmethod
    def _unsaid(cls, raw: object) -> object:
        return None if raw is False else raw  # a study that says no is the same as one that says nothing

    @model_validator(mode="after")
    def _rates_by_layer(self) -> Self:
        if self.stem_ratio is not None and self.layer_decay is not None:
            raise ValueError("stem_ratio and layer_decay both say how rates differ by layer: give one of the two")
        return self

    @model_validator(mode="after")
    def _floor(self) -> Self:
        if low_end(self.final_fraction) <= 0:
            for family in self.schedules:
                floor = FAMILIES[family].floor
                if floor is not None and not floor.holds(0.0):
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
        return {n: _fields(getattr(self.schedule, n)) for n in FAMILIES if getattr(self.schedule, n) is not None}

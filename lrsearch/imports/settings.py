"""The configuration that a row of a table describes: what it says, and what the study says where it does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lrsearch.domain import Choice, Domain, Field, Fixed, closest, integer, number, parse_fractions
from lrsearch.errors import StudyFileError, UsageError, nearest
from lrsearch.families import FAMILIES, FLOOR, NEUTRAL_FLOOR
from lrsearch.imports import columns
from lrsearch.layer_rates import FIELDS as BY_LAYER
from lrsearch.schedules import validate
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.space import SHORT
from lrsearch.spec.study import StudySpec
from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

_BATCH = Field(integer(1), Fixed(64), 64)
_FRACTION = Field(number(0, 1), Fixed(0.0), 0.0)
_WARMUP = Field(number(0, 1, high_open=True), Fixed(0.0), 0.0)
_RATIO = Field(number(0, 1, low_open=True), Fixed(1.0), 1.0)
_SEED = Field(integer(0), Fixed(0), 0)


class RowError(Exception):
    """Why a row cannot be used, in words; it is counted, and the others are used."""


@dataclass(slots=True)
class SettingReader:
    """Reads configurations for a study.

    Args:
        spec: the study.
        headers: of the file.
        keys: which headers say what, as ``columns.found`` has it.
        left_out: what a person says of all rows that do not say it, by key.
    """

    spec: StudySpec
    headers: Sequence[str]
    keys: Mapping[str, Sequence[str]]
    left_out: Mapping[str, str] = field(default_factory=dict)
    supplied: dict[str, set[object]] = field(default_factory=dict)
    """Of what rows do not say, by key: the values that the study, or the neutral setting, gave."""
    _headers: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    def config(self, cells: Mapping[str, str], epochs: int) -> TrialConfig:
        """Return the configuration of a row of so many epochs.

        Raises:
            RowError: a value is missing that the study leaves open, or cannot be.
        """
        optimizer = self._optimizer(cells)
        own = self._fields(cells, OPTIMIZERS[optimizer].fields, self.spec.space.optimizers[optimizer], optimizer)
        schedule = self._schedule(cells, float(own["peak_lr"]), epochs)
        seed = self._value(cells, "seed", _SEED)
        config = TrialConfig(
            OptimizerConfig(optimizer, **own),
            schedule,
            batch_size=self._batch_size(cells),
            epochs=epochs,
            seed=self.spec.seed if seed is None else int(seed),
        )
        by_layer = {name: self._value(cells, name, _RATIO) for name in BY_LAYER}
        return replace(config, **{name: value for name, value in by_layer.items() if value is not None})

    def said(self, cells: Mapping[str, str], key: str, owner: str = "") -> tuple[str, str] | None:
        """Return the header that says a key in this row, and what it says; None where nothing does."""
        if (key, owner) not in self._headers:
            own = columns.suffixed(self.headers, key, [owner]) if owner else {}
            self._headers[key, owner] = (*own.values(), *self.keys.get(key, ()))
        for header in self._headers[key, owner]:
            if header in cells:
                return header, cells[header]
        return ("--setting", self.left_out[key]) if key in self.left_out else None

    def _optimizer(self, cells: Mapping[str, str]) -> str:
        space = self.spec.space.optimizers
        said = self.said(cells, "optimizer")
        if said is None:
            # Optuna's parameters may carry the name of their optimizer, which then need not be one itself.
            named = columns.suffixed(self.headers, "peak_lr", list(space))
            implied = [name for name, header in named.items() if header in cells]
            if len(implied) == 1:
                return implied[0]
            if len(space) == 1:
                return str(self._supplied("optimizer", next(iter(space))))
            raise RowError(f"names no optimizer, and the study has {', '.join(space)}: give --setting OPTIMIZER")
        name = columns.OPTIMIZER_NAMES.get(columns.word(said[1]))
        if name not in space:
            raise RowError(f"has the optimizer '{said[1]}', and the study searches {', '.join(space)}")
        return name

    def _schedule(self, cells: Mapping[str, str], peak_lr: float, epochs: int) -> ScheduleConfig:
        space = self.spec.space
        said = self.said(cells, "schedule")
        if said is None:
            if len(space.schedules) > 1:
                raise RowError(
                    f"names no schedule, and the study has {', '.join(space.schedules)}: give --setting NAME"
                )
            family = self._supplied("schedule", next(iter(space.schedules)))
        else:
            known = columns.SCHEDULE_NAMES.get(columns.word(said[1]))
            if known is None:
                raise RowError(
                    f"has the schedule '{said[1]}'{nearest(said[1], FAMILIES)}; known: {', '.join(FAMILIES)}"
                )
            family = known
        record = FAMILIES[family]
        shape = self._fields(cells, record.fields, space.schedules.get(family, {}), family)
        if "milestones" in shape:
            shape["milestones"] = parse_fractions(shape["milestones"])
        schedule = ScheduleConfig(
            family,
            warmup_fraction=0.0 if record.rise is not None else self._warmup(cells, epochs),
            final_fraction=None if record.floor is None else self._floor(cells, peak_lr),
            **shape,
        )
        try:
            validate(schedule)
        except StudyFileError as error:
            raise RowError(f"has a schedule that cannot be: {error}") from None
        return schedule

    def _warmup(self, cells: Mapping[str, str], epochs: int) -> float:
        value = self._value(cells, "warmup_fraction", _WARMUP)
        if value is None and (said := self.said(cells, "warmup_epochs")) is not None:
            value = _parsed(said[0], repr(_number(said) / epochs), _WARMUP)
        if value is not None:
            return float(value)
        # Programs that warm up say so: what is not said is none, unless the study has but one.
        domain = self.spec.space.warmup_fraction
        return float(self._supplied("warmup_fraction", domain.value if isinstance(domain, Fixed) else 0.0))

    def _floor(self, cells: Mapping[str, str], peak_lr: float) -> float:
        value = self._value(cells, FLOOR, _FRACTION)
        if value is None and (said := self.said(cells, "min_lr")) is not None:
            value = _parsed(said[0], repr(_number(said) / peak_lr), _FRACTION)
        if value is not None:
            return float(value)
        return float(self._supplied(FLOOR, closest(self.spec.space.final_fraction, NEUTRAL_FLOOR)))

    def _batch_size(self, cells: Mapping[str, str]) -> int:
        value, domain = self._value(cells, "batch_size", _BATCH), self.spec.space.batch_size
        if value is not None:
            return int(value)
        if not isinstance(domain, Fixed):
            raise RowError("names no batch size, and the study searches several: give --setting batch=N")
        return int(self._supplied("batch_size", domain.value))

    def _fields(
        self, cells: Mapping[str, str], fields: Mapping[str, Field], searched: Mapping[str, Domain], owner: str
    ) -> dict[str, Any]:
        """Return the parameters of an optimizer or a schedule of a row."""
        out: dict[str, Any] = {}
        for name, one in fields.items():
            value = self._value(cells, name, one, owner)
            if value is None and name == "peak_lr":
                domain = searched[name]
                if not isinstance(domain, Fixed):
                    raise RowError("has no learning rate")
                value = domain.value
            if value is None:
                value = _unsaid(searched.get(name, one.default), one)
                if value != one.torch:
                    self._supplied(name, value)
            out[name] = value
        return out

    def _value(self, cells: Mapping[str, str], key: str, one: Field, owner: str = "") -> Any:
        said = self.said(cells, key, owner)
        return None if said is None else _parsed(*said, one)

    def _supplied(self, key: str, value: Any) -> Any:
        self.supplied.setdefault(key, set()).add(value)
        return value


def left_out(text: str) -> dict[str, str]:
    """Return what ``--setting "sgd cosine batch=64"`` says of rows that do not, by key.

    Raises:
        UsageError: a word of it is no optimizer, no schedule and no key with a value.
    """
    out: dict[str, str] = {}
    for said in text.split():
        key, equals, value = said.partition("=")
        name = SHORT.get(key, key)
        if equals and value and name in columns.ALIASES:
            out[name] = value
        elif not equals and said in OPTIMIZERS:
            out["optimizer"] = said
        elif not equals and said in FAMILIES:
            out["schedule"] = said
        else:
            known = (*OPTIMIZERS, *FAMILIES, *SHORT)
            raise UsageError(
                f"--setting \"{text}\": '{said}' is no optimizer, no schedule and no KEY=VALUE{nearest(key, known)}"
            )
    return out


def _number(said: tuple[str, str]) -> float:
    header, text = said
    try:
        return float(text)
    except ValueError:
        raise RowError(f"has {header} = {text}, which is no number") from None


def _parsed(header: str, text: str, one: Field) -> Any:
    kind, raw = one.parameter.kind, object()
    if kind == "fractions":
        raw = text.strip("[]()").replace(";", ",").replace(" ", "")
    elif kind == "bool":
        raw = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(text.lower(), text)
    else:
        raw = _number((header, text))
    try:
        domain = one.parameter.parse(raw)
    except ValueError as error:
        raise RowError(f"has {header} = {text}, which {error}") from None
    assert isinstance(domain, Fixed)
    return domain.value


def _unsaid(domain: Domain, one: Field) -> Any:
    """Return what a setting takes that does not name a parameter: of its domain what is nearest to the neutral."""
    if isinstance(domain, Choice) and not all(isinstance(value, int | float) for value in domain.values):
        return domain.values[0]
    return closest(domain, one.neutral if isinstance(one.neutral, int | float) else 0.0)

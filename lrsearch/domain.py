"""What a parameter of the search space may be: one value, a list of choices, or a range.

In a study file: ``peak_lr = 0.1`` is fixed, ``batch_size = [32, 64]`` is a choice, and
``peak_lr = { low = 1e-3, high = 1.0, log = true }`` is a range (``step`` for a grid instead of ``log``).
Pure values: no Optuna here, so that a study file is read without it.
"""

import math
import sys
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

from pydantic_core import core_schema

from lrsearch.errors import nearest

Scalar = bool | int | float | str
Kind = Literal["float", "int", "bool", "fractions"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """One value: nothing to search."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Choice:
    """Unordered alternatives, at least two."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """``low`` to ``high``, both included, sampled uniformly or in the logarithm."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False


Domain = Fixed | Choice | Range
MAX_STEPS = 1_000_000
"""Of a range: more of them are no grid, and would be beyond the decimals that count them."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values that make sense at all, whatever the study file asks for."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False
    hint: str = ""

    def check(self, value: float) -> None:
        """Raise ValueError for a value outside."""
        low_ok = value > self.low if self.low_open else value >= self.low
        high_ok = value < self.high if self.high_open else value <= self.high
        if math.isfinite(value) and low_ok and high_ok:
            return
        raise ValueError(f"must be {self}, got {value:g}" + (f" ({self.hint})" if self.hint else ""))

    def __str__(self) -> str:
        """Say it in words: ``> 0``, ``from 0 to below 1``."""
        if math.isinf(self.high):
            return f"{'>' if self.low_open else '>='} {self.low:g}"
        above = "above " if self.low_open else ""
        below = "below " if self.high_open else ""
        return f"from {above}{self.low:g} to {below}{self.high:g}"


def contains(domain: Domain, value: object) -> bool:
    """Whether ``value`` is one that the domain could give."""
    match domain:
        case Fixed(value=only):
            return _same(only, value)
        case Choice(values=values):
            return any(_same(v, value) for v in values)
        case Range():
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            if not domain.low <= value <= domain.high or (domain.integer and value != int(value)):
                return False
            if domain.step is None:
                return True
            n = (value - domain.low) / domain.step
            return abs(n - round(n)) < 1e-8


def closest(domain: Domain, value: float) -> Scalar:
    """Return the value of the domain that is nearest to ``value`` (on the log axis where the range has one)."""
    match domain:
        case Fixed(value=only):
            return only
        case Choice(values=values):
            numbers = [v for v in values if isinstance(v, int | float)]
            return min(numbers, key=lambda v: abs(v - value)) if numbers else values[0]
        case Range(low=low, high=high, step=step, integer=integer):
            inside = min(max(value, low), high)
            if step is not None:
                inside = min(low + round((inside - low) / step) * step, high)
            return round(inside) if integer else inside


def low_end(domain: Domain) -> float:
    """Return the smallest number that the domain can give."""
    match domain:
        case Fixed(value=only):
            return float(only)
        case Choice(values=values):
            return min(float(v) for v in values)
        case Range(low=low):
            return low


def high_end(domain: Domain) -> float:
    """Return the largest number that the domain can give."""
    match domain:
        case Fixed(value=only):
            return float(only)
        case Choice(values=values):
            return max(float(v) for v in values)
        case Range(high=high):
            return high


def to_plain(domain: Domain) -> Any:
    """Return the domain as it stands in a study file."""
    match domain:
        case Fixed(value=only):
            return _plain(only)
        case Choice(values=values):
            return [_plain(v) for v in values]
        case Range(low=low, high=high, log=log, step=step):
            kind = int if domain.integer else float
            out: dict[str, Any] = {"low": kind(low), "high": kind(high)}
            if log:
                out["log"] = True
            if step is not None:
                out["step"] = kind(step)
            return out


def describe(domain: Domain) -> str:
    """Say the domain in words: ``1e-05 to 1 (log)``, ``32 | 64``, ``0.9``."""
    match domain:
        case Fixed(value=only):
            return _word(only)
        case Choice(values=values):
            return " | ".join(_word(v) for v in values)
        case Range(low=low, high=high, log=log, step=step):
            tail = " (log)" if log else f" (step {step:g})" if step is not None else ""
            return f"{low:g} to {high:g}{tail}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """How a domain is read from a study file; the metadata of a field: ``Annotated[Domain, number(0, 1)]``."""

    kind: Kind
    bounds: Bounds

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> core_schema.CoreSchema:
        """Tell pydantic to read with ``parse`` and to write with ``to_plain``."""
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(to_plain)
        )

    def parse(self, raw: object) -> Domain:
        """Return the domain that a value of a study file stands for.

        Raises:
            ValueError: it stands for none, or leaves the bounds.
        """
        return _parse(raw, self.kind, self.bounds)


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter of an optimizer or of a schedule family, as the search knows it."""

    parameter: Parameter
    """What a study file may say."""
    default: Domain
    """What is searched where it says nothing."""
    neutral: Scalar | tuple[float, ...]
    """What a setting takes that does not name it."""
    torch: float | bool | None = None
    """What the class of PyTorch takes when it is not told; None for what is none of its arguments."""


def number(low: float, high: float, *, low_open: bool = False, high_open: bool = False, hint: str = "") -> Parameter:
    """Return how a domain of floats within bounds is read."""
    return Parameter("float", Bounds(low, high, low_open, high_open, hint))


def integer(low: int, high: float = math.inf, *, hint: str = "") -> Parameter:
    """Return how a domain of whole numbers within bounds is read."""
    return Parameter("int", Bounds(low, high, hint=hint))


def boolean() -> Parameter:
    """Return how a domain of true and false is read."""
    return Parameter("bool", Bounds(0, 1))


def fractions() -> Parameter:
    """Return how a domain of lists of increasing fractions is read, each kept as ``"0.5,0.75"``.

    A string because Optuna's categorical choices must be scalars.
    """
    return Parameter("fractions", Bounds(0, 1, low_open=True, high_open=True))


def parse_fractions(text: str) -> tuple[float, ...]:
    """Return the numbers of ``"0.5,0.75"``."""
    return tuple(float(part) for part in text.split(","))


def _parse(raw: object, kind: Kind, bounds: Bounds) -> Domain:
    if isinstance(raw, Fixed | Choice | Range):
        return raw
    if kind == "fractions":
        return _parse_fractions(raw, bounds)
    if isinstance(raw, dict):
        return _parse_range(raw, kind, bounds)
    if isinstance(raw, list | tuple):
        return _choice([_scalar(v, kind, bounds) for v in raw])
    return Fixed(_scalar(raw, kind, bounds))


def _choice(values: list[Scalar]) -> Domain:
    if not values:
        raise ValueError("must name at least one value, got an empty list")
    for i, value in enumerate(values):
        if any(_same(value, v) for v in values[:i]):
            raise ValueError(f"must not repeat a value, got {_word(value)} twice")
    return Fixed(values[0]) if len(values) == 1 else Choice(tuple(values))


def _parse_range(raw: dict[str, object], kind: Kind, bounds: Bounds) -> Range:
    known = ("low", "high", "log", "step")
    for key in raw:
        if key not in known:
            raise ValueError(f"has the unknown key '{key}'{nearest(key, known)}; a range has {', '.join(known)}")
    if "low" not in raw or "high" not in raw:
        raise ValueError(f"is a range and must have low and high, got only {', '.join(raw) or 'nothing'}")
    if kind == "bool":
        raise ValueError("must be true, false or [true, false], got a range")
    low, high = (float(_scalar(raw[k], kind, bounds)) for k in ("low", "high"))
    log, step = raw.get("log", False), raw.get("step")
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, got {log!r}")
    if not low < high:
        raise ValueError(f"low must be below high, got low = {low:g} and high = {high:g}")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range needs low > 0, got low = {low:g}")
    if step is not None:
        if log:
            raise ValueError("a range has log or step, not both")
        return Range(low, high, step=_step(low, high, step, kind), integer=kind == "int")
    return Range(low, high, log, integer=kind == "int")


def _step(low: float, high: float, step: object, kind: Kind) -> float:
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
        raise ValueError(f"step must be a number above 0, got {step!r}")
    if kind == "int" and step != int(step):
        raise ValueError(f"step must be a whole number, got {step!r}")
    # In decimals, as it is written and as Optuna counts: in binary 0.03 - 0.01 is less than 0.02.
    first, span, each = Decimal(repr(low)), Decimal(repr(high)) - Decimal(repr(low)), Decimal(repr(step))
    if not span / MAX_STEPS <= each <= span:
        raise ValueError(f"step must be at most high - low = {span:g} and at least {span / MAX_STEPS:g}, got {each:g}")
    if span % each:
        fits = first + span // each * each
        raise ValueError(f"high - low must be whole steps of {each:g}, got {span:g}; high = {fits:g} fits")
    return float(step)


def _parse_fractions(raw: object, bounds: Bounds) -> Domain:
    if isinstance(raw, list | tuple) and raw and isinstance(raw[0], list | tuple | str):
        return _choice([_fractions(part, bounds) for part in raw])
    return Fixed(_fractions(raw, bounds))


def _fractions(raw: object, bounds: Bounds) -> str:
    if isinstance(raw, str):
        try:
            raw = list(parse_fractions(raw))
        except ValueError:
            raise ValueError(f"must be fractions of the training such as [0.5, 0.75], got {raw!r}") from None
    if not isinstance(raw, list | tuple) or not raw:
        raise ValueError(f"must be a list of fractions such as [0.5, 0.75], or a list of such lists, got {raw!r}")
    values = [float(_scalar(v, "float", bounds)) for v in raw]
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"must increase, got {values}")
    return ",".join(repr(v) for v in values)


def _scalar(raw: object, kind: Kind, bounds: Bounds) -> bool | int | float:
    if kind == "bool":
        if not isinstance(raw, bool):
            raise ValueError(f"must be true or false, got {raw!r}")
        return raw
    what = "a whole number" if kind == "int" else "a number"
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError(f"must be {what}, a list of them, or {{ low = .., high = .. }}, got {raw!r}")
    # TOML's whole numbers have no end; one beyond the floats is as good as infinite.
    most = sys.float_info.max
    value = math.inf if raw > most else -math.inf if raw < -most else float(raw)
    if kind == "int" and not value.is_integer():
        raise ValueError(f"must be {what}, got {value:g}")
    bounds.check(value)
    return int(value) if kind == "int" else value


def _same(a: object, b: object) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _plain(value: Scalar) -> object:
    if isinstance(value, str) and value and (value[0].isdigit() or value[0] == "."):
        return list(parse_fractions(value))
    return value


def _word(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def round_half_up(value: float) -> int:
    """Return the whole number nearest to ``value`` >= 0; of two, the larger.

    >>> [round_half_up(value) for value in (0.49, 0.5, 1.5, 2.5)]
    [0, 1, 2, 3]
    """
    return math.floor(value + 0.5)

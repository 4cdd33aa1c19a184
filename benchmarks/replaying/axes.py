"""A search space flattened into axes, in the terms that the other libraries share, and as a space of ConfigSpace.

A choice is a number from 0 as text, so that no library takes it for a quantity; a range with a step is a whole number
of steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lrsearch.domain import Choice, Domain, Fixed, Range, closest
from lrsearch.spec import parameters
from lrsearch.spec.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter that is not fixed."""

    domain: Choice | Range

    @property
    def categories(self) -> list[str]:
        """The choices as text; empty for a range."""
        return [str(i) for i in range(len(self.domain.values))] if isinstance(self.domain, Choice) else []

    @property
    def bounds(self) -> tuple[float, float]:
        """Both ends of a range, as a library is told them."""
        assert isinstance(self.domain, Range)
        if self.domain.step is None or self.domain.integer:
            return self.domain.low, self.domain.high
        return 0, round((self.domain.high - self.domain.low) / self.domain.step)

    @property
    def integer(self) -> bool:
        """Whether a range holds whole numbers alone, as a library is told them."""
        assert isinstance(self.domain, Range)
        return self.domain.integer or self.domain.step is not None

    @property
    def log(self) -> bool:
        """Whether a range is sampled in the logarithm."""
        return isinstance(self.domain, Range) and self.domain.log

    def value(self, told: Any) -> Any:
        """Return the parameter that a library's value stands for, within its range."""
        if isinstance(self.domain, Choice):
            return self.domain.values[int(told)]
        if self.domain.step is not None and not self.domain.integer:
            return closest(self.domain, self.domain.low + int(told) * self.domain.step)
        return closest(self.domain, int(told) if self.integer else float(told))

    def told(self, value: Any) -> Any:
        """Return what a library calls a parameter's value."""
        if isinstance(self.domain, Choice):
            return str(self.domain.values.index(value))
        if self.domain.step is not None and not self.domain.integer:
            return round((value - self.domain.low) / self.domain.step)
        return closest(self.domain, value)


class Axes:
    """The axes of a search space.

    Args:
        space: of the study.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.named = {name: Axis(d) for name, d in parameters.everything(space).items() if not isinstance(d, Fixed)}

    def params(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Return the setting that a library's values stand for, without what its optimizer and schedule do not have."""
        shared = {name: self._value(domain, name, told) for name, domain in parameters.shared(self._space).items()}
        own = parameters.conditional(self._space, shared["optimizer"], shared["schedule"])
        names = [name for name in (*shared, *own) if name in self.named]
        return {name: self.named[name].value(told[name]) for name in names}

    def told(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return a setting as a library's values, those of the axes that it has."""
        return {name: axis.told(params[name]) for name, axis in self.named.items() if name in params}

    def _value(self, domain: Domain, name: str, told: Mapping[str, Any]) -> Any:
        return domain.value if isinstance(domain, Fixed) else self.named[name].value(told[name])


def conditions(space: SearchSpace) -> dict[str, dict[str, list[str]]]:
    """Return which choices bring an axis that not every setting has: axis -> axis of the choice -> choices as text."""
    axes = Axes(space).named
    always = parameters.shared(space)
    pairs = [(o, s) for o in space.optimizers for s in space.schedules]
    found: dict[str, dict[str, list[str]]] = {}
    for name in axes:
        having = [pair for pair in pairs if name in parameters.conditional(space, *pair)]
        if name in always or len(having) == len(pairs):
            continue
        found[name] = {}
        for i, parent in enumerate(("optimizer", "schedule")):
            bring = {pair[i] for pair in having}
            if bring != {pair[i] for pair in pairs}:
                found[name][parent] = sorted(axes[parent].told(one) for one in bring)
    return found


def config_space(space: SearchSpace, seed: int) -> Any:
    """Return the space as ConfigSpace has it, conditions and all.

    Args:
        space: of the study.
        seed: of what is drawn from it.
    """
    from ConfigSpace import (
        AndConjunction,
        CategoricalHyperparameter,
        ConfigurationSpace,
        InCondition,
        UniformFloatHyperparameter,
        UniformIntegerHyperparameter,
    )

    out = ConfigurationSpace(seed=seed)
    made: dict[str, Any] = {}
    for name, axis in Axes(space).named.items():
        if axis.categories:
            made[name] = CategoricalHyperparameter(name, axis.categories)
        else:
            kind: Callable[..., Any] = UniformIntegerHyperparameter if axis.integer else UniformFloatHyperparameter
            made[name] = kind(name, *axis.bounds, log=axis.log)
    out.add(list(made.values()))
    for name, parents in conditions(space).items():
        some = [InCondition(made[name], made[parent], choices) for parent, choices in parents.items()]
        out.add(some[0] if len(some) == 1 else AndConjunction(*some))
    return out

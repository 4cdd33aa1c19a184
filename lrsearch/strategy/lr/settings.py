"""Settings that the strategy may begin with: the first sweep, and candidates. Pure draws from a search space."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import NormalDist
from typing import Any

import numpy as np

from lrsearch.domain import Choice, Domain, Fixed, Range, closest
from lrsearch.schedules import comparable_from
from lrsearch.spec import parameters, starts
from lrsearch.spec.space import SearchSpace
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.lr.constants import Constants
from lrsearch.strategy.lr.features import shift, usual_rate
from lrsearch.trial import TrialConfig

Params = dict[str, Any]
POOLS = 3
"""Times as many settings are drawn as are considered in one decision."""
REDRAWS = 50
"""Of a setting of the first sweep whose rise takes too long."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that may be begun."""

    params: Mapping[str, Any]
    """By Optuna's names, complete."""
    config: TrialConfig


class Settings:
    """Draws settings of a study.

    Args:
        spec: whose.
        space: as it stands; the study's own where nothing has widened it.
        constants: of the strategy.
    """

    def __init__(self, spec: StudySpec, space: SearchSpace, constants: Constants) -> None:
        self._spec = spec.model_copy(update={"space": space}) if space != spec.space else spec
        self._space, self._c = space, constants
        self._shared = parameters.shared(space)
        self._pairs = [(o, s) for o in space.optimizers for s in space.schedules]
        self.optimizers = list(space.optimizers)
        self._domains = {pair: self._shared | parameters.conditional(space, *pair) for pair in self._pairs}
        self._combinations = self._all_but_rates()

    def rates(self, optimizer: str) -> Domain:
        """Return the learning rates of an optimizer."""
        return self._space.optimizers[optimizer]["peak_lr"]

    @property
    def decades(self) -> float:
        """How far the learning rates reach, those of all optimizers together."""
        return sum(_decades(self.rates(name)) for name in self.optimizers)

    @property
    def is_narrow(self) -> bool:
        """Whether little but learning rates is searched: everything else has a few combinations, or one."""
        return self._combinations is not None

    def setting(self, params: Params) -> Setting:
        """Return the setting of parameters."""
        return Setting(params, parameters.config(self._spec, params))

    def of(self, config: TrialConfig) -> Setting:
        """Return the setting of a configuration that the space holds."""
        return Setting(parameters.params_of(self._space, config), config)

    def sweep(self, rng: np.random.Generator, n: int) -> list[Setting]:
        """Return the ``n`` settings of a first sweep.

        Where little but learning rates is searched they are spread evenly over their range, optimizers in turn. Where
        more is, they are quantiles of a normal distribution around the usual rate, and the portfolio takes the place of
        the lower ones.
        """
        first = self.portfolio[: int(self._c.sweep_portfolio * n)]
        return first + self._spread(rng, n)[len(first) :]

    @cached_property
    def portfolio(self) -> list[Setting]:
        """Settings known to work elsewhere that rise to their peak soon; none where little but rates is searched."""
        found = [] if self.is_narrow else [self.setting(params) for params in starts.portfolio(self._space)]
        return [one for one in found if self._rises_soon(one)]

    def _rises_soon(self, one: Setting) -> bool:
        most = max(1, round(self._c.sweep_rise * self._spec.epochs))
        return comparable_from(one.config.schedule, self._spec.epochs) <= most

    def _spread(self, rng: np.random.Generator, n: int) -> list[Setting]:
        out, offsets = list[Setting](), rng.random(len(self.optimizers))
        for i in range(n):
            which, nth = i % len(self.optimizers), i // len(self.optimizers)
            optimizer = self.optimizers[which]
            of_it = (n - which + len(self.optimizers) - 1) // len(self.optimizers)
            out.append(self._at_quantile(rng, optimizer, (nth + offsets[which]) / of_it))
        return out

    def _at_quantile(self, rng: np.random.Generator, optimizer: str, part: float) -> Setting:
        for _ in range(REDRAWS):
            found = self._draw(rng, optimizer, part)
            if self._rises_soon(found):
                break
        if self.is_narrow:
            return found
        decades = NormalDist(0, self._c.sweep_width).inv_cdf(min(max(part, 0.02), 0.98))
        rate = 10.0 ** (usual_rate(optimizer) + decades - shift(found.config))
        return self._with_rate(found, rate)

    def _with_rate(self, one: Setting, rate: float) -> Setting:
        name = f"peak_lr_{one.config.optimizer.name}"
        if name not in one.params:
            return one
        return self.setting({**one.params, name: _nearest(self.rates(one.config.optimizer.name), rate)})

    def candidates(self, rng: np.random.Generator, best: Sequence[Setting]) -> list[Setting]:
        """Return new settings: a grid of rates where little else varies, else some at random and some near the best."""
        if self._combinations is not None:
            return [self.setting(params) for combination in self._combinations for params in self._grid(combination)]
        drawn = [self._pool[i] for i in sorted(rng.choice(len(self._pool), self._c.pool, replace=False))]
        return drawn + [self._near(rng, one) for one in best for _ in range(self._c.local)]

    @cached_property
    def _pool(self) -> list[Setting]:
        """Random settings: to draw one takes longer than to judge it, so that all are drawn once."""
        rng = np.random.default_rng((self._spec.seed, 2))
        return [self._draw(rng) for _ in range(POOLS * self._c.pool)]

    def other_schedule(self, rng: np.random.Generator, config: TrialConfig) -> Setting:
        """Return a setting that differs from a configuration in its schedule alone, the warm-up kept."""
        kept = self.of(config).params
        optimizer = config.optimizer.name
        drawn = self._draw(rng, optimizer).params
        fixed = [name for name in kept if name in self._shared and name != "schedule"]
        fixed += [name for name in kept if name.endswith(f"_{optimizer}")]
        fixed += ["warmup_fraction"] if "warmup_fraction" in kept and "warmup_fraction" in drawn else []
        return self.setting({**drawn, **{name: kept[name] for name in fixed}})

    def _grid(self, combination: Params) -> list[Params]:
        optimizer = combination.get("optimizer", self.optimizers[0])
        domain, name = self.rates(optimizer), f"peak_lr_{optimizer}"
        if isinstance(domain, Fixed):
            return [combination]
        low, high = _ends(domain)
        n = max(2, round(math.log10(high / low) / self._c.step)) if low > 0 else 2
        rates = [_nearest(domain, low * (high / low) ** ((i + 0.5) / n)) for i in range(n)]
        return [{**combination, name: rate} for rate in dict.fromkeys(rates)]

    def _all_but_rates(self) -> list[Params] | None:
        """Return all combinations of everything but the learning rate; None where they are too many."""
        out: list[Params] = []
        for optimizer, schedule in self._pairs:
            domains = self._domains[optimizer, schedule]
            values: dict[str, Sequence[Any]] = {}
            for name, domain in domains.items():
                if name == f"peak_lr_{optimizer}" or isinstance(domain, Fixed):
                    continue
                if isinstance(domain, Range):
                    return None
                own = {"optimizer": optimizer, "schedule": schedule}
                values[name] = [own[name]] if name in own else domain.values
            out += [dict(zip(values, one, strict=True)) for one in product(*values.values())]
            if len(out) > self._c.grid:
                return None
        return out

    def _draw(self, rng: np.random.Generator, optimizer: str | None = None, part: float | None = None) -> Setting:
        """Return a random setting; of one optimizer, and at one part [0..1] of its range of rates, where given."""
        chosen = optimizer or self.optimizers[rng.integers(len(self.optimizers))]
        schedules = list(self._space.schedules)
        pair = (chosen, schedules[rng.integers(len(schedules))])
        params: Params = {}
        for name, domain in self._domains[pair].items():
            if isinstance(domain, Fixed):
                continue
            if name in ("optimizer", "schedule"):
                params[name] = pair[name == "schedule"]
            elif name == f"peak_lr_{chosen}":
                params[name] = _at(domain, rng.random() if part is None else part)
            else:
                params[name] = _at(domain, rng.random())
        return self.setting(params)

    def _near(self, rng: np.random.Generator, one: Setting) -> Setting:
        """Return a setting with another rate nearby and, half of the time, one other thing drawn anew."""
        optimizer = one.config.optimizer.name
        rate = one.config.optimizer.peak_lr * 10 ** rng.normal(0, 0.2)
        if rng.random() < 0.5:
            other = self._draw(rng, optimizer)
            names = [name for name in other.params if name in self._shared and name != "optimizer"]
            names += [name for name in other.params if name.endswith(f"_{optimizer}") and "peak_lr" not in name]
            if names:
                name = names[rng.integers(len(names))]
                if name == "schedule":
                    kept = {key: value for key, value in one.params.items() if key in names and key != "schedule"}
                    # The same mean rate: the peak moves with the schedule.
                    rate *= 10 ** (shift(one.config) - shift(self.setting({**other.params, **kept}).config))
                    return self._with_rate(self.setting({**other.params, **kept}), rate)
                one = self.setting({**one.params, name: other.params[name]})
        return self._with_rate(one, rate)


def _ends(domain: Domain) -> tuple[float, float]:
    match domain:
        case Fixed(value=only):
            return float(only), float(only)
        case Choice(values=values):
            return min(map(float, values)), max(map(float, values))
        case Range(low=low, high=high):
            return low, high


def _decades(domain: Domain) -> float:
    low, high = _ends(domain)
    return math.log10(high / low) if low > 0 else 1.0


def _at(domain: Domain, part: float) -> Any:
    """Return the value at a part [0..1) of a domain, on its own axis."""
    match domain:
        case Fixed(value=only):
            return only
        case Choice(values=values):
            return values[min(int(part * len(values)), len(values) - 1)]
        case Range(low=low, high=high, log=log):
            if domain.integer and domain.step is None and not log:
                return min(int(low + part * (high - low + 1)), int(high))
            value = low * (high / low) ** part if log else low + part * (high - low)
            return closest(domain, value)


def _nearest(domain: Domain, rate: float) -> Any:
    """Return the learning rate of a domain that is nearest to a rate, by their ratio."""
    if isinstance(domain, Choice):
        return min(domain.values, key=lambda value: abs(math.log(max(float(value), 1e-300) / rate)))
    return closest(domain, rate)

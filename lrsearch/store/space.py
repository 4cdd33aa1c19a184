"""The search space in Optuna's terms."""

from typing import Any, assert_never

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lrsearch.domain import Choice, Domain, Fixed, Range
from lrsearch.spec.parameters import conditional, everything, shared
from lrsearch.spec.space import SearchSpace


def distribution(domain: Domain) -> BaseDistribution | None:
    """Return Optuna's distribution of a domain; None for one value, which is no parameter."""
    match domain:
        case Fixed():
            return None
        case Choice(values=values):
            return CategoricalDistribution(values)
        case Range(low=low, high=high, log=log, step=step, integer=integer):
            if integer:
                return IntDistribution(int(low), int(high), log=log, step=1 if step is None else int(step))
            return FloatDistribution(low, high, log=log, step=step)
        case _:
            assert_never(domain)


def unconditional_distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return the distributions of all parameters that are not fixed."""
    found = ((name, distribution(domain)) for name, domain in everything(space).items())
    return {name: d for name, d in found if d is not None}


def suggest(trial: optuna.Trial, space: SearchSpace) -> None:
    """Ask Optuna for every parameter that this trial has, choices first."""
    values = {name: _suggest(trial, name, domain) for name, domain in shared(space).items()}
    for name, domain in conditional(space, values["optimizer"], values["schedule"]).items():
        _suggest(trial, name, domain)


def _suggest(trial: optuna.Trial, name: str, domain: Domain) -> Any:
    match domain:
        case Fixed(value=only):
            return only
        case Choice(values=values):
            return trial.suggest_categorical(name, values)
        case Range(low=low, high=high, log=log, step=step, integer=integer):
            if integer:
                return trial.suggest_int(name, int(low), int(high), log=log, step=1 if step is None else int(step))
            return trial.suggest_float(name, low, high, log=log, step=step)
        case _:
            assert_never(domain)

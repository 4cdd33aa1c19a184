"""The parameters of a search space under the names that Optuna knows them by, and back into a configuration."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from pydantic import TypeAdapter

from lrsearch import layer_rates
from lrsearch.domain import Choice, Domain, Fixed, Range, closest, contains, describe, parse_fractions
from lrsearch.errors import nearest
from lrsearch.families import FAMILIES
from lrsearch.spec.deciding import GridSpec
from lrsearch.spec.space import SearchSpace
from lrsearch.spec.study import StudySpec
from lrsearch.trial import OptimizerConfig, OptimizerName, ScheduleConfig, ScheduleFamily, TrialConfig

_CONFIG = TypeAdapter(TrialConfig)


def shared(space: SearchSpace) -> dict[str, Domain]:
    """Return the two choices that make other parameters conditional, and what every trial has."""
    return {
        "optimizer": _names(tuple(space.optimizers)),
        "schedule": _names(tuple(space.schedules)),
        **unconditional(space),
    }


def unconditional(space: SearchSpace) -> dict[str, Domain]:
    """Return the parameters of every trial, the two choices apart."""
    optional = {"seed": space.seed, **by_layer(space)}
    return {"batch_size": space.batch_size} | {name: domain for name, domain in optional.items() if domain is not None}


def by_layer(space: SearchSpace) -> dict[str, Domain | None]:
    """Return what makes layers learn with different rates; None: not in the search."""
    return {name: getattr(space, name) for name in layer_rates.FIELDS}


def conditional(space: SearchSpace, optimizer: OptimizerName, schedule: ScheduleFamily) -> dict[str, Domain]:
    """Return the parameters that a trial of this optimizer and schedule has: Optuna's name -> domain.

    Parameters of an optimizer or a family carry its name (``peak_lr_sgd``), because their ranges differ;
    warm-up and floor keep theirs across families, so that the sampler models them jointly.
    """
    out: dict[str, Domain] = {}
    if FAMILIES[schedule].rise is None:
        out["warmup_fraction"] = space.warmup_fraction
    if FAMILIES[schedule].floor is not None:
        out["final_fraction"] = space.final_fraction
    out |= {f"{field}_{optimizer}": domain for field, domain in space.optimizers[optimizer].items()}
    out |= {f"{field}_{schedule}": domain for field, domain in space.schedules[schedule].items()}
    return out


def field_of(name: str, optimizer: str, schedule: str) -> str:
    """Return what a parameter of a trial of this optimizer and schedule is called in a configuration.

    >>> field_of("peak_lr_sgd", "sgd", "cosine")
    'peak_lr'
    """
    return name.removesuffix(f"_{optimizer}").removesuffix(f"_{schedule}")


def everything(space: SearchSpace) -> dict[str, Domain]:
    """Return every parameter of the space, conditional or not: Optuna's name -> domain."""
    out = shared(space)
    for optimizer in space.optimizers:
        for schedule in space.schedules:
            out |= conditional(space, optimizer, schedule)
    return out


def config(spec: StudySpec, params: Mapping[str, Any]) -> TrialConfig:
    """Return the configuration that Optuna's parameters stand for; what is fixed comes from the spec."""
    space = spec.space
    values = {name: _value(domain, name, params) for name, domain in shared(space).items()}
    optimizer: OptimizerName = values["optimizer"]
    schedule: ScheduleFamily = values["schedule"]
    for name, domain in conditional(space, optimizer, schedule).items():
        values[name] = _value(domain, name, params)
    own = {field: values[f"{field}_{optimizer}"] for field in space.optimizers[optimizer]}
    shape = {field: values[f"{field}_{schedule}"] for field in space.schedules[schedule]}
    if "milestones" in shape:
        shape["milestones"] = parse_fractions(shape["milestones"])
    return TrialConfig(
        optimizer=OptimizerConfig(name=optimizer, **own),
        schedule=ScheduleConfig(
            family=schedule,
            warmup_fraction=values.get("warmup_fraction", 0.0),
            final_fraction=values.get("final_fraction"),
            **shape,
        ),
        batch_size=values["batch_size"],
        epochs=spec.epochs,
        seed=values.get("seed", spec.seed),
        **{name: values.get(name) for name in by_layer(space)},
    )


def setting_json(config: TrialConfig) -> str:
    """Return a setting as it is stored; its seed is none of it."""
    return _CONFIG.dump_json(replace(config, seed=0)).decode()


def config_of(setting: str, seed: int) -> TrialConfig:
    """Return the configuration of a stored setting with a seed."""
    return replace(_CONFIG.validate_json(setting), seed=seed)


def outside(space: SearchSpace, params: Mapping[str, Any]) -> str | None:
    """Return in words which of a person's parameters the space does not hold, or None."""
    known = everything(space)
    for name, value in params.items():
        if name not in known:
            return f"{name} is not a parameter of the study{nearest(name, known)}; known: {', '.join(known)}"
        if not contains(known[name], value):
            return f"{name} must be {describe(known[name])}, got {value!r}"
    return None


def completed(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return a person's parameters with the optimizer and the schedule that they imply, or in words what is wrong.

    Of several schedules that take what was given the first of the space is meant. What is still open is the sampler's.

    >>> from lrsearch.spec.space import SearchSpace
    >>> completed(SearchSpace(), {"peak_lr_sgd": 0.2})
    {'optimizer': 'sgd', 'peak_lr_sgd': 0.2}
    >>> completed(SearchSpace(), {"peak_lr_sgd": 0.2, "optimizer": "adamw"})
    'peak_lr_sgd does not apply to optimizer adamw'
    """
    wrong = outside(space, params)
    if wrong is not None:
        return wrong
    general = shared(space)
    own = [name for name in params if name not in general]
    pairs = [(o, s) for o in space.optimizers for s in space.schedules]
    named = [(o, s) for o, s in pairs if params.get("optimizer", o) == o and params.get("schedule", s) == s]
    possible = [(o, s) for o, s in named if all(name in conditional(space, o, s) for name in own)]
    if not possible:
        chosen = [f"{kind} {params[kind]}" for kind in ("optimizer", "schedule") if kind in params]
        stray = [name for name in own if not any(name in conditional(space, o, s) for o, s in named)]
        verb = "does" if len(stray or own) == 1 else "do"
        to = " and ".join(chosen) if stray else " and ".join([*chosen, "one optimizer and schedule"])
        return f"{' and '.join(stray or own)} {verb} not apply to {to}"
    out = dict(params)
    for i, kind in reversed(list(enumerate(("optimizer", "schedule")))):
        implied = list(dict.fromkeys(pair[i] for pair in possible))
        every = list(dict.fromkeys(pair[i] for pair in named))
        if kind not in params and not isinstance(general[kind], Fixed) and implied != every:
            out = {kind: implied[0], **out}
    return out


LARGEST_FINITE = 1_000_000
"""Settings; a space of more is never used up."""


def size(space: SearchSpace) -> int | None:
    """Return how many settings the space holds; None where they are too many to be used up.

    >>> from lrsearch.spec.space import SearchSpace
    >>> size(SearchSpace()) is None
    True
    """
    total = 0
    for optimizer in space.optimizers:
        for schedule in space.schedules:
            n: int | None = 1
            for domain in (unconditional(space) | conditional(space, optimizer, schedule)).values():
                n = None if n is None or (more := _count(domain)) is None else n * more
            if n is None or (total := total + n) > LARGEST_FINITE:
                return None
    return total


def settings(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield the parameters of every setting of a space that has a ``size``, fixed ones left out."""
    for optimizer in space.optimizers:
        for schedule in space.schedules:
            domains = unconditional(space) | conditional(space, optimizer, schedule)
            open_ones = {name: domain for name, domain in domains.items() if not isinstance(domain, Fixed)}
            chosen = {"optimizer": optimizer, "schedule": schedule}
            names = {name: value for name, value in chosen.items() if not isinstance(shared(space)[name], Fixed)}
            for values in product(*(_values(domain) for domain in open_ones.values())):
                yield names | dict(zip(open_ones, values, strict=True))


def finite_space(spec: StudySpec) -> SearchSpace:
    """Return the space of the settings that may be drawn: the study's, of the sampler ``grid`` its grid."""
    return gridded(spec.space, spec.sampler.points) if isinstance(spec.sampler, GridSpec) else spec.space


def gridded(space: SearchSpace, points: int) -> SearchSpace:
    """Return the space with each range cut into so many values, or as many as it has."""
    single = {
        name: _grid(domain, points)
        for name in ("warmup_fraction", "final_fraction", *unconditional(space))
        if (domain := getattr(space, name)) is not None
    }
    tables = {}
    for kind, owners in (("optimizer", space.optimizers), ("schedule", space.schedules)):
        cut = {
            owner: getattr(getattr(space, kind), owner).model_copy(
                update={field: _grid(domain, points) for field, domain in fields.items()}
            )
            for owner, fields in owners.items()
        }
        tables[kind] = getattr(space, kind).model_copy(update=cut)
    return space.model_copy(update=single | tables)


def _grid(domain: Domain, points: int) -> Domain:
    """Return a domain with the values of a range at equal distances, both ends among them; of one point the middle.

    >>> _grid(Range(1e-3, 10.0, log=True), 5), _grid(Range(1, 4, integer=True), 5), _grid(Range(0.0, 1.0), 1)
    (Choice(values=(0.001, 0.01, 0.1, 1.0, 10.0)), Choice(values=(1, 2, 3, 4)), Choice(values=(0.5,)))
    """
    if not isinstance(domain, Range):
        return domain
    low, high = (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)
    parts = [i / (points - 1) for i in range(points)] if points > 1 else [0.5]
    inner = [low + part * (high - low) for part in parts]
    # To twelve digits, as a person would write them: exp(log(.01)) is not .01.
    values = [float(f"{math.exp(value) if domain.log else value:.12g}") for value in inner]
    # A choice of one value too: it is a parameter for Optuna, which what is fixed is not.
    return Choice(tuple(dict.fromkeys(closest(domain, value) for value in values)))


def _count(domain: Domain) -> int | None:
    match domain:
        case Fixed():
            return 1
        case Choice(values=values):
            return len(values)
        case Range(low=low, high=high, step=step, integer=integer):
            if low == high:
                return 1
            if not integer and step is None:
                return None
            return math.floor((high - low) / (step or 1) + 1e-9) + 1


def _values(domain: Domain) -> list[Any]:
    match domain:
        case Fixed(value=only):
            return [only]
        case Choice(values=values):
            return list(values)
        case Range(low=low, step=step, integer=integer):
            every = [low + i * (step or 1) for i in range(_count(domain) or 0)]
            return [int(value) for value in every] if integer else every


def rows(space: SearchSpace) -> Iterator[tuple[str, Domain, str]]:
    """Yield ``(name, domain, when it applies)`` for every parameter, for a table."""
    for name, domain in shared(space).items():
        yield name, domain, "always"
    rising = [s for s in space.schedules if FAMILIES[s].rise is not None]
    yield "warmup_fraction", space.warmup_fraction, f"not for {', '.join(rising)}" if rising else "always"
    flat = [s for s in space.schedules if FAMILIES[s].floor is None]
    yield "final_fraction", space.final_fraction, f"not for {', '.join(flat)}" if flat else "always"
    for kind, tables in (("optimizer", space.optimizers), ("schedule", space.schedules)):
        for owner, fields in tables.items():
            for field, domain in fields.items():
                yield f"{field}_{owner}", domain, f"{kind} = {owner}"


def _names(names: tuple[str, ...]) -> Domain:
    return Fixed(names[0]) if len(names) == 1 else Choice(names)


def _value(domain: Domain, name: str, params: Mapping[str, Any]) -> Any:
    return domain.value if isinstance(domain, Fixed) else params[name]


def params_of(space: SearchSpace, config: TrialConfig) -> dict[str, Any]:
    """Return the parameters that stand for a configuration, what is fixed left out: ``config`` the other way round."""
    optimizer, schedule = config.optimizer, config.schedule
    own = {"optimizer": optimizer.name, "schedule": schedule.family}
    out: dict[str, Any] = {}
    for name, domain in (shared(space) | conditional(space, optimizer.name, schedule.family)).items():
        if isinstance(domain, Fixed):
            continue
        if name in own:
            out[name] = own[name]
        elif name.endswith(f"_{optimizer.name}"):
            out[name] = getattr(optimizer, name.removesuffix(f"_{optimizer.name}"))
        elif name.endswith(f"_{schedule.family}"):
            value = getattr(schedule, name.removesuffix(f"_{schedule.family}"))
            out[name] = ",".join(repr(one) for one in value) if isinstance(value, tuple) else value
        elif name in ("warmup_fraction", "final_fraction"):
            out[name] = getattr(schedule, name)
        else:
            out[name] = getattr(config, name)
    return out

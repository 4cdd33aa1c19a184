"""First trials: the user's current setting, and settings known to work elsewhere."""

import json
from collections.abc import Mapping
from typing import Any

from lrsearch.domain import Choice, Domain, Fixed, Range, contains, describe, to_plain
from lrsearch.errors import StudyFileError, UsageError, nearest
from lrsearch.families import FAMILIES
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters, starts
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.space import SHORT, SearchSpace
from lrsearch.spec.study import StudySpec
from lrsearch.store.slots import Initial
from lrsearch.trial import OptimizerName, ScheduleFamily, TrialConfig

Settings = Mapping[str, Any]

MAX_PORTFOLIO = 6


def initial(spec: StudySpec) -> list[Initial]:
    """Return the first trials of a study, in order: the baseline, then the portfolio as far as the space holds it.

    Raises:
        UsageError: the baseline cannot be read or lies outside the space.
    """
    out = [Initial("baseline", parse_baseline(spec.baseline, spec.space))] if spec.baseline else []
    if spec.strategy is not None or not spec.sampler.portfolio:
        return out
    room = MAX_PORTFOLIO if spec.budget.trials is None else min(MAX_PORTFOLIO, max(1, spec.budget.trials // 4))
    own = [one.params for one in out]
    return out + [Initial("portfolio", params) for params in starts.portfolio(spec.space) if params not in own][:room]


def parse_baseline(text: str, space: SearchSpace) -> dict[str, Any]:
    """Return the parameters of the user's current setting; see ``parse_setting``."""
    return parse_setting("baseline", text, space)


def any_setting(what: str, text: str, spec: StudySpec) -> TrialConfig:
    """Return the configuration of ``"sgd lr=0.1 cosine batch=64"``, whether or not the space holds it.

    What is left out is as in ``parse_setting``: a neutral value within the space, or the optimizer's default.

    Raises:
        UsageError: a word that is none of these, a value that cannot be, or no learning rate.
    """
    optimizer, schedule, given = _words(what, text, spec.space)
    kinds = (
        ("optimizer", optimizer, OPTIMIZERS[optimizer].fields, spec.space.optimizers),
        ("schedule", schedule, FAMILIES[schedule].fields, spec.space.schedules),
    )
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, name, fields, searched in kinds:
        known = {field: to_plain(domain) for field, domain in searched.get(name, {}).items()}
        tables[kind] = {name: known | {field: _whole(value) for field, value in given.items() if field in fields}}
    own = {field for kind in tables.values() for table in kind.values() for field in table}
    general = {field: _whole(value) for field, value in given.items() if field not in own}
    plain = spec.to_plain()
    try:
        wide = study_file.build(plain | {"space": plain.get("space", {}) | general | tables}, f'{what} "{text}"', {})
    except StudyFileError as error:
        raise UsageError(str(error)) from None
    return parameters.config(spec.model_copy(update={"space": wide.space}), parse_setting(what, text, wide.space))


def _whole(value: float) -> float:
    """Return the number as a study file has it: 64, where 64.0 was read."""
    return int(value) if value == int(value) else value


def parse_setting(what: str, text: str, space: SearchSpace, *, filed: bool = False) -> dict[str, Any]:
    """Return the parameters of ``"sgd lr=0.1 cosine batch=64"``; ``what`` names it in an error.

    An optimizer, a schedule and ``key=value`` words in any order; a lone optimizer or schedule of the space need not
    be said, and what is left out takes a neutral value within the space. A space that is ``filed`` stays as it is.

    Raises:
        UsageError: a word that is none of these, a value outside the space, or no learning rate.
    """
    optimizer, schedule, given = _words(what, text, space)
    for kind, name, table in (("optimizer", optimizer, space.optimizers), ("schedule", schedule, space.schedules)):
        if name not in table:
            names = [str(n) for n in table]
            raise UsageError(
                f"{what} \"{text}\": {kind} '{name}' is not in the search space, which has {', '.join(names)}; "
                + _remedy("add it", f"space.{kind}={json.dumps([*names, name])}", filed=filed)
            )
    return _resolve(what, text, space, optimizer, schedule, given, filed=filed)


def _words(what: str, text: str, space: SearchSpace) -> tuple[OptimizerName, ScheduleFamily, dict[str, float]]:
    """Return the optimizer, the schedule and the values that a setting says."""
    optimizer = next(iter(space.optimizers)) if len(space.optimizers) == 1 else None
    schedule = next(iter(space.schedules)) if len(space.schedules) == 1 else None
    given: dict[str, float] = {}
    for word in text.split():
        key, equals, raw = word.partition("=")
        if equals:
            given[SHORT.get(key, key)] = _number(what, text, key, raw)
        elif word in OPTIMIZERS:
            optimizer = word
        elif word in FAMILIES:
            schedule = word
        else:
            known: list[str] = [*OPTIMIZERS, *FAMILIES]
            raise UsageError(f"{what} \"{text}\": '{word}' is no optimizer and no schedule{nearest(word, known)}")
    for kind, name, table in (("optimizer", optimizer, space.optimizers), ("schedule", schedule, space.schedules)):
        if name is None:
            raise UsageError(f'{what} "{text}": must name one {kind} of {", ".join(table)}')
    assert optimizer is not None
    assert schedule is not None
    if "peak_lr" not in given:
        raise UsageError(f'{what} "{text}": must give the learning rate, such as lr=0.1')
    return optimizer, schedule, given


def _resolve(
    what: str,
    text: str,
    space: SearchSpace,
    optimizer: OptimizerName,
    schedule: ScheduleFamily,
    given: dict[str, float],
    *,
    filed: bool,
) -> dict[str, Any]:
    domains = parameters.unconditional(space) | parameters.conditional(space, optimizer, schedule)
    fields = {parameters.field_of(name, optimizer, schedule): name for name in domains}
    out = starts.near(space, optimizer, schedule, given["peak_lr"])
    for field, value in given.items():
        if field not in fields:
            rises = field == "warmup_fraction" and FAMILIES[schedule].rise is not None
            why = f" ({schedule} rises by itself)" if rises else ""
            raise UsageError(
                f'{what} "{text}": {field} is not a parameter of {optimizer} with {schedule}{why}'
                f"{nearest(field, list(fields))}; known: {', '.join(fields)}"
            )
        domain = domains[fields[field]]
        exact = _exact(domain, value)
        if exact is None:
            where = f"space.{_path(field, optimizer, schedule, space)}"
            raise UsageError(
                f'{what} "{text}": {field} = {value:g} lies outside the search space ({describe(domain)}); '
                + _remedy("widen it", f"{where}={_wider(domain, value)}", filed=filed)
            )
        if not isinstance(domain, Fixed):
            out[fields[field]] = exact
    return out


def _remedy(do: str, option: str, *, filed: bool) -> str:
    if filed:
        return f"a filed study keeps its space; `lrsearch run --name NAME --set '{option}'` files one that has it"
    return f"{do} with --set '{option}'"


def _path(field: str, optimizer: str, schedule: str, space: SearchSpace) -> str:
    if field in space.optimizers[optimizer]:
        return f"optimizer.{optimizer}.{field}"
    if field in space.schedules[schedule]:
        return f"schedule.{schedule}.{field}"
    return field


def _exact(domain: Domain, value: float) -> Any:
    for candidate in (value, int(value), bool(value)):
        if candidate == value and contains(domain, candidate):
            # 64 of the space, where 64.0 was read.
            own = domain.values if isinstance(domain, Choice) else ()
            return next((v for v in own if v == candidate), candidate)
    return None


def _wider(domain: Domain, value: float) -> str:
    """Return the domain with room for the value, as ``--set`` takes it."""
    match domain:
        case Range(low=low, high=high, log=log):
            tail = ", log = true" if log else ""
            return f"{{ low = {min(low, value):g}, high = {max(high, value):g}{tail} }}"
        case _:
            plain = to_plain(domain)
            return json.dumps([*(plain if isinstance(plain, list) else [plain]), value])


def _number(what: str, text: str, key: str, raw: str) -> float:
    if raw in ("true", "false"):
        return float(raw == "true")
    try:
        return float(raw)
    except ValueError:
        raise UsageError(f"{what} \"{text}\": {key} must be a number, got '{raw}'") from None

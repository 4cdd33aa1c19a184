"""What people asked to have confirmed: plans, and the trials of role confirm, which are no units of the budget."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy import bindparam

from lrsearch.events import EndReason
from lrsearch.spec import parameters
from lrsearch.store import budget, endings, optuna_rows
from lrsearch.store.study import Study
from lrsearch.store.tables import confirmations, leases, now, slots
from lrsearch.strategy.confirming import Confirm, ConfirmRun, Entrant, Part, Plan, Race, next_run, race_of
from lrsearch.strategy.strategy import OVER
from lrsearch.trial import Role, State, TrialConfig

_PLAN = TypeAdapter(Plan)

_NEWEST = (
    sa.select(confirmations)
    .where(confirmations.c.study_id == bindparam("study"))
    .order_by(confirmations.c.created_at.desc(), confirmations.c.id)
    .limit(1)
)
_RUNS = (
    sa.select(slots)
    .where(
        slots.c.study_id == bindparam("study"),
        slots.c.role == Role.CONFIRM.value,
        slots.c.setting.in_(bindparam("settings", expanding=True)),
    )
    .order_by(slots.c.position.desc())
)
_FREE = (
    sa.select(slots.c.id)
    .outerjoin(leases, leases.c.slot_id == slots.c.id)
    .where(
        slots.c.study_id == bindparam("study"),
        slots.c.role == Role.CONFIRM.value,
        slots.c.state != "ended",
        leases.c.slot_id.is_(None),
    )
    .limit(1)
)
_BASELINE = sa.select(slots.c.number).where(
    slots.c.study_id == bindparam("study"), slots.c.origin == "baseline", slots.c.outcome == State.COMPLETE.value
)


def file(study: Study, plan: Plan, *, of_now: bool = True) -> Plan:
    """Ask the workers of a study for a confirmation; what was asked for before goes on while it means the same.

    Args:
        study: which.
        plan: what is asked for; its settings are chosen by who sees to it.
        of_now: whether of what the search has found by now; otherwise of what it will have found when it is over.

    Raises:
        UnknownNameError: the study has been deleted.
    """
    study.check_original()

    def work(connection: sa.Connection) -> Plan | None:
        if budget.lock(connection, study.id) is None:
            return None
        before = newest(connection, study.id)
        if before is not None and _is_same(connection, study, before, plan, of_now=of_now):
            return before
        filed = replace(plan, id=str(uuid.uuid4()))
        text = _PLAN.dump_json(filed).decode()
        row = {"id": filed.id, "study_id": study.id, "plan": text, "created_at": now()}
        connection.execute(confirmations.insert().values(**row))
        return filed

    filed = study.database.write(work)
    if filed is None:
        raise study.gone()
    return filed


def _is_same(connection: sa.Connection, study: Study, before: Plan, plan: Plan, *, of_now: bool) -> bool:
    """Whether a plan that is filed would train what another asks for: the search may have found more since."""
    if (before.top, before.seeds, before.against) != (plan.top, plan.seeds, plan.against):
        return False
    if not before.entrants:
        return True
    is_over = of_now or study.ended(connection) is not None
    return is_over and before.entrants == _entrants(connection, study, plan)


def newest(connection: sa.Connection, study: str) -> Plan | None:
    """Return the confirmation that was asked for last, or None."""
    row = connection.execute(_NEWEST, {"study": study}).first()
    return None if row is None else replace(_PLAN.validate_json(row.plan), id=row.id)


def choose(connection: sa.Connection, study: Study, plan: Plan) -> Plan:
    """Choose the settings of a plan among what the search found, and write them down; under the lock of the budget."""
    chosen = replace(plan, entrants=_entrants(connection, study, plan))
    mine = confirmations.c.id == plan.id
    if not chosen.entrants:
        # There is nothing to confirm, and would be none at the next look.
        connection.execute(confirmations.delete().where(mine))
        return chosen
    connection.execute(confirmations.update().where(mine).values(plan=_PLAN.dump_json(chosen).decode()))
    return chosen


def _entrants(connection: sa.Connection, study: Study, plan: Plan) -> tuple[Entrant, ...]:
    """Return the settings that a plan asks for, as the search stands."""
    entrants: list[Entrant] = []

    def add(config: TrialConfig, part: Part, parent: int | None) -> None:
        known = [one for one in entrants if one.config == config]
        if not known:
            entrants.append(Entrant(config, part, parent))
        elif part != Part.FOUND:
            entrants[entrants.index(known[0])] = replace(known[0], part=part)

    for number in endings.best_numbers(connection, study.id, maximize=study.maximize):
        if len(entrants) == plan.top:
            break
        add(_config(connection, study, number), Part.FOUND, number)
    if plan.against is not None:
        add(replace(plan.against, seed=0), Part.AGAINST, None)
    elif (baseline := connection.scalar(_BASELINE, {"study": study.id})) is not None:
        add(_config(connection, study, baseline), Part.BASELINE, baseline)
    return tuple(entrants)


def _config(connection: sa.Connection, study: Study, number: int) -> TrialConfig:
    (trial,) = optuna_rows.numbered(connection, study.optuna_id, number)
    return replace(parameters.config(study.spec, trial.params), seed=0)


def race(connection: sa.Connection, study: Study, plan: Plan) -> Race:
    """Return a confirmation as it stands."""
    settings = [parameters.setting_json(one.config) for one in plan.entrants]
    rows = connection.execute(_RUNS, {"study": study.id, "settings": settings}).all()
    return race_of(study.spec, plan, [_run(row, settings) for row in rows])


def is_open(study: Study) -> bool:
    """Whether a worker would find something to search, or to train for a confirmation, now."""

    def work(connection: sa.Connection) -> bool:
        end = study.ended(connection)
        if end is None or end.reason == EndReason.STOPPED:
            return end is None
        plan = newest(connection, study.id)
        if plan is None:
            return False
        if not plan.entrants:
            best = endings.best_numbers(connection, study.id, maximize=study.maximize)
            return end.reason in OVER and bool(best)
        free = connection.scalar(_FREE, {"study": study.id}) is not None
        return free or isinstance(next_run(race(connection, study, plan)), Confirm)

    return study.copy_of is None and study.database.read(work)


def race_of_study(study: Study) -> Race | None:
    """Return the confirmation that was asked for last, as it stands; None where none was asked for.

    It has no settings before the search is over.
    """

    def work(connection: sa.Connection) -> Race | None:
        plan = newest(connection, study.id)
        return None if plan is None else race(connection, study, plan)

    return study.database.read(work)


def is_undecided(connection: sa.Connection, study: Study) -> bool:
    """Whether a confirmation was asked for that is not through."""
    plan = newest(connection, study.id)
    return plan is not None and (not plan.entrants or next_run(race(connection, study, plan)) is not None)


def winner_slot(connection: sa.Connection, study: Study) -> str | None:
    """Return the slot of the confirmed winner: of its trial of the search, else of its first one with a fresh seed."""
    plan = newest(connection, study.id)
    there = None if plan is None else race(connection, study, plan)
    winner = None if there is None else there.standing().leader
    if there is None or winner is None or not _is_of_now(connection, study, there):
        return None
    number = there.plan.entrants[winner].parent
    if number is None:
        complete = (run for run in there.runs if run.entrant == winner and run.state == State.COMPLETE)
        number = next((run.number for run in complete), None)
    of_number = sa.select(slots.c.id).where(slots.c.study_id == study.id, slots.c.number == number)
    slot: str | None = connection.scalar(of_number)
    return slot


def _is_of_now(connection: sa.Connection, study: Study, there: Race) -> bool:
    """Whether the best trial of the search was among the settings: it has found no better one since."""
    best = endings.best_numbers(connection, study.id, maximize=study.maximize)[:1]
    if not best:
        return True
    config = _config(connection, study, best[0])
    return any(entrant.config == config for entrant in there.plan.entrants)


def _run(row: Any, settings: Sequence[str]) -> ConfirmRun:
    state = State(row.outcome) if row.state == "ended" else State.RUNNING
    return ConfirmRun(settings.index(row.setting), row.seed, state, row.number, row.value, row.val_right or b"")

"""Slots, the units of a budget: what of them is free, and how one is taken. Within the lock of the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy import bindparam

from lrsearch.spec import parameters
from lrsearch.spec.space import SearchSpace
from lrsearch.store import budget, confirmations, endings, lease, moves, optuna_rows, progress, trunks
from lrsearch.store.curves import Curves
from lrsearch.store.study import Study
from lrsearch.store.tables import SLOT_ATTR, epochs, leases, slots
from lrsearch.strategy.confirming import Confirm, Race
from lrsearch.strategy.view import Begin, Fail, FreeSlot, KnownTraining, Resume, SlotState, View
from lrsearch.trial import Outcome, Reason, Role, State

FIRST_ORIGINS = ("baseline", "portfolio")

_FREE = (
    sa.select(slots)
    .outerjoin(leases, leases.c.slot_id == slots.c.id)
    .where(slots.c.study_id == bindparam("study"), slots.c.state != "ended", leases.c.slot_id.is_(None))
    .order_by(slots.c.position)
)
_OF_TOKEN = (
    sa.select(slots).join(leases, leases.c.slot_id == slots.c.id).where(leases.c.token == bindparam("its_token"))
)
_TAKEN_NUMBERS = sa.select(slots.c.number).where(
    slots.c.study_id == bindparam("study"), slots.c.state == "reserved", slots.c.number.is_not(None)
)
_FIRST = (
    sa.select(slots.c.position)
    .where(slots.c.study_id == bindparam("study"), slots.c.origin.in_(FIRST_ORIGINS))
    .order_by(slots.c.position)
)
_finished = slots.c.outcome.in_([state.value for state in State if state.counts])
_RESULTS = (
    sa.select(sa.case((slots.c.outcome == "complete", slots.c.value)))
    .where(slots.c.study_id == bindparam("study"), _finished, slots.c.role == Role.SEARCH.value)
    .order_by(slots.c.position)
)
_N_CONFIRM = (
    sa.select(sa.func.count())
    .select_from(slots)
    .where(slots.c.study_id == bindparam("study"), slots.c.role == Role.CONFIRM.value)
)
_ADD = slots.insert()
_STATE = sa.select(slots).where(slots.c.id == bindparam("slot"))
_TAKE_OVER = (
    slots.update()
    .where(slots.c.id == bindparam("slot"))
    .values(
        attempts=slots.c.attempts + 1,
        state=sa.case((slots.c.state == "paused", "running"), else_=slots.c.state),
    )
)
_PAUSE = slots.update().where(slots.c.id == bindparam("slot")).values(state="paused")
_LAST = sa.select(epochs).where(epochs.c.slot_id == bindparam("slot")).order_by(epochs.c.epoch.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class Initial:
    """A setting that is tried before the sampler is asked."""

    origin: Literal["baseline", "portfolio"]
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Worker:
    """What a slot says of the worker that has it in hand."""

    id: str
    holder: str
    device: str
    versions: str
    lease_seconds: float

    @property
    def columns(self) -> dict[str, str]:
        """As columns of a slot."""
        return {"worker": self.holder, "device": self.device, "versions": self.versions}


@dataclass(frozen=True, slots=True)
class Reserved:
    """A slot that this worker holds, before its trial is under way."""

    slot: str
    token: str
    position: int
    number: int | None
    running: bool
    """Whether the trial had been started before."""
    origin: str
    attempts: int
    checkpoint: str | None
    params: Mapping[str, Any] | None
    """Of a setting that is tried before the sampler is asked."""
    repeat: "Repeat | None" = None
    """Of a trial of role confirm."""
    why: str = ""
    """Why it is begun or gone on with, in words; empty where no strategy says so."""
    stood_still: bool = False
    """Whether a strategy had paused it, and goes on with it."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A setting that is trained again."""

    setting: str
    """As ``parameters.setting_json`` writes it."""
    seed: int
    parent: int | None
    """The number of the trial of the search that has this setting."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a strategy that looks at the trials of the search reads of them."""

    curves: Curves
    known: tuple[KnownTraining, ...]
    space: SearchSpace


def view(
    connection: sa.Connection,
    study: Study,
    row: sa.Row[Any],
    initial: Sequence[Initial],
    material: Sight | None = None,
) -> View:
    """Read what the choice of the next trial may look at; ``row`` is what ``budget.lock`` returned."""
    standing = budget.standing(connection, study.id, row, study.spec.epochs, by_curves=material is not None)
    plan = confirmations.newest(connection, study.id)
    rows = connection.execute(_FREE, {"study": study.id}).all() if standing.open or plan is not None else []
    past = progress.of_slots(connection, [one.id for one in rows if one.state == "running"])
    free = tuple(
        FreeSlot(one.id, SlotState(one.state), one.epoch or 0, tuple(past.get(one.id, ())), Role(one.role))
        for one in rows
    )
    race = None if plan is None else confirmations.race(connection, study, plan)
    found = View(study.spec, standing, free, first=tuple(one.origin for one in initial), race=race)
    if material is not None:
        found = replace(found, curves=material.curves.read(connection), known=material.known, space=material.space)
    if not (found.has_room or material is not None):
        return found
    waiting = optuna_rows.waiting(connection, study.optuna_id)
    taken = set(connection.scalars(_TAKEN_NUMBERS, {"study": study.id})) if waiting else set()
    enqueued = tuple(one.number for one in waiting if one.number not in taken)
    return replace(
        found,
        enqueued=enqueued,
        n_first=len(_first(connection, study)) if initial else 0,
        results=results(connection, study) if standing.budget.stop and material is None else (),
    )


def results(connection: sa.Connection, study: Study) -> tuple[float | None, ...]:
    """Return the values of the finished trials of the search in the order of the budget; None: pruned or diverged."""
    return tuple(connection.scalars(_RESULTS, {"study": study.id}))


def _first(connection: sa.Connection, study: Study) -> list[int]:
    """Return the positions of the slots that went to first settings; those between went to enqueued trials."""
    return list(connection.scalars(_FIRST, {"study": study.id}))


def of_token(connection: sa.Connection, study: Study, token: str, initial: Sequence[Initial]) -> Reserved | None:
    """Return the slot that was reserved under a token, by a transaction whose answer was lost."""
    row = connection.execute(_OF_TOKEN, {"its_token": token}).first()
    return None if row is None else _reserved(connection, study, row, token, initial)


def take_over(
    connection: sa.Connection,
    study: Study,
    step: Resume,
    token: str,
    worker: Worker,
    initial: Sequence[Initial],
) -> Reserved:
    """Lease a slot that nobody works on; from here on it is this worker's attempt, whatever becomes of it."""
    slot = step.slot
    before = connection.execute(_STATE, {"slot": slot}).one()
    if step.why:
        moves.add(connection, study.id, slot, "resume", before.epoch or 0, step.why)
    connection.execute(_TAKE_OVER, {"slot": slot, **worker.columns})
    lease.take(connection, slot, study.id, token, worker.id, worker.lease_seconds)
    row = connection.execute(_STATE, {"slot": slot}).one()
    return replace(
        _reserved(connection, study, row, token, initial), why=step.why, stood_still=before.state == "paused"
    )


def insert(
    connection: sa.Connection,
    study: Study,
    slot: str,
    token: str,
    worker: Worker,
    position: int,
    begin: Begin,
    initial: Sequence[Initial],
) -> Reserved:
    """Open and lease the next slot of the budget."""
    values = {
        "id": slot,
        "study_id": study.id,
        "position": position,
        "state": "reserved",
        "number": begin.number,
        "origin": begin.origin,
        "attempts": 1,
        "worker": worker.holder,
        "device": "",
        "versions": "",
    }
    if begin.params is not None:
        config = parameters.config(study.spec, begin.params)
        values |= {"setting": parameters.setting_json(config), "seed": config.seed}
    connection.execute(_ADD, values)
    trunks.ask(connection, slot, begin.parent, begin.shared)
    if begin.why:
        moves.add(connection, study.id, slot, "start", begin.shared, begin.why)
    lease.take(connection, slot, study.id, token, worker.id, worker.lease_seconds)
    params = begin.params if begin.nth_first is None else initial[begin.nth_first].params
    return Reserved(
        slot,
        token,
        position,
        begin.number,
        running=False,
        origin=begin.origin,
        attempts=1,
        checkpoint=None,
        params=params,
        why=begin.why,
    )


def insert_confirm(
    connection: sa.Connection, study: Study, slot: str, token: str, worker: Worker, step: Confirm, race: Race
) -> Reserved:
    """Open and lease a slot for a training of a confirmation; it is no unit of the budget."""
    entrant = race.plan.entrants[step.entrant]
    repeat = Repeat(parameters.setting_json(entrant.config), step.seed, entrant.parent)
    n_before = int(connection.scalar(_N_CONFIRM, {"study": study.id}) or 0)
    # Below the positions of the search, which seed its proposals and stay as they are.
    position = -1 - n_before
    values = {
        "id": slot,
        "study_id": study.id,
        "position": position,
        "state": "reserved",
        "origin": Role.CONFIRM.value,
        "role": Role.CONFIRM.value,
        "parent": repeat.parent,
        "seed": repeat.seed,
        "setting": repeat.setting,
        "attempts": 1,
        "worker": worker.holder,
        "device": "",
        "versions": "",
    }
    connection.execute(_ADD, values)
    lease.take(connection, slot, study.id, token, worker.id, worker.lease_seconds)
    return Reserved(slot, token, position, None, False, Role.CONFIRM.value, 1, None, None, repeat)  # noqa: FBT003


def fail(connection: sa.Connection, study: Study, one: Fail) -> None:
    """End the trial of a slot that may not start again."""
    last = progress.of_slot(connection, one.slot)[-1]
    outcome = Outcome(State.FAILED, last.reason, None, last.epoch, message=f"{one.why}: {last.message}")
    _end(connection, study, one.slot, outcome)


def settle(connection: sa.Connection, study: Study, slot: str) -> None:
    """End a trial that stands still, as pruned."""
    last = connection.execute(_LAST, {"slot": slot}).first()
    epoch, score = (0, None) if last is None else (last.epoch, last.rung_score)
    message = f"paused at epoch {epoch}, and nothing went on with it"
    _end(connection, study, slot, Outcome(State.PRUNED, Reason.PAUSED, score, epoch, message=message))


def pause(connection: sa.Connection, slot: str, epoch: int) -> None:
    """Let the trial of a slot stand still; its checkpoint stays."""
    connection.execute(_PAUSE, {"slot": slot, "epoch": epoch})


def _end(connection: sa.Connection, study: Study, slot: str, outcome: Outcome) -> None:
    kept = connection.execute(_STATE, {"slot": slot}).one().checkpoint
    trial = optuna_rows.marked(connection, study.optuna_id, SLOT_ATTR, slot)
    if trial is None or trial.state != TrialState.RUNNING:
        endings.write_slot(connection, slot, endings.told_elsewhere(trial, outcome.epoch))
    else:
        endings.write(connection, slot, trial.trial_id, outcome)
    # Nobody has it in hand who would remove it now: whoever finds that the search is over does (``trunks.release``).
    connection.execute(slots.update().where(slots.c.id == slot).values(checkpoint=kept))


def _reserved(connection: sa.Connection, study: Study, row: Any, token: str, initial: Sequence[Initial]) -> Reserved:
    begun, params = row.state == "running", None
    if not begun and row.origin in FIRST_ORIGINS and row.position in (first := _first(connection, study)):
        nth = first.index(row.position)
        params = initial[nth].params if nth < len(initial) else None
    repeat = Repeat(row.setting, row.seed, row.parent) if row.role == Role.CONFIRM.value else None
    if not begun and repeat is None and params is None and row.setting is not None:
        # Chosen by a strategy, and its worker ended before it began.
        params = parameters.params_of(study.spec.space, parameters.config_of(row.setting, row.seed))
    return Reserved(
        row.id, token, row.position, row.number, begun, row.origin, row.attempts, row.checkpoint, params, repeat
    )

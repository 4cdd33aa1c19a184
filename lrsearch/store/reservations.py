"""Reserving a slot of the budget: one that lost its worker, one for an enqueued trial, or the next one.

One short transaction that holds the lock of the budget, so that n workers never exceed it. It may be run again because
the answer to its commit was lost, and knows by its token what it did then.
"""

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy import bindparam

from lrsearch.events import EndReason, SearchEnded
from lrsearch.store import budget, endings, lease, optuna_rows, processes, retries
from lrsearch.store.mirror import SLOT_ATTR
from lrsearch.store.study import Study
from lrsearch.store.tables import leases, slots
from lrsearch.trial import Outcome, Reason, State

LOOK_SECONDS = 5.0
"""Between two looks at whether the processes of this machine that hold leases still run."""

_OPEN = (
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
_FIRST_SETTINGS = (
    sa.select(sa.func.count())
    .select_from(slots)
    .where(
        slots.c.study_id == bindparam("study"),
        slots.c.position < bindparam("before"),
        slots.c.origin.in_(("baseline", "portfolio")),
    )
)
_ADD_SLOT = slots.insert()
_STATE = sa.select(slots).where(slots.c.id == bindparam("slot"))


@dataclass(frozen=True, slots=True)
class Initial:
    """A setting that is tried before the sampler is asked."""

    origin: Literal["baseline", "portfolio"]
    params: Mapping[str, Any]


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


class Reservations:
    """One worker's way to slots.

    Args:
        study: whose.
        initial: settings that are tried before the sampler is asked.
        device: what this worker trains on, in words.
        versions: what bitwise repetition depends on.
    """

    def __init__(self, study: Study, initial: Sequence[Initial], device: str, versions: str) -> None:
        self.study = study
        self.worker = str(uuid.uuid4())
        self.holder = processes.this_process()
        self.by_the_hour = False
        """Whether the budget, when it was last looked at, had hours."""
        self._initial, self._initial_left = initial, bool(initial)
        self.device = device
        """May change between two reservations."""
        self._versions = versions
        self._entered: str | None = None
        """With which device this worker is written down."""
        self._looked = -math.inf

    @property
    def columns(self) -> dict[str, str]:
        """What a slot says of the worker that has it in hand."""
        return {"worker": str(self.holder), "device": self.device, "versions": self._versions}

    def first_setting(self, position: int) -> Mapping[str, Any]:
        """Return the parameters of the slot at ``position``, which was opened for a first setting."""
        return self._initial[self.study.database.read(lambda c: self._nth_of_initial(c, position))].params

    def leave(self) -> None:
        """Take this worker out of the list of those at work."""
        if self._entered is not None:
            self.study.database.write(lambda connection: lease.leave(connection, self.worker), patience_seconds=0)
            self._entered = None

    def reserve(self) -> Reserved | SearchEnded:
        """Take a slot of the budget, in one transaction."""
        # Made here, so that a transaction that is run again because its answer was lost knows its own.
        slot, token, device = str(uuid.uuid4()), lease.new_token(), self.device
        again = False

        def work(connection: sa.Connection) -> Reserved | SearchEnded | None:
            nonlocal again
            row = budget.lock(connection, self.study.id)
            if row is None or not self.study.home.check(connection):
                return None
            mine = connection.execute(_OF_TOKEN, {"its_token": token}).first() if again else None
            again = True
            if mine is not None:
                return _reserved(mine, token)
            if self._entered is None:
                lease.check_one_machine(connection, self.study.database.place, self.holder, self._lease_seconds)
                lease.enter(
                    connection,
                    self.worker,
                    self.holder,
                    self.study.id,
                    self._lease_seconds,
                    device=device,
                    versions=self._versions,
                )
            elif self._entered != device:
                lease.changed(connection, self.worker, device)
            self.by_the_hour = row.budget_hours is not None
            return self._next(connection, row, slot, token)

        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._free_dead_processes()
        taken = self.study.database.write(work)
        if taken is None:
            raise self.study.gone()
        self._entered = device
        held = isinstance(taken, SearchEnded) and taken.reason == EndReason.HELD_ELSEWHERE
        # All that is left hangs on others: whether they live is worth another look.
        return self.reserve() if held and self._free_dead_processes() else taken

    def _next(self, connection: sa.Connection, row: sa.Row[Any], slot: str, token: str) -> Reserved | SearchEnded:
        for dead in lease.drop_dead(connection, self.study.id, look_at_processes=False):
            retries.write_down(connection, dead.slot, Reason.LOST, dead.why)
        standing = budget.standing(connection, self.study.id, row)
        open_slot, some_failed = self._open_slot(connection) if standing.open else (None, False)
        if some_failed:
            standing = budget.standing(connection, self.study.id, row)
        ended = standing.ended(interrupted=open_slot is not None)
        if ended is not None:
            return ended
        if open_slot is not None:
            return self._take_over(connection, open_slot, token)
        return self._insert_slot(connection, slot, token, standing.total)

    def _free_dead_processes(self) -> bool:
        """Free the slots of workers of this machine whose processes have ended; return whether there were any.

        Outside the lock of the budget, because it asks the system about every process.
        """
        self._looked = time.monotonic()
        dead = self.study.database.read(lambda connection: lease.of_dead_processes(connection, self.study.id))

        def work(connection: sa.Connection) -> None:
            for one in dead:
                if lease.drop(connection, one.slot, one.token):
                    retries.write_down(connection, one.slot, Reason.LOST, one.why)

        if dead:
            self.study.database.write(work)
        return bool(dead)

    def _take_over(self, connection: sa.Connection, row: sa.Row[Any], token: str) -> Reserved:
        """Lease an interrupted slot; from here on it is this worker's attempt, whatever becomes of it."""
        values = {"attempts": row.attempts + 1, **self.columns}
        connection.execute(slots.update().where(slots.c.id == row.id).values(values))
        lease.take(connection, row.id, self.study.id, token, self.worker, self._lease_seconds)
        return _reserved(connection.execute(_STATE, {"slot": row.id}).one(), token)

    def _open_slot(self, connection: sa.Connection) -> tuple[sa.Row[Any] | None, bool]:
        """Return the first slot that nobody works on; one that may not start again fails here: whether any did."""
        some_failed = False
        for row in connection.execute(_OPEN, {"study": self.study.id}).all():
            past = retries.of_slot(connection, row.id) if row.state == "running" else []
            why = retries.exhausted(past, self.study.spec.workers.retries)
            if why is None:
                return row, some_failed
            last = past[-1]
            outcome = Outcome(State.FAILED, last.reason, None, last.epoch, message=f"{why}: {last.message}")
            trial = optuna_rows.marked(connection, self.study.optuna_id, SLOT_ATTR, row.id)
            if trial is None or trial.state != TrialState.RUNNING:
                endings.write_slot(connection, row.id, endings.told_elsewhere(trial, last.epoch))
            else:
                endings.write(connection, row.id, trial.trial_id, outcome)
            some_failed = True
        return None, some_failed

    def _insert_slot(self, connection: sa.Connection, slot: str, token: str, position: int) -> Reserved:
        """Open the next slot: for a trial that a person enqueued, for a first setting, or for the sampler."""
        number, origin = None, "sampler"
        enqueued = optuna_rows.waiting(connection, self.study.optuna_id)
        if enqueued:
            taken = set(connection.scalars(_TAKEN_NUMBERS, {"study": self.study.id}))
            free = [one.number for one in enqueued if one.number not in taken]
            if free:
                number, origin = free[0], "enqueued"
        if number is None and self._initial_left:
            nth = self._nth_of_initial(connection, position)
            self._initial_left = nth < len(self._initial)
            if self._initial_left:
                origin = self._initial[nth].origin
        values = {
            "id": slot,
            "study_id": self.study.id,
            "position": position,
            "state": "reserved",
            "number": number,
            "origin": origin,
            "attempts": 1,
            "worker": str(self.holder),
            "device": "",
            "versions": "",
        }
        connection.execute(_ADD_SLOT, values)
        lease.take(connection, slot, self.study.id, token, self.worker, self._lease_seconds)
        return Reserved(slot, token, position, number, False, origin, 1, None)  # noqa: FBT003 - its field says it

    def _nth_of_initial(self, connection: sa.Connection, position: int) -> int:
        """Return how many slots before ``position`` went to first settings; those between went to enqueued trials."""
        return int(connection.scalar(_FIRST_SETTINGS, {"study": self.study.id, "before": position}) or 0)

    @property
    def _lease_seconds(self) -> float:
        return self.study.spec.workers.lease_seconds


def _reserved(row: Any, token: str) -> Reserved:
    running = row.state == "running"
    return Reserved(row.id, token, row.position, row.number, running, row.origin, row.attempts, row.checkpoint)

"""Leases: who works on a slot, until when, and whether that worker still lives.

A row is the right to the slot; its token stands in every statement that uses it. No row, nobody works on it. Any worker
may remove a row that has expired by the database's clock, or whose process it can see to be dead: from then on the
former holder hears that it lost the trial. As long as nobody has removed it, even an expired one is the only right to
the slot there is, and its holder may go on (docs/decisions/0008-fence-by-token.md).
"""

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.errors import StorageError
from lrsearch.store.places import Place, SqliteFile
from lrsearch.store.tables import insert_if_absent, later, leases, now, studies, workers


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that may hold leases."""

    host: str
    pid: int
    process_space: str
    """Processes with the same one see each other's process ids: a container has its own."""
    machine: str
    """One running kernel; containers of a host share it, and so may share a SQLite file."""
    process_started: float
    """Seconds since the epoch, by its host; a process id is used again."""

    def __str__(self) -> str:
        """Return the worker's name: ``host:pid``."""
        return f"{self.host}:{self.pid}"


def this_process() -> Holder:
    """Return the holder that this process is."""
    started = psutil.Process().create_time()
    return Holder(socket.gethostname(), os.getpid(), process_space(), machine(), started)


@cache
def machine() -> str:
    """Return what tells this running kernel from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # No Linux: there are no containers with a kernel of another host either.
        return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


@cache
def process_space() -> str:
    """Return what tells this namespace of process ids from any other."""
    try:
        return f"{machine()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return machine()


def lives(pid: int, process_started: float) -> bool:
    """Whether that very process still runs; a dead child that nobody waits for stays as a zombie."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - process_started) < 1.0
    except psutil.NoSuchProcess:
        return False


_seconds: sa.BindParameter[float] = bindparam("lease_seconds", type_=sa.Float)
_mine = sa.and_(leases.c.slot_id == bindparam("slot"), leases.c.token == bindparam("its_token"))
_TAKE = leases.insert().values(
    slot_id=bindparam("slot"),
    study_id=bindparam("study"),
    token=bindparam("its_token"),
    worker_id=bindparam("worker"),
    expires_at=later(_seconds),
)
_RENEW = leases.update().where(_mine).values(expires_at=later(_seconds))
_RENEW_AND_LOOK = _RENEW.returning(
    *(
        sa.select(column).where(studies.c.id == bindparam("study")).scalar_subquery().label(name)
        for name, column in (("hours", studies.c.budget_hours), ("trainings", studies.c.budget_trainings))
    )
)
_DROP = leases.delete().where(_mine)
# One whose lease could not be given back stays in the list, so that it can be seen that its process has ended.
_LEAVE = workers.delete().where(
    workers.c.id == bindparam("worker"), ~sa.exists().where(leases.c.worker_id == workers.c.id)
)
_SEEN = workers.update().where(workers.c.id == bindparam("worker")).values(expires_at=later(_seconds))
_expired = (leases.c.expires_at <= now()).label("expired")
_OF_STUDY = (
    sa.select(leases, _expired, workers.c.pid, workers.c.process_started, workers.c.process_space)
    .outerjoin(workers, workers.c.id == leases.c.worker_id)
    .where(leases.c.study_id == bindparam("study"))
)
# One whose row is locked is being renewed. To wait for that would be to wait for who may wait for the budget's lock.
_EXPIRED = _OF_STUDY.where(leases.c.expires_at <= now()).with_for_update(of=leases, skip_locked=True)
_ELSEWHERE = (
    sa.select(workers.c.host, workers.c.pid)
    .outerjoin(leases, leases.c.worker_id == workers.c.id)
    .where(workers.c.machine != bindparam("here"), sa.or_(workers.c.expires_at > now(), leases.c.expires_at > now()))
)


@dataclass(frozen=True, slots=True)
class Dead:
    """A lease that was removed because its holder is gone."""

    slot: str
    token: str
    why: str
    """In words, for the message of an interruption."""


def check_one_machine(connection: sa.Connection, place: Place, holder: Holder, lease_seconds: float) -> None:
    """Make sure that a SQLite file is worked on by one machine only.

    Raises:
        StorageError: a worker of another one is at work, whichever its study; with PostgreSQL as the way out.
    """
    if not isinstance(place, SqliteFile):
        return
    other = connection.execute(_ELSEWHERE, {"here": holder.machine}).first()
    if other is not None:
        raise StorageError(
            f"{place} is being worked on by another machine ({other.host}, process {other.pid}), and a SQLite file is "
            f"for one: use PostgreSQL for several (--storage postgresql://user@host/database); if that machine is gone "
            f"or was restarted, wait {lease_seconds:g} s"
        )


def enter(
    connection: sa.Connection,
    worker: str,
    holder: Holder,
    study: str,
    lease_seconds: float,
    *,
    device: str,
    versions: str,
) -> None:
    """Write down a worker; again if it was swept meanwhile."""
    values = {
        "id": worker,
        "host": holder.host,
        "pid": holder.pid,
        "process_space": holder.process_space,
        "machine": holder.machine,
        "process_started": holder.process_started,
        "device": device,
        "versions": versions,
        "study_id": study,
        "expires_at": later(lease_seconds),
    }
    connection.execute(insert_if_absent(connection, workers).values(**values))


def changed(connection: sa.Connection, worker: str, device: str) -> None:
    """Note what a worker trains on from now on."""
    connection.execute(workers.update().where(workers.c.id == worker).values(device=device))


def leave(connection: sa.Connection, worker: str) -> None:
    """Strike a worker off."""
    connection.execute(_LEAVE, {"worker": worker})


def new_token() -> str:
    """Return a token; made before the transaction, so that one that is repeated after a lost answer knows its own."""
    return str(uuid.uuid4())


def take(connection: sa.Connection, slot: str, study: str, token: str, worker: str, lease_seconds: float) -> None:
    """Lease a slot that nobody holds."""
    row = {"slot": slot, "study": study, "its_token": token, "worker": worker, "lease_seconds": lease_seconds}
    connection.execute(_TAKE, row)


def renew(connection: sa.Connection, slot: str, token: str, lease_seconds: float) -> bool:
    """Renew the lease; False when it is no longer ours."""
    row = {"slot": slot, "its_token": token, "lease_seconds": lease_seconds}
    return connection.execute(_RENEW, row).rowcount == 1


class Renewed(NamedTuple):
    """A lease that was looked at, and the study's budget as it stands now."""

    ours: bool
    hours: float | None = None
    counts_epochs: bool = False
    """Whether the budget has an end in epochs."""


def renew_and_look(connection: sa.Connection, slot: str, study: str, token: str, lease_seconds: float) -> Renewed:
    """Renew the lease and look at the study's budget: one statement, because every epoch asks for both."""
    row = {"slot": slot, "study": study, "its_token": token, "lease_seconds": lease_seconds}
    found = connection.execute(_RENEW_AND_LOOK, row).first()
    return Renewed(ours=False) if found is None else Renewed(True, found.hours, found.trainings is not None)  # noqa: FBT003


def seen(connection: sa.Connection, worker: str, lease_seconds: float) -> None:
    """Note that a worker lives."""
    connection.execute(_SEEN, {"worker": worker, "lease_seconds": lease_seconds})


def drop(connection: sa.Connection, slot: str, token: str) -> bool:
    """Give a lease back; False when it was no longer ours."""
    return connection.execute(_DROP, {"slot": slot, "its_token": token}).rowcount == 1


def drop_dead(connection: sa.Connection, study: str, *, look_at_processes: bool) -> list[Dead]:
    """Remove the leases that have expired and, if asked to, those of processes that can be seen to have ended."""
    rows = connection.execute(_EXPIRED, {"study": study}).all()
    dead = [Dead(row.slot_id, row.token, "its worker was not heard of any more") for row in rows]
    dead += of_dead_processes(connection, study) if look_at_processes else []
    return [one for one in dead if drop(connection, one.slot, one.token)]


def of_dead_processes(connection: sa.Connection, study: str) -> list[Dead]:
    """Return the leases of processes that this one can see to have ended; nothing is removed."""
    rows = connection.execute(_OF_STUDY, {"study": study}).all()
    return [Dead(row.slot_id, row.token, "its worker's process has ended") for row in rows if process_ended(row)]


def held(connection: sa.Connection, study: str) -> set[str]:
    """Return the slots that a worker holds who, as far as can be seen, lives."""
    rows = connection.execute(_OF_STUDY, {"study": study}).all()
    return {row.slot_id for row in rows if not row.expired and not process_ended(row)}


def process_ended(row: sa.Row[Any]) -> bool:
    """Whether the process of a row of our workers can be seen to have ended; False where it cannot be seen."""
    visible = row.process_space == process_space()
    return bool(visible and not lives(row.pid, row.process_started))

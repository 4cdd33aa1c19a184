"""Leases: who works on a slot, and whether that process still lives.

A row is the right to the slot; its token stands in every statement that uses it. No row, nobody works on it.
"""

import os
import socket
import uuid
from dataclasses import dataclass
from typing import Any

import psutil
import sqlalchemy as sa

from lrsearch.search.tables import leases, slots


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that may hold leases."""

    host: str
    pid: int
    process_started: float
    """Seconds since the epoch, by its host; a process id is used again."""

    def __str__(self) -> str:
        """Return the worker's name: ``host:pid``."""
        return f"{self.host}:{self.pid}"


def this_process() -> Holder:
    """Return the holder that this process is."""
    return Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time())


def take(connection: sa.Connection, slot: str, holder: Holder) -> str:
    """Lease a slot that nobody holds; return the token."""
    token = str(uuid.uuid4())
    row = {"host": holder.host, "pid": holder.pid, "process_started": holder.process_started}
    connection.execute(leases.insert().values(slot_id=slot, token=token, epoch=0, **row))
    return token


def keep(connection: sa.Connection, slot: str, token: str, epoch: int) -> bool:
    """Note the epoch that was reached; False when the lease is no longer ours."""
    mine = leases.update().where(leases.c.slot_id == slot, leases.c.token == token)
    return connection.execute(mine.values(epoch=epoch)).rowcount == 1


def drop(connection: sa.Connection, slot: str, token: str) -> bool:
    """Give a lease back; False when it was no longer ours."""
    return connection.execute(leases.delete().where(leases.c.slot_id == slot, leases.c.token == token)).rowcount == 1


def drop_dead(connection: sa.Connection, study_id: str) -> None:
    """Remove the leases of processes of this host that have ended."""
    for row in _of_study(connection, study_id):
        if not _lives(row):
            drop(connection, row.slot_id, row.token)


def held(connection: sa.Connection, study_id: str) -> set[str]:
    """Return the slots that a living process holds; one of another host counts as living."""
    return {row.slot_id for row in _of_study(connection, study_id) if _lives(row)}


def _of_study(connection: sa.Connection, study_id: str) -> list[sa.Row[Any]]:
    of_study = sa.select(leases).join(slots, slots.c.id == leases.c.slot_id).where(slots.c.study_id == study_id)
    return list(connection.execute(of_study).all())


def _lives(row: sa.Row[Any]) -> bool:
    """Whether that very process still runs; a dead child that nobody waits for stays as a zombie."""
    if row.host != socket.gethostname():
        return True
    try:
        process = psutil.Process(row.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - row.process_started) < 1.0
    except psutil.NoSuchProcess:
        return False

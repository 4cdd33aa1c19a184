"""Who works on a study now, as far as can be seen."""

import os
import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from lrsearch import cores
from lrsearch.store import budget, lease, tables
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.store.tables import now
from lrsearch.strategy.view import ENOUGH
from lrsearch.text import counted, shown


@dataclass(frozen=True, slots=True)
class LivingWorker:
    """A worker that lives."""

    name: str
    """``host:pid``"""
    device: str
    versions: str
    number: int | None
    """Of the trial in hand, or None where it waits."""
    seen_seconds_ago: float
    """Since its last sign of life, by the database's clock."""


def living(study: Study) -> list[LivingWorker]:
    """Return the workers of a study that, as far as can be seen, live."""
    mine, leases, slots = tables.workers, tables.leases, tables.slots
    query = (
        sa.select(
            mine,
            now().label("read_at"),
            leases.c.expires_at.label("lease_expires_at"),
            slots.c.number,
            slots.c.state,
        )
        .outerjoin(leases, leases.c.worker_id == mine.c.id)
        .outerjoin(slots, slots.c.id == leases.c.slot_id)
        .where(mine.c.study_id == study.id)
        .order_by(mine.c.host, mine.c.pid)
    )
    rows = study.database.read(lambda connection: connection.execute(query).all())
    out = []
    for row in rows:
        # An accepted epoch renews the lease alone.
        until = max(row.expires_at, row.lease_expires_at or row.expires_at)
        if until <= row.read_at or _has_died(row):
            continue
        ago = study.spec.workers.lease_seconds - (until - row.read_at).total_seconds()
        number = row.number if row.state == "running" else None
        name = shown(f"{row.host}:{row.pid}")
        out.append(LivingWorker(name, shown(row.device), shown(row.versions), number, max(0.0, ago)))
    return out


def on_this_machine(database: Database, without: str = "") -> list[str]:
    """Return what each worker trains on that lives in the database, shares this process's cores and computes on them.

    Workers of another container have cores of their own where this process may not use all of the machine's.
    """
    mine, leases = tables.workers, tables.leases
    query = (
        sa.select(mine, now().label("read_at"), leases.c.expires_at.label("lease_expires_at"))
        .outerjoin(leases, leases.c.worker_id == mine.c.id)
        .where(mine.c.machine == lease.machine(), mine.c.id != without)
    )
    rows = database.read(lambda connection: connection.execute(query).all())
    whole = cores.available() >= (os.cpu_count() or 1)
    found = {
        row.id: row.device
        for row in rows
        if threads_of(row.device) is not None
        and (whole or row.process_space == lease.process_space())
        and max(row.expires_at, row.lease_expires_at or row.expires_at) > row.read_at
        and not _has_died(row)
    }
    return list(found.values())


def threads_of(device: str) -> int | None:
    """Return the threads of a device in words; None for one that is no CPU.

    >>> threads_of("cpu (2 threads)"), threads_of("cuda:0 (NVIDIA H100)")
    (2, None)
    """
    found = re.fullmatch(r"cpu \((\d+) threads?\)", device)
    return None if found is None else int(found[1])


def crowded(database: Database) -> str | None:
    """Return in a sentence that the workers of this machine have more threads than it has cores, or None."""
    devices = on_this_machine(database)
    threads, n_cores = sum(threads_of(device) or 0 for device in devices), cores.available()
    if threads <= n_cores:
        return None
    have = "has" if len(devices) == 1 else "have"
    return (
        f"{counted(len(devices), 'worker')} of this machine {have} {counted(threads, 'thread')}, "
        f"and it has {counted(n_cores, 'core')}"
    )


def stopped(study: Study) -> str | None:
    """Return how a person asked the study to stop, ``drain`` or ``now``; ``enough``: its search converged; or None."""
    return study.database.read(lambda connection: budget.stopped(connection, study.id))


def converged(study: Study) -> str:
    """Return with the numbers that the search of a study converged, as they were told then; empty where it did not."""
    columns = tables.studies.c
    statement = sa.select(columns.stopped, columns.stopped_why).where(columns.id == study.id)
    row = study.database.read(lambda connection: connection.execute(statement).first())
    return (row.stopped_why or "converged") if row is not None and row.stopped == ENOUGH else ""


def _has_died(row: Any) -> bool:
    same = row.process_space == lease.process_space()
    return bool(same and not lease.lives(row.pid, row.process_started))

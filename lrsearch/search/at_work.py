"""Who works on a study now, as far as can be seen."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from lrsearch.search import budget, processes, tables
from lrsearch.search.clock import now
from lrsearch.search.study import Study


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that lives."""

    name: str
    """``host:pid``"""
    device: str
    versions: str
    number: int | None
    """Of the trial in hand, or None where it waits."""
    seen_seconds_ago: float
    """Since its last sign of life, by the database's clock."""


def living(study: Study) -> list[Worker]:
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
    with study.database.reading() as connection:
        rows = connection.execute(query).all()
    out = []
    for row in rows:
        # An accepted epoch renews the lease alone.
        until = max(row.expires_at, row.lease_expires_at or row.expires_at)
        if until <= row.read_at or _has_died(row):
            continue
        ago = study.spec.workers.lease_seconds - (until - row.read_at).total_seconds()
        number = row.number if row.state == "running" else None
        out.append(Worker(f"{row.host}:{row.pid}", row.device, row.versions, number, max(0.0, ago)))
    return out


def stopped(study: Study) -> str | None:
    """Return how a person asked the study to stop, ``drain`` or ``now``, or None."""
    with study.database.reading() as connection:
        return budget.stopped(connection, study.id)


def _has_died(row: Any) -> bool:
    same = row.process_space == processes.process_space()
    return bool(same and not processes.lives(row.pid, row.process_started))

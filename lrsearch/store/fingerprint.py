"""Whether there is anything new in a study, asked in a few short queries."""

import hashlib
from typing import Any

import sqlalchemy as sa

from lrsearch.store import lease, tables
from lrsearch.store.study import Study
from lrsearch.version import __version__


def of(study: Study) -> str:
    """Return a word for the state of a study, another one whenever a report of it may differ."""
    slots, epochs, studies = tables.slots, tables.epochs, tables.studies
    counted: Any = sa.func.count
    by_state = (
        sa.select(
            slots.c.state,
            slots.c.outcome,
            counted(),
            sa.func.max(slots.c.ended_at),
            counted(slots.c.test_accuracy),
            sa.func.sum(slots.c.attempts),
        )
        .where(slots.c.study_id == study.id)
        .group_by(slots.c.state, slots.c.outcome)
        .order_by(slots.c.state, slots.c.outcome)
    )
    n_epochs = sa.select(counted()).select_from(epochs).where(epochs.c.study_id == study.id)
    budget = sa.select(
        studies.c.budget_trials,
        studies.c.budget_hours,
        studies.c.max_failures,
        studies.c.budget_stop,
        studies.c.budget_trainings,
        studies.c.stopped,
    ).where(studies.c.id == study.id)
    with study.database.reading() as connection:
        seen = [
            __version__,
            study.id,
            study.name,
            study.spec.to_json(),
            *(str(row) for row in connection.execute(by_state).all()),
            str(connection.scalar(n_epochs)),
            str(connection.execute(budget).all()),
            *sorted(lease.held(connection, study.id)),
        ]
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:32]

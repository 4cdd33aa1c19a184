"""Range tests of a study: filed with it, and read again. They are no units of its budget, but their time is."""

import json
import math
import uuid
from collections.abc import Sequence
from datetime import UTC

import sqlalchemy as sa

from lrsearch.store import budget
from lrsearch.store.study import Study
from lrsearch.store.tables import range_tests
from lrsearch.text import shown
from lrsearch.trial import RangeTest

_OF_STUDY = sa.select(range_tests).where(range_tests.c.study_id == sa.bindparam("study"))


def file(connection: sa.Connection, study_id: str, sweeps: Sequence[RangeTest]) -> None:
    """Write the sweeps of a study down, in the transaction in which that is filed."""
    rows = [
        {
            "id": str(uuid.uuid4()),
            "study_id": study_id,
            "optimizer": sweep.optimizer,
            "seed": sweep.seed,
            "curve": _curve(sweep),
            "worker": sweep.worker,
            "device": sweep.device,
            "versions": sweep.versions,
            "started_at": None if sweep.started_at is None else sweep.started_at.replace(tzinfo=None),
            "seconds": sweep.seconds,
        }
        for sweep in sweeps
    ]
    if rows:
        connection.execute(range_tests.insert(), rows)


def of(study: Study) -> tuple[RangeTest, ...]:
    """Return the range tests of a study, as they were made."""
    rows = study.database.read(lambda connection: connection.execute(_OF_STUDY, {"study": study.id}).all())
    rows = sorted(rows, key=lambda row: (row.started_at, row.optimizer, row.seed))
    return tuple(_range_test(row) for row in rows)


def seconds(study: Study) -> float:
    """Return what the range tests of a study took together [seconds], without reading their curves."""
    return study.database.read(lambda connection: budget.swept_seconds(connection, study.id))


def _curve(sweep: RangeTest) -> str:
    losses = [loss if math.isfinite(loss) else None for loss in sweep.losses]
    return json.dumps({"batch_size": sweep.batch_size, "rates": sweep.rates, "losses": losses})


def _range_test(row: sa.Row[tuple[object, ...]]) -> RangeTest:
    curve = json.loads(row.curve)
    return RangeTest(
        optimizer=shown(row.optimizer),
        seed=row.seed,
        batch_size=curve["batch_size"],
        rates=tuple(curve["rates"]),
        losses=tuple(math.nan if loss is None else loss for loss in curve["losses"]),
        seconds=row.seconds,
        worker=shown(row.worker),
        device=shown(row.device),
        versions=shown(row.versions),
        started_at=row.started_at.replace(tzinfo=UTC),
    )

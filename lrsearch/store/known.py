"""Trainings that a study did not make and takes for known: imported from a file, or taken over from other studies."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy import bindparam

from lrsearch.store import budget
from lrsearch.store.study import Study
from lrsearch.store.tables import finite, known
from lrsearch.strategy.view import KnownTraining
from lrsearch.text import shown
from lrsearch.trial import State, TrialConfig

Kind = Literal["imported", "prior"]

LONGEST_SOURCE = 200
"""[characters]"""

_CONFIG = TypeAdapter(TrialConfig)
_OF_STUDY = sa.select(known).where(known.c.study_id == bindparam("study")).order_by(known.c.n)
_NEXT = sa.select(sa.func.coalesce(sa.func.max(known.c.n), -1) + 1).where(known.c.study_id == bindparam("study"))
_COUNTS = (
    sa.select(known.c.kind, known.c.source, sa.func.count())
    .where(known.c.study_id == bindparam("study"))
    .group_by(known.c.kind, known.c.source)
    .order_by(sa.func.min(known.c.n))
)


@dataclass(frozen=True, slots=True)
class KnownSource:
    """Whence a study has trainings that it takes for known."""

    kind: Kind
    name: str
    """Of a file, or of another study."""
    n: int
    """Trainings."""


def of(connection: sa.Connection, study: Study) -> tuple[KnownTraining, ...]:
    """Return what a study takes for known, in the order in which it was written."""
    return tuple(_training(row) for row in connection.execute(_OF_STUDY, {"study": study.id}))


def sources(study: Study) -> tuple[KnownSource, ...]:
    """Return whence a study has trainings, without reading them."""
    rows = study.database.read(lambda connection: connection.execute(_COUNTS, {"study": study.id}).all())
    return tuple(KnownSource(kind, shown(name), n) for kind, name, n in rows)


def add(
    connection: sa.Connection, study_id: str, kind: Kind, trainings: Sequence[tuple[int | None, KnownTraining]]
) -> None:
    """Write trainings down, each with the number of its row or trial, behind those that are there."""
    first = int(connection.scalar(_NEXT, {"study": study_id}) or 0)
    rows = [
        {
            "study_id": study_id,
            "n": first + i,
            "setting": _CONFIG.dump_json(one.config).decode(),
            "state": one.state.value,
            "scores": json.dumps([finite(score) for score in one.scores]),
            "value": finite(one.value),
            "source": one.source[:LONGEST_SOURCE],
            "number": number,
            "kind": kind,
        }
        for i, (number, one) in enumerate(trainings)
    ]
    if rows:
        connection.execute(known.insert(), rows)


def import_into(study: Study, source: str, trainings: Sequence[tuple[int, KnownTraining]]) -> int:
    """Have a study take the trainings of a file for known, those of its name before replaced; return how many.

    Args:
        study: which.
        source: the name of the file.
        trainings: its trainings, each with its row.

    Raises:
        UnknownNameError: the study has been deleted.
        UsageError: it is a copy.
    """
    study.check_original()
    mine = sa.and_(known.c.study_id == study.id, known.c.kind == "imported", known.c.source == source[:LONGEST_SOURCE])

    def work(connection: sa.Connection) -> int | None:
        if budget.lock(connection, study.id) is None or not study.home.check(connection):
            return None
        replaced = connection.execute(known.delete().where(mine)).rowcount
        add(connection, study.id, "imported", trainings)
        return int(replaced)

    done = study.database.write(work)
    if done is None:
        raise study.gone()
    return done


def _training(row: sa.Row[tuple[object, ...]]) -> KnownTraining:
    scores = json.loads(row.scores)
    return KnownTraining(
        _CONFIG.validate_json(row.setting),
        State(row.state),
        tuple(math.nan if score is None else float(score) for score in scores),
        row.value,
        shown(row.source),
    )

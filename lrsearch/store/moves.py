"""Why a strategy that pauses began a trial, let it stand still and went on with it."""

from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.store.tables import moves, now

Kind = Literal["start", "pause", "resume"]

_counted: Any = sa.func.count
_N = sa.select(_counted()).select_from(moves).where(moves.c.slot_id == bindparam("slot"))
_OF_STUDY = sa.select(moves).where(moves.c.study_id == bindparam("study")).order_by(moves.c.slot_id, moves.c.n)


def add(connection: sa.Connection, study: str, slot: str, kind: Kind, epoch: int, why: str) -> None:
    """Write down a move of the trial of a slot, at so many completed epochs."""
    n = int(connection.scalar(_N, {"slot": slot}) or 0)
    values = {"slot_id": slot, "n": n, "study_id": study, "kind": kind, "epoch": epoch, "why": why, "at": now()}
    connection.execute(moves.insert().values(**values))


def of_study(connection: sa.Connection, study: str) -> dict[str, list[Any]]:
    """Return the moves of each slot, the first first."""
    found: dict[str, list[Any]] = {}
    for row in connection.execute(_OF_STUDY, {"study": study}):
        found.setdefault(row.slot_id, []).append(row)
    return found

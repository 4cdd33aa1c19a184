"""Why a strategy that pauses began a trial, let it stand still and went on with it."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.store.tables import moves, now
from lrsearch.text import shown
from lrsearch.trial import Move

Kind = Literal["start", "pause", "resume"]

_LAST = sa.select(moves).where(moves.c.slot_id == bindparam("slot")).order_by(moves.c.n.desc()).limit(1)
_OF_SLOTS = sa.select(moves).where(moves.c.slot_id.in_(bindparam("slots", expanding=True))).order_by(moves.c.n)


def add(connection: sa.Connection, study: str, slot: str, kind: Kind, epoch: int, why: str) -> None:
    """Write down a move of the trial of a slot, at so many completed epochs; one that was the last already is not.

    A commit whose answer was lost is repeated, and a trial that was interrupted at a rung is judged there again.
    """
    last: Any = connection.execute(_LAST, {"slot": slot}).first()
    if last is not None and (last.kind, last.epoch) == (kind, epoch):
        return
    n = 0 if last is None else last.n + 1
    values = {"slot_id": slot, "n": n, "study_id": study, "kind": kind, "epoch": epoch, "why": why, "at": now()}
    connection.execute(moves.insert().values(**values))


def of_slots(connection: sa.Connection, slots: Sequence[str]) -> dict[str, list[Move]]:
    """Return the moves of the trial of each slot, the first first."""
    found: dict[str, list[Move]] = {}
    for row in connection.execute(_OF_SLOTS, {"slots": slots}) if slots else ():
        move = Move(row.kind, row.epoch, shown(row.why), row.at.replace(tzinfo=UTC))
        found.setdefault(row.slot_id, []).append(move)
    return found

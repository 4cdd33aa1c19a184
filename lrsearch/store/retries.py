"""Attempts that ended while their trial did not: written down, and counted against what is allowed.

One policy for each reason: so many times in a row, without progress in between, a trial starts again; then it failed.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.spec.study import RetriesSpec
from lrsearch.store.clock import now
from lrsearch.store.tables import epochs, insert_if_absent, interruptions, slots
from lrsearch.stored import shown
from lrsearch.trial import Interruption, Reason

_SLOT = sa.select(slots).where(slots.c.id == bindparam("slot"))
_REACHED = sa.select(sa.func.max(epochs.c.epoch)).where(epochs.c.slot_id == bindparam("slot"))
_OF_SLOT = (
    sa.select(interruptions).where(interruptions.c.slot_id == bindparam("slot")).order_by(interruptions.c.attempt)
)


def write_down(connection: sa.Connection, slot: str, reason: Reason, message: str) -> None:
    """Note that the attempt under way at a slot has ended; a slot without a trial has none."""
    row = connection.execute(_SLOT, {"slot": slot}).one()
    if row.state != "running":
        return
    reached = connection.scalar(_REACHED, {"slot": slot})
    values = {
        "slot_id": slot,
        "attempt": row.attempts,
        "study_id": row.study_id,
        "reason": reason.value,
        "worker": row.worker,
        "device": row.device,
        "epoch": int(reached or 0),
        "step": row.checkpoint_step or 0,
        "message": message,
        "at": now(),
    }
    connection.execute(insert_if_absent(connection, interruptions).values(**values))


def of_slot(connection: sa.Connection, slot: str) -> list[Interruption]:
    """Return the attempts at a slot that were interrupted, the first first."""
    return [interruption(row) for row in connection.execute(_OF_SLOT, {"slot": slot})]


def interruption(row: Any) -> Interruption:
    """Return a row as the value that flows."""
    return Interruption(
        row.attempt,
        Reason(row.reason),
        shown(row.worker),
        shown(row.device),
        row.epoch,
        row.step,
        shown(row.message),
        row.at.replace(tzinfo=UTC),
    )


def exhausted(past: Sequence[Interruption], allowed: RetriesSpec) -> str | None:
    """Return in words why a trial may not start again after its latest interruption, or None when it may.

    >>> lost = Interruption(1, Reason.LOST, "host:1", "cpu", 0, 0, "gone")
    >>> exhausted([lost], RetriesSpec(lost=0))
    'lost once, and workers.retries.lost is 0'
    """
    if not past:
        return None
    last = past[-1]
    limit: int | None = getattr(allowed, last.reason.value, None)
    if limit is None:
        return None
    times = 0
    for one in reversed(past):
        if one.step != last.step:
            break
        times += one.reason == last.reason
    if times <= limit:
        return None
    often = "once" if times == 1 else f"{times} times without progress"
    words = last.reason.value.replace("_", " ")
    return f"{words} {often}, and workers.retries.{last.reason.value} is {limit}"

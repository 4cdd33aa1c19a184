"""The best complete trial, as the database sees it; ``analysis.ranking`` says the same of trials that were read."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.store.tables import epochs, slots
from lrsearch.trial import State

_COMPLETE = sa.and_(
    slots.c.study_id == bindparam("study"),
    slots.c.state == "ended",
    slots.c.outcome == State.COMPLETE.value,
    slots.c.value.is_not(None),
)
_LAST = sa.and_(epochs.c.slot_id == slots.c.id, epochs.c.epoch == slots.c.epoch)
# Equal values: the lower validation loss, then the earlier trial.
_TIES = (sa.func.coalesce(epochs.c.val_loss, 1e300), slots.c.number)
_VALUES = {
    True: sa.select(sa.func.max(slots.c.value)).where(_COMPLETE),
    False: sa.select(sa.func.min(slots.c.value)).where(_COMPLETE),
}
_SLOTS: dict[bool, sa.Select[Any]] = {
    maximize: sa.select(slots.c.id)
    .outerjoin(epochs, _LAST)
    .where(_COMPLETE, slots.c.value == values.scalar_subquery())
    .order_by(*_TIES)
    .limit(1)
    for maximize, values in _VALUES.items()
}


def value(connection: sa.Connection, study: str, *, maximize: bool) -> float | None:
    """Return the best value, or None where no trial is complete."""
    found: float | None = connection.scalar(_VALUES[maximize], {"study": study})
    return found


def slot(connection: sa.Connection, study: str, *, maximize: bool) -> str | None:
    """Return the slot of the best trial, or None where no trial is complete."""
    found: str | None = connection.scalar(_SLOTS[maximize], {"study": study})
    return found

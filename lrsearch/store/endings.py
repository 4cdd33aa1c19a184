"""How a trial ended, written into our slot and Optuna's trial at once; and which weights are worth keeping."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.store import optuna_rows
from lrsearch.store.homes import MESSAGE_ATTR, OPTUNA_STATES
from lrsearch.store.tables import OUTCOME_ATTR, epochs, finite, now, slots
from lrsearch.trial import Outcome, Reason, Role, State

_COMPLETE = sa.and_(
    slots.c.study_id == bindparam("study"),
    slots.c.role == Role.SEARCH.value,
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

_NUMBERS: dict[bool, sa.Select[Any]] = {
    maximize: sa.select(slots.c.number)
    .outerjoin(epochs, _LAST)
    .where(_COMPLETE)
    .order_by(slots.c.value.desc() if maximize else slots.c.value, *_TIES)
    for maximize in (True, False)
}


def best_numbers(connection: sa.Connection, study: str, *, maximize: bool) -> list[int]:
    """Return the numbers of the complete trials of the search, the best first."""
    return list(connection.scalars(_NUMBERS[maximize], {"study": study}))


def best_value(connection: sa.Connection, study: str, *, maximize: bool) -> float | None:
    """Return the best best_value, or None where no trial is complete."""
    found: float | None = connection.scalar(_VALUES[maximize], {"study": study})
    return found


def best_slot(connection: sa.Connection, study: str, *, maximize: bool) -> str | None:
    """Return the best_slot of the best trial, or None where no trial is complete."""
    found: str | None = connection.scalar(_SLOTS[maximize], {"study": study})
    return found


_END = slots.update().where(slots.c.id == bindparam("slot")).values(state="ended", ended_at=now())
_WITH_WEIGHTS = sa.select(slots.c.id, slots.c.weights).where(
    slots.c.study_id == bindparam("study"), slots.c.weights.is_not(None)
)


def write(
    connection: sa.Connection,
    slot: str,
    trial_id: int,
    outcome: Outcome,
    token: str = "",
    weights_sha256: str | None = None,
    val_right: bytes | None = None,
) -> None:
    """Write an ending.

    Args:
        connection: in the transaction that has checked or taken the lease.
        slot: ours.
        trial_id: Optuna's.
        outcome: how it ended.
        token: of the lease under which it ended, by which a commit whose answer was lost is known again.
        weights_sha256: of the last weights of a complete trial.
        val_right: which validation images these get right.
    """
    write_slot(connection, slot, outcome, token, weights_sha256, val_right)
    attrs = {OUTCOME_ATTR: outcome.state.value}
    if outcome.state in (State.DIVERGED, State.FAILED):
        attrs[MESSAGE_ATTR] = outcome.message
    optuna_rows.end(connection, trial_id, OPTUNA_STATES[outcome.state], outcome.value, attrs)


def write_slot(
    connection: sa.Connection,
    slot: str,
    outcome: Outcome,
    token: str = "",
    weights_sha256: str | None = None,
    val_right: bytes | None = None,
) -> None:
    """Write an ending into our slot only: Optuna's trial has ended already."""
    values = {
        "outcome": outcome.state.value,
        "reason": outcome.reason.value,
        "value": finite(outcome.value),
        "epoch": outcome.epoch,
        "step": outcome.step,
        "lr": finite(outcome.lr),
        "message": outcome.message,
        "ended_token": token,
        "checkpoint": None,
        "weights_sha256": weights_sha256,
        "val_right": val_right,
    }
    connection.execute(_END, {"slot": slot, **values})


def told_elsewhere(trial: optuna_rows.Marked | None, epoch: int) -> Outcome:
    """Return the ending of a trial that another program has ended, or removed; ``epoch`` is the last that we have."""
    how = "how the trial ended" if trial is None else f"that the trial is {trial.state.name}"
    message = f"another program told Optuna {how}; it does not count"
    return Outcome(State.FAILED, Reason.TOLD_ELSEWHERE, None, epoch, message=message)


def keep_best(connection: sa.Connection, study: str, slot: str, weights: str, *, maximize: bool) -> list[str]:
    """Keep the weights if the trial is the best one; return the artifacts that are needed no longer."""
    if best_slot(connection, study, maximize=maximize) != slot:
        return [weights]
    before = connection.execute(_WITH_WEIGHTS, {"study": study}).all()
    for row in before:
        connection.execute(slots.update().where(slots.c.id == row.id).values(weights=None))
    connection.execute(slots.update().where(slots.c.id == slot).values(weights=weights))
    return [row.weights for row in before]

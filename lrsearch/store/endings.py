"""How a trial ended, written into our slot and Optuna's trial at once; and which weights are worth keeping."""

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.store import best, optuna_rows
from lrsearch.store.clock import now
from lrsearch.store.homes import MESSAGE_ATTR, OPTUNA_STATES
from lrsearch.store.mirror import OUTCOME_ATTR
from lrsearch.store.study import Study
from lrsearch.store.tables import finite, slots
from lrsearch.trial import Outcome, Reason, State

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
) -> None:
    """Write an ending.

    Args:
        connection: in the transaction that has checked or taken the lease.
        slot: ours.
        trial_id: Optuna's.
        outcome: how it ended.
        token: of the lease under which it ended, by which a commit whose answer was lost is known again.
        weights_sha256: of the last weights of a complete trial.
    """
    write_slot(connection, slot, outcome, token, weights_sha256)
    attrs = {OUTCOME_ATTR: outcome.state.value}
    if outcome.state in (State.DIVERGED, State.FAILED):
        attrs[MESSAGE_ATTR] = outcome.message
    optuna_rows.end(connection, trial_id, OPTUNA_STATES[outcome.state], outcome.value, attrs)


def write_slot(
    connection: sa.Connection, slot: str, outcome: Outcome, token: str = "", weights_sha256: str | None = None
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
    }
    connection.execute(_END, {"slot": slot, **values})


def told_elsewhere(trial: optuna_rows.Marked | None, epoch: int) -> Outcome:
    """Return the ending of a trial that another program has ended, or removed; ``epoch`` is the last that we have."""
    how = "how the trial ended" if trial is None else f"that the trial is {trial.state.name}"
    message = f"another program told Optuna {how}; it does not count"
    return Outcome(State.FAILED, Reason.TOLD_ELSEWHERE, None, epoch, message=message)


def keep_best(connection: sa.Connection, study: Study, slot: str, weights: str) -> list[str]:
    """Keep the weights if the trial is the best one; return the artifacts that are needed no longer."""
    if best.slot(connection, study.id, maximize=study.maximize) != slot:
        return [weights]
    before = connection.execute(_WITH_WEIGHTS, {"study": study.id}).all()
    for row in before:
        connection.execute(slots.update().where(slots.c.id == row.id).values(weights=None))
    connection.execute(slots.update().where(slots.c.id == slot).values(weights=weights))
    return [row.weights for row in before]

"""What an epoch leaves in the database, and what is read of it to judge a trial."""

import math
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite

from lrsearch.spec.deciding import HyperbandSpec
from lrsearch.spec.study import StudySpec
from lrsearch.store import budget, tables
from lrsearch.store.tables import epochs, insert_if_absent, interruptions, now, slots
from lrsearch.strategy.strategy import Strategy
from lrsearch.strategy.view import Judgement, Reached, RungRow
from lrsearch.text import shown
from lrsearch.trial import EpochMetrics, Interruption, Reason, Role, State

_SLOT = sa.select(slots).where(slots.c.id == bindparam("slot"))
_REACHED = sa.select(sa.func.max(epochs.c.epoch)).where(epochs.c.slot_id == bindparam("slot"))
_OF_SLOTS = (
    sa.select(interruptions)
    .where(interruptions.c.slot_id.in_(bindparam("slots", expanding=True)))
    .order_by(interruptions.c.attempt)
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
    return of_slots(connection, [slot]).get(slot, [])


def of_slots(connection: sa.Connection, slots: Sequence[str]) -> dict[str, list[Interruption]]:
    """Return the attempts at each slot that were interrupted, the first first; in one query, none for no slot."""
    found: dict[str, list[Interruption]] = {}
    for row in connection.execute(_OF_SLOTS, {"slots": slots}) if slots else ():
        found.setdefault(row.slot_id, []).append(interruption(row))
    return found


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


_ADD = {
    # A commit whose answer was lost is repeated; an epoch that is there was accepted under the same token.
    "sqlite": sqlite.insert(epochs).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(epochs).on_conflict_do_nothing(),
}
_OTHERS = (
    sa.select(epochs.c.rung_score, slots.c.outcome, epochs.c.comparable, slots.c.number)
    .join(slots, slots.c.id == epochs.c.slot_id)
    .where(
        epochs.c.study_id == bindparam("study"),
        epochs.c.epoch == bindparam("at"),
        epochs.c.slot_id != bindparam("slot"),
        epochs.c.rung_score.is_not(None),
        slots.c.role == Role.SEARCH.value,
    )
)
_CUT = epochs.update().where(epochs.c.slot_id == bindparam("slot"), epochs.c.epoch == bindparam("at"))
_OWN = sa.select(epochs.c.rung_score).where(epochs.c.slot_id == bindparam("slot")).order_by(epochs.c.epoch)
_N_COMPLETE = (
    sa.select(sa.func.count())
    .select_from(slots)
    .where(
        slots.c.study_id == bindparam("study"),
        slots.c.role == Role.SEARCH.value,
        slots.c.state == "ended",
        slots.c.outcome == State.COMPLETE.value,
    )
)


def add_epoch(connection: sa.Connection, slot: str, study: str, metrics: EpochMetrics) -> None:
    """Keep what an epoch measured."""
    row = {
        "slot_id": slot,
        "study_id": study,
        "epoch": metrics.epoch,
        "step": metrics.step,
        "lr": metrics.lr,
        "train_loss": tables.finite(metrics.train_loss),
        "val_loss": tables.finite(metrics.val_loss),
        "val_accuracy": tables.finite(metrics.val_accuracy),
        "averaged_val_loss": tables.finite(metrics.averaged_val_loss),
        "averaged_val_accuracy": tables.finite(metrics.averaged_val_accuracy),
        "val_score": tables.finite(metrics.val_score),
        "averaged_val_score": tables.finite(metrics.averaged_val_score),
        "rung_score": tables.finite(metrics.rung_score),
        "comparable": metrics.comparable,
        "seconds": metrics.seconds,
    }
    connection.execute(_ADD[connection.dialect.name], row)


def metrics(row: Any) -> EpochMetrics:
    """Return a row of our epochs as the value that flows."""
    return EpochMetrics(
        epoch=row.epoch,
        step=row.step,
        lr=row.lr,
        train_loss=_number(row.train_loss),
        val_loss=_number(row.val_loss),
        val_accuracy=_number(row.val_accuracy),
        averaged_val_loss=row.averaged_val_loss,
        averaged_val_accuracy=row.averaged_val_accuracy,
        seconds=row.seconds,
        rung_score=row.rung_score,
        comparable=bool(row.comparable),
        cut=row.cut,
        n_compared=row.n_compared,
        val_score=row.val_score,
        averaged_val_score=row.averaged_val_score,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def judged(
    connection: sa.Connection,
    strategy: Strategy,
    spec: StudySpec,
    study: str,
    slot: str,
    reached: EpochMetrics,
    hours: float | None,
) -> Judgement:
    """Read what the strategy may look at and have it judge a trial at an epoch that is not its last.

    ``hours`` are those of the study's budget as they stand, if any.
    """
    left = None if hours is None else hours - budget.seconds(connection, study) / 3600
    own, others, n_complete, number = list[float](), list[RungRow](), 0, 0
    if (left is None or left > 0) and reached.comparable and strategy.looks_at(spec.pruner, reached.epoch, spec.epochs):
        at = {"study": study, "slot": slot, "at": reached.epoch}
        others = [
            RungRow(value, outcome == State.COMPLETE, bool(comparable), its)
            for value, outcome, comparable, its in connection.execute(_OTHERS, at)
        ]
        own = [float("nan") if v is None else v for v in connection.scalars(_OWN, {"slot": slot})]
        n_complete = int(connection.scalar(_N_COMPLETE, {"study": study}) or 0)
        if isinstance(spec.pruner, HyperbandSpec):
            number = connection.execute(_SLOT, {"slot": slot}).one().number
    found = strategy.judge(Reached(spec, reached.epoch, reached.comparable, left, own, others, n_complete, number))
    _note(connection, slot, reached.epoch, found)
    return found


def _note(connection: sa.Connection, slot: str, epoch: int, found: Judgement) -> None:
    """Keep what decided about a trial at an epoch: the score that had to be reached, and among how many."""
    if found.n_compared:
        values = {"cut": tables.finite(found.cut), "n_compared": found.n_compared}
        connection.execute(_CUT, {"slot": slot, "at": epoch, **values})

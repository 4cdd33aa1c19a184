"""What an epoch leaves in the database, and what the pruner compares at a rung."""

import math
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite

from lrsearch.spec.study import StudySpec
from lrsearch.store import pruners, tables
from lrsearch.store.tables import epochs, slots
from lrsearch.trial import EpochMetrics, State

_ADD = {
    # A commit whose answer was lost is repeated; an epoch that is there was accepted under the same token.
    "sqlite": sqlite.insert(epochs).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(epochs).on_conflict_do_nothing(),
}
_OTHERS = (
    sa.select(epochs.c.rung_score, slots.c.outcome, epochs.c.comparable)
    .join(slots, slots.c.id == epochs.c.slot_id)
    .where(
        epochs.c.study_id == bindparam("study"),
        epochs.c.epoch == bindparam("at"),
        epochs.c.slot_id != bindparam("slot"),
        epochs.c.rung_score.is_not(None),
    )
)
_NOTE = epochs.update().where(epochs.c.slot_id == bindparam("slot"), epochs.c.epoch == bindparam("at"))
_OWN = sa.select(epochs.c.rung_score).where(epochs.c.slot_id == bindparam("slot")).order_by(epochs.c.epoch)
_N_COMPLETE = (
    sa.select(sa.func.count())
    .select_from(slots)
    .where(slots.c.study_id == bindparam("study"), slots.c.state == "ended", slots.c.outcome == State.COMPLETE.value)
)


def score(metric: str, metrics: EpochMetrics) -> float:
    """Return what pruners compare: the averaged weights' accuracy, or the raw loss, which ranks better."""
    if metric == "loss":
        return metrics.val_loss
    return metrics.val_accuracy if metrics.averaged_val_accuracy is None else metrics.averaged_val_accuracy


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
        "rung_score": tables.finite(metrics.rung_score),
        "comparable": metrics.comparable,
        "seconds": metrics.seconds,
    }
    connection.execute(_ADD[connection.dialect.name], row)


def note(connection: sa.Connection, slot: str, epoch: int, found: pruners.Comparison) -> None:
    """Keep what decided about a trial at an epoch: the score that had to be reached, and among how many."""
    if found.n_compared:
        values = {"cut": tables.finite(found.cut), "n_compared": found.n_compared}
        connection.execute(_NOTE, {"slot": slot, "at": epoch, **values})


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
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def verdict(connection: sa.Connection, spec: StudySpec, study: str, slot: str, epoch: int) -> pruners.Comparison:
    """Read what the pruner needs and judge a trial at an epoch that it has reached."""
    at = {"study": study, "slot": slot, "at": epoch}
    rows = [
        pruners.RungRow(value, outcome == State.COMPLETE, bool(comparable))
        for value, outcome, comparable in connection.execute(_OTHERS, at)
    ]
    own = [float("nan") if v is None else v for v in connection.scalars(_OWN, {"slot": slot})]
    n_complete: Any = connection.scalar(_N_COMPLETE, {"study": study})
    return pruners.judge(spec, epoch, own, rows, int(n_complete or 0))

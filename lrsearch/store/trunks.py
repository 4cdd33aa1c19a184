"""Kept states of trials, and the trials that go on from them: a branch has its parent's first epochs, untrained.

A state is an artifact like a checkpoint, but of an epoch that another setting may have in common: it stays when the
trial goes on or ends, until the search is over. A branch starts from it, and again from it where it is interrupted
before it has a checkpoint of its own. Were it lost, the branch would be trained from its first update, to the same
weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.schedules import comparable_from
from lrsearch.sharing import shared_epochs
from lrsearch.spec import parameters
from lrsearch.store import optuna_rows, progress
from lrsearch.store.study import Study
from lrsearch.store.tables import epochs, insert_if_absent, slots, trunks
from lrsearch.trial import EpochMetrics, Role, TrialConfig

_OF_SLOT = sa.select(slots).where(slots.c.id == bindparam("slot"))
_OF_STUDY = (
    sa.select(trunks.c.slot_id, trunks.c.epoch)
    .where(trunks.c.study_id == bindparam("study"))
    .order_by(trunks.c.slot_id, trunks.c.epoch)
)
_ARTIFACT = sa.select(trunks.c.artifact).where(trunks.c.slot_id == bindparam("slot"), trunks.c.epoch == bindparam("at"))
_parent, _child = slots.alias("parent"), slots.alias("child")
_START = (
    sa.select(trunks.c.artifact)
    .join(_parent, _parent.c.id == trunks.c.slot_id)
    .join(
        _child,
        sa.and_(
            _child.c.study_id == _parent.c.study_id,
            _child.c.parent == _parent.c.number,
            _child.c.shared_epochs == trunks.c.epoch,
        ),
    )
    .where(_child.c.id == bindparam("slot"), _parent.c.role == Role.SEARCH.value)
)
_EPOCHS = (
    sa.select(epochs)
    .where(epochs.c.slot_id == bindparam("slot"), epochs.c.epoch <= bindparam("upto"))
    .order_by(epochs.c.epoch)
)
_CHANGE = slots.update().where(slots.c.id == bindparam("slot"))
_OPEN = (
    sa.select(sa.func.count())
    .select_from(slots)
    .where(slots.c.study_id == bindparam("study"), slots.c.role == Role.SEARCH.value, slots.c.state != "ended")
)
_STOOD_STILL = sa.and_(
    slots.c.study_id == bindparam("study"), slots.c.state == "ended", slots.c.checkpoint.is_not(None)
)
_CHECKPOINTS = sa.select(slots.c.checkpoint).where(_STOOD_STILL)
_OF_SLOTS = sa.select(slots.c.checkpoint).where(slots.c.study_id == bindparam("study"), slots.c.checkpoint.is_not(None))
_NAMES = sa.select(trunks.c.artifact).where(trunks.c.study_id == bindparam("study"))


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a trial begins that goes on from another one."""

    parent: int
    """The number of the other one."""
    metrics: tuple[EpochMetrics, ...]
    """The epochs that it has of that; they took no time."""
    artifact: str | None
    """The state; None where it is kept no longer."""

    @property
    def shared(self) -> int:
        """How many epochs they have in common."""
        return len(self.metrics)


def keep(connection: sa.Connection, study: str, slot: str, epoch: int, artifact: str) -> bool:
    """Note the state of a trial after an epoch; False where one is kept already.

    In the transaction that has checked the lease.
    """
    values = {"slot_id": slot, "epoch": epoch, "study_id": study, "artifact": artifact}
    connection.execute(insert_if_absent(connection, trunks).values(**values))
    return artifact_of(connection, slot, epoch) == artifact


def of_study(connection: sa.Connection, study: str) -> dict[str, tuple[int, ...]]:
    """Return the epochs after which states are kept: slot -> epochs, rising."""
    found: dict[str, list[int]] = {}
    for row in connection.execute(_OF_STUDY, {"study": study}):
        found.setdefault(row.slot_id, []).append(row.epoch)
    return {slot: tuple(kept) for slot, kept in found.items()}


def artifact_of(connection: sa.Connection, slot: str, epoch: int) -> str | None:
    """Return the artifact with the state of a trial after an epoch; None where none is kept."""
    found: str | None = connection.scalar(_ARTIFACT, {"slot": slot, "at": epoch})
    return found


def ask(connection: sa.Connection, slot: str, parent: str | None, shared: int) -> None:
    """Note in a new slot from whose state, that of the slot ``parent``, its trial is to go on."""
    if parent is None or not shared:
        return
    number = connection.execute(_OF_SLOT, {"slot": parent}).one().number
    connection.execute(_CHANGE.values(parent=number, shared_epochs=shared), {"slot": slot})


def begin(connection: sa.Connection, study: Study, slot: str, trial_id: int, config: TrialConfig) -> Branch | None:
    """Give a trial that begins the epochs of its parent, in the transaction that starts it; None: it has no parent.

    The setting that was drawn in the end may be another one than the strategy had in mind, and the state may be gone:
    what does not share its learning rates so far, or cannot go on from there, begins by itself.
    """
    row = connection.execute(_OF_SLOT, {"slot": slot}).one()
    if row.role != Role.SEARCH.value or row.shared_epochs is None:
        return None
    found = of_slot(connection, slot)
    source = connection.execute(
        sa.select(slots.c.id).where(
            slots.c.study_id == study.id, slots.c.number == row.parent, slots.c.role == Role.SEARCH.value
        )
    ).first()
    if found is None or found.artifact is None or source is None or not _shares(connection, study, row, config):
        connection.execute(_CHANGE.values(parent=None, shared_epochs=None), {"slot": slot})
        return None
    first = comparable_from(config.schedule, config.epochs)
    for one in connection.execute(_EPOCHS, {"slot": source.id, "upto": row.shared_epochs}).all():
        # Nobody has compared this trial there, and nobody has spent time on it.
        own = {"slot_id": slot, "seconds": 0.0, "cut": None, "n_compared": 0, "comparable": one.epoch >= first}
        connection.execute(insert_if_absent(connection, epochs).values(**{**one._mapping, **own}))  # noqa: SLF001 - public by its documentation
        optuna_rows.report(connection, trial_id, one.epoch, float("nan") if one.rung_score is None else one.rung_score)
    return of_slot(connection, slot)


def of_slot(connection: sa.Connection, slot: str) -> Branch | None:
    """Return where the trial of a slot began that goes on from another one; None where it began by itself."""
    row = connection.execute(_OF_SLOT, {"slot": slot}).one()
    if row.role != Role.SEARCH.value or row.shared_epochs is None or row.parent is None:
        return None
    inherited = connection.execute(_EPOCHS, {"slot": slot, "upto": row.shared_epochs}).all()
    artifact: str | None = connection.scalar(_START, {"slot": slot})
    return Branch(row.parent, tuple(progress.metrics(one) for one in inherited), artifact)


def named(connection: sa.Connection, study: str) -> set[str]:
    """Return the artifacts of a study that trials branch from or go on with."""
    return {*connection.scalars(_NAMES, {"study": study}), *connection.scalars(_OF_SLOTS, {"study": study})}


def release(connection: sa.Connection, study: str) -> list[str]:
    """Forget what a study kept and needs no more, once none of its trials is open; return the artifacts, for removal.

    That is its states, and the checkpoints of trials that ended while they stood still.
    """
    names = [*connection.scalars(_NAMES, {"study": study}), *connection.scalars(_CHECKPOINTS, {"study": study})]
    if not names or connection.scalar(_OPEN, {"study": study}):
        return []
    connection.execute(trunks.delete().where(trunks.c.study_id == study))
    connection.execute(slots.update().where(_STOOD_STILL).values(checkpoint=None), {"study": study})
    return names


def _shares(connection: sa.Connection, study: Study, row: Any, config: TrialConfig) -> bool:
    """Whether a setting has had the learning rates of its parent so far."""
    steps = study.spec.steps_per_epoch(config.batch_size)
    parents: list[Mapping[str, Any]] = [
        trial.params for trial in optuna_rows.numbered(connection, study.optuna_id, row.parent)
    ]
    return any(
        shared_epochs(parameters.config(study.spec, params), config, steps) >= row.shared_epochs for params in parents
    )

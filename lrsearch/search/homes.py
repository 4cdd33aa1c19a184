"""Where a study lives among Optuna's, and what becomes of it when another program renames, copies or deletes it.

Our id lies in a user attribute of Optuna's study, and ``optuna.copy_study`` copies attributes: several of Optuna's
studies may carry one id. Our row names the one that is meant, its home; the others are copies, which are only read.
Renaming in a dashboard is copying and deleting: where the home is gone and its newest copy is whole, that copy is the
new home. Without one the study has been deleted, and what is ours of it goes too. Optuna's integer ids are used again
by SQLite, so none is believed without the attribute beside it, in the transaction that relies on it.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.storages._rdb import models
from optuna.study._frozen import FrozenStudy
from optuna.trial import TrialState
from sqlalchemy import bindparam

from lrsearch.search import optuna_rows, tables
from lrsearch.search.clock import later
from lrsearch.search.mirror import OUTCOME_ATTR, SLOT_ATTR
from lrsearch.stored import shown
from lrsearch.trial import State

log = logging.getLogger(__name__)

ID_ATTR = "lrsearch:id"

RENAMING_SECONDS = 60.0
"""A copy that lacks what ended longer ago than this was made before, and not by a renaming."""

OPTUNA_STATES: Mapping[State, TrialState] = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    # TPE ignores FAIL and would go on proposing the learning rates that diverge.
    State.DIVERGED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

_optunas = models.StudyModel.__table__
_attrs = models.StudyUserAttributeModel.__table__
_trials = models.TrialModel.__table__
_trial_attrs = models.TrialUserAttributeModel.__table__
_carries = sa.and_(
    _attrs.c.study_id == _optunas.c.study_id, _attrs.c.key == ID_ATTR, _attrs.c.value_json == bindparam("its_id")
)
_HOME = (
    sa.select(_optunas.c.study_id)
    .join(_attrs, _carries)
    .join(tables.studies, tables.studies.c.optuna_id == _optunas.c.study_id)
    .where(tables.studies.c.id == bindparam("study"), _optunas.c.study_id == bindparam("optuna"))
    # Nobody deletes it before this transaction is over; SQLite has one writer at a time anyway.
    .with_for_update(read=True, key_share=True, of=_optunas)
)
_LOCK = (
    tables.studies.update()
    .where(tables.studies.c.id == bindparam("study"))
    .values(revision=tables.studies.c.revision + 1)
    .returning(tables.studies.c.optuna_id)
)
_CARRIERS = sa.select(_optunas.c.study_id).join(_attrs, _carries).order_by(_optunas.c.study_id)
_NAME = sa.select(_optunas.c.study_name).where(_optunas.c.study_id == bindparam("optuna"))
_BY_SLOT = (
    sa.select(_trials.c.trial_id, _trials.c.number, _trials.c.state, _trial_attrs.c.value_json)
    .join(_trial_attrs, sa.and_(_trial_attrs.c.trial_id == _trials.c.trial_id, _trial_attrs.c.key == SLOT_ATTR))
    .where(_trials.c.study_id == bindparam("optuna"))
)
_OF_STUDIES = (tables.leases, tables.epochs, tables.interruptions, tables.workers, tables.slots)


@dataclass(slots=True)
class Home:
    """The study of Optuna's that is meant by one of ours; it moves when somebody renames it."""

    study: str
    """Our id."""
    optuna_id: int

    def check(self, connection: sa.Connection) -> bool:
        """Make sure of the home, within a transaction that may write; False when the study is gone, with all its rows.

        Until the end of the transaction nobody deletes it.
        """
        known = {"study": self.study, "its_id": json.dumps(self.study), "optuna": self.optuna_id}
        if connection.execute(_HOME, known).first() is not None:
            return True
        row = connection.execute(_LOCK, {"study": self.study}).first()
        if row is None:
            return False
        there = carriers(connection, self.study)
        found = row.optuna_id if row.optuna_id in there else None
        if found is None:
            found = next((heir for heir in reversed(there) if _is_whole(connection, self.study, heir)), None)
            if found is None:
                sweep(connection, self.study)
                return False
            _move(connection, self.study, found)
        self.optuna_id = found
        return connection.execute(_HOME, known | {"optuna": found}).first() is not None


def carriers(connection: sa.Connection, study: str) -> list[int]:
    """Return Optuna's ids of the studies that carry our id, the oldest first."""
    return [int(one) for one in connection.scalars(_CARRIERS, {"its_id": json.dumps(study)})]


def sorted_out(found: Iterable[FrozenStudy], homes: Mapping[str, int | None]) -> list[tuple[FrozenStudy, str | None]]:
    """Return the studies that are ours or copies of ours, each copy with the name of its original.

    Args:
        found: all studies as Optuna has them.
        homes: Optuna's id of the home by our id, of every row of ours; None in one of an older schema.
    """
    groups: dict[str, list[FrozenStudy]] = {}
    for one in found:
        ours = one.user_attrs.get(ID_ATTR)
        if isinstance(ours, str) and ours in homes:
            groups.setdefault(ours, []).append(one)
    out = []
    for ours, group in groups.items():
        by_id = {one._study_id: one for one in group}  # noqa: SLF001 - no public name
        home = homes[ours]
        # One that was renamed a moment ago lives in its newest copy; a worker, or who writes next, moves its rows.
        at = home if home in by_id else min(by_id) if home is None else max(by_id)
        out += [(one, None if key == at else by_id[at].study_name) for key, one in by_id.items()]
    return out


def sweep(connection: sa.Connection, study: str) -> list[str]:
    """Remove all rows of ours of a study; return the artifacts that nothing names any more."""
    slots = tables.slots
    rows = connection.execute(sa.select(slots.c.checkpoint, slots.c.weights).where(slots.c.study_id == study))
    named = [name for row in rows for name in row if name is not None]
    for table in _OF_STUDIES:
        connection.execute(table.delete().where(table.c.study_id == study))
    connection.execute(tables.studies.delete().where(tables.studies.c.id == study))
    return named


def _is_whole(connection: sa.Connection, study: str, optuna_id: int) -> bool:
    """Whether a copy has every trial that ended before somebody can have begun to rename the study."""
    slots = tables.slots
    ended = sa.select(slots.c.id).where(
        slots.c.study_id == study, slots.c.state == "ended", slots.c.ended_at <= later(-RENAMING_SECONDS)
    )
    there = {json.loads(row.value_json) for row in connection.execute(_BY_SLOT, {"optuna": optuna_id})}
    return set(connection.scalars(ended)) <= there


def _move(connection: sa.Connection, study: str, optuna_id: int) -> None:
    """Make a copy the home: what was trained while it was being made is told there, or is trained again."""
    slots = tables.slots
    name = connection.scalar(_NAME, {"optuna": optuna_id})
    connection.execute(tables.studies.update().where(tables.studies.c.id == study).values(optuna_id=optuna_id))
    there = {json.loads(row.value_json): row for row in connection.execute(_BY_SLOT, {"optuna": optuna_id})}
    mine = connection.execute(sa.select(slots).where(slots.c.study_id == study, slots.c.state != "reserved")).all()
    for slot in mine:
        trial = there.get(slot.id)
        if trial is None:
            _reopen(connection, slot.id)
        elif slot.state == "ended" and trial.state == TrialState.RUNNING:
            tell(connection, slot, trial.trial_id)
    log.warning("the study has been renamed to '%s' by another program: its work goes on there", shown(str(name)))


def _reopen(connection: sa.Connection, slot: str) -> None:
    """Have a slot drawn and trained anew: the copy was made before Optuna had its trial, and the setting is lost."""
    for table in (tables.leases, tables.epochs, tables.interruptions):
        connection.execute(table.delete().where(table.c.slot_id == slot))
    kept = ("id", "study_id", "position", "worker", "device", "versions")
    fresh: dict[str, Any] = {column.name: None for column in tables.slots.columns if column.name not in kept}
    values = fresh | {"state": "reserved", "origin": "sampler", "attempts": 1}
    connection.execute(tables.slots.update().where(tables.slots.c.id == slot).values(values))


def tell(connection: sa.Connection, slot: sa.Row[Any], trial_id: int) -> None:
    """Tell Optuna how the trial of a slot ended, as the slot has it."""
    outcome = State(slot.outcome)
    optuna_rows.end(connection, trial_id, OPTUNA_STATES[outcome], slot.value, {})
    optuna_rows.set_user_attrs_anew(connection, trial_id, {OUTCOME_ATTR: outcome.value})

"""Where a study lives among Optuna's, and what becomes of it when another program renames, copies or deletes it.

Our id lies in a user attribute of Optuna's study, and ``optuna.copy_study`` copies attributes: several of Optuna's
studies may carry one id. Our row names the one that is meant, its home; the others are copies, which are only read.
Renaming in a dashboard is copying and deleting: where the home is gone and its newest copy is whole, that copy is the
new home. Without one the study has been deleted, and what is ours of it goes too. Optuna's integer ids are used again
by SQLite, so none is believed without the attribute beside it, in the transaction that relies on it.
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy import bindparam

from lrsearch.store import optuna_private, optuna_rows, tables
from lrsearch.store.tables import OUTCOME_ATTR, SLOT_ATTR
from lrsearch.text import shown
from lrsearch.trial import Reason, Role, State

log = logging.getLogger(__name__)

ID_ATTR = "lrsearch:id"
SPEC_ATTR = "lrsearch:spec"
MESSAGE_ATTR = "lrsearch:message"
"""Why a trial diverged or failed, in words."""

RENAMING = timedelta(seconds=60)
"""A copy that lacks what ended longer than this before the last that happened in the study is none of a renaming."""

OPTUNA_STATES: Mapping[State, TrialState] = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    # TPE ignores FAIL and would go on proposing the learning rates that diverge.
    State.DIVERGED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

_optunas = optuna_private.STUDIES
_attrs = optuna_private.STUDY_USER_ATTRS
_trials = optuna_private.TRIALS
_trial_attrs = optuna_private.TRIAL_USER_ATTRS
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
_specs = _attrs.alias()
_ALL = (
    # In one statement: between two another program might rename the study, and it would be in neither.
    sa.select(_optunas.c.study_id, _optunas.c.study_name, tables.studies.c.id, tables.studies.c.optuna_id)
    .add_columns(_specs.c.value_json.label("spec"), tables.studies.c.facts)
    .join(_attrs, sa.and_(_attrs.c.study_id == _optunas.c.study_id, _attrs.c.key == ID_ATTR))
    .join(tables.studies, _attrs.c.value_json == sa.literal('"') + tables.studies.c.id + sa.literal('"'))
    .outerjoin(_specs, sa.and_(_specs.c.study_id == _optunas.c.study_id, _specs.c.key == SPEC_ATTR))
)
_MARKED_ELSEWHERE = (
    sa.select(_trials.c.trial_id, _trial_attrs.c.value_json)
    .join(_trial_attrs, sa.and_(_trial_attrs.c.trial_id == _trials.c.trial_id, _trial_attrs.c.key == SLOT_ATTR))
    .where(
        _trials.c.study_id.not_in(
            sa.select(_attrs.c.study_id).where(_attrs.c.key == ID_ATTR, _attrs.c.value_json == bindparam("its_id"))
        )
    )
)
_SCORES = sa.select(tables.epochs.c.epoch, tables.epochs.c.rung_score).where(
    tables.epochs.c.slot_id == bindparam("slot")
)
_OF_STUDIES = (
    tables.leases,
    tables.epochs,
    tables.interruptions,
    tables.workers,
    tables.range_tests,
    tables.confirmations,
    tables.moves,
    tables.known,
    tables.trunks,
    tables.slots,
)


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


@dataclass(frozen=True, slots=True)
class Carrier:
    """A study of Optuna's that carries an id of ours: one of ours, or a copy of it."""

    optuna_id: int
    name: str
    study: str
    """Our id."""
    spec: str
    """As JSON; empty where the attribute is gone."""
    copy_of: str | None
    """The name of the original, of a copy."""
    facts: str | None = None
    """As JSON; None where nobody has measured them."""


def all_carriers(connection: sa.Connection) -> list[Carrier]:
    """Return the studies that are ours, and copies of ours, by name; as they all were at one moment."""
    groups: dict[str, list[sa.Row[Any]]] = {}
    for row in connection.execute(_ALL):
        groups.setdefault(row.id, []).append(row)
    out = []
    for ours, group in groups.items():
        names, home = {row.study_id: row.study_name for row in group}, group[0].optuna_id
        # One that was renamed a moment ago lives in its newest copy; a worker, or who writes next, moves its rows. A
        # database of an older schema names no home.
        at = home if home in names else min(names) if home is None else max(names)
        for row in group:
            spec = "" if row.spec is None else json.loads(row.spec)
            copy_of = None if row.study_id == at else names[at]
            out.append(Carrier(row.study_id, row.study_name, ours, spec, copy_of, row.facts))
    return sorted(out, key=lambda one: one.name)


def sweep(connection: sa.Connection, study: str) -> list[str]:
    """Remove all rows of ours of a study; return the artifacts that nothing names any more."""
    slots = tables.slots
    rows = connection.execute(sa.select(slots.c.checkpoint, slots.c.weights).where(slots.c.study_id == study))
    named = [name for row in rows for name in row if name is not None]
    named += connection.scalars(sa.select(tables.trunks.c.artifact).where(tables.trunks.c.study_id == study))
    _remove_strays(connection, study)
    for table in _OF_STUDIES:
        connection.execute(table.delete().where(table.c.study_id == study))
    connection.execute(tables.studies.delete().where(tables.studies.c.id == study))
    return named


def _is_whole(connection: sa.Connection, study: str, optuna_id: int) -> bool:
    """Whether a copy has every trial that ended before somebody can have begun to rename the study.

    That was by the end of the work, not by now: with long epochs a worker notices hours later.
    """
    slots = tables.slots
    query = sa.select(slots.c.id, slots.c.started_at, slots.c.ended_at).where(slots.c.study_id == study)
    rows = connection.execute(query).all()
    last = max((at for row in rows for at in (row.started_at, row.ended_at) if at is not None), default=None)
    there = {json.loads(row.value_json) for row in connection.execute(_BY_SLOT, {"optuna": optuna_id})}
    return last is None or all(
        row.id in there or row.ended_at is None or row.ended_at > last - RENAMING for row in rows
    )


def _move(connection: sa.Connection, study: str, optuna_id: int) -> None:
    """Make a copy the home: what was trained while it was being made is told there, or is trained again."""
    slots = tables.slots
    _remove_strays(connection, study)
    name = connection.scalar(_NAME, {"optuna": optuna_id})
    connection.execute(tables.studies.update().where(tables.studies.c.id == study).values(optuna_id=optuna_id))
    there = {json.loads(row.value_json): row for row in connection.execute(_BY_SLOT, {"optuna": optuna_id})}
    values = optuna_rows.values(connection, optuna_id)
    mine = connection.execute(sa.select(slots).where(slots.c.study_id == study, slots.c.state != "reserved")).all()
    for slot in mine:
        trial = there.get(slot.id)
        if trial is None:
            _reopen(connection, slot)
            continue
        for epoch in connection.execute(_SCORES, {"slot": slot.id}):
            # Those that were accepted after the copy was made; the others are there.
            score = math.nan if epoch.rung_score is None else epoch.rung_score
            optuna_rows.report(connection, trial.trial_id, epoch.epoch, score)
        theirs = trial.state, values.get(trial.trial_id)
        if slot.state == "ended" and slot.reason != Reason.TOLD_ELSEWHERE and theirs != _as_optuna_has_it(slot):
            tell(connection, slot, trial.trial_id)
    log.warning("the study has been renamed to '%s' by another program: its work goes on there", shown(str(name)))


def _remove_strays(connection: sa.Connection, study: str) -> None:
    """Remove trials of ours that hang on a study that is not ours, or on none.

    Optuna reads which trials a study has, and then deletes them and it: one that begins between the two stays behind
    in SQLite, and would be a trial of whichever study is given that id next.
    """
    mine = set(connection.scalars(sa.select(tables.slots.c.id).where(tables.slots.c.study_id == study)))
    marked = connection.execute(_MARKED_ELSEWHERE, {"its_id": json.dumps(study)})
    strays = [row.trial_id for row in marked if json.loads(row.value_json) in mine]
    if strays:
        optuna_rows.delete_trials(connection, _trials.c.trial_id.in_(strays))
    optuna_rows.remove_orphans(connection)


def _reopen(connection: sa.Connection, slot: sa.Row[Any]) -> None:
    """Have a slot drawn and trained anew: the copy was made before Optuna had its trial, and the setting is lost."""
    for table in (tables.leases, tables.epochs, tables.interruptions, tables.moves, tables.trunks):
        connection.execute(table.delete().where(table.c.slot_id == slot.id))
    kept = ["id", "study_id", "position", "role", "worker", "device", "versions"]
    repeats = slot.role == Role.CONFIRM.value
    kept += ["parent", "seed", "setting"] if repeats else []
    fresh: dict[str, Any] = {column.name: None for column in tables.slots.columns if column.name not in kept}
    values = fresh | {"state": "reserved", "origin": slot.origin if repeats else "sampler", "attempts": 1}
    connection.execute(tables.slots.update().where(tables.slots.c.id == slot.id).values(values))


def _as_optuna_has_it(slot: sa.Row[Any]) -> tuple[TrialState, float | None]:
    return OPTUNA_STATES[State(slot.outcome)], slot.value


def tell(connection: sa.Connection, slot: sa.Row[Any], trial_id: int) -> None:
    """Tell Optuna how the trial of a slot ended, as the slot has it."""
    outcome = State(slot.outcome)
    optuna_rows.end_anew(connection, trial_id, *_as_optuna_has_it(slot))
    attrs = {OUTCOME_ATTR: outcome.value}
    if outcome in (State.DIVERGED, State.FAILED):
        attrs[MESSAGE_ATTR] = slot.message or ""
    optuna_rows.set_user_attrs_anew(connection, trial_id, attrs)

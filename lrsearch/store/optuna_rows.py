"""What a trial writes into Optuna's own tables: its start, its rung scores, its ending; and how they are read back.

Optuna's storage commits each of these in a session of its own, after which a worker that has lost its trial would have
overwritten the new owner's numbers, and a kill between its commit and ours would leave the two apart. These few rows
go through Optuna's own table definitions instead, inside the transaction that holds the lease. Evidence and limits:
docs/decisions/0003-write-trials-into-optunas-tables.md. A test holds the rows equal to those that Optuna writes.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite

from lrsearch.store import optuna_private
from lrsearch.store.tables import now

_studies = optuna_private.STUDIES
_directions = optuna_private.DIRECTIONS
_study_user_attrs = optuna_private.STUDY_USER_ATTRS
_study_system_attrs = optuna_private.STUDY_SYSTEM_ATTRS
_trials = optuna_private.TRIALS
_params = optuna_private.PARAMS
_reports = optuna_private.REPORTS
_values = optuna_private.VALUES
_user_attrs = optuna_private.TRIAL_USER_ATTRS
_system_attrs = optuna_private.TRIAL_SYSTEM_ATTRS
_Report = optuna_private.ReportKind
_Value = optuna_private.ValueKind

FIXED_PARAMS_ATTR = "fixed_params"
"""Optuna's own: where ``Study.enqueue_trial`` keeps what a person asked for."""

CHUNK = 5000
"""Trials that are read at once."""

# Prepared once: what SQLAlchemy needs to make a statement anew each time costs more than SQLite needs to run it.
_of_study = _trials.c.study_id == bindparam("study")
_this = _trials.c.trial_id == bindparam("trial")
_LOCK = sa.select(_studies.c.study_id).where(_studies.c.study_id == bindparam("study")).with_for_update()
_next_number = sa.select(sa.func.count()).select_from(_trials).where(_of_study).scalar_subquery()
_CREATE = (
    _trials.insert()
    .values(study_id=bindparam("study"), state=TrialState.RUNNING, datetime_start=now(), number=_next_number)
    .returning(_trials.c.trial_id, _trials.c.number)
)
_ENQUEUE = (
    _trials.insert()
    .values(study_id=bindparam("study"), state=TrialState.WAITING, number=_next_number)
    .returning(_trials.c.trial_id, _trials.c.number)
)
_ADOPT = (
    _trials.update()
    .where(_this, _of_study, _trials.c.number == bindparam("nth"), _trials.c.state == TrialState.WAITING)
    .values(state=TrialState.RUNNING, datetime_start=now())
)
_END = (
    _trials.update().where(_this).values(state=bindparam("ended", type_=_trials.c.state.type), datetime_complete=now())
)
_WAITING = (
    sa.select(_trials.c.trial_id, _trials.c.number)
    .where(_of_study, _trials.c.state == TrialState.WAITING)
    .order_by(_trials.c.number)
)
_OF_SLOT = (
    sa.select(_trials.c.trial_id, _trials.c.number, _trials.c.state)
    .join(_user_attrs, _user_attrs.c.trial_id == _trials.c.trial_id)
    .where(_of_study, _user_attrs.c.key == bindparam("mark"), _user_attrs.c.value_json == bindparam("its_value"))
    # Nobody deletes it or tells how it ended before this transaction is over.
    .with_for_update(key_share=True, of=_trials)
)
_THIS_OF_SLOT = _OF_SLOT.where(_this)
_ADD_PARAMS, _ADD_VALUE = _params.insert(), _values.insert()
_ADD_USER_ATTRS, _ADD_SYSTEM_ATTRS = _user_attrs.insert(), _system_attrs.insert()
_ADD_REPORT = {
    "sqlite": sqlite.insert(_reports).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(_reports).on_conflict_do_nothing(),
}
_ADD_STUDY = {
    "sqlite": sqlite.insert(_studies).on_conflict_do_nothing().returning(_studies.c.study_id),
    "postgresql": postgresql.insert(_studies).on_conflict_do_nothing().returning(_studies.c.study_id),
}
_among: sa.BindParameter[Any] = bindparam("among", expanding=True)
_running: sa.BindParameter[Any] = bindparam("running", expanding=True)
_NEWS = sa.select(_trials).where(
    _of_study,
    sa.or_(
        _trials.c.trial_id > bindparam("after"),
        _trials.c.trial_id.in_(_among),
        sa.and_(_trials.c.trial_id.in_(_running), _trials.c.state != TrialState.RUNNING),
    ),
)


_OF_TRIALS = [
    table for table in reversed(optuna_private.METADATA.sorted_tables) if "trial_id" in table.c and table is not _trials
]
_CLEAR = [table.delete().where(table.c.trial_id == bindparam("trial")) for table in _OF_TRIALS]


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A trial that a person has enqueued."""

    trial_id: int
    number: int


def create_study(
    connection: sa.Connection,
    name: str,
    direction: StudyDirection,
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
) -> bool:
    """Write a whole study; return False, with nothing written, when there is one of that name."""
    study_id = connection.scalar(_ADD_STUDY[connection.dialect.name], {"study_name": name})
    if study_id is None:
        return False
    if connection.dialect.name == "sqlite":
        # The id may be that of a deleted study: what was written while Optuna deleted that one is still there.
        delete_study(connection, study_id, but_for=_studies)
    connection.execute(_directions.insert().values(study_id=study_id, direction=direction, objective=0))
    for table, attrs in ((_study_user_attrs, user_attrs), (_study_system_attrs, system_attrs)):
        for key, value in attrs.items():
            connection.execute(table.insert().values(study_id=study_id, key=key, value_json=json.dumps(value)))
    return True


def set_study_attr(connection: sa.Connection, study_id: int, key: str, value: Any) -> None:
    """Change a user attribute that the study has."""
    mine = sa.and_(_study_user_attrs.c.study_id == study_id, _study_user_attrs.c.key == key)
    connection.execute(_study_user_attrs.update().where(mine).values(value_json=json.dumps(value)))


def delete_trials(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Remove the trials of which that holds, and every row that hangs on them."""
    trial_ids = list(connection.scalars(sa.select(_trials.c.trial_id).where(which)))
    for table in reversed(optuna_private.METADATA.sorted_tables):
        if "trial_id" in table.c:
            for first in range(0, len(trial_ids), CHUNK):
                among = trial_ids[first : first + CHUNK]
                connection.execute(table.delete().where(table.c.trial_id.in_(among)))


def remove_orphans(connection: sa.Connection) -> int:
    """Remove rows of trials that are no more; return how many they were.

    SQLite does not ask whether they hang on anything: Optuna deletes what it has read before, and what is written
    between the two stays behind. Ids are used again, and the next trial would have it.
    """
    if connection.dialect.name != "sqlite":
        return 0
    gone = [table.c.trial_id.not_in(sa.select(_trials.c.trial_id)) for table in _OF_TRIALS]
    return sum(connection.execute(t.delete().where(which)).rowcount for t, which in zip(_OF_TRIALS, gone, strict=True))


def orphans(connection: sa.Connection) -> int:
    """Return how many rows there are of trials that are no more."""
    count = sa.func.count()
    queries = [
        sa.select(count).select_from(table).where(table.c.trial_id.not_in(sa.select(_trials.c.trial_id)))
        for table in _OF_TRIALS
    ]
    return sum(int(connection.scalar(query) or 0) for query in queries)


def delete_study(connection: sa.Connection, study_id: int, but_for: sa.Table | None = None) -> int:
    """Remove a study and every row that hangs on it, but for those in one table; return how many trials it had."""
    trial_ids = sa.select(_trials.c.trial_id).where(_trials.c.study_id == study_id)
    n = int(connection.scalar(sa.select(sa.func.count()).select_from(trial_ids.subquery())) or 0)
    for table in reversed(optuna_private.METADATA.sorted_tables):
        if "trial_id" in table.c and table is not _trials:
            connection.execute(table.delete().where(table.c.trial_id.in_(trial_ids)))
        elif "study_id" in table.c and table is not but_for:
            connection.execute(table.delete().where(table.c.study_id == study_id))
    return n


def lock_numbers(connection: sa.Connection, study_id: int) -> None:
    """Hold Optuna's own lock of trial numbers, which its ask() takes too, until the end of the transaction.

    Before any weaker lock of the study: two that hold one, and want this one, would wait for each other. SQLite has one
    writer at a time anyway.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK, {"study": study_id})


def create(
    connection: sa.Connection, study_id: int, drawn: FrozenTrial, user_attrs: Mapping[str, Any]
) -> tuple[int, int]:
    """Write a whole RUNNING trial with the parameters of ``drawn``; return its id and number, both Optuna's.

    Under ``lock_numbers``.
    """
    trial_id, number = connection.execute(_CREATE, {"study": study_id}).one()
    _clear(connection, trial_id)
    _add_setting(connection, trial_id, drawn, user_attrs)
    return int(trial_id), int(number)


def _clear(connection: sa.Connection, trial_id: int) -> None:
    """Remove what is left of a deleted trial whose id a new one was given; see ``remove_orphans``."""
    if connection.dialect.name == "sqlite":
        for statement in _CLEAR:
            connection.execute(statement, {"trial": trial_id})


def enqueue(connection: sa.Connection, study_id: int, params: Mapping[str, Any]) -> int:
    """Write a WAITING trial as ``optuna.Study.enqueue_trial`` does, under ``lock_numbers``; return its number."""
    trial_id, number = connection.execute(_ENQUEUE, {"study": study_id}).one()
    _clear(connection, trial_id)
    connection.execute(_ADD_SYSTEM_ATTRS, _attr_rows(trial_id, {FIXED_PARAMS_ATTR: dict(params)}))
    return int(number)


def waiting(connection: sa.Connection, study_id: int) -> list[Enqueued]:
    """Return the trials that a person has enqueued, the oldest first."""
    return [Enqueued(i, n) for i, n in connection.execute(_WAITING, {"study": study_id})]


def adopt(
    connection: sa.Connection, study_id: int, waiting: FrozenTrial, drawn: FrozenTrial, user_attrs: Mapping[str, Any]
) -> bool:
    """Turn a WAITING trial into a RUNNING one with the parameters of ``drawn``; False when somebody else has it."""
    trial_id = optuna_private.trial_id(waiting)
    which = {"trial": trial_id, "study": study_id, "nth": waiting.number}
    if connection.execute(_ADOPT, which).rowcount == 0:
        return False
    known = sa.select(_system_attrs.c.key).where(_system_attrs.c.trial_id == trial_id)
    already = set(connection.scalars(known))
    _add_setting(connection, trial_id, drawn, user_attrs, without=already)
    return True


@dataclass(frozen=True, slots=True)
class Marked:
    """A trial that bears a mark of ours."""

    trial_id: int
    number: int
    state: TrialState


def marked(
    connection: sa.Connection, study_id: int, mark: str, value: str, trial_id: int | None = None
) -> Marked | None:
    """Return the trial of the study whose user attribute ``mark`` has that value, or None.

    Args:
        connection: until the end of its transaction nobody deletes the trial, or tells how it ended.
        study_id: Optuna's.
        mark: the attribute's key.
        value: what it must hold.
        trial_id: where the trial was last; it is looked at alone, which needs no search.
    """
    wanted = {"study": study_id, "mark": mark, "its_value": json.dumps(value)}
    query = _OF_SLOT if trial_id is None else _THIS_OF_SLOT
    row = connection.execute(query, wanted if trial_id is None else wanted | {"trial": trial_id}).first()
    return None if row is None else Marked(int(row.trial_id), int(row.number), row.state)


def values(connection: sa.Connection, study_id: int) -> dict[int, float | None]:
    """Return the values that the trials of a study were told, by trial id."""
    told = sa.select(_values.c.trial_id, _values.c.value).join(_trials, _trials.c.trial_id == _values.c.trial_id)
    return {row.trial_id: row.value for row in connection.execute(told.where(_trials.c.study_id == study_id))}


def end_anew(connection: sa.Connection, trial_id: int, state: TrialState, value: float | None) -> None:
    """Write the ending of a trial, whatever another program told of it."""
    connection.execute(_values.delete().where(_values.c.trial_id == trial_id))
    end(connection, trial_id, state, value, {})


def set_user_attrs_anew(connection: sa.Connection, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Set user attributes that a trial may have already."""
    mine = sa.and_(_user_attrs.c.trial_id == trial_id, _user_attrs.c.key.in_(list(attrs)))
    connection.execute(_user_attrs.delete().where(mine))
    set_user_attrs(connection, trial_id, attrs)


def set_user_attrs(connection: sa.Connection, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Add user attributes that a trial does not have."""
    connection.execute(_ADD_USER_ATTRS, _attr_rows(trial_id, attrs))


def report(connection: sa.Connection, trial_id: int, epoch: int, score: float) -> None:
    """Write the rung score of an epoch."""
    stored, kind = (score, _Report.FINITE) if math.isfinite(score) else (None, _Report.NAN)
    if math.isinf(score):
        kind = _Report.INF_POS if score > 0 else _Report.INF_NEG
    values = {"trial_id": trial_id, "step": epoch, "intermediate_value": stored, "intermediate_value_type": kind}
    connection.execute(_ADD_REPORT[connection.dialect.name], values)


def end(
    connection: sa.Connection, trial_id: int, state: TrialState, value: float | None, user_attrs: Mapping[str, Any]
) -> None:
    """Write the ending: state, value, the database's time, and what Optuna has no word for as user attributes."""
    if value is not None and math.isfinite(value):
        row = {"trial_id": trial_id, "objective": 0, "value": value, "value_type": _Value.FINITE}
        connection.execute(_ADD_VALUE, row)
    if user_attrs:
        connection.execute(_ADD_USER_ATTRS, _attr_rows(trial_id, user_attrs))
    connection.execute(_END, {"trial": trial_id, "ended": state})


def news(
    connection: sa.Connection, study_id: int, after: int, unfinished: Sequence[int], running: Sequence[int] = ()
) -> list[FrozenTrial]:
    """Return the trials with an id above ``after`` and those among ``unfinished``, by id, as Optuna would read them.

    And those that were ``running`` and run no longer.
    """
    which = {"study": study_id, "after": after, "among": list(unfinished), "running": list(running)}
    rows = connection.execute(_NEWS, which).all()
    out: list[FrozenTrial] = []
    for first in range(0, len(rows), CHUNK):
        out += _frozen(connection, sorted(rows[first : first + CHUNK], key=lambda row: int(row.trial_id)))
    return sorted(out, key=optuna_private.trial_id)


def numbered(connection: sa.Connection, study_id: int, number: int) -> list[FrozenTrial]:
    """Return the trial with that number, or nothing, as Optuna would read it."""
    rows = connection.execute(sa.select(_trials).where(_of_study, _trials.c.number == number), {"study": study_id})
    return _frozen(connection, rows.all())


def _frozen(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[FrozenTrial]:
    ids = [row.trial_id for row in rows]
    params = _grouped(connection, _params, ids)
    reports, values = _grouped(connection, _reports, ids), _grouped(connection, _values, ids)
    user_attrs, system_attrs = _grouped(connection, _user_attrs, ids), _grouped(connection, _system_attrs, ids)
    out = []
    for row in rows:
        i = row.trial_id
        distributions = {p.param_name: _distribution(p.distribution_json) for p in params.get(i, ())}
        out.append(
            FrozenTrial(
                number=row.number,
                trial_id=i,
                state=row.state,
                value=None,
                values=[_number(v.value, v.value_type.name) for v in values[i]] if i in values else None,
                datetime_start=_local(row.datetime_start),
                datetime_complete=_local(row.datetime_complete),
                params={
                    p.param_name: distributions[p.param_name].to_external_repr(p.param_value) for p in params.get(i, ())
                },
                distributions=distributions,
                user_attrs={a.key: json.loads(a.value_json) for a in user_attrs.get(i, ())},
                system_attrs={a.key: json.loads(a.value_json) for a in system_attrs.get(i, ())},
                intermediate_values={
                    r.step: _number(r.intermediate_value, r.intermediate_value_type.name) for r in reports.get(i, ())
                },
            )
        )
    return out


def _grouped(connection: sa.Connection, table: sa.Table, ids: Sequence[int]) -> dict[int, list[sa.Row[Any]]]:
    """Return the rows of a table by trial, in the order in which they were written."""
    out: dict[int, list[sa.Row[Any]]] = {}
    for row in connection.execute(_BY_TRIAL[table.name], {"among": list(ids)}):
        out.setdefault(row.trial_id, []).append(row)
    return out


def _by_trial(table: sa.Table) -> sa.Select[Any]:
    (key,) = table.primary_key.columns
    return sa.select(table).where(table.c.trial_id.in_(_among)).order_by(key)


_BY_TRIAL = {t.name: _by_trial(t) for t in (_params, _reports, _values, _user_attrs, _system_attrs)}


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


@lru_cache(maxsize=4096)
def _distribution_json(kind: BaseDistribution) -> str:
    return distribution_to_json(kind)


def _local(stored: datetime | None) -> datetime | None:
    """Return a time as Optuna gives it: naive and local; its tables hold UTC."""
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _number(stored: float | None, kind: str) -> float:
    if stored is not None:
        return stored
    return {"INF_POS": math.inf, "INF_NEG": -math.inf}.get(kind, math.nan)


def _add_setting(
    connection: sa.Connection,
    trial_id: int,
    drawn: FrozenTrial,
    user_attrs: Mapping[str, Any],
    without: Iterable[str] = (),
) -> None:
    if drawn.params:
        params = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": drawn.distributions[name].to_internal_repr(value),
                "distribution_json": _distribution_json(drawn.distributions[name]),
            }
            for name, value in drawn.params.items()
        ]
        connection.execute(_ADD_PARAMS, params)
    connection.execute(_ADD_USER_ATTRS, _attr_rows(trial_id, user_attrs))
    system_attrs = {key: value for key, value in drawn.system_attrs.items() if key not in set(without)}
    if system_attrs:
        connection.execute(_ADD_SYSTEM_ATTRS, _attr_rows(trial_id, system_attrs))


def _attr_rows(trial_id: int, attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]

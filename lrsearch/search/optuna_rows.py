"""What a trial writes into Optuna's own tables: its start, its rung scores, its ending.

Optuna's storage commits each of these in a session of its own, after which a worker that has lost its trial would have
overwritten the new owner's numbers, and a kill between its commit and ours would leave the two apart. These few rows
go through Optuna's own table definitions instead, inside the transaction that holds the lease. Evidence and limits:
docs/decisions/0003-write-trials-into-optunas-tables.md. A test holds the rows equal to those that Optuna writes.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lrsearch.search.clock import now

_studies = models.StudyModel.__table__
_directions = models.StudyDirectionModel.__table__
_study_user_attrs = models.StudyUserAttributeModel.__table__
_study_system_attrs = models.StudySystemAttributeModel.__table__
_trials = models.TrialModel.__table__
_params = models.TrialParamModel.__table__
_reports = models.TrialIntermediateValueModel.__table__
_values = models.TrialValueModel.__table__
_user_attrs = models.TrialUserAttributeModel.__table__
_system_attrs = models.TrialSystemAttributeModel.__table__
_Report = models.TrialIntermediateValueModel.TrialIntermediateValueType
_Value = models.TrialValueModel.TrialValueType


def create_study(
    connection: sa.Connection,
    name: str,
    direction: StudyDirection,
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
) -> bool:
    """Write a whole study; return False, with nothing written, when there is one of that name."""
    made = connection.execute(_studies.insert().prefix_with("OR IGNORE").values(study_name=name))
    if made.rowcount == 0:
        return False
    study_id = connection.scalar(sa.select(_studies.c.study_id).where(_studies.c.study_name == name))
    connection.execute(_directions.insert().values(study_id=study_id, direction=direction, objective=0))
    for table, attrs in ((_study_user_attrs, user_attrs), (_study_system_attrs, system_attrs)):
        for key, value in attrs.items():
            connection.execute(table.insert().values(study_id=study_id, key=key, value_json=json.dumps(value)))
    return True


def delete_study(connection: sa.Connection, study_id: int) -> None:
    """Remove a study and every row that hangs on it."""
    trial_ids = sa.select(_trials.c.trial_id).where(_trials.c.study_id == study_id)
    for table in reversed(models.BaseModel.metadata.sorted_tables):
        if "trial_id" in table.c and table is not _trials:
            connection.execute(table.delete().where(table.c.trial_id.in_(trial_ids)))
        elif "study_id" in table.c:
            connection.execute(table.delete().where(table.c.study_id == study_id))


def create(
    connection: sa.Connection, study_id: int, drawn: FrozenTrial, user_attrs: Mapping[str, Any]
) -> tuple[int, int]:
    """Write a whole RUNNING trial with the parameters of ``drawn``; return its id and number, both Optuna's."""
    # Optuna's own lock of trial numbers: its ask() takes it too.
    connection.execute(sa.select(_studies.c.study_id).where(_studies.c.study_id == study_id).with_for_update())
    row = _trials.insert().values(study_id=study_id, state=TrialState.RUNNING, datetime_start=now())
    (trial_id,) = connection.execute(row.returning(_trials.c.trial_id)).one()
    number = connection.scalar(
        sa.select(sa.func.count())
        .select_from(_trials)
        .where(_trials.c.study_id == study_id, _trials.c.trial_id < trial_id)
    )
    connection.execute(_trials.update().where(_trials.c.trial_id == trial_id).values(number=number))
    if drawn.params:
        params = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": drawn.distributions[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(drawn.distributions[name]),
            }
            for name, value in drawn.params.items()
        ]
        connection.execute(_params.insert(), params)
    for table, attrs in ((_user_attrs, user_attrs), (_system_attrs, drawn.system_attrs)):
        for key, value in attrs.items():
            connection.execute(table.insert().values(trial_id=trial_id, key=key, value_json=json.dumps(value)))
    return int(trial_id), int(number or 0)


def report(connection: sa.Connection, trial_id: int, epoch: int, score: float) -> None:
    """Write the rung score of an epoch."""
    stored, kind = (score, _Report.FINITE) if math.isfinite(score) else (None, _Report.NAN)
    if math.isinf(score):
        kind = _Report.INF_POS if score > 0 else _Report.INF_NEG
    values = {"trial_id": trial_id, "step": epoch, "intermediate_value": stored, "intermediate_value_type": kind}
    connection.execute(_reports.insert().values(**values))


def forget_reports(connection: sa.Connection, trial_id: int) -> None:
    """Remove the rung scores of an attempt that starts again."""
    connection.execute(_reports.delete().where(_reports.c.trial_id == trial_id))


def end(
    connection: sa.Connection, trial_id: int, state: TrialState, value: float | None, user_attrs: Mapping[str, Any]
) -> None:
    """Write the ending: state, value, the database's time, and what Optuna has no word for as user attributes."""
    if value is not None and math.isfinite(value):
        connection.execute(
            _values.insert().values(trial_id=trial_id, objective=0, value=value, value_type=_Value.FINITE)
        )
    for key, attr in user_attrs.items():
        connection.execute(_user_attrs.insert().values(trial_id=trial_id, key=key, value_json=json.dumps(attr)))
    connection.execute(
        _trials.update().where(_trials.c.trial_id == trial_id).values(state=state, datetime_complete=now())
    )

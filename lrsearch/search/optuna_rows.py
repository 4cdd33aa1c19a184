"""What a report and an ending write into Optuna's own tables.

Optuna's storage commits each in a session of its own, after which a worker that has lost its trial would have
overwritten the new owner's numbers, and a kill between its commit and ours would leave them apart. These few rows go
through Optuna's own table definitions instead, inside the transaction that checks the lease. Evidence and limits:
docs/decisions/0004-write-reports-into-optunas-tables.md. Kept equal to what Optuna writes by a test.
"""

import math
from datetime import datetime

import sqlalchemy as sa
from optuna.storages._rdb import models
from optuna.trial import TrialState

_trials = models.TrialModel.__table__
_reports = models.TrialIntermediateValueModel.__table__
_values = models.TrialValueModel.__table__
_attrs = models.TrialUserAttributeModel.__table__
_Report = models.TrialIntermediateValueModel.TrialIntermediateValueType
_Value = models.TrialValueModel.TrialValueType


def report(connection: sa.Connection, trial_id: int, epoch: int, score: float) -> None:
    """Write the rung score of an epoch."""
    stored, kind = (None, _Report.NAN) if math.isnan(score) else (score, _Report.FINITE)
    if math.isinf(score):
        stored, kind = None, _Report.INF_POS if score > 0 else _Report.INF_NEG
    connection.execute(
        _reports.insert().values(
            trial_id=trial_id, step=epoch, intermediate_value=stored, intermediate_value_type=kind
        )
    )


def forget_reports(connection: sa.Connection, trial_id: int) -> None:
    """Remove the rung scores of an attempt that starts again."""
    connection.execute(_reports.delete().where(_reports.c.trial_id == trial_id))


def end(connection: sa.Connection, trial_id: int, state: TrialState, value: float | None, outcome: str) -> None:
    """Write the ending: state, value, local time as Optuna keeps it, and the outcome as a user attribute."""
    if value is not None and math.isfinite(value):
        connection.execute(
            _values.insert().values(trial_id=trial_id, objective=0, value=value, value_type=_Value.FINITE)
        )
    connection.execute(
        _attrs.insert().values(trial_id=trial_id, key="lrsearch:outcome", value_json=f'"{outcome}"')
    )
    connection.execute(
        _trials.update()
        .where(_trials.c.trial_id == trial_id)
        .values(state=state, datetime_complete=datetime.now())  # noqa: DTZ005 - Optuna's times are naive and local
    )

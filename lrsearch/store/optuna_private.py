"""All that is used of Optuna and has no public name there: its tables, a trial's id, and three hooks.

A later Optuna may call them otherwise. Then this is the one file to change, and ``pyproject.toml`` says up to which
version it holds.
"""

from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.samplers import QMCSampler
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from sqlalchemy.orm import scoped_session, sessionmaker

__all__ = ["FrozenStudy"]

METADATA = models.BaseModel.metadata
STUDIES = models.StudyModel.__table__
DIRECTIONS = models.StudyDirectionModel.__table__
STUDY_USER_ATTRS = models.StudyUserAttributeModel.__table__
STUDY_SYSTEM_ATTRS = models.StudySystemAttributeModel.__table__
TRIALS = models.TrialModel.__table__
PARAMS = models.TrialParamModel.__table__
REPORTS = models.TrialIntermediateValueModel.__table__
VALUES = models.TrialValueModel.__table__
TRIAL_USER_ATTRS = models.TrialUserAttributeModel.__table__
TRIAL_SYSTEM_ATTRS = models.TrialSystemAttributeModel.__table__
ReportKind = models.TrialIntermediateValueModel.TrialIntermediateValueType
ValueKind = models.TrialValueModel.TrialValueType


def trial_id(trial: FrozenTrial) -> int:
    """Return Optuna's id of a trial."""
    return trial._trial_id


def use_engine(storage: RDBStorage, engine: sa.Engine) -> None:
    """Have Optuna's storage work on an engine of ours."""
    # It keeps the two for `doctor` as well.
    for owner in (storage, storage._version_manager):
        owner.engine, owner.scoped_session = engine, scoped_session(sessionmaker(bind=engine))


class PointOfSequence(QMCSampler):
    """Gives the point of a quasi-random sequence at one position, whichever process asks.

    Optuna counts the points in an attribute of the study, which two workers may read at once, and which a worker that
    is killed while it samples has already raised.

    Args:
        position: of the point.
        kwargs: those of ``optuna.samplers.QMCSampler``.
    """

    def __init__(self, position: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._position = position

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        del study, search_space
        return self._position

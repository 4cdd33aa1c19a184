"""All that is used of Optuna and has no public name there: its tables, a trial's id, and its samplers' hooks.

A later Optuna may call them otherwise. Then this is the one file to change, and ``pyproject.toml`` says up to which
version it holds.
"""

import copy
import math
import zlib
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.samplers import CmaEsSampler, QMCSampler
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
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


class CmaEsOfTrials(CmaEsSampler):
    """CMA-ES that knows how far it is from the trials alone.

    Optuna pickles its state into attributes of trials, and would run whatever somebody has written there. Here it is
    told anew what each generation came to. Pruned trials count with their last score and diverged ones behind all
    others: Optuna's own, which leaves both out, would hardly finish a generation where most trials are pruned.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a point of the current generation."""
        # Optuna adds its number to the seed, and in memory that is not the same in every process.
        alike = copy.copy(trial)
        alike.number = 0
        return super().sample_relative(study, alike, search_space)

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        self._told = completed_trials

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> Any:
        """Return the optimizer as it is after all generations that are over."""
        optimizer = super()._init_optimizer(trans, direction)
        sign = 1.0 if direction == StudyDirection.MINIMIZE else -1.0
        size: int = optimizer.population_size
        while len(told := self._get_solution_trials(self._told, optimizer.generation)) >= size:
            chosen = sorted(told, key=_shuffled)[:size]
            optimizer.tell([(trans.transform(one.params), sign * float(one.value or 0.0)) for one in chosen])
        return optimizer

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        del optimizer_str
        return {}  # nothing is kept

    def _get_trials(self, study: optuna.Study) -> list[FrozenTrial]:
        worst = -math.inf if study.direction == StudyDirection.MAXIMIZE else math.inf
        out = []
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
            value = trial.value
            if trial.state == TrialState.PRUNED:
                scores = trial.intermediate_values
                value = scores[max(scores)] if scores else worst
            told = copy.copy(trial)
            told.value = worst if value is None or math.isnan(value) else value
            out.append(told)
        return out


def _shuffled(trial: FrozenTrial) -> int:
    """Return a number by which trials are in the same order in every process, and in no order that means anything."""
    return zlib.crc32(repr(sorted(trial.params.items())).encode())

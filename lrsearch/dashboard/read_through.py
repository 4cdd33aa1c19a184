"""Optuna's view of a database for optuna-dashboard, which says in one sentence what goes wrong there."""

from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lrsearch.store.explain import explained
from lrsearch.store.optuna_private import FrozenStudy
from lrsearch.store.storage import Database

T = TypeVar("T")


class ReadThrough(BaseStorage):
    """Hands every question on to Optuna's own storage.

    That one is not given to optuna-dashboard itself: its errors may hold the URL with the password, optuna-dashboard
    would look at its schema before every page, and Optuna would keep its trials in memory, where an id that SQLite uses
    again is still that of a deleted study.

    Raises:
        StorageError: in every method, where the database does not answer; its own error may hold the URL.
        KeyError: there is no such study or trial.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._optuna = database.optuna

    def _asked(self, question: Callable[[], T]) -> T:
        with explained(self._database.place):
            return question()

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Create a study; return its id."""
        return self._asked(lambda: self._optuna.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        """Delete a study."""
        self._asked(lambda: self._optuna.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a study."""
        self._asked(lambda: self._optuna.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a study."""
        self._asked(lambda: self._optuna.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id of a study."""
        return self._asked(lambda: self._optuna.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the name of a study."""
        return self._asked(lambda: self._optuna.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the directions of a study."""
        return self._asked(lambda: self._optuna.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the user attributes of a study."""
        return self._asked(lambda: self._optuna.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the system attributes of a study."""
        return self._asked(lambda: self._optuna.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return all studies, by id."""
        return self._asked(self._optuna.get_all_studies)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial; return its id."""
        return self._asked(lambda: self._optuna.create_new_trial(study_id, template_trial))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter of a trial."""
        self._asked(lambda: self._optuna.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """End a trial, or begin it."""
        return self._asked(lambda: self._optuna.set_trial_state_values(trial_id, state, values))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Report a value of a trial."""
        self._asked(lambda: self._optuna.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a trial."""
        self._asked(lambda: self._optuna.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a trial."""
        self._asked(lambda: self._optuna.set_trial_system_attr(trial_id, key, value))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        return self._asked(lambda: self._optuna.get_trial(trial_id))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - Optuna's
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return all trials of a study, by number."""
        return self._asked(lambda: self._optuna.get_all_trials(study_id, deepcopy, states))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Return the best complete trial of a study."""
        return self._asked(lambda: self._optuna.get_best_trial(study_id))

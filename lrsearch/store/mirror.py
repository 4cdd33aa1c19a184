"""Sampling outside any lock: an in-memory copy of the study in which Optuna's samplers draw.

TPE, GP and grid samplers write to the trial while they sample, so the trial must exist; a trial that exists in the
database and has no parameters yet is one that a crash leaves behind. It is therefore asked for here and written to the
database whole, afterwards.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from lrsearch.spec.space import SearchSpace
from lrsearch.store import space as spaces
from lrsearch.trial import State

SLOT_ATTR = "lrsearch:slot"
OUTCOME_ATTR = "lrsearch:outcome"


class Mirror:
    """The study as this process last read it, plus what it has asked for since."""

    def __init__(self, direction: Literal["maximize", "minimize"]) -> None:
        self._storage = InMemoryStorage()
        before = optuna.logging.get_verbosity()
        # Optuna would tell whoever calls the Python API of a study in memory, which is none of theirs.
        optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
        self._study = optuna.create_study(storage=self._storage, direction=direction)
        optuna.logging.set_verbosity(before)
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._ids: dict[str, int] = {}
        self._finished: set[str] = set()

    def sync(self, trials: Sequence[FrozenTrial]) -> None:
        """Take over what is new in the trials of the database."""
        for trial in trials:
            key = _key(trial)
            if key in self._finished or trial.state == TrialState.WAITING:
                continue
            known = self._ids.get(key)
            if known is not None and self._storage.get_trial(known).params != trial.params:
                # Another process drew for this slot, or a plain Optuna script has asked for more since.
                self._storage.set_trial_state_values(known, TrialState.FAIL)
                known = None
            if known is None:
                self._ids[key] = self._storage.create_new_trial(self._id, _template(trial))
            elif trial.state.is_finished():
                self._finish(known, _template(trial))
            if trial.state.is_finished():
                self._finished.add(key)

    def ask(
        self,
        slot: str,
        sampler: BaseSampler,
        space: SearchSpace,
        fixed: Mapping[str, Any] | None,
    ) -> FrozenTrial:
        """Return one setting for ``slot``: the trial with its parameters.

        Args:
            slot: the slot's id, under which the trial will come back from the database.
            sampler: who draws.
            space: what to draw.
            fixed: parameters that are given already, or None.
        """
        if slot in self._ids and slot not in self._finished:
            # Asked for before, and the database never got it: out of the sampler's sight.
            self._storage.set_trial_state_values(self._ids[slot], TrialState.FAIL)
        self._study.sampler = sampler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if fixed is not None:
                self._study.enqueue_trial(dict(fixed))
            asked = self._study.ask()
            spaces.suggest(asked, space)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._id, asked.number)
        self._ids[slot] = trial_id
        return self._storage.get_trial(trial_id)

    def _finish(self, trial_id: int, template: FrozenTrial) -> None:
        for step, value in template.intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial_id, step, value)
        values = None if template.value is None else [template.value]
        self._storage.set_trial_state_values(trial_id, template.state, values)


def _key(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(SLOT_ATTR, f"optuna:{trial.number}"))


def _template(trial: FrozenTrial) -> FrozenTrial:
    """Return the trial as a sampler should see it.

    A diverged trial shows no scores: TPE then ranks it behind every pruned one, however well it looked before.
    """
    diverged = trial.user_attrs.get(OUTCOME_ATTR) == State.DIVERGED
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=trial.state,
        value=None if diverged else trial.value,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={},
        system_attrs=trial.system_attrs,
        intermediate_values={} if diverged else trial.intermediate_values,
    )

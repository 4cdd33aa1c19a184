"""The next setting: Optuna's samplers draw it, in memory, from what this process last read of the study."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, assert_never

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from lrsearch.spec import parameters
from lrsearch.spec.deciding import CmaesSpec, GpSpec, GridSpec, QmcSpec, RandomSpec, SamplerSpec, TpeSpec
from lrsearch.spec.space import SearchSpace
from lrsearch.store import optuna_private, optuna_rows
from lrsearch.store import space as spaces
from lrsearch.store.optuna_private import CmaEsOfTrials, PointOfSequence
from lrsearch.store.reach import Reach
from lrsearch.store.study import Study
from lrsearch.store.tables import OUTCOME_ATTR, ROLE_ATTR, SLOT_ATTR
from lrsearch.trial import State, TrialConfig


class Mirror:
    """The study as this process last read it, plus what it has asked for since."""

    def __init__(self, direction: Literal["maximize", "minimize"]) -> None:
        self._storage = InMemoryStorage()
        before = optuna.logging.get_verbosity()
        # Optuna would log a study in memory, which means nothing to a user of the Python API.
        optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
        self._study = optuna.create_study(storage=self._storage, direction=direction)
        optuna.logging.set_verbosity(before)
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._ids: dict[str, int] = {}
        self._finished: set[str] = set()

    def sync(self, trials: Sequence[FrozenTrial], wide: Mapping[str, BaseDistribution] = MappingProxyType({})) -> None:
        """Take over what is new in the trials of the database, some of their distributions as ``wide`` has them."""
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
                self._ids[key] = self._storage.create_new_trial(self._id, _template(trial, wide))
            elif trial.state.is_finished():
                self._finish(known, _template(trial, wide))
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


def _is_written(trial: FrozenTrial) -> bool:
    """Whether a trial is a worker's, and under way or standing still."""
    return trial.state == TrialState.RUNNING and SLOT_ATTR in trial.user_attrs


def _key(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(SLOT_ATTR, f"optuna:{trial.number}"))


def _template(trial: FrozenTrial, wide: Mapping[str, BaseDistribution]) -> FrozenTrial:
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
        distributions={name: wide.get(name, drawn_from) for name, drawn_from in trial.distributions.items()},
        user_attrs={},
        system_attrs=trial.system_attrs,
        intermediate_values={} if diverged else trial.intermediate_values,
    )


def sampler_of(spec: SamplerSpec, seed: int, position: int, attempt: int = 0) -> BaseSampler:
    """Return the sampler for the slot at ``position`` of the budget.

    A proposal is a function of (study seed, slot, finished trials): a search that was interrupted goes on as if it
    had not been, and no two slots draw the same random numbers. Nor do two attempts at one slot, of which there are
    several where a setting has been trained already.
    """
    entropy = (seed, position, attempt) if attempt else (seed, position)
    own = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    with warnings.catch_warnings():
        # multivariate, group and constant_liar have been marked experimental since Optuna 2.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match spec:
            case TpeSpec(n_startup_trials=n):
                return TPESampler(n_startup_trials=n, multivariate=True, group=True, constant_liar=True, seed=own)
            case RandomSpec():
                return RandomSampler(seed=own)
            case GpSpec(n_startup_trials=n):
                return GPSampler(n_startup_trials=n, seed=own)
            case QmcSpec():
                # Before any trial has ended, and so the parameters are known, settings are drawn at random.
                return PointOfSequence(
                    position,
                    scramble=True,
                    seed=seed,
                    independent_sampler=RandomSampler(seed=own),
                    warn_independent_sampling=False,
                )
            case CmaesSpec(n_startup_trials=n):
                # One cloud for the whole study, and the points of each slot from random numbers of its own.
                return CmaEsOfTrials(
                    n_startup_trials=n,
                    seed=own,
                    independent_sampler=RandomSampler(seed=own),
                    warn_independent_sampling=False,
                )
            case GridSpec():
                return RandomSampler(seed=own)  # of what a person's own setting leaves open
            case _:
                assert_never(spec)


DRAWS = 16
"""Settings that a sampler draws for one slot before the untried ones of a finite space are looked through."""


class Proposals:
    """What a worker knows of the settings of a study: tried, in training, and still to be tried."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._on_grid = isinstance(study.spec.sampler, GridSpec)
        self._finite = parameters.finite_space(study.spec)
        self.size = parameters.size(self._finite)
        """Settings of the space; None where they are too many to be used up."""
        self._mirror = Mirror(study.spec.metric.direction)
        self._reach = Reach(study.spec)
        self._after, self._unfinished = 0, dict[int, FrozenTrial]()
        self._read_of = study.optuna_id
        self._configs: dict[int, TrialConfig] = {}
        self._tried: Counter[TrialConfig] = Counter()

    @property
    def space(self) -> SearchSpace:
        """What settings are drawn from, as of the last look."""
        return self._reach.space

    @property
    def n_in_training(self) -> int:
        """Trials of ours that had not ended when they were last read."""
        return sum(
            SLOT_ATTR in trial.user_attrs and ROLE_ATTR not in trial.user_attrs for trial in self._unfinished.values()
        )

    def read_news(self) -> None:
        """Read what has been written since the last look."""
        if self._read_of != self._study.optuna_id:
            # The study was renamed: its trials are others for Optuna.
            self._after, self._unfinished, self._read_of = 0, {}, self._study.optuna_id
        # A worker writes a trial whole, and nothing more of interest until it ends; a strategy has thousands that stand
        # still. Another program's may have asked for more.
        running = [i for i, trial in self._unfinished.items() if _is_written(trial)]
        others = [i for i, trial in self._unfinished.items() if not _is_written(trial)]
        news = self._study.database.read(
            lambda c: optuna_rows.news(c, self._study.optuna_id, self._after, others, running)
        )
        searched = [trial for trial in news if ROLE_ATTR not in trial.user_attrs]
        if self._reach.read(searched):
            # For Optuna all trials of a study have one range: they are shown anew, with that which holds now.
            self._mirror, searched = Mirror(self._study.spec.metric.direction), self._reach.trials
        self._mirror.sync(searched, self._reach.distributions)
        for trial in news:
            trial_id = optuna_private.trial_id(trial)
            self._after = max(self._after, trial_id)
            if trial.state.is_finished():
                self._unfinished.pop(trial_id, None)
            else:
                self._unfinished[trial_id] = trial
            self._note(trial)

    def by_number(self, number: int) -> FrozenTrial | None:
        """Return an unfinished trial, or None where plain Optuna has finished it."""
        return next((trial for trial in self._unfinished.values() if trial.number == number), None)

    def repeated(self, connection: sa.Connection, parent: int | None) -> FrozenTrial:
        """Return a trial with the parameters of another one, its seed left out; with none where ``parent`` is None."""
        params, distributions = dict[str, Any](), dict[str, BaseDistribution]()
        for trial in () if parent is None else optuna_rows.numbered(connection, self._study.optuna_id, parent):
            params = {name: value for name, value in trial.params.items() if name != "seed"}
            distributions = {name: trial.distributions[name] for name in params}
        return optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)

    def asked_for(self, slot: str, position: int, fixed: Mapping[str, Any]) -> FrozenTrial:
        """Return the setting that a person asked for, what it leaves open drawn; whatever was trained before."""
        return self._draw(slot, position, 0, fixed)

    def untried(self, slot: str, position: int, first: Mapping[str, Any] | None) -> FrozenTrial | None:
        """Return a setting that is not trained yet; None where there is none left.

        Args:
            slot: for which it is drawn.
            position: of the slot; with the study's seed it decides the random numbers.
            first: the parameters of a setting that is tried before the sampler is asked, or None.
        """
        drawn = None
        for attempt in range(DRAWS):
            if self._on_grid and first is None:
                break
            drawn = self._draw(slot, position, attempt, first)
            if not self._tried[self._config(drawn.params)]:
                return drawn
            first = None  # a first setting that a person was quicker to enqueue
        if self.size is None:
            return drawn
        left = [params for config, params in self._settings if not self._tried[config]]
        return self._draw(slot, position, DRAWS, left[position % len(left)]) if left else None

    @cached_property
    def _settings(self) -> list[tuple[TrialConfig, dict[str, Any]]]:
        """Every setting of a finite space, with its parameters; those of a grid shuffled by the study's seed."""
        found = [(self._config(params), params) for params in parameters.settings(self._finite)]
        if self._on_grid:
            np.random.default_rng(self._study.spec.seed).shuffle(found)
        return found

    def taken_meanwhile(self, connection: sa.Connection, drawn: FrozenTrial) -> bool:
        """Whether another worker began with that setting since the last look; under the lock of trial numbers.

        Looked at only where the space is finite: in another one a setting is not drawn twice.
        """
        if self.size is None:
            return False
        config = self._config(drawn.params)
        return any(
            SLOT_ATTR in trial.user_attrs
            and ROLE_ATTR not in trial.user_attrs
            and trial.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
            and self._config(trial.params) == config
            for trial in optuna_rows.news(connection, self._study.optuna_id, self._after, [])
        )

    def _draw(self, slot: str, position: int, attempt: int, fixed: Mapping[str, Any] | None) -> FrozenTrial:
        spec = self._study.spec
        sampler = sampler_of(spec.sampler, spec.seed, position, attempt)
        return self._mirror.ask(slot, sampler, self.space, fixed)

    def _note(self, trial: FrozenTrial) -> None:
        """Remember whose setting is trained, or in training."""
        if SLOT_ATTR not in trial.user_attrs or ROLE_ATTR in trial.user_attrs or trial.state == TrialState.WAITING:
            return
        if trial.state == TrialState.FAIL:
            config = self._configs.pop(trial.number, None)
            if config is not None:
                self._tried[config] -= 1
        elif trial.number not in self._configs:
            config = self._config(trial.params)
            self._configs[trial.number] = config
            self._tried[config] += 1

    def _config(self, params: Mapping[str, Any]) -> TrialConfig:
        return parameters.config(self._study.spec, params)

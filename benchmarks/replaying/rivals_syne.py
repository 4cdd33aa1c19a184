"""Syne Tune's schedulers that pause trials and go on with them, asked and told by their own interface.

``type="promotion"`` of its asynchronous Hyperband: a trial pauses at every rung, and goes on when it is among the best
of those that came so far, before a new one is begun. Its spaces have no conditions, so that every setting has a value
of every parameter, and those that its schedule or optimizer does not have are left out of the training.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.legacy_baselines import ASHA, MOBSTER
from syne_tune.optimizer.scheduler import SchedulerDecision

from lrsearch.trial import TrialConfig
from replaying.axes import Axes, Axis
from replaying.methods import Fate, GoOn, Named, Problem, Start

METRIC, EPOCH = "score", "epoch"
START = datetime(2000, 1, 1, tzinfo=UTC)
"""When every trial began: no decision looks at it."""


class SyneSearch:
    """A search of Syne Tune's.

    Args:
        scheduler: makes the scheduler, of its class's arguments.
        problem: what is searched.
    """

    def __init__(self, scheduler: Callable[..., Any], problem: Problem) -> None:
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        logging.getLogger().setLevel(logging.ERROR)  # to which its schedulers write too
        self._axes = Axes(problem.spec.space)
        self._scheduler = scheduler(
            {name: _domain(axis) for name, axis in self._axes.named.items()},
            metric=METRIC,
            mode="max" if problem.maximize else "min",
            resource_attr=EPOCH,
            max_t=problem.epochs,
            type="promotion",
            random_seed=problem.seed,
            search_options={"debug_log": False},
        )
        self._trials: list[Trial] = []
        self._config: dict[str, Any] | None = None

    def ask(self) -> Start | GoOn | None:
        """As ``Method.ask``."""
        found = self._scheduler.suggest(len(self._trials))
        if found is None:
            return None
        if not found.spawn_new_trial_id:
            return GoOn(int(found.checkpoint_trial_id))
        self._config = dict(found.config)
        return Start(self._axes.params(self._config))

    def began(self, trial: int, config: TrialConfig, params: Mapping[str, Any]) -> None:
        """As ``Method.began``."""
        del config
        asked, self._config = self._config, None
        assert asked is not None
        if dict(params) != self._axes.params(asked):
            asked |= self._axes.told(params)
            state = getattr(self._scheduler.searcher, "state_transformer", None)
            if state is not None:  # a model, which knows settings by their trials
                state.state.config_for_trial[str(trial)] = dict(asked)
        self._trials.append(Trial(trial, asked, START))
        self._scheduler.on_trial_add(self._trials[trial])

    def looks_at(self, epoch: int) -> bool:
        """As ``Method.looks_at``."""
        return epoch in self._scheduler.rung_levels

    def reached(self, trial: int, scores: Sequence[float]) -> Fate:
        """As ``Method.reached``."""
        said = self._scheduler.on_trial_result(self._trials[trial], _result(scores[-1], len(scores)))
        return "keep" if said == SchedulerDecision.CONTINUE else "pause"

    def ended(self, trial: int, scores: Sequence[float], value: float | None) -> None:
        """As ``Method.ended``: what diverges has failed."""
        if value is None:
            self._scheduler.on_trial_error(self._trials[trial])
            return
        result = _result(value, len(scores))
        self._scheduler.on_trial_result(self._trials[trial], result)
        self._scheduler.on_trial_complete(self._trials[trial], result)

    def seen(self, trial: int, scores: Sequence[float]) -> None:
        """As ``Method.seen``: it hears of rungs alone."""


def _result(score: float, epoch: int) -> dict[str, float]:
    return {METRIC: score, EPOCH: epoch}


def _domain(axis: Axis) -> Any:
    if axis.categories:
        return choice(axis.categories)
    low, high = axis.bounds
    if axis.integer:
        return (lograndint if axis.log else randint)(int(low), int(high))
    return (loguniform if axis.log else uniform)(float(low), float(high))


METHODS: dict[str, Named] = {
    "syne-asha": Named(partial(SyneSearch, ASHA)),
    "syne-mobster": Named(partial(SyneSearch, MOBSTER)),
}

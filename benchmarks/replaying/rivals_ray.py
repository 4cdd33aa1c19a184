"""Ray Tune's BOHB: its searcher and the scheduler that belongs to it, driven as Tune's own loop drives them.

A trial is queued ahead of the one that runs, as Tune does, and the scheduler says which goes on, pauses or stops. Its
rounds grow by three, and most brackets end short of a whole training: what is left of them is trained to the end
(``stop_last_trials=False``), as none of their trials would be complete else.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hpbandster.optimizers.config_generators.bohb  # noqa: F401 - TuneBOHB goes on without it, and then fails
import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandForBOHB, TrialScheduler
from ray.tune.search.bohb import TuneBOHB

from lrsearch.trial import TrialConfig
from replaying.axes import Axes, config_space
from replaying.methods import Fate, GoOn, Named, Problem, Start

METRIC, EPOCH = "score", "training_iteration"
REDUCTION = 3
"""How many of a round's trials there are to one that goes on: the scheduler's default."""


class SearchAlgorithm:
    """What the scheduler reaches the searcher by."""

    def __init__(self, searcher: TuneBOHB) -> None:
        self.searcher = searcher


class Controller:
    """What the scheduler asks of Tune's loop: which trials there are, and that one is stopped."""

    def __init__(self, scheduler: Any, searcher: TuneBOHB) -> None:
        self._scheduler, self.search_alg = scheduler, SearchAlgorithm(searcher)
        self.trials: list[Trial] = []
        self.last: dict[str, dict[str, Any]] = {}
        """The last result of each trial, by its name."""

    def get_trials(self) -> list[Trial]:
        """Return all trials."""
        return self.trials

    def stop_trial(self, trial: Trial) -> None:
        """End a trial, and tell both."""
        if trial.status in (Trial.ERROR, Trial.TERMINATED):
            return
        result = self.last.get(trial.trial_id)
        if trial.status == Trial.RUNNING:
            self._scheduler.on_trial_complete(self, trial, result)
        else:
            self._scheduler.on_trial_remove(self, trial)
        self.search_alg.searcher.on_trial_complete(trial.trial_id, result=result)
        trial.status = Trial.TERMINATED


class BohbSearch:
    """Ray Tune's BOHB on one study.

    Args:
        problem: what is searched.
    """

    def __init__(self, problem: Problem) -> None:
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        logging.getLogger("hpbandster").setLevel(logging.ERROR)
        self._axes, mode = Axes(problem.spec.space), "max" if problem.maximize else "min"
        self._searcher = TuneBOHB(config_space(problem.spec.space, problem.seed), metric=METRIC, mode=mode)
        self._scheduler: Any = HyperBandForBOHB(
            time_attr=EPOCH,
            metric=METRIC,
            mode=mode,
            max_t=problem.epochs,
            reduction_factor=REDUCTION,
            stop_last_trials=False,
        )
        self._milestones = milestones(problem.epochs)
        self._controller = Controller(self._scheduler, self._searcher)
        self._running: dict[int, Trial] = {}
        """Those that were begun, by their numbers in the replay."""
        self._numbers: dict[str, int] = {}
        self._next: Trial | None = None
        self._drawn = np.random.RandomState(problem.seed).get_state()
        """Of the generator of numpy that BOHB shares with everybody."""

    def ask(self) -> Start | GoOn | None:
        """As ``Method.ask``."""
        if not any(trial.status == Trial.PENDING for trial in self._controller.trials):
            self._queue()
        trial = self._scheduler.choose_trial_to_run(self._controller)
        if trial is None:
            return None
        was, trial.status = trial.status, Trial.RUNNING
        if was == Trial.PAUSED:
            return GoOn(self._numbers[trial.trial_id])
        self._next = trial
        return Start(self._axes.params(trial.config))

    def began(self, trial: int, config: TrialConfig, params: Mapping[str, Any]) -> None:
        """As ``Method.began``."""
        del config
        begun, self._next = self._next, None
        assert begun is not None
        if dict(params) != self._axes.params(begun.config):
            self._searcher.trial_to_params[begun.trial_id] = self._axes.told(params)
        self._running[trial], self._numbers[begun.trial_id] = begun, trial

    def looks_at(self, epoch: int) -> bool:
        """As ``Method.looks_at``."""
        return epoch in self._milestones

    def reached(self, trial: int, scores: Sequence[float]) -> Fate:
        """As ``Method.reached``."""
        one, result = self._running[trial], {METRIC: scores[-1], EPOCH: len(scores)}
        said = self._scheduler.on_trial_result(self._controller, one, result)
        self._controller.last[one.trial_id] = result
        if said == TrialScheduler.STOP:
            self._controller.stop_trial(one)
            return "end"
        with self._own_numbers():
            self._searcher.on_trial_result(one.trial_id, result)
        if said == TrialScheduler.CONTINUE:
            return "keep"
        one.status = Trial.PAUSED
        return "pause"

    def ended(self, trial: int, scores: Sequence[float], value: float | None) -> None:
        """As ``Method.ended``: what diverges has failed."""
        one = self._running[trial]
        if value is None:
            one.status = Trial.ERROR
            self._scheduler.on_trial_error(self._controller, one)
            self._searcher.on_trial_complete(one.trial_id, error=True)
            return
        self._controller.last[one.trial_id] = {METRIC: value, EPOCH: len(scores)}
        self._controller.stop_trial(one)

    def seen(self, trial: int, scores: Sequence[float]) -> None:
        """As ``Method.seen``: it hears of the ends of its rounds alone."""

    def _queue(self) -> None:
        name = str(len(self._controller.trials))
        with self._own_numbers():
            config = self._searcher.suggest(name)
        assert config is not None
        trial = Trial("replay", config=config, trial_id=name, stub=True)
        self._controller.trials.append(trial)
        self._scheduler.on_trial_add(self._controller, trial)

    @contextmanager
    def _own_numbers(self) -> Iterator[None]:
        """Have numpy's shared generator go on where this search left it."""
        before = np.random.get_state()  # noqa: NPY002 - the generator that BOHB draws from
        np.random.set_state(self._drawn)  # noqa: NPY002
        try:
            yield
        finally:
            self._drawn = np.random.get_state()  # noqa: NPY002
            np.random.set_state(before)  # noqa: NPY002


def milestones(whole: int) -> set[int]:
    """Return the epochs at which some bracket of the scheduler compares its trials.

    Args:
        whole: epochs of a whole training.
    """
    found: set[int] = set()
    for depth in range(round(math.log(whole) / math.log(REDUCTION)) + 1):
        epoch = int(whole * REDUCTION**-depth)
        while 0 < epoch < whole:
            found.add(epoch)
            epoch *= REDUCTION
    return found


METHODS: dict[str, Named] = {"ray-bohb": Named(BohbSearch)}

"""SMAC by its own interface of asking and telling: the facade for several fidelities, where a budget is epochs.

Hyperband plans how long each setting is trained, in brackets; a random forest proposes settings. SMAC asks for a
setting with more epochs as for a training anew; what is trained already is not paid twice here. Where another setting
is trained than was asked for, as only recorded ones can be, it takes the other one's place in the bracket, and the one
that was asked for stays in training for ever, which SMAC's model does not look at.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ConfigSpace import Configuration
from smac import MultiFidelityFacade, Scenario
from smac.intensifier import Hyperband
from smac.runhistory import StatusType, TrialInfo, TrialValue

from lrsearch.trial import TrialConfig
from replaying.axes import Axes, config_space
from replaying.methods import Fate, GoOn, Named, Problem, Start

SHORTEST = 1
"""Epochs of the shortest training."""
REDUCTION = 3
"""How many of a stage's settings there are to one that goes on: SMAC's default."""
WORST = 1.0
"""Cost of a training that diverged, where none has cost more: that of an accuracy of 0."""

os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")  # threads of its forest, which is too small for more


class SmacSearch:
    """SMAC's search of one study.

    Args:
        problem: what is searched.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, self._axes = problem, Axes(problem.spec.space)
        self._folder = tempfile.TemporaryDirectory(prefix="replay-smac-")
        scenario = Scenario(
            config_space(problem.spec.space, problem.seed),
            output_directory=Path(self._folder.name),
            deterministic=True,
            min_budget=SHORTEST,
            max_budget=problem.epochs,
            n_trials=trainings(problem.epochs, problem.limit),
            seed=problem.seed,
        )
        self._smac = MultiFidelityFacade(scenario, logging_level=False, overwrite=True)
        self._numbers: dict[Configuration, int] = {}
        """Of what SMAC knows a training by."""
        self._asked: dict[int, TrialInfo] = {}
        """What SMAC waits for, of each trial in training."""
        self._next: TrialInfo | None = None
        self._diverged: set[int] = set()
        self._worst = WORST

    def ask(self) -> Start | GoOn | None:
        """As ``Method.ask``."""
        while True:
            try:
                info = self._smac.ask()
            except StopIteration:  # it has no more settings
                return None
            trial = self._numbers.get(info.config)
            if trial is None:
                self._next = info
                return Start(self._axes.params(info.config))
            if trial not in self._diverged:
                self._asked[trial] = info
                return GoOn(trial)
            self._tell(info, None)  # a bracket goes on with it where all others diverged too

    def began(self, trial: int, config: TrialConfig, params: Mapping[str, Any]) -> None:
        """As ``Method.began``."""
        del config
        info, self._next = self._next, None
        assert info is not None
        if dict(params) != self._axes.params(info.config):
            info = self._instead(info, params)
        self._numbers[info.config] = trial
        self._asked[trial] = info

    def looks_at(self, epoch: int) -> bool:
        """As ``Method.looks_at``."""
        return epoch in {epochs(budget) for _, budgets in brackets(self._problem.epochs) for budget in budgets}

    def reached(self, trial: int, scores: Sequence[float]) -> Fate:
        """As ``Method.reached``."""
        if len(scores) < epochs(self._asked[trial].budget):
            return "keep"
        self._tell(self._asked.pop(trial), scores[-1])
        return "pause"

    def ended(self, trial: int, scores: Sequence[float], value: float | None) -> None:
        """As ``Method.ended``: what diverges has crashed."""
        del scores
        if value is None:
            self._diverged.add(trial)
        self._tell(self._asked.pop(trial), value)

    def seen(self, trial: int, scores: Sequence[float]) -> None:
        """As ``Method.seen``."""

    def _tell(self, info: TrialInfo, score: float | None) -> None:
        if score is None:
            value = TrialValue(cost=self._worst, status=StatusType.CRASHED)
        else:
            cost = 1.0 - score if self._problem.maximize else score
            value = TrialValue(cost=cost)
            self._worst = max(self._worst, cost)
        self._smac.tell(info, value, save=False)

    def _instead(self, info: TrialInfo, params: Mapping[str, Any]) -> TrialInfo:
        """Return an order for another setting in place of one, and put it into the bracket."""
        space = self._smac.scenario.configspace
        other = Configuration(space, values=self._axes.told(params))
        other.origin = info.config.origin
        for groups in self._smac.intensifier._tracker.values():  # noqa: SLF001 - no public way
            for _, configs in groups:
                if info.config in configs:
                    configs[configs.index(info.config)] = other
        return TrialInfo(other, info.instance, info.seed, info.budget)


def epochs(budget: float | None) -> int:
    """Return the epochs that a budget stands for: the nearest whole number."""
    assert budget is not None
    return max(SHORTEST, round(budget))


def brackets(whole: int) -> list[tuple[list[int], list[float]]]:
    """Return how many settings each bracket of Hyperband has in each of its stages, and their budgets [epochs].

    Args:
        whole: epochs of a whole training.
    """
    deepest = Hyperband._get_max_iterations(REDUCTION, whole, SHORTEST)  # noqa: SLF001 - no public way
    found = (
        Hyperband._compute_configs_and_budgets_for_stages(REDUCTION, whole, deepest - i, deepest)  # noqa: SLF001
        for i in range(deepest + 1)
    )
    return [(list(n_settings), list(budgets)) for budgets, n_settings in found]


def trainings(whole: int, limit: float) -> int:
    """Return how many orders the brackets give within a limit, of which SMAC makes a quarter at most random ones.

    Args:
        whole: epochs of a whole training.
        limit: whole trainings' worth of epochs.
    """
    n_orders, paid = 0, 0
    for n_settings, budgets in brackets(whole):
        n_orders += sum(n_settings)
        before = [0, *(epochs(budget) for budget in budgets)]
        paid += sum(n * (epochs(budget) - b) for n, budget, b in zip(n_settings, budgets, before, strict=False))
    return max(1, round(n_orders * limit * whole / paid))


METHODS: dict[str, Named] = {"smac": Named(SmacSearch)}

"""Optuna as it comes: its samplers and pruners, asked and told by its own interface, in memory.

Where another setting is trained than was asked for, as only recorded ones can be, the trial that was asked is told to
have failed, and one with the real parameters stands in its place, with whatever the sampler had noted of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import TrialState

from lrsearch.store import space
from lrsearch.trial import TrialConfig
from replaying.methods import Fate, Named, Problem, Start


class OptunaSearch:
    """A study of Optuna's.

    Args:
        problem: what is searched.
        sampler: who proposes.
        pruner: who ends trials.
    """

    def __init__(self, problem: Problem, sampler: BaseSampler, pruner: BasePruner) -> None:
        self._problem, self._sampler, self._prunes = problem, sampler, not isinstance(pruner, NopPruner)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study: Study = optuna.create_study(
            direction="maximize" if problem.maximize else "minimize", sampler=sampler, pruner=pruner
        )
        self._trials: list[optuna.Trial] = []
        self._reported: list[int] = []
        self._asked: optuna.Trial | None = None

    def ask(self) -> Start:
        """As ``Method.ask``."""
        self._asked = self._study.ask()
        space.suggest(self._asked, self._problem.spec.space)
        return Start(dict(self._asked.params))

    def began(self, trial: int, config: TrialConfig, params: Mapping[str, Any]) -> None:
        """As ``Method.began``."""
        del trial, config
        assert self._asked is not None
        if dict(params) == self._asked.params:
            self._trials.append(self._asked)
        else:
            self._trials.append(self._instead(self._asked, dict(params)))
        self._reported.append(0)

    def looks_at(self, epoch: int) -> bool:
        """As ``Method.looks_at``."""
        del epoch
        return self._prunes

    def reached(self, trial: int, scores: Sequence[float]) -> Fate:
        """As ``Method.reached``."""
        self._report(trial, scores)
        if not self._trials[trial].should_prune():
            return "keep"
        self._study.tell(self._trials[trial], state=TrialState.PRUNED)
        return "end"

    def ended(self, trial: int, scores: Sequence[float], value: float | None) -> None:
        """As ``Method.ended``: what diverges is told to have failed, as a loss that is not a number is by Optuna."""
        self._report(trial, scores)
        if value is None:
            self._study.tell(self._trials[trial], state=TrialState.FAIL)
        else:
            self._study.tell(self._trials[trial], value)

    def seen(self, trial: int, scores: Sequence[float]) -> None:
        """As ``Method.seen``."""
        if self._prunes:
            self._report(trial, scores)

    def _report(self, trial: int, scores: Sequence[float]) -> None:
        if self._prunes:
            for epoch in range(self._reported[trial] + 1, len(scores) + 1):
                self._trials[trial].report(scores[epoch - 1], epoch)
            self._reported[trial] = max(self._reported[trial], len(scores))

    def _instead(self, asked: optuna.Trial, params: dict[str, Any]) -> optuna.Trial:
        """Return a trial with other parameters in place of one that was asked."""
        noted = self._study._storage.get_trial_system_attrs(asked._trial_id)  # noqa: SLF001 - no public way
        self._study.tell(asked, state=TrialState.FAIL)
        self._study.sampler = PartialFixedSampler(params, RandomSampler(seed=0))
        instead = self._study.ask()
        space.suggest(instead, self._problem.spec.space)
        self._study.sampler = self._sampler
        for key, value in noted.items():
            self._study._storage.set_trial_system_attr(instead._trial_id, key, value)  # noqa: SLF001 - likewise
        return instead


def _search(
    sampler: Callable[[int], BaseSampler], pruner: Callable[[int], BasePruner]
) -> Callable[[Problem], OptunaSearch]:
    """Return what makes a search, from the seed of its sampler and the epochs that its pruner must know."""
    return lambda problem: OptunaSearch(problem, sampler(problem.seed), pruner(problem.epochs))


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed)


def _qmc(seed: int) -> BaseSampler:
    return QMCSampler(
        scramble=True,
        seed=seed,
        independent_sampler=RandomSampler(seed=seed),
        warn_asynchronous_seeding=False,
        warn_independent_sampling=False,
    )


def _cmaes(seed: int) -> BaseSampler:
    return CmaEsSampler(seed=seed, independent_sampler=RandomSampler(seed=seed), warn_independent_sampling=False)


def _through(epochs: int) -> BasePruner:
    del epochs
    return NopPruner()


METHODS: dict[str, Named] = {
    "optuna": Named(_search(_tpe, lambda _epochs: MedianPruner())),
    "optuna-hyperband": Named(_search(_tpe, lambda epochs: HyperbandPruner(max_resource=epochs))),
    "optuna-halving": Named(_search(_tpe, lambda _epochs: SuccessiveHalvingPruner())),
    "optuna-random": Named(_search(lambda seed: RandomSampler(seed=seed), _through)),
    "optuna-qmc": Named(_search(_qmc, _through)),
    "optuna-qmc-twice": Named(_search(_qmc, _through), price=0.5),
    "optuna-gp": Named(_search(lambda seed: GPSampler(seed=seed), _through)),
    "optuna-cmaes": Named(_search(_cmaes, _through)),
}
"""``optuna`` is what ``optuna.create_study()`` comes with: TPE and the median of the others at every epoch."""

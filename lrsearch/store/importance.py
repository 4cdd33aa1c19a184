"""How much each searched parameter matters: Optuna's PED-ANOVA, with what was pruned or diverged counted in.

PED-ANOVA asks in which parameters the best trials differ from all. Optuna reads complete trials only, so that every
setting that was ended early would vanish: what makes a training diverge would not matter at all, because no diverged
trial is there to show it. Its question needs no scores, though, only which trials are the best. Here each trial stands
as complete with its rank as its value, and what was pruned or diverged ranks behind all that were trained through.
"""

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from lrsearch.spec.bounds import space_that_holds
from lrsearch.spec.study import StudySpec
from lrsearch.store import space as spaces
from lrsearch.trial import OptimizerName, Trial

TOP = 0.1
"""Part of the trials that are called the best; Optuna's default."""
LEAST_TOP = 5
"""Trials that are called the best at least: Optuna's advice."""
LEAST_TRIALS = 20
"""Trials below which nothing is said."""
SHUFFLES = 19
"""Times that the best are drawn at random instead: a share that beats all of them is chance in one of twenty cases."""


@dataclass(frozen=True, slots=True)
class Importance:
    """What one parameter contributes to being among the best."""

    parameter: str
    """Optuna's name: ``peak_lr_sgd``."""
    share: float
    """Of all parameters' contributions together [0..1]."""
    by_chance: float
    """The largest contribution when the best were drawn at random, as a part of the same whole; may exceed 1."""
    n_trials: int
    """Trials that have this parameter; the others take no part in its contribution."""


@dataclass(frozen=True, slots=True)
class Importances:
    """The parameters over one set of trials, the most important first; none where there are too few trials."""

    n_trials: int
    n_top: int
    """Of them those called the best."""
    parameters: tuple[Importance, ...]


def importances(ranked: Sequence[Trial], behind: Sequence[Trial], spec: StudySpec) -> Importances:
    """Return what sets the best trials apart from all.

    Args:
        ranked: complete trials, best first.
        behind: trials that count as worse than all of these: the pruned and the diverged ones.
        spec: the study.
    """
    trials = [*ranked, *behind]
    n = len(trials)
    # Never more than are complete: how good a pruned trial would have become is not known.
    n_top = min(len(ranked), max(LEAST_TOP, math.ceil(TOP * n)))
    if n < LEAST_TRIALS or n_top < LEAST_TOP or n_top == n:
        return Importances(n, 0, ())
    rates: dict[OptimizerName, list[float]] = {}
    for trial in trials:
        rates.setdefault(trial.config.optimizer.name, []).append(trial.config.optimizer.peak_lr)
    space = space_that_holds(spec.space, rates)
    distributions = spaces.unconditional_distributions(space)
    having = {name: sum(name in t.params for t in trials) for name in distributions}
    names = [name for name, count in having.items() if count and not distributions[name].single()]
    study = _study(trials, {name: distributions[name] for name in names})
    found = _contributions(study, range(n), n_top, names)
    total = sum(found.values())
    if not total:
        return Importances(n, 0, ())
    draw = random.Random(spec.seed)  # noqa: S311 - nothing secret: the same report says the same twice
    by_chance = [_contributions(study, draw.sample(range(n), n), n_top, names) for _ in range(SHUFFLES)]
    rows = [
        Importance(name, found[name] / total, max(one[name] for one in by_chance) / total, having[name])
        for name in names
    ]
    return Importances(n, n_top, tuple(sorted(rows, key=lambda row: -row.share)))


def _study(trials: Sequence[Trial], distributions: Mapping[str, BaseDistribution]) -> optuna.Study:
    """Return the trials in memory, all of them complete; what their values are is said later."""
    study = optuna.create_study(storage=InMemoryStorage(), direction="minimize")
    for trial in trials:
        mine = {name: kind for name, kind in distributions.items() if name in trial.params}
        params = {name: trial.params[name] for name in mine}
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.0, params=params, distributions=mine))
    # One object for all: Optuna compares the distributions of every trial, and equal ones that are two cost time.
    for kept in study.get_trials(deepcopy=False):
        kept.distributions = {name: distributions[name] for name in kept.params}
    return study


def _contributions(study: optuna.Study, ranks: Sequence[int], n_top: int, names: list[str]) -> dict[str, float]:
    """Return what each parameter contributes to a rank below ``n_top``, where trial i has rank ``ranks[i]``."""
    # Here, because it loads scikit-learn, for another method.
    from optuna.importance import PedAnovaImportanceEvaluator

    # Half a trial less: Optuna rounds the quantile up to whole trials.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(n_top - 0.5) / len(ranks), evaluate_on_local=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The target is meant to be small; that is what Optuna warns of.
        return evaluator.evaluate(study, names, target=lambda t: float(ranks[t.number]))

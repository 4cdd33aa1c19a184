"""The answer of a study in numbers: the winner, what it came to, how surely; ``report.answer`` puts it into words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lrsearch.analysis.by_class import ClassScore, balanced, class_scores
from lrsearch.analysis.closeness import Closeness, closeness
from lrsearch.analysis.confirmation import Confirmation
from lrsearch.analysis.diagnosis import OptimizerDiagnosis, diagnose
from lrsearch.analysis.levels import is_unbalanced
from lrsearch.analysis.precision import accuracy_error, as_many
from lrsearch.analysis.ranking import once, ranked
from lrsearch.spec.metrics import METRICS, Metric
from lrsearch.spec.study import StudySpec
from lrsearch.trial import State, Trial


@dataclass(frozen=True, slots=True)
class Score:
    """What a trial came to in one metric."""

    metric: Metric
    value: float
    """Not a number where it was not measured."""
    error: float | None
    """Standard error of a share of images; None of other metrics."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the trials of a study say."""

    spec: StudySpec
    trials: tuple[Trial, ...]
    winner: Trial | None
    """The best of those that were trained through: the confirmed one where the best were confirmed."""
    n_others: int
    """Other complete trials, each setting and seed counted once."""
    near: Closeness | None
    """What is close to the winner; None without one."""
    close: tuple[int, ...]
    """Numbers of the other complete trials that cannot be told from the winner, best first."""
    validation: tuple[Score, ...]
    """The winner's on the validation images, the study's own metric first; empty without a winner."""
    test: tuple[Score, ...]
    """The winner's on the test images, likewise; empty where it has not been judged. Where classes are unbalanced and
    were counted its balanced accuracy is there too."""
    by_class: tuple[ClassScore, ...]
    """The winner's on the test images of each class; empty where nobody has counted."""
    baseline: Trial | None
    """The trial of the user's setting, once it has ended."""
    diagnosis: tuple[OptimizerDiagnosis, ...]
    confirmation: Confirmation | None = None
    """What was confirmed with fresh seeds; None where nothing was, or the search has found a better trial since."""


def find(trials: Sequence[Trial], spec: StudySpec, confirmed: Confirmation | None = None) -> Findings:
    """Return what the trials of the search say as they stand, and what was confirmed of it."""
    order = ranked(once(trials), spec.metric.direction)
    if confirmed is not None and not (order and _holds(confirmed, order[0])):
        confirmed = None
    order = _confirmed_first(order, confirmed)
    winner = order[0] if order else None
    near = None if winner is None else closeness(winner, spec)
    return Findings(
        spec=spec,
        trials=tuple(trials),
        winner=winner,
        n_others=max(len(order) - 1, 0),
        near=near,
        close=() if near is None else tuple(t.number for t in order[1:] if near.is_close(t)),
        validation=() if winner is None else _validation(winner, spec),
        test=() if winner is None else _test(winner, spec),
        by_class=() if winner is None else class_scores(winner, spec.facts),
        baseline=next((t for t in trials if t.origin == "baseline" and t.outcome is not None), None),
        diagnosis=diagnose(trials, spec),
        confirmation=confirmed,
    )


def winner_of(trials: Sequence[Trial], spec: StudySpec, confirmed: Confirmation | None) -> Trial | None:
    """Return the best complete trial of a search, or the confirmed one, as ``find`` has it; None without any."""
    order = ranked(once(trials), spec.metric.direction)
    if confirmed is not None and order and _holds(confirmed, order[0]):
        order = _confirmed_first(order, confirmed)
    return order[0] if order else None


def _confirmed_first(order: Sequence[Trial], confirmed: Confirmation | None) -> list[Trial]:
    """Return the trials with the confirmed winner first; the others stay in their order."""
    if confirmed is None or not confirmed.is_decided or confirmed.winner is None:
        return list(order)
    number = confirmed.settings[confirmed.winner].trial
    return sorted(order, key=lambda trial: trial.number != number)


def _holds(confirmed: Confirmation, best: Trial) -> bool:
    """Whether the best trial of the search is among the settings that were confirmed."""
    return any(one.config == replace(best.config, seed=one.config.seed) for one in confirmed.settings)


def shown_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """Return the metrics that a table shows: the share of images that is judged, the loss, and what else is judged."""
    share = spec.metric if spec.metric.is_share else METRICS["accuracy"]
    shown = (share, METRICS["loss"])
    return shown if spec.metric in shown else (spec.metric, *shown)


def value_of(trial: Trial) -> float:
    """Return the objective's value of a complete trial."""
    assert trial.state == State.COMPLETE
    assert trial.outcome is not None
    assert trial.outcome.value is not None
    return trial.outcome.value


def _validation(trial: Trial, spec: StudySpec) -> tuple[Score, ...]:
    if not trial.metrics:
        return ()
    last = trial.metrics[-1]
    facts, found = spec.facts, [(metric, metric.of(last)) for metric in shown_metrics(spec)]
    if spec.loop is not None:
        found = [(metric, value) for metric, value in found if not math.isnan(value)]  # it tells what it likes
    return _scores(found, spec, facts.validation_counts, facts.n_validation)


def _test(trial: Trial, spec: StudySpec) -> tuple[Score, ...]:
    if trial.test_accuracy is None:
        return ()
    found = [] if trial.test_score is None else [(spec.metric, trial.test_score)]
    found.append((METRICS["accuracy"], trial.test_accuracy))
    loss = [] if trial.test_loss is None else [(METRICS["loss"], trial.test_loss)]
    scores = _scores([*found, *loss], spec, spec.facts.test_counts, spec.facts.n_test)
    metric, by_class = METRICS["balanced_accuracy"], class_scores(trial, spec.facts)
    if not by_class or not (spec.metric is metric or is_unbalanced(spec.facts)):
        return scores
    # Known class by class it has an error of its own, better than that of one share for all.
    exact = Score(metric, *balanced(by_class))
    if spec.metric is metric:
        return tuple(exact if one.metric is metric else one for one in scores)
    return (scores[0], exact, *scores[1:])


def _scores(
    found: Sequence[tuple[Metric, float]], spec: StudySpec, counts: Sequence[int], n_images: int
) -> tuple[Score, ...]:
    """Return the scores on so many images, so many of each class, with their errors; the study's own metric first."""
    return tuple(
        Score(metric, value, _error(metric, value, counts, n_images))
        for metric, value in sorted(found, key=lambda one: one[0] != spec.metric)
    )


def _error(metric: Metric, value: float, counts: Sequence[int], n_images: int) -> float | None:
    """Return the standard error of a share of so many images; None of other metrics, and of an unknown number."""
    return accuracy_error(value, as_many(metric, counts, n_images)) if metric.is_share and n_images else None

"""Two studies, or two trials, side by side in numbers; ``report.compare_table`` puts them into words."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from lrsearch.analysis.answer import shown_metrics
from lrsearch.analysis.precision import as_many
from lrsearch.analysis.ranking import best
from lrsearch.paired import by_images, unpacked
from lrsearch.spec.metrics import Metric
from lrsearch.spec.study import StudySpec, differences
from lrsearch.strategy.confirming import strata_of
from lrsearch.trial import State, Trial, TrialConfig

Z: Final = 1.959964
"""Of the normal distribution: 95 % of it lie within so many standard deviations of its mean."""
LEVEL: Final = 0.95
"""Of the intervals."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two."""

    label: str
    """As it is typed: ``digits``, ``digits#7``."""
    spec: StudySpec
    trial: Trial | None
    """The trial, or the best of the study; None where it has none."""
    trials: tuple[Trial, ...]
    """All of the study; only the trial itself where that was named."""
    is_study: bool


class Unknown(StrEnum):
    """What two scores do not say, whatever they are."""

    OTHER_IMAGES = "other_images"
    """They were measured on other images: a difference may be that of the images."""
    OTHER_METRIC = "other_metric"
    """The studies look for the best in other metrics, so that their best are best at other things."""
    PAIRING = "pairing"
    """The images are the same, and which of them each gets right is not looked at: the interval is too wide."""
    SEED = "seed"
    """Each is one training: how far another seed would move it is not known."""
    CHOSEN = "chosen"
    """The best of many trials was chosen by its validation score, which flatters it the more the more there were."""
    UNFINISHED = "unfinished"
    """Not both were trained through."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies with 95 % confidence, as far as the number of images goes."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ScoreOf:
    """What one side came to in a metric."""

    value: float
    """Not a number where it was not measured."""
    interval: Interval | None
    """None of a metric that is no share of images: one mean has no error."""


@dataclass(frozen=True, slots=True)
class ScorePair:
    """One metric on one set of images, of both sides."""

    metric: Metric
    images: Literal["validation", "test"]
    first: ScoreOf
    second: ScoreOf
    difference: float
    """The second less the first."""
    interval: Interval | None
    """Of the difference."""
    is_paired: bool = False
    """Whether it was found image by image; otherwise as if each side had images of its own."""

    @property
    def better(self) -> Literal["first", "second"] | None:
        """Which is better beyond chance, as far as the number of images goes; None where that is not known."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return None
        return "second" if (self.difference > 0) == self.metric.maximize else "first"


@dataclass(frozen=True, slots=True)
class CostOf:
    """What one side has taken."""

    states: dict[State, int]
    """Trials by how they ended."""
    epochs: int
    """Trained."""
    updates: int
    seconds: float
    """In training, evaluation included."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, and what tells them apart."""

    first: Side
    second: Side
    settings: tuple[tuple[str, Any, Any], ...]
    """Of the two trials: what differs; None where one has no such field."""
    studies: tuple[tuple[str, Any, Any], ...]
    """Of the two studies: keys of the study file that differ."""
    scores: tuple[ScorePair, ...]
    costs: tuple[CostOf, CostOf]
    same_images: bool
    """Whether both were judged on the same validation and test images."""
    unknown: tuple[Unknown, ...]

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both."""
        return self.first, self.second


def side(label: str, spec: StudySpec, trials: Sequence[Trial], trial: Trial | None = None) -> Side:
    """Return a trial of a study, or the study, which stands for its best trial."""
    if trial is not None:
        return Side(label, spec, trial, (trial,), is_study=False)
    return Side(label, spec, best(trials, spec.metric.direction), tuple(trials), is_study=True)


def compare(first: Side, second: Side) -> Comparison:
    """Return what tells two sides apart."""
    same = _same_images(first.spec, second.spec)
    scores = tuple(_scores(first, second))
    return Comparison(
        first=first,
        second=second,
        settings=_settings(first.trial, second.trial),
        studies=() if first.spec.name == second.spec.name else tuple(differences(first.spec, second.spec)),
        scores=scores,
        costs=(_cost(first), _cost(second)),
        same_images=same,
        unknown=tuple(_unknown(first, second, scores, same=same)),
    )


def flat(config: TrialConfig) -> dict[str, Any]:
    """Return a setting by the names of its fields, without those that do not apply.

    ``optimizer`` and ``schedule`` are the names of these two.
    """
    whole = asdict(config)
    optimizer, schedule = whole.pop("optimizer"), whole.pop("schedule")
    out = {"optimizer": optimizer.pop("name"), **optimizer, "schedule": schedule.pop("family"), **schedule, **whole}
    return {key: value for key, value in out.items() if value is not None}


def interval(share: float, n_images: float) -> Interval:
    """Return where a share of so many images lies.

    >>> found = interval(0.97, 200)
    >>> round(found.low, 3), round(found.high, 3)
    (0.936, 0.986)

    Source: Wilson 1927, JASA 22; recommended by Brown, Cai and DasGupta 2001 for any number of images.
    """
    middle = (share + Z**2 / (2 * n_images)) / (1 + Z**2 / n_images)
    half = Z / (1 + Z**2 / n_images) * math.sqrt(share * (1 - share) / n_images + Z**2 / (4 * n_images**2))
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0))


def interval_of_difference(first: ScoreOf, second: ScoreOf) -> Interval | None:
    """Return where the second less the first lies, as if they were measured on images of their own.

    Source: Newcombe 1998, Statistics in Medicine 17, method 10 (the square-and-add of two Wilson intervals).
    """
    if first.interval is None or second.interval is None:
        return None
    difference = second.value - first.value
    below = math.hypot(second.value - second.interval.low, first.interval.high - first.value)
    above = math.hypot(second.interval.high - second.value, first.value - first.interval.low)
    return Interval(difference - below, difference + above)


def _settings(first: Trial | None, second: Trial | None) -> tuple[tuple[str, Any, Any], ...]:
    if first is None or second is None:
        return ()
    a, b = flat(first.config), flat(second.config)
    return tuple((key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key))


def _scores(first: Side, second: Side) -> list[ScorePair]:
    if first.trial is None or second.trial is None:
        return []
    known = {metric.name: metric for metric in shown_metrics(second.spec)}
    shared = [metric for metric in shown_metrics(first.spec) if metric.name in known]
    found = []
    for images in ("validation", "test"):
        for metric in shared:
            a, b = (_score(one.trial, one.spec, metric, images) for one in (first, second))
            if a is not None and b is not None:
                paired = _paired(first, second, metric) if images == "validation" else None
                within = paired or interval_of_difference(a, b)
                is_paired = paired is not None
                found.append(ScorePair(metric, images, a, b, b.value - a.value, within, is_paired=is_paired))
    return found


def _paired(first: Side, second: Side, metric: Metric) -> Interval | None:
    """Return where the second less the first lies, compared image by image; None where these are not known."""
    rights = [b"" if one.trial is None else one.trial.val_right for one in (first, second)]
    strata = strata_of(metric, first.spec.facts)
    if not (all(rights) and strata.n_images and _same_validation(first.spec, second.spec)):
        return None
    ours, theirs = ([unpacked(right, strata.n_images)] for right in rights)
    return Interval(*by_images(theirs, ours, strata).interval(LEVEL))


def _same_validation(first: StudySpec, second: StudySpec) -> bool:
    """Whether two studies hold the same images apart for validation."""
    if not _same_images(first, second):
        return False
    keys = ("limit", "validation_fraction", "split_seed", "group")
    return all(getattr(first.dataset, key) == getattr(second.dataset, key) for key in keys)


def _score(
    trial: Trial | None, spec: StudySpec, metric: Metric, images: Literal["validation", "test"]
) -> ScoreOf | None:
    assert trial is not None
    facts = spec.facts
    counts, n_images = facts.validation_counts, facts.n_validation
    value: float | None = metric.of(trial.metrics[-1]) if trial.metrics else None
    if images == "test":
        counts, n_images = facts.test_counts, facts.n_test
        of = {"accuracy": trial.test_accuracy, "loss": trial.test_loss}
        value = of.get(metric.name, trial.test_score)
    if value is None or not math.isfinite(value):
        return None
    is_counted = metric.is_share and n_images > 0
    return ScoreOf(value, interval(value, as_many(metric, counts, n_images)) if is_counted else None)


def _cost(one: Side) -> CostOf:
    rows = [row for trial in one.trials for row in trial.metrics]
    updates = sum(trial.metrics[-1].step for trial in one.trials if trial.metrics)
    states = Counter(trial.state for trial in one.trials)
    return CostOf(dict(states), len(rows), updates, math.fsum(row.seconds for row in rows))


def _same_images(first: StudySpec, second: StudySpec) -> bool:
    """Whether two studies judge by the same images: by their hashes, or where these are not known by what was asked."""
    a, b = first.facts, second.facts
    if (a.n_validation, a.n_test) != (b.n_validation, b.n_test):
        return False
    if a.fingerprint and b.fingerprint:
        return a.fingerprint == b.fingerprint
    return first.dataset == second.dataset


def _unknown(first: Side, second: Side, scores: Sequence[ScorePair], *, same: bool) -> list[Unknown]:
    found = []
    if not same:
        found.append(Unknown.OTHER_IMAGES)
    if first.spec.metric.name != second.spec.metric.name:
        found.append(Unknown.OTHER_METRIC)
    if any(one.trial is not None and one.trial.state != State.COMPLETE for one in (first, second)):
        found.append(Unknown.UNFINISHED)
    if same and any(pair.interval is not None and not pair.is_paired for pair in scores):
        found.append(Unknown.PAIRING)
    if scores:
        found.append(Unknown.SEED)
    if any(one.is_study and len(one.trials) > 1 for one in (first, second)) and any(
        pair.images == "validation" for pair in scores
    ):
        found.append(Unknown.CHOSEN)
    return found

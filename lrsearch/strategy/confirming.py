"""Settings trained again with fresh seeds: which seed goes to which setting, and when it is decided.

A race (Maron and Moore 1994): every setting gets the first seeds; then seeds go to the settings that may still be the
best, until one is left or the seeds are used up. Settings are compared on the seeds that both have, image by image
where it is known which images are right (``lrsearch.paired``). A look after every seed would find a difference between
equal settings sooner or later, so a setting leaves the race only where its interval excludes the best one at a level
that allows for all looks and all settings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from lrsearch.paired import Difference, Strata, by_images, by_scores, unpacked
from lrsearch.spec.metrics import METRICS, Metric
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Facts, State, TrialConfig

if TYPE_CHECKING:
    from lrsearch.paired import Rights

LEAST_SEEDS = 3
"""Each setting is trained with so many before it can leave the race."""
TOP = 3
"""Settings that are confirmed, where nobody says how many."""
SEEDS = 10
"""Fresh seeds of each at most, likewise."""
MOST_SEEDS = 100
LEVEL = 0.9
"""Of the intervals that are told."""
SPENT = 0.2
"""Part of the error 1 - LEVEL that is spent on the looks after every seed; the interval that is told has the rest."""


class Part(StrEnum):
    """Which part a setting has in a confirmation."""

    FOUND = "found"
    """The search found it among the best."""
    BASELINE = "baseline"
    """The setting that a person has, from the study file."""
    AGAINST = "against"
    """The setting that a person asks to compare with."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A setting in the race."""

    config: TrialConfig
    """Its seed has no meaning."""
    part: Part
    parent: int | None = None
    """The number of the trial of the search that has this setting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person asked to have confirmed."""

    top: int
    """So many of the best settings of the search."""
    seeds: tuple[int, ...]
    """Fresh ones, in the order in which they are used."""
    against: TrialConfig | None = None
    entrants: tuple[Entrant, ...] = ()
    """Empty until the search is over."""
    id: str = ""


@dataclass(frozen=True, slots=True)
class ConfirmRun:
    """A training of a setting with a fresh seed."""

    entrant: int
    """Which, from 0."""
    seed: int
    state: State
    number: int | None = None
    """Of its trial."""
    value: float | None = None
    """The study's metric, of a complete one."""
    right: bytes = b""
    """Which validation images are right; see ``Training.validation_right``."""

    @property
    def is_evidence(self) -> bool:
        """Whether it says something of its setting: a failure does not."""
        return self.state in (State.COMPLETE, State.DIVERGED)


@dataclass(frozen=True, slots=True)
class Race:
    """A confirmation as one transaction sees it."""

    plan: Plan
    runs: tuple[ConfirmRun, ...]
    maximize: bool
    strata: Strata
    """Of the validation images; without counts where scores alone are compared."""
    guess: float
    """The score of a guess: what a diverged training is worth."""

    def scores(self, entrant: int) -> dict[int, float]:
        """Return the score of each seed with which a setting was trained."""
        return {run.seed: self._worth(run) for run in self._evidence(entrant)}

    def compare(self, first: int, second: int) -> Difference | None:
        """Return how much better the first setting is, on the seeds that both have; None where they share none."""
        ours, theirs = ({run.seed: run for run in self._evidence(one)} for one in (first, second))
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            return None
        pairs = [(ours[seed], theirs[seed]) for seed in seeds]
        if self.strata.n_images and all(_is_known(run) for pair in pairs for run in pair):
            rights = [[self._rights(pair[i]) for pair in pairs] for i in (0, 1)]
            found = by_images(rights[0], rights[1], self.strata)
        else:
            worth = [[self._worth(pair[i]) for pair in pairs] for i in (0, 1)]
            found = by_scores(worth[0], worth[1])
        return found if self.maximize else replace(found, value=-found.value)

    def mean(self, entrant: int) -> tuple[float, float, float]:
        """Return the mean score of a setting and its interval over seeds and images, at ``LEVEL``."""
        import numpy as np

        runs = self._evidence(entrant)
        if not runs:
            return (math.nan,) * 3
        if self.strata.n_images and all(_is_known(run) for run in runs):
            nothing = np.zeros(self.strata.n_images)
            found = by_images([self._rights(run) for run in runs], [nothing] * len(runs), self.strata)
        else:
            found = by_scores([self._worth(run) for run in runs], [0.0] * len(runs))
        return found.value, *found.interval(LEVEL)

    def standing(self) -> "RaceStanding":
        """Return who leads, and who may still be the best."""
        order = self.by_mean()
        if not order:
            return RaceStanding(None, tuple(range(len(self.plan.entrants))))
        leader = order[0]
        left = []
        for one in range(len(self.plan.entrants)):
            found = None if one == leader else self.compare(leader, one)
            if found is None or found.n_seeds < LEAST_SEEDS or found.interval(self._looking_level())[0] <= 0:
                left.append(one)
        return RaceStanding(leader, tuple(left))

    def by_mean(self) -> list[int]:
        """Return the settings that were trained with all seeds that any of them must have, the best first."""
        every = {one: self.scores(one) for one in range(len(self.plan.entrants))}
        needed = min(LEAST_SEEDS, max((len(scores) for scores in every.values()), default=0))
        means = {one: _mean(scores) for one, scores in every.items() if scores and len(scores) >= needed}
        return sorted(means, key=lambda one: (-means[one] if self.maximize else means[one], one))

    def _looking_level(self) -> float:
        """Return the level at which a setting leaves: it holds for all looks at all settings."""
        looks = max(1, len(self.plan.seeds) - LEAST_SEEDS)
        return 1 - SPENT * (1 - LEVEL) / looks / max(1, len(self.plan.entrants) - 1)

    def level(self) -> float:
        """Return the level of an interval of the winner: it holds for all settings that it may have been."""
        return 1 - (1 - SPENT) * (1 - LEVEL) / max(1, len(self.plan.entrants) - 1)

    def _evidence(self, entrant: int) -> list[ConfirmRun]:
        mine = [run for run in self.runs if run.entrant == entrant and run.is_evidence]
        return [run for run in mine if math.isfinite(self._worth(run))]

    def _worth(self, run: ConfirmRun) -> float:
        return self.guess if run.state == State.DIVERGED or run.value is None else run.value

    def _rights(self, run: ConfirmRun) -> "Rights":
        import numpy as np

        if run.state == State.DIVERGED:
            return np.full(self.strata.n_images, self.guess)
        return unpacked(run.right, self.strata.n_images)


@dataclass(frozen=True, slots=True)
class RaceStanding:
    """How a race stands."""

    leader: int | None
    """The setting with the best mean; None before there is any."""
    left: tuple[int, ...]
    """The settings that may still be the best, the leader among them."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Train a setting with a seed."""

    entrant: int
    seed: int


@dataclass(frozen=True, slots=True)
class Choose:
    """Choose the settings of the confirmation: the search is over; then look anew."""


def next_run(race: Race) -> Confirm | int | None:
    """Return what is trained next; a number: so many are in training and it depends on them; None: it is decided."""
    begun = {(run.entrant, run.seed) for run in race.runs}
    left, alone = race.standing().left, len(race.plan.entrants) == 1
    n_open = sum(run.state == State.RUNNING for run in race.runs)
    for nth, seed in enumerate(race.plan.seeds):
        if nth >= LEAST_SEEDS and len(left) == 1 and not alone:  # nobody is left to beat
            break
        for entrant in left:
            if (entrant, seed) not in begun:
                return Confirm(entrant, seed)
    return n_open or None


def race_of(spec: StudySpec, plan: Plan, runs: Sequence[ConfirmRun]) -> Race:
    """Return a confirmation of a study with these trainings."""
    return Race(plan, tuple(runs), spec.metric.maximize, strata_of(spec.metric, spec.facts), _guess(spec))


def strata_of(metric: Metric, facts: Facts) -> Strata:
    """Return how the validation images weigh in a metric; nothing where it is no share of images."""
    if metric is METRICS["accuracy"]:
        return Strata(facts.validation_counts or (facts.n_validation,))
    if metric is METRICS["balanced_accuracy"] and facts.validation_counts:
        return Strata(facts.validation_counts, alike=True)
    return Strata(())


def _guess(spec: StudySpec) -> float:
    """Return the score of a guess; not a number where nobody knows it."""
    n_classes = len(spec.facts.classes)
    if not n_classes or not (spec.metric.is_share or spec.metric is METRICS["loss"]):
        return math.nan
    return 1 / n_classes if spec.metric.is_share else math.log(n_classes)


def _is_known(run: ConfirmRun) -> bool:
    return bool(run.right) or run.state == State.DIVERGED


def _mean(scores: Mapping[int, float]) -> float:
    values: Sequence[float] = list(scores.values())
    return sum(values) / len(values)


@cache
def fresh_seeds(seed: int, n: int, used: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """Return ``n`` seeds that no trial of the search had, the same ones for every confirmation of a study.

    Args:
        seed: the study's.
        n: how many.
        used: seeds of the search.
    """
    import numpy as np

    found: list[int] = []
    drawn = iter(np.random.SeedSequence((seed, 0xC0F1)).generate_state(2 * n + len(used) + 8).tolist())
    while len(found) < n:
        one = int(next(drawn)) % 2**31
        if one not in used and one not in found:
            found.append(one)
    return tuple(found)

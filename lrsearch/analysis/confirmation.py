"""What a confirmation says: the settings on fresh seeds, the winner, and whether it is better than what one has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lrsearch.paired import Difference
from lrsearch.strategy.confirming import Part, Race, next_run
from lrsearch.trial import State, Trial, TrialConfig


class ConfirmVerdict(StrEnum):
    """What the best of the settings found is beside the one that it is compared with."""

    BETTER = "better"
    WORSE = "worse"
    NOT_DISTINGUISHABLE = "not_distinguishable"


@dataclass(frozen=True, slots=True)
class ConfirmedSetting:
    """A setting and what it came to on fresh seeds."""

    config: TrialConfig
    """Its seed has no meaning."""
    part: Part
    trial: int | None
    """The number of the trial of the search that has this setting; None: the search has none."""
    trials: tuple[int, ...]
    """The numbers of the trainings with fresh seeds that say something."""
    n_diverged: int
    """Of these; each is worth a guess."""
    mean: float
    """Of the study's metric over the seeds; not a number before there is any."""
    low: float
    high: float
    """Its interval over seeds and images."""
    search_score: float | None
    """What the search saw of it with its one seed."""
    in_race: bool
    """Whether it may still be the best."""

    @property
    def n_seeds(self) -> int:
        """Seeds that say something of it."""
        return len(self.trials)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a confirmation says as it stands."""

    settings: tuple[ConfirmedSetting, ...]
    winner: int | None
    """The setting with the best mean, from 0."""
    candidate: int | None
    """The best of the settings found, which is compared; None where there is nothing to compare."""
    reference: int | None
    """The setting that it is compared with: a person's own, else the next best."""
    difference: Difference | None
    """How much better the candidate is than the reference."""
    level: float
    """Of the interval of the difference (0..1): it holds for every setting that may have been the candidate."""
    is_decided: bool
    """Whether nothing more will be trained for it."""
    n_trainings: int
    seconds: float
    """Training time [seconds]."""
    test_accuracy: float | None = None
    """The winner's on the test images [0..1]; None where it has not been judged."""
    judged_before: tuple[int, ...] = ()
    """The numbers of other trials for which the test images were read: they have not been untouched since."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the difference."""
        return None if self.difference is None else self.difference.interval(self.level)

    @property
    def verdict(self) -> ConfirmVerdict | None:
        """What the candidate is beside the reference; None where there is nothing to compare."""
        if self.interval is None:
            return None
        low, high = self.interval
        if low > 0:
            return ConfirmVerdict.BETTER
        return ConfirmVerdict.WORSE if high < 0 else ConfirmVerdict.NOT_DISTINGUISHABLE


def confirmation(race: Race, trials: Sequence[Trial]) -> Confirmation:
    """Return what a race says.

    Args:
        race: as it stands.
        trials: of the study, of every role.
    """
    standing = race.standing()
    by_number = {trial.number: trial for trial in trials}
    settings = tuple(_setting(race, one, by_number, in_race=one in standing.left) for one in _entrants(race))
    candidate, reference = _compared(race)
    difference = None if candidate is None or reference is None else race.compare(candidate, reference)
    numbers = [run.number for run in race.runs if run.number in by_number]
    judged = [trial.number for trial in trials if trial.test_accuracy is not None]
    winners = () if standing.leader is None else _numbers(settings[standing.leader])
    return Confirmation(
        settings=settings,
        winner=standing.leader,
        candidate=None if difference is None else candidate,
        reference=None if difference is None else reference,
        difference=difference,
        level=race.level(),
        is_decided=bool(settings) and next_run(race) is None,
        n_trainings=len(race.runs),
        seconds=sum(row.seconds for number in numbers if number is not None for row in by_number[number].metrics),
        test_accuracy=_test_accuracy(winners, by_number),
        judged_before=tuple(number for number in judged if number not in winners),
    )


def _entrants(race: Race) -> range:
    return range(len(race.plan.entrants))


def _setting(race: Race, entrant: int, by_number: dict[int, Trial], *, in_race: bool) -> ConfirmedSetting:
    one = race.plan.entrants[entrant]
    runs = [run for run in race.runs if run.entrant == entrant and run.seed in race.scores(entrant)]
    mean, low, high = race.mean(entrant)
    parent = None if one.parent is None else by_number.get(one.parent)
    outcome = None if parent is None else parent.outcome
    return ConfirmedSetting(
        config=one.config,
        part=one.part,
        trial=one.parent,
        trials=tuple(run.number for run in runs if run.number is not None),
        n_diverged=sum(run.state == State.DIVERGED for run in runs),
        mean=mean,
        low=low,
        high=high,
        search_score=None if outcome is None else outcome.value,
        in_race=in_race,
    )


def _compared(race: Race) -> tuple[int | None, int | None]:
    """Return the setting that is compared and the one that it is compared with."""
    order = race.by_mean()
    own = [one for one in _entrants(race) if race.plan.entrants[one].part != Part.FOUND]
    if own:
        found = [one for one in order if one not in own]
        return (found[0] if found else None), own[0]
    return (order[0], order[1]) if len(order) > 1 else (None, None)


def _numbers(one: ConfirmedSetting) -> tuple[int, ...]:
    return one.trials if one.trial is None else (one.trial, *one.trials)


def _test_accuracy(numbers: Sequence[int], by_number: dict[int, Trial]) -> float | None:
    judged = [by_number[number].test_accuracy for number in numbers if number in by_number]
    return next((value for value in judged if value is not None and math.isfinite(value)), None)

"""What a worker says while it works: the values that the live view, the event lines and the log are made of."""

from dataclasses import dataclass
from enum import StrEnum

from lrsearch.trial import EpochMetrics, Outcome, Trial


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial was claimed and is being trained."""

    trial: Trial
    resumed: bool
    """Whether it was interrupted before and starts again under its own number."""


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch was trained and accepted by the study."""

    number: int
    metrics: EpochMetrics
    rung_score: float


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial ended and was told."""

    number: int
    outcome: Outcome


class EndReason(StrEnum):
    """Why a worker has nothing more to do."""

    BUDGET_TRIALS = "budget_trials"
    BUDGET_HOURS = "budget_hours"
    MAX_FAILURES = "max_failures"
    HELD_ELSEWHERE = "held_elsewhere"
    """All that is left of the budget is being trained by other processes."""


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """The worker stops; ``message`` says why, with the numbers."""

    reason: EndReason
    message: str


Event = TrialStarted | EpochDone | TrialEnded | SearchEnded

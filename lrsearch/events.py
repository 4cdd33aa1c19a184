"""What a worker says while it works: the values that the live view, the event lines and the log are made of."""

from dataclasses import dataclass
from enum import StrEnum

from lrsearch.trial import EpochMetrics, Outcome, Reason, Trial


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial was claimed and is being trained."""

    trial: Trial
    resumed: bool
    """Whether it was interrupted before and starts again under its own number."""
    why: str = ""
    """Why it was begun, or gone on with, in words; empty where no strategy says so."""


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch was trained, and accepted by the study."""

    number: int
    metrics: EpochMetrics
    """With its rung score, and the cut that it was held against where there was one; without, if trained again."""
    again: bool = False
    """Whether it was trained again, from a checkpoint: the study has had it."""


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial ended and was told."""

    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class TrialInterrupted:
    """A trial was given back, or lost to another worker; it goes on under its number."""

    number: int
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A worker waits while others train what is left."""

    message: str


@dataclass(frozen=True, slots=True)
class WorkerReplaced:
    """A worker process ended before its time, and another one takes its place."""

    message: str


class EndReason(StrEnum):
    """Why a worker has nothing more to do."""

    BUDGET_TRIALS = "budget_trials"
    BUDGET_HOURS = "budget_hours"
    BUDGET_TRAININGS = "budget_trainings"
    """The epochs of all trials together are used up."""
    MAX_FAILURES = "max_failures"
    SPACE_USED_UP = "space_used_up"
    """Every setting of the search space has been trained: a training repeats bit for bit, so once is enough."""
    CONVERGED = "converged"
    """What is left of the budget is expected to gain less than noise would hide (``budget.stop``)."""
    STOPPED = "stopped"
    """A person stopped the study."""
    LEFT = "left"
    """The worker was asked to leave; its trial waits for another one."""
    CONFIRMED = "confirmed"
    """What was to be confirmed is."""
    HELD_ELSEWHERE = "held_elsewhere"
    """All that is left of the budget is being trained by other processes."""


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """The worker stops; ``message`` says why, with the numbers."""

    reason: EndReason
    message: str


Event = TrialStarted | EpochDone | TrialEnded | TrialInterrupted | Waiting | WorkerReplaced | SearchEnded

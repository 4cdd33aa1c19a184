"""What the live view knows: a frozen value that every event turns into the next one, without clock or terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from lrsearch.analysis.ranking import best
from lrsearch.events import (
    EpochDone,
    Event,
    SearchEnded,
    TrialEnded,
    TrialInterrupted,
    TrialStarted,
    Waiting,
    WorkerReplaced,
)
from lrsearch.report.status import trained_epochs, trained_seconds
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.trial import EpochMetrics, Role, State, Trial

RECENT = 4
"""Ended trials that are shown."""


@dataclass(frozen=True, slots=True)
class Running:
    """A trial being trained."""

    trial: Trial
    resumed: bool
    since: float
    """When it started, on the clock of the view [seconds]."""
    why: str = ""
    """Why it was begun, or gone on with, where a strategy says so."""


@dataclass(frozen=True, slots=True)
class LiveState:
    """A search as seen so far. All times are those of one monotonic clock [seconds]."""

    spec: StudySpec
    budget: BudgetSpec
    begun: float
    counts: Counter[State] = field(default_factory=Counter)
    """Ended trials, those of earlier runs included."""
    best: Trial | None = None
    running: tuple[Running, ...] = ()
    recent: tuple[Trial, ...] = ()
    """The latest ended trials of this run, the latest first."""
    timed: int = 0
    """Trials whose duration is known and that count towards the budget."""
    timed_seconds: float = 0.0
    trained_seconds: float = 0.0
    """Training time of all trials and range tests, which a budget in hours limits."""
    trained_epochs: int = 0
    """Epochs of all trials together, which a budget of trainings limits."""
    waiting: str = ""
    """For what this worker waits, where it does."""
    ended: SearchEnded | None = None

    @property
    def finished(self) -> int:
        """Complete, pruned and diverged trials."""
        return sum(n for state, n in self.counts.items() if state.counts)


def begin(
    spec: StudySpec, budget: BudgetSpec, trials: Sequence[Trial], now: float, swept_seconds: float = 0.0
) -> LiveState:
    """Return the state at the start of a run, ``trials`` being those that the study has already."""
    ended = [t for t in trials if t.state != State.RUNNING]
    timed = [t for t in ended if t.state.counts and t.started_at and t.ended_at]
    spans = [(t.ended_at - t.started_at).total_seconds() for t in timed if t.started_at and t.ended_at]
    return LiveState(
        spec,
        budget,
        now,
        counts=Counter(t.state for t in ended),
        best=best(ended, spec.metric.direction),
        timed=len(timed),
        timed_seconds=sum(spans),
        trained_seconds=trained_seconds(trials, swept_seconds),
        trained_epochs=trained_epochs(trials),
    )


def after(state: LiveState, event: Event, now: float) -> LiveState:
    """Return the state after an event."""
    match event:
        case TrialStarted(trial=trial, resumed=resumed, why=why):
            fresh = Running(trial, resumed, now, why)
            return replace(state, running=(*_without(state, trial.number), fresh), waiting="")
        case EpochDone(again=True) | WorkerReplaced():
            return state
        case EpochDone(number=number, metrics=metrics):
            running = tuple(_grown(r, metrics) if r.trial.number == number else r for r in state.running)
            seconds = state.trained_seconds + metrics.seconds
            return replace(state, running=running, trained_seconds=seconds, trained_epochs=state.trained_epochs + 1)
        case TrialEnded():
            return _ended(state, event, now)
        case TrialInterrupted(number=number):
            return replace(state, running=_without(state, number))
        case Waiting(message=message):
            return replace(state, waiting=message)
        case SearchEnded():
            return replace(state, ended=event, running=())
        case _:
            assert_never(event)


def _ended(state: LiveState, event: TrialEnded, now: float) -> LiveState:
    found = next((r for r in state.running if r.trial.number == event.number), None)
    outcome = event.outcome
    if found is not None and found.trial.role != Role.SEARCH:
        again = replace(found.trial, state=outcome.state, outcome=outcome)
        return replace(state, running=_without(state, event.number), recent=(again, *state.recent)[:RECENT])
    counts = state.counts + Counter([outcome.state])
    state = replace(state, counts=counts, running=_without(state, event.number))
    if found is None:
        return state
    trial = replace(found.trial, state=outcome.state, outcome=outcome)
    candidates = [t for t in (state.best, trial) if t is not None]
    counted = outcome.state.counts
    return replace(
        state,
        best=best(candidates, state.spec.metric.direction),
        recent=(trial, *state.recent)[:RECENT],
        timed=state.timed + counted,
        timed_seconds=state.timed_seconds + (now - found.since if counted else 0.0),
    )


def progress(state: LiveState) -> float:
    """Return which part of the budget is used up, 0..1, by trials, hours or epochs, whichever is further."""
    parts = [0.0]
    if state.budget.trials is not None:
        parts.append(state.finished / state.budget.trials)
    if state.budget.hours is not None:
        parts.append(state.trained_seconds / (3600 * state.budget.hours))
    if (epochs := state.budget.epochs(state.spec.epochs)) is not None:
        parts.append(state.trained_epochs / max(epochs, 1))
    return min(max(parts), 1.0)


def eta_seconds(state: LiveState, now: float) -> float | None:
    """Return how long the search will still take at the mean duration of the trials so far; None before the first.

    As many trials are trained side by side as are now.
    Hours are training time: their end comes at the part of each trial that is training.
    """
    if not state.timed or state.timed_seconds <= 0:
        return None
    ends = []
    side_by_side = max(1, len(state.running))
    under_way = sum(now - running.since for running in state.running)
    if state.budget.trials is not None:
        left = state.budget.trials - state.finished
        ends.append((left * state.timed_seconds / state.timed - under_way) / side_by_side)
    if state.budget.hours is not None and state.trained_seconds > 0:
        wall = max((state.timed_seconds + under_way) / state.trained_seconds, 1.0)
        ends.append((3600 * state.budget.hours - state.trained_seconds) * wall / side_by_side)
    return max(min(ends), 0.0) if ends else None


def _grown(running: Running, metrics: EpochMetrics) -> Running:
    return replace(running, trial=replace(running.trial, metrics=(*running.trial.metrics, metrics)))


def _without(state: LiveState, number: int) -> tuple[Running, ...]:
    return tuple(r for r in state.running if r.trial.number != number)

"""What a decision may look at, frozen, and what it may say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.space import SearchSpace
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.confirming import Choose, Confirm, Race
from lrsearch.text import counted
from lrsearch.trial import Interruption, Role, State, TrialConfig

ENOUGH = "enough"
"""Stands in the database where the search of a study has converged, until somebody extends it or runs it again."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a study is, as one transaction sees it."""

    budget: BudgetSpec
    stopped: str | None
    """How a person asked it to stop (``drain`` or ``now``), or ``ENOUGH``: it has converged."""
    hours_left: float | None
    """None where the budget has no hours."""
    total: int
    """Slots of any state: the position of the next one."""
    open: int
    """Slots that have not ended."""
    finished: int
    """Complete, pruned and diverged trials."""
    failed: int
    """Failed trials; what a person enqueued outside the space, or ended with another program, is none."""
    paused: int = 0
    """Slots that have not ended and whose trial stands still."""
    epochs_left: int | None = None
    """Epochs that nobody has trained or has under way; None where the budget does not count them."""

    @property
    def asked_to_stop(self) -> bool:
        """Whether a person asked it to stop."""
        return self.stopped not in (None, ENOUGH)

    def ended(self, *, interrupted: bool, pausing: bool = False) -> SearchEnded | None:
        """Return why nothing new may be trained; an interrupted trial may while the budget has room for it.

        A strategy that is ``pausing`` counts epochs itself, and may go on with trials where it may begin none.
        """
        budget, finished, open_now = self.budget, self.finished, self.open
        if budget.trials is not None and finished >= budget.trials:
            return SearchEnded(EndReason.BUDGET_TRIALS, _all(budget.trials))
        if self.stopped == ENOUGH:
            more = f"{counted(finished, 'trial')} were enough; `lrsearch extend`, or `run` without budget.stop, goes on"
            return SearchEnded(EndReason.CONVERGED, f"the search has converged: {more}")
        if self.stopped is not None:
            left = (
                f"with {finished} of {counted(budget.trials, 'trial')} finished"
                if budget.trials
                else f"at {counted(finished, 'trial')}"
            )
            return SearchEnded(EndReason.STOPPED, f"the study was stopped {left}; `lrsearch run` or `extend` goes on")
        if interrupted:
            return None
        if self.failed > budget.max_failures:
            return SearchEnded(
                EndReason.MAX_FAILURES,
                f"{counted(self.failed, 'trial')} failed and budget.max_failures is {budget.max_failures}",
            )
        if self.hours_left is not None and self.hours_left <= 0:
            return SearchEnded(EndReason.BUDGET_HOURS, f"the budget of {budget.hours:g} h of training is used up")
        if pausing:
            return None
        if self.epochs_left is not None and self.epochs_left < 1:
            return self._out_of_epochs()
        if budget.trials is not None and finished + open_now >= budget.trials:
            return SearchEnded(
                EndReason.HELD_ELSEWHERE,
                f"{finished} of {budget.trials} trials are finished and the other {open_now} "
                f"{'is' if open_now == 1 else 'are'} being trained by another process",
            )
        return None

    def _out_of_epochs(self) -> SearchEnded:
        under_way, trainings = self.open - self.paused, self.budget.trainings
        used = f"the epochs of {trainings:g} whole trainings are used up"
        if under_way:
            return SearchEnded(
                EndReason.HELD_ELSEWHERE, f"{used} or under way in {counted(under_way, 'trial')} of other processes"
            )
        return SearchEnded(EndReason.BUDGET_TRAININGS, used)


def _all(trials: int) -> str:
    return (
        "the one trial of the budget is finished" if trials == 1 else f"all {trials} trials of the budget are finished"
    )


class SlotState(StrEnum):
    """How far a unit of the budget has come; the words stand in the database."""

    RESERVED = "reserved"
    """A worker holds it and has not begun."""
    RUNNING = "running"
    """Its trial has begun."""
    PAUSED = "paused"
    """Its trial stands still, its checkpoint kept, and may go on under its number."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """A slot that has not ended and that nobody works on."""

    id: str
    state: SlotState
    epoch: int = 0
    """Of a paused trial: the epochs that were accepted."""
    past: tuple[Interruption, ...] = ()
    """The attempts at it that were interrupted, the first first."""
    role: Role = Role.SEARCH


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """A trial of the search as a strategy that pauses looks at it: its setting, and its score after each epoch."""

    slot: str
    config: TrialConfig
    state: State
    """RUNNING where it has not ended."""
    scores: tuple[float, ...] = ()
    """After each accepted epoch, as pruners compare them, in the metric's own unit; not a number where it was none."""
    value: float | None = None
    """Of a complete trial, what the search is about."""
    paused: bool = False
    """It stands still. Otherwise, while it has not ended, somebody trains it, or it is interrupted."""
    parent: str | None = None
    """The slot of the trial that its first ``shared`` epochs are of."""
    shared: int = 0
    """Epochs that it has of its parent, and that nobody trained for it."""
    trunks: tuple[int, ...] = ()
    """Epochs at which its state is kept, so that others may go on from there."""

    @property
    def epochs(self) -> int:
        """Accepted epochs, those of its parent among them."""
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class KnownTraining:
    """A training that the study did not make and takes for known, at its own length."""

    config: TrialConfig
    state: State
    scores: tuple[float, ...] = ()
    """As far as they are known, after each of its epochs; not a number where one is not."""
    value: float | None = None
    """At its end."""
    source: str = ""
    """Whence: trainings of one source are compared with each other alone."""


@dataclass(frozen=True, slots=True)
class View:
    """What the choice of the next trial may look at."""

    spec: StudySpec
    standing: Standing
    free: tuple[FreeSlot, ...]
    """By position."""
    first: tuple[str, ...] = ()
    """Origins of the settings that are tried before the sampler is asked, in order."""
    enqueued: tuple[int, ...] = ()
    """Numbers of trials that people asked for and nobody has begun, the first first. Read where there is room."""
    n_first: int = 0
    """So many first settings have been begun. Read where there is room."""
    results: tuple[float | None, ...] = ()
    """Values of the finished trials of the search in the order of the budget; None: pruned or diverged.

    Read where there is room and the budget asks when to stop."""
    curves: tuple[ScoreCurve, ...] = ()
    """The trials of the search by position. Read where the strategy looks at them."""
    known: tuple[KnownTraining, ...] = ()
    """Likewise."""
    space: SearchSpace | None = None
    """What settings are drawn from, where the best trials have widened it."""
    race: Race | None = None
    """What is to be confirmed, as it stands; without settings until the search is over. None: nothing was asked for."""

    @property
    def has_room(self) -> bool:
        """Whether a new trial may begin: the budget has room, and none is interrupted, which goes first."""
        interrupted = any(slot.state != SlotState.PAUSED for slot in self.free if slot.role == Role.SEARCH)
        return not interrupted and self.standing.ended(interrupted=False) is None


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with the trial of a slot that nobody works on, or begin it."""

    slot: str
    why: str = ""
    """Of one that was paused, in words."""


@dataclass(frozen=True, slots=True)
class Fail:
    """End the trial of a slot as failed: it may not start again; then look anew."""

    slot: str
    why: str


@dataclass(frozen=True, slots=True)
class Settle:
    """End a paused trial as pruned, because nothing will go on with it; then look anew."""

    slot: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a new trial."""

    origin: str
    """enqueued, baseline, portfolio or sampler."""
    number: int | None = None
    """Of the enqueued trial."""
    nth_first: int | None = None
    """Which of the first settings it is, from 0."""
    params: Mapping[str, Any] | None = None
    """What is to be trained, by Optuna's names, where the strategy has chosen it; it may leave parameters open."""
    parent: str | None = None
    """The slot of the trial from whose kept state it goes on."""
    shared: int = 0
    """The epoch of that state."""
    why: str = ""
    """In words, where the strategy has chosen it."""


Step = Resume | Fail | Settle | Begin | Confirm | Choose | SearchEnded
"""What a worker does next; SearchEnded: nothing, and why."""


@dataclass(frozen=True, slots=True)
class RungRow:
    """What another trial scored at the epoch in question."""

    score: float
    complete: bool
    """Whether that trial has been trained through."""
    comparable: bool
    """Whether its rise to the peak was over."""
    number: int = 0
    """Of that trial."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What the judgement of a trial at an epoch may look at."""

    spec: StudySpec
    epoch: int
    """Completed epochs of this trial."""
    comparable: bool
    """Whether its rise to the peak is over."""
    hours_left: float | None
    """Of the budget; None where it has no hours."""
    own: Sequence[float] = ()
    """Its rung scores so far, the latest last."""
    others: Sequence[RungRow] = ()
    """What the other trials scored at this epoch."""
    n_complete: int = 0
    """Complete trials of the study."""
    number: int = 0
    """Of this trial."""
    slot: str | None = None
    """Of this trial, where the strategy looks at the whole view:"""
    view: View | None = None
    """in which this trial stands still."""


def standing_still(view: View, slot: str) -> View:
    """Return a view in which the trial of a slot, that has just come to a rung, stands still."""
    curves = tuple(replace(one, paused=True) if one.slot == slot else one for one in view.curves)
    standing = replace(view.standing, paused=view.standing.paused + 1)
    return replace(view, curves=curves, standing=standing)


def having_reached(view: View, slot: str, epoch: int, score: float) -> View:
    """Return a view in which the trial of a slot has the score of an epoch, if it has not yet."""
    curves = tuple(
        replace(one, scores=(*one.scores, score)) if one.slot == slot and one.epochs == epoch - 1 else one
        for one in view.curves
    )
    return replace(view, curves=curves)


Fate = Literal["keep", "pause", "prune", "out_of_budget"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a trial at an epoch, and the numbers that decided it."""

    fate: Fate
    cut: float | None = None
    """The score that had to be reached; None where nothing was compared, or too little."""
    n_compared: int = 0
    """Trials that were compared, this one included."""
    why: str = ""
    """In words, where a strategy pauses it."""


KEEP = Judgement("keep")

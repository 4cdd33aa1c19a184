"""Who decides: one object that a worker asks, so that another way to decide is another object."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec.deciding import PrunerSpec
from lrsearch.spec.study import RetriesSpec, StudySpec
from lrsearch.strategy.confirming import Choose, Confirm, next_run
from lrsearch.strategy.judge import judge
from lrsearch.strategy.stop import enough
from lrsearch.strategy.view import Begin, Fail, FreeSlot, Judgement, Reached, Resume, Settle, SlotState, Step, View
from lrsearch.text import counted
from lrsearch.trial import Interruption, Role, TrialConfig

LAST_WORDS = (
    EndReason.BUDGET_TRIALS,
    EndReason.BUDGET_HOURS,
    EndReason.BUDGET_TRAININGS,
    EndReason.MAX_FAILURES,
    EndReason.CONVERGED,
)
"""Ends after which nothing goes on with what is paused."""
OVER = (
    EndReason.BUDGET_TRIALS,
    EndReason.BUDGET_HOURS,
    EndReason.BUDGET_TRAININGS,
    EndReason.SPACE_USED_UP,
    EndReason.CONVERGED,
)
"""Ends of a search after which its best settings are confirmed, where that was asked for."""


def what_next(view: View) -> Step:
    """Decide, in this order: what was interrupted, what a person asked for, first settings, the sampler.

    What is to be confirmed goes before all of them, once its settings are chosen. A trial that may not start again
    fails, and a paused one that nothing will go on with is settled, one a step.
    """
    return confirming_first(view, _search)


def confirming_first(view: View, search: Callable[[View], Step]) -> Step:
    """Decide what is done for a confirmation, then what ``search`` says."""
    confirming = _confirm(view)
    if confirming is not None and not isinstance(confirming, SearchEnded):
        return confirming
    searching = search(view)
    if not isinstance(searching, SearchEnded):
        return searching
    if searching.reason == EndReason.CONVERGED and view.standing.stopped is None:
        return searching  # is written down before anything else is done about it
    if view.race is not None and not view.race.plan.entrants and searching.reason in OVER:
        return Choose()
    # What is in training for a confirmation is waited for.
    return searching if confirming is None or searching.reason == EndReason.STOPPED else confirming


def _confirm(view: View) -> Resume | Fail | Confirm | SearchEnded | None:
    """Return what is done for a confirmation; None where there is none to do, or the study was stopped."""
    race = view.race
    if race is None or not race.plan.entrants or view.standing.asked_to_stop:
        return None
    for slot in view.free:
        if slot.role == Role.CONFIRM:
            why = exhausted(slot.past, view.spec.workers.retries)
            return Resume(slot.id) if why is None else Fail(slot.id, why)
    step = next_run(race)
    if isinstance(step, int):
        are = "is" if step == 1 else "are"
        return SearchEnded(
            EndReason.HELD_ELSEWHERE, f"{counted(step, 'training')} of the confirmation {are} under way elsewhere"
        )
    return step


def _search(view: View) -> Step:
    interrupted: FreeSlot | None = None
    for slot in view.free:
        if slot.state == SlotState.PAUSED or slot.role != Role.SEARCH:
            continue
        why = exhausted(slot.past, view.spec.workers.retries)
        if why is not None:
            return Fail(slot.id, why)
        interrupted = slot
        break
    end = view.standing.ended(interrupted=interrupted is not None)
    if end is None:
        if interrupted is not None:
            return Resume(interrupted.id)
        begin = _begin(view)
        if begin.origin != "sampler" or (end := enough(view)) is None:
            return begin
    paused = next((slot for slot in view.free if slot.state == SlotState.PAUSED), None)
    if paused is not None and is_over(view, end):
        return Settle(paused.id)
    return end


def _begin(view: View) -> Begin:
    if view.enqueued:
        return Begin("enqueued", number=view.enqueued[0])
    if view.n_first < len(view.first):
        return Begin(view.first[view.n_first], nth_first=view.n_first)
    return Begin("sampler")


def is_over(view: View, end: SearchEnded) -> bool:
    """Return whether the search is over but for what is paused."""
    if end.reason == EndReason.HELD_ELSEWHERE:
        return view.standing.open == view.standing.paused
    if end.reason == EndReason.CONVERGED and view.standing.stopped is None:
        return False  # it is written down first
    return end.reason in LAST_WORDS


def exhausted(past: Sequence[Interruption], allowed: RetriesSpec) -> str | None:
    """Return in words why a trial may not start again after its latest interruption, or None when it may.

    One policy for each reason: so many times a trial starts again while its checkpoint makes no progress.

    >>> from lrsearch.trial import Reason
    >>> lost = Interruption(1, Reason.LOST, "host:1", "cpu", 0, 0, "gone")
    >>> exhausted([lost], RetriesSpec(lost=0))
    'lost once, and workers.retries.lost is 0'
    """
    if not past:
        return None
    last = past[-1]
    limit: int | None = getattr(allowed, last.reason.value, None)
    if limit is None:
        return None
    times = 0
    for one in reversed(past):
        if one.step != last.step:
            break
        times += one.reason == last.reason
    if times <= limit:
        return None
    often = "once" if times == 1 else f"{times} times without progress"
    words = last.reason.value.replace("_", " ")
    return f"{words} {often}, and workers.retries.{last.reason.value} is {limit}"


def _confirm_only(view: View) -> Step:
    if view.race is not None and not view.race.plan.entrants:
        return Choose()
    if view.standing.asked_to_stop:
        return SearchEnded(EndReason.STOPPED, "the study was stopped; `lrsearch confirm` goes on")
    step = _confirm(view)
    return SearchEnded(EndReason.CONFIRMED, "the confirmation is decided") if step is None else step


class Strategy:
    """The strategy of every study that says nothing else: the study file's pruner, and trials in their order.

    A strategy that pauses trials says so in ``judge`` and goes on with them in ``what_next``.
    """

    reads_curves: ClassVar[bool] = False
    """Whether it looks at the trials of the search, their settings and scores."""

    def what_next(self, view: View) -> Step:
        """Return what a worker does next."""
        return what_next(view)

    def stops_at(self, spec: StudySpec, config: TrialConfig, epoch: int) -> bool:
        """Whether ``judge`` looks at the whole view when a trial has come to ``epoch``."""
        del spec, config, epoch
        return False

    def looks_at(self, pruner: PrunerSpec, epoch: int, epochs: int) -> bool:
        """Whether ``judge`` looks at the scores of other trials at ``epoch``; they are read only where it does."""
        return pruner.compares_at(epoch, epochs)

    def judge(self, reached: Reached) -> Judgement:
        """Return what becomes of a trial at an epoch that is not its last."""
        return judge(reached)


class ConfirmOnly(Strategy):
    """The strategy of a worker that only confirms: settings are chosen of what the search has found by now."""

    def what_next(self, view: View) -> Step:
        """Return what a worker does next."""
        return _confirm_only(view)

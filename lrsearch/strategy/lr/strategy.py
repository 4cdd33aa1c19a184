"""The strategy ``lr`` as a worker asks it: what to do next, and what becomes of a trial at a rung."""

from collections import OrderedDict
from collections.abc import Hashable

from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec.deciding import PrunerSpec
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.lr.choice import Chooser, Forward, Means
from lrsearch.strategy.lr.enough import enough
from lrsearch.strategy.strategy import Strategy, confirming_first, exhausted, is_over
from lrsearch.strategy.view import Begin, Fail, FreeSlot, Judgement, Reached, Resume, Settle, SlotState, Step, View
from lrsearch.text import counted
from lrsearch.trial import Role, TrialConfig

PART = 0.35
"""Of all trainings through of a budget of trials, what the strategy spends, beside one whole training, where no budget
of trainings is said: about what pruning would let through (docs/benchmarks.md)."""
REMEMBERED = 8
"""Decisions that are remembered: one is asked for outside the lock of the budget and again inside it."""


class LrStrategy(Strategy):
    """Begins, pauses and goes on with trials by one model of learning rates and schedules."""

    reads_curves = True

    def __init__(self) -> None:
        self._choosers: tuple[object, Chooser] | None = None
        self._remembered: OrderedDict[Hashable, Forward | None] = OrderedDict()

    def what_next(self, view: View) -> Step:
        """Return what a worker does next."""
        return confirming_first(view, self._search)

    def looks_at(self, pruner: PrunerSpec, epoch: int, epochs: int) -> bool:
        """Return False: scores of single epochs are not compared."""
        del pruner, epoch, epochs
        return False

    def stops_at(self, spec: StudySpec, config: TrialConfig, epoch: int) -> bool:
        """Whether a trial is looked at after an epoch."""
        return Chooser(spec).rungs.contains(config, epoch)

    def judge(self, reached: Reached) -> Judgement:
        """Return what becomes of a trial at an epoch that is not its last."""
        if reached.hours_left is not None and reached.hours_left <= 0:
            return Judgement("out_of_budget")
        view = reached.view
        if view is None or reached.slot is None:
            return Judgement("keep")
        step = self._forward(view)
        if enough(view, step) is not None:
            return Judgement("pause", why="the search has converged")
        if step is not None and step.slot == reached.slot:
            return Judgement("keep", why=step.why)
        return Judgement("pause", why=_instead(step))

    def _search(self, view: View) -> Step:
        interrupted: FreeSlot | None = None
        for slot in view.free:
            if slot.state == SlotState.PAUSED or slot.role != Role.SEARCH:
                continue
            why = exhausted(slot.past, view.spec.workers.retries)
            if why is not None:
                return Fail(slot.id, why)
            interrupted = slot
            break
        end = view.standing.ended(interrupted=interrupted is not None, pausing=True)
        if end is None:
            if interrupted is not None:
                return Resume(interrupted.id)
            step = self._step(view)
            if not isinstance(step, SearchEnded):
                return step
            end = step
        paused = next((slot for slot in view.free if slot.state == SlotState.PAUSED), None)
        if paused is not None and is_over(view, end):
            return Settle(paused.id)
        return end

    def _step(self, view: View) -> Begin | Resume | SearchEnded:
        standing = view.standing
        room = _may_begin(view)
        if room and view.enqueued:
            return Begin("enqueued", number=view.enqueued[0])
        if room and view.n_first < len(view.first):
            return Begin(view.first[view.n_first], nth_first=view.n_first)
        step = self._forward(view)
        if (end := enough(view, step)) is not None:
            return end
        if step is not None and step.slot is not None:
            return Resume(step.slot, step.why)
        if step is not None and step.setting is not None:
            return Begin("strategy", params=step.setting.params, parent=step.parent, shared=step.shared, why=step.why)
        under_way = standing.open - standing.paused
        if under_way:
            are = "trial is" if under_way == 1 else "trials are"
            return SearchEnded(EndReason.HELD_ELSEWHERE, f"{under_way} {are} being trained by another process")
        spent = self._chooser(view).spent(view.curves) / view.spec.epochs
        return SearchEnded(
            EndReason.BUDGET_TRAININGS,
            f"{counted(standing.finished + standing.paused, 'setting')} had epochs of {spent:.3g} whole trainings",
        )

    def _chooser(self, view: View) -> Chooser:
        space = view.space or view.spec.space
        if self._choosers is None or self._choosers[0] is not space:
            self._choosers = space, Chooser(view.spec, space)
        return self._choosers[1]

    def _forward(self, view: View) -> Forward | None:
        """Return the step that promises most."""
        means = self._means(view)
        key = (
            tuple((one.slot, one.state, one.paused, one.epochs, one.trunks) for one in view.curves),
            means,
            view.space,
            len(view.known),
        )
        if key not in self._remembered:
            self._remembered[key] = self._chooser(view).choose(view.curves, means, view.known)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return self._remembered[key]

    def _means(self, view: View) -> Means:
        budget, epochs = view.standing.budget, view.spec.epochs
        chooser, may_begin = self._chooser(view), _may_begin(view)
        spent = chooser.spent(view.curves)
        if (total := budget.epochs(epochs)) is not None:
            unknown = max(0, view.standing.total - len(view.curves))
            return Means(total - spent - unknown * epochs, may_begin)
        if budget.trials is None:
            return Means(None, may_begin)
        # One that failed, or that another program told, is begun anew as another setting, whatever that costs.
        to_come = max(0, budget.trials - view.standing.finished - view.standing.open)
        planned = round(epochs * (1 + PART * budget.trials))
        if to_come and may_begin and planned - spent <= to_come * chooser.rungs.at[0]:
            return Means(epochs, only_begin=True)
        return Means(planned - spent, may_begin, slot_price=PART)


def _may_begin(view: View) -> bool:
    trials = view.standing.budget.trials
    return trials is None or view.standing.finished + view.standing.open < trials


def _instead(step: Forward | None) -> str:
    if step is None:
        return "what is left of the budget goes to others"
    if step.setting is not None:
        return "a new setting promises more for its cost"
    return "another trial promises more for its cost"

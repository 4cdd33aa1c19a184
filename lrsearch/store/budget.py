"""The budget of a study: what is used up, and why nothing may be trained any more."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.counting import counted
from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec.study import BudgetSpec
from lrsearch.store.tables import epochs, slots, studies
from lrsearch.trial import Reason, State

# The lock of the budget: SQLite's write lock, a row lock elsewhere.
_LOCK = (
    studies.update()
    .where(studies.c.id == bindparam("study"))
    .values(revision=studies.c.revision + 1)
    .returning(studies.c.budget_trials, studies.c.budget_hours, studies.c.max_failures, studies.c.stopped)
)
_COUNTS = (
    sa.select(slots.c.state, slots.c.outcome, slots.c.reason, sa.func.count())
    .where(slots.c.study_id == bindparam("study"))
    .group_by(slots.c.state, slots.c.outcome, slots.c.reason)
)
_HOURS = sa.select(studies.c.budget_hours).where(studies.c.id == bindparam("study"))
_STOPPED = sa.select(studies.c.stopped).where(studies.c.id == bindparam("study"))
_SECONDS = sa.select(sa.func.sum(epochs.c.seconds)).where(epochs.c.study_id == bindparam("study"))


_BY_OTHERS = (Reason.NOT_IN_SPACE, Reason.TOLD_ELSEWHERE)
"""Why a trial failed that no fault of the training ended: these are no reason to end the search."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a study is, as one transaction sees it."""

    budget: BudgetSpec
    stopped: str | None
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

    def ended(self, *, interrupted: bool) -> SearchEnded | None:
        """Return why nothing may be trained any more; an interrupted trial may while the budget has room for it."""
        budget, finished, open_now = self.budget, self.finished, self.open
        if budget.trials is not None and finished >= budget.trials:
            return SearchEnded(EndReason.BUDGET_TRIALS, _all(budget.trials))
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
        if budget.trials is not None and finished + open_now >= budget.trials:
            return SearchEnded(
                EndReason.HELD_ELSEWHERE,
                f"{finished} of {budget.trials} trials are finished and the other {open_now} "
                f"{'is' if open_now == 1 else 'are'} being trained by another process",
            )
        return None


def lock(connection: sa.Connection, study: str) -> sa.Row[Any] | None:
    """Hold the lock of a study's budget until the end of the transaction; None when the study has been deleted."""
    return connection.execute(_LOCK, {"study": study}).first()


def standing(connection: sa.Connection, study: str, row: sa.Row[Any]) -> Standing:
    """Count; ``row`` is what ``lock`` returned."""
    counts = connection.execute(_COUNTS, {"study": study}).all()
    used = 0.0 if row.budget_hours is None else seconds(connection, study)
    return Standing(
        budget=BudgetSpec(trials=row.budget_trials, hours=row.budget_hours, max_failures=row.max_failures),
        stopped=row.stopped,
        hours_left=None if row.budget_hours is None else row.budget_hours - used / 3600,
        total=sum(n for *_, n in counts),
        open=sum(n for state, _, _, n in counts if state != "ended"),
        finished=sum(n for _, outcome, _, n in counts if outcome is not None and State(outcome).counts),
        failed=sum(n for _, o, reason, n in counts if o == State.FAILED and reason not in _BY_OTHERS),
    )


def stopped(connection: sa.Connection, study: str) -> str | None:
    """Return how a person asked the study to stop (``drain`` or ``now``), or None."""
    asked: str | None = connection.scalar(_STOPPED, {"study": study})
    return asked


def hours_left(connection: sa.Connection, study: str) -> float | None:
    """Return the hours that are left, or None where the budget has none."""
    hours = connection.scalar(_HOURS, {"study": study})
    return None if hours is None else float(hours) - seconds(connection, study) / 3600


def seconds(connection: sa.Connection, study: str) -> float:
    """Return the training time of all trials [seconds]."""
    return float(connection.scalar(_SECONDS, {"study": study}) or 0.0)


def _all(trials: int) -> str:
    return (
        "the one trial of the budget is finished" if trials == 1 else f"all {trials} trials of the budget are finished"
    )

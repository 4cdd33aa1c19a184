"""The budget of a study, counted; ``strategy.view.Standing`` says what follows from the counts."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store.tables import epochs, range_tests, slots, studies
from lrsearch.strategy.view import ENOUGH, Standing
from lrsearch.trial import Reason, Role, State

# The lock of the budget: SQLite's write lock, a row lock elsewhere.
_LOCK = (
    studies.update()
    .where(studies.c.id == bindparam("study"))
    .values(revision=studies.c.revision + 1)
    .returning(
        studies.c.budget_trials,
        studies.c.budget_hours,
        studies.c.max_failures,
        studies.c.budget_stop,
        studies.c.budget_trainings,
        studies.c.stopped,
    )
)
_LOOK = sa.select(
    studies.c.budget_trials,
    studies.c.budget_hours,
    studies.c.max_failures,
    studies.c.budget_stop,
    studies.c.budget_trainings,
    studies.c.stopped,
).where(studies.c.id == bindparam("study"))
_COUNTS = (
    sa.select(slots.c.state, slots.c.outcome, slots.c.reason, sa.func.count())
    .where(slots.c.study_id == bindparam("study"), slots.c.role == Role.SEARCH.value)
    .group_by(slots.c.state, slots.c.outcome, slots.c.reason)
)
_STOPPED = sa.select(studies.c.stopped).where(studies.c.id == bindparam("study"))
_OF_SEARCH = sa.select(slots.c.id).where(slots.c.study_id == bindparam("study"), slots.c.role == Role.SEARCH.value)
_OF_TRIALS = sa.select(sa.func.sum(epochs.c.seconds)).where(
    epochs.c.study_id == bindparam("study"), epochs.c.slot_id.in_(_OF_SEARCH)
)
_OF_RANGE_TESTS = sa.select(sa.func.sum(range_tests.c.seconds)).where(range_tests.c.study_id == bindparam("study"))
_count: Any = sa.func.count
_N_EPOCHS = (
    sa.select(_count())
    .select_from(epochs)
    .where(epochs.c.study_id == bindparam("study"), epochs.c.slot_id.in_(_OF_SEARCH))
)
_N_SHARED = sa.select(sa.func.sum(slots.c.shared_epochs)).where(
    slots.c.study_id == bindparam("study"), slots.c.role == Role.SEARCH.value, slots.c.state != "reserved"
)
_SECONDS = sa.select(
    sa.func.coalesce(_OF_TRIALS.scalar_subquery(), 0.0) + sa.func.coalesce(_OF_RANGE_TESTS.scalar_subquery(), 0.0)
)
_HOURS = sa.select(
    studies.c.budget_hours, sa.case((studies.c.budget_hours.is_not(None), _SECONDS.scalar_subquery())).label("used")
).where(studies.c.id == bindparam("study"))


_BY_OTHERS = (Reason.NOT_IN_SPACE, Reason.TOLD_ELSEWHERE)
"""Why a trial failed that no fault of the training ended: these are no reason to end the search."""


def lock(connection: sa.Connection, study: str) -> sa.Row[Any] | None:
    """Hold the lock of a study's budget until the end of the transaction; None when the study has been deleted."""
    return connection.execute(_LOCK, {"study": study}).first()


def of(row: Any) -> BudgetSpec:
    """Return the budget that stands in a row of ours."""
    return BudgetSpec(
        trials=row.budget_trials,
        hours=row.budget_hours,
        trainings=row.budget_trainings,
        max_failures=row.max_failures,
        stop=row.budget_stop,
    )


def columns(budget: BudgetSpec) -> dict[str, Any]:
    """Return a budget as the columns of such a row."""
    return {
        "budget_trials": budget.trials,
        "budget_hours": budget.hours,
        "max_failures": budget.max_failures,
        "budget_stop": budget.stop,
        "budget_trainings": budget.trainings,
    }


def look(connection: sa.Connection, study: str) -> sa.Row[Any] | None:
    """Return what ``lock`` does, without holding the lock."""
    found: sa.Row[Any] | None = connection.execute(_LOOK, {"study": study}).first()  # type: ignore[assignment]
    return found


def standing(
    connection: sa.Connection, study: str, row: sa.Row[Any], epochs_of_a_training: int, *, by_curves: bool = False
) -> Standing:
    """Count; ``row`` is what ``lock`` returned.

    Epochs are not counted ``by_curves``: whoever looks at those of all trials counts them itself.
    """
    counts = connection.execute(_COUNTS, {"study": study}).all()
    used = 0.0 if row.budget_hours is None else seconds(connection, study)
    total = None if by_curves else of(row).epochs(epochs_of_a_training)
    open_now = sum(n for state, _, _, n in counts if state != "ended")
    paused = sum(n for state, _, _, n in counts if state == "paused")
    return Standing(
        budget=of(row),
        stopped=row.stopped,
        hours_left=None if row.budget_hours is None else row.budget_hours - used / 3600,
        total=sum(n for *_, n in counts),
        open=open_now,
        finished=sum(n for _, outcome, _, n in counts if outcome is not None and State(outcome).counts),
        failed=sum(n for _, o, reason, n in counts if o == State.FAILED and reason not in _BY_OTHERS),
        paused=paused,
        # A trial under way has one epoch in hand.
        epochs_left=None if total is None else total - n_epochs(connection, study) - (open_now - paused),
    )


def n_epochs(connection: sa.Connection, study: str) -> int:
    """Return the epochs that were trained in the search; those that a trial has of another one are that one's."""
    return int(connection.scalar(_N_EPOCHS, {"study": study}) or 0) - int(
        connection.scalar(_N_SHARED, {"study": study}) or 0
    )


def settle(connection: sa.Connection, study: str, why: str) -> None:
    """Write down that the search has converged: the study is over until somebody extends it or runs it again."""
    connection.execute(studies.update().where(studies.c.id == study).values(stopped=ENOUGH, stopped_why=why))


def stopped(connection: sa.Connection, study: str) -> str | None:
    """Return how a person asked the study to stop (``drain`` or ``now``), or None."""
    asked: str | None = connection.scalar(_STOPPED, {"study": study})
    return asked


def seconds(connection: sa.Connection, study: str) -> float:
    """Return the training time of all trials of the search and of its range tests [seconds]."""
    return float(connection.scalar(_SECONDS, {"study": study}) or 0.0)


def swept_seconds(connection: sa.Connection, study: str) -> float:
    """Return the time of its range tests alone [seconds]."""
    return float(connection.scalar(_OF_RANGE_TESTS, {"study": study}) or 0.0)

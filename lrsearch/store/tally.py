"""How far all studies of a database are, in counts: one query a kind, however many studies, and no trial is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from lrsearch.errors import StorageError
from lrsearch.events import EndReason
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.metrics import METRICS, Metric
from lrsearch.store import budget as budgets
from lrsearch.store import lease, optuna_private, tables
from lrsearch.store.homes import ID_ATTR, SPEC_ATTR
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database
from lrsearch.store.tables import later, now
from lrsearch.strategy.view import Standing
from lrsearch.trial import Reason, State

RECENT_SECONDS = 300.0

_named, _attrs = optuna_private.STUDIES, optuna_private.STUDY_USER_ATTRS
_slots, _epochs, _interruptions = tables.slots, tables.epochs, tables.interruptions
_leases, _workers = tables.leases, tables.workers
_count: Any = sa.func.count
_recent = sa.case((_slots.c.ended_at > later(-RECENT_SECONDS), 1), else_=0)

_STUDIES = (
    sa.select(_named.c.study_name, _named.c.study_id, _attrs.c.key, _attrs.c.value_json)
    .join(_attrs, _attrs.c.study_id == _named.c.study_id)
    .where(_attrs.c.key.in_((ID_ATTR, SPEC_ATTR)))
    .outerjoin(tables.studies, tables.studies.c.optuna_id == _named.c.study_id)
    .order_by(sa.case((tables.studies.c.id.is_(None), 1), else_=0), _named.c.study_id)
)
_FILED = sa.select(tables.studies)
_TRIALS = sa.select(
    _slots.c.study_id,
    _slots.c.state,
    _slots.c.outcome,
    _slots.c.reason,
    _count().label("n"),
    sa.func.max(_slots.c.value).label("highest"),
    sa.func.min(_slots.c.value).label("lowest"),
    sa.func.max(_slots.c.ended_at).label("last_end"),
    sa.func.sum(_recent).label("recent"),
).group_by(_slots.c.study_id, _slots.c.state, _slots.c.outcome, _slots.c.reason)
# Of a million epochs the index alone is quick to count, and their rows take ten times as long.
_N_EPOCHS = sa.select(_epochs.c.study_id, _count().label("n")).group_by(_epochs.c.study_id)
_by_the_hour = sa.select(tables.studies.c.id).where(tables.studies.c.budget_hours.is_not(None))
_TRAINED = sa.union_all(
    *(
        sa.select(table.c.study_id, sa.func.sum(table.c.seconds).label("seconds"))
        .where(table.c.study_id.in_(_by_the_hour))
        .group_by(table.c.study_id)
        for table in (_epochs, tables.range_tests)
    )
)
_INTERRUPTED = sa.select(_interruptions.c.study_id, _interruptions.c.reason, _count().label("n")).group_by(
    _interruptions.c.study_id, _interruptions.c.reason
)
_PROCESS = (_workers.c.pid, _workers.c.process_started, _workers.c.process_space)
_LEASES = (
    sa.select(_leases.c.study_id, (_leases.c.expires_at <= now()).label("expired"), _slots.c.state, *_PROCESS)
    .outerjoin(_workers, _workers.c.id == _leases.c.worker_id)
    .outerjoin(_slots, _slots.c.id == _leases.c.slot_id)
)
# An accepted epoch renews the lease alone.
_AT_WORK = (
    sa.select(_workers.c.study_id, _workers.c.id, *_PROCESS)
    .outerjoin(_leases, _leases.c.worker_id == _workers.c.id)
    .where(sa.or_(_workers.c.expires_at > now(), _leases.c.expires_at > now()))
)


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a study is, in counts, by the database's clock."""

    name: str
    metric: str
    direction: str
    budget: BudgetSpec
    trials: Mapping[State, int]
    """Of every state, as ``lrsearch status`` counts them: without what a person enqueued outside the space."""
    interrupted: int
    """Running trials that nobody works on; the next claim goes on with one."""
    open: bool
    """Whether anything more will come, unless the budget is raised."""
    epochs: int
    """Accepted ones."""
    trained_seconds: float | None
    """Of all trials together; None where the budget has no hours."""
    interruptions: Mapping[Reason, int]
    workers: int
    """Those that live, as far as can be seen."""
    leases_held: int
    leases_expired: int
    """Their time is over or their process has ended, and nobody has taken the trial over yet."""
    recent: int
    """Trials of the budget that ended within the last ``RECENT_SECONDS``."""
    best: float | None
    """Of the complete trials."""
    last_end: datetime | None


def read(database: Database) -> list[Tally]:
    """Return the counts of every study, by name.

    Raises:
        StorageError: the database does not answer.
    """
    place = database.place
    if isinstance(place, SqliteFile) and not place.path.exists():
        # It would be made anew, empty.
        raise StorageError(f"{place}: there is no such study database any more")
    with database.reading() as connection:
        names = _names(connection)
        filed = [row for row in connection.execute(_FILED) if row.id in names]
        queries = (_TRIALS, _N_EPOCHS, _TRAINED, _INTERRUPTED, _LEASES, _AT_WORK)
        kinds = [_by_study(connection, query) for query in queries]
    found = [_tally(*names[row.id], row, *(kind.get(row.id, []) for kind in kinds)) for row in filed]
    return sorted(found, key=lambda tally: tally.name)


def _names(connection: sa.Connection) -> dict[str, tuple[str, str]]:
    """Return (name, spec as JSON) of every study that Optuna has, by our id."""
    attrs: dict[tuple[int, str], dict[str, str]] = {}
    for row in connection.execute(_STUDIES):
        attrs.setdefault((row.study_id, row.study_name), {})[row.key] = json.loads(row.value_json)
    out: dict[str, tuple[str, str]] = {}
    for (_, name), mine in attrs.items():
        if ID_ATTR in mine:
            # A copy that somebody made with Optuna has the id of the original, which comes first.
            out.setdefault(mine[ID_ATTR], (name, mine.get(SPEC_ATTR, "{}")))
    return out


def _by_study(connection: sa.Connection, query: sa.Select[Any] | sa.CompoundSelect[Any]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        out.setdefault(row.study_id, []).append(row)
    return out


def _tally(
    name: str,
    spec: str,
    filed: Any,
    trials: list[Any],
    n_epochs: list[Any],
    trained: list[Any],
    interrupted: list[Any],
    leases: list[Any],
    at_work: list[Any],
) -> Tally:
    metric = _metric(spec)
    held = [row for row in leases if not row.expired and not lease.process_ended(row)]
    counts = dict.fromkeys(State, 0)
    ended = [row for row in trials if row.state == "ended" and row.reason != Reason.NOT_IN_SPACE]
    for row in ended:
        counts[State(row.outcome)] += row.n
    counts[State.RUNNING] = sum(row.n for row in trials if row.state == "running")
    complete = [row for row in ended if row.outcome == State.COMPLETE]
    values = [row.highest if metric.maximize else row.lowest for row in complete]
    seconds = sum(float(row.seconds) for row in trained)
    budget, n = budgets.of(filed), sum(row.n for row in n_epochs)
    open_now = sum(row.n for row in trials if row.state != "ended")
    paused = sum(row.n for row in trials if row.state == "paused")
    standing = Standing(
        budget=budget,
        stopped=filed.stopped,
        hours_left=None if budget.hours is None else budget.hours - seconds / 3600,
        total=sum(row.n for row in trials),
        open=open_now,
        finished=sum(n for state, n in counts.items() if state.counts),
        failed=counts[State.FAILED],
        paused=paused,
        epochs_left=_epochs_left(spec, budget, n, open_now, paused),
    )
    return Tally(
        name=name,
        metric=metric.name,
        direction=metric.direction,
        budget=budget,
        trials=counts,
        interrupted=max(0, counts[State.RUNNING] - sum(row.state == "running" for row in held)),
        open=_is_open(standing, len(held)),
        epochs=n,
        trained_seconds=None if budget.hours is None else seconds,
        interruptions={Reason(row.reason): row.n for row in interrupted},
        workers=len({row.id for row in at_work if not lease.process_ended(row)}),
        leases_held=len(held),
        leases_expired=len(leases) - len(held),
        recent=sum(row.recent for row in ended if State(row.outcome).counts),
        best=next((value for value in values if value is not None), None),
        last_end=max((row.last_end.replace(tzinfo=UTC) for row in ended), default=None),
    )


@lru_cache(maxsize=1024)
def _metric(spec: str) -> Metric:
    """Return the metric of a spec, also of one that another version wrote."""
    return METRICS.get(json.loads(spec).get("objective", {}).get("metric"), METRICS["accuracy"])


def _epochs_left(spec: str, budget: BudgetSpec, trained: int, open_now: int, paused: int) -> int | None:
    """Return the epochs that the budget has left, where it counts them.

    Where a strategy that pauses has nothing open and less than a whole training is left it has none: no step fits.
    """
    if budget.trainings is None:
        return None
    filed = json.loads(spec)
    epochs = int(filed.get("epochs", 1))
    left = (budget.epochs(epochs) or 0) - trained - (open_now - paused)
    return 0 if filed.get("strategy") and not open_now and left < epochs else left


def _is_open(standing: Standing, held: int) -> bool:
    ended = standing.ended(interrupted=standing.open > held)
    if ended is None or ended.reason == EndReason.HELD_ELSEWHERE:
        return True
    # What is under way when the study is stopped, or has failed too often, still ends.
    return held > 0 and ended.reason != EndReason.BUDGET_TRIALS

"""Our few tables beside Optuna's own, in the same database.

They are keyed by our own ids, which stand as user attributes on Optuna's study and trials: Optuna's integer ids are
reused by SQLite after a delete, and a foreign key onto its tables would keep its studies from being deleted. Whoever
changes them raises SCHEMA_VERSION and writes the way there into ``migrations.py``.
"""

import math
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from lrsearch.trial import Role

_SQLITE_FORMAT = "'%Y-%m-%d %H:%M:%f000'"


class _Now(FunctionElement[datetime]):
    type = sa.DateTime()
    inherit_cache = True


class _Later(FunctionElement[datetime]):
    type = sa.DateTime()
    inherit_cache = True


@compiles(_Now, "sqlite")
def _now_sqlite(_element: _Now, _compiler: Any, **_: Any) -> str:
    return f"strftime({_SQLITE_FORMAT}, 'now')"


@compiles(_Now, "postgresql")
def _now_postgresql(_element: _Now, _compiler: Any, **_: Any) -> str:
    # Not now(), which is the time at which the transaction began: it may have waited for a lock since.
    return "timezone('utc', clock_timestamp())"


@compiles(_Later, "sqlite")
def _later_sqlite(element: _Later, compiler: Any, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    return f"strftime({_SQLITE_FORMAT}, 'now', ({seconds}) || ' seconds')"


@compiles(_Later, "postgresql")
def _later_postgresql(element: _Later, compiler: Any, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    return f"timezone('utc', clock_timestamp()) + make_interval(secs => CAST({seconds} AS double precision))"


def now() -> sa.SQLColumnExpression[datetime]:
    """Return the database's time in UTC, to the millisecond."""
    return _Now()


def later(seconds: sa.ColumnElement[float] | float) -> sa.SQLColumnExpression[datetime]:
    """Return the database's time in UTC, ``seconds`` from now."""
    return _Later(sa.literal(seconds, sa.Float) if isinstance(seconds, int | float) else seconds)


SCHEMA_VERSION = 10

SLOT_ATTR = "lrsearch:slot"
"""On Optuna's trial: the id of our slot."""
OUTCOME_ATTR = "lrsearch:outcome"
"""On Optuna's trial: how it ended in our words."""
ROLE_ATTR = "lrsearch:role"
"""On Optuna's trial: what it is for, where that is not the search. Samplers of ours do not look at it."""

metadata = MetaData()

schema = Table(
    "lrsearch_schema",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
)

studies = Table(
    "lrsearch_studies",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("budget_trials", Integer),
    Column("budget_hours", Float),
    Column("max_failures", Integer, nullable=False),
    # "converged": end once the rest of the budget is expected to gain less than noise hides.
    Column("budget_stop", String(16)),
    # Epochs of all trials together, in whole trainings.
    Column("budget_trainings", Float),
    # Each reservation of a slot raises it: the row lock that makes the budget exact.
    Column("revision", Integer, nullable=False, default=0),
    Column("created_at", DateTime, nullable=False),
    # A person asked for it: "drain" lets the trials under way end, "now" has them released. "enough": it converged.
    Column("stopped", String(8)),
    # Of "enough", with its numbers: why. NULL where an older lrsearch decided it.
    Column("stopped_why", Text),
    # Of lrsearch, when it was filed; NULL for a study of schema 1.
    Column("version", String(40)),
    # Where checkpoints and weights lie.
    Column("artifacts", Text),
    # What the images are, as JSON, measured by the worker that was the first to read them.
    Column("facts", Text),
    # Optuna's id of the study that is meant: others that carry our id are copies (``homes``).
    Column("optuna_id", Integer),
)

# One row per unit of the budget: reserved, then running under a trial number, then ended.
slots = Table(
    "lrsearch_slots",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("study_id", String(36), nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("number", Integer),
    Column("origin", String(16), nullable=False),
    # What the trial is for; the number of the one that it repeats or branches from; what it is trained with.
    Column("role", String(16), nullable=False, default=Role.SEARCH.value, server_default=Role.SEARCH.value),
    Column("parent", Integer),
    Column("seed", Integer),
    Column("attempts", Integer, nullable=False, default=1),
    Column("worker", String(200), nullable=False),
    Column("device", String(200), nullable=False, default=""),
    Column("versions", String(200), nullable=False, default=""),
    Column("started_at", DateTime),
    Column("ended_at", DateTime),
    Column("outcome", String(16)),
    Column("reason", String(32)),
    Column("value", Float),
    Column("epoch", Integer),
    Column("step", Integer),
    Column("lr", Float),
    Column("message", Text),
    Column("test_loss", Float),
    Column("test_accuracy", Float),
    Column("test_score", Float),
    # Test images of each class that the winner gets right, as a JSON list in the order of the classes.
    Column("test_right", Text),
    # Of the lease under which it ended: a commit whose answer was lost is known again.
    Column("ended_token", String(36)),
    # The artifact from which the trial goes on, with the updates it holds.
    Column("checkpoint", String(200)),
    Column("checkpoint_step", Integer),
    # The artifact with the last weights of the best trial; the hash is that of every complete one.
    Column("weights", String(200)),
    Column("weights_sha256", String(64)),
    # Which validation images a complete trial gets right: a bit an image, the first the highest of its byte.
    Column("val_right", LargeBinary),
    # What a trial is trained with that is no point of the search space, as JSON.
    Column("setting", Text),
    # The epochs that a trial of the search has of its parent, whose learning rates were the same so far.
    Column("shared_epochs", Integer),
    UniqueConstraint("study_id", "position"),
    Index("lrsearch_slots_by_outcome", "study_id", "state", "outcome"),
)

# The processes that work or have worked on studies here.
workers = Table(
    "lrsearch_workers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    # Two processes with the same ``process_space`` see each other's process ids; ``machine`` is one running kernel.
    Column("process_space", String(200), nullable=False),
    Column("machine", String(200), nullable=False),
    Column("process_started", Float, nullable=False),
    Column("device", String(200), nullable=False, default=""),
    Column("versions", String(200), nullable=False, default=""),
    Column("study_id", String(36)),
    Column("expires_at", DateTime, nullable=False),
)

# The right to a slot: who holds the token may report and end it. No row, nobody works on it.
leases = Table(
    "lrsearch_leases",
    metadata,
    Column("slot_id", String(36), primary_key=True),
    Column("study_id", String(36), nullable=False, index=True),
    Column("token", String(36), nullable=False),
    Column("worker_id", String(36), nullable=False),
    # By the database's clock; afterwards another worker may take the slot.
    Column("expires_at", DateTime, nullable=False),
)

# What every accepted epoch measured; not finite is NULL.
epochs = Table(
    "lrsearch_epochs",
    metadata,
    Column("slot_id", String(36), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("study_id", String(36), nullable=False),
    Column("step", Integer, nullable=False),
    Column("lr", Float, nullable=False),
    Column("train_loss", Float),
    Column("val_loss", Float),
    Column("val_accuracy", Float),
    Column("averaged_val_loss", Float),
    Column("averaged_val_accuracy", Float),
    # The study's metric, where it is neither of these.
    Column("val_score", Float),
    Column("averaged_val_score", Float),
    # What pruners compare, whether it may be compared, and where it was: the score to reach and among how many.
    Column("rung_score", Float),
    Column("comparable", Boolean, nullable=False),
    Column("cut", Float),
    Column("n_compared", Integer, nullable=False, default=0, server_default="0"),
    Column("seconds", Float, nullable=False),
    Index("lrsearch_epochs_of_rung", "study_id", "epoch"),
)

# Attempts that ended while their trial did not: why, and how far the trial was.
interruptions = Table(
    "lrsearch_interruptions",
    metadata,
    Column("slot_id", String(36), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("study_id", String(36), nullable=False, index=True),
    Column("reason", String(32), nullable=False),
    Column("worker", String(200), nullable=False),
    Column("device", String(200), nullable=False),
    Column("epoch", Integer, nullable=False),
    # Updates that are kept in the checkpoint.
    Column("step", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("at", DateTime, nullable=False),
)

# What people asked to have confirmed: settings that are trained again with other seeds. The newest one counts.
confirmations = Table(
    "lrsearch_confirmations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("study_id", String(36), nullable=False, index=True),
    # Settings, seeds and rules, as JSON.
    Column("plan", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
)

# Range tests: short trainings whose learning rate rises. They are no units of the budget, but their time is.
range_tests = Table(
    "lrsearch_range_tests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("study_id", String(36), nullable=False, index=True),
    Column("optimizer", String(40), nullable=False),
    Column("seed", Integer, nullable=False),
    # Learning rates and losses of every update, as JSON.
    Column("curve", Text, nullable=False),
    Column("worker", String(200), nullable=False),
    Column("device", String(200), nullable=False),
    Column("versions", String(200), nullable=False),
    Column("started_at", DateTime, nullable=False),
    Column("seconds", Float, nullable=False),
)


# Why a strategy that pauses began a trial, paused it and went on with it.
moves = Table(
    "lrsearch_moves",
    metadata,
    Column("slot_id", String(36), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("study_id", String(36), nullable=False, index=True),
    # "start", "pause" or "resume".
    Column("kind", String(16), nullable=False),
    # Completed epochs of the trial at that moment.
    Column("epoch", Integer, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", DateTime, nullable=False),
)

# Trainings that a study did not make and whose results it takes for known: imported, or of other studies.
known = Table(
    "lrsearch_known",
    metadata,
    Column("study_id", String(36), primary_key=True),
    Column("n", Integer, primary_key=True),
    # A configuration as JSON, as in a slot; its epochs are those of that training.
    Column("setting", Text, nullable=False),
    # "complete", "pruned" or "diverged".
    Column("state", String(16), nullable=False),
    # Its score after each epoch that is known, as a JSON list, null: unknown; and at its end.
    Column("scores", Text, nullable=False),
    Column("value", Float),
    # A file's name, or another study's, and which of its trials.
    Column("source", String(200), nullable=False),
    Column("number", Integer),
    # "imported" or "prior".
    Column("kind", String(16), nullable=False),
)

# States of trials from which others may go on whose learning rates are the same so far.
trunks = Table(
    "lrsearch_trunks",
    metadata,
    Column("slot_id", String(36), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("study_id", String(36), nullable=False, index=True),
    Column("artifact", String(200), nullable=False),
)


def finite(value: float | None) -> float | None:
    """Return the number as it is stored: NULL when it is none."""
    return value if value is not None and math.isfinite(value) else None


def insert_if_absent(connection: Connection, table: Table) -> Any:
    """Return an INSERT that leaves a row alone whose key is there already."""
    kind = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return kind(table).on_conflict_do_nothing()

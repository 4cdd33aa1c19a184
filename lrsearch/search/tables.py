"""Our few tables beside Optuna's own, in the same database.

They are keyed by our own ids, which stand as user attributes on Optuna's study and trials: Optuna's integer ids are
reused by SQLite after a delete, and a foreign key onto its tables would keep its studies from being deleted.
"""

from sqlalchemy import Boolean, Column, DateTime, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

SCHEMA_VERSION = 1

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
    Column("name", String(100), nullable=False),
    Column("budget_trials", Integer),
    Column("budget_hours", Float),
    Column("max_failures", Integer, nullable=False),
    # Raised by whoever reserves a slot: the row lock that makes the budget exact.
    Column("revision", Integer, nullable=False, default=0),
    Column("created_at", DateTime, nullable=False),
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
    UniqueConstraint("study_id", "position"),
)

# The right to a slot: who holds the token may report and end it. No row, nobody works on it.
leases = Table(
    "lrsearch_leases",
    metadata,
    Column("slot_id", String(36), primary_key=True),
    Column("token", String(36), nullable=False),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", Float, nullable=False),
    Column("epoch", Integer, nullable=False, default=0),
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
    Column("rung_score", Float),
    Column("comparable", Boolean, nullable=False),
    Column("seconds", Float, nullable=False),
    Index("lrsearch_epochs_of_rung", "study_id", "epoch"),
)

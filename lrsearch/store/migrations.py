"""The way of our tables from one version to the next; Optuna's own are Optuna's business.

Written with alembic's operations, which SQLite and PostgreSQL both understand. One transaction each.
"""

import os
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from lrsearch.store import homes, lease, tables
from lrsearch.trial import Role


def upgrade(connection: sa.Connection, version: int) -> str | None:
    """Bring the tables from ``version`` to the newest; return why it cannot be done now, with nothing changed, or None.

    The caller holds whatever keeps others from doing the same, and commits.
    """
    if version == tables.SCHEMA_VERSION:
        return None  # another process has done it meanwhile, and may work on it
    refusal = _leased(connection) if version == 1 else _at_work(connection)
    if refusal is not None:
        return refusal
    operations = Operations(MigrationContext.configure(connection))
    for step in range(version, tables.SCHEMA_VERSION):
        _STEPS[step](operations)
    connection.execute(tables.schema.update().values(version=tables.SCHEMA_VERSION))
    return None


def _to_2(operations: Operations) -> None:
    """Leases expire, trials go on from checkpoints, workers and interruptions are written down."""
    connection = operations.get_bind()
    operations.drop_table("lrsearch_leases")
    new = {
        tables.studies: ("stopped", "version", "artifacts"),
        tables.slots: (
            "ended_token",
            "checkpoint",
            "checkpoint_step",
            "weights",
            "weights_sha256",
        ),
    }
    for table, names in new.items():
        for name in names:
            column = table.c[name]
            operations.add_column(table.name, sa.Column(name, column.type, nullable=True))
    for table in (tables.leases, tables.workers, tables.interruptions):
        table.create(connection)
    for index in tables.slots.indexes:
        index.create(connection)


def _to_3(operations: Operations) -> None:
    """Have a study of ours name the one of Optuna's that is meant: the oldest of those that carry its id."""
    connection = operations.get_bind()
    column = tables.studies.c.optuna_id
    operations.add_column(tables.studies.name, sa.Column(column.name, column.type, nullable=True))
    for study in connection.scalars(sa.select(tables.studies.c.id)).all():
        there = homes.carriers(connection, study)
        if there:
            values = {"optuna_id": there[0]}
            connection.execute(tables.studies.update().where(tables.studies.c.id == study).values(values))


def _to_4(operations: Operations) -> None:
    """Have a trial carry what decided it; columns go that nobody read."""
    connection = operations.get_bind()
    new = (
        (tables.slots, sa.Column("role", sa.String(16), nullable=False, server_default=Role.SEARCH.value)),
        (tables.slots, sa.Column("parent", sa.Integer)),
        (tables.slots, sa.Column("seed", sa.Integer)),
        (tables.epochs, sa.Column("cut", sa.Float)),
        (tables.epochs, sa.Column("n_compared", sa.Integer, nullable=False, server_default="0")),
    )
    for table, column in new:
        operations.add_column(table.name, column)
    for table, name in ((tables.studies, "name"), (tables.workers, "started_at"), (tables.leases, "epoch")):
        # The step to 2 makes tables as they are now.
        if name in {column["name"] for column in sa.inspect(connection).get_columns(table.name)}:
            operations.drop_column(table.name, name)


def _to_5(operations: Operations) -> None:
    """File the facts of a study's images, and metrics that are neither loss nor accuracy."""
    new = (
        (tables.studies, sa.Column("facts", sa.Text)),
        (tables.slots, sa.Column("test_score", sa.Float)),
        (tables.epochs, sa.Column("val_score", sa.Float)),
        (tables.epochs, sa.Column("averaged_val_score", sa.Float)),
    )
    for table, column in new:
        operations.add_column(table.name, column)


def _to_6(operations: Operations) -> None:
    """File how many test images of each class the winner gets right."""
    operations.add_column(tables.slots.name, sa.Column("test_right", sa.Text))


def _to_7(operations: Operations) -> None:
    """Keep which validation images a trial gets right, what is to be confirmed, and range tests."""
    connection = operations.get_bind()
    operations.add_column(tables.slots.name, sa.Column("val_right", sa.LargeBinary))
    operations.add_column(tables.slots.name, sa.Column("setting", sa.Text))
    for table in (tables.confirmations, tables.range_tests):
        table.create(connection)


def _to_8(operations: Operations) -> None:
    """File whether a study ends once its search has converged."""
    operations.add_column(tables.studies.name, sa.Column("budget_stop", sa.String(16)))


def _to_9(operations: Operations) -> None:
    """File budgets of trainings, why a strategy moved trials, what is known beforehand, and whence a trial branched."""
    connection = operations.get_bind()
    operations.add_column(tables.studies.name, sa.Column("budget_trainings", sa.Float))
    operations.add_column(tables.slots.name, sa.Column("shared_epochs", sa.Integer))
    for table in (tables.moves, tables.known, tables.trunks):
        table.create(connection)


def _to_10(operations: Operations) -> None:
    """File with its numbers why a search converged."""
    operations.add_column(tables.studies.name, sa.Column("stopped_why", sa.Text))


def _leased(connection: sa.Connection) -> str | None:
    """Return who works on a database of schema 1, which wrote down nothing but leases, or None."""
    old = sa.table("lrsearch_leases", sa.column("pid"), sa.column("process_started"))
    for row in connection.execute(sa.select(old)).all():
        if lease.lives(row.pid, row.process_started):
            return f"the process {row.pid} works on it with an older lrsearch"
    return None


def _at_work(connection: sa.Connection) -> str | None:
    """Return who works on the database with an older lrsearch, as far as can be seen, or None."""
    living = sa.select(tables.workers.c.pid, tables.workers.c.process_started).where(
        tables.workers.c.process_space == lease.process_space()
    )
    for row in connection.execute(living).all():
        if row.pid != os.getpid() and lease.lives(row.pid, row.process_started):
            return f"the process {row.pid} works on it with an older lrsearch"
    return None


_STEPS: Mapping[int, Callable[[Operations], None]] = {
    1: _to_2,
    2: _to_3,
    3: _to_4,
    4: _to_5,
    5: _to_6,
    6: _to_7,
    7: _to_8,
    8: _to_9,
    9: _to_10,
}

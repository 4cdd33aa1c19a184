"""Opening a database, its tables made if they are not there: Optuna's own storage, and our tables beside it."""

import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy import exc
from sqlalchemy.pool import NullPool, StaticPool

from lrsearch.errors import StorageError
from lrsearch.store import explain, migrations, optuna_private, tables
from lrsearch.store.explain import explained
from lrsearch.store.places import Place, PostgresServer, SqliteFile, check_local
from lrsearch.store.tables import insert_if_absent


def has_studies(place: Place) -> bool:
    """Look, without changing anything, whether our tables are in the database.

    Raises:
        StorageError: it is no database, or cannot be reached or read.
    """
    return {tables.schema.name, tables.studies.name, tables.slots.name} <= _tables_in(place)


def study_names(place: Place) -> set[str]:
    """Return the names of all studies in the database, Optuna's own too, without changing anything."""
    return _column(place, "SELECT study_name FROM studies") if "studies" in _tables_in(place) else set()


def check_new(place: Place) -> None:
    """Make sure that studies could be kept at the place, without changing anything.

    Raises:
        StorageError: its folder does not exist, lies on a network, or the database there is another program's.
    """
    if isinstance(place, SqliteFile):
        folder = place.path.resolve().parent
        if not folder.is_dir():
            raise StorageError(f"{place}: the folder {folder} does not exist; make it, or name another --storage")
        check_local(place)
    there, optunas = _tables_in(place), set(optuna_private.METADATA.tables)
    others = there - optunas - set(tables.metadata.tables) - {"alembic_version"}
    if others and not optunas <= there:
        shown = ", ".join(sorted(others)[:3])
        raise StorageError(f"{place} is another program's database (with {shown}); name another one with --storage")


def _tables_in(place: Place) -> set[str]:
    if isinstance(place, PostgresServer):
        return _column(place, "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()")
    if not place.path.exists():
        return set()
    if place.path.is_dir():
        raise StorageError(f"{place} is a folder, and a study database is a file: name a file in it with --storage")
    return _column(place, "SELECT name FROM sqlite_master WHERE type = 'table'")


def _column(place: Place, query: str) -> set[str]:
    if isinstance(place, PostgresServer):
        with explained(place), closing(connected(place)) as connection:
            return {value for (value,) in connection.exec_driver_sql(query)}
    # The plain driver: SQLAlchemy would open the file for writing.
    uri = reading_uri(place.path)
    with (
        explained(place),
        closing(sqlite3.connect(uri, uri=True, timeout=explain.BUSY_TIMEOUT_SECONDS)) as sqlite_connection,
    ):
        return {value for (value,) in sqlite_connection.execute(query)}


SETTINGS: dict[str, Any] = {
    "connect_timeout": 10,
    # A link that is cut sends no word: give up on a server that acknowledges nothing for so long.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "lrsearch",
    # A worker that is paused (SIGSTOP, a laptop's lid) within a transaction must not hold the budget's lock.
    "options": "-c idle_in_transaction_session_timeout=20s -c timezone=UTC",
}


def writable(file: Path) -> bool:
    """Whether SQLite could write a file that is there: it, and beside it."""
    return os.access(file, os.W_OK) and os.access(file.resolve().parent, os.W_OK)


def reading_uri(file: Path) -> str:
    """Return the URI with which SQLite opens a file to read, be the file, its folder or its file system read-only.

    In WAL mode SQLite makes files beside it even to read. Where it may not, the file is all there is, if nothing waits
    in the log beside it; then nobody who could write is at work, and SQLite need not look for one (``immutable``).

    Raises:
        StorageError: what is in the log beside the file cannot be read from here.
    """
    path = file.resolve()
    log = path.with_name(f"{path.name}-wal")
    uri = f"{path.as_uri()}?mode=ro"
    if not path.exists() or os.access(path.parent, os.W_OK):
        return uri
    if not log.exists() or log.stat().st_size == 0:
        return f"{uri}&immutable=1"
    if path.with_name(f"{path.name}-shm").exists():
        return uri
    raise StorageError(
        f"{SqliteFile(file)} has changes that wait in {log.name} beside it, and in a folder that cannot be written "
        f"SQLite cannot read them: copy the file and {log.name} into another folder, and name that with --storage"
    )


def connected(place: PostgresServer) -> sa.Connection:
    """Return a connection of one's own; closing it ends it."""
    return sa.create_engine(place.url, poolclass=NullPool, connect_args=settings(place)).connect()


def settings(place: PostgresServer) -> dict[str, Any]:
    """Return our settings of a connection, those that stand in the URL left to it."""
    query = place.url.query
    ours = {key: value for key, value in SETTINGS.items() if key not in query}
    if "options" in query:
        ours["options"] = f"{SETTINGS['options']} {query['options']}"
    if "prepare_threshold" in query:
        # psycopg's own: it takes no text.
        threshold = str(query["prepare_threshold"])
        ours["prepare_threshold"] = None if threshold.lower() == "none" else int(threshold)
    return ours


log = logging.getLogger(__name__)

LOCK_POLL_SECONDS = 0.05
ADVISORY_LOCK = 0x6C72736561726368
"""The key of the lock for making and changing tables: "lrsearch" in ASCII."""


def open_postgres(place: PostgresServer, connections: int) -> RDBStorage:
    """Open a database on a server.

    Args:
        place: where it is.
        connections: size of the pool; for a moment there may be twice as many.

    Raises:
        StorageError: it is of another version of lrsearch or Optuna.
        SQLAlchemyError: whatever else the database says.
    """
    with closing(connected(place)) as connection:
        while not _is_complete(connection):
            # Workers that start together must not make the same tables at the same time. One of them holds an advisory
            # lock for the length of a transaction; the others wait without a transaction, so that a small pooler is
            # not exhausted. If the holder hangs, the server ends its transaction, and the next worker makes the rest.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(ADVISORY_LOCK))):
                connection.rollback()
                time.sleep(LOCK_POLL_SECONDS)
                continue
            once = _over_one_connection(place)
            try:
                _make_tables(place, once.engine)
            finally:
                close(once)
            connection.commit()
            if not _is_complete(connection):
                raise StorageError(
                    f"{place} lacks tables that its version says it has: restore a backup, or name another --storage"
                )
    storage = _over_one_connection(place, skip_table_creation=True)
    close(storage)
    # A worker has one, and for a moment a second one where the heartbeat comes while it is in use: 64 workers fit into
    # PostgreSQL's default of 100.
    pool = {"pool_size": connections, "max_overflow": connections}
    # A worker tries again what a lost connection ends. Several connections are the dashboard's, which hands Optuna's
    # storage on to optuna-dashboard: nothing is tried again there.
    engine = sa.create_engine(place.url, pool_pre_ping=connections > 1, **pool, connect_args=settings(place))
    optuna_private.use_engine(storage, engine)
    return storage


def open_sqlite(place: SqliteFile) -> RDBStorage:
    """Open a file, made if it is not there.

    Raises:
        StorageError: it lies on a network file system, or is of another version of lrsearch or Optuna.
        SQLAlchemyError: whatever else SQLite says.
    """
    check_local(place)
    if not has_studies(place):
        _make_wal(place)
    attempts = 20
    while True:
        attempts -= 1
        storage = None
        try:
            storage = _optuna_storage(place, {"connect_args": {"timeout": explain.BUSY_TIMEOUT_SECONDS}})
            _make_tables(place, storage.engine)
        except BaseException as error:
            if storage is not None:
                close(storage)
            if not isinstance(error, exc.IntegrityError | exc.OperationalError):
                raise
            # Another process makes the same tables at the same moment: look again at which there are.
            made_meanwhile = isinstance(error, exc.IntegrityError) or "already exists" in str(error)
            if not made_meanwhile or attempts == 0:
                raise
        else:
            sa.event.listen(storage.engine, "connect", _on_connect)
            storage.engine.dispose()
            return storage


def open_to_read(place: SqliteFile) -> RDBStorage:
    """Open a file that cannot be written; nothing beside it is made either.

    Raises:
        StorageError: it is of another version of lrsearch or Optuna, or has changes that cannot be read.
        SQLAlchemyError: whatever else SQLite says.
    """
    uri = reading_uri(place.path)
    kwargs = {
        "creator": lambda: sqlite3.connect(uri, uri=True, timeout=explain.BUSY_TIMEOUT_SECONDS, check_same_thread=False)
    }
    storage = _optuna_storage(place, kwargs, skip_table_creation=True)
    version = _version(storage.engine)
    if version != tables.SCHEMA_VERSION:
        close(storage)
        raise StorageError(
            f"{place} holds studies of schema {version}, this lrsearch reads schema {tables.SCHEMA_VERSION}, and it "
            f"cannot be written (it or its folder is read-only): copy it into a folder that can, and name that with "
            f"--storage"
        )
    return storage


def close(storage: RDBStorage) -> None:
    """Give all connections back."""
    if hasattr(storage, "scoped_session"):
        storage.remove_session()
    storage.engine.dispose()


def _over_one_connection(place: PostgresServer, **kwargs: Any) -> RDBStorage:
    """Open Optuna's storage, which reads its version over a second connection while the first waits in a transaction.

    Where many workers start at once, and a pooler has few connections, all of them would be held by who waits for more.
    """
    return _optuna_storage(place, {"poolclass": StaticPool, "connect_args": settings(place)}, **kwargs)


def _is_complete(connection: sa.Connection) -> bool:
    """Whether all tables are there and as this lrsearch has them; it leaves no transaction open."""
    there = set(sa.inspect(connection).get_table_names())
    complete = {*optuna_private.METADATA.tables, *tables.metadata.tables} <= there
    complete = complete and connection.scalar(sa.select(tables.schema.c.version)) == tables.SCHEMA_VERSION
    connection.rollback()
    return complete


def _optuna_storage(place: Place, engine_kwargs: dict[str, Any], **kwargs: Any) -> RDBStorage:
    # Made in two steps, so that its connections can be closed where the second one fails.
    storage = RDBStorage.__new__(RDBStorage)
    try:
        url = place.url.render_as_string(hide_password=False)
        RDBStorage.__init__(storage, url, engine_kwargs=engine_kwargs, **kwargs)
    except BaseException as error:
        if hasattr(storage, "engine"):
            close(storage)
        if isinstance(error, RuntimeError):
            # Optuna's own sentence on a schema of another version.
            raise StorageError(f"{place}: {str(error).splitlines()[0]}") from error
        raise
    return storage


def _make_tables(place: Place, engine: sa.Engine) -> None:
    """Make our tables, or bring them up to date.

    Raises:
        StorageError: they are of a newer lrsearch, or of an older one that still works on them.
    """
    version = _version(engine)
    if version is None:
        # The tables may be there without a version, if the process that made them was killed meanwhile.
        first = sa.inspect(engine).has_table(tables.studies.name) and not _has_column(engine, tables.studies.c.stopped)
        if not first:
            tables.metadata.create_all(engine)
        with engine.begin() as connection:
            row = {"id": 1, "version": 1 if first else tables.SCHEMA_VERSION}
            connection.execute(insert_if_absent(connection, tables.schema), row)
        version = _version(engine)
    if version is not None and version < tables.SCHEMA_VERSION:
        with engine.begin() as connection:
            # This takes SQLite's write lock; a process that waited for it finds the new version.
            connection.execute(tables.schema.update().values(id=tables.schema.c.id))
            version = connection.scalar(sa.select(tables.schema.c.version))
            refusal = migrations.upgrade(connection, version or 0)
        if refusal is not None:
            raise StorageError(
                f"{place} holds studies of schema {version}, which this lrsearch would bring to "
                f"{tables.SCHEMA_VERSION}, but {refusal}: let it end, then run this again"
            )
        log.info("%s brought from schema %s to %s", place, version, tables.SCHEMA_VERSION)
        version = _version(engine)
    if version != tables.SCHEMA_VERSION:
        raise StorageError(
            f"{place} holds studies of schema {version} and this lrsearch reads schema "
            f"{tables.SCHEMA_VERSION}: use the lrsearch that wrote it, or another --storage"
        )


def _version(engine: sa.Engine) -> int | None:
    """Return the version of our tables, or None where there are none."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(tables.schema.name):
            return None
        return connection.scalar(sa.select(tables.schema.c.version))


def _has_column(engine: sa.Engine, column: sa.Column[Any]) -> bool:
    return column.name in {there["name"] for there in sa.inspect(engine).get_columns(column.table.name)}


def _make_wal(place: SqliteFile) -> None:
    """Let readers read while a worker writes; it is a property of the file."""
    # SQLite does not wait its busy timeout for this one statement.
    deadline = time.monotonic() + explain.BUSY_TIMEOUT_SECONDS
    with closing(sqlite3.connect(place.path, timeout=0)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return


def _on_connect(connection: Any, _record: object) -> None:
    # In WAL mode NORMAL loses nothing when the process dies, and at a power cut at most the latest commits.
    connection.execute("PRAGMA synchronous=NORMAL")

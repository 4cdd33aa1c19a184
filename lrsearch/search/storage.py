"""Opening a database: Optuna's own storage with our tables beside it, and errors that a person understands."""

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from lrsearch.errors import StorageError
from lrsearch.search import explain, migrations, tables
from lrsearch.search.explain import explained, passes
from lrsearch.search.places import Place, PostgresServer, SqliteFile, network_file_system

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS = 600.0
"""For so long a worker tries to reach a database that it has reached before."""

LONGEST_DELAY_SECONDS = 5.0
"""Between two tries."""

POSTGRES_CONNECTION: dict[str, Any] = {
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
LOCK_POLL_SECONDS = 0.05
ADVISORY_LOCK = 0x6C72736561726368
"""Of whoever makes or changes tables: "lrsearch" in ASCII."""


class Database:
    """An open database: Optuna's storage and, on the same engine, our tables.

    Args:
        place: where it is; it is made if nothing is there.
        patience_seconds: for how long a lost connection is tried again; a command that a person waits for fails at
            once, a worker has patience.
        connections: to a server, that are kept open; for a moment there may be twice as many.
    """

    def __init__(self, place: Place, patience_seconds: float = 0.0, connections: int = 1) -> None:
        self.place = place
        self.patience_seconds = patience_seconds
        self.leaving: Callable[[], bool] = lambda: False
        """Asked while the database does not answer: whether to give up on it."""
        self.optuna = self.patiently(
            lambda: _open_sqlite(place) if isinstance(place, SqliteFile) else _open_postgres(place, connections)
        )
        self.engine = self.optuna.engine

    def write(self, work: Callable[[sa.Connection], T], patience_seconds: float | None = None) -> T:
        """Run ``work`` in a short transaction, and again when the connection is lost meanwhile; return its result.

        It may have been committed all the same, so ``work`` must know what it has done already. Its first statement
        must write, so that SQLite queues instead of failing.
        """

        def once() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        return self._again(once, self.patience_seconds if patience_seconds is None else patience_seconds)

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run ``work``, which only reads, and again when the connection is lost meanwhile; return its result."""

        def once() -> T:
            with self.engine.connect() as connection:
                return work(connection)

        return self._again(once, self.patience_seconds)

    def patiently(self, once: Callable[[], T]) -> T:
        """Call Optuna's storage, and again when the connection is lost meanwhile; return its result."""
        return self._again(once, self.patience_seconds)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a short transaction; its first statement must write, so that SQLite queues instead of failing."""
        with explained(self.place), self._connected() as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a connection to read with."""
        with explained(self.place), self._connected() as connection:
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        _close(self.optuna)

    def _connected(self) -> sa.Connection:
        """Return a connection that answers: the body of a ``with`` cannot be run again, so it is asked before."""

        def once() -> sa.Connection:
            with ExitStack() as on_error:
                connection = on_error.enter_context(self.engine.connect())
                with connection.begin():
                    connection.exec_driver_sql("SELECT 1")
                on_error.pop_all()
            return connection

        return self._again(once, self.patience_seconds)

    def _again(self, once: Callable[[], T], patience: float) -> T:
        lost_at: float | None = None
        renewed = False
        delay = 0.05
        with explained(self.place):
            while True:
                try:
                    result = once()
                except (exc.DBAPIError, StorageInternalError) as error:
                    if not passes(error):
                        raise
                    if not renewed and _was_cut(error):
                        # While it lay in the pool, most often: all of the pool's are new now. (pool_pre_ping would ask
                        # before every transaction, and make half of all that a worker has.)
                        renewed = True
                        continue
                    if lost_at is None:
                        lost_at = time.monotonic()
                        if patience:
                            said = explain.sentence(self.place, error)
                            log.warning("%s; trying again for %.0f s", said, patience)
                    if time.monotonic() - lost_at >= patience or self.leaving():
                        # What is put in order on the way out does not wait as long again; a heartbeat, which never
                        # waits, ends nothing.
                        if patience:
                            self.patience_seconds = 0.0
                        raise
                else:
                    if lost_at is not None:
                        log.warning("%s answers again after %.1f s", self.place, time.monotonic() - lost_at)
                    return result
                # Not all workers at once: a server that has just started is slow.
                until = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                while time.monotonic() < until and not self.leaving():
                    time.sleep(min(0.1, max(0.0, until - time.monotonic())))
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)


def _was_cut(error: Exception) -> bool:
    """Whether a connection that stood was lost, unlike one that could not be made."""
    cause = error if isinstance(error, exc.DBAPIError) else error.__cause__
    return isinstance(cause, exc.DBAPIError) and cause.connection_invalidated


def insert_if_absent(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT that leaves a row alone whose key is there already."""
    kind = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return kind(table).on_conflict_do_nothing()


def open_existing(place: Place, patience_seconds: float = 0.0, connections: int = 1) -> Database:
    """Open a database that must hold studies.

    Raises:
        StorageError: there is none, or it is none.
    """
    if isinstance(place, SqliteFile) and not place.path.exists():
        raise StorageError(
            f"{place}: there is no such study database; `lrsearch run` makes one, or name it with --storage"
        )
    if not has_studies(place):
        raise StorageError(
            f"{place} holds no lrsearch studies; `lrsearch run` files one, or name another with --storage"
        )
    return Database(place, patience_seconds, connections)


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
    there, optunas = _tables_in(place), set(models.BaseModel.metadata.tables)
    others = there - optunas - set(tables.metadata.tables) - {"alembic_version"}
    if others and not optunas <= there:
        shown = ", ".join(sorted(others)[:3])
        raise StorageError(f"{place} is another program's database (with {shown}); name another one with --storage")


def check_local(place: SqliteFile) -> None:
    """Make sure that a SQLite file lies on this machine.

    Raises:
        StorageError: it lies on a network file system, where SQLite's locks do not hold.
    """
    kind = network_file_system(place.path)
    if kind is not None:
        raise StorageError(
            f"{place} lies on a network file system ({kind}), where SQLite loses data when two machines write: "
            f"put it on a local disk, or use PostgreSQL (--storage postgresql://user@host/database)"
        )


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
        with explained(place), closing(_unpooled(place)) as connection:
            return {value for (value,) in connection.exec_driver_sql(query)}
    # The plain driver: SQLAlchemy would open the file for writing.
    uri = f"{place.path.resolve().as_uri()}?mode=ro"
    with (
        explained(place),
        closing(sqlite3.connect(uri, uri=True, timeout=explain.BUSY_TIMEOUT_SECONDS)) as sqlite_connection,
    ):
        return {value for (value,) in sqlite_connection.execute(query)}


def _unpooled(place: PostgresServer) -> sa.Connection:
    engine = sa.create_engine(place.url, poolclass=NullPool, connect_args=_connection_settings(place))
    return engine.connect()


def _connection_settings(place: PostgresServer) -> dict[str, Any]:
    """Return our settings of a connection, those that stand in the URL left to it."""
    query = place.url.query
    ours = {key: value for key, value in POSTGRES_CONNECTION.items() if key not in query}
    if "options" in query:
        ours["options"] = f"{POSTGRES_CONNECTION['options']} {query['options']}"
    if "prepare_threshold" in query:
        # psycopg's own: it takes no text.
        threshold = str(query["prepare_threshold"])
        ours["prepare_threshold"] = None if threshold.lower() == "none" else int(threshold)
    return ours


def _open_postgres(place: PostgresServer, connections: int) -> RDBStorage:
    with closing(_unpooled(place)) as connection:
        while not _is_complete(connection):
            # Workers that start together must not make the same tables at the same time. The lock is a transaction's,
            # which stands open meanwhile, and who waits has none open: connections may be a pooler's, and few.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(ADVISORY_LOCK))):
                connection.rollback()
                time.sleep(LOCK_POLL_SECONDS)
                continue
            once = _over_one_connection(place)
            try:
                _make_tables(place, once.engine)
            finally:
                _close(once)
            connection.commit()
    storage = _over_one_connection(place, skip_table_creation=True)
    _close(storage)
    # A worker has one, and for a moment a second one where the heartbeat comes while it is in use: 64 workers fit into
    # PostgreSQL's default of 100.
    engine = sa.create_engine(
        place.url, pool_size=connections, max_overflow=connections, connect_args=_connection_settings(place)
    )
    for owner in (storage, storage._version_manager):  # noqa: SLF001 - it keeps the two for `doctor`
        owner.engine, owner.scoped_session = engine, scoped_session(sessionmaker(bind=engine))
    return storage


def _over_one_connection(place: PostgresServer, **kwargs: Any) -> RDBStorage:
    """Open Optuna's storage, which reads its version over a second connection while the first waits in a transaction.

    Where many workers start at once, and a pooler has few connections, all of them would be held by who waits for more.
    """
    return _optuna_storage(place, {"poolclass": StaticPool, "connect_args": _connection_settings(place)}, **kwargs)


def _is_complete(connection: sa.Connection) -> bool:
    """Whether all tables are there and as this lrsearch has them; it leaves no transaction open."""
    there = set(sa.inspect(connection).get_table_names())
    complete = {*models.BaseModel.metadata.tables, *tables.metadata.tables} <= there
    complete = complete and connection.scalar(sa.select(tables.schema.c.version)) == tables.SCHEMA_VERSION
    connection.rollback()
    return complete


def _open_sqlite(place: SqliteFile) -> RDBStorage:
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
                _close(storage)
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


def _optuna_storage(place: Place, engine_kwargs: dict[str, Any], **kwargs: Any) -> RDBStorage:
    # Made in two steps, so that its connections can be closed where the second one fails.
    storage = RDBStorage.__new__(RDBStorage)
    try:
        url = place.url.render_as_string(hide_password=False)
        RDBStorage.__init__(storage, url, engine_kwargs=engine_kwargs, **kwargs)
    except BaseException as error:
        if hasattr(storage, "engine"):
            _close(storage)
        if isinstance(error, RuntimeError):
            # Optuna's own sentence on a schema of another version.
            raise StorageError(f"{place}: {str(error).splitlines()[0]}") from error
        raise
    return storage


def _close(storage: RDBStorage) -> None:
    if hasattr(storage, "scoped_session"):
        storage.remove_session()
    storage.engine.dispose()


def _make_tables(place: Place, engine: sa.Engine) -> None:
    """Make our tables, or bring them up to date.

    Raises:
        StorageError: they are of a newer lrsearch, or of an older one that still works on them.
    """
    version = _version(engine)
    if version is None:
        # The tables may be there without a version: whoever made them was killed over it.
        first = sa.inspect(engine).has_table(tables.studies.name) and not _has_column(engine, tables.studies.c.stopped)
        if not first:
            tables.metadata.create_all(engine)
        with engine.begin() as connection:
            row = {"id": 1, "version": 1 if first else tables.SCHEMA_VERSION}
            connection.execute(insert_if_absent(connection, tables.schema), row)
        version = _version(engine)
    if version is not None and version < tables.SCHEMA_VERSION:
        with engine.begin() as connection:
            # Takes SQLite's write lock; whoever waited for it finds the new version.
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

"""An open database: what is read and written there is tried again when the connection is lost."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import sqlalchemy as sa

from lrsearch.errors import StorageError
from lrsearch.store import opening, patience, tables
from lrsearch.store.explain import explained
from lrsearch.store.opening import check_new, has_studies, writable
from lrsearch.store.places import Place, SqliteFile

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS = 600.0
"""For so long a worker tries to reach a database that does not answer for the moment."""


class Database:
    """An open database: Optuna's storage and, on the same engine, our tables.

    Args:
        place: where it is; it is made if nothing is there.
        patience_seconds: for how long a lost connection is tried again; a command that a person waits for fails at
            once, a worker has patience.
        connections: size of the pool of a server; for a moment there may be twice as many.
        read_only: whether it is a SQLite file that cannot be written, and is opened to read.
    """

    def __init__(
        self, place: Place, patience_seconds: float = 0.0, connections: int = 1, *, read_only: bool = False
    ) -> None:
        self.place = place
        self.read_only = read_only
        self.patience_seconds = patience_seconds
        self._pool_asks = connections > 1
        """Whether the pool pings a connection before it hands it out; ``opening`` sets it so."""
        self.leaving: Callable[[], bool] = lambda: False
        """Asked while the database does not answer: whether to give up on it."""
        self.optuna = self.patiently(
            lambda: (
                (opening.open_to_read(place) if read_only else opening.open_sqlite(place))
                if isinstance(place, SqliteFile)
                else opening.open_postgres(place, connections)
            )
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
        """Run ``work``, which only reads, and again when the connection is lost meanwhile; return its result.

        All that it reads is of one moment, also where a study is deleted meanwhile.
        """

        def once() -> T:
            with self.engine.connect() as connection:
                _of_one_moment(connection)
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
        """Open a connection to read with, all of one moment."""
        with explained(self.place), self._connected() as connection:
            _of_one_moment(connection)
            yield connection

    def answers(self) -> bool:
        """Whether the database answers now, with our tables in it."""
        if isinstance(self.place, SqliteFile) and not self.place.path.exists():
            # It would be made anew, empty.
            return False
        try:
            with self.reading() as connection:
                return connection.scalar(sa.select(tables.schema.c.version)) is not None
        except StorageError:
            return False

    def close(self) -> None:
        """Give all connections back."""
        opening.close(self.optuna)

    def _connected(self) -> sa.Connection:
        """Return a connection that answers: the body of a ``with`` cannot be run again, so it is asked before."""

        def once() -> sa.Connection:
            if self._pool_asks:
                return self.engine.connect()
            with ExitStack() as on_error:
                connection = on_error.enter_context(self.engine.connect())
                with connection.begin():
                    connection.exec_driver_sql("SELECT 1")
                on_error.pop_all()
            return connection

        return self._again(once, self.patience_seconds)

    def _again(self, once: Callable[[], T], seconds: float) -> T:
        def give_up() -> None:
            # What is put in order on the way out does not wait as long again; a heartbeat, which never waits, ends
            # nothing.
            if seconds:
                self.patience_seconds = 0.0

        return patience.again(self.place, once, seconds, leaving=self.leaving, give_up=give_up)


def _of_one_moment(connection: sa.Connection) -> None:
    """Have whatever a connection reads next be of one moment; without a transaction, each SELECT is of its own."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ")


def open_early(place: Place, patience_seconds: float = 0.0, connections: int = 1, *, to_read: bool = False) -> Database:
    """Open a database before it holds a study: on a server, whose tables are made. A file must be there.

    A fleet may start before its first study; a file that is not there is more likely a slip of the keys.

    Raises:
        StorageError: the server cannot be reached, its database is another program's, or the file is not there.
    """
    if isinstance(place, SqliteFile):
        return open_existing(place, patience_seconds, connections, to_read=to_read)
    patience.reach(place, patience_seconds)
    check_new(place)
    return Database(place, patience_seconds, connections)


def open_existing(
    place: Place, patience_seconds: float = 0.0, connections: int = 1, *, to_read: bool = False
) -> Database:
    """Open a database that must hold studies; ``to_read`` where nothing will be written, though it may not be writable.

    Raises:
        StorageError: there is none, or it is none.
    """
    if isinstance(place, SqliteFile) and not place.path.exists():
        raise StorageError(
            f"{place}: there is no such study database; `lrsearch run` makes one, or name it with --storage"
        )
    patience.reach(place, patience_seconds)
    if not has_studies(place):
        raise StorageError(
            f"{place} holds no lrsearch studies; `lrsearch run` files one, or name another with --storage"
        )
    read_only = to_read and isinstance(place, SqliteFile) and not writable(place.path)
    return Database(place, patience_seconds, connections, read_only=read_only)

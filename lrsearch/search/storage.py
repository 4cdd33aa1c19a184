"""An open database: what is read and written there is tried again when the connection is lost."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from sqlalchemy import exc

from lrsearch.errors import StorageError
from lrsearch.search import explain, opening
from lrsearch.search.connecting import writable
from lrsearch.search.explain import explained, passes
from lrsearch.search.look import check_new, has_studies
from lrsearch.search.places import Place, SqliteFile

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS = 600.0
"""For so long a worker tries to reach a database that it has reached before."""

LONGEST_DELAY_SECONDS = 5.0
"""Between two tries."""


class Database:
    """An open database: Optuna's storage and, on the same engine, our tables.

    Args:
        place: where it is; it is made if nothing is there.
        patience_seconds: for how long a lost connection is tried again; a command that a person waits for fails at
            once, a worker has patience.
        connections: to a server, that are kept open; for a moment there may be twice as many.
        read_only: whether it is a SQLite file that cannot be written, and is opened to read.
    """

    def __init__(
        self, place: Place, patience_seconds: float = 0.0, connections: int = 1, *, read_only: bool = False
    ) -> None:
        self.place = place
        self.read_only = read_only
        self.patience_seconds = patience_seconds
        self._pool_asks = connections > 1
        """Whether a connection is asked whether it answers before it is handed out, as ``opening`` has it."""
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


def open_early(place: Place, patience_seconds: float = 0.0, connections: int = 1, *, to_read: bool = False) -> Database:
    """Open a database before it holds a study: on a server, whose tables are made. A file must be there.

    A fleet may start before its first study; a file that is not there is more likely a slip of the keys.

    Raises:
        StorageError: the server cannot be reached, its database is another program's, or the file is not there.
    """
    if isinstance(place, SqliteFile):
        return open_existing(place, patience_seconds, connections, to_read=to_read)
    # Said at once: patience is for a database that has been reached before.
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
    if not has_studies(place):
        raise StorageError(
            f"{place} holds no lrsearch studies; `lrsearch run` files one, or name another with --storage"
        )
    read_only = to_read and isinstance(place, SqliteFile) and not writable(place.path)
    return Database(place, patience_seconds, connections, read_only=read_only)

"""A database's errors as one sentence that a person understands, and which of them pass by themselves."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import psycopg
from sqlalchemy import exc

from lrsearch.errors import StorageError
from lrsearch.store.places import Place, PostgresServer

BUSY_TIMEOUT_SECONDS = 60

PASSING_STATES = (
    "08",  # the connection
    "57P",  # the server is being stopped or started
    "40",  # two transactions in each other's way: deadlock, serialization
    "53300",  # all connections are taken
    "25P03",  # we were paused within a transaction
)
"""Beginnings of SQLSTATEs after which the same transaction may succeed. Source: PostgreSQL's appendix A."""

SQLITE = {
    "file is not a database": "is not a SQLite database; name another file with --storage",
    "database disk image is malformed": "is a damaged SQLite database; restore a copy, or name another --storage",
    "readonly database": "cannot be written (it or its folder is read-only); name another --storage",
    "unable to open database file": "cannot be opened; check its folder, or name another --storage",
    "database is locked": "was locked by another process for {seconds:g} s; end it and run this again",
    "database or disk is full": "cannot grow: the disk is full; free some space, then run this again",
    "disk I/O error": "cannot be read or written: the disk is full or damaged",
    "No row was found": "no longer holds this study: it has been deleted",
}
POSTGRES = {
    "password authentication failed": "refused the user or the password; check LRSEARCH_STORAGE or ~/.pgpass",
    "no password supplied": "asks for a password; put it into LRSEARCH_STORAGE, a file (--storage @FILE) or ~/.pgpass",
    "Connection refused": "cannot be reached: nothing listens there; check host and port, and that the server runs",
    "could not translate host name": "cannot be reached: the host name is not known; check --storage",
    "Name or service not known": "cannot be reached: the host name is not known; check --storage",
    "failed to resolve host": "cannot be reached: the host name is not known; check --storage",
    "timeout expired": "cannot be reached: it did not answer in time; check host, port and firewall",
    "connection timeout": "cannot be reached: it did not answer in time; check host, port and firewall",
    "No route to host": "cannot be reached: there is no route to the host; check host and network",
    "Network is unreachable": "cannot be reached: there is no route to the host; check host and network",
    "no pg_hba.conf entry": "does not let this host or user in (pg_hba.conf); ask whoever runs it",
    "too many clients already": "has no connection left (max_connections); end some workers or raise it",
    "remaining connection slots": "has no connection left (max_connections); end some workers or raise it",
    "permission denied": "does not let this user write there; grant CREATE on the schema, or name another --storage",
    "read-only transaction": "is read-only (a standby?); name the primary server with --storage",
    "unsupported startup parameter": "is behind a pooler that refuses a setting of ours; see docs/fleet.md: "
    "ignore_startup_parameters = options in pgbouncer.ini",
    "prepared statement": "is behind a pooler that keeps no prepared statements; "
    "add ?prepare_threshold=none to the storage URL",
    "No space left on device": "cannot grow: its disk is full; free some space there, then run this again",
    "No row was found": "no longer holds this study: it has been deleted",
}
LOST = (
    "server closed the connection",
    "terminating connection",
    "the connection is lost",
    "Connection timed out",
    "the database system is",
    "could not receive data",
    "connection is closed",
    "connection was closed",
)

REFUSED = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "unsupported startup",
)
"""What does not pass, whatever the state of the connection."""


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Turn a database's errors into one sentence.

    Raises:
        StorageError: in place of any error of SQLAlchemy, the driver or Optuna's storage.
    """
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error, psycopg.Error, optuna.exceptions.StorageInternalError) as error:
        # SQLAlchemy's own text holds the statement with its values, and the driver's may hold the whole URL.
        raise StorageError(sentence(place, error)) from None


def sentence(place: Place, error: BaseException) -> str:
    """Return what went wrong at a place, and what to do."""
    text = _innermost(error)
    if isinstance(place, PostgresServer):
        if 'database "' in text and "does not exist" in text:
            return f"{place} does not exist on its server, which can be reached; make it: createdb {place.url.database}"
        if any(words in text for words in LOST):
            return f"{place} closed the connection: {text.splitlines()[0]}"
    for words, meaning in (POSTGRES if isinstance(place, PostgresServer) else SQLITE).items():
        if words in text:
            return f"{place} {meaning.format(seconds=BUSY_TIMEOUT_SECONDS)}"
    return f"{place}: the database said: {text.splitlines()[0]}"


def passes(error: exc.DBAPIError | optuna.exceptions.StorageInternalError) -> bool:
    """Whether it may work a moment later: the server restarts, the network is down, somebody holds a lock."""
    if not isinstance(error, exc.DBAPIError):
        # Optuna's, around SQLAlchemy's.
        inner = error.__cause__
        return isinstance(inner, exc.DBAPIError) and passes(inner)
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError):
        return "database is locked" in str(cause)
    state: str | None = getattr(cause, "sqlstate", None)
    if state is not None:
        return state.startswith(PASSING_STATES)
    # Without a SQLSTATE it never reached a server, or lost it, or was not let in.
    lost = error.connection_invalidated or isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return lost and not any(words in str(cause) for words in REFUSED)


def collided(error: exc.DBAPIError | optuna.exceptions.StorageInternalError) -> bool:
    """Whether two transactions were in each other's way, and this one was undone to let the other one go on."""
    cause = error if isinstance(error, exc.DBAPIError) else error.__cause__
    state: str | None = getattr(getattr(cause, "orig", None), "sqlstate", None)
    return state is not None and state.startswith("40")


def comes_back(error: BaseException) -> bool:
    """Whether a server answered that it is being stopped or started, or has no connection left."""
    text = _innermost(error)
    return any(words in text for words in ("the database system is", "too many clients", "remaining connection slots"))


def nothing_listens(error: BaseException) -> bool:
    """Whether the host answered, and no server."""
    return "Connection refused" in _innermost(error)


def _innermost(error: BaseException) -> str:
    """Return what the driver said, on one line."""
    while True:
        inner = getattr(error, "orig", None) or error.__cause__
        if inner is None or inner is error:
            lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
            return "; ".join(lines) if lines else type(error).__name__
        error = inner

"""Connections as lrsearch wants them: to a PostgreSQL server, and to a SQLite file that is only read."""

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from lrsearch.errors import StorageError
from lrsearch.store.places import PostgresServer, SqliteFile

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

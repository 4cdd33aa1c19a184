"""What is at a place, without changing anything there."""

import sqlite3
from contextlib import closing

from lrsearch.errors import StorageError
from lrsearch.store import explain, optuna_private, tables
from lrsearch.store.connecting import connected, reading_uri
from lrsearch.store.explain import explained
from lrsearch.store.places import Place, PostgresServer, SqliteFile, check_local


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

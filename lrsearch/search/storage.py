"""Opening a database: Optuna's own storage with our tables beside it, and errors that a person understands."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from sqlalchemy import exc

from lrsearch.errors import StorageError, UsageError
from lrsearch.search import tables

DEFAULT_STORAGE = "./lrsearch.db"
BUSY_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where studies lie: a SQLite file."""

    path: Path

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of it."""
        return str(sa.URL.create("sqlite", database=str(self.path)))

    def __str__(self) -> str:
        """Return the path as it was given."""
        return str(self.path)


def parse_place(text: str) -> Place:
    """Return the place of ``--storage``: a path, or a ``sqlite:///`` URL.

    Raises:
        UsageError: another database, or no database at all. The text is not repeated where it may hold a password.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Place(Path(text))
    if scheme != "sqlite":
        kind = scheme.partition("+")[0]
        raise UsageError(
            f"--storage must be a file or a sqlite:/// URL, got a URL of '{kind}': this version uses SQLite only"
        )
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path == ":memory:":
        raise UsageError("--storage must name a file, as in sqlite:///lrsearch.db: what is not kept cannot be resumed")
    return Place(Path(path))


class Database:
    """An open database: Optuna's storage and, on the same engine, our tables."""

    def __init__(self, place: Place) -> None:
        self.place = place
        with explained(place):
            if not has_studies(place):
                _make_wal(place)
            self.optuna = _with_tables(place)
            self.engine = self.optuna.engine
            sa.event.listen(self.engine, "connect", _on_connect)
            self.engine.dispose()
            try:
                self._check_version()
            except BaseException:
                self.close()
                raise

    def _check_version(self) -> None:
        with self.engine.connect() as connection:
            version = connection.scalar(sa.select(tables.schema.c.version))
        if version is None:
            with self.engine.begin() as connection:
                row = {"id": 1, "version": tables.SCHEMA_VERSION}
                connection.execute(tables.schema.insert().prefix_with("OR IGNORE"), row)
            version = tables.SCHEMA_VERSION
        if version != tables.SCHEMA_VERSION:
            raise StorageError(
                f"{self.place} holds studies of schema {version} and this lrsearch reads schema "
                f"{tables.SCHEMA_VERSION}: use the lrsearch that wrote it, or another --storage"
            )

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a short transaction; its first statement must write, so that SQLite queues instead of failing."""
        with explained(self.place), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a connection to read with."""
        with explained(self.place), self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self.optuna.remove_session()
        self.engine.dispose()


def open_existing(place: Place) -> Database:
    """Open a database that must hold studies.

    Raises:
        StorageError: there is none, or it is none.
    """
    if not place.path.exists():
        raise StorageError(
            f"{place}: there is no such study database; `lrsearch run` makes one, or name it with --storage"
        )
    if not has_studies(place):
        raise StorageError(
            f"{place} holds no lrsearch studies; `lrsearch run` files one, or name another with --storage"
        )
    return Database(place)


def has_studies(place: Place) -> bool:
    """Look, without changing anything, whether our tables are in the file.

    Raises:
        StorageError: the file is not a SQLite database or cannot be read.
    """
    return set(tables.metadata.tables) <= _tables_in(place)


def study_names(place: Place) -> set[str]:
    """Return the names of all studies in the file, Optuna's own too, without changing anything."""
    return _column(place, "SELECT study_name FROM studies") if "studies" in _tables_in(place) else set()


def _tables_in(place: Place) -> set[str]:
    if not place.path.exists():
        return set()
    if place.path.is_dir():
        raise StorageError(f"{place} is a folder, and a study database is a file: name a file in it with --storage")
    return _column(place, "SELECT name FROM sqlite_master WHERE type = 'table'")


def _column(place: Place, query: str) -> set[str]:
    # The plain driver: SQLAlchemy would open the file for writing.
    uri = f"{place.path.resolve().as_uri()}?mode=ro"
    with explained(place), closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
        return {value for (value,) in connection.execute(query)}


def check_new(place: Place) -> None:
    """Make sure that studies could be kept at the place, without changing anything.

    Raises:
        StorageError: its folder does not exist, or the file there is another program's.
    """
    folder = place.path.resolve().parent
    if not folder.is_dir():
        raise StorageError(f"{place}: the folder {folder} does not exist; make it, or name another --storage")
    there, optunas = _tables_in(place), set(models.BaseModel.metadata.tables)
    others = there - optunas - set(tables.metadata.tables) - {"alembic_version"}
    if others and not optunas <= there:
        shown = ", ".join(sorted(others)[:3])
        raise StorageError(f"{place} is another program's database (with {shown}); name another file with --storage")


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Turn a database's errors into one sentence.

    Raises:
        StorageError: in place of any error of SQLAlchemy, the driver or Optuna's storage.
    """
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(_sentence(place, error)) from error


def _sentence(place: Place, error: BaseException) -> str:
    text = _innermost(error)
    known = {
        "file is not a database": "is not a SQLite database; name another file with --storage",
        "database disk image is malformed": "is a damaged SQLite database; restore a copy, or name another --storage",
        "readonly database": "cannot be written (it or its folder is read-only); name another --storage",
        "unable to open database file": "cannot be opened; check its folder, or name another --storage",
        "database is locked": f"was locked by another process for {BUSY_TIMEOUT_SECONDS} s; end it and run this again",
        "database or disk is full": "cannot grow: the disk is full; free some space, then run this again",
        "disk I/O error": "cannot be read or written: the disk reports an error",
        "No row was found": "no longer holds this study: it has been deleted",
    }
    for words, meaning in known.items():
        if words in text:
            return f"{place} {meaning}"
    return f"{place}: the database said: {text}"


def _innermost(error: BaseException) -> str:
    while True:
        inner = getattr(error, "orig", None) or error.__cause__
        if inner is None or inner is error:
            return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        error = inner


def _with_tables(place: Place) -> RDBStorage:
    """Return Optuna's storage, its tables and ours made where they are missing, the version of Optuna's checked."""
    attempts = 20
    while True:
        attempts -= 1
        try:
            storage = RDBStorage(place.url, engine_kwargs={"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}})
            tables.metadata.create_all(storage.engine)
        except RuntimeError as error:
            # Optuna's own sentence on a schema of another version.
            raise StorageError(f"{place}: {str(error).splitlines()[0]}") from error
        except (exc.IntegrityError, exc.OperationalError) as error:
            # Another process makes the same tables at the same moment: look again at which there are.
            made_meanwhile = isinstance(error, exc.IntegrityError) or "already exists" in str(error)
            if not made_meanwhile or attempts == 0:
                raise
        else:
            return storage


def _make_wal(place: Place) -> None:
    """Let readers read while a worker writes; it is a property of the file."""
    # SQLite does not wait its busy timeout for this one statement.
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
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

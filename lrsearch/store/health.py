"""What may be wrong with a database of studies and its artifacts, and what can be mended safely.

Nothing that a living worker holds is touched: what is removed belongs to nobody any more, by the same rules by which
workers take over from each other.
"""

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from lrsearch.errors import LrsearchError, StorageError
from lrsearch.store import at_work, budget, lease, leftovers, opening, progress, tables
from lrsearch.store import study as studies
from lrsearch.store.artifacts import default_for
from lrsearch.store.check import Check, Level, disk
from lrsearch.store.explain import explained
from lrsearch.store.opening import connected, reading_uri, writable
from lrsearch.store.places import Place, PostgresServer, SqliteFile, network_file_system
from lrsearch.store.storage import Database
from lrsearch.store.tables import now
from lrsearch.text import counted
from lrsearch.trial import Reason

SKEW_SECONDS = 1.0
CROWDED = 0.8
"""Part of a server's connections from which on it is said."""
PINGS = 5


def examine(place: Place, artifacts: str | None, *, fix: bool) -> Iterator[Check]:
    """Look at a database, its studies and their artifacts, and yield what was found.

    Args:
        place: the database; it need not be there.
        artifacts: the artifact store that was named, or None for those of the studies, or the default.
        fix: whether to mend what can be mended safely.
    """
    try:
        if isinstance(place, SqliteFile):
            yield _local(place)
            yield disk("disk of the database", place.path)
        there = opening.has_studies(place)
        if isinstance(place, PostgresServer):
            with _looking(place) as connection:
                yield from _server(place, connection)
        if not there:
            yield _none_yet(place)
        else:
            with _looking(place) as connection:
                version = _version(place, connection)
            if version.level != Level.OK and not (fix and version.fixable):
                yield version
                return
            read_only = not fix and isinstance(place, SqliteFile) and not writable(place.path)
            with closing(Database(place, read_only=read_only)) as database:
                yield replace(version, fixed=True, advice="") if version.fixable else version
                yield from _of_database(database, fix=fix)
                yield from leftovers.stores(database, artifacts, fix=fix)
            return
    except StorageError as error:
        yield Check("database", Level.PROBLEM, str(error), "mend it, then run `lrsearch doctor` again")
        return
    yield from leftovers.store(place, artifacts or default_for(place))


@contextmanager
def _looking(place: Place) -> Iterator[sa.Connection]:
    """Open a connection that changes nothing, not even our tables to a newer schema."""
    if isinstance(place, PostgresServer):
        with explained(place), closing(connected(place)) as connection:
            yield connection
        return
    uri = reading_uri(place.path)
    engine = sa.create_engine(
        "sqlite://", poolclass=NullPool, creator=lambda: sqlite3.connect(uri, uri=True, timeout=10)
    )
    with explained(place), engine.connect() as connection:
        yield connection


# --- the database itself ---------------------------------------------------------------------------------------------


def _none_yet(place: Place) -> Check:
    try:
        opening.check_new(place)
    except StorageError as error:
        return Check("database", Level.PROBLEM, str(error), "name another --storage")
    what = "there is no study database yet" if isinstance(place, SqliteFile) and not place.path.exists() else ""
    return Check(
        "database", Level.OK, f"{place}: {what or 'it holds no lrsearch studies yet'}; `lrsearch run` makes one"
    )


def _local(place: SqliteFile) -> Check:
    kind = network_file_system(place.path)
    if kind is None:
        return Check("file system", Level.OK, f"{place} lies on a disk of this machine")
    return Check(
        "file system",
        Level.PROBLEM,
        f"{place} lies on a network file system ({kind}), where SQLite loses data when two machines write",
        "put it on a local disk, or use PostgreSQL (--storage postgresql://user@host/database)",
    )


def _server(place: PostgresServer, connection: sa.Connection) -> Iterator[Check]:
    version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    yield Check("database", Level.OK, f"PostgreSQL {version} answers at {place}")
    yield _latency(connection)
    yield _skew(connection)
    most = int(connection.exec_driver_sql("SHOW max_connections").scalar_one())
    count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    used = int(connection.scalar(count) or 0)
    said = f"{used} of {most} connections are used (max_connections)"
    if used < CROWDED * most:
        yield Check("connections", Level.OK, said)
    else:
        yield Check("connections", Level.WARNING, said, "end some clients, or raise max_connections on the server")


def _latency(connection: sa.Connection) -> Check:
    took = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        connection.exec_driver_sql("SELECT 1").scalar_one()
        took.append(time.perf_counter() - begun)
    middle = statistics.median(took)
    said = f"answers in {1000 * middle:.1f} ms (median of {PINGS})"
    # An epoch costs one transaction of some ten statements.
    if middle < 0.1:
        return Check("latency", Level.OK, said)
    return Check("latency", Level.WARNING, said, "every report waits for it: work nearer to the server if it matters")


def _skew(connection: sa.Connection, clock: Callable[[], float] = time.time) -> Check:
    begun = clock()
    there = connection.scalars(sa.select(now())).one().replace(tzinfo=UTC).timestamp()
    here = (begun + clock()) / 2
    return skew(here, there)


def skew(here: float, there: float) -> Check:
    """Judge how far this machine's clock is from the database's; both in seconds since the epoch."""
    apart = here - there
    said = f"this machine's clock is {abs(apart):.2f} s {'ahead of' if apart >= 0 else 'behind'} the database's"
    if abs(apart) <= SKEW_SECONDS:
        return Check("clock", Level.OK, said)
    return Check(
        "clock",
        Level.WARNING,
        f"{said}; leases go by the database's clock alone, only the times that are shown differ",
        "set this machine's clock (NTP)",
    )


def _version(place: Place, connection: sa.Connection) -> Check:
    found = connection.scalar(sa.select(tables.schema.c.version))
    if found == tables.SCHEMA_VERSION:
        return Check("schema", Level.OK, f"lrsearch's tables have version {found}, the one of this lrsearch")
    if found is not None and found < tables.SCHEMA_VERSION:
        return Check(
            "schema",
            Level.WARNING,
            f"lrsearch's tables have version {found} and this lrsearch works on {tables.SCHEMA_VERSION}",
            "the next command brings them up to date; what else there is can be looked at afterwards",
            fixable=True,
        )
    return Check(
        "schema",
        Level.PROBLEM,
        f"{place} holds studies of schema {found} and this lrsearch reads schema {tables.SCHEMA_VERSION}",
        "use the lrsearch that wrote it, or another --storage",
    )


def _of_database(database: Database, *, fix: bool) -> Iterator[Check]:
    there, head = database.optuna.get_current_version(), database.optuna.get_head_version()
    yield Check("Optuna's schema", Level.OK, f"version {there}" if there == head else f"{there}, the newest is {head}")
    if isinstance(database.place, SqliteFile):
        with database.reading() as connection:
            version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
            n = len(studies.names(database))
            held = f"{n} stud{'y' if n == 1 else 'ies'}"
            yield Check("database", Level.OK, f"SQLite {version} reads {database.place}, with {held}")
            yield _latency(connection)
            yield Check("clock", Level.OK, "the database's clock is this machine's")
            yield _intact(connection)
        if not database.read_only:
            yield _wal(database.place, fix=fix)
    for name in studies.names(database):
        yield from _of_study(database, name, fix=fix)
    yield _crowded(database)
    yield leftovers.copies(database)
    yield leftovers.homeless(database, fix=fix)
    yield leftovers.orphans(database, fix=fix)
    yield leftovers.untold(database, fix=fix)
    yield leftovers.stray(database, fix=fix)
    yield leftovers.workers(database, fix=fix)


def _crowded(database: Database) -> Check:
    said = at_work.crowded(database)
    if said is None:
        return Check("cores", Level.OK, "the workers of this machine have no more threads than it has cores")
    return Check(
        "cores",
        Level.WARNING,
        f"{said}: they wait for each other",
        "start fewer, give each --threads 1, or leave --threads out, so that each takes its share",
    )


def _intact(connection: sa.Connection) -> Check:
    said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if said == "ok":
        return Check("integrity", Level.OK, "SQLite finds the file intact")
    return Check("integrity", Level.PROBLEM, f"SQLite says: {str(said).splitlines()[0]}", "restore a copy of the file")


def _wal(place: SqliteFile, *, fix: bool) -> Check:
    with explained(place), closing(sqlite3.connect(place.path, timeout=1)) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode == "wal":
            return Check("journal", Level.OK, "in WAL mode: readers do not wait for writers")
        found = Check(
            "journal",
            Level.WARNING,
            f"in {mode} mode: readers and writers wait for each other",
            "while nothing works on it, --fix sets WAL mode",
            fixable=True,
        )
        if not fix:
            return found
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            return found
        return replace(found, fixed=True)


# --- studies ---------------------------------------------------------------------------------------------------------


def _of_study(database: Database, name: str, *, fix: bool) -> Iterator[Check]:
    subject = f"study {name}"
    try:
        study = studies.find(database, name)
    except StorageError as error:
        yield Check(subject, Level.PROBLEM, str(error), "use the lrsearch that wrote it")
        return
    if study is None:
        return
    try:
        studies.check_version(study)
    except LrsearchError as error:
        yield Check(subject, Level.WARNING, str(error), "only that lrsearch can go on with it")
    leases, slots = tables.leases, tables.slots
    mine = leases.c.study_id == study.id
    with database.reading() as connection:
        all_held = set(connection.scalars(sa.select(leases.c.slot_id).where(mine)))
        living = lease.held(connection, study.id)
        open_slots = sa.and_(slots.c.study_id == study.id, slots.c.state == "running")
        free = set(connection.scalars(sa.select(slots.c.id).where(open_slots))) - all_held
        how = budget.stopped(connection, study.id)
    working = f"{counted(len(living), 'trial')} in training" if living else "no trial in training"
    waits = f", {counted(len(free), 'interrupted trial')} to go on with" if free else ""
    halted = " (stopped; `lrsearch run` or `extend` goes on)" if how is not None else ""
    yield Check(subject, Level.OK, f"{working}{waits}{halted}")
    dead = all_held - living
    if not dead:
        return
    found = Check(
        subject,
        Level.WARNING,
        f"{counted(len(dead), 'lease')} expired, or held by a process that has ended",
        "the next worker frees them; so does --fix",
        fixable=True,
    )
    if fix:
        with database.writing() as connection:
            # SQLite queues transactions that begin with a write.
            budget.lock(connection, study.id)
            freed = lease.drop_dead(connection, study.id, look_at_processes=True)
            for one in freed:
                progress.write_down(connection, one.slot, Reason.LOST, one.why)
        found = replace(found, said=f"{found.said}: {counted(len(freed), 'trial')} freed", fixed=True)
    yield found

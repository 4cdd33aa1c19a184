"""What may be wrong with a database of studies and its artifacts, who works there, and what can be mended safely.

Nothing that a living worker holds is touched: what is removed belongs to nobody any more, by the same rules by which
workers take over from each other.
"""

import json
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from lrsearch.errors import LrsearchError, StorageError
from lrsearch.search import budget, lease, optuna_rows, processes, retries, storage, tables
from lrsearch.search import study as studies
from lrsearch.search.artifacts import PREFIX, Artifacts, default_for
from lrsearch.search.clock import later, now
from lrsearch.search.explain import explained
from lrsearch.search.mirror import SLOT_ATTR
from lrsearch.search.places import Place, PostgresServer, SqliteFile, network_file_system
from lrsearch.search.storage import Database
from lrsearch.search.study import ID_ATTR, Study
from lrsearch.trial import Reason

SKEW_SECONDS = 1.0
LOW_BYTES, TOO_LOW_BYTES = 2**30, 100 * 2**20
CROWDED = 0.8
"""Part of a server's connections from which on it is said."""
FORGOTTEN_SECONDS = 3600.0
"""After so long an artifact that nothing names, and a worker that was not heard of, are given up."""
PINGS = 5

_optuna_trials = models.TrialModel.__table__
_optuna_study_attrs = models.StudyUserAttributeModel.__table__
_optuna_trial_attrs = models.TrialUserAttributeModel.__table__
_OF_STUDIES = (tables.epochs, tables.interruptions, tables.leases, tables.slots)
_OF_SLOTS = (tables.epochs, tables.interruptions, tables.leases)
_KNOWN = sa.select(_optuna_study_attrs.c.value_json).where(_optuna_study_attrs.c.key == ID_ATTR)
_FORGOTTEN = tables.workers.c.expires_at <= later(-FORGOTTEN_SECONDS)


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of ``lrsearch doctor``."""

    subject: str
    level: Level
    said: str
    """What was found, with its numbers."""
    advice: str = ""
    """What to do; empty where all is well."""
    fixable: bool = False
    """Whether ``--fix`` would mend it."""
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that lives."""

    name: str
    """``host:pid``"""
    device: str
    versions: str
    number: int | None
    """Of the trial in hand, or None where it waits."""
    seen_seconds_ago: float
    """Since its last sign of life, by the database's clock."""


def at_work(study: Study) -> list[Worker]:
    """Return the workers of a study that, as far as can be seen, live."""
    mine, leases, slots = tables.workers, tables.leases, tables.slots
    query = (
        sa.select(
            mine,
            now().label("read_at"),
            leases.c.expires_at.label("lease_expires_at"),
            slots.c.number,
            slots.c.state,
        )
        .outerjoin(leases, leases.c.worker_id == mine.c.id)
        .outerjoin(slots, slots.c.id == leases.c.slot_id)
        .where(mine.c.study_id == study.id)
        .order_by(mine.c.host, mine.c.pid)
    )
    with study.database.reading() as connection:
        rows = connection.execute(query).all()
    out = []
    for row in rows:
        # An accepted epoch renews the lease alone.
        until = max(row.expires_at, row.lease_expires_at or row.expires_at)
        if until <= row.read_at or _has_died(row):
            continue
        ago = study.spec.workers.lease_seconds - (until - row.read_at).total_seconds()
        number = row.number if row.state == "running" else None
        out.append(Worker(f"{row.host}:{row.pid}", row.device, row.versions, number, max(0.0, ago)))
    return out


def stopped(study: Study) -> str | None:
    """Return how a person asked the study to stop, ``drain`` or ``now``, or None."""
    with study.database.reading() as connection:
        return budget.stopped(connection, study.id)


def named_artifacts(database: Database, study_id: str | None = None) -> set[str]:
    """Return the names of all artifacts that a study, or any study of the database, still needs."""
    slots = tables.slots
    columns = sa.select(slots.c.checkpoint, slots.c.weights)
    query = columns if study_id is None else columns.where(slots.c.study_id == study_id)
    with database.reading() as connection:
        return {name for row in connection.execute(query) for name in row if name is not None}


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
            yield _disk("disk of the database", place.path)
        there = storage.has_studies(place)
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
            with closing(Database(place)) as database:
                yield replace(version, fixed=True, advice="") if version.fixable else version
                yield from _of_database(database, fix=fix)
                yield from _stores(database, artifacts, fix=fix)
            return
    except StorageError as error:
        yield Check("database", Level.PROBLEM, str(error), "mend it, then run `lrsearch doctor` again")
        return
    yield from _store(place, artifacts or default_for(place))


@contextmanager
def _looking(place: Place) -> Iterator[sa.Connection]:
    """Open a connection that changes nothing, not even our tables to a newer schema."""
    if isinstance(place, PostgresServer):
        arguments = {k: v for k, v in storage.POSTGRES_CONNECTION.items() if k not in place.url.query}
        engine = sa.create_engine(place.url, poolclass=NullPool, connect_args=arguments)
    else:
        uri = f"{place.path.resolve().as_uri()}?mode=ro"
        engine = sa.create_engine(
            "sqlite://", poolclass=NullPool, creator=lambda: sqlite3.connect(uri, uri=True, timeout=10)
        )
    with explained(place), engine.connect() as connection:
        yield connection


# --- the database itself ---------------------------------------------------------------------------------------------


def _none_yet(place: Place) -> Check:
    try:
        storage.check_new(place)
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


def _disk(subject: str, path: Path) -> Check:
    folder = next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GiB free at {folder}"
    if free >= LOW_BYTES:
        return Check(subject, Level.OK, said)
    level = Level.WARNING if free >= TOO_LOW_BYTES else Level.PROBLEM
    return Check(subject, level, said, "free some space")


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
        yield _wal(database.place, fix=fix)
    for name in studies.names(database):
        yield from _of_study(database, name, fix=fix)
    yield _orphans(database, fix=fix)
    yield _stray(database, fix=fix)
    yield _workers(database, fix=fix)


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
    working = f"{_n(len(living), 'trial')} in training" if living else "no trial in training"
    waits = f", {_n(len(free), 'interrupted trial')} to go on with" if free else ""
    halted = " (stopped; `lrsearch run` or `extend` goes on)" if how is not None else ""
    yield Check(subject, Level.OK, f"{working}{waits}{halted}")
    dead = all_held - living
    if not dead:
        return
    found = Check(
        subject,
        Level.WARNING,
        f"{_n(len(dead), 'lease')} expired, or held by a process that has ended",
        "the next worker frees them; so does --fix",
        fixable=True,
    )
    if fix:
        with database.writing() as connection:
            # SQLite queues whoever begins with a write.
            budget.lock(connection, study.id)
            freed = lease.drop_dead(connection, study.id, look_at_processes=True)
            for one in freed:
                retries.write_down(connection, one.slot, Reason.LOST, one.why)
        found = replace(found, said=f"{found.said}: {_n(len(freed), 'trial')} freed", fixed=True)
    yield found


def _orphans(database: Database, *, fix: bool) -> Check:
    """Look for rows of ours whose study Optuna no longer has: somebody deleted it with another tool."""
    counts, kept, orphans = {}, 0, set[str]()
    with database.reading() as connection:
        ours = set(connection.scalars(sa.select(tables.studies.c.id)))
        for table in _OF_STUDIES:
            ours |= set(connection.scalars(sa.select(table.c.study_id).distinct()))
        # After ours: a study that is filed meanwhile is no orphan.
        known = {str(json.loads(value)) for value in connection.scalars(_KNOWN)}
        for orphan in ours - known:
            if lease.held(connection, orphan):
                kept += 1
            else:
                orphans.add(orphan)
        for table in (*_OF_STUDIES, tables.studies):
            column = table.c.id if table is tables.studies else table.c.study_id
            counts[table] = _count(connection, table, column.in_(orphans))
        loose = {table: table.c.slot_id.not_in(sa.select(tables.slots.c.id)) for table in _OF_SLOTS}
        n_loose = sum(_count(connection, t, sa.and_(t.c.study_id.not_in(orphans), of)) for t, of in loose.items())
    n = sum(counts.values()) + n_loose
    left = (
        f"; {_n(kept, 'deleted study', 'deleted studies')} left alone, in which a worker still trains" if kept else ""
    )
    if not n:
        return Check("orphans", Level.OK, f"every row of ours belongs to a study{left}")
    shown = ", ".join(
        _n(m, t.name.removeprefix("lrsearch_"), t.name.removeprefix("lrsearch_")) for t, m in counts.items() if m
    )
    found = Check(
        "orphans",
        Level.WARNING,
        f"{_n(n, 'row')} of studies that Optuna no longer has ({shown or 'without their slot'}){left}",
        "a study was deleted with another tool; --fix removes what it left",
        fixable=True,
    )
    if not fix:
        return found
    with database.writing() as connection:
        for table in (*_OF_STUDIES, tables.studies):
            column = table.c.id if table is tables.studies else table.c.study_id
            connection.execute(table.delete().where(column.in_(orphans)))
        for table, of in loose.items():
            connection.execute(table.delete().where(of))
    return replace(found, fixed=True)


def _stray(database: Database, *, fix: bool) -> Check:
    """Look for RUNNING trials in our studies that no slot of ours knows."""
    trials, attrs, slots = _optuna_trials, _optuna_trial_attrs, tables.slots
    ours = sa.select(_optuna_study_attrs.c.study_id).where(_optuna_study_attrs.c.key == ID_ATTR)
    mark = sa.and_(attrs.c.trial_id == trials.c.trial_id, attrs.c.key == SLOT_ATTR)
    query = (
        sa.select(trials.c.trial_id, trials.c.number, attrs.c.value_json)
        .outerjoin(attrs, mark)
        .where(trials.c.study_id.in_(ours), trials.c.state == TrialState.RUNNING)
    )
    with database.reading() as connection:
        running = connection.execute(query).all()
        known = set(connection.scalars(sa.select(slots.c.id)))
    foreign = [row.number for row in running if row.value_json is None]
    lost = [row.trial_id for row in running if row.value_json is not None and json.loads(row.value_json) not in known]
    if lost:
        found = Check(
            "trials",
            Level.WARNING,
            f"{_n(len(lost), 'trial')} RUNNING for Optuna whose slot is gone",
            "nobody can end them any more; --fix has Optuna take them as failed",
            fixable=True,
        )
        if not fix:
            return found
        with database.writing() as connection:
            for trial_id in lost:
                optuna_rows.end(connection, trial_id, TrialState.FAIL, None, {})
        return replace(found, fixed=True)
    if foreign:
        return Check(
            "trials",
            Level.WARNING,
            f"{_n(len(foreign), 'trial')} ({', '.join(map(str, foreign[:5]))}) RUNNING that lrsearch did not start",
            "if no Optuna script trains them any more: study.tell(NUMBER, state=TrialState.FAIL)",
        )
    return Check("trials", Level.OK, "every running trial is lrsearch's")


def _workers(database: Database, *, fix: bool) -> Check:
    """Look for workers that left without a word, long ago."""
    workers, leases = tables.workers, tables.leases
    idle = workers.c.id.not_in(sa.select(leases.c.worker_id))
    with database.reading() as connection:
        rows = connection.execute(sa.select(workers).where(_FORGOTTEN, idle)).all()
        n_living = _count(connection, workers, workers.c.expires_at > now())
    gone = [row.id for row in rows if not _seen_alive(row)]
    if not gone:
        return Check("workers", Level.OK, f"{_n(n_living, 'worker')} heard of lately")
    found = Check(
        "workers",
        Level.WARNING,
        f"{_n(len(gone), 'worker')} not heard of for more than an hour, {n_living} heard of lately",
        "--fix strikes them off",
        fixable=True,
    )
    if not fix:
        return found
    with database.writing() as connection:
        connection.execute(workers.delete().where(workers.c.id.in_(gone), _FORGOTTEN, idle))
    return replace(found, fixed=True)


def _seen_alive(row: Any) -> bool:
    same = row.process_space == processes.process_space()
    return bool(same and processes.lives(row.pid, row.process_started))


def _has_died(row: Any) -> bool:
    same = row.process_space == processes.process_space()
    return bool(same and not processes.lives(row.pid, row.process_started))


# --- artifacts -------------------------------------------------------------------------------------------------------


def _stores(database: Database, artifacts: str | None, *, fix: bool) -> Iterator[Check]:
    default = default_for(database.place)
    with database.reading() as connection:
        filed = set(connection.scalars(sa.select(tables.studies.c.artifacts)))
    places = {artifacts} if artifacts is not None else {where or default for where in filed} or {default}
    for where in sorted(places):
        yield from _store(database.place, where)
        yield from _unnamed(database, where, private=where == default, fix=fix)


def _store(place: Place, where: str) -> Iterator[Check]:
    try:
        folder = Path(where) if "://" not in where else None
        if folder is not None and not folder.exists():
            nearest = next(p for p in folder.absolute().parents if p.exists())
            yield Check("artifacts", Level.OK, f"{where} is not there yet; it is made in {nearest} when it is needed")
        else:
            Artifacts(where)
            yield Check("artifacts", Level.OK, f"{where} can be written")
    except LrsearchError as error:
        yield Check("artifacts", Level.PROBLEM, str(error), "mend it, or name another with --artifacts")
        return
    if folder is None:
        return
    yield _disk("disk of the artifacts", folder)
    if isinstance(place, PostgresServer) and network_file_system(folder / "any") is None:
        yield Check(
            "artifacts",
            Level.WARNING,
            f"{where} lies on this machine alone: another machine cannot go on from its checkpoints",
            "with several machines name a folder that all of them mount, or s3://BUCKET, with --artifacts",
        )


def _unnamed(database: Database, where: str, *, private: bool, fix: bool) -> Iterator[Check]:
    """Look for files that no slot names: their writer was killed, or their study was deleted.

    A folder that other databases may use too holds files of theirs, which are left alone.
    """
    folder = Path(where)
    if "://" in where or not folder.is_dir():
        return
    private = private and isinstance(database.place, SqliteFile)
    limit = time.time() - FORGOTTEN_SECONDS
    # Before what is named: a file that is named later is newer than the list.
    files = [(path, path.stat()) for path in folder.glob(f"{PREFIX}*") if path.is_file()]
    named = named_artifacts(database)
    with database.reading() as connection:
        ours = set(connection.scalars(sa.select(tables.studies.c.id)))
    idle = [
        (path, stat.st_size)
        for path, stat in files
        if path.name not in named and stat.st_mtime < limit and (private or _study_of(path) in ours)
    ]
    total = sum(stat.st_size for _, stat in files)
    if not idle:
        said = f"{_n(len(files), 'file')}, {total / 2**20:.1f} MiB; none is forgotten"
        yield Check("artifacts", Level.OK, said)
        return
    size = sum(n for _, n in idle) / 2**20
    found = Check(
        "artifacts",
        Level.WARNING,
        f"{_n(len(idle), 'file')} ({size:.1f} MiB) older than an hour that no trial needs, in {where}",
        "--fix removes them",
        fixable=True,
    )
    if fix:
        for path, _ in idle:
            path.unlink(missing_ok=True)
        found = replace(found, fixed=True)
    yield found


def _study_of(path: Path) -> str:
    """Return the id of the study that a file was written for: ``lrsearch-STUDY-UUID.kind``."""
    return path.name.removeprefix(PREFIX)[:36]


def _count(connection: sa.Connection, table: sa.Table, where: Any) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0)


def _n(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or f'{one}s'}"


def worst(checks: Collection[Check]) -> Level:
    """Return the worst level of what is still so."""
    open_ones = [c.level for c in checks if not c.fixed]
    return next((level for level in (Level.PROBLEM, Level.WARNING) if level in open_ones), Level.OK)

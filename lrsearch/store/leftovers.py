"""What the dead leave behind: rows, trials, workers and files that nobody needs any more, and their removal."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState

from lrsearch.errors import LrsearchError
from lrsearch.store import budget, homes, lease, optuna_private, optuna_rows, tables
from lrsearch.store import study as studies
from lrsearch.store.artifacts import PREFIX, Artifacts, default_for
from lrsearch.store.check import Check, Level, disk
from lrsearch.store.homes import ID_ATTR
from lrsearch.store.places import Place, PostgresServer, SqliteFile, network_file_system
from lrsearch.store.storage import Database
from lrsearch.store.tables import SLOT_ATTR, later, now
from lrsearch.text import counted

FORGOTTEN_SECONDS = 3600.0
"""After so long an artifact that nothing names, and a worker that was not heard of, are given up."""

_optuna_studies = optuna_private.STUDIES
_optuna_trials = optuna_private.TRIALS
_optuna_study_attrs = optuna_private.STUDY_USER_ATTRS
_optuna_trial_attrs = optuna_private.TRIAL_USER_ATTRS
_OF_STUDIES = (
    tables.confirmations,
    tables.epochs,
    tables.interruptions,
    tables.known,
    tables.leases,
    tables.moves,
    tables.range_tests,
    tables.slots,
    tables.trunks,
)
_OF_SLOTS = (tables.epochs, tables.interruptions, tables.leases, tables.moves, tables.trunks)
_KNOWN = sa.select(_optuna_study_attrs.c.value_json).where(_optuna_study_attrs.c.key == ID_ATTR)
_FORGOTTEN = tables.workers.c.expires_at <= later(-FORGOTTEN_SECONDS)


def named_artifacts(database: Database, study_id: str | None = None) -> set[str]:
    """Return the names of all artifacts that a study, or any study of the database, still needs."""
    slots = tables.slots
    columns = sa.select(slots.c.checkpoint, slots.c.weights)
    query = columns if study_id is None else columns.where(slots.c.study_id == study_id)
    trunks = sa.select(tables.trunks.c.artifact)
    if study_id is not None:
        trunks = trunks.where(tables.trunks.c.study_id == study_id)
    with database.reading() as connection:
        rows = [*connection.execute(query), *connection.execute(trunks)]
        return {name for row in rows for name in row if name is not None}


def orphans(database: Database, *, fix: bool) -> Check:
    """Look for rows of ours whose study Optuna no longer has: somebody deleted it with another tool."""
    counts, kept, gone = {}, 0, set[str]()
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
                gone.add(orphan)
        for table in (*_OF_STUDIES, tables.studies):
            column = table.c.id if table is tables.studies else table.c.study_id
            counts[table] = _count(connection, table, column.in_(gone))
        loose = {table: table.c.slot_id.not_in(sa.select(tables.slots.c.id)) for table in _OF_SLOTS}
        n_loose = sum(_count(connection, t, sa.and_(t.c.study_id.not_in(gone), of)) for t, of in loose.items())
    n = sum(counts.values()) + n_loose
    left = (
        f"; {counted(kept, 'deleted study', 'deleted studies')} left alone, in which a worker still trains"
        if kept
        else ""
    )
    if not n:
        return Check("orphans", Level.OK, f"every row of ours belongs to a study{left}")
    shown = ", ".join(
        counted(m, t.name.removeprefix("lrsearch_"), t.name.removeprefix("lrsearch_")) for t, m in counts.items() if m
    )
    found = Check(
        "orphans",
        Level.WARNING,
        f"{counted(n, 'row')} of studies that Optuna no longer has ({shown or 'without their slot'}){left}",
        "a study was deleted with another tool; --fix removes what it left",
        fixable=True,
    )
    if not fix:
        return found

    def remove(connection: sa.Connection) -> None:
        for table in (*_OF_STUDIES, tables.studies):
            column = table.c.id if table is tables.studies else table.c.study_id
            connection.execute(table.delete().where(column.in_(gone)))
        for table, of in loose.items():
            connection.execute(table.delete().where(of))

    database.write(remove)
    return replace(found, fixed=True)


def copies(database: Database) -> Check:
    """Look for studies that another program copied, our id with the rest."""
    found = [f"'{one.name}' of '{one.copy_of}'" for one in studies.summaries(database) if one.copy_of is not None]
    if not found:
        return Check("copies", Level.OK, "every study has an id of its own")
    return Check(
        "copies",
        Level.WARNING,
        f"another program made {counted(len(found), 'copy', 'copies')}: {', '.join(found)}",
        "a copy is only read; `lrsearch delete NAME` removes it and leaves the original whole",
    )


def homeless(database: Database, *, fix: bool) -> Check:
    """Look for trials whose study Optuna no longer has: they began while it was being deleted."""
    lost = _optuna_trials.c.study_id.not_in(sa.select(_optuna_studies.c.study_id))
    with database.reading() as connection:
        n = _count(connection, _optuna_trials, lost)
        rows = optuna_rows.orphans(connection)
    if not n and not rows:
        return Check("trials without a study", Level.OK, "none")
    parts = [f"{counted(n, 'trial')} of studies that Optuna no longer has"] if n else []
    parts += [f"{counted(rows, 'row')} of trials that it no longer has"] if rows else []
    found = Check(
        "trials without a study",
        Level.WARNING,
        " and ".join(parts),
        "they began while another program deleted or renamed their study; --fix removes them",
        fixable=True,
    )
    if fix:
        with database.writing() as connection:
            optuna_rows.delete_trials(connection, lost)
            optuna_rows.remove_orphans(connection)
        found = replace(found, fixed=True)
    return found


def untold(database: Database, *, fix: bool) -> Check:
    """Look for trials that are RUNNING for Optuna although their slot has ended: they were moved meanwhile."""
    trials, attrs, slots = _optuna_trials, _optuna_trial_attrs, tables.slots
    mark = sa.and_(attrs.c.trial_id == trials.c.trial_id, attrs.c.key == SLOT_ATTR)
    home = sa.select(tables.studies.c.optuna_id)
    query = (
        sa.select(trials.c.trial_id, attrs.c.value_json)
        .join(attrs, mark)
        .where(trials.c.state == TrialState.RUNNING, trials.c.study_id.in_(home))
    )
    with database.reading() as connection:
        running = {json.loads(row.value_json): row.trial_id for row in connection.execute(query)}
        rows = connection.execute(sa.select(slots).where(slots.c.state == "ended", slots.c.id.in_(list(running)))).all()
    if not rows:
        return Check("endings", Level.OK, "Optuna knows how every trial ended")
    found = Check(
        "endings",
        Level.WARNING,
        f"{counted(len(rows), 'trial')} RUNNING for Optuna although lrsearch has its ending",
        "--fix tells Optuna",
        fixable=True,
    )
    if fix:
        with database.writing() as connection:
            for row in rows:
                homes.tell(connection, row, running[row.id])
        found = replace(found, fixed=True)
    return found


def sweep(database: Database) -> int:
    """Remove what is left of studies that another program deleted, files too; return how many studies they were.

    Called where the database is opened to write. Nobody works on them any more, or a worker hears of it at its next
    report.
    """
    default, names = default_for(database.place), list[tuple[str, str]]()
    with database.reading() as connection:
        ours = connection.execute(sa.select(tables.studies.c.id, tables.studies.c.artifacts)).all()
        known = {str(json.loads(value)) for value in connection.scalars(_KNOWN)}
        gone = [row for row in ours if row.id not in known and not lease.held(connection, row.id)]
    for row in gone:
        named = set[str]()

        def remove(connection: sa.Connection, study: str = row.id, named: set[str] = named) -> None:
            # First, for SQLite: a transaction begins with what writes.
            budget.lock(connection, study)
            if homes.carriers(connection, study):
                named.clear()
            else:
                named.update(homes.sweep(connection, study))

        # Its workers may be writing still: where one is in the way, it is done again.
        database.write(remove)
        names += [(row.artifacts or default, name) for name in named]
    for where in {where for where, _ in names}:
        with suppress(LrsearchError):
            store = Artifacts(where)
            for there, name in names:
                if there == where:
                    store.remove(name)
    return len(gone)


def stray(database: Database, *, fix: bool) -> Check:
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
            f"{counted(len(lost), 'trial')} RUNNING for Optuna whose slot is gone",
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
        shown = ", ".join(map(str, foreign[:5]))
        return Check(
            "trials",
            Level.WARNING,
            f"{counted(len(foreign), 'trial')} ({shown}) RUNNING that lrsearch did not start",
            "if no Optuna script trains them any more: study.tell(NUMBER, state=TrialState.FAIL)",
        )
    return Check("trials", Level.OK, "every running trial is lrsearch's")


def workers(database: Database, *, fix: bool) -> Check:
    """Look for workers that left without a word, long ago."""
    workers, leases = tables.workers, tables.leases
    idle = workers.c.id.not_in(sa.select(leases.c.worker_id))
    with database.reading() as connection:
        rows = connection.execute(sa.select(workers).where(_FORGOTTEN, idle)).all()
        n_living = _count(connection, workers, workers.c.expires_at > now())
    gone = [row.id for row in rows if not _seen_alive(row)]
    if not gone:
        return Check("workers", Level.OK, f"{counted(n_living, 'worker')} heard of lately")
    found = Check(
        "workers",
        Level.WARNING,
        f"{counted(len(gone), 'worker')} not heard of for more than an hour, {n_living} heard of lately",
        "--fix strikes them off",
        fixable=True,
    )
    if not fix:
        return found
    database.write(lambda c: c.execute(workers.delete().where(workers.c.id.in_(gone), _FORGOTTEN, idle)))
    return replace(found, fixed=True)


def _seen_alive(row: Any) -> bool:
    same = row.process_space == lease.process_space()
    return bool(same and lease.lives(row.pid, row.process_started))


# --- artifacts -------------------------------------------------------------------------------------------------------


def stores(database: Database, artifacts: str | None, *, fix: bool) -> Iterator[Check]:
    """Look at the artifact stores of the studies, or at the one that is named, and for files that nobody needs."""
    default = default_for(database.place)
    with database.reading() as connection:
        filed = set(connection.scalars(sa.select(tables.studies.c.artifacts)))
    places = {artifacts} if artifacts is not None else {where or default for where in filed} or {default}
    for where in sorted(places):
        yield from store(database.place, where)
        yield from _unnamed(database, where, private=where == default, fix=fix)


def store(place: Place, where: str) -> Iterator[Check]:
    """Look at an artifact store: whether it can be written, its disk, and who else sees it."""
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
    yield disk("disk of the artifacts", folder)
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
        said = f"{counted(len(files), 'file')}, {total / 2**20:.1f} MiB; none is forgotten"
        yield Check("artifacts", Level.OK, said)
        return
    size = sum(n for _, n in idle) / 2**20
    found = Check(
        "artifacts",
        Level.WARNING,
        f"{counted(len(idle), 'file')} ({size:.1f} MiB) older than an hour that no trial needs, in {where}",
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

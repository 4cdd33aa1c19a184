"""Databases of other versions: an older one is brought up to date with nothing lost, a newer one is left alone.

``data_schema_1.sql`` was written by lrsearch 0.1 (commit a6599ac): the study "done" with its three trials, one of them
tested, and "half", whose second trial was killed after two epochs. ``data_schema_3.sql`` by commit f213560: ``lrsearch
run --trials 8 --epochs 4 --seed 1 --set dataset.limit=300``. ``data_schema_5.sql`` by commit 8c501a8: ``lrsearch run
--name pets --dataset folder:pets --model mlp --trials 3 --epochs 2 --seed 1`` of 24, 8 and 4 pictures of noise.
``data_schema_6_postgresql.sql``, by PostgreSQL's pg_dump --inserts, by commit 0a72ada: ``lrsearch run digits --trials 4
--epochs 2 --seed 1 --set dataset.limit=200``.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from conftest import FakeEngine, finished, learning, measured, on_both, sentence, started, wait_until, working, write
from conftest import claims_of as claims
from postgres import Account

from lrsearch.errors import EXIT_STORAGE, StorageError
from lrsearch.report import answer
from lrsearch.spec import file as study_file
from lrsearch.spec.deciding import FORMER_PRUNER, BudgetSpec
from lrsearch.store import filing, judging, migrations, opening, tables
from lrsearch.store import study as studies
from lrsearch.store.opening import has_studies
from lrsearch.store.places import Place, SqliteFile, parse_place
from lrsearch.store.storage import Database, open_existing
from lrsearch.trial import Role, State

NOW = tables.SCHEMA_VERSION


@pytest.fixture
def old(tmp_path: Path) -> SqliteFile:
    """A database of schema 1."""
    return restored("data_schema_1.sql", tmp_path / "old.db")


def restored(dump: str, path: Path) -> SqliteFile:
    """Make a database of what was written down of one."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(Path(__file__).with_name(dump).read_text("utf-8"))
        connection.execute("PRAGMA journal_mode=WAL")
    return SqliteFile(path)


def query(place: SqliteFile, text: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place.path)) as connection, connection:
        return connection.execute(text).fetchall()


def version(place: SqliteFile) -> int:
    ((found,),) = query(place, "SELECT version FROM lrsearch_schema")
    return int(found)


def columns(engine: sa.Engine) -> dict[str, set[tuple[str, str]]]:
    """Return the columns of our tables with their types."""
    inspector = sa.inspect(engine)
    names = [name for name in inspector.get_table_names() if name.startswith("lrsearch_")]
    return {n: {(c["name"], str(c["type"])) for c in inspector.get_columns(n)} for n in names}


def indexes(engine: sa.Engine) -> dict[str, set[str | None]]:
    inspector = sa.inspect(engine)
    names = [name for name in inspector.get_table_names() if name.startswith("lrsearch_")]
    return {n: {i["name"] for i in inspector.get_indexes(n)} for n in names}


def refused(place: Place) -> str:
    with pytest.raises(StorageError) as error:
        open_existing(place)
    assert error.value.exit_code == EXIT_STORAGE
    said = sentence(error)
    assert str(place) in said
    return said


def test_a_database_of_schema_1_is_brought_up_to_date_and_nothing_is_lost(old: SqliteFile, database: Database) -> None:
    kept = ("lrsearch_epochs", "trials", "trial_params", "trial_values", "trial_intermediate_values", "studies")
    known = {name: ", ".join(row[1] for row in query(old, f"PRAGMA table_info({name})")) for name in kept}
    before = {name: query(old, f"SELECT {known[name]} FROM {name}") for name in kept}
    slots = "SELECT id, position, state, number, attempts, worker, outcome, value, test_accuracy FROM lrsearch_slots"
    slots_before = query(old, slots)
    with closing(open_existing(old)) as opened:
        assert version(old) == NOW
        assert columns(opened.engine) == columns(database.engine)
        assert indexes(opened.engine) == indexes(database.engine)
        done, half = studies.get(opened, "done").trials(), studies.get(opened, "half").trials()
    assert {name: query(old, f"SELECT {known[name]} FROM {name}") for name in kept} == before
    assert query(old, slots) == slots_before
    assert [t.state for t in done] == [State.COMPLETE] * 3
    assert [(t.test_loss, t.test_accuracy) for t in done] == [(None, None), (0.25, 0.9375), (None, None)]
    assert [(t.state, t.interrupted, len(t.metrics)) for t in half] == [
        (State.COMPLETE, False, 4),
        (State.RUNNING, True, 2),
    ]


def test_of_trials_of_schema_3_is_known_what_they_knew(tmp_path: Path, database: Database) -> None:
    old = restored("data_schema_3.sql", tmp_path / "old.db")
    kept = "SELECT slot_id, epoch, step, val_accuracy, rung_score, comparable, seconds FROM lrsearch_epochs"
    before = query(old, kept), query(old, "SELECT id, number, outcome, message FROM lrsearch_slots")
    with closing(open_existing(old)) as opened:
        assert columns(opened.engine) == columns(database.engine)
        study = studies.get(opened, "digits")
        trials = study.trials()
        assert (query(old, kept), query(old, "SELECT id, number, outcome, message FROM lrsearch_slots")) == before
        assert [t.config.seed for t in trials] == [1] * 8
        assert {(t.role, t.parent) for t in trials} == {(Role.SEARCH, None)}
        assert trials[4].outcome is not None
        assert trials[4].outcome.message == "pruned at epoch 1: 0.3333 below rung cut 0.8"
        (row,) = trials[4].metrics
        assert (row.rung_score, row.comparable, row.cut, row.n_compared) == (1 / 3, True, None, 0)
        # The next one is held against them, and says so.
        study.set_budget(BudgetSpec(trials=9))
        for _ in working(claims(study), FakeEngine(lambda config: [measured(e, 0.2) for e in range(1, 5)])):
            pass
        last = study.trials()[-1]
    assert (last.number, last.state) == (8, State.PRUNED)
    first = next(m for m in last.metrics if m.cut is not None)
    assert (first.rung_score, first.n_compared) == (0.2, 9)


def test_of_a_winner_of_schema_5_is_known_what_it_scored_and_not_in_which_class(
    tmp_path: Path, database: Database
) -> None:
    old = restored("data_schema_5.sql", tmp_path / "old.db")
    kept = "SELECT id, number, state, test_loss, test_accuracy, test_score, weights FROM lrsearch_slots"
    before = query(old, kept)
    with closing(open_existing(old)) as opened:
        assert columns(opened.engine) == columns(database.engine)
        assert query(old, kept) == before
        study = studies.get(opened, "pets")
        winner = study.trials()[0]
        assert (winner.test_accuracy, winner.test_right) == (0.625, ())
        said = answer.build(study.trials(), study.spec, str(old))
        assert said.facts["test"] == "accuracy 0.625 ± 0.16, loss 0.817 on 8 untouched images"
        assert said.facts.keys().isdisjoint({"by class"})
        assert "test_by_class" not in said.to_json()["winner"]
        assert judging.take_turn(study, "") is None, "it has been judged, and is not judged again for that"


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_server_of_schema_6_is_brought_up_to_date_and_the_same_command_goes_on(
    database: Database, postgres_server: Account
) -> None:
    url = postgres_server.create_database()
    dump = Path(__file__).with_name("data_schema_6_postgresql.sql").read_text("utf-8")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(dump.encode())
    try:
        with closing(open_existing(parse_place(url))) as old:
            assert columns(old.engine) == columns(database.engine)
            assert indexes(old.engine) == indexes(database.engine)
            before = studies.get(old, "digits").trials()
        assert [t.state for t in before] == [State.COMPLETE, State.PRUNED, State.PRUNED, State.PRUNED]
        keys = {"budget.trials": 6, "epochs": 2, "seed": 1, "dataset.limit": 200, "budget.stop": "converged"}
        spec = study_file.load("digits", list(keys.items()))
        study = filing.file_study(spec, parse_place(url), explicit_budget=True)
        with closing(study.database):
            assert study.spec.pruner == FORMER_PRUNER, "it named none when that was the default"
            assert study.budget() == spec.budget
            for _ in working(claims(study), FakeEngine(learning)):
                pass
            after = study.trials()
        assert after[:4] == before
        assert len(after) == 6
    finally:
        postgres_server.drop_database(url)


def test_a_trial_that_the_older_lrsearch_left_goes_on(old: SqliteFile) -> None:
    with closing(open_existing(old)) as database:
        study = studies.get(database, "half")
        studies.check_version(study)
        for _ in working(claims(study), FakeEngine(learning)):
            pass
        trials = study.trials()
    assert [t.number for t in trials] == [0, 1, 2]
    assert all(t.state.counts for t in trials)
    assert [m.val_accuracy for m in trials[1].metrics[:2]] == [0.25, 0.375], "what was accepted stays"
    assert [t[0] for t in query(old, "SELECT attempts FROM lrsearch_slots WHERE number = 1")][-1] == 2


def test_it_is_not_brought_up_to_date_under_an_older_lrsearch_that_works_on_it(old: SqliteFile) -> None:
    started_at = psutil.Process().create_time()
    query(old, f"UPDATE lrsearch_leases SET pid = {os.getpid()}, process_started = {started_at}")
    before = query(old, "SELECT * FROM sqlite_master")
    said = refused(old)
    for words in ("schema 1", str(NOW), f"process {os.getpid()}", "older lrsearch", "let it end"):
        assert words in said
    assert version(old) == 1
    assert query(old, "SELECT * FROM sqlite_master") == before
    query(old, "UPDATE lrsearch_leases SET process_started = process_started - 1000")
    open_existing(old).close()
    assert version(old) == NOW


def open_in_child(path: str, gate: str) -> None:
    wait_until(Path(gate).exists)
    with closing(open_existing(SqliteFile(Path(path)))) as database:
        assert studies.names(database) == ["done", "half"]


def test_several_processes_bring_it_up_to_date_at_once(old: SqliteFile, tmp_path: Path) -> None:
    processes = [started(open_in_child, str(old.path), str(tmp_path / "gate")) for _ in range(4)]
    (tmp_path / "gate").touch()
    assert [finished(process) for process in processes] == [0] * 4
    assert version(old) == NOW


def killed_in_the_middle(path: str) -> None:
    """In a child: be killed when all is changed and nothing committed."""

    def upgrade(connection: sa.Connection, found: int) -> str | None:
        original(connection, found)
        os.kill(os.getpid(), 9)
        return None

    original, opening.migrations.upgrade = migrations.upgrade, upgrade
    open_existing(SqliteFile(Path(path)))


def test_a_process_killed_over_it_changes_nothing(old: SqliteFile) -> None:
    before = query(old, "SELECT * FROM sqlite_master")
    assert finished(started(killed_in_the_middle, str(old.path))) == -9
    assert (version(old), query(old, "SELECT * FROM sqlite_master")) == (1, before)
    open_existing(old).close()
    assert version(old) == NOW


def test_tables_of_schema_1_whose_maker_was_killed_before_it_wrote_the_version_are_known(old: SqliteFile) -> None:
    query(old, "DELETE FROM lrsearch_schema")
    with closing(Database(old)) as database:
        assert len(studies.get(database, "done").trials()) == 3
    assert version(old) == NOW


@on_both
def test_a_newer_schema_is_refused_with_both_versions(database: Database) -> None:
    write(database, "UPDATE lrsearch_schema SET version = 99")
    said = refused(database.place)
    for words in ("schema 99", f"schema {NOW}", "--storage"):
        assert words in said
    with pytest.raises(StorageError, match="schema 99"):
        Database(database.place, patience_seconds=60)
    assert has_studies(database.place)


@on_both
def test_a_newer_schema_of_optuna_is_refused(database: Database) -> None:
    write(database, "UPDATE alembic_version SET version_num = 'v9.9.9'")
    assert "optuna" in refused(database.place)


def test_every_step_between_the_versions_is_written_down() -> None:
    assert list(migrations._STEPS) == list(range(1, NOW))

"""Databases: what is none is refused in one sentence and left as it was; what is one is found, listed and deleted."""

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, redirect_stderr, suppress
from pathlib import Path

import mounts
import optuna
import pytest
import sqlalchemy
from conftest import (
    DIVERGED,
    FakeEngine,
    Kill,
    arm,
    claimed,
    claims_of,
    complete,
    finished,
    learning,
    make_spec,
    measured,
    score_by_hand,
    sentence,
    started,
    wait_until,
    working,
)
from optuna.storages._rdb import models

from lrsearch.cli import app
from lrsearch.errors import (
    EXIT_STORAGE,
    EXIT_USAGE,
    IdentityError,
    LrsearchError,
    StorageError,
    UnknownNameError,
    UsageError,
)
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.store import explain, filing, lease
from lrsearch.store import study as studies
from lrsearch.store.homes import Carrier
from lrsearch.store.opening import check_new, has_studies
from lrsearch.store.places import Place, SqliteFile
from lrsearch.store.storage import Database, open_existing
from lrsearch.trial import State

SPEC = make_spec(budget={"trials": 3})


def searched(place: SqliteFile, *specs: StudySpec) -> None:
    """Make a database with studies that are searched through."""
    with closing(Database(place)) as database:
        for spec in specs or (SPEC,):
            for _ in working(claims_of(filing.create(database, spec)), FakeEngine(learning)):
                pass


def plain_optuna(path: Path, name: str = "theirs") -> None:
    """Make a database as an Optuna script does."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    study = optuna.create_study(storage=storage, study_name=name)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    storage.remove_session()
    storage.engine.dispose()


def foreign(path: Path) -> None:
    """Make a SQLite file of another program."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER PRIMARY KEY, title TEXT)")
        connection.execute("INSERT INTO photos (title) VALUES ('the sea')")
        connection.commit()


def refused(action: Callable[[], object], *words: str) -> str:
    """Check that it is refused with one sentence that has the words; return it."""
    with pytest.raises(StorageError) as error:
        action()
    said = sentence(error)
    assert [word for word in words if word not in said] == [], said
    assert error.value.exit_code == EXIT_STORAGE
    return said


def before_anything_is_loaded(place: SqliteFile) -> None:
    """Do what `lrsearch run` does before it reads the images."""
    filing.check(SPEC, place)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b.db", "a?b.db", "a#b.db", "a%41.db", "ü.db", "a&b=c.db", "a'b.db", "-.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    place = SqliteFile(tmp_path / name)
    searched(place)
    assert has_studies(place)
    with closing(open_existing(place)) as database:
        assert studies.names(database) == ["probe"]
    assert {p.name.removesuffix("-wal").removesuffix("-shm") for p in tmp_path.glob("*.db*")} == {name}


# --- what is no database of ours -------------------------------------------------------------------------------------


def text_file(path: Path) -> None:
    path.write_text("Dear diary,\n" * 500)


@pytest.mark.parametrize("action", [open_existing, has_studies, before_anything_is_loaded, Database])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(
    place: SqliteFile, action: Callable[[Place], object]
) -> None:
    text_file(place.path)
    before = place.path.read_bytes()
    refused(lambda: action(place), str(place), "is not a SQLite database", "--storage")
    assert place.path.read_bytes() == before
    assert [p.name for p in place.path.parent.iterdir()] == [place.path.name]


@pytest.mark.parametrize("action", [open_existing, has_studies, before_anything_is_loaded])
def test_a_folder_is_refused(tmp_path: Path, action: Callable[[Place], object]) -> None:
    refused(lambda: action(SqliteFile(tmp_path)), str(tmp_path), "is a folder", "--storage")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", [check_new, before_anything_is_loaded])
def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path, action: Callable[[Place], object]) -> None:
    place = SqliteFile(tmp_path / "missing" / "x.db")
    refused(lambda: action(place), str(place), "missing does not exist", "--storage")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_database_is_not_made_by_looking_for_it(place: SqliteFile) -> None:
    assert not has_studies(place)
    refused(lambda: open_existing(place), str(place), "no such study database", "lrsearch run")
    before_anything_is_loaded(place)
    assert not place.path.exists()


@pytest.mark.parametrize("make", [foreign, plain_optuna, Path.touch])
def test_a_database_without_our_studies_is_left_as_it_was_by_whoever_wants_to_read(
    place: SqliteFile, make: Callable[[Path], None]
) -> None:
    make(place.path)
    before = place.path.read_bytes()
    assert not has_studies(place)
    refused(lambda: open_existing(place), str(place), "holds no lrsearch studies", "lrsearch run")
    assert place.path.read_bytes() == before
    assert [p.name for p in place.path.parent.iterdir()] == [place.path.name]


@pytest.mark.parametrize("action", [check_new, before_anything_is_loaded])
def test_the_database_of_another_program_gets_no_studies(place: SqliteFile, action: Callable[[Place], object]) -> None:
    foreign(place.path)
    before = place.path.read_bytes()
    refused(lambda: action(place), str(place), "another program", "photos", "--storage")
    assert place.path.read_bytes() == before
    assert [p.name for p in place.path.parent.iterdir()] == [place.path.name]


@pytest.mark.parametrize("make", [plain_optuna, Path.touch])
def test_the_database_of_a_plain_optuna_script_and_an_empty_file_may_get_studies(
    place: SqliteFile, make: Callable[[Path], None]
) -> None:
    make(place.path)
    before_anything_is_loaded(place)
    searched(place)
    with closing(open_existing(place)) as database:
        assert studies.names(database) == ["probe"]
        if make is plain_optuna:
            assert len(optuna.load_study(study_name="theirs", storage=str(place.url)).trials) == 2


@pytest.mark.parametrize("n_tables", [1, 5, 11])
def test_a_database_whose_making_was_interrupted_is_made_up(place: SqliteFile, n_tables: int) -> None:
    engine = sqlalchemy.create_engine(place.url)
    models.BaseModel.metadata.create_all(engine, tables=models.BaseModel.metadata.sorted_tables[:n_tables])
    engine.dispose()
    before_anything_is_loaded(place)
    searched(place)
    with closing(open_existing(place)) as database:
        assert studies.names(database) == ["probe"]


def test_a_database_that_another_program_shares_with_optuna_may_get_studies(place: SqliteFile) -> None:
    foreign(place.path)
    plain_optuna(place.path)
    before_anything_is_loaded(place)


def test_a_database_cut_short_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = SqliteFile(tmp_path / "whole.db")
    searched(whole)
    with closing(sqlite3.connect(whole.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = whole.path.read_bytes()
    assert len(content) > 60_000
    for length in (10, 99, 101, 1000, 4096, 8192, 20_000, len(content) // 2, len(content) - 5000):
        place = SqliteFile(tmp_path / f"{length}.db")
        place.path.write_bytes(content[:length])

        def read(place: SqliteFile = place) -> None:
            with closing(open_existing(place)) as database:
                studies.get(database, None).trials()
                studies.summaries(database)

        refused(read, str(place))


def test_a_damaged_page_is_refused(place: SqliteFile) -> None:
    searched(place)
    with closing(sqlite3.connect(place.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(place.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    place.path.write_bytes(content)
    refused(lambda: open_existing(place), str(place), "damaged")


# --- what may not be written -----------------------------------------------------------------------------------------


def run_as_nobody(path: str, folder: str, answer: str) -> None:
    """In a child: go on without rights, try to read and to write, and say what came of it."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    said = []
    for action in (
        lambda: studies.get(open_existing(SqliteFile(Path(path))), None).trials(),
        lambda: filing.create(Database(SqliteFile(Path(path))), make_spec("new")),
        lambda: filing.create(Database(SqliteFile(Path(folder) / "new.db")), make_spec("new")),
    ):
        try:
            said.append(f"did {action() is not None}")
        except LrsearchError as error:
            said.append(f"{error.exit_code} {error}")
    Path(answer).write_text("\n".join(said))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
@pytest.mark.parametrize("wal", [True, False], ids=["wal", "copied"])
def test_a_read_only_database_is_refused_in_words(wal: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = SqliteFile(folder / "locked" / "x.db")
        place.path.parent.mkdir()
        searched(place)
        if not wal:
            with closing(sqlite3.connect(place.path)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
        before = place.path.read_bytes()
        (folder / "answers").mkdir()
        for path, mode in (
            (folder, 0o755),
            (place.path.parent, 0o555),
            (place.path, 0o444),
            (folder / "answers", 0o777),
        ):
            path.chmod(mode)
        answer = folder / "answers" / "said"
        process = started(run_as_nobody, str(place.path), str(place.path.parent), str(answer))
        assert finished(process) == 0
        reading, writing, making = answer.read_text().splitlines()
        assert place.path.read_bytes() == before
        assert {p.name for p in place.path.parent.iterdir()} <= {"x.db", "x.db-wal", "x.db-shm", "x.artifacts"}
        place.path.parent.chmod(0o755)
    for said in (writing, making):
        assert said.startswith("4 "), said
        assert "cannot be" in said
        assert "--storage" in said
    assert str(place) in writing
    assert reading == "did True" or reading.startswith("4 "), reading


def hold_the_lock(path: str, held: str, release: str) -> None:
    """In a child: hold the write lock of a database until told otherwise."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        Path(held).touch()
        wait_until(Path(release).exists)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a fifth of a second for locks instead of a minute."""
    monkeypatch.setattr(explain, "BUSY_TIMEOUT_SECONDS", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_database_that_another_process_locks_is_refused_after_a_while_and_whole_afterwards(tmp_path: Path) -> None:
    place, held, release = SqliteFile(tmp_path / "x.db"), tmp_path / "held", tmp_path / "release"
    searched(place)
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        study.set_budget(make_spec(budget={"trials": 4}).budget)
        claims = claims_of(study)
        process = started(hold_the_lock, str(place.path), str(held), str(release))
        wait_until(held.exists)
        words = (str(place), "locked by another process", "0.2 s")
        refused(claims.claim, *words)
        refused(lambda: filing.create(database, make_spec("new")), *words)
        refused(lambda: study.set_budget(SPEC.budget), *words)
        assert len(study.trials()) == 3, "readers go on reading"
        release.touch()
        assert finished(process) == 0
        assert claimed(claims).trial.number == 3


@pytest.mark.usefixtures("impatient")
def test_a_new_database_that_is_locked_is_refused_after_a_while(tmp_path: Path) -> None:
    place, held, release = SqliteFile(tmp_path / "x.db"), tmp_path / "held", tmp_path / "release"
    place.path.touch()
    process = started(hold_the_lock, str(place.path), str(held), str(release))
    wait_until(held.exists)
    refused(lambda: Database(place), str(place), "locked by another process")
    release.touch()
    assert finished(process) == 0


def fill_the_disk(place: SqliteFile, said: str) -> None:
    """Search in a database on a disk that is full after a while, and say what comes of it."""
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        study.set_budget(make_spec(budget={"trials": 5000}).budget)
        try:
            for _ in working(claims_of(study), FakeEngine(learning)):
                with suppress(OSError), place.path.with_name("filled").open("ab", buffering=0) as file:
                    file.write(bytes(1 << 16))
        except StorageError as error:
            Path(said).write_text(f"{error.exit_code} {error}")


def search_on_a_small_disk(path: str, said: str) -> None:
    """In a child: search until the disk is full, in a process that this ends, and go on when there is room again."""
    mounts.alone()
    place = SqliteFile(Path(path))
    mounts.tmpfs(place.path.parent, 1 << 20)
    searched(place)
    worker = os.fork()
    if worker == 0:
        fill_the_disk(place, said)
        os._exit(0)
    os.waitpid(worker, 0)
    place.path.with_name("filled").unlink()
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        before = sum(t.state.counts for t in study.trials())
        assert before >= 3
        study.set_budget(make_spec(budget={"trials": before + 2}).budget)
        for _ in working(claims_of(study), FakeEngine(learning)):
            pass
        assert [t.number for t in study.trials() if t.state.counts] == list(range(before + 2))


def test_a_full_disk_is_said_and_with_room_again_the_search_goes_on(tmp_path: Path) -> None:
    if reason := mounts.available():
        pytest.skip(reason)
    (tmp_path / "disk").mkdir()
    place, said = SqliteFile(tmp_path / "disk" / "x.db"), tmp_path / "said"
    assert finished(started(search_on_a_small_disk, str(place.path), str(said))) == 0
    (line,) = said.read_text().splitlines()
    assert line.startswith(f"{EXIT_STORAGE} {place} cannot ")
    assert "the disk is full" in line


def work_on_another_machine(path: str, said: str) -> None:
    """In a child: be another machine that has the file, and work on it."""
    lease.machine = lambda: "another kernel"  # type: ignore[assignment]
    with Path(said).open("w") as stderr, redirect_stderr(stderr):
        code = app.run(["worker", "--storage", path, "--study", "probe", "--device", "cpu"])
    sys.exit(code)


def test_a_worker_on_a_second_machine_is_refused_in_favour_of_postgresql(database: Database, tmp_path: Path) -> None:
    claims = claims_of(filing.create(database, SPEC))
    claimed(claims)
    said = tmp_path / "said"
    process = started(work_on_another_machine, str(database.place), str(said))
    assert finished(process) == EXIT_STORAGE
    (line,) = said.read_text().splitlines()
    for words in (f"process {os.getpid()}", "another machine", "PostgreSQL", "postgresql://user@host/database"):
        assert words in line
    assert len(studies.get(database, None).trials()) == 1


# --- versions --------------------------------------------------------------------------------------------------------


def edit(place: SqliteFile, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(place.path)) as connection:
        assert connection.execute(sql, values).rowcount > 0
        connection.commit()


@pytest.mark.parametrize("spec", ['{"name": "probe", "quantum": true}', "{", "[]"])
def test_a_spec_of_another_version_is_refused(place: SqliteFile, spec: str) -> None:
    searched(place)
    edit(place, "UPDATE study_user_attributes SET value_json = json_quote(?) WHERE key = 'lrsearch:spec'", spec)
    with closing(open_existing(place)) as database:
        refused(lambda: studies.get(database, "probe"), "'probe'", str(place), "another version")


# --- identity --------------------------------------------------------------------------------------------------------


def test_another_study_under_the_same_name_is_refused_with_the_differences_and_a_free_name(database: Database) -> None:
    filing.create(database, make_spec())
    filing.create(database, make_spec("probe-2"))
    other = make_spec(epochs=9, space={"batch_size": 16}, baseline="sgd lr=0.1 cosine")
    with pytest.raises(IdentityError) as error:
        filing.create(database, other)
    said = sentence(error)
    assert error.value.exit_code == EXIT_USAGE
    for words in (
        "'probe'",
        str(database.place),
        "epochs is 4 there and 9 here",
        "space.batch_size is [32, 64, 128] there and 16 here",
        "baseline is absent there and sgd lr=0.1 cosine here",
        "--name probe-3 ",
    ):
        assert words in said, said
    assert studies.names(database) == ["probe", "probe-2"]
    assert studies.get(database, "probe").spec == make_spec()


def test_of_many_differences_four_are_told_and_the_others_counted(database: Database) -> None:
    filing.create(database, make_spec())
    other = make_spec(epochs=9, seed=3, dataset={"limit": 900}, model={"name": "cnn"}, objective={"metric": "loss"})
    with pytest.raises(IdentityError) as error:
        filing.create(database, other)
    assert "and 1 more" in sentence(error)


def test_the_same_study_is_found_again_whatever_its_budget(database: Database) -> None:
    one = filing.create(database, make_spec(budget={"trials": 5}))
    again = filing.create(database, make_spec(budget={"trials": 9, "hours": 2}))
    assert again.id == one.id
    assert again.budget() == make_spec(budget={"trials": 5}).budget, "a budget is raised on purpose or not at all"


def test_a_study_of_which_nothing_came_makes_room_and_one_in_work_or_with_an_epoch_does_not(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_spec(epochs=9)
    claims = claims_of(filing.create(database, make_spec()))
    with pytest.raises(IdentityError):
        filing.create(database, other)  # nothing was begun: it waits for its workers
    claim = claimed(claims)
    with pytest.raises(IdentityError):
        filing.create(database, other)  # a worker is at it
    claims.release(claim)
    one = filing.create(database, other)
    assert (one.spec.epochs, studies.names(database), one.trials()) == (9, ["probe"], [])
    assert "epochs is 4 there and 9 here), and no trial of it came as far as an epoch" in caplog.text
    claims = claims_of(one)
    claims.accept(claim := claimed(claims), measured(1))
    claims.release(claim)
    with pytest.raises(IdentityError):
        filing.create(database, make_spec())
    again = filing.create(database, make_spec("asked"))
    claims = claims_of(again)
    claims.release(claimed(claims))
    again.enqueue({"optimizer": "sgd"})
    with pytest.raises(IdentityError):
        filing.create(database, make_spec("asked", epochs=9))


def test_a_study_that_was_filed_when_asha_was_the_default_is_found_by_the_command_that_filed_it(
    database: Database,
) -> None:
    tables = {"name": "probe", "epochs": 4}
    filed = filing.create(database, study_file.build({**tables, "pruner": "asha"}, "the test"))
    again = filing.create(database, study_file.build(tables, "the test"))
    assert (again.id, again.spec.pruner.name) == (filed.id, "asha")
    with pytest.raises(IdentityError, match=r"pruner\.name is asha there and gradual here"):
        filing.create(database, study_file.build({**tables, "pruner": "gradual"}, "the test"))
    new = filing.create(database, study_file.build({**tables, "name": "new"}, "the test"))
    assert new.spec.pruner.name == "gradual"


def test_a_conflict_is_told_before_anything_is_written(place: SqliteFile) -> None:
    searched(place)
    before = place.path.read_bytes()
    with pytest.raises(IdentityError):
        filing.check(make_spec(epochs=9), place)
    assert place.path.read_bytes() == before


def test_the_name_of_a_plain_optuna_study_is_refused_with_a_free_one(place: SqliteFile) -> None:
    plain_optuna(place.path, "probe")
    plain_optuna(place.path, "probe-2")
    with closing(Database(place)) as database:
        with pytest.raises(UsageError) as error:
            filing.create(database, make_spec())
        said = sentence(error)
        assert "'probe' that lrsearch did not make" in said
        assert said.endswith("--name probe-3")
        assert studies.names(database) == []
    assert len(optuna.load_study(study_name="probe", storage=str(place.url)).trials) == 2


# --- found and listed ------------------------------------------------------------------------------------------------


def test_the_only_study_needs_no_name_and_one_of_several_does(database: Database) -> None:
    with pytest.raises(UnknownNameError, match="holds no study yet"):
        studies.get(database, None)
    filing.create(database, make_spec("one"))
    assert studies.get(database, None).name == "one"
    filing.create(database, make_spec("two"))
    with pytest.raises(UnknownNameError, match="2 studies, name one of them: one, two"):
        studies.get(database, None)


def test_an_unknown_study_is_refused_with_the_nearest_name(database: Database) -> None:
    filing.create(database, make_spec("digits"))
    with pytest.raises(UnknownNameError) as error:
        studies.get(database, "digit")
    assert error.value.exit_code == EXIT_USAGE
    assert "did you mean 'digits'?" in sentence(error)
    assert str(database.place) in sentence(error)


def test_the_list_counts_every_study_by_itself(database: Database) -> None:
    one = claims_of(filing.create(database, make_spec("one", budget={"trials": 9})))
    one.end(claimed(one), complete(0.5))
    one.end(claimed(one), complete(0.6))
    one.end(claimed(one), DIVERGED)
    claimed(one)
    filing.create(database, make_spec("two", dataset={"name": "mnist"}, model={"name": "cnn"}))
    listed = {s.name: s for s in studies.summaries(database)}
    assert list(listed) == ["one", "two"]
    assert listed["one"].counts == {State.COMPLETE: 2, State.DIVERGED: 1, State.RUNNING: 1}
    assert listed["one"].budget.trials == 9
    assert (listed["two"].dataset, listed["two"].model, listed["two"].counts) == ("mnist", "cnn", {})


def test_a_study_that_is_deleted_while_the_list_is_made_is_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        filing.create(database, make_spec(name))
    look = studies._ours

    def then_deleted(looked_in: Database) -> list[Carrier]:
        found = look(looked_in)
        monkeypatch.setattr(studies, "_ours", look)
        studies.delete(database, "one")
        return found

    monkeypatch.setattr(studies, "_ours", then_deleted)
    assert [summary.name for summary in studies.summaries(database)] == ["two"]


def test_what_a_winner_scored_on_the_test_set_is_kept(place: SqliteFile) -> None:
    searched(place)
    with closing(Database(place)) as database:
        score_by_hand(studies.get(database, None), 1, 0.25, 0.9375)
    with closing(Database(place)) as database:
        trials = studies.get(database, None).trials()
        assert [(t.test_loss, t.test_accuracy) for t in trials] == [(None, None), (0.25, 0.9375), (None, None)]


@pytest.mark.parametrize("name", ["renamed", "two words, and 'quotes'"])
def test_a_study_renamed_in_the_dashboard_is_still_ours(place: SqliteFile, name: str) -> None:
    searched(place)
    edit(place, "UPDATE studies SET study_name = ?", name)
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        assert study.name == study.spec.name == name
        assert len(study.trials()) == 3
        study.set_budget(make_spec(budget={"trials": 5}).budget)
        for _ in working(claims_of(study), FakeEngine(learning)):
            pass
        assert len(study.trials()) == 5
        assert studies.delete(database, name) == 5
        assert studies.names(database) == []


# --- deleted ---------------------------------------------------------------------------------------------------------


def counts(place: SqliteFile) -> dict[str, int]:
    """Return the rows of every table that knows studies or trials."""
    with closing(sqlite3.connect(place.path)) as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {n: connection.execute(f"SELECT count(*) FROM {n}").fetchone()[0] for n in names}
    return {n: found[n] for n in found if n not in ("alembic_version", "version_info", "lrsearch_schema")}


def test_deleting_a_study_removes_every_row_of_it_and_of_no_other(place: SqliteFile) -> None:
    searched(place, make_spec("one", pruner={"name": "asha"}))
    plain_optuna(place.path)
    only_one = counts(place)
    searched(place, make_spec("two", pruner={"name": "asha"}, seed=1))
    with closing(Database(place)) as database:
        two = studies.get(database, "two")
        two.set_budget(make_spec(budget={"trials": 9}).budget)
        claimed(claims_of(two))  # under way, with a lease
        kept = studies.get(database, "one").trials()
        assert counts(place) != only_one
        assert studies.delete(database, "two") == 7
        assert counts(place) == only_one
        assert studies.names(database) == ["one"]
        assert studies.get(database, "one").trials() == kept
        with pytest.raises(UnknownNameError):
            studies.delete(database, "two")
    assert len(optuna.load_study(study_name="theirs", storage=str(place.url)).trials) == 2


def test_a_deleted_study_leaves_an_empty_database_and_its_name(place: SqliteFile) -> None:
    searched(place)
    with closing(Database(place)) as database:
        studies.delete(database, "probe")
    assert set(counts(place).values()) == {0}
    searched(place, make_spec(epochs=2))
    with closing(Database(place)) as database:
        assert [t.number for t in studies.get(database, None).trials()] == list(range(6))


def delete_in_child(path: str, kill: Kill) -> None:
    """Delete the study and be killed over it."""
    arm(kill)
    with closing(Database(SqliteFile(Path(path)))) as database:
        studies.delete(database, "probe")


@pytest.mark.parametrize(
    ("step", "when", "left"),
    [
        ("deleting the study", "before", True),
        ("rows in deleting", "before", True),
        ("rows in deleting", "after", True),
        ("deleting the study", "after", False),
    ],
)
def test_a_process_killed_while_it_deletes_leaves_a_whole_study_or_none(
    place: SqliteFile, step: str, when: str, left: bool
) -> None:
    searched(place)
    before = counts(place)
    assert finished(started(delete_in_child, str(place.path), Kill(step, when))) == -9
    after = counts(place)
    assert after == before if left else set(after.values()) == {0}


def test_a_worker_whose_study_is_deleted_is_told_so(place: SqliteFile) -> None:
    with closing(Database(place)) as database:
        claims = claims_of(filing.create(database, SPEC))
        claim = claimed(claims)
        with closing(Database(place)) as other:
            studies.delete(other, "probe")
        assert claims.accept(claim, measured(1)).kind == "lost"
        assert not claims.end(claim, complete()).accepted
        with pytest.raises(UnknownNameError, match="'probe' has been deleted from"):
            claims.claim()
    assert set(counts(place).values()) == {0}


def test_a_copied_database_is_a_database(tmp_path: Path) -> None:
    place = SqliteFile(tmp_path / "x.db")
    searched(place)
    with closing(sqlite3.connect(place.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = SqliteFile(tmp_path / "copy.db")
    shutil.copy(place.path, copy.path)
    with closing(open_existing(copy)) as database:
        assert len(studies.get(database, None).trials()) == 3

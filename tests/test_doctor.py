"""`lrsearch doctor`: every problem made for real, found, and mended where that is safe."""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import InProcess, Result
from conftest import (
    FakeEngine,
    claimed,
    claims_of,
    finished,
    learning,
    leases_held,
    make_spec,
    on_both,
    plain_optuna,
    rows,
    started,
    url_of,
    working,
    write,
)
from postgres import Account

from lrsearch.spec.study import StudySpec
from lrsearch.store import check as checks
from lrsearch.store import filing, health, leftovers, tables
from lrsearch.store.artifacts import Artifacts, default_for
from lrsearch.store.check import Level
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database
from lrsearch.store.study import Study

pytest_plugins = ["command_line"]

ANOTHER_MACHINE = "another-kernel/pid:[1]"
LONG_AGO = "2020-01-01 00:00:00.000000"


@pytest.fixture
def study(database: Database) -> Study:
    return filing.create(database, make_spec())


@pytest.fixture
def doctor(database: Database, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Runs the doctor on the database of the test."""
    monkeypatch.setenv("LRSEARCH_STORAGE", url_of(database.place))

    def run(*argv: str) -> Result:
        return lrsearch("doctor", "--device", "cpu", *argv)

    return run


def found(doctor: InProcess, *argv: str) -> dict[str, dict[str, Any]]:
    """Return what is not all right, by subject; the exit code must fit it."""
    result = doctor("--json", *argv)
    document = result.document
    assert document["schema"] == "lrsearch/doctor/1"
    wrong = {check["subject"]: check for check in document["checks"] if check["level"] != "ok"}
    problem = any(check["level"] == "problem" and not check["fixed"] for check in wrong.values())
    assert result.code == (4 if problem else 0)
    assert all(check["advice"] or check["fixed"] for check in wrong.values()), "each says what to do"
    # On a server the default folder of artifacts is this machine's own, which is no fault of the test.
    return {name: check for name, check in wrong.items() if "on this machine alone" not in check["said"]}


def mended(doctor: InProcess, subject: str) -> dict[str, Any]:
    """Find one thing, have it mended, and find nothing any more; return what was said of it."""
    before = found(doctor)
    assert list(before) == [subject], before
    assert before[subject]["fixable"]
    assert not before[subject]["fixed"]
    after = found(doctor, "--fix")
    assert after[subject]["fixed"], after
    assert found(doctor) == {}
    return after[subject]


def die_with_a_lease(url: str, spec_json: str) -> None:
    """Claim a trial and end without a word: the body of a process."""
    from lrsearch.store.places import parse_place

    spec = StudySpec.model_validate_json(spec_json)
    with closing(Database(parse_place(url))) as database:
        claimed(claims_of(filing.create(database, spec)))
        os._exit(1)


# --- all is well -----------------------------------------------------------------------------------------------------


@on_both
def test_a_study_in_good_health_gets_a_line_a_check(doctor: InProcess, study: Study, backend: str) -> None:
    for _ in working(claims_of(study), FakeEngine(learning)):
        pass
    assert found(doctor) == {}
    result = doctor()
    lines = result.out.splitlines()
    assert (result.code, result.err) == (0, "")
    assert all(line.startswith(("ok ", "warning ")) for line in lines), lines
    text = result.out
    for words in ("torch ", "optuna ", "sqlalchemy ", "device: cpu", "schema: ", "latency: answers in", "clock: "):
        assert words in text
    kind = {"sqlite": ("SQLite 3", "WAL mode", "GiB free"), "postgresql": ("PostgreSQL 18", "(max_connections)")}
    for words in kind[backend]:
        assert words in text
    assert ("warning artifacts: " in text) == (backend == "postgresql"), "another machine could not go on"
    assert "***" in text or backend == "sqlite", "the password is masked"


def test_without_a_database_it_says_so_and_makes_none(lrsearch: InProcess, tmp_path: Path) -> None:
    result = lrsearch("doctor")
    assert (result.code, result.err) == (0, "")
    assert "there is no study database yet; `lrsearch run` makes one" in result.out
    assert list(tmp_path.iterdir()) == []


@on_both
def test_a_worker_that_lives_is_left_alone(doctor: InProcess, study: Study, database: Database) -> None:
    claims = claims_of(study)
    claim = claimed(claims)
    assert found(doctor, "--fix") == {}
    assert "study probe: 1 trial in training" in doctor().out
    assert claims.beat(claim) == (True, None)
    assert leases_held(database) == 1


# --- what workers leave behind ---------------------------------------------------------------------------------------


@on_both
def test_a_lease_of_a_dead_process_is_found_and_freed(doctor: InProcess, study: Study, database: Database) -> None:
    assert finished(started(die_with_a_lease, url_of(database.place), study.spec.to_json())) == 1
    assert leases_held(database) == 1
    said = mended(doctor, "study probe")["said"]
    assert said == "1 lease expired, or held by a process that has ended: 1 trial freed"
    assert leases_held(database) == 0
    (trial,) = study.trials()
    assert [one.reason for one in trial.interruptions] == ["lost"]
    assert trial.interrupted


def test_a_lease_that_expired_elsewhere_is_found_and_freed(doctor: InProcess, study: Study, database: Database) -> None:
    claimed(claims_of(study))
    write(database, "UPDATE lrsearch_workers SET process_space = :space", space=ANOTHER_MACHINE)
    assert found(doctor) == {}, "as long as it has not expired, that worker may live"
    write(database, "UPDATE lrsearch_leases SET expires_at = :at", at=LONG_AGO)
    mended(doctor, "study probe")
    assert leases_held(database) == 0


@on_both
def test_workers_that_left_long_ago_without_a_word_are_struck_off(
    doctor: InProcess, study: Study, database: Database
) -> None:
    here, there = claims_of(study), claims_of(study)
    for claims in (here, there):
        claims.release(claimed(claims))
    write(database, "UPDATE lrsearch_workers SET expires_at = :at", at=LONG_AGO)
    gone = {"space": ANOTHER_MACHINE, "id": there.worker}
    write(database, "UPDATE lrsearch_workers SET process_space = :space WHERE id = :id", **gone)
    assert mended(doctor, "workers")["said"].startswith("1 worker not heard of")
    assert rows(database, "SELECT id FROM lrsearch_workers") == [(here.worker,)], "this process can be seen to live"


# --- orphans ---------------------------------------------------------------------------------------------------------


def counts(database: Database) -> dict[str, int]:
    names = [t.name for t in tables.metadata.sorted_tables if t.name not in ("lrsearch_schema", "lrsearch_workers")]
    return {name: int(rows(database, f"SELECT count(*) FROM {name}")[0][0]) for name in names}


@on_both
def test_what_a_study_left_that_was_deleted_with_optuna_is_removed(
    doctor: InProcess, study: Study, database: Database
) -> None:
    other = filing.create(database, make_spec("other"))
    claims = claims_of(other)
    claims.release(claimed(claims))
    claims.leave()
    alone = counts(database) | {"lrsearch_studies": 1}
    for _ in working(claims_of(study), FakeEngine(learning)):
        pass
    with plain_optuna(study) as plain:
        plain._storage.delete_study(plain._study_id)
    assert "slots" in mended(doctor, "orphans")["said"]
    assert counts(database) == alone
    assert [t.number for t in other.trials()] == [0]


def test_a_deleted_study_in_which_a_worker_trains_is_left_to_it(
    doctor: InProcess, study: Study, database: Database
) -> None:
    claimed(claims_of(study))
    with plain_optuna(study) as plain:
        plain._storage.delete_study(plain._study_id)
    before = counts(database)
    assert found(doctor, "--fix") == {}
    assert counts(database) == before
    assert "1 deleted study left alone, in which a worker still trains" in doctor().out


def test_a_running_trial_whose_slot_is_gone_is_failed_for_optuna(
    doctor: InProcess, study: Study, database: Database
) -> None:
    claims = claims_of(study)
    claims.release(claimed(claims))
    claims.leave()
    write(database, "DELETE FROM lrsearch_slots")
    write(database, "DELETE FROM lrsearch_interruptions")
    mended(doctor, "trials")
    with plain_optuna(study) as plain:
        assert [trial.state.name for trial in plain.trials] == ["FAIL"]


def test_a_trial_that_an_optuna_script_trains_is_said_and_left_alone(doctor: InProcess, study: Study) -> None:
    with plain_optuna(study) as plain:
        plain.ask()
        for argv in ((), ("--fix",)):
            (check,) = found(doctor, *argv).values()
            assert "1 trial (0) RUNNING that lrsearch did not start" in check["said"]
        assert [trial.state.name for trial in plain.trials] == ["RUNNING"]


# --- artifacts and disks ---------------------------------------------------------------------------------------------


@on_both
def test_files_that_no_trial_names_are_removed_after_an_hour(
    doctor: InProcess, study: Study, database: Database, backend: str
) -> None:
    store = Artifacts(default_for(database.place))
    folder = Path(store.where)
    for _ in working(claims_of(study), FakeEngine(learning)):
        pass
    (kept,) = leftovers.named_artifacts(database)
    fresh, old = store.put(b"x", study.id, "checkpoint"), store.put(b"y", study.id, "checkpoint")
    deleted = store.put(b"z", "0" * 36, "checkpoint")
    mine = folder / "notes.txt"
    mine.write_text("not ours", "utf-8")
    hours_ago = time.time() - 2 * 3600
    for name in (kept, old, deleted, mine.name):
        os.utime(folder / name, (hours_ago, hours_ago))
    mended(doctor, "artifacts")
    left = {path.name for path in folder.iterdir()}
    assert {kept, fresh, mine.name} <= left
    assert old not in left
    # The folder for servers holds the files of other databases too.
    assert (deleted in left) == (backend == "postgresql")


def test_an_artifact_store_that_cannot_be_written_is_a_problem(doctor: InProcess, study: Study, tmp_path: Path) -> None:
    del study
    (tmp_path / "file").write_text("no folder", "utf-8")
    check = found(doctor, "--artifacts", str(tmp_path / "file"))["artifacts"]
    assert check["level"] == "problem"
    assert "must be a folder that can be written" in check["said"]


def test_a_disk_that_is_nearly_full_is_said(
    doctor: InProcess, study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del study
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(checks, "LOW_BYTES", free * 2)
    levels = {name: check["level"] for name, check in found(doctor).items()}
    assert levels == {"disk of the database": "warning", "disk of the artifacts": "warning"}
    monkeypatch.setattr(checks, "TOO_LOW_BYTES", free * 2)
    assert {check["level"] for check in found(doctor).values()} == {"problem"}


# --- the database itself ---------------------------------------------------------------------------------------------


def test_a_file_on_a_network_file_system_is_a_problem(
    doctor: InProcess, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    del study
    monkeypatch.setattr(health, "network_file_system", lambda _: "nfs4")
    check = found(doctor)["file system"]
    assert check["level"] == "problem"
    assert "nfs4" in check["said"]
    assert "PostgreSQL" in check["advice"]


def test_a_journal_that_is_not_wal_is_found_and_set(doctor: InProcess, study: Study, database: Database) -> None:
    assert isinstance(study.database.place, SqliteFile)
    database.engine.dispose()
    with closing(sqlite3.connect(study.database.place.path)) as connection:
        assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    mended(doctor, "journal")


def test_a_damaged_file_is_a_problem(doctor: InProcess, study: Study, database: Database) -> None:
    assert isinstance(study.database.place, SqliteFile)
    path = study.database.place.path
    database.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    result = doctor()
    assert result.code == 4
    assert "problem " in result.out
    assert "damaged" in result.out
    assert result.err == ""


@on_both
def test_another_schema_is_said_and_nothing_is_changed(doctor: InProcess, study: Study, database: Database) -> None:
    del study
    write(database, "UPDATE lrsearch_schema SET version = :v", v=tables.SCHEMA_VERSION + 1)
    check = found(doctor, "--fix")["schema"]
    assert check["level"] == "problem"
    assert "use the lrsearch that wrote it" in check["advice"]
    write(database, "UPDATE lrsearch_schema SET version = :v", v=tables.SCHEMA_VERSION - 1)
    check = found(doctor)["schema"]
    assert (check["level"], check["fixable"]) == ("warning", True)
    assert rows(database, "SELECT version FROM lrsearch_schema") == [(tables.SCHEMA_VERSION - 1,)]


def test_a_study_of_another_lrsearch_is_said(doctor: InProcess, study: Study, database: Database) -> None:
    write(database, "UPDATE lrsearch_studies SET version = '99.1.0' WHERE id = :id", id=study.id)
    check = found(doctor)["study probe"]
    assert check["level"] == "warning"
    assert "99.1.0" in check["said"]


def test_a_server_that_is_not_there_or_refuses_is_a_problem(
    postgres_server: Account, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, words in (
        (postgres_server.url(password="wrong-secret"), "refused the user or the password"),
        ("postgresql://me:wrong-secret@127.0.0.1:1/db", "nothing listens there"),
    ):
        monkeypatch.setenv("LRSEARCH_STORAGE", url)
        result = lrsearch("doctor", "--device", "cpu")
        assert result.code == 4
        assert words in result.out
        assert "wrong-secret" not in result.out + result.err


def test_a_crowded_server_is_said(postgres_place: Any, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRSEARCH_STORAGE", url_of(postgres_place))
    monkeypatch.setattr(health, "CROWDED", 0.0)
    assert "warning connections: " in lrsearch("doctor", "--device", "cpu").out


@pytest.mark.parametrize(
    ("here", "there", "level", "words"),
    [
        (100.0, 100.4, Level.OK, "0.40 s behind"),
        (100.0, 102.5, Level.WARNING, "2.50 s behind"),
        (3700.0, 100.0, Level.WARNING, "3600.00 s ahead of"),
    ],
)
def test_a_clock_that_is_off_is_shown(here: float, there: float, level: Level, words: str) -> None:
    check = health.skew(here, there)
    assert check.level == level
    assert words in check.said


def test_a_device_that_is_not_there_is_its_own_exit_code(lrsearch: InProcess) -> None:
    result = lrsearch("doctor", "--device", "cuda:99")
    assert result.code == 5
    assert "problem device: " in result.out


def test_as_json_every_check_has_the_same_keys(doctor: InProcess, study: Study) -> None:
    del study
    document = doctor("--json").document
    assert document["worst"] == "ok"
    assert {tuple(check) for check in document["checks"]} == {
        ("subject", "level", "said", "advice", "fixable", "fixed")
    }

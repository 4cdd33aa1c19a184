"""What other programs do to a study: copied, renamed, deleted, its trials told, at every moment of the protocol."""

import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
import sqlalchemy as sa
import strangers
from command_line import InProcess, Running
from conftest import claimed, claims_of, complete, make_spec, measured, rows, url_of, wait_until
from optuna.trial import TrialState

from lrsearch.errors import LrsearchError, UnknownNameError, UsageError
from lrsearch.events import SearchEnded
from lrsearch.store import filing, health, leftovers, optuna_rows, patience, study
from lrsearch.store.claims import Claim, Claims
from lrsearch.store.places import SqliteFile
from lrsearch.store.proposals import Proposals
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.store.tables import SLOT_ATTR

pytest_plugins = ["command_line"]

on_both = pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
BUDGET = 3
Blow = Callable[[Study], None]


def copy(source: Study, to: str = "copy") -> None:
    strangers.copy(url_of(source.database.place), source.name, to)


def delete(source: Study) -> None:
    strangers.delete(url_of(source.database.place), source.name)


def rename(source: Study) -> None:
    strangers.rename(url_of(source.database.place), source.name, "renamed")


def delete_and_file_anew(source: Study) -> None:
    """The same name again: SQLite gives the new study and its trials the ids of the old one."""
    delete(source)
    with closing(Database(source.database.place)) as database:
        stranger = filing.create(database, make_spec(budget={"trials": 9}))
        claims = claims_of(stranger)
        claim = claimed(claims)
        claims.accept(claim, measured(1))
        claims.release(claim)


def delete_and_let_a_stranger_take_its_ids(source: Study) -> None:
    delete(source)
    strangers.take_ids(url_of(source.database.place), "stranger")


def told(state: TrialState) -> Blow:
    def blow(source: Study) -> None:
        strangers.tell(url_of(source.database.place), source.name, state)

    return blow


BLOWS: dict[str, Blow] = {
    "copied": copy,
    "renamed": rename,
    "deleted": delete,
    "deleted and filed anew": delete_and_file_anew,
    "deleted, its ids a stranger's": delete_and_let_a_stranger_take_its_ids,
    "told complete": told(TrialState.COMPLETE),
    "told pruned": told(TrialState.PRUNED),
    "told failed": told(TrialState.FAIL),
}
MOMENTS = ("idle", "claimed", "between epochs", "at a checkpoint", "at the end", "released", "while another trains")


def rows_of_others(database: Database, ours: str) -> list[tuple[Any, ...]]:
    """Return every row that hangs on another study than ours, whoever's it is."""
    of_others = (
        "SELECT s.study_id FROM studies s WHERE NOT EXISTS (SELECT 1 FROM study_user_attributes a WHERE "
        f"a.study_id = s.study_id AND a.key = 'lrsearch:id' AND a.value_json = '\"{ours}\"')"
    )
    trials = f"SELECT trial_id FROM trials WHERE study_id IN ({of_others})"
    found: list[tuple[Any, ...]] = []
    found += rows(database, f"SELECT study_id, study_name FROM studies WHERE study_id IN ({of_others}) ORDER BY 1")
    found += rows(
        database, f"SELECT trial_id, number, state FROM trials WHERE study_id IN ({of_others}) ORDER BY trial_id"
    )
    for table in ("trial_values", "trial_intermediate_values", "trial_user_attributes", "trial_params"):
        found += sorted(
            (tuple(map(str, row)) for row in rows(database, f"SELECT * FROM {table} WHERE trial_id IN ({trials})")),
        )
    for table in ("lrsearch_slots", "lrsearch_epochs", "lrsearch_leases"):
        found += sorted(
            tuple(map(str, row)) for row in rows(database, f"SELECT * FROM {table} WHERE study_id <> '{ours}'")
        )
    return found


def train(claims: Claims, claim: Claim, epochs: range) -> bool:
    """Train some epochs; False where the trial is out of hand."""
    return all(claims.accept(claim, measured(epoch, 0.5)).kind == "keep" for epoch in epochs)


def go_on(claims: Claims, in_hand: Claim | None, epoch: int = 1) -> str:
    """Go on as a worker does, to the end; return in words how that was."""
    try:
        for _ in range(50):
            claim = in_hand or claims.claim()
            if isinstance(claim, SearchEnded):
                return claim.message
            first, in_hand = max(epoch, claim.accepted + 1), None
            epoch = 1
            if train(claims, claim, range(first, 5)):
                claims.end(claim, complete(0.5))
    except UnknownNameError as error:
        return str(error)
    raise AssertionError("it never ends")


def states_of(name: str, database: Database) -> list[TrialState]:
    return [trial.state for trial in database.optuna.get_all_trials(database.optuna.get_study_id_from_name(name))]


def played(database: Database, moment: str, blow: Blow) -> tuple[Study, str, list[tuple[Any, ...]]]:
    """Train one trial, then another up to the moment; let the blow fall; go on to the end."""
    filed = filing.create(database, make_spec(budget={"trials": BUDGET}))
    claims, other = claims_of(filed), claims_of(study.get(database, "probe"))
    first = claimed(claims)
    assert train(claims, first, range(1, 5))
    assert claims.end(first, complete(0.4)).accepted
    second, epoch = (None if moment == "idle" else claimed(claims)), 1
    if moment in ("between epochs", "at a checkpoint", "at the end", "released"):
        assert second is not None
        epoch = 5 if moment == "at the end" else 3
        assert train(claims, second, range(1, epoch))
    if moment == "while another trains":
        held = claimed(other)
        blow(filed)
        before = rows_of_others(database, filed.id)
        if train(other, held, range(1, 5)):
            other.end(held, complete(0.5))
        said = go_on(claims, second)
        return filed, said, before
    blow(filed)
    before = rows_of_others(database, filed.id)
    if moment == "at a checkpoint":
        assert second is not None
        claims.beat(second)
        claims.checkpointed(second, "an artifact", 20)
    if moment == "released":
        assert second is not None
        claims.release(second)
        second, epoch = None, 1
    return filed, go_on(claims, second, epoch), before


# All of them on SQLite; on a server every second one, so that each blow falls at three moments or four, and each moment
# has four blows: what differs there are locks, and those are taken by the same few transactions.
BLOWS_AT = [
    pytest.param(name, moment, backend, id=f"{name}-{moment}-{backend}")
    for i, name in enumerate(BLOWS)
    for j, moment in enumerate(MOMENTS)
    for backend in ("sqlite", "postgresql")
    if backend == "sqlite" or (i + j) % 2 == 0
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moment", "backend"), BLOWS_AT)
def test_no_row_of_another_study_is_touched_and_budgets_stay_exact(
    name: str, moment: str, database: Database, backend: str
) -> None:
    filed, said, before = played(database, moment, BLOWS[name])
    assert rows_of_others(database, filed.id) == before
    assert rows(database, "SELECT count(*) FROM trials WHERE study_id NOT IN (SELECT study_id FROM studies)") == [(0,)]
    if name.startswith("deleted"):
        assert said.startswith("the study 'probe' has been deleted from ")
        for table in ("slots", "epochs", "leases", "interruptions", "workers"):
            left = rows(database, f"SELECT count(*) FROM lrsearch_{table} WHERE study_id = '{filed.id}'")
            assert left == [(0,)], table
        return
    assert said == f"all {BUDGET} trials of the budget are finished"
    now = study.get(database, "renamed" if name == "renamed" else "probe")
    assert sum(trial.state.counts for trial in now.trials()) == BUDGET
    states = states_of(now.name, database)
    assert TrialState.RUNNING not in states
    assert states.count(TrialState.COMPLETE) == BUDGET + (name == "told complete" and moment != "idle")
    if name.startswith("told") and moment != "idle":
        (ended,) = [t for t in now.trials() if t.outcome is not None and t.outcome.reason == "told_elsewhere"]
        assert not ended.state.counts
        assert ended.outcome is not None
        assert "another program told Optuna" in ended.outcome.message
    if name == "renamed":
        assert study.find(database, "probe") is None


@on_both
def test_deleting_a_copy_leaves_the_original_whole(database: Database, backend: str) -> None:
    filed, _, _ = played(database, "idle", copy)
    before = filed.trials()
    there = study.get(database, "copy")
    assert there.copy_of == "probe"
    assert [trial.number for trial in there.trials()] == [0]  # it is read
    assert study.delete(database, "copy") == 1
    assert study.find(database, "copy") is None
    assert study.get(database, "probe").trials() == before
    assert health_words(database, filed.name) == []


@on_both
def test_a_copy_is_only_read(database: Database, backend: str) -> None:
    filed = filing.create(database, make_spec())
    copy(filed)
    there = study.get(database, "copy")
    for change in (
        lambda: there.set_budget(there.budget()),
        lambda: there.stop("now"),
        lambda: there.enqueue({}),
        lambda: there.with_workers(there.spec.workers),
        lambda: filing.create(database, make_spec("copy")),
    ):
        with pytest.raises(UsageError, match="'copy' is a copy of the study 'probe'"):
            change()
    assert not there.is_open()
    assert [s.copy_of for s in study.summaries(database)] == ["probe", None]
    assert study.names(database) == ["probe"]


def test_a_copy_in_another_file_is_said_to_be_one(database: Database, tmp_path: Path) -> None:
    filed = filing.create(database, make_spec())
    there = f"sqlite:///{tmp_path / 'other.db'}"
    optuna.copy_study(from_study_name="probe", from_storage=url_of(filed.database.place), to_storage=there)
    with closing(Database(SqliteFile(tmp_path / "other.db"))) as other:
        assert study.names(other) == []
        with pytest.raises(UsageError, match="or a copy without what lrsearch knows of it"):
            filing.create(other, make_spec())


def test_a_study_whose_old_copy_lacks_trials_was_deleted_and_not_renamed(database: Database) -> None:
    filed = filing.create(database, make_spec(budget={"trials": BUDGET}))
    copy(filed)
    claims = claims_of(filed)
    for _ in range(2):
        claim = claimed(claims)
        assert train(claims, claim, range(1, 5))
        assert claims.end(claim, complete(0.5)).accepted
    with database.writing() as connection:
        long_ago = "UPDATE lrsearch_slots SET ended_at = '2000-01-01 00:00:00.000000' WHERE number = 0"
        connection.execute(sa.text(long_ago))
    delete(filed)
    assert "has been deleted" in go_on(claims, None)
    assert study.names(database) == []


@on_both
def test_a_study_that_was_renamed_hours_ago_is_not_taken_for_a_deleted_one(database: Database, backend: str) -> None:
    """The copy lacks a short trial that ended while it was made, and the next epoch, which notices, takes hours."""
    filed = filing.create(database, make_spec(budget={"trials": BUDGET}))
    claims = claims_of(filed)
    long = claimed(claims)
    copy(filed, "renamed")
    short = claimed(claims)
    assert train(claims, short, range(1, 5))
    assert claims.end(short, complete(0.5)).accepted
    delete(filed)
    long_ago = "TIMESTAMP '2026-01-01 09:00:00'" if backend == "postgresql" else "'2026-01-01 09:00:00.000000'"
    with database.writing() as connection:
        connection.execute(sa.text(f"UPDATE lrsearch_slots SET started_at = {long_ago}"))
        connection.execute(sa.text(f"UPDATE lrsearch_slots SET ended_at = {long_ago} WHERE number = 1"))
    assert go_on(claims, long) == f"all {BUDGET} trials of the budget are finished"
    assert [t.number for t in study.get(database, "renamed").trials()] == list(range(BUDGET))


def test_a_study_that_is_given_the_id_of_a_deleted_one_begins_without_its_trials(database: Database) -> None:
    filed = filing.create(database, make_spec())
    began = []

    def begin_a_trial(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("DELETE") and not began:
            began.append(claimed(claims_of(filed)))

    with strangers.plain(url_of(database.place)) as storage:
        # Optuna has read which trials there are to delete.
        sa.event.listen(storage.engine, "before_cursor_execute", begin_a_trial)
        storage.delete_study(filed.optuna_id)
    assert len(began) == 1
    assert rows(database, "SELECT number FROM trials") == [(0,)]  # it stayed behind
    anew = filing.create(database, make_spec())
    assert anew.optuna_id == filed.optuna_id
    assert database.optuna.get_all_trials(anew.optuna_id) == []
    assert claimed(claims_of(anew)).trial.number == 0
    assert "has been deleted" in go_on(claims_of(filed), began[0])
    assert [t.number for t in anew.trials()] == [0]


@on_both
@pytest.mark.parametrize("table", ["trial_params", "trial_values", "lrsearch_epochs"])
def test_what_is_read_is_of_one_moment_though_the_study_is_deleted_meanwhile(
    database: Database, backend: str, table: str
) -> None:
    filed = filing.create(database, make_spec())
    claims = claims_of(filed)
    for _ in range(2):
        claim = claimed(claims)
        assert train(claims, claim, range(1, 5))
        assert claims.end(claim, complete(0.5)).accepted
    frozen, trials = filed.frozen_trials(), filed.trials()
    deleted = []

    def delete_before_it_is_read(_: Any, __: Any, statement: str, *___: Any) -> None:
        if f"FROM {table}" in statement and not deleted:
            deleted.append(table)
            if table.startswith("lrsearch"):
                with closing(Database(database.place)) as other:
                    study.delete(other, filed.name)
            else:
                delete(filed)

    sa.event.listen(database.engine, "before_cursor_execute", delete_before_it_is_read)
    if table.startswith("lrsearch"):
        assert filed.trials() == trials
    else:
        assert filed.frozen_trials() == frozen
    assert deleted
    assert study.names(database) == []


def test_what_ended_while_a_dashboard_renamed_is_told_under_the_new_name(database: Database) -> None:
    filed = filing.create(database, make_spec(budget={"trials": BUDGET}))
    claims = claims_of(filed)
    claim = claimed(claims)
    assert train(claims, claim, range(1, 5))
    copy(filed, "renamed")
    assert claims.end(claim, complete(0.625)).accepted
    second = claimed(claims)  # and one that the copy lacks is drawn anew
    delete(filed)
    assert go_on(claims, second) == f"all {BUDGET} trials of the budget are finished"
    now = study.get(database, "renamed")
    assert [t.value for t in database.optuna.get_all_trials(now.optuna_id)] == [0.625, 0.5, 0.5]
    assert [t.number for t in now.trials()] == [0, 1, 2]


@on_both
def test_what_was_accepted_while_a_dashboard_renamed_is_mirrored_under_the_new_name(
    database: Database, backend: str
) -> None:
    filed = filing.create(database, make_spec(budget={"trials": 1}))
    claims = claims_of(filed)
    claim = claimed(claims)
    assert train(claims, claim, range(1, 3))
    copy(filed, "renamed")
    assert train(claims, claim, range(3, 4))
    delete(filed)
    assert go_on(claims, claim, 4) == "the one trial of the budget is finished"
    (there,) = database.optuna.get_all_trials(study.get(database, "renamed").optuna_id)
    assert there.intermediate_values == dict.fromkeys(range(1, 5), 0.5)


@on_both
def test_an_ending_that_another_program_told_of_the_copy_gives_way_to_ours(database: Database, backend: str) -> None:
    filed = filing.create(database, make_spec(budget={"trials": BUDGET}))
    claims = claims_of(filed)
    claim = claimed(claims)
    assert train(claims, claim, range(1, 5))
    copy(filed, "renamed")
    assert claims.end(claim, complete(0.625)).accepted
    strangers.tell(url_of(database.place), "renamed", TrialState.COMPLETE)  # there it still ran
    delete(filed)
    assert go_on(claims, None) == f"all {BUDGET} trials of the budget are finished"
    values = [t.value for t in database.optuna.get_all_trials(study.get(database, "renamed").optuna_id)]
    assert values == [0.625, 0.5, 0.5]


@on_both
def test_a_trial_whose_study_is_renamed_while_it_is_taken_over_goes_on(
    database: Database, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filed = filing.create(database, make_spec(budget={"trials": 1}))
    claims = claims_of(filed)
    claim = claimed(claims)
    assert train(claims, claim, range(1, 3))
    claims.release(claim)
    news = Proposals.read_news

    def rename_before(self: Proposals) -> None:
        monkeypatch.setattr(Proposals, "read_news", news)
        rename(filed)
        news(self)

    monkeypatch.setattr(Proposals, "read_news", rename_before)
    assert go_on(claims, None) == "the one trial of the budget is finished"
    (trial,) = study.get(database, "renamed").trials()
    assert (trial.number, trial.state.value, len(trial.metrics)) == (0, "complete", 4)


def test_a_new_trial_has_nothing_of_the_deleted_one_whose_id_it_is_given(database: Database) -> None:
    filed = filing.create(database, make_spec(budget={"trials": 1}))
    with database.writing() as connection:  # as Optuna leaves it that deletes what it had read before
        for table, columns in (
            ("trial_values", "(trial_id, objective, value, value_type) VALUES (1, 0, 0.75, 'FINITE')"),
            (
                "trial_intermediate_values",
                "(trial_id, step, intermediate_value, intermediate_value_type) VALUES (1, 1, 0.125, 'FINITE')",
            ),
            ("trial_user_attributes", "(trial_id, key, value_json) VALUES (1, 'a', '1')"),
        ):
            connection.execute(sa.text(f"INSERT INTO {table} {columns}"))
    assert checks(database, fix=False)["trials without a study"][0] == "3 rows of trials that it no longer has"
    assert go_on(claims_of(filed), None) == "the one trial of the budget is finished"
    (trial,) = database.optuna.get_all_trials(filed.optuna_id)
    assert trial._trial_id == 1
    assert (trial.value, trial.intermediate_values) == (0.5, dict.fromkeys(range(1, 5), 0.5))
    assert "a" not in trial.user_attrs


def test_a_trial_that_begins_while_its_study_is_deleted_is_swept(database: Database) -> None:
    filed = filing.create(database, make_spec(budget={"trials": 2}))
    claims = claims_of(filed)
    claim = claimed(claims)
    with database.writing() as connection:  # what Optuna had not read yet stays behind
        for table in ("study_user_attributes", "study_directions", "studies"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    strangers.take_ids(url_of(database.place), "stranger", trials=0)
    assert rows(database, "SELECT count(*) FROM trials") == [(1,)]  # the stranger's, by its id
    assert "has been deleted" in go_on(claims, claim)
    assert rows(database, "SELECT count(*) FROM trials") == [(0,)]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_nobody_tells_how_a_trial_ended_between_our_look_and_our_commit(database: Database, backend: str) -> None:
    filed = filing.create(database, make_spec(budget={"trials": 1}))
    claim = claimed(claims_of(filed))
    tell = sa.text("UPDATE trials SET state = 'COMPLETE' WHERE trial_id = :trial")
    with database.engine.begin() as connection, closing(Database(database.place)) as other:
        found = optuna_rows.marked(connection, filed.optuna_id, SLOT_ATTR, claim.slot)
        assert found is not None
        with other.engine.connect() as another:
            another.execute(sa.text("SET lock_timeout = '50ms'"))
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                another.execute(tell, {"trial": found.trial_id})


def test_a_transaction_that_was_in_the_way_of_another_is_begun_again_whoever_waits() -> None:
    tries = []

    def once() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise sa.exc.OperationalError("UPDATE", {}, psycopg.errors.DeadlockDetected("deadlock detected"))
        return "done"

    assert patience.again(SqliteFile(Path("x.db")), once, 0.0) == "done"
    assert len(tries) == 4


@pytest.mark.parametrize("backend", ["postgresql"])
def test_what_a_deleted_study_left_is_swept_though_a_worker_is_in_the_way(database: Database, backend: str) -> None:
    filing.create(database, make_spec(budget={"trials": 2}))
    with database.writing() as connection:
        for table in ("study_user_attributes", "study_system_attributes", "study_directions", "studies"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
        # The first two times it is the one that gives way.
        connection.exec_driver_sql("CREATE SEQUENCE tries")
        connection.exec_driver_sql(
            "CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('tries') < 3 THEN "
            "RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF; RETURN OLD; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER in_the_way BEFORE DELETE ON lrsearch_studies FOR EACH ROW EXECUTE FUNCTION in_the_way()"
        )
    assert leftovers.sweep(database) == 1
    assert rows(database, "SELECT count(*) FROM lrsearch_studies") == [(0,)]
    assert rows(database, "SELECT last_value FROM tries") == [(3,)]


def health_words(database: Database, name: str) -> list[str]:
    """Return what `doctor` finds wrong."""
    found = health.examine(database.place, None, fix=False)
    return [check.said for check in found if check.level != "ok" and "machine" not in check.said]


# --- as a person sees it ---------------------------------------------------------------------------------------------

LONG = (
    "--epochs",
    "400",
    "--set",
    "dataset.limit=200",
    "--set",
    "space.batch_size=32",
    "--set",
    "pruner.name=none",
    "--set",
    "space.optimizer=sgd",
)
LONG += ("--set", "space.optimizer.sgd.peak_lr={low=0.001, high=0.01, log=true}", "--threads", "1", "--quiet")


def running(folder: Path, *argv: str) -> Running:
    process = Running(["run", *argv, *LONG], folder)

    def trains() -> bool:
        assert process.process.poll() is None, process.result()
        if not (folder / "lrsearch.db").exists():
            return False
        with (
            suppress(LrsearchError, sa.exc.SQLAlchemyError),
            closing(Database(SqliteFile(folder / "lrsearch.db"))) as d,
        ):
            return bool(rows(d, "SELECT 1 FROM lrsearch_epochs"))
        return False

    wait_until(trains)
    return process


@pytest.mark.slow
def test_a_study_that_is_renamed_while_a_search_runs_goes_on_under_its_new_name(
    tmp_path: Path, lrsearch: InProcess
) -> None:
    process = running(tmp_path, "--trials", "1", "--name", "r")
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        rename(study.get(database, "r"))
    ended = process.result()
    assert ended.code == 0, ended.err
    assert "renamed to 'renamed' by another program" in ended.err
    assert lrsearch("list", "--json").document["studies"][0]["counts"]["complete"] == 1
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        assert states_of("renamed", database) == [TrialState.COMPLETE]
    assert lrsearch("doctor").code == 0


@pytest.mark.slow
def test_a_study_that_is_deleted_while_a_search_runs_ends_the_search_with_that(tmp_path: Path) -> None:
    process = running(tmp_path, "--trials", "9", "--name", "x")
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        delete(study.get(database, "x"))
    begun = time.monotonic()
    ended = process.result()
    assert ended.code == 2, ended.err
    assert "the study 'x' has been deleted" in ended.err
    assert time.monotonic() - begun < 60


@pytest.mark.slow
def test_a_trial_that_is_told_from_outside_is_said_and_the_search_goes_on(tmp_path: Path, lrsearch: InProcess) -> None:
    process = running(tmp_path, "--trials", "2", "--name", "t")
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        told(TrialState.COMPLETE)(study.get(database, "t"))
    ended = process.result()
    assert ended.code == 0, ended.err
    shown = lrsearch("show", "0", "--json").document["trial"]
    assert (shown["state"], shown["reason"]) == ("failed", "told_elsewhere")
    assert lrsearch("list", "--json").document["studies"][0]["counts"]["complete"] == 2


def test_a_study_of_an_odd_name_is_resumed_by_run(tmp_path: Path, lrsearch: InProcess) -> None:
    small = ("--epochs", "1", "--quiet", "--threads", "1")
    assert lrsearch("run", "--trials", "1", "--name", "plain", *small).code == 0
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        source = study.get(database, "plain")
        copy(source, "best run [old]")
        delete(source)
    again = lrsearch("run", "best run [old]", "--trials", "2", "--quiet", "--threads", "1")
    assert again.code in (0, 3), again.err
    counts = lrsearch("list", "--json").document["studies"][0]["counts"]
    assert counts["complete"] + counts["pruned"] + counts["diverged"] == 2, (counts, again.err)
    new = lrsearch("run", "--name", "best run [new]", "--trials", "1", *small)
    assert new.code == 2
    assert "must be letters" in new.err


# --- what was damaged before, and what is left behind ----------------------------------------------------------------


def checks(database: Database, *, fix: bool) -> dict[str, tuple[str, bool]]:
    found = health.examine(database.place, None, fix=fix)
    return {check.subject: (check.said, check.fixed) for check in found if check.level != "ok"}


@on_both
def test_doctor_finds_and_mends_what_was_damaged_before(database: Database, backend: str) -> None:
    played(database, "idle", rename)
    now = study.get(database, "renamed")
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE trials SET state = 'RUNNING' WHERE number = 2"))
        connection.execute(sa.text("DELETE FROM trial_values"))
        if backend == "sqlite":
            connection.execute(
                sa.text("INSERT INTO trials (trial_id, number, study_id, state) VALUES (77, 0, 999, 'RUNNING')")
            )
    copy(now, "again")
    found = checks(database, fix=True)
    assert "another program made 1 copy: 'again' of 'renamed'" in found["copies"][0]
    assert found["endings"] == ("1 trial RUNNING for Optuna although lrsearch has its ending", True)
    if backend == "sqlite":
        assert found["trials without a study"] == ("1 trial of studies that Optuna no longer has", True)
    assert set(checks(database, fix=False)) <= {"copies", "trials", "artifacts"}
    assert states_of("renamed", database) == [TrialState.COMPLETE] * BUDGET


def test_whoever_opens_the_database_next_sweeps_what_a_deleted_study_left(tmp_path: Path, lrsearch: InProcess) -> None:
    small = ("--epochs", "1", "--quiet", "--threads", "1", "--trials", "1")
    assert lrsearch("run", "--name", "a", *small).code == 0
    files = list((tmp_path / "lrsearch.artifacts").iterdir())
    assert files
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        delete(study.get(database, "a"))
        assert lrsearch("run", "--name", "b", *small).code == 0
        assert study.names(database) == ["b"]
        assert rows(database, "SELECT count(*) FROM lrsearch_studies") == [(1,)]
    assert not any(file.exists() for file in files)

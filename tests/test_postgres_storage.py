"""Studies on a real PostgreSQL server: made by many at once, with few connections, through restarts and pauses."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from conftest import (
    BACKENDS,
    FakeEngine,
    claims_of,
    finished,
    learning,
    make_spec,
    on_both,
    rows,
    sentence,
    started,
    url_of,
    wait_until,
    working,
)
from optuna.study import StudyDirection
from postgres import Account, Server

from lrsearch.errors import EXIT_STORAGE, EXIT_USAGE, IdentityError, StorageError, UnknownNameError, UsageError
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, optuna_rows, tables
from lrsearch.store import study as studies
from lrsearch.store.opening import check_new, has_studies, study_names
from lrsearch.store.places import Place, PostgresServer, SqliteFile, parse_place
from lrsearch.store.storage import Database, open_existing

SPEC = make_spec(budget={"trials": 3})
N_WORKERS = 64


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that these tests stop and start; it runs at the end of each."""
    with Server.start(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def stoppable(own_server: Server) -> PostgresServer:
    """The place of an empty database on that server."""
    place = parse_place(own_server.create_database())
    assert isinstance(place, PostgresServer)
    return place


def searched(place: Place, spec: StudySpec = SPEC) -> None:
    with closing(Database(place)) as database:
        for _ in working(claims_of(filing.create(database, spec)), FakeEngine(learning)):
            pass


def budget_trials(database: Database) -> int | None:
    return database.read(lambda c: c.scalar(sa.select(tables.studies.c.budget_trials)))


def raise_budget(connection: sa.Connection) -> None:
    trials = tables.studies.c.budget_trials
    connection.execute(tables.studies.update().values(budget_trials=trials + 1))


def refused(action: Callable[[], object], *words: str) -> None:
    with pytest.raises(StorageError) as error:
        action()
    said = sentence(error)
    assert [word for word in words if word not in said] == [], said
    assert error.value.exit_code == EXIT_STORAGE


# --- made and found --------------------------------------------------------------------------------------------------


def test_an_empty_database_gets_studies_and_gives_them_back(postgres_url: str) -> None:
    place = parse_place(postgres_url)
    assert not has_studies(place)
    assert study_names(place) == set()
    refused(lambda: open_existing(place), "holds no lrsearch studies", "lrsearch run")
    assert not has_studies(place), "whoever looks makes nothing"
    filing.check(SPEC, place)
    searched(place)
    assert study_names(place) == {"probe"}
    with closing(open_existing(place)) as database:
        assert len(studies.get(database, None).trials()) == 3
        with pytest.raises(UnknownNameError, match="did you mean 'probe'"):
            studies.get(database, "prob")
        with pytest.raises(IdentityError, match="--name probe-2"):
            filing.create(database, make_spec(epochs=9))
        assert studies.delete(database, "probe") == 3
        assert studies.names(database) == []


def test_a_database_that_lacks_a_table_is_refused_and_not_asked_for_ever(postgres_url: str) -> None:
    place = parse_place(postgres_url)
    searched(place)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DROP TABLE lrsearch_interruptions")
    refused(lambda: open_existing(place), "lacks tables", "restore a backup")


def test_the_database_of_another_program_gets_no_studies(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE photos (id int)")
    refused(lambda: check_new(parse_place(postgres_url)), "another program", "photos", "--storage")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_scheme_opens_it(postgres_place: PostgresServer, scheme: str) -> None:
    url = url_of(postgres_place).replace("postgresql+psycopg", scheme, 1)
    with closing(Database(parse_place(url))) as database, database.reading() as connection:
        assert type(connection.connection.dbapi_connection).__module__.startswith("psycopg")
        assert connection.scalar(sa.text("SHOW timezone")) == "UTC"


def open_in_child(url: str, spec_json: str, gate: str) -> None:
    wait_until(Path(gate).exists)
    with closing(Database(parse_place(url))) as database:
        filing.create(database, StudySpec.model_validate_json(spec_json))


@pytest.mark.parametrize("backend", BACKENDS)
def test_sixteen_processes_that_make_the_same_database_at_once_all_have_it(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "x.db") if backend == "sqlite" else request.getfixturevalue("postgres_url")
    gate = tmp_path / "gate"
    processes = [started(open_in_child, url, SPEC.to_json(), str(gate)) for _ in range(16)]
    gate.touch()
    assert [finished(process) for process in processes] == [0] * 16
    with closing(open_existing(parse_place(url))) as database:
        assert studies.names(database) == ["probe"]
        assert database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(tables.schema))) == 1


@on_both
def test_of_a_study_that_two_file_at_the_same_time_one_is_written_and_nothing_of_the_other(database: Database) -> None:
    attrs = ({"spec": "x"}, {"metric": "y"})
    with database.writing() as connection:
        assert optuna_rows.create_study(connection, "twice", StudyDirection.MAXIMIZE, *attrs)
    with database.writing() as connection:
        assert not optuna_rows.create_study(connection, "twice", StudyDirection.MAXIMIZE, *attrs)
    assert rows(database, "SELECT count(*) FROM study_directions") == [(1,)]


# --- connections -----------------------------------------------------------------------------------------------------


def test_64_workers_fit_into_the_connections_that_a_server_has_by_default(
    postgres_server: Account, postgres_place: PostgresServer
) -> None:
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(postgres_server.url(), autocommit=True))
        databases = [stack.enter_context(closing(Database(postgres_place))) for _ in range(N_WORKERS)]
        filing.create(databases[0], SPEC)
        everyone_is_in = threading.Barrier(N_WORKERS)

        def work(database: Database) -> None:
            study = studies.get(database, None)
            study.trials()
            everyone_is_in.wait(60)
            for _ in range(3):
                database.write(raise_budget)
            study.budget()

        def connections() -> int:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
            (count,) = connection.execute(query, [postgres_place.url.database]).fetchone() or (0,)
            return int(count)

        most = 0
        with ThreadPoolExecutor(N_WORKERS) as threads:
            at_work = [threads.submit(work, database) for database in databases]
            while not all(one.done() for one in at_work):
                most = max(most, connections())
            assert [one.result() for one in at_work] == [None] * N_WORKERS
        assert budget_trials(databases[0]) == 3 + 3 * N_WORKERS
        assert connections() <= most <= N_WORKERS + 8


# --- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_was_restarted_between_two_transactions_is_not_noticed(
    own_server: Server, stoppable: PostgresServer, mode: str
) -> None:
    with closing(Database(stoppable)) as database:
        study = filing.create(database, SPEC)
        own_server.restart(mode)  # type: ignore[arg-type]
        database.write(raise_budget)
        own_server.restart(mode)  # type: ignore[arg-type]
        assert study.budget().trials == 4
        own_server.restart(mode)  # type: ignore[arg-type]
        assert studies.names(database) == ["probe"]


def test_whoever_has_patience_waits_for_a_server_that_is_down_and_says_so(
    own_server: Server, stoppable: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Database(stoppable, patience_seconds=60)) as database:
        study = filing.create(database, SPEC)
        asks: list[Callable[[], object]] = [
            lambda: database.write(raise_budget),
            lambda: database.read(lambda c: c.scalar(sa.text("SELECT 1"))),
            study.budget,
            study.trials,
            lambda: studies.names(database),
            lambda: studies.get(database, "probe"),
            lambda: Database(stoppable, patience_seconds=60).close(),
        ]
        for mode in ("fast", "immediate"):
            caplog.clear()
            own_server.stop(mode)  # type: ignore[arg-type]
            with ThreadPoolExecutor(len(asks)) as threads:
                answers = [threads.submit(ask) for ask in asks]
                wait_until(lambda: caplog.text.count("trying again for 60 s") == len(asks))
                assert not any(answer.done() for answer in answers)
                own_server.start_again()
                for answer in answers:
                    answer.result(60)
            assert caplog.text.count("answers again after") == len(asks)
        assert budget_trials(database) == 5
    assert own_server.password not in caplog.text


def test_a_transaction_that_the_restart_ends_is_run_again_once(own_server: Server, stoppable: PostgresServer) -> None:
    runs = 0

    def work(connection: sa.Connection) -> int:
        nonlocal runs
        runs += 1
        raise_budget(connection)
        if runs == 1:
            own_server.restart("immediate")
        return runs

    with closing(Database(stoppable, patience_seconds=60)) as database:
        filing.create(database, SPEC)
        assert database.write(work) == 2
        assert budget_trials(database) == 4


def test_without_patience_a_server_that_is_down_is_said_at_once(own_server: Server, stoppable: PostgresServer) -> None:
    with closing(Database(stoppable)) as database:
        study = filing.create(database, SPEC)
        own_server.stop()
        begun = time.monotonic()
        for action in (lambda: database.write(raise_budget), study.budget, lambda: studies.names(database),
                       lambda: open_existing(stoppable)):  # fmt: skip
            refused(action, "postgresql://lrsearch:***@127.0.0.1", "nothing listens there")
        assert time.monotonic() - begun < 10
        own_server.start_again()


def test_whoever_is_asked_to_leave_waits_no_longer(own_server: Server, stoppable: PostgresServer) -> None:
    with closing(Database(stoppable, patience_seconds=600)) as database:
        filing.create(database, SPEC)
        database.leaving = lambda: True
        own_server.stop()
        refused(lambda: database.write(raise_budget), "nothing listens there")
        own_server.start_again()


def test_a_password_that_is_changed_meanwhile_is_said_at_once(own_server: Server, stoppable: PostgresServer) -> None:
    with closing(Database(stoppable, patience_seconds=600)) as database:
        filing.create(database, SPEC)
        database.engine.dispose()
        with psycopg.connect(own_server.url(), autocommit=True) as connection:
            connection.execute("ALTER USER lrsearch PASSWORD 'another'")
            try:
                refused(lambda: database.write(raise_budget), "refused the user or the password")
            finally:
                connection.execute(
                    psycopg.sql.SQL("ALTER USER lrsearch PASSWORD {}").format(psycopg.sql.Literal(own_server.password))
                )
        assert budget_trials(database) == 3


# --- pauses ----------------------------------------------------------------------------------------------------------


def hold_the_budget(url: str, held: str) -> None:
    """In a child: take the lock of the budget, and be paused with it in hand; go on later."""
    with closing(Database(parse_place(url), patience_seconds=60)) as database:

        def work(connection: sa.Connection) -> None:
            raise_budget(connection)
            if not Path(held).exists():
                Path(held).touch()
                os.kill(os.getpid(), signal.SIGSTOP)

        database.write(work)


def test_a_process_paused_within_a_transaction_does_not_hold_up_the_others(
    postgres_place: PostgresServer, tmp_path: Path
) -> None:
    # The URL's own settings hold; without one it is 20 s.
    hasty = url_of(postgres_place) + "?options=-c%20idle_in_transaction_session_timeout%3D300ms"
    held = tmp_path / "held"
    with closing(Database(postgres_place)) as database:
        filing.create(database, SPEC)
        with database.reading() as connection:
            assert connection.scalar(sa.text("SHOW idle_in_transaction_session_timeout")) == "20s"
        process = started(hold_the_budget, hasty, str(held))
        try:
            wait_until(held.exists)
            database.write(raise_budget)
            assert budget_trials(database) == 4
        finally:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGCONT)
        assert finished(process) == 0, "it runs its transaction again"
        assert budget_trials(database) == 5


# --- one machine, many machines --------------------------------------------------------------------------------------


@on_both
def test_a_sqlite_file_is_for_one_machine_and_a_server_for_many(database: Database) -> None:
    place = database.place
    here = claims_of(filing.create(database, SPEC))
    other = filing.create(database, make_spec("other"))
    here.claim()
    elsewhere = claims_of(other)
    object.__setattr__(elsewhere.holder, "machine", "another kernel")
    if isinstance(place, SqliteFile):
        refused(
            elsewhere.claim,
            str(place),
            here.holder.host,
            "one",
            "PostgreSQL",
            "postgresql://user@host/database",
        )
        assert not other.trials()
        # Its worker row has expired, its lease has not: it trains on while its database was away.
        database.write(lambda c: c.execute(tables.workers.update().values(expires_at=sa.text("'2000-01-01'"))))
        refused(elsewhere.claim, "another machine")
        database.write(lambda c: c.execute(tables.leases.delete()))
    elsewhere.claim()
    assert len(other.trials()) == 1
    claims_of(other).claim() if not isinstance(place, SqliteFile) else refused(claims_of(other).claim, "one")


@on_both
def test_a_study_filed_by_another_lrsearch_is_refused_with_both_versions(database: Database) -> None:
    study = filing.create(database, SPEC)
    studies.check_version(study)
    database.write(lambda c: c.execute(tables.studies.update().values(version="99.7.1")))
    with pytest.raises(UsageError, match=r"lrsearch 99\.7\.1") as error:
        studies.check_version(study)
    assert error.value.exit_code == EXIT_USAGE
    assert "--name" in sentence(error)

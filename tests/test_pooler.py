"""Workers by way of a pooler in transaction mode: no statement of theirs counts on having a session to itself."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from conftest import (
    FakeEngine,
    Kill,
    claims_of,
    expire,
    finished,
    learning,
    make_spec,
    rows,
    started,
    work_in_child,
    working,
)
from pooler import needs_pgbouncer, pooled, through
from postgres import Account

from lrsearch.errors import StorageError
from lrsearch.store import study as studies
from lrsearch.store.opening import check_new
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database, open_existing

pytestmark = needs_pgbouncer

SPEC = make_spec(budget={"trials": 40})
N_WORKERS = 12
CONNECTIONS = 3
UNPREPARED = "?prepare_threshold=none"


@pytest.fixture
def pooler(postgres_server: Account) -> Iterator[int]:
    with pooled(postgres_server, CONNECTIONS, "ignore_startup_parameters = options") as port:
        yield port


def test_twelve_workers_on_three_connections_keep_the_budget_though_two_are_killed(
    postgres_server: Account, postgres_url: str, pooler: int
) -> None:
    url = through(postgres_url, postgres_server, pooler, UNPREPARED)
    kills = [Kill("start", "after"), Kill("accept", "after", 3)]
    # The tables are made through it too, by whoever comes first.
    workers = [started(work_in_child, url, SPEC.to_json(), kill) for kill in [*kills, *[None] * (N_WORKERS - 2)]]
    assert [finished(worker) for worker in workers] == [-9, -9, *[0] * (N_WORKERS - 2)]
    with closing(open_existing(parse_place(url))) as database:
        study = studies.get(database, None)
        expire(database)
        for _ in working(claims_of(study), FakeEngine(learning)):
            pass
        assert rows(database, "SELECT state, count(*) FROM lrsearch_slots GROUP BY 1") == [("ended", 40)]
        assert rows(database, "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')") == [(40,)]
        assert len({trial.number for trial in study.trials()}) == 40
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        (n,) = connection.execute(query, [parse_place(postgres_url).url.database]).fetchone() or (0,)
    assert 1 <= n <= CONNECTIONS


def test_a_pooler_that_refuses_our_settings_is_told_with_what_to_set_in_it(
    postgres_server: Account, postgres_url: str
) -> None:
    with pooled(postgres_server, CONNECTIONS) as port:
        place = parse_place(through(postgres_url, postgres_server, port))
        with pytest.raises(StorageError, match="ignore_startup_parameters = options"):
            check_new(place)
        with pytest.raises(StorageError, match="ignore_startup_parameters = options"):
            Database(place, patience_seconds=600)


def test_a_pooler_that_keeps_no_prepared_statements_is_told_with_the_parameter_that_helps(
    postgres_server: Account, postgres_url: str, pooler: int
) -> None:
    place = parse_place(through(postgres_url, postgres_server, pooler))

    def work() -> None:
        # psycopg prepares what it has run five times, unless a transaction was rolled back meanwhile.
        for _ in range(20):
            with closing(Database(place)) as database:
                for _ in range(14):
                    database.patiently(database.optuna.get_all_studies)

    with pytest.raises(StorageError, match=r"prepare_threshold=none"):
        work()

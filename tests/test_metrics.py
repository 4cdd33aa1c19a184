"""`/metrics` as Prometheus meets it: parsed, and equal to what `lrsearch status` says of the same study."""

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from bottle import Bottle
from command_line import InProcess, Running
from conftest import (
    CRASHED,
    ONE_SHAPE,
    FakeEngine,
    Kill,
    claimed,
    claims_of,
    complete,
    expire,
    finished,
    learning,
    leases_held,
    make_spec,
    measured,
    on_both,
    started,
    url_of,
    wait_until,
    work_in_child,
    working,
    write,
)
from postgres import Server
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from test_guard import ask

from lrsearch import __version__
from lrsearch.analysis.ranking import best
from lrsearch.dashboard import app as dashboard
from lrsearch.dashboard import metrics
from lrsearch.dashboard.guard import Access
from lrsearch.dashboard.metrics import ENDINGS, INTERRUPTING, KEPT_SECONDS, REST, Studies
from lrsearch.dashboard.store import Files
from lrsearch.report import status
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store import at_work, filing
from lrsearch.store import study as studies
from lrsearch.store.places import Place, parse_place
from lrsearch.store.storage import Database
from lrsearch.trial import Reason, State

pytest_plugins = ["command_line"]

SECRET = "correct horse battery"
PROXYLESS = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scraped:
    """What a scrape returned."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples: Samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }
        assert len(self.samples) == sum(len(family.samples) for family in self.families), "one sample twice"

    def get(self, name: str, **labels: str) -> float | None:
        return self.samples.get((f"lrsearch_{name}", tuple(sorted(labels.items()))))

    def of(self, name: str) -> list[float]:
        return [value for (known, _), value in self.samples.items() if known == f"lrsearch_{name}"]


def now(database: Database) -> Scraped:
    """Scrape without what an earlier scrape left."""
    app = Bottle()
    metrics.add(app, database)
    answer = ask(app, "GET", "/metrics")
    assert answer.status == 200
    return Scraped(answer.body.decode())


def fetched(url: str, **headers: str) -> Scraped:
    with PROXYLESS.open(urllib.request.Request(f"{url}/metrics", headers=headers), timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return Scraped(answer.read().decode())


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[tuple[Running, str]]:
    process = Running(("dashboard", "--port", "0"), folder, **environment)
    try:
        assert process.wait_for(lambda p: "\n" in p.read("stdout")), process.read("stderr")
        yield process, process.read("stdout").strip()
    finally:
        process.process.kill()
        process.process.wait()


def search(study: studies.Study) -> None:
    for _ in working(claims_of(study), FakeEngine(learning)):
        pass


def check_equal(seen: Scraped, document: Any, study: str = "probe") -> None:
    """Compare with what ``lrsearch status --json`` says."""
    for state in State:
        assert seen.get("trials", study=study, state=state.value) == document["counts"][state.value], state
    for state in ENDINGS:
        assert seen.get("trials_ended_total", study=study, outcome=state.value) == document["counts"][state.value]
    for reason in INTERRUPTING:
        said = document["interruptions"].get(reason.value, 0)
        assert seen.get("interruptions_total", study=study, reason=reason.value) == said, reason
    assert seen.get("budget_trials", study=study) == document["budget"]["trials"]
    assert seen.get("workers", study=study) == len(document["workers"])
    assert seen.get("interrupted_trials", study=study) == sum(row["interrupted"] for row in document["running"])
    objective = document["objective"]
    value = None if document["best"] is None else document["best"]["value"]
    assert seen.get("best_value", study=study, **objective) == value


def status_of(study: studies.Study) -> Any:
    """Return what ``lrsearch status --json`` prints."""
    return status.status_json(study.trials(), study.spec, study.budget(), at_work.living(study), at_work.stopped(study))


def is_over(study: studies.Study) -> bool:
    return status.is_over(study.trials(), study.budget(), at_work.living(study), at_work.stopped(study))


# --- what it counts --------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.slow
def test_it_says_what_status_says_after_every_event_of_a_search(database: Database, metric: str) -> None:
    space = {**ONE_SHAPE, "optimizer": {"sgd": {"peak_lr": {"low": 0.01, "high": 5.0, "log": True}}}}
    study = filing.create(database, make_spec(budget={"trials": 5}, objective={"metric": metric}, space=space))
    filing.create(database, make_spec("another"))
    epochs = 0
    for event in working(claims_of(study), FakeEngine(learning)):
        epochs += type(event).__name__ == "EpochDone"
        seen = now(database)
        check_equal(seen, status_of(study))
        assert seen.get("epochs_total", study="probe") == epochs
        assert seen.get("study_open", study="probe") == (not is_over(study))
        assert seen.get("leases", study="probe", state="held") == leases_held(database)
    seen = now(database)
    check_equal(seen, status_of(study))
    winner, ends = best(study.trials(), study.spec.metric.direction), [t.ended_at for t in study.trials()]
    assert winner is not None
    assert winner.outcome is not None
    assert winner.outcome.value is not None
    values = {t.outcome.value for t in study.trials() if t.outcome is not None and t.state == State.COMPLETE}
    assert len(values) > 1
    assert seen.get("trials", study="probe", state="diverged"), "a search with more than one kind of ending"
    assert seen.get("study_open", study="probe") == 0
    assert seen.get("last_end_timestamp_seconds", study="probe") == pytest.approx(max(e.timestamp() for e in ends if e))
    assert seen.get("trials_per_minute", study="probe") == 1.0
    # The one beside it, on which nothing has happened.
    assert seen.get("study_open", study="another") == 1
    assert seen.get("epochs_total", study="another") == 0
    assert seen.get("best_value", study="another", metric="accuracy", direction="maximize") is None
    assert seen.get("last_end_timestamp_seconds", study="another") is None


@on_both
def test_a_worker_that_is_killed_is_seen_and_its_lease_is_lost_when_another_takes_over(place: Place) -> None:
    spec = make_spec(budget={"trials": 2})
    with closing(Database(place)) as database:
        study = filing.create(database, spec)
        # Each epoch of its second trial but the first is never trained.
        child = started(work_in_child, url_of(place), spec.to_json(), Kill("accept", "after", 5))
        assert finished(child) == -9
        seen = now(database)
        check_equal(seen, status_of(study))
        assert seen.get("workers", study="probe") == 0
        assert seen.get("interrupted_trials", study="probe") == 1
        assert seen.get("leases", study="probe", state="expired") == 1
        assert seen.get("leases", study="probe", state="held") == 0
        assert seen.get("interruptions_total", study="probe", reason="lost") == 0, "nobody has taken it away yet"
        assert seen.get("study_open", study="probe") == 1
        claim = claimed(claims_of(study))
        assert claim.resumed
        seen = now(database)
        check_equal(seen, status_of(study))
        assert seen.get("interruptions_total", study="probe", reason="lost") == 1
        assert seen.get("interrupted_trials", study="probe") == 0
        assert seen.get("workers", study="probe") == 1
        assert (seen.get("leases", study="probe", state="held"), seen.get("epochs_total", study="probe")) == (1, 5)


@on_both
def test_a_worker_elsewhere_is_gone_when_its_lease_is_over(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    claims = claims_of(study)
    claim = claimed(claims)
    write(database, "UPDATE lrsearch_workers SET process_space = 'elsewhere', process_started = 1")
    assert now(database).get("workers", study="probe") == 1
    expire(database)
    seen = now(database)
    check_equal(seen, status_of(study))
    assert (seen.get("workers", study="probe"), seen.get("leases", study="probe", state="expired")) == (0, 1)
    # It was only slow: an accepted epoch renews the lease alone.
    claims.accept(claim, measured(1))
    seen = now(database)
    check_equal(seen, status_of(study))
    assert (seen.get("workers", study="probe"), seen.get("leases", study="probe", state="held")) == (1, 1)


def test_a_study_is_over_when_status_says_so(database: Database) -> None:
    spec = make_spec(budget={"trials": 3, "max_failures": 0}, workers={"retries": {"crash": 0}})
    study = filing.create(database, spec)
    claims = claims_of(study)
    seen = []

    def look() -> None:
        seen.append(now(database).get("study_open", study="probe"))
        assert seen[-1] == (not is_over(study))

    look()
    first, second = claimed(claims), claimed(claims_of(study))
    study.stop("drain")
    look()
    claims.end(first, complete())
    look()
    claims.release(second, Reason.PREEMPTED)
    look()
    study.stop(None)
    look()
    claims.end(claimed(claims), CRASHED)
    look()
    write(database, "UPDATE lrsearch_studies SET max_failures = 5")
    look()
    for _ in range(2):
        claims.end(claimed(claims), complete())
    look()
    study.set_budget(BudgetSpec(trials=4))
    look()
    assert seen == [1, 1, 1, 0, 1, 0, 1, 0, 1]


def test_a_budget_in_hours_is_told_in_seconds(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": None, "hours": 0.001}))
    claims = claims_of(study)
    claim = claimed(claims)
    claims.accept(claim, measured(1, seconds=1.5))
    seen = now(database)
    assert seen.get("budget_seconds", study="probe") == pytest.approx(3.6)
    assert seen.get("training_seconds_total", study="probe") == 1.5
    assert seen.get("budget_trials", study="probe") is None
    assert seen.get("study_open", study="probe") == 1
    claims.accept(claim, measured(2, seconds=2.5))
    claims.end(claim, complete())
    seen = now(database)
    assert (seen.get("study_open", study="probe"), is_over(study)) == (0, True)


@pytest.mark.parametrize("name", ['a "b" \\n\\c\\', "two\nlines", "ü/ö {x=1}", "<b>&amp;</b>", "_", " "])
def test_a_study_of_any_name_is_one_label(database: Database, name: str) -> None:
    filing.create(database, make_spec())
    app = dashboard.build(database, Files("nothing"), Access())
    body = json.dumps({"study_name": name}).encode()
    assert ask(app, "POST", "/api/studies/1/rename", body).status == 201
    found = ask(app, "GET", "/metrics")
    assert Scraped(found.body.decode()).get("study_open", study=name) == 1


def test_what_was_copied_or_deleted_or_is_not_ours_is_left_out(database: Database) -> None:
    import optuna

    study = filing.create(database, make_spec())
    filing.create(database, make_spec("gone"))
    url = url_of(database.place)
    optuna.create_study(study_name="plain", storage=database.optuna)
    optuna.copy_study(from_study_name="probe", to_study_name="copy", from_storage=url, to_storage=url)
    # As another tool does it, which leaves our rows behind.
    database.optuna.delete_study(database.optuna.get_study_id_from_name("gone"))
    claimed(claims_of(study))
    seen = now(database)
    assert {dict(labels).get("study") for _, labels in seen.samples} == {None, "probe"}
    check_equal(seen, status_of(study))


def test_the_parser_of_openmetrics_finds_nothing_wrong(database: Database) -> None:
    study = filing.create(database, make_spec())
    search(study)
    app = dashboard.build(database, Files("nothing"), Access())
    answer = ask(app, "GET", "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert (answer.header("Content-Type") or "").startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in read_openmetrics(answer.body.decode())}
    assert all(name.startswith("lrsearch_") and family.documentation for name, family in families.items())
    assert {name for name, family in families.items() if family.type == "counter"} == {
        "lrsearch_trials_ended",
        "lrsearch_epochs",
        "lrsearch_training_seconds",
        "lrsearch_interruptions",
    }
    (build,) = families["lrsearch_build_info"].samples
    assert build.labels == {"version": __version__}


def test_the_page_on_monitoring_names_every_metric_with_its_labels(database: Database) -> None:
    search(filing.create(database, make_spec(budget={"hours": 1.0, "trials": 2})))
    text = (Path(__file__).parents[1] / "docs" / "monitoring.md").read_text("utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `lrsearch_")]
    told = {
        name: set(re.findall(r"`(\w+)`", labels)) for names, labels in rows for name in re.findall(r"`(\w+)`", names)
    }
    seen = now(database)
    assert told == {name: {key for key, _ in labels} for name, labels in seen.samples}


# --- what it costs ---------------------------------------------------------------------------------------------------


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect what the database is asked, beyond whether it answers."""
    seen: list[str] = []

    def asked(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement not in ("SELECT 1", "BEGIN"):
            seen.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", asked)
    try:
        yield seen
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", asked)


def test_many_studies_cost_as_many_queries_as_one(database: Database) -> None:
    for n, name in enumerate(["first", *(f"study_{i}" for i in range(20))]):
        filing.create(database, make_spec(name))
        if n in (0, 20):
            with statements(database) as seen:
                assert len(now(database).of("study_open")) == n + 1
            assert len(seen) == 8
            assert all(one.startswith("SELECT") for one in seen)


def test_ten_scrapers_cost_one_look(database: Database) -> None:
    filing.create(database, make_spec())
    app = dashboard.build(database, Files("nothing"), Access())
    barrier, answers = threading.Barrier(10), list[bytes]()

    def scrape() -> None:
        barrier.wait()
        answers.append(ask(app, "GET", "/metrics").body)

    with statements(database) as seen:
        threads = [threading.Thread(target=scrape) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 8
    assert len(answers) == 10
    assert len(set(answers)) == 1


def test_numbers_that_took_long_are_shown_for_longer(database: Database) -> None:
    filing.create(database, make_spec())
    seconds = [0.0, 10.0]
    times = iter([*seconds, 10.0 + REST * 10.0 - 0.1, 10.0 + REST * 10.0, 51.0, 51.0 + KEPT_SECONDS, 60.0])
    collector = Studies(database, lambda: next(times))
    looks = []
    for _ in range(4):
        with statements(database) as seen:
            shown = {family.name: family.samples for family in collector.collect()}
        looks.append((bool(seen), shown["lrsearch_scrape_duration_seconds"][0].value))
    assert looks == [(True, 10.0), (False, 10.0), (True, 1.0), (False, 1.0)]


# --- who may look, and a database that is down -----------------------------------------------------------------------


@pytest.mark.slow
def test_over_postgresql_it_asks_for_the_password_and_says_when_the_server_is_down(
    tmp_path: Path, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    bearer = {"Authorization": f"Bearer {SECRET}"}
    with Server.start(tmp_path / "server") as server:
        url = server.create_database()
        monkeypatch.setenv("LRSEARCH_STORAGE", url)
        with closing(Database(parse_place(url))) as database:
            search(filing.create(database, make_spec(budget={"trials": 3})))
        with serving(tmp_path, LRSEARCH_STORAGE=url, LRSEARCH_DASHBOARD_PASSWORD=SECRET) as (process, address):
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    fetched(address, **headers)
                refused.value.close()
                assert refused.value.code == 401
            well = fetched(address, **bearer)
            assert well.get("up") == 1
            check_equal(well, lrsearch("status", "--json").document)
            server.stop("immediate")
            wait_until(lambda: fetched(address, **bearer).get("up") == 0)
            down = fetched(address, **bearer)
            kept = {"lrsearch_up", "lrsearch_build_info", "lrsearch_scrape_duration_seconds"}
            assert {name for name, _ in down.samples} == kept, "nothing is made up"
            server.start_again()
            wait_until(lambda: fetched(address, **bearer).get("up") == 1)
            assert fetched(address, **bearer).get("study_open", study="probe") == 0
            err = process.read("stderr")
            assert err.count("lrsearch: postgresql://") == 1, err
            assert server.password not in err + str(well.samples)


@pytest.mark.slow
def test_while_a_real_search_runs(tmp_path: Path, lrsearch: InProcess) -> None:
    assert lrsearch("run", "--trials", "8", "--epochs", "2", "--detach").code == 0
    with serving(tmp_path) as (_, address):
        worker = Running(("worker", "--study", "digits", "--quiet"), tmp_path)
        ended = list[float]()

        def over() -> bool:
            ended.append(sum(fetched(address).of("trials_ended_total")))
            return ended[-1] == 8

        # Its counts are a moment old: the worker may be gone before they are those of its last trial.
        wait_until(over)
        assert worker.result().code == 0
        assert ended == sorted(ended)
        wait_until(lambda: fetched(address).get("workers", study="digits") == 0)
        seen = fetched(address)
        check_equal(seen, lrsearch("status", "--json").document, "digits")
        trials = lrsearch("trials", "-f", "json").document["trials"]
        assert seen.get("epochs_total", study="digits") == sum(len(t["metrics"]) for t in trials)
        assert seen.get("study_open", study="digits") == 0


def test_a_file_that_is_gone_is_said_once_and_not_made_anew(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    filing.create(database, make_spec())
    clock = [0.0]
    collector = Studies(database, lambda: clock[0])
    path = Path(str(database.place))
    database.close()
    ups = []
    for move in (
        lambda: None,
        lambda: path.rename(f"{path}.away"),
        lambda: None,
        lambda: Path(f"{path}.away").rename(path),
    ):
        move()
        clock[0] += KEPT_SECONDS
        ups.append({family.name: family.samples for family in collector.collect()}["lrsearch_up"][0].value)
    assert ups == [1, 0, 0, 1]
    # By identity: pytest may hear one twice.
    said = {id(record): record.getMessage() for record in caplog.records}
    assert list(said.values()) == [f"{path}: there is no such study database any more"]

"""`lrsearch dashboard` as a person meets it: real servers, a real browser, a real search beside it."""

import json
import os
import re
import shutil
import signal
import socket
import threading
import urllib.error
import urllib.request
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from browser import chromium, looking, needs_chromium
from command_line import InProcess, Running, one_line
from conftest import (
    ONE_SHAPE,
    FakeEngine,
    claimed,
    claims_of,
    learning,
    make_spec,
    score_by_hand,
    sweep,
    url_of,
    wait_until,
    working,
)
from playwright.sync_api import Browser
from playwright.sync_api import Error as BrowserError
from postgres import Account, Server
from test_guard import ask
from trials_by_hand import spec, trial

from lrsearch.dashboard import app as dashboard
from lrsearch.dashboard import picture
from lrsearch.dashboard.current import Current, report_url_of, update_url_of
from lrsearch.dashboard.guard import Access
from lrsearch.dashboard.store import Files
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.places import Place, parse_place
from lrsearch.store.storage import Database
from lrsearch.trial import State

pytest_plugins = ["command_line"]
pytestmark = pytest.mark.filterwarnings("ignore:Some regimes for parameter")

SECRET = "correct horse battery"
PROXYLESS = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with PROXYLESS.open(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@contextmanager
def serving(folder: Path, *options: str, **environment: str) -> Iterator[tuple[Running, str]]:
    """Serve what lies in a folder; yields the process and its address."""
    process = Running(("dashboard", "--port", "0", *options), folder, **environment)
    try:
        assert process.wait_for(lambda p: "\n" in p.read("stdout")), process.read("stderr")
        yield process, process.read("stdout").strip()
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait()


def search(study: studies.Study) -> None:
    for _ in working(claims_of(study), FakeEngine(learning)):
        pass


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_asked_to_leave(
    database: Database, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with serving(tmp_path) as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        assert get(f"{url}/healthz")[0] == 200
        status, headers, _ = get(f"{url}/lr")
        assert (status, headers.get("Server")) == (200, None)
        assert get(f"{url}/lr", Host="evil.example")[0] == 403
        process.send(number)
        result = process.result()
        assert result.code == code, result.err
        assert result.err == f"lrsearch.db is shown there, the reports of its studies at {url}/lr; Ctrl-C ends it\n"
    with pytest.raises(urllib.error.URLError):
        get(f"{url}/healthz")


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--storage", "nothing.db"], 4, "there is no such study database"),
        (["--host", "0.0.0.0"], 2, "LRSEARCH_DASHBOARD_PASSWORD"),
        (["--host", "no such host"], 2, "--host must be an address of this machine"),
        (["--host", "192.0.2.7", "--password-file", "password"], 1, "cannot listen at 192.0.2.7"),
        (["--password-file", "short"], 2, "at least 12 characters"),
        (["--password-file", "nothing"], 2, "cannot be read"),
        (["--storage", "postgresql://me:secret@localhost/lr"], 2, "must not hold a password"),
        (["--port", "70000"], 2, "at most 65535"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_sentence(
    lrsearch: InProcess, database: Database, argv: list[str], code: int, says: str
) -> None:
    for name, text in (("password", SECRET), ("short", "secret")):
        Path(name).write_text(text)
        Path(name).chmod(0o600)
    result = lrsearch("dashboard", *argv)
    assert result.code == code
    last = f"lrsearch: {result.err.rpartition('lrsearch: ')[2]}"
    assert last.count("\n") == 1
    assert says in last
    assert "secret" not in last.replace("import secrets; print(secrets", "")


def test_a_taken_port_is_said(lrsearch: InProcess, database: Database) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = lrsearch("dashboard", "--port", str(port))
    assert result.code == 1
    assert f"port {port}: Address already in use; --port 0" in one_line(result)


def test_the_password_is_nowhere_to_be_seen(database: Database, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET)
    (tmp_path / "password").chmod(0o600)
    filing.create(database, make_spec())
    options = ("--host", "0.0.0.0", "--password-file", "password", "--json", "--read-only")
    process = Running(("dashboard", "--port", "0", *options), tmp_path)
    try:
        assert process.wait_for(lambda p: "}" in p.read("stdout"))
        document = json.loads(process.read("stdout"))
        assert (document["schema"], document["password"], document["read_only"]) == ("lrsearch/dashboard/1", True, True)
        url = document["url"]
        assert get(f"{url}/lr")[0] == 401
        pages = [get(f"{url}{path}", Authorization=f"Bearer {SECRET}") for path in ("/lr", "/lr/probe", "/dashboard")]
        assert [status for status, _, _ in pages] == [200] * 3
        statuses = [get(f"{url}/lr", Authorization="Bearer wrong")[0] for _ in range(9)]
        assert statuses == [401] * 5 + [429] * 4
        assert get(f"{url}/lr", Authorization=f"Bearer {SECRET}")[0] == 429
        seen = psutil.Process(process.process.pid)
        assert SECRET not in " ".join(seen.cmdline())
        process.send(signal.SIGTERM)
        result = process.result()
    finally:
        process.process.kill()
    assert "TLS" in result.err
    assert "too many wrong passwords from 127.0.0.1" in result.err
    assert SECRET not in result.out + result.err + str(pages)


# --- before the first study ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--read-only",)], ids=["writing", "read-only"])
def test_over_an_empty_database_of_a_server_it_comes_up_and_shows_the_first_study_when_there_is_one(
    tmp_path: Path, postgres_url: str, options: tuple[str, ...]
) -> None:
    with serving(tmp_path, *options, LRSEARCH_STORAGE=postgres_url) as (process, url):
        assert get(f"{url}/healthz")[0] == 200
        status, _, page = get(f"{url}/lr")
        assert (status, b"There is no study yet" in page) == (200, True)
        assert json.loads(get(f"{url}/api/studies")[2])["study_summaries"] == []
        seen = get(f"{url}/metrics")[2].decode()
        assert "lrsearch_up 1.0" in seen
        assert "study=" not in seen
        with closing(Database(parse_place(postgres_url))) as database:
            filing.create(database, make_spec())
        assert b"/lr/probe" in get(f"{url}/lr")[2]
        assert get(f"{url}/lr/probe")[0] == 200
        assert len(process.read("stderr").splitlines()) == 1


def test_dashboards_and_workers_that_start_together_on_an_empty_database_all_come_up(
    tmp_path: Path, postgres_url: str
) -> None:
    with ExitStack() as standing:
        commands = [("dashboard", "--port", "0")] * 2 + [("worker", "--exit-when-idle")] * 2
        both = [Running(argv, tmp_path, LRSEARCH_STORAGE=postgres_url) for argv in commands]
        for one in both:
            standing.callback(one.process.wait)
            standing.callback(one.process.kill)
        for worker in both[2:]:
            assert worker.result().code == 0, worker.read("stderr")
        for board in both[:2]:
            assert board.wait_for(lambda p: "\n" in p.read("stdout")), board.read("stderr")
            assert get(f"{board.read('stdout').strip()}/healthz")[0] == 200


@pytest.fixture
def reader(postgres_server: Account, postgres_url: str) -> Iterator[str]:
    """The URL of an empty database for a user who may read whatever will be in it, and make nothing."""
    name = f"reader_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'of a reader'".encode())
        connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {name}".encode())
        yield postgres_url.replace(postgres_url.partition("//")[2].partition("@")[0], f"{name}:of%20a%20reader")
        connection.execute(f"DROP OWNED BY {name}".encode())
        connection.execute(f"DROP ROLE {name}".encode())


def test_who_may_make_no_tables_is_told_so_in_one_sentence_and_sees_them_once_they_are_there(
    tmp_path: Path, lrsearch: InProcess, postgres_url: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRSEARCH_STORAGE", reader)
    result = lrsearch("dashboard", "--port", "0", "--read-only")
    assert result.code == 4
    assert "grant CREATE" in one_line(result)
    assert "of%20a" not in result.err
    with closing(Database(parse_place(postgres_url))) as database:
        search(filing.create(database, make_spec(budget={"trials": 2})))
    with serving(tmp_path, "--read-only", LRSEARCH_STORAGE=reader) as (_, url):
        assert b"/lr/probe" in get(f"{url}/lr")[2]
        assert {get(f"{url}{path}")[0] for path in ("/lr/probe", "/api/studies/1", "/dashboard", "/metrics")} == {200}


def test_another_programs_database_is_not_taken_for_an_empty_one(
    lrsearch: InProcess, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE invoices (id integer)")
        monkeypatch.setenv("LRSEARCH_STORAGE", postgres_url)
        result = lrsearch("dashboard", "--port", "0")
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert (result.code, tables) == (4, [("invoices",)])
    assert "another program's database (with invoices)" in one_line(result)


# --- what it shows, in this process ----------------------------------------------------------------------------------


@pytest.fixture
def shown(database: Database) -> Any:
    """The application over a database with a study of some trials, and the study."""
    study = filing.create(database, make_spec(budget={"trials": 3}))
    search(study)
    return dashboard.build(database, Files(str(database.place) + ".files"), Access()), study


def detail(app: Any, study_id: int = 1) -> Any:
    return ask(app, "GET", f"/api/studies/{study_id}").document


def test_the_study_has_the_answer_as_its_note_and_the_spec_as_attributes(shown: Any) -> None:
    app, study = shown
    found = detail(app)
    winner = max(study.trials(), key=lambda t: t.outcome.value if t.outcome and t.outcome.value else 0)
    assert f"is trial {winner.number}" in found["note"]["body"]
    assert "```python" in found["note"]["body"]
    assert "(/lr/probe)" in found["note"]["body"]
    attrs = {attr["key"]: attr["value"] for attr in found["user_attrs"]}
    assert attrs["spec epochs"] == "4"
    assert attrs["spec sampler.name"] == "random"
    assert attrs["space peak_lr_sgd"] == "0.001 to 3 (log) (optimizer = sgd)"
    assert "lrsearch:spec" not in attrs
    (summary,) = ask(app, "GET", "/api/studies").document["study_summaries"]
    assert summary["user_attrs"] == found["user_attrs"], "a page takes them from the one or the other"
    (plot,) = found["plotly_graph_objects"]
    assert sum(len(trace["x"]) for trace in json.loads(plot["graph_object"])["data"]) == 3


def test_a_note_that_a_person_saves_takes_the_place_of_ours(shown: Any) -> None:
    app, study = shown
    version = detail(app)["note"]["version"]
    mine = json.dumps({"version": version + 1, "body": "mine"}).encode()
    assert ask(app, "PUT", "/api/studies/1/note", mine).status == 204
    study.set_budget(BudgetSpec(trials=4))
    search(study)
    assert detail(app)["note"] == {"version": version + 1, "body": "mine"}
    again = json.dumps({"version": version + 2, "body": ""}).encode()
    assert ask(app, "PUT", "/api/studies/1/note", again).status == 204
    assert "is trial" in detail(app)["note"]["body"]
    first = detail(app)["trials"][0]
    mine = json.dumps({"version": 1, "body": "of this trial"}).encode()
    assert ask(app, "PUT", f"/api/studies/1/{first['trial_id']}/note", mine).status == 204
    assert detail(app)["trials"][0]["note"]["body"] == "of this trial"


def test_every_trial_has_its_picture_and_its_epochs(shown: Any) -> None:
    app, study = shown
    for row, t in zip(detail(app)["trials"], study.trials(), strict=True):
        curves, *epochs = row["artifacts"]
        drawn = ask(app, "GET", f"/artifacts/1/{row['trial_id']}/{curves['artifact_id']}")
        assert (drawn.status, drawn.header("Content-Type")) == (200, "image/svg+xml")
        assert f"trial {t.number}: " in drawn.body.decode()
        assert row["note"]["body"].endswith(f"](/artifacts/1/{row['trial_id']}/{curves['artifact_id']})")

        if t.metrics:
            table = ask(app, "GET", f"/artifacts/1/{row['trial_id']}/{epochs[0]['artifact_id']}").body.decode()
            assert len(table.splitlines()) == 1 + len(t.metrics)
            assert table.startswith("epoch,step,lr,train_loss,")
    assert ask(app, "GET", "/artifacts/1/99/curves-1-1").status == 404
    assert ask(app, "GET", "/artifacts/2/1/curves-1-1").status == 404
    assert ask(app, "DELETE", f"/api/artifacts/1/1/{curves['artifact_id']}").status in (404, 405)


def test_a_trial_that_is_being_trained_is_drawn_anew_after_every_epoch(database: Database, tmp_path: Path) -> None:
    study = filing.create(database, make_spec(space={**ONE_SHAPE, "optimizer": {"sgd": {"peak_lr": 0.1}}}))
    app = dashboard.routes(database, Files(str(tmp_path / "files")))
    seen = []
    events = working(claims_of(study), FakeEngine(learning))
    for event in events:
        if type(event).__name__ == "EpochDone":
            app._inmemory_cache.clear()  # as its two seconds do
            row = detail(app)["trials"][0]
            name = row["artifacts"][0]["artifact_id"]
            seen.append(name)
            body = ask(app, "GET", f"/artifacts/1/{row['trial_id']}/{name}").body.decode()
            assert f"so far: {10 * len(seen)} updates" in body
            if len(seen) == 3:
                break
    events.close()
    assert seen == ["curves-1-0", "curves-2-0", "curves-3-0"]


def test_renaming_copies_nothing_of_ours_and_deleting_works(shown: Any) -> None:
    app, study = shown
    before = study.trials()
    for name in ("a b", "ü/ö", "..", "a/../b", "x/", "50 %?#&=+", "/lr", "<b>&amp;</b>"):
        found = ask(app, "GET", "/api/studies").document["study_summaries"][0]
        body = json.dumps({"study_name": name}).encode()
        assert ask(app, "POST", f"/api/studies/{found['study_id']}/rename", body).status == 201, name
        renamed = studies.get(study.database, name)
        assert renamed.trials() == before
        assert renamed.spec.identity_hash() == study.spec.identity_hash()
        index = ask(app, "GET", "/lr").body.decode()
        links = [link.replace("&amp;", "&").replace("&#34;", '"') for link in re.findall(r'href="(/lr[^"]*)"', index)]
        assert links == [report_url_of(name)]
        assert "<b>" not in index
        assert ask(app, "GET", links[0]).status == 200, name
        update = ask(app, "GET", update_url_of(name))
        assert (update.status, update.document["study"]) == (200, name)
    rows = studies.get(study.database, "<b>&amp;</b>")
    with study.database.reading() as connection:
        kept = connection.exec_driver_sql("SELECT key FROM study_user_attributes").scalars().all()
        system = connection.exec_driver_sql("SELECT key FROM trial_system_attributes").scalars().all()
    assert sorted(kept) == ["lrsearch:id", "lrsearch:spec"]
    assert not [key for key in system if "artifact" in key]
    assert ask(app, "DELETE", f"/api/studies/{rows.optuna_id}", b"{}").status == 204
    assert ask(app, "GET", report_url_of("<b>&amp;</b>")).status == 404


def test_the_update_says_when_there_is_nothing_new(shown: Any) -> None:
    app, study = shown
    first = ask(app, "GET", "/lr/probe?update")
    etag = first.header("ETag") or ""
    assert first.status == 200
    for known in (etag, f"W/{etag}", f'"x", {etag}'):
        again = ask(app, "GET", "/lr/probe?update", if_none_match=known)
        assert (again.status, again.body, again.header("ETag")) == (304, b"", etag)
    study.set_budget(BudgetSpec(trials=4))
    search(study)
    wait_until(lambda: ask(app, "GET", "/lr/probe?update", if_none_match=etag).status == 200)
    assert ask(app, "GET", "/lr/nobody?update").status == 404


def test_everything_that_changes_is_news(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    current = Current(lambda: 0.0)  # takes no time, so that nothing rests
    seen = [current.of(study).etag]
    for event in working(claims_of(study), FakeEngine(learning)):
        kind = type(event).__name__
        seen.append(current.of(study).etag)
        assert seen[-1] != seen[-2] or kind == "SearchEnded", kind
        assert current.of(study).etag == seen[-1]
    winner = max(t.number for t in study.trials())
    for change in (
        lambda: study.set_budget(BudgetSpec(trials=3)),
        lambda: claimed(claims_of(study)),
        lambda: sweep(database),
        lambda: score_by_hand(study, winner, 0.1, 0.9),
        lambda: study.set_budget(BudgetSpec(trials=9)),
        lambda: study.stop("drain"),
    ):
        change()
        seen.append(current.of(study).etag)
        assert seen[-1] != seen[-2]


def test_a_state_that_rests_is_not_shown_under_a_name_of_before(shown: Any) -> None:
    app, study = shown
    ticks = count()
    current = Current(lambda: float(next(ticks)))  # reading takes a second, so that a state rests for four
    before = current.of(study)
    assert current.of(study) is before
    ask(app, "POST", "/api/studies/1/rename", json.dumps({"study_name": "renamed 17"}).encode())
    assert json.loads(current.of(studies.get(study.database, "renamed 17")).update())["study"] == "renamed 17"


def test_ten_viewers_cost_one_build(shown: Any) -> None:
    _, study = shown
    current = Current()
    built: list[Any] = []
    barrier = threading.Barrier(10)

    def look() -> None:
        barrier.wait()
        built.append(current.of(study))

    threads = [threading.Thread(target=look) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 10
    assert len(set(map(id, built))) == 1
    assert len({id(one.page()) for one in built}) == 1


def test_a_study_of_plain_optuna_and_one_that_cannot_be_read_are_left_as_they_are(shown: Any) -> None:
    import optuna

    app, study = shown
    optuna.create_study(study_name="plain", storage=study.database.optuna)
    plain = detail(app, 2)
    assert (plain["note"]["body"], plain["user_attrs"], plain["plotly_graph_objects"]) == ("", [], [])
    with study.database.writing() as connection:
        connection.exec_driver_sql("UPDATE study_user_attributes SET value_json = '\"{}\"' WHERE key = 'lrsearch:spec'")
    assert detail(app)["note"]["body"] == ""
    assert len(detail(app)["trials"]) == 3


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("epochs", [0, 1, 7])
def test_every_kind_of_trial_can_be_drawn(state: State, epochs: int) -> None:
    made = trial(3, state, [0.5] * max(epochs, 1), message="\x1b[31m<b> & \x00" + "very long " * 50)
    if not epochs:
        made = replace(made, metrics=())
    root = ET.fromstring(picture.svg(made, spec()))
    words = " ".join(root.itertext())
    assert "trial 3: sgd peak_lr=0.1 constant batch=32" in words
    assert "Learning rate: " in words
    marks = len(root.findall(".//{http://www.w3.org/2000/svg}circle"))
    legend = epochs > 0
    end = state == State.DIVERGED or (epochs > 0 and state != State.COMPLETE)
    assert marks == epochs + legend + end
    assert len(picture.epochs_csv(made).splitlines()) == 1 + epochs


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def served(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the dashboard of a real study of 50 trials, which may be written to."""
    folder = tmp_path_factory.mktemp("served")
    copy(searched, folder)
    with serving(folder, "--read-only") as (_, url):
        yield url


def copy(searched: Path, folder: Path) -> None:
    shutil.copy(searched / "lrsearch.db", folder)
    shutil.copytree(searched / "lrsearch.artifacts", folder / "lrsearch.artifacts", dirs_exist_ok=True)


@needs_chromium
def test_optuna_dashboard_shows_the_study_with_what_is_ours(served: str, browser: Browser) -> None:
    trials = json.loads(get(f"{served}/api/studies/1")[2])["trials"]
    assert len(trials) == 50
    with looking(browser, viewport={"width": 1400, "height": 1000}) as seen:
        page = seen.page
        page.goto(f"{served}/")
        page.get_by_text("digits").first.click()
        page.get_by_text("Study User Attributes").wait_for()
        page.get_by_text("spec epochs").wait_for()
        page.get_by_text("Accuracy against peak learning rate").wait_for()
        page.wait_for_function(
            "document.querySelectorAll('[id=\"user-defined-plot:accuracy-against-lr\"] .point').length == 50"
        )
        seen.picture("dashboard study")
        page.goto(f"{served}/dashboard/studies/1/note")
        page.get_by_text("The best of 50 trials").wait_for()
        page.get_by_text("torch.optim").first.wait_for()
        seen.picture("dashboard note")
        assert page.get_by_text("The whole report").get_attribute("href") == "/lr/digits"
        page.goto(f"{served}/dashboard/studies/1/trials?numbers=7")
        page.wait_for_function("document.querySelectorAll('img').length == 2")
        page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth == 720)")
        assert "/curves-" in (page.locator("img").first.get_attribute("src") or "")
        seen.picture("dashboard trial")
        assert seen.errors == []
        assert seen.outside() == []
        assert len(seen.requests) > 10


@needs_chromium
def test_a_read_only_page_has_no_buttons_that_change_anything(
    served: str, searched: Path, tmp_path: Path, browser: Browser
) -> None:
    copy(searched, tmp_path)
    with serving(tmp_path) as (_, writable), looking(browser, viewport={"width": 1400, "height": 1000}) as seen:
        page, found = seen.page, {}
        for url in (writable, served):
            page.goto(f"{url}/dashboard")
            page.get_by_text("digits").first.wait_for()
            at_list = [page.get_by_role("button", name=name).count() for name in ("Reload", "Create", "delete study")]
            page.goto(f"{url}/dashboard/studies/1/note")
            page.get_by_text("The best of 50 trials").wait_for()
            found[url] = (*at_list, page.locator("button:visible:has([data-testid=EditIcon])").count())
            banner = page.evaluate("getComputedStyle(document.body, '::after').content")
            assert (banner == '"read-only"') == (url == served)
        assert found[writable] == (1, 1, 1, 1)
        assert found[served] == (1, 0, 0, 0)  # Reload is left


@needs_chromium
def test_the_report_keeps_itself_up_to_date_while_a_search_runs(
    searched: Path, tmp_path: Path, browser: Browser
) -> None:
    copy(searched, tmp_path)
    with serving(tmp_path) as (_, url), looking(browser) as seen:
        page = seen.page
        page.goto(f"{url}/lr/digits")
        page.get_by_text("50 trials").first.wait_for()
        before = json.loads(get(f"{url}/lr/digits?update")[2])
        assert sum(before["states"].values()) == 50
        run = Running(("run", "--trials", "53", "--quiet"), tmp_path)
        page.get_by_text("53 trials").first.wait_for(timeout=60_000)
        assert run.result().code == 0
        seen.picture("report live")
        assert seen.errors == []
        assert seen.outside() == []


@needs_chromium
def test_the_list_of_studies_can_be_used_by_everyone(served: str, browser: Browser) -> None:
    for scheme in ("light", "dark"):
        with looking(browser, color_scheme=scheme) as seen:
            page = seen.page
            page.goto(f"{served}/lr")
            assert seen.violations() == []
            controls = page.locator("a, button, input, select, [tabindex]").count()
            assert controls == 4
            reached = set()
            for _ in range(controls):
                page.keyboard.press("Tab")
                reached.add(page.evaluate("document.activeElement.outerHTML"))
            assert len(reached) == controls
            page.get_by_role("link", name="digits", exact=True).focus()
            seen.picture(f"list of studies {scheme}")
            page.keyboard.press("Enter")
            page.wait_for_url("**/lr/digits")
            assert seen.errors == []
            assert seen.outside() == []


@needs_chromium
def test_a_browser_asks_for_the_password(database: Database, tmp_path: Path, browser: Browser) -> None:
    search(filing.create(database, make_spec(budget={"trials": 3})))
    with serving(tmp_path, LRSEARCH_DASHBOARD_PASSWORD=SECRET) as (process, url):
        with looking(browser) as stranger, pytest.raises(BrowserError, match="ERR_INVALID_AUTH_CREDENTIALS"):
            stranger.page.goto(f"{url}/lr")
        with looking(browser, http_credentials={"username": "me", "password": SECRET}) as seen:
            seen.page.goto(f"{url}/dashboard/studies/1/trials?numbers=0")
            seen.page.wait_for_function("document.images.length && document.images[0].naturalWidth == 720")
            seen.page.goto(f"{url}/lr/probe")
            assert SECRET not in seen.page.content()
            # Chromium says in its console whenever it is asked for a password, also where it then has one.
            assert [e for e in seen.errors if "401 (Unauthorized)" not in e] == []
        assert os.environ.get("LRSEARCH_DASHBOARD_PASSWORD") is None
        assert SECRET not in process.read("stderr") + process.read("stdout")


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def test_over_postgresql(postgres_place: Place, tmp_path: Path) -> None:
    with closing(Database(postgres_place)) as database:
        search(filing.create(database, make_spec(budget={"trials": 3})))
    url = url_of(postgres_place)
    with serving(tmp_path, LRSEARCH_STORAGE=url, LRSEARCH_ARTIFACTS=str(tmp_path)) as (process, address):
        assert get(f"{address}/healthz")[0] == 200
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(get(f"{address}/api/studies/1")[0])) for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 24, "as many at once as there are threads"
        found = json.loads(get(f"{address}/api/studies/1")[2])
        first = found["trials"][0]
        drawn = f"{address}/artifacts/1/{first['trial_id']}/{first['artifacts'][0]['artifact_id']}"
        pages = [get(drawn), get(f"{address}/lr"), get(f"{address}/lr/probe"), get(f"{address}/lr/probe?update")]
        assert [status for status, _, _ in pages] == [200] * 4
        password = urlsplit(url).password
        assert password is not None
        said = process.read("stdout") + process.read("stderr") + "".join(str(page) for page in pages)
        assert password not in said
        assert "***" in process.read("stderr")


def test_it_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    with Server.start(tmp_path / "server") as server:
        url = server.create_database()
        with closing(Database(parse_place(url))) as database:
            search(filing.create(database, make_spec(budget={"trials": 2})))
        with serving(tmp_path, LRSEARCH_STORAGE=url) as (process, address):
            assert get(f"{address}/lr/probe?update")[0] == 200
            server.stop("immediate")
            assert get(f"{address}/healthz")[0] == 503
            status, _, body = get(f"{address}/lr/probe?update")
            assert status == 503
            assert body.count(b"\n") == 1
            assert get(f"{address}/api/studies")[0] == 500
            server.start_again()
            wait_until(lambda: get(f"{address}/healthz")[0] == 200)
            assert get(f"{address}/lr/probe?update")[0] == 200
            assert get(f"{address}/api/studies/1")[0] == 200
            for _ in range(2):
                server.restart("immediate")
                # What lay in the pool is found out before it is used.
                for page in ("api/studies", "api/studies/1", "lr", "lr/probe?update"):
                    assert get(f"{address}/{page}")[0] == 200, page
            err = process.read("stderr")
            assert "Traceback" not in err
            assert server.password not in err

"""The dashboard's application in this process: who may do what, on every route that there is."""

import base64
import io
import json
import logging
import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mounts
import pytest
from conftest import (
    DEADLINE_SECONDS,
    FakeEngine,
    claims_of,
    finished,
    learning,
    make_spec,
    sentence,
    started,
    working,
)

from lrsearch.dashboard import app as dashboard
from lrsearch.dashboard import password as passwords
from lrsearch.dashboard.guard import ALWAYS, BUCKETS, Access, Guard
from lrsearch.dashboard.password import Password
from lrsearch.dashboard.store import Files
from lrsearch.errors import UsageError
from lrsearch.store import filing
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database

SECRET = "correct horse bättery"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")

# Optuna's, of importances that rest on few trials.
pytestmark = pytest.mark.filterwarnings("ignore:Some regimes for parameter")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def ask(app: Any, method: str, url: str, body: bytes = b"", address: str = "127.0.0.1", **headers: str) -> Answer:
    """Ask an application as a server does."""
    path, _, query = url.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote(path).encode().decode("latin-1"),
        "QUERY_STRING": query,
        "REMOTE_ADDR": address,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost:8080",
        "HTTP_ACCEPT_ENCODING": "",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
    }
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    parts = app(environ, lambda status, found, exc_info=None: begun.append((status, found)))
    try:
        content = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    ((status, found),) = begun
    return Answer(int(status.split()[0]), found, content)


def basic(password: str, user: str = "me") -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a study of some trials, to copy."""
    path = tmp_path_factory.mktemp("template") / "lrsearch.db"
    with closing(Database(SqliteFile(path))) as database:
        study = filing.create(database, make_spec(budget={"trials": 3}))
        for _ in working(claims_of(study), FakeEngine(learning)):
            pass
    return path


@pytest.fixture
def shown(template: Path, tmp_path: Path) -> Iterator[Database]:
    """A database of one's own with that study."""
    shutil.copy(template, tmp_path / "lrsearch.db")
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        yield database


def guarded(database: Database, **access: Any) -> Guard:
    return dashboard.build(database, Files(str(database.place) + ".files"), Access(**access))


def every_route(database: Database) -> list[tuple[str, str]]:
    """Return (method, a path that it takes) of every route of the application."""
    app = dashboard.routes(database, Files("nothing"))
    found = []
    for route in app.routes:
        path = re.sub(r"<:re:[^>]*>", "", route.rule)
        path = re.sub(r"<[^>]*:int>", "1", path)
        path = re.sub(r"<[^>]*re:[^>]*>", "0", path)
        path = re.sub(r"<[^>]*>", "x", path)
        matched, _ = app.match({"REQUEST_METHOD": route.method, "PATH_INFO": path})
        assert matched.rule == route.rule, path
        found.append((route.method, path))
    return found


def everything(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


# --- the password ----------------------------------------------------------------------------------------------------


def test_without_the_password_every_route_but_healthz_answers_401(shown: Database) -> None:
    guard = guarded(shown, password=Password(SECRET), failures=10_000)
    routes = every_route(shown)
    assert len(routes) > 35
    assert ("GET", "/lr/x") in routes
    before = everything(Path(str(shown.place)))
    paths = {path for _, path in routes} | {"/", "", "/healthz/", "//healthz", "/healthz/x", "/nothing", "/HEALTHZ"}
    for path in sorted(paths):
        for method in METHODS:
            for given in ({}, {"authorization": basic("wrong")}, {"authorization": "Bearer wrong"}):
                answer = ask(guard, method, path, **given)
                if path == "/healthz" and method in ("GET", "HEAD"):
                    assert answer.status == 200
                else:
                    assert answer.status == 401, (method, path, given)
                    assert (answer.header("WWW-Authenticate") or "").startswith("Basic ")
    assert everything(Path(str(shown.place))) == before


def test_with_the_password_every_route_is_answered_by_the_application(shown: Database) -> None:
    guard = guarded(shown, password=Password(SECRET))
    for method, path in every_route(shown):
        if method == "GET":
            answer = ask(guard, method, path, authorization=basic(SECRET))
            assert answer.status in (200, 302, 400, 404), (path, answer)
            head = ask(guard, "HEAD", path, authorization=basic(SECRET))
            assert (head.status, head.body) == (answer.status, b""), path


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (basic(SECRET), 200),
        (basic(SECRET, user=""), 200),
        (f"bearer {SECRET}".encode().decode("latin-1"), 200),
        (f"BASIC {basic(SECRET)[6:]}", 200),
        ("", 401),
        ("Basic", 401),
        ("Basic !!!", 401),
        (basic(SECRET)[:-8], 401),
        (basic(SECRET + "x"), 401),
        (basic(""), 401),
        (f"Bearer {basic(SECRET)[6:]}", 401),
        (f"Digest {SECRET}", 401),
        ("Bearer \N{LATIN SMALL LETTER E WITH ACUTE}\N{EURO SIGN}", 401),
    ],
)
def test_the_password_comes_as_basic_or_bearer(shown: Database, authorization: str, status: int) -> None:
    guard = guarded(shown, password=Password(SECRET))
    assert ask(guard, "GET", "/lr", authorization=authorization).status == status


def test_200_wrong_passwords_are_slowed(shown: Database, caplog: pytest.LogCaptureFixture) -> None:
    guard = guarded(shown, password=Password(SECRET), failures=5, window_seconds=600)
    answers = [ask(guard, "GET", "/lr", authorization=basic(f"guess {i}"), address="10.0.0.7") for i in range(200)]
    assert [a.status for a in answers] == [401] * 5 + [429] * 195
    assert 590 <= int(answers[-1].header("Retry-After") or 0) <= 601
    right = basic(SECRET)
    assert ask(guard, "GET", "/lr", authorization=right, address="10.0.0.7").status == 429, "not looked at"
    assert ask(guard, "GET", "/lr", address="10.0.0.7").status == 401, "nothing was given to look at"
    assert ask(guard, "GET", "/healthz", address="10.0.0.7").status == 200
    assert ask(guard, "GET", "/lr", authorization=right, address="10.0.0.8").status == 200, "somebody else"
    assert [r.getMessage() for r in caplog.records].count(
        "too many wrong passwords from 10.0.0.7: none is looked at for 600 s"
    ) == 1
    assert SECRET not in caplog.text
    assert "guess" not in caplog.text


def test_after_a_while_the_right_password_is_looked_at_again(shown: Database) -> None:
    guard = guarded(shown, password=Password(SECRET), failures=2, window_seconds=1)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while ask(guard, "GET", "/lr", authorization=basic("wrong")).status != 429:
        assert time.monotonic() < deadline
    while (answer := ask(guard, "GET", "/lr", authorization=basic(SECRET))).status != 200:
        assert answer.status == 429
        assert time.monotonic() < deadline


def test_the_right_password_is_no_failure(shown: Database) -> None:
    guard = guarded(shown, password=Password(SECRET), failures=3, window_seconds=600)
    assert {ask(guard, "GET", "/healthz", authorization=basic("wrong")).status for _ in range(9)} == {200}
    assert {ask(guard, "GET", "/favicon.ico", authorization=basic(SECRET)).status for _ in range(9)} == {200}


def test_who_has_many_addresses_fills_no_memory_and_one_network_counts_once(shown: Database) -> None:
    guard = guarded(shown, password=Password(SECRET), failures=2, window_seconds=600)
    near = [ask(guard, "GET", "/lr", authorization="Bearer x", address=f"2001:db8::{i:x}").status for i in range(9)]
    assert near == [401, 401, *[429] * 7], "one network of IPv6 is one person"
    for i in range(2 * BUCKETS):
        ask(guard, "GET", "/lr", authorization="Bearer x", address=f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}")
    entries = guard._limiter.storage.events
    assert len(entries) <= BUCKETS
    assert max(len(bucket) for bucket in entries.values()) <= 2


def test_the_password_is_read_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n", "utf-8")
    file.chmod(0o600)
    monkeypatch.setenv(passwords.VARIABLE, "another of 20 letters")
    for read, right in ((passwords.configured(file), SECRET), (passwords.configured(None), "another of 20 letters")):
        assert read is not None
        assert read.admits(basic(right))
        assert not read.admits(basic("another"))
    assert passwords.configured(None) is None, "it is taken out of the environment"
    assert not caplog.records


@pytest.mark.parametrize(
    ("mode", "mine", "advice"),
    [
        (0o600, True, None),
        (0o640, True, "chmod 600 it"),
        (0o604, True, "chmod 600 it"),
        (0o640, False, None),
        (0o644, False, "let its owner chmod 640 it"),
    ],
)
def test_who_can_keep_the_file_from_others_is_told_how(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, mine: bool, advice: str | None
) -> None:
    if not mine and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    file = tmp_path / "password"
    file.write_text(SECRET, "utf-8")
    file.chmod(mode)
    if not mine:
        os.chown(file, 65534, 65534)
    assert passwords.configured(file) is not None
    # By identity: pytest may hear one twice.
    said = list({id(r): r.getMessage() for r in caplog.records}.values())
    assert said == ([] if advice is None else [f"{file} can be read by other users of this machine: {advice}"])


def read_from_a_mount(folder: str, read_only: bool, said: str) -> None:
    """In a child: read a password as a container has it, from a mount; say what was warned of."""
    mounts.alone()
    mounts.tmpfs(Path(folder), 1 << 16)
    file = Path(folder) / "password"
    file.write_text(SECRET, "utf-8")
    file.chmod(0o444)
    if read_only:
        mounts.make_read_only(Path(folder))
    logging.basicConfig(filename=said, force=True)
    assert passwords.configured(file) is not None


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.slow
def test_of_a_secret_that_lies_where_nobody_can_change_it_nothing_is_said(tmp_path: Path, read_only: bool) -> None:
    if reason := mounts.available():
        pytest.skip(reason)
    (tmp_path / "mounted").mkdir()
    said = tmp_path / "said"
    assert finished(started(read_from_a_mount, str(tmp_path / "mounted"), read_only, str(said))) == 0
    assert ("chmod 600" in said.read_text()) == (not read_only)


@pytest.mark.parametrize(
    "text", ["", "short", "two lines of\nsomething long", " spaces around it ", "\n\n\n\n\n\n\n\n\n\n\n\n\n"]
)
def test_a_bad_password_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "password"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(UsageError) as error:
        passwords.configured(file)
    assert not text.strip() or text not in sentence(error)
    with pytest.raises(UsageError, match="cannot be read"):
        passwords.configured(tmp_path / "nothing")


# --- read-only -------------------------------------------------------------------------------------------------------


def test_in_read_only_mode_nothing_but_get_and_head_is_let_through(shown: Database) -> None:
    guard = guarded(shown, read_only=True)
    before = everything(Path(str(shown.place)))
    for _, path in every_route(shown):
        for method in METHODS[2:]:
            answer = ask(
                guard, method, path, b'{"study_name": "x", "directions": ["minimize"], "version": 1, "body": "x"}'
            )
            assert answer.status == 405, (method, path)
            assert answer.header("Allow") == "GET, HEAD"
        assert ask(guard, "GET", path).status != 405 or ("GET", path) not in every_route(shown)
    assert everything(Path(str(shown.place))) == before
    private = guarded(shown, read_only=True, password=Password(SECRET))
    assert ask(private, "POST", "/api/studies").status == 405, "before it is asked who it is"


def test_without_it_a_person_may_write(shown: Database) -> None:
    guard = guarded(shown)
    body = b'{"study_name": "made", "directions": ["minimize"]}'
    assert ask(guard, "POST", "/api/studies", body).status == 201


def test_what_is_asked_with_get_writes_nothing(shown: Database) -> None:
    guard = guarded(shown)
    before = everything(Path(str(shown.place)))
    for method, path in every_route(shown):
        if method == "GET":
            ask(guard, "GET", path)
    assert ask(guard, "GET", "/api/studies/1/plot/timeline").status == 200
    assert everything(Path(str(shown.place))) == before


# --- names and sites -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST:9000", 200),
        ("proxy.example", 200),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("evil.example@localhost:8080x", 403),
        ("[evil", 403),
        ("", 403),
    ],
)
def test_without_a_password_it_is_called_by_its_own_names_only(shown: Database, host: str, status: int) -> None:
    guard = guarded(shown, hosts=frozenset({"localhost", "127.0.0.1", "::1", "proxy.example"}))
    assert ask(guard, "GET", "/lr", host=host).status == status
    assert ask(guard, "GET", "/healthz", host=host).status == 200


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 201),
        ("POST", {"origin": "http://localhost:8080", "sec_fetch_site": "same-origin"}, 201),
        ("POST", {"origin": "https://localhost:8080"}, 201),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "http://localhost:3000"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"sec_fetch_site": "cross-site"}, 403),
        ("POST", {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate"}, 403),
        ("GET", {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"}, 200),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        ("GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, 403),
    ],
)
@pytest.mark.parametrize("password", [None, Password(SECRET)])
def test_what_a_page_of_another_site_asks_is_refused(
    shown: Database, method: str, headers: dict[str, str], status: int, password: Password | None
) -> None:
    body = b'{"study_name": "made", "directions": ["minimize"]}'
    given = {"authorization": basic(SECRET)} if password else {}
    answer = ask(guarded(shown, password=password), method, "/api/studies", body, **given, **headers)
    assert answer.status == status


# --- what every answer says ------------------------------------------------------------------------------------------


def test_every_answer_has_the_headers_that_keep_its_reader_safe(shown: Database) -> None:
    open_, closed = guarded(shown), guarded(shown, password=Password(SECRET), read_only=True)
    for method, path in every_route(shown):
        for answer in (ask(open_, method, path), ask(closed, method, path)):
            for name, value in ALWAYS.items():
                assert answer.header(name) == value, (path, name)
            assert "frame-ancestors 'self'" in (answer.header("Content-Security-Policy") or "")
            assert answer.header("Access-Control-Allow-Origin") is None
            assert answer.header("Server") is None
            kept = ("no-store", "no-cache", "private, no-cache")
            assert answer.header("Cache-Control") in kept
            assert b"Traceback" not in answer.body
            assert b"/site-packages/" not in answer.body
    page = ask(open_, "GET", "/dashboard")
    assert "default-src 'self'" in (page.header("Content-Security-Policy") or ""), "optuna-dashboard's own is kept"


@pytest.mark.parametrize(("name", "boxed"), [("page.html", True), ("picture.svg", True), ("table.csv", False)])
def test_a_file_that_a_browser_would_run_is_shut_in(shown: Database, name: str, boxed: bool) -> None:
    guard = guarded(shown)
    data = base64.b64encode(b"<script>alert(1)</script>").decode()
    body = json.dumps({"file": f"data:text/html;base64,{data}", "filename": name}).encode()
    made = ask(guard, "POST", "/api/artifacts/1", body)
    assert made.status == 201
    found = ask(guard, "GET", f"/artifacts/1/{made.document['artifact_id']}")
    assert found.body == b"<script>alert(1)</script>"
    assert ("sandbox" in (found.header("Content-Security-Policy") or "")) == boxed
    assert found.header("X-Content-Type-Options") == "nosniff"
    assert found.header("Access-Control-Allow-Origin") is None, "optuna-dashboard's own has every site read it"


def test_an_error_is_one_sentence_and_its_traceback_stays_here(
    shown: Database, caplog: pytest.LogCaptureFixture
) -> None:
    guard = guarded(shown)
    with shown.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE lrsearch_epochs RENAME TO elsewhere")
    answer = ask(guard, "GET", "/lr/probe")
    assert answer.status == 503
    assert answer.body.count(b"\n") == 1
    assert b"no such table" in answer.body
    missing = ask(guard, "GET", "/artifacts/1/1/curves-1-1")
    assert (missing.status, missing.body.count(b"\n")) == (503, 1)

    def broken(environ: Any, start: Any) -> list[bytes]:
        raise ZeroDivisionError("by nought")

    answer = ask(Guard(broken, Access()), "GET", "/lr")
    assert answer.status == 500
    assert answer.body == b"The dashboard cannot answer this: a defect, which its log names.\n"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert "GET '/lr' cannot be answered" in caplog.text


def test_healthz_says_no_more_than_whether_all_is_well(shown: Database) -> None:
    guard = guarded(shown, password=Password(SECRET))
    well = ask(guard, "GET", "/healthz")
    assert (well.status, well.document) == (200, {"status": "ok"})
    shown.close()
    Path(str(shown.place)).rename(f"{shown.place}.away")
    ill = ask(guard, "GET", "/healthz")
    assert (ill.status, ill.document) == (503, {"status": "unavailable"})
    assert not Path(str(shown.place)).exists(), "looking makes no database"
    assert ask(guard, "POST", "/healthz").status == 401

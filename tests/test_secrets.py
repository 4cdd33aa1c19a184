"""Bad storage in one clear sentence, and the password of a storage URL nowhere: not in a traceback, not in a table.

The password of the test server is random and holds characters that must be percent-encoded: what shows a part of it, or
its encoded form, is caught too.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import psycopg
import pytest
import typer
from command_line import InProcess, Running, one_line
from conftest import FakeEngine, claims_of, learning, make_spec, on_both, working, write
from postgres import Account
from psycopg import sql

from lrsearch.cli.app import app
from lrsearch.errors import EXIT_OK, EXIT_STORAGE, EXIT_USAGE
from lrsearch.store import filing, patience
from lrsearch.store import study as studies
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database

pytest_plugins = ["command_line"]

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
WITH_STORAGE = sorted(name for name, c in COMMANDS.items() if any(p.name == "storage" for p in c.params))
PLAIN = "hunter2hunter2"


def words_of(command: str) -> list[str]:
    """Return what a command cannot do without."""
    required = [p for p in COMMANDS[command].params if p.required and p.param_type_name == "argument"]
    return [{"number": "1", "setting": "sgd lr=0.1 cosine batch=64"}.get(p.name, "probe") for p in required]


def traces(password: str, text: str) -> list[str]:
    """Return every form of a password that a text holds: itself, encoded, or a half of it."""
    forms = {password, quote(password, safe=""), quote(password), *re.findall(r"\w{8,}", password)}
    return sorted(form for form in forms if form in text)


# --- typed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [f"postgresql://me:{PLAIN}@host/db", f"postgres://me@host/db?password={PLAIN}"])
@pytest.mark.parametrize("command", WITH_STORAGE)
def test_every_command_refuses_a_password_that_was_typed(lrsearch: InProcess, command: str, url: str) -> None:
    for typed in ([f"--storage={url}"], ["--storage", url], ["--debug", "--storage", url]):
        result = lrsearch(command, *words_of(command), *typed)
        assert result.code == EXIT_USAGE
        assert result.out == ""
        assert traces(PLAIN, result.err) == []
        assert "LRSEARCH_STORAGE" in result.err.splitlines()[-1]


def test_the_commands_that_take_a_storage_are_many() -> None:
    assert {"run", "worker", "status", "trials", "best", "show", "extend", "stop", "enqueue", "list"} <= {*WITH_STORAGE}


# --- servers that cannot be used -------------------------------------------------------------------------------------

BAD = {
    "a wrong password": "refused the user or the password",
    "no password": "asks for a password",
    "a user that does not exist": "refused the user or the password",
    "a port where nobody listens": "nothing listens there",
    "a host that does not answer": "it did not answer in time",
    "a host that nobody knows": "the host name is not known",
    "a database that does not exist": "createdb",
    "a setting that PostgreSQL does not know": "invalid connection option",
    "a setting that makes no sense": "sslmode",
    "a time that is none": "connect_timeout",
}


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def bad(what: str, account: Account, url: str, silent: int) -> tuple[str, str]:
    """Return a URL, and the password that it holds."""
    wrong = "Wr0ngPassw0rd@/:%"
    parts = urlsplit(url)
    match what:
        case "a wrong password":
            return account.url(parts.path[1:], password=wrong), wrong
        case "no password":
            return url.replace(f":{quote(account.password, safe='')}@", "@"), account.password
        case "a user that does not exist":
            return url.replace(f"//{account.user}:", "//nobody:"), account.password
        case "a port where nobody listens":
            return url.replace(f":{account.port}/", ":1/"), account.password
        case "a host that does not answer":
            return url.replace(f":{account.port}/", f":{silent}/") + "?connect_timeout=1", account.password
        case "a host that nobody knows":
            return url.replace(f"@{account.host}:", "@no-such-host.invalid:"), account.password
        case "a database that does not exist":
            return url + "x", account.password
        case "a setting that PostgreSQL does not know":
            return url + "?colour=blue", account.password
        case "a setting that makes no sense":
            return url + "?sslmode=perhaps", account.password
        case "a time that is none":
            return url + "?connect_timeout=soon", account.password
        case _:
            raise AssertionError(what)


@pytest.mark.parametrize("what", BAD)
@pytest.mark.slow
def test_a_server_that_cannot_be_used_is_said_in_one_sentence_without_the_password(
    lrsearch: InProcess,
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: Account,
    postgres_url: str,
    silent: int,
    what: str,
) -> None:
    url, password = bad(what, postgres_server, postgres_url, silent)
    monkeypatch.setenv("LRSEARCH_STORAGE", url)
    monkeypatch.setattr(patience, "REFUSED_SECONDS", 0.0)
    commands = [["status"], ["run", "digits"], ["worker"], ["worker", "--study", "probe"]]
    for command in commands if what != "a host that does not answer" else commands[:1]:
        result = lrsearch(*command)
        assert result.code == EXIT_STORAGE, result.err
        said = one_line(result)
        assert BAD[what] in said
        assert "postgresql://" in said
        assert traces(password, result.out + result.err) == []
    traced = lrsearch("status", "--debug")
    assert "Traceback" in traced.err
    assert traces(password, traced.err) == []


# --- studies that cannot be used -------------------------------------------------------------------------------------


@pytest.fixture
def secret(database: Database) -> str:
    """The password of the place of ``database``, in which a study "probe" is finished."""
    for _ in working(claims_of(filing.create(database, make_spec(budget={"trials": 2}))), FakeEngine(learning)):
        pass
    return PLAIN if isinstance(database.place, SqliteFile) else str(database.place.url.password)


@pytest.fixture
def filed(database: Database, secret: str, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> str:
    """The password of the storage that the commands use."""
    place = database.place
    url = str(place.path) if isinstance(place, SqliteFile) else place.url.render_as_string(hide_password=False)
    monkeypatch.setenv("LRSEARCH_STORAGE", url)
    return secret


@on_both
def test_a_study_that_is_not_there_is_said_with_the_nearest_name(lrsearch: InProcess, filed: str) -> None:
    for command in (
        ["worker", "--study", "prob"],
        ["status", "prob"],
        ["extend", "prob", "--trials", "+1"],
        ["stop", "prob"],
        ["enqueue", "sgd lr=0.1 cosine batch=64", "prob"],
        ["delete", "prob", "--yes"],
        ["best", "prob"],
        ["trials", "prob"],
        ["show", "0", "prob"],
    ):
        result = lrsearch(*command)
        assert result.code == EXIT_USAGE, (command, result.err)
        assert "there is no study 'prob'" in one_line(result)
        assert "did you mean 'probe'?" in result.err
        assert traces(filed, result.err) == []


@on_both
def test_a_database_of_a_newer_schema_is_refused_by_every_command(
    lrsearch: InProcess, filed: str, database: Database
) -> None:
    write(database, "UPDATE lrsearch_schema SET version = 99")
    for command in (["status"], ["run", "digits"], ["worker"], ["extend", "--trials", "+1"], ["list"]):
        result = lrsearch(*command)
        assert result.code == EXIT_STORAGE, (command, result.err)
        assert "schema 99" in one_line(result)
        assert traces(filed, result.out + result.err) == []


@on_both
def test_a_study_of_another_lrsearch_is_not_worked_on_but_can_be_read(
    lrsearch: InProcess, filed: str, database: Database
) -> None:
    write(database, "UPDATE lrsearch_studies SET version = '99.7.1', budget_trials = 3")
    for command in (["worker", "--study", "probe"], ["run", "probe"]):
        result = lrsearch(*command)
        assert result.code == EXIT_USAGE, (command, result.err)
        assert "was filed by lrsearch 99.7.1" in one_line(result)
        assert traces(filed, result.err) == []
    assert lrsearch("status", "probe").code == EXIT_OK
    with closing(Database(database.place)) as again:
        assert len(studies.get(again, "probe").trials()) == 2


# --- everywhere else -------------------------------------------------------------------------------------------------


def texts(url: str) -> Iterator[tuple[str, str]]:
    """Yield every text in every table of a database, with the name of the table."""
    with psycopg.connect(url) as connection:
        names = [n for (n,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        for name in names:
            for row in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name))):
                yield name, row[0]


def process_list() -> str:
    """Return what every user of this machine can read of every process: what ``ps`` shows."""
    lines = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            lines.append(" ".join([process.name(), *process.cmdline()]))
    return "\n".join(lines)


@pytest.mark.slow
def test_a_run_with_two_workers_leaves_the_password_nowhere(
    tmp_path: Path, postgres_server: Account, postgres_url: str
) -> None:
    argv = ["--debug", "run", "--workers", "2", "--trials", "2", "--epochs", "1"]
    running = Running(argv, tmp_path, LRSEARCH_STORAGE=postgres_url, LRSEARCH_DEBUG="1")
    seen, most = "", 0
    while running.process.poll() is None:
        seen += process_list()
        with suppress(psutil.Error):
            most = max(most, len(psutil.Process(running.process.pid).children(recursive=True)))
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(0.2)
    result = running.result()
    assert result.code == EXIT_OK, result.err
    assert most >= 2, "the workers were seen"
    assert "lrsearch" in seen
    written = list(texts(postgres_url))
    assert {"studies", "lrsearch_studies", "lrsearch_slots", "trial_params"} <= {table for table, _ in written}
    files = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    for where, text in (("processes", seen), ("out", result.out), ("err", result.err), *written):
        assert traces(postgres_server.password, text) == [], where
    assert traces(postgres_server.password, "\n".join(files)) == []
    assert "  lrsearch dashboard  #" in result.out, "the place is in the environment"

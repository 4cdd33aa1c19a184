"""The tests' own PostgreSQL and hosts: they are as real as the tests that use them believe."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import postgres
import psutil
import psycopg
import pytest
import sqlalchemy
import two_hosts
from command_line import Running
from conftest import make_spec, wait_until
from postgres import Account, Server

from lrsearch.errors import StorageError
from lrsearch.store import filing, patience
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database

TESTS = Path(__file__).parent
# What a person has who installs PostgreSQL and changes nothing.
SETTINGS = {
    "server_encoding": "UTF8",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
}


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with Server.start(tmp_path / "server") as server:
        yield server


def write(url: str, text: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS lines (line text)")
        connection.execute("INSERT INTO lines VALUES (%s)", [text])


def lines(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [line for (line,) in connection.execute("SELECT line FROM lines ORDER BY line")]


def test_only_the_right_password_opens_the_server_which_is_of_version_18(own_server: Server) -> None:
    for wrong in ["", "wrong", own_server.password[:-1]]:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(own_server.url(password=wrong))
    with psycopg.connect(own_server.url()) as connection:
        assert connection.info.server_version // 10000 == 18
        rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        assert rules == [("scram-sha-256",)]
        for name, value in SETTINGS.items():
            assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,)


def test_the_password_must_be_percent_encoded_and_arrives_as_it_was() -> None:
    password = postgres.fresh_password()
    assert quote(password, safe="") != password
    assert {"@", ":", "/", "%"} <= set(password)
    account = Account("somebody", password, "127.0.0.1", 5432)
    assert sqlalchemy.make_url(account.url()).password == password
    assert password not in repr(account)


def test_each_test_gets_an_empty_database(postgres_server: Account, postgres_url: str) -> None:
    write(postgres_url, "mine")
    other = postgres_server.create_database()
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT to_regclass('lines')").fetchone() == (None,)
        postgres_server.drop_database(other)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_what_was_committed_outlives_restarts_and_a_kill(own_server: Server) -> None:
    url, first = own_server.create_database(), own_server.pid
    write(url, "before all")
    own_server.restart()
    write(url, "between")
    own_server.restart("immediate")
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO lines VALUES ('never committed')")
        backends = psutil.Process(own_server.pid).children()
        own_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert backends
    assert all(map(postgres.ended, backends))
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url)
    own_server.start_again()
    assert lines(url) == ["before all", "between"]
    assert own_server.pid != first


def test_a_server_that_cannot_start_says_why(own_server: Server, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)did not start.*Address already in use"):
        Server.start(tmp_path / "second", port=own_server.port)


def test_the_server_ends_with_who_started_it_even_when_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from postgres import Server;"
        "server = Server.start(pathlib.Path(sys.argv[1]));"
        "print(server.pid, server.data, flush=True); time.sleep(600)"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "server")]
    with subprocess.Popen(argv, cwd=TESTS, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, data = starter.stdout.readline().split()
        server = psutil.Process(int(pid))
        starter.send_signal(signal.SIGKILL)
    wait_until(lambda: postgres.ended(server))
    if not Path(data).is_relative_to(tmp_path):
        wait_until(lambda: not Path(data).parent.exists())


# --- hosts -----------------------------------------------------------------------------------------------------------

CLIENT = """
import socket, sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    print(socket.gethostname(), *connection.execute("SELECT inet_client_addr()").fetchone(), flush=True)
    for line in sys.stdin:
        print(*connection.execute(line).fetchone(), flush=True)
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[two_hosts.Network]:
    with two_hosts.store_and_two() as made:
        yield made


@pytest.fixture(scope="module")
def store(hosts: two_hosts.Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on the host ``store``."""
    folder = tmp_path_factory.mktemp("store")
    with Server.start(folder, listen=hosts.address("store"), netns=hosts.namespace("store")) as server:
        yield server


def test_a_server_on_one_host_is_reached_from_the_others_and_a_cut_loses_no_connection(
    hosts: two_hosts.Network, store: Server
) -> None:
    url = store.create_database()
    clients = {}
    try:
        for name in ("alpha", "beta"):
            clients[name] = subprocess.Popen(
                hosts.command(name, [sys.executable, "-c", CLIENT, url]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            assert answer(clients[name]) == [name, hosts.address(name)]
        hosts.cut("alpha")
        ask(clients["alpha"], "SELECT 1")
        ask(clients["beta"], "SELECT 2")
        assert answer(clients["beta"]) == ["2"]
        cut_off = subprocess.run(
            hosts.command("alpha", [sys.executable, "-c", CLIENT, f"{url}?connect_timeout=2"]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert cut_off.returncode == 1
        assert "timeout expired" in cut_off.stderr
        assert clients["alpha"].poll() is None
        hosts.heal("alpha")
        # TCP sends it again: the connection never heard of the cut.
        assert answer(clients["alpha"]) == ["1"]
    finally:
        for client in clients.values():
            client.kill()
            client.communicate()


def test_a_server_on_a_host_survives_a_kill(store: Server) -> None:
    store.kill()
    store.start_again()
    assert store.create_database().startswith("postgresql://")


def test_nothing_is_left_of_the_hosts(hosts: two_hosts.Network) -> None:
    with two_hosts.network("one") as made:
        assert made.prefix != hosts.prefix
        left = subprocess.Popen(made.command("one", ["sleep", "600"]))
    assert left.wait() == -signal.SIGKILL
    known = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert made.prefix not in known
    assert hosts.prefix in known


def ask(client: subprocess.Popen[str], statement: str) -> None:
    assert client.stdin is not None
    client.stdin.write(f"{statement}\n")


def answer(client: subprocess.Popen[str]) -> list[str]:
    assert client.stdout is not None
    return client.stdout.readline().split()


def test_a_worker_that_is_started_while_the_server_restarts_waits_for_it(own_server: Server, tmp_path: Path) -> None:
    url = own_server.create_database()
    place = parse_place(url)
    with closing(Database(place)) as database:
        filing.create(database, make_spec(budget={"trials": 1}, epochs=1))
    own_server.stop()
    worker = Running(("worker", "--study", "probe", "--device", "cpu"), tmp_path, LRSEARCH_STORAGE=url)
    assert worker.wait_for(lambda running: "trying again for 60 s" in running.read("stderr"))
    assert "nothing listens there" in worker.read("stderr")
    own_server.start_again()
    result = worker.result()
    assert result.code == 0, result.err
    assert "answers again after" in result.err
    assert result.err.splitlines()[-1].endswith("= ended: the one trial of the budget is finished")


def test_what_does_not_pass_is_said_at_once(own_server: Server) -> None:
    wrong = own_server.url(password="another")
    with pytest.raises(StorageError, match="refused the user or the password"):
        patience.reach(parse_place(wrong), 600)
    with pytest.raises(StorageError, match="does not exist on its server"):
        patience.reach(parse_place(own_server.url("nowhere")), 600)

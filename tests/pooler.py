"""A real pgbouncer before a real PostgreSQL, in transaction mode: a connection is a transaction's, not a session's."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from postgres import DEADLINE_SECONDS, NOBODY, Account, _free_port

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="needs pgbouncer: apt install pgbouncer")

SETTINGS = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 500
{more}
"""


@contextmanager
def pooled(server: Account, connections: int, more: str = "") -> Iterator[int]:
    """Have a pooler before a server; yield its port.

    Args:
        server: the server, and the user who is let through.
        connections: to the server, of each database.
        more: further lines of pgbouncer.ini.
    """
    assert PGBOUNCER is not None
    # It does not run as root: what it reads, with the password, is its user's.
    root = os.geteuid() == 0
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}
    with tempfile.TemporaryDirectory(prefix="lrsearch-pooler-") as name:
        folder, port = Path(name), _free_port()
        users, settings, log = folder / "users", folder / "pgbouncer.ini", folder / "log"
        users.write_text('"{}" "{}"\n'.format(server.user, server.password.replace('"', '""')))
        places = {"host": server.host, "port": server.port, "own_port": port, "users": users}
        settings.write_text(SETTINGS.format(**places, connections=connections, more=more))
        if root:
            for path in (folder, users, settings):
                os.chown(path, NOBODY, NOBODY)
        with log.open("wb") as out:
            process = subprocess.Popen([PGBOUNCER, settings], stdout=out, stderr=out, **user)  # type: ignore[call-overload]
        try:
            _wait_until_ready(through(server.url(), server, port), process, log)
            yield port
        finally:
            process.kill()
            process.wait()


def through(url: str, server: Account, port: int, parameters: str = "") -> str:
    """Return the URL of a database by way of the pooler."""
    direct = f"@{server.host}:{server.port}/"
    assert direct in url
    return url.replace(direct, f"@127.0.0.1:{port}/") + parameters


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=5).close()
            return
        said = log.read_text(errors="replace")
        assert process.poll() is None, f"pgbouncer did not start; its log:\n{said}"
        assert time.monotonic() < deadline, f"pgbouncer lets nobody in; its log:\n{said}"
        time.sleep(0.02)

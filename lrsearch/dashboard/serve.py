"""Serve an application until somebody asks the process to leave."""

import errno
import ipaddress
import logging
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import waitress

from lrsearch.dashboard.guard import Application
from lrsearch.errors import LrsearchError, UsageError
from lrsearch.store.keeper import Leave

log = logging.getLogger(__name__)

THREADS = 8
LARGEST_UPLOAD = 128 * 2**20
"""[bytes]; what optuna-dashboard takes."""
LARGEST_QUESTION = 2**16
"""[bytes], where nothing may be uploaded."""
WAIT_SECONDS = 3600.0
OTHERS = ("optuna_dashboard", "waitress", "optuna")
"""Libraries that write logs of their own, tracebacks among them."""


def addresses_of(host: str) -> list[str]:
    """Return the addresses of a host, those of IPv4 first.

    Raises:
        UsageError: its name is not known.
    """
    try:
        found = socket.getaddrinfo(host or "", 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise UsageError(f"--host must be an address of this machine, got {host!r}: {why}") from None
    ordered = sorted(found, key=lambda one: one[0] != socket.AF_INET)
    return list(dict.fromkeys(str(one[4][0]) for one in ordered))


def is_local(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def bound(app: Application, address: str, port: int, *, read_only: bool = False) -> Any:
    """Return a server that listens; port 0 is any that is free, and ``effective_port`` says which.

    Raises:
        LrsearchError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listening = socket.create_server((address, port), family=family)
    except OSError as error:
        hint = "; --port 0 takes any that is free" if error.errno == errno.EADDRINUSE else ""
        why = error.strerror.partition(" (while")[0] if error.strerror else str(error)
        raise LrsearchError(f"the dashboard cannot listen at {address}, port {port}: {why}{hint}") from None
    return waitress.create_server(
        app,
        sockets=[listening],
        threads=THREADS,
        ident=None,
        max_request_body_size=LARGEST_QUESTION if read_only else LARGEST_UPLOAD,
        asyncore_use_poll=True,
    )


def url_of(address: str, port: int) -> str:
    """Return the address of a server as a browser on this machine takes it.

    >>> url_of("127.0.0.1", 8080), url_of("::1", 80), url_of("0.0.0.0", 8080)
    ('http://127.0.0.1:8080', 'http://[::1]:80', 'http://127.0.0.1:8080')
    """
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - named, not bound
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def serve(server: Any, leave: Leave) -> None:
    """Answer requests until the process is asked to leave; what is being answered then is answered."""
    with _quiet():
        thread = threading.Thread(target=server.run, name="dashboard", daemon=True)
        thread.start()
        while thread.is_alive() and not leave.asked:
            leave.wait(WAIT_SECONDS)
        server.close()
        server.task_dispatcher.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Have other libraries write sentences into our log, and nothing else."""
    handler = _Sentences(logging.WARNING)
    before = []
    for name in OTHERS:
        other = logging.getLogger(name)
        before.append((other, other.propagate))
        other.addHandler(handler)
        other.propagate = False
    # Says nothing but that requests come faster than they are answered.
    queue = logging.getLogger("waitress.queue")
    level = queue.level
    queue.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Optuna's, that an importance rests on few trials: its page says so by itself.
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        queue.setLevel(level)
        for other, propagate in before:
            other.removeHandler(handler)
            other.propagate = propagate


class _Sentences(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        first = (record.getMessage().splitlines() or [""])[0]
        error = record.exc_info[1] if record.exc_info else None
        said = f"{first}: {type(error).__name__}" if error is not None else first
        log.log(record.levelno, "%s: %s", record.name, said)

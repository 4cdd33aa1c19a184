"""A Ray cluster: join the one that is there, or start one on this machine; what its nodes have room for."""

import importlib.util
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import psutil

from lrsearch.errors import LrsearchError, UsageError
from lrsearch.store.places import Place, SqliteFile, network_file_system

AUTO = "auto"
LOCAL = "local"
ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
REACH_SECONDS = 5.0
LOOK_SECONDS = 2.0
GPU_PARTS = 10_000
"""In which Ray counts: five workers of 0.2 fit onto one GPU, though 1 // 0.2 is 4."""
OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster that is started here: only events are exchanged."""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How every conversation in gRPC begins; the answer begins with the same kind of frame. Source: RFC 9113, 3.4."""
LEVEL = "RAY_BACKEND_LOG_LEVEL"
SETTINGS = {
    # Nobody is told how this is used, unless it was asked for.
    "RAY_USAGE_STATS_ENABLED": "0",
    # The lines of workers, without colours: both would write them into files too.
    "RAY_COLOR_PREFIX": "0",
    "RAY_DEDUP_LOGS": "0",
    # A cluster that does not answer is said to be so after one round (40 s), not after twenty.
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    # Whether the head answers we say ourselves; Ray would end this process after 60 s, while workers still leave.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "90",
    LEVEL: "fatal",
    # A call after the connection is lost would start a cluster here.
    "RAY_ENABLE_AUTO_CONNECT": "0",
}
"""Of Ray in this process, read when it is imported."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker takes up of a node."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        """Return it in words."""
        cpus = f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}"
        return f"{cpus} and {self.gpus:g} GPU{'' if self.gpus == 1 else 's'}" if self.gpus else cpus


class Head:
    """Whether the head of a cluster answers; a thread looks again and again.

    Ray does not tell: a call that needs the head waits, and after minutes Ray ends this process.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.why = ""
        """Why it did not answer last."""
        self._silent_since: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lrsearch-ray-head", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def silent(self) -> float:
        """Return for how long it has not answered [s]."""
        since = self._silent_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            asked_at = time.monotonic()
            why = _silence(self.address)
            if why is None:
                self._silent_since = None
            else:
                self.why = why
                self._silent_since = self._silent_since or asked_at


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that this process has joined."""

    ray: ModuleType
    head: Head
    started_here: bool
    """It has this machine only, and ends with this process."""

    def has_gpus(self) -> bool:
        """Whether a node has one."""
        return any(node["Resources"].get("GPU", 0) > 0 for node in self._nodes())

    def has(self) -> str:
        """Return in words what the nodes have, all of them together."""
        resources = self.ray.cluster_resources()
        return str(Needs(int(resources.get("CPU", 0)), resources.get("GPU", 0)))

    def room(self, needs: Needs) -> int:
        """Return how many workers the nodes can hold, were nothing else running on them."""
        return sum(_room_in(node["Resources"], needs) for node in self._nodes())

    def lives(self, node_id: str) -> bool:
        """Whether a node is still there."""
        return any(node["NodeID"] == node_id for node in self._nodes())

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]


def _room_in(resources: dict[str, float], needs: Needs) -> int:
    room = resources.get("CPU", 0) // needs.cpus
    if needs.gpus:
        # Ray does not spread one worker over the parts of several GPUs.
        gpus = resources.get("GPU", 0)
        parts = max(1, round(needs.gpus * GPU_PARTS))
        room = min(room, gpus * (GPU_PARTS // parts) if needs.gpus <= 1 else gpus // needs.gpus)
    return int(room)


def check(address: str, place: Place) -> None:
    """Refuse what cannot be meant, before anything is loaded.

    Raises:
        UsageError: no address, or a database that the nodes cannot reach.
    """
    if address not in (AUTO, LOCAL):
        if ADDRESS.fullmatch(address) is None:
            raise UsageError(f"--ray must be auto, local, HOST:PORT or ray://HOST:PORT, got '{address}'")
        _check_shared(place)


def _check_shared(place: Place) -> None:
    if isinstance(place, SqliteFile):
        raise UsageError(
            f"the workers of a Ray cluster share a PostgreSQL database (--storage postgresql://user@host/database), "
            f"and {place} is a SQLite file, for one machine: only --ray local can use it"
        )


def is_private(artifacts: str) -> bool:
    """Whether an artifact store is a folder of one machine, so that no node sees another's checkpoints."""
    return "://" not in artifacts and network_file_system(Path(artifacts) / "any") is None


@contextmanager
def joined(address: str, place: Place) -> Iterator[Cluster]:
    """Join the cluster at an address while the context lasts; one that is started here ends with it.

    Args:
        address: ``HOST:PORT`` of a cluster that this machine is a node of, ``ray://HOST:PORT`` of one that it is not,
            ``local``: one is started on this machine, ``auto``: the one that RAY_ADDRESS names or that this machine is
            a node of, else ``local``.
        place: where the study lies.

    Raises:
        UsageError: Ray is not installed, no such address, or the nodes cannot reach the database.
        LrsearchError: the cluster cannot be reached or joined.
    """
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS") or AUTO
        check(address, place)
    if address not in (AUTO, LOCAL):
        _reach(address)
    ray = _import()
    if address.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise UsageError(f"--ray {address} needs Ray's client, which is not installed: pip install 'lrsearch[ray]'")
    before = signal.getsignal(signal.SIGTERM)
    cluster: Cluster | None = None
    with ExitStack() as held:
        held.callback(lambda: _part(ray, cluster))
        try:
            started_here = _init(ray, address)
        finally:
            # Ray takes the signal, also where it fails.
            signal.signal(signal.SIGTERM, before)
        if not started_here:
            _check_shared(place)
        # What Ray forwards of its own processes goes there (twenty lines and more where a node dies, which is an event
        # of ours); what workers say goes to stderr.
        held.enter_context(redirect_stdout(held.enter_context(open(os.devnull, "w", encoding="utf-8"))))  # noqa: PTH123
        head = Head(address if address.startswith("ray://") else ray.get_runtime_context().gcs_address)
        cluster = Cluster(ray, held.enter_context(head), started_here)
        yield cluster


def _part(ray: ModuleType, cluster: Cluster | None) -> None:
    """Leave the cluster; of one that does not answer no leave is taken, since Ray would wait for it for ever."""
    if cluster is None or not (cluster.head.silent() or _silence(cluster.head.address)):
        ray.shutdown()
    elif cluster.started_here:
        kill_children()


def kill_children() -> None:
    """Kill what runs below this process: a cluster that was started here. Some of it would outlive a sudden end."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()


def _import() -> ModuleType:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--ray needs Ray, which is not installed: pip install 'lrsearch[ray]', in a clone '.[ray]'"
        ) from None
    return ray


def _init(ray: ModuleType, address: str) -> bool:
    """Join the cluster; return whether it was started here."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR}
    here = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        with _hushed():
            if address == AUTO:
                with suppress(ConnectionError):
                    ray.init(AUTO, **quiet)
                    return False
                address = LOCAL
            if address == LOCAL and os.environ.get(LEVEL) == SETTINGS[LEVEL]:
                # The processes that are started here would say that they have it.
                os.environ.pop(LEVEL)
            ray.init(address, **quiet, **(here if address == LOCAL else {}))
    except Exception as error:
        # Each kind of its own: ConnectionError, ValueError, RuntimeError (another version of Ray or Python).
        why = _sentence(error)
        if address == LOCAL:
            raise LrsearchError(f"a Ray cluster cannot be started here: {why}") from None
        # Ray does not say which: something did answer there.
        hint = f"; {_maybe(address)}" if why.startswith(("Failed to connect", "ray client connection timeout")) else ""
        raise LrsearchError(f"{_not_joined(address)}: {why}{hint}") from None
    return address == LOCAL


def _reach(address: str) -> None:
    """Make sure that somebody speaks gRPC at an address: Ray itself would try for minutes."""
    if ADDRESS.fullmatch(address) is None:
        raise UsageError(f"RAY_ADDRESS must be HOST:PORT or ray://HOST:PORT, got '{address}'")
    why = _silence(address)
    if why is not None:
        raise LrsearchError(f"{_not_joined(address)}: {why}")


def _silence(address: str) -> str | None:
    """Return why nobody speaks gRPC at an address, or None: somebody does."""
    parts = ADDRESS.fullmatch(address)
    assert parts is not None
    try:
        with closing(socket.create_connection((parts["host"].strip("[]"), int(parts["port"])), REACH_SECONDS)) as there:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return None
            there.sendall(HTTP2_PREFACE)
            frame = there.recv(4, socket.MSG_WAITALL)
    except (OSError, OverflowError) as error:
        return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if frame[3:4] != HTTP2_PREFACE[-6:-5]:
        return "what answers there is not Ray (its port is 6379 by default, that of its client 10001)"
    return None


def _sentence(error: Exception) -> str:
    """Return what it says in one line; of a traceback from another process its end, which names the cause."""
    head, traceback, rest = str(error).strip().partition("Traceback (most recent call last):")
    lines = [head, rest.strip().splitlines()[-1]] if traceback and rest.strip() else [head]
    return " ".join(" ".join(lines).split()) or type(error).__name__


def _maybe(address: str) -> str:
    client = address.startswith("ray://")
    port = "of Ray's client server (10001 by default)" if client else "of the head (6379 by default)"
    return (
        f"is the port that {port}, and are RAY_AUTH_MODE=token and the cluster's token (RAY_AUTH_TOKEN or "
        f"~/.ray/auth_token) set here, if it asks for one?"
    )


def _not_joined(address: str) -> str:
    return f"the Ray cluster at {address} cannot be joined"


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep off stderr what native code writes there; what matters of it is in the error that follows."""
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with tempfile.TemporaryFile() as unread:
            os.dup2(unread.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)

"""A Ray cluster: join the one that is there, or start one on this machine; what its nodes have room for."""

import importlib.util
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lrsearch.errors import LrsearchError, UsageError
from lrsearch.search.places import Place, SqliteFile, network_file_system

AUTO = "auto"
LOCAL = "local"
ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
REACH_SECONDS = 5.0
OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster that is started here: only events are exchanged."""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How every conversation in gRPC begins; the answer begins with the same kind of frame. Source: RFC 9113, 3.4."""
SETTINGS = {
    # Nobody is told how this is used, unless it was asked for.
    "RAY_USAGE_STATS_ENABLED": "0",
    # The lines of workers, without colours: both would write them into files too.
    "RAY_COLOR_PREFIX": "0",
    "RAY_DEDUP_LOGS": "0",
    # A cluster that does not answer is said to be so after one round (40 s), not after twenty.
    "RAY_NUM_REDIS_GET_RETRIES": "1",
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


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that this process has joined."""

    ray: ModuleType
    started_here: bool
    """It has this machine only, and ends with this process."""

    def has_gpus(self) -> bool:
        """Whether a node has one."""
        return any(node["Resources"].get("GPU", 0) > 0 for node in self._nodes())

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
        room = min(room, gpus * (1 // needs.gpus) if needs.gpus <= 1 else gpus // needs.gpus)
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
        raise UsageError(f"--ray {address} needs Ray's client, which is not installed: pip install 'ray[client]'")
    before = signal.getsignal(signal.SIGTERM)
    with ExitStack() as held:
        held.callback(ray.shutdown)
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
        yield Cluster(ray, started_here)


def _import() -> ModuleType:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UsageError("--ray needs Ray, which is not installed: pip install 'lrsearch[ray]'") from None
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
            ray.init(address, **quiet, **(here if address == LOCAL else {}))
    except Exception as error:
        # Each kind of its own: ConnectionError, ValueError, RuntimeError (another version of Ray or Python).
        why = " ".join(str(error).split()) or type(error).__name__
        what = "a Ray cluster cannot be started here" if address == LOCAL else _not_joined(address)
        raise LrsearchError(f"{what}: {why}") from None
    return address == LOCAL


def _reach(address: str) -> None:
    """Make sure that somebody speaks gRPC at an address: Ray itself would try for minutes."""
    parts = ADDRESS.fullmatch(address)
    if parts is None:
        raise UsageError(f"RAY_ADDRESS must be HOST:PORT or ray://HOST:PORT, got '{address}'")
    try:
        with closing(socket.create_connection((parts["host"].strip("[]"), int(parts["port"])), REACH_SECONDS)) as there:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            there.sendall(HTTP2_PREFACE)
            frame = there.recv(4)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LrsearchError(f"{_not_joined(address)}: {why}") from None
    if frame[3:4] != HTTP2_PREFACE[-6:-5]:
        raise LrsearchError(f"{_not_joined(address)}: what answers there is not Ray (its port is 6379 by default)")


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

"""The actor: what a worker process does, in the process that a Ray cluster has made for it."""

import os
import signal
import sys
import threading
from collections import deque
from dataclasses import dataclass
from types import FrameType

from lrsearch import cores, errors
from lrsearch.events import EndReason, Event, SearchEnded
from lrsearch.store.keeper import Leave
from lrsearch.trial import Reason
from lrsearch.version import __version__
from lrsearch.workers import json_log
from lrsearch.workers.process import Failed, Order, serve

HEAR_SECONDS = 5.0
"""After which an actor that has nothing to say answers."""


@dataclass(frozen=True, slots=True)
class Process:
    """Where an actor runs."""

    pid: int
    node: str
    """Ray's id of the node."""
    address: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.pid} on {self.address}"


class RayActor:
    """A worker in a thread of the actor's process."""

    def __init__(self, version: str) -> None:
        """Begin nothing yet.

        Args:
            version: of lrsearch where the driver is. What it sends next means the same here only in that one.

        Raises:
            UsageError: this node has another.
        """
        if version.split(".")[:2] != __version__.split(".")[:2]:
            raise errors.UsageError(f"the node {_address()} has lrsearch {__version__}")
        cores.wait_passively()
        # Ray forwards the two apart, and stdout is for data.
        os.dup2(2, 1)
        self._leave, self._preempted = Leave(), False
        self._said: deque[Event | Failed] = deque()
        self._heard = 0
        """Those that were said before the first in ``_said``."""
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_terminate)

    def begin(self, order: Order, *, reached_before: bool) -> Process:
        """Begin to work, unless begun, and return where."""
        import ray

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(order, reached_before), daemon=True)
            self._thread.start()
        return Process(os.getpid(), ray.get_runtime_context().get_node_id(), _address())

    def hear(self, known: int) -> list[Event | Failed] | None:
        """Return what was said after the first ``known``; wait for it for a while.

        None: nobody has begun here. Ray has started the worker again between two calls.
        """
        if self._thread is None:
            return None
        with self._news:
            while self._heard < known:
                self._said.popleft()
                self._heard += 1
            self._news.wait_for(lambda: self._said, HEAR_SECONDS)
            return list(self._said)

    def leave(self) -> None:
        """Keep what is in hand and end."""
        self._leave.ask(Reason.PREEMPTED)

    def _work(self, order: Order, reached_before: bool) -> None:  # noqa: FBT001 - the thread's target
        json_log.take_up(order.log_level, as_json=order.log_json)
        serve(order, self._leave, self._say, reached_before=reached_before)
        if self._preempted:
            # The node ends. Ray starts the worker again elsewhere if its process has failed, and only then.
            sys.stderr.flush()
            os._exit(errors.EXIT_TERMINATED)

    def _say(self, said: Event | Failed) -> None:
        if self._preempted and isinstance(said, SearchEnded) and said.reason == EndReason.LEFT:
            # The worker goes on elsewhere.
            return
        with self._news:
            self._said.append(said)
            self._news.notify_all()

    def _on_terminate(self, _signum: int, _frame: FrameType | None) -> None:
        self._preempted = True
        self._leave.ask(Reason.PREEMPTED)


def _address() -> str:
    import ray

    address: str = ray.util.get_node_ip_address()
    return address

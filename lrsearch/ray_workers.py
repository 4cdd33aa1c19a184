"""Workers as actors of a Ray cluster, which places them, restarts them and forwards their logs.

An actor runs what a worker process runs. The driver, which is this process, asks each one again and again for what it
has to say: that also works through Ray's client, and survives a node that goes away. What a worker is to do, with the
password of the database in it, goes from the driver to the actor alone: arguments of the actor's making would be kept
by the cluster, for restarts.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from lrsearch import __version__, errors
from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, Waiting, WorkerReplaced
from lrsearch.ray_cluster import Cluster, Needs
from lrsearch.report import json_log
from lrsearch.search.keeper import Leave
from lrsearch.search.places import Place, SqliteFile
from lrsearch.serving import GRACE_SECONDS, MAX_DEATHS, Failed, Order, serve
from lrsearch.trial import Reason

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
HEAR_SECONDS = 5.0
"""After which an actor that has nothing to say answers."""
PLACED_SECONDS = 10.0
"""After which a worker that does not run yet is said to wait for a place."""
CALLS_AT_ONCE = 4
"""To one actor: one that waits for news, one that was left over from a lost connection, one that asks to leave."""


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


class Worker:
    """The actor: a worker in a thread of the process that Ray has made for it."""

    def __init__(self) -> None:
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
        context = ray.get_runtime_context()
        return Process(os.getpid(), context.get_node_id(), ray.util.get_node_ip_address())

    def hear(self, known: int) -> list[Event | Failed]:
        """Return what was said after the first ``known``; wait for it for a while."""
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
        code = serve(order, self._leave, self._say, reached_before=reached_before)
        if self._preempted:
            # The node ends. Ray starts the worker again elsewhere if its process has failed, and only then.
            sys.stderr.flush()
            os._exit(code)

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


@dataclass
class _Worker:
    """A worker as the driver sees it."""

    order: Order
    actor: Any
    call: Any
    """What it was asked last."""
    process: Process | None = None
    """Where it ran last."""
    runs: bool = False
    """Whether it does, as far as is known."""
    asked_at: float = field(default_factory=time.monotonic)
    """When it was asked to begin."""
    heard: int = 0
    deaths: int = 0
    ended: bool = False


def order(
    place: Place, study: str, needs: Needs, *, device: str, data_dir: Path | None, artifacts: str | None
) -> Order:
    """Return what each worker is to do; a path means the same on every node, whatever folder its process is in."""
    return Order(
        SqliteFile(place.path.absolute()) if isinstance(place, SqliteFile) else place,
        study,
        # Without a GPU asked for, none is used, even where Ray lets the process see some.
        device if device != "auto" else "cuda" if needs.gpus else "cpu",
        None,
        needs.cpus,
        None if data_dir is None else data_dir.absolute(),
        None if artifacts is None else artifacts if "://" in artifacts else str(Path(artifacts).absolute()),
        logging.getLogger("lrsearch").getEffectiveLevel(),
        json_log.installed() is not None,
    )


def search(cluster: Cluster, job: Order, n: int, needs: Needs, leave: Leave) -> Generator[Event]:
    """Run ``n`` workers on the cluster until the study has no more to give; yield what they all say.

    Raises:
        LrsearchError: what ended a worker, that one died again and again, or that the cluster does not answer.
    """
    ray = cluster.ray
    kind = ray.remote(Worker).options(
        num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=-1, max_concurrency=CALLS_AT_ONCE
    )
    workers: list[_Worker] = []
    end: SearchEnded | None = None
    try:
        for _ in range(n):
            actor = kind.remote()
            workers.append(_Worker(job, actor, _begin(actor, job, reached_before=False)))
        n_waiting = 0
        if not cluster.room(needs):
            n_waiting = n
            yield Waiting(_no_room(cluster, n, n, needs))
        while not leave.asked and not (end and all(w.ended or not w.runs for w in workers)):
            calls = {w.call: w for w in workers if not w.ended}
            ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=POLL_SECONDS)
            for worker in [calls[call] for call in ready]:
                for said in _answer(cluster, worker):
                    if isinstance(said, SearchEnded):
                        worker.ended = True
                        end = said
                    elif not isinstance(said, Waiting):
                        # The others' events say what it waits for.
                        yield said
            waiting = sum(not w.runs and time.monotonic() - w.asked_at > PLACED_SECONDS for w in workers)
            if waiting > n_waiting:
                yield Waiting(_no_room(cluster, waiting, n, needs))
            n_waiting = max(n_waiting, waiting) if waiting else 0
        if leave.asked:
            end = SearchEnded(EndReason.LEFT, "interrupted; what the workers had in hand is kept")
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise errors.LrsearchError(f"the Ray cluster does not answer any more: {_first_line(error)}") from None
    finally:
        _end_all(cluster, workers)
    if end is not None:
        yield end


def _begin(actor: Any, order: Order, *, reached_before: bool) -> Any:
    # Asked until there is one: Ray restarts the actor when and where it can.
    return actor.begin.options(max_task_retries=-1).remote(order, reached_before=reached_before)


def _answer(cluster: Cluster, worker: _Worker) -> list[Event]:
    """Take what a worker has answered, and ask it for more.

    Raises:
        LrsearchError: what ended it, or that it died again and again.
    """
    ray = cluster.ray
    try:
        answer: Process | list[Event | Failed] = ray.get(worker.call)
    except ray.exceptions.ActorUnavailableError:
        # Its process or its node has gone, or the connection for a moment: whoever begins tells.
        worker.runs = False
        worker.asked_at = time.monotonic()
        worker.call = _begin(worker.actor, worker.order, reached_before=True)
        return []
    except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError) as error:
        raise errors.LrsearchError(
            f"a worker cannot start on the Ray cluster, where every node needs lrsearch {__version__}: {_why(error)}"
        ) from None
    events: list[Event] = []
    if isinstance(answer, Process):
        events += _began(cluster, worker, answer)
    else:
        for said in answer:
            if isinstance(said, Failed):
                raise said.kind(f"worker {worker.process}: {said.message}")
            if isinstance(said, EpochDone | TrialEnded):
                worker.deaths = 0
            events.append(said)
        worker.heard += len(answer)
    worker.call = worker.actor.hear.remote(worker.heard)
    return events


def _began(cluster: Cluster, worker: _Worker, process: Process) -> list[Event]:
    before, worker.process, worker.runs = worker.process, process, True
    if before is None or before == process:
        return []
    worker.heard = 0
    if cluster.lives(before.node):
        worker.deaths += 1
        lost = f"worker process {before} ended before its time"
    else:
        # No fault of the worker's.
        lost = f"worker process {before} was lost with its node"
    if worker.deaths >= MAX_DEATHS:
        raise errors.LrsearchError(
            f"{lost}, {worker.deaths} times in a row without an epoch trained: "
            f"the run ends, its finished trials are kept"
        )
    return [WorkerReplaced(f"{lost}; process {process} takes its place")]


def _no_room(cluster: Cluster, waiting: int, n: int, needs: Needs) -> str:
    who = "the worker" if n == 1 else f"{waiting} of {n} workers"
    why = "those that have it are in use" if cluster.room(needs) else "no node of the cluster has that"
    return f"no resources for {who}: each needs {needs}, and {why}"


def _end_all(cluster: Cluster, workers: Sequence[_Worker]) -> None:
    """Ask those that still run to leave, give them time for it, and take all of them off the cluster."""
    ray = cluster.ray
    until = time.monotonic() + GRACE_SECONDS
    with suppress(ray.exceptions.RayError, ConnectionError):
        left = {w.call: w for w in workers if w.runs and not w.ended}
        for worker in left.values():
            worker.actor.leave.remote()
        while left and time.monotonic() < until:
            ready, _ = ray.wait(list(left), num_returns=len(left), timeout=POLL_SECONDS)
            for call in ready:
                worker = left.pop(call)
                # One that has failed or died has left.
                with suppress(errors.LrsearchError):
                    said = _answer(cluster, worker)
                    if worker.runs and not any(isinstance(event, SearchEnded) for event in said):
                        left[worker.call] = worker
        for worker in left.values():
            log.warning("worker process %s did not leave in time and is killed", worker.process)
    for worker in workers:
        with suppress(ray.exceptions.RayError, ConnectionError):
            ray.kill(worker.actor, no_restart=True)


def _why(error: Exception) -> str:
    """Return the last line of what Ray says, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

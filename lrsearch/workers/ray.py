"""Workers as actors of a Ray cluster, which places them, restarts them and forwards their logs.

The driver, which is this process, asks each one again and again for what it has to say: that also works through Ray's
client, and survives a node that goes away. What a worker is to do, with the password of the database in it, goes from
the driver to the actor alone: arguments of the actor's making would be kept by the cluster, for restarts.
"""

import logging
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrsearch import errors
from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, Waiting, WorkerReplaced
from lrsearch.store.keeper import Leave
from lrsearch.store.places import Place, SqliteFile
from lrsearch.version import __version__
from lrsearch.workers import json_log
from lrsearch.workers.process import GRACE_SECONDS, MAX_DEATHS, Failed, Order
from lrsearch.workers.ray_actor import Process, RayActor
from lrsearch.workers.ray_cluster import Cluster, Needs

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
PLACED_SECONDS = 10.0
"""After which a worker that does not run yet is said to wait for a place."""
SILENT_SECONDS = 30.0
"""After which a cluster whose head does not answer is given up. Its nodes end what runs on them after a minute."""
CALLS_AT_ONCE = 4
"""To one actor: one that waits for news, one that was left over from a lost connection, one that asks to leave."""


@dataclass
class _Actor:
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
    kind = ray.remote(RayActor).options(
        num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=-1, max_concurrency=CALLS_AT_ONCE
    )
    workers: list[_Actor] = []
    end: SearchEnded | None = None
    try:
        for _ in range(n):
            actor = kind.remote(__version__)
            workers.append(_Actor(job, actor, _begin(actor, job, reached_before=False)))
        n_waiting, told_silent = 0, False
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
            silent = cluster.head.silent()
            if silent and not told_silent:
                yield Waiting(f"the Ray cluster at {cluster.head.address} does not answer: {cluster.head.why}")
            told_silent = bool(silent)
            _check_patience(cluster)
            waiting = sum(not w.runs and time.monotonic() - w.asked_at > PLACED_SECONDS for w in workers)
            if waiting > n_waiting and not silent:
                yield Waiting(_no_room(cluster, waiting, n, needs))
            n_waiting = max(n_waiting, waiting) if waiting else 0
        if leave.asked:
            end = SearchEnded(EndReason.LEFT, "interrupted; what the workers had in hand is kept")
    except errors.LrsearchError:
        raise
    except Exception as error:
        # Of any kind: Ray's client has none of its own for a connection that it has lost.
        if cluster.head.silent():
            raise _no_answer(cluster) from None
        if isinstance(error, ray.exceptions.RayError | ConnectionError):
            raise errors.LrsearchError(f"the Ray cluster does not answer any more: {_first_line(error)}") from None
        raise
    finally:
        _end_all(cluster, workers)
    if end is not None:
        yield end


def _check_patience(cluster: Cluster) -> None:
    if cluster.head.silent() > SILENT_SECONDS:
        raise _no_answer(cluster)


def _no_answer(cluster: Cluster) -> errors.LrsearchError:
    return errors.LrsearchError(
        f"the Ray cluster at {cluster.head.address} has not answered for {cluster.head.silent():.0f} s "
        f"({cluster.head.why}): the run ends, its finished trials are kept; the same command goes on once the cluster "
        f"is back"
    )


def _begin(actor: Any, order: Order, *, reached_before: bool) -> Any:
    # Asked until there is one: Ray restarts the actor when and where it can.
    return actor.begin.options(max_task_retries=-1).remote(order, reached_before=reached_before)


def _answer(cluster: Cluster, worker: _Actor, *, leaving: bool = False) -> list[Event]:
    """Take what a worker has answered, and ask it for more; one that died while it was leaving does not begin again.

    Raises:
        LrsearchError: what ended it, or that it died again and again.
    """
    ray = cluster.ray
    try:
        answer: Process | list[Event | Failed] | None = ray.get(worker.call)
    except ray.exceptions.ActorUnavailableError:
        # Its process or its node has gone, or the connection for a moment; the next start tells which.
        answer = None
    except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError) as error:
        raise errors.LrsearchError(
            f"a worker cannot start on the Ray cluster, where every node needs lrsearch {__version__}: {_why(error)}"
        ) from None
    events: list[Event] = []
    if answer is None:
        worker.runs = False
        worker.asked_at = time.monotonic()
        worker.call = None if leaving else _begin(worker.actor, worker.order, reached_before=True)
        return events
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


def _began(cluster: Cluster, worker: _Actor, process: Process) -> list[Event]:
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
    if not cluster.room(needs):
        return f"no resources for {who}: each needs {needs}, and no node of the cluster has that"
    return f"no process yet for {who}: each needs {needs}, and the nodes that have it are in use, or slow to start one"


def _end_all(cluster: Cluster, workers: Sequence[_Actor]) -> None:
    """Ask those that run to leave, give them time for it, and take all of them off the cluster."""
    ray = cluster.ray
    until = time.monotonic() + GRACE_SECONDS
    with suppress(Exception):  # of every kind, where the connection is lost; how the search ends is known by now
        left: dict[Any, _Actor] = {}
        for worker in workers:
            if worker.runs and not worker.ended:
                worker.actor.leave.remote()
                left[worker.call] = worker
            else:
                # Or it would begin while the others leave.
                ray.kill(worker.actor, no_restart=True)
        while left and time.monotonic() < until:
            ready, _ = ray.wait(list(left), num_returns=len(left), timeout=POLL_SECONDS)
            for call in ready:
                worker = left.pop(call)
                if _leaves(cluster, worker):
                    left[worker.call] = worker
                else:
                    ray.kill(worker.actor, no_restart=True)
        for worker in left.values():
            log.warning("worker process %s did not leave in time and is killed", worker.process)
    for worker in workers:
        with suppress(Exception):
            ray.kill(worker.actor, no_restart=True)


def _leaves(cluster: Cluster, worker: _Actor) -> bool:
    """Whether a worker that was asked to leave still does, by its answer."""
    try:
        said = _answer(cluster, worker, leaving=True)
    except errors.LrsearchError:
        # It has failed.
        return False
    return worker.runs and not any(isinstance(event, SearchEnded) for event in said)


def _why(error: Exception) -> str:
    """Return the last line of what Ray says, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

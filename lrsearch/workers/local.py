"""Several workers on this machine: a process each, with its own device and threads, and one stream of events.

Processes are forked off one that has imported PyTorch, where the system can do that: its import is paid once. The
storage URL reaches them through a pipe, never through their command line. A worker that dies is replaced; one that dies
again and again without an accepted epoch ends the run.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from lrsearch import cores, errors
from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, Waiting, WorkerReplaced
from lrsearch.store import confirmations
from lrsearch.store.keeper import Leave
from lrsearch.store.study import Study
from lrsearch.trial import Reason
from lrsearch.workers import json_log, preloaded
from lrsearch.workers.number import count_gpus, suitable
from lrsearch.workers.process import GRACE_SECONDS, MAX_DEATHS, Failed, Order, serve

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1


@dataclass
class _Process:
    order: Order
    process: BaseProcess
    events: Connection
    deaths: int = 0
    ended: bool = False


def orders(
    study: Study,
    n: int | None,
    *,
    device: str,
    threads: int | None,
    data_dir: Path | None,
    artifacts: str | None,
    workers_per_gpu: int = 1,
    only_confirm: bool = False,
) -> list[Order]:
    """Return what each worker is to do: GPUs are given out in turn, cores are shared evenly.

    They are not more than trials are left of the study's budget.

    Args:
        study: as it is filed.
        n: workers that were asked for; None: as many as suit this machine.
        device: the name of a device; ``auto`` and ``cuda`` stand for all GPUs of this machine.
        threads: CPU threads of each; None: its share of the cores.
        data_dir: where the images lie.
        artifacts: where checkpoints and weights lie; None: where the study says.
        workers_per_gpu: those that share one, where ``n`` is None.
        only_confirm: whether they train for a confirmation and search no further.
    """
    n_gpus = count_gpus() if device in ("auto", "cuda") else 0
    n_workers = n or suitable(n_gpus, workers_per_gpu)
    if (total := study.budget().trials) is not None and confirmations.race_of_study(study) is None:
        n_left = max(1, total - sum(trial.state.counts for trial in study.trials()))
        if n is not None and n_left < n:
            log.warning("%d of the %d workers are started: no more trials are left", n_left, n)
        n_workers = min(n_workers, n_left)
    base = Order(
        study.database.place,
        study.name,
        device,
        None,
        threads or cores.share(n_workers),
        data_dir,
        artifacts,
        logging.getLogger("lrsearch").getEffectiveLevel(),
        json_log.installed() is not None,
        only_confirm,
    )
    if n_gpus == 0:
        return [base] * n_workers
    return [replace(base, gpu=i % n_gpus, device="cuda") for i in range(n_workers)]


def search(jobs: Sequence[Order], leave: Leave) -> Generator[Event]:
    """Run a worker for every order until the study has no more to give; yield what they all say.

    Raises:
        LrsearchError: what ended a worker, or that one died again and again.
    """
    context = preloaded.context()
    workers = [_start(context, job) for job in jobs]
    end: SearchEnded | None = None
    try:
        while any(not w.ended for w in workers):
            if leave.asked:
                break
            ready = connection.wait([w.events for w in workers if not w.ended], POLL_SECONDS)
            for worker in [w for w in workers if w.events in ready]:
                said = _receive(worker)
                if isinstance(said, Failed):
                    raise said.kind(said.message)
                if isinstance(said, SearchEnded):
                    worker.ended = True
                    end = said
                elif said is not None:
                    if isinstance(said, EpochDone | TrialEnded):
                        worker.deaths = 0
                    if not isinstance(said, Waiting):
                        # The others' events say what it waits for.
                        yield said
                elif not leave.asked:
                    yield _replace(context, workers, worker)
        if leave.asked:
            end = SearchEnded(EndReason.LEFT, "interrupted; what the workers had in hand is kept")
    finally:
        _end_all(workers)
    if end is not None:
        yield end


def _replace(context: BaseContext, workers: list[_Process], dead: _Process) -> WorkerReplaced:
    dead.process.join()
    code = dead.process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    what = f"worker process {dead.process.pid} {how}"
    deaths = dead.deaths + 1
    if deaths >= MAX_DEATHS:
        raise errors.LrsearchError(
            f"{what}, {deaths} times in a row without an epoch trained: the run ends, its finished trials are kept"
        )
    fresh = _start(context, dead.order)
    fresh.deaths = deaths
    workers[workers.index(dead)] = fresh
    dead.events.close()
    return WorkerReplaced(f"{what}; process {fresh.process.pid} takes its place")


def _receive(worker: _Process) -> Event | Failed | None:
    try:
        said: Event | Failed = worker.events.recv()
    except (EOFError, OSError):
        return None
    return said


def _start(context: BaseContext, order: Order) -> _Process:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(order, theirs), name="lrsearch-worker")  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    return _Process(order, process, ours)


def _end_all(workers: Sequence[_Process]) -> None:
    """Ask those that still run to leave, give them time for it, and read on so that none waits for us."""
    for worker in workers:
        if worker.process.is_alive() and not worker.ended:
            worker.process.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        while worker.process.is_alive() and time.monotonic() < until:
            with suppress(EOFError, OSError):
                while worker.events.poll(POLL_SECONDS):
                    worker.events.recv()
            worker.process.join(POLL_SECONDS)
        if worker.process.is_alive():
            log.warning("worker process %s did not leave in time and is killed", worker.process.pid)
            worker.process.kill()
            worker.process.join()
        worker.events.close()


def _serve(order: Order, events: Connection) -> None:
    """Be a worker: the body of its process."""
    # Before CUDA is initialised; Ctrl-C reaches the whole group, and the one who started us asks us to leave.
    if order.gpu is not None:
        named = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
        os.environ["CUDA_VISIBLE_DEVICES"] = named[order.gpu] if named else str(order.gpu)
    leave = Leave()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: leave.ask(Reason.PREEMPTED))
    # The end of the terminal, and a batch system's warning, reach the whole group too.
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    json_log.take_up(order.log_level, as_json=order.log_json)
    try:
        code = serve(order, leave, events.send)
    except OSError:
        # The process that started us is gone.
        code = errors.EXIT_FAILURE
    events.close()
    # Taking PyTorch down piece by piece takes half a second.
    sys.stderr.flush()
    os._exit(code)

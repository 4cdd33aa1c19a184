"""Work on many pictures: in processes of their own where it is worth it, else here.

Not ``multiprocessing`` itself: the processes it starts run the main program of whoever called us from its top, a
script's search included. joblib's (loky) do not, and they hold nothing of this process: no CUDA, no locks.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import current_process
from typing import Final, TypeVar

from lrsearch import cores
from lrsearch.errors import DataError

WORTH_SECONDS: Final = 2.0
"""Of work that is left, from which on other processes are started for it: that takes about a second."""
LOOK_SECONDS: Final = 1.0
"""So often a process looks whether the one that started it is still there: it may have been killed."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def spread(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """Yield what ``work`` makes of each task, in the order in which they are done.

    The first are done here, and tell how long the others would take.

    Args:
        work: a function of a module.
        tasks: what it is called with; of about one size.

    Raises:
        DataError: one of these processes was killed.
    """
    # A process that multiprocessing has marked as one that leaves with its parent may start none.
    n = 1 if current_process().daemon else cores.available()
    begin = time.perf_counter()
    for i, task in enumerate(tasks):
        yield work(task)
        left = len(tasks) - i - 1
        if min(n, left) > 1 and (time.perf_counter() - begin) / (i + 1) * left > WORTH_SECONDS:
            yield from _in_processes(work, tasks[i + 1 :], min(n, left))
            return


def _in_processes(work: Callable[[Task], Result], tasks: Sequence[Task], n: int) -> Iterator[Result]:
    from concurrent.futures import as_completed
    from concurrent.futures.process import BrokenProcessPool

    from joblib.externals.loky import ProcessPoolExecutor  # type: ignore[import-untyped]

    pool = ProcessPoolExecutor(n, initializer=_begin, initargs=(os.getpid(),))
    try:
        for future in as_completed([pool.submit(work, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        raise DataError(
            "a process that reads pictures was killed, as systems do where memory is short; what is decoded is kept: "
            "end other programs and start again"
        ) from None
    finally:
        pool.shutdown(kill_workers=True)


def _begin(parent: int) -> None:
    # Ctrl-C reaches the whole group; the one who started us ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)

"""The process that workers are forked off: it has imported PyTorch and holds nothing.

It imports while the process that starts it does other things, and that takes longer than anything else at the start of
a search: it is to be started as soon as workers are sure to be. So this module imports nothing that takes long.
"""

import multiprocessing
import signal
from multiprocessing.context import BaseContext


def context() -> BaseContext:
    """Return what processes of workers are made by; the process they are forked off begins to import, if it has not."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["lrsearch.workers.forked"])
    # A batch system sends SIGTERM to every process: the one that workers are forked off must outlive them, or nobody
    # would wait for what they keep; they let the signal in as soon as they can hear it. Ctrl-C reaches it too, and it
    # ignores that only when it has imported all. The tracker first, because its start lets the signals in.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return found

"""What a search changes in the process that calls it, and how it is put back: the process is somebody else's."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

from lrsearch import cores
from lrsearch.trial import Reason

if TYPE_CHECKING:
    from lrsearch.store.keeper import Leave

log = logging.getLogger(__name__)


def warn_of_spinning(threads: int | None) -> None:
    """Say that PyTorch's threads fight for the cores, where it was imported too early to be told otherwise.

    A notebook imports it in its first cell. Threads that spin while they wait cost nothing on an idle machine, and up
    to thirty times the training on a busy one (docs/decisions/0021-share-the-cores.md). To be called before
    ``cores.wait_passively``.
    """
    if threads == 1 or "torch" not in sys.modules or any(name in os.environ for name in cores.OF_WAITING):
        return
    if not hasattr(os, "getloadavg") or os.getloadavg()[0] < cores.available() / 2:
        return
    log.warning(
        "other programs use the cores of this machine, and PyTorch was imported before lrsearch could have its threads "
        "sleep while they wait, so that trainings may take many times as long: start Python with "
        "OMP_WAIT_POLICY=PASSIVE in its environment, or give threads=1"
    )


def load() -> None:
    """Import Optuna, which would have a notebook warned that it has no widgets for a bar that nobody asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import optuna

    del optuna


@contextmanager
def as_it_was() -> Iterator[None]:
    """Give PyTorch's threads and switches back as they were: a training sets them for bitwise repetition."""
    import torch

    threads = torch.get_num_threads()
    flushes = torch.tensor(1e-40).mul(1.0).item() == 0
    cudnn = torch.backends.cudnn
    switches = cudnn.benchmark, cudnn.deterministic
    tf32 = None
    with suppress(RuntimeError):  # of somebody who sets them by the names that are new in PyTorch 2.9
        tf32 = cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
        cudnn.benchmark, cudnn.deterministic = switches
        if tf32 is not None:
            cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32


@contextmanager
def without_main() -> Iterator[None]:
    """Have worker processes that start in the block import no script: they need nothing of it.

    Python lets each process that it starts import the script of the one that starts it, which would search again in a
    script without ``if __name__ == "__main__"``. A notebook is none, and stays where it is.
    """
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) is None and getattr(main, "__spec__", None) is None:
        yield
        return
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def leaving_at_interrupt(leave: "Leave") -> Iterator[Callable[[], AbstractContextManager[object]]]:
    """Have the first interrupt in the block ask the search to leave, which it does within an update.

    ``KeyboardInterrupt`` in the midst of a transaction would leave a lock behind. A second interrupt is raised where it
    comes. One that somebody else takes care of is left to them.

    Yields:
        a block within it in which an interrupt is raised where it comes: reading pictures may take long, and what is
        read is kept.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield nullcontext
        return

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if leave.asked:
            signal.default_int_handler(signum, frame)
        leave.ask(Reason.INTERRUPTED)

    @contextmanager
    def raised() -> Iterator[None]:
        raise_interrupt(leave)
        signal.signal(signal.SIGINT, before)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, on_interrupt)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield raised
    finally:
        signal.signal(signal.SIGINT, before)


def raise_interrupt(leave: "Leave") -> None:
    """Raise the interrupt that came meanwhile.

    Raises:
        KeyboardInterrupt: it did.
    """
    if leave.asked:
        raise KeyboardInterrupt

"""What a search changes in the process that calls it, and how it is put back: the process is somebody else's."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from lrsearch import cores

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

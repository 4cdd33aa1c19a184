"""How many workers suit this machine, and how many can be started on it."""

import os
import sys
from pathlib import Path

from lrsearch import cores
from lrsearch.errors import UsageError

MOST_PER_CORE = 16
"""Workers; far more than are of use, and few enough to be started."""


def check_startable(n: int, called: str) -> None:
    """Refuse more workers than can be started on this machine; ``called`` is the option or the keyword.

    Raises:
        UsageError: they are more.
    """
    n_cores = cores.available()
    if n > (most := MOST_PER_CORE * n_cores):
        raise UsageError(
            f"{called} must be at most {most} on this machine ({MOST_PER_CORE} for each of its {n_cores} cores), got "
            f"{n}: each is a process with PyTorch; use PostgreSQL and more machines"
        )


def suitable(n_gpus: int, workers_per_gpu: int) -> int:
    """Return the workers that suit this machine: so many a GPU, else one a core.

    On a CPU one process with one thread for each core beats one with many threads, for models of this size
    (docs/benchmarks.md).
    """
    return n_gpus * workers_per_gpu if n_gpus else cores.available()


def count_gpus() -> int:
    """Return the CUDA devices of this machine; PyTorch is imported only where there may be one."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        named = [word for word in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if word.strip()]
        if not named:
            return 0
    if sys.platform == "linux" and not any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return 0
    import torch

    return torch.cuda.device_count()

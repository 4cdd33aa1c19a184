"""How many cores this process may use, and how its threads wait for each other; known without PyTorch."""

import os

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
"""For GNU's, LLVM's and Intel's OpenMP: threads that have nothing to do sleep. GNU's, which PyTorch comes with, look
for work 3,000 times before: within these microseconds the next layer begins, where nothing else wants the core."""
OF_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables with which a person says how threads wait; any of them is left alone."""


def available() -> int:
    """Return the cores that this process may use: of its affinity mask, and within the limit of its control group.

    A container of 2 of 64 cores has 2. ``LOKY_MAX_CPU_COUNT`` lowers it.
    """
    import joblib

    return int(joblib.cpu_count())


def share(n_workers: int) -> int:
    """Return the cores for each of so many workers, at least one."""
    return max(1, available() // max(1, n_workers))


def wait_passively() -> None:
    """Have OpenMP's threads sleep while they wait for each other, but for a moment; before PyTorch is imported.

    PyTorch reads it once. By default they spin for long, which wins little where a process has its cores for itself,
    and makes it ten to thirty times slower where something else wants them:
    docs/decisions/0021-share-the-cores.md. Processes that are started from here inherit it.
    """
    if not any(name in os.environ for name in OF_WAITING):
        os.environ.update(PASSIVE)

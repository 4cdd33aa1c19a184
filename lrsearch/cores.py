"""How many cores this process may use; known without PyTorch, which counts those of the machine."""

import os


def available() -> int:
    """Return the cores of this process's affinity mask, where the system has one, else those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

"""What a search changes in the process that calls it, and how it is put back: the process is somebody else's."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def as_it_was() -> Iterator[None]:
    """Give PyTorch's threads and switches back as they were: a training sets them for bitwise repetition."""
    import torch

    threads = torch.get_num_threads()
    flushes = torch.tensor(1e-40).mul(1.0).item() == 0
    cudnn = torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic


@contextmanager
def without_main() -> Iterator[None]:
    """Have worker processes that start in the block import no script: they need nothing of it.

    Python lets each process that it starts import the script of the one that starts it, which would search again in a
    script without ``if __name__ == "__main__"``.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main

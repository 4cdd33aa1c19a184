"""Which device trains, with how many threads, and under which versions the numbers repeat."""

import os
import platform
import re

import numpy as np
import torch

from lrsearch import cores
from lrsearch.errors import DeviceError
from lrsearch.spec.models import MODELS
from lrsearch.version import __version__


def resolve(name: str = "auto") -> torch.device:
    """Return the device: CUDA if present, then MPS, then the CPU; or the one that is named.

    Raises:
        DeviceError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # read it back: 'meta' lets itself be allocated, and holds nothing
    # torch's own ways to say no: RuntimeError for a wrong name, and a subclass of it for 'meta'; AssertionError from a
    # build without CUDA; ImportError where a backend's package is missing.
    except (RuntimeError, AssertionError, ImportError) as error:
        # torch's first sentence: others are about its own build, or go on for a page.
        first = re.split(r"(?<=\.)\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".") or type(error).__name__
        raise DeviceError(
            f"the device {name!r} must be one that PyTorch can use on this machine, such as 'cpu' or 'auto': {first}"
        ) from None
    return device


def prepare(device: torch.device, threads: int) -> None:
    """Set this process up for bitwise repetition: thread count, rounding of tiny numbers and deterministic kernels.

    This changes process-wide state: the owner of the process calls it once, before the first training. Numbers below
    float32's smallest normal one (1.2e-38) count as zero: weights that decay to nothing would make a training on a CPU
    up to ten times slower.
    """
    set_threads(threads)
    # numpy 1.26 measures its types when first asked, and would warn of a machine whose tiny numbers are zero.
    _ = np.finfo(np.float32), np.finfo(np.float64)
    torch.set_flush_denormal(True)
    if device.type == "cuda":
        # cuBLAS repeats bit for bit only with a fixed workspace; read when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def set_threads(threads: int) -> None:
    """Have this process compute with so many threads, between two trainings."""
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def threads_for(model_name: str, n_workers: int = 1) -> int:
    """Return the thread count that is fast for one of so many trainings on this machine's CPU.

    A dense network's update is too short to share; a convolution's is worth it (docs/benchmarks.md).
    """
    return 1 if model_name in MODELS and MODELS[model_name].one_thread else cores.share(n_workers)


def describe(device: torch.device) -> str:
    """Return the device in words: ``cpu (2 threads)``, ``cuda:0 (NVIDIA H100)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        n = torch.get_num_threads()
        return f"cpu ({n} thread{'s' if n > 1 else ''})"
    return str(device)


def versions() -> str:
    """Return the versions that bitwise repetition depends on."""
    flushed = ", denormals flushed" if torch.tensor(1e-40).mul(1.0).item() == 0 else ""
    return f"lrsearch {__version__}, torch {torch.__version__}, python {platform.python_version()}{flushed}"


_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")
"""What torch says on the CPU of Linux and macOS, on the CPU of Windows, on an accelerator, and of cuBLAS and cuDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a training died of too little memory, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)

"""What a model draws at random while it trains: from generators that the seed and the number of the update decide.

So a resumed training needs no state of a generator, and draws what the uninterrupted one does, whatever else drew from
it meanwhile.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def at(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Let torch, NumPy and Python draw for update ``step`` (0-based) as ``seed`` says; then as if nobody had."""
    number = int.from_bytes(hashlib.blake2b(f"{seed} model {step}".encode(), digest_size=8).digest())
    theirs, ours = random.getstate(), np.random.get_state()  # noqa: NPY002 - what models draw from
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(number)  # torch.manual_seed would reseed every accelerator as well
        if device.type == "cuda":
            torch.cuda.manual_seed(number)
        np.random.seed(number % 2**32)  # noqa: NPY002
        random.seed(number)
        try:
            yield
        finally:
            random.setstate(theirs)
            np.random.set_state(ours)  # noqa: NPY002

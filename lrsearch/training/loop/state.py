"""What a person's loop can be kept by, as bytes: its own objects, the run's place, and the generators it draws from."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch

from lrsearch.training.checkpoint import as_on_cpu, opened, sealed
from lrsearch.training.engine import CheckpointError
from lrsearch.training.loop.faults import LoopError
from lrsearch.training.loop.run import Kept, Run
from lrsearch.training.watch import Watch


def seed_everything(seed: int) -> None:
    """Seed torch, NumPy and Python, whose generators a person's loop draws from."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what a person's code draws from
    random.seed(seed)


@dataclass(frozen=True, slots=True)
class LoopState:
    """Where a loop stands after an epoch."""

    step: int
    objects: dict[str, Any]
    saved: Any
    average: dict[str, torch.Tensor] | None
    plateau: dict[str, Any] | None
    watch: dict[str, Any]
    generators: dict[str, Any]


def encode(run: Run, decided_by: str) -> bytes | None:
    """Return where a run stands after an epoch; None of a loop that cannot be kept.

    Raises:
        LoopError: what it wants kept holds something that is neither a tensor nor a plain value.
    """
    kept = run.kept
    if kept is None:
        return None
    average = run.averaged()
    state = {
        "decided_by": decided_by,
        "step": run.updates,
        "objects": {name: as_on_cpu(one.state_dict()) for name, one in kept.objects.items()},
        "saved": None if kept.save is None else as_on_cpu(kept.save()),
        "average": None if average is None else as_on_cpu(average.state_dict()),
        "plateau": run.plateau_state(),
        "watch": run.watch.state(),
        "generators": _generators(run.device),
    }
    buffer = BytesIO()
    try:
        torch.save(state, buffer)
        torch.load(BytesIO(buffer.getvalue()), weights_only=True)
    except Exception as error:
        raise LoopError(
            f"what run.resume() keeps must be tensors and plain values (numbers, text, lists, dicts): "
            f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"
        ) from error
    return sealed(buffer.getvalue())


def decode(data: bytes, decided_by: str) -> LoopState:
    """Return where a run stood.

    Raises:
        CheckpointError: damaged bytes, or the state of another training.
    """
    state: dict[str, Any] = torch.load(BytesIO(opened(data)), map_location="cpu", weights_only=True)
    if state.pop("decided_by", None) != decided_by:
        raise CheckpointError("a checkpoint must be of the training that it resumes, and this one is of another loop")
    return LoopState(**state)


def put_back(run: Run, state: LoopState, kept: Kept) -> int:
    """Have a run, and what its loop keeps, stand where ``state`` was taken; return the updates that are behind.

    Raises:
        LoopError: the loop keeps other things than it did.
    """
    names = {name for name in (*kept.objects, *state.objects) if (name in kept.objects) != (name in state.objects)}
    if names or (kept.load is None) != (state.saved is None):
        what = ", ".join(sorted(names)) or "save and load"
        raise LoopError(f"run.resume() must be called with what the trial was kept by, and {what} differs")
    for name, one in kept.objects.items():
        one.load_state_dict(state.objects[name])
    if kept.load is not None:
        kept.load(state.saved)
    average = run.averaged()
    if average is not None and state.average is not None:
        average.load_state_dict(state.average)
    run.restore(state.plateau, Watch.restored(state.watch))
    _put_back_generators(state.generators, run.device)
    return state.step


def _generators(device: torch.device) -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, words, gauss_next = random.getstate()
    found: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(words), gauss_next],
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _put_back_generators(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)

"""A training between two updates, as bytes: all that the rest of it depends on, with every tensor on the CPU.

The bytes are a line that names the format, the SHA-256 of what follows (torch itself reads a flipped bit without a
word), and what torch.save wrote. What decides the training is in it too, so that another one's is refused.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from io import BytesIO
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from lrsearch.training.engine import CheckpointError

FORMAT = 2
"""Goes up when the content of a checkpoint changes its meaning; another one is refused."""

_MAGIC = b"lrsearch checkpoint "
_DIGEST_BYTES = hashlib.sha256().digest_size
AGAIN = "start the trial again from its first epoch"
"""What to do with what is no checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a training stands."""

    decided_by: str
    """What decides the training, see ``decisions``."""
    step: int
    """Updates made so far."""
    model: dict[str, torch.Tensor]
    """State of the raw weights and buffers, by name."""
    average: dict[str, torch.Tensor] | None
    """That of their moving average; None when there is none."""
    optimizer: dict[int, dict[str, Any]]
    """State of torch's optimizer by parameter, without its groups: these follow from the configuration."""
    plateau: dict[str, Any] | None
    """State of the schedule that has feedback; None for the others."""
    order: torch.Tensor
    """State of the generator of the batch order at the start of the epoch under way."""
    losses: torch.Tensor
    """Of the updates of the epoch under way, ``[k]``: k batches of its order are behind."""
    n_judged: int
    """How many of these the divergence watch has looked at."""
    spreads: torch.Tensor
    """Of the outputs of the other ones, ``[k - n_judged]``; empty without the watch."""
    watch: dict[str, Any]
    """State of the watch over divergence and collapse."""
    seconds: float
    """Time that the epoch under way has taken so far."""
    loss_scale: dict[str, Any] | None = None
    """State of the scale of the loss, of a training in fp16; None for the others."""
    micro_batch: int | None = None
    """Images whose gradients are computed at once, at most [examples]; None: those of a whole batch."""


def encode(checkpoint: Checkpoint) -> bytes:
    """Return ``checkpoint`` as bytes; its tensors may lie on any device."""
    buffer = BytesIO()
    # What a training does not have that came later is left out, so that earlier versions read the others.
    given = [(f.name, getattr(checkpoint, f.name), f.default is MISSING) for f in fields(checkpoint)]
    torch.save({name: as_on_cpu(value) for name, value, always in given if always or value is not None}, buffer)
    return sealed(buffer.getvalue())


def sealed(content: bytes) -> bytes:
    """Return ``content`` behind the line that names the format and its SHA-256."""
    return _MAGIC + b"%d\n" % FORMAT + hashlib.sha256(content).digest() + content


def read(data: bytes) -> Checkpoint:
    """Return the checkpoint in ``data``, of whatever training; tensors on the CPU.

    Raises:
        CheckpointError: damaged bytes, or another format.
    """
    return Checkpoint(**torch.load(BytesIO(opened(data)), map_location="cpu", weights_only=True))


def check(checkpoint: Checkpoint, decided_by: str) -> None:
    """Make sure that a checkpoint is of the training that is decided by ``decided_by``.

    Raises:
        CheckpointError: it is of another one.
    """
    if checkpoint.decided_by != decided_by:
        there, here = (dict(_leaves(json.loads(one))) for one in (checkpoint.decided_by, decided_by))
        names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        if names:
            name = names[0]
            raise CheckpointError(
                f"a checkpoint must be of the training that it resumes, and this one has {name} = {there.get(name)!r} "
                f"instead of {here.get(name)!r}; {AGAIN}"
            )


def opened(data: bytes) -> bytes:
    """Return what ``sealed`` was given.

    Raises:
        CheckpointError: damaged bytes, or another format.
    """
    head, end_of_head, rest = data.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise CheckpointError(
            f"a checkpoint must begin as lrsearch writes it, and these {len(data)} bytes do not; {AGAIN}"
        )
    found = head.removeprefix(_MAGIC).decode(errors="replace")
    if end_of_head and found != str(FORMAT):
        raise CheckpointError(f"a checkpoint must have the format {FORMAT}, and this one has {found[:20]!r}; {AGAIN}")
    digest, content = rest[:_DIGEST_BYTES], rest[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise CheckpointError(
            f"a checkpoint must be whole, and these {len(data)} bytes are cut short or damaged; {AGAIN}"
        )
    return content


def decisions(**parts: Mapping[str, object]) -> str:
    """Return as JSON what decides a training; a field that is None is left out, so that later ones do no harm.

    >>> decisions(model={"name": "mlp", "hidden": None})
    '{"model": {"name": "mlp"}}'
    """
    return json.dumps(_without_none(parts))


def encode_weights(model: nn.Module) -> bytes:
    """Return the weights and buffers of ``model`` in the safetensors format; equal weights give equal bytes.

    The format has no two names for one tensor: tied weights stand there under the first, see ``load_weights``.
    """
    state = model.state_dict()
    tied = _ties(state)
    return safetensors.torch.save({name: _alone(t) for name, t in state.items() if name not in tied})


def with_metadata(weights: bytes, about: Mapping[str, object]) -> bytes:
    """Return what ``encode_weights`` returned with ``about`` in the header of the format; the tensors stay.

    As JSON under the one key ``lrsearch``: the format writes several in any order, and equal files would differ.
    """
    return safetensors.torch.save(safetensors.torch.load(weights), {"lrsearch": json.dumps(about, sort_keys=True)})


def load_weights(model: nn.Module, data: bytes) -> None:
    """Copy what ``encode_weights`` returned into ``model``, on its device.

    Raises:
        CheckpointError: damaged bytes, or weights of another model.
    """
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"weights must be a whole file in the safetensors format, and these {len(data)} bytes are none; "
            f"train the configuration again"
        ) from error
    ties = _ties(model.state_dict())
    load_state(model, tensors | {name: tensors[first] for name, first in ties.items() if first in tensors})


def _ties(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return the names in a model's state that stand for a tensor which an earlier name has: name -> that name."""
    first: dict[tuple[object, ...], str] = {}
    found = {}
    for name, t in state.items():
        place = (t.device, t.data_ptr(), t.shape, t.stride(), t.dtype) if t.numel() else (name,)
        if first.setdefault(place, name) != name:
            found[name] = first[place]
    return found


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the CPU, alone in its memory, as the format wants it."""
    out = tensor.detach().cpu().contiguous()
    return out if out.untyped_storage().nbytes() == out.nbytes else out.clone()


def load_state(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy ``tensors`` into the weights and buffers of ``model``, on its device; what refers to these sees it.

    Raises:
        CheckpointError: other names or shapes.
    """
    theirs, ours = ({name: tuple(t.shape) for name, t in one.items()} for one in (tensors, model.state_dict()))
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if names:
        name = names[0]
        raise CheckpointError(
            f"weights must be those of this model, and {name} has the shape {theirs.get(name)} instead of "
            f"{ours.get(name)} (None: no such tensor); look whether the study's model or data set was changed"
        )
    model.load_state_dict(tensors)


def as_on_cpu(value: Any) -> Any:
    """Return a value with every tensor in it on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: as_on_cpu(one) for key, one in value.items()}
    return value


def _without_none(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return value


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield dotted names and values of what JSON holds."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, one in value.items():
        yield from _leaves(one, f"{name}.{key}" if name else key)

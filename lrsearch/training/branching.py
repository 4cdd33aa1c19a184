"""From whose state a training may go on: its own, or that of one that was the same training so far."""

import json
from typing import Any

from pydantic import TypeAdapter

from lrsearch.sharing import shared_steps
from lrsearch.training import checkpoint as checkpoints
from lrsearch.training.checkpoint import AGAIN, Checkpoint
from lrsearch.training.engine import CheckpointError
from lrsearch.trial import TrialConfig

_CONFIG = TypeAdapter(TrialConfig)


def decode(data: bytes, decided_by: str, steps_per_epoch: int) -> Checkpoint:
    """Return the checkpoint in ``data``: of this training, or of one from which it may branch.

    That one differs in its schedule alone, has made no update at another learning rate, and stands at the end of an
    epoch, by the watch's account with a network that tells images apart: whether one that does not is dead depends on
    the learning rates to come (``collapse``).

    Args:
        data: what ``Training.checkpoint`` returned.
        decided_by: what decides this training, see ``checkpoint.decisions``.
        steps_per_epoch: the updates of an epoch.

    Raises:
        CheckpointError: damaged bytes, another format, or a training that is not the same so far.
    """
    found = checkpoints.read(data)
    there, here = _of(found.decided_by), _of(decided_by)
    if there is None or here is None or there[1] != here[1] or there[0] == here[0]:
        checkpoints.check(found, decided_by)
        return found
    shared = shared_steps(there[0], here[0], steps_per_epoch * here[0].epochs)
    if not shared:
        checkpoints.check(found, decided_by)
    if found.step > shared:
        raise CheckpointError(
            f"a training branches from another one while their learning rates are the same, which they are for "
            f"{shared} updates, and this checkpoint is of {found.step}; {AGAIN}"
        )
    if len(found.losses):
        raise CheckpointError(
            f"a training branches from another one at the end of an epoch, and this checkpoint is of "
            f"{found.step} updates with {steps_per_epoch} an epoch; {AGAIN}"
        )
    if found.watch["flat_from"] is not None:
        raise CheckpointError(
            f"a training branches from another one whose network tells images apart, and that of this checkpoint has "
            f"not since update {found.watch['flat_from']['step']}; {AGAIN}"
        )
    return found


def _of(decided_by: str) -> tuple[TrialConfig, dict[str, Any]] | None:
    """Return the configuration and, without its schedule, all that decides a training; None of a person's loop."""
    parts: dict[str, Any] = json.loads(decided_by)
    if "model" not in parts:
        return None
    config = _CONFIG.validate_python(parts["config"])
    rest = {name: value for name, value in parts["config"].items() if name != "schedule"}
    return config, {**parts, "config": rest}

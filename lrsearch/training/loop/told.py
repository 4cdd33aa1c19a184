"""What a loop tells of an epoch, under the names that its study knows."""

import math
from collections.abc import Mapping

from lrsearch.errors import nearest
from lrsearch.spec.metrics import Metric
from lrsearch.training.loop.faults import LoopError
from lrsearch.trial import EpochMetrics

TOLD = ("train_loss", "val_loss", "val_accuracy", "averaged_val_loss", "averaged_val_accuracy")
"""What ``Run.epoch`` takes whatever the study's metric is."""


def checked(told: Mapping[str, float], metric: Metric) -> dict[str, float]:
    """Return what was told as numbers.

    Raises:
        LoopError: the study's metric was not told, or something that nobody knows.
    """
    name = metric.column or metric.name
    known = list(dict.fromkeys([*TOLD, name, f"averaged_{name}"]))
    if extra := [one for one in told if one not in known]:
        raise LoopError(
            f"run.epoch() does not know '{extra[0]}'{nearest(extra[0], known)}; known: {', '.join(known)}; "
            f"objective.metric and objective.direction name another metric"
        )
    if name not in told:
        raise LoopError(
            f"the study's metric is '{metric.name}', and run.epoch() was told {', '.join(told) or 'nothing'}: "
            f"tell it {name}=..."
        )
    return {one: float(value) for one, value in told.items()}


def metrics(values: Mapping[str, float], metric: Metric, *, epoch: int, step: int, lr: float) -> EpochMetrics:
    """Return what an epoch measured; what was not told is not a number, and of the averaged weights None."""
    return EpochMetrics(
        epoch=epoch,
        step=step,
        lr=lr,
        train_loss=values.get("train_loss", math.nan),
        val_loss=values.get("val_loss", math.nan),
        val_accuracy=values.get("val_accuracy", math.nan),
        averaged_val_loss=values.get("averaged_val_loss"),
        averaged_val_accuracy=values.get("averaged_val_accuracy"),
        seconds=0.0,
        val_score=None if metric.column else values[metric.name],
        averaged_val_score=None if metric.column else values.get(f"averaged_{metric.name}"),
    )

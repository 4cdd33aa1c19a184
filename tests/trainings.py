"""Trainings in tests: trained through, and looked at before every update."""

from dataclasses import replace

from lrsearch.training.serial import SerialTraining
from lrsearch.trial import EpochMetrics


def trained(training: SerialTraining) -> tuple[list[object], bytes]:
    """Return what a training tells until its end, and its last weights."""
    told = [unclocked(one) for one in training.epochs()]
    return told, training.weights()


def unclocked(told: object) -> object:
    """Return what was told without its seconds, which are never the same."""
    return replace(told, seconds=0.0) if isinstance(told, EpochMetrics) else told


class Lrs:
    """Looks before every update at the learning rate to come."""

    def __init__(self) -> None:
        self.training: SerialTraining | None = None
        self.seen: list[float] = []

    def is_set(self) -> bool:
        assert self.training is not None
        self.seen.append(self.training.lr)
        return False

    def ends(self) -> bool:
        return False

"""What an engine is: it trains a configuration and yields what every epoch measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lrsearch.trial import Divergence, EpochMetrics, TrialConfig


@dataclass(frozen=True, slots=True)
class TestResult:
    """A configuration trained once more, and judged on the untouched test images."""

    last_epoch: EpochMetrics
    """Must equal what the search recorded, bit for bit, on the same machine and versions."""
    test_loss: float
    """[nats/example]"""
    test_accuracy: float
    """[0..1]"""


class Engine(Protocol):
    """Trains one trial at a time; knows nothing of studies and storages."""

    @property
    def device(self) -> str:
        """The device in words."""
        ...

    @property
    def versions(self) -> str:
        """What bitwise repetition depends on."""
        ...

    def train(self, config: TrialConfig) -> Iterator[EpochMetrics | Divergence]:
        """Yield one EpochMetrics an epoch; a Divergence is the last thing yielded. Closing it ends the training."""
        ...

    def test(self, config: TrialConfig) -> TestResult | Divergence:
        """Train ``config`` through and judge it on the test set."""
        ...

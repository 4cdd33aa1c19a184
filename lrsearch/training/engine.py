"""What an engine is: it trains a configuration, yields what every epoch measured, and can leave off and go on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lrsearch.trial import Divergence, EpochMetrics, Facts, TrialConfig


class CheckpointError(ValueError):
    """Bytes that are not a checkpoint, or not the weights, of the training they are given to."""


class Attention(Protocol):
    """Asks a training to pause; looked at before every update."""

    def is_set(self) -> bool:
        """Whether attention is asked for."""
        ...

    def ends(self) -> bool:
        """Whether it is asked to end here for now; what cannot pause between two updates looks, and goes on if not."""
        ...


@dataclass(frozen=True, slots=True)
class Paused:
    """Training stands still between two updates, because attention was asked for."""

    epoch: int
    """The epoch under way, 1-based."""
    step: int
    """Updates made so far."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """The weights a configuration ends with, judged on the untouched test images."""

    val_loss: float
    """[nats/example]; equals what the search recorded, bit for bit, on the same machine and versions."""
    val_accuracy: float
    """[0..1]; likewise."""
    test_loss: float
    """[nats/example]"""
    test_accuracy: float
    """[0..1]"""
    test_score: float | None = None
    """The study's metric, where it is neither of these."""
    test_right: tuple[int, ...] = ()
    """Test images of each class that are right [examples]; none where there is no test image."""


class Training(Protocol):
    """One configuration being trained."""

    def epochs(self) -> Iterator[EpochMetrics | Divergence | Paused]:
        """Go on from where the training stands: yield one EpochMetrics an epoch; a Divergence is the last thing said.

        A Paused comes before an update, never twice before the same one, whenever attention is asked for; asking for
        the next one trains on. Closing it ends the training.
        """
        ...

    def checkpoint(self) -> bytes | None:
        """Return everything that the rest of the training depends on; it loads onto any device.

        None where there is nothing new to keep: a person's own loop can be kept after an epoch, or not at all.

        Ask before the first epoch, or when EpochMetrics or Paused was yielded last.
        """
        ...

    def weights(self) -> bytes | None:
        """Return the current raw weights and buffers in the safetensors format; None where nobody knows the model."""
        ...

    def validation_right(self) -> bytes | None:
        """Return which validation images the weights of the last epoch get right; None where nobody knows the images.

        A bit an image, the first the highest of its byte (``numpy.packbits``): class by class, within a class in the
        order of the data. Ask when the training is through.
        """
        ...


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

    @property
    def facts(self) -> Facts:
        """What was measured of the images that it trains on."""
        ...

    def start(
        self, config: TrialConfig, checkpoint: bytes | None = None, attention: Attention | None = None
    ) -> Training:
        """Build the training of ``config``, at its first update or where ``checkpoint`` left off.

        What is resumed equals what was never interrupted, bit for bit, on the same machine and versions. So does what
        goes on from the checkpoint of another training that was the same so far (``training.branching``), where the
        engine takes it. Memory may run out here as well as later.

        Raises:
            CheckpointError: damaged bytes, or the checkpoint of another training or of another format.
        """
        ...

    def test(
        self, config: TrialConfig, weights: bytes | None = None, attention: Attention | None = None
    ) -> TestResult | Divergence | None:
        """Judge ``weights``, what ``Training.weights`` returned; None trains ``config`` through for them.

        Returns None where attention was asked for before it was through.

        Raises:
            CheckpointError: bytes that are not weights of this model.
        """
        ...

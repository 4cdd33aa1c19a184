"""The models that a study can name: a record for each, with its layers as PyTorch's classes and their arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from lrsearch.errors import StudyFileError
from lrsearch.records import Records

Shape = tuple[int, int, int]
"""Channels, height and width of an image [pixels]."""


class Layer(NamedTuple):
    """A layer of a model."""

    name: str
    class_name: str
    """In torch.nn."""
    arguments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network, sized from the data's shape and classes."""

    name: str
    hidden: tuple[int, ...]
    """Sizes of the hidden dense layers where a study names none."""
    features: Callable[[Shape], tuple[list[Layer], Shape]]
    """From the shape of an image to the layers before the dense ones, and the shape that they leave."""
    one_thread: bool
    """Whether it trains fastest with one CPU thread, whatever cores there are."""

    def layers(self, hidden: Sequence[int], shape: Shape, n_classes: int) -> list[Layer]:
        """Return the layers, from images of ``shape`` to logits: features, flatten, a dense and a ReLU each, dense.

        Raises:
            StudyFileError: images that are too small for it.
        """
        found, (channels, height, width) = self.features(shape)
        found = [*found, Layer("flatten", "Flatten")]
        n_in = channels * height * width
        for number, n_out in enumerate(hidden, start=1):
            found += [Layer(f"dense{number}", "Linear", (n_in, n_out)), Layer(f"relu{number}", "ReLU")]
            n_in = n_out
        return [*found, Layer("output", "Linear", (n_in, n_classes))]


CNN_CHANNELS: Final = 10
CNN_KERNEL: Final = 5
"""[pixels]"""
CNN_POOL: Final = 2
"""[pixels]"""
CNN_SMALLEST: Final = CNN_KERNEL + CNN_POOL - 1
"""Height and width from which a convolution and a pooling leave a pixel [pixels]."""


def _convolution(shape: Shape) -> tuple[list[Layer], Shape]:
    channels, height, width = shape
    if min(height, width) < CNN_SMALLEST:
        raise StudyFileError(
            f"model.name: 'cnn' needs images of at least {CNN_SMALLEST}x{CNN_SMALLEST} pixels, "
            f"got {height}x{width}; use 'mlp'"
        )
    layers = [
        Layer("conv", "Conv2d", (channels, CNN_CHANNELS, CNN_KERNEL)),
        Layer("conv_relu", "ReLU"),
        Layer("pool", "MaxPool2d", (CNN_POOL,)),
    ]
    return layers, (CNN_CHANNELS, (height - CNN_KERNEL + 1) // CNN_POOL, (width - CNN_KERNEL + 1) // CNN_POOL)


MODELS: Final = Records(
    Model(name="mlp", hidden=(128,), features=lambda shape: ([], shape), one_thread=True),
    Model(name="cnn", hidden=(50,), features=_convolution, one_thread=False),
)
"""In the order in which they are listed."""

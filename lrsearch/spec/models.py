"""The models that a study can name: a record for each, with its layers as PyTorch's classes and their arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from lrsearch.errors import StudyFileError
from lrsearch.records import Records

Shape = tuple[int, int, int]
"""Channels, height and width of an image [pixels]."""


RESIDUAL: Final = "Residual"
"""Class of layers one after another whose output is added to what came in; ``training.residual`` has it."""


class Layer(NamedTuple):
    """A layer of a model."""

    name: str
    class_name: str
    """In torch.nn, or ``RESIDUAL``."""
    arguments: tuple[int, ...] = ()
    keywords: tuple[tuple[str, int | bool], ...] = ()
    within: tuple["Layer", ...] = ()
    """The layers of a residual branch."""

    @property
    def code(self) -> str:
        """How it is written in Python, where torch.nn is called nn.

        >>> Layer("conv", "Conv2d", (3, 32, 3), (("padding", 1), ("bias", False))).code
        'nn.Conv2d(3, 32, 3, padding=1, bias=False)'
        """
        given = [*map(str, self.arguments), *(f"{name}={value}" for name, value in self.keywords)]
        given += [layer.code for layer in self.within]
        return f"{self.class_name if self.class_name == RESIDUAL else f'nn.{self.class_name}'}({', '.join(given)})"


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
    looked_at: bool = False
    """Whether it is measured before it is trained, as a person's own model is: it normalises by batch, or draws."""

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


def n_parameters(layers: Sequence[Layer]) -> int:
    """Return the trainable numbers of layers.

    >>> n_parameters(MODELS["mlp"].layers((128,), (1, 8, 8), 10))
    9610
    """
    return sum(_of_layer(layer) + n_parameters(layer.within) for layer in layers)


def _of_layer(layer: Layer) -> int:
    has_bias = dict(layer.keywords).get("bias", True)
    match layer.class_name, layer.arguments:
        case "Conv2d", (n_in, n_out, kernel):
            return n_in * n_out * kernel * kernel + n_out * has_bias
        case "Linear", (n_in, n_out):
            return n_in * n_out + n_out * has_bias
        case "BatchNorm2d", (channels,):
            return 2 * channels
        case _:
            return 0


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


RESNET9_CHANNELS: Final = (32, 64, 128, 256)
"""Half as wide as in the source, with a quarter of its weights and of its arithmetic."""
RESNET9_SMALLEST: Final = 8
"""Height and width from which three poolings leave a pixel [pixels]."""


def _resnet9(shape: Shape) -> tuple[list[Layer], Shape]:
    """Return four convolutions, the last three pooled, with a residual branch behind the second and the fourth.

    The mean pools what is left, and not the maximum as in the source, which scales its logits by 1/8: without that, SGD
    with momentum learns the digits at rates up to .1 instead of up to .01.

    Source: Page, How to Train Your ResNet, part 4, 2018: the network of the DAWNBench entry for CIFAR-10.
    """
    channels, height, width = shape
    if min(height, width) < RESNET9_SMALLEST:
        raise StudyFileError(
            f"model.name: 'resnet9' needs images of at least {RESNET9_SMALLEST}x{RESNET9_SMALLEST} pixels, "
            f"got {height}x{width}; use 'mlp'"
        )
    layers: list[Layer] = []
    n_in = channels
    for number, n_out in enumerate(RESNET9_CHANNELS, start=1):
        layers += _conv_norm_relu(str(number), n_in, n_out)
        if number > 1:
            layers.append(Layer(f"pool{number}", "MaxPool2d", (2,)))
        if number in (2, 4):
            branch = _conv_norm_relu("1", n_out, n_out) + _conv_norm_relu("2", n_out, n_out)
            layers.append(Layer(f"residual{number}", RESIDUAL, within=tuple(branch)))
        n_in = n_out
    layers.append(Layer("pool", "AdaptiveAvgPool2d", (1,)))
    return layers, (n_in, 1, 1)


def _conv_norm_relu(suffix: str, n_in: int, n_out: int) -> list[Layer]:
    return [
        Layer(f"conv{suffix}", "Conv2d", (n_in, n_out, 3), (("padding", 1), ("bias", False))),
        Layer(f"norm{suffix}", "BatchNorm2d", (n_out,)),
        Layer(f"relu{suffix}", "ReLU"),
    ]


MODELS: Final = Records(
    Model(name="mlp", hidden=(128,), features=lambda shape: ([], shape), one_thread=True),
    Model(name="cnn", hidden=(50,), features=_convolution, one_thread=False),
    Model(name="resnet9", hidden=(), features=_resnet9, one_thread=False, looked_at=True),
)
"""In the order in which they are listed."""

"""The models a study can name: small, sized from the data's shape and classes, layers with names."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, assert_never, get_args

from torch import nn

from lrsearch.errors import StudyFileError, nearest

ModelName = Literal["mlp", "cnn"]

NAMES: tuple[ModelName, ...] = get_args(ModelName)

CNN_CHANNELS = 10
CNN_KERNEL = 5
"""[pixels]"""
CNN_POOL = 2
"""[pixels]"""
CNN_SMALLEST = CNN_KERNEL + CNN_POOL - 1
"""Height and width from which a convolution and a pooling leave a pixel [pixels]."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model by name, and the sizes of its hidden dense layers.

    ``hidden`` may be empty: then the output layer stands alone (with ``mlp``, softmax regression). None is the default
    of the named model, ``lrsearch.spec.study.DEFAULT_HIDDEN``.
    """

    name: ModelName = "mlp"
    hidden: tuple[int, ...] | None = None
    """Units of each hidden dense layer, in order, each >= 1."""


def build(config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
    """Build the model for images of ``shape`` (c, h, w); it maps ``[n, c, h, w]`` to logits ``[n, n_classes]``.

    Weights are torch's default initialisation, drawn from the global generator: seed it before, for a repeatable start.

    * ``mlp``: flatten; a dense layer and a ReLU for each hidden size; dense output.
    * ``cnn``: convolution 5x5 to 10 channels, ReLU, max-pool 2; then as ``mlp``.

    The layers are named: (conv, conv_relu, pool,) flatten, dense1, relu1, dense2, relu2, ..., output.

    Raises:
        StudyFileError: unknown name, a hidden size below 1, or images too small for the convolution.
    """
    hidden = _hidden(config)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, height, width = shape
    match config.name:
        case "mlp":
            pass
        case "cnn":
            if min(height, width) < CNN_SMALLEST:
                raise StudyFileError(
                    f"model.name: 'cnn' needs images of at least {CNN_SMALLEST}x{CNN_SMALLEST} pixels, "
                    f"got {height}x{width}; use 'mlp'"
                )
            layers["conv"] = nn.Conv2d(channels, CNN_CHANNELS, CNN_KERNEL)
            layers["conv_relu"] = nn.ReLU()
            layers["pool"] = nn.MaxPool2d(CNN_POOL)
            channels = CNN_CHANNELS
            height, width = (height - CNN_KERNEL + 1) // CNN_POOL, (width - CNN_KERNEL + 1) // CNN_POOL
        case _:
            assert_never(config.name)
    layers["flatten"] = nn.Flatten()
    n_in = channels * height * width
    for number, n_out in enumerate(hidden, start=1):
        layers[f"dense{number}"] = nn.Linear(n_in, n_out)
        layers[f"relu{number}"] = nn.ReLU()
        n_in = n_out
    layers["output"] = nn.Linear(n_in, n_classes)
    return nn.Sequential(layers)


def n_parameters(model: nn.Module) -> int:
    """Return the number of trainable weights and biases."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _hidden(config: ModelConfig) -> tuple[int, ...]:
    if config.name not in NAMES:
        raise StudyFileError(
            f"model.name: unknown model {config.name!r}{nearest(config.name, NAMES)}; known: {', '.join(NAMES)}"
        )
    if config.hidden is None:
        # Here, because the rest of this room does without the spec and what reads it.
        from lrsearch.spec.study import DEFAULT_HIDDEN

        return DEFAULT_HIDDEN[config.name]
    for size in config.hidden:
        if size < 1:
            raise StudyFileError(f"model.hidden: a layer has at least 1 unit, got {size}")
    return config.hidden

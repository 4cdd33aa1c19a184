"""The models a study can name, built: small, sized from the data's shape and classes, layers with names."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from lrsearch.errors import StudyFileError, nearest
from lrsearch.spec.models import MODELS


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model by name, and the sizes of its hidden dense layers.

    ``hidden`` may be empty: then the output layer stands alone (with ``mlp``, softmax regression). None is the default
    of the named model.
    """

    name: str = "mlp"
    hidden: tuple[int, ...] | None = None
    """Units of each hidden dense layer, in order, each >= 1."""


def build(config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> nn.Sequential:
    """Build the model for images of ``shape`` (c, h, w); it maps ``[n, c, h, w]`` to logits ``[n, n_classes]``.

    Weights are torch's default initialisation, drawn from the global generator: seed it before, for a repeatable start.
    The layers are those of the model's record, and have their names.

    Raises:
        StudyFileError: unknown name, a hidden size below 1, or images too small for the convolution.
    """
    hidden = _hidden(config)
    layers = MODELS[config.name].layers(hidden, shape, n_classes)
    made = [(layer.name, getattr(nn, layer.class_name)(*layer.arguments)) for layer in layers]
    return nn.Sequential(OrderedDict(made))


def n_parameters(model: nn.Module) -> int:
    """Return the number of trainable weights and biases."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _hidden(config: ModelConfig) -> tuple[int, ...]:
    if config.name not in MODELS:
        hint = nearest(config.name, tuple(MODELS))
        raise StudyFileError(f"model.name: unknown model {config.name!r}{hint}; known: {', '.join(MODELS)}")
    if config.hidden is None:
        return MODELS[config.name].hidden
    for size in config.hidden:
        if size < 1:
            raise StudyFileError(f"model.hidden: a layer has at least 1 unit, got {size}")
    return config.hidden

"""The models that a study can name, built: lrsearch's own, those of packages, and a person's own."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lrsearch.errors import StudyFileError, nearest
from lrsearch.own_code import own_lines
from lrsearch.spec.models import MODELS, RESIDUAL, Layer
from lrsearch.spec.sources import FORMS_OF_MODELS, Code, Zoo, model_of
from lrsearch.training import own_networks, stems, weights, zoo
from lrsearch.training.fitting import Loaded
from lrsearch.training.levels import LOOK_IMAGES, evaluating, levels
from lrsearch.training.model_config import ModelConfig
from lrsearch.training.residual import Residual

__all__ = ["BACKBONE", "ModelConfig", "assembled", "build", "n_parameters"]

BACKBONE = "backbone"
"""Stands for all but the head."""


def build(config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Build the model for images of ``shape`` (c, h, w) on the CPU; it maps ``[n, c, h, w]`` to logits ``[n, C]``.

    What is not loaded is drawn from torch's global generator: seed it before, for a repeatable start. Parameters that
    are frozen need no gradient; there are no lazy ones.

    Raises:
        StudyFileError: it cannot be built so; with the key, and for a person's own function their file and line.
    """
    return assembled(config, shape, n_classes)[0]


def assembled(config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> tuple[nn.Module, Loaded | None]:
    """Return what ``build`` returns, and how weights were put into it; None where they are drawn."""
    model = _drawn(config, shape, n_classes)
    loaded = None
    if config.weights is not None or config.init_from is not None:
        loaded = weights.load(model, config, shape, n_classes)
    if config.freeze is not None:
        _freeze(model, config.freeze, shape, n_classes)
    if not any(p.requires_grad for p in model.parameters()):
        key = "model.name" if config.freeze is None else "model.freeze"
        own = model_of(config.name)
        where = own_networks.defined_at(own_networks.found(own)) if isinstance(own, Code) else ""
        raise StudyFileError(
            f"{key}: {config.name} has no trainable parameter: at least its head must be trained{where}"
        )
    return model, loaded


def n_parameters(model: nn.Module) -> int:
    """Return the number of trainable weights and biases."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _drawn(config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Return the model with weights as they are drawn."""
    own = model_of(config.name)
    if isinstance(own, Zoo):
        return _of_package(own, config, shape, n_classes)
    if config.stem == "small":
        raise StudyFileError(f"model.stem: is for models of torchvision and timm, and {config.name} is none of these")
    if isinstance(own, Code):
        model = own_networks.made(own, config.args, shape, n_classes)
        _materialise(model, own, shape)
        return model
    hidden = _hidden(config)
    return _sequence(MODELS[config.name].layers(hidden, shape, n_classes))


def _sequence(layers: Sequence[Layer]) -> nn.Sequential:
    """Return the layers of a record, which have their names, one after another."""
    return nn.Sequential(OrderedDict((layer.name, _layer(layer)) for layer in layers))


def _layer(layer: Layer) -> nn.Module:
    if layer.class_name == RESIDUAL:
        return Residual(OrderedDict((inner.name, _layer(inner)) for inner in layer.within))
    made: nn.Module = getattr(nn, layer.class_name)(*layer.arguments, **dict(layer.keywords))
    return made


def _of_package(own: Zoo, config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    zoo.check_name(own)
    model = zoo.made(own, config.args, shape, n_classes)
    large = stems.large_stem(model)
    if config.stem == "small" and large is None:
        raise StudyFileError(
            f"model.stem: 'small' is for networks that begin with a {stems.LARGE_KERNEL}x{stems.LARGE_KERNEL} "
            f"convolution of stride 2 and a maximum pooling, as resnets do, and {config.name} begins otherwise: leave "
            f"it out"
        )
    if large is not None and (config.stem == "small" or (config.stem != "full" and _wants_small(config, large, shape))):
        stems.shrink(model, large)
    return model


def _wants_small(config: ModelConfig, stem: stems.LargeStem, shape: tuple[int, int, int]) -> bool:
    """Whether a stem that nobody has decided is made small: below a size, unless weights come with another."""
    if config.weights is None and config.init_from is None:
        return min(shape[1:]) < stems.SMALL
    state = weights.file_of(config)
    return state is not None and state.kernel(stem.convolution) == (stems.SMALL_KERNEL,) * 2


def _materialise(model: nn.Module, own: Code, shape: tuple[int, int, int]) -> None:
    """Have lazy layers see an image, from which they take their sizes."""
    if not any(is_lazy(one) for one in (*model.parameters(), *model.buffers())):
        return
    images = torch.zeros(LOOK_IMAGES, *shape)
    with evaluating(model), torch.no_grad(), own_lines("model.name", f"the first images through {own}"):
        model(images)


def _freeze(model: nn.Module, freeze: str | tuple[str, ...], shape: tuple[int, int, int], n_classes: int) -> None:
    """Have parameters need no gradient.

    Raises:
        StudyFileError: no name of a parameter begins so.
    """
    parameters = dict(model.named_parameters())
    prefixes = (freeze,) if isinstance(freeze, str) else freeze
    if prefixes == (BACKBONE,):
        head = set(levels(model, shape, n_classes)[-1])
        frozen = parameters.keys() - head
    else:
        frozen = {name for name in parameters for prefix in prefixes if _begins(name, prefix)}
        for prefix in prefixes:
            if not any(_begins(name, prefix) for name in parameters):
                parts = {part for name in parameters for part in _parts(name)}
                top = dict.fromkeys(name.partition(".")[0] for name in parameters)
                raise StudyFileError(
                    f"model.freeze: no parameter's name begins with '{prefix}'"
                    f"{nearest(prefix, [BACKBONE, *sorted(parts)])}; known: {BACKBONE}, {', '.join(top)}"
                )
    for name in frozen:
        parameters[name].requires_grad = False


def _begins(name: str, prefix: str) -> bool:
    return f"{name}.".startswith(f"{prefix.rstrip('.')}.")


def _parts(name: str) -> list[str]:
    """Return all with which a name begins: ``a``, ``a.b``, ``a.b.c``."""
    words = name.split(".")
    return [".".join(words[:n]) for n in range(1, len(words) + 1)]


def _hidden(config: ModelConfig) -> tuple[int, ...]:
    if config.name not in MODELS:
        hint = nearest(config.name, tuple(MODELS))
        raise StudyFileError(
            f"model.name: unknown model {config.name!r}{hint}; known: {', '.join(MODELS)}; or {FORMS_OF_MODELS}"
        )
    if config.hidden is None:
        return MODELS[config.name].hidden
    for size in config.hidden:
        if size < 1:
            raise StudyFileError(f"model.hidden: a layer has at least 1 unit, got {size}")
    return config.hidden

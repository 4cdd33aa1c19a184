"""Models of packages: torchvision's and timm's, sized to the images and the classes."""

from collections.abc import Mapping
from functools import cache
from types import ModuleType

import torch
from torch import nn

from lrsearch.errors import StudyFileError, nearest
from lrsearch.own_code import said
from lrsearch.spec.sources import Zoo
from lrsearch.training import stems

COLOURS = 3
"""Channels for which torchvision makes its models."""


_WEIGHTS = "where training starts is said by model.weights"
NOT_ARGS = {
    "num_classes": "the head has as many classes as the images",
    "weights": _WEIGHTS,
    "pretrained": _WEIGHTS,
    "checkpoint_path": _WEIGHTS,
}
"""Keywords of packages' functions that say what is said elsewhere."""
SIZES = (28, 32, 48, 64, 75, 80, 96, 112, 128, 160, 192, 224, 256, 288, 299, 320, 384, 448)
"""Of images, that are tried where another does not fit [pixels]."""
MOST_SIZES = 3
"""That are named."""


class RefusedError(StudyFileError):
    """A package does not build a model so, or the model does not take such images."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} cannot be built, or used, as it is asked for: {reason}")
        self.reason = reason


def made(
    zoo: Zoo,
    args: Mapping[str, object] | None,
    shape: tuple[int, int, int],
    n_classes: int,
) -> nn.Module:
    """Return a model of a package with weights drawn at random, for images of ``shape`` (c, h, w) and its classes.

    Args:
        zoo: which.
        args: more keywords for the package's function.
        shape: of an image; what wants to know the size is told.
        n_classes: of the head.

    Raises:
        StudyFileError: it cannot be built so.
    """
    if decided := [name for name in args or () if name in NOT_ARGS]:
        raise StudyFileError(f"model.args: '{decided[0]}' is not for args: {NOT_ARGS[decided[0]]}")
    keywords: dict[str, object] = {"num_classes": n_classes}
    if zoo.package == "torchvision":
        keywords |= _for_torchvision(zoo.name, shape)
    else:
        keywords |= timm_keywords(zoo.name, shape)
    try:
        if zoo.package == "timm":
            model: nn.Module = timm().create_model(zoo.name, **keywords | dict(args or {}))
        else:
            model = torchvision().get_model(zoo.name, **keywords | dict(args or {}))
            stems.set_channels(model, shape[0])
    except Exception as error:
        key = "model.args" if args else "model.name"
        raise RefusedError(f"{key}: {zoo.package}/{zoo.name}", said(error)) from error
    return model


def other_sizes(
    zoo: Zoo, args: Mapping[str, object] | None, shape: tuple[int, int, int], n_classes: int
) -> tuple[int, ...]:
    """Return the heights and widths [pixels] nearest to that of ``shape`` that a model takes; none if it takes that."""
    channels, height, width = shape
    found: list[int] = []
    for size in sorted(SIZES, key=lambda one: abs(one - max(height, width))):
        if len(found) < MOST_SIZES and _takes(zoo, args, (channels, size, size), n_classes):
            found.append(size)
    return () if height == width and height in found else tuple(sorted(found))


def _takes(zoo: Zoo, args: Mapping[str, object] | None, shape: tuple[int, int, int], n_classes: int) -> bool:
    with torch.random.fork_rng(devices=[]):
        try:
            made(zoo, args, shape, n_classes)(torch.zeros(2, *shape))
        except Exception:
            return False
    return True


def torchvision() -> ModuleType:
    """Return ``torchvision.models``."""
    from torchvision import models

    found: ModuleType = models
    return found


@cache
def timm() -> ModuleType:
    """Return the package timm.

    Raises:
        StudyFileError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise StudyFileError(
            f"model.name: a model of timm needs the package timm, which cannot be imported here ({said(error)}): "
            f"pip install 'lrsearch[timm]'"
        ) from error
    found: ModuleType = timm
    return found


def check_name(zoo: Zoo) -> None:
    """Make sure that there is such a model.

    Raises:
        StudyFileError: there is none, or the package is not installed.
    """
    if zoo.package == "timm":
        known, name = timm().list_models(), zoo.name.partition(".")[0]
    else:
        known, name = torchvision().list_models(module=torchvision()), zoo.name
    if name not in known:
        raise StudyFileError(
            f"model.name: {zoo.package} has no classifier '{name}'{nearest(name, known)}; it has {len(known)}"
        )


def _for_torchvision(name: str, shape: tuple[int, int, int]) -> dict[str, object]:
    """Return the keywords that a model of torchvision needs besides the number of classes."""
    module = torchvision().get_model_builder(name).__module__.rpartition(".")[2]
    if module == "vision_transformer":
        return {"image_size": shape[1]}
    if module == "maxvit":
        return {"input_size": shape[1:]}
    if module in ("inception", "googlenet"):
        # The first is said because torchvision warns where it is not. The second, the scale of colours that their
        # published weights want, is no part of a state: it is the same for every start, so that weights may follow.
        return {"init_weights": True, "transform_input": shape[0] == COLOURS}
    return {}


def timm_keywords(name: str, shape: tuple[int, int, int]) -> dict[str, object]:
    """Return the keywords that a model of timm needs besides the number of classes."""
    keywords: dict[str, object] = {"in_chans": shape[0]}
    configuration = timm().get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        keywords["img_size"] = shape[1:]
    return keywords

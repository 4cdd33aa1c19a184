"""The weights that torchvision and timm publish for their models, and how their images were normalised."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from lrsearch.errors import StudyFileError, nearest
from lrsearch.own_code import said
from lrsearch.spec.sources import Zoo
from lrsearch.training import download, published_file, zoo

DEFAULT = "DEFAULT"
"""Stands for the weights that a package prefers."""

Published = tuple[tuple[float, ...] | None, tuple[float, ...] | None, int | None]
"""Mean and standard deviation of each channel, and the size of the images [pixels]."""


def statistics(package: Zoo, tag: str | None) -> Published:
    """Return how a package normalises the images of its weights; None as a tag: of those that it prefers.

    Raises:
        StudyFileError: there are none of that name.
    """
    zoo.check_name(package)
    if package.package == "timm":
        named = _timm_name(package.name, tag)
        configuration = zoo.timm().get_pretrained_cfg(named, allow_unregistered=False)
        if configuration is None:
            return None, None, None
        return tuple(configuration.mean), tuple(configuration.std), int(configuration.input_size[1])
    preset = _torchvision_weights(package.name, tag).transforms()
    return tuple(preset.mean), tuple(preset.std), int(preset.crop_size[0])


def _torchvision_weights(name: str, tag: str | None) -> Any:
    known = zoo.torchvision().get_model_weights(name)
    if tag in (None, DEFAULT):
        return known.DEFAULT
    member = str(tag).rpartition(".")[2]  # also as torchvision's own documentation has it: Weights.TAG
    if member not in known.__members__:
        names = [*known.__members__]
        raise StudyFileError(
            f"model.weights: torchvision/{name} has no weights '{tag}'{nearest(str(tag), names)}; "
            f"known: {', '.join(names)}"
        )
    return known[member]


def _timm_name(name: str, tag: str | None) -> str:
    """Return timm's name of a model with its weights."""
    if tag in (None, DEFAULT):
        return name
    architecture = name.partition(".")[0]
    known = [n.partition(".")[2] for n in zoo.timm().list_pretrained(f"{architecture}.*")]
    if tag not in known:
        raise StudyFileError(
            f"model.weights: timm/{architecture} has no weights '{tag}'{nearest(str(tag), known)}; "
            f"known: {', '.join([*known, DEFAULT])}"
        )
    return f"{architecture}.{tag}"


def tensors(package: Zoo, tag: str, shape: tuple[int, int, int] | None) -> dict[str, torch.Tensor]:
    """Return a package's weights, downloaded if they are not there.

    Args:
        package: of which model.
        tag: which of its weights.
        shape: of an image (c, h, w), where positions are fitted to its size; None: that of the weights.

    Raises:
        StudyFileError: there are none of that name, or they cannot be downloaded.
    """
    zoo.check_name(package)
    keywords = zoo.timm_keywords(package.name, shape) if package.package == "timm" and shape is not None else {}
    return _tensors(package, tag, keywords.get("img_size"))


@lru_cache(maxsize=2)
def _tensors(package: Zoo, tag: str, size: tuple[int, int] | None) -> dict[str, torch.Tensor]:
    """Return a package's weights; ``size`` is the height and width to which positions are fitted, None: their own."""
    what = f"model.weights: '{tag}' of {package.package}/{package.name}"
    with torch.random.fork_rng(devices=[]):  # the trial's draws follow
        try:
            if package.package == "timm":
                return _of_timm(_timm_name(package.name, tag), size)
            path = published_file.fetched(_torchvision_weights(package.name, tag).url, what)
            found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        except StudyFileError:
            raise
        except Exception as error:
            raise StudyFileError(
                f"{what} cannot be had: {said(error).rstrip('.')}; download them elsewhere, and name the file"
            ) from error
    return found


@contextlib.contextmanager
def _no_warnings_of(package: str) -> Iterator[None]:
    logger = logging.getLogger(package)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _of_timm(name: str, size: tuple[int, int] | None) -> dict[str, torch.Tensor]:
    """Return what timm's own client downloads, or has; what it prints meanwhile is for people who watch."""
    fitted = {} if size is None else {"img_size": size}
    with (
        _no_warnings_of("huggingface_hub"),  # one for each time that it tries again
        download.bar(shown=sys.stderr.isatty()),
        contextlib.redirect_stdout(sys.stderr),
        download.timeout(download.NETWORK_TIMEOUT_SECONDS),
    ):
        made: nn.Module = zoo.timm().create_model(name, pretrained=True, **fitted)
    return made.state_dict()

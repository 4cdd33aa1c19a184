"""A network that a person's own function builds, called with those of our keywords that its signature has."""

import inspect
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from lrsearch import own_code
from lrsearch.errors import StudyFileError, nearest
from lrsearch.own_code import OwnFunction
from lrsearch.spec.sources import Code
from lrsearch.text import shown
from lrsearch.training import draws

KEY = "model.name"
CLASSES = ("num_classes", "n_classes")
CHANNELS = ("in_chans", "in_channels", "channels")
SHAPE = "input_shape"
SIZE = "image_size"
OFFERED = (*CLASSES, SHAPE, *CHANNELS, SIZE)
"""Keywords with which the function is called if its signature has them: the number of classes, the shape of an image
(channels, height, width), its channels, its height."""


def found(code: Code, key: str = KEY) -> OwnFunction:
    """Return the function that ``key`` of the study file names; imported once a process, unless its file changes.

    Raises:
        OwnCodeError: see ``own_code.find``.
    """
    path = Path(code.where).expanduser().absolute()
    if not code.in_file or not path.is_file():
        return own_code.find(code, key)
    at = path.stat()
    return _found(Code(str(path), code.function), key, at.st_mtime_ns, at.st_size)


@lru_cache(maxsize=8)
def _found(code: Code, key: str, _changed: int, _size: int) -> OwnFunction:
    return own_code.find(code, key)


def made(code: Code, args: Mapping[str, object] | None, shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Return what the function builds, on the CPU; what it draws from NumPy or Python follows torch's seed.

    Raises:
        StudyFileError: it cannot be called so, raised an error, or built no network; with the person's file and line.
    """
    own, args = found(code), args or {}
    offered = _offered(own, args, shape, n_classes)
    with draws.numpy_and_python(torch.default_generator.initial_seed()):
        network = own.call(offered, args)
    if not isinstance(network, nn.Module):
        raise StudyFileError(
            f"{KEY}: {own.code} must return a network (a torch.nn.Module), and it returned {_said(network)}"
            f"{defined_at(own)}"
        )
    return network.cpu()


def _offered(
    own: OwnFunction, args: Mapping[str, object], shape: tuple[int, int, int], n_classes: int
) -> dict[str, object]:
    """Return the keywords of ours that it is called with."""
    if isinstance(own.function, nn.Module):
        raise StudyFileError(
            f"{KEY}: {own.code} must be a function that builds a network, anew for every trial, and it is a network: "
            f"write `def build(num_classes): return ...` and name that"
        )
    offered: dict[str, object] = dict.fromkeys(CLASSES, n_classes) | {SHAPE: shape}
    offered |= dict.fromkeys(CHANNELS, shape[0]) | {SIZE: shape[1]}
    try:
        parameters = inspect.signature(own.function).parameters
    except (TypeError, ValueError):
        return {CLASSES[0]: n_classes}  # Python does not know; the call will tell
    named = {name for name, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if unknown := [name for name in args if name not in named and not takes_any]:
        raise StudyFileError(
            f"model.args: {own.code} takes no '{unknown[0]}'{nearest(unknown[0], sorted(named))}{defined_at(own)}"
        )
    lacking = [
        name
        for name, one in parameters.items()
        if one.default is one.empty
        and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        and (one.kind is one.POSITIONAL_ONLY or (name not in offered and name not in args))
    ]
    if lacking:
        raise StudyFileError(
            f"{KEY}: {own.code} asks for '{lacking[0]}', and is called with those of {', '.join(OFFERED)} that it "
            f"has: call it one of these, give it a default, or give it in model.args{defined_at(own)}"
        )
    if takes_any and not named & set(CLASSES):
        named |= {CLASSES[0]}  # what goes on to torchvision's and timm's functions is called so
    return {name: value for name, value in offered.items() if name in named}


def defined_at(own: OwnFunction) -> str:
    """Return ``" (FILE, line N)"`` where a function begins; empty where Python does not know."""
    function = getattr(own.function, "func", own.function)  # of a functools.partial
    try:
        file, (_, line) = inspect.getsourcefile(function), inspect.getsourcelines(function)
    except (TypeError, OSError):
        return "" if own.path is None else f" ({shown(str(own.path))})"
    return f" ({shown(file or str(own.path))}, line {line})"


def _said(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"

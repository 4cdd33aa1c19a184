"""The first layers of a network: for how many channels, and how much of a small image they throw away."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

SMALL = 64
"""Images with a side below this are small [pixels]."""
LARGE_KERNEL = 7
SMALL_KERNEL = 3


@dataclass(frozen=True, slots=True)
class LargeStem:
    """A 7x7 convolution of stride 2 and the maximum pooling before the next one, by their names: those of resnets.

    An image of 32 pixels has 8 left behind it.
    """

    convolution: str
    pooling: str


def large_stem(model: nn.Module) -> LargeStem | None:
    """Return the stem of a network that was made for large images; None where it begins otherwise."""
    layers = _layers(model)
    name, first = next(layers, ("", None))
    if not isinstance(first, nn.Conv2d) or first.kernel_size != (LARGE_KERNEL,) * 2 or first.stride != (2, 2):
        return None
    for other, layer in layers:
        if isinstance(layer, nn.Conv2d):
            return None
        if isinstance(layer, nn.MaxPool2d):
            return LargeStem(name, other)
    return None


def shrink(model: nn.Module, stem: LargeStem) -> None:
    """Turn a large stem into a 3x3 convolution of stride 1 without pooling, as resnets for CIFAR-10 have it.

    Source: He et al., Deep Residual Learning for Image Recognition, 2015, section 4.2.
    """
    old = model.get_submodule(stem.convolution)
    assert isinstance(old, nn.Conv2d)
    _put(model, stem.convolution, _like(old, old.in_channels, SMALL_KERNEL, stride=1))
    _put(model, stem.pooling, nn.Identity())


def set_channels(model: nn.Module, channels: int) -> None:
    """Have the first convolution take images of so many channels."""
    name, old = next((n, one) for n, one in _layers(model) if isinstance(one, nn.Conv2d))
    if old.in_channels != channels:
        _put(model, name, _like(old, channels, old.kernel_size[0], stride=old.stride[0]))


def _like(old: nn.Conv2d, channels: int, kernel: int, stride: int) -> nn.Conv2d:
    """Return a convolution that is drawn as wide as ``old`` for as many weights."""
    new = nn.Conv2d(channels, old.out_channels, kernel, stride, kernel // 2, bias=old.bias is not None)
    if kernel == old.kernel_size[0]:
        new.padding = old.padding
    nn.init.normal_(new.weight, std=old.weight.std().item() * math.prod(old.kernel_size) ** 0.5 / kernel)
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    return new


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield what holds nothing else, in the order in which it stands in the network."""
    return ((name, one) for name, one in model.named_modules() if not any(True for _ in one.children()))


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    around, _, last = name.rpartition(".")
    setattr(model.get_submodule(around), last, module)

"""Which parts of a network act upon an image, and what comes before what: one forward pass, watched; see ``levels``."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from lrsearch.training.units import Units

_ARITHMETIC = (
    *("add", "iadd", "radd", "sub", "isub", "rsub", "subtract", "mul", "imul", "rmul", "multiply", "div", "divide"),
    *("truediv", "itruediv", "rtruediv", "true_divide", "addcmul", "lerp", "maximum", "minimum", "where", "prelu"),
)
_JOINS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "setitem", "copy", "masked_fill")
_NORMS = ("layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm")
PASSED = frozenset((*_ARITHMETIC, *_JOINS, *_NORMS))
"""Functions that add, scale or join, where a parameter is no layer between what comes in and what goes out."""


class Uses(TorchFunctionMode):
    """Sees which units act upon an image, and what comes before what."""

    def __init__(self, units: Units, images: torch.Tensor, n_classes: int) -> None:
        super().__init__()
        self._units, self._n_classes = units, n_classes
        self.first: dict[str, int] = {}
        """Of a unit: its place in the order of first use."""
        self.before: defaultdict[str, set[str]] = defaultdict(set)
        """Of a unit: the weight layers and blocks from which its inputs come through no other."""
        self.weights: set[str] = set()
        """Units that are weight layers or blocks."""
        self.wide: set[str] = set()
        """Units that returned as many channels as there are classes."""
        self.reached = WeakIdKeyDictionary()
        """Of a tensor that depends on the image: the weight layers and blocks from which it comes through no other."""
        self._made_of = WeakIdKeyDictionary()  # of a tensor that depends on parameters alone: these
        self.reached[images] = frozenset()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        inputs = list(_tensors((args, kwargs)))
        parameters = {p for one in inputs for p in self._parameters_in(one)}
        images = [one for one in inputs if one in self.reached]
        name = getattr(func, "__name__", "").strip("_")
        results = [inputs[0]] if name == "setitem" and inputs else list(_tensors(result))
        if images:
            reached = frozenset(unit for one in images for unit in self.reached[one])
            if parameters:
                reached = self._note(name, parameters, reached, results)
            for one in results:
                self.reached[one] = reached
        elif parameters:
            for one in results:
                self._made_of[one] = frozenset(parameters)
        return result

    def _parameters_in(self, tensor: torch.Tensor) -> Iterable[nn.Parameter]:
        if tensor in self.reached:
            return ()
        if isinstance(tensor, nn.Parameter) and tensor in self._units.of:
            return (tensor,)
        found: frozenset[nn.Parameter] = self._made_of.get(tensor, frozenset())
        return found

    def _note(
        self, name: str, parameters: Collection[nn.Parameter], reached: frozenset[str], results: list[torch.Tensor]
    ) -> frozenset[str]:
        """Note that units act here; return from which of them the results come through no other."""
        acting = set()
        for parameter in parameters:
            unit = self._units.of[parameter]
            self.first.setdefault(unit, len(self.first))
            self.before[unit] |= reached - {unit}
            if unit in self._units.blocks or (parameter.ndim > 1 and name not in PASSED):
                acting.add(unit)
        self.weights |= acting
        if any(self._is_wide(one) for one in results):
            self.wide |= acting
        return frozenset(acting) or reached

    def _is_wide(self, tensor: torch.Tensor) -> bool:
        return tensor.ndim > 1 and self._n_classes in (tensor.shape[1], tensor.shape[-1])


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in what a function took or returned."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)

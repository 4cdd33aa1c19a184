"""What every layer of a model did to one image: by hooks on its modules, whatever the model is.

A layer is a call of a module that called no other module, so that attention, which keeps a dense layer inside and uses
its weights by itself, is one. What a model does between its layers (``torch.flatten`` in its ``forward``, the addition
of a residual block) has no module: its functions are noted by name, as torch calls them.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from lrsearch.errors import StudyFileError
from lrsearch.predict import layer_words
from lrsearch.predict.traced import LayerTraced, ModelTraced, Values
from lrsearch.training import outputs

IMAGE = -1
"""Stands for the model's input where the source of a layer is told."""


def trace(model: nn.Module, image: torch.Tensor) -> ModelTraced:
    """Return what each layer of ``model`` does to a batch of one, ``image`` ``[1, ...]``, in evaluation mode.

    The model is left as it was: its modes, its weights, no hook. Parts that torch has compiled to scripts take none and
    are left out.
    """
    modules = {module: name for name, module in model.named_modules() if not isinstance(module, torch.jit.ScriptModule)}
    recorder = _Recorder(modules, image)
    with torch.no_grad(), _evaluating(model), ExitStack() as hooks:
        for module in recorder.names:
            hooks.callback(module.register_forward_pre_hook(recorder.enter, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(recorder.leave, with_kwargs=True).remove)
        with recorder:
            output = _logits(model(image))
    return ModelTraced(
        layers=tuple(recorder.layers),
        output=tuple(output.detach().cpu().double().flatten().tolist()),
        shape_out=_shape(output),
        n_parameters=_n_parameters(model),
        after=tuple(recorder.between),
    )


def _logits(output: object) -> torch.Tensor:
    """Return the logits of what a model returned; the first tensor, where it is nothing that can be trained."""
    try:
        return outputs.logits_of(output)
    except StudyFileError:
        found = next(_tensors(output), None)
        if found is None:
            raise
        return found


@dataclass(slots=True)
class _Call:
    """A call of a module that is under way."""

    module: nn.Module
    between: tuple[str, ...]
    """Functions called since the layer before."""
    source: int | None
    shape_in: tuple[int, ...]
    functions: list[str] = field(default_factory=list)
    """Called by itself so far, since its last child."""
    has_children: bool = False


class _Recorder(TorchFunctionMode):
    """Sees every call of a module and every function between them, in the order of execution."""

    def __init__(self, names: Mapping[nn.Module, str], image: torch.Tensor) -> None:
        super().__init__()
        self.names = names
        self.layers: list[LayerTraced] = []
        self.between: list[str] = []
        self._stack: list[_Call] = []
        self._is_looking = False
        """Whether a function is called here and not by the model."""
        self._n_calls: dict[nn.Module, int] = {}
        # The tensors themselves, because the memory of one that is gone may be that of another; and their versions,
        # because a tensor that was changed in place is no longer what the layer returned.
        self._made: dict[int, tuple[torch.Tensor, int, int]] = {}
        self._remember(image, IMAGE)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the name of a function that returns a tensor, and let it do its work."""
        del types
        result = func(*args, **(kwargs or {}))
        if not self._is_looking and next(_tensors(result), None) is not None:
            name = _function_name(func)
            (self._stack[-1].functions if self._stack else self.between).append(name)
        return result

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note that a module is called."""
        # A child is called: the modules around it are no layers, and what they did by themselves lies between layers.
        for outer in self._stack:
            outer.has_children = True
            self.between += outer.functions
            outer.functions.clear()
        given = next(_tensors((args, kwargs)), None)
        source, shape = (None, ()) if given is None else (self._source(given), _shape(given))
        self._stack.append(_Call(module, tuple(self.between), source, shape))

    def leave(self, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        """Note what a module returned."""
        while (call := self._stack.pop()).module is not module:
            pass  # it raised an error, and the model went on
        if call.has_children:
            self.between += call.functions
            return
        self.between.clear()
        self._n_calls[module] = self._n_calls.get(module, 0) + 1
        made = list(_tensors(output))
        for tensor in made:
            self._remember(tensor, len(self.layers))
        self._is_looking = True
        noun, detail = _described(module)
        values = _values(made[0]) if made else None
        self._is_looking = False
        self.layers.append(
            LayerTraced(
                name=self.names[module],
                kind=type(module).__name__,
                noun=noun,
                detail=detail,
                activates=layer_words.activates(module),
                shape_in=call.shape_in,
                shape_out=_shape(made[0]) if made else (),
                n_parameters=_n_parameters(module),
                values=values,
                n_outputs=len(made),
                call=self._n_calls[module],
                source=call.source,
                between=call.between,
            )
        )

    def _remember(self, tensor: torch.Tensor, layer: int) -> None:
        # A layer that hands its input on (dropout, identity) has made it too.
        self._made[id(tensor)] = tensor, tensor._version, layer  # noqa: SLF001 - torch's own word for it

    def _source(self, tensor: torch.Tensor) -> int | None:
        known = self._made.get(id(tensor))
        return known[2] if known is not None and known[1] == tensor._version else None  # noqa: SLF001


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Have all modules evaluate; then each is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in what a module takes or returns."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the shape without the batch of one; whole where the first dimension is something else."""
    try:
        shape = tuple(tensor.shape)
    except RuntimeError:
        return ()  # nested: it has none
    return shape[1:] if shape[:1] == (1,) else shape


def _n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _described(module: nn.Module) -> tuple[str, str]:
    """Return a layer's kind and what sets it apart; its class where somebody's own lacks what torch's has."""
    try:
        return layer_words.describe(module)
    except (AttributeError, TypeError, ValueError):
        return type(module).__name__, ""


def _values(tensor: torch.Tensor) -> Values | None:
    try:
        if tensor.numel() == 0 or tensor.is_complex():
            return None
        numbers = tensor.detach().cpu().to_dense().double()
    except RuntimeError:
        return None  # a tensor of another kind: quantised, nested
    zero_share = (numbers == 0).double().mean()
    return Values(numbers.min().item(), numbers.max().item(), numbers.mean().item(), zero_share.item())


def _function_name(func: Any) -> str:
    """Return ``flatten`` for ``torch.flatten`` and ``add`` for the ``__iadd__`` behind ``+=``."""
    parts: list[str] = (resolve_name(func) or getattr(func, "__name__", str(func))).split(".")
    if parts[-1] == "__get__":
        return parts[-2]
    name = parts[-1]
    return name.strip("_").removeprefix("i") if name in _IN_PLACE else name.strip("_")


_IN_PLACE = frozenset({"__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"})

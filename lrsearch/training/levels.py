"""How deep the parameters of a network lie: its levels, from the stem to the head, for any torch module.

The learning rates of a layer-wise training follow them. A model of timm has the levels that timm gives it; of all
others one forward pass is watched:

* A *block* is the outermost instance of a class that is composed of two or more weight layers and occurs twice or more.
  A class most of whose instances hold two or more of one such class is a stage, and opened; but not where these are
  never more than two parts with names of their own, such as the two dense layers of a mixer.
* The *stem*, level 0, is what comes before all blocks, and tokens and positions, as in BEiT's layer-wise decay. The
  level of a block is the number of blocks on the longest way through it from the image: blocks side by side are equally
  deep. A layer between blocks goes with the next one, a layer behind the last with that.
* The *head*, the last level, is the weight layers from which the logits come through no other: several, where several
  are averaged. What an evaluation does not use is an auxiliary head, unless it lies in a part that is used.
* Where most weight layers lie in no block, as in a VGG, every weight layer is a level of its own.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from lrsearch.training.outputs import logits_of

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Classes that only hold others."""
LEAST_OF_A_BLOCK = 2
"""Weight layers in a block, and instances of its class."""
LOOK_IMAGES = 2
"""[examples]"""

PASSED = frozenset(
    [
        *(
            "add",
            "iadd",
            "radd",
            "sub",
            "isub",
            "rsub",
            "subtract",
            "mul",
            "imul",
            "rmul",
            "multiply",
            "div",
            "truediv",
        ),
        *("itruediv", "rtruediv", "divide", "true_divide", "addcmul", "lerp", "maximum", "minimum", "where", "cat"),
        *("concat", "concatenate", "stack", "hstack", "vstack", "setitem", "copy", "masked_fill", "prelu"),
        *("layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm"),
    ]
)
"""Functions that add, scale or join, where a parameter is no layer between what comes in and what goes out."""


def levels(model: nn.Module, shape: tuple[int, int, int], n_classes: int) -> tuple[tuple[str, ...], ...]:
    """Return the names of all parameters by depth: the stem first, the head last.

    Each stands there once, as ``named_parameters()`` names it; one that has several places, at the deepest of them.

    Args:
        model: without lazy parameters; it is left as it was.
        shape: channels, height and width of an image.
        n_classes: of its logits.
    """
    found = by_timm(model)
    depths = by_rule(model, shape, n_classes) if found is None else found
    names = [name for name, _ in model.named_parameters()]
    return tuple(tuple(n for n in names if depths[n] == depth) for depth in sorted(set(depths.values())))


def by_timm(model: nn.Module) -> dict[str, int] | None:
    """Return the depth of each parameter as timm's ``--layer-decay`` counts it; None for what is no model of timm's."""
    if "timm" not in sys.modules or not hasattr(model, "group_matcher"):
        return None
    from timm.models import group_parameters

    group_matcher: Any = model.group_matcher
    found: dict[str, int] = group_parameters(model, group_matcher(coarse=False), reverse=True)
    return found


def by_rule(model: nn.Module, shape: tuple[int, int, int], n_classes: int) -> dict[str, int]:
    """Return the depth of each parameter by the rule of this module; see ``levels``."""
    units = _Units(model)
    images = torch.randn(LOOK_IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    with (
        evaluating(model),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        _Watch(units, images, n_classes) as seen,
    ):
        output = logits_of(model(images))
    depth = _depths(units, seen)
    # Tokens and positions, which are no layer and only added or joined, count to the stem wherever they come in.
    depth |= {unit: 0 for unit in depth if unit in units.loose and unit not in seen.weights}
    heads = _heads(units, seen, depth, seen.reached.get(output, frozenset()))
    # What only scales or shifts the logits belongs to what they come from.
    heads |= {unit for unit in depth if unit not in seen.weights and seen.before[unit] & heads}
    top = max((level for unit, level in depth.items() if unit not in heads), default=-1) + 1
    return units.spread(depth | dict.fromkeys(heads, top), top)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have ``model`` in evaluation mode for the block, and each of its parts in its own again afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class _Units:
    """The parts of a network that have a depth: blocks, and outside of them single layers."""

    def __init__(self, model: nn.Module) -> None:
        self._places: dict[str, set[str]] = {}  # of a parameter: the units in which it is
        self.of: dict[nn.Parameter, str] = {}
        self.loose: set[str] = set()
        """Parameters of more than one dimension that stand beside all blocks, in no layer."""
        blocks = _blocks(model)
        first_name: dict[nn.Parameter, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            unit = _block_of(name, blocks) or _layer_of(model, name)
            self._places.setdefault(first_name.setdefault(parameter, name), set()).add(unit)
            self.of.setdefault(parameter, unit)
            part = name.rpartition(".")[0]
            around_all = bool(blocks) and all(block.startswith(f"{part}.") for block in blocks)
            if unit == name and parameter.ndim > 1 and (not part or around_all):
                self.loose.add(unit)
        inside = sum(n_weight_layers(model.get_submodule(block)) for block in blocks)
        self.blocks = blocks if 2 * inside > n_weight_layers(model) else frozenset[str]()
        if blocks and not self.blocks:
            for parameter, name in first_name.items():
                self.of[parameter] = _layer_of(model, name)
            self._places = {name: {_layer_of(model, name)} for name in self._places}

    def spread(self, depth: Mapping[str, int], top: int) -> dict[str, int]:
        """Return the depth of each parameter; ``top`` is that of the head."""
        known = {
            name: max(depth[unit] for unit in units if unit in depth)
            for name, units in self._places.items()
            if any(unit in depth for unit in units)
        }
        return {name: known[name] if name in known else _around(name, known, top) for name in self._places}


def _around(name: str, known: Mapping[str, int], top: int) -> int:
    """Return the depth of a parameter that nothing used: that of the part around it, or of the head."""
    part = name.rpartition(".")[0]
    while part:
        if inside := [level for other, level in known.items() if other.startswith(f"{part}.")]:
            return max(inside)
        part = part.rpartition(".")[0]
    return top


def n_weight_layers(module: nn.Module) -> int:
    """Return how many matrices and kernels a module has, those of its parts included."""
    return sum(parameter.ndim > 1 for parameter in module.parameters())


def _blocks(model: nn.Module) -> frozenset[str]:
    """Return the names of the blocks."""
    composed = {
        name: module
        for name, module in model.named_modules()
        if name
        and type(module) not in CONTAINERS
        and any(True for _ in module.children())
        and n_weight_layers(module) >= LEAST_OF_A_BLOCK
    }
    n_instances = Counter(type(module) for module in composed.values())
    repeated = {name: type(m) for name, m in composed.items() if n_instances[type(m)] >= LEAST_OF_A_BLOCK}
    n_holding: Counter[type] = Counter()
    listing = set()
    for name, kind in repeated.items():
        inner = {at: other for at, other in repeated.items() if at.startswith(f"{name}.")}
        most = max(Counter(inner.values()).values(), default=0)
        n_holding[kind] += most >= LEAST_OF_A_BLOCK
        listed = Counter((at.rpartition(".")[0], o) for at, o in inner.items() if _is_listed(model, at))
        if most > LEAST_OF_A_BLOCK or max(listed.values(), default=0) >= LEAST_OF_A_BLOCK:
            listing.add(kind)
    stages = {kind for kind in listing if 2 * n_holding[kind] >= n_instances[kind]}
    found = {name for name, kind in repeated.items() if kind not in stages}
    return frozenset(name for name in found if _block_of(name, found) is None)


def _is_listed(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), CONTAINERS)


def _block_of(name: str, blocks: Collection[str]) -> str | None:
    """Return the outermost of ``blocks`` in which something lies; None in none."""
    parts = name.split(".")
    around = (".".join(parts[:n]) for n in range(1, len(parts)))
    return next((part for part in around if part in blocks), None)


def _layer_of(model: nn.Module, name: str) -> str:
    """Return the module of a parameter, if it is a layer; a part that holds others, or the whole, is none."""
    part = name.rpartition(".")[0]
    is_layer = part and not any(True for _ in model.get_submodule(part).children())
    return part if is_layer else name


class _Watch(TorchFunctionMode):
    """Sees which units act upon an image, and what comes before what."""

    def __init__(self, units: _Units, images: torch.Tensor, n_classes: int) -> None:
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


def _depths(units: _Units, seen: _Watch) -> dict[str, int]:
    """Return the depth of every unit that was used, the head taken for a layer like the others."""
    order = sorted(seen.first, key=seen.first.__getitem__)
    counted = units.blocks or seen.weights
    # A unit that is used again comes before itself: what counts is its first use.
    before = {unit: [one for one in seen.before[unit] if seen.first[one] < seen.first[unit]] for unit in order}
    passed: dict[str, int] = {}  # of a unit: counted ones on the longest way through it
    for unit in order:
        passed[unit] = max((passed[one] for one in before[unit]), default=0) + (unit in counted)
    if not units.blocks:
        return {unit: max(0, n - 1) for unit, n in passed.items()}
    last_block: dict[str, int] = defaultdict(lambda: -1)  # of a unit: the place of the last block behind it
    for unit in reversed(order):
        for one in before[unit]:
            place = seen.first[unit] if unit in units.blocks else -1
            last_block[one] = max(last_block[one], last_block[unit], place)
    depth = {}
    for unit in order:
        behind = last_block[unit] if unit in seen.weights else max((last_block[o] for o in before[unit]), default=-1)
        goes_with_next = unit not in units.blocks and passed[unit] > 0 and behind > seen.first[unit]
        depth[unit] = passed[unit] + goes_with_next
    return depth


def _heads(units: _Units, seen: _Watch, depth: Mapping[str, int], reached: frozenset[str]) -> set[str]:
    """Return the units from which the logits come."""
    found = {unit for unit in reached if unit not in units.blocks and unit in seen.wide}
    if found or not depth:
        return found
    candidates = reached or seen.weights or set(depth)
    deepest = max(depth[unit] for unit in candidates)
    return {unit for unit in candidates if depth[unit] == deepest}


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

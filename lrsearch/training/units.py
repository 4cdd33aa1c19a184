"""The parts of a network that have a depth: its blocks, and outside of them single layers; see ``levels``."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Classes that only hold others."""
LEAST_OF_A_BLOCK = 2
"""Weight layers in a block, and instances of its class."""


class Units:
    """The parts of a network that have a depth: blocks, and outside of them single layers."""

    def __init__(self, model: nn.Module) -> None:
        found = _blocks(model)
        inside = sum(n_weight_layers(model.get_submodule(block)) for block in found)
        self.blocks = found if 2 * inside > n_weight_layers(model) else frozenset[str]()
        """Their names; none where most weight layers lie in no block."""
        self.of: dict[nn.Parameter, str] = {}
        """The unit of each parameter; of the first of its places, if it has several."""
        self.loose: set[str] = set()
        """Parameters of more than one dimension that stand beside all blocks, in no layer."""
        self._places: defaultdict[str, set[str]] = defaultdict(set)  # of a parameter: the units in which it is
        first_name: dict[nn.Parameter, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            unit = _block_of(name, self.blocks) or _layer_of(model, name)
            self._places[first_name.setdefault(parameter, name)].add(unit)
            self.of.setdefault(parameter, unit)
            if unit == name and parameter.ndim > 1 and self._is_beside_all_blocks(name):
                self.loose.add(unit)

    def _is_beside_all_blocks(self, parameter: str) -> bool:
        part = parameter.rpartition(".")[0]
        return not part or (bool(self.blocks) and all(block.startswith(f"{part}.") for block in self.blocks))

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

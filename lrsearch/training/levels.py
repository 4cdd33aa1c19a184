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
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lrsearch.training.outputs import logits_of
from lrsearch.training.units import Units
from lrsearch.training.uses import Uses

LOOK_IMAGES = 2
"""[examples]"""


def levels(model: nn.Module, shape: tuple[int, int, int], n_classes: int) -> tuple[tuple[str, ...], ...]:
    """Return the names of all parameters by depth: the stem first, the head last.

    Each stands there once, as ``named_parameters()`` names it; one that has several places, at the deepest of them.

    Args:
        model: without lazy parameters; it is left as it was.
        shape: channels, height and width of an image.
        n_classes: of its logits.
    """
    found = by_timm(model)
    return _by_depth(model, by_rule(model, shape, n_classes) if found is None else found)


def levels_on(model: nn.Module, inputs: torch.Tensor) -> tuple[tuple[str, ...], ...]:
    """Return what ``levels`` does, of a model that a person built, by what it makes of ``inputs`` ``[b, ...]``.

    The last dimension of what it makes of them is taken for the classes.
    """
    if (found := by_timm(model)) is not None:
        return _by_depth(model, found)
    with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        n_classes = logits_of(model(inputs)).shape[-1]
    return _by_depth(model, _by_rule_on(model, inputs, n_classes))


def _by_depth(model: nn.Module, depths: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
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
    return _by_rule_on(model, torch.randn(LOOK_IMAGES, *shape, generator=torch.Generator().manual_seed(0)), n_classes)


def _by_rule_on(model: nn.Module, images: torch.Tensor, n_classes: int) -> dict[str, int]:
    units = Units(model)
    with (
        evaluating(model),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        Uses(units, images, n_classes) as seen,
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


def _depths(units: Units, seen: Uses) -> dict[str, int]:
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


def _heads(units: Units, seen: Uses, depth: Mapping[str, int], reached: frozenset[str]) -> set[str]:
    """Return the units from which the logits come."""
    found = {unit for unit in reached if unit not in units.blocks and unit in seen.wide}
    if found or not depth:
        return found
    candidates = reached or seen.weights or set(depth)
    deepest = max(depth[unit] for unit in candidates)
    return {unit for unit in candidates if depth[unit] == deepest}

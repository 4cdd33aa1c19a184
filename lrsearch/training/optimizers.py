"""torch's own optimizers, fused where torch has a fused kernel."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lrsearch import layer_rates
from lrsearch.spec.optimizers import OPTIMIZERS, arguments
from lrsearch.trial import Network, OptimizerConfig, TrialConfig

FUSED_DEVICES = ("cpu", "cuda")


def updater(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return what makes one update: ``optimizer.step()`` without what torch wraps around it.

    torch's wrappers serve its profiler and its compiler, and import the compiler at the first update: 1.3 s of every
    process that trains, and 30 us of every update (docs/benchmarks.md). The kernels and their arguments are the same.
    They serve step hooks too: an optimizer that has some is stepped as torch does it.
    """
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    if any(getattr(optimizer, name, None) for name in hooks):
        return optimizer.step
    bare: Callable[[torch.optim.Optimizer], Any] = inspect.unwrap(type(optimizer).step)

    def update() -> None:
        with torch.no_grad():
            bare(optimizer)

    return update


@contextmanager
def without_the_compiler() -> Iterator[None]:
    """Keep torch's optimizers from importing its compiler for as long as the block lasts; then they are as they were.

    Each of their guarded methods asks it, at its first call, for a version of itself that is not compiled, and keeps
    that under an attribute. Nothing is compiled here, so the method as it is will do. Should a later torch not look for
    the attribute, it costs what it cost before.
    """
    name, lent = "__dynamo_disable", []
    for guarded in vars(torch.optim.Optimizer).values():
        method = getattr(guarded, "__wrapped__", None)
        if inspect.isfunction(method) and not hasattr(method, name):
            setattr(method, name, method)
            lent.append(method)
    try:
        yield
    finally:
        for method in lent:
            delattr(method, name)


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return ``optimizer.state_dict()``."""
    with without_the_compiler():
        return optimizer.state_dict()


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Do ``optimizer.load_state_dict(state)``."""
    with without_the_compiler():
        optimizer.load_state_dict(state)


@dataclass(frozen=True, slots=True)
class Groups:
    """The parameters of a model that are trained, by learning rate and by whether weight decay acts upon them."""

    names: tuple[tuple[str, ...], ...]
    """Of the parameters of each group."""
    shares: tuple[float, ...]
    """Part (0..1] of the learning rate with which each group learns."""
    decayed: tuple[bool, ...]

    def of(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups of a model of that kind as torch's optimizers take them."""
        parameters = dict(model.named_parameters())
        return [
            {"params": [parameters[name] for name in names], "weight_decay": weight_decay if decayed else 0.0}
            for names, decayed in zip(self.names, self.decayed, strict=True)
        ]


def groups_of(model: nn.Module, network: Network | None, config: TrialConfig, *, decay_all: bool) -> Groups:
    """Return the groups of a model's parameters, in the order of its levels.

    Args:
        model: the model; what needs no gradient is left out.
        network: what is known of it; None: it has one level.
        config: how its levels learn.
        decay_all: whether weight decay acts upon biases and norms too, and not on matrices alone.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    levels = network.levels if network is not None and layer_rates.is_layer_wise(config) else (tuple(trained),)
    spared: Collection[str] = getattr(model, "no_weight_decay", set)()  # as timm's models name them
    found: list[tuple[tuple[str, ...], float, bool]] = []
    for level, share in zip(levels, layer_rates.shares(len(levels), config), strict=True):
        names = [name for name in level if name in trained]
        # A vector is a bias, or the scale of a norm.
        decayed = [name for name in names if decay_all or (trained[name].ndim > 1 and name not in spared)]
        for which, acts in ((decayed, True), ([name for name in names if name not in set(decayed)], False)):
            if which:
                found.append((tuple(which), share, acts))
    return Groups(*zip(*found, strict=True))


@without_the_compiler()
def build(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter] | list[dict[str, Any]], device: torch.device
) -> torch.optim.Optimizer:
    """Return the optimizer of ``config`` for parameters, or groups of them; what it leaves None is torch's default.

    torch has fused SGD, Adam and AdamW for the CPU and CUDA; RMSprop has none.
    """
    kind = getattr(torch.optim, OPTIMIZERS[config.name].class_name)
    more = {"fused": device.type in FUSED_DEVICES} if "fused" in inspect.signature(kind).parameters else {}
    optimizer: torch.optim.Optimizer = kind(parameters, **arguments(config), **more)
    return optimizer

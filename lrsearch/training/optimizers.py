"""torch's own optimizers, fused where torch has a fused kernel."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lrsearch.spec.optimizers import OPTIMIZERS, arguments
from lrsearch.trial import OptimizerConfig

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


@without_the_compiler()
def build(config: OptimizerConfig, parameters: Iterable[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of ``config``; what it leaves None is torch's default.

    torch has fused SGD, Adam and AdamW for the CPU and CUDA; RMSprop has none.
    """
    kind = getattr(torch.optim, OPTIMIZERS[config.name].class_name)
    more = {"fused": device.type in FUSED_DEVICES} if "fused" in inspect.signature(kind).parameters else {}
    optimizer: torch.optim.Optimizer = kind(parameters, **arguments(config), **more)
    return optimizer

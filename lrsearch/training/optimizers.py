"""torch's own optimizers, fused where torch has a fused kernel."""

from collections.abc import Iterable
from typing import assert_never

import torch
from torch import nn

from lrsearch.trial import OptimizerConfig

FUSED_DEVICES = ("cpu", "cuda")


def build(config: OptimizerConfig, parameters: Iterable[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of ``config``; what it leaves None is torch's default.

    torch has fused SGD, Adam and AdamW for the CPU and CUDA; RMSprop has none.
    """
    fused = device.type in FUSED_DEVICES
    lr, decay = config.peak_lr, config.weight_decay
    match config.name:
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=lr,
                momentum=_or(config.momentum, 0.0),
                dampening=_or(config.dampening, 0.0),
                nesterov=bool(config.nesterov),
                weight_decay=decay,
                fused=fused,
            )
        case "adam" | "adamw":
            kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
            betas = (_or(config.beta1, 0.9), _or(config.beta2, 0.999))
            return kind(parameters, lr=lr, betas=betas, eps=_or(config.eps, 1e-8), weight_decay=decay, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters,
                lr=lr,
                alpha=_or(config.alpha, 0.99),
                momentum=_or(config.momentum, 0.0),
                eps=_or(config.eps, 1e-8),
                weight_decay=decay,
            )
        case _:
            assert_never(config.name)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value

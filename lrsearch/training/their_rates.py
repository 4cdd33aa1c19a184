"""The learning rates that other packages' own schedulers give, at every update; nothing is trained.

Each function does with its package's scheduler what that package's training script does: how it makes it, and when it
steps it. Settings have the names of that script's options.

Source: ``train.py`` of timm; ``Trainer.create_scheduler`` of transformers; ``references/classification/train.py`` of
torchvision.
"""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from lrsearch.errors import UsageError
from lrsearch.shapes import Factors

ScriptName = Literal["timm", "transformers", "torchvision"]
Settings = Mapping[str, Any]


def their_rates(
    script: ScriptName, settings: Settings, peak_lr: float, epochs: int, updates_per_epoch: int
) -> Factors | None:
    """Return the learning rates of a package's scheduler, `[epochs * updates_per_epoch]`.

    Args:
        script: whose.
        settings: what the scheduler is made of, by the names of the script's options.
        peak_lr: the optimizer's learning rate.
        epochs: all that are trained, warm-up included.
        updates_per_epoch: those that the script makes.

    Returns:
        the learning rates; None where the version that is installed has no such scheduler.

    Raises:
        UsageError: the package is not installed.
    """
    match script:
        case "timm":
            return _timm(settings, peak_lr, epochs, updates_per_epoch)
        case "transformers":
            return _transformers(settings, peak_lr, epochs * updates_per_epoch)
        case "torchvision":
            return _torchvision(settings, peak_lr, epochs, updates_per_epoch)


def version(script: ScriptName) -> str:
    """Return the version of a package that is installed."""
    from importlib.metadata import version as installed

    return installed(script)


def _optimizer(peak_lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak_lr)


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _timm(settings: Settings, peak_lr: float, epochs: int, updates_per_epoch: int) -> Factors:
    try:
        from timm.scheduler.scheduler_factory import create_scheduler_v2, scheduler_kwargs
    except ModuleNotFoundError as error:
        raise _missing("timm") from error
    optimizer = _optimizer(peak_lr)
    scheduler, trained = create_scheduler_v2(
        optimizer, **scheduler_kwargs(Namespace(**settings)), updates_per_epoch=updates_per_epoch
    )
    assert trained == epochs, f"timm would train {trained} epochs"
    rates = np.empty(epochs * updates_per_epoch)
    for update in range(len(rates)):
        if update:
            # After each update, and after each epoch once more; a scheduler listens to one of the two.
            scheduler.step_update(update)
            if update % updates_per_epoch == 0:
                scheduler.step(update // updates_per_epoch)
        rates[update] = _rate(optimizer)
    return rates


def _transformers(settings: Settings, peak_lr: float, n_updates: int) -> Factors | None:
    try:
        from transformers.optimization import get_scheduler
    except ModuleNotFoundError as error:
        raise _missing("transformers") from error
    try:
        scheduler = get_scheduler(
            settings["lr_scheduler_type"],
            _optimizer(peak_lr),
            num_warmup_steps=settings["warmup_steps"],
            num_training_steps=n_updates,
            scheduler_specific_kwargs=dict(settings.get("lr_scheduler_kwargs", {})),
        )
    except (ValueError, TypeError):  # a name, or a keyword, that this version does not know
        return None
    (factor,) = scheduler.lr_lambdas
    return np.array([factor(update) * peak_lr for update in range(n_updates)], dtype=np.float64)


def _torchvision(settings: Settings, peak_lr: float, epochs: int, updates_per_epoch: int) -> Factors:
    from torch.optim import lr_scheduler

    optimizer, warmup = _optimizer(peak_lr), settings["lr_warmup_epochs"]
    scheduler: lr_scheduler.LRScheduler
    match settings["lr_scheduler"]:
        case "steplr":
            scheduler = lr_scheduler.StepLR(optimizer, settings["lr_step_size"], settings["lr_gamma"])
        case "cosineannealinglr":
            scheduler = lr_scheduler.CosineAnnealingLR(optimizer, epochs - warmup, settings["lr_min"])
        case "exponentiallr":
            scheduler = lr_scheduler.ExponentialLR(optimizer, settings["lr_gamma"])
        case other:
            raise ValueError(f"torchvision's script has no scheduler {other!r}")
    if warmup:
        ramp = lr_scheduler.LinearLR(optimizer, settings["lr_warmup_decay"], total_iters=warmup)
        scheduler = lr_scheduler.SequentialLR(optimizer, [ramp, scheduler], [warmup])
    rates = np.empty(epochs)
    for epoch in range(epochs):
        rates[epoch] = _rate(optimizer)
        optimizer.step()  # torch warns of a scheduler that is stepped before its optimizer
        scheduler.step()
    return np.repeat(rates, updates_per_epoch)


def _missing(extra: str) -> UsageError:
    return UsageError(
        f"--to {extra} holds the learning rate against {extra}'s own scheduler, and {extra} is not installed: "
        f"pip install 'lrsearch[{extra}]'"
    )

"""What the engine asks of a network that it did not make: its frozen parts, its outputs, its loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from lrsearch import own_code
from lrsearch.spec.models import MODELS
from lrsearch.spec.sources import code_of
from lrsearch.training import outputs, own_networks
from lrsearch.training.model_config import ModelConfig


def frozen_parts(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the largest parts of a model that hold parameters, none of which is trained."""
    if not any(True for _ in model.parameters()):
        return ()
    if not any(p.requires_grad for p in model.parameters()):
        return (model,)
    return tuple(part for child in model.children() for part in frozen_parts(child))


def to_training(model: nn.Module) -> None:
    """Have a model in training mode, but its frozen parts in evaluation: their statistics would move on."""
    model.train()
    for part in frozen_parts(model):
        part.eval()


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes of a network's output what it is trained by and judged by."""

    in_training: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """From output and labels ``[b]`` to the mean loss that is trained by, and the logits ``[b, C]``."""
    summed: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """Likewise to the sum of the losses that it is judged by [nats]."""
    plain: bool
    """Whether the output is the logits."""

    def logits_of(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what computes the logits of images."""
        return model if self.plain else lambda images: outputs.logits_of(model(images))


def judge_of(config: ModelConfig, counts: Sequence[int], class_weights: float | None, device: torch.device) -> Judge:
    """Return how the outputs of a model are judged.

    Args:
        config: the model.
        counts: training images of each class [examples].
        class_weights: power of the inverse frequency by which classes weigh in the training loss; None: all alike.
        device: where the labels lie.
    """
    weight = None if not class_weights else _weights(counts, class_weights).to(device)
    if config.name in MODELS and config.loss is None:
        return Judge(partial(_plain, weight=weight), _plain_sum, plain=True)
    function = own_loss(config)
    loss: outputs.Loss = partial(functional.cross_entropy, weight=weight)
    judged: outputs.Loss = functional.cross_entropy
    if function is not None:
        loss, judged = _own_loss(function, weight), _own_loss(function, None)

    def in_training(output: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return outputs.loss_of(output, labels, loss)

    def summed(output: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = outputs.logits_of(output)
        return judged(logits, labels) * len(labels), logits

    return Judge(in_training, summed, plain=False)


def own_loss(config: ModelConfig) -> own_code.OwnFunction | None:
    """Return the loss of a person's own that a model is trained by; None where there is none."""
    own = None if config.loss is None else code_of(config.loss)
    return None if own is None else own_networks.found(own, "model.loss")


def _plain(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    return functional.cross_entropy(logits, labels, weight=weight), logits


def _plain_sum(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return functional.cross_entropy(logits, labels, reduction="sum"), logits


def _weights(counts: Sequence[int], power: float) -> torch.Tensor:
    """Return the weight of each class, float32 ``[C]``, whose mean over the images is 1; 0 for a class without any."""
    n = torch.tensor(counts, dtype=torch.float64)
    raw = torch.where(n > 0, n.clamp(min=1) ** -power, 0.0)
    return (raw * n.sum() / (raw * n).sum()).float()


def _own_loss(function: own_code.OwnFunction, weight: torch.Tensor | None) -> outputs.Loss:
    """Return the loss of a person's own, given the ``weight`` of each class ``[C]`` if its signature has that."""
    offered = {"weight": weight}
    taken = function.taken(offered) if weight is not None else {}

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with own_code.own_lines("model.loss", str(function.code), function.path):
            found: torch.Tensor = function.function(logits, labels, **taken)
        return found

    return loss

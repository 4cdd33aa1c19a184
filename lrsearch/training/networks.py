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
from lrsearch.spec.training import AugmentSpec
from lrsearch.training import outputs, own_networks
from lrsearch.training.augment import mixing
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
    """From output and labels ``[b]`` to the mean loss that is trained by, and the logits ``[b, C]``; see also
    ``augment.mixing.mixed_labels``."""
    summed: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """Likewise to the sum of the losses that it is judged by [nats]."""
    plain: bool
    """Whether the output is the logits."""
    mass: Callable[[torch.Tensor], torch.Tensor | int] = len
    """From the labels of a part of a batch to what that part counts in the mean over the batch."""


def judge_of(
    config: ModelConfig,
    counts: Sequence[int],
    class_weights: float | None,
    device: torch.device,
    augment: AugmentSpec | None = None,
) -> Judge:
    """Return how the outputs of a model are judged.

    Args:
        config: the model.
        counts: training images of each class [examples].
        class_weights: power of the inverse frequency by which classes weigh in the training loss; None: all alike.
        device: where the labels lie.
        augment: whether labels are smoothed in training, or images have two; None: neither.
    """
    weight = None if not class_weights else _weights(counts, class_weights).to(device)
    loss = _cross_entropy(weight, augment)
    if config.name in MODELS and config.loss is None:
        return Judge(partial(_plain, loss=loss), _plain_sum, plain=True, mass=_mass_by(weight))
    function = own_loss(config)
    assert function is None or augment is None or not augment.of_the_loss, "a study file of both is refused"
    judged: outputs.Loss = functional.cross_entropy
    if function is not None:
        loss, judged = _own_loss(function, weight), _own_loss(function, None)

    def in_training(output: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return outputs.loss_of(output, labels, loss)

    def summed(output: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = outputs.logits_of(output)
        return judged(logits, labels) * len(labels), logits

    weighs = function is None or "weight" in function.taken({"weight": weight})
    return Judge(in_training, summed, plain=False, mass=_mass_by(weight if weighs else None))


def _mass_by(weight: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor | int]:
    return len if weight is None else partial(mixing.mass, weight=weight)


def _cross_entropy(weight: torch.Tensor | None, augment: AugmentSpec | None) -> outputs.Loss:
    """Return the loss that is trained by, of logits and labels."""
    if augment is None or not augment.of_the_loss:
        return partial(functional.cross_entropy, weight=weight)
    return partial(mixing.cross_entropy, weight=weight, label_smoothing=augment.label_smoothing or 0.0)


def own_loss(config: ModelConfig) -> own_code.OwnFunction | None:
    """Return the loss of a person's own that a model is trained by; None where there is none."""
    own = None if config.loss is None else code_of(config.loss)
    return None if own is None else own_networks.found(own, "model.loss")


def _plain(logits: torch.Tensor, labels: torch.Tensor, loss: outputs.Loss) -> tuple[torch.Tensor, torch.Tensor]:
    return loss(logits, labels), logits


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

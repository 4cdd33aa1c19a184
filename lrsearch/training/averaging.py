"""The moving average of the weights whose validation accuracy is the rung score."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage:
    """An exponential moving average of a model's weights and buffers.

    After update t (0-based) the decay is ``min(1 - 2/steps_per_epoch, (1 + t)/(10 + t))``: about half an epoch of
    memory, and a short one at first. The first update copies the weights, as torch's ``AveragedModel`` does: the
    initial ones are no part of the average. ``AveragedModel`` holds the copy; its ``update_parameters`` reads a counter
    on the device at every update, so the same foreach kernel is called here without it.

    Source: the evidence is in section 7 of the design; warm start as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, steps_per_epoch: int) -> None:
        self.model = AveragedModel(model, use_buffers=True).module
        self.model.requires_grad_(requires_grad=False)
        self._limit = max(0.0, 1.0 - 2.0 / steps_per_epoch)
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        self._average = [a for a, _ in floats]
        self._current = [b for _, b in floats]
        self._counters = [(a, b) for a, b in pairs if not a.is_floating_point()]

    def decay(self, step: int) -> float:
        """Return the decay after update ``step`` (0-based)."""
        return min(self._limit, (1 + step) / (10 + step)) if step > 0 else 0.0

    def update(self, step: int) -> None:
        """Move the average towards the weights after update ``step`` (0-based)."""
        # The kernel of torch's swa_utils. All of these are detached: nothing to record, no need of no_grad().
        torch._foreach_lerp_(self._average, self._current, 1.0 - self.decay(step))
        for average, current in self._counters:
            average.copy_(current)


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [t.detach() for t in (*model.parameters(), *model.buffers())]

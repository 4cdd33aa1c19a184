"""The losses that a loop tells of its updates, and whether they say that the training has diverged."""

import math
from collections.abc import Callable

import torch

from lrsearch.training.watch import Watch
from lrsearch.trial import Divergence

LOOK_EVERY_STEPS = 50
"""Most updates between two looks at the losses that were told: one wait for the device each."""


class Losses:
    """The losses of the epoch under way.

    Args:
        steps_per_epoch: updates of an epoch.
        rate_of: the learning rate of an update.
        watched: whether a training that diverges ends.
    """

    def __init__(self, steps_per_epoch: int, rate_of: Callable[[int], float], *, watched: bool) -> None:
        self._steps_per_epoch, self._rate_of, self._watched = steps_per_epoch, rate_of, watched
        self._told: list[torch.Tensor | float] = []
        self._n_read = 0
        self.watch = Watch()

    @property
    def is_look_due(self) -> bool:
        """Whether enough has been told."""
        return len(self._told) - self._n_read >= LOOK_EVERY_STEPS

    def add(self, loss: torch.Tensor | float) -> None:
        """Take the loss of an update, which may stay on its device until somebody looks."""
        self._told.append(loss.detach() if isinstance(loss, torch.Tensor) else float(loss))

    def look(self, step: int) -> Divergence | None:
        """Read the losses that were told since the last look, of updates up to ``step`` (left out), and judge them."""
        new = self._told[self._n_read :]
        if not new:
            return None
        on_device = [one for one in new if isinstance(one, torch.Tensor)]
        read = iter(torch.stack([one.float().mean() for one in on_device]).tolist()) if on_device else iter(())
        losses = [next(read) if isinstance(one, torch.Tensor) else one for one in new]
        self._told[self._n_read :] = losses
        self._n_read = len(self._told)
        if not self._watched:
            return None
        first = max(step - len(new), 0)
        lrs = [self._rate_of(first + i) for i in range(len(new))]
        index = self.watch.look(losses, [math.nan] * len(losses), lrs, first)
        if index is None:
            return None
        assert self.watch.initial_loss is not None
        at = first + index
        return Divergence(at // self._steps_per_epoch + 1, at, lrs[index], losses[index], self.watch.initial_loss)

    def end_epoch(self) -> float:
        """Return the mean of the epoch's losses, and begin the next; not a number where none was told."""
        losses = [float(one) for one in self._told]
        self._told, self._n_read = [], 0
        return math.fsum(losses) / len(losses) if losses else math.nan

"""A scheduler of torch's kind over a run, for frameworks and people who insist on one."""

from typing import Any, Protocol

import torch
from torch.optim.lr_scheduler import LRScheduler


class Stepped(Protocol):
    """What counts updates: a run."""

    @property
    def updates(self) -> int:
        """Updates so far."""
        ...

    def step(self) -> None:
        """Count one more, and set the learning rate of the next."""
        ...


class RunScheduler(LRScheduler):
    """Sets nothing by itself: ``step`` counts an update of the run, which sets the learning rate.

    Args:
        run: the run.
        optimizer: one whose learning rate the run sets.
        counts: whether ``step`` counts; otherwise it does nothing.
    """

    def __init__(self, run: Stepped, optimizer: torch.optim.Optimizer, *, counts: bool = True) -> None:
        # Not torch's own start, which would make a step and set the rates.
        self._run, self._counts = run, counts
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self._step_count = 0

    @property
    def last_epoch(self) -> int:
        """Updates so far, as torch counts them."""
        return self._run.updates

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        """Leave it: the run counts."""

    def step(self, epoch: Any = None) -> None:
        """Count an update."""
        del epoch
        self._step_count += 1
        if self._counts:
            self._run.step()

    def get_last_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rate of each group that the next update is made with."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the same."""
        return self.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the run knows where it stands."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Leave it likewise."""

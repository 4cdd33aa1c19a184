"""The learning rate of every update, set on whatever optimizers a loop has, and whether anybody else sets it."""

from typing import Any

import torch

from lrsearch.schedules import factors
from lrsearch.training.loop.faults import Counts, LoopError
from lrsearch.training.plateau import plateau_of
from lrsearch.trial import TrialConfig


class _Made:
    """Counts what an optimizer makes; apart from the rates, so that optimizer and run do not hold each other."""

    n = 0

    def __call__(self, *_: object) -> None:
        """Count an update."""
        self.n += 1


class Rates:
    """The learning rates of one training.

    Args:
        config: the setting.
        n_steps: updates of the training.
    """

    def __init__(self, config: TrialConfig, n_steps: int) -> None:
        self._lrs: list[float] = (factors(config.schedule, n_steps) * config.optimizer.peak_lr).tolist()
        self.plateau = plateau_of(config.schedule)
        """The schedule that has feedback; None of the others."""
        self._owned: list[tuple[torch.optim.Optimizer, tuple[float, ...]]] = []
        self._set: list[float] = []
        self._made = _Made()
        self._hook: Any = None
        self._n_before_first: int | None = None

    def of(self, step: int) -> float:
        """Return the largest learning rate of update ``step`` (0-based); past the end, of the last one."""
        scale = 1.0 if self.plateau is None else self.plateau.scale
        return self._lrs[min(step, len(self._lrs) - 1)] * scale

    def own(self, optimizer: torch.optim.Optimizer, shares: tuple[float, ...], step: int) -> None:
        """Set the learning rate of an optimizer from here on, of each group its share; the first one's steps count."""
        if not self._owned:
            self._hook = optimizer.register_step_post_hook(self._made)
        self._owned.append((optimizer, shares))
        self.set(step)

    def owns(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether its learning rate is set here."""
        return any(one is optimizer for one, _ in self._owned)

    def set(self, step: int) -> None:
        """Set the rates with which update ``step`` is made."""
        lr, found = self.of(step), []
        for optimizer, shares in self._owned:
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = lr * share
                found.append(lr * share)
        self._set = found

    def check(self, step: int) -> None:
        """Make sure that nobody else has set the rate with which update ``step`` was made.

        Raises:
            LoopError: somebody has.
        """
        if self._n_before_first is None:
            self._n_before_first = self._made.n
        rates = [group["lr"] for optimizer, _ in self._owned for group in optimizer.param_groups]
        if rates != self._set:
            found, mine = next((a, b) for a, b in zip(rates, self._set, strict=True) if a != b)
            raise LoopError(
                f"the loop sets the learning rate itself: at update {step} (0-based) it was {float(found):.6g} "
                f"instead of {mine:.6g}; leave out its own scheduler, lrsearch sets the rate in run.step()"
            )

    def end_first_epoch(self, n_told: int, steps_per_epoch: int, *, whole: bool) -> None:
        """Compare what was told in a first epoch with what the optimizer made, and count no longer.

        Args:
            n_told: calls of ``run.step()``.
            steps_per_epoch: updates that an epoch should have.
            whole: whether the epoch was counted from its start.

        Raises:
            LoopError: they differ.
        """
        if self._hook is None:
            return
        counts = Counts(n_told, self._made.n, self._n_before_first or 0, steps_per_epoch)
        if whole and (wrong := counts.fault()) is not None:
            raise LoopError(wrong)
        self._hook.remove()
        self._hook = None

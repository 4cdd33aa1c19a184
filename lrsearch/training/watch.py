"""What a training remembers of its losses and outputs, to say when it has diverged.

Losses and outputs stay on the device until somebody looks; what is found does not depend on when. Deciding is left to
the pure functions of ``divergence`` and ``collapse``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lrsearch.training.collapse import At, Course, Guess, flat_since, settled
from lrsearch.trial import EpochMetrics

FAR_ABOVE = 3.0
"""Times the initial loss. At ln(10) = 2.3 nats it is 6.9: worse than guessing by a factor of 100 in probability."""

PATIENCE_STEPS = 20
"""Consecutive updates far above. Spikes of a large learning rate that recovers are shorter."""


def first_divergence(losses: Sequence[float], run: int = 0, *, initial_loss: float) -> tuple[int | None, int]:
    """Return the index in ``losses`` at which the training diverged, and the run of far losses at their end.

    A loss that is not finite diverges at once, one above ``FAR_ABOVE * initial_loss`` when it was so for
    ``PATIENCE_STEPS`` updates in a row. ``run`` is what the call for the preceding losses returned.

    >>> first_divergence([2.3, 1.9, float("nan")], initial_loss=2.3)
    (2, 0)
    >>> first_divergence([9.0] * 19, initial_loss=2.3)
    (None, 19)
    >>> first_divergence([9.0, 1.0], 19, initial_loss=2.3)
    (0, 20)
    """
    limit = FAR_ABOVE * initial_loss
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            return i, 0
        run = run + 1 if loss > limit else 0
        if run >= PATIENCE_STEPS:
            return i, run
    return None, run


@dataclass
class Watch:
    """The state of the watch between two looks."""

    initial_loss: float | None = None
    """Of the first update; None before it was looked at [nats/example]."""
    far_run: int = 0
    """Updates at the end whose loss was far above that."""
    flat_from: At | None = None
    """Where the outputs of every batch began to be the same for all its images."""
    proof_from: int = 0
    """The update before which no other proof of death is worth its cost."""
    course: Course = field(default_factory=Course)

    def look(self, losses: Sequence[float], spreads: Sequence[float], lrs: Sequence[float], first: int) -> int | None:
        """Take the updates from ``first`` on into account; return the index of the one that diverged, or None.

        Args:
            losses: of these updates [nats/example].
            spreads: see ``collapse.spread``.
            lrs: their learning rates.
            first: the update of the first of them, 0-based.
        """
        if self.initial_loss is None:
            self.initial_loss = losses[0]
        self.course = self.course.after(losses, lrs, first)
        index, self.far_run = first_divergence(losses, self.far_run, initial_loss=self.initial_loss)
        before = None if self.flat_from is None else self.flat_from.step
        since = flat_since(spreads, first, before)
        if since != before:
            self.flat_from = None if since is None else At(since, lrs[since - first])
        return index

    def epoch(self, metrics: EpochMetrics, began: At, guess: Guess) -> None:
        """Take an epoch into account that began there."""
        self.course = self.course.after_epoch(metrics.train_loss, metrics.val_accuracy, began, guess)

    def settled(self, guess: Guess) -> At | None:
        """Return from where on a training that is over only guessed; see ``collapse.settled``."""
        return None if self.initial_loss is None else settled(self.course, self.initial_loss, guess)

    def state(self) -> dict[str, Any]:
        """Return plain values that ``restored`` takes."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Watch":
        """Return the watch whose state this is."""
        course = state["course"]
        course = Course(**{**course, **{name: _at(course[name]) for name in ("highest_at", "guessing_from")}})
        return cls(**{**state, "course": course, "flat_from": _at(state["flat_from"])})


def _at(state: Mapping[str, Any] | None) -> At | None:
    return None if state is None else At(**state)

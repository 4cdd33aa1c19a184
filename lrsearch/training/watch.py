"""What a training remembers of its losses and outputs, to say when it has left the realm of sense.

Losses and outputs stay on the device until somebody looks; what is found does not depend on when. Deciding is left to
the pure functions of ``divergence`` and ``collapse``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lrsearch.training.collapse import At, Course, Guess, flat_since, settled
from lrsearch.training.divergence import first_divergence
from lrsearch.trial import EpochMetrics


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

"""What a training remembers of its losses and outputs, to say when it has left the realm of sense.

Losses and outputs stay on the device until somebody looks; what is found does not depend on when. Deciding is left to
the pure functions of ``divergence`` and ``collapse``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lrsearch.training.collapse import Course, Guess, flat_since, settled
from lrsearch.training.divergence import first_divergence
from lrsearch.trial import EpochMetrics


@dataclass
class Watch:
    """The state of the watch between two looks."""

    initial_loss: float | None = None
    """Of the first update; None before it was looked at [nats/example]."""
    far_run: int = 0
    """Updates at the end whose loss was far above that."""
    flat_from: int | None = None
    """The update from which on the outputs of every batch were the same for all its images."""
    flat_lr: float = 0.0
    """The learning rate of that update."""
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
        self.course = self.course.after(losses if first else losses[1:])
        index, self.far_run = first_divergence(losses, self.far_run, initial_loss=self.initial_loss)
        before, self.flat_from = self.flat_from, flat_since(spreads, first, self.flat_from)
        if self.flat_from is not None and self.flat_from != before:
            self.flat_lr = lrs[self.flat_from - first]
        return index

    def epoch(self, metrics: EpochMetrics, first: int, lr: float, guess: Guess) -> None:
        """Take an epoch into account that began with the update ``first`` at the learning rate ``lr``."""
        self.course = self.course.after_epoch(metrics.train_loss, metrics.val_accuracy, first, lr, guess)

    def settled(self, guess: Guess) -> int | None:
        """Return the update from which on a training that is over only guessed; see ``collapse.settled``."""
        return None if self.initial_loss is None else settled(self.course, self.initial_loss, guess)

    def state(self) -> dict[str, Any]:
        """Return plain values that ``restored`` takes."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Watch":
        """Return the watch whose state this is."""
        return cls(**{**state, "course": Course(**state["course"])})

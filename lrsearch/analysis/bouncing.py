"""Whether the losses of a training bounce from epoch to epoch, as they do where its learning rate is too high."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lrsearch.text import counted
from lrsearch.trial import EpochMetrics

BOUNCE = 0.10
"""Part by which a loss rises from one epoch to the next where it bounces."""
LEAST_BOUNCE = 0.01
"""Part of the loss of a guess that a bounce has at least: near 0 every loss jumps by parts of itself."""
BOUNCES = 0.15
"""Part of the epochs, and two at least, in which an unstable training bounces."""
BIG_BOUNCE = 0.4
"""Part by which one rise is enough."""
SWING = 1.25
"""Times its start to which the validation loss rises in a swing, of which an unstable training has two,"""
BIG_SWING = 2.0
"""or one of these."""
SWING_FLOOR = 0.05
"""Part of the loss of a guess that a swing has at least."""
EXPLODED = 1.5
"""Times the loss of a guess to which the training loss of an unstable training rises in an epoch,"""
EXPLODED_AT_FIRST = 1.3
"""or in the first one, if the next is at most"""
CAME_BACK = 0.8
"""times that: the loss of bad initial weights falls more slowly, if the rate is not what made it high."""
TINY = 1e-12
"""A loss that is divided by instead of 0 [nats/example]."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the losses of a training are held against."""

    guess: float
    """The loss of a guess [nats/example]; where nobody knows it that of the first epoch."""
    whose: str
    """The same in words, as what a loss is so many times of."""


@dataclass(frozen=True, slots=True)
class Bounce:
    """How losses bounced."""

    what: str
    """What was seen, as a sentence without its stop."""
    times: float
    """By what the learning rate is to be divided."""


def bounce(rows: Sequence[EpochMetrics], scale: Scale) -> Bounce | None:
    """Return how the losses of these epochs bounce, or None: an explosion, jumps of the one, or swings of the other.

    All losses are numbers from 0 upwards, and there is an epoch.
    """
    return _exploded(rows, scale) or _bounced(rows, scale) or _swung(rows, scale)


def _exploded(rows: Sequence[EpochMetrics], scale: Scale) -> Bounce | None:
    worst = max(rows, key=lambda row: row.train_loss)
    at_first = worst.epoch == 1
    if worst.train_loss <= (EXPLODED_AT_FIRST if at_first else EXPLODED) * scale.guess:
        return None
    if at_first and (len(rows) < 2 or rows[1].train_loss > CAME_BACK * worst.train_loss):
        return None  # bad initial weights, and a rate that does not move them
    times = worst.train_loss / max(scale.guess, TINY)
    what = f"the training loss rose to {worst.train_loss:.3g} in epoch {worst.epoch}, {times:.2g} times {scale.whose}"
    return Bounce(what, 10 if times >= EXPLODED else 3)


def _bounced(rows: Sequence[EpochMetrics], scale: Scale) -> Bounce | None:
    jumps = [
        b.train_loss / max(a.train_loss, TINY) - 1
        for a, b in pairwise(rows)
        if b.lr <= 1.05 * a.lr and b.train_loss - a.train_loss > max(BOUNCE * a.train_loss, LEAST_BOUNCE * scale.guess)
    ]
    if len(jumps) < max(2.0, BOUNCES * (len(rows) - 1)) and max(jumps, default=0.0) < BIG_BOUNCE:
        return None
    what = f"the training loss rose in {len(jumps)} of {counted(len(rows), 'epoch')}, once by {100 * max(jumps):.0f} %"
    return Bounce(what, 3)


def _swung(rows: Sequence[EpochMetrics], scale: Scale) -> Bounce | None:
    swings = _swings([row.val_loss for row in rows], SWING_FLOOR * scale.guess)
    if len(swings) < 2 and max(swings, default=1.0) < BIG_SWING:
        return None
    what = f"the validation loss rose to {max(swings):.2g} times and came back"
    return Bounce(what if len(swings) == 1 else f"{what}, {len(swings)} times in all", 3)


def _swings(losses: Sequence[float], floor: float) -> list[float]:
    """Return how many times its start each rise of a loss came to that was at least half undone later.

    Rises of less than ``SWING``, or than ``floor`` [nats/example], are none.

    >>> [round(times, 2) for times in _swings([1.0, 0.5, 1.0, 0.6, 0.65, 0.5], 0.1)]
    [2.0]
    """
    found, low, top = list[float](), losses[0], losses[0]
    for loss in losses[1:]:
        if loss > top:
            top = loss
        elif top > max(SWING * low, low + floor) and loss < top - 0.5 * (top - low):
            found.append(top / max(low, TINY))
            low = top = loss
        elif loss < low:
            low = top = loss
    return found

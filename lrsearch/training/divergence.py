"""When a training has left the realm of sense: a pure function of its losses.

Loss is recorded on the device at every update and read now and then, so that no update waits for the host; which
update it was does not depend on when somebody looked.
"""

import math
from collections.abc import Sequence

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

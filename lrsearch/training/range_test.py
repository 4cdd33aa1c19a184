"""The sweep of a range test: a short training whose learning rate rises exponentially until its loss explodes.

A training of the study like any other, with its own copy of the weights, which nobody keeps. Source: Smith 2017,
Cyclical learning rates for training neural networks, arXiv 1506.01186, section 3.3.
"""

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from lrsearch.training.serial import SerialEngine
from lrsearch.trial import N_START, RangeTest, TrialConfig

EXPLODED = 4.0
"""Times the loss of the start above which a whole block is beyond all that is of interest; so much is Lightning's
``early_stop_threshold`` too, of single updates."""


def rising(low: float, high: float, per_decade: int) -> tuple[float, ...]:
    """Return learning rates that are even in the logarithm, from ``low`` > 0 to ``high``, so many a decade.

    >>> rising(0.01, 1.0, 2)
    (0.01, 0.0316228, 0.1, 0.316228, 1.0)
    """
    n = 1 + max(1, round(per_decade * math.log10(high / low)))
    return tuple(float(f"{rate:.6g}") for rate in np.geomspace(low, high, n))


def sweep(engine: SerialEngine, config: TrialConfig, rates: Sequence[float]) -> RangeTest:
    """Train a setting with a learning rate for each update, and no further than where the loss has exploded.

    Args:
        engine: the study's.
        config: the setting; its own peak and schedule are not used.
        rates: of the updates, see ``rising``.
    """
    started_at, begun = datetime.now(UTC), time.perf_counter()
    losses: list[float] = []
    for block in engine.start(config).losses_at(rates):
        losses += block
        first = losses[:N_START]
        if not all(map(math.isfinite, block)) or min(block) > EXPLODED * sum(first) / len(first):
            break
    return RangeTest(
        optimizer=config.optimizer.name,
        seed=config.seed,
        batch_size=config.batch_size,
        rates=tuple(rates[: len(losses)]),
        losses=tuple(losses),
        seconds=time.perf_counter() - begun,
        device=engine.device,
        versions=engine.versions,
        started_at=started_at,
    )

"""A setting as numbers between which distances mean something: what it does to the weights, not how it is called.

A schedule is told by its factors: how far it falls, how early, how it begins. The rate is the peak times the root mean
square of the factors, for a batch of 64 and momentum .9, in decades from what is usual for the optimizer. So families
share what is known of them. After a part of a training it is that of the updates so far: what comes later has done
nothing yet.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lrsearch import layer_rates
from lrsearch.schedules import factors
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.strategy.lr.constants import Constants
from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

Floats = NDArray[np.float64]

N_FACTORS = 200
"""Updates by which a schedule is told."""
USUAL_FACTOR = -0.22
"""log10 of the root mean square factor of the usual schedule, a cosine with a short warm-up."""
USUAL_BATCH = 64
USUAL_MOMENTUM = 0.9
SCALES = (3.0, 4.0, 6.0)
"""Of how deep a schedule falls [decades], how early, and how it begins."""
BATCH_OCTAVES = 3.4
DECAY_DECADES = 3.0
OWN = 0.5
"""Distance between two settings that differ in a choice that has no order."""


@lru_cache(maxsize=8192)
def factor_so_far(schedule: ScheduleConfig, part: float = 1.0) -> float:
    """Return log10 of the root mean square factor of the first part (0..1] of a training."""
    curve = factors(schedule, N_FACTORS)[: max(1, round(part * N_FACTORS))]
    return 0.5 * math.log10(float((curve * curve).mean()) + 1e-12)


@lru_cache(maxsize=8192)
def of_schedule(schedule: ScheduleConfig) -> tuple[float, float, float]:
    """Return three numbers for the form of a schedule: how deep it falls, how early, how it begins."""
    curve = factors(schedule, N_FACTORS)
    depth = math.log10(float(curve[-N_FACTORS // 10 :].mean()) + 1e-3)
    last, second = curve[3 * N_FACTORS // 4 :].mean(), curve[N_FACTORS // 4 : N_FACTORS // 2].mean()
    return (
        depth / SCALES[0],
        float(last - second) / SCALES[1],
        float(curve[: N_FACTORS // 10].mean()) / SCALES[2],
    )


@lru_cache(maxsize=64)
def usual_rate(optimizer: str) -> float:
    """Return log10 of the usual peak rate of an optimizer for the usual schedule and batch."""
    starts = OPTIMIZERS[optimizer].starts
    return float(np.median([math.log10(start.peak_lr) for start in starts])) if starts else -3.0


def lean(schedule: ScheduleConfig, c: Constants) -> float:
    """Return by how many decades the best rate is expected to rise while the fraction trained grows tenfold.

    At a constant rate it falls: a high rate learns fast at first, and then stays as far from the optimum as its own
    steps are long. A schedule that falls to nothing lets the steps shrink, so that a high rate pays in the end.
    """
    depth = -of_schedule(schedule)[0] * SCALES[0]
    return c.lean_constant + (c.lean_falling - c.lean_constant) * min(max(depth, 0.0), 1.0)


@lru_cache(maxsize=1 << 14)
def relative_rate(config: TrialConfig) -> float:
    """Return the learning rate [decades] from what is usual, its schedule's factors, batch size and momentum in it."""
    optimizer = config.optimizer
    return math.log10(optimizer.peak_lr) - usual_rate(optimizer.name) + shift(config)


def shift(config: TrialConfig) -> float:
    """Return by how many decades the peak rate of a setting counts for more than that of the usual one."""
    optimizer = config.optimizer
    factor = factor_so_far(config.schedule) - USUAL_FACTOR
    batch = math.log10(config.batch_size / USUAL_BATCH) * (0.5 if OPTIMIZERS[optimizer.name].adaptive else 1.0)
    return factor - batch + _of_momentum(optimizer)


def _of_momentum(optimizer: OptimizerConfig) -> float:
    """Return the decades by which momentum lengthens an update of plain descent, over those of .9."""
    if optimizer.momentum is None or OPTIMIZERS[optimizer.name].adaptive:
        return 0.0
    dampening = optimizer.dampening or 0.0
    longer = (1 - dampening) / (1 - optimizer.momentum) if optimizer.momentum else 1.0
    return math.log10(max(longer, 1e-3)) - math.log10(1 / (1 - USUAL_MOMENTUM))


@lru_cache(maxsize=1 << 14)  # every decision asks for it of every trial
def encode(config: TrialConfig, length: float) -> tuple[float, ...]:
    """Return the features of a setting; the rate comes first, in units of ``length`` [decades]."""
    optimizer = config.optimizer
    decay = math.log10(max(optimizer.weight_decay, 1e-6))
    layers = [
        math.log10(value if (value := getattr(config, name)) is not None else 1.0) / 2 for name in layer_rates.FIELDS
    ]
    rest = [
        math.log10(1 - min(part, 0.99999)) / DECAY_DECADES if part is not None else 0.0
        for part in (optimizer.momentum, optimizer.beta1, optimizer.beta2)
    ]
    return (
        relative_rate(config) / length,
        *of_schedule(config.schedule),
        math.log2(config.batch_size / USUAL_BATCH) / BATCH_OCTAVES,
        decay / DECAY_DECADES,
        *layers,
        *rest,
        OWN * float(bool(optimizer.nesterov)),
    )

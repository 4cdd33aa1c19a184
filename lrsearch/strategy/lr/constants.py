"""Every number of the strategy, with its reason; docs/replay.md has what some do when they are shaken."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Constants:
    """Scores are shares [0..1]: .01 is a point. Fractions are of a whole training. A decade is a factor of ten."""

    rungs: tuple[float, ...] = (0.015, 0.04, 0.1, 0.25, 0.55, 1.0)
    """Where a trial is looked at: each look costs 2.5 times the one before; ranks below 2 % mislead."""
    density: float = 2.0
    """Settings of the first sweep for each decade of learning rate: their distance is below ``length``."""
    sweep: int = 8
    """Settings of the first sweep where more than a learning rate is searched."""
    sweep_cost: float = 0.6
    """Trainings that the first sweep may cost."""
    sweep_least: int = 5
    sweep_portfolio: float = 2 / 3
    """Part of it that the portfolio may take, where more than a learning rate is searched."""
    sweep_width: float = 0.8
    """Decades around the usual rate that the first sweep covers (a standard deviation), where more than it varies."""
    sweep_rise: float = 0.1
    """Fraction within which settings of the first sweep rise to their peak: a first look before that says nothing."""
    squash: float = 0.1
    """Scores far from the best are squashed: linear near it, logarithmic beyond this distance."""
    clip: float = 2.8
    """Amplitudes below the best at which a score counts as lost: one collapsed trial does not decide for a decade."""
    amplitude: float = 0.045
    """Standard deviation of scores over settings."""
    length: float = 0.6
    """Decades of learning rate over which scores are alike."""
    shared: float = 0.7
    """Part of the variance between settings that is the same after any fraction of a training."""
    memory: float = 2.0
    """The rest is forgotten while the fraction grows by e to this power."""
    shared_little: float = 0.1
    memory_little: float = 0.7
    odds_little: float = 0.5
    """The same where early scores mislead, and how probable that is against the above; weighed by the evidence."""
    noise: float = 0.0045
    """Of the score after one epoch."""
    trial_noise: float = 0.005
    """Of a training as a whole: what its neighbours do not share."""
    own: float = 0.5
    """Part of that variance that counts as the setting's own, and not as luck: what its features do not tell."""
    own_memory: float = 1e9
    """What is a training's own is forgotten while the fraction grows by e to this power."""
    louder: tuple[float, ...] = (1.0, 3.0)
    """Times that the noise of trainings may be; how large it is here is weighed by the evidence."""
    lean_constant: float = -0.25
    """Decades by which the best rate is expected to rise while the fraction grows tenfold, at a constant rate,"""
    lean_falling: float = 0.0
    """and where the schedule falls to a tenth and less, beyond what the rates so far say."""
    drifts: tuple[float, ...] = (-0.2, 0.0, 0.2)
    """Decades by which the best rate may move while the fraction trained grows tenfold; weighed by the evidence."""
    drift_sd: float = 0.25
    average: float = 0.2
    """A score at a fraction is the mean over this part of the epochs so far, the latest; never of the last epoch."""
    tolerance: float = 0.005
    """A setting is good that ends within this of the best."""
    power_first: float = 1.3
    power: float = 1.0
    """What a step promises is divided by (the cost of the rest + ``floor``) to this power: before the first trial is
    complete, and after."""
    floor: float = 0.05
    first_by: float = 2.0
    """The first trial is complete at about this cost: from then on no more of the sweep are begun, the leader alone
    goes on,"""
    first_at_latest: float = math.inf
    """and where that would take longer than this, the best of those that have come furthest."""
    near_edge: float = 0.1
    """Least factor upon what lies between the highest rate that lives and the lowest that was lost,"""
    beyond_edge: float = 0.01
    """and the factor upon what lies beyond."""
    draws: int = 64
    """Of the joint posterior, to tell how probably each setting is a good one."""
    step: float = 0.1
    """Decades between the new learning rates that are considered."""
    other_optimizer: float = 0.6
    """Correlation between optimizers at the same rate, measured from what is usual for each."""
    prior: float = 0.0
    """The expected score falls by this many amplitudes with the square of the decades from the usual rate."""
    pool: int = 160
    """New settings that are considered, drawn from the space,"""
    local: int = 8
    """and so many near each of the best five."""
    grid: int = 12
    """Combinations of everything but the rate up to which a grid of all is considered instead."""
    most_looks: int = 300
    """Scores that the model takes; the rest, of settings that are far behind, is left out."""
    other_study: float = 0.8
    """Correlation with what is known from another study at the same setting, where the evidence does not speak against
    it."""
    study_shifts: tuple[float, ...] = (0.0, -0.3, 0.3, -0.6, 0.6)
    """Decades by which the rates of another study may be off, each a hypothesis,"""
    study_shift_sd: float = 0.3
    """and the standard deviation of that [decades]."""


NARROW = Constants()
"""Where little but learning rates is searched."""
WIDE = replace(
    NARROW,
    rungs=(0.015, 0.04, 0.1, 0.55, 1.0),
    amplitude=0.03,
    length=0.75,
    shared=0.9,
    memory=4.0,
    lean_falling=0.15,
    drifts=(-0.1, 0.0, 0.1),
    power_first=1.0,
    power=1.8,
    first_by=1.7,
    first_at_latest=2.5,
    prior=0.4,
    own=1.0,
    own_memory=0.7,
    trial_noise=0.01,
    odds_little=0.05,
)
"""Where more is: in many dimensions a new setting always looks promising, so that finishing is favoured. No trial is
looked at after a quarter: warm-ups have just ended, and scores tell little more than those of a tenth, or less."""

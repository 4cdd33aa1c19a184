"""The shapes that a learning rate takes after warm-up: one function per family, from numbers to an array of factors.

Letters in all formulas: ``D`` is ``shape_steps``, the number of updates after warm-up, 1 or more; ``s`` = 0..D-1 counts
them; ``x = s / D``; ``f`` is ``final``, a fraction of the peak. "f at s = D" means one update past the last, which is
where torch has it too. Every function returns `[D]`, float64, each in 0..1; arguments are valid (see ``validate``).
The torch class under "Source" is the twin that the tests compare with, for an optimizer whose rate is ``peak``.
"""

from bisect import bisect_left
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lrsearch.domain import round_half_up

Factors: TypeAlias = npt.NDArray[np.float64]


def constant(shape_steps: int) -> Factors:
    """Stay at the peak: ``1``.

    >>> constant(3).tolist()
    [1.0, 1.0, 1.0]

    Source: torch ConstantLR(factor=1).
    """
    return np.ones(shape_steps)


def step(shape_steps: int, final: float, drops: int) -> Factors:
    """Fall to f by equal factors, in drops that divide the updates into treads of equal length.

    ``f ** (floor(s (k + 1) / D) / k)``, k = ``drops``. The last tread is at f. With fewer than k + 1 updates several
    drops come at once, and the last need not come at all.

    >>> step(6, 0.01, drops=2).round(4).tolist()
    [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]

    Source: He et al. 2015, arXiv 1512.03385; torch StepLR(step_size=D/(k+1), gamma=f**(1/k)), and where k + 1 does not
    divide D, MultiStepLR with each milestone rounded up.
    """
    # In integers, because a float would put a drop that falls on an update before or after it by chance.
    done = np.arange(shape_steps, dtype=np.int64) * (drops + 1) // shape_steps
    return np.power(final, done / drops)


def multistep(shape_steps: int, final: float, milestones: tuple[float, ...]) -> Factors:
    """Fall to f by equal factors, one drop at each milestone.

    ``f ** (j / k)``, k = the number of ``milestones`` m, each a fraction of D, and j = how many of them have
    ``m D <= s``, a half rounded up. No drop comes before s = 1, so that the first update is at the peak; a drop that
    is rounded to D never comes.

    >>> multistep(4, 0.01, milestones=(0.5, 0.75)).round(4).tolist()
    [1.0, 1.0, 0.1, 0.01]

    Source: Zagoruyko and Komodakis 2016, arXiv 1605.07146; torch MultiStepLR(gamma=f**(1/k)).
    """
    at = [max(round_half_up(milestone * shape_steps), 1) for milestone in milestones]
    done = np.searchsorted(at, np.arange(shape_steps), side="right")
    return np.power(final, done / len(milestones))


def exponential(shape_steps: int, final: float) -> Factors:
    """Lose the same share at every update: ``f ** x``, with f at s = D.

    >>> exponential(4, 0.0625).tolist()
    [1.0, 0.5, 0.25, 0.125]

    Source: Senior et al. 2013, ICASSP; torch ExponentialLR(gamma=f**(1/D)).
    """
    return np.power(final, _done(shape_steps))


def linear(shape_steps: int, final: float) -> Factors:
    """Fall along a straight line: ``f + (1 - f) (1 - x)``, with f at s = D.

    >>> linear(4, 0.0).tolist()
    [1.0, 0.75, 0.5, 0.25]

    Source: Li, Yumer and Ramanan 2019, arXiv 1905.04753; torch LinearLR(start_factor=1, end_factor=f, total_iters=D).
    """
    return _above(final, 1 - _done(shape_steps))


def cosine(shape_steps: int, final: float) -> Factors:
    """Fall along half a cosine: ``f + (1 - f) (1 + cos(pi x)) / 2``, with f at s = D.

    >>> cosine(3, 0.0).round(4).tolist()
    [1.0, 0.75, 0.25]

    Source: Loshchilov and Hutter 2016, arXiv 1608.03983; torch CosineAnnealingLR(T_max=D, eta_min=f*peak).
    """
    return _above(final, _half_cosine(_done(shape_steps)))


def polynomial(shape_steps: int, final: float, power: float) -> Factors:
    """Fall as a power of what is left: ``f + (1 - f) (1 - x) ** p``, p = ``power``, with f at s = D.

    >>> polynomial(4, 0.0, power=2.0).tolist()
    [1.0, 0.5625, 0.25, 0.0625]

    Source: Chen et al. 2016, arXiv 1606.00915 ("poly"); torch PolynomialLR(total_iters=D, power=p), for f = 0.
    """
    return _above(final, (1 - _done(shape_steps)) ** power)


def inverse_sqrt(shape_steps: int, final: float) -> Factors:
    """Fall as one over the square root of time, on the time scale that has f at s = D.

    ``1 / sqrt(1 + s / tau)``, ``tau = D f**2 / (1 - f**2)``; f = 1 is constant.

    >>> inverse_sqrt(3, 0.5).round(4).tolist()
    [1.0, 0.7071, 0.5774]

    Source: Vaswani et al. 2017, arXiv 1706.03762; Zhai et al. 2021, arXiv 2106.04560 ("rsqrt").
    """
    # The formula times f / f: so neither f = 1 nor an f whose square is too small for a float divides by zero.
    fall: Factors = final / np.hypot(final, np.sqrt(_done(shape_steps) * (1 - final * final)))
    return fall


def one_cycle(shape_steps: int, final: float, rise: float, initial: float) -> Factors:
    """Rise along half a cosine from ``initial`` to the peak, then fall along another to f, the last update.

    ``c + (1 - c) (1 + cos(pi a)) / 2`` around the peak at ``p = r D - 1``, r = ``rise``, a fraction of D. Before p,
    c = ``initial``, a fraction of the peak, and ``a = (p - s) / p``; from p on, c = f, ``a = (s - p) / (D - 1 - p)``. A
    peak between two updates is not met: the largest factor is then just under 1. With r D < 1 there is no rise, the
    curve starts past the peak, and a single update is at f; with r D = 1, where torch divides by zero, it starts at 1.

    >>> one_cycle(10, 0.01, rise=0.3, initial=0.04).round(4).tolist()
    [0.04, 0.52, 1.0, 0.951, 0.8136, 0.6151, 0.3949, 0.1964, 0.059, 0.01]

    Source: Smith and Topin 2017, arXiv 1708.07120; torch OneCycleLR(max_lr=peak, total_steps=D, pct_start=r,
    div_factor=1/initial, final_div_factor=initial/f, cycle_momentum=False).
    """
    s = np.arange(shape_steps)
    peak = rise * shape_steps - 1
    # At s = p both sides give 1, and a rise without length must not be the one that divides by its length.
    rising = (s <= peak) & (peak > 0)
    low = np.where(rising, initial, final)
    span = np.where(rising, peak, shape_steps - 1 - peak)
    return _above(low, _half_cosine(np.abs(s - peak) / span))


def triangular(shape_steps: int, final: float, cycles: int) -> Factors:
    """Rise from f to the peak and fall back along straight lines, ``cycles`` times.

    ``f + (1 - f) (1 - abs(2 a - 1))``, a = the fractional part of c x, c = ``cycles``. It starts at f, so with f = 0
    the first update and the whole warm-up learn nothing. A peak between two updates is not met: the largest factor is
    then under 1, and where D divides c, all are f.

    >>> triangular(8, 0.2, cycles=2).round(4).tolist()
    [0.2, 0.6, 1.0, 0.6, 0.2, 0.6, 1.0, 0.6]

    Source: Smith 2015, arXiv 1506.01186; torch CyclicLR(base_lr=f*peak, max_lr=peak, step_size_up=D/(2c),
    cycle_momentum=False).
    """
    a = np.arange(shape_steps, dtype=np.int64) * cycles % shape_steps / shape_steps
    return _above(final, 1 - np.abs(2 * a - 1))


def warm_restarts(shape_steps: int, final: float, cycles: int, cycle_mult: int) -> Factors:
    """Fall along half a cosine ``cycles`` times, each ``cycle_mult`` times as long as the one before.

    ``f + (1 - f) (1 + cos(pi a / L)) / 2``, a = updates since the restart, L = the length of the cycle: T, T m,
    T m**2 and so on, m = ``cycle_mult``, with T = D / (1 + m + ... + m**(cycles - 1)) rounded up. The rounding cuts off
    the end of the last cycle, or, with few updates, the last cycles.

    >>> warm_restarts(6, 0.0, cycles=2, cycle_mult=2).round(4).tolist()
    [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464]

    Source: Loshchilov and Hutter 2016, arXiv 1608.03983; torch CosineAnnealingWarmRestarts(T_0=T, T_mult=m,
    eta_min=f*peak).
    """
    first = -(-shape_steps // sum(cycle_mult**i for i in range(cycles)))
    lengths = [first * cycle_mult**i for i in range(cycles)]
    starts = [0, *accumulate(lengths)]
    # Only cycles that begin go to numpy: the later powers may be larger than its integers.
    begun = bisect_left(starts, shape_steps)
    start, length = np.array(starts[:begun]), np.array(lengths[:begun])
    s = np.arange(shape_steps)
    cycle = np.searchsorted(start, s, side="right") - 1
    return _above(final, _half_cosine((s - start[cycle]) / length[cycle]))


def wsd(shape_steps: int, final: float, decay_steps: int) -> Factors:
    """Stay at the peak, then fall along a straight line: the stable and the decay of warm-up, stable, decay.

    ``f + (1 - f) min(1, (D - s) / L)``, L = ``decay_steps``, 1..D, with f at s = D. L = D is linear.

    >>> wsd(6, 0.0, decay_steps=4).tolist()
    [1.0, 1.0, 1.0, 0.75, 0.5, 0.25]

    Source: Hu et al. 2024, arXiv 2404.06395 (MiniCPM); Haegele et al. 2024, arXiv 2405.18392; torch SequentialLR of
    ConstantLR and LinearLR(start_factor=1, end_factor=f, total_iters=L).
    """
    return _above(final, np.minimum(np.arange(shape_steps, 0, -1) / decay_steps, 1))


def wsd_cosine(shape_steps: int, final: float, decay_steps: int) -> Factors:
    """Stay at the peak, then fall along half a cosine: wsd with another decay.

    ``f + (1 - f) (1 + cos(pi a)) / 2``, a = max(0, (s - (D - L)) / L), L = ``decay_steps``, 1..D, with f at s = D.
    L = D is cosine.

    >>> wsd_cosine(6, 0.0, decay_steps=4).round(4).tolist()
    [1.0, 1.0, 1.0, 0.8536, 0.5, 0.1464]

    Source: Haegele et al. 2024, arXiv 2405.18392 (cool-downs of other shapes); torch SequentialLR of ConstantLR and
    CosineAnnealingLR(T_max=L, eta_min=f*peak).
    """
    fallen = np.maximum(np.arange(decay_steps - shape_steps, decay_steps) / decay_steps, 0)
    return _above(final, _half_cosine(fallen))


def plateau(shape_steps: int) -> Factors:
    """Stay at the peak, ``1``: when to drop depends on the validation loss, which no function of s knows.

    This family alone has feedback: the engine asks torch's own scheduler after each epoch. Once more than
    ``patience_epochs`` epochs in a row have brought nothing better, the rate is multiplied by ``drop_factor``, down to
    ``final_fraction`` of the peak.

    >>> plateau(3).tolist()
    [1.0, 1.0, 1.0]

    Source: torch ReduceLROnPlateau(factor=drop_factor, patience=patience_epochs, min_lr=f*peak).
    """
    return np.ones(shape_steps)


def _done(shape_steps: int) -> Factors:
    """Return x, the part that is done before each update, `[D]`, from 0 to just below 1."""
    return np.arange(shape_steps) / shape_steps


def _half_cosine(x: Factors) -> Factors:
    """Return the fall from 1 at x = 0 to 0 at x = 1."""
    return (1 + np.cos(np.pi * x)) / 2


def _above(low: float | Factors, height: Factors) -> Factors:
    """Squeeze ``height``, in 0..1, into low..1; not even by rounding outside of it, and exactly 1 at height 1."""
    return low + (1 - low) * height

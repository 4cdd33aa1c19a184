"""Whether good learning rates touch the edge of the search space, and how to widen it."""

import math
from dataclasses import dataclass
from typing import Literal

from lrsearch.domain import Choice, Domain, Fixed, Range, high_end, low_end
from lrsearch.spec.study import StudySpec
from lrsearch.trial import OptimizerName

TOUCH = 0.05
"""Part of the axis (logarithmic where the range is) that counts as its edge."""

WIDER = 10.0
"""Times a logarithmic edge is moved."""

HIGHEST = 1e6
"""A learning rate above it is no study (see lrsearch.spec.study)."""
LOWEST = 1e-30
"""One below it moves no weight of float32."""

Side = Literal["lower", "upper"]


@dataclass(frozen=True, slots=True)
class Edge:
    """Good trials at an edge of the search space: better ones may lie beyond it."""

    side: Side
    at: float
    """The learning rate where the search space ends."""
    overrides: tuple[str, ...]
    """``KEY=VALUE`` for ``--set``, in order: the search space with this edge moved outwards."""


def touched(domain: Domain, low: float, high: float) -> tuple[Side, ...]:
    """Return the edges of ``domain`` that the learning rates from ``low`` to ``high`` touch.

    >>> space = Range(1e-3, 1.0, log=True)
    >>> touched(space, 0.01, 0.1), touched(space, 0.0012, 0.1), touched(space, 0.1, 0.8)
    ((), ('lower',), ('upper',))
    """
    if isinstance(domain, Fixed):
        return ()
    bottom, top = low_end(domain), high_end(domain)
    margin_low, margin_high = bottom, top
    if isinstance(domain, Range):
        if domain.log:
            step = TOUCH * math.log(top / bottom)
            margin_low, margin_high = bottom * math.exp(step), top * math.exp(-step)
        else:
            step = TOUCH * (top - bottom)
            margin_low, margin_high = bottom + step, top - step
    found: list[Side] = []
    if low <= margin_low:
        found.append("lower")
    if high >= margin_high:
        found.append("upper")
    return tuple(found)


def edge(spec: StudySpec, optimizer: OptimizerName, side: Side) -> Edge | None:
    """Return that edge of the optimizer's learning rate, with the overrides that move it outwards.

    None where there is no room beyond it.
    """
    domain = spec.space.optimizers[optimizer]["peak_lr"]
    at = low_end(domain) if side == "lower" else high_end(domain)
    if at / WIDER < LOWEST if side == "lower" else at >= HIGHEST:
        return None
    overrides = [f"space.optimizer.{optimizer}.peak_lr={_widened(domain, side)}"]
    names = tuple(spec.space.optimizers)
    if len(names) > 1:
        # A table of one optimizer alone would leave the others out of the search.
        listed = ",".join(f'"{name}"' for name in names)
        overrides.insert(0, f"space.optimizer=[{listed}]")
    return Edge(side, at, tuple(overrides))


def _widened(domain: Domain, side: Side) -> str:
    """Return the domain as TOML, one edge moved outwards; without spaces, so that no terminal breaks it."""
    match domain:
        case Fixed(value=only):
            rate = float(only)
            low, high = (rate / WIDER, rate) if side == "lower" else (rate, min(rate * WIDER, HIGHEST))
            return f"{{low={low:.4g},high={high:.4g},log=true}}"
        case Choice(values=values):
            rates = sorted(float(v) for v in values)
            ratio = min(rates[1] / rates[0] if side == "lower" else rates[-1] / rates[-2], WIDER)
            wider = [rates[0] / ratio, *rates] if side == "lower" else [*rates, rates[-1] * ratio]
            return "[" + ",".join(f"{rate:.4g}" for rate in wider) + "]"
        case Range(low=low, high=high, log=log, step=step):
            if log:
                low, high = (low / WIDER, high) if side == "lower" else (low, high * WIDER)
                return f"{{low={low:.4g},high={min(high, HIGHEST):.4g},log=true}}"
            tail = f",step={step:.6g}" if step is not None else ""
            if side == "upper":
                return f"{{low={low:.6g},high={min(2 * high - low, HIGHEST):.6g}{tail}}}"
            # A learning rate stays above 0, and a grid on its points.
            if step is None:
                low = max(2 * low - high, low / WIDER)
            else:
                low -= step * min(math.ceil(low / step) - 1, round((high - low) / step))
            return f"{{low={low:.6g},high={high:.6g}{tail}}}"

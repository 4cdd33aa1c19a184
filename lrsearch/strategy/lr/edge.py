"""Where learning rates begin to diverge: an edge, beyond which there is nothing to gain.

Scores rise up to the edge, as a rule, and end there. To the model a training that is lost is therefore no low score: it
would take from what lies just below the edge, where the best rate often is. It is kept from the model, and what lies
between the highest rate that lives and the lowest that was lost counts by its chance to live.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrsearch.spec.metrics import Metric
from lrsearch.strategy.lr.constants import Constants
from lrsearch.strategy.lr.features import Floats, relative_rate
from lrsearch.strategy.lr.looks import Looks, lowest
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import State, TrialConfig


@dataclass(frozen=True, slots=True)
class DivergenceEdge:
    """Of an optimizer; rates are in decades from what is usual, as ``features.relative_rate`` has them."""

    alive: float
    """The highest that learns; -inf: none does."""
    lost: float
    """The lowest above it at which a training diverged, or learned and then collapsed."""
    beyond: frozenset[int]
    """The trials that were lost there, by their place among the curves."""


def edges(curves: Sequence[ScoreCurve], seen: Looks, metric: Metric, c: Constants) -> dict[str, DivergenceEdge]:
    """Return the edge of each optimizer that has one."""
    latest = {int(i): float(value) for i, value in zip(seen.trial, seen.value, strict=True)}  # later rungs come later
    alive: dict[str, float] = defaultdict(lambda: -math.inf)
    lost: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for i, one in enumerate(curves):
        name, rate = one.config.optimizer.name, relative_rate(one.config)
        if is_lost(one, metric):
            lost[name].append((rate, i))
        elif latest.get(i, lowest(c)) > lowest(c):
            alive[name] = max(alive[name], rate)
    out = {}
    for name, those in lost.items():
        above = [(rate, i) for rate, i in those if rate > alive[name]]
        if above:
            out[name] = DivergenceEdge(alive[name], min(rate for rate, _ in above), frozenset(i for _, i in above))
    return out


def is_lost(one: ScoreCurve, metric: Metric) -> bool:
    """Whether a training learned and then diverged or fell far."""
    if one.state == State.DIVERGED:
        return True
    finite = [score for score in one.scores if math.isfinite(score)]
    if len(one.scores) < 2 or not finite or not metric.is_share:
        return False
    return max(finite) > 0 and one.scores[-1] < 0.5 * max(finite)


def inside(seen: Looks, found: Mapping[str, DivergenceEdge]) -> Looks:
    """Return the scores without those of trials lost beyond an edge; where no rate lives, all scores stay."""
    gone = [i for edge in found.values() if edge.alive > -math.inf for i in edge.beyond]
    keep = ~np.isin(seen.trial, gone)
    return Looks(seen.trial[keep], seen.level[keep], seen.fraction[keep], seen.value[keep])


def chance_to_live(configs: Sequence[TrialConfig], found: Mapping[str, DivergenceEdge], c: Constants) -> Floats:
    """Return the factor upon what each setting promises, `[n]`: 1 below the edge, nearly 0 beyond."""
    out = np.ones(len(configs))
    for i, config in enumerate(configs):
        edge = found.get(config.optimizer.name)
        if edge is None:
            continue
        rate = relative_rate(config)
        if rate >= edge.lost - 1e-9:
            out[i] = c.beyond_edge
        elif edge.alive > -math.inf and rate > edge.alive:
            out[i] = max((edge.lost - rate) / (edge.lost - edge.alive), c.near_edge)
    return out

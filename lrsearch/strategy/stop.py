"""When to stop: what the rest of a budget can be expected to gain, against what noise alone would show.

The rule looks at nothing but the values of the finished trials in the order of the budget, so that every worker comes
to the same decision from the same rows. The strategy ``lr`` has one of its own (``strategy.lr.enough``).
docs/benchmarks.md, "Does a study stop in time?", has what it costs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec.metrics import accuracy_error
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.view import Standing, View
from lrsearch.text import counted

LEAST_FINISHED = 20
"""Finished trials before the rule says anything: twice those that a sampler draws at random at its start."""
LEAST_COMPLETE = 5
"""Trials trained through, among the latest, likewise."""
LATEST = 0.5
"""Part of the finished trials, the latest, from which the next ones are foretold: a sampler gets better."""
BEST_PART = 0.25
"""Part of the complete ones among these whose scatter says how the best values thin out upwards."""
PART_OF_NOISE = 0.5
"""Of the noise, what the rest of the budget must be expected to gain. About half of what a search adds to its best
value is luck with these images and this seed, not a better setting."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the rest of a budget promises, in the metric's unit."""

    n_finished: int
    left: int
    """Trials that the budget still has."""
    best: float
    """The best value so far."""
    gain: float
    """Expected gain of the best value over all trials that are left, >= 0."""
    n_records: float
    """Trials among them that are expected to beat the best of today."""
    scatter: float
    """Of the best trials among the latest: what seeds, and true differences, make of nearly equal settings."""
    image_error: float | None
    """Standard error of the best value by the validation images; None of what is no share of images."""

    @property
    def noise(self) -> float:
        """Seeds and images together, as one standard deviation."""
        return math.hypot(self.scatter, self.image_error or 0.0)

    @property
    def converged(self) -> bool:
        """Whether going on is expected to gain less than noise would hide."""
        return self.gain < PART_OF_NOISE * self.noise


def outlook(values: Sequence[float | None], left: int, spec: StudySpec) -> Outlook | None:
    """Return what the trials that are left promise, or None where too little has been tried to say.

    Above the threshold ``u`` of the best quarter among the latest trials values are taken to thin out exponentially, as
    the tails of most distributions do far enough out, with a mean excess ``s`` that the ``m`` values above ``u`` leave
    uncertain: with all that ``s`` may be, the next value lies above ``u + x`` with a probability in proportion to
    ``(1 + x / (m s)) ** -m``. Of ``r`` more trials so many are expected above the best value, ``k``, and the largest
    of all exceeds it by ``(s + x / m) G(k, 1 / m)`` on average, ``x`` being the best value's excess.
    A pruned or diverged trial has no final value. It counts as one that did not reach the threshold, because those to
    come are pruned and diverge likewise: what is foretold is what this search will find, its pruner included.

    Args:
        values: of the finished trials in the order of the budget; None: pruned or diverged.
        left: trials that may still come, >= 0.
        spec: of the study.

    Source: Pickands 1975 (tails above a threshold); the predictive distribution of an exponential one under Jeffreys'
    prior, e.g. Geisser 1993.
    """
    sign = 1.0 if spec.metric.maximize else -1.0
    complete = [sign * value for value in values if value is not None and math.isfinite(value)]
    latest = values[-math.ceil(LATEST * len(values)) :] if values else []
    through = sorted((sign * v for v in latest if v is not None and math.isfinite(v)), reverse=True)
    if len(values) < LEAST_FINISHED or len(through) < LEAST_COMPLETE:
        return None
    best, n_images = max(complete), validation_images(spec)
    # A share of images moves in steps: a value stands for what lies half a step around it.
    half = 0.5 / n_images if n_images else 0.0
    threshold = through[max(LEAST_COMPLETE, round(BEST_PART * len(through))) - 1] - half
    above = [value - threshold for value in through if value >= threshold]
    scatter = sum(above) / len(above)
    excess, uncertain = best + half - threshold, 1 / len(above)
    n_records = gain = 0.0
    if scatter > 0:
        n_records = left * len(above) / len(latest) * (1 + uncertain * excess / scatter) ** -len(above)
        gain = (scatter + uncertain * excess) * _largest(n_records, uncertain)
    if spec.metric.is_share:
        gain = min(gain, 1.0 - best)
    return Outlook(
        n_finished=len(values),
        left=left,
        best=sign * best,
        gain=gain,
        n_records=n_records,
        scatter=scatter,
        image_error=accuracy_error(best, n_images) if n_images else None,
    )


def left_of(standing: Standing) -> int:
    """Return how many trials the budget still has room for; hours are counted in trials of those so far."""
    budget, begun = standing.budget, standing.finished + standing.open
    rooms = []
    if budget.trials is not None:
        rooms.append(budget.trials - begun)
    if budget.hours is not None and standing.hours_left is not None:
        used = budget.hours - standing.hours_left
        rooms.append(math.floor(begun * standing.hours_left / used) if used > 0 else begun)
    return max(0, min(rooms, default=begun))


def enough(view: View) -> SearchEnded | None:
    """Return in words that the study has converged, where its budget asks for it; else None.

    While trials are under way elsewhere, what they come to is waited for.
    """
    if view.standing.budget.stop is None:
        return None
    found = outlook(view.results, left_of(view.standing), view.spec)
    if found is None or not found.converged:
        return None
    return end(view, said(found, view.spec))


def end(view: View, words: str) -> SearchEnded:
    """Return that a search has converged, or waits for what is under way elsewhere."""
    under_way = view.standing.open - view.standing.paused
    if under_way:
        are = "trial is" if under_way == 1 else "trials are"
        return SearchEnded(EndReason.HELD_ELSEWHERE, f"{words}; {under_way} {are} under way elsewhere")
    return SearchEnded(EndReason.CONVERGED, words)


def said(found: Outlook, spec: StudySpec) -> str:
    """Return the decision with its numbers, as a sentence without a full stop."""
    scatter = f"{_amount(found.scatter, spec)} by seeds, as its best trials scatter"
    if found.image_error is not None:
        images = f"{_amount(found.image_error, spec)} by {spec.facts.n_validation} validation images"
        noise = f"{_amount(found.noise, spec)} ({images}, {scatter})"
    else:
        noise = scatter
    return (
        f"converged after {counted(found.n_finished, 'trial')}: the best {spec.metric.label}, {found.best:.4g}, is "
        f"expected to gain {_amount(found.gain, spec)} by the {counted(found.left, 'trial')} that are left, and its "
        f"noise is {noise}"
    )


def _amount(value: float, spec: StudySpec) -> str:
    return f"{100 * value:.2f} points" if spec.metric.is_share else f"{value:.2g}"


def validation_images(spec: StudySpec) -> float:
    """Return on how many validation images a plain accuracy is as exact as the metric; 0 where that is not known."""
    facts = spec.facts
    if not (spec.metric.is_share and facts.n_validation):
        return 0.0
    return spec.metric.n_images(facts.validation_counts) if facts.validation_counts else facts.n_validation


def _largest(k: float, shape: float) -> float:
    """Return by how much the largest of a Poisson number of values, ``k`` on average, exceeds 0 on average.

    The values have the tail ``(1 + shape x) ** (-1 / shape)``: the integral of ``1 - exp(-k (1 + shape x) ** (-1 /
    shape))`` over ``x >= 0``, by its series. Above 20 what is left out is below 1e-8 of the value.

    >>> [round(_largest(k, 0.2), 4) for k in (0.0, 0.5, 1.0, 10.0, 100.0)]
    [0.0, 0.5624, 1.0223, 4.2259, 9.6221]

    Args:
        k: >= 0.
        shape: of the tail, above 0 and below 1.
    """
    if k > 20:
        return float(k**shape * math.gamma(1 - shape) - 1) / shape
    total, term, n = 0.0, -1.0, 0
    while n == 0 or abs(term) > 1e-17:
        n += 1
        term *= -k / n
        total += term / (n - shape)
    return total

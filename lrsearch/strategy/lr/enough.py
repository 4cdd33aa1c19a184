"""When the search of the strategy ends: no step promises more than half of what noise hides."""

import math

from lrsearch.events import SearchEnded
from lrsearch.spec.metrics import accuracy_error
from lrsearch.strategy import stop
from lrsearch.strategy.lr.choice import Forward
from lrsearch.strategy.view import View
from lrsearch.text import counted
from lrsearch.trial import State

LEAST_COMPLETE = 3
"""Complete trials before anything is said: the second and the third are chosen by the model, and show whether it is
right (docs/benchmarks.md, "Does the strategy stop in time?")."""
LUCK = 0.5
"""Part of the variance of what trainings have of their own that another seed would have changed; the rest is the
setting's own."""


def enough(view: View, step: Forward | None) -> SearchEnded | None:
    """Return in words that the search has converged, where its budget asks for it; else None.

    Args:
        view: of the study.
        step: the strategy's next one. Expected gains and noise are those of its model.
    """
    promise = None if step is None else step.promise
    complete = [one.value for one in view.curves if one.state == State.COMPLETE and one.value is not None]
    if view.standing.budget.stop is None or promise is None or len(complete) < LEAST_COMPLETE:
        return None
    metric, n_images = view.spec.metric, stop.validation_images(view.spec)
    best = max(complete) if metric.maximize else min(complete)
    image_error = accuracy_error(best, n_images) if n_images else 0.0
    luck = math.sqrt(LUCK) * promise.noise
    noise = math.hypot(luck, image_error)
    if promise.gain >= stop.PART_OF_NOISE * noise:
        return None
    words = f"{metric.points(luck)} by seeds, as the model has it"
    if n_images:
        counts = f"{metric.points(image_error)} by {view.spec.facts.n_validation} validation images"
        words = f"{metric.points(noise)} ({counts}, {words})"
    gain = f"{metric.points(promise.gain)} over the best {metric.label}, {best:.4g}"
    after = f"{counted(len(view.curves), 'setting')}, {len(complete)} of them complete"
    return stop.end(
        view, f"converged after {after}: no step is expected to gain more than {gain}, whose noise is {words}"
    )

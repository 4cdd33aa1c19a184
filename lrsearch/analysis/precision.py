"""How finely a score tells trials apart: standard errors and the tolerance they give."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrsearch.spec.metrics import Metric, accuracy_error
from lrsearch.spec.study import StudySpec

__all__ = ["Tolerance", "accuracy_error", "as_many", "tolerance"]

GUESS_ERRORS = 3.0
"""Standard errors above chance up to which an accuracy is that of a guess."""

OTHER_TOLERANCE = 0.01
"""Part of the best value, of a metric that is maximised on nobody knows how many images: a convention likewise."""

LOSS_TOLERANCE = 0.1
"""Part of the best loss. One mean has no standard error, so that a tenth is a convention: the seed alone (8 seeds, mlp)
scatters the loss by 1 to 7 % on MNIST with 200 to 4,000 validation images, and by 4 to 21 % on the 200 of digits."""

FAR_ERRORS = 3.0
"""Standard errors below the best that are called far."""

FAR_LOSS = 2.0
"""Times the best loss that is called far."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What "close to the best" means in a study."""

    metric: Metric
    n_validation: int
    """Validation images [examples]."""
    n_images: float
    """Of a share of images: those that it is as exact as a plain accuracy on so many [examples]."""
    n_classes: int

    def width(self, best: float) -> float:
        """Return how far from ``best`` a score may lie and still be close to it."""
        if self._is_counted:
            return accuracy_error(best, self.n_images)
        return self._part * abs(best)

    @property
    def _is_counted(self) -> bool:
        """Whether it is known on how many images a share was measured."""
        return self.metric.is_share and self.n_images > 0

    @property
    def _part(self) -> float:
        return OTHER_TOLERANCE if self.metric.maximize else LOSS_TOLERANCE

    def is_close(self, score: float, best: float) -> bool:
        """Whether ``score`` lies within the tolerance of ``best``."""
        # Accuracies are multiples of 1/n: without the slack, rounding would decide at the edge.
        return self._short(score, best) <= self.width(best) + 1e-9

    def is_far(self, score: float, best: float) -> bool:
        """Whether ``score`` falls far short of ``best``; what is not a number does."""
        width = (FAR_LOSS - 1) * abs(best) if not self.metric.maximize else FAR_ERRORS * self.width(best)
        return not self._short(score, best) <= width + 1e-9

    def _short(self, score: float, best: float) -> float:
        return best - score if self.metric.maximize else score - best

    def is_guess(self, score: float) -> bool:
        """Whether a score is that of guessing: nothing has been learned."""
        if not self.n_classes:
            return False  # nobody knows what guessing comes to
        chance = 1 / self.n_classes
        if self.metric.is_share:
            return score <= chance + GUESS_ERRORS * accuracy_error(chance, self.n_images)
        return score >= -math.log(chance)

    def words(self, best: float) -> str:
        """Say it: ``within one standard error (0.012 on 200 validation images)``."""
        if self._is_counted:
            return f"within one standard error ({self.width(best):#.2g} on {self.n_validation} validation images)"
        return f"within {100 * self._part:.0f} % of its {self.metric.label}"

    def far_words(self) -> str:
        """Say what is far, as something to fall."""
        if self._is_counted:
            return f"short by more than {FAR_ERRORS:.0f} standard errors"
        if self.metric.maximize:
            return f"short by more than {100 * FAR_ERRORS * self._part:.0f} % of its {self.metric.label}"
        return f"short, at more than {FAR_LOSS:.0f} times the {self.metric.label}"


def tolerance(spec: StudySpec) -> Tolerance:
    """Return what is close in this study: one standard error of a share of images, or 10 % of the loss.

    Source: Breiman et al. 1984 (the one-standard-error rule).
    """
    facts = spec.facts
    n_images = as_many(spec.metric, facts.validation_counts, facts.n_validation)
    return Tolerance(spec.metric, facts.n_validation, n_images, len(facts.classes))


def as_many(metric: Metric, counts: Sequence[int], n_images: int) -> float:
    """Return on how many images a plain accuracy is as exact as a metric on ``n_images``, so many of each class.

    Where nobody has counted the classes they are taken for equal.
    """
    return metric.n_images(counts) if counts else n_images

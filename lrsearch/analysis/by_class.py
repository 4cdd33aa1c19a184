"""How a trial does on the test images class by class: what one accuracy hides where classes are of unequal size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from lrsearch.analysis.precision import accuracy_error
from lrsearch.trial import Facts, Trial


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The test images of one class."""

    label: str
    n_right: int
    """Those that the trial names rightly [examples]."""
    n: int
    """All of them, at least one [examples]."""

    @property
    def share(self) -> float:
        """Part of them that is right [0..1]."""
        return self.n_right / self.n


def class_scores(trial: Trial, facts: Facts) -> tuple[ClassScore, ...]:
    """Return how a trial did on the test images of each class, in the order of the classes.

    Classes without a test image are left out; without counts (not judged, or by an earlier lrsearch) all are.
    """
    if not trial.test_right or not facts.test_counts:
        return ()
    rows = zip(facts.classes, trial.test_right, facts.test_counts, strict=True)
    return tuple(ClassScore(label, n_right, n) for label, n_right, n in rows if n)


def balanced(scores: Sequence[ClassScore]) -> tuple[float, float]:
    """Return the balanced accuracy [0..1] and its standard error, each class with the error of its own share.

    >>> of = balanced([ClassScore("ant", 90, 100), ClassScore("bee", 5, 10)])
    >>> [round(value, 3) for value in of]
    [0.7, 0.077]
    """
    errors = [accuracy_error(one.share, one.n) for one in scores]
    return fmean(one.share for one in scores), math.hypot(*errors) / len(scores)

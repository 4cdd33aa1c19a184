"""What a trial may be best at: a record for each metric, measured on the validation images after an epoch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from lrsearch.records import Records
from lrsearch.trial import EpochMetrics

Confusion = Sequence[Sequence[int]]
"""Images by true class (rows) and by the class that the network gives them (columns)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric that a study can name."""

    name: str
    direction: Literal["maximize", "minimize"]
    is_share: bool
    """Whether it is a share of images [0..1] that are right: it then has a standard error, and as many digits as the
    images can show."""
    best_words: str
    """What the best trial is: ``most accurate``."""
    column: Literal["val_accuracy", "val_loss"] | None = None
    """The field of EpochMetrics that holds it; None: ``val_score`` does, which is then measured by ``measure``."""
    measure: Callable[[Confusion], float] | None = None
    """From the confusion of the validation images to the metric."""
    averaged: bool = True
    """Whether the averaged weights' metric ranks trials better than the raw weights' at a rung."""
    n_images: Callable[[Sequence[int]], float] = sum
    """Of a share, from the images of each class [examples]: on so many a plain accuracy would be as exact."""

    @property
    def label(self) -> str:
        """Its name in words."""
        return self.name.replace("_", " ")

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    def of(self, metrics: EpochMetrics) -> float:
        """Return what the raw weights came to; not a number where it was not measured."""
        value = metrics.val_score if self.column is None else getattr(metrics, self.column)
        return math.nan if value is None else float(value)

    def of_averaged(self, metrics: EpochMetrics) -> float | None:
        """Return what the averaged weights came to; None where there is no average."""
        value: float | None = getattr(metrics, f"averaged_{self.column or 'val_score'}")
        return value

    def rung_score(self, metrics: EpochMetrics) -> float:
        """Return what pruners compare: that of the averaged weights where it ranks better and there is one."""
        averaged = self.of_averaged(metrics) if self.averaged else None
        return self.of(metrics) if averaged is None else averaged

    def points(self, difference: float) -> str:
        """Return in words a difference [share of 1, or of the scale of what is no share]."""
        number = f"{100 * difference:.2g}"
        return f"{number} {'point' if number == '1' else 'points'}" if self.is_share else f"{number} % of its scale"


def accuracy_error(accuracy: float, n_images: float) -> float:
    """Return the binomial standard error of an accuracy [0..1] measured on ``n_images``.

    ``sqrt(p (1 - p) / (n + 1))`` with ``p = (k + 1/2) / (n + 1)``, k = the images that were right, so that 200 right
    out of 200 is not called exact. It is the error of one score. Trials of one study are judged on the same images, so
    that their difference is known somewhat better than two such errors would say.

    >>> [round(accuracy_error(p, 200), 4) for p in (0.5, 0.97, 1.0)]
    [0.0353, 0.0125, 0.0035]

    Source: Agresti and Coull 1998, with z = 1.
    """
    p = (accuracy * n_images + 0.5) / (n_images + 1)
    return math.sqrt(max(p * (1 - p), 0.0) / (n_images + 1))


def _balanced_accuracy(confusion: Confusion) -> float:
    """Return the mean over the classes of the share of their images that are right; a class without images counts not.

    >>> _balanced_accuracy([[8, 2], [0, 10]]), _balanced_accuracy([[90, 0, 0], [5, 5, 0], [0, 0, 0]])
    (0.9, 0.75)

    Source: Brodersen et al. 2010, ICPR; scikit-learn's balanced_accuracy_score.
    """
    recalls = [row[i] / sum(row) for i, row in enumerate(confusion) if sum(row)]
    return math.fsum(recalls) / len(recalls) if recalls else math.nan


def _balanced_images(counts: Sequence[int]) -> float:
    """Return C^2 / (1/n_1 + ... + 1/n_C): the variance of a mean of shares, each of n_c images, as that of one share.

    >>> _balanced_images((50, 50)), _balanced_images((90, 10)), _balanced_images((100, 0))
    (100.0, 36.0, 100.0)
    """
    there = [n for n in counts if n]
    return len(there) ** 2 / math.fsum(1 / n for n in there)


METRICS: Final = Records(
    Metric(name="accuracy", direction="maximize", is_share=True, best_words="most accurate", column="val_accuracy"),
    Metric(
        # The raw weights' loss ranks better than that of the average.
        name="loss",
        direction="minimize",
        is_share=False,
        best_words="lowest loss",
        column="val_loss",
        averaged=False,
    ),
    Metric(
        # For classes of unequal size: each counts the same, however few its images are.
        name="balanced_accuracy",
        direction="maximize",
        is_share=True,
        best_words="most accurate over all classes alike",
        measure=_balanced_accuracy,
        n_images=_balanced_images,
    ),
)
"""In the order in which they are listed."""


def told_metric(name: str, direction: Literal["maximize", "minimize"]) -> Metric:
    """Return the record of a metric that only a person's own training loop knows."""
    best = "highest" if direction == "maximize" else "lowest"
    return Metric(name=name, direction=direction, is_share=False, best_words=f"{best} {name.replace('_', ' ')}")

"""Which trials cannot be told from the best: compared image by image where it is known which images are right.

Trials of a study are judged on the same images. Two that differ by a point on 1,000 images may differ on 10 of them,
all in one direction, or on 200, about evenly: only the first two are told apart. With one seed each this says nothing
of what other seeds would do; that is what a confirmation is for.
"""

from dataclasses import dataclass, replace

from lrsearch.analysis.precision import Tolerance, tolerance
from lrsearch.paired import Difference, Strata, by_images, unpacked
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.confirming import LEVEL, strata_of
from lrsearch.trial import Trial


@dataclass(frozen=True, slots=True)
class Closeness:
    """What is close to the best trial of a study."""

    best: Trial
    strata: Strata
    """Of the validation images."""
    tolerance: Tolerance
    """For trials of which only the score is known."""
    maximize: bool

    @property
    def is_paired(self) -> bool:
        """Whether trials are compared with the best one image by image."""
        return bool(self.strata.n_images and self.best.val_right)

    def difference(self, other: Trial) -> Difference | None:
        """Return how much better the best trial is; None where it is not known of both which images are right."""
        if not self.is_paired or not other.val_right:
            return None
        n = self.strata.n_images
        found = by_images([unpacked(self.best.val_right, n)], [unpacked(other.val_right, n)], self.strata)
        return found if self.maximize else replace(found, value=-found.value)

    def is_close(self, other: Trial) -> bool:
        """Whether a complete trial cannot be told from the best one."""
        found = self.difference(other)
        if found is None:
            return self.tolerance.is_close(_value(other), _value(self.best))
        return found.interval(LEVEL)[0] <= 0

    def words(self) -> str:
        """Say what close is: ``within its 90 % interval, paired on 200 validation images``."""
        if self.is_paired:
            n = self.strata.n_images
            return f"so close that the images do not tell them apart ({100 * LEVEL:.0f} %, paired on {n} images)"
        return self.tolerance.words(_value(self.best))


def closeness(best: Trial, spec: StudySpec) -> Closeness:
    """Return what is close to the best trial, which is complete."""
    return Closeness(best, strata_of(spec.metric, spec.facts), tolerance(spec), spec.metric.maximize)


def _value(trial: Trial) -> float:
    assert trial.outcome is not None
    assert trial.outcome.value is not None
    return trial.outcome.value

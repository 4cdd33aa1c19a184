"""How much better one setting is than another, and how surely: compared image by image and seed by seed.

Two trainings that are judged on the same images differ by the images that one gets right and the other wrong. The
images that both get right, or wrong, say nothing: so the difference is known better than two errors of two scores would
say. Where settings are trained with several seeds, both the seeds and the images are a sample, and the error has both.

Source: McNemar 1947 for one seed; for several the crossed random effects of Satterthwaite 1946.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Rights: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"


@dataclass(frozen=True, slots=True)
class Strata:
    """How images weigh in a score."""

    counts: tuple[int, ...]
    """Images of each stratum, which lie side by side [examples]."""
    alike: bool = False
    """Whether strata weigh alike, as the classes do in the balanced accuracy, and not each image."""

    @property
    def n_images(self) -> int:
        """Return how many there are [examples]."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Difference:
    """The score of one setting less that of another."""

    value: float
    error: float
    """Standard error: of seeds and images, as far as there are several; not a number where nothing is known."""
    freedom: float
    """Degrees of freedom of the error."""
    n_seeds: int
    n_images: int
    """That were compared one by one; 0 where only scores were [examples]."""

    def half_width(self, level: float) -> float:
        """Return half the width of the interval that holds the true difference with probability ``level`` (0..1)."""
        from scipy import stats

        if not math.isfinite(self.error):
            return math.inf
        return float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.error

    def interval(self, level: float) -> tuple[float, float]:
        """Return that interval."""
        width = self.half_width(level)
        return self.value - width, self.value + width


def unpacked(right: bytes, n_images: int) -> "Rights":
    """Return bits as ``Training.validation_right`` packs them, float64 ``[n]``: 1 right, 0 wrong."""
    import numpy as np

    return np.unpackbits(np.frombuffer(right, np.uint8), count=n_images).astype(np.float64)


def by_images(first: Sequence["Rights"], second: Sequence["Rights"], strata: Strata) -> Difference:
    """Compare two settings by the images that they get right.

    Args:
        first: of one setting, which images are right, ``[n]`` in 0..1, a seed each.
        second: of the other, with the same seeds in the same order.
        strata: how the images weigh.

    Returns:
        the difference of their shares; with one seed its error is that of the images alone.
    """
    import numpy as np

    one = np.stack(list(first)) - np.stack(list(second))
    n_seeds, n = one.shape
    sizes = strata.counts if strata.alike else (n,)
    ends = np.cumsum(sizes)
    groups = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True) if size]
    share = 1 / len(groups)
    each = np.mean([one[:, group].mean(1) for group in groups], 0)  # [seeds]
    value = float(each.mean())
    of_images = of_both = 0.0
    for group in groups:
        part = one[:, group]
        over_seeds, size = part.mean(0), part.shape[1]
        if size < 2:  # one image says nothing of how images scatter
            continue
        of_images += share**2 * float(over_seeds.var(ddof=1)) / size
        if n_seeds > 1:
            rest = part - over_seeds - part.mean(1, keepdims=True) + over_seeds.mean()
            of_both += share**2 * float((rest**2).sum()) / ((n_seeds - 1) * (size - 1)) / (n_seeds * size)
    # A difference of nought on every image is known no better than that the next image might differ.
    of_images = max(of_images, 1 / (n + 1) ** 2 if not one.any() else 0.0)
    if n_seeds == 1:
        return Difference(value, math.sqrt(of_images), max(n - len(groups), 1), 1, n)
    of_seeds = float(each.var(ddof=1)) / n_seeds
    alone = max(of_images - of_both, 0.0)
    variance = of_seeds + alone
    parts = ((of_seeds, n_seeds - 1), (alone, max(n - len(groups), 1)))
    below = sum(part**2 / freedom for part, freedom in parts)
    return Difference(value, math.sqrt(variance), variance**2 / below if below else n_seeds - 1, n_seeds, n)


def by_scores(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two settings by their scores, a seed each and the same seeds: of the images nothing is known."""
    import numpy as np

    one = np.asarray(first, float) - np.asarray(second, float)
    n = len(one)
    scatter = float(one.std(ddof=1)) if n > 1 else 0.0
    # Scores that no seed changes are one training told several times, and say nothing of how trainings scatter.
    error = scatter / math.sqrt(n) if scatter > 0 else math.nan
    return Difference(float(one.mean()), error, max(n - 1, 1), n, 0)

"""Paired comparison: what hand and textbook say, and that its intervals hold what they claim."""

import math

import numpy as np
import pytest

from lrsearch.paired import Strata, by_images, by_scores, unpacked


def right(n: int, *wrong: int) -> np.ndarray:
    """Return which of ``n`` images are right, but for those at ``wrong``."""
    out = np.ones(n)
    out[list(wrong)] = 0
    return out


def test_with_one_seed_only_discordant_images_count() -> None:
    # McNemar: b = 6 images only the first gets right, c = 2 only the second, n = 100.
    first, second = right(100, 0, 1), right(100, *range(2, 8))
    found = by_images([first], [second], Strata((100,)))
    assert found.value == pytest.approx(0.04)
    b, c, n = 6, 2, 100
    assert found.error == pytest.approx(math.sqrt((b + c - (b - c) ** 2 / n) / (n * (n - 1))))
    # Images that both get wrong change nothing but their number.
    both = by_images([first * right(100, *range(50, 90))], [second * right(100, *range(50, 90))], Strata((100,)))
    assert (both.value, both.error) == (pytest.approx(found.value), pytest.approx(found.error))
    # Two binomial errors would be far larger.
    assert both.error < 0.5 * math.sqrt(0.58 * 0.42 / n + 0.54 * 0.46 / n)


def test_trials_that_agree_on_every_image_are_close_and_not_equal_for_certain() -> None:
    found = by_images([right(50, 3)], [right(50, 3)], Strata((50,)))
    low, high = found.interval(0.9)
    assert found.value == 0
    assert -0.05 < low < 0 < high < 0.05


def test_classes_weigh_alike_where_they_should() -> None:
    # 90 images of one class, 10 of another; the first setting gets 3 more of the small class right.
    strata = Strata((90, 10), alike=True)
    first, second = right(100), right(100, 90, 91, 92)
    assert by_images([first], [second], strata).value == pytest.approx(0.15)
    assert by_images([first], [second], Strata((90, 10))).value == pytest.approx(0.03)
    error = 0.5 * math.sqrt(np.var([1] * 3 + [0] * 7, ddof=1) / 10)
    assert by_images([first], [second], strata).error == pytest.approx(error)


@pytest.mark.parametrize(("n_seeds", "scatter"), [(3, 0.0), (5, 0.4), (10, 0.4), (10, 0.1)])
def test_the_interval_holds_the_truth_as_often_as_it_says_for_new_seeds_and_new_images(
    n_seeds: int, scatter: float
) -> None:
    """Images of unequal difficulty, seeds that shift all of them, and chance for each pair of the two."""
    rng, n_pool, n = np.random.default_rng(n_seeds), 4000, 300
    easy = rng.normal(1.5, 1.5, n_pool)
    own = [rng.normal(0, 0.5, n_pool) for _ in range(2)]

    def draw(setting: int, images: np.ndarray, shift: float) -> np.ndarray:
        logits = easy[images] + own[setting][images] + shift + rng.normal(0, scatter)
        return (logits + rng.normal(0, 0.7, len(images)) > 0).astype(float)

    every = np.arange(n_pool)
    truth = np.mean([draw(0, every, 0.2).mean() - draw(1, every, 0.0).mean() for _ in range(1000)])
    held = 0
    for _ in range(400):
        images = rng.choice(n_pool, n, replace=False)
        settings = [[draw(i, images, shift) for _ in range(n_seeds)] for i, shift in ((0, 0.2), (1, 0.0))]
        low, high = by_images(settings[0], settings[1], Strata((n,))).interval(0.9)
        held += low <= truth <= high
    assert 0.84 <= held / 400 <= 0.96


def test_without_images_the_seeds_are_all_there_is() -> None:
    found = by_scores([0.30, 0.32, 0.31], [0.35, 0.36, 0.37])
    assert found.value == pytest.approx(-0.05)
    assert found.error == pytest.approx(np.std([-0.05, -0.04, -0.06], ddof=1) / math.sqrt(3))
    assert by_scores([0.3], [0.2]).interval(0.9) == (-math.inf, math.inf)
    # A loop that takes no notice of its seed: three equal trainings are no evidence three times.
    assert by_scores([0.3, 0.3, 0.3], [0.2, 0.2, 0.2]).interval(0.9) == (-math.inf, math.inf)


def test_bits_are_packed_the_highest_first() -> None:
    assert unpacked(bytes([0b10100000, 0b10000000]), 9).tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 1]

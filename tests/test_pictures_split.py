"""Which pictures train, validate and test: by class, whole units, the same everywhere."""

import doctest
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.errors import StudyFileError
from lrsearch.pictures import found
from lrsearch.pictures import split as splitting
from lrsearch.pictures.split import Fractions, Indices, Split, split, units_of


def divided(
    labels: Sequence[int],
    units: Sequence[int] | None = None,
    fixed: Sequence[str | None] | None = None,
    *,
    validation: float = 0.2,
    test: float = 0.2,
    limit: int | None = None,
    seed: int = 0,
) -> Split:
    n = len(labels)
    return split(
        np.array(labels, dtype=np.int64),
        np.arange(n) if units is None else np.array(units, dtype=np.int64),
        [None] * n if fixed is None else fixed,  # type: ignore[arg-type]
        max(labels) + 1,
        Fractions(validation, test, limit),
        seed,
    )


def sizes(done: Split) -> tuple[int, int, int]:
    return len(done.train), len(done.validation), len(done.test)


def per_class(rows: Indices, labels: Sequence[int]) -> list[int]:
    return np.bincount(np.array(labels)[rows], minlength=max(labels) + 1).tolist()


def of_counts(*counts: int) -> list[int]:
    return [label for label, n in enumerate(counts) for _ in range(n)]


@pytest.mark.parametrize(
    ("counts", "how", "train", "validation", "test"),
    [
        # 90 / 9 / 1: every class trains, the smallest nowhere else.
        ((90, 9, 1), {}, [58, 6, 1], [14, 1, 0], [18, 2, 0]),
        # Two pictures: one trains and one validates, before any is for the test.
        ((2, 2), {"test": 0.5}, [1, 1], [1, 1], [0, 0]),
        ((3, 3), {}, [1, 1], [1, 1], [1, 1]),
        ((100, 100), {"test": 0.0}, [80, 80], [20, 20], [0, 0]),
        ((100, 100), {"test": 0.15, "validation": 0.15}, [72, 72], [13, 13], [15, 15]),
        # Almost everything for the test: two stay.
        ((10, 10), {"test": 0.99}, [1, 1], [1, 1], [8, 8]),
        # A limit is for training and validation together; the test set stays as it is without one.
        ((90, 9, 1), {"limit": 20}, [14, 1, 1], [3, 1, 0], [18, 2, 0]),
        ((900, 100), {"limit": 100}, [72, 8], [18, 2], [180, 20]),
    ],
)
def test_every_class_is_divided_by_the_fractions(
    counts: tuple[int, ...], how: dict[str, float], train: list[int], validation: list[int], test: list[int]
) -> None:
    labels = of_counts(*counts)
    done = divided(labels, **how)  # type: ignore[arg-type]
    assert [per_class(rows, labels) for rows in (done.train, done.validation, done.test)] == [train, validation, test]


def test_two_hundred_classes_of_three_and_one_of_one() -> None:
    done = divided(of_counts(*[3] * 200, 1))
    assert sizes(done) == (201, 200, 200)


@given(
    labels=st.lists(st.integers(0, 4), min_size=20, max_size=200),
    validation=st.floats(0.05, 0.6),
    test=st.floats(0, 0.6),
    seed=st.integers(0, 2**32 - 1),
)
def test_without_units_no_class_is_further_from_the_fraction_than_rounding(
    labels: list[int], validation: float, test: float, seed: int
) -> None:
    labels = [*labels, *range(5), *range(5)]
    done = divided(labels, validation=validation, test=test, seed=seed)
    rows = np.concatenate((done.train, done.validation, done.test))
    assert sorted(rows.tolist()) == list(range(len(labels)))
    assert all((np.diff(one) > 0).all() for one in (done.train, done.validation, done.test))
    for n, train, val, tested in zip(
        np.bincount(labels),
        *(per_class(one, labels) for one in (done.train, done.validation, done.test)),
        strict=True,
    ):
        assert min(train, val) >= 1
        assert abs(tested - min(n * test, n - 2)) <= 0.5
        pool = n - tested
        assert abs(val - min(max(pool * validation, 1), pool - 1)) <= 0.5


@given(
    units=st.lists(st.integers(0, 25), min_size=60, max_size=200),
    n_classes=st.integers(2, 6),
    limit=st.integers(20, 60) | st.none(),
    seed=st.integers(0, 1000),
)
def test_units_of_one_class_are_never_torn_and_every_class_trains_and_validates(
    units: list[int], n_classes: int, limit: int | None, seed: int
) -> None:
    # Two units for each class at least, wherever the numbers fall.
    units = [*units, *range(12)]
    labels = [unit % n_classes for unit in units]
    done = divided(labels, units, limit=limit, seed=seed)
    sides = [{units[row] for row in rows} for rows in (done.train, done.validation, done.test)]
    assert len(set.union(*sides)) == sum(map(len, sides))
    for label in range(n_classes):
        assert label in {labels[row] for row in done.train}
        if limit is None:
            assert label in {labels[row] for row in done.validation}
    if limit is None:
        assert sum(sizes(done)) == len(units)
    else:
        # A class goes without validation images rather than have a unit there that is larger than all it was to have,
        # unless no other class has one either.
        assert len(sides[1]) == 1 or all(units.count(unit) <= limit for unit in sides[1])


def test_a_group_larger_than_a_limit_does_not_fill_the_validation_set() -> None:
    labels = [0] * 270 + [1] * 270
    units = [0] * 258 + [1] * 8 + [2] * 4 + list(range(3, 273))
    done = divided(labels, units, limit=100)
    assert sizes(done)[1] <= 20
    assert 0 in {labels[row] for row in done.train}


def test_many_groups_come_near_the_fractions() -> None:
    generator = np.random.RandomState(3)
    group_label = generator.randint(5, size=300)
    units = generator.randint(300, size=3000)
    labels = group_label[units]
    done = divided(labels.tolist(), units.tolist())
    for rows, part in ((done.train, 0.64), (done.validation, 0.16), (done.test, 0.2)):
        shares = np.array(per_class(rows, labels.tolist())) / np.bincount(labels)
        assert np.abs(shares - part).max() < 0.03


def test_a_group_as_large_as_half_a_class_trains() -> None:
    units = [0] * 50 + list(range(1, 51)) + list(range(51, 151))
    done = divided(of_counts(100, 100), units)
    assert set(range(50)) <= set(done.train.tolist())
    assert sizes(done) == (128, 32, 40)


def test_a_group_of_several_classes_stays_whole() -> None:
    labels = [row % 2 for row in range(40)]
    units = [row // 4 for row in range(40)]
    done = divided(labels, units, test=0.0)
    sides = [{units[row] for row in rows} for rows in (done.train, done.validation)]
    assert not sides[0] & sides[1]
    assert per_class(done.validation, labels) == [4, 4]


def test_the_seed_decides_and_is_all_that_decides() -> None:
    labels = of_counts(100, 50)
    units = [row // 2 for row in range(150)]
    for known in (None, units):
        first, again, other = (divided(labels, known, seed=seed).train.tolist() for seed in (1, 1, 2))
        assert first == again != other


def test_the_stream_is_frozen() -> None:
    # By NumPy's old generator: these rows are the same in every version.
    assert divided(of_counts(10, 10), seed=7).test.tolist() == [1, 2, 11, 17]


def test_the_test_set_does_not_follow_the_limit_or_the_validation() -> None:
    labels = of_counts(100, 50)
    sets = [divided(labels, **how).test.tolist() for how in ({}, {"limit": 30}, {"validation": 0.5})]  # type: ignore[arg-type]
    assert all(one == other for one, other in pairwise(sets))


def test_sets_that_a_person_made_stay_as_they_are() -> None:
    labels = of_counts(20, 20)
    fixed: list[str | None] = ["train"] * 10 + ["validation"] * 5 + ["test"] * 5
    done = divided(labels, fixed=fixed * 2)
    assert sizes(done) == (20, 10, 10)
    assert done.validation.tolist() == [*range(10, 15), *range(30, 35)]
    # Of a limit both have their part; the test set is whole.
    assert sizes(divided(labels, fixed=fixed * 2, limit=15)) == (10, 5, 10)
    # One that is missing is drawn from the training pictures.
    no_validation = [one.replace("validation", "train") for one in fixed * 2 if one is not None]
    assert sizes(divided(labels, fixed=no_validation)) == (24, 6, 10)
    no_test = [one.replace("test", "train") for one in fixed * 2 if one is not None]
    assert sizes(divided(labels, fixed=no_test)) == (24, 10, 6)


@pytest.mark.parametrize(
    ("labels", "how", "said"),
    [
        (of_counts(1, 1, 1), {}, "dataset.name: there must be pictures to validate with"),
        (of_counts(9, 9), {"limit": 2}, "dataset.limit: must lie above 2, the number of classes"),
        (of_counts(9, 9), {"limit": 15}, "be at most 14, what there is to train and validate with, got 15"),
        (of_counts(20, 20), {"units": [0] * 20 + [1] * 20}, "groups that are smaller (dataset.group)"),
    ],
)
def test_what_cannot_be_divided_is_refused(labels: list[int], how: dict[str, int], said: str) -> None:
    with pytest.raises(StudyFileError) as error:
        divided(labels, **how)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_a_chain_of_equal_pictures_and_groups_is_one_unit() -> None:
    # 0-1 by group, 1-2 by content, 2-3 by group.
    assert units_of(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 3])).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("module", [splitting, found])
def test_the_examples_in_the_code_are_true(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert (result.attempted > 0, result.failed) == (True, 0)

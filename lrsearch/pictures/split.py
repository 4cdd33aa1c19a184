"""Which pictures train, validate and test: by class, with whole groups on one side. Pure, and the same everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lrsearch.errors import StudyFileError
from lrsearch.pictures.found import SetName

LEAST_TRAIN_IMAGES: Final = 2
"""[examples]"""

Indices = np.ndarray[Any, np.dtype[np.int64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
"""Of pictures, ``[sets, classes]`` or ``[units, classes]``."""


@dataclass(frozen=True, slots=True)
class Fractions:
    """How much of the pictures goes where."""

    validation: float
    """Part of what is drawn for training and validation, (0..1)."""
    test: float
    """Part of all, [0..1)."""
    limit: int | None = None
    """Pictures to train and to validate with, together [examples]; None: all."""


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Rows of the three sets, rising."""

    train: Indices
    validation: Indices
    test: Indices


def units_of(*partitions: Indices) -> Indices:
    """Return the number of each row's unit ``[n]``: rows that any of the partitions puts together are of one unit.

    >>> units_of(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3]))
    array([0, 0, 0, 1, 2])
    """
    unit = np.arange(len(partitions[0]))
    while True:
        before = unit
        for partition in partitions:
            # Every part takes the lowest number that one of its rows has, until nothing moves.
            lowest = np.full(int(partition.max(initial=-1)) + 1, len(unit))
            np.minimum.at(lowest, partition, unit)
            unit = lowest[partition]
        if np.array_equal(unit, before):
            return np.unique(unit, return_inverse=True)[1].astype(np.int64)


def split(
    labels: Indices,
    units: Indices,
    fixed: Sequence[SetName | None],
    n_classes: int,
    fractions: Fractions,
    seed: int,
) -> Split:
    """Draw the three sets, class by class; sets that a person has made stay as they are.

    A unit goes to one side whole. Without units of several pictures every class has ``round(fraction * count)`` of its
    pictures in a set, at least one of them trains, and one validates where there are two.

    Args:
        labels: ``[n]``, 0..n_classes-1.
        units: ``[n]``, as ``units_of`` numbers them.
        fixed: of each row the set to which a person gave it, or None.
        n_classes: each of which has a row that may train.
        fractions: of the rows that nobody gave to another set.
        seed: 0..2**32-1; NumPy's old generator, whose stream is frozen (NEP 19), so that a split outlives upgrades.

    Raises:
        StudyFileError: a limit that is larger than what there is or smaller than the classes, or nothing to validate.
    """
    given = np.array(["" if one is None else one for one in fixed], dtype=object)
    generator = np.random.RandomState(seed)
    test = np.flatnonzero(given == "test")
    own_validation = np.flatnonzero(given == "validation")
    pool = np.flatnonzero((given == "") | (given == "train"))
    if not len(test) and fractions.test:
        counts = np.bincount(labels[pool], minlength=n_classes)
        wanted = np.floor(counts * fractions.test + 0.5).astype(np.int64)
        # Two stay wherever there are two: one to train on and one to validate with.
        keep = 1 if len(own_validation) else 2
        wanted = np.minimum(wanted, np.maximum(counts - keep, 0))
        side = _divide(labels[pool], units[pool], np.stack((counts - wanted, wanted)), generator, keep=keep)
        pool, test = pool[side == 0], pool[side == 1]
    train, validation = _train_and_validation(labels, units, pool, own_validation, n_classes, fractions, generator)
    if not len(validation):
        raise StudyFileError(
            "dataset.name: there must be pictures to validate with, and there are none: give some class two pictures "
            "to draw from, or groups that are smaller (dataset.group)"
        )
    if len(train) < LEAST_TRAIN_IMAGES:
        raise StudyFileError(f"dataset.name: there must be {LEAST_TRAIN_IMAGES} pictures to train on, got {len(train)}")
    return Split(train, validation, test)


def _train_and_validation(
    labels: Indices,
    units: Indices,
    pool: Indices,
    own: Indices,
    n_classes: int,
    fractions: Fractions,
    generator: np.random.RandomState,
) -> tuple[Indices, Indices]:
    n, limit = len(pool) + len(own), fractions.limit
    if limit is not None and not n_classes < limit <= n:
        raise StudyFileError(
            f"dataset.limit: must lie above {n_classes}, the number of classes, and be at most {n}, what there is to "
            f"train and validate with, got {limit}"
        )
    counts = np.bincount(labels[pool], minlength=n_classes)
    if len(own):
        # Both sets are there: of a limit each has its part.
        if limit is None:
            return pool, own
        of_own = min(max(1, round(limit * len(own) / n)), limit - n_classes)
        kept = _shares(counts, limit - of_own)
        train = pool[_divide(labels[pool], units[pool], np.stack((kept, counts - kept)), generator) == 0]
        counts = np.bincount(labels[own], minlength=n_classes)
        kept = _shares(counts, of_own)
        validation = own[_divide(labels[own], units[own], np.stack((kept, counts - kept)), generator, keep=0) == 0]
        return train, validation
    drawn = counts if limit is None else _shares(counts, limit)
    wanted = np.maximum(np.floor(drawn * fractions.validation + 0.5).astype(np.int64), 1)
    wanted = np.minimum(wanted, np.maximum(drawn - 1, 0))
    side = _divide(labels[pool], units[pool], np.stack((drawn - wanted, wanted, counts - drawn)), generator)
    return pool[side == 0], pool[side == 1]


def _shares(counts: Counts, total: int) -> Counts:
    """Return how many of each class are drawn where ``total`` are: in proportion, but two where that is possible.

    >>> _shares(np.array([900, 90, 10, 1]), 100).tolist()
    [89, 8, 2, 1]
    """
    # One to train on and one to validate with; if that is too much, one to train on.
    least = np.minimum(counts, 2)
    least = np.minimum(counts, 1) if least.sum() > total else least
    if total <= least.sum():
        # Less than one for each: the larger classes have theirs.
        return np.where(np.isin(np.arange(len(counts)), np.argsort(-counts, kind="stable")[:total]), least, 0)
    exact = counts * (total / counts.sum())
    out: Counts = np.maximum(np.floor(exact).astype(np.int64), least)
    while rest := total - int(out.sum()):
        # Those that are furthest below their part get one more; or, where small classes got one, the others one less.
        able = np.flatnonzero(out < counts if rest > 0 else out > least)
        out[able[np.argsort(np.sign(rest) * (out - exact)[able], kind="stable")[: abs(rest)]]] += np.sign(rest)
    return out


class _Members:
    """The pictures of each unit, and the units of each class.

    Args:
        labels: ``[n]``.
        units: ``[n]``, any numbers.
        n_classes: how many classes there are.
    """

    def __init__(self, labels: Indices, units: Indices, n_classes: int) -> None:
        _, self._unit, self.sizes = np.unique(units, return_inverse=True, return_counts=True)
        self._labels = labels
        self._rows = np.argsort(self._unit, kind="stable")
        self._starts = np.concatenate(([0], np.cumsum(self.sizes)))
        pairs = np.unique(labels * len(self.sizes) + self._unit)
        self._pairs = pairs % max(len(self.sizes), 1)
        self._ends = np.searchsorted(pairs // max(len(self.sizes), 1), np.arange(n_classes + 1))

    def rows(self, unit: int) -> Indices:
        """Return the rows of a unit."""
        return self._rows[self._starts[unit] : self._starts[unit + 1]]

    def classes(self, unit: int) -> tuple[Indices, Counts]:
        """Return the classes of a unit, and how many of its pictures each has."""
        classes, counts = np.unique(self._labels[self.rows(unit)], return_counts=True)
        return classes, counts

    def having(self, label: int) -> Indices:
        """Return the units that have a picture of a class."""
        return (
            self._pairs[self._ends[label] : self._ends[label + 1]] if label + 1 < len(self._ends) else self._pairs[:0]
        )


def _divide(
    labels: Indices, units: Indices, wanted: Counts, generator: np.random.RandomState, *, keep: int = 1
) -> Indices:
    """Return the side of each row ``[n]``, so that the sides hold as nearly as units allow what is ``wanted``.

    Args:
        labels: ``[n]``.
        units: ``[n]``, any numbers.
        wanted: ``[sides, classes]``; adds up to the counts of ``labels``. What fits nowhere is on the first side.
        generator: draws.
        keep: units of each class that are on the first side wherever there are so many; if there are more, and the
            second side wants some, it has one, unless all are larger than what is wanted of the class.
    """
    known = _Members(labels, units, wanted.shape[1])
    side = np.full(len(labels), -1, dtype=np.int64)
    need = wanted.copy()
    several = np.flatnonzero(known.sizes > 1)
    if len(several):
        _place_units(known, several, side, need, generator)
    _place_singles(labels, side, need, generator)
    if len(several):
        _mend(known, side, wanted, keep)
    return side


def _place_units(
    known: _Members, several: Indices, side: Indices, need: Counts, generator: np.random.RandomState
) -> None:
    """Place units of several pictures, large ones first, where there is room for them; ``need`` is brought down."""
    shuffled = generator.permutation(several)
    # Those of about one size in the order that was drawn: the seed decides, and what is large still comes first.
    by_size = shuffled[np.argsort(-np.floor(np.log2(known.sizes[shuffled])), kind="stable")]
    for unit, draw in zip(by_size, generator.random_sample(len(by_size)), strict=True):
        classes, counts = known.classes(unit)
        room = need[:, classes]
        # Where it fits whole, by chance and in proportion to the room; else where it goes over least.
        weights = np.where((room >= counts).all(axis=1), room.sum(axis=1), 0).cumsum()
        fits_somewhere = weights[-1] > 0
        to = int(np.searchsorted(weights, draw * weights[-1], "right") if fits_somewhere else np.argmax(room @ counts))
        side[known.rows(unit)] = to
        need[to, classes] -= counts


def _place_singles(labels: Indices, side: Indices, need: Counts, generator: np.random.RandomState) -> None:
    """Place what is left, class by class: on every side but the first as many as it needs, on the first the rest."""
    shuffled = generator.permutation(np.flatnonzero(side < 0))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    at = 0
    for label, n in enumerate(np.bincount(labels[shuffled], minlength=need.shape[1])):
        ends = np.minimum(np.cumsum(np.maximum(need[1:, label], 0)), n)
        side[shuffled[at : at + n]] = np.searchsorted(ends, np.arange(n), "right") + 1
        side[shuffled[at + ends[-1] : at + n]] = 0
        at += n


def _mend(known: _Members, side: Indices, wanted: Counts, keep: int) -> None:
    """Move single units, so that every class is on the first side, and on the second where it has units enough."""
    place = np.array([side[known.rows(unit)[0]] for unit in range(len(known.sizes))])
    on_first = np.array([(place[known.having(label)] == 0).sum() for label in range(wanted.shape[1])])

    def move(unit: int, to: int) -> None:
        classes, _ = known.classes(unit)
        on_first[classes] += int(to == 0) - int(place[unit] == 0)
        place[unit] = to
        side[known.rows(unit)] = to

    for label in range(wanted.shape[1]):
        units = known.having(label)
        for unit in sorted(units[place[units] != 0], key=lambda one: (known.sizes[one], one)):
            if on_first[label] < keep:
                move(int(unit), 0)
    # Not a unit that is larger than what is wanted of the class on both sides: it would be most of the second. But
    # where that leaves the second side empty, the smallest of all.
    for most in (wanted[:2].sum(axis=0), None):
        for label in range(wanted.shape[1]):
            units = known.having(label)
            if wanted[1, label] == 0 or (place[units] == 1).any() or (most is None and (place == 1).any()):
                continue
            for unit in sorted(units, key=lambda one: (known.sizes[one], one)):
                fits = most is None or known.sizes[unit] <= most[label]
                if fits and (place[unit] != 0 or (on_first[known.classes(unit)[0]] > keep).all()):
                    move(int(unit), 1)
                    break

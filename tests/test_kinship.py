"""How alike trainings are that go on from one kept state."""

import math

import numpy as np
import pytest
from conftest import make_spec

from lrsearch.strategy.lr.choice import Chooser, Means
from lrsearch.strategy.lr.constants import NARROW, WIDE, Constants
from lrsearch.strategy.lr.kinship import common, remembered
from lrsearch.strategy.lr.looks import Looks, looks
from lrsearch.strategy.lr.model import Points, posterior
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import State

SPEC = make_spec(epochs=10, strategy={"name": "lr"})
CONFIG = Chooser(SPEC).settings.sweep(np.random.default_rng(0), 1)[0].config


def curve(slot: str, parent: str | None = None, shared: int = 0, scores: int = 10) -> ScoreCurve:
    state = State.COMPLETE if scores == 10 else State.RUNNING
    values = tuple(0.5 + 0.01 * epoch for epoch in range(scores))
    return ScoreCurve(
        slot, CONFIG, state, values, value=values[-1] if scores == 10 else None, parent=parent, shared=shared
    )


def test_a_branch_has_in_common_what_it_did_not_train_and_its_branch_no_more_than_that() -> None:
    curves = [curve("a"), curve("b", "a", 6), curve("c", "b", 8), curve("d", "b", 4), curve("e")]
    found = np.round(10 * 10 ** common(curves, [("c", 9), ("a", 5), ("", 0)], 9, 10)).astype(int)
    assert found.tolist() == [
        [10, 6, 6, 4, 0, 6, 5, 0, 0],
        [6, 10, 8, 4, 0, 8, 5, 0, 0],
        [6, 8, 10, 4, 0, 9, 5, 0, 0],
        [4, 4, 4, 10, 0, 4, 4, 0, 0],
        [0, 0, 0, 0, 10, 0, 0, 0, 0],
        [6, 8, 9, 4, 0, 10, 5, 0, 0],
        [5, 5, 5, 4, 0, 5, 10, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 10, 0],  # a setting that goes on from nothing
        [0, 0, 0, 0, 0, 0, 0, 0, 10],  # a training from elsewhere
    ]


@pytest.mark.parametrize(("fraction", "alike"), [(0.9, 0.9**2.0), (0.5, 0.25), (0.0, 0.0), (1.0, 1.0)])
def test_what_is_a_trainings_own_is_forgotten_on_both_ways_from_where_they_part(fraction: float, alike: float) -> None:
    at = math.log10(fraction) if fraction else -math.inf
    end = np.zeros(1)
    assert remembered(end, end, np.array([[at]]), 1.0)[0, 0] == pytest.approx(alike)


def test_before_they_part_two_trainings_are_one() -> None:
    early, end, in_common = np.array([-0.5]), np.zeros(1), np.array([[math.log10(0.9)]])
    assert remembered(early, end, in_common, 1.0)[0, 0] == pytest.approx(10**-0.5)
    assert remembered(early, early, in_common, 1.0)[0, 0] == 1.0


def test_a_score_that_a_branch_has_of_its_parent_is_the_parents() -> None:
    chooser = Chooser(SPEC)
    seen = looks([curve("a"), curve("b", "a", 6)], chooser.rungs, SPEC.metric, WIDE)
    of_branch = [int(level) for i, level in zip(seen.trial, seen.level, strict=True) if i == 1]
    assert of_branch == [len(chooser.rungs.at) - 1]


@pytest.mark.parametrize("constants", [NARROW, WIDE])
def test_the_end_of_a_branch_is_known_the_better_the_later_it_parts(constants: Constants) -> None:
    curves = [curve("a")]
    trunks = [("a", 9), ("a", 5), ("", 0)]
    points = Points.of([CONFIG] * 4, 4, constants)
    seen = looks(curves, Chooser(SPEC).rungs, SPEC.metric, constants)
    nothing = Looks(seen.trial[:0], seen.level[:0], seen.fraction[:0], seen.value[:0])
    belief = posterior(points, seen, nothing, 4, constants, common(curves, trunks, 4, 10))
    variance, with_parent = belief.against(0)
    apart = np.sqrt(np.maximum(variance + variance[0] - 2 * with_parent, 0))
    late, early, fresh = (float(x) for x in apart[1:])
    assert late <= early < fresh
    if constants is WIDE:  # where what is a training's own is forgotten
        assert 0.3 < late / fresh < 0.8


def test_where_settings_are_counted_a_cheap_tail_is_not_taken_for_a_cheap_setting() -> None:
    space = {"optimizer": "sgd", "batch_size": 64, "schedule": ["constant", "wsd", "step"]}
    chooser = Chooser(make_spec(epochs=10, strategy={"name": "lr"}, space=space))
    curves = []
    for i, one in enumerate(chooser.settings.sweep(np.random.default_rng(0), 6)):
        scores = tuple((0.9 - 0.02 * i) * (1 - 0.5 ** (epoch + 1)) for epoch in range(10))
        standing = ScoreCurve(str(i), one.config, State.RUNNING, scores[:1], paused=True)
        whole = ScoreCurve(str(i), one.config, State.COMPLETE, scores, value=scores[-1], trunks=(4, 5, 6, 7, 8, 9))
        curves.append(standing if i else whole)
    by_epochs = chooser.choose(curves, Means(150))
    by_settings = chooser.choose(curves, Means(150, slot_price=0.35))
    assert by_epochs is not None
    assert by_settings is not None
    assert (by_epochs.parent, by_epochs.shared) == ("0", 8)
    assert by_settings.parent is None

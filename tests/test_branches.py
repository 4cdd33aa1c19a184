"""Where a state is worth keeping, and from whose state a new setting may go on: pure, over values made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from conftest import FACTS, make_spec
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.sharing import shared_epochs
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.branches import can_share, worth_keeping
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import OptimizerConfig, ScheduleConfig, State, TrialConfig

SGD = OptimizerConfig("sgd", 0.1, momentum=0.9)
FLAT = ScheduleConfig("constant", 0.1)


def spec_of(*, epochs: int = 10, strategy: dict[str, Any] | None = None, **space: Any) -> StudySpec:
    tables = {"name": "probe", "epochs": epochs, "strategy": strategy or {"name": "lr"}, "space": space}
    return study_file.build(tables, "the test").measured(FACTS)


def config(schedule: ScheduleConfig, epochs: int = 10, lr: float = 0.1) -> TrialConfig:
    """Return a training with 25 updates an epoch."""
    return TrialConfig(replace(SGD, peak_lr=lr), schedule, 32, epochs, seed=0)


def wsd(decay: float, warmup: float = 0.1) -> ScheduleConfig:
    return ScheduleConfig("wsd", warmup, 0.01, decay_fraction=decay)


@pytest.mark.parametrize(
    ("schedule", "families", "expected"),
    [
        (FLAT, ["constant", "wsd"], (4, 5, 6, 7, 8, 9)),  # wsd may decay over the last tenth alone
        (wsd(0.5), ["constant", "wsd"], (4, 5)),
        (wsd(0.25), ["constant", "wsd"], (4, 5, 6, 7)),
        (FLAT, ["constant", "step"], (4, 5)),  # one drop comes latest: half way down from the warm-up
        (ScheduleConfig("step", 0.1, 0.01, drops=3), ["step"], ()),
        (FLAT, ["constant"], ()),
        (FLAT, ["constant", "linear", "cosine", "one_cycle", "plateau"], ()),
        (ScheduleConfig("linear", 0.1, 0.01), ["linear", "constant", "wsd"], ()),
        (ScheduleConfig("one_cycle", 0, 0.01, rise_fraction=0.3, initial_fraction=0.04), ["one_cycle", "wsd"], ()),
        (ScheduleConfig("plateau", 0.1, 0.0, drop_factor=0.1, patience_epochs=2), ["plateau", "constant"], ()),
    ],
    ids=lambda value: value.family if isinstance(value, ScheduleConfig) else None,
)
def test_a_state_is_kept_as_long_as_another_schedule_of_the_space_may_share_it(
    schedule: ScheduleConfig, families: list[str], expected: tuple[int, ...]
) -> None:
    assert worth_keeping(spec_of(schedule=families), config(schedule)) == expected


def test_the_warm_up_is_shared_by_those_that_have_the_same() -> None:
    """A linear fall from the peak shares the rise to it."""
    spec = spec_of(schedule=["linear", "constant"], warmup_fraction=0.5)
    assert worth_keeping(spec, config(ScheduleConfig("linear", 0.5, 0.01))) == (4, 5)


def test_milestones_are_shared_up_to_the_first_that_differs() -> None:
    spec = spec_of(schedule={"multistep": {"milestones": ["0.5,0.75", "0.5,0.9"]}}, final_fraction=0.01)
    schedule = ScheduleConfig("multistep", 0.0, 0.01, milestones=(0.5, 0.75))
    assert worth_keeping(spec, config(schedule)) == (4, 5, 6, 7)


def test_a_long_training_is_kept_between_its_tenths_and_a_short_one_between_its_epochs() -> None:
    spec = spec_of(epochs=350, schedule=["constant", "wsd"])
    assert worth_keeping(spec, config(FLAT, 350)) == tuple(range(140, 350, 35))
    spec = spec_of(epochs=4, schedule=["constant", "wsd"])
    assert worth_keeping(spec, config(FLAT, 4)) == (2, 3)
    assert worth_keeping(spec_of(epochs=1, schedule=["constant", "wsd"]), config(FLAT, 1)) == ()


def test_nothing_is_kept_where_nothing_branches() -> None:
    space: dict[str, Any] = {"schedule": ["constant", "wsd"]}
    assert worth_keeping(spec_of(strategy={"name": "lr", "branching": False}, **space), config(FLAT)) == ()
    assert worth_keeping(make_spec(epochs=10, space=space).measured(FACTS), config(FLAT)) == ()


# --- the best parent -------------------------------------------------------------------------------------------------


def curve(slot: str, schedule: ScheduleConfig, trunks: Sequence[int], **settings: Any) -> ScoreCurve:
    return ScoreCurve(slot, config(schedule, **settings), State.COMPLETE, (0.5,) * 10, trunks=tuple(trunks))


@pytest.mark.parametrize(
    ("curves", "schedule", "expected"),
    [
        ([curve("a", FLAT, [2, 5, 8])], wsd(0.3), ("a", 5)),
        ([curve("a", FLAT, [2, 5, 7])], wsd(0.3), ("a", 7)),
        ([curve("a", FLAT, [2]), curve("b", wsd(0.2), [2, 7])], wsd(0.3), ("b", 7)),
        ([curve("a", FLAT, [2, 7]), curve("b", wsd(0.2), [2, 7])], wsd(0.3), ("a", 7)),
        ([curve("a", FLAT, [2, 7], lr=0.2)], wsd(0.3), None),  # another rate
        ([curve("a", FLAT, [2, 7])], wsd(0.3, warmup=0.2), None),  # another warm-up
        ([curve("a", FLAT, [])], wsd(0.3), None),
        ([curve("a", FLAT, [8, 9])], wsd(0.3), None),
        ([curve("a", wsd(0.3), [7, 10])], wsd(0.3), ("a", 7)),  # the last epoch is no state to go on from
        ([], wsd(0.3), None),
    ],
)
def test_a_setting_goes_on_from_the_latest_state_that_it_shares(
    curves: list[ScoreCurve], schedule: ScheduleConfig, expected: tuple[str, int] | None
) -> None:
    assert can_share(spec_of(), curves, config(schedule)) == expected


@given(data=st.data(), decay=st.floats(0.1, 0.5), drops=st.integers(1, 4))
def test_whatever_of_the_space_shares_a_tenth_finds_it_kept(data: st.DataObject, decay: float, drops: int) -> None:
    """What is kept of a trial serves every other setting of the space that agrees with it but in its schedule."""
    spec = spec_of(schedule=["constant", "step", "wsd"], final_fraction={"low": 0.01, "high": 0.1})
    every = [FLAT, wsd(decay), ScheduleConfig("step", 0.1, 0.05, drops=drops)]
    ours, theirs = (config(data.draw(st.sampled_from(every))) for _ in range(2))
    kept = worth_keeping(spec, ours)
    shared = min(shared_epochs(ours, theirs, spec.steps_per_epoch(32)), 9)
    if ours != theirs and shared >= 4:
        assert shared in kept
    found = can_share(spec, [ScoreCurve("a", ours, State.COMPLETE, trunks=kept)], theirs)
    assert found == (("a", max(e for e in kept if e <= shared)) if any(e <= shared for e in kept) else None)

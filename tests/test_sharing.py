"""How long two settings are one training, against their factors, compared one by one."""

import doctest
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch import families, sharing
from lrsearch.families import FAMILIES
from lrsearch.schedules import factors
from lrsearch.sharing import shared_epochs, shared_steps
from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

FLAT = ScheduleConfig("constant")
CONFIG = TrialConfig(OptimizerConfig("sgd", 0.1, momentum=0.9), FLAT, 32, 10, seed=0)


def wsd(decay: float, warmup: float = 0.0, final: float = 0.0) -> ScheduleConfig:
    return ScheduleConfig("wsd", warmup, final, decay_fraction=decay)


def step(drops: int, warmup: float = 0.0, final: float = 0.01) -> ScheduleConfig:
    return ScheduleConfig("step", warmup, final, drops=drops)


@st.composite
def schedules(draw: st.DrawFn) -> ScheduleConfig:
    """Draw a schedule of few values, so that two of them often have a beginning in common."""
    family = draw(st.sampled_from(list(FAMILIES)))
    given = families.neutral(family)
    if FAMILIES[family].floor is not None:
        given["final_fraction"] = draw(st.sampled_from((0.01, 0.1, 1.0)))
    if family == "wsd":
        given["decay_fraction"] = draw(st.sampled_from((0.1, 0.3, 1.0)))
    if family == "step":
        given["drops"] = draw(st.integers(1, 3))
    if family == "multistep":
        given["milestones"] = draw(st.sampled_from(((0.5,), (0.5, 0.75), (0.5, 0.9))))
    return ScheduleConfig(family, draw(st.sampled_from((0.0, 0.02, 0.1))), **given)


@given(a=schedules(), b=schedules(), n_steps=st.integers(1, 300))
def test_two_settings_share_the_updates_before_the_first_that_differs(
    a: ScheduleConfig, b: ScheduleConfig, n_steps: int
) -> None:
    ours, theirs = factors(a, n_steps).tolist(), factors(b, n_steps).tolist()
    expected = next((i for i in range(n_steps) if ours[i] != theirs[i]), n_steps)
    if a != b and "plateau" in (a.family, b.family):
        expected = 0
    one, other = replace(CONFIG, schedule=a), replace(CONFIG, schedule=b)
    assert shared_steps(one, other, n_steps) == shared_steps(other, one, n_steps) == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (FLAT, FLAT, 100),
        (FLAT, wsd(0.25), 76),  # the decay begins with a factor of 1
        (wsd(0.25), wsd(0.1), 76),
        (wsd(0.25), wsd(0.25, final=0.1), 76),
        (FLAT, step(1), 50),
        (step(1), step(3), 25),
        (step(3), step(3, final=0.1), 25),
        (wsd(0.25, 0.1), wsd(0.1, 0.1), 76),
        (wsd(0.25, 0.1), wsd(0.1, 0.2), 0),  # another warm-up
        (wsd(0.25, 0.101), wsd(0.1, 0.1), 76),  # the same updates of warm-up
        (FLAT, replace(FLAT, warmup_fraction=0.01), 100),  # a warm-up of one update is at the peak
        (
            ScheduleConfig("multistep", final_fraction=0.01, milestones=(0.5, 0.75)),
            ScheduleConfig("multistep", final_fraction=0.01, milestones=(0.5, 0.9)),
            75,
        ),
        (FLAT, ScheduleConfig("linear", final_fraction=0.0), 1),
        (FLAT, ScheduleConfig("linear", final_fraction=1.0), 100),
        (FLAT, ScheduleConfig("plateau", final_fraction=0.0, drop_factor=0.1, patience_epochs=2), 0),
    ],
)
def test_what_families_share(a: ScheduleConfig, b: ScheduleConfig, expected: int) -> None:
    assert shared_steps(replace(CONFIG, schedule=a), replace(CONFIG, schedule=b), 100) == expected


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, optimizer=replace(CONFIG.optimizer, peak_lr=0.1000001)),
        replace(CONFIG, optimizer=replace(CONFIG.optimizer, momentum=0.8)),
        replace(CONFIG, optimizer=OptimizerConfig("adam", 0.1)),
        replace(CONFIG, batch_size=33),
        replace(CONFIG, epochs=11),
        replace(CONFIG, seed=1),
        replace(CONFIG, stem_ratio=0.5),
        replace(CONFIG, layer_decay=0.9),
        replace(CONFIG, backbone_ratio=0.9),
    ],
    ids=lambda other: next(name for name in TrialConfig.__slots__ if getattr(other, name) != getattr(CONFIG, name)),
)
def test_what_differs_in_anything_but_its_schedule_shares_nothing(other: TrialConfig) -> None:
    assert shared_steps(CONFIG, other, 100) == 0
    assert shared_steps(CONFIG, replace(other, schedule=wsd(0.2)), 100) == 0


def test_epochs_are_shared_whole() -> None:
    tail = replace(CONFIG, schedule=wsd(0.25))
    assert [shared_epochs(CONFIG, tail, n) for n in (1, 4, 10, 40)] == [8, 7, 7, 7]
    assert shared_epochs(CONFIG, CONFIG, 10) == 10


def test_the_example_is_right() -> None:
    assert doctest.testmod(sharing).failed == 0
    assert doctest.testmod(sharing).attempted

"""Schedules against torch.optim.lr_scheduler, against numbers worked out by hand, and against their laws."""

import doctest
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as lrs
from torch.optim.optimizer import Optimizer

from lrsearch import schedules, shapes
from lrsearch.errors import StudyFileError
from lrsearch.families import FAMILIES as RECORDS
from lrsearch.schedules import describe, factors, validate, warmup_steps
from lrsearch.trial import ScheduleConfig as Schedule
from lrsearch.trial import ScheduleFamily

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's word for a division by zero

Curve = npt.NDArray[np.float64]
Twin = Callable[[Optimizer], lrs.LRScheduler]

FAMILIES: tuple[ScheduleFamily, ...] = tuple(RECORDS)
STARTS_LOW = ("one_cycle", "triangular")
NEVER_RISES = tuple(family for family in FAMILIES if family not in (*STARTS_LOW, "warm_restarts"))
NEVER_ZERO = ("step", "multistep", "exponential", "inverse_sqrt", "one_cycle")

PEAK = 0.3
SIZES = (2, 3, 7, 10, 64, 501)

# --- the oracle: torch, stepped as in training -----------------------------------------------------------------------


def train_with(twin: Twin, n_steps: int) -> Curve:
    """Return the factors that torch's scheduler gives to each of ``n_steps`` updates of an optimizer at PEAK."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = twin(optimizer)
    rates = []
    for _ in range(n_steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return np.array(rates) / PEAK


def one_cycle_twin(n_steps: int, final: float, rise: float, initial: float) -> Twin:
    return lambda optimizer: lrs.OneCycleLR(
        optimizer,
        max_lr=PEAK,
        total_steps=n_steps,
        pct_start=rise,
        div_factor=1 / initial,
        final_div_factor=initial / final,
        cycle_momentum=False,
    )


def triangular_twin(final: float, step_size_up: float) -> Twin:
    return lambda optimizer: lrs.CyclicLR(
        optimizer, base_lr=final * PEAK, max_lr=PEAK, step_size_up=step_size_up, cycle_momentum=False
    )


def wsd_twin(final: float, stable: int, decay: int) -> Twin:
    return lambda optimizer: lrs.SequentialLR(
        optimizer,
        [
            lrs.ConstantLR(optimizer, factor=1.0, total_iters=stable),
            lrs.LinearLR(optimizer, start_factor=1.0, end_factor=final, total_iters=decay),
        ],
        milestones=[stable],
    )


def wsd_cosine_twin(final: float, stable: int, decay: int) -> Twin:
    return lambda optimizer: lrs.SequentialLR(
        optimizer,
        [
            lrs.ConstantLR(optimizer, factor=1.0, total_iters=stable),
            lrs.CosineAnnealingLR(optimizer, T_max=decay, eta_min=final * PEAK),
        ],
        milestones=[stable],
    )


def inverse_sqrt_of(n_steps: int, final: float) -> Callable[[int], float]:
    """Return sqrt(T / (T + s)) with the time scale T solved for the value ``final`` after ``n_steps``."""
    scale = n_steps / (final**-2 - 1)
    return lambda s: math.sqrt(scale / (scale + s))


# (schedule, n, torch's scheduler): numbers of torch's own, such as milestones in updates, are written out by hand.
ROWS: list[tuple[Schedule, int, Twin]] = [
    *((Schedule("constant"), n, lambda o: lrs.ConstantLR(o, factor=1.0)) for n in SIZES),
    (Schedule("step", final_fraction=0.01, drops=1), 10, lambda o: lrs.StepLR(o, 5, gamma=0.01)),
    (Schedule("step", final_fraction=0.01, drops=2), 501, lambda o: lrs.StepLR(o, 167, gamma=0.1)),
    (Schedule("step", final_fraction=0.5, drops=4), 1000, lambda o: lrs.StepLR(o, 200, gamma=0.5**0.25)),
    (Schedule("step", final_fraction=1.0, drops=4), 100, lambda o: lrs.StepLR(o, 20, gamma=1.0)),
    (Schedule("step", final_fraction=0.01, drops=1), 7, lambda o: lrs.MultiStepLR(o, [4], gamma=0.01)),
    (Schedule("step", final_fraction=0.01, drops=2), 10, lambda o: lrs.MultiStepLR(o, [4, 7], gamma=0.1)),
    (Schedule("step", final_fraction=0.001, drops=3), 501, lambda o: lrs.MultiStepLR(o, [126, 251, 376], gamma=0.1)),
    (Schedule("step", final_fraction=0.001, drops=3), 2, lambda o: lrs.MultiStepLR(o, [1, 1, 2], gamma=0.1)),
    (Schedule("multistep", final_fraction=0.1, milestones=(0.5,)), 10, lambda o: lrs.MultiStepLR(o, [5], gamma=0.1)),
    (
        Schedule("multistep", final_fraction=0.01, milestones=(0.25, 0.75)),
        10,
        lambda o: lrs.MultiStepLR(o, [3, 8], gamma=0.1),
    ),
    (
        Schedule("multistep", final_fraction=0.008, milestones=(0.3, 0.6, 0.8)),
        501,
        lambda o: lrs.MultiStepLR(o, [150, 301, 401], gamma=0.2),
    ),
    (
        Schedule("multistep", final_fraction=0.008, milestones=(0.01, 0.02, 0.8)),
        7,
        lambda o: lrs.MultiStepLR(o, [1, 1, 6], gamma=0.2),
    ),
    *(
        (Schedule("exponential", final_fraction=f), n, lambda o, f=f, n=n: lrs.ExponentialLR(o, gamma=f ** (1 / n)))
        for f in (1e-6, 0.02, 1.0)
        for n in SIZES
    ),
    *(
        (Schedule("linear", final_fraction=f), n, lambda o, f=f, n=n: lrs.LinearLR(o, 1.0, f, total_iters=n))
        for f in (0.0, 0.02, 1.0)
        for n in SIZES
    ),
    *(
        (Schedule("cosine", final_fraction=f), n, lambda o, f=f, n=n: lrs.CosineAnnealingLR(o, n, eta_min=f * PEAK))
        for f in (0.0, 0.02, 1.0)
        for n in SIZES
    ),
    *(
        (
            Schedule("polynomial", final_fraction=0.0, power=p),
            n,
            lambda o, p=p, n=n: lrs.PolynomialLR(o, total_iters=n, power=p),
        )
        for p in (0.5, 0.9, 1.0, 3.0)
        for n in SIZES
    ),
    *(
        (
            Schedule("inverse_sqrt", final_fraction=f),
            n,
            lambda o, f=f, n=n: lrs.LambdaLR(o, inverse_sqrt_of(n, f)),
        )
        for f in (0.001, 0.1, 0.9)
        for n in SIZES
    ),
    *(
        (
            Schedule("one_cycle", final_fraction=f, rise_fraction=r, initial_fraction=i),
            n,
            one_cycle_twin(n, f, r, i),
        )
        for f, r, i in (
            (4e-6, 0.3, 0.04),
            (0.04, 0.5, 0.04),
            (0.2, 0.9, 0.1),
            (0.01, 0.013, 1.0),
            (1.0, 0.3, 1.0),
            (0.2, math.nextafter(1, 0), 0.4),
        )
        for n in (1, *SIZES)
        if r * n != 1
    ),
    (Schedule("triangular", final_fraction=0.1, cycles=1), 10, triangular_twin(0.1, 5)),
    (Schedule("triangular", final_fraction=0.1, cycles=1), 7, triangular_twin(0.1, 3.5)),
    (Schedule("triangular", final_fraction=0.0, cycles=2), 501, triangular_twin(0.0, 125.25)),
    (Schedule("triangular", final_fraction=0.25, cycles=3), 64, triangular_twin(0.25, 64 / 6)),
    (Schedule("triangular", final_fraction=0.25, cycles=7), 10, triangular_twin(0.25, 10 / 14)),
    (
        Schedule("warm_restarts", final_fraction=0.02, cycles=1, cycle_mult=2),
        64,
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 64, 2, eta_min=0.02 * PEAK),
    ),
    (
        Schedule("warm_restarts", final_fraction=0.0, cycles=3, cycle_mult=1),
        501,
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 167, 1),
    ),
    (
        Schedule("warm_restarts", final_fraction=0.0, cycles=3, cycle_mult=2),
        70,
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 10, 2),
    ),
    (
        Schedule("warm_restarts", final_fraction=0.1, cycles=3, cycle_mult=2),
        71,
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 11, 2, eta_min=0.1 * PEAK),
    ),
    (
        Schedule("warm_restarts", final_fraction=0.1, cycles=1000, cycle_mult=1000),
        64,
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 1, 1000, eta_min=0.1 * PEAK),
    ),
    (Schedule("wsd", final_fraction=0.0, decay_fraction=0.2), 10, wsd_twin(0.0, 8, 2)),
    (Schedule("wsd", final_fraction=0.1, decay_fraction=0.25), 10, wsd_twin(0.1, 7, 3)),
    (Schedule("wsd", final_fraction=0.1, decay_fraction=0.5), 501, wsd_twin(0.1, 250, 251)),
    (Schedule("wsd_cosine", final_fraction=0.0, decay_fraction=0.2), 10, wsd_cosine_twin(0.0, 8, 2)),
    (Schedule("wsd_cosine", final_fraction=0.1, decay_fraction=0.25), 10, wsd_cosine_twin(0.1, 7, 3)),
    (Schedule("wsd_cosine", final_fraction=0.1, decay_fraction=0.5), 501, wsd_cosine_twin(0.1, 250, 251)),
    (
        Schedule("wsd", final_fraction=0.1, decay_fraction=1.0),
        64,
        lambda o: lrs.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=64),
    ),
]


def name_of(value: object) -> str | None:
    """Name a row of a table by its schedule."""
    return describe(value) if isinstance(value, Schedule) else None


@pytest.mark.parametrize(("schedule", "n_steps", "twin"), ROWS, ids=name_of)
def test_the_whole_curve_equals_torch(schedule: Schedule, n_steps: int, twin: Twin) -> None:
    np.testing.assert_allclose(factors(schedule, n_steps), train_with(twin, n_steps), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("final", "power"), [(0.01, 2.0), (0.5, 0.5), (1.0, 0.9)])
def test_a_polynomial_with_a_floor_is_the_one_of_torch_squeezed_onto_it(final: float, power: float) -> None:
    curve = factors(Schedule("polynomial", final_fraction=final, power=power), 64)
    without_floor = train_with(lambda o: lrs.PolynomialLR(o, total_iters=64, power=power), 64)
    np.testing.assert_allclose(curve, without_floor * (1 - final) + final, rtol=0, atol=1e-12)


def test_every_family_has_a_twin_but_plateau_which_has_feedback() -> None:
    assert {schedule.family for schedule, _, _ in ROWS} == set(FAMILIES) - {"plateau"}


# Of 2 n updates, the first half is warm-up and the second half the row of above: for wsd, whose decay counts all
# updates, half of its fraction is the same decay.
@pytest.mark.parametrize(("schedule", "n_steps", "twin"), ROWS, ids=name_of)
def test_warm_up_before_a_shape_equals_two_schedulers_of_torch_in_sequence(
    schedule: Schedule, n_steps: int, twin: Twin
) -> None:
    def ramp(optimizer: Optimizer) -> lrs.LRScheduler:
        return lrs.LinearLR(optimizer, start_factor=1 / n_steps, total_iters=n_steps - 1)

    def both(optimizer: Optimizer) -> lrs.LRScheduler:
        return lrs.SequentialLR(optimizer, [ramp(optimizer), twin(optimizer)], milestones=[n_steps])

    warm = replace(schedule, warmup_fraction=0.5)
    if schedule.decay_fraction is not None:
        warm = replace(warm, decay_fraction=schedule.decay_fraction / 2)
    # torch's cannot be nested, for they set the rate as they are made.
    if schedule.family in (*STARTS_LOW, "wsd", "wsd_cosine"):
        shape = train_with(twin, n_steps)
        expected = np.concatenate([train_with(ramp, n_steps) * shape[0], shape])
    else:
        expected = train_with(both, 2 * n_steps)
    np.testing.assert_allclose(factors(warm, 2 * n_steps), expected, rtol=0, atol=1e-12)


def test_one_cycle_starts_at_the_peak_where_torch_divides_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        train_with(one_cycle_twin(4, 0.2, 0.25, 0.1), 4)
    curve = factors(Schedule("one_cycle", final_fraction=0.2, rise_fraction=0.25, initial_fraction=0.1), 4)
    np.testing.assert_allclose(curve, [1, 0.8, 0.4, 0.2], rtol=0, atol=1e-12)


# --- boundaries, worked out by hand ----------------------------------------------------------------------------------

BOUNDARIES: list[tuple[Schedule, int, dict[int, float]]] = [
    (Schedule("constant"), 1000, {0: 1, 999: 1}),
    (Schedule("constant", warmup_fraction=0.1), 1000, {0: 0.01, 49: 0.5, 98: 0.99, 99: 1, 100: 1, 999: 1}),
    (Schedule("constant", warmup_fraction=0.001), 1000, {0: 1, 1: 1}),
    (Schedule("constant", warmup_fraction=0.999), 10, {0: 1 / 9, 8: 1, 9: 1}),
    (Schedule("step", final_fraction=0.01, drops=2), 9, {0: 1, 2: 1, 3: 0.1, 5: 0.1, 6: 0.01, 8: 0.01}),
    (Schedule("step", final_fraction=0.01, drops=2), 10, {3: 1, 4: 0.1, 6: 0.1, 7: 0.01, 9: 0.01}),
    (Schedule("step", final_fraction=0.25, drops=1, warmup_fraction=0.2), 10, {0: 0.5, 1: 1, 5: 1, 6: 0.25, 9: 0.25}),
    (Schedule("step", final_fraction=0.0001, drops=1000), 2, {0: 1, 1: 0.01}),
    (Schedule("multistep", final_fraction=0.04, milestones=(0.5, 0.9)), 100, {49: 1, 50: 0.2, 89: 0.2, 90: 0.04}),
    (Schedule("multistep", final_fraction=0.04, milestones=(0.001, 0.999)), 100, {0: 1, 1: 0.2, 99: 0.2}),
    (Schedule("multistep", final_fraction=0.1, milestones=(0.5,), warmup_fraction=0.5), 8, {3: 1, 5: 1, 6: 0.1}),
    (Schedule("exponential", final_fraction=0.0001), 4, {0: 1, 1: 0.1, 2: 0.01, 3: 0.001}),
    (Schedule("exponential", final_fraction=0.25, warmup_fraction=0.5), 4, {0: 0.5, 1: 1, 2: 1, 3: 0.5}),
    (Schedule("linear", final_fraction=0.0), 1000, {0: 1, 100: 0.9, 500: 0.5, 999: 0.001}),
    (Schedule("linear", final_fraction=0.2), 10, {0: 1, 5: 0.6, 9: 0.28}),
    (Schedule("linear", final_fraction=0.0, warmup_fraction=0.2), 10, {0: 0.5, 1: 1, 2: 1, 6: 0.5, 9: 0.125}),
    (Schedule("cosine", final_fraction=0.0), 30, {0: 1, 10: 0.75, 15: 0.5, 20: 0.25}),
    (Schedule("cosine", final_fraction=0.5), 30, {0: 1, 10: 0.875, 15: 0.75, 20: 0.625}),
    (Schedule("cosine", final_fraction=0.0, warmup_fraction=0.9), 300, {0: 1 / 270, 269: 1, 270: 1, 280: 0.75}),
    (Schedule("polynomial", final_fraction=0.0, power=2.0), 10, {0: 1, 1: 0.81, 5: 0.25, 9: 0.01}),
    (Schedule("polynomial", final_fraction=0.5, power=2), 10, {0: 1, 1: 0.905, 5: 0.625, 9: 0.505}),
    (Schedule("inverse_sqrt", final_fraction=0.5), 300, {0: 1, 100: math.sqrt(1 / 2), 200: math.sqrt(1 / 3)}),
    (Schedule("inverse_sqrt", final_fraction=0.2), 24, {0: 1, 3: 0.5, 8: 1 / 3, 15: 0.25}),
    (Schedule("inverse_sqrt", final_fraction=1.0), 10, {0: 1, 9: 1}),
    (Schedule("inverse_sqrt", final_fraction=1e-200), 10, {0: 1, 1: 0, 9: 0}),
    (
        Schedule("one_cycle", final_fraction=0.2, rise_fraction=0.6, initial_fraction=0.4),
        5,
        {0: 0.4, 1: 0.7, 2: 1, 3: 0.6, 4: 0.2},
    ),
    (
        Schedule("one_cycle", final_fraction=0.2, rise_fraction=0.6, initial_fraction=0.4, warmup_fraction=0.5),
        10,
        {0: 0.08, 3: 0.32, 4: 0.4, 5: 0.4, 6: 0.7, 7: 1, 8: 0.6, 9: 0.2},
    ),
    (Schedule("triangular", final_fraction=0.2, cycles=1), 8, {0: 0.2, 2: 0.6, 4: 1, 6: 0.6, 7: 0.4}),
    (Schedule("triangular", final_fraction=0.0, cycles=1), 3, {0: 0, 1: 2 / 3, 2: 2 / 3}),
    (Schedule("triangular", final_fraction=0.5, cycles=2, warmup_fraction=0.5), 8, {0: 0.125, 3: 0.5, 4: 0.5, 5: 1}),
    (Schedule("triangular", final_fraction=0.1, cycles=6), 3, {0: 0.1, 1: 0.1, 2: 0.1}),
    (Schedule("warm_restarts", final_fraction=0.0, cycles=2, cycle_mult=1), 60, {0: 1, 10: 0.75, 20: 0.25, 30: 1}),
    (Schedule("warm_restarts", final_fraction=0.5, cycles=2, cycle_mult=3), 12, {0: 1, 1: 0.875, 3: 1, 6: 0.875}),
    (Schedule("warm_restarts", final_fraction=0.0, cycles=3, cycle_mult=2), 3, {0: 1, 1: 1, 2: 0.5}),
    (Schedule("wsd", final_fraction=0.0, decay_fraction=0.4), 10, {0: 1, 6: 1, 7: 0.75, 8: 0.5, 9: 0.25}),
    (Schedule("wsd", final_fraction=0.2, decay_fraction=0.4, warmup_fraction=0.2), 10, {0: 0.5, 1: 1, 6: 1, 7: 0.8}),
    (Schedule("wsd", final_fraction=0.0, decay_fraction=0.9, warmup_fraction=0.5), 8, {3: 1, 4: 1, 5: 0.75, 7: 0.25}),
    (Schedule("wsd", final_fraction=0.0, decay_fraction=0.001), 10, {0: 1, 9: 1}),
    (Schedule("wsd_cosine", final_fraction=0.0, decay_fraction=0.4), 10, {0: 1, 6: 1, 8: 0.5}),
    (Schedule("wsd_cosine", final_fraction=0.2, decay_fraction=0.4, warmup_fraction=0.2), 10, {0: 0.5, 6: 1, 8: 0.6}),
    (Schedule("wsd_cosine", final_fraction=0.0, decay_fraction=0.001), 10, {0: 1, 9: 1}),
    (Schedule("plateau", final_fraction=0.001, drop_factor=0.1, patience_epochs=0), 10, {0: 1, 9: 1}),
    (Schedule("plateau", final_fraction=0, drop_factor=0.1, patience_epochs=2, warmup_fraction=0.5), 4, {0: 0.5, 3: 1}),
]


@pytest.mark.parametrize(("schedule", "n_steps", "expected"), BOUNDARIES, ids=name_of)
def test_boundaries_are_where_a_person_would_compute_them(
    schedule: Schedule, n_steps: int, expected: dict[int, float]
) -> None:
    curve = factors(schedule, n_steps)
    assert {t: curve[t] for t in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_every_family_has_boundaries() -> None:
    assert {schedule.family for schedule, _, _ in BOUNDARIES} == set(FAMILIES)


@pytest.mark.parametrize(
    ("warmup_fraction", "n_steps", "expected"),
    [
        (0.0, 100, 0),
        (0.04, 10, 0),
        (0.05, 10, 1),
        (0.05, 30, 2),
        (0.25, 10, 3),
        (0.5, 1, 0),
        (0.5, 2, 1),
        (0.94, 10, 9),
        (0.999, 10, 9),
        (0.999, 1, 0),
    ],
)
def test_warm_up_rounds_a_half_up_and_leaves_one_update(warmup_fraction: float, n_steps: int, expected: int) -> None:
    assert warmup_steps(Schedule("constant", warmup_fraction=warmup_fraction), n_steps) == expected


@pytest.mark.parametrize("n_steps", [0, -1])
@pytest.mark.parametrize("function", [factors, warmup_steps])
def test_a_training_without_updates_has_no_schedule(function: Callable[..., object], n_steps: int) -> None:
    with pytest.raises(ValueError, match=f"n_steps must be 1 or more, got {n_steps}"):
        function(Schedule("constant"), n_steps)


# --- laws that hold for all schedules --------------------------------------------------------------------------------


def law(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Check a test on drawn values, with no limit of time on each: cores may be shared."""
    return lambda test: settings(deadline=None)(given(*strategies)(test))


fractions = st.floats(0, 1)
positive_fractions = st.floats(1e-6, 1)
inner_fractions = st.floats(1e-6, 1 - 1e-6)
OWN_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "drops": st.integers(1, 50),
    "milestones": st.lists(inner_fractions, min_size=1, max_size=5, unique=True).map(lambda m: tuple(sorted(m))),
    "power": st.floats(0.01, 10),
    "rise_fraction": inner_fractions,
    "initial_fraction": positive_fractions,
    "cycles": st.integers(1, 20),
    "cycle_mult": st.integers(1, 4),
    "decay_fraction": positive_fractions,
    "drop_factor": inner_fractions,
    "patience_epochs": st.integers(0, 20),
}


def schedules_of(*families: ScheduleFamily, warm: bool = True) -> st.SearchStrategy[Schedule]:
    """Draw valid schedules of these families, with any warm-up or with none."""

    def one(family: ScheduleFamily) -> st.SearchStrategy[Schedule]:
        floors = positive_fractions if family in NEVER_ZERO else fractions
        own = {name: floors if name == "final_fraction" else OWN_FIELDS[name] for name in RECORDS[family].takes}
        warmup = st.floats(0, 1, exclude_max=True) if warm else st.just(0.0)
        return st.builds(Schedule, st.just(family), warmup_fraction=warmup, **own)

    return st.sampled_from(families).flatmap(one)


any_schedule = schedules_of(*FAMILIES)
sizes = st.integers(1, 400)


@law(any_schedule, sizes)
def test_factors_are_one_float_per_update_from_0_to_1(schedule: Schedule, n_steps: int) -> None:
    curve = factors(schedule, n_steps)
    assert curve.shape == (n_steps,)
    assert curve.dtype == np.float64
    assert (curve >= 0).all()
    assert (curve <= 1).all()


@law(any_schedule, sizes)
def test_the_same_schedule_gives_the_same_bits_in_an_array_of_its_own(schedule: Schedule, n_steps: int) -> None:
    first, second = factors(schedule, n_steps), factors(schedule, n_steps)
    assert first.tobytes() == second.tobytes()
    first[:] = -1
    assert (second >= 0).all()


@law(schedules_of(*(family for family in FAMILIES if family not in STARTS_LOW)), sizes)
def test_the_peak_is_met_exactly_when_warm_up_ends(schedule: Schedule, n_steps: int) -> None:
    curve, warmup = factors(schedule, n_steps), warmup_steps(schedule, n_steps)
    assert curve.max() == 1
    assert curve[warmup] == 1


@law(st.integers(1, 40), st.integers(1, 40), positive_fractions, positive_fractions)
def test_one_cycle_meets_the_peak_where_the_rise_is_a_whole_number_of_updates(
    rise: int, fall: int, initial: float, final: float
) -> None:
    n_steps = rise + fall
    fields_of_its_own = {"rise_fraction": rise / n_steps, "initial_fraction": initial, "final_fraction": final}
    curve = factors(Schedule("one_cycle", **fields_of_its_own), n_steps)
    if rise > 1:
        assert curve[0] == pytest.approx(initial, abs=1e-9)
        assert (np.diff(curve[:rise]) >= -1e-12).all()
    assert curve[rise - 1] == pytest.approx(1, abs=1e-9)
    assert (np.diff(curve[rise - 1 :]) <= 1e-12).all()


@law(st.integers(1, 10), st.integers(1, 10), fractions)
def test_triangular_meets_the_peak_once_a_cycle_where_half_a_cycle_is_a_whole_number_of_updates(
    cycles: int, half: int, final: float
) -> None:
    curve = factors(Schedule("triangular", cycles=cycles, final_fraction=final), 2 * half * cycles)
    assert (curve[half :: 2 * half] == 1).all()
    assert (curve[:: 2 * half] == final).all()


@law(any_schedule, sizes)
def test_warm_up_rises_by_equal_steps_to_the_first_factor_of_the_shape(schedule: Schedule, n_steps: int) -> None:
    curve, warmup = factors(schedule, n_steps), warmup_steps(schedule, n_steps)
    assume(warmup > 0)
    np.testing.assert_allclose(np.diff(curve[:warmup], prepend=0.0), curve[warmup] / warmup, rtol=0, atol=1e-12)
    assert curve[warmup - 1] == curve[warmup]
    if curve[warmup] > 1e-9:
        assert (np.diff(curve[:warmup], prepend=0.0) > 0).all()


@law(schedules_of(*(family for family in FAMILIES if family not in ("wsd", "wsd_cosine"))), sizes)
def test_after_warm_up_comes_the_same_shape_over_the_updates_that_are_left(schedule: Schedule, n_steps: int) -> None:
    warmup = warmup_steps(schedule, n_steps)
    shape = factors(replace(schedule, warmup_fraction=0.0), n_steps - warmup)
    np.testing.assert_array_equal(factors(schedule, n_steps)[warmup:], shape)


@law(schedules_of(*NEVER_RISES), sizes)
def test_decaying_families_never_rise_after_warm_up_nor_fall_below_the_floor(schedule: Schedule, n_steps: int) -> None:
    shape = factors(schedule, n_steps)[warmup_steps(schedule, n_steps) :]
    assert (np.diff(shape) <= 1e-15).all()
    assert shape[-1] >= (schedule.final_fraction or 0) - 1e-15


@law(any_schedule)
def test_a_single_update_is_at_the_start_of_the_shape_and_that_of_one_cycle_at_its_end(schedule: Schedule) -> None:
    expected = schedule.final_fraction if schedule.family in STARTS_LOW else 1
    assert factors(schedule, 1).tolist() == pytest.approx([expected], rel=1e-12, abs=1e-12)


@law(
    schedules_of(
        *("constant", "step", "exponential", "linear", "cosine", "polynomial", "inverse_sqrt", "triangular", "plateau"),
        warm=False,
    ),
    sizes,
)
def test_twice_the_updates_stretch_the_curve(schedule: Schedule, n_steps: int) -> None:
    np.testing.assert_allclose(factors(schedule, 2 * n_steps)[::2], factors(schedule, n_steps), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "whole"),
    [
        (Schedule("multistep", final_fraction=0.01, milestones=(0.5, 0.75)), 4),
        (Schedule("warm_restarts", final_fraction=0.01, cycles=3, cycle_mult=2), 7),
        (Schedule("wsd", final_fraction=0.01, decay_fraction=0.25), 4),
        (Schedule("wsd", final_fraction=0.01, decay_fraction=0.25, warmup_fraction=0.5), 4),
        (Schedule("wsd_cosine", final_fraction=0.01, decay_fraction=0.25), 4),
        (Schedule("cosine", final_fraction=0.01, warmup_fraction=0.25), 4),
    ],
    ids=name_of,
)
@law(st.integers(1, 50))
def test_twice_the_updates_stretch_the_curve_where_its_parts_are_whole(
    schedule: Schedule, whole: int, repeats: int
) -> None:
    n_steps = whole * repeats
    warmup = warmup_steps(schedule, n_steps)
    stretched, curve = factors(schedule, 2 * n_steps), factors(schedule, n_steps)
    np.testing.assert_allclose(stretched[2 * warmup :: 2], curve[warmup:], rtol=0, atol=1e-9)


# --- where the curves end --------------------------------------------------------------------------------------------

# Seen through its function, the curve of a family is a straight line, which shows where the next update would be.
STRAIGHT: dict[ScheduleFamily, Callable[[Curve, Schedule], Curve]] = {
    "exponential": lambda factor, _: np.log(factor),
    "linear": lambda factor, _: factor,
    "cosine": lambda factor, schedule: np.arccos(np.clip(2 * height(factor, schedule) - 1, -1, 1)),
    "polynomial": lambda factor, schedule: height(factor, schedule) ** (1 / (schedule.power or 1)),
    "inverse_sqrt": lambda factor, _: factor**-2,
    "wsd": lambda factor, _: factor,
    "wsd_cosine": lambda factor, schedule: np.arccos(np.clip(2 * height(factor, schedule) - 1, -1, 1)),
}


def height(factor: Curve, schedule: Schedule) -> Curve:
    """Return the part of the way from the floor up to the peak."""
    floor = schedule.final_fraction or 0
    return np.maximum((factor - floor) / (1 - floor), 0)


@pytest.mark.parametrize("family", STRAIGHT)
@law(st.data())
def test_the_final_fraction_is_the_value_one_update_past_the_last(family: ScheduleFamily, data: st.DataObject) -> None:
    schedule = data.draw(schedules_of(family).filter(lambda s: 0.001 < (s.final_fraction or 0) < 0.9))
    n_steps = data.draw(st.integers(3, 200))
    assume(n_steps - warmup_steps(schedule, n_steps) > 2)
    assume((schedule.decay_fraction or 1) * n_steps >= 2)
    assume(0.2 <= (schedule.power or 1) <= 4)  # beyond, the inverse power magnifies rounding
    end = STRAIGHT[family](np.append(factors(schedule, n_steps)[-2:], schedule.final_fraction), schedule)
    assert end[1] - end[0] == pytest.approx(end[2] - end[1], rel=1e-3, abs=1e-4)


@law(schedules_of("one_cycle"), sizes)
def test_the_last_update_of_one_cycle_is_at_the_final_fraction(schedule: Schedule, n_steps: int) -> None:
    assert factors(schedule, n_steps)[-1] == pytest.approx(schedule.final_fraction, abs=1e-9)


@law(schedules_of("step"), sizes)
def test_the_last_tread_of_step_is_at_the_final_fraction(schedule: Schedule, n_steps: int) -> None:
    assume(n_steps - warmup_steps(schedule, n_steps) > (schedule.drops or 0))
    assert factors(schedule, n_steps)[-1] == schedule.final_fraction


@law(schedules_of("multistep", warm=False))
def test_multistep_ends_at_the_final_fraction_once_the_last_milestone_is_an_update(schedule: Schedule) -> None:
    assume((schedule.milestones or ())[-1] < 0.99)
    assert factors(schedule, 100)[-1] == schedule.final_fraction


# --- what is refused, and the words ----------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
COSINE = Schedule("cosine", final_fraction=0.01)
STEP = Schedule("step", final_fraction=0.01, drops=2)
MULTISTEP = Schedule("multistep", final_fraction=0.01, milestones=(0.5,))
POLYNOMIAL = Schedule("polynomial", final_fraction=0.0, power=2.0)
ONE_CYCLE = Schedule("one_cycle", final_fraction=0.01, rise_fraction=0.3, initial_fraction=0.04)
TRIANGULAR = Schedule("triangular", final_fraction=0.1, cycles=2)
WARM_RESTARTS = Schedule("warm_restarts", final_fraction=0.0, cycles=3, cycle_mult=2)
WSD = Schedule("wsd", final_fraction=0.0, decay_fraction=0.2)
PLATEAU = Schedule("plateau", final_fraction=0.001, drop_factor=0.1, patience_epochs=5)

UNIT = "at least 0 and at most 1"
POSITIVE = "above 0 and at most 1"
INSIDE = "above 0 and below 1"
COUNT = "a whole number from 1 to 1000"
RISING = "a tuple of rising fractions, all above 0 and below 1"

REFUSED: list[tuple[Schedule, str]] = [
    (
        Schedule("cosin", final_fraction=0.1),  # type: ignore[arg-type]
        f"the family of a schedule must be one of {', '.join(FAMILIES)}, got 'cosin' (did you mean 'cosine'?)",
    ),
    (Schedule("cosine"), f"schedule 'cosine' needs final_fraction ({UNIT}), got none"),
    (Schedule("step", drops=2), f"schedule 'step' needs final_fraction ({POSITIVE}), got none"),
    (Schedule("step", final_fraction=0.1), f"schedule 'step' needs drops ({COUNT}), got none"),
    (replace(COSINE, cycles=3), "schedule 'cosine' takes only warmup_fraction, final_fraction; got cycles = 3"),
    (
        Schedule("constant", final_fraction=0.0),
        "schedule 'constant' takes only warmup_fraction; got final_fraction = 0.0",
    ),
    *(
        (
            replace(COSINE, warmup_fraction=bad),
            f"warmup_fraction of schedule 'cosine' must be at least 0 and below 1, got {bad!r}",
        )
        for bad in (-0.01, 1.0, NAN, INF, True, "0.1")
    ),
    *(
        (replace(COSINE, final_fraction=bad), f"final_fraction of schedule 'cosine' must be {UNIT}, got {bad!r}")
        for bad in (-0.01, 1.01, NAN, INF, -INF, True)
    ),
    *(
        (replace(good, final_fraction=0.0), f"final_fraction of schedule '{good.family}' must be {POSITIVE}, got 0.0")
        for good in (
            STEP,
            MULTISTEP,
            Schedule("exponential"),
            Schedule("inverse_sqrt"),
            ONE_CYCLE,
        )
    ),
    *(
        (replace(STEP, drops=bad), f"drops of schedule 'step' must be {COUNT}, got {bad!r}")
        for bad in (0, -1, 1001, 2.0, True)
    ),
    *(
        (replace(MULTISTEP, milestones=bad), f"milestones of schedule 'multistep' must be {RISING}, got {bad!r}")
        for bad in ((), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (0.6, 0.5), (NAN,), (0.2, "0.5"), [0.5], 0.5)
    ),
    *(
        (
            replace(POLYNOMIAL, power=bad),
            f"power of schedule 'polynomial' must be above 0 and finite, got {bad!r}",
        )
        for bad in (0.0, -1.0, NAN, INF)
    ),
    *(
        (replace(ONE_CYCLE, rise_fraction=bad), f"rise_fraction of schedule 'one_cycle' must be {INSIDE}, got {bad!r}")
        for bad in (0.0, 1.0, NAN)
    ),
    *(
        (
            replace(ONE_CYCLE, initial_fraction=bad),
            f"initial_fraction of schedule 'one_cycle' must be {POSITIVE}, got {bad!r}",
        )
        for bad in (0.0, 1.1, NAN)
    ),
    *(
        (replace(TRIANGULAR, cycles=bad), f"cycles of schedule 'triangular' must be {COUNT}, got {bad!r}")
        for bad in (0, 1001, 1.5)
    ),
    *(
        (replace(WARM_RESTARTS, cycle_mult=bad), f"cycle_mult of schedule 'warm_restarts' must be {COUNT}, got {bad!r}")
        for bad in (0, 1001, 1.5)
    ),
    *(
        (replace(WSD, decay_fraction=bad), f"decay_fraction of schedule 'wsd' must be {POSITIVE}, got {bad!r}")
        for bad in (0.0, 1.1, NAN)
    ),
    *(
        (replace(PLATEAU, drop_factor=bad), f"drop_factor of schedule 'plateau' must be {INSIDE}, got {bad!r}")
        for bad in (0.0, 1.0, NAN)
    ),
    *(
        (
            replace(PLATEAU, patience_epochs=bad),
            f"patience_epochs of schedule 'plateau' must be a whole number, 0 or more, got {bad!r}",
        )
        for bad in (-1, 1.5)
    ),
]


@pytest.mark.parametrize(("schedule", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_bad_schedule_is_refused_with_what_must_hold_and_what_came(schedule: Schedule, sentence: str) -> None:
    for function in (validate, describe, lambda bad: factors(bad, 10)):
        with pytest.raises(StudyFileError) as caught:
            function(schedule)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("constant", warmup_fraction=0),
        replace(COSINE, final_fraction=0),
        replace(COSINE, final_fraction=1),
        replace(COSINE, final_fraction=np.float64(0.5)),
        replace(STEP, drops=1000, final_fraction=1),
        replace(ONE_CYCLE, final_fraction=5e-324, initial_fraction=1),
        replace(WARM_RESTARTS, cycles=1000, cycle_mult=1000),
        replace(POLYNOMIAL, power=1e300),
        replace(WSD, decay_fraction=1),
        replace(PLATEAU, patience_epochs=0, final_fraction=0),
    ],
    ids=name_of,
)
def test_the_ends_of_the_ranges_are_accepted_and_computed(schedule: Schedule) -> None:
    curve = factors(schedule, 100)
    assert ((curve >= 0) & (curve <= 1)).all()


@law(any_schedule, st.data())
def test_a_field_that_is_missing_or_foreign_is_named(schedule: Schedule, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([field.name for field in fields(Schedule) if field.name != "family"]))
    takes = name == "warmup_fraction" or name in RECORDS[schedule.family].takes
    value = None if takes else data.draw(OWN_FIELDS.get(name, fractions))
    with pytest.raises(StudyFileError, match=f"schedule '{schedule.family}' {'needs' if takes else 'takes'} .*{name}"):
        validate(replace(schedule, **{name: value}))


def test_the_records_cover_every_family_and_every_field_and_cannot_be_changed() -> None:
    assert tuple(RECORDS) == FAMILIES
    used = {name for record in RECORDS.values() for name in record.takes}
    assert used | {"family", "warmup_fraction"} == {field.name for field in fields(Schedule)}
    with pytest.raises(TypeError):
        RECORDS["constant"] = RECORDS["step"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        RECORDS["constant"].feedback = True  # type: ignore[misc]


DESCRIPTIONS: list[tuple[Schedule, str]] = [
    (Schedule("constant"), "constant"),
    (Schedule("constant", warmup_fraction=0.125), "constant, warm-up 12.5 %"),
    (replace(STEP, drops=1), "step to 0.01 of the peak in 1 drop"),
    (replace(STEP, warmup_fraction=0.05), "step to 0.01 of the peak in 2 drops, warm-up 5 %"),
    (MULTISTEP, "multistep to 0.01 of the peak, drops at 50 %"),
    (replace(MULTISTEP, milestones=(0.3, 0.6, 0.875)), "multistep to 0.01 of the peak, drops at 30/60/87.5 %"),
    (Schedule("exponential", final_fraction=0.0123456), "exponential to 0.0123 of the peak"),
    (Schedule("linear", final_fraction=0.0), "linear to zero"),
    (replace(COSINE, warmup_fraction=0.05), "cosine to 0.01 of the peak, warm-up 5 %"),
    (POLYNOMIAL, "polynomial of power 2 to zero"),
    (Schedule("inverse_sqrt", final_fraction=0.1), "inverse sqrt to 0.1 of the peak"),
    (ONE_CYCLE, "one cycle from 0.04 of the peak up in 30 %, then down to 0.01 of the peak"),
    (TRIANGULAR, "triangular from 0.1 of the peak, 2 cycles"),
    (replace(WARM_RESTARTS, cycle_mult=1), "warm restarts to zero, 3 cycles"),
    (WARM_RESTARTS, "warm restarts to zero, 3 cycles, each 2 times as long as the last"),
    (replace(WSD, warmup_fraction=0.02), "wsd to zero over the last 20 %, warm-up 2 %"),
    (replace(WSD, family="wsd_cosine"), "wsd cosine to zero over the last 20 %"),
    (PLATEAU, "plateau to 0.001 of the peak, times 0.1 after more than 5 epochs without progress"),
]


@pytest.mark.parametrize(("schedule", "words"), DESCRIPTIONS, ids=[words for _, words in DESCRIPTIONS])
def test_a_schedule_is_described_in_a_few_words(schedule: Schedule, words: str) -> None:
    assert describe(schedule) == words


def test_every_family_is_described() -> None:
    assert {schedule.family for schedule, _ in DESCRIPTIONS} == set(FAMILIES)


@pytest.mark.parametrize("module", [schedules, shapes], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0

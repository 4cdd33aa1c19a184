"""The safe interval: what counts as evidence, where its edges lie, and that it holds in real trainings."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trials_by_hand import of_loss, spec, trial

from lrsearch import worker
from lrsearch.analysis.diagnosis import diagnose
from lrsearch.analysis.safe_interval import SafeInterval, ZoneKind, allowed_distance, safe_interval
from lrsearch.report.zones import WIDTH, plain_axis
from lrsearch.spec.study import StudySpec
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import (
    Divergence,
    EpochMetrics,
    OptimizerConfig,
    Outcome,
    Reason,
    ScheduleConfig,
    State,
    Trial,
    TrialConfig,
)

GOOD = 0.97
"""With 200 validation images 0.035 below it is still close enough."""


def tried(*rows: tuple[float, float | None], batch_size: int = 32) -> list[Trial]:
    """Return trials as (lr, accuracy); without an accuracy it diverged."""
    made = [
        trial(i, State.DIVERGED, lr=lr) if accuracy is None else trial(i, accuracy=accuracy, lr=lr)
        for i, (lr, accuracy) in enumerate(rows)
    ]
    return [replace(t, config=replace(t.config, batch_size=batch_size)) for t in made]


def of(trials: list[Trial], **tables: Any) -> SafeInterval:
    return safe_interval(trials, spec(space={"optimizer": "sgd"}, **tables))


def swept(low: float, high: float, breaks: float = math.inf, *, n: int = 24) -> list[Trial]:
    """Return trials at ``n`` rates from 1e-4 to 10 whose truth is known: good from ``low`` to ``high``."""
    rates = np.geomspace(1e-4, 10, n)
    return tried(*((lr, None if lr >= breaks else GOOD if low <= lr <= high else 0.6) for lr in rates))


@settings(max_examples=20, deadline=None)
@given(st.floats(-3.5, -1.5), st.floats(1, 2.5), st.floats(0.5, 2))
def test_the_interval_of_a_dense_sweep_is_the_true_one_to_half_an_octave(
    begin: float, decades: float, beyond: float
) -> None:
    low, high = 10**begin, 10 ** (begin + decades)
    rates = [t.config.optimizer.peak_lr for t in swept(low, high)]
    inside = [lr for lr in rates if low <= lr <= high]
    found = of(swept(low, high, high * 10**beyond))
    assert found.low is not None
    assert found.high is not None
    # Between two rates of the sweep, 0.72 octaves apart, nobody knows.
    assert abs(math.log2(found.low / inside[0])) < 1
    assert abs(math.log2(found.high / inside[-1])) < 1
    assert found.octaves == pytest.approx(math.log2(found.high / found.low))
    assert found.centre == pytest.approx(math.sqrt(found.low * found.high))


def test_the_four_zones_of_a_dense_sweep_are_in_their_order_and_count_their_trials() -> None:
    found = of(swept(0.01, 0.3, 3.0))
    assert [zone.kind for zone in found.zones] == list(ZoneKind)
    by_kind = {zone.kind: zone for zone in found.zones}
    assert by_kind[ZoneKind.TOO_LOW].n == by_kind[ZoneKind.TOO_LOW].n_short >= 8
    assert by_kind[ZoneKind.GOOD].n_good >= 5
    assert by_kind[ZoneKind.UNSTABLE].n_short >= 3
    assert by_kind[ZoneKind.DIVERGED].n == by_kind[ZoneKind.DIVERGED].n_diverged >= 2


def test_divergence_alone_ends_the_interval_before_it() -> None:
    found = of(swept(0.01, 0.3, 0.3))
    assert found.high is not None
    assert found.high < 0.3
    assert found.zone(ZoneKind.DIVERGED) is not None
    assert 0.2 < getattr(found.zone(ZoneKind.DIVERGED), "low", 0) <= 0.4


def test_what_other_settings_have_spoilt_ends_nothing() -> None:
    rows = swept(0.003, 1.0)
    spoilt = [*rows, *(replace(t, number=100 + t.number) for t in tried((0.02, 0.7), (0.09, 0.5), (0.3, 0.7)))]
    found = of(spoilt)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.01
    assert found.high > 0.5


def test_a_larger_batch_that_was_good_at_a_larger_rate_does_not_raise_the_interval_of_a_small_one() -> None:
    small = tried(*((lr, GOOD if 0.01 <= lr <= 0.1 else 0.6) for lr in np.geomspace(1e-3, 1, 16)))
    large = tried(
        *((lr, GOOD - 0.01 if 0.16 <= lr <= 1.6 else 0.6) for lr in np.geomspace(1e-2, 10, 16)), batch_size=512
    )
    found = of([*small, *(replace(t, number=50 + t.number) for t in large)])
    assert found.high is not None
    assert found.high < 0.25


@pytest.mark.parametrize(("score", "counted"), [(0.94, "n_good"), (0.6, "n_short"), (0.91, "")])
def test_a_pruned_trial_is_held_against_those_that_ended_well_at_the_same_epoch(score: float, counted: str) -> None:
    good = [trial(i, accuracy=[0.7, 0.95, *[GOOD] * 8], lr=lr) for i, lr in enumerate((0.02, 0.04, 0.1, 0.2))]
    # What these scored later does not matter, nor what a trial that ended badly scored now.
    bad = trial(8, accuracy=[0.7, 0.1, *[0.3] * 8], lr=3.0)
    pruned = trial(9, State.PRUNED, [0.5, score], lr=0.06)
    without, found = of([*good, bad]), of([*good, bad, pruned])
    for name in ("n_good", "n_short"):
        before, after = (getattr(one.zone(ZoneKind.GOOD), name) for one in (without, found))
        assert after - before == (name == counted), name


def test_a_pruned_trial_is_not_held_against_one_that_was_still_warming_up() -> None:
    slow = ScheduleConfig("constant", warmup_fraction=0.2)
    good = [
        trial(i, accuracy=[0.1, 0.9, *[GOOD] * 8], lr=lr, schedule=slow) for i, lr in enumerate((0.02, 0.04, 0.1, 0.2))
    ]
    early, late = trial(8, State.PRUNED, [0.1], lr=0.05), trial(9, State.PRUNED, [0.1, 0.1], lr=0.06)
    zone = of([*good, early, late]).zone(ZoneKind.GOOD)
    assert zone is not None
    assert (zone.n_short, zone.n_pruned) == (1, 1)


def test_what_overflowed_in_fp16_is_no_divergence() -> None:
    rows = swept(0.01, 10.0)
    overflowed = [
        replace(t, number=60 + i, outcome=Outcome(State.DIVERGED, Reason.OVERFLOWING, None, 0, 3, 0.1))
        for i, t in enumerate(tried(*[(lr, None) for lr in (0.02, 0.05, 0.1, 0.2)]))
    ]
    assert of([*rows, *overflowed]).low == of(rows).low
    assert of([*rows, *overflowed]).high == of(rows).high


def test_of_a_loss_what_is_close_lies_above_the_best() -> None:
    losses = [(lr, 0.1 if 0.01 <= lr <= 0.3 else 0.4) for lr in np.geomspace(1e-3, 3, 16)]
    made = [of_loss(trial(i, lr=float(lr)), loss) for i, (lr, loss) in enumerate(losses)]
    found = of(made, objective={"metric": "loss"})
    assert found.floor == pytest.approx(0.1 + allowed_distance(spec(objective={"metric": "loss"}), 0.1))
    assert found.low is not None
    assert 0.003 < found.low < 0.02


def test_where_good_rates_reach_the_end_of_what_was_tried_the_interval_is_open() -> None:
    found = of(tried(*((float(lr), GOOD) for lr in np.geomspace(0.01, 1, 8))))
    assert (found.open_low, found.open_high) == (True, True)
    found = of(tried(*((lr, GOOD if lr > 0.03 else 0.5) for lr in np.geomspace(0.001, 1, 16))))
    assert (found.open_low, found.open_high) == (False, True)


def test_where_no_trial_ended_badly_above_nothing_is_called_unstable() -> None:
    rows = tried(
        *((lr, 0.4) for lr in (1e-5, 2e-5, 4e-5)), *((lr, GOOD) for lr in (3e-4, 1e-3, 2e-3, 3e-3, 6e-3, 1e-2))
    )
    spoilt = tried(*((lr, 0.7) for lr in (2e-3, 4e-3, 6e-3, 8e-3)))
    # Of this one nobody knows how it would have ended.
    undecided = replace(trial(0, State.PRUNED, [0.5], lr=0.3), metrics=())
    every = [*rows, *spoilt, undecided]
    found = of([replace(t, number=i, config=replace(t.config, seed=i)) for i, t in enumerate(every)])
    assert found.open_high
    assert [zone.kind for zone in found.zones] == [ZoneKind.TOO_LOW, ZoneKind.GOOD]


def test_the_axis_tells_the_zones_by_characters_alone() -> None:
    (found,) = diagnose(swept(0.01, 0.3, 3.0), spec(space={"optimizer": "sgd"}))
    axis, names, rates = plain_axis(found).splitlines()
    assert len(axis) == WIDTH
    assert [axis[0], axis[-1]] == ["-", "x"]
    assert "=" in axis
    assert "~" in axis
    assert axis.count("*") == 1
    for kind in ZoneKind:
        assert kind.value in names
    assert f"{found.safe.low:.3g}" in rates


@pytest.mark.parametrize(
    ("rates", "why"),
    [([0.1] * 6, "one learning rate was"), ([0.1 + i / 1000 for i in range(6)], "learning rates within 0.25 octaves")],
)
def test_rates_that_hardly_differ_are_not_called_good_and_bad(rates: list[float], why: str) -> None:
    found = of(tried(*((lr, GOOD) for lr in rates)))
    assert found.low is None
    assert found.why_none.startswith(f"only {why}")


def test_without_an_interval_there_is_no_axis() -> None:
    (found,) = diagnose(tried((0.1, 0.9)), spec(space={"optimizer": "sgd"}))
    assert plain_axis(found) == ""


# In real trainings


@cache
def digits(epochs: int) -> tuple[SerialEngine, StudySpec]:
    study = spec(epochs=epochs, space={"optimizer": "sgd"}, pruner="none")
    engine = worker.build_engine(study, device_name="cpu", threads=1, data_dir=Path(), progress=False)
    assert isinstance(engine, SerialEngine)
    return engine, study


def trained(lr: float, seed: int, number: int = 0, epochs: int = 6) -> Trial:
    engine, _ = digits(epochs)
    made = TrialConfig(
        OptimizerConfig("sgd", lr, 0.0, momentum=0.9), ScheduleConfig("cosine", 0.05, 0.001), 64, 6, seed
    )
    rows: list[EpochMetrics] = []
    outcome = None
    for told in engine.start(made).epochs():
        if isinstance(told, Divergence):
            outcome = Outcome(State.DIVERGED, told.reason, None, len(rows), told.step, told.lr)
        elif isinstance(told, EpochMetrics):
            rows.append(replace(told, comparable=True, rung_score=told.val_accuracy))
    outcome = outcome or Outcome(State.COMPLETE, Reason.FINISHED, rows[-1].val_accuracy, len(rows))
    return Trial(number, made, outcome.state, outcome, tuple(rows))


@pytest.mark.slow
def test_fresh_trainings_inside_reach_what_is_promised_and_those_outside_do_not() -> None:
    torch.set_num_threads(1)
    rates = np.geomspace(3e-4, 3, 14)
    found = safe_interval([trained(float(lr), 0, i) for i, lr in enumerate(rates)], digits(6)[1])
    assert found.low is not None
    assert found.high is not None
    assert found.octaves is not None
    assert found.floor is not None
    assert found.octaves > 3
    inside = [trained(float(lr), 100 + i) for i, lr in enumerate(np.geomspace(found.low, found.high, 14)[1:-1])]
    values = [t.outcome.value if t.outcome is not None else None for t in inside]
    assert None not in values, "one inside diverged"
    assert sum(value is not None and value >= found.floor for value in values) >= 10
    outside = [trained(found.low / 4, 200), trained(found.high * 4, 201), trained(found.high * 16, 202)]
    assert all(t.outcome is None or t.outcome.value is None or t.outcome.value < found.floor for t in outside)

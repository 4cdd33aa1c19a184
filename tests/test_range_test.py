"""What sweeps show, on curves whose three rates are planted; and sweeps of real trainings."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_spec

from lrsearch import find, worker
from lrsearch.analysis import range_bounds
from lrsearch.analysis.range_test import DESCENT, Finding, Suggestion, findings, outward, read, smoothed
from lrsearch.domain import Choice, Domain, Fixed, Range, high_end, low_end
from lrsearch.report import range_drawing
from lrsearch.report.range_figure import range_figures
from lrsearch.spec.narrowing import as_filed, narrowed
from lrsearch.spec.study import StudySpec
from lrsearch.training.range_test import EXPLODED, rising, sweep
from lrsearch.training.serial import BLOCK, SerialEngine
from lrsearch.trial import EpochMetrics, OptimizerConfig, RangeTest, ScheduleConfig, TrialConfig

RATES = rising(1e-4, 30.0, 20)
START, FLOOR = 2.3, 0.4


def planted(
    falls: float = 5e-3, climbs: float = 0.5, *, seed: int = 0, noise: float = 0.05, exploded: float = math.nan
) -> RangeTest:
    """Return a sweep whose loss falls around one rate, climbs around another, and explodes soon after that."""
    rates = np.array(RATES)
    down, up = ((1 + (at / rates) ** sharp) ** -1.0 for at, sharp in ((falls, 2.0), (climbs, 6.0)))
    losses = START - (START - FLOOR) * down + 2 * START * up
    losses += noise * np.random.default_rng(seed).standard_normal(len(rates))
    losses[rates > 4 * climbs] = exploded
    return RangeTest("sgd", seed, 64, tuple(rates.tolist()), tuple(losses.tolist()), 1.0)


def several(**given: float) -> list[RangeTest]:
    return [planted(seed=seed, **given) for seed in range(5)]


def octaves(found: float, wanted: float) -> float:
    return abs(math.log2(found / wanted))


@pytest.mark.parametrize("falls", [1e-3, 5e-3, 2e-2])
@pytest.mark.parametrize("exploded", [math.nan, math.inf, 1e30])
def test_the_rates_of_a_planted_curve_are_found_within_an_octave(falls: float, exploded: float) -> None:
    # The descent is a logistic of (rate / falls)^2: its middle, where it is steepest, is at falls.
    (found,) = findings(several(falls=falls, climbs=1.0, exploded=exploded))
    assert found.lowest_useful is not None
    assert found.steepest is not None
    assert found.divergence is not None
    assert octaves(found.lowest_useful.value, falls * math.sqrt(DESCENT / (1 - DESCENT))) < 0.75
    assert octaves(found.steepest.value, falls) < 1
    assert octaves(found.divergence.value, 1.0) < 1
    assert found.suggestion is not None
    assert found.why_none == ""
    assert found.suggestion.low <= found.lowest_useful.low < found.divergence.high <= found.suggestion.high
    for spread in (found.lowest_useful, found.steepest, found.divergence):
        assert spread.low <= spread.value <= spread.high
        assert spread.n == 5


def test_a_spike_that_recovers_is_no_divergence() -> None:
    calm = planted(noise=0.0)
    at = RATES.index(min(RATES, key=lambda rate: abs(rate - 0.05)))
    spiked = replace(calm, losses=tuple(1e6 if i in (at, at + 1) else loss for i, loss in enumerate(calm.losses)))
    assert read(spiked).divergence == read(calm).divergence
    assert read(spiked).lowest_useful == read(calm).lowest_useful


def test_a_dip_before_the_edge_is_not_taken_for_it() -> None:
    """A loss that is lost and found again is not lost for good."""
    calm = planted(noise=0.0, climbs=3.0)
    bumped = tuple(START if 0.1 < rate < 0.2 else loss for rate, loss in zip(calm.rates, calm.losses, strict=True))
    found = read(replace(calm, losses=bumped)).divergence
    assert found is not None
    assert found > 1.0


FLAT = tuple(START for _ in RATES)


@pytest.mark.parametrize(
    ("sweeps", "why"),
    [
        pytest.param(
            [RangeTest("sgd", seed, 64, RATES, FLAT, 1.0) for seed in range(5)], "fell clearly in 0 of 5", id="flat"
        ),
        pytest.param(
            [RangeTest("sgd", seed, 64, RATES[:3], (math.nan,) * 3, 1.0) for seed in range(5)],
            "fell clearly in 0 of 5",
            id="no number from the first update on",
        ),
        pytest.param(several(noise=2.0), "fell clearly in", id="noise"),
        pytest.param(several()[:2], "2 sweeps cannot tell how far seeds differ", id="too few seeds"),
        pytest.param(several(falls=1e-5), "fell clearly in", id="has fallen before the sweep begins"),
        pytest.param(several(climbs=1e9), "has not climbed back at 30", id="never climbs"),
        pytest.param(several(falls=0.5, climbs=0.6), "less than an octave", id="nothing between"),
        pytest.param(
            [planted(climbs=climbs, seed=seed) for seed, climbs in enumerate((0.1, 0.3, 1.0, 3.0, 6.0))],
            "the seeds disagree on the edge of divergence, from",
            id="seeds disagree",
        ),
        pytest.param(
            [replace(one, optimizer="rmsprop") for one in several()],
            "whole trainings with rmsprop bear rates at which its sweeps have lost their descent",
            id="an optimizer whose edge sweeps do not find",
        ),
    ],
)
def test_a_suggestion_is_withheld_and_it_is_said_why(sweeps: Sequence[RangeTest], why: str) -> None:
    (found,) = findings(sweeps)
    assert found.suggestion is None
    assert why in found.why_none


def test_a_sweep_that_falls_at_once_bounds_nothing_from_below() -> None:
    steep = [replace(one, rates=one.rates[30:], losses=one.losses[30:]) for one in several(falls=1e-3, noise=0.0)]
    (found,) = findings(steep)
    assert found.suggestion is None
    assert "the loss falls from the first updates on: rates below 0.00312 may be useful too" in found.why_none


def test_a_seed_that_begins_with_no_number_does_not_hide_the_others() -> None:
    sweeps = [*several(), replace(planted(seed=5), losses=(math.nan,) * 20, rates=RATES[:20])]
    (found,) = findings(sweeps)
    title, *lines = range_drawing.drawing(found, sweeps, 80)
    assert "loss against learning rate" in title.plain
    assert len(lines) > range_drawing.ROWS
    top = range_figures(sweeps)[0].layout["yaxis"]["range"][1]
    assert START < top < 1.5 * START
    (nothing,) = range_drawing.drawing(findings(sweeps[-1:])[0], sweeps[-1:], 80)
    assert "no numbers from the first update on" in nothing.plain
    json.dumps(range_figures(sweeps[-1:])[0].data, allow_nan=False)


def test_optimizers_are_judged_apart_and_costs_added_up() -> None:
    ours, others = several(), [replace(one, optimizer="adam", losses=FLAT) for one in several()]
    found = findings([*ours, *others])
    assert [one.name for one in found] == ["sgd", "adam"]
    assert found[0].suggestion is not None
    assert found[1].suggestion is None
    assert (found[0].n_sweeps, found[0].n_updates, found[0].seconds) == (5, 5 * len(RATES), 5.0)


def test_the_running_median_keeps_the_length_and_what_is_no_number_is_infinite() -> None:
    losses = [2.0] * 50 + [math.nan] * (len(RATES) - 50)
    found = smoothed(RATES, losses)
    assert len(found) == len(RATES)
    assert found[0] == 2.0
    assert math.isinf(found[-1])


@pytest.mark.parametrize(
    ("domain", "left"),
    [
        (Range(1e-3, 3.0, log=True), Range(0.02, 0.5, log=True)),
        (Range(0.1, 3.0, log=True), Range(0.1, 0.5, log=True)),
        (Range(0.1, 0.3), Range(0.1, 0.3)),
        (Range(0.0001, 0.01, log=True), None),
        (Range(0.01, 1.01, step=0.1), Range(0.11, 0.41, step=0.1)),
        (Range(0.1, 3.1, step=0.5), Fixed(0.1)),
        (Choice((0.01, 0.1, 0.3, 1.0)), Choice((0.1, 0.3))),
        (Choice((0.01, 0.1, 1.0)), Fixed(0.1)),
        (Choice((1.0, 2.0)), None),
        (Fixed(0.1), Fixed(0.1)),
        (Fixed(1.0), None),
    ],
)
def test_a_domain_is_narrowed_and_never_widened(domain: Domain, left: Domain | None) -> None:
    found = narrowed(domain, 0.02, 0.5)
    assert found == left
    if found is not None:
        assert low_end(domain) <= low_end(found) <= high_end(found) <= high_end(domain)


@pytest.mark.parametrize("rate", [1.0, 0.0999999, 0.1, 3e-6, 7.77e-4, 12.5])
def test_rounding_goes_outward_and_no_further_than_a_tenth(rate: float) -> None:
    low, high = outward(rate, up=False), outward(rate, up=True)
    assert low * (1 - 1e-9) <= rate <= high * (1 + 1e-9)
    assert low > 0.9 * rate
    assert high < 1.1 * rate + 1e-12


def finding(low: float, high: float, name: str = "sgd") -> Finding:
    return Finding(name, None, None, None, Suggestion(low, high), "", 5, 500, 1.0)


def test_the_rate_of_the_baseline_stays_in() -> None:
    spec = make_spec(baseline="sgd lr=1.0 constant", space={"optimizer": "sgd"})
    (found,) = find.narrowings(spec, [finding(0.02, 0.5)])
    assert found.after == Range(0.02, 1.0, log=True)


def test_rates_beside_those_of_the_study_leave_it_as_it_is() -> None:
    spec = make_spec(space={"optimizer": {"sgd": {"peak_lr": {"low": 1e-6, "high": 1e-5, "log": True}}}})
    (found,) = range_bounds.narrowings(spec, [finding(0.02, 0.5)])
    assert not found.changes
    assert "that lies outside 0.02 to 0.5" in found.why


def test_a_filed_study_is_known_again_by_rates_that_a_test_could_have_left() -> None:
    asked = make_spec(space={"optimizer": ["sgd", "adamw"]})
    filed = range_bounds.bounded(asked, range_bounds.narrowings(asked, [finding(0.02, 0.5)]))
    assert as_filed(asked, filed).identity_hash() == filed.identity_hash()
    other = make_spec(space={"optimizer": {"sgd": {"peak_lr": {"low": 0.1, "high": 0.2, "log": True}}, "adamw": {}}})
    assert as_filed(other, filed).identity_hash() == other.identity_hash()


def engine_of(**tables: object) -> tuple[SerialEngine, StudySpec]:
    spec = make_spec(**tables)
    engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=None, progress=False)
    assert isinstance(engine, SerialEngine)
    return engine, spec if spec.is_known else spec.fitted(engine.facts)


CONFIG = TrialConfig(OptimizerConfig("sgd", 0.05, momentum=0.9), ScheduleConfig("constant"), 64, 1, 0)


@pytest.mark.parametrize(
    ("tables", "more"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param({"augment": {"crop": 1}}, {}, id="augmented"),
        pytest.param({"space": {"stem_ratio": 0.1}, "model": {"name": "cnn"}}, {"stem_ratio": 0.1}, id="by level"),
    ],
)
def test_an_update_of_a_sweep_is_one_of_a_training(tables: dict[str, object], more: dict[str, float]) -> None:
    engine, _ = engine_of(**tables)
    config = replace(CONFIG, **more)
    (epoch,) = (told for told in engine.start(config).epochs() if isinstance(told, EpochMetrics))
    blocks = list(engine.start(config).losses_at([0.05] * epoch.step))
    assert [len(block) for block in blocks] == [BLOCK] * (epoch.step // BLOCK) + [epoch.step % BLOCK]
    assert np.mean(np.concatenate(blocks)) == pytest.approx(epoch.train_loss, rel=1e-12)


def test_a_sweep_passes_the_end_of_an_epoch() -> None:
    engine, _ = engine_of()
    n = 2 * engine.start(CONFIG).steps_per_epoch + 3
    assert sum(map(len, engine.start(CONFIG).losses_at([1e-6] * n))) == n


def test_a_sweep_leaves_nothing_behind_and_repeats_bit_for_bit() -> None:
    engine, _ = engine_of()
    before = engine.start(CONFIG).weights()
    first, second = (sweep(engine, CONFIG, rising(1e-3, 100.0, 20)) for _ in range(2))
    assert first.losses == second.losses
    assert engine.start(CONFIG).weights() == before


def test_a_sweep_ends_where_the_loss_has_exploded() -> None:
    engine, _ = engine_of()
    rates = rising(1e-3, 1e9, 20)
    found = sweep(engine, CONFIG, rates)
    assert len(found.losses) == len(found.rates) < len(rates)
    last = found.losses[-BLOCK:]
    assert not all(map(math.isfinite, last)) or min(last) > EXPLODED * found.losses[0]


def test_a_setting_is_one_of_the_study_for_each_optimizer() -> None:
    spec = make_spec(space={"optimizer": ["sgd", "rmsprop"], "batch_size": [16, 256], "schedule": "plateau"})
    for optimizer in ("sgd", "rmsprop"):
        config = find.setting(spec, optimizer, find.SweepPlan())
        assert config.optimizer.name == optimizer
        assert config.batch_size == 16
        assert config.schedule.family == "constant"
    assert find.setting(spec, "sgd", find.SweepPlan(batch_size=128)).batch_size == 128


@pytest.mark.parametrize(
    ("peak_lr", "ends"),
    [
        (None, (1e-3, 30.0)),
        (0.1, (1e-3, 30.0)),
        ({"low": 1e-6, "high": 0.1, "log": True}, (1e-6, 30.0)),
        ([1e-4, 100.0], (1e-4, 1000.0)),
    ],
)
def test_a_sweep_goes_beyond_what_is_searched(peak_lr: object, ends: tuple[float, float]) -> None:
    tables = {} if peak_lr is None else {"peak_lr": peak_lr}
    assert find.ends(make_spec(space={"optimizer": {"sgd": tables}}), "sgd") == pytest.approx(ends)


def test_sweeps_begin_lower_where_the_first_falls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, spec = engine_of(space={"optimizer": "sgd"}, dataset={"name": "digits"})
    monkeypatch.setattr(find, "ends", lambda _spec, _optimizer: (0.02, 30.0))
    first, second = find.sweeps(spec, engine, find.SweepPlan(n_seeds=2))
    assert first.rates[0] == second.rates[0] == pytest.approx(0.002)
    assert read(first).lowest_useful is not None
    assert first.seconds > second.seconds / 2


def test_digits_are_bounded_around_the_rates_that_train_them_best() -> None:
    """The best rates of dense sweeps: docs/benchmarks.md."""
    engine, spec = engine_of(space={"optimizer": ["sgd", "adam"]}, dataset={"name": "digits"})
    found = {one.name: one for one in findings(list(find.sweeps(spec, engine, find.SweepPlan(n_seeds=3))))}
    for name, best in (("sgd", 0.083), ("adam", 0.014)):
        bounds = found[name].suggestion
        assert bounds is not None, found[name].why_none
        assert bounds.low < best < bounds.high
        assert math.log2(bounds.high / bounds.low) < 7


def test_whole_trainings_fail_beyond_the_edge_of_divergence_and_not_below_it() -> None:
    """Within a factor of 3, as docs/benchmarks.md has it of sgd and adam on digits; a rate's trainings of 3 seeds."""
    engine, spec = engine_of(space={"optimizer": ["sgd", "adam"]}, dataset={"name": "digits"})
    half_way = 0.55  # from guessing, .1, to what digits can be told apart by, .97 or more

    def failing(config: TrialConfig, peak_lr: float) -> int:
        optimizer, schedule = replace(config.optimizer, peak_lr=peak_lr), ScheduleConfig("linear", final_fraction=0.0)
        config = replace(config, optimizer=optimizer, schedule=schedule, epochs=10)
        ends = [list(engine.start(replace(config, seed=seed)).epochs())[-1] for seed in range(3)]
        return sum(not isinstance(end, EpochMetrics) or end.val_accuracy < half_way for end in ends)

    for one in findings(list(find.sweeps(spec, engine, find.SweepPlan(n_seeds=3)))):
        assert one.divergence is not None
        config = find.setting(spec, one.name, find.SweepPlan())
        assert failing(config, one.divergence.value / 3) == 0, one.name
        assert failing(config, one.divergence.value * 3) >= 2, one.name

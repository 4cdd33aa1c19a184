"""What the trials say: observations in words, verdicts, and what was too high and too low."""

import json
import math
import random
from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials_by_hand import EPOCHS, STEPS, config, epoch, spec, trial

from lrsearch.analysis.diagnosis import OptimizerDiagnosis, diagnose, sentences
from lrsearch.analysis.edges import edge
from lrsearch.analysis.observations import observe
from lrsearch.analysis.precision import accuracy_error, tolerance
from lrsearch.analysis.safe_interval import Zone, ZoneKind
from lrsearch.domain import Choice, Domain, Fixed, Range, contains
from lrsearch.spec import file as study_file
from lrsearch.spec.bounds import touched
from lrsearch.training import data
from lrsearch.trial import Reason, ScheduleConfig, State, Trial

NAN, INF = math.nan, math.inf


# Observations


def observed(
    *rows: tuple[float, float, float] | tuple[float, float, float, float],
    schedule: ScheduleConfig | None = None,
    state: State = State.COMPLETE,
    epochs: int = EPOCHS,
) -> list[str]:
    """Observe epochs given as (train loss, validation loss, accuracy[, lr])."""
    metrics = tuple(epoch(i, *row) for i, row in enumerate(rows, 1))
    made = Trial(0, config(0.1, schedule=schedule, epochs=epochs), state, None, metrics)
    return observe(made, 10)


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (0.10, "loss high, accuracy near chance (0.1): just started learning"),
        (0.149, "loss high, accuracy near chance (0.1): just started learning"),
        (0.16, "just started learning: above chance (0.1), loss still high"),
        (0.49, "just started learning: above chance (0.1), loss still high"),
        (0.5, "a good start: 5.0 times chance"),
        (0.85, "a strong start: most images right after one epoch"),
    ],
)
def test_the_first_epoch_is_judged_against_chance(accuracy: float, said: str) -> None:
    assert observed((2.0, 2.0, accuracy)) == [said]


def test_a_first_epoch_that_exploded_and_came_back_is_said() -> None:
    assert observed((1295.0, 1.2, 0.6)) == ["loss exploded (mean 1.3e+03, 5.6e+02 times a guess's) and came back"]
    assert observed((90.0, 90.0, 0.1)) == ["loss far above that of a guess (2.3): the learning rate is too high"]


def test_chance_depends_on_the_number_of_classes() -> None:
    made = Trial(0, config(), State.COMPLETE, None, (epoch(1, accuracy=0.4),))
    assert observe(made, n_classes=2) == ["loss high, accuracy near chance (0.5): just started learning"]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ((1.0, 1.0, 0.6), (0.4, 0.5, 0.8), "fast progress: training loss more than halved"),
        ((1.0, 1.0, 0.6), (0.65, 0.7, 0.8), "fast progress: loss down 35 %"),
        ((1.0, 1.0, 0.6), (0.65, 0.7, 0.6), "training loss down 35 %, accuracy unchanged"),
        ((1.0, 1.0, 0.6), (0.65, 0.7, 0.5), "training loss down 35 %, accuracy slipped"),
        ((1.0, 1.0, 0.6), (0.85, 0.9, 0.7), "loss fell, accuracy rose"),
        ((1.0, 1.0, 0.6), (0.85, 0.9, 0.6), "loss fell, accuracy unchanged"),
        ((1.0, 1.0, 0.6), (0.96, 1.0, 0.6), "slow progress: loss hardly moves"),
        ((1.0, 1.0, 0.6), (1.0, 1.0, 0.6), "no progress: loss stands still"),
        ((0.20, 0.2, 0.95), (0.19, 0.2, 0.95), "converging nicely"),
        ((0.20, 0.2, 0.95, 0.02), (0.19, 0.2, 0.95, 0.01), "converging nicely: small steps at a small learning rate"),
        ((1.00, 1.0, 0.5, 0.02), (0.99, 1.0, 0.5, 0.01), "little moves: learning rate annealed"),
        ((0.30, 0.4, 0.9), (0.25, 0.5, 0.9), "validation loss rose 25 % while training loss fell: a bounce"),
        ((0.50, 0.3, 0.9), (0.48, 0.36, 0.9), "validation loss bounced up 20 %, training loss fell"),
        ((0.30, 0.4, 0.9), (0.25, 0.5, 0.91), "validation loss rose 25 %, yet more images are right"),
        ((1.0, 1.0, 0.6), (1.2, 1.0, 0.6), "training loss rose 20 %: the learning rate may be too high"),
        ((1.0, 1.0, 0.6), (5.4, 1.0, 0.6), "training loss rose to 5.4 times: the learning rate is too high"),
        ((1.0, 1.0, 0.6, 0.1), (1.2, 1.0, 0.6, 0.2), "training loss rose 20 % as the learning rate rose"),
        ((0.01, 1.0, 0.6), (1.1, 1.0, 0.6), "training loss rose to 100 times and more: the learning rate is too high"),
        ((1.0, 1.0, 0.6), (673.0, 1.0, 0.7), "loss exploded (mean 673, 2.9e+02 times a guess's) and came back"),
        (
            (1.0, 1.0, 0.6),
            (1e9, 2.3, 0.1),
            "loss exploded (mean 1e+09, 4.3e+08 times a guess's) and came back to chance",
        ),
        # Accuracy is looked at too: what hardly moves the loss may be most of the way.
        ((1.0, 1.0, 0.565), (0.96, 1.0, 0.745), "accuracy rose from 0.565 to 0.745, loss fell 4 %"),
        ((1.0, 1.0, 0.565), (0.99, 1.0, 0.745), "accuracy rose from 0.565 to 0.745, loss hardly moved"),
        ((1.0, 1.0, 0.7), (1.05, 1.0, 0.6), "accuracy fell from 0.700 to 0.600, loss rose 5 %"),
        ((1.0, 1.0, 0.6, 0.02), (0.99, 1.0, 0.7, 0.01), "accuracy rose from 0.600 to 0.700, loss hardly moved"),
        ((2.3, 2.3, 0.1), (2.3, 2.3, 0.1), "still near chance: the learning rate is too low"),
        ((2.3, 2.3, 0.1, 0.01), (2.3, 2.3, 0.1, 0.02), "still near chance: the learning rate is low yet"),
        ((90.0, 2.3, 0.1), (2.3, 2.3, 0.1), "still at chance: the learning rate has been too high"),
        ((1.0, 1.0, 0.6), (2.3, 2.3, 0.1), "fell back to chance: the learning rate is too high"),
        ((1.0, 1.0, 0.6), (NAN, 1.0, 0.1), "the loss is no number any more: training broke down"),
        ((1.0, 1.0, 0.6), (1.0, INF, 0.1), "the loss is no number any more: training broke down"),
        ((NAN, NAN, NAN), (1.0, 1.0, 0.6), "the loss is a number again"),
    ],
)
def test_an_epoch_is_compared_with_the_one_before(
    before: tuple[float, float, float], now: tuple[float, float, float], said: str
) -> None:
    assert observed(before, now)[1].startswith(said)


def test_a_second_rise_of_the_validation_loss_is_overfitting() -> None:
    words = observed((0.5, 0.5, 0.9), (0.3, 0.40, 0.93), (0.2, 0.44, 0.92), (0.1, 0.50, 0.92))
    assert "overfitting begins" in words[2]
    assert words[3].startswith("overfitting: validation loss 25 % above its lowest, training loss falls")


def test_a_second_rise_of_the_training_loss_is_a_bounce() -> None:
    words = observed((1.0, 1.0, 0.6), (1.5, 1.0, 0.6), (1.0, 1.0, 0.6), (1.5, 1.0, 0.6))
    assert words[3].startswith("loss bounces (rose 50 %): the learning rate is near too high")


@pytest.mark.parametrize(
    ("warmup", "said"),
    [(0.0, ["", ""]), (0.04, ["", ""]), (0.1, ["warm-up over", ""]), (0.2, ["warm-up under way", "warm-up over"])],
)
def test_warm_up_is_said_where_it_fills_at_least_half_the_epoch(warmup: float, said: list[str]) -> None:
    words = observed((1.0, 1.0, 0.6), (0.9, 0.9, 0.6), schedule=ScheduleConfig("constant", warmup))
    assert [word.partition("; ")[2].removesuffix("best epoch").strip("; ") for word in words] == said


def test_a_drop_of_the_learning_rate_is_said_for_the_families_that_drop() -> None:
    rows = (1.0, 1.0, 0.6, 0.1), (0.9, 0.9, 0.6, 0.01)
    step = ScheduleConfig("step", final_fraction=0.1, drops=1)
    assert "learning rate dropped to 0.01" in observed(*rows, schedule=step)[1]
    assert "dropped" not in observed(*rows, schedule=ScheduleConfig("cosine", final_fraction=0.1))[1]


def test_a_restart_is_said() -> None:
    restarts = ScheduleConfig("warm_restarts", final_fraction=0.01, cycles=2, cycle_mult=1)
    rows = (1.0, 1.0, 0.6, 0.1), (0.9, 0.9, 0.6, 0.01), (0.95, 0.9, 0.6, 0.1)
    assert "learning rate restarted" in observed(*rows, schedule=restarts)[2]


@pytest.mark.parametrize(("state", "said"), [(State.COMPLETE, "best epoch"), (State.RUNNING, "best epoch so far")])
def test_one_epoch_is_the_best_and_of_equals_the_one_with_the_lower_loss(state: State, said: str) -> None:
    words = observed((1.0, 1.0, 0.6), (0.9, 0.9, 0.7), (0.8, 0.8, 0.7), (0.7, 0.7, 0.65), state=state)
    assert [i for i, word in enumerate(words) if "best epoch" in word] == [2]
    assert words[2].endswith(said)


def test_nothing_is_the_best_epoch_where_nothing_is_learned() -> None:
    assert not any("best" in word for word in observed((2.3, 2.3, 0.1), (2.3, 2.3, 0.12)))


def test_a_trial_without_epochs_has_no_observations() -> None:
    assert observe(trial(0, State.DIVERGED), 10) == []


numbers = st.one_of(st.floats(0, 1e12), st.just(NAN), st.just(INF))


@given(st.lists(st.tuples(numbers, numbers, st.floats(0, 1) | st.just(NAN), st.floats(1e-9, 1e6)), max_size=12))
def test_whatever_was_measured_every_epoch_has_one_observation(rows: list[tuple[float, float, float, float]]) -> None:
    words = observed(*rows)
    assert len(words) == len(rows)
    assert all(word and word[0] != ";" and "nan" not in word for word in words)


# Precision


@pytest.mark.parametrize(
    ("accuracy", "n", "error"), [(0.5, 200, 0.0353), (0.97, 200, 0.0125), (1.0, 200, 0.0035), (0.9, 10_000, 0.0030)]
)
def test_the_standard_error_is_binomial_and_never_zero(accuracy: float, n: int, error: float) -> None:
    assert accuracy_error(accuracy, n) == pytest.approx(error, abs=5e-5)
    assert accuracy_error(accuracy, n) == pytest.approx(
        math.sqrt(accuracy * (1 - accuracy) / n), abs=0.25 / math.sqrt(n)
    )


def test_a_study_knows_how_many_images_it_is_judged_on() -> None:
    splits = data.load(data.DataConfig(), None)
    assert spec().facts.n_validation == len(splits.validation.labels)
    assert spec().facts.n_test == len(splits.test.labels)
    assert spec(dataset={"name": "mnist", "limit": 1000, "validation_fraction": 0.3}).facts.n_validation == 300


@pytest.mark.parametrize(
    ("metric", "best", "score", "close", "far"),
    [
        ("accuracy", 0.97, 0.97, True, False),
        ("accuracy", 0.97, 0.96, True, False),
        ("accuracy", 0.97, 0.955, False, False),
        ("accuracy", 0.97, 0.93, False, True),
        ("accuracy", 0.97, NAN, False, True),
        ("accuracy", 0.97, 0.99, True, False),
        ("loss", 0.10, 0.11, True, False),
        ("loss", 0.10, 0.12, False, False),
        ("loss", 0.10, 0.21, False, True),
        ("loss", 0.10, INF, False, True),
        ("loss", 0.0, 0.0, True, False),
    ],
)
def test_close_is_one_standard_error_or_a_tenth_of_the_loss(
    metric: str, best: float, score: float, *, close: bool, far: bool
) -> None:
    within = tolerance(spec(objective={"metric": metric}))
    assert (within.is_close(score, best), within.is_far(score, best)) == (close, far)


# Diagnosis


def one(trials: list[Trial], **tables: object) -> OptimizerDiagnosis:
    study = spec(space={"optimizer": "sgd"}, **tables)
    (found,) = diagnose(trials, study)
    return found


def line(*rows: tuple[float, float | None]) -> list[Trial]:
    """Return trials as (lr, accuracy); without an accuracy it diverged."""
    return [
        trial(i, State.DIVERGED, lr=lr) if accuracy is None else trial(i, accuracy=accuracy, lr=lr)
        for i, (lr, accuracy) in enumerate(rows)
    ]


def overflowing(number: int, lr: float) -> Trial:
    made = trial(number, State.DIVERGED, lr=lr)
    assert made.outcome is not None
    return replace(made, outcome=replace(made.outcome, reason=Reason.OVERFLOWING))


TYPICAL = line(
    (0.001, 0.3), (0.003, 0.6), (0.01, 0.94), (0.03, 0.96), (0.1, 0.97), (0.3, 0.94), (1.0, 0.5), (2.0, None)
)


def test_what_overflowed_in_fp16_is_no_evidence_of_a_rate() -> None:
    overflowed = [overflowing(8 + i, lr) for i, lr in enumerate((2.0, 3.0, 5.0))]
    found = one([*line((0.03, 0.96), (0.1, 0.97), (0.3, 0.94)), *overflowed])
    assert (found.safe.zone(ZoneKind.DIVERGED), found.n_overflowing) == (None, 3)
    said = sentences(found)
    assert "3 trials overflowed in fp16, which says nothing of the learning rate" in said[1]
    assert not any("diverged" in one.lower() for one in said if "Safe" not in one)
    # All of them: nothing says that the range should begin lower.
    assert one(overflowed).edges == ()
    assert one(line((2.0, None), (3.0, None), (5.0, None))).edges
    assert not any("learning rate" in said for said in observe(replace(overflowed[0], metrics=TYPICAL[0].metrics), 10))


def test_the_typical_search_has_a_safe_interval_with_zones_around_it() -> None:
    found = one([*TYPICAL, trial(8, accuracy=0.96, lr=0.05), trial(9, accuracy=0.95, lr=0.15)])
    assert (found.best_lr, found.best_value, found.best_number) == (0.1, 0.97, 4)
    assert found.edges == ()
    best, safe, *zones = sentences(found)
    assert best == "Best accuracy 0.97 at lr 0.1 (trial 4)."
    assert safe.startswith("Safe from lr 0.0")
    assert "at most 0.035 below the best (accuracy 0.935 or more), diverging with a probability of at most 5 %." in safe
    assert found.safe.low is not None
    assert found.safe.high is not None
    assert 0.003 < found.safe.low <= 0.01
    assert 0.15 <= found.safe.high < 1.0
    assert [text.split()[0] for text in zones] == ["Too", "Unstable", "Diverged"]


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([], "No trial yet."),
        (TYPICAL[:4], "No safe interval: 4 finished, 5 are needed."),
        ([*TYPICAL[:1], *line(*[(1.0, None)] * 6)], "No safe interval: 1 complete, 2 are needed."),
        ([*TYPICAL[:3], *line(*[(1.0, None)] * 6)], "No safe interval: 1 close to the best, 3 are needed."),
        ([trial(0, State.FAILED), trial(1, State.RUNNING)], "No safe interval: no trial was trained through."),
    ],
)
def test_with_too_few_trials_no_interval_is_claimed(trials: list[Trial], said: str) -> None:
    made = [replace(t, number=i, config=replace(t.config, seed=i)) for i, t in enumerate(trials)]
    found = one(made)
    assert found.safe.low is None
    assert said in sentences(found)


def test_a_zone_whose_trials_ended_well_is_not_said_to_hold_none_that_did() -> None:
    found = one(TYPICAL)
    zone = Zone(ZoneKind.UNSTABLE, 0.5, 1.0, n=2, n_good=2, n_short=0, n_pruned=0, n_diverged=0)
    said = sentences(replace(found, safe=replace(found.safe, zones=(zone,))))
    assert "Unstable from lr 0.5, by the trials around: of 2 trials there none ended badly." in said


def test_where_everything_diverged_the_space_lies_too_high() -> None:
    found = one(line((0.5, None), (1.0, None), (3.0, None)), objective={"metric": "loss"})
    assert found.best_value is None
    text = " ".join(sentences(found))
    assert "No complete trial (3 diverged)." in text
    assert "Diverged from lr 0.5: all 3 trials diverged." in text
    assert "--set 'space.optimizer.sgd.peak_lr={low=0.0001,high=3,log=true}'" in text


def test_a_rate_that_was_tried_twice_and_once_did_not_diverge_is_not_among_those_that_always_do() -> None:
    found = one([*line((0.01, 0.9), (1.0, None), (2.0, None)), trial(9, lr=1.0, accuracy=0.9)])
    zone = found.safe.zone(ZoneKind.DIVERGED)
    assert zone is not None
    assert (zone.low, zone.n, zone.n_diverged) == (2.0, 1, 1)


def test_a_best_trial_at_the_edge_of_the_space_asks_to_widen_it() -> None:
    rows = line((0.01, 0.3), (0.1, 0.8), (0.3, 0.9), (1.0, 0.95), (2.9, 0.97))
    found = one(rows)
    assert [e.side for e in found.edges] == ["upper"]
    assert sentences(found)[-1] == (
        "The best trial touches the upper edge of the search space (lr 3): widen it, as a study of its own: --name NEW "
        "--set 'space.optimizer.sgd.peak_lr={low=0.001,high=30,log=true}'"
    )


def test_divergence_above_the_best_trial_is_evidence_even_at_the_edge() -> None:
    rows = line((0.01, 0.3), (0.1, 0.8), (0.3, 0.9), (2.8, 0.97), (2.9, None))
    assert one(rows).edges == ()


def test_a_good_trial_at_the_edge_is_none_to_widen_it_for_where_the_best_lies_within() -> None:
    rows = line((0.01, 0.3), (0.1, 0.8), (0.3, 0.97), (1.0, 0.95), (2.9, 0.965))
    assert one(rows).edges == ()


@pytest.mark.parametrize("file", ["", "[space.optimizer.sgd]\nmomentum = 0.8\n[space.optimizer.adamw]\nbeta1 = 0.8\n"])
def test_what_is_said_to_widen_the_space_does_widen_it_and_keeps_the_other_optimizers(
    file: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "mine.toml")
    Path(path).write_text(file, encoding="utf-8")
    before = study_file.load(path)
    made = [
        replace(t, config=replace(config(t.config.optimizer.peak_lr), seed=t.number)) for t in line(*[(2.9, 0.97)] * 5)
    ]
    found = diagnose(made, before)[0]
    wider = study_file.load(path, [study_file.parse_override(text) for text in found.edges[0].overrides])
    assert list(wider.space.optimizers) == list(before.space.optimizers)
    assert wider.space.optimizers["sgd"] | {"peak_lr": None} == before.space.optimizers["sgd"] | {"peak_lr": None}
    assert wider.space.optimizers["sgd"]["peak_lr"] == Range(0.001, 30.0, log=True)
    assert wider.space.optimizers["adamw"] == before.space.optimizers["adamw"]


@pytest.mark.parametrize(
    ("domain", "side", "value", "outside"),
    [
        ("{ low = 0.01, high = 1.0, log = true }", "upper", 9.9, 11.0),
        ("{ low = 0.01, high = 1.0, log = true }", "lower", 0.0011, 0.0009),
        ("{ low = 0.1, high = 0.5 }", "upper", 0.89, 0.91),
        ("{ low = 0.1, high = 0.5 }", "lower", 0.011, 0.009),
        ("{ low = 0.4, high = 0.5 }", "lower", 0.31, 0.29),
        ("{ low = 0.1, high = 0.5, step = 0.1 }", "upper", 0.9, 1.0),
        ("{ low = 0.3, high = 0.5, step = 0.1 }", "lower", 0.1, 0.05),
        ("{ low = 100.0, high = 500_000.0, log = true }", "upper", 1e6, 2e6),
        ("[0.1, 0.3]", "upper", 0.9, 1.0),
        ("[0.1, 0.3]", "lower", 0.03333, 0.01),
        ("[0.001, 1.0]", "upper", 10.0, 1000.0),
    ],
)
def test_an_edge_moves_outwards_and_stays_a_learning_rate(domain: str, side: str, value: float, outside: float) -> None:
    override = study_file.parse_override(f"space.optimizer.sgd.peak_lr={domain}")
    found = edge(study_file.load("digits", [override]), "sgd", side)  # type: ignore[arg-type]
    assert found is not None
    wider = study_file.load("digits", [study_file.parse_override(text) for text in found.overrides])
    after = wider.space.optimizers["sgd"]["peak_lr"]
    assert contains(after, value)
    assert not contains(after, outside)


@pytest.mark.parametrize(
    ("domain", "low", "high", "sides"),
    [
        (Fixed(0.1), 0.1, 0.1, ()),
        (Choice((0.1, 0.2, 0.3)), 0.1, 0.2, ("lower",)),
        (Choice((0.1, 0.2, 0.3)), 0.2, 0.2, ()),
        (Range(0.0, 1.0), 0.04, 0.96, ("lower", "upper")),
        (Range(0.0, 1.0), 0.06, 0.94, ()),
        (Range(0.001, 1.0, log=True), 0.0014, 0.70, ("lower",)),
    ],
)
def test_an_edge_is_the_last_twentieth_of_the_axis(
    domain: Domain, low: float, high: float, sides: tuple[str, ...]
) -> None:
    assert touched(domain, low, high) == sides


def test_every_optimizer_of_the_space_is_diagnosed_also_without_trials() -> None:
    found = diagnose([trial(0, optimizer="adamw", lr=0.01)], spec())
    assert [(d.optimizer, d.n_finished) for d in found] == [("sgd", 0), ("adamw", 1)]


def test_the_order_of_the_trials_does_not_matter() -> None:
    found = one(TYPICAL[:5])
    assert all(one(list(order)) == found for order in permutations(TYPICAL[:5]))


@given(
    st.lists(st.tuples(st.sampled_from([0.002, 0.01, 0.05, 0.2, 1.0, 2.5]), st.none() | st.floats(0, 1)), max_size=14),
    st.randoms(use_true_random=False),
)
def test_a_safe_interval_lies_within_what_was_tried_and_its_zones_do_not_overlap(
    rows: list[tuple[float, float | None]], shuffled: random.Random
) -> None:
    made = line(*rows)
    shuffled.shuffle(made)
    found = one(made)
    safe = found.safe
    if safe.low is not None:
        assert safe.high is not None
        assert found.tried_low is not None
        assert found.tried_high is not None
        assert found.tried_low * 0.999 <= safe.low <= safe.high <= found.tried_high * 1.001
        assert found.learned
        assert not (safe.open_low and safe.zone(ZoneKind.TOO_LOW))
        assert not (safe.open_high and (safe.zone(ZoneKind.UNSTABLE) or safe.zone(ZoneKind.DIVERGED)))
    ends = [rate for zone in safe.zones for rate in (zone.low, zone.high)]
    assert ends == sorted(ends)
    assert not any("nan" in text or "None" in text for text in sentences(found))
    json.dumps(asdict(found), allow_nan=False)


def test_steps_by_hand_are_those_of_the_study() -> None:
    assert spec().steps_per_epoch(32) == STEPS

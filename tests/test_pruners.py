"""Pruners: decision by decision what Optuna's decide, but fair to trials that warm up and to the last epoch."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
from conftest import make_spec
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner

from lrsearch.schedules import comparable_from
from lrsearch.spec.deciding import HyperbandSpec
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.judge import asha, gradual, judge, median
from lrsearch.strategy.view import Judgement, Reached, RungRow
from lrsearch.trial import ScheduleConfig, ScheduleFamily

EPOCHS = 9


def pruned(
    spec: StudySpec, epoch: int, own: Sequence[float], others: Sequence[RungRow], n_complete: int, number: int = 0
) -> bool:
    """Whether a trial whose rise is over is pruned at an epoch."""
    return judge(Reached(spec, epoch, True, None, own, others, n_complete, number)).fate == "prune"


@dataclass
class Told:
    """A trial of the history: its scores by epoch so far, and whether it was trained through."""

    scores: list[float]
    complete: bool = False


def spec_of(pruner: dict[str, Any], metric: str) -> StudySpec:
    return make_spec(epochs=EPOCHS, pruner=pruner, objective={"metric": metric})


def ours(spec: StudySpec, epoch: int, trial: Told, history: Sequence[Told]) -> bool:
    """Ask our pruner about ``trial``, which has just been scored at ``epoch``."""
    others = [
        RungRow(t.scores[epoch - 1], complete=t.complete, comparable=True, number=number)
        for number, t in enumerate(history)
        if t is not trial and len(t.scores) >= epoch
    ]
    number = next(number for number, t in enumerate(history) if t is trial)
    return pruned(spec, epoch, trial.scores, others, sum(t.complete for t in history), number)


def disagreements(spec: StudySpec, pruner: BasePruner, curves: Sequence[Sequence[float]], order: random.Random) -> int:
    """Run a real Optuna study on the curves, trials interleaved; return how many decisions of ours are others.

    Every trial that both would prune is pruned; where only one would, Optuna's word holds.
    """
    # Of this name Optuna's Hyperband has a trial in the bracket that ours has it in.
    study = optuna.create_study(direction=spec.metric.direction, pruner=pruner, study_name=str(spec.seed))
    waiting = list(curves)
    running: list[tuple[optuna.Trial, Told, Sequence[float]]] = []
    history: list[Told] = []
    wrong = 0
    while waiting or running:
        if waiting and (not running or order.random() < 0.3):
            told = Told([])
            history.append(told)
            running.append((study.ask(), told, waiting.pop()))
        asked, told, curve = entry = order.choice(running)
        epoch = len(told.scores) + 1
        told.scores.append(curve[epoch - 1])
        asked.report(curve[epoch - 1], epoch)
        last = epoch == spec.epochs
        theirs = asked.should_prune()
        wrong += ours(spec, epoch, told, history) != (theirs and not last)
        if theirs and not last:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            running.remove(entry)
        elif last:
            told.complete = True
            study.tell(asked, curve[-1] if not math.isnan(curve[-1]) else 0.0)
            running.remove(entry)
    return wrong


METRICS = st.sampled_from(["accuracy", "loss"])
SEEDS = range(12)


def drawn(seed: int, oddities: Sequence[float]) -> tuple[list[list[float]], random.Random]:
    """Return twenty curves with ties and oddities among them, and the order in which their trials take turns."""
    order = random.Random(seed)

    def score() -> float:
        kind = order.random()
        return order.choice(oddities) if kind < 0.08 else round(order.random(), 1 if kind < 0.5 else 9)

    return [[score() for _ in range(EPOCHS)] for _ in range(20)], order


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("settings", [(1, 2, 0), (1, 3, 0), (2, 2, 0), (4, 2, 0), (1, 2, 1), (1, 2, 2), (3, 5, 0)])
def test_asha_decides_as_optunas_successive_halving(settings: tuple[int, int, int], metric: str) -> None:
    least, factor, rate = settings
    spec = spec_of(
        {"name": "asha", "min_resource": least, "reduction_factor": factor, "min_early_stopping_rate": rate}, metric
    )
    for seed in SEEDS:
        pruner = SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor, min_early_stopping_rate=rate)
        assert disagreements(spec, pruner, *drawn(seed, [math.nan, math.inf])) == 0, seed


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize(
    "settings",
    [(5, 0, 1, 1), (0, 0, 1, 1), (1, 0, 2, 1), (0, 0, 4, 1), (2, 3, 1, 1), (0, 1, 3, 1), (0, 2, 2, 2), (0, 0, 1, 5)],
)
@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")  # Optuna's own, where no complete trial has a score
def test_median_decides_as_optunas_median_pruner(settings: tuple[int, int, int, int], metric: str) -> None:
    startup, warmup, interval, least = settings
    spec = spec_of(
        {
            "name": "median",
            "n_startup_trials": startup,
            "n_warmup_steps": warmup,
            "interval_steps": interval,
            "n_min_trials": least,
        },
        metric,
    )
    for seed in SEEDS:
        pruner = MedianPruner(startup, warmup, interval, n_min_trials=least)
        assert disagreements(spec, pruner, *drawn(seed, [math.nan])) == 0, seed


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("settings", [(1, 3), (1, 2), (2, 2), (3, 4), (9, 3)])
def test_hyperband_decides_as_optunas(settings: tuple[int, int], metric: str) -> None:
    least, factor = settings
    spec = spec_of({"name": "hyperband", "min_resource": least, "reduction_factor": factor}, metric)
    for seed in SEEDS:
        pruner = HyperbandPruner(min_resource=least, max_resource=EPOCHS, reduction_factor=factor)
        assert disagreements(spec, pruner, *drawn(seed, [math.nan, math.inf])) == 0, seed


@pytest.mark.parametrize(("least", "factor", "epochs"), [(1, 3, 9), (1, 3, 10), (1, 2, 16), (2, 4, 100), (5, 3, 4)])
def test_the_brackets_of_hyperband_are_optunas(least: int, factor: int, epochs: int) -> None:
    ours = HyperbandSpec(min_resource=least, reduction_factor=factor)
    study = optuna.create_study(study_name="7")
    theirs = HyperbandPruner(min_resource=least, max_resource=max(epochs, least), reduction_factor=factor)
    theirs._try_initialization(study)
    shares = tuple(theirs._calculate_trial_allocation_budget(i) for i in range(theirs._n_brackets or 0))
    assert ours.shares(epochs) == (shares if least <= epochs else ())
    for number in range(200 if least <= epochs else 0):
        frozen = optuna.trial.create_trial(value=0.0)
        frozen.number = number
        assert ours.bracket(7, number, epochs) == theirs._get_bracket_id(study, frozen)


def test_hyperband_compares_a_trial_with_those_of_its_bracket_alone() -> None:
    spec = make_spec(epochs=EPOCHS, pruner={"name": "hyperband"})
    pruner = spec.pruner
    assert isinstance(pruner, HyperbandSpec)
    bracket = [pruner.bracket(spec.seed, number, EPOCHS) for number in range(40)]
    mine = bracket.index(0)
    others = [n for n in range(40) if bracket[n] != 0]
    strangers = [RungRow(0.9, complete=False, comparable=True, number=n) for n in others]
    fellows = [
        RungRow(0.9, complete=False, comparable=True, number=n) for n in range(40) if bracket[n] == 0 and n != mine
    ]
    assert not pruned(spec, 1, [0.1], strangers, 0, mine)
    assert pruned(spec, 1, [0.1], fellows, 0, mine)
    # Trials of a later bracket are not looked at so soon.
    assert not any(pruned(spec, 1, [0.0], strangers, 0, n) for n in others)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize(
    ("name", "pruner"),
    [
        ("asha", SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)),
        ("hyperband", HyperbandPruner(max_resource=EPOCHS)),
        ("median", MedianPruner()),
    ],
)
def test_the_defaults_are_optunas_but_for_the_first_rung_and_the_factor(
    name: str, pruner: BasePruner, metric: str
) -> None:
    order = random.Random(5)
    curves = [[order.random() for _ in range(EPOCHS)] for _ in range(40)]
    assert disagreements(spec_of({"name": name}, metric), pruner, curves, order) == 0


def test_the_comparison_with_optuna_would_notice_another_pruner() -> None:
    order = random.Random(5)
    curves = [[order.random() for _ in range(EPOCHS)] for _ in range(40)]
    spec = spec_of({"name": "asha", "min_resource": 1, "reduction_factor": 3}, "accuracy")
    assert disagreements(spec, SuccessiveHalvingPruner(min_resource=1, reduction_factor=2), curves, order) > 0
    assert disagreements(spec, MedianPruner(), curves, order) > 0


# --- where they look -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "epochs", "rungs"),
    [
        ({}, 10, [2, 6]),  # a fifth of the training, then three times as much
        ({}, 27, [5, 15]),
        ({}, 4, [1, 3]),
        ({}, 3, [1]),
        ({}, 1, []),
        ({"min_resource": 1}, 10, [1, 3, 9]),
        ({"min_resource": 1}, 9, [1, 3]),  # the last epoch is no rung
        ({"min_resource": 1, "reduction_factor": 2}, 16, [1, 2, 4, 8]),
        ({"min_resource": 1, "reduction_factor": 2, "min_early_stopping_rate": 2}, 16, [4, 8]),
        ({"min_resource": 20}, 10, []),
    ],
)
def test_asha_has_a_rung_at_every_power_of_its_factor_before_the_last_epoch(
    settings: dict[str, int], epochs: int, rungs: list[int]
) -> None:
    spec = make_spec(epochs=epochs, pruner={"name": "asha", **settings})
    assert spec.pruner.rungs(epochs) == tuple(rungs)
    assert [epoch for epoch in range(1, epochs + 1) if spec.pruner.compares_at(epoch, epochs)] == rungs


@pytest.mark.parametrize(
    ("settings", "looks"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"n_warmup_steps": 3}, [3, 4, 5, 6, 7, 8]),
        # Optuna's steps begin at 0 and epochs at 1: the look due at step 0 is postponed to the first score there is.
        ({"interval_steps": 3}, [1, 3, 6]),
        ({"n_warmup_steps": 1, "interval_steps": 3}, [1, 4, 7]),
        ({"n_warmup_steps": 9}, []),
    ],
)
def test_median_looks_from_its_warm_up_on_at_every_interval_before_the_last_epoch(
    settings: dict[str, int], looks: list[int]
) -> None:
    spec = make_spec(epochs=EPOCHS, pruner={"name": "median", **settings})
    assert [epoch for epoch in range(1, EPOCHS + 1) if spec.pruner.compares_at(epoch, EPOCHS)] == looks


def test_without_a_pruner_nothing_is_compared() -> None:
    spec = make_spec(epochs=EPOCHS, pruner={"name": "none"})
    assert not any(spec.pruner.compares_at(epoch, EPOCHS) for epoch in range(1, EPOCHS + 1))
    rows = [RungRow(1.0, complete=True, comparable=True)] * 9
    assert judge(Reached(spec, 3, True, None, [math.nan], rows, 9)) == Judgement("keep")


@pytest.mark.parametrize(
    ("settings", "epochs", "looks"),
    [
        ({}, 10, range(1, 10)),
        ({}, 40, range(4, 40)),
        ({"min_resource": 3}, 6, [3, 4, 5]),
        ({"min_resource": 20}, 10, []),
        ({}, 1, []),
    ],
)
def test_gradual_compares_after_every_epoch_from_a_tenth_of_the_training_on(
    settings: dict[str, int], epochs: int, looks: Sequence[int]
) -> None:
    spec = make_spec(epochs=epochs, pruner={"name": "gradual", **settings})
    assert [epoch for epoch in range(1, epochs + 1) if spec.pruner.compares_at(epoch, epochs)] == list(looks)


@pytest.mark.parametrize("power", [0.5, 1, 1.5, 3])
def test_gradual_leaves_of_many_trials_as_many_as_its_power_says(power: float) -> None:
    """All come to an epoch before any of them is judged, as with many workers: then the parts are exact."""
    spec = make_spec(epochs=10, pruner={"name": "gradual", "power": power})
    scores = random.Random(0).sample(range(10_000), 1000)
    for epoch in range(1, 10):
        rows = [RungRow(score, complete=False, comparable=True) for score in scores]
        scores = [
            score
            for i, score in enumerate(scores)
            if judge(Reached(spec, epoch, True, None, [score], rows[:i] + rows[i + 1 :], 0)).fate == "keep"
        ]
        assert len(scores) == pytest.approx(1000 * (1 / (epoch + 1)) ** power, abs=epoch)
    assert len(scores) == pytest.approx(1000 * 0.1**power, abs=9)


@given(
    st.sampled_from(["asha", "gradual", "hyperband", "median", "none"]), METRICS, st.integers(1, 30), st.floats(0, 1)
)
def test_the_last_epoch_is_never_pruned(name: str, metric: str, epochs: int, score: float) -> None:
    spec = make_spec(epochs=epochs, pruner={"name": name}, objective={"metric": metric})
    others = [RungRow(0.5, complete=True, comparable=True)] * 20
    for own in ([score] * epochs, [math.nan] * epochs):
        assert not pruned(spec, epochs, own, others, 20)


# --- warm-up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "epochs", "first"),
    [
        (ScheduleConfig("constant"), 10, 1),
        (ScheduleConfig("cosine", warmup_fraction=0.05), 10, 1),
        (ScheduleConfig("cosine", warmup_fraction=0.1), 10, 1),
        (ScheduleConfig("cosine", warmup_fraction=0.11), 10, 2),
        (ScheduleConfig("cosine", warmup_fraction=0.2), 10, 2),
        (ScheduleConfig("cosine", warmup_fraction=0.07), 100, 7),  # in binary 0.07 * 100 is a little more than 7
        (ScheduleConfig("cosine", warmup_fraction=0.7), 10, 7),
        (ScheduleConfig("cosine", warmup_fraction=0.99), 10, 10),
        (ScheduleConfig("one_cycle", rise_fraction=0.3), 10, 3),
        (ScheduleConfig("one_cycle", warmup_fraction=0.5, rise_fraction=0.4), 10, 7),
        (ScheduleConfig("triangular", cycles=1), 10, 5),
        (ScheduleConfig("triangular", cycles=4), 10, 2),
        (ScheduleConfig("triangular", warmup_fraction=0.2, cycles=2), 10, 4),
        (ScheduleConfig("warm_restarts", cycles=3), 10, 1),
    ],
)
def test_a_trial_is_comparable_from_the_epoch_in_which_it_has_reached_its_peak(
    schedule: ScheduleConfig, epochs: int, first: int
) -> None:
    assert comparable_from(schedule, epochs) == first


@given(st.floats(0, 0.999), st.integers(1, 300))
def test_no_epoch_before_the_end_of_warm_up_is_comparable(warmup_fraction: float, epochs: int) -> None:
    first = comparable_from(ScheduleConfig("linear", warmup_fraction=warmup_fraction), epochs)
    assert 1 <= first <= epochs
    assert first >= warmup_fraction * epochs - 1e-6
    assert first - 1 <= warmup_fraction * epochs


@pytest.mark.parametrize("family", ["one_cycle", "triangular"])
def test_a_rise_of_its_own_counts_as_warm_up(family: ScheduleFamily) -> None:
    late = ScheduleConfig(family, rise_fraction=0.9, cycles=1)
    assert comparable_from(late, 10) > comparable_from(ScheduleConfig("cosine"), 10)


@pytest.mark.parametrize("name", ["asha", "gradual", "median"])
def test_a_score_made_during_warm_up_is_held_against_nobody(name: str) -> None:
    spec = make_spec(epochs=EPOCHS, pruner={"name": name, **({"n_startup_trials": 0} if name == "median" else {})})
    better = [RungRow(0.9, complete=True, comparable=True)] * 6
    warming = [RungRow(0.9, complete=True, comparable=False)] * 6
    assert pruned(spec, 3, [0.1, 0.1, 0.1], better, 6)
    assert not pruned(spec, 3, [0.1, 0.1, 0.1], warming, 6)


# --- the numbers of a verdict ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "others", "factor", "maximize", "verdict"),
    [
        (0.5, [], 3, True, Judgement("keep", cut=0.5, n_compared=1)),
        (0.5, [0.6], 3, True, Judgement("prune", cut=0.6, n_compared=2)),
        (0.6, [0.6], 3, True, Judgement("keep", cut=0.6, n_compared=2)),
        (0.5, [0.6, 0.4, 0.3, 0.2, 0.1], 3, True, Judgement("keep", cut=0.5, n_compared=6)),
        (0.5, [0.6, 0.55, 0.3, 0.2, 0.1], 3, True, Judgement("prune", cut=0.55, n_compared=6)),
        (0.5, [0.6, 0.4], 2, False, Judgement("prune", cut=0.4, n_compared=3)),
        (math.nan, [], 3, True, Judgement("prune")),
    ],
)
def test_asha_says_which_score_had_to_be_reached(
    value: float, others: list[float], factor: int, maximize: bool, verdict: Judgement
) -> None:
    assert asha(value, others, factor, maximize=maximize) == verdict


@pytest.mark.parametrize(
    ("value", "others", "share", "maximize", "verdict"),
    [
        (0.5, [], 0.1, True, Judgement("keep", cut=0.5, n_compared=1)),
        (0.5, [0.6], 0.5, True, Judgement("prune", cut=0.6, n_compared=2)),
        (0.5, [0.6], 0.75, True, Judgement("keep", cut=0.5, n_compared=2)),  # a half is rounded up
        (0.6, [0.6], 0.5, True, Judgement("keep", cut=0.6, n_compared=2)),
        (0.5, [0.6, 0.4, 0.3], 0.25, False, Judgement("prune", cut=0.3, n_compared=4)),
        (0.5, [math.nan, 0.4], 0.5, True, Judgement("keep", cut=0.5, n_compared=2)),
        (math.nan, [], 0.9, True, Judgement("prune")),
    ],
)
def test_gradual_says_which_score_had_to_be_reached(
    value: float, others: list[float], share: float, maximize: bool, verdict: Judgement
) -> None:
    assert gradual(value, others, share, maximize=maximize) == verdict


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(2, 6))
def test_asha_lets_the_best_of_a_rung_go_on_and_at_most_one_in_so_many_distinct_ones(
    scores: list[float], factor: int
) -> None:
    assume(len(set(scores)) == len(scores))

    def goes_on(i: int) -> bool:
        return asha(scores[i], scores[:i] + scores[i + 1 :], factor, maximize=True).fate == "keep"

    going = [scores[i] for i in range(len(scores)) if goes_on(i)]
    assert max(scores) in going
    assert len(going) == max(1, len(scores) // factor)


@pytest.mark.parametrize(
    ("own", "others", "n_complete", "verdict"),
    [
        ([0.1], [0.5] * 4, 4, Judgement("keep")),  # fewer complete trials than n_startup_trials
        ([0.1], [0.5] * 5, 5, Judgement("prune", cut=0.5, n_compared=6)),
        ([0.5], [0.5] * 5, 5, Judgement("keep", cut=0.5, n_compared=6)),
        ([0.9, 0.1], [0.5] * 5, 5, Judgement("keep", cut=0.5, n_compared=6)),  # the best so far counts
        ([math.nan], [0.5] * 5, 5, Judgement("prune")),
        ([math.nan, 0.9], [0.5] * 5, 5, Judgement("keep", cut=0.5, n_compared=6)),
        ([0.1], [0.5], 5, Judgement("keep")),  # fewer at this epoch than n_min_trials
        ([0.1], [math.nan] * 5, 5, Judgement("keep")),
    ],
)
def test_median_says_which_score_had_to_be_reached(
    own: list[float], others: list[float], n_complete: int, verdict: Judgement
) -> None:
    assert median(own, others, n_complete=n_complete, n_startup_trials=5, n_min_trials=2, maximize=True) == verdict

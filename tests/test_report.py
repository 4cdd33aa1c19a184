"""What a person looks at: event lines, the live view, the answer, tables, the trace, and code to paste."""

import csv
import io
import json
import math
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from rich.text import Text
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_pre_hook
from trials_by_hand import EPOCHS, config, epoch, interrupted, of_loss, spec, trial

from lrsearch import run as runs
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, TrialStarted
from lrsearch.families import FAMILIES
from lrsearch.report import answer, status, tables, trace, words
from lrsearch.report.chart import Chart, Curve, axes, draw, sparkline
from lrsearch.report.lines import line
from lrsearch.report.live import LiveView, render, summary
from lrsearch.report.live_state import LiveState, after, begin, eta_seconds, progress
from lrsearch.report.plain import flat, plain
from lrsearch.report.snippet import snippet
from lrsearch.report.status import trained_seconds
from lrsearch.schedules import factors
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.places import SqliteFile, parse_place
from lrsearch.training import optimizers
from lrsearch.trial import (
    EpochMetrics,
    OptimizerConfig,
    Outcome,
    Reason,
    ScheduleConfig,
    State,
    Trial,
    TrialConfig,
)

NAN, INF = math.nan, math.inf

DIVERGED = trial(5, State.DIVERGED, lr=2.0, message="diverged at step 41, lr 2: loss nan")
BROKEN = replace(
    trial(6, State.DIVERGED, [0.1, NAN], lr=2.0),
    metrics=(epoch(1, 1e12, 2.3, 0.1), EpochMetrics(2, 50, 2.0, NAN, INF, NAN, NAN, NAN, 0.1)),
)
FAILED = trial(7, State.FAILED, [], message="RuntimeError: [enforce fail at alloc.cpp:66] no [/memory] left")
RUNNING = replace(trial(8, State.RUNNING, [0.3, 0.5]), started_at=None, versions="", device="")
PRUNED = trial(3, State.PRUNED, [0.3, 0.61], message="pruned at epoch 2: 0.61 below rung cut 0.74", averaged=0.61)
ALL_KINDS = [trial(0, accuracy=0.9), trial(1, accuracy=0.97, lr=0.05), PRUNED, DIVERGED, BROKEN, FAILED, RUNNING]


def shown(renderable: RenderableType, width: int = 80, **options: Any) -> str:
    """Render off a terminal."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, **options).print(renderable)
    return out.getvalue()


def as_json(document: object) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


assert PRUNED.outcome is not None
assert DIVERGED.outcome is not None
OVERFLOWING = replace(DIVERGED, number=8, outcome=replace(DIVERGED.outcome, reason=Reason.OVERFLOWING))


@dataclass(frozen=True)
class Search:
    spec: StudySpec
    trials: list[Trial]
    events: list[Event]
    summaries: list[studies.Summary]
    path: Path


@pytest.fixture(scope="session")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A real search: 6 trials of 3 epochs on the digits, its winner tested."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = tmp_path_factory.mktemp("report") / "real.db"
    overrides = [("epochs", 3), ("budget.trials", 6), ("space.optimizer", ["sgd", "adamw"])]
    study_spec = study_file.load("digits", overrides)
    engine = runs.prepare(study_spec, runs.Here(device="cpu", progress=False))
    study = filing.file_study(study_spec, SqliteFile(path), explicit_budget=True)
    with closing(study.database):
        artifacts = filing.artifacts_of(study)
        events = list(runs.Session(study, engine, artifacts).attend())
        return Search(study.spec, study.trials(), events, studies.summaries(study.database), path)


# Event lines


SEED_CONFIG = TrialConfig(OptimizerConfig("sgd", 0.24), ScheduleConfig("cosine", 0.05, 0.01), 512, 8, 0)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            TrialStarted(Trial(17, SEED_CONFIG, State.RUNNING, None), resumed=False),
            "12.4s > trial 17 sgd peak_lr=0.24 cosine warmup=0.05 batch=512",
        ),
        (
            TrialStarted(Trial(0, SEED_CONFIG, State.RUNNING, None, origin="baseline"), resumed=True),
            "12.4s > trial 0 sgd peak_lr=0.24 cosine warmup=0.05 batch=512 (baseline, resumed)",
        ),
        (EpochDone(17, epoch(3, accuracy=0.873, lr=0.19)), "12.4s . 17 epoch 3/8 val_acc=0.873 lr=0.19"),
        (EpochDone(17, epoch(3, accuracy=NAN, lr=0.19)), "12.4s . 17 epoch 3/8 val_acc=nan lr=0.19"),
        (TrialEnded(17, Outcome(State.COMPLETE, Reason.FINISHED, 0.941, 8)), "12.4s < 17 complete 0.941"),
        (TrialEnded(3, PRUNED.outcome), "12.4s x 3 pruned at epoch 2: 0.61 below rung cut 0.74"),
        (TrialEnded(5, DIVERGED.outcome), "12.4s ! 5 diverged at step 41, lr 2: loss nan"),
        (
            TrialEnded(7, Outcome(State.FAILED, Reason.CRASH, None, 0, message="ValueError: no")),
            "12.4s ? 7 failed: ValueError: no",
        ),
        (
            TrialEnded(7, Outcome(State.FAILED, Reason.OUT_OF_MEMORY, None, 0, message="CUDA")),
            "12.4s ? 7 failed: out of memory: CUDA",
        ),
        (
            SearchEnded(EndReason.BUDGET_TRIALS, "all 50 trials of the budget are finished"),
            "12.4s = ended: all 50 trials of the budget are finished",
        ),
    ],
)
def test_an_event_is_one_line(event: Event, said: str) -> None:
    assert line(event, 12.4, spec(epochs=8)) == said


def test_with_the_loss_as_objective_lines_say_the_loss() -> None:
    study = spec(objective={"metric": "loss"})
    assert line(EpochDone(1, epoch(3, val=0.31234)), 0.04, study) == "0.0s . 1 epoch 3/10 val_loss=0.312 lr=0.1"
    assert line(TrialEnded(1, Outcome(State.COMPLETE, Reason.FINISHED, 0.3, 8)), 1, study) == "1.0s < 1 complete 0.300"


def test_every_event_of_a_real_search_is_one_line(search: Search) -> None:
    lines = [line(event, i / 10, search.spec) for i, event in enumerate(search.events)]
    marks = Counter(text.split()[1] for text in lines)
    assert all(len(text.splitlines()) == 1 for text in lines)
    assert marks[">"] == marks["<"] + marks["x"] + marks["!"] == 6
    assert lines[-1].endswith("= ended: all 6 trials of the budget are finished")
    assert any(" below rung cut " in text for text in lines) == bool(marks["x"])


# Live view


def started(number: int, lr: float = 0.1) -> TrialStarted:
    return TrialStarted(Trial(number, config(lr), State.RUNNING, None), resumed=False)


def ended(number: int, state: State, value: float | None = None) -> TrialEnded:
    return TrialEnded(number, Outcome(state, Reason.FINISHED, value, 1, message=f"{state} somehow"))


def run(state: LiveState, *events: tuple[float, Event]) -> LiveState:
    for now, event in events:
        state = after(state, event, now)
    return state


def test_the_live_state_counts_and_keeps_the_best() -> None:
    state = begin(spec(), BudgetSpec(trials=10), [], 0.0)
    state = run(
        state,
        (0.0, started(0)),
        (1.0, EpochDone(0, epoch(1, val=0.5))),
        (2.0, ended(0, State.COMPLETE, 0.9)),
        (2.0, started(1)),
        (3.0, EpochDone(1, epoch(1, val=0.4))),
        (4.0, ended(1, State.COMPLETE, 0.9)),
        (4.0, started(2)),
        (5.0, ended(2, State.DIVERGED)),
        (5.0, started(3)),
        (6.0, ended(3, State.FAILED)),
        (6.0, started(4)),
    )
    assert state.counts == {State.COMPLETE: 2, State.DIVERGED: 1, State.FAILED: 1}
    assert state.best is not None
    assert state.best.number == 1, "equal values: the lower validation loss wins"
    assert [t.number for t in state.recent] == [3, 2, 1, 0]
    assert [r.trial.number for r in state.running] == [4]
    assert (state.finished, progress(state)) == (3, 0.3)


def test_a_resumed_study_starts_with_what_it_has() -> None:
    state = begin(spec(), BudgetSpec(trials=10), ALL_KINDS, 100.0)
    assert state.counts == {State.COMPLETE: 2, State.PRUNED: 1, State.DIVERGED: 2, State.FAILED: 1}
    assert state.best is not None
    assert state.best.number == 1
    # Five trials that count took 4 s each; five are left.
    assert eta_seconds(state, 100.0) == pytest.approx(20.0)


def test_a_resumed_trial_goes_on_from_its_old_epochs() -> None:
    state = after(begin(spec(), BudgetSpec(trials=10), [RUNNING], 0.0), TrialStarted(RUNNING, resumed=True), 0.0)
    assert state.running[0].trial.metrics == RUNNING.metrics
    assert state.trained_seconds == pytest.approx(trained_seconds([RUNNING]))
    again = after(state, EpochDone(RUNNING.number, RUNNING.metrics[-1], again=True), 1.0)
    assert again == state, "an epoch that is trained again from a checkpoint is none the study has not had"
    assert "(resumed)" in shown(render(state, 0.0))


def test_two_trials_side_by_side_take_half_the_time() -> None:
    state = begin(spec(), BudgetSpec(trials=10), [], 0.0)
    state = run(state, (0.0, started(0)), (4.0, ended(0, State.COMPLETE, 0.9)), (4.0, started(1)), (4.0, started(2)))
    assert eta_seconds(state, 4.0) == pytest.approx(18.0)
    assert eta_seconds(state, 6.0) == pytest.approx(16.0)


def test_a_view_of_forty_workers_fits_on_a_terminal() -> None:
    state = begin(spec(), BudgetSpec(trials=100), [], 0.0)
    state = run(state, *((0.0, started(i)) for i in range(40)))
    text = shown(render(state, 0.0))
    assert "and 35 more" in text
    assert len(text.splitlines()) <= 22


@pytest.mark.parametrize(
    ("budget", "now", "left"),
    [
        (BudgetSpec(trials=10), 4.0, 36.0),
        (BudgetSpec(trials=10), 6.0, 34.0),  # the trial under way is 2 s old
        (BudgetSpec(trials=1), 9.0, 0.0),
        (BudgetSpec(hours=10 / 3600), 4.0, 36.0),  # 1 s of training took 4 s
        (BudgetSpec(trials=3, hours=10 / 3600), 4.0, 8.0),
    ],
)
def test_the_time_left_follows_from_the_finished_trials(budget: BudgetSpec, now: float, left: float) -> None:
    state = begin(spec(), budget, [], 0.0)
    assert eta_seconds(state, 0.0) is None
    done = EpochDone(0, replace(epoch(1), seconds=1.0))
    state = run(state, (0.0, started(0)), (3.0, done), (4.0, ended(0, State.COMPLETE, 0.9)), (4.0, started(1)))
    assert eta_seconds(state, now) == pytest.approx(left)


def test_the_live_view_fits_80_columns_and_keeps_its_height(search: Search) -> None:
    state = begin(search.spec, search.spec.budget, [], 0.0)
    heights = set()
    for i, event in enumerate(search.events[:-1]):
        state = after(state, event, i / 10)
        lines = shown(render(state, i / 10)).splitlines()
        heights.add(len(lines))
        assert max(len(text) for text in lines) <= 80
    assert len(heights) == 1
    last = shown(render(state, 60.0), 100)
    assert f"6/{search.spec.budget.trials}" in last
    assert state.best is not None
    assert f"trial {state.best.number} " in last
    state = after(state, search.events[-1], 60.0)
    assert summary(state, 60.0).plain.endswith("in 1 min 00 s: all 6 trials of the budget are finished")


def test_the_live_view_survives_numbers_that_are_none() -> None:
    state = begin(spec(), BudgetSpec(hours=1e-6), [BROKEN, DIVERGED], 0.0)
    state = run(state, (0.0, TrialStarted(RUNNING, resumed=False)), (0.0, EpochDone(8, BROKEN.metrics[1])))
    assert "! nan" in shown(render(state, INF))
    assert FAILED.outcome is not None
    assert FAILED.outcome is not None
    failed = run(state, (1.0, TrialEnded(8, FAILED.outcome)))
    assert "no [/memory] left" in shown(render(failed, 1.0), 200)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def test_the_live_view_runs_on_a_console_and_leaves_one_line(search: Search) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, no_color=True, color_system=None, legacy_windows=False)
    with LiveView(console, search.spec, search.spec.budget, [], clock=Clock()) as view:
        for event in search.events:
            view.on(event)
    last = out.getvalue().splitlines()[-1]
    assert "all 6 trials of the budget are finished" in last


def test_an_interrupted_live_view_says_nothing_of_its_own(search: Search) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with pytest.raises(KeyboardInterrupt), LiveView(console, search.spec, search.spec.budget, []):
        raise KeyboardInterrupt
    assert "complete, 0 pruned, 0 diverged in" not in out.getvalue()


# The answer


def test_the_answer_of_a_real_search_names_the_winner_in_words_and_numbers(search: Search) -> None:
    found = answer.build(search.trials, search.spec, str(search.path), run_command="lrsearch run digits")
    winner = found.winner
    assert winner is not None
    assert winner.outcome is not None
    assert winner.test_accuracy is not None
    text = shown(found.render(), 200)
    for part in (
        f"is trial {winner.number}",
        f"peak lr     {winner.config.optimizer.peak_lr:.3g}",
        f"batch size  {winner.config.batch_size}",
        f"validation  accuracy {winner.outcome.value:.3f} ± ",
        f"test        accuracy {winner.test_accuracy:.3f} ± ",
        "on 797 untouched images",
        "on 200 images",
        "trust the test score more",
        f"lrsearch show {winner.number} digits --storage {search.path}",
        "lrsearch run digits --trials 56",
        f"lrsearch dashboard --storage {search.path}",
    ):
        assert part in text
    assert found.snippet in text, "not indented and not wrapped: it is there to be pasted"


def test_the_answer_is_plain_text_off_a_terminal(search: Search) -> None:
    text = shown(answer.build(search.trials, search.spec, "lrsearch.db").render())
    assert "\x1b" not in text
    assert "--storage" not in text, "the default place need not be named"
    assert "the same command with --trials 56" in text


def test_the_answer_as_json_has_the_numbers_and_the_words(search: Search) -> None:
    document = as_json(answer.build(search.trials, search.spec, str(search.path)).to_json())
    assert document["schema"] == "lrsearch/answer/1"
    assert document["winner"]["test_accuracy_error"] > 0
    assert [d["optimizer"] for d in document["diagnosis"]] == ["sgd", "adamw"]
    assert all(d["sentences"] for d in document["diagnosis"])
    assert document["n_validation"] == 200
    assert "optimizer = torch.optim." in document["snippet"]


def test_how_sure_says_what_one_seed_cannot_separate() -> None:
    study = spec()
    close = [trial(i, accuracy=score) for i, score in enumerate((0.97, 0.97, 0.96, 0.9))]
    assert answer.build(close, study, "x.db").how_sure()[0] == (
        "2 of 3 other complete trials (1, 2) lie within one standard error (0.012 on 200 validation images): "
        "one seed on 200 validation images does not separate them from the best."
    )
    alone = answer.build([close[0], close[3]], study, "x.db").how_sure()
    assert alone[0].startswith("The one other complete trial does not lie within one standard error")
    assert alone[1] == "It has not been judged on the test images."
    assert "only complete trial" in answer.build(close[:1], study, "x.db").how_sure()[0]
    many = [trial(i, accuracy=0.97) for i in range(9)]
    assert "8 of 8 other complete trials (1, 2, 3, 4, 5, ...) lie" in answer.build(many, study, "x.db").how_sure()[0]


def test_for_the_loss_close_is_a_tenth() -> None:
    study = spec(objective={"metric": "loss"})
    found = answer.build([of_loss(trial(i), loss) for i, loss in enumerate((0.2, 0.1, 0.109))], study, "x.db")
    assert found.winner is not None
    assert found.winner.number == 1
    assert "1 of 2 other complete trials (2) lies within 10 % of its loss" in found.how_sure()[0]
    assert "validation  loss 0.100, accuracy 0.900 ±" in shown(found.render(), 120)


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        ([], "no trial has ended yet."),
        ([RUNNING], "no trial has ended yet."),
        ([DIVERGED, BROKEN], "every learning rate was too high."),
        ([DIVERGED, OVERFLOWING], "2 diverged); 1 overflowed in fp16, which says nothing of the learning rate."),
        ([OVERFLOWING], "1 diverged); 1 overflowed in fp16, which says nothing of the learning rate."),
        ([PRUNED, DIVERGED], "none of 2 trials was trained through (0 complete, 1 pruned, 1 diverged)."),
        ([DIVERGED, FAILED], "the last failure: RuntimeError: [enforce fail at alloc.cpp:66] no [/memory] left."),
    ],
)
def test_without_a_complete_trial_the_answer_says_why(trials: list[Trial], why: str) -> None:
    found = answer.build(trials, spec(), "x.db")
    assert found.winner is None
    text = shown(found.render(), 300)
    assert text.startswith("No answer: ")
    assert why in text
    assert "In PyTorch" not in text
    assert as_json(found.to_json())["winner"] is None


def test_every_kind_of_trial_can_be_in_an_answer() -> None:
    found = answer.build(ALL_KINDS, spec(), "/a b/x.db", budget=BudgetSpec(trials=70))
    text = shown(found.render(), 120)
    assert "--storage '/a b/x.db'" in text
    assert "lrsearch dashboard --storage '/a b/x.db'" in text
    assert "--trials 120" in text
    as_json(found.to_json())


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (BudgetSpec(hours=2), "--trials 51  # go on, to 51 trials in all"),
        (BudgetSpec(trainings=2.5), "--trainings 10.5  # go on, to 10.5 whole trainings in all"),
        (
            BudgetSpec(trials=20, trainings=4),
            "--trials 70 --trainings 12  # go on, to 70 trials and 12 whole trainings in all",
        ),
    ],
)
def test_to_go_on_what_bounds_the_search_is_raised(budget: BudgetSpec, said: str) -> None:
    found = answer.build([trial(0)], spec(), "x.db", budget=budget)
    assert f"the same command with {said}" in [f"{step.command}  # {step.what}" for step in found.next_steps]


@pytest.mark.parametrize(
    ("url", "option", "shows"),
    [
        ("postgresql://me:p%40ss@host:5433/lr", "", ""),
        ("postgresql://me@host/lr?sslmode=require", "--storage @url", " --storage @url"),
    ],
)
def test_on_a_server_the_next_commands_hold_no_password(url: str, option: str, shows: str) -> None:
    found = answer.build([trial(0)], spec(), str(parse_place(url)), storage_option=option)
    said = [f"{step.command}  # {step.what}" for step in found.next_steps]
    assert said[0] == f"lrsearch show 0 by-hand{shows}  # its training, epoch by epoch"
    assert said[-1] == f"lrsearch dashboard{shows}  # look at it in a browser"
    assert "***" not in "".join(said)


def test_trials_of_several_devices_are_said_to_be_compared() -> None:
    made = [trial(0), replace(trial(1), device="cuda:0 (NVIDIA H100)")]
    said = "Results are compared across 2 devices: cpu (1 thread) | cuda:0 (NVIDIA H100)."
    assert said in answer.build(made, spec(), "x.db").how_sure()
    assert said not in answer.build(made[:1], spec(), "x.db").how_sure()


# Code to paste


SHAPES = (
    ScheduleConfig("constant"),
    ScheduleConfig("step", final_fraction=0.01, drops=3),
    ScheduleConfig("step", final_fraction=0.001, drops=20),
    ScheduleConfig("multistep", final_fraction=0.01, milestones=(0.3, 0.6, 0.9)),
    ScheduleConfig("exponential", final_fraction=0.001),
    ScheduleConfig("linear", final_fraction=0.0),
    ScheduleConfig("linear", final_fraction=0.0123456789),
    ScheduleConfig("cosine", final_fraction=0.01),
    ScheduleConfig("polynomial", final_fraction=0.0, power=2.5),
    ScheduleConfig("polynomial", final_fraction=0.02, power=0.5),
    ScheduleConfig("inverse_sqrt", final_fraction=0.05),
    ScheduleConfig("one_cycle", final_fraction=0.001, rise_fraction=0.3, initial_fraction=0.04),
    ScheduleConfig("one_cycle", final_fraction=0.001, rise_fraction=0.01, initial_fraction=0.04),
    ScheduleConfig("triangular", final_fraction=0.1, cycles=3),
    ScheduleConfig("triangular", final_fraction=0.0, cycles=1),
    ScheduleConfig("warm_restarts", final_fraction=0.01, cycles=3, cycle_mult=2),
    ScheduleConfig("warm_restarts", final_fraction=0.0, cycles=1, cycle_mult=1),
    ScheduleConfig("wsd", final_fraction=0.01, decay_fraction=0.2),
    ScheduleConfig("wsd", final_fraction=0.0, decay_fraction=1.0),
    ScheduleConfig("wsd_cosine", final_fraction=0.01, decay_fraction=0.2),
    ScheduleConfig("wsd_cosine", final_fraction=0.0, decay_fraction=1.0),
    ScheduleConfig("plateau", final_fraction=0.001, drop_factor=0.3, patience_epochs=1),
)
NATIVE = {
    "step": "MultiStepLR",
    "multistep": "MultiStepLR",
    "exponential": "ExponentialLR",
    "linear": "LinearLR",
    "cosine": "CosineAnnealingLR",
    "one_cycle": "OneCycleLR",
    "triangular": "CyclicLR",
    "warm_restarts": "CosineAnnealingWarmRestarts",
    "wsd": "SequentialLR",
    "wsd_cosine": "SequentialLR",
    "plateau": "ReduceLROnPlateau",
}


def executed(source: str, steps_per_epoch: int, losses: Iterator[float]) -> tuple[list[float], dict[str, Any]]:
    """Run a snippet, warnings as errors; return the learning rate of every update, and its names."""
    lrs: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        lrs.append(float(optimizer.param_groups[0]["lr"]))

    names = {
        "model": torch.nn.Linear(2, 2),
        "loader": [(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))] * steps_per_epoch,
        "validation_loss": lambda _: next(losses),
    }
    handle = register_optimizer_step_pre_hook(note)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Of torch 2.8, about what its own SequentialLR does.
            warnings.filterwarnings("ignore", "The epoch parameter in .scheduler.step", UserWarning)
            exec(source, names)
    finally:
        handle.remove()
    return lrs, names


def improving() -> Iterator[float]:
    loss = 1.0
    while True:
        loss *= 0.5
        yield loss


def test_every_family_is_pasted_in_the_tests() -> None:
    assert {shape.family for shape in SHAPES} == set(FAMILIES)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.family)
def test_the_pasted_schedule_is_the_one_that_was_searched_at_every_update(shape: ScheduleConfig) -> None:
    for warmup, (epochs, steps) in product((0.0, 0.004, 0.05, 0.1428, 0.5, 0.97), ((5, 25), (4, 13), (2, 1), (1, 1))):
        made = config(0.2345678912345, schedule=replace(shape, warmup_fraction=warmup), epochs=epochs)
        lrs, _ = executed(snippet(made, steps), steps, improving())
        wanted = factors(made.schedule, epochs * steps) * made.optimizer.peak_lr
        assert np.abs(np.array(lrs) - wanted).max() < 1e-9, (warmup, epochs, steps)


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_the_pasted_plateau_drops_when_the_search_did(warmup: float) -> None:
    shape = ScheduleConfig("plateau", warmup, final_fraction=0.01, drop_factor=0.2, patience_epochs=1)
    made = config(3e-4, "adamw", shape)
    losses = [1.0, 0.5, 0.6, 0.7, 0.6, 0.6, 0.4, 0.5, 0.5, 0.5]
    lrs, _ = executed(snippet(made, 5), 5, iter(losses))
    unit = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    oracle = ReduceLROnPlateau(unit, factor=0.2, patience=1, min_lr=0.01)
    scales = []
    for loss in losses:
        scales += [unit.param_groups[0]["lr"]] * 5
        oracle.step(loss)
    assert len(set(scales)) >= 3, "the losses make it drop"
    assert np.abs(np.array(lrs) - factors(shape, 50) * 3e-4 * np.array(scales)).max() < 1e-12


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.family in NATIVE and s.rise_fraction != 0.01])
def test_torch_has_its_own_scheduler_for_most_families(shape: ScheduleConfig) -> None:
    source = snippet(config(schedule=shape), 25)
    assert f"{NATIVE[shape.family]}(" in source or shape.decay_fraction == 1.0
    # Of so few updates that there is none to rise in torch's OneCycleLR knows nothing.
    assert "LambdaLR" not in source or shape.family == "one_cycle"


@pytest.mark.parametrize(
    "setting",
    [
        OptimizerConfig("sgd", 0.1),
        OptimizerConfig("sgd", 0.1, 5e-4, momentum=0.9, dampening=0.1, nesterov=False),
        OptimizerConfig("sgd", 0.1, 5e-4, momentum=0.9, dampening=0.0, nesterov=True),
        OptimizerConfig("adam", 1e-3, 0.0, beta1=0.9, beta2=0.999, eps=1e-8),
        OptimizerConfig("adam", 1e-3, 1e-4, beta1=0.8, beta2=0.999, eps=1e-7),
        OptimizerConfig("adamw", 1e-3, 0.01, beta1=0.9, beta2=0.95, eps=1e-8),
        OptimizerConfig("adamw", 1e-3, 0.0, beta1=0.9, beta2=0.999, eps=1e-8),
        OptimizerConfig("rmsprop", 1e-3, 0.0, momentum=0.5, alpha=0.9, eps=1e-6),
    ],
    ids=lambda setting: setting.name,
)
def test_the_pasted_optimizer_has_the_settings_that_were_searched(setting: OptimizerConfig) -> None:
    made = TrialConfig(setting, ScheduleConfig("constant"), 32, 1, 0)
    _, names = executed(snippet(made, 1), 1, improving())
    built = optimizers.build(setting, torch.nn.Linear(2, 2).parameters(), torch.device("cpu"))
    (group,), (wanted,) = names["optimizer"].param_groups, built.param_groups
    assert type(names["optimizer"]) is type(built)
    ignored = {"params", "fused", "initial_lr"}
    assert {k: v for k, v in group.items() if k not in ignored} == {k: v for k, v in wanted.items() if k not in ignored}


def test_what_torch_takes_anyway_is_not_written() -> None:
    source = snippet(TrialConfig(OptimizerConfig("adamw", 1e-3, 0.01, beta1=0.9, beta2=0.999), SHAPES[0], 32, 1, 0), 1)
    assert "torch.optim.AdamW(model.parameters(), lr=peak_lr)\n" in source
    assert "scheduler" not in source


# Tables


def test_every_kind_of_trial_is_in_the_table_and_the_best_has_a_star() -> None:
    text = shown(tables.trials_table(ALL_KINDS, spec()))
    rows = {words[1 if words[0] == "*" else 0]: words for words in (row.split() for row in text.splitlines()[2:])}
    assert [number for number, row in rows.items() if row[0] == "*"] == ["1"]
    assert rows["5"][1:5] == ["diverged", "-", "-", "0/10"]
    assert rows["6"][1:5] == ["diverged", "nan", "inf", "2/10"]
    assert max(len(row.rstrip()) for row in text.splitlines()) <= 80


def test_trials_as_json_hold_their_epochs_and_no_number_that_is_none() -> None:
    document = as_json(tables.trials_json(ALL_KINDS, spec()))
    assert (document["schema"], document["best"]) == ("lrsearch/trials/1", 1)
    assert [len(t["metrics"]) for t in document["trials"]] == [EPOCHS, EPOCHS, 2, 0, 2, 0, 2]
    assert document["trials"][4]["metrics"][1]["train_loss"] is None
    assert document["trials"][0]["config"]["optimizer"] == {
        "name": "sgd",
        "peak_lr": 0.1,
        "weight_decay": 5e-4,
        "momentum": 0.9,
    }


def test_trials_as_csv_are_read_back_one_row_a_trial() -> None:
    made = [*ALL_KINDS, trial(9, schedule=ScheduleConfig("multistep", 0.0, 0.01, milestones=(0.5, 0.75)))]
    rows = list(csv.DictReader(io.StringIO(tables.trials_csv(made))))
    assert [int(row["number"]) for row in rows] == [t.number for t in made]
    assert [row["state"] for row in rows] == [t.state.value for t in made]
    assert float(rows[0]["peak_lr"]) == 0.1
    assert rows[-1]["milestones"] == "0.5 0.75"
    assert rows[3]["value"] == ""
    assert tables.trials_csv([]).strip() == ",".join(rows[0]), "without trials there is still a header"


def test_the_real_search_is_in_its_tables(search: Search) -> None:
    assert len(as_json(tables.trials_json(search.trials, search.spec))["trials"]) == 6
    assert shown(tables.trials_table(search.trials, search.spec)).count("/3") == 6
    text = shown(tables.studies_table(search.summaries))
    assert "6/6" in text
    assert "digits" in text
    document = as_json(tables.studies_json(search.summaries))
    assert document["schema"] == "lrsearch/studies/1"
    assert sum(document["studies"][0]["counts"].values()) == 6


@dataclass(frozen=True)
class Row:
    name: str
    dataset: str
    model: str
    budget: BudgetSpec
    counts: dict[State, int]
    created_at: datetime
    copy_of: str | None = None


def test_a_long_name_folds_and_hours_are_said() -> None:
    row = Row(
        "n" * 60, "fashion-mnist", "cnn", BudgetSpec(hours=2.5), {State.COMPLETE: 3}, datetime(2026, 1, 2, tzinfo=UTC)
    )
    text = shown(tables.studies_table([row]))
    assert "3, 2.5 h" in text
    *lines, last = text.splitlines()
    assert max(len(part) for part in lines) <= 80
    assert "".join(part.split()[0] for part in lines[2:]) == "n" * 60
    assert last == "too narrow for created: --json has all"


def test_the_search_space_is_listed_with_what_applies_when() -> None:
    text = shown(tables.space_table(parameters.rows(spec().space)))
    assert "peak_lr_sgd" in text
    assert "0.001 to 3 (log)" in text
    assert "optimizer = sgd" in text


def test_the_status_counts_against_the_budget_and_names_what_runs() -> None:
    made = [*ALL_KINDS, replace(trial(9, lr=0.3), origin="baseline")]
    text = shown(status.status_table(made, spec(), BudgetSpec(trials=50, hours=2, max_failures=3)), 120)
    for part in (
        "6 of 50 trials finished, 3.6 s of 2 h 00 min trained, 1 failed of at most 3",
        "3 complete, 1 pruned, 2 diverged, 1 failed, 1 running",
        "0.970, trial 1: sgd peak_lr=0.05 constant batch=32",
        "baseline (1)",
        "trial 8: sgd peak_lr=0.1 constant batch=32, epoch 2/10, here:1",
    ):
        assert part in text
    document = as_json(status.status_json(made, spec(), BudgetSpec(trials=50)))
    assert document["finished"] == 6
    assert document["running"][0]["epoch"] == 2
    assert document["origins"] == {"sampler": 7, "baseline": 1}


@dataclass(frozen=True)
class AtWork:
    name: str
    device: str
    number: int | None
    seen_seconds_ago: float


AGAIN = interrupted(trial(2, accuracy=0.95), Reason.LOST, Reason.OUT_OF_MEMORY, step=50)
WORKERS = [AtWork("here:1", "cpu (1 thread)", 8, 0.31), AtWork("there:22", "cuda:0 (NVIDIA H100)", None, 12.0)]


def test_the_status_names_workers_interruptions_and_what_is_compared() -> None:
    stale = replace(interrupted(trial(4, State.RUNNING, [0.3]), Reason.PREEMPTED, Reason.LOST), interrupted=True)
    made = [AGAIN, stale, replace(trial(5), versions="lrsearch 0.2.0")]
    text = shown(status.status_table(made, spec(), BudgetSpec(trials=50), WORKERS, "drain"), 160)
    for part in (
        "worker         here:1, cpu (1 thread), trial 8, seen 0.3 s ago",
        "worker         there:22, cuda:0 (NVIDIA H100), waits, seen 12.0 s ago",
        "interruptions  lost 2, out of memory 1, preempted 1 (the trials go on from their checkpoints)",
        "results are compared across 2 devices: cpu (1 thread) | cuda:0; and 2 versions: lrsearch 0.1.0 | lrsearch 0.2",
        "stopped        its trials under way are finished; `lrsearch run by-hand` or `lrsearch extend by-hand` goes on",
        "epoch 1/10, the next worker goes on with it",
    ):
        assert part in text
    document = as_json(status.status_json(made, spec(), BudgetSpec(trials=50), WORKERS, "drain"))
    assert document["stopped"] == "drain"
    assert document["interruptions"] == {"lost": 2, "out_of_memory": 1, "preempted": 1}
    assert [w["trial"] for w in document["workers"]] == [8, None]
    assert document["running"][0]["attempts"] == 2
    assert len(document["compared_across"]) == 2
    later = as_json(status.status_json(made, spec(), BudgetSpec(trials=50), [replace(WORKERS[0], seen_seconds_ago=9)]))
    assert status.without_volatile(later)["workers"] == status.without_volatile(document)["workers"][:1]


def test_show_says_what_a_trial_was_held_against() -> None:
    made = trial(3, State.PRUNED, [0.5, 0.75, 0.625])
    judged = zip(made.metrics, (1, 0, 12), (0.5, None, 0.875), strict=True)
    rows = tuple(replace(row, n_compared=n, cut=cut) for row, n, cut in judged)
    said = shown(trace.render(replace(made, metrics=rows), spec(), 160), 160)
    assert "epoch 1: 0.5, the first there; epoch 3: 0.625, the cut was 0.875 among 12 trials" in said
    assert "rungs" not in shown(trace.render(made, spec(), 160), 160), "a trial of an earlier version does not know"


@pytest.mark.parametrize(
    ("trials", "budget", "workers", "stopped", "over"),
    [
        ([trial(0)], BudgetSpec(trials=1), WORKERS, None, True),
        ([trial(0)], BudgetSpec(trials=2), [], None, False),
        ([trial(0), RUNNING], BudgetSpec(trials=3), [], "drain", False),
        ([trial(0), replace(RUNNING, interrupted=True)], BudgetSpec(trials=3), [], "now", True),
        ([trial(0)], BudgetSpec(hours=1e-4), [], None, True),
        ([trial(0)], BudgetSpec(hours=1e-4), WORKERS, None, False),
        ([FAILED, FAILED], BudgetSpec(trials=9, max_failures=1), [], None, True),
    ],
)
def test_a_watcher_ends_when_nothing_more_will_come(
    trials: list[Trial], budget: BudgetSpec, workers: list[AtWork], stopped: str | None, over: bool
) -> None:
    assert status.is_over(trials, budget, workers, stopped) == over


def test_attempts_are_shown_where_there_were_several() -> None:
    assert "tries" not in shown(tables.trials_table(ALL_KINDS, spec()))
    failed = interrupted(FAILED, Reason.CRASH, Reason.CRASH)
    text = shown(tables.trials_table([trial(0), AGAIN, failed], spec()))
    head, *rows = [part for part in text.splitlines() if "─" not in part]
    assert head.split()[-1] == "tries"
    assert [row.split()[-1] for row in rows] == ["1", "3", "2"]
    assert max(len(part) for part in text.splitlines()) <= 80
    document = as_json(tables.trials_json([AGAIN], spec()))["trials"][0]
    assert document["attempts"] == 3
    assert [one["reason"] for one in document["interruptions"]] == ["lost", "out_of_memory"]
    assert next(csv.DictReader(io.StringIO(tables.trials_csv([AGAIN]))))["attempts"] == "3"


def test_the_trace_lists_every_interruption() -> None:
    seen = replace(AGAIN, weights_sha256="ab" * 32)
    text = shown(trace.render(seen, spec(), 140), 140)
    assert f"weights      sha256 {'ab' * 32}" in text
    rows = [[cell.strip() for cell in part.split("|")[1:-1]] for part in text.splitlines() if "| 2026-11-22" in part]
    assert rows[:2] == [
        ["1", "2026-11-22 12:00:01", "lost", "there:1", "cuda:0", "2", "50", "its worker was [lost]"],
        ["2", "2026-11-22 12:00:02", "out of memory", "there:2", "cuda:0", "2", "50", "its worker was [out of memory]"],
    ]
    document = as_json(trace.to_json(seen, spec()))["trial"]
    assert document["weights_sha256"] == "ab" * 32
    assert [one["worker"] for one in document["interruptions"]] == ["there:1", "there:2"]


def test_the_rate_is_that_of_the_latest_trials() -> None:
    # Ten trials, one every 10 s, each of 4 s: from the first start to the last end 94 s.
    made = [trial(i) for i in range(20)]
    assert status.trials_per_minute(made) == pytest.approx(60 * 10 / 94)
    assert status.trials_per_minute(made[:1]) is None


def test_an_empty_study_has_a_status() -> None:
    assert "no complete trial yet" in shown(status.status_table([], spec(), BudgetSpec(trials=5)))
    assert as_json(status.status_json([], spec(), BudgetSpec(trials=5)))["best"] is None


# The trace


def test_the_trace_of_every_real_trial_fits_its_width_and_names_every_epoch(search: Search) -> None:
    for made, width in product(search.trials, (80, 100, 140)):
        text = shown(trace.render(made, search.spec, width), width)
        assert max(len(row) for row in text.splitlines()) <= width
        assert f"{made.number} of digits" in text
        assert "| Observation" in text
        for row in made.metrics:
            assert f"|     {row.epoch} |" in text
        assert "\x1b" not in text


def test_the_trace_as_json_has_an_observation_for_every_epoch(search: Search) -> None:
    document = as_json(trace.to_json(search.trials[0], search.spec))
    assert document["schema"] == "lrsearch/trial/1"
    assert document["steps_per_epoch"] == search.spec.steps_per_epoch(search.trials[0].config.batch_size)
    assert all(row["observation"] for row in document["trial"]["metrics"])


@pytest.mark.parametrize("made", ALL_KINDS, ids=lambda t: f"{t.state}-{t.number}")
@pytest.mark.parametrize("width", [40, 80, 140])
def test_every_kind_of_trial_has_a_trace(made: Trial, width: int) -> None:
    text = shown(trace.render(made, spec(), width), width)
    assert "Learning rate over 250 updates" in " ".join(text.split())
    as_json(trace.to_json(made, spec()))


def test_a_trial_that_diverged_in_its_first_epoch_says_so_and_marks_where() -> None:
    text = shown(trace.render(DIVERGED, spec(), 80))
    assert "diverged at step 41, lr 2: loss nan" in text
    assert "No epoch was completed" in text
    assert "! diverged at step 41" in text


def test_a_message_with_square_brackets_is_shown_as_it_is() -> None:
    assert "no [/memory] left" in shown(trace.render(FAILED, spec(), 140), 140)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.family)
@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_every_schedule_can_be_drawn(shape: ScheduleConfig, epochs: int) -> None:
    rows = tuple(epoch(k, 2.3 / k, 2.4 / k, lr=0.1) for k in range(1, epochs + 1))
    made = replace(trial(0), config=config(0.1, schedule=shape, epochs=epochs), metrics=rows)
    text = shown(trace.render(made, spec(epochs=epochs), 80))
    assert max(len(row) for row in text.splitlines()) <= 80


def test_train_and_validation_are_told_apart_without_colour() -> None:
    rows = tuple(epoch(k, 1 / k, 2 / k) for k in range(1, 6))
    made = replace(trial(0), config=config(epochs=5), metrics=rows)
    drawn = [text.partition("│")[2] for text in shown(trace.render(made, spec(epochs=5), 80)).splitlines()]
    assert sum(text.count("*") for text in drawn) == 5
    assert sum(text.count("o") for text in drawn) == 5


def test_the_plateau_is_drawn_from_the_recorded_learning_rates() -> None:
    shape = ScheduleConfig("plateau", 0.1, final_fraction=0.01, drop_factor=0.1, patience_epochs=1)
    rows = tuple(epoch(k, lr=lr) for k, lr in enumerate((0.1, 0.1, 0.01, 0.01), 1))
    made = replace(trial(0), config=config(0.1, schedule=shape), metrics=rows)
    lrs = planned_lrs(made, 25)
    assert len(lrs) == 100
    assert lrs[:25].tolist() == (np.arange(1, 26) / 25 * 0.1).tolist()
    assert lrs[25:50].tolist() == pytest.approx([0.1] * 25)
    assert lrs[50:].tolist() == pytest.approx([0.01] * 50)
    assert len(planned_lrs(replace(made, metrics=()), 25)) == 25


# Charts and numbers


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 10, ""),
        ([1.0], 10, "▁"),
        ([1.0, 1.0], 10, "▁▁"),
        ([4.0, 2.0, 1.0], 10, "█▅▁"),
        ([2.0, NAN, 1.0, INF], 10, "█!▁!"),
        ([NAN], 10, "!"),
        ([0.0, 1.0], 10, "▁█"),
        ([float(i) for i in range(1, 101)], 3, "▁▅█"),
    ],
)
def test_a_sparkline(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@settings(max_examples=60)
@given(
    st.lists(st.floats(1e-300, 1e300) | st.just(NAN) | st.just(INF), min_size=1, max_size=30),
    st.integers(1, 120),
    st.integers(2, 12),
)
def test_whatever_is_drawn_the_chart_keeps_its_size(values: list[float], width: int, rows: int) -> None:
    xs = list(range(1, len(values) + 1))
    frame = axes(values, len(values), log_ratio=30, label=words.number)
    if frame is None:
        assert not any(math.isfinite(v) for v in values)
        return
    chart = Chart(Text("Loss"), [Curve(xs, values, "red", line=True, mark="*")], frame, rows)
    lines = draw([chart, chart], width=width, ticks=xs, x_label="epoch")
    assert len(lines) == 2 * (rows + 3) + 1
    widest = max(len(label) for label in chart.labels)
    assert max(len(text) for text in lines) <= max(width, widest + 3 + 8, 16)


def test_the_values_beside_a_chart_run_from_the_highest_to_the_lowest() -> None:
    frame = axes([1.0, 3.0], 2, log_ratio=30, label=words.number)
    assert frame is not None
    assert Chart(Text("Loss"), [], frame, 3).labels == ["3.00", "2.00", "1.00"]
    frame = axes([0.01, 1.0], 2, log_ratio=30, label=words.number)
    assert frame is not None
    assert frame.log
    assert Chart(Text("Loss"), [], frame, 3).labels == ["1.00", "0.100", "0.0100"]


@settings(max_examples=40)
@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(State), st.lists, max_leaves=8)
)
def test_plain_values_are_json(value: Any) -> None:
    json.dumps(plain({"value": value, State.COMPLETE: (value, START_OF_TIME)}), allow_nan=False)


START_OF_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_flat_trial_has_the_same_keys_whatever_its_kind() -> None:
    assert len({tuple(flat(t)) for t in ALL_KINDS}) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (86_399.0, "23 h 59 min"),
        (NAN, "-"),
        (INF, "-"),
    ],
)
def test_a_duration_never_says_sixty(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_what_a_person_looks_at_loads_neither_torch_nor_optuna() -> None:
    modules = ["answer", "lines", "live", "status", "tables", "trace"]
    code = "import sys; " + "; ".join(f"import lrsearch.report.{name}" for name in modules)
    code += "; print(sorted({'torch', 'optuna', 'sqlalchemy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

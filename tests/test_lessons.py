"""What textbooks say of learning rates, as real trainings: each lesson of docs/lessons.md is trained again."""

import importlib.util
import math
import statistics
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from conftest import make_spec

from lrsearch import worker
from lrsearch.analysis.trial_diagnosis import Condition, TrialDiagnosis, diagnose_trial
from lrsearch.spec.study import StudySpec
from lrsearch.store.portfolio import any_setting
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, Outcome, Reason, State, Trial

DOCS = Path(__file__).parent.parent / "docs"


@cache
def render_lessons() -> ModuleType:
    found = importlib.util.spec_from_file_location("render_lessons", DOCS / "render_lessons.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # its dataclasses ask for it
    found.loader.exec_module(module)
    return module


@cache
def study(label_smoothing: float) -> tuple[SerialEngine, StudySpec]:
    spec = make_spec(augment={"label_smoothing": label_smoothing} if label_smoothing else {})
    made = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=Path(), progress=False)
    assert isinstance(made, SerialEngine)
    return made, spec


@cache
def trained(text: str, epochs: int = 10, label_smoothing: float = 0) -> tuple[Trial, TrialDiagnosis]:
    """Train a setting as the command of the page does; return the trial and what is said of it."""
    engine, spec = study(label_smoothing)
    config = any_setting("--baseline", f"{text} warmup=0 batch=64", spec)
    config = replace(config, epochs=epochs)
    rows: list[EpochMetrics] = []
    outcome = None
    for told in engine.start(config).epochs():
        if isinstance(told, Divergence):
            outcome = Outcome(State.DIVERGED, told.reason, None, len(rows), told.step, told.lr)
        elif isinstance(told, EpochMetrics):
            rows.append(told)
    outcome = outcome or Outcome(State.COMPLETE, Reason.FINISHED, rows[-1].val_accuracy, len(rows))
    trial = Trial(0, config, outcome.state, outcome, tuple(rows))
    return trial, diagnose_trial(trial, spec)


def accuracy(text: str, epochs: int = 10) -> float:
    return trained(text, epochs)[0].metrics[-1].val_accuracy


def condition(text: str, epochs: int = 10) -> Condition:
    return trained(text, epochs)[1].condition


def test_ten_with_sgd_diverges_and_a_thousandth_of_it_learns() -> None:
    assert trained("sgd lr=10 constant")[0].state == State.DIVERGED
    assert condition("sgd lr=10 constant") == Condition.DIVERGED
    assert accuracy("sgd lr=0.01 constant") > 0.93
    assert condition("sgd lr=0.01 constant") == Condition.HEALTHY


def test_somewhat_too_high_bounces_without_diverging() -> None:
    assert trained("sgd lr=0.25 constant")[0].state == State.COMPLETE
    assert condition("sgd lr=0.25 constant") == Condition.UNSTABLE
    assert accuracy("sgd lr=0.25 constant") < accuracy("sgd lr=0.05 constant") - 0.1
    advised = trained("sgd lr=0.25 constant")[1].next_lr
    assert advised is not None
    assert accuracy(f"sgd lr={advised:.3g} constant") > 0.93


def test_a_tenth_wrecks_adam_and_not_sgd() -> None:
    assert condition("adam lr=0.1 constant") == Condition.UNSTABLE
    assert accuracy("adam lr=0.1 constant") < accuracy("adam lr=0.001 constant") - 0.1
    assert accuracy("sgd lr=0.1 constant") > accuracy("adam lr=0.1 constant") + 0.1


def test_a_rate_that_never_moves_the_loss_is_told_from_one_that_is_too_high() -> None:
    trial, said = trained("sgd lr=1e-8 constant")
    assert said.condition == Condition.AT_CHANCE
    assert "has not moved" in said.sentence
    assert said.next_lr is not None
    assert said.next_lr > trial.config.optimizer.peak_lr
    assert trial.metrics[-1].train_loss == pytest.approx(math.log(10), abs=0.05)
    assert accuracy("sgd lr=1e-3 constant") > 0.8


@pytest.mark.slow
def test_over_a_long_training_a_fixed_rate_bounces_to_the_end_and_a_falling_one_settles() -> None:
    fixed, _ = trained("sgd lr=0.15 constant", 60)
    falling, _ = trained("sgd lr=0.15 cosine final=0.001", 60)
    late = {
        name: [row.val_accuracy for row in trial.metrics[-10:]]
        for name, trial in (("fixed", fixed), ("falling", falling))
    }
    assert condition("sgd lr=0.15 constant", 60) == Condition.UNSTABLE
    assert statistics.pstdev(late["fixed"]) > 5 * statistics.pstdev(late["falling"])
    assert statistics.mean(late["falling"]) > statistics.mean(late["fixed"])


def test_adam_has_edges_on_both_sides() -> None:
    by_rate = {rate: accuracy(f"adam lr={rate} constant") for rate in ("1e-5", "1e-4", "3e-3", "5e-2")}
    assert by_rate["1e-5"] < by_rate["1e-4"] < by_rate["3e-3"] > by_rate["5e-2"]
    assert by_rate["3e-3"] - min(by_rate.values()) > 0.2
    assert condition("adam lr=1e-5 constant") == Condition.TOO_SLOW
    assert condition("adam lr=5e-2 constant") == Condition.UNSTABLE


def test_the_page_shows_every_lesson_with_its_commands_its_curves_and_its_numbers() -> None:
    module, page = render_lessons(), (DOCS / "lessons.md").read_text("utf-8")
    for lesson in module.LESSONS:
        part = page.split(f"## {lesson.title}\n")[1].split("\n## ")[0]
        assert lesson.shown in part
        for training in lesson.trainings:
            assert f"lrsearch run --name {training.name} " in part
            assert f"| `{training.setting}` | " in part

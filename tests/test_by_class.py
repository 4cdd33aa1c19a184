"""The winner's test images class by class: counted when it is judged, filed, and said where classes are unbalanced."""

import io
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from command_line import InProcess
from conftest import claimed, claims_of, complete, make_spec, on_both
from painted import paint_classes
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from trials_by_hand import spec, trial

from lrsearch.analysis.by_class import ClassScore, balanced
from lrsearch.analysis.precision import accuracy_error
from lrsearch.report import answer
from lrsearch.spec.metrics import METRICS
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, judging
from lrsearch.store.storage import Database
from lrsearch.training import data
from lrsearch.training import engine as engines
from lrsearch.training.data import DataConfig
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import EpochMetrics, Facts, OptimizerConfig, ScheduleConfig, Trial, TrialConfig

pytest_plugins = ["command_line"]

CONFIG = TrialConfig(OptimizerConfig("sgd", 0.1, momentum=0.9), ScheduleConfig("constant"), 32, 2, 0)


# Counted


@pytest.mark.parametrize("metric", [None, "balanced_accuracy"])
def test_it_is_counted_as_scikit_learn_counts_and_no_other_number_moves(metric: str | None) -> None:
    splits = data.load(DataConfig("digits", limit=400))
    engine = SerialEngine(splits, ModelConfig("mlp", (16,)), torch.device("cpu"), Rules(metric=metric))
    training = engine.start(CONFIG)
    for _ in training.epochs():
        pass
    tested = engine.test(CONFIG, training.weights())
    assert isinstance(tested, engines.TestResult)
    plain = training.evaluate(splits.test)
    assert (tested.test_loss, tested.test_accuracy, tested.test_score) == (plain.loss, plain.accuracy, plain.score)
    assert plain.right == (), "it is counted only where it is asked for"
    found = training.model(splits.normalize(splits.test.images)).argmax(1)
    matrix = confusion_matrix(splits.test.labels, found, labels=range(10))
    assert tested.test_right == tuple(matrix.diagonal().tolist())
    rows = zip(tested.test_right, splits.test.counts(10), strict=True)
    value, _ = balanced([ClassScore("", right, n) for right, n in rows])
    assert value == pytest.approx(balanced_accuracy_score(splits.test.labels, found), abs=1e-12)
    if metric is not None:
        assert value == pytest.approx(tested.test_score, abs=1e-12)


@pytest.mark.parametrize("metric", [None, "balanced_accuracy"])
def test_without_an_image_nothing_is_counted_and_every_score_is_no_number(metric: str | None) -> None:
    splits = data.load(DataConfig("digits", limit=200))
    engine = SerialEngine(splits, ModelConfig("mlp", (16,)), torch.device("cpu"), Rules(metric=metric)).on_all_images()
    training = engine.start(CONFIG)
    (first, _) = training.epochs()
    assert isinstance(first, EpochMetrics)
    assert math.isnan(first.val_loss)
    nothing = training.evaluate(engine.splits.validation, by_class=True)
    assert nothing.right == ()
    assert [nothing.score is None, first.val_score is None] == [metric is None] * 2


def test_its_error_is_that_of_classes_of_unequal_size_and_unequal_shares() -> None:
    truth = {"ant": (180, 0.6), "bee": (40, 0.75), "cow": (12, 0.85)}
    draw = random.Random(0)
    drawn = []
    for _ in range(4000):
        scores = [
            ClassScore(label, sum(draw.random() < share for _ in range(n)), n) for label, (n, share) in truth.items()
        ]
        drawn.append(balanced(scores))
    truly = stdev(value for value, _ in drawn)
    assert fmean(error for _, error in drawn) == pytest.approx(truly, rel=0.05)
    as_one_share = accuracy_error(0.733, METRICS["balanced_accuracy"].n_images((180, 40, 12)))
    assert as_one_share > 1.1 * truly, "what one share for all classes would claim"


# Filed


@on_both
def test_it_is_kept_with_the_scores_of_the_test(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    claims = claims_of(study)
    for value in (0.5, 0.9):
        claims.end(claimed(claims), complete(value, 3))
    turn = judging.take_turn(study, "")
    assert turn is not None
    judging.end_turn(study, turn, (0.1, 0.95, None), (3, 0, 12))
    assert [t.test_right for t in study.trials()] == [(), (3, 0, 12)]


# Said


def unbalanced(counts: tuple[int, ...] = (400, 60, 20), **tables: Any) -> StudySpec:
    """Return a study of one's own pictures, three classes of which a test image in ten is the smallest one's."""
    facts = Facts(
        n_train=sum(counts),
        n_validation=48,
        n_test=70,
        shape=(3, 8, 8),
        classes=("ant", "bee", "cow"),
        train_counts=counts,
        validation_counts=(40, 6, 2),
        test_counts=(50, 13, 7),
        fingerprint="f" * 64,
    )
    return spec(dataset={"name": "folder:/data/pets"}, **tables).measured(facts)


def judged(right: tuple[int, ...], score: float | None = None) -> Trial:
    return replace(trial(0), test_loss=0.2, test_accuracy=sum(right) / 70, test_score=score, test_right=right)


def test_the_answer_says_both_accuracies_and_how_each_class_does_the_worst_first() -> None:
    said = answer.build([judged((49, 7, 2))], unbalanced(), "x.db")
    assert said.facts["test"] == (
        "accuracy 0.829 ± 0.045, balanced accuracy 0.601 ± 0.071, loss 0.200 on 70 untouched images"
    )
    assert said.facts["by class"] == "right in the test: cow 2 of 7, bee 7 of 13, ant 49 of 50"
    assert "balanced accuracy 0.333" in said.facts["guessing"], "beside that of the majority"
    printed = io.StringIO()
    Console(width=200, file=printed).print(said.render())
    assert "  by class    right in the test: cow 2 of 7, bee 7 of 13, ant 49 of 50" in printed.getvalue()
    winner = said.to_json()["winner"]
    assert winner["test_by_class"][2] == {"class": "cow", "right": 2, "images": 7}
    assert winner["test_balanced_accuracy"] == pytest.approx((49 / 50 + 7 / 13 + 2 / 7) / 3)
    assert winner["test_balanced_accuracy_error"] == pytest.approx(0.071, abs=5e-4)
    assert winner["test_accuracy_error"] == pytest.approx(0.045, abs=5e-4)


def test_where_it_is_the_metric_it_stands_first_and_once() -> None:
    about = unbalanced(objective={"metric": "balanced_accuracy"})
    said = answer.build([judged((49, 7, 2), (49 / 50 + 7 / 13 + 2 / 7) / 3)], about, "x.db")
    assert said.facts["test"] == (
        "balanced accuracy 0.601 ± 0.071, accuracy 0.829 ± 0.045, loss 0.200 on 70 untouched images"
    )
    assert said.facts["by class"].startswith("right in the test: cow")


def test_where_it_is_the_loss_that_stands_first() -> None:
    said = answer.build([judged((49, 7, 2))], unbalanced(objective={"metric": "loss"}), "x.db")
    assert said.facts["test"].startswith("loss 0.200, balanced accuracy 0.601 ± 0.071, accuracy 0.829")


@pytest.mark.parametrize(
    ("about", "right"), [(unbalanced((160, 150, 170)), (49, 7, 2)), (unbalanced(), ())], ids=["balanced", "not counted"]
)
def test_of_balanced_classes_and_without_counts_nothing_more_is_said(about: StudySpec, right: tuple[int, ...]) -> None:
    winner = replace(trial(0), test_loss=0.2, test_accuracy=0.829, test_right=right)
    said = answer.build([winner], about, "x.db")
    assert said.facts["test"] == "accuracy 0.829 ± 0.045, loss 0.200 on 70 untouched images"
    assert "by class" not in said.facts
    assert ("test_by_class" in said.to_json()["winner"]) == bool(right), "a script may want it all the same"


def test_of_many_classes_the_worst_are_named() -> None:
    n = 15
    counts = (100, *[10] * (n - 1))
    classes = tuple(f"class {i}" for i in range(n))
    facts = replace(
        unbalanced().facts,
        n_test=n * 10,
        classes=classes,
        train_counts=counts,
        validation_counts=(3,) * n,
        test_counts=(10,) * (n - 1) + (0,),
    )
    winner = replace(trial(0), test_loss=0.2, test_accuracy=0.5, test_right=tuple(range(n - 1, -1, -1)))
    said = answer.build([winner], unbalanced().measured(facts), "x.db").facts["by class"]
    assert said.startswith("right in the test: class 13 1 of 10, class 12 2 of 10")
    assert said.endswith(", and 2 more"), "a class without a test image is none of them"


# From pictures to the answer


def test_a_search_of_unbalanced_pictures_ends_with_it(lrsearch: InProcess, tmp_path: Path) -> None:
    paint_classes(tmp_path / "pics", {"ant": 30, "bee": 10, "cow": 5})
    done = lrsearch("run", "--dataset", "folder:pics", "--model", "mlp", "--trials", "1", "--epochs", "1")
    assert done.code == 0, done.err
    assert "balanced accuracy" in done.out
    assert "by class" in done.out
    again = lrsearch("best", "--json")
    winner = json.loads(again.out)["winner"]
    assert [one["images"] for one in winner["test_by_class"]] == [6, 2, 1]
    assert sum(one["right"] for one in winner["test_by_class"]) == round(9 * winner["test_accuracy"])
    report = lrsearch("report", "--format", "markdown", "-o", "-")
    assert "| by class | right in the test: " in report.out, report.err
    page = lrsearch("report", "-o", "report.html")
    assert page.code == 0
    assert "right in the test: " in (tmp_path / "report.html").read_text("utf-8")

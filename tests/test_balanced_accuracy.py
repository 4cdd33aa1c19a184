"""balanced_accuracy: measured by class, searched for, given with the error of a mean of shares."""

import math
import random
from statistics import fmean, stdev

import pytest
import torch
from conftest import make_spec
from sklearn.metrics import balanced_accuracy_score

from lrsearch.analysis.precision import accuracy_error, tolerance
from lrsearch.spec.metrics import METRICS
from lrsearch.training import data
from lrsearch.training import engine as engines
from lrsearch.training.data import DataConfig
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import EpochMetrics, Facts, OptimizerConfig, ScheduleConfig, TrialConfig

CPU = torch.device("cpu")
BALANCED = METRICS["balanced_accuracy"]
CONFIG = TrialConfig(OptimizerConfig("sgd", 0.1, momentum=0.9), ScheduleConfig("constant"), 32, 2, 0)


def engine_of(metric: str | None) -> SerialEngine:
    splits = data.load(DataConfig("digits", limit=400, validation_fraction=0.4))
    return SerialEngine(splits, ModelConfig("mlp", (16,)), CPU, Rules(metric=metric))


def test_it_is_scikit_learns_and_changes_nothing_else() -> None:
    measuring, plain = engine_of("balanced_accuracy"), engine_of(None)
    training, other = measuring.start(CONFIG), plain.start(CONFIG)
    splits = measuring.splits
    for row, without in zip(training.epochs(), other.epochs(), strict=True):
        assert isinstance(row, EpochMetrics)
        assert isinstance(without, EpochMetrics)
        assert (row.train_loss, row.val_loss, row.val_accuracy) == (
            without.train_loss,
            without.val_loss,
            without.val_accuracy,
        )
        assert without.val_score is None
        found = training.model(splits.normalize(splits.validation.images)).argmax(1)
        assert row.val_score == pytest.approx(balanced_accuracy_score(splits.validation.labels, found), abs=1e-12)
        assert row.averaged_val_score is not None
    result = measuring.test(CONFIG, training.weights())
    assert isinstance(result, engines.TestResult)
    found = training.model(splits.normalize(splits.test.images)).argmax(1)
    assert result.test_score == pytest.approx(balanced_accuracy_score(splits.test.labels, found), abs=1e-12)


def test_its_rung_score_is_that_of_the_averaged_weights() -> None:
    row = EpochMetrics(1, 10, 0.1, 1.0, 1.0, 0.9, 0.8, 0.95, 0.1, val_score=0.5, averaged_val_score=0.6)
    assert (BALANCED.of(row), BALANCED.rung_score(row)) == (0.5, 0.6)
    assert math.isnan(BALANCED.of(EpochMetrics(1, 10, 0.1, 1.0, 1.0, 0.9, None, None, 0.1)))


def test_its_error_is_that_of_a_mean_of_shares_of_classes_of_unequal_size() -> None:
    counts, p = (180, 15, 5), 0.8
    r = random.Random(0)
    drawn = [fmean(sum(r.random() < p for _ in range(n)) / n for n in counts) for _ in range(4000)]
    facts = Facts(1000, sum(counts), 500, (1, 8, 8), ("a", "b", "c"), validation_counts=counts)
    error = tolerance(make_spec(objective={"metric": "balanced_accuracy"}).measured(facts)).width(p)
    assert error == pytest.approx(stdev(drawn), rel=0.08)
    assert error > 2 * accuracy_error(p, sum(counts)), "what a plain accuracy would claim"


def test_a_spec_with_it_averages_and_maximizes() -> None:
    spec = make_spec(objective={"metric": "balanced_accuracy"}, pruner="asha")
    assert (spec.metric.direction, spec.averaging, spec.metric.label) == ("maximize", True, "balanced accuracy")

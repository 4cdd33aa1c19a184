"""A training that branches from another one is the one that was trained by itself, bit for bit."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from trainings import trained, unclocked

from lrsearch.spec.training import AugmentSpec
from lrsearch.training import data, preflight
from lrsearch.training.data import DataConfig, ImageSplits
from lrsearch.training.engine import CheckpointError, Paused
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine, SerialTraining
from lrsearch.trial import EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

CPU = torch.device("cpu")
SGD = OptimizerConfig("sgd", 0.05, weight_decay=1e-3, momentum=0.9, nesterov=True)
ADAMW = OptimizerConfig("adamw", 3e-3, weight_decay=0.1)
FLAT = ScheduleConfig("constant", warmup_fraction=0.1)
TAILS = {
    "wsd": ScheduleConfig("wsd", 0.1, 0.0, decay_fraction=0.4),
    "step": ScheduleConfig("step", 0.1, 0.01, drops=1),
    "multistep": ScheduleConfig("multistep", 0.1, 0.01, milestones=(0.6, 0.9)),
}
NETS = """
from torch import nn

def drops(num_classes, in_chans):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, num_classes)
    )
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results repeat bit for bit for one thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def digits() -> ImageSplits:
    """Return 160 images to train on and 40 to validate on."""
    return data.load(DataConfig("digits", limit=200))


def engine(model: str = "mlp", rules: Rules = Rules()) -> SerialEngine:  # noqa: B008
    return SerialEngine(digits(), ModelConfig(model, (16,) if model == "mlp" else (8,)), CPU, rules)


def config(schedule: ScheduleConfig, optimizer: OptimizerConfig = SGD) -> TrialConfig:
    """Return a training of six epochs of six updates."""
    return TrialConfig(optimizer, schedule, 30, 6, seed=7)


def at(training: SerialTraining, epoch: int) -> bytes:
    """Return the checkpoint of a training after so many epochs."""
    list(zip(range(epoch), training.epochs(), strict=False))
    return training.checkpoint()


def assert_branches(used: SerialEngine, trunk: TrialConfig, tail: TrialConfig, epoch: int) -> None:
    kept = at(used.start(trunk), epoch)
    branch = used.start(tail, kept)
    assert branch.step == epoch * branch.steps_per_epoch
    told, weights = trained(branch)
    expected, whole = trained(used.start(tail))
    assert repr(told) == repr(expected[epoch:])
    assert hashlib.sha256(weights).hexdigest() == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=lambda one: one.name)
@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("tail", TAILS)
def test_a_branch_is_the_whole_training_bit_for_bit(tail: str, model: str, optimizer: OptimizerConfig) -> None:
    assert_branches(engine(model), config(FLAT, optimizer), config(TAILS[tail], optimizer), 3)


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=lambda one: one.name)
@pytest.mark.parametrize(
    "rules",
    [
        Rules(averaging=False),
        Rules(drop_last=True, divergence_watch=False),
        Rules(augment=AugmentSpec.model_validate("crop=2, affine=10, erase=0.3, mixup=0.3, label_smoothing=0.1")),
        Rules(class_weights=0.5, decay_matrices=True),
    ],
    ids=["raw", "drop last, no watch", "augmented", "weighed"],
)
def test_so_it_is_under_every_rule(rules: Rules, optimizer: OptimizerConfig) -> None:
    for epoch in (1, 3):
        assert_branches(engine(rules=rules), config(FLAT, optimizer), config(TAILS["wsd"], optimizer), epoch)


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=lambda one: one.name)
def test_so_it_is_with_dropout_and_batch_norm(optimizer: OptimizerConfig, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    model = ModelConfig(f"{tmp_path / 'nets.py'}:drops")
    network = preflight.look(model, digits().shape, digits().n_classes)
    assert network.draws
    used = SerialEngine(digits(), model, CPU, Rules(), replace(digits().facts(), network=network))
    assert_branches(used, config(FLAT, optimizer), config(TAILS["wsd"], optimizer), 3)


def test_a_branch_has_its_own_learning_rates_from_where_they_differ() -> None:
    used = engine()
    *_, last = used.start(config(TAILS["wsd"]), at(used.start(config(FLAT)), 3)).epochs()
    assert isinstance(last, EpochMetrics)
    assert 0 < last.lr < SGD.peak_lr / 10
    assert unclocked(last) != trained(used.start(config(FLAT)))[0][-1]


def test_a_branch_may_branch_again_and_be_interrupted() -> None:
    used, tail = engine(), config(TAILS["multistep"])
    first = used.start(config(TAILS["wsd"]), at(used.start(config(FLAT)), 2))
    again = used.start(tail, at(first, 1))
    assert again.step == 18
    kept = at(again, 1)
    told, weights = trained(used.start(tail, kept))
    expected, whole = trained(used.start(tail))
    assert (repr(told), weights) == (repr(expected[4:]), whole)


# --- what is refused -------------------------------------------------------------------------------------------------


class Before:
    """Asks for attention before an update."""

    def __init__(self, step: int) -> None:
        self.left = step

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0

    def ends(self) -> bool:
        return False


def refusal(used: SerialEngine, tail: TrialConfig, kept: bytes) -> str:
    with pytest.raises(CheckpointError) as error:
        used.start(tail, kept)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_checkpoint_past_the_shared_updates_is_refused() -> None:
    used = engine()
    said = refusal(used, config(TAILS["wsd"]), at(used.start(config(FLAT)), 4))
    assert "are for 23 updates, and this checkpoint is of 24" in said


def test_a_checkpoint_within_an_epoch_is_only_for_its_own_training() -> None:
    used = engine()
    training = used.start(config(FLAT), attention=Before(8))
    list(zip(range(2), training.epochs(), strict=False))
    kept = training.checkpoint()
    assert "is of 8 updates with 6 an epoch" in refusal(used, config(TAILS["wsd"]), kept)
    assert used.start(config(FLAT), kept).step == 8


def test_what_differs_in_more_than_the_schedule_is_refused_and_the_difference_named() -> None:
    used, kept = engine(), at(engine().start(config(FLAT)), 2)
    other = replace(config(TAILS["wsd"]), optimizer=replace(SGD, peak_lr=0.06))
    assert "config.optimizer.peak_lr = 0.05 instead of 0.06" in refusal(used, other, kept)
    warmer = replace(TAILS["wsd"], warmup_fraction=0.2)
    assert "config.schedule.family = 'constant' instead of 'wsd'" in refusal(used, config(warmer), kept)
    raw = engine(rules=Rules(averaging=False))
    assert "rules.averaging = True instead of False" in refusal(raw, config(FLAT), kept)
    plateau = ScheduleConfig("plateau", 0.1, 0.0, drop_factor=0.5, patience_epochs=2)
    assert "instead of 'plateau'" in refusal(used, config(plateau), kept)


def test_nothing_branches_from_a_network_that_answers_the_same_whatever_the_image() -> None:
    """Whether it is dead depends on the learning rates to come, so a whole training may end where this one goes on."""
    used = engine()
    training = used.start(config(FLAT), attention=Before(11))
    told = training.epochs()
    assert [type(one) for _, one in zip(range(2), told, strict=False)] == [EpochMetrics, Paused]
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.zero_()
    training._attention = None
    assert isinstance(next(one for one in told if not isinstance(one, Paused)), EpochMetrics)
    dead = training.checkpoint()
    assert "has not since update 11;" in refusal(used, config(TAILS["wsd"]), dead)
    assert used.start(config(FLAT), dead).step == 12

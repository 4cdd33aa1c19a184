"""The divergence watch: networks with batch norm and dropout, loops of one's own, and what a study then says."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import InProcess
from torch import nn

from lrsearch.spec.metrics import METRICS
from lrsearch.training import data, preflight
from lrsearch.training.data import DataConfig
from lrsearch.training.loop.losses import LOOK_EVERY_STEPS
from lrsearch.training.loop.run import LeftLoop, LoopRules, Run
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine, SerialTraining
from lrsearch.training.watch import FAR_ABOVE, PATIENCE_STEPS
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, Reason, ScheduleConfig, TrialConfig

pytest_plugins = ["command_line"]

CPU = torch.device("cpu")
NETS = """
from torch import nn

def both(num_classes, in_chans):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, num_classes)
    )

def drops(num_classes, in_chans):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, num_classes),
    )

def norms(num_classes, in_chans):
    return nn.Sequential(
        nn.Conv2d(in_chans, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, num_classes),
    )
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results repeat bit for bit for one thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def started(nets: Path, name: str, optimizer: OptimizerConfig, n_epochs: int = 6) -> SerialTraining:
    splits, model = data.load(DataConfig("digits")), ModelConfig(f"{nets}:{name}")
    network = preflight.look(model, splits.shape, splits.n_classes)
    made = SerialEngine(splits, model, CPU, Rules(), replace(splits.facts(), network=network))
    return made.start(TrialConfig(optimizer, ScheduleConfig("cosine", 0.0, 0.01), 32, n_epochs, 0))


def sgd(lr: float) -> OptimizerConfig:
    return OptimizerConfig("sgd", lr, momentum=0.9)


ENDS: list[tuple[str, OptimizerConfig, Reason]] = [
    ("both", sgd(1e4), Reason.NOT_FINITE),
    ("both", sgd(30), Reason.LOSS_ABOVE_INITIAL),
    ("both", sgd(3), Reason.COLLAPSED),
    ("both", OptimizerConfig("adam", 10.0), Reason.LOSS_ABOVE_INITIAL),
    ("drops", sgd(100), Reason.NOT_FINITE),
    ("drops", OptimizerConfig("adam", 10.0), Reason.LOSS_ABOVE_INITIAL),
    ("drops", sgd(1), Reason.COLLAPSED),  # dead, though every image has other units left out
    ("norms", sgd(1e4), Reason.LOSS_ABOVE_INITIAL),
    ("norms", sgd(7), Reason.COLLAPSED),  # at 3 the rounding of the processor decides
]
LIVES: list[tuple[str, OptimizerConfig, float]] = [
    ("both", sgd(0.1), 0.9),
    ("both", sgd(1), 0.5),
    ("both", OptimizerConfig("adam", 0.3), 0.8),
    ("drops", sgd(0.1), 0.6),
    ("drops", OptimizerConfig("adam", 0.001), 0.6),
    ("norms", sgd(1), 0.8),
    ("norms", OptimizerConfig("adam", 1.0), 0.4),
]
"""What they come to at least: some of them only just get along."""


def named(one: object) -> str:
    return f"{one.name} {one.peak_lr:g}" if isinstance(one, OptimizerConfig) else str(one)


@pytest.mark.parametrize(("name", "optimizer", "reason"), ENDS, ids=named)
def test_a_network_with_batch_norm_or_dropout_that_is_lost_is_said_to_have_diverged(
    name: str, optimizer: OptimizerConfig, reason: Reason, nets: Path
) -> None:
    *before, end = started(nets, name, optimizer).epochs()
    assert isinstance(end, Divergence)
    assert end.reason == reason
    assert all(isinstance(one, EpochMetrics) for one in before)
    assert (reason == Reason.COLLAPSED) == end.collapsed


@pytest.mark.parametrize(("name", "optimizer", "least"), LIVES, ids=named)
def test_one_that_lives_is_trained_through(name: str, optimizer: OptimizerConfig, least: float, nets: Path) -> None:
    told = list(started(nets, name, optimizer).epochs())
    assert len(told) == 6
    assert isinstance(told[-1], EpochMetrics)
    assert told[-1].val_accuracy > least


def test_with_batch_norm_a_spike_far_above_the_start_that_recovers_ends_nothing(nets: Path) -> None:
    training = started(nets, "norms", OptimizerConfig("adam", 1.0))
    told = list(training.epochs())
    watch = training._watch
    assert watch.initial_loss is not None
    assert watch.course.highest > FAR_ABOVE * watch.initial_loss
    assert isinstance(told[-1], EpochMetrics)


# --- the answer -------------------------------------------------------------------------------------------------------


def test_what_learned_and_then_collapsed_has_no_value_however_good_it_was(nets: Path, lrsearch: InProcess) -> None:
    """While the rate rises to 5 it is right for half of the images, then it dies."""
    space = (
        ("space.optimizer.sgd.peak_lr", "[5.0, 1e-5]"),
        ("space.optimizer.sgd.weight_decay", "0.0"),
        ("space.optimizer.sgd.momentum", "0.9"),
        ("space.batch_size", "32"),
        ("space.warmup_fraction", "0.5"),
        ("space.final_fraction", "0.01"),
        ("training.weight_decay_on", "all"),
        ("pruner", "none"),
        ("space.schedule", "cosine"),
    )
    words = [word for key, value in space for word in ("--set", f"{key}={value}")]
    asked = ("run", "--model", f"{nets}:norms", "--dataset", "digits", "--epochs", "12", "--trials", "2", "--json")
    done = lrsearch(*asked, "--threads", "1", "--name", "mine", "--baseline", "sgd lr=5 cosine", *words)
    assert done.code == 0, done.err
    lost, slow = sorted(
        lrsearch("trials", "mine", "--json").document["trials"], key=lambda one: one["state"] != "diverged"
    )
    assert (lost["state"], lost["reason"], lost["value"]) == ("diverged", "collapsed", None)
    assert max(row["val_accuracy"] for row in lost["metrics"]) > slow["value"] + 0.1
    assert done.document["winner"]["number"] == slow["number"]


# --- loops of one's own -----------------------------------------------------------------------------------------------

RULES = LoopRules(METRICS["accuracy"], averaging=False, divergence_watch=True, decay_matrices=True)
PER_EPOCH = 60
FAR = FAR_ABOVE * 2.0 + 0.01


def left_at(losses: list[float | None], rules: LoopRules = RULES) -> Divergence | None:
    """Have a loop tell these losses, one an update (None: it tells none); return how it was ended, if it was."""
    config = TrialConfig(OptimizerConfig("sgd", 0.1), ScheduleConfig("constant"), 10, 2, 0)
    run = Run(config, PER_EPOCH, rules, CPU)
    optimizer = run.optimizer(nn.Linear(3, 2))
    try:
        for loss in losses:
            optimizer.step()
            run.step(loss)
            if run.updates % PER_EPOCH == 0:
                run.epoch(val_accuracy=0.5)
    except LeftLoop as left:
        return left.divergence
    return None


FINE = [2.0, 1.0]
TOLD: dict[str, tuple[list[float | None], int | None]] = {
    "a spike that recovers in time": ([*FINE, *[FAR] * (PATIENCE_STEPS - 1), *[1.0] * 99], None),
    "far above for too long": ([*FINE, *[FAR] * PATIENCE_STEPS, *[1.0] * 98], 21),
    "far above across the end of an epoch": ([*FINE, *[1.0] * 50, *[FAR] * PATIENCE_STEPS, *[1.0] * 48], 71),
    "not finite for one update": ([*FINE, math.nan, *[1.0] * 117], 2),
    "infinite at the very last": ([*FINE, *[1.0] * 117, math.inf], 119),
    "a guess all the way": ([2.3] * 120, None),
    "no loss is told": ([None] * 120, None),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_loop_is_ended_by_the_losses_that_it_tells_as_a_training_of_ours_is(name: str) -> None:
    losses, step = TOLD[name]
    found = left_at(losses)
    assert (None if found is None else found.step) == step
    if math.inf not in losses:  # then the epoch's mean, which is told, is no number either
        assert left_at(losses, replace(RULES, divergence_watch=False)) is None


def test_a_loop_that_tells_no_losses_but_a_score_that_is_no_number_has_diverged() -> None:
    config = TrialConfig(OptimizerConfig("sgd", 0.1), ScheduleConfig("constant"), 10, 2, 0)
    run = Run(config, 3, RULES, CPU)
    optimizer = run.optimizer(nn.Linear(3, 2))
    for _ in range(3):
        optimizer.step()
        run.step()
    with pytest.raises(LeftLoop) as left:
        run.epoch(val_accuracy=0.9, val_loss=math.inf)
    assert left.value.divergence is not None
    assert left.value.divergence.reason == Reason.NOT_FINITE


def test_losses_of_a_loop_stay_on_their_device_until_it_is_looked() -> None:
    """A tensor of the device "meta" has no value, so that to read it is an error."""
    config = TrialConfig(OptimizerConfig("sgd", 0.1), ScheduleConfig("constant"), 10, 2, 0)
    run = Run(config, 2 * LOOK_EVERY_STEPS, RULES, CPU)
    optimizer = run.optimizer(nn.Linear(3, 2))
    for _ in range(LOOK_EVERY_STEPS - 1):
        optimizer.step()
        run.step(torch.tensor(1.0, device="meta"))
    optimizer.step()
    # Not a part that is missing here: it is torch's error where somebody asks such a tensor for its value.
    with pytest.raises(RuntimeError, match="meta"):
        run.step(torch.tensor(1.0, device="meta"))

"""What the engine promises holds for models that lrsearch did not make: resume, ties, frozen parts, last batches."""

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lrsearch.training import networks, preflight
from lrsearch.training.checkpoint import encode_weights, load_weights
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.engine import Paused
from lrsearch.training.models import ModelConfig
from lrsearch.training.networks import frozen_parts
from lrsearch.training.serial import Rules, SerialEngine, SerialTraining
from lrsearch.trial import EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

CPU = torch.device("cpu")
CONFIG = TrialConfig(
    OptimizerConfig("sgd", 0.05, weight_decay=1e-4, momentum=0.9),
    ScheduleConfig("cosine", 0.1, final_fraction=0.01),
    batch_size=8,
    epochs=2,
    seed=0,
)

NETS = """
import random
import numpy as np
import torch
from torch import nn

class Plain(nn.Sequential):
    pass

def drops(num_classes, in_chans):
    return nn.Sequential(
        nn.Conv2d(in_chans, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.LazyLinear(num_classes),
    )

class Tied(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.stem = nn.Linear(64, 16)
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.b.weight = self.a.weight
        self.head = nn.Linear(16, n)

    def forward(self, x):
        return self.head(self.b(self.a(self.stem(x.flatten(1)).relu()).relu()).relu())

class Jitters(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.head = nn.Linear(64, n)

    def forward(self, x):
        jitter = np.random.randn() + random.random() + torch.rand(1) if self.training else 0
        return self.head(x.flatten(1) + jitter)

def jitters(num_classes):
    return Jitters(num_classes)

def tied(num_classes):
    return Tied(num_classes)

def frozen(num_classes, in_chans):
    net = drops(num_classes, in_chans)
    for p in (*net[0].parameters(), *net[1].parameters()):
        p.requires_grad_(False)
    return net

class Noisy(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.head = nn.Linear(64, n)
        self.generator = torch.Generator()

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x + torch.randn(x.shape, generator=self.generator) * self.training)

def noisy(num_classes):
    return Noisy(num_classes)

def halved(logits, labels):
    return nn.functional.cross_entropy(logits, labels) / 2
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(textwrap.dedent(NETS))
    return str(path)


def images(n: int, *, stream: bool = False) -> ImageSplits:
    """Return n training, 16 validation and 16 test images of 8x8 in three classes, which can be told apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n + 32) % 3
    pixels = torch.randint(0, 60, (n + 32, 1, 8, 8), generator=generator)
    pixels[torch.arange(n + 32), 0, labels] += 150
    pixels = pixels.to(torch.uint8)
    parts = [torch.arange(n + 32)[a:b] for a, b in ((0, n), (n, n + 16), (n + 16, n + 32))]
    sets = [ImageSet(pixels, labels[p], p) if stream else ImageSet(pixels[p], labels[p]) for p in parts]
    return ImageSplits(*sets, classes=("a", "b", "c"), mean=(0.3,), std=(0.25,))


def engine(config: ModelConfig, n: int = 64, *, stream: bool = False, rules: Rules = Rules()) -> SerialEngine:  # noqa: B008
    splits = images(n, stream=stream)
    facts = replace(splits.facts(), network=preflight.look(config, splits.shape, splits.n_classes))
    return SerialEngine(splits, config, CPU, rules, facts, stream=stream)


def trained(training: SerialTraining) -> tuple[list[object], bytes]:
    told = [replace(one, seconds=0.0) if isinstance(one, EpochMetrics) else one for one in training.epochs()]
    return told, training.weights()


class After:
    """Asks for attention before the update of that number."""

    def __init__(self, step: int) -> None:
        self.left = step

    def is_set(self) -> bool:
        self.left -= 1
        return self.left == -1


def resumed(made: SerialEngine, at: int) -> tuple[list[object], bytes]:
    """Return what ``trained`` does, of a training that stops before update ``at`` and goes on from its checkpoint."""
    first = made.start(CONFIG, attention=After(at))
    told: list[object] = []
    for one in first.epochs():
        if isinstance(one, Paused):
            break
        told.append(replace(one, seconds=0.0))
    torch.rand(7)  # what others draw meanwhile does not matter
    rest, weights = trained(made.start(CONFIG, first.checkpoint()))
    return told + rest, weights


@pytest.mark.parametrize("function", ["drops", "tied", "frozen", "jitters"])
@pytest.mark.parametrize(("at", "stream"), [(0, False), (3, True), (8, False), (11, True)])
def test_a_resumed_training_equals_the_uninterrupted_one(nets: str, function: str, at: int, *, stream: bool) -> None:
    made = engine(ModelConfig(f"{nets}:{function}"), stream=stream)
    network = made.facts.network
    assert network is not None
    assert network.repeats
    assert resumed(made, at) == trained(made.start(CONFIG))


def test_streamed_images_train_as_resident_ones_do(nets: str) -> None:
    config = ModelConfig(f"{nets}:drops")
    resident, streamed = (engine(config, stream=stream) for stream in (False, True))
    assert streamed.splits.train.streamed
    assert not resident.splits.train.streamed
    assert trained(resident.start(CONFIG)) == trained(streamed.start(CONFIG))
    assert resident.splits.facts() == streamed.splits.facts()
    on_all = [trained(one.on_all_images().start(CONFIG))[1] for one in (resident, streamed)]
    assert on_all[0] == on_all[1]


def test_tied_weights_stay_tied_through_files_and_checkpoints(nets: str) -> None:
    training = engine(ModelConfig(f"{nets}:tied")).start(CONFIG)
    trained(training)
    weights = encode_weights(training.model)
    other = engine(ModelConfig(f"{nets}:tied")).start(replace(CONFIG, seed=1)).model
    load_weights(other, weights)
    assert other.b.weight is other.a.weight
    there, here = training.model.state_dict(), other.state_dict()
    assert all(torch.equal(here[name], there[name]) for name in there)


def test_frozen_parts_are_left_as_they_were_statistics_too(nets: str) -> None:
    made = engine(ModelConfig(f"{nets}:frozen"))
    assert made.facts.network is not None
    assert made.facts.network.frozen == ("0.weight", "0.bias", "1.weight", "1.bias")
    training = made.start(CONFIG)
    before = {name: t.clone() for name, t in training.model.state_dict().items()}
    trained(training)
    changed = [name for name, t in training.model.state_dict().items() if not torch.equal(t, before[name])]
    assert changed == ["5.weight", "5.bias"]
    networks.to_training(training.model)
    assert [part.training for part in training.model] == [False, False, True, True, True, True]
    assert len(frozen_parts(training.model)) == 2


def test_a_last_batch_of_one_is_left_out_where_a_network_normalises_by_batch(nets: str) -> None:
    made = engine(ModelConfig(f"{nets}:drops"), n=65)
    training = made.start(CONFIG)
    assert training.steps_per_epoch == 8
    told, _ = trained(training)
    assert len(told) == 2
    assert engine(ModelConfig(f"{nets}:tied"), n=65).start(CONFIG).steps_per_epoch == 9
    assert made.start(replace(CONFIG, batch_size=65)).steps_per_epoch == 1
    assert made.start(replace(CONFIG, batch_size=66)).steps_per_epoch == 1


def test_a_network_that_draws_from_a_generator_of_its_own_is_said_not_to_repeat_and_does_not(nets: str) -> None:
    made = engine(ModelConfig(f"{nets}:noisy"))
    network = made.facts.network
    assert network is not None
    assert not network.repeats
    assert resumed(made, 3) != trained(made.start(CONFIG))


def test_classes_weigh_by_their_inverse_frequency(nets: str) -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    labels = torch.tensor([0, 1, 2])
    judge = networks.judge_of(ModelConfig(), (60, 30, 10), 1.0, CPU)
    every = nn.functional.cross_entropy(logits, labels, reduction="none")
    weight = torch.tensor([1 / 60, 1 / 30, 1 / 10])
    loss, _ = judge.in_training(logits, labels)
    torch.testing.assert_close(loss, (every * weight).sum() / weight.sum())
    torch.testing.assert_close(judge.summed(logits, labels)[0], every.sum())  # judged without weights
    half = networks.judge_of(ModelConfig(), (60, 30, 0), 0.5, CPU)
    assert torch.isfinite(half.in_training(logits[:2], labels[:2])[0])


def test_a_loss_of_ones_own_is_trained_and_judged_by(nets: str) -> None:
    plain = engine(ModelConfig(f"{nets}:tied"))
    own = engine(ModelConfig(f"{nets}:tied", loss=f"{nets}:halved"))
    twice = replace(CONFIG, optimizer=replace(CONFIG.optimizer, peak_lr=0.1, weight_decay=0.0))
    once = replace(twice, optimizer=replace(twice.optimizer, peak_lr=0.05))
    (a, *_), _ = trained(plain.start(once))
    (b, *_), _ = trained(own.start(twice))
    assert isinstance(a, EpochMetrics)
    assert isinstance(b, EpochMetrics)
    assert b.val_loss == pytest.approx(a.val_loss / 2, rel=1e-4)
    assert b.val_accuracy == a.val_accuracy

"""The serial engine against the same training written out in the plainest PyTorch, and what must never change it."""

import math
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lrsearch.errors import StudyFileError
from lrsearch.families import FAMILIES
from lrsearch.schedules import factors
from lrsearch.training import data, device, serial
from lrsearch.training import engine as engines
from lrsearch.training.averaging import WeightAverage
from lrsearch.training.data import DataConfig, ImageSet, ImageSplits, Scaling
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine, SerialTraining
from lrsearch.trial import (
    Divergence,
    EpochMetrics,
    OptimizerConfig,
    OptimizerName,
    ScheduleConfig,
    ScheduleFamily,
    TrialConfig,
)

CPU = torch.device("cpu")
MLP = ModelConfig("mlp", (32,))
CNN = ModelConfig("cnn")
N_TRAIN = 800
N_VALIDATION = 200
WARM_COSINE = ScheduleConfig("cosine", warmup_fraction=0.15, final_fraction=0.05)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results repeat bit for bit for one thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def digits(scaling: Scaling = "unit") -> ImageSplits:
    """Return the digits; scaled to 0..1 the engine's arithmetic is that of the plain formula, bit for bit."""
    return data.load(DataConfig("digits", scaling=scaling))


def engine(rules: Rules = Rules(), model: ModelConfig = MLP) -> SerialEngine:  # noqa: B008 - frozen
    return SerialEngine(digits(), model, CPU, rules)


def make_config(
    optimizer: OptimizerConfig | None = None,
    schedule: ScheduleConfig = WARM_COSINE,
    *,
    batch_size: int = 64,
    epochs: int = 3,
    seed: int = 7,
) -> TrialConfig:
    return TrialConfig(optimizer or OptimizerConfig("sgd", 0.1, momentum=0.9), schedule, batch_size, epochs, seed)


SGD = make_config()
ADAM = make_config(OptimizerConfig("adam", 3e-3), ScheduleConfig("constant"), batch_size=100)


def unclocked(told: Iterable[EpochMetrics | Divergence | engines.Paused]) -> list[EpochMetrics]:
    """Return what epochs measured without the time they took: the rest repeats."""
    epochs = []
    for one in told:
        assert isinstance(one, EpochMetrics)
        epochs.append(replace(one, seconds=0.0))
    return epochs


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# --- the oracle: a training written out ------------------------------------------------------------------------------

Build = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Recipe:
    """A configuration of an optimizer, and the same one written for torch.optim; fused where the engine's is."""

    ours: OptimizerConfig
    theirs: Build


RECIPES = {
    "sgd": Recipe(
        OptimizerConfig("sgd", 0.3),
        lambda p: torch.optim.SGD(p, lr=0.3, fused=True),
    ),
    "sgd with momentum, dampening and decay": Recipe(
        OptimizerConfig("sgd", 0.2, weight_decay=1e-3, momentum=0.9, dampening=0.5),
        lambda p: torch.optim.SGD(p, lr=0.2, weight_decay=1e-3, momentum=0.9, dampening=0.5, fused=True),
    ),
    "sgd with nesterov": Recipe(
        OptimizerConfig("sgd", 0.05, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, fused=True),
    ),
    "adam": Recipe(
        OptimizerConfig("adam", 3e-3, weight_decay=1e-3, beta1=0.8, beta2=0.99, eps=1e-6),
        lambda p: torch.optim.Adam(p, lr=3e-3, weight_decay=1e-3, betas=(0.8, 0.99), eps=1e-6, fused=True),
    ),
    "adamw": Recipe(
        OptimizerConfig("adamw", 3e-3, weight_decay=0.1, beta1=0.8, beta2=0.99, eps=1e-6),
        lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6, fused=True),
    ),
    "rmsprop": Recipe(
        OptimizerConfig("rmsprop", 1e-3, weight_decay=1e-3, momentum=0.5, alpha=0.9, eps=1e-6),
        lambda p: torch.optim.RMSprop(p, lr=1e-3, weight_decay=1e-3, momentum=0.5, alpha=0.9, eps=1e-6),
    ),
}


def plain_mlp(shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 32), nn.ReLU(), nn.Linear(32, 10))


def plain_cnn(shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Module:
    channels, height, width = shape
    n_flat = 10 * ((height - 4) // 2) * ((width - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 10, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(n_flat, 50),
        nn.ReLU(),
        nn.Linear(50, 10),
    )


def plainly_normalized(splits: ImageSplits, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (splits.mean, splits.std))
    return (images.float() / 255 - mean) / std


def plainly_judged(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Return loss and accuracy."""
    model.eval()
    with torch.no_grad():
        logits = model(images)
    correct = int((logits.argmax(1) == labels).sum())
    return functional.cross_entropy(logits, labels).item(), correct / len(labels)


@dataclass
class WrittenOut:
    """What a training by hand measured, by epoch."""

    model: nn.Module
    train_loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    val: list[tuple[float, float]] = field(default_factory=list)
    """Loss and accuracy."""
    averaged: list[tuple[float, float]] = field(default_factory=list)
    """Of the moving average of the weights; without averaging, of the initial ones."""


def write_out(
    splits: ImageSplits,
    model: Callable[[tuple[int, int, int]], nn.Module],
    config: TrialConfig,
    theirs: Build,
    *,
    drop_last: bool = False,
    averaging: bool = False,
) -> WrittenOut:
    """Train as one would write it down, an update at a time."""
    x, y = plainly_normalized(splits, splits.train.images), splits.train.labels
    validation = plainly_normalized(splits, splits.validation.images), splits.validation.labels
    starts = list(range(0, len(y), config.batch_size))
    if drop_last:
        starts = [i for i in starts if i + config.batch_size <= len(y)]
    curve = factors(config.schedule, config.epochs * len(starts))

    torch.manual_seed(config.seed)
    net = model(splits.shape)
    order = torch.Generator().manual_seed(config.seed)
    optimizer = theirs(net.parameters())

    def averaged(average: torch.Tensor, current: torch.Tensor, t: torch.Tensor | int) -> torch.Tensor:
        decay = min(1 - 2 / len(starts), (1 + int(t)) / (10 + int(t)))
        return torch.lerp(average, current, 1 - max(decay, 0.0))

    average = AveragedModel(net, avg_fn=averaged, use_buffers=True)
    unit = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = config.schedule.family == "plateau" and ReduceLROnPlateau(
        unit,
        factor=config.schedule.drop_factor or math.nan,
        patience=config.schedule.patience_epochs or 0,
        min_lr=config.schedule.final_fraction or 0.0,
    )

    out = WrittenOut(net)
    t = 0
    for _ in range(config.epochs):
        net.train()
        losses, lr = [], math.nan
        rows = torch.randperm(len(y), generator=order)
        for start in starts:
            batch = rows[start : start + config.batch_size]
            lr = float(curve[t]) * config.optimizer.peak_lr * unit.param_groups[0]["lr"]
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            if averaging:
                average.update_parameters(net)
            losses.append(loss.item())
            t += 1
        out.train_loss.append(math.fsum(losses) / len(losses))
        out.lr.append(lr)
        out.val.append(plainly_judged(net, *validation))
        out.averaged.append(plainly_judged(average, *validation))
        if plateau:
            plateau.step(out.val[-1][0])
    return out


def assert_equal(ours: list[EpochMetrics], theirs: WrittenOut, *, same_pixels: bool = True) -> None:
    """Compare all but the averaged scores; the engine adds up float32 parts of the validation loss in float64."""
    rel = 1e-6 if same_pixels else 1e-5
    assert [m.epoch for m in ours] == list(range(1, len(theirs.lr) + 1))
    assert [m.lr for m in ours] == theirs.lr
    assert [m.train_loss for m in ours] == pytest.approx(theirs.train_loss, rel=1e-12 if same_pixels else rel)
    assert [m.val_loss for m in ours] == pytest.approx([loss for loss, _ in theirs.val], rel=rel)
    assert [m.val_accuracy for m in ours] == [accuracy for _, accuracy in theirs.val]


# --- the engine is that training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True], ids=["keep last", "drop last"])
@pytest.mark.parametrize("batch_size", [100, 64])
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_equals_the_one_written_out_bit_for_bit(name: str, batch_size: int, drop_last: bool) -> None:
    recipe = RECIPES[name]
    config = make_config(recipe.ours, batch_size=batch_size)
    training = SerialTraining(digits(), MLP, CPU, Rules(drop_last=drop_last), config)
    ours = unclocked(training.epochs())
    theirs = write_out(digits(), plain_mlp, config, recipe.theirs, drop_last=drop_last)
    assert_equal(ours, theirs)
    assert same_weights(training.model, theirs.model)
    per_epoch = N_TRAIN // batch_size if drop_last else math.ceil(N_TRAIN / batch_size)
    assert [m.step for m in ours] == [per_epoch, 2 * per_epoch, 3 * per_epoch]


def test_the_written_out_trainings_learn_so_that_equality_says_something() -> None:
    for recipe in RECIPES.values():
        *_, last = unclocked(engine().start(make_config(recipe.ours)).epochs())
        assert last.val_accuracy > 0.75, recipe


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_convolutional_training_equals_the_one_written_out(epochs: int) -> None:
    config = make_config(epochs=epochs)
    training = SerialTraining(digits(), CNN, CPU, Rules(), config)
    ours = unclocked(training.epochs())
    theirs = write_out(digits(), plain_cnn, config, lambda p: torch.optim.SGD(p, momentum=0.9, fused=True))
    assert_equal(ours, theirs)
    assert same_weights(training.model, theirs.model)


@pytest.mark.parametrize("name", RECIPES)
def test_standardised_images_train_as_the_plain_formula_has_them(name: str) -> None:
    """Not bit for bit: the engine multiplies where the formula divides."""
    splits, recipe = digits("standard"), RECIPES[name]
    config = make_config(replace(recipe.ours, peak_lr=recipe.ours.peak_lr / 4), epochs=2)
    ours = unclocked(SerialEngine(splits, MLP, CPU, Rules()).start(config).epochs())
    theirs = write_out(splits, plain_mlp, config, recipe.theirs)
    assert_equal(ours, theirs, same_pixels=False)


def test_colour_images_built_by_hand_train_the_cnn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(150) % 10
    noise = torch.randint(0, 60, (150, 3, 32, 32), generator=generator)
    tint = torch.stack([labels * 19, 180 - labels * 15, labels % 3 * 70], dim=1).view(150, 3, 1, 1)
    images = (noise + tint).to(torch.uint8)
    train = ImageSet(images[:100], labels[:100])
    mean, std = data.statistics(train)
    splits = ImageSplits(
        train=train,
        validation=ImageSet(images[100:130], labels[100:130]),
        test=ImageSet(images[130:], labels[130:]),
        classes=tuple("abcdefghij"),
        mean=mean,
        std=std,
    )
    config = make_config(OptimizerConfig("sgd", 0.02), ScheduleConfig("constant"), batch_size=8, epochs=1)

    trained = SerialEngine(splits, CNN, CPU, Rules())
    ours = unclocked(trained.start(config).epochs())
    theirs = write_out(splits, plain_cnn, config, lambda p: torch.optim.SGD(p, fused=True))
    assert_equal(ours, theirs, same_pixels=False)
    assert ours[0].step == 13
    assert ours[0].val_accuracy > 0.3  # three times as good as guessing, after 100 images
    tested = trained.test(config)
    assert isinstance(tested, engines.TestResult)
    assert 0 < tested.test_loss < math.log(10)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [64, 100, 799])
def test_results_do_not_depend_on_how_many_images_are_gathered_at_once(
    batch_size: int, drop_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(elements: int) -> tuple[list[EpochMetrics], nn.Module]:
        monkeypatch.setattr(serial, "CHUNK_ELEMENTS", elements)
        training = SerialTraining(digits("standard"), MLP, CPU, Rules(drop_last), make_config(batch_size=batch_size))
        return unclocked(training.epochs()), training.model

    pixels = 28 * 28
    at_once, model = run(N_TRAIN * pixels * 10)
    for elements in (1, batch_size * pixels, 3 * batch_size * pixels, (3 * batch_size + 5) * pixels):
        again, other = run(elements)
        assert again == at_once
        assert same_weights(other, model)


def test_an_epoch_shows_every_image_once_in_an_order_that_batches_and_optimizers_share() -> None:
    def epochs(config: TrialConfig) -> list[torch.Tensor]:
        training = SerialTraining(digits(), MLP, CPU, Rules(), config)
        seen: list[torch.Tensor] = []
        training.model.register_forward_pre_hook(lambda model, args: seen.extend(args if model.training else ()))
        told = training.epochs()
        unclocked([next(told), next(told)])
        assert len(torch.cat(seen)) == 2 * N_TRAIN
        return list(torch.cat(seen).split(N_TRAIN))

    first, second = epochs(SGD)
    images = plainly_normalized(digits(), digits().train.images)
    in_order = sorted(map(tuple, images.flatten(1).tolist()))
    assert sorted(map(tuple, first.flatten(1).tolist())) == in_order
    assert not torch.equal(first, second)
    for other in (replace(SGD, batch_size=100), replace(SGD, batch_size=800), replace(ADAM, epochs=9)):
        assert all(torch.equal(a, b) for a, b in zip(epochs(other), (first, second), strict=True))
    assert not torch.equal(epochs(replace(SGD, seed=8))[0], first)


def test_trainings_start_from_equal_weights_whatever_their_setting_and_from_others_for_another_seed() -> None:
    def start(config: TrialConfig) -> nn.Module:
        return SerialTraining(digits(), MLP, CPU, Rules(), config).model

    ours = start(SGD)
    for other in (replace(SGD, batch_size=10), ADAM, replace(SGD, epochs=50)):
        assert same_weights(start(other), ours)
    assert not same_weights(start(replace(SGD, seed=8)), ours)


def test_updates_are_made_in_training_mode_and_scores_taken_in_evaluation_mode() -> None:
    training = SerialTraining(digits(), MLP, CPU, Rules(), SGD)
    modes: list[bool] = []
    training.model.register_forward_hook(lambda module, _images, _logits: modes.append(module.training))
    unclocked(training.epochs())
    assert modes == ([True] * 13 + [False]) * 3


def test_an_epoch_takes_time_of_its_own() -> None:
    begun = time.perf_counter()
    seconds = [
        told.seconds for told in engine().start(replace(SGD, epochs=6)).epochs() if isinstance(told, EpochMetrics)
    ]
    elapsed = time.perf_counter() - begun
    assert all(s > 0 for s in seconds)
    assert elapsed / 3 < sum(seconds) <= elapsed


def test_what_cannot_be_built_fails_at_the_start() -> None:
    splits = digits()
    small = replace(splits, train=ImageSet(splits.train.images[..., :5, :5], splits.train.labels))
    with pytest.raises(StudyFileError, match="5x5"):
        SerialEngine(small, CNN, CPU, Rules()).start(SGD)


# --- the learning rate -----------------------------------------------------------------------------------------------

SHAPES: dict[ScheduleFamily, ScheduleConfig] = {
    "constant": ScheduleConfig("constant"),
    "step": ScheduleConfig("step", final_fraction=0.01, drops=2),
    "multistep": ScheduleConfig("multistep", final_fraction=0.01, milestones=(0.4, 0.7)),
    "exponential": ScheduleConfig("exponential", final_fraction=0.01),
    "linear": ScheduleConfig("linear", final_fraction=0.0),
    "cosine": ScheduleConfig("cosine", final_fraction=0.0),
    "polynomial": ScheduleConfig("polynomial", final_fraction=0.0, power=2.0),
    "inverse_sqrt": ScheduleConfig("inverse_sqrt", final_fraction=0.1),
    "one_cycle": ScheduleConfig("one_cycle", final_fraction=0.01, rise_fraction=0.3, initial_fraction=0.04),
    "triangular": ScheduleConfig("triangular", final_fraction=0.1, cycles=2),
    "warm_restarts": ScheduleConfig("warm_restarts", final_fraction=0.0, cycles=2, cycle_mult=2),
    "wsd": ScheduleConfig("wsd", final_fraction=0.0, decay_fraction=0.4),
    "wsd_cosine": ScheduleConfig("wsd_cosine", final_fraction=0.0, decay_fraction=0.4),
    "plateau": ScheduleConfig("plateau", final_fraction=0.0, drop_factor=0.1, patience_epochs=100),
}


def test_the_table_of_schedules_has_every_family() -> None:
    assert set(SHAPES) == set(FAMILIES)


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.4])
@pytest.mark.parametrize("family", SHAPES)
def test_the_lr_of_an_epoch_is_the_schedules_at_its_last_update(family: ScheduleFamily, warmup_fraction: float) -> None:
    config = make_config(schedule=replace(SHAPES[family], warmup_fraction=warmup_fraction), batch_size=300, epochs=5)
    curve = factors(config.schedule, 15) * config.optimizer.peak_lr
    assert [m.lr for m in unclocked(engine().start(config).epochs())] == [float(curve[t]) for t in (2, 5, 8, 11, 14)]


def test_the_lr_of_a_linear_fall_is_as_worked_out_by_hand() -> None:
    config = make_config(OptimizerConfig("sgd", 0.4), SHAPES["linear"], batch_size=400, epochs=2)
    # 4 updates at 1, 3/4, 1/2, 1/4 of the peak.
    assert [m.lr for m in unclocked(engine().start(config).epochs())] == pytest.approx([0.3, 0.1], rel=1e-12)


PLATEAUS = {
    "impatient": (ScheduleConfig("plateau", final_fraction=0.2, drop_factor=0.5, patience_epochs=0), True),
    "warmed up": (
        ScheduleConfig("plateau", warmup_fraction=0.5, final_fraction=0.2, drop_factor=0.5, patience_epochs=0),
        True,
    ),
    "patient": (ScheduleConfig("plateau", final_fraction=0.0, drop_factor=0.3, patience_epochs=2), False),
}


@pytest.mark.parametrize("name", PLATEAUS)
def test_a_plateau_drops_when_torchs_scheduler_does_and_no_lower_than_its_floor(name: str) -> None:
    schedule, meets_floor = PLATEAUS[name]
    optimizer = OptimizerConfig("sgd", 1.0, momentum=0.9)
    config = make_config(optimizer, schedule, batch_size=100, epochs=14)
    training = SerialTraining(digits(), MLP, CPU, Rules(divergence_watch=False), config)
    ours = unclocked(training.epochs())

    # torch's own, on the peak itself, driven by the losses that the engine told.
    peak = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=optimizer.peak_lr)
    theirs = ReduceLROnPlateau(
        peak,
        factor=schedule.drop_factor or math.nan,
        patience=schedule.patience_epochs or 0,
        min_lr=optimizer.peak_lr * (schedule.final_fraction or 0.0),
    )
    rates = []
    for told in ours:
        rates.append(peak.param_groups[0]["lr"])
        theirs.step(told.val_loss)
    n_drops = len(set(rates)) - 1
    assert n_drops >= (3 if meets_floor else 1)
    assert (rates[-1] == 0.2) is meets_floor
    ramp = [min(1.0, 8 * m.epoch / (112 * schedule.warmup_fraction or 1)) for m in ours]
    assert [m.lr for m in ours] == pytest.approx([a * b for a, b in zip(rates, ramp, strict=True)], rel=1e-12)

    by_hand = write_out(digits(), plain_mlp, config, lambda p: torch.optim.SGD(p, momentum=0.9, fused=True))
    assert same_weights(training.model, by_hand.model)


# --- the averaged weights --------------------------------------------------------------------------------------------


def with_batch_norm() -> nn.Module:
    torch.manual_seed(0)
    # No bias in front of the norm, which would take it away again: it would not move.
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("steps_per_epoch", [1, 2, 3, 13, 1000])
def test_the_average_equals_torchs_averaged_model_after_every_update(steps_per_epoch: int) -> None:
    def averaged(average: torch.Tensor, current: torch.Tensor, t: torch.Tensor | int) -> torch.Tensor:
        if not current.is_floating_point():
            return current  # the batches seen are counted, not averaged
        decay = max(0.0, min(1 - 2 / steps_per_epoch, (1 + int(t)) / (10 + int(t))))
        return decay * average + (1 - decay) * current

    model = with_batch_norm()
    ours = WeightAverage(model, steps_per_epoch)
    theirs = AveragedModel(model, avg_fn=averaged, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    splits = digits()
    for t in range(40):
        rows = slice(20 * t, 20 * t + 20)
        loss = functional.cross_entropy(model(splits.normalize(splits.train.images[rows])), splits.train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ours.update(t)
        theirs.update_parameters(model)
        mine, torchs, current = (m.state_dict() for m in (ours.model, theirs.module, model))
        assert list(mine) == list(current)
        for name, value in mine.items():
            torch.testing.assert_close(value, torchs[name], rtol=1e-5, atol=1e-6, msg=name)
            if steps_per_epoch > 2 and t > 0 and value.is_floating_point():
                assert not torch.equal(value, current[name]), name
    assert mine["2.num_batches_tracked"] == 40
    assert not any(p.requires_grad for p in ours.model.parameters())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("steps_per_epoch", "decays"),
    [
        (1, {0: 0.0, 1: 0.0, 100: 0.0}),
        (2, {0: 0.0, 1: 0.0, 100: 0.0}),
        (3, {0: 0.0, 1: 2 / 11, 3: 4 / 13, 4: 1 / 3, 5: 1 / 3, 1000: 1 / 3}),
        (100, {0: 0.0, 1: 2 / 11, 98: 99 / 108, 440: 441 / 450, 441: 0.98, 10_000: 0.98}),
    ],
)
def test_the_decay_warms_up_to_half_an_epoch(steps_per_epoch: int, decays: dict[int, float]) -> None:
    average = WeightAverage(nn.Linear(1, 1), steps_per_epoch)
    assert {t: average.decay(t) for t in decays} == pytest.approx(decays, rel=1e-12)


@given(steps_per_epoch=st.integers(1, 60), n_epochs=st.integers(1, 6))
def test_the_average_never_lags_by_more_than_half_an_epoch(steps_per_epoch: int, n_epochs: int) -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    average = WeightAverage(model, steps_per_epoch)
    lag = 0.0
    for t in range(steps_per_epoch * n_epochs):
        nn.init.constant_(model.weight, float(t))  # a weight that tells the time
        average.update(t)
        lag = t - next(average.model.parameters()).item()
        assert -1e-9 <= lag <= max(0.0, (steps_per_epoch - 2) / 2) + 1e-9
    if steps_per_epoch > 2 and n_epochs > 1:
        assert lag > 0


@pytest.mark.parametrize("batch_size", [800, 400, 300, 64])
def test_averaged_scores_are_those_of_torchs_averaged_model(batch_size: int) -> None:
    config = make_config(OptimizerConfig("sgd", 0.5, momentum=0.9), batch_size=batch_size, epochs=4)
    ours = unclocked(engine(Rules(divergence_watch=False)).start(config).epochs())
    theirs = write_out(
        digits(), plain_mlp, config, lambda p: torch.optim.SGD(p, momentum=0.9, fused=True), averaging=True
    )
    assert [m.averaged_val_loss for m in ours] == pytest.approx([loss for loss, _ in theirs.averaged], rel=1e-6)
    assert [m.averaged_val_accuracy for m in ours] == [accuracy for _, accuracy in theirs.averaged]
    # In an epoch of one or two updates there is nothing to average over.
    assert (ours[0].averaged_val_loss == ours[0].val_loss) is (batch_size >= 400)


@pytest.mark.parametrize("config", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_averaging_leaves_the_raw_scores_alone_bit_for_bit(model: ModelConfig, config: TrialConfig) -> None:
    config = replace(config, epochs=2)
    averaged = unclocked(engine(model=model).start(config).epochs())
    raw = unclocked(engine(Rules(averaging=False), model).start(config).epochs())
    assert all(m.averaged_val_loss is None and m.averaged_val_accuracy is None for m in raw)
    assert [replace(m, averaged_val_loss=None, averaged_val_accuracy=None) for m in averaged] == raw
    assert all(m.averaged_val_loss is not None for m in averaged)


def test_the_divergence_watch_leaves_a_training_that_goes_well_alone_bit_for_bit() -> None:
    assert unclocked(engine(Rules(divergence_watch=False)).start(SGD).epochs()) == unclocked(
        engine().start(SGD).epochs()
    )


# --- repetition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_repeats_bit_for_bit(name: str) -> None:
    config = make_config(RECIPES[name].ours)
    first = unclocked(engine().start(config).epochs())
    assert unclocked(engine().start(config).epochs()) == first
    assert unclocked(engine().start(replace(config, seed=8)).epochs()) != first


def test_it_does_not_matter_what_was_trained_before() -> None:
    used = engine()
    first, other, again = (unclocked(used.start(config).epochs()) for config in (SGD, ADAM, SGD))
    assert again == first
    assert other == unclocked(engine().start(ADAM).epochs())


def test_trainings_may_take_turns() -> None:
    used = engine()
    turns = list(zip(used.start(SGD).epochs(), used.start(ADAM).epochs(), strict=True))
    assert unclocked(a for a, _ in turns) == unclocked(engine().start(SGD).epochs())
    assert unclocked(b for _, b in turns) == unclocked(engine().start(ADAM).epochs())


def test_a_training_that_is_closed_half_way_leaves_the_engine_as_it_was() -> None:
    used = engine()
    expected = unclocked(used.start(SGD).epochs())
    for n_epochs in (0, 1, 2):
        half = used.start(SGD).epochs()
        told = [next(half) for _ in range(n_epochs)]
        half.close()
        assert unclocked(told) == expected[:n_epochs]
        assert list(half) == []
        assert unclocked(used.start(SGD).epochs()) == expected


@pytest.mark.slow
def test_another_process_measures_the_same() -> None:
    program = f"""
import torch
from dataclasses import replace
from lrsearch.training import data
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import *
torch.set_num_threads(1)
torch.rand(3)  # whatever it did before
engine = SerialEngine(data.load(data.DataConfig("digits", scaling="unit")), {MLP!r}, torch.device("cpu"), Rules())
for config in ({ADAM!r}, {SGD!r}):
    print([replace(epoch, seconds=0.0) for epoch in engine.start(config).epochs()])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [repr(unclocked(engine().start(config).epochs())) for config in (ADAM, SGD)]


def test_training_and_the_random_numbers_of_others_leave_each_other_alone() -> None:
    expected = unclocked(engine().start(SGD).epochs())
    torch.manual_seed(99)
    state, python_state = torch.random.get_rng_state(), random.getstate()
    used = engine()
    epochs = used.start(SGD).epochs()
    for m in expected:
        assert unclocked([next(epochs)]) == [m]
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.rand(5)  # somebody draws between two epochs
        state = torch.random.get_rng_state()
    used.test(SGD)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert random.getstate() == python_state


# --- the test set ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SGD, ADAM], ids=["sgd", "adam"])
def test_the_last_weights_are_judged_on_the_797_test_images(config: TrialConfig) -> None:
    used = engine()
    tested = used.test(config)
    assert isinstance(tested, engines.TestResult)
    *_, last = unclocked(used.start(config).epochs())
    assert (tested.val_loss, tested.val_accuracy) == (last.val_loss, last.val_accuracy)
    name: OptimizerName = config.optimizer.name
    theirs: dict[str, Build] = {
        "sgd": lambda p: torch.optim.SGD(p, momentum=0.9, fused=True),
        "adam": lambda p: torch.optim.Adam(p, fused=True),
    }
    by_hand = write_out(digits(), plain_mlp, config, theirs[name])
    images = plainly_normalized(digits(), digits().test.images)
    loss, accuracy = plainly_judged(by_hand.model, images, digits().test.labels)
    assert len(images) == 797
    assert tested.test_accuracy == accuracy
    assert tested.test_accuracy > 0.75
    assert tested.test_loss == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("evaluation_batch", [1, 100, 199, 200, 797, 10_000])
def test_scores_do_not_depend_on_how_many_images_are_judged_at_once(
    evaluation_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge() -> tuple[engines.TestResult, EpochMetrics]:
        tested = engine().test(replace(SGD, epochs=1))
        assert isinstance(tested, engines.TestResult)
        [last] = unclocked(engine().start(replace(SGD, epochs=1)).epochs())
        return tested, last

    expected, theirs = judge()
    monkeypatch.setattr(serial, "EVALUATION_BATCH", evaluation_batch)
    tested, ours = judge()
    assert (tested.test_accuracy, tested.val_accuracy) == (expected.test_accuracy, expected.val_accuracy)
    assert (tested.test_loss, tested.val_loss) == pytest.approx((expected.test_loss, expected.val_loss), rel=1e-6)
    assert ours.averaged_val_accuracy == theirs.averaged_val_accuracy
    assert ours.averaged_val_loss == pytest.approx(theirs.averaged_val_loss, rel=1e-6)


# --- no wait for the device ------------------------------------------------------------------------------------------

WAITS = frozenset(
    {"tolist", "numpy", "cpu", "nonzero", "equal", "unique", "item", "__bool__", "__float__", "__int__", "__index__"}
)


class Waits(TorchFunctionMode):
    """Counts what would wait for a device: calls of Tensor that hand a value to Python."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in WAITS:
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


class Scalars(TorchDispatchMode):
    """Counts the same one floor below, where torch.optim's own are seen too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_read = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.n_read += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("divergence_watch", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_the_device_is_waited_for_once_an_epoch_and_when_the_watch_looks(name: str, divergence_watch: bool) -> None:
    recipe = RECIPES[name].ours
    config = make_config(replace(recipe, peak_lr=recipe.peak_lr / 10), batch_size=4, epochs=1)
    epochs = engine(Rules(divergence_watch=divergence_watch)).start(config).epochs()
    with Waits() as waits, Scalars() as scalars:
        told = next(epochs)
    assert isinstance(told, EpochMetrics)
    assert told.step == 200
    looks = 200 // serial.CHECK_EVERY_STEPS if divergence_watch else 0
    assert waits.calls == ["tolist"] * (looks + 1)
    assert scalars.n_read == 0


# --- CUDA ------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_on_cuda_a_training_repeats_bit_for_bit_and_starts_as_on_the_cpu(model: ModelConfig) -> None:
    cuda = torch.device("cuda", 0)
    device.prepare(cuda, 1)
    state = torch.cuda.get_rng_state()
    used = SerialEngine(digits(), model, cuda, Rules())
    first = unclocked(used.start(SGD).epochs())
    assert unclocked(used.start(SGD).epochs()) == first
    assert torch.equal(torch.cuda.get_rng_state(), state)
    on_cpu = unclocked(SerialEngine(digits(), model, CPU, Rules()).start(SGD).epochs())
    assert first[0].train_loss == pytest.approx(on_cpu[0].train_loss, rel=0.02)
    assert first[-1].val_accuracy == pytest.approx(on_cpu[-1].val_accuracy, abs=0.05)


@pytest.mark.gpu
@needs_cuda
def test_on_cuda_no_update_waits_for_the_gpu() -> None:
    epochs = (
        SerialEngine(digits(), MLP, torch.device("cuda", 0), Rules())
        .start(replace(SGD, batch_size=4, epochs=2))
        .epochs()
    )
    next(epochs)  # what is done once is done
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            next(epochs)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in seen if "synchroniz" in str(warning.message)]
    assert 1 <= len(waits) <= 8  # the looks, the scores, the order's way onto the device; not 200

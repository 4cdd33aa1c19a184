"""What the engine promises holds with augmentation: resume, tiers, paired trials, the watch, and what is judged."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from lrsearch.spec.training import AugmentSpec
from lrsearch.training import collapse, networks, serial
from lrsearch.training.augment import floors, mixing
from lrsearch.training.augment.augmenter import Augmenter
from lrsearch.training.checkpoint import load_weights
from lrsearch.training.collapse import At, Course, Guess
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.engine import CheckpointError, Paused
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine, SerialTraining
from lrsearch.trial import Arithmetic, Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

CPU = torch.device("cpu")
MLP = ModelConfig("mlp", (16,))
CONFIG = TrialConfig(OptimizerConfig("sgd", 0.05, momentum=0.9), ScheduleConfig("cosine", 0.1, 0.01), 8, 2, 0)
ALL = AugmentSpec.model_validate(
    "flip, crop=1, affine=10, translate=0.1, scale=0.1, shear=5, resized_crop=0.5, brightness=0.2, contrast=0.2, "
    "saturation=0.2, trivial, erase=0.3, mixup=0.3, cutmix=0.5, label_smoothing=0.1"
)
ROWS = [AugmentSpec.model_validate(keys) for keys in ("flip, crop=1", "trivial", "mixup=0.2, cutmix=1.0")]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results repeat bit for bit for one thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(n: int = 65, n_classes: int = 3, *, stream: bool = False) -> ImageSplits:
    """Return n training, 30 validation and 30 test images, 8x8, whose class is how bright they are in one channel."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n + 60) % n_classes
    pixels = torch.randint(0, 60, (n + 60, 3, 8, 8), generator=generator)
    pixels[torch.arange(n + 60), labels % 3] += 60 + 60 * (labels // 3)[:, None, None]
    pixels = pixels.to(torch.uint8)
    parts = [torch.arange(n + 60)[a:b] for a, b in ((0, n), (n, n + 30), (n + 30, n + 60))]
    sets = [ImageSet(pixels, labels[p], p) if stream else ImageSet(pixels[p], labels[p]) for p in parts]
    names = tuple("abcdefghij"[:n_classes])
    return ImageSplits(*sets, classes=names, mean=(0.3, 0.3, 0.3), std=(0.25, 0.25, 0.25))


def engine(augment: AugmentSpec | None, *, stream: bool = False, n: int = 65, **rules: object) -> SerialEngine:
    made = Rules(**{"augment": augment, **rules})  # type: ignore[arg-type]
    return SerialEngine(images(n, stream=stream), MLP, CPU, made, stream=stream)


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


# --- resume, tiers, pairs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [ALL, *ROWS], ids=lambda spec: spec.words)
@pytest.mark.parametrize(("at", "stream"), [(0, False), (4, True), (9, False), (15, True)])
def test_a_resumed_training_equals_the_uninterrupted_one(
    augment: AugmentSpec, at: int, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    monkeypatch.setattr(serial, "CHUNK_ELEMENTS", 2 * 8 * 3 * 64)  # two batches at once, of an epoch's nine
    made = engine(augment, stream=stream)
    first = made.start(CONFIG, attention=After(at))
    told: list[object] = []
    for one in first.epochs():
        if isinstance(one, Paused):
            assert one.step == at
            break
        told.append(replace(one, seconds=0.0))
    rest, weights = trained(made.start(CONFIG, first.checkpoint()))
    assert (told + rest, weights) == trained(made.start(CONFIG))


def test_streamed_images_train_as_resident_ones_do() -> None:
    resident, streamed = (engine(ALL, stream=stream) for stream in (False, True))
    assert streamed.splits.train.streamed
    assert not resident.splits.train.streamed
    assert trained(resident.start(CONFIG)) == trained(streamed.start(CONFIG))
    on_all = [trained(one.on_all_images().start(CONFIG))[1] for one in (resident, streamed)]
    assert on_all[0] == on_all[1]


def batches(training: SerialTraining) -> list[tuple[torch.Tensor, torch.Tensor]]:
    order = torch.Generator()
    order.set_state(training._order)
    return list(training._batches(order, 0))


def test_an_epochs_batches_are_those_of_its_updates() -> None:
    made = engine(ALL)
    training = made.start(CONFIG)
    change = Augmenter(ALL, made.splits, CONFIG.seed)
    order = torch.Generator().manual_seed(CONFIG.seed)
    for _ in range(2):
        rows = torch.randperm(65, generator=order).split(8)
        for step, (some, (pictures, labels)) in enumerate(zip(rows, batches(training), strict=True), training.step):
            wanted, of = change(*made.splits.train.take(some), step, 8)
            assert torch.allclose(pictures, wanted, atol=1e-6)
            assert torch.equal(labels, of)
        next(training.epochs())
    assert training.step == 18


def test_trials_of_one_seed_and_batch_size_see_the_same_images() -> None:
    made = engine(ALL)
    other = replace(CONFIG, optimizer=OptimizerConfig("adam", 0.01), schedule=ScheduleConfig("constant"), epochs=3)
    for (a, x), (b, y) in zip(batches(made.start(CONFIG)), batches(made.start(other)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)
    (a, _), *_ = batches(made.start(replace(CONFIG, seed=1)))
    assert not torch.equal(a, batches(made.start(CONFIG))[0][0])


def test_how_many_images_are_changed_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batches(engine(ALL).start(CONFIG))
    monkeypatch.setattr(serial, "CHUNK_ELEMENTS", 1)
    for (a, x), (b, y) in zip(whole, batches(engine(ALL).start(CONFIG)), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert torch.equal(x, y)


def test_a_last_batch_of_one_image_is_trained_on() -> None:
    told, _ = trained(engine(ALL, n=65).start(CONFIG))
    assert [one.step for one in told if isinstance(one, EpochMetrics)] == [9, 18]


# --- what is off changes nothing -------------------------------------------------------------------------------------


def test_without_augmentation_nothing_is_drawn_and_checkpoints_are_as_before() -> None:
    training = engine(None).start(CONFIG)
    assert training._augment is None
    assert "augment" not in training._decided_by()
    for (pictures, labels), rows in zip(
        batches(training), torch.randperm(65, generator=torch.Generator().manual_seed(0)).split(8), strict=True
    ):
        there, of = training._splits.train.take(rows)
        assert torch.equal(pictures, training._splits.normalize(there))
        assert torch.equal(labels, of)
    assert training._guess == collapse.guess_of(training._splits.train.labels, training._splits.validation.labels, 3)
    assert training._guess.floor == 0.0


def test_the_checkpoint_of_another_augmentation_is_refused() -> None:
    first = engine(AugmentSpec(flip=True)).start(CONFIG)
    assert next(first.epochs())
    with pytest.raises(CheckpointError, match=r"this one has rules\.augment\.crop = None instead of 1"):
        engine(AugmentSpec(crop=1)).start(CONFIG, first.checkpoint())
    with pytest.raises(CheckpointError, match=r"rules\.augment\.flip = True instead of None"):
        engine(None).start(CONFIG, first.checkpoint())


@pytest.mark.parametrize("by_class", [True, False])
def test_what_is_judged_is_never_changed(*, by_class: bool) -> None:
    changed, plain = engine(ALL).start(CONFIG), engine(None).start(CONFIG)
    _, weights = trained(changed)
    load_weights(plain.model, weights)
    for which in ("validation", "test", "train"):
        pictures = getattr(changed._splits, which)
        assert changed.evaluate(pictures, by_class=by_class) == plain.evaluate(pictures, by_class=by_class)


def test_an_epochs_validation_is_that_of_its_weights() -> None:
    changed, plain = engine(ALL, averaging=False).start(CONFIG), engine(None).start(CONFIG)
    for told in changed.epochs():
        assert isinstance(told, EpochMetrics)
        load_weights(plain.model, changed.weights())
        scores = plain.evaluate(plain._splits.validation)
        assert (told.val_loss, told.val_accuracy) == (scores.loss, scores.accuracy)


# --- the loss --------------------------------------------------------------------------------------------------------

LOGITS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
FIRST, SECOND = torch.tensor([0, 1, 2, 3, 4, 0, 1]), torch.tensor([1, 1, 4, 0, 2, 3, 0])
KEPT = torch.tensor([1.0, 0.3, 0.5, 0.0, 0.9, 0.7, 0.25])
MIXED = mixing.mixed_labels(FIRST, SECOND, KEPT)
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.5, 1.5])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_two_labels_is_that_of_their_probabilities(smoothing: float) -> None:
    parts = KEPT[:, None] * functional.one_hot(FIRST, 5) + (1 - KEPT)[:, None] * functional.one_hot(SECOND, 5)
    wanted = functional.cross_entropy(LOGITS, parts, label_smoothing=smoothing)
    torch.testing.assert_close(mixing.cross_entropy(LOGITS, MIXED, label_smoothing=smoothing), wanted)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_two_equal_labels_is_torchs(weight: torch.Tensor | None, smoothing: float) -> None:
    wanted = functional.cross_entropy(LOGITS, FIRST, weight, label_smoothing=smoothing)
    for labels in (FIRST, mixing.mixed_labels(FIRST, FIRST, KEPT), mixing.mixed_labels(FIRST, SECOND, KEPT * 0 + 1)):
        torch.testing.assert_close(mixing.cross_entropy(LOGITS, labels, weight, smoothing), wanted)


def test_classes_weigh_by_what_their_labels_count() -> None:
    every = torch.stack([functional.cross_entropy(LOGITS, of, reduction="none") for of in (FIRST, SECOND)])
    weights = torch.stack((KEPT * WEIGHT[FIRST], (1 - KEPT) * WEIGHT[SECOND]))
    wanted = (every * weights).sum() / weights.sum()
    torch.testing.assert_close(mixing.cross_entropy(LOGITS, MIXED, WEIGHT), wanted)


NETS = """
from torch import nn

def build(num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
"""


@pytest.mark.parametrize("power", [None, 1.0])
@pytest.mark.parametrize("own", [True, False])
def test_the_loss_of_a_batch_is_that_of_its_parts(
    power: float | None, tmp_path_factory: pytest.TempPathFactory, *, own: bool
) -> None:
    file = tmp_path_factory.mktemp("nets") / "net.py"
    file.write_text(NETS)
    config = ModelConfig(f"{file}:build") if own else MLP
    judge = networks.judge_of(config, (9, 5, 3, 1, 4), power, CPU, ALL)
    for labels in (MIXED, FIRST):
        whole, logits = judge.in_training(LOGITS, labels)
        assert logits is LOGITS
        masses = [judge.mass(part) for part in labels.split(3)]
        losses = [judge.in_training(*pair)[0] for pair in zip(LOGITS.split(3), labels.split(3), strict=True)]
        total = sum(loss * mass for loss, mass in zip(losses, masses, strict=True)) / sum(masses)
        torch.testing.assert_close(total, whole)
    # It is judged by the plain cross entropy.
    wanted = functional.cross_entropy(LOGITS, FIRST, reduction="sum")
    torch.testing.assert_close(judge.summed(LOGITS, FIRST)[0], wanted)


@pytest.mark.parametrize("class_weights", [None, 1.0])
def test_updates_in_parts_see_the_images_of_the_whole_batch(class_weights: float | None) -> None:
    whole, in_parts = (engine(ALL, class_weights=class_weights) for _ in range(2))
    in_parts.follow(Arithmetic(micro_batch=3))
    trainings = [one.start(CONFIG) for one in (whole, in_parts)]
    assert trainings[1].micro_batch == 3
    told = [trained(one)[0] for one in trainings]
    for one, other in zip(*told, strict=True):
        assert isinstance(one, EpochMetrics)
        assert isinstance(other, EpochMetrics)
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-4)


def test_the_loss_of_half_precision_is_computed_in_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = mixing.cross_entropy(LOGITS.bfloat16(), MIXED)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, mixing.cross_entropy(LOGITS.bfloat16().float(), MIXED))


# --- the watch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "floor", "entropy"),
    [
        ("flip", 0.0, math.log(4)),
        ("mixup=1.0", 0.75 * 0.5, math.log(4)),  # two labels of even parts: half a nat; three of four pairs have two
        ("cutmix=1.0", 0.75 * 0.5, math.log(4)),
        ("label_smoothing=0.2", -(0.85 * math.log(0.85) + 0.15 * math.log(0.05)), math.log(4)),
    ],
)
def test_the_floor_of_the_loss_is_what_labels_leave_open(keys: str, floor: float, entropy: float) -> None:
    labels = torch.arange(400) % 4
    guess = collapse.guess_of(labels, labels, 4, AugmentSpec.model_validate(keys))
    assert guess.entropy == pytest.approx(entropy)
    assert guess.floor == pytest.approx(floor, abs=0.01)


def test_guessing_costs_the_entropy_of_smoothed_labels() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    guess = collapse.guess_of(labels, labels, 2, AugmentSpec(label_smoothing=0.5))
    assert guess.entropy == pytest.approx(-(0.7 * math.log(0.7) + 0.3 * math.log(0.3)))
    wanted = functional.cross_entropy(torch.tensor([0.7, 0.3]).log().expand(100, 2), labels, label_smoothing=0.5)
    assert guess.entropy == pytest.approx(float(wanted))


def test_a_network_that_knows_every_image_pays_the_floor() -> None:
    """The labels that are drawn, judged by themselves, cost what is foreseen."""
    spec = AugmentSpec.model_validate("mixup=0.5, label_smoothing=0.1")
    splits = images(1200)
    _, labels = Augmenter(spec, splits, 0)(*splits.train.take(torch.arange(1200)), 0, 100)
    parts = sum(
        share[:, None] * functional.one_hot(of.long(), 3)
        for of, share in ((labels[:, 0], labels[:, 2]), (labels[:, 1], 1 - labels[:, 2]))
    )
    known = floors.smoothed(torch.as_tensor(parts), 0.1)
    cost = mixing.cross_entropy(known.log(), labels, label_smoothing=0.1)
    shares = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert float(cost) == pytest.approx(floors.lowest_loss(spec, shares), abs=0.02)


HARD = AugmentSpec.model_validate("mixup=1.0, label_smoothing=0.8")
HIGH = Guess(math.log(2), 0.6, 0.98 * math.log(2))
"""What labels leave open is nearly what guessing costs."""


def test_settling_is_told_by_what_lies_above_the_floor() -> None:
    learned = Course(0.7, At(1, 0.1), lowest=0.985 * HIGH.entropy, last=0.985 * HIGH.entropy, accuracy=0.99)
    began = At(10, 0.1)
    # It is no guess, though it costs more than .98 of one.
    assert learned.after_epoch(0.985 * HIGH.entropy, 0.99, began, HIGH).guessing_from is None
    # It had learned, though it never cost less than .8 of a guess: what guesses afterwards has lost it.
    died = learned.after_epoch(HIGH.entropy, 0.5, began, HIGH)
    assert died.guessing_from == began
    assert collapse.settled(died, 0.7, HIGH) == began
    assert collapse.settled(died, 0.7, replace(HIGH, floor=0.0)) is None


@pytest.mark.parametrize("n_classes", [2, 6])
@pytest.mark.parametrize("augment", [ALL, HARD, ROWS[2]], ids=lambda spec: spec.words)
def test_a_training_that_learns_is_not_called_collapsed(augment: AugmentSpec, n_classes: int) -> None:
    made = SerialEngine(images(320, n_classes), MLP, CPU, Rules(augment=augment))
    config = replace(CONFIG, optimizer=OptimizerConfig("adam", 0.01), epochs=12)
    *_, last = made.start(config).epochs()
    assert isinstance(last, EpochMetrics), last
    assert last.val_accuracy > 0.8
    assert (
        last.train_loss
        > 0.9 * collapse.guess_of(made.splits.train.labels, made.splits.validation.labels, n_classes, augment).floor
    )


@pytest.mark.parametrize("augment", [ALL, HARD, ROWS[2]], ids=lambda spec: spec.words)
def test_a_network_that_has_died_is_called_collapsed(augment: AugmentSpec) -> None:
    training = SerialEngine(images(320), MLP, CPU, Rules(augment=augment)).start(replace(CONFIG, epochs=4))
    with torch.no_grad():
        hidden = next(one for one in training.model.modules() if isinstance(one, nn.Linear))
        hidden.bias.fill_(-1e4)
    *_, last = training.epochs()
    assert isinstance(last, Divergence), last
    assert last.collapsed
    assert last.step == 0


def test_a_training_that_blows_up_is_called_diverged() -> None:
    config = replace(CONFIG, optimizer=OptimizerConfig("sgd", 1e6))
    *_, last = engine(ALL).start(config).epochs()
    assert isinstance(last, Divergence)


def test_plateau_follows_the_validation_loss_of_images_as_they_are() -> None:
    schedule = ScheduleConfig("plateau", 0.0, 0.05, drop_factor=0.1, patience_epochs=0)
    config = replace(CONFIG, optimizer=OptimizerConfig("sgd", 0.5, momentum=0.9), schedule=schedule, epochs=6)
    told = [one for one in engine(ALL).start(config).epochs() if isinstance(one, EpochMetrics)]
    best, lr = math.inf, 0.5
    for one in told:
        assert one.lr == pytest.approx(lr)
        improved = one.val_loss < best
        best, lr = min(best, one.val_loss), lr if improved else max(lr * 0.1, 0.025)
    assert told[-1].lr < 0.5


def test_training_on_all_images_changes_them_too() -> None:
    made = engine(ALL).on_all_images()
    assert made.rules.augment == ALL
    told, _ = trained(made.start(CONFIG))
    assert len(told) == 2
    pictures, _ = zip(*batches(made.start(CONFIG)), strict=True)
    assert sum(map(len, pictures)) == 95
    plain, _ = zip(*batches(engine(None).on_all_images().start(CONFIG)), strict=True)
    assert not torch.equal(torch.cat(pictures), torch.cat(plain))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_gpu_changes_images_as_a_cpu_does() -> None:
    there, here = (images(64).to(where) for where in ("cuda", "cpu"))
    changed = [
        Augmenter(ALL, one, 0)(*one.train.take(one.train.placed(torch.arange(64))), 5, 32) for one in (there, here)
    ]
    (on_gpu, labels), (on_cpu, wanted) = changed
    # Where places lie differs in the last bit, and noise changes much between pixels.
    assert (on_gpu.cpu() - on_cpu).abs().max() < 1e-3
    assert torch.equal(labels.cpu(), wanted)

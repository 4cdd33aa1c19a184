"""An update of more images than memory holds: computed in parts, it is the update of the whole batch."""

import doctest
import json
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import InProcess
from hypothesis import given
from hypothesis import strategies as st
from trainings import Lrs, trained, unclocked

from lrsearch.spec.training import AugmentSpec
from lrsearch.training import device, micro_batches, preflight
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.engine import Paused
from lrsearch.training.micro_batches import Gradients, Room, as_memory_allows, part_sizes
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import Arithmetic, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

pytest_plugins = ["command_line", "ones_own"]

CPU = torch.device("cpu")
CONFIG = TrialConfig(
    OptimizerConfig("sgd", 0.05, weight_decay=1e-4, momentum=0.9),
    ScheduleConfig("cosine", 0.1, final_fraction=0.01),
    batch_size=32,
    epochs=2,
    seed=0,
)

NETS = """
import torch
from torch import nn

class Small(nn.Sequential):
    # A network that takes at most so many images at once, as a device with little memory does; in training, or always.
    def __init__(self, *layers, most, always=False, first=0):
        super().__init__(*layers)
        self.most, self.always, self.first, self.n_calls = most, always, first, 0

    def forward(self, x):
        made = super().forward(x)  # statistics and draws have moved by then
        self.n_calls += self.training
        if len(x) > self.most and (self.training or self.always) and self.n_calls >= self.first:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return made

def plain(num_classes, most=1000, **more):
    return Small(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, num_classes), most=most, **more)

def drops(num_classes, most=1000, **more):
    layers = nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, num_classes)
    return Small(*layers, most=most, **more)

def norms(num_classes, most=1000, **more):
    layers = (nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, num_classes))
    return Small(*layers, most=most, **more)

class Heads(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.stem, self.aux, self.head = nn.Linear(64, 12), nn.Linear(12, n), nn.Linear(12, n)

    def forward(self, x):
        x = self.stem(x.flatten(1)).relu()
        return Outputs(self.head(x), self.aux(x))

class Outputs:
    def __init__(self, logits, aux_logits):
        self.logits, self.aux_logits = logits, aux_logits

def heads(num_classes):
    return Heads(num_classes)

def margin(logits, labels):
    return nn.functional.multi_margin_loss(logits, labels)

def weighted(logits, labels, weight=None):
    return nn.functional.cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)

def summed(logits, labels):
    return nn.functional.cross_entropy(logits, labels, reduction="sum")

def contrasts(logits, labels):
    return nn.functional.cross_entropy(logits - logits.mean(0), labels)
"""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def nets(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(textwrap.dedent(NETS))
    return str(path)


def images(n: int = 100, n_judged: int = 40) -> ImageSplits:
    """Return so many training images of 8x8 in three classes, of unequal size, which can be told apart."""
    generator = torch.Generator().manual_seed(0)
    total = n + 2 * n_judged
    labels = (torch.arange(total) % 6).clamp(max=2)
    pixels = torch.randint(0, 60, (total, 1, 8, 8), generator=generator)
    pixels[torch.arange(total), 0, labels] += 100
    parts = torch.arange(total).split([n, n_judged, n_judged])
    train, validation, test = (ImageSet(pixels.to(torch.uint8)[p], labels[p]) for p in parts)
    return ImageSplits(train, validation, test, classes=("a", "b", "c"), mean=(0.3,), std=(0.25,))


def engine_of(
    model: ModelConfig,
    micro_batch: int | None = None,
    rules: Rules = Rules(),  # noqa: B008
    splits: ImageSplits | None = None,
) -> SerialEngine:
    splits = splits or images()
    known = replace(model, args={key: value for key, value in (model.args or {}).items() if key == "always"})
    network = preflight.look(known, splits.shape, splits.n_classes)
    made = SerialEngine(splits, model, CPU, rules, replace(splits.facts(), network=network))
    if micro_batch is not None:
        made.follow(Arithmetic(micro_batch=micro_batch))
    return made


def losses_of(told: list[object]) -> list[float]:
    rows = [one for one in told if isinstance(one, EpochMetrics)]
    return [number for row in rows for number in (row.train_loss, row.val_loss, row.averaged_val_loss or 0.0)]


# --- parts -----------------------------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(micro_batches).failed == 0


@given(n=st.integers(1, 300), micro=st.integers(1, 64), least=st.integers(1, 2))
def test_parts_make_up_the_batch_and_are_as_equal_as_can_be(n: int, micro: int, least: int) -> None:
    sizes = part_sizes(n, micro, least)
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    if least == 1:
        assert max(sizes) <= micro
        assert len(sizes) == -(-n // micro)
    else:
        assert min(sizes) >= min(least, n)
        assert max(sizes) <= max(micro, least + 1)


MODELS: dict[str, tuple[ModelConfig, Rules]] = {
    "mlp": (ModelConfig("mlp", (16,)), Rules()),
    "cnn": (ModelConfig("cnn", (8,)), Rules()),
    "class weights": (ModelConfig("mlp", (16,)), Rules(class_weights=0.7)),
    "auxiliary heads": (ModelConfig("NETS:heads"), Rules()),
    "a loss of one's own": (ModelConfig("NETS:plain", loss="NETS:margin"), Rules()),
    "one that weighs classes": (ModelConfig("NETS:plain", loss="NETS:weighted"), Rules(class_weights=1.0)),
    "one that does not": (ModelConfig("NETS:plain", loss="NETS:margin"), Rules(class_weights=1.0)),
    "label smoothing": (ModelConfig("mlp", (16,)), Rules(augment=AugmentSpec(label_smoothing=0.1))),
    "mixup with class weights": (
        ModelConfig("mlp", (16,)),
        Rules(class_weights=0.5, augment=AugmentSpec(mixup=0.4, label_smoothing=0.1)),
    ),
}


def named(model: ModelConfig, nets: str) -> ModelConfig:
    """Return a model whose functions lie in that file."""
    loss = None if model.loss is None else model.loss.replace("NETS", nets)
    return replace(model, name=model.name.replace("NETS", nets), loss=loss)


@pytest.mark.parametrize("micro_batch", [1, 7, 8, 29])
@pytest.mark.parametrize("what", MODELS)
def test_gradients_of_parts_add_up_to_those_of_the_whole_batch(what: str, micro_batch: int, nets: str) -> None:
    model, rules = MODELS[what]
    made = engine_of(named(model, nets), rules=rules)
    training = made.start(replace(CONFIG, batch_size=30))
    batch, labels = next(training._batches(torch.Generator().manual_seed(3), 0))
    found = {}
    for size in (None, micro_batch):
        gradients = Gradients(training.model, training.model, training._judge, Room(size))
        loss, logits = gradients.of(0, batch, labels)
        found[size] = loss.detach(), logits.detach(), [p.grad for p in training.model.parameters()]
        training.model.zero_grad()
    (whole_loss, whole_logits, whole), (loss, logits, parts) = found[None], found[micro_batch]
    torch.testing.assert_close(loss, whole_loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits, whole_logits, rtol=1e-5, atol=1e-6)
    for one, other in zip(parts, whole, strict=True):
        assert one is not None
        assert other is not None
        # Relative to the largest: single sums may cancel.
        assert (one - other).abs().max() <= 1e-5 * other.abs().max() + 1e-7


def test_a_loss_that_does_not_add_up_is_said_once(nets: str, caplog: pytest.LogCaptureFixture) -> None:
    for name, is_said in (("margin", False), ("weighted", False), ("summed", True), ("contrasts", True)):
        made = engine_of(ModelConfig(f"{nets}:plain", loss=f"{nets}:{name}"), 8, Rules(class_weights=1.0))
        caplog.clear()
        for _ in range(2):
            list(made.start(replace(CONFIG, epochs=1)).epochs())
        said = [record.message for record in caplog.records if "model.loss is not the mean" in record.message]
        assert len(said) == is_said, name


def test_the_schedule_counts_updates_and_sees_no_parts(nets: str) -> None:
    """Row 25: 100 images, parts of 8, four of them an update of 32; the last update of an epoch has 4 images."""
    found = []
    for micro_batch in (None, 8):
        lrs = Lrs()
        training = engine_of(ModelConfig(f"{nets}:plain"), micro_batch).start(CONFIG, attention=lrs)
        lrs.training = training
        told, _ = trained(training)
        rows = [(row.epoch, row.step, row.lr) for row in told if isinstance(row, EpochMetrics)]
        found.append((lrs.seen, training.n_steps, rows))
        assert losses_of(told) == pytest.approx(losses_of(trained_whole(nets)), rel=1e-5)
    assert found[0] == found[1]
    seen, n_steps, rows = found[0]
    assert n_steps == len(seen) == 2 * 4
    assert [step for _, step, _ in rows] == [4, 8]


def trained_whole(nets: str) -> list[object]:
    return trained(engine_of(ModelConfig(f"{nets}:plain")).start(CONFIG))[0]


# --- out of memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["plain", "drops", "norms"])
@pytest.mark.parametrize(("most", "found"), [(16, 16), (10, 8), (2, 2)])
def test_what_runs_out_of_memory_trains_as_if_the_size_had_been_known(
    model: str, most: int, found: int, nets: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = engine_of(ModelConfig(f"{nets}:{model}", args={"most": most}))
    told, weights = trained(made.start(CONFIG))
    assert made.facts.arithmetic == Arithmetic(micro_batch=found)
    (said,) = [one.message for one in caplog.records if f"of at most {found} are" in one.message]
    assert ("batch norm" in said) == (model == "norms")
    # Bit for bit: what is drawn is drawn again, and the statistics of batch norm are as they were.
    assert (told, weights) == trained(engine_of(ModelConfig(f"{nets}:{model}"), found).start(CONFIG))
    again, weights_again = trained(made.start(CONFIG))
    assert (again, weights_again) == (told, weights), "the trials after it know the size"


@pytest.mark.parametrize(("model", "most"), [("plain", 0), ("norms", 1)])
def test_where_not_even_the_smallest_part_fits_memory_has_run_out(model: str, most: int, nets: str) -> None:
    made = engine_of(ModelConfig(f"{nets}:{model}", args={"most": most}))
    with pytest.raises(torch.OutOfMemoryError) as caught:
        list(made.start(CONFIG).epochs())
    assert device.is_out_of_memory(caught.value)


def test_an_evaluation_takes_as_many_images_at_once_as_memory_holds(nets: str) -> None:
    splits = images(n=64, n_judged=300)
    made = engine_of(ModelConfig(f"{nets}:plain", args={"most": 100, "always": True}), splits=splits)
    told, weights = trained(made.start(CONFIG))
    whole, whole_weights = trained(engine_of(ModelConfig(f"{nets}:plain"), splits=splits).start(CONFIG))
    assert weights == whole_weights
    assert losses_of(told) == pytest.approx(losses_of(whole), rel=1e-6)
    assert made.facts.arithmetic is None, "how many are evaluated at once is no matter of the study"


@pytest.mark.parametrize("model", ["plain", "drops"])
def test_memory_that_runs_out_in_the_middle_changes_no_more_than_rounding(model: str, nets: str) -> None:
    made = engine_of(ModelConfig(f"{nets}:{model}", args={"most": 12, "first": 6}))
    training = made.start(CONFIG)
    told, _ = trained(training)
    assert training.micro_batch == 8
    if model == "plain":
        assert losses_of(told) == pytest.approx(losses_of(trained_whole(nets)), rel=1e-5)


def test_statistics_of_batch_norm_that_have_moved_are_not_used(nets: str) -> None:
    """Memory runs out long after the first updates: the training ends, and goes on from its checkpoint in parts."""
    made = engine_of(ModelConfig(f"{nets}:norms", args={"most": 12, "first": 6}))
    training = made.start(CONFIG, attention=BeforeEach())
    kept: list[bytes] = []
    with pytest.raises(torch.OutOfMemoryError):
        kept.extend(training.checkpoint() for told in training.epochs() if isinstance(told, Paused))
    assert made.facts.arithmetic == Arithmetic(micro_batch=16)
    again = made.start(CONFIG, kept[-1])
    assert again.step == 5
    assert again.micro_batch == 16
    told, _ = trained(again)
    assert isinstance(told[-1], EpochMetrics)


class BeforeEach:
    def is_set(self) -> bool:
        return True

    def ends(self) -> bool:
        return False


def resumed(made: SerialEngine, at: int) -> tuple[list[object], bytes]:
    first, told = made.start(CONFIG, attention=BeforeEach()), list[object]()
    for one in first.epochs():
        if isinstance(one, Paused):
            if one.step == at:
                break
        else:
            told.append(unclocked(one))
    rest, weights = trained(made.start(CONFIG, first.checkpoint()))
    return told + rest, weights


@pytest.mark.parametrize("model", ["plain", "drops", "norms"])
@pytest.mark.parametrize("at", [0, 3, 4, 7])
def test_a_training_in_parts_resumes_bit_for_bit(model: str, at: int, nets: str) -> None:
    made = engine_of(ModelConfig(f"{nets}:{model}"), 5)
    assert resumed(made, at) == trained(made.start(CONFIG))


def test_a_checkpoint_knows_the_size_that_its_training_found(nets: str) -> None:
    made = engine_of(ModelConfig(f"{nets}:drops", args={"most": 8}))
    training = made.start(CONFIG, attention=BeforeEach())
    stream = training.epochs()
    for _ in range(3):
        told = next(stream)
    assert isinstance(told, Paused)
    there = engine_of(ModelConfig(f"{nets}:drops", args={"most": 8}))
    went_on = there.start(CONFIG, training.checkpoint())
    assert went_on.micro_batch == 8
    assert trained(went_on)[1] == trained(made.start(CONFIG))[1]


def test_work_is_done_again_with_half_as_many_down_to_one() -> None:
    tried = []

    def work(size: int) -> int:
        tried.append(size)
        if size > 5:
            raise MemoryError
        return -size

    assert as_memory_allows(work, 44) == (-5, 5)
    assert tried == [44, 22, 11, 5]
    with pytest.raises(MemoryError):
        as_memory_allows(lambda size: work(size + 5), 4)
    with pytest.raises(ZeroDivisionError):
        as_memory_allows(lambda size: size // 0, 4)


# --- a search --------------------------------------------------------------------------------------------------------


TIGHT = """
import torch
from torch import nn

class Tight(nn.Sequential):
    def forward(self, x):
        if len(x) > {most}:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(x)

def build(num_classes, in_chans):
    return Tight(
        nn.Conv2d(in_chans, 4, 3), {norm}nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, num_classes)
    )
"""
NORM = "nn.BatchNorm2d(4), "


def settled_of(lrsearch: InProcess) -> dict[str, Any] | None:
    """Return how the trainings of the one study compute, as it lies in the database."""
    import sqlite3

    with sqlite3.connect("lrsearch.db") as connection:
        ((facts,),) = connection.execute("SELECT facts FROM lrsearch_studies")
    found: dict[str, Any] | None = json.loads(facts)["arithmetic"]
    return found


@pytest.fixture
def tight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Path) -> tuple[str, ...]:
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))
    options = ("--epochs", "2", "--threads", "1", "--set", "pruner=none", "--set", "space.batch_size=[8,32]")
    return ("run", "--dataset", f"folder:{pictures}", "--model", f"{tmp_path / 'tight.py'}:build", *options)


@pytest.mark.slow
@pytest.mark.slow
def test_a_search_beyond_memory_keeps_its_batch_sizes_and_files_what_fits(
    lrsearch: InProcess, tight: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "tight.py").write_text(TIGHT.format(most=6, norm=""))
    done = lrsearch(*tight, "--trials", "4", "--sampler", "random")
    assert done.code == 0, done.err
    assert "memory does not hold the gradients of" in done.err
    found = settled_of(lrsearch)
    assert found == {"precision": "fp32", "channels_last": False, "micro_batch": 4}
    rows = json.loads(lrsearch("trials", "--json").out)["trials"]
    assert {row["state"] for row in rows} == {"complete"}
    assert {row["config"]["batch_size"] for row in rows} == {8, 32}
    more = lrsearch(*tight, "--trials", "5", "--sampler", "random")
    assert more.code == 0, more.err
    assert "memory does not hold" not in more.err, "whoever comes later knows"


def test_what_no_part_fits_of_fails_as_out_of_memory(
    lrsearch: InProcess, tight: tuple[str, ...], tmp_path: Path
) -> None:
    # The look before the search has two images, and of these no part is made in batches of one.
    code = TIGHT.format(most="1000 or (self.training and len(x) != 2)", norm="")
    (tmp_path / "tight.py").write_text(code.replace("len(x) > 1000 or", ""))
    done = lrsearch(*tight, "--trials", "1", "--set", "space.batch_size=1", "--set", "budget.max_failures=0")
    assert done.code == 3, done.err
    (row,) = json.loads(lrsearch("trials", "--json").out)["trials"]
    assert (row["state"], row["reason"]) == ("failed", "out_of_memory")
    assert settled_of(lrsearch) is None


def test_memory_that_runs_out_late_costs_a_retry_where_statistics_have_moved(
    lrsearch: InProcess, tight: tuple[str, ...], tmp_path: Path
) -> None:
    late = TIGHT.format(most="(5 if self.training and self.n > 7 else 500)", norm=NORM)
    count = '        self.n = getattr(self, "n", 0) + self.training\n'
    (tmp_path / "tight.py").write_text(late.replace("        if len(x)", f"{count}        if len(x)"))
    done = lrsearch(*tight, "--trials", "2", "--set", "workers.checkpoint_seconds=0", "--set", "space.batch_size=8")
    assert done.code == 0, done.err
    rows = json.loads(lrsearch("trials", "--json").out)["trials"]
    assert [row["state"] for row in rows] == ["complete", "complete"]
    reasons = [one["reason"] for row in rows for one in row["interruptions"]]
    assert reasons == ["out_of_memory"]
    assert settled_of(lrsearch) == {"precision": "fp32", "channels_last": False, "micro_batch": 4}


def test_what_fits_is_counted_before_the_first_trial_where_that_is_asked(
    lrsearch: InProcess, tight: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "tight.py").write_text(TIGHT.format(most=20, norm=NORM))
    done = lrsearch(*tight, "--trials", "1", "--set", "training.micro_batch=auto", "--sampler", "random")
    assert done.code == 0, done.err
    assert settled_of(lrsearch) == {"precision": "fp32", "channels_last": False, "micro_batch": 16}
    assert "normalises by batch, and in batches of more than 16 images it normalises parts" in done.err.replace(
        "\n", " "
    )


def test_one_image_cannot_be_normalised_by_itself(lrsearch: InProcess, tight: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "tight.py").write_text(TIGHT.format(most=20, norm=NORM))
    done = lrsearch(*tight, "--trials", "1", "--set", "training.micro_batch=1")
    assert done.code == 2
    assert "training.micro_batch must be at least 2" in done.err

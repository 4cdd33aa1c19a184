"""How numbers are computed: bf16 and fp16 beside fp32, the scale of a loss, a layout of memory; filed and followed."""

import doctest
import json
import math
import re
import sqlite3
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command_line import InProcess, run_python
from conftest import FACTS, make_spec, on_both
from hypothesis import given
from hypothesis import strategies as st
from test_export import Program, loaded, of, study
from torch import nn
from torch.nn import functional
from trainings import Lrs, trained, unclocked

from lrsearch import run
from lrsearch.errors import EXIT_DEVICE, DeviceError, UsageError
from lrsearch.report.export_program import program
from lrsearch.schedules import factors
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.storage import Database
from lrsearch.training import (
    collapse,
    data,
    device,
    loss_scale,
    optimizers,
    outputs,
    precision,
    preflight,
    serial,
    settling,
)
from lrsearch.training.checkpoint import Checkpoint, opened
from lrsearch.training.data import DataConfig, ImageSet, ImageSplits
from lrsearch.training.engine import CheckpointError, Paused
from lrsearch.training.loss_scale import LossScale, Skips
from lrsearch.training.models import ModelConfig
from lrsearch.training.precision import forward_of, in_fp32, resolved
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import Arithmetic, Divergence, EpochMetrics, OptimizerConfig, Precision, ScheduleConfig, TrialConfig

pytest_plugins = ["command_line", "ones_own"]

CPU, META = torch.device("cpu"), torch.device("meta")
MLP, CNN = ModelConfig("mlp", (16,)), ModelConfig("cnn", (8,))
MOMENTUM = OptimizerConfig("sgd", 0.05, weight_decay=1e-3, momentum=0.9)
OPTIMIZERS = {
    "sgd": OptimizerConfig("sgd", 0.1),
    "momentum": MOMENTUM,
    "dampening": OptimizerConfig("sgd", 0.1, momentum=0.9, dampening=0.5),
    "adam": OptimizerConfig("adam", 3e-3, weight_decay=1e-3),
    "adamw": OptimizerConfig("adamw", 3e-3, weight_decay=0.1),
    "rmsprop": OptimizerConfig("rmsprop", 1e-3, momentum=0.5),
}
COSINE = ScheduleConfig("cosine", warmup_fraction=0.2, final_fraction=0.0)
CONFIG = TrialConfig(MOMENTUM, COSINE, 32, 3, 7)

NETS = """
import torch
from torch import nn

def plain(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, num_classes))

class Root(nn.Module):
    # The gradient of a root is infinite at zero, in whatever precision, and its value is not.
    def __init__(self, n, every):
        super().__init__()
        self.head, self.every, self.n_calls = nn.Linear(784, n), every, 0

    def forward(self, x):
        x = self.head(x.flatten(1))
        self.n_calls += self.training
        if self.training and self.n_calls > 4 and self.n_calls % self.every == 0:
            x = x + (x * 0).abs().sqrt()
        return x

def root(num_classes, every=1000):
    return Root(num_classes, every)

def steep(logits, labels):
    return 1e4 * nn.functional.cross_entropy(logits, labels)
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


def digits() -> ImageSplits:
    """Return 240 images to train on and 60 to validate on."""
    return data.load(DataConfig("digits", limit=300))


def engine(model: ModelConfig = CNN, how: Arithmetic | None = None, rules: Rules = Rules()) -> SerialEngine:  # noqa: B008
    splits = digits()
    network = preflight.look(replace(model, args=None), splits.shape, splits.n_classes)
    made = SerialEngine(splits, model, CPU, rules, replace(splits.facts(), network=network))
    if how is not None:
        made.follow(how)
    return made


class BeforeEach:
    """Asks for attention before every update."""

    def is_set(self) -> bool:
        return True

    def ends(self) -> bool:
        return False


def resumed(made: SerialEngine, config: TrialConfig, at: int) -> tuple[list[object], bytes]:
    """Return what ``trained`` does, of a training that stops before update ``at`` and goes on from its checkpoint."""
    first, told = made.start(config, attention=BeforeEach()), list[object]()
    for one in first.epochs():
        if isinstance(one, Paused):
            if one.step == at:
                break
        else:
            told.append(unclocked(one))
    rest, weights = trained(made.start(config, first.checkpoint()))
    return told + rest, weights


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(loss_scale).failed == 0


# --- what a device can -----------------------------------------------------------------------------------------------


def test_auto_is_fp32_but_on_a_gpu_that_has_bf16() -> None:
    assert resolved("auto", CPU) == "fp32"
    assert resolved(None, CPU) == "fp32"
    assert resolved("bf16", CPU) == "bf16"
    if torch.cuda.is_available():
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        assert resolved("auto", torch.device("cuda")) == ("bf16" if has_it else "fp32")
        assert resolved(None, torch.device("cuda")) == "fp32"


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_device_that_cannot_compute_so_refuses_the_study(asked: Precision) -> None:
    precision.check(asked, CPU)
    precision.check("fp32", META)
    splits = digits().to(META)
    made = SerialEngine(splits, CNN, META, Rules(), FACTS)
    with pytest.raises(DeviceError, match=f"training.precision of the study is {asked}, and the device 'meta'") as said:
        made.follow(Arithmetic(asked))
    assert said.value.exit_code == EXIT_DEVICE == 5


def test_tf32_is_as_pytorch_has_it_unless_it_is_said() -> None:
    def flags() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = flags()
    for asked, wanted in (("on", (True, True)), ("off", (False, False)), (None, before)):
        precision.set_tf32(asked)  # type: ignore[arg-type]
        assert flags() == wanted


# --- what is computed in what ----------------------------------------------------------------------------------------


def test_in_fp32_nothing_stands_between_a_training_and_its_model() -> None:
    model = nn.Linear(3, 2)
    assert forward_of(model, "fp32", CPU) is model


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_weights_optimizer_average_and_loss_are_fp32(asked: Precision) -> None:
    training = engine(how=Arithmetic(asked)).start(CONFIG)
    (*_, last), _ = trained(training)
    assert isinstance(last, EpochMetrics)
    assert last.val_accuracy > 0.3
    assert training._average is not None
    for model in (training.model, training._average.model):
        assert {t.dtype for t in model.state_dict().values()} == {torch.float32}
    states = [value for state in training._optimizer.state.values() for value in state.values()]
    assert {value.dtype for value in states} == {torch.float32}
    batch, labels = next(training._batches(torch.Generator(), 0))
    loss, logits = training._gradients.of(0, batch, labels)
    assert loss.dtype == logits.dtype == torch.float32
    other = trained(engine().start(CONFIG))[0][-1]
    assert isinstance(other, EpochMetrics)
    assert last.val_loss != other.val_loss, "it computed otherwise"
    assert last.val_loss == pytest.approx(other.val_loss, rel=0.2), "and trained alike"


@pytest.mark.parametrize(("asked", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_an_evaluation_has_the_precision_of_the_training(asked: Precision, dtype: torch.dtype) -> None:
    made = engine(how=Arithmetic(asked))
    training = made.start(CONFIG)
    trained(training)
    images, labels = made.splits.test.images, made.splits.test.labels
    with torch.no_grad(), torch.autocast("cpu", dtype):
        logits = torch.cat([training.model(made.splits.normalize(some)) for some in images.split(512)])
    found = training.evaluate(made.splits.test)
    assert logits.dtype == dtype
    assert found.loss == pytest.approx(functional.cross_entropy(logits.float(), labels).item(), rel=1e-6)
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    result = made.test(CONFIG, training.weights())
    assert not isinstance(result, Divergence | None)
    assert (result.test_loss, result.test_accuracy) == (found.loss, found.accuracy)


def test_logits_of_whatever_a_network_returns_become_fp32() -> None:
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    for output in (half, {"logits": half}, SimpleNamespace(logits=half, aux_logits=half * 2)):
        made = in_fp32(output)
        assert outputs.logits_of(made).dtype == torch.float32
    loss, _ = outputs.loss_of(made, torch.zeros(2, dtype=torch.int64))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1.4 * math.log(3)), "the auxiliary head counts"


# --- the scale of fp16's loss ----------------------------------------------------------------------------------------


def network_of(config: OptimizerConfig) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    return model, optimizers.build(config, model.parameters(), CPU)


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    states = [value for state in optimizer.state.values() for value in state.values()]
    return [p.detach().clone() for p in model.parameters()] + [value.clone() for value in states]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("overflows", [{0}, {0, 1, 2}, {2}, {3, 4}], ids=str)
def test_an_update_that_overflows_leaves_weights_and_optimizer_as_they_were(name: str, overflows: set[int]) -> None:
    """As if it had not been asked for, bit for bit: with torch's fused SGD the momentum would be what memory held."""
    inputs = torch.randn(8, 5, 4, generator=torch.Generator().manual_seed(1))
    found = []
    for is_scaled in (False, True):
        model, optimizer = network_of(OPTIMIZERS[name])
        update = optimizers.updater(optimizer)
        scale = LossScale(optimizer, update, CPU)
        for step, batch in enumerate(inputs):
            if not is_scaled and step in overflows:
                continue
            loss = model(batch).square().mean()
            if is_scaled:
                scale.scaled(loss * math.inf if step in overflows else loss).backward()
                scale.update()
            else:
                loss.backward()
                update()
            optimizer.zero_grad()
        found.append(state_of(model, optimizer))
    assert scale.look() is None
    assert scale.skips == Skips(len(inputs), len(overflows), 0)
    assert scale.scale == 2.0 ** (16 - len(overflows))
    plain, scaled = found
    for one, other in zip(plain, scaled, strict=True):
        assert torch.equal(one, other), name


def test_updates_of_fp16_import_no_compiler(tmp_path: Path) -> None:
    code = """
        import sys, torch
        from lrsearch.training import optimizers
        from lrsearch.training.loss_scale import LossScale
        from lrsearch.trial import OptimizerConfig
        weight = torch.ones(3, requires_grad=True)
        for name in ("sgd", "adamw", "rmsprop"):
            optimizer = optimizers.build(OptimizerConfig(name, 0.1), [weight], torch.device("cpu"))
            scale = LossScale(optimizer, optimizers.updater(optimizer), torch.device("cpu"))
            scale.scaled(weight.sum()).backward()
            scale.update()
        assert weight.sum() < 3
        print("torch._dynamo" in sys.modules)
    """
    done = run_python(textwrap.dedent(code), tmp_path)
    assert done.out.strip() == "False", done.err


@given(skipped=st.lists(st.booleans(), max_size=160), cut=st.integers(0, 160))
def test_what_is_found_does_not_depend_on_when_somebody_looked(skipped: list[bool], cut: int) -> None:
    whole, first = Skips().after(skipped)
    half, early = Skips().after(skipped[:cut])
    rest, late = half.after(skipped[cut:])
    assert rest == whole
    assert (early if early is not None else late) == first


@pytest.mark.parametrize(
    ("skipped", "first"),
    [
        ([True] * 50 + [False] * 200, None),
        ([False] * 97 + [True] * 3, 99),
        ([False] * 50 + [True] * 2 + [False] * 400, None),
        ([False] * 150 + [True] * 5, None),
        ([False] * 150 + [True] * 8, 155),
        ([True] * 99, None),
    ],
)
def test_more_than_one_in_twenty_after_the_first_fifty_are_too_many(skipped: list[bool], first: int | None) -> None:
    found = Skips().after(skipped)[1]
    assert (None if found is None else found.n - 1) == first


def test_an_update_that_is_left_out_is_one_of_the_schedule_and_no_divergence(nets: str) -> None:
    """Row 24: the loss is multiplied by 1e4, so that the scale, 2**16 at first, must be sought for several updates."""
    lrs = Lrs()
    model = ModelConfig(f"{nets}:plain", loss=f"{nets}:steep")
    config = replace(CONFIG, optimizer=OptimizerConfig("sgd", 1e-5, momentum=0.9))
    training = engine(model, Arithmetic("fp16")).start(config, attention=lrs)
    lrs.training = training
    told, _ = trained(training)
    assert [type(one) for one in told] == [EpochMetrics] * 3
    first = told[0]
    assert isinstance(first, EpochMetrics)
    assert training._loss_scale is not None
    assert 3 <= training._loss_scale.skips.n_skipped < 20
    assert training._loss_scale.skips.n == training.n_steps == len(lrs.seen) == 24
    assert lrs.seen == (factors(COSINE, 24) * 1e-5).tolist()
    assert 1e4 < first.train_loss < 4e4, "what is recorded is the loss itself"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_in_fp16_resumes_bit_for_bit_within_the_search_for_a_scale_and_after_it(
    name: str, nets: str
) -> None:
    peak = OPTIMIZERS[name].peak_lr * (1e-4 if name in ("sgd", "momentum", "dampening") else 1)
    config = replace(CONFIG, optimizer=replace(OPTIMIZERS[name], peak_lr=peak))
    made = engine(ModelConfig(f"{nets}:plain", loss=f"{nets}:steep"), Arithmetic("fp16"))
    training = made.start(config)
    whole = trained(training)
    assert training._loss_scale is not None
    n_skipped = training._loss_scale.skips.n_skipped
    assert n_skipped >= 3
    for at in (0, 1, n_skipped - 1, n_skipped, 8, 13, 23):
        assert resumed(made, config, at) == whole, at


@pytest.mark.parametrize(
    "how", [Arithmetic("bf16"), Arithmetic("bf16", channels_last=True), Arithmetic("fp16", micro_batch=5)]
)
def test_a_training_that_computes_otherwise_resumes_bit_for_bit(how: Arithmetic) -> None:
    made = engine(how=how)
    whole = trained(made.start(CONFIG))
    for at in (0, 3, 8, 15):
        assert resumed(made, CONFIG, at) == whole, at


def test_a_checkpoint_of_another_precision_is_refused() -> None:
    kept = engine(how=Arithmetic("bf16")).start(CONFIG).checkpoint()
    with pytest.raises(CheckpointError, match=r"rules\.precision = 'bf16' instead of None"):
        engine().start(CONFIG, kept)


def test_a_checkpoint_in_fp32_holds_what_it_always_did() -> None:
    kept = torch.load(BytesIO(opened(engine().start(CONFIG).checkpoint())), weights_only=True)
    assert set(kept) == {f.name for f in fields(Checkpoint)} - {"loss_scale", "micro_batch"}
    assert "precision" not in kept["decided_by"]
    assert "channels_last" not in kept["decided_by"]


# --- overflowing -----------------------------------------------------------------------------------------------------


def test_a_training_that_goes_on_overflowing_ends_as_that(nets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for every in (50, 7):
        monkeypatch.setattr(serial, "CHECK_EVERY_STEPS", every)
        made = engine(ModelConfig(f"{nets}:root", args={"every": 10}), Arithmetic("fp16"))
        *before, end = trained(made.start(replace(CONFIG, epochs=30)))[0]
        assert isinstance(end, Divergence)
        assert all(isinstance(one, EpochMetrics) for one in before)
        found.append(end)
    assert found[0] == found[1]
    # One in ten: of the 50 updates after the first 50 five, which is more than one in twenty.
    assert (found[0].left_out, found[0].collapsed, found[0].step) == (10, False, 99)
    rarely = engine(ModelConfig(f"{nets}:root", args={"every": 25}), Arithmetic("fp16"))
    assert isinstance(trained(rarely.start(replace(CONFIG, epochs=30)))[0][-1], EpochMetrics)


def test_a_training_without_a_single_update_is_overflowing_too(nets: str) -> None:
    made = engine(ModelConfig(f"{nets}:root", args={"every": 1}), Arithmetic("fp16"))
    # The first four updates are made; then none is. Few as they are, they are no training.
    told, _ = trained(made.start(replace(CONFIG, epochs=3)))
    assert isinstance(told[-1], EpochMetrics)
    made = engine(ModelConfig(f"{nets}:root", args={"every": 1}), Arithmetic("fp16"))
    training = made.start(CONFIG)
    vars(training.model)["n_calls"] = 4
    told, _ = trained(training)
    assert isinstance(told[-1], Divergence)
    assert told[-1].left_out == 24


def test_an_overflowing_trial_counts_as_diverged_and_says_why(lrsearch: InProcess, nets: str, tmp_path: Path) -> None:
    options = ("--threads", "1", "--set", "pruner=none", "--set", "dataset.limit=300", "--set", "space.batch_size=32")
    root = Path(nets).read_text("utf-8").replace("every=1000", "every=10")
    Path(nets).write_text(root)
    done = lrsearch(
        *("run", "--model", f"{nets}:root", "--name", "roots", "--trials", "2", "--epochs", "20"),
        *("--set", "training.precision=fp16", *options),
    )
    assert done.code == 3, done.err
    rows = json.loads(lrsearch("trials", "roots", "--json").out)["trials"]
    assert [(row["state"], row["reason"], row["step"]) for row in rows] == [("diverged", "overflowing", 99)] * 2
    assert all("not finite in fp16" in row["message"] for row in rows)
    assert "overflowing" in lrsearch("trials", "roots").out
    # The gradient of the root overflows at any learning rate, so that none of them is to blame.
    said = " ".join(lrsearch("best", "roots").out.split())
    assert "2 overflowed in fp16, which says nothing of the learning rate" in said
    assert "every learning rate" not in said
    assert "widen" not in said
    with sqlite3.connect(tmp_path / "lrsearch.db") as connection:
        assert connection.execute("SELECT state FROM trials").fetchall() == [("PRUNED",)] * 2
    settled_as = filed_of(tmp_path / "lrsearch.db")
    assert settled_as == {"precision": "fp16", "channels_last": False, "micro_batch": None}


# --- dead networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_network_that_a_high_rate_has_killed_is_found_in_any_precision(asked: Precision) -> None:
    config = TrialConfig(OptimizerConfig("sgd", 2.0, momentum=0.9), ScheduleConfig("constant"), 32, 6, 0)
    told, _ = trained(engine(how=Arithmetic(asked)).start(config))
    end = told[-1]
    assert isinstance(end, Divergence)
    assert end.collapsed or not math.isfinite(end.loss)


def test_a_gradient_that_is_too_small_for_fp16_does_not_make_a_network_dead() -> None:
    head = nn.Linear(4, 3)
    with torch.no_grad():
        head.weight.mul_(1e-6)
    model = nn.Sequential(nn.Linear(4, 4), head)
    images, labels = torch.rand(512, 4), torch.arange(512) % 3

    def dead(asked: Precision, scale: float) -> bool:
        forward: Callable[[torch.Tensor], torch.Tensor] = forward_of(model, asked, CPU)
        return collapse.is_dead(model, [(images, labels)], forward, scale)

    assert dead("fp16", 1.0), "its outputs are the same for all images, and its gradient is lost"
    assert not dead("fp16", 2.0**16)
    assert not dead("bf16", 1.0)


# --- a layout of memory ----------------------------------------------------------------------------------------------


def test_channels_last_changes_the_layout_and_nothing_else() -> None:
    training = engine(how=Arithmetic(channels_last=True)).start(CONFIG)
    told, weights = trained(training)
    kernel = next(p for p in training.model.parameters() if p.ndim == 4)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    plain, _ = trained(engine().start(CONFIG))
    for one, other in zip(told, plain, strict=True):
        assert isinstance(one, EpochMetrics)
        assert isinstance(other, EpochMetrics)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-4)
    there = engine().start(CONFIG)
    assert engine().test(CONFIG, weights) is not None
    assert [p.shape for p in there.model.parameters()] == [p.shape for p in training.model.parameters()]


def test_a_layout_is_measured_and_a_network_without_kernels_has_none() -> None:
    asked = make_spec(training={"channels_last": "auto", "precision": "auto"}).training
    assert settling.settle(engine(MLP), asked, 32) == Arithmetic()
    found = settling.settle(engine(CNN), asked, 32)
    assert found.precision == "fp32"
    assert found.micro_batch is None


# --- filed with the study --------------------------------------------------------------------------------------------


def test_what_is_not_said_makes_no_other_study() -> None:
    plain = make_spec()
    for key, said in (("precision", "fp32"), ("channels_last", "off")):
        assert make_spec(training={key: said}).identity_hash() == plain.identity_hash(), key
    others = (
        ("precision", "auto"),
        ("precision", "bf16"),
        ("channels_last", "on"),
        ("micro_batch", 8),
        ("tf32", "off"),
    )
    for name, value in others:
        assert make_spec(training={name: value}).identity_hash() != plain.identity_hash(), name
    assert plain.to_plain()["training"] == {"drop_last": False, "divergence_watch": True, "averaging": "auto"}


def test_facts_of_an_earlier_version_are_those_of_fp32() -> None:
    said = json.loads(studies.facts_json(FACTS))
    del said["arithmetic"]
    assert studies._FACTS.validate_python(said) == FACTS
    spec = make_spec(dataset={"limit": 300}).measured(digits().facts())
    made = run.prepare(spec, run.Here("cpu", threads=1, progress=False))
    assert isinstance(made, SerialEngine)
    assert made.facts.arithmetic is None
    assert made.arithmetic == Arithmetic()


@on_both
def test_the_first_worker_files_how_trainings_compute_and_a_smaller_part_later(database: Database) -> None:
    study = filing.create(database, make_spec(training={"precision": "auto"})).measured(FACTS)
    late = studies.get(database, study.name).measured(FACTS)
    first = study.settled(Arithmetic("bf16", channels_last=True))
    assert first.spec.facts.arithmetic == Arithmetic("bf16", channels_last=True)
    assert late.settled(Arithmetic("fp32")).spec.facts.arithmetic == first.spec.facts.arithmetic
    for micro_batch, filed in ((64, 64), (16, 16), (32, 16)):
        found = late.settled(Arithmetic("fp32", micro_batch=micro_batch))
        assert found.spec.facts.arithmetic == Arithmetic("bf16", channels_last=True, micro_batch=filed)
    read = studies.get(database, study.name)
    assert read.spec.facts == found.spec.facts
    assert replace(read.spec.facts, arithmetic=None) == FACTS
    assert read.spec.identity_hash() == study.spec.identity_hash()


def filed_facts(database: Path) -> dict[str, Any] | None:
    """Return the facts of the one study as they lie in the database."""
    with sqlite3.connect(database) as connection:
        ((facts,),) = connection.execute("SELECT facts FROM lrsearch_studies")
    return None if facts is None else dict(json.loads(facts))


def filed_of(database: Path) -> dict[str, Any] | None:
    facts = filed_facts(database)
    assert facts is not None
    return None if facts["arithmetic"] is None else dict(facts["arithmetic"])


def test_what_is_left_open_is_settled_once_and_followed_by_all(lrsearch: InProcess, tmp_path: Path) -> None:
    options = ("--threads", "1", "--epochs", "2", "--set", "pruner=none", "--set", "dataset.limit=300")
    asked = ("run", "--model", "cnn", "--name", "open", *options, "--set", "training.precision=auto")
    database = tmp_path / "lrsearch.db"
    assert lrsearch(*asked, "--detach").code == 0
    assert filed_facts(database) is None
    done = lrsearch("worker", "--study", "open", "--exit-when-idle", "--max-trials", "1")
    assert done.code == 0, done.err
    assert filed_of(database) == {"precision": "fp32", "channels_last": False, "micro_batch": None}
    # A worker with another device would find something else, and does as was filed.
    other = filed_facts(database)
    assert other is not None
    other["arithmetic"]["precision"] = "bf16"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE lrsearch_studies SET facts = ?", (json.dumps(other),))
    done = lrsearch("worker", "--study", "open", "--exit-when-idle", "--max-trials", "1")
    assert done.code == 0, done.err
    assert filed_of(database) == other["arithmetic"]
    said = lrsearch("report", "open", "-o", str(tmp_path / "open.md"))
    assert said.code == 0, said.err
    assert "products and convolutions in bf16" in (tmp_path / "open.md").read_text("utf-8")


def test_what_comes_after_a_search_computes_as_it_did(lrsearch: InProcess, tmp_path: Path) -> None:
    options = ("--threads", "1", "--epochs", "2", "--set", "pruner=none", "--set", "dataset.limit=300")
    said = ("--set", "training.precision=bf16", "--set", "training.micro_batch=8", "--set", "space.batch_size=32")
    done = lrsearch("run", "--model", "cnn", "--name", "half", "--trials", "1", *options, *said)
    assert done.code == 0, done.err
    kept = lrsearch("train", "half", "--on", "train", "-o", str(tmp_path / "kept"))
    assert kept.code == 0, kept.err
    about = json.loads((tmp_path / "kept" / "model.json").read_text("utf-8"))
    assert about["arithmetic"] == {"precision": "bf16", "channels_last": False, "micro_batch": 8}
    assert about["search"]["equal"] is True, "bit for bit"
    seen = lrsearch("predict", "half", "--image", "3", "--threads", "1")
    assert seen.code == 0, seen.err
    assert "were in bf16 when it was trained" in " ".join(seen.out.split())
    exported = json.loads(lrsearch("export", "half", "--to", "json").out)
    assert exported["arithmetic"] == about["arithmetic"]
    refused = lrsearch("export", "half", "--to", "lightning")
    assert refused.code == 2
    assert "--to torch" in refused.err


# --- programs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def program_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with torch.random.fork_rng(devices=[]):
        yield Program(tmp_path, monkeypatch)


COMPUTING = {
    "bf16": Arithmetic("bf16"),
    "fp16": Arithmetic("fp16"),
    "parts": Arithmetic(micro_batch=3),
    "bf16 in parts, channels last": Arithmetic("bf16", channels_last=True, micro_batch=5),
}


def study_computing(how: Arithmetic, **tables: Any) -> StudySpec:
    spec = study(dataset={"limit": 64}, model={"name": "cnn", "hidden": [4]}, **tables)
    return spec.measured(replace(data.load(DataConfig("digits", limit=64)).facts(), arithmetic=how))


@pytest.mark.parametrize("class_weights", [0.0, 1.0])
@pytest.mark.parametrize("name", COMPUTING)
def test_a_program_computes_as_the_search_did(
    name: str, class_weights: float, program_run: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    how = COMPUTING[name]
    spec = study_computing(how, training={"class_weights": class_weights, "tf32": "off"})
    made = of(COSINE, OptimizerConfig("sgd", 0.02, momentum=0.9))
    text = program(made, spec, "torch")
    assert ("autocast" in text) == (how.precision != "fp32")
    assert "allow_tf32 = False" in text
    lrs = program_run(loaded(text), "--device", "cpu")
    searched = SerialEngine(
        data.load(DataConfig("digits", limit=64)),
        ModelConfig("cnn", (4,)),
        CPU,
        Rules(class_weights=class_weights or None),
    )
    searched.follow(how)
    *_, last = trained(searched.start(made.config))[0]
    assert isinstance(last, EpochMetrics)
    assert len(lrs) == last.step
    assert lrs == pytest.approx((factors(COSINE, last.step) * 0.02).tolist())
    said = capsys.readouterr().out
    found = re.findall(r"validation loss ([0-9.]+)", said)
    assert float(found[-1]) == pytest.approx(last.val_loss, rel=0.02 if how.precision == "fp32" else 0.1), said


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lightning") is None, reason="lightning comes with the extra 'dev'")
def test_a_program_for_lightning_has_bf16(program_run: Program, capsys: pytest.CaptureFixture[str]) -> None:
    spec = study_computing(Arithmetic("bf16", channels_last=True))
    text = program(of(COSINE, OptimizerConfig("sgd", 0.02, momentum=0.9)), spec, "lightning")
    assert 'precision="bf16-mixed"' in text
    assert len(program_run(loaded(text))) == 35
    assert "val_loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (Arithmetic("fp16"), "leaves updates out"),
        (Arithmetic(micro_batch=3), "as if all parts of a batch had one size"),
    ],
)
def test_what_lightning_would_do_otherwise_is_refused(how: Arithmetic, why: str) -> None:
    with pytest.raises(UsageError, match=f"{why}.*--to torch"):
        program(of(COSINE), study_computing(how), "lightning")
    whole = Arithmetic(micro_batch=8)
    assert "in_parts" not in program(of(COSINE), study_computing(whole), "torch"), "batches of 8 are no larger"


# --- CUDA ------------------------------------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    "how", [Arithmetic("bf16", channels_last=True), Arithmetic("fp16"), Arithmetic("fp16", micro_batch=5)]
)
def test_a_training_of_cuda_in_16_bits_resumes_bit_for_bit_and_loads_on_the_cpu(how: Arithmetic) -> None:
    cuda = torch.device("cuda", 0)
    device.prepare(cuda, 1)
    splits = digits()
    made = SerialEngine(splits, CNN, cuda, Rules(), splits.facts())
    made.follow(how)
    whole = trained(made.start(CONFIG))
    assert isinstance(whole[0][-1], EpochMetrics)
    for at in (0, 3, 8, 15):
        assert resumed(made, CONFIG, at) == whole, at
    there = SerialEngine(splits, CNN, CPU, Rules(), splits.facts())
    there.follow(how)
    assert there.start(CONFIG, made.start(CONFIG).checkpoint()).step == 0


@pytest.mark.gpu
@needs_cuda
def test_what_a_small_memory_of_cuda_does_not_hold_is_trained_in_parts() -> None:
    cuda = torch.device("cuda", 0)
    n = 4096
    images = ImageSet(torch.zeros(n, 1, 64, 64, dtype=torch.uint8), torch.arange(n) % 3)
    few = ImageSet(images.images[:8], images.labels[:8])
    splits = ImageSplits(images, few, few, ("a", "b", "c"), (0.5,), (0.5,))
    wide = ModelConfig("cnn", (4096,))
    whole = torch.cuda.get_device_properties(cuda).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / whole)
    try:
        made = SerialEngine(splits, wide, cuda, Rules(divergence_watch=False), splits.facts())
        training = made.start(replace(CONFIG, batch_size=n, epochs=2))
        told, _ = trained(training)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(told[-1], EpochMetrics)
    assert training.micro_batch is not None
    assert training.micro_batch < n

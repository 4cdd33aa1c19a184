"""Programs of studies with pictures and networks of one's own: they train what the search trained, at its rates."""

import csv
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import InProcess, clean_environment, one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from ones_own import make_pictures
from PIL import Image
from test_export import OPTIMIZERS, PLATEAU, SHAPES, loaded, of
from test_schedules import schedules_of
from torch import nn
from trials_by_hand import spec

from lrsearch import layer_rates
from lrsearch.families import FAMILIES
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding
from lrsearch.report.export import to_csv, to_json
from lrsearch.report.export_program import Framework, class_weights, program
from lrsearch.report.group_code import GroupCode, group_code
from lrsearch.report.model_code import model_code
from lrsearch.report.own_split import OwnSplit
from lrsearch.report.scheduler_code import scheduler_code
from lrsearch.report.snippet import snippet
from lrsearch.schedules import factors
from lrsearch.spec.study import StudySpec
from lrsearch.training import networks, optimizers, preflight, zoo
from lrsearch.training.checkpoint import encode_weights, with_metadata
from lrsearch.training.models import build
from lrsearch.training.outputs import logits_of
from lrsearch.trial import Facts, Network, OptimizerConfig, ScheduleConfig, Trial
from lrsearch.worker import build_engine, model_config

pytest_plugins = ["command_line"]

CPU = torch.device("cpu")
SGD = OptimizerConfig("sgd", 0.1234567890123456, weight_decay=5e-4, momentum=0.9)
COSINE = ScheduleConfig("cosine", warmup_fraction=0.2, final_fraction=0.01)

NETS = """
import torch
from torch import nn
from beside import WIDTH

def drops(num_classes, in_chans, image_size):
    return nn.Sequential(
        nn.Conv2d(in_chans, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.LazyLinear(7), nn.ReLU(), nn.Linear(7, num_classes),
    )

class Frozen(nn.Module):
    def __init__(self, n, **more):
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, n)
        self.scale = nn.Parameter(torch.ones(n, 1))
        for part in (self.stem, self.norm):
            part.requires_grad_(False)

    def no_weight_decay(self):
        return {"scale"}

    def forward(self, x):
        x = self.norm(self.stem(x)).relu().mean((2, 3))
        return {"logits": self.head(x) * self.scale[:, 0]}

def frozen(n_classes, depth=1):
    assert depth == 3
    return Frozen(n_classes)

def anything(**keywords):
    return Frozen(keywords["num_classes"])

def halved(logits, labels, weight=None):
    return nn.functional.cross_entropy(logits, labels, weight=weight) / 2

def plain_loss(logits, labels):
    return nn.functional.multi_margin_loss(logits, labels)
"""


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("their nets")
    (folder / "beside.py").write_text("WIDTH = 5\n")
    (folder / "nets.py").write_text(textwrap.dedent(NETS))
    return str(folder / "nets.py")


LOOKS: dict[str, Network] = {}


def pictured(
    channels: int = 3, size: int = 12, counts: Sequence[int] = (20, 20, 11), n_test: int = 6, **tables: Any
) -> StudySpec:
    """Return a study of pictures of one's own, measured, of 51 training images in three classes."""
    tables = {"dataset": {"name": "folder:/data/pets"}, **tables}
    facts = Facts(
        n_train=sum(counts),
        n_validation=12,
        n_test=n_test,
        shape=(channels, size, size),
        classes=("ant", "bee", "cat"),
        mean=(0.4,) * channels,
        std=(0.2,) * channels,
        train_counts=tuple(counts),
        validation_counts=(4, 4, 4),
        test_counts=(n_test // 3,) * 3,
        fingerprint="f" * 64,
    )
    made = spec(**tables)
    config, shape = replace(model_config(made), loss=None), facts.shape
    key = repr((config, shape))  # a look takes a second, and many tests have the same model
    if key not in LOOKS:
        LOOKS[key] = preflight.look(config, shape, 3)
    return made.measured(replace(facts, network=LOOKS[key]))


def split_of(about: StudySpec) -> OwnSplit:
    channels, height, width = about.facts.shape
    return OwnSplit("/data/pets", Decoding(height, width, channels), {"train": ["ant/1.png"]}, {"train": [0]})


def exported(made: Trial, about: StudySpec, framework: Framework = "torch") -> str:
    return program(made, about, framework, split_of(about), "train.split.json")


def setting(schedule: ScheduleConfig = COSINE, optimizer: OptimizerConfig = SGD, **more: Any) -> Trial:
    return of(schedule, optimizer, **more)


# The model


def seeded(about: StudySpec) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        return build(model_config(about), about.facts.shape, len(about.facts.classes))


MODELS: dict[str, dict[str, Any]] = {
    "small stem": {"model": {"name": "torchvision/resnet18"}},
    "full stem": {"model": {"name": "torchvision/resnet18", "stem": "full"}},
    "grey": {"model": {"name": "torchvision/mobilenet_v3_small"}, "channels": 1},
    "keywords": {"model": {"name": "torchvision/resnet18", "args": {"zero_init_residual": True}}},
    "auxiliary heads": {"model": {"name": "torchvision/googlenet"}, "size": 64},
    "timm": {"model": {"name": "timm/resnet10t", "stem": "full"}, "size": 32, "channels": 1},
    "timm, sized": {"model": {"name": "timm/vit_tiny_patch16_224", "args": {"depth": 2}}, "size": 32},
    "lazy": {"model": {"name": "{nets}:drops"}, "channels": 1},
    "args": {"model": {"name": "{nets}:frozen", "args": {"depth": 3}}},
    "any keyword": {"model": {"name": "{nets}:anything"}},
    "backbone frozen": {"model": {"name": "torchvision/resnet18", "freeze": "backbone"}},
    "parts frozen": {"model": {"name": "cnn", "hidden": [5], "freeze": ["conv", "dense1"]}},
    "resnet9": {"model": {"name": "resnet9"}},
    "resnet9 by level": {"model": {"name": "resnet9"}, "space": {"stem_ratio": 0.1, "batch_size": 8}},
    "mlp by level": {"model": {"name": "mlp", "hidden": [6, 5]}, "space": {"layer_decay": 0.5, "batch_size": 8}},
}


HEAVY = (
    "auxiliary heads",
    "full stem",
    "keywords",
    "backbone frozen",
    "grey",
    "timm",
    "timm, sized",
    "resnet9 by level",
)


def tables_of(which: str, nets: str) -> dict[str, Any]:
    tables = MODELS[which]
    model = {**tables["model"], "name": tables["model"]["name"].format(nets=nets)}
    return {**tables, "model": model}


@pytest.mark.parametrize(
    "which", [pytest.param(one, marks=pytest.mark.slow) if one in HEAVY else one for one in MODELS]
)
def test_the_model_of_a_program_is_that_of_the_search(which: str, nets: str) -> None:
    if which.startswith("timm"):
        pytest.importorskip("timm")
    about = pictured(**tables_of(which, nets))
    stem = {"stem_ratio": 0.03} if about.layer_wise and about.space.layer_decay is None else {}
    decay = {"layer_decay": 0.5} if about.space.layer_decay is not None else {}
    made = setting(**stem, **decay)
    names = loaded(exported(made, about))
    searched = seeded(about)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        found = names["build_model"]()
    ours, theirs = searched.state_dict(), found.state_dict()
    same_names = list(ours) == list(theirs) or about.model.name == "resnet9"
    assert same_names
    for asked, got in zip(ours.values(), theirs.values(), strict=True):
        assert torch.equal(asked, got)
    gradients = [[p.requires_grad for p in model.parameters()] for model in (searched, found)]
    assert gradients[0] == gradients[1]
    if about.facts.network is not None and group_code(about, made.config).kind != "one":
        same_groups(names, found, about, made)


def test_every_model_of_torchvision_is_called_as_the_search_calls_it() -> None:
    names = zoo.torchvision().list_models(module=zoo.torchvision())
    assert len(names) > 50
    for shape in ((3, 64, 64), (1, 96, 96)):
        for name in names:
            asked = zoo._for_torchvision(name, shape)
            about = spec(dataset={"name": "folder:pets"}, model={"name": f"torchvision/{name}"})
            facts = Facts(51, 12, 6, shape, ("a", "b"), (0.5,) * shape[0], (0.2,) * shape[0])
            assert model_code(about.measured(facts)).keywords == tuple(
                f"{key}={value!r}" for key, value in asked.items()
            )


def same_groups(names: dict[str, Any], found: nn.Module, about: StudySpec, made: Trial) -> None:
    """Check that a program divides the parameters as the engine does: the same ones, rates and decays."""
    groups = optimizers.groups_of(found, about.facts.network, made.config, decay_all=not about.decay_matrices)
    searched = groups.of(found, made.config.optimizer.weight_decay)
    optimizer = names["build_optimizer"](found)
    assert len(optimizer.param_groups) == len(searched)
    assert len({group["name"] for group in optimizer.param_groups}) == len(searched)
    for group, asked, share in zip(optimizer.param_groups, searched, groups.shares, strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in asked["params"]]
        assert group["weight_decay"] == asked["weight_decay"]
        assert group["lr"] == made.config.optimizer.peak_lr * share


def rarely(*which: str) -> list[Any]:
    return [pytest.param(one, marks=pytest.mark.slow) for one in which]


@pytest.mark.parametrize("kind", ["safetensors", *rarely("pth", "wrapped.pth", "by order.pth", "folder")])
def test_weights_of_a_file_are_put_into_the_model_of_a_program(kind: str, nets: str, tmp_path: Path) -> None:
    first = pictured(model={"name": "torchvision/resnet18"})
    weights = encode_weights(seeded(first))
    state = {name: t * 0.9 if t.is_floating_point() else t for name, t in seeded(first).state_dict().items()}
    where = tmp_path / f"w.{kind}"
    match kind:
        case "safetensors":
            where.write_bytes(weights)
        case "pth":
            torch.save(state, where)
        case "wrapped.pth":
            torch.save({"epoch": 3, "model": {f"module.{name}": t for name, t in state.items()}}, where)
        case "by order.pth":
            torch.save({f"x.{i}.y": t for i, t in enumerate(state.values())}, where)
        case _:
            where.mkdir()
            (where / "weights.safetensors").write_bytes(with_metadata(weights, {"input_shape": [3, 12, 12]}))
    key = "weights" if kind == "pth" else "init_from"
    about = pictured(model={"name": "torchvision/resnet18", key: str(where)})
    four = about.measured(replace(about.facts, classes=("ant", "bee", "cat", "dog"), train_counts=(), test_counts=()))
    for one in (about, four):
        made = setting(stem_ratio=0.1)
        names = loaded(exported(made, one))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            found = names["build_model"]()
        ours, theirs = seeded(one).state_dict(), found.state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        same_groups(names, found, one, made)


@pytest.mark.parametrize("function", ["drops", "frozen"])
def test_what_is_not_trained_evaluates_while_others_train(function: str, nets: str) -> None:
    about = pictured(model={"name": f"{nets}:{function}", "args": {"depth": 3} if function == "frozen" else None})
    text = exported(setting(), about)
    assert ("def rest(" in text) == (function == "frozen")
    if function == "frozen":
        names = loaded(text)
        model = names["build_model"]()
        model.train()
        names["rest"](model)
        asked = {name for name, part in model.named_modules() for one in networks.frozen_parts(model) if part is one}
        assert {name for name, part in model.named_modules() if not part.training} == asked == {"stem", "norm"}


@pytest.mark.parametrize("loss", [None, "halved", "plain_loss"])
@pytest.mark.parametrize("power", [None, 0.5])
@pytest.mark.parametrize("which", ["args", "small stem", *rarely("auxiliary heads")])
def test_the_loss_of_a_program_is_that_of_the_search(
    which: str, power: float | None, loss: str | None, nets: str
) -> None:
    tables = tables_of(which, nets)
    tables["model"] = {**tables["model"], "loss": None if loss is None else f"{nets}:{loss}"}
    about = pictured(**tables, training={"class_weights": power})
    made = setting()
    text = exported(made, about)
    names = loaded(text)
    judge = networks.judge_of(model_config(about), about.facts.train_counts, power, CPU)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = names["build_model"]()
        images, labels = torch.randn(6, *about.facts.shape), torch.tensor([0, 1, 2, 2, 1, 0])
        output = model(images)
    wanted, _ = judge.in_training(output, labels)
    if "def loss_of(" in text:
        found = names["loss_of"](output, labels)
    else:
        assert (power, loss, which) == (None, None, "small stem")
        found = nn.functional.cross_entropy(output, labels)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    model.eval()
    batches = [(images, labels)]
    loss_found, accuracy = names["evaluate"](model, batches, CPU)
    with torch.no_grad():
        output = model(images)
        summed, logits = judge.summed(output, labels)
    assert loss_found == pytest.approx(summed.item() / 6, rel=1e-5)
    assert accuracy == (logits_of(output).argmax(1) == labels).double().mean()
    assert torch.equal(logits, logits_of(output))


def test_class_weights_are_those_of_the_engine() -> None:
    for counts, power in (((60, 30, 10), 1.0), ((9, 4, 1), 0.3)):
        about = pictured(model={"name": "mlp"}, counts=counts, training={"class_weights": power})
        found = torch.tensor(class_weights(about))
        assert torch.equal(found, networks._weights(counts, power))


def published(name: str, nets: str, **more: Any) -> StudySpec:
    """Return a study of digits and a network that is looked at."""
    made = spec(
        dataset={"limit": 64}, model={"name": name.format(nets=nets), **more}, space={"batch_size": 8}, epochs=2
    )
    facts = made.facts
    look = preflight.look(model_config(made), facts.shape, len(facts.classes))
    return made.measured(replace(facts, network=look))


@pytest.mark.parametrize("name", ["{nets}:drops", "resnet9"])
def test_a_network_of_ones_own_trains_on_published_data(
    name: str, nets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = published(name, nets)
    made = setting(COSINE, replace(SGD, peak_lr=0.01), epochs=2)
    names = loaded(program(made, about, "torch"))
    monkeypatch.setattr(sys, "argv", ["program.py", "--lr-log", str(tmp_path / "lr.csv"), "--device", "cpu"])
    with torch.random.fork_rng(devices=[]):
        names["main"]()
    rows = list(csv.reader((tmp_path / "lr.csv").read_text().splitlines()))
    steps = about.steps_per_epoch(8)
    lrs = factors(COSINE, 2 * steps) * 0.01
    assert rows[0] == ["step", "epoch", "lr", *(["lr, no decay"] if about.decay_matrices else [])]
    np.testing.assert_allclose([float(row[2]) for row in rows[1:]], lrs, rtol=1e-9)
    assert "test: loss" in capsys.readouterr().out


# The learning rate of every group at every update


class Layers(nn.Module):
    """A stem, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = (nn.Linear(2, 2) for _ in range(4))


NETWORK = Network(24, tuple((f"{part}.weight", f"{part}.bias") for part in ("stem", "a", "b", "head")))


def levelled(decay: str = "matrices", **tables: Any) -> StudySpec:
    """Return a study of the model above; nobody has looked at its pictures."""
    made = spec(dataset={"name": "folder:pets"}, training={"weight_decay_on": decay}, **tables)
    facts = Facts(51, 12, 6, (3, 8, 8), ("a", "b"), (0.5,) * 3, (0.2,) * 3, network=NETWORK)
    return made.measured(facts)


def rates_of(made: Trial, about: StudySpec, n_steps: int) -> np.ndarray[Any, Any]:
    """Return the learning rate of each group of a program at each update, ``[n_steps, groups]``."""
    names = loaded(exported(made, about))
    optimizer = names["build_optimizer"](Layers())
    rates = []
    scheduler = names["build_scheduler"](optimizer, n_steps) if "build_scheduler" in names else None
    for _ in range(n_steps):
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return np.array(rates)


def wanted_rates(made: Trial, n_steps: int, n_per_level: int) -> np.ndarray[Any, Any]:
    config = made.config
    lrs = factors(config.schedule, n_steps) * config.optimizer.peak_lr
    shares = np.repeat(layer_rates.shares(4, config), n_per_level)
    return np.outer(lrs, shares)


def assert_same_rates(found: np.ndarray[Any, Any], asked: np.ndarray[Any, Any], what: object = "") -> None:
    """Equal to 1e-12 of each value; of what has fallen to nothing, of the peak."""
    assert found.shape == asked.shape, what
    off = np.abs(found - asked) / np.maximum(np.abs(asked), 1e-4 * asked.max(axis=0))
    assert off.max() <= 1e-12, (what, off.max())


BY_LAYER: tuple[dict[str, float], ...] = (
    {"stem_ratio": 0.1},
    {"layer_decay": 0.75, "backbone_ratio": 0.5},
    {"backbone_ratio": 0.3},
    {"stem_ratio": 1e-7},
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.family)
@pytest.mark.parametrize("by_layer", BY_LAYER, ids=str)
def test_every_group_has_the_learning_rate_of_the_search_at_every_update(
    shape: ScheduleConfig, by_layer: dict[str, float]
) -> None:
    for warmup, decay, n_steps in ((0.0, "matrices", 35), (0.1234, "all", 35), (0.6, "matrices", 7), (0.5, "all", 1)):
        about = levelled(decay)
        made = setting(replace(shape, warmup_fraction=warmup), **by_layer)
        found = rates_of(made, about, n_steps)
        per_level = 2 if decay == "matrices" else 1
        assert_same_rates(found, wanted_rates(made, n_steps, per_level), (warmup, decay))


SCHEDULED = tuple(family for family in FAMILIES if family != "plateau")


@settings(deadline=None)
@given(schedules_of(*SCHEDULED) | schedules_of(*SCHEDULED, warm=False), st.integers(1, 200))
def test_any_schedule_has_its_rates_by_level(schedule: ScheduleConfig, n_steps: int) -> None:
    made = setting(schedule, stem_ratio=0.05)
    found, asked = rates_of(made, levelled(), n_steps), wanted_rates(made, n_steps, 2)
    # Of the peak: after a fall to zero what is left is rounding.
    assert np.abs(found - asked).max() <= 1e-12


def test_groups_that_learn_alike_keep_torchs_own_schedulers() -> None:
    about = levelled()
    for shape in (*SHAPES, PLATEAU):
        made = setting(replace(shape, warmup_fraction=0.1234))
        assert group_code(about, made.config).kind == "alike"
        if shape.family == "plateau":
            continue
        found = rates_of(made, about, 35)
        assert found.shape == (35, 2)
        np.testing.assert_allclose(found, wanted_rates(made, 35, 1)[:, -1:].repeat(2, 1), rtol=1e-9, atol=1e-12)
    assert "CosineAnnealingLR" in exported(setting(), about)


@pytest.mark.parametrize("by_layer", [{}, {"stem_ratio": 0.1}], ids=["alike", "by level"])
@pytest.mark.parametrize("warmup", [0.0, 0.6])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_the_plateau_drops_every_group(by_layer: dict[str, float], warmup: float, final: float) -> None:
    from test_export import LOSSES, dropping

    made = setting(replace(PLATEAU, warmup_fraction=warmup, final_fraction=final), epochs=len(LOSSES), **by_layer)
    about = levelled()
    names = loaded(exported(made, about))
    optimizer = names["build_optimizer"](Layers())
    found = []
    if warmup:
        ramp, plateau = names["build_schedulers"](optimizer, 7 * len(LOSSES))
    else:
        ramp, plateau = None, names["build_scheduler"](optimizer, 7 * len(LOSSES))
    for loss in LOSSES:
        for _ in range(7):
            found.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            if ramp is not None:
                ramp.step()
        code = scheduler_code(made.config.schedule, 7 * len(LOSSES), group_code(about, made.config).kind)
        exec("\n".join(code.plateau_floor), {"warmup": ramp, "plateau": plateau})
        plateau.step(loss)
    asked = dropping(made, LOSSES, 7)
    shares = np.repeat(layer_rates.shares(4, made.config), 2) if by_layer else np.ones(2)
    np.testing.assert_allclose(np.array(found), np.outer(asked, shares), rtol=1e-12)


def test_the_snippet_divides_the_parameters_too() -> None:
    for by_layer, decay, weight_decay in (
        ({"stem_ratio": 0.1}, "matrices", 5e-4),
        ({"stem_ratio": 0.1}, "all", 5e-4),
        ({}, "matrices", 5e-4),
        ({"backbone_ratio": 0.5}, "matrices", 0.0),
    ):
        about = levelled(decay)
        made = setting(optimizer=replace(SGD, weight_decay=weight_decay), **by_layer)
        names: dict[str, Any] = {"model": Layers(), "loader": []}
        exec(snippet(made.config, 7, group_code(about, made.config)), names)
        optimizer = names["optimizer"]
        peaks = {p: group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
        shares = dict(zip(("stem", "a", "b", "head"), layer_rates.shares(4, made.config), strict=True))
        for name, parameter in names["model"].named_parameters():
            assert peaks[parameter] == pytest.approx(SGD.peak_lr * shares[name.partition(".")[0]], rel=1e-15)
        decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        for p in names["model"].parameters():
            assert decays[p] == (weight_decay if decay == "all" or p.ndim > 1 else 0.0)
    assert "groups" not in snippet(made.config, 7, GroupCode())
    assert "loss_of" not in snippet(made.config, 7)
    assert "loss = loss_of(model(images), labels)" in snippet(made.config, 7, plain_loss=False)


def test_json_and_csv_have_the_rates_of_the_levels() -> None:
    about, made = levelled(), setting(stem_ratio=0.1, epochs=5)
    document = json.loads(json.dumps(to_json(made, about)))
    shares = layer_rates.shares(4, made.config)
    assert [level["share"] for level in document["levels"]] == list(shares)
    assert [level["parameters"][0] for level in document["levels"]] == [names[0] for names in NETWORK.levels]
    assert document["model"]["weight_decay_on"] == "matrices"
    rows = list(csv.DictReader(to_csv(made, about).splitlines()))
    assert [float(row["lr"]) for row in rows] == document["lr"]
    for number, share in enumerate(shares):
        assert [float(row[f"lr_level_{number}"]) for row in rows] == [lr * share for lr in document["lr"]]
    assert "lr_level_0" not in to_csv(setting(), about).splitlines()[0]


# The pictures


def strange_pictures(folder: Path) -> list[Path]:
    """Make a picture of every kind that people have."""
    draw = np.random.default_rng(1)
    colour = draw.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    base = Image.fromarray(colour)
    alpha = Image.fromarray(draw.integers(0, 256, (37, 53), dtype=np.uint8))
    layered = base.copy()
    layered.putalpha(alpha)
    opaque = base.copy()
    opaque.putalpha(255)
    exif = Image.Exif()
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (base, {}),
        "grey.png": (base.convert("L"), {}),
        "grey as rgb.png": (base.convert("L").convert("RGB"), {}),
        "bits.png": (base.convert("1"), {}),
        "rgba.png": (layered, {}),
        "opaque.png": (opaque, {}),
        "la.png": (layered.convert("LA"), {}),
        "palette.png": (base.quantize(32), {}),
        "see-through.gif": (layered.quantize(32), {"transparency": 3}),
        "see-through.png": (base.quantize(32), {"transparency": 3}),
        "deep.png": (Image.fromarray(draw.integers(0, 4096, (37, 53)).astype(np.uint16)), {}),
        "cmyk.jpg": (base.convert("CMYK"), {}),
        "large.jpg": (base.resize((800, 530)), {"quality": 90}),
        "narrow.jpg": (base.resize((40, 600)), {}),
        "small.png": (base.resize((5, 7)), {}),
        "fits.png": (base.resize((16, 16)), {}),
        "dot.png": (base.resize((1, 1)), {}),
    }
    for orientation in range(2, 9):
        exif[0x0112] = orientation
        made[f"turned {orientation}.jpg"] = (base.resize((90, 61)), {"exif": exif.tobytes()})
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_pictures_of_a_program_are_decoded_as_the_search_decodes_them(
    resize: Any, channels: int, tmp_path: Path
) -> None:
    paths = strange_pictures(tmp_path)
    how = Decoding(16, 16, channels, resize, 5, 3000)
    about = pictured(channels, 16, model={"name": "mlp"})
    split = OwnSplit(str(tmp_path), how, {}, {})
    names = loaded(program(setting(), about, "torch", split, "x.json"))
    for path in paths:
        wanted = decode.decode(path.read_bytes(), how, path).pixels
        found = names["read_picture"](path)
        assert found.dtype == np.uint8
        assert np.array_equal(found, wanted), path.name


EMOJI = Path(os.environ.get("LRSEARCH_TEST_DATA", "/nowhere"), "emoji", "pictures")


@pytest.mark.skipif(not EMOJI.is_dir(), reason=f"there are no real pictures in {EMOJI}")
@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_real_pictures_are_decoded_as_the_search_decodes_them(resize: Any, tmp_path: Path) -> None:
    how = Decoding(40, 40, 3, resize)
    about = pictured(3, 40, model={"name": "mlp"})
    names = loaded(program(setting(), about, "torch", OwnSplit(str(EMOJI), how, {}, {}), "x.json"))
    paths = sorted(EMOJI.rglob("*.png"))[::20]
    assert len(paths) > 50
    for path in paths:
        assert np.array_equal(names["read_picture"](path), decode.decode(path.read_bytes(), how, path).pixels), path


def test_the_search_reads_no_other_kinds_of_pictures() -> None:
    # The decoder of the programs is a copy of this version; another one wants another copy.
    assert decode.VERSION == 1


DATA = """
import numpy as np
from PIL import Image

def pixels(n, kind, seed):
    draw = np.random.default_rng(seed)
    images, labels = draw.integers(0, 90, (n, 10, 14, 3), dtype=np.uint8), np.arange(n) % 3
    images[np.arange(n), :, :, labels] += 120
    return images, labels

class Items:
    def __init__(self, images, labels):
        self.images, self.labels = images, labels
    def __len__(self):
        return len(self.labels)
    def __getitem__(self, i):
        return Image.fromarray(self.images[i]).resize((20 + i % 3, 15)), int(self.labels[i])

def load(kind="bytes", data_dir=None):
    images, labels = pixels(40, kind, 0)
    if kind == "bytes":
        return images, labels
    if kind == "floats":
        return {"train": (np.moveaxis(images / 255, 3, 1).astype("float32"), labels), "classes": ["x", "y", "z"]}
    if kind == "grey":
        return images[..., 0] // 2 + (labels * 60)[:, None, None].astype("uint8"), labels
    more = pixels(12, kind, 1)
    return {"train": Items(images, labels), "test": Items(*more), "validation": Items(*more)}
"""


@pytest.mark.parametrize("kind", ["bytes", "floats", "grey", "items"])
def test_the_images_of_a_persons_function_are_those_of_the_search(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data.py").write_text(DATA)
    dataset = {"name": f"{tmp_path}/data.py:load", "args": {"kind": kind}}
    about, names, engine = searched(spec(dataset=dataset, model={"name": "mlp"}, space={"batch_size": 8}), tmp_path)
    assert about.facts.shape == ((1 if kind == "grey" else 3), *((15, 15) if kind == "items" else (10, 14)))
    same_images(names, engine, None)


def searched(made: StudySpec, folder: Path) -> tuple[StudySpec, dict[str, Any], Any]:
    """Return a study as it is filed, the names of its program in ``folder``, and its engine."""
    from lrsearch.report.own_split import own_split

    engine = build_engine(made, device_name="cpu", threads=1, data_dir=None, progress=False)
    about = made.fitted(engine.facts)
    split = own_split(about, None)
    (folder / "train.split.json").write_text(json.dumps(split.document(about)))
    text = program(setting(), about, "torch", split, "train.split.json")
    names: dict[str, Any] = {"__name__": "program", "__file__": str(folder / "train.py")}
    exec(compile(text, "train.py", "exec"), names)
    return about, names, engine


def same_images(names: dict[str, Any], engine: Any, folder: Path | None) -> None:
    splits = engine.splits
    for found, asked in zip(names["load_data"](folder), (splits.train, splits.validation, splits.test), strict=True):
        assert torch.equal(found.images, asked.all_images)
        assert torch.equal(found.labels, asked.labels)
        if len(found):
            image, _ = found[len(found) - 1]
            torch.testing.assert_close(image, splits.normalize(asked.all_images)[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["folder", "csv"])
def test_the_split_of_a_program_is_that_of_the_search(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))
    pictures = make_pictures(tmp_path / "my pics")
    for copy in range(3):  # equal pictures go to one side, whatever the seed
        (pictures / "red" / f"copy {copy}.png").write_bytes((pictures / "red" / "1.png").read_bytes())
    (pictures / "green" / "größe.jpg").write_bytes((pictures / "green" / "2.png").read_bytes())
    if form == "csv":
        rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(pictures.rglob("*.*"))]
        (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    name = f"folder:{pictures}" if form == "folder" else f"csv:{tmp_path / 't.csv'}"
    about, names, engine = searched(
        spec(dataset={"name": name, "split_seed": 3, "limit": 60}, model={"name": "mlp"}, space={"batch_size": 8}),
        tmp_path,
    )
    assert (about.facts.n_train, about.facts.n_validation) == (48, 12)
    same_images(names, engine, pictures if form == "folder" else tmp_path)


# The whole


@pytest.mark.slow
def test_a_program_of_ones_own_pictures_wants_a_file(lrsearch: InProcess, tmp_path: Path, small: Path) -> None:
    result = lrsearch("export", "--storage", str(small / "lrsearch.db"))
    assert result.code == 2
    assert "name the file of the program with -o" in one_line(result)
    assert lrsearch("export", "--to", "csv", "--storage", str(small / "lrsearch.db")).code == 0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of a resnet18 on made pictures, with rates by level and decay on matrices."""
    folder = tmp_path_factory.mktemp("small")
    make_pictures(folder / "pics")
    more = ("--trials", "1", "--epochs", "3", "--set", "space.stem_ratio=0.1", "--set", "space.batch_size=16")
    fixed = ("--set", "space.optimizer.sgd.peak_lr=0.01", "--set", 'space.schedule="cosine"')
    fixed += ("--set", "space.warmup_fraction=0.25")
    run = [sys.executable, "-m", "lrsearch", "run", "--dataset", "folder:pics", "--model", "torchvision/resnet18"]
    environment = clean_environment(folder, LRSEARCH_CACHE=str(folder / "cache"))
    done = subprocess.run([*run, *more, *fixed, "--quiet"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lrsearch":
            raise ImportError("there is no lrsearch here")

sys.meta_path.insert(0, Blocked())
import runpy
program, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(program, run_name="__main__")
assert not [name for name in sys.modules if name.startswith("lrsearch")]
"""


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "lightning"])
def test_a_program_trains_a_resnet_at_the_rates_of_the_search_without_lrsearch(
    framework: str, small: Path, tmp_path: Path, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    if framework == "lightning":
        pytest.importorskip("lightning")
    monkeypatch.setenv("LRSEARCH_CACHE", str(small / "cache"))
    storage = ("--storage", str(small / "lrsearch.db"))
    wrote = lrsearch("export", "--to", framework, "-o", "train.py", *storage)
    assert wrote.out == "wrote train.py and train.split.json; run it with: python train.py\n", wrote.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py", "train.split.json"]
    command = [sys.executable, "-I", "-c", BLOCKED, "train.py", "--lr-log", "lr.csv"]
    command += ["--device", "cpu"] if framework == "torch" else []
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader((tmp_path / "lr.csv").read_text().splitlines()))
    found = np.array([[float(cell) for cell in row[2:]] for row in rows[1:]])
    asked = engine_rates(small)
    assert found.shape == asked.shape == (9, 20)
    assert (np.abs(found - asked) / asked).max() <= 1e-12
    assert rows[0][2:4] == ["lr level 0", "lr level 0, no decay"]
    if framework == "torch":
        # The same weights, images and order: only the last bits differ.
        shown = lrsearch("show", "0", "--json", *storage).document["trial"]
        losses = [float(line.split("loss ")[1].split(",")[0]) for line in done.stdout.splitlines()]
        recorded = [row["val_loss"] for row in shown["metrics"]] + [shown["test_loss"]]
        assert losses == pytest.approx(recorded, rel=0.02)


def engine_rates(folder: Path) -> np.ndarray[Any, Any]:
    """Return the learning rate of each group of the engine's optimizer at each update of its first trial."""
    from lrsearch.store import study as studies
    from lrsearch.store.places import parse_place
    from lrsearch.store.storage import open_existing

    database = open_existing(parse_place(str(folder / "lrsearch.db")))
    try:
        study = studies.get(database, None)
        first = study.trials()[0]
    finally:
        database.close()
    engine = build_engine(study.spec, device_name="cpu", threads=2, data_dir=None, progress=False)
    training, rates, update = engine.start(first.config), [], None
    update = training._update

    def noted() -> None:
        rates.append([group["lr"] for group in training._optimizer.param_groups])
        update()

    training._update = noted
    for _ in training.epochs():
        pass
    return np.array(rates)


WATCHED = """
from torch import nn

class Watched(nn.BatchNorm2d):
    def forward(self, x):
        assert not self.training, "it is frozen, and evaluates"
        return super().forward(x)

def build(num_classes):
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Watched(4), *pool, nn.Linear(4, num_classes))
    net[1].requires_grad_(False)
    return net
"""


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "lightning"])
def test_frozen_norms_evaluate_in_every_epoch_of_a_program(framework: Framework, tmp_path: Path) -> None:
    if framework == "lightning":
        pytest.importorskip("lightning")
    pictures = make_pictures(tmp_path / "pics")
    numbers = {"train": (0, 1), "validation": (2,), "test": (3,)}
    classes = ("blue sky", "green", "red")
    split = {
        which: {"names": [f"{name}/{i}.png" for name in classes for i in some], "labels": [0, 1, 2] * len(some)}
        for which, some in numbers.items()
    }
    split["train"]["labels"] = [0, 0, 1, 1, 2, 2]
    (tmp_path / "train.split.json").write_text(json.dumps(split))
    (tmp_path / "net.py").write_text(WATCHED)
    about = spec(dataset={"name": f"folder:{pictures}"}, model={"name": f"{tmp_path}/net.py:build"})
    names = ("0.weight", "0.bias", "4.weight", "4.bias")
    network = Network(9, (names,), ("1.weight", "1.bias"), batch_norm=True)
    facts = Facts(6, 3, 3, (3, 12, 12), classes, (0.4,) * 3, (0.2,) * 3, network=network)
    about = about.measured(facts)
    made = setting(batch_size=4, epochs=3)
    split_here = OwnSplit(str(pictures), Decoding(12, 12, 3), {}, {})
    (tmp_path / "train.py").write_text(program(made, about, framework, split_here, "train.split.json"))
    command = [sys.executable, "-I", "train.py", "--lr-log", "lr.csv"]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "lr.csv").read_text().splitlines()) == 1 + 3 * 2


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "lightning"])
def test_every_program_of_ones_own_is_what_a_linter_and_a_formatter_want(
    framework: Framework, nets: str, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    texts = []
    for which in MODELS:
        about = pictured(**tables_of(which, nets))
        texts.append(exported(setting(), about, framework))
        if which in ("small stem", "lazy", "timm, sized"):
            texts += [
                exported(setting(replace(shape, warmup_fraction=0.1), stem_ratio=0.1), about, framework)
                for shape in (*SHAPES, PLATEAU)
            ]
            texts += [exported(setting(optimizer=one, backbone_ratio=0.5), about, framework) for one in OPTIMIZERS]
    for power, loss in ((0.5, None), (None, f"{nets}:halved"), (0.5, f"{nets}:plain_loss")):
        for which in ("args", "small stem"):
            tables = tables_of(which, nets)
            tables["model"] = {**tables["model"], "loss": loss}
            texts.append(exported(setting(), pictured(**tables, training={"class_weights": power}), framework))
    plain = {"name": "mlp"}
    for resize in ("pad", "crop"):
        for channels in (1, 3):
            about = pictured(channels, model=plain, n_test=0 if resize == "pad" else 6)
            split = replace(split_of(about), how=Decoding(12, 12, channels, resize))
            texts.append(program(setting(), about, framework, split, "train.split.json"))
    about = pictured(dataset={"name": "mine.data:load", "args": {"size": 12}}, model=plain)
    texts.append(exported(setting(), about, framework))
    about = pictured(dataset={"name": f"{tmp_path}/d.py:load"}, model={"name": "torch.nn:Identity"} | plain)
    texts.append(exported(setting(), about, framework))
    made = pictured(model={"name": "torchvision/resnet18"})
    for name, tag in (("torchvision/resnet18", "DEFAULT"), ("torchvision/resnet18", "ResNet18_Weights.IMAGENET1K_V1")):
        loads = spec(dataset=made.dataset.model_dump(exclude_none=True), model={"name": name, "weights": tag})
        texts.append(exported(setting(stem_ratio=0.1), loads.measured(made.facts), framework))
    for tag in ("DEFAULT", "a1_in1k"):
        loads = spec(dataset={"name": "cifar10"}, model={"name": "timm/resnet18", "weights": tag})
        texts.append(program(setting(), loads.measured(replace(made.facts, shape=(3, 32, 32))), framework))
        assert "mean = torch.tensor([0.4, 0.4, 0.4])" in texts[-1]
    texts.append(program(setting(), published("{nets}:drops", nets), framework))
    for i, text in enumerate(texts):
        assert "lrsearch" not in text.partition('"""\n\n')[2], "it needs none"
        compile(text, "program.py", "exec")
        (tmp_path / f"{i}.py").write_text(text, "utf-8")
    pytest.importorskip("ruff")
    for command in (["check", "--select", "E,W,F,I,B,UP,SIM,C4", "--line-length", "110"], ["format", "--diff"]):
        argv = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_says_what_it_needs_and_that_dropout_is_drawn_otherwise(nets: str) -> None:
    dropping = exported(setting(), pictured(model={"name": f"{nets}:drops"}, channels=1))
    assert "drawn otherwise than in the search" in " ".join(dropping.split())
    plain = exported(setting(), pictured(model={"name": "torchvision/resnet18"}))
    assert "drawn otherwise" not in " ".join(plain.split())
    assert "It needs pillow and torchvision, and no lrsearch" in plain


def test_one_image_too_many_is_left_out_of_batch_norm() -> None:
    about = pictured(counts=(20, 20, 9), model={"name": "torchvision/resnet18"})
    assert about.steps_per_epoch(8) == 6
    assert "drop_last=True" in exported(setting(), about)
    assert "drop_last" not in exported(setting(), pictured(model={"name": "torchvision/resnet18"}))

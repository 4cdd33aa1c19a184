"""`lrsearch predict`: layer by layer, with numbers that a plain forward pass of the same weights gives too."""

import json
import math
import os
import shutil
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision  # type: ignore[import-untyped]
from command_line import ESCAPE, InProcess, Result, at_a_terminal, end_of, one_line, run_process
from PIL import Image
from rich.console import Console
from torch import nn
from torch.nn import functional

from lrsearch.predict import layers, picture
from lrsearch.predict import view as report
from lrsearch.predict.traced import ModelTraced, Picture, Prediction
from lrsearch.training.data import DataConfig, load

pytest_plugins = ["command_line"]

DATA = Path(os.environ.get("LRSEARCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
TEST_IMAGES, TEST_LABELS = (DATA / "MNIST" / "raw" / f"t10k-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
needs_mnist = pytest.mark.skipif(
    not TEST_IMAGES.is_file(), reason=f"no MNIST under {DATA.name}; see LRSEARCH_TEST_DATA"
)

WIDE = "space.optimizer.sgd.peak_lr={low = 0.001, high = 1e6, log = true}"


def ran(folder: Path, *argv: str) -> None:
    """Run a study to its end in a folder."""
    done = run_process(["run", *argv, "--quiet"], folder)
    assert done.code == 0, done.err


@pytest.fixture(scope="module")
def seed_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the seed's pipeline on MNIST, which nobody writes to."""
    folder = tmp_path_factory.mktemp("seed")
    ran(folder, "seed-pipeline", "--trials", "4", "--set", "dataset.name=mnist", "--data-dir", str(DATA))
    return folder


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study 'seed-pipeline' on digits: trial 0 diverged, the others were trained through."""
    folder = tmp_path_factory.mktemp("studied")
    settings = ("--set", WIDE, "--baseline", "sgd lr=1e6 constant", "--set", "pruner.name=none")
    ran(folder, "seed-pipeline", "--trials", "8", *settings)
    return folder


@pytest.fixture
def study(studied: Path, tmp_path: Path, lrsearch: InProcess) -> InProcess:
    """Runs commands beside a copy of that study and its weights."""
    shutil.copy(studied / "lrsearch.db", tmp_path / "lrsearch.db")
    shutil.copytree(studied / "lrsearch.artifacts", tmp_path / "lrsearch.artifacts")
    return lrsearch


def weights_file(folder: Path) -> Path:
    (found,) = (folder / "lrsearch.artifacts").glob("*.safetensors")
    return found


def plain_model(folder: Path) -> nn.Sequential:
    """Return the seed's network, built by hand, with the kept weights."""
    kept = safetensors.torch.load_file(weights_file(folder))
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    model.load_state_dict({f"{i}.{what}": kept[f"{name}.{what}"] for i, name in ((1, "dense1"), (3, "output"))
                           for what in ("weight", "bias")})  # fmt: skip
    return model


def table(text: str) -> list[list[str]]:
    """Return the cells of the rows of the table of layers."""
    rows = [line for line in text.splitlines() if line.startswith("|") and line.count("|") > 5]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows][2:]


def probabilities(result: Result) -> list[float]:
    return [row["probability"] for row in result.document["probabilities"]]


def completes(study: InProcess) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = study("trials", "--json").document["trials"]
    return [trial for trial in trials if trial["state"] == "complete"]


def not_best(study: InProcess) -> str:
    """Return the number of a trial that was trained through and whose weights were not kept."""
    best = study("predict", "--json").document["trial"]
    return str(next(t["number"] for t in completes(study) if t["number"] != best))


# --- the seed's table -------------------------------------------------------------------------------------------------


@needs_mnist
@pytest.mark.parametrize("k", [0, 8, 9999])
def test_the_winner_of_the_seed_pipeline_shows_the_four_layers_with_real_numbers(
    k: int, seed_pipeline: Path, lrsearch: InProcess
) -> None:
    where = ("--storage", str(seed_pipeline / "lrsearch.db"), "--data-dir", str(DATA), "--image", str(k))
    result = lrsearch("predict", *where)
    assert result.code == 0, result.err
    rows = [row for row in table(result.out) if row[0]]
    assert [row[:2] + row[3:6] for row in rows] == [
        ["1", "Input image flattening", "1x28x28", "784", "0"],
        ["2", "First dense layer with ReLU", "784", "128", "100,480"],
        ["3", "Output layer with softmax", "128", "10", "1,290"],
        ["4", "Prediction", "10", "1 class", "0"],
    ]
    pixels = np.frombuffer(TEST_IMAGES.read_bytes(), np.uint8, 784, 16 + 784 * k).reshape(1, 1, 28, 28)
    label = TEST_LABELS.read_bytes()[8 + k]
    model = plain_model(seed_pipeline)
    with torch.no_grad():
        image = torch.from_numpy(pixels.copy()) / 255
        hidden, logits = model[:3](image), model(image)
        expected = logits.softmax(1)[0].tolist()
    seen = lrsearch("predict", *where, "--json")
    assert probabilities(seen) == pytest.approx(expected, abs=1e-6)
    assert sum(probabilities(seen)) == pytest.approx(1)
    document = seen.document
    assert (document["predicted"], document["true"]) == (str(np.argmax(expected)), str(label))
    assert document["right"] == (np.argmax(expected) == label)
    assert ("Right." in result.out, "Wrong." in result.out) == (document["right"], not document["right"])
    relu = document["layers"][2]
    assert (relu["name"], relu["source"]) == ("relu1", 1)
    silent = (hidden == 0).double().mean().item()
    assert relu["values"]["zero_share"] == pytest.approx(silent)
    assert [relu["values"][w] for w in ("low", "high", "mean")] == pytest.approx(
        [0, hidden.max().item(), hidden.mean().item()], rel=1e-5
    )
    assert f"{100 * silent:.0f} % of them are zero" in result.out
    bars = {line.split()[0]: line for line in result.out.split("Probabilities")[1].splitlines() if line.endswith("%")
            or " %  " in line}  # fmt: skip
    assert len(bars) == 10
    assert all(f"{100 * p:.1f} %" in bars[str(i)] for i, p in enumerate(expected))
    likeliest = str(np.argmax(expected))
    assert bars[likeliest].count("#") == round(40 * max(expected))
    assert "predicted" in bars[likeliest]
    assert "true" in bars[str(label)]


def test_off_a_terminal_all_is_ascii_and_the_image_can_be_made_out(study: InProcess) -> None:
    out = study("predict", "--image", "3").out
    assert out.isascii()
    drawn = [line[1:-1] for line in out.splitlines() if len(line) == 30 and line[0] == line[-1] == "|"]
    image = load(DataConfig(limit=1000)).test.images[3, 0].float()
    dark = nn.functional.avg_pool2d(image[None], (2, 1))[0]
    assert len(drawn) == 14
    for line, values in zip(drawn, dark, strict=True):
        assert line == "".join(" .:-=+*#%@"[int(v * 10 / 256)] for v in values.tolist())


def test_on_a_terminal_the_image_is_drawn_in_half_blocks_unless_it_has_no_colours(
    study: InProcess, tmp_path: Path
) -> None:
    seen = end_of(at_a_terminal(["predict"], tmp_path))
    assert seen.code == 0
    assert seen.out.count("▀") == 28 * 14
    assert ESCAPE in seen.out
    plain = end_of(at_a_terminal(["predict"], tmp_path, NO_COLOR="1"))
    assert "▀" not in plain.out
    assert "|       ..:=+*##%*=:         |" in plain.out


@pytest.mark.parametrize("width", [60, 80, 109, 110, 200])
def test_every_number_of_the_table_is_there_at_any_width(
    width: int, study: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = study("predict").out
    assert max(len(line) for line in out.splitlines() if line.startswith("|")) <= width
    for what in ("1x28x28", "784", "128", "100,480", "1,290"):
        assert f" {what} " in out
    assert "%" in out


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_that_were_not_kept_are_trained_again_only_when_asked_for_and_are_the_same(study: InProcess) -> None:
    number = not_best(study)
    refused = study("predict", "--trial", number)
    assert refused.code == 2
    assert "--retrain" in one_line(refused)
    again = study("predict", "--trial", number, "--retrain", "--json")
    assert again.code == 0
    assert again.err == f"lrsearch: training trial {number} again, for its weights\n"
    digest = next(t["weights_sha256"] for t in completes(study) if str(t["number"]) == number)
    assert again.document["weights"] == f"trained again, sha256 {digest[:12]}, equal to the search's"


def test_weights_that_were_kept_are_not_trained_again(study: InProcess) -> None:
    seen = study("predict", "--retrain", "--json")
    assert seen.err == ""
    assert seen.document["weights"].startswith("as the search kept them")


@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_damaged_weights_are_one_sentence_and_can_be_trained_again(how: str, study: InProcess, tmp_path: Path) -> None:
    whole = study("predict", "--json")
    file = weights_file(tmp_path)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    match how:
        case "cut":
            file.write_bytes(file.read_bytes()[:1000])
        case "flipped":
            file.write_bytes(content)
        case _:
            file.unlink()
    refused = study("predict")
    assert refused.code == 4
    assert file.name in one_line(refused)
    again = study("predict", "--retrain", "--json")
    assert probabilities(again) == probabilities(whole)


def test_a_trial_that_was_not_trained_through_is_refused_with_what_became_of_it(study: InProcess) -> None:
    for more in ([], ["--retrain"]):
        refused = study("predict", "--trial", "0", *more)
        assert refused.code == 2
        assert "diverged at step" in one_line(refused)


def test_show_names_predict_where_there_is_something_to_look_at(study: InProcess) -> None:
    best, other = str(study("predict", "--json").document["trial"]), not_best(study)
    assert f"`lrsearch predict seed-pipeline --trial {best}`" in study("show", best).out
    assert "lrsearch predict" not in study("show", other).out
    assert "lrsearch predict" not in study("show", "0").out


# --- which image ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test", "validation", "train"])
def test_an_image_of_each_set_is_looked_at(name: str, study: InProcess, tmp_path: Path) -> None:
    splits = load(DataConfig(limit=1000, scaling="unit"))
    images, labels = getattr(splits, name).images, getattr(splits, name).labels
    last = len(images) - 1
    seen = study("predict", "--set", name, "--image", str(last), "--json")
    assert seen.document["true"] == str(labels[last].item())
    with torch.no_grad():
        expected = plain_model(tmp_path)(images[last:] / 255).softmax(1)[0].tolist()
    assert probabilities(seen) == pytest.approx(expected, abs=1e-6)
    beyond = study("predict", "--set", name, "--image", str(last + 1))
    assert beyond.code == 2
    assert f"from 0 to {last} in the {name} set" in one_line(beyond)


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--image", "-1"], 2, "from 0 to 796"),
        (["--image", "9" * 30], 2, "from 0 to 796"),
        (["--image", "seven.png"], 2, "there is no file seven.png"),
        (["--image", "."], 2, "is no file"),
        (["--image", "/dev/zero"], 2, "is no file"),
        (["--image", "x" * 5000], 2, "cannot"),
        (["--image", "a\0b"], 2, "--image"),
        (["--image", "lrsearch.db"], 1, "must be a whole picture file"),
        (["--image", "3", "--invert"], 2, "--invert"),
        (["--image", "three.png", "--set", "test"], 2, "--set test"),
        (["--set", "all"], 2, "--set"),
        (["--trial", "77"], 2, "trials 0 to 7"),
        (["--trial", "-1"], 2, "--trial"),
        (["nothing"], 2, "nothing"),
        (["--artifacts", "elsewhere"], 4, "elsewhere"),
        (["--device", "abacus"], 5, "abacus"),
    ],
)
def test_wrong_input_is_answered_in_one_sentence(argv: list[str], code: int, said: str, study: InProcess) -> None:
    result = study("predict", *argv)
    assert (result.code, result.out) == (code, "")
    assert said in one_line(result)


# --- pictures ---------------------------------------------------------------------------------------------------------

GREY = (1, 28, 28)


@pytest.fixture
def digit() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A test image of the digits."""
    return load(DataConfig()).test.images[3, 0].numpy()


def test_a_picture_of_a_test_image_is_predicted_as_that_image_is(
    digit: np.ndarray[Any, np.dtype[np.uint8]], study: InProcess, tmp_path: Path
) -> None:
    expected = study("predict", "--image", "3", "--json")
    Image.fromarray(digit).save(tmp_path / "three.png")
    Image.fromarray(255 - digit).save(tmp_path / "ink.png")
    seen = study("predict", "--image", "three.png", "--json")
    assert probabilities(seen) == probabilities(expected)
    assert (seen.document["true"], seen.document["right"], seen.document["notes"]) == (None, None, [])
    assert seen.document["image"]["source"] == "three.png"
    ink = study("predict", "--image", "ink.png", "--invert", "--json")
    assert probabilities(ink) == probabilities(expected)
    assert ink.document["image"]["source"] == "ink.png, inverted"
    # Nothing is inverted unasked, but it is said that it might be meant.
    unasked = study("predict", "--image", "ink.png")
    assert "with --invert" in unasked.out
    assert "The true class is not known." in unasked.out
    assert "without --invert" in study("predict", "--image", "three.png", "--invert").out


def saved(image: Image.Image, path: Path, **how: Any) -> Path:
    image.save(path, **how)
    return path


def test_what_is_done_to_a_picture_is_said(digit: np.ndarray[Any, np.dtype[np.uint8]], tmp_path: Path) -> None:
    whole = Image.fromarray(digit)

    def done(path: Path, shape: tuple[int, int, int] = GREY, **how: bool) -> tuple[str, ...]:
        return picture.read(path, shape, **how).done

    large = saved(whole.resize((56, 56)), tmp_path / "large.png")
    assert done(large) == ("resized from 56x56 to 28x28 pixels",)
    wide = saved(whole.resize((90, 56)).convert("RGB"), tmp_path / "wide.bmp")
    assert done(wide, invert=True) == (
        "resized from 90x56 to 28x28 pixels, its sides not kept in proportion",
        "inverted",
    )
    red = saved(Image.new("RGB", (28, 28), "red"), tmp_path / "red.png")
    assert done(red) == ("colours made grey",)
    assert picture.read(red, GREY).image.unique().tolist() == [76]
    assert done(large, (3, 56, 56)) == ("grey as three equal channels",)
    assert picture.read(red, (3, 28, 28)).image[:, 0, 0].tolist() == [255, 0, 0]
    clear = saved(Image.new("RGBA", (28, 28), (0, 0, 0, 0)), tmp_path / "clear.png")
    assert done(clear) == ("transparent parts made white",)
    assert picture.read(clear, GREY).image.min() == 255
    deep = saved(Image.fromarray(digit.astype(np.uint16) * 257), tmp_path / "deep.png")
    assert done(deep) == ("16 bits made 8",)
    assert picture.read(deep, GREY).image[0].numpy().tolist() == digit.tolist()
    moving = saved(whole, tmp_path / "moving.gif", save_all=True, append_images=[Image.new("L", (28, 28), 9)])
    assert done(moving) == ("first of its 2 frames",)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(whole.transpose(Image.Transpose.ROTATE_90), tmp_path / "turned.png", exif=exif)
    assert done(turned) == ("turned as its EXIF data say",)
    assert picture.read(turned, GREY).image[0].numpy().tolist() == digit.tolist()


def png(width: int, height: int) -> bytes:
    """Return a picture that says it has that size, and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_giant_picture_is_refused_before_it_is_unpacked(side: int, study: InProcess, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    result = study("predict", "--image", "bomb.png")
    assert (result.code, result.out) == (1, "")
    assert "89,478,485 pixels" in one_line(result)


def test_any_cut_or_changed_picture_is_a_picture_or_one_sentence(
    digit: np.ndarray[Any, np.dtype[np.uint8]], tmp_path: Path
) -> None:
    from lrsearch.errors import DataError

    generator = np.random.default_rng(0)
    refused: list[str] = []
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
        content = saved(Image.fromarray(digit), tmp_path / f"whole.{kind}").read_bytes()
        for _ in range(40):
            changed = bytearray(content[: generator.integers(len(content))])
            for at in generator.integers(max(len(changed), 1), size=4) if changed else ():
                changed[at] = generator.integers(256)
            path = tmp_path / "changed"
            path.write_bytes(changed)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow's, of damaged metadata
                    assert picture.read(path, GREY).image.shape == GREY
            except DataError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert not [words for words in refused if "\n" in words]


def test_postscript_is_no_picture(tmp_path: Path) -> None:
    from lrsearch.errors import DataError

    path = tmp_path / "program.eps"
    Image.new("L", (28, 28)).save(path)
    with pytest.raises(DataError, match="whole picture file"):
        picture.read(path, GREY)


# --- any model --------------------------------------------------------------------------------------------------------


def state(model: nn.Module) -> tuple[Any, ...]:
    """Return what a trace must leave as it is."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return [m.training for m in model.modules()], hooks, [t.sum().item() for t in model.state_dict().values()]


def traced(model: nn.Module, image: torch.Tensor) -> ModelTraced:
    """Return the trace of a model after checking that it changed nothing and gave what the model gives."""
    before = state(model)
    seen = layers.trace(model, image)
    assert state(model) == before
    modes = {m: m.training for m in model.modules()}
    with torch.no_grad():
        output = model.eval()(image)
    for module, mode in modes.items():
        module.training = mode
    first = output[0] if isinstance(output, tuple) else output
    assert list(seen.output) == pytest.approx(first.flatten().tolist(), rel=1e-5, abs=1e-5)
    return seen


def resnet() -> nn.Module:
    model: nn.Module = torchvision.models.resnet18(num_classes=10)
    return model


def transformer() -> nn.Module:
    vit: nn.Module = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)
    nn.init.normal_(vit.heads.head.weight)  # type: ignore[union-attr,arg-type]
    return vit


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_residual_network_is_traced_in_the_order_of_execution(image: torch.Tensor) -> None:
    model = resnet()
    called: list[tuple[str, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, o, name=name: called.append((name, tuple(o.shape[1:]))))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    model.eval()(image)
    for hook in hooks:
        hook.remove()
    seen = traced(model.train(), image)
    assert [(layer.name, layer.shape_out) for layer in seen.layers] == called
    assert seen.n_parameters == sum(p.numel() for p in model.parameters())
    by_name = {(layer.name, layer.call): layer for layer in seen.layers}
    assert by_name["layer1.0.relu", 2].between == ("add",)
    assert by_name["layer1.0.relu", 2].source is None
    downsample, block = by_name["layer2.0.downsample.0", 1], by_name["layer1.1.relu", 2]
    assert downsample.source is not None
    assert seen.layers[downsample.source] is block
    assert by_name["fc", 1].between == ("flatten",)


def test_a_residual_network_is_told_in_words(image: torch.Tensor) -> None:
    seen = traced(resnet(), image)
    rows = report.rows(seen.layers, seen.after)
    assert [row.title for row in rows[:3]] == [
        "First convolution (7x7, stride 2)",
        "Batch normalisation with ReLU",
        "Max-pool (3x3, stride 2)",
    ]
    titles = {row.title: row for row in rows}
    assert "Convolution 11 (3x3, stride 2)" in titles
    assert titles["Average-pool (to 1x1)"].notes == ()
    assert titles["Output layer with softmax"].notes == ("reshaped in between: flatten",)
    (joined,) = {row.notes for row in rows if row.title == "ReLU"}
    assert joined == ("computed in between: add", "called again, with the same parameters")
    at = next(i for i, row in enumerate(rows) if row.layers[0].name == "layer2.0.downsample.0")
    source = next(i for i, row in enumerate(rows, start=1) if row.layers[0] is seen.layers[15])
    assert rows[at].notes == (f"takes the output of layer {source}",)


def test_attention_is_one_layer_and_what_has_no_module_is_named(image: torch.Tensor) -> None:
    seen = traced(transformer(), image)
    (first, second) = [layer for layer in seen.layers if layer.noun == "attention"]
    assert (first.detail, first.n_parameters, first.shape_in) == ("4 heads", 4 * 32 * 32 + 4 * 32, (17, 32))
    assert first.n_outputs == 1
    assert second.call == 1
    dropout = next(layer for layer in seen.layers if layer.name == "encoder.dropout")
    assert {"reshape", "permute", "cat", "add"} <= set(dropout.between)
    assert dropout.values is not None
    assert seen.layers[-1].between == ("getitem",)
    # The class token and the positions are parameters of no layer.
    assert seen.n_parameters == sum(layer.n_parameters for layer in seen.layers) + 32 + 17 * 32


class Odd(nn.Module):
    """What a model may do: call a module twice, return several tensors, take keywords, compute by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(16, 16)
        self.act = nn.ReLU(inplace=True)
        self.idle = nn.Linear(3, 3)
        self.rnn = nn.LSTM(16, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.act(self.shared(image.flatten(1)[:, :16]))
        x = functional.gelu(self.shared(input=x))
        x, _ = self.rnn(x.unsqueeze(1))
        y: torch.Tensor = self.out(self.norm(x)[:, 0])
        return functional.log_softmax(y, dim=1), y


def test_a_model_that_does_odd_things_is_traced(image: torch.Tensor) -> None:
    seen = traced(Odd(), image)
    found = [(layer.name, layer.call, layer.between, layer.source, layer.n_outputs) for layer in seen.layers]
    assert found == [
        ("shared", 1, ("flatten", "getitem"), None, 1),
        ("act", 1, (), 0, 1),
        ("shared", 2, (), 1, 1),
        ("rnn", 1, ("gelu", "unsqueeze"), None, 3),
        ("norm", 1, (), 3, 1),
        ("out", 1, ("getitem",), None, 1),
    ]
    assert seen.after == ("log_softmax",)
    assert seen.layers[1].values is not None
    assert seen.layers[1].values.low == 0
    # The values of a layer are those that it returned, not those that the next one left of them in place.
    assert seen.layers[0].values is not None
    assert seen.layers[0].values.low < 0
    rows = report.rows(seen.layers, seen.after)
    assert [row.title for row in rows] == [
        "First dense layer with ReLU",
        "Second dense layer",
        "LSTM",
        "Layer normalisation",
        "Third dense layer",
    ]


class Functional(nn.Module):
    """A model that is one layer: it calls no module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(10, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) @ self.weight.T


def test_a_model_without_modules_is_one_layer(image: torch.Tensor) -> None:
    (layer,) = traced(Functional(), image).layers
    assert (layer.name, layer.kind, layer.noun, layer.n_parameters) == ("", "Functional", "Functional", 30)
    assert (layer.shape_in, layer.shape_out, layer.source) == ((3, 32, 32), (10,), -1)


def test_a_model_that_fails_is_left_without_hooks(image: torch.Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 3)).train()
    before = state(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layers.trace(model, image)
    assert state(model) == before


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "convnext_tiny"])
def test_other_networks_of_torchvision_are_traced_and_shown(name: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=10)
    seen = traced(model, torch.rand(1, 3, 64, 64))
    assert len(report.rows(seen.layers, seen.after)) > 10
    assert "Dropout" not in {layer.noun for layer in seen.layers}


# --- what is shown ----------------------------------------------------------------------------------------------------


def predicted(n_classes: int, true_class: int | None, model: ModelTraced) -> Prediction:
    values = torch.linspace(-3, 3, n_classes).double().softmax(0)
    return Prediction(
        study="by-hand",
        trial=3,
        dataset="cifar10",
        model="[cnn]",
        source="[bold]cat.png",
        picture=Picture(3, 3, 2, bytes(range(18))),
        traced=model,
        classes=tuple(f"class{i}" for i in range(n_classes)),
        probabilities=tuple(values.tolist()),
        true_class=true_class,
        weights="by hand",
    )


def shown(prediction: Prediction, *, colours: bool) -> str:
    console = Console(width=100, force_terminal=colours, color_system="truecolor" if colours else None, highlight=False)
    with console.capture() as captured:
        console.print(report.render(prediction, 100, colours=colours))
    return captured.get()


def test_of_many_classes_the_likeliest_are_shown_and_the_true_one(image: torch.Tensor) -> None:
    text = shown(predicted(1000, 0, traced(Functional(), image)), colours=False)
    assert len([line for line in text.splitlines() if line.strip().startswith("class")]) == 20 + 1
    assert "class999 " in text
    assert "and 979 less likely classes" in text
    assert "[bold]cat.png" in text
    assert "Softmax and prediction" in text


def test_a_coloured_image_of_an_odd_height_is_drawn_pixel_by_pixel(image: torch.Tensor) -> None:
    made = predicted(10, 9, traced(Functional(), image))
    text = shown(made, colours=True)
    assert "38;2;0;6;12;48;2;2;8;14m▀" in text
    assert "38;2;4;10;16m▀" in text


def test_the_document_holds_everything_and_no_number_that_is_none(image: torch.Tensor) -> None:
    made = predicted(10, None, traced(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), Infinite()), image))
    document = json.loads(json.dumps(report.to_json(made), allow_nan=False))
    assert document["schema"] == "lrsearch/prediction/1"
    assert [layer["kind"] for layer in document["layers"]] == ["Flatten", "Linear", "Infinite"]
    assert document["layers"][2]["values"]["high"] is None
    assert document["output"] == [None] * 10


class Infinite(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs() * math.inf


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield

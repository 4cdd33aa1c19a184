"""What comes after a search of one's own pictures and network: the answer, reports, training for keeps, prediction."""

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from command_line import InProcess, one_line
from ones_own import NET, make_pictures
from PIL import Image
from rich.console import Console
from torch import nn
from trials_by_hand import spec, trial

from lrsearch import layer_rates, run
from lrsearch.analysis.levels import level_rates, majority, prefixes
from lrsearch.analysis.material import Material
from lrsearch.dashboard import app as dashboard
from lrsearch.dashboard import shown
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding
from lrsearch.predict import layers, view
from lrsearch.predict.traced import Picture
from lrsearch.report import answer, study_words, tables, trace
from lrsearch.report.contents import contents
from lrsearch.spec import file as study_file
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.store.places import parse_place
from lrsearch.training import data
from lrsearch.trial import Facts, Network, State, Trial

pytest_plugins = ["command_line"]
pytestmark = pytest.mark.filterwarnings("ignore:Some regimes for parameter")

N_TRIALS = 3
PEAKS = ("sgd", "adamw")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a study of made pictures, of unequal classes, and a network with dropout, rates by level."""
    folder = tmp_path_factory.mktemp("own")
    pictures = make_pictures(folder / "my [pets]")
    for path in sorted((pictures / "red").iterdir())[:16]:
        path.unlink()
    (folder / "net.py").write_text(NET)
    settings: list[tuple[str, object]] = [
        *[
            ("dataset.name", f"folder:{pictures}"),
            ("model.name", f"{folder}/net.py:build"),
            ("budget.trials", N_TRIALS),
        ],
        *[("epochs", 2), ("space.batch_size", [8, 16]), ("pruner", "none"), ("name", "pets"), ("model.args.width", 8)],
        ("space.stem_ratio", {"low": 0.01, "high": 1.0, "log": True}),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRSEARCH_CACHE", str(folder / "cache"))
        asked = study_file.resolved(*study_file.read("digits"), settings)
        place = parse_place(str(folder / "lrsearch.db"))
        threads = torch.get_num_threads()
        with run.filed(asked, place, run.Here("cpu", threads=1, progress=False)) as session:
            for _ in session.attend():
                pass
        torch.set_num_threads(threads)
        yield folder


@pytest.fixture
def own(searched: Path, lrsearch: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Runs commands beside a copy of that study's database."""
    for name in ("lrsearch.db", "lrsearch.artifacts"):
        (shutil.copytree if (searched / name).is_dir() else shutil.copy)(searched / name, tmp_path / name)
    monkeypatch.setenv("LRSEARCH_CACHE", str(searched / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    return lrsearch


# Words


def known(counts: tuple[int, ...] = (30, 12, 6), network: Network | None = None, **tables: Any) -> StudySpec:
    """Return a study of one's own pictures and network, measured by hand."""
    facts = Facts(
        n_train=sum(counts),
        n_validation=12,
        n_test=9,
        shape=(3, 32, 24),
        classes=("ant", "bee\x1b[31m", "cat"),
        mean=(0.4,) * 3,
        std=(0.2,) * 3,
        train_counts=counts,
        validation_counts=(8, 3, 1),
        test_counts=(6, 2, 1),
        fingerprint="f" * 64,
        network=network or NETWORK,
    )
    own = {
        "dataset": {"name": "folder:/data/my pets"},
        "model": {"name": "/home/me/net.py:build", "args": {"width": 6}},
    }
    return spec(**{**own, **tables}).measured(facts)


LEVELS = (
    ("stem.weight", "stem.bias"),
    ("blocks.0.a.weight", "blocks.0.b.weight", "blocks.0.b.bias"),
    ("blocks.1.a.weight",),
    ("cls", "head.weight"),
)
NETWORK = Network(1234, LEVELS, ("frozen.weight",), code="c" * 64)


def with_levels(number: int = 0, accuracy: float = 0.9, lr: float = 0.2, **fields: float) -> Trial:
    made = trial(number, accuracy=accuracy, lr=lr)
    return replace(made, config=replace(made.config, **(fields or {"stem_ratio": 0.05})))


def printed(what: Any, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(what)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_answer_tells_how_layers_learn_and_what_guessing_scores() -> None:
    about = known()
    said = answer.build([with_levels()], about, "x.db")
    assert said.facts["layers"] == "stem ratio 0.05 (layer decay 0.368 over 4 levels)"
    assert said.facts["guessing"] == (
        "always 'ant': accuracy 0.667 in validation, 0.667 in the test; balanced accuracy 0.333 (classes of 6 to 30 "
        'images: objective.metric = "balanced_accuracy" counts each alike)'
    )
    assert [row[0] for row in said.levels] == ["0 (stem)", "1", "2", "3 (head)"]
    assert [row[-1] for row in said.levels] == ["0.01", "0.0271", "0.0737", "0.2"]
    out = printed(said.render())
    assert "Learning rates by level; weight decay acts on matrices and kernels" in out
    assert "blocks.0.a" in out
    document = said.to_json()
    assert [level["share"] for level in document["winner"]["levels"]] == list(
        layer_rates.shares(4, with_levels().config)
    )


def test_an_answer_about_published_data_says_none_of_it() -> None:
    said = answer.build([trial(0)], spec(), "x.db")
    assert said.facts.keys().isdisjoint({"layers", "guessing"})
    assert said.levels == []
    assert "levels" not in said.to_json()["winner"]


@pytest.mark.parametrize(
    ("model", "more", "plain"),
    [
        ("torchvision/resnet18", {}, True),
        ("torchvision/googlenet", {}, False),
        ("torchvision/resnet18", {"training": {"class_weights": 1.0}}, False),
    ],
)
def test_the_snippet_of_an_answer_asks_for_a_loss_where_cross_entropy_will_not_do(
    model: str, more: dict[str, Any], plain: bool
) -> None:
    text = answer.build([with_levels()], known(model={"name": model}, **more), "x.db").snippet
    assert ("cross_entropy(model(images), labels)" in text) == plain
    assert ("loss_of(model(images), labels)" in text) != plain


def test_a_model_that_does_not_repeat_is_warned_of_everywhere() -> None:
    about = known(network=replace(NETWORK, repeats=False))
    made = with_levels()
    warned = "two trainings of this model from one state differ"
    assert any(warned in sentence.lower() for sentence in answer.build([made], about, "x.db").how_sure())
    assert warned in flat(printed(trace.render(made, about)))
    material = Material(about, (made,), BudgetSpec(trials=1), "x.db")
    assert warned in contents(material).run["repeatable"]
    assert warned not in flat(printed(trace.render(made, known())))


def test_data_and_model_are_told_in_words_and_nothing_moves_the_cursor() -> None:
    about = known(model={"name": "/home/me/net.py:build", "freeze": ["frozen"], "init_from": "/data/w.pth"})
    about = about.measured(replace(about.facts, network=replace(NETWORK, weights="ab" * 32)))
    assert study_words.data(about) == (
        "the pictures of /data/my pets at 32x24 pixels in colour, 3 classes: 48 images to train on, 12 to validate, "
        "9 untouched ones to test"
    )
    assert study_words.model(about) == (
        "build of /home/me/net.py, 1,234 trained parameters, weights of /data/w.pth (SHA-256 abababababab), "
        "1 tensor frozen (frozen)"
    )
    assert study_words.class_counts(about.facts) == "ant 44, bee\\x1b[31m 17, cat 8"
    assert study_words.model(spec()) == "mlp, hidden layers 128"


def test_many_levels_are_shown_from_both_ends() -> None:
    network = replace(NETWORK, levels=tuple((f"layers.{i}.weight",) for i in range(60)))
    rows = study_words.level_rows(known(network=network), with_levels().config)
    assert len(rows) == study_words.SHOWN_LEVELS + 1
    assert [rows[0][0], rows[12][0], rows[-1][0]] == ["0 (stem)", "36 more", "59 (head)"]
    assert len(level_rates(known(network=network), with_levels().config)) == 60


@pytest.mark.parametrize(
    ("levels", "found"),
    [
        (LEVELS, (("stem",), ("blocks.0",), ("blocks.1",), ("cls", "head"))),
        ([["a.weight"], ["a.bias", "ab.weight"]], (("a.weight",), ("a.bias", "ab"))),
        ([["a.0.w", "a.1.w", "b.w"]], (("a", "b"),)),
        ([[], ["a.w"]], ((), ("a",))),
    ],
)
def test_modules_stand_for_the_parameters_of_a_level_and_no_others(levels: Any, found: Any) -> None:
    assert prefixes(levels) == found


def test_majority_is_that_of_the_training_images() -> None:
    found = majority(known(counts=(5, 30, 6)).facts)
    assert found is not None
    assert (found.label, found.validation, found.test, found.balanced) == ("bee\x1b[31m", 3 / 12, 2 / 9, 1 / 3)
    assert majority(replace(known().facts, train_counts=())) is None
    assert majority(replace(known().facts, test_counts=(0, 0, 0))).test is None  # type: ignore[union-attr]


def test_trials_show_the_rates_by_level_where_they_have_them() -> None:
    about = known()
    rows = [with_levels(0), with_levels(1, 0.8, backbone_ratio=0.5)]
    heading = printed(tables.trials_table(rows, about)).splitlines()[0]
    assert heading.split()[-2:] == ["stem", "backbone"]
    assert "stem" not in printed(tables.trials_table([trial(0)], spec())).splitlines()[0]
    table = list(csv.DictReader(io.StringIO(tables.trials_csv(rows))))
    assert [(row["stem_ratio"], row["layer_decay"], row["backbone_ratio"]) for row in table] == [
        ("0.05", "", ""),
        ("", "", "0.5"),
    ]
    (first, _) = tables.trials_json(rows, about)["trials"]
    assert first["config"]["stem_ratio"] == 0.05
    assert "backbone_ratio" not in first["config"]


def test_the_report_compares_trials_by_their_rates_by_level() -> None:
    about = known(space={"stem_ratio": {"low": 0.001, "high": 1.0, "log": True}})
    trials = tuple(with_levels(i, 0.5 + i / 100, stem_ratio=10 ** (-i / 10), lr=0.1 + i / 100) for i in range(30))
    said = contents(Material(about, trials, BudgetSpec(trials=30), "x.db"))
    parallel = next(figure for figure in said.others if figure.key == "parallel")
    assert "stem ratio" in [row[0] for row in parallel.rows]
    assert "stem_ratio=0.1 " not in parallel.finding
    assert "stem_ratio" in trials[0].params or "stem ratio" in parallel.finding


# A real study


def test_every_command_that_reads_a_study_reads_ones_own(own: InProcess, searched: Path) -> None:
    for argv in (("best",), ("trials",), ("show", "0"), ("status",), ("list",), ("doctor",), ("report", "--force")):
        for more in ((), ("--json",)) if argv[0] != "report" else ((), ("--format", "markdown"), ("--format", "json")):
            done = own(*argv, *more)
            assert done.code == 0, (argv, done.err)
    listed = own("list").out
    assert "my [pets]" in listed
    assert "net.py:build" in listed
    assert str(searched) not in listed
    shown_here = own("show", "0").out
    assert "Learning rates by level" in shown_here
    assert f"the pictures of {searched}/my [pets], build of {searched}/net.py" in flat(shown_here)


def test_show_has_the_rate_of_every_level(own: InProcess) -> None:
    document = own("show", "0", "--json").document
    config = document["trial"]["config"]
    shares = [level["share"] for level in document["levels"]]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(config["stem_ratio"])
    assert shares[-1] == 1
    rates = [level["peak_lr"] for level in document["levels"]]
    assert rates == [share * config["optimizer"]["peak_lr"] for share in shares]
    out = own("show", "0").out
    table = [line for line in out.splitlines() if re.match(r"\| \d", line)]
    assert [float(line.split("|")[-2]) for line in table[: len(rates)]] == pytest.approx(rates, rel=5e-3)


def test_the_pages_have_data_model_and_levels(own: InProcess, tmp_path: Path) -> None:
    assert own("report").code == 0
    page = (tmp_path / "pets.html").read_text("utf-8")
    for words in ("net.py:build on my [pets]", 'id="levels"', "green 24", "always &#39;", "build of"):
        assert words in page, words
    text = own("report", "--format", "markdown").out
    assert "### Learning rates by level" in text
    assert "| weight decay | on matrices and kernels, not on biases and norms |" in text
    document = own("report", "--format", "json").document
    assert document["run"]["classes"] == "blue sky 24, green 24, red 8"


def test_the_dashboard_shows_such_a_study(own: InProcess, tmp_path: Path) -> None:
    from lrsearch.store import study as studies
    from lrsearch.store.storage import open_existing

    database = open_existing(parse_place(str(tmp_path / "lrsearch.db")))
    try:
        text = studies.get(database, "pets").spec.to_json()
    finally:
        database.close()
    said = dict(shown._spec_attrs(text))
    assert said["spec dataset.name"].endswith("/my [pets]")
    assert said["spec model.args.width"] == "8"
    assert said["space stem_ratio"] == "0.01 to 1 (log)"
    assert "spec name" not in said
    assert dashboard.__name__


# Training for keeps


def test_a_model_is_described_so_that_it_can_be_built_again(
    own: InProcess, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = own("train", "-o", "kept", "--device", "cpu", "--threads", "1")
    assert done.code == 0, done.err
    about = json.loads((tmp_path / "kept" / "model.json").read_text())
    network, pictures = about["network"], about["pictures"]
    assert about["model"] == f"{searched}/net.py:build"
    assert (network["args"], network["weight_decay_on"], network["weights"]) == ({"width": 8}, "matrices", "")
    assert len(network["code_sha256"]) == 64
    assert network["levels"][-1]["share"] == 1
    assert (pictures["height"], pictures["width"], pictures["channels"]) == (12, 12, 3)
    assert (pictures["resize"], pictures["darkest"], pictures["brightest"]) == ("squash", 0, 65535)
    assert pictures["background"] == "white"
    # Built, loaded and judged by what the file says alone.
    monkeypatch.syspath_prepend(str(searched))
    from net import build  # type: ignore[import-not-found]

    model: nn.Module = build(len(about["classes"]), about["input_shape"][0], **network["args"])
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "kept" / "weights.safetensors"))
    model.eval()
    mean, std = (torch.tensor(about["normalization"][key]).view(-1, 1, 1) for key in ("mean", "std"))
    engine = run.prepare(study_of(tmp_path), run.Here("cpu", threads=1, progress=False))
    test = engine.splits.test
    right = model((test.all_images / 255 - mean) / std).argmax(1) == test.labels
    assert right.double().mean().item() == about["test"]["accuracy"]
    with safetensors.safe_open(tmp_path / "kept" / "weights.safetensors", framework="pt") as file:
        head = json.loads(file.metadata()["lrsearch"])
    assert head["normalization"] == {key: about["normalization"][key] for key in ("mean", "std")}
    assert head["input_shape"] == about["input_shape"]


def study_of(folder: Path) -> StudySpec:
    from lrsearch.store import study as studies
    from lrsearch.store.storage import open_existing

    database = open_existing(parse_place(str(folder / "lrsearch.db")))
    try:
        return studies.get(database, "pets").spec
    finally:
        database.close()


def test_streamed_pictures_train_to_the_weights_of_resident_ones(
    own: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for stream in (False, True):
        monkeypatch.setattr(data, "fits", lambda *_, stream=stream: not stream)
        done = own("train", "-o", f"kept-{stream}", "--device", "cpu", "--threads", "1", "--json")
        assert done.code == 0, done.err
        model = done.document["model"]
        assert (model["n_images"], model["n_validation"]) == (44, 0)
        digests.append(model["weights_sha256"])
    assert digests[0] == digests[1]


def test_the_searched_training_is_repeated_bit_for_bit_dropout_included(own: InProcess) -> None:
    done = own("train", "--on", "train", "-o", "kept", "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert done.document["model"]["search"]["equal"] is True


def test_without_test_images_nothing_is_said_of_them(
    searched: Path, lrsearch: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRSEARCH_CACHE", str(searched / "cache"))
    asked = ("run", "--dataset", f"folder:{searched}/my [pets]", "--set", "dataset.test_fraction=0", "--name", "all")
    done = lrsearch(*asked, "--trials", "1", "--epochs", "1", "--set", "space.batch_size=8", "--model", "mlp")
    assert done.code == 0, done.err
    trained = lrsearch("train", "-o", "kept", "--device", "cpu")
    assert trained.code == 0, trained.err
    assert "untouched" not in trained.out
    assert "test" not in json.loads((tmp_path / "kept" / "model.json").read_text())
    exported = lrsearch("export", "-o", "train.py")
    assert exported.code == 0, exported.err
    assert "evaluate(model, test_loader" not in (tmp_path / "train.py").read_text()


# Unknown pictures


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    draw = np.random.default_rng(5)
    for i in range(70):  # more than a batch
        place = folder / ("" if i % 2 else "deeper")
        place.mkdir(parents=True, exist_ok=True)
        size = (12 + i % 3 * 7, 12 + i % 5)
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place / f"p {i}.png")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_unknown_pictures_are_told_by_a_line_each(own: InProcess, unknown: Path, tmp_path: Path) -> None:
    done = own("predict", "--folder", "new", "-o", "out.csv", "--device", "cpu")
    assert done.code == 0, done.err
    assert done.out == ""
    assert "wrote out.csv: 70 pictures" in done.err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text("utf-8"))))
    assert [row["file"] for row in rows] == sorted(
        path.relative_to(unknown).as_posix() for path in unknown.rglob("p *.png")
    )
    for row in rows[:2]:
        seen = own("predict", "-i", str(unknown / row["file"]), "--json", "--device", "cpu").document
        order = sorted(seen["probabilities"], key=lambda one: -one["probability"])
        said = [(row[f"{nth}class"], float(row[f"{nth}probability"])) for nth in ("", "second_", "third_")]
        assert [name for name, _ in said] == [one["class"] for one in order]
        assert [p for _, p in said] == pytest.approx([one["probability"] for one in order], rel=1e-4, abs=1e-6)
    for stdout in ((), ("-o", "-")):
        again = own("predict", "--folder", "new", "--device", "cpu", *stdout)
        assert again.out == (tmp_path / "out.csv").read_text()
    assert not (tmp_path / "-").exists()


def test_pictures_that_cannot_be_read_are_listed_and_the_others_are_told(
    own: InProcess, unknown: Path, tmp_path: Path
) -> None:
    whole = (unknown / "p 1.png").read_bytes()
    (unknown / "cut\x1b[2J.png").write_bytes(whole[:-40])
    (unknown / "empty.jpg").write_bytes(b"")
    (unknown / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    done = own("predict", "--folder", "new", "--device", "cpu")
    assert done.code == 1
    assert len(done.out.splitlines()) == 71
    said = done.err.splitlines()
    at = next(i for i, line in enumerate(said) if line.startswith("lrsearch: 3 pictures could not be read"))
    names = [line.split()[0] for line in said[at + 1 :]]
    assert names == ["cut\\x1b[2J.png", "empty.jpg", "photo.heic"]


def test_a_folder_of_published_data_is_told_too(lrsearch: InProcess, finished: Any, unknown: Path) -> None:
    storage = ("--storage", str(finished.database))
    done = lrsearch("predict", "--folder", "new", "--device", "cpu", *storage)
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    seen = lrsearch("predict", "-i", f"new/{rows[0]['file']}", "--json", "--device", "cpu", *storage).document
    assert rows[0]["class"] == seen["predicted"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--folder", "new", "-i", "0"), "does not go with --image"),
        (("--folder", "new", "--json"), "does not go with --json"),
        (("--folder", "new", "--invert"), "does not go with --invert"),
        (("--folder", "nowhere"), "--folder must be a folder of pictures, and nowhere is not there"),
        (("--folder", "lrsearch.db"), "is a file: one picture is looked at with --image"),
        (("--folder", "lrsearch.artifacts"), "--folder must hold pictures"),
        (("-o", "x.csv"), "--output goes with a folder of pictures"),
        (("--folder", "new", "-o", "lrsearch.db"), "lrsearch.db exists already"),
    ],
)
def test_what_does_not_go_together_is_said(argv: tuple[str, ...], said: str, own: InProcess, unknown: Path) -> None:
    done = own("predict", *argv)
    assert done.code == 2
    assert said in one_line(done)


def test_a_picture_is_seen_as_the_search_would_have_seen_it(own: InProcess, searched: Path, tmp_path: Path) -> None:
    path = next((searched / "my [pets]" / "green").iterdir())
    seen = own("predict", "-i", str(path), "--device", "cpu")
    assert seen.code == 0, seen.err
    assert f"build of {searched}/net.py for the pictures of" in flat(seen.out)
    assert "green" in seen.out
    assert decode.decode(path.read_bytes(), Decoding(12, 12, 3), path).done == ()


# Any module, layer by layer


class Odd(nn.Module):
    """Does what modules may do: fails and goes on, returns no tensor, calls a scripted part, returns a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fails, self.scripted = nn.Linear(4, 4), Failing(), torch.jit.script(nn.Linear(4, 4))
        self.nothing, self.sparse, self.head = Silent(), Sparse(), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.first(x.flatten(1))
        try:
            x = self.fails(x)
        except ValueError:
            x = self.scripted(x)
        self.nothing(x)
        return {"aux": x, "logits": self.head(x + self.sparse(x).to_dense())}


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner(x)
        raise ValueError("not now")


class Silent(nn.Module):
    def forward(self, x: torch.Tensor) -> None:
        return None


class Sparse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to_sparse()


class Halved(nn.MaxPool2d):
    """A pooling whose own constructor says nothing to torch's."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., ::2]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_a_model_that_does_odd_things_is_traced() -> None:
    traced = layers.trace(Odd(), torch.randn(1, 1, 2, 2))
    assert len(traced.output) == 3
    names = [layer.name for layer in traced.layers]
    assert names[0] == "first"
    assert names[-1] == "head"
    assert {"nothing", "sparse"} <= set(names)
    halved = layers.trace(nn.Sequential(Halved(), nn.Flatten()), torch.randn(1, 1, 2, 4))
    assert [layer.noun for layer in halved.layers] == ["Halved", "flattening"]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_large_picture_is_drawn_no_wider_than_there_is_room(width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 150, 224), dtype=np.uint8)
    small = view._fitting(Picture(3, 150, 224, pixels.tobytes()), min(width - 2, view.MOST_COLUMNS))
    assert small.width == min(width - 2, 64)
    assert len(small.pixels) == 3 * small.height * small.width
    assert max(len(line) for line in view._in_characters(small)) <= width
    assert small.height / small.width == pytest.approx(150 / 224, abs=0.03)
    left = np.frombuffer(small.pixels, np.uint8).mean()
    assert left == pytest.approx(pixels.mean(), abs=2)


def test_states_of_trials_are_those_of_the_study(own: InProcess) -> None:
    trials = own("trials", "--json").document["trials"]
    assert len(trials) == N_TRIALS
    assert {State(one["state"]) for one in trials} <= {State.COMPLETE, State.DIVERGED}
    assert all(0.01 <= one["config"]["stem_ratio"] <= 1 for one in trials)
    assert os.environ["LRSEARCH_CACHE"]

"""The table [augment] of a study file, and everywhere that its study is spoken of: sheet, report, answer, programs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import InProcess
from conftest import make_spec
from PIL import Image
from torch.nn import functional

from lrsearch.analysis.observations import observe
from lrsearch.errors import StudyFileError
from lrsearch.report import study_words
from lrsearch.report.export import to_json
from lrsearch.report.export_program import Framework, program
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.spec.training import AugmentSpec
from lrsearch.trial import EpochMetrics, Facts, OptimizerConfig, ScheduleConfig, State, Trial, TrialConfig

pytest_plugins = ["command_line", "ones_own"]

COLOUR, SMALL, GREY = (3, 32, 32), (3, 12, 20), (1, 28, 28)
NAMES = ("cat", "dog")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))


def augmented(raw: object, dataset: str = "cifar10", **tables: Any) -> AugmentSpec | None:
    return make_spec(dataset={"name": dataset}, augment=raw, **tables).augment


# --- the table -------------------------------------------------------------------------------------------------------


def test_nothing_is_changed_by_default_and_no_study_is_another_for_it() -> None:
    plain = make_spec()
    assert plain.augment is None
    assert "augment" not in plain.to_plain()
    for nothing in ({}, {"flip": False, "crop": 0, "erase": 0.0, "mixup": 0}, "crop=0, trivial=false", "auto"):
        spec = make_spec(augment=nothing)
        assert spec.augment is None
        assert (spec.to_json(), spec.identity_hash()) == (plain.to_json(), plain.identity_hash())


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("flip", "flip"),
        ("flip, crop=4", "flip, crop=4"),
        ("crop=4,flip=true,affine=0", "flip, crop=4"),
        ({"erase": 0.25, "mixup": 1}, "erase=0.25, mixup=1"),
        ("saturation=.3", "saturation=0.3"),
        ("auto", "flip, crop=4"),
        ({"auto": True}, "flip, crop=4"),
    ],
)
def test_a_text_is_a_table(raw: object, words: str) -> None:
    found = augmented(raw)
    assert found is not None
    assert found.words == words
    assert augmented(words) == found
    spec = make_spec(dataset={"name": "cifar10"}, augment=raw)
    assert spec.to_plain()["augment"] == found.given
    assert StudySpec.from_json(spec.to_json()) == spec
    assert {key: value for key, value in spec.identity().items() if key.startswith("augment.")} == {
        f"augment.{key}": value for key, value in found.given.items()
    }


@pytest.mark.parametrize(
    ("raw", "dataset", "said"),
    [
        ("flipp", "cifar10", "unknown key 'augment.flipp' (did you mean 'flip'?); known here: auto, flip, crop"),
        ("crop=x", "cifar10", "augment.crop: must be a whole number, got 'x'"),
        ("crop=1.5", "cifar10", "augment.crop: must be a"),
        ("crop=-1", "cifar10", "augment.crop: must be greater than or equal to 0, got -1"),
        ("crop=32", "cifar10", "augment: crop must be below the shorter side, 32 pixels, got 32"),
        ("erase=2", "cifar10", "augment.erase: must be less than or equal to 1, got 2"),
        ("mixup=nan", "cifar10", "augment.mixup: must be"),
        ("label_smoothing=1", "cifar10", "augment.label_smoothing: must be less than 1"),
        ("resized_crop=1", "cifar10", "augment.resized_crop: must be less than 1"),
        ({"flip": 1}, "cifar10", "augment.flip: must be true or false, got 1"),
        ({"brightness": True}, "cifar10", "augment.brightness: must be a number, got True"),
        ({"crop": [1, 2]}, "cifar10", "augment.crop: must be a whole number"),
        (3, "cifar10", "augment: must be a table ([augment]), got 3"),
        ("", "cifar10", "augment: must be 'auto', or keys such as 'flip, crop=4', each once, got ''"),
        ("crop=1, crop=2", "cifar10", "each once"),
        ("flip=", "cifar10", "each once"),
        ("auto, flip", "cifar10", "augment: 'auto' says by itself what is done, got it with flip"),
        ("saturation=0.2", "digits", "augment: saturation is for colours, and these images are grey: leave it out"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(raw: object, dataset: str, said: str) -> None:
    with pytest.raises(StudyFileError) as error:
        augmented(raw, dataset)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["mixup=0.2", "cutmix=1", "label_smoothing=0.1"])
def test_an_image_of_two_classes_needs_our_loss(key: str) -> None:
    with pytest.raises(StudyFileError) as error:
        augmented(f"flip, {key}", model={"name": "cnn", "loss": "mine.py:loss"})
    assert f"augment.{key.partition('=')[0]} gives an image more than one class" in str(error.value)
    assert "model.loss = 'mine.py:loss' takes one label an image: leave one of the two out" in str(error.value)
    assert augmented("flip, crop=4", model={"name": "cnn", "loss": "mine.py:loss"}) is not None


def test_a_loop_of_ones_own_changes_its_images_itself() -> None:
    for keys in ("auto", "flip"):
        with pytest.raises(StudyFileError, match="augment is for trainings by lrsearch, and mine"):
            study_file.build({"name": "x", "loop": {"name": "mine.py:loop", "n_train": 9}, "augment": keys}, "here")


@pytest.mark.parametrize(
    ("shape", "classes", "words"),
    [
        (COLOUR, NAMES, "flip, crop=4"),
        (SMALL, NAMES, "flip, crop=1"),
        ((3, 4, 4), NAMES, "flip, crop=1"),
        ((3, 224, 224), NAMES, "flip, crop=28"),
        (GREY, NAMES, None),
        (COLOUR, tuple("0123456789"), None),
    ],
)
def test_auto_is_for_colour_pictures(shape: tuple[int, int, int], classes: tuple[str, ...], words: str | None) -> None:
    found = AugmentSpec(auto=True).resolved(shape, classes)
    assert (found and found.words) == words


@pytest.mark.parametrize("dataset", ["digits", "mnist", "fashion-mnist", "svhn"])
def test_auto_leaves_digits_and_grey_images_alone(dataset: str) -> None:
    assert augmented("auto", dataset) is None


def test_auto_waits_until_ones_own_pictures_are_known() -> None:
    spec = make_spec(dataset={"name": "folder:pics"}, augment="auto")
    assert spec.augment == AugmentSpec(auto=True)
    colour, grey = (Facts(640, 60, 60, shape, NAMES) for shape in (COLOUR, GREY))
    assert spec.fitted(colour).augment == AugmentSpec(flip=True, crop=4)
    assert spec.fitted(grey).augment is None
    said = make_spec(dataset={"name": "folder:pics"}, augment="flip, crop=4")
    assert said.fitted(colour).identity_hash() == spec.fitted(colour).identity_hash()
    with pytest.raises(StudyFileError, match="augment: crop must be below the shorter side, 12 pixels, got 30"):
        make_spec(dataset={"name": "folder:pics"}, augment="crop=30").fitted(Facts(640, 60, 60, SMALL, NAMES))
    with pytest.raises(StudyFileError, match="brightness is for images of 1 or 3 channels, and these have 4"):
        make_spec(dataset={"name": "mine.py:load"}, augment="brightness=1").fitted(Facts(640, 6, 6, (4, 9, 9), NAMES))


def test_keys_are_set_from_the_command_line() -> None:
    for overrides in ([("augment", "flip, crop=2")], [("augment.flip", True), ("augment.crop", 2)]):
        assert study_file.load("cifar10", overrides).augment == AugmentSpec(flip=True, crop=2)
    with pytest.raises(StudyFileError, match="'auto' says by itself what is done, got it with crop"):
        study_file.load("cifar10", [("augment", "auto"), ("augment.crop", 2)])


# --- a search, and what is said of it ---------------------------------------------------------------------------------

QUICK = ("--epochs", "2", "--threads", "1", "--set", "space.batch_size=[8,16]", "--set", "pruner=none")


def test_a_search_is_filed_with_what_auto_comes_to(lrsearch: InProcess, pictures: Path, tmp_path: Path) -> None:
    asked = ("run", "--name", "pets", "--dataset", f"folder:{pictures}", "--model", "mlp", *QUICK)
    done = lrsearch(*asked, "--set", "augment=auto", "--trials", "2", "--json")
    assert done.code == 0, done.err
    assert done.document["study"] == "pets"
    again = lrsearch(*asked, "--set", "augment=flip,crop=1", "--trials", "3", "--json")
    assert again.code == 0, again.err
    other = lrsearch(*asked, "--set", "augment=flip,crop=2", "--trials", "3")
    assert other.code == 2
    assert "augment.crop" in other.err
    assert lrsearch("report", "pets", "-o", "pets.html").code == 0
    page = (tmp_path / "pets.html").read_text("utf-8")
    assert "flip, crop=1, in training alone: a training loss is one on changed images" in page
    shown = " ".join(lrsearch("show", "0", "pets").out.split())
    assert "augmentation flip, crop=1, in training alone" in shown
    assert "to be compared neither with a validation loss nor with that of a study that changes them otherwise" in shown
    kept = lrsearch("train", "pets", "-o", "kept", "--json")
    assert kept.code == 0, kept.err
    assert json.loads(next((tmp_path / "kept").glob("*.json")).read_text())["spec"]["augment"] == {
        "flip": True,
        "crop": 1,
    }


def test_a_study_without_augmentation_says_nothing_of_it() -> None:
    assert study_words.augmentation(make_spec()) == ""
    assert "on smoothed labels" in study_words.augmentation(make_spec(augment="label_smoothing=0.1"))
    assert study_words.plain_loss(make_spec(augment="crop=2"))
    assert not study_words.plain_loss(make_spec(augment="label_smoothing=0.1"))


def test_a_training_on_mixed_images_has_learned_with_a_high_loss() -> None:
    rows = [EpochMetrics(e, 25 * e, 0.1, 1.1, 0.3, 0.95, None, None, 0.1) for e in (1, 2)]
    trial = Trial(0, CONFIG, State.COMPLETE, None, tuple(rows))
    assert "no progress" in observe(trial, 10)[1]
    assert "converging nicely" in observe(trial, 10, mixed=True)[1]


# --- the sheet --------------------------------------------------------------------------------------------------------


def cell(sheet: Image.Image, row: int, column: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the pixels of a picture of 12x12, enlarged five times, of a sheet."""
    upper, left = 4 + row * 64, 180 + column * 64 + 4
    return np.asarray(sheet)[upper : upper + 60 : 5, left : left + 60 : 5]


def test_the_sheet_shows_several_draws_of_a_picture_in_a_row(
    lrsearch: InProcess, pictures: Path, tmp_path: Path
) -> None:
    done = lrsearch("data", f"folder:{pictures}", "--augment", "auto")
    assert done.code == 0, done.err
    assert done.err == "wrote pics-augmented.png: flip, crop=1\n"
    with Image.open(tmp_path / "pics-augmented.png") as sheet:
        assert sheet.size == (180 + 12 * 64 + 4, 6 * 64 + 4)  # two of each of three classes
        sheet.load()
    for row in range(6):
        first = cell(sheet, row, 0)
        files = (np.asarray(Image.open(path)) for path in (pictures / ("blue sky", "green", "red")[row // 2]).iterdir())
        assert any(np.array_equal(first, one) for one in files)
        framed = np.pad(first.astype(int), ((1, 1), (1, 1), (0, 0)), constant_values=-1)
        draws = set()
        for column in range(1, 12):
            found = cell(sheet, row, column)
            places = [
                (top, left, turned)
                for top in range(3)
                for left in range(3)
                for turned in (1, -1)
                for part in [framed[top : top + 12, left : left + 12][:, ::turned]]
                if ((part == found) | (part == -1)).all()
            ]
            assert places, (row, column)
            draws.add(places[0])
        assert len(draws) > 5


def test_the_sheet_goes_where_it_is_asked_to(lrsearch: InProcess, pictures: Path, tmp_path: Path) -> None:
    done = lrsearch("data", f"folder:{pictures}", "--augment", "mixup=1, erase=1", "--sheet", "a.png", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.document["n_train"] == 45
    assert (tmp_path / "a.png").is_file()
    assert not list(tmp_path.glob("*-augmented.png"))
    again = lrsearch("data", f"folder:{pictures}", "--augment", "mixup=1, erase=1", "--sheet", "b.png")
    assert again.code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--augment", "crop=12"), "augment: crop must be below the shorter side, 12 pixels, got 12"),
        (("--augment", "flipp"), "--augment: unknown key 'augment.flipp' (did you mean 'flip'?)"),
        (("--augment", "crop=1", "--sheet", "a.jpg"), "--sheet must name a file that ends in .png"),
        (("--augment", "auto", "--set", "dataset.channels=1"), "--augment comes to nothing for these pictures"),
        (("--augment", "saturation=1", "--set", "dataset.channels=1"), "saturation is for colours"),
    ],
)
def test_a_sheet_that_cannot_be_drawn_is_refused(
    argv: tuple[str, ...], said: str, lrsearch: InProcess, pictures: Path, tmp_path: Path
) -> None:
    done = lrsearch("data", f"folder:{pictures}", *argv)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("*.png"))


# --- programs ---------------------------------------------------------------------------------------------------------

CONFIG = TrialConfig(OptimizerConfig("sgd", 0.05, momentum=0.9), ScheduleConfig("cosine", 0.0, 0.01), 32, 2, 0)


def exported(keys: str, framework: Framework = "torch", **tables: Any) -> str:
    spec = make_spec(augment=keys, model={"name": "cnn"}, **tables)
    return program(Trial(0, CONFIG, State.COMPLETE, None, ()), spec, framework)


def names_of(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(text, "program.py", "exec"), names)
    return names


def test_a_program_flips_and_crops_each_image_by_itself() -> None:
    change: Callable[[torch.Tensor], torch.Tensor] = names_of(exported("flip, crop=2"))["augment"]
    image = torch.rand(1, 1, 28, 28) + 1
    framed = functional.pad(image, (2, 2, 2, 2))
    torch.manual_seed(0)
    seen = set()
    for one in change(image.expand(256, -1, -1, -1)):
        places = [
            (top, left, turned)
            for top in range(5)
            for left in range(5)
            for turned in (False, True)
            if torch.equal(one, (framed.flip(3) if turned else framed)[0, :, top : top + 28, left : left + 28])
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 45  # of 50
    assert torch.equal(names_of(exported("flip"))["augment"](image * 0 + 2), image * 0 + 2)
    for text in (exported("flip, crop=2", "lightning"), exported("flip")):
        assert "images = augment(images" in text
    assert "augment(" not in exported("label_smoothing=0.1")


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_program_smooths_labels_as_the_search_does(power: float) -> None:
    facts = Facts(800, 200, 797, GREY, tuple("0123456789"), train_counts=(80,) * 10)
    spec = make_spec(augment="label_smoothing=0.1", model={"name": "cnn"}, training={"class_weights": power})
    names = names_of(program(Trial(0, CONFIG, State.COMPLETE, None, ()), spec.measured(facts), "torch"))
    logits, labels = torch.randn(6, 10), torch.arange(6)
    wanted = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.allclose(names["loss_of"](logits, labels), wanted)


@pytest.mark.parametrize("framework", ["torch", "lightning"])
@pytest.mark.parametrize(
    ("keys", "said", "unsaid"),
    [
        ("flip, crop=2", "Training images are changed at random as in the search (flip, crop=2)", "leaves out"),
        (
            "crop=2, mixup=0.2, trivial",
            "It leaves out what the search did to training images at random (trivial, mixup=0.2)",
            "come close",
        ),
        ("label_smoothing=0.1", "so that it should come close to that score", "at random"),
    ],
)
def test_a_program_says_what_it_does_of_the_augmentation(
    keys: str, said: str, unsaid: str, framework: Framework
) -> None:
    head = " ".join(exported(keys, framework).split('"""')[1].split())
    assert said in head
    assert unsaid not in head


def test_programs_are_written_as_formatters_write_them(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    facts = Facts(800, 200, 797, GREY, tuple("0123456789"), train_counts=(80,) * 10)
    for i, keys in enumerate(("flip", "crop=2", "flip, crop=2, label_smoothing=0.1", "trivial, mixup=0.2")):
        for power in (0.0, 1.0):
            spec = make_spec(augment=keys, training={"class_weights": power}).measured(facts)
            for framework in ("torch", "lightning"):
                text = program(Trial(0, CONFIG, State.COMPLETE, None, ()), spec, framework)
                (tmp_path / f"{framework}_{i}_{power:g}.py").write_text(text)
    for command in (("format", "--check"), ("check",)):
        argv = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_setting_as_json_has_the_augmentation() -> None:
    trial = Trial(0, CONFIG, State.COMPLETE, None, ())
    assert to_json(trial, make_spec(augment="crop=2, mixup=0.2"))["augment"] == {"crop": 2, "mixup": 0.2}
    assert "augment" not in to_json(trial, make_spec())


def test_the_program_of_a_study_without_augmentation_is_as_it_was() -> None:
    text = exported("crop=0")
    assert "augment" not in text
    assert "F.cross_entropy(model(images.to(device)), labels.to(device))" in text

"""`lrsearch data`: what it prints of pictures, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import InProcess, one_line, run_python
from painted import paint, paint_classes, save
from PIL import Image

pytest_plugins = ["command_line"]


def emoji(tester_data: str) -> Path:
    folder = Path(tester_data) / "emoji"
    if not folder.is_dir():
        pytest.skip(f"there are no pictures in {folder}")
    return folder


def test_what_is_seen_of_a_folder(tmp_path: Path, lrsearch: InProcess) -> None:
    paint_classes(tmp_path / "pics", {"cat": 10, "dog": 5})
    paint(tmp_path / "pics" / "dog" / "large.png", 99, size=(30, 20), mode="L")
    (tmp_path / "pics" / "dog" / "bad.png").write_bytes(b"no")
    result = lrsearch("data", "folder:pics")
    # All is shown first; what a search would say ends it.
    assert result.code == 2
    assert one_line(result).startswith(
        "lrsearch: dataset.name: 1 of 17 pictures cannot be read: dog/bad.png is none of"
    )
    rows = [line.split() for line in result.out.splitlines()]
    assert ["cat", "10", "0", "0", "0", "0"] in rows
    assert ["dog", "7", "1", "0", "0", "0"] in rows
    (tmp_path / "pics" / "dog" / "bad.png").unlink()
    result = lrsearch("data", "folder:pics")
    assert (result.code, result.err) == (0, "")
    for line in (
        "cat                                                     10     0       6            2      2",
        "2 classes                                               16     0      10            3      3",
        "sizes        width 8 to 30 (median 8), height 8 to 20 (median 8) pixels",
        "modes        15 RGB, 1 L",
        "become       8x8 pixels, 3 channels, squash",
        "equal        0 of 16 pictures to another one",
        "majority     'cat' for every picture is right in 0.667 of validation",
    ):
        assert " ".join(line.split()) in [" ".join(one.split()) for one in result.out.splitlines()], result.out


def test_json_has_all(tmp_path: Path, lrsearch: InProcess) -> None:
    paint_classes(tmp_path / "pics", {"cat": 10, "dog": 5})
    document = lrsearch("data", "folder:pics", "--set", "dataset.image_size=4", "--json").document
    assert document["schema"] == "lrsearch/data/1"
    assert document["classes"] == [
        {"name": "cat", "found": 10, "bad": 0, "train": 6, "validation": 2, "test": 2},
        {"name": "dog", "found": 5, "bad": 0, "train": 3, "validation": 1, "test": 1},
    ]
    assert document["image"] == {"channels": 3, "height": 4, "width": 4, "resize": "squash"}
    assert document["width"] == {"least": 8, "median": 8, "most": 8}
    assert document["majority"] == {"class": "cat", "score": pytest.approx(2 / 3)}
    assert len(document["fingerprint"]) == 64
    assert Path(document["cache"], "images.npy").is_file()
    (tmp_path / "pics" / "dog" / "bad.png").write_bytes(b"no")
    result = lrsearch("data", "folder:pics", "--json")
    document = json.loads(result.out)
    assert result.code == 2
    assert document["refused"] in result.err
    assert document["bad"] == [{"name": "dog/bad.png", "reason": "is none of PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM"}]
    assert document["fingerprint"] is None


def test_the_sheet_shows_each_class_in_a_row(tmp_path: Path, lrsearch: InProcess) -> None:
    for i, name in enumerate(("black", "red", "猫")):
        for n in range(20):
            colour = ((0, 0, 0), (255, 0, 0), (0, 0, 255))[i]
            picture = Image.new("RGB", (16, 16), colour)
            picture.putpixel((n % 16, n // 16), (9, 9, 9))
            save(picture, tmp_path / "pics" / name / f"{n:02}.png")
    assert lrsearch("data", "folder:pics", "--sheet", "sheet.png").code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (180 + 12 * 68 + 4, 3 * 68 + 4)
        for row, colour in enumerate(((0, 0, 0), (255, 0, 0), (0, 0, 255))):
            for column in range(12):
                assert sheet.getpixel((184 + column * 68 + 40, 4 + row * 68 + 40)) == colour
        names = np.asarray(sheet.convert("L"))[:, :180]
        assert all((names[4 + row * 68 : 68 + row * 68] < 100).any() for row in range(3))
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"pics", "sheet.png"}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["data", "pics"], "pics is a folder: look at it as folder:pics"),
        (["data", "labels.csv"], "labels.csv is a table: look at it as csv:labels.csv"),
        (["data", "digits"], "looks at pictures of your own"),
        (["data", "digitz"], "dataset.name: unknown name 'digitz' (did you mean 'digits'?)"),
        (["data", "folder:none"], "folder:PATH must name a folder of pictures, and there is no folder"),
        (["data", "folder:pics/cat/0000.png"], "0000.png is a file"),
        (
            ["data", "folder:pics/cat"],
            "pics/cat must hold a folder for each class, and its 5 pictures (0000.png, 0001.png",
        ),
        (["data", "folder:empty"], "must hold a folder for each class with pictures in it (.png"),
        (["data", "csv:none.csv"], "must name a table of files and labels, and there is no file"),
        (["data", "csv:pics"], "pics is a folder"),
        (["data", "none.py:load"], "there is no file"),
        (["data", "folder:pics", "--set", "epochs=3"], "--set epochs: must be a key of [dataset] besides its name"),
        (["data", "folder:pics", "--set", "dataset.name=digits"], "must be a key of [dataset] besides its name"),
        (["data", "folder:pics", "--set", "dataset.image_sise=3"], "unknown key 'dataset.image_sise' (did you mean"),
        (
            ["data", "folder:pics", "--set", "dataset.image_size=3"],
            "dataset.image_size: must be greater than or equal to 4",
        ),
        (
            ["data", "folder:pics", "--set", "dataset.group=camera"],
            "dataset.group: must be 'parent' for a folder, got 'camera'",
        ),
        (["data", "folder:pics", "--sheet", "a.jpg"], "--sheet must name a file that ends in .png, got a.jpg"),
        (["data", "folder:pics", "--sheet", "no/a.png"], "there is no folder no"),
        (["data", "folder:valtest"], "has test and val and must have train beside it, which it has not"),
        (["data", "folder:twice"], "must have one folder of validation pictures, got val and valid"),
        (["data"], "data must be given folder:PATH|csv:FILE|FILE.py:FUNCTION"),
    ],
)
def test_what_cannot_be_meant_is_answered_in_one_sentence(
    argv: list[str], said: str, tmp_path: Path, lrsearch: InProcess
) -> None:
    paint_classes(tmp_path / "pics", {"cat": 5, "dog": 5})
    for name in ("empty/a", "valtest/val", "valtest/test", "twice/train", "twice/val", "twice/valid"):
        (tmp_path / name).mkdir(parents=True)
    result = lrsearch(*argv)
    assert (result.code, result.out) == (2, "")
    assert said in one_line(result), result.err
    assert not (tmp_path / "sheet.png").exists()


def test_torch_is_not_loaded_for_a_look(tmp_path: Path) -> None:
    paint_classes(tmp_path / "pics", {"cat": 5, "dog": 5})
    done = run_python(
        """
        import sys
        from lrsearch.cli import app
        code = app.run(["data", "folder:pics", "--sheet", "sheet.png"])
        loaded = [name for name in ("torch", "optuna", "sqlalchemy", "sklearn") if name in sys.modules]
        print("code", code, loaded)
        """,
        tmp_path,
    )
    assert done.out.splitlines()[-1] == "code 0 []", done.err


def test_the_emoji(tester_data: str, lrsearch: InProcess) -> None:
    folder = emoji(tester_data)
    document = lrsearch("data", f"folder:{folder / 'pictures'}", "--json").document
    assert (document["n_train"], document["n_validation"], document["n_test"]) == (1219, 305, 382)
    assert document["modes"] == {"RGBA": 1842, "LA": 62, "P": 2}
    assert (document["equal"], document["bad"]) == (25, [])
    by_table = lrsearch(
        *("data", f"csv:{folder / 'labels.csv'}", "--data-dir", str(folder / "pictures")),
        *("--set", "dataset.group=subcategory", "--json"),
    ).document
    assert by_table["n_found"] == 1906
    assert by_table["without_validation"] == []
    assert by_table["cache"] == document["cache"]  # decoded once


@pytest.fixture
def tester_data(monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of the tester's data sets, before the variables of the shell are taken away."""
    import os

    folder = os.environ.get("LRSEARCH_TEST_DATA")
    if not folder:
        pytest.skip("LRSEARCH_TEST_DATA names no folder")
    return folder

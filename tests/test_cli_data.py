"""`lrsearch data`, and the bugs of other tools that begin with the data: an input each, what is said, the exit code."""

import json
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import InProcess, contents, one_line, run_python
from painted import paint, paint_classes, pixels, save
from PIL import Image

pytest_plugins = ["command_line"]

OK, REFUSED = 0, 2


def emoji(tester_data: str) -> Path:
    folder = Path(tester_data) / "emoji"
    if not folder.is_dir():
        pytest.skip(f"there are no pictures in {folder}")
    return folder


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """An input, and what must come of it."""

    number: str
    """Of the bug in the list of other tools' bugs."""
    make: Callable[[Path], object]
    """Makes the folder ``pics``."""
    code: int
    said: tuple[str, ...]
    """Parts of the one sentence on stderr where it is refused, and of what is printed otherwise."""
    options: tuple[str, ...] = ()
    what: str = "folder:pics"
    document: dict[str, Any] = field(default_factory=dict)
    """Parts of the JSON document."""


def truncated(path: Path, left_out: int = 200) -> Path:
    path.write_bytes(path.read_bytes()[:-left_out])
    return path


def damaged(root: Path, n: int = 8) -> None:
    paint_classes(root, {"a": n, "b": n}, end=".jpg")
    truncated(paint(root / "a" / "cut.jpg", 500, size=(64, 64)))
    (root / "b" / "text.jpg").write_text("no picture")
    (root / "b" / "empty.png").write_bytes(b"")


def bits_of(width: int, height: int) -> bytes:
    """Return a whole PNG of one bit a pixel, all of them 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hidden(root: Path) -> None:
    paint_classes(root, {"cat": 5, "dog": 5})
    for name in (".ipynb_checkpoints/a.png", "@eaDir/b.png", "__MACOSX/c.png", "cat/.thumb.png", "dog/@eaDir/d.png"):
        paint(root / name, 900)
    (root / ".DS_Store").write_bytes(b"")
    (root / "cat" / "Thumbs.db").write_bytes(b"")


def empty_in_train(root: Path) -> None:
    paint_classes(root / "train", {"a": 5, "b": 5, "c": 0})
    paint_classes(root / "val", {"a": 2, "b": 2, "c": 2}, 50)


def other_classes(root: Path) -> None:
    paint_classes(root / "train", {"a": 5, "b": 5, "c": 5})
    paint_classes(root / "val", {"b": 2, "c": 2, "d": 2}, 50)


def turned(root: Path) -> None:
    paint_classes(root, {"a": 5, "b": 5})
    exif = Image.Exif()
    exif[0x0112] = 6
    save(Image.fromarray(pixels(77)), root / "a" / "turned.jpg", exif=exif)


def deep(root: Path) -> None:
    for i in range(10):
        save(Image.fromarray(pixels(i, (8, 8)).astype(np.uint16) * 16), root / "ab"[i % 2] / f"{i}.png")
    whole = np.zeros((8, 8), np.uint16)
    whole[0] = 4095
    save(Image.fromarray(whole), root / "a" / "brightest.png")


def see_through(root: Path) -> None:
    for i, mode in enumerate(("RGBA", "LA", "P", "RGBA", "LA", "P")):
        picture = Image.fromarray(pixels(i)).convert("L" if mode == "LA" else "RGB")
        picture.putalpha(Image.fromarray(pixels(i + 90, (8, 8))))
        save(picture.quantize(16) if mode == "P" else picture, root / "ab"[i % 2] / f"{i}.png")


def grey_and_colour(root: Path) -> None:
    for i, mode in enumerate(("L", "L", "L", "RGB", "RGB", "RGB", "CMYK")):
        paint(root / "ab"[i % 2] / f"{i}.tif", i, mode=mode)


def strips(root: Path) -> None:
    for i in range(10):
        size = (120, 640) if i % 2 else (160, 120)
        paint(root / ("end", "all")[i % 2] / f"{i}.png", i, size=size)


def strange_names(root: Path) -> None:
    paint_classes(root, {"größe": 3, "猫": 3, "with blanks": 3, "line\nbreak": 3})


def accents(root: Path) -> None:
    paint_classes(root, {"caf\u00e9": 3, unicodedata.normalize("NFD", "caf\u00e9"): 3, "tea": 3})


def loops(root: Path) -> None:
    paint_classes(root, {"a": 5, "b": 5})
    (root / "a" / "loop").symlink_to("..")


def copies(root: Path) -> None:
    paint_classes(root, {"a": 10, "b": 10})
    shutil.copy(root / "a" / "0000.png", root / "a" / "copy.png")
    shutil.copy(root / "a" / "0001.png", root / "b" / "other label.png")


def videos(root: Path) -> None:
    for i in range(60):
        paint(root / "ab"[i % 2] / f"video{i // 6}" / f"{i:02}.png", i)


FRAMES = """
    import random
    from PIL import Image

    class Crops:
        def __len__(self):
            return 10
        def __getitem__(self, i):
            left = random.randrange(20)
            return Image.effect_noise((60, 60), 50).crop((left, 0, left + 32, 32)), i % 2

    def load():
        return Crops()
"""


def a_function(root: Path) -> None:
    import textwrap

    root.with_name("mine.py").write_text(textwrap.dedent(FRAMES), "utf-8")


ROWS = (
    Row(
        "1",
        hidden,
        OK,
        ("skipped 6 names of hidden files or of a system's own", "skipped 1 file whose name does not"),
        document={"n_found": 10},
    ),
    Row("2", lambda root: paint_classes(root, {"a": 5, "b": 5, "c": 0}), OK, ("skipped 1 folder without pictures: c",)),
    Row(
        "2, in val",
        lambda root: (
            paint_classes(root / "train", {"a": 5, "b": 5}),
            paint_classes(root / "val", {"a": 3, "b": 0}, 50),
        ),
        OK,
        ("no validation images of 1 class, which count nowhere there: b",),
        document={"without_validation": ["b"]},
    ),
    Row(
        "3", other_classes, REFUSED, ("dataset.name", "must have the classes of the training pictures", "among them: d")
    ),
    Row("3, in train", empty_in_train, REFUSED, ("dataset.name", "validation pictures", "not among them: c")),
    Row("4", lambda root: paint_classes(root, {str(n): 3 for n in range(12)}), OK, ("10", "11")),
    Row(
        "5",
        lambda root: paint_classes(root, {"cat": 5}),
        REFUSED,
        ("dataset.name", "one class, 'cat'", "nothing to tell apart"),
    ),
    Row(
        "6",
        lambda root: paint_classes(root, {**{f"{n:03}": 3 for n in range(200)}, "rare": 1}),
        OK,
        ("no validation images of 1 class, which count nowhere there: rare",),
        document={"n_train": 201, "n_validation": 200, "n_test": 200},
    ),
    Row(
        "7",
        lambda root: paint_classes(root, {"a": 90, "b": 9, "c": 1}),
        OK,
        ("majority     'a' for every picture is right in 0.933 of validation",),
    ),
    Row(
        "8",
        damaged,
        REFUSED,
        (
            "dataset.name: 3 of 19 pictures cannot be read",
            "a/cut.jpg is damaged: image file is truncated",
            "b/empty.png is empty",
            "b/text.jpg is none of PNG, JPEG",
            'dataset.on_error = "skip"',
        ),
    ),
    Row(
        "8, too many",
        damaged,
        REFUSED,
        ("at most 5% of them may be left out, and these are 16%",),
        ("--set", "dataset.on_error=skip"),
    ),
    Row(
        "8, few",
        lambda root: damaged(root, 40),
        OK,
        ("left out 3 pictures that cannot be read: a/cut.jpg, b/empty.png, b/text.jpg",),
        ("--set", "dataset.on_error=skip"),
        document={"n_train": 52, "n_validation": 12, "n_test": 16},
    ),
    Row("9", turned, OK, ("1 picture turned upright as their EXIF data say",)),
    Row("10", deep, OK, ("0 becomes black and 4,095 white", "as a camera of 12 bits has it")),
    Row("11", see_through, OK, ("6 pictures with transparent parts, which became white",)),
    Row("12", grey_and_colour, OK, ("3 of 7 pictures have no colours, and three equal channels here",)),
    Row(
        "13",
        lambda root: (
            paint_classes(root, {"a": 5, "b": 5}),
            (root / "a" / "huge.png").write_bytes(bits_of(20_000, 10_000)),
        ),
        REFUSED,
        ("a/huge.png has more than 89,478,485 pixels",),
    ),
    Row(
        "14",
        strips,
        OK,
        ("framed in the colour of their edge (dataset.resize = pad)", "the width is 0.19 to 1.33 of the height"),
    ),
    Row("15", strange_names, OK, ("größe", "猫", "line\\nbreak")),
    Row("15, twins", accents, REFUSED, ("dataset.name", "accents written in two ways", "cafe\\u0301")),
    Row(
        "16",
        loops,
        OK,
        ("skipped 1 link to a folder that was read under another name: a/loop",),
        document={"n_found": 10},
    ),
    Row(
        "17",
        copies,
        OK,
        (
            "4 of 22 pictures to another one, drawn for one side of the split",
            "1 picture of two classes at once: a/0001.png = b/other label.png",
        ),
        document={"equal": 4, "of_two_classes": [["a/0001.png", "b/other label.png"]]},
    ),
    Row("17, groups", videos, OK, (), ("--set", "dataset.group=parent"), document={"n_found": 60}),
    Row(
        "26",
        a_function,
        REFUSED,
        ("dataset.name: item 0 of train must be the same each time", "leave random transforms out of"),
        what="mine.py:load",
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_a_bug_of_others_is_said_or_refused(row: Row, tmp_path: Path, lrsearch: InProcess) -> None:
    row.make(tmp_path / "pics")
    before = contents(tmp_path)
    result = lrsearch("data", row.what, *row.options)
    assert result.code == row.code, result.err
    text = one_line(result) if row.code else f"{result.out} ".replace("\n", " ")
    for words in row.said:
        assert words in text, text
    # Nothing lies there afterwards but the cache.
    assert {name: what for name, what in contents(tmp_path).items() if not name.startswith(".cache")} == before
    found = lrsearch("data", row.what, *row.options, "--json")
    assert found.code == row.code
    if row.code == OK:
        assert {key: found.document[key] for key in row.document} == row.document
        assert found.document["refused"] is None


# --- the command -----------------------------------------------------------------------------------------------------


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

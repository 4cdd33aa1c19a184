"""Pictures of a person's own: found in folders, tables and functions, decoded once, kept, and found again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mounts
import numpy as np
import pytest
from conftest import DEADLINE_SECONDS, finished, started, wait_until
from painted import paint, paint_classes, pixels, save
from PIL import Image

from lrsearch.errors import DataError, LrsearchError, StudyFileError
from lrsearch.pictures import cache, decode, work
from lrsearch.pictures.decode import Decoding
from lrsearch.pictures.look import look
from lrsearch.pictures.own import OwnImages, read
from lrsearch.spec.study import DatasetSpec

Made = Callable[..., OwnImages]


@pytest.fixture
def images(tmp_path: Path) -> Made:
    """Reads a data set, by default the folder ``pics``, with a cache of this test's own."""

    def of(
        name: str = "", where: Path | None = None, colour: bool = False, size: int | None = None, **keys: Any
    ) -> OwnImages:
        dataset = DatasetSpec(name=name or f"folder:{tmp_path / 'pics'}", **keys)
        return read(dataset, where, cache=tmp_path / "cache", colour=colour, size=size)

    return of


@pytest.fixture
def pics(tmp_path: Path) -> Path:
    """A folder with ten pictures of 8x8 in each of two classes."""
    return paint_classes(tmp_path / "pics", {"cat": 10, "dog": 10})


# --- what comes out --------------------------------------------------------------------------------------------------


def test_a_folder_a_class(pics: Path, images: Made) -> None:
    got = images()
    assert (got.images.shape, got.images.dtype, got.labels.dtype) == ((20, 3, 8, 8), np.uint8, np.int64)
    assert got.classes == ("cat", "dog")
    assert got.names == tuple(f"{name}/{i:04}.png" for name in ("cat", "dog") for i in range(10))
    assert [len(rows) for rows in (got.train, got.validation, got.test)] == [12, 4, 4]
    for row, name in enumerate(got.names):
        assert (got.images[row].transpose(1, 2, 0) == np.asarray(Image.open(pics / name))).all()
        assert got.classes[got.labels[row]] == name.partition("/")[0]
    assert isinstance(got.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        got.images[0] = 0


def test_the_sets_of_a_folder_stay(tmp_path: Path, images: Made) -> None:
    for of, first in (("train", 0), ("valid", 100), ("Test", 200)):
        paint_classes(tmp_path / "pics" / of, {"cat": 4, "dog": 6}, first)
    (tmp_path / "pics" / "annotations").mkdir()
    got = images()
    by_set = {of: [got.names[row] for row in getattr(got, of)] for of in ("train", "validation", "test")}
    assert {of: {name.partition("/")[0] for name in names} for of, names in by_set.items()} == {
        "train": {"train"},
        "validation": {"valid"},
        "test": {"Test"},
    }
    assert [len(names) for names in by_set.values()] == [10, 10, 10]
    assert "skipped annotations, which is no train, val or test" in got.said


def test_train_may_be_a_class(tmp_path: Path, images: Made) -> None:
    paint_classes(tmp_path / "pics", {"bus": 5, "train": 5, "car": 5})
    assert images().classes == ("bus", "car", "train")


def test_the_order_of_classes_is_that_of_text_or_of_a_file(tmp_path: Path, images: Made) -> None:
    paint_classes(tmp_path / "pics", {str(n): 3 for n in range(12)})
    text = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")
    assert images().classes == text
    by_number = tuple(map(str, range(12)))
    for path in (tmp_path / "order.txt", tmp_path / "pics" / "order.txt"):  # from here, or from the data
        path.write_text("\n".join(["", *by_number, ""]), "utf-8")
        got = images(classes="order.txt" if path.parent.name == "pics" else str(path))
        assert got.classes == by_number
        assert [got.classes[label] for label in got.labels] == [name.partition("/")[0] for name in got.names]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("cat", "dataset.classes: must name every class, and dog"),
        ("cat\ndogg", "dog of the folder"),
        ("cat\ndog\nfox", "dataset.classes: every class must have a training picture, and fox has none"),
        ("cat\ndog\ncat", "'cat' stands in lines 1 and 3 of"),
        ("", "must name the classes, one a line, and is empty"),
        (None, "dataset.classes: there is no file order.txt, neither here nor in"),
    ],
)
def test_a_file_of_classes_must_fit(pics: Path, images: Made, lines: str | None, said: str) -> None:
    if lines is not None:
        (pics / "order.txt").write_text(lines, "utf-8")
    with pytest.raises(StudyFileError) as error:
        images(classes="order.txt")
    assert said in str(error.value)


def test_the_split_follows_names_and_not_the_order_in_which_a_file_system_lists_them(
    tmp_path: Path, images: Made
) -> None:
    drawn = []
    for where, order in (("one", 1), ("two", -1)):
        for i in list(range(30))[::order]:
            paint(tmp_path / where / f"{i % 2}" / f"{i:02}.png", i)
        got = images(f"folder:{tmp_path / where}")
        drawn.append(([got.names[row] for row in got.train], got.fingerprint))
    assert drawn[0] == drawn[1]


def test_groups_of_folders_below_the_class_stay_together(tmp_path: Path, images: Made) -> None:
    for i in range(60):
        paint(tmp_path / "pics" / "ab"[i % 2] / f"video{i // 6}" / f"{i:02}.png", i)
    got = images(group="parent")
    sides = [{got.names[row].rpartition("/")[0] for row in rows} for rows in (got.train, got.validation, got.test)]
    assert sum(map(len, sides)) == 20
    torn = images()
    sides = [{torn.names[row].rpartition("/")[0] for row in rows} for rows in (torn.train, torn.validation, torn.test)]
    assert sum(map(len, sides)) > 20


def test_a_group_by_the_folder_of_the_class_is_none(pics: Path, images: Made) -> None:
    assert images(group="parent").fingerprint == images().fingerprint


def test_equal_pictures_are_on_one_side_and_said(pics: Path, images: Made) -> None:
    for i in range(8):
        shutil.copy(pics / "cat" / "0000.png", pics / "cat" / f"copy{i}.png")
    Image.open(pics / "dog" / "0003.png").save(pics / "cat" / "a dog.bmp")  # other bytes, the same picture
    got = images()
    sides = [{got.names[row] for row in rows} for rows in (got.train, got.validation, got.test)]
    for group in ({f"cat/copy{i}.png" for i in range(8)} | {"cat/0000.png"}, {"cat/a dog.bmp", "dog/0003.png"}):
        assert [group <= side for side in sides].count(True) == 1
    assert any(one.startswith("11 pictures are equal to another one") for one in got.said)
    assert "1 picture of two classes at once: cat/a dog.bmp = dog/0003.png" in got.said


def test_pictures_shared_by_sets_that_a_person_made_are_said(tmp_path: Path, images: Made) -> None:
    paint_classes(tmp_path / "pics" / "train", {"a": 4, "b": 4})
    paint_classes(tmp_path / "pics" / "val", {"a": 4, "b": 4}, first=2)  # 6 of 8 are those of train
    assert any(one.startswith("6 validation images equal to training images") for one in images().said)


# --- how they become images ------------------------------------------------------------------------------------------


def decoded(path: Path, *size: int, channels: int = 3, **how: Any) -> decode.Decoded:
    height, width = size or (8, 8)
    return decode.decode(path.read_bytes(), Decoding(height, width, channels, **how), path)


def test_transparent_parts_are_white_in_every_mode_that_has_them(tmp_path: Path) -> None:
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:, :4] = 0
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    rgba = Image.fromarray(np.dstack((red, alpha)))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 255, 0, 0])
    palette.paste(0, (0, 0, 4, 8))
    grey = Image.merge("LA", (Image.new("L", (8, 8), 76), Image.fromarray(alpha)))
    for path in (
        save(rgba, tmp_path / "rgba.png"),
        save(rgba, tmp_path / "rgba.webp", lossless=True),
        save(palette, tmp_path / "palette.png", transparency=0),
        save(palette, tmp_path / "palette.gif", transparency=0),
    ):
        got = decoded(path)
        assert got.done == ("transparent parts made white",)
        assert (got.pixels[:, :, :4] == 255).all()
        assert got.pixels[:, 0, 7].tolist() == [255, 0, 0], path
    got = decoded(save(grey, tmp_path / "la.png"), channels=1)
    assert got.pixels[0, 0].tolist() == [255] * 4 + [76] * 4
    assert not got.coloured


def test_a_picture_is_upright_whatever_the_camera_says(tmp_path: Path) -> None:
    whole = Image.fromarray(np.kron(np.array([[0, 80, 160], [200, 240, 120]], np.uint8), np.ones((40, 40), np.uint8)))
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for end in ("jpg", "png", "tif", "webp"):
        for orientation, by in turned.items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            stored = whole if by is None else whole.transpose(by)
            path = save(stored, tmp_path / f"{orientation}.{end}", exif=exif)
            got = decoded(path, 40, 60, channels=1)
            centres = got.pixels[0, 10::20, 10::20]
            assert np.abs(centres.astype(int) - [[0, 80, 160], [200, 240, 120]]).max() <= 4, (end, orientation)
            assert decode.header(path.read_bytes(), path).width == 120


def test_palettes_cmyk_and_single_bits(tmp_path: Path) -> None:
    colours = Image.fromarray(np.kron([[[255, 0, 0], [0, 0, 255]]], np.ones((8, 4, 1))).astype(np.uint8))
    for path in (
        save(colours.quantize(4), tmp_path / "p.png"),
        save(colours.convert("CMYK"), tmp_path / "cmyk.tif"),
        save(colours.convert("CMYK"), tmp_path / "cmyk.jpg", quality=100),
    ):
        assert np.abs(decoded(path).pixels[:, 4, [1, 6]].T.astype(int) - [[255, 0, 0], [0, 0, 255]]).max() < 12, path
    bits = Image.fromarray(np.eye(8, dtype=bool))
    assert (decoded(save(bits, tmp_path / "1.png"), channels=1).pixels[0] == np.eye(8) * 255).all()


@pytest.mark.parametrize(
    ("resize", "size", "rows", "columns"),
    [
        # A white square of 20 in the middle of a black strip of 60x20: where its middle column and row are white.
        ("squash", (12, 12), 12, 4),
        ("crop", (12, 12), 12, 12),
        ("pad", (12, 12), 4, 4),
    ],
)
def test_a_strip_becomes_a_square(tmp_path: Path, resize: str, size: tuple[int, int], rows: int, columns: int) -> None:
    strip = np.zeros((20, 60), np.uint8)
    strip[:, 20:40] = 255
    got = decoded(save(Image.fromarray(strip), tmp_path / "a.png"), *size, channels=1, resize=resize).pixels[0]
    assert ((got[:, 6] > 127).sum(), (got[6] > 127).sum()) == (rows, columns)


def test_the_frame_has_the_colour_of_the_edge(tmp_path: Path) -> None:
    picture = np.full((8, 24, 3), (10, 200, 30), np.uint8)
    picture[2:6, 2:22] = 255
    got = decoded(save(Image.fromarray(picture), tmp_path / "a.png"), 24, 24, resize="pad").pixels
    assert (got[:, :8] == np.array([10, 200, 30])[:, None, None]).all()
    assert (got[:, 16:] == np.array([10, 200, 30])[:, None, None]).all()


def test_shrinking_looks_at_every_pixel(tmp_path: Path) -> None:
    # A checkerboard of single pixels is grey from afar: without antialias it would be black or white.
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for name in ("a.png", "a.jpg"):
        got = decoded(save(Image.fromarray(board), tmp_path / name), 16, 16, channels=1).pixels
        assert np.abs(got.astype(int) - 127).max() <= 3


def test_a_large_jpeg_is_read_at_the_size_that_is_needed_and_looks_the_same(tmp_path: Path) -> None:
    smooth = Image.fromarray(pixels(3, (6, 9, 3))).resize((1800, 1200), Image.Resampling.BICUBIC)
    jpeg = decoded(save(smooth, tmp_path / "a.jpg", quality=95), 48, 64, resize="crop").pixels.astype(int)
    png = decoded(save(smooth, tmp_path / "a.png"), 48, 64, resize="crop").pixels.astype(int)
    assert np.abs(jpeg - png).max() <= 6


def test_nobody_can_make_it_read_what_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = paint(tmp_path / "a.jpg", size=(64, 64))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(decode.PictureError, match="truncated"):
        decoded(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES  # it is somebody else's setting


def test_sixteen_bits_are_scaled_over_the_range_of_all(tmp_path: Path, images: Made) -> None:
    for i in range(8):
        deep = np.full((8, 8), 4095 if i == 0 else 2048 + i, np.uint16)
        deep[0] = 0
        save(Image.fromarray(deep), tmp_path / "pics" / "ab"[i % 2] / f"{i}.png")
    got = images()
    assert got.images.shape == (8, 1, 8, 8)
    assert (got.how.darkest, got.how.brightest) == (0, 4095)
    assert got.images[0].max() == 255
    assert 126 < got.images[1].max() < 130
    assert (
        "8 pictures of 16 bits: 0 becomes black and 4,095 white, the range of all of them, as a camera of 12 bits has it"
        in got.said
    )


@pytest.mark.parametrize(
    ("modes", "keys", "channels", "said"),
    [
        (["L"] * 6, {}, 1, ""),
        (["LA", "1", "L"] * 2, {}, 1, ""),
        # Grey in three channels is grey.
        (["grey"] * 6, {}, 1, ""),
        (
            ["L", "L", "L", "RGB", "RGB", "CMYK"],
            {},
            3,
            "3 of 6 pictures have no colours, and three equal channels here",
        ),
        (["L"] * 6, {"colour": True}, 3, "6 of 6 pictures have no colours"),
        (["RGB"] * 6, {"channels": 1}, 1, "6 pictures whose colours were made grey"),
        (["L"] * 6, {"channels": 3}, 3, "6 of 6 pictures have no colours"),
        (["L"] * 6, {"channels": 1, "colour": True}, 1, ""),
    ],
)
def test_channels_follow_from_all_pictures(
    tmp_path: Path, images: Made, modes: list[str], keys: dict[str, Any], channels: int, said: str
) -> None:
    for i, mode in enumerate(modes):
        path = tmp_path / "pics" / "ab"[i % 2] / f"{i}.tif"
        if mode == "grey":
            save(Image.fromarray(pixels(i, (8, 8))).convert("RGB"), path)
        else:
            paint(path, i, mode=mode)
    got = images(**keys)
    assert got.images.shape == (6, channels, 8, 8)
    assert [one for one in got.said if said in one] or not said
    assert bool(said) == any("colours" in one for one in got.said)


def test_the_size_follows_from_the_pictures_the_weights_or_the_study_file(tmp_path: Path, images: Made) -> None:
    for i, size in enumerate([(40, 30), (30, 40), (44, 32), (33, 33), (400, 300), (31, 44)]):
        paint(tmp_path / "pics" / "ab"[i % 2] / f"{i}.png", i, size=size)
    assert images().images.shape[2:] == (32, 32)
    assert any("32x32 pixels (dataset.image_size): the median short side is 32" in one for one in images().said)
    assert images(size=24).images.shape[2:] == (24, 24)
    assert images(size=24, image_size=20).images.shape[2:] == (20, 20)
    paint_classes(tmp_path / "big", {"a": 0, "b": 0})
    for i in range(6):
        paint(tmp_path / "big" / "ab"[i % 2] / f"{i}.jpg", i, size=(300, 300))
    got = images(f"folder:{tmp_path / 'big'}")
    assert got.images.shape[2:] == (224, 224)
    assert any("the median short side is 300, and 224 the most by default" in one for one in got.said)


@pytest.mark.parametrize(
    ("shapes", "resize"),
    [
        ([(32, 24), (24, 18)] * 5, "squash"),
        ([(24, 24), (35, 24)] * 5, "squash"),
        ([(24, 24), (37, 24)] * 5, "pad"),
        ([(32, 24), (24, 32)] * 5, "pad"),
        # All of one proportion are all squashed alike.
        ([(24, 120)] * 10, "squash"),
        # One odd picture of a hundred decides nothing.
        ([(24, 24)] * 99 + [(240, 24)], "squash"),
    ],
)
def test_pictures_of_many_proportions_are_framed(
    tmp_path: Path, images: Made, shapes: list[tuple[int, int]], resize: str
) -> None:
    for i, size in enumerate(shapes):
        paint(tmp_path / "pics" / "ab"[i % 2] / f"{i}.png", i, size=size)
    got = images(image_size=8)
    assert got.how.resize == resize
    assert any("dataset.resize = pad" in one for one in got.said) == (resize == "pad")
    assert images(image_size=8, resize="crop").how.resize == "crop"


# --- tables -----------------------------------------------------------------------------------------------------------


def write_table(folder: Path, *lines: str) -> str:
    (folder / "labels.csv").write_text("\n".join(lines), "utf-8")
    return f"csv:{folder / 'labels.csv'}"


def test_a_table_says_the_same_as_folders(pics: Path, tmp_path: Path, images: Made) -> None:
    rows = [f"pics/{name},{name.partition('/')[0]}" for name in images().names]
    random.Random(1).shuffle(rows)
    table = write_table(tmp_path, "File_Name, Label ", *rows)
    got = images(table)
    assert got.fingerprint == images().fingerprint
    assert got.names[0] == "pics/cat/0000.png"


def test_columns_of_groups_and_sets(pics: Path, tmp_path: Path, images: Made) -> None:
    names = images().names
    lines = [f"{name},{name[:3]},{i // 5}" for i, name in enumerate(names)]
    table = write_table(pics, "path,class,camera", *lines)
    got = images(table, group="camera")
    sides = [
        {int(name[-6:-4]) // 5 + (5 if "dog" in name else 0) for name in (got.names[r] for r in rows)}
        for rows in (got.train, got.validation, got.test)
    ]
    assert sum(map(len, sides)) == 4
    lines = [
        f"{name},{name[:3]},{'test' if i % 5 == 0 else 'valid' if i % 5 == 1 else 'Train'}"
        for i, name in enumerate(names)
    ]
    got = images(write_table(pics, "image,category,subset", *lines))
    assert [len(rows) for rows in (got.train, got.validation, got.test)] == [12, 4, 4]
    assert [got.names[row] for row in got.test] == [name for i, name in enumerate(names) if i % 5 == 0]


def test_a_table_is_found_where_it_lies_here(pics: Path, tmp_path: Path, images: Made) -> None:
    lines = ["file,label", *(f"{name},{name[:3]}" for name in images().names)]
    expected = images(write_table(pics, *lines)).fingerprint
    gone = "csv:/nowhere/at/all/labels.csv"
    assert images(gone, where=pics / "labels.csv").fingerprint == expected
    assert images(gone, where=pics).fingerprint == expected
    elsewhere = write_table(tmp_path, *lines)
    (pics / "labels.csv").unlink()
    assert images(elsewhere, where=pics).fingerprint == expected  # the folder to which its names are relative


def test_a_table_that_was_written_on_windows(pics: Path, images: Made) -> None:
    lines = ["file,label", *(f"{name.replace('/', chr(92))},{name[:3]}" for name in images().names)]
    (pics / "labels.csv").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    got = images(f"csv:{pics / 'labels.csv'}")
    assert (got.names, got.fingerprint) == (images().names, images().fingerprint)


@pytest.mark.parametrize(
    ("lines", "keys", "said"),
    [
        ([], {}, "must have a line of column names, and is empty"),
        (["name,label", "a,b"], {}, "line 1: there must be a column of files, called path or file or"),
        (
            ["path,kind"],
            {},
            "line 1: there must be a column of labels, called label or class or category, got path, kind",
        ),
        (["path,path,label"], {}, "line 1: the column 'path' must be there once"),
        (["path,label", "cat/0000.png"], {}, "line 2: must have 2 cells as the first line has, got 1"),
        (["path,label", "cat/0000.png,a", ",b"], {}, "line 3, column 'path': must not be empty"),
        (["path,label", "cat/0000.png, "], {}, "line 2, column 'label': must not be empty"),
        (
            ["path,label", "cat/0000.png,a", "cat/none.png,b"],
            {},
            "1 file does not: line 3: cat/none.png; name the folder",
        ),
        (["path,label", '"cat/0000.png,a'], {}, "line 2: no line of a table"),
        (
            ["path,label,set", "cat/0000.png,a,tset"],
            {},
            "column 'set': must be one of train, val, valid, validation, test, or empty, got 'tset' (did you mean 'test'?)",
        ),
        (
            ["path,label,camera", "cat/0000.png,a,1"],
            {"group": "cameras"},
            "has no column 'cameras' (did you mean 'camera'?)",
        ),
        (["path,label"], {}, "must have two classes or more, got none"),
    ],
)
def test_a_table_that_is_none_is_refused_with_line_and_column(
    pics: Path, images: Made, lines: list[str], keys: dict[str, str], said: str
) -> None:
    with pytest.raises(StudyFileError) as error:
        images(write_table(pics, *lines), **keys)
    assert said in str(error.value)
    assert "labels.csv" in str(error.value)


# --- functions --------------------------------------------------------------------------------------------------------

FUNCTIONS = """
    import numpy as np
    import torch
    from PIL import Image

    def noise(n, *shape, seed=0):
        return np.random.RandomState(seed).randint(256, size=(n, *shape)).astype(np.uint8)

    def labels(n, k=2):
        return np.arange(n) % k

    class Listed:
        def __init__(self, n=20, size=(8, 8)):
            self.n, self.size = n, size
        def __len__(self):
            return self.n
        def __getitem__(self, i):
            return Image.fromarray(noise(1, *self.size, 3, seed=i)[0]), i % 2

    class Random(Listed):
        def __getitem__(self, i):
            picture, label = super().__getitem__(i)
            return (picture.transpose(0) if np.random.rand() < .5 else picture), label

    class Broken(Listed):
        def __getitem__(self, i):
            if i == 17:
                return {}["no such key"], 0
            return super().__getitem__(i)

    class Rows(Listed):
        def __getitem__(self, i):
            picture, label = super().__getitem__(i)
            return {"image": picture, "label": label}

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(Listed())
"""


@pytest.fixture
def returned(tmp_path: Path, images: Made) -> Callable[..., OwnImages]:
    """Reads what a function returns whose body is one expression."""

    def of(expression: str, **keys: Any) -> OwnImages:
        (tmp_path / "mine.py").write_text(
            f"{textwrap.dedent(FUNCTIONS)}\ndef load(n=20):\n    return {expression}\n", "utf-8"
        )
        return images(f"{tmp_path / 'mine.py'}:load", **keys)

    return of


@pytest.mark.parametrize(
    ("expression", "shape", "classes"),
    [
        ("noise(n, 8, 9, 3), labels(n)", (20, 3, 8, 9), ("0", "1")),
        ("noise(n, 3, 8, 9), labels(n)", (20, 3, 8, 9), ("0", "1")),
        ("noise(n, 8, 9), labels(n, 3)", (20, 1, 8, 9), ("0", "1", "2")),
        ("noise(n, 8, 9, 1), labels(n)", (20, 1, 8, 9), ("0", "1")),
        # Three equal channels are one.
        ("noise(n, 8, 9, 1).repeat(3, 3), labels(n)", (20, 1, 8, 9), ("0", "1")),
        ("noise(n, 8, 9).astype(int), labels(n).astype(float)", (20, 1, 8, 9), ("0", "1")),
        ("noise(n, 8, 9) > 99, labels(n) + 3", (20, 1, 8, 9), ("3", "4")),
        ("torch.from_numpy(noise(n, 3, 8, 9)), torch.from_numpy(labels(n))", (20, 3, 8, 9), ("0", "1")),
        ("torch.from_numpy(noise(n, 3, 8, 9)) / 255, torch.from_numpy(labels(n)).tolist()", (20, 3, 8, 9), ("0", "1")),
        ("Listed(n)", (20, 3, 8, 8), ("0", "1")),
        ("[(one, label) for one, label in Listed(n)]", (20, 3, 8, 8), ("0", "1")),
        ("[(noise(1, 8, 9, 3, seed=i)[0], i % 2) for i in range(n)]", (20, 3, 8, 9), ("0", "1")),
        ("[(torch.rand(3, 8, 9), torch.tensor(i % 2)) for i in range(n)]", (20, 3, 8, 9), ("0", "1")),
        ("[Listed(1, (8 + i % 3, 9))[0][:1] + (i % 2,) for i in range(n)]", (20, 3, 9, 9), ("0", "1")),
        ("torch.utils.data.TensorDataset(torch.rand(n, 1, 8, 8), torch.arange(n) % 2)", (20, 1, 8, 8), ("0", "1")),
        ("dict(train=Listed(n), classes=['no', 'yes'])", (20, 3, 8, 8), ("no", "yes")),
    ],
)
def test_a_function_may_return_any_of_these(
    returned: Callable[..., OwnImages], expression: str, shape: tuple[int, ...], classes: tuple[str, ...]
) -> None:
    got = returned(expression)
    assert (got.images.shape, got.classes) == (shape, classes)
    assert [len(rows) for rows in (got.train, got.validation, got.test)][2] in (3, 4)
    again = returned(expression)
    if "rand(" not in expression:
        assert again.fingerprint == got.fingerprint


def test_an_array_is_taken_as_it_is(returned: Callable[..., OwnImages]) -> None:
    got = returned("dict(train=(noise(n, 8, 9, 3), labels(n)), validation=Listed(6, (8, 9)), test=Listed(4, (8, 9)))")
    generator = np.random.RandomState(0)
    given = generator.randint(256, size=(20, 8, 9, 3)).astype(np.uint8)
    assert (got.images[:20] == given.transpose(0, 3, 1, 2)).all()
    assert [len(rows) for rows in (got.train, got.validation, got.test)] == [20, 6, 4]
    assert got.names[18:22] == ("train/18", "train/19", "validation/0", "validation/1")
    assert got.labels.tolist() == [i % 2 for n in (20, 6, 4) for i in range(n)]


def test_what_a_function_returns_is_resized_where_that_is_asked_for(returned: Callable[..., OwnImages]) -> None:
    assert returned("noise(n, 8, 9, 3), labels(n)", image_size=4).images.shape == (20, 3, 4, 4)
    assert returned("noise(n, 8, 9, 3), labels(n)", size=12).images.shape == (20, 3, 12, 12)
    assert returned("noise(n, 8, 9), labels(n)", colour=True).images.shape == (20, 3, 8, 9)


def test_args_and_the_folder_here_reach_the_function(tmp_path: Path, images: Made) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef load(data_dir, n):\n    return np.load(data_dir / 'x.npy')[:n], np.arange(n) % 2\n",
        "utf-8",
    )
    np.save(tmp_path / "x.npy", pixels(0, (30, 8, 8)))
    got = images(f"{tmp_path / 'mine.py'}:load", where=tmp_path, args={"n": 12})
    assert got.images.shape == (12, 1, 8, 8)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("Random()", "of train must be the same each time it is read, and is not: leave random transforms out of"),
        ("Broken()", "reading item 17 of train, raised KeyError: 'no such key'"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("Stream()", "got Stream, which has no length and no items by number: return a list of its items"),
        ("(one for one in Listed())", "got generator, which has no length and no items by number"),
        ("torch.utils.data.DataLoader(Listed())", "must be a dataset, got a DataLoader: return its dataset"),
        ("Rows()", "item 0 of train must be (picture, label), got a mapping of image, label"),
        ("None", "must be (images, labels) as arrays or tensors, or a dataset"),
        ("'pics'", "must be (images, labels) as arrays or tensors, or a dataset"),
        ("[]", "must hold pictures, and is empty"),
        ("dict(training=Listed())", "must return a mapping of train, validation, test, classes, got 'training' (did you mean 'train'?)"),
        ("dict(test=Listed())", "must return training images under 'train', and returns none"),
        ("noise(n, 8, 8) / 25., labels(n)", "images of float64 must lie between 0 and 1, got 0 to 10.2"),
        ("(torch.rand(n, 3, 8, 8) - .5) / .2, labels(n)", "leave out what normalises them, which is done here"),
        ("[(torch.rand(3, 8, 8) - .5, i % 2) for i in range(n)]", "item 0 of train: images of float32 must lie between 0 and 1"),
        ("noise(n, 8, 8) * np.nan, labels(n)", "must lie between 0 and 1, got nan to nan"),
        ("noise(n, 8, 8).astype(int) * 2, labels(n)", "must lie between 0 and 255, got 0 to 510"),
        ("noise(n, 8, 8).astype(complex), labels(n)", "images must be uint8, or numbers from 0 to 1, got complex128"),
        ("noise(n, 8, 8, 4), labels(n)", "must have 1 or 3 channels, at the front or at the end, and [20, 8, 8, 4] has neither"),
        ("noise(n, 3, 8, 3), labels(n)", "[20, 3, 8, 3] may be either"),
        ("noise(n, 2, 3, 8, 8), labels(n)", "images must be [n, h, w], [n, h, w, c] or [n, c, h, w], got [20, 2, 3, 8, 8]"),
        ("noise(n, 8, 8), labels(n)[:9]", "labels must be [20], a class number for each image, got [9]"),
        ("noise(n, 8, 8), np.eye(n)", "labels must be [20], a class number for each image, got [20, 20]"),
        ("noise(n, 8, 8), labels(n) - 1", "a label must be a class number, 0 or more, got -1"),
        ("noise(n, 8, 8), labels(n) + .5", "a label must be a class number, 0 or more, got 0.5"),
        ("noise(n, 8, 8), labels(n).astype(str)", "a label must be a class number, 0 or more, got '0'"),
        ("noise(n, 8, 8), labels(n) * 0", "must have two classes or more, got one class, '0'"),
        ("dict(train=(noise(n, 8, 8), labels(n)), classes=['one'])", "the label of train/1 must be 0 to 0, the classes, got 1"),
        ("dict(train=(noise(n, 8, 8), labels(n)), classes=['a', 'b', 'c'])", "every class must have a training picture, and c has none"),
        ("dict(train=Listed(), validation=(noise(4, 8, 8, 3), labels(4) + 1))", "the label of validation/1 must be a label of a training image, got 2"),
        ("[(Image.fromarray(noise(1, 8, 8)[0].astype(np.uint16)), i % 2) for i in range(n)]", "must be a picture of bytes, and has Pillow's mode I;16"),
    ],
)  # fmt: skip
def test_what_a_function_returns_and_is_no_data_set_is_refused(
    returned: Callable[..., OwnImages], expression: str, said: str
) -> None:
    with pytest.raises(StudyFileError) as error:
        returned(expression)
    assert said in str(error.value)
    assert str(error.value).startswith("dataset.")
    assert "mine.py" in str(error.value) or "item" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_defect_in_a_persons_function_is_told_with_its_file_and_line(
    returned: Callable[..., OwnImages], tmp_path: Path
) -> None:
    with pytest.raises(StudyFileError, match=rf"raised KeyError: 'no such key' \({tmp_path / 'mine.py'}, line 32\)"):
        returned("Broken()")


# --- the cache --------------------------------------------------------------------------------------------------------


def inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in folder.glob("*/images.npy")}


def test_pictures_are_decoded_once(pics: Path, tmp_path: Path, images: Made) -> None:
    first = images()
    kept = inodes(tmp_path / "cache")
    assert images().fingerprint == first.fingerprint
    assert inodes(tmp_path / "cache") == kept
    # Another split is drawn from the same bytes; another size is not.
    assert images(split_seed=1).fingerprint != first.fingerprint
    assert inodes(tmp_path / "cache") == kept
    images(image_size=4)
    assert len(inodes(tmp_path / "cache")) == 2
    assert not [*tmp_path.glob("cache/*.part")]


def test_the_fingerprint_knows_no_path(pics: Path, tmp_path: Path, images: Made) -> None:
    expected = images().fingerprint
    pics.rename(tmp_path / "elsewhere")
    assert images(where=tmp_path / "elsewhere").fingerprint == expected
    other = read(DatasetSpec(name=f"folder:{tmp_path / 'elsewhere'}"), cache=tmp_path / "another cache")
    assert other.fingerprint == expected
    (tmp_path / "elsewhere" / "dog").rename(tmp_path / "elsewhere" / "fox")
    assert images(where=tmp_path / "elsewhere").fingerprint != expected  # a class is called otherwise


def test_a_changed_picture_is_noticed_even_if_its_time_is_set_back(pics: Path, images: Made) -> None:
    path = pics / "cat" / "0000.png"
    for one in pics.rglob("*.png"):
        os.utime(one, (1e9, 1e9))
    before, status = images(), path.stat()
    other = pixels(999)
    Image.fromarray(other).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = images()
    assert (after.images[0].transpose(1, 2, 0) == other).all()
    assert after.fingerprint != before.fingerprint


def test_only_what_is_new_is_read_again(pics: Path, images: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    read_files: list[str] = []
    truly = decode.read_file
    monkeypatch.setattr(decode, "read_file", lambda path: read_files.append(path.name) or truly(path))
    settled = time.time() - 10
    images()
    assert len(read_files) == 40  # once to look at it, once to decode it
    # What was changed a moment ago may change again within the same tick, and is not believed.
    read_files.clear()
    images()
    assert len(read_files) == 20
    assert settled < time.time()
    monkeypatch.setattr("lrsearch.pictures.survey.SETTLED_SECONDS", 0.0)
    images()
    read_files.clear()
    images()
    assert read_files == []
    paint(pics / "dog" / "new.png", 77)
    images()
    assert read_files.count("new.png") == 2
    assert len(read_files) == 1 + 21


def program(folder: Path, pictures: Path, more: str = "") -> list[str]:
    code = f"""
        from pathlib import Path
        from lrsearch.pictures import work, cache
        from lrsearch.pictures.own import read
        from lrsearch.spec.study import DatasetSpec
        work.WORTH_SECONDS = 0.0
        cache.AT_ONCE = 8
        {more}
        got = read(DatasetSpec(name="folder:{pictures}", image_size=32), cache=Path({str(folder)!r}))
        print(got.fingerprint)
    """
    return [sys.executable, "-c", textwrap.dedent(code)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred pictures that take a second or two to decode."""
    root = tmp_path_factory.mktemp("many")
    paint_classes(root, {"a": 1, "b": 1})
    whole = Image.fromarray(pixels(0, (700, 700, 3)))
    save(whole, root / "a.png", compress_level=1)
    content = (root / "a.png").read_bytes()
    for i in range(400):
        # Different files of one picture: what stands behind its end is nobody's.
        (root / "ab"[i % 2] / f"{i}.png").write_bytes(content + str(i).encode())
    (root / "a.png").unlink()
    return root


def lines_of(cache_folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in cache_folder.glob("*.part/index.jsonl"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_was_decoded_before_an_interruption_is_kept(many: Path, tmp_path: Path, how: signal.Signals) -> None:
    place = tmp_path / "cache"
    process = subprocess.Popen(program(place, many), stderr=subprocess.PIPE, process_group=0)
    wait_until(lambda: lines_of(place) >= 5 or process.poll() is not None)
    os.killpg(process.pid, how)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == -how
    kept = lines_of(place)
    assert 5 <= kept < 51, "it was not interrupted in the middle"
    (part,) = place.glob("*.part")
    (part / "index.jsonl").open("a").write("[12, 3")  # cut off in the middle of a line
    counting = "from lrsearch.pictures import decode; truly = decode.decode; n = []; decode.decode = lambda *a: n.append(1) or truly(*a); cache.spread = lambda work, tasks: map(work, tasks); import atexit; atexit.register(lambda: print(len(n)))"
    again = subprocess.run(program(place, many, counting), capture_output=True, text=True, check=True)
    fingerprint, n_decoded = again.stdout.split()
    assert int(n_decoded) <= 402 - 8 * (kept - 1)
    fresh = subprocess.run(program(tmp_path / "fresh", many), capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == [fingerprint]


def test_a_piece_that_is_not_as_the_index_says_is_decoded_again(pics: Path, tmp_path: Path, images: Made) -> None:
    whole = np.array(images().images)
    (made,) = (path for path in (tmp_path / "cache").iterdir() if (path / "images.npy").exists())
    document = json.loads((made / "pictures.json").read_text())
    (made / "pictures.json").unlink()
    part = made.rename(made.with_name(f"{made.name}.part"))
    rows = document["readings"]
    (part / "index.jsonl").write_text(json.dumps([0, 12345, rows]) + "\n")
    broken = np.load(part / "images.npy", mmap_mode="r+")
    broken[3] = 0
    del broken
    assert (images().images == whole).all()


def test_two_processes_at_once_decode_once(many: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    both = [
        subprocess.Popen(program(place, many), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=DEADLINE_SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(inodes(place)) == 1
    assert not [*place.glob("*.part")]


def test_no_process_is_left_over_and_none_runs_the_main_program_again(many: Path, tmp_path: Path) -> None:
    # A script without `if __name__ == "__main__"`, as people write them.
    script = tmp_path / "script.py"
    script.write_text(
        f"print('started')\n{textwrap.dedent(program(tmp_path / 'cache', many)[2])}\n"
        "import psutil\nprint([one.name() for one in psutil.Process().children(recursive=True) if 'python' in one.name() and one.status() != 'zombie' and 'resource_tracker' not in ' '.join(one.cmdline())])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (len(lines), lines[0], lines[2]) == (3, "started", "[]")


def test_the_processes_give_what_one_gives(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrsearch.cores.available", lambda: 1)
    alone = read(DatasetSpec(name=f"folder:{many}", image_size=32), cache=tmp_path / "alone")
    monkeypatch.undo()
    monkeypatch.setattr(work, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(cache, "AT_ONCE", 16)
    together = read(DatasetSpec(name=f"folder:{many}", image_size=32), cache=tmp_path / "together")
    assert together.fingerprint == alone.fingerprint


def _decode_where_there_is_no_room(folder: str, pictures: str, said: str, read_only: bool) -> None:
    """In a child: decode into a file system that is too small, or cannot be written."""
    mounts.alone()
    mounts.tmpfs(Path(folder), 1 << 16)
    if read_only:
        mounts.make_read_only(Path(folder))
    try:
        read(DatasetSpec(name=f"folder:{pictures}", image_size=64), cache=Path(folder))
    except LrsearchError as error:
        Path(said).write_text(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize(
    ("read_only", "words"),
    [
        (False, "whose disk is full: make room, or name another folder with LRSEARCH_CACHE"),
        (True, "which cannot be used: Read-only file system"),
    ],
)
def test_a_full_or_read_only_disk_is_said(pics: Path, tmp_path: Path, read_only: bool, words: str) -> None:
    if reason := mounts.available():
        pytest.skip(reason)
    small, said = tmp_path / "small", tmp_path / "said"
    small.mkdir()
    assert finished(started(_decode_where_there_is_no_room, str(small), str(pics), str(said), read_only)) == 0
    assert said.read_text().startswith("DataError: decoded pictures are kept in ")
    assert words in said.read_text()


def test_a_cache_that_was_damaged_is_said(pics: Path, tmp_path: Path, images: Made) -> None:
    images()
    for path in (tmp_path / "cache").glob("*/images.npy"):
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="are damaged .* delete that folder"):
        images()


def test_the_cache_lies_where_the_environment_says(pics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    read(DatasetSpec(name=f"folder:{pics}"))
    assert len(inodes(tmp_path / "home" / "lrsearch" / "pictures")) == 1
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "fast"))
    read(DatasetSpec(name=f"folder:{pics}"))
    assert len(inodes(tmp_path / "fast" / "pictures")) == 1


def test_nothing_is_written_but_the_cache(pics: Path, tmp_path: Path, images: Made) -> None:
    before = {path: path.stat().st_mtime_ns for path in pics.rglob("*")}
    images()
    assert {path: path.stat().st_mtime_ns for path in pics.rglob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"pics", "cache"}
    assert [*Path.cwd().iterdir()] == []


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_of_any_letters_are_the_same_on_every_machine(tmp_path: Path, images: Made) -> None:
    composed = paint_classes(tmp_path / "one", {"größe": 4, "猫": 4, "a b\n": 4})
    shutil.copytree(composed, tmp_path / "two")
    (tmp_path / "two" / "größe").rename(tmp_path / "two" / unicodedata.normalize("NFD", "größe"))
    one, two = (images(f"folder:{tmp_path / name}") for name in ("one", "two"))
    assert one.classes == ("a b\n", "größe", "猫")
    assert (one.classes, one.names, one.fingerprint) == (two.classes, two.names, two.fingerprint)


def test_names_that_look_the_same_are_refused(tmp_path: Path, images: Made) -> None:
    paint_classes(tmp_path / "pics", {"é": 2, unicodedata.normalize("NFD", "é"): 2, "b": 2})
    if len(os.listdir(tmp_path / "pics")) < 3:
        pytest.skip("this file system takes them for one name")
    with pytest.raises(StudyFileError, match=r"accents written in two ways \(e\\u0301 and \\xe9\)"):
        images()


def test_links_are_followed_once_and_loops_end(tmp_path: Path, images: Made) -> None:
    root = paint_classes(tmp_path / "pics", {"a": 4, "b": 4})
    (root / "a" / "loop").symlink_to("..")
    (root / "c").symlink_to("b")
    far = paint_classes(tmp_path / "far", {"x": 3}, first=50)
    (root / "d").symlink_to(far / "x")
    (root / "a" / "link.png").symlink_to(far / "x" / "0000.png")
    (root / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    seen = look(DatasetSpec(name=f"folder:{root}"), cache=tmp_path / "cache")
    assert [(row.name, row.found, row.bad) for row in seen.classes] == [("a", 6, 1), ("b", 4, 0), ("d", 3, 0)]
    assert seen.known.bad == (("a/gone.png", "cannot be read: No such file or directory"),)
    assert "skipped 2 links to a folder that was read under another name: c, a/loop" in seen.said
    (root / "a" / "gone.png").unlink()
    assert "1 picture of two classes at once: a/link.png = d/0000.png" in images().said

"""Pictures of a person's own: found in folders, tables and functions, decoded once, kept, and found again."""

import os
import random
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import Made, paint, paint_classes, pixels, save
from PIL import Image

from lrsearch.errors import StudyFileError
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding
from lrsearch.pictures.look import look
from lrsearch.spec.study import DatasetSpec

pytest_plugins = ["painted"]


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
    assert got.warnings == ()
    assert got.said == ("images are 8x8 pixels (dataset.image_size): the median short side is 8",)
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
    assert "skipped 1 folder beside train, val and test: annotations" in got.warnings


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
    assert got.warnings == ("1 picture of two classes at once: cat/a dog.bmp = dog/0003.png",)
    assert look(DatasetSpec(name=f"folder:{pics}"), cache=pics.with_name("cache")).n_equal == 11


def test_pictures_shared_by_sets_that_a_person_made_are_said(tmp_path: Path, images: Made) -> None:
    paint_classes(tmp_path / "pics" / "train", {"a": 4, "b": 4})
    paint_classes(tmp_path / "pics" / "val", {"a": 4, "b": 4}, first=2)  # 6 of 8 are those of train
    assert any(
        one.startswith("6 validation images equal to training images") for one in images(test_fraction=0).warnings
    )


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
        "8 pictures of 16 bits: 0 becomes black and 4,095 white, the range of all of them, "
        "as a camera of 12 bits has it" in got.warnings
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
            "line 2, column 'set': must be one of train, val, valid, validation, test, or empty, got 'tset' (did",
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
    if len(list((tmp_path / "pics").iterdir())) < 3:
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
    (root / "a" / "itself").symlink_to("itself")
    seen = look(DatasetSpec(name=f"folder:{root}"), cache=tmp_path / "cache")
    assert [(row.name, row.found, row.bad) for row in seen.classes] == [("a", 6, 1), ("b", 4, 0), ("d", 3, 0)]
    assert seen.known.bad == (("a/gone.png", "cannot be read: No such file or directory"),)
    assert "skipped 2 links to a folder that was read under another name: c, a/loop" in seen.said
    (root / "a" / "gone.png").unlink()
    assert "1 picture of two classes at once: a/link.png = d/0000.png" in images().warnings


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path, images: Made) -> None:
    paint_classes(tmp_path / "pics", {"a": 3, "b": 3})
    try:
        (tmp_path / "pics" / "a").rename(os.fsdecode(os.fsencode(tmp_path / "pics") + b"/gr\xfcn"))
    except OSError:
        pytest.skip("this file system takes text only")
    with pytest.raises(StudyFileError, match=r"must be text in UTF-8, and 'gr\\udcfcn'"):
        images()


def test_a_pipe_among_the_pictures_is_no_picture(pics: Path, images: Made) -> None:
    os.mkfifo(pics / "cat" / "pipe.png")
    with pytest.raises(StudyFileError, match=r"1 of 21 pictures cannot be read: cat/pipe.png is no file"):
        images()


def test_a_folder_in_which_nothing_can_be_read_is_refused(tmp_path: Path, images: Made) -> None:
    for name in ("a", "b"):
        for i in range(3):
            path = paint(tmp_path / "pics" / name / f"{i}.jpg", size=(64, 64))
            path.write_bytes(path.read_bytes()[:-300])  # whole at its beginning
    for keys in ({}, {"on_error": "skip"}):
        with pytest.raises(StudyFileError, match=r"6 of 6 pictures cannot be read: a/0.jpg is damaged"):
            images(**keys)

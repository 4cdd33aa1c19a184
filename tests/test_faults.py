"""Twenty-six faults that people meet with other tools: an input each, what is said of it, the exit code.

The rows and their order are those of the list of faults that these tools' users have reported. All go through the
command line; what is refused is refused by a look and by a search alike, before trial 0, in one sentence.
"""

import shutil
import struct
import textwrap
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import InProcess, contents, one_line
from painted import paint, paint_classes, pixels, save
from PIL import Image

pytest_plugins = ["command_line"]

OK, REFUSED = 0, 2
STUDY = {"lrsearch.db", "lrsearch.artifacts"}
"""What a search leaves where it is begun."""


@dataclass(frozen=True)
class Row:
    """An input, and what must come of it."""

    number: str
    """Of the fault."""
    make: Callable[[Path], object]
    """Makes what is looked at: the folder ``pics``, which it is given, or beside it."""
    code: int
    said: tuple[str, ...]
    """Parts of the one sentence on stderr where it is refused, and of what is printed otherwise."""
    options: tuple[str, ...] = ()
    data: str = "folder:pics"
    model: str = ""
    """Where it is a model that is looked at."""
    document: dict[str, Any] = field(default_factory=dict)
    """Parts of the JSON document of a look; of what is searched, of the last epoch of its trial."""
    is_searched: bool = False
    """Whether a look does not tell, and one trial is trained."""
    marks: tuple[pytest.MarkDecorator, ...] = ()

    @property
    def look(self) -> tuple[str, ...]:
        """The command that looks at it."""
        if self.model:
            return ("model", self.model, "--dataset", self.data, *self.options)
        return ("data", self.data, *self.options)

    @property
    def search(self) -> tuple[str, ...]:
        """The command that searches with it."""
        model = self.model or "mlp"
        return ("run", "--dataset", self.data, "--model", model, "--trials", "1", "--epochs", "1", *self.options)


# --- pictures --------------------------------------------------------------------------------------------------------


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


# --- functions of one's own -------------------------------------------------------------------------------------------


DATA = """
    import random

    import torch
    from PIL import Image

    class Pictures:
        def __len__(self):
            return 20
        def __getitem__(self, i):
            return Image.effect_noise((32, 32), 50), i % 2

    class Crops(Pictures):
        def __getitem__(self, i):
            left = random.randrange(20)
            return Image.effect_noise((60, 60), 50).crop((left, 0, left + 32, 32)), i % 2

    class OnTheDevice(Pictures):
        def __getitem__(self, i):
            return torch.full((1, 8, 8), i / 20).cuda(), torch.tensor(i % 2).cuda()

    def crops():
        return Crops()

    def device():
        return OnTheDevice()
"""

NET = """
    from types import SimpleNamespace

    import numpy as np
    import torch
    from torch import nn
    from torchvision.models.inception import InceptionOutputs

    GENERATOR = torch.Generator()

    class Net(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.body, self.norm, self.head = nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Linear(16, num_classes)

        def features(self, x):
            return torch.relu(self.norm(self.body(x.flatten(1))))

        def forward(self, x):
            return self.head(self.features(x))

    def large(logits, labels):
        return 1e4 * nn.functional.cross_entropy(logits, labels)
"""


def functions(root: Path) -> None:
    """Write functions that return data sets."""
    root.with_name("mine.py").write_text(textwrap.dedent(DATA), "utf-8")


def net(
    forward: str = "return super().forward(x)", build: str = "return Own(num_classes)", n_train: int = 33
) -> Callable[[Path], None]:
    """Return what writes pictures of three classes, so many of them to train on, and a network with this forward."""

    def make(root: Path) -> None:
        for number, (part, n) in enumerate({"train": n_train, "val": 9, "test": 9}.items()):
            paint_classes(root / part, {name: (n + i) // 3 for i, name in enumerate("abc")}, 500 * number)
        body, function = (textwrap.indent(code, " " * depth) for code, depth in ((forward, 8), (build, 4)))
        own = f"class Own(Net):\n    def forward(self, x):\n{body}\n\n\ndef build(num_classes):\n{function}\n"
        root.with_name("net.py").write_text(f"{textwrap.dedent(NET)}\n\n{own}", "utf-8")

    return make


N_TRAINED = (192 + 1) * 16 + 2 * 16 + (16 + 1) * 3
"""Parameters of that network."""
OWN = "net.py:build"


def nothing(root: Path) -> None:
    """Write pictures alone, for a model of a package."""
    paint_classes(root, dict.fromkeys("abc", 6))


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
        "7, in the answer",
        lambda root: paint_classes(root, {"a": 90, "b": 9, "c": 1}),
        OK,
        (
            "always 'a': accuracy 0.933 in validation, 0.900 in the test; balanced accuracy 0.500",
            "balanced accuracy 0.",
            "by class",
        ),
        ("--set", "training.class_weights=1"),
        is_searched=True,
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
    Row("18", net(), OK, ("normalises by batch",), model=OWN, document={"batch_norm": True}),
    Row(
        "18, trained",
        net(),
        OK,
        ("0 epoch 1/1", "< 0 complete"),
        # 33 pictures in batches of 32.
        ("--set", "space.batch_size=[32]"),
        model=OWN,
        is_searched=True,
    ),
    Row("19", net("return SimpleNamespace(logits=super().forward(x))"), OK, (), model=OWN, document={"said": []}),
    Row("19, mapping", net("return {'logits': super().forward(x), 'x': x}"), OK, (), model=OWN, document={"said": []}),
    Row(
        "19, tuple",
        net("return super().forward(x), x"),
        REFUSED,
        ("model.name", "must return logits [images, classes]", "it returned a tuple of 2", "net.py, line "),
        model=OWN,
    ),
    Row(
        "19, GoogLeNet",
        nothing,
        OK,
        (),
        ("--set", "dataset.image_size=64"),
        model="torchvision/googlenet",
        document={"said": []},
        marks=(pytest.mark.slow,),
    ),
    Row(
        "19, Inception",
        net("y = super().forward(x)\nreturn InceptionOutputs(y, 2 * y) if self.training else y"),
        OK,
        (),
        model=OWN,
        document={"said": []},
    ),
    Row(
        "20",
        net(build="return Own(num_classes).requires_grad_(False)"),
        REFUSED,
        ("model.name", "has no trainable parameter: at least its head must be trained", "net.py, line "),
        model=OWN,
    ),
    Row(
        "20, in part",
        net(),
        OK,
        (f"parameters  {N_TRAINED - 193 * 16 - 32:,} trained, {193 * 16 + 32:,} frozen",),
        ("--set", 'model.freeze=["body", "norm"]'),
        model=OWN,
        # What is frozen normalises by what it has learned, and no longer by the batch.
        document={"batch_norm": False},
    ),
    Row(
        "21",
        net(
            "return super().forward(x) + self.more(self.features(x))",
            "own = Own(num_classes)\nown.more = nn.Linear(16, num_classes)\n"
            "own.more.weight = own.head.weight\nreturn own",
        ),
        OK,
        ("tied        head.weight = more.weight",),
        model=OWN,
        document={"tied": [["head.weight", "more.weight"]], "parameters": N_TRAINED + 3},
    ),
    Row(
        "22",
        net(build="own = Own(num_classes)\nown.body = nn.LazyLinear(16)\nreturn own"),
        OK,
        (),
        model=OWN,
        document={"parameters": N_TRAINED},
    ),
    Row(
        "23",
        net("return super().forward(x) + torch.randn((), generator=GENERATOR) * self.training"),
        OK,
        ("does not repeat exactly", "does not train twice alike from one state"),
        model=OWN,
        document={"repeats": False},
    ),
    Row(
        "23, in the answer",
        net("return super().forward(x) + torch.randn((), generator=GENERATOR) * self.training"),
        OK,
        ("Two trainings of this model from one state differ",),
        model=OWN,
        is_searched=True,
    ),
    Row(
        "23, seeded",
        # The engine seeds NumPy's generator before every update.
        net("return super().forward(x) + np.random.randn() * self.training"),
        OK,
        ("draws random numbers in training, repeats exactly",),
        model=OWN,
        document={"draws": True, "repeats": True},
    ),
    Row(
        "24",
        # Updates whose gradients are not finite in fp16 are left out, and are updates of the schedule all the same.
        net(),
        OK,
        ("0 epoch 1/10", "lr=0.00299", "0 epoch 10/10", "lr=8.12e-06", "< 0 complete"),
        (
            *("--set", "training.precision=fp16", "--set", "model.loss=net.py:large", "--epochs", "10"),
            *("--set", "space.batch_size=[8]", "--set", "space.optimizer=adamw"),
        ),
        model=OWN,
        document={"step": 10 * 4},
        is_searched=True,
    ),
    Row(
        "25",
        # Four parts of 8 are an update of 32, and the last one has a part of 4.
        net(n_train=100),
        OK,
        ("normalises parts of at most so many", "lr=0.0147", "< 0 complete"),
        ("--set", "training.micro_batch=8", "--set", "space.batch_size=[32]"),
        model=OWN,
        document={"step": 4},
        is_searched=True,
    ),
    Row(
        "26",
        functions,
        REFUSED,
        ("dataset.name: item 0 of train must be the same each time", "leave random transforms out of"),
        data="mine.py:crops",
    ),
    Row(
        "26, on the device",
        functions,
        OK,
        (),
        data="mine.py:device",
        document={"n_found": 20},
        marks=(pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
    ),
)


ALL = [pytest.param(row, id=row.number, marks=row.marks) for row in ROWS]


def test_every_fault_has_its_rows_in_their_order() -> None:
    numbers = [int(row.number.partition(",")[0]) for row in ROWS]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 27))


@pytest.mark.parametrize("row", ALL)
def test_a_fault_of_others_is_said_or_refused(row: Row, tmp_path: Path, lrsearch: InProcess) -> None:
    row.make(tmp_path / "pics")
    before = contents(tmp_path)
    command = row.search if row.is_searched else row.look
    result = lrsearch(*command)
    assert result.code == row.code, result.err
    text = one_line(result) if row.code else " ".join(f"{result.out} {result.err} ".split("\n"))
    for words in row.said:
        assert words in text, text
    if row.code != OK:
        searched = lrsearch(*row.search)
        assert searched.code == row.code
        text = one_line(searched)
        assert [words for words in row.said if words not in text] == [], text
    elif row.is_searched:
        ((trial,), wanted) = lrsearch("trials", "--json").document["trials"], row.document
        assert {key: trial["metrics"][-1][key] for key in wanted} == wanted
    else:
        found = lrsearch(*row.look, "--json")
        assert found.code == OK
        assert {key: found.document[key] for key in row.document} == row.document
        assert found.document.get("refused") is None
    # Nothing lies there afterwards but the cache, and what a search is begun for.
    left = {name: what for name, what in contents(tmp_path).items() if not name.startswith(".cache")}
    assert {name for name in left if name.split("/")[0] not in STUDY} == set(before)
    assert {name: left[name] for name in before} == before
    assert row.is_searched or STUDY.isdisjoint(left)

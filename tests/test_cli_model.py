"""`lrsearch model`: what it prints of a model, and what it refuses."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
from command_line import InProcess, one_line
from PIL import Image

from lrsearch.cli.model import SCHEMA, STEM_RATIO

pytest_plugins = ["command_line"]

NET = """
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x):
            return x + self.b(self.a(x).relu())

    def build(num_classes, input_shape, width=8):
        c, h, w = input_shape
        return nn.Sequential(
            nn.Flatten(), nn.Linear(c * h * w, width), Block(width), Block(width), nn.Linear(width, num_classes)
        )
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(NET))
    return path


def test_the_table_of_levels_by_hand(lrsearch: InProcess, net: Path) -> None:
    seen = lrsearch("model", f"{net}:build", "--dataset", "cifar10", "--json")
    assert (seen.code, seen.err) == (0, "")
    found = seen.document
    assert (found["schema"], found["shape"], found["n_classes"]) == (SCHEMA, [3, 32, 32], 10)
    first, block, head = 3072 * 8, 2 * 8 * 8, 8 * 10
    rows = [(row["parameters"], row["decayed"], row["frozen"]) for row in found["levels"]]
    assert rows == [(first + 8, first, 0), *[(block + 16, block, 0)] * 2, (head + 10, head, 0)]
    assert found["parameters"] == sum(n for n, *_ in rows)
    shares = [STEM_RATIO ** (depth / 3) for depth in (3, 2, 1, 0)]
    assert [row["lr_share"] for row in found["levels"]] == pytest.approx(shares)
    assert [row["names"][0] for row in found["levels"]] == ["1.weight", "2.a.weight", "3.a.weight", "4.weight"]
    assert (found["tied"], found["said"], found["weights_sha256"]) == ([], [], None)
    assert len(found["code_sha256"]) == 64


def test_a_person_reads_the_same(lrsearch: InProcess, net: Path) -> None:
    seen = lrsearch("model", f"{net}:build", "--set", "model.args={width=4}", "--set", 'model.freeze="2"')
    assert (seen.code, seen.err) == (0, "")
    lines = seen.out.splitlines()
    assert lines[:4] == [
        f"model       {net}:build",
        "images      1x28x28, 10 classes of digits",
        "parameters  3,230 trained, 40 frozen",
        "training    repeats exactly",
    ]
    table = [line.split() for line in lines[-4:]]
    assert [row[0] for row in table] == ["0", "1", "2", "3"]
    assert [row[-1] for row in table] == ["0.1", "frozen", "0.316", "1"]
    assert " 2.a .. 2.b " in lines[-3]


def test_the_model_is_looked_at_as_it_would_be_searched_with(lrsearch: InProcess) -> None:
    seen = lrsearch("model", "torchvision/resnet18", "--set", "model.freeze=backbone", "--json")
    assert seen.code == 0
    levels = seen.document["levels"]
    assert [row["lr_share"] for row in levels] == [None] * 9 + [1.0]
    assert seen.document["parameters"] == 512 * 10 + 10
    assert seen.document["batch_norm"] is False  # it is frozen


def test_pictures_of_ones_own_decide_the_sizes(
    lrsearch: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for name in ("ape", "bee", "cow"):
        folder = tmp_path / "pics" / name
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    seen = lrsearch("model", "resnet9", "--dataset", "folder:pics", "--set", "dataset.image_size=16", "--json")
    assert seen.code == 0
    assert (seen.document["shape"], seen.document["n_classes"]) == ([3, 16, 16], 3)
    assert seen.document["batch_norm"] is True


def test_what_should_be_minded_is_printed(lrsearch: InProcess, net: Path) -> None:
    last = "nn.Linear(width, num_classes)"
    net.write_text(net.read_text().replace(last, f"{last}, nn.Softmax(1)"))
    seen = lrsearch("model", f"{net}:build")
    assert seen.code == 0
    assert "* model.name: " in seen.out
    assert "seems to return probabilities" in " ".join(seen.out.split())  # a long path breaks the line


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nets.py:build"], "model.name: there is no file "),
        (["resnet18"], "model.name: "),
        (["torchvision/resnet19"], "(did you mean 'resnet18'?)"),
        (["net.py:built"], "has no function 'built' (did you mean 'build'?)"),
        (["mlp", "--weights", "DEFAULT"], "model.weights: 'DEFAULT' names weights of a package, and mlp is of none"),
        (["mlp", "--dataset", "folder:nowhere"], "nowhere"),
        (["mlp", "--set", "model.freez=x"], "unknown key 'model.freez' (did you mean 'freeze'?)"),
        (["resnet9", "--set", "model.freeze=convs"], "model.freeze: no parameter's name begins with 'convs'"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_one_sentence(
    argv: list[str], sentence: str, lrsearch: InProcess, net: Path
) -> None:
    assert net.exists()
    seen = lrsearch("model", *argv)
    assert (seen.code, seen.out) == (2, "")
    assert sentence in one_line(seen)


def test_nothing_is_written(lrsearch: InProcess, net: Path, tmp_path: Path) -> None:
    assert lrsearch("model", f"{net}:build").code == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["net.py"]

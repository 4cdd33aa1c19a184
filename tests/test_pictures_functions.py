"""Pictures that a person's own function returns: what it may be, and what is said of all else."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import Made, pixels

from lrsearch.errors import StudyFileError
from lrsearch.pictures.own import OwnImages

pytest_plugins = ["painted"]

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
            if i >= self.n:
                raise IndexError(i)
            return Image.fromarray(noise(1, *self.size, 3, seed=i)[0]), i % 2

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
        (
            "[(Image.fromarray(noise(1, 8 + i % 3, 9, 3, seed=i)[0]), i % 2) for i in range(n)]",
            (20, 3, 9, 9),
            ("0", "1"),
        ),
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
        ("Broken()", "reading item 17 of train, raised KeyError: 'no such key'"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("Stream()", "got Stream, which has no length and no items by number: return a list of its items"),
        ("(one for one in Listed())", "got generator, which has no length and no items by number"),
        ("torch.utils.data.DataLoader(Listed())", "must be a dataset, got a DataLoader: return its dataset"),
        ("Rows()", "item 0 of train must be (picture, label), got a mapping of image, label"),
        ("None", "must be (images, labels) as arrays or tensors, or a dataset"),
        ("'pics'", "must be (images, labels) as arrays or tensors, or a dataset"),
        ("[]", "must hold pictures, and is empty"),
        (
            "dict(training=Listed())",
            "must return a mapping of train, validation, test, classes, got 'training' (did you mean 'train'?)",
        ),
        ("dict(test=Listed())", "must return training images under 'train', and returns none"),
        ("noise(n, 8, 8) / 25., labels(n)", "images of float64 must lie between 0 and 1, got 0 to 10.2"),
        ("(torch.rand(n, 3, 8, 8) - .5) / .2, labels(n)", "leave out what normalises them, which is done here"),
        (
            "[(torch.rand(3, 8, 8) - .5, i % 2) for i in range(n)]",
            "item 0 of train: images of float32 must lie between 0 and 1",
        ),
        ("noise(n, 8, 8) * np.nan, labels(n)", "must lie between 0 and 1, got nan to nan"),
        ("noise(n, 8, 8).astype(int) * 2, labels(n)", "must lie between 0 and 255, got 0 to 510"),
        ("noise(n, 8, 8).astype(complex), labels(n)", "images must be uint8, or numbers from 0 to 1, got complex128"),
        (
            "noise(n, 8, 8, 4), labels(n)",
            "must have 1 or 3 channels, at the front or at the end, and [20, 8, 8, 4] has neither",
        ),
        ("noise(n, 3, 8, 3), labels(n)", "[20, 3, 8, 3] may be either"),
        (
            "noise(n, 2, 3, 8, 8), labels(n)",
            "images must be [n, h, w], [n, h, w, c] or [n, c, h, w], got [20, 2, 3, 8, 8]",
        ),
        ("noise(n, 8, 8), labels(n)[:9]", "labels must be [20], a class number for each image, got [9]"),
        ("noise(n, 8, 8), np.eye(n)", "labels must be [20], a class number for each image, got [20, 20]"),
        ("noise(n, 8, 8), labels(n) - 1", "a label must be a class number, 0 or more, got -1"),
        ("noise(n, 8, 8), labels(n) + .5", "a label must be a class number, 0 or more, got 0.5"),
        ("noise(n, 8, 8), labels(n).astype(str)", "a label must be a class number, 0 or more, got '0'"),
        ("noise(n, 8, 8), labels(n) * 0", "must have two classes or more, got one class, '0'"),
        (
            "dict(train=(noise(n, 8, 8), labels(n)), classes=['one'])",
            "the label of train/1 must be 0 to 0, the classes, got 1",
        ),
        (
            "dict(train=(noise(n, 8, 8), labels(n)), classes=['a', 'b', 'c'])",
            "every class must have a training picture, and c has none",
        ),
        (
            "dict(train=Listed(), validation=(noise(4, 8, 8, 3), labels(4) + 1))",
            "the label of validation/1 must be a label of a training image, got 2",
        ),
        (
            "[(Image.fromarray(noise(1, 8, 8)[0].astype(np.uint16)), i % 2) for i in range(n)]",
            "must be a picture of bytes, and has Pillow's mode I;16",
        ),
    ],
)
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
    with pytest.raises(StudyFileError, match=rf"raised KeyError: 'no such key' \({tmp_path / 'mine.py'}, line 25\)"):
        returned("Broken()")

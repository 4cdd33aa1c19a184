"""Pictures made by Pillow, for the tests of a person's own data.

A pytest plugin, for its fixtures. PYTEST_DONT_REWRITE: the tests have imported it before pytest registers it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lrsearch.pictures.own import OwnImages, read
from lrsearch.spec.study import DatasetSpec

Made = Callable[..., OwnImages]


def pixels(number: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return noise, another for each number."""
    return np.random.RandomState(number).randint(256, size=shape).astype(np.uint8)


def save(image: Image.Image, path: Path, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)
    return path


def paint(path: Path, number: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB", **how: Any) -> Path:
    """Write a picture of noise: width, height and Pillow's mode, the format by the end of its name."""
    return save(Image.fromarray(pixels(number, (size[1], size[0], 3))).convert(mode), path, **how)


def paint_classes(root: Path, counts: Mapping[str, int], first: int = 0, end: str = ".png") -> Path:
    """Write a folder for each class with so many pictures, all different."""
    number = first
    for name, n in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            paint(root / name / f"{i:04}{end}", number)
            number += 1
    return root


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

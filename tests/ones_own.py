"""Pictures and a network of one's own, small and quick to train. PYTEST_DONT_REWRITE: tests import it before pytest."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NET = """
from torch import nn

def build(num_classes, in_chans, width=6):
    return nn.Sequential(
        nn.Conv2d(in_chans, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(width, num_classes),
    )
"""


def make_pictures(folder: Path) -> Path:
    """Make three classes of 24 pictures, 12x12, which their colour tells apart."""
    draw = np.random.default_rng(0)
    for label, name in enumerate(("blue sky", "green", "red")):
        (folder / name).mkdir(parents=True)
        for i in range(24):
            pixels = draw.integers(0, 90, (12, 12, 3))
            pixels[..., 2 - label] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "pics")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path

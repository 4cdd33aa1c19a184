"""Images and a network that are handed over in Python. PYTEST_DONT_REWRITE: tests import it before pytest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

ONE: dict[str, Any] = {"trials": 1, "epochs": 1, "progress": False, "space": {"batch_size": 8}}
QUICK: dict[str, Any] = {"trials": 3, "epochs": 2, "dataset": {"limit": 200}, "progress": False}

DRAW = np.random.default_rng(0)
LABELS = np.arange(60) % 3
IMAGES = (DRAW.integers(0, 80, (60, 8, 8)) + 60 * LABELS[:, None, None]).astype(np.uint8)
PAIR = (IMAGES, LABELS)


def linear(num_classes: int, in_chans: int, size: int = 8) -> nn.Module:
    """Build a network for images of that size."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * size * size, num_classes))


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))

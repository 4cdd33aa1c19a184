"""How deep parameters lie: the rule beside timm's own grouping, on architectures that it was not made on, and by hand."""

import math
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lrsearch.training import levels as rule
from lrsearch.training.levels import by_rule, by_timm, levels
from lrsearch.training.models import ModelConfig, build

N = 7
"""Classes."""


def n_inversions(one: Mapping[str, int], other: Mapping[str, int]) -> int:
    """Return how many pairs of parameters stand in the one order here and in the opposite there."""
    names = list(one)
    signs = [np.sign(np.subtract.outer(d, d)) for d in ([depth[n] for n in names] for depth in (one, other))]
    return int((signs[0] * signs[1] < 0).sum()) // 2


SLOW = pytest.mark.slow

UNSEEN = [
    # name, size, levels by the rule, levels by timm, inversions
    ("resnext26ts", 64, 0, 0, 0),
    ("res2net50_26w_4s", 64, 18, 18, 0),
]

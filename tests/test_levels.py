"""How deep parameters lie: the rule beside timm's own grouping, on architectures it was not made on, and by hand."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lrsearch.training.levels import by_rule, by_timm, levels
from lrsearch.training.models import ModelConfig, build

N = 7
"""Classes."""
SMALL = (3, 8, 8)

slow = pytest.mark.slow


def n_inversions(one: Mapping[str, int], other: Mapping[str, int]) -> int:
    """Return how many pairs of parameters stand in one order here and in the opposite one there."""
    depths = [[depth[name] for name in one] for depth in (one, other)]
    signs = [np.sign(np.subtract.outer(depth, depth)) for depth in depths]
    return int((signs[0] * signs[1] < 0).sum()) // 2


UNSEEN = [
    # name, size, levels by the rule and by timm, inversions; none is in the prototype; the rule was refined on some
    ("resnext50_32x4d", 64, 18, 18, 0),
    ("res2net50_26w_4s", 64, 18, 18, 0),
    ("seresnet50", 64, 18, 18, 0),
    ("deit_tiny_distilled_patch16_224", 64, 14, 14, 0),
    ("convmixer_768_32", 64, 66, 34, 0),
    ("edgenext_xx_small", 64, 14, 14, 0),
    ("coatnet_nano_rw_224", 224, 18, 6, 0),
    ("xcit_nano_12_p16_224", 64, 16, 16, 0),
    ("hrnet_w18_small", 64, 10, 6, 0),
    ("dla34", 64, 14, 12, 0),
    ("cspresnet50", 64, 15, 15, 0),
    ("efficientvit_b0", 64, 13, 12, 0),
    ("fastvit_t8", 64, 17, 12, 0),
    ("levit_128s", 224, 13, 11, 0),
    ("mobileone_s0", 64, 44, 44, 0),
    ("tnt_s_patch16_224", 224, 14, 14, 0),
    ("crossvit_tiny_240", 240, 18, 5, 0),
    ("davit_tiny", 64, 14, 8, 0),
    ("nest_tiny", 224, 14, 14, 0),
    # timm counts the positions of the second and the third stage to these; as those of the first, here they are a stem.
    ("visformer_tiny", 224, 17, 17, 106),
    ("mambaout_femto", 64, 20, 20, 0),
    pytest.param("beit_base_patch16_224", 224, 14, 14, 0, marks=slow),
    pytest.param("nfnet_f0", 64, 14, 14, 0, marks=slow),
    pytest.param("volo_d1_224", 224, 22, 23, 0, marks=slow),
    pytest.param("vgg11_bn", 64, 11, 17, 0, marks=slow),
    # timm lets the two blocks that see the class token alone overlap with the last of the others, and counts so one
    # of them below the block whose output it takes; here it comes behind.
    ("cait_xxs24_224", 224, 28, 26, 324),
    # timm counts the tokens of each stage, and the encodings that its serial and its parallel blocks share, to where
    # the stage begins; here tokens are a stem, and what blocks share is as deep as the last of them.
    ("coat_tiny", 224, 22, 19, 4212),
]


@pytest.mark.parametrize(("name", "size", "n_ours", "n_theirs", "inversions"), UNSEEN)
def test_the_rule_has_the_order_of_timms_grouping(
    name: str, size: int, n_ours: int, n_theirs: int, inversions: int
) -> None:
    model = build(ModelConfig(f"timm/{name}"), (3, size, size), N)
    ours, theirs = by_rule(model, (3, size, size), N), by_timm(model)
    assert theirs is not None
    assert ours.keys() == theirs.keys()
    counts = len(set(ours.values())), len(set(theirs.values())), n_inversions(ours, theirs)
    assert counts == (n_ours, n_theirs, inversions)


def test_the_count_of_inversions_sees_one() -> None:
    assert n_inversions({"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 2, "c": 1}) == 1
    assert n_inversions({"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 0, "c": 1}) == 0


def test_a_model_of_timm_has_timms_own_levels_and_one_without_any_the_rules() -> None:
    model = build(ModelConfig("timm/edgenext_xx_small"), (3, 64, 64), N)
    theirs = by_timm(model)
    assert theirs is not None
    found = {name: depth for depth, names in enumerate(levels(model, (3, 64, 64), N)) for name in names}
    assert found == theirs != by_rule(model, (3, 64, 64), N)
    ungrouped = build(ModelConfig("timm/poolformer_s12"), (3, 64, 64), N)
    assert by_timm(ungrouped) is None
    assert len(levels(ungrouped, (3, 64, 64), N)) == 14  # a stem, 12 blocks, a head


@pytest.mark.parametrize(
    ("name", "size", "n_levels", "first", "head"),
    [
        ("resnet18", 64, 10, "conv1.weight", ("fc.weight", "fc.bias")),
        ("mobilenet_v3_small", 64, 13, "features.0.0.weight", ("classifier.3.weight", "classifier.3.bias")),
        # Its last convolution is inside nothing, and pooled into the logits.
        ("squeezenet1_1", 64, 10, "features.0.weight", ("classifier.1.weight", "classifier.1.bias")),
        # No block is repeated in it: every weight layer is a level.
        ("alexnet", 64, 8, "features.0.weight", ("classifier.6.weight", "classifier.6.bias")),
        # Its attention uses the weights of a layer that it never calls.
        ("vit_b_16", 32, 14, "class_token", ("heads.head.weight", "heads.head.bias")),
        ("regnet_y_400mf", 64, 18, "stem.0.weight", ("fc.weight", "fc.bias")),
        ("densenet121", 64, 60, "features.conv0.weight", ("classifier.weight", "classifier.bias")),
    ],
)
def test_models_of_torchvision_have_a_stem_blocks_and_a_head(
    name: str, size: int, n_levels: int, first: str, head: tuple[str, ...]
) -> None:
    model = build(ModelConfig(f"torchvision/{name}"), (3, size, size), N)
    found = levels(model, (3, size, size), N)
    assert (len(found), found[0][0], found[-1]) == (n_levels, first, head)
    assert sorted(n for names in found for n in names) == sorted(name for name, _ in model.named_parameters())


def test_auxiliary_heads_that_an_evaluation_leaves_out_are_as_deep_as_the_head() -> None:
    model = build(ModelConfig("torchvision/googlenet"), (3, 64, 64), N)
    found = levels(model, (3, 64, 64), N)
    assert {name.partition(".")[0] for name in found[-1]} == {"aux1", "aux2", "fc"}
    assert len(found) == 1 + 9 + 1  # nine inceptions


class Block(nn.Module):
    """Two layers and a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.b(functional.relu(self.a(x)))
        return out


class Two(nn.Module):
    """Two streams of blocks, each with a head, whose answers are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(Block(64), Block(64))
        self.right = nn.Sequential(Block(64), Block(64))
        self.stem = nn.Linear(192, 64)
        self.heads = nn.ModuleList(nn.Linear(64, N) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.flatten(1))
        out: torch.Tensor = (self.heads[0](self.left(x)) + self.heads[1](self.right(x))) / 2
        return out


class Bare(nn.Module):
    """Parameters without layers; a scale and a shift behind the last."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Parameter(torch.randn(20, N))
        self.scale = nn.Parameter(torch.ones(1, N))
        self.first = nn.Parameter(torch.randn(192, 20))
        self.shift = nn.Parameter(torch.zeros(20))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(x.flatten(1) @ self.first + self.shift)
        return x @ self.last * self.scale


class Tied(nn.Module):
    """A layer that begins the network and ends it too, by another name."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Linear(192, N)
        self.embed = nn.Linear(N, N, bias=False)
        self.middle = nn.Linear(N, N)
        self.head = nn.Linear(N, N, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.tanh(self.middle(self.embed(self.reduce(x.flatten(1))))))
        return out


class Token(nn.Module):
    """A token that comes in behind the first block, a layer between the blocks, and an unused one in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, N)
        self.blocks = nn.ModuleList([Block(64), Block(32)])
        self.blocks[1].unused = nn.Linear(3, 3)
        self.between = nn.Linear(64, 32)
        self.norm = nn.LayerNorm(32)
        self.stem = nn.Linear(192, 64)
        self.token = nn.Parameter(torch.zeros(1, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.between(self.blocks[0](self.stem(x.flatten(1))))
        out: torch.Tensor = self.head(self.norm(self.blocks[1](x + self.token)))
        return out


class Listed(nn.Sequential):
    """A block that is a list of its layers."""


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Two, ["stem", "left.0 right.0", "left.1 right.1", "heads.0 heads.1"]),
        (Bare, ["first shift", "last scale"]),
        (Tied, ["reduce", "middle", "embed"]),
        (Token, ["stem token", "blocks.0", "blocks.1 between norm", "head"]),
        (
            lambda: nn.Sequential(
                nn.Flatten(),
                nn.Linear(192, 8),
                *(Listed(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(3)),
                nn.Linear(8, N),
            ),
            ["1", "2", "3", "4", "5"],
        ),
        # As wide as there are classes all through: only the last is the head.
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, N), nn.Linear(N, N), nn.BatchNorm1d(N), nn.Linear(N, N)),
            ["1", "2 3", "4"],
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, N)), ["1"]),
    ],
)
def test_levels_by_hand(model: type[nn.Module], expected: list[str]) -> None:
    found = levels(model(), SMALL, N)
    assert len(found) == len(expected)
    for names, parts in zip(found, expected, strict=True):
        assert {p for p in parts.split() for n in names if f"{n}.".startswith(f"{p}.")} == set(parts.split())
        assert all(any(f"{n}.".startswith(f"{p}.") for p in parts.split()) for n in names)


def test_a_look_leaves_the_model_and_the_generator_as_they_were() -> None:
    model = build(ModelConfig("torchvision/googlenet"), (3, 64, 64), N)
    model.train()
    model.inception3a.eval()
    modes = [module.training for module in model.modules()]
    state = {name: t.clone() for name, t in model.state_dict().items()}
    generator = torch.get_rng_state()
    levels(model, (3, 64, 64), N)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_and_not_finite_networks_have_levels_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, N)).requires_grad_(requires_grad=False)
    nn.init.constant_(model[1].weight, math.inf)
    assert levels(model, SMALL, N) == (("1.weight", "1.bias"), ("2.weight", "2.bias"))

"""Learning rates by depth: shares of the levels, groups of the optimizer, and what every update is made with."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import make_spec
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lrsearch import layer_rates
from lrsearch.schedules import factors
from lrsearch.spec import parameters
from lrsearch.store import portfolio
from lrsearch.training import draws, optimizers
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import Network, OptimizerConfig, ScheduleConfig, TrialConfig

CONFIG = TrialConfig(OptimizerConfig("sgd", 0.1, weight_decay=0.01), ScheduleConfig("constant"), 8, 1, 0)
CPU = torch.device("cpu")
ratios = st.floats(1e-3, 1.0)


def schedule_of(family: str) -> ScheduleConfig:
    spec = make_spec(space={"optimizer": "sgd", "schedule": family})
    return parameters.config(spec, portfolio.parse_setting("test", "lr=0.1", spec.space)).schedule


def images(n: int = 40) -> ImageSplits:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 1, 8, 8), generator=generator).to(torch.uint8)
    labels = torch.arange(n) % 3
    a, b = n // 2, 3 * n // 4
    sets = (ImageSet(pixels[i:j], labels[i:j]) for i, j in ((0, a), (a, b), (b, n)))
    return ImageSplits(*sets, classes=("a", "b", "c"), mean=(0.5,), std=(0.3,))


@given(st.integers(2, 60), ratios, ratios)
def test_shares_rise_geometrically_from_the_stem_to_the_head(n: int, stem: float, backbone: float) -> None:
    shares = layer_rates.shares(n, replace(CONFIG, stem_ratio=stem, backbone_ratio=backbone))
    assert len(shares) == n
    assert shares[-1] == max(shares) == 1.0  # peak_lr is the largest rate
    assert shares[0] == pytest.approx(stem * backbone, rel=1e-9)
    steps = [low / high for low, high in pairwise(shares[:-1])]
    assert steps == pytest.approx([stem ** (1 / (n - 1))] * len(steps), rel=1e-9)


@given(st.integers(2, 60), st.floats(0.5, 1.0))
def test_a_decay_says_the_same_as_the_ratio_that_it_comes_to(n: int, decay: float) -> None:
    by_step = layer_rates.shares(n, replace(CONFIG, layer_decay=decay))
    by_end = layer_rates.shares(n, replace(CONFIG, stem_ratio=decay ** (n - 1)))
    assert by_step == pytest.approx(by_end, rel=1e-9)


def test_without_ratios_every_level_learns_with_the_whole_rate() -> None:
    assert layer_rates.shares(5, CONFIG) == (1.0,) * 5
    assert not layer_rates.is_layer_wise(CONFIG)


def test_groups_are_levels_by_whether_they_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    network = Network(20, levels=(("0.weight", "0.bias"), ("1.weight", "1.bias"), ("2.weight", "2.bias")))
    config = replace(CONFIG, stem_ratio=0.25)
    groups = optimizers.groups_of(model, network, config, decay_all=False)
    assert groups.names == (("0.weight",), ("0.bias",), ("1.weight", "1.bias"), ("2.weight",), ("2.bias",))
    assert groups.shares == (0.25, 0.25, 0.5, 1.0, 1.0)
    assert groups.decayed == (True, False, False, True, False)
    made = groups.of(model, 0.01)
    assert [group["weight_decay"] for group in made] == [0.01, 0, 0, 0.01, 0]
    plain = optimizers.groups_of(model, network, CONFIG, decay_all=True)
    assert (plain.names, plain.shares) == ((tuple(dict(model.named_parameters())),), (1.0,))


def test_a_frozen_parameter_is_in_no_group() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    network = Network(8, levels=(("0.weight", "0.bias"), ("1.weight", "1.bias")), frozen=("0.weight", "0.bias"))
    assert optimizers.groups_of(model, network, CONFIG, decay_all=True).names == (("1.weight", "1.bias"),)
    layered = optimizers.groups_of(model, network, replace(CONFIG, stem_ratio=0.5), decay_all=True)
    assert (layered.names, layered.shares) == ((("1.weight", "1.bias"),), (1.0,))


@pytest.mark.parametrize("family", ["cosine", "one_cycle", "plateau"])
def test_every_update_of_every_level_is_made_with_its_share_of_the_rate(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = images(160)
    network = Network(0, levels=(("dense1.weight", "dense1.bias"), ("output.weight", "output.bias")))
    facts = replace(splits.facts(), network=network)
    config = replace(CONFIG, schedule=schedule_of(family), epochs=3, stem_ratio=0.01, backbone_ratio=0.5)
    engine = SerialEngine(splits, ModelConfig("mlp", (5,)), CPU, Rules(), facts)
    training = engine.start(config)
    used: list[list[float]] = []
    plain = training._update

    def update() -> None:
        used.append([group["lr"] for group in training._optimizer.param_groups])
        plain()

    monkeypatch.setattr(training, "_update", update)
    scales = []
    for _ in training.epochs():
        scales += [training._plateau.scale if training._plateau else 1.0] * training.steps_per_epoch
    peak = factors(config.schedule, training.n_steps) * config.optimizer.peak_lr
    scales = [1.0] * training.steps_per_epoch + scales[: -training.steps_per_epoch]  # a plateau judges after an epoch
    wanted = [[lr * scale * 0.005, lr * scale] for lr, scale in zip(peak.tolist(), scales, strict=True)]
    torch.testing.assert_close(torch.tensor(used), torch.tensor(wanted), rtol=1e-12, atol=0)


def test_what_is_drawn_depends_on_the_seed_and_the_update_alone() -> None:
    import random

    import numpy as np

    def drawn(seed: int, step: int) -> tuple[float, float, float]:
        with draws.at(seed, step, CPU):
            return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002

    before = torch.random.get_rng_state(), random.getstate()
    first = drawn(0, 7)
    torch.rand(5)
    assert drawn(0, 7) == first
    for other in (drawn(0, 8), drawn(1, 7)):
        assert not set(other) & set(first)
    torch.random.set_rng_state(before[0])
    drawn(0, 7)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]

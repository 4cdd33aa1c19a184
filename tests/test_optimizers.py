"""The optimizers against torch's own defaults, and that every setting reaches them."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.training import data, optimizers
from lrsearch.training.data import DataConfig
from lrsearch.trial import OptimizerConfig, OptimizerName

CPU = torch.device("cpu")
SPLITS = data.load(DataConfig("digits"))
NAMES: tuple[OptimizerName, ...] = tuple(OPTIMIZERS)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another on a busy machine take seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(where: torch.device = CPU) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.ReLU(), nn.Linear(24, 10)).to(where)


def weights_after(model: nn.Module, optimizer: torch.optim.Optimizer, n_steps: int = 20) -> torch.Tensor:
    """Return all weights in one row after ``n_steps`` updates on real digits, the rate changing on the way."""
    where = next(model.parameters()).device
    for t in range(n_steps):
        rows = slice(40 * t, 40 * t + 40)
        for group in optimizer.param_groups:
            group["lr"] *= 0.95
        optimizer.zero_grad()
        images = SPLITS.normalize(SPLITS.train.images[rows]).to(where)
        functional.cross_entropy(model(images), SPLITS.train.labels[rows].to(where)).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten().cpu() for p in model.parameters()])


Build = Callable[[Any], torch.optim.Optimizer]

TWINS: dict[str, tuple[OptimizerConfig, Build]] = {
    "sgd": (OptimizerConfig("sgd", 0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "sgd with momentum": (
        OptimizerConfig("sgd", 0.05, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    ),
    "sgd with dampening and decay": (
        OptimizerConfig("sgd", 0.1, weight_decay=0.01, momentum=0.9, dampening=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01, momentum=0.9, dampening=0.9),
    ),
    "sgd with nesterov and decay": (
        OptimizerConfig("sgd", 0.05, weight_decay=0.01, momentum=0.8, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.01, momentum=0.8, nesterov=True),
    ),
    "adam": (OptimizerConfig("adam", 1e-3), lambda p: torch.optim.Adam(p, lr=1e-3)),
    "adam with everything": (
        OptimizerConfig("adam", 3e-3, weight_decay=0.1, beta1=0.7, beta2=0.9, eps=1e-3),
        lambda p: torch.optim.Adam(p, lr=3e-3, weight_decay=0.1, betas=(0.7, 0.9), eps=1e-3),
    ),
    "adamw": (OptimizerConfig("adamw", 1e-3), lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0)),
    "adamw with everything": (
        OptimizerConfig("adamw", 3e-3, weight_decay=0.5, beta1=0.7, beta2=0.9, eps=1e-3),
        lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.5, betas=(0.7, 0.9), eps=1e-3),
    ),
    "rmsprop": (OptimizerConfig("rmsprop", 1e-3), lambda p: torch.optim.RMSprop(p, lr=1e-3)),
    "rmsprop with everything": (
        OptimizerConfig("rmsprop", 3e-3, weight_decay=0.01, momentum=0.5, alpha=0.8, eps=1e-3),
        lambda p: torch.optim.RMSprop(p, lr=3e-3, weight_decay=0.01, momentum=0.5, alpha=0.8, eps=1e-3),
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_twenty_updates_end_where_torchs_plain_optimizer_ends(name: str) -> None:
    config, twin = TWINS[name]
    ours, theirs = make_model(), make_model()
    start = torch.cat([p.detach().flatten() for p in ours.parameters()])
    ended = weights_after(ours, optimizers.build(config, ours.parameters(), CPU))
    torch.testing.assert_close(ended, weights_after(theirs, twin(theirs.parameters())), rtol=1e-5, atol=1e-5)
    assert (ended - start).abs().max() > 1e-3


def test_every_other_setting_ends_elsewhere() -> None:
    """So that the comparison above tells settings apart."""
    ends = []
    for config, _ in TWINS.values():
        model = make_model()
        ends.append(weights_after(model, optimizers.build(config, model.parameters(), CPU)))
    plain = {"adam", "adamw"}  # one rule where nothing decays
    for i, a in enumerate(TWINS):
        for j, b in enumerate(TWINS):
            if i < j and {a, b} != plain:
                assert (ends[i] - ends[j]).abs().max() > 1e-4, (a, b)


REACHES: list[tuple[OptimizerName, str, Any, str, Any]] = [
    *((name, "peak_lr", 0.123, "lr", 0.123) for name in NAMES),
    *((name, "weight_decay", 0.03, "weight_decay", 0.03) for name in NAMES),
    ("sgd", "momentum", 0.7, "momentum", 0.7),
    ("sgd", "dampening", 0.4, "dampening", 0.4),
    ("sgd", "nesterov", True, "nesterov", True),
    ("adam", "beta1", 0.6, "betas", (0.6, 0.999)),
    ("adam", "beta1", 0.0, "betas", (0.0, 0.999)),
    ("adam", "beta2", 0.95, "betas", (0.9, 0.95)),
    ("adam", "eps", 1e-4, "eps", 1e-4),
    ("adamw", "beta1", 0.6, "betas", (0.6, 0.999)),
    ("adamw", "beta2", 0.95, "betas", (0.9, 0.95)),
    ("adamw", "eps", 1e-4, "eps", 1e-4),
    ("rmsprop", "alpha", 0.8, "alpha", 0.8),
    ("rmsprop", "alpha", 0.0, "alpha", 0.0),
    ("rmsprop", "momentum", 0.5, "momentum", 0.5),
    ("rmsprop", "eps", 1e-4, "eps", 1e-4),
]


@pytest.mark.parametrize(("name", "field", "value", "key", "expected"), REACHES)
def test_every_field_reaches_torch(name: OptimizerName, field: str, value: object, key: str, expected: object) -> None:
    settings: dict[str, Any] = {"peak_lr": 0.1, field: value}
    if field in ("nesterov", "dampening"):
        settings["momentum"] = 0.9
    optimizer = optimizers.build(OptimizerConfig(name, **settings), make_model().parameters(), CPU)
    assert [group[key] for group in optimizer.param_groups] == [expected]


def test_the_table_has_every_field() -> None:
    assert {field for _, field, *_ in REACHES} == {f.name for f in fields(OptimizerConfig)} - {"name"}


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_what_is_left_out_is_torchs_default_save_that_nothing_decays(name: OptimizerName, theirs: Any) -> None:
    expected = theirs(make_model().parameters(), lr=0.1).defaults
    ours = optimizers.build(OptimizerConfig(name, 0.1), make_model().parameters(), CPU)
    assert type(ours) is theirs
    assert {**ours.defaults, "fused": None} == {**expected, "weight_decay": 0.0, "fused": None}


def test_the_table_of_twins_has_every_optimizer() -> None:
    assert {config.name for config, _ in TWINS.values()} == set(NAMES)


@pytest.mark.parametrize(("name", "fused"), [("sgd", True), ("adam", True), ("adamw", True), ("rmsprop", False)])
def test_on_the_cpu_all_but_rmsprop_are_fused(name: OptimizerName, fused: bool) -> None:
    optimizer = optimizers.build(OptimizerConfig(name, 0.1), make_model().parameters(), CPU)
    assert [bool(group.get("fused")) for group in optimizer.param_groups] == [fused]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_device_without_fused_kernels_gets_plain_ones(name: OptimizerName) -> None:
    optimizer = optimizers.build(OptimizerConfig(name, 0.1), make_model().parameters(), torch.device("mps"))
    assert not any(group["fused"] for group in optimizer.param_groups)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", TWINS)
def test_on_cuda_twenty_updates_end_where_they_end_on_the_cpu(name: str) -> None:
    cuda = torch.device("cuda", 0)
    config, twin = TWINS[name]
    ours, theirs = make_model(cuda), make_model()
    optimizer = optimizers.build(config, ours.parameters(), cuda)
    assert bool(optimizer.param_groups[0].get("fused")) is (config.name != "rmsprop")
    expected = weights_after(theirs, twin(theirs.parameters()))
    torch.testing.assert_close(weights_after(ours, optimizer), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_the_step_hooks_of_an_optimizer_are_called(register: str) -> None:
    optimizer = torch.optim.SGD(make_model().parameters(), lr=0.1)
    called = []
    getattr(optimizer, register)(lambda *_: called.append(register))
    update = optimizers.updater(optimizer)
    update()
    update()
    assert called == [register] * 2


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_an_update_is_that_of_step_bit_for_bit(name: OptimizerName) -> None:
    def trained(*, bare: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(20, 10)
        config = OptimizerConfig(name, 0.1, weight_decay=0.01, momentum=0.9 if name in ("sgd", "rmsprop") else None)
        optimizer = optimizers.build(config, model.parameters(), torch.device("cpu"))
        update = optimizers.updater(optimizer) if bare else optimizer.step
        for i in range(1, 6):
            (model(torch.ones(3, 20) * i) ** 2).sum().backward()
            update()
            optimizer.zero_grad()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(trained(bare=True), trained(bare=False))

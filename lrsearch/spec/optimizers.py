"""The optimizers: a record for each, with all that there is to know of it; PyTorch's class builds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from lrsearch.domain import Domain, Field, Fixed, Range, boolean, contains, high_end, low_end, number
from lrsearch.records import Records
from lrsearch.trial import OptimizerConfig, ScheduleFamily


class Start(NamedTuple):
    """A first trial: a peak learning rate that is known to work for small image classifiers, within a factor of 3."""

    rank: int
    """The lower, the earlier among the first trials of all optimizers."""
    peak_lr: float
    schedule: ScheduleFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """An optimizer that a study can name."""

    name: str
    class_name: str
    """In torch.optim; it is built fused on devices that it has fused kernels for."""
    fields: Mapping[str, Field]
    """The fields of OptimizerConfig that it takes, ``peak_lr`` first: what may be said, and what is searched."""
    starts: tuple[Start, ...] = ()
    """The libraries' own examples and the recorded curves of DeepOBS (arXiv 1903.05499) agree on them."""
    colour: str = "#666666"
    """In optuna-dashboard's note. Those of lrsearch's own are told apart by people who see colours in whichever way.
    Source: Okabe and Ito, 2008."""
    check: Callable[[Mapping[str, Domain]], str | None] = lambda _domains: None
    """From what is searched to what is wrong with it together, in words."""
    momentum: Callable[[OptimizerConfig], float] = lambda config: config.momentum or 0.0
    """The part of an update that comes from the updates before: how long a training moves on without a gradient."""
    decay_in_gradient: bool = False
    """Whether weight decay passes through a division by the gradient's size, so that it moves weights without one."""
    adaptive: bool = False
    """Whether each weight's update is divided by the size of its gradients: the best learning rate then follows the
    batch size less steeply. Source: Malladi et al. 2022, arXiv 2205.10287."""

    sweep_finds_edge: bool = True
    """Whether whole trainings fail where a sweep of the learning rate loses its descent, within a factor of 3, so that
    a search may be bounded there. Source: docs/benchmarks.md."""

    @property
    def defaults(self) -> dict[str, float | bool]:
        """What PyTorch takes when it is not told, the learning rate apart."""
        return {name: field.torch for name, field in self.fields.items() if field.torch is not None}


_UNIT = number(0, 1, high_open=True)


def _lr(low: float, high: float) -> Field:
    return Field(number(0, 1e6, low_open=True, hint="a learning rate is positive"), Range(low, high, log=True), 0.0)


def _decay(default: float, torch: float = 0.0) -> Field:
    return Field(number(0, 1e3), Fixed(default), 5e-4, torch)


def _momentum(default: float) -> Field:
    return Field(_UNIT, Fixed(default), 0.9, 0.0)


def _part(default: float) -> Field:
    return Field(_UNIT, Fixed(default), default, default)


_EPS: Final = Field(number(0, 1, low_open=True), Fixed(1e-8), 1e-8, 1e-8)
_BETAS: Final = {"beta1": _part(0.9), "beta2": _part(0.999)}


def _beta1(config: OptimizerConfig) -> float:
    return 0.9 if config.beta1 is None else config.beta1


def _nesterov_needs_momentum(domains: Mapping[str, Domain]) -> str | None:
    plain = low_end(domains["momentum"]) <= 0 or high_end(domains["dampening"]) > 0
    if plain and contains(domains["nesterov"], True):  # noqa: FBT003
        return "nesterov = true needs momentum above 0 and dampening = 0 in every trial"
    return None


OPTIMIZERS: Final = Records(
    Optimizer(
        name="sgd",
        class_name="SGD",
        fields={
            "peak_lr": _lr(1e-3, 3.0),
            "momentum": _momentum(0.9),
            "dampening": Field(number(0, 1), Fixed(0.0), 0.0, 0.0),
            "nesterov": Field(boolean(), Fixed(value=False), 0, torch=False),
            "weight_decay": _decay(5e-4),
        },
        starts=(Start(0, 0.1, "cosine"), Start(3, 0.05, "linear"), Start(5, 0.2, "one_cycle")),
        colour="#0072b2",
        check=_nesterov_needs_momentum,
    ),
    Optimizer(
        name="adam",
        class_name="Adam",
        adaptive=True,
        fields={"peak_lr": _lr(1e-5, 1e-1), **_BETAS, "eps": _EPS, "weight_decay": _decay(0.0)},
        starts=(Start(2, 3e-3, "cosine"),),
        colour="#d55e00",
        momentum=_beta1,
        decay_in_gradient=True,
    ),
    Optimizer(
        name="adamw",
        class_name="AdamW",
        adaptive=True,
        fields={"peak_lr": _lr(1e-5, 1e-1), **_BETAS, "eps": _EPS, "weight_decay": _decay(0.01, 0.01)},
        starts=(Start(1, 3e-3, "cosine"), Start(4, 1e-3, "linear"), Start(6, 1e-2, "one_cycle")),
        colour="#009e73",
        momentum=_beta1,
    ),
    Optimizer(
        name="rmsprop",
        class_name="RMSprop",
        adaptive=True,
        fields={
            "peak_lr": _lr(1e-5, 1e-1),
            "alpha": _part(0.99),
            "momentum": _momentum(0.0),
            "eps": _EPS,
            "weight_decay": _decay(0.0),
        },
        starts=(Start(7, 1e-3, "cosine"),),
        colour="#cc79a7",
        decay_in_gradient=True,
        sweep_finds_edge=False,
    ),
)
"""In the order in which they are listed."""


def arguments(config: OptimizerConfig) -> dict[str, Any]:
    """Return every keyword argument of PyTorch's class; what the configuration leaves None is PyTorch's default.

    >>> arguments(OptimizerConfig("adam", 1e-3, beta1=0.8))
    {'lr': 0.001, 'betas': (0.8, 0.999), 'eps': 1e-08, 'weight_decay': 0.0}
    """
    defaults = OPTIMIZERS[config.name].defaults
    given = {name: getattr(config, name) for name in defaults}
    found = {name: defaults[name] if value is None else value for name, value in given.items()}
    if "beta1" in found:
        found = {"betas": (found.pop("beta1"), found.pop("beta2")), **found}
    return {"lr": config.peak_lr, **found}

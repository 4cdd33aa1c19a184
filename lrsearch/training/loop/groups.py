"""The groups of parameters that a loop hands over: a model, by its levels, or groups that a person has made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lrsearch import layer_rates
from lrsearch.training import optimizers
from lrsearch.training.levels import levels_on
from lrsearch.training.loop.faults import LoopError
from lrsearch.trial import Network, TrialConfig

Parameters = nn.Module | Iterable[nn.Parameter] | Iterable[dict[str, Any]]
Groups = tuple[list[dict[str, Any]], tuple[float, ...]]
"""As torch's optimizers take them, and the part (0..1] of the learning rate of each."""


def levels_of(
    model: nn.Module, inputs: torch.Tensor | None, config: TrialConfig, network: Network | None
) -> tuple[tuple[str, ...], ...]:
    """Return the levels of a model where a setting needs them and nobody has looked; none otherwise.

    Raises:
        LoopError: they are needed, and there are no inputs to look with.
    """
    if not layer_rates.is_layer_wise(config) or (network is not None and network.levels):
        return ()
    if inputs is None:
        raise LoopError(
            "the study searches learning rates by layer, and a look at the model needs some inputs of it: "
            "run.optimizer(model, inputs=images[:2])"
        )
    return levels_on(model, inputs)


def by_level(model: nn.Module, config: TrialConfig, network: Network | None, *, decay_all: bool) -> Groups:
    """Return the groups of a model whose levels are known where the setting needs them."""
    found = optimizers.groups_of(model, network, config, decay_all=decay_all)
    return found.of(model, config.optimizer.weight_decay), found.shares


def as_given(given: Sequence[Any], config: TrialConfig) -> Groups:
    """Return groups that a person has made, or one of all parameters.

    Raises:
        LoopError: learning rates by layer are searched.
    """
    if layer_rates.is_layer_wise(config):
        raise LoopError(
            "the study searches learning rates by layer, and parameters alone do not say how deep they lie: "
            "give run.optimizer() the model and some inputs"
        )
    groups = given if given and isinstance(given[0], dict) else [{"params": given}]
    shares = tuple(map(share_of, groups))
    return [{"weight_decay": config.optimizer.weight_decay, **group} for group in groups], shares


def share_of(group: Mapping[str, Any]) -> float:
    """Return the part (0..1] of the learning rate with which a group learns: its ``lr_scale``."""
    return float(group.get("lr_scale", 1.0))

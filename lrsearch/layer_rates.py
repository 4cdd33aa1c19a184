"""Learning rates by depth: what part of the peak each level of layers learns with. Pure, so plots and exports agree.

A level is a stem, a block or a head; ``Network.levels`` has them. The head learns with the whole rate.
"""

from lrsearch.trial import TrialConfig

FIELDS = ("stem_ratio", "layer_decay", "backbone_ratio")
"""Of a configuration and of the search space: what says how levels learn."""


def shares(n_levels: int, config: TrialConfig) -> tuple[float, ...]:
    """Return the part (0..1] of the learning rate with which each level learns, the stem first, the head last.

    Level k of L learns with ``backbone_ratio * decay ** (L - 1 - k)``, the head with 1; ``decay`` is given, or follows
    from ``stem_ratio = decay ** (L - 1)``. So ``peak_lr`` is the largest rate whatever the shares.

    Source: layer-wise decay as in BEiT and timm (``--layer-decay``); by its end, as fastai's ``lr_mult`` says it,
    because one decay means .07 for the stem of a network of ten levels and 4e-8 for one of sixty.
    """
    last = n_levels - 1
    decay = layer_decay(n_levels, config)
    backbone = 1.0 if config.backbone_ratio is None else config.backbone_ratio
    return tuple(backbone * decay ** (last - k) if k < last else 1.0 for k in range(n_levels))


def layer_decay(n_levels: int, config: TrialConfig) -> float:
    """Return the learning rate of a level over that of the next, (0..1]."""
    if config.layer_decay is not None:
        return config.layer_decay
    if config.stem_ratio is None or n_levels < 2:
        return 1.0
    return float(config.stem_ratio ** (1 / (n_levels - 1)))


def is_layer_wise(config: TrialConfig) -> bool:
    """Whether levels may learn with different rates."""
    return any(getattr(config, name) is not None for name in FIELDS)

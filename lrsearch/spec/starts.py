"""The portfolio: settings that are known to work elsewhere, as far as a search space holds them."""

from typing import Any

from lrsearch.domain import Choice, Fixed, closest
from lrsearch.families import FAMILIES, NEUTRAL_FLOOR
from lrsearch.spec import parameters
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.space import SearchSpace
from lrsearch.trial import OptimizerName, ScheduleFamily

_FIELDS = [record.fields for record in OPTIMIZERS.values()] + [record.fields for record in FAMILIES.values()]
NEUTRAL: dict[str, Any] = {
    "batch_size": 64,
    "warmup_fraction": 0.05,
    "final_fraction": NEUTRAL_FLOOR,
    # Between one rate for all and first layers that hardly learn.
    "stem_ratio": 0.1,
    "layer_decay": 0.75,
    "backbone_ratio": 1.0,
} | {name: field.neutral for fields in _FIELDS for name, field in fields.items()}
"""What a setting that does not say takes: the value of its domain that is nearest to this."""


def portfolio(space: SearchSpace) -> list[dict[str, Any]]:
    """Return the parameters of the settings known to work elsewhere, by their rank, each once."""
    known = [(start, name) for name in space.optimizers for start in OPTIMIZERS[name].starts]
    out = list[dict[str, Any]]()
    for (_, peak_lr, schedule), optimizer in sorted(known):
        family = schedule if schedule in space.schedules else next(iter(space.schedules))
        params = near(space, optimizer, family, peak_lr)
        if params not in out:
            out.append(params)
    return out


def neutral(space: SearchSpace, optimizer: OptimizerName | None = None) -> dict[str, Any]:
    """Return the parameters of a setting that is likely to train: of the first schedule of the space.

    ``optimizer`` is one of the space's; None: the first.
    """
    optimizer, schedule = optimizer or next(iter(space.optimizers)), next(iter(space.schedules))
    known = OPTIMIZERS[optimizer].starts
    return near(space, optimizer, schedule, known[0].peak_lr if known else 1e-3)


def near(space: SearchSpace, optimizer: OptimizerName, schedule: ScheduleFamily, peak_lr: float) -> dict[str, Any]:
    """Return the parameters of a setting, everything unsaid at its neutral value, moved into the space."""
    wanted = {**NEUTRAL, "peak_lr": peak_lr}
    out: dict[str, Any] = {}
    if len(space.optimizers) > 1:
        out["optimizer"] = optimizer
    if len(space.schedules) > 1:
        out["schedule"] = schedule
    for name, domain in (parameters.unconditional(space) | parameters.conditional(space, optimizer, schedule)).items():
        if isinstance(domain, Fixed):
            continue
        field = parameters.field_of(name, optimizer, schedule)
        if isinstance(domain, Choice) and not all(isinstance(v, int | float) for v in domain.values):
            out[name] = domain.values[0]
        else:
            out[name] = closest(domain, wanted.get(field, 0.0))
    return out

"""Which studies are evidence of the best learning rate elsewhere, and which few trainings would settle it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrsearch.analysis.transfer import FARTHEST, Scaling, is_near, scale_of, too_far
from lrsearch.errors import UsageError
from lrsearch.spec import file as study_file
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import LONGEST_NAME, StudySpec, differences
from lrsearch.trial import Trial

OCTAVES = (-3, -2, -1, 0, 1, 2, 3)
"""The rates that are measured at a scale, in doublings of the middle one."""

_KEYS = {
    Scaling.BATCH_SIZE: {"space.batch_size"},
    Scaling.EPOCHS: {"epochs"},
    Scaling.IMAGES: {"dataset.limit", "dataset.validation_fraction", "loop.n_train"},
}
_HOW_IT_SEARCHES = ("sampler.", "pruner.", "baseline", "seed", "space.seed", "training.averaging")
"""Keys that change which settings are trained, and not what a setting comes to but for its seed."""


def is_evidence(spec: StudySpec, other: StudySpec, scaling: Scaling) -> bool:
    """Whether another study differs in nothing but the scale, ranges of the learning rate, and how it searches."""
    return all(
        key in _KEYS[scaling] or key.startswith(_HOW_IT_SEARCHES) or key.endswith(".peak_lr")
        for key, _, _ in differences(spec, other)
    )


@dataclass(frozen=True, slots=True)
class Measuring:
    """Trainings that settle it: a few learning rates at a few scales, everything else as in one trial."""

    specs: tuple[StudySpec, ...]
    """One study a scale, the smallest first."""
    scales: tuple[int, ...]
    n_images: int
    """Images that are trained on in all of them together, each counted as often as it is seen."""


def study_name(study: str, scaling: Scaling, scale: int) -> str:
    """Return the name of the study in which a scale is measured."""
    return f"{study}-transfer-{scaling.value.replace('_', '-')}-{scale}"


def scales(scaling: Scaling, here: int, target: int) -> tuple[int, ...]:
    """Return where to measure: here and at the target, unless that costs more; then here and below, halving.

    >>> scales(Scaling.BATCH_SIZE, 64, 512), scales(Scaling.EPOCHS, 10, 20), scales(Scaling.EPOCHS, 40, 400)
    ((64, 512), (5, 10), (10, 20, 40))

    Halves are rounded down, so that the span is never less than it has to be.
    """
    if scaling == Scaling.BATCH_SIZE or target <= here:
        return tuple(sorted({here, target}))
    halvings = max(1, math.ceil(math.log2(target / here) / FARTHEST - 1e-9))
    return tuple(sorted({max(1, here // 2**k) for k in range(halvings + 1)}))


def measuring(spec: StudySpec, winner: Trial, scaling: Scaling, target: int) -> Measuring:
    """Return the trainings that would settle it, of the winner's setting but for its learning rate.

    Raises:
        UsageError: the study cannot be measured at those scales.
        StudyFileError: likewise.
    """
    config, here = winner.config, scale_of(scaling, spec, winner)
    if scaling == Scaling.IMAGES and spec.loop is not None:
        raise UsageError(
            f"only the loop of the study '{spec.name}' knows its images: measure other numbers of them there"
        )
    if target == here:
        raise UsageError(f"the study '{spec.name}' was searched with {scaling.words} {target}: nothing is to transfer")
    found = scales(scaling, here, target)
    if len(found) < 2:
        raise UsageError(f"{here} {scaling.words} cannot be halved: there is no second scale to measure")
    if not is_near(target, found):
        raise UsageError(f"{too_far(target, found, scaling)}; a study with more of them can tell")
    # The middle of the rates to measure need not be exact: the square root, or between it and the linear rule.
    steep = 0.5 if OPTIMIZERS[config.optimizer.name].adaptive else 0.75
    growth = steep if scaling == Scaling.BATCH_SIZE else 0.0
    specs = [
        _measured_at(spec, winner, scaling, scale, config.optimizer.peak_lr * (scale / here) ** growth)
        for scale in found
    ]
    images = [
        (scale if scaling == Scaling.EPOCHS else config.epochs)
        * (scale if scaling == Scaling.IMAGES else spec.facts.n_train)
        for scale in found
    ]
    return Measuring(tuple(specs), found, len(OCTAVES) * sum(images))


def _measured_at(spec: StudySpec, winner: Trial, scaling: Scaling, scale: int, middle: float) -> StudySpec:
    tables, config, name = spec.to_plain(), winner.config, study_name(spec.name, scaling, scale)
    if len(name) > LONGEST_NAME:
        raise UsageError(
            f"the trainings would be the study '{name}', and a name has at most {LONGEST_NAME} characters: search "
            f"under a shorter --name"
        )
    optimizer, family = config.optimizer, config.schedule.family
    tables |= {
        "name": name,
        "budget": {"trials": len(OCTAVES)},
        "sampler": {"name": "random", "portfolio": False},
        "pruner": {"name": "none"},
        "seed": config.seed,
    }
    tables.pop("baseline", None)
    own = _fixed(tables["space"]["optimizer"][optimizer.name], optimizer)
    own["peak_lr"] = [float(f"{middle * 2.0**octave:.3g}") for octave in OCTAVES]
    space = _fixed(
        {key: value for key, value in tables["space"].items() if key not in ("optimizer", "schedule")}, config
    )
    space |= _fixed({key: tables["space"][key] for key in ("warmup_fraction", "final_fraction")}, config.schedule)
    space["optimizer"] = {optimizer.name: own}
    space["schedule"] = {family: _fixed(tables["space"]["schedule"][family], config.schedule)}
    tables["space"] = space
    match scaling:
        case Scaling.BATCH_SIZE:
            space["batch_size"] = scale
        case Scaling.EPOCHS:
            tables["epochs"] = scale
        case Scaling.IMAGES:
            # The validation images stay as many as they were.
            limit = scale + spec.facts.n_validation
            tables["dataset"] |= {"limit": limit, "validation_fraction": spec.facts.n_validation / limit}
    return study_file.build(tables, f"study '{name}'")


def _fixed(table: dict[str, Any], values: object) -> dict[str, Any]:
    """Return a table with what a trial had in the place of what was searched."""
    out = {}
    for key, domain in table.items():
        value = getattr(values, key, None)
        out[key] = domain if value is None else list(value) if isinstance(value, tuple) else value
    return out


def seconds(trials: Sequence[Trial], n_train: int, plan: Measuring) -> float | None:
    """Return how long the trainings will take by the epochs of the study [seconds]; None where none was trained."""
    epochs = [row.seconds for trial in trials for row in trial.metrics]
    return math.fsum(epochs) / len(epochs) / n_train * plan.n_images if epochs and n_train else None

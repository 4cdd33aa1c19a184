"""A trial as a run in the sense of a tracker: a name, parameters, numbers epoch by epoch, how it ended."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lrsearch.analysis.compare import flat
from lrsearch.report.plain import SCORES
from lrsearch.spec.study import StudySpec
from lrsearch.text import shown
from lrsearch.trial import State, Trial

Parameter = str | int | float | bool

_GROUPS = {"train_": "train/", "averaged_val_": "averaged/", "val_": "val/"}
"""How trackers group numbers: by what stands before the stroke."""


@dataclass(frozen=True, slots=True)
class RunEpoch:
    """What one epoch measured."""

    epoch: int
    """Completed passes, 1-based."""
    step: int
    """Updates made so far."""
    at: float
    """When it was over [seconds since 1970]: the start and the time in training; interruptions are not in it."""
    values: Mapping[str, float]
    """By the names that trackers group: ``val/accuracy``, ``lr``."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A trial."""

    name: str
    number: int
    parameters: Mapping[str, Parameter]
    epochs: tuple[RunEpoch, ...]
    results: Mapping[str, float]
    """Numbers of the end: the objective's value, the scores on the test images."""
    about: Mapping[str, str]
    """How it ended, where it ran."""
    state: State
    started: float
    """[seconds since 1970]"""
    ended: float | None


def run_record(trial: Trial, spec: StudySpec) -> RunRecord:
    """Return a trial as a run; nothing in it comes from the address of the database."""
    begun = _seconds(trial.started_at)
    at, epochs = begun, []
    for row in trial.metrics:
        at += row.seconds
        measured = {_group(name): getattr(row, name) for name in SCORES}
        found = {"lr": row.lr, **measured, "seconds": row.seconds}
        values = {name: float(value) for name, value in found.items() if value is not None}
        if spec.metric.column is None and "val/score" in values:
            values[f"val/{spec.metric.name}"] = values.pop("val/score")
        epochs.append(RunEpoch(row.epoch, row.step, at, values))
    outcome = trial.outcome
    results = {
        "objective": outcome.value if outcome is not None else None,
        f"test/{spec.metric.name}": trial.test_score,
        "test/accuracy": trial.test_accuracy,
        "test/loss": trial.test_loss,
    }
    about = {
        "study": spec.name,
        "state": trial.state.value,
        "reason": outcome.reason.value if outcome is not None else "",
        "message": outcome.message if outcome is not None else "",
        "origin": trial.origin,
        "role": trial.role.value,
        "device": trial.device,
        "versions": trial.versions,
        "worker": trial.worker,
    }
    return RunRecord(
        name=f"trial {trial.number}",
        number=trial.number,
        parameters={key: _parameter(value) for key, value in flat(trial.config).items()} | _trained(spec),
        epochs=tuple(epochs),
        results={key: float(value) for key, value in results.items() if value is not None and math.isfinite(value)},
        about={key: shown(value) for key, value in about.items() if value},
        state=trial.state,
        started=begun,
        ended=None if trial.ended_at is None else _seconds(trial.ended_at),
    )


def _trained(spec: StudySpec) -> dict[str, Parameter]:
    if spec.loop is not None:
        return {"loop": shown(spec.loop.name)}
    return {"dataset": shown(spec.dataset.name), "model": shown(spec.model.name)}


def _group(name: str) -> str:
    before = next(prefix for prefix in _GROUPS if name.startswith(prefix))
    return _GROUPS[before] + name.removeprefix(before)


def _parameter(value: Any) -> Parameter:
    return value if isinstance(value, str | int | float) else ", ".join(map(str, value))


def _seconds(when: datetime | None) -> float:
    return 0.0 if when is None else when.timestamp()

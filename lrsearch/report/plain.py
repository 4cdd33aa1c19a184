"""A trial as plain values: what JSON and CSV are made of. Not a number is None."""

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from pydantic_core import to_jsonable_python

from lrsearch.trial import EpochMetrics, OptimizerConfig, ScheduleConfig, State, Trial

SCORES = (
    *("train_loss", "val_loss", "val_accuracy", "averaged_val_loss", "averaged_val_accuracy"),
    *("val_score", "averaged_val_score"),
)
"""Fields of what an epoch measured."""

BY_LAYER = ("stem_ratio", "layer_decay", "backbone_ratio")
"""Fields of a setting that few studies have."""


def plain(value: object) -> Any:
    """Return a value that ``json.dumps(allow_nan=False)`` takes; what is infinite or not a number becomes None.

    >>> plain({"loss": float("nan"), "milestones": (0.5, 0.75), "n": 3})
    {'loss': None, 'milestones': [0.5, 0.75], 'n': 3}
    """
    if isinstance(value, datetime):
        return value.isoformat()  # pydantic would write UTC as Z
    return to_jsonable_python(value, inf_nan_mode="null", fallback=str)


def attempts(trial: Trial) -> int:
    """Return how often a trial has been started; the attempt under way, or that which ended it, is the last."""
    before = len(trial.interruptions)
    # The attempt of which a trial fails is written down as an interruption too.
    over = trial.state == State.FAILED or trial.interrupted
    return max(1, before if over else before + 1)


def flat(trial: Trial) -> dict[str, Any]:
    """Return everything about a trial but its epochs, one key a field: a row of the CSV."""
    config, outcome = trial.config, trial.outcome
    out: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state,
        "interrupted": trial.interrupted,
        "value": outcome.value if outcome else None,
        "reason": outcome.reason if outcome else None,
        "epoch": outcome.epoch if outcome else len(trial.metrics),
        "step": outcome.step if outcome else None,
        "lr": outcome.lr if outcome else None,
        "message": outcome.message if outcome else "",
        "origin": trial.origin,
        "role": trial.role,
        "parent": trial.parent,
        "shared_epochs": trial.shared_epochs,
        "optimizer": config.optimizer.name,
    }
    out |= {f.name: getattr(config.optimizer, f.name) for f in fields(OptimizerConfig) if f.name != "name"}
    out["schedule"] = config.schedule.family
    out |= {f.name: getattr(config.schedule, f.name) for f in fields(ScheduleConfig) if f.name != "family"}
    out |= {"batch_size": config.batch_size, "epochs": config.epochs, "seed": config.seed}
    out |= {name: getattr(config, name) for name in BY_LAYER}
    last = trial.metrics[-1] if trial.metrics else None
    for name in SCORES:
        out[name] = getattr(last, name) if last else None
    out |= {
        "test_loss": trial.test_loss,
        "test_accuracy": trial.test_accuracy,
        "test_score": trial.test_score,
        "seconds": sum(row.seconds for row in trial.metrics),
        "worker": trial.worker,
        "device": trial.device,
        "versions": trial.versions,
        "started_at": trial.started_at,
        "ended_at": trial.ended_at,
        "attempts": attempts(trial),
        "weights_sha256": trial.weights_sha256,
    }
    return {key: plain(value) for key, value in out.items()}


def nested(trial: Trial) -> dict[str, Any]:
    """Return a trial with its configuration, epochs and Optuna parameters as JSON; of its settings those it has."""
    row = flat(trial)
    config = asdict(trial.config)
    for part in ("optimizer", "schedule"):
        config[part] = {key: value for key, value in config[part].items() if value is not None}
    config = {key: value for key, value in config.items() if key not in BY_LAYER or value is not None}
    keep = (
        "number",
        "state",
        "interrupted",
        "value",
        "reason",
        "epoch",
        "step",
        "lr",
        "message",
        "origin",
        "role",
        "parent",
        "shared_epochs",
        "test_loss",
        "test_accuracy",
        "test_score",
    )
    about = ("seconds", "worker", "device", "versions", "started_at", "ended_at", "attempts", "weights_sha256")
    out = {key: row[key] for key in keep} | {"config": plain(config), "params": plain(trial.params)}
    out |= {key: row[key] for key in about}
    interruptions = [plain(asdict(one) | {"at": plain(one.at)}) for one in trial.interruptions]
    if trial.moves:
        out["moves"] = [plain(asdict(one) | {"at": plain(one.at)}) for one in trial.moves]
    return out | {"interruptions": interruptions, "metrics": [epoch(m) for m in trial.metrics]}


def epoch(row: EpochMetrics) -> dict[str, Any]:
    """Return what an epoch measured as JSON."""
    found: dict[str, Any] = plain(asdict(row))
    return found

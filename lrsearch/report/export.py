"""A trial as data: its setting and the learning rate of every update, as JSON or CSV, for other programs."""

import csv
import io
from dataclasses import asdict
from typing import Any

from lrsearch import families, layer_rates, schedules
from lrsearch.analysis.levels import level_rates
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.errors import UsageError
from lrsearch.report import study_words
from lrsearch.report.plain import plain
from lrsearch.report.scheduler_code import plateau_arguments
from lrsearch.spec.optimizers import OPTIMIZERS, arguments
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial
from lrsearch.version import __version__

SCHEMA = "lrsearch/export/1"


def to_json(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """Return the setting as torch takes it, and ``lr``, the learning rate at every update, all digits kept.

    With plateau ``lr`` is None, because it depends on validation results; ``plateau`` then has the settings of torch's
    scheduler and what the trial has recorded.
    """
    config, last = trial.config, trial.metrics[-1] if trial.metrics else None
    steps = spec.steps_per_epoch(config.batch_size)
    is_planned = not families.of(config.schedule).feedback
    how = spec.facts.arithmetic or spec.training.arithmetic
    return {
        "schema": SCHEMA,
        "made_by": f"lrsearch {__version__}",
        "study": spec.name,
        "trial": trial.number,
        "state": trial.state.value,
        "val_accuracy": plain(last.val_accuracy if last else None),
        "val_loss": plain(last.val_loss if last else None),
        "test_accuracy": plain(trial.test_accuracy),
        **_trained(spec),
        "optimizer": {
            "class": f"torch.optim.{OPTIMIZERS[config.optimizer.name].class_name}",
            "arguments": plain(arguments(config.optimizer)),
        },
        "schedule": {
            **{name: plain(value) for name, value in asdict(config.schedule).items() if value is not None},
            "description": schedules.describe(config.schedule),
        },
        "batch_size": config.batch_size,
        "drop_last": spec.training.drop_last,
        **({} if spec.augment is None else {"augment": spec.augment.given}),
        **({} if how is None else {"arithmetic": asdict(how)}),
        "epochs": config.epochs,
        "seed": config.seed,
        "n_train": spec.facts.n_train,
        "steps_per_epoch": steps,
        "n_steps": steps * config.epochs,
        "warmup_steps": schedules.warmup_steps(config.schedule, steps * config.epochs),
        "lr": planned_lrs(trial, steps).tolist() if is_planned else None,
        "plateau": None if is_planned else _plateau(trial),
        **({"levels": levels} if (levels := study_words.level_json(spec, config)) else {}),
    }


def _trained(spec: StudySpec) -> dict[str, Any]:
    if spec.loop is not None:
        return {"loop": spec.loop.model_dump(mode="json", exclude_none=True)}
    return {"dataset": spec.dataset.model_dump(mode="json"), "model": _model(spec)}


def _model(spec: StudySpec) -> dict[str, Any]:
    """Return the model: name, sizes of hidden layers, and of what was looked at all that the study file says."""
    about = {"name": spec.model.name, "hidden": list(spec.model.hidden_resolved)}
    network = spec.facts.network
    if network is None:
        return about
    stated = spec.model.model_dump(mode="json", exclude_none=True, exclude={"name", "hidden"})
    decayed = "matrices" if spec.decay_matrices else "all"
    return about | stated | {"n_parameters": network.n_parameters, "weight_decay_on": decayed}


def to_csv(trial: Trial, spec: StudySpec) -> str:
    """Return ``step,epoch,lr`` for every update: steps from 0, the epoch under way from 1, the rate to all its digits.

    Where levels of layers learn with different rates, a column for each follows, the stem's first; ``lr`` is that of
    the head.

    Raises:
        UsageError: the schedule is plateau, whose learning rate depends on validation results.
    """
    if families.of(trial.config.schedule).feedback:
        raise UsageError(
            f"trial {trial.number} has the schedule {trial.config.schedule.family}, whose learning rate depends on "
            f"validation results and is no list made beforehand; export it --to json (what it recorded), torch or "
            f"lightning"
        )
    steps = spec.steps_per_epoch(trial.config.batch_size)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    levels = level_rates(spec, trial.config) if layer_rates.is_layer_wise(trial.config) else ()
    writer.writerow(("step", "epoch", "lr", *(f"lr_level_{level.number}" for level in levels)))
    for step, lr in enumerate(planned_lrs(trial, steps).tolist()):
        writer.writerow((step, step // steps + 1, lr, *(lr * level.share for level in levels)))
    return out.getvalue()


def _plateau(trial: Trial) -> dict[str, Any]:
    """Return the settings of torch's scheduler, and by epoch the learning rate of the last update."""
    arguments = plateau_arguments(trial.config.schedule, trial.config.optimizer.peak_lr)
    recorded = [{"epoch": row.epoch, "lr": row.lr, "val_loss": plain(row.val_loss)} for row in trial.metrics]
    return {
        "class": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "arguments": arguments,
        "epochs": recorded,
    }

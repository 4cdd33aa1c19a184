"""A setting as options of torchvision's own training script, which steps its scheduler once an epoch."""

from collections.abc import Iterator
from typing import Any, Final

from lrsearch.domain import round_half_up
from lrsearch.report.flags import (
    Flags,
    Options,
    check_one_rate,
    differences,
    no_schedule,
    refusal,
    settings_of,
    without_decay_adam_is_adamw,
)
from lrsearch.report.flags_more import arithmetic, augmentation
from lrsearch.report.model_code import model_code
from lrsearch.schedules import warmup_steps
from lrsearch.spec.study import StudySpec, updates_per_epoch
from lrsearch.trial import ScheduleConfig, Trial

RMSPROP: Final = {"alpha": 0.9, "eps": 0.0316}
"""What the script gives to RMSprop, unasked."""
ADAMW: Final = {"betas": (0.9, 0.999), "eps": 1e-8}
COLOURS: Final = 3


def torchvision_flags(trial: Trial, spec: StudySpec) -> tuple[Flags, ...]:
    """Return the ways to say a setting to torchvision's script.

    Raises:
        UsageError: it has no option for the schedule, the optimizer, or the rates of the layers.
    """
    check_one_rate(trial, spec, "torchvision")
    config = trial.config
    updates = updates_per_epoch(spec.facts.n_train, config.batch_size, drop_last=False)
    rest, unsaid = augmentation(spec, "torchvision")
    if arithmetic(spec).precision == "fp16":
        rest = {**rest, "amp": True}
    optimizer, differs = _optimizer(trial, spec), (*_differs(trial, spec, updates), *unsaid)
    found = tuple(
        Flags("torchvision", config.epochs, updates, schedule, optimizer, _data(trial, spec), rest, differs)
        for schedule in _schedules(config.schedule, config.optimizer.peak_lr, config.epochs, updates)
    )
    if not found:
        raise no_schedule(trial, "torchvision")
    return found


def _schedules(schedule: ScheduleConfig, peak_lr: float, epochs: int, updates: int) -> Iterator[dict[str, Any]]:
    """Yield the schedule with its warm-up rounded to whole epochs, down and up."""
    warm = warmup_steps(schedule, epochs * updates)
    for warmup in sorted({warm // updates, -(-warm // updates)} - {epochs}):
        # A stair through the middle of our ramp.
        ramp = {"lr_warmup_method": "linear", "lr_warmup_decay": 0.5 / warmup} if warmup else {}
        for shape in _shapes(schedule, peak_lr, epochs - warmup, updates):
            yield {**shape, "epochs": epochs, "lr_warmup_epochs": warmup, **ramp}


def _shapes(schedule: ScheduleConfig, peak_lr: float, epochs: int, updates: int) -> Iterator[dict[str, Any]]:
    final = schedule.final_fraction or 0.0
    match schedule.family:
        case "constant":
            yield {"lr_scheduler": "steplr", "lr_step_size": epochs, "lr_gamma": 1.0}
        case "step" | "multistep":
            yield from _drops(schedule, final, epochs, updates)
        case "exponential":
            yield {"lr_scheduler": "exponentiallr", "lr_gamma": final ** (1 / epochs)}
        case "cosine":
            yield {"lr_scheduler": "cosineannealinglr", "lr_min": final * peak_lr}


def _drops(schedule: ScheduleConfig, final: float, epochs: int, updates: int) -> Iterator[dict[str, Any]]:
    """Yield drops at equal distances, which are all that the script has."""
    drops = schedule.drops or len(schedule.milestones or ())
    if schedule.milestones is not None:
        steps = epochs * updates
        first = max(round_half_up(schedule.milestones[0] * steps), 1) / updates
    else:
        first = epochs / (drops + 1)
    for size in sorted({max(int(first), 1), int(first) + 1}):
        yield {"lr_scheduler": "steplr", "lr_step_size": size, "lr_gamma": final ** (1 / drops)}


def _optimizer(trial: Trial, spec: StudySpec) -> Options:
    name, given = trial.config.optimizer.name, settings_of(trial)
    out: dict[str, Any] = {}
    match name:
        case "sgd":
            if given["dampening"]:
                raise refusal(trial, "torchvision", "it has no option for dampening")
            out = {"opt": "sgd_nesterov" if given["nesterov"] else "sgd", "momentum": given["momentum"]}
        case "rmsprop":
            _check_fixed(trial, given, RMSPROP)
            out = {"opt": "rmsprop", "momentum": given["momentum"]}
        case "adamw" | "adam" if name == "adamw" or without_decay_adam_is_adamw(trial):
            _check_fixed(trial, given, ADAMW)
            out = {"opt": "adamw"}
        case _:
            raise refusal(trial, "torchvision", f"it has no optimizer {name}")
    out |= {"lr": given["lr"], "weight_decay": given["weight_decay"]}
    return out | ({"norm_weight_decay": 0.0, "bias_weight_decay": 0.0} if spec.decay_matrices else {})


def _check_fixed(trial: Trial, given: dict[str, Any], fixed: dict[str, Any]) -> None:
    for key, value in fixed.items():
        if given[key] != value:
            why = f"its {trial.config.optimizer.name} has {key} = {value}, whatever is said, and the trial {given[key]}"
            raise refusal(trial, "torchvision", why)


def _data(trial: Trial, spec: StudySpec) -> Options:
    model, size = model_code(spec), max(spec.facts.shape[1:])
    sizes = {"train_crop_size": size, "val_resize_size": size, "val_crop_size": size}
    name = model.name if model.kind == "torchvision" else "MODEL"
    return {"data_path": "DATA", "model": name, "batch_size": trial.config.batch_size, **sizes}


def _differs(trial: Trial, spec: StudySpec, updates: int) -> Iterator[str]:
    model, ours = model_code(spec), spec.steps_per_epoch(trial.config.batch_size)
    if model.kind != "torchvision":
        yield f"MODEL is a model of torchvision; the search trained {model.title}"
    if updates != ours:
        yield f"the script keeps the last, smaller batch: {updates} updates an epoch instead of {ours}"
    yield "images are cropped and flipped at random, which cannot be switched off, and normalised as ImageNet's are"
    if spec.facts.shape[0] != COLOURS:
        yield "images become colour pictures"
    if arithmetic(spec).precision == "bf16":
        yield "products are computed in fp32: the script knows fp16 alone beside that"
    if model.starts_from_weights:
        yield "weights are drawn at random: the script loads some only for as many classes as they know"
    yield from differences(spec, "torchvision")

"""A setting as options of timm's own training script, ``train.py``."""

import re
from collections.abc import Iterator
from typing import Any

from lrsearch.domain import round_half_up
from lrsearch.layer_rates import layer_decay
from lrsearch.report.flags import Flags, Options, differences, is_layer_wise, no_schedule, refusal, settings_of
from lrsearch.report.flags_more import arithmetic, augmentation, parts
from lrsearch.report.model_code import ModelCode, model_code
from lrsearch.schedules import warmup_steps
from lrsearch.spec.study import StudySpec
from lrsearch.trial import ScheduleConfig, Trial

NAMES = {"adam": "adam", "adamw": "adamw", "rmsprop": "rmsprop"}
"""Of optimizers; for sgd it depends on Nesterov's momentum, which timm's sgd has."""


def timm_flags(trial: Trial, spec: StudySpec) -> tuple[Flags, ...]:
    """Return the ways to say a setting to timm's script, which leaves out the last, smaller batch of an epoch.

    Raises:
        UsageError: it has no option for the schedule, or for the rates of the layers.
    """
    config, n_train = trial.config, spec.facts.n_train
    at_once, times = parts(spec, config.batch_size)
    updates = -(-(n_train // at_once) // times)
    model = model_code(spec)
    more, unsaid = augmentation(spec, "timm")
    rest = {**_arithmetic(spec, times), **more, "seed": config.seed}
    differs = [*_differs(spec, updates, n_train % at_once), *unsaid, *differences(spec, "timm")]
    if model.kind != "timm":
        differs.insert(0, f"MODEL is a model of timm; the search trained {model.title}")
    optimizer, data = _optimizer(trial, spec), _data(spec, model, at_once)
    found = tuple(
        Flags("timm", config.epochs, updates, schedule, optimizer, data, rest, tuple(differs))
        for schedule in _schedules(config.schedule, config.optimizer.peak_lr, config.epochs, updates)
    )
    if not found and config.schedule.family == "warm_restarts":
        raise refusal(trial, "timm", "it counts cycles in whole epochs, into which those of the trial do not fall")
    if not found:
        raise no_schedule(trial, "timm")
    return found


def _schedules(schedule: ScheduleConfig, peak_lr: float, epochs: int, updates: int) -> Iterator[dict[str, Any]]:
    """Yield the schedule with its warm-up rounded to whole epochs, down and up."""
    warm = warmup_steps(schedule, epochs * updates)
    for warmup_epochs in sorted({warm // updates, -(-warm // updates)} - {epochs}):
        # The ramp begins where ours does; it reaches the peak one update later.
        ramp = {"warmup_lr": peak_lr / (warmup_epochs * updates), "warmup_prefix": True} if warmup_epochs else {}
        for shape in _shapes(schedule, peak_lr, epochs - warmup_epochs, updates):
            if shape["sched_on_updates"] or not warmup_epochs:
                yield {**shape, "warmup_epochs": warmup_epochs, **ramp}


def _shapes(schedule: ScheduleConfig, peak_lr: float, epochs: int, updates: int) -> Iterator[dict[str, Any]]:
    """Yield the schedule after warm-up, for so many epochs; nothing where timm has none."""
    final, steps = schedule.final_fraction or 0.0, epochs * updates
    each = {"epochs": epochs, "sched_on_updates": True}
    falls = each | {"min_lr": final * peak_lr}
    match schedule.family:
        case "constant":
            yield {"sched": "step", **each, "decay_epochs": 1.0, "decay_rate": 1.0}
        case "step":
            drops = schedule.drops or 1
            yield {"sched": "step", **each, "decay_epochs": epochs / (drops + 1), "decay_rate": final ** (1 / drops)}
        case "exponential":  # a drop at every update
            yield {"sched": "step", **each, "decay_epochs": 1 / updates, "decay_rate": final ** (1 / steps)}
        case "multistep":
            parts = schedule.milestones or ()
            at = [round(max(round_half_up(part * steps), 1) / updates) for part in parts]
            fall = {"sched": "multistep", "epochs": epochs, "decay_rate": final ** (1 / len(parts))}
            # timm drops a step before the milestone: by epochs that can be made up for, by updates it cannot.
            yield {**fall, "sched_on_updates": False, "decay_milestones": tuple(epoch + 1 for epoch in at)}
            yield {**fall, "sched_on_updates": True, "decay_milestones": tuple(at)}
        case "linear":
            yield {"sched": "poly", **falls, "decay_rate": 1.0}
        case "polynomial":
            yield {"sched": "poly", **falls, "decay_rate": schedule.power}
        case "cosine":
            yield {"sched": "cosine", **falls}
        case "warm_restarts":
            cycles, mult = schedule.cycles or 1, schedule.cycle_mult or 1
            first, rest = divmod(epochs, sum(mult**i for i in range(cycles)))
            if first and not rest:  # a cycle is whole epochs
                again = {"lr_cycle_limit": cycles, "lr_cycle_mul": float(mult), "lr_cycle_decay": 1.0}
                yield {"sched": "cosine", **falls, "epochs": first, **again}


def _optimizer(trial: Trial, spec: StudySpec) -> Options:
    config, given = trial.config, settings_of(trial)
    name = config.optimizer.name
    out: dict[str, Any] = {"opt": NAMES.get(name) or ("sgd" if given["nesterov"] else "momentum")}
    out |= {"lr": given["lr"], "weight_decay": given["weight_decay"]}
    if "momentum" in given:
        out["momentum"] = given["momentum"]
    if "betas" in given:
        out["opt_betas"] = given["betas"]
    if "eps" in given:
        out["opt_eps"] = given["eps"]
    more = {key: given[key] for key in ("alpha", "dampening") if given.get(key)}
    if more:
        out["opt_kwargs"] = tuple(f"{key}={value!r}" for key, value in more.items())
    if is_layer_wise(config, spec):
        out["layer_decay"] = _layer_decay(trial, spec)
    return out


def _layer_decay(trial: Trial, spec: StudySpec) -> float:
    """Return timm's ``--layer-decay``, whose levels are ours where the model is timm's."""
    network = spec.facts.network
    assert network is not None
    if model_code(spec).kind != "timm":
        raise refusal(trial, "timm", f"it cuts {spec.model.name} into other levels of layers than the search did")
    if trial.config.backbone_ratio not in (None, 1.0):
        raise refusal(trial, "timm", "it has no option for a rate of the head apart (backbone_ratio)")
    return layer_decay(len(network.levels), trial.config)


def _data(spec: StudySpec, model: ModelCode, at_once: int) -> Options:
    facts = spec.facts
    out: dict[str, Any] = {"data_dir": "DATA", "model": "MODEL"}
    if model.kind == "timm":
        out["model"] = model.name
        if model.published:
            tagged = model.published != "DEFAULT"
            out["model"] = f"{model.name.partition('.')[0]}.{model.published}" if tagged else model.name
        if model.starts_from_weights:
            out["pretrained"] = True
        if model.file is not None:
            out["pretrained_path"] = model.file.path
        if spec.model.args:
            out["model_kwargs"] = tuple(f"{key}={value!r}" for key, value in spec.model.args.items())
    out |= {"num_classes": len(facts.classes), "input_size": facts.shape, "crop_pct": 1.0}
    if spec.scaling == "standard" and facts.mean:
        out |= {"mean": facts.mean, "std": facts.std}
    elif spec.scaling == "unit":
        out |= {"mean": (0.0,) * facts.shape[0], "std": (1.0,) * facts.shape[0]}
    return out | {"batch_size": at_once}


def _arithmetic(spec: StudySpec, times: int) -> Options:
    how = arithmetic(spec)
    out: dict[str, Any] = {"grad_accum_steps": times} if times > 1 else {}
    if how.precision != "fp32":
        out |= {"amp": True, "amp_dtype": {"bf16": "bfloat16", "fp16": "float16"}[how.precision]}
    return out | ({"channels_last": True} if how.channels_last else {})


def _differs(spec: StudySpec, updates: int, left_out: int) -> Iterator[str]:
    if left_out and not spec.training.drop_last:
        yield (
            f"timm leaves out the last, smaller batch of an epoch: {updates} updates an epoch, each time without "
            f"{left_out} of {spec.facts.n_train} images, and the schedule is stretched to them"
        )
    if spec.scaling == "standard" and not spec.facts.mean:
        yield "mean and standard deviation of the images are not known here, and timm takes those of its model"
    names = spec.facts.classes
    if sorted(names, key=_natural) != list(names):
        yield "timm numbers the classes in natural order (2 before 10); --class-map FILE gives another"


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]

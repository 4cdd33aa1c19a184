"""A setting as ``TrainingArguments`` of transformers."""

from collections.abc import Iterator
from typing import Any

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
from lrsearch.report.flags_more import arithmetic, augmentation, parts
from lrsearch.schedules import warmup_steps
from lrsearch.spec.study import StudySpec
from lrsearch.trial import ScheduleConfig, Trial


def transformers_flags(trial: Trial, spec: StudySpec) -> tuple[Flags, ...]:
    """Return the ways to say a setting to the Trainer.

    Raises:
        UsageError: it has no argument for the schedule, the optimizer, or the rates of the layers.
    """
    check_one_rate(trial, spec, "transformers")
    config = trial.config
    updates = spec.steps_per_epoch(config.batch_size)
    drops_last = updates * config.batch_size < spec.facts.n_train
    at_once, times = parts(spec, config.batch_size) if not drops_last else (config.batch_size, 1)
    data: dict[str, Any] = {"num_train_epochs": config.epochs, "per_device_train_batch_size": at_once}
    data |= {"gradient_accumulation_steps": times} if times > 1 else {}
    data["dataloader_drop_last"] = drops_last
    more, unsaid = augmentation(spec, "transformers")
    how = arithmetic(spec).precision
    rest: dict[str, Any] = {**more, **({how: True} if how != "fp32" else {}), "max_grad_norm": 0.0, "seed": config.seed}
    rest["remove_unused_columns"] = False
    optimizer, differs = _optimizer(trial), (*unsaid, *differences(spec, "transformers"), *_differs(spec))
    found = tuple(
        Flags("transformers", config.epochs, updates, schedule, optimizer, data, rest, differs)
        for schedule in _schedules(config.schedule, config.optimizer.peak_lr, config.epochs * updates)
    )
    if not found:
        raise no_schedule(trial, "transformers")
    return found


def _schedules(schedule: ScheduleConfig, peak_lr: float, n_updates: int) -> Iterator[dict[str, Any]]:
    """Yield the schedule with its warm-up: its ramp begins at zero, and so is one update behind ours."""
    warm = warmup_steps(schedule, n_updates)
    for warmup in sorted({warm, max(warm - 1, 0)}, reverse=True):
        for name, keywords in _shapes(schedule, peak_lr, n_updates, warm):
            yield {
                "lr_scheduler_type": name,
                **({"lr_scheduler_kwargs": keywords} if keywords else {}),
                "warmup_steps": warmup,
            }


def _shapes(
    schedule: ScheduleConfig, peak_lr: float, n_updates: int, warm: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    final, steps = schedule.final_fraction or 0.0, n_updates - warm
    match schedule.family:
        case "constant":
            yield "constant_with_warmup", {}
        case "linear" if not final:
            yield "linear", {}
        case "linear" | "polynomial" if final < 1:
            yield "polynomial", {"lr_end": final * peak_lr, "power": schedule.power or 1.0}
        case "cosine" if not final:
            yield "cosine", {}
            yield "cosine_warmup_with_min_lr", {"min_lr_rate": 0.0}
        case "cosine":
            yield "cosine_with_min_lr", {"min_lr_rate": final}
            # Its ramp is ours, and its fall one update ahead.
            yield "cosine_warmup_with_min_lr", {"min_lr_rate": final}
        case "warm_restarts" if schedule.cycle_mult == 1:
            yield "cosine_with_restarts", {"num_cycles": schedule.cycles}
        case "inverse_sqrt" if final < 1:
            yield "inverse_sqrt", {"timescale": steps * final**2 / (1 - final**2)}
        case "wsd" | "wsd_cosine":
            share = schedule.decay_fraction or 0.0
            decay = min(max(round_half_up(share * n_updates), 1), steps)
            shape = "linear" if schedule.family == "wsd" else "cosine"
            keywords = {"num_decay_steps": decay, "decay_type": shape, "min_lr_ratio": final}
            yield "warmup_stable_decay", keywords


def _optimizer(trial: Trial) -> Options:
    config, given = trial.config.optimizer, settings_of(trial)
    out: dict[str, Any] = {"learning_rate": given["lr"]}
    match config.name:
        case "adamw" | "adam" if config.name == "adamw" or without_decay_adam_is_adamw(trial):
            beta1, beta2 = given["betas"]
            out |= {"optim": "adamw_torch", "adam_beta1": beta1, "adam_beta2": beta2, "adam_epsilon": given["eps"]}
        case "sgd" | "rmsprop":
            left = {key: value for key, value in given.items() if key not in ("lr", "weight_decay")}
            out |= {"optim": config.name, "optim_args": ",".join(f"{key}={value}" for key, value in left.items())}
        case name:
            raise refusal(trial, "transformers", f"it has no {name} with weight decay in the gradient")
    return out | {"weight_decay": given["weight_decay"]}


def _differs(spec: StudySpec) -> Iterator[str]:
    network = spec.facts.network
    if spec.decay_matrices and network is not None and network.batch_norm:
        yield "weight decay acts on the scales of batch norms too; it leaves biases and layer norms alone"

"""What the columns of other programs are called, and what the names in them mean."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from lrsearch.errors import UsageError, nearest
from lrsearch.families import FAMILIES
from lrsearch.layer_rates import FIELDS as BY_LAYER
from lrsearch.spec.metrics import Metric
from lrsearch.spec.optimizers import OPTIMIZERS

_PREFIXES = re.compile(r"^(config|params|user_attrs|hparams|hyperparameters|hp|args|summary)[._/](?=.)")
_OPTIMIZER_FIELDS = tuple(dict.fromkeys(name for record in OPTIMIZERS.values() for name in record.fields))
_SCHEDULE_FIELDS = tuple(dict.fromkeys(name for record in FAMILIES.values() for name in record.fields))

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "optimizer": ("optimizer", "opt", "optim", "optimizer_name", "optimizer_type", "optimiser"),
    "peak_lr": (
        *("peak_lr", "max_lr", "base_lr", "initial_lr", "init_lr", "lr0", "learning_rate", "learningrate"),
        *("peak_learning_rate", "max_learning_rate", "base_learning_rate", "initial_learning_rate", "lr"),
    ),
    "schedule": (
        *("schedule", "scheduler", "lr_scheduler", "lr_schedule", "lr_scheduler_type", "learning_rate_schedule"),
        *("scheduler_name", "sched", "schedule_family"),
    ),
    "batch_size": ("batch_size", "batch", "bs", "batchsize", "train_batch_size", "per_device_train_batch_size"),
    "epochs": ("epochs", "n_epochs", "num_epochs", "max_epochs", "num_train_epochs", "total_epochs"),
    "weight_decay": ("weight_decay", "wd", "weightdecay", "l2"),
    "momentum": ("momentum", "mom"),
    "warmup_fraction": ("warmup_fraction", "warmup", "warmup_ratio", "warmup_proportion"),
    "warmup_epochs": ("warmup_epochs", "n_warmup_epochs"),
    "final_fraction": ("final_fraction", "final", "min_lr_ratio", "final_lr_fraction"),
    "min_lr": ("min_lr", "eta_min", "final_lr"),
    "rise_fraction": ("rise_fraction", "pct_start"),
    "beta1": ("beta1", "beta_1", "adam_beta1"),
    "beta2": ("beta2", "beta_2", "adam_beta2"),
    "eps": ("eps", "epsilon", "adam_epsilon"),
    "seed": ("seed", "random_seed"),
    "state": ("state", "status"),
    "scores": ("scores", "curve", "history"),
    "epoch": ("epoch",),
    "run": ("run", "run_id", "trial", "trial_id", "number", "name", "id", "run_name"),
} | {
    name: (name,)
    for name in (*_OPTIMIZER_FIELDS, *_SCHEDULE_FIELDS, *BY_LAYER)
    if name not in ("peak_lr", "weight_decay", "momentum", "rise_fraction", "beta1", "beta2", "eps")
}
"""What a training is described by, and what a column of it may be called, the likeliest first."""

_SPLITS = ("val", "valid", "validation", "eval", "dev")
_MEASURES: Final[Mapping[str, tuple[str, ...]]] = {
    "accuracy": ("accuracy", "acc", "top1", "acc1", "acc_1", "top1_acc", "top_1", "top1_accuracy"),
    "loss": ("loss",),
    "balanced_accuracy": ("balanced_accuracy", "balanced_acc", "bal_acc"),
}

OPTIMIZER_NAMES: Final[Mapping[str, str]] = {
    **{record.class_name.lower(): name for name, record in OPTIMIZERS.items()},
    **{name.replace("_", ""): name for name in OPTIMIZERS},
    **{alias: "sgd" for alias in ("momentum", "sgdmomentum", "sgdwithmomentum", "nesterov") if "sgd" in OPTIMIZERS},
}
"""By what other programs write, in lower case and letters and digits alone."""

_THEIR_SCHEDULES: Final[Mapping[str, tuple[str, ...]]] = {
    "constant": ("none", "no", "fixed", "flat", "constantlr", "constantwithwarmup"),
    "step": ("steplr", "stepdecay"),
    "multistep": ("multisteplr",),
    "exponential": ("exponentiallr", "exp"),
    "linear": ("linearlr", "linearwithwarmup", "lineardecay"),
    "cosine": ("cos", "cosineannealing", "cosineannealinglr", "cosinelr", "cosinewithwarmup", "cosinedecay"),
    "polynomial": ("poly", "polynomiallr", "polynomialdecay"),
    "inverse_sqrt": ("rsqrt",),
    "one_cycle": ("onecyclelr", "1cycle"),
    "triangular": ("cyclic", "cycliclr"),
    "warm_restarts": ("cosineannealingwarmrestarts", "cosinewithrestarts", "cosinewithhardrestarts", "sgdr"),
    "wsd": ("warmupstabledecay", "trapezoidal"),
    "wsd_cosine": (),
    "plateau": ("reducelronplateau", "reduceonplateau"),
}
SCHEDULE_NAMES: Final[Mapping[str, str]] = {
    **{name.replace("_", ""): name for name in FAMILIES},
    **{theirs: name for name, several in _THEIR_SCHEDULES.items() if name in FAMILIES for theirs in several},
}
"""Likewise."""

END = {
    **dict.fromkeys(("finished", "complete", "completed", "done", "success", "succeeded", "ok"), "complete"),
    **dict.fromkeys(("pruned", "stopped", "early_stopped", "killed", "preempted"), "pruned"),
    **dict.fromkeys(("crashed", "failed", "fail", "error", "preempting"), "failed"),
    **dict.fromkeys(("diverged", "nan"), "diverged"),
    **dict.fromkeys(("running", "waiting", "pending", "queued", "starting"), "running"),
}
"""How a training ended, by what other programs write, in lower case."""


def plain(header: str) -> str:
    """Return the name of a column as it is looked for: lower case, its table left out, ``_`` for all marks.

    >>> plain("config.learning_rate"), plain("val/accuracy"), plain("params_lr"), plain("Batch Size")
    ('learning_rate', 'val_accuracy', 'lr', 'batch_size')
    """
    name = _PREFIXES.sub("", header.strip().lower())
    return re.sub(r"[^a-z0-9]+", "_", name).strip("_")


def word(text: str) -> str:
    """Return a name as it is looked for: its module left out, letters and digits alone.

    >>> word("torch.optim.AdamW"), word("cosine_annealing")
    ('adamw', 'cosineannealing')
    """
    return re.sub(r"[^a-z0-9]", "", text.rpartition(".")[2].lower())


def of_metric(metric: Metric) -> tuple[str, ...]:
    """Return what a column with the values of a metric may be called, the likeliest first; the test set is none."""
    names = dict.fromkeys((metric.name, *_MEASURES.get(metric.name, ())))
    own = metric.name.lower()
    of_split = [f"{split}_{name}" for name in names for split in _SPLITS]
    # Weights & Biases and Optuna: their one value is that of the objective. A loss alone is often the training's.
    sure = [f"final_{own}", *of_split, f"value_validation_{own}", f"value_{own}", "objective", "value", "values_0"]
    best = [f"best_{name}" for name in of_split]
    return tuple(dict.fromkeys([*sure, *names, *best, f"best_{own}"]))


def found(headers: Sequence[str], metric: Metric, mapped: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return for each key which headers say it, the likeliest first; ``value`` is the study's metric.

    Args:
        headers: of the file.
        metric: the study's.
        mapped: what a person said of columns, by header: the key.

    Raises:
        UsageError: a person named a column or a key that there is not.
    """
    aliases = {**ALIASES, "value": of_metric(metric)}
    for header, key in mapped.items():
        if header not in headers:
            raise UsageError(
                f"--column {header}={key}: the file has no column '{header}'{nearest(header, headers)}; "
                f"it has {', '.join(name for name in headers if name)}"
            )
        if key not in aliases and key not in ("ignore", metric.name):
            known = (*aliases, metric.name, "ignore")
            raise UsageError(
                f"--column {header}={key}: unknown key '{key}'{nearest(key, known)}; known: {', '.join(known)}"
            )
    said = {header: "value" if key == metric.name else key for header, key in mapped.items()}
    by_name: dict[str, list[str]] = {}
    for header in headers:
        if header and header not in said:
            by_name.setdefault(plain(header), []).append(header)
    out: dict[str, tuple[str, ...]] = {}
    for key, names in aliases.items():
        own = [header for header, meant in said.items() if meant == key]
        results = key in ("value", "scores", "epoch", "state")
        there = [h for name in names for h in sorted(by_name.get(name, ()), key=partial(_rank, results=results))]
        there = [] if own else there
        if own or there:
            out[key] = (*own, *there)
    return out


def _rank(header: str, *, results: bool) -> int:
    """Return which of several columns of one name is meant, the lowest: a setting is configured, a result measured.

    Weights & Biases has both: ``config.lr``, and in the summary the learning rate of the last update.
    """
    configured = re.match(r"(config|params|hparams|hyperparameters|hp|args)[._/]", header.strip().lower())
    measured = re.match(r"summary[._/]", header.strip().lower())
    rank = 0 if configured else 2 if measured else 1
    return 2 - rank if results else rank


def suffixed(headers: Sequence[str], key: str, owners: Sequence[str]) -> dict[str, str]:
    """Return the headers of a parameter that carry the name of their optimizer or schedule, by that name.

    >>> suffixed(["params_peak_lr_sgd", "lr_adam", "seed"], "peak_lr", ["sgd", "adam"])
    {'sgd': 'params_peak_lr_sgd', 'adam': 'lr_adam'}
    """
    wanted = {f"{alias}_{owner}": owner for owner in owners for alias in ALIASES[key]}
    return {wanted[plain(header)]: header for header in headers if plain(header) in wanted}


def of_owners(headers: Sequence[str], owners: Sequence[str]) -> set[str]:
    """Return all headers of parameters that carry the name of their optimizer or schedule."""
    return {header for key in ALIASES for header in suffixed(headers, key, owners).values()}

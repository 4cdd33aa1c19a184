"""Write what in docs/ follows from the code, so that it cannot go stale unseen.

    python docs/render_cli.py           writes docs/cli.md, and the marked parts of study-file.md and guide.md
    python docs/render_cli.py --check   writes nothing; exit code 1 where something is stale

A marked part lies between ``<!-- rendered: NAME -->`` and ``<!-- end: NAME -->``.
"""

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from unittest import mock

import annotated_types
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lrsearch import domain, schedules
from lrsearch.cli import app as cli
from lrsearch.families import FAMILIES
from lrsearch.spec import deciding
from lrsearch.spec import study as spec
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.models import MODELS
from lrsearch.spec.space import OneOf
from lrsearch.trial import ScheduleConfig, ScheduleFamily

DOCS = Path(__file__).resolve().parent
HELP_COLUMNS = 82
"""Of the terminal: the help is two narrower, and 80 fits a page."""


# --- the command line ------------------------------------------------------------------------------------------------


def help_of(*command: str) -> str:
    """Return what ``lrsearch COMMAND --help`` prints."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": str(HELP_COLUMNS)}), contextlib.redirect_stdout(out):
        code = cli.run([*command, "--help"])
    assert code == 0, command
    return out.getvalue().rstrip()


def commands() -> list[str]:
    """Return the verbs, in the order of the help."""
    group: Any = typer.main.get_command(cli.app)
    return list(group.commands)


def cli_page() -> str:
    """Return docs/cli.md."""
    intro = (
        "What `--help` says, written by `python docs/render_cli.py`. The [guide](guide.md#exit-codes) has exit codes, "
        "environment variables and what `--json` prints."
    )
    parts = [
        "# Command line",
        intro,
        _fenced(help_of()),
    ]
    for command in commands():
        parts += [f"## lrsearch {command}", _fenced(help_of(command))]
    return "\n\n".join(parts) + "\n"


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


# --- the study file --------------------------------------------------------------------------------------------------

MEANINGS: dict[str, str] = {
    "name": "The study's name in the database. A file without it takes the file's own name.",
    "epochs": "Passes over the training images, of every trial.",
    "seed": "Initial weights, batch order and sampler.",
    "baseline": 'Your current setting, tried first: `"sgd lr=0.1 cosine batch=64"`.',
    "dataset": "[Table](#dataset).",
    "model": "[Table](#model).",
    "objective": "[Table](#objective).",
    "budget": "[Table](#budget).",
    "sampler": "[Table](#sampler).",
    "pruner": "[Table](#pruner).",
    "training": "[Table](#training).",
    "augment": "[Table](#augment).",
    "workers": "[Table](#workers).",
    "space": "[Table](#space).",
    "dataset.name": "Which images: a data set's name, or [your own](own.md): `folder:PATH`, `csv:FILE`, "
    "`FILE.py:FUNCTION`, `package.module:function`.",
    "dataset.limit": "Images drawn for training and validation together, at most "
    + ", ".join(f"{size:,} for {name}" for name, size in ((name, record.n_pool) for name, record in DATASETS.items()))
    + ". The test set is never cut.",
    "dataset.validation_fraction": "Part of the drawn images that validates; rounded to whole images, at least one.",
    "dataset.scaling": "`standard`: mean 0 and deviation 1 in each channel of the training images. `unit`: 0..1. "
    "`weights`: as those did that made the model's weights.",
    "dataset.split_seed": "Which images are drawn, and which of them validate.",
    "dataset.test_fraction": "Part of your own pictures that is set apart to test; unused where they have a test set.",
    "dataset.image_size": "Height and width to which your own pictures are brought [pixels].",
    "dataset.resize": "How: `pad` keeps the whole picture and its proportions, `squash` does not keep these, "
    "`crop` cuts. `auto`: pad where the proportions of the pictures differ much, else squash.",
    "dataset.channels": "1: grey, 3: colour.",
    "dataset.group": "Pictures of a group stay on one side of the split: `parent` (the folder of a picture), or a "
    "column of the table.",
    "dataset.on_error": "What to do about pictures that cannot be read.",
    "dataset.classes": "A text file that names the classes in their order, one a line.",
    "dataset.args": "Keywords for your own function.",
    "model.name": "`mlp`: flatten, dense layers with ReLU, dense output. `cnn`: convolution 5x5 to 10 channels, ReLU, "
    "max-pool 2, then as `mlp`. `resnet9`: eight convolutions with batch norm, two residual branches. Or "
    "[your own](own.md): `torchvision/NAME`, `timm/NAME`, `FILE.py:FUNCTION`, `package.module:function`.",
    "model.hidden": "Sizes of the hidden dense layers; `[]` for none.",
    "model.weights": "Where training starts: `DEFAULT`, a tag of the package, or a file.",
    "model.init_from": "A file of weights (safetensors, or a state of torch), without its head where the classes are "
    "others.",
    "model.stem": "How a package's model begins. `small`: with a convolution of stride 1 and no pooling; `auto`: so "
    "below 64 pixels, unless training starts from weights.",
    "model.freeze": "What is not trained: `backbone` (all but the head), or how the names of parameters begin.",
    "model.args": "Keywords for the function that builds it.",
    "model.loss": "Your own function from logits and labels to the mean loss: `FILE.py:FUNCTION`.",
    "loop": "",
    "loop.name": "Your function, called with a `lrsearch.Run`: `FILE.py:FUNCTION` or `package.module:function`.",
    "loop.n_train": "Training examples of an epoch: an update for each batch of them. This or `steps_per_epoch`.",
    "loop.steps_per_epoch": "Updates of an epoch; or a function that returns them for a `batch_size`, by its name.",
    "loop.n_validation": "Validation examples, from which the standard error of an accuracy follows.",
    "loop.args": "Keywords for the function.",
    "objective.direction": "Which values are better, of a metric that only your own loop tells.",
    "objective.metric": "What the best trial is best at, on the validation images after the last epoch. Of equal "
    "accuracies the lower loss wins. With a [loop](#loop) also any name that it tells, with a `direction`.",
    "budget.trials": "Complete, pruned and diverged trials together, exactly.",
    "budget.hours": "Training time of all trials together. Whichever limit is reached first ends the search.",
    "budget.trainings": "Epochs of all trials together, in whole trainings, exact to an epoch: 8 are 80 epochs where a "
    "training has 10.",
    "strategy": "[Table](#strategy).",
    "strategy.name": "`lr`: one model of rates and schedules proposes settings, pauses trials and goes on with them. "
    "`sampler`: sampler and pruner decide, each for itself.",
    "strategy.branching": "Whether a trial whose learning rates begin as those of another one goes on from there.",
    "prior": "What the strategy `lr` takes for known at the start: a study of the same database, `auto` (studies of "
    "similar images and model) or `none`.",
    "budget.max_failures": "Failed trials (a crash, out of memory) do not count as trials; more of them than this end "
    "the search.",
    "budget.stop": "`converged`: the search ends before its budget does, once the rest of it is expected to gain less "
    "than noise hides ([when to stop](guide.md#when-to-stop)).",
    "sampler.name": "Who proposes settings. `gp`, `qmc` and `cmaes` need a space with one optimizer and one schedule.",
    "sampler.n_startup_trials": "Finished trials before `tpe`, `gp` or `cmaes` (there 1) stop drawing at random; the "
    "first trials count.",
    "sampler.points": "grid: values of a range, both ends among them, at equal distances (on the log axis where it has "
    "one).",
    "sampler.portfolio": "Try settings known to work elsewhere first: at most 6, at most a quarter of the trials that "
    "the study was filed with (grid: `false`, as these are none of the grid).",
    "pruner.name": "Who ends trials early; a table that does not name it means `asha`.",
    "pruner.min_resource": "asha: the first rung; gradual: the first epoch after which trials are compared; hyperband: "
    "the first rung of the first bracket [epochs].",
    "pruner.power": "gradual: how steeply trials become fewer: of those that came to epoch e "
    "`(e / (e + 1)) ** power` go on.",
    "pruner.reduction_factor": "asha, hyperband: one in so many goes on from a rung; the next rung is so many times "
    "later.",
    "pruner.min_early_stopping_rate": "asha: rungs left out at the start.",
    "pruner.n_startup_trials": "median: complete trials before the first comparison.",
    "pruner.n_warmup_steps": "median: epochs of each trial before its first comparison.",
    "pruner.interval_steps": "median: epochs between comparisons.",
    "pruner.n_min_trials": "median: scores at that epoch below which nothing is pruned.",
    "training.drop_last": "Leave out the last, smaller batch of an epoch.",
    "training.divergence_watch": "End a trial whose loss is not finite or stays far above its start, "
    "or whose network has died.",
    "training.class_weights": "Power of the inverse frequency by which classes weigh in the training loss; `1`: every "
    "class as much as every other.",
    "training.weight_decay_on": "Where weight decay acts: `matrices` leaves biases and norms alone.",
    "training.precision": "Of matrix products and convolutions; weights, optimizer, average and loss are fp32. `auto`: "
    "bf16 on a CUDA GPU that has it, else fp32.",
    "training.tf32": "Whether a GPU may compute fp32 with 10 bits of mantissa instead of 23.",
    "training.channels_last": "Whether the channels of a pixel lie side by side in memory. `auto`: if that is measured "
    "to be faster, before the first trial.",
    "training.micro_batch": "Images whose gradients are computed at once: a larger batch is computed in parts. `auto`: "
    "as many as memory holds, counted before the first trial.",
    "training.averaging": "Moving average of the weights for the rung score. `auto`: if a pruner compares accuracies.",
    "augment.auto": 'What `augment = "auto"` says: `flip`, and `crop` by an eighth of a side, for colour pictures; '
    "nothing for grey ones, and where classes are called by numbers, as digits are.",
    "augment.flip": "Mirror half of the images, left to right.",
    "augment.crop": "Put a frame of so many pixels around an image and cut one of its size out of it, anywhere.",
    "augment.affine": "Rotate by up to so many degrees to either side.",
    "augment.translate": "Shift by up to this part of a side, to any side.",
    "augment.scale": "Change the size by up to this part: `0.2` by factors from 0.8 to 1.2.",
    "augment.shear": "Shear along the rows by up to so many degrees to either side.",
    "augment.resized_crop": "Cut out a part of this area or more, its sides from 3:4 to 4:3, and bring it to the whole "
    "size.",
    "augment.brightness": "Change it by up to this part: `0.2` by factors from 0.8 to 1.2.",
    "augment.contrast": "Likewise.",
    "augment.saturation": "Likewise; not for grey images.",
    "augment.trivial": "TrivialAugmentWide: one of fourteen changes of colour or place, of one of 31 strengths.",
    "augment.erase": "Probability with which a rectangle of 2 to 33 % of the area is erased.",
    "augment.mixup": "Blend each image with another one of its batch, and their labels: alpha of the Beta "
    "distribution.",
    "augment.cutmix": "Show another image of the batch in a rectangle: likewise. With `mixup` too, half of the images "
    "each.",
    "augment.label_smoothing": "Part of every label that is spread evenly over all classes, in the training loss.",
    "workers.lease_seconds": "A worker that was not heard of for so long has lost its trial; it gives a sign of life "
    f"{spec.WorkersSpec.HEARTBEATS_PER_LEASE} times as often.",
    "workers.checkpoint_seconds": "A trial's state is kept at least this often, so that no more work is repeated after "
    "a kill; `0`: after every epoch.",
    "workers.trial_seconds": "Training time after which a trial fails as timed out.",
    "workers.no_progress_seconds": "A worker without an update for so long is ended, and its trial goes on elsewhere.",
    "workers.retries.out_of_memory": "The device or the machine had no memory left.",
    "workers.retries.crash": "An error ended the training.",
    "workers.retries.lost": "Its worker was not heard of for `lease_seconds`.",
    "workers.retries.stalled": "Its worker made no update for `no_progress_seconds`.",
    "workers.retries.timed_out": "It was trained for `trial_seconds`.",
    "space.batch_size": "[examples]; at most the training images.",
    "space.warmup_fraction": "Part of all updates spent in linear warm-up; not for one_cycle and triangular.",
    "space.seed": "Of a trial, instead of the study's: several train each setting with each of them.",
    "space.stem_ratio": "Learning rate of the first level of layers over that of the head; between them it rises "
    "geometrically.",
    "space.layer_decay": "The same said by its step: the learning rate of a level over that of the next.",
    "space.backbone_ratio": "Factor upon the learning rates of all levels but the head.",
    "space.auto_extend": "Whether a range of learning rates moves outwards, by ten times, where the best trial lies at "
    "its edge, and the search goes on there within its budget.",
    "space.final_fraction": "The floor, as a fraction of the peak; not for constant. Above 0 for step, multistep, "
    "exponential, inverse_sqrt and one_cycle.",
    "space.optimizer": "A name, a list of names, or [tables](#spaceoptimizer).",
    "space.schedule": "A name, a list of names, or [tables](#spaceschedule).",
    "sgd.peak_lr": "The largest learning rate of the training.",
    "sgd.momentum": "",
    "sgd.dampening": "",
    "sgd.nesterov": "`true` needs momentum above 0 and dampening = 0.",
    "sgd.weight_decay": "",
    "adam.peak_lr": "As above.",
    "adam.beta1": "",
    "adam.beta2": "",
    "adam.eps": "",
    "adam.weight_decay": "Added to the gradient; use adamw for decoupled decay.",
    "adamw.peak_lr": "As above.",
    "adamw.beta1": "",
    "adamw.beta2": "",
    "adamw.eps": "",
    "adamw.weight_decay": "Decoupled: multiplied by the learning rate.",
    "rmsprop.peak_lr": "As above.",
    "rmsprop.alpha": "",
    "rmsprop.momentum": "",
    "rmsprop.eps": "",
    "rmsprop.weight_decay": "",
    "step.drops": "How many equal drops, at equal distances.",
    "multistep.milestones": "Fractions of the training after warm-up, each a drop: one list, or a list of lists to "
    "choose from.",
    "polynomial.power": "1 is linear.",
    "one_cycle.rise_fraction": "Part of the training that rises to the peak.",
    "one_cycle.initial_fraction": "Where it starts, as a fraction of the peak.",
    "triangular.cycles": "Triangles.",
    "warm_restarts.cycles": "Cosines.",
    "warm_restarts.cycle_mult": "How many times as long each is as the one before.",
    "wsd.decay_fraction": "Part of all updates that falls, at the end.",
    "wsd_cosine.decay_fraction": "Part of all updates that falls, at the end.",
    "plateau.drop_factor": "What the learning rate is multiplied by.",
    "plateau.patience_epochs": "Epochs in a row without a lower validation loss after which it is not yet multiplied.",
}
"""A sentence for every key; ``key_tables`` fails where one is missing or superfluous."""

UNSET: dict[str, str] = {
    "name": "the file's name",
    "baseline": "none",
    "strategy": "`sampler`",
    "budget.trainings": "no limit",
    "prior": "`auto`",
    "dataset.limit": "all of them",
    "dataset.scaling": "`weights` where training starts from weights, else `standard`",
    "dataset.test_fraction": "`0.2`",
    "dataset.image_size": "what the weights want, else the median short side, at most 224",
    "dataset.resize": "`auto`",
    "dataset.channels": "3 if any picture has colours or the weights want them, else 1",
    "dataset.group": "none",
    "dataset.on_error": "`refuse`",
    "dataset.classes": "the folders' names, in the order of text",
    "dataset.args": "none",
    "model.hidden": ", ".join(f"`{list(record.hidden)}` for {name}" for name, record in MODELS.items()),
    "model.weights": "drawn at random",
    "model.init_from": "drawn at random",
    "model.stem": "`auto`",
    "model.freeze": "nothing",
    "model.args": "none",
    "model.loss": "cross entropy",
    "training.class_weights": "`0`",
    "training.weight_decay_on": "`all` for mlp and cnn, else `matrices`",
    "training.precision": "`fp32`",
    "training.tf32": "in convolutions alone, as PyTorch has it",
    "training.channels_last": "`off`",
    "training.micro_batch": "whole batches; halved where memory runs out",
    "augment": "nothing",
    **{f"augment.{name}": "`false`" for name in ("auto", "flip", "trivial")},
    **{f"augment.{name}": "`0`" for name in ("crop", "affine", "translate", "scale", "shear", "resized_crop")},
    **{f"augment.{name}": "`0`" for name in ("brightness", "contrast", "saturation")},
    **{f"augment.{name}": "`0`" for name in ("erase", "mixup", "cutmix", "label_smoothing")},
    "space.stem_ratio": "0.003 to 1 (log) where training starts from weights, else one rate for all",
    "loop": "none",
    "loop.name": "none: it is needed",
    "loop.n_train": "none",
    "loop.steps_per_epoch": "none",
    "loop.n_validation": "not known",
    "loop.args": "none",
    "objective.direction": "that of the metric",
    "space.layer_decay": "none",
    "space.backbone_ratio": "none",
    "space.auto_extend": "`false`",
    "budget.trials": "50, or no limit if `hours` is given",
    "budget.hours": "no limit",
    "budget.stop": "the budget alone ends it",
    "space.seed": "the study's `seed`",
    "pruner.min_resource": "a fifth of `epochs` (gradual: a tenth, hyperband: 1)",
    "workers.trial_seconds": "no limit",
}
"""The default of a key that may be left unset, where the model says None; tests/test_docs.py checks them."""

NAME_RULE = "letters, digits, `.`, `_`, `-`; a letter or digit first; at most 100"

KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
DOMAIN_KINDS = {"float": "number", "int": "whole number", "bool": "true or false", "fractions": "list of fractions"}


def key_tables() -> dict[str, str]:
    """Return the tables of keys, Markdown, by the name of the marked part.

    Raises:
        SystemExit: a key without a meaning, or a meaning without a key.
    """
    used: set[str] = set()
    tables = {"study": (spec.StudySpec, "")}
    for table in (
        "dataset",
        "model",
        "loop",
        "objective",
        "budget",
        "strategy",
        "training",
        "augment",
        "workers",
        "space",
    ):
        tables[table] = (_model(spec.StudySpec.model_fields[table].annotation), f"{table}.")
    out = {f"keys of {name}": _table(model, prefix, used) for name, (model, prefix) in tables.items()}
    out |= {f"keys of {table}": _table_of_kinds(table, used) for table in deciding.KINDS}
    space = _model(spec.StudySpec.model_fields["space"].annotation)
    for part in ("optimizer", "schedule"):
        families = _model(space.model_fields[part].annotation)
        out[f"keys of space.{part}"] = _family_table(part, families, used)
    wrong = used.symmetric_difference(MEANINGS)
    if wrong:
        raise SystemExit(f"MEANINGS of docs/render_cli.py and the spec differ in: {', '.join(sorted(wrong))}")
    return out


def _table(model: type[BaseModel], prefix: str, used: set[str]) -> str:
    lines = ["| key | type | default | allowed | meaning |", "|--|--|--|--|--|"]
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if path == "workers.retries":
            # A table of its own in the file; one with its outer table on the page.
            inner = _table(_model(field.annotation), f"{path}.", used).splitlines()[2:]
            lines += [row.replace("| `", f"| `{name}.", 1) for row in inner]
            continue
        used.add(path)
        kind, allowed = _kind(field)
        lines.append(f"| `{name}` | {kind} | {_default(path, field)} | {allowed} | {MEANINGS.get(path, '')} |")
    return "\n".join(lines)


def _table_of_kinds(table: str, used: set[str]) -> str:
    """Return the keys of a table whose name decides which it has."""
    kinds = deciding.KINDS[table]
    allowed = ", ".join(f"`{name}`" for name in kinds)
    lines = ["| key | type | default | allowed | meaning |", "|--|--|--|--|--|"]
    default = spec.StudySpec.model_fields[table].default.name
    lines.append(f'| `name` | one of | `"{default}"` | {allowed} | {MEANINGS.get(f"{table}.name", "")} |')
    used.add(f"{table}.name")
    for kind in kinds.values():
        for name, field in kind.model_fields.items():
            path = f"{table}.{name}"
            if path not in used:
                used.add(path)
                what, limits = _kind(field)
                lines.append(f"| `{name}` | {what} | {_default(path, field)} | {limits} | {MEANINGS.get(path, '')} |")
    return "\n".join(lines)


def _family_table(part: str, families: type[BaseModel], used: set[str]) -> str:
    lines = [f"| {part} | key | type | default | allowed | meaning |", "|--|--|--|--|--|--|"]
    for family, outer in families.model_fields.items():
        fields = _model(outer.annotation).model_fields
        if not fields:
            lines.append(f"| `{family}` | none | | | | |")
        for name, field in fields.items():
            path = f"{family}.{name}"
            used.add(path)
            kind, allowed = _kind(field)
            meaning = MEANINGS.get(path, "")
            lines.append(f"| `{family}` | `{name}` | {kind} | {_default(path, field)} | {allowed} | {meaning} |")
    return "\n".join(lines)


def _model(annotation: object) -> type[BaseModel]:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    raise AssertionError(annotation)


def _kind(field: FieldInfo) -> tuple[str, str]:
    """Return the type of a key and what it allows."""
    optional = [one for part in get_args(field.annotation) if get_origin(part) is Annotated for one in get_args(part)]
    for metadata in (*field.metadata, *optional):
        if isinstance(metadata, domain.Parameter):
            bounds = "" if metadata.kind == "bool" else str(metadata.bounds)
            return DOMAIN_KINDS[metadata.kind], bounds
    if all(isinstance(part, type) and issubclass(part, BaseModel) for part in get_args(field.annotation) or (str,)):
        return "table", ""
    for metadata in field.metadata:
        if isinstance(metadata, OneOf):
            more = " or your own" if metadata.forms else ""
            return f"one of{more and ','}{more}", ", ".join(f"`{name}`" for name in metadata.records)
    kind, limits = _unwrapped(field.annotation, list(field.metadata))
    if get_origin(kind) is Literal:
        return "one of", ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is dict:
        return "table", ""
    if get_origin(kind) is tuple:
        inner, more = _unwrapped(get_args(kind)[0], [])
        return f"list of {KINDS[inner]}s", "each " + _limits(more)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "table", ""
    if any(getattr(limit, "pattern", None) for limit in limits):
        return "text", NAME_RULE
    return KINDS[kind], _limits(limits)


def _unwrapped(annotation: Any, limits: list[Any]) -> tuple[Any, list[Any]]:
    """Return the type under Annotated and Optional, and the limits met on the way."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for item in metadata:
            limits += item.metadata if isinstance(item, FieldInfo) else [item]
        return _unwrapped(inner, limits)
    if get_origin(annotation) in (Union, UnionType):
        # One name may stand for a list of one.
        inner = next(part for part in get_args(annotation) if part is not type(None))
        return _unwrapped(inner, limits)
    return annotation, limits


def _limits(limits: list[Any]) -> str:
    words = []
    for limit in limits:
        match limit:
            case annotated_types.Ge(ge=value):
                words.append(f"at least {value}")
            case annotated_types.Gt(gt=value):
                words.append(f"above {value}")
            case annotated_types.Le(le=value):
                words.append(f"at most {value}")
            case annotated_types.Lt(lt=value):
                words.append(f"below {value}")
    return ", ".join(words)


def _default(path: str, field: FieldInfo) -> str:
    value = field.default
    if path in UNSET:
        return UNSET[path]
    match value:
        case BaseModel():
            names = [name for name, inner in value if inner is not None]
            return f"`{names}`".replace("'", '"') if path in ("space.optimizer", "space.schedule") else "see there"
        case domain.Fixed() | domain.Choice() | domain.Range():
            return f"`{_toml(domain.to_plain(value))}`"
        case _:
            return f"`{_toml(value)}`"


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
        case list():
            return "[" + ", ".join(_toml(inner) for inner in value) + "]"
        case float():
            return f"{value:g}" if value and abs(value) < 1e-4 else str(value)  # 1e-05, not 0.00001
        case _:
            return str(value)


# --- drawings of the schedules ---------------------------------------------------------------------------------------

EXAMPLES: Mapping[ScheduleFamily, ScheduleConfig] = {
    "constant": ScheduleConfig("constant", 0.1),
    "step": ScheduleConfig("step", 0.1, 0.1, drops=3),
    "multistep": ScheduleConfig("multistep", 0.1, 0.1, milestones=(0.5, 0.75)),
    "exponential": ScheduleConfig("exponential", 0.1, 0.05),
    "linear": ScheduleConfig("linear", 0.1, 0.05),
    "cosine": ScheduleConfig("cosine", 0.1, 0.05),
    "polynomial": ScheduleConfig("polynomial", 0.1, 0.05, power=2.0),
    "inverse_sqrt": ScheduleConfig("inverse_sqrt", 0.1, 0.2),
    "one_cycle": ScheduleConfig("one_cycle", 0.0, 0.01, rise_fraction=0.3, initial_fraction=0.04),
    "triangular": ScheduleConfig("triangular", 0.0, 0.05, cycles=2),
    "warm_restarts": ScheduleConfig("warm_restarts", 0.1, 0.05, cycles=2, cycle_mult=2),
    "wsd": ScheduleConfig("wsd", 0.1, 0.05, decay_fraction=0.3),
    "wsd_cosine": ScheduleConfig("wsd_cosine", 0.1, 0.05, decay_fraction=0.3),
    "plateau": ScheduleConfig("plateau", 0.1, 0.05, drop_factor=0.1, patience_epochs=2),
}
COLUMNS, ROWS, ACROSS, GAP = 24, 3, 3, 4
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by row 0..3 and column 0..1."""


def drawing(schedule: ScheduleConfig) -> list[str]:
    """Return a schedule as ``ROWS`` lines of ``COLUMNS`` braille characters, from 0 to the peak."""
    width, height = 2 * COLUMNS, 4 * ROWS
    curve = schedules.factors(schedule, width * 10)[5::10]
    levels = [round((1 - float(factor)) * (height - 1)) for factor in curve]
    cells = [[0] * COLUMNS for _ in range(ROWS)]
    for x, level in enumerate(levels):
        begin = levels[x - 1] if x else level
        step = 1 if level >= begin else -1
        # A jump is drawn as the line that joins its ends.
        for y in range(begin + (step if level != begin else 0), level + step, step):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    return ["".join(chr(0x2800 + bits) for bits in row) for row in cells]


def drawings() -> str:
    """Return all families, a few side by side, as a block of text."""
    assert set(EXAMPLES) == set(FAMILIES)
    families = list(FAMILIES)
    lines: list[str] = []
    for i in range(0, len(families), ACROSS):
        group = families[i : i + ACROSS]
        columns = [[family, *drawing(EXAMPLES[family])] for family in group]
        lines += ["".join(cell.ljust(COLUMNS + GAP) for cell in row).rstrip() for row in zip(*columns, strict=True)]
        lines.append("")
    return _fenced("\n".join(lines).rstrip())


# --- pages and marked parts ------------------------------------------------------------------------------------------


def parts() -> dict[str, str]:
    """Return all marked parts by name."""
    template = resources.files("lrsearch.cli").joinpath("study_template.toml").read_text("utf-8").rstrip()
    return key_tables() | {"template": _fenced(template, "toml"), "drawings": drawings()}


def filled(text: str, rendered: Mapping[str, str]) -> str:
    """Return a page with its marked parts up to date."""

    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- rendered: {name} -->\n{rendered[name]}\n<!-- end: {name} -->"

    return re.sub(r"<!-- rendered: (?P<name>.+?) -->.*?<!-- end: (?P=name) -->", fill, text, flags=re.DOTALL)


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every page that has something rendered, with the text that it should have."""
    yield DOCS / "cli.md", cli_page()
    rendered = parts()
    missing = set(rendered)
    for name in ("study-file.md", "guide.md"):
        text = (DOCS / name).read_text("utf-8")
        missing -= set(re.findall(r"<!-- rendered: (.+?) -->", text))
        yield DOCS / name, filled(text, rendered)
    if missing:
        raise SystemExit(f"no page has a place for: {', '.join(sorted(missing))}")


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is stale")
    check = parser.parse_args().check
    stale = [(path, text) for path, text in pages() if not path.exists() or path.read_text("utf-8") != text]
    for path, text in stale:
        if check:
            print(f"{path.relative_to(DOCS.parent)} is stale: run python docs/render_cli.py", file=sys.stderr)
        else:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(DOCS.parent)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

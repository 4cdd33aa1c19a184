"""A trial as a program of its own, for PyTorch or Lightning: it needs no lrsearch, and has its learning rates."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from lrsearch import given
from lrsearch.errors import UsageError
from lrsearch.report import program_head
from lrsearch.report.arithmetic_code import ArithmeticCode, arithmetic_code
from lrsearch.report.code_lines import folded, literal
from lrsearch.report.group_code import GroupCode, group_code
from lrsearch.report.model_code import ModelCode, model_code
from lrsearch.report.optimizer_code import optimizer_code
from lrsearch.report.own_split import OwnSplit
from lrsearch.report.program_head import WIDTH
from lrsearch.report.program_imports import import_lines
from lrsearch.report.scheduler_code import SchedulerCode, num, scheduler_code
from lrsearch.report.targets import Framework
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.sources import Code, Pictures
from lrsearch.spec.study import StudySpec
from lrsearch.spec.training import AugmentSpec
from lrsearch.text import in_docstring
from lrsearch.trial import Trial

if TYPE_CHECKING:
    import jinja2


PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
"""Names that stand in the first line, which a program prints as its description."""


def program(
    trial: Trial, spec: StudySpec, framework: Framework, split: OwnSplit | None = None, split_name: str = ""
) -> str:
    """Return a program that trains the study's model with the trial's setting on the images that it was trained on.

    Args:
        trial: whose setting.
        spec: its study.
        framework: for which.
        split: the pictures of the study, where they are a person's own.
        split_name: the file beside the program that says which of them train.

    Raises:
        UsageError: the study's pictures are a person's own, and no file was named for the split; or only a person's own
            loop knows them; or a program of that framework does not compute as the search did.
    """
    spec.check_has_images()
    _check_found(spec)
    own = spec.dataset.own
    if own is not None and (split is None or not split_name):
        raise UsageError(
            "a program of a study with pictures of your own reads which of them train from a file beside it: name the "
            "file of the program with -o"
        )
    config, facts = trial.config, spec.facts
    function = own if isinstance(own, Code) else None
    computing = arithmetic_code(trial, spec, framework)
    parts = _Parts(model_code(spec), group_code(spec, config), class_weights(spec), function, spec.augment, computing)
    code = scheduler_code(config.schedule, spec.steps_per_epoch(config.batch_size) * config.epochs, parts.groups.kind)
    parameters = "parameters" if parts.one_group else "build_groups(model)"
    n_last = facts.n_train % config.batch_size
    return (
        _templates()
        .get_template(f"{framework}.py.j2")
        .render(
            trial=trial,
            spec=spec,
            config=config,
            title=in_docstring(parts.model.title),
            study_title=spec.name if PLAIN.fullmatch(spec.name) else "",
            head=program_head.head(trial, spec, framework),
            needs=program_head.needs(trial, spec, framework, parts.model),
            imports=import_lines(_imports(spec, framework, code, parts)),
            code=code,
            setup=_block(_setup(code)),
            optimizer=_block([f"return {optimizer_code(config.optimizer, parameters, 'PEAK_LR')}"]),
            peak_lr=num(config.optimizer.peak_lr),
            n_train=facts.n_train,
            n_test=facts.n_test,
            drops_single=n_last == 1
            and facts.n_train > config.batch_size
            and facts.network is not None
            and facts.network.batch_norm,
            **parts.context(),
            **_data_context(spec, parts, split, split_name),
        )
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a program is made of besides the schedule."""

    model: ModelCode
    groups: GroupCode
    weights: tuple[float, ...]
    """What classes count in the training loss; none where all count alike."""
    data: Code | None
    """The person's own function that gives the images."""
    augment: AugmentSpec | None
    """How training images are changed: see ``program_head.AUGMENTS`` for what a program does of it."""
    computing: ArithmeticCode
    """How it computes."""

    @property
    def one_group(self) -> bool:
        """Whether all parameters learn alike."""
        return self.groups.kind == "one"

    @property
    def plain_loss(self) -> bool:
        """Whether it is the cross entropy of what the model returns."""
        return self.model.is_plain and not self.weights and not self.smoothing

    @property
    def smoothing(self) -> float:
        """Part of a label that is spread over all classes in the training loss."""
        return 0.0 if self.augment is None else self.augment.label_smoothing or 0.0

    @property
    def augments(self) -> bool:
        """Whether the program changes images."""
        return self.augment is not None and bool(self.augment.flip or self.augment.crop)

    @property
    def functions(self) -> tuple[Code, ...]:
        """The person's own."""
        return (*self.model.functions, *(() if self.data is None else (self.data,)))

    def context(self) -> dict[str, Any]:
        """Return what the templates of these parts ask for."""
        model = self.model
        given = ("logits" if model.several else "output") + self.computing.in_fp32
        if model.loss is None:
            own_loss = ""
            smoothing = f", label_smoothing={num(self.smoothing)}" if self.smoothing else ""
            one_loss = f"F.cross_entropy({given}, labels{', weight=weight' if self.weights else ''}{smoothing})"
        else:
            own_loss = "\n".join(folded(f"own_loss = {_found(model.loss)}", WIDTH))
            one_loss = f"own_loss({given}, labels{', **keywords' if self.weights else ''})"
        return {
            "model": model,
            "groups": self.groups,
            "one_group": self.one_group,
            "plain_model": model.kind == "layers" and not (model.named or model.has_residual),
            "plain_loss": self.plain_loss,
            "layers": model.layers,
            "built": _block(_built(model)),
            "build": _block([f"build = {_found(model.function)}"]) if model.function is not None else "",
            "args": _block([f"keywords |= {model.args}"]) if model.args else "",
            "published": _published(model),
            "frozen": _constant("FROZEN", model.freezes),
            "levels": "\n".join(self.groups.table(WIDTH)),
            "class_weights": _constant("CLASS_WEIGHTS", self.weights) if self.weights else "",
            "own_loss": own_loss,
            "one_loss": one_loss,
            "augments": self.augments,
            "augment": self.augment,
            "computing": self.computing,
            "q": literal,
        }


def _data_context(spec: StudySpec, parts: _Parts, split: OwnSplit | None, split_name: str) -> dict[str, Any]:
    """Return what the templates of the data ask for."""
    own, facts, function = spec.dataset.own, spec.facts, parts.data
    known = DATASETS[spec.dataset.name] if own is None else None
    torchvision_class = None if known is None else known.torchvision
    folder = "Path" if torchvision_class or isinstance(own, Pictures) else "Path | None" if function is not None else ""
    return {
        "torchvision_class": torchvision_class,
        "colour": known is not None and known.shape[0] > 1,
        "size": 0 if known is None else known.shape[1],
        "n_pool": 0 if known is None else known.n_pool,
        "own_data": own is not None,
        "function": function,
        "folder": folder,
        "how": None if split is None else split.how,
        "root": literal("" if split is None else split.root),
        "split_name": literal(split_name),
        "mean": list(facts.mean),
        "std": list(facts.std),
        "mean_and_std": f"{_constant('MEAN', facts.mean)}\n{_constant('STD', facts.std)}",
        "load": "" if function is None else _block([f"load = {_found(function)}"]),
        "data_args": _block([f"keywords: dict[str, Any] = {literal(spec.dataset.args or {})}"]),
        "own_files": any(one.in_file for one in parts.functions),
        "own_modules": any(not one.in_file for one in parts.functions),
    }


def _constant(name: str, values: Sequence[float | str]) -> str:
    """Return a list under a name as code."""
    return "\n".join(folded(f"{name} = {literal(list(values))}", WIDTH))


def _found(code: Code) -> str:
    """Return what finds a person's own function, as code."""
    return f"of_{'file' if code.in_file else 'module'}({literal(code.where)}, {literal(code.function)})"


def _built(model: ModelCode) -> list[str]:
    """Return the lines that build a model that is not a person's own."""
    keywords = ", ".join([f"num_classes={model.n_classes}", *model.keywords])
    match model.kind:
        case "layers":
            inside = ", ".join(model.layers)
            return [
                f"model = nn.Sequential(OrderedDict({inside}))" if model.named else f"model = nn.Sequential({inside})"
            ]
        case "torchvision":
            return [f"model = models.get_model({literal(model.name)}, {keywords})"]
        case "timm":
            more = f", **size_of_images({literal(model.name)})" if model.sizes_itself else ""
            return [f"model = timm.create_model({literal(model.name)}, {keywords}{more})"]
        case "function":
            return []


def _published(model: ModelCode) -> str:
    """Return how weights of a package are named, as code for torchvision, as timm's name."""
    tag = model.published
    if model.kind == "timm":
        return model.name if tag == "DEFAULT" else f"{model.name.partition('.')[0]}.{tag}"
    return ".DEFAULT" if tag == "DEFAULT" else f"[{literal(tag.rpartition('.')[2])}]"


def class_weights(spec: StudySpec) -> tuple[float, ...]:
    """Return what classes count in the training loss, in the mean of all images 1; none where all count alike."""
    power, counts = spec.training.class_weights, spec.facts.train_counts
    if not power or not counts:
        return ()
    raw = [n**-power if n else 0.0 for n in counts]
    total = sum(weight * n for weight, n in zip(raw, counts, strict=True))
    return tuple(weight * sum(counts) / total for weight in raw)


def _imports(spec: StudySpec, framework: Framework, code: SchedulerCode, parts: _Parts) -> Iterator[str]:
    """Yield the import statements of a program."""
    model, own = parts.model, spec.dataset.own
    yield from ("import argparse", "import csv", "from pathlib import Path", "import torch", "from torch import nn")
    yield "from collections.abc import Iterator"
    is_digits = own is None and DATASETS[spec.dataset.name].torchvision is None
    if model.loss is None or is_digits or (parts.augments and spec.augment is not None and spec.augment.crop):
        yield "from torch.nn import functional as F"
    yield from ("from torch.utils.data import DataLoader", "from torch.utils.data import Sampler")
    yield from (f"from torch.optim.lr_scheduler import {name}" for name in code.imports)
    if code.needs_math or model.sets_channels or model.stem:
        yield "import math"
    if framework == "lightning":
        yield from (
            "import logging",
            "import sys",
            "import warnings",
            "from typing import Any",
            "import lightning as L",
        )
    yield from _data_imports(spec, parts.data)
    if parts.one_group:
        yield "from collections.abc import Iterable"
    if not parts.one_group or model.several or parts.functions or model.sizes_itself:
        yield "from typing import Any"
    if model.named:
        yield "from collections import OrderedDict"
    if model.function is not None:
        yield from ("import inspect", "import random", "import numpy as np")
        yield "from torch.nn.parameter import is_lazy"
    if model.loss is not None and parts.weights:
        yield "import inspect"
    if model.several or (model.file is not None and not model.file.is_safetensors):
        yield "from collections.abc import Mapping"
    if model.kind == "torchvision":
        yield "from torchvision import models"
    if model.kind == "timm":
        yield "import timm"
    if model.file is not None and model.file.is_safetensors:
        yield "from safetensors.torch import load_file"
    if parts.functions:
        yield "import sys"
    if any(one.in_file for one in parts.functions):
        yield "import importlib.util"
    if any(not one.in_file for one in parts.functions):
        yield "import importlib"


def _data_imports(spec: StudySpec, function: Code | None) -> Iterator[str]:
    if spec.dataset.own is None:
        yield from ("import numpy as np", "from torch.utils.data import TensorDataset")
        published = DATASETS[spec.dataset.name].torchvision is not None
        yield "from torchvision import datasets" if published else "from sklearn.datasets import load_digits"
        return
    yield from ("import json", "import numpy as np", "from PIL import Image", "from torch.utils.data import Dataset")
    if function is None:
        yield "from concurrent.futures import ThreadPoolExecutor"
    else:
        yield from ("import inspect", "from collections.abc import Mapping")


def _setup(code: SchedulerCode) -> list[str]:
    """Return the lines that make the schedulers; in a function one line is left free where a module has two."""
    lines: list[str] = ["peak_lr = PEAK_LR"] if any("peak_lr" in text for text in code.setup) else []
    for text in code.setup:
        if text or lines[-1]:
            lines.append(text)
    return lines


def _check_found(spec: StudySpec) -> None:
    """Refuse a program that would look for something in vain.

    Raises:
        UsageError: the study has functions or data that were handed over in Python.
    """
    names = [spec.dataset.name, spec.model.name, spec.model.loss or ""]
    handed = [given.short(name) for name in names if given.is_given(name)]
    if handed:
        raise UsageError(
            f"a program has to find '{handed[0]}', which was handed over in Python and stands in no file: put it in "
            f"net.py and search with 'net.py:{handed[0]}', or export to json or csv"
        )


def _block(lines: list[str]) -> str:
    """Return the lines as the body of a function."""
    return "\n".join(part for text in lines for part in folded(f"    {text}" if text else "", WIDTH))


@cache
def _templates() -> "jinja2.Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("lrsearch.report", "programs"),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(),  # of HTML alone: these are programs
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

"""A trial as a program of its own, for PyTorch or Lightning: it needs no lrsearch, and has its learning rates."""

import re
import shlex
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from lrsearch import families, schedules
from lrsearch.report import words
from lrsearch.report.code_lines import folded
from lrsearch.report.optimizer_code import optimizer_code
from lrsearch.report.scheduler_code import SchedulerCode, num, scheduler_code
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.models import MODELS
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted, in_docstring
from lrsearch.trial import Trial
from lrsearch.version import __version__

if TYPE_CHECKING:
    import jinja2

Framework = Literal["torch", "lightning"]

WIDTH: Final = 88
"""Characters beyond which a call is broken; what formatters have where nobody has told them."""

PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
"""Names that stand in the first line, which a program prints as its description."""


def program(trial: Trial, spec: StudySpec, framework: Framework) -> str:
    """Return a program that trains the study's model with the trial's setting on the images that it was trained on."""
    config, known = trial.config, DATASETS[spec.dataset.name]
    code = scheduler_code(config.schedule, spec.steps_per_epoch(config.batch_size) * config.epochs)
    optimizer = f"return {optimizer_code(config.optimizer, 'parameters', 'PEAK_LR')}"
    return (
        _templates()
        .get_template(f"{framework}.py.j2")
        .render(
            trial=trial,
            spec=spec,
            config=config,
            title=spec.name if PLAIN.fullmatch(spec.name) else "",
            head=_head(trial, spec, framework),
            needs=_needs(trial, spec, framework),
            layers=layers(spec),
            code=code,
            setup=_block(_setup(code)),
            optimizer=_block([optimizer]),
            peak_lr=num(config.optimizer.peak_lr),
            torchvision_class=known.torchvision,
            colour=known.shape[0] > 1,
            size=known.shape[1],
            n_pool=known.n_pool,
            n_train=spec.facts.n_train,
        )
    )


def layers(spec: StudySpec) -> list[str]:
    """Return the modules of the study's model, as ``training.models`` builds it."""
    facts = spec.facts
    found = MODELS[spec.model.name].layers(spec.model.hidden_resolved, facts.shape, len(facts.classes))
    return [f"nn.{layer.class_name}({', '.join(map(str, layer.arguments))})" for layer in found]


def _head(trial: Trial, spec: StudySpec, framework: Framework) -> str:
    """Return where the program comes from, as lines of a table."""
    config = trial.config
    optimizer = f"{words.optimizer(config.optimizer)}; peak lr {words.rate(config.optimizer.peak_lr)}"
    steps = spec.steps_per_epoch(config.batch_size)
    length = f"{counted(config.epochs, 'epoch')} of {counted(steps, 'update')}"
    rows = {
        "setting": f"{optimizer}; batch size {config.batch_size}",
        "schedule": f"{schedules.describe(config.schedule)}; {length}",
        "score": score(trial, spec),
        "study": spec.name,
        "made by": f"lrsearch {__version__}: lrsearch export {shlex.quote(spec.name)} --trial {trial.number} "
        f"--to {framework}",
    }
    lines = []
    for name, text in rows.items():
        lines += textwrap.wrap(
            in_docstring(text), WIDTH, initial_indent=f"{name:<10}", subsequent_indent=" " * 10, break_on_hyphens=False
        )
    return "\n".join(lines)


def score(trial: Trial, spec: StudySpec) -> str:
    """Return how good the trial was, in words."""
    if not trial.metrics:
        return f"none, the trial is {words.state(trial)}"
    last, n = trial.metrics[-1], spec.facts.n_validation
    said = f"validation accuracy {words.accuracy(last.val_accuracy, n)}, loss {words.number(last.val_loss)}"
    said += f" on {counted(n, 'image')}"
    if trial.test_accuracy is not None:
        said += f"; test accuracy {words.accuracy(trial.test_accuracy, spec.facts.n_test)} on {spec.facts.n_test}"
    if last.epoch < trial.config.epochs:
        said += f"; {words.state(trial)} after epoch {last.epoch}"
    return said


def _needs(trial: Trial, spec: StudySpec, framework: Framework) -> str:
    """Return what the program needs, and what it keeps of the search."""
    packages = "scikit-learn" if DATASETS[spec.dataset.name].torchvision is None else "torchvision"
    if framework == "lightning":
        packages = f"lightning and {packages}"
    kept = "The learning rate of every update is that of the search (--lr-log writes it down)"
    if families.of(trial.config.schedule).feedback:
        kept = "The learning rate follows the validation loss as it did in the search (--lr-log writes it down)"
    said = (
        f"It needs {packages}, and no lrsearch. {kept}. It begins with the weights of the search and sees the images "
    )
    return textwrap.fill(f"{said}in the same order, so that it should come close to that score.", WIDTH)


def _setup(code: SchedulerCode) -> list[str]:
    """Return the lines that make the schedulers; in a function one line is left free where a module has two."""
    lines: list[str] = ["peak_lr = PEAK_LR"] if any("peak_lr" in text for text in code.setup) else []
    for text in code.setup:
        if text or lines[-1]:
            lines.append(text)
    return lines


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

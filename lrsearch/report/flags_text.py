"""Options of another package's script as a person reads and runs them."""

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from lrsearch import schedules
from lrsearch.analysis.deviation import SMALL, Deviation
from lrsearch.errors import UsageError
from lrsearch.report import words
from lrsearch.report.code_lines import folded, literal
from lrsearch.report.flags import CALLED, Flags, refusal
from lrsearch.report.program_head import WIDTH, score
from lrsearch.report.scheduler_code import scheduler_code
from lrsearch.report.targets import Script
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted, shown
from lrsearch.trial import Trial
from lrsearch.version import __version__

EXACT: Final = 1e-9
"""Part of the peak below which a deviation is one of rounding."""

GRAIN: Final[Mapping[Script, str]] = {
    "timm": "it counts warm-up, drops and cycles in whole epochs, and ",
    "transformers": "",
    "torchvision": "it changes the learning rate once an epoch, and ",
}
"""Why a script may be far off."""


def too_far(flags: Flags, found: Deviation, trial: Trial) -> UsageError:
    """Return what is said where the best that a script can do is too far from the learning rate that was searched."""
    why = (
        f"{GRAIN[flags.script]}its learning rate would be off by up to {_part(found.largest, found)} of the peak, and "
        f"more than {100 * SMALL:.0f} % is not the same setting"
    )
    return refusal(trial, flags.script, why)


def text(flags: Flags, found: Deviation, version: str, trial: Trial, spec: StudySpec) -> str:
    """Return the options, with what they are and how far their learning rate lies from ours in comments above."""
    lines = list(_head(flags, found, version, trial, spec))
    if flags.script == "transformers":
        return "\n".join([*_commented(lines), *_python(flags, found, trial)]) + "\n"
    return "\n".join([*_commented(lines), *_command(flags)]) + "\n"


def _head(flags: Flags, found: Deviation, version: str, trial: Trial, spec: StudySpec) -> Iterator[str]:
    config = trial.config
    yield (
        f"Trial {trial.number} of the study {spec.name} for {CALLED[flags.script]}, by lrsearch {__version__}: "
        f"{words.optimizer(config.optimizer)}, peak lr {words.rate(config.optimizer.peak_lr)}, batch size "
        f"{config.batch_size}, {schedules.describe(config.schedule)}; {score(trial, spec)}."
    )
    updates = f"{counted(found.n_updates, 'update')} ({flags.epochs} epochs of {flags.updates_per_epoch})"
    if found.largest <= EXACT * found.peak_lr:
        yield f"Learning rate: that of the search at each of {updates}, by {flags.script} {version}'s own scheduler."
    else:
        yield (
            f"Learning rate, by {flags.script} {version}'s own scheduler at each of {updates}: at most "
            f"{words.rate(found.largest)} ({_part(found.largest, found)} of the peak) from that of the search, at "
            f"update {found.at}: {words.rate(found.theirs)} and not {words.rate(found.ours)}; on average "
            f"{_part(found.mean, found)} of the peak.{_shifted(found)}"
        )
    yield from (f"Otherwise than in the search: {shown(one)}." for one in flags.differs)


def _shifted(found: Deviation) -> str:
    if found.lasting <= EXACT * found.peak_lr:
        return " It is ours, an update early or late."
    if found.lasting < found.largest / 2:
        return f" But for an update early or late it is {_part(found.lasting, found)}."
    return ""


def _part(value: float, found: Deviation) -> str:
    return f"{100 * value / found.peak_lr:.2g} %"


def _commented(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(
            line, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False, break_long_words=False
        )


def _command(flags: Flags) -> Iterator[str]:
    options = [_option(key, value) for key, value in _all(flags).items()]
    yield " \\\n".join(["python train.py", *(f"    {one}" for one in options)])


def _option(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return flag
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([flag, *(shlex.quote(one if isinstance(one, str) else repr(one)) for one in values)])


def _all(flags: Flags) -> Mapping[str, Any]:
    every = {**flags.data, **flags.schedule, **flags.optimizer, **flags.rest}
    return {key: value for key, value in every.items() if value is not False or flags.script == "transformers"}


def _python(flags: Flags, found: Deviation, trial: Trial) -> Iterator[str]:
    exact = found.largest <= EXACT * found.peak_lr
    code = None if exact else scheduler_code(trial.config.schedule, found.n_updates, "unlike")
    if code is not None:
        yield from ["import math", ""] if code.needs_math else []
        yield f"from torch.optim.lr_scheduler import {', '.join(code.imports)}"
    yield f"from transformers import {'' if exact else 'Trainer, '}TrainingArguments"
    yield ""
    yield "arguments = TrainingArguments("
    yield '    output_dir="OUTPUT",'
    for key, value in _all(flags).items():
        yield from folded(f"    {key}={literal(value)},", WIDTH)
    yield ")"
    if code is None:
        return
    yield from ("", "", "class ExactTrainer(Trainer):")
    yield '    """Trains with the learning rate of the search, instead of the scheduler above."""'
    yield from ("", "    def create_scheduler(self, num_training_steps, optimizer=None):")
    yield "        optimizer, n_steps = optimizer or self.optimizer, num_training_steps"
    for before, one in pairwise(["", *code.setup]):
        if one or before:  # in a method one line is left free where a module has two
            yield from folded(f"        {one}" if one else "", WIDTH)
    yield "        self.lr_scheduler = scheduler"
    yield "        return scheduler"

"""`lrsearch show-schedule`: schedules as they would be trained with; without torch, and settings without optuna."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    JsonOption,
    StorageOption,
    chosen,
    no_url,
    opened,
    print_json,
    stderr,
    stdout,
)
from lrsearch.errors import EXIT_OK, UsageError, nearest
from lrsearch.families import FAMILIES, neutral
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.space import SHORT
from lrsearch.trial import OptimizerConfig, ScheduleConfig, ScheduleFamily

if TYPE_CHECKING:
    from lrsearch.report.schedule_drawing import Drawn

EPOCHS = 10
STEPS_PER_EPOCH = 100
MOST_STEPS = 10_000_000
"""Of one schedule: beyond this it is a slip of the keyboard."""

SHAPES = tuple(f.name for f in fields(ScheduleConfig) if f.name != "family")
NOT_OF_A_SCHEDULE = ("batch_size", *(f.name for f in fields(OptimizerConfig) if f.name not in ("name", "peak_lr")))
"""What a setting may hold, so that one can be pasted, and what bends no schedule."""


def show_schedule(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SETTING...|STUDY]",
            callback=lambda values: [no_url(value) for value in values or ()],
            help='Schedules to draw: "cosine warmup=0.1 final=0.01 lr=0.1"; with --trial the study instead.',
        ),
    ] = None,
    trials: Annotated[
        list[str] | None,
        typer.Option("--trial", metavar="best|N", help="Draw the schedule of a trial; may be given again."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help=f"Epochs of a SETTING.  [default: {EPOCHS}]")
    ] = None,
    steps_per_epoch: Annotated[
        int | None,
        typer.Option(
            "--steps-per-epoch", min=1, help=f"Updates in an epoch of a SETTING.  [default: {STEPS_PER_EPOCH}]"
        ),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> int:
    """Draw schedules in the terminal, several over each other, and say where they turn."""
    if trials:
        if epochs is not None or steps_per_epoch is not None:
            raise UsageError("--epochs and --steps-per-epoch go with a SETTING; a trial has its own")
        drawn = _of_trials(settings or [], trials, storage)
    else:
        drawn = _of_settings(settings or [], epochs or EPOCHS, steps_per_epoch or STEPS_PER_EPOCH)
    from lrsearch.report import schedule_drawing as report

    if len(drawn) > report.MOST:
        raise UsageError(f"one chart holds at most {report.MOST} schedules, got {len(drawn)}: draw fewer")
    if as_json:
        print_json(report.to_json(drawn))
    else:
        console = stdout()
        console.print(report.render(drawn, console.width))
    return EXIT_OK


def _of_trials(arguments: Sequence[str], wanted: Sequence[str], storage: str) -> "list[Drawn]":
    if len(arguments) > 1:
        raise UsageError(f"with --trial at most one study can be named, got {', '.join(arguments)}")
    with opened(storage) as database:
        from lrsearch.analysis.schedule_curve import planned_lrs
        from lrsearch.report.schedule_drawing import Drawn
        from lrsearch.store import study as studies

        study = studies.get(database, next(iter(arguments), None))
        found = [chosen(study, one) for one in wanted]
        steps = [study.spec.steps_per_epoch(trial.config.batch_size) for trial in found]
        return [
            Drawn(
                name=f"trial {trial.number}",
                schedule=trial.config.schedule,
                peak_lr=trial.config.optimizer.peak_lr,
                lrs=planned_lrs(trial, n),
                steps_per_epoch=n,
                epochs=trial.config.epochs,
            )
            for trial, n in zip(found, steps, strict=True)
        ]


def _of_settings(arguments: Sequence[str], epochs: int, steps_per_epoch: int) -> "list[Drawn]":
    from lrsearch import schedules
    from lrsearch.report.schedule_drawing import Drawn

    if epochs * steps_per_epoch > MOST_STEPS:
        raise UsageError(
            f"--epochs times --steps-per-epoch must be at most {MOST_STEPS:,}, got {epochs * steps_per_epoch:,}"
        )
    out = []
    for text in _separate(arguments):
        schedule, peak_lr = parse(text)
        schedules.validate(schedule)
        if FAMILIES[schedule.family].feedback:
            raise UsageError(
                f'"{text}" cannot be drawn ahead: {schedule.family} drops after validation results that nobody knows '
                f"before the training; draw one that was trained with --trial N"
            )
        lrs = schedules.factors(schedule, epochs * steps_per_epoch) * peak_lr
        out.append(Drawn("", schedule, peak_lr, lrs, steps_per_epoch, epochs))
    return out


def _separate(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the settings: one an argument that names a family; what stands between belongs to the one before it."""
    words: list[str] = []
    for argument in arguments:
        if _names_family(argument) and _names_family(" ".join(words)):
            yield " ".join(words)
            words = []
        words.append(argument)
    if not any(argument.strip() for argument in arguments):
        raise UsageError(
            f"show-schedule must be given a setting, such as 'cosine warmup=0.1 lr=0.1', or --trial N, got none; "
            f"schedules: {', '.join(FAMILIES)}"
        )
    yield " ".join(words)


def _names_family(text: str) -> bool:
    return any(word in FAMILIES for word in text.split())


def parse(text: str) -> tuple[ScheduleConfig, float]:
    """Return the schedule and the peak learning rate of ``"cosine warmup=0.1 lr=0.1"``; the peak is 1 if not given.

    Words of a whole setting that bend no schedule (an optimizer, ``batch=64``) are named on stderr and left out.

    Raises:
        UsageError: a word that is none of these, or no family.
    """
    families: list[ScheduleFamily] = [family for word in text.split() for family in FAMILIES if word == family]
    given: dict[str, Any] = {}
    unused: list[str] = []
    for word in text.split():
        key, equals, raw = word.partition("=")
        key = SHORT.get(key, key)
        if equals and key in (*SHAPES, "peak_lr"):
            if key in given:
                raise UsageError(f'schedule "{text}": {key} is given twice; put every schedule into quotes of its own')
            given[key] = _value(text, key, raw)
        elif (equals and key in NOT_OF_A_SCHEDULE) or word in OPTIMIZERS:
            unused.append(word)
        elif equals:
            known = [*SHAPES, "peak_lr", *SHORT]
            raise UsageError(
                f"schedule \"{text}\": there is no field '{key}'{nearest(key, known)}; known: {', '.join(known)}"
            )
        elif word not in FAMILIES:
            hint = nearest(word, [*FAMILIES, *OPTIMIZERS])
            raise UsageError(f"schedule \"{text}\": '{word}' is no schedule{hint}; known: {', '.join(FAMILIES)}")
    if len(families) != 1:
        came = f"got {', '.join(families)}" if families else "got none"
        raise UsageError(f'schedule "{text}": must name one schedule of {", ".join(FAMILIES)}, {came}')
    if unused:
        stderr().print(f"lrsearch: no part of a schedule, left out: {', '.join(unused)}", markup=False)
    peak_lr = given.pop("peak_lr", 1.0)
    if not (isinstance(peak_lr, int | float) and 0 < peak_lr < math.inf):
        raise UsageError(f'schedule "{text}": lr must be above 0 and finite, got {peak_lr}')
    return ScheduleConfig(families[0], **neutral(families[0]) | given), float(peak_lr)


def _value(text: str, key: str, raw: str) -> float | tuple[float, ...]:
    """Return a number, whole where it is written so; for milestones a tuple of them."""
    try:
        if key == "milestones":
            return tuple(float(part) for part in raw.strip("[]").split(","))
        return int(raw) if raw.lstrip("+-").isdecimal() else float(raw)
    except ValueError:
        what = "numbers such as 0.5,0.75" if key == "milestones" else "a number"
        raise UsageError(f"schedule \"{text}\": {key} must be {what}, got '{raw}'") from None

"""`lrsearch show N`: one trial, its training trace epoch by epoch, its loss and its schedule drawn."""

import math
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lrsearch import schedules
from lrsearch.analysis.observations import observe
from lrsearch.analysis.precision import n_test, n_validation
from lrsearch.report import words
from lrsearch.report.chart import Curve, axes, plot
from lrsearch.report.lines import ending
from lrsearch.report.plain import epoch, nested
from lrsearch.report.schedule_curve import planned_lrs
from lrsearch.spec import StudySpec
from lrsearch.trial import State, Trial

SCHEMA = "lrsearch/trial/1"

LOSS_ROWS = 10
SCHEDULE_ROWS = 6

FALLING_BY_FACTORS = frozenset({"step", "multistep", "exponential", "inverse_sqrt", "plateau"})
"""Families whose shape is seen on a logarithmic axis."""


def to_json(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """Return the trial with its epochs, each with its observation, as JSON."""
    out = nested(trial)
    out["metrics"] = [epoch(m) | {"observation": o} for m, o in zip(trial.metrics, observe(trial), strict=True)]
    steps = spec.steps_per_epoch(trial.config.batch_size)
    about = {"study": spec.name, "steps_per_epoch": steps, "schedule": schedules.describe(trial.config.schedule)}
    return {"schema": SCHEMA, **about, "trial": out}


def render(trial: Trial, spec: StudySpec, width: int = 80) -> RenderableType:
    """Return the trace for people, its charts ``width`` columns wide at most 100."""
    parts: list[RenderableType] = [_header(trial, spec), ""]
    if trial.metrics:
        parts += [_table(trial, spec, width), "", *_loss_chart(trial, min(width, 100)), ""]
    else:
        parts += [Text("No epoch was completed: there is no loss to show."), ""]
    parts += _schedule_chart(trial, spec, min(width, 100))
    return Group(*parts)


def _header(trial: Trial, spec: StudySpec) -> Table:
    config = trial.config
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    steps = spec.steps_per_epoch(config.batch_size)
    rows = {
        "trial": f"{trial.number} of {spec.name}: {_state(trial, spec)}",
        "optimizer": f"{words.optimizer(config.optimizer)}, peak lr {words.rate(config.optimizer.peak_lr)}",
        "schedule": schedules.describe(config.schedule),
        "batch size": f"{config.batch_size} ({steps} updates an epoch)",
        "data, model": f"{spec.dataset.name}, {spec.model.name}; judged on {n_validation(spec)} validation images",
        "seed": f"{config.seed} (initial weights and batch order)",
        "origin": trial.origin,
        "device": trial.device or words.NOTHING,
        "versions": trial.versions or words.NOTHING,
        "time": f"{words.moment(trial.started_at)}, {words.duration(sum(m.seconds for m in trial.metrics))} of training",
    }
    if trial.test_accuracy is not None:
        test = words.accuracy(trial.test_accuracy, n_test(spec))
        rows["test"] = f"accuracy {test}, loss {words.number(trial.test_loss)} on {n_test(spec)} untouched images"
    for name, text in rows.items():
        grid.add_row(name, text)
    return grid


def _state(trial: Trial, spec: StudySpec) -> str:
    if trial.outcome is None:
        return f"running, {len(trial.metrics)} of {trial.config.epochs} epochs"
    return ending(trial.outcome, spec)


def _table(trial: Trial, spec: StudySpec, width: int) -> Table:
    table = Table(box=box.MARKDOWN, header_style="bold")
    for name in ("Epoch", "Train loss", "Val loss", "Accuracy", "lr"):
        # Where there is little room, the words take it.
        table.add_column(name if width >= 100 else name.replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column("Observation", overflow="fold", ratio=1)
    n = n_validation(spec)
    for row, observation in zip(trial.metrics, observe(trial), strict=True):
        losses = (words.number(row.train_loss), words.number(row.val_loss))
        cells = (str(row.epoch), *losses, words.accuracy(row.val_accuracy, n), words.rate(row.lr))
        table.add_row(*cells, observation)
    return table


def _loss_chart(trial: Trial, width: int) -> list[Text]:
    rows, epochs = trial.metrics, trial.config.epochs
    train, val = [row.train_loss for row in rows], [row.val_loss for row in rows]
    frame = axes([*train, *val], epochs, log_ratio=30, label=words.number)
    if frame is None:
        return [Text("The loss was never a number: there is nothing to draw.")]
    xs = [row.epoch for row in rows]
    sparse = epochs * 3 <= width
    every = 1 if sparse else math.ceil(epochs * 3 / width)
    curves = [
        Curve(xs, train, "cyan", line=True, mark="*" if sparse else ""),
        Curve(xs[::every], val[::every], "yellow", mark="o"),
    ]
    axis = ", logarithmic axis" if frame.log else ""
    title = Text.assemble(("Loss", "bold"), " [nats]: ", ("* training" if sparse else "line training", "cyan"))
    title.append_text(Text.assemble(", ", ("o validation", "yellow"), ", @ both" if sparse else "", axis))
    return [title, *plot(curves, frame, width=width, rows=LOSS_ROWS, ticks=_ticks(epochs, width), x_label="epoch")]


def _schedule_chart(trial: Trial, spec: StudySpec, width: int) -> list[Text]:
    """Draw the learning rate over all planned updates; a mark shows where the training ended early."""
    config = trial.config
    steps = spec.steps_per_epoch(config.batch_size)
    lrs = planned_lrs(trial, steps)
    # As many points as there are columns of dots, twice over, the corners of a staircase to within one of them.
    count = min(len(lrs), 4 * width)
    at = [round(i * (len(lrs) - 1) / max(count - 1, 1)) for i in range(count)]
    drawn = [float(lrs[i]) for i in at]
    ratio = 20 if config.schedule.family in FALLING_BY_FACTORS else math.inf
    frame = axes(drawn if len(set(drawn)) > 1 else [0.0, *drawn], config.epochs, log_ratio=ratio, label=words.rate)
    if frame is None:
        return []
    curves = [Curve([(i + 1) / steps for i in at], drawn, "green", line=True)]
    end = _end(trial)
    ended = ""
    if end is not None and end[0] <= len(lrs):
        step, mark, what = end
        curves.append(Curve([step / steps], [float(lrs[step - 1])], "red", mark=mark))
        ended = f", {mark} {what}"
    title = Text.assemble(("Learning rate", "bold"), f" over {steps * config.epochs} updates")
    title.append(f"{', logarithmic axis' if frame.log else ''}{ended}")
    ticks = _ticks(config.epochs, width)
    return [title, *plot(curves, frame, width=width, rows=SCHEDULE_ROWS, ticks=ticks, x_label="epoch")]


def _end(trial: Trial) -> tuple[int, str, str] | None:
    """Return the update after which an unfinished training ended, its mark and the words for it."""
    done = trial.metrics[-1].step if trial.metrics else 0
    outcome = trial.outcome
    if outcome is None:
        return (done, ">", "so far") if done else None
    if outcome.state == State.DIVERGED and outcome.step is not None:
        return outcome.step + 1, "!", f"diverged at step {outcome.step}"
    if outcome.state in (State.PRUNED, State.FAILED) and done:
        return done, "x", f"{outcome.state} after {done} updates"
    return None


def _ticks(epochs: int, width: int) -> list[int]:
    """Return epochs to name under an axis: all, or every 2nd, 5th, 10th and so on."""
    fit = max(width // 6, 2)
    step = next(s * 10**e for e in range(9) for s in (1, 2, 5) if epochs / (s * 10**e) <= fit)
    return [k for k in range(step, epochs + 1, step)]

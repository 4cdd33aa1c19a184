"""`lrsearch show N`: one trial, its training trace epoch by epoch, its loss and its schedule drawn."""

import math
import shlex
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lrsearch import families, schedules
from lrsearch.analysis.answer import shown_metrics
from lrsearch.analysis.observations import observe
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.analysis.trial_diagnosis import diagnose_trial
from lrsearch.report import branches, study_words, words
from lrsearch.report.chart import BOTH, Chart, Curve, axes, draw, epoch_ticks, thinned
from lrsearch.report.fitted import FittedTable
from lrsearch.report.lines import ending
from lrsearch.report.plain import epoch, nested, plain
from lrsearch.spec.metrics import METRICS, Metric
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted, shown
from lrsearch.trial import Reason, Refused, State, Trial

SCHEMA = "lrsearch/trial/1"

LOSS_ROWS = 10
SCHEDULE_ROWS = 6
WIDEST_CHART = 100
POINTS = 400
"""Updates of the schedule that are drawn: two to a dot of the widest chart, so that a staircase keeps its corners."""

"""Families whose shape is seen on a logarithmic axis."""

RUNGS = 3
"""Of a trial, so many are said at most, the last ones."""


def to_json(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """Return the trial with its epochs, each with its observation, as JSON."""
    out = nested(trial)
    said = _observed(trial, spec)
    out["metrics"] = [epoch(m) | {"observation": o} for m, o in zip(trial.metrics, said, strict=True)]
    steps = spec.steps_per_epoch(trial.config.batch_size)
    about = {"study": spec.name, "steps_per_epoch": steps, "schedule": schedules.describe(trial.config.schedule)}
    levels = study_words.level_json(spec, trial.config)
    diagnosis = plain(asdict(diagnose_trial(trial, spec)))
    return {"schema": SCHEMA, **about, **({"levels": levels} if levels else {}), "diagnosis": diagnosis, "trial": out}


def render(trial: Trial, spec: StudySpec, width: int = 80, *, weights_kept: bool = False) -> RenderableType:
    """Return the trace for people, ``width`` columns wide; ``weights_kept`` says that there is more to look at."""
    parts: list[RenderableType] = [_header(trial, spec, weights_kept=weights_kept), ""]
    if (levels := study_words.level_table(spec, trial.config)) is not None:
        acts = f"weight decay acts on {study_words.decay(spec)}"
        parts += [Text.assemble(("Learning rates by level", "bold"), f"; {acts}"), levels, ""]
    if trial.metrics:
        parts.append(_table(trial, spec, width))
        averaged = spec.metric.averaged and spec.metric.of_averaged(trial.metrics[-1]) is not None
        if averaged and trial.state == State.PRUNED:
            parts.append(Text(f"Rungs compare the {spec.metric.label} of the averaged weights, not that of the table."))
    else:
        parts.append(Text("No epoch was completed: there is no loss to show."))
    if trial.interruptions:
        parts += ["", Text("Interruptions", style="bold"), _interruptions(trial)]
    if trial.moves:
        parts += ["", Text("Why it was trained so far", style="bold"), _moves(trial)]
    charts = [chart for chart in (_loss_chart(trial, width), _schedule_chart(trial, spec)) if chart is not None]
    width = min(width, WIDEST_CHART)
    epochs = trial.config.epochs
    return Group(*parts, "", *draw(charts, width=width, ticks=epoch_ticks(epochs, width), x_label="epoch"))


def refused_json(one: Refused, spec: StudySpec) -> dict[str, Any]:
    """Return as JSON what a person enqueued outside the space, with what there is to say of it."""
    about = {"state": State.FAILED.value, "reason": Reason.NOT_IN_SPACE.value, "origin": "enqueued"}
    return {"schema": SCHEMA, "study": spec.name, "trial": about | plain(asdict(one))}


def refused(one: Refused, spec: StudySpec) -> Text:
    """Return for people what a person enqueued outside the space, and why it was not trained."""
    asked = ", ".join(f"{shown(str(key))}={shown(str(value))}" for key, value in one.params.items())
    return Text(f"trial {one.number} of {spec.name} was not trained: {one.message}\nenqueued: {asked}")


def _header(trial: Trial, spec: StudySpec, *, weights_kept: bool) -> Table:
    config = trial.config
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    steps = spec.steps_per_epoch(config.batch_size)
    seconds = words.duration(sum(m.seconds for m in trial.metrics))
    rows = {
        "trial": f"{trial.number} of {spec.name}: {_state(trial, spec)}",
        "optimizer": f"{words.optimizer(config.optimizer)}, peak lr {words.rate(config.optimizer.peak_lr)}",
        "schedule": schedules.describe(config.schedule),
        "batch size": f"{config.batch_size} ({counted(steps, 'update')} an epoch)",
        "data, model": study_words.judged_by(spec),
        "seed": f"{config.seed} (initial weights and batch order)",
        "origin": trial.origin,
        "device": trial.device or words.NOTHING,
        "versions": trial.versions or words.NOTHING,
        "worker": trial.worker or words.NOTHING,
        "started": f"{words.moment(trial.started_at)}, trained for {seconds}",
    }
    if begun := branches.sentence(trial):
        rows["branch"] = begun
    if by_layer := study_words.levels(spec, config):
        rows["layers"] = by_layer
    if augmentation := study_words.augmentation(spec):
        rows["augmentation"] = augmentation
    if warned := study_words.warning(spec):
        rows["repeatable"] = f"no: {warned}"
    judged = [m for m in trial.metrics if m.cut is not None and m.rung_score is not None]
    if judged:
        rows["rungs"] = (f"the last {RUNGS} of {len(judged)}: " if len(judged) > RUNGS else "") + "; ".join(
            f"epoch {m.epoch}: {m.rung_score:.4g}, "
            + ("the first there" if m.n_compared == 1 else f"the cut was {m.cut:.4g} among {m.n_compared} trials")
            for m in judged[-RUNGS:]
        )
    if trial.test_accuracy is not None:
        said: list[tuple[Metric, float | None]] = []
        said += [] if trial.test_score is None else [(spec.metric, trial.test_score)]
        said += [(METRICS["accuracy"], trial.test_accuracy), (METRICS["loss"], trial.test_loss)]
        n = spec.facts.n_test
        scores = ", ".join(f"{metric.label} {words.metric_value(metric, value, n)}" for metric, value in said)
        rows["test"] = f"{scores} on {n} untouched images"
    if trial.weights_sha256:
        rows["weights"] = f"sha256 {trial.weights_sha256}"
    if weights_kept:
        rows["kept for"] = (
            f"`lrsearch predict {shlex.quote(spec.name)} --trial {trial.number}`: what they make of an image"
        )
    rows["diagnosis"] = diagnose_trial(trial, spec).sentence
    for name, text in rows.items():
        # As Text: a message or a device may hold square brackets, which a string would lose as markup.
        grid.add_row(name, Text(text))
    return grid


def _observed(trial: Trial, spec: StudySpec) -> list[str]:
    mixed = spec.augment is not None and bool(spec.augment.of_the_loss)
    return observe(trial, len(spec.facts.classes), mixed=mixed)


def _state(trial: Trial, spec: StudySpec) -> str:
    if trial.outcome is None:
        what = "interrupted, goes on with the next worker" if trial.interrupted else f"running at {trial.worker}"
        return f"{what}, {len(trial.metrics)} of {counted(trial.config.epochs, 'epoch')}"
    return ending(trial.outcome, spec)


def _interruptions(trial: Trial) -> FittedTable:
    table = FittedTable("--json has all", box=box.MARKDOWN, header_style="bold")
    giving_way = {"Try": 0, "Ended": 2, "Reason": 1, "Worker": 5, "Device": 6, "Epoch": 3, "Kept": 4}
    for name, gives_way in giving_way.items():
        number = name in ("Try", "Epoch", "Kept")
        table.add_column(
            name,
            gives_way=gives_way,
            justify="right" if number else "left",
            no_wrap=number,
            overflow=None if number else "fold",
        )
    table.add_column("Why", gives_way=7, overflow="fold", ratio=1)
    for one in trial.interruptions:
        when = words.NOTHING if one.at is None else f"{one.at:%Y-%m-%d %H:%M:%S}"
        about = (words.reason(one.reason), one.worker, one.device, str(one.epoch), str(one.step), one.message)
        # As Text: a message may hold square brackets.
        table.add_row(str(one.attempt), when, *(Text(text) for text in about))
    return table


MOVES = {"start": "begun", "pause": "paused", "resume": "goes on"}


def _moves(trial: Trial) -> FittedTable:
    table = FittedTable("--json has all", box=box.MARKDOWN, header_style="bold")
    table.add_column("Epoch", gives_way=0, justify="right", no_wrap=True)
    table.add_column("What", gives_way=1, no_wrap=True)
    table.add_column("Why", gives_way=2, overflow="fold", ratio=1)
    for one in trial.moves:
        table.add_row(str(one.epoch), MOVES[one.kind], Text(one.why))
    return table


def _table(trial: Trial, spec: StudySpec, width: int) -> FittedTable:
    table = FittedTable("--json has all", box=box.MARKDOWN, header_style="bold")
    scores = [metric for metric in shown_metrics(spec) if metric.name != "loss"]
    named = {metric.label.capitalize(): 1 for metric in scores}
    for name, gives_way in {"Epoch": 0, "Train loss": 3, "Val loss": 2, **named, "lr": 4}.items():
        # Where there is little room, the words take it.
        heading = name if width >= 100 else name.replace(" ", "\n")
        table.add_column(heading, gives_way=gives_way, justify="right", no_wrap=True)
    table.add_column("Observation", gives_way=5, overflow="fold", ratio=1)
    n = spec.facts.n_validation
    for row, observation in zip(trial.metrics, _observed(trial, spec), strict=True):
        losses = (words.number(row.train_loss), words.number(row.val_loss))
        scored = (words.metric_value(metric, metric.of(row), n) for metric in scores)
        cells = (str(row.epoch), *losses, *scored, words.rate(row.lr))
        table.add_row(*cells, observation)
    return table


def _loss_chart(trial: Trial, width: int) -> Chart | None:
    """Return the losses over the epochs; None where none was ever a number."""
    rows, epochs = trial.metrics, trial.config.epochs
    train, val = [row.train_loss for row in rows], [row.val_loss for row in rows]
    frame = axes([*train, *val], epochs, log_ratio=30, label=words.number)
    if frame is None:
        return None
    xs = [row.epoch for row in rows]
    # A mark takes three columns to stand alone; where there are more epochs, the line shows the training.
    every = math.ceil(3 * epochs / min(width, WIDEST_CHART))
    curves = [
        Curve(xs, train, "cyan", line=True, mark="*" if every == 1 else ""),
        Curve(xs[::every], val[::every], "yellow", mark="o"),
    ]
    title = Text.assemble(("Loss", "bold"), " [nats]: ", ("* training" if every == 1 else "line: training", "cyan"))
    title.append_text(Text.assemble(", ", ("o validation", "yellow"), f", {BOTH} both" if every == 1 else ""))
    title.append(", logarithmic axis" if frame.log else "")
    return Chart(title, curves, frame, LOSS_ROWS)


def _schedule_chart(trial: Trial, spec: StudySpec) -> Chart | None:
    """Return the learning rate over all planned updates; a mark shows where the training ended early."""
    config = trial.config
    steps = spec.steps_per_epoch(config.batch_size)
    lrs = planned_lrs(trial, steps)
    at = thinned(len(lrs), POINTS)
    drawn = [float(lrs[i]) for i in at]
    ratio = 20 if families.of(config.schedule).by_factors else math.inf
    frame = axes(drawn if len(set(drawn)) > 1 else [0.0, *drawn], config.epochs, log_ratio=ratio, label=words.rate)
    if frame is None:
        return None
    curves = [Curve([(i + 1) / steps for i in at], drawn, "green", line=True)]
    title = Text.assemble(("Learning rate", "bold"), f" over {counted(steps * config.epochs, 'update')}")
    title.append(", logarithmic axis" if frame.log else "")
    end = _end(trial)
    if end is not None and 0 < end[0] <= len(lrs):
        step, mark, what = end
        curves.append(Curve([step / steps], [float(lrs[step - 1])], "red", mark=mark))
        title.append(f", {mark} {what}")
    return Chart(title, curves, frame, SCHEDULE_ROWS)


def _end(trial: Trial) -> tuple[int, str, str] | None:
    """Return the update after which an unfinished training ended, its mark and the words for it."""
    done = trial.metrics[-1].step if trial.metrics else 0
    outcome = trial.outcome
    if outcome is None:
        return (done, ">", "so far") if done else None
    if outcome.state == State.DIVERGED and outcome.step is not None:
        return outcome.step + 1, "!", f"{words.ended_as(outcome)} at step {outcome.step}"
    if outcome.state in (State.PRUNED, State.FAILED) and done:
        return done, "x", f"{outcome.state} after {counted(done, 'update')}"
    return None

"""The validation loss of every trial, epoch by epoch."""

from collections.abc import Sequence
from typing import Any

from lrsearch.analysis.material import Material
from lrsearch.report import words
from lrsearch.report.figure import (
    SYMBOLS,
    Figure,
    grouped,
    hover,
    median,
    meta,
    short,
)
from lrsearch.text import counted
from lrsearch.trial import State, Trial

POINTS_SHOWN = 60_000
"""Epochs that are drawn at most, all trials together; of long trainings every second, third, ... one."""


def loss_figure(material: Material, winner: Trial | None) -> Figure:
    """Return the curves of all trials that completed an epoch, the winner's on top."""
    spec = material.spec
    drawn = [t for t in material.trials if any(short(row.val_loss) is not None for row in t.metrics)]
    others = [t for t in drawn if winner is None or t.number != winner.number]
    stride = max(1, -(-sum(len(t.metrics) for t in drawn) // POINTS_SHOWN))
    data: list[dict[str, Any]] = []
    for (state, family, optimizer), trials in grouped(others).items():
        mine = (state, family, optimizer)
        look = {"color": f"@state-{state}", "width": 1}
        data.append(
            _curves(trials, stride)
            | {"mode": "lines", "line": look, "opacity": _faintness(len(drawn)), "hoverinfo": "skip"}
            | {"meta": meta("curve", *mine)}
        )
        dot = {"symbol": SYMBOLS[state][0], "size": 6, "color": f"@state-{state}"}
        dot["line"] = {"width": 1.2, "color": f"@state-{state}"}
        ends = {"mode": "markers", "marker": dot, "meta": meta("trial", *mine)}
        data.append(_ends(trials, [hover(t, spec) for t in trials]) | ends)
    if winner is not None and winner in drawn:
        mine = (winner.state, winner.config.schedule.family, winner.config.optimizer.name)
        bold = {"mode": "lines", "line": {"color": "@winner", "width": 3}, "hoverinfo": "skip"}
        data.append(_curves([winner], 1) | bold | {"meta": meta("winner", *mine)})
        star = {"symbol": "star", "size": 14, "color": "@winner", "line": {"width": 1, "color": "@paper"}}
        star_end = {"mode": "markers", "marker": star, "meta": meta("trial", *mine)}
        data.append(_ends([winner], [hover(winner, spec)]) | star_end)
    missing = len(material.trials) - len(drawn)
    notes = ["Each line is a trial and ends in the mark of its state; the thick line is the winner."]
    if missing:
        notes.append(f"{counted(missing, 'trial')} without a completed epoch whose loss is a number: no line.")
    if stride > 1:
        notes.append(f"Of {stride} epochs one is drawn, and the last of each trial.")
    return Figure(
        key="loss",
        title="Validation loss, epoch by epoch",
        finding=_finding(drawn, winner),
        data=tuple(data),
        layout={
            "xaxis": {"title": {"text": "epoch"}, "range": [0.5, spec.epochs + 0.5], "ticks": "outside"},
            "yaxis": {"title": {"text": "validation loss"}, "type": "log"},
        },
        n_marks=len(drawn),
        empty="" if drawn else "No trial has completed an epoch yet.",
        header=("state", "trials", "lowest loss at the end", "median", "highest"),
        rows=tuple(_row(state, drawn) for state in State if any(t.state == state for t in drawn)),
        note=" ".join(notes),
        views={"y": "log"},
    )


def _faintness(n: int) -> float:
    """Return how opaque a line is among ``n``: many lines must not become one dark patch."""
    return 0.7 if n <= 60 else 0.4 if n <= 400 else 0.06


def _curves(trials: Sequence[Trial], stride: int) -> dict[str, Any]:
    xs: list[int | None] = []
    ys: list[float | None] = []
    for trial in trials:
        kept = [row for row in trial.metrics if row.epoch % stride == 0 or row is trial.metrics[-1]]
        xs += [row.epoch for row in kept]
        ys += [short(row.val_loss) for row in kept]
        # A gap: the next trial begins.
        xs.append(None)
        ys.append(None)
    return {"type": "scatter", "x": xs[:-1], "y": ys[:-1], "connectgaps": False}


def _ends(trials: Sequence[Trial], texts: list[str]) -> dict[str, Any]:
    lasts = [[row for row in t.metrics if short(row.val_loss) is not None][-1] for t in trials]
    return {
        "type": "scatter",
        "x": [row.epoch for row in lasts],
        "y": [short(row.val_loss) for row in lasts],
        "text": texts,
        "hovertemplate": "%{text}<br>validation loss %{y:.3g}<extra></extra>",
    }


def _last_losses(trials: Sequence[Trial], state: State) -> list[float]:
    return [loss for t in trials if t.state == state and (loss := short(t.metrics[-1].val_loss)) is not None]


def _row(state: State, trials: Sequence[Trial]) -> tuple[str, ...]:
    losses = _last_losses(trials, state)
    n = sum(t.state == state for t in trials)
    low, high = (min(losses), max(losses)) if losses else (None, None)
    return (state.value, str(n), words.number(low), words.number(median(losses)), words.number(high))


def _finding(drawn: Sequence[Trial], winner: Trial | None) -> str:
    said = []
    if winner is not None and winner.metrics:
        complete = _last_losses(drawn, State.COMPLETE)
        ends = f"Trial {winner.number}, the winner, ends at a loss of {words.number(winner.metrics[-1].val_loss)}"
        said.append(
            f"{ends}; the median of {counted(len(complete), 'complete trial')} is {words.number(median(complete))}."
        )
    pruned = _last_losses(drawn, State.PRUNED)
    if pruned:
        epochs = [t.metrics[-1].epoch for t in drawn if t.state == State.PRUNED]
        span = f"epoch {min(epochs)}" if min(epochs) == max(epochs) else f"epochs {min(epochs)} to {max(epochs)}"
        said.append(
            f"{counted(len(pruned), 'trial')} ended by the pruner at {span} stood at {words.number(median(pruned))} "
            f"(median)."
        )
    return " ".join(said) or f"{counted(len(drawn), 'trial')} so far."

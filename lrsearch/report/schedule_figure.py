"""The learning rate of the best trials, update by update."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrsearch import families, schedules
from lrsearch.analysis.material import Material
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.report import words
from lrsearch.report.figure import Figure, meta, short
from lrsearch.schedules import Factors
from lrsearch.trial import Trial

RUNNERS_UP = 4
CORNER = 1e-3
"""Part of the peak by which a learning rate must leave the straight line between its neighbours to be a corner."""
POINTS = 300
"""Updates of a curve that are drawn beside its corners."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def schedule_figure(material: Material, order: Sequence[Trial]) -> Figure:
    """Return the schedules of the winner and of those behind it; ``order`` is the complete trials, best first."""
    shown = order[: 1 + RUNNERS_UP]
    data = [_curve(trial, place, material) for place, trial in reversed(list(enumerate(shown)))]
    plateaus = [t.number for t in shown if families.of(t.config.schedule).feedback]
    note = "Every point is the exact learning rate of an update; between two points the line is straight."
    if plateaus:
        note += " plateau decides by the validation loss: drawn is what the training did."
    steps = [material.spec.steps_per_epoch(t.config.batch_size) for t in shown]
    return Figure(
        key="schedule",
        title="The winning schedule and the runners-up",
        finding=_finding(shown),
        data=tuple(data),
        layout={
            "xaxis": {"title": {"text": "epoch"}, "ticks": "outside", "range": [0, material.spec.epochs]},
            "yaxis": {"title": {"text": "learning rate"}, "rangemode": "tozero"},
        },
        n_marks=len(shown),
        empty="" if shown else "No trial is complete yet: there is no winning schedule.",
        header=("place", "trial", "optimizer", "peak lr", "schedule", "batch size", "updates"),
        rows=tuple(
            (
                str(place),
                str(t.number),
                t.config.optimizer.name,
                words.rate(t.config.optimizer.peak_lr),
                schedules.describe(t.config.schedule),
                str(t.config.batch_size),
                str(n * t.config.epochs),
            )
            for place, (t, n) in enumerate(zip(shown, steps, strict=True), 1)
        ),
        note=note if shown else "",
        views={"x": "epoch", "y": "linear"},
    )


def kept(lrs: Factors, peak: float) -> list[int]:
    """Return the indices of the updates that are drawn: evenly spread ones, the ends, and both sides of every corner.

    >>> kept(np.array([1.0] * 500 + [0.1] * 500), 1.0)[120:124]
    [360, 363, 366, 369]
    >>> {499, 500} <= set(kept(np.array([1.0] * 500 + [0.1] * 500), 1.0))
    True
    """
    n = len(lrs)
    even = range(0, n, max(1, n // POINTS))
    bend = np.abs(np.diff(lrs, n=2)) > CORNER * peak
    corners = np.flatnonzero(bend) + 1
    if len(corners) > POINTS:  # A schedule of corners only: a short training, or a very rough one.
        corners = corners[:: len(corners) // POINTS + 1]
    near = (corners[:, None] + np.array([-1, 0, 1])).ravel()
    return sorted({*even, n - 1, *(int(i) for i in near if 0 <= i < n)})


def _curve(trial: Trial, place: int, material: Material) -> dict[str, Any]:
    config = trial.config
    steps = material.spec.steps_per_epoch(config.batch_size)
    lrs = planned_lrs(trial, steps)
    at = kept(lrs, config.optimizer.peak_lr)
    who = "winner" if place == 0 else f"place {place + 1}"
    look = {"color": "@winner" if place == 0 else f"@runner-{place}", "width": 3.5 if place == 0 else 1.8}
    return {
        "type": "scatter",
        "mode": "lines",
        # Corners are corners: no smoothing.
        "line": look | {"dash": DASHES[place], "shape": "linear", "simplify": False},
        "x": at,
        "y": [short(float(lrs[i])) for i in at],
        "name": f"{who}: trial {trial.number}",
        "hovertemplate": f"trial {trial.number}, {who}<br>{config.schedule.family}, lr %{{y:.3g}}<extra></extra>",
        "meta": meta("schedule", trial.state, config.schedule.family, config.optimizer.name)
        | {"steps_per_epoch": steps, "place": place, "number": trial.number},
    }


def _finding(shown: Sequence[Trial]) -> str:
    if not shown:
        return ""
    winner, *others = shown
    said = (
        f"The winner: {schedules.describe(winner.config.schedule)}, from {words.rate(winner.config.optimizer.peak_lr)}."
    )
    if not others:
        return f"{said} No other trial is complete."
    family = winner.config.schedule.family
    same = sum(t.config.schedule.family == family for t in others)
    named = family.replace("_", " ")
    peaks = [t.config.optimizer.peak_lr for t in others]
    alike = f"{same} of the {len(others)} runners-up are {named} too"
    if len(others) == 1:
        alike = f"the runner-up is {named} too" if same else "the runner-up has another family"
    span = words.rate(peaks[0]) if len(peaks) == 1 else f"{words.rate(min(peaks))} to {words.rate(max(peaks))}"
    return f"{said} {alike[0].upper()}{alike[1:]}; peak learning rates there: {span}."

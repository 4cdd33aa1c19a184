"""The score of every trial against its peak learning rate: one chart an optimizer."""

import math
from collections.abc import Sequence
from typing import Any

from lrsearch import domain
from lrsearch.analysis.diagnosis import OptimizerDiagnosis, sentences
from lrsearch.analysis.material import Material
from lrsearch.report import words
from lrsearch.report.figure import Figure, families, grouped, hover, marker, meta, short
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import OptimizerName, State, Trial

BAND = {
    "domain": [0, 0.1],
    "range": [-1, 1],
    "tickvals": [0],
    "ticktext": ["no score"],
    "showgrid": False,
    "fixedrange": True,
}
"""The axis of the trials without a score."""

ROOM = 0.08
"""Free on both sides of the learning rates [decades of ten, at least; a part of the range otherwise]."""


def lr_figures(material: Material, diagnosis: Sequence[OptimizerDiagnosis], winner: Trial | None) -> tuple[Figure, ...]:
    """Return one chart for each optimizer that is searched or was tried, all with the same scale of scores."""
    return tuple(_figure(material, found, winner) for found in diagnosis)


def score(trial: Trial, spec: StudySpec) -> float | None:
    """Return the study's metric after the trial's last epoch, or None where there is no number."""
    if not trial.metrics or trial.state in (State.DIVERGED, State.FAILED):
        return None
    last = trial.metrics[-1]
    return short(spec.metric.of(last))


def _figure(material: Material, found: OptimizerDiagnosis, winner: Trial | None) -> Figure:
    spec, name = material.spec, found.optimizer
    mine = [t for t in material.trials if t.config.optimizer.name == name]
    order = families(spec, material.trials)
    data: list[dict[str, Any]] = []
    for (state, family, _), trials in grouped(mine).items():
        look = marker(state, order.index(family), len(mine))
        scored = [t for t in trials if score(t, spec) is not None]
        # What has no score stands on a band below the axis: a learning rate at which training broke down is a result.
        unscored = [t for t in trials if score(t, spec) is None and state != State.RUNNING]
        for shown, axis in ((scored, "y"), (unscored, "y2")):
            if shown:
                data.append(_trace(shown, axis, look, spec) | {"meta": meta("trial", state, family, name)})
    n_marks = sum(len(trace["x"]) for trace in data)
    if winner is not None and winner in mine:
        ring = {"symbol": "circle-open", "size": 18, "color": "@ink", "line": {"width": 2, "color": "@ink"}}
        about = meta("ring", winner.state, winner.config.schedule.family, name)
        data.append(_trace([winner], "y", ring, spec) | {"meta": about, "hoverinfo": "skip"})
    low, high = _ends(spec, name, mine)
    banded = any(trace["yaxis"] == "y2" for trace in data)
    scores = [s for t in material.trials if (s := score(t, spec)) is not None]
    waiting = len(mine) - n_marks
    return Figure(
        key=f"lr-{name}",
        title=f"{name}: {spec.metric.label} against peak learning rate",
        finding=_finding(found, spec),
        data=tuple(data),
        layout={
            "xaxis": {
                "type": "log",
                "range": [short(low), short(high)],
                "title": {"text": "peak learning rate"},
                "ticks": "outside",
                "anchor": "y2" if banded else "y",
            },
            "yaxis": {
                "domain": [0.16 if banded else 0, 1],
                "title": {"text": f"validation {spec.metric.label}"},
            },
            **({"yaxis2": BAND} if banded else {}),
            "shapes": _shades(found, 10**low, 10**high),
            "annotations": _labels(found, low, high),
        },
        n_marks=n_marks,
        empty="" if n_marks else f"No trial of {name} has completed an epoch or ended.",
        header=("too low up to", "good from", "good to", "too high from", "best at", "trials"),
        rows=(
            (
                words.rate(found.too_low.lr if found.too_low else None),
                words.rate(found.good_low),
                words.rate(found.good_high),
                words.rate(found.too_high.lr if found.too_high else None),
                words.rate(found.best_lr),
                str(len(mine)),
            ),
        ),
        note=f"{counted(waiting, 'trial')} under way without an epoch: not drawn." if waiting else "",
        views={
            "share": spec.metric.is_share,
            "down": not spec.metric.maximize,
            "floor": 0.5 / (spec.facts.n_validation or words.UNKNOWN_IMAGES),
            "scores": [min(scores), max(scores)] if scores else None,
        },
    )


def _finding(found: OptimizerDiagnosis, spec: StudySpec) -> str:
    """Say in short what ``sentences`` says at length beside the answer."""
    if found.best_value is None or not found.enough:
        return " ".join(sentences(found))
    best = words.objective_value(found.best_value, spec)
    said = [f"Best {best} at lr {words.rate(found.best_lr)}"]
    if found.n_good > 1:
        said.append(f"good from {words.rate(found.good_low)} to {words.rate(found.good_high)}")
    if found.too_high is not None:
        said.append(f"too high from {words.rate(found.too_high.lr)}")
    if found.too_low is not None:
        said.append(f"too low up to {words.rate(found.too_low.lr)}")
    return f"{'; '.join(said)}."


def _trace(trials: Sequence[Trial], axis: str, look: dict[str, Any], spec: StudySpec) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [short(t.config.optimizer.peak_lr) for t in trials],
        "y": [score(t, spec) if axis == "y" else 0 for t in trials],
        "yaxis": axis,
        "text": [hover(t, spec) for t in trials],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": look,
    }


def _ends(spec: StudySpec, name: OptimizerName, trials: Sequence[Trial]) -> tuple[float, float]:
    """Return the ends of the axis, as powers of ten: those of the space and of what was tried, and a little room."""
    lrs = [t.config.optimizer.peak_lr for t in trials]
    if name in spec.space.optimizers:
        searched = spec.space.optimizers[name]["peak_lr"]
        lrs += [domain.low_end(searched), domain.high_end(searched)]
    low, high = math.log10(min(lrs)), math.log10(max(lrs))
    room = max(ROOM, 0.04 * (high - low))
    return low - room, high + room


def _shades(found: OptimizerDiagnosis, low: float, high: float) -> list[dict[str, Any]]:
    spans = []
    if found.too_low is not None:
        spans.append((low, found.too_low.lr, "@bad-fill"))
    if found.enough and found.good_low is not None and found.good_high is not None:
        spans.append((found.good_low, found.good_high, "@good-fill"))
    if found.too_high is not None:
        spans.append((found.too_high.lr, high, "@bad-fill"))
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": short(x0),
            "x1": short(x1),
            "y0": 0,
            "y1": 1,
            "fillcolor": fill,
            "line": {"width": 0},
            "layer": "below",
        }
        for x0, x1, fill in spans
    ]


def _labels(found: OptimizerDiagnosis, low: float, high: float) -> list[dict[str, Any]]:
    # An annotation on a logarithmic axis stands at the power of ten.
    said: list[tuple[float, str, str]] = []
    if found.too_low is not None:
        said.append((low, "too low", "left"))
    if found.enough and found.good_low is not None and found.good_high is not None:
        said.append(((math.log10(found.good_low) + math.log10(found.good_high)) / 2, "good", "center"))
    if found.too_high is not None:
        said.append((high, "too high", "right"))
    return [
        {
            "xref": "x",
            "yref": "paper",
            "x": short(x),
            "y": 1,
            "yanchor": "bottom",
            "xanchor": anchor,
            "text": text,
            "showarrow": False,
            "font": {"size": 12, "color": "@muted"},
        }
        for x, text, anchor in said
    ]

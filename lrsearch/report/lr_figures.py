"""The score of every trial against its peak learning rate: one chart an optimizer."""

import math
from collections.abc import Sequence
from typing import Any

from lrsearch import domain
from lrsearch.analysis.diagnosis import OptimizerDiagnosis, sentences
from lrsearch.analysis.material import Material
from lrsearch.analysis.safe_interval import ZoneKind
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
        header=(
            *("too low up to", "safe from", "safe to", "middle", "octaves"),
            *("unstable from", "diverged from", "best at", "trials"),
        ),
        rows=(
            (
                words.rate(_end(found, ZoneKind.TOO_LOW)),
                words.rate(found.safe.low),
                words.rate(found.safe.high),
                words.rate(found.safe.centre),
                words.NOTHING if found.safe.octaves is None else f"{found.safe.octaves:.1f}",
                words.rate(_begin(found, ZoneKind.UNSTABLE)),
                words.rate(_begin(found, ZoneKind.DIVERGED)),
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


def _end(found: OptimizerDiagnosis, kind: ZoneKind) -> float | None:
    zone = found.safe.zone(kind)
    return None if zone is None else zone.high


def _begin(found: OptimizerDiagnosis, kind: ZoneKind) -> float | None:
    zone = found.safe.zone(kind)
    return None if zone is None else zone.low


def _finding(found: OptimizerDiagnosis, spec: StudySpec) -> str:
    """Say in short what ``sentences`` says at length beside the answer."""
    safe = found.safe
    if found.best_value is None or safe.low is None:
        return " ".join(sentences(found))
    best = words.objective_value(found.best_value, spec)
    said = [f"Best {best} at lr {words.rate(found.best_lr)}"]
    said.append(f"safe from {words.rate(safe.low)} to {words.rate(safe.high)}")
    if (end := _end(found, ZoneKind.TOO_LOW)) is not None:
        said.append(f"too low up to {words.rate(end)}")
    begins = [(kind, _begin(found, kind)) for kind in (ZoneKind.UNSTABLE, ZoneKind.DIVERGED)]
    said += [f"{kind} from {words.rate(begin)}" for kind, begin in begins if begin is not None]
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


def _spans(found: OptimizerDiagnosis, low: float, high: float) -> list[tuple[float, float, ZoneKind]]:
    """Return where each zone is drawn: the lowest from the left edge of the chart on, the highest to the right one."""
    zones = found.safe.zones
    begins = [low if zone.kind == ZoneKind.TOO_LOW else zone.low for zone in zones]
    ends = [zone.high for zone in zones]
    if zones and zones[-1].kind in (ZoneKind.UNSTABLE, ZoneKind.DIVERGED):
        ends[-1] = high
    return [(begin, end, zone.kind) for begin, end, zone in zip(begins, ends, zones, strict=True)]


def _shades(found: OptimizerDiagnosis, low: float, high: float) -> list[dict[str, Any]]:
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": short(x0),
            "x1": short(x1),
            "y0": 0,
            "y1": 1,
            "fillcolor": "@good-fill" if kind == ZoneKind.GOOD else "@bad-fill",
            "line": {"width": 0},
            "layer": "below",
        }
        for x0, x1, kind in _spans(found, low, high)
    ]


def _labels(found: OptimizerDiagnosis, low: float, high: float) -> list[dict[str, Any]]:
    # An annotation on a logarithmic axis stands at the power of ten.
    anchors = {ZoneKind.TOO_LOW: "left", ZoneKind.DIVERGED: "right"}
    said = [
        (low if kind == ZoneKind.TOO_LOW else high if kind == ZoneKind.DIVERGED else _middle(x0, x1), kind)
        for x0, x1, kind in _spans(found, 10**low, 10**high)
    ]
    return [
        {
            "xref": "x",
            "yref": "paper",
            "x": short(x),
            "y": 1,
            "yanchor": "bottom",
            "xanchor": anchors.get(kind, "center"),
            "text": kind.value,
            "showarrow": False,
            "font": {"size": 12, "color": "@muted"},
        }
        for x, kind in said
    ]


def _middle(begin: float, end: float) -> float:
    return (math.log10(begin) + math.log10(end)) / 2

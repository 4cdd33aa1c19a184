"""Two studies or two trials side by side as one Plotly figure: curves, schedules, scores with intervals, a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from lrsearch.analysis.answer import shown_metrics
from lrsearch.analysis.compare import Comparison, Side
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.report.chart_picture import FONT, ChartPicture, coloured
from lrsearch.report.compare_table import cost_rows, differing, labels, score_rows, who
from lrsearch.report.figure import short
from lrsearch.report.schedule_figure import kept
from lrsearch.spec.metrics import Metric

WIDTH: Final = 1100
"""[pixels]"""
PANEL: Final = 330
"""Height of a panel, its heading and the numbers under it included [pixels]."""
ROW: Final = 24
"""Height of a row of the table [pixels]."""
TOP: Final = 104
NO_TITLE: Final = 30
BOTTOM: Final = 60
"""Heights above the panels, with a title and without, and below all [pixels]."""
LOOKS: Final[tuple[Mapping[str, Any], ...]] = (
    {"color": "@family-0", "dash": "solid"},
    {"color": "@family-1", "dash": "dash"},
)
"""Of the first and the second: told apart by their strokes too."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart among several."""

    title: str
    traces: Sequence[Mapping[str, Any]]
    x: Mapping[str, Any] = field(default_factory=dict)
    """What its axis has besides the look of all."""
    y: Mapping[str, Any] = field(default_factory=dict)


def comparison_picture(found: Comparison) -> ChartPicture:
    """Return the comparison as a picture that stands alone."""
    rows = table_rows(found)
    figure, height = _laid_out(panels(found), ROW * (len(rows) + 2))
    first, second = (escape(label, quote=False) for label in labels(found))
    about = " &#183; ".join(
        escape(f"{name}: {what}", quote=False) for name, what in zip(labels(found), who(found), strict=True)
    )
    figure["layout"]["title"] = {
        "text": f"<b>{first}</b> and <b>{second}</b>",
        "subtitle": {"text": about, "font": {"size": 12}},
        "x": 0,
        "xref": "container",
        "xanchor": "left",
        "y": 1,
        "yref": "container",
        "yanchor": "top",
        "pad": {"t": 16, "l": 24},
        "font": {"size": 18, "color": "@ink"},
    }
    figure["data"].append(_table(rows, found, ROW * (len(rows) + 2) / (height - TOP - BOTTOM)))
    return ChartPicture("compare", coloured(figure), WIDTH, height)


def comparison_figure(found: Comparison) -> dict[str, Any]:
    """Return the panels alone, for a page that has the words and tables around them."""
    figure, height = _laid_out(panels(found), 0)
    figure["layout"] |= {"height": height - TOP + NO_TITLE, "margin": {**figure["layout"]["margin"], "t": NO_TITLE}}
    return dict(coloured(figure))


def panels(found: Comparison) -> list[Panel]:
    """Return the charts: a curve for each metric, the learning rates, the scores."""
    if found.first.trial is None or found.second.trial is None:
        return []
    known = {metric.name for metric in shown_metrics(found.second.spec)}
    out = [_curves(found, metric) for metric in shown_metrics(found.first.spec) if metric.name in known]
    out.append(_schedules(found))
    if any(pair.interval is not None for pair in found.scores):
        out.append(_scores(found))
    return out


def table_rows(found: Comparison) -> list[tuple[str, str, str]]:
    """Return what the table of a picture says: settings, scores without a chart, cost."""
    rows = [*differing(found.studies), *differing(found.settings)]
    rows += [(name, first, second) for name, first, second, *_ in score_rows(found)]
    return [*rows, *cost_rows(found)]


def _curves(found: Comparison, metric: Metric) -> Panel:
    traces: list[dict[str, Any]] = []
    values: list[float] = []
    for one, look, label in _each(found):
        assert one.trial is not None
        rows = one.trial.metrics
        xs, ys = [row.epoch for row in rows], [short(metric.of(row)) for row in rows]
        values += [y for y in ys if y is not None]
        marks = {"mode": "lines+markers", "marker": {"size": 5, "color": look["color"]}}
        traces.append({"type": "scatter", "x": xs, "y": ys, "name": label, **marks, "line": {**look, "width": 2.0}})
    is_log = not metric.maximize and bool(values) and min(values) > 0
    return Panel(f"Validation {metric.label}, by epoch", traces, {}, {"type": "log", "dtick": "D2"} if is_log else {})


def _schedules(found: Comparison) -> Panel:
    traces = []
    for one, look, label in _each(found):
        xs, ys = _rates(one)
        line = {**look, "width": 2, "simplify": False}
        traces.append(
            {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "name": label, "showlegend": False, "line": line}
        )
    return Panel("Learning rate, by epoch", traces, {}, {"rangemode": "tozero"})


def _rates(one: Side) -> tuple[list[float], list[float | None]]:
    """Return epochs and learning rates: of every update that bends the curve, or of what each epoch recorded."""
    trial, spec = one.trial, one.spec
    assert trial is not None
    if spec.loop is not None:  # how many updates an epoch has may be known to that loop alone
        return [row.epoch for row in trial.metrics], [short(row.lr) for row in trial.metrics]
    steps = spec.steps_per_epoch(trial.config.batch_size)
    lrs = planned_lrs(trial, steps)
    at = kept(lrs, trial.config.optimizer.peak_lr)
    return [i / steps for i in at], [short(float(lrs[i])) for i in at]


def _scores(found: Comparison) -> Panel:
    """Return the shares of images with their intervals, a line for each score and side."""
    traces = []
    pairs = [pair for pair in found.scores if pair.interval is not None]
    for number, (_, look, label) in enumerate(_each(found)):
        xs, ys, below, above = [], [], [], []
        for place, pair in enumerate(pairs):
            of = pair.first if number == 0 else pair.second
            assert of.interval is not None
            xs.append(of.value)
            # The two stand above and below the place of their score.
            ys.append(-place + (0.14 if number == 0 else -0.14))
            below.append(of.value - of.interval.low)
            above.append(of.interval.high - of.value)
        bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": look["color"]}
        marker = {"size": 9, "color": look["color"], "symbol": ("circle", "diamond")[number]}
        trace = {"type": "scatter", "mode": "markers", "x": xs, "y": ys, "error_x": {**bars, "thickness": 2}}
        traces.append({**trace, "name": label, "showlegend": False, "marker": marker})
    names = {
        "tickmode": "array",
        "tickvals": [-place for place in range(len(pairs))],
        "ticktext": [f"{pair.images}<br>{pair.metric.label}" for pair in pairs],
        "range": [0.5 - len(pairs), 0.5],
        "showgrid": False,
    }
    return Panel("Scores, with 95 % intervals", traces, {}, names)


def _each(found: Comparison) -> Iterator[tuple[Side, Mapping[str, Any], str]]:
    yield from zip(found.sides, LOOKS, labels(found), strict=True)


def _laid_out(charts: Sequence[Panel], table_height: int) -> tuple[dict[str, Any], int]:
    """Return panels two by two above a table of so many pixels, and the height of all."""
    n_rows = math.ceil(len(charts) / 2)
    height = TOP + BOTTOM + PANEL * n_rows + table_height
    inside = height - TOP - BOTTOM
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "font": {"family": FONT, "size": 12, "color": "@muted"},
        "paper_bgcolor": "@paper",
        "plot_bgcolor": "@paper",
        "margin": {"l": 70, "r": 30, "t": TOP, "b": BOTTOM},
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "annotations": [],
    }
    for number, chart in enumerate(charts):
        row, column = divmod(number, 2)
        alone = number == len(charts) - 1 and column == 0
        left, right = (0.0, 1.0) if alone else ((0.0, 0.46), (0.56, 1.0))[column]
        top = 1 - row * PANEL / inside
        bottom = top - (PANEL - 75) / inside
        suffix = "" if number == 0 else str(number + 1)
        look = {"gridcolor": "@grid", "linecolor": "@axis", "zeroline": False, "ticks": "outside", "automargin": True}
        look |= {"tickcolor": "@axis", "exponentformat": "power"}
        layout[f"xaxis{suffix}"] = {**look, "domain": [left, right], "anchor": f"y{suffix}", **chart.x}
        layout[f"yaxis{suffix}"] = {**look, "domain": [max(bottom, 0.0), top], "anchor": f"x{suffix}", **chart.y}
        heading = {"text": f"<b>{chart.title}</b>", "x": left, "y": top, "xref": "paper", "yref": "paper"}
        place = {"xanchor": "left", "yanchor": "bottom", "yshift": 4, "showarrow": False, "font": {"color": "@ink"}}
        layout["annotations"].append({**heading, **place})
        shows = {} if number == 0 else {"showlegend": False}
        data += [{**trace, **shows, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"} for trace in chart.traces]
    return {"data": data, "layout": layout}, height


def _table(rows: Sequence[tuple[str, str, str]], found: Comparison, part: float) -> dict[str, Any]:
    columns = [[escape(row[i], quote=False) for row in rows] for i in range(3)]
    look = {"align": "left", "height": ROW, "line": {"color": "@grid"}}
    head = ["", *(f"<b>{escape(label, quote=False)}</b>" for label in labels(found))]
    return {
        "type": "table",
        "domain": {"x": [0, 1], "y": [0, min(part, 1.0)]},
        "columnwidth": [2, 3, 3],
        "header": {**look, "values": head, "fill": {"color": "@panel"}, "font": {"color": "@ink", "size": 13}},
        "cells": {**look, "values": columns, "fill": {"color": "@paper"}, "font": {"color": "@ink", "size": 12}},
    }

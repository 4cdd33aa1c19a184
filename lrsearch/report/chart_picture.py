"""A chart as a picture that stands alone: its title, its finding, its colours and what they mean, in one Plotly figure.

On the page these are HTML around the chart, and the colours follow the theme; a picture is light, like paper.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Any, Final

from lrsearch.report.figure import SYMBOLS, Figure, colour, families
from lrsearch.spec.study import StudySpec
from lrsearch.text import shown
from lrsearch.trial import State, Trial

WIDTH: Final = 1000
"""[pixels]"""
PLOT: Final = 400
"""Height of the axes [pixels]."""
BELOW: Final = 84
"""Height of what stands below them: ticks, their name, the legend [pixels]."""
HEADINGS: Final = {"lr": 22, "parallel": 44}
"""Height of what some charts have above their axes, by how their keys begin [pixels]."""
SIDE: Final = 30
"""Free at both sides [pixels]."""
PER_BAR: Final = 34
"""Height of a bar [pixels]."""
PER_AXIS: Final = 110
"""Width that an upright axis takes [pixels]."""
FONT: Final = "system-ui, 'DejaVu Sans', Arial, sans-serif"
CHARACTER: Final = 7.2
"""Width of a character of the finding [pixels]."""
LINE: Final = 18
"""Height of a line of it [pixels]."""


@dataclass(frozen=True, slots=True)
class ChartPicture:
    """A Plotly figure, and how large it is drawn."""

    name: str
    """Without blanks, for the name of a file."""
    figure: Mapping[str, Any]
    width: int
    """[pixels]"""
    height: int


def pictures(figures: Sequence[Figure], spec: StudySpec, trials: Sequence[Trial]) -> list[ChartPicture]:
    """Return the charts as pictures; a chart without marks is none."""
    order = families(spec, trials)
    return [picture(figure, spec.name, order) for figure in figures if not figure.empty]


def picture(figure: Figure, study: str, order: Sequence[str] = ()) -> ChartPicture:
    """Return a chart as a picture.

    Args:
        figure: the chart.
        study: whose it is.
        order: the schedule families in the order of their colours.
    """
    n_bars = len(figure.data[0]["y"]) if figure.data[0]["type"] == "bar" else 0
    n_axes = sum(shape.get("type") == "line" for shape in figure.layout.get("shapes", ()))
    width = max(WIDTH, PER_AXIS * n_axes) if figure.key == "parallel" else WIDTH
    finding = textwrap.wrap(shown(figure.finding), int((width - 2 * SIDE) / CHARACTER))
    above = 56 + LINE * len(finding) + HEADINGS.get(figure.key.partition("-")[0], 0)
    height = above + BELOW + (PER_BAR * n_bars if n_bars else PLOT)
    layout = {
        **figure.layout,
        "title": {
            "text": f"<b>{escape(shown(study), quote=False)}</b>  {escape(figure.title, quote=False)}",
            "subtitle": {"text": "<br>".join(escape(line, quote=False) for line in finding), "font": {"size": 13}},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 18, "l": SIDE},
            "font": {"size": 18, "color": "@ink"},
        },
        "font": {"family": FONT, "size": 13, "color": "@muted"},
        "paper_bgcolor": "@paper",
        "plot_bgcolor": "@paper",
        "margin": {"l": 70, "r": SIDE, "t": above, "b": BELOW},
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "xanchor": "left",
        },
        "bargap": 0.25,
    }
    for name, axis in figure.layout.items():
        if re.fullmatch(r"[xy]axis\d*", name):
            layout[name] = _axis(axis)
    traces = [_trace(trace) for trace in figure.data]
    whole = {"data": [*traces, *_legend(figure, order)], "layout": layout}
    return ChartPicture(figure.key, coloured(whole), width, height)


def coloured(value: Any) -> Any:
    """Return what a figure is made of, with the names of colours looked up in the light theme of the page."""
    match value:
        case str():
            return _colours()[value[1:]] if value.startswith("@") else value
        case Mapping():
            return {key: coloured(inner) for key, inner in value.items()}
        case list() | tuple():
            return [coloured(inner) for inner in value]
        case _:
            return value


def _axis(given: Mapping[str, Any]) -> dict[str, Any]:
    look: dict[str, Any] = {"gridcolor": "@grid", "linecolor": "@axis", "tickcolor": "@axis", "exponentformat": "power"}
    look |= {"zeroline": False, "automargin": True, **given}
    if given.get("type") == "log":
        look["dtick"] = "D2"  # ticks at 1, 2 and 5
    if "title" in given:
        look["title"] = {**given["title"], "font": {"size": 13}, "standoff": 12}
    return look


def _trace(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trace as it stands in a picture: that of a schedule over epochs, and with its name in the legend."""
    about = given["meta"]
    if about["kind"] != "schedule":
        return {**given, "showlegend": False}
    return {**given, "x": [update / about["steps_per_epoch"] for update in given["x"]], "showlegend": True}


def _legend(figure: Figure, order: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield traces without points that say what colours and marks mean."""
    kinds = {trace["meta"]["kind"] for trace in figure.data}
    if figure.keys:
        yield from (_key(name, _swatch(name_of_colour)) for name_of_colour, name in figure.keys)
        return
    marks = [trace["meta"] for trace in figure.data if trace["meta"]["kind"] == "trial"]
    shown_states = [state for state in State if any(mark["state"] == state for mark in marks)]
    if figure.key.startswith("lr-"):
        for family in dict.fromkeys(mark["family"] for mark in marks):
            yield _key(family.replace("_", " "), {"symbol": "square", "color": colour(list(order).index(family))})
        for state in shown_states:
            line = {"width": 1.4, "color": "@ink"}
            yield _key(state.value, {"symbol": SYMBOLS[state][0], "color": "@ink", "line": line})
        if "ring" in kinds:
            yield _key("the winner", {"symbol": "circle-open", "color": "@ink", "size": 14})
        return
    for state in shown_states:
        yield _key(state.value, {"symbol": "line-ew-open", "color": f"@state-{state}", "size": 16}, width=2)
    if figure.key == "parallel":
        yield _key("the best", {"symbol": "line-ew-open", "color": "@winner", "size": 16}, width=3)
    if "winner" in kinds:
        yield _key("the winner", {"symbol": "line-ew-open", "color": "@winner", "size": 16}, width=3)


def _key(name: str, marker: Mapping[str, Any], *, width: float = 0) -> dict[str, Any]:
    line = {"line": {"width": width, "color": marker["color"]}} if width else {}
    look = {"size": 10, **marker, **line}
    return {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "name": name, "marker": look}


def _swatch(name: str) -> dict[str, Any]:
    match name:
        case "hollow":
            return {"symbol": "square", "color": "@saved", "line": {"width": 1, "color": "@muted"}}
        case "stroke":
            return {"symbol": "line-ns-open", "color": "@ink", "line": {"width": 2.5, "color": "@ink"}}
        case _:
            return {"symbol": "square", "color": f"@{name}"}


@cache
def _colours() -> dict[str, str]:
    """Return the colours of the page's light theme, by name."""
    style = resources.files("lrsearch.report").joinpath("page", "report.css").read_text("utf-8")
    light = style[: style.index("}")]
    return dict(re.findall(r"--([\w-]+):\s*([^;]+);", light))

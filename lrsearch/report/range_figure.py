"""The sweeps of a range test as a chart of the report: a line for each seed, the three rates, what is suggested."""

from collections.abc import Sequence
from typing import Any

from lrsearch.analysis.range_test import Finding, findings, smoothed
from lrsearch.report import words
from lrsearch.report.figure import Figure, short
from lrsearch.report.range_drawing import ceiling
from lrsearch.report.range_words import CAUTION, NAMES, sentence, spread
from lrsearch.trial import RangeTest

KEY = "range-"
"""How the keys of these charts begin."""
COLOURS = {"lowest_useful": "@family-2", "steepest": "@family-0", "divergence": "@state-diverged"}
DASHES = {"lowest_useful": "dash", "steepest": "dot", "divergence": "solid"}


def range_figures(sweeps: Sequence[RangeTest]) -> tuple[Figure, ...]:
    """Return a chart for each optimizer that was swept."""
    return tuple(range_figure(one, [s for s in sweeps if s.optimizer == one.name]) for one in findings(sweeps))


def range_figure(finding: Finding, sweeps: Sequence[RangeTest]) -> Figure:
    """Return the chart of one optimizer's sweeps."""
    return Figure(
        key=f"{KEY}{finding.name}",
        title=f"Range test of {finding.name}",
        finding=sentence(finding),
        data=tuple(_line(sweep) for sweep in sweeps),
        layout={
            "xaxis": {"title": {"text": "learning rate"}, "type": "log", "ticks": "outside"},
            "yaxis": {"title": {"text": "training loss"}, "range": [0, short(ceiling(sweeps) or 1.0)]},
            "shapes": _shapes(finding),
        },
        n_marks=len(sweeps),
        header=("rate", "middle of the seeds", "smallest", "largest", "seeds that show it"),
        rows=tuple(_row(name, getattr(finding, field)) for field, name in NAMES.items()),
        note=(
            f"A line is a sweep with a seed of its own, its running median over an octave. Shaded: what is suggested. "
            f"{finding.n_updates} updates, {words.duration(finding.seconds)}. {CAUTION}"
        ),
        keys=tuple(
            (COLOURS[field].removeprefix("@"), f"{name} {spread(getattr(finding, field))}")
            for field, name in NAMES.items()
        ),
    )


def _row(name: str, found: Any) -> tuple[str, ...]:
    if found is None:
        return (name, *[words.NOTHING] * 3, "0")
    return name, words.rate(found.value), words.rate(found.low), words.rate(found.high), str(found.n)


def _line(sweep: RangeTest) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "line": {"color": "@muted", "width": 1.4},
        "x": [short(rate) for rate in sweep.rates],
        "y": [short(float(loss)) for loss in smoothed(sweep.rates, sweep.losses)],
        "name": f"seed {sweep.seed}",
        "hovertemplate": f"seed {sweep.seed}<br>lr %{{x:.3g}}, loss %{{y:.3g}}<extra></extra>",
        "meta": {"kind": "range", "optimizer": sweep.optimizer},
    }


def _shapes(finding: Finding) -> list[dict[str, Any]]:
    """Return the suggestion as an area and the rates as upright lines, in the order in which they are drawn."""
    upright = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    out: list[dict[str, Any]] = []
    if finding.suggestion is not None:
        ends = {"x0": short(finding.suggestion.low), "x1": short(finding.suggestion.high)}
        out.append({**upright, **ends, "type": "rect", "fillcolor": "@good-fill", "line": {"width": 0}})
    for field, colour in COLOURS.items():
        found = getattr(finding, field)
        if found is not None:
            line = {"color": colour, "width": 2, "dash": DASHES[field]}
            out.append({**upright, "type": "line", "x0": short(found.value), "x1": short(found.value), "line": line})
    return out

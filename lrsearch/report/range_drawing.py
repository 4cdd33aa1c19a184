"""The sweeps of a range test drawn in a terminal: loss against learning rate, and where the three rates lie."""

import math
from collections.abc import Sequence

import numpy as np
from rich.text import Text

from lrsearch.analysis.range_test import Finding, smoothed
from lrsearch.report import words
from lrsearch.report.chart import Axes, Chart, Curve, draw
from lrsearch.trial import RangeTest

ROWS = 10
CEILING = 1.25
"""Times the highest loss of a start up to which is drawn: what explodes has no height."""
MARKS = {"lowest_useful": "L", "steepest": "S", "divergence": "D"}
"""Of the three rates, at the foot of a chart."""
KEY = "L lowest useful, S steepest, D diverges from; a line for each seed, its running median over an octave"


def ceiling(sweeps: Sequence[RangeTest]) -> float | None:
    """Return the loss up to which sweeps are drawn; None where none of them begins with a number."""
    starts = [sweep.start for sweep in sweeps if math.isfinite(sweep.start)]
    return CEILING * max(starts) if starts else None


def drawing(finding: Finding, sweeps: Sequence[RangeTest], width: int) -> list[Text]:
    """Return the sweeps of one optimizer as lines of a terminal so wide [columns]."""
    mine = [sweep for sweep in sweeps if sweep.optimizer == finding.name]
    first, last = min(sweep.rates[0] for sweep in mine), max(sweep.rates[-1] for sweep in mine)
    top = ceiling(mine)
    if top is None:
        return [Text(f"{finding.name}: the losses are no numbers from the first update on", "bold")]

    def at(rate: float) -> float:
        return math.log10(rate / first)

    curves = []
    for sweep in mine:
        losses = np.minimum(smoothed(sweep.rates, sweep.losses), top)
        curves.append(Curve([at(rate) for rate in sweep.rates], losses.tolist(), "cyan", line=True))
    for field, mark in MARKS.items():
        found = getattr(finding, field)
        if found is not None:
            curves.append(Curve([at(found.value)], [0.0], "bold", mark=mark))
    frame = Axes(at(last), 0.0, top, log=False, label=words.number)
    title = Text(f"{finding.name}: loss against learning rate", "bold")
    powers = range(math.ceil(math.log10(first) - 1e-9), math.floor(math.log10(last) + 1e-9) + 1)
    ticks = {at(10.0**power): f"1e{power}" if power < 0 else f"{10**power}" for power in powers}
    return draw([Chart(title, curves, frame, ROWS)], width=width, ticks=ticks, x_label="lr")

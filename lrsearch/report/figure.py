"""A chart as the page draws it: Plotly's traces and layout as plain values, and the same in words and in a table.

Colours are names that begin with ``@``; the page looks them up in its style sheet, so that a chart follows the theme.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lrsearch.report import words
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import ScheduleFamily, State, Trial

N_COLOURS = 7
"""Colours for schedule families; the next ones share them and have other symbols."""

SYMBOLS: dict[State, tuple[str, str]] = {
    State.COMPLETE: ("circle", "square"),
    State.PRUNED: ("x-thin-open", "cross-thin-open"),
    State.DIVERGED: ("triangle-up", "triangle-right"),
    State.FAILED: ("hash-open", "hash-open"),
    State.RUNNING: ("circle-open", "square-open"),
}
"""Of Plotly, by state; the second for the families beyond the colours."""

SIZES: dict[State, int] = {
    State.COMPLETE: 9,
    State.PRUNED: 7,
    State.DIVERGED: 9,
    State.FAILED: 9,
    State.RUNNING: 9,
}
"""[pixels]"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart."""

    key: str
    """Names it on the page."""
    title: str
    finding: str
    """What one sees, in sentences."""
    data: tuple[Mapping[str, Any], ...]
    """Traces; ``meta.kind`` says what their marks are, ``meta.state`` and so on by what the page hides them."""
    layout: Mapping[str, Any]
    n_marks: int
    """Marks that are drawn, one a trial (a bar, a curve)."""
    empty: str = ""
    """Why there is nothing to draw; empty where there is."""
    header: tuple[str, ...] = ()
    """Of the table with the data behind the chart."""
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    """What the marks mean and what is left out."""
    keys: tuple[tuple[str, str], ...] = ()
    """What the colours are: a class of the style sheet, and what it stands for."""
    views: Mapping[str, Any] = field(default_factory=dict)
    """What the page needs to draw it otherwise, as its script reads it."""

    def to_plain(self) -> dict[str, Any]:
        """Return what the script of the page draws."""
        return {"data": self.data, "layout": self.layout, "views": self.views, "empty": self.empty, "said": self.said}

    @property
    def said(self) -> str:
        """The text that stands for the picture."""
        return self.empty or f"{self.title}: {self.n_marks} marks. {self.finding}"


def short(value: float | None) -> float | None:
    """Return a number to six digits, as a chart needs it; None where it is none.

    >>> short(0.12345678), short(float("nan"))
    (0.123457, None)
    """
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def families(spec: StudySpec, trials: Iterable[Trial]) -> tuple[ScheduleFamily, ...]:
    """Return the schedule families of a study in the order that gives them their colours."""
    return tuple(dict.fromkeys([*spec.space.schedules, *(t.config.schedule.family for t in trials)]))


def colour(index: int) -> str:
    """Return the colour of the family with that index."""
    return f"@family-{index % N_COLOURS}"


def symbol(state: State, index: int) -> str:
    """Return the symbol of a trial whose family has that index."""
    return SYMBOLS[state][0 if index < N_COLOURS else 1]


def marker(state: State, index: int, n: int) -> dict[str, Any]:
    """Return how Plotly draws such a trial among ``n`` of all states: of many smaller."""
    thin = state in (State.PRUNED, State.FAILED, State.RUNNING)
    line = {"width": 1.6, "color": colour(index)} if thin else {"width": 0.8, "color": "@paper"}
    return {
        "symbol": symbol(state, index),
        "size": round(SIZES[state] * (1 if n <= 500 else 0.6)),
        "color": colour(index),
        "line": line,
    }


def hover(trial: Trial, spec: StudySpec) -> str:
    """Return what is said of a trial under the pointer."""
    value = words.objective_value(trial.outcome.value if trial.outcome else None, spec)
    how = f"{trial.state} {value}" if value != words.NOTHING else f"{trial.state}"
    return f"trial {trial.number}: {how}, {counted(len(trial.metrics), 'epoch')}<br>{words.setting(trial.config)}"


def grouped(trials: Iterable[Trial]) -> dict[tuple[State, ScheduleFamily, str], list[Trial]]:
    """Return the trials by what the page shows and hides: state, family and optimizer; the complete ones last."""
    out: dict[tuple[State, ScheduleFamily, str], list[Trial]] = {}
    for state in (State.FAILED, State.DIVERGED, State.PRUNED, State.RUNNING, State.COMPLETE):
        for trial in (t for t in trials if t.state == state):
            config = trial.config
            out.setdefault((state, config.schedule.family, config.optimizer.name), []).append(trial)
    return out


def meta(kind: str, state: State, family: str, optimizer: str) -> dict[str, str]:
    """Return by what the page finds a trace."""
    return {"kind": kind, "state": state.value, "family": family, "optimizer": optimizer}


def median(values: Sequence[float]) -> float | None:
    """Return the middle one of the finite values, the upper of two; None where there is none."""
    finite = sorted(v for v in values if math.isfinite(v))
    return finite[len(finite) // 2] if finite else None

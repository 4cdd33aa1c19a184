"""Every trial as a line across its settings to its score."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import ceil, log10
from sys import float_info
from typing import Any

from lrsearch.analysis.material import Material
from lrsearch.report import words
from lrsearch.report.figure import Figure, grouped, hover, meta, short
from lrsearch.report.lr_figures import score
from lrsearch.report.plain import BY_LAYER
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import OptimizerConfig, ScheduleConfig, Trial

BEST = 0.1
"""Part of the complete trials that is called the best."""
MOST_BEST = 20
"""Of them at most: more thick lines hide each other."""
ABSENT = -0.14
"""Where a line runs below an axis whose parameter the trial does not have."""
SHIFT = 0.035
"""By how much lines through one choice are spread [part of an axis, each side]."""
LEAST_HAVING = 1 / 3
"""Part of the trials that must have a parameter for it to be an axis."""
MOST_AXES = 9

Value = float | str | None


def _log(value: float) -> float:
    """Return the logarithm; a loss of zero, which no training reaches, is the smallest number there is."""
    return log10(max(value, float_info.min))


LOG = (_log, lambda y: 10**y)
"""How an axis bends and bends back that is logarithmic."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One upright line: a parameter, or the score."""

    name: str
    read: Callable[[Trial], Value]
    bend: Callable[[float], float] = float
    """Rising or falling: a number's place along the axis, before it is stretched to fit."""
    back: Callable[[float], float] = float
    """The number at a place."""


def parallel_figure(material: Material, order: Sequence[Trial]) -> Figure:
    """Return all trials as lines, the best on top; ``order`` is the complete trials, best first."""
    spec, trials = material.spec, material.trials
    axes = _axes(trials, spec)
    scales = [_Scale(axis, trials) for axis in axes]
    n_best = min(MOST_BEST, ceil(BEST * len(order)))
    best = {t.number for t in order[:n_best]}
    data: list[dict[str, Any]] = []
    for chosen in (False, True):
        for (state, family, optimizer), found in grouped([t for t in trials if (t.number in best) is chosen]).items():
            look = {"color": "@winner" if chosen else f"@state-{state}", "width": 2 if chosen else 1}
            lines = _lines(found, scales, spec)
            opacity = 0.95 if chosen else 0.6 if len(trials) <= 100 else 0.35 if len(trials) <= 500 else 0.12
            about = meta("trial", state, family, optimizer)
            data.append(lines | {"mode": "lines", "line": look, "opacity": opacity, "meta": about})
    said = f"{'The best one' if n_best == 1 else f'The best {n_best}'} of {counted(len(order), 'complete trial')}"
    return Figure(
        key="parallel",
        title="All settings at once",
        finding=_finding(said, order[:n_best], axes) if order else "No trial is complete yet.",
        data=tuple(data),
        layout={
            "xaxis": {
                "range": [-0.35, len(axes) - 0.65],
                "visible": False,
                "showgrid": False,
                "fixedrange": True,
            },
            "yaxis": {"range": [ABSENT - 0.08, 1.08], "visible": False, "fixedrange": True},
            "shapes": [_upright(i) for i in range(len(axes))],
            "annotations": [note for i, scale in enumerate(scales) for note in (scale.heading(i), *scale.ticks(i))],
        },
        n_marks=len(trials) if axes else 0,
        empty="" if trials else "No trial has been started yet.",
        header=("parameter", f"the best {n_best}", "all trials"),
        rows=tuple((axis.name, _spread(order[:n_best], axis), _spread(trials, axis)) for axis in axes),
        note="Each line is a trial; the thick ones are the best tenth of the complete trials, 20 at most. Lines "
        "through one choice are spread a little, so that they do not hide each other. Below an axis run the trials "
        "that do not have that parameter, or have no score.",
        views={"wide": 90 * len(axes)},
    )


class _Scale:
    """Where the values of an axis lie between 0 and 1."""

    def __init__(self, axis: Axis, trials: Sequence[Trial]) -> None:
        self.axis = axis
        values = [v for t in trials if (v := axis.read(t)) is not None]
        self.choices = list(dict.fromkeys(v for v in values if isinstance(v, str)))
        if all(c.isdecimal() for c in self.choices):
            self.choices.sort(key=int, reverse=True)
        numbers = [axis.bend(v) for v in values if not isinstance(v, str)]
        self.low, self.high = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)

    def place(self, value: Value, nth: int) -> float:
        """Return where a value lies; of the lines through a choice the ``nth`` has its own place."""
        if value is None:
            return ABSENT
        if isinstance(value, str):
            # Multiples of the golden ratio: no two of many lines in a row lie together.
            spread = SHIFT * (2 * ((nth * 0.618034) % 1) - 1)
            return self._choice(value) + (spread if len(self.choices) > 1 else 0)
        return self._number(self.axis.bend(value))

    def heading(self, at: int) -> dict[str, Any]:
        """Return the name above the axis."""
        text, font = self.axis.name.replace(" ", "<br>"), {"size": 13, "color": "@muted"}
        place = {"x": at, "xanchor": "center", "y": 1, "yref": "paper", "yanchor": "bottom"}
        return {**place, "text": text, "showarrow": False, "font": font}

    def ticks(self, at: int) -> list[dict[str, Any]]:
        """Return the labels beside the axis."""
        if self.choices:
            labels = [(self._choice(c), c.replace("_", " ")) for c in self.choices]
        elif self.low == self.high:
            labels = [(0.5, words.rate(self.axis.back(self.low)))]
        else:
            n = 4
            values = [self.low + (self.high - self.low) * i / n for i in range(n + 1)]
            labels = [(self._number(v), words.rate(self.axis.back(v))) for v in values]
        font = {"size": 11, "color": "@ink"}
        return [
            {
                "x": at,
                "y": short(y),
                "text": text,
                "showarrow": False,
                "xanchor": "left",
                "xshift": 4,
                "font": font,
                "bgcolor": "@label",
            }
            for y, text in labels
        ]

    def _choice(self, value: str) -> float:
        n = len(self.choices)
        return 0.5 if n == 1 else 1 - self.choices.index(value) / (n - 1)

    def _number(self, value: float) -> float:
        if self.low == self.high:
            return 0.5
        return (value - self.low) / (self.high - self.low)


def _axes(trials: Sequence[Trial], spec: StudySpec) -> list[Axis]:
    """Return the parameters in which the trials differ and that many of them have, and the score last."""
    out = [
        Axis("optimizer", lambda t: t.config.optimizer.name),
        Axis("peak lr", lambda t: t.config.optimizer.peak_lr, *LOG),
        Axis("schedule", lambda t: t.config.schedule.family),
    ]
    names = [(name, "") for name in BY_LAYER]
    names += [(f.name, "optimizer") for f in fields(OptimizerConfig) if f.name not in ("name", "peak_lr")]
    names += [(f.name, "schedule") for f in fields(ScheduleConfig) if f.name not in ("family", "milestones")]
    found = [Axis(name.replace("_", " "), _reader(part, name)) for name, part in names]
    found = [
        Axis(axis.name, axis.read, *(LOG if _spans_decades([axis.read(t) for t in trials]) else ()))
        for axis in found
        if sum(axis.read(t) is not None for t in trials) >= LEAST_HAVING * len(trials)
    ]
    # Choices as words: their distances mean nothing.
    out += [Axis("batch size", lambda t: str(t.config.batch_size)), *found]
    out = [axis for axis in out if len({axis.read(t) for t in trials} - {None}) > 1][: MOST_AXES - 1]
    # The best at the top; by their errors, because accuracies near 1 lie close together.
    least = 0.5 / (spec.facts.n_validation or words.UNKNOWN_IMAGES)
    metric = spec.metric
    if not metric.is_share:
        sign = 1 if metric.maximize else -1
        ends = Axis(metric.label, lambda t: score(t, spec), lambda v: sign * _log(v), lambda y: 10 ** (sign * y))
        return [*out, ends]
    ends = Axis(metric.label, lambda t: score(t, spec), lambda v: -log10(max(1 - v, least)), lambda y: 1 - 10**-y)
    return [*out, ends]


def _reader(part: str, name: str) -> Callable[[Trial], Value]:
    def read(trial: Trial) -> Value:
        value = getattr(getattr(trial.config, part) if part else trial.config, name)
        return str(value) if isinstance(value, bool) else value

    return read


def _spans_decades(values: Sequence[Value]) -> bool:
    numbers = [v for v in values if isinstance(v, float | int)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= 30


def _lines(trials: Sequence[Trial], scales: Sequence[_Scale], spec: StudySpec) -> dict[str, Any]:
    xs: list[int | None] = []
    ys: list[float | None] = []
    texts: list[str | None] = []
    for trial in trials:
        xs += [*range(len(scales)), None]
        ys += [*(short(scale.place(scale.axis.read(trial), trial.number)) for scale in scales), None]
        # The text is said at the score, where the line ends.
        texts += [*([""] * (len(scales) - 1)), hover(trial, spec), ""]
    return {
        "type": "scatter",
        "x": xs[:-1],
        "y": ys[:-1],
        "text": texts[:-1],
        "hovertemplate": "%{text}<extra></extra>",
        "connectgaps": False,
    }


def _upright(at: int) -> dict[str, Any]:
    line = {"color": "@axis", "width": 1.5}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line, "layer": "below"}


def _spread(trials: Sequence[Trial], axis: Axis) -> str:
    """Say where the trials lie on an axis: a range, or how often each choice."""
    values = [v for t in trials if (v := axis.read(t)) is not None]
    if not values:
        return words.NOTHING
    numbers = [v for v in values if not isinstance(v, str)]
    if numbers:
        low, high = words.rate(min(numbers)), words.rate(max(numbers))
        return low if low == high else f"{low} to {high}"
    return ", ".join(f"{choice} ({n})" for choice, n in Counter(values).most_common())


def _finding(who: str, best: Sequence[Trial], axes: Sequence[Axis]) -> str:
    parts = [f"{axis.name} {_spread(best, axis)}" for axis in axes[:-1]]
    verb = "has" if len(best) == 1 else "have"
    return f"{who} {verb}: {'; '.join(parts)}." if parts else f"{who}."

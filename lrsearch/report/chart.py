"""Small charts of characters: a line in one row, and curves with axes. Nothing is told by colour alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
NOT_FINITE = "!"
BOTH = "@"

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by row 0..3 and column 0..1."""


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Return a row of blocks, logarithmic where all are positive, the latest at the right.

    More values than ``width`` are thinned out; what is not finite is an exclamation mark.

    >>> sparkline([2.3, 1.2, 0.6, 0.3, float("nan")])
    '█▆▃▁!'
    """
    if len(values) > width:
        # The last value of every stretch, so that the latest one is always seen.
        values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return NOT_FINITE * len(values)
    scale = math.log if min(finite) > 0 else float
    low, high = scale(min(finite)), scale(max(finite))
    span = high - low or 1.0
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((scale(v) - low) / span * top)] if math.isfinite(v) else NOT_FINITE for v in values)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points to draw: joined by a line of dots, or each as a mark, or both."""

    xs: Sequence[float]
    ys: Sequence[float]
    style: str
    line: bool = False
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Axes:
    """What the edges of a chart stand for; ``low`` < ``high``, positive where logarithmic."""

    x_high: float
    """The right edge; the left one is 0."""
    low: float
    high: float
    log: bool
    label: Callable[[float], str]
    """Writes a value beside its row."""

    def height_of(self, y: float) -> float:
        """Return where ``y`` lies, from 0 at the bottom to 1 at the top."""
        if self.log:
            return (math.log(y) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (y - self.low) / (self.high - self.low)

    def value_at(self, height: float) -> float:
        """Return the value at a height in 0..1."""
        if self.log:
            return math.exp(math.log(self.low) + height * (math.log(self.high) - math.log(self.low)))
        return self.low + height * (self.high - self.low)


def axes(values: Sequence[float], x_high: float, *, log_ratio: float, label: Callable[[float], str]) -> Axes | None:
    """Return axes that hold all finite values, logarithmic where the largest is ``log_ratio`` times the smallest.

    None where no value is finite.
    """
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    log = low > 0 and high >= log_ratio * low
    if low == high:
        low, high = (0.0, 2 * high) if high > 0 else (high - 1, high + 1)
    return Axes(x_high, low, high, log, label)


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves in their frame, under a title; later curves lie above earlier ones."""

    title: Text
    curves: Sequence[Curve]
    frame: Axes
    rows: int
    """2 or more."""

    @property
    def labels(self) -> list[str]:
        """The value beside the middle of every row, the highest first."""
        return [self.frame.label(self.frame.value_at(1 - row / (self.rows - 1))) for row in range(self.rows)]


def thinned(n: int, most: int) -> list[int]:
    """Return at most ``most`` (2 or more) of the indices 0..n-1, evenly, the first and the last among them.

    >>> thinned(5, 3), thinned(2, 3)
    ([0, 2, 4], [0, 1])
    """
    count = min(n, most)
    return [round(i * (n - 1) / max(count - 1, 1)) for i in range(count)]


def epoch_ticks(epochs: int, width: int) -> list[int]:
    """Return epochs to name under an axis: all, or every 2nd, 5th, 10th and so on."""
    fit = max(width // 6, 2)
    step = next(s * 10**e for e in range(9) for s in (1, 2, 5) if epochs / (s * 10**e) <= fit)
    return list(range(step, epochs + 1, step))


def draw(
    charts: Sequence[Chart], *, width: int, ticks: Sequence[int] | Mapping[float, str], x_label: str
) -> list[Text]:
    """Return charts under each other, their x axes aligned, one Text a line; ``width`` is that of whole lines.

    ``ticks`` are the values that stand under the axes, or where there stands what.

    Two different marks in one cell become ``BOTH``.
    """
    margin = max([len(x_label) - 1, *(len(label) for chart in charts for label in chart.labels)])
    columns = max(width - margin - 3, 8)
    lines = []
    for i, chart in enumerate(charts):
        canvas = _Canvas(columns, chart.rows)
        for curve in chart.curves:
            _draw(canvas, curve, chart.frame)
        lines += [Text(""), chart.title] if i else [chart.title]
        for row, label in enumerate(chart.labels):
            line = Text(f"{label:>{margin}} │", no_wrap=True)
            line.append_text(canvas.row(row))
            line.rstrip()
            lines.append(line)
        lines.append(Text(" " * margin + " └" + "─" * columns, no_wrap=True))
        lines.append(Text(f"{x_label:<{margin + 2}}" + _ticks(ticks, chart.frame.x_high, columns), no_wrap=True))
    return lines


class _Canvas:
    """Cells of two by four dots, and marks above them."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.dots = [[0] * columns for _ in range(rows)]
        self.marks: dict[tuple[int, int], str] = {}
        self.styles: dict[tuple[int, int], str] = {}

    def dot(self, x: int, y: int, style: str) -> None:
        """Set a dot; x from the left, y from the top."""
        x, y = min(max(x, 0), 2 * self.columns - 1), min(max(y, 0), 4 * self.rows - 1)
        self.dots[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        self.styles.setdefault((y // 4, x // 2), style)

    def mark(self, x: int, y: int, mark: str, style: str) -> None:
        """Set a mark at the cell of a dot."""
        cell = (min(max(y, 0) // 4, self.rows - 1), min(max(x, 0) // 2, self.columns - 1))
        there = self.marks.get(cell, mark)
        self.marks[cell] = mark if there == mark else NOT_FINITE if NOT_FINITE in (there, mark) else BOTH
        self.styles[cell] = style

    def row(self, row: int) -> Text:
        """Return a row of cells."""
        text = Text()
        for column in range(self.columns):
            bits = self.dots[row][column]
            blank = chr(_BRAILLE + bits) if bits else " "
            text.append(self.marks.get((row, column), blank), self.styles.get((row, column)))
        return text


def _draw(canvas: _Canvas, curve: Curve, frame: Axes) -> None:
    last: tuple[int, int] | None = None
    for x, y in zip(curve.xs, curve.ys, strict=True):
        column = round(x / frame.x_high * (2 * canvas.columns - 1))
        if not math.isfinite(y):
            canvas.mark(column, 0, NOT_FINITE, curve.style)
            last = None
            continue
        here = column, round(1.5 + (1 - frame.height_of(y)) * 4 * (canvas.rows - 1))
        if curve.line:
            _join(canvas, last or here, here, curve.style)
        if curve.mark:
            canvas.mark(*here, curve.mark, curve.style)
        last = here


def _join(canvas: _Canvas, begin: tuple[int, int], end: tuple[int, int], style: str) -> None:
    steps = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1)
    for i in range(steps + 1):
        part = i / steps
        canvas.dot(round(begin[0] + part * (end[0] - begin[0])), round(begin[1] + part * (end[1] - begin[1])), style)


def _ticks(ticks: Sequence[int] | Mapping[float, str], x_high: float, columns: int) -> str:
    """Return what stands under an axis, each ending where it belongs, those left out that would touch another."""
    line = [" "] * (columns + 1)
    free = 0
    texts = ticks if isinstance(ticks, Mapping) else {tick: str(tick) for tick in ticks}
    for tick, text in texts.items():
        at = round(tick / x_high * (2 * columns - 1)) // 2
        begin = min(max(at - len(text) // 2, 0), columns - len(text))
        if begin >= free:
            line[begin : begin + len(text)] = text
            free = begin + len(text) + 1
    return "".join(line).rstrip()

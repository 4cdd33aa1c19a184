"""One trial as a picture of its loss and its learning rate, and its epochs as a table: what a trial's page shows of it.

Painted on white, whatever the page around it looks like: a picture in a page does not know its colours.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from xml.sax.saxutils import escape

from lrsearch import families, schedules
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.report import words
from lrsearch.report.chart import Axes, axes
from lrsearch.report.lines import ending
from lrsearch.report.plain import plain
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import EpochMetrics, State, Trial

WIDTH, HEIGHT = 720, 560
LEFT, RIGHT = 70, 700
LOSS_AREA, RATE_AREA = (96, 300), (362, 516)
"""Top and bottom of the two charts [pixels]."""

POINTS = 400
LONGEST = 100
"""Characters of a line."""
INK, PALE = "#1f2328", "#d0d7de"
TRAINING, VALIDATION, RATE, END = "#0550ae", "#bc4c00", "#116329", "#a40e26"
"""Each at least 4.5 : 1 on white; told apart by marks and words too."""


def svg(trial: Trial, spec: StudySpec) -> str:
    """Return the picture: the losses by epoch, and below them the learning rate as planned and how far it came."""
    state = (
        ending(trial.outcome, spec)
        if trial.outcome
        else f"{len(trial.metrics)} of {counted(trial.config.epochs, 'epoch')}"
    )
    parts = [
        _text(LEFT, 24, f"trial {trial.number}: {words.setting(trial.config)}", size=15, bold=True),
        _text(LEFT, 44, state),
        *_loss(trial),
        *_rate(trial, spec),
    ]
    about = f"Loss and learning rate of trial {trial.number}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12"><title>{escape(about)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>'
    )


def epochs_csv(trial: Trial) -> str:
    """Return the epochs of a trial as CSV, one row an epoch."""
    out = io.StringIO()
    names = list(EpochMetrics.__dataclass_fields__)
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(asdict(row)) for row in trial.metrics)
    return out.getvalue()


def _loss(trial: Trial) -> list[str]:
    rows, epochs = trial.metrics, trial.config.epochs
    curves = ((TRAINING, [row.train_loss for row in rows]), (VALIDATION, [row.val_loss for row in rows]))
    frame = axes([v for _, values in curves for v in values], epochs, log_ratio=30, label=words.number)
    top = LOSS_AREA[0]
    if frame is None:
        none = "no epoch was completed" if not rows else "no loss was a number"
        return [_text(LEFT, top - 14, "Loss", bold=True), _text(LEFT, top + 20, f"There is no loss to show: {none}.")]
    log = ", logarithmic axis" if frame.log else ""
    parts = [
        _text(LEFT, top - 14, f"Loss [nats]{log}", bold=True),
        _mark(LEFT + 220, top - 18, TRAINING),
        _text(LEFT + 230, top - 14, "training", colour=TRAINING),
        _mark(LEFT + 300, top - 18, VALIDATION, square=True),
        _text(LEFT + 310, top - 14, "validation", colour=VALIDATION),
        *_frame(frame, LOSS_AREA, epochs),
    ]
    for colour, values in curves:
        points = [_at(row.epoch, v, frame, LOSS_AREA) for row, v in zip(rows, values, strict=True) if math.isfinite(v)]
        parts.append(_line(points, colour))
        # Where they would touch each other, the line shows the training.
        if len(points) <= (RIGHT - LEFT) // 10:
            parts += [_mark(x, y, colour, square=colour == VALIDATION) for x, y in points]
    bad = [row.epoch for row in rows if not (math.isfinite(row.train_loss) and math.isfinite(row.val_loss))]
    parts += [_text(_x(epoch, frame), top + 12, "!", colour=END, anchor="middle", bold=True) for epoch in bad]
    return parts


def _rate(trial: Trial, spec: StudySpec) -> list[str]:
    config = trial.config
    steps = spec.steps_per_epoch(config.batch_size)
    lrs = [float(lr) for lr in planned_lrs(trial, steps)]
    count = min(len(lrs), POINTS)
    at = [round(i * (len(lrs) - 1) / max(count - 1, 1)) for i in range(count)]
    drawn = [lrs[i] for i in at]
    ratio = 20 if families.of(config.schedule).by_factors else math.inf
    frame = axes(drawn if len(set(drawn)) > 1 else [0.0, *drawn], config.epochs, log_ratio=ratio, label=words.rate)
    if frame is None:
        return []
    top = RATE_AREA[0]
    log = ", logarithmic axis" if frame.log else ""
    parts = [
        _text(LEFT, top - 14, f"Learning rate: {schedules.describe(config.schedule)}{log}", bold=True),
        *_frame(frame, RATE_AREA, config.epochs),
        _line([_at((i + 1) / steps, lr, frame, RATE_AREA) for i, lr in zip(at, drawn, strict=True)], RATE),
    ]
    done, said = _end(trial)
    if said and 0 < done <= len(lrs):
        x, y = _at(done / steps, lrs[done - 1], frame, RATE_AREA)
        anchor = "end" if x > (LEFT + RIGHT) / 2 else "start"
        aside = -8 if anchor == "end" else 8
        parts += [_mark(x, y, END), _text(x + aside, top + 14, said, colour=END, anchor=anchor)]
    return [*parts, _text((LEFT + RIGHT) / 2, RATE_AREA[1] + 34, "epoch", anchor="middle")]


def _end(trial: Trial) -> tuple[int, str]:
    """Return how many updates were made where not all were, and the words for it."""
    done = trial.metrics[-1].step if trial.metrics else 0
    outcome = trial.outcome
    if outcome is None:
        return done, f"so far: {counted(done, 'update')}"
    if outcome.state == State.DIVERGED and outcome.step is not None:
        return outcome.step + 1, f"{words.ended_as(outcome)} at step {outcome.step}"
    return done, "" if outcome.state == State.COMPLETE else f"{outcome.state} after {counted(done, 'update')}"


def _frame(frame: Axes, area: tuple[int, int], epochs: int) -> list[str]:
    top, bottom = area
    parts = []
    for i in range(5):
        y = bottom - (bottom - top) * i / 4
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{PALE}"/>')
        parts.append(_text(LEFT - 8, y + 4, frame.label(frame.value_at(i / 4)), anchor="end"))
    step = next(s * 10**e for e in range(9) for s in (1, 2, 5) if epochs / (s * 10**e) <= 20)
    for epoch in range(step, epochs + 1, step):
        x = _x(epoch, frame)
        parts.append(f'<path d="M{x:.1f} {bottom}v5" stroke="{INK}"/>')
        parts.append(_text(x, bottom + 18, str(epoch), anchor="middle"))
    parts.append(f'<path d="M{LEFT} {top}V{bottom}H{RIGHT}" fill="none" stroke="{INK}"/>')
    return parts


def _x(x: float, frame: Axes) -> float:
    return LEFT + (RIGHT - LEFT) * x / frame.x_high


def _at(x: float, y: float, frame: Axes, area: tuple[int, int]) -> tuple[float, float]:
    top, bottom = area
    return _x(x, frame), bottom - (bottom - top) * frame.height_of(y)


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _mark(x: float, y: float, colour: str, *, square: bool = False) -> str:
    if square:
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{colour}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def _text(
    x: float, y: float, text: str, *, size: int = 12, bold: bool = False, colour: str = INK, anchor: str = "start"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    # What a terminal would obey has no place in XML.
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}"{weight}>'
        f"{escape(shown)}</text>"
    )

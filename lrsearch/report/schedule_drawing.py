"""`lrsearch show-schedule`: schedules drawn over each other, and their turning points in words."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from lrsearch import families, schedules
from lrsearch.report import words
from lrsearch.report.chart import BOTH, Chart, Curve, axes, draw, epoch_ticks, thinned
from lrsearch.report.plain import plain
from lrsearch.report.trace import WIDEST_CHART
from lrsearch.schedules import Factors
from lrsearch.text import counted
from lrsearch.trial import ScheduleConfig

SCHEMA: Final = "lrsearch/schedules/1"

ROWS: Final = 12
FALLS_FAR: Final = 20
"""Families that fall by factors have a logarithmic axis where the peak is so many times the lowest rate."""
MOST_STEPS_IN_JSON: Final = 10_000
MOST_TURNS: Final = 6
"""Of drops or restarts more are counted and not listed."""
STYLES: Final = ("green", "cyan", "yellow", "magenta", "blue", "red", "bright_green", "bright_cyan")
MOST: Final = len(STYLES)
"""Schedules that one chart holds."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A schedule with its learning rates."""

    name: str
    """Where it came from: ``trial 7``; empty where its own words are enough."""
    schedule: ScheduleConfig
    peak_lr: float
    lrs: Factors
    """Of every step, `[n_steps]`; of plateau as far as they are known."""
    steps_per_epoch: int
    epochs: int
    """Planned; the rates may end earlier."""

    @property
    def title(self) -> str:
        """The schedule in words."""
        name = f"{self.name}: " if self.name else ""
        return f"{name}{schedules.describe(self.schedule)}, peak lr {words.rate(self.peak_lr)}"


@dataclass(frozen=True, slots=True)
class Turn:
    """A step at which something can be said of a schedule."""

    what: str
    """``first``, ``warm-up ends``, ``peak``, ``drops to``, ``restarts``, ``decay begins``, ``last``."""
    step: int
    """0-based."""
    epoch: int
    """Under way at that step, 1-based."""
    lr: float


def to_json(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """Return the schedules as JSON, their rates at every step, or at evenly thinned ones where there are many."""
    return {"schema": SCHEMA, "schedules": [_document(one) for one in drawn]}


def _document(one: Drawn) -> dict[str, Any]:
    at = thinned(len(one.lrs), MOST_STEPS_IN_JSON)
    return {
        "name": one.name,
        "schedule": {key: value for key, value in plain(asdict(one.schedule)).items() if value is not None},
        "words": schedules.describe(one.schedule),
        "peak_lr": one.peak_lr,
        "epochs": one.epochs,
        "steps_per_epoch": one.steps_per_epoch,
        "n_steps": one.steps_per_epoch * one.epochs,
        "turns": [plain(asdict(turn)) for turn in turns(one)],
        "steps": at,
        "lr": [float(one.lrs[i]) for i in at],
    }


def turns(one: Drawn) -> list[Turn]:
    """Return the steps at which something happens, in order."""
    lrs = one.lrs
    n_warmup = schedules.warmup_steps(one.schedule, one.steps_per_epoch * one.epochs)
    found = [("first", 0)]
    if 0 < n_warmup <= len(lrs):
        found.append(("warm-up ends", n_warmup - 1))
    change = np.diff(lrs)
    behind = np.arange(1, len(lrs)) > n_warmup
    match families.of(one.schedule).turn:
        case "drops to":
            found += [("drops to", int(i) + 1) for i in np.flatnonzero((change < 0) & behind)]
        case "restarts":
            found += [("restarts", int(i) + 1) for i in np.flatnonzero((change > 0) & behind)]
        case "decay begins":
            found += [("decay begins", int(i) + 1) for i in np.flatnonzero((change < 0) & behind)[:1]]
    peak = int(np.argmax(lrs))
    if peak not in (0, n_warmup - 1):
        found.append(("peak", peak))
    found.append(("last", len(lrs) - 1))
    # At one step the order is that in which they were found.
    return [
        Turn(what, step, step // one.steps_per_epoch + 1, float(lrs[step]))
        for what, step in sorted(found, key=lambda turn: turn[1])
    ]


def render(drawn: Sequence[Drawn], width: int) -> RenderableType:
    """Return the schedules for people, at least one and at most ``MOST``, all in one chart."""
    width = min(width, WIDEST_CHART)
    several = len(drawn) > 1
    x_high = max(one.epochs for one in drawn)
    every = [thinned(len(one.lrs), 4 * width) for one in drawn]
    lrs = [[float(one.lrs[i]) for i in at] for one, at in zip(drawn, every, strict=True)]
    by_factors = any(families.of(one.schedule).by_factors for one in drawn)
    flat = all(len(set(values)) == 1 for values in lrs)
    values = [value for one in lrs for value in one]
    frame = axes(
        [0.0, *values] if flat else values,
        x_high,
        log_ratio=FALLS_FAR if by_factors else math.inf,
        label=words.rate,
    )
    assert frame is not None  # factors are finite
    curves: list[Curve] = []
    for number, (one, at, ys) in enumerate(zip(drawn, every, lrs, strict=True)):
        xs = [(i + 1) / one.steps_per_epoch for i in at]
        curves.append(Curve(xs, ys, STYLES[number], line=True))
        if several:
            # Some letters on the line, each schedule's at places of its own: nothing is told by colour alone.
            some = range(len(at) * (number + 1) // (8 * (len(drawn) + 1)), len(at), max(len(at) // 8, 1))
            curves.append(Curve([xs[i] for i in some], [ys[i] for i in some], STYLES[number], mark=_letter(number)))
    title = Text.assemble(("Learning rate", "bold"), f" over {_epochs(x_high)}")
    title.append(", logarithmic axis" if frame.log else "").append(f", {BOTH} several" if several else "")
    parts: list[RenderableType] = [
        *draw([Chart(title, curves, frame, ROWS)], width=width, ticks=epoch_ticks(x_high, width), x_label="epoch")
    ]
    for number, one in enumerate(drawn):
        heading = Text(f"{_letter(number)}  " if several else "", STYLES[number]).append(one.title, "bold")
        parts += ["", heading, *(Text(f"   {line}" if several else line) for line in _told(one))]
    return Group(*parts)


def _told(one: Drawn) -> Iterator[str]:
    n_steps = one.steps_per_epoch * one.epochs
    yield f"{n_steps:,} step{'' if n_steps == 1 else 's'}: {_epochs(one.epochs)} of {one.steps_per_epoch:,}"
    found = turns(one)
    named: dict[str, int] = {}
    for turn in found:
        named[turn.what] = named.get(turn.what, 0) + 1
        if named[turn.what] <= MOST_TURNS:
            yield f"{turn.what:<12} lr {words.rate(turn.lr):<9} step {turn.step} (epoch {turn.epoch})"
    for what, n in named.items():
        if n > MOST_TURNS:
            yield f"{what}: {n - MOST_TURNS} more"
    if len(one.lrs) < n_steps:
        yield f"what follows is not known: {one.schedule.family} decides after each epoch"


def _letter(number: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number]


def _epochs(n: int) -> str:
    return counted(n, "epoch")

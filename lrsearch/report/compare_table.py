"""`lrsearch compare`: two studies or two trials side by side, for a terminal and for a script."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.text import Text

from lrsearch import schedules
from lrsearch.analysis.answer import shown_metrics
from lrsearch.analysis.compare import Comparison, CostOf, Interval, ScoreOf, ScorePair, Side, Unknown, flat
from lrsearch.report import words
from lrsearch.report.chart import BOTH, Chart, Curve, axes, draw, epoch_ticks
from lrsearch.report.fitted import FittedTable
from lrsearch.report.plain import epoch, plain
from lrsearch.report.trace import WIDEST_CHART
from lrsearch.spec.metrics import Metric
from lrsearch.text import counted, shown
from lrsearch.trial import State, TrialConfig

SCHEMA: Final = "lrsearch/compare/1"
ROWS: Final = 8
"""Of a chart."""
STYLES: Final = ("cyan", "yellow")

NOT_KNOWN: Final[Mapping[Unknown, str]] = {
    Unknown.OTHER_IMAGES: "The two were judged on different images: a difference may be that of the images.",
    Unknown.OTHER_METRIC: "The studies look for the best in different metrics.",
    Unknown.UNFINISHED: "Not both were trained through: the scores are those of the last epoch that each completed.",
    Unknown.PAIRING: "Which images each gets right is not compared, though they are the same: the intervals of the "
    "differences are wider than need be.",
    Unknown.SEED: "Each score is one training: how far another seed would move it is not known, and the intervals do "
    "not have it in them.",
    Unknown.CHOSEN: "The best of many trials was chosen by its validation score, which flatters it; the test score "
    "chose nothing.",
}


_SETTING: Final[Mapping[str, Callable[[TrialConfig], str]]] = {
    "optimizer": lambda config: f"{words.optimizer(config.optimizer)}, peak lr {words.rate(config.optimizer.peak_lr)}",
    "schedule": lambda config: schedules.describe(config.schedule),
    "batch size": lambda config: str(config.batch_size),
}


def render(found: Comparison, width: int = 80) -> RenderableType:
    """Return the comparison for people, ``width`` columns wide."""
    parts: list[RenderableType] = [_table("", about_rows(found), found)]
    if found.studies:
        parts += ["", _title("Studies that differ in"), _table("key", differing(found.studies), found)]
    if found.settings:
        of = "their best trials" if found.first.is_study or found.second.is_study else "the trials"
        parts += ["", _title(f"Settings in which {of} differ"), _table("setting", differing(found.settings), found)]
    elif found.first.trial is not None and found.second.trial is not None:
        parts += ["", Text("Both have the same setting.")]
    if found.scores:
        parts += ["", _title("Scores, with 95 % intervals"), _scores(found), *map(Text, verdicts(found))]
    parts += ["", _title("Cost"), _table("", cost_rows(found), found)]
    charts = [chart for metric in _curved(found) if (chart := _chart(found, metric)) is not None]
    if charts:
        epochs, wide = _epochs(found), min(width, WIDEST_CHART)
        parts += ["", *draw(charts, width=wide, ticks=epoch_ticks(epochs, wide), x_label="epoch")]
    if found.unknown:
        parts += ["", _title("What is not known"), *(Text(f"* {one}") for one in not_known(found))]
    return Group(*parts)


def to_json(found: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON."""
    return {
        "schema": SCHEMA,
        "sides": [_side(one) for one in found.sides],
        "settings": [_difference(*row) for row in found.settings],
        "studies": [_difference(*row) for row in found.studies],
        "same_images": found.same_images,
        "scores": [
            {
                "metric": pair.metric.name,
                "images": pair.images,
                "first": _value(pair.first.value, pair.first.interval),
                "second": _value(pair.second.value, pair.second.interval),
                "difference": _value(pair.difference, pair.interval),
                "better": pair.better,
            }
            for pair in found.scores
        ],
        "cost": [
            {
                "trials": {state.value: n for state, n in cost.states.items()},
                "epochs": cost.epochs,
                "updates": cost.updates,
                "seconds": cost.seconds,
            }
            for cost in found.costs
        ],
        "not_known": [{"what": one.value, "words": NOT_KNOWN[one]} for one in found.unknown],
    }


def who(found: Comparison) -> tuple[str, str]:
    """Return what each side is, in words."""
    first, second = (_who(one) for one in found.sides)
    return first, second


def about_rows(found: Comparison) -> list[tuple[str, str, str]]:
    """Return what each side is and trains with, in words."""
    rows = [("is", *who(found))]
    trials = [one.trial for one in found.sides]
    for name, said in _SETTING.items():
        first, second = (words.NOTHING if trial is None else said(trial.config) for trial in trials)
        rows.append((name, first, second))
    return rows


def labels(found: Comparison) -> tuple[str, str]:
    """Return what each side is called."""
    return shown(found.first.label), shown(found.second.label)


def differing(rows: Sequence[tuple[str, Any, Any]]) -> list[tuple[str, str, str]]:
    """Return what differs in words."""
    return [(key.replace("_", " "), _words(a), _words(b)) for key, a, b in rows]


def score_rows(found: Comparison) -> list[tuple[str, str, str, str, str]]:
    """Return the scores in words: which, of the first, of the second, how far apart, what that means."""
    out = []
    for pair in found.scores:
        n = [
            one.spec.facts.n_validation if pair.images == "validation" else one.spec.facts.n_test for one in found.sides
        ]
        a, b = (_scored(pair.metric, of, images) for of, images in zip((pair.first, pair.second), n, strict=True))
        said = words.metric_value(pair.metric, abs(pair.difference), min(n))
        signed = ("-" if pair.difference < 0 else "+") + said if pair.difference else said
        apart = f"{signed}{_between(pair.metric, pair.interval, min(n), signed=True)}"
        out.append((f"{pair.images} {pair.metric.label}", a, b, apart, _verdict(pair, found)))
    return out


def verdicts(found: Comparison) -> list[str]:
    """Return what the scores say whose exactness is known, a sentence each."""
    out = []
    for pair in found.scores:
        if pair.interval is not None:
            said = "the two cannot be told apart" if pair.better is None else _verdict(pair, found)
            out.append(f"By the {pair.images} {pair.metric.label} {said}.")
    return out


def cost_rows(found: Comparison) -> list[tuple[str, str, str]]:
    """Return what each has taken in words."""

    def row(name: str, *cells: str) -> tuple[str, str, str]:
        return name, cells[0], cells[1]

    out = []
    if any(one.is_study for one in found.sides):
        out.append(row("trials", *(_states(cost) for cost in found.costs)))
    out.append(row("epochs", *(f"{cost.epochs:,}" for cost in found.costs)))
    out.append(row("updates", *(f"{cost.updates:,}" for cost in found.costs)))
    out.append(row("time in training", *(words.duration(cost.seconds) for cost in found.costs)))
    devices = [", ".join(dict.fromkeys(shown(t.device) for t in one.trials if t.device)) for one in found.sides]
    return [*out, row("on", *(device or words.NOTHING for device in devices))]


def not_known(found: Comparison) -> list[str]:
    """Return what the scores do not say."""
    return [NOT_KNOWN[one] for one in found.unknown]


def _who(one: Side) -> str:
    trial = one.trial
    if one.is_study:
        if trial is None:
            return f"{counted(len(one.trials), 'trial')}, none complete"
        return f"trial {trial.number}, the best of {counted(len(one.trials), 'trial')}"
    assert trial is not None
    return f"trial {trial.number} of {shown(one.spec.name)}, {words.state(trial)}"


def _words(value: Any) -> str:
    match value:
        case None:
            return words.NOTHING
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case tuple() | list():
            return ", ".join(_words(one) for one in value)
        case {"low": low, "high": high}:
            return f"{_words(low)} to {_words(high)}"
        case _:
            return shown(str(value))


def _scored(metric: Metric, score: ScoreOf, n_images: int) -> str:
    return f"{words.metric_value(metric, score.value, n_images)}{_between(metric, score.interval, n_images)}"


def _between(metric: Metric, where: Interval | None, n_images: int, *, signed: bool = False) -> str:
    if where is None:
        return ""
    low, high = (
        ("+" if signed and value > 0 else "-" if value < 0 else "") + words.metric_value(metric, abs(value), n_images)
        for value in (where.low, where.high)
    )
    return f" ({low} to {high})"


def _verdict(pair: ScorePair, found: Comparison) -> str:
    if pair.interval is None:
        return "not known how exactly"
    first, second = labels(found)
    match pair.better:
        case "first":
            return f"{first} is better"
        case "second":
            return f"{second} is better"
        case None:
            return "cannot be told apart"


def _states(cost: CostOf) -> str:
    parts = [f"{n} {state}" for state in State if (n := cost.states.get(state, 0))]
    return ", ".join(parts) or "none"


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _table(heading: str, rows: Sequence[Sequence[str]], found: Comparison) -> FittedTable:
    table = FittedTable("--json has all", box=box.MARKDOWN, header_style="bold")
    for name in (heading, *labels(found)):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _scores(found: Comparison) -> FittedTable:
    table = FittedTable("--json has all", box=box.MARKDOWN, header_style="bold")
    for name in ("score", *labels(found), "difference"):
        table.add_column(name, overflow="fold")
    for row in score_rows(found):
        table.add_row(*(Text(cell) for cell in row[:-1]))
    return table


def _epochs(found: Comparison) -> int:
    return max(one.trial.config.epochs for one in found.sides if one.trial is not None)


def _curved(found: Comparison) -> Iterator[Metric]:
    """Yield the metrics whose curves are drawn: those that both sides show."""
    if found.first.trial is None or found.second.trial is None:
        return
    known = {metric.name for metric in shown_metrics(found.second.spec)}
    yield from (metric for metric in shown_metrics(found.first.spec) if metric.name in known)


def _chart(found: Comparison, metric: Metric) -> Chart | None:
    rows = [one.trial.metrics for one in found.sides if one.trial is not None]
    values = [[metric.of(row) for row in of] for of in rows]
    ratio = math.inf if metric.maximize else 30
    frame = axes([v for of in values for v in of], _epochs(found), log_ratio=ratio, label=words.number)
    if frame is None:
        return None
    xs = [[row.epoch for row in of] for of in rows]
    curves = [
        Curve(xs[0], values[0], STYLES[0], line=True),
        Curve(xs[1], values[1], STYLES[1], mark="o"),
    ]
    first, second = labels(found)
    title = Text.assemble((f"Validation {metric.label}", "bold"), ": ", (f"line: {first}", STYLES[0]), ", ")
    title.append_text(
        Text.assemble((f"o: {second}", STYLES[1]), f", {BOTH}: several" if len(xs[1]) > WIDEST_CHART else "")
    )
    title.append(", logarithmic axis" if frame.log else "")
    return Chart(title, curves, frame, ROWS)


def _side(one: Side) -> dict[str, Any]:
    trial = one.trial
    out = {"label": one.label, "study": one.spec.name, "is_study": one.is_study, "n_trials": len(one.trials)}
    if trial is None:
        return out | {"trial": None}
    return out | {
        "trial": trial.number,
        "state": trial.state.value,
        "setting": plain(flat(trial.config)),
        "schedule": schedules.describe(trial.config.schedule),
        "epochs": [epoch(row) for row in trial.metrics],
    }


def _difference(key: str, first: Any, second: Any) -> dict[str, Any]:
    return {"key": key, "first": plain(first), "second": plain(second)}


def _value(value: float, where: Interval | None) -> dict[str, Any]:
    out = {"value": plain(value)}
    return out if where is None else out | {"low": where.low, "high": where.high}

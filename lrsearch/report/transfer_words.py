"""What is known of the best learning rate elsewhere: in words, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lrsearch.analysis.transfer import LEVEL, AtScale, Elsewhere, Estimate, Scaling
from lrsearch.analysis.transfer_plan import Measuring
from lrsearch.report import words
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted

SCHEMA: Final = "lrsearch/transfer/1"


def where(scaling: Scaling, scale: int) -> str:
    """Say a scale: ``batch size 512``, ``20 epochs``."""
    return f"batch size {scale}" if scaling == Scaling.BATCH_SIZE else counted(scale, scaling.words.removesuffix("s"))


def render(found: Sequence[Elsewhere], spec: StudySpec, sources: Sequence[str]) -> RenderableType:
    """Return for people what is known of each optimizer."""
    first = found[0]
    head = f"The learning rate of {spec.name} at {where(first.scaling, first.target)}, by {_named(sources)}"
    blocks: list[RenderableType] = [Text(head, style="bold")]
    for one in found:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in _rows(one):
            grid.add_row(name, Text(text))
        blocks += [Text(one.optimizer), Padding(grid, (0, 0, 0, 2), expand=False)]
    return Group(*blocks)


def _named(sources: Sequence[str]) -> str:
    return f"the trials of {', '.join(sources)}"


def _rows(one: Elsewhere) -> list[tuple[str, str]]:
    rows = [("measured", "; ".join(_at(one.scaling, scale) for scale in one.measured))]
    if one.shift is None:
        rows.append(("predicted", f"not enough evidence: {one.lacking}"))
    else:
        rows.append(("predicted", f"peak lr {_estimate(one.shift.lr)}"))
        span = f"{one.shift.exponent.low:.2f} to {one.shift.exponent.high:.2f}, {100 * LEVEL:.0f} %"
        rows.append(("exponent", f"{one.shift.exponent.value:.2f} ({span}) of the {one.scaling.words}"))
    base = f"from {words.rate(one.base.best_lr)} at {where(one.scaling, one.base.scale)}"
    for rule in one.rules:
        source = f"; {rule.source}" if rule.source else ""
        usual = f", the usual one for {one.optimizer}" if rule.usual and len(one.rules) > 1 else ""
        rows.append((rule.name, f"{words.rate(rule.lr)} (exponent {rule.exponent:g}, {base}{usual}{source})"))
    return rows


def _at(scaling: Scaling, one: AtScale) -> str:
    best = "none trained through" if one.best_lr is None else f"best at {words.rate(one.best_lr)}"
    return f"{where(scaling, one.scale)}: {counted(one.n_trials, 'trial')}, {best}"


def _estimate(one: Estimate) -> str:
    return f"{words.rate(one.value)} ({words.rate(one.low)} to {words.rate(one.high)}, {100 * LEVEL:.0f} %)"


def budget(plan: Measuring, seconds: float | None) -> str:
    """Say before it is trained what will be."""
    names = ", ".join(one.name for one in plan.specs)
    n = sum(one.budget.trials or 0 for one in plan.specs)
    time = "" if seconds is None else f", about {words.duration(seconds)} by the trials so far"
    return f"measuring: {counted(n, 'training')} in {counted(len(plan.specs), 'study', 'studies')} ({names}){time}"


def to_json(found: Sequence[Elsewhere], spec: StudySpec, sources: Sequence[str]) -> dict[str, Any]:
    """Return all that is known as a document."""
    first = found[0]
    return {
        "schema": SCHEMA,
        "study": spec.name,
        "scaling": first.scaling.value,
        "target": first.target,
        "studies": list(sources),
        "level": LEVEL,
        "optimizers": [_json(one) for one in found],
    }


def _json(one: Elsewhere) -> dict[str, Any]:
    return {
        "name": one.optimizer,
        "measured": [asdict(scale) for scale in one.measured],
        "base": asdict(one.base),
        "lr": None if one.shift is None else asdict(one.shift.lr),
        "exponent": None if one.shift is None else asdict(one.shift.exponent),
        "why_none": one.lacking or None,
        "rules": [asdict(rule) for rule in one.rules],
    }

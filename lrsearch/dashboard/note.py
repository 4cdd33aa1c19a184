"""The study's note and its chart inside optuna-dashboard: the answer as Markdown, accuracy against learning rate."""

import json
import math
from collections import Counter
from typing import Any

from lrsearch.analysis.diagnosis import sentences
from lrsearch.analysis.material import Material
from lrsearch.report import answer
from lrsearch.report.status import counts_words
from lrsearch.report.zones import plain_axis
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.trial import State, Trial

SYMBOLS: dict[State, str] = {State.COMPLETE: "circle", State.PRUNED: "triangle-down-open", State.DIVERGED: "x"}


def markdown(material: Material, report_url: str) -> str:
    """Return the answer of the study as it stands."""
    found = answer.build(
        material.trials,
        material.spec,
        material.place,
        budget=material.budget,
        confirmed=material.confirmation,
        converged=material.converged,
    )
    parts = [f"**{found.headline}**", "\n".join(f"- {name}: {value}" for name, value in found.facts.items())]
    if found.against_baseline:
        parts += ["### Your setting", found.against_baseline]
    if found.winner is not None:
        parts += ["### How sure", *found.how_sure()]
    parts.append("### Too high, too low")
    for one in found.diagnosis:
        parts.append(f"**{one.optimizer}**: {counts_words(Counter(one.counts))}")
        parts.append("\n".join(f"- {sentence}" for sentence in sentences(one)))
        if axis := plain_axis(one):
            parts.append(f"```text\n{axis}\n```")
    if found.winner is not None:
        parts += ["### In PyTorch", f"```python\n{found.snippet.strip()}\n```"]
    parts.append(f"[The whole report]({report_url})")
    parts.append("*Kept up to date by lrsearch; what you save here takes its place.*")
    return "\n\n".join(part for part in parts if part)


def accuracy_against_lr(material: Material) -> str:
    """Return a Plotly figure as JSON: a point a trial, its peak learning rate and the accuracy that it came to."""
    traces: list[dict[str, Any]] = []
    for optimizer, record in OPTIMIZERS.items():
        for state, symbol in SYMBOLS.items():
            shown = [t for t in material.trials if t.config.optimizer.name == optimizer and t.state == state]
            if shown:
                marker = {"color": record.colour, "symbol": symbol, "size": 8}
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": f"{optimizer} {state}",
                        "marker": marker,
                        "x": [_short(t.config.optimizer.peak_lr) for t in shown],
                        "y": [_short(_accuracy(t)) for t in shown],
                        "text": [f"trial {t.number}" for t in shown],
                        "hoverinfo": "x+y+text",
                    }
                )
    layout = {
        "title": {"text": "Accuracy against peak learning rate"},
        "xaxis": {"type": "log", "title": {"text": "peak learning rate"}},
        "yaxis": {"title": {"text": "validation accuracy of the last epoch"}},
        "margin": {"l": 60, "t": 50, "r": 20, "b": 50},
    }
    return json.dumps({"data": traces, "layout": layout}, allow_nan=False)


def _short(value: float) -> float:
    """Return as many digits as are seen: a page asks for all points again and again."""
    return float(f"{value:.4g}")


def _accuracy(trial: Trial) -> float:
    """Return the accuracy of the last epoch; a trial that diverged before its first one lies at the bottom."""
    value = trial.metrics[-1].val_accuracy if trial.metrics else 0.0
    return value if math.isfinite(value) else 0.0

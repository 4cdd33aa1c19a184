"""The trials as the rows of the page's table, which its script sorts."""

import math
from collections.abc import Sequence
from typing import Any

from lrsearch.analysis.answer import shown_metrics
from lrsearch.analysis.trial_diagnosis import diagnose_trial
from lrsearch.report import words
from lrsearch.report.figure import short
from lrsearch.report.lines import ending
from lrsearch.report.plain import attempts
from lrsearch.report.tables import by_layer_fields
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial

FIRST: tuple[tuple[str, str], ...] = (("trial", "count"), ("state", "text"))
REST: tuple[tuple[str, str], ...] = (
    ("epochs", "count"),
    ("optimizer", "text"),
    ("peak lr", "number"),
    ("schedule", "text"),
    ("warm-up", "number"),
    ("batch", "count"),
    ("time [s]", "number"),
    ("tries", "count"),
    ("origin", "text"),
    ("diagnosis", "text"),
    ("next lr", "number"),
    ("how it ended", "text"),
)
"""Heading, and how the script writes and sorts what stands below it."""
BATCH = 1 + [name for name, _ in REST].index("batch")
"""Behind the batch size stand the learning rates by layer, where trials have them."""


def trial_rows(trials: Sequence[Trial], spec: StudySpec, winner: Trial | None) -> dict[str, Any]:
    """Return headings and rows, by number; scores are those of the last epoch."""
    by_layer = by_layer_fields(trials)
    rest = [*REST[:BATCH], *((field.replace("_", " "), "number") for field in by_layer), *REST[BATCH:]]
    scores = [(metric.label, "share" if metric.is_share else "number") for metric in shown_metrics(spec)]
    return {
        "columns": [{"name": name, "kind": kind} for name, kind in (*FIRST, *scores, *rest)],
        "rows": [_row(t, spec, by_layer) for t in trials],
        "winner": None if winner is None else winner.number,
        "digits": len(words.accuracy(0.5, spec.facts.n_validation)) - 2,
    }


def _row(trial: Trial, spec: StudySpec, by_layer: Sequence[str]) -> list[Any]:
    last = trial.metrics[-1] if trial.metrics else None
    config, diagnosis = trial.config, diagnose_trial(trial, spec)
    return [
        trial.number,
        "interrupted" if trial.interrupted else trial.state.value,
        *(short(metric.of(last) if last else None) for metric in shown_metrics(spec)),
        len(trial.metrics),
        config.optimizer.name,
        short(config.optimizer.peak_lr),
        config.schedule.family,
        short(config.schedule.warmup_fraction),
        config.batch_size,
        *(short(getattr(config, field)) for field in by_layer),
        short(math.fsum(row.seconds for row in trial.metrics)),
        attempts(trial),
        trial.origin,
        diagnosis.condition.value,
        short(diagnosis.next_lr),
        ending(trial.outcome, spec) if trial.outcome else f"under way at {trial.worker or words.NOTHING}",
    ]

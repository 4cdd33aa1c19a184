"""How far a study is: its budget, its trials by state, the best so far, what is being trained."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from lrsearch.analysis.ranking import best
from lrsearch.report import words
from lrsearch.report.plain import plain
from lrsearch.spec import BudgetSpec, StudySpec
from lrsearch.trial import State, Trial

SCHEMA = "lrsearch/status/1"

RECENT = 10
"""Finished trials over which the rate is taken."""


def status_json(trials: Sequence[Trial], spec: StudySpec, budget: BudgetSpec) -> dict[str, Any]:
    """Return the state of a study as JSON; ``budget`` is the one that stands now."""
    winner = best(trials, spec.objective.direction)
    counts = Counter(t.state for t in trials)
    return {
        "schema": SCHEMA,
        "study": spec.name,
        "dataset": spec.dataset.name,
        "model": spec.model.name,
        "epochs": spec.epochs,
        "objective": {"metric": spec.objective.metric, "direction": spec.objective.direction},
        "budget": budget.model_dump(mode="json"),
        "finished": sum(t.state.counts for t in trials),
        "counts": {state.value: counts[state] for state in State},
        "trained_hours": trained_seconds(trials) / 3600,
        "best": None if winner is None else _brief(winner),
        "trials_per_minute": trials_per_minute(trials),
        "devices": dict(Counter(t.device for t in trials if t.device)),
        "origins": dict(Counter(t.origin for t in trials)),
        "running": [
            _brief(t) | {"epoch": len(t.metrics), "worker": t.worker, "interrupted": t.interrupted}
            for t in running(trials)
        ],
    }


def status_table(trials: Sequence[Trial], spec: StudySpec, budget: BudgetSpec) -> Table:
    """Return the state of a study for people; ``budget`` is the one that stands now."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("study", f"{spec.name}: {spec.model.name} on {spec.dataset.name}, {spec.epochs} epochs a trial")
    goal = "most accurate" if spec.objective.metric == "accuracy" else "lowest loss"
    grid.add_row("objective", f"{goal} on the validation images after the last epoch")
    grid.add_row("budget", _budget(trials, budget))
    grid.add_row("trials", counts_words(Counter(t.state for t in trials)))
    winner = best(trials, spec.objective.direction)
    if winner is None or winner.outcome is None:
        grid.add_row("best", "no complete trial yet")
    else:
        value = words.objective_value(winner.outcome.value, spec)
        grid.add_row("best", f"{value}, trial {winner.number}: {words.setting(winner.config)}")
    rate = trials_per_minute(trials)
    grid.add_row("rate", words.NOTHING if rate is None else f"{rate:.3g} trials a minute (the last {RECENT})")
    grid.add_row("devices", Text(_listed(Counter(t.device for t in trials if t.device))))
    grid.add_row("origin", _listed(Counter(t.origin for t in trials)))
    for trial in running(trials):
        at = f"epoch {len(trial.metrics)}/{trial.config.epochs}"
        what, where = (
            ("interrupted", "the next run starts it again") if trial.interrupted else ("running", trial.worker)
        )
        grid.add_row(what, Text(f"trial {trial.number}: {words.setting(trial.config)}, {at}, {where}"))
    return grid


def trained_seconds(trials: Sequence[Trial]) -> float:
    """Return the training time of all trials together, which a budget in hours limits."""
    return sum(row.seconds for trial in trials for row in trial.metrics)


def trials_per_minute(trials: Sequence[Trial]) -> float | None:
    """Return how many of the latest trials ended per minute, from the start of the first of them to the last end.

    None with fewer than two; a pause between two runs counts as long as it lies among the latest ten.
    """
    timed = [(t.ended_at, t.started_at) for t in trials if t.state.counts and t.ended_at and t.started_at]
    latest = sorted(timed)[-RECENT:]
    if len(latest) < 2:
        return None
    seconds = (latest[-1][0] - min(started for _, started in latest)).total_seconds()
    return 60 * len(latest) / seconds if seconds > 0 else None


def running(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that have not ended."""
    return [t for t in trials if t.state == State.RUNNING]


def counts_words(counts: Counter[State]) -> str:
    """Return ``14 complete, 36 pruned, 0 diverged``, and failed and running ones where there are any."""
    shown = (State.COMPLETE, State.PRUNED, State.DIVERGED)
    more = (State.FAILED, State.RUNNING)
    return ", ".join(f"{counts[s]} {s}" for s in (*shown, *(s for s in more if counts[s])))


def _budget(trials: Sequence[Trial], budget: BudgetSpec) -> str:
    parts = []
    if budget.trials is not None:
        parts.append(f"{sum(t.state.counts for t in trials)} of {budget.trials} trials finished")
    if budget.hours is not None:
        parts.append(f"{words.duration(trained_seconds(trials))} of {words.duration(3600 * budget.hours)} trained")
    failed = sum(t.state == State.FAILED for t in trials)
    return ", ".join([*parts, f"{failed} failed of at most {budget.max_failures}"])


def _running(trial: Trial) -> dict[str, Any]:
    return _brief(trial) | {"epoch": len(trial.metrics), "worker": trial.worker, "interrupted": trial.interrupted}


def _brief(trial: Trial) -> dict[str, Any]:
    value = trial.outcome.value if trial.outcome else None
    return {"number": trial.number, "value": plain(value), "setting": words.setting(trial.config)}


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in counts.most_common()) or words.NOTHING

"""Trials, studies and search spaces as tables for people, as JSON and as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol

from rich import box
from rich.text import Text

from lrsearch import domain
from lrsearch.analysis.answer import shown_metrics, winner_of
from lrsearch.analysis.confirmation import Confirmation
from lrsearch.domain import Domain
from lrsearch.report import branches, study_words, words
from lrsearch.report.fitted import NAME_WIDTH, FittedTable
from lrsearch.report.plain import BY_LAYER, attempts, flat, nested, plain
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.trial import OptimizerConfig, RangeTest, Reason, Refused, Role, ScheduleConfig, State, Trial, TrialConfig

TRIALS_SCHEMA = "lrsearch/trials/1"
STUDIES_SCHEMA = "lrsearch/studies/1"

STYLES: dict[State, str] = {
    State.RUNNING: "cyan",
    State.COMPLETE: "green",
    State.PRUNED: "dim",
    State.DIVERGED: "red",
    State.FAILED: "magenta",
}

LEAN: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "show_edge": False,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
    "header_style": "bold",
}
"""The look of a table of names."""

SHORT_FIELDS = {"stem_ratio": "stem", "layer_decay": "decay", "backbone_ratio": "backbone"}
"""What a column is called that has a field of the learning rates by layer."""

_NO_TRIAL = Trial(0, TrialConfig(OptimizerConfig("sgd", 1.0), ScheduleConfig("constant"), 1, 1, 0), State.RUNNING, None)
"""Has all the fields there are: a CSV without trials has a header too."""


class StudyRow(Protocol):
    """One study of a database, as ``search.study.Summary`` has it."""

    @property
    def name(self) -> str:
        """Of the study."""

    @property
    def dataset(self) -> str:
        """Its name."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def budget(self) -> BudgetSpec:
        """As it stands now."""

    @property
    def counts(self) -> Mapping[State, int]:
        """Trials by state."""

    @property
    def created_at(self) -> datetime:
        """In UTC."""

    @property
    def copy_of(self) -> str | None:
        """The name of the original, of a copy that another program made."""


def trials_table(
    trials: Sequence[Trial],
    spec: StudySpec,
    refused: Sequence[Refused] = (),
    confirmed: Confirmation | None = None,
) -> FittedTable:
    """Return the trials by number; accuracy and loss are those of the last epoch, the best trial has a star.

    Args:
        trials: those that were started.
        spec: their study.
        refused: those that a person enqueued outside the space.
        confirmed: what was confirmed with fresh seeds: its winner has the star.
    """
    # One space between columns: ten of them fit into 80.
    table = FittedTable("--format csv has all", box=box.SIMPLE_HEAD, show_edge=False, padding=0, header_style="bold")
    for name in ("", "#"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", gives_way=1, no_wrap=True)
    scores = shown_metrics(spec)
    named = [("val loss", 8) if metric.name == "loss" else (metric.label, 2) for metric in scores]
    for name, gives_way in (*named, ("epochs", 6)):
        table.add_column(name, gives_way=gives_way, justify="right", no_wrap=True)
    table.add_column("optimizer", gives_way=4, no_wrap=True)
    table.add_column("peak lr", gives_way=3, justify="right", no_wrap=True)
    table.add_column("schedule", gives_way=5, no_wrap=True)
    table.add_column("batch", gives_way=7, justify="right", no_wrap=True)
    by_layer = by_layer_fields(trials)
    for field in by_layer:
        table.add_column(SHORT_FIELDS[field], gives_way=8, justify="right", no_wrap=True)
    repeats = any(trial.role == Role.CONFIRM for trial in trials)
    if repeats:
        table.add_column("repeats", gives_way=9, justify="right", no_wrap=True)
    branch = any(branches.is_branch(trial) for trial in trials)
    if branch:
        table.add_column("from", gives_way=9, justify="right", no_wrap=True)
    again = any(attempts(trial) > 1 for trial in trials)
    if again:
        table.add_column("tries", gives_way=9, justify="right", no_wrap=True)
    winner, n = winner_of(_of_search(trials), spec, confirmed), spec.facts.n_validation
    for trial in _by_number(trials, refused):
        if isinstance(trial, Refused):
            cells = [words.NOTHING] * (5 + len(scores) + len(by_layer) + again + repeats + branch)
            table.add_row("", str(trial.number), Text("refused", STYLES[State.FAILED]), *cells)
            continue
        last = trial.metrics[-1] if trial.metrics else None
        won = winner is not None and trial.number == winner.number
        table.add_row(
            "*" if won else "",
            str(trial.number),
            Text(words.state(trial), STYLES[trial.state]),
            *(words.metric_value(metric, metric.of(last) if last else None, n) for metric in scores),
            f"{len(trial.metrics)}/{trial.config.epochs}",
            trial.config.optimizer.name,
            words.rate(trial.config.optimizer.peak_lr),
            trial.config.schedule.family,
            str(trial.config.batch_size),
            *(words.rate(getattr(trial.config, field)) for field in by_layer),
            *([_repeated(trial)] if repeats else []),
            *([branches.short(trial)] if branch else []),
            *([str(attempts(trial))] if again else ()),
            style="bold" if won else None,
        )
    return table


def _of_search(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.role == Role.SEARCH]


def _repeated(trial: Trial) -> str:
    """Return the number of the trial that one repeats with a fresh seed."""
    if trial.role != Role.CONFIRM:
        return ""
    return "yours" if trial.parent is None else str(trial.parent)


def by_layer_fields(trials: Sequence[Trial]) -> list[str]:
    """Return the fields of settings that say how layers learn, of those that some trial has."""
    return [field for field in BY_LAYER if any(getattr(trial.config, field) is not None for trial in trials)]


def trials_json(
    trials: Sequence[Trial],
    spec: StudySpec,
    refused: Sequence[Refused] = (),
    range_tests: Sequence[RangeTest] = (),
    confirmed: Confirmation | None = None,
) -> dict[str, Any]:
    """Return the trials with their epochs as JSON; range tests stand apart. See ``trials_table``."""
    winner = winner_of(_of_search(trials), spec, confirmed)
    about = {"study": spec.name, "objective": {"metric": spec.objective.metric, "direction": spec.metric.direction}}
    rows = [nested(trial) for trial in trials]
    out = {"schema": TRIALS_SCHEMA, **about, "best": winner.number if winner else None, "trials": rows}
    swept = [{"role": Role.RANGE_TEST.value, **plain(asdict(one))} for one in range_tests]
    return out | {"refused": [plain(asdict(one)) for one in refused], "range_tests": swept}


def trials_csv(trials: Sequence[Trial], refused: Sequence[Refused] = ()) -> str:
    """Return the trials as CSV, one row a trial, without their epochs; a field that does not apply is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(flat(_NO_TRIAL)), lineterminator="\n")
    writer.writeheader()
    for trial in _by_number(trials, refused):
        if isinstance(trial, Refused):
            about = {"state": State.FAILED.value, "reason": Reason.NOT_IN_SPACE.value, "message": trial.message}
            writer.writerow({"number": trial.number, "origin": "enqueued", **about})
            continue
        row = flat(trial)
        if trial.config.schedule.milestones is not None:
            row["milestones"] = " ".join(f"{milestone:g}" for milestone in trial.config.schedule.milestones)
        writer.writerow(row)
    return out.getvalue()


def studies_table(rows: Iterable[StudyRow]) -> FittedTable:
    """Return the studies of a database, one a row."""
    table = FittedTable("--json has all", **LEAN)
    table.add_column("study", overflow="fold", min_width=NAME_WIDTH)
    for name, gives_way in (("data", 3), ("model", 2)):
        table.add_column(name, gives_way=gives_way, no_wrap=True)
    shown = (State.COMPLETE, State.PRUNED, State.DIVERGED)
    table.add_column("finished", gives_way=1, justify="right", no_wrap=True)
    for state in shown:
        table.add_column(state.value, gives_way=4, justify="right", no_wrap=True)
    table.add_column("created", gives_way=5, no_wrap=True)
    for row in rows:
        counts = (str(row.counts.get(state, 0)) for state in shown)
        copied = "" if row.copy_of is None else f" (a copy of {row.copy_of})"
        table.add_row(
            Text(f"{row.name}{copied}"),
            Text(study_words.name(row.dataset)),
            Text(study_words.name(row.model)),
            _finished(row),
            *counts,
            f"{row.created_at:%Y-%m-%d}",
        )
    return table


def studies_json(rows: Iterable[StudyRow]) -> dict[str, Any]:
    """Return the studies of a database as JSON."""
    studies = [
        {
            "name": row.name,
            "dataset": row.dataset,
            "model": row.model,
            "budget": row.budget.model_dump(mode="json"),
            "counts": {state.value: row.counts.get(state, 0) for state in State},
            "created_at": plain(row.created_at),
            "copy_of": row.copy_of,
        }
        for row in rows
    ]
    return {"schema": STUDIES_SCHEMA, "studies": studies}


def space_table(rows: Iterable[tuple[str, Domain, str]]) -> FittedTable:
    """Return a search space: the name of each parameter, what it may be and when it applies."""
    table = FittedTable("widen the terminal", **LEAN)
    table.add_column("parameter", overflow="fold", min_width=NAME_WIDTH)
    table.add_column("values", gives_way=1, overflow="fold")
    table.add_column("applies", gives_way=2, overflow="fold")
    for name, values, when in rows:
        fixed = isinstance(values, domain.Fixed)
        table.add_row(name, domain.describe(values), when, style="dim" if fixed else None)
    return table


def _by_number(trials: Sequence[Trial], refused: Sequence[Refused]) -> list[Trial | Refused]:
    every: list[Trial | Refused] = [*trials, *refused]
    return sorted(every, key=lambda one: one.number)


def _finished(row: StudyRow) -> str:
    done = sum(n for state, n in row.counts.items() if state.counts)
    if row.budget.trials is not None:
        return f"{done}/{row.budget.trials}"
    if row.budget.hours is not None:
        return f"{done}, {row.budget.hours:g} h"
    return f"{done}, {row.budget.trainings:g} trainings"

"""How far a study is: its budget, its trials by state, the best so far, who works on it, what was interrupted."""

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text

from lrsearch.analysis.confirmation import Confirmation
from lrsearch.analysis.ranking import best
from lrsearch.report import known_words, study_words, words
from lrsearch.report.known_words import SourceRow
from lrsearch.report.plain import attempts, plain
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.view import ENOUGH
from lrsearch.text import counted
from lrsearch.trial import Reason, Refused, State, Trial

SCHEMA = "lrsearch/status/1"

RECENT = 10
"""Finished trials over which the rate is taken."""

VOLATILE = frozenset({"seen_seconds_ago"})
"""Keys of the JSON that change while nothing happens."""


class WorkerRow(Protocol):
    """A worker that lives, as ``store.at_work.LivingWorker`` has it."""

    @property
    def name(self) -> str:
        """``host:pid``."""

    @property
    def device(self) -> str:
        """What it trains on."""

    @property
    def number(self) -> int | None:
        """Of the trial in hand, or None."""

    @property
    def seen_seconds_ago(self) -> float:
        """Since its last sign of life, by the database's clock."""


def status_json(
    trials: Sequence[Trial],
    spec: StudySpec,
    budget: BudgetSpec,
    workers: Sequence[WorkerRow] = (),
    stopped: str | None = None,
    crowded: str | None = None,
    refused: Sequence[Refused] = (),
    swept_seconds: float = 0.0,
    confirmation: Confirmation | None = None,
    converged: str = "",
    known: Sequence[SourceRow] = (),
) -> dict[str, Any]:
    """Return the state of a study as JSON.

    Args:
        trials: all of them.
        spec: the study.
        budget: the one that stands now.
        workers: those that live.
        stopped: how a person asked the study to stop, ``drain`` or ``now``; ``enough``: it converged; or None.
        crowded: in a sentence, that the workers of this machine have more threads than it has cores, or None.
        refused: what people enqueued outside the space; it counts as failed, not towards ``max_failures``.
        swept_seconds: what its range tests took, which counts in the hours of the budget.
        confirmation: what was confirmed so far; None where nothing was asked for, or its search goes on.
        converged: with the numbers that the search converged, as a clause; empty where it did not.
        known: whence it has trainings that it takes for known; they are no trials of it.
    """
    winner = best(trials, spec.metric.direction)
    counts = _counts(trials, refused)
    return {
        "schema": SCHEMA,
        "study": spec.name,
        **study_words.trained_json(spec),
        "epochs": spec.epochs,
        "objective": {"metric": spec.objective.metric, "direction": spec.metric.direction},
        "budget": budget.model_dump(mode="json"),
        "stopped": stopped,
        "converged": converged or None,
        "crowded": crowded,
        "finished": sum(t.state.counts for t in trials),
        "counts": {state.value: counts[state] for state in State},
        "interrupted": sum(t.interrupted for t in trials),
        "refused": [{"number": one.number, "message": one.message} for one in refused],
        "trained_hours": trained_seconds(trials, swept_seconds) / 3600,
        "best": None if winner is None else _brief(winner),
        "confirmation": None
        if confirmation is None
        else {
            "is_decided": confirmation.is_decided,
            "n_trainings": confirmation.n_trainings,
            "n_in_race": sum(one.in_race for one in confirmation.settings),
        },
        "trials_per_minute": trials_per_minute(trials),
        "devices": dict(Counter(t.device for t in trials if t.device)),
        "versions": dict(Counter(t.versions for t in trials if t.versions)),
        "compared_across": compared_across(trials),
        "origins": dict(Counter(t.origin for t in trials)),
        "known": [{"kind": one.kind, "name": one.name, "n": one.n} for one in known],
        "interruptions": {reason.value: n for reason, n in interruptions(trials).items()},
        "workers": [
            {"worker": w.name, "device": w.device, "trial": w.number, "seen_seconds_ago": round(w.seen_seconds_ago, 1)}
            for w in workers
        ],
        "running": [
            _brief(t)
            | {
                "epoch": len(t.metrics),
                "worker": t.worker,
                "interrupted": t.interrupted,
                "attempts": attempts(t),
                "interruptions": [words.reason(one.reason) for one in t.interruptions],
            }
            for t in running(trials)
        ],
    }


def status_table(
    trials: Sequence[Trial],
    spec: StudySpec,
    budget: BudgetSpec,
    workers: Sequence[WorkerRow] = (),
    stopped: str | None = None,
    crowded: str | None = None,
    refused: Sequence[Refused] = (),
    swept_seconds: float = 0.0,
    confirmation: Confirmation | None = None,
    converged: str = "",
    known: Sequence[SourceRow] = (),
) -> Table:
    """Return the state of a study for people; the arguments are those of ``status_json``."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    about = f"{study_words.trained(spec)}, {counted(spec.epochs, 'epoch')} a trial"
    grid.add_row("study", Text(f"{spec.name}: {about}"))
    grid.add_row("objective", f"{spec.metric.best_words} on the validation images after the last epoch")
    grid.add_row("budget", _budget(trials, budget, swept_seconds))
    name = shlex.quote(spec.name)
    if stopped == ENOUGH:
        grid.add_row("stopped", Text(f"the search {converged}; `lrsearch extend {name}` goes on"))
    elif stopped is not None:
        how = "its trials under way are kept and released" if stopped == "now" else "its trials under way are finished"
        grid.add_row("stopped", Text(f"{how}; `lrsearch run {name}` or `lrsearch extend {name}` goes on"))
    grid.add_row("trials", counts_words(_counts(trials, refused), sum(t.interrupted for t in trials)))
    winner = best(trials, spec.metric.direction)
    if winner is None or winner.outcome is None:
        grid.add_row("best", "no complete trial yet")
    else:
        value = words.objective_value(winner.outcome.value, spec)
        grid.add_row("best", f"{value}, trial {winner.number}: {words.setting(winner.config)}")
    if confirmation is not None:
        grid.add_row("confirmed" if confirmation.is_decided else "confirming", _confirmed(confirmation))
    rate = trials_per_minute(trials)
    grid.add_row("rate", words.NOTHING if rate is None else f"{rate:.3g} trials a minute (the last {RECENT})")
    grid.add_row("devices", Text(_listed(Counter(t.device for t in trials if t.device))))
    across = compared_across(trials)
    if across:
        grid.add_row("caution", Text(f"results are compared across {'; and '.join(across)}"))
    if crowded is not None:
        grid.add_row("cores", Text(f"{crowded}: they wait for each other; start fewer, or leave --threads out"))
    grid.add_row("origin", Text(_listed(Counter(t.origin for t in trials))))
    if known:
        grid.add_row("known", Text(known_words.whence(known)))
    past = interruptions(trials)
    if past:
        said = ", ".join(f"{words.reason(reason)} {n}" for reason, n in past.most_common())
        grid.add_row("interruptions", f"{said} (the trials go on from their checkpoints)")
    for one in refused:
        grid.add_row("refused", Text(f"trial {one.number}: {one.message}"))
    for worker in workers:
        does = "waits" if worker.number is None else f"trial {worker.number}"
        seen = words.duration(max(0.0, worker.seen_seconds_ago))
        grid.add_row("worker", Text(f"{worker.name}, {worker.device}, {does}, seen {seen} ago"))
    for trial in running(trials):
        at = f"epoch {len(trial.metrics)}/{trial.config.epochs}"
        what, where = (
            ("interrupted", "the next worker goes on with it") if trial.interrupted else ("running", trial.worker)
        )
        tries = attempts(trial)
        more = f", attempt {tries}" if tries > 1 and not trial.interrupted else ""
        grid.add_row(what, Text(f"trial {trial.number}: {words.setting(trial.config)}, {at}{more}, {where}"))
    return grid


def is_over(
    trials: Sequence[Trial],
    budget: BudgetSpec,
    workers: Collection[WorkerRow],
    stopped: str | None,
    swept_seconds: float = 0.0,
) -> bool:
    """Whether nothing more will come, unless the budget is raised: what a watcher waits for."""
    if budget.trials is not None and sum(t.state.counts for t in trials) >= budget.trials:
        return True
    if any(t.state == State.RUNNING and not t.interrupted for t in trials):
        return False
    if any(w.number is not None for w in workers):
        return False
    if stopped is not None or sum(_is_failure(t) for t in trials) > budget.max_failures:
        return True
    if budget.hours is not None and trained_seconds(trials, swept_seconds) >= 3600 * budget.hours:
        return True
    total = budget.epochs(trials[0].config.epochs) if trials else None
    # A strategy that pauses tells what stands still at the end; what is left may be too little for a step.
    settled = any(t.outcome is not None and t.outcome.reason == Reason.PAUSED for t in trials)
    return total is not None and (trained_epochs(trials) >= total or settled)


def compared_across(trials: Sequence[Trial]) -> list[str]:
    """Return in words the devices and versions on which trials were trained, where they are several: results differ.

    Empty where all were trained alike.
    """
    out = []
    devices = {t.device for t in trials if t.device and t.metrics}
    devices |= {one.device for t in trials for one in t.interruptions if one.device and one.step}
    versions = {t.versions for t in trials if t.versions and t.metrics}
    for names, kind in ((devices, "devices"), (versions, "versions")):
        if len(names) > 1:
            out.append(f"{len(names)} {kind}: {' | '.join(sorted(names))}")
    return out


def interruptions(trials: Sequence[Trial]) -> Counter[Reason]:
    """Return how often attempts at trials were interrupted, by reason."""
    return Counter(one.reason for t in trials for one in t.interruptions)


def without_volatile(document: Any) -> Any:
    """Return a JSON document without what changes while nothing happens."""
    if isinstance(document, dict):
        return {key: without_volatile(value) for key, value in document.items() if key not in VOLATILE}
    return [without_volatile(value) for value in document] if isinstance(document, list) else document


def trained_seconds(trials: Sequence[Trial], swept_seconds: float = 0.0) -> float:
    """Return the training time of all trials and range tests together, which a budget in hours limits."""
    return swept_seconds + sum(row.seconds for trial in trials for row in trial.metrics)


def trained_epochs(trials: Sequence[Trial]) -> int:
    """Return the epochs of all trials together, those left out that a trial has of another one."""
    return sum(len(trial.metrics) - trial.shared_epochs for trial in trials)


def trainings_words(budget: BudgetSpec, trained: int, epochs: int) -> str:
    """Return how much of a budget of trainings is used: ``3.2 of 8 trainings' epochs``."""
    return f"{trained / epochs:.4g} of {budget.trainings:g} trainings' epochs"


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


def counts_words(counts: Counter[State], interrupted: int = 0) -> str:
    """Return ``14 complete, 36 pruned, 0 diverged``, and failed, running and interrupted ones where there are any.

    Args:
        counts: trials by state.
        interrupted: how many of the running ones nobody works on now.
    """
    shown = (State.COMPLETE, State.PRUNED, State.DIVERGED)
    more = {"failed": counts[State.FAILED], "running": counts[State.RUNNING] - interrupted, "interrupted": interrupted}
    return ", ".join([*(f"{counts[s]} {s}" for s in shown), *(f"{n} {name}" for name, n in more.items() if n)])


def _counts(trials: Sequence[Trial], refused: Sequence[Refused]) -> Counter[State]:
    return Counter([*(t.state for t in trials), *(State.FAILED for _ in refused)])


def _budget(trials: Sequence[Trial], budget: BudgetSpec, swept_seconds: float) -> str:
    parts = []
    if budget.trials is not None:
        parts.append(f"{sum(t.state.counts for t in trials)} of {counted(budget.trials, 'trial')} finished")
    if budget.hours is not None:
        used = trained_seconds(trials, swept_seconds)
        parts.append(f"{words.duration(used)} of {words.duration(3600 * budget.hours)} trained")
    if budget.trainings is not None and trials:
        parts.append(trainings_words(budget, trained_epochs(trials), trials[0].config.epochs))
    failed = sum(_is_failure(t) for t in trials)
    return ", ".join([*parts, f"{failed} failed of at most {budget.max_failures}"])


def _brief(trial: Trial) -> dict[str, Any]:
    value = trial.outcome.value if trial.outcome else None
    return {"number": trial.number, "value": plain(value), "setting": words.setting(trial.config)}


def _is_failure(trial: Trial) -> bool:
    """Whether it counts towards ``max_failures``: a setting that a person enqueued outside the space does not."""
    return trial.outcome is not None and trial.state == State.FAILED and trial.outcome.reason != Reason.NOT_IN_SPACE


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in counts.most_common()) or words.NOTHING


def _confirmed(found: Confirmation) -> str:
    """Say how far a confirmation is."""
    done = f"{counted(found.n_trainings, 'training')} with fresh seeds"
    if found.is_decided:
        winner = None if found.winner is None else found.settings[found.winner].trial
        who = "your own setting" if winner is None else f"trial {winner}"
        return f"{done}: {who} is the best (`lrsearch confirm` says how surely)"
    n = sum(one.in_race for one in found.settings)
    return f"{done}, {n} of {counted(len(found.settings), 'setting')} may still be the best"

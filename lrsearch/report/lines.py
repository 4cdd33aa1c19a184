"""An event in one line, for a log or a terminal that is none."""

import math
from typing import assert_never

from lrsearch.events import (
    EpochDone,
    Event,
    SearchEnded,
    TrialEnded,
    TrialInterrupted,
    TrialStarted,
    Waiting,
    WorkerReplaced,
)
from lrsearch.report.branches import is_branch
from lrsearch.report.words import objective_value, rate, setting
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Outcome, State

MARKS: dict[State, str] = {
    State.RUNNING: ".",
    State.COMPLETE: "<",
    State.PRUNED: "x",
    State.DIVERGED: "!",
    State.FAILED: "?",
}


def line(event: Event, elapsed_seconds: float, spec: StudySpec) -> str:
    """Return the event as one line that starts with the seconds since the run began.

    ``>`` a trial starts, ``.`` an epoch, ``<`` complete, ``x`` pruned, ``!`` diverged, ``?`` failed, ``~`` interrupted,
    ``=`` the end.
    """
    return f"{elapsed_seconds:.1f}s {words_of(event, spec)}"


def words_of(event: Event, spec: StudySpec) -> str:
    """Return the event as a line has it, without the time."""
    match event:
        case TrialStarted(trial=trial, resumed=resumed, why=why):
            notes = [trial.origin] if trial.origin != "sampler" else []
            notes += ["resumed"] if resumed else []
            notes += [f"goes on from trial {trial.parent} at epoch {trial.shared_epochs}"] if is_branch(trial) else []
            notes += [why] if why else []
            said = f" ({', '.join(notes)})" if notes else ""
            return f"> trial {trial.number} {setting(trial.config)}{said}"
        case EpochDone(number=trial_number, metrics=row, again=again):
            name = {"accuracy": "acc"}.get(spec.metric.name, spec.metric.name)
            score = f"val_{name}={objective_value(spec.metric.of(row), spec)}"
            once_more = " again" if again else ""
            return f". {trial_number} epoch {row.epoch}/{spec.epochs}{once_more} {score} lr={rate(row.lr)}"
        case TrialEnded(number=trial_number, outcome=outcome):
            return f"{MARKS[outcome.state]} {trial_number} {ending(outcome, spec)}"
        case TrialInterrupted(number=trial_number, reason=reason, message=message):
            return f"~ {trial_number} {reason.value.replace('_', ' ')}: {message}; it goes on later"
        case Waiting(message=message):
            return f"= waiting: {message}"
        case WorkerReplaced(message=message):
            return f"~ {message}"
        case SearchEnded(message=message):
            return f"= ended: {message}"
        case _:
            assert_never(event)


def ending(outcome: Outcome, spec: StudySpec) -> str:
    """Return how a trial ended, with the numbers: ``complete 0.941``, ``pruned at epoch 2: ...``, ``failed: ...``."""
    match outcome.state:
        case State.COMPLETE:
            value = math.nan if outcome.value is None else outcome.value
            return f"complete {objective_value(value, spec)}"
        case State.FAILED:
            kind = "out of memory: " if outcome.reason == "out_of_memory" else ""
            return f"failed: {kind}{outcome.message}"
        case State.PRUNED | State.DIVERGED | State.RUNNING:
            return outcome.message or outcome.state.value
        case _:
            assert_never(outcome.state)

"""An event as the typed fields of a line of JSON."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, assert_never

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
from lrsearch.report import lines, plain
from lrsearch.spec.study import StudySpec
from lrsearch.trial import State


def fields(event: Event, elapsed_seconds: float, spec: StudySpec, worker: str | None) -> Mapping[str, Any]:
    """Return what an event says; every kind of event always has the same keys.

    Args:
        event: what was said.
        elapsed_seconds: since the command began.
        spec: of its study.
        worker: who said it, ``host:pid``, where that is known.
    """
    about = {"event": _kind(event), "study": spec.name, "worker": worker, "elapsed_seconds": round(elapsed_seconds, 3)}
    return {"message": lines.words_of(event, spec), **about, **_own(event, spec)}


def level(event: Event) -> int:
    """Return how much an event matters, as ``logging`` has it: a trial that failed and a worker that died are news."""
    match event:
        case TrialEnded(outcome=outcome) if outcome.state == State.FAILED:
            return logging.WARNING
        case WorkerReplaced():
            return logging.WARNING
        case _:
            return logging.INFO


def trial_of(event: Event) -> int | None:
    """Return the number of the trial that an event is about, or None."""
    match event:
        case TrialStarted(trial=trial):
            return trial.number
        case EpochDone(number=number) | TrialEnded(number=number) | TrialInterrupted(number=number):
            return number
        case _:
            return None


def _kind(event: Event) -> str:
    match event:
        case TrialStarted():
            return "trial_started"
        case EpochDone():
            return "epoch_done"
        case TrialEnded():
            return "trial_ended"
        case TrialInterrupted():
            return "trial_interrupted"
        case Waiting():
            return "waiting"
        case WorkerReplaced():
            return "worker_replaced"
        case SearchEnded():
            return "search_ended"
        case _:
            assert_never(event)


def _own(event: Event, spec: StudySpec) -> dict[str, Any]:
    match event:
        case TrialStarted(trial=trial, resumed=resumed, why=why):
            own: dict[str, Any] = {"trial": trial.number, "resumed": resumed, "origin": trial.origin}
            own |= {"epochs": spec.epochs, "epochs_accepted": len(trial.metrics)}
            own |= {"parent": trial.parent, "shared_epochs": trial.shared_epochs} if trial.shared_epochs else {}
            own |= {"why": why} if why else {}
            own |= {"params": trial.params, "device": trial.device, "versions": trial.versions}
            return own
        case EpochDone(number=number, metrics=metrics, again=again):
            own = {"trial": number, "epoch": metrics.epoch, "epochs": spec.epochs, "again": again}
            return own | {"rung_score": None if again else metrics.rung_score, "metrics": plain.epoch(metrics)}
        case TrialEnded(number=number, outcome=outcome):
            own = asdict(outcome)
            return {
                "trial": number,
                "state": own.pop("state"),
                "reason": own.pop("reason"),
                "why": own.pop("message"),
            } | own
        case TrialInterrupted(number=number, reason=reason, message=message):
            return {"trial": number, "reason": reason, "why": message}
        case SearchEnded(reason=reason, message=message):
            return {"reason": reason, "why": message}
        case Waiting(message=message) | WorkerReplaced(message=message):
            return {"why": message}
        case _:
            assert_never(event)

"""Trials written by hand: what the tests of analysis and report look at."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lrsearch.schedules import comparable_from
from lrsearch.spec.study import StudySpec
from lrsearch.trial import (
    EpochMetrics,
    Interruption,
    OptimizerConfig,
    OptimizerName,
    Outcome,
    Reason,
    ScheduleConfig,
    State,
    Trial,
    TrialConfig,
)

EPOCHS = 10
STEPS = 25
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

REASONS = {
    State.COMPLETE: Reason.FINISHED,
    State.PRUNED: Reason.RUNG,
    State.DIVERGED: Reason.NOT_FINITE,
    State.FAILED: Reason.CRASH,
}


def spec(**tables: Any) -> StudySpec:
    """Return the digits study with some tables replaced: 800 training and 200 validation images."""
    return StudySpec.model_validate({"name": "by-hand", "epochs": EPOCHS, **tables})


def epoch(
    number: int,
    train: float = 0.5,
    val: float = 0.6,
    accuracy: float = 0.8,
    lr: float = 0.1,
    averaged: float | None = None,
    *,
    comparable: bool = True,
) -> EpochMetrics:
    score = accuracy if averaged is None else averaged
    return EpochMetrics(number, number * STEPS, lr, train, val, accuracy, None, averaged, 0.1, score, comparable)


def config(
    lr: float = 0.1,
    optimizer: OptimizerName = "sgd",
    schedule: ScheduleConfig | None = None,
    epochs: int = EPOCHS,
    batch_size: int = 32,
) -> TrialConfig:
    settings: dict[str, Any] = {"momentum": 0.9} if optimizer == "sgd" else {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    shape = schedule or ScheduleConfig("constant")
    return TrialConfig(OptimizerConfig(optimizer, lr, 5e-4, **settings), shape, batch_size, epochs, 0)


def trial(
    number: int,
    state: State = State.COMPLETE,
    accuracy: float | Sequence[float] = 0.9,
    *,
    lr: float = 0.1,
    optimizer: OptimizerName = "sgd",
    schedule: ScheduleConfig | None = None,
    val_loss: float = 0.3,
    message: str = "",
    averaged: float | None = None,
) -> Trial:
    """Return a trial whose last epoch has ``accuracy``; a sequence gives that of every epoch from the first."""
    scores = [accuracy] * EPOCHS if isinstance(accuracy, float) else list(accuracy)
    if state == State.DIVERGED and isinstance(accuracy, float):
        scores = []
    first = comparable_from(schedule or ScheduleConfig("constant"), EPOCHS)
    rows = tuple(
        epoch(i, accuracy=score, val=val_loss, lr=lr, averaged=averaged, comparable=i >= first)
        for i, score in enumerate(scores, 1)
    )
    value = scores[-1] if state in (State.COMPLETE, State.PRUNED) else None
    outcome = None
    if state != State.RUNNING:
        step, at = (41, lr) if state == State.DIVERGED else (None, None)
        outcome = Outcome(state, REASONS[state], value, len(rows), step, at, message or f"{state} by hand")
    begun = START + timedelta(seconds=10 * number)
    return Trial(
        number,
        # Each a piece of evidence of its own: a setting that was trained twice with one seed is one.
        replace(config(lr, optimizer, schedule), seed=number),
        state,
        outcome,
        rows,
        worker="here:1",
        device="cpu (1 thread)",
        versions="lrsearch 0.1.0",
        started_at=begun,
        ended_at=None if outcome is None else begun + timedelta(seconds=4),
        params={"peak_lr_sgd": lr},
    )


def interrupted(made: Trial, *reasons: Reason, step: int = 0) -> Trial:
    """Return the trial as one that was interrupted so often before, each time on another worker."""
    past = [
        Interruption(
            attempt,
            reason,
            f"there:{attempt}",
            "cuda:0",
            step // STEPS,
            step,
            f"its worker was [{reason.value.replace('_', ' ')}]",
            START + timedelta(seconds=attempt),
        )
        for attempt, reason in enumerate(reasons, 1)
    ]
    return replace(made, interruptions=tuple(past))


def of_loss(made: Trial, loss: float) -> Trial:
    """Return the trial as one of a study whose objective is the loss."""
    assert made.outcome is not None
    rows = tuple(replace(row, val_loss=loss, rung_score=loss) for row in made.metrics)
    return replace(made, metrics=rows, outcome=replace(made.outcome, value=loss))

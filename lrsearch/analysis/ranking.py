"""Which trial is the best: a pure function of the trials."""

import math
from collections.abc import Iterable

from lrsearch.trial import Role, State, Trial, TrialConfig


def once(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials; of those that finished with one setting and seed only the first complete one, or the first.

    A training repeats bit for bit, so that a repetition is no second piece of evidence.
    """
    every, kept = list(trials), dict[TrialConfig, Trial]()
    for trial in every:
        if trial.state.counts:
            first = kept.setdefault(trial.config, trial)
            if trial.state == State.COMPLETE != first.state:
                kept[trial.config] = trial
    return [trial for trial in every if not trial.state.counts or kept[trial.config] is trial]


def ranked(trials: Iterable[Trial], direction: str) -> list[Trial]:
    """Return the complete trials of the search, best first; equal values: the lower validation loss, then the earlier.

    A training with a fresh seed is none of them: it confirms what the search has found.
    """
    sign = -1.0 if direction == "maximize" else 1.0
    complete = [
        t
        for t in trials
        if t.role == Role.SEARCH and t.state == State.COMPLETE and t.outcome is not None and t.outcome.value is not None
    ]
    return sorted(complete, key=lambda t: (sign * _value(t), last_val_loss(t), t.number))


def best(trials: Iterable[Trial], direction: str) -> Trial | None:
    """Return the best complete trial, or None where none is complete."""
    return next(iter(ranked(trials, direction)), None)


def last_val_loss(trial: Trial) -> float:
    """Return the validation loss after the last epoch [nats/example]; infinite where there is none."""
    loss = trial.metrics[-1].val_loss if trial.metrics else math.inf
    return loss if math.isfinite(loss) else math.inf


def _value(trial: Trial) -> float:
    assert trial.outcome is not None
    assert trial.outcome.value is not None
    return trial.outcome.value

"""What was wrong with one training, in words that a person acts on, and the learning rate to try next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from lrsearch.analysis.bouncing import EXPLODED_AT_FIRST, TINY, Scale, bounce
from lrsearch.schedules import comparable_from
from lrsearch.spec.bounds import HIGHEST, LOWEST
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import EpochMetrics, Reason, State, Trial

FEWEST = 3
"""Epochs below which a loss that falls is not judged."""
SETTLED = 0.02
"""Part of the loss of a guess below which a training loss has settled, whatever it did before."""
LITTLE = 0.8
"""Part of the loss of a guess above which a training loss has learned too little to be called healthy."""
APART = 1.1
"""Times the training loss above which the validation loss lies apart from it. Of a rate that is too low it lies below:
it is measured at the end of an epoch, the other on the way."""
RISE = 0.10
"""Part by which the validation loss has risen above its lowest where a training overfits."""
SLOW = 0.25
"""Part of all that the training loss fell which it fell in the second half of the learning, where it is too slow."""
SLOW_SO_FAR = 0.4
"""Likewise of one that has not come to its last epoch: it had more to come."""
LEARNED = 0.15
"""Part of the loss of a guess below which a training loss is not called too high."""
STILL = 0.05
"""Part by which the training loss falls over the last part of the epochs, at most, where it stands still."""
STILL_OF_ALL = 0.02
"""Likewise, of all that it fell: what has hardly begun to fall falls by small parts of itself."""
LAST = 0.4
"""That last part."""
ANNEALED = 0.3
"""Part of the peak below which a learning rate is called annealed."""
UNMOVED = 0.02
"""Part of the loss of a guess that a loss has to move to be called moved."""


class Condition(StrEnum):
    """How a training went."""

    DIVERGED = "diverged"
    UNSTABLE = "unstable"
    """Its loss bounces."""
    TOO_SLOW = "too slow"
    """Its loss was still falling, from far above, after its last epoch."""
    PLATEAUED = "plateaued"
    """Its loss stands still before it is low."""
    OVERFITTING = "overfitting"
    """Its validation loss rises while its training loss falls."""
    AT_CHANCE = "stuck at chance"
    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    """Too few epochs to say, or none of the numbers that it takes."""


@dataclass(frozen=True, slots=True)
class TrialDiagnosis:
    """One training, judged by its epochs."""

    condition: Condition
    sentence: str
    """What was seen, and what to do."""
    next_lr: float | None
    """The peak learning rate to try next, that of the trial where it is not to blame; None where nothing is known."""


def diagnose_trial(trial: Trial, spec: StudySpec) -> TrialDiagnosis:
    """Return how a trial went; a running one as it stands."""
    reason = None if trial.outcome is None else trial.outcome.reason
    if reason == Reason.OVERFLOWING:
        said = "Gradients left the range of fp16, which says nothing of the learning rate: train in bf16 or fp32."
        return TrialDiagnosis(Condition.UNKNOWN, said, None)
    rows = trial.metrics
    if trial.state == State.DIVERGED or any(math.isinf(row.train_loss) for row in rows):
        return _diverged(trial)
    told = [row for row in rows if math.isfinite(row.train_loss) and math.isfinite(row.val_loss)]
    if not told or len(told) < len(rows):
        return _unknown("no epoch was completed" if not rows else "it tells no losses, or not of every epoch")
    if min(min(row.train_loss, row.val_loss) for row in told) < 0:
        return _unknown("its losses fall below 0, so that nobody knows how low a loss is")
    return _judged(_course(trial, told, spec), mixed=spec.augment is not None and bool(spec.augment.of_the_loss))


def _unknown(why: str) -> TrialDiagnosis:
    return TrialDiagnosis(Condition.UNKNOWN, f"Nothing can be said: {why}.", None)


def _course(trial: Trial, rows: Sequence[EpochMetrics], spec: StudySpec) -> "_Course":
    counts, n_classes = spec.facts.validation_counts, len(spec.facts.classes)
    chance = max(counts) / sum(counts) if counts and sum(counts) else 1 / n_classes if n_classes else 0.0
    if n_classes > 1 and spec.model.loss is None:
        return _Course(trial, rows, Scale(math.log(n_classes), "a guess's"), chance)
    return _Course(trial, rows, Scale(rows[0].train_loss, "that of the first epoch"), chance, of_known_scale=False)


def _judged(seen: "_Course", *, mixed: bool) -> TrialDiagnosis:
    """Return how a course went; ``mixed``: images have more than one class, so that no training loss is low."""
    early = _early(seen)
    found = (None if early else _at_chance(seen)) or _unstable(seen) or _overfitting(seen)
    if found is not None:
        return found
    if early:
        return _too_early(seen)
    plain = seen
    if mixed:
        of_one_class = [replace(row, train_loss=row.val_loss) for row in seen.rows]
        plain = replace(seen, rows=of_one_class, name="validation loss")
    found = (None if mixed else _plateaued(seen)) or _too_slow(plain)
    if found is None and len(seen.rows) < FEWEST:
        return _too_early(seen)
    if found is None and plain.last.train_loss > LITTLE * seen.guess:
        found = _too_little(plain)
    if found is not None and not seen.of_known_scale:
        return _unknown("its loss does not bounce, and nobody knows how low one of its kind can fall")
    if found is None and mixed and _bouncing(plain.rows, plain) is not None:
        return _unknown("its validation loss bounces, and a training loss of images with several classes does not")
    return found or _healthy(seen)


def _early(seen: "_Course") -> bool:
    """Whether the learning rate of a training that goes on has not come to its peak."""
    config = seen.trial.config
    return seen.trial.state == State.RUNNING and len(seen.rows) < comparable_from(config.schedule, config.epochs)


def _too_early(seen: "_Course") -> TrialDiagnosis:
    said = f"Too early to say: {len(seen.rows)} of {counted(seen.trial.config.epochs, 'epoch')}."
    return TrialDiagnosis(Condition.UNKNOWN, said, None)


def _healthy(seen: "_Course") -> TrialDiagnosis:
    best = min(seen.rows, key=lambda row: row.val_loss)
    how = "without bouncing" if _bouncing(seen.rows, seen) is None else "and settled after it had bounced"
    said = f"Healthy: the validation loss fell to {best.val_loss:.3g} {how}; keep lr {_lr(seen.peak)}."
    return TrialDiagnosis(Condition.HEALTHY, said, seen.peak)


@dataclass(frozen=True, slots=True)
class _Course:
    trial: Trial
    rows: Sequence[EpochMetrics]
    scale: Scale
    chance: float
    """The accuracy of a guess [0..1]; 0: nobody knows."""
    of_known_scale: bool = True
    """Whether it is known what a guess comes to: not of a person's own loss, nor in a loop of theirs."""
    name: str = "training loss"
    """What ``train_loss`` of the rows is."""

    @property
    def guess(self) -> float:
        return self.scale.guess

    @property
    def peak(self) -> float:
        return self.trial.config.optimizer.peak_lr

    @property
    def last(self) -> EpochMetrics:
        return self.rows[-1]


def _diverged(trial: Trial) -> TrialDiagnosis:
    peak, outcome, rows = trial.config.optimizer.peak_lr, trial.outcome, trial.metrics
    step = None if outcome is None else outcome.step
    # The watch may say so epochs later, of an update long before.
    at_once = len(rows) < 2 or (step is not None and step < rows[0].step)
    begun = outcome.lr if outcome is not None and outcome.lr else peak
    rate = _clipped(min(peak, begun) / (10 if at_once else 3))
    where = "" if step is None else f" at step {step}, lr {_lr(begun)}"
    said = f"Diverged{where}: the learning rate is too high; try lr {_lr(rate)}."
    return TrialDiagnosis(Condition.DIVERGED, said, rate)


def _at_chance(seen: _Course) -> TrialDiagnosis | None:
    rows, chance, guess = seen.rows, seen.chance, seen.guess
    accuracies = [row.val_accuracy for row in rows]
    if not chance or not math.isfinite(accuracies[-1]) or accuracies[-1] > _hardly_above(chance):
        return None
    said = f"Stuck at chance (accuracy {accuracies[-1]:.3g}, a guess has {chance:.3g})"
    lost = max(accuracies) > 2 * _hardly_above(chance)
    exploded = max(row.train_loss for row in rows) > 1.15 * guess and rows[-1].train_loss < 3 * guess
    # Within its only epoch a loss has moved from the mean of that epoch to what is measured at its end.
    moved = rows[0].train_loss - (rows[-1].train_loss if len(rows) > 1 else rows[-1].val_loss)
    if lost or (exploded and abs(moved) > UNMOVED * guess):
        rate = _clipped(seen.peak / 10)
        why = "what was learned was lost" if lost else f"its loss rose to {max(r.train_loss for r in rows):.3g} first"
        return TrialDiagnosis(
            Condition.AT_CHANCE, f"{said}: {why}, so that the learning rate is too high; try lr {_lr(rate)}.", rate
        )
    if abs(moved) > 2 * UNMOVED * guess:
        return None  # it moves, and is judged by how fast
    rate = _clipped(seen.peak * 100)
    why = f"the loss has not moved from {rows[0].train_loss:.3g} in {counted(len(rows), 'epoch')}"
    return TrialDiagnosis(
        Condition.AT_CHANCE, f"{said}: {why}, so that the learning rate is too low; try lr {_lr(rate)}.", rate
    )


def _hardly_above(chance: float) -> float:
    """Return the accuracy up to which a training is at chance: half as much again, and half-way to 1 at most."""
    return min(1.5 * chance, (1 + chance) / 2)


def _unstable(seen: _Course) -> TrialDiagnosis | None:
    # A training that has settled at the end may have bounced before: only what it did of late counts.
    settled = seen.last.train_loss < SETTLED * seen.guess
    return _bouncing(seen.rows[len(seen.rows) // 2 :] if settled else seen.rows, seen)


def _bouncing(rows: Sequence[EpochMetrics], seen: _Course) -> TrialDiagnosis | None:
    found = bounce(rows, seen.scale)
    return None if found is None else _too_high(seen, found.what, found.times)


def _too_high(seen: _Course, what: str, times: float) -> TrialDiagnosis:
    rate = _clipped(seen.peak / times)
    return TrialDiagnosis(
        Condition.UNSTABLE, f"Unstable: {what}; the learning rate is too high, try lr {_lr(rate)}.", rate
    )


def _overfitting(seen: _Course) -> TrialDiagnosis | None:
    rows = seen.rows
    lowest = min(range(len(rows)), key=lambda i: rows[i].val_loss)
    low, last = rows[lowest], seen.last
    since = len(rows) - 1 - lowest
    if since < 2 or last.val_loss <= (1 + RISE) * low.val_loss or last.train_loss >= low.train_loss:
        return None
    if last.val_loss <= 1.5 * last.train_loss:
        return None
    if lowest == 0:
        return _bouncing(rows, seen)  # nothing is learned too well in one epoch
    what = f"the validation loss rose from {low.val_loss:.2g} in epoch {low.epoch} to {last.val_loss:.2g}"
    do = f"train for {counted(low.epoch, 'epoch')}, or with more weight decay, augmentation or images"
    said = (
        f"Overfitting: {what}, while the training loss fell to {last.train_loss:.2g}; {do}. The learning rate is not "
        f"to blame: keep {_lr(seen.peak)}."
    )
    return TrialDiagnosis(Condition.OVERFITTING, said, seen.peak)


def _too_slow(seen: _Course) -> TrialDiagnosis | None:
    rows = seen.rows
    if len(rows) < FEWEST or seen.last.train_loss < LEARNED * seen.guess:
        return None
    # What was learned is held against the area under the learning rate, which is how far a small rate could go.
    rates = np.array([row.lr for row in rows])
    area = np.cumsum((rates + np.concatenate(([rates[0]], rates[:-1]))) / 2)
    losses = [row.train_loss for row in rows]
    begin = max(seen.guess, losses[0])
    half = float(np.interp(area[-1] / 2, np.concatenate(([0.0], area)), [begin, *losses]))
    fell, late = begin - losses[-1], half - losses[-1]
    if fell <= 0 or late < (SLOW if len(rows) >= seen.trial.config.epochs else SLOW_SO_FAR) * fell:
        return None
    begun, after = rows[: max(len(rows) // 2, 1)], counted(len(rows), "epoch")
    apart = math.exp(float(np.mean([math.log(max(row.val_loss, TINY) / max(row.train_loss, TINY)) for row in begun])))
    if apart > APART:
        what = (
            f"the {seen.name} was still at {losses[-1]:.3g} after {after}, and the validation loss {apart:.2g} times "
            "as high from the start: the steps are too large, not too small"
        )
        return _too_high(seen, what, 3)
    rate = _clipped(seen.peak * (10 if late > SLOW_SO_FAR * fell else 3))
    said = (
        f"Too slow: the {seen.name} was still falling after {after}, at {losses[-1]:.3g} (a guess has "
        f"{seen.guess:.3g}); the learning rate is too low, try lr {_lr(rate)}."
    )
    return TrialDiagnosis(Condition.TOO_SLOW, said, rate)


def _plateaued(seen: _Course) -> TrialDiagnosis | None:
    rows = seen.rows
    n = math.ceil(LAST * len(rows))
    if n < FEWEST or seen.last.train_loss < 0.02 * seen.guess:
        return None
    tail = rows[-n:]
    half = n // 2
    early = float(np.mean([row.train_loss for row in tail[:half]]))
    late = float(np.mean([row.train_loss for row in tail[-half:]]))
    all_of_it = max(seen.guess, rows[0].train_loss) - late
    if early - late > min(STILL * early, STILL_OF_ALL * all_of_it):
        return None
    if min(row.val_loss for row in tail) < (1 - STILL) * min(row.val_loss for row in rows[:-n]):
        return None
    what = f"the training loss has stood at {late:.3g} for {counted(n, 'epoch')}"
    if tail[0].lr < ANNEALED * seen.peak:
        rate = _clipped(seen.peak * 3)
        do = f"the learning rate was small too early: let it fall later, or try lr {_lr(rate)}"
    elif seen.last.lr < ANNEALED * seen.peak:
        rate = _clipped(seen.peak / 3)
        do = f"it was too high before it fell: try lr {_lr(rate)}"
    else:
        rate = _clipped(seen.peak / 3)
        do = f"the learning rate keeps it there: let it fall (cosine, step), or try lr {_lr(rate)}"
    return TrialDiagnosis(Condition.PLATEAUED, f"Plateaued: {what}; {do}.", rate)


def _too_little(seen: _Course) -> TrialDiagnosis:
    """Tell, of a training that has hardly learned anything, whether its steps were too large or too small."""
    worst, last = max(max(row.train_loss, row.val_loss) for row in seen.rows), seen.last
    after = counted(len(seen.rows), "epoch")
    what = f"the {seen.name} is {last.train_loss:.3g} after {after} (a guess has {seen.guess:.3g})"
    if worst > EXPLODED_AT_FIRST * seen.guess:
        return _too_high(seen, f"{what}, and was {worst:.3g} before", 10)
    rate = _clipped(seen.peak * 10)
    said = f"Too slow: {what}; the learning rate is too low, try lr {_lr(rate)}."
    return TrialDiagnosis(Condition.TOO_SLOW, said, rate)


def _clipped(rate: float) -> float:
    return float(min(max(rate, LOWEST), HIGHEST))


def _lr(rate: float) -> str:
    return f"{rate:.3g}"

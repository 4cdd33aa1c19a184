"""The training trace in words: one observation an epoch, each derived from that epoch's numbers."""

import math
from dataclasses import dataclass
from itertools import pairwise

from lrsearch import families
from lrsearch.schedules import warmup_steps
from lrsearch.trial import EpochMetrics, Reason, State, Trial

FAST = 0.30
"""Part of the training loss lost in one epoch that is called fast."""
SMALL = 0.08
"""Part of the training loss lost in one epoch, or less, that is called small steps."""
NOISE = 0.02
"""Relative change of a loss that is called no change."""
BOUNCE = 0.10
"""Relative rise of the training loss that asks for a reason."""
ANNEALED = 0.3
"""Part of the peak below which the learning rate is called annealed."""
FAR = 3.0
"""Times the loss of a guess above which nothing is being learned; the divergence watch has the same."""
MOVED = 0.05
"""Change of the accuracy [0..1] in one epoch that is said, however little the loss moved."""
DROP = 0.6
"""A learning rate below this part of the last epoch's has dropped rather than declined."""


def observe(trial: Trial, n_classes: int, *, mixed: bool = False) -> list[str]:
    """Return one observation in words per epoch of the trial's metrics.

    ``mixed``: whether training images have more than one class, so that no training loss is low.

    >>> from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig
    >>> config = TrialConfig(OptimizerConfig("sgd", 0.1), ScheduleConfig("constant"), 32, 2, 0)
    >>> rows = (EpochMetrics(1, 25, 0.1, 2.3, 2.2, 0.12, None, None, 0.1),
    ...         EpochMetrics(2, 50, 0.1, 1.9, 1.8, 0.45, None, None, 0.1))
    >>> for words in observe(Trial(0, config, State.COMPLETE, None, rows), 10): print(words)
    loss high, accuracy near chance (0.1): just started learning
    loss fell, accuracy rose; best epoch
    """
    chance = 1 / n_classes if n_classes else 0.0
    best = _best_epoch(trial.metrics, 2 * chance)
    best_words = "best epoch so far" if trial.state == State.RUNNING else "best epoch"
    # Where updates were left out it is not known what the learning rate would have done.
    blames = n_classes and (trial.outcome is None or trial.outcome.reason != Reason.OVERFLOWING)
    out = []
    for index, row in enumerate(trial.metrics):
        at = _Moment(trial, index, chance, mixed)
        words = [_judge(at) if blames else _told(at), _rate(trial, index)]
        if row.epoch == best and len(trial.metrics) > 1:
            words.append(best_words)
        out.append("; ".join(word for word in words if word))
    return out


@dataclass(frozen=True, slots=True)
class _Moment:
    """An epoch of a trial with what led to it."""

    trial: Trial
    index: int
    chance: float
    mixed: bool

    @property
    def now(self) -> EpochMetrics:
        return self.trial.metrics[self.index]

    @property
    def before(self) -> EpochMetrics:
        return self.trial.metrics[self.index - 1]

    @property
    def so_far(self) -> tuple[EpochMetrics, ...]:
        return self.trial.metrics[: self.index]

    @property
    def train_change(self) -> float:
        return _relative(self.now.train_loss, self.before.train_loss)

    @property
    def val_change(self) -> float:
        return _relative(self.now.val_loss, self.before.val_loss)

    def above_lowest(self, row: EpochMetrics) -> float:
        """Return by which part the validation loss of ``row`` lies above the lowest of the epochs so far."""
        finite = [r.val_loss for r in self.so_far if math.isfinite(r.val_loss)]
        return _relative(row.val_loss, min(finite)) if finite else 0.0


def _judge(at: _Moment) -> str:
    if not _is_number(at.now):
        return "the loss is no number any more: training broke down"
    if _came_back(at.now, at.chance):
        return _exploded(at.now, at.chance)
    if at.index == 0:
        return _first(at.now, at.chance)
    if not _is_number(at.before):
        return "the loss is a number again"
    if at.now.val_accuracy < 1.5 * at.chance:
        return _near_chance(at)
    if at.train_change > BOUNCE:
        return _rose(at)
    if at.train_change < -NOISE and at.val_change > NOISE and at.above_lowest(at.now) > NOISE:
        return _apart(at)
    return _fell(at)


def _told(at: _Moment) -> str:
    """Say how the training loss moved, of which nobody knows what it says of the learning rate."""
    if at.index == 0 or not (math.isfinite(at.now.train_loss) and math.isfinite(at.before.train_loss)):
        return ""
    change = at.train_change
    if abs(change) <= NOISE:
        return "training loss hardly moved"
    return f"training loss {'fell' if change < 0 else 'rose'} {100 * abs(change):.0f} %"


def _came_back(now: EpochMetrics, chance: float) -> bool:
    """Whether the epoch's losses were far above that of a guess in the mean, and no longer are at its end."""
    far = FAR * -math.log(chance)
    return now.train_loss > far >= now.val_loss


def _exploded(now: EpochMetrics, chance: float) -> str:
    times = now.train_loss / -math.log(chance)
    words = f"loss exploded (mean {now.train_loss:.3g}, {times:.2g} times a guess's) and came back"
    return f"{words} to chance: the learning rate is too high" if now.val_accuracy < 1.5 * chance else words


def _first(now: EpochMetrics, chance: float) -> str:
    if now.train_loss > FAR * -math.log(chance):
        return f"loss far above that of a guess ({-math.log(chance):.2g}): the learning rate is too high"
    if now.val_accuracy < 1.5 * chance:
        return f"loss high, accuracy near chance ({chance:.2g}): just started learning"
    if now.val_accuracy < 0.5:
        return f"just started learning: above chance ({chance:.2g}), loss still high"
    if now.val_accuracy < 0.85:
        return f"a good start: {now.val_accuracy / chance:.1f} times chance"
    return "a strong start: most images right after one epoch"


def _near_chance(at: _Moment) -> str:
    """Tell steps that are too small from those that destroyed what there was: the loss has been above a guess's."""
    guess = -math.log(at.chance)
    if at.before.val_accuracy > 2 * at.chance:
        return "fell back to chance: the learning rate is too high"
    worst = max(row.train_loss for row in (*at.so_far, at.now) if math.isfinite(row.train_loss))
    if worst > 1.15 * guess or any(row.val_accuracy > 2 * at.chance for row in at.so_far):
        return "still at chance: the learning rate has been too high"
    if at.now.lr > at.before.lr:
        return "still near chance: the learning rate is low yet"
    return "still near chance: the learning rate is too low"


def _rose(at: _Moment) -> str:
    rise = _rise(at.train_change)
    if at.now.lr > 1.05 * at.before.lr:
        return f"training loss rose {rise} as the learning rate rose"
    rows = at.so_far
    if any(_relative(b.train_loss, a.train_loss) > BOUNCE for a, b in pairwise(rows)):
        return f"loss bounces (rose {rise}): the learning rate is near too high"
    if at.train_change > 1:
        return f"training loss rose {rise}: the learning rate is too high"
    return f"training loss rose {rise}: the learning rate may be too high"


def _apart(at: _Moment) -> str:
    """Say what it means that validation loss rose and training loss fell: once little, twice overfitting."""
    if at.now.val_accuracy > max(row.val_accuracy for row in at.so_far):
        return f"validation loss rose {_rise(at.val_change)}, yet more images are right"
    if at.now.train_loss > at.now.val_loss:
        return f"validation loss bounced up {_rise(at.val_change)}, training loss fell"
    if at.index >= 2 and at.above_lowest(at.before) > NOISE:
        above = at.above_lowest(at.now)
        words = f"{100 * above:.0f} % above" if above < 1 else f"{1 + above:.2g} times"
        return f"overfitting: validation loss {words} its lowest, training loss falls"
    return f"validation loss rose {_rise(at.val_change)} while training loss fell: a bounce, or overfitting begins"


def _fell(at: _Moment) -> str:
    fall, gain = -at.train_change, at.now.val_accuracy - at.before.val_accuracy
    if fall <= SMALL and abs(gain) >= MOVED:
        moved = (
            f"accuracy {'rose' if gain > 0 else 'fell'} from {at.before.val_accuracy:.3f} to {at.now.val_accuracy:.3f}"
        )
        if abs(fall) <= NOISE:
            return f"{moved}, loss hardly moved"
        return f"{moved}, loss {'fell' if fall > 0 else 'rose'} {100 * abs(fall):.0f} %"
    accuracy = "rose" if gain > 0 else "unchanged" if gain == 0 else "slipped"
    if fall >= FAST:
        if gain <= 0:
            return f"training loss down {100 * fall:.0f} %, accuracy {accuracy}"
        return (
            "fast progress: training loss more than halved"
            if fall > 0.5
            else f"fast progress: loss down {100 * fall:.0f} %"
        )
    if fall > SMALL:
        return f"loss fell, accuracy {accuracy}"
    learned = at.now.val_accuracy >= 0.9 and (at.mixed or at.now.train_loss < 0.3)
    if (
        at.now.lr < ANNEALED * at.trial.config.optimizer.peak_lr
        and at.now.lr <= at.before.lr
        and not _dropped(at.trial, at.index)
    ):
        return (
            "converging nicely: small steps at a small learning rate"
            if learned
            else "little moves: learning rate annealed"
        )
    if learned:
        return "converging nicely"
    return "slow progress: loss hardly moves" if fall > NOISE or gain > 0 else "no progress: loss stands still"


def _rate(trial: Trial, index: int) -> str:
    """Say what the learning rate did, where that explains the losses."""
    rows, schedule = trial.metrics, trial.config.schedule
    now = rows[index]
    steps_per_epoch = max(now.step // now.epoch, 1)
    warm = warmup_steps(schedule, steps_per_epoch * trial.config.epochs)
    # Warm-up of less than half an epoch explains nothing of that epoch.
    if warm > now.step:
        return "warm-up under way"
    if warm > now.step - steps_per_epoch / 2:
        return "warm-up over"
    if _dropped(trial, index):
        return f"learning rate dropped to {now.lr:.2g}"
    if index and now.lr > 2 * rows[index - 1].lr and families.of(schedule).turn == "restarts":
        return "learning rate restarted"
    return ""


def _dropped(trial: Trial, index: int) -> bool:
    """Whether the learning rate fell off a step within this epoch."""
    stepped = families.of(trial.config.schedule).turn == "drops to"
    return stepped and index > 0 and trial.metrics[index].lr < DROP * trial.metrics[index - 1].lr


def _best_epoch(rows: tuple[EpochMetrics, ...], above: float) -> int | None:
    """Return the most accurate epoch, of equals that with the lower loss; None where nothing is learned."""
    learned = [row for row in rows if _is_number(row) and row.val_accuracy > above]
    return min(learned, key=lambda row: (-row.val_accuracy, row.val_loss)).epoch if learned else None


def _is_number(row: EpochMetrics) -> bool:
    return math.isfinite(row.train_loss) and math.isfinite(row.val_loss)


def _relative(now: float, before: float) -> float:
    """Return the change as a part of ``before``; 0 where that is 0."""
    return (now - before) / before if before > 0 else 0.0


def _rise(change: float) -> str:
    """Say a rise: ``28 %``, or ``to 5.4 times`` from twice on."""
    if change < 1:
        return f"{100 * change:.0f} %"
    return f"to {1 + change:.2g} times" if change < 99 else "to 100 times and more"

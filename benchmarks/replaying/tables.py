"""Recorded trainings of several learning rates as a table: what a training at any rate between them would have shown.

Between two recorded rates scores are linear in the logarithm of the rate; beyond them they are those of the last. What
diverged makes a rate diverge that is nearer to it than to what lived; a rate that is nearer to what lived shows that.
"""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrsearch.families import FAMILIES
from lrsearch.spec import file as study_file
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Facts, TrialConfig

Floats = NDArray[np.float64]

GUESS_SHARE = 0.3
"""A score below this part of the best of its training is that of a collapsed one, to which no noise is added."""
N_TRAIN, N_VALIDATION = 50_000, 10_000
"""Images of the study of a table [examples]: those of CIFAR-10, on the test images of which DeepOBS has measured."""
MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Curve:
    """What a training shows."""

    scores: tuple[float, ...]
    """After each epoch, as pruners compare them; shorter than the training where it diverges in the next epoch."""
    value: float | None
    """What the search is about, of the last epoch; None: it diverges."""
    true: float | None
    """The same without the noise that was added."""

    @property
    def n_epochs(self) -> int:
        """Epochs that it costs: one in which it diverges is paid."""
        return len(self.scores) + (self.value is None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is trained in place of a setting that was asked for."""

    config: TrialConfig
    params: Mapping[str, Any]
    """By Optuna's names."""
    curve: Curve


class Answers(Protocol):
    """The trainings of one replay."""

    def train(self, config: TrialConfig, params: Mapping[str, Any]) -> Answer | None:
        """Return the next training, as near to a setting as there is one; None: all that was recorded is used up."""
        ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is changed of what was recorded."""

    epochs: int | None = None
    """Trainings are brought to so many epochs; None: as recorded."""
    noise: float = 0.0
    """Standard deviation of an offset of each training, in the unit of its score."""
    widen: float = 0.0
    """Decades by which the range of learning rates reaches beyond what was recorded, on each side."""
    by_losses: bool = False
    """Whether a loss that was not finite makes a training diverge whose scores go on, as that of a guess do."""


class Table(Protocol):
    """Recorded trainings that answer a search."""

    name: str
    epochs: int
    """Of a training."""
    best: float
    """The value of the best setting."""
    worst: float
    """What stands where nothing is trained yet."""
    unit: float
    """By which a difference from the best is divided: 1 of accuracies, the best loss of losses."""
    is_pool: bool
    """Whether only settings that were recorded can be trained."""

    def spec(self, seed: int, more: Mapping[str, Any]) -> StudySpec:
        """Return the study of the table, ``more`` being further keys of its file."""
        ...

    def answers(self, seed: int) -> Answers:
        """Return the trainings of a replay."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """The trainings of one schedule: rates rising, `[n]`, and scores after each epoch, `[n, epochs]`.

    A score is not a number from the epoch on in which a training diverged.
    """

    log_lr: Floats
    """log10 of the learning rates."""
    scores: Floats

    def resampled(self, epochs: int) -> "Recorded":
        """Return the same trainings brought to another number of epochs: the score at each fraction of a training."""
        n = self.scores.shape[1]
        at = np.clip(np.round((np.arange(epochs) + 1) / epochs * n).astype(int) - 1, 0, None)
        return Recorded(self.log_lr, self.scores[:, at])

    def between(self, log_lr: float) -> tuple[Floats, bool]:
        """Return the scores at a rate, and whether the training diverges after the last of them."""
        x, n = self.log_lr, len(self.log_lr)
        if n == 1:
            return lived(self.scores[0])
        i = min(max(int(np.searchsorted(x, log_lr)) - 1, 0), n - 2)
        weight = min(max((log_lr - x[i]) / (x[i + 1] - x[i]), 0.0), 1.0)
        left, right = self.scores[i], self.scores[i + 1]
        near, far = (left, right) if weight < 0.5 or (weight == 0.5 and np.isnan(right[-1])) else (right, left)
        if math.isnan(far[-1]) and not math.isnan(near[-1]):
            return near, False
        mixed = (1 - weight) * left + weight * right
        return lived(np.where(np.isnan(mixed), near, mixed) if math.isnan(near[-1]) else mixed)


def lived(scores: Floats) -> tuple[Floats, bool]:
    """Return the scores before the first that is not a number, and whether there is one."""
    lost = np.flatnonzero(np.isnan(scores))
    return (scores, False) if not len(lost) else (scores[: lost[0]], True)


def noisy(scores: Floats, noise: float, seed: Sequence[int], *, share: bool) -> Floats:
    """Return the scores of a training with an offset of its own, where it has not collapsed."""
    if not noise or not len(scores):
        return scores
    offset = np.random.default_rng(seed).normal(0, noise)
    if not share:
        return scores + offset
    found: Floats = np.clip(scores + offset * (scores > GUESS_SHARE * scores.max()), 0, 1)
    return found


def seed_of(name: str, seed: int) -> int:
    """Return a seed of one table's own, from 0 to below 2^31."""
    return (zlib.crc32(name.encode()) + 7919 * seed) % 2**31


class RateTable:
    """A problem trained with one optimizer at several learning rates, by one schedule or several.

    Args:
        name: of the problem and the optimizer.
        optimizer: as the file calls it.
        batch_size: [examples].
        by_schedule: the trainings of each schedule, as the file calls it.
        maximize: whether more is better, an accuracy; otherwise scores are losses.
        conditions: what is changed.
    """

    is_pool = False

    def __init__(
        self,
        name: str,
        optimizer: str,
        batch_size: int,
        by_schedule: Mapping[str, Recorded],
        *,
        maximize: bool,
        conditions: Conditions,
    ) -> None:
        self.name, self._batch_size, self._maximize, self._conditions = name, batch_size, maximize, conditions
        self._optimizer, self._settings = optimizer_of(optimizer)
        families = families_of(list(by_schedule))
        self._recorded = {
            families[schedule]: one if conditions.epochs is None else one.resampled(conditions.epochs)
            for schedule, one in by_schedule.items()
        }
        self.epochs = next(iter(self._recorded.values())).scores.shape[1]
        ends = np.concatenate([one.scores[:, -1] for one in self._recorded.values()])
        every = np.concatenate([one.scores.ravel() for one in self._recorded.values()])
        self.best = float(np.nanmax(ends) if maximize else np.nanmin(ends))
        self.worst = 0.0 if maximize else float(np.nanmax(every))
        self.unit = 1.0 if maximize or self.best <= 0 else self.best
        lowest = float(np.nanmin(ends))
        self._n_classes = min(max(round(1 / lowest), 2), MOST_CLASSES) if maximize and lowest > 0 else 10
        self.low = 10 ** (min(one.log_lr[0] for one in self._recorded.values()) - conditions.widen)
        """The lowest learning rate of the search."""
        self.high = 10 ** (max(one.log_lr[-1] for one in self._recorded.values()) + conditions.widen)

    def spec(self, seed: int, more: Mapping[str, Any]) -> StudySpec:
        """As ``Table.spec``."""
        peak_lr = {"low": self.low, "high": self.high, "log": True}
        shapes = {name: {key: plain(f.neutral) for key, f in FAMILIES[name].fields.items()} for name in self._recorded}
        space = {
            "optimizer": {self._optimizer: {"peak_lr": peak_lr, **self._settings}},
            "schedule": shapes,
            "batch_size": self._batch_size,
            "warmup_fraction": 0.0,
            "final_fraction": 1e-3,
        }
        tables = {
            "name": re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "table",
            "epochs": self.epochs,
            "seed": seed_of(self.name, seed),
            "space": space,
            "objective": {"metric": "accuracy" if self._maximize else "loss"},
            "training": {"averaging": "off"},
            "prior": "none",
            **more,
        }
        found = study_file.build(tables, f"the table '{self.name}'")
        classes = tuple(str(i) for i in range(self._n_classes))
        return found.measured(Facts(N_TRAIN, N_VALIDATION, N_VALIDATION, (3, 32, 32), classes))

    def answers(self, seed: int) -> "RateAnswers":
        """As ``Table.answers``."""
        return RateAnswers(self, seed_of(self.name, seed))

    def curve(self, config: TrialConfig, seed: Sequence[int]) -> Curve:
        """Return what a training shows; ``seed`` is that of its noise."""
        recorded = self._recorded[config.schedule.family]
        scores, diverges = recorded.between(math.log10(config.optimizer.peak_lr))
        shown = noisy(scores, self._conditions.noise, seed, share=self._maximize).tolist()
        return Curve(tuple(shown), None if diverges else shown[-1], None if diverges else float(scores[-1]))


class RateAnswers:
    """The trainings of one replay on a table of rates: any rate can be trained, any number of times."""

    def __init__(self, table: RateTable, seed: int) -> None:
        self._table, self._seed, self._n = table, seed, 0

    def train(self, config: TrialConfig, params: Mapping[str, Any]) -> Answer:
        """As ``Answers.train``."""
        self._n += 1
        return Answer(config, params, self._table.curve(config, (self._seed, self._n, 9)))


def plain(neutral: Any) -> Any:
    """Return a neutral value as a study file has it."""
    return ",".join(map(str, neutral)) if isinstance(neutral, tuple) else neutral


def optimizer_of(name: str) -> tuple[str, dict[str, Any]]:
    """Return the optimizer of a study, with its fixed settings, that stands for one of a file of recorded runs.

    >>> optimizer_of("momentum0.99")
    ('sgd', {'momentum': 0.99})
    >>> optimizer_of("AdamW"), optimizer_of("sgd"), optimizer_of("lamb")
    (('adamw', {}), ('sgd', {'momentum': 0.0}), ('adamw', {}))
    """
    low = name.lower()
    for known in ("adamw", "adam", "rmsprop"):
        if known in low:
            return known, {}
    if "sgd" in low or "momentum" in low or "nesterov" in low:
        digits = re.search(r"(0?\.\d+)", low)
        plain_sgd = 0.0 if low == "sgd" else 0.9
        return "sgd", {"momentum": float(digits[1]) if digits else plain_sgd}
    return ("adamw", {}) if low not in OPTIMIZERS else (low, {})


def families_of(schedules: Sequence[str]) -> dict[str, str]:
    """Return the family of a study that stands for each schedule of a file, no two the same.

    A schedule has its own family where there is one of that name, then one whose name is part of its own, then one that
    is left: as a name alone, whatever its shape.

    >>> families_of(["constant", "cosine", "cosine_warmup", "none"])
    {'constant': 'constant', 'cosine': 'cosine', 'cosine_warmup': 'step', 'none': 'multistep'}
    """
    found = {name: name for name in schedules if name in FAMILIES}
    for name in schedules:
        parts = [f for f in FAMILIES if f not in found.values() and f in name.lower().replace("-", "_")]
        if name not in found and parts:
            found[name] = parts[0]
    for name in schedules:
        if name not in found:
            found[name] = next(f for f, record in FAMILIES.items() if f not in found.values() and not record.feedback)
    return {name: found[name] for name in schedules}

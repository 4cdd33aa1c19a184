"""What flows between the rooms: a configuration, what an epoch measured, how a trial ended.

Frozen values without behaviour of their own. Times are UTC.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

OptimizerName: TypeAlias = str
"""One of ``lrsearch.spec.optimizers``."""
ScheduleFamily: TypeAlias = str
"""One of ``lrsearch.families``."""
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
"""Of matrix products and convolutions."""


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """An optimizer of torch.optim and its settings; a field that the optimizer does not take is None.

    ``peak_lr`` is the largest learning rate of the training, > 0; the schedule scales it.
    """

    name: OptimizerName
    peak_lr: float
    weight_decay: float = 0.0
    momentum: float | None = None
    dampening: float | None = None
    nesterov: bool | None = None
    beta1: float | None = None
    beta2: float | None = None
    alpha: float | None = None
    eps: float | None = None


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """The shape of the learning rate over training; a field that the family does not take is None.

    ``warmup_fraction`` [0..1) is the part of all updates spent in linear warm-up; every family takes it.
    ``final_fraction`` [0..1] is the floor as a fraction of the peak. For the ranges of the
    other fields see ``lrsearch.families``, for their effect ``lrsearch.shapes``.
    """

    family: ScheduleFamily
    warmup_fraction: float = 0.0
    final_fraction: float | None = None
    drops: int | None = None
    milestones: tuple[float, ...] | None = None
    power: float | None = None
    rise_fraction: float | None = None
    initial_fraction: float | None = None
    cycles: int | None = None
    cycle_mult: int | None = None
    decay_fraction: float | None = None
    drop_factor: float | None = None
    patience_epochs: int | None = None


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """One configuration to train once: everything that, with the data and the model, decides the result."""

    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    batch_size: int
    """[examples]"""
    epochs: int
    seed: int
    """Initial weights and batch order; the same for all trials of a study (common random numbers),
    unless ``space.seed`` names several."""
    stem_ratio: float | None = None
    """Learning rate of the first level of layers over that of the head, (0..1]; between them it rises geometrically.
    None: one rate for all."""
    layer_decay: float | None = None
    """The same said by its step: learning rate of a level over that of the next, (0..1]; None: not said so."""
    backbone_ratio: float | None = None
    """Factor (0..1] upon the learning rates of all levels but the head; None: 1."""


@dataclass(frozen=True, slots=True)
class Network:
    """What was measured of a study's model when the study was filed."""

    n_parameters: int
    """Trainable weights and biases."""
    levels: tuple[tuple[str, ...], ...] = ()
    """The names of its trainable parameters by depth: the stem first, the head last."""
    frozen: tuple[str, ...] = ()
    """The names of its parameters that are not trained."""
    batch_norm: bool = False
    """Whether it normalises by batch, and so cannot be trained on one image."""
    draws: bool = False
    """Whether it draws random numbers while it trains."""
    draws_elsewhere: bool = False
    """Whether it draws from the generators of NumPy or Python among these, and not from torch's alone."""
    repeats: bool = True
    """Whether two trainings from one state are equal; otherwise a resumed trial is none of the uninterrupted one."""
    code: str = ""
    """SHA-256 of the files of a person's own functions, of the model and of the loss; empty where there are none."""
    weights: str = ""
    """SHA-256 of the weights from which it starts; empty where they are drawn."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How the trainings of a study compute: settled by the first worker that trains, so that all trials are alike."""

    precision: Precision = "fp32"
    """Of matrix products and convolutions; weights, optimizer, average and loss are fp32."""
    channels_last: bool = False
    """Whether the channels of a pixel lie side by side in memory."""
    micro_batch: int | None = None
    """Images whose gradients are computed at once, at most [examples]; None: those of a whole batch."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured of a study's images when it was filed, once; whoever needs it reads it here."""

    n_train: int
    """Training images [examples]."""
    n_validation: int
    """Validation images [examples]."""
    n_test: int
    """Images of the untouched test set [examples]."""
    shape: tuple[int, int, int]
    """Channels, height and width of an image [pixels]."""
    classes: tuple[str, ...]
    """Their names, by label."""
    mean: tuple[float, ...] = ()
    """Of each channel of the training images on the 0..1 scale; empty where nobody has measured it."""
    std: tuple[float, ...] = ()
    """Likewise."""
    validation_counts: tuple[int, ...] = ()
    """Validation images of each class [examples]; empty where nobody has counted."""
    test_counts: tuple[int, ...] = ()
    """Test images of each class [examples]; likewise."""
    fingerprint: str = ""
    """SHA-256 of all images and labels; empty where nobody has read them."""
    train_counts: tuple[int, ...] = ()
    """Training images of each class [examples]; empty where nobody has counted."""
    network: Network | None = None
    """The model; None where nobody has looked, because lrsearch brings it."""
    steps: tuple[tuple[int, int], ...] = ()
    """Batch sizes and the updates of an epoch, where a person's own function says how many."""
    arithmetic: Arithmetic | None = None
    """How trainings compute; None: whole batches in fp32, and nobody has settled anything else."""


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """What one completed epoch measured.

    The averaged scores are those of the moving average of the weights and serve pruning only; None when it is off.
    """

    epoch: int
    """Completed passes, 1-based."""
    step: int
    """Updates made so far."""
    lr: float
    """Learning rate of the last update of this epoch."""
    train_loss: float
    """Mean over the epoch's updates [nats/example]."""
    val_loss: float
    """[nats/example]"""
    val_accuracy: float
    """[0..1]"""
    averaged_val_loss: float | None
    averaged_val_accuracy: float | None
    seconds: float
    """Wall time of this epoch, evaluation included."""
    rung_score: float | None = None
    """What pruners compare: the study's metric, of the averaged weights where they rank
    better (``Metric.rung_score``). None until it was accepted."""
    comparable: bool = False
    """Whether the learning rate had risen to its peak, so that the trial could be judged and others held against it."""
    cut: float | None = None
    """The rung score that had to be reached; None where the pruner did not look, or had too little to compare."""
    n_compared: int = 0
    """Trials that were compared to find the cut, this one included."""
    val_score: float | None = None
    """The study's metric, where it is neither the loss nor the accuracy."""
    averaged_val_score: float | None = None


@dataclass(frozen=True, slots=True)
class Divergence:
    """Training diverged at ``step`` (0-based), where the learning rate was ``lr``."""

    epoch: int
    """The epoch under way, 1-based."""
    step: int
    lr: float
    loss: float
    """The loss that gave it away; may be infinite or not a number."""
    initial_loss: float
    collapsed: bool = False
    """Whether the network answers the same whatever the image, from ``step`` on; its loss is that of guessing."""
    left_out: int = 0
    """Updates up to ``step`` that were left out, because their gradients are not finite in fp16; 0 where that is not
    why."""

    @property
    def reason(self) -> "Reason":
        """Why the training diverged."""
        if self.left_out:
            return Reason.OVERFLOWING
        if self.collapsed:
            return Reason.COLLAPSED
        return Reason.LOSS_ABOVE_INITIAL if math.isfinite(self.loss) else Reason.NOT_FINITE


class State(StrEnum):
    """How far a trial has come; all but RUNNING are endings."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"

    @property
    def counts(self) -> bool:
        """Whether a trial that ended so counts towards the budget."""
        return self in (State.COMPLETE, State.PRUNED, State.DIVERGED)


class Role(StrEnum):
    """What a trial is for."""

    SEARCH = "search"
    """It tries a setting."""
    CONFIRM = "confirm"
    """It repeats a setting with another seed."""
    RANGE_TEST = "range_test"
    """Its learning rate rises exponentially, to see where the loss falls and where it explodes."""


class Reason(StrEnum):
    """Why a trial ended as it did."""

    FINISHED = "finished"
    """Trained through all its epochs."""
    RUNG = "rung"
    """The pruner compared it at a rung and found it wanting."""
    BUDGET = "budget"
    """The hours of the budget were used up."""
    NOT_FINITE = "not_finite"
    """The loss became infinite or not a number."""
    LOSS_ABOVE_INITIAL = "loss_above_initial"
    """The loss stayed far above its initial value."""
    COLLAPSED = "collapsed"
    """The network's outputs no longer depend on the image, or its loss ended at that of guessing after a blow-up."""
    OVERFLOWING = "overflowing"
    """Too many of its updates were left out, because their gradients are not finite in fp16."""
    OUT_OF_MEMORY = "out_of_memory"
    CRASH = "crash"
    """The training raised an error, or its process ended."""
    LOST = "lost"
    """Its worker was not heard of any more."""
    STALLED = "stalled"
    """Its worker made no update for too long."""
    TIMED_OUT = "timed_out"
    """It was trained for longer than a trial may be."""
    PREEMPTED = "preempted"
    """Its worker was asked to leave (SIGTERM), or the study was stopped."""
    INTERRUPTED = "interrupted"
    """A person ended its worker (Ctrl-C)."""
    PAUSED = "paused"
    """It stood still at an epoch when the study ended, and nothing went on with it."""
    TOLD_ELSEWHERE = "told_elsewhere"
    """Another program told Optuna how the trial ended while it was in training."""
    NOT_IN_SPACE = "not_in_space"
    """A person enqueued a value that the search space does not hold."""

    @property
    def blames_the_rate(self) -> bool:
        """Whether a trial that diverged for this reason shows that its learning rate was too high.

        Overflowing does not: gradients leave the range of fp16 at any rate.
        """
        return self is not Reason.OVERFLOWING


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended."""

    state: State
    reason: Reason
    value: float | None
    """The objective's value: of the last epoch when complete, the last rung score when pruned, else None."""
    epoch: int
    """Completed epochs."""
    step: int | None = None
    """Where it diverged: the update, 0-based."""
    lr: float | None = None
    """The learning rate at that step."""
    message: str = ""
    """One sentence for a person, with the numbers."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """An attempt at a trial that ended while the trial did not."""

    attempt: int
    """1-based."""
    reason: Reason
    worker: str
    device: str
    epoch: int
    """Epochs accepted by then."""
    step: int
    """Updates that were kept, from which the next attempt goes on; 0 starts again."""
    message: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """What a strategy that pauses did with a trial."""

    kind: Literal["start", "pause", "resume"]
    epoch: int
    """Completed epochs of the trial at that moment."""
    why: str
    """In words."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial as the study remembers it."""

    number: int
    config: TrialConfig
    state: State
    outcome: Outcome | None
    """None while it runs."""
    metrics: tuple[EpochMetrics, ...] = ()
    interrupted: bool = False
    """RUNNING without a living worker: the next claim goes on with it under its number."""
    paused: bool = False
    """RUNNING, and it stands still at its checkpoint until the strategy goes on with it under its number."""
    worker: str = ""
    device: str = ""
    versions: str = ""
    """Of lrsearch, torch and Python, and the number of threads: what bitwise repetition depends on."""
    origin: str = "sampler"
    """Where the configuration came from: baseline, portfolio, sampler or enqueued."""
    role: Role = Role.SEARCH
    parent: int | None = None
    """The number of the trial that it repeats or branches from."""
    shared_epochs: int = 0
    """The first epochs, which it has of its parent, because their learning rates were the same: nobody trained them for
    it, and their seconds are 0."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    test_accuracy: float | None = None
    """[0..1] on the untouched test set; only for a trial that was a winner when asked for."""
    test_loss: float | None = None
    test_score: float | None = None
    """The study's metric on the test set, where it is neither the loss nor the accuracy."""
    test_right: tuple[int, ...] = ()
    """Test images of each class that were right [examples]; none where nobody has counted."""
    interruptions: tuple[Interruption, ...] = ()
    """Attempts before this one, the first first."""
    moves: tuple[Move, ...] = ()
    """Why a strategy began it, paused it and went on with it, the first first; read of a trial that is looked at
    alone."""
    val_right: bytes = b""
    """Which validation images a complete trial gets right, a bit each, class by class (``numpy.packbits``); empty where
    nobody knows."""
    weights_sha256: str = ""
    """Of the last weights of a complete trial, as ``Training.weights`` writes them."""
    params: dict[str, object] = field(default_factory=dict)
    """The same configuration in the names of Optuna's parameters."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What a person enqueued outside the search space: it has no configuration and was not trained."""

    number: int
    params: dict[str, object]
    """As they were enqueued, in the names of Optuna's parameters."""
    message: str
    """Why, in a sentence."""


N_START = 10
"""Updates of a sweep whose mean loss is that of its start: they come before a learning rate that moves much."""


@dataclass(frozen=True, slots=True)
class RangeTest:
    """One sweep: a short training whose learning rate rises exponentially, with the loss of every update."""

    optimizer: OptimizerName
    seed: int
    """Of the initial weights and the order of the batches."""
    batch_size: int
    """[examples]"""
    rates: tuple[float, ...]
    """Learning rate of every update that was made."""
    losses: tuple[float, ...]
    """Of the batch before that update [nats/example]; may be infinite or not a number."""
    seconds: float
    """Wall time."""
    worker: str = ""
    device: str = ""
    versions: str = ""
    started_at: datetime | None = None

    @property
    def start(self) -> float:
        """Loss before anything is learned [nats/example]; may be infinite or not a number."""
        first = self.losses[:N_START]
        return sum(first) / len(first)

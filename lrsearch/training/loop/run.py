"""What a person's own training loop is given: the setting, the learning rate of every update, and whom to tell.

The loop keeps its model, its data and its order of things. What lrsearch owns are the optimizer's settings, the
learning rate at each update, and what becomes of the training after an epoch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import torch
from torch import nn
from torch.optim import lr_scheduler

from lrsearch.spec.metrics import Metric
from lrsearch.training import optimizers
from lrsearch.training.averaging import WeightAverage
from lrsearch.training.engine import Attention
from lrsearch.training.loop import groups, told
from lrsearch.training.loop.faults import LoopError
from lrsearch.training.loop.groups import Parameters
from lrsearch.training.loop.losses import Losses
from lrsearch.training.loop.rates import Rates
from lrsearch.training.loop.scheduler import RunScheduler
from lrsearch.training.watch import Watch
from lrsearch.trial import Divergence, EpochMetrics, Network, TrialConfig


class Stateful(Protocol):
    """What can be kept and gone on with: a model, an optimizer, a loader that has its own state."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return tensors and plain values."""
        ...

    def load_state_dict(self, state: Any, /) -> object:
        """Stand where ``state_dict`` was asked."""
        ...


class LeftLoop(BaseException):
    """Takes a person's loop back to lrsearch, through whatever it has open; like KeyboardInterrupt no Exception."""

    def __init__(self, divergence: Divergence | None = None) -> None:
        super().__init__("lrsearch has ended this training")
        self.divergence = divergence


@dataclass(frozen=True, slots=True)
class LoopRules:
    """What holds for every training of a study."""

    metric: Metric
    averaging: bool
    divergence_watch: bool
    decay_matrices: bool


@dataclass(slots=True)
class Kept:
    """What a loop has said can be kept of it."""

    objects: dict[str, Stateful] = field(default_factory=dict)
    save: Callable[[], Any] | None = None
    load: Callable[[Any], object] | None = None


class Run:
    """One training by a person's own loop.

    Args:
        config: the setting.
        steps_per_epoch: updates of an epoch.
        rules: what holds for every training of the study.
        device: where to train.
        attention: says when the training must stand still.
        network: what is known of the model; None: nobody has looked.
    """

    def __init__(
        self,
        config: TrialConfig,
        steps_per_epoch: int,
        rules: LoopRules,
        device: torch.device,
        attention: Attention | None = None,
        network: Network | None = None,
    ) -> None:
        self.config = config
        """``epochs``, ``batch_size``, ``optimizer``, ``schedule``, ``seed``."""
        self.device = device
        self.steps_per_epoch = steps_per_epoch
        self.averaging = rules.averaging
        """Whether the averaged weights' scores are used, because trials are pruned; see ``average``."""
        self.model: nn.Module | None = None
        """The model, as far as the loop has shown it."""
        self.levels: tuple[tuple[str, ...], ...] = ()
        """The names of the model's parameters by depth, where somebody has looked."""
        self.hand_over: Callable[[EpochMetrics], object] | None = None
        self.left: LeftLoop | None = None
        """What the loop was told to end by; it is told again whenever it goes on regardless."""
        self.kept: Kept | None = None
        self.resumed_from: Callable[[Kept], int] | None = None
        self._rules, self._attention, self._network = rules, attention, network
        self._rates = Rates(config, self.n_steps)
        self._losses = Losses(steps_per_epoch, self._rates.of, watched=rules.divergence_watch)
        self._step = self._n_resumed = 0
        self._average: WeightAverage | None = None

    @property
    def seed(self) -> int:
        """Of initial weights and batch order: torch, NumPy and Python were seeded with it before the loop began."""
        return self.config.seed

    @property
    def n_steps(self) -> int:
        """Updates of the whole training."""
        return self.steps_per_epoch * self.config.epochs

    @property
    def updates(self) -> int:
        """Updates made so far: the calls of ``step``."""
        return self._step

    @property
    def lr(self) -> float:
        """The largest learning rate of the next update; at the end, of the last one."""
        return self._rates.of(self._step)

    @property
    def watch(self) -> Watch:
        """What is remembered of the losses that were told."""
        return self._losses.watch

    def optimizer(self, model: Parameters, inputs: torch.Tensor | None = None) -> torch.optim.Optimizer:
        """Return torch's optimizer of this setting, its learning rate that of the first update.

        Args:
            model: the model; or its parameters, or groups of them as torch takes these, each with a ``lr_scale`` (0..1]
                if you like.
            inputs: some inputs of the model ``[b, ...]``, where the study searches learning rates by layer: one look at
                what it makes of them tells how deep its layers lie.

        Raises:
            LoopError: learning rates by layer are searched, and neither a model nor inputs are given.
        """
        network = self._network
        if isinstance(model, nn.Module):
            self.model = model
            if levels := groups.levels_of(model, inputs, self.config, network):
                self.levels, network = levels, Network(0, levels=levels)
            found, shares = groups.by_level(model, self.config, network, decay_all=not self._rules.decay_matrices)
        else:
            found, shares = groups.as_given(list(model), self.config)
        made = optimizers.build(self.config.optimizer, found, self.device)
        self._rates.own(made, shares, self._step)
        return made

    def scheduler(self, optimizer: torch.optim.Optimizer, *, counts: bool = True) -> lr_scheduler.LRScheduler:
        """Return a scheduler of torch's kind for those who want one; its ``step`` is that of this run.

        Args:
            optimizer: may also be one that this run did not make: its learning rate is set from here on, that of a
                group times its ``lr_scale`` if it has one.
            counts: False where the loop calls ``run.step()`` itself, and a framework wants a scheduler all the same:
                its ``step`` does nothing then.
        """
        if not self._rates.owns(optimizer):
            self._rates.own(optimizer, tuple(map(groups.share_of, optimizer.param_groups)), self._step)
        return RunScheduler(self, optimizer, counts=counts)

    def average(self, model: nn.Module) -> nn.Module:
        """Return a moving average of the weights, in evaluation mode, which ``step`` keeps up to date.

        Its scores (``averaged_val_accuracy`` and the like) rank trials of different schedules fairly before the end;
        evaluate it with your own function where ``averaging`` is true.
        """
        self.model = model
        self._average = WeightAverage(model, self.steps_per_epoch)
        self._average.model.eval()
        return self._average.model

    def resume(
        self, save: Callable[[], Any] | None = None, load: Callable[[Any], object] | None = None, **objects: Stateful
    ) -> int:
        """Say what this training can be kept by, and stand where it was kept; return the epochs that are behind.

        Call it once, when everything is built and before the first update: ``for epoch in range(run.resume(model=model,
        optimizer=optimizer), run.config.epochs)``. The generators of torch, NumPy and Python are kept as well. A loop
        that does not call it starts again after an interruption.

        Args:
            save: returns whatever else there is to keep, tensors and plain values, after an epoch.
            load: takes what ``save`` returned.
            objects: what has ``state_dict`` and ``load_state_dict``, under names of your choice.

        Raises:
            LoopError: ``save`` without ``load``, or the other way round.
        """
        if (save is None) != (load is None):
            raise LoopError("run.resume() needs both save and load, or neither")
        self.kept = Kept(dict(objects), save, load)
        if (model := objects.get("model")) is not None and isinstance(model, nn.Module):
            self.model = model
        if self.resumed_from is None:
            return 0
        self._step = self._n_resumed = self.resumed_from(self.kept)
        self.resumed_from = None  # the state that it holds is as large as the model and its optimizer
        self._rates.set(self._step)
        return self._step // self.steps_per_epoch

    def step(self, loss: torch.Tensor | float | None = None) -> None:
        """Count an update: call it after each ``optimizer.step()``; sets the learning rate of the next one.

        An update that a gradient scaler skipped is one of the schedule too.

        Args:
            loss: of the batch [nats/example]; where it is told, a training that diverges ends at once.
        """
        self._leave_if_told()
        if self.must_leave():
            self._leave()
        if self._step == self.n_steps:
            raise LoopError(
                f"the loop trains on after the {self.config.epochs} epochs of the study: end at run.config.epochs"
            )
        self._rates.check(self._step)
        if self._average is not None:
            self._average.update(self._step)
        if loss is not None:
            self._losses.add(loss)
        self._step += 1
        self._rates.set(self._step)
        if self._losses.is_look_due:
            self._look()

    def epoch(self, **scores: float) -> EpochMetrics:
        """Return what an epoch came to, for you to yield: ``yield run.epoch(val_accuracy=accuracy, val_loss=loss)``.

        Args:
            scores: the study's metric by its name, and what you have of ``val_accuracy`` [0..1], ``val_loss``,
                ``train_loss`` and, of the averaged weights, ``averaged_`` before each of these.

        Raises:
            LoopError: the metric was not told, or something that nobody knows.
        """
        self._leave_if_told()
        metric, n = self._rules.metric, self.steps_per_epoch
        values = told.checked(scores, metric)
        self._look()
        self._rates.end_first_epoch(self._step, n, whole=not self._n_resumed)
        if self._step % n or not self._step:
            raise LoopError(
                f"an epoch has {n:,} updates, and {self._step % n:,} were made when run.epoch() was called for epoch "
                f"{self._step // n + 1}: the loop's epochs must be of one length"
            )
        mean = self._losses.end_epoch()
        if not math.isnan(mean):
            values.setdefault("train_loss", mean)
        lr = self._rates.of(self._step - 1)
        made = told.metrics(values, metric, epoch=self._step // n, step=self._step, lr=lr)
        self._follow_the_plateau(made)
        if (bad := next((value for value in values.values() if not math.isfinite(value)), None)) is not None:
            initial = math.nan if self.watch.initial_loss is None else self.watch.initial_loss
            self._leave(Divergence(made.epoch, self._step - 1, lr, bad, initial))
        return made

    def report(self, **scores: float) -> None:
        """Tell what an epoch came to, from within a framework that calls back; what ``epoch`` takes.

        A training that is pruned, or must leave, ends here: the framework unwinds as it does after Ctrl-C.

        Raises:
            LoopError: as ``epoch``; or the loop is a generator, which yields ``run.epoch(...)``.
        """
        self._leave_if_told()
        if self.hand_over is None:
            raise LoopError("run.report() is for a plain function; a generator yields run.epoch(...) once an epoch")
        self.hand_over(self.epoch(**scores))

    def must_leave(self) -> bool:
        """Return whether the training is to end here, because its worker was asked to."""
        attention = self._attention
        return attention is not None and attention.is_set() and attention.ends()

    def _leave(self, divergence: Divergence | None = None) -> NoReturn:
        self.left = LeftLoop(divergence)
        raise LeftLoop(divergence)  # another one: what is raised holds all that it passes through

    def _leave_if_told(self) -> None:
        """Leave again, where a framework has caught what told it to."""
        if self.left is not None:
            self._leave(self.left.divergence)

    def plateau_state(self) -> dict[str, Any] | None:
        """Return the state of a schedule that has feedback; None of the others."""
        return None if self._rates.plateau is None else self._rates.plateau.state()

    def restore(self, plateau: dict[str, Any] | None, watch: Watch) -> None:
        """Stand where ``plateau_state`` was asked, with what was remembered then."""
        if self._rates.plateau is not None and plateau is not None:
            self._rates.plateau.restore(plateau)
        self._losses.watch = watch

    def averaged(self) -> nn.Module | None:
        """Return the average that the loop has asked for."""
        return None if self._average is None else self._average.model

    def _follow_the_plateau(self, made: EpochMetrics) -> None:
        plateau = self._rates.plateau
        if plateau is None:
            return
        if math.isnan(made.val_loss):
            raise LoopError("the schedule 'plateau' follows the validation loss: tell run.epoch() val_loss=...")
        plateau.step(made.val_loss)
        self._rates.set(self._step)

    def _look(self) -> None:
        """End a training whose losses say that it diverged."""
        if (found := self._losses.look(self._step)) is not None:
            self._leave(found)

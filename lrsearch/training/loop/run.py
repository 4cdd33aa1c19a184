"""What a person's own training loop is given: the setting, the learning rate of every update, and whom to tell.

The loop keeps its model, its data and its order of things. What lrsearch owns are the optimizer's settings, the
learning rate at each update, and what becomes of the training after an epoch.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import torch
from torch import nn
from torch.optim import lr_scheduler

from lrsearch import layer_rates
from lrsearch.errors import nearest
from lrsearch.schedules import factors
from lrsearch.spec.metrics import Metric
from lrsearch.training import optimizers
from lrsearch.training.averaging import WeightAverage
from lrsearch.training.engine import Attention
from lrsearch.training.levels import levels_on
from lrsearch.training.loop.faults import Counts, LoopError
from lrsearch.training.loop.scheduler import RunScheduler
from lrsearch.training.plateau import plateau_of
from lrsearch.training.watch import Watch
from lrsearch.trial import Divergence, EpochMetrics, Network, TrialConfig

LOOK_EVERY_STEPS = 50
"""Most updates between two looks at the losses that were told: one wait for the device each."""
TOLD = ("train_loss", "val_loss", "val_accuracy", "averaged_val_loss", "averaged_val_accuracy")
"""What ``Run.epoch`` takes whatever the study's metric is."""

GroupsOfParameters = nn.Module | Iterable[nn.Parameter] | Iterable[dict[str, Any]]


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


class _Made:
    """Counts what an optimizer makes; apart from the run, so that optimizer and run do not hold each other."""

    n = 0

    def __call__(self, *_: object) -> None:
        """Count an update."""
        self.n += 1


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
        self._lrs: list[float] = (factors(config.schedule, self.n_steps) * config.optimizer.peak_lr).tolist()
        self._plateau = plateau_of(config.schedule)
        self._optimizers: list[tuple[torch.optim.Optimizer, tuple[float, ...]]] = []
        self._set: list[float] = []
        self._step = 0
        self._made = _Made()
        self._n_before_first: int | None = None
        self._n_resumed = 0
        self._hook: Any = None
        self._average: WeightAverage | None = None
        self._losses: list[torch.Tensor | float] = []
        self._n_looked = 0
        self.watch = Watch()

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
        scale = 1.0 if self._plateau is None else self._plateau.scale
        return self._lrs[min(self._step, self.n_steps - 1)] * scale

    def optimizer(self, model: GroupsOfParameters, inputs: torch.Tensor | None = None) -> torch.optim.Optimizer:
        """Return torch's optimizer of this setting, its learning rate that of the first update.

        Args:
            model: the model; or its parameters, or groups of them as torch takes these, each with a ``lr_scale`` (0..1]
                if you like.
            inputs: some inputs of the model ``[b, ...]``, where the study searches learning rates by layer: one look at
                what it makes of them tells how deep its layers lie.

        Raises:
            LoopError: learning rates by layer are searched, and neither a model nor inputs are given.
        """
        if isinstance(model, nn.Module):
            self.model = model
            groups, shares = self._by_level(model, inputs)
        else:
            groups, shares = self._as_given(list(model))
        made = optimizers.build(self.config.optimizer, groups, self.device)
        self._own(made, shares)
        return made

    def scheduler(self, optimizer: torch.optim.Optimizer, *, counts: bool = True) -> lr_scheduler.LRScheduler:
        """Return a scheduler of torch's kind for those who want one; its ``step`` is that of this run.

        Args:
            optimizer: may also be one that this run did not make: its learning rate is set from here on, that of a
                group times its ``lr_scale`` if it has one.
            counts: False where the loop calls ``run.step()`` itself, and a framework wants a scheduler all the same:
                its ``step`` does nothing then.
        """
        if all(one is not optimizer for one, _ in self._optimizers):
            self._own(optimizer, tuple(map(_scale, optimizer.param_groups)))
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
        self._set_rates()
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
        if self._n_before_first is None:
            self._n_before_first = self._made.n
        if self._average is not None:
            self._average.update(self._step)
        if loss is not None:
            self._losses.append(loss.detach() if isinstance(loss, torch.Tensor) else float(loss))
        self._check_rates()
        self._step += 1
        self._set_rates()
        if len(self._losses) - self._n_looked >= LOOK_EVERY_STEPS:
            self._look()

    def epoch(self, **told: float) -> EpochMetrics:
        """Return what an epoch came to, for you to yield: ``yield run.epoch(val_accuracy=accuracy, val_loss=loss)``.

        Args:
            told: the study's metric by its name, and what you have of ``val_accuracy`` [0..1], ``val_loss``,
                ``train_loss`` and, of the averaged weights, ``averaged_`` before each of these.

        Raises:
            LoopError: the metric was not told, or something that nobody knows.
        """
        self._leave_if_told()
        values = {name: float(value) for name, value in told.items()}
        self._check_told(values)
        self._look()
        metric = self._rules.metric
        losses = [float(one) for one in self._losses]
        train_loss = values.get("train_loss", math.fsum(losses) / len(losses) if losses else math.nan)
        if self._hook is not None and not self._n_resumed:
            counts = Counts(self._step, self._made.n, self._n_before_first or 0, self.steps_per_epoch)
            if (wrong := counts.fault()) is not None:
                raise LoopError(wrong)
        if self._step % self.steps_per_epoch or not self._step:
            raise LoopError(self._not_a_whole_epoch())
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._losses, self._n_looked = [], 0
        scale = 1.0 if self._plateau is None else self._plateau.scale
        made = EpochMetrics(
            epoch=self._step // self.steps_per_epoch,
            step=self._step,
            lr=self._lrs[self._step - 1] * scale,
            train_loss=train_loss,
            val_loss=values.get("val_loss", math.nan),
            val_accuracy=values.get("val_accuracy", math.nan),
            averaged_val_loss=values.get("averaged_val_loss"),
            averaged_val_accuracy=values.get("averaged_val_accuracy"),
            seconds=0.0,
            val_score=None if metric.column else values[metric.name],
            averaged_val_score=None if metric.column else values.get(f"averaged_{metric.name}"),
        )
        self._follow_the_plateau(made)
        self._end_where_it_diverged(values | ({"train_loss": train_loss} if losses else {}))
        return made

    def report(self, **told: float) -> None:
        """Tell what an epoch came to, from within a framework that calls back; what ``epoch`` takes.

        A training that is pruned, or must leave, ends here: the framework unwinds as it does after Ctrl-C.

        Raises:
            LoopError: as ``epoch``; or the loop is a generator, which yields ``run.epoch(...)``.
        """
        self._leave_if_told()
        if self.hand_over is None:
            raise LoopError("run.report() is for a plain function; a generator yields run.epoch(...) once an epoch")
        self.hand_over(self.epoch(**told))

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
        return None if self._plateau is None else self._plateau.state()

    def restore(self, plateau: dict[str, Any] | None) -> None:
        """Stand where ``plateau_state`` was asked."""
        if self._plateau is not None and plateau is not None:
            self._plateau.restore(plateau)

    def averaged(self) -> nn.Module | None:
        """Return the average that the loop has asked for."""
        return None if self._average is None else self._average.model

    def _by_level(
        self, model: nn.Module, inputs: torch.Tensor | None
    ) -> tuple[list[dict[str, Any]], tuple[float, ...]]:
        network = self._network
        if layer_rates.is_layer_wise(self.config) and (network is None or not network.levels):
            if inputs is None:
                raise LoopError(
                    "the study searches learning rates by layer, and a look at the model needs some inputs of it: "
                    "run.optimizer(model, inputs=images[:2])"
                )
            self.levels = levels_on(model, inputs)
            network = Network(0, levels=self.levels)
        found = optimizers.groups_of(model, network, self.config, decay_all=not self._rules.decay_matrices)
        return found.of(model, self.config.optimizer.weight_decay), found.shares

    def _as_given(self, given: Sequence[Any]) -> tuple[list[dict[str, Any]], tuple[float, ...]]:
        if layer_rates.is_layer_wise(self.config):
            raise LoopError(
                "the study searches learning rates by layer, and parameters alone do not say how deep they lie: "
                "give run.optimizer() the model and some inputs"
            )
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        shares = tuple(_scale(group) for group in groups)
        return [{"weight_decay": self.config.optimizer.weight_decay, **group} for group in groups], shares

    def _own(self, optimizer: torch.optim.Optimizer, shares: tuple[float, ...]) -> None:
        """Set the learning rate of an optimizer from here on; the first one's steps are counted for an epoch."""
        if not self._optimizers:
            self._hook = optimizer.register_step_post_hook(self._made)
        self._optimizers.append((optimizer, shares))
        self._set_rates()

    def _set_rates(self) -> None:
        lr = self.lr
        self._set = []
        for optimizer, shares in self._optimizers:
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = lr * share
                self._set.append(lr * share)

    def _check_rates(self) -> None:
        """Make sure that nobody else has set the learning rate with which the update was made."""
        rates = [group["lr"] for optimizer, _ in self._optimizers for group in optimizer.param_groups]
        if rates != self._set:
            found, mine = next((a, b) for a, b in zip(rates, self._set, strict=True) if a != b)
            raise LoopError(
                f"the loop sets the learning rate itself: at update {self._step} (0-based) it was {float(found):.6g} "
                f"instead of {mine:.6g}; leave out its own scheduler, lrsearch sets the rate in run.step()"
            )

    def _check_told(self, values: Mapping[str, float]) -> None:
        metric = self._rules.metric
        name = metric.column or metric.name
        known = [*TOLD, name, f"averaged_{name}"]
        if extra := [one for one in values if one not in known]:
            raise LoopError(
                f"run.epoch() does not know '{extra[0]}'{nearest(extra[0], known)}; known: "
                f"{', '.join(dict.fromkeys(known))}; objective.metric and objective.direction name another metric"
            )
        if name not in values:
            raise LoopError(
                f"the study's metric is '{metric.name}', and run.epoch() was told {', '.join(values) or 'nothing'}: "
                f"tell it {name}=..."
            )

    def _not_a_whole_epoch(self) -> str:
        n = self._step % self.steps_per_epoch
        return (
            f"an epoch has {self.steps_per_epoch:,} updates, and {n:,} were made when run.epoch() was called for epoch "
            f"{self._step // self.steps_per_epoch + 1}: the loop's epochs must be of one length"
        )

    def _follow_the_plateau(self, made: EpochMetrics) -> None:
        if self._plateau is None:
            return
        if math.isnan(made.val_loss):
            raise LoopError("the schedule 'plateau' follows the validation loss: tell run.epoch() val_loss=...")
        self._plateau.step(made.val_loss)
        self._set_rates()

    def _look(self) -> None:
        """Read the losses that were told since the last look, and end a training that diverged."""
        new = self._losses[self._n_looked :]
        if not new:
            return
        on_device = [one for one in new if isinstance(one, torch.Tensor)]
        read = iter(torch.stack([one.float().mean() for one in on_device]).tolist()) if on_device else iter(())
        losses = [next(read) if isinstance(one, torch.Tensor) else one for one in new]
        self._losses[self._n_looked :] = losses
        self._n_looked = len(self._losses)
        if not self._rules.divergence_watch:
            return
        first = self._step - len(new)
        scale = 1.0 if self._plateau is None else self._plateau.scale
        lrs = [self._lrs[min(max(first + i, 0), self.n_steps - 1)] * scale for i in range(len(new))]
        index = self.watch.look(losses, [math.nan] * len(losses), lrs, max(first, 0))
        if index is not None:
            assert self.watch.initial_loss is not None
            epoch = max(first + index, 0) // self.steps_per_epoch + 1
            self._leave(Divergence(epoch, first + index, lrs[index], losses[index], self.watch.initial_loss))

    def _end_where_it_diverged(self, told: Mapping[str, float]) -> None:
        """End a training that tells something that is not finite."""
        bad = next((value for value in told.values() if not math.isfinite(value)), None)
        if bad is not None:
            last = self._step - 1
            initial = math.nan if self.watch.initial_loss is None else self.watch.initial_loss
            self._leave(Divergence(last // self.steps_per_epoch + 1, last, self._lrs[last], bad, initial))


def _scale(group: Mapping[str, Any]) -> float:
    """Return the part (0..1] of the learning rate with which a group learns."""
    return float(group.get("lr_scale", 1.0))

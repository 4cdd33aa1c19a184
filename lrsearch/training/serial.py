"""The serial engine: one trial at a time, data resident on the device, no wait per update."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from lrsearch.schedules import factors
from lrsearch.training import device as devices
from lrsearch.training import models, optimizers
from lrsearch.training.averaging import WeightAverage
from lrsearch.training.data import ImageSplits
from lrsearch.training.divergence import first_divergence
from lrsearch.training.engine import TestResult
from lrsearch.training.models import ModelConfig
from lrsearch.trial import Divergence, EpochMetrics, TrialConfig

CHECK_EVERY_STEPS = 50
"""Updates between two looks at the recorded losses: one device synchronisation each."""

CHUNK_ELEMENTS = 1 << 20
"""Pixels that are gathered and normalised at once: several batches where they are small, so that the cost of a
kernel launch is shared; 4 MiB of float32, which stays near the cores."""

EVALUATION_BATCH = 512
"""[examples]"""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every training of a study."""

    drop_last: bool = False
    divergence_watch: bool = True
    averaging: bool = True


class SerialEngine:
    """Trains a model on images that lie as uint8 tensors on the device.

    Every trial starts from the same weights and sees the same batch order for the same seed, so that comparisons are
    paired. Results repeat bit for bit on the same machine, seed, thread count and version.
    """

    def __init__(self, splits: ImageSplits, model: ModelConfig, device: torch.device, rules: Rules) -> None:
        self.splits = splits.to(device)
        self.rules = rules
        self._model_config = model
        self._device = device

    @property
    def device(self) -> str:
        """The device in words."""
        return devices.describe(self._device)

    @property
    def versions(self) -> str:
        """What bitwise repetition depends on."""
        return devices.versions()

    def train(self, config: TrialConfig) -> Generator[EpochMetrics | Divergence]:
        """Yield what every epoch measured; a Divergence is the last thing yielded.

        Nothing is built before the first epoch is asked for, so what cannot be built fails there, as a training does.
        """
        yield from Training(self.splits, self._model_config, self._device, self.rules, config).epochs()

    def test(self, config: TrialConfig) -> TestResult | Divergence:
        """Train ``config`` through and judge its last weights on the test images."""
        training = Training(self.splits, self._model_config, self._device, self.rules, config)
        *_, last = training.epochs()
        if isinstance(last, Divergence):
            return last
        loss, accuracy = training.evaluate(self.splits.test_images, self.splits.test_labels)
        return TestResult(last, loss, accuracy)


class Training:
    """One configuration being trained: its model, optimizer and position."""

    def __init__(
        self, splits: ImageSplits, model: ModelConfig, device: torch.device, rules: Rules, config: TrialConfig
    ) -> None:
        self._splits, self._device, self._rules, self._config = splits, device, rules, config
        n = len(splits.train_labels)
        self.steps_per_epoch = n // config.batch_size if rules.drop_last else -(-n // config.batch_size)
        n_steps = self.steps_per_epoch * config.epochs
        self._lrs: list[float] = (factors(config.schedule, n_steps) * config.optimizer.peak_lr).tolist()
        # Initial weights come from the CPU's generator on every device: the same seed, the same start.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)  # torch.manual_seed would reseed accelerators as well
            self.model: nn.Module = models.build(model, splits.shape, splits.n_classes).to(device)
        self._order = torch.Generator().manual_seed(config.seed)
        self._optimizer = optimizers.build(config.optimizer, self.model.parameters(), device)
        self._average = WeightAverage(self.model, self.steps_per_epoch) if rules.averaging else None
        self._plateau = _plateau(config)
        self._sum_dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self._step = 0
        self._initial_loss: float | None = None
        self._far_run = 0

    def epochs(self) -> Iterator[EpochMetrics | Divergence]:
        """Train epoch by epoch."""
        for epoch in range(1, self._config.epochs + 1):
            begun = time.perf_counter()
            losses = self._train_epoch(epoch)
            if isinstance(losses, Divergence):
                yield losses
                return
            metrics = self._measure(epoch, losses, begun)
            if self._plateau is not None:
                self._plateau.step(metrics.val_loss)
            yield metrics

    def evaluate(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        """Return mean loss [nats/example] and accuracy [0..1] of the current weights; images ``[n, c, h, w]`` uint8."""
        loss, accuracy = self._score(self.model, images, labels).tolist()
        return loss, accuracy

    def _train_epoch(self, epoch: int) -> torch.Tensor | Divergence:
        """Make one pass; return the losses of its updates ``[steps_per_epoch]``, on the device."""
        self.model.train()
        scale = self._plateau.scale if self._plateau is not None else 1.0
        groups, optimizer, average = self._optimizer.param_groups, self._optimizer, self._average
        parameters = list(self.model.parameters())
        losses: list[torch.Tensor] = []
        seen = 0
        for images, labels in self._batches():
            lr = self._lrs[self._step] * scale
            for group in groups:
                group["lr"] = lr
            loss = functional.cross_entropy(self.model(images), labels)
            loss.backward()
            optimizer.step()
            for parameter in parameters:
                parameter.grad = None  # what zero_grad() does, without its bookkeeping: 3 % of an update of the mlp
            if average is not None:
                average.update(self._step)
            losses.append(loss.detach())
            self._step += 1
            if self._rules.divergence_watch and len(losses) - seen >= CHECK_EVERY_STEPS:
                if (found := self._look(epoch, losses[seen:], scale)) is not None:
                    return found
                seen = len(losses)
        if self._rules.divergence_watch and (found := self._look(epoch, losses[seen:], scale)) is not None:
            return found
        return torch.stack(losses)

    def _look(self, epoch: int, losses: list[torch.Tensor], scale: float) -> Divergence | None:
        """Read the losses of the latest updates from the device and judge them."""
        if not losses:
            return None
        values: list[float] = torch.stack(losses).tolist()
        if self._initial_loss is None:
            self._initial_loss = values[0]
        index, self._far_run = first_divergence(values, self._far_run, initial_loss=self._initial_loss)
        if index is None:
            return None
        step = self._step - len(values) + index
        return Divergence(epoch, step, self._lrs[step] * scale, values[index], self._initial_loss)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield one epoch of batches in a fresh order: images float32 ``[b, c, h, w]``, labels int64 ``[b]``."""
        splits, batch = self._splits, self._config.batch_size
        n = len(splits.train_labels)
        order = torch.randperm(n, generator=self._order).to(self._device, non_blocking=True)
        if self._rules.drop_last:
            order = order[: self.steps_per_epoch * batch]
        per_image = splits.train_images[0].numel()
        chunk = batch * max(1, CHUNK_ELEMENTS // (batch * per_image))
        for rows in order.split(chunk):
            # Not train_images[rows]: on the CPU, gathering bytes so takes 18 times as long (380 us against 21 for 800).
            images = splits.normalize(splits.train_images.index_select(0, rows))
            labels = splits.train_labels.index_select(0, rows)
            yield from zip(images.split(batch), labels.split(batch), strict=True)

    def _measure(self, epoch: int, losses: torch.Tensor, begun: float) -> EpochMetrics:
        val = self._splits.validation_images, self._splits.validation_labels
        scores = [losses.to(self._sum_dtype).mean().unsqueeze(0), self._score(self.model, *val)]
        if self._average is not None:
            scores.append(self._score(self._average.model, *val))
        # The one wait for the device in this epoch, watch apart.
        train_loss, val_loss, val_accuracy, *averaged = torch.cat(scores).tolist()
        scale = self._plateau.scale if self._plateau is not None else 1.0
        return EpochMetrics(
            epoch=epoch,
            step=self._step,
            lr=self._lrs[self._step - 1] * scale,
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            averaged_val_loss=averaged[0] if averaged else None,
            averaged_val_accuracy=averaged[1] if averaged else None,
            seconds=time.perf_counter() - begun,
        )

    @torch.no_grad()
    def _score(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return mean loss and accuracy ``[2]`` float64, on the device."""
        model.eval()
        total = torch.zeros(2, dtype=self._sum_dtype, device=self._device)
        for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
            logits = model(self._splits.normalize(x))
            loss = functional.cross_entropy(logits, y, reduction="sum")
            total += torch.stack((loss, (logits.argmax(1) == y).sum())).to(total.dtype)
        return total / len(labels)


@dataclass
class _Plateau:
    """torch's ReduceLROnPlateau, deciding on a unit learning rate; the schedule's factors carry the peak."""

    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau

    @property
    def scale(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, val_loss: float) -> None:
        self.scheduler.step(val_loss)


def _plateau(config: TrialConfig) -> _Plateau | None:
    schedule = config.schedule
    if schedule.family != "plateau":
        return None
    unit = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        unit,
        factor=schedule.drop_factor or 0.1,
        patience=schedule.patience_epochs or 0,
        min_lr=schedule.final_fraction or 0.0,
    )
    return _Plateau(unit, scheduler)

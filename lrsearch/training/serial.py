"""The serial engine: one trial at a time, data resident on the device, no wait per update."""

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from lrsearch.schedules import factors
from lrsearch.spec.metrics import METRICS
from lrsearch.spec.study import updates_per_epoch
from lrsearch.spec.training import AugmentSpec
from lrsearch.training import branching, collapse, draws, models, networks, optimizers, outputs
from lrsearch.training import device as devices
from lrsearch.training import precision as precisions
from lrsearch.training.augment.augmenter import Augmenter
from lrsearch.training.averaging import WeightAverage
from lrsearch.training.checkpoint import Checkpoint, decisions, encode, encode_weights, load_state, load_weights
from lrsearch.training.collapse import At
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.engine import Attention, Paused, TestResult
from lrsearch.training.loss_scale import LossScale, Skips
from lrsearch.training.micro_batches import EVALUATION_BATCH, Gradients, Room, as_memory_allows
from lrsearch.training.models import ModelConfig
from lrsearch.training.plateau import plateau_of
from lrsearch.training.watch import Watch
from lrsearch.trial import Arithmetic, Divergence, EpochMetrics, Facts, Network, Precision, TrialConfig

CHECK_EVERY_STEPS = 50
"""Most updates between two looks at what was recorded: one device synchronisation each."""
LOOKS_PER_EPOCH = 2
"""At least."""

BLOCK = 20
"""Updates between two looks at their losses, where a learning rate rises until they explode."""

CHUNK_ELEMENTS = 1 << 20
"""Pixels that are gathered and normalised at once: several batches where they are small, so that the cost of a
kernel launch is shared; 4 MiB of float32, which stays near the cores."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every training of a study."""

    drop_last: bool = False
    divergence_watch: bool = True
    averaging: bool = True
    metric: str | None = None
    """The study's metric, where it is neither the loss nor the accuracy."""
    class_weights: float | None = None
    """Power (0..1] of the inverse frequency by which classes weigh in the training loss; None: all alike."""
    decay_matrices: bool | None = None
    """Whether weight decay acts upon matrices alone, and not on biases and norms too; None: on all."""
    precision: Precision | None = None
    """Of matrix products and convolutions; None: fp32."""
    channels_last: bool | None = None
    """Whether the channels of a pixel lie side by side in memory; None: they do not."""
    augment: AugmentSpec | None = None
    """How training images are changed at random, by what it comes to for these; None: they are not."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a network came to on some images."""

    loss: float
    """[nats/example]"""
    accuracy: float
    """[0..1]"""
    score: float | None
    """The study's metric, where it is neither of these."""
    right: tuple[int, ...] = ()
    """Images of each class that are right [examples]; none where they were not asked for."""


class SerialEngine:
    """Trains a model on images that lie as uint8 tensors on the device.

    Every trial starts from the same weights and sees the same batch order for the same seed, so that comparisons are
    paired. Results repeat bit for bit on the same machine, seed, thread count and version.
    """

    def __init__(
        self,
        splits: ImageSplits,
        model: ModelConfig,
        device: torch.device,
        rules: Rules,
        facts: Facts | None = None,
        *,
        stream: bool = False,
    ) -> None:
        """Have an engine.

        Args:
            splits: the images.
            model: what is trained.
            device: where.
            rules: what holds for every training.
            facts: what is known of images and model; the images are looked at when asked for, the model is taken to be
                one of lrsearch's own.
            stream: whether images are read as they are needed, and do not lie on the device.
        """
        self.splits = splits.to(device, stream=stream)
        self._facts = facts
        self.rules = rules
        self._model_config = model
        self._device = device
        self._room = Room()
        self._is_settled = False

    @property
    def device(self) -> str:
        """The device in words."""
        return devices.describe(self._device)

    @property
    def versions(self) -> str:
        """What bitwise repetition depends on."""
        return devices.versions()

    @property
    def facts(self) -> Facts:
        """What was measured of the images; measured when first asked for, if the engine was not told."""
        if self._facts is None:
            self._facts = self.splits.facts()
        if self._is_settled or self._room.ran_out:
            return replace(self._facts, arithmetic=self.arithmetic)
        return self._facts

    @property
    def arithmetic(self) -> Arithmetic:
        """How it computes."""
        rules = self.rules
        return Arithmetic(rules.precision or "fp32", rules.channels_last or False, self._room.micro_batch)

    def follow(self, arithmetic: Arithmetic, *, is_settled: bool = True) -> None:
        """Compute so from the next training on; ``is_settled``: that is how the study is filed.

        Raises:
            DeviceError: the device cannot.
        """
        precisions.check(arithmetic.precision, self._device)
        asked = None if arithmetic.precision == "fp32" else arithmetic.precision
        self.rules = replace(self.rules, precision=asked, channels_last=arithmetic.channels_last or None)
        self._room.micro_batch, self._is_settled = arithmetic.micro_batch, is_settled

    def on_all_images(self) -> "SerialEngine":
        """Return an engine that trains on the training and the validation images together.

        There is nothing left to validate on: validation scores are NaN, and no average of the weights is kept for them.
        """
        rules = replace(self.rules, averaging=False)
        together = self.splits.together()
        facts = None
        if self._network is not None:
            facts = replace(
                self.facts,
                n_train=len(together.train),
                n_validation=0,
                train_counts=together.train.counts(together.n_classes),
                validation_counts=(0,) * together.n_classes,
                fingerprint="",
            )
        stream = self.splits.train.streamed
        made = SerialEngine(together, self._model_config, self._device, rules, facts, stream=stream)
        made.follow(self.arithmetic, is_settled=self._is_settled)
        return made

    def computing(self, arithmetic: Arithmetic) -> "SerialEngine":
        """Return an engine of the same images that computes so.

        Raises:
            DeviceError: the device cannot.
        """
        stream = self.splits.train.streamed
        made = SerialEngine(self.splits, self._model_config, self._device, self.rules, self._facts, stream=stream)
        made.follow(arithmetic)
        return made

    @property
    def _network(self) -> Network | None:
        return None if self._facts is None else self._facts.network

    def start(
        self, config: TrialConfig, checkpoint: bytes | None = None, attention: Attention | None = None
    ) -> "SerialTraining":
        """Build the training of ``config``, at its first update or where ``checkpoint`` left off.

        Raises:
            CheckpointError: damaged bytes, or the checkpoint of another training or of another format.
        """
        training = SerialTraining(
            self.splits, self._model_config, self._device, self.rules, config, attention, self._network, self._room
        )
        if checkpoint is not None:
            training.restore(checkpoint)
        return training

    def test(
        self, config: TrialConfig, weights: bytes | None = None, attention: Attention | None = None
    ) -> TestResult | Divergence | None:
        """Judge ``weights`` on the validation and the test images; None trains ``config`` through for them.

        Returns None where attention was asked for before it was through.

        Raises:
            CheckpointError: bytes that are not weights of this model.
        """
        training = self.start(config, None, attention)
        if weights is not None:
            load_weights(training.model, weights)
        else:
            for told in training.epochs():
                if isinstance(told, Divergence):
                    return told
                if isinstance(told, Paused):
                    return None
        splits = self.splits
        val, test = training.evaluate(splits.validation), training.evaluate(splits.test, by_class=True)
        return TestResult(val.loss, val.accuracy, test.loss, test.accuracy, test.score, test.right)


class SerialTraining:
    """One configuration being trained: its model, optimizer and position.

    What decides the rest of a training is its weights, the state of its optimizer and schedule, and its place in the
    batch order: what a model draws at random while it trains follows from the seed and the number of the update.
    """

    def __init__(
        self,
        splits: ImageSplits,
        model: ModelConfig,
        device: torch.device,
        rules: Rules,
        config: TrialConfig,
        attention: Attention | None = None,
        network: Network | None = None,
        room: Room | None = None,
    ) -> None:
        self._splits, self._device, self._rules, self._config = splits, device, rules, config
        self._model_config, self._attention = model, attention
        self.steps_per_epoch = updates_per_epoch(
            len(splits.train),
            config.batch_size,
            drop_last=rules.drop_last,
            no_single=network is not None and network.batch_norm,
        )
        n_steps = self.steps_per_epoch * config.epochs
        self._lrs: list[float] = (factors(config.schedule, n_steps) * config.optimizer.peak_lr).tolist()
        # Initial weights come from the CPU's generator on every device: the same seed, the same start.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)  # torch.manual_seed would reseed accelerators as well
            self.model: nn.Module = models.build(model, splits.shape, splits.n_classes).to(device)
        if rules.channels_last:
            self.model.to(memory_format=torch.channels_last)
        counts = splits.train.counts(splits.n_classes) if rules.class_weights else ()
        self._judge = networks.judge_of(model, counts, rules.class_weights, device, rules.augment)
        self._augment = None if rules.augment is None else Augmenter(rules.augment, splits, config.seed)
        self._groups = optimizers.groups_of(self.model, network, config, decay_all=not rules.decay_matrices)
        self._optimizer = self._optimizer_of(self.model)
        self._update = optimizers.updater(self._optimizer)
        self._loss_scale: LossScale | None = None
        if rules.precision == "fp16":
            self._loss_scale = LossScale(self._optimizer, self._update, device)
            self._update = self._loss_scale.update
        self._room = Room() if room is None else room
        self._gradients = self._gradients_of(network)
        self._average = WeightAverage(self.model, self.steps_per_epoch) if rules.averaging else None
        self._plateau = plateau_of(config.schedule)
        assert self._plateau is None or len(splits.validation), "a plateau follows the validation loss"
        self._sum_dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self._step = 0
        self._watch = Watch()
        self._guess = collapse.guess_of(splits.train.labels, splits.validation.labels, splits.n_classes, rules.augment)
        self._suspicious = -(-collapse.SUSPICIOUS // config.batch_size)
        self._look_every = min(CHECK_EVERY_STEPS, -(-self.steps_per_epoch // LOOKS_PER_EPOCH))
        # Of the epoch under way; see Checkpoint.
        self._order = torch.Generator().manual_seed(config.seed).get_state()
        self._right: torch.Tensor | None = None  # of the last epoch: which validation images are right
        self._losses: list[torch.Tensor] = []
        self._outputs: list[torch.Tensor] = []  # of the updates that nobody has looked at ...
        self._spreads: list[torch.Tensor] = []  # ... and of those before, which a checkpoint holds
        self._n_judged = 0
        self._seconds = 0.0

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self._step

    @property
    def micro_batch(self) -> int | None:
        """Images whose gradients are computed at once, at most [examples]; None: those of a whole batch."""
        return self._gradients.micro_batch

    @property
    def n_steps(self) -> int:
        """Updates of the whole training."""
        return len(self._lrs)

    @property
    def lr(self) -> float:
        """Learning rate of the next update; at the end, of the last one."""
        scale = self._plateau.scale if self._plateau is not None else 1.0
        return self._lrs[min(self._step, len(self._lrs) - 1)] * scale

    def epochs(self) -> Generator[EpochMetrics | Divergence | Paused]:
        """Train epoch by epoch, from where the training stands."""
        order = torch.Generator()
        while self._step < len(self._lrs):
            order.set_state(self._order)
            found = yield from self._train_epoch(order)
            if found is not None:
                yield found
                return
            metrics = self._measure()
            first = self._step - self.steps_per_epoch
            scale = self._plateau.scale if self._plateau is not None else 1.0
            self._watch.epoch(metrics, At(first, self._lrs[first] * scale), self._guess)
            if self._plateau is not None:
                self._plateau.step(metrics.val_loss)
            self._order = order.get_state()
            self._losses, self._n_judged, self._seconds = [], 0, 0.0
            yield metrics
        if (found := self._settled()) is not None:
            yield found

    def losses_at(self, rates: Sequence[float]) -> Generator[list[float]]:
        """Make an update at each of these learning rates instead of the schedule's; yield their losses in blocks.

        Nobody judges them: the training has diverged when whoever asks says so. A block is one wait for the device.
        """
        order, made = torch.Generator(), 0
        order.set_state(self._order)
        networks.to_training(self.model)
        parameters = list(self.model.parameters())
        while made < len(rates):
            for images, labels in islice(self._batches(order, 0), len(rates) - made):
                for group, share in zip(self._optimizer.param_groups, self._groups.shares, strict=True):
                    group["lr"] = rates[made] * share
                loss, _ = self._gradients.of(self._step, images, labels)
                self._update()
                for parameter in parameters:
                    parameter.grad = None
                self._losses.append(loss.detach())
                self._step += 1
                made += 1
                if len(self._losses) == BLOCK or made == len(rates):
                    yield torch.stack(self._losses).tolist()
                    self._losses = []

    def checkpoint(self) -> bytes:
        """Return everything that the rest of the training depends on."""
        return encode(
            Checkpoint(
                decided_by=self._decided_by(),
                step=self._step,
                model=self.model.state_dict(),
                average=self._average.model.state_dict() if self._average is not None else None,
                optimizer=optimizers.state_of(self._optimizer)["state"],
                plateau=self._plateau.state() if self._plateau is not None else None,
                order=self._order,
                losses=torch.stack(self._losses) if self._losses else torch.empty(0),
                n_judged=self._n_judged,
                spreads=self._unseen_spreads(),
                watch=self._watch.state(),
                seconds=self._seconds,
                loss_scale=self._loss_scale.state() if self._loss_scale is not None else None,
                micro_batch=self.micro_batch,
            )
        )

    def restore(self, data: bytes) -> None:
        """Stand where the training stood that ``data`` is the checkpoint of; before the first epoch is asked for.

        That is this one, or one from which it branches: see ``branching``.

        Raises:
            CheckpointError: damaged bytes, or the checkpoint of another training or of another format.
        """
        checkpoint = branching.decode(data, self._decided_by(), self.steps_per_epoch)
        load_state(self.model, checkpoint.model)
        if self._average is not None and checkpoint.average is not None:
            load_state(self._average.model, checkpoint.average)
        # The groups are those of the optimizer as it is built here: fused or not is a matter of this device.
        groups = optimizers.state_of(self._optimizer)["param_groups"]
        optimizers.load_state(self._optimizer, {"state": checkpoint.optimizer, "param_groups": groups})
        if self._plateau is not None and checkpoint.plateau is not None:
            self._plateau.restore(checkpoint.plateau)
        self._step, self._order = checkpoint.step, checkpoint.order
        self._losses, self._n_judged = list(checkpoint.losses.to(self._device).unbind()), checkpoint.n_judged
        self._spreads = [checkpoint.spreads.to(self._device)] if len(checkpoint.spreads) else []
        self._watch = Watch.restored(checkpoint.watch)
        self._seconds = checkpoint.seconds
        if self._loss_scale is not None and checkpoint.loss_scale is not None:
            self._loss_scale.restore(checkpoint.loss_scale)
        self._gradients.go_on_with(checkpoint.micro_batch)

    def weights(self) -> bytes:
        """Return the current raw weights and buffers in the safetensors format."""
        return encode_weights(self.model)

    def validation_right(self) -> bytes | None:
        """Return which validation images the last weights get right, as ``Training.validation_right`` says."""
        labels = self._splits.validation.labels
        if not len(labels):
            return None
        if self._right is None:
            # The last epoch was measured before an interruption.
            keep: list[torch.Tensor] = []
            self._score(self.model, self._splits.validation, keep=keep)
            self._right = torch.cat(keep)
        by_class = self._right[labels.argsort(stable=True)]
        return np.packbits(by_class.cpu().numpy()).tobytes()

    def evaluate(self, images: ImageSet, *, by_class: bool = False) -> Scores:
        """Return what the current weights come to; ``by_class`` counts the images of each class that are right too."""
        return self._scores(self._score(self.model, images, by_class=by_class).tolist())

    def _forward_of(self, model: nn.Module) -> Callable[[torch.Tensor], Any]:
        return precisions.forward_of(model, self._rules.precision or "fp32", self._device)

    def _gradients_of(self, network: Network | None) -> Gradients:
        drawing = None
        if network is not None and network.draws:
            seed, device, elsewhere = self._config.seed, self._device, network.draws_elsewhere

            def drawing(step: int) -> AbstractContextManager[None]:
                return draws.at(seed, step, device, elsewhere=elsewhere)

        return Gradients(
            self.model,
            self._forward_of(self.model),
            self._judge,
            self._room,
            batch_norm=network is not None and network.batch_norm,
            drawing=drawing,
            scaled=None if self._loss_scale is None else self._loss_scale.scaled,
        )

    def _optimizer_of(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = self._groups.of(model, self._config.optimizer.weight_decay)
        return optimizers.build(self._config.optimizer, groups, self._device)

    def _scores(self, measured: list[float]) -> Scores:
        """Make of what ``_score`` measured the numbers that it stands for."""
        loss, accuracy, *counts = measured
        if math.isnan(accuracy):  # there is no image
            return Scores(loss, accuracy, None if self._rules.metric is None else math.nan)
        whole = [round(count) for count in counts]
        if self._rules.metric is None:
            return Scores(loss, accuracy, None, tuple(whole))
        measure, n = METRICS[self._rules.metric].measure, self._splits.n_classes
        assert measure is not None
        confusion, right = [whole[i * n : (i + 1) * n] for i in range(n)], tuple(whole[n * n :])
        return Scores(loss, accuracy, measure(confusion) if math.isfinite(loss) else math.nan, right)

    def _train_epoch(self, order: torch.Generator) -> Generator[Paused, None, Divergence | None]:
        """Make the rest of one pass, its batches in the order that is drawn from ``order``."""
        begun = time.perf_counter() - self._seconds
        epoch = self._step // self.steps_per_epoch + 1
        networks.to_training(self.model)
        scale = self._plateau.scale if self._plateau is not None else 1.0
        gradients, update, average = self._gradients, self._update, self._average
        groups = list(zip(self._optimizer.param_groups, self._groups.shares, strict=True))
        attention, losses, look_every = self._attention, self._losses, self._look_every
        outputs = self._outputs if self._rules.divergence_watch else None
        parameters = list(self.model.parameters())
        for images, labels in self._batches(order, len(losses)):
            if attention is not None and attention.is_set():
                if self._device.type != "cpu":
                    torch.accelerator.synchronize(self._device)  # what is under way there is time of this epoch
                self._seconds = time.perf_counter() - begun
                yield Paused(epoch, self._step)
                begun = time.perf_counter() - self._seconds
            lr = self._lrs[self._step] * scale
            for group, share in groups:
                group["lr"] = lr * share
            loss, logits = gradients.of(self._step, images, labels)
            update()
            for parameter in parameters:
                parameter.grad = None  # what zero_grad() does, without its bookkeeping: 3 % of an update of the mlp
            if average is not None:
                average.update(self._step)
            losses.append(loss.detach())
            if outputs is not None:
                outputs.append(logits)  # until the next look; to detach them would take a hundredth of a small update
            self._step += 1
            if len(losses) - self._n_judged >= look_every and (found := self._look(epoch, scale)) is not None:
                return found
        found = self._look(epoch, scale)
        self._seconds = time.perf_counter() - begun
        return found

    def _look(self, epoch: int, scale: float) -> Divergence | None:
        """Read losses and outputs of the latest updates from the device and judge them."""
        overflowing = None if self._loss_scale is None else self._loss_scale.look()
        if not self._rules.divergence_watch or self._n_judged == len(self._losses):
            return None
        recorded = torch.stack(self._losses[self._n_judged :])
        n = len(recorded)
        flat = None
        if self._outputs:
            # The last batch tells most often: only where it is flat is it looked when that began.
            low, high = self._outputs[-1].detach().aminmax(dim=0)
            values = torch.cat((recorded, low.float(), high.float())).tolist()
            flat = collapse.is_flat(values[n : n + len(low)], values[n + len(low) :], len(self._outputs[-1]))
        else:
            values = recorded.tolist()
        losses: list[float] = values[:n]
        spreads = [math.nan] * n if flat is False else self._unseen_spreads().tolist()
        self._n_judged = len(self._losses)
        self._outputs.clear()
        self._spreads.clear()
        first = self._step - n
        lrs = [lr * scale for lr in self._lrs[first : self._step]]
        watch = self._watch
        index = watch.look(losses, spreads, lrs, first)
        assert watch.initial_loss is not None
        if overflowing is not None and (index is None or overflowing.n <= first + index):
            at = overflowing.n - 1 - first
            return self._overflows(epoch, overflowing, lrs[at], losses[at])
        if index is not None:
            return Divergence(epoch, first + index, lrs[index], losses[index], watch.initial_loss)
        since = watch.flat_from
        # A loss that is far above is about to be called so, at an update that does not depend on this look.
        if (
            since is not None
            and not watch.far_run
            and self._step >= max(watch.proof_from, since.step + self._suspicious)
        ):
            if self._is_dead(scale):
                return self._collapsed(since, losses[-1])
            watch.proof_from = self._step + -(-self.steps_per_epoch // LOOKS_PER_EPOCH)
        return None

    def _unseen_spreads(self) -> torch.Tensor:
        """Return the spreads of the outputs that nobody has looked at, on the device."""
        outputs = [one.detach() for one in self._outputs]
        seen = [*self._spreads, *([collapse.spread(outputs)] if outputs else [])]
        return torch.cat(seen) if seen else torch.empty(0)

    def _settled(self) -> Divergence | None:
        """Judge a training that is over by the losses of all its epochs."""
        if not self._rules.divergence_watch:
            return None
        if self._loss_scale is not None and self._loss_scale.skips.are_all:
            return self._overflows(self._config.epochs, self._loss_scale.skips, self._lrs[-1], self._watch.course.last)
        since = self._watch.settled(self._guess)
        return None if since is None else self._collapsed(since, self._watch.course.last)

    def _collapsed(self, since: At, loss: float) -> Divergence:
        initial = self._watch.initial_loss
        assert initial is not None
        return Divergence(since.step // self.steps_per_epoch + 1, since.step, since.lr, loss, initial, collapsed=True)

    def _overflows(self, epoch: int, skips: Skips, lr: float, loss: float) -> Divergence:
        initial = self._watch.initial_loss
        assert initial is not None
        return Divergence(epoch, skips.n - 1, lr, loss, initial, left_out=skips.n_skipped)

    def _is_dead(self, scale: float) -> bool:
        """Prove that the network is the same for every image and stays so; that takes one to two epochs."""
        left = self._lrs[self._step :]
        config = self._config.optimizer
        if left and collapse.may_come_back(config):
            return False
        splits = self._splits
        self.model.eval()
        by = 1.0 if self._loss_scale is None else self._loss_scale.scale

        def has_died(size: int) -> bool:
            pairs = splits.train.batches(size)
            normal = ((splits.normalize(images), labels) for images, labels in pairs)
            return collapse.is_dead(self.model, normal, self._logits_of(self.model, size), by)

        dead, _ = as_memory_allows(has_died, min(EVALUATION_BATCH, self._gradients.micro_batch or EVALUATION_BATCH))
        left = [lr * scale for lr in left[: collapse.moves_for(config, len(left))]]
        if dead and left:
            rates = [[lr * share for share in self._groups.shares] for lr in left]
            n_images = collapse.proof_images(len(splits.train))
            dead, _ = as_memory_allows(lambda size: self._stays_dead(rates, n_images, size), n_images)
        networks.to_training(self.model)
        return dead

    def _stays_dead(self, rates: list[list[float]], n_images: int, size: int) -> bool:
        """Let a copy go on without a gradient, and look at so many images, ``size`` at once."""
        twin = copy.deepcopy(self.model)
        optimizer = self._optimizer_of(twin)
        optimizers.load_state(optimizer, copy.deepcopy(optimizers.state_of(self._optimizer)))
        images, _ = next(self._splits.train.batches(n_images))
        logits, update = self._logits_of(twin, size), optimizers.updater(optimizer)
        return collapse.stays_dead(logits, optimizer, update, rates, self._splits.normalize(images))

    def _logits_of(self, model: nn.Module, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what computes logits as the training does, of ``size`` images at once."""
        forward = self._forward_of(model)
        return lambda images: torch.cat([outputs.logits_of(forward(some)) for some in images.split(size)])

    def _batches(self, order: torch.Generator, n_behind: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield an epoch's batches after ``n_behind``: images float32 ``[b, c, h, w]``, labels int64 ``[b]``.

        Where images are blended labels are float32 ``[b, 3]``, see ``augment.mixing.mixed_labels``.
        """
        splits, batch, augment = self._splits, self._config.batch_size, self._augment
        first = self._step - n_behind
        rows = splits.train.placed(torch.randperm(len(splits.train), generator=order))
        rows = rows[: self.steps_per_epoch * batch]
        per_image = math.prod(splits.shape)
        batches_per_chunk = max(1, CHUNK_ELEMENTS // (batch * per_image))
        # Chunks begin where they always do: a batch has the same place in memory, which kernels may depend on.
        n_chunks_behind, n_behind = divmod(n_behind, batches_per_chunk)
        first += n_chunks_behind * batches_per_chunk
        for chunk in rows.split(batch * batches_per_chunk)[n_chunks_behind:]:
            images, labels = splits.train.take(chunk)
            if augment is None:
                images = splits.normalize(images)
            else:
                images, labels = augment(images, labels, first, batch)
                first += batches_per_chunk
            yield from islice(zip(images.split(batch), labels.split(batch), strict=True), n_behind, None)
            n_behind = 0

    def _measure(self) -> EpochMetrics:
        begun = time.perf_counter() - self._seconds
        val = self._splits.validation
        keep: list[torch.Tensor] | None = [] if self._step == self.n_steps else None
        raw_scores = self._score(self.model, val, keep=keep)
        scores = [torch.stack(self._losses).to(self._sum_dtype).mean().unsqueeze(0), raw_scores]
        if self._average is not None:
            scores.append(self._score(self._average.model, val))
        self._right = None if not keep else torch.cat(keep)
        # The one wait for the device in this epoch, watch apart.
        train_loss, *measured = torch.cat(scores).tolist()
        n = len(scores[1])
        raw = self._scores(measured[:n])
        averaged = self._scores(measured[n:]) if self._average is not None else None
        scale = self._plateau.scale if self._plateau is not None else 1.0
        return EpochMetrics(
            epoch=self._step // self.steps_per_epoch,
            step=self._step,
            lr=self._lrs[self._step - 1] * scale,
            train_loss=train_loss,
            val_loss=raw.loss,
            val_accuracy=raw.accuracy,
            averaged_val_loss=averaged.loss if averaged else None,
            averaged_val_accuracy=averaged.accuracy if averaged else None,
            seconds=time.perf_counter() - begun,
            val_score=raw.score,
            averaged_val_score=averaged.score if averaged else None,
        )

    def _score(
        self, model: nn.Module, images: ImageSet, *, by_class: bool = False, keep: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return what ``_scored`` does, of as many images at once as memory holds."""

        def scored(size: int) -> torch.Tensor:
            if keep is not None:
                keep.clear()
            return self._scored(model, images, size, by_class=by_class, keep=keep)

        found, self._room.evaluation = as_memory_allows(scored, self._room.evaluation)
        return found

    @torch.no_grad()
    def _scored(
        self, model: nn.Module, images: ImageSet, size: int, *, by_class: bool, keep: list[torch.Tensor] | None
    ) -> torch.Tensor:
        """Return mean loss, accuracy and what the study's metric needs, float64, on the device.

        The confusion of the C classes, where a metric needs it, follows as ``C * C`` counts; then, where asked for
        ``by_class``, how many images of each are right: from ``[2]`` to ``[2 + C * C + C]``. Without images all are
        NaN. Which images are right goes into ``keep``, bool ``[n]`` in parts.
        """
        n = self._splits.n_classes
        n_counts = 0 if self._rules.metric is None else n * n
        n_right = n if by_class else 0
        if not len(images):
            return torch.full((2 + n_counts + n_right,), math.nan, dtype=self._sum_dtype, device=self._device)
        confusion = torch.zeros(n_counts, dtype=self._sum_dtype, device=self._device)
        right = torch.zeros(n_right, dtype=self._sum_dtype, device=self._device)
        model.eval()
        total = torch.zeros(2, dtype=self._sum_dtype, device=self._device)
        forward = self._forward_of(model)
        for x, y in images.batches(size):
            loss, logits = self._judge.summed(forward(self._splits.normalize(x)), y)
            found = logits.argmax(1)
            hits = found == y
            total += torch.stack((loss, hits.sum())).to(total.dtype)
            if keep is not None:
                keep.append(hits)
            if n_counts:
                confusion += torch.bincount(y * n + found, minlength=n * n).to(total.dtype)
            if n_right:
                right += torch.bincount(y[hits], minlength=n).to(total.dtype)
        mean = total / len(images)
        return torch.cat((mean, confusion, right))

    def _decided_by(self) -> str:
        splits = self._splits
        sizes = {
            "n_train": len(splits.train),
            "n_validation": len(splits.validation),  # a plateau follows the validation loss
            "shape": splits.shape,
            "n_classes": splits.n_classes,
        }
        augment = self._rules.augment
        rules = asdict(self._rules) | {"augment": None if augment is None else augment.given}
        return decisions(config=asdict(self._config), model=asdict(self._model_config), rules=rules, data=sizes)

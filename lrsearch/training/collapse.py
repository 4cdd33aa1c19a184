"""When a network has become a constant: pure functions of what a training records, and a proof on the network itself.

A learning rate that is far too high often ends a ReLU network while its loss stays finite: one layer is silent for
every image, the outputs are one vector whatever the image, the loss is that of guessing by the class frequencies, and
no gradient reaches the layers before. Two things are told apart here.

* *Dead*: every training image has the same outputs and the first layer's gradient is zero, and that stays so when the
  optimizer goes on without a gradient (momentum and weight decay move weights too). What is dead cannot come back.
* *Settled*: at the end of the training the mean loss of the last epochs is that of guessing, and accuracy too, after
  the loss had been far above or far below it. A few images may still have outputs of their own; until the end such a
  network can come back, so it is judged there.

The evidence and the error rates: docs/decisions/0020-end-a-collapsed-training.md.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import nn
from torch.nn import functional

from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.training import AugmentSpec
from lrsearch.training.augment import floors
from lrsearch.trial import OptimizerConfig

FLAT = 1e-6
"""Spread of the outputs over a batch, relative to the largest of them, that is rounding: 8 times float32's epsilon."""

GUESSING = 0.98
"""Part of the class entropy from which a loss is that of guessing; both counted from the lowest loss there is."""
FAR_BELOW = 0.8
"""Part of it, counted likewise, below which an epoch's mean loss is that of a network that has learned."""
FAR_ABOVE = 2.0
"""Times the larger of the first loss and the class entropy above which a loss is that of a network blown up."""
STANDARD_ERRORS = 3.0
"""Above the largest class's share, up to which an accuracy is that of guessing."""

SUSPICIOUS = 64
"""Images in a row with the same outputs that make a proof worth its cost [examples]."""
PROOF_LOOKS = 16
"""How often the network is looked at again on its way without a gradient,"""
PROOF_IMAGES = (64, 1024)
"""and on how many training images at least and at most [examples]; in between all looks together see each one once."""
STILL = 1e-12
"""Part of a momentum below which what it still moves is nothing."""


def spread(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return for each batch's outputs ``[b, n_classes]`` how far they spread over its images, ``[k]`` float32.

    Relative to the largest output of that batch; 0 where every image has the same, NaN where an output is no number,
    and infinite for a batch of one image, which says nothing.
    """
    sizes = [len(one) for one in outputs]
    found: list[torch.Tensor] = []
    start = 0
    while start < len(outputs):  # all batches of an epoch have one size, but for its last
        end = start + 1
        while end < len(outputs) and sizes[end] == sizes[start]:
            end += 1
        several = torch.stack(list(islice(outputs, start, end))).float()
        if sizes[start] == 1:
            found.append(torch.full((end - start,), math.inf, device=several.device))
        else:
            widest = (several.amax(1) - several.amin(1)).amax(1)
            found.append(widest / several.abs().amax((1, 2)).clamp_min(torch.finfo(torch.float32).tiny))
        start = end
    return torch.cat(found)


def is_flat(low: Sequence[float], high: Sequence[float], n_images: int) -> bool | None:
    """Whether the outputs of one batch are the same for all its images, by the least and the largest of each class.

    None for a batch of one image, which says nothing.

    >>> is_flat([1.0, -4.0], [1.0, -4.0], 32), is_flat([1.0, -4.0], [1.5, -4.0], 32), is_flat([1.0], [1.0], 1)
    (True, False, None)
    """
    if n_images == 1:
        return None
    widest = max(most - least for most, least in zip(high, low, strict=True))
    largest = max(map(abs, (*low, *high)))
    return widest <= FLAT * largest or widest == 0


def flat_since(spreads: Sequence[float], first: int, run: int | None = None) -> int | None:
    """Return the update from which on all outputs were flat; None where the last ones were not.

    Args:
        spreads: of the updates from ``first`` on; see ``spread``. A batch of one image changes nothing.
        first: the update of the first spread, 0-based.
        run: what the call for the updates before returned.

    >>> flat_since([0.5, 0.0, 0.0], 10)
    11
    >>> flat_since([0.0, 0.3], 13, 11) is None
    True
    """
    for i, value in enumerate(spreads):
        if math.isinf(value):
            continue
        run = (first + i if run is None else run) if value <= FLAT else None
    return run


@dataclass(frozen=True, slots=True)
class Guess:
    """What guessing by the class frequencies scores."""

    entropy: float
    """Its loss on the training images [nats/example]."""
    accuracy: float
    """The highest accuracy that one and the same answer gets by luck [0..1], see ``STANDARD_ERRORS``."""
    floor: float = 0.0
    """The lowest loss that training can come to [nats/example]: above 0 where images have more than one class."""

    def above_floor(self, part: float) -> float:
        """Return the loss that lies so far between the floor (0) and guessing (1)."""
        return self.floor + part * (self.entropy - self.floor)


def guess_of(
    train_labels: torch.Tensor, validation_labels: torch.Tensor, n_classes: int, augment: AugmentSpec | None = None
) -> Guess:
    """Return what guessing scores on these images; labels int64 ``[n]``.

    ``augment`` says whether labels are smoothed, and images blended: then guessing costs the entropy of what labels
    come to, and a network that knows every image pays something too.
    """
    shares = torch.bincount(train_labels.cpu(), minlength=n_classes).double() / max(len(train_labels), 1)
    floor = 0.0
    if augment is not None and augment.of_the_loss:
        floor = floors.lowest_loss(augment, shares)
        shares = floors.smoothed(shares, augment.label_smoothing or 0.0)
    entropy = -torch.special.xlogy(shares, shares).sum().item()
    judged = validation_labels if len(validation_labels) else train_labels
    share = (torch.bincount(judged.cpu(), minlength=n_classes).max() / len(judged)).item()
    return Guess(entropy, share + STANDARD_ERRORS * math.sqrt(share * (1 - share) / len(judged)), floor)


@dataclass(frozen=True, slots=True)
class At:
    """An update and its learning rate."""

    step: int
    """0-based."""
    lr: float


@dataclass(frozen=True, slots=True)
class Course:
    """What is remembered of a training's losses, to know at its end whether it has settled at those of guessing."""

    highest: float = -math.inf
    """The highest loss of an update after the first."""
    highest_at: At | None = None
    lowest: float = math.inf
    """The lowest mean loss of an epoch."""
    last: float = math.nan
    """The mean loss of the last epoch."""
    accuracy: float = math.nan
    """On the validation images after the last epoch [0..1]; NaN where there are none."""
    guessing_from: At | None = None
    """The first update of the epochs at the end whose mean loss is that of guessing."""

    def after(self, losses: Sequence[float], lrs: Sequence[float], first: int) -> "Course":
        """Return the course after these losses of updates and their learning rates, from the update ``first`` on."""
        found = max(range(1 if first == 0 else 0, len(losses)), key=losses.__getitem__, default=None)
        if found is None or not losses[found] > self.highest:
            return self
        return replace(self, highest=losses[found], highest_at=At(first + found, lrs[found]))

    def after_epoch(self, mean: float, accuracy: float, began: At, guess: Guess) -> "Course":
        """Return the course after an epoch that began there, with its mean loss and the accuracy after it."""
        since = None if mean < guess.above_floor(GUESSING) else self.guessing_from or began
        return replace(self, lowest=min(self.lowest, mean), last=mean, accuracy=accuracy, guessing_from=since)


def settled(course: Course, initial_loss: float, guess: Guess) -> At | None:
    """Return from where on a training that is over did nothing but guess, after it had been elsewhere.

    That is the update of its highest loss, or the first of the epochs at its end that only guessed, whichever is later.
    None for one that learned, and for one that never left the loss it began with: it was slow.

    >>> guess, start = Guess(2.303, 0.14), At(0, 0.1)
    >>> settled(Course(47.0, At(12, 0.3), lowest=2.31, accuracy=0.11, guessing_from=start), 2.3, guess)
    At(step=12, lr=0.3)
    >>> settled(Course(2.34, At(1, 0.1), lowest=2.29, accuracy=0.11, guessing_from=start), 2.3, guess) is None
    True
    """
    since, blown = course.guessing_from, course.highest_at
    if since is None or not course.accuracy <= guess.accuracy:
        return None
    far_above = course.highest > FAR_ABOVE * max(initial_loss, guess.entropy)
    far_below = course.lowest < guess.above_floor(FAR_BELOW)
    if not (far_above or far_below):
        return None
    return blown if far_above and blown is not None and blown.step > since.step else since


def is_dead(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    logits: Callable[[torch.Tensor], torch.Tensor] | None = None,
    loss_scale: float = 1.0,
) -> bool:
    """Whether the outputs are the same for all images and no gradient reaches the first layer; ends at the first no.

    Args:
        model: as it trains.
        batches: normalised images float32 ``[b, c, h, w]`` and labels int64 ``[b]``.
        logits: returns its outputs for images, where these are not what the model itself returns.
        loss_scale: what the loss is multiplied by, so that no gradient is lost to fp16.
    """
    first = next(p for p in model.parameters() if p.requires_grad)
    same: torch.Tensor | None = None
    for images, labels in batches:
        outputs = (logits or model)(images)
        loss = functional.cross_entropy(outputs, labels) * loss_scale
        gradient = torch.autograd.grad(loss, first)[0]
        outputs = outputs.detach()
        same = outputs[:1] if same is None else same
        flat = (outputs - same).abs().amax() <= FLAT * same.abs().amax()
        if not bool(flat & (gradient == 0).all()):
            return False
    return same is not None


def may_come_back(optimizer: OptimizerConfig) -> bool:
    """Whether weight decay alone may wake a dead network, in ways that cannot be foreseen.

    Adam and RMSprop divide the decay, as if it were a gradient, by its own size: each weight moves by about the
    learning rate, whatever the decay, and swings around 0. Such networks were seen to come back after epochs of death.
    SGD and AdamW shrink all weights by one factor, which ``stays_dead`` follows.
    """
    return OPTIMIZERS[optimizer.name].decay_in_gradient and optimizer.weight_decay > 0


def moves_for(optimizer: OptimizerConfig, n_left: int) -> int:
    """Return for how many updates the optimizer moves weights that have no gradient, at most ``n_left``."""
    if optimizer.weight_decay > 0:
        return n_left
    momentum = OPTIMIZERS[optimizer.name].momentum(optimizer)
    return min(n_left, math.ceil(math.log(STILL) / math.log(momentum)) if momentum > 0 else 0)


def proof_images(n_train: int) -> int:
    """Return on how many of the training images each look of a proof is.

    >>> proof_images(800), proof_images(8_000), proof_images(50_000)
    (64, 500, 1024)
    """
    least, most = PROOF_IMAGES
    return max(least, min(most, n_train // PROOF_LOOKS))


def stays_dead(
    logits: Callable[[torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    update: Callable[[], None],
    lrs: Sequence[Sequence[float]],
    images: torch.Tensor,
) -> bool:
    """Whether the outputs stay the same for all ``images`` while the optimizer goes on without a gradient.

    Args:
        logits: returns the outputs of a copy of the model for images.
        optimizer: of the copy's parameters, in the state of the training's; this changes them.
        update: makes one update of it.
        lrs: the learning rates to come, of each of its groups.
        images: normalised, float32 ``[n, c, h, w]``.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    looks = {round(len(lrs) * (i / PROOF_LOOKS) ** 2) for i in range(1, PROOF_LOOKS + 1)}  # momentum acts at first
    for n, rates in enumerate(lrs, start=1):
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        update()
        if n in looks:
            with torch.no_grad():
                if not spread([logits(images)]).item() <= FLAT:
                    return False
    return True

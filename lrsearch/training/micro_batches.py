"""The gradients of an update, computed of as many images at once as memory holds, and added up.

An update is one of its whole batch however it is computed: the loss of each part counts by what its images count in the
mean over the batch. Without batch norm the sum is the gradient of the whole batch to rounding, and nothing else sees
the parts: schedule, average and watch count updates. What looks at a batch as a whole, batch norm, sees a part.
"""

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from lrsearch.spec.training import LEAST_WITH_BATCH_NORM
from lrsearch.training.device import is_out_of_memory
from lrsearch.training.networks import Judge

log = logging.getLogger(__name__)

EVALUATION_BATCH = 512
"""[examples]"""
N_FIRST = 3
"""Updates of a training, or of its rest, after which memory holds all that it ever will: the weights' gradients, the
optimizer's state and the average are there."""
PARTS_TRIED = (5, 3)
"""Images of the parts by which a loss is asked whether it adds up [examples]."""
CLOSE = 1e-3
"""Relative difference of two losses that is rounding."""

T = TypeVar("T")


@dataclass
class Room:
    """How many images the trainings of an engine compute at once; one that ran out of memory told the others."""

    micro_batch: int | None = None
    """Whose gradients are computed at once [examples]; None: of a whole batch."""
    evaluation: int = EVALUATION_BATCH
    """That are evaluated at once [examples]."""
    ran_out: bool = False
    """Whether ``micro_batch`` is what was found as memory ran out."""
    has_asked: bool = False
    """Whether it is known that a person's own loss adds up, or was said that it does not."""

    def found(self, micro_batch: int) -> None:
        """Note that memory holds no more than so many images."""
        self.micro_batch = micro_batch if self.micro_batch is None else min(micro_batch, self.micro_batch)
        self.ran_out = True


def as_memory_allows(work: Callable[[int], T], size: int) -> tuple[T, int]:
    """Return what ``work`` returns, which computes at most ``size`` images at once, and the size with which it did.

    Where memory runs out it is done again with half as many, down to one.
    """
    while True:
        try:
            return work(size), size
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        size //= 2
        free_memory()


def free_memory() -> None:
    """Give back what nobody holds any more; after the handling of an error, whose traceback holds a great deal."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


class Gradients:
    """Computes the gradients of one training's updates.

    Args:
        model: what is trained.
        forward: computes its output.
        judge: makes a loss of that.
        room: how many images are computed at once.
        batch_norm: whether the model normalises by batch.
        drawing: what an update is computed within, by its number, so that what it draws can be drawn again.
        scaled: makes of a loss what is gone backward from; None: the loss itself.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[torch.Tensor], Any],
        judge: Judge,
        room: Room,
        *,
        batch_norm: bool = False,
        drawing: Callable[[int], AbstractContextManager[None]] | None = None,
        scaled: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self._forward, self._judge, self._room = forward, judge, room
        self._drawing, self._scaled = drawing, scaled
        self._parameters, self._buffers = list(model.parameters()), list(model.buffers())
        self._least = LEAST_WITH_BATCH_NORM if batch_norm else 1
        self._kept: list[torch.Tensor] | None = None  # the buffers as they were before the update
        self._n_keeping = N_FIRST
        self._in_training, self._is_plain = judge.in_training, drawing is None and scaled is None
        self.micro_batch = room.micro_batch
        """Images of a part, at most [examples]; None: a whole batch."""

    def go_on_with(self, micro_batch: int | None) -> None:
        """Compute as a training did that goes on here, or of fewer images where memory is known to hold fewer."""
        known = [size for size in (micro_batch, self._room.micro_batch) if size is not None]
        self.micro_batch = min(known, default=None)

    def of(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradients of an update to those of the parameters; return its loss, and its outputs ``[b, C]``.

        Where memory runs out the update begins again in smaller parts.

        Args:
            step: number of the update, 0-based.
            images: of the batch, ``[b, c, h, w]``.
            labels: ``[b]``.

        Raises:
            RuntimeError: memory runs out and cannot be spared.
        """
        if self._buffers:
            self._kept = [one.clone() for one in self._buffers] if self._n_keeping > 0 else None
            self._n_keeping -= 1
        while True:
            try:
                if self._is_plain and self.micro_batch is None:
                    # Most trainings: a call more would be felt, of an update of a small network.
                    loss, logits = self._in_training(self._forward(images), labels)
                    loss.backward()
                    return loss, logits
                with nullcontext() if self._drawing is None else self._drawing(step):
                    return self._computed(images, labels)  # a checkpointed layer draws again as it goes backward
            except (RuntimeError, MemoryError) as error:
                if not self._begins_again(error, len(images)):
                    raise
            # Here, where nothing holds the traceback of the error and the tensors in it any more.
            free_memory()

    def _computed(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.micro_batch is not None and len(images) > self.micro_batch:
            return self._in_parts(images, labels, part_sizes(len(images), self.micro_batch, self._least))
        loss, logits = self._in_training(self._forward(images), labels)
        (loss if self._scaled is None else self._scaled(loss)).backward()
        return loss, logits

    def _in_parts(
        self, images: torch.Tensor, labels: torch.Tensor, sizes: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts = labels.split(sizes)
        masses = [self._judge.mass(part) for part in parts]
        whole = sum(masses)
        losses, outputs = [], []
        for some, of, mass in zip(images.split(sizes), parts, masses, strict=True):
            loss, logits = self._in_training(self._forward(some), of)
            loss = loss * (mass / whole)
            (loss if self._scaled is None else self._scaled(loss)).backward()
            losses.append(loss.detach())
            outputs.append(logits.detach())
        if not (self._judge.plain or self._room.has_asked):
            self._room.has_asked = True
            self._ask_whether_it_adds_up(outputs[0].shape[1], labels.device)
        return torch.stack(losses).sum(), torch.cat(outputs)

    def _ask_whether_it_adds_up(self, n_classes: int, device: torch.device) -> None:
        judge, n = self._judge, sum(PARTS_TRIED)
        logits = torch.randn(n, n_classes, generator=torch.Generator().manual_seed(0)).to(device)
        labels = torch.arange(n, device=device) % n_classes
        whole = judge.in_training(logits, labels)[0] * judge.mass(labels)
        pairs = zip(logits.split(PARTS_TRIED), labels.split(PARTS_TRIED), strict=True)
        in_parts = sum(judge.in_training(some, of)[0] * judge.mass(of) for some, of in pairs)
        if not torch.allclose(whole, torch.as_tensor(in_parts, device=device), rtol=CLOSE):
            log.warning(
                "model.loss is not the mean over the images of what each of them costs by itself: computed in parts of "
                "at most %d images (training.micro_batch) it is not the loss of the whole batch",
                self.micro_batch,
            )

    def _begins_again(self, error: Exception, n_images: int) -> bool:
        """Whether the update can be computed in smaller parts; then all is as it was before it, but for the memory."""
        n_before = n_images if self.micro_batch is None else min(n_images, self.micro_batch)
        if not is_out_of_memory(error) or n_before // 2 < self._least:
            return False
        self._room.found(n_before // 2)
        for parameter in self._parameters:
            parameter.grad = None
        if self._buffers and self._kept is None:
            return False  # they have moved; the training starts again from its checkpoint, in smaller parts
        for buffer, kept in zip(self._buffers, self._kept or (), strict=True):
            buffer.copy_(kept)
        self.micro_batch = n_before // 2
        log.warning(
            "memory does not hold the gradients of %d images at once: from here on those of at most %d are computed, "
            "and added up; the batch sizes stay%s",
            n_before,
            self.micro_batch,
            " (batch norm sees the parts)" if self._least > 1 else "",
        )
        return True


def part_sizes(n_images: int, micro_batch: int, least: int = 1) -> list[int]:
    """Return the sizes of the parts of a batch, as equal as can be: at most ``micro_batch``, and not below ``least``.

    ``least`` goes before: of three images and parts of two, one part of three.

    >>> part_sizes(100, 32), part_sizes(7, 3), part_sizes(3, 2, least=2)
    ([25, 25, 25, 25], [3, 2, 2], [3])
    """
    n_parts = max(1, min(-(-n_images // micro_batch), n_images // least))
    each, more = divmod(n_images, n_parts)
    return [each + 1] * more + [each] * (n_parts - more)

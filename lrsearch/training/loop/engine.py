"""The engine of a person's own loop: it hands over the setting, takes what every epoch came to, and can go on with it.

A generator function yields its epochs. A plain function, whose framework calls back (Lightning, Transformers), calls
``run.report``: it runs in a greenlet of its own then, which stands still there, in the same thread.
"""

import contextvars
import gc
import inspect
import logging
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import torch

from lrsearch import own_code
from lrsearch.training import device as devices
from lrsearch.training.checkpoint import decisions, encode_weights
from lrsearch.training.engine import Attention, Paused, TestResult
from lrsearch.training.loop import state as states
from lrsearch.training.loop.faults import LoopError
from lrsearch.training.loop.run import LeftLoop, LoopRules, Run
from lrsearch.trial import Divergence, EpochMetrics, Facts, TrialConfig

log = logging.getLogger(__name__)

StepsOf = Callable[[int], int]
"""From a batch size to the updates of an epoch."""


class LoopEngine:
    """Trains by a person's own loop.

    Args:
        loop: the function.
        args: keywords for it.
        steps_of: the updates of an epoch.
        device: where to train.
        rules: what holds for every training.
        facts: what is known of it.
    """

    def __init__(
        self,
        loop: own_code.OwnFunction,
        args: dict[str, Any],
        steps_of: StepsOf,
        device: torch.device,
        rules: LoopRules,
        facts: Facts,
    ) -> None:
        self._loop, self._args, self._steps_of = loop, args, steps_of
        self._device, self._rules, self.facts = device, rules, facts
        self._last: weakref.ref[Run] | None = None

    @property
    def device(self) -> str:
        """The device in words."""
        return devices.describe(self._device)

    @property
    def versions(self) -> str:
        """What bitwise repetition depends on."""
        return devices.versions()

    def start(
        self, config: TrialConfig, checkpoint: bytes | None = None, attention: Attention | None = None
    ) -> "LoopTraining":
        """Build the training of ``config``, at its first update or where ``checkpoint`` left off.

        Raises:
            CheckpointError: damaged bytes, or the checkpoint of another training.
        """
        if self._last is not None and self._last() is not None:
            # A framework that points in circles: until Python looks for these, its memory and its processes stay.
            gc.collect()
        run = Run(config, self._steps_of(config.batch_size), self._rules, self._device, attention, self.facts.network)
        self._last = weakref.ref(run)
        return LoopTraining(self._loop, self._args, run, checkpoint)

    def test(
        self, config: TrialConfig, weights: bytes | None = None, attention: Attention | None = None
    ) -> TestResult | Divergence | None:
        """Return None: a person's loop knows no test set that lrsearch could keep apart."""
        del config, weights, attention
        return None


class LoopTraining:
    """One setting being trained by a person's loop."""

    def __init__(
        self, loop: own_code.OwnFunction, args: dict[str, Any], run: Run, checkpoint: bytes | None = None
    ) -> None:
        self._loop, self._args, self.run = loop, args, run
        self._decided_by = decisions(config=asdict(run.config), loop={"code": loop.sha256, "args": args})
        if checkpoint is not None:
            state = states.decode(checkpoint, self._decided_by)
            run.resumed_from = lambda kept: states.put_back(run, state, kept)
        self._stands_at_an_epoch = False

    def epochs(self) -> Iterator[EpochMetrics | Divergence | Paused]:
        """Train epoch by epoch; a Paused is the last thing said of a loop that has been left within an epoch."""
        told, run = self._told(), self.run
        begun, n_epochs = time.perf_counter(), 0
        try:
            while (found := self._next(told)) is not None:
                self._check(found)
                n_epochs = found.epoch
                self._stands_at_an_epoch = True
                # A loop may tell from within its evaluation, and these belong to the thread.
                with torch.inference_mode(mode=False), torch.enable_grad():
                    yield replace(found, seconds=time.perf_counter() - begun)
                begun = time.perf_counter()
                self._stands_at_an_epoch = False
        finally:
            left = run.left
            self._close(told)
        if left is not None:
            paused = Paused(run.updates // run.steps_per_epoch + 1, run.updates)
            yield paused if left.divergence is None else left.divergence
            return
        if n_epochs < run.config.epochs:
            raise LoopError(
                f"loop.name: {self._loop.code} ended after {n_epochs} of the {run.config.epochs} epochs of the study: "
                f"go on to run.config.epochs, from what run.resume() returns if it is called"
            )

    def checkpoint(self) -> bytes | None:
        """Return where the loop stands, after an epoch; None within one, and of a loop that cannot be kept."""
        return states.encode(self.run, self._decided_by) if self._stands_at_an_epoch else None

    def weights(self) -> bytes | None:
        """Return the weights of the model that the loop has shown; None where it has shown none."""
        model = self.run.model
        return None if model is None else encode_weights(model)

    def validation_right(self) -> None:
        """Return nothing: only the loop knows its images."""
        return

    def _told(self) -> Generator[EpochMetrics]:
        """Yield what the loop tells."""
        states.seed_everything(self.run.config.seed)
        if inspect.isgeneratorfunction(self._loop.function):
            made: Generator[EpochMetrics] = self._loop.function(self.run, **self._args)
            return made
        return _reported(lambda: self._loop.function(self.run, **self._args), self.run)

    def _next(self, told: Generator[EpochMetrics]) -> EpochMetrics | None:
        """Return the next epoch; None where the loop has ended, or has been left."""
        try:
            return next(told, None)
        except LeftLoop:
            return None
        except own_code.OwnCodeError as error:
            raise type(error)(f"loop.name: {error}{own_code.at(error, self._loop.path)}") from error
        except (Exception, SystemExit) as error:
            if self.run.left is not None:
                return None  # what a framework has made of it
            if isinstance(error, SystemExit):
                # So Lightning ends where it hears SIGTERM, or Ctrl-C, before the loop makes its next update.
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise error.__context__ from None
                if self.run.must_leave():
                    self.run.left = LeftLoop()
                    return None
            if devices.is_out_of_memory(error):
                raise
            said = f"{own_code.said(error)}{own_code.at(error, self._loop.path)}"
            raise own_code.OwnCodeError(f"loop.name: {self._loop.code} raised {said}") from error

    def _close(self, told: Generator[EpochMetrics]) -> None:
        """Have the loop put away what it has open; should it go on regardless, it is told again at each update."""
        self.run.left = self.run.left or LeftLoop()
        try:
            told.close()
        except LeftLoop:
            pass
        except (Exception, SystemExit) as error:
            log.warning("loop.name: %s raised %s as it was ended", self._loop.code, own_code.said(error))

    def _check(self, found: object) -> None:
        if not isinstance(found, EpochMetrics):
            raise LoopError(
                f"loop.name: {self._loop.code} must yield what run.epoch(...) returns, and yielded {found!r:.80}"
            )


def _reported(function: Callable[[], object], run: Run) -> Generator[EpochMetrics]:
    """Yield what a plain function reports; closing it ends the function where it stands."""
    from greenlet import getcurrent, greenlet

    def hand_over(found: EpochMetrics) -> None:
        if getcurrent() is not other:
            raise LoopError("run.report() must be called in the thread in which the loop itself was")
        here.switch(found)

    here = getcurrent()
    run.hand_over = hand_over
    other = greenlet(function, parent=here)
    other.gr_context = contextvars.copy_context()
    try:
        found = other.switch()
        while not other.dead:
            yield found
            found = other.switch()
    finally:
        run.hand_over = None
        if not other.dead:
            with suppress(LeftLoop):
                other.throw(LeftLoop())

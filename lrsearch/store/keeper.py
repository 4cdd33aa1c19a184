"""Keeps a worker's lease alive while it trains, and asks the training to pause when something is due.

A thread of its own: PyTorch gives up Python's lock while it computes, so neither a busy GPU nor a long epoch can starve
it. The training looks at one flag before every update; whatever is due, it finds it set, stands still between two
updates and asks what it is. A worker that does not answer for ``no_progress_seconds`` hangs: its trial is given back
and its process ends.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from lrsearch.errors import EXIT_FAILURE, StorageError
from lrsearch.spec.study import WorkersSpec
from lrsearch.store.claims import Claim, Claims
from lrsearch.trial import Reason

log = logging.getLogger(__name__)

LEAST_TICK_SECONDS = 0.02
POLL_SECONDS = 0.1
"""Between two looks at whether to leave, while a worker waits."""


class Leave:
    """Whether this process was asked to leave, and why; a signal handler may set it at any moment: no lock."""

    def __init__(self) -> None:
        self.reason: Reason | None = None

    def ask(self, reason: Reason) -> None:
        """Ask; the first reason holds."""
        self.reason = self.reason or reason

    @property
    def asked(self) -> bool:
        """Whether it was asked."""
        return self.reason is not None

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is asked."""
        until = time.monotonic() + seconds
        while not self.asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))


class Due(StrEnum):
    """What a training that stands still is to do."""

    NOTHING = "nothing"
    CHECKPOINT = "checkpoint"
    RELEASE = "release"
    """Keep the state and give the trial back."""
    LOST = "lost"
    """Drop the trial: another worker has it."""
    TIMED_OUT = "timed_out"


@dataclass
class _Watch:
    """The trial in hand. Written by both threads, one field at a time."""

    claim: Claim
    trained_before: float
    checkpoint_at: float
    progress_at: float
    training: bool = False
    trained: float = 0.0
    training_since: float = 0.0
    lost: bool = False
    stopped: bool = False
    ended: bool = False
    """Whether the training was told to end here: it cannot go on, whatever is asked since."""


class Keeper:
    """One worker's keeper: ``with Keeper(claims, leave) as keeper: ...``.

    Args:
        claims: whose leases to renew.
        leave: whether the process was asked to leave.
        clock: seconds that never go back.
        hang: what is called, with a sentence, when the training does not answer any more; it ends the process.
    """

    def __init__(
        self,
        claims: Claims,
        leave: Leave,
        clock: Callable[[], float] = time.monotonic,
        hang: Callable[[str], None] | None = None,
    ) -> None:
        self.leave = leave
        self.rules: WorkersSpec = claims.study.spec.workers
        self._claims, self._clock = claims, clock
        self._hang = hang or _end_process
        self._asked = False
        self._watch: _Watch | None = None
        self._beat_at = clock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lrsearch-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._claims.study.database.leaving = lambda: self.leave.asked
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        with suppress(StorageError):
            self._claims.leave()

    def is_set(self) -> bool:
        """Whether the training is to stand still: what ``training.engine.Attention`` asks before every update."""
        return self._asked or self.leave.reason is not None

    def ends(self) -> bool:
        """Whether the training is to end here for now; that it asks is progress."""
        watch, now = self._watch, self._clock()
        assert watch is not None
        watch.ended = watch.lost or watch.stopped or self.leave.asked or self._is_overdue(watch, now)
        if not watch.ended:
            self._asked = False
            watch.progress_at = now
        return watch.ended

    @contextmanager
    def watching(self, claim: Claim) -> Iterator[None]:
        """Keep the lease of a trial while it is in hand."""
        now = self._clock()
        before = sum(row.seconds for row in claim.trial.metrics)
        self._watch = _Watch(claim, before, checkpoint_at=now, progress_at=now)
        self._asked = False
        try:
            yield
        finally:
            self._watch = None

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count the time inside as training; a worker that waits for the database does not hang."""
        watch = self._watch
        assert watch is not None
        watch.training_since = watch.progress_at = self._clock()
        watch.training = True
        try:
            yield
        finally:
            watch.training = False
            watch.trained += self._clock() - watch.training_since

    def due(self) -> Due:
        """Return what the training, which stands still now, is to do; that it stands still is progress."""
        watch, now = self._watch, self._clock()
        assert watch is not None
        self._asked = False
        watch.progress_at = now
        if watch.lost:
            return Due.LOST
        if self._is_overdue(watch, now):
            return Due.TIMED_OUT
        if self.leave.asked or watch.stopped or watch.ended:
            return Due.RELEASE
        return Due.CHECKPOINT if now - watch.checkpoint_at >= self.rules.checkpoint_seconds else Due.NOTHING

    def _is_overdue(self, watch: _Watch, now: float) -> bool:
        limit = self.rules.trial_seconds
        under_way = now - watch.training_since if watch.training else 0.0
        return limit is not None and watch.trained_before + watch.trained + under_way > limit

    def checkpointed(self) -> None:
        """Note that the state of the training has been kept."""
        assert self._watch is not None
        self._watch.checkpoint_at = self._clock()

    @property
    def stopped(self) -> bool:
        """Whether the trial in hand is to be released because the study was stopped."""
        return self._watch is not None and self._watch.stopped

    def tick(self) -> None:
        """Do what is due now; the thread calls it again and again."""
        now, watch = self._clock(), self._watch
        if watch is not None:
            silent = now - watch.progress_at
            if watch.training and silent > self.rules.no_progress_seconds:
                self._give_up(watch, silent)
                return
            self._asked = True
        if now - self._beat_at < self.rules.heartbeat_seconds:
            return
        self._beat_at = now
        # Without patience: the next beat is the next try, and the training itself says what is wrong.
        with suppress(StorageError):
            ours, stopped = self._claims.beat(watch.claim if watch is not None else None)
            if watch is not None:
                watch.lost = not ours
                watch.stopped = stopped == "now"

    def _give_up(self, watch: _Watch, silent: float) -> None:
        sentence = f"no update for {silent:.0f} s (workers.no_progress_seconds is {self.rules.no_progress_seconds:g})"
        with suppress(StorageError):
            self._claims.release(watch.claim, Reason.STALLED, sentence)
        self._hang(f"trial {watch.claim.trial.number}: {sentence}: this worker ends, the trial goes on elsewhere")

    def _run(self) -> None:
        while not self._done.wait(self._tick_seconds):
            try:
                self.tick()
            except Exception as error:
                # Without its keeper a worker would lose every trial.
                log.error("a defect of lrsearch: the keeper of the leases: %s: %s", type(error).__name__, error)  # noqa: TRY400
                log.debug("the traceback", exc_info=True)

    @property
    def _tick_seconds(self) -> float:
        rules = self.rules
        periods = [rules.heartbeat_seconds, rules.no_progress_seconds / 4]
        if rules.checkpoint_seconds > 0:
            periods.append(rules.checkpoint_seconds)
        if rules.trial_seconds is not None:
            periods.append(rules.trial_seconds / 4)
        return max(LEAST_TICK_SECONDS, min(periods))


def _end_process(sentence: str) -> None:
    log.error("%s", sentence)
    # Whatever hangs holds this process: nothing but its end helps.
    os._exit(EXIT_FAILURE)

"""Trying again what a database does not answer for the moment: its server restarts, the network is down."""

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from sqlalchemy import exc
from tenacity import RetryCallState, Retrying, retry_if_exception

from lrsearch.store import explain
from lrsearch.store.explain import explained, passes
from lrsearch.store.opening import connected
from lrsearch.store.places import Place, PostgresServer

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_DELAY_SECONDS = 5.0
"""Between two tries."""

TRANSIENT = (exc.DBAPIError, StorageInternalError)
"""What may pass; ``explain.passes`` says whether it does."""

COLLISIONS = 8
"""A transaction that collides with another one is begun again at once so many times in a row."""
REFUSED_SECONDS = 60.0
"""For so long a server is waited for that was not reached before and where nothing listens: it may be restarting, and
the port may be a wrong one."""


def reach(place: Place, seconds: float) -> None:
    """Wait for a server that is being restarted, before the first word with it; all else is said at once.

    Args:
        place: of a database; a file needs no waiting.
        seconds: for how long; 0 does not wait.

    Raises:
        StorageError: it does not answer by then, or never will.
    """
    if not seconds or not isinstance(place, PostgresServer):
        return

    def ask() -> None:
        with closing(connected(place)) as connection:
            connection.execute(sa.text("SELECT 1"))

    again(place, ask, seconds, new=True)


def again(
    place: Place,
    once: Callable[[], T],
    seconds: float,
    *,
    leaving: Callable[[], bool] = lambda: False,
    give_up: Callable[[], None] = lambda: None,
    new: bool = False,
) -> T:
    """Call ``once``, and again while the database does not answer for the moment; return its result.

    Args:
        place: the database.
        once: what to call; it may have been done although its answer was lost.
        seconds: for how long to try; 0 does not wait.
        leaving: whether to give up waiting; asked again and again.
        give_up: called when it has waited for nothing.
        new: whether the database has never been reached before, and may not be where it is looked for.

    Raises:
        StorageError: it did not answer by then, or said what does not pass.
    """
    with explained(place):
        try:
            return once()
        except TRANSIENT as error:
            if not passes(error):
                raise
            first: Exception | None = error

        def after_the_first() -> T:
            nonlocal first
            if first is not None:
                error, first = first, None
                raise error
            return once()

        patience = _Patience(place, seconds, leaving, new=new)
        retrying = Retrying(
            retry=retry_if_exception(patience.allows),
            stop=patience.is_at_its_end,
            wait=patience.until_the_next,
            sleep=patience.sleep,
            reraise=True,
        )
        try:
            result = retrying(after_the_first)
        except TRANSIENT:
            if patience.lost_at is not None:
                give_up()
            raise
        if patience.lost_at is not None:
            log.warning("%s answers again after %.1f s", place, time.monotonic() - patience.lost_at)
        return result


class _Patience:
    """How long to wait, and for how long in all: what ``tenacity`` asks after each try that failed."""

    def __init__(self, place: Place, seconds: float, leaving: Callable[[], bool], *, new: bool) -> None:
        self.lost_at: float | None = None
        """When the database was first found not to answer."""
        self._place, self._seconds, self._leaving, self._new = place, seconds, leaving, new
        self._renewed, self._collisions, self._delay = False, 0, 0.05
        self._at_once, self._wait = False, 0.0

    def allows(self, error: BaseException) -> bool:
        """Whether an error is one to try again after, and how: asked first, after each try that failed."""
        if not isinstance(error, TRANSIENT) or not passes(error):
            return False
        collided = self._collisions < COLLISIONS and explain.collided(error)
        self._at_once = collided or (not self._renewed and _was_cut(error))
        if not self._renewed and _was_cut(error):
            # While it lay in the pool, most often: all of the pool's are new now. (pool_pre_ping would ask before
            # every transaction, and make half of all that a worker has.)
            self._renewed = True
            self._wait = 0.0
        elif collided:
            self._collisions += 1
            self._wait = 0.01 * random.random() * 2**self._collisions  # noqa: S311 - no secret
        else:
            if self._new:
                self._seconds = min(self._seconds, _first_seconds(error, self._seconds))
            if self.lost_at is None:
                self.lost_at = time.monotonic()
                if self._seconds:
                    said = explain.sentence(self._place, error)
                    log.warning("%s; trying again for %.0f s", said, self._seconds)
            # Not all workers at once: a server that has just started is slow.
            self._wait = self._delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)
        return True

    def until_the_next(self, _tried: RetryCallState) -> float:
        """Return the seconds until the next try."""
        return self._wait

    def is_at_its_end(self, _tried: RetryCallState) -> bool:
        """Whether to give up."""
        if self._at_once or self.lost_at is None:
            return False
        return time.monotonic() - self.lost_at >= self._seconds or self._leaving()

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until this process is asked to leave."""
        if self._at_once:
            time.sleep(seconds)
            return
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._leaving():
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))


def _first_seconds(error: Exception, seconds: float) -> float:
    """Return for how long to wait for a server that was never reached."""
    if explain.comes_back(error):
        return seconds
    return REFUSED_SECONDS if explain.nothing_listens(error) else 0.0


def _was_cut(error: Exception) -> bool:
    """Whether a connection that stood was lost, unlike one that could not be made."""
    cause = error if isinstance(error, exc.DBAPIError) else error.__cause__
    return isinstance(cause, exc.DBAPIError) and cause.connection_invalidated

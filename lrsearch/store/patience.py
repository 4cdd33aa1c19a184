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

from lrsearch.store import explain
from lrsearch.store.connecting import connected
from lrsearch.store.explain import explained, passes
from lrsearch.store.places import Place, PostgresServer

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_DELAY_SECONDS = 5.0
"""Between two tries."""

COLLISIONS = 8
"""So often in a row a transaction is begun again at once that another one was in the way of, whoever waits for it."""
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
    lost_at: float | None = None
    renewed, collisions = False, 0
    delay = 0.05
    with explained(place):
        while True:
            try:
                result = once()
            except (exc.DBAPIError, StorageInternalError) as error:
                if not passes(error):
                    raise
                if not renewed and _was_cut(error):
                    # While it lay in the pool, most often: all of the pool's are new now. (pool_pre_ping would ask
                    # before every transaction, and make half of all that a worker has.)
                    renewed = True
                    continue
                if collisions < COLLISIONS and explain.collided(error):
                    collisions += 1
                    time.sleep(0.01 * random.random() * 2**collisions)  # noqa: S311 - no secret
                    continue
                if new:
                    seconds = min(seconds, _first_seconds(error, seconds))
                if lost_at is None:
                    lost_at = time.monotonic()
                    if seconds:
                        said = explain.sentence(place, error)
                        log.warning("%s; trying again for %.0f s", said, seconds)
                if time.monotonic() - lost_at >= seconds or leaving():
                    give_up()
                    raise
            else:
                if lost_at is not None:
                    log.warning("%s answers again after %.1f s", place, time.monotonic() - lost_at)
                return result
            # Not all workers at once: a server that has just started is slow.
            until = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            while time.monotonic() < until and not leaving():
                time.sleep(min(0.1, max(0.0, until - time.monotonic())))
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)


def _first_seconds(error: Exception, seconds: float) -> float:
    """Return for how long to wait for a server that was never reached."""
    if explain.comes_back(error):
        return seconds
    return REFUSED_SECONDS if explain.nothing_listens(error) else 0.0


def _was_cut(error: Exception) -> bool:
    """Whether a connection that stood was lost, unlike one that could not be made."""
    cause = error if isinstance(error, exc.DBAPIError) else error.__cause__
    return isinstance(cause, exc.DBAPIError) and cause.connection_invalidated

"""What a worker does in a process that somebody else started, on this machine or on a node of a cluster."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lrsearch import errors
from lrsearch.events import Event
from lrsearch.store.keeper import Leave
from lrsearch.store.places import Place

log = logging.getLogger(__name__)

MAX_DEATHS = 3
"""Of one worker in a row, without an epoch in between."""
GRACE_SECONDS = 30.0
"""In which a worker that is asked to leave keeps what it has in hand; then it is killed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker process is to do."""

    place: Place
    study: str
    device: str
    gpu: int | None
    """The one GPU of this machine that it sees, or None: those that the process has."""
    threads: int
    data_dir: Path | None
    artifacts: str | None
    log_level: int
    log_json: bool = False
    """Whether what it says is written as lines of JSON."""
    only_confirm: bool = False
    """Whether it trains for a confirmation and searches no further."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What a worker says in place of an event when an error ends it."""

    kind: type[errors.LrsearchError]
    message: str


def serve(order: Order, leave: Leave, say: Callable[[Event | Failed], None], *, reached_before: bool = True) -> int:
    """Be a worker until the study has no more to give, and say what happens; return the exit code of the process.

    Args:
        order: what to do.
        leave: whether to leave.
        say: takes every event, and in the end, where an error ended it, that.
        reached_before: False where the database may be out of this machine's reach: that is said at once, while a
            database that has been reached before is waited for.
    """
    code = errors.EXIT_OK
    try:
        _work(order, leave, say, reached_before=reached_before)
    except errors.LrsearchError as error:
        code = error.exit_code
        say(Failed(type(error), str(error)))
    except Exception as error:
        code = errors.EXIT_FAILURE
        first = (str(error).strip().splitlines() or ["no message"])[0]
        log.debug("the traceback", exc_info=True)
        say(Failed(errors.LrsearchError, f"a defect of lrsearch: {type(error).__name__}: {first}"))
    return errors.EXIT_TERMINATED if leave.asked and code == errors.EXIT_OK else code


def _work(order: Order, leave: Leave, say: Callable[[Event | Failed], None], *, reached_before: bool) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    from lrsearch import run

    here = run.Here(order.device, order.threads, order.data_dir, progress=False)
    with (
        run.joined(order.place, order.study, here, artifacts=order.artifacts, reached_before=reached_before) as session,
        closing(session.attend(leave, wait=True, only_confirm=order.only_confirm)) as events,
    ):
        for event in events:
            say(event)

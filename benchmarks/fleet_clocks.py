"""What a worker's time goes into, for fleet.py: round trips to the server, steps of the protocol, locks.

A round trip is what psycopg waits for, so lrsearch and plain Optuna are measured by the same clock. On a machine
without a free core it holds three things: the server's work, the server's wait for a core, the worker's to be woken.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus

LOCKS = {"UPDATE lrsearch_studies SET revision": "budget row", "FOR UPDATE": "study row of Optuna"}
"""The two row locks that every claim takes, by what stands in their statements; plain Optuna has the second one."""

NO_TRIP = ("_set_autocommit_gen", "_rollback_gen", "_commit_gen")
"""What psycopg runs outside a transaction without asking the server."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a step."""

    seconds: float
    waited: float
    """Of that for the server [seconds]."""
    trips: int
    """Round trips to the server."""
    cpu: float
    """Of this thread [CPU seconds]."""


@dataclass
class Clocks:
    """One worker's, both threads together; ``calls`` is by step."""

    calls: dict[str, list[Call]] = field(default_factory=dict)
    trained: float = 0.0
    """Slept in place of training [seconds]."""
    nominal: float = 0.0
    """That one would have slept with a core to be woken on [seconds]."""
    retried: int = 0
    """Transactions that were tried again."""
    _local: threading.local = field(default_factory=threading.local)

    @property
    def waited(self) -> float:
        """How long this thread has waited for the server [seconds]."""
        return float(getattr(self._local, "waited", 0.0))

    @property
    def trips(self) -> int:
        """How often this thread has waited for the server."""
        return int(getattr(self._local, "trips", 0))

    def time(self, step: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``work``, and keep what it took."""
        begun, waited, trips, cpu = time.perf_counter(), self.waited, self.trips, time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            took, used = time.perf_counter() - begun, time.thread_time() - cpu
            self._keep(step, Call(took, self.waited - waited, self.trips - trips, used))

    def watch(self, owner: Any, name: str, step: str) -> None:
        """Time every call of a function that is looked up in ``owner``."""
        original = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            return self.time(step, original, *args, **kwargs)

        setattr(owner, name, timed)

    def watch_server(self) -> None:
        """Time every round trip of this process, each wait for one of the two locks and how long it is held then."""
        wait, connect = psycopg.Connection.wait, psycopg.Connection.connect

        def waiting(connection: Any, generator: Any, *args: Any, **kwargs: Any) -> Any:
            begun, before = time.perf_counter(), connection.pgconn.transaction_status
            try:
                return wait(connection, generator, *args, **kwargs)
            finally:
                after = connection.pgconn.transaction_status
                idle = before == TransactionStatus.IDLE
                if not (idle and generator.__name__ in NO_TRIP):
                    # psycopg sends a transaction's BEGIN, and waits for its answer, with the first statement.
                    self._waited(begun, 1 + (idle and after == TransactionStatus.INTRANS))
                held = getattr(self._local, "held", None)
                if held is not None and after == TransactionStatus.IDLE:
                    self._keep(f"{held[0]}: held", Call(time.perf_counter() - held[1], 0.0, 0, 0.0))
                    self._local.held = None

        def connecting(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return connect(*args, **kwargs)
            finally:
                self._waited(begun, 1)

        psycopg.Connection.wait = waiting  # type: ignore[method-assign, assignment]
        psycopg.Connection.connect = connecting  # type: ignore[method-assign]
        sa.event.listen(sa.Engine, "before_cursor_execute", self._before)
        sa.event.listen(sa.Engine, "after_cursor_execute", self._after)

    def _before(self, *_: Any) -> None:
        self._local.begun = time.perf_counter()

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        lock = next((name for words, name in LOCKS.items() if words in statement), None)
        if lock is not None:
            now = time.perf_counter()
            self._keep(f"{lock}: waited for", Call(now - self._local.begun, 0.0, 0, 0.0))
            self._local.held = lock, now

    def _waited(self, begun: float, trips: int) -> None:
        self._local.waited = self.waited + time.perf_counter() - begun
        self._local.trips = self.trips + trips

    def _keep(self, step: str, call: Call) -> None:
        self.calls.setdefault(step, []).append(call)


@dataclass(frozen=True)
class Told:
    """What one worker process tells in the end."""

    calls: dict[str, list[Call]]
    lived: float
    """From the signal to begin until it found nothing more to do [seconds]."""
    trained: float
    nominal: float
    waited: float
    """For the server, in the thread that trains [seconds]."""
    sampled: float
    """Drawing settings, without what was waited for meanwhile [seconds]."""
    cpu: float
    """[CPU seconds]"""
    retried: int


def milliseconds(calls: Sequence[Call]) -> dict[str, float]:
    """Return how long calls took and what of it went where [ms, means but for the quantiles]."""
    ordered, n = sorted(call.seconds for call in calls), len(calls)
    quantiles = {name: ordered[min(n - 1, int(q * n))] for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}
    means = {what: sum(getattr(call, what) for call in calls) / n for what in ("seconds", "waited", "cpu")}
    ms = {name: round(1000 * value, 1) for name, value in (quantiles | means).items()}
    return ms | {"trips": round(sum(call.trips for call in calls) / n, 1), "n": n}

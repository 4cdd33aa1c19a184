"""`/metrics`: the studies in numbers for Prometheus, counted in the database when they are asked for."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bottle import Bottle, HTTPResponse, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lrsearch.errors import StorageError
from lrsearch.store import tally
from lrsearch.store.storage import Database
from lrsearch.store.tally import RECENT_SECONDS, Tally
from lrsearch.trial import Reason, State
from lrsearch.version import __version__

log = logging.getLogger(__name__)

KEPT_SECONDS = 2.0
"""Requests within this time get the same numbers."""
REST = 4.0
"""Numbers are shown for at least so many times as long as it took to count them: many and large studies."""
ENDINGS = tuple(state for state in State if state != State.RUNNING)
INTERRUPTING = (
    Reason.LOST,
    Reason.PREEMPTED,
    Reason.INTERRUPTED,
    Reason.STALLED,
    Reason.TIMED_OUT,
    Reason.CRASH,
    Reason.OUT_OF_MEMORY,
)
"""Why an attempt may end before its trial; each is shown from the start, so that its first increase is seen."""


class Studies(Collector):
    """Counts all studies of a database, once however many ask."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        self._lock = threading.Lock()
        self._tallies: list[Tally] | None = []
        self._seconds, self._rests_until = 0.0, float("-inf")

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what is registered is not asked yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return everything that is known; with the database down, that it is."""
        tallies, seconds = self._read()
        yield GaugeMetricFamily("lrsearch_up", "Whether the database answered.", float(tallies is not None))
        build = GaugeMetricFamily("lrsearch_build_info", "The lrsearch that serves this.", labels=["version"])
        build.add_metric([__version__], 1.0)
        yield build
        yield GaugeMetricFamily("lrsearch_scrape_duration_seconds", "What counting in the database took.", seconds)
        yield from _families(tallies or [])

    def _read(self) -> tuple[list[Tally] | None, float]:
        with self._lock:
            begun = self._clock()
            if begun >= self._rests_until:
                known = self._tallies is not None
                try:
                    self._tallies = tally.read(self._database)
                except StorageError as error:
                    self._tallies = None
                    if known:
                        # Once, not at every scrape until it answers again.
                        log.warning("%s", error)
                now = self._clock()
                self._seconds = now - begun
                self._rests_until = now + max(KEPT_SECONDS, REST * self._seconds)
            return self._tallies, self._seconds


def add(app: Bottle, database: Database) -> None:
    """Add the route to an application."""
    registry = CollectorRegistry()
    registry.register(Studies(database))

    def metrics() -> HTTPResponse:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return HTTPResponse(encode(registry), 200, {"Content-Type": kind})

    app.get("/metrics", callback=metrics)


def _families(tallies: list[Tally]) -> Iterator[Metric]:
    def gauge(name: str, text: str, *labels: str) -> Any:
        return GaugeMetricFamily(f"lrsearch_{name}", text, labels=["study", *labels])

    def counter(name: str, text: str, *labels: str) -> Any:
        return CounterMetricFamily(f"lrsearch_{name}", text, labels=["study", *labels])

    trials = gauge("trials", "Trials by state; complete, pruned and diverged ones count towards the budget.", "state")
    ended = counter("trials_ended", "Trials that ended, by how.", "outcome")
    interrupted = gauge("interrupted_trials", "Running trials that no living worker has; the next one goes on.")
    epochs = counter("epochs", "Epochs that were trained and accepted.")
    trained = counter("training_seconds", "Training time of all trials together; absent where the budget has no hours.")
    interruptions = counter("interruptions", "Attempts that ended before their trial; lost: its lease.", "reason")
    budget_trials = gauge("budget_trials", "Trials of the budget; absent where it has none.")
    budget_seconds = gauge("budget_seconds", "Training time of the budget; absent where it has none.")
    is_open = gauge("study_open", "1 while anything more will come, 0 when the study is over or stopped.")
    workers = gauge("workers", "Workers that live, as far as can be seen.")
    leases = gauge("leases", "Rights to a trial: held, or expired and not taken over yet.", "state")
    rate = gauge("trials_per_minute", f"Trials of the budget that ended, over the last {RECENT_SECONDS:.0f} seconds.")
    best = gauge("best_value", "Best value of a complete trial; absent before the first.", "metric", "direction")
    last_end = gauge("last_end_timestamp_seconds", "When the last trial ended, by the database's clock.")
    for one in tallies:
        name = one.name
        for state in State:
            trials.add_metric([name, state.value], one.trials[state])
        for state in ENDINGS:
            ended.add_metric([name, state.value], one.trials[state])
        for reason in INTERRUPTING:
            interruptions.add_metric([name, reason.value], one.interruptions.get(reason, 0))
        interrupted.add_metric([name], one.interrupted)
        epochs.add_metric([name], one.epochs)
        if one.trained_seconds is not None:
            trained.add_metric([name], one.trained_seconds)
        if one.budget.trials is not None:
            budget_trials.add_metric([name], one.budget.trials)
        if one.budget.hours is not None:
            budget_seconds.add_metric([name], 3600 * one.budget.hours)
        is_open.add_metric([name], float(one.open))
        workers.add_metric([name], one.workers)
        leases.add_metric([name, "held"], one.leases_held)
        leases.add_metric([name, "expired"], one.leases_expired)
        rate.add_metric([name], 60 * one.recent / RECENT_SECONDS)
        if one.best is not None:
            best.add_metric([name, one.metric, one.direction], one.best)
        if one.last_end is not None:
            last_end.add_metric([name], one.last_end.timestamp())
    yield from (trials, ended, interrupted, epochs, trained, interruptions, budget_trials, budget_seconds)
    yield from (is_open, workers, leases, rate, best, last_end)

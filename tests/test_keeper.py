"""The keeper of the leases: what is due when, by a clock that the test turns; and one long epoch in real time."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from conftest import (
    FakeEngine,
    claimed,
    claims_of,
    expire,
    leases_held,
    make_spec,
    measured,
    on_both,
    rows,
    sweep,
    url_of,
    working,
)
from postgres import Account

from lrsearch import worker
from lrsearch.events import EndReason, Event, SearchEnded, TrialEnded, TrialInterrupted
from lrsearch.store import filing
from lrsearch.store.claims import Claim
from lrsearch.store.filing import artifacts_of
from lrsearch.store.keeper import Due, Keeper, Leave
from lrsearch.store.places import PostgresServer
from lrsearch.store.storage import Database
from lrsearch.trial import EpochMetrics, Reason, State, TrialConfig

RULES = {"lease_seconds": 60.0, "checkpoint_seconds": 30.0, "trial_seconds": 100.0, "no_progress_seconds": 40.0}


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A worker with one trial in hand, its keeper without a thread, and the clock of both."""

    database: Database
    rules: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = make_spec(workers={**RULES, **self.rules})
        self.study = filing.create(self.database, spec)
        self.clock, self.leave, self.hung = Clock(), Leave(), list[str]()
        self.claims = claims_of(self.study)
        self.keeper = Keeper(self.claims, self.leave, self.clock, self.hung.append)

    def claim(self) -> Claim:
        return claimed(self.claims)

    def after(self, seconds: float) -> None:
        """Let time pass, then the thread's turn come."""
        self.clock.now += seconds
        self.keeper.tick()

    def renewed(self) -> int:
        """Return how many signs of life there are since ``expire`` was called last: of the lease, and the worker."""
        counts = [
            rows(self.database, f"SELECT count(*) FROM {table} WHERE expires_at > '2001-01-01 00:00:00'")
            for table in ("lrsearch_leases", "lrsearch_workers")
        ]
        return sum(int(n) for ((n,),) in counts)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


# --- signs of life ---------------------------------------------------------------------------------------------------


@on_both
def test_a_lease_is_renewed_at_every_heartbeat_and_not_before(bench: Bench) -> None:
    with bench.keeper.watching(bench.claim()):
        for _ in range(3):
            expire(bench.database)
            bench.after(9.9)
            assert bench.renewed() == 0
            bench.after(0.2)
            assert bench.renewed() == 2
    expire(bench.database)
    bench.after(10)
    assert bench.renewed() == 1, "without a trial in hand only the worker lives"


@on_both
def test_what_was_lost_is_said_at_the_next_stand_still(bench: Bench) -> None:
    with bench.keeper.watching(bench.claim()):
        sweep(bench.database)
        bench.after(10)
        assert bench.keeper.is_set()
        assert bench.keeper.due() == Due.LOST


def test_a_heartbeat_that_does_not_get_through_is_no_loss(
    postgres_server: Account, postgres_place: PostgresServer
) -> None:
    with closing(Database(postgres_place)) as database:
        bench = Bench(database)
        with bench.keeper.watching(bench.claim()):
            postgres_server.drop_database(url_of(postgres_place))
            bench.after(10)
            assert bench.keeper.due() == Due.NOTHING


# --- pauses ----------------------------------------------------------------------------------------------------------


def test_a_training_is_asked_to_stand_still_once_a_tick(bench: Bench) -> None:
    assert not bench.keeper.is_set()
    bench.after(1)
    assert not bench.keeper.is_set(), "nothing is in hand"
    with bench.keeper.watching(bench.claim()):
        assert not bench.keeper.is_set()
        bench.after(1)
        assert bench.keeper.is_set()
        assert bench.keeper.due() == Due.NOTHING
        assert not bench.keeper.is_set()


def test_a_checkpoint_is_due_again_and_again(bench: Bench) -> None:
    with bench.keeper.watching(bench.claim()):
        for _ in range(2):
            bench.clock.now += 29.9
            assert bench.keeper.due() == Due.NOTHING
            bench.clock.now += 0.1
            assert bench.keeper.due() == Due.CHECKPOINT
            assert bench.keeper.due() == Due.CHECKPOINT, "until it has been made"
            bench.keeper.checkpointed()
            assert bench.keeper.due() == Due.NOTHING


def test_without_an_interval_a_checkpoint_is_due_whenever_the_training_stands_still(database: Database) -> None:
    bench = Bench(database, {"checkpoint_seconds": 0})
    with bench.keeper.watching(bench.claim()):
        assert bench.keeper.due() == Due.CHECKPOINT
        bench.keeper.checkpointed()
        assert bench.keeper.due() == Due.CHECKPOINT


# --- limits ----------------------------------------------------------------------------------------------------------


def test_only_training_counts_against_the_limit_of_a_trial(bench: Bench) -> None:
    with bench.keeper.watching(bench.claim()):
        for _ in range(4):
            with bench.keeper.training():
                bench.clock.now += 25
            bench.clock.now += 1000
            bench.keeper.checkpointed()
            assert bench.keeper.due() == Due.NOTHING
        with bench.keeper.training():
            bench.clock.now += 0.1
        assert bench.keeper.due() == Due.TIMED_OUT


def test_what_was_trained_before_an_interruption_counts_too(bench: Bench) -> None:
    first = bench.claim()
    bench.claims.accept(first, measured(1, seconds=60))
    bench.claims.release(first)
    with bench.keeper.watching(bench.claim()):
        with bench.keeper.training():
            bench.clock.now += 39
        bench.keeper.checkpointed()
        assert bench.keeper.due() == Due.NOTHING
        with bench.keeper.training():
            bench.clock.now += 2
        assert bench.keeper.due() == Due.TIMED_OUT


@on_both
def test_a_training_that_does_not_answer_is_given_back_as_stalled_and_its_process_ended(bench: Bench) -> None:
    claim = bench.claim()
    bench.claims.accept(claim, measured(1))
    with bench.keeper.watching(claim), bench.keeper.training():
        bench.after(40)
        assert bench.hung == []
        bench.after(0.1)
    (said,) = bench.hung
    assert said.startswith("trial 0: no update for 40 s (workers.no_progress_seconds is 40)")
    assert leases_held(bench.database) == 0
    (trial,) = bench.study.trials()
    (interruption,) = trial.interruptions
    assert (interruption.reason, interruption.epoch) == (Reason.STALLED, 1)
    assert interruption.message in said
    assert claimed(claims_of(bench.study)).trial.number == 0


def test_a_training_that_stands_still_now_and_then_does_not_hang(bench: Bench) -> None:
    with bench.keeper.watching(bench.claim()):
        for _ in range(4):
            with bench.keeper.training():
                bench.after(39)
            bench.keeper.due()
    assert bench.hung == []


def test_a_worker_that_waits_for_the_database_does_not_hang(bench: Bench) -> None:
    with bench.keeper.watching(bench.claim()):
        with bench.keeper.training():
            bench.after(5)
        bench.after(1000)
    assert bench.hung == []
    assert leases_held(bench.database) == 1


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_a_worker_asked_to_leave_stands_still_at_once(bench: Bench) -> None:
    with bench.keeper.watching(bench.claim()):
        bench.leave.ask(Reason.PREEMPTED)
        assert bench.keeper.is_set(), "no turn of the thread is needed"
        bench.leave.ask(Reason.INTERRUPTED)
        assert bench.leave.reason == Reason.PREEMPTED, "the first reason holds"
        assert bench.keeper.due() == Due.RELEASE


@on_both
@pytest.mark.parametrize(("how", "due"), [("now", Due.RELEASE), ("drain", Due.NOTHING)])
def test_a_study_that_is_stopped_now_has_its_trials_released(bench: Bench, how: Any, due: Due) -> None:
    with bench.keeper.watching(bench.claim()):
        bench.study.stop(how)
        assert bench.keeper.due() == Due.NOTHING
        bench.after(10)
        assert bench.keeper.due() == due
        assert bench.keeper.stopped == (how == "now")


# --- a worker with it ------------------------------------------------------------------------------------------------


def search(bench: Bench, engine: FakeEngine) -> list[Event]:
    return list(worker.work(bench.claims, engine, bench.keeper, artifacts_of(bench.study)))


def meanwhile(bench: Bench, doing: Any) -> FakeEngine:
    """Return an engine; when the first training has done two epochs, something happens and the thread's turn comes."""
    waiting = [doing]

    def script(config: TrialConfig) -> Iterator[EpochMetrics]:
        for epoch in range(1, config.epochs + 1):
            if epoch == 3 and waiting:
                waiting.pop()()
                bench.after(10)
            yield measured(epoch, 0.5)

    return FakeEngine(script)


@on_both
def test_a_study_stopped_now_keeps_its_trial_and_goes_on_with_it(bench: Bench) -> None:
    engine = meanwhile(bench, lambda: bench.study.stop("now"))
    events = search(bench, engine)
    assert [e for e in events if isinstance(e, TrialInterrupted)] == [
        TrialInterrupted(0, Reason.PREEMPTED, "the study was stopped")
    ]
    assert isinstance(events[-1], SearchEnded)
    assert events[-1].reason == EndReason.STOPPED
    assert leases_held(bench.database) == 0
    bench.study.stop(None)
    events = search(bench, engine)
    assert engine.loaded == [2]
    assert sum(isinstance(e, TrialEnded) for e in events) == 6
    trials = bench.study.trials()
    assert [t.state for t in trials] == [State.COMPLETE] * 6
    assert [m.epoch for m in trials[0].metrics] == [1, 2, 3, 4]


def test_a_study_told_to_drain_ends_after_the_trials_under_way(bench: Bench) -> None:
    engine = meanwhile(bench, lambda: bench.study.stop("drain"))
    events = search(bench, engine)
    assert isinstance(events[-1], SearchEnded)
    assert events[-1].reason == EndReason.STOPPED
    assert "1 of 6" in events[-1].message
    assert [t.state for t in bench.study.trials()] == [State.COMPLETE]
    bench.study.stop(None)
    search(bench, engine)
    assert [t.state for t in bench.study.trials()] == [State.COMPLETE] * 6
    assert engine.loaded == []


@pytest.mark.parametrize("reason", [Reason.PREEMPTED, Reason.INTERRUPTED])
def test_a_worker_asked_to_leave_keeps_its_trial_for_the_next_one(bench: Bench, reason: Reason) -> None:
    events = search(bench, meanwhile(bench, lambda: bench.leave.ask(reason)))
    assert isinstance(events[-1], SearchEnded)
    assert events[-1].reason == EndReason.LEFT
    (trial,) = bench.study.trials()
    assert trial.interrupted
    assert [(i.reason, i.epoch, i.step) for i in trial.interruptions] == [(reason, 2, 20)]
    engine = FakeEngine(lambda config: [measured(e, 0.5) for e in range(1, 5)])
    list(working(claims_of(bench.study), engine))
    assert engine.loaded == [2]


def test_a_trial_trained_for_too_long_fails_as_timed_out(bench: Bench) -> None:
    def script(config: TrialConfig) -> Iterator[EpochMetrics]:
        for epoch in range(1, config.epochs + 1):
            bench.clock.now += 101 if len(engine.trained) == 1 and epoch == 2 else 1
            yield measured(epoch, 0.5)

    engine = FakeEngine(script)
    search(bench, engine)
    first, *others = bench.study.trials()
    assert first.outcome is not None
    assert (first.outcome.state, first.outcome.reason, first.outcome.epoch) == (State.FAILED, Reason.TIMED_OUT, 2)
    assert first.outcome.message == "trained for longer than workers.trial_seconds = 100"
    assert [t.state for t in others] == [State.COMPLETE] * 6


# --- in real time ----------------------------------------------------------------------------------------------------


@on_both
def test_an_epoch_much_longer_than_a_lease_does_not_lose_it(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}, epochs=1, workers={"lease_seconds": 0.5}))
    other = claims_of(study)
    said: list[EndReason] = []

    def script(config: TrialConfig) -> Iterator[EpochMetrics]:
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            # Some tenths of a second in which PyTorch gives up Python's lock.
            torch.linalg.svdvals(torch.ones(400, 400))
        ended = other.claim()
        assert isinstance(ended, SearchEnded)
        said.append(ended.reason)
        yield measured(1, 0.5)

    events = list(working(claims_of(study), FakeEngine(script)))
    assert said == [EndReason.HELD_ELSEWHERE]
    assert [type(e) for e in events][-2:] == [TrialEnded, SearchEnded]
    (trial,) = study.trials()
    assert (trial.state, trial.interruptions) == (State.COMPLETE, ())

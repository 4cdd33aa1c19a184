"""Who decides: pure functions of a frozen view; and a strategy that pauses trials, executed by claims and worker."""

from contextlib import closing
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeEngine, learning, make_spec, on_both, working
from test_claims import answers_lost

from lrsearch.events import EndReason, SearchEnded, TrialEnded, TrialInterrupted, TrialStarted
from lrsearch.spec.deciding import BudgetSpec, PrunerSpec
from lrsearch.store import filing, lease
from lrsearch.store.claims import Claims
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.strategy.strategy import Strategy, what_next
from lrsearch.strategy.view import (
    Begin,
    Fail,
    FreeSlot,
    Judgement,
    Reached,
    Resume,
    Settle,
    SlotState,
    Standing,
    Step,
    View,
)
from lrsearch.trial import Interruption, Reason, State

SGD = {"optimizer": {"sgd": {"peak_lr": {"low": 0.01, "high": 1.0, "log": True}}}, "schedule": "constant"}


def view(
    *free: FreeSlot, trials: int = 10, finished: int = 0, running: int = 0, stopped: str | None = None, **more: Any
) -> View:
    paused = sum(slot.state == SlotState.PAUSED for slot in free)
    n_open = len(free) + running
    standing = Standing(BudgetSpec(trials=trials), stopped, None, finished + n_open, n_open, finished, 0, paused)
    return View(make_spec(), standing, free, **more)


def lost(times: int) -> tuple[Interruption, ...]:
    return tuple(Interruption(i + 1, Reason.LOST, "host:1", "cpu", 0, 0, "gone") for i in range(times))


RUNNING = FreeSlot("a", SlotState.RUNNING)
RESERVED = FreeSlot("b", SlotState.RESERVED)
PAUSED = FreeSlot("c", SlotState.PAUSED, epoch=2)
FIRST = ("baseline", "portfolio")
LOST_TOO_OFTEN = "lost 4 times without progress, and workers.retries.lost is 3"


@pytest.mark.parametrize(
    ("given", "step"),
    [
        (view(), Begin("sampler")),
        (view(first=FIRST), Begin("baseline", nth_first=0)),
        (view(first=FIRST, n_first=1), Begin("portfolio", nth_first=1)),
        (view(first=FIRST, n_first=2), Begin("sampler")),
        (view(first=FIRST, enqueued=(7, 9)), Begin("enqueued", number=7)),
        (view(RUNNING, enqueued=(7,), first=FIRST), Resume("a")),
        (view(RESERVED, RUNNING), Resume("b")),
        (view(replace(RUNNING, past=lost(3))), Resume("a")),
        (
            view(replace(RUNNING, past=lost(4))),
            Fail("a", "lost 4 times without progress, and workers.retries.lost is 3"),
        ),
        # What is paused waits for whoever has paused it ...
        (view(PAUSED), Begin("sampler")),
        (view(PAUSED, RUNNING), Resume("a")),
        (view(PAUSED, trials=4, finished=2, running=1), None),
        (view(PAUSED, stopped="drain"), None),
        # ... and ends when there is nothing else.
        (view(PAUSED, trials=4, finished=3), Settle("c")),
        (view(PAUSED, trials=4, finished=4), Settle("c")),
    ],
)
def test_what_a_worker_does_next(given: View, step: Step | None) -> None:
    found = what_next(given)
    if step is None:
        assert isinstance(found, SearchEnded)
        assert found.reason in (EndReason.HELD_ELSEWHERE, EndReason.STOPPED)
    else:
        assert found == step


def test_a_view_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        view().n_first = 3  # type: ignore[misc]


class Halving(Strategy):
    """Pauses every trial at epoch 2, and goes on with the best half of them once four stand still."""

    def __init__(self) -> None:
        self.scores: dict[int, float] = {}
        self.seen: list[tuple[int, int]] = []
        self.resumed: list[str] = []

    def looks_at(self, pruner: PrunerSpec, epoch: int, epochs: int) -> bool:
        del pruner, epochs
        return epoch == 2

    def judge(self, reached: Reached) -> Judgement:
        return Judgement("pause" if reached.epoch == 2 else "keep")

    def what_next(self, view: View) -> Step:
        paused = [slot for slot in view.free if slot.state == SlotState.PAUSED]
        if (
            view.standing.finished + view.standing.open == view.standing.budget.trials
            and len(self.resumed) < 2
            and paused
        ):
            self.resumed.append(paused[0].id)
            return Resume(paused[0].id)
        return super().what_next(view)


def pausing(study: Study, strategy: Strategy) -> Claims:
    return Claims(study, [], "fake device", "fake 1.0", strategy)


@on_both
def test_a_trial_that_is_paused_goes_on_under_its_number_from_its_checkpoint(
    database: Database, tmp_path: Path
) -> None:
    spec = make_spec(budget={"trials": 4}, epochs=4, space=SGD, pruner="none")
    study = filing.create(database, spec, str(tmp_path / "kept"))
    engine, strategy = FakeEngine(learning), Halving()
    events = list(working(pausing(study, strategy), engine))

    started = [(event.trial.number, event.resumed) for event in events if isinstance(event, TrialStarted)]
    assert started == [(0, False), (1, False), (2, False), (3, False), (0, True), (1, True)]
    paused = [event for event in events if isinstance(event, TrialInterrupted)]
    assert paused == [TrialInterrupted(number, Reason.PAUSED, "at epoch 2") for number in range(4)]
    assert engine.loaded == [2, 2]  # nothing was trained twice
    ended = [event.number for event in events if isinstance(event, TrialEnded)]
    assert ended == [0, 1]
    end = events[-1]
    assert isinstance(end, SearchEnded)
    assert end.reason == EndReason.BUDGET_TRIALS

    trials = study.trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2 + [State.PRUNED] * 2
    assert [len(trial.metrics) for trial in trials] == [4, 4, 2, 2]
    for trial in trials[2:]:
        assert trial.outcome is not None
        assert (trial.outcome.reason, trial.outcome.epoch) == (Reason.PAUSED, 2)
        assert trial.outcome.value == trial.metrics[-1].rung_score
    assert [trial.state.name for trial in study.frozen_trials()] == ["COMPLETE"] * 2 + ["PRUNED"] * 2
    assert [len(trial.interruptions) for trial in trials] == [0] * 4, "a pause is no interruption"


@on_both
def test_a_trial_that_stands_still_holds_its_unit_of_the_budget_and_no_lease(
    database: Database, tmp_path: Path
) -> None:
    spec = make_spec(budget={"trials": 4}, epochs=4, space=SGD, pruner="none")
    study = filing.create(database, spec, str(tmp_path / "kept"))
    with closing(working(pausing(study, Halving()), FakeEngine(learning))) as events:
        for event in events:
            if isinstance(event, TrialInterrupted) and event.number == 1:
                break
        (first, second) = study.trials()
        assert (first.paused, second.paused) == (True, True)
        assert (first.state, first.interrupted) == (State.RUNNING, False)
        with database.reading() as connection:
            assert lease.held(connection, study.id) == set()
        # Another worker, that knows nothing of pauses, leaves them alone while there is room for others.
        other = Claims(study, [], "fake device", "fake 1.0")
        claim = other.claim()
        assert not isinstance(claim, SearchEnded)
        assert claim.trial.number == 2
        other.release(claim)


@on_both
def test_a_pause_whose_commit_was_not_heard_of_is_a_pause(database: Database, tmp_path: Path) -> None:
    spec = make_spec(budget={"trials": 4}, epochs=4, space=SGD, pruner="none")
    study = filing.create(database, spec, str(tmp_path / "kept"))
    engine = FakeEngine(learning)
    with answers_lost(database) as lost:
        events = list(working(pausing(study, Halving()), engine))
    assert lost[0] > 20
    assert [event.reason for event in events if isinstance(event, TrialInterrupted)] == [Reason.PAUSED] * 4
    assert [trial.state for trial in study.trials()] == [State.COMPLETE] * 2 + [State.PRUNED] * 2
    assert engine.loaded == [2, 2]

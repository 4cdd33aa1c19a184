"""The budget is exact and nothing is lost: whatever dies, whenever it dies."""

import json
import math
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import optuna
import psutil
import psycopg
import pytest
import sqlalchemy as sa
from conftest import (
    CRASHED,
    DIVERGED,
    ONE_SHAPE,
    FakeEngine,
    Kill,
    claimed,
    claims_of,
    complete,
    finished,
    learning,
    leases_held,
    make_spec,
    measured,
    on_both,
    plain_optuna,
    rows,
    started,
    sweep,
    url_of,
    wait_until,
    work_in_child,
    working,
    write,
)
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, TrialStarted
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.metrics import METRICS
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.claims import Claim, Claims
from lrsearch.store.endings import OPTUNA_STATES
from lrsearch.store.places import Place, SqliteFile, parse_place
from lrsearch.store.slots import Initial
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.store.tables import OUTCOME_ATTR, SLOT_ATTR
from lrsearch.text import counted
from lrsearch.trial import Divergence, EpochMetrics, Outcome, Reason, State, Trial, TrialConfig


def search(study: Study, engine: FakeEngine | None = None) -> list[Event]:
    """Work on a study in this process until there is nothing more to do."""
    return list(working(claims_of(study), engine or FakeEngine(learning)))


NO_RETRIES: dict[str, Any] = {"retries": {"crash": 0}}


def reason(events: list[Event]) -> EndReason:
    assert isinstance(events[-1], SearchEnded)
    return events[-1].reason


def tables(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    names = sorted(sa.inspect(database.engine).get_table_names())
    return {name: sorted(rows(database, f"SELECT * FROM {name}"), key=repr) for name in names}


def books(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table but those that say who works and until when."""
    found = tables(database)
    # The budget's lock counts.
    for moves in ("lrsearch_studies", "lrsearch_workers", "lrsearch_leases"):
        del found[moves]
    return found


def check_books(study: Study, n_counting: int) -> list[Trial]:
    """Check that our rows and Optuna's say the same of every trial and that nothing is under way; return the trials."""
    database = study.database
    trials = study.trials()
    assert [t.number for t in trials] == list(range(len(trials))), "every number once"
    assert sum(t.state.counts for t in trials) == n_counting, "the budget, exactly"
    assert leases_held(database) == 0
    assert set(rows(database, "SELECT DISTINCT state FROM lrsearch_slots")) <= {("ended",)}
    assert rows(database, f"SELECT count(*) FROM lrsearch_slots WHERE study_id = '{study.id}'") == [(len(trials),)]
    scores: dict[str, dict[int, float]] = {}
    for slot, epoch, score in rows(database, "SELECT slot_id, epoch, rung_score FROM lrsearch_epochs ORDER BY epoch"):
        scores.setdefault(slot, {})[epoch] = score
    with plain_optuna(study) as plain_study:
        plain = plain_study.get_trials()
    assert [t.number for t in plain] == list(range(len(trials)))
    for ours, theirs in zip(trials, plain, strict=True):
        assert ours.outcome is not None
        assert theirs.state == OPTUNA_STATES[ours.state]
        assert theirs.value == ours.outcome.value
        assert theirs.params == ours.params
        assert theirs.intermediate_values == scores.get(theirs.user_attrs[SLOT_ATTR], {})
        assert theirs.user_attrs[OUTCOME_ATTR] == ours.state
        assert [m.epoch for m in ours.metrics] == list(range(1, ours.outcome.epoch + 1)), "every epoch once"
        assert theirs.datetime_complete is not None
        if ours.state == State.COMPLETE:
            assert ours.outcome.epoch == study.spec.epochs
    return trials


# --- one worker ------------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("pruner", ["asha", "median", "none"])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_one_worker_ends_with_exactly_the_budget(database: Database, pruner: str, metric: str) -> None:
    spec = make_spec(budget={"trials": 13}, pruner={"name": pruner}, objective={"metric": metric})
    study = filing.create(database, spec)
    assert reason(search(study)) == EndReason.BUDGET_TRIALS
    trials = check_books(study, 13)
    assert {t.state for t in trials} >= {State.COMPLETE}
    assert (State.DIVERGED in {t.state for t in trials}) or pruner != "none"
    assert (State.PRUNED in {t.state for t in trials}) == (pruner != "none")


def test_a_finished_study_has_nothing_more_to_give(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    search(study)
    before = books(database)
    events = search(study)
    assert [type(e) for e in events] == [SearchEnded]
    assert reason(events) == EndReason.BUDGET_TRIALS
    assert books(database) == before


@on_both
def test_what_a_trial_reports_is_what_is_read_back(database: Database) -> None:
    study = filing.create(database, make_spec(epochs=3))
    claims = claims_of(study)
    claim = claimed(claims)
    told = [measured(1, 0.3, 2.0, averaged=0.35), measured(2, math.nan, math.nan), measured(3, 0.6, 1.0, averaged=0.7)]
    for metrics in told:
        claims.accept(claim, metrics)
    assert claims.end(claim, complete(0.6, 3)).accepted
    (trial,) = study.trials()
    assert trial.metrics[0] == replace(told[0], rung_score=0.35, comparable=True)
    assert trial.metrics[2] == replace(told[2], rung_score=0.7, comparable=True)
    assert math.isnan(trial.metrics[1].val_loss)
    assert trial.outcome == complete(0.6, 3)
    assert trial.config == claim.trial.config
    assert (trial.device, trial.versions, trial.origin) == ("fake device", "fake 1.0", "sampler")
    assert trial.worker.endswith(f":{os.getpid()}")
    assert trial.started_at is not None
    assert trial.ended_at is not None
    assert timedelta(0) <= trial.ended_at - trial.started_at < timedelta(minutes=1)
    assert abs(datetime.now().astimezone() - trial.ended_at) < timedelta(minutes=1)


@pytest.mark.parametrize("outcome", [DIVERGED, Outcome(State.PRUNED, Reason.RUNG, 0.2, 1, message="cut")])
def test_an_outcome_is_read_back_with_all_its_numbers(database: Database, outcome: Outcome) -> None:
    study = filing.create(database, make_spec())
    claims = claims_of(study)
    assert claims.end(claimed(claims), outcome).accepted
    (trial,) = study.trials()
    assert trial.outcome == outcome
    assert trial.state == outcome.state


@on_both
def test_two_studies_in_one_database_number_their_trials_by_themselves(database: Database) -> None:
    one, other = (filing.create(database, make_spec(name, budget={"trials": 3})) for name in ("one", "other"))
    for _ in zip(*(working(claims_of(study), FakeEngine(learning)) for study in (one, other)), strict=False):
        pass
    search(one)
    search(other)
    check_books(one, 3)
    check_books(other, 3)


def test_the_first_settings_are_tried_first_and_named_after_their_origin(database: Database) -> None:
    study = filing.create(database, make_spec(space={**ONE_SHAPE, "optimizer": "sgd"}, budget={"trials": 4}))
    initial = [Initial("baseline", {"peak_lr_sgd": 0.01}), Initial("portfolio", {"peak_lr_sgd": 0.25})]
    list(working(claims_of(study, initial), FakeEngine(learning)))
    trials = check_books(study, 4)
    assert [t.origin for t in trials] == ["baseline", "portfolio", "sampler", "sampler"]
    assert [t.config.optimizer.peak_lr for t in trials[:2]] == [0.01, 0.25]


# --- several workers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@on_both
def test_four_processes_end_with_exactly_the_budget(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/x.db" if backend == "sqlite" else request.getfixturevalue("postgres_url")
    place, gate = parse_place(url), tmp_path / "gate"
    spec = make_spec(budget={"trials": 40}, pruner={"name": "asha"})
    # All four find no database, make one and file the study at the same moment.
    workers = [started(work_in_child, url_of(place), spec.to_json(), None, str(gate)) for _ in range(4)]
    gate.touch()
    assert [finished(process) for process in workers] == [0, 0, 0, 0]
    with closing(Database(place)) as database:
        trials = check_books(studies.get(database, None), 40)
        assert {attempts for (attempts,) in rows(database, "SELECT attempts FROM lrsearch_slots")} == {1}
    assert len({str(t.params) for t in trials}) == 40


def wait_until_busy(database: Database, workers: list[ForkServerProcess]) -> None:
    """Wait until eight more epochs are accepted, or nobody is left who could report one."""
    before = len(rows(database, "SELECT * FROM lrsearch_epochs"))

    def busy() -> bool:
        done = len(rows(database, "SELECT * FROM lrsearch_epochs")) - before >= 8
        return done or not any(process.is_alive() for process in workers)

    wait_until(busy)


@on_both
def test_four_processes_that_are_killed_again_and_again_end_with_exactly_the_budget(place: Place) -> None:
    spec = make_spec(budget={"trials": 24}, pruner={"name": "asha"})
    with closing(Database(place)) as database:
        filing.create(database, spec)
    order = random.Random(4)
    for _ in range(2):
        workers = [started(work_in_child, url_of(place), spec.to_json()) for _ in range(4)]
        with closing(Database(place)) as database:
            wait_until_busy(database, workers)
        for process in order.sample(workers, 4):
            process.kill()
        for process in workers:
            finished(process)
    assert finished(started(work_in_child, url_of(place), spec.to_json())) == 0
    with closing(Database(place)) as database:
        check_books(studies.get(database, None), 24)


# --- killed at every step of the protocol ----------------------------------------------------------------------------

# Where the process kills itself, the numbers that are RUNNING then, and the attempts that trial 1 takes in the end.
POINTS: list[tuple[Kill, list[int], int]] = [
    (Kill("reserve", "before", 2), [], 1),
    (Kill("slot in reserve", "after", 2), [], 1),
    (Kill("lease in reserve", "after", 2), [], 1),
    (Kill("reserve", "after", 2), [], 2),
    (Kill("draw", "after", 2), [], 2),
    (Kill("rows in start", "after", 2), [], 2),
    (Kill("mark in start", "after", 2), [], 2),
    (Kill("start", "after", 2), [1], 2),
    (Kill("accept", "before", 4), [1], 2),
    (Kill("score in accept", "after", 5), [1], 2),
    (Kill("accept", "after", 4), [1], 2),
    (Kill("accept", "after", 6), [1], 2),
    (Kill("end", "before", 2), [1], 2),
    (Kill("rows in end", "before", 2), [1], 2),
    (Kill("rows in end", "after", 2), [1], 2),
    (Kill("end", "after", 2), [], 1),
]
SMALL = make_spec(
    epochs=3,
    budget={"trials": 3},
    workers={"retries": {"lost": 9}},
    # Below the learning rates that diverge: every trial reports three epochs.
    space={**ONE_SHAPE, "batch_size": [16, 32], "optimizer": {"sgd": {"peak_lr": {"low": 1e-3, "high": 0.9}}}},
)


@on_both
@pytest.mark.parametrize(("kill", "running", "attempts"), POINTS, ids=str)
def test_a_process_killed_at_any_step_loses_nothing(
    place: Place, kill: Kill, running: list[int], attempts: int
) -> None:
    assert finished(started(work_in_child, url_of(place), SMALL.to_json(), kill)) == -9
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        left = study.trials()
        assert [t.number for t in left if t.state == State.RUNNING] == running
        for trial, seen in zip(left, study.frozen_trials(), strict=True):
            assert seen.intermediate_values.keys() == {m.epoch for m in trial.metrics}, "both tables or neither"
            assert seen.state == (TrialState.RUNNING if trial.outcome is None else OPTUNA_STATES[trial.state])
        events = search(study)
        assert reason(events) == EndReason.BUDGET_TRIALS
        trials = check_books(study, 3)
        assert len(trials) == 3
        assert [t.params for t in trials[: len(left)]] == [t.params for t in left], "a number keeps its setting"
        assert [e.trial.number for e in events if isinstance(e, TrialStarted) and e.resumed] == running
        expected = [1, attempts, 1]
        assert rows(database, "SELECT attempts FROM lrsearch_slots ORDER BY position") == [(n,) for n in expected]


@on_both
def test_a_process_killed_while_it_takes_over_loses_nothing(place: Place) -> None:
    kills = [
        Kill("accept", "after", 4),
        Kill("restart", "before"),
        Kill("interruption in reserve", "after"),
        Kill("mark in start", "after"),
        Kill("restart", "after"),
        # The first epoch was accepted before: this is the second.
        Kill("score in accept", "after"),
        Kill("accept", "after"),
        Kill("accept", "after"),
        Kill("end", "before"),
    ]
    for kill in kills:
        assert finished(started(work_in_child, url_of(place), SMALL.to_json(), kill)) == -9, kill
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        (under_way,) = [t for t in study.trials() if t.state == State.RUNNING]
        assert under_way.number == 1
        assert [m.epoch for m in under_way.metrics] == [1, 2, 3]
        events = search(study)
        trials = check_books(study, 3)
        # Counted when a trial is taken over: also by a process that dies before it starts.
        assert rows(database, "SELECT attempts FROM lrsearch_slots ORDER BY position") == [(1,), (9,), (1,)]
        assert [len(t.interruptions) for t in trials] == [0, 8, 0]
        assert {i.reason for i in trials[1].interruptions} == {Reason.LOST}
        assert [i.epoch for i in trials[1].interruptions] == [1, 1, 1, 1, 1, 2, 3, 3]
        # Without a checkpoint it is trained again from the start, and not reported again.
        again = [e for e in events if isinstance(e, EpochDone) and e.number == 1]
        assert [(e.metrics.epoch, e.again) for e in again] == [(1, True), (2, True), (3, True)]


@on_both
def test_a_chain_of_kills_at_random_steps_ends_with_exactly_the_budget(place: Place) -> None:
    order = random.Random(1)
    steps = ["reserve", "draw", "start", "accept", "end", "rows in start", "score in accept", "rows in end"]
    spec = make_spec(budget={"trials": 7}, pruner={"name": "asha"})
    for _ in range(6):
        kill = Kill(order.choice(steps), order.choice(["before", "after"]), order.randint(1, 3))
        assert finished(started(work_in_child, url_of(place), spec.to_json(), kill)) in (-9, 0), kill
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        search(study)
        check_books(study, 7)


@on_both
@pytest.mark.parametrize(
    ("step", "when", "filed"),
    [
        ("filing the study", "before", False),
        ("rows in filing", "before", False),
        ("rows in filing", "after", False),
        ("filing the study", "after", True),
    ],
)
def test_a_process_killed_while_it_files_the_study_has_filed_all_of_it_or_nothing(
    place: Place, step: str, when: str, filed: bool
) -> None:
    assert finished(started(work_in_child, url_of(place), SMALL.to_json(), Kill(step, when))) == -9
    with closing(Database(place)) as database:
        assert studies.names(database) == (["probe"] if filed else [])
        assert len(database.optuna.get_all_studies()) == filed
        study = filing.create(database, SMALL)
        search(study)
        check_books(study, 3)


# --- the budget ------------------------------------------------------------------------------------------------------


def test_a_budget_that_is_raised_is_used_up_exactly(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 3}))
    search(study)
    first = study.trials()
    study.set_budget(BudgetSpec(trials=8))
    assert reason(search(study)) == EndReason.BUDGET_TRIALS
    assert check_books(study, 8)[:3] == first


def test_a_budget_that_is_raised_while_a_worker_works_is_used_by_it(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    n = 0
    for event in working(claims_of(study), FakeEngine(learning)):
        n += isinstance(event, TrialEnded)
        if n == 1:
            study.set_budget(BudgetSpec(trials=5))
    assert n == 5
    check_books(study, 5)


def test_a_budget_below_what_is_finished_takes_nothing_back_and_adds_nothing(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 4}))
    search(study)
    study.set_budget(BudgetSpec(trials=2))
    assert reason(search(study)) == EndReason.BUDGET_TRIALS
    check_books(study, 4)


def test_an_interrupted_trial_beyond_a_lowered_budget_is_left_until_the_budget_is_raised(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 4}))
    claims = claims_of(study)
    for value in (0.1, 0.2, 0.3):
        claims.end(claimed(claims), complete(value))
    claims.release(claimed(claims))
    study.set_budget(BudgetSpec(trials=3))
    ended = claims.claim()
    assert isinstance(ended, SearchEnded)
    assert ended.reason == EndReason.BUDGET_TRIALS
    study.set_budget(BudgetSpec(trials=4))
    assert claimed(claims).trial.number == 3


def test_trials_that_fail_do_not_count(database: Database) -> None:
    n = 0

    def every_third_crashes(config: TrialConfig) -> Iterator[EpochMetrics | Divergence | BaseException]:
        nonlocal n
        n += 1
        if n % 3 == 0:
            yield RuntimeError("broken")
        yield from learning(config)

    study = filing.create(database, make_spec(budget={"trials": 6}, workers=NO_RETRIES))
    assert reason(search(study, FakeEngine(every_third_crashes))) == EndReason.BUDGET_TRIALS
    trials = check_books_with_failures(study, 6)
    assert [t.number for t in trials if t.state == State.FAILED] == [2, 5]


def check_books_with_failures(study: Study, n_counting: int) -> list[Trial]:
    trials = check_books(study, n_counting)
    assert any(t.state == State.FAILED for t in trials)
    return trials


@pytest.mark.parametrize("max_failures", [0, 2])
def test_more_failures_than_allowed_end_the_study(database: Database, max_failures: int) -> None:
    budget = {"trials": 9, "max_failures": max_failures}
    study = filing.create(database, make_spec(budget=budget, workers=NO_RETRIES))
    events = search(study, FakeEngine(lambda config: [RuntimeError("broken")]))
    assert reason(events) == EndReason.MAX_FAILURES
    assert isinstance(events[-1], SearchEnded)
    assert f"{counted(max_failures + 1, 'trial')} failed" in events[-1].message
    assert len(check_books_with_failures(study, 0)) == max_failures + 1
    study.set_budget(BudgetSpec(trials=2, max_failures=max_failures + 1))
    assert reason(search(study)) == EndReason.BUDGET_TRIALS
    check_books_with_failures(study, 2)


def slow(config: TrialConfig) -> Iterator[EpochMetrics]:
    """An hour an epoch."""
    for epoch in range(1, config.epochs + 1):
        yield measured(epoch, 0.5, seconds=3600)


def test_hours_of_training_end_the_study_and_the_trial_under_way(database: Database) -> None:
    study = filing.create(database, make_spec(epochs=4, budget={"trials": None, "hours": 9.5}))
    events = search(study, FakeEngine(slow))
    assert reason(events) == EndReason.BUDGET_HOURS
    assert isinstance(events[-1], SearchEnded)
    assert "9.5 h" in events[-1].message
    trials = check_books(study, 3)
    assert [t.state for t in trials] == [State.COMPLETE, State.COMPLETE, State.PRUNED]
    assert trials[2].outcome is not None
    assert trials[2].outcome.reason == Reason.BUDGET
    assert trials[2].outcome.epoch == 2
    study.set_budget(BudgetSpec(hours=20))
    search(study, FakeEngine(slow))
    assert sum(m.seconds for t in study.trials() for m in t.metrics) == 20 * 3600


def test_a_trial_whose_last_epoch_uses_up_the_hours_is_complete(database: Database) -> None:
    study = filing.create(database, make_spec(epochs=2, budget={"trials": None, "hours": 4}))
    assert reason(search(study, FakeEngine(slow))) == EndReason.BUDGET_HOURS
    assert [t.state for t in check_books(study, 2)] == [State.COMPLETE, State.COMPLETE]


def test_whichever_budget_is_used_up_first_ends_the_study(database: Database) -> None:
    study = filing.create(database, make_spec(epochs=1, budget={"trials": 3, "hours": 100}))
    assert reason(search(study, FakeEngine(slow))) == EndReason.BUDGET_TRIALS
    study.set_budget(BudgetSpec(trials=50, hours=5))
    assert reason(search(study, FakeEngine(slow))) == EndReason.BUDGET_HOURS
    check_books(study, 5)


# --- leases ----------------------------------------------------------------------------------------------------------


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def hold_by(database: Database, process: subprocess.Popen[bytes]) -> None:
    """Make every lease that of another process."""
    born = psutil.Process(process.pid).create_time()
    write(database, "UPDATE lrsearch_workers SET pid = :pid, process_started = :born", pid=process.pid, born=born)


@on_both
def test_what_a_living_process_holds_is_left_to_it_until_it_dies(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 3}))
    claims = claims_of(study)
    claims.end(claimed(claims), complete())
    held = [claimed(claims), claimed(claims)]
    process = sleeper()
    try:
        hold_by(database, process)
        ended = claims_of(study).claim()
        assert isinstance(ended, SearchEnded)
        assert ended.reason == EndReason.HELD_ELSEWHERE
        assert "1 of 3" in ended.message
        assert "other 2 are" in ended.message
    finally:
        process.kill()
    # Killed but not yet waited for: in containers without an init a process can stay so for ever.
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    claims = claims_of(study)
    again = [claimed(claims), claimed(claims)]
    process.wait()
    assert [(c.trial.number, c.resumed) for c in again] == [(c.trial.number, True) for c in held]
    assert [c.trial.params for c in again] == [c.trial.params for c in held]


def test_a_process_that_was_given_the_number_of_a_dead_one_holds_nothing(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}))
    claimed(claims_of(study))
    write(database, "UPDATE lrsearch_workers SET process_started = process_started - 100")
    assert claimed(claims_of(study)).resumed


def test_what_another_host_holds_is_left_to_it(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}))
    claimed(claims_of(study))
    write(database, "UPDATE lrsearch_workers SET process_space = 'elsewhere', process_started = 1")
    ended = claims_of(study).claim()
    assert isinstance(ended, SearchEnded)
    assert ended.reason == EndReason.HELD_ELSEWHERE
    assert leases_held(database) == 1


def test_the_leases_of_another_study_are_none_of_ours(database: Database) -> None:
    one, other = (filing.create(database, make_spec(name, budget={"trials": 1})) for name in ("one", "other"))
    claimed(claims_of(one))
    write(database, "UPDATE lrsearch_workers SET process_started = 1")
    claim = claimed(claims_of(other))
    assert not claim.resumed
    assert leases_held(database) == 2


@on_both
def test_a_trial_given_back_goes_on_under_its_number_with_what_it_had_reported(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}, epochs=3))
    claims = claims_of(study)
    first = claimed(claims)
    for epoch in (1, 2):
        claims.accept(first, measured(epoch, 0.1 * epoch))
    claims.release(first)
    assert leases_held(database) == 0
    again = claimed(claims)
    assert again.resumed
    assert again.accepted == 2
    assert (again.trial.number, again.trial.params) == (first.trial.number, first.trial.params)
    assert again.token != first.token
    (trial,) = study.trials()
    assert trial.metrics == again.trial.metrics
    assert study.frozen_trials()[0].intermediate_values == {1: 0.1, 2: 0.2}
    assert study.frozen_trials()[0].state == TrialState.RUNNING
    claims.accept(again, measured(3, 0.6))
    claims.end(again, complete(0.6, 3))
    search(study)
    assert [m.val_accuracy for m in check_books(study, 2)[0].metrics] == [0.1, 0.2, 0.6]


def test_a_trial_under_way_is_interrupted_when_nobody_holds_it(database: Database) -> None:
    study = filing.create(database, make_spec())
    claims = claims_of(study)
    claim = claimed(claims)
    assert [(t.state, t.interrupted) for t in study.trials()] == [(State.RUNNING, False)]
    claims.release(claim)
    assert [(t.state, t.interrupted) for t in study.trials()] == [(State.RUNNING, True)]
    claims.end(claimed(claims), complete())
    assert [(t.state, t.interrupted) for t in study.trials()] == [(State.COMPLETE, False)]


@on_both
def test_no_epoch_is_accepted_twice(database: Database) -> None:
    study = filing.create(database, make_spec())
    claims = claims_of(study)
    claim = claimed(claims)
    claims.accept(claim, measured(1, 0.5))
    before = books(database)
    assert claims.accept(claim, measured(1, 0.9)).kind == "keep"
    assert books(database) == before, "the first one holds"


@on_both
def test_a_worker_that_lost_its_trial_hears_so_and_overwrites_nothing(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}, epochs=3))
    late, new = claims_of(study), claims_of(study)
    lost = claimed(late)
    late.accept(lost, measured(1, 0.1))
    sweep(database)
    taken = claimed(new)
    new.accept(taken, measured(2, 0.9))
    before = books(database)
    assert late.accept(lost, measured(2, 0.2)).kind == "lost"
    assert late.checkpointed(lost, "nowhere", 20) is False
    assert late.beat(lost)[0] is False
    assert not late.end(lost, complete(0.2, 3)).accepted
    assert not late.end(lost, CRASHED).accepted
    late.release(lost)
    assert books(database) == before
    assert new.accept(taken, measured(3, 0.9)).kind == "keep"
    assert new.end(taken, complete(0.9, 3)).accepted
    before = books(database)
    assert late.accept(lost, measured(3, 0.2)).kind == "lost"
    assert not late.end(lost, DIVERGED).accepted
    new.end(taken, DIVERGED)
    assert books(database) == before, "an ending is told once"
    (trial,) = check_books(study, 1)
    assert trial.outcome == complete(0.9, 3)
    assert [m.val_accuracy for m in trial.metrics] == [0.1, 0.9, 0.9]


@on_both
def test_a_slot_lost_before_its_trial_was_written_leaves_no_trial_behind(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}))
    late = claims_of(study)
    draw = late._proposals._draw

    def lose_it_meanwhile(*asked: Any) -> FrozenTrial:
        drawn = draw(*asked)
        if leases_held(database):
            sweep(database)
            other.append(claimed(claims_of(study)))
        return drawn

    other: list[Claim] = []
    late._proposals._draw = lose_it_meanwhile  # type: ignore[method-assign]
    ended = late.claim()
    assert isinstance(ended, SearchEnded)
    assert ended.reason == EndReason.HELD_ELSEWHERE
    assert len(other) == len(study.trials()) == len(study.frozen_trials()) == 1


# --- commits whose answer was lost -----------------------------------------------------------------------------------


@contextmanager
def answers_lost(database: Database) -> Iterator[list[int]]:
    """Break the connection after every commit that was not tried before; yield the count of those that were lost."""
    dialect = database.engine.dialect
    commit, lost, again = dialect.do_commit, [0], False
    sqlite = isinstance(database.place, SqliteFile)
    # What the drivers say; both pass by themselves.
    kind = sqlite3.OperationalError if sqlite else psycopg.OperationalError
    words = "database is locked" if sqlite else "server closed the connection unexpectedly"

    def do_commit(connection: Any) -> None:
        nonlocal again
        commit(connection)
        again = not again
        if again:
            lost[0] += 1
            raise kind(words)

    patience = database.patience_seconds
    dialect.do_commit, database.patience_seconds = do_commit, 60.0  # type: ignore[method-assign, assignment]
    try:
        yield lost
    finally:
        dialect.do_commit, database.patience_seconds = commit, patience  # type: ignore[method-assign]


@on_both
def test_a_search_none_of_whose_commits_is_answered_at_first_loses_and_repeats_nothing(
    database: Database, tmp_path: Path
) -> None:
    workers = {"checkpoint_seconds": 0}
    spec = make_spec(epochs=3, budget={"trials": 4}, pruner={"name": "asha"}, workers=workers)
    study = filing.create(database, spec, str(tmp_path / "kept"))
    with answers_lost(database) as lost:
        events = search(study)
    trials = check_books(study, 4)
    n_epochs = sum(len(t.metrics) for t in trials)
    assert lost[0] >= 3 * 4 + n_epochs, "slot, trial and ending of each, and every epoch"
    assert len(trials) == sum(isinstance(e, TrialEnded) for e in events) == 4
    assert sum(isinstance(e, EpochDone) for e in events) == n_epochs
    assert rows(database, "SELECT DISTINCT attempts FROM lrsearch_slots") == [(1,)]
    assert all(t.interruptions == () for t in trials)
    n_valued = sum(t.outcome is not None and t.outcome.value is not None for t in trials)
    assert rows(database, "SELECT count(*) FROM trial_values") == [(n_valued,)], "one ending a trial"
    assert rows(database, "SELECT count(*) FROM lrsearch_slots WHERE weights IS NOT NULL") == [(1,)]


@on_both
def test_trials_given_back_taken_over_and_refused_are_so_once_when_the_answers_are_lost(database: Database) -> None:
    space = {**ONE_SHAPE, "optimizer": "sgd"}
    study = filing.create(database, make_spec(budget={"trials": 2}, space=space))
    claims = claims_of(study)
    with plain_optuna(study) as plain:
        plain.enqueue_trial({"peak_lr_sgd": 0.25})
        plain.enqueue_trial({"peak_lr_sgd": 99.0})
    with answers_lost(database):
        first = claimed(claims)
        assert (first.trial.number, first.trial.params, first.attempt) == (0, {"peak_lr_sgd": 0.25}, 1)
        assert claims.checkpointed(first, "anything", 10)
        claims.release(first, Reason.PREEMPTED, "asked to leave")
        second = claimed(claims)
        assert (second.trial.number, second.attempt, second.checkpoint) == (0, 2, "anything")
        claims.end(second, CRASHED)
        third = claimed(claims)
        assert (third.trial.number, third.attempt) == (0, 3)
        assert claims.end(third, complete()).accepted
        other = claimed(claims)
        assert (other.trial.number, other.trial.origin) == (2, "sampler")
        assert claims.end(other, DIVERGED).accepted
        ended = claims.claim()
    assert isinstance(ended, SearchEnded)
    assert ended.reason == EndReason.BUDGET_TRIALS
    trials = study.trials()
    assert [i.reason for i in trials[0].interruptions] == [Reason.PREEMPTED, Reason.CRASH]
    assert [t.outcome for t in trials] == [complete(), DIVERGED]
    assert [t.state for t in study.frozen_trials()] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED]
    assert leases_held(database) == 0
    assert rows(database, "SELECT count(*) FROM lrsearch_slots") == [(3,)]


# --- pruning over the rows -------------------------------------------------------------------------------------------

PRUNERS: list[tuple[dict[str, Any], BasePruner]] = [
    (
        {"name": "asha", "min_resource": 1, "reduction_factor": 2},
        SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    ),
    ({"name": "median", "n_startup_trials": 2}, MedianPruner(n_startup_trials=2)),
]


@pytest.mark.slow
@on_both
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize(("settings", "pruner"), PRUNERS, ids=["asha", "median"])
@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")  # Optuna's own, where all scores of a trial are none
def test_trials_side_by_side_are_pruned_as_optuna_would(
    database: Database, settings: dict[str, Any], pruner: BasePruner, metric: str
) -> None:
    spec = make_spec(
        epochs=8,
        budget={"trials": 25},
        pruner=settings,
        objective={"metric": metric},
        space={**ONE_SHAPE, "optimizer": "sgd"},
    )
    # A study beside it, whose scores are none of ours.
    budget = {"trials": 99, "max_failures": 99}
    beside = make_spec("noise", epochs=8, budget=budget, objective={"metric": metric})
    noise = claims_of(filing.create(database, beside))
    claims = claims_of(filing.create(database, spec))
    theirs = optuna.create_study(direction=spec.metric.direction, pruner=pruner)
    order = random.Random(1)
    running: list[tuple[Claim, optuna.Trial, list[float]]] = []
    n_pruned = n_kept = 0
    while True:
        if len(running) < 3 and not isinstance(claim := claims.claim(), SearchEnded):
            running.append((claim, theirs.ask(), []))
            other = claimed(noise)
            for epoch in range(1, 9):
                noise.accept(other, measured(epoch, 0.5, 0.5))
            noise.end(other, complete(0.5, 8) if order.random() < 0.5 else CRASHED)
        if not running:
            break
        claim, trial, scores = entry = order.choice(running)
        scores.append(round(order.random(), 1) if order.random() < 0.9 else math.nan)
        epoch = len(scores)
        answer = claims.accept(claim, measured(epoch, scores[-1], scores[-1]))
        trial.report(scores[-1], epoch)
        prune = epoch < 8 and trial.should_prune()
        assert answer.kind == ("prune" if prune else "keep"), (claim.trial.number, epoch)
        n_pruned, n_kept = n_pruned + prune, n_kept + (not prune)
        if prune:
            claims.end(claim, Outcome(State.PRUNED, Reason.RUNG, scores[-1], epoch))
            theirs.tell(trial, state=TrialState.PRUNED)
            running.remove(entry)
        elif epoch == 8:
            claims.end(claim, complete(0.5, 8))
            theirs.tell(trial, 0.5)
            running.remove(entry)
    assert n_pruned > 5
    assert n_kept > 30


def test_an_epoch_of_warm_up_is_neither_judged_nor_held_against_others(database: Database) -> None:
    pruner = {"name": "asha", "min_resource": 1, "reduction_factor": 2}
    space = {**ONE_SHAPE, "optimizer": "sgd", "warmup_fraction": [0.0, 0.5]}
    study = filing.create(database, make_spec(epochs=4, pruner=pruner, space=space, budget={"trials": 9}))
    initial = [Initial("portfolio", {"peak_lr_sgd": 0.1, "warmup_fraction": w}) for w in (0.0, 0.5, 0.5, 0.0)]
    claims = claims_of(study, initial)
    good, warm, warm_and_great, fair = (claimed(claims) for _ in range(4))
    assert claims.accept(good, measured(1, 0.6)).kind == "keep"
    assert claims.accept(warm, measured(1, 0.1)).kind == "keep", "a warm-up of half of four epochs lasts two"
    assert claims.accept(warm_and_great, measured(1, 0.9)).kind == "keep"
    assert claims.accept(fair, measured(1, 0.6)).kind == "keep", "0.9 was made during warm-up"
    assert claims.accept(good, measured(2, 0.6)).kind == "keep"
    answer = claims.accept(warm, measured(2, 0.1))
    assert answer.kind == "prune", "after two epochs its warm-up is over"
    assert (answer.epoch.cut, answer.epoch.n_compared) == (0.6, 2)
    # What decided is in the table, and that of the others is left empty: nobody looked, or nothing was comparable.
    pruned = study.trials()[warm.trial.number].metrics
    assert [(m.comparable, m.cut, m.n_compared) for m in pruned] == [(False, None, 0), (True, 0.6, 2)]


@pytest.mark.parametrize(
    ("metric", "metrics", "score"),
    [
        ("accuracy", measured(1, 0.5, 2.0, averaged=0.7), 0.7),
        ("accuracy", measured(1, 0.5, 2.0), 0.5),
        ("loss", measured(1, 0.5, 2.0, averaged=0.7), 2.0),
    ],
)
def test_the_rung_score_is_the_averaged_accuracy_or_the_raw_loss(
    metric: str, metrics: EpochMetrics, score: float
) -> None:
    assert METRICS[metric].rung_score(metrics) == score


def test_who_holds_a_trial_is_asked_of_the_database(database: Database) -> None:
    claims = claims_of(filing.create(database, make_spec()))
    claim = claimed(claims)
    assert claims.holds(claim)
    sweep(database)
    assert not claims.holds(claim)
    assert claims.judge(replace(claim, trial=replace(claim.trial, metrics=(measured(1),)))).kind == "lost"


# --- Optuna's tables -------------------------------------------------------------------------------------------------


def run_every_ending(study: Study) -> list[tuple[Trial, list[float], Outcome | None]]:
    """End trials in every way there is, with every kind of score; return what was told."""
    claims = claims_of(study, [Initial("baseline", {"peak_lr_sgd": 0.125})])
    scores = [[0.25, 0.5, 1.0], [math.nan], [math.inf, -math.inf], [], [0.1], [1 / 3, 2 / 3], [0.75]]
    outcomes = [
        complete(1 / 3, 3),
        DIVERGED,
        Outcome(State.PRUNED, Reason.RUNG, 0.1, 1, message="pruned"),
        Outcome(State.PRUNED, Reason.RUNG, math.nan, 1, message="pruned"),
        CRASHED,
        complete(0.0, 3),
    ]
    told: list[tuple[Trial, list[float], Outcome | None]] = []
    for reported, outcome in zip(scores, [*outcomes, None], strict=True):
        claim = claimed(claims)
        for epoch, score in enumerate(reported, start=1):
            claims.accept(claim, measured(epoch, score, score))
        assert outcome is None or claims.end(claim, outcome).accepted
        told.append((claim.trial, reported, outcome))
    return told


def written_by_optuna(source: Study, path: Path) -> RDBStorage:
    """Write the same study through Optuna's own API."""
    storage = RDBStorage(f"sqlite:///{path}")
    made = optuna.create_study(storage=storage, study_name=source.name, direction=source.spec.metric.direction)
    study_id = storage.get_study_id_from_name(source.name)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        made.set_metric_names([f"validation {source.spec.objective.metric}"])
    for key, value in source.database.optuna.get_study_user_attrs(source.optuna_id).items():
        made.set_user_attr(key, value)
    for trial in source.frozen_trials():
        at_start = {k: v for k, v in trial.user_attrs.items() if k == SLOT_ATTR}
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=at_start,
            system_attrs=trial.system_attrs,
        )
        trial_id = storage.create_new_trial(study_id, template)
        for epoch, score in trial.intermediate_values.items():
            storage.set_trial_intermediate_value(trial_id, epoch, score)
        for key, value in trial.user_attrs.items():
            if key not in at_start:
                storage.set_trial_user_attr(trial_id, key, value)
        if trial.state.is_finished():
            values = None if trial.value is None else [trial.value]
            storage.set_trial_state_values(trial_id, trial.state, values)
    return storage


OPTUNAS_COLUMNS = {
    "studies": "study_id, study_name",
    "study_directions": "study_id, direction, objective",
    "study_user_attributes": "study_id, key, value_json",
    "study_system_attributes": "study_id, key, value_json",
    "trials": "trial_id, number, study_id, state, CASE WHEN datetime_complete IS NULL THEN 0 ELSE 1 END",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_intermediate_values": "trial_id, step, intermediate_value, intermediate_value_type",
    "trial_user_attributes": "trial_id, key, value_json",
    "trial_system_attributes": "trial_id, key, value_json",
    "trial_heartbeats": "trial_id",
    "version_info": "schema_version, library_version",
}


@on_both
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_rows_we_write_are_those_that_optuna_writes(database: Database, tmp_path: Path, metric: str) -> None:
    space = {"optimizer": "sgd", "schedule": "cosine", "batch_size": [16, 32], "warmup_fraction": 0.0}
    spec = make_spec(epochs=3, budget={"trials": 9}, space=space, objective={"metric": metric}, workers=NO_RETRIES)
    study = filing.create(database, spec)
    told = run_every_ending(study)
    for (trial, scores, outcome), seen in zip(told, study.frozen_trials(), strict=True):
        assert (seen.number, seen.params) == (trial.number, trial.params)
        assert repr(seen.intermediate_values) == repr(dict(enumerate(scores, start=1)))
        value = None if outcome is None or outcome.value is None or math.isnan(outcome.value) else outcome.value
        assert seen.value == value
    with closing(Database(database.place)) as fresh:
        ours = studies.get(fresh, None)
        theirs = written_by_optuna(ours, tmp_path / "theirs.db")
        our_trials = ours.frozen_trials()
    known = [name for name in sa.inspect(database.engine).get_table_names() if not name.startswith("lrsearch_")]
    assert {*known} == {*OPTUNAS_COLUMNS, "alembic_version"}
    raw = sqlite3.connect(tmp_path / "theirs.db")
    for table, columns in OPTUNAS_COLUMNS.items():
        sql = f"SELECT {columns} FROM {table}"
        assert sorted(map(repr, rows(database, sql))) == sorted(map(repr, raw.execute(sql).fetchall())), table
    raw.close()
    study_id = theirs.get_study_id_from_name(spec.name)
    for a, b in zip(our_trials, theirs.get_all_trials(study_id), strict=True):
        b.datetime_start, b.datetime_complete = a.datetime_start, a.datetime_complete
        for one in (a, b):
            # Optuna reads them in no order.
            one.user_attrs, one.system_attrs = (dict(sorted(d.items())) for d in (one.user_attrs, one.system_attrs))
        assert repr(a) == repr(b)  # not ==: not a number is not equal to itself
    theirs.remove_session()
    theirs.engine.dispose()


@on_both
def test_times_are_local_to_optuna_and_utc_to_us(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        study = filing.create(database, make_spec(budget={"trials": 1}))
        search(study)
        (theirs,) = study.frozen_trials()
        assert theirs.datetime_start is not None
        assert theirs.datetime_complete is not None
        assert abs(datetime.now() - theirs.datetime_start) < timedelta(minutes=1)
        assert timedelta(0) <= theirs.datetime_complete - theirs.datetime_start < timedelta(minutes=1)
        (ours,) = study.trials()
        assert ours.started_at is not None
        assert abs(datetime.now(UTC) - ours.started_at) < timedelta(minutes=1)
    finally:
        monkeypatch.undo()
        time.tzset()


@on_both
def test_plain_optuna_reads_the_study(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 8}, pruner={"name": "asha"}))
    search(study)
    best = max((t for t in study.trials() if t.state == State.COMPLETE), key=lambda t: t.outcome.value)  # type: ignore[union-attr, arg-type, return-value]
    with plain_optuna(study) as plain:
        assert plain.best_trial.number == best.number
        assert plain.best_params == best.params
        assert plain.direction == optuna.study.StudyDirection.MAXIMIZE
        assert plain.metric_names == ["validation accuracy"]
        assert len(plain.trials) == 8


def test_plain_optuna_reads_the_study_into_a_data_frame(database: Database) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    study = filing.create(database, make_spec(budget={"trials": 4}))
    search(study)
    with plain_optuna(study) as plain:
        assert len(plain.trials_dataframe()) == 4


@on_both
def test_plain_optuna_goes_on_with_the_study(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 3}, space={**ONE_SHAPE, "optimizer": "sgd"}))
    search(study)
    with plain_optuna(study) as plain:
        plain.optimize(lambda trial: trial.suggest_float("peak_lr_sgd", 1e-3, 3.0, log=True), n_trials=2)
    study.set_budget(BudgetSpec(trials=5))
    search(study)
    ours = study.trials()
    assert [t.number for t in ours] == [0, 1, 2, 5, 6], "theirs have numbers of their own"
    assert all(t.state.counts for t in ours)


def test_the_dashboard_shows_the_study(database: Database) -> None:
    from optuna_dashboard import wsgi  # type: ignore[import-untyped]

    study = filing.create(database, make_spec(budget={"trials": 5}, pruner={"name": "asha"}))
    search(study)
    app = wsgi(url_of(database.place))

    def get(path: str) -> Any:
        said: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        body = b"".join(app(environ, lambda status, headers, exc_info=None: said.append(status)))
        assert said == ["200 OK"], (path, said, body)
        return json.loads(body)

    (summary,) = get("/api/studies")["study_summaries"]
    assert summary["study_name"] == "probe"
    detail = get(f"/api/studies/{summary['study_id']}")
    assert len(detail["trials"]) == 5
    assert [t["state"] for t in detail["trials"]] == [t.state.name.title() for t in study.frozen_trials()]


def test_a_spec_filed_is_the_spec_read(database: Database) -> None:
    spec: StudySpec = make_spec(space={"optimizer": ["sgd", "rmsprop"]}, baseline="sgd lr=0.1 cosine")
    assert filing.create(database, spec).spec == spec
    with closing(Database(database.place)) as again:
        found = studies.find(again, "probe")
        assert found is not None
        assert found.spec == spec
        assert found.id == studies.get(database, None).id
        assert isinstance(claims_of(found), Claims)

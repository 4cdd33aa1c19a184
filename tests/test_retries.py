"""An attempt ends and its trial goes on: leases that expire, checkpoints, retries, and what is kept of the best."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    CRASHED,
    ONE_SHAPE,
    FakeEngine,
    Kill,
    Step,
    claimed,
    claims_of,
    complete,
    expire,
    finished,
    learning,
    leases_held,
    make_spec,
    measured,
    on_both,
    rows,
    started,
    sweep,
    url_of,
    wait_until,
    work_in_child,
    working,
)

from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, TrialInterrupted, TrialStarted
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.claims import Claim, Claims
from lrsearch.store.filing import artifacts_of
from lrsearch.store.places import Place
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.trial import EpochMetrics, Outcome, Reason, State, TrialConfig
from lrsearch.worker import kept_weights

# Below the learning rates that diverge.
SGD: dict[str, Any] = {**ONE_SHAPE, "optimizer": {"sgd": {"peak_lr": {"low": 1e-3, "high": 0.9}}}}
LONG = 3600.0


def study_of(database: Database, folder: Path | None = None, **tables: Any) -> Study:
    """File a study of one trial, whose artifacts lie in a folder."""
    spec = make_spec(**{"budget": {"trials": 1}, "space": SGD, **tables})
    return filing.create(database, spec, None if folder is None else str(folder))


def failed(reason: Reason, epoch: int = 0) -> Outcome:
    return Outcome(State.FAILED, reason, None, epoch, message=f"Error: {reason}")


def outcome_of(study: Study) -> Outcome:
    (trial,) = study.trials()
    assert trial.outcome is not None
    return trial.outcome


# --- leases ----------------------------------------------------------------------------------------------------------


@on_both
def test_a_lease_expires_and_another_worker_goes_on_with_the_trial(database: Database) -> None:
    study = study_of(database, epochs=3, workers={"lease_seconds": 0.2})
    silent, other = claims_of(study), claims_of(study)
    lost = claimed(silent)
    silent.accept(lost, measured(1, 0.5))
    taken: list[Claim] = []

    def takes_over() -> bool:
        claim = other.claim()
        if isinstance(claim, Claim):
            taken.append(claim)
        else:
            assert claim.reason == EndReason.HELD_ELSEWHERE
        return bool(taken)

    wait_until(takes_over)
    (claim,) = taken
    assert (claim.trial.number, claim.trial.params, claim.resumed) == (0, lost.trial.params, True)
    assert (claim.accepted, claim.attempt) == (1, 2)
    (interruption,) = study.trials()[0].interruptions
    assert (interruption.attempt, interruption.reason, interruption.epoch) == (1, Reason.LOST, 1)
    assert interruption.message == "its worker was not heard of any more"
    assert silent.accept(lost, measured(2, 0.6)).kind == "lost"
    assert not silent.checkpointed(lost, "anything", 20)
    assert not silent.end(lost, complete(0.6, 3)).accepted
    assert silent.beat(lost) == (False, None)


@on_both
def test_an_expired_lease_that_nobody_took_is_still_the_right_to_the_trial(database: Database) -> None:
    study = study_of(database, epochs=2)
    claims = claims_of(study)
    claim = claimed(claims)
    signs_of_life: list[Callable[[], bool]] = [
        lambda: claims.accept(claim, measured(1, 0.5)).kind == "keep",
        lambda: claims.checkpointed(claim, "anything", 10),
        lambda: claims.beat(claim) == (True, None),
    ]
    for renew in signs_of_life:
        expire(database)
        assert study.trials()[0].interrupted
        assert renew()
        ended = claims_of(study).claim()
        assert isinstance(ended, SearchEnded)
        assert ended.reason == EndReason.HELD_ELSEWHERE, "it lives again"
    expire(database)
    assert claims.end(claim, complete(0.5, 2)).accepted
    assert study.trials()[0].interruptions == ()


@on_both
def test_times_are_those_of_the_database(database: Database) -> None:
    study = study_of(database, workers={"lease_seconds": LONG})
    claimed(claims_of(study))
    with database.reading() as connection:
        clock = "strftime('%Y-%m-%d %H:%M:%f', 'now')" if database.place.url.drivername == "sqlite" else "now()"
        ((now,),) = connection.exec_driver_sql(f"SELECT {clock}").all()
    at = datetime.fromisoformat(now).replace(tzinfo=UTC) if isinstance(now, str) else now.astimezone(UTC)
    for table in ("lrsearch_leases", "lrsearch_workers"):
        ((until,),) = rows(database, f"SELECT expires_at FROM {table}")
        until = datetime.fromisoformat(str(until)).replace(tzinfo=UTC)
        assert abs(until - at - timedelta(seconds=LONG)) < timedelta(seconds=30)


def test_an_interruption_is_written_down_with_all_that_is_known(database: Database) -> None:
    study = study_of(database, epochs=4)
    claims = claims_of(study)
    claim = claimed(claims)
    for epoch in (1, 2):
        claims.accept(claim, measured(epoch))
    assert claims.checkpointed(claim, "anything", 10)
    claims.release(claim, Reason.PREEMPTED, "asked to leave")
    again = claimed(claims)
    assert (again.attempt, again.checkpoint) == (2, "anything")
    (one,) = study.trials()[0].interruptions
    assert (one.attempt, one.reason, one.epoch, one.step, one.message) == (1, Reason.PREEMPTED, 2, 10, "asked to leave")
    assert (one.worker, one.device) == (study.trials()[0].worker, "fake device")
    assert one.at is not None
    assert abs(datetime.now(UTC) - one.at) < timedelta(minutes=1)


# --- how often a trial starts again ----------------------------------------------------------------------------------


def attempt(claims: Claims, claim: Claim, reason: Reason) -> None:
    """End an attempt as it ends for that reason."""
    match reason:
        case Reason.LOST:
            expire(claims.study.database)
        case Reason.STALLED | Reason.PREEMPTED | Reason.INTERRUPTED:
            claims.release(claim, reason, f"Error: {reason}")
        case _:
            claims.end(claim, failed(reason))


LIMITED = [Reason.OUT_OF_MEMORY, Reason.CRASH, Reason.LOST, Reason.STALLED, Reason.TIMED_OUT]
ONCE = {reason.value: 0 for reason in LIMITED}


@pytest.mark.parametrize("reason", LIMITED)
@pytest.mark.parametrize("allowed", [0, 2])
def test_a_trial_starts_again_as_often_as_its_reason_is_allowed_to(
    database: Database, reason: Reason, allowed: int
) -> None:
    retries = {**ONCE, reason.value: allowed}
    study = study_of(database, budget={"trials": 1, "max_failures": 0}, workers={"retries": retries})
    claims = claims_of(study)
    for nth in range(allowed + 1):
        claim = claimed(claims)
        assert (claim.trial.number, claim.attempt, claim.resumed) == (0, nth + 1, nth > 0)
        attempt(claims, claim, reason)
    ended = claims.claim()
    assert isinstance(ended, SearchEnded)
    assert ended.reason == EndReason.MAX_FAILURES
    outcome = outcome_of(study)
    assert (outcome.state, outcome.reason) == (State.FAILED, reason)
    assert [i.reason for i in study.trials()[0].interruptions] == [reason] * (allowed + 1)
    if reason in (Reason.LOST, Reason.STALLED):
        often = "once" if allowed == 0 else "3 times without progress"
        assert outcome.message.startswith(f"{reason} {often}, and workers.retries.{reason} is {allowed}: ")
    else:
        assert outcome.message == f"Error: {reason}"


@pytest.mark.parametrize("reason", [Reason.PREEMPTED, Reason.INTERRUPTED])
def test_a_trial_whose_workers_are_sent_away_goes_on_without_end(database: Database, reason: Reason) -> None:
    study = study_of(database, workers={"retries": ONCE})
    claims = claims_of(study)
    for _ in range(9):
        attempt(claims, claimed(claims), reason)
    assert claimed(claims).attempt == 10


def test_each_reason_is_counted_by_itself(database: Database) -> None:
    retries = {**ONCE, "crash": 1, "lost": 1, "out_of_memory": 1}
    study = study_of(database, workers={"retries": retries})
    claims = claims_of(study)
    for reason in (Reason.CRASH, Reason.LOST, Reason.PREEMPTED, Reason.OUT_OF_MEMORY):
        attempt(claims, claimed(claims), reason)
    attempt(claims, claimed(claims), Reason.CRASH)
    assert outcome_of(study).reason == Reason.CRASH


def test_progress_between_two_attempts_is_a_new_start(database: Database) -> None:
    study = study_of(database, workers={"retries": {"lost": 1}})
    claims = claims_of(study)
    for step in (10, 20, 30):
        claim = claimed(claims)
        assert claims.checkpointed(claim, f"at {step}", step)
        expire(database)
    assert claimed(claims).attempt == 4, "lost three times, and each time further than before"
    expire(database)
    assert claimed(claims).trial.number == 1
    (first, _) = study.trials()
    assert [i.step for i in first.interruptions] == [10, 20, 30, 30]
    assert first.outcome is not None
    assert first.outcome.message.startswith("lost 2 times without progress, and workers.retries.lost is 1: ")


@on_both
def test_a_training_that_crashes_once_is_trained_again_and_says_so(database: Database) -> None:
    steps: Iterator[Step] = iter([RuntimeError("broken"), measured(1, 0.5)])
    engine = FakeEngine(lambda config: [next(steps)])
    study = study_of(database, epochs=1)
    events = list(working(claims_of(study), engine))
    assert [type(e) for e in events] == [
        TrialStarted,
        TrialInterrupted,
        TrialStarted,
        EpochDone,
        TrialEnded,
        SearchEnded,
    ]
    assert events[1] == TrialInterrupted(0, Reason.CRASH, "RuntimeError: broken")
    assert outcome_of(study) == complete(0.5, 1)
    assert [i.message for i in study.trials()[0].interruptions] == ["RuntimeError: broken"]


# --- checkpoints -----------------------------------------------------------------------------------------------------

EVERY_EPOCH: dict[str, Any] = {"checkpoint_seconds": 0, "retries": {"lost": 9}}


def curve(*accuracies: float) -> Callable[[TrialConfig], list[Step]]:
    """Return the script of an engine that yields these accuracies."""
    return lambda config: [measured(e, a, 1 - a) for e, a in enumerate(accuracies, start=1)]


def kept(folder: Path, kind: str = "") -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.endswith(kind))


def left_after(study: Study, engine: FakeEngine, n_epochs: int) -> list[Event]:
    """Work until so many epochs are done, then close the worker."""
    seen: list[Event] = []
    with closing(working(claims_of(study), engine)) as events:
        for event in events:
            seen.append(event)
            if sum(isinstance(e, EpochDone) for e in seen) == n_epochs:
                break
    return seen


def shown(events: list[Event]) -> list[tuple[int, float | None]]:
    return [(e.metrics.epoch, None if e.again else e.metrics.rung_score) for e in events if isinstance(e, EpochDone)]


def test_a_checkpoint_that_went_with_the_trial_is_not_missed(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = study_of(database, tmp_path / "kept", workers=EVERY_EPOCH)
    engine = FakeEngine(curve(0.1, 0.2, 0.3, 0.4))
    left_after(study, engine, 3)
    late = working(claims_of(study), engine)
    assert isinstance(next(late), TrialStarted)
    # For longer than its lease it does nothing more, and another worker trains the trial to its end.
    sweep(database)
    quick = list(working(claims_of(study), engine))
    assert outcome_of(study) == complete(0.4, 4)
    begun = len(engine.loaded)
    assert [type(event) for event in late][:1] == [TrialInterrupted]
    assert len(engine.loaded) == begun
    assert shown(quick)[-1] == (4, 0.4)
    assert caplog.text == ""
    assert kept(tmp_path / "kept", "checkpoint") == []


@on_both
def test_another_worker_goes_on_from_the_checkpoint(database: Database, tmp_path: Path) -> None:
    study = study_of(database, tmp_path / "kept", workers=EVERY_EPOCH)
    engine = FakeEngine(curve(0.1, 0.2, 0.3, 0.4))
    left_after(study, engine, 3)
    assert len(kept(tmp_path / "kept", "checkpoint")) == 1, "the earlier one is removed"
    (interruption,) = study.trials()[0].interruptions
    # The third epoch is accepted, and was being shown when the worker was closed.
    assert (interruption.epoch, interruption.step) == (3, 20)
    other = FakeEngine(curve(0.1, 0.2, 0.3, 0.4))
    events = list(working(claims_of(study), other))
    assert other.loaded == [2]
    assert shown(events) == [(3, None), (4, 0.4)]
    assert outcome_of(study) == complete(0.4, 4)
    assert [m.epoch for m in study.trials()[0].metrics] == [1, 2, 3, 4]
    assert kept(tmp_path / "kept", "checkpoint") == [], "nothing goes on from an ended trial"


@pytest.mark.parametrize("harm", ["removed", "damaged", "emptied"])
def test_without_a_sound_checkpoint_a_trial_starts_again(
    database: Database, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = study_of(database, tmp_path / "kept", workers=EVERY_EPOCH)
    engine = FakeEngine(curve(0.1, 0.2, 0.3, 0.4))
    left_after(study, engine, 3)
    (checkpoint,) = kept(tmp_path / "kept", "checkpoint")
    if harm == "removed":
        checkpoint.unlink()
    else:
        checkpoint.write_bytes(b"" if harm == "emptied" else b"?" * 99)
    events = list(working(claims_of(study), engine))
    assert engine.loaded == []
    assert shown(events) == [(1, None), (2, None), (3, None), (4, 0.4)]
    assert outcome_of(study) == complete(0.4, 4)
    assert "trial 0: " in caplog.text
    assert kept(tmp_path / "kept", "checkpoint") == []


@on_both
@pytest.mark.parametrize(
    ("kill", "loaded"),
    [
        (Kill("keep", "after", 1), []),
        # In the middle of ``checkpointed``: it was renewed where the trial began, and with its first epoch.
        (Kill("lease renewed", "after", 2), []),
        (Kill("checkpointed", "after", 1), [1]),
        (Kill("keep", "after", 2), [1]),
        (Kill("checkpointed", "after", 2), [2]),
        (Kill("accept", "after", 3), [2]),
        (Kill("end", "before", 1), [2]),
    ],
    ids=str,
)
def test_a_process_killed_around_its_checkpoints_repeats_at_most_one_interval(
    place: Place, tmp_path: Path, kill: Kill, loaded: list[int]
) -> None:
    spec = make_spec(budget={"trials": 1}, epochs=3, space=SGD, workers=EVERY_EPOCH)
    with closing(Database(place)) as database:
        filing.create(database, spec, str(tmp_path / "kept"))
    assert finished(started(work_in_child, url_of(place), spec.to_json(), kill)) == -9
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        accepted = len(study.trials()[0].metrics)
        engine = FakeEngine(learning)
        events = list(working(claims_of(study), engine))
        assert engine.loaded == loaded
        again = [epoch for epoch, score in shown(events) if score is None]
        assert again == list(range((loaded or [0])[0] + 1, accepted + 1))
        assert len(again) <= 1
        assert [m.epoch for m in study.trials()[0].metrics] == [1, 2, 3]
        assert outcome_of(study).state == State.COMPLETE


@on_both
def test_a_verdict_that_was_lost_is_found_again_without_training(database: Database) -> None:
    pruner = {"name": "asha", "min_resource": 1, "reduction_factor": 2}
    study = study_of(database, epochs=2, pruner=pruner, budget={"trials": 2})
    claims = claims_of(study)
    good, bad = claimed(claims), claimed(claims)
    claims.accept(good, measured(1, 0.75))
    claims.accept(good, measured(2, 0.75))
    claims.end(good, complete(0.75, 2))
    said = claims.accept(bad, measured(1, 0.25))
    assert said.kind == "prune"
    sweep(database)
    engine = FakeEngine(learning)
    events = list(working(claims_of(study), engine))
    assert engine.trained == []
    assert [type(e) for e in events] == [TrialStarted, TrialEnded, SearchEnded]
    outcome = study.trials()[1].outcome
    assert outcome == Outcome(State.PRUNED, Reason.RUNG, 0.25, 1, message="pruned at epoch 1: 0.25 below rung cut 0.75")


def test_a_trial_whose_last_epoch_was_accepted_is_ended_by_whoever_comes_next(
    database: Database, tmp_path: Path
) -> None:
    study = study_of(database, tmp_path / "kept", epochs=2, workers=EVERY_EPOCH)
    engine = FakeEngine(curve(0.1, 0.2))
    left_after(study, engine, 2)
    assert study.trials()[0].outcome is None
    events = list(working(claims_of(study), engine))
    assert shown(events) == [(2, None)]
    assert outcome_of(study) == complete(0.2, 2)


# --- the best weights ------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize(
    ("metric", "accuracies", "losses", "best"),
    [
        ("accuracy", [0.5, 0.25, 0.75, 0.75], [0.1, 0.1, 0.2, 0.3], 2),
        ("accuracy", [0.5, 0.75, 0.75, 0.25], [0.1, 0.3, 0.2, 0.1], 2),
        ("loss", [0.9, 0.1, 0.9, 0.9], [0.3, 0.1, 0.2, 0.4], 1),
    ],
)
def test_the_weights_of_the_best_trial_are_kept_and_no_others(
    database: Database, tmp_path: Path, metric: str, accuracies: list[float], losses: list[float], best: int
) -> None:
    values = iter(zip(accuracies, losses, strict=True))
    engine = FakeEngine(lambda config: [replace(measured(1, next_[0], next_[1])) for next_ in [next(values)]])
    tables: dict[str, Any] = {"budget": {"trials": 4}, "epochs": 1, "objective": {"metric": metric}}
    study = study_of(database, tmp_path / "kept", **tables)
    list(working(claims_of(study), engine))
    (path,) = kept(tmp_path / "kept")
    names = [study.weights_of(number) for number in range(4)]
    assert [name is not None for name, _ in names] == [number == best for number in range(4)]
    assert names[best][0] == path.name
    assert len({digest for _, digest in names}) == 4, "the hash of every complete trial is kept"
    store, trials = artifacts_of(study), study.trials()
    assert kept_weights(study, trials[best], store) == repr(trials[best].config).encode()
    assert kept_weights(study, trials[0], store) is None
    path.write_bytes(b"something else")
    assert kept_weights(study, trials[best], store) is None, "damaged"


def test_nothing_is_kept_where_no_trial_is_complete(database: Database, tmp_path: Path) -> None:
    study = study_of(database, tmp_path / "kept", budget={"trials": 2, "max_failures": 0}, workers=EVERY_EPOCH)

    def breaks(config: TrialConfig) -> Iterator[EpochMetrics | BaseException]:
        yield measured(1)
        yield RuntimeError("broken")

    list(working(claims_of(study), FakeEngine(breaks)))
    assert outcome_of(study).reason == Reason.CRASH
    assert kept(tmp_path / "kept") == []


def test_a_failure_at_last_is_no_hindrance_to_a_raised_budget(database: Database) -> None:
    study = study_of(database, budget={"trials": 1, "max_failures": 0}, workers={"retries": ONCE})
    claims = claims_of(study)
    claims.end(claimed(claims), CRASHED)
    assert isinstance(claims.claim(), SearchEnded)
    study.set_budget(BudgetSpec(trials=1, max_failures=1))
    assert claimed(claims).trial.number == 1
    assert leases_held(database) == 1

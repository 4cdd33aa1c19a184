"""Trials that go on from another one's state: what the study then has of them, and what is kept, used and removed."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from conftest import (
    FACTS,
    FakeEngine,
    FakeTraining,
    Kill,
    arm,
    expire,
    finished,
    learning,
    leases_held,
    on_both,
    plain_optuna,
    rows,
    started,
    url_of,
    working,
    write,
)
from trainings import unclocked

from lrsearch import trial as values
from lrsearch import worker
from lrsearch.domain import Fixed
from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, TrialStarted
from lrsearch.sharing import shared_epochs
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, leftovers, trunks
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.claims import Claims
from lrsearch.store.filing import artifacts_of
from lrsearch.store.places import Place, parse_place
from lrsearch.store.slots import Initial
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.strategy.strategy import Strategy
from lrsearch.strategy.view import KEEP, Begin, Judgement, Reached, Step, View
from lrsearch.training.engine import Attention, CheckpointError
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import EpochMetrics, State, TrialConfig

BASE = {"optimizer": "sgd", "peak_lr_sgd": 0.05, "batch_size": 32, "warmup_fraction": 0.0}
FLAT = {**BASE, "schedule": "constant"}
WSD = {**BASE, "schedule": "wsd", "decay_fraction_wsd": 0.4, "final_fraction": 0.01}
LATE = {**WSD, "decay_fraction_wsd": 0.2}
LINEAR = {**BASE, "schedule": "linear", "final_fraction": 0.01}


def spec_of(n: int, **more: Any) -> StudySpec:
    """Return a study of ``n`` trials of five epochs that branches."""
    tables = {
        "name": "probe",
        "epochs": 5,
        "budget": {"trials": n},
        "strategy": {"name": "lr"},
        "dataset": {"name": "digits", "limit": 200},
        "model": {"name": "mlp", "hidden": [16]},
        "space": {
            "optimizer": ["sgd"],
            "schedule": ["constant", "wsd", "linear"],
            "batch_size": 32,
            "warmup_fraction": 0.0,
        },
    }
    return study_file.build({**tables, **more}, "the test")


class Branching(Strategy):
    """Begins settings in their order; each goes on from an epoch of another trial, where one is named for it."""

    def __init__(self, database: Database, parents: dict[int, tuple[int, int]]) -> None:
        self.database, self.parents = database, parents

    def what_next(self, view: View) -> Step:
        step = super().what_next(view)
        if isinstance(step, Begin) and step.nth_first in self.parents:
            number, epoch = self.parents[step.nth_first]
            ((slot,),) = rows(self.database, "SELECT id FROM lrsearch_slots WHERE number = :n", n=number)
            return replace(step, parent=str(slot), shared=epoch)
        return step

    def judge(self, reached: Reached) -> Judgement:
        del reached
        return KEEP


def claims_of(study: Study, settings: list[dict[str, Any]], parents: dict[int, tuple[int, int]]) -> Claims:
    """Return a worker's dealings with a study that trains these settings, some as branches."""
    fixed = {name for name, domain in parameters.everything(study.spec.space).items() if isinstance(domain, Fixed)}
    initial = [Initial("portfolio", {k: v for k, v in one.items() if k not in fixed}) for one in settings]
    return Claims(study, initial, "fake device", "fake 1.0", Branching(study.database, parents))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results repeat bit for bit for one thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def real_engine(spec: StudySpec) -> SerialEngine:
    made = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=None, progress=False)
    assert isinstance(made, SerialEngine)
    return made


def filed(database: Database, spec: StudySpec, engine: SerialEngine) -> Study:
    return filing.create(database, spec.measured(engine.facts))


def whole(engine: SerialEngine, config: TrialConfig) -> list[Any]:
    return [unclocked(one) for one in engine.start(config).epochs()]


def weights_of(engine: SerialEngine, config: TrialConfig) -> str:
    """Return the hash of the last weights of a training that was made by itself."""
    training = engine.start(config)
    list(training.epochs())
    return hashlib.sha256(training.weights()).hexdigest()


def files(study: Study, kind: str) -> list[str]:
    """Return the artifacts of a study; those of others lie in the same folder."""
    return sorted(path.name for path in Path(artifacts_of(study).where).glob(f"*{study.id}*.{kind}"))


def epochs_of(events: list[Event], number: int) -> list[int]:
    return [one.metrics.epoch for one in events if isinstance(one, EpochDone) and one.number == number]


# --- a branch is the whole training ----------------------------------------------------------------------------------


@on_both
def test_a_branch_has_its_parents_first_epochs_and_ends_with_the_weights_of_a_whole_training(
    database: Database,
) -> None:
    spec = spec_of(3)
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    claims = claims_of(study, [FLAT, WSD, LATE], {1: (0, 3), 2: (0, 4)})
    events = list(working(claims, engine))

    trunk, wsd, late = study.trials()
    assert [(one.parent, one.shared_epochs) for one in (trunk, wsd, late)] == [(None, 0), (0, 3), (0, 4)]
    assert [epochs_of(events, n) for n in range(3)] == [[1, 2, 3, 4, 5], [4, 5], [5]]
    for branch in (wsd, late):
        shared = branch.shared_epochs
        assert branch.state == State.COMPLETE
        assert [one.seconds for one in branch.metrics[:shared]] == [0.0] * shared
        assert all(one.seconds > 0 for one in branch.metrics[shared:])
        told = [replace(one, seconds=0, rung_score=None, comparable=False) for one in branch.metrics]
        assert repr(told) == repr(whole(engine, branch.config)).replace("seconds=0.0", "seconds=0")
        assert branch.weights_sha256 == weights_of(engine, branch.config)
    assert wsd.config.schedule.family == "wsd"
    with plain_optuna(study) as plain:
        for mine, theirs in zip((trunk, wsd, late), plain.trials, strict=True):
            assert theirs.intermediate_values == {one.epoch: one.rung_score for one in mine.metrics}
    begun = [one.trial for one in events if isinstance(one, TrialStarted)]
    assert [len(one.metrics) for one in begun] == [0, 3, 4]
    assert leases_held(database) == 0


@on_both
def test_states_are_kept_where_another_schedule_may_branch_until_the_search_is_over(database: Database) -> None:
    spec = spec_of(2)
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    working_on = working(claims_of(study, [FLAT, WSD], {1: (0, 3)}), engine)
    seen = {}
    for event in working_on:
        if isinstance(event, EpochDone | TrialEnded):
            with database.reading() as connection:
                kept = trunks.of_study(connection, study.id)
            seen[type(event).__name__, event.number, getattr(getattr(event, "metrics", None), "epoch", 0)] = kept
    (slot,) = {slot for kept in seen.values() for slot in kept if kept[slot] == (2, 3, 4)}
    assert seen["EpochDone", 0, 3] == {slot: (2,)}  # said before the state of that epoch is kept
    assert seen["TrialEnded", 0, 0] == {slot: (2, 3, 4)}
    assert seen["TrialEnded", 1, 0] == {slot: (2, 3, 4)}  # the branch has nothing that its parent has not
    assert (files(study, "trunk"), files(study, "checkpoint")) == ([], [])
    with database.reading() as connection:
        assert trunks.of_study(connection, study.id) == {}


def test_nothing_is_kept_of_a_study_that_does_not_branch(database: Database) -> None:
    spec = spec_of(1, strategy={"name": "lr", "branching": False})
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    for event in working(claims_of(study, [FLAT], {}), engine):
        if isinstance(event, EpochDone):
            assert files(study, "trunk") == []


def test_the_hours_of_a_budget_are_not_charged_twice(database: Database) -> None:
    spec = spec_of(2)
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    list(working(claims_of(study, [FLAT, WSD], {1: (0, 3)}), engine))
    trunk, branch = study.trials()
    spent = sum(one.seconds for one in trunk.metrics) + sum(one.seconds for one in branch.metrics[3:])
    ((told,),) = rows(database, "SELECT sum(seconds) FROM lrsearch_epochs")
    assert told == pytest.approx(spent, rel=1e-12)


# --- what cannot branch begins by itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "at"), [(LINEAR, 3), (WSD, 4), (WSD, 1)], ids=["shares none", "late", "not kept"])
def test_what_does_not_share_the_state_or_finds_none_begins_by_itself(
    database: Database, setting: dict[str, Any], at: int
) -> None:
    spec = spec_of(2)
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    events = list(working(claims_of(study, [FLAT, setting], {1: (0, at)}), engine))
    trial = study.trials()[1]
    assert (trial.parent, trial.shared_epochs) == (None, 0)
    assert epochs_of(events, 1) == [1, 2, 3, 4, 5]
    assert all(one.seconds for one in trial.metrics)


def test_a_branch_whose_state_was_lost_is_trained_whole_to_the_same_weights(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    spec = spec_of(2)
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    for event in working(claims_of(study, [FLAT, WSD], {1: (0, 3)}), engine):
        if isinstance(event, TrialStarted) and event.trial.number == 1:
            for name in files(study, "trunk"):
                (Path(artifacts_of(study).where) / name).unlink()
    trial = study.trials()[1]
    assert (trial.parent, trial.shared_epochs) == (0, 3)
    assert trial.weights_sha256 == weights_of(engine, trial.config)
    assert "it starts again" in caplog.text


# --- interruptions ---------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("after", [None, 4], ids=["at once", "after an epoch of its own"])
def test_a_branch_that_is_interrupted_before_its_own_checkpoint_goes_on_from_the_trunk_again(
    database: Database, after: int | None
) -> None:
    spec = spec_of(2, workers={"checkpoint_seconds": 600})
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    settings, parents = [FLAT, WSD], {1: (0, 3)}
    events = working(claims_of(study, settings, parents), engine)
    for event in events:
        began = isinstance(event, TrialStarted) and event.trial.number == 1
        reached = isinstance(event, EpochDone) and event.number == 1 and event.metrics.epoch == after
        if began if after is None else reached:
            break
    events.close()
    assert len(files(study, "trunk")) >= 3
    again = list(working(claims_of(study, settings, parents), engine))
    started_again = next(one for one in again if isinstance(one, TrialStarted))
    assert (started_again.resumed, started_again.trial.parent, started_again.trial.shared_epochs) == (True, 0, 3)
    assert epochs_of(again, 1) == [4, 5]
    trial = study.trials()[1]
    assert [one.epoch for one in trial.metrics] == [1, 2, 3, 4, 5]
    assert trial.weights_sha256 == weights_of(engine, trial.config)


def test_a_branchs_own_checkpoint_takes_the_place_of_the_trunk_which_stays(database: Database) -> None:
    spec = spec_of(3, workers={"checkpoint_seconds": 0})
    engine = real_engine(spec)
    study = filed(database, spec, engine)
    claims = claims_of(study, [FLAT, WSD, LATE], {1: (0, 3), 2: (0, 3)})
    kept: list[set[str]] = []
    for event in working(claims, engine):
        if isinstance(event, EpochDone) and event.number > 0:
            kept.append(set(files(study, "trunk")))
    assert kept[0] <= kept[-1]
    assert [trial.shared_epochs for trial in study.trials()] == [0, 3, 3]


# --- kills -----------------------------------------------------------------------------------------------------------


class Shares(FakeEngine):
    """An engine that takes the checkpoint of another setting as long as both have had the same learning rates."""

    def start(
        self, config: TrialConfig, checkpoint: bytes | None = None, attention: Attention | None = None
    ) -> FakeTraining:
        if checkpoint is not None:
            head, _, rest = checkpoint.partition(b":")
            trunk = eval(head, vars(values))
            if shared_epochs(trunk, config, STEPS) < int(rest) and trunk != config:
                raise CheckpointError("the checkpoint of another configuration")
            checkpoint = repr(config).encode() + b":" + rest
        return super().start(config, checkpoint, attention)


STEPS = 25
SETTINGS, PARENTS = [FLAT, WSD, LATE], {1: (0, 3), 2: (0, 4)}


def work_in_child(place: str, kill: Kill | None = None) -> None:
    """Work on the study until there is no more to do: the body of a worker process."""
    if kill is not None:
        arm(kill)
    with closing(Database(parse_place(place))) as database:
        study = filing.create(database, spec_of(3).measured(FACTS))
        for _ in working(claims_of(study, SETTINGS, PARENTS), Shares(learning)):
            pass


KILLS = [
    ("sqlite", Kill("slot in reserve", "after", 2)),
    ("postgresql", Kill("mark in start", "after", 2)),
    ("sqlite", Kill("start", "after", 2)),
    ("sqlite", Kill("score in accept", "after", 7)),  # the second of the epochs that are copied
    ("sqlite", Kill("keep", "before", 2)),  # the state from which the second trial branches
    ("sqlite", Kill("keep", "after", 2)),
    ("postgresql", Kill("accept", "after", 6)),  # the first epoch of a branch's own
    ("sqlite", Kill("end", "before", 2)),
    ("postgresql", Kill("end", "after", 2)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "kill"), KILLS, ids=str)
def test_wherever_a_worker_is_killed_the_branches_are_those_of_one_that_was_not(place: Place, kill: Kill) -> None:
    with closing(Database(place)):
        pass
    assert finished(started(work_in_child, url_of(place), kill)) == -9
    with closing(Database(place)) as database:
        expire(database)
    assert finished(started(work_in_child, url_of(place))) == 0
    with closing(Database(place)) as database:
        study = studies.get(database, "probe")
        trials = study.trials()
        assert [(one.number, one.parent, one.shared_epochs) for one in trials] == [(0, None, 0), (1, 0, 3), (2, 0, 4)]
        for one in trials:
            expected = [row.val_accuracy for row in learning(one.config) if isinstance(row, EpochMetrics)]
            assert [row.val_accuracy for row in one.metrics] == expected
            assert [row.epoch for row in one.metrics] == [1, 2, 3, 4, 5]
            assert [row.seconds for row in one.metrics[: one.shared_epochs]] == [0.0] * one.shared_epochs
        with plain_optuna(study) as plain:
            assert [sorted(one.intermediate_values) for one in plain.trials] == [[1, 2, 3, 4, 5]] * 3
        assert rows(database, "SELECT * FROM lrsearch_trunks") == []


# --- what is left behind ---------------------------------------------------------------------------------------------


def with_trunks(database: Database) -> tuple[Study, Artifacts]:
    """Return a study whose first trial has ended, with three states of it."""
    study = filing.create(database, spec_of(3).measured(FACTS))
    for event in working(claims_of(study, SETTINGS, PARENTS), Shares(learning)):
        if isinstance(event, TrialEnded):
            break
    assert len(files(study, "trunk")) == 3
    return study, artifacts_of(study)


def test_states_are_released_only_where_no_trial_is_open(database: Database) -> None:
    study, _ = with_trunks(database)
    claims = claims_of(study, SETTINGS, PARENTS)
    claims.claim()
    assert claims.release_trunks() == []
    write(database, "UPDATE lrsearch_slots SET state = 'ended', outcome = 'complete'")
    assert sorted(claims.release_trunks()) == files(study, "trunk")
    assert claims.release_trunks() == []


class Pausing(Strategy):
    """Lets every trial stand still after its second epoch, and goes on with none."""

    def judge(self, reached: Reached) -> Judgement:
        return Judgement("pause" if reached.epoch == 2 else "keep")


def test_the_checkpoint_of_a_trial_that_ends_while_it_stands_still_goes_when_the_search_is_over(
    database: Database,
) -> None:
    study = filing.create(database, spec_of(2).measured(FACTS))
    claims = Claims(study, [], "fake device", "fake 1.0", Pausing())
    kept = []
    for event in working(claims, FakeEngine(learning)):
        kept.append(len(files(study, "checkpoint")))
        if isinstance(event, SearchEnded):
            assert event.reason == EndReason.BUDGET_TRIALS
    assert (max(kept), kept[-1]) == (2, 0)
    assert [trial.state for trial in study.trials()] == [State.PRUNED] * 2
    assert leftovers.named_artifacts(database, study.id) == set()


def test_doctor_takes_states_for_named_and_removes_them_with_their_study(database: Database) -> None:
    study, _ = with_trunks(database)
    assert leftovers.named_artifacts(database, study.id) >= set(files(study, "trunk"))
    write(database, "DELETE FROM lrsearch_slots")
    assert not leftovers.orphans(database, fix=False).fixed
    assert leftovers.orphans(database, fix=True).fixed
    assert rows(database, "SELECT * FROM lrsearch_trunks") == []


def test_states_go_with_a_study_that_another_program_deletes(database: Database) -> None:
    study, _ = with_trunks(database)
    with plain_optuna(study) as plain:
        optuna.delete_study(study_name=plain.study_name, storage=plain._storage)
    assert leftovers.sweep(database) == 1
    assert files(study, "trunk") == []
    assert rows(database, "SELECT * FROM lrsearch_trunks") == []

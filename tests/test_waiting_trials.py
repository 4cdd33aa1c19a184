"""Trials that a person enqueues, from the dashboard or an Optuna script: they come first, and once."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import optuna
import pytest
from conftest import (
    ONE_SHAPE,
    FakeEngine,
    Kill,
    claimed,
    claims_of,
    finished,
    learning,
    make_spec,
    on_both,
    plain_optuna,
    rows,
    started,
    url_of,
    work_in_child,
    working,
)
from optuna.trial import FrozenTrial, TrialState

from lrsearch.events import EndReason, Event, SearchEnded, TrialEnded, TrialStarted
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.claims import Claims
from lrsearch.store.places import Place
from lrsearch.store.slots import Initial
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.trial import Reason

# Below the learning rates that diverge.
SGD: dict[str, Any] = {**ONE_SHAPE, "optimizer": {"sgd": {"peak_lr": {"low": 1e-3, "high": 0.9}}}}
FREE: dict[str, Any] = {**SGD, "batch_size": [16, 32, 64]}


def study_of(database: Database, n_trials: int = 3, **tables: Any) -> Study:
    return filing.create(database, make_spec(**{"budget": {"trials": n_trials}, "space": SGD, **tables}))


def enqueue(study: Study, *settings: dict[str, Any]) -> None:
    """Enqueue as an Optuna script does."""
    with plain_optuna(study) as plain:
        for setting in settings:
            plain.enqueue_trial(setting)


def search(study: Study, initial: list[Initial] | None = None) -> list[Event]:
    return list(working(claims_of(study, initial or []), FakeEngine(learning)))


def how_it_ended(events: list[Event]) -> EndReason:
    assert isinstance(events[-1], SearchEnded)
    return events[-1].reason


def learning_rates(study: Study) -> dict[int, float]:
    return {t.number: t.config.optimizer.peak_lr for t in study.trials()}


@on_both
def test_what_is_enqueued_comes_before_every_first_setting_and_counts(database: Database) -> None:
    study = study_of(database, 4)
    enqueue(study, {"peak_lr_sgd": 0.25}, {"peak_lr_sgd": 0.125})
    initial = [Initial("baseline", {"peak_lr_sgd": 0.01}), *[Initial("portfolio", {"peak_lr_sgd": 0.02})] * 3]
    assert how_it_ended(search(study, initial)) == EndReason.BUDGET_TRIALS
    trials = study.trials()
    assert [(t.number, t.origin, t.config.optimizer.peak_lr) for t in trials] == [
        (0, "enqueued", 0.25),
        (1, "enqueued", 0.125),
        (2, "baseline", 0.01),
        (3, "portfolio", 0.02),
    ]
    assert all(t.state.counts for t in trials)
    with plain_optuna(study) as plain:
        assert [t.state for t in plain.trials] == [TrialState.COMPLETE] * 4
        assert [t.params["peak_lr_sgd"] for t in plain.trials[:2]] == [0.25, 0.125]


@on_both
def test_what_is_left_open_is_drawn_and_what_a_person_noted_is_kept(database: Database) -> None:
    study = study_of(database, 1, space=FREE)
    with plain_optuna(study) as plain:
        plain.enqueue_trial({"batch_size": 64}, user_attrs={"asked by": "me"})
    search(study)
    (trial,) = study.trials()
    assert trial.config.batch_size == 64
    assert 1e-3 <= trial.config.optimizer.peak_lr <= 0.9
    (theirs,) = study.frozen_trials()
    assert theirs.user_attrs["asked by"] == "me"
    assert theirs.params == trial.params


def test_a_setting_enqueued_while_a_worker_works_is_its_next_trial(database: Database) -> None:
    study = study_of(database, 3)
    for event in working(claims_of(study), FakeEngine(learning)):
        if isinstance(event, TrialEnded) and event.number == 0:
            assert study.enqueue({"peak_lr_sgd": 0.25}) == 1
    assert learning_rates(study)[1] == 0.25
    assert [t.origin for t in study.trials()] == ["sampler", "enqueued", "sampler"]


def test_what_was_interrupted_comes_before_what_is_enqueued(database: Database) -> None:
    study = study_of(database, 3)
    claims = claims_of(study)
    claims.release(claimed(claims))
    enqueue(study, {"peak_lr_sgd": 0.25})
    assert [e.trial.number for e in search(study) if isinstance(e, TrialStarted)] == [0, 1, 2]
    assert learning_rates(study)[1] == 0.25


@on_both
def test_several_workers_take_each_enqueued_trial_once(database: Database) -> None:
    study = study_of(database, 3)
    enqueue(study, {"peak_lr_sgd": 0.25}, {"peak_lr_sgd": 0.125})
    claims = [claimed(claims_of(study)) for _ in range(3)]
    assert [(c.trial.number, c.trial.origin) for c in claims] == [(0, "enqueued"), (1, "enqueued"), (2, "sampler")]
    ended = claims_of(study).claim()
    assert isinstance(ended, SearchEnded)
    assert ended.reason == EndReason.HELD_ELSEWHERE


# --- a plain Optuna script is quicker --------------------------------------------------------------------------------


class Overtaken(Claims):
    """A worker that something happens to while it draws."""

    meanwhile: Callable[[], object] | None = None

    def __init__(self, study: Study, initial: list[Initial], device: str, versions: str) -> None:
        super().__init__(study, initial, device, versions)
        self._draw, self._proposals._draw = self._proposals._draw, self._overtaken  # type: ignore[method-assign]

    def _overtaken(self, *asked: Any) -> FrozenTrial:
        drawn = self._draw(*asked)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return drawn


@on_both
def test_a_trial_that_plain_optuna_took_meanwhile_is_left_to_it(database: Database) -> None:
    study = study_of(database, 2)
    enqueue(study, {"peak_lr_sgd": 0.25})
    claims = Overtaken(study, [], "fake device", "fake 1.0")
    with plain_optuna(study) as plain:
        claims.meanwhile = plain.ask
        claim = claimed(claims)
        assert (claim.trial.number, claim.trial.origin) == (1, "sampler")
        claims.release(claim)
        search(study)
        plain.tell(0, 0.5)
        assert [t.state for t in plain.trials] == [TrialState.COMPLETE] * 3
    assert [t.number for t in study.trials()] == [1, 2], "exactly our budget"


def ask_and_tell(plain: optuna.Study) -> None:
    plain.tell(plain.ask(), 0.5)


@pytest.mark.parametrize("how", [optuna.Study.ask, ask_and_tell], ids=["runs", "finished"])
def test_a_trial_that_plain_optuna_took_from_a_worker_that_died_is_left_to_it(
    place: Place, how: Callable[[optuna.Study], object]
) -> None:
    spec = make_spec(budget={"trials": 2}, space=SGD)
    with closing(Database(place)) as database:
        enqueue(filing.create(database, spec), {"peak_lr_sgd": 0.25})
    assert finished(started(work_in_child, url_of(place), spec.to_json(), Kill("reserve", "after"))) == -9
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        with plain_optuna(study) as plain:
            how(plain)
        assert how_it_ended(search(study)) == EndReason.BUDGET_TRIALS
        assert [(t.number, t.origin) for t in study.trials()] == [(1, "sampler"), (2, "sampler")]


# --- killed ----------------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize(
    ("kill", "running"),
    [
        (Kill("slot in reserve", "after"), []),
        (Kill("reserve", "after"), []),
        (Kill("setting in start", "after"), []),
        (Kill("mark in start", "after"), []),
        (Kill("start", "after"), [0]),
    ],
    ids=str,
)
def test_a_process_killed_while_it_takes_an_enqueued_trial_loses_nothing(
    place: Place, kill: Kill, running: list[int]
) -> None:
    spec = make_spec(budget={"trials": 2}, space=FREE)
    with closing(Database(place)) as database:
        enqueue(filing.create(database, spec), {"peak_lr_sgd": 0.25})
    assert finished(started(work_in_child, url_of(place), spec.to_json(), kill)) == -9
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        (theirs,) = study.frozen_trials()
        assert theirs.state == (TrialState.RUNNING if running else TrialState.WAITING)
        assert [t.number for t in study.trials()] == running
        assert how_it_ended(search(study)) == EndReason.BUDGET_TRIALS
        assert [(t.number, t.origin) for t in study.trials()] == [(0, "enqueued"), (1, "sampler")]
        assert learning_rates(study)[0] == 0.25
        assert all(t.state == TrialState.COMPLETE for t in study.frozen_trials())
        assert rows(database, "SELECT count(*) FROM lrsearch_slots") == [(2,)]


# --- outside the space -----------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"peak_lr_sgd": 99.0}, ["peak_lr_sgd", "99"]),
        ({"batch_size": 17}, ["batch_size", "17"]),
        ({"peak_lr_sdg": 0.1}, ["peak_lr_sdg", "peak_lr_sgd"]),
        ({"peak_lr_sgd": "high"}, ["peak_lr_sgd", "high"]),
    ],
    ids=str,
)
def test_a_value_outside_the_space_fails_its_trial_and_counts_neither_as_trial_nor_as_failure(
    database: Database, setting: dict[str, Any], words: list[str]
) -> None:
    study = study_of(database, 2, space=FREE, budget={"trials": 2, "max_failures": 0})
    enqueue(study, setting, {"peak_lr_sgd": 0.25})
    assert how_it_ended(search(study)) == EndReason.BUDGET_TRIALS
    with plain_optuna(study) as plain:
        assert [t.state for t in plain.trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
        said = plain.trials[0].user_attrs["lrsearch:message"]
    assert all(word in said for word in words), said
    assert said.startswith("enqueued outside the space: ")
    assert rows(database, "SELECT reason FROM lrsearch_slots WHERE outcome = 'failed'") == [(Reason.NOT_IN_SPACE,)]
    assert learning_rates(study)[1] == 0.25
    assert [t.number for t in study.trials()] == [1, 2], "what cannot be trained has no configuration to show"


@on_both
def test_what_we_enqueue_is_what_optuna_would_have_written(database: Database) -> None:
    study = study_of(database)
    enqueue(study, {"peak_lr_sgd": 0.25})
    assert study.enqueue({"peak_lr_sgd": 0.25}) == 1
    with plain_optuna(study) as plain:
        theirs, ours = plain.get_trials()
    for name in ("state", "params", "distributions", "user_attrs", "system_attrs", "values", "datetime_start"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.state == TrialState.WAITING

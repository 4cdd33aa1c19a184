"""What a person does to a study that others work on: extend, stop, enqueue, watch; and workers that come and go."""

import itertools
import json
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from command_line import ESCAPE, InProcess, Result, Running, at_a_terminal, end_of
from conftest import (
    FakeEngine,
    claimed,
    claims_of,
    learning,
    leases_held,
    make_spec,
    on_both,
    plain_optuna,
    url_of,
    working,
)

from lrsearch.events import EndReason, SearchEnded, TrialStarted
from lrsearch.report.status import without_volatile
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.storage import Database
from lrsearch.store.study import Study

pytest_plugins = ["command_line"]

TINY = ("--epochs", "1", "--set", "space.batch_size=200")
SLOW = ("--model", "cnn", "--epochs", "1000", "--set", "workers.lease_seconds=6")
"""Long enough to be stopped; a worker looks once a second whether it is to stop, and may stand still for five."""


@pytest.fixture
def study(database: Database) -> Study:
    return filing.create(database, make_spec())


@pytest.fixture
def at(database: Database, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Runs commands on the database of the test, which only the environment names."""
    monkeypatch.setenv("LRSEARCH_STORAGE", url_of(database.place))
    return lrsearch


def said(pattern: str) -> Any:
    return lambda process: pattern in process.read("stderr")


def ok(result: Result) -> str:
    assert (result.code, result.err) == (0, ""), result.err
    return result.out


# --- extend ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "trials", "hours", "words"),
    [
        (("--trials", "+50"), 56, None, "56 trials"),
        (("--trials", "20"), 20, None, "20 trials"),
        (("--hours", "+2"), 6, 2.0, "6 trials and 2 h of training"),
        (("--trials", "+1", "--hours", "0.5"), 7, 0.5, "7 trials and 0.5 h of training"),
    ],
)
def test_extend_changes_the_budget(
    argv: tuple[str, ...], trials: int, hours: float | None, words: str, at: InProcess, study: Study
) -> None:
    assert ok(at("extend", *argv)) == f"the budget of 'probe' is now {words}\n"
    assert study.budget() == BudgetSpec(trials=trials, hours=hours, max_failures=study.budget().max_failures)


def test_hours_may_be_extended_again(at: InProcess, study: Study) -> None:
    for total in (1.5, 3.0):
        at("extend", "--hours", "+1.5")
        assert study.budget().hours == total


@on_both
def test_workers_go_on_when_the_budget_is_extended(at: InProcess, study: Study) -> None:
    def ended() -> EndReason:
        *_, last = working(claims_of(study), FakeEngine(learning))
        assert isinstance(last, SearchEnded)
        return last.reason

    assert ended() == EndReason.BUDGET_TRIALS
    ok(at("stop", "probe"))
    ok(at("extend", "probe", "--trials", "+2"))
    assert ended() == EndReason.BUDGET_TRIALS, "it is no longer stopped"
    assert len(study.trials()) == 8


# --- stop ------------------------------------------------------------------------------------------------------------


@on_both
def test_a_stopped_study_lets_its_trials_end_and_starts_no_other(at: InProcess, study: Study) -> None:
    events = working(claims_of(study), FakeEngine(learning))
    assert isinstance(next(events), TrialStarted)
    assert "1 trial under way will be finished first" in ok(at("stop"))
    assert "stopped " in at("status").out
    assert at("status", "--json").document["stopped"] == "drain"
    *_, last = events
    assert isinstance(last, SearchEnded)
    assert last.reason == EndReason.STOPPED
    assert [t.state.counts for t in study.trials()] == [True]


@pytest.mark.slow
def test_a_worker_of_a_study_that_is_stopped_now_keeps_what_it_has(
    at: InProcess, database: Database, tmp_path: Path
) -> None:
    ok(at("run", "--trials", "1", *SLOW, "--detach"))
    study = studies.get(database, "digits")
    process = Running(("worker", "--study", "digits"), tmp_path, LRSEARCH_STORAGE=url_of(database.place))
    assert process.wait_for(said(" epoch 1/1000"))
    (worker,) = at("status", "--json").document["workers"]
    assert (worker["trial"], worker["worker"].partition(":")[2]) == (0, str(process.process.pid))
    assert "1 trial under way will be kept and released (within 1 s)" in ok(at("stop", "--now"))
    result = process.result()
    assert result.code == 0, result.err
    assert "~ 0 preempted: the study was stopped; it goes on later" in result.err
    assert "ended: the study was stopped" in result.err
    (trial,) = study.trials()
    assert trial.interrupted
    (kept,) = trial.interruptions
    assert (kept.reason, kept.step > 0) == ("preempted", True)
    assert leases_held(database) == 0
    assert ok(at("status", "--watch")).count("study ") == 1, "nothing more comes until somebody extends it"
    assert at("worker", "--exit-when-idle", "--quiet").code == 0, "a stopped study is none to work on"
    assert [t.interrupted for t in study.trials()] == [True]


# --- enqueue ---------------------------------------------------------------------------------------------------------


@on_both
def test_what_a_person_enqueues_is_tried_first(at: InProcess, study: Study) -> None:
    out = ok(at("enqueue", "sgd lr=0.07 constant"))
    assert out.startswith("trial 0 of 'probe' will be: ")
    assert "0.07" in out
    with plain_optuna(study) as plain:
        plain.enqueue_trial({"peak_lr_sgd": 0.08})
    for _ in working(claims_of(study), FakeEngine(learning)):
        pass
    trials = study.trials()
    assert [t.config.optimizer.peak_lr for t in trials[:2]] == [0.07, 0.08]
    assert [t.origin for t in trials[:3]] == ["enqueued", "enqueued", "sampler"]
    assert sum(t.state.counts for t in trials) == 6, "they count towards the budget"
    assert "the budget is used up: `lrsearch extend probe --trials +1`" in ok(at("enqueue", "sgd lr=0.06 constant"))


# --- workers ---------------------------------------------------------------------------------------------------------


def test_a_worker_leaves_after_so_many_trials_and_at_the_end_of_the_budget(at: InProcess, database: Database) -> None:
    ok(at("run", "--trials", "3", *TINY, "--detach"))
    first = at("worker", "--study", "digits", "--max-trials", "1")
    assert first.code == 0, first.err
    assert [line.split()[1] for line in first.err.splitlines()] == [">", ".", "<"]
    rest = at("worker", "--study", "digits")
    assert rest.code == 0, rest.err
    assert rest.err.splitlines()[-1].endswith("= ended: all 3 trials of the budget are finished")
    study = studies.get(database, "digits")
    assert [t.state.counts for t in study.trials()] == [True] * 3
    assert at("best", "--json").document["winner"]["test_accuracy"] is not None, "a worker judges the winner"
    assert at("worker", "--study", "digits", "--quiet") == Result(0, "", ""), "there is nothing left to do"


def test_a_worker_leaves_after_so_long_and_its_trial_is_kept(at: InProcess, database: Database) -> None:
    ok(at("run", "--trials", "1", *SLOW, "--detach"))
    result = at("worker", "--study", "digits", "--max-hours", str(2.0 / 3600))
    assert result.code == 0, result.err
    (trial,) = studies.get(database, "digits").trials()
    assert trial.interrupted
    assert [one.reason for one in trial.interruptions] == ["preempted"]


def test_a_worker_that_may_not_wait_leaves_when_all_is_trained_elsewhere(at: InProcess, study: Study) -> None:
    claims = claims_of(study)
    study.set_budget(BudgetSpec(trials=1))
    claim = claimed(claims)
    result = at("worker", "--study", "probe", "--exit-when-idle", "--device", "cpu")
    assert result.code == 0, result.err
    assert "the other 1 is being trained by another process" in result.err
    assert claims.beat(claim) == (True, None)
    assert at("worker", "--exit-when-idle", "--quiet") == Result(0, "", "")


@pytest.mark.slow
def test_a_fleet_waits_for_studies_and_serves_them_all(
    lrsearch: InProcess, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where there is nothing yet, not even our tables.
    url, at = postgres_url, lrsearch
    monkeypatch.setenv("LRSEARCH_STORAGE", url)
    process = Running(("worker", "--device", "cpu"), tmp_path, LRSEARCH_STORAGE=url, LRSEARCH_ARTIFACTS=str(tmp_path))
    assert process.wait_for(said("serving every open study"))
    filed = at("run", "--trials", "1", *TINY, "--detach")
    assert filed == Result(0, "digits\n", "")
    document = at("run", "--trials", "2", *TINY, "--name", "second", "--detach", "--json").document
    assert (document["study"], "***" in document["storage"]) == ("second", True)

    def finished() -> bool:
        return [row["counts"]["complete"] for row in at("list", "--json").document["studies"]] == [1, 2]

    assert process.wait_for(lambda _: finished())
    process.send(signal.SIGTERM)
    result = process.result()
    assert result.code == 143, result.err
    assert "second > trial 0 " in result.err
    assert "Traceback" not in result.err
    next_lines = at("best", "second").out.partition("Next\n")[2]
    assert "--storage" not in next_lines, "the variable names it"
    assert "lrsearch dashboard" in next_lines
    password = urlsplit(url).password
    assert password is not None
    assert password not in next_lines + result.err


# --- watch -----------------------------------------------------------------------------------------------------------


def test_a_watcher_sees_every_change_until_the_budget_is_used_up(
    at: InProcess, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = working(claims_of(study), FakeEngine(learning))
    with monkeypatch.context() as patched:
        # While the watcher waits, others work.
        patched.setattr(time, "sleep", lambda _: (next(events, None), next(events, None)))
        documents = [json.loads(line) for line in ok(at("status", "--watch", "--json")).splitlines()]
    events.close()
    assert [seen["finished"] for seen in documents][:: len(documents) - 1] == [0, 6]
    assert all(one != other for one, other in itertools.pairwise(map(without_volatile, documents)))
    assert len([seen for seen in documents if seen["running"]]) > 6, "an epoch is a change"
    assert {worker["trial"] for seen in documents for worker in seen["workers"]} >= {0, 1, 2, 3}
    text = ok(at("status", "--watch"))
    assert text.count("study ") == 1
    assert ESCAPE not in text


def test_ctrl_c_ends_a_watch_and_restores_the_terminal(study: Study, database: Database, tmp_path: Path) -> None:
    del study
    child = at_a_terminal(["status", "--watch"], tmp_path, LRSEARCH_STORAGE=url_of(database.place))
    child.expect("no complete trial yet")
    child.sendintr()
    result = end_of(child)
    assert result.code == 130
    assert "\x1b[?25h" in result.out, "the cursor is shown again"
    assert "Traceback" not in result.out

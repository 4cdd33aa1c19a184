"""A search that pauses is hit as chaos hits any other, and loses nothing; a trial that stood still goes on elsewhere.

``benchmarks/chaos.py --strategy lr`` in small, with checks that see what they are there for; what it has found, told
apart; and a trial that one host paused and another one, with a home of its own, went on with.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import two_hosts
from conftest import FakeEngine, claims_of, forkserver, learning, make_spec, plain_optuna, rows, wait_until, working
from optuna.trial import TrialState
from postgres import Server

from lrsearch.events import EpochDone, TrialInterrupted, TrialStarted
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database
from lrsearch.strategy.lr.choice import Chooser
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import Reason, State

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import chaos
import chaos_moves
from chaos_check import Evidence, Worker, measured, read

CHAOS = Path(__file__).parent.parent / "benchmarks" / "chaos.py"
SMALL = "--workers=3 --kills=6 --acts=2 --deletions=0 --epochs=6 --images=240 --lease=2 --trainings=4 --budget=14"
KINDS = ["sqlite", "postgresql"]
ONE_RATE = {"schedule": "constant", "batch_size": 16, "warmup_fraction": 0.0}


@dataclass
class Run:
    """What one run came to."""

    figures: dict[str, Any]
    evidence: Evidence


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return a run on each kind of database, and the next seed's where the budget was used up before any kill."""
    folder, found, storage = tmp_path_factory.mktemp("chaos"), dict[str, Run](), "both"
    for seed in (10, 11, 12):
        words = ["--strategy=lr", "--branching", *SMALL.split(), f"--storage={storage}", f"--seed={seed}", "--json"]
        command = [sys.executable, str(CHAOS), f"--evidence={folder}", f"--keep={folder}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1000)
        assert done.stdout, done.stderr
        for said in json.loads(done.stdout):
            evidence = pickle.loads((folder / f"{said['storage']}-{seed}.pickle").read_bytes())
            found[said["storage"]] = Run(said, evidence)
        # What does not hold is not played again.
        again = [kind for kind, run in found.items() if not run.figures["violations"] and not run.figures["kills"]]
        if not again:
            break
        storage = again[0] if len(again) == 1 else "both"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_search_that_pauses_and_branches_loses_nothing_however_workers_die(runs: dict[str, Run], kind: str) -> None:
    figures, seen = runs[kind].figures, runs[kind].evidence
    assert figures["violations"] == []
    assert sum(figures["kills"].values()) >= 1, figures
    assert figures["pauses"] >= 1, figures
    # By the tables themselves, without the checks: all epochs of four trainings, and no slot open.
    trained = len(seen.epochs) - sum(row["shared_epochs"] or 0 for row in seen.slots)
    assert trained == 4 * 6
    assert {row["state"] for row in seen.slots} == {"ended"}
    assert {row["kind"] for row in seen.moves} == {"start", "pause", "resume"}
    assert len({(row["slot_id"], row["kind"], row["epoch"]) for row in seen.moves}) == len(seen.moves)


# --- evidence that has been tampered with ----------------------------------------------------------------------------


def move_of(seen: Evidence, kind: str) -> dict[str, Any]:
    return next(row for row in seen.moves if row["kind"] == kind)


def one_epoch_too_many(seen: Evidence) -> None:
    seen.epochs.append({**seen.epochs[0], "epoch": 99})


def written_twice(seen: Evidence) -> None:
    i = seen.moves.index(move_of(seen, "pause"))
    seen.moves.insert(i, dict(seen.moves[i]))


def never_begun(seen: Evidence) -> None:
    seen.moves.remove(move_of(seen, "start"))


def between_rungs(seen: Evidence) -> None:
    move_of(seen, "pause")["epoch"] = 4


def trunk_forgotten(seen: Evidence) -> None:
    seen.n_trunks = 1


def checkpoint_forgotten(seen: Evidence) -> None:
    seen.slots[0]["checkpoint"] = "lrsearch-1.checkpoint"


def ended_unpaused(seen: Evidence) -> None:
    settled = next(row for row in seen.slots if row["reason"] == Reason.PAUSED)
    seen.moves[:] = [row for row in seen.moves if row["slot_id"] != settled["id"] or row["kind"] != "pause"]


def begun_elsewhere(seen: Evidence) -> None:
    _, one = next((w, one) for w, one in seen.attempts if one.epochs and one.number not in seen.told)
    one.epochs.insert(0, (17, False))


TAMPERED: list[tuple[Callable[[Evidence], None], str]] = [
    (one_epoch_too_many, "epochs were trained, and the budget has"),
    (written_twice, "has the moves"),
    (never_begun, "of the strategy begins with the moves"),
    (between_rungs, "which is no rung"),
    (trunk_forgotten, "states are kept to branch from"),
    (checkpoint_forgotten, "the checkpoints of the trials"),
    (ended_unpaused, "ended because it stood still"),
    (begun_elsewhere, "went on with epoch 17"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("tamper", "found"), TAMPERED, ids=lambda given: getattr(given, "__name__", ""))
def test_the_checks_find_what_was_tampered_with(
    runs: dict[str, Run], tamper: Callable[[Evidence], None], found: str
) -> None:
    seen = deepcopy(runs["sqlite"].evidence)
    tamper(seen)
    assert any(found in sentence for sentence in chaos_moves.violations(seen)), chaos_moves.violations(seen)


# --- what it has found -----------------------------------------------------------------------------------------------


def spec_of(**budget: Any) -> StudySpec:
    return make_spec(epochs=10, strategy={"name": "lr", "branching": False}, budget=budget)


@pytest.mark.parametrize("backend", KINDS, indirect=True)
def test_a_move_is_written_once_and_no_file_is_left_where_every_answer_is_lost(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = filing.create(database, spec_of(trials=10), str(tmp_path / "kept"))
    write = Database.write

    def twice(self: Database, work: Callable[[sa.Connection], Any], *args: Any, **kwargs: Any) -> Any:
        write(self, work, *args, **kwargs)
        return write(self, work, *args, **kwargs)

    monkeypatch.setattr(Database, "write", twice)
    events = list(working(claims_of(study), FakeEngine(learning)))
    monkeypatch.undo()
    moves = rows(database, "SELECT slot_id, kind, epoch FROM lrsearch_moves")
    assert len(moves) == len(set(moves))
    assert {kind for _, kind, _ in moves} == {"start", "pause", "resume"}
    assert any(isinstance(one, TrialInterrupted) and one.reason == Reason.PAUSED for one in events)
    kept = rows(database, "SELECT weights FROM lrsearch_slots WHERE weights IS NOT NULL")
    left = [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert left == [name for (name,) in kept]


@pytest.mark.parametrize("backend", KINDS, indirect=True)
def test_as_many_trials_end_though_another_program_told_of_those_that_stood_still(
    database: Database, tmp_path: Path
) -> None:
    study = filing.create(database, spec_of(trials=8), str(tmp_path / "kept"))
    told = list[int]()
    paused = set[int]()
    begun = 0
    for event in working(claims_of(study), FakeEngine(learning)):
        begun += isinstance(event, TrialStarted) and not event.resumed
        if isinstance(event, TrialInterrupted):
            paused.add(event.number)
        elif isinstance(event, TrialStarted):
            paused.discard(event.trial.number)
        if begun == 8 and not told:
            # All are begun: what is found out of these is found out when nothing is left to go on with others.
            with plain_optuna(study) as plain:
                for number in sorted(paused)[:3]:
                    plain.tell(number, state=TrialState.FAIL)
                    told.append(number)
    trials = study.trials()
    assert len(told) == 3
    assert sorted(trial.number for trial in trials if trial.state == State.FAILED) == told
    assert sum(trial.state.counts for trial in trials) == 8


@pytest.mark.parametrize(
    ("state", "scores", "spent"),
    [
        (State.RUNNING, 0, 4),
        (State.RUNNING, 6, 4),
        (State.RUNNING, 7, 4),
        (State.COMPLETE, 10, 4),
        (State.FAILED, 0, 0),
    ],
)
def test_a_branch_costs_what_it_trains_whether_or_not_it_has_its_parents_epochs_yet(
    state: State, scores: int, spent: int
) -> None:
    chooser = Chooser(spec_of(trainings=3))
    config = chooser.settings.sweep(np.random.default_rng(0), 1)[0].config
    branch = ScoreCurve("1", config, state, (0.5,) * scores, parent="0", shared=6)
    assert chooser.spent([branch]) == spent


@pytest.mark.parametrize("backend", KINDS, indirect=True)
def test_what_stands_still_is_not_read_again_for_every_claim(database: Database, tmp_path: Path) -> None:
    study = filing.create(database, spec_of(trials=20), str(tmp_path / "kept"))
    params = list[int]()

    @sa.event.listens_for(database.engine, "after_cursor_execute")
    def count(connection: Any, cursor: Any, statement: str, given: Any, context: Any, many: Any) -> None:
        del connection, cursor, context, many
        if statement.lstrip().startswith("SELECT trial_params"):
            params.append(len(given))

    n_epochs = sum(isinstance(one, EpochDone) for one in working(claims_of(study), FakeEngine(learning)))
    assert n_epochs > 20
    # As many as there are trials, each when it begins and when it has ended; to end while it stands still is no claim.
    assert len(params) <= 4 * 20


# --- on another host -------------------------------------------------------------------------------------------------


@pytest.fixture
def hosts() -> Iterator[two_hosts.Network]:
    with two_hosts.store_and_two() as made:
        yield made


@pytest.mark.slow
def test_a_trial_that_one_host_paused_goes_on_on_another_bit_for_bit(hosts: two_hosts.Network, tmp_path: Path) -> None:
    spec = make_spec(
        "moved",
        epochs=20,
        strategy={"name": "lr", "branching": False},
        budget={"trainings": 3},
        dataset={"limit": 1000},
        # So few settings that differ by enough to be tried that the search goes on with those it has.
        space={**ONE_RATE, "optimizer": {"sgd": {"peak_lr": {"low": 0.05, "high": 0.2, "log": True}}}},
    )
    artifacts = tmp_path / "artifacts"

    def worker_on(name: str, url: str) -> "subprocess.Popen[bytes]":
        home = tmp_path / f"home of {name}"
        home.mkdir()
        own = {"HOME": str(home), "LRSEARCH_CACHE": str(home / "cache"), "LRSEARCH_STORAGE": url}
        argv = [sys.executable, "-m", "lrsearch", "worker", "--study", "moved", "--device", "cpu", "--threads", "1"]
        with (tmp_path / f"{name}.log").open("wb") as out:
            return subprocess.Popen(hosts.command(name, argv), stderr=out, stdout=out, env={**os.environ, **own})

    def log_of(name: str) -> Worker:
        text = (tmp_path / f"{name}.log").read_text()
        return Worker(name, text.rpartition("\n")[0], 0)

    with (
        Server.start(tmp_path / "postgres", listen=hosts.address("store"), netns=hosts.namespace("store")) as server,
        ThreadPoolExecutor(1, initializer=two_hosts.enter, initargs=(hosts, "store")) as there,
    ):
        url = server.create_database()
        place = parse_place(url)
        filed = there.submit(filing.file_study, spec, place, explicit_budget=True, artifacts=str(artifacts))
        filed.result().database.close()
        alpha = worker_on("alpha", url)
        try:
            wait_until(lambda: len(paused_by(log_of("alpha"))) >= 3 or alpha.poll() is not None)
            alpha.send_signal(signal.SIGTERM)
            alpha.wait(60)
            beta = worker_on("beta", url)
            assert beta.wait(180) == 0, log_of("beta").text
        finally:
            alpha.kill()
            alpha.wait()

        def seen() -> Evidence:
            with closing(Database(place)) as database:
                return read(studies.get(database, "moved"), artifacts, [log_of("alpha"), log_of("beta")])

        evidence = there.submit(seen).result()
    went_on = {one.number for one in log_of("beta").attempts if one.resumed and one.epochs}
    moved = sorted(paused_by(log_of("alpha")) & went_on)
    assert moved, log_of("beta").text
    repeated = chaos.repeated(spec, {trial.number: trial.config for trial in evidence.trials}, forkserver())
    for trial in evidence.trials:
        found = tuple(measured(row) for row in trial.metrics)
        assert found == repeated[trial.number].epochs[: len(found)]
        if trial.state == State.COMPLETE:
            assert trial.weights_sha256 == repeated[trial.number].weights_sha256
    assert chaos_moves.violations(evidence) == []


def paused_by(worker: Worker) -> set[int]:
    """Return the trials that a worker let stand still, and did not go on with itself."""
    last = {one.number: one for one in worker.attempts}
    return {number for number, one in last.items() if one.interrupted == "paused"}

"""Workers are killed, stopped and cut off from the database, and nothing is lost: ``benchmarks/chaos.py`` in small.

And the checks see what they are there for: in evidence that has been tampered with, and in workers without a fence.
"""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from lrsearch.trial import State

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from chaos_check import Evidence, Worker, repeated_epochs, violations

CHAOS = Path(__file__).parent.parent / "benchmarks" / "chaos.py"
KILLS = 12
SMALL = ["--epochs=4", "--images=240", "--lease=2", "--json"]
KINDS = ["sqlite", "postgresql"]


@dataclass
class Run:
    """What one run came to."""

    figures: dict[str, Any]
    evidence: Evidence


def play(folder: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the program; return its exit code and what it says of each run."""
    command = [sys.executable, str(CHAOS), f"--evidence={folder}", f"--keep={folder}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def missed(figures: dict[str, Any]) -> list[str]:
    """Return what a run was to hit and has not: how many planned moments come before the budget is used up is chance.

    A worker that waits for another program uses up none of it, and the others come to its end sooner.
    """
    kills, acts = figures["kills"], sum(figures["acts"].values())
    hit = {
        "kills": sum(kills.values()) >= KILLS // 3,
        "kills and acts": sum(kills.values()) + acts >= KILLS * 2 // 3,
        "kills at a moment": sum(name != "any time" for name in kills) >= KILLS // 4,
        "trials interrupted": figures["trials_interrupted"] >= 3,
        "acts of other programs": acts >= 3,
    }
    return [name for name, enough in hit.items() if not enough]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return a run on each kind of database; one that has missed what it was to hit is followed by the next seed's."""
    folder, found, storage = tmp_path_factory.mktemp("chaos"), dict[str, Run](), "both"
    for seed in (7, 8, 9):
        options = (f"--seed={seed}", f"--kills={KILLS}", "--acts=8", "--deletions=2", *SMALL)
        _, said = play(folder, f"--storage={storage}", *options)
        for figures in said:
            evidence = pickle.loads((folder / f"{figures['storage']}-{seed}.pickle").read_bytes())
            found[figures["storage"]] = Run(figures, evidence)
        # What does not hold is not played again.
        again = [kind for kind, run in found.items() if missed(run.figures) and not run.figures["violations"]]
        if not again:
            break
        storage = again[0] if len(again) == 1 else "both"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_or_done_twice_however_workers_die(runs: dict[str, Run], kind: str) -> None:
    figures, seen = runs[kind].figures, runs[kind].evidence
    assert figures["violations"] == []
    assert missed(figures) == [], figures
    assert figures["pauses"] == (1 if kind == "sqlite" else 2)
    assert figures["answers_lost"] > 20
    if kind == "postgresql":
        assert figures["restart"] is not None
        assert figures["reconnections"] >= 1
    # And that by the tables themselves, without the checks.
    failed = sum(row["outcome"] == State.FAILED for row in seen.slots)
    assert len(seen.slots) == len(seen.optuna) == 60 + failed
    assert failed == len(seen.told)
    assert {row["state"] for row in seen.slots} == {"ended"}
    # On SQLite Optuna overwrites an ending that another program's tell comes a moment too late for.
    others = {trial.state for trial in seen.optuna if trial.number not in {*seen.told, *seen.beaten}}
    assert others <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.slow
def test_workers_without_a_fence_are_found_out(tmp_path: Path) -> None:
    # Nothing else happens to them: a study that others rename and delete meanwhile comes to no end without a fence.
    alone = ("--kills=0", "--acts=0", "--deletions=0", "--workers=2", "--budget=8")
    for seed in (0, 1, 2):
        code, (said,) = play(tmp_path, "--storage=sqlite", "--unfenced", f"--seed={seed}", *alone, *SMALL)
        # Where the other has used up the budget meanwhile, nobody was stopped within a trial.
        if said["pauses"]:
            break
    assert code == 1
    assert not any("has not ended" in sentence for sentence in said["violations"]), said["violations"]
    # Which rows it spoils depends on how far the other has come: epochs accepted twice, a second ending, a broken key.
    assert any("has not heard that it lost it" in sentence for sentence in said["violations"]), said["violations"]
    assert len(said["violations"]) >= 2, said["violations"]


# --- evidence that has been tampered with ----------------------------------------------------------------------------


def says(seen: Evidence, *lines: str) -> None:
    """Add a worker whose log holds these lines, and who was killed."""
    seen.workers.append(Worker("elsewhere:1", "".join(f"{line}\n" for line in lines), -9, "any time"))


def interrupted(seen: Evidence) -> int:
    """Return the number of a complete trial that was interrupted, with its last attempt in a log."""
    return next(t.number for t in seen.trials if t.number in seen.repeated and t.state == State.COMPLETE)


def slot_left_running(seen: Evidence) -> None:
    seen.slots[0]["state"] = "running"


def one_too_many(seen: Evidence) -> None:
    seen.slots.append({**seen.slots[0], "id": "another", "position": 60, "number": 60})


def one_short(seen: Evidence) -> None:
    seen.slots[0]["outcome"] = "failed"


def lease_held(seen: Evidence) -> None:
    seen.n_leases = 1


def running_in_optuna(seen: Evidence) -> None:
    seen.optuna[5].state = TrialState.RUNNING


def other_state_in_optuna(seen: Evidence) -> None:
    trial = next(t for t in seen.optuna if t.state == TrialState.COMPLETE)
    trial.state = TrialState.PRUNED


def overwritten_score(seen: Evidence) -> None:
    trial = next(t for t in seen.optuna if t.intermediate_values)
    trial.intermediate_values[1] = 0.123


def second_ending(seen: Evidence) -> None:
    # Twice: whoever ended it in truth may have been killed before it could say so.
    for _ in range(2):
        says(seen, "1.0s > trial 0 sgd (resumed)", "1.1s < 0 complete 0.9")


def second_acceptance(seen: Evidence) -> None:
    says(seen, "1.0s > trial 0 sgd (resumed)", "1.1s . 0 epoch 1/4 val_acc=0.9 lr=1", "1.1s . 0 epoch 1/4 val_acc=0.9")


def lost_epoch(seen: Evidence) -> None:
    seen.epochs.pop()


def silent_ending(seen: Evidence) -> None:
    for i, worker in enumerate(seen.workers):
        seen.workers[i] = replace(worker, text=worker.text.replace("s < ", "s : "), killed=None)


def old_checkpoint(seen: Evidence) -> None:
    row = max(seen.interruptions, key=lambda r: r["epoch"])
    row["epoch"], row["step"] = 3, 0


def work_repeated(seen: Evidence) -> None:
    says(
        seen,
        "1.0s > trial 0 sgd (resumed)",
        "1.1s . 0 epoch 1/4 again val_acc=0.9 lr=1",
        "1.2s . 0 epoch 2/4 again val_acc=0.9 lr=1",
    )


def elsewhere_resumed(seen: Evidence) -> None:
    for row in seen.interruptions:
        row["step"] += 1000


def other_weights(seen: Evidence) -> None:
    number = interrupted(seen)
    seen.repeated = {**seen.repeated, number: replace(seen.repeated[number], weights_sha256="0" * 64)}


def other_in_the_last_bit(seen: Evidence) -> None:
    number = interrupted(seen)
    *others, last = seen.repeated[number].epochs
    assert last[4] is not None
    nearly = (*last[:4], last[4] * (1 + 2**-52), *last[5:])
    seen.repeated = {**seen.repeated, number: replace(seen.repeated[number], epochs=(*others, nearly))}


def not_repeated(seen: Evidence) -> None:
    seen.repeated = {}


def traceback(seen: Evidence) -> None:
    seen.workers[0] = replace(seen.workers[0], text=seen.workers[0].text + "Traceback (most recent call last):\n")


def crashed(seen: Evidence) -> None:
    i = next(i for i, worker in enumerate(seen.workers) if worker.killed is None)
    seen.workers[i] = replace(seen.workers[i], exit_code=1)


def no_weights(seen: Evidence) -> None:
    seen.files = []


def rubbish(seen: Evidence) -> None:
    seen.files += [f"lrsearch-{i}.checkpoint" for i in range(100)]


TAMPERED: list[tuple[Callable[[Evidence], None], str]] = [
    (slot_left_running, "1 slots have not ended"),
    (one_too_many, "61 trials are complete"),
    (one_short, "59 trials are complete"),
    (lease_held, "1 leases are held"),
    (running_in_optuna, "Optuna knows 1 trials that are RUNNING"),
    (other_state_in_optuna, "in our table and PRUNED in Optuna's"),
    (overwritten_score, "0.123"),
    (second_ending, "trial 0 has ended"),
    (second_acceptance, "epoch 1 of trial 0 was accepted"),
    (lost_epoch, "is not in the table"),
    (silent_ending, "nobody told the end of trial"),
    (old_checkpoint, "3.00 epochs ahead of its checkpoint"),
    (work_repeated, "trained the epochs [1, 2] of trial 0 again"),
    (elsewhere_resumed, "went on with epoch"),
    (other_weights, "the weights of trial"),
    (other_in_the_last_bit, "uninterrupted"),
    (not_repeated, "has not been repeated"),
    (traceback, "Traceback"),
    (crashed, "exited with 1"),
    (no_weights, "are not there"),
    (rubbish, "files are left"),
]


@pytest.mark.parametrize(("tamper", "found"), TAMPERED, ids=lambda given: getattr(given, "__name__", ""))
def test_the_checks_find_what_was_tampered_with(
    runs: dict[str, Run], tamper: Callable[[Evidence], None], found: str
) -> None:
    seen = deepcopy(runs["sqlite"].evidence)
    # Made anew, so that nothing remembers what it was.
    seen = replace(seen, workers=[replace(worker) for worker in seen.workers])
    tamper(seen)
    assert any(found in sentence for sentence in violations(seen)), violations(seen)


def test_the_work_repeated_is_counted_from_the_checkpoint(runs: dict[str, Run]) -> None:
    seen = deepcopy(runs["sqlite"].evidence)
    assert all(0 <= n <= 1 for *_, n in repeated_epochs(seen))
    assert any(n > 0 for *_, n in repeated_epochs(seen)), "no kill came between an epoch and its checkpoint"

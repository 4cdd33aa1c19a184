"""Ctrl-C, kills and two terminals: real signals to real processes; what is finished stays, the budget stays exact."""

import io
import os
import random
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from command_line import Finished, InProcess, Result, Running, at_a_terminal, end_of, run_python
from conftest import DEADLINE_SECONDS, FakeEngine, claims_of, learning, leases_held, make_spec, working

from lrsearch.cli import interrupts
from lrsearch.events import SearchEnded
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.keeper import Leave
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database

pytest_plugins = ["command_line"]

N_TRIALS = 8
RUN = ("run", "--trials", str(N_TRIALS), "--epochs", "5", "--model", "cnn", "--threads", "1")
"""The cnn, because its epochs are long enough to be interrupted."""
SHORT = ("run", "--trials", "3", "--epochs", "5", "--model", "cnn", "--threads", "1")

ENDING = re.compile(r"^\S+s [<x!] (\d+) ", re.MULTILINE)
SEED = 20240


def trials_in(database: Path) -> list[tuple[int, str]]:
    """Return number and state of Optuna's trials; none where there is no database yet."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'trials'").fetchone()[0]
        if not made:
            return []
        return connection.execute("SELECT number, state FROM trials ORDER BY number").fetchall()


def finished_in(database: Path) -> set[int]:
    return {number for number, state in trials_in(database) if state in ("COMPLETE", "PRUNED")}


def leases_in(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM lrsearch_leases").fetchone()[0])


def told(run: InProcess, *argv: str) -> list[dict[str, Any]]:
    """Return everything about the trials of a study but who trained them, when and how fast."""
    trials = run("trials", *argv, "--json").document["trials"]
    timed = ("seconds", "worker", "started_at", "ended_at", "attempts", "interruptions")
    for trial in trials:
        for row in (trial, *trial["metrics"]):
            for key in timed:
                row.pop(key, None)
    return list(trials)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """When a process is sent a signal, and how often."""

    name: str
    come: Callable[[Running], bool]
    number: signal.Signals = signal.SIGINT
    times: int = 1


def library(name: str) -> Callable[[Running], bool]:
    return lambda process: process.has_loaded(name)


def lines(n: int) -> Callable[[Running], bool]:
    return lambda process: process.read("stderr").count("\n") >= n


def said(pattern: str) -> Callable[[Running], bool]:
    wanted = re.compile(pattern, re.MULTILINE)
    return lambda process: wanted.search(process.read("stderr")) is not None


def moments(rng: random.Random) -> Sequence[Moment]:
    """Return moments from the first import to the end of the search; together they leave trials to be trained."""
    return (
        Moment("before any output, in the imports", library("pydantic_core")),
        Moment("while PyTorch is loaded", library("libtorch_cpu")),
        Moment("at the first trial", said("> trial 0 ")),
        Moment("by a kill", lines(rng.randint(2, 6)), signal.SIGKILL),
        Moment("within an epoch", said(r"\. \d epoch 2/5")),
        Moment("twice, anywhere", lines(rng.randint(2, 6)), times=2),
        Moment("when the search has ended", said("= ended: ")),
    )


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at /proc to see how far the imports are")
def test_a_search_interrupted_again_and_again_ends_with_the_trials_of_one_that_was_not(
    tmp_path: Path, lrsearch: InProcess
) -> None:
    database = tmp_path / "lrsearch.db"
    kept: set[int] = set()
    for moment in moments(random.Random(SEED)):
        process = Running(RUN, tmp_path, cold=True)
        if not process.wait_for(moment.come):
            # On a very busy machine the signal before may have come so late that nothing was left to train.
            assert finished_in(database) == set(range(N_TRIALS)), f"{moment.name} never came: {process.read('stderr')}"
            continue
        for _ in range(moment.times):
            process.send(moment.number)
        result = process.result()
        ended = {int(number) for number in ENDING.findall(result.err)}
        assert "Traceback" not in result.err, moment.name
        assert "Exception" not in result.err, moment.name
        # What came after the last event may have ended before the signal was looked at.
        late = {0} if moment.name == "when the search has ended" else set()
        expected = -9 if moment.number == signal.SIGKILL else 130
        assert result.code in {expected} | late, f"{moment.name}: {result.code}: {result.err}"
        assert finished_in(database) >= kept | ended, moment.name
        kept = finished_in(database)
        if moment.name == "within an epoch":
            last = result.err.splitlines()[-1]
            assert last.startswith(f"lrsearch: interrupted; {len(kept)} finished trial")
            assert "kept; the same command goes on" in last
            assert leases_in(database) == 0, "the trial was given back"
        assert [number for number, _ in trials_in(database)] == list(range(len(trials_in(database))))
        assert len(trials_in(database)) <= N_TRIALS
    result = lrsearch(*RUN)
    assert result.code == 0
    assert trials_in(database) == [(number, state) for number, state in enumerate(s for _, s in trials_in(database))]
    assert finished_in(database) == set(range(N_TRIALS))
    assert lrsearch("status", "--json").document["running"] == []

    assert lrsearch(*RUN, "--quiet", "--storage", "straight.db").code == 0
    assert told(lrsearch) == told(lrsearch, "--storage", "straight.db")


def test_wherever_in_the_database_work_an_interrupt_comes_nothing_is_lost(tmp_path: Path) -> None:
    spec = make_spec(budget={"trials": 2}, epochs=2, pruner={"name": "asha"})
    template = tmp_path / "template.db"
    with closing(Database(SqliteFile(template))) as database:
        filing.create(database, spec)
    for k in range(0, 1000, 3):  # by threes: no two of them in one transaction would be told apart
        path = tmp_path / f"{k}.db"
        shutil.copy(template, path)
        with closing(Database(SqliteFile(path))) as database:
            study = studies.find(database, spec.name)
            assert study is not None
            statements, leave = 0, Leave()

            def interrupt(*_: object, at: int = k) -> None:
                nonlocal statements
                if statements == at:
                    signal.raise_signal(signal.SIGINT)
                statements += 1

            sa.event.listen(database.engine, "before_cursor_execute", interrupt)
            with interrupts.asked(leave):
                events = list(working(claims_of(study), FakeEngine(learning), leave))
            sa.event.remove(database.engine, "before_cursor_execute", interrupt)
            assert leave.asked == (statements > k)
            assert leases_held(database) == 0, f"interrupted at statement {k}"
            assert isinstance(events[-1], SearchEnded)
            for _ in working(claims_of(study), FakeEngine(learning)):
                pass
            assert [t.number for t in study.trials()] == [0, 1]
            assert all(t.state.counts for t in study.trials())
        if not leave.asked:
            break
    assert k > 30


def test_the_second_interrupt_ends_a_search_at_once(tmp_path: Path) -> None:
    code = """
        import signal
        from lrsearch.cli import interrupts
        from lrsearch.store.keeper import Leave
        leave = Leave()
        with interrupts.asked(leave):
            signal.raise_signal(2)
            print(leave.reason, flush=True)
            signal.raise_signal(2)
            print('never')
    """
    assert run_python(code, tmp_path) == Result(130, "interrupted\n", "")


def test_a_second_interrupt_ends_the_process_even_where_the_first_one_waits(tmp_path: Path) -> None:
    code = """
        import signal, sys
        sys.modules["lrsearch.store.slow"] = module = type(sys)("lrsearch.store.slow")
        exec("import signal\\ndef work():\\n  signal.raise_signal(2)\\n  print('waits', flush=True)\\n"
             "  signal.raise_signal(2)\\n  print('never')", module.__dict__)
        from lrsearch.cli import interrupts
        with interrupts.raised():
            module.work()
    """
    assert run_python(code, tmp_path) == Result(130, "waits\n", "")


def test_an_interrupt_within_an_import_waits_for_its_end() -> None:
    def check_within(module: str) -> list[str]:
        seen: list[str] = []
        space: dict[str, Any] = {"__name__": module, "signal": signal, "seen": seen}
        exec("def work():\n  signal.raise_signal(2)\n  seen.append('ended')", space)
        with pytest.raises(KeyboardInterrupt), interrupts.raised():
            space["work"]()
        return seen

    assert check_within("importlib._bootstrap") == ["ended"]
    assert check_within("lrsearch.store.claims") == ["ended"]
    assert check_within("lrsearch.training.serial") == []


def test_a_process_that_was_started_deaf_to_interrupts_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.install()
        with interrupts.raised() as check:
            signal.raise_signal(signal.SIGINT)
            check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


# --- several workers, and a request to leave -------------------------------------------------------------------------


def pids_in(database: Path) -> list[int]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [pid for (pid,) in connection.execute("SELECT pid FROM lrsearch_workers")]


def trainer_in(database: Path) -> int:
    """Return the process of a worker that holds a trial."""
    query = "SELECT pid FROM lrsearch_workers JOIN lrsearch_leases ON worker_id = lrsearch_workers.id"
    until = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < until:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            found = connection.execute(query).fetchone()
        if found is not None:
            return int(found[0])
    raise AssertionError("no worker has taken a trial")


def test_two_workers_leave_when_asked_and_a_killed_one_is_replaced(tmp_path: Path, lrsearch: InProcess) -> None:
    argv = ("run", "--trials", "5", "--epochs", "6", "--model", "cnn", "--workers", "2")
    database, ended = tmp_path / "lrsearch.db", list[str]()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = Running(argv, tmp_path)
        assert process.wait_for(said(r"\. \d epoch \d/6"))
        # A terminal and a batch system send it to every process there is.
        os.killpg(process.process.pid, number)
        result = process.result()
        assert result.code == code, result.err
        assert "Traceback" not in result.err
        assert result.err.splitlines()[-1].startswith("lrsearch: interrupted; ")
        assert leases_in(database) == 0, "the trials were given back"
        assert pids_in(database) == []
        ended += ENDING.findall(result.err)
    process = Running(argv, tmp_path)
    assert process.wait_for(said(r"\. \d epoch \d/6"))
    victim = trainer_in(database)
    os.kill(victim, signal.SIGKILL)
    result = process.result()
    assert result.code == 0, result.err
    assert f"~ worker process {victim} was killed by SIGKILL; process " in result.err
    assert finished_in(database) == set(range(5))
    told_ended = [int(number) for number in (*ended, *ENDING.findall(result.err))]
    assert len(told_ended) == len(set(told_ended)), "each trial ended once"
    status = lrsearch("status", "--json").document
    assert status["running"] == status["workers"] == []
    assert {"preempted", "lost"} <= set(status["interruptions"])


def test_a_request_to_leave_keeps_the_trial_in_hand(tmp_path: Path, lrsearch: InProcess) -> None:
    process = Running(SHORT, tmp_path)
    assert process.wait_for(said(r"\. \d epoch \d/5"))
    process.send(signal.SIGTERM)
    result = process.result()
    assert result.code == 143
    assert result.err.splitlines()[-1].startswith("lrsearch: interrupted; ")
    (row,) = lrsearch("status", "--json").document["running"]
    assert row["interrupted"]
    (kept,) = lrsearch("show", str(row["number"]), "--json").document["trial"]["interruptions"]
    assert kept["reason"] == "preempted"
    assert kept["step"] > 0, "from there it goes on"


# --- on a terminal ---------------------------------------------------------------------------------------------------

SHOW, HIDE = "\x1b[?25h", "\x1b[?25l"
SGR = re.compile(r"\x1b\[[\d;]*m")


def watched(argv: Sequence[str], folder: Path, press_at: str | None, **environment: str) -> tuple[int, str]:
    """Run a command on a terminal, press Ctrl-C at something drawn; return its exit code and all that was drawn."""
    child = at_a_terminal(list(argv), folder, **environment)
    child.logfile_read = drawn = io.StringIO()
    if press_at is not None:
        child.expect(press_at)
        child.sendintr()
    return end_of(child).code, drawn.getvalue()


def restored(drawn: str) -> bool:
    """Whether the cursor was hidden and is shown again."""
    return 0 <= drawn.rfind(HIDE) < drawn.rfind(SHOW)


def test_ctrl_c_in_the_live_view_restores_the_terminal_and_the_next_run_goes_on(tmp_path: Path) -> None:
    code, drawn = watched(SHORT, tmp_path, r"epoch \d/5", NO_COLOR="1")
    assert code == 130
    assert restored(drawn)
    assert "Traceback" not in drawn
    assert "kept; the same command goes on" in drawn
    assert SGR.findall(drawn) == [], "NO_COLOR: no colours, no bold"
    before = finished_in(tmp_path / "lrsearch.db")

    code, drawn = watched(SHORT, tmp_path, None)
    assert code == 0
    assert restored(drawn)
    assert SGR.search(drawn)
    assert "The best of 3 trials of digits" in drawn
    assert before <= finished_in(tmp_path / "lrsearch.db") == {0, 1, 2}


def test_ctrl_c_while_pytorch_is_loaded_restores_the_terminal(tmp_path: Path) -> None:
    code, drawn = watched(RUN, tmp_path, "loading PyTorch")
    assert code == 130
    assert restored(drawn)
    assert "Traceback" not in drawn
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_process_of_the_workers_loads_pytorch_shows_no_traceback(tmp_path: Path) -> None:
    process = Running(["run", "--workers", "2", "--trials", "4"], tmp_path, cold=True)
    # Its import takes a second after the first of its libraries.
    assert process.wait_for(lambda p: p.has_a_child_that_loaded("libtorch"))
    os.killpg(process.process.pid, signal.SIGINT)  # as a terminal does
    done = process.result()
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    assert "KeyboardInterrupt" not in done.err


def test_ctrl_c_at_a_question_deletes_nothing(tmp_path: Path, finished: Finished) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    code, drawn = watched(["delete", "digits"], tmp_path, "Delete 'digits'")
    assert code == 130
    assert "Traceback" not in drawn
    assert len(finished_in(tmp_path / "lrsearch.db")) == 6


# --- two terminals ---------------------------------------------------------------------------------------------------


def test_two_terminals_share_one_study_and_its_budget(tmp_path: Path) -> None:
    argv = ("run", "--trials", "10", "--epochs", "5")
    processes = [Running(argv, tmp_path) for _ in range(2)]
    results = [process.result() for process in processes]
    assert [result.code for result in results] == [0, 0], [result.err for result in results]
    assert [number for number, _ in trials_in(tmp_path / "lrsearch.db")] == list(range(10))
    assert finished_in(tmp_path / "lrsearch.db") == set(range(10))
    ended = [int(number) for result in results for number in ENDING.findall(result.err)]
    assert sorted(ended) == list(range(10)), "each trial ended once, in one of the two"
    for result in results:
        assert "= ended: " in result.err
        assert result.out.startswith("The best of ")

"""The job array for Slurm: as its batch shell would be run and signalled, and on a real Slurm where there is one."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import InProcess, clean_environment
from conftest import DEADLINE_SECONDS
from slurm import KILL_WAIT_SECONDS, Cluster
from slurm import cluster as cluster  # noqa: PLC0414 - a fixture

pytest_plugins = ["command_line"]

SCRIPT = Path(__file__).resolve().parent.parent / "docker" / "slurm" / "worker.sbatch"

ENDED = ("complete", "diverged")

KNOWN = {
    "array": r"\d+-\d+(%\d+)?",
    "cpus-per-task": r"\d+",
    "gres": r"gpu(:\w+)?:\d+",
    "job-name": r"[\w-]+",
    "mem": r"\d+[KMGT]",
    "ntasks": r"1",
    "open-mode": r"append",
    "output": r"[\w.-]*%A_%a[\w.-]*",
    "requeue": "",
    "signal": r"B:TERM@\d+",
    "time": r"\d\d:[0-5]\d:[0-5]\d",
}
"""Options of sbatch that the script may name, and what each may be. Source: sbatch(1)."""


def options(prefix: str = "#SBATCH ") -> dict[str, str]:
    """Return the script's options for sbatch; those that are commented out have a prefix of their own."""
    lines = [line.removeprefix(prefix) for line in SCRIPT.read_text("utf-8").splitlines() if line.startswith(prefix)]
    words = [word for line in lines for word in shlex.split(line)]
    assert all(word.startswith("--") for word in words), words
    named = [word.removeprefix("--").partition("=") for word in words]
    assert len({name for name, _, _ in named}) == len(named), "none is given twice"
    return {name: value for name, _, value in named}


def test_every_option_for_sbatch_is_one_that_it_knows() -> None:
    active, commented = options(), options("##SBATCH ")
    assert {"array", "signal", "requeue", "open-mode", "time"} <= active.keys()
    assert "gres" in commented, "a GPU is a matter of one sign"
    for name, value in (active | commented).items():
        assert name in KNOWN, name
        assert re.fullmatch(KNOWN[name], value), (name, value)


def test_the_lines_for_sbatch_come_before_the_first_command() -> None:
    lines = SCRIPT.read_text("utf-8").splitlines()
    assert lines[0] == "#!/bin/bash"
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")], "sbatch would not read them"


@pytest.fixture
def home(tmp_path: Path, postgres_url: str) -> Path:
    """A home with the file that names the database, and ``lrsearch`` on the path of whoever lives there."""
    secret = tmp_path / ".lrsearch-storage"
    secret.touch(mode=0o600)
    secret.write_text(postgres_url + "\n")
    program = tmp_path / "bin" / "lrsearch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lrsearch "$@"\n')
    program.chmod(0o755)
    return tmp_path


def environment_of(home: Path, **more: str) -> dict[str, str]:
    return clean_environment(home, PATH=f"{home / 'bin'}:{os.environ['PATH']}", **more)


def file_study(lrsearch: InProcess, home: Path, trials: int, epochs: int) -> None:
    settings = ("--model", "cnn", "--epochs", str(epochs), "--set", "pruner.name=none", "--set", "space.batch_size=32")
    where = ("--storage", f"@{home}/.lrsearch-storage", "--artifacts", str(home / "artifacts"))
    filed = lrsearch("run", "digits", "--trials", str(trials), *settings, *where, "--detach")
    assert filed.code == 0, filed.err


def until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def trained_within(log: str) -> bool:
    """Whether the last trial of a log has come past an epoch and has more before it."""
    return re.search(r"\. \d+ epoch \d+/", log) is not None


class Task:
    """A task of the array as Slurm starts it: the script by its shell, in the folder it was submitted from."""

    def __init__(self, home: Path, number: int) -> None:
        self.log = home / f"task-{number}.log"
        slurm = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number), "SLURM_CPUS_PER_TASK": "1"}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [SCRIPT, "--study", "digits"],
                cwd=home,
                env=environment_of(home, **slurm),
                stdout=out,
                stderr=out,
                process_group=0,
            )

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8")


Start = Callable[[int], Task]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts a task of the array; what a failed test leaves running is ended."""
    tasks: list[Task] = []

    def started(number: int) -> Task:
        tasks.append(Task(home, number))
        return tasks[-1]

    yield started
    for task in tasks:
        with suppress(ProcessLookupError):
            os.killpg(task.process.pid, signal.SIGKILL)
        task.process.wait(DEADLINE_SECONDS)


def test_a_task_that_is_asked_to_leave_keeps_its_trial_and_the_next_one_ends_the_study(
    start: Start, home: Path, lrsearch: InProcess
) -> None:
    file_study(lrsearch, home, trials=2, epochs=20)
    where = ("--storage", f"@{home}/.lrsearch-storage")
    first = start(0)
    until(lambda: trained_within(first.text) or first.process.poll() is not None, lambda: first.text)
    # To the batch shell alone, as --signal=B: has it; no other process hears of it.
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(KILL_WAIT_SECONDS) == 143, first.text
    status = lrsearch("status", "digits", "--json", *where).document
    assert status["workers"] == []
    (left,) = status["running"]
    assert left["interrupted"]
    (kept,) = lrsearch("show", str(left["number"]), "digits", "--json", *where).document["trial"]["interruptions"]
    assert kept["reason"] == "preempted"
    assert kept["step"] > 0, "from there it goes on"

    second = start(1)
    assert second.process.wait(DEADLINE_SECONDS) == 0, second.text
    assert f"> trial {left['number']} " in second.text
    trials = lrsearch("trials", "digits", "--json", *where).document["trials"]
    assert {trial["number"]: trial["state"] in ENDED for trial in trials} == {0: True, 1: True}
    assert "postgresql://" not in first.text + second.text.replace("***", "")


def test_without_a_file_that_names_the_database_a_task_says_so(start: Start, home: Path) -> None:
    (home / ".lrsearch-storage").unlink()
    task = start(0)
    assert task.process.wait(DEADLINE_SECONDS) == 4
    assert task.text.startswith("lrsearch: --storage @")
    assert task.text.count("\n") == 1


@pytest.mark.slow
def test_a_real_array_that_is_signalled_preempted_and_requeued_ends_with_the_exact_budget(
    cluster: Cluster, home: Path, lrsearch: InProcess
) -> None:
    file_study(lrsearch, home, trials=500, epochs=10)
    where = ("--storage", f"@{home}/.lrsearch-storage")
    # This machine has not the memory that the script asks for, nor does its Slurm count it.
    array = cluster.run(
        *("sbatch", "--parsable", "--array=0-2", "--mem=0", str(SCRIPT), "--study", "digits"),
        cwd=home,
        **environment_of(home),
    )
    logs = [home / f"lrsearch-{array}_{task}.log" for task in range(3)]
    cluster.wait_for(lambda: all(log.exists() and trained_within(log.read_text("utf-8")) for log in logs))

    cluster.run("scancel", "--batch", "--signal=TERM", f"{array}_0")
    cluster.wait_for(lambda: cluster.job(f"{array}_0")["JobState"] == "FAILED")
    assert cluster.job(f"{array}_0")["ExitCode"] == "143:0"
    assert cluster.job(f"{array}_0")["Restarts"] == "0", "who leaves by itself is not requeued"

    cluster.run("sbatch", "--partition=urgent", "--ntasks=4", "--wrap=true", cwd=home)
    cluster.wait_for(lambda: all(cluster.job(f"{array}_{task}")["JobState"] == "PENDING" for task in (1, 2)))
    assert "DUE TO PREEMPTION" in logs[1].read_text("utf-8")
    assert lrsearch("status", "digits", "--json", *where).document["workers"] == []
    # However many this machine has trained so far, two more are enough.
    total = 2 + len(lrsearch("trials", "digits", "--json", *where).document["trials"])
    assert lrsearch("extend", "digits", "--trials", str(total), *where).code == 0
    for task in (1, 2):
        # Slurm would leave it out for two minutes.
        cluster.run("scontrol", "update", f"JobId={array}_{task}", "StartTime=now")
    cluster.wait_for(lambda: all(cluster.job(f"{array}_{task}")["JobState"] == "COMPLETED" for task in (1, 2)))

    trials = lrsearch("trials", "digits", "--json", *where).document["trials"]
    assert sorted(trial["number"] for trial in trials if trial["state"] in ENDED) == list(range(total))
    for task in (1, 2):
        assert cluster.job(f"{array}_{task}")["Restarts"] == "1"
        text = logs[task].read_text("utf-8")
        assert "asked to leave" in text, "the first time"
        assert text.count("= ended: ") == 2, "the second time in the same log"

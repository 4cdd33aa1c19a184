"""The process that calls ``lrsearch.search``: it is left as it was, and shown what it can show."""

import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pexpect  # type: ignore[import-untyped]
import pytest
import torch
from command_line import TORCH_METHODS, Running, clean_environment, end_of, run_python
from conftest import complete, make_spec, measured
from handed_over import QUICK
from trials_by_hand import config

import lrsearch
from lrsearch import cores
from lrsearch.api import process
from lrsearch.errors import LrsearchError
from lrsearch.events import EndReason, EpochDone, SearchEnded, TrialEnded, TrialStarted
from lrsearch.report import live_state, notebook, words
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.trial import Outcome, Reason, State, Trial

pytest_plugins = ["command_line", "handed_over"]


def test_the_process_is_as_it_was_and_no_log_is_set_up() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    logs = [logging.getLogger(name) for name in (None, "lrsearch", "optuna")]
    state = [(log.level, [*log.handlers], log.propagate) for log in logs]
    drawn, verbosity = torch.get_rng_state(), optuna.logging.get_verbosity()
    handler = signal.getsignal(signal.SIGINT)
    try:
        found = lrsearch.search("digits", **QUICK, threads=1)
        assert found.trials[0].device == "cpu (1 thread)"
        assert torch.get_num_threads() == 2
        assert torch.tensor(1e-40).mul(1.0).item() > 0, "tiny numbers are none again"
        assert torch.equal(torch.get_rng_state(), drawn)
        assert [(log.level, [*log.handlers], log.propagate) for log in logs] == state
        assert (optuna.logging.get_verbosity(), signal.getsignal(signal.SIGINT)) == (verbosity, handler)
        assert sys.modules["__main__"] is not None
    finally:
        torch.set_num_threads(before)


def test_progress_is_lines_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    lrsearch.search("digits", **QUICK | {"progress": True})
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert sum(" > trial " in line for line in lines) == 3
    assert lines[-1].endswith("= ended: all 3 trials of the budget are finished")


def test_spinning_threads_on_a_busy_machine_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    for name in cores.OF_WAITING:
        monkeypatch.delenv(name, raising=False)
    process.warn_of_spinning(1)
    assert caplog.text == ""
    process.warn_of_spinning(None)
    assert "OMP_WAIT_POLICY=PASSIVE" in caplog.text
    caplog.clear()
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    process.warn_of_spinning(None)
    assert caplog.text == "", "a person's own setting"


def test_a_failed_search_puts_its_view_away(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LrsearchError, match="tpu"):
        lrsearch.search("digits", device="tpu")
    assert capfd.readouterr() == ("", "")


def test_what_a_notebook_shows_is_escaped_and_fits_side_by_side() -> None:
    spec = make_spec(epochs=4)
    state = live_state.begin(spec, BudgetSpec(trials=12), [], 0.0)
    bad = Outcome(State.FAILED, Reason.CRASH, None, 0, message="<script>alert(1)</script>")
    for number in range(9):
        trial = Trial(number, config(epochs=4), State.RUNNING, None)
        state = live_state.after(state, TrialStarted(trial, resumed=False), 1.0)
    state = live_state.after(state, EpochDone(0, measured(1, 0.75)), 2.0)
    state = live_state.after(state, TrialEnded(1, bad), 3.0)
    state = live_state.after(state, TrialEnded(2, complete(0.75)), 4.0)
    page, line = notebook.live(state, 65.0, "<b>said</b>"), notebook.line(state, 65.0)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;b&gt;said" in page
    assert "and 1 more" in page
    assert 'aria-valuenow="8"' in page, "one of twelve"
    assert "epoch 1/4, loss" in page
    assert f"{words.duration(65.0)}, about " in page
    assert " left<" in page
    assert "1 of 12 trials" in page
    assert line.startswith(f"probe, {words.duration(65.0)}: 1 of 12 trials: 1 complete")
    over = live_state.after(state, SearchEnded(EndReason.BUDGET_TRIALS, "all are finished"), 66.0)
    assert "all are finished" in notebook.live(over, 66.0)
    assert " left<" not in notebook.live(over, 66.0)


SCRIPT = """
import lrsearch

print("begun", __name__, flush=True)
study = lrsearch.search("digits", trials={trials}, epochs={epochs}, dataset={{"limit": 200}}, workers={workers})
print(len([t for t in study.trials if t.outcome]), len(study.trials), repr(study), flush=True)
"""


def script(folder: Path, trials: int, epochs: int, workers: int) -> Path:
    path = folder / "script.py"
    path.write_text(SCRIPT.format(trials=trials, epochs=epochs, workers=workers))
    return path


@pytest.mark.slow
def test_a_script_without_a_guard_may_start_workers(tmp_path: Path) -> None:
    path = script(tmp_path, 6, 2, 2)
    done = run_python(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')", tmp_path)
    assert done.code == 0, done.err
    command = pexpect.run(
        f"{sys.executable} {path}", cwd=str(tmp_path), env=clean_environment(tmp_path), encoding="utf-8"
    )
    assert command.count("begun") == 1, "no process has run the script again"
    assert "begun __main__" in command
    assert "6 6 lrsearch.open_study('digits'" in command
    workers = {trial.worker for trial in lrsearch.open_study(storage=tmp_path / "lrsearch.db").trials}
    assert len(workers) == 2


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_returns_a_study_that_goes_on(tmp_path: Path, workers: int) -> None:
    path = script(tmp_path, 500, 20, workers)
    with (tmp_path / "said").open("w") as said:
        child = subprocess.Popen(
            [sys.executable, str(path)],
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            stdout=said,
            stderr=said,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - one thread here
        )
        Running.wait_for(Watched(child, tmp_path / "said"), lambda one: " < " in one.read(""))  # type: ignore[arg-type]
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
    text = (tmp_path / "said").read_text("utf-8")
    assert "the same call goes on from there" in text
    assert "Traceback" not in text
    left = lrsearch.open_study(storage=tmp_path / "lrsearch.db")
    n, finished = len(left.trials), sum(trial.state.counts for trial in left.trials)
    assert 1 <= finished < 500
    assert all(trial.interrupted for trial in left.trials if not trial.state.counts)
    settings = {"epochs": 20, "dataset": {"limit": 200}, "progress": False}
    again = lrsearch.search("digits", storage=tmp_path / "lrsearch.db", trials=n, **settings)
    assert all(trial.state.counts for trial in again.trials[:n])


class Watched:
    """A process whose words are waited for as those of a command."""

    def __init__(self, process: Any, path: Path) -> None:
        self.process, self._path = process, path

    def read(self, _stream: str) -> str:
        return self._path.read_text("utf-8")


@pytest.mark.slow
def test_a_terminal_has_the_live_view(tmp_path: Path) -> None:
    child = pexpect.spawn(
        sys.executable,
        [str(script(tmp_path, 4, 4, 1))],
        cwd=str(tmp_path),
        env=clean_environment(tmp_path, TERM="xterm-256color"),
        encoding="utf-8",
        timeout=120,
        dimensions=(40, 100),
    )
    child.expect("mlp on digits, 4 epochs a trial")
    child.expect("running")  # further down in the same picture; there may be no other
    done = end_of(child)
    assert done.code == 0, done.out
    assert "4 4 lrsearch.open_study" in done.out
    assert "\x1b[?25h" in done.out, "the cursor is back"


@pytest.mark.slow
def test_it_works_after_every_module_was_imported_and_leaves_pytorchs_optimizers_alone(tmp_path: Path) -> None:
    code = (
        TORCH_METHODS
        + """
    import importlib, pkgutil
    import lrsearch
    before = methods()
    for module in pkgutil.walk_packages(lrsearch.__path__, "lrsearch."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = lrsearch.search("digits", trials=5, epochs=2)
    print(len(found.trials), len(before) > 3, methods() == before)
    """
    )
    result = run_python(code, tmp_path)
    assert result.out == "5 True True\n", result.err

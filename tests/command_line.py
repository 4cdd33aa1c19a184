"""The command line as a person meets it: real processes, and in this process where a process is not the point.

A pytest plugin, for its fixtures. PYTEST_DONT_REWRITE: the tests have imported it before pytest registers it.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import pexpect  # type: ignore[import-untyped]
import pytest
from conftest import DEADLINE_SECONDS
from filelock import FileLock
from forked import TAKEN_AT_START, Forked, fork

from lrsearch.cli import app

ESCAPE = "\x1b"

OF_THE_SHELL = re.compile(
    r"^(LRSEARCH_.*|NO_COLOR|FORCE_COLOR|TTY_.*|COLUMNS|LINES|PYTHONIOENCODING|.*_proxy)$", re.IGNORECASE
)
"""Variables that a tester's shell may have set and that change what is printed."""


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and its words."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout, which must hold no NaN."""
        return json.loads(self.out, parse_constant=_no_number)


def _no_number(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no JSON")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a command that is run far from the tester's own home and settings."""
    kept = {key: value for key, value in os.environ.items() if not OF_THE_SHELL.fullmatch(key)}
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")} | more


def _take_interrupts() -> None:
    # A test run in the background of a script has them ignored, and its children with it.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


_started: list[subprocess.Popen[bytes] | Forked] = []
"""The processes that the tests have started."""


def _has_mapped(pid: int, library: str) -> bool:
    try:
        return library in Path(f"/proc/{pid}/maps").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


class Running:
    """A command that runs: `python -m lrsearch ...`, its output in files.

    Args:
        argv: the words of the command.
        folder: where it is started, and its home.
        cold: start Python anew, where imports or all that comes before them matter; else fork off a process that has
            the imports behind it, unless a variable asks for a cold start.
        plain: without what root may do beyond others; never cold.
        environment: variables.
    """

    def __init__(
        self, argv: Sequence[str], folder: Path, *, cold: bool = False, plain: bool = False, **environment: str
    ) -> None:
        self._folder, self._n = folder, len(list(folder.glob("stderr.*")))
        self.process: subprocess.Popen[bytes] | Forked
        with self._file("stdout", "w") as out, self._file("stderr", "w") as err:
            if hasattr(os, "pidfd_open") and not (cold or any(name.startswith(TAKEN_AT_START) for name in environment)):
                self.process = fork([*argv], folder, clean_environment(folder, **environment), out, err, plain=plain)
                _started.append(self.process)
                return
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lrsearch", *argv],
                cwd=folder,
                env=clean_environment(folder, **environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=_take_interrupts,  # noqa: PLW1509 - one thread starts processes here
                process_group=0,  # its own: a signal to the group reaches its workers and not the tests
            )
        _started.append(self.process)

    def _file(self, stream: str, mode: str) -> IO[str]:
        return (self._folder / f"{stream}.{self._n}").open(mode, encoding="utf-8")

    def read(self, stream: str) -> str:
        """Return what has been written so far."""
        with self._file(stream, "r") as file:
            return file.read()

    def wait_for(self, holds: Callable[["Running"], bool]) -> bool:
        """Look until it holds; False when the process ended first."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds(self):
            if self.process.poll() is not None:
                return holds(self)
            assert time.monotonic() < deadline, f"waited in vain; stderr: {self.read('stderr')}"
            time.sleep(0.002)
        return True

    def has_loaded(self, library: str) -> bool:
        """Whether the process has mapped a library of that name: how far its imports are (Linux)."""
        return _has_mapped(self.process.pid, library)

    def has_a_child_that_loaded(self, library: str) -> bool:
        """Whether a process that it started has mapped a library of that name (Linux)."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return any(_has_mapped(int(child), library) for child in children)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def result(self) -> Result:
        """Wait for its end."""
        code = self.process.wait(DEADLINE_SECONDS)
        return Result(code, self.read("stdout"), self.read("stderr"))


def run_process(argv: Sequence[str], folder: Path, *, cold: bool = False, **environment: str) -> Result:
    """Run a command in a process of its own, in ``folder``."""
    return Running(argv, folder, cold=cold, **environment).result()


def whole_and_resumed(words: Sequence[str], folder: Path, sent: signal.Signals, where: str) -> tuple[Path, Path]:
    """Run a command through in one folder; in another send it a signal when ``where`` stands on stderr, and go on.

    Returns the two folders.
    """
    whole = folder / "whole"
    whole.mkdir()
    assert run_process(words, whole).code == 0
    return whole, cut_and_resumed(words, folder / "cut", sent, where)


def cut_and_resumed(words: Sequence[str], cut: Path, sent: signal.Signals, where: str) -> Path:
    """Run a command in a new folder, send it a signal when ``where`` stands on stderr, and go on; return the folder."""
    cut.mkdir()
    first = Running(words, cut)
    assert first.wait_for(lambda one: where in one.read("stderr"))
    first.send(sent)
    first.result()
    again = run_process(words, cut)
    assert again.code == 0, again.err
    assert "resumed" in again.err, again.err
    return cut


def run_python(code: str, folder: Path) -> Result:
    """Run a program in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        preexec_fn=_take_interrupts,
    )
    return Result(done.returncode, done.stdout, done.stderr)


TORCH_METHODS = """
    import sys, torch

    def methods():
        guarded = {name: getattr(value, "__wrapped__", None) for name, value in vars(torch.optim.Optimizer).items()}
        return {name: (method, dict(vars(method))) for name, method in guarded.items() if method is not None}
"""
"""The beginning of a program for ``run_python``: ``methods()`` is what torch's optimizers are made of."""

InProcess = Callable[..., Result]


@pytest.fixture(autouse=True)
def _nothing_runs_on() -> Iterator[None]:
    """End what a test that failed has left running; what serves several tests began before, and goes on."""
    before = len(_started)
    yield
    for process in _started[before:]:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    del _started[before:]


@pytest.fixture
def lrsearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[InProcess]:
    """Runs a command in this process, in an empty folder that is its home too."""
    import torch

    for key in list(os.environ):
        if OF_THE_SHELL.fullmatch(key):
            monkeypatch.delenv(key)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies that it was made with
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["__main__.py", *argv])
        capfd.readouterr()
        code = app.run(list(argv))
        out, err = capfd.readouterr()
        return Result(code, out, err)

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


def at_a_terminal(argv: list[str], folder: Path, **environment: str) -> "pexpect.spawn[str]":
    """Start a command on a terminal of 100 columns."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "lrsearch", *argv],
        cwd=str(folder),
        env=clean_environment(folder, **{"TERM": "xterm-256color", **environment}),
        timeout=DEADLINE_SECONDS,
        encoding="utf-8",
        dimensions=(40, 100),
    )


def end_of(child: "pexpect.spawn[str]") -> Result:
    """Wait for its end; the output is what came since the last thing that was expected."""
    child.expect(pexpect.EOF)
    text = child.before or ""
    child.close()
    assert child.exitstatus is not None, f"killed by {child.signalstatus}: {text}"
    return Result(child.exitstatus, text, "")


@dataclass(frozen=True)
class Finished:
    """A study that has run to its end, and what the run printed."""

    database: Path
    run: Result
    modules: frozenset[str]
    """What the run had imported by its end."""


N_TRIALS, N_EPOCHS = 6, 3
SMALL = ("run", "--trials", str(N_TRIALS), "--epochs", str(N_EPOCHS))
"""The command of the study that all look at; its name is digits."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished study of six trials of three epochs, which nobody writes to."""
    folder = tmp_path_factory.mktemp("finished")
    code = f"""
        import atexit, pathlib, sys
        from lrsearch.__main__ import main
        atexit.register(lambda: pathlib.Path("modules").write_text("\\n".join(sys.modules)))
        sys.argv = {["__main__.py", *SMALL]!r}
        main()
    """
    result = run_python(code, folder)
    assert result.code == 0, result.err
    modules = frozenset((folder / "modules").read_text("utf-8").splitlines())
    return Finished(folder / "lrsearch.db", result, modules)


def one_line(result: Result) -> str:
    """Return the one sentence on stderr, after checking that it is one."""
    assert result.err.startswith("lrsearch: "), result.err
    assert result.err.endswith("\n"), result.err
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    assert "defect" not in result.err, result.err
    return result.err


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Return every file and folder below: path -> its size and hash; an empty log beside a database is none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        log = path.with_name(path.name.removesuffix("-shm") + "-wal") if path.name.endswith("-shm") else path
        if log.name.endswith("-wal") and log.exists() and log.stat().st_size == 0:
            continue
        whole = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (len(whole), hashlib.sha256(whole).hexdigest())
    return found


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `lrsearch run --trials 50`, with its ``lrsearch.db``: a real study, which nobody writes to.

    It is made once, and not by each of the processes of a test run.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "searched"
    made = folder.with_name("searched.made")
    with FileLock(folder.with_name("searched.lock")):
        if not made.exists():
            folder.mkdir()
            done = run_process(["run", "--trials", "50", "--quiet"], folder)
            assert done.code == 0, done.err
            made.touch()
    return folder

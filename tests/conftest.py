"""What the tests share: specs, a database, an engine that does as it is told, and processes that can be killed."""

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import optuna
import pytest

from lrsearch import study_file
from lrsearch.errors import LrsearchError
from lrsearch.search import optuna_rows
from lrsearch.search import study as studies
from lrsearch.search.claims import Claim, Claims, Initial
from lrsearch.search.storage import Database, Place
from lrsearch.search.study import Study
from lrsearch.spec import StudySpec
from lrsearch.training.engine import TestResult
from lrsearch.trial import Divergence, EpochMetrics, Outcome, Reason, State, TrialConfig

optuna.logging.set_verbosity(optuna.logging.WARNING)

DEADLINE_SECONDS = 60.0
"""After so long a test that waits for a process has failed."""

Step = EpochMetrics | Divergence | BaseException
Script = Callable[[TrialConfig], Iterable[Step]]


# --- values ----------------------------------------------------------------------------------------------------------


def merged(*tables: dict[str, Any]) -> dict[str, Any]:
    """Return nested tables laid over each other, the later ones on top."""
    out: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = merged(out[key], value) if both else value
    return out


def make_spec(name: str = "probe", **tables: Any) -> StudySpec:  # noqa: ANN401 - the tables of a study file
    """Return a small study: four epochs, six trials, no portfolio, no pruner; ``tables`` are laid over it."""
    small = {"epochs": 4, "budget": {"trials": 6}, "sampler": {"portfolio": False}, "pruner": {"name": "none"}}
    return study_file.build(merged({"name": name}, small, tables), "the test")


ONE_SHAPE: dict[str, Any] = {"batch_size": 32, "warmup_fraction": 0.0, "schedule": "constant"}
"""A space in which one optimizer's learning rate is all there is to search, once ``optimizer`` is added."""


def measured(
    epoch: int, accuracy: float = 0.5, loss: float = 1.0, *, averaged: float | None = None, seconds: float = 0.5
) -> EpochMetrics:
    """Return what an epoch of ten updates measured."""
    return EpochMetrics(
        epoch=epoch,
        step=10 * epoch,
        lr=0.1,
        train_loss=loss,
        val_loss=loss,
        val_accuracy=accuracy,
        averaged_val_loss=None if averaged is None else loss,
        averaged_val_accuracy=averaged,
        seconds=seconds,
    )


def complete(value: float = 0.5, epoch: int = 4) -> Outcome:
    """Return the outcome of a trial that was trained through."""
    return Outcome(State.COMPLETE, Reason.FINISHED, value, epoch, message=f"complete {value:g}")


DIVERGED = Outcome(State.DIVERGED, Reason.NOT_FINITE, None, 1, 17, 0.9, "diverged at step 17, lr 0.9: loss nan")
CRASHED = Outcome(State.FAILED, Reason.CRASH, None, 0, message="RuntimeError: broken")


# --- an engine that does as it is told -------------------------------------------------------------------------------


@dataclass
class FakeEngine:
    """Yields what its script says for a configuration; what is an exception is raised."""

    script: Script
    device: str = "fake device"
    versions: str = "fake 1.0"
    trained: list[TrialConfig] = field(default_factory=list)
    closed: int = 0
    """Trainings that ended, in whatever way."""

    def train(self, config: TrialConfig) -> Iterator[EpochMetrics | Divergence]:
        self.trained.append(config)
        try:
            for step in self.script(config):
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            self.closed += 1

    def test(self, config: TrialConfig) -> TestResult | Divergence:
        *_, last = self.train(config)
        return last if isinstance(last, Divergence) else TestResult(last, last.val_loss, last.val_accuracy)


BEST_LR = 0.1
TOO_HIGH_LR = 1.0


def quality(config: TrialConfig) -> float:
    """Return a made-up accuracy in 0..1 that depends on every part of a setting; best near ``BEST_LR``."""
    away = math.log10(config.optimizer.peak_lr / BEST_LR)
    small = 0.01 * math.log2(config.batch_size) + 0.05 * config.schedule.warmup_fraction
    return 0.95 / (1 + away * away) - small * 0.1


def learning(config: TrialConfig) -> Iterator[EpochMetrics | Divergence]:
    """Learn towards ``quality``, or diverge in the second epoch above ``TOO_HIGH_LR``: a function of the setting."""
    lr = config.optimizer.peak_lr
    for epoch in range(1, config.epochs + 1):
        if lr > TOO_HIGH_LR and epoch == 2:
            yield Divergence(epoch=2, step=11, lr=lr, loss=math.inf, initial_loss=2.3)
            return
        accuracy = quality(config) * (1 - 0.5**epoch)
        yield measured(epoch, accuracy, 1 - accuracy)


# --- a database ------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The place of a database that is not there yet."""
    return Place(tmp_path / "lrsearch.db")


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """An empty database."""
    with closing(Database(place)) as opened:
        yield opened


def claims_of(study: Study, initial: Sequence[Initial] = ()) -> Claims:
    """Return one worker's dealings with a study."""
    return Claims(study, initial, "fake device", "fake 1.0")


def claimed(claims: Claims) -> Claim:
    """Claim a trial that must be there."""
    claim = claims.claim()
    assert isinstance(claim, Claim), claim
    return claim


def leases_held(database: Database) -> int:
    """Return how many slots somebody has the right to, dead or alive."""
    with database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM lrsearch_leases").scalar_one())


# --- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kill:
    """Where a process kills itself: before or after the ``nth`` call of a step, counted in that process."""

    step: str
    when: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.when} {self.step} {self.nth}"


STEPS: dict[str, tuple[Any, str]] = {
    # The steps of the protocol, each with its transaction committed or not begun ...
    "reserve": (Claims, "_reserve"),
    "draw": (Claims, "_draw"),
    "start": (Claims, "_start"),
    "restart": (Claims, "_restart"),
    "accept": (Claims, "accept"),
    "end": (Claims, "end"),
    # ... and the middle of each transaction.
    "slot in reserve": (Claims, "_insert_slot"),
    "lease in reserve": (Claims, "_insert_lease"),
    "rows in start": (optuna_rows, "create"),
    "mark in start": (Claims, "_mark_running"),
    "score in accept": (optuna_rows, "report"),
    "rows in end": (optuna_rows, "end"),
    "filing the study": (studies, "create"),
}


def arm(kill: Kill) -> None:
    """Make this process kill itself at that point."""
    owner, name = STEPS[kill.step]
    original = getattr(owner, name)
    calls = 0

    def stepped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the step takes and returns
        nonlocal calls
        calls += 1
        if calls == kill.nth and kill.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == kill.nth and kill.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, stepped)


def work_in_child(path: str, spec_json: str, kill: Kill | None = None, gate: str | None = None) -> None:
    """File the study or find it, and work on it until there is nothing more to do: the body of a worker process."""
    from lrsearch import worker

    if kill is not None:
        arm(kill)
    spec = StudySpec.model_validate_json(spec_json)
    if gate is not None:
        wait_until(Path(gate).exists)
    with closing(Database(Place(Path(path)))) as database:
        for _ in worker.work(claims_of(studies.create(database, spec)), FakeEngine(learning)):
            pass


def forkserver() -> ForkServerContext:
    """Return what starts processes: they fork off a small process that has imported everything and holds nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["conftest", "lrsearch.worker", "optuna_dashboard"])
    return context


def started(target: Callable[..., None], *args: object) -> ForkServerProcess:
    """Start a process."""
    process = forkserver().Process(target=target, args=args, daemon=True)
    process.start()
    return process


def finished(process: ForkServerProcess) -> int:
    """Wait for a process and return its exit code; minus nine when it was killed."""
    process.join(DEADLINE_SECONDS)
    assert process.exitcode is not None, "the process did not end in time"
    return process.exitcode


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def sentence(error: pytest.ExceptionInfo[LrsearchError]) -> str:
    """Return an error's message after checking that it is one: a single line that says something."""
    text = str(error.value)
    assert text.strip() == text
    assert len(text) > 20, text
    assert "\n" not in text, text
    assert "Traceback" not in text, text
    return text

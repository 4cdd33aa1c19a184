"""What the tests share: specs, a database, an engine that does as it is told, and processes that can be killed."""

import gc
import logging
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from optuna.storages import RDBStorage
from optuna.storages._rdb.storage import _VersionManager
from postgres import Account, postgres_server, postgres_url
from sqlalchemy.pool import NullPool

from lrsearch.errors import LrsearchError
from lrsearch.events import Event
from lrsearch.families import FAMILIES
from lrsearch.spec import file as study_file
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, lease, optuna_rows, progress, slots, tables
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.claims import Claim, Claims
from lrsearch.store.filing import artifacts_of
from lrsearch.store.keeper import Keeper, Leave
from lrsearch.store.places import Place, SqliteFile, parse_place
from lrsearch.store.proposals import Proposals
from lrsearch.store.slots import Initial
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.training.engine import Attention, CheckpointError, Engine, Paused, TestResult
from lrsearch.trial import Divergence, EpochMetrics, Facts, Outcome, Reason, State, TrialConfig

__all__ = ["postgres_server", "postgres_url"]  # fixtures


def pytest_configure(config: pytest.Config) -> None:
    """Hear Ctrl-C where whoever started pytest does not (``&`` in a script): the tests and their processes send it.

    And draw fewer examples for ``make test`` than for ``make test-all``.
    """
    settings.load_profile("light" if config.option.markexpr == "not slow" else "full")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare what is imported from every search for garbage: running out of memory makes one each time."""
    gc.collect()
    gc.freeze()


optuna.logging.set_verbosity(optuna.logging.WARNING)
# Cores may be shared: no limit of time on one example.
settings.register_profile("full", deadline=None)
settings.register_profile("light", settings.get_profile("full"), max_examples=25)

_head_versions: list[str] = []
_read_head_version = _VersionManager.get_head_version


def _head_version(manager: _VersionManager) -> str:
    """Return the version of Optuna's tables; Optuna reads all its migrations for it whenever it opens a database."""
    if not _head_versions:
        _head_versions.append(_read_head_version(manager))
    return _head_versions[0]


# .04 s saved on each of some four hundred databases; what is installed does not change meanwhile.
_VersionManager.get_head_version = _head_version  # type: ignore[assignment, method-assign]

DEADLINE_SECONDS = 180.0
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


def make_spec(name: str = "probe", **tables: Any) -> StudySpec:
    """Return a small study: four epochs, six trials drawn at random, no pruner; ``tables`` are laid over it.

    Where they name the strategy ``lr``, that decides, and budgets are theirs alone.
    """
    small: dict[str, Any] = {"epochs": 4}
    if "trials" not in tables.get("budget", {}) and "trainings" not in tables.get("budget", {}):
        small["budget"] = {"trials": 6}
    if tables.get("strategy", "sampler") == "sampler":
        small |= {"sampler": {"name": "random", "portfolio": False}, "pruner": {"name": "none"}}
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


FACTS = Facts(800, 200, 797, (1, 28, 28), tuple("0123456789"), fingerprint="of the fake engine")


@dataclass
class FakeEngine:
    """Yields what its script says for a configuration; what is an exception is raised."""

    script: Script
    device: str = "fake device"
    versions: str = "fake 1.0"
    facts: Facts = FACTS
    trained: list[TrialConfig] = field(default_factory=list)
    closed: int = 0
    """Trainings that ended, in whatever way."""
    loaded: list[int] = field(default_factory=list)
    """The epochs from which trainings were resumed."""

    def start(
        self, config: TrialConfig, checkpoint: bytes | None = None, attention: Attention | None = None
    ) -> "FakeTraining":
        self.trained.append(config)
        behind = 0
        if checkpoint is not None:
            head, _, rest = checkpoint.partition(b":")
            if head != repr(config).encode():
                raise CheckpointError("the checkpoint of another configuration")
            behind = int(rest)
            self.loaded.append(behind)
        return FakeTraining(self, config, behind, attention)

    def test(
        self, config: TrialConfig, weights: bytes | None = None, attention: Attention | None = None
    ) -> TestResult | Divergence:
        *_, last = self.start(config).epochs()
        if isinstance(last, Divergence):
            return last
        assert isinstance(last, EpochMetrics)
        return TestResult(last.val_loss, last.val_accuracy, last.val_loss, last.val_accuracy)


@dataclass
class FakeTraining:
    """A training of the fake engine; its checkpoint is the number of epochs behind it."""

    engine: FakeEngine
    config: TrialConfig
    behind: int
    attention: Attention | None

    def epochs(self) -> Iterator[EpochMetrics | Divergence | Paused]:
        done = 0
        try:
            for step in self.engine.script(self.config):
                if isinstance(step, BaseException):
                    raise step
                done += isinstance(step, EpochMetrics)
                if done <= self.behind and isinstance(step, EpochMetrics):
                    continue
                if self.attention is not None and self.attention.is_set():
                    yield Paused(done, 10 * (done - 1))
                if isinstance(step, EpochMetrics):
                    self.behind = done
                yield step
        finally:
            self.engine.closed += 1

    def checkpoint(self) -> bytes:
        return repr(self.config).encode() + b":%d" % self.behind

    def weights(self) -> bytes:
        return repr(self.config).encode()

    def validation_right(self) -> None:
        return None


BEST_LR = 0.1
TOO_HIGH_LR = 1.0


def quality(config: TrialConfig) -> float:
    """Return a made-up accuracy in 0..1 that depends on every part of a setting; best near ``BEST_LR``."""
    away = math.log10(config.optimizer.peak_lr / BEST_LR)
    small = 0.01 * math.log2(config.batch_size) + 0.05 * config.schedule.warmup_fraction
    return 0.95 / (1 + away * away) - small * 0.1


def learning(config: TrialConfig) -> Iterator[EpochMetrics | Divergence]:
    """Learn towards ``quality``, or above ``TOO_HIGH_LR`` diverge in the first or second epoch."""
    lr = config.optimizer.peak_lr
    for epoch in range(1, config.epochs + 1):
        if lr > TOO_HIGH_LR and epoch == (1 if config.batch_size <= 32 else 2):
            yield Divergence(epoch=epoch, step=10 * epoch - 9, lr=lr, loss=math.inf, initial_loss=2.3)
            return
        accuracy = quality(config) * (1 - 0.5**epoch)
        yield measured(epoch, accuracy, 1 - accuracy)


# --- a database ------------------------------------------------------------------------------------------------------


BACKENDS = ["sqlite", "postgresql"]
on_both = pytest.mark.parametrize("backend", BACKENDS)
"""Of a test of what must hold wherever a study lies; the others run on SQLite only."""


@pytest.fixture(scope="session", autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep artifacts that lie beside no SQLite file out of the home of whoever tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


OF_A_SHELL = re.compile(r"(LRSEARCH_(?!TEST_)|OPTUNA_|OMP_|GOMP_|KMP_|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|TERM$).*")
"""Variables that a tester's shell may have set and that change what is tested."""


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what lies where the tests are started, and what the shell has set, out of every test."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here", numbered=True))
    for name in list(os.environ):
        if OF_A_SHELL.fullmatch(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def _modules_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget what was imported from a folder of a test: the next one's file may bear the same name."""
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path_factory.getbasetemp())):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Take back what a command run in this process does to the package's log, which else no test would hear.

    Before a test too: a fixture of a whole module may have run one.
    """
    _fresh_log()
    yield
    _fresh_log()


def _fresh_log() -> None:
    """Have what lrsearch logs reach whoever listens, whatever a library that a test has loaded did to logging."""
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("lrsearch").handlers.clear()
    for name in ("lrsearch", *logging.Logger.manager.loggerDict):
        log = logging.getLogger(name) if name.partition(".")[0] == "lrsearch" else None
        if log is not None:
            log.disabled, log.propagate = False, True
            log.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Take back what a training in this process does to tiny numbers: hypothesis draws them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def backend() -> str:
    """Where the studies of a test lie."""
    return "sqlite"


@pytest.fixture
def place(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """The place of a database without studies: a file that is not there yet, or a database of a real server."""
    if backend == "sqlite":
        return SqliteFile(tmp_path / "lrsearch.db")
    place: Place = request.getfixturevalue("postgres_place")
    return place


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file without studies, to copy: quicker than making its tables again and again."""
    path = tmp_path_factory.mktemp("empty") / "lrsearch.db"
    Database(SqliteFile(path)).close()
    return path


@pytest.fixture(scope="session")
def empty_postgres(postgres_server: Account) -> str:
    """The name of a database without studies on a real server, to copy."""
    place = parse_place(postgres_server.create_database())
    Database(place).close()
    assert place.url.database is not None
    return place.url.database


@pytest.fixture
def postgres_place(postgres_server: Account, empty_postgres: str) -> Iterator[Place]:
    """The place of a database without studies on a real server."""
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.execute("CREATE DATABASE {} TEMPLATE {}", name, empty_postgres)
    url = postgres_server.url(name)
    yield parse_place(url)
    postgres_server.drop_database(url)


@pytest.fixture
def database(place: Place, empty_database: Path) -> Iterator[Database]:
    """An empty database."""
    if isinstance(place, SqliteFile):
        shutil.copy(empty_database, place.path)
    with closing(Database(place)) as opened:
        yield opened


def url_of(place: Place) -> str:
    """Return the URL of a place, with its password: what Optuna opens, and ``parse_place`` in another process."""
    return place.url.render_as_string(hide_password=False)


@contextmanager
def plain_optuna(study: Study) -> Iterator[optuna.Study]:
    """Open a study as an Optuna script does that knows nothing of lrsearch."""
    storage = RDBStorage(url_of(study.database.place), engine_kwargs={"poolclass": NullPool})
    try:
        yield optuna.load_study(study_name=study.name, storage=storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def rows(database: Database, query: str, **values: object) -> list[tuple[Any, ...]]:
    """Read rows."""
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query), values)]


def write(database: Database, statement: str, **values: object) -> None:
    """Change rows behind everyone's back."""
    with database.writing() as connection:
        connection.execute(sa.text(statement), values)


def expire(database: Database) -> None:
    """Let every lease expire, as time does, and every worker with it."""
    for table in ("lrsearch_leases", "lrsearch_workers"):
        write(database, f"UPDATE {table} SET expires_at = '2000-01-01 00:00:00.000000'")


def sweep(database: Database) -> None:
    """Take every lease away, as a worker does that finds it expired."""
    write(database, "DELETE FROM lrsearch_leases")


def claims_of(study: Study, initial: Sequence[Initial] = ()) -> Claims:
    """Return one worker's dealings with a study."""
    return Claims(study, initial, "fake device", "fake 1.0")


def claimed(claims: Claims) -> Claim:
    """Claim a trial that must be there."""
    claim = claims.claim()
    assert isinstance(claim, Claim), claim
    return claim


def working(claims: Claims, engine: Engine, leave: Leave | None = None, *, wait: bool = False) -> Generator[Event]:
    """Work on a study as a worker does."""
    from lrsearch import worker

    with Keeper(claims, leave or Leave()) as keeper:
        yield from worker.work(claims, engine, keeper, artifacts_of(claims.study), wait=wait)


def leases_held(database: Database) -> int:
    """Return how many slots somebody has the right to, dead or alive."""
    ((n,),) = rows(database, "SELECT count(*) FROM lrsearch_leases")
    return int(n)


# --- processes -------------------------------------------------------------------------------------------------------


def score_by_hand(study: Study, number: int, loss: float, accuracy: float) -> None:
    """Keep scores on the test images of a trial, as if it had been judged."""
    statement = tables.slots.update().where(tables.slots.c.study_id == study.id, tables.slots.c.number == number)
    with study.database.writing() as connection:
        connection.execute(statement.values(test_loss=loss, test_accuracy=accuracy))


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
    "draw": (Proposals, "_draw"),
    "start": (Claims, "_start"),
    "restart": (Claims, "_restart"),
    "accept": (Claims, "accept"),
    "keep": (Artifacts, "put"),
    "checkpointed": (Claims, "checkpointed"),
    "end": (Claims, "end"),
    # ... and the middle of each transaction.
    "slot in reserve": (slots, "insert"),
    "lease in reserve": (lease, "take"),
    "rows in start": (optuna_rows, "create"),
    "mark in start": (Claims, "_mark_running"),
    "setting in start": (optuna_rows, "adopt"),
    "interruption in reserve": (progress, "write_down"),
    "epoch in accept": (progress, "add_epoch"),
    "score in accept": (optuna_rows, "report"),
    "lease renewed": (lease, "renew"),
    "lease renewed in accept": (lease, "renew_and_look"),
    "lease in end": (lease, "drop"),
    "rows in end": (optuna_rows, "end"),
    "filing the study": (filing, "create"),
    "rows in filing": (optuna_rows, "create_study"),
    "rows in deleting": (optuna_rows, "delete_study"),
    "deleting the study": (studies, "delete"),
}


def arm(kill: Kill) -> None:
    """Make this process kill itself at that point."""
    owner, name = STEPS[kill.step]
    original = getattr(owner, name)
    calls = 0

    def stepped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == kill.nth and kill.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == kill.nth and kill.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, stepped)


def work_in_child(place: str, spec_json: str, kill: Kill | None = None, gate: str | None = None) -> None:
    """File the study or find it, and work on it until there is nothing more to do: the body of a worker process."""
    if kill is not None:
        arm(kill)
    spec = StudySpec.model_validate_json(spec_json)
    if gate is not None:
        wait_until(Path(gate).exists)
    with closing(Database(parse_place(place))) as database:
        for _ in working(claims_of(filing.create(database, spec)), FakeEngine(learning)):
            pass


PRELOADED = ["conftest", "lrsearch.worker", "alembic.command", "sqlalchemy.dialects.sqlite.pysqlite", "scipy.stats.qmc"]


def forkserver() -> ForkServerContext:
    """Return what starts processes: they fork off a small process that has imported everything and holds nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
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


# --- search spaces, drawn by hypothesis ------------------------------------------------------------------------------

FLOAT, INT, BOOL, FRACTIONS = "float", "int", "bool", "fractions"

FIELDS: dict[str, dict[str, tuple[str, float, float]]] = {
    # Kind and ends of every parameter of the space: a test holds the names equal to those of the spec.
    "sgd": {
        "peak_lr": (FLOAT, 1e-6, 10),
        "momentum": (FLOAT, 0.1, 0.99),
        "dampening": (FLOAT, 0, 1),
        "nesterov": (BOOL, 0, 1),
        "weight_decay": (FLOAT, 0, 1),
    },
    "adam": {
        "peak_lr": (FLOAT, 1e-6, 10),
        "beta1": (FLOAT, 0, 0.999),
        "beta2": (FLOAT, 0, 0.9999),
        "eps": (FLOAT, 1e-10, 1),
        "weight_decay": (FLOAT, 0, 1),
    },
    "adamw": {
        "peak_lr": (FLOAT, 1e-6, 10),
        "beta1": (FLOAT, 0, 0.999),
        "beta2": (FLOAT, 0, 0.9999),
        "eps": (FLOAT, 1e-10, 1),
        "weight_decay": (FLOAT, 0, 1),
    },
    "rmsprop": {
        "peak_lr": (FLOAT, 1e-6, 10),
        "alpha": (FLOAT, 0, 0.999),
        "momentum": (FLOAT, 0, 0.99),
        "eps": (FLOAT, 1e-10, 1),
        "weight_decay": (FLOAT, 0, 1),
    },
    "constant": {},
    "step": {"drops": (INT, 1, 20)},
    "multistep": {"milestones": (FRACTIONS, 0, 1)},
    "exponential": {},
    "linear": {},
    "cosine": {},
    "polynomial": {"power": (FLOAT, 0.01, 10)},
    "inverse_sqrt": {},
    "one_cycle": {"rise_fraction": (FLOAT, 0.01, 0.99), "initial_fraction": (FLOAT, 1e-4, 1)},
    "triangular": {"cycles": (INT, 1, 100)},
    "warm_restarts": {"cycles": (INT, 1, 20), "cycle_mult": (INT, 1, 4)},
    "wsd": {"decay_fraction": (FLOAT, 0.01, 1)},
    "wsd_cosine": {"decay_fraction": (FLOAT, 0.01, 1)},
    "plateau": {"drop_factor": (FLOAT, 0.01, 0.99), "patience_epochs": (INT, 0, 1000)},
}


@st.composite
def domains(draw: st.DrawFn, kind: str, low: float, high: float) -> Any:
    """Draw what a parameter may be: one value, a list of choices, or a range."""
    if kind == BOOL:
        return draw(st.sampled_from([True, False, [True, False], [False, True], [False]]))
    if kind == FRACTIONS:
        one = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=3, unique=True).map(sorted)
        return draw(one | st.lists(one, min_size=1, max_size=3, unique_by=tuple))
    value: st.SearchStrategy[Any] = st.integers(int(low), int(high)) if kind == INT else st.floats(low, high)
    match draw(st.sampled_from(["fixed", "choice", "range", "log", "step"])):
        case "fixed":
            return draw(value)
        case "choice":
            return draw(st.lists(value, min_size=1, max_size=4, unique=True))
        case "step" if kind == INT:
            step, first = draw(st.integers(1, max(1, int(high - low) // 2))), int(low)
            return {"low": first, "high": first + step * draw(st.integers(1, int(high - first) // step)), "step": step}
        case "step":
            # In hundredths, because a range must be a whole number of steps in decimals.
            first = math.ceil(low * 100)
            step = draw(st.integers(1, math.floor(high * 100) - first))
            n = draw(st.integers(1, (math.floor(high * 100) - first) // step))
            return {"low": first / 100, "high": (first + n * step) / 100, "step": step / 100}
        case shape:
            a, b = draw(st.tuples(value, value).filter(lambda pair: pair[0] != pair[1]))
            ends = {"low": min(a, b), "high": max(a, b)}
            return {**ends, "log": True} if shape == "log" and ends["low"] > 0 else ends


@st.composite
def search_spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the table of a search space, as it stands in a study file; valid for the 800 images of the digits."""

    def tables(names: Sequence[str]) -> dict[str, Any]:
        chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
        return {name: _some(draw, {f: domains(*how) for f, how in FIELDS[name].items()}) for name in chosen}

    optimizers, schedules = tables(tuple(OPTIMIZERS)), tables(tuple(FAMILIES))
    if "sgd" in optimizers and optimizers["sgd"].get("nesterov", False) not in (False, [False]):
        optimizers["sgd"]["dampening"] = 0
    own = {
        "batch_size": domains(INT, 1, 800),
        "warmup_fraction": domains(FLOAT, 0, 0.99),
        "final_fraction": domains(FLOAT, 1e-4, 1),
    }
    return {**_some(draw, own), "optimizer": optimizers, "schedule": schedules}


def _some(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """Draw some of the fields; the others keep their defaults."""
    return {name: draw(how) for name, how in fields.items() if draw(st.booleans())}


SLOW_BY_NATURE = frozenset(
    {
        "test_chaos.py",  # kills
        "test_ray.py",  # clusters
        "test_slurm.py",
        "test_two_hosts.py",
        "test_dashboard.py",  # browsers
        "test_html_report.py",
        "test_interrupt.py",  # whole searches, interrupted again and again
        "test_reference.py",
        "test_train.py",
        "test_collapse.py",  # whole trainings
        "test_stored.py",  # every command with every hostile name
        "test_postgres_server.py",  # servers that restart
        "test_postgres_storage.py",
        "test_pooler.py",
        "test_log.py",
        "test_read_only.py",
        "test_predict.py",
        "test_mirror.py",
    }
)


LONGEST = (
    "test_chaos.py",
    "test_stored.py",
    "test_html_report.py",
    "test_ray.py",
    "test_loop_examples.py",
    "test_homes.py",
    "test_dashboard.py",
    "test_claims.py",
    "test_notebook.py",
    "test_own_export.py",
    "test_interrupt.py",
    "test_reference.py",
    "test_own_loop.py",
    "test_micro_batches.py",
    "test_own_docs.py",
    "test_two_hosts.py",
    "test_own_workers.py",
    "test_published_weights.py",
    "test_postgres_storage.py",
    "test_export.py",
    "test_numbers.py",
    "test_loop_frameworks.py",
    "test_log.py",
    "test_train.py",
    "test_api_process.py",
    "test_read_only.py",
    "test_flags.py",
    "test_mirror.py",
)
"""The files that take longest, which begin first: one that begins last keeps one worker busy and the others idle.

Those with many processes of their own are not neighbours.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is left to ``make test-all``, and let the longest begin: a file's tests stay together."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        if item.path.name in SLOW_BY_NATURE or re.search("killed|kills", item.name):
            item.add_marker(pytest.mark.slow)

"""One process of the chaos run: a worker, what befalls it, and what another program does beside it meanwhile.

A ``Blow`` is a kill, a stop, or an ``act`` of a program that knows nothing of lrsearch: it copies, renames or deletes
the study, or tells Optuna how a trial of it ended. What happened is written down in the log, a line each.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
import strangers
from chaos_check import MARK, Repeated, Strike, measured
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from lrsearch import worker
from lrsearch.events import SearchEnded
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, lease, optuna_rows, slots, tables, trunks
from lrsearch.store import study as studies
from lrsearch.store.claims import Claims
from lrsearch.store.homes import ID_ATTR, all_carriers
from lrsearch.store.keeper import Keeper
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database
from lrsearch.store.tables import SLOT_ATTR
from lrsearch.trial import Divergence, EpochMetrics, TrialConfig

STUDY = "chaos"
"""What the name of the study that is worked on begins with, whatever it is renamed to."""
DOOMED = "doomed"
"""What the names of studies begin with that are deleted under their workers."""

MOMENTS: dict[str, tuple[Any, str, Literal["before", "after"]]] = {
    "slot reserved": (Claims, "_reserve", "after"),
    "between Optuna's row and ours, starting": (Claims, "_mark_running", "before"),
    "trial written": (Claims, "_start", "after"),
    "trial taken over": (Claims, "_restart", "after"),
    "inside an epoch": (Keeper, "is_set", "before"),
    "between our row and Optuna's, accepting": (optuna_rows, "report", "before"),
    "epoch accepted": (Claims, "accept", "after"),
    "checkpoint put, not noted": (Claims, "checkpointed", "before"),
    "checkpoint noted": (Claims, "checkpointed", "after"),
    "weights put, ending not told": (Claims, "end", "before"),
    "between our row and Optuna's, ending": (optuna_rows, "end", "before"),
    "ending told": (Claims, "end", "after"),
}
"""Moments at which something befalls a worker: before or after a call, which must be the protocol's step itself."""
OF_PAUSES: dict[str, tuple[Any, str, Literal["before", "after"]]] = {
    "pause decided, state not kept": (worker._Attempt, "_pause", "before"),  # noqa: SLF001
    "state kept, pause not told": (Claims, "pause", "before"),
    "between the slot and its lease, going on": (lease, "take", "before"),
    "between our row and the next, pausing": (slots, "pause", "after"),
    "pause told": (Claims, "pause", "after"),
    "trunk put, not noted": (Claims, "keep_trunk", "before"),
    "trunk noted": (Claims, "keep_trunk", "after"),
    "between a branch and its first epochs": (trunks, "begin", "before"),
    "between two that are settled": (slots, "settle", "after"),
}
"""Further ones, where a strategy lets trials stand still and branch."""
OF_TRUNKS = ("trunk put, not noted", "trunk noted", "between a branch and its first epochs")
"""Those that come where it branches alone."""

INSIDE = "between"
"""How the moments within a transaction begin: there a worker is killed, and cannot wait for another program."""
ANY_TIME = "any time"
ASK_SECONDS = 60.0
"""For so long a worker waits for another program at most."""
NOTICE_SECONDS = 1.0
"""For so long a renaming waits for a worker to notice it, and then does what whoever writes next does."""
ANSWERS_LOST = 7
"""Every so many-th transaction's answer is lost: it is run again although it was committed."""


@dataclass(frozen=True)
class Blow:
    """What is to happen to one worker."""

    moment: str
    nth: int = 1
    """The how manieth time it comes to that moment."""
    seconds: float = 0.0
    """For any time: since it began its first trial."""
    pause: bool = False
    """Stopped instead of killed."""
    act: str | None = None
    """What another program does then, instead of a kill."""


@dataclass(frozen=True)
class Order:
    """What one worker process is to do."""

    url: str
    log: str
    study: str
    blow: Blow | None = None
    """What ends or stops it."""
    acts: tuple[Blow, ...] = field(default=())
    """What happens to its study meanwhile."""
    unfenced: bool = False
    """Broken on purpose: it goes on writing when it has lost its trial. For a test of the checks."""


def be_worker(order: Order) -> None:
    """Be `lrsearch worker`: the body of its process."""
    into(order.log)
    say(f"begun {time.time():.3f}")
    say_homes()
    os.environ["LRSEARCH_STORAGE"] = order.url
    for blow in (*order.acts, *([] if order.blow is None else [order.blow])):
        if blow.moment != ANY_TIME:
            arm(blow, order)
    if order.unfenced:
        unfence()
    else:
        lose_answers(ANSWERS_LOST)
    from lrsearch.cli import app

    sys.exit(app.run(["worker", "--study", order.study, "--device", "cpu", "--threads", "1"]))


def into(log: str) -> None:
    """Write to the log whatever this process says."""
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(to, 1)
    os.dup2(to, 2)


def say(words: str) -> None:
    os.write(2, f"{MARK} {words}\n".encode())


def arm(blow: Blow, order: Order) -> None:
    """Have this process stop or kill itself, or another program act, at that moment."""
    owner, name, when = {**MOMENTS, **OF_PAUSES}[blow.moment]
    original = getattr(owner, name)
    calls = 0

    def strike() -> None:
        nonlocal calls
        calls += 1
        if calls != blow.nth:
            return
        if blow.act is not None:
            ask(Request(blow.act, order.study, blow.moment), Path(order.log))
            return
        say(f"{'stops' if blow.pause else 'dies'} {time.time():.3f} {blow.moment}")
        os.kill(os.getpid(), signal.SIGSTOP if blow.pause else signal.SIGKILL)

    def stepped(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            strike()
        result = original(*args, **kwargs)
        if when == "after" and (result is not None or blow.moment in OF_PAUSES) and not isinstance(result, SearchEnded):
            strike()
        return result

    setattr(owner, name, stepped)


def say_homes() -> None:
    """Have each trial preceded by Optuna's id of the study in which it begins, and by how manieth attempt it is."""
    for name in ("_start", "_restart"):
        original = getattr(Claims, name)

        def said(self: Claims, *args: Any, original: Callable[..., Any] = original) -> Any:
            claim = original(self, *args)
            if claim is not None:
                say(f"home {self.study.optuna_id} attempt {claim.attempt}")
            return claim

        setattr(Claims, name, said)


def lose_answers(every: int) -> None:
    """Have every so many-th transaction run again after its commit, as if the answer to that had been lost."""
    original = Database.write
    calls = 0

    def write(self: Database, work: Callable[[Any], Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % every == 0:
            original(self, work, *args, **kwargs)
            say("lost the answer to a commit")
        return original(self, work, *args, **kwargs)

    Database.write = write  # type: ignore[method-assign]


def unfence() -> None:
    """Take the fence away: every write is taken for one under a living lease, of a trial that runs."""
    marked = optuna_rows.marked

    def running(*args: Any) -> optuna_rows.Marked | None:
        found = marked(*args)
        return found and replace(found, state=TrialState.RUNNING)

    optuna_rows.marked = running
    for name in ("renew", "drop"):
        original = getattr(lease, name)

        def yes(*args: Any, original: Callable[..., Any] = original) -> bool:
            original(*args)
            return True

        setattr(lease, name, yes)
    look = lease.renew_and_look
    lease.renew_and_look = lambda *args: look(*args)._replace(ours=True)


def repeat(spec_json: str, configs: dict[int, TrialConfig], answers: Connection) -> None:
    """Train every setting through, without interruption, with one thread: the body of a process of its own."""
    from lrsearch import run

    engine = run.prepare(
        StudySpec.model_validate_json(spec_json), run.Here("cpu", threads=1, data_dir=None, progress=False)
    )
    for number, config in configs.items():
        training = engine.start(config)
        told = list(training.epochs())
        last = told[-1]
        answers.send(
            (
                number,
                Repeated(
                    tuple(measured(row) for row in told if isinstance(row, EpochMetrics)),
                    hashlib.sha256(training.weights()).hexdigest(),
                    (last.step, last.lr) if isinstance(last, Divergence) else None,
                ),
            )
        )
    answers.send(None)


# --- what another program does ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What another program is to do, at once: a worker stands still at the moment, and may be killed meanwhile."""

    act: str
    study: str
    moment: str


def ask(request: Request, log: Path) -> None:
    """Have another program act, and wait until it has."""
    say(f"asks {request.act}")
    path = log.with_name(f"{log.stem}-{time.time_ns()}.request")
    begun = path.with_suffix(".writing")
    begun.write_text(json.dumps(asdict(request)))
    begun.rename(path)
    until = time.monotonic() + ASK_SECONDS
    while not path.with_suffix(".done").exists() and time.monotonic() < until:
        time.sleep(0.01)


def requests(logs: Path) -> list[tuple[Request, Path]]:
    """Return what workers have asked for since the last look, each with the file whose making ends their waiting."""
    found = []
    for path in sorted(logs.glob("*.request")):
        found.append((Request(**json.loads(path.read_text())), path.with_suffix(".done")))
        path.unlink()
    return found


def act(request: Request, url: str, log: str, done: str | None) -> None:
    """Be another program: do it, one at a time, and write down what was done; the body of a process of its own."""
    into(log)
    try:
        # It waits for a server that restarts: who has renamed a study must see that it was noticed.
        with alone(Path(log).parent), closing(Database(parse_place(url), ASK_SECONDS)) as database:
            began = time.time()
            name = request.study if request.study.startswith(DOOMED) else current(database)
            there = database.place.url.render_as_string(hide_password=False)
            strike = ACTS[request.act](Victim(database, there, name, f"{began:.3f}".replace(".", "")))
            strike = replace(strike, act=request.act, moment=request.moment, began=began, ended=time.time())
            say("struck " + json.dumps(asdict(strike)))
    finally:
        if done is not None:
            Path(done).touch()


@dataclass(frozen=True)
class Victim:
    """The study upon which another program acts."""

    database: Database
    url: str
    """Of the database, as Optuna opens it."""
    name: str
    serial: str
    """What makes a new name of this act's own."""


def current(database: Database) -> str:
    """Return the name that the study bears by now."""
    found = [name for name in studies.names(database) if name.startswith(STUDY)]
    if len(found) != 1:
        raise AssertionError(f"one study must bear the name, and {found} do, among {database.read(_all_there_is)}")
    return found[0]


def _all_there_is(connection: sa.Connection) -> dict[str, Any]:
    """Return what the database knows of its studies: the carriers of our ids, Optuna's rows and ours."""
    optunas = connection.execute(sa.text("SELECT study_id, study_name FROM studies")).all()
    ours = connection.execute(sa.select(tables.studies.c.id, tables.studies.c.optuna_id)).all()
    return {"carriers": all_carriers(connection), "Optuna's": optunas, "ours": ours}


@contextlib.contextmanager
def alone(logs: Path) -> Iterator[None]:
    """Keep other programs waiting meanwhile."""
    with (logs / "strangers.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _copy(it: Victim) -> Strike:
    strangers.copy(it.url, it.name, f"copy-{it.serial}")
    return Strike(f"copy-{it.serial}")


def _copy_and_delete_it(it: Victim) -> Strike:
    """Half of the time as an Optuna script deletes, half of the time as `lrsearch delete` does."""
    strangers.copy(it.url, it.name, f"copy-{it.serial}")
    if random.Random(it.serial).random() < 0.5:
        strangers.delete(it.url, f"copy-{it.serial}")
    else:
        studies.delete(it.database, f"copy-{it.serial}")
    return Strike()


def _rename(it: Victim) -> Strike:
    home = studies.get(it.database, it.name).optuna_id
    try:
        kept = strangers.rename(it.url, it.name, f"{STUDY}-{it.serial}")
    finally:
        # Also where the server restarted over it: the old study may be gone all the same.
        _wait_until_noticed(it.database, home)
    return Strike(f"{STUDY}-{it.serial}", kept=tuple(kept), home=home)


def _wait_until_noticed(database: Database, home: int) -> None:
    """Wait until a worker has: of two copies that are made before, nobody can tell which one is the renamed study."""
    until = time.monotonic() + NOTICE_SECONDS
    moved = sa.select(tables.studies.c.id).where(tables.studies.c.optuna_id == home)
    while time.monotonic() < until:
        with database.reading() as connection:
            if connection.execute(moved).first() is None:
                return
        time.sleep(0.02)
    anew = studies.get(database, current(database))
    anew.with_workers(anew.spec.workers)


def _tell(state: TrialState) -> Callable[[Victim], Strike]:
    def tell(it: Victim) -> Strike:
        try:
            return Strike(it.name, told=strangers.tell(it.url, it.name, state))
        except (UpdateFinishedTrialError, ValueError):
            return Strike(it.name)  # its worker was quicker

    return tell


def _delete(it: Victim) -> Strike:
    strangers.delete(it.url, it.name)
    return Strike()


def _delete_as_we_do(it: Victim) -> Strike:
    studies.delete(it.database, it.name)
    return Strike()


def _delete_and_take_its_ids(it: Victim) -> Strike:
    strangers.delete(it.url, it.name)
    strangers.take_ids(it.url, f"stranger-{it.serial}")
    return Strike(f"stranger-{it.serial}", rows=rows_of(it.database, f"stranger-{it.serial}", made=True))


def _delete_and_file_anew(it: Victim) -> Strike:
    spec = studies.get(it.database, it.name).spec
    strangers.delete(it.url, it.name)
    anew = filing.create(it.database, spec)
    for nth in range(2):
        anew.enqueue({"peak_lr_sgd": 0.1 + nth})
    return Strike(it.name, rows=rows_of(it.database, it.name, made=True))


ACTS: dict[str, Callable[[Victim], Strike]] = {
    "copied": _copy,
    "copied, the copy deleted": _copy_and_delete_it,
    "renamed": _rename,
    "told complete": _tell(TrialState.COMPLETE),
    "told pruned": _tell(TrialState.PRUNED),
    "told failed": _tell(TrialState.FAIL),
    "deleted": _delete,
    "deleted by lrsearch": _delete_as_we_do,
    "deleted, its ids a stranger's": _delete_and_take_its_ids,
    "deleted, filed anew": _delete_and_file_anew,
}
ENDINGS = tuple(what for what in ACTS if what.startswith("deleted"))
"""Acts after which there is nothing left to work on."""
MEDDLING = tuple(what for what in ACTS if what not in ENDINGS)


def rows_of(database: Database, name: str, *, made: bool = False) -> dict[str, list[str]]:
    """Return every row, of Optuna's tables and of ours, that hangs on the study of that name, by table.

    Nobody works on that study. Where SQLite gave it the id of one that was deleted, trials of that one, which bear a
    worker's mark, may hang on it until they are swept: ``made`` leaves them out, of a study that was made just now.
    """
    with database.reading() as connection:
        inspector = sa.inspect(connection)
        study_id = connection.scalar(sa.text("SELECT study_id FROM studies WHERE study_name = :name"), {"name": name})
        marks = f"SELECT trial_id FROM trial_user_attributes WHERE key = '{SLOT_ATTR}'"
        unmarked = f" AND trial_id NOT IN ({marks})" if made else ""
        trials = f"(SELECT trial_id FROM trials WHERE study_id = {study_id}{unmarked})"
        attrs = f"FROM study_user_attributes WHERE study_id = {study_id} AND key = '{ID_ATTR}'"
        ours = f"(SELECT id FROM lrsearch_studies WHERE '\"' || id || '\"' IN (SELECT value_json {attrs}))"
        found = {}
        for table in sorted(inspector.get_table_names()):
            columns = {column["name"] for column in inspector.get_columns(table)}
            if table.startswith("lrsearch_"):
                where = f"study_id IN {ours}" if "study_id" in columns else None
                where = f"id IN {ours}" if table == "lrsearch_studies" else where
            else:
                where = f"trial_id IN {trials}" if "trial_id" in columns else f"study_id = {study_id}"
                where = where if columns & {"trial_id", "study_id"} else None
            if where is not None:
                rows = connection.execute(sa.text(f'SELECT * FROM "{table}" WHERE {where}'))
                found[table] = sorted(str(tuple(row)) for row in rows)
    return found


def left_of(database: Database, study_id: str) -> list[str]:
    """Return in which of our tables rows of a study are left."""
    keys = [table.c.study_id for table in tables.metadata.sorted_tables if "study_id" in table.c]
    with database.reading() as connection:
        return [
            key.table.name
            for key in (*keys, tables.studies.c.id)
            if connection.execute(sa.select(key).where(key == study_id)).first() is not None
        ]

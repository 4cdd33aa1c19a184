"""Is anything lost or done twice, however workers die? Real workers, real trainings, real kills, on both databases.

    python benchmarks/chaos.py [--storage sqlite|postgresql|both] [--budget 60] [--workers 6] [--kills 24] [--acts 16]
                               [--deletions 4] [--epochs 6] [--seed 0] [--minutes M] [--json]
                               [--strategy lr [--branching] [--trainings X]]

Six `lrsearch worker` processes work on the digits; a kill is planned for most of them, by the seed: SIGKILL at a named
moment of the protocol or at a random one; who dies is replaced. One is stopped (SIGSTOP) within an epoch until its
trial has been taken over, and continued; on PostgreSQL another one within a transaction, and the server is restarted in
the middle. Every seventh transaction is run again although it was committed. Other programs act meanwhile, at named
moments too: they copy the study, rename it, delete a copy, tell Optuna how its trials ended; and they delete other
studies under their two workers, and file them anew. Then chaos_check.py holds tables and logs against each other, and
every trial that was interrupted is trained once more without interruption, in one process. With --strategy lr trials
stand still and go on in other processes, and branch; kills fall on these moments too, and chaos_moves.py looks at them.
With --minutes it goes on with the next seeds for so long. Exit code 1: something does not hold.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import psutil
import sqlalchemy as sa

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import chaos_moves  # noqa: E402
from chaos_check import (  # noqa: E402
    MARK,
    Evidence,
    Repeated,
    Strike,
    Worker,
    left_files,
    read,
    repeated_epochs,
    struck,
    violations,
)
from chaos_doomed import Doomed  # noqa: E402
from chaos_worker import (  # noqa: E402
    ANY_TIME,
    ENDINGS,
    INSIDE,
    MEDDLING,
    MOMENTS,
    OF_PAUSES,
    OF_TRUNKS,
    STUDY,
    Blow,
    Order,
    Request,
    act,
    alone,
    be_worker,
    current,
    repeat,
    requests,
)
from postgres import Server, StopMode  # noqa: E402

from lrsearch.spec import file as study_file  # noqa: E402
from lrsearch.spec.study import StudySpec  # noqa: E402
from lrsearch.store import filing, tables  # noqa: E402
from lrsearch.store import study as studies  # noqa: E402
from lrsearch.store.places import parse_place  # noqa: E402
from lrsearch.store.storage import Database  # noqa: E402
from lrsearch.trial import TrialConfig  # noqa: E402

PRELOADED = [
    "chaos_worker",
    "lrsearch.run",
    "lrsearch.cli.app",
    "lrsearch.cli.worker",
    "lrsearch.report.lines",
    "torch._dynamo",  # which the first optimizer imports: 2 s of every process
    "sklearn.datasets",
    "alembic.command",
    "psycopg",
]

BRIEF = "?options=-c%20idle_in_transaction_session_timeout%3D2s"
"""The server gives up sooner than after our 20 s on a worker that stands still within a transaction."""
DEADLINE_SECONDS = 480.0
"""After so long a run that should have ended hangs."""
POLL_SECONDS = 0.02
DOWN_SECONDS = 10.0
"""For so long at most PostgreSQL stays away if no worker notices."""
WAITS = "trying again for"
"""What a worker says that has noticed."""


@dataclass
class Settings:
    """One run."""

    storage: Literal["sqlite", "postgresql"] = "sqlite"
    seed: int = 0
    budget: int = 60
    workers: int = 6
    kills: int = 24
    acts: int = 16
    """Of other programs upon the study."""
    deletions: int = 4
    """Of other studies, under their workers."""
    epochs: int = 4
    images: int = 240
    lease_seconds: float = 3.0
    unfenced: bool = False
    strategy: Literal["lr"] | None = None
    branching: bool = False
    trainings: float | None = None
    """The budget, instead of trials."""


@dataclass
class Outcome:
    """What a run came to."""

    settings: Settings
    seen: Evidence
    wrong: list[str]
    figures: dict[str, Any]


def spec_of(settings: Settings) -> StudySpec:
    """Return the study: digits, short trainings, learning rates of which many diverge."""
    wide = {"peak_lr": {"low": 1e-3, "high": 1e3, "log": True}}
    decides: dict[str, Any] = {"pruner": {"name": "asha"}}
    if settings.strategy is not None:
        decides = {"strategy": {"name": settings.strategy, "branching": settings.branching}}
    return study_file.build(
        {
            "name": STUDY,
            "epochs": settings.epochs,
            "seed": settings.seed,
            "dataset": {"name": "digits", "limit": settings.images},
            "budget": {"trials": settings.budget} if settings.trainings is None else {"trainings": settings.trainings},
            **decides,
            # Every epoch leaves a checkpoint; a trial may be hit more often than one would put up with in earnest.
            "workers": {"lease_seconds": settings.lease_seconds, "checkpoint_seconds": 0, "retries": {"lost": 100}},
            "space": {"batch_size": [8, 16, 32], "optimizer": {"sgd": wide, "adamw": {}}},
        },
        "chaos.py",
    )


def plan(settings: Settings) -> list[Blow]:
    """Draw what happens to the workers, in the order in which they are started; a third of the kills at any time."""
    draw = random.Random(settings.seed)
    kills = []
    names = list(MOMENTS)
    if settings.strategy is not None:
        names += [name for name in OF_PAUSES if settings.branching or name not in OF_TRUNKS]
    draw.shuffle(names)
    for i in range(settings.kills):
        if i % 3 == 2:
            kills.append(Blow(ANY_TIME, seconds=draw.uniform(0, 1.5)))
        else:
            name = names[(i - i // 3) % len(names)]
            kills.append(Blow(name, draw.randint(1, 60) if name == "inside an epoch" else draw.randint(1, 2)))
    draw.shuffle(kills)
    # Among the first, so that the others have enough to do while it stands still.
    early = min(settings.workers, len(kills) + 1)
    kills.insert(draw.randrange(early), Blow("inside an epoch", 25, pause=True))
    if settings.storage == "postgresql" and settings.kills:
        # On SQLite whoever is stopped within a transaction keeps everyone waiting: there is one writer.
        kills.insert(draw.randrange(early), Blow("between our row and Optuna's, accepting", 2, pause=True))
    return kills


def plan_acts(settings: Settings) -> tuple[list[Blow], list[tuple[int, str]]]:
    """Draw what other programs do: at moments of the workers, and at any time, by how many trials have ended then."""
    draw = random.Random(settings.seed + 2)
    moments = [name for name in MOMENTS if not name.startswith(INSIDE)]
    draw.shuffle(moments)
    what = [MEDDLING[i % len(MEDDLING)] for i in range(settings.acts)]
    draw.shuffle(what)
    at_any_time = len(what) // 4
    at_moments = [
        Blow(name, draw.randint(1, 40) if name == "inside an epoch" else 1, act=act)
        for act, name in zip(what[at_any_time:], moments * len(what), strict=False)
    ]
    return at_moments, sorted((draw.randrange(settings.budget * 9 // 10), act) for act in what[:at_any_time])


@dataclass
class _Running:
    """A worker process under way."""

    order: Order
    process: ForkServerProcess
    began: float | None = None
    """When its first trial was seen."""
    hit: str | None = None
    """The moment at which it was killed from outside."""
    stopped_at: float | None = None
    continued: bool = False
    gone_at: float | None = None

    @property
    def text(self) -> str:
        """What it has written."""
        path = Path(self.order.log)
        return path.read_text(errors="replace") if path.exists() else ""


class _Scene:
    """One run: starts workers as the plan says, and replaces those who die, until the study's budget is used up."""

    def __init__(
        self, settings: Settings, folder: Path, url: str, server: Server | None, context: ForkServerContext
    ) -> None:
        self.settings, self.url, self.server, self.context = settings, url, server, context
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.blows = plan(settings)
        self.acts, self.acts_at_any_time = plan_acts(settings)
        self.strangers: list[ForkServerProcess] = []
        draw = random.Random(settings.seed + 3)
        kinds = [ENDINGS[(settings.seed + i) % len(ENDINGS)] for i in range(settings.deletions)]
        self.to_doom = [(draw.randrange(settings.budget * 8 // 10), kind, draw) for kind in kinds]
        self.to_doom.sort(key=lambda one: one[0])
        self.doomed: Doomed | None = None
        self.n_doomed = 0
        self.strikes: list[Strike] = []
        """Upon studies that were deleted."""
        self.over: list[Worker] = []
        self.wrong: list[str] = []
        self.running: list[_Running] = []
        self.owed = settings.workers
        """Workers that are still to be started."""
        self.started = self.renamed_before = 0
        self.restart: threading.Thread | None = None
        self.restart_mode: StopMode = random.Random(settings.seed + 1).choice(["fast", "immediate"])
        self.restart_seconds = 0.0

    def play(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        try:
            while self._goes_on():
                if self.restart is None or not self.restart.is_alive():
                    while self.owed:
                        self.owed -= 1
                        self._start()
                    for worker in list(self.running):
                        self._look_after(worker)
                    self._restart_server()
                    self._meddle()
                if time.monotonic() > deadline:
                    left = [Path(one.order.log).name for one in self.running]
                    left += [] if self.doomed is None else [self.doomed.name]
                    left += [f"stranger {nth}" for nth, one in enumerate(self.strangers) if one.is_alive()]
                    self.wrong.append(f"the run has not ended after {DEADLINE_SECONDS:.0f} s: {left} go on")
                    return
                time.sleep(POLL_SECONDS)
        finally:
            if self.restart is not None:
                self.restart.join()
            if self.doomed is not None:
                self.doomed.kill()
            for worker in self.running:
                if worker.process.is_alive():
                    worker.process.kill()
                worker.process.join()

    def _goes_on(self) -> bool:
        if self.running or self.owed or self.doomed is not None or any(s.is_alive() for s in self.strangers):
            return True
        with closing(Database(parse_place(self.url))) as database:
            # Who renamed it while its last trials ended has lost them: somebody must train them again.
            self.owed += studies.get(database, current(database)).is_open()
        return self.owed > 0

    def _start(self) -> None:
        self.started += 1
        log = self.logs / f"{self.started}.log"
        blow = self.blows.pop(0) if self.blows else None
        acts = []
        if blow is None or not blow.pause:
            # Two of them at most upon one worker, whose moments would otherwise wait for each other.
            acts, self.acts = self.acts[:2], self.acts[2:]
        with closing(Database(parse_place(self.url))) as database:
            name = current(database)
        order = Order(self.url, str(log), name, blow, tuple(acts), self.settings.unfenced)
        process = self.context.Process(target=be_worker, args=(order,), daemon=True)
        process.start()
        self.running.append(_Running(order, process))

    def _ended(self) -> int:
        """How many trials have ended, or stand still, by the logs."""
        workers = [Worker("", one.text, 0) for one in self.running] + self.over
        return sum(a.ended or a.interrupted == "paused" for w in workers for a in w.attempts)

    def _meddle(self) -> None:
        """Have other programs act whose time has come; one deletes a study under its workers, if none does."""
        if not self.running and self.doomed is None:
            return
        for request, done in requests(self.logs):
            self._let_act(request, done)
        ended = self._ended() if self.acts_at_any_time or self.to_doom else 0
        while self.acts_at_any_time and self.acts_at_any_time[0][0] <= ended:
            self._let_act(Request(self.acts_at_any_time.pop(0)[1], STUDY, ANY_TIME), None)
        if self.doomed is not None:
            if self.doomed.look_after():
                self.wrong += self.doomed.wrong
                self.strikes += self.doomed.strikes
                self.doomed = None
        elif self.to_doom and self.to_doom[0][0] <= ended:
            _, kind, draw = self.to_doom.pop(0)
            self.n_doomed += 1
            spec = spec_of(self.settings)
            self.doomed = Doomed(self.n_doomed, kind, draw, spec, self.url, self.logs, self.context)

    def _let_act(self, request: Request, done: Path | None) -> None:
        """Start another program."""
        log = self.logs / f"stranger-{len(self.strangers)}-{request.study}-.log"
        given = (request, self.url, str(log), None if done is None else str(done))
        process = self.context.Process(target=act, args=given, daemon=True)
        process.start()
        self.strangers.append(process)

    def _look_after(self, worker: _Running) -> None:
        blow, process = worker.order.blow, worker.process
        if process.exitcode is not None:
            self._bury(worker)
        elif blow is not None and blow.moment == ANY_TIME and worker.hit is None:
            if worker.began is None:
                worker.began = time.monotonic() if "> trial" in worker.text else None
            elif time.monotonic() - worker.began > blow.seconds:
                worker.hit, worker.gone_at = ANY_TIME, time.time()
                process.kill()
        elif blow is not None and blow.pause and not worker.continued:
            self._continue(worker)

    def _continue(self, worker: _Running) -> None:
        """Let a stopped worker go on once its trial has been taken over."""
        assert worker.process.pid is not None
        if worker.stopped_at is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED:
                    worker.stopped_at, worker.gone_at = time.monotonic(), time.time()
            return
        mine = Worker("", worker.text, 0).attempts[-1].number
        with closing(Database(parse_place(self.url))) as database, database.reading() as connection:
            leases = tables.leases
            holds = sa.select(leases.c.slot_id).join(tables.workers, tables.workers.c.id == leases.c.worker_id)
            holds = holds.where(tables.workers.c.pid == worker.process.pid)
            taken = connection.execute(holds).first() is None
        waited = time.monotonic() - worker.stopped_at
        if waited > 10 * self.settings.lease_seconds and not taken:
            self.wrong.append(f"trial {mine} of a stopped worker was not taken over in {waited:.0f} s")
            taken = True
        if taken:
            worker.continued = True
            os.kill(worker.process.pid, signal.SIGCONT)

    def _bury(self, worker: _Running) -> None:
        """Keep what is left of a worker; replace it if it was killed."""
        code, text = worker.process.exitcode, worker.text
        assert code is not None
        self.running.remove(worker)
        killed = worker.hit if code < 0 else None
        died = next((line.split(" ", 3)[2:] for line in text.splitlines() if line.startswith(f"{MARK} dies ")), None)
        if died is not None:
            worker.gone_at, killed = float(died[0]), died[1]
        # It was started under a name that the study bears no longer, and said so: whoever started it tries again.
        early = code == 2 and "there is no study" in text and not Worker("", text, 0).attempts
        name = f"{socket.gethostname()}:{worker.process.pid}"
        paused = None
        if worker.continued and worker.order.blow is not None:
            paused = worker.order.blow.moment
        if early:
            self.renamed_before += 1
            if worker.order.blow is not None:
                self.blows.insert(0, worker.order.blow)
        # What it did not live to see befalls another one.
        self.acts += [one for one in worker.order.acts if f"{MARK} asks {one.act}\n" not in text]
        if not early:
            self.over.append(Worker(name, text, code, killed, paused, worker.gone_at))
        if paused is not None and not any(a.interrupted == "lost" for a in self.over[-1].attempts):
            self.wrong.append(f"{name} was stopped, its trial was taken over, and it has not heard that it lost it")
        self.owed += killed is not None or early

    def _restart_server(self) -> None:
        if self.server is None or self.restart is not None:
            return
        if self._ended() >= self.settings.budget * 0.2:
            self.restart = threading.Thread(target=self._do_restart, daemon=True)
            self.restart.start()

    def _do_restart(self) -> None:
        assert self.server is not None
        begun = time.monotonic()
        with alone(self.logs):
            before = [worker.text.count(WAITS) for worker in self.running]
            self.server.stop(self.restart_mode)
            # Down until a worker has noticed: one that trains meanwhile has nothing to ask.
            while [w.text.count(WAITS) for w in self.running] == before and time.monotonic() - begun < DOWN_SECONDS:
                time.sleep(POLL_SECONDS)
            self.server.start_again()
        self.restart_seconds = time.monotonic() - begun


def run(settings: Settings, folder: Path, server: Server | None, context: ForkServerContext) -> Outcome:
    """Play one run in an empty folder; ``server`` is one that may be restarted."""
    spec = spec_of(settings)
    url = f"{folder / 'lrsearch.db'}" if server is None else server.create_database() + BRIEF
    artifacts = folder / "artifacts"
    filing.file_study(spec, parse_place(url), explicit_budget=True, artifacts=str(artifacts)).database.close()
    scene = _Scene(settings, folder, url, server, context)
    begun = time.monotonic()
    scene.play()
    wall = time.monotonic() - begun
    with closing(Database(parse_place(url))) as database:
        strikes = [one for log in scene.logs.glob("*.log") for one in struck(log.read_text(errors="replace"))]
        ours = [one for one in strikes if one not in scene.strikes]
        seen = read(studies.get(database, current(database)), artifacts, scene.over, ours)
    seen.repeated = repeated(spec, seen.to_repeat(), context)
    wrong = scene.wrong + violations(seen) + chaos_moves.violations(seen)
    return Outcome(settings, seen, wrong, figures(seen, scene, wall))


def repeated(spec: StudySpec, configs: dict[int, TrialConfig], context: ForkServerContext) -> dict[int, Repeated]:
    """Train settings without interruption, in a process of its own."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=repeat, args=(spec.to_json(), configs, theirs), daemon=True)
    process.start()
    theirs.close()
    out = {}
    while (answer := ours.recv()) is not None:
        out[answer[0]] = answer[1]
    process.join()
    return out


def figures(seen: Evidence, scene: _Scene, wall: float) -> dict[str, Any]:
    """Return the numbers of a run."""
    states = Counter(row["outcome"] or row["state"] for row in seen.slots)
    gone = {w.name: w.gone_at for w in seen.workers if w.gone_at is not None}
    delays = list(_delays(seen, gone))
    again = repeated_epochs(seen)
    return {
        "seed": scene.settings.seed,
        "storage": scene.settings.storage,
        "trials": dict(sorted(states.items())),
        "workers": scene.started,
        "kills": dict(sorted(Counter(w.killed for w in seen.workers if w.killed is not None).items())),
        "not_hit": [b.moment for b in scene.blows],
        "pauses": sum(w.paused is not None for w in seen.workers),
        "acts": dict(sorted(Counter(strike.act for strike in strikes(seen, scene)).items())),
        "acts_at": dict(sorted(Counter(strike.moment for strike in strikes(seen, scene)).items())),
        "restart": None if scene.restart is None else f"{scene.restart_mode} ({scene.restart_seconds:.1f} s)",
        "renamed_before": scene.renamed_before,
        "interruptions": dict(sorted(Counter(row["reason"] for row in seen.interruptions).items())),
        "moves": dict(sorted(Counter(row["kind"] for row in seen.moves).items())),
        "branches": sum(shared > 0 for shared in seen.shared.values()),
        "epochs_trained": chaos_moves.n_epochs(seen),
        "trials_interrupted": len(seen.to_repeat()),
        "trials_repeated_equal": len(seen.repeated),
        "take_over_seconds": {"median": round(statistics.median(delays), 2), "max": round(max(delays), 2)}
        if delays
        else None,
        "take_overs": sum(a.resumed for w in seen.workers for a in w.attempts),
        "seconds_lost": round(sum(delays), 1),
        "repeated_epochs": {
            "total": round(sum(n for *_, n in again), 2),
            "max": max((n for *_, n in again), default=0),
        },
        "again_lines": sum(again for w in seen.workers for a in w.attempts for _, again in a.epochs),
        "answers_lost": sum(w.text.count("lost the answer") for w in seen.workers),
        "reconnections": sum(w.text.count("answers again after") for w in seen.workers),
        "files_left": len(left_files(seen)),
        "seconds": round(wall, 1),
    }


def strikes(seen: Evidence, scene: _Scene) -> list[Strike]:
    """Return what other programs did; what they would have told of a trial that had just ended is nothing."""
    return [one for one in (*seen.strikes, *scene.strikes) if not (one.act.startswith("told") and one.told is None)]


def _delays(seen: Evidence, gone: dict[str, float]) -> Iterator[float]:
    """Yield, for each trial whose worker was hit, the seconds until another worker went on with it."""
    starts = sorted((a.at, a.number) for w in seen.workers for a in w.attempts if a.resumed)
    for row in seen.interruptions:
        if (since := gone.get(row["worker"])) is not None:
            number = seen.number_of[row["slot_id"]]
            later = [at - since for at, n in starts if n == number and at >= since - 0.1]
            if later:
                yield max(0.0, later[0])


@contextlib.contextmanager
def prepared(storage: str) -> Iterator[tuple[Path, Server | None]]:
    """Give a folder and, for PostgreSQL, a server of its own; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lrsearch-chaos-"))
    try:
        if storage == "sqlite":
            yield folder, None
        else:
            with Server.start(folder / "postgres") as server:
                yield folder, server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forkserver() -> ForkServerContext:
    """Return what starts workers: forked off a process that has imported everything and holds nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def show(outcome: Outcome) -> None:
    """Print one run as a table."""
    for name, value in outcome.figures.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"  {name.replace('_', ' '):22} {shown}")
    for sentence in outcome.wrong:
        print(f"  VIOLATED: {sentence}")
    print("  nothing is lost, nothing is done twice" if not outcome.wrong else "", flush=True)


def total(kind: str, documents: Sequence[dict[str, Any]]) -> None:
    """Print what all runs on one kind of database came to."""
    kills, acts, moments = Counter[str](), Counter[str](), Counter[str]()
    for document in documents:
        kills.update(document["kills"])
        acts.update(document["acts"])
        moments.update(document["acts_at"])
    restarts = sum(document["restart"] is not None for document in documents)
    sums = {
        name: round(sum(document[name] for document in documents), 1)
        for name in ("pauses", "reconnections", "answers_lost", "take_overs", "seconds_lost", "trials_repeated_equal")
    }
    of_kills = sum(kills.values())
    longest = max((d["repeated_epochs"]["max"] for d in documents), default=0)
    again = sum(d["repeated_epochs"]["total"] for d in documents)
    print(f"{kind}: {len(documents)} runs, {of_kills} kills, {restarts} restarts of the server")
    for name, n in kills.most_common():
        print(f"  {n:4} {name}")
    print(f"{acts.total()} acts of other programs")
    for name, n in (*acts.most_common(), *moments.most_common()):
        print(f"  {n:4} {name}")
    print("  " + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in sums.items()))
    print(f"  epochs trained again: {again:.1f} in all, at most {longest:g} per interruption")
    print(f"  {sum(bool(d['violations']) for d in documents)} runs in which something does not hold")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--storage", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--acts", type=int, default=16, help="of other programs upon the study")
    parser.add_argument("--deletions", type=int, default=4, help="of other studies under their workers")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=1000, help="of the digits, for training and validation")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on with the next seeds for so long")
    parser.add_argument("--keep", type=Path, help="copy the logs of a run in which something does not hold to a folder")
    parser.add_argument("--evidence", type=Path, help="pickle what each run left behind into a folder")
    parser.add_argument("--unfenced", action="store_true", help="break the workers on purpose: it must be found")
    parser.add_argument("--strategy", choices=["lr"], help="that lets trials stand still and go on")
    parser.add_argument("--branching", action="store_true", help="trials go on from the states of others")
    parser.add_argument("--trainings", type=float, help="the budget, instead of trials")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    kinds = ["sqlite", "postgresql"] if given.storage == "both" else [given.storage]
    until = time.monotonic() + 60 * given.minutes
    context, seed, documents, bad = forkserver(), given.seed, [], 0
    while seed == given.seed or time.monotonic() < until:
        for kind in kinds:
            settings = Settings(
                kind,
                seed,
                given.budget,
                given.workers,
                given.kills,
                given.acts,
                given.deletions,
                given.epochs,
                given.images,
                given.lease,
                given.unfenced,
                given.strategy,
                given.branching,
                given.trainings,
            )
            with prepared(kind) as (folder, server):
                kept = None if given.keep is None else given.keep / f"{kind}-{seed}"
                outcome = None
                try:
                    outcome = run(settings, folder, server, context)
                finally:
                    if kept is not None and (outcome is None or outcome.wrong):
                        shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
            if given.evidence is not None:
                (given.evidence / f"{kind}-{seed}.pickle").write_bytes(pickle.dumps(outcome.seen))
            bad += bool(outcome.wrong)
            documents.append(outcome.figures | {"violations": outcome.wrong})
            if not given.json:
                print(f"{kind}, seed {seed}")
                show(outcome)
        seed += 1
    if given.json:
        print(json.dumps(documents, indent=2))
    else:
        for kind in kinds:
            total(kind, [d for d in documents if d["storage"] == kind])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

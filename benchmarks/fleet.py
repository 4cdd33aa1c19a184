"""What a fleet costs its database: 64 workers, 2,000 trials of 5 s, one PostgreSQL, all on this machine.

    python benchmarks/fleet.py [--workers 64] [--trials 2000] [--seconds 5] [--pruner asha|none] [--sampler tpe|random]
                               [--pooler CONNECTIONS] [--optuna] [--json]
    python benchmarks/fleet.py --record          (every row of docs/fleet.md, as tables; 29 minutes)
    python benchmarks/fleet.py --workers 16 --trials 200 --seconds 1 --optuna           (half a minute)

Each worker is a process of its own that goes the product's whole way (run.Session: claims, keeper, artifacts in a
temporary folder), but its engine sleeps instead of computing: a whole training takes --seconds, a fifth more or less by
its setting, as batch sizes and optimizers do. A trial that is pruned ends early. Nothing lasts as long as the 60 s
between two checkpoints, so none is written; the weights (20 bytes) of every new best trial are.

--optuna runs plain Optuna beside it, in turn: the same space, sampler, pruner and pace; ask, suggest, one report and
one should_prune an epoch, tell, and the count of finished trials that MaxTrialsCallback makes.

--pooler has lrsearch's workers go through a pgbouncer in transaction mode that has so many connections to the server.

What a worker waits for is measured at the socket, for both alike: fleet_clocks.py. All of this shares the machine's
cores with the server: in real life the workers have cores of their own.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal

import psutil
import psycopg

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from fleet_clocks import Call, Clocks, Told, milliseconds  # noqa: E402
from pooler import pooled, through  # noqa: E402
from postgres import Server  # noqa: E402

from lrsearch.spec import file as study_file  # noqa: E402
from lrsearch.spec.study import StudySpec  # noqa: E402
from lrsearch.store import filing  # noqa: E402
from lrsearch.store.places import parse_place  # noqa: E402
from lrsearch.trial import EpochMetrics, Facts, TrialConfig  # noqa: E402

STUDY = "fleet"
UPDATE_SECONDS = 0.1
"""Between two looks at whether attention is asked for, as between two updates."""
SPREAD = 0.2
"""A training takes up to so much longer or shorter than the mean, by its setting."""
LOOK_SECONDS = 0.25
RECORD_POOLER = 16
RECORD_LIMIT = 200.0
"""Of plain Optuna where every row is run; it is told apart by its number of trials."""
PRELOADED = ["fleet", "lrsearch.run", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "alembic.command"]
SAMPLING = ("infer_relative_search_space", "sample_relative", "sample_independent", "before_trial", "after_trial")


@dataclass(frozen=True)
class Settings:
    """One run."""

    who: Literal["lrsearch", "Optuna"] = "lrsearch"
    workers: int = 64
    trials: int = 2000
    seconds: float = 5.0
    epochs: int = 6
    pruner: str = "asha"
    sampler: str = "tpe"
    seed: int = 0
    limit: float | None = None
    """After so long plain Optuna's workers take no further trial [seconds]."""
    pooler: int | None = None
    """Connections of the pgbouncer that the workers go through, or None: they go straight to the server."""


def spec_of(settings: Settings) -> StudySpec:
    """Return the study: 4 optimizers, 4 schedules, 7 parameters a trial, no warm-up (Optuna's asha knows none)."""
    keys: dict[str, Any] = {
        "name": STUDY,
        "epochs": settings.epochs,
        "seed": settings.seed,
        "budget.trials": settings.trials,
        "sampler.name": settings.sampler,
        "sampler.portfolio": False,
        "pruner.name": settings.pruner,
        "space.warmup_fraction": 0.0,
        "space.batch_size": [32, 64, 128, 256],
        "space.schedule": ["exponential", "linear", "cosine", "inverse_sqrt"],
    }
    for name, more in (("sgd", "momentum"), ("adam", "beta1"), ("adamw", "beta1"), ("rmsprop", "momentum")):
        keys[f"space.optimizer.{name}.weight_decay"] = {"low": 0.0, "high": 0.3}
        keys[f"space.optimizer.{name}.{more}"] = {"low": 0.5, "high": 0.95}
        keys[f"space.optimizer.{name}.peak_lr"] = {"low": 1e-5, "high": 10.0, "log": True}
    return study_file.load("digits", list(keys.items()))


# --- in a worker's process -------------------------------------------------------------------------------------------


class Paced:
    """An engine that sleeps; its accuracy is best near a learning rate of .1."""

    device, versions = "none", "paced 1"
    facts = Facts(800, 200, 797, (1, 28, 28), tuple("0123456789"), fingerprint="of the paced engine")

    def __init__(self, seconds: float, clocks: Clocks) -> None:
        self.seconds, self.clocks = seconds, clocks

    def start(self, config: TrialConfig, checkpoint: bytes | None = None, attention: Any = None) -> "PacedTraining":
        del checkpoint
        return PacedTraining(self, config, attention)

    def test(self, config: TrialConfig, weights: bytes | None = None, attention: Any = None) -> Any:
        from lrsearch.training.engine import TestResult

        del weights, attention
        last = learned(config, config.epochs, 0.0)
        return TestResult(last.val_loss, last.val_accuracy, last.val_loss, last.val_accuracy)


class PacedTraining:
    """One trial of it."""

    def __init__(self, engine: Paced, config: TrialConfig, attention: Any) -> None:
        self.engine, self.config, self.attention = engine, config, attention

    def epochs(self) -> Iterator[Any]:
        from lrsearch.training.engine import Paused

        seconds = self.engine.seconds * (1 + SPREAD * random.Random(repr(self.config)).uniform(-1, 1))
        seconds /= self.config.epochs
        for epoch in range(1, self.config.epochs + 1):
            self.engine.clocks.nominal += seconds
            left = seconds
            while left > 0:
                begun, nap = time.perf_counter(), min(UPDATE_SECONDS, left)
                time.sleep(nap)
                # Being woken late is a core's fault, not the training's: it is not made up for.
                left -= nap
                self.engine.clocks.trained += time.perf_counter() - begun
                if left > 0 and self.attention is not None and self.attention.is_set():
                    yield Paused(epoch, epoch)
            yield learned(self.config, epoch, seconds)

    def checkpoint(self) -> bytes:
        return b""

    def weights(self) -> bytes:
        return b"weights of the trial"


def learned(config: TrialConfig, epoch: int, seconds: float) -> EpochMetrics:
    """Return what an epoch is made to measure: all trials learn alike towards what their setting is worth."""
    away = math.log10(config.optimizer.peak_lr / 0.1)
    worth = 0.95 / (1 + away * away) - 0.02 * (config.optimizer.weight_decay or 0) - 1e-4 * math.log2(config.batch_size)
    accuracy = worth * (1 - 0.5**epoch)
    return EpochMetrics(epoch, 10 * epoch, 0.1, 1 - accuracy, 1 - accuracy, accuracy, None, None, seconds)


def be_worker(settings: Settings, index: int, url: str, artifacts: str, ready: Any, go: Any, told: Any) -> None:
    """Be one worker: the body of its process."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    clocks = Clocks()
    clocks.watch_server()
    work = _be_ours if settings.who == "lrsearch" else _be_optunas
    told.put(work(settings, index, url, artifacts, clocks, lambda: (ready.put(1), go.wait())))


def _be_ours(settings: Settings, index: int, url: str, artifacts: str, clocks: Clocks, begin: Any) -> Told:
    del index

    from lrsearch import run
    from lrsearch.store import explain, optuna_rows, storage
    from lrsearch.store import study as studies
    from lrsearch.store.artifacts import Artifacts
    from lrsearch.store.claims import Claims
    from lrsearch.store.proposals import Proposals
    from lrsearch.store.storage import PATIENCE_SECONDS, Database

    steps = {"claim": "claim", "accept": "report", "end": "end", "would_be_best": "is it the best", "beat": "heartbeat"}
    parts = {"_reserve": "claim: reserve", "_start": "claim: start"}
    for name, step in (steps | parts).items():
        clocks.watch(Claims, name, step)
    for name, step in {"read_news": "claim: news", "_draw": "claim: draw"}.items():
        clocks.watch(Proposals, name, step)
    clocks.watch(optuna_rows, "news", "claim: rows of news")
    passes = explain.passes

    def counted(error: Any) -> bool:
        again = bool(passes(error))
        clocks.retried += again
        return again

    vars(storage)["passes"] = counted
    with closing(Database(parse_place(url), PATIENCE_SECONDS)) as database:
        study = studies.get(database, STUDY)
        engine: Any = Paced(settings.seconds, clocks)
        store = Artifacts(artifacts)
        return _told(clocks, ("claim: draw",), begin, lambda: list(run.Session(study, engine, store).attend()))


def _be_optunas(settings: Settings, index: int, url: str, artifacts: str, clocks: Clocks, begin: Any) -> Told:
    del artifacts
    import optuna
    from optuna.trial import TrialState

    from lrsearch.spec import parameters
    from lrsearch.store import proposals
    from lrsearch.store import space as spaces

    spec = spec_of(settings)
    sampler = proposals.sampler_of(spec.sampler, spec.seed, index)
    for name in SAMPLING:
        clocks.watch(sampler, name, "claim: sampling")
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if settings.pruner == "asha":
        pruner = optuna.pruners.SuccessiveHalvingPruner(**spec.pruner.resolved(spec.epochs))
    storage = optuna.storages.RDBStorage(_driver(url))
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler, pruner=pruner)
    engine = Paced(settings.seconds, clocks)
    counts, until = (TrialState.COMPLETE, TrialState.PRUNED), math.inf

    def claim() -> optuna.Trial | None:
        if time.perf_counter() > until or len(study.get_trials(deepcopy=False, states=counts)) >= settings.trials:
            return None
        trial = study.ask()
        spaces.suggest(trial, spec.space)
        return trial

    def report(trial: optuna.Trial, value: float, epoch: int) -> bool:
        trial.report(value, epoch)
        return trial.should_prune()

    def train(trial: optuna.Trial) -> tuple[TrialState, float | None]:
        value = None
        for metrics in engine.start(parameters.config(spec, trial.params)).epochs():
            value = metrics.val_accuracy
            # The two that Claims.accept does at once.
            if clocks.time("report", report, trial, value, metrics.epoch):
                return TrialState.PRUNED, None
        return TrialState.COMPLETE, value

    def work() -> None:
        nonlocal until
        until = math.inf if settings.limit is None else time.perf_counter() + settings.limit
        while (trial := clocks.time("claim", claim)) is not None:
            state, value = train(trial)
            clocks.time("end", study.tell, trial, value, state)

    try:
        return _told(clocks, ("claim: sampling",), begin, work)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _told(clocks: Clocks, sampling: Sequence[str], begin: Any, work: Any) -> Told:
    begin()
    begun, waited, cpu = time.perf_counter(), clocks.waited, time.process_time()
    work()
    sampled = sum(call.seconds - call.waited for step in sampling for call in clocks.calls.get(step, ()))
    lived, used = time.perf_counter() - begun, time.process_time() - cpu
    return Told(
        clocks.calls, lived, clocks.trained, clocks.nominal, clocks.waited - waited, sampled, used, clocks.retried
    )


def _driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


# --- whoever starts and watches them ---------------------------------------------------------------------------------


class Watch(threading.Thread):
    """Looks at the server's connections again and again."""

    QUERY = """
        SELECT coalesce(state, ''), coalesce(wait_event_type, ''), coalesce(wait_event, ''), count(*)
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        GROUP BY 1, 2, 3
    """

    def __init__(self, url: str, server: Server) -> None:
        super().__init__(daemon=True)
        self.looks: list[int] = []
        self.events: Counter[str] = Counter()
        self.memory: list[float] = []
        """Of a connection's process its own [MiB]."""
        self._url, self._server, self._done = url, server, threading.Event()

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._done.wait(LOOK_SECONDS):
                found = connection.execute(self.QUERY).fetchall()
                self.looks.append(sum(n for *_, n in found))
                for state, kind, event, n in found:
                    if state == "active":
                        self.events[f"{kind}:{event}" if kind else "on a core, or waiting for one"] += n
                    elif state.startswith("idle in transaction"):
                        self.events["idle in transaction (its worker computes, or waits for a core)"] += n
                if len(self.looks) % 40 == 20:  # it takes a while
                    self.memory.append(self._own_memory())

    def stop(self) -> None:
        """End it."""
        self._done.set()
        self.join()

    def _own_memory(self) -> float:
        sizes = []
        for process in psutil.Process(self._server.pid).children():
            with suppress(psutil.NoSuchProcess):
                sizes.append(process.memory_full_info().uss / 2**20)
        return sorted(sizes)[len(sizes) // 2]


def server_cpu(server: Server) -> float:
    """Return what the server's processes have used, those that have ended as well [CPU seconds]."""
    postmaster = psutil.Process(server.pid)
    now = postmaster.cpu_times()
    used = float(now.user + now.system + now.children_user + now.children_system)
    for process in postmaster.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            its = process.cpu_times()
            used += its.user + its.system
    return used


def machine_cpu() -> float:
    """Return what the machine has used [CPU seconds]."""
    t = psutil.cpu_times()
    return float(sum(t) - t.idle - t.iowait - getattr(t, "guest", 0.0) - getattr(t, "guest_nice", 0.0))


def run(settings: Settings, server: Server, context: ForkServerContext) -> dict[str, Any]:
    """Run one fleet in an empty database, and return its figures."""
    url, load = server.create_database(), os.getloadavg()[0]
    _file(settings, url)
    ready, go, told = context.SimpleQueue(), context.Event(), context.SimpleQueue()
    with ExitStack() as stack:
        folder, theirs = stack.enter_context(tempfile.TemporaryDirectory()), url
        if settings.pooler is not None:
            port = stack.enter_context(pooled(server.account, settings.pooler, "ignore_startup_parameters = options"))
            theirs = through(url, server.account, port, "?prepare_threshold=none")
        fixed = (theirs, folder, ready, go, told)
        workers = [
            context.Process(target=be_worker, args=(settings, i, *fixed), daemon=True) for i in range(settings.workers)
        ]
        for worker in workers:
            worker.start()
        for _ in workers:
            ready.get()
        watch, stats, cpu, machine = Watch(url, server), _statistics(url), server_cpu(server), machine_cpu()
        watch.start()
        begun = time.perf_counter()
        go.set()
        answers: list[Told] = [told.get() for _ in workers]
        wall = time.perf_counter() - begun
        cpu, machine = server_cpu(server) - cpu, machine_cpu() - machine
        watch.stop()
        for worker in workers:
            worker.join()
    stats = {key: value - stats[key] for key, value in _statistics(url).items()}
    figures = _figures(settings, answers, wall, stats, watch)
    mine = sum(t.cpu for t in answers)
    figures["cores"] = {
        "server": round(cpu / wall, 2),
        "workers": round(mine / wall, 2),
        "others": round(max(0.0, machine - cpu - mine) / wall, 2),
        "of": psutil.cpu_count(),
    }
    figures["server_cpu_ms_per_trial"] = round(1000 * cpu / figures["finished"], 1)
    figures["load_before"] = round(load, 2)
    return figures | _endings(settings, url)


def _file(settings: Settings, url: str) -> None:
    if settings.who == "lrsearch":
        filing.file_study(spec_of(settings), parse_place(url), explicit_budget=True).database.close()
    else:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        optuna.create_study(storage=_driver(url), study_name=STUDY, direction="maximize")


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def _statistics(url: str) -> dict[str, int]:
    names = ("xact_commit", "xact_rollback", "deadlocks", "conflicts", "tup_returned", "tup_fetched")
    (row,) = _rows(url, f"SELECT {', '.join(names)} FROM pg_stat_database WHERE datname = current_database()")
    return dict(zip(names, map(int, row), strict=True))


def _endings(settings: Settings, url: str) -> dict[str, Any]:
    """Return how the trials ended, from Optuna's tables, which both fill."""
    states: Counter[str] = Counter(dict(_rows(url, "SELECT state, count(*) FROM trials GROUP BY 1")))
    ((reports,),) = _rows(url, "SELECT count(*) FROM trial_intermediate_values")
    finished = states["COMPLETE"] + states["PRUNED"]
    return {
        "mix": dict(states),
        "reports_per_trial": round(reports / finished, 2),
        "over_budget": finished - settings.trials,
    }


def _figures(
    settings: Settings, answers: Sequence[Told], wall: float, stats: dict[str, int], watch: Watch
) -> dict[str, Any]:
    calls: dict[str, list[Call]] = {}
    for one in answers:
        for step, its in one.calls.items():
            calls.setdefault(step, []).extend(its)
    lived = sum(one.lived for one in answers)
    ended = len(calls["end"])

    def share(part: float) -> float:
        return round(100 * part / lived, 2)

    trained, waited = sum(one.trained for one in answers), sum(one.waited for one in answers)
    sampled = sum(one.sampled for one in answers)
    trips = sum(call.trips for step, its in calls.items() if ": " not in step for call in its)
    looked = max(1, len(watch.looks))
    return {
        "settings": {name: getattr(settings, name) for name in Settings.__dataclass_fields__},
        "finished": ended,
        "wall": round(wall, 1),
        "ideal": round(sum(one.nominal for one in answers) / settings.workers, 1),
        "share": {
            "training": share(trained),
            "database": share(waited),
            "sampling": share(sampled),
            "rest": share(lived - trained - waited - sampled),
        },
        "worst_worker_database_share": round(max(100 * one.waited / one.lived for one in answers), 2),
        "woken_late": share(trained - sum(one.nominal for one in answers)),
        "claims_per_second": round(len(calls["claim"]) / wall, 2),
        "transactions_per_second": round((stats["xact_commit"] + stats["xact_rollback"]) / wall, 1),
        "transactions_per_trial": round((stats["xact_commit"] + stats["xact_rollback"]) / ended, 1),
        "trips_per_trial": round(trips / ended, 1),
        "rows_read_per_trial": round(stats["tup_fetched"] / ended),
        "worker_cpu_ms_per_trial": round(1000 * sum(one.cpu for one in answers) / ended, 1),
        "sampling_ms_per_trial": round(1000 * sampled / ended, 1),
        "waited_ms_per_trial": round(1000 * waited / ended, 1),
        "connections": {"mean": round(sum(watch.looks) / looked, 1), "max": max(watch.looks, default=0)},
        "connection_mib": round(max(watch.memory, default=0.0), 1),
        "retried": sum(one.retried for one in answers),
        "deadlocks": stats["deadlocks"],
        "steps": {step: milliseconds(its) for step, its in sorted(calls.items())},
        "busy_connections": {name: round(n / looked, 2) for name, n in watch.events.most_common(8)},
    }


# --- what is printed -------------------------------------------------------------------------------------------------


def budget(f: dict[str, Any]) -> str:
    """Return in words whether the budget of trials was kept."""
    over = int(f["over_budget"])
    return "exact" if over == 0 else f"{over} over" if over > 0 else "stopped before"


def shown(f: dict[str, Any]) -> str:
    """Return one run in words."""
    s, share, cores = f["settings"], f["share"], f["cores"]
    head = f"""\
{s["who"]}, {s["workers"]} workers, {s["trials"]} trials of {s["seconds"]:g} s, {s["pruner"]}, {s["sampler"]}
  wall {f["wall"]} s, ideal {f["ideal"]} s; {f["finished"]} trials, {budget(f)}; {f["mix"]}
  a worker's time: training {share["training"]} % (woken late {f["woken_late"]} %), waiting for the database \
{share["database"]} % (worst worker {f["worst_worker_database_share"]} %), sampling {share["sampling"]} %, \
rest {share["rest"]} %
  {f["claims_per_second"]} claims/s, {f["transactions_per_second"]} transactions/s, retried {f["retried"]}, \
deadlocks {f["deadlocks"]}
  a trial: {f["reports_per_trial"]} reports, {f["transactions_per_trial"]} transactions, {f["trips_per_trial"]} round \
trips, {f["rows_read_per_trial"]} rows read, waited {f["waited_ms_per_trial"]} ms, sampled \
{f["sampling_ms_per_trial"]} ms, CPU of the worker {f["worker_cpu_ms_per_trial"]} ms, of the server \
{f["server_cpu_ms_per_trial"]} ms
  connections {f["connections"]["mean"]} (max {f["connections"]["max"]}, {f["connection_mib"]} MiB each)
  cores: server {cores["server"]}, workers {cores["workers"]}, others {cores["others"]}, of {cores["of"]}; \
load before {f["load_before"]}"""
    lines = [head]
    for step, ms in f["steps"].items():
        times = f"p50 {ms['p50']:8.1f}  p95 {ms['p95']:8.1f}  max {ms['max']:8.1f}  mean {ms['seconds']:8.1f} ms"
        parts = f"waited {ms['waited']:.1f}, own CPU {ms['cpu']:.1f}, {ms['trips']:g} trips, n {ms['n']}"
        lines.append(f"    {step:32} {times}; {parts}")
    lines += [f"    {n:6.2f} connections: {name}" for name, n in f["busy_connections"].items()]
    return "\n".join(lines)


COLUMNS = {
    "": lambda f: f["settings"]["who"],
    "pruner": lambda f: f["settings"]["pruner"],
    "sampler": lambda f: f["settings"]["sampler"],
    "workers": lambda f: f["settings"]["workers"],
    "pooler": lambda f: f["settings"]["pooler"] or "",
    "trials": lambda f: f["finished"],
    "wall / ideal [s]": lambda f: f"{f['wall']:.0f} / {f['ideal']:.0f}",
    "training": lambda f: f"{f['share']['training']:.1f} %",
    "database": lambda f: f"**{f['share']['database']:.1f} %**",
    "sampling": lambda f: f"{f['share']['sampling']:.1f} %",
    "rest": lambda f: f"{f['share']['rest']:.1f} %",
    "claims/s": lambda f: f"{f['claims_per_second']:.1f}",
    "claim p50 / p95 / max [ms]": lambda f: " / ".join(f"{f['steps']['claim'][k]:.0f}" for k in ("p50", "p95", "max")),
    "report p50 / p95 [ms]": lambda f: " / ".join(f"{f['steps']['report'][k]:.0f}" for k in ("p50", "p95")),
    "budget": budget,
}
COSTS = {
    **{key: COLUMNS[key] for key in ("", "pruner", "sampler", "workers", "pooler")},
    "complete + pruned": lambda f: f"{f['mix'].get('COMPLETE', 0)} + {f['mix'].get('PRUNED', 0)}",
    "reports": lambda f: f"{f['reports_per_trial']:.1f}",
    "transactions": lambda f: f"{f['transactions_per_trial']:.0f}",
    "round trips": lambda f: f"{f['trips_per_trial']:.0f}",
    "rows read": lambda f: f"{f['rows_read_per_trial']}",
    "server's CPU [ms]": lambda f: f"{f['server_cpu_ms_per_trial']:.0f}",
    "worker's CPU [ms]": lambda f: f"{f['worker_cpu_ms_per_trial']:.0f}",
    "connections mean / max": lambda f: f"{f['connections']['mean']:.0f} / {f['connections']['max']}",
    "cores: server, workers, others": lambda f: ", ".join(
        f"{f['cores'][k]:.2f}" for k in ("server", "workers", "others")
    ),
    "load before": lambda f: f["load_before"],
}


def table(columns: dict[str, Any], runs: Sequence[dict[str, Any]]) -> str:
    """Return runs as a table of Markdown."""
    rows = [" | ".join(str(cell(f)) for cell in columns.values()) for f in runs]
    return "\n".join(f"| {row} |" for row in [" | ".join(columns), "|".join(["--"] * len(columns)), *rows])


def recorded() -> Iterator[Settings]:
    """Yield the runs of docs/fleet.md."""
    both: tuple[Literal["lrsearch", "Optuna"], ...] = ("lrsearch", "Optuna")
    for pruner in ("none", "asha"):
        for who in both:
            yield Settings(who, pruner=pruner, limit=RECORD_LIMIT)
    for who in both:
        yield Settings(who, pruner="none", sampler="random", limit=RECORD_LIMIT)
    for workers in (8, 16, 32):
        yield Settings(workers=workers, trials=2000 * workers // 128, pruner="none")
    yield Settings(pruner="none", pooler=RECORD_POOLER)
    # More than these cores can do.
    yield Settings(seconds=1, pruner="none", sampler="random")


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workers", type=int, default=64)
    p.add_argument("--trials", type=int, default=2000)
    p.add_argument("--seconds", type=float, default=5.0, help="of a whole training")
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--pruner", choices=["asha", "none"], default="asha")
    p.add_argument("--sampler", choices=["tpe", "random"], default="tpe")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--pooler", type=int, help="connections of a pgbouncer between workers and server")
    p.add_argument("--optuna", action="store_true", help="plain Optuna beside it")
    p.add_argument("--limit", type=float, help="end plain Optuna after so many seconds")
    p.add_argument("--record", action="store_true", help="all runs of docs/fleet.md, as tables")
    p.add_argument("--json", action="store_true")
    o = p.parse_args(argv)
    ours = Settings(
        "lrsearch", o.workers, o.trials, o.seconds, o.epochs, o.pruner, o.sampler, o.seed, o.limit, o.pooler
    )
    plan = list(recorded()) if o.record else [ours, *([replace(ours, who="Optuna", pooler=None)] if o.optuna else [])]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    runs: list[dict[str, Any]] = []
    try:
        for settings in plan:
            # A server of its own each time: what one leaves for the checkpointer and autovacuum is not the next one's.
            with tempfile.TemporaryDirectory() as folder, Server.start(Path(folder)) as server:
                if settings.who == "Optuna":
                    # Its default pool keeps two connections a worker.
                    server.account.execute("ALTER SYSTEM SET max_connections = 500")
                    server.restart()
                runs.append(run(settings, server, context))
            if not o.json:
                print(shown(runs[-1]), flush=True)
    finally:
        # What there is, if it is interrupted.
        if o.json:
            print(json.dumps({"schema": "lrsearch/fleet/1", "runs": runs}, indent=2))
        elif o.record:
            print(f"\n{table(COLUMNS, runs)}\n\n{table(COSTS, runs)}")


if __name__ == "__main__":
    main()

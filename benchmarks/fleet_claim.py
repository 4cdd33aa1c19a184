"""What one claim costs in a large study: the part of docs/fleet.md that 64 processes cannot show.

    python benchmarks/fleet_claim.py [--studies 1000:0 1000:64 10000:0 10000:1000 10000:10000] [--claims 12]

FINISHED:RUNNING, one row each: a study with so many finished trials and so many that other workers hold, written the
quick way, and one worker that claims and ends a trial again and again, alone on the machine. Its first claim, which
reads the whole study, is told apart. "held" is how long a claim holds the row lock of the budget: one after the other,
whatever the number of workers, so its inverse is the most claims per second that one study can give. Between two claims
of a worker in a fleet of n others start and end some n trials each: it reads them once more than measured here.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from fleet import Settings, spec_of  # noqa: E402
from fleet_clocks import Clocks  # noqa: E402
from postgres import Server  # noqa: E402

from lrsearch.store import endings, filing, lease, optuna_rows, progress, space  # noqa: E402
from lrsearch.store import study as studies  # noqa: E402
from lrsearch.store.claims import Claim, Claims  # noqa: E402
from lrsearch.store.places import parse_place  # noqa: E402
from lrsearch.store.proposals import Proposals  # noqa: E402
from lrsearch.store.storage import Database  # noqa: E402
from lrsearch.store.study import Study  # noqa: E402
from lrsearch.store.tables import (  # noqa: E402
    SLOT_ATTR,
    slots,
)
from lrsearch.trial import EpochMetrics, Outcome, Reason, State  # noqa: E402

LEASE_SECONDS = 3600.0
BATCH = 200


def fill(study: Study, finished: int, running: int) -> None:
    """Write trials at random settings: finished ones, pruned after two epochs, then ones that somebody else holds."""
    for first in range(0, finished + running, BATCH):
        # A study in memory of this size only: with every trial it holds it asks more slowly.
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=first))
        with study.database.writing() as connection:
            for i in range(first, min(first + BATCH, finished + running)):
                asked = drawn.ask()
                space.suggest(asked, study.spec.space)
                frozen = drawn._storage.get_trial(asked.number)  # noqa: SLF001
                trial_id, number = optuna_rows.create(connection, study.optuna_id, frozen, {SLOT_ATTR: f"s{i}"})
                row = {"id": f"s{i}", "study_id": study.id, "position": i, "state": "running", "number": number}
                connection.execute(slots.insert().values(row | {"origin": "sampler", "worker": "w", "attempts": 1}))
                if i >= finished:
                    lease.take(connection, f"s{i}", study.id, "token", "another worker", LEASE_SECONDS)
                    continue
                score = i % 97 / 97
                for epoch in (1, 2):
                    metrics = EpochMetrics(epoch, epoch, 0.1, 1.0, 1.0, score, 1.0, score, 1.0)
                    progress.add_epoch(connection, f"s{i}", study.id, metrics, score, comparable=True)
                    optuna_rows.report(connection, trial_id, epoch, score)
                pruned = Outcome(State.PRUNED, Reason.RUNG, score, 2, message="pruned")
                endings.write(connection, f"s{i}", trial_id, pruned)


def measure(url: str, finished: int, running: int, sampler: str, n: int, clocks: Clocks) -> str:
    """Return a row of the table."""
    spec = spec_of(Settings(trials=finished + running + n + 10, sampler=sampler))
    with closing(filing.file_study(spec, parse_place(url), explicit_budget=True).database) as database:
        study = studies.get(database, spec.name)
        fill(study, finished, running)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    with closing(Database(parse_place(url))) as database:
        claims = Claims(studies.get(database, spec.name), (), "none", "none")
        clocks.calls.clear()
        for _ in range(n + 1):
            claim = claims.claim()
            assert isinstance(claim, Claim), claim
            claims.end(claim, Outcome(State.PRUNED, Reason.RUNG, 0.5, 1, message="pruned"))

    def ms(step: str, of: Callable[[Any], float] = lambda call: float(call.seconds)) -> str:
        return f"{1000 * statistics.median(of(call) for call in clocks.calls[step][1:]):.1f}"

    cells = [f"{finished:,}", f"{running:,}", sampler, f"{clocks.calls['claim'][0].seconds:.2f}", ms("claim")]
    cells += [ms("claim", lambda c: c.waited), ms("budget row: held"), ms("study row of Optuna: held")]
    cells += [ms("claim: news"), ms("claim: news", lambda c: c.cpu), ms("claim: draw")]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ["1000:0", "1000:64", "10000:0", "10000:1000", "10000:10000"]
    p.add_argument("--studies", nargs="+", default=default, metavar="FINISHED:RUNNING")
    p.add_argument("--samplers", nargs="+", default=["tpe"], choices=["tpe", "random"])
    p.add_argument("--claims", type=int, default=12)
    o = p.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    clocks = Clocks()
    clocks.watch_server()
    for name, step in {"claim": "claim", "_reserve": "claim: reserve"}.items():
        clocks.watch(Claims, name, step)
    for name, step in {"read_news": "claim: news", "_draw": "claim: draw"}.items():
        clocks.watch(Proposals, name, step)
    columns = ["finished", "running", "sampler", "first claim [s]", "claim [ms]", "waited", "budget row held"]
    columns += ["Optuna's row held", "news", "its CPU", "draw"]
    print(f"| {' | '.join(columns)} |\n|{'--|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory() as folder, Server.start(Path(folder)) as server:
        for pair in o.studies:
            finished, running = map(int, pair.split(":"))
            for sampler in o.samplers:
                print(measure(server.create_database(), finished, running, sampler, o.claims, clocks), flush=True)


if __name__ == "__main__":
    main()

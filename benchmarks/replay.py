"""Searches replayed on recorded trainings: how many whole trainings it takes to come near the best learning rate.

    python benchmarks/replay.py --curves FILE... --methods lr product optuna --seeds 20 --json OUT.json

A file holds a recorded run a line, as JSON (compressed where its name ends in gz): problem, optimizer, schedule, lr,
seed, and val_acc (or val_loss) with a value an epoch, null from where it diverged. The runs of a problem and an
optimizer are a table, and several schedules of them are a choice; lines with ``params`` (benchmarks/record_pool.py) are
a pool of settings of the whole default space.

Cost: E is a whole training; every epoch counts, and a trial that goes on pays what is left alone. Reached: the cost
when the complete trial with the best value is first within 1 point of the table's best one (half a point of a pool's;
without the noise that was added), ``inf`` where it is not within --limit. Regret: how far it is from the best at a
cost. Of a loss 1 % of the best is a point. The document of --json holds the numbers of each method over all tables,
and of each table; an infinite number is written as Python does, ``Infinity``.
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
from replaying import measures, named
from replaying.measures import Replay
from replaying.methods import Problem
from replaying.pools import Pool
from replaying.reading import tables
from replaying.simulated import Simulation
from replaying.tables import Conditions, Table

from lrsearch import cores
from lrsearch.errors import LrsearchError, UsageError

SCHEMA = "lrsearch/replay/1"


def within(table: Table, points: float | None) -> float:
    """Return the regret that counts as reached."""
    if points is not None:
        return points * measures.POINT
    return (0.5 if table.is_pool else 1.0) * measures.POINT


def replayed(table: Table, name: str, seed: int, args: argparse.Namespace) -> Replay:
    """Return one search.

    Raises:
        LrsearchError: it was to go the whole way as well, and that came to something else.
    """
    method = named.named(name)
    if isinstance(table, Pool) and args.part < 1:
        table = table.part(args.part, seed)
    problem = Problem(table.spec(seed, {}), args.limit, args.workers)
    deciding = method.make(problem)
    simulation = Simulation(deciding, problem, table, table.answers(seed), method.price, within(table, args.within))
    found = simulation.run()
    if args.through_claims:
        from replaying import through_claims  # which needs PyTorch
        from replaying.product import Deciding

        assert isinstance(deciding, Deciding)
        through_claims.check(table, deciding, seed, simulation.log, simulation.settings)
    return found


@cache
def _tables(files: tuple[Path, ...], conditions: Conditions, skip: tuple[str, ...]) -> list[Table]:
    return tables(files, conditions, skip)


def tables_of(args: argparse.Namespace) -> list[Table]:
    """Return the tables, read once a process."""
    conditions = Conditions(args.epochs, args.noise * measures.POINT, args.widen, args.by_losses)
    found = _tables(tuple(args.curves), conditions, tuple(args.skip))
    return [table for table in found if not args.tables or table.name in args.tables]


def _one(job: tuple[argparse.Namespace, str, int, int]) -> Replay:
    """Replay one search in a process of its own."""
    args, name, nth, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samplers that are experimental
        return replayed(tables_of(args)[nth], name, seed, args)


def document(args: argparse.Namespace, every: list[Table], found: dict[str, list[list[Replay]]]) -> dict[str, Any]:
    """Return the document of ``--json``; ``found`` holds, for each method, a list of replays for each table."""
    methods: dict[str, Any] = {}
    for name, by_table in found.items():
        pairs = [
            [(one, within(table, args.within)) for one in some] for table, some in zip(every, by_table, strict=True)
        ]
        methods[name] = measures.summary([pair for some in pairs for pair in some])
        methods[name]["tables"] = {table.name: measures.summary(some) for table, some in zip(every, pairs, strict=True)}
    conditions = {
        key: getattr(args, key)
        for key in ("seeds", "limit", "workers", "part", "epochs", "noise", "widen", "by_losses")
    }
    return {"schema": SCHEMA, "conditions": conditions, "methods": methods}


@contextmanager
def processes(n: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield what maps a function over jobs, in processes of their own where there are several."""
    if n == 1:
        yield map
        return
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # of the processes that are started: matrices are small, cores few
    context = get_context("spawn")  # numerical libraries do not survive a fork
    with ProcessPoolExecutor(n, mp_context=context) as pool:
        yield partial(pool.map, chunksize=4)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Replay all searches, print their numbers, and return the document of ``--json``.

    Raises:
        LrsearchError: a file or a method is not as it must be.
    """
    named.check(args.methods)
    if args.through_claims and (args.workers != 1 or not set(args.methods) <= set(named.MODULES["replaying.product"])):
        raise UsageError("--through-claims is for the methods of lrsearch itself, with one worker")
    every = tables_of(args)
    if not 0 < args.part <= 1 or (args.part < 1 and not all(table.is_pool for table in every)):
        raise UsageError(f"--part must be above 0 and at most 1, and is for pools alone, got {args.part:g}")
    found: dict[str, list[list[Replay]]] = {}
    print(measures.heading())
    with processes(args.jobs) as mapped:
        jobs = {
            name: [(args, name, i, args.first + nth) for i in range(len(every)) for nth in range(args.seeds)]
            for name in args.methods
        }
        running = {name: mapped(_one, some) for name, some in jobs.items()}
        for name, replays in running.items():
            flat = list(replays)
            found[name] = [flat[i * args.seeds : (i + 1) * args.seeds] for i in range(len(every))]
            numbers = document(args, every, {name: found[name]})["methods"][name]
            for table, one in numbers["tables"].items():
                print(measures.line(f"{name:20} {table}", one))
            print(measures.line(f"{name:20} all", numbers), flush=True)
    return document(args, every, found)


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--curves", nargs="+", type=Path, required=True, metavar="FILE")
    out.add_argument("--methods", nargs="+", required=True, metavar="NAME", help="of benchmarks/replaying/named.py")
    out.add_argument("--seeds", type=int, default=20, metavar="N", help="searches of each table")
    out.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of the seeds")
    out.add_argument("--json", type=Path, metavar="OUT")
    out.add_argument("--workers", type=int, default=1, metavar="W", help="trainings at once, in simulated time")
    out.add_argument("--limit", type=float, default=30.0, metavar="E", help="whole trainings that are spent at most")
    out.add_argument("--within", type=float, metavar="POINTS", help="1 by default, of a pool 0.5")
    out.add_argument("--noise", type=float, default=0.0, metavar="POINTS", help="of an offset of each training")
    out.add_argument("--part", type=float, default=1.0, metavar="SHARE", help="of a pool, another one for each search")
    out.add_argument("--epochs", type=int, metavar="E", help="to which recorded trainings are brought")
    out.add_argument("--widen", type=float, default=0.0, metavar="DECADES", help="of the range, on each side")
    out.add_argument("--skip", nargs="+", default=[], metavar="PROBLEM", help="problems that are left out")
    out.add_argument("--tables", nargs="+", default=[], metavar="TABLE", help="only these")
    out.add_argument("--by-losses", action="store_true", help="a loss of null diverges too, as lrsearch would end it")
    out.add_argument("--through-claims", action="store_true", help="go the whole way on SQLite too, and compare")
    out.add_argument("--jobs", type=int, default=cores.available(), help="processes")
    return out


def main() -> None:
    """Replay what the command line says."""
    args = parser().parse_args()
    try:
        found = run(args)
    except LrsearchError as error:
        sys.exit(f"replay.py: {error}")
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

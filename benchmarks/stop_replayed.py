"""When the strategy `lr` ends by itself, and what that costs: searches replayed on recorded trainings.

    python benchmarks/stop_replayed.py --curves FILE... [--seeds 10] [--limit 18.5] [--part .5]

FILE is one that benchmarks/replay.py takes. Each search is replayed twice with the same seed: with a budget of --limit
trainings (18.5 are the epochs of 50 settings), and with `budget.stop = "converged"` beside it. Told are the cost at
which it stops [trainings] and the regret of its best complete trial [points], there and at the end of the budget. The
regret is that of a recorded training, in which luck is; `benchmarks/stop.py --strategy lr` tells that of fresh seeds.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

import optuna
import replay
from replaying import measures, simulated
from replaying.methods import Problem
from replaying.pools import Pool
from replaying.product import Deciding, strategy_of, with_keys
from replaying.simulated import Simulation
from replaying.tables import Table

from lrsearch import cores


def searched(table: Table, seed: int, limit: float, *, stop: bool) -> tuple[float, float]:
    """Return what a search cost, and the regret of its best complete trial."""
    problem = Problem(table.spec(seed, {}), limit, 1)
    deciding = strategy_of(problem)
    if stop:
        spec = with_keys(deciding.spec, {"budget": {"trainings": limit, "stop": "converged"}})
        deciding = Deciding(Problem(spec, limit, 1))
    simulation = Simulation(deciding, problem, table, table.answers(seed), 1.0, 0.0)
    found = simulation.run().found
    return simulation.cost(), found[-1].regret if found else math.nan


def one(job: tuple[argparse.Namespace, int, int]) -> tuple[float, float, float]:
    """Return the cost and the regret of a search that stops, and the regret of the one that does not."""
    args, nth, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    simulated.ALL_KNOWN = math.inf
    table = replay.tables_of(args)[nth]
    if isinstance(table, Pool) and args.part < 1:
        table = table.part(args.part, seed)
    cost, there = searched(table, seed, args.limit, stop=True)
    return cost, there, searched(table, seed, args.limit, stop=False)[1]


def told(name: str, rows: list[tuple[float, float, float]], limit: float) -> None:
    """Print a line of the table."""
    costs = sorted(cost for cost, _, _ in rows)
    there, end = ([row[i] / measures.POINT for row in rows] for i in (1, 2))
    lost = sorted(a - b for a, b in zip(there, end, strict=True))
    nearly_all = math.ceil(0.9 * len(rows)) - 1
    print(
        f"| {name} | {statistics.median(costs):.1f} / {costs[nearly_all]:.1f} | "
        f"{sum(cost < limit - 1 for cost in costs)} of {len(costs)} | {statistics.mean(there):.2f} | "
        f"{statistics.mean(end):.2f} | {lost[nearly_all]:.2f} / {lost[-1]:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="searches of each table")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of the seeds")
    parser.add_argument("--limit", type=float, default=18.5, metavar="E", help="of the budget [trainings]")
    parser.add_argument("--part", type=float, default=1.0, metavar="SHARE", help="of a pool, another one each search")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--jobs", type=int, default=cores.available(), help="processes")
    args = parser.parse_args()
    conditions = replay.parser().parse_args(["--curves", *map(str, args.curves), "--methods", "lr"])
    args = argparse.Namespace(**vars(conditions) | vars(args))
    every = replay.tables_of(args)
    jobs = [(args, i, args.first + seed) for i in range(len(every)) for seed in range(args.seeds)]
    with replay.processes(args.jobs) as mapped:
        rows = list(mapped(one, jobs))
    print(
        "| | stops at, median / p90 [E] | before its budget | regret there [points] | at the end | lost, p90 / worst |"
    )
    print("|--|--|--|--|--|--|")
    for i, table in enumerate(every):
        told(table.name, rows[i * args.seeds : (i + 1) * args.seeds], args.limit)
    told("all", rows, args.limit)
    if args.json is not None:
        args.json.write_text(
            json.dumps([[every[i].name, seed, *row] for (_, i, seed), row in zip(jobs, rows, strict=True)])
        )


if __name__ == "__main__":
    main()

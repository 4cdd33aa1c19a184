"""How much the strategy's constants matter: each one alone at half and at one and a half of its value, replayed.

    python benchmarks/shaken.py --curves FILE... --out FILE.jsonl [--constants NAME...] [--seeds 4] [--jobs 2]

The measure is that of benchmarks/replay.py: E is a whole training. A line a replay goes to FILE.jsonl: constant,
factor, table, seed, cost until within a point of the best, regret at 5 E; run again it goes on where it stopped.
Printed for each constant and factor: median, p90, share reached and mean regret at 5 E over all tables and seeds. Then,
for each problem (the tables whose names share their first word), the same where a constant has the factor that did best
on the other problems: what the strategy would reach there had nobody seen that problem.
"""

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from replaying import measures, named
from replaying.methods import Problem
from replaying.reading import tables
from replaying.simulated import Simulation
from replaying.tables import Conditions, Table

from lrsearch.strategy.lr import choice
from lrsearch.strategy.lr.constants import NARROW, Constants

FACTORS = (0.5, 1.5)
FROM_DATA = ("lean_constant", "lean_falling", "drifts", "own", "amplitude", "length", "shared", "memory", "noise")
OF_EARLY = ("shared_little", "memory_little", "odds_little")
MORE = ("trial_noise", "louder", "drift_sd", "squash", "clip", "density", "sweep_cost", "average", "tolerance")
MORE_STILL = ("power_first", "power", "floor", "first_by", "near_edge", "beyond_edge")
LIMIT = 30.0
Row = dict[str, Any]


def shaken(name: str, factor: float) -> Constants:
    """Return the constants, one of them multiplied; a share stays one."""
    value = getattr(NARROW, name)
    if isinstance(value, tuple):
        return replace(NARROW, **{name: tuple(part * factor for part in value)})
    most = 1.0 if name in ("shared", "own") else math.inf
    return replace(NARROW, **{name: min(value * factor, most)})


@cache
def _tables(files: tuple[Path, ...]) -> list[Table]:
    return tables(files, Conditions(), ())


def replayed(job: tuple[tuple[Path, ...], str, float, int, int]) -> Row:
    """Return one search, in a process of its own."""
    files, constant, factor, nth, seed = job
    table = _tables(files)[nth]
    choice.NARROW = shaken(constant, factor) if constant else NARROW  # type: ignore[misc]
    method = named.named("lr")
    problem = Problem(table.spec(seed, {}), LIMIT, 1)
    found = Simulation(method.make(problem), problem, table, table.answers(seed), 1.0, measures.POINT).run()
    first = found.first_within(measures.POINT)
    cost = None if first is None else first.cost
    regret = found.regret(5) / measures.POINT
    return {"constant": constant, "factor": factor, "table": table.name, "seed": seed, "cost": cost, "regret": regret}


def told(rows: Sequence[Row]) -> tuple[float, float, float, float]:
    """Return median, p90 and share reached, and the mean regret."""
    costs = [math.inf if row["cost"] is None else row["cost"] for row in rows]
    p90 = float(np.quantile(costs, 0.9, method="higher"))
    reached = sum(math.isfinite(cost) for cost in costs) / len(costs)
    return statistics.median(costs), p90, reached, statistics.fmean(row["regret"] for row in rows)


def problem_of(row: Row) -> str:
    """Return the problem of a table."""
    return str(row["table"]).split()[0]


def left_out(rows: Sequence[Row], constants: Sequence[str]) -> Iterator[tuple[str, str, float, list[Row]]]:
    """Yield for each problem and constant the factor that has the least mean cost elsewhere, and its rows there."""
    by: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        by[row["constant"], row["factor"]].append(row)
    for problem in dict.fromkeys(map(problem_of, rows)):
        for constant in constants:
            some = {1.0: by["", 1.0]} | {factor: by[constant, factor] for factor in FACTORS}

            def elsewhere(factor: float, some: dict[float, list[Row]] = some, problem: str = problem) -> float:
                return statistics.fmean(row["cost"] or LIMIT for row in some[factor] if problem_of(row) != problem)

            chosen = min(some, key=elsewhere)
            yield problem, constant, chosen, [row for row in some[chosen] if problem_of(row) == problem]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="+", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--constants", nargs="+", default=[*FROM_DATA, *OF_EARLY, *MORE, *MORE_STILL])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    unknown = set(args.constants) - {one.name for one in fields(Constants)}
    if unknown:
        sys.exit(f"shaken.py: no constants of these names: {', '.join(sorted(unknown))}")
    files = tuple(args.curves)
    every = _tables(files)
    rows: list[Row] = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    behind = {(row["constant"], row["factor"], row["table"], row["seed"]) for row in rows}
    wanted = [("", 1.0)] + [(constant, factor) for constant in args.constants for factor in FACTORS]
    jobs = [
        (files, constant, factor, nth, seed)
        for constant, factor in wanted
        for nth, table in enumerate(every)
        for seed in range(args.seeds)
        if (constant, factor, table.name, seed) not in behind
    ]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool, args.out.open("a") as file:
        for row in pool.map(replayed, jobs, chunksize=4):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
    print("| constant | factor | median [E] | p90 [E] | reached | regret at 5 E [points] |\n|--|--|--|--|--|--|")
    for constant, factor in wanted:
        median, p90, reached, regret = told([r for r in rows if (r["constant"], r["factor"]) == (constant, factor)])
        print(f"| {constant or 'as they are'} | {factor} | {median:.2f} | {p90:.2f} | {reached:.1%} | {regret:.2f} |")
    print("\n| left out | constant | factor | median [E] | p90 [E] | reached | regret at 5 E [points] |")
    print("|--|--|--|--|--|--|--|")
    together: list[Row] = []
    chosen_from = [name for name in FROM_DATA if name in args.constants]
    for problem, constant, factor, some in left_out(rows, chosen_from):
        together += some
        median, p90, reached, regret = told(some)
        line = f"| {problem} | {constant} | {factor} | {median:.2f} | {p90:.2f} | {reached:.1%} | {regret:.2f} |"
        print(line)
    median, p90, reached, regret = told(together)
    print(f"\nall that was left out: {median:.2f}, {p90:.2f}, {reached:.1%}, {regret:.2f}")


if __name__ == "__main__":
    main()

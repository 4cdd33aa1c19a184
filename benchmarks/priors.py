"""What a prior saves, and what one costs whose best learning rate lies elsewhere.

    python benchmarks/priors.py --curves FILE... --seeds 10 --shifts 0 0.3 1 --json OUT.json

The tables are those of benchmarks/replay.py. Of each, a search that has spent --spent whole trainings is the prior of
another one, on the same table with its rates moved by --shifts decades, up and down in turn: what is learned of the one
is off by as much for the other. A shift of 0 is the same problem again, with noise of its own (--noise). Printed: the
cost until the best complete trial is within 1 point of the table's best, without a prior and with one, for each shift.
"""

import argparse
import json
import math
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from replaying import measures
from replaying.measures import Replay
from replaying.methods import Problem
from replaying.product import Deciding
from replaying.reading import tables
from replaying.simulated import Simulation
from replaying.tables import Conditions, RateTable, Recorded

from lrsearch.strategy.view import KnownTraining, View
from lrsearch.trial import State

WITHIN = measures.POINT


class WithPrior(Deciding):
    """The product's own deciding with trainings that are known beforehand."""

    def __init__(self, problem: Problem, known: Sequence[KnownTraining]) -> None:
        super().__init__(problem)
        self._known = tuple(known)

    def _view(self) -> View:
        return replace(super()._view(), known=self._known)

    def as_prior(self) -> tuple[KnownTraining, ...]:
        """Return its trials as another study takes them over; a paused one ended as pruned."""
        pruned = State.PRUNED
        return tuple(
            KnownTraining(
                one.config, pruned if one.state == State.RUNNING else one.state, one.scores, one.value, "prior"
            )
            for one in self._curves
            if one.scores or one.state == State.DIVERGED
        )


def moved(table: RateTable, decades: float) -> RateTable:
    """Return a table with its rates moved."""
    found = copy(table)
    recorded = table._recorded  # noqa: SLF001
    found._recorded = {n: Recorded(one.log_lr + decades, one.scores) for n, one in recorded.items()}  # noqa: SLF001
    found.low, found.high = table.low * 10**decades, table.high * 10**decades
    return found


def searched(
    table: RateTable, seed: int, known: Sequence[KnownTraining], limit: float
) -> tuple[Replay, tuple[KnownTraining, ...]]:
    """Return a search, and what it leaves as a prior."""
    keys = {"strategy": {"name": "lr", "branching": False}, "budget": {"trainings": limit}}
    problem = Problem(table.spec(seed, keys), limit, 1)
    deciding = WithPrior(problem, known)
    found = Simulation(deciding, problem, table, table.answers(seed), 1.0, WITHIN).run()
    return found, deciding.as_prior()


def costs(table: RateTable, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Return the cost until the best is found, without a prior and with one of each shift [trainings]."""
    found = {"none": searched(table, seed, (), args.limit)[0]}
    for nth, shift in enumerate(args.shifts):
        sign = 1 if (seed + nth) % 2 else -1
        _, prior = searched(moved(table, sign * shift), 1000 + seed, (), args.spent)
        found[f"{shift:g}"], _ = searched(table, seed, prior, args.limit)
    first = {name: one.first_within(WITHIN) for name, one in found.items()}
    return {name: math.inf if one is None else one.cost for name, one in first.items()}


def main() -> None:
    """Print the table that docs/benchmarks.md has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="searches of each table")
    parser.add_argument("--epochs", type=int, default=20, metavar="E", help="to which recorded trainings are brought")
    parser.add_argument("--shifts", type=float, nargs="+", default=[0, 0.3, 1], metavar="DECADES")
    parser.add_argument("--spent", type=float, default=3.0, metavar="E", help="of the search that is the prior")
    parser.add_argument("--limit", type=float, default=8.0, metavar="E", help="of the search that has one")
    parser.add_argument("--noise", type=float, default=0.3, metavar="POINTS", help="of an offset of each training")
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # of samplers that are experimental
    every = [
        t for t in tables(args.curves, Conditions(args.epochs, args.noise * measures.POINT)) if isinstance(t, RateTable)
    ]
    names = ["none", *(f"{shift:g}" for shift in args.shifts)]
    by_table: dict[str, list[dict[str, float]]] = {}
    print(f"{'median E until the best is found':36}" + "".join(f"{name:>9}" for name in names))
    for table in every:
        by_table[table.name] = [costs(table, seed, args) for seed in range(args.seeds)]
        print(_line(table.name, by_table[table.name], names), flush=True)
    flat = [one for some in by_table.values() for one in some]
    print(_line("all", flat, names))
    p90 = partial(np.quantile, q=0.9, method="higher")
    print(f"{'p90':36}" + "".join(f"{float(p90([one[name] for one in flat])):9.2f}" for name in names))
    capped = {name: [min(one[name], args.limit) for one in flat] for name in names}
    means = {name: float(np.mean(values)) for name, values in capped.items()}
    print(f"{'mean, at most the limit':36}" + "".join(f"{means[name]:9.2f}" for name in names))
    if args.json is not None:
        document: dict[str, Any] = {"schema": "lrsearch/priors/1", "tables": by_table, "means": means}
        args.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _line(name: str, some: Sequence[dict[str, float]], names: Sequence[str]) -> str:
    return f"{name:36}" + "".join(f"{float(np.median([one[key] for one in some])):9.2f}" for key in names)


if __name__ == "__main__":
    main()

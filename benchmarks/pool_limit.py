"""How well the best settings of a pool can be told at all, by a model that knows all other trainings.

    python benchmarks/pool_limit.py docs/data/digits_study.jsonl.gz docs/data/mnist_cnn.jsonl.gz

Each recorded training is foretold from all others (leave one out) by the strategy's own features and kernel. Printed
for the settings that it puts first: which part of them is within half a point of the best of the pool, and within one.
No search knows as much, so none that begins settings by such a model has a better part; what it sees of a training
before its end may save some of the cost of the others. Then the same by the scores of single epochs, of all settings.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from replaying.measures import POINT
from replaying.pools import Pool
from replaying.reading import tables
from replaying.tables import Conditions

from lrsearch.errors import LrsearchError
from lrsearch.strategy.lr.constants import WIDE
from lrsearch.strategy.lr.features import Floats
from lrsearch.strategy.lr.looks import below_best
from lrsearch.strategy.lr.model import LEVEL_VARIANCE, Points

FIRST = (10, 20, 40, 80)


def foretold(pool: Pool) -> Floats:
    """Return the last accuracy of each training as the others tell it, squashed as the strategy does, `[n]`."""
    n, c = len(pool.configs), WIDE
    ends = [float(end) if np.isfinite(end) else -np.inf for end in pool.ends]
    y: Floats = np.array(below_best(ends, pool.spec(0, {}).metric, c), np.float64)
    covariance = Points.of(pool.configs, n, c).covariance(c) + LEVEL_VARIANCE
    known = np.linalg.inv(covariance + c.trial_noise**2 * np.eye(n))
    out: Floats = y - (known @ y) / np.diag(known)
    return out


def at_epoch(pool: Pool, epoch: int) -> Floats:
    """Return the score of each training after an epoch, `[n]`, -inf where it had diverged."""
    return np.array([scores[epoch - 1] if len(scores) >= epoch else -np.inf for scores, _ in pool.scores])


def row(what: str, order: Floats, pool: Pool) -> str:
    """Return a line of the table."""
    regret = pool.best - np.nan_to_num(pool.ends)
    first = np.argsort(-order, kind="stable")
    cells = [
        " ".join(f"{(regret[first[:n]] <= points * POINT + 1e-9).mean():.2f}" for n in FIRST) for points in (0.5, 1.0)
    ]
    return f"| {what} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="+", type=Path)
    args = parser.parse_args()
    try:
        pools = [table for table in tables(args.curves, Conditions(), ()) if isinstance(table, Pool)]
    except LrsearchError as error:
        sys.exit(f"pool_limit.py: {error}")
    for pool in pools:
        regret = pool.best - np.nan_to_num(pool.ends)
        within = [int((regret <= points * POINT + 1e-9).sum()) for points in (0.5, 1.0)]
        print(f"\n{pool.name}: {within[0]} and {within[1]} of {len(regret)} within half a point and a point\n")
        print(f"| told by | within half a point, of the first {FIRST} | within a point |\n|--|--|--|")
        print(row("all other trainings", foretold(pool), pool))
        for epoch in sorted({1, 2, max(1, round(0.6 * pool.epochs)), pool.epochs - 1}):
            print(row(f"its own score after epoch {epoch}", at_epoch(pool, epoch), pool))


if __name__ == "__main__":
    main()

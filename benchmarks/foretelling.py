"""How well the strategy's model foretells trainings of a pool that it has not seen, from a few that it has.

    python benchmarks/foretelling.py POOL.jsonl.gz ... [--set shared=.5 length=.6 ...] [--repeats 25]

Twice of each pool: *early*, 30 settings of which 24 stand after a tenth of their training, 4 after six tenths and 2 are
complete; and *later*, 64 of which 40, 12 and 12. Which ones is drawn anew in each repeat. The others, 200 at most, are
foretold. Printed are means over the repeats: the rank correlation of what is foretold with what was recorded, for the
better half, with its standard error, and how far the median one of the ten that the model puts first is below the mean
of the ten best [points]. The constants of the strategy for many parameters can be changed by --set.
"""

import argparse
import sys
from ast import literal_eval
from dataclasses import replace
from pathlib import Path

import numpy as np
from replaying.pools import Pool
from replaying.reading import tables
from replaying.tables import Conditions
from scipy.stats import spearmanr

from lrsearch.errors import LrsearchError
from lrsearch.strategy.lr.constants import WIDE, Constants
from lrsearch.strategy.lr.features import Floats
from lrsearch.strategy.lr.kinship import common
from lrsearch.strategy.lr.looks import Looks, Rungs, looks
from lrsearch.strategy.lr.model import Points, posterior
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import State

PLANS = {"early": ((24, 0.1), (4, 0.6), (2, 1.0)), "later": ((40, 0.1), (12, 0.6), (12, 1.0))}
"""Of settings, which part of their training they have had."""
MOST = 200
FIRST = 10


def standing(pool: Pool, i: int, epoch: int) -> ScoreCurve:
    """Return a recorded training as far as an epoch."""
    scores, end = tuple(map(float, pool.scores[i][0])), float(pool.ends[i])
    if len(scores) < epoch or (epoch == pool.epochs and not np.isfinite(end)):
        return ScoreCurve(str(i), pool.configs[i], State.DIVERGED, scores)
    if epoch == pool.epochs:
        return ScoreCurve(str(i), pool.configs[i], State.COMPLETE, scores, value=end)
    return ScoreCurve(str(i), pool.configs[i], State.RUNNING, scores[:epoch], paused=True)


def foretold(pool: Pool, plan: tuple[tuple[int, float], ...], seed: int, c: Constants) -> tuple[Floats, Floats]:
    """Return what is believed of the settings that are left, and what was recorded of them."""
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(pool.configs))]
    spec, rungs = pool.spec(0, {}), Rungs.of(pool.epochs, c)
    epochs = [max(1, round(part * pool.epochs)) for n, part in plan for _ in range(n)]
    curves = [standing(pool, i, epoch) for i, epoch in zip(order, epochs, strict=False)]
    rest = order[len(curves) :][:MOST]
    configs = [one.config for one in curves] + [pool.configs[i] for i in rest]
    none = np.zeros(0)
    nobody = Looks(none.astype(int), none.astype(int), none, none)
    n = len(configs)
    in_common = common(curves, [], n, pool.epochs)
    belief = posterior(Points.of(configs, n, c), looks(curves, rungs, spec.metric, c), nobody, n, c, in_common)
    return belief.mean[len(curves) :], np.nan_to_num(pool.ends[rest])


def told(pool: Pool, name: str, repeats: int, c: Constants) -> str:
    """Return a line of the table."""
    ranks, short = list[float](), list[float]()
    for seed in range(repeats):
        believed, true = foretold(pool, PLANS[name], seed, c)
        better = true >= np.median(true)
        ranks.append(float(spearmanr(believed[better], true[better])[0]))
        first = np.argsort(-believed, kind="stable")[:FIRST]
        short.append(100 * float(np.sort(true)[-FIRST:].mean() - np.median(true[first])))
    error = np.std(ranks) / np.sqrt(repeats)
    return f"| {pool.name} | {name} | {np.mean(ranks):.3f} ± {error:.3f} | {np.mean(short):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="+", type=Path)
    parser.add_argument("--set", nargs="+", default=[], metavar="CONSTANT=VALUE")
    parser.add_argument("--repeats", type=int, default=25)
    args = parser.parse_args()
    pairs = [one.split("=", 1) for one in args.set]
    try:
        c = replace(WIDE, **{name: literal_eval(value) for name, value in pairs})
        pools = [table for table in tables(args.curves, Conditions(), ()) if isinstance(table, Pool)]
    except (LrsearchError, TypeError, ValueError, SyntaxError) as error:
        sys.exit(f"foretelling.py: {error}")
    print("| pool | | rank correlation, better half | below the best [points] |\n|--|--|--|--|")
    for pool in pools:
        for name in PLANS:
            print(told(pool, name, args.repeats, c), flush=True)


if __name__ == "__main__":
    main()

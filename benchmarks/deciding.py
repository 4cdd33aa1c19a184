"""What the strategy's decisions cost: a study with many trials, and how long the next step takes to choose.

    python benchmarks/deciding.py [--trials 100 1000 5000] [--repeats 5] [--space wide|narrow]

The trials are those that the strategy itself would have: most stand still at a rung, some are complete, a few have
diverged. Printed is the processor time of one decision [milliseconds], the median and the longest of the repeats; no
two of them are of one state.
"""

import argparse
import math
import time
from dataclasses import replace
from statistics import median

import numpy as np

from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.lr.choice import Chooser, Means
from lrsearch.strategy.lr.features import relative_rate
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import State

NARROW = {"optimizer": "sgd", "schedule": "constant", "batch_size": 64, "warmup_fraction": 0.0}


def spec_of(space: str) -> StudySpec:
    """Return a study of the default space, or of one learning rate."""
    tables = {"name": "probe", "epochs": 20, "strategy": "lr", "space": {} if space == "wide" else NARROW}
    return study_file.build(tables, "the benchmark")


def trials_of(chooser: Chooser, n: int, rng: np.random.Generator) -> list[ScoreCurve]:
    """Return trials of random settings with made-up scores: the better a setting, the further it has come."""
    found, rungs = list[ScoreCurve](), chooser.rungs
    while len(found) < n:
        for one in chooser.settings.candidates(rng, []):
            if len(found) == n:
                break
            off = relative_rate(one.config)
            end = 0.9 - 0.1 * off**2 + rng.normal(0, 0.01)
            if off > 1.3:
                found.append(ScoreCurve(str(len(found)), one.config, State.DIVERGED))
                continue
            place = rng.random() ** 2 * max(0.1, 1 - off**2)
            epochs = rungs.at[min(int(place * len(rungs.at)), len(rungs.at) - 1)]
            scores = tuple(max(0.1, end * (1 - 0.5 ** (epoch + 1))) for epoch in range(epochs))
            done = epochs == rungs.epochs
            curve = ScoreCurve(str(len(found)), one.config, State.RUNNING, scores, paused=True)
            found.append(replace(curve, state=State.COMPLETE, value=scores[-1], paused=False) if done else curve)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--space", choices=("wide", "narrow"), default="wide")
    args = parser.parse_args()
    spec = spec_of(args.space)
    chooser = Chooser(spec)
    for n in args.trials:
        spent = list[float]()
        for repeat in range(args.repeats):
            curves = trials_of(chooser, n, np.random.default_rng(repeat))
            begun = time.process_time()
            chooser.choose(curves, Means(math.floor(1e6)))
            spent.append(1000 * (time.process_time() - begun))
        complete = sum(one.state == State.COMPLETE for one in curves)
        print(f"{n} trials, {complete} complete: {median(spent):.0f} ms, at most {max(spent):.0f} ms", flush=True)


if __name__ == "__main__":
    main()

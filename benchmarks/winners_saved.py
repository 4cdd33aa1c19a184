"""How many of the best settings the strategy leaves unfinished, given what asha spends on the same settings.

    python benchmarks/winners_saved.py FILE.jsonl --data FOLDER [--problem mnist_cnn] [--cost 0.39] [--repeats 20]

FILE holds trials that benchmarks/fair_pruning.py recorded. The strategy begins all of them, in an order of its own
choice, and may spend ``--cost`` of what all would cost trained through. Unfinished: the part of the best fifteenth of
the final ranking (10 of 150) that it did not train through. Each repeat has another seed and another order of them.
Beside it: successive halving that stops (asha), on the same trials in the same order, at what that costs.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fair_pruning import drawn, spec_of

from lrsearch.schedules import comparable_from
from lrsearch.spec import parameters
from lrsearch.spec.deciding import AshaSpec, LrSpec
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.judge import asha
from lrsearch.strategy.lr.choice import Chooser, Means
from lrsearch.strategy.lr.settings import Setting, Settings
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import State, TrialConfig

Row = dict[str, Any]
BEST_PART = 15


class Given(Settings):
    """Settings that are given, and not drawn."""

    def __init__(self, spec: StudySpec, of: Settings, given: Sequence[Setting]) -> None:
        super().__init__(spec, spec.space, of._c)  # noqa: SLF001 - of the same class
        self.left = list(given)

    def sweep(self, rng: np.random.Generator, n: int) -> list[Setting]:
        """Return the first of them, those begun before included."""
        del rng
        return self.begun[:n] + self.left[: max(0, n - len(self.begun))]

    def candidates(self, rng: np.random.Generator, best: Sequence[Setting]) -> list[Setting]:
        """Return those that are left."""
        del rng, best
        return self.left

    begun: list[Setting] = []  # noqa: RUF012 - filled by each search


def scores_of(row: Row) -> tuple[list[float], bool]:
    """Return the scores after each epoch as a rung has them, and whether the trial lived to its end."""
    epochs = row["epochs"]
    raw, averaged = row.get("val_acc", []), row.get("averaged_val_acc", [])
    alive = [r is not None for r in raw]
    n = alive.index(False) if False in alive else epochs
    found = [a if a is not None else r for r, a in zip(raw[:n], averaged[:n], strict=True)]
    if row.get("diverged") or n < epochs:
        return found[: max(0, n - 1)], False
    return [*found[:-1], raw[-1]], True


def searched(spec: StudySpec, rows: Sequence[Row], configs: Sequence[TrialConfig], cost: float) -> set[int]:
    """Return which trials the strategy trains through."""
    chooser, epochs = Chooser(spec), spec.epochs
    given = [Setting(parameters.params_of(spec.space, config), config) for config in configs]
    index = {config: i for i, config in enumerate(configs)}
    settings = Given(spec, chooser.settings, given)
    settings.begun = []
    chooser.settings = settings
    curves, which = list[ScoreCurve](), list[int]()
    planned = math.floor(cost * len(rows) * epochs)
    while True:
        to_come, left = len(settings.left), planned - chooser.spent(curves)
        only_begin = bool(to_come) and left <= to_come * chooser.rungs.at[0]
        means = Means(epochs if only_begin else left, bool(to_come), only_begin=only_begin)
        step = chooser.choose(curves, means)
        if step is None:
            return {i for i, one in zip(which, curves, strict=True) if one.state == State.COMPLETE}
        if step.setting is not None:
            settings.left.remove(step.setting)
            settings.begun.append(step.setting)
            which.append(index[step.setting.config])
            curves.append(ScoreCurve(str(len(curves)), step.setting.config, State.RUNNING, paused=True))
            at = len(curves) - 1
        else:
            at = int(step.slot or 0)
        scores, lived = scores_of(rows[which[at]])
        one = replace(curves[at], scores=tuple(scores[: step.epoch]))
        if len(scores) < step.epoch and not lived:
            one = replace(one, state=State.DIVERGED, paused=False)
        elif step.epoch == epochs:
            one = replace(one, state=State.COMPLETE, paused=False, value=scores[-1])
        curves[at] = one


def halved(spec: StudySpec, rows: Sequence[Row], configs: Sequence[TrialConfig]) -> tuple[set[int], float]:
    """Return which trials asha trains through, and what it spends, of what all would."""
    rungs = AshaSpec().rungs(spec.epochs)
    at_rung: dict[int, list[float]] = {rung: [] for rung in rungs}
    through, spent = set[int](), 0
    for i, (row, config) in enumerate(zip(rows, configs, strict=True)):
        scores, lived = scores_of(row)
        first = comparable_from(config.schedule, spec.epochs)
        for epoch, score in enumerate(scores, 1):
            spent += 1
            if epoch in at_rung and epoch >= first:
                judged = asha(score, at_rung[epoch], AshaSpec().reduction_factor, maximize=True)
                at_rung[epoch].append(score)
                if judged.fate == "prune":
                    break
        else:
            through |= {i} if lived else set()
    return through, spent / (len(rows) * spec.epochs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--problem", default="mnist_cnn")
    parser.add_argument("--cost", type=float, help="of what all would cost; what asha spends if not given")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    every = [json.loads(line) for line in args.file.read_text().splitlines()]
    rows = [row for row in every if row["problem"] == args.problem]
    spec = spec_of(args.problem, args.data).model_copy(update={"strategy": LrSpec(branching=False)})
    configs = drawn(spec, len(rows))
    assert all(c.optimizer.peak_lr == r["peak_lr"] for c, r in zip(configs, rows, strict=True))
    ends = np.array([scores_of(row)[0][-1] if scores_of(row)[1] else 0.0 for row in rows])
    ours, theirs, costs = list[float](), list[float](), list[float]()
    for repeat in range(args.repeats):
        order = np.random.default_rng(repeat).permutation(len(rows))
        own_rows, own_configs = [rows[i] for i in order], [configs[i] for i in order]
        top = set(np.argsort(-ends[order], kind="stable")[: max(1, len(rows) // BEST_PART)].tolist())
        through, cost = halved(spec, own_rows, own_configs)
        theirs.append(len(top - through) / len(top))
        costs.append(cost)
        own = spec.model_copy(update={"seed": repeat})
        found = searched(own, own_rows, own_configs, args.cost or cost)
        ours.append(len(top - found) / len(top))
        print(f"order {repeat}: lr {ours[-1]:.2f}, asha {theirs[-1]:.2f} at a cost of {cost:.2f}", flush=True)
    for name, shares in (("lr", ours), ("asha", theirs)):
        low, high = np.percentile(shares, [5, 95])
        print(f"{name}: unfinished {np.mean(shares):.2f} ({low:.2f} to {high:.2f}), cost {np.mean(costs):.2f}")


if __name__ == "__main__":
    main()

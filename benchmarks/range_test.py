"""Where the best rate lies within what a range test says, and what the rules of other finders say of the same sweeps.

    python benchmarks/range_test.py sweep --data FOLDER --curves FILE.jsonl [--problems ..] [--optimizers ..]
    python benchmarks/range_test.py judge --curves FILE.jsonl --truth FILE.jsonl ..

``sweep`` makes the sweeps of `lrsearch find` for problems of dense_sweep.py and writes them down, a line each; again
it goes on where it stopped. ``judge`` reads them, and the trainings that dense_sweep.py has written down, and prints
tables. The truth there:

* *best*: the rate of the highest mean validation accuracy after the last epoch, over the seeds; of equal ones that with
  the lowest mean loss. A training that diverged has the accuracy of guessing.
* *good*: from the lowest to the highest rate whose mean accuracy lies within two points of the best one's.
* *edge*: the lowest rate from which on, at every rate up to the highest, at least half of the trainings fail: they
  diverged, or ended no further from guessing than half-way to the best accuracy. *dead*: the same where failing is only
  to diverge or to guess, which is an accuracy less than a tenth of that way from guessing.

The rules of the others are written anew after their sources (torch-lr-finder 0.2.2 with ``suggest_lr``, Lightning 2.6
``lr_find().suggestion()``, fastai 2.7 ``valley``, ``slide``, ``minimum``, ``steep``) with their own smoothing, stopping
and skipping, and are given the same losses. Each returns one rate; `within good` counts the seeds at which it is good.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from dense_sweep import FIRST_OPTIMIZERS, FIRST_PROBLEMS, OPTIMIZERS, PROBLEMS

from lrsearch import find, worker
from lrsearch.analysis.range_test import Finding, findings
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import RangeTest

NEAR = 0.02
LEAST_RATES = 25
HALF, TENTH = 0.5, 0.1
BETA = 0.98
Losses = np.ndarray[Any, np.dtype[np.float64]]


def spec_of(problem: str, optimizers: Sequence[str], data: Path) -> StudySpec:
    """Return the study of a problem, its space that of every study: what is trained is what dense_sweep.py trains."""
    text = json.dumps({"name": problem, "pruner": "none", **PROBLEMS[problem][0]})
    tables = json.loads(text.replace("EMOJI", str(data / "emoji" / "pictures")))
    return study_file.build({**tables, "space": {"optimizer": list(optimizers)}}, problem)


def sweep(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    known = args.curves.read_text().splitlines() if args.curves.exists() else []
    behind = {(row["problem"], row["optimizer"]) for row in map(json.loads, known)}
    for problem in args.problems:
        left = [name for name in args.optimizers if (problem, name) not in behind]
        if not left:
            continue
        spec = spec_of(problem, left, args.data)
        engine = worker.build_engine(spec, device_name="cpu", threads=args.threads, data_dir=args.data, progress=False)
        assert isinstance(engine, SerialEngine)
        if not spec.is_known:
            spec = spec.fitted(engine.facts)
        rows: dict[str, list[str]] = defaultdict(list)
        for one in find.sweeps(spec, engine, find.SweepPlan()):
            row = json.dumps({"problem": problem, **asdict(replace(one, started_at=None))})
            rows[one.optimizer].append(row)
            print(
                f"{problem} {one.optimizer} seed {one.seed}: {len(one.losses)} updates, {one.seconds:.1f} s", flush=True
            )
            if len(rows[one.optimizer]) == find.SEEDS:
                with args.curves.open("a") as file:
                    file.write("\n".join(rows[one.optimizer]) + "\n")


@dataclass(frozen=True)
class Truth:
    """What the trainings of a problem with an optimizer say."""

    best: float
    good_low: float
    good_high: float
    edge: float
    dead: float
    n_rates: int


def truth_of(rows: Sequence[dict[str, Any]]) -> Truth:
    by_rate: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_rate[row["lr"]].append(row)
    rates = sorted(by_rate)
    guessing = 1 / 10
    final = {
        rate: [guessing if row["diverged"] is not None else row["val_acc"][-1] or guessing for row in by_rate[rate]]
        for rate in rates
    }
    losses = {rate: np.mean([row["val_loss"][-1] or math.inf for row in by_rate[rate]]) for rate in rates}
    mean = {rate: float(np.mean(final[rate])) for rate in rates}
    best = max(rates, key=lambda rate: (round(mean[rate], 6), -losses[rate]))
    good = [rate for rate in rates if mean[rate] >= mean[best] - NEAR]

    def edge(part: float) -> float:
        limit, found = guessing + part * (mean[best] - guessing), math.inf
        for rate in reversed(rates):
            if 2 * sum(accuracy <= limit for accuracy in final[rate]) < len(final[rate]):
                return found
            found = rate
        return found

    return Truth(best, good[0], good[-1], edge(HALF), edge(TENTH), len(rates))


def torch_lr_finder(rates: Losses, losses: Losses) -> float | None:
    """Exponential smoothing .05, ends at 5 times the best; of what is left without 10 and 5, the steepest update."""
    smooth: list[float] = []
    for loss in losses:
        smooth.append(loss if not smooth else 0.05 * loss + 0.95 * smooth[-1])
        if smooth[-1] > 5 * min(smooth):
            break
    kept = np.array(smooth[10:-5])
    return None if len(kept) < 2 else float(rates[10 + int(np.gradient(kept).argmin())])


def averaged(losses: Losses) -> Iterator[float]:
    """Yield the average with decay .98 and its bias taken out, until it exceeds 4 times its best."""
    total, best = 0.0, math.inf
    for step, loss in enumerate(losses, 1):
        total = BETA * total + (1 - BETA) * loss
        value = total / (1 - BETA**step)
        yield value
        if step > 1 and value > 4 * best:
            return
        best = min(best, value)


def lightning(rates: Losses, losses: Losses) -> float | None:
    """Without the first 10 and the last, the rate of the steepest descent along the rate itself."""
    smooth = np.array(list(averaged(losses)))[10:-1]
    there = np.isfinite(smooth)
    kept, at = smooth[there], rates[10 : 10 + len(smooth)][there]
    return None if len(kept) < 2 else float(at[int(np.gradient(kept, at).argmin())])


def _fastai(rates: Losses, losses: Losses) -> tuple[Losses, Losses]:
    smooth = np.array(list(averaged(losses)))[len(rates) // 10 : -5]
    wrong = np.flatnonzero(np.isnan(smooth))
    smooth = smooth[: wrong[0]] if len(wrong) else smooth
    return rates[len(rates) // 10 : len(rates) // 10 + len(smooth)], smooth


def valley(rates: Losses, losses: Losses) -> float | None:
    """Half-way through the second third of the longest run of decreasing losses (they need not be neighbours)."""
    at, smooth = _fastai(rates, losses)
    if len(smooth) < 2:
        return None
    longest, start, end = [1] * len(smooth), 0, 0
    for i in range(1, len(smooth)):
        for j in range(i):
            if smooth[i] < smooth[j] and longest[i] < longest[j] + 1:
                longest[i] = longest[j] + 1
            if longest[end] < longest[i]:
                end, start = i, i - longest[i]
    third = (end - start) / 3
    return float(at[start + int(third) + int(third / 2)])


def slide(rates: Losses, losses: Losses) -> float | None:
    """From the end, a window of 15 until its two slopes differ by less than .005; its left rate."""
    at, smooth = _fastai(rates, losses)
    if len(smooth) < 17:
        return None
    slopes, right, left = np.gradient(smooth), -1, -16
    found = float(at[left])
    while left >= -len(smooth) and abs(slopes[right] - slopes[left]) > 0.005:
        found = float(at[left])
        right, left = right - 1, left - 1
    return found


def minimum(rates: Losses, losses: Losses) -> float | None:
    """A tenth of the rate of the lowest loss."""
    at, smooth = _fastai(rates, losses)
    return float(at[int(smooth.argmin())]) / 10 if len(smooth) else None


def steep(rates: Losses, losses: Losses) -> float | None:
    """The rate of the steepest descent along the logarithm."""
    at, smooth = _fastai(rates, losses)
    return float(at[int((np.diff(smooth) / np.diff(np.log(at))).argmin())]) if len(smooth) > 1 else None


RULES: dict[str, Callable[[Losses, Losses], float | None]] = {
    "torch-lr-finder": torch_lr_finder,
    "Lightning": lightning,
    "fastai valley": valley,
    "fastai slide": slide,
    "fastai minimum": minimum,
    "fastai steep": steep,
}


def read_lines(files: Sequence[Path]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    out: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for file in files:
        for row in map(json.loads, file.read_text().splitlines()):
            out[row["problem"], row["optimizer"]].append(row)
    return out


def rounded(value: float) -> str:
    return "-" if not math.isfinite(value) else f"{value:.2g}"


def row_of(name: tuple[str, str], truth: Truth, finding: Finding) -> tuple[list[str], dict[str, float]]:
    """Return a line of the table, and what is counted over all of them."""
    low, edge, bounds = finding.lowest_useful, finding.divergence, finding.suggestion
    said = {"holds": math.nan, "octaves": math.nan, "wide": math.nan, "edge": math.nan, "dead": math.nan}
    cells = [
        " ".join(name).replace("_", " "),
        rounded(truth.best),
        f"{rounded(truth.good_low)} to {rounded(truth.good_high)}",
    ]
    cells += [rounded(truth.edge), rounded(truth.dead)]
    if bounds is None or low is None or edge is None:
        return [*cells, f"none: {finding.why_none}", "-", "-", "-", "-"], said
    said["holds"] = float(low.value <= truth.best <= edge.value)
    said["octaves"], said["wide"] = math.log2(edge.value / low.value), math.log2(bounds.high / bounds.low)
    said["edge"] = 2 ** abs(math.log2(edge.value / truth.edge)) if math.isfinite(truth.edge) else math.nan
    said["dead"] = 2 ** abs(math.log2(edge.value / truth.dead)) if math.isfinite(truth.dead) else math.nan
    cells += [
        f"{rounded(low.value)} to {rounded(edge.value)}",
        f"{rounded(bounds.low)} to {rounded(bounds.high)}",
        "yes" if said["holds"] else "**no**",
        f"{said['octaves']:.1f}",
        f"{edge.value / truth.edge:.2g}" if math.isfinite(truth.edge) else "-",
    ]
    return cells, said


def judge(args: argparse.Namespace) -> None:
    curves, trainings = read_lines([args.curves]), read_lines(args.truth)
    header = ["problem", "best", "good", "edge", "dead", "lowest useful to divergence", "suggested", "best within"]
    header += ["octaves", "divergence / edge"]
    table, counted, others = [header], list[dict[str, float]](), defaultdict[str, list[tuple[float, bool]]](list)
    for name, rows in curves.items():
        if len({row["lr"] for row in trainings[name]}) < LEAST_RATES:
            print(f"{' '.join(name)}: not judged, its dense sweep has {len(trainings[name])} trainings\n")
            continue
        truth = truth_of(trainings[name])
        sweeps = [_sweep(row) for row in rows]
        (finding,) = findings(sweeps)
        cells, said = row_of(name, truth, finding)
        table.append(cells)
        counted.append(said)
        for one in sweeps:
            rates = np.array(one.rates)
            for rule, of in RULES.items():
                found = of(rates, np.array(one.losses))
                ratio = math.nan if found is None else found / truth.best
                others[rule].append((ratio, found is not None and truth.good_low <= found <= truth.good_high))
    _print(table)
    given = [said for said in counted if not math.isnan(said["holds"])]
    edges = [said["edge"] for said in given if not math.isnan(said["edge"])]
    dead = [said["dead"] for said in given if not math.isnan(said["dead"])]
    print(
        f"\nbest within: {sum(said['holds'] for said in given):.0f} of {len(given)}, "
        f"{len(counted) - len(given)} abstained; median width {median(said['octaves'] for said in given):.1f} octaves, "
        f"of what is suggested {median(said['wide'] for said in given):.1f}; divergence within a factor of 3 of the "
        f"edge in {sum(ratio <= 3 for ratio in edges)} of {len(edges)} (of where all is dead: "
        f"{sum(ratio <= 3 for ratio in dead)} of {len(dead)})\n"
    )
    lines = [["rule", "its rate over the best, median", "smallest", "largest", "within good"]]
    for rule, pairs in others.items():
        ratios = sorted(ratio for ratio, _ in pairs if not math.isnan(ratio))
        inside = f"{sum(good for _, good in pairs)} of {len(pairs)}"
        lines.append([rule, rounded(median(ratios)), rounded(ratios[0]), rounded(ratios[-1]), inside])
    _print(lines)


def _sweep(row: dict[str, Any]) -> RangeTest:
    about = {key: value for key, value in row.items() if key not in ("problem", "rates", "losses")}
    return RangeTest(rates=tuple(row["rates"]), losses=tuple(row["losses"]), **about)


def _print(table: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(table[0])} |\n|{'--|' * len(table[0])}")
    for cells in table[1:]:
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sweeping = commands.add_parser("sweep")
    sweeping.add_argument("--data", type=Path, required=True)
    sweeping.add_argument("--curves", type=Path, required=True)
    sweeping.add_argument("--problems", nargs="+", choices=[*PROBLEMS], default=[*FIRST_PROBLEMS])
    sweeping.add_argument("--optimizers", nargs="+", choices=[*OPTIMIZERS], default=[*FIRST_OPTIMIZERS])
    sweeping.add_argument("--threads", type=int, default=1)
    judging = commands.add_parser("judge")
    judging.add_argument("--curves", type=Path, required=True)
    judging.add_argument("--truth", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    {"sweep": sweep, "judge": judge}[args.command](args)


if __name__ == "__main__":
    main()

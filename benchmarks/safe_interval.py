"""Whether the safe interval holds what it says: fresh trainings inside it and outside, and how much it spans.

    python benchmarks/safe_interval.py --data FOLDER --work FOLDER [--problems digits mnist_mlp mnist_cnn]
                                       [--trials 40] [--study-seeds 1] [--fresh 20] [--rates 25] [--seeds 3]
                                       [--threads 1]

For each problem and study seed a search is run as a person would, `lrsearch run --trials 40`, both optimizers of the
default space. Each optimizer's safe interval is then put to the test with the other settings of its best trial:

* fresh trainings, half at learning rates drawn evenly in the logarithm within the interval, half in the rest of the
  space, each with initial weights and batches of its own: how many end at or above the floor that was promised, and how
  many diverge;
* a dense sweep, which says how wide the true interval is: the rates around the best one at which the mean over the
  seeds lies within the same distance of the best mean, and none diverges.

Every training is written to WORK/trainings.jsonl, and a run goes on where the last one stopped. Prints tables of
Markdown.
"""

import argparse
import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

import lrsearch
from lrsearch import worker
from lrsearch.analysis.ranking import best, once
from lrsearch.analysis.safe_interval import SafeInterval, safe_interval
from lrsearch.domain import high_end, low_end
from lrsearch.spec.study import StudySpec
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, Trial, TrialConfig

PROBLEMS = {
    "digits": ["--epochs", "10"],
    "mnist_mlp": ["--dataset", "mnist", "--model", "mlp", "--epochs", "10", "--set", "dataset.limit=2500"],
    "mnist_cnn": ["--dataset", "mnist", "--model", "cnn", "--epochs", "5", "--set", "dataset.limit=1500"],
}
"""What is searched, as options of ``lrsearch run``."""
FIRST_FRESH_SEED = 1000
FIRST_SWEEP_SEED = 2000


@dataclass(frozen=True)
class Case:
    """One optimizer of one study: its interval, and what trainings it is put to the test with."""

    problem: str
    study_seed: int
    optimizer: str
    spec: StudySpec
    top: Trial
    said: SafeInterval
    n_trials: int

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the search space."""
        domain = self.spec.space.optimizers[self.optimizer]["peak_lr"]
        return low_end(domain), high_end(domain)

    def fresh(self, n: int) -> list[tuple[str, float, int]]:
        """Return ``n`` trainings inside and ``n`` outside: which, learning rate, seed."""
        if self.said.low is None or self.said.high is None:
            return []
        low, high = self.ends
        below, above = math.log(self.said.low / low), math.log(high / self.said.high)
        draw = np.random.default_rng([self.study_seed, len(self.optimizer)])
        out = []
        for i in range(n):
            inside = self.said.low * (self.said.high / self.said.low) ** draw.random()
            part = draw.random() * (below + above)
            outside = low * math.exp(part) if part < below else self.said.high * math.exp(part - below)
            out.append(("inside", inside, FIRST_FRESH_SEED + i))
            out.append(("outside", outside, FIRST_FRESH_SEED + n + i))
        return out

    def sweep(self, n_rates: int, n_seeds: int) -> list[tuple[str, float, int]]:
        """Return the trainings of the dense sweep over the search space, likewise."""
        return [
            ("sweep", float(rate), FIRST_SWEEP_SEED + seed)
            for rate in np.geomspace(*self.ends, n_rates)
            for seed in range(n_seeds)
        ]


class Trainings:
    """Trainings that are made once and kept in a file."""

    def __init__(self, path: Path, data: Path, threads: int) -> None:
        self._path, self._data, self._threads = path, data, threads
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {json.loads(line)["key"]: json.loads(line) for line in lines}
        self._engine: tuple[str, SerialEngine] | None = None

    def value(self, case: Case, rate: float, seed: int) -> float | None:
        """Return what a training with the best trial's other settings comes to; None: it diverged."""
        optimizer = replace(case.top.config.optimizer, peak_lr=float(f"{rate:.6g}"))
        config = replace(case.top.config, optimizer=optimizer, seed=seed)
        key = f"{case.problem} {json.dumps(asdict(config), sort_keys=True)}"
        if key not in self._known:
            row = {"key": key, "value": self._trained(case, config)}
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            self._known[key] = row
        value = self._known[key]["value"]
        return None if value is None else float(value)

    def _trained(self, case: Case, config: TrialConfig) -> float | None:
        if self._engine is None or self._engine[0] != case.problem:
            made = worker.build_engine(
                case.spec, device_name="cpu", threads=self._threads, data_dir=self._data, progress=False
            )
            assert isinstance(made, SerialEngine)
            self._engine = case.problem, made
        last: EpochMetrics | None = None
        for told in self._engine[1].start(config).epochs():
            if isinstance(told, Divergence):
                return None
            if isinstance(told, EpochMetrics):
                last = told
        assert last is not None
        return last.val_accuracy


def searched(problem: str, seed: int, n_trials: int, folder: Path, data: Path) -> list[Case]:
    """Search a problem, or go on with its study; return a case for each optimizer with an interval."""
    name, database = f"{problem}-{seed}", folder / "studies.db"
    argv = [sys.executable, "-m", "lrsearch", "run", *PROBLEMS[problem], "--name", name, "--seed", str(seed)]
    argv += ["--trials", str(n_trials), "--storage", str(database), "--data-dir", str(data), "--json", "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    study = lrsearch.open_study(name, storage=str(database))
    spec, trials, cases = study.spec, once(study.trials), []
    for optimizer in spec.space.optimizers:
        mine = [trial for trial in trials if trial.config.optimizer.name == optimizer]
        top, said = best(mine, spec.metric.direction), safe_interval(mine, spec)
        if top is None or said.low is None:
            print(f"{name} {optimizer}: no interval of {len(mine)} trials, because {said.why_none}")
            continue
        cases.append(Case(problem, seed, optimizer, spec, top, said, len(mine)))
    return cases


def true_interval(case: Case, known: Trainings, n_rates: int, n_seeds: int) -> tuple[float, float] | None:
    """Return the ends of the true interval by the dense sweep; None where no rate is close to the best mean."""
    rates: dict[float, list[float | None]] = {}
    for _, rate, seed in case.sweep(n_rates, n_seeds):
        rates.setdefault(rate, []).append(known.value(case, rate, seed))
    whole = {rate: [v for v in values if v is not None] for rate, values in rates.items()}
    means = {rate: float(np.mean(v)) for rate, v in whole.items() if len(v) == n_seeds}
    if not means or case.said.distance is None:
        return None
    order = sorted(rates)
    top = max(means, key=lambda rate: means[rate])
    near = [means.get(rate, -math.inf) >= means[top] - case.said.distance for rate in order]
    begin = end = order.index(top)
    while begin > 0 and near[begin - 1]:
        begin -= 1
    while end + 1 < len(order) and near[end + 1]:
        end += 1
    # A rate of the sweep stands for the octaves half-way to its neighbours.
    half = math.sqrt(order[1] / order[0])
    return max(order[begin] / half, order[0]), min(order[end] * half, order[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", choices=[*PROBLEMS], default=[*PROBLEMS])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--study-seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--fresh", type=int, default=20)
    parser.add_argument("--rates", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    known = Trainings(args.work / "trainings.jsonl", args.data, args.threads)
    held, widths = [], []
    for problem in args.problems:
        for seed in args.study_seeds:
            for case in searched(problem, seed, args.trials, args.work, args.data):
                said, counts = case.said, {"inside": [0, 0, 0], "outside": [0, 0, 0]}
                assert said.low is not None
                assert said.high is not None
                assert said.floor is not None
                assert said.octaves is not None
                assert said.distance is not None
                for where, rate, fresh_seed in case.fresh(args.fresh):
                    value = known.value(case, rate, fresh_seed)
                    counts[where][0] += 1
                    counts[where][1] += value is not None and value >= said.floor - 1e-9
                    counts[where][2] += value is None
                about = f"{problem} | {seed} | {case.optimizer} | {case.n_trials}"
                told = " | ".join(f"{n_held} of {n} | {n_broke}" for n, n_held, n_broke in counts.values())
                held.append(f"| {about} | {said.low:.3g} to {said.high:.3g} | {said.floor:.3f} | {told} |")
                print(held[-1], flush=True)
                true = true_interval(case, known, args.rates, args.seeds)
                if true is None:
                    widths.append(f"| {about} | {said.octaves:.1f} | none | |")
                    continue
                shared = math.log2(min(true[1], said.high) / max(true[0], said.low))
                width = math.log2(true[1] / true[0])
                widths.append(
                    f"| {about} | {said.octaves:.1f} | {true[0]:.3g} to {true[1]:.3g} | {width:.1f} | "
                    f"{100 * shared / width:.0f} % | {100 * (said.octaves - shared) / said.octaves:.0f} % |"
                )
                print(widths[-1], flush=True)
    print(
        "\n| problem | seed | optimizer | trials | safe interval | floor | inside: reached it | diverged "
        "| outside: reached it | diverged |\n|--|--|--|--|--|--|--|--|--|--|"
    )
    print("\n".join(held))
    print(
        "\n| problem | seed | optimizer | trials | octaves | true interval | its octaves | of them said "
        "| said beyond it |\n|--|--|--|--|--|--|--|--|--|"
    )
    print("\n".join(widths))


if __name__ == "__main__":
    main()

"""When `budget.stop` would have ended studies, and what that costs: the digits, 200 trials, seed by seed.

    python benchmarks/stop.py --out FOLDER [--seeds 0 1 ... 19] [--trials 200] [--fresh 10] [--strategy lr]
                              [OPTION OF lrsearch run ...]

Every study is searched once, to the end of its budget (`lrsearch run digits --trials 200 --seed S`, a database each).
The rule is then asked after each of its trials, as `lrsearch run --stop converged` would have. With `--strategy lr`,
whose rule asks its model, the study is searched a second time, with `--stop converged`. The regret of a stop is
the true accuracy of the winner of the whole study less that of the winner at the stop. The true accuracy of a setting
is its mean over fresh seeds on the 797 test images, which no search has seen; where both are one, there is no regret.
Everything is written down in the folder; run again it goes on where it stopped.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from lrsearch import worker
from lrsearch.analysis.ranking import best
from lrsearch.spec.study import StudySpec
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import open_existing
from lrsearch.strategy.stop import Outlook, outlook
from lrsearch.training.engine import TestResult
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import State, Trial, TrialConfig

FIRST_FRESH_SEED = 10_000


def searched(seed: int, trials: int, folder: Path, *options: str) -> tuple[StudySpec, list[Trial]]:
    """Return the finished trials of a study in the order of its budget, searched first if they are not there yet."""
    kind = "".join(f"-{word}" for word in options if not word.startswith("-"))
    place, done = folder / f"digits{kind}-{seed}.db", folder / f"done{kind}.{seed}"
    if not done.exists():
        size = ["--trials", str(trials), "--seed", str(seed), "--threads", "1", "--quiet", "--json"]
        argv = [sys.executable, "-m", "lrsearch", "run", "digits", *size]
        argv += ["--name", f"digits-{seed}", "--storage", str(place), *options]
        ended = subprocess.run(argv, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(ended.stderr)
        done.touch()
    with closing(open_existing(parse_place(str(place)))) as database:
        study = studies.get(database, f"digits-{seed}")
        return study.spec, [trial for trial in study.trials() if trial.state.counts]


def stops_at(spec: StudySpec, trials: Sequence[Trial]) -> tuple[int, Outlook | None]:
    """Return after how many trials the rule ends the study, and what it sees then."""
    values = [t.outcome.value if t.state == State.COMPLETE and t.outcome else None for t in trials]
    for n in range(1, len(values)):
        found = outlook(values[:n], len(values) - n, spec)
        if found is not None and found.converged:
            return n, found
    return len(values), None


def n_epochs(trials: Sequence[Trial]) -> int:
    """Return the epochs that were trained; those that a trial has of another one are that one's."""
    return sum(len(trial.metrics) - trial.shared_epochs for trial in trials)


class Truth:
    """The accuracy of settings on the test images, seed by seed, written down."""

    def __init__(self, path: Path, fresh: int) -> None:
        self.path, self.fresh = path, fresh
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {(row["setting"], row["seed"]): row["accuracy"] for row in map(json.loads, lines)}

    def of(self, spec: StudySpec, config: TrialConfig) -> float:
        engine = None
        setting = repr(replace(config, seed=0))
        found = []
        for seed in range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + self.fresh):
            accuracy = self.known.get((setting, seed))
            if accuracy is None:
                engine = engine or worker.build_engine(
                    spec, device_name="cpu", threads=1, data_dir=None, progress=False
                )
                assert isinstance(engine, SerialEngine)
                result = engine.test(replace(config, seed=seed))
                accuracy = result.test_accuracy if isinstance(result, TestResult) else 0.1
                with self.path.open("a") as file:
                    file.write(json.dumps({"setting": setting, "seed": seed, "accuracy": accuracy}) + "\n")
                self.known[setting, seed] = accuracy
            found.append(accuracy)
        return statistics.mean(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(20)])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--fresh", type=int, default=10)
    parser.add_argument("--strategy", choices=["sampler", "lr"], default="sampler")
    args, more = parser.parse_known_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    truth = Truth(args.out / "truth.jsonl", args.fresh)
    regrets, shares, seen, ends = [], [], [], []
    for seed in args.seeds:
        found = None
        if args.strategy == "lr":
            spec, trials = searched(seed, args.trials, args.out, "--strategy", "lr", *more)
            _, until = searched(seed, args.trials, args.out, "--strategy", "lr", "--stop", "converged", *more)
        else:
            spec, trials = searched(seed, args.trials, args.out, *more)
            n, found = stops_at(spec, trials)
            until = trials[:n]
        early, late = best(until, "maximize"), best(trials, "maximize")
        assert early is not None
        assert late is not None
        at_end = 100 * truth.of(spec, late.config)
        regret = at_end - 100 * truth.of(spec, early.config)
        epochs = n_epochs(until) / n_epochs(trials)
        values = [100 * t.outcome.value for t in (early, late) if t.outcome and t.outcome.value is not None]
        why = "" if found is None else f", expected gain {100 * found.gain:.2f}, noise {100 * found.noise:.2f} points"
        print(
            f"seed {seed}: stops after {len(until)} of {len(trials)} trials ({100 * epochs:.0f} % of the epochs){why}; "
            f"validation {values[0]:.1f} of {values[1]:.1f}, true at the end {at_end:.2f}, regret {regret:+.2f} points",
            flush=True,
        )
        regrets.append(regret)
        ends.append(at_end)
        shares.append(len(until) / len(trials))
        seen.append(epochs)
    mean = statistics.mean(regrets)
    error = statistics.stdev(regrets) / math.sqrt(len(regrets)) if len(regrets) > 1 else math.nan
    print(
        f"{len(regrets)} studies: regret {mean:+.2f} points (standard error {error:.2f}, worst {max(regrets):+.2f}), "
        f"{100 * (1 - statistics.mean(shares)):.0f} % of the trials and {100 * (1 - statistics.mean(seen)):.0f} % of "
        f"the epochs saved; true accuracy at the end {statistics.mean(ends):.2f} %"
    )


if __name__ == "__main__":
    main()

"""What a second worker brings, beside two bare processes; and the whole command beside Optuna's own example.

    python benchmarks/workers.py --data FOLDER --bench FOLDER [--parts speedup command] [--repeats 3]

FOLDERs: MNIST/raw in torchvision's layout, and the rivals (bare_loop.py, optuna_example.py). On two cores, one thread a
process. The ratios are those of one run, the two in turn.

speedup  trials of two seconds and more (MNIST cnn): one worker's time / two workers' time, from the first trial's start
         to the last one's end; and the same of one and two bare processes
command  200 trials (mlp, 800 images, 5 epochs, batch 64, no pruning), command to exit: Optuna's example / two workers
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_TRIALS, TRAIN, VALIDATION, N_EPOCHS = 16, 6400, 1000, 6


def run(argv: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stderr}")
    return done


def bare(bench: Path, data: Path, processes: int) -> float:
    argv = ["-W", "ignore", str(bench / "bare_loop.py"), "--data", str(data), "--model", "cnn"]
    argv += ["--processes", str(processes), "--trainings", str(N_TRIALS), "--epochs", str(N_EPOCHS)]
    argv += ["--train", str(TRAIN), "--validation", str(VALIDATION), "--batch", "64"]
    return float(json.loads(run(argv).stdout.strip().splitlines()[-1])["training_seconds"])


def ours(data: Path, workers: int) -> float:
    pool = TRAIN + VALIDATION
    settings = {
        "dataset.limit": pool,
        "dataset.validation_fraction": VALIDATION / pool,
        "space.batch_size": 64,
        "space.optimizer": '["adam"]',
        "space.schedule": '["constant"]',
        "pruner.name": "none",
        "sampler.name": "random",
    }
    with tempfile.TemporaryDirectory() as folder:
        argv = ["-m", "lrsearch", "run", "digits", "--dataset", "mnist", "--model", "cnn", "--data-dir", str(data)]
        argv += ["--epochs", str(N_EPOCHS), "--trials", str(N_TRIALS), "--workers", str(workers), "--threads", "1"]
        argv += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        lines = run([*argv, "--storage", f"{folder}/a.db"]).stderr.splitlines()
    started = [seconds(line) for line in lines if " > trial" in line]
    ended = [seconds(line) for line in lines if any(f" {mark} " in line[:12] for mark in "<x!?")]
    if len(ended) != N_TRIALS:
        raise SystemExit(f"{len(ended)} endings instead of {N_TRIALS}:\n" + "\n".join(lines))
    return max(ended) - min(started)


def seconds(line: str) -> float:
    return float(line.partition("s ")[0])


def command(data: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        argv = ["-m", "lrsearch", "run", "digits", "--dataset", "mnist", "--data-dir", str(data), "--quiet"]
        argv += ["--set", "dataset.limit=1000", "--epochs", "5", "--set", "space.batch_size=64"]
        argv += ["--set", "pruner.name=none", "--trials", "200", "--workers", "2", "--storage", f"{folder}/a.db"]
        begun = time.perf_counter()
        run(argv)
        return time.perf_counter() - begun


def example(bench: Path, data: Path) -> float:
    begun = time.perf_counter()
    run([str(bench / "optuna_example.py"), "--data", str(data), "--trials", "200"], OMP_NUM_THREADS="1")
    return time.perf_counter() - begun


def shown(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--bench", type=Path, required=True)
    p.add_argument("--parts", nargs="+", default=["speedup", "command"], choices=["speedup", "command"])
    p.add_argument("--repeats", type=int, default=3)
    o = p.parse_args()
    if "speedup" in o.parts:
        rounds = [
            (bare(o.bench, o.data, 1), bare(o.bench, o.data, 2), ours(o.data, 1), ours(o.data, 2))
            for _ in range(o.repeats)
        ]
        limits, reached = [b1 / b2 for b1, b2, _, _ in rounds], [o1 / o2 for _, _, o1, o2 in rounds]
        share = [r / limit for r, limit in zip(reached, limits, strict=True)]
        print(f"two bare processes against one: {shown(limits)}")
        print(
            f"two workers against one:        {shown(reached)}, {statistics.median(r[2] for r in rounds):.1f} s alone"
        )
        print(f"share of the bare speed-up:     {shown(share)}  at least 0.95", flush=True)
    if "command" in o.parts:
        pairs = [(example(o.bench, o.data), command(o.data)) for _ in range(o.repeats)]
        ratios = [a / b for a, b in pairs]
        median = statistics.median
        print(
            f"200 trials, command to exit: Optuna's example {median(a for a, _ in pairs):.1f} s, two workers "
            f"{median(b for _, b in pairs):.1f} s, ratio {shown(ratios)}  at least 6",
            flush=True,
        )


if __name__ == "__main__":
    main()

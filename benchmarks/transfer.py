"""Does `lrsearch transfer` predict the learning rate? MNIST cnn: batch 512 from 32..128, 20 epochs from 5 and 10.

    python benchmarks/transfer.py --data FOLDER --out FOLDER [--optimizers sgd adam] [--trials 48] [--seeds 2]

Searches first, by `lrsearch run` (2,000 training images, cosine, no pruner): one study over three batch sizes, and two
studies of 5 and of 10 epochs. Then the truth at the target by a dense sweep of 13 rates. Last what `lrsearch transfer`
says of the studies beside the sweep: whether the best rate lies in the interval, and what each rule's rate would lose.
Everything is written down in the folder; run again it goes on where it stopped.
"""

import argparse
import json
import math
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from dense_sweep import OPTIMIZERS, engine_of, trained

from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

N_RATES = 13
SEARCHED = {"sgd": (0.003, 1.0), "adam": (3e-4, 0.3)}
TARGETS = {"batch-size": (512, 10), "epochs": (64, 20)}
"""Batch size and epochs of the sweep."""
SWEPT = {
    ("sgd", "batch-size"): (0.01, 1.0),
    ("sgd", "epochs"): (0.005, 0.3),
    ("adam", "batch-size"): (0.001, 0.1),
    ("adam", "epochs"): (5e-4, 0.05),
}
BATCH, EPOCHS = (32, 64, 128), (5, 10)


def lrsearch(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "lrsearch", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"lrsearch {' '.join(words)}: {done.stderr}")
    return done.stdout


def search(optimizer: str, name: str, trials: int, epochs: int, batch: object, folder: Path, data: Path) -> None:
    marker = folder / f"{name}.done"
    if marker.exists():
        return
    low, high = SEARCHED[optimizer]
    keys = {
        "dataset.limit": 2500,
        "space.optimizer": optimizer,
        f"space.optimizer.{optimizer}.peak_lr": f"{{low={low},high={high},log=true}}",
        f"space.optimizer.{optimizer}.weight_decay": OPTIMIZERS[optimizer]["weight_decay"],
        "space.schedule": "cosine",
        "space.warmup_fraction": 0.05,
        "space.final_fraction": 0.001,
        "space.batch_size": json.dumps(batch),
    }
    sets = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    problem = ["--dataset", "mnist", "--model", "cnn", "--data-dir", str(data), "--name", name, "--pruner", "none"]
    size = ["--trials", str(trials), "--epochs", str(epochs), "--threads", "1", "--quiet"]
    lrsearch("run", *problem, *size, *sets, "--storage", str(folder / "transfer.db"))
    marker.touch()
    print(f"{name}: {trials} trials", flush=True)


def sweep(optimizer: str, target: str, seeds: int, folder: Path, data: Path) -> dict[float, list[float]]:
    """Return the final accuracies by rate; nothing learned where it diverged."""
    out, (batch, epochs) = folder / "sweep.jsonl", TARGETS[target]
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    behind = {(row["optimizer"], row["target"], row["lr"], row["seed"]): row for row in known}
    engine = None
    found: dict[float, list[float]] = defaultdict(list)
    for lr in np.geomspace(*SWEPT[optimizer, target], N_RATES):
        rate = float(f"{lr:.6g}")
        for seed in range(seeds):
            row = behind.get((optimizer, target, rate, seed))
            if row is None:
                engine = engine or engine_of("mnist_cnn", data, 1)[0]
                config = TrialConfig(
                    OptimizerConfig(optimizer, rate, **OPTIMIZERS[optimizer]),
                    ScheduleConfig("cosine", 0.05, 0.001),
                    batch,
                    epochs,
                    seed,
                )
                row = {"optimizer": optimizer, "target": target, "lr": rate, "seed": seed, **trained(engine, config)}
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            last = row["val_acc"][-1]
            found[rate].append(0.1 if last is None else last)
    print(f"sweep {optimizer} {target}: done", flush=True)
    return dict(found)


def loses(sweep_: dict[float, list[float]], rate: float) -> float:
    """Return how many points a rate loses to the best of the sweep, between its rates in a straight line."""
    rates = sorted(sweep_)
    means = [float(np.mean(sweep_[one])) for one in rates]
    return 100 * (max(means) - float(np.interp(math.log(rate), np.log(rates), means)))


def best_of(sweep_: dict[float, list[float]]) -> tuple[float, float, float]:
    """Return the best rate of a sweep, and between which rates the mean is within one standard error of it.

    The standard error is binomial, of 500 images.
    """
    rates = sorted(sweep_)
    means = {rate: float(np.mean(sweep_[rate])) for rate in rates}
    top = max(means.values())
    near = [rate for rate in rates if means[rate] >= top - math.sqrt(top * (1 - top) / 500)]
    return max(rates, key=lambda rate: means[rate]), min(near), max(near)


def compare(optimizer: str, target: str, truth: dict[float, list[float]], folder: Path) -> None:
    """Print what `lrsearch transfer` says beside the sweep."""
    study = f"{optimizer}-batches" if target == "batch-size" else f"{optimizer}-epochs-{max(EPOCHS)}"
    there = str(TARGETS[target][target == "epochs"])
    storage = str(folder / "transfer.db")
    said = json.loads(lrsearch("transfer", study, f"--{target}", there, "--json", "--storage", storage))
    (one,) = said["optimizers"]
    best, low, high = best_of(truth)
    print(
        f"{optimizer}, {target} {there}: the sweep is best at {best:.3g} (within an error from {low:.3g} to {high:.3g})"
    )
    if one["lr"] is None:
        print(f"  not enough evidence: {one['why_none']}")
    else:
        lr, exponent = one["lr"], one["exponent"]
        inside = "inside" if lr["low"] <= best <= lr["high"] else "outside"
        print(
            f"  predicted {lr['value']:.3g} ({lr['low']:.3g} to {lr['high']:.3g}; the best is {inside}), exponent "
            f"{exponent['value']:.2f} ({exponent['low']:.2f} to {exponent['high']:.2f}): loses "
            f"{loses(truth, lr['value']):.1f} points"
        )
    for rule in one["rules"]:
        print(f"  {rule['name']}: {rule['lr']:.3g} loses {loses(truth, rule['lr']):.1f} points")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--optimizers", nargs="+", choices=[*OPTIMIZERS], default=[*OPTIMIZERS])
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for optimizer in args.optimizers:
        search(optimizer, f"{optimizer}-batches", args.trials, 10, list(BATCH), args.out, args.data)
        for epochs in EPOCHS:
            search(optimizer, f"{optimizer}-epochs-{epochs}", args.trials // 2, epochs, 64, args.out, args.data)
        for target in TARGETS:
            compare(optimizer, target, sweep(optimizer, target, args.seeds, args.out, args.data), args.out)


if __name__ == "__main__":
    main()

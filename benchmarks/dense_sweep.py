"""The truth about a problem's learning rate: many rates, several seeds, one training each, written down epoch by epoch.

    python benchmarks/dense_sweep.py --data FOLDER --out FILE.jsonl [--problems mnist_mlp mnist_cnn emoji_resnet9]
                                     [--optimizers sgd adam] [--rates 25] [--seeds 3] [--threads 1] [--schedule cosine]

Other problems: digits_mlp, digits_cnn, mnist_cnn_10000; other optimizers: adamw, rmsprop. FOLDER holds MNIST/raw and
emoji/pictures. The rates are even in the logarithm, from 1e-4 to 10 for sgd (momentum .9) and from 1e-6 to 1 for the
others. A line for each training, in the format of the recorded DeepOBS curves: source, problem, optimizer, schedule,
lr, seed, n_seeds, batch_size, epochs, val_acc, val_loss, train_loss (a value an epoch, null: not finite), and diverged,
the update at which the watch called it so. Run again it goes on where it stopped.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrsearch import worker
from lrsearch.families import FAMILIES, neutral
from lrsearch.spec import file as study_file
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

RATES = {"sgd": (1e-4, 10.0), "adam": (1e-6, 1.0), "adamw": (1e-6, 1.0), "rmsprop": (1e-6, 1.0)}
OPTIMIZERS = {
    "sgd": {"weight_decay": 5e-4, "momentum": 0.9, "dampening": 0.0, "nesterov": False},
    "adam": {"weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw": {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "rmsprop": {"weight_decay": 0.0, "alpha": 0.99, "momentum": 0.0, "eps": 1e-8},
}
PROBLEMS: dict[str, tuple[dict[str, Any], int]] = {
    "mnist_mlp": ({"dataset": {"name": "mnist", "limit": 2500}, "model": {"name": "mlp"}}, 10),
    "mnist_cnn": ({"dataset": {"name": "mnist", "limit": 2500}, "model": {"name": "cnn"}}, 10),
    "mnist_cnn_10000": ({"dataset": {"name": "mnist", "limit": 10000}, "model": {"name": "cnn"}}, 10),
    "emoji_resnet9": ({"dataset": {"name": "folder:EMOJI", "image_size": 32}, "model": {"name": "resnet9"}}, 6),
    "digits_mlp": ({"dataset": {"name": "digits"}, "model": {"name": "mlp"}}, 10),
    "digits_cnn": ({"dataset": {"name": "digits"}, "model": {"name": "cnn"}}, 10),
}
"""What is trained, and for how many epochs."""
FIRST_PROBLEMS, FIRST_OPTIMIZERS = ("mnist_mlp", "mnist_cnn", "emoji_resnet9"), ("sgd", "adam")
"""Of these where none is named."""
BATCH = 64
WARMUP = 0.05
SWEPT_SCHEDULE = "cosine"
"""Where none is named."""


def engine_of(problem: str, data: Path, threads: int) -> tuple[SerialEngine, int]:
    """Return what trains a problem, and its epochs."""
    tables, epochs = PROBLEMS[problem]
    text = json.dumps({"name": problem, "epochs": epochs, "pruner": "none", **tables})
    spec = study_file.build(json.loads(text.replace("EMOJI", str(data / "emoji" / "pictures"))), problem)
    engine = worker.build_engine(spec, device_name="cpu", threads=threads, data_dir=data, progress=False)
    assert isinstance(engine, SerialEngine)
    return engine, epochs


def schedule_of(name: str) -> ScheduleConfig:
    """Return a family as it is where nothing of it is said, with a short warm-up where it takes one."""
    return ScheduleConfig(FAMILIES[name].name, 0.0 if FAMILIES[name].rise else WARMUP, **neutral(name))


def trained(engine: SerialEngine, config: TrialConfig) -> dict[str, Any]:
    """Return what a training came to, a value an epoch."""
    rows: list[EpochMetrics] = []
    diverged = None
    for told in engine.start(config).epochs():
        if isinstance(told, Divergence):
            diverged = told.step
        elif isinstance(told, EpochMetrics):
            rows.append(told)
    left = config.epochs - len(rows)

    def column(name: str) -> list[float | None]:
        found = [getattr(row, name) for row in rows]
        return [value if math.isfinite(value) else None for value in found] + [None] * left

    names = {"val_acc": "val_accuracy", "val_loss": "val_loss", "train_loss": "train_loss"}
    return {key: column(name) for key, name in names.items()} | {"diverged": diverged}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", choices=[*PROBLEMS], default=[*FIRST_PROBLEMS])
    parser.add_argument("--optimizers", nargs="+", choices=[*OPTIMIZERS], default=[*FIRST_OPTIMIZERS])
    parser.add_argument("--rates", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--schedule", choices=[*FAMILIES], default=SWEPT_SCHEDULE)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    known = args.out.read_text().splitlines() if args.out.exists() else []
    names = ("problem", "optimizer", "schedule", "lr", "seed")
    behind = {tuple(json.loads(line)[name] for name in names) for line in known}
    for problem in args.problems:
        engine, epochs = engine_of(problem, args.data, args.threads)
        for optimizer in args.optimizers:
            low, high = RATES[optimizer]
            for lr in np.geomspace(low, high, args.rates):
                rate = float(f"{lr:.6g}")
                for seed in range(args.seeds):
                    if (problem, optimizer, args.schedule, rate, seed) in behind:
                        continue
                    about = {
                        "source": "lrsearch/benchmarks/dense_sweep.py",
                        "problem": problem,
                        "optimizer": optimizer,
                        "schedule": args.schedule,
                        "lr": rate,
                        "seed": seed,
                        "n_seeds": 1,
                        "batch_size": BATCH,
                        "epochs": epochs,
                    }
                    schedule = schedule_of(args.schedule)
                    config = TrialConfig(
                        OptimizerConfig(optimizer, rate, **OPTIMIZERS[optimizer]), schedule, BATCH, epochs, seed
                    )
                    with args.out.open("a") as file:
                        file.write(json.dumps(about | trained(engine, config)) + "\n")
            print(f"{problem} {optimizer}: done", flush=True)


if __name__ == "__main__":
    main()

"""A pool for replays: random settings of the default space, trained through and written down epoch by epoch.

    python benchmarks/record_pool.py --problem digits --n 800 --data FOLDER --out FILE.jsonl
    python benchmarks/record_pool.py --problem digits_study --n 800 --data FOLDER --out FILE.jsonl
    python benchmarks/record_pool.py --problem mnist_cnn --n 300 --data FOLDER --out FILE.jsonl

FOLDER holds MNIST/raw. A line a setting: its source, problem, parameters as Optuna names them (``params``), its
configuration in brief, and a value an epoch; null where a value is not finite, or after the training has diverged.
``diverged`` is the epoch at which it did. Run again it goes on where it stopped. benchmarks/replay.py reads the file.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import optuna
import torch
from replaying.problems import PROBLEMS

from lrsearch import worker
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import space
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, TrialConfig

DRAW_SEED = 1
"""Of the random settings; the first N of two recordings are the same."""
COLUMNS = {
    "val_acc": "val_accuracy",
    "val_loss": "val_loss",
    "train_loss": "train_loss",
    "averaged_val_acc": "averaged_val_accuracy",
    "averaged_val_loss": "averaged_val_loss",
}
"""Keys of a line, and the field of an epoch's metrics that each holds [an accuracy 0..1, a loss in nats/example]."""
DIGITS = 4
"""Significant digits of a number that is written down."""


def spec_of(problem: str) -> StudySpec:
    """Return the study of a problem: what it ships with, and averaged weights in every trial."""
    tables = {**PROBLEMS[problem], "name": problem, "training": {"averaging": "on"}}
    return study_file.build(tables, "benchmarks/record_pool.py")


def drawn(spec: StudySpec, n: int) -> list[dict[str, Any]]:
    """Return the parameters of ``n`` random settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=DRAW_SEED))
    out: list[dict[str, Any]] = []
    for _ in range(n):
        asked = study.ask()
        space.suggest(asked, spec.space)
        out.append(asked.params)
    return out


def rounded(value: float | None) -> float | None:
    """Return a number in few digits; None where JSON knows none."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")


def recorded(engine: SerialEngine, config: TrialConfig) -> dict[str, Any]:
    """Train one setting through: a value an epoch, and at which epoch it diverged."""
    columns: dict[str, list[float | None]] = {key: [None] * config.epochs for key in COLUMNS}
    diverged: int | None = None
    for told in engine.start(config).epochs():
        if isinstance(told, Divergence):
            diverged = told.epoch
        if not isinstance(told, EpochMetrics):
            break
        for key, name in COLUMNS.items():
            columns[key][told.epoch - 1] = rounded(getattr(told, name))
    return columns | {"diverged": diverged}


def line_of(problem: str, spec: StudySpec, engine: SerialEngine, params: dict[str, Any]) -> dict[str, Any]:
    """Return what is written down of a setting."""
    config = parameters.config(spec, params)
    return {
        "source": "benchmarks/record_pool.py",
        "problem": problem,
        "params": params,
        "optimizer": config.optimizer.name,
        "schedule": config.schedule.family,
        "lr": config.optimizer.peak_lr,
        "seed": config.seed,
        "n_seeds": 1,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
        **recorded(engine, config),
    }


def main() -> None:
    """Record what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=[*PROBLEMS], required=True)
    parser.add_argument("--n", type=int, required=True, help="settings")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    spec = spec_of(args.problem)
    engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=args.data, progress=False)
    assert isinstance(engine, SerialEngine)
    behind = len(args.out.read_text().splitlines()) if args.out.exists() else 0
    with args.out.open("a") as file:
        for params in drawn(spec, args.n)[behind:]:
            print(json.dumps(line_of(args.problem, spec, engine, params)), file=file, flush=True)


if __name__ == "__main__":
    main()

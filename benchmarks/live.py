"""How soon a search of real trainings names a good learning rate: lrsearch beside Optuna as it comes, by the clock.

    python benchmarks/dense_sweep.py --data FOLDER --out SWEEP.jsonl --problems mnist_cnn_10000
    python benchmarks/live.py --data FOLDER --sweep SWEEP.jsonl --out FILE.jsonl [--repetitions 5] [--workers 2]
                              [--trainings 12] [--trials 30] [--fresh 3] [--within 0.3]

FOLDER holds MNIST/raw. Both search the optimizer (sgd, adam) and its learning rate within the ranges of the sweep, for
the cnn on 10,000 images of MNIST, 10 epochs of a cosine, and train with the same engine, two processes of one thread at
a time on one SQLite file. lrsearch is `lrsearch run --strategy lr`; Optuna is its TPE and its median pruner, which is
told the accuracy after each epoch. The clock runs from the start of the processes, imports included, to the end of the
complete trial whose setting, trained anew on fresh seeds, has a mean accuracy within .3 points of the best mean of the
sweep; each setting that became the best of its search is trained so, after the search. Every search takes its turn
with the other method's, so that what else the machine does hits both. A line for each search goes to FILE.jsonl; run
again it goes on where it stopped.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import torch
from dense_sweep import OPTIMIZERS, RATES, SWEPT_SCHEDULE, engine_of, schedule_of, trained

from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, TrialConfig

PROBLEM, BATCH, NAME = "mnist_cnn_10000", 64, "live"
SEARCHED = ("sgd", "adam")
FIRST_FRESH_SEED = 10_000


def config_of(optimizer: str, lr: float, epochs: int, seed: int) -> TrialConfig:
    """Return a training as the sweep makes it."""
    how = OptimizerConfig(optimizer, lr, **OPTIMIZERS[optimizer])  # type: ignore[arg-type]
    return TrialConfig(how, schedule_of(SWEPT_SCHEDULE), BATCH, epochs, seed)


def optuna_worker(data: Path, storage: str, seed: int, trials: int) -> None:
    """Work on a study as Optuna's users do, until it has so many trials."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    engine, epochs = engine_of(PROBLEM, data, 1)

    def objective(trial: optuna.Trial) -> float:
        optimizer = trial.suggest_categorical("optimizer", SEARCHED)
        lr = trial.suggest_float(f"peak_lr_{optimizer}", *RATES[optimizer], log=True)
        value = math.nan
        for told in engine.start(config_of(optimizer, lr, epochs, seed)).epochs():
            if isinstance(told, Divergence):
                raise optuna.TrialPruned
            if isinstance(told, EpochMetrics):
                value = told.val_accuracy
                trial.report(value, told.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return value

    study = optuna.load_study(
        study_name=NAME, storage=storage, sampler=optuna.samplers.TPESampler(seed=seed + os.getpid())
    )
    enough = optuna.study.MaxTrialsCallback(trials, states=None)
    study.optimize(objective, callbacks=[enough])


def study_file(seed: int, trainings: float) -> str:
    """Return the study that lrsearch is given."""
    schedule = schedule_of(SWEPT_SCHEDULE)
    lines = [
        f'name = "{NAME}"\nepochs = 10\nseed = {seed}\nprior = "none"\nstrategy = "lr"',
        f"[budget]\ntrainings = {trainings}",
        '[dataset]\nname = "mnist"\nlimit = 10000\n[model]\nname = "cnn"\n[training]\naveraging = "off"',
        f'[space]\nbatch_size = {BATCH}\nschedule = "{schedule.family}"\nwarmup_fraction = {schedule.warmup_fraction}',
        f"final_fraction = {schedule.final_fraction}",
    ]
    for name in SEARCHED:
        low, high = RATES[name]
        fixed = "\n".join(f"{key} = {json.dumps(value)}" for key, value in OPTIMIZERS[name].items())
        lines.append(f"[space.optimizer.{name}]\npeak_lr = {{ low = {low}, high = {high}, log = true }}\n{fixed}")
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    return text


def searched(method: str, seed: int, folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one search; return its trials that are complete, as they ended, with the seconds since its start."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    place = folder / "live.db"
    storage = f"sqlite:///{place}"
    commands: list[list[str]]
    if method == "lrsearch":
        (folder / "live.toml").write_text(study_file(seed, args.trainings))
        command = [
            sys.executable,
            "-m",
            "lrsearch",
            "run",
            str(folder / "live.toml"),
            "--storage",
            str(place),
            "--quiet",
        ]
        command += ["--threads", "1", "--workers", str(args.workers), "--data-dir", str(args.data), "--device", "cpu"]
        commands = [command]
    else:
        optuna.create_study(study_name=NAME, storage=storage, direction="maximize")
        work = ["--worker", storage, "--seed", str(seed), "--data", str(args.data), "--trials", str(args.trials)]
        commands = [[sys.executable, __file__, *work]] * args.workers
    start = datetime.now()  # noqa: DTZ005 - Optuna's times are local, too
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for command in commands]
    if any(process.wait() for process in running):
        raise SystemExit(f"a search by {method} failed")
    found = optuna.load_study(study_name=NAME, storage=storage).get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    ended = [
        {
            "seconds": (trial.datetime_complete - start).total_seconds(),
            "value": trial.value,
            "optimizer": trial.params["optimizer"],
            "lr": trial.params[f"peak_lr_{trial.params['optimizer']}"],
        }
        for trial in found
        if trial.datetime_complete is not None
    ]
    return sorted(ended, key=lambda one: one["seconds"])


def became_best(ended: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the trials that were the best of their search when they ended."""
    best: list[dict[str, Any]] = []
    for one in ended:
        if not best or one["value"] > best[-1]["value"]:
            best.append(one)
    return best


def confirmed(engine: SerialEngine, epochs: int, one: dict[str, Any], fresh: int) -> float:
    """Return the mean accuracy of a setting over fresh seeds; 0 where one diverged."""
    configs = [config_of(one["optimizer"], one["lr"], epochs, FIRST_FRESH_SEED + seed) for seed in range(fresh)]
    return statistics.fmean(trained(engine, config)["val_acc"][-1] or 0.0 for config in configs)


def best_of(sweep: Path) -> float:
    """Return the best mean accuracy over seeds of a dense sweep."""
    ends = defaultdict(list)
    for line in sweep.read_text().splitlines():
        row = json.loads(line)
        if row["problem"] == PROBLEM and row["optimizer"] in SEARCHED:
            ends[row["optimizer"], row["lr"]].append(row["val_acc"][-1] or 0.0)
    if not ends:
        raise SystemExit(f"{sweep} holds no training of {PROBLEM}")
    return max(statistics.fmean(values) for values in ends.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sweep", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trainings", type=float, default=12.0, help="budget of lrsearch")
    parser.add_argument("--trials", type=int, default=30, help="budget of Optuna")
    parser.add_argument("--fresh", type=int, default=3, help="seeds that a setting is confirmed with")
    parser.add_argument("--within", type=float, default=0.3, help="[points]")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        optuna_worker(args.data, args.worker, args.seed, args.trials)
        return
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    best = best_of(args.sweep)
    engine, epochs = engine_of(PROBLEM, args.data, 1)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for seed in range(args.repetitions):
        for method in ("lrsearch", "optuna"):
            if any((row["method"], row["seed"]) == (method, seed) for row in rows):
                continue
            with tempfile.TemporaryDirectory() as folder:
                ended = searched(method, seed, Path(folder), args)
            reached, looked = math.inf, []
            for one in became_best(ended):
                one["confirmed"] = confirmed(engine, epochs, one, args.fresh)
                looked.append(one)
                if one["confirmed"] >= best - args.within / 100:
                    reached = one["seconds"]
                    break
            row = {
                "method": method,
                "seed": seed,
                "best": best,
                "reached": reached,
                "looked": looked,
                "ended": len(ended),
            }
            rows.append(row)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{method} {seed}: {reached:.1f} s, after {len(looked)} that were the best", flush=True)
    medians = {}
    for method in ("lrsearch", "optuna"):
        seconds = [row["reached"] for row in rows if row["method"] == method]
        medians[method] = statistics.median(seconds)
        print(f"{method:10} median {medians[method]:.1f} s of {sorted(round(one, 1) for one in seconds)}")
    print(f"best mean of the sweep {best:.4f}; lrsearch is {medians['optuna'] / medians['lrsearch']:.2f} times as soon")


if __name__ == "__main__":
    main()

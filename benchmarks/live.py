"""How soon a search of real trainings names a good learning rate: lrsearch beside Optuna as it comes, by the clock.

    python benchmarks/dense_sweep.py --data FOLDER --out SWEEP.jsonl --problems mnist_cnn_10000
    python benchmarks/live.py --data FOLDER --sweep SWEEP.jsonl --out FILE.jsonl [--space rates|default]
                              [--repetitions 5] [--workers 2] [--trainings 12] [--trials 30] [--fresh 3] [--within 0.3]

FOLDER holds MNIST/raw. Both search the same space of one study file and train its cnn on 10,000 images of MNIST for 10
epochs with the same engine, two processes of one thread at a time on one SQLite file. The space ``rates`` is the
optimizer (sgd, adam) and its learning rate within the ranges of the sweep, with a cosine; ``default`` is what a study
file that names none searches. lrsearch is `lrsearch run --strategy lr`; Optuna is its TPE and its median pruner, which
is told the accuracy after each epoch. The clock runs from the start of the processes, imports included, to the end of
the complete trial whose setting, trained anew on fresh seeds, has a mean accuracy within .3 points of the best mean of
the sweep; each setting that became the best of its search is trained so, after the search. Every search takes its turn
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
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import torch
from dense_sweep import OPTIMIZERS, RATES, SWEPT_SCHEDULE, schedule_of, trained

from lrsearch import worker
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import space
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics

PROBLEM, BATCH, NAME = "mnist_cnn_10000", 64, "live"
SEARCHED = ("sgd", "adam")
SPACES = ("rates", "default")
FIRST_FRESH_SEED = 10_000


def text_of(searched_space: str, seed: int, trainings: float) -> str:
    """Return the study file that both are given."""
    lines = [
        f'name = "{NAME}"\nepochs = 10\nseed = {seed}\nprior = "none"\nstrategy = "lr"',
        f"[budget]\ntrainings = {trainings}",
        '[dataset]\nname = "mnist"\nlimit = 10000\n[model]\nname = "cnn"\n[training]\naveraging = "off"',
    ]
    if searched_space == "rates":
        schedule = schedule_of(SWEPT_SCHEDULE)
        lines.append(
            f'[space]\nbatch_size = {BATCH}\nschedule = "{schedule.family}"\n'
            f"warmup_fraction = {schedule.warmup_fraction}\nfinal_fraction = {schedule.final_fraction}"
        )
        for name in SEARCHED:
            low, high = RATES[name]
            fixed = "\n".join(f"{key} = {json.dumps(value)}" for key, value in OPTIMIZERS[name].items())
            lines.append(f"[space.optimizer.{name}]\npeak_lr = {{ low = {low}, high = {high}, log = true }}\n{fixed}")
    return "\n".join(lines) + "\n"


def engine_of(spec: StudySpec, data: Path) -> SerialEngine:
    """Return what trains the study."""
    engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=data, progress=False)
    assert isinstance(engine, SerialEngine)
    return engine


def optuna_worker(file: Path, data: Path, storage: str, trials: int) -> None:
    """Work on a study as Optuna's users do, until it has so many trials."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = study_file.load(str(file))
    engine = engine_of(spec, data)

    def objective(trial: optuna.Trial) -> float:
        space.suggest(trial, spec.space)
        value = math.nan
        for told in engine.start(parameters.config(spec, trial.params)).epochs():
            if isinstance(told, Divergence):
                raise optuna.TrialPruned
            if isinstance(told, EpochMetrics):
                value = told.val_accuracy
                trial.report(value, told.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return value

    study = optuna.load_study(
        study_name=NAME, storage=storage, sampler=optuna.samplers.TPESampler(seed=spec.seed + os.getpid())
    )
    enough = optuna.study.MaxTrialsCallback(trials, states=None)
    study.optimize(objective, callbacks=[enough])


def searched(method: str, seed: int, folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one search; return its trials that are complete, as they ended, with the seconds since its start."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    place, file = folder / "live.db", folder / "live.toml"
    file.write_text(text_of(args.space, seed, args.trainings))
    storage = f"sqlite:///{place}"
    commands: list[list[str]]
    if method == "lrsearch":
        command = [sys.executable, "-m", "lrsearch", "run", str(file), "--storage", str(place), "--quiet"]
        command += ["--threads", "1", "--workers", str(args.workers), "--data-dir", str(args.data), "--device", "cpu"]
        commands = [command]
    else:
        optuna.create_study(study_name=NAME, storage=storage, direction="maximize")
        work = ["--worker", storage, "--file", str(file), "--data", str(args.data), "--trials", str(args.trials)]
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
            "params": trial.params,
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


def confirmed(spec: StudySpec, engine: SerialEngine, one: dict[str, Any], fresh: int) -> float:
    """Return the mean accuracy of a setting over fresh seeds; 0 where one diverged."""
    config = parameters.config(spec, one["params"])
    configs = [replace(config, seed=FIRST_FRESH_SEED + seed) for seed in range(fresh)]
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
    parser.add_argument("--space", choices=SPACES, default=SPACES[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trainings", type=float, default=12.0, help="budget of lrsearch")
    parser.add_argument("--trials", type=int, default=30, help="budget of Optuna")
    parser.add_argument("--fresh", type=int, default=3, help="seeds that a setting is confirmed with")
    parser.add_argument("--within", type=float, default=0.3, help="[points]")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        optuna_worker(args.file, args.data, args.worker, args.trials)
        return
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    best = best_of(args.sweep)
    spec = study_file.build(tomllib.loads(text_of(args.space, 0, args.trainings)), NAME)
    engine = engine_of(spec, args.data)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for seed in range(args.repetitions):
        for method in ("lrsearch", "optuna"):
            if any((row["method"], row["seed"]) == (method, seed) for row in rows):
                continue
            with tempfile.TemporaryDirectory() as folder:
                ended = searched(method, seed, Path(folder), args)
            reached, looked = math.inf, []
            for one in became_best(ended):
                one["confirmed"] = confirmed(spec, engine, one, args.fresh)
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

"""Whether each training is called what it is: trainings made to go a certain way, and what the diagnosis says of them.

    python benchmarks/diagnosis.py --data FOLDER [--problems digits mnist] [--seeds 1 2 3] [--threads 1] [--all]

The truth is known from how a training was made, not from its curve:

* healthy: a rate from the middle of the good range, cosine;
* diverged: a hundred times the best rate and more, or the first rate of a ladder at which the training ends;
* unstable: the last rate of a ladder (factor 1.5, constant, no warm-up) at which the training still goes through;
* too slow: a hundredth of the best rate;
* stuck at chance: a ten-millionth of it;
* plateaued: a tenth of the best rate, which falls to a thousandth of itself after a tenth of the epochs;
* overfitting: 100 training images, the best rate, constant, 60 epochs.

The rules were made while looking at seed 0 of digits and mnist, and at nothing of mnist_cnn.

Prints the confusion matrix as Markdown, then every training that is called something else than it was made for.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lrsearch import worker
from lrsearch.analysis.trial_diagnosis import Condition, TrialDiagnosis, diagnose_trial
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import (
    Divergence,
    EpochMetrics,
    OptimizerConfig,
    Outcome,
    Reason,
    ScheduleConfig,
    State,
    Trial,
    TrialConfig,
)

MNIST = {"name": "mnist", "limit": 2500}
PROBLEMS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": {"name": "digits"}, "model": {"name": "mlp"}},
    "mnist": {"dataset": MNIST, "model": {"name": "mlp"}},
    "mnist_cnn": {"dataset": {**MNIST, "limit": 1500}, "model": {"name": "cnn"}},
    "few mnist_cnn": {"dataset": {**MNIST, "limit": 300, "validation_fraction": 2 / 3}, "model": {"name": "cnn"}},
    "few digits": {"dataset": {"name": "digits", "limit": 300, "validation_fraction": 2 / 3}, "model": {"name": "mlp"}},
    "few mnist": {"dataset": {**MNIST, "limit": 300, "validation_fraction": 2 / 3}, "model": {"name": "mlp"}},
}
SETTINGS = {
    "sgd": OptimizerConfig("sgd", 0.05, 5e-4, momentum=0.9, dampening=0.0, nesterov=False),
    "adam": OptimizerConfig("adam", 0.002, 0.0, beta1=0.9, beta2=0.999, eps=1e-8),
}
"""Each optimizer at its best rate on these problems, from dense sweeps (benchmarks/safe_interval.py)."""
COSINE = ScheduleConfig("cosine", 0.05, 0.001)
CONSTANT = ScheduleConfig("constant")
EARLY = ScheduleConfig("multistep", 0.0, 0.001, milestones=(0.1,))
LADDER = 1.5
EPOCHS, LONG = 12, 60


@dataclass(frozen=True)
class Made:
    """A training that was made to go in one way."""

    problem: str
    condition: Condition
    trial: Trial
    said: TrialDiagnosis


class Trainer:
    """Trains settings of the problems."""

    def __init__(self, data: Path, threads: int) -> None:
        self._data, self._threads = data, threads
        self._engines: dict[str, tuple[SerialEngine, StudySpec]] = {}

    def trained(self, problem: str, config: TrialConfig) -> tuple[Trial, TrialDiagnosis]:
        """Return the trial that a study would keep of a training, and what is said of it."""
        if problem not in self._engines:
            tables = {
                "name": problem.replace(" ", "-"),
                "epochs": config.epochs,
                "space": {"batch_size": 32},
            } | PROBLEMS[problem]
            spec = study_file.build(json.loads(json.dumps(tables)), problem)
            engine = worker.build_engine(
                spec, device_name="cpu", threads=self._threads, data_dir=self._data, progress=False
            )
            assert isinstance(engine, SerialEngine)
            self._engines[problem] = engine, spec
        engine, spec = self._engines[problem]
        rows: list[EpochMetrics] = []
        outcome = None
        for told in engine.start(config).epochs():
            if isinstance(told, Divergence):
                outcome = Outcome(State.DIVERGED, told.reason, None, len(rows), told.step, told.lr)
            elif isinstance(told, EpochMetrics):
                rows.append(told)
        if outcome is None:
            outcome = Outcome(State.COMPLETE, Reason.FINISHED, rows[-1].val_accuracy, len(rows))
        trial = Trial(0, config, outcome.state, outcome, tuple(rows))
        return trial, diagnose_trial(trial, spec)


def made(trainer: Trainer, problems: Sequence[str], seeds: Sequence[int]) -> Iterator[Made]:
    """Yield the trainings, each with what it was made for."""
    for problem in problems:
        for best in SETTINGS.values():
            for seed in seeds:
                for condition, part, schedule, epochs in (
                    (Condition.HEALTHY, 1.0, COSINE, EPOCHS),
                    (Condition.TOO_SLOW, 0.01, COSINE, EPOCHS),
                    (Condition.TOO_SLOW, 0.01, CONSTANT, EPOCHS),
                    (Condition.AT_CHANCE, 1e-7, CONSTANT, EPOCHS),
                    (Condition.PLATEAUED, 0.1, EARLY, 2 * EPOCHS),
                ):
                    config = TrialConfig(replace(best, peak_lr=part * best.peak_lr), schedule, 64, epochs, seed)
                    yield Made(problem, condition, *trainer.trained(problem, config))
                few = TrialConfig(best, CONSTANT, 32, LONG, seed)
                yield Made(f"few {problem}", Condition.OVERFITTING, *trainer.trained(f"few {problem}", few))
        best = SETTINGS["sgd"]
        for seed in seeds:
            for times in (100, 1000, 10000):
                config = TrialConfig(replace(best, peak_lr=times * best.peak_lr), COSINE, 64, EPOCHS, seed)
                yield Made(problem, Condition.DIVERGED, *trainer.trained(problem, config))
            yield from _ladder(trainer, problem, best, seed)


def _ladder(trainer: Trainer, problem: str, best: OptimizerConfig, seed: int) -> Iterator[Made]:
    """Yield the last rate at which a training goes through, and the first at which it ends."""
    rate, below = 4 * best.peak_lr, None
    while True:
        config = TrialConfig(replace(best, peak_lr=rate), CONSTANT, 64, EPOCHS, seed)
        trial, said = trainer.trained(problem, config)
        if trial.state == State.DIVERGED:
            if below is not None:
                yield Made(problem, Condition.UNSTABLE, *below)
            yield Made(problem, Condition.DIVERGED, trial, said)
            return
        below, rate = (trial, said), rate * LADDER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", default=["digits", "mnist"], choices=["digits", "mnist", "mnist_cnn"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="print what is said of every training")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = list(made(Trainer(args.data, args.threads), args.problems, args.seeds))
    counts = Counter((one.condition, one.said.condition) for one in found)
    print(f"{len(found)} trainings\n")
    print("| made to be | " + " | ".join(Condition) + " |\n|" + "--|" * (len(Condition) + 1))
    for condition in Condition:
        cells = [str(counts[condition, said] or "") for said in Condition]
        if any(cells):
            print(f"| {condition} | " + " | ".join(cells) + " |")
    for one in found:
        if args.all or one.said.condition != one.condition:
            config = one.trial.config
            print(
                f"\n{one.condition}: {one.problem} {config.optimizer.name} {config.optimizer.peak_lr:.3g} "
                f"{config.schedule.family} seed {config.seed}: {one.said.sentence}"
            )
            print("  train", *(f"{row.train_loss:.3g}" for row in one.trial.metrics))
            print("  val  ", *(f"{row.val_loss:.3g}" for row in one.trial.metrics))


if __name__ == "__main__":
    main()

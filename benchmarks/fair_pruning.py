"""Record what pruners could have looked at: random trials trained through, every epoch of each written down.

    python benchmarks/fair_pruning.py record --data FOLDER --out FILE.jsonl [--problems mnist_cnn digits_mlp emoji_resnet9]
    python benchmarks/fair_pruning.py judge FILE.jsonl [--problem mnist_cnn]

FOLDER holds MNIST/raw and emoji/pictures. Trials are drawn at random from the default space with sgd and adam. A line for
each: problem, trial, its setting, and a value an epoch of val_acc, val_loss, averaged_val_acc, averaged_val_loss,
train_loss, lr (of its last update, over the peak), area (part of the sum of all learning rates that is behind), comparable,
and cool_acc, cool_loss: after a virtual cool-down of half an epoch, at COOLED alone. Run again it goes on where it stopped.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from lrsearch import worker
from lrsearch.schedules import comparable_from, factors
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.store import space
from lrsearch.training.serial import SerialEngine, SerialTraining
from lrsearch.trial import Divergence, EpochMetrics, TrialConfig

PROBLEMS: dict[str, tuple[dict[str, Any], int, int]] = {
    "mnist_cnn": ({"dataset": {"name": "mnist", "limit": 5000}, "model": {"name": "cnn"}}, 10, 150),
    "mnist_mlp": ({"dataset": {"name": "mnist", "limit": 2500}, "model": {"name": "mlp"}}, 12, 150),
    "emoji_cnn": ({"dataset": {"name": "folder:EMOJI", "image_size": 32}, "model": {"name": "cnn"}}, 10, 150),
    "digits_mlp": ({"dataset": {"name": "digits"}, "model": {"name": "mlp"}}, 10, 300),
    "emoji_resnet9": ({"dataset": {"name": "folder:EMOJI", "image_size": 32}, "model": {"name": "resnet9"}}, 6, 60),
}
"""What is trained, for how many epochs, and how many trials."""
COOLED = (0.2, 0.4)
"""After which parts of the training the virtual cool-down is tried."""
COOL_DOWN_EPOCHS = 0.5


def spec_of(problem: str, data: Path) -> StudySpec:
    """Return the study of a problem."""
    tables, epochs, _ = PROBLEMS[problem]
    space = {"optimizer": ["sgd", "adam"]}
    text = json.dumps({"name": problem, "epochs": epochs, "space": space, "training": {"averaging": "on"}, **tables})
    return study_file.build(json.loads(text.replace("EMOJI", str(data / "emoji" / "pictures"))), problem)


def drawn(spec: StudySpec, n: int) -> list[TrialConfig]:
    """Return random settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    out: list[TrialConfig] = []
    for _ in range(n):
        asked = study.ask()
        space.suggest(asked, spec.space)
        out.append(space.config(spec, asked.params))
    return out


def finite(value: float | None) -> float | None:
    """Return a number that JSON knows."""
    return None if value is None or not math.isfinite(value) else value


def cooled(engine: SerialEngine, config: TrialConfig, training: SerialTraining) -> tuple[float | None, float | None]:
    """Return accuracy and loss after half an epoch whose rate falls linearly to zero from where it is."""
    twin = engine.start(config, training.checkpoint())
    n = max(1, round(COOL_DOWN_EPOCHS * twin.steps_per_epoch))
    now = twin._lrs[twin.step - 1]  # noqa: SLF001 - no public way leads off a schedule
    for i in range(n):
        twin._lrs[twin.step + i] = now * (n - i) / (n + 1)  # noqa: SLF001
    twin._look_every = twin.steps_per_epoch + 1  # noqa: SLF001
    order = torch.Generator()
    order.set_state(twin._order)  # noqa: SLF001
    training_epoch = twin._train_epoch(order)  # noqa: SLF001
    twin._attention = Until(n)  # noqa: SLF001
    next(training_epoch, None)
    scores = twin.evaluate(engine.splits.validation)
    return finite(scores.accuracy), finite(scores.loss)


class Until:
    """Asks for attention after so many updates."""

    def __init__(self, n: int) -> None:
        self._left = n + 1

    def is_set(self) -> bool:
        """Count an update."""
        self._left -= 1
        return self._left <= 0

    def ends(self) -> bool:
        """End here."""
        return True


def recorded(engine: SerialEngine, spec: StudySpec, config: TrialConfig) -> dict[str, Any]:
    """Train one setting through; a value an epoch."""
    training = engine.start(config)
    shape = factors(config.schedule, training.n_steps)
    area = np.cumsum(shape) / shape.sum()
    first = comparable_from(config.schedule, spec.epochs)
    columns: dict[str, list[Any]] = {}
    diverged: str | None = None
    begun = time.perf_counter()
    cool_seconds = 0.0
    for told in training.epochs():
        if isinstance(told, Divergence):
            diverged = told.reason.value
        if not isinstance(told, EpochMetrics):
            break
        row: dict[str, Any] = {
            "val_acc": finite(told.val_accuracy),
            "val_loss": finite(told.val_loss),
            "averaged_val_acc": finite(told.averaged_val_accuracy),
            "averaged_val_loss": finite(told.averaged_val_loss),
            "train_loss": finite(told.train_loss),
            "lr": told.lr / config.optimizer.peak_lr,
            "area": float(area[told.step - 1]),
            "comparable": told.epoch >= first,
            "cool_acc": None,
            "cool_loss": None,
        }
        if told.epoch in {round(part * spec.epochs) for part in COOLED}:
            before = time.perf_counter()
            row["cool_acc"], row["cool_loss"] = cooled(engine, config, training)
            cool_seconds += time.perf_counter() - before
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    setting = {
        "optimizer": config.optimizer.name,
        "peak_lr": config.optimizer.peak_lr,
        "schedule": config.schedule.family,
        "batch_size": config.batch_size,
    }
    seconds = time.perf_counter() - begun - cool_seconds
    return setting | columns | {"diverged": diverged, "seconds": seconds}


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield what was recorded."""
    if file.exists():
        for line in file.read_text().splitlines():
            yield json.loads(line)


def record(args: argparse.Namespace) -> None:
    """Record what is not recorded yet."""
    torch.set_num_threads(1)
    behind = {(line["problem"], line["trial"]) for line in lines(args.out)}
    for problem in args.problems:
        spec, n = spec_of(problem, args.data), args.trials or PROBLEMS[problem][2]
        engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=args.data, progress=False)
        assert isinstance(engine, SerialEngine)
        for trial, config in enumerate(drawn(spec, n)):
            if (problem, trial) in behind:
                continue
            line = {"problem": problem, "trial": trial, "epochs": spec.epochs} | recorded(engine, spec, config)
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(f"{problem}: done", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", choices=[*PROBLEMS], default=[*PROBLEMS])
    parser.add_argument("--trials", type=int, help="of each problem; by default as many as PROBLEMS says")
    record(parser.parse_args())


if __name__ == "__main__":
    main()

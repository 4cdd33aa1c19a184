"""Schedules by branching: what one trunk and its tails say of eight full trainings, and what they cost.

    python benchmarks/branching.py --data FOLDER --out FILE.jsonl [--limit 2000] [--epochs 10] [--threads 1]
                                   [--settings sgd=0.02 sgd=0.05 adamw=0.001 adamw=0.003]

FOLDER holds MNIST/raw. At each optimizer and peak learning rate a trunk is trained at a constant rate, its state kept
after each epoch from which a tail branches; then each tail from its checkpoint, and each tail once more as a full
training of its own. Printed for each setting: Kendall's tau-b of the final validation accuracies, whether the weights
are equal bit for bit, and the cost of trunk and tails in parts of the full trainings, in epochs and in seconds of the
processor (starting a training and reading and writing its state included). A line for each training goes to FILE.jsonl;
run again it goes on where it stopped.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from lrsearch import worker
from lrsearch.sharing import shared_epochs
from lrsearch.spec import file as study_file
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

BATCH, WARMUP = 64, 0.05
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"weight_decay": 5e-4, "momentum": 0.9, "dampening": 0.0, "nesterov": False},
    "adamw": {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
}
TRUNK = ScheduleConfig("constant", WARMUP)
TAILS = {
    "wsd, the last 10 %": ScheduleConfig("wsd", WARMUP, 0.0, decay_fraction=0.1),
    "wsd, the last 20 %": ScheduleConfig("wsd", WARMUP, 0.0, decay_fraction=0.2),
    "wsd, the last 30 %": ScheduleConfig("wsd", WARMUP, 0.0, decay_fraction=0.3),
    "wsd, the last 40 %": ScheduleConfig("wsd", WARMUP, 0.0, decay_fraction=0.4),
    "wsd_cosine, the last 20 %": ScheduleConfig("wsd_cosine", WARMUP, 0.0, decay_fraction=0.2),
    "wsd_cosine, the last 30 %": ScheduleConfig("wsd_cosine", WARMUP, 0.0, decay_fraction=0.3),
    "step, one drop": ScheduleConfig("step", WARMUP, 0.1, drops=1),
    "multistep at 90 %": ScheduleConfig("multistep", WARMUP, 0.1, milestones=(0.9,)),
}


class Record:
    """The trainings that were made, a line each, so that a run goes on where the last one stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._made: dict[tuple[str, str, str], dict[str, Any]] = {_key(one): one for one in map(json.loads, lines)}

    def get(self, setting: str, tail: str, how: str) -> dict[str, Any] | None:
        """Return a training: of which setting and tail, and whether as a branch or full."""
        return self._made.get((setting, tail, how))

    def add(self, one: dict[str, Any]) -> None:
        """Write a training down."""
        self._made[_key(one)] = one
        with self._path.open("a") as out:
            out.write(json.dumps(one) + "\n")


def _key(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["setting"], one["tail"], one["how"]


def trained(engine: SerialEngine, config: TrialConfig, kept: bytes | None = None) -> dict[str, Any]:
    """Train from the beginning, or from a checkpoint, to the end."""
    begun = time.process_time()
    training = engine.start(config, kept)
    first = training.step // training.steps_per_epoch
    told = list(training.epochs())
    last = told[-1]
    accuracy = last.val_accuracy if isinstance(last, EpochMetrics) else None
    digest = hashlib.sha256(training.weights()).hexdigest()
    epochs = training.step / training.steps_per_epoch - first
    return {"accuracy": accuracy, "epochs": epochs, "seconds": time.process_time() - begun, "weights_sha256": digest}


def trunk(engine: SerialEngine, config: TrialConfig, at: set[int]) -> tuple[dict[int, bytes], float]:
    """Train as far as the last of some epochs; return the states after them, and the seconds it took."""
    begun, kept, training = time.process_time(), dict[int, bytes](), engine.start(config)
    for told in training.epochs():
        if isinstance(told, Divergence):
            raise SystemExit(f"a trunk must be trained to its last branch, and {config.optimizer} diverged")
        assert isinstance(told, EpochMetrics)
        if told.epoch in at:
            kept[told.epoch] = training.checkpoint()
        if told.epoch == max(at):
            break
    return kept, time.process_time() - begun


def measure(engine: SerialEngine, record: Record, name: str, epochs: int) -> None:
    """Train what is missing of one setting."""
    optimizer, _, rate = name.partition("=")
    flat = TrialConfig(OptimizerConfig(optimizer, float(rate), **OPTIMIZERS[optimizer]), TRUNK, BATCH, epochs, seed=0)
    steps = engine.start(flat).steps_per_epoch
    tails = {tail: _of(flat, schedule) for tail, schedule in TAILS.items()}
    shared = {tail: shared_epochs(flat, config, steps) for tail, config in tails.items()}
    if any(record.get(name, tail, "branch") is None for tail in tails):
        kept, seconds = trunk(engine, flat, set(shared.values()))
        size = len(next(iter(kept.values())))
        record.add(
            {"setting": name, "tail": "", "how": "trunk", "epochs": max(kept), "seconds": seconds, "bytes": size}
        )
        for tail, config in tails.items():
            made = trained(engine, config, kept[shared[tail]])
            record.add({"setting": name, "tail": tail, "how": "branch", "shared": shared[tail], **made})
    for tail, config in tails.items():
        if record.get(name, tail, "full") is None:
            record.add({"setting": name, "tail": tail, "how": "full", **trained(engine, config)})


def _of(flat: TrialConfig, schedule: ScheduleConfig) -> TrialConfig:
    return TrialConfig(flat.optimizer, schedule, flat.batch_size, flat.epochs, flat.seed)


def row(record: Record, name: str) -> str:
    """Return what a setting came to, as a row of a table."""
    pairs = [(record.get(name, tail, "branch"), record.get(name, tail, "full")) for tail in TAILS]
    branches, full = ([one for one in side if one is not None] for side in zip(*pairs, strict=True))
    stem = record.get(name, "", "trunk")
    assert stem is not None
    tau = kendalltau(
        *([-1.0 if one["accuracy"] is None else one["accuracy"] for one in side] for side in (branches, full))
    )
    equal = sum(a["weights_sha256"] == b["weights_sha256"] for a, b in zip(branches, full, strict=True))
    costs = [
        (stem[unit] + sum(one[unit] for one in branches)) / sum(one[unit] for one in full)
        for unit in ("epochs", "seconds")
    ]
    found = [one["accuracy"] for one in full if one["accuracy"] is not None]
    spread = f"{100 * min(found):.2f} to {100 * max(found):.2f} %"
    return (
        f"| {name} | {spread} | {tau.statistic:.2f} | {equal} of {len(full)} | {100 * costs[0]:.1f} % | "
        f"{100 * costs[1]:.1f} % | {stem['bytes'] / 1e6:.2f} MB |"
    )


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--settings", nargs="+", default=["sgd=0.02", "sgd=0.05", "adamw=0.001", "adamw=0.003"])
    asked = parser.parse_args()
    tables = {"dataset": {"name": "mnist", "limit": asked.limit}, "model": {"name": "cnn"}}
    spec = study_file.build({"name": "branching", "epochs": asked.epochs, **tables}, "benchmarks/branching.py")
    engine = worker.build_engine(spec, device_name="cpu", threads=asked.threads, data_dir=asked.data, progress=False)
    assert isinstance(engine, SerialEngine)
    record = Record(asked.out)
    print("| optimizer and rate | accuracies of 8 tails | tau | equal weights | epochs | seconds | a state |")
    print("|--|--|--|--|--|--|--|")
    for name in asked.settings:
        measure(engine, record, name, asked.epochs)
        print(row(record, name), flush=True)


if __name__ == "__main__":
    main()

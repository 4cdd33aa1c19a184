"""Is the trainer right? Published accuracies on MNIST, reproduced.

An MLP 784-100-100-10 with torch's default initialisation, inputs normalised by mean .1307 and deviation .3081, batches
of 128 dropping the last, a constant learning rate, 10 epochs over all 60,000 images, mean of 3 seeds on the 10,000 test
images, divergence watch off. Published: the step-back records.

    python benchmarks/reference_mnist.py --data FOLDER [--settings adam-1e-3 ...] [--json]

FOLDER holds MNIST/raw in torchvision's layout. Exit code 1 if a number is missed.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lrsearch.training import device
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.download import read
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

TOLERANCE = 0.003


@dataclass(frozen=True)
class Reference:
    """A setting and what was published for it: a mean accuracy, or a ceiling, or that it is not finite."""

    optimizer: OptimizerConfig
    accuracy: float | None = None
    tolerance: float = TOLERANCE
    below: float | None = None
    not_finite: bool = False


def sgd(lr: float) -> OptimizerConfig:
    return OptimizerConfig("sgd", lr, momentum=0.9, dampening=0.9)


def adam(lr: float) -> OptimizerConfig:
    return OptimizerConfig("adam", lr)


REFERENCES = {
    "adam-1e-4": Reference(adam(1e-4), 0.9598),
    "adam-1e-3": Reference(adam(1e-3), 0.9775),
    "adam-1e-2": Reference(adam(1e-2), 0.9646),
    "adam-1e-1": Reference(adam(1e-1), below=0.5),
    "sgd-0.01": Reference(sgd(0.01), 0.9473),
    "sgd-0.1": Reference(sgd(0.1), 0.9773),
    "sgd-1": Reference(sgd(1.0), 0.9708, tolerance=0.006),  # its seeds scatter
    "sgd-10": Reference(sgd(10.0), not_finite=True),
}


def splits(folder: Path) -> ImageSplits:
    """All 60,000 training images to train on; the test images stand where a search has its validation."""
    sets = read("mnist", folder, download=False, progress=False)
    return ImageSplits(
        train=ImageSet(sets.train_images, sets.train_labels),
        validation=ImageSet(sets.test_images, sets.test_labels),
        test=ImageSet(sets.test_images, sets.test_labels),
        classes=sets.classes,
        mean=(0.1307,),
        std=(0.3081,),
    )


def last_epoch(engine: SerialEngine, reference: Reference, seed: int, epochs: int) -> EpochMetrics:
    config = TrialConfig(reference.optimizer, ScheduleConfig("constant"), 128, epochs, seed)
    *_, last = engine.start(config).epochs()
    if not isinstance(last, EpochMetrics):
        raise SystemExit("the divergence watch must be off")
    return last


def verdict(reference: Reference, runs: list[EpochMetrics]) -> tuple[bool, str]:
    mean = sum(r.val_accuracy for r in runs) / len(runs)
    if reference.accuracy is not None:
        return abs(
            mean - reference.accuracy
        ) <= reference.tolerance, f"{reference.accuracy:.4f} +- {reference.tolerance}"
    if reference.below is not None:
        return all(r.val_accuracy < reference.below for r in runs), f"below {reference.below} in every seed"
    return all(not math.isfinite(r.val_loss) for r in runs), "loss not finite in every seed"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="folder that holds MNIST/raw")
    p.add_argument("--settings", nargs="+", choices=list(REFERENCES), default=list(REFERENCES))
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--device", default="auto")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    where = device.resolve(o.device)
    device.prepare(where, o.threads)
    rules = Rules(drop_last=True, divergence_watch=False, averaging=False)
    engine = SerialEngine(splits(o.data), ModelConfig("mlp", (100, 100)), where, rules)
    rows, missed = [], 0
    for name in o.settings:
        begun = time.perf_counter()
        runs = [last_epoch(engine, REFERENCES[name], seed, o.epochs) for seed in range(o.seeds)]
        ok, expected = verdict(REFERENCES[name], runs)
        missed += not ok
        row = {
            "setting": name,
            "published": expected,
            "mean": round(sum(r.val_accuracy for r in runs) / len(runs), 4),
            "seeds": [round(r.val_accuracy, 4) for r in runs],
            "finite": all(math.isfinite(r.val_loss) for r in runs),
            "ok": ok,
            "seconds": round(time.perf_counter() - begun, 1),
        }
        rows.append(row)
        if not o.json:
            seeds = " ".join(f"{a:.4f}" for a in row["seeds"])
            finite = "" if row["finite"] else " (loss not finite)"
            print(
                f"{name:10} {row['mean']:.4f}{finite}  [{seeds}]  published {expected}  {'ok' if ok else 'MISSED'}",
                flush=True,
            )
    if o.json:
        print(json.dumps({"device": engine.device, "versions": engine.versions, "rows": rows}))
    else:
        print(f"{engine.device}; {engine.versions}; torch {torch.__version__}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

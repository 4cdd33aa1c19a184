"""Pictures decoded per second, and images trained on per second, beside what people write by hand; ratios of one run.

    python benchmarks/vision.py --pictures FOLDER [--parts decode train] [--models cnn resnet9 torchvision/resnet18]
                                [--sizes 32 64] [--images 512] [--repeats 3] [--threads 2] [--device cpu]

                                [--sizes 32 64] [--images 512] [--repeats 3] [--threads 2]

decode  all pictures of FOLDER to 64x64, once: ours into an empty cache; a plain loop of Pillow (open, put on white,
        resize, to bytes); torchvision's ImageFolder with Resize and PILToTensor, read item by item
train   updates of SGD with momentum, batch 64, the moving average and the watch of our trainings switched off: ours;
        a bare loop on tensors that lie in memory (shuffle, gather, normalise, forward, backward, step); the loop with
        a DataLoader of two workers over ImageFolder with Resize, ToTensor and Normalize
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from lrsearch import cores
from lrsearch.pictures import own
from lrsearch.spec.study import DatasetSpec
from lrsearch.training import device as devices
from lrsearch.training import models
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

BATCH = 64
DECODED = 64
"""[pixels]"""
MEAN, STD = 0.5, 0.25


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turn(columns: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each column, run in turn."""
    found: dict[str, list[float]] = {name: [] for name in columns}
    for _ in range(repeats):
        for name, work in columns.items():
            found[name].append(timed(work))
    return found


def show(what: str, n: int, seconds: dict[str, list[float]]) -> None:
    """Print how many a second each column makes, and how ours stands to each of the others."""
    ours = seconds["ours"]
    parts = [f"{what:34}"]
    for name, theirs in seconds.items():
        rate = n / statistics.median(theirs)
        if name == "ours":
            parts.append(f"ours {rate:8.0f}/s")
        else:
            ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            parts.append(f"{name} {rate:8.0f}/s  ours/{name} {middle:5.2f} ({low:.2f} to {high:.2f})")
    print("  ".join(parts), flush=True)


# --- decoding --------------------------------------------------------------------------------------------------------


def by_us(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as cache:
        own.gather(DatasetSpec(name=f"folder:{folder}", image_size=DECODED, resize="squash"), cache=Path(cache))


def by_pillow(folder: Path) -> np.ndarray:
    out = []
    for path in sorted(folder.glob("*/*")):
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
        picture = picture.resize((DECODED, DECODED), Image.Resampling.BILINEAR)
        out.append(np.asarray(picture).transpose(2, 0, 1))
    return np.stack(out)


def by_image_folder(folder: Path) -> torch.Tensor:
    bring = transforms.Compose([transforms.Resize((DECODED, DECODED)), transforms.PILToTensor()])
    return torch.stack([image for image, _ in ImageFolder(str(folder), bring)])


# --- training --------------------------------------------------------------------------------------------------------


def splits_of(folder: Path, size: int, n: int) -> ImageSplits:
    read = own.read(DatasetSpec(name=f"folder:{folder}", image_size=size, resize="squash", channels=3))
    rows = torch.from_numpy(np.random.RandomState(0).permutation(len(read.labels))[:n])
    images = torch.from_numpy(np.array(read.images)).index_select(0, rows)
    train = ImageSet(images, torch.from_numpy(read.labels)[rows])
    few = ImageSet(train.images[:BATCH], train.labels[:BATCH])
    return ImageSplits(train, few, few, read.classes, (MEAN,) * 3, (STD,) * 3)


def our_epoch(engine: SerialEngine, config: TrialConfig) -> Callable[[], object]:
    return lambda: list(engine.start(config).epochs())


def sgd(model: nn.Module, where: torch.device) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=where.type in ("cpu", "cuda"))


def built(name: str, splits: ImageSplits, where: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return models.build(ModelConfig(name), splits.shape, splits.n_classes).to(where)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    loss = functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def judged(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Do what ours does after an epoch: one pass over as many validation images."""
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def bare_epoch(name: str, splits: ImageSplits, where: torch.device) -> Callable[[], object]:
    images, labels = splits.train.images.to(where), splits.train.labels.to(where)

    def epoch() -> None:
        model = built(name, splits, where)
        optimizer = sgd(model, where)
        model.train()
        for rows in torch.randperm(len(labels)).to(where).split(BATCH):
            batch = images.index_select(0, rows).float().div_(255).sub_(MEAN).div_(STD)
            step(model, optimizer, batch, labels.index_select(0, rows))
        judged(model, (images[:BATCH].float() / 255 - MEAN) / STD, labels[:BATCH])

    return epoch


def loader_epoch(name: str, folder: Path, size: int, splits: ImageSplits, where: torch.device) -> Callable[[], object]:
    bring = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize((MEAN,) * 3, (STD,) * 3)]
    dataset = ImageFolder(str(folder), transforms.Compose(bring))
    some = Subset(dataset, range(0, len(dataset), max(1, len(dataset) // len(splits.train))))
    some = Subset(some, range(len(splits.train)))

    def epoch() -> None:
        model = built(name, splits, where)
        optimizer = sgd(model, where)
        model.train()
        for images, labels in DataLoader(some, BATCH, shuffle=True, num_workers=2):
            step(model, optimizer, images.to(where), labels.to(where))
        judged(model, images.to(where), labels.to(where))

    return epoch


def main() -> None:
    cores.wait_passively()
    warnings.filterwarnings("ignore", "Palette images with Transparency")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pictures", type=Path, required=True, metavar="FOLDER")
    p.add_argument("--parts", nargs="+", default=["decode", "train"])
    p.add_argument("--models", nargs="+", default=["cnn", "resnet9", "torchvision/resnet18"])
    p.add_argument("--sizes", nargs="+", type=int, default=[32, 64], help="[pixels]")
    p.add_argument("--images", type=int, default=512, help="trained on in an epoch")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", default="cpu")
    o = p.parse_args()
    where = devices.resolve(o.device)
    devices.prepare(where, o.threads)
    if "decode" in o.parts:
        n = len(list(o.pictures.glob("*/*")))
        columns = {"ours": by_us, "Pillow": by_pillow, "ImageFolder": by_image_folder}
        work = {name: (lambda read=read: read(o.pictures)) for name, read in columns.items()}
        show(f"decode {n:,} pictures to {DECODED}x{DECODED}", n, in_turn(work, o.repeats))
    if "train" in o.parts:
        for size in o.sizes:
            splits = splits_of(o.pictures, size, o.images)
            for name in o.models:
                config = TrialConfig(
                    OptimizerConfig("sgd", 0.01, momentum=0.9), ScheduleConfig("constant"), BATCH, 1, 0
                )
                engine = SerialEngine(splits, ModelConfig(name), where, Rules(divergence_watch=False, averaging=False))
                work = {
                    "ours": our_epoch(engine, config),
                    "bare": bare_epoch(name, splits, where),
                    "DataLoader": loader_epoch(name, o.pictures, size, splits, where),
                }
                for one in work.values():
                    one()  # the first allocates
                show(f"train {name} {size}x{size}", len(splits.train), in_turn(work, o.repeats))


if __name__ == "__main__":
    main()

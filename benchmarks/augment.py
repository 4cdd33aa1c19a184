"""Images changed per second, and what that costs a training, beside what people write by hand; ratios of one run.

    python benchmarks/augment.py [--parts change train] [--size 32] [--batch 64] [--images 2048] [--repeats 5]
                                 [--threads 1] [--workers 2] [--models cnn] [--device cpu]

change  an epoch of images of bytes, made ready for the network: ours, batched; torchvision's transforms v2 on one image
        at a time (given a whole batch they draw once for all of it), in a loop; the same in a DataLoader with workers
train   an epoch of training, average and watch switched off: ours without augmentation, and ours with flip and crop;
        the usual loop over a DataLoader with workers that flip and crop by torchvision

The images are noise in memory: nobody decodes anything. Blending is not among torchvision's transforms of one image:
its MixUp and CutMix draw one share for a whole batch.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from lrsearch import cores
from lrsearch.spec.training import AugmentSpec
from lrsearch.training import device as devices
from lrsearch.training import models
from lrsearch.training.augment.augmenter import Augmenter
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import CHUNK_ELEMENTS, Rules, SerialEngine
from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

MEAN, STD = 0.5, 0.25
BILINEAR = v2.InterpolationMode.BILINEAR


def per_image(keys: str, size: int) -> list[v2.Transform]:
    """Return torchvision's transforms of one image for the same changes."""
    made: dict[str, Callable[[], v2.Transform]] = {
        "flip": v2.RandomHorizontalFlip,
        "crop=4": lambda: v2.RandomCrop(size, padding=4),
        "affine=15": lambda: v2.RandomAffine(15, interpolation=BILINEAR),
        "resized_crop=0.2": lambda: v2.RandomResizedCrop(size, scale=(0.2, 1.0)),
        "brightness=0.4": lambda: v2.ColorJitter(0.4, 0.4, 0.4),
        "trivial": lambda: v2.TrivialAugmentWide(interpolation=BILINEAR),
        "erase=0.25": lambda: v2.RandomErasing(0.25),
    }
    return [made[key]() for key in keys.split(", ") if key in made]


ROWS = (
    "flip, crop=4",
    "brightness=0.4, contrast=0.4, saturation=0.4",
    "affine=15",
    "flip, resized_crop=0.2",
    "flip, crop=4, trivial, erase=0.25",
)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """What a person hands to a DataLoader."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, keys: str) -> None:
        last = (v2.ToDtype(torch.float32, scale=True), v2.Normalize((MEAN,) * 3, (STD,) * 3))
        self.images, self.labels = images, labels.tolist()
        self.change = v2.Compose([*per_image(keys, images.shape[-1]), *last])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.change(self.images[i]), self.labels[i]


def in_turn(columns: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each column, run in turn, after each was run once."""
    for work in columns.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in columns}
    for _ in range(repeats):
        for name, work in columns.items():
            begun = time.perf_counter()
            work()
            found[name].append(time.perf_counter() - begun)
    return found


def show(what: str, n: int, seconds: dict[str, list[float]], first: str) -> None:
    """Print how many images a second each column makes, and how often the first makes those of another."""
    parts = [f"{what:46} {first} {n / statistics.median(seconds[first]):9,.0f}/s"]
    for name, theirs in seconds.items():
        if name != first:
            ratios = [their / our for their, our in zip(theirs, seconds[first], strict=True)]
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            rate = n / statistics.median(theirs)
            parts.append(f"{name} {rate:8,.0f}/s  {first}/{name} {middle:.3g} ({low:.3g} to {high:.3g})")
    print("  ".join(parts), flush=True)


def by_us(splits: ImageSplits, keys: str, batch: int) -> Callable[[], object]:
    change = Augmenter(AugmentSpec.model_validate(keys), splits, 0)
    at_once = batch * max(1, CHUNK_ELEMENTS // (batch * splits.train.images[0].numel()))

    def epoch() -> None:
        for number, rows in enumerate(torch.randperm(len(splits.train)).to(splits.device).split(at_once)):
            for _ in change(*splits.train.take(rows), number * at_once // batch, batch)[0].split(batch):
                pass
        if splits.device.type != "cpu":
            torch.accelerator.synchronize(splits.device)

    return epoch


def one_by_one(pictures: Pictures, batch: int, where: torch.device) -> Iterator[torch.Tensor]:
    for rows in torch.randperm(len(pictures)).split(batch):
        yield torch.stack([pictures[i][0] for i in rows.tolist()]).to(where)


def judged(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Do what ours does after an epoch: one pass over as many validation images."""
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def by_loader(pictures: Pictures, name: str, splits: ImageSplits, batch: int, workers: int) -> Callable[[], object]:
    where = splits.device
    few, of = splits.normalize(splits.validation.images), splits.validation.labels

    def epoch() -> None:
        torch.manual_seed(0)
        model = models.build(ModelConfig(name), splits.shape, splits.n_classes).to(where)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=where.type in ("cpu", "cuda"))
        model.train()
        for images, labels in DataLoader(pictures, batch, shuffle=True, num_workers=workers):
            loss = functional.cross_entropy(model(images.to(where)), labels.to(where))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        judged(model, few, of)

    return epoch


def main() -> None:
    cores.wait_passively()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--parts", nargs="+", default=["change", "train"])
    p.add_argument("--size", type=int, default=32, help="[pixels]")
    p.add_argument("--batch", type=int, default=64, help="[examples]")
    p.add_argument("--images", type=int, default=2048, help="of an epoch")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--threads", type=int, default=1, help="of this process")
    p.add_argument("--workers", type=int, default=2, help="processes of the DataLoader")
    p.add_argument("--models", nargs="+", default=["cnn"])
    p.add_argument("--device", default="cpu")
    o = p.parse_args()
    where = devices.resolve(o.device)
    devices.prepare(where, o.threads)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (o.images, 3, o.size, o.size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(o.images) % 10
    train, few = ImageSet(images, labels), ImageSet(images[: o.batch], labels[: o.batch])
    splits = ImageSplits(train, few, few, tuple("abcdefghij"), (MEAN,) * 3, (STD,) * 3).to(where)
    if "change" in o.parts:
        for keys in ROWS:
            pictures = Pictures(images, labels, keys)
            columns: dict[str, Callable[[], object]] = {
                "ours": by_us(splits, keys, o.batch),
                "v2": lambda pictures=pictures: [0 for _ in one_by_one(pictures, o.batch, where)],
                "DataLoader": lambda pictures=pictures: [
                    0
                    for some, _ in DataLoader(pictures, o.batch, shuffle=True, num_workers=o.workers)
                    if some.to(where) is None
                ],
            }
            show(keys, o.images, in_turn(columns, o.repeats), "ours")
    if "train" in o.parts:
        config = TrialConfig(OptimizerConfig("sgd", 0.01, momentum=0.9), ScheduleConfig("constant"), o.batch, 1, 0)
        for name in o.models:
            keys = ROWS[0]
            plain, changed = (
                SerialEngine(
                    splits, ModelConfig(name), where, Rules(divergence_watch=False, averaging=False, augment=augment)
                )
                for augment in (None, AugmentSpec.model_validate(keys))
            )
            columns = {
                "with": lambda engine=changed: list(engine.start(config).epochs()),
                "without": lambda engine=plain: list(engine.start(config).epochs()),
                "DataLoader": by_loader(Pictures(images, labels, keys), name, splits, o.batch, o.workers),
            }
            show(f"train {name}, {keys}", o.images, in_turn(columns, o.repeats), "with")


if __name__ == "__main__":
    main()

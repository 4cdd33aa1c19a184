"""Images trained on per second by how numbers are computed; ratios to fp32 of one run, the columns in turn.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/precision.py [--device auto] [--threads 2]
        [--models mlp resnet9 torchvision/resnet18] [--sizes 32 224] [--batches 128 1024]
        [--images 8192] [--repeats 5] [--json FILE] [--update]

Each column is an epoch of SGD with momentum, the moving average on, on random images that lie on the device: fp32 is
without TF32; TF32 is on a CUDA device alone, in convolutions and matrix products; bf16 and fp16 are autocast, fp16 with
a scaled loss and on a CUDA device alone; "last" is channels-last; "in 4 parts" adds up the gradients of four
micro-batches, in fp32. What a device cannot do is left out, and said.

--update instead times forward and backward of the mlp on digits, batch 32, in fp32: by ``Gradients`` beside the two
lines that it stands for, and these beside themselves; process time, the tenth and the ninetieth of 100 ratios.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from lrsearch.errors import DeviceError
from lrsearch.training import data, models, networks, precision
from lrsearch.training import device as devices
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.training.micro_batches import Gradients, Room
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import Arithmetic, OptimizerConfig, ScheduleConfig, TrialConfig

CLASSES = tuple("0123456789")
N_JUDGED = 64
"""Images that are evaluated after an epoch: few, so that training is what is timed."""
PARTS = 4
N_UPDATES, N_PAIRS = 200, 60
BASE = "fp32"


def random_images(size: int, n: int) -> ImageSplits:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    train = ImageSet(pixels, torch.arange(n) % len(CLASSES))
    few = ImageSet(train.images[:N_JUDGED], train.labels[:N_JUDGED])
    return ImageSplits(train, few, few, CLASSES, (0.5,) * 3, (0.25,) * 3)


def columns(where: torch.device, batch: int) -> Iterator[tuple[str, Arithmetic, bool]]:
    """Yield the name of each column, how it computes, and whether fp32 is TF32 there."""
    yield BASE, Arithmetic(), False
    yield "fp32 last", Arithmetic(channels_last=True), False
    if where.type == "cuda":
        yield "TF32", Arithmetic(), True
        yield "TF32 last", Arithmetic(channels_last=True), True
    yield "bf16", Arithmetic("bf16"), True
    yield "bf16 last", Arithmetic("bf16", channels_last=True), True
    if where.type == "cuda":
        yield "fp16", Arithmetic("fp16"), True
    yield f"in {PARTS} parts", Arithmetic(micro_batch=-(-batch // PARTS)), False


def epoch_of(splits: ImageSplits, model: str, batch: int, how: Arithmetic, where: torch.device) -> Callable[[], None]:
    engine = SerialEngine(splits, ModelConfig(model), where, Rules(divergence_watch=False))
    engine.follow(how)
    config = TrialConfig(OptimizerConfig("sgd", 1e-4, momentum=0.9), ScheduleConfig("constant"), batch, 1, 0)

    def epoch() -> None:
        list(engine.start(config).epochs())
        if where.type != "cpu":
            torch.accelerator.synchronize(where)

    return epoch


def measured(model: str, size: int, batch: int, o: argparse.Namespace, where: torch.device) -> dict[str, list[float]]:
    """Return the seconds of an epoch of each column; the first of each, which allocates, is not among them."""
    splits = random_images(size, o.images).to(where)
    work: dict[str, tuple[Callable[[], None], bool]] = {}
    for name, how, tf32 in columns(where, batch):
        try:
            work[name] = epoch_of(splits, model, batch, how, where), tf32
        except DeviceError as error:
            print(f"{name} is left out: {error}")
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(o.repeats + 1):
        for name, (epoch, tf32) in work.items():
            precision.set_tf32("on" if tf32 else "off")
            begun = time.perf_counter()
            epoch()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def one_update() -> None:
    splits = data.load(data.DataConfig("digits"))
    model = models.build(ModelConfig("mlp"), splits.shape, splits.n_classes)
    judge = networks.judge_of(ModelConfig("mlp"), (), None, torch.device("cpu"))
    gradients, parameters = Gradients(model, model, judge, Room()), list(model.parameters())
    images, labels = splits.normalize(splits.train.images[:32]), splits.train.labels[:32]

    def plainly() -> None:
        loss, _ = judge.in_training(model(images), labels)
        loss.backward()

    def ours() -> None:
        gradients.of(0, images, labels)

    def timed(work: Callable[[], None]) -> float:
        begun = time.process_time()
        for _ in range(N_UPDATES):
            work()
            for parameter in parameters:
                parameter.grad = None
        return (time.process_time() - begun) / N_UPDATES

    for name, work in (("ours", ours), ("itself", plainly)):
        timed(work)
        pairs = [(timed(work), timed(plainly)) for _ in range(N_PAIRS)]
        ratios = sorted(one / other for one, other in pairs)
        least = 1e6 * min(one for one, _ in pairs)
        low, high = ratios[N_PAIRS // 10], ratios[-N_PAIRS // 10]
        print(f"{name:7} {least:6.1f} us  {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}) of the two lines")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="auto")
    p.add_argument("--models", nargs="+", default=["mlp", "resnet9", "torchvision/resnet18"])
    p.add_argument("--sizes", nargs="+", type=int, default=[32, 224], help="[pixels]")
    p.add_argument("--batches", nargs="+", type=int, default=[128, 1024])
    p.add_argument("--images", type=int, default=8192, help="trained on in an epoch")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--update", action="store_true")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all seconds there")
    o = p.parse_args()
    where = devices.resolve(o.device)
    devices.prepare(where, o.threads)
    print(f"{devices.describe(where)}, torch {torch.__version__}")
    if o.update:
        one_update()
        return
    rows = []
    for model in o.models:
        for size in o.sizes:
            for batch in o.batches:
                seconds = measured(model, size, batch, o, where)
                rows.append({"model": model, "size": size, "batch": batch, "images": o.images, "seconds": seconds})
                print(f"{model} {size}x{size}, batch {batch}")
                for name, taken in seconds.items():
                    ratios = [base / its for base, its in zip(seconds[BASE], taken, strict=True)]
                    rate, middle = o.images / statistics.median(taken), statistics.median(ratios)
                    print(
                        f"  {name:12} {rate:9,.0f}/s  {middle:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                        flush=True,
                    )
    if o.json is not None:
        o.json.write_text(json.dumps({"device": devices.describe(where), "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()

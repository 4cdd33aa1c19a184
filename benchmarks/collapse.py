"""Does the watch find the networks that died, and none that lives? Trials trained to their end, then watched.

    python benchmarks/collapse.py --data FOLDER [--trials 480] [--first 0] [--processes 2] [--parts trials cost]
    python benchmarks/collapse.py --data FOLDER --parts search [--before CHECKOUT]

FOLDER: MNIST/raw and FashionMNIST/raw in torchvision's layout.

trials  random settings of the default spaces of all optimizers and all families, learning rates over five decades, mlp
        and cnn, digits, MNIST and Fashion-MNIST. Each is trained twice: to its end without the watch, for the label and
        the update of its death, then with the watch. The label is what the network is at the end:
          dead      the outputs are the same for every training image
          guessing  no better than a guess in loss and accuracy, after the loss had been far above or below that
          diverged  its loss left the realm of sense before any of this
          live      everything else: learned, or slow
cost    seconds of a training with the watch / without, medians of pairs, A B A B ...
proof   seconds of a proof of death, in epochs of a training that learns: cnn, SGD at 2.0, 2,000 and 10,000 MNIST images
search  50 trials of mnist-cnn in its default space: share of the epochs that went into networks dead by then. With
        --before, the same with the code of another checkout.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch

from lrsearch.families import FAMILIES
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.training import collapse, data, device
from lrsearch.training.data import DataConfig, ImageSplits
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.training.watch import first_divergence
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

SETS = {
    "digits": DataConfig("digits"),
    "mnist": DataConfig("mnist", limit=2500),
    "fashion-mnist": DataConfig("fashion-mnist", limit=2500),
}
MODELS: tuple[Literal["mlp", "cnn"], ...] = ("mlp", "cnn")
RATES = {"sgd": (1e-4, 10.0), "adam": (1e-5, 1.0), "adamw": (1e-5, 1.0), "rmsprop": (1e-5, 1.0)}
"""Five decades, the search's own range of three or four among them."""
DECAYS = {"sgd": 5e-4, "adam": 0.0, "adamw": 0.01, "rmsprop": 0.0}
"""The default of each optimizer's space."""
OWN = {
    "step": ("drops",),
    "multistep": ("milestones",),
    "polynomial": ("power",),
    "one_cycle": ("rise_fraction", "initial_fraction"),
    "triangular": ("cycles",),
    "warm_restarts": ("cycles", "cycle_mult"),
    "wsd": ("decay_fraction",),
    "plateau": ("drop_factor", "patience_epochs"),
}
TRIED = tuple(name for name in FAMILIES if name != "wsd_cosine")
"""Thirteen families: with the one that came later, numbers of cases would mean others than those of the docs."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    number: int
    data: str
    model: Literal["mlp", "cnn"]
    config: TrialConfig


@dataclass(frozen=True)
class Found:
    case: Case
    label: str
    died: int | None
    """The update from which on all batches had one output."""
    told: int | None
    """The update after which the watch ended it, as collapsed."""
    said: int | None
    """The update that the watch names."""
    steps_per_epoch: int
    n_steps: int
    accuracy: float
    same: bool
    """Whether the epochs that both trainings have are the same bit for bit."""


def case(number: int, *, decay: bool = False) -> Case:
    r = random.Random(number)
    optimizer, family = tuple(OPTIMIZERS)[number % 4], TRIED[number // 4 % len(TRIED)]
    low, high = RATES[optimizer]
    momentum = {"momentum": r.choice([0.0, 0.9])} if optimizer == "sgd" else {}
    shape = {name: FAMILIES[family].fields[name].neutral for name in OWN.get(family, ())}
    if "cycles" in shape:
        shape["cycles"] = r.randint(1, 3)
    if family != "constant":
        shape["final_fraction"] = 10 ** r.uniform(-3, -1)
    warm = 0.0 if FAMILIES[family].rise is not None else r.choice([0.0, r.uniform(0, 0.2)])
    rate = low * (high / low) ** r.random()
    weight_decay = 5e-4 if decay and optimizer in ("adam", "rmsprop") else DECAYS[optimizer]
    config = TrialConfig(
        OptimizerConfig(optimizer, rate, weight_decay, **momentum),
        ScheduleConfig(family, warmup_fraction=warm, **shape),
        r.choice([32, 64, 128]),
        r.choice([5, 10, 10, 20]),
        r.randint(0, 9),
    )
    return Case(number, r.choice(list(SETS)), r.choice(MODELS), config)


def engine(splits: ImageSplits, model: Literal["mlp", "cnn"], *, watch: bool, averaging: bool = False) -> SerialEngine:
    return SerialEngine(splits, ModelConfig(model), CPU, Rules(divergence_watch=watch, averaging=averaging))


def examine(one: Case, splits: ImageSplits) -> Found:
    """Train the case twice, label it by its end, and see what the watch did."""
    training = engine(splits, one.model, watch=False).start(one.config)
    flat: list[bool] = []

    def look(module: torch.nn.Module, _: Any, outputs: torch.Tensor) -> None:
        if module.training:
            flat.append(bool((outputs.amax(0) - outputs.amin(0)).amax() <= 1e-6 * outputs.abs().amax()))

    training.model.register_forward_hook(look)
    losses: list[float] = []
    rows: list[EpochMetrics] = []
    measure = training._measure  # noqa: SLF001

    def measured() -> EpochMetrics:
        losses.extend(loss.item() for loss in training._losses)  # noqa: SLF001
        return measure()

    training._measure = measured  # type: ignore[method-assign]  # noqa: SLF001
    for told in training.epochs():
        assert isinstance(told, EpochMetrics)
        rows.append(told)
    label, died = labelled(training, splits, losses, flat, rows)

    watched = engine(splits, one.model, watch=True).start(one.config)
    seen: list[EpochMetrics] = []
    end = said = None
    for told in watched.epochs():
        if isinstance(told, EpochMetrics):
            seen.append(told)
        elif isinstance(told, Divergence) and told.collapsed:
            end, said = watched.step, told.step
        elif isinstance(told, Divergence):
            label = "diverged"
    same = all(repr(replace(a, seconds=0)) == repr(replace(b, seconds=0)) for a, b in zip(rows, seen, strict=False))
    last = rows[-1].val_accuracy
    return Found(one, label, died, end, said, training.steps_per_epoch, training.n_steps, last, same)


def labelled(
    training: Any, splits: ImageSplits, losses: list[float], flat: list[bool], rows: list[EpochMetrics]
) -> tuple[str, int | None]:
    """Return what the network is at the end of a training without the watch, and from which update on."""
    if not math.isfinite(losses[-1]) or first_divergence(losses, initial_loss=losses[0])[0] is not None:
        return "diverged", None
    training.model.eval()
    with torch.no_grad():
        outputs = torch.cat([training.model(splits.normalize(x)) for x, _ in splits.train.batches(512)])
    run = next((i for i, one in enumerate(reversed(flat)) if not one), len(flat))
    died = len(flat) - run
    if (outputs - outputs[0]).abs().max() <= 1e-6 * outputs[0].abs().max():
        return "dead", died
    guess = collapse.guess_of(splits.train.labels, splits.validation.labels, splits.n_classes)
    chance = rows[-1].val_accuracy <= guess.accuracy and rows[-1].train_loss >= 0.98 * guess.entropy
    far = max(losses[1:]) > 2 * max(losses[0], guess.entropy) or min(m.train_loss for m in rows) < 0.8 * guess.entropy
    return ("guessing" if chance and far else "live"), None


def work(job: tuple[list[Case], Path]) -> list[Found]:
    cases, folder = job
    device.prepare(CPU, 1)
    splits = {name: data.load(SETS[name], folder) for name in {one.data for one in cases}}
    return [examine(one, splits[one.data]) for one in cases]


def trials(folder: Path, sets: list[str], first: int, n: int, processes: int, *, decay: bool) -> None:
    cases = [one for one in (case(number, decay=decay) for number in range(first, first + n)) if one.data in sets]
    chunks = [(cases[i :: processes * 8], folder) for i in range(processes * 8)]
    with get_context("spawn").Pool(processes) as pool:
        found = [one for some in pool.imap_unordered(work, chunks) for one in some]
    labels = Counter(one.label for one in found)
    print(f"{len(found)} trials: " + ", ".join(f"{n} {label}" for label, n in sorted(labels.items())))
    print(f"bit for bit the same with the watch as without, as far as it let them: {sum(one.same for one in found)}")
    for label in ("dead", "guessing", "live"):
        some = [one for one in found if one.label == label]
        ended = [one for one in some if one.told is not None]
        before = [one for one in ended if one.told < one.n_steps]  # type: ignore[operator]
        print(f"{label:9} {len(some):4}, called collapsed {len(ended)}, before their last epoch's end {len(before)}")
    dead = [one for one in found if one.label == "dead" and one.told is not None and one.died is not None]
    delays = sorted((one.told - one.died) / one.steps_per_epoch for one in dead)  # type: ignore[operator]
    if delays:
        q = statistics.quantiles(delays, n=10) if len(delays) > 1 else delays * 9
        print(f"epochs from death to its end: median {statistics.median(delays):.2f}, nine tenths {q[8]:.2f}")
        saved = sum(1 - one.told / one.n_steps for one in dead) / len(dead)  # type: ignore[operator]
        could = sum(1 - one.died / one.n_steps for one in dead) / len(dead)  # type: ignore[operator]
        print(f"of the epochs of dead trials {saved:.0%} are saved; {could:.0%} lie after the death")
        print(f"named the very update of the death: {sum(one.said == one.died for one in dead)} of {len(dead)}")
    for one in sorted(found, key=lambda one: one.case.number):
        if (one.label == "live") == (one.told is not None) and one.label != "diverged":
            print("  ", "missed" if one.told is None else "FALSE", one)


def seconds(splits: ImageSplits, model: Literal["mlp", "cnn"], config: TrialConfig, *, watch: bool) -> float:
    training = engine(splits, model, watch=watch, averaging=True).start(config)
    begun = time.perf_counter()
    for told in training.epochs():
        assert isinstance(told, EpochMetrics), "a training that learns, to its end"
    return time.perf_counter() - begun


def cost(folder: Path, repeats: int) -> None:
    device.prepare(CPU, 1)
    for name, model, batch, epochs in (
        ("digits", "mlp", 32, 60),
        ("digits", "mlp", 128, 100),
        ("mnist", "mlp", 64, 40),
        ("digits", "cnn", 64, 12),
        ("mnist", "cnn", 64, 5),
    ):
        splits = data.load(SETS[name], folder)
        config = TrialConfig(
            OptimizerConfig("adam", 1e-3), ScheduleConfig("cosine", final_fraction=0.01), batch, epochs, 0
        )
        ratios = []
        for _ in range(repeats):
            with_watch = seconds(splits, model, config, watch=True)  # type: ignore[arg-type]
            ratios.append(with_watch / seconds(splits, model, config, watch=False))  # type: ignore[arg-type]
        median = statistics.median(ratios)
        print(
            f"{name:7} {model} batch {batch:3}: with the watch / without {median:.4f}  ({len(ratios)} pairs)",
            flush=True,
        )


def proof(folder: Path) -> None:
    device.prepare(CPU, 1)
    falls = ScheduleConfig("cosine", warmup_fraction=0.05, final_fraction=1e-3)
    for limit in (2_000, 10_000):
        trainings = engine(data.load(DataConfig("mnist", limit=limit), folder), "cnn", watch=True)
        learns = TrialConfig(OptimizerConfig("sgd", 0.03, 5e-4, momentum=0.9), falls, 64, 3, 0)
        epoch = statistics.median(
            one.seconds for one in trainings.start(learns).epochs() if isinstance(one, EpochMetrics)
        )
        took: list[float] = []
        for seed in range(5):
            training = trainings.start(
                TrialConfig(OptimizerConfig("sgd", 2.0, 5e-4, momentum=0.9), falls, 64, 10, seed)
            )
            prove = training._is_dead  # noqa: SLF001

            def timed(scale: float, prove: Callable[[float], bool] = prove, took: list[float] = took) -> bool:
                begun = time.perf_counter()
                dead = prove(scale)
                took.append(time.perf_counter() - begun)
                return dead

            training._is_dead = timed  # type: ignore[method-assign] # noqa: SLF001
            for _ in training.epochs():
                pass
        print(
            f"{limit} images: {len(took)} proofs, {statistics.median(took) / epoch:.1f} epochs at the median",
            flush=True,
        )


def told(config: TrialConfig, engine: SerialEngine) -> int | None:
    """Return the update from which on the training is dead, as the watch says."""
    for one in engine.start(config).epochs():
        if isinstance(one, Divergence) and one.collapsed:
            return one.step
    return None


def search(folder: Path, before: Path | None, extra: list[str]) -> None:
    for name, checkout in (("before", before), ("after", Path(__file__).parent.parent)):
        if checkout is None:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            argv = [sys.executable, "-m", "lrsearch", "run", "mnist-cnn", "--trials", "50", "--quiet", "--threads", "1"]
            argv += ["--data-dir", str(folder), "--storage", f"{temporary}/a.db", *extra]
            environment = {"PYTHONPATH": str(checkout.resolve()), "PATH": "/usr/bin:/bin", "OMP_WAIT_POLICY": "PASSIVE"}
            begun = time.perf_counter()
            subprocess.run(argv, check=True, env=environment, cwd=temporary, stdout=subprocess.DEVNULL)
            took = time.perf_counter() - begun
            report(name, f"{temporary}/a.db", folder, took)


def report(name: str, storage: str, folder: Path, took: float) -> None:
    from lrsearch import worker
    from lrsearch.store import study as studies
    from lrsearch.store.places import parse_place
    from lrsearch.store.storage import open_existing

    database = open_existing(parse_place(storage))
    study = studies.get(database, "mnist-cnn")
    ended = study.trials()
    database.close()
    trained = worker.build_engine(study.spec, device_name="cpu", threads=1, data_dir=folder, progress=False)
    total = lost = dead = 0
    for trial in ended:
        died = told(trial.config, trained)
        total += len(trial.metrics)
        if died is not None:
            gone = sum(row.step > died for row in trial.metrics)
            lost += gone
            dead += 1
    states = Counter(str(trial.state) for trial in ended)
    best = max((t.outcome.value for t in ended if t.outcome and t.state == "complete"), default=math.nan)
    print(
        f"{name:6} {json.dumps(states)}: {dead} trials died, {lost} of {total} epochs ({lost / total:.1%}) went into "
        f"the dead; best {best:.4f}, {took:.0f} s",
        flush=True,
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--parts", nargs="+", default=["trials", "cost"])
    p.add_argument("--trials", type=int, default=480)
    p.add_argument("--first", type=int, default=0, help="number of the first case; others are other cases")
    p.add_argument("--sets", nargs="+", choices=[*SETS], default=[*SETS], help="cases of others are left out")
    p.add_argument("--processes", type=int, default=2)
    p.add_argument("--decay", action="store_true", help="Adam and RMSprop with weight decay 5e-4, not their default")
    p.add_argument("--repeats", type=int, default=9)
    p.add_argument("--before", type=Path)
    p.add_argument("--set", action="append", default=[], help="for the study of the search")
    o = p.parse_args()
    if "trials" in o.parts:
        trials(o.data, o.sets, o.first, o.trials, o.processes, decay=o.decay)
    if "cost" in o.parts:
        cost(o.data, o.repeats)
    if "proof" in o.parts:
        proof(o.data)
    if "search" in o.parts:
        search(o.data, o.before, [word for one in o.set for word in ("--set", one)])


if __name__ == "__main__":
    main()

"""Does a confirmation keep its promises? Coverage of its intervals, equal settings, settings a point apart.

    python benchmarks/confirm.py --data FOLDER [--seeds 120] [--repetitions 200] [--pool FILE.npz] [--threads 1]

Settings of an mlp are trained on 400 images of digits with many seeds each, and judged on all 1,397 others, once; the
trainings are kept in FILE.npz. Then confirmations are made of them: fresh seeds are drawn for each repetition, and
validation images (``--images``), and the race of ``lrsearch.strategy.confirming`` asks for one training after another.
The truth of a setting is its mean over all seeds and all images. Shown are

* coverage: how often the 90 % interval of a setting's mean and of a difference holds the truth,
* equal settings (one setting entered twice, with different seeds): how often "not distinguishable",
* settings about a point apart: how often "better", with how many seeds, and how many an unpaired test would need.
"""

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from lrsearch.analysis.confirmation import confirmation
from lrsearch.paired import Strata
from lrsearch.spec import file as study_file
from lrsearch.strategy.confirming import LEVEL, ConfirmRun, Entrant, Part, Plan, Race, next_run
from lrsearch.training.data import ImageSet
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, State, TrialConfig
from lrsearch.worker import build_engine

N_TRAIN = 400
EPOCHS = 8
RATES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
"""Peak learning rates of sgd, whose settings lie a few tenths of a point to a few points apart."""

POWER = 0.8


def config(rate: float, seed: int) -> TrialConfig:
    optimizer = OptimizerConfig("sgd", rate, 5e-4, 0.9, 0.0, nesterov=False)
    return TrialConfig(optimizer, ScheduleConfig("cosine", 0.05, 0.001), 32, EPOCHS, seed)


def engine_of(data: Path, threads: int) -> SerialEngine:
    """Return an engine that trains on few images of digits and validates on all others."""
    spec = study_file.build({"name": "digits", "epochs": EPOCHS, "pruner": "none"}, "digits")
    engine = build_engine(spec, device_name="cpu", threads=threads, data_dir=data, progress=False)
    assert isinstance(engine, SerialEngine)
    splits = engine.splits
    sets = (splits.train, splits.validation, splits.test)
    images = torch.cat([one.all_images for one in sets])
    labels = torch.cat([one.labels for one in sets])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    parts = [ImageSet(images[i], labels[i]) for i in (slice(N_TRAIN), slice(N_TRAIN, None), slice(0, 0))]
    engine.splits = replace(splits, train=parts[0], validation=parts[1], test=parts[2])
    return engine


def trained(engine: SerialEngine, rate: float, seed: int) -> np.ndarray:
    training = engine.start(config(rate, seed))
    told = list(training.epochs())
    assert not isinstance(told[-1], Divergence)
    assert isinstance(told[-1], EpochMetrics)
    right = training.validation_right()
    assert right is not None
    return np.unpackbits(np.frombuffer(right, np.uint8), count=len(engine.splits.validation)).astype(bool)


def pool_of(path: Path, data: Path, n_seeds: int, threads: int) -> np.ndarray:
    """Return which images are right, bool ``[rates, seeds, images]``; trained now where the file has not all."""
    rows = dict(np.load(path)) if path.exists() else {}
    engine = None
    for rate in RATES:
        have = rows.get(str(rate))
        done = [] if have is None else list(have)
        for seed in range(len(done), n_seeds):
            engine = engine or engine_of(data, threads)
            done.append(trained(engine, rate, seed))
        rows[str(rate)] = np.stack(done)
        np.savez(path, **rows)
    return np.stack([rows[str(rate)][:n_seeds] for rate in RATES])


def raced(race: Race, right: Sequence[np.ndarray]) -> Race:
    """Return a race that was run to its end; ``right`` is bool ``[seeds, images]`` of each setting."""
    while (step := next_run(race)) is not None:
        assert not isinstance(step, int)
        bits = right[step.entrant][race.plan.seeds.index(step.seed)]
        run = ConfirmRun(step.entrant, step.seed, State.COMPLETE, None, float(bits.mean()), np.packbits(bits).tobytes())
        race = replace(race, runs=(*race.runs, run))
    return race


@dataclass
class Repeated:
    """What many confirmations of the same settings came to."""

    verdicts: Counter[str] = field(default_factory=Counter)
    n_trainings: list[int] = field(default_factory=list)
    of_means: list[bool] = field(default_factory=list)
    """Whether the interval of a setting's mean holds the truth."""
    of_differences: list[bool] = field(default_factory=list)
    """Likewise of the difference that was told."""


def repeated(pool: np.ndarray, settings: Sequence[int], most: int, n_images: int, repetitions: int) -> Repeated:
    """Confirm the settings, the last of which is one's own, with fresh seeds and images each time."""
    truth, rng, out = pool.mean((1, 2)), np.random.default_rng(0), Repeated()
    entrants = [Entrant(config(RATES[one], 0), Part.FOUND) for one in settings]
    entrants[-1] = replace(entrants[-1], part=Part.AGAINST)
    plan = Plan(len(settings), tuple(range(most)), None, tuple(entrants))
    for _ in range(repetitions):
        images = rng.choice(pool.shape[2], n_images, replace=False)
        # A setting that is entered twice has other seeds the second time.
        seeds = rng.choice(pool.shape[1], (len(settings), most), replace=False)
        right = [pool[one][seeds[i]][:, images] for i, one in enumerate(settings)]
        race = raced(Race(plan, (), maximize=True, strata=Strata((n_images,)), guess=0.1), right)
        found = confirmation(race, ())
        assert found.verdict is not None
        assert found.interval is not None
        assert found.candidate is not None
        assert found.reference is not None
        out.verdicts[found.verdict.value] += 1
        out.n_trainings.append(found.n_trainings)
        pairs = zip(settings, found.settings, strict=True)
        out.of_means += [one.low <= truth[setting] <= one.high for setting, one in pairs]
        apart = truth[settings[found.candidate]] - truth[settings[found.reference]]
        out.of_differences.append(found.interval[0] <= apart <= found.interval[1])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--pool", type=Path, default=Path("confirm-pool.npz"))
    parser.add_argument("--seeds", type=int, default=120)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--images", type=int, nargs="+", default=[360, 1000])
    parser.add_argument("--most-seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pool = pool_of(args.pool, args.data, args.seeds, args.threads)
    for rate, each in zip(RATES, pool.mean(2), strict=True):
        print(f"lr {rate:g}: {100 * each.mean():.2f} %, seeds scatter by {100 * each.std(ddof=1):.2f} points")
    for n_images in args.images:
        print(f"{args.repetitions} repetitions, {n_images} images, at most {args.most_seeds} seeds, level {LEVEL}")
        table(pool, n_images, args.most_seeds, args.repetitions)
        power(pool, n_images, args.repetitions)


def table(pool: np.ndarray, n_images: int, most: int, repetitions: int) -> None:
    """Print what confirmations of equal settings and of unequal ones come to."""
    print("| settings | truth, points apart | better | worse | not distinguishable | trainings | coverage | of means |")
    print("|--|--|--|--|--|--|--|--|")
    truth = pool.mean((1, 2))
    order = [int(i) for i in np.argsort(-truth)]
    best = order[0]
    for case in ([best, best], [best, best, best], *([best, other] for other in order[1:]), order[:4]):
        found = repeated(pool, case, most, n_images, repetitions)
        names = ("better", "worse", "not_distinguishable")
        shares = " | ".join(f"{100 * found.verdicts[name] / repetitions:.1f} %" for name in names)
        apart = 100 * (truth[case[0]] - truth[case[-1]])
        settings = " ".join(f"{RATES[one]:g}" for one in case)
        held = [f"{100 * np.mean(which):.1f} %" for which in (found.of_differences, found.of_means)]
        print(f"| {settings} | {apart:.2f} | {shares} | {np.mean(found.n_trainings):.1f} | {' | '.join(held)} |")


def power(pool: np.ndarray, n_images: int, repetitions: int) -> None:
    """Print how many seeds tell two settings about a point apart, and what an unpaired test would need."""
    truth = pool.mean((1, 2))
    best = int(np.argmax(truth))
    other = min((one for one in range(len(RATES)) if one != best), key=lambda one: abs(truth[best] - truth[one] - 0.01))
    apart = float(truth[best] - truth[other])
    print(f"lr {RATES[best]:g} and {RATES[other]:g}, {100 * apart:.2f} points apart")
    for most in range(3, 41):
        found = repeated(pool, [best, other], most, n_images, repetitions)
        share = found.verdicts["better"] / repetitions
        if share >= POWER:
            n = np.mean(found.n_trainings)
            print(f"better in {100 * share:.1f} % with at most {most} seeds, {n:.1f} trainings on average")
            break
    else:
        print(f"better in {100 * share:.1f} % with at most {most} seeds: {n_images} images are too few")
    unpaired(pool, best, other, n_images)


def unpaired(pool: np.ndarray, best: int, other: int, n_images: int) -> None:
    """Print what a test that takes the two settings' scores for independent would need for a power of 80 %."""
    needed = stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER)
    p, q = (float(pool[one].mean()) for one in (best, other))
    of_images = p * (1 - p) + q * (1 - q)
    n = of_images * (needed / (p - q)) ** 2
    print(f"an unpaired test of one seed each needs {n:.0f} images, the scatter of seeds left out")
    of_seeds = sum(float(pool[one].mean(1).var(ddof=1)) for one in (best, other))
    left = ((p - q) / needed) ** 2 - of_images / n_images
    enough = math.ceil(of_seeds / left) if left > 0 else None
    said = "no number of seeds" if enough is None else f"{enough} seeds"
    print(f"with {n_images} images an unpaired test needs {said}: more seeds make the error of few images no smaller")


if __name__ == "__main__":
    main()

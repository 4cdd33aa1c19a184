"""A person's own MNIST loop under lrsearch, alone, and under other tuners; in one run.

    python benchmarks/own_loop.py --mnist FOLDER [--parts speed search] [--images 6000] [--epochs 6] [--repeats 5]
                                  [--trials 20] [--seeds 3] [--tuners lrsearch optuna ray]

speed   one training of the same loop: alone, with its own optimizer and OneCycleLR stepped at every update; and under
        lrsearch, as one trial of a study in SQLite, the losses told to the watch, its state kept, without pruning. The
        seconds are those of the epochs, start-up left out, and of the processor, on one thread: others may be at work
        on the machine. Wanted: at least .98 of its speed alone.
search  the same loop at equal budgets of trials: lrsearch (its default space and pruner); Optuna with TPE and its
        median pruner over the same optimizers and ranges of learning rates, a cosine schedule (Optuna has none of its
        own); Ray Tune with Optuna's TPE and ASHA (pip install 'ray[tune]'), one trial at a time. Seconds, epochs
        trained and the best validation accuracy after the last epoch, for each seed.
"""

import argparse
import contextlib
import io
import logging
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST

N_VALIDATION = 2000
BATCH = 64


def data(n: int) -> tuple[TensorDataset, torch.Tensor, torch.Tensor]:
    full = MNIST(os.environ["OWN_LOOP_MNIST"], train=True)
    images = full.data.float().div(255).sub(0.1307).div(0.3081).unsqueeze(1)
    rest = images[-N_VALIDATION:], full.targets[-N_VALIDATION:]
    return TensorDataset(images[:n], full.targets[:n]), *rest


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 13 * 13, 10)
    )


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    right = (model(images).argmax(1) == labels).float().mean().item()
    model.train()
    return right


def train_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer, after: Callable) -> None:
    for images, labels in loader:
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(loss)


def loop(run, n=6000, seconds="") -> Iterator:
    """As lrsearch calls it."""
    train, images, labels = data(n)
    loader = DataLoader(train, batch_size=run.config.batch_size, shuffle=True)
    model = build()
    optimizer = run.optimizer(model)
    averaged = run.average(model) if run.averaging else None
    for _ in range(run.resume(model=model, optimizer=optimizer), run.config.epochs):
        begun = time.process_time()
        train_epoch(model, loader, optimizer, run.step)
        told = {"val_accuracy": accuracy(model, images, labels)}
        if averaged is not None:
            told["averaged_val_accuracy"] = accuracy(averaged, images, labels)
        if seconds:
            with Path(seconds).open("a") as file:
                file.write(f"{time.process_time() - begun}\n")
        yield run.epoch(**told)


# --- speed -----------------------------------------------------------------------------------------------------------


def alone(n: int, epochs: int) -> float:
    """Return the seconds of the epochs of the loop as somebody would write it without a tuner."""
    torch.manual_seed(0)
    train, images, labels = data(n)
    loader = DataLoader(train, batch_size=BATCH, shuffle=True)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * len(loader))
    found = []
    for _ in range(epochs):
        begun = time.process_time()
        train_epoch(model, loader, optimizer, lambda _: scheduler.step())
        accuracy(model, images, labels)
        found.append(time.process_time() - begun)
    return sum(found)


def under_lrsearch(n: int, epochs: int, folder: str) -> float:
    """Return the seconds of the epochs of one trial."""
    seconds = Path(folder, "seconds")
    seconds.write_text("")
    settings = {
        "loop": {"name": f"{__file__}:loop", "n_train": n, "args": {"n": n, "seconds": str(seconds)}},
        "epochs": epochs,
        "pruner": "none",
        "space": {"batch_size": BATCH, "optimizer": "sgd", "schedule": "one_cycle"},
    }
    searched(settings, 1, folder)
    return sum(float(line) for line in seconds.read_text().split()[-epochs:])


def searched(settings: dict, trials: int, folder: str):
    """Return the study after so many trials."""
    from lrsearch import run as running
    from lrsearch.spec import file as study_file
    from lrsearch.store.places import parse_place

    tables = {"name": "own", "budget": {"trials": trials}, **settings}
    spec = study_file.anchored(study_file.build(tables, "the benchmark"))
    place = parse_place(tempfile.mktemp(suffix=".db", dir=folder))
    with running.filed(spec, place, running.Here("cpu", torch.get_num_threads())) as session:
        for _ in session.attend():
            pass
        return session.study.trials()


def speed(args: argparse.Namespace) -> None:
    ratios, ours, theirs = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        under_lrsearch(args.images, 1, folder), alone(args.images, 1)
        for repeat in range(args.repeats):
            pair = [lambda: alone(args.images, args.epochs), lambda: under_lrsearch(args.images, args.epochs, folder)]
            first = repeat % 2
            seconds = {first: pair[first]()}
            seconds[1 - first] = pair[1 - first]()
            theirs.append(seconds[0])
            ours.append(seconds[1])
            ratios.append(seconds[0] / seconds[1])
    print(
        f"speed   {args.images} images, {args.epochs} epochs: alone {statistics.median(theirs):.2f} s, under lrsearch "
        f"{statistics.median(ours):.2f} s: {statistics.median(ratios):.3f} of its speed "
        f"({min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} pairs)",
        flush=True,
    )


# --- search ----------------------------------------------------------------------------------------------------------


def cosine(optimizer: torch.optim.Optimizer, n_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)


def training(n: int, epochs: int, name: str, lr: float, batch: int, seed: int) -> Iterator[float]:
    """Yield the accuracy after each epoch: the same loop, for a tuner without schedules."""
    torch.manual_seed(seed)
    train, images, labels = data(n)
    loader = DataLoader(train, batch_size=batch, shuffle=True)
    model = build()
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, fused=True)
        if name == "sgd"
        else torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    )
    scheduler = cosine(optimizer, epochs * len(loader))
    for _ in range(epochs):
        train_epoch(model, loader, optimizer, lambda _: scheduler.step())
        found = accuracy(model, images, labels)
        yield found if math.isfinite(found) else 0.0


Found = tuple[float, int, list[float]]
"""Seconds, epochs that were trained, and the accuracy of each complete trial in the order of their end."""


def by_lrsearch(args: argparse.Namespace, seed: int) -> Found:
    settings = {
        "loop": {"name": f"{__file__}:loop", "n_train": args.images, "args": {"n": args.images}},
        "epochs": args.epochs,
        "seed": seed,
    }
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trials = searched(settings, args.trials, folder)
    seconds = time.perf_counter() - begun
    complete = [t.metrics[-1].val_accuracy for t in trials if t.state == "complete"]
    return seconds, sum(len(t.metrics) for t in trials), complete


def by_optuna(args: argparse.Namespace, seed: int) -> Found:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    epochs = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal epochs
        name = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
        low, high = (1e-3, 3.0) if name == "sgd" else (1e-5, 0.1)
        lr = trial.suggest_float(f"lr_{name}", low, high, log=True)
        batch = trial.suggest_categorical("batch_size", [32, 64, 128])
        found = 0.0
        for epoch, found in enumerate(training(args.images, args.epochs, name, lr, batch, seed)):
            epochs += 1
            trial.report(found, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return found

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            direction="maximize",
            storage=f"sqlite:///{folder}/optuna.db",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.MedianPruner(),
        )
        study.optimize(objective, n_trials=args.trials)
    seconds = time.perf_counter() - begun
    complete = [t.value for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    return seconds, epochs, complete


def by_ray(args: argparse.Namespace, seed: int) -> Found:
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    mnist, n, epochs = os.environ["OWN_LOOP_MNIST"], args.images, args.epochs
    here = str(Path(__file__).parent)

    def trainable(config: dict) -> None:
        os.environ["OWN_LOOP_MNIST"] = mnist
        sys.path.insert(0, here)
        import own_loop

        torch.set_num_threads(1)
        name = config["optimizer"]
        lr = config[f"lr_{name}"]
        for found in own_loop.training(n, epochs, name, lr, config["batch_size"], seed):
            tune.report({"accuracy": found})

    space = {
        "optimizer": tune.choice(["sgd", "adamw"]),
        "lr_sgd": tune.loguniform(1e-3, 3.0),
        "lr_adamw": tune.loguniform(1e-5, 0.1),
        "batch_size": tune.choice([32, 64, 128]),
    }
    ray.init(num_cpus=1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=args.trials,
                search_alg=ConcurrencyLimiter(OptunaSearch(seed=seed), max_concurrent=1),
                scheduler=ASHAScheduler(max_t=args.epochs, grace_period=max(1, args.epochs // 5), reduction_factor=3),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    seconds = time.perf_counter() - begun
    ray.shutdown()
    rows = [one.metrics for one in results if one.metrics and "accuracy" in one.metrics]
    complete = [row["accuracy"] for row in rows if row["training_iteration"] == args.epochs]
    return seconds, sum(row["training_iteration"] for row in rows), complete


TUNERS = {"lrsearch": by_lrsearch, "optuna": by_optuna, "ray": by_ray}


def search(args: argparse.Namespace) -> None:
    for seed in range(args.seeds):
        for name in args.tuners:
            seconds, epochs, complete = TUNERS[name](args, seed)
            print(
                f"search  seed {seed}  {name:9} {args.trials} trials {seconds:6.1f} s, {epochs:4} epochs of "
                f"{args.trials * args.epochs}, {len(complete):3} complete, best {max(complete, default=0.0):.4f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True, help="folder that holds torchvision's MNIST/raw")
    parser.add_argument("--parts", nargs="+", choices=["speed", "search"], default=["speed", "search"])
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tuners", nargs="+", choices=[*TUNERS], default=[*TUNERS])
    args = parser.parse_args()
    os.environ["OWN_LOOP_MNIST"] = args.mnist
    torch.set_num_threads(1)
    for part in args.parts:
        {"speed": speed, "search": search}[part](args)


if __name__ == "__main__":
    main()

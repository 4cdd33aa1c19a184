"""How fast is it? The product beside the rivals and the limit, in the same run, as ratios.

    python benchmarks/throughput.py --data FOLDER --bench FOLDER [--parts loop averaging costs command] [--repeats 5]

FOLDERs: MNIST/raw in torchvision's layout and the rivals (bare_loop.py, optuna_example.py), which
are written apart from the product. Every row runs the two in turn, A B A B ..., and prints the median of the ratios:
these machines are noisy, and a ratio within one run is what can be trusted.

loop       training, MNIST cnn, batch 64, averaging off, one thread: bare seconds / ours (1.0: as fast as the limit)
averaging  what the moving average of the weights adds to a training
costs      what averaging and the divergence watch add, in CPU time, which other work on the cores moves less
command    200 trials (mlp, 800 images, 5 epochs, batch 64, no pruning), command to exit: Optuna's example / ours
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LOOP = {"train": 6400, "validation": 1000, "epochs": 3, "batch": 64, "trainings": 5}


def run_json(*argv: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-W", "ignore", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def wall(argv: list[str], environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stderr}")
    return time.perf_counter() - begun


def paired(a: Callable[[], float], b: Callable[[], float], repeats: int) -> tuple[list[float], list[float]]:
    pairs = [(a(), b()) for _ in range(repeats)]
    return [x for x, _ in pairs], [y for _, y in pairs]


def show(what: str, rival: list[float], ours: list[float], unit: str, target: str) -> None:
    ratios = [r / o for r, o in zip(rival, ours, strict=True)]
    m = statistics.median
    print(
        f"{what:34} rival {m(rival):8.2f} {unit}  ours {m(ours):8.2f} {unit}  ratio {m(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})  {target}",
        flush=True,
    )


def our_loop(data: Path, *, averaging: bool) -> None:
    """Child: the same work as bare_loop.py, timed as it times itself; prints one JSON line."""
    import torch

    from lrsearch.training import device
    from lrsearch.training.data import DataConfig, load
    from lrsearch.training.models import ModelConfig
    from lrsearch.training.serial import Rules, SerialEngine
    from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

    where = torch.device("cpu")
    device.prepare(where, 1)
    pool = LOOP["train"] + LOOP["validation"]
    splits = load(DataConfig("mnist", pool, LOOP["validation"] / pool, 0, "unit"), data, progress=False)
    engine = SerialEngine(splits, ModelConfig("cnn"), where, Rules(averaging=averaging))
    begun = time.perf_counter()
    for seed in range(LOOP["trainings"]):
        config = TrialConfig(
            OptimizerConfig("adam", 1e-3), ScheduleConfig("constant"), LOOP["batch"], LOOP["epochs"], seed
        )
        for _ in engine.start(config).epochs():
            pass
    print(json.dumps({"training_seconds": time.perf_counter() - begun}))


def costs(data: Path, repeats: int) -> None:
    """Print what averaging and watching add to the CPU time of a training, evaluation after every epoch included."""
    import torch

    from lrsearch.training import device
    from lrsearch.training.data import DataConfig, load
    from lrsearch.training.models import ModelConfig
    from lrsearch.training.serial import Rules, SerialEngine
    from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

    where = torch.device("cpu")
    device.prepare(where, 1)
    splits = load(DataConfig("mnist", 7400, 1000 / 7400, 0, "unit"), data, progress=False)
    config = TrialConfig(OptimizerConfig("adam", 1e-3), ScheduleConfig("constant"), LOOP["batch"], 2, 0)
    ways = {
        "averaging": (Rules(averaging=True), Rules(averaging=False)),
        "watching": (Rules(averaging=False), Rules(averaging=False, divergence_watch=False)),
        "both": (Rules(averaging=True), Rules(averaging=False, divergence_watch=False)),
    }
    for model in ("mlp", "cnn"):
        for name, (on, off) in ways.items():

            def seconds(rules: Rules, model: str = model) -> float:
                engine = SerialEngine(splits, ModelConfig(model), where, rules)
                begun = time.process_time()
                for _ in engine.start(config).epochs():
                    pass
                return time.process_time() - begun

            seconds(on)
            pair = paired(lambda on=on: seconds(on), lambda off=off: seconds(off), repeats)  # type: ignore[misc]
            ratios = sorted(100 * (a / b - 1) for a, b in zip(*pair, strict=True))
            low, high = ratios[repeats // 4], ratios[-1 - repeats // 4]
            said = f"{statistics.median(ratios):+.1f} % (quartiles {low:+.1f} to {high:+.1f})"
            print(f"{name:10} {model:4} {said} of {statistics.median(pair[1]):.2f} s", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--bench", type=Path)
    p.add_argument("--parts", nargs="+", default=["loop", "averaging", "command"])
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--child", choices=["loop", "averaging"], help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.child in ("loop", "averaging"):
        return our_loop(o.data, averaging=o.child == "averaging")
    here, data = __file__, str(o.data)
    bare = [str((o.bench or Path()) / "bare_loop.py"), "--data", data, "--model", "cnn", "--processes", "1"]
    bare += [word for key, value in LOOP.items() for word in (f"--{key}", str(value))]
    ours = lambda part, where=data: run_json(here, "--data", str(where), "--child", part)  # noqa: E731
    if "loop" in o.parts:
        pair = paired(lambda: run_json(*bare)["training_seconds"], lambda: ours("loop")["training_seconds"], o.repeats)
        show("loop, MNIST cnn, batch 64", *pair, "s", "at least 0.9")
    if "averaging" in o.parts:
        pair = paired(
            lambda: ours("averaging")["training_seconds"], lambda: ours("loop")["training_seconds"], o.repeats
        )
        show("averaging on / off, MNIST cnn", *pair, "s", "what averaging costs")
    if "costs" in o.parts:
        costs(o.data, o.repeats)
    if "command" in o.parts:
        example = [sys.executable, str(o.bench / "optuna_example.py"), "--data", data, "--trials", "200"]

        def our_command() -> float:
            with tempfile.TemporaryDirectory() as folder:
                argv = [sys.executable, "-m", "lrsearch", "run", "digits", "--dataset", "mnist", "--data-dir", data]
                argv += ["--set", "dataset.limit=1000", "--epochs", "5", "--set", "space.batch_size=64", "--quiet"]
                argv += [
                    "--set",
                    "pruner.name=none",
                    "--trials",
                    "200",
                    "--storage",
                    f"{folder}/a.db",
                    "--threads",
                    "1",
                ]
                return wall(argv, {})

        threads = {"OMP_NUM_THREADS": "1"}  # the same for both: one process, one thread
        pair = paired(lambda: wall(example, threads), our_command, min(o.repeats, 3))
        show("200 trials, command to exit", *pair, "s", "at least 3")
    return None


if __name__ == "__main__":
    main()

"""Do threads collide? Workers of a convolutional network on one machine, as ratios within one run.

    python benchmarks/threads.py [--repeats 3] [--parts alone hands busy] [--trials 8]

alone   one worker, passive waiting / active waiting: trainings a second; wanted: at least .95
hands   1, 2, 4, 8 workers started by hand at once / `lrsearch run --workers 2`: trials a minute; wanted: at least .8
busy    one worker beside a process that keeps a core busy / alone: trainings a second; wanted: at least .4

A training is that of the cnn on 1,000 digits, batch 64. The start of each worker, an import of PyTorch, is a part of
what is measured.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

TRAIN = """
import sys, time
from lrsearch import cores
if sys.argv[1] == "passive":
    cores.wait_passively()
import torch
from lrsearch.training import data, device
from lrsearch.training.data import DataConfig
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig
cpu = torch.device("cpu")
device.prepare(cpu, device.threads_for("cnn"))
engine = SerialEngine(data.load(DataConfig("digits")), ModelConfig("cnn"), cpu, Rules())
config = TrialConfig(OptimizerConfig("adam", 1e-3), ScheduleConfig("constant"), 64, 30, 0)
list(engine.start(config).epochs())
begun = time.perf_counter()
list(engine.start(config).epochs())
print(time.perf_counter() - begun)
"""
STUDY = ["--set", "model.name=cnn", "--set", "space.batch_size=64", "--set", "pruner.name=none", "--epochs", "20"]
STUDY += ["--set", "space.optimizer=adamw", "--set", "space.optimizer.adamw.peak_lr={low=1e-4, high=1e-2, log=true}"]


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_", "LRSEARCH_"))}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)}


def training(waiting: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, waiting], env=environment(), capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@contextmanager
def busy() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def per_minute(n: int, trials: int) -> float:
    """Return the trials a minute of n workers started by hand, from their start to the end; 0: run --workers 2."""
    command = [sys.executable, "-m", "lrsearch"]
    with tempfile.TemporaryDirectory() as folder:
        run = [*command, "run", "--trials", str(trials), "--quiet", *STUDY]
        if n == 0:
            begun = time.perf_counter()
            subprocess.run([*run, "--workers", "2"], cwd=folder, env=environment(), capture_output=True, check=True)
            return 60 * trials / (time.perf_counter() - begun)
        subprocess.run([*run, "--detach"], cwd=folder, env=environment(), capture_output=True, check=True)
        begun = time.perf_counter()
        worker = [*command, "worker", "--study", "digits", "--quiet"]
        workers = [subprocess.Popen(worker, cwd=folder, env=environment()) for _ in range(n)]
        for one in workers:
            one.wait()
        assert all(one.returncode == 0 for one in workers), [one.returncode for one in workers]
        return 60 * trials / (time.perf_counter() - begun)


def show(what: str, ratios: list[float], least: float) -> None:
    median = statistics.median(ratios)
    verdict = "as wanted" if median >= least else "TOO LOW"
    print(
        f"{what:44} {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), wanted {least}: {verdict}",
        flush=True,
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--parts", nargs="+", default=["alone", "busy", "hands"])
    p.add_argument("--trials", type=int, default=24)
    o = p.parse_args()
    if "alone" in o.parts:
        show(
            "one worker: passive / active waiting",
            [training("active") / training("passive") for _ in range(o.repeats)],
            0.95,
        )
    if "busy" in o.parts:
        ratios = []
        for _ in range(o.repeats):
            alone = training("passive")
            with busy():
                ratios.append(alone / training("passive"))
        show("one worker beside a busy core / alone", ratios, 0.4)
    if "hands" in o.parts:
        found: dict[int, list[float]] = {1: [], 2: [], 4: [], 8: []}
        for _ in range(o.repeats):
            base = per_minute(0, o.trials)
            for n, ratios in found.items():
                ratios.append(per_minute(n, o.trials) / base)
        for n, ratios in found.items():
            show(f"{n} started by hand / run --workers 2", ratios, 0.8)


if __name__ == "__main__":
    main()

"""Does the search beat a hand-picked setting? `lrsearch run --trials 50` on the digits, seed by seed.

    python benchmarks/digits_winners.py [--seeds 5]

The hand-picked setting (SGD momentum .9, lr .1, cosine to 0, batch 64) is trained with the same seeds in the same run.
Exit code 1 if the winners' mean test accuracy is below its, a validation accuracy below .95, or a command above 20 s.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lrsearch.training import device
from lrsearch.training.data import DataConfig, load
from lrsearch.training.engine import TestResult
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

LIMIT_SECONDS = 20
LIMIT_VALIDATION = 0.95


def hand_picked(engine: SerialEngine, seed: int) -> float:
    config = TrialConfig(
        OptimizerConfig("sgd", 0.1, momentum=0.9), ScheduleConfig("cosine", final_fraction=0.0), 64, 10, seed
    )
    result = engine.test(config)
    if not isinstance(result, TestResult):
        raise SystemExit(f"the hand-picked setting diverged: {result}")
    return result.test_accuracy


def search(seed: int) -> tuple[dict[str, object], float]:
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "lrsearch", "run", "--trials", "50", "--seed", str(seed), "--json", "--quiet"]
        begun = time.perf_counter()
        done = subprocess.run(
            [*argv, "--storage", str(Path(folder, "a.db"))], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)["winner"], seconds


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=5)
    o = p.parse_args()
    cpu = torch.device("cpu")
    device.prepare(cpu, 1)
    engine = SerialEngine(load(DataConfig()), ModelConfig("mlp"), cpu, Rules(averaging=False))
    winners, hands, ok = [], [], True
    for seed in range(o.seeds):
        winner, seconds = search(seed)
        hand = hand_picked(engine, seed)
        winners.append(float(str(winner["test_accuracy"])))
        hands.append(hand)
        validation = float(str(winner["value"]))
        ok = ok and validation >= LIMIT_VALIDATION and seconds <= LIMIT_SECONDS
        print(
            f"seed {seed}: winner validation {validation:.3f} test {winners[-1]:.4f}, hand-picked test {hand:.4f}, "
            f"command {seconds:.1f} s",
            flush=True,
        )
    mean, reference = statistics.mean(winners), statistics.mean(hands)
    print(f"mean test accuracy: winners {mean:.4f}, hand-picked {reference:.4f}, difference {mean - reference:+.4f}")
    return 0 if ok and mean >= reference else 1


if __name__ == "__main__":
    sys.exit(main())

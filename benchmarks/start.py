"""How long lrsearch takes to start, with and without looking for garbage while it imports (`lrsearch.loading`).

    python benchmarks/start.py [--rounds 7]

The shortest work there is: one trial of one epoch on the digits, in this process or by two workers, then `status`. Each
is run as it is and with `loading.uncollected` and `loading.alone` doing nothing, in turn, from the start of the process
to its end; beside them Python with torch and torchvision alone. Told are medians in seconds, and the ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

SHORTEST = ["run", "digits", "--epochs", "1", "--quiet", "--json", "--storage"]
WORK = {
    "one trial": [*SHORTEST, "{}/one.db", "--trials", "1"],
    "two trials, two workers": [*SHORTEST, "{}/two.db", "--trials", "2", "--workers", "2"],
    "status": ["status", "digits", "--storage", "{}/one.db"],
}
AS_IT_IS = "from lrsearch.__main__ import main; main()"
COLLECTED = (
    "from contextlib import nullcontext; from lrsearch import loading; loading.uncollected = nullcontext; "
    "loading.alone = lambda: None; " + AS_IT_IS
)
"""Workers are forked off a process that imports ``lrsearch.loading`` anew: it goes on without."""


def seconds(code: str, words: list[str], folder: str) -> float:
    """Return how long a process takes."""
    argv = [sys.executable, "-c", code, *(word.format(folder) for word in words)]
    begun = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"})
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    took: dict[str, list[float]] = defaultdict(list)
    for nth in range(args.rounds + 1):  # the first one fills the cache of files
        with tempfile.TemporaryDirectory() as folder:
            found = {"torch and torchvision": seconds("import torch, torchvision", [], folder)}
            for name, words in WORK.items():
                for code in (AS_IT_IS, COLLECTED):
                    if words[0] == "run":
                        Path(words[words.index("--storage") + 1].format(folder)).unlink(missing_ok=True)
                    found[f"{name}{'' if code == AS_IT_IS else ', looked for garbage'}"] = seconds(code, words, folder)
        for name, value in found.items():
            if nth:
                took[name].append(value)
    for name, values in took.items():
        print(f"{name:45} {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")
    for name in WORK:
        before, now = (statistics.median(took[f"{name}{end}"]) for end in (", looked for garbage", ""))
        print(f"{name}: {now / before:.2f} of the time")


if __name__ == "__main__":
    main()

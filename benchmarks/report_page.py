"""The report page at 50, 200 and 5,000 trials: written, and drawn in Chromium.

    python benchmarks/report_page.py [--trials 50 200 5000] [--repeats 3] [--keep FOLDER]

The studies are made up, but lie in a real database: drawn at random from the digits study's space with two optimizers,
scored by their distance from a good learning rate, a fifth complete, most pruned, the highest rates diverged. Each page
is opened from its file in a fresh headless Chromium. The medians are printed as rows of a Markdown table:

* write: `lrsearch report` as a process, start and imports included [s]
* size: of the file [MB]
* first chart, all charts: from the navigation until the chart is in the document [s]
* heap: JavaScript, after a collection; process: resident memory of the page's renderer [MB]
"""

import argparse
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

EPOCHS = 10
BEST_LR = {"sgd": 0.05, "adamw": 0.003}
BEGUN = datetime(2026, 11, 22, 8, 0, tzinfo=UTC).replace(tzinfo=None)


def study(folder: Path, n: int) -> Path:
    """Write a study of ``n`` finished trials, many in one transaction, through the product's own statements."""
    from lrsearch.spec import file as study_file
    from lrsearch.store import filing, optuna_rows, space
    from lrsearch.store.places import parse_place
    from lrsearch.store.storage import Database
    from lrsearch.store.tables import SLOT_ATTR, epochs, slots

    path = folder / f"{n}.db"
    spec = study_file.load("digits", [("name", f"made-up-{n}"), ("budget.trials", n)])
    random.seed(n)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=n))
    with closing(Database(parse_place(str(path)))) as database:
        filed = filing.create(database, spec)
        for first in range(0, n, 500):
            slot_rows, epoch_rows = [], []
            with database.writing() as connection:
                connection.execute(slots.update().where(slots.c.id == "none").values(state="ended"))
                for i in range(first, min(first + 500, n)):
                    asked = drawn.ask()
                    space.suggest(asked, spec.space)
                    frozen = asked.storage.get_trial(asked._trial_id)  # noqa: SLF001
                    _, number = optuna_rows.create(connection, filed.optuna_id, frozen, {SLOT_ATTR: f"s{i}"})
                    slot, rows = trial(f"s{i}", filed.id, number, frozen.params)
                    slot_rows.append(slot)
                    epoch_rows += rows
                connection.execute(slots.insert(), slot_rows)
                connection.execute(epochs.insert(), epoch_rows)
    return path


def trial(slot: str, study_id: str, number: int, params: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a trial that ended: its row, and those of its epochs."""
    optimizer = params["optimizer"]
    away = math.log10(params[f"peak_lr_{optimizer}"] / BEST_LR[optimizer])
    top = 0.985 - 0.12 * away**2 - 0.05 * random.random()
    outcome, reason, n = "pruned", "rung", random.choice((2, 2, 2, 6))
    if away > 1.5:
        outcome, reason, n = "diverged", "not_finite", random.choice((0, 1))
    elif random.random() < 0.2 or number == 0:
        outcome, reason, n = "complete", "finished", EPOCHS
    accuracy = [max(0.05, top * (1 - 0.6**epoch)) for epoch in range(1, n + 1)]
    begun = BEGUN + timedelta(seconds=number)
    row = {"id": slot, "study_id": study_id, "position": number, "state": "ended", "number": number, "attempts": 1}
    row |= {"origin": "sampler", "worker": f"host:{number % 4}", "device": "cpu", "versions": "made up", "epoch": n}
    row |= {"outcome": outcome, "reason": reason, "value": accuracy[-1] if outcome != "diverged" else None}
    row |= {"step": 41 if outcome == "diverged" else None, "lr": 1.0 if outcome == "diverged" else None}
    row |= {"message": f"{outcome} as made up", "started_at": begun, "ended_at": begun + timedelta(seconds=n)}
    rows = [
        {
            "slot_id": slot,
            "epoch": epoch,
            "study_id": study_id,
            "step": 50 * epoch,
            "lr": 0.1,
            "train_loss": 2.3 * (1 - score),
            "val_loss": 2.5 * (1 - score) + 0.02 * random.random(),
            "val_accuracy": score,
            "comparable": True,
            "seconds": 1.0,
        }
        for epoch, score in enumerate(accuracy, 1)
    ]
    return row, rows


def written(database: Path, page: Path) -> float:
    """Write the report in a process of its own; return how long that took [s]."""
    command = [sys.executable, "-m", "lrsearch", "report", "--storage", str(database), "-o", str(page)]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def drawn(page: Path) -> dict[str, float]:
    """Open the page in a fresh Chromium; return times [s] and memory [MB]."""
    from browser import chromium, looking

    with chromium() as browser, looking(browser, viewport={"width": 1280, "height": 900}) as seen:
        seen.page.goto(page.as_uri())
        seen.page.wait_for_selector("html[data-drawn=all]", timeout=120_000)
        marks = "Object.fromEntries(performance.getEntriesByType('mark').map((m) => [m.name, m.startTime / 1000]))"
        out: dict[str, float] = seen.page.evaluate(marks)
        session = seen.page.context.new_cdp_session(seen.page)
        session.send("HeapProfiler.collectGarbage")
        out["heap"] = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
        out["elements"] = seen.page.evaluate("document.querySelectorAll('*').length")
        whole = [p for p in psutil.Process().children(recursive=True) if "--type=renderer" in " ".join(p.cmdline())]
        out["process"] = max(p.memory_info().rss for p in whole) / 1e6
        assert not seen.errors, seen.errors
        return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trials", type=int, nargs="+", default=[50, 200, 5000])
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--keep", type=Path, help="folder for the studies and pages")
    o = p.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| trials | write | size | first chart | all charts | heap | process | elements |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as made:
        folder = o.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for n in o.trials:
            path = folder / f"{n}.db"
            database, page = path if path.exists() else study(folder, n), folder / f"{n}.html"
            seconds = [written(database, page) for _ in range(o.repeats)]
            looks = [drawn(page) for _ in range(o.repeats)]
            m = {key: statistics.median(look[key] for look in looks) for key in looks[0]}
            print(
                f"| {n:,} | {statistics.median(seconds):.1f} s | {page.stat().st_size / 1e6:.1f} MB | "
                f"{m['first chart']:.1f} s | {m['all charts']:.1f} s | {m['heap']:.0f} MB | {m['process']:.0f} MB | "
                f"{m['elements']:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

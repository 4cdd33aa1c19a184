"""Train what beginners are told of learning rates and write down what came of it: docs/lessons.md.

    python docs/render_lessons.py

Every lesson is a few trainings of the small network on the digits, seconds each, made by the commands that the page
shows, in an empty folder. tests/test_lessons.py trains them again and holds each to what its lesson says.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrsearch.errors import EXIT_NOTHING_FEASIBLE, EXIT_OK
from lrsearch.report.chart import sparkline

PAGE = Path(__file__).resolve().parent / "lessons.md"
HEAD = """<!-- made by docs/render_lessons.py: change that one -->

# Lessons

What textbooks say of learning rates, each as real trainings: an image classifier with one hidden layer on 800
handwritten digits, judged on 200 others, ten classes. A training takes a second on a CPU, and downloads nothing. A
guess is right for 10 % of the images and has a loss of 2.3.

The curves are the mean training loss of each epoch, the first at the left, the highest block the largest, on a
logarithmic axis; `!` is no number. The numbers are those of `lrsearch show 0 NAME --json`, on one machine; on another
their last digits may differ. Each command makes a study of one trial; `lrsearch show 0 NAME` then shows it epoch by
epoch. Made by `python docs/render_lessons.py`, and trained anew by `tests/test_lessons.py`.
"""
WIDE = "{low=1e-10,high=100,log=true}"
"""Room for a learning rate that nobody should search."""


@dataclass(frozen=True)
class Training:
    """One training of a lesson."""

    name: str
    """Of its study."""
    setting: str
    epochs: int = 10

    @property
    def optimizer(self) -> str:
        """Of the setting."""
        return self.setting.split()[0]

    @property
    def command(self) -> list[str]:
        """Train it: a study of one trial, that of a person's own setting."""
        return [
            *("lrsearch", "run", "--name", self.name, "--trials", "1", "--epochs", str(self.epochs)),
            *("--baseline", f"{self.setting} warmup=0 batch=64"),
            *("--set", f"space.optimizer.{self.optimizer}.peak_lr={WIDE}"),
        ]


@dataclass(frozen=True)
class Lesson:
    """What is said of learning rates, and the trainings that show it."""

    title: str
    said: str
    trainings: tuple[Training, ...]
    shown: str


LESSONS = (
    Lesson(
        "Ten with SGD",
        "A learning rate of 10 with SGD is the textbook's example of one that is too high.",
        (Training("sgd-10", "sgd lr=10 constant"), Training("sgd-0.01", "sgd lr=0.01 constant")),
        "At 10 the loss is three times that of a guess from the first epoch on, then it explodes, and the watch ends "
        "the training: diverged is a result, not a crash. At a thousandth of it the same network learns.",
    ),
    Lesson(
        "Somewhat too high, and the loss jumps",
        "A rate need not explode to be too high: the loss jumps up and down and never settles.",
        (Training("sgd-0.25", "sgd lr=0.25 constant"), Training("sgd-0.05", "sgd lr=0.05 constant")),
        "Nothing has diverged, so that a program that looks for numbers that are none sees nothing; the loss tells.",
    ),
    Lesson(
        "A tenth with Adam",
        "Adam adapts its steps, so that 0.1, a common choice with SGD, seems safe. Its good rates are far smaller.",
        (
            Training("adam-0.1", "adam lr=0.1 constant"),
            Training("adam-0.001", "adam lr=0.001 constant"),
            Training("sgd-0.1", "sgd lr=0.1 constant"),
        ),
        "A learning rate means nothing without its optimizer: a tenth with Adam wrecks what a thousandth learns, and a "
        "tenth with SGD learns, though it bounces.",
    ),
    Lesson(
        "A rate that never moves the loss",
        "The training runs, takes as long as any, and its loss stands still from the first epoch to the last.",
        (Training("sgd-1e-8", "sgd lr=1e-8 constant"), Training("sgd-1e-3", "sgd lr=1e-3 constant")),
        "A loss that does not fall is no proof that the rate is too high: here it is a hundred thousand times too low. "
        "What tells the two apart is whether the loss ever rose.",
    ),
    Lesson(
        "A fixed rate over a long training",
        "A rate that learns fast at first keeps the weights from settling later; a schedule lets it fall.",
        (
            Training("fixed", "sgd lr=0.15 constant", 60),
            Training("falling", "sgd lr=0.15 cosine final=0.001", 60),
        ),
        "Both begin with the same rate, too high for this network to keep. Over sixty epochs the fixed one still "
        "bounces at the end; the one that falls along a cosine settles, and its last epochs agree with each other.",
    ),
    Lesson(
        "Adaptive optimizers need tuning all the same",
        "Adam is said to make the learning rate a detail.",
        (
            Training("adam-1e-5", "adam lr=1e-5 constant"),
            Training("adam-1e-4", "adam lr=1e-4 constant"),
            Training("adam-3e-3", "adam lr=3e-3 constant"),
            Training("adam-5e-2", "adam lr=5e-2 constant"),
        ),
        "From a hundred-thousandth to a twentieth its accuracy goes from poor to good and back: the good range of Adam "
        "has edges on both sides, too.",
    ),
)


def trained(training: Training, folder: Path) -> dict[str, Any]:
    """Train it in a folder; return what `lrsearch show 0 NAME --json` says."""
    program = [sys.executable, "-m", *training.command, "--storage", "lessons.db", "--quiet"]
    env = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    # That nothing was trained through is what some lessons are about.
    if run.returncode not in (EXIT_OK, EXIT_NOTHING_FEASIBLE):
        raise SystemExit(run.stderr)
    show = [sys.executable, "-m", "lrsearch", "show", "0", training.name, "--storage", "lessons.db", "--json"]
    done = subprocess.run(show, cwd=folder, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - likewise
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def losses(shown: dict[str, Any]) -> list[float]:
    """Return the training loss of each epoch [nats/example]; what is no number as such."""
    return [float("nan") if row["train_loss"] is None else row["train_loss"] for row in shown["trial"]["metrics"]]


def _row(training: Training, shown: dict[str, Any]) -> str:
    trial, rows = shown["trial"], shown["trial"]["metrics"]
    curve = sparkline(losses(shown), 24) or "ended in its first epoch"
    last = rows[-1] if rows else None
    numbers = "- | -" if last is None else f"{_number(last['train_loss'])} | {_number(last['val_accuracy'])}"
    return (
        f"| `{training.setting}` | {curve} | {numbers} | {trial['state']} | {shown['diagnosis']['condition']}: next lr "
        f"{_number(shown['diagnosis']['next_lr'])} |"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def page(folder: Path) -> str:
    """Return the page, its trainings made in a folder."""
    parts = [HEAD]
    for lesson in LESSONS:
        parts.append(f"## {lesson.title}\n\n{lesson.said}\n")
        lines = [shlex.join(training.command) for training in lesson.trainings]
        parts.append("```sh\n" + "\n".join(lines) + "\n```\n")
        parts.append("| setting | training loss | at the end | validation accuracy | it was | the diagnosis |")
        parts.append("|--|--|--|--|--|--|")
        found = [trained(training, folder) for training in lesson.trainings]
        parts += [_row(training, shown) for training, shown in zip(lesson.trainings, found, strict=True)]
        parts.append("")
        for training, shown in zip(lesson.trainings, found, strict=True):
            parts.append(f"* `{training.setting}`: {shown['diagnosis']['sentence']}")
        parts.append(f"\n{lesson.shown}\n")
    return "\n".join(parts)


def main() -> None:
    """Train them all and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(Path(folder)), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()

"""Whom pruners end: random trials are trained through and written down epoch by epoch, then rules are judged on them.

    python benchmarks/fair_pruning.py record --data FOLDER --out FILE.jsonl [--problems mnist_cnn digits_mlp ...]
    python benchmarks/fair_pruning.py judge FILE.jsonl ... [--problems mnist_cnn ...] [--repeats 200] [--part 0/2]

FOLDER holds MNIST/raw and emoji/pictures. Trials are drawn at random from the default space with sgd and adam. A line
for each: problem, trial, its setting, and a value an epoch of val_acc, val_loss, averaged_val_acc, averaged_val_loss,
train_loss, lr (of its last update, over the peak), area (part of the sum of all learning rates that is behind),
comparable, and cool_acc, cool_loss: after a virtual cool-down of half an epoch, at COOLED alone. Run again it goes on
where it stopped.

Judged are trials one after another in a random order, as one worker trains them. Cost: epochs trained, of those that
all trials would have. Killed: the part of the best fifteenth of the final ranking (10 of 150) that a rule ended.
Intervals: the 5th and the 95th percentile over bootstrap samples of the trials, each in an order of its own. ``--part
K/N`` takes every Nth trial.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from scipy.stats import kendalltau

from lrsearch import worker
from lrsearch.schedules import comparable_from, factors
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import space
from lrsearch.strategy.judge import judge
from lrsearch.strategy.view import KEEP, Judgement, Reached, RungRow
from lrsearch.training.serial import SerialEngine, SerialTraining
from lrsearch.trial import Divergence, EpochMetrics, TrialConfig

PROBLEMS: dict[str, tuple[dict[str, Any], int, int]] = {
    "mnist_cnn": ({"dataset": {"name": "mnist", "limit": 5000}, "model": {"name": "cnn"}}, 10, 150),
    "mnist_mlp": ({"dataset": {"name": "mnist", "limit": 2500}, "model": {"name": "mlp"}}, 12, 150),
    "emoji_cnn": ({"dataset": {"name": "folder:EMOJI", "image_size": 32}, "model": {"name": "cnn"}}, 10, 150),
    "digits_mlp": ({"dataset": {"name": "digits"}, "model": {"name": "mlp"}}, 10, 300),
    "emoji_resnet9": ({"dataset": {"name": "folder:EMOJI", "image_size": 16}, "model": {"name": "resnet9"}}, 6, 90),
}
"""What is trained, for how many epochs, and how many trials."""
COOLED = (0.2, 0.4)
"""After which parts of the training the virtual cool-down is tried."""
COOL_DOWN_EPOCHS = 0.5


def spec_of(problem: str, data: Path) -> StudySpec:
    """Return the study of a problem."""
    tables, epochs, _ = PROBLEMS[problem]
    space = {"optimizer": ["sgd", "adam"]}
    text = json.dumps({"name": problem, "epochs": epochs, "space": space, "training": {"averaging": "on"}, **tables})
    return study_file.build(json.loads(text.replace("EMOJI", str(data / "emoji" / "pictures"))), problem)


def drawn(spec: StudySpec, n: int) -> list[TrialConfig]:
    """Return random settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    out: list[TrialConfig] = []
    for _ in range(n):
        asked = study.ask()
        space.suggest(asked, spec.space)
        out.append(parameters.config(spec, asked.params))
    return out


def finite(value: float | None) -> float | None:
    """Return a number that JSON knows."""
    return None if value is None or not math.isfinite(value) else value


def cooled(engine: SerialEngine, config: TrialConfig, training: SerialTraining) -> tuple[float | None, float | None]:
    """Return accuracy and loss after half an epoch whose rate falls linearly to zero from where it is."""
    twin = engine.start(config, training.checkpoint())
    n = max(1, round(COOL_DOWN_EPOCHS * twin.steps_per_epoch))
    now = twin._lrs[twin.step - 1]  # noqa: SLF001 - no public way leads off a schedule
    for i in range(n):
        twin._lrs[twin.step + i] = now * (n - i) / (n + 1)  # noqa: SLF001
    twin._look_every = twin.steps_per_epoch + 1  # noqa: SLF001
    order = torch.Generator()
    order.set_state(twin._order)  # noqa: SLF001
    training_epoch = twin._train_epoch(order)  # noqa: SLF001
    twin._attention = Until(n)  # noqa: SLF001
    next(training_epoch, None)
    scores = twin.evaluate(engine.splits.validation)
    return finite(scores.accuracy), finite(scores.loss)


class Until:
    """Asks for attention after so many updates."""

    def __init__(self, n: int) -> None:
        self._left = n + 1

    def is_set(self) -> bool:
        """Count an update."""
        self._left -= 1
        return self._left <= 0

    def ends(self) -> bool:
        """End here."""
        return True


def recorded(engine: SerialEngine, spec: StudySpec, config: TrialConfig) -> dict[str, Any]:
    """Train one setting through; a value an epoch."""
    training = engine.start(config)
    shape = factors(config.schedule, training.n_steps)
    area = np.cumsum(shape) / shape.sum()
    first = comparable_from(config.schedule, spec.epochs)
    columns: dict[str, list[Any]] = {}
    diverged: str | None = None
    begun = time.perf_counter()
    cool_seconds = 0.0
    for told in training.epochs():
        if isinstance(told, Divergence):
            diverged = told.reason.value
        if not isinstance(told, EpochMetrics):
            break
        row: dict[str, Any] = {
            "val_acc": finite(told.val_accuracy),
            "val_loss": finite(told.val_loss),
            "averaged_val_acc": finite(told.averaged_val_accuracy),
            "averaged_val_loss": finite(told.averaged_val_loss),
            "train_loss": finite(told.train_loss),
            "lr": told.lr / config.optimizer.peak_lr,
            "area": float(area[told.step - 1]),
            "comparable": told.epoch >= first,
            "cool_acc": None,
            "cool_loss": None,
        }
        if told.epoch in {round(part * spec.epochs) for part in COOLED}:
            before = time.perf_counter()
            row["cool_acc"], row["cool_loss"] = cooled(engine, config, training)
            cool_seconds += time.perf_counter() - before
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    setting = {
        "optimizer": config.optimizer.name,
        "peak_lr": config.optimizer.peak_lr,
        "schedule": config.schedule.family,
        "batch_size": config.batch_size,
    }
    seconds = time.perf_counter() - begun - cool_seconds
    return setting | columns | {"diverged": diverged, "seconds": seconds}


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield what was recorded."""
    if file.exists():
        for line in file.read_text().splitlines():
            yield json.loads(line)


def record(args: argparse.Namespace) -> None:
    """Record what is not recorded yet."""
    torch.set_num_threads(1)
    behind = {(line["problem"], line["trial"]) for line in lines(args.out)}
    for problem in args.problems:
        spec, n = spec_of(problem, args.data), args.trials or PROBLEMS[problem][2]
        engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=args.data, progress=False)
        assert isinstance(engine, SerialEngine)
        for trial, config in enumerate(drawn(spec, n)):
            if (problem, trial) in behind:
                continue
            line = {"problem": problem, "trial": trial, "epochs": spec.epochs} | recorded(engine, spec, config)
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(f"{problem}: done", flush=True)


# --- judging ----------------------------------------------------------------------------------------------------------

Array = np.ndarray[Any, np.dtype[np.float64]]


class Recorded:
    """The trials of a problem as arrays ``[trials, epochs]``; not a number where a trial had ended."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows, self.n, self.epochs = rows, len(rows), int(rows[0]["epochs"])
        names = ("val_acc", "val_loss", "averaged_val_acc", "averaged_val_loss", "area", "lr", "cool_acc", "cool_loss")
        self.of = {name: self._column(name) for name in names}
        self.comparable = self._column("comparable") == 1
        self.n_epochs = np.array([len(row.get("val_acc", [])) for row in rows])
        self.diverged = np.array([row["diverged"] is not None for row in rows])
        last = self.of["val_acc"][:, -1], self.of["val_loss"][:, -1]
        lost = self.diverged | np.isnan(last[0]) | np.isnan(last[1])
        # As the study orders them: by accuracy, the lower loss first where it is equal.
        order = np.lexsort((np.where(lost, np.inf, last[1]), np.where(lost, 1.0, -last[0])))
        self.place = np.argsort(order)
        self.final = np.where(lost, 0.0, last[0])

    def _column(self, name: str) -> Array:
        out = np.full((self.n, self.epochs), np.nan)
        for i, row in enumerate(self.rows):
            for j, value in enumerate(row.get(name, [])):
                out[i, j] = np.nan if value is None else value
        return out

    def scores(self) -> dict[str, Array]:
        """Return what a rule could compare, higher is better."""
        raw, averaged, area = self.of["val_acc"], self.of["averaged_val_acc"], self.of["area"]
        last = np.array([row["lr"][-1] if len(row.get("lr", [])) == self.epochs else 0.0 for row in self.rows])
        falls = 1 - np.clip(last[:, None] / np.maximum(self.of["lr"], 1e-9), 0, 1)
        return {
            "averaged": averaged,
            "raw": raw,
            "later of both": np.where(area > 0.5, raw, averaged),
            "by progress": area * raw + (1 - area) * averaged,
            "as the rate will fall": raw + falls * (averaged - raw),
            "averaged loss": -self.of["averaged_val_loss"],
            "raw loss": -self.of["val_loss"],
            "extrapolated": -(1 - averaged) * np.sqrt(area),
            "cooled down": np.where(np.isnan(self.of["cool_acc"]), averaged, self.of["cool_acc"]),
        }


@dataclass(frozen=True)
class Way:
    """A score and a rule."""

    score: str
    pruner: dict[str, Any]
    margin: float = 0.0
    """Standard errors of an accuracy by which a trial may lie below the cut."""
    pauses: bool = False
    """Whether what was ended goes on, the best first, until the cost is that of asha as it was shipped."""
    extra: float = 0.0
    """Epochs that a look costs."""


ASHA = {"name": "asha"}
GRADUAL = {"name": "gradual"}
BASE = "asha, averaged"
WAYS: dict[str, Way] = {
    BASE: Way("averaged", ASHA),
    **{
        f"asha, {score}": Way(score, ASHA)
        for score in ("raw", "later of both", "by progress", "as the rate will fall", "averaged loss", "extrapolated")
    },
    "asha, first rung twice as late": Way("averaged", ASHA | {"min_resource": 4}),
    "asha from epoch 1, factor 2": Way("averaged", ASHA | {"min_resource": 1, "reduction_factor": 2}),
    "asha from epoch 2, factor 2": Way("averaged", ASHA | {"min_resource": 2, "reduction_factor": 2}),
    "the same, cooled down": Way("cooled down", ASHA | {"min_resource": 2, "reduction_factor": 2}, extra=0.5),
    "gradual, averaged": Way("averaged", GRADUAL),
    **{
        f"gradual, {score}": Way(score, GRADUAL)
        for score in ("raw", "as the rate will fall", "averaged loss", "extrapolated")
    },
    "gradual, power 1.2": Way("averaged", GRADUAL | {"power": 1.2}),
    "gradual, power 2": Way("averaged", GRADUAL | {"power": 2.0}),
    "gradual, power 2, a margin of one error": Way("averaged", GRADUAL | {"power": 2.0}, margin=1.0),
    "gradual, power 2, pausing": Way("averaged", GRADUAL | {"power": 2.0}, pauses=True),
    "asha, pausing": Way("averaged", {"name": "asha", "min_resource": 1}, pauses=True),
}


def judged(trials: Recorded, spec: StudySpec, way: Way, order: Sequence[int], n_images: int, cost: float) -> Any:
    """Return whom a rule ended, ``[trials of the order]``, and the part of all epochs that were trained."""
    score = trials.scores()[way.score]
    looks = {epoch: list[float]() for epoch in range(1, trials.epochs) if spec.pruner.compares_at(epoch, trials.epochs)}
    ended, trained, places = np.zeros(len(order), bool), np.zeros(len(order)), dict[int, tuple[int, float]]()
    extra = 0.0

    def goes_on(i: int, epoch: int) -> Judgement:
        nonlocal extra
        value = float(score[i, epoch - 1])
        rows = [RungRow(one, complete=False, comparable=True) for one in looks[epoch]]
        found = judge(Reached(spec, epoch, comparable=True, hours_left=None, own=[value], others=rows))
        looks[epoch].append(value)
        extra += way.extra if epoch in {round(part * trials.epochs) for part in COOLED} else 0.0
        if found.fate == "prune" and found.cut is not None and way.margin:
            error = math.sqrt(max(found.cut * (1 - found.cut), 1e-4) / n_images)
            return KEEP if value >= found.cut - way.margin * error else found
        return found

    def train(k: int, begun: int) -> None:
        i = order[k]
        for epoch in range(begun + 1, int(trials.n_epochs[i]) + 1):
            trained[k] = epoch
            if epoch in looks and trials.comparable[i, epoch - 1] and goes_on(i, epoch).fate == "prune":
                ended[k], places[k] = True, (epoch, float(score[i, epoch - 1]))
                return

    for k in range(len(order)):
        train(k, 0)
    total = len(order) * trials.epochs
    while way.pauses and places and trained.sum() < cost * total:
        # Who has the fewest better ones among all that came to where it stands goes on.
        def standing(k: int) -> int:
            epoch, value = places[k]
            return sum(other > value for other in looks[epoch])

        best = min(places, key=standing)
        epoch, _ = places.pop(best)
        ended[best] = False
        train(best, epoch)
    return ended, (trained.sum() + extra) / total


def judge_all(args: argparse.Namespace) -> None:
    """Print, for every problem, how scores rank and what rules end."""
    known: dict[str, list[dict[str, Any]]] = {}
    for path in args.files:
        for line in lines(path):
            known.setdefault(line["problem"], []).append(line)
    for problem in args.problems:
        part, n_parts = map(int, args.part.split("/"))
        rows = known.get(problem, [])[part::n_parts]
        if rows:
            judge_problem(problem, Recorded(rows), args.repeats)


IMAGES = {"mnist_cnn": 1000, "mnist_mlp": 500, "digits_mlp": 200, "emoji_cnn": 305, "emoji_resnet9": 305}
"""Validation images."""


def judge_problem(problem: str, trials: Recorded, repeats: int) -> None:
    """Print the two tables of a problem."""
    n_best = max(3, round(trials.n / 15))
    print(
        f"\n{problem}: {trials.n} trials of {trials.epochs} epochs, {trials.diverged.sum()} diverged; best {n_best}\n"
    )
    print(
        "| Kendall's tau with the final ranking, of those that did not diverge, after epoch | "
        + " | ".join(map(str, range(1, trials.epochs)))
        + " |"
    )
    print("|--|" + "--|" * (trials.epochs - 1))
    alive = ~trials.diverged
    for name, score in trials.scores().items():
        found = [
            kendalltau(np.nan_to_num(score[alive, e], nan=-9), -trials.place[alive]).statistic
            for e in range(trials.epochs - 1)
        ]
        print(f"| {name} | " + " | ".join(f"{one:.2f}" for one in found) + " |")
    print("\n| rule | killed | less than asha's | cost | best lost |\n|--|--|--|--|--|")
    killed: dict[str, Array] = {}
    base_cost: list[float] = []
    for name, way in WAYS.items():
        spec = study_file.build({"name": "x", "epochs": trials.epochs, "pruner": way.pruner}, "the benchmark")
        draw = np.random.default_rng(0)
        shares, costs, lost = list[float](), list[float](), list[float]()
        for repeat in range(repeats):
            order = draw.integers(trials.n, size=trials.n)
            ended, cost = judged(
                trials,
                spec,
                way,
                order.tolist(),
                IMAGES[problem],
                base_cost[repeat] if base_cost and name != BASE else 0.0,
            )
            best = np.argsort(trials.place[order], kind="stable")[:n_best]
            shares.append(float(ended[best].mean()))
            costs.append(float(cost))
            lost.append(float(trials.final[order].max() - np.where(ended, 0.0, trials.final[order]).max()))
        if name == BASE:
            base_cost = costs
        killed[name] = np.array(shares)
        less = killed[BASE] - killed[name]
        said = (spread(killed[name]), spread(less), f"{np.mean(costs):.2f}", f"{100 * np.mean(lost):.2f} points")
        print(f"| {name} | {' | '.join(said)} |", flush=True)


def spread(values: Array) -> str:
    """Say a mean and its interval."""
    low, high = np.quantile(values, (0.05, 0.95))
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("record")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--problems", nargs="+", choices=[*PROBLEMS], default=[*PROBLEMS])
    one.add_argument("--trials", type=int, help="of each problem; by default as many as PROBLEMS says")
    one.set_defaults(does=record)
    two = commands.add_parser("judge")
    two.add_argument("files", nargs="+", type=Path)
    two.add_argument("--problems", nargs="+", choices=[*PROBLEMS], default=[*PROBLEMS])
    two.add_argument("--repeats", type=int, default=200)
    two.add_argument("--part", default="0/1", metavar="K/N")
    two.set_defaults(does=judge_all)
    args = parser.parse_args()
    args.does(args)


if __name__ == "__main__":
    main()

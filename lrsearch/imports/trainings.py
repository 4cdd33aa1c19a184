"""Trainings that were made elsewhere, read from a table: Weights & Biases', Optuna's, lrsearch's, one's own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lrsearch.errors import DataError
from lrsearch.imports import columns, table
from lrsearch.imports.runs import PastRun, RunReader
from lrsearch.imports.scores import count, is_result, listed, number
from lrsearch.imports.settings import RowError, SettingReader, left_out
from lrsearch.imports.table import CsvTable
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.view import KnownTraining
from lrsearch.text import counted
from lrsearch.trial import State

PLAUSIBLE_CLASSES = 50
"""With so many classes or fewer even guessing is right on more than one image in a hundred."""
NO_WARMUP = ("warmup_fraction", {0.0})
"""What a table takes for granted that does not mention it."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file came to."""

    trainings: tuple[tuple[int, KnownTraining], ...]
    """With the row of each, as a spreadsheet counts: the header is row 1."""
    unusable: tuple[tuple[int, str], ...]
    """Rows that cannot be used, and why, as what is said of a row: ``has no learning rate``."""
    notes: tuple[str, ...]
    """What was taken for granted, in words."""
    columns: Mapping[str, str]
    """Which columns were read: what they say -> their names, with commas between them."""
    ignored: tuple[str, ...]
    """Columns that nothing was read from."""


def read(text: str, what: str, spec: StudySpec, mapped: Mapping[str, str] | None = None, setting: str = "") -> Imported:
    """Return the trainings of a CSV file as far as the study can use them.

    Args:
        text: the file.
        what: its name, which is also the source of its trainings.
        spec: the study.
        mapped: what a person says of columns, by their names: the key.
        setting: what rows leave out, as in a setting: ``"sgd cosine batch=64"``.

    Raises:
        DataError: no row can be used, or the file is no such table.
        UsageError: ``mapped`` or ``setting`` names what there is not.
    """
    rows = table.read(text, what)
    keys = columns.found(rows.headers, spec.metric, mapped or {})
    return _Reader(spec, what, rows, keys, SettingReader(spec, rows.headers, keys, left_out(setting))).all()


@dataclass(slots=True)
class _Reader:
    """Reads one file."""

    spec: StudySpec
    what: str
    table: CsvTable
    keys: dict[str, tuple[str, ...]]
    settings: SettingReader
    notes: list[str] = field(default_factory=list)
    percent: bool = False
    """Whether shares are given in percent."""
    marked: bool = False
    """Whether by the mark, so that a small number is no fraction among them."""
    longest: int = 0
    """Epochs of the training with the most scores."""

    def all(self) -> Imported:
        """Return all trainings."""
        owners = (*self.spec.space.optimizers, *self.spec.space.schedules)
        runs_of = RunReader(self.table, self.keys, owners, self.notes)
        self._choose("scores")
        if not (self._choose("value") or "scores" in self.keys or runs_of.steps()):
            metric, there = self.spec.metric.name, ", ".join(name for name in self.table.headers if name)
            raise DataError(
                f"{self.what} has no column of the study's metric, {metric}: name it with --column NAME={metric}; "
                f"its columns are {there}"
            )
        runs = runs_of.runs()
        self._look_for_percent(runs)
        self.longest = max((len(run.scores) for run in runs), default=0)
        trainings, unusable = list[tuple[int, KnownTraining]](), list[tuple[int, str]]()
        for run in runs:
            try:
                trainings.append((run.row, self._training(run)))
            except RowError as error:
                unusable.append((run.row, str(error)))
        if not trainings:
            row, why = unusable[0]
            n = counted(len(unusable), "training")
            raise DataError(f"none of the {n} in {self.what} can be used; the first, row {row}, {why}")
        self._say_what_was_supplied()
        used = {name for names in self.keys.values() for name in names} | set(runs_of.steps().values())
        used |= columns.of_owners(self.table.headers, owners)
        ignored = tuple(name for name in self.table.headers if name and name not in used)
        read_from = {key: ", ".join(names) for key, names in self.keys.items()}
        return Imported(tuple(trainings), tuple(unusable), tuple(self.notes), read_from, ignored)

    def _choose(self, key: str) -> bool:
        """Settle on one column of those that may hold a result, the likeliest that does; return whether there is one.

        A file's results are compared with each other: all of them are of one column.
        """
        for name in self.keys.pop(key, ()):
            if any(is_result(line.cells.get(name, "")) for line in self.table.lines):
                self.keys[key] = (name,)
                if columns.plain(name).startswith("best_"):
                    self.notes.append(f"'{name}' is the best of a training's epochs, and not its last")
                return True
        return False

    def _value(self, cells: Mapping[str, str]) -> float | None:
        """Return what a training came to, as written; None where its column is empty, or holds a list.

        Raises:
            RowError: it is no number.
        """
        name = next(iter(self.keys.get("value", ())), "")
        text = cells.get(name)
        if text is None or listed(text) is not None:
            return None
        value = number(text)
        if value is None:
            raise RowError(f"has {name} = {text}, which is no number")
        return value

    def _look_for_percent(self, runs: Sequence[PastRun]) -> None:
        """Settle whether shares are given in percent.

        Raises:
            DataError: they are neither fractions nor percent.
        """
        if not self.spec.metric.is_share:
            return
        name = next(iter(self.keys.get("value", ())), "")
        cells = [run.cells[name] for run in runs if name in run.cells]
        told = [n for cell in cells if (n := number(cell)) is not None] + [n for run in runs for n in run.scores]
        most = max((n for n in told if math.isfinite(n)), default=0.0)
        if most > 100:
            metric = self.spec.metric.name
            raise DataError(
                f"{self.what}: {metric} must be a fraction or percent, got {most:g}: name the right column with "
                f"--column NAME={metric}"
            )
        self.marked = any(cell.endswith("%") for cell in cells)
        self.percent = most > 1 or self.marked
        if self.percent:
            self.notes.append(f"{self.spec.metric.name} is given in percent: {most:g} is read as {most / 100:g}")

    def _check(self, told: Sequence[float]) -> None:
        """Make sure that numbers may be scores of the metric.

        Raises:
            RowError: they may not.
        """
        there, metric = [n for n in told if math.isfinite(n)], self.spec.metric
        if not metric.is_share or not there:
            return
        if min(there) < 0:
            raise RowError(f"has {metric.name} = {min(there):g}, below 0")
        few = 0 < len(self.spec.facts.classes) <= PLAUSIBLE_CLASSES
        if self.percent and not self.marked and few and 0 < max(there) <= 1:
            raise RowError(f"has {metric.name} = {max(there):g}, a fraction, where other rows give percent")

    def _training(self, run: PastRun) -> KnownTraining:
        """Return a training.

        Raises:
            RowError: it cannot be used.
        """
        end, told = self._end(run.cells), self._value(run.cells)
        self._check([*run.scores, *([] if told is None else [told])])
        unit = 100.0 if self.percent else 1.0
        scores, value = [score / unit for score in run.scores], None if told is None else told / unit
        epochs = self._epochs(run.cells, scores, end)
        last = scores[-1] if scores else value
        if end == "diverged" or (last is not None and not math.isfinite(last)):
            while scores and not math.isfinite(scores[-1]):
                scores.pop()
            return self._known(run, epochs, State.DIVERGED, scores, None)
        if end is None:
            end = "pruned" if 0 < len(scores) < epochs else "complete"
        if end == "complete":
            return self._known(run, epochs, State.COMPLETE, scores, self._at_the_end(scores, value, epochs))
        reached = count(run.cells.get(next(iter(self.keys.get("epoch", ())), "")))
        if not scores and value is not None and reached is not None and 1 <= reached <= epochs:
            scores = [math.nan] * (reached - 1) + [value]
        if not scores:
            how = "failed" if end == "failed" else "was ended early"
            raise RowError(f"{how}, and neither an epoch nor scores by epoch say how far it came")
        return self._known(run, epochs, State.PRUNED, scores, None)

    def _at_the_end(self, scores: Sequence[float], value: float | None, epochs: int) -> float:
        if scores and len(scores) < epochs:
            raise RowError(f"is complete with the scores of {len(scores)} of {counted(epochs, 'epoch')}")
        if value is None and not scores:
            raise RowError(f"has no {self.spec.metric.name}")
        return scores[epochs - 1] if value is None else value

    def _known(
        self, run: PastRun, epochs: int, state: State, scores: Sequence[float], value: float | None
    ) -> KnownTraining:
        config = self.settings.config(run.cells, epochs)
        return KnownTraining(config, state, tuple(scores[:epochs]), value, self.what)

    def _end(self, cells: Mapping[str, str]) -> str | None:
        """Return how a training ended; None where no column says it.

        Raises:
            RowError: it has not, or what is said is not understood.
        """
        said = self.settings.said(cells, "state")
        if said is None:
            return None
        end = columns.END.get(said[1].lower())
        if end is None:
            raise RowError(f"has {said[0]} = {said[1]}, which is none of {', '.join(columns.END)}")
        if end == "running":
            raise RowError(f"has not ended ({said[1]})")
        return end

    def _epochs(self, cells: Mapping[str, str], scores: Sequence[float], end: str | None) -> int:
        """Return the epochs for which a training was made, and its schedule computed."""
        said = self.settings.said(cells, "epochs")
        if said is not None:
            epochs = count(said[1])
            if epochs is None or epochs < 1:
                raise RowError(f"has {said[0]} = {said[1]}, which is no number of epochs")
            return epochs
        if scores and end == "complete":
            return len(scores)
        epochs = self.longest or self.spec.epochs
        self.settings.supplied.setdefault("epochs", set()).add(epochs)
        return epochs

    def _say_what_was_supplied(self) -> None:
        """Note what rows do not say, and PyTorch does not take when it is not told."""
        told = {key: values for key, values in self.settings.supplied.items() if (key, values) != NO_WARMUP}
        if told:
            said = ", ".join(f"{key} {' or '.join(sorted(map(_word, values)))}" for key, values in told.items())
            self.notes.append(f"what rows do not say is taken to be {said}")


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

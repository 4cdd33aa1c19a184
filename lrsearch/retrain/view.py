"""A training that is watched: a bar on a terminal, a line an epoch elsewhere."""

import math
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lrsearch.report import words
from lrsearch.trial import EpochMetrics

REFRESH_PER_SECOND = 6


class Position(Protocol):
    """Where a training stands; looked at from another thread, which costs the training nothing."""

    @property
    def step(self) -> int:
        """Updates made so far."""
        ...

    @property
    def n_steps(self) -> int:
        """Updates of the whole training."""
        ...

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        ...


def epoch_line(row: EpochMetrics, epochs: int, n_validation: int) -> str:
    """Return what an epoch measured as one line; without validation images there is nothing to say of them."""
    return f"epoch {row.epoch}/{epochs} {_scores(row, n_validation, '=')} lr={words.rate(row.lr)}"


class TrainingBar:
    """Shows a training while it runs: ``with TrainingBar(...) as bar: for row in rows: bar.on(row)``.

    rich's own thread looks at the position a few times a second; the training waits for nothing.
    """

    def __init__(self, console: Console, position: Position, epochs: int, n_validation: int) -> None:
        self._epochs, self._n_validation = epochs, n_validation
        self._progress = _Polled(console, position, epochs)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on(self, row: EpochMetrics) -> None:
        """Take note of what an epoch measured."""
        self._progress.said = _scores(row, self._n_validation, " ")


class _Polled(Progress):
    """A bar that asks where the training stands whenever it is drawn."""

    def __init__(self, console: Console, position: Position, epochs: int) -> None:
        self._position, self._epochs, self.said = position, epochs, ""
        super().__init__(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            expand=True,
        )
        self.add_task("", total=position.n_steps, completed=position.step, epoch="", said="")

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar as it is now."""
        position = self._position
        step, n_steps = position.step, position.n_steps
        epoch = min(step * self._epochs // n_steps + 1, self._epochs)
        said = f"{self.said}  lr {words.rate(position.lr)}".strip()
        for task in self.task_ids:  # none while it is being built
            self.update(task, completed=step, epoch=f"{epoch}/{self._epochs}", said=said)
        return super().get_renderables()


def _scores(row: EpochMetrics, n_validation: int, sign: str) -> str:
    said = f"train_loss{sign}{words.number(row.train_loss)}"
    if n_validation and not math.isnan(row.val_accuracy):
        said += f" val_acc{sign}{words.accuracy(row.val_accuracy, n_validation)}"
    return said

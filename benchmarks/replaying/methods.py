"""What a method of search is, whoever made it: it is asked what a free worker does next, and told what came of it.

A method knows nothing of tables, workers or cost. ``replaying.simulated`` asks and tells it, one call after another:

    order = method.ask()                      Start(params) | GoOn(trial) | None
    method.began(trial, config, params)       of a Start: what is really trained, and under which number
    method.reached(trial, scores)             "keep" | "pause" | "end", at the epochs at which ``looks_at`` says yes
    method.ended(trial, scores, value)        it is complete (a value), or diverged (None)
    method.seen(trial, scores)                how far another worker's trial has come, before ``ask``

A trial that was told to pause or to end leaves its worker at once and is not told again; it may go on from where it
stands by ``GoOn``, which costs the epochs that are left alone: a method whose own code would train anew from the start
is charged as if it did not. A module of methods has a table ``METHODS`` from names to ``Named``, and stands in the list
of ``benchmarks/replaying/named.py``, which imports it where one of its names is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lrsearch.spec.study import StudySpec
from lrsearch.trial import TrialConfig

Fate = Literal["keep", "pause", "end"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What a method is given."""

    spec: StudySpec
    """The study: its name, search space (``spec.space``), epochs of a training, seed, and images.

    ``lrsearch.spec.parameters`` says which parameters a setting has: ``shared``, ``conditional``, ``everything``.
    """
    limit: float
    """Whole trainings' worth of epochs that may be spent at most; no method is cut before."""
    workers: int
    """Trainings at once."""

    @property
    def seed(self) -> int:
        """Of whatever is drawn at random."""
        return self.spec.seed

    @property
    def epochs(self) -> int:
        """Of a whole training."""
        return self.spec.epochs

    @property
    def maximize(self) -> bool:
        """Whether more is better, of scores and values."""
        return self.spec.metric.maximize


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a training."""

    params: Mapping[str, Any]
    """Its setting by the names of ``lrsearch.spec.parameters``; what is fixed in the space is left out."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Go on with a trial that was told to pause or to end."""

    trial: int


class Method(Protocol):
    """A search of one study; one object for each replay."""

    def ask(self) -> Start | GoOn | None:
        """Return what a free worker does; None: nothing until another trial has paused or ended, or for ever."""
        ...

    def began(self, trial: int, config: TrialConfig, params: Mapping[str, Any]) -> None:
        """Hear what is really trained after a ``Start``, the next call after ``ask``.

        Args:
            trial: its number, from 0; every later call names it.
            config: the configuration.
            params: the same by the names of ``lrsearch.spec.parameters``; other ones than were asked for where only
                settings that were recorded can be trained.
        """
        ...

    def looks_at(self, epoch: int) -> bool:
        """Whether ``reached`` is to be called after ``epoch`` [1..epochs - 1]; not called for the others."""
        ...

    def reached(self, trial: int, scores: Sequence[float]) -> Fate:
        """Return what becomes of a trial that is not through.

        Args:
            trial: which.
            scores: after each of its epochs so far, as pruners compare them: of the averaged weights where there are.
        """
        ...

    def ended(self, trial: int, scores: Sequence[float], value: float | None) -> None:
        """Hear how a trial ended that was not told to.

        Args:
            trial: which.
            scores: after each of its epochs.
            value: what the search is about, of the last epoch; None: it diverged in the epoch after its last score.
        """
        ...

    def seen(self, trial: int, scores: Sequence[float]) -> None:
        """Hear how far a trial has come that another worker has in training; before ``ask``, with several workers.

        Args:
            trial: which.
            scores: after each of its epochs so far.
        """
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """A method by its name."""

    make: Callable[[Problem], Method]
    price: float = 1.0
    """What an epoch costs: .5 for a method that is given twice the budget of the others."""

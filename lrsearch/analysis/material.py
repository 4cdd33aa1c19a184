"""What a report is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from lrsearch.analysis.confirmation import Confirmation
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.trial import RangeTest, Trial


class ImportanceRow(Protocol):
    """What one parameter contributes, as ``search.importance.Importance`` has it."""

    @property
    def parameter(self) -> str:
        """Optuna's name: ``peak_lr_sgd``."""

    @property
    def share(self) -> float:
        """Of all contributions together [0..1]."""

    @property
    def by_chance(self) -> float:
        """What chance alone gives it, as a part of the same whole."""

    @property
    def n_trials(self) -> int:
        """Trials that have the parameter."""


class ImportanceTable(Protocol):
    """The parameters over one set of trials, as ``search.importance.Importances`` has it."""

    @property
    def n_trials(self) -> int:
        """Trials in the set."""

    @property
    def n_top(self) -> int:
        """Of them those called the best."""

    @property
    def parameters(self) -> Sequence[ImportanceRow]:
        """The most important first; none where there are too few trials."""


@dataclass(frozen=True, slots=True)
class Material:
    """A study at a moment, as a report needs it."""

    spec: StudySpec
    trials: tuple[Trial, ...]
    budget: BudgetSpec
    place: str
    """The database, its password masked."""
    of_ended: ImportanceTable | None = None
    """Importance over complete, pruned and diverged trials; None where nobody has asked."""
    of_complete: ImportanceTable | None = None
    """Importance over complete trials only."""
    confirmation: Confirmation | None = None
    """What was confirmed with fresh seeds; None where nothing was asked for."""
    converged: str = ""
    """With the numbers that the search converged, as a clause; empty where it did not."""
    range_tests: tuple[RangeTest, ...] = ()
    """Sweeps that were made before it was filed."""
    read_at: datetime | None = None
    """When the study was read, in UTC; not part of what ``update`` returns."""

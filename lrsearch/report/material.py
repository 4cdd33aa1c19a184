"""What a report is made of."""

from dataclasses import dataclass

from lrsearch.spec import BudgetSpec, StudySpec
from lrsearch.trial import Trial


@dataclass(frozen=True, slots=True)
class Material:
    """A study at a moment, as a report needs it."""

    spec: StudySpec
    trials: tuple[Trial, ...]
    budget: BudgetSpec
    place: str
    """The database, its password masked."""

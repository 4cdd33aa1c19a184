"""Start a search here: the study is filed, the images are loaded, one worker works in this process."""

from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lrsearch import worker
from lrsearch.analysis.ranking import best
from lrsearch.events import Event
from lrsearch.search import portfolio
from lrsearch.search import study as studies
from lrsearch.search.claims import Claims
from lrsearch.search.storage import Database, Place
from lrsearch.search.study import Study
from lrsearch.spec import BudgetSpec, StudySpec
from lrsearch.training.engine import Engine, TestResult
from lrsearch.trial import Trial

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Here:
    """What this process trains with."""

    device: str = "auto"
    threads: int | None = None
    data_dir: Path | None = None
    progress: bool = True
    """Whether a download may show its progress on stderr."""


def check(spec: StudySpec, place: Place) -> None:
    """Refuse what cannot be run, before anything is loaded or written.

    Raises:
        UsageError: the baseline does not fit the space, or another study has the name.
        StorageError: no database can be at the place.
    """
    portfolio.initial(spec)
    studies.check_free(place, spec)


def prepare(spec: StudySpec, here: Here) -> Engine:
    """Load the images onto the device."""
    return worker.build_engine(
        spec, device_name=here.device, threads=here.threads, data_dir=here.data_dir, progress=here.progress
    )


def file_study(spec: StudySpec, place: Place, *, explicit_budget: bool) -> Study:
    """Return the study, made if there is none of that name yet, its budget brought up to date.

    A budget that was asked for holds; otherwise the one that stands is kept, or raised to that of the study file.
    """
    with ExitStack() as on_error:
        database = on_error.enter_context(closing(Database(place)))
        study = studies.create(database, spec)
        stands, asked = study.budget(), spec.budget
        if not explicit_budget:
            asked = BudgetSpec(
                trials=_larger(stands.trials, asked.trials),
                hours=_larger(stands.hours, asked.hours),
                max_failures=max(stands.max_failures, asked.max_failures),
            )
        if asked != stands:
            study.set_budget(asked)
        on_error.pop_all()
    return study


def search(study: Study, engine: Engine) -> Generator[Event]:
    """Work on the study until its budget is used up, in this process."""
    claims = Claims(study, portfolio.initial(study.spec), engine.device, engine.versions)
    yield from worker.work(claims, engine)


def test_winner(study: Study, engine: Engine) -> tuple[Trial, TestResult] | None:
    """Train the best trial once more, judge it on the test images and keep the result.

    Returns None without a complete trial, or when the winner has been judged before.
    """
    winner = best(study.trials(), study.spec.objective.direction)
    if winner is None or winner.test_accuracy is not None:
        return None
    result = engine.test(winner.config)
    if not isinstance(result, TestResult):
        return None
    study.record_test(winner.number, result.test_loss, result.test_accuracy)
    return winner, result


def _larger(stands: N | None, asked: N | None) -> N | None:
    return stands if asked is None else asked if stands is None else max(stands, asked)

"""File a study, or find it again and bring its budget up to date."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

from lrsearch.spec.study import BudgetSpec, StudySpec
from lrsearch.store import creation, leftovers, portfolio
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts, default_for
from lrsearch.store.places import Place
from lrsearch.store.storage import PATIENCE_SECONDS, Database
from lrsearch.store.study import Study

N = TypeVar("N", int, float)


def check(spec: StudySpec, place: Place) -> None:
    """Refuse what cannot be run, before anything is loaded or written.

    Raises:
        UsageError: the baseline does not fit the space, or another study has the name.
        StorageError: no database can be at the place.
    """
    portfolio.initial(spec)
    creation.check_free(place, spec)


def file_study(
    spec: StudySpec,
    place: Place,
    *,
    explicit_budget: bool,
    explicit_workers: bool = False,
    artifacts: str | None = None,
) -> Study:
    """Return the study, made if there is none of that name yet, its budget brought up to date; it may go on again.

    A budget that was asked for holds; otherwise the one that stands is kept, or raised to that of the study file.
    Settings of the workers that were asked for hold for those that start from now on.
    """
    with ExitStack() as on_error:
        database = on_error.enter_context(closing(Database(place, PATIENCE_SECONDS)))
        leftovers.sweep(database)
        study = creation.create(database, spec, None if artifacts is None else _anywhere(artifacts))
        studies.check_version(study)
        stands, asked = study.budget(), spec.budget
        if not explicit_budget:
            asked = BudgetSpec(
                trials=_larger(stands.trials, asked.trials),
                hours=_larger(stands.hours, asked.hours),
                max_failures=max(stands.max_failures, asked.max_failures),
            )
        if asked != stands:
            study.set_budget(asked)
        if explicit_workers and study.spec.workers != spec.workers:
            study = study.with_workers(spec.workers)
        study.stop(None)
        on_error.pop_all()
    return study


def artifacts_of(study: Study, named: str | None = None, *, to_read: bool = False) -> Artifacts:
    """Return the artifact store: the one that is named here, that of the study, or the default of its database.

    With ``to_read`` it need not be writable, nor there.

    Raises:
        StorageError: it cannot be written.
        UsageError: it is none.
    """
    return Artifacts(named or study.artifacts_at() or default_for(study.database.place), to_read=to_read)


def _anywhere(artifacts: str) -> str:
    """Return a folder as it is named from any working directory."""
    return artifacts if "://" in artifacts else str(Path(artifacts).absolute())


def _larger(stands: N | None, asked: N | None) -> N | None:
    return stands if asked is None else asked if stands is None else max(stands, asked)

"""What a new study takes over from others of the same database; read before it is filed, and filed with it."""

from collections.abc import Iterator
from contextlib import closing

from lrsearch.errors import StorageError, UnknownNameError, UsageError, nearest
from lrsearch.spec.study import StudySpec
from lrsearch.store import study as studies
from lrsearch.store.opening import has_studies, study_names
from lrsearch.store.places import Place
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.strategy import prior
from lrsearch.strategy.view import KnownTraining

NONE = "none"


def check(place: Place, spec: StudySpec) -> None:
    """Make sure that the study whose trials a new one is to take over is there.

    Raises:
        UnknownNameError: it is not.
        UsageError: it is the study itself, or has another metric.
    """
    if spec.strategy is None or spec.prior in (None, NONE) or spec.name in study_names(place):
        return
    if not has_studies(place):
        raise UnknownNameError(f"prior = '{spec.prior}' names a study, and {place} holds none yet")
    with closing(Database(place)) as database:
        _named(database, spec, str(spec.prior))


def of_others(database: Database, spec: StudySpec) -> list[tuple[int, KnownTraining]]:
    """Return the trials of other studies that a new one takes for known, each with its number, the nearest study first.

    Raises:
        UnknownNameError: the study that is named is not there.
        UsageError: it is the study itself, or has another metric.
    """
    if spec.strategy is None or spec.prior == NONE:
        return []
    if spec.prior is not None:
        chosen = [_named(database, spec, spec.prior)]
    else:
        far = [(prior.distance(spec, one.spec), one) for one in _others(database, spec)]
        chosen = [
            one for _, one in sorted(((d, one) for d, one in far if d is not None), key=lambda x: (x[0], x[1].name))
        ]
    found: list[tuple[int, KnownTraining]] = []
    for study in chosen:
        if len(found) < prior.MOST:
            found += prior.informing(spec, study.spec, study.trials(), prior.MOST - len(found))
    return found


def _named(database: Database, spec: StudySpec, name: str) -> Study:
    if name == spec.name:
        raise UsageError(f"prior = '{name}' is the study itself: name another one, or leave it out")
    study = studies.find(database, name)
    if study is None:
        known = studies.names(database)
        raise UnknownNameError(
            f"prior = '{name}': there is no such study in {database.place}{nearest(name, known)}; it holds "
            f"{', '.join(known) or 'none'}"
        )
    theirs, ours = (f"{metric.name} ({metric.direction})" for metric in (study.spec.metric, spec.metric))
    if theirs != ours:
        raise UsageError(
            f"prior = '{name}' was searched for {theirs}, and its scores say nothing of {ours}: name a study of that "
            f"metric, or prior = 'none'"
        )
    return study


def _others(database: Database, spec: StudySpec) -> Iterator[Study]:
    for name in studies.names(database):
        try:
            study = None if name == spec.name else studies.find(database, name)
        except StorageError:
            continue  # of another version of lrsearch, which hinders nobody who begins one
        if study is not None and study.copy_of is None:
            yield study

"""The study that is asked for by a name: it stands in a study file, or has been filed before.

The database is opened, and what it takes imported, only where there is no such file.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from lrsearch.errors import StudyFileError
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec

if TYPE_CHECKING:
    from lrsearch.store.places import Place


def resolved(
    name: str | None, overrides: Sequence[tuple[str, object]], options: Mapping[str, str], place: "Place"
) -> StudySpec:
    """Return the spec of a study with keys of it overridden, in order.

    Args:
        name: of a study that ships with lrsearch, the path of a study file, or the name of a study in the database;
            None: the default study.
        overrides: keys of the study file and their values.
        options: which option set a key, for ``spec.file.build``.
        place: the database.

    Raises:
        StudyFileError: there is no such study, or a value does not fit its key.
    """
    try:
        tables, source = study_file.base(name, [key for key, _ in overrides])
    except StudyFileError:
        filed = None if name is None else find_spec(name, place)
        if filed is None:
            raise
    else:
        return study_file.resolved(tables, source, overrides, options)
    tables, source = filed.to_plain(), f"study '{name}' in {place}"
    for key, value in overrides:
        tables = study_file.override(tables, key, value)
    if tables["name"] != filed.name:
        return study_file.build(tables, source, options)
    # A name that is in the database is a name, whatever another program called the study.
    spec = study_file.build(tables | {"name": study_file.DEFAULT_STUDY}, source, options)
    return spec.model_copy(update={"name": filed.name})


def find_spec(name: str, place: "Place") -> StudySpec | None:
    """Return the spec of a study in the database; None where there is none of that name."""
    from lrsearch.store import study as studies
    from lrsearch.store.opening import has_studies
    from lrsearch.store.storage import Database

    if not has_studies(place):
        return None
    with closing(Database(place)) as database:
        found = studies.find(database, name)
        return found.spec if found else None

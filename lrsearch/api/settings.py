"""The keywords of ``lrsearch.search`` as keys of the study file; what is wrong with one is said of it."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrsearch import given
from lrsearch.api.handed import DATA, FUNCTIONS, Handed
from lrsearch.errors import StudyFileError, nearest
from lrsearch.given import Given
from lrsearch.spec import file as study_file
from lrsearch.spec.sources import title
from lrsearch.spec.study import StudySpec

if TYPE_CHECKING:
    from lrsearch.store.places import Place

KEYS: Mapping[str, str] = {**study_file.OPTIONS, "data": DATA}
"""The key for which a keyword stands; the others are called as their keys are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one call asks for."""

    spec: StudySpec
    given: tuple[Given, ...]
    """What only this process has of it."""
    tables: frozenset[str]
    """Of the study file, in which keywords set something."""


def wanted(
    study: str | None, keywords: Mapping[str, object], known: Iterator[str], place: "Place", key: str | None
) -> Wanted:
    """Return the study that keywords describe.

    Args:
        study: the name of a study that ships, the path of a study file, or the name of a study in the database.
        keywords: by name; None stands for what is not said.
        known: other keywords that the function has.
        place: the database.
        key: the word by which functions are known that are handed over.

    Raises:
        StudyFileError: they describe none; with the keyword, what came and what is known.
    """
    _check_names(keywords, known)
    handed = Handed(key)
    overrides, options = list[tuple[str, object]](), dict[str, str]()
    for keyword, path, value in _said(keywords):
        for one, what in (handed.named(path, value) if path in FUNCTIONS else {path: value}).items():
            overrides.append((one, what))
            options[one] = f"lrsearch.search({keyword.partition('.')[0]}=...)"
    tables = frozenset(path.partition(".")[0] for path, _ in overrides)
    return Wanted(_spec(study, overrides, options, place), tuple(handed.given), tables)


def _check_names(keywords: Mapping[str, object], known: Iterator[str]) -> None:
    names = list(dict.fromkeys([*known, *KEYS, *StudySpec.model_fields]))
    for keyword in keywords:
        name = keyword.partition(".")[0]
        if name not in names:
            raise StudyFileError(
                f"lrsearch.search: unknown keyword '{name}'{nearest(name, names)}; known: {', '.join(names)}"
            )


def _said(keywords: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    """Yield keyword, key of the study file and value; a table sets its keys one by one."""
    seen: dict[str, str] = {}
    for keyword, value in keywords.items():
        if value is None:
            continue
        path = KEYS.get(keyword, keyword)
        if isinstance(value, Mapping) and keyword != "data" and "." not in keyword:
            found = [(f"{keyword}.{key}", inner) for key, inner in value.items()]
        else:
            found = [(path, value)]
        for one, inner in found:
            if seen.setdefault(one, keyword) != keyword:
                raise StudyFileError(f"{one}: is given by {seen[one]}= and by {keyword}=: leave one of the two out")
            yield keyword, one, inner


def _named(spec: StudySpec) -> StudySpec:
    """Return the spec under a name that says what was handed over: where that lies says nothing."""
    if spec.loop is not None:
        return spec.model_copy(update={"name": _title(spec.loop.name)}) if given.is_given(spec.loop.name) else spec
    both = (spec.dataset.name, spec.model.name)
    if not any(map(given.is_given, both)) or spec.name != "-".join(map(title, both)):
        return spec
    return spec.model_copy(update={"name": "-".join(map(_title, both))})


def _title(name: str) -> str:
    # As a file of that name would be called.
    return title(f"{given.short(name)}.py:f") if given.is_given(name) else title(name)


def _spec(
    study: str | None, overrides: list[tuple[str, object]], options: Mapping[str, str], place: "Place"
) -> StudySpec:
    try:
        tables, source = study_file.base(study, [path for path, _ in overrides])
    except StudyFileError:
        filed = None if study is None else filed_spec(study, place)
        if filed is None:
            raise
        tables, source = filed.to_plain(), f"study '{study}' in {place}"
        for path, value in overrides:
            tables = study_file.override(tables, path, value)
        # A name that is in the database is a name, whatever another program called the study.
        spec = study_file.build(tables | {"name": study_file.DEFAULT_STUDY}, source, options)
        return spec.model_copy(update={"name": tables["name"]})
    spec = study_file.resolved(tables, source, overrides, options)
    return spec if any(path == "name" for path, _ in overrides) else _named(spec)


def filed_spec(name: str, place: "Place") -> StudySpec | None:
    """Return the spec of a study in the database; None where there is none of that name."""
    from lrsearch.store import study as studies
    from lrsearch.store.opening import has_studies
    from lrsearch.store.storage import Database

    if not has_studies(place):
        return None
    with closing(Database(place)) as database:
        found = studies.find(database, name)
        return found.spec if found else None

"""The keywords of ``lrsearch.search`` as keys of the study file; what is wrong with one is said of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrsearch.api.handed import DATA, FUNCTIONS, Handed
from lrsearch.errors import StudyFileError, nearest
from lrsearch.given import Given
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.store import named

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
    return Wanted(named.resolved(study, overrides, options, place), tuple(handed.given), tables)


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

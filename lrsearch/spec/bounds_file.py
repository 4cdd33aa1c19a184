"""Learning rates written into a study file, whose comments and order stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from lrsearch.domain import Domain, to_plain
from lrsearch.errors import StudyFileError
from lrsearch.spec import file as study_file
from lrsearch.trial import OptimizerName


def with_bounds(path: Path, domains: Mapping[OptimizerName, Domain]) -> str:
    """Return the text of a study file with other learning rates for some of its optimizers.

    Raises:
        StudyFileError: it cannot be read.
    """
    asked = study_file.load(str(path)).space.optimizers
    try:
        document = tomlkit.parse(path.read_text("utf-8"))
    except (OSError, TOMLKitError) as error:  # it has just been read as TOML
        raise StudyFileError(f"{path}: the study file cannot be read: {error}") from None
    space = _table(document, "space")
    tables = _optimizers(space, list(asked))
    for name, domain in domains.items():
        table = _table(tables, name)
        table["peak_lr"] = _written(domain)
    text = tomlkit.dumps(document)
    _check(path, text, {name: fields["peak_lr"] for name, fields in asked.items()} | dict(domains))
    return text


def _optimizers(space: Any, names: list[OptimizerName]) -> Any:
    """Return the table [space.optimizer]; names that stand there for tables of defaults become such tables."""
    there = space.get("optimizer")
    if isinstance(there, Mapping):
        return there
    table = tomlkit.table(is_super_table=True)
    for name in names:
        table.add(name, tomlkit.table())
    if there is not None:
        space.remove("optimizer")
    space.add("optimizer", table)
    return space["optimizer"]


def _table(outer: Any, key: str) -> Any:
    if key not in outer:
        outer.add(key, tomlkit.table())
    return outer[key]


def _written(domain: Domain) -> Any:
    """Return a domain as one value on its line: a range as an inline table."""
    plain = to_plain(domain)
    if not isinstance(plain, dict):
        return tomlkit.item(plain)
    inline = tomlkit.inline_table()
    inline.update(plain)
    return inline


def _check(path: Path, text: str, wanted: Mapping[OptimizerName, Domain]) -> None:
    """Make sure that the text says what is wanted, before it takes the file's place."""
    tables = {"name": path.stem, **tomlkit.parse(text).unwrap()}
    found = {name: fields["peak_lr"] for name, fields in study_file.build(tables, str(path)).space.optimizers.items()}
    assert found == dict(wanted), f"{path} would say something else"

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
        document = tomlkit.parse(path.read_bytes().decode("utf-8"))  # as it is: line ends of Windows stay
    except (OSError, TOMLKitError) as error:  # it has just been read as TOML
        raise StudyFileError(f"{path}: the study file cannot be read: {error}") from None
    if "space" not in document:
        document.add("space", tomlkit.table())
    space: Any = document["space"]
    if not isinstance(space.get("optimizer"), Mapping):
        # Names, or none, stand for tables of defaults. One value on its line: a header would take in what follows it.
        space["optimizer"] = _inline({name: {} for name in asked})
    for name, domain in domains.items():
        space["optimizer"][name]["peak_lr"] = _written(domain)
    text = tomlkit.dumps(document)
    _check(path, text, {name: fields["peak_lr"] for name, fields in asked.items()} | dict(domains))
    return text


def _written(domain: Domain) -> Any:
    """Return a domain as one value on its line: a range as an inline table."""
    plain = to_plain(domain)
    return _inline(plain) if isinstance(plain, dict) else tomlkit.item(plain)


def _inline(plain: Mapping[str, Any]) -> Any:
    table = tomlkit.inline_table()
    for key, value in plain.items():
        table[key] = _inline(value) if isinstance(value, Mapping) else value
    return table


def _check(path: Path, text: str, wanted: Mapping[OptimizerName, Domain]) -> None:
    """Make sure that the text says what is wanted, before it takes the file's place."""
    tables = {"name": path.stem, **tomlkit.parse(text).unwrap()}
    found = {name: fields["peak_lr"] for name, fields in study_file.build(tables, str(path)).space.optimizers.items()}
    assert found == dict(wanted), f"{path} would say something else"

"""What a person hands over in Python, as a study file can name it.

A function that can be imported is named by its file or its package, so that other processes and the command line find
it. What cannot be imported (a function of a notebook, a lambda, arrays, a data set) is known in this process alone,
under a name in ``lrsearch.given``.
"""

import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final

from lrsearch import given
from lrsearch.api import source
from lrsearch.errors import StudyFileError
from lrsearch.given import Given

FUNCTIONS: Final[Mapping[str, str]] = {
    "model.name": "model",
    "model.loss": "loss",
    "dataset.name": "data",
    "loop.name": "loop",
    "loop.steps_per_epoch": "steps_per_epoch",
}
"""The keys of a study file that name a function, and what something without a name of its own is called there."""
DATA: Final = "dataset.name"
OWN_FILE: Final = "put it in a file, such as net.py, and give it by its name, 'net.py:{name}'"
INSTALLED: Final = ("site-packages", "dist-packages")


@dataclass
class Handed:
    """What one call was handed."""

    key: str | None = None
    """The word by which its functions are known, in the place of their source."""
    given: list[Given] = field(default_factory=list)
    """What this process alone has."""

    def named(self, path: str, what: object) -> dict[str, object]:
        """Return what a study file says of something, by its keys; of what it can say as it is, that.

        Args:
            path: a key of ``FUNCTIONS``.
            what: a string, a function, or data.

        Raises:
            StudyFileError: it is none of these, or nothing by which it could be known again.
        """
        if isinstance(what, str) or (path == "loop.steps_per_epoch" and not callable(what)):
            return {path: what}
        if path == DATA and not _is_function(what):
            return {path: self._data(what)}
        table = path.partition(".")[0]
        if isinstance(what, partial) and not what.args and path.endswith(".name") and _is_plain(what.keywords):
            named = self.named(path, what.func)
            return named | ({f"{table}.args": dict(what.keywords)} if what.keywords else {})
        if not callable(what) or "Module" in _kinds(what):
            raise StudyFileError(_no_function(path, what))
        place = importable(what)
        return {path: place or str(self._hand_over(self._function(path, what)))}

    def _data(self, what: object) -> str:
        if isinstance(what, PathLike):
            return _place(Path(what))
        return str(self._hand_over(Given(FUNCTIONS[DATA], lambda: what)))

    def _function(self, path: str, function: Callable[..., Any]) -> Given:
        name = _name(function) or FUNCTIONS[path]
        code = getattr(function, "__code__", None)
        where = None if code is None else Path(code.co_filename)
        if path == DATA:
            return Given(name, function, "", where)
        return Given(name, function, self._digest(path, name, function), where)

    def _digest(self, path: str, name: str, function: Callable[..., Any]) -> str:
        if self.key is not None:
            return source.digest_of_word(self.key)
        try:
            return source.digest(function)
        except source.SourceError as error:
            raise StudyFileError(
                f"{path}: '{name}' {error}, so that lrsearch could not tell it from another one: give key='...', a "
                f"word that you change whenever it changes, or {OWN_FILE.format(name=name)}"
            ) from None

    def _hand_over(self, one: Given) -> Given:
        if any(other.name == one.name and other.function is not one.function for other in self.given):
            raise StudyFileError(f"two things that are handed over are both called '{one.name}': rename one of them")
        self.given.append(one)
        given.hand_over(one)
        return one


def sets(data: object, validation: object, test: object) -> object:
    """Return data with validation and test images of their own as one function; without them, as they are.

    Raises:
        StudyFileError: they do not go together.
    """
    apart = {name: one for name, one in (("validation", validation), ("test", test)) if one is not None}
    if not apart:
        return data
    for name, one in (("data", data), *apart.items()):
        if one is None or isinstance(one, str | PathLike):
            raise StudyFileError(
                f"{next(iter(apart))}: goes with data that are handed over as arrays, a data set or a function, and "
                f"{name} is {one!r}: name one place that holds all sets (a folder with train, val and test; a table "
                f"with a column 'split'; a function that returns a mapping of train, validation, test)"
            )

    def together() -> dict[str, object]:
        first = _made(data)
        found = dict(first) if isinstance(first, Mapping) else {"train": first}
        if twice := found.keys() & apart.keys():
            name = min(twice)
            raise StudyFileError(f"{name}: is given by {name}= and by '{name}' in data: leave one of the two out")
        return found | {name: _made(one) for name, one in apart.items()}

    together.__name__ = (_is_function(data) and _name(data)) or FUNCTIONS[DATA]
    return together


def importable(function: Callable[..., Any]) -> str | None:
    """Return ``FILE.py:function`` or ``package.module:function`` where that finds the same function; or else None."""
    name, module = getattr(function, "__qualname__", ""), sys.modules.get(getattr(function, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__" or not name.isidentifier():
        return None
    if getattr(module, name, None) is not function or getattr(module, "__spec__", None) is None:
        return None
    path = Path(file).absolute()
    # A module that is no part of a package may lie anywhere: by its file it is found from everywhere.
    if "." not in module.__name__ and path.suffix == ".py" and path.name != "__init__.py" and not _is_installed(path):
        return f"{path}:{name}"
    return f"{module.__name__}:{name}"


def _is_installed(path: Path) -> bool:
    return any(part in INSTALLED for part in path.parts) or path.is_relative_to(sysconfig.get_path("stdlib"))


def _made(what: object) -> object:
    return what() if _is_function(what) else what  # type: ignore[operator]


def _is_function(what: object) -> bool:
    """Whether it is called for data, and is not the data."""
    return callable(what) and (isinstance(what, type) or not hasattr(what, "__getitem__"))


def _kinds(what: object) -> set[str]:
    """Return the names of the classes of which something is; PyTorch need not be imported to know its own."""
    return {kind.__name__ for kind in type(what).__mro__}


def _name(what: object) -> str:
    name = getattr(what, "__name__", "")
    return name if isinstance(name, str) and name.isidentifier() else ""


def _is_plain(value: object) -> bool:
    """Whether a study file can hold it."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    return type(value) in (bool, int, float, str)


def _place(path: Path) -> str:
    if path.is_dir():
        return f"folder:{path}"
    if path.suffix == ".csv":
        return f"csv:{path}"
    raise StudyFileError(f"data: must be a folder of pictures or a table (.csv) where it is a path, got {path}")


def _no_function(path: str, what: object) -> str:
    keyword = FUNCTIONS[path]
    if "Module" in _kinds(what):
        return (
            f"{path}: must be a function that builds a network, anew for every trial, and it is a network: write "
            f"`def build(num_classes): return ...` and give {keyword}=build"
        )
    if path == "loop.name":
        return (
            f"train: must be a training loop of your own, a generator function or a string that names one, got "
            f"{type(what).__name__}; images to train on are data="
        )
    return f"{path}: must be a function or a string that names one, got {type(what).__name__}"

"""A function of somebody's own: found by its name, called with the keywords it has, its errors told by its own lines.

It is imported by name, never unpickled and never taken from a database: whoever runs it has the file.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lrsearch import given
from lrsearch.errors import StudyFileError, nearest
from lrsearch.spec.sources import Code
from lrsearch.text import shown

NOT_THEIRS = (str(Path(__file__).resolve().parent), sysconfig.get_path("stdlib"), "<")
"""How the names of files begin that are lrsearch's or Python's."""


class OwnCodeError(StudyFileError):
    """A person's own function that cannot be found, or that raised an error."""


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A function of a person's own."""

    key: str
    """Of the study file, that names it: ``model.name``."""
    code: Code
    function: Callable[..., Any]
    path: Path | None
    """The file in which it stands; None where Python does not know."""
    sha256: str
    """Of that file; empty without one. Files that it imports are not looked at."""

    def call(self, offered: Mapping[str, object], args: Mapping[str, object] | None = None) -> Any:
        """Call it with ``args`` and with those of the ``offered`` keywords that its signature has.

        Raises:
            OwnCodeError: its signature does not take ``args``, or it raised an error.
        """
        keywords = self.taken(offered) | dict(args or {})
        with own_lines(self.key, str(self.code), self.path):
            return self.function(**keywords)

    def taken(self, offered: Mapping[str, object]) -> dict[str, object]:
        """Return those of the offered keywords that its signature has."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            return dict(offered)  # Python does not know; the call will tell
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            return dict(offered)
        names = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        return {name: value for name, value in offered.items() if name in names}


@contextmanager
def own_lines(key: str, what: str, path: Path | None = None) -> Iterator[None]:
    """Turn what a person's own code raises in the block into a sentence with that person's file and line.

    Args:
        key: of the study file, that names the code.
        what: what was called, in words.
        path: the file of the code, where it is known.

    Raises:
        OwnCodeError: the block raised an error, but for a StudyFileError, which is a sentence already.
    """
    try:
        yield
    except StudyFileError:
        raise
    except Exception as error:
        raise OwnCodeError(f"{key}: {what} raised {said(error)}{at(error, path)}") from error


def said(error: BaseException) -> str:
    """Return an error in words: its kind and the first line of what it says."""
    first = shown(next(iter(str(error).strip().splitlines()), ""))
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def at(error: BaseException, path: Path | None = None) -> str:
    """Return ``" (FILE, line N)"`` for the innermost line of a person's own; empty where there is none.

    That is the last line in ``path``, or else the last outside lrsearch and outside installed packages.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({shown(error.filename)}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [one for one in frames if path is not None and Path(one.filename) == path]
    outside = [one for one in frames if not one.filename.startswith(NOT_THEIRS) and "site-packages" not in one.filename]
    lines = theirs or outside
    return f" ({shown(lines[-1].filename)}, line {lines[-1].lineno})" if lines else ""


def find(code: Code, key: str) -> OwnFunction:
    """Return a person's own function; ``key`` of the study file names it.

    The folder of a file is on ``sys.path`` while the file is imported, so that it may import what lies beside it.

    Raises:
        OwnCodeError: no such file, module or function, or the import raised an error; or it was handed over in Python,
            and not in this process.
    """
    if code.where == given.MODULE:
        return _handed_over(code, key)
    module = _of_file(code, key) if code.in_file else _of_name(code, key)
    if not hasattr(module, code.function):
        names = [name for name in vars(module) if callable(vars(module)[name]) and not name.startswith("_")]
        raise OwnCodeError(f"{key}: {code.where} has no function '{code.function}'{nearest(code.function, names)}")
    function = getattr(module, code.function)
    if not callable(function):
        raise OwnCodeError(f"{key}: '{code.function}' in {code.where} must be a function, and is {function!r:.80}")
    file = getattr(module, "__file__", None)
    path = None if file is None else Path(file)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else ""
    return OwnFunction(key, code, function, path, sha256)


def _handed_over(code: Code, key: str) -> OwnFunction:
    one = given.found(code.function)
    if one is None:
        raise OwnCodeError(
            f"{key}: '{code.function}' was handed to lrsearch.search in Python, and only the process that did so has "
            f"it: hand it over here too, or put it in a file, such as net.py, and name net.py:{code.function}"
        )
    return OwnFunction(key, code, one.function, one.path, one.sha256)


def _of_file(code: Code, key: str) -> ModuleType:
    path = Path(code.where).expanduser().absolute()
    if not path.is_file():
        raise OwnCodeError(f"{key}: there is no file {path}")
    # A name of its own: a file called 'json.py' must not stand for the module of that name.
    name = f"lrsearch_own_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OwnCodeError(f"{key}: {path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        with own_lines(key, f"importing {path}", path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def _of_name(code: Code, key: str) -> ModuleType:
    # `lrsearch` is a program: unlike `python -m` it does not look into the working directory by itself.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with own_lines(key, f"importing {code.where}"):
            return importlib.import_module(code.where)
    finally:
        sys.path.remove(here)

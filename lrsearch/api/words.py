"""Errors in the words of whoever calls from Python: keywords in the place of options, cells in the place of files."""

import re
import sys
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from lrsearch import given
from lrsearch.errors import LrsearchError

P = ParamSpec("P")
R = TypeVar("R")

OPTION: Final = re.compile(
    r"--(name|dataset|model|weights|train|n-train|steps-per-epoch|data-dir|artifacts|storage|device)\b"
    r"(?: ([\w./:-]*\w))?"
)
LINE: Final = re.compile(r"\(([^()]+), line (\d+)\)")


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function raise its errors in words that fit, without the calls within lrsearch that led to them."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except LrsearchError as error:
            error.args = tuple(_worded(one) if isinstance(one, str) else one for one in error.args)
            raise error.with_traceback(None) from error.__cause__

    return called


def _worded(text: str) -> str:
    """Return what an error says to somebody who has no command line."""
    text = OPTION.sub(_keyword, text.replace(f"{given.MODULE}:", ""))
    return LINE.sub(_cell, text)


def _keyword(found: re.Match[str]) -> str:
    name, value = found[1].replace("-", "_"), found[2]
    return f"{'data' if name == 'dataset' else name}=" + ("" if value is None else repr(value))


def _cell(found: re.Match[str]) -> str:
    """Return the name that a notebook gives to one of its cells, which Python knows as a file."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    named = getattr(getattr(shell, "compile", None), "format_code_name", None)
    name = None if named is None else named(found[1])
    return found[0] if name is None else f"({' '.join(name)}, line {found[2]})"

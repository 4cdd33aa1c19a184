"""What was handed over in Python and has no name to be imported by: functions of a notebook, arrays, data sets.

A study names it ``lrsearch.given:NAME``. It is known in this process alone: other processes are told to import a file.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

MODULE = "lrsearch.given"
"""Stands for this process where a study names a module."""


@dataclass(frozen=True, slots=True)
class Given:
    """Something that was handed over."""

    name: str
    """An identifier."""
    function: Callable[..., Any]
    """Itself, or what returns it."""
    sha256: str = ""
    """Of its source, or of the word that stands for it; empty for data, which are known by their content."""
    path: Path | None = None
    """Where its source stands: a file, or what a notebook calls one of its cells."""

    def __str__(self) -> str:
        """Return what a study calls it."""
        return f"{MODULE}:{self.name}"


_of_process: dict[str, Given] = {}
_of_thread: ContextVar[Mapping[str, Given]] = ContextVar("_of_thread", default=MappingProxyType({}))
"""A search finds what it was handed, whatever one in another thread is handed meanwhile under the same name."""


def hand_over(one: Given) -> None:
    """Have it found under its name in this process; of two with one name the later, of the same thread first."""
    _of_process[one.name] = one
    _of_thread.set({**_of_thread.get(), one.name: one})


def found(name: str) -> Given | None:
    """Return what was handed over under a name in this process."""
    return _of_thread.get().get(name) or _of_process.get(name)


def short(name: str) -> str:
    """Return what names a function without the module that stands for this process.

    >>> short("lrsearch.given:build"), short("net.py:build")
    ('build', 'net.py:build')
    """
    return name.removeprefix(f"{MODULE}:")


def is_given(name: object) -> bool:
    """Whether something that a study names was handed over."""
    return isinstance(name, str) and name.startswith(f"{MODULE}:")

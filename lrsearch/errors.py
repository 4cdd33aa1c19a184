"""The error family: every failure a person can meet, and the exit code it ends with.

A message is one sentence for a person: what must hold, what came, where, and what to do. An outcome of a trial
(pruned, diverged, lease lost) is not an error and has no class here.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from typing import ClassVar

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_NOTHING_FEASIBLE = 3
EXIT_STORAGE = 4
EXIT_DEVICE = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
"""Asked to leave (SIGTERM); what was in hand is kept and goes on elsewhere."""


class LrsearchError(Exception):
    """Anything lrsearch says no to; printed as one sentence, never as a traceback."""

    exit_code: ClassVar[int] = EXIT_FAILURE


class UsageError(LrsearchError):
    """A command line that cannot be meant."""

    exit_code = EXIT_USAGE


class StudyFileError(UsageError):
    """A study file, or an override of one of its keys, that does not describe a study."""


class IdentityError(UsageError):
    """A study of that name exists and is another study."""


class UnknownNameError(UsageError):
    """A study, trial, data set or other thing that is asked for by a name nobody knows."""


class NothingFeasibleError(LrsearchError):
    """No trial was trained through: there is no best one to do something with."""

    exit_code = EXIT_NOTHING_FEASIBLE


class DataError(LrsearchError):
    """Images that are missing, unreachable or corrupt."""


class StorageError(LrsearchError):
    """A database that cannot be opened, read or written."""

    exit_code = EXIT_STORAGE


class DeviceError(LrsearchError):
    """A device that is not there or cannot do the work."""

    exit_code = EXIT_DEVICE


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name nearest to ``word``, or an empty string."""
    close = get_close_matches(word, list(known), n=3, cutoff=0.5)
    if not close:
        return ""
    alike = [SequenceMatcher(None, word, name).ratio() for name in close]
    best = [name for name, ratio in zip(close, alike, strict=True) if ratio == max(alike)]
    # Of equally near ones that with the same first letter: a slip of the keys seldom begins with it.
    return f" (did you mean '{next((n for n in best if n[:1] == word[:1]), best[0])}'?)"

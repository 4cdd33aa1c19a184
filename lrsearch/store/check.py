"""One line of ``lrsearch doctor``: what was looked at, what was found, and what to do."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

LOW_BYTES, TOO_LOW_BYTES = 2**30, 100 * 2**20


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of ``lrsearch doctor``."""

    subject: str
    level: Level
    said: str
    """What was found, with its numbers."""
    advice: str = ""
    """What to do; empty where all is well."""
    fixable: bool = False
    """Whether ``--fix`` would mend it."""
    fixed: bool = False


def disk(subject: str, path: Path) -> Check:
    """Look at the room on the disk that a path, which need not exist, lies on."""
    folder = next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GiB free at {folder}"
    if free >= LOW_BYTES:
        return Check(subject, Level.OK, said)
    level = Level.WARNING if free >= TOO_LOW_BYTES else Level.PROBLEM
    return Check(subject, level, said, "free some space")


def worst(checks: Collection[Check]) -> Level:
    """Return the worst level of what is still so."""
    open_ones = [c.level for c in checks if not c.fixed]
    return next((level for level in (Level.PROBLEM, Level.WARNING) if level in open_ones), Level.OK)

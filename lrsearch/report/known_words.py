"""What is said of trainings that were made elsewhere: a file that is imported, and what a study takes for known."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from lrsearch.imports.trainings import Imported
from lrsearch.report.plain import plain
from lrsearch.report.words import setting
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted, shown

SCHEMA = "lrsearch/import/1"

MOST_REASONS = 5
"""Reasons why rows cannot be used that are written out, each with its first rows; ``--json`` has all."""
MOST_ROWS = 3


class SourceRow(Protocol):
    """Whence a study has trainings, as ``store.known.KnownSource`` has it."""

    @property
    def kind(self) -> str:
        """``imported`` or ``prior``."""

    @property
    def name(self) -> str:
        """Of a file, or of another study."""

    @property
    def n(self) -> int:
        """Trainings."""


def to_json(found: Imported, spec: StudySpec, source: str, replaced: int | None) -> dict[str, Any]:
    """Return what a file came to as JSON; ``replaced`` is None where nothing was written."""
    return {
        "schema": SCHEMA,
        "study": spec.name,
        "source": source,
        "written": replaced is not None,
        "n": len(found.trainings),
        "replaced": replaced or 0,
        "used": spec.strategy is not None,
        "states": dict(Counter(one.state.value for _, one in found.trainings)),
        "columns": dict(found.columns),
        "ignored": list(found.ignored),
        "notes": list(found.notes),
        "unusable": [{"row": row, "why": why} for row, why in found.unusable],
        "trainings": [
            {
                "row": row,
                "state": one.state.value,
                "setting": setting(one.config),
                "epochs": one.config.epochs,
                "value": plain(one.value),
                "scores": [plain(score) for score in one.scores],
            }
            for row, one in found.trainings
        ],
    }


def render(found: Imported, spec: StudySpec, source: str, replaced: int | None) -> str:
    """Return what a file came to for people; ``replaced`` is None where nothing was written."""
    states = Counter(one.state.value for _, one in found.trainings)
    said = ", ".join(f"{n} {state}" for state, n in states.items())
    n = counted(len(found.trainings), "training")
    head = f"{n} of {shown(source)} ({said})"
    if replaced is None:
        out = [f"{head} would be known to the study '{spec.name}'"]
    else:
        instead = f", in place of {replaced} from before" if replaced else ""
        out = [f"{head} {'is' if len(found.trainings) == 1 else 'are'} known to the study '{spec.name}'{instead}"]
    out.append(
        "  read from " + ", ".join(f"{names} ({key})" if names != key else key for key, names in found.columns.items())
    )
    if found.ignored:
        out.append(f"  not read {', '.join(found.ignored)}")
    out += [f"  {note}" for note in found.notes]
    if found.unusable:
        out.append(f"  {counted(len(found.unusable), 'row')} cannot be used:")
        out += [f"    {line}" for line in _reasons(found.unusable)]
    if spec.strategy is None:
        out.append("  this study's sampler does not look at them: strategy = 'lr' does (--set strategy=lr)")
    return "\n".join(out)


def _reasons(unusable: Sequence[tuple[int, str]]) -> list[str]:
    by_reason: dict[str, list[int]] = {}
    for row, why in unusable:
        by_reason.setdefault(why, []).append(row)
    out = []
    for why, rows in list(by_reason.items())[:MOST_REASONS]:
        named = ", ".join(map(str, rows[:MOST_ROWS]))
        more = f" and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""
        out.append(f"{'row' if len(rows) == 1 else 'rows'} {named}{more}: {why}")
    left = len(by_reason) - MOST_REASONS
    return [*out, f"and {counted(left, 'other reason')} (--json has all)"] if left > 0 else out


def whence(sources: Sequence[SourceRow]) -> str:
    """Return in words whence a study has trainings that it did not make.

    >>> from types import SimpleNamespace
    >>> files = SimpleNamespace(kind="imported", name="past.csv", n=1)
    >>> whence([SimpleNamespace(kind="prior", name="digits", n=50), files])
    "50 trials of the study 'digits', 1 training imported from past.csv"
    """
    return ", ".join(
        f"{counted(one.n, 'trial')} of the study '{one.name}'"
        if one.kind == "prior"
        else f"{counted(one.n, 'training')} imported from {one.name}"
        for one in sources
    )


def taken(sources: Sequence[SourceRow]) -> str:
    """Return in a sentence what a study takes for known at its start; empty where that is nothing.

    >>> from types import SimpleNamespace
    >>> taken([SimpleNamespace(kind="prior", name="digits", n=50)])
    "takes 50 trials of the study 'digits' as a prior; prior = 'none' does without"
    """
    priors = [one for one in sources if one.kind == "prior"]
    files = [one for one in sources if one.kind != "prior"]
    parts = [f"takes {whence(priors)} as a prior; prior = 'none' does without"] if priors else []
    parts += [f"knows {whence(files)}"] if files else []
    return "; ".join(parts)

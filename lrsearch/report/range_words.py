"""What a range test says: in words, on a terminal, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from lrsearch.analysis.range_bounds import Narrowing
from lrsearch.analysis.range_test import Finding, Spread
from lrsearch.domain import describe, to_plain
from lrsearch.report import words
from lrsearch.report.plain import plain
from lrsearch.text import counted
from lrsearch.trial import RangeTest

SCHEMA: Final = "lrsearch/range-test/1"
CAUTION: Final = (
    "A range test bounds the search; it is not its answer: a sweep knows neither the schedule nor the end of "
    "a training."
)
NAMES: Final = {
    "lowest_useful": "lowest useful",
    "steepest": "steepest",
    "divergence": "diverges from",
}
"""What the three rates are called, by the field of a finding."""


def cost(findings: Sequence[Finding]) -> str:
    """Say what the sweeps have cost."""
    n, updates = sum(one.n_sweeps for one in findings), sum(one.n_updates for one in findings)
    seconds = words.duration(sum(one.seconds for one in findings))
    return f"{counted(n, 'sweep')} of the learning rate, {counted(updates, 'update')}, {seconds}"


def spread(found: Spread | None) -> str:
    """Return a rate with its interval over seeds: ``0.0185 (0.0135 to 0.0205)``."""
    if found is None:
        return "not seen"
    return f"{words.rate(found.value)} ({words.rate(found.low)} to {words.rate(found.high)})"


def conclusion(finding: Finding) -> str:
    """Say what is suggested, or why nothing is."""
    bounds = finding.suggestion
    if bounds is None:
        return f"no confident suggestion: {finding.why_none}"
    return f"search from {bounds.low:g} to {bounds.high:g}"


def sentence(finding: Finding) -> str:
    """Say all that is known of one optimizer."""
    found = ", ".join(f"{name} {spread(getattr(finding, field))}" for field, name in NAMES.items())
    said = conclusion(finding)
    return f"{found[0].upper()}{found[1:]}, over {counted(finding.n_sweeps, 'seed')}. {said[0].upper()}{said[1:]}."


def line(finding: Finding) -> str:
    """Say in a line below a table of trials what the sweeps of one optimizer were, which are none of its trials."""
    return f"range test of {finding.name} ({cost([finding])}): {conclusion(finding)}"


def narrowing(found: Narrowing) -> str:
    """Say what becomes of the learning rates that are searched with an optimizer."""
    if found.changes:
        return f"{found.name}: peak_lr {describe(found.after)}, of {describe(found.before)}"
    return f"{found.name}: peak_lr stays {describe(found.before)}: {found.why}"


def lines(findings: Sequence[Finding], narrowings: Sequence[Narrowing]) -> Iterator[str]:
    """Yield what is to be said below the drawing."""
    width = max(map(len, NAMES.values()))
    becomes = {one.name: one for one in narrowings}
    for finding in findings:
        yield finding.name
        for field, name in NAMES.items():
            yield f"  {name:<{width}}  {spread(getattr(finding, field))}"
        yield f"  {conclusion(finding)}"
        mine = becomes.get(finding.name)
        if mine is not None and finding.suggestion is not None:
            _, _, said = narrowing(mine).partition(": ")
            yield f"  of this study: {said}"
    yield ""
    yield CAUTION


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return what is known of one optimizer as JSON."""
    suggestion = None if finding.suggestion is None else asdict(finding.suggestion)
    return {
        "name": finding.name,
        **{field: _spread_json(getattr(finding, field)) for field in NAMES},
        "suggestion": suggestion,
        "why_none": finding.why_none or None,
        "n_sweeps": finding.n_sweeps,
        "n_updates": finding.n_updates,
        "seconds": finding.seconds,
    }


def to_json(
    about: Mapping[str, Any], findings: Sequence[Finding], narrowings: Sequence[Narrowing], sweeps: Sequence[RangeTest]
) -> dict[str, Any]:
    """Return a range test as JSON; ``about`` says of what."""
    becomes = {one.name: one for one in narrowings}
    optimizers = []
    for finding in findings:
        mine = becomes.get(finding.name)
        space = {"before": to_plain(mine.before), "after": to_plain(mine.after), "why": mine.why} if mine else None
        curves = [curve_json(sweep) for sweep in sweeps if sweep.optimizer == finding.name]
        optimizers.append({**finding_json(finding), "peak_lr": space, "sweeps": curves})
    return {"schema": SCHEMA, **about, "caution": CAUTION, "optimizers": optimizers}


def curve_json(sweep: RangeTest) -> dict[str, Any]:
    """Return a sweep as JSON; a loss that is no number is null."""
    out: dict[str, Any] = plain(asdict(sweep))
    del out["optimizer"]
    return out


def _spread_json(found: Spread | None) -> dict[str, Any] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high, "n": found.n}

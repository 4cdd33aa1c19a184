"""What a range test leaves of the learning rates that a study searches: never more than the study says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lrsearch.analysis.range_test import Finding, Suggestion, narrowed
from lrsearch.domain import Domain, describe, high_end, low_end
from lrsearch.spec.space import Strict
from lrsearch.spec.study import StudySpec
from lrsearch.trial import OptimizerName


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The learning rates of one optimizer before and after."""

    name: OptimizerName
    before: Domain
    after: Domain
    why: str
    """Why they stay as they are, in a sentence without its stop; empty where they are narrower."""

    @property
    def changes(self) -> bool:
        """Whether they are narrower."""
        return self.before != self.after


def narrowings(
    spec: StudySpec, findings: Sequence[Finding], kept: Mapping[OptimizerName, float] | None = None
) -> tuple[Narrowing, ...]:
    """Return what becomes of the learning rates of each optimizer of the study that was swept.

    Args:
        spec: the study.
        findings: of its optimizers; of others nothing is said.
        kept: learning rates that must stay in, such as that of the baseline.
    """
    domains = {name: fields["peak_lr"] for name, fields in spec.space.optimizers.items()}
    rates = kept or {}
    return tuple(_narrowing(one, domains[one.name], rates.get(one.name)) for one in findings if one.name in domains)


def _narrowing(finding: Finding, before: Domain, kept: float | None) -> Narrowing:
    if finding.suggestion is None:
        return Narrowing(finding.name, before, before, finding.why_none)
    bounds = finding.suggestion
    after = narrowed(before, bounds)
    if after is None:
        why = f"none of {describe(before)} lies from {bounds.low:g} to {bounds.high:g}, where the test would search"
        return Narrowing(finding.name, before, before, why)
    if kept is not None and not bounds.low <= kept <= bounds.high:
        wider = Suggestion(min(bounds.low, kept), max(bounds.high, kept))
        after = narrowed(before, wider) or before
    same = "" if after != before else f"all of {describe(before)} lies from {bounds.low:g} to {bounds.high:g}"
    return Narrowing(finding.name, before, after, same)


def bounded(spec: StudySpec, found: Sequence[Narrowing]) -> StudySpec:
    """Return the study with these learning rates."""
    tables: dict[str, Any] = {}
    for one in found:
        table = getattr(spec.space.optimizer, one.name)
        tables[one.name] = table.model_copy(update={"peak_lr": one.after})
    optimizer = cast("Strict", spec.space.optimizer).model_copy(update=tables)
    return spec.model_copy(update={"space": spec.space.model_copy(update={"optimizer": optimizer})})


def as_filed(spec: StudySpec, filed: StudySpec) -> StudySpec:
    """Return the study with the learning rates as they were filed, where a test could have made them of these.

    Where they could not, the study is another one, and stays as it is.
    """
    rates = {name: fields["peak_lr"] for name, fields in filed.space.optimizers.items()}
    mine = {name: fields["peak_lr"] for name, fields in spec.space.optimizers.items()}
    found = [
        Narrowing(name, domain, rates[name], "")
        for name, domain in mine.items()
        if name in rates and _is_part(rates[name], domain)
    ]
    return bounded(spec, found)


def _is_part(part: Domain, whole: Domain) -> bool:
    """Whether a domain is what ``narrowed`` could leave of another."""
    if part == whole:
        return True
    return narrowed(whole, Suggestion(low_end(part), high_end(part))) == part

"""What a range test leaves of the learning rates that a study searches: never more than the study says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrsearch.analysis.range_test import Finding
from lrsearch.domain import Domain
from lrsearch.spec.bounds import with_rates
from lrsearch.spec.narrowing import narrowed
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
    low, high = finding.suggestion.low, finding.suggestion.high
    after = narrowed(before, low, high)
    if after is None:
        why = f"that lies outside {low:g} to {high:g}, between which the test would search"
        return Narrowing(finding.name, before, before, why)
    if kept is not None:
        after = narrowed(before, min(low, kept), max(high, kept)) or after
    same = "" if after != before else f"that lies within {low:g} to {high:g}"
    return Narrowing(finding.name, before, after, same)


def bounded(spec: StudySpec, found: Sequence[Narrowing]) -> StudySpec:
    """Return the study with these learning rates."""
    return spec.model_copy(update={"space": with_rates(spec.space, {one.name: one.after for one in found})})

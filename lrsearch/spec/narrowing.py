"""Learning rates between bounds: what they leave of a domain, and of a study that was filed between some."""

import math

from lrsearch.domain import Choice, Domain, Fixed, Range, contains, high_end, low_end
from lrsearch.spec.bounds import with_rates
from lrsearch.spec.study import StudySpec


def narrowed(domain: Domain, lowest: float, highest: float) -> Domain | None:
    """Return what is left of a domain of learning rates between two, both included; None where that is nothing.

    What is left is never wider: a range keeps its scale and its grid, a choice loses values, one value is or is not in.

    >>> narrowed(Range(1e-3, 3.0, log=True), 0.02, 0.5)
    Range(low=0.02, high=0.5, log=True, step=None, integer=False)
    >>> narrowed(Choice((0.01, 0.1, 1.0)), 0.02, 0.5)
    Fixed(value=0.1)
    >>> narrowed(Fixed(1.0), 0.02, 0.5) is None
    True
    """
    match domain:
        case Fixed(value=only):
            return domain if lowest <= float(only) <= highest else None
        case Choice(values=values):
            left = tuple(value for value in values if lowest <= float(value) <= highest)
            return None if not left else Fixed(left[0]) if len(left) == 1 else Choice(left)
        case Range(low=low, high=high, log=log, step=step):
            least, most = max(low, lowest), min(high, highest)
            if step is not None:
                first, last = math.ceil((least - low) / step - 1e-9), math.floor((most - low) / step + 1e-9)
                least, most = (float(f"{low + k * step:.12g}") for k in (first, last))
            if least == most and contains(domain, least):
                return Fixed(least)
            return Range(least, most, log, step) if least < most else None


def as_filed(spec: StudySpec, filed: StudySpec) -> StudySpec:
    """Return the study with the learning rates as they were filed, where bounds could have left them of these.

    Where they could not, the study is another one, and stays as it is.
    """
    there = filed.space.optimizers
    domains = {
        name: there[name]["peak_lr"]
        for name, fields in spec.space.optimizers.items()
        if name in there and _is_part(there[name]["peak_lr"], fields["peak_lr"])
    }
    return spec.model_copy(update={"space": with_rates(spec.space, domains)})


def _is_part(part: Domain, whole: Domain) -> bool:
    return part == whole or narrowed(whole, low_end(part), high_end(part)) == part

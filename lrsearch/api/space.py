"""Ranges of a search space, as a study file has them."""

from typing import Any


def log(low: float, high: float) -> dict[str, Any]:
    """Return a range that is searched in the logarithm: ``space={"stem_ratio": lrsearch.log(0.003, 1)}``.

    >>> log(0.003, 1)
    {'low': 0.003, 'high': 1, 'log': True}
    """
    return {"low": low, "high": high, "log": True}


def uniform(low: float, high: float, step: float | None = None) -> dict[str, Any]:
    """Return a range that is searched evenly, in steps if ``step`` is given, both ends included.

    >>> uniform(0, 0.2), uniform(16, 64, 16)
    ({'low': 0, 'high': 0.2}, {'low': 16, 'high': 64, 'step': 16})
    """
    return {"low": low, "high": high} if step is None else {"low": low, "high": high, "step": step}

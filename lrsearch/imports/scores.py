"""Numbers of results as other programs write them: one, or one for each epoch."""

import json
import math
import re
from collections.abc import Mapping


def count(text: str | None) -> int | None:
    """Return a whole number that is written as one, or as 10.0; None where it is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return int(value) if value.is_integer() and abs(value) < 1e9 else None


def number(text: str) -> float | None:
    """Return the number of a cell, of a percentage what stands before its mark; None where it is none.

    >>> number("93.2 %"), number("nan"), number("high")
    (93.2, nan, None)
    """
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        return None


def result(text: str) -> float:
    """Return the number of a cell; what is none is not a number."""
    value = number(text)
    return math.nan if value is None else value


def listed(text: str) -> list[float] | None:
    """Return the numbers of a list, as JSON or with semicolons; None for what is none.

    >>> listed("[0.5, null, 0.75]"), listed(".5;.75"), listed("[nan]"), listed("0.5")
    ([0.5, nan, 0.75], [0.5, 0.75], [nan], None)
    """
    if text.startswith("["):
        try:
            items = json.loads(re.sub(r"\bnan\b", "NaN", re.sub(r"\binf\b", "Infinity", text)))
        except ValueError:
            return None
        numbers = all(item is None or (isinstance(item, int | float) and not isinstance(item, bool)) for item in items)
        return [math.nan if item is None else float(item) for item in items] or None if numbers else None
    if ";" in text:
        return [result(part.strip()) for part in text.strip(";").split(";")]
    return None


def is_result(text: str) -> bool:
    """Whether a cell has a number, or several, ``nan`` among them."""
    return listed(text) is not None or number(text) is not None


def filled(by_epoch: Mapping[int, float]) -> list[float]:
    """Return the scores of epochs 1, 2, ... up to the last there is, not a number where one is missing."""
    return [by_epoch.get(epoch, math.nan) for epoch in range(1, max(by_epoch, default=0) + 1)]

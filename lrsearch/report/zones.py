"""The zones of an optimizer's learning rates on one logarithmic axis, drawn with characters."""

import math

from rich.text import Text

from lrsearch.analysis.diagnosis import OptimizerDiagnosis
from lrsearch.analysis.safe_interval import ZoneKind
from lrsearch.report import words

WIDTH = 64
"""Characters of the axis."""
FILLS: dict[ZoneKind, tuple[str, str]] = {
    ZoneKind.TOO_LOW: ("-", "yellow"),
    ZoneKind.GOOD: ("=", "green"),
    ZoneKind.UNSTABLE: ("~", "yellow"),
    ZoneKind.DIVERGED: ("x", "red"),
}
UNKNOWN = "."
"""Between two zones, where it is not known which of them begins."""
BEST = "*"


def zone_axis(found: OptimizerDiagnosis, width: int = WIDTH) -> list[Text]:
    """Return the axis, the names of its zones, and the learning rates at their ends; nothing without an interval."""
    low, high = found.tried_low, found.tried_high
    if found.safe.low is None or low is None or high is None or low >= high:
        return []
    octaves = math.log2(high / low)

    def column(rate: float) -> int:
        return min(max(round(math.log2(rate / low) / octaves * (width - 1)), 0), width - 1)

    line, styles = [UNKNOWN] * width, [""] * width
    for zone in found.safe.zones:
        fill, style = FILLS[zone.kind]
        for at in range(column(zone.low), column(zone.high) + 1):
            line[at], styles[at] = fill, style
    if found.best_lr is not None:
        line[column(found.best_lr)], styles[column(found.best_lr)] = BEST, "bold"
    axis = Text()
    for character, style in zip(line, styles, strict=True):
        axis.append(character, style)
    names = [((column(z.low) + column(z.high)) // 2, z.kind.value) for z in found.safe.zones]
    rates = [(column(rate), words.rate(rate)) for z in found.safe.zones for rate in (z.low, z.high)]
    return [axis, Text(_placed(names, width)), Text(_placed(rates, width))]


def plain_axis(found: OptimizerDiagnosis) -> str:
    """Return the same as lines without colours; empty without an interval."""
    return "\n".join(line.plain for line in zone_axis(found))


def _placed(words_at: list[tuple[int, str]], width: int) -> str:
    """Return words under an axis, each around its column; one that would touch another is moved, or left out."""
    line = [" "] * (width + 12)
    free = 0
    for at, word in words_at:
        begin = max(at - len(word) // 2, free)
        if begin - at > len(word) or begin + len(word) > len(line):
            continue
        line[begin : begin + len(word)] = word
        free = begin + len(word) + 1
    return "".join(line).rstrip()

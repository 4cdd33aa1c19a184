"""How much of a training two trials have in common: those that go on from one kept state are one up to there."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lrsearch.strategy.lr.features import Floats
from lrsearch.strategy.view import ScoreCurve


def common(curves: Sequence[ScoreCurve], trunks: Sequence[tuple[str, int]], n: int, epochs: int) -> Floats:
    """Return the part of a training that each two of ``n`` have in common, `[n, n]`, as log10.

    0 is all of it, as of each with itself; minus infinity is nothing.

    Args:
        curves: the first of the ``n``, trials.
        trunks: of those that follow, new settings: from whose kept state each would go on, and after which epoch; 0:
            from none. What comes after them is trained elsewhere, each on its own.
        n: all of them.
        epochs: of a whole training.
    """
    out = np.full((n, n), -np.inf)
    np.fill_diagonal(out, 0.0)
    by_slot = {one.slot: one for one in curves}
    lines = [_line(one.parent, one.shared, by_slot) for one in curves] + [_line(*one, by_slot) for one in trunks]
    for i, one in enumerate(curves):
        lines[i][one.slot] = epochs
    members: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        for slot in line:
            members.setdefault(slot, []).append(i)
    for slot, some in members.items():
        upto = np.log10([lines[i][slot] / epochs for i in some])
        block = np.ix_(some, some)
        out[block] = np.maximum(out[block], np.minimum(upto[:, None], upto[None]))
    np.fill_diagonal(out, 0.0)
    return out


def _line(parent: str | None, shared: int, by_slot: Mapping[str, ScoreCurve]) -> dict[str, int]:
    """Return from which trials a training has its beginning, and up to which epoch."""
    out: dict[str, int] = {}
    while parent and shared and parent not in out:
        out[parent] = shared
        one = by_slot.get(parent)
        if one is None:
            break
        parent, shared = one.parent, min(shared, one.shared)
    return out


def remembered(a: Floats, b: Floats, in_common: Floats, memory: float) -> Floats:
    """Return how alike is what two trainings have of their own, 0 to 1, `[len(a), len(b)]`.

    What a training has of its own is forgotten while its fraction grows; two that part at a state forget it each on its
    own way from there.

    Args:
        a: `[m]`, log10 of the fraction of the one.
        b: `[k]`, of the other.
        in_common: `[m, k]`, as ``common`` has it.
        memory: it is forgotten while the fraction grows by e to this power.
    """
    at_a, at_b = np.minimum(a[:, None], in_common), np.minimum(b[None], in_common)
    with np.errstate(invalid="ignore"):
        way = (a[:, None] - at_a) + (b[None] - at_b) + np.abs(at_a - at_b)
    way = np.where(np.isfinite(in_common), way, np.inf)
    out: Floats = np.exp(-way * math.log(10) / memory)
    return out

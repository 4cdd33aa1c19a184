"""How soon a search finds the best setting: of many replays, the numbers that are told."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COSTS = (3, 5, 10)
"""Costs at which the regret is told [trainings]."""
POINT = 0.01
"""Of a regret: a point of accuracy, or 1 % of the best loss."""


@dataclass(frozen=True, slots=True)
class Found:
    """What would be recommended once a trial is complete: the complete one that showed the best value."""

    cost: float
    """Of all trials so far [trainings]."""
    wall: float
    """Time since the start, where a whole training takes 1."""
    regret: float
    """How far it is, without noise, from the best of the table, 0 or more: of an accuracy the difference, of a loss the
    part of the best loss."""


@dataclass(frozen=True, slots=True)
class Replay:
    """One search."""

    found: tuple[Found, ...]
    """One for each complete trial, in order."""
    nothing: float
    """The regret while nothing is complete."""

    def first_within(self, within: float) -> Found | None:
        """Return when a setting so near to the best was recommended first; None: never."""
        return next((one for one in self.found if one.regret <= within + 1e-12), None)

    def regret(self, cost: float) -> float:
        """Return the regret of what is recommended once so much is spent."""
        before = [one.regret for one in self.found if one.cost <= cost + 1e-9]
        return before[-1] if before else self.nothing


def summary(replays: Sequence[tuple[Replay, float]]) -> dict[str, Any]:
    """Return the numbers of replays, of one table or of several.

    Args:
        replays: one for each seed and table, and the regret that counts as reached.
    """
    first = [one.first_within(within) for one, within in replays]
    costs = np.array([math.inf if one is None else one.cost for one in first])
    walls = np.array([math.inf if one is None else one.wall for one in first])
    return {
        "median": float(np.median(costs)),
        "p90": float(np.quantile(costs, 0.9, method="higher")),
        "reached": float(np.isfinite(costs).mean()),
        "regret": {str(c): float(np.mean([one.regret(c) for one, _ in replays]) / POINT) for c in COSTS},
        "wall": {"median": float(np.median(walls)), "p90": float(np.quantile(walls, 0.9, method="higher"))},
    }


def heading() -> str:
    """Return the first line of what is printed."""
    regrets = "".join(f"{f'at {cost} E':>9}" for cost in COSTS)
    return f"{'':44}{'median':>8}{'p90':>8}{'reached':>9}{'wall':>8}   regret [points]{regrets}"


def line(name: str, numbers: Mapping[str, Any]) -> str:
    """Return the numbers of a table in one line; costs in whole trainings."""
    regrets = "".join(f"{numbers['regret'][str(cost)]:9.2f}" for cost in COSTS)
    wall = numbers["wall"]["median"]
    return f"{name:44}{numbers['median']:8.2f}{numbers['p90']:8.2f}{numbers['reached']:9.1%}{wall:8.2f}{'':18}{regrets}"

"""Files of recorded runs, a JSON object a line, as tables."""

import gzip
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrsearch.errors import DataError
from replaying.pools import Pool
from replaying.problems import PROBLEMS
from replaying.tables import Conditions, Floats, RateTable, Recorded, Table

NEEDED = ("problem", "optimizer", "lr")
LOSSES = ("train_loss", "val_loss")
LEAST_RATES = 2
"""Of a schedule, to be part of a table."""


def tables(files: Sequence[Path], conditions: Conditions, skip: Sequence[str] = ()) -> list[Table]:
    """Return the tables of files, by problem and optimizer; the pools, which are lines with ``params``, after them.

    Args:
        files: JSON lines, compressed where their name ends in gz.
        conditions: what is changed of what was recorded.
        skip: problems that are left out.

    Raises:
        DataError: a file or a line that cannot be read, or nothing left.
    """
    rates: dict[tuple[Any, ...], dict[str, list[Mapping[str, Any]]]] = {}
    pools: dict[str, list[Mapping[str, Any]]] = {}
    for row in (row for file in files for row in rows(file)):
        if row["problem"] in skip:
            continue
        if "params" in row:
            pools.setdefault(row["problem"], []).append(row)
        else:
            key = (row["problem"], row["optimizer"], row.get("batch_size", 128), len(_scores(row)))
            rates.setdefault(key, {}).setdefault(row.get("schedule") or "constant", []).append(row)
    found: list[Table] = []
    for key, by_schedule in rates.items():
        enough = {name: one for name, one in by_schedule.items() if len({r["lr"] for r in one}) >= LEAST_RATES}
        if enough:
            found.append(_rate_table(key, [*rates], enough, conditions))
    found += [Pool(name, PROBLEMS.get(name, {}), some, conditions) for name, some in pools.items()]
    if not found:
        raise DataError(
            f"{', '.join(map(str, files))} must hold recorded runs of at least {LEAST_RATES} learning rates"
        )
    return found


def rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt") as lines:
            for number, line in enumerate(lines, 1):
                yield _row(file, number, line)
    except (OSError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None


def _row(file: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
        lacking = [key for key in NEEDED if key not in row]
        if lacking or not _scores(row) or not float(row["lr"]) > 0:
            what = f"lacks {', '.join(lacking)}" if lacking else "has no scores or no learning rate above 0"
            raise DataError(f"{file}, line {number} {what}; a line holds {', '.join(NEEDED)} and val_acc or val_loss")
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{file}, line {number} must be a JSON object of a recorded run: {error}") from None
    else:
        found: Mapping[str, Any] = row
        return found


def _has_accuracy(row: Mapping[str, Any]) -> bool:
    return bool(row.get("val_acc"))


def _scores(row: Mapping[str, Any]) -> Sequence[float | None]:
    found: Sequence[float | None] = row.get("val_acc") or row.get("val_loss") or ()
    return found


def _rate_table(
    key: tuple[Any, ...],
    keys: Sequence[tuple[Any, ...]],
    by_schedule: Mapping[str, Sequence[Mapping[str, Any]]],
    conditions: Conditions,
) -> RateTable:
    problem, optimizer, batch_size, n_epochs = key
    others = [one for one in keys if one[:2] == key[:2]]
    name = f"{problem} {optimizer}"
    if len({one[2] for one in others}) > 1:
        name += f" batch {batch_size}"
    if len({one[3] for one in others}) > 1:
        name += f" {n_epochs} epochs"
    every = [row for some in by_schedule.values() for row in some]
    maximize = all(_has_accuracy(row) for row in every)
    losses = [key for key in LOSSES if conditions.by_losses and any(_has_value(row.get(key)) for row in every)]
    recorded = {schedule: _recorded(some, losses) for schedule, some in by_schedule.items()}
    return RateTable(name, optimizer, batch_size, recorded, maximize=maximize, conditions=conditions)


def _has_value(column: Sequence[float | None] | None) -> bool:
    return any(value is not None for value in column or ())


def _alive(row: Mapping[str, Any], losses: Sequence[str]) -> Sequence[float | None]:
    """Return the scores of a training, lost where one of its losses is."""
    found = _scores(row)
    columns = [row.get(key) or () for key in losses]
    return [None if any(c[i] is None for c in columns if i < len(c)) else v for i, v in enumerate(found)]


def _recorded(some: Sequence[Mapping[str, Any]], losses: Sequence[str]) -> Recorded:
    """Return the trainings of a schedule, one a rate; they diverge where one of their ``losses`` is null.

    Where all rates have equally many seeds their mean is taken. Where some have more, as those that were best, which
    would be better known than the others and so unlike a search, the seed that all rates have is taken alone.
    """
    by_rate: dict[float, dict[Any, Sequence[float | None]]] = {}
    for row in some:
        by_rate.setdefault(float(row["lr"]), {})[row.get("seed")] = _alive(row, losses)
    shared = [seed for seed in next(iter(by_rate.values())) if all(seed in seeds for seeds in by_rate.values())]
    alike = len({len(seeds) for seeds in by_rate.values()}) == 1
    of_one: Callable[[Mapping[Any, Sequence[float | None]]], Floats] = (
        _mean if alike or not shared else lambda seeds: _mean({0: seeds[shared[0]]})
    )
    rates = sorted(by_rate)
    return Recorded(np.log10(rates), np.array([of_one(by_rate[lr]) for lr in rates]))


def _mean(seeds: Mapping[Any, Sequence[float | None]]) -> Floats:
    """Return the mean over seeds, `[epochs]`: it is lost from where half of them are."""
    curves = np.array([[math.nan if v is None else v for v in scores] for scores in seeds.values()], float)
    lost = np.maximum.accumulate(np.isnan(curves), axis=1)
    gone = lost.mean(axis=0) >= 0.5
    total = np.where(lost, 0.0, curves).sum(axis=0)
    return np.where(gone, math.nan, total / np.maximum((~lost).sum(axis=0), 1))

"""The trainings of a table: a row each, or the rows of one put together where there is one for each epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lrsearch.imports import columns
from lrsearch.imports.scores import count, filled, listed, result
from lrsearch.imports.table import CsvTable, Line

STEM = "intermediate_values_"
"""How Optuna's columns of scores by epoch begin."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """One training."""

    row: int
    """Of its first row, as a spreadsheet counts."""
    cells: Mapping[str, str]
    scores: Sequence[float] = ()
    """After each epoch, not a number where there is none; empty where the table has none."""


@dataclass(slots=True)
class RunReader:
    """Reads the trainings of a table."""

    table: CsvTable
    keys: Mapping[str, Sequence[str]]
    owners: Sequence[str]
    """Optimizers and schedules whose names parameters may carry."""
    notes: list[str] = field(default_factory=list)
    """What was taken for granted, in words."""

    def runs(self) -> list[PastRun]:
        """Return the trainings in the order of their first rows."""
        lines, epoch = self.table.lines, self._column("epoch")
        groups = [[line] for line in lines]
        if any(epoch in line.cells for line in lines):
            groups = _grouped(lines, self._identity(), epoch)
        if all(len(group) == 1 for group in groups):
            return [PastRun(line.number, line.cells, self._listed(line.cells)) for line in lines]
        shift = self._first_epoch(groups, epoch)
        return [self._together(group, epoch, shift) for group in groups]

    def steps(self) -> dict[int, str]:
        """Return the columns of Optuna's scores by epoch, from 1: Optuna's steps often begin at 0."""
        named = {name.removeprefix(STEM): name for name in self.table.headers if name.startswith(STEM)}
        found = {int(step): name for step, name in sorted(named.items()) if step.isdecimal()}
        return {step + (0 in found): name for step, name in found.items()}

    def _column(self, key: str) -> str:
        return next(iter(self.keys.get(key, ())), "")

    def _listed(self, cells: Mapping[str, str]) -> list[float]:
        for key in ("scores", "value"):
            found = listed(cells.get(self._column(key), ""))
            if found is not None:
                return found
        return filled({epoch: result(cells[name]) for epoch, name in self.steps().items() if name in cells})

    def _together(self, group: Sequence[Line], epoch: str, shift: int) -> PastRun:
        """Return the training of several rows: what the first row says of it counts, but of its end the last."""
        value, state = self._column("value"), self._column("state")
        cells, by_epoch = dict[str, str](), dict[int, float]()
        for line in group:
            cells = {**line.cells, **cells}
            n = count(line.cells.get(epoch))
            if n is not None and n + shift >= 1 and value in line.cells:
                by_epoch[n + shift] = result(line.cells[value])
        cells |= {name: cell for name, cell in group[-1].cells.items() if name == state}
        for name in (value, epoch):
            cells.pop(name, None)
        return PastRun(group[0].number, cells, filled(by_epoch))

    def _identity(self) -> tuple[str, ...]:
        """Return the columns that tell one training from another: its name or number, else its setting."""
        for header in self.keys.get("run", ()):
            if all(header in line.cells for line in self.table.lines):
                return (header,)
        results = {header for key in ("value", "scores", "epoch", "state") for header in self.keys.get(key, ())}
        known = {header for headers in self.keys.values() for header in headers}
        known |= columns.of_owners(self.table.headers, self.owners)
        return tuple(name for name in self.table.headers if name in known - results)

    def _first_epoch(self, groups: Sequence[Sequence[Line]], epoch: str) -> int:
        """Return what is added to an epoch as the table counts it.

        1 where the first is 0, unless the last is the number of all epochs: then 0 is before the training.
        """
        counted = [[n for line in group if (n := count(line.cells.get(epoch))) is not None] for group in groups]
        if min((min(several) for several in counted if several), default=1) != 0:
            return 0
        for group, several in zip(groups, counted, strict=True):
            told = [n for name in self.keys.get("epochs", ()) if (n := count(group[0].cells.get(name))) is not None]
            if told and several and max(several) >= told[0]:
                self.notes.append(f"epoch 0 of '{epoch}' is before the training, and left out")
                return 0
        self.notes.append(f"'{epoch}' counts from 0")
        return 1


def _grouped(lines: Sequence[Line], identity: Sequence[str], epoch: str) -> list[list[Line]]:
    """Return the rows of each training, by its first row; where an epoch comes again, another training begins."""
    groups: dict[tuple[str, ...], list[list[Line]]] = {}
    for line in lines:
        mine = groups.setdefault(tuple(line.cells.get(name, "") for name in identity), [])
        now = count(line.cells.get(epoch))
        before = count(mine[-1][-1].cells.get(epoch)) if mine else None
        if now is not None and before is not None and now > before:
            mine[-1].append(line)
        else:
            mine.append([line])
    return sorted((group for several in groups.values() for group in several), key=lambda group: group[0].number)

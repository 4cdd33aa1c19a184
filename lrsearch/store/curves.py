"""The trials of a search as a strategy that pauses looks at them, read of the database, what has ended only once."""

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.spec import parameters
from lrsearch.store.study import Study
from lrsearch.store.tables import epochs, slots, trunks
from lrsearch.strategy.view import ScoreCurve
from lrsearch.trial import Role, State, TrialConfig

_SLOTS = (
    sa.select(
        slots.c.id,
        slots.c.state,
        slots.c.outcome,
        slots.c.value,
        slots.c.setting,
        slots.c.seed,
        slots.c.epoch,
        slots.c.parent,
        slots.c.shared_epochs,
        slots.c.number,
    )
    .where(slots.c.study_id == bindparam("study"), slots.c.role == Role.SEARCH.value)
    .order_by(slots.c.position)
)
_SCORES = (
    sa.select(epochs.c.slot_id, epochs.c.rung_score)
    .where(epochs.c.slot_id.in_(bindparam("slots", expanding=True)))
    .order_by(epochs.c.slot_id, epochs.c.epoch)
)
_TRUNKS = sa.select(trunks.c.slot_id, trunks.c.epoch).where(trunks.c.study_id == bindparam("study"))
AT_ONCE = 500
"""Slots whose epochs are read in one query; databases limit what a query may name."""


class Curves:
    """Reads the trials of a study, again and again."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._known: dict[str, tuple[tuple[Any, ...], ScoreCurve]] = {}
        self._configs: dict[str, tuple[str, TrialConfig]] = {}

    def read(self, connection: sa.Connection) -> tuple[ScoreCurve, ...]:
        """Return the trials of the search by their place in the budget; those whose setting is not drawn yet left out.

        A trial that stands still or has ended, and has been read, is not read again.
        """
        rows = [row for row in connection.execute(_SLOTS, {"study": self._study.id}) if row.setting is not None]
        kept: dict[str, list[int]] = {}
        for slot, epoch in connection.execute(_TRUNKS, {"study": self._study.id}):
            kept.setdefault(slot, []).append(epoch)
        of_number = {row.number: row.id for row in rows}
        news = [row for row in rows if row.state == "running" or self._known.get(row.id, ((),))[0] != _key(row)]
        scores = self._scores(connection, [row.id for row in news if row.state != "reserved"])
        for row in news:
            curve = ScoreCurve(
                slot=row.id,
                config=self._config(row),
                state=State.RUNNING if row.outcome is None else State(row.outcome),
                scores=tuple(scores.get(row.id, ())),
                value=row.value if row.outcome == State.COMPLETE else None,
                paused=row.state == "paused",
                parent=of_number.get(row.parent),
                shared=row.shared_epochs or 0,
            )
            self._known[row.id] = _key(row), curve
        found = []
        for row in rows:
            curve, at = self._known[row.id][1], tuple(sorted(kept.get(row.id, ())))
            found.append(curve if curve.trunks == at else replace(curve, trunks=at))
        return tuple(found)

    def _scores(self, connection: sa.Connection, wanted: list[str]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for first in range(0, len(wanted), AT_ONCE):
            for slot, score in connection.execute(_SCORES, {"slots": wanted[first : first + AT_ONCE]}):
                found.setdefault(slot, []).append(float("nan") if score is None else score)
        return found

    def _config(self, row: Any) -> TrialConfig:
        known = self._configs.get(row.id)
        if known is None or known[0] != row.setting:
            known = row.setting, parameters.config_of(row.setting, row.seed or self._study.spec.seed)
            self._configs[row.id] = known
        return known[1]


def _key(row: Any) -> tuple[Any, ...]:
    return row.state, row.outcome, row.epoch, row.setting, row.value

"""Whose turn it is to judge the winner on the test images: one worker's, once, when the search is over."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam

from lrsearch.store import budget, confirmations, endings, lease, progress, tables
from lrsearch.store.study import Study
from lrsearch.store.tables import epochs, leases, slots
from lrsearch.trial import Reason

LEAST_SECONDS = 60.0
"""For which a turn is one worker's; longer where it may have to train the winner again."""
ROOM = 3.0
"""Times its training time that a training of the winner may take here."""

_HELD = sa.select(leases.c.slot_id, leases.c.token).where(leases.c.study_id == bindparam("study"))
_SLOT = sa.select(slots.c.number, slots.c.test_accuracy, slots.c.weights).where(slots.c.id == bindparam("slot"))
_SECONDS = sa.select(sa.func.sum(epochs.c.seconds)).where(epochs.c.slot_id == bindparam("slot"))
_TESTED = slots.update().where(slots.c.id == bindparam("slot"))


@dataclass(frozen=True, slots=True)
class JudgingTurn:
    """The right to judge a trial."""

    slot: str
    token: str
    number: int


def take_turn(study: Study, worker: str) -> JudgingTurn | None:
    """Return the turn to judge the winner; None where nothing is complete, or judged, or others have work in hand.

    Who has a trial in hand sees the end of the search later, and judges then: only it knows who has won. ``worker`` is
    the id of this one, whose end sets the turn free at once.
    """
    token = lease.new_token()

    def work(connection: sa.Connection) -> JudgingTurn | None:
        if budget.lock(connection, study.id) is None:
            return None
        for dead in lease.drop_dead(connection, study.id, look_at_processes=True):
            progress.write_down(connection, dead.slot, Reason.LOST, dead.why)
        held = {row.token: row.slot_id for row in connection.execute(_HELD, {"study": study.id})}
        if confirmations.is_undecided(connection, study):
            return None
        slot = confirmations.winner_slot(connection, study)
        if slot is None:
            slot = endings.best_slot(connection, study.id, maximize=study.maximize)
        if slot is None or held.keys() - {token}:
            return None
        row = connection.execute(_SLOT, {"slot": slot}).one()
        if token in held:
            return JudgingTurn(slot, token, row.number)  # taken by a commit whose answer was lost
        if row.test_accuracy is not None:
            return None
        trained = float(connection.scalar(_SECONDS, {"slot": slot}) or 0.0)
        again = 0.0 if row.weights is not None else ROOM * trained
        lease.take(connection, slot, study.id, token, worker, LEAST_SECONDS + again)
        return JudgingTurn(slot, token, row.number)

    return study.database.write(work)


def end_turn(
    study: Study, turn: JudgingTurn, scores: tuple[float, float, float | None] | None, right: Sequence[int] = ()
) -> None:
    """Keep what the winner scored on the test images, or nothing.

    Args:
        study: whose winner it is.
        turn: what ``take_turn`` returned.
        scores: loss, accuracy, and the study's metric where it is neither; None: it was not judged.
        right: the test images of each class that are right [examples]; none where nobody has counted.
    """

    def work(connection: sa.Connection) -> None:
        if lease.drop(connection, turn.slot, turn.token) and scores is not None:
            loss, accuracy, score = (tables.finite(value) for value in scores)
            values: dict[str, object] = {"test_loss": loss, "test_accuracy": accuracy, "test_score": score}
            values["test_right"] = json.dumps(list(right)) if right else None
            connection.execute(_TESTED, {"slot": turn.slot, **values})

    study.database.write(work)

"""``study.confirm()``: the best settings with fresh seeds, in this process."""

import logging
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from lrsearch import loading
from lrsearch.analysis.confirmation import Confirmation
from lrsearch.api import process
from lrsearch.errors import UsageError
from lrsearch.strategy.confirming import LEAST_SEEDS, MOST_SEEDS

if TYPE_CHECKING:
    from lrsearch.run import Here
    from lrsearch.store.places import Place

log = logging.getLogger(__name__)


def confirm(
    place: "Place", name: str, here: "Here", artifacts: str | None, asked: tuple[int, int, str | None]
) -> Confirmation | None:
    """Confirm a study and return what came of it; ``asked`` is how many settings, how many seeds, against what.

    Raises:
        UsageError: a number is out of range, or the setting cannot be read.
        NothingFeasibleError: no trial is complete.
    """
    top, seeds, against = asked
    for keyword, value, low, high in (("top", top, 1, 20), ("seeds", seeds, LEAST_SEEDS, MOST_SEEDS)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UsageError(f"{keyword} must be a whole number from {low} to {high}, got {value!r}")
    process.load()
    from lrsearch import run
    from lrsearch.gather import confirmed
    from lrsearch.store import study as studies
    from lrsearch.store import to_confirm
    from lrsearch.store.keeper import Leave
    from lrsearch.store.storage import open_existing

    with closing(open_existing(place)) as database:
        to_confirm.ask(studies.get(database, name), top, seeds, against)
    leave = Leave()
    with ExitStack() as stack:
        stack.enter_context(process.leaving_at_interrupt(leave))
        loading.load_pytorch()
        stack.enter_context(process.as_it_was())
        session = stack.enter_context(run.joined(place, name, here, artifacts=artifacts))
        with closing(session.attend(leave, wait=True, only_confirm=True)) as events:
            for _ in events:
                pass
        if leave.asked:
            log.warning("interrupted; what was trained is kept, and the same call goes on from there")
        return confirmed(session.study)

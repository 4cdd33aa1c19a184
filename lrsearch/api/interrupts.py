"""An interrupt of a script or of a notebook: the search is left in order, and what called it gets its study.

``KeyboardInterrupt`` in the midst of a transaction would leave a lock behind. So the first one asks the search to
leave, which it does within an update; the second is raised where it comes.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING

from lrsearch.trial import Reason

if TYPE_CHECKING:
    from lrsearch.store.keeper import Leave


@contextmanager
def asking(leave: "Leave") -> Iterator[Callable[[], AbstractContextManager[object]]]:
    """Have the first interrupt in the block ask to leave; one that somebody else takes care of is left to them.

    Yields:
        a block within it in which an interrupt is raised where it comes: reading pictures may take long, and what is
        read is kept.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield nullcontext
        return

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if leave.asked:
            signal.default_int_handler(signum, frame)
        leave.ask(Reason.INTERRUPTED)

    @contextmanager
    def raised() -> Iterator[None]:
        check(leave)
        signal.signal(signal.SIGINT, before)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, on_interrupt)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield raised
    finally:
        signal.signal(signal.SIGINT, before)


def check(leave: "Leave") -> None:
    """Raise the interrupt that came meanwhile.

    Raises:
        KeyboardInterrupt: it did.
    """
    if leave.asked:
        raise KeyboardInterrupt

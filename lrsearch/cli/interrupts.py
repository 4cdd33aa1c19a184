"""Ctrl-C: exit code 130 at any moment, without a traceback, and nothing that is finished is lost.

Python raises KeyboardInterrupt wherever the signal happens to find it. In a callback of native code that aborts the
process (seen while PyTorch is imported), in a callback of the garbage collector it is printed and lost, and within a
transaction it leaves a lock behind for which the next one waits a minute. So it is raised where this package trains or
waits, and nowhere else: what is being imported or written ends first.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from lrsearch.cli import log
from lrsearch.errors import EXIT_INTERRUPTED, EXIT_TERMINATED

if TYPE_CHECKING:
    from lrsearch.store.keeper import Leave

RESTORE_TERMINAL = "\r\x1b[2K\x1b[?25h"
"""Clear the line, show the cursor: rich had hidden it."""

LIKE_TERM = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Asked to leave: by a batch system (Slurm's ``--signal``), or by the end of the terminal."""

NOT_WITHIN = ("lrsearch.store", "importlib._bootstrap", "importlib._bootstrap_external", "weakref", "_weakrefset")
"""Modules (or packages) whose calls an interrupt lets end."""


def end_at_once(_signum: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """End the process now. Safe at any moment, as a kill is: whatever is written is written in whole transactions."""
    with suppress(OSError, ValueError, AttributeError):
        if os.isatty(2) and not log.as_json():
            os.write(2, RESTORE_TERMINAL.encode())
    if "ray" in sys.modules and "lrsearch.workers.ray_cluster" in sys.modules:
        with suppress(Exception):  # nothing keeps it from ending
            from lrsearch.workers.ray_cluster import kill_children

            kill_children()
    os._exit(EXIT_INTERRUPTED)


def install() -> None:
    """Have an interrupt end the process at once, unless it is to be ignored (`nohup`, `&` in a script)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)
    if os.getpid() == 1:
        # The first process of a container gets no signal that it has no handler for: it could not be stopped while
        # PyTorch is imported.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_TERMINATED))


def leave(code: int = EXIT_INTERRUPTED) -> None:
    """End an interrupted process without taking PyTorch down piece by piece, which takes half a second.

    Nor does Python's own way out always exit 130: it kills itself if the interrupt was raised within an ``exec``.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


@contextmanager
def raised() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt at the first Ctrl-C and end at once at the second; yield a check for one that waits.

    The check raises what could not be raised where it came; it is called after every step that may have held it back.
    """
    asked = False

    def on_signal(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            end_at_once(signum, frame)
        asked = True
        if not _within(frame):
            raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before in (None, signal.SIG_IGN) or threading.current_thread() is not threading.main_thread():
        # The program that started or calls this process does not want its interrupts.
        yield check
        return
    signal.signal(signal.SIGINT, on_signal)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def asked(leave: "Leave") -> Iterator[None]:
    """Ask the work to leave at the first Ctrl-C, and at what is like SIGTERM; end at once at the second Ctrl-C.

    A signal that this process was started to ignore (``nohup``: SIGHUP) stays ignored.
    """
    from lrsearch.trial import Reason

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if leave.asked:
            end_at_once(signum, frame)
        leave.ask(Reason.INTERRUPTED)

    def on_terminate(_signum: int, _frame: FrameType | None) -> None:
        leave.ask(Reason.PREEMPTED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGINT: on_interrupt}
    handlers |= {getattr(signal, name): on_terminate for name in LIKE_TERM if hasattr(signal, name)}
    before = {signum: signal.getsignal(signum) for signum in handlers}
    for signum, handler in handlers.items():
        if signum == signal.SIGTERM or before[signum] not in (None, signal.SIG_IGN):
            signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, earlier in before.items():
            if signum == signal.SIGTERM or earlier is not None:
                signal.signal(signum, earlier or signal.SIG_DFL)


def _within(frame: FrameType | None) -> bool:
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(NOT_WITHIN):
            return True
        frame = frame.f_back
    return False

"""What a call of ``lrsearch.search`` shows while it works: in a notebook, on a terminal, in a log, or nothing."""

import html
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from lrsearch.events import Event
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial

DRAWN_EVERY_SECONDS = 0.25
AT_LEAST_EVERY_SECONDS = 1.0
"""The view in a notebook, whether or not anything has happened: its clock goes on."""


class Display(Protocol):
    """Shows a search."""

    bars: bool
    """Whether a bar may be drawn on stderr, of pictures that are decoded or downloaded."""

    def doing(self, what: str) -> None:
        """Say what is being done before the first trial; an empty string: nothing any more."""
        ...

    def begin(self, spec: StudySpec, budget: BudgetSpec, trials: Sequence[Trial]) -> None:
        """Show a search that begins, or goes on with these trials."""
        ...

    def on(self, event: Event) -> None:
        """Take note of an event."""
        ...

    def close(self, said: str) -> None:
        """Put it away; ``said`` is what there is to say at the end, and empty where nothing is."""
        ...


@contextmanager
def shown(*, progress: bool) -> Iterator[Display]:
    """Give what shows a search here, and put it away in the end."""
    display = _display() if progress else Silence()
    try:
        yield display
    finally:
        display.close("")


def _display() -> Display:
    if in_notebook():
        return NotebookView()
    from rich.console import Console

    console = Console(file=sys.stderr, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalView(console)
    return EventLines()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: Jupyter, VS Code, Colab."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


class Silence:
    """Shows nothing."""

    bars = False

    def doing(self, what: str) -> None:
        """Pass over it."""

    def begin(self, spec: StudySpec, budget: BudgetSpec, trials: Sequence[Trial]) -> None:
        """Pass over it."""

    def on(self, event: Event) -> None:
        """Pass over it."""

    def close(self, said: str) -> None:
        """Pass over it."""


class EventLines:
    """Writes a line on stderr for each event, as ``lrsearch run`` does where there is no terminal."""

    bars = False

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._spec: StudySpec | None = None

    def doing(self, what: str) -> None:
        """Pass over it: a log is read later."""

    def begin(self, spec: StudySpec, budget: BudgetSpec, trials: Sequence[Trial]) -> None:
        """Know the study."""
        del budget, trials
        self._spec = spec

    def on(self, event: Event) -> None:
        """Write a line."""
        from lrsearch.report.lines import line

        assert self._spec is not None
        print(line(event, time.monotonic() - self._begun, self._spec), file=sys.stderr, flush=True)

    def close(self, said: str) -> None:
        """Write what there is to say."""
        if said:
            print(f"lrsearch: {said}", file=sys.stderr, flush=True)


class TerminalView:
    """The live view of ``lrsearch run``, on stderr."""

    bars = True

    def __init__(self, console: Any) -> None:
        self._console, self._open = console, ExitStack()
        self._view: Any = None

    def doing(self, what: str) -> None:
        """Show it beside a spinner."""
        self._open.close()
        if what:
            self._open.enter_context(self._console.status(f"{what} ..."))

    def begin(self, spec: StudySpec, budget: BudgetSpec, trials: Sequence[Trial]) -> None:
        """Show the view."""
        from lrsearch.report.live import LiveView

        self._open.close()
        self._view = self._open.enter_context(LiveView(self._console, spec, budget, trials))

    def on(self, event: Event) -> None:
        """Take note of an event."""
        self._view.on(event)

    def close(self, said: str) -> None:
        """Leave one line that says how it ended."""
        self._open.close()
        if said:
            self._console.print(f"lrsearch: {said}", soft_wrap=True, markup=False)


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands in a notebook at a moment, in both forms in which notebooks keep it."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        """Return the line for what shows no HTML."""
        return self.text


class NotebookView:
    """One output of a notebook's cell that is updated in place, by a thread, so that an event costs next to nothing."""

    bars = False

    def __init__(self) -> None:
        from IPython import display

        self._display: Any = display.display
        self._handle: Any = None
        self._state: Any = None
        self._drawn: tuple[object, float] = (None, 0.0)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def doing(self, what: str) -> None:
        """Show it in the place where the view will be."""
        if what and self._state is None:
            self._show(Frame(f"<div>{html.escape(what)} ...</div>", f"{what} ..."))

    def begin(self, spec: StudySpec, budget: BudgetSpec, trials: Sequence[Trial]) -> None:
        """Show the view."""
        from lrsearch.report.live_state import begin

        self._state = begin(spec, budget, trials, time.monotonic())
        self._draw()
        self._thread = threading.Thread(target=self._keep_drawing, name="lrsearch-notebook", daemon=True)
        self._thread.start()

    def on(self, event: Event) -> None:
        """Take note of an event."""
        from lrsearch.report.live_state import after

        self._state = after(self._state, event, time.monotonic())

    def close(self, said: str) -> None:
        """Leave the last view, with what there is to say."""
        if self._over.is_set():
            return
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._state is not None:
            self._draw(said)

    def _keep_drawing(self) -> None:
        # A notebook that has gone takes no more pictures, and the search needs none.
        with suppress(Exception):
            while not self._over.wait(DRAWN_EVERY_SECONDS):
                state, at = self._drawn
                if state is not self._state or time.monotonic() - at >= AT_LEAST_EVERY_SECONDS:
                    self._draw()

    def _draw(self, said: str = "") -> None:
        from lrsearch.report import notebook

        state, now = self._state, time.monotonic()
        self._drawn = state, now
        self._show(Frame(notebook.live(state, now, said), notebook.line(state, now, said)))

    def _show(self, frame: Frame) -> None:
        if self._handle is None:
            self._handle = self._display(frame, display_id=True)
        else:
            self._handle.update(frame)

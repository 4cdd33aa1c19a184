"""A study as it stands, read once however many look at it.

Whether there is anything new is asked of the database in one short query; the trials are read and the page is built
only then, by one thread, with no transaction open while it is built.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from lrsearch.analysis.material import Material
from lrsearch.dashboard import note
from lrsearch.gather import gather
from lrsearch.report import html_page
from lrsearch.report.html_page import Live
from lrsearch.store import fingerprint
from lrsearch.store.study import Study

T = TypeVar("T")

KEPT = 8
"""Studies of which the last state is kept in memory, some five megabytes each."""
REST = 4.0
"""A state is kept for this many times the seconds that reading it took: a large study is not read all the time."""


class Current:
    """The last states of studies, each with what is built of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def of(self, study: Study) -> "Snapshot":
        """Return the state of a study; built anew where the database has news and the last one has been seen enough.

        Raises:
            StorageError: the database does not answer.
        """
        with self._lock:
            entry = self._entries.setdefault(study.id, _Entry())
            self._entries.move_to_end(study.id)
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)
        with entry.lock:
            last = entry.last
            if last is not None and last.name == study.name and self._clock() < entry.rests_until:
                return last
            # Before the trials: what comes meanwhile is news the next time.
            etag = fingerprint.of(study)
            if last is not None and last.etag == etag:
                return last
            begun = self._clock()
            snapshot = Snapshot(study, etag, gather(study))
            now = self._clock()
            entry.last, entry.rests_until = snapshot, now + REST * (now - begun)
            return snapshot


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    last: "Snapshot | None" = None
    rests_until: float = 0.0


class Snapshot:
    """A study at a moment, and what is shown of it, each made once."""

    def __init__(self, study: Study, etag: str, material: Material) -> None:
        self.etag, self.name = etag, study.name
        self._study, self._material = study, material
        self._lock = threading.RLock()
        self._made: dict[str, str] = {}

    def page(self) -> str:
        """Return the report as a page that keeps itself up to date."""
        live = Live(update_url_of(self._study.name), dashboard_url_of(self._study.optuna_id))
        return self._once("page", lambda: html_page.html(self._material, live))

    def update(self) -> str:
        """Return what the page asks for, as JSON."""
        return self._once("update", lambda: json.dumps(html_page.update(self._material), allow_nan=False))

    def note(self) -> str:
        """Return the answer as Markdown."""
        return self._once("note", lambda: note.markdown(self._material, report_url_of(self._study.name)))

    def plot(self) -> str:
        """Return accuracy against learning rate as a Plotly figure."""
        return self._once("plot", lambda: note.accuracy_against_lr(self._material))

    def _once(self, what: str, make: Callable[[], str]) -> str:
        with self._lock:
            if what not in self._made:
                self._made[what] = make()
            return self._made[what]


def report_url_of(name: str) -> str:
    """Return the address of a study's report; a name may hold anything, because the dashboard renames to anything.

    >>> report_url_of("digits"), report_url_of("a b/c?"), report_url_of("a/../b")
    ('/lr/digits', '/lr/a%20b/c%3F', '/lr?study=a%2F..%2Fb')
    """
    # A browser resolves dots, percent-encoded ones too, and optuna-dashboard takes slashes off the end of a path.
    if all(part not in ("", ".", "..") for part in name.split("/")):
        return f"/lr/{quote(name)}"
    return f"/lr?study={quote(name, safe='')}"


def update_url_of(name: str) -> str:
    """Return the address at which a study's report asks for what is new.

    >>> update_url_of("digits"), update_url_of("..")
    ('/lr/digits?update', '/lr?study=..&update')
    """
    url = report_url_of(name)
    return f"{url}{'&' if '?' in url else '?'}update"


def dashboard_url_of(optuna_id: int) -> str:
    """Return the address of a study in optuna-dashboard."""
    return f"/dashboard/studies/{optuna_id}"

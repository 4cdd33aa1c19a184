"""A study with two workers that another program deletes under them, beside the one that is counted."""

import random
import socket
import time
from contextlib import closing
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from chaos_check import Strike, Worker, struck
from chaos_worker import ANY_TIME, DOOMED, INSIDE, MOMENTS, Blow, Order, Request, act, be_worker, left_of, rows_of

from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database

SECONDS = 60.0
"""After so long a worker whose study is gone hangs."""
PATIENCE_SECONDS = 20.0
"""So long a moment is waited for; then it happens at any time."""


class Doomed:
    """One such study: filed, worked on by two, deleted at a moment of one of them; then looked at.

    Args:
        nth: its number in the run.
        act: what another program does.
        draw: who draws the moment.
        spec: what to file, but for the name and the budget.
        url: the database.
        logs: where the logs go.
        context: what starts processes.
    """

    def __init__(
        self, nth: int, act: str, draw: random.Random, spec: StudySpec, url: str, logs: Path, context: ForkServerContext
    ) -> None:
        self.name, self.url, self.logs, self.context = f"{DOOMED}-{nth}", url, logs, context
        moments = [moment for moment in MOMENTS if not moment.startswith(INSIDE) and moment != "trial taken over"]
        self.blow = Blow(draw.choice([*moments, ANY_TIME]), draw.randint(1, 2), seconds=draw.uniform(0, 2), act=act)
        endless = spec.model_copy(update={"name": self.name, "budget": BudgetSpec(trials=10_000)})
        filed = filing.file_study(
            endless, parse_place(url), explicit_budget=True, artifacts=str(logs.parent / self.name)
        )
        filed.database.close()
        self.id = filed.id
        self.wrong: list[str] = []
        self.strikes: list[Strike] = []
        self._workers: list[tuple[ForkServerProcess, Path]] = []
        self._began: float | None = None
        self._struck: float | None = None
        self._start()

    def look_after(self) -> bool:
        """Take the next step, if it is due; return whether it is all over."""
        if len(self._workers) == 1:
            if "> trial" in self._text(0):
                self._start(self.blow)
            return False
        logs = self.logs.glob(f"*{self.name}-*.log")
        self.strikes = [strike for log in logs for strike in struck(log.read_text(errors="replace"))]
        if not self.strikes:
            self._strike_at_any_time()
            return False
        if any(process.exitcode is None for process, _ in self._workers):
            if time.time() < self.strikes[0].ended + SECONDS:
                return False
            self.wrong.append(f"a worker of {self.name} goes on {SECONDS:.0f} s after it was {self.blow.act}")
            self.kill()
        self._judge()
        return True

    def kill(self) -> None:
        """End whoever is left."""
        for process, _ in self._workers:
            if process.is_alive():
                process.kill()
            process.join()

    def _strike_at_any_time(self) -> None:
        waited = time.monotonic() - self._since("> trial" in self._text(1))
        at_any_time = self.blow.moment == ANY_TIME and waited > self.blow.seconds
        asked = "chaos: asks" in self._text(1)
        if self._struck is None and not asked and (at_any_time or waited > PATIENCE_SECONDS):
            self._struck = time.monotonic()
            assert self.blow.act is not None
            log = str(self.logs / f"{self.name}-stranger.log")
            request = Request(self.blow.act, self.name, ANY_TIME)
            self.context.Process(target=act, args=(request, self.url, log, None), daemon=True).start()

    def _since(self, at_work: bool) -> float:  # noqa: FBT001
        now = time.monotonic()
        if self._began is None and at_work:
            self._began = now
        return now if self._began is None else self._began

    def _start(self, *acts: Blow) -> None:
        log = self.logs / f"{self.name}-{len(self._workers)}.log"
        order = Order(self.url, str(log), self.name, acts=acts)
        process = self.context.Process(target=be_worker, args=(order,), daemon=True)
        process.start()
        self._workers.append((process, log))

    def _text(self, nth: int) -> str:
        log = self._workers[nth][1]
        return log.read_text(errors="replace") if log.exists() else ""

    def _judge(self) -> None:
        for nth, (process, _) in enumerate(self._workers):
            text, name = self._text(nth), f"{socket.gethostname()}:{process.pid}"
            if process.exitcode != 2 or "has been deleted" not in text or "Traceback" in text:
                last = text.strip().splitlines()[-1:]
                self.wrong.append(
                    f"{name}, whose study {self.name} was {self.blow.act} ({self.strikes[0].moment}), "
                    f"exited with {process.exitcode}: {last}"
                )
            late = [one for one in Worker("", text, 0).attempts if one.at > self.strikes[0].ended + 1]
            if late:
                self.wrong.append(f"{name} began trial {late[0].number} of {self.name}, which was {self.blow.act}")
        with closing(Database(parse_place(self.url))) as database:
            left = left_of(database, self.id)
            if left:
                self.wrong.append(f"of {self.name}, which was {self.blow.act}, rows are left in {left}")
            # Patience may end just before the moment comes: then two have struck, and the later one stands.
            made = max(self.strikes, key=lambda strike: strike.ended)
            if made.to:
                now = rows_of(database, made.to)
                changed = {table: (made.rows.get(table), now.get(table)) for table in {*made.rows, *now}}
                self.wrong += [
                    f"{self.name} was {self.blow.act}, and rows of {made.to} in {table} changed: {was} became {became}"
                    for table, (was, became) in changed.items()
                    if was != became
                ]

"""Workers in simulated time: an epoch takes and costs the same whatever the setting, and deciding takes none.

All that happens at one time is told first; then whoever is free asks. Cost is the epochs that were trained, those of
trials under way among them.
"""

import heapq
import math
from bisect import bisect_right
from dataclasses import dataclass

from lrsearch.spec import parameters
from lrsearch.trial import TrialConfig
from replaying.measures import Found, Replay
from replaying.methods import Fate, GoOn, Method, Problem, Start
from replaying.tables import Answer, Answers, Table

ALL_KNOWN = 10.0
"""Cost from which on a replay may end once the best is found: no measure looks further [trainings]."""


@dataclass(slots=True)
class Training:
    """A trial, in training or not."""

    answer: Answer
    at: int = 0
    """Epochs that are trained."""
    since: int | None = None
    """When a worker went on with it from there [epochs]; None: none has it."""
    seen: int = 0
    """Epochs of which the method knows."""

    def paid(self, now: int) -> int:
        """Return the epochs that were spent on it."""
        return self.at + (0 if self.since is None else now - self.since)


@dataclass(frozen=True, slots=True)
class Told:
    """What a method was told of a trial, or what it said: a line of the log that is compared with that of claims."""

    trial: int
    epoch: int
    fate: Fate | str


class Simulation:
    """One replay of one method on one table.

    Args:
        method: who decides.
        problem: what it was given.
        table: the recorded trainings.
        answers: those of this replay.
        price: what an epoch costs.
        within: the difference from the best that counts as found, as regrets are counted.
    """

    def __init__(
        self, method: Method, problem: Problem, table: Table, answers: Answers, price: float, within: float
    ) -> None:
        self._method, self._problem, self._table, self._answers = method, problem, table, answers
        self._price, self._within = price, within
        self._looks = [epoch for epoch in range(1, problem.epochs) if method.looks_at(epoch)]
        self._trainings: list[Training] = []
        self._queue: list[tuple[int, int, int]] = []
        """When a trial is next looked at [epochs], the order in which that was known, and which trial."""
        self._now, self._n_events, self._behind = 0, 0, 0
        self._found: list[Found] = []
        self._best: tuple[float, float] | None = None
        """Of the recommended trial: what it showed, and what it is worth without noise."""
        self.log: list[Told] = []
        """What was decided, in order."""

    @property
    def settings(self) -> list[TrialConfig]:
        """What was begun, in order."""
        return [one.answer.config for one in self._trainings]

    def run(self) -> Replay:
        """Return how soon the best setting was found."""
        idle = self._problem.workers
        while True:
            while idle and self.cost() < self._problem.limit and self._begin():
                idle -= 1
            if not self._queue or self._is_over():
                return Replay(tuple(self._found), self._regret(self._table.worst))
            self._now = self._queue[0][0]
            if self.cost() > self._problem.limit + 1e-9:
                return Replay(tuple(self._found), self._regret(self._table.worst))
            while self._queue and self._queue[0][0] == self._now:
                idle += self._look(heapq.heappop(self._queue)[2])

    def _regret(self, value: float) -> float:
        return abs(self._table.best - value) / self._table.unit

    def cost(self) -> float:
        """Return what was spent so far [trainings]."""
        under_way = sum(self._now - since for since in self._under_way())
        return self._price * (self._behind + under_way) / self._problem.epochs

    def _under_way(self) -> list[int]:
        found = (self._trainings[trial].since for _, _, trial in self._queue)
        return [since for since in found if since is not None]

    def _is_over(self) -> bool:
        return bool(self._found) and self.cost() >= ALL_KNOWN and any(p.regret <= self._within for p in self._found)

    def _begin(self) -> bool:
        """Have a free worker ask; return whether it has something to do."""
        for _, _, trial in sorted(self._queue, key=lambda event: event[2]):
            self._tell_progress(trial)
        order = self._method.ask()
        match order:
            case None:
                return False
            case GoOn(trial):
                assert self._trainings[trial].since is None, f"trial {trial} is in training"
                self.log.append(Told(trial, self._trainings[trial].at, "go on"))
            case Start(params):
                trial = len(self._trainings)
                config = parameters.config(self._problem.spec, params)
                answer = self._answers.train(config, params)
                if answer is None:
                    return False
                self._trainings.append(Training(answer))
                self._method.began(trial, answer.config, answer.params)
                self.log.append(Told(trial, 0, "begin"))
        self._trainings[trial].since = self._now
        self._await(trial)
        return True

    def _tell_progress(self, trial: int) -> None:
        one = self._trainings[trial]
        epochs = min(one.paid(self._now), len(one.answer.curve.scores))
        if epochs > one.seen:
            one.seen = epochs
            self._method.seen(trial, one.answer.curve.scores[:epochs])

    def _await(self, trial: int) -> None:
        """Note when a trial is next looked at, or ends."""
        one = self._trainings[trial]
        assert one.since is not None
        n = len(one.answer.curve.scores)
        nth = bisect_right(self._looks, one.at)
        looked_at = nth < len(self._looks) and self._looks[nth] <= n
        target = self._looks[nth] if looked_at else one.answer.curve.n_epochs
        self._n_events += 1
        heapq.heappush(self._queue, (one.since + target - one.at, self._n_events, trial))

    def _look(self, trial: int) -> bool:
        """Tell the method how far a trial has come, and do what it says; return whether its worker is free."""
        one = self._trainings[trial]
        assert one.since is not None
        self._behind += self._now - one.since
        one.at, one.since = one.paid(self._now), None
        curve = one.answer.curve
        one.seen = min(one.at, len(curve.scores))
        if one.at >= curve.n_epochs:
            self._end(trial)
            return True
        fate = self._method.reached(trial, curve.scores[: one.at])
        if fate == "keep":
            one.since = self._now
            self._await(trial)
            return False
        self.log.append(Told(trial, one.at, fate))
        return True

    def _end(self, trial: int) -> None:
        curve = self._trainings[trial].answer.curve
        self.log.append(Told(trial, len(curve.scores), "diverged" if curve.value is None else "complete"))
        self._method.ended(trial, curve.scores, curve.value)
        if curve.value is None or curve.true is None or not math.isfinite(curve.value):
            return
        better = self._best is None or (
            curve.value > self._best[0] if self._problem.maximize else curve.value < self._best[0]
        )
        if better:
            self._best = (curve.value, curve.true)
        assert self._best is not None
        self._found.append(Found(self.cost(), self._now / self._problem.epochs, self._regret(self._best[1])))

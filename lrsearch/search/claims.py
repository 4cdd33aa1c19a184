"""The exact budget: claim a trial, have its epochs accepted, tell how it ended.

A claim (a) reserves a slot of the budget in one short transaction, (b) samples outside any lock, (c) writes the
RUNNING trial and its slot together. Every report and every ending checks the lease in the transaction that writes it,
our rows and Optuna's. A process may be killed between any two lines of this file, and a transaction that was committed
may be run again because its answer was lost: whoever claims next finds the slot without a living lease and goes on with
it, under the trial's own number, from its last checkpoint.
"""

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam

from lrsearch.errors import StorageError, UnknownNameError
from lrsearch.events import EndReason, SearchEnded
from lrsearch.search import best, budget, lease, optuna_rows, processes, pruners, retries, rung, samplers
from lrsearch.search import space as spaces
from lrsearch.search.clock import now
from lrsearch.search.mirror import OUTCOME_ATTR, SLOT_ATTR, Mirror
from lrsearch.search.study import Study
from lrsearch.search.tables import epochs, finite, leases, slots
from lrsearch.trial import EpochMetrics, Outcome, Reason, State, Trial

OPTUNA_STATES: Mapping[State, TrialState] = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    # TPE ignores FAIL and would go on proposing the learning rates that diverge.
    State.DIVERGED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

LOOK_SECONDS = 5.0
"""Between two looks at whether the processes of this machine that hold leases still run."""

_this_slot = slots.c.id == bindparam("slot")
_OPEN = (
    sa.select(slots)
    .outerjoin(leases, leases.c.slot_id == slots.c.id)
    .where(slots.c.study_id == bindparam("study"), slots.c.state != "ended", leases.c.slot_id.is_(None))
    .order_by(slots.c.position)
)
_OF_TOKEN = (
    sa.select(slots).join(leases, leases.c.slot_id == slots.c.id).where(leases.c.token == bindparam("its_token"))
)
_TAKEN_NUMBERS = sa.select(slots.c.number).where(
    slots.c.study_id == bindparam("study"), slots.c.state == "reserved", slots.c.number.is_not(None)
)
_FIRST_SETTINGS = (
    sa.select(sa.func.count())
    .select_from(slots)
    .where(
        slots.c.study_id == bindparam("study"),
        slots.c.position < bindparam("before"),
        slots.c.origin.in_(("baseline", "portfolio")),
    )
)
_ADD_SLOT = slots.insert()
_RUN = slots.update().where(_this_slot).values(state="running", started_at=now())
_END = slots.update().where(_this_slot).values(state="ended", ended_at=now())
_STATE = sa.select(slots).where(_this_slot)
_ACCEPTED = sa.select(epochs).where(epochs.c.slot_id == bindparam("slot")).order_by(epochs.c.epoch)
_WITH_WEIGHTS = sa.select(slots.c.id, slots.c.weights).where(
    slots.c.study_id == bindparam("study"), slots.c.weights.is_not(None)
)


@dataclass(frozen=True, slots=True)
class Initial:
    """A setting that is tried before the sampler is asked."""

    origin: Literal["baseline", "portfolio"]
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to train one trial, as long as the token stands in its lease."""

    trial: Trial
    """With the epochs that were accepted before."""
    slot: str
    token: str
    trial_id: int
    """Optuna's."""
    resumed: bool
    attempt: int = 1
    checkpoint: str | None = None
    """The artifact from which it goes on."""

    @property
    def accepted(self) -> int:
        """Epochs that the study has; they are trained again if the checkpoint is older, and not reported again."""
        return len(self.trial.metrics)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the study says to a reported epoch."""

    kind: Literal["keep", "prune", "out_of_budget", "lost"]
    rung_score: float
    verdict: pruners.Verdict = pruners.KEEP


@dataclass(frozen=True, slots=True)
class Told:
    """What became of an ending that was told."""

    accepted: bool
    """False when the trial was no longer ours; nothing was written."""
    starts_again: bool = False
    """Whether it is a failure after which the trial starts again."""
    unused: tuple[str, ...] = ()
    """Artifacts that nothing names any more."""


@dataclass(frozen=True, slots=True)
class _Reserved:
    slot: str
    token: str
    position: int
    number: int | None
    running: bool
    """Whether the trial had been started before."""
    origin: str
    attempts: int
    checkpoint: str | None


class Claims:
    """One worker's dealings with a study."""

    def __init__(self, study: Study, initial: Sequence[Initial], device: str, versions: str) -> None:
        self.study = study
        self.worker = str(uuid.uuid4())
        self._initial, self._initial_left = initial, bool(initial)
        self._device, self._versions = device, versions
        self._holder = processes.this_process()
        self._mirror = Mirror(study.spec.objective.direction)
        self._after, self._unfinished = 0, dict[int, FrozenTrial]()
        self._by_the_hour = False
        self._entered = False
        self._looked = -math.inf

    @property
    def lease_seconds(self) -> float:
        """For how long a lease holds without a sign of life."""
        return self.study.spec.workers.lease_seconds

    def claim(self) -> Claim | SearchEnded:
        """Take the next trial: one that was interrupted, one that a person enqueued, or a new one."""
        while True:
            reserved = self._reserve()
            if isinstance(reserved, SearchEnded):
                return reserved
            try:
                claim = self._begin(reserved)
            except BaseException:
                # An interrupt ends a search, not always the process, which would hold on to the slot.
                with suppress(StorageError):
                    self._give_back(reserved.slot, reserved.token, None, "")
                raise
            if claim is not None:
                return claim

    def accept(self, claim: Claim, metrics: EpochMetrics) -> Answer:
        """Record an epoch and decide whether the trial goes on."""
        spec = self.study.spec
        score = rung.score(spec.objective.metric, metrics)
        comparable = metrics.epoch >= pruners.comparable_from(claim.trial.config.schedule, spec.epochs)
        compare = comparable and pruners.compares_at(spec, metrics.epoch)

        def work(connection: sa.Connection) -> Answer:
            if not lease.keep(connection, claim.slot, claim.token, metrics.epoch, self.lease_seconds):
                return Answer("lost", score)
            rung.add_epoch(connection, claim.slot, self.study.id, metrics, score, comparable=comparable)
            optuna_rows.report(connection, claim.trial_id, metrics.epoch, score)
            if metrics.epoch == spec.epochs:
                return Answer("keep", score)
            return self._judge(connection, claim, metrics.epoch, score, compare=compare)

        return self.study.database.write(work)

    def judge(self, claim: Claim) -> Answer:
        """Judge an interrupted trial again by the last epoch that was accepted: its verdict may have been lost."""
        last = claim.trial.metrics[-1]
        spec = self.study.spec
        score = rung.score(spec.objective.metric, last)
        comparable = last.epoch >= pruners.comparable_from(claim.trial.config.schedule, spec.epochs)
        compare = comparable and pruners.compares_at(spec, last.epoch)
        if last.epoch == spec.epochs:
            return Answer("keep", score)
        return self.study.database.read(lambda c: self._judge(c, claim, last.epoch, score, compare=compare))

    def end(
        self, claim: Claim, outcome: Outcome, weights: str | None = None, weights_sha256: str | None = None
    ) -> Told:
        """Tell how a trial ended; a failure that may be tried again gives it back instead.

        Args:
            claim: the right to it.
            outcome: how it ended.
            weights: the artifact with its last weights, to be kept if it is the best trial.
            weights_sha256: their hash.
        """

        def work(connection: sa.Connection) -> Told:
            if not lease.drop(connection, claim.slot, claim.token):
                row = connection.execute(_STATE, {"slot": claim.slot}).one_or_none()
                # A commit whose answer was lost.
                return Told(accepted=row is not None and row.ended_token == claim.token)
            if outcome.state == State.FAILED:
                retries.write_down(connection, claim.slot, outcome.reason, outcome.message)
                past = retries.of_slot(connection, claim.slot)
                if retries.exhausted(past, self.study.spec.workers.retries) is None:
                    return Told(accepted=True, starts_again=True)
            self._write_end(connection, claim.slot, claim.trial_id, outcome, claim.token, weights_sha256)
            unused = [] if claim.checkpoint is None else [claim.checkpoint]
            if weights is not None:
                unused += self._keep_best(connection, claim.slot, weights)
            return Told(accepted=True, unused=tuple(unused))

        return self.study.database.write(work)

    def release(self, claim: Claim, reason: Reason = Reason.INTERRUPTED, message: str = "") -> None:
        """Give a trial back unfinished: it goes on under its own number."""
        self._give_back(claim.slot, claim.token, reason, message)

    def checkpointed(self, claim: Claim, artifact: str, step: int) -> bool:
        """Note the artifact from which the trial goes on if it is interrupted; False when it is no longer ours."""

        def work(connection: sa.Connection) -> bool:
            if not lease.renew(connection, claim.slot, claim.token, self.lease_seconds):
                return False
            values = {"checkpoint": artifact, "checkpoint_step": step}
            connection.execute(slots.update().where(slots.c.id == claim.slot).values(values))
            return True

        return self.study.database.write(work)

    def beat(self, claim: Claim | None) -> tuple[bool, str | None]:
        """Give a sign of life; return whether the trial is still ours and whether the study was stopped."""

        def work(connection: sa.Connection) -> tuple[bool, str | None]:
            lease.seen(connection, self.worker, self.lease_seconds)
            ours = claim is None or lease.renew(connection, claim.slot, claim.token, self.lease_seconds)
            return ours, budget.stopped(connection, self.study.id)

        return self.study.database.write(work, patience_seconds=0)

    def would_be_best(self, outcome: Outcome) -> bool:
        """Whether a complete trial of this value could be the best one: its weights are worth keeping."""
        if outcome.state != State.COMPLETE or outcome.value is None:
            return False
        stands = self.study.database.read(lambda c: best.value(c, self.study.id, maximize=self.study.maximize))
        return stands is None or outcome.value == stands or (outcome.value > stands) == self.study.maximize

    def leave(self) -> None:
        """Take this worker out of the list of those at work."""
        if self._entered:
            self.study.database.write(lambda connection: lease.leave(connection, self.worker), patience_seconds=0)
            self._entered = False

    def _judge(self, connection: sa.Connection, claim: Claim, epoch: int, score: float, *, compare: bool) -> Answer:
        spec = self.study.spec
        found = rung.verdict(connection, spec, self.study.id, claim.slot, epoch) if compare else pruners.KEEP
        hours = budget.hours_left(connection, self.study.id) if self._by_the_hour else None
        if hours is not None and hours <= 0:
            return Answer("out_of_budget", score)
        return Answer("prune" if found.prune else "keep", score, found)

    def _give_back(self, slot: str, token: str, reason: Reason | None, message: str) -> None:
        def work(connection: sa.Connection) -> None:
            if lease.drop(connection, slot, token) and reason is not None:
                retries.write_down(connection, slot, reason, message)

        self.study.database.write(work)

    def _reserve(self) -> _Reserved | SearchEnded:
        """Take a slot of the budget, in one transaction."""
        # Made here, so that a transaction that is run again because its answer was lost knows its own.
        slot, token = str(uuid.uuid4()), lease.new_token()
        again = False

        def work(connection: sa.Connection) -> _Reserved | SearchEnded:
            nonlocal again
            row = budget.lock(connection, self.study.id)
            if row is None:
                raise UnknownNameError(
                    f"the study '{self.study.name}' has been deleted from {self.study.database.place}"
                )
            mine = connection.execute(_OF_TOKEN, {"its_token": token}).first() if again else None
            again = True
            if mine is not None:
                return _reserved(mine, token)
            if not self._entered:
                lease.check_one_machine(connection, self.study.database.place, self._holder, self.lease_seconds)
                lease.enter(
                    connection,
                    self.worker,
                    self._holder,
                    self.study.id,
                    self.lease_seconds,
                    device=self._device,
                    versions=self._versions,
                )
            self._by_the_hour = row.budget_hours is not None
            return self._next(connection, row, slot, token)

        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._free_dead_processes()
        taken = self.study.database.write(work)
        self._entered = True
        held = isinstance(taken, SearchEnded) and taken.reason == EndReason.HELD_ELSEWHERE
        # All that is left hangs on others: whether they live is worth another look.
        return self._reserve() if held and self._free_dead_processes() else taken

    def _next(self, connection: sa.Connection, row: sa.Row[Any], slot: str, token: str) -> _Reserved | SearchEnded:
        for dead in lease.drop_dead(connection, self.study.id, look_at_processes=False):
            retries.write_down(connection, dead.slot, Reason.LOST, dead.why)
        standing = budget.standing(connection, self.study.id, row)
        open_slot, some_failed = self._open_slot(connection) if standing.open else (None, False)
        if some_failed:
            standing = budget.standing(connection, self.study.id, row)
        ended = standing.ended(interrupted=open_slot is not None)
        if ended is not None:
            return ended
        if open_slot is not None:
            return self._take_over(connection, open_slot, token)
        return self._insert_slot(connection, slot, token, standing.total)

    def _free_dead_processes(self) -> bool:
        """Free the slots of workers of this machine whose processes have ended; return whether there were any.

        Outside the lock of the budget, because it asks the system about every process.
        """
        self._looked = time.monotonic()
        dead = self.study.database.read(lambda connection: lease.of_dead_processes(connection, self.study.id))

        def work(connection: sa.Connection) -> None:
            for one in dead:
                if lease.drop(connection, one.slot, one.token):
                    retries.write_down(connection, one.slot, Reason.LOST, one.why)

        if dead:
            self.study.database.write(work)
        return bool(dead)

    def _take_over(self, connection: sa.Connection, row: sa.Row[Any], token: str) -> _Reserved:
        """Lease an interrupted slot; from here on it is this worker's attempt, whatever becomes of it."""
        values = {"attempts": row.attempts + 1, **self._as_columns()}
        connection.execute(slots.update().where(slots.c.id == row.id).values(values))
        lease.take(connection, row.id, self.study.id, token, self.worker, self.lease_seconds)
        return _reserved(connection.execute(_STATE, {"slot": row.id}).one(), token)

    def _open_slot(self, connection: sa.Connection) -> tuple[sa.Row[Any] | None, bool]:
        """Return the first slot that nobody works on; one that may not start again fails here: whether any did."""
        some_failed = False
        for row in connection.execute(_OPEN, {"study": self.study.id}).all():
            past = retries.of_slot(connection, row.id) if row.state == "running" else []
            why = retries.exhausted(past, self.study.spec.workers.retries)
            if why is None:
                return row, some_failed
            last = past[-1]
            outcome = Outcome(State.FAILED, last.reason, None, last.epoch, message=f"{why}: {last.message}")
            trial_id = optuna_rows.trial_id(connection, self.study.optuna_id, row.number)
            self._write_end(connection, row.id, trial_id, outcome, "", None)
            some_failed = True
        return None, some_failed

    def _insert_slot(self, connection: sa.Connection, slot: str, token: str, position: int) -> _Reserved:
        """Open the next slot: for a trial that a person enqueued, for a first setting, or for the sampler."""
        number, origin = None, "sampler"
        enqueued = optuna_rows.waiting(connection, self.study.optuna_id)
        if enqueued:
            taken = set(connection.scalars(_TAKEN_NUMBERS, {"study": self.study.id}))
            free = [one.number for one in enqueued if one.number not in taken]
            if free:
                number, origin = free[0], "enqueued"
        if number is None and self._initial_left:
            nth = self._nth_of_initial(connection, position)
            self._initial_left = nth < len(self._initial)
            if self._initial_left:
                origin = self._initial[nth].origin
        values = {
            "id": slot,
            "study_id": self.study.id,
            "position": position,
            "state": "reserved",
            "number": number,
            "origin": origin,
            "attempts": 1,
            "worker": str(self._holder),
            "device": "",
            "versions": "",
        }
        connection.execute(_ADD_SLOT, values)
        lease.take(connection, slot, self.study.id, token, self.worker, self.lease_seconds)
        return _Reserved(slot, token, position, number, False, origin, 1, None)  # noqa: FBT003 - its field says it

    def _nth_of_initial(self, connection: sa.Connection, position: int) -> int:
        """Return how many slots before ``position`` went to first settings; those between went to enqueued trials."""
        return int(connection.scalar(_FIRST_SETTINGS, {"study": self.study.id, "before": position}) or 0)

    def _begin(self, reserved: _Reserved) -> Claim | None:
        """Start or go on with the trial of a slot; None when the slot was lost or its trial cannot be."""
        self._read_news()
        enqueued = None if reserved.number is None else self._by_number(reserved.number)
        if reserved.running:
            assert enqueued is not None
            return self._restart(reserved, enqueued)
        if reserved.number is not None:
            if enqueued is None:
                self.study.database.write(lambda c: self._unlink(c, reserved))
                return None
            fixed = enqueued.system_attrs.get(optuna_rows.FIXED_PARAMS_ATTR, {})
            wrong = spaces.outside(self.study.spec.space, fixed)
            if wrong is not None:
                self._refuse(reserved, enqueued, wrong)
                return None
            return self._start(reserved, self._draw(reserved, fixed), enqueued)
        return self._start(reserved, self._draw(reserved, None), None)

    def _read_news(self) -> None:
        """Bring the mirror up to date with what has been written since the last look."""
        open_now = list(self._unfinished)
        news = self.study.database.read(lambda c: optuna_rows.news(c, self.study.optuna_id, self._after, open_now))
        self._mirror.sync(news)
        for trial in news:
            trial_id = trial._trial_id  # noqa: SLF001 - Optuna has no public name for it
            self._after = max(self._after, trial_id)
            if trial.state.is_finished():
                self._unfinished.pop(trial_id, None)
            else:
                self._unfinished[trial_id] = trial

    def _by_number(self, number: int) -> FrozenTrial | None:
        """Return an unfinished trial, or None where plain Optuna has finished it."""
        return next((trial for trial in self._unfinished.values() if trial.number == number), None)

    def _draw(self, reserved: _Reserved, fixed: Mapping[str, Any] | None) -> FrozenTrial:
        """Ask the sampler, in memory."""
        spec, position = self.study.spec, reserved.position
        if fixed is None and reserved.origin in ("baseline", "portfolio"):
            fixed = self._initial[self.study.database.read(lambda c: self._nth_of_initial(c, position))].params
        return self._mirror.ask(reserved.slot, samplers.build(spec.sampler, spec.seed, position), spec.space, fixed)

    def _start(self, reserved: _Reserved, drawn: FrozenTrial, enqueued: FrozenTrial | None) -> Claim | None:
        """Write the RUNNING trial; return None when the slot is no longer ours, or somebody else took the trial."""
        attrs = {SLOT_ATTR: reserved.slot}

        def work(connection: sa.Connection) -> tuple[int, int] | None:
            if not lease.keep(connection, reserved.slot, reserved.token, 0, self.lease_seconds):
                return None
            row = connection.execute(_STATE, {"slot": reserved.slot}).one()
            if row.state == "running":
                # A commit whose answer was lost.
                return optuna_rows.trial_id(connection, self.study.optuna_id, row.number), row.number
            if enqueued is None:
                trial_id, number = optuna_rows.create(connection, self.study.optuna_id, drawn, attrs)
            else:
                trial_id, number = enqueued._trial_id, enqueued.number  # noqa: SLF001
                if not optuna_rows.adopt(connection, trial_id, drawn, attrs):
                    self._unlink(connection, reserved)
                    return None
            self._mark_running(connection, reserved, number)
            return trial_id, number

        started = self.study.database.write(work)
        return None if started is None else self._claim(reserved, *started, drawn.params, ())

    def _unlink(self, connection: sa.Connection, reserved: _Reserved) -> None:
        """Open the slot of an enqueued trial for whatever comes next: a plain Optuna script was quicker."""
        if lease.drop(connection, reserved.slot, reserved.token):
            unlinked = {"number": None, "origin": "sampler"}
            connection.execute(slots.update().where(slots.c.id == reserved.slot).values(unlinked))

    def _restart(self, reserved: _Reserved, trial: FrozenTrial) -> Claim | None:
        """Go on with an interrupted trial."""

        def work(connection: sa.Connection) -> list[Any] | None:
            if not lease.keep(connection, reserved.slot, reserved.token, 0, self.lease_seconds):
                return None
            self._mark_running(connection, reserved, trial.number)
            return list(connection.execute(_ACCEPTED, {"slot": reserved.slot}).all())

        accepted = self.study.database.write(work)
        if accepted is None:
            return None
        metrics = tuple(rung.metrics(row) for row in accepted)
        return self._claim(reserved, trial._trial_id, trial.number, trial.params, metrics)  # noqa: SLF001

    def _claim(
        self,
        reserved: _Reserved,
        trial_id: int,
        number: int,
        params: Mapping[str, Any],
        metrics: tuple[EpochMetrics, ...],
    ) -> Claim:
        trial = Trial(
            number=number,
            config=spaces.config(self.study.spec, params),
            state=State.RUNNING,
            outcome=None,
            metrics=metrics,
            worker=str(self._holder),
            device=self._device,
            versions=self._versions,
            origin=reserved.origin,
            params=dict(params),
        )
        return Claim(
            trial, reserved.slot, reserved.token, trial_id, reserved.running, reserved.attempts, reserved.checkpoint
        )

    def _mark_running(self, connection: sa.Connection, reserved: _Reserved, number: int) -> None:
        connection.execute(_RUN, {"slot": reserved.slot, "number": number, **self._as_columns()})

    def _as_columns(self) -> dict[str, str]:
        return {"worker": str(self._holder), "device": self._device, "versions": self._versions}

    def _refuse(self, reserved: _Reserved, enqueued: FrozenTrial, wrong: str) -> None:
        """End an enqueued trial that cannot be trained."""
        outcome = Outcome(State.FAILED, Reason.NOT_IN_SPACE, None, 0, message=f"enqueued outside the space: {wrong}")
        trial_id = enqueued._trial_id  # noqa: SLF001

        def work(connection: sa.Connection) -> None:
            if lease.drop(connection, reserved.slot, reserved.token):
                optuna_rows.set_user_attrs(connection, trial_id, {SLOT_ATTR: reserved.slot})
                self._mark_running(connection, reserved, enqueued.number)
                self._write_end(connection, reserved.slot, trial_id, outcome, reserved.token, None)

        self.study.database.write(work)

    def _write_end(
        self,
        connection: sa.Connection,
        slot: str,
        trial_id: int,
        outcome: Outcome,
        token: str,
        weights_sha256: str | None,
    ) -> None:
        values = {
            "outcome": outcome.state.value,
            "reason": outcome.reason.value,
            "value": finite(outcome.value),
            "epoch": outcome.epoch,
            "step": outcome.step,
            "lr": finite(outcome.lr),
            "message": outcome.message,
            "ended_token": token,
            "checkpoint": None,
            "weights_sha256": weights_sha256,
        }
        connection.execute(_END, {"slot": slot, **values})
        attrs = {OUTCOME_ATTR: outcome.state.value}
        if outcome.state in (State.DIVERGED, State.FAILED):
            attrs["lrsearch:message"] = outcome.message
        optuna_rows.end(connection, trial_id, OPTUNA_STATES[outcome.state], outcome.value, attrs)

    def _keep_best(self, connection: sa.Connection, slot: str, weights: str) -> list[str]:
        """Keep the weights if the trial is the best one; return the artifacts that are needed no longer."""
        if best.slot(connection, self.study.id, maximize=self.study.maximize) != slot:
            return [weights]
        before = connection.execute(_WITH_WEIGHTS, {"study": self.study.id}).all()
        for row in before:
            connection.execute(slots.update().where(slots.c.id == row.id).values(weights=None))
        connection.execute(slots.update().where(slots.c.id == slot).values(weights=weights))
        return [row.weights for row in before]


def _reserved(row: Any, token: str) -> _Reserved:
    running = row.state == "running"
    return _Reserved(row.id, token, row.position, row.number, running, row.origin, row.attempts, row.checkpoint)

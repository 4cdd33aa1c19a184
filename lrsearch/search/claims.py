"""The exact budget: claim a trial, have its epochs accepted, tell how it ended.

A claim (a) reserves a slot of the budget in one short transaction, (b) samples outside any lock, (c) writes the
RUNNING trial and its slot together. Every report and every ending checks the lease in the transaction that writes it,
our rows and Optuna's. A process may be killed between any two lines of this file: whoever claims next finds the slot
without a living lease and goes on with it, under the trial's own number.
"""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from lrsearch.errors import StorageError, UnknownNameError
from lrsearch.events import EndReason, SearchEnded
from lrsearch.search import lease, optuna_rows, pruners, samplers
from lrsearch.search import space as spaces
from lrsearch.search.clock import now
from lrsearch.search.mirror import OUTCOME_ATTR, SLOT_ATTR, Mirror
from lrsearch.search.study import Study, finite
from lrsearch.search.tables import epochs, leases, slots, studies
from lrsearch.spec import BudgetSpec
from lrsearch.trial import EpochMetrics, Outcome, State, Trial

OPTUNA_STATES: Mapping[State, TrialState] = {
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    # TPE ignores FAIL and would go on proposing the learning rates that diverge.
    State.DIVERGED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}


@dataclass(frozen=True, slots=True)
class Initial:
    """A setting that is tried before the sampler is asked."""

    origin: Literal["baseline", "portfolio"]
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to train one trial, as long as the token stands in its lease."""

    trial: Trial
    slot: str
    token: str
    trial_id: int
    """Optuna's."""
    resumed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the study says to a reported epoch."""

    kind: Literal["keep", "prune", "out_of_budget", "lost"]
    rung_score: float
    verdict: pruners.Verdict = pruners.KEEP


@dataclass(frozen=True, slots=True)
class _Reserved:
    slot: str
    token: str
    position: int
    number: int | None
    origin: str
    attempts: int


class Claims:
    """One worker's dealings with a study."""

    def __init__(self, study: Study, initial: Sequence[Initial], device: str, versions: str) -> None:
        self.study = study
        self._initial = initial
        self._device, self._versions = device, versions
        self._holder = lease.this_process()
        self._worker = str(self._holder)
        self._mirror = Mirror(study.spec.objective.direction)
        self._by_the_hour = False

    def claim(self) -> Claim | SearchEnded:
        """Take the next trial: one that was interrupted, or a new one while the budget lasts."""
        reserved = self._reserve()
        if isinstance(reserved, SearchEnded):
            return reserved
        try:
            drawn, started = self._begin(reserved)
        except BaseException:
            # An interrupt ends a search, not always the process, which would hold on to the slot.
            with suppress(StorageError):
                self._give_back(reserved.slot, reserved.token)
            raise
        if started is None:
            return self.claim()
        trial_id, number = started
        trial = Trial(
            number=number,
            config=spaces.config(self.study.spec, drawn.params),
            state=State.RUNNING,
            outcome=None,
            worker=self._worker,
            device=self._device,
            versions=self._versions,
            origin=reserved.origin,
            params=dict(drawn.params),
        )
        return Claim(trial, reserved.slot, reserved.token, trial_id, resumed=reserved.number is not None)

    def accept(self, claim: Claim, metrics: EpochMetrics) -> Answer:
        """Record an epoch and decide whether the trial goes on."""
        spec = self.study.spec
        score = rung_score(spec.objective.metric, metrics)
        comparable = metrics.epoch >= pruners.comparable_from(claim.trial.config.schedule, spec.epochs)
        with self.study.database.writing() as connection:
            if not lease.keep(connection, claim.slot, claim.token, metrics.epoch):
                return Answer("lost", score)
            connection.execute(epochs.insert().values(**self._epoch_row(claim, metrics, score, comparable=comparable)))
            optuna_rows.report(connection, claim.trial_id, metrics.epoch, score)
            compare = comparable and pruners.compares_at(spec, metrics.epoch)
            others, own, n_complete = self._rung(connection, claim, metrics.epoch) if compare else ([], [], 0)
            hours = self._hours_left(connection) if self._by_the_hour else None
        if metrics.epoch == spec.epochs:
            return Answer("keep", score)
        if hours is not None and hours <= 0:
            return Answer("out_of_budget", score)
        verdict = pruners.judge(spec, metrics.epoch, own, others, n_complete) if compare else pruners.KEEP
        return Answer("prune" if verdict.prune else "keep", score, verdict)

    def end(self, claim: Claim, outcome: Outcome) -> bool:
        """Tell how a trial ended; False when the trial is no longer ours and nothing was told."""
        with self.study.database.writing() as connection:
            if not lease.drop(connection, claim.slot, claim.token):
                return False
            self._write_end(connection, claim.slot, claim.trial_id, outcome)
        return True

    def release(self, claim: Claim) -> None:
        """Give a trial back unfinished: it starts again under its own number."""
        self._give_back(claim.slot, claim.token)

    def _give_back(self, slot: str, token: str) -> None:
        with self.study.database.writing() as connection:
            lease.drop(connection, slot, token)

    def _reserve(self) -> _Reserved | SearchEnded:
        study = self.study
        with study.database.writing() as connection:
            # The lock of the budget: SQLite's write lock, a row lock elsewhere.
            connection.execute(studies.update().where(studies.c.id == study.id).values(revision=studies.c.revision + 1))
            lease.drop_dead(connection, study.id)
            budget = self._budget(connection)
            hours = self._hours_left(connection)
            self._by_the_hour = hours is not None
            open_slot = connection.execute(
                sa.select(slots)
                .outerjoin(leases, leases.c.slot_id == slots.c.id)
                .where(slots.c.study_id == study.id, slots.c.state != "ended", leases.c.slot_id.is_(None))
                .order_by(slots.c.position)
                .limit(1)
            ).first()
            ended = self._exhausted(connection, budget, hours, interrupted=open_slot is not None)
            if ended is not None:
                return ended
            if open_slot is None:
                position = connection.scalar(
                    sa.select(sa.func.coalesce(sa.func.max(slots.c.position) + 1, 0)).where(
                        slots.c.study_id == study.id
                    )
                )
                return self._insert_slot(connection, int(position or 0))
            return self._take_over(connection, open_slot)

    def _budget(self, connection: sa.Connection) -> BudgetSpec:
        row = connection.execute(sa.select(studies).where(studies.c.id == self.study.id)).first()
        if row is None:
            raise UnknownNameError(f"the study '{self.study.name}' has been deleted from {self.study.database.place}")
        return BudgetSpec(trials=row.budget_trials, hours=row.budget_hours, max_failures=row.max_failures)

    def _hours_left(self, connection: sa.Connection) -> float | None:
        hours = connection.scalar(sa.select(studies.c.budget_hours).where(studies.c.id == self.study.id))
        if hours is None:
            return None
        used = connection.scalar(sa.select(sa.func.sum(epochs.c.seconds)).where(epochs.c.study_id == self.study.id))
        return float(hours) - float(used or 0.0) / 3600

    def _exhausted(
        self, connection: sa.Connection, budget: BudgetSpec, hours: float | None, *, interrupted: bool
    ) -> SearchEnded | None:
        """Return why nothing may be trained any more; an interrupted trial may while the budget has room for it."""
        here = slots.c.study_id == self.study.id
        rows = connection.execute(
            sa.select(slots.c.state, slots.c.outcome, sa.func.count())
            .where(here)
            .group_by(slots.c.state, slots.c.outcome)
        ).all()
        failed = sum(n for _, outcome, n in rows if outcome == State.FAILED)
        open_now = sum(n for state, _, n in rows if state != "ended")
        finished = sum(n for _, outcome, n in rows if outcome is not None and State(outcome).counts)
        if budget.trials is not None and finished >= budget.trials:
            return SearchEnded(EndReason.BUDGET_TRIALS, f"all {budget.trials} trials of the budget are finished")
        if interrupted:
            return None
        if failed > budget.max_failures:
            return SearchEnded(
                EndReason.MAX_FAILURES, f"{failed} trials failed and budget.max_failures is {budget.max_failures}"
            )
        if hours is not None and hours <= 0:
            return SearchEnded(EndReason.BUDGET_HOURS, f"the budget of {budget.hours:g} h of training is used up")
        if budget.trials is not None and finished + open_now >= budget.trials:
            return SearchEnded(
                EndReason.HELD_ELSEWHERE,
                f"{finished} of {budget.trials} trials are finished and the other {open_now} "
                f"{'is' if open_now == 1 else 'are'} being trained by another process",
            )
        return None

    def _insert_slot(self, connection: sa.Connection, position: int) -> _Reserved:
        origin = self._initial[position].origin if position < len(self._initial) else "sampler"
        slot = str(uuid.uuid4())
        connection.execute(
            slots.insert().values(
                id=slot,
                study_id=self.study.id,
                position=position,
                state="reserved",
                origin=origin,
                attempts=1,
                worker=self._worker,
                device="",
                versions="",
            )
        )
        return _Reserved(slot, lease.take(connection, slot, self._holder), position, None, origin, 1)

    def _take_over(self, connection: sa.Connection, row: Any) -> _Reserved:
        token = lease.take(connection, row.id, self._holder)
        return _Reserved(row.id, token, row.position, row.number, row.origin, row.attempts + 1)

    def _begin(self, reserved: _Reserved) -> tuple[FrozenTrial, tuple[int, int] | None]:
        """Return the setting of a slot, and Optuna's id and number once it runs; None when the slot was lost."""
        known = self.study.frozen_trials()
        self._mirror.sync(known)
        if reserved.number is not None:
            return known[reserved.number], self._restart(reserved, known[reserved.number])
        drawn = self._draw(reserved)
        return drawn, self._start(reserved, drawn)

    def _draw(self, reserved: _Reserved) -> FrozenTrial:
        """Ask the sampler, in memory."""
        spec, position = self.study.spec, reserved.position
        fixed = self._initial[position].params if position < len(self._initial) else None
        return self._mirror.ask(reserved.slot, samplers.build(spec.sampler, spec.seed, position), spec.space, fixed)

    def _start(self, reserved: _Reserved, drawn: FrozenTrial) -> tuple[int, int] | None:
        """Write the RUNNING trial; return Optuna's id and number, or None when the slot is no longer ours."""
        with self.study.database.writing() as connection:
            if not lease.keep(connection, reserved.slot, reserved.token, epoch=0):
                return None
            attrs = {SLOT_ATTR: reserved.slot}
            trial_id, number = optuna_rows.create(connection, self.study.optuna_id, drawn, attrs)
            self._mark_running(connection, reserved, number)
        return trial_id, number

    def _restart(self, reserved: _Reserved, trial: FrozenTrial) -> tuple[int, int] | None:
        """Start an interrupted trial again, without what its last attempt had reported."""
        trial_id = trial._trial_id  # noqa: SLF001 - Optuna has no public name for it
        with self.study.database.writing() as connection:
            if not lease.keep(connection, reserved.slot, reserved.token, epoch=0):
                return None
            connection.execute(epochs.delete().where(epochs.c.slot_id == reserved.slot))
            optuna_rows.forget_reports(connection, trial_id)
            self._mark_running(connection, reserved, trial.number)
        return trial_id, trial.number

    def _mark_running(self, connection: sa.Connection, reserved: _Reserved, number: int) -> None:
        values = {
            "state": "running",
            "number": number,
            "attempts": reserved.attempts,
            "worker": self._worker,
            "device": self._device,
            "versions": self._versions,
            "started_at": now(),
        }
        connection.execute(slots.update().where(slots.c.id == reserved.slot).values(**values))

    def _epoch_row(self, claim: Claim, metrics: EpochMetrics, score: float, *, comparable: bool) -> dict[str, Any]:
        return {
            "slot_id": claim.slot,
            "study_id": self.study.id,
            "epoch": metrics.epoch,
            "step": metrics.step,
            "lr": metrics.lr,
            "train_loss": finite(metrics.train_loss),
            "val_loss": finite(metrics.val_loss),
            "val_accuracy": finite(metrics.val_accuracy),
            "averaged_val_loss": finite(metrics.averaged_val_loss),
            "averaged_val_accuracy": finite(metrics.averaged_val_accuracy),
            "rung_score": finite(score),
            "comparable": comparable,
            "seconds": metrics.seconds,
        }

    def _rung(
        self, connection: sa.Connection, claim: Claim, epoch: int
    ) -> tuple[list[pruners.RungRow], list[float], int]:
        """Read what a pruner needs: the others at this epoch, this trial's own scores, the number of complete ones."""
        complete = slots.c.outcome == State.COMPLETE.value
        others = connection.execute(
            sa.select(epochs.c.rung_score, slots.c.outcome, epochs.c.comparable)
            .join(slots, slots.c.id == epochs.c.slot_id)
            .where(
                epochs.c.study_id == self.study.id,
                epochs.c.epoch == epoch,
                epochs.c.slot_id != claim.slot,
                epochs.c.rung_score.is_not(None),
            )
        ).all()
        own = connection.scalars(
            sa.select(epochs.c.rung_score).where(epochs.c.slot_id == claim.slot).order_by(epochs.c.epoch)
        ).all()
        n_complete = connection.scalar(
            sa.select(sa.func.count()).select_from(slots).where(slots.c.study_id == self.study.id, complete)
        )
        rows = [pruners.RungRow(score, outcome == State.COMPLETE, bool(rising)) for score, outcome, rising in others]
        return rows, [float("nan") if v is None else v for v in own], int(n_complete or 0)

    def _write_end(self, connection: sa.Connection, slot: str, trial_id: int, outcome: Outcome) -> None:
        connection.execute(
            slots.update()
            .where(slots.c.id == slot)
            .values(
                state="ended",
                outcome=outcome.state.value,
                reason=outcome.reason.value,
                value=finite(outcome.value),
                epoch=outcome.epoch,
                step=outcome.step,
                lr=finite(outcome.lr),
                message=outcome.message,
                ended_at=now(),
            )
        )
        attrs = {OUTCOME_ATTR: outcome.state.value}
        if outcome.state in (State.DIVERGED, State.FAILED):
            attrs["lrsearch:message"] = outcome.message
        optuna_rows.end(connection, trial_id, OPTUNA_STATES[outcome.state], outcome.value, attrs)


def rung_score(metric: str, metrics: EpochMetrics) -> float:
    """Return what pruners compare: the averaged weights' accuracy, or the raw loss, which ranks better."""
    if metric == "loss":
        return metrics.val_loss
    return metrics.val_accuracy if metrics.averaged_val_accuracy is None else metrics.averaged_val_accuracy

"""The exact budget: claim a trial, have its epochs accepted, tell how it ended.

A claim (a) reserves a slot of the budget in one short transaction, (b) samples outside any lock, (c) writes the
RUNNING trial and its slot together. Every report and every ending checks the lease in the transaction that writes it,
our rows and Optuna's. A process may be killed between any two lines of this file, and a transaction that was committed
may be run again because its answer was lost: whoever claims next finds the slot without a living lease and goes on with
it, under the trial's own number, from its last checkpoint.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam

from lrsearch.errors import StorageError
from lrsearch.events import EndReason, SearchEnded
from lrsearch.store import best, budget, endings, lease, optuna_private, optuna_rows, pruners, retries, rung, samplers
from lrsearch.store import space as spaces
from lrsearch.store.clock import now
from lrsearch.store.mirror import SLOT_ATTR, Mirror
from lrsearch.store.reservations import Initial, Reservations, Reserved
from lrsearch.store.study import Study
from lrsearch.store.tables import epochs, slots
from lrsearch.trial import EpochMetrics, Outcome, Reason, State, Trial, TrialConfig

log = logging.getLogger(__name__)

DRAWS = 16
"""Settings that a sampler draws for one slot before the untried ones of a finite space are looked through."""

_this_slot = slots.c.id == bindparam("slot")
_RUN = slots.update().where(_this_slot).values(state="running", started_at=now())
_STATE = sa.select(slots).where(_this_slot)
_ACCEPTED = sa.select(epochs).where(epochs.c.slot_id == bindparam("slot")).order_by(epochs.c.epoch)


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
class Decision:
    """What the study says to an epoch that was reported."""

    kind: Literal["keep", "prune", "out_of_budget", "lost", "told_elsewhere"]
    epoch: EpochMetrics
    """As it was accepted: with its rung score, and the cut that decided."""
    outcome: Outcome | None = None
    """How the trial ended, where another program has told Optuna so."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of an ending that was told."""

    accepted: bool
    """False when the trial was no longer ours; nothing was written."""
    starts_again: bool = False
    """Whether it is a failure after which the trial starts again."""
    unused: tuple[str, ...] = ()
    """Artifacts that nothing names any more."""
    outcome: Outcome | None = None
    """How the trial ended instead, where another program had told Optuna so."""


class Claims:
    """One worker's dealings with a study."""

    def __init__(self, study: Study, initial: Sequence[Initial], device: str, versions: str) -> None:
        self.study = study
        self._reservations = Reservations(study, initial, device, versions)
        self._versions = versions
        self._mirror = Mirror(study.spec.objective.direction)
        self._after, self._unfinished = 0, dict[int, FrozenTrial]()
        self._read_of = study.optuna_id
        self._size = spaces.size(study.spec.space)
        self._configs: dict[int, TrialConfig] = {}
        self._tried: Counter[TrialConfig] = Counter()
        self._moved: dict[str, int] = {}

    @property
    def worker(self) -> str:
        """The id of this worker."""
        return self._reservations.worker

    @property
    def device(self) -> str:
        """What this worker trains on, in words; it may get more or fewer threads between two trials."""
        return self._reservations.device

    @device.setter
    def device(self, device: str) -> None:
        self._reservations.device = device

    @property
    def lease_seconds(self) -> float:
        """For how long a lease holds without a sign of life."""
        return self.study.spec.workers.lease_seconds

    def claim(self) -> Claim | SearchEnded:
        """Take the next trial: one that was interrupted, one that a person enqueued, or a new one."""
        while True:
            reserved = self._reservations.reserve()
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
                return claim  # or why there is none

    def accept(self, claim: Claim, metrics: EpochMetrics) -> Decision:
        """Record an epoch and decide whether the trial goes on."""
        reached = self._scored(claim, metrics)

        def work(connection: sa.Connection) -> Decision:
            if not lease.renew(connection, claim.slot, claim.token, self.lease_seconds):
                return Decision("lost", reached)
            trial = self._at(connection, claim)
            if trial is None:
                return Decision("lost", reached)
            if trial.state != TrialState.RUNNING:
                lease.drop(connection, claim.slot, claim.token)
                return Decision("told_elsewhere", reached, self._told_elsewhere(connection, claim, trial))
            rung.add_epoch(connection, claim.slot, self.study.id, reached)
            assert reached.rung_score is not None
            optuna_rows.report(connection, trial.trial_id, reached.epoch, reached.rung_score)
            return self._judge(connection, claim, reached)

        return self.study.database.write(work)

    def judge(self, claim: Claim) -> Decision:
        """Judge an interrupted trial again by the last epoch that was accepted: its verdict may have been lost."""
        reached = claim.trial.metrics[-1]

        def work(connection: sa.Connection) -> Decision:
            if not lease.renew(connection, claim.slot, claim.token, self.lease_seconds):
                return Decision("lost", reached)
            return self._judge(connection, claim, reached)

        return self.study.database.write(work)

    def holds(self, claim: Claim) -> bool:
        """Whether the trial is still ours; then its lease is renewed."""
        return self.study.database.write(lambda c: lease.renew(c, claim.slot, claim.token, self.lease_seconds))

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
            trial = self._at(connection, claim)
            if trial is None:
                return Told(accepted=False)
            if trial.state != TrialState.RUNNING:
                instead = self._told_elsewhere(connection, claim, trial)
                kept = (claim.checkpoint, weights)
                return Told(True, unused=tuple(name for name in kept if name), outcome=instead)  # noqa: FBT003
            if outcome.state == State.FAILED:
                retries.write_down(connection, claim.slot, outcome.reason, outcome.message)
                past = retries.of_slot(connection, claim.slot)
                if retries.exhausted(past, self.study.spec.workers.retries) is None:
                    return Told(accepted=True, starts_again=True)
            endings.write(connection, claim.slot, trial.trial_id, outcome, claim.token, weights_sha256)
            unused = [] if claim.checkpoint is None else [claim.checkpoint]
            if weights is not None:
                unused += endings.keep_best(connection, self.study, claim.slot, weights)
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
            if claim is not None and ours:
                trial = self._at(connection, claim)
                ours = trial is not None and trial.state == TrialState.RUNNING
                if trial is not None and not ours:
                    # Whoever claims next says how it ended.
                    lease.drop(connection, claim.slot, claim.token)
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
        self._reservations.leave()

    def _at(self, connection: sa.Connection, claim: Claim) -> optuna_rows.Marked | None:
        """Return the trial as Optuna has it, wherever it was moved; None where the claim is worth nothing any more.

        Until the end of the transaction nobody deletes it.
        """
        at = self._moved.get(claim.slot, claim.trial_id)
        found = optuna_rows.marked(connection, self.study.optuna_id, SLOT_ATTR, claim.slot, at)
        if found is not None:
            return found
        found = self._find(connection, claim.slot)
        if found is not None:
            self._moved = {claim.slot: found.trial_id}
        return found

    def _find(self, connection: sa.Connection, slot: str) -> optuna_rows.Marked | None:
        """Return the trial of a slot where the study lives now; None where either is gone."""
        if not self.study.home.check(connection):
            return None
        return optuna_rows.marked(connection, self.study.optuna_id, SLOT_ATTR, slot)

    def _told_elsewhere(self, connection: sa.Connection, claim: Claim, trial: optuna_rows.Marked) -> Outcome:
        """End the slot of a trial that another program has ended."""
        outcome = endings.told_elsewhere(trial, claim.accepted)
        endings.write_slot(connection, claim.slot, outcome, claim.token)
        return outcome

    def _scored(self, claim: Claim, epoch: EpochMetrics) -> EpochMetrics:
        """Return an epoch with what pruners compare, and whether it may be: the rise to the peak must be over."""
        first = pruners.comparable_from(claim.trial.config.schedule, self.study.spec.epochs)
        score = rung.score(self.study.spec.objective.metric, epoch)
        return replace(epoch, rung_score=score, comparable=epoch.epoch >= first)

    def _judge(self, connection: sa.Connection, claim: Claim, reached: EpochMetrics) -> Decision:
        spec = self.study.spec
        if reached.epoch == spec.epochs:
            return Decision("keep", reached)
        hours = budget.hours_left(connection, self.study.id) if self._reservations.by_the_hour else None
        if hours is not None and hours <= 0:
            return Decision("out_of_budget", reached)
        if not (reached.comparable and spec.pruner.compares_at(reached.epoch, spec.epochs)):
            return Decision("keep", reached)
        found = rung.verdict(connection, spec, self.study.id, claim.slot, reached.epoch)
        rung.note(connection, claim.slot, reached.epoch, found)
        judged = replace(reached, cut=found.cut, n_compared=found.n_compared)
        return Decision("prune" if found.prune else "keep", judged)

    def _give_back(self, slot: str, token: str, reason: Reason | None, message: str) -> None:
        def work(connection: sa.Connection) -> None:
            if lease.drop(connection, slot, token) and reason is not None:
                retries.write_down(connection, slot, reason, message)

        self.study.database.write(work)

    def _begin(self, reserved: Reserved) -> Claim | SearchEnded | None:
        """Start or go on with the trial of a slot; None when the slot was lost or its trial cannot be."""
        self._read_news()
        enqueued = None if reserved.number is None else self._by_number(reserved.number)
        if reserved.running:
            if enqueued is None:
                self._settle(reserved)
                return None
            return self._restart(reserved, enqueued)
        if reserved.number is not None:
            if enqueued is None:
                self.study.database.write(lambda c: self._unlink(c, reserved))
                return None
            asked = enqueued.system_attrs.get(optuna_rows.FIXED_PARAMS_ATTR, {})
            fixed = spaces.completed(self.study.spec.space, asked)
            if isinstance(fixed, str):
                self._refuse(reserved, enqueued, fixed)
                return None
            drawn = self._draw(reserved, fixed)
            assert drawn is not None, "what a person asks for is trained"
            return self._start(reserved, drawn, enqueued)
        drawn = self._draw(reserved, None)
        return self._used_up(reserved) if drawn is None else self._start(reserved, drawn, None)

    def _read_news(self) -> None:
        """Bring the mirror up to date with what has been written since the last look."""
        if self._read_of != self.study.optuna_id:
            # The study was renamed: its trials are others for Optuna.
            self._after, self._unfinished, self._read_of = 0, {}, self.study.optuna_id
        open_now = list(self._unfinished)
        news = self.study.database.read(lambda c: optuna_rows.news(c, self.study.optuna_id, self._after, open_now))
        self._mirror.sync(news)
        for trial in news:
            trial_id = optuna_private.trial_id(trial)
            self._after = max(self._after, trial_id)
            if trial.state.is_finished():
                self._unfinished.pop(trial_id, None)
            else:
                self._unfinished[trial_id] = trial
            self._note(trial)

    def _note(self, trial: FrozenTrial) -> None:
        """Remember whose setting is trained, or in training."""
        if SLOT_ATTR not in trial.user_attrs or trial.state == TrialState.WAITING:
            return
        if trial.state == TrialState.FAIL:
            config = self._configs.pop(trial.number, None)
            if config is not None:
                self._tried[config] -= 1
        elif trial.number not in self._configs:
            config = spaces.config(self.study.spec, trial.params)
            self._configs[trial.number] = config
            self._tried[config] += 1

    def _by_number(self, number: int) -> FrozenTrial | None:
        """Return an unfinished trial, or None where plain Optuna has finished it."""
        return next((trial for trial in self._unfinished.values() if trial.number == number), None)

    def _draw(self, reserved: Reserved, fixed: Mapping[str, Any] | None) -> FrozenTrial | None:
        """Ask the sampler, in memory, for a setting that is not trained yet; None where there is none left.

        A person's own setting is trained whatever was trained before.
        """
        spec, position, asked = self.study.spec, reserved.position, fixed is not None
        if fixed is None and reserved.origin in ("baseline", "portfolio"):
            fixed = self._reservations.first_setting(position)
        for attempt in range(DRAWS):
            sampler = samplers.build(spec.sampler, spec.seed, position, attempt)
            drawn = self._mirror.ask(reserved.slot, sampler, spec.space, fixed)
            if asked or not self._tried[spaces.config(spec, drawn.params)]:
                return drawn
            fixed = None  # a first setting that a person was quicker to enqueue
        if self._size is None:
            return drawn
        left = [one for one in spaces.settings(spec.space) if not self._tried[spaces.config(spec, one)]]
        if not left:
            return None
        sampler = samplers.build(spec.sampler, spec.seed, position, DRAWS)
        return self._mirror.ask(reserved.slot, sampler, spec.space, left[position % len(left)])

    def _used_up(self, reserved: Reserved) -> SearchEnded:
        """Leave a slot to whom there may be something to train for later, and say why there is nothing now."""
        self._give_back(reserved.slot, reserved.token, None, "")
        n = sum(SLOT_ATTR in trial.user_attrs for trial in self._unfinished.values())
        if n:
            are = "the last is" if n == 1 else f"the last {n} are"
            return SearchEnded(
                EndReason.HELD_ELSEWHERE, f"of the {self._size} settings of the space {are} in training elsewhere"
            )
        some = (
            "the one setting of the search space is"
            if self._size == 1
            else f"all {self._size} settings of the search space are"
        )
        seeds = (
            ""
            if self.study.spec.space.seed is not None
            else "; space.seed = [0, 1, 2] in a new study tries other seeds"
        )
        return SearchEnded(EndReason.SPACE_USED_UP, f"{some} trained, and a training repeats bit for bit{seeds}")

    def _start(self, reserved: Reserved, drawn: FrozenTrial, enqueued: FrozenTrial | None) -> Claim | None:
        """Write the RUNNING trial; return None when the slot is no longer ours, or somebody else took the trial."""
        attrs = {SLOT_ATTR: reserved.slot}

        def work(connection: sa.Connection) -> tuple[int, int] | None:
            if not lease.renew(connection, reserved.slot, reserved.token, self.lease_seconds):
                return None
            row = connection.execute(_STATE, {"slot": reserved.slot}).one()
            if row.state == "running":
                # A commit whose answer was lost.
                found = self._find(connection, reserved.slot)
                return None if found is None else (found.trial_id, found.number)
            optuna_rows.lock_numbers(connection, self.study.optuna_id)
            if not self.study.home.check(connection):
                return None
            if self._size is not None and enqueued is None and self._taken_meanwhile(connection, drawn):
                self._unlink(connection, reserved)
                return None
            if enqueued is None:
                trial_id, number = optuna_rows.create(connection, self.study.optuna_id, drawn, attrs)
            else:
                trial_id, number = optuna_private.trial_id(enqueued), enqueued.number
                if not optuna_rows.adopt(connection, self.study.optuna_id, enqueued, drawn, attrs):
                    self._unlink(connection, reserved)
                    return None
            self._mark_running(connection, reserved, number, spaces.config(self.study.spec, drawn.params).seed)
            return trial_id, number

        started = self.study.database.write(work)
        return None if started is None else self._claim(reserved, *started, drawn.params, ())

    def _taken_meanwhile(self, connection: sa.Connection, drawn: FrozenTrial) -> bool:
        """Whether another worker began with that setting since the last look; under the lock of trial numbers."""
        config = spaces.config(self.study.spec, drawn.params)
        return any(
            SLOT_ATTR in trial.user_attrs
            and trial.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
            and spaces.config(self.study.spec, trial.params) == config
            for trial in optuna_rows.news(connection, self.study.optuna_id, self._after, [])
        )

    def _unlink(self, connection: sa.Connection, reserved: Reserved) -> None:
        """Open the slot of an enqueued trial for whatever comes next: a plain Optuna script was quicker."""
        if lease.drop(connection, reserved.slot, reserved.token):
            unlinked = {"number": None, "origin": "sampler"}
            connection.execute(slots.update().where(slots.c.id == reserved.slot).values(unlinked))

    def _restart(self, reserved: Reserved, trial: FrozenTrial) -> Claim | None:
        """Go on with an interrupted trial."""

        def work(connection: sa.Connection) -> list[Any] | None:
            if not lease.renew(connection, reserved.slot, reserved.token, self.lease_seconds):
                return None
            self._mark_running(connection, reserved, trial.number)
            return list(connection.execute(_ACCEPTED, {"slot": reserved.slot}).all())

        accepted = self.study.database.write(work)
        if accepted is None:
            return None
        metrics = tuple(rung.metrics(row) for row in accepted)
        return self._claim(reserved, optuna_private.trial_id(trial), trial.number, trial.params, metrics)

    def _claim(
        self,
        reserved: Reserved,
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
            worker=str(self._reservations.holder),
            device=self.device,
            versions=self._versions,
            origin=reserved.origin,
            params=dict(params),
        )
        return Claim(
            trial, reserved.slot, reserved.token, trial_id, reserved.running, reserved.attempts, reserved.checkpoint
        )

    def _mark_running(
        self, connection: sa.Connection, reserved: Reserved, number: int, seed: int | None = None
    ) -> None:
        more = {} if seed is None else {"seed": seed}
        connection.execute(_RUN, {"slot": reserved.slot, "number": number, **self._reservations.columns, **more})

    def _settle(self, reserved: Reserved) -> None:
        """End a slot whose trial another program has ended; one that was only renamed meanwhile is free again."""

        def work(connection: sa.Connection) -> Outcome | None:
            if not lease.drop(connection, reserved.slot, reserved.token):
                return None
            found = self._find(connection, reserved.slot)
            if found is not None and found.state == TrialState.RUNNING:
                return None
            outcome = endings.told_elsewhere(found, 0)
            endings.write_slot(connection, reserved.slot, outcome, reserved.token)
            return outcome

        outcome = self.study.database.write(work)
        if outcome is not None:
            log.warning("trial %s: %s", reserved.number, outcome.message)

    def _refuse(self, reserved: Reserved, enqueued: FrozenTrial, wrong: str) -> None:
        """End an enqueued trial that cannot be trained."""
        outcome = Outcome(State.FAILED, Reason.NOT_IN_SPACE, None, 0, message=f"enqueued outside the space: {wrong}")
        trial_id = optuna_private.trial_id(enqueued)
        log.warning("trial %d failed: %s", enqueued.number, outcome.message)

        def work(connection: sa.Connection) -> None:
            if lease.drop(connection, reserved.slot, reserved.token) and self.study.home.check(connection):
                optuna_rows.set_user_attrs(connection, trial_id, {SLOT_ATTR: reserved.slot})
                self._mark_running(connection, reserved, enqueued.number)
                endings.write(connection, reserved.slot, trial_id, outcome, reserved.token)

        self.study.database.write(work)

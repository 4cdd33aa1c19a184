"""The exact budget: claim a trial, have its epochs accepted, tell how it ended.

Seven steps make a claim (``Claims.claim``): two transactions, a look before the first and one between them. A process
may be killed between any two steps: the next claim finds the slot without a living lease and goes on with it, under the
trial's own number, from its last checkpoint. A transaction that was committed may be run again because its answer was
lost: it knows its own token. Every report and every ending checks the lease in the transaction that writes it, our rows
and Optuna's.
"""

import logging
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam

from lrsearch.errors import StorageError
from lrsearch.events import EndReason, SearchEnded
from lrsearch.schedules import comparable_from
from lrsearch.spec import parameters
from lrsearch.spec.deciding import GridSpec
from lrsearch.store import (
    budget,
    confirmations,
    endings,
    known,
    lease,
    moves,
    optuna_private,
    optuna_rows,
    progress,
    slots,
    trunks,
)
from lrsearch.store.curves import Curves
from lrsearch.store.proposals import Proposals
from lrsearch.store.slots import Initial, Repeat, Reserved, Sight, Worker
from lrsearch.store.study import Study
from lrsearch.store.tables import ROLE_ATTR, SLOT_ATTR, epochs, now
from lrsearch.store.tables import slots as slot_rows
from lrsearch.store.trunks import Branch
from lrsearch.strategy import strategies
from lrsearch.strategy.confirming import Choose, Confirm
from lrsearch.strategy.strategy import Strategy, exhausted
from lrsearch.strategy.view import (
    Begin,
    Fail,
    KnownTraining,
    Reached,
    Resume,
    Settle,
    View,
    having_reached,
    standing_still,
)
from lrsearch.trial import EpochMetrics, Outcome, Reason, Role, State, Trial, TrialConfig

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks at whether the processes of this machine that hold leases still run."""

_this_slot = slot_rows.c.id == bindparam("slot")
_RUN = slot_rows.update().where(_this_slot).values(state="running", started_at=now())
_STATE = sa.select(slot_rows).where(_this_slot)
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
    why: str = ""
    """Why it is begun or gone on with, in words; empty where no strategy says so."""
    stood_still: bool = False
    """Whether a strategy had paused it, and goes on with it."""
    trunk: str | None = None
    """That of another trial, from which this one branches while it has none of its own. It is not this one's to remove.
    """

    @property
    def accepted(self) -> int:
        """Epochs that the study has; they are trained again if the checkpoint is older, and not reported again."""
        return len(self.trial.metrics)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the study says to an epoch that was reported."""

    kind: Literal["keep", "pause", "prune", "out_of_budget", "out_of_epochs", "lost", "told_elsewhere"]
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
    """One worker's dealings with a study.

    Args:
        study: which.
        initial: settings that are tried before the sampler is asked.
        device: what this worker trains on, in words.
        versions: what bitwise repetition depends on.
        strategy: who decides; None: as the study says.
    """

    def __init__(
        self, study: Study, initial: Sequence[Initial], device: str, versions: str, strategy: Strategy | None = None
    ) -> None:
        self.study, self.device = study, device
        self.worker = str(uuid.uuid4())
        """The id of this worker."""
        self.holder = lease.this_process()
        self.strategy = strategy or strategies.of(study.spec)
        self._initial, self._versions = initial, versions
        self._proposals = Proposals(study)
        self._curves = Curves(study)
        self._taken_for_known: tuple[KnownTraining, ...] | None = None
        self._entered: str | None = None
        """With which device this worker is written down."""
        self._looked = -math.inf
        self._moved: dict[str, int] = {}

    @property
    def lease_seconds(self) -> float:
        """For how long a lease holds without a sign of life."""
        return self.study.spec.workers.lease_seconds

    @property
    def _me(self) -> Worker:
        return Worker(self.worker, str(self.holder), self.device, self._versions, self.lease_seconds)

    def claim(self) -> Claim | SearchEnded:
        """Take the next trial: one that was interrupted, one that a person enqueued, or a new one.

        1. Every few seconds, outside any lock, look which processes of this machine have ended, and free their slots.
        2. Lock the budget: n workers never exceed it, because one at a time decides.
        3. Remove the leases that have expired, and write down whose attempts they were.
        4. Read what the strategy may look at, and have it decide.
        5. Lease the slot that it names, or open the next one; commit. The slot is ours, its trial not begun.
        6. Read what is new and ask the sampler, in memory, while others claim.
        7. Write the RUNNING trial, Optuna's and our slot, if the lease is still ours; commit.
        """
        while True:
            reserved = self._reserve()  # steps 1 to 5
            if isinstance(reserved, SearchEnded):
                return reserved
            try:
                claim = self._begin(reserved)  # steps 6 and 7
            except BaseException:
                # An interrupt ends a search, not always the process, which would hold on to the slot.
                with suppress(StorageError):
                    self._give_back(reserved.slot, reserved.token, None, "")
                raise
            if claim is not None:
                return claim  # or why there is none

    def _reserve(self) -> Reserved | SearchEnded:
        """Take a slot of the budget, in one transaction."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._free_dead_processes()  # step 1
        # Made here, so that a transaction that is run again because its answer was lost knows its own.
        slot, token, me = str(uuid.uuid4()), lease.new_token(), self._me
        decided = list[Reserved | SearchEnded]()
        material = self._material()
        if material is not None:
            self._think_ahead(material)

        def work(connection: sa.Connection) -> Reserved | SearchEnded | None:
            row = budget.lock(connection, self.study.id)  # step 2
            if row is None or not self.study.home.check(connection):
                return None
            if decided and slots.of_token(connection, self.study, token, self._initial) is not None:
                return decided[-1]
            self._enter(connection, me)
            for dead in lease.drop_dead(connection, self.study.id, look_at_processes=False):  # step 3
                progress.write_down(connection, dead.slot, Reason.LOST, dead.why)
            decided.append(self._decide(connection, row, slot, token, me, material))
            return decided[-1]

        taken = self.study.database.write(work)
        if taken is None:
            raise self.study.gone()
        self._entered = me.device
        held = isinstance(taken, SearchEnded) and taken.reason == EndReason.HELD_ELSEWHERE
        # All that is left hangs on others: whether they live is worth another look.
        return self._reserve() if held and self._free_dead_processes() else taken

    def _material(self) -> Sight | None:
        """Return what the strategy looks at beside the budget, or None where it does not."""
        if not self.strategy.reads_curves:
            return None
        if self._taken_for_known is None:
            self._taken_for_known = self.study.database.read(lambda c: known.of(c, self.study))
        if self.study.spec.space.auto_extend:
            self._proposals.read_news()
        return Sight(self._curves, self._taken_for_known, self._proposals.space)

    def _think_ahead(self, material: Sight) -> None:
        """Have the strategy decide outside the lock of the budget; inside it remembers, where nothing has changed."""

        def look(connection: sa.Connection) -> View | None:
            row = budget.look(connection, self.study.id)
            return None if row is None else slots.view(connection, self.study, row, self._initial, material)

        view = self.study.database.read(look)
        if view is not None:
            self.strategy.what_next(view)

    def _decide(
        self,
        connection: sa.Connection,
        row: sa.Row[Any],
        slot: str,
        token: str,
        me: Worker,
        material: Sight | None,
    ) -> Reserved | SearchEnded:
        """Have the strategy decide and do what it says: steps 4 and 5 of a claim.

        That the search has converged is written down first; then what it leaves paused is settled.
        """
        converged: SearchEnded | None = None
        while True:
            view = slots.view(connection, self.study, row, self._initial, material)
            step = self.strategy.what_next(view)
            match step:
                case Fail():
                    slots.fail(connection, self.study, step)
                case Settle():
                    slots.settle(connection, self.study, step.slot)
                case Resume():
                    return slots.take_over(connection, self.study, step, token, me, self._initial)
                case Choose():
                    assert view.race is not None
                    confirmations.choose(connection, self.study, view.race.plan)
                case Confirm():
                    assert view.race is not None
                    return slots.insert_confirm(connection, self.study, slot, token, me, step, view.race)
                case SearchEnded():
                    if step.reason != EndReason.CONVERGED:
                        return step
                    if converged is not None or view.standing.stopped is not None:
                        return converged or step
                    budget.settle(connection, self.study.id, step.message)
                    marked = budget.look(connection, self.study.id)
                    assert marked is not None, "its row is locked"
                    converged, row = step, marked
                case Begin():
                    position = view.standing.total
                    return slots.insert(connection, self.study, slot, token, me, position, step, self._initial)

    def _enter(self, connection: sa.Connection, me: Worker) -> None:
        """Write this worker down, or what it trains on now."""
        if self._entered is None:
            lease.check_one_machine(connection, self.study.database.place, self.holder, me.lease_seconds)
            lease.enter(
                connection,
                self.worker,
                self.holder,
                self.study.id,
                me.lease_seconds,
                device=me.device,
                versions=me.versions,
            )
        elif self._entered != me.device:
            lease.changed(connection, self.worker, me.device)

    def _free_dead_processes(self) -> bool:
        """Free the slots of workers of this machine whose processes have ended; return whether there were any.

        Outside the lock of the budget, because it asks the system about every process.
        """
        self._looked = time.monotonic()
        dead = self.study.database.read(lambda connection: lease.of_dead_processes(connection, self.study.id))

        def work(connection: sa.Connection) -> None:
            for one in dead:
                if lease.drop(connection, one.slot, one.token):
                    progress.write_down(connection, one.slot, Reason.LOST, one.why)

        if dead:
            self.study.database.write(work)
        return bool(dead)

    def accept(self, claim: Claim, metrics: EpochMetrics) -> Decision:
        """Record an epoch and decide whether the trial goes on."""
        reached = self._scored(claim, metrics)
        self._weigh_ahead(claim, reached)

        def work(connection: sa.Connection) -> Decision:
            renewed = self._renew(connection, claim)
            if not renewed.ours:
                return Decision("lost", reached)
            trial = self._at(connection, claim)
            if trial is None:
                return Decision("lost", reached)
            if trial.state != TrialState.RUNNING:
                lease.drop(connection, claim.slot, claim.token)
                return Decision("told_elsewhere", reached, self._told_elsewhere(connection, claim, trial))
            progress.add_epoch(connection, claim.slot, self.study.id, reached)
            assert reached.rung_score is not None
            optuna_rows.report(connection, trial.trial_id, reached.epoch, reached.rung_score)
            return self._judge(connection, claim, reached, renewed)

        return self.study.database.write(work)

    def _renew(self, connection: sa.Connection, claim: Claim) -> lease.Renewed:
        return lease.renew_and_look(connection, claim.slot, self.study.id, claim.token, self.lease_seconds)

    def judge(self, claim: Claim) -> Decision:
        """Judge an interrupted trial again by the last epoch that was accepted: its verdict may have been lost."""
        reached = claim.trial.metrics[-1]
        self._weigh_ahead(claim, reached)

        def work(connection: sa.Connection) -> Decision:
            renewed = self._renew(connection, claim)
            return self._judge(connection, claim, reached, renewed) if renewed.ours else Decision("lost", reached)

        return self.study.database.write(work)

    def holds(self, claim: Claim) -> bool:
        """Whether the trial is still ours; then its lease is renewed."""
        return self.study.database.write(lambda c: lease.renew(c, claim.slot, claim.token, self.lease_seconds))

    def end(
        self,
        claim: Claim,
        outcome: Outcome,
        weights: str | None = None,
        weights_sha256: str | None = None,
        val_right: bytes | None = None,
    ) -> Told:
        """Tell how a trial ended; a failure that may be tried again gives it back instead.

        Args:
            claim: the right to it.
            outcome: how it ended.
            weights: the artifact with its last weights, to be kept if it is the best trial.
            weights_sha256: their hash.
            val_right: which validation images they get right, see ``Training.validation_right``.
        """
        unused = list[str]()

        def work(connection: sa.Connection) -> Told:
            if not lease.drop(connection, claim.slot, claim.token):
                row = connection.execute(_STATE, {"slot": claim.slot}).one_or_none()
                # A commit whose answer was lost.
                accepted = row is not None and row.ended_token == claim.token
                return Told(accepted, unused=tuple(unused) if accepted else ())
            unused.clear()
            trial = self._at(connection, claim)
            if trial is None:
                return Told(accepted=False)
            if trial.state != TrialState.RUNNING:
                instead = self._told_elsewhere(connection, claim, trial)
                unused.extend(name for name in (claim.checkpoint, weights) if name)
                return Told(True, unused=tuple(unused), outcome=instead)  # noqa: FBT003
            if outcome.state == State.FAILED:
                progress.write_down(connection, claim.slot, outcome.reason, outcome.message)
                past = progress.of_slot(connection, claim.slot)
                if exhausted(past, self.study.spec.workers.retries) is None:
                    return Told(accepted=True, starts_again=True)
            endings.write(connection, claim.slot, trial.trial_id, outcome, claim.token, weights_sha256, val_right)
            unused.extend([] if claim.checkpoint is None else [claim.checkpoint])
            if weights is not None:
                unused.extend(
                    endings.keep_best(connection, self.study.id, claim.slot, weights, maximize=self.study.maximize)
                )
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
            connection.execute(slot_rows.update().where(slot_rows.c.id == claim.slot).values(values))
            return True

        return self.study.database.write(work)

    def keep_trunk(self, claim: Claim, epoch: int, artifact: str) -> bool:
        """Note the state of a trial after an epoch, so that others may branch from it; False where it is not needed."""

        def work(connection: sa.Connection) -> bool:
            if not lease.renew(connection, claim.slot, claim.token, self.lease_seconds):
                return False
            return trunks.keep(connection, self.study.id, claim.slot, epoch, artifact)

        return self.study.database.write(work)

    def release_trunks(self) -> list[str]:
        """Forget what was kept to branch from and to go on with, once no trial is open; return what may be removed."""
        released = set[str]()

        def work(connection: sa.Connection) -> list[str]:
            # A commit whose answer was lost is repeated, and releases nothing the second time.
            released.update(trunks.release(connection, self.study.id))
            return sorted(released - trunks.named(connection, self.study.id))

        return self.study.database.write(work)

    def pause(self, claim: Claim, epoch: int) -> bool:
        """Let a trial stand still at its checkpoint, until the strategy goes on with it; False when it was not ours."""

        def work(connection: sa.Connection) -> bool:
            if not lease.drop(connection, claim.slot, claim.token):
                # Paused by a commit whose answer was lost, or in other hands.
                row = connection.execute(_STATE, {"slot": claim.slot}).one_or_none()
                return row is not None and row.state == "paused"
            slots.pause(connection, claim.slot, epoch)
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
                    # The next claim says how it ended.
                    lease.drop(connection, claim.slot, claim.token)
            return ours, budget.stopped(connection, self.study.id)

        return self.study.database.write(work, patience_seconds=0)

    def would_be_best(self, claim: Claim, outcome: Outcome) -> bool:
        """Whether a complete trial of this value could be the best one: its weights are worth keeping."""
        if outcome.state != State.COMPLETE or outcome.value is None or claim.trial.role != Role.SEARCH:
            return False
        stands = self.study.database.read(lambda c: endings.best_value(c, self.study.id, maximize=self.study.maximize))
        return stands is None or outcome.value == stands or (outcome.value > stands) == self.study.maximize

    def leave(self) -> None:
        """Take this worker out of the list of those at work."""
        if self._entered is not None:
            self.study.database.write(lambda connection: lease.leave(connection, self.worker), patience_seconds=0)
            self._entered = None

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
        first = comparable_from(claim.trial.config.schedule, self.study.spec.epochs)
        score = self.study.spec.metric.rung_score(epoch)
        return replace(epoch, rung_score=score, comparable=epoch.epoch >= first)

    def _judge(
        self, connection: sa.Connection, claim: Claim, reached: EpochMetrics, renewed: lease.Renewed
    ) -> Decision:
        spec, hours = self.study.spec, renewed.hours
        if reached.epoch == spec.epochs or claim.trial.role == Role.CONFIRM:
            return Decision("keep", reached)
        if self._is_weighed(claim, reached):
            return self._weighed(connection, claim, reached, hours)
        if renewed.counts_epochs and not self.strategy.reads_curves and not self._fits(connection):
            return Decision("out_of_epochs", reached)
        found = progress.judged(connection, self.strategy, spec, self.study.id, claim.slot, reached, hours)
        return Decision(found.fate, replace(reached, cut=found.cut, n_compared=found.n_compared))

    def _fits(self, connection: sa.Connection) -> bool:
        """Whether a trial that has come to an epoch may have another one: under the lock, so that no two take one."""
        row = budget.lock(connection, self.study.id)
        if row is None:
            return True
        left = budget.standing(connection, self.study.id, row, self.study.spec.epochs).epochs_left
        return left is None or left >= 0

    def _is_weighed(self, claim: Claim, reached: EpochMetrics) -> bool:
        """Whether a strategy that pauses looks at all trials after an epoch."""
        spec = self.study.spec
        last = reached.epoch == spec.epochs or claim.trial.role == Role.CONFIRM
        return not last and self.strategy.stops_at(spec, claim.trial.config, reached.epoch)

    def _weigh_ahead(self, claim: Claim, reached: EpochMetrics) -> None:
        """Have the strategy judge an epoch outside the lock of the budget; see ``_think_ahead``."""
        material = self._material() if self._is_weighed(claim, reached) else None
        if material is None:
            return

        def look(connection: sa.Connection) -> View | None:
            row = budget.look(connection, self.study.id)
            return None if row is None else slots.view(connection, self.study, row, self._initial, material)

        view = self.study.database.read(look)
        if view is not None:
            assert reached.rung_score is not None
            view = standing_still(having_reached(view, claim.slot, reached.epoch, reached.rung_score), claim.slot)
            self.strategy.judge(
                Reached(self.study.spec, reached.epoch, reached.comparable, None, slot=claim.slot, view=view)
            )

    def _weighed(self, connection: sa.Connection, claim: Claim, reached: EpochMetrics, hours: float | None) -> Decision:
        """Have a strategy that pauses look at all trials, under the lock of the budget, from which it takes epochs."""
        row, material = budget.lock(connection, self.study.id), self._material()
        if row is None or material is None:
            return Decision("keep", reached)
        view = standing_still(slots.view(connection, self.study, row, self._initial, material), claim.slot)
        left = None if hours is None else hours - budget.seconds(connection, self.study.id) / 3600
        found = self.strategy.judge(
            Reached(self.study.spec, reached.epoch, reached.comparable, left, slot=claim.slot, view=view)
        )
        if found.why:
            kind: moves.Kind = "pause" if found.fate == "pause" else "resume"
            moves.add(connection, self.study.id, claim.slot, kind, reached.epoch, found.why)
        return Decision(found.fate, reached)

    def _give_back(self, slot: str, token: str, reason: Reason | None, message: str) -> None:
        def work(connection: sa.Connection) -> None:
            if lease.drop(connection, slot, token) and reason is not None:
                progress.write_down(connection, slot, reason, message)

        self.study.database.write(work)

    def _begin(self, reserved: Reserved) -> Claim | SearchEnded | None:
        """Start or go on with the trial of a slot; None when the slot was lost or its trial cannot be."""
        self._proposals.read_news()
        enqueued = None if reserved.number is None else self._proposals.by_number(reserved.number)
        if reserved.running:
            if enqueued is None:
                self._settle(reserved)
                return None
            return self._restart(reserved, enqueued)
        if reserved.repeat is not None:
            return self._start_repeat(reserved, reserved.repeat)
        if reserved.number is not None:
            if enqueued is None:
                self.study.database.write(lambda c: self._unlink(c, reserved))
                return None
            asked = enqueued.system_attrs.get(optuna_rows.FIXED_PARAMS_ATTR, {})
            fixed = parameters.completed(self._proposals.space, asked)
            if isinstance(fixed, str):
                self._refuse(reserved, enqueued, fixed)
                return None
            drawn = self._proposals.asked_for(reserved.slot, reserved.position, fixed)
            return self._start(reserved, drawn, enqueued)
        found = self._proposals.untried(reserved.slot, reserved.position, reserved.params)
        return self._used_up(reserved) if found is None else self._start(reserved, found, None)

    def _used_up(self, reserved: Reserved) -> SearchEnded:
        """Leave a slot to whom there may be something to train for later, and say why there is nothing now."""
        self._give_back(reserved.slot, reserved.token, None, "")
        n, size = self._proposals.n_in_training, self._proposals.size
        if n:
            are = "the last is" if n == 1 else f"the last {n} are"
            return SearchEnded(
                EndReason.HELD_ELSEWHERE, f"of the {size} settings of the space {are} in training elsewhere"
            )
        what = "grid" if isinstance(self.study.spec.sampler, GridSpec) else "search space"
        some = f"the one setting of the {what} is" if size == 1 else f"all {size} settings of the {what} are"
        seeds = (
            ""
            if self.study.spec.space.seed is not None
            else "; space.seed = [0, 1, 2] in a new study tries other seeds"
        )
        return SearchEnded(EndReason.SPACE_USED_UP, f"{some} trained, and a training repeats bit for bit{seeds}")

    def _start(self, reserved: Reserved, drawn: FrozenTrial, enqueued: FrozenTrial | None) -> Claim | None:
        """Write the RUNNING trial; return None when the slot is no longer ours, or somebody else took the trial."""
        attrs = {SLOT_ATTR: reserved.slot}

        def work(connection: sa.Connection) -> tuple[int, int, Branch | None] | None:
            if not lease.renew(connection, reserved.slot, reserved.token, self.lease_seconds):
                return None
            row = connection.execute(_STATE, {"slot": reserved.slot}).one()
            if row.state == "running":
                # A commit whose answer was lost.
                found = self._find(connection, reserved.slot)
                branch = trunks.of_slot(connection, reserved.slot)
                return None if found is None else (found.trial_id, found.number, branch)
            optuna_rows.lock_numbers(connection, self.study.optuna_id)
            if not self.study.home.check(connection):
                return None
            if enqueued is None and self._proposals.taken_meanwhile(connection, drawn):
                self._unlink(connection, reserved)
                return None
            if enqueued is None:
                trial_id, number = optuna_rows.create(connection, self.study.optuna_id, drawn, attrs)
            else:
                trial_id, number = optuna_private.trial_id(enqueued), enqueued.number
                if not optuna_rows.adopt(connection, self.study.optuna_id, enqueued, drawn, attrs):
                    self._unlink(connection, reserved)
                    return None
            config = parameters.config(self.study.spec, drawn.params)
            self._mark_running(connection, reserved, number, config)
            return trial_id, number, trunks.begin(connection, self.study, reserved.slot, trial_id, config)

        started = self.study.database.write(work)
        if started is None:
            return None
        trial_id, number, branch = started
        return self._claim(reserved, trial_id, number, drawn.params, () if branch is None else branch.metrics, branch)

    def _start_repeat(self, reserved: Reserved, repeat: Repeat) -> Claim | None:
        """Write the RUNNING trial of a confirmation, beside that of the search which it repeats."""
        attrs = {SLOT_ATTR: reserved.slot, ROLE_ATTR: Role.CONFIRM.value, "seed": repeat.seed}

        def work(connection: sa.Connection) -> tuple[int, int, FrozenTrial] | None:
            if not lease.renew(connection, reserved.slot, reserved.token, self.lease_seconds):
                return None
            drawn = self._proposals.repeated(connection, repeat.parent)
            if connection.execute(_STATE, {"slot": reserved.slot}).one().state == "running":
                # A commit whose answer was lost.
                found = self._find(connection, reserved.slot)
                return None if found is None else (found.trial_id, found.number, drawn)
            optuna_rows.lock_numbers(connection, self.study.optuna_id)
            if not self.study.home.check(connection):
                return None
            trial_id, number = optuna_rows.create(connection, self.study.optuna_id, drawn, attrs)
            self._mark_running(connection, reserved, number)
            return trial_id, number, drawn

        started = self.study.database.write(work)
        if started is None:
            return None
        trial_id, number, drawn = started
        return self._claim(reserved, trial_id, number, drawn.params, ())

    def _unlink(self, connection: sa.Connection, reserved: Reserved) -> None:
        """Open the slot of an enqueued trial for whatever comes next: another program, or worker, was quicker."""
        if lease.drop(connection, reserved.slot, reserved.token):
            unlinked = {"number": None, "origin": "sampler"}
            connection.execute(slot_rows.update().where(slot_rows.c.id == reserved.slot).values(unlinked))

    def _restart(self, reserved: Reserved, trial: FrozenTrial) -> Claim | None:
        """Go on with an interrupted trial."""

        def work(connection: sa.Connection) -> tuple[list[Any], Branch | None] | None:
            if not lease.renew(connection, reserved.slot, reserved.token, self.lease_seconds):
                return None
            self._mark_running(connection, reserved, trial.number)
            accepted = list(connection.execute(_ACCEPTED, {"slot": reserved.slot}).all())
            return accepted, trunks.of_slot(connection, reserved.slot)

        found = self.study.database.write(work)
        if found is None:
            return None
        accepted, branch = found
        metrics = tuple(progress.metrics(row) for row in accepted)
        return self._claim(reserved, optuna_private.trial_id(trial), trial.number, trial.params, metrics, branch)

    def _claim(
        self,
        reserved: Reserved,
        trial_id: int,
        number: int,
        params: Mapping[str, Any],
        metrics: tuple[EpochMetrics, ...],
        branch: Branch | None = None,
    ) -> Claim:
        repeat = reserved.repeat
        config = (
            parameters.config(self.study.spec, params)
            if repeat is None
            else parameters.config_of(repeat.setting, repeat.seed)
        )
        trial = Trial(
            number=number,
            config=config,
            state=State.RUNNING,
            outcome=None,
            metrics=metrics,
            worker=str(self.holder),
            device=self.device,
            versions=self._versions,
            origin=reserved.origin,
            role=Role.SEARCH if repeat is None else Role.CONFIRM,
            parent=repeat.parent if repeat is not None else None if branch is None else branch.parent,
            shared_epochs=0 if branch is None else branch.shared,
            params=dict(params),
        )
        return Claim(
            trial,
            reserved.slot,
            reserved.token,
            trial_id,
            reserved.running,
            reserved.attempts,
            reserved.checkpoint,
            why=reserved.why,
            stood_still=reserved.stood_still,
            trunk=None if branch is None else branch.artifact,
        )

    def _mark_running(
        self, connection: sa.Connection, reserved: Reserved, number: int, config: TrialConfig | None = None
    ) -> None:
        more: dict[str, Any] = {} if config is None else {"seed": config.seed}
        if config is not None and self.strategy.reads_curves:
            more |= {"setting": parameters.setting_json(config)}
        connection.execute(_RUN, {"slot": reserved.slot, "number": number, **self._me.columns, **more})

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

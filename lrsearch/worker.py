"""One worker's loop, where PyTorch (``training/``) meets Optuna and SQL (``store/``): claim, train, report, tell."""

import hashlib
import logging
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lrsearch import cores
from lrsearch.domain import Choice, Fixed, high_end
from lrsearch.errors import StorageError
from lrsearch.events import (
    EndReason,
    EpochDone,
    Event,
    SearchEnded,
    TrialEnded,
    TrialInterrupted,
    TrialStarted,
    Waiting,
)
from lrsearch.spec import parameters, starts
from lrsearch.spec.loop import LoopSpec
from lrsearch.spec.study import StudySpec
from lrsearch.store import portfolio
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.claims import Claim, Claims, Decision
from lrsearch.store.keeper import Due, Keeper, Leave
from lrsearch.store.study import Study
from lrsearch.strategy import branches
from lrsearch.strategy.strategy import OVER
from lrsearch.training import data, device, own_networks, preflight, settling, weights
from lrsearch.training.data import ImageSplits
from lrsearch.training.engine import CheckpointError, Engine, Paused, Training
from lrsearch.training.loop import look
from lrsearch.training.loop.engine import LoopEngine
from lrsearch.training.loop.faults import LoopError
from lrsearch.training.loop.run import LoopRules
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, Outcome, Reason, Role, State, Trial

log = logging.getLogger(__name__)

LEAST_WAIT_SECONDS = 0.05
WAIT_SECONDS = 5.0
"""Between two looks at whether others have lost what they train."""


class Leaving:
    """What a training looks at that nobody keeps: it ends where the process is asked to leave."""

    def __init__(self, leave: Leave) -> None:
        self._leave = leave

    def is_set(self) -> bool:
        """Whether to leave."""
        return self._leave.asked

    def ends(self) -> bool:
        """Whether to leave."""
        return self._leave.asked


def build_engine(
    spec: StudySpec, *, device_name: str = "auto", threads: int | None = None, data_dir: Path | None, progress: bool
) -> Engine:
    """Return the engine of a study, its images loaded onto the device.

    Args:
        spec: the study.
        device_name: ``auto``, or a device as PyTorch names it.
        threads: CPU threads of this process; None chooses by the size of the model.
        data_dir: the folder that holds the data sets, or None for the user's cache.
        progress: whether a download shows its progress on stderr.

    Raises:
        DeviceError: no such device.
        DataError: the images are missing or corrupt, or not those that the study was filed with.
    """
    if spec.loop is not None:
        return build_loop(spec, spec.loop, device_name, threads)
    where = device.resolve(device_name)
    device.prepare(where, threads or device.threads_for(spec.model.name))
    model = model_config(spec)
    origin = weights.origin(model)
    splits = _images(spec, origin, data_dir, progress=progress)
    facts = splits.facts()  # before they leave the CPU
    if not spec.is_published:
        facts = replace(facts, network=preflight.look(model, facts.shape, len(facts.classes)))
    spec.check_facts(facts)
    metric = None if spec.metric.measure is None else spec.metric.name
    rules = Rules(
        spec.training.drop_last,
        spec.training.divergence_watch,
        spec.averaging,
        metric,
        spec.training.class_weights or None,
        spec.decay_matrices or None,
        augment=spec.augmented(facts.shape, facts.classes),
    )
    engine = SerialEngine(splits, model, where, rules, facts, stream=not data.fits(splits, where))
    settling.begin(engine, spec)
    return engine


def settle(study: Study, engine: Engine) -> Study:
    """Return the study with how its trainings compute, as whoever came first has filed it, and have the engine do so.

    Raises:
        DeviceError: the device cannot.
    """
    if not isinstance(engine, SerialEngine):
        return study
    spec, here = study.spec, engine.facts.arithmetic
    if spec.facts.arithmetic is None and spec.training.leaves_open:
        here = settling.settle(engine, spec.training, int(high_end(spec.space.batch_size)))
    if here is not None and here != spec.facts.arithmetic:
        study = study.settled(here)
    filed = study.spec.facts.arithmetic
    if filed is not None and filed != engine.facts.arithmetic:
        settling.follow(engine, study.spec, filed)
    return study


def build_loop(spec: StudySpec, loop: LoopSpec, device_name: str, threads: int | None) -> LoopEngine:
    """Return the engine of a study whose trainings are a person's own loop; a few of its updates are tried first.

    Raises:
        DeviceError: no such device.
        StudyFileError: the loop is not to be found, or does not keep to what lrsearch needs of it.
        IdentityError: it is not that with which the study was filed.
    """
    where = device.resolve(device_name)
    device.set_threads(threads or cores.share(1))
    rules = LoopRules(spec.metric, spec.averaging, spec.training.divergence_watch, spec.decay_matrices)
    function = own_networks.found(loop.own, "loop.name")
    known = spec.measured_facts
    if known is None:
        first = next(iter(portfolio.initial(spec)), None)
        config = parameters.config(spec, starts.neutral(spec.space) if first is None else first.params)
        batch = spec.space.batch_size
        sizes = batch.values if isinstance(batch, Choice) else [batch.value] if isinstance(batch, Fixed) else []
        facts = look.look(
            function,
            loop,
            config,
            lambda facts: spec.measured(facts).steps_per_epoch(config.batch_size),
            [int(size) for size in sizes],
            rules,
            where,
        )
    else:
        assert known.network is not None
        facts = replace(known, network=replace(known.network, code=function.sha256))
    spec.check_facts(facts)
    return LoopEngine(function, dict(loop.args or {}), spec.measured(facts).steps_per_epoch, where, rules, facts)


def model_config(spec: StudySpec) -> ModelConfig:
    """Return what a study says of its model."""
    model = spec.model
    return ModelConfig(
        model.name, model.hidden, model.weights, model.init_from, model.stem, model.freeze, model.args, model.loss
    )


def _images(spec: StudySpec, origin: weights.Origin | None, data_dir: Path | None, *, progress: bool) -> ImageSplits:
    dataset = spec.dataset
    if dataset.own is not None:
        return data.load_own(dataset, spec.scaling, origin, data_dir, progress=progress)
    return data.load(
        data.DataConfig(
            name=dataset.name,
            limit=dataset.limit,
            validation_fraction=dataset.validation_fraction,
            split_seed=dataset.split_seed,
            scaling=spec.scaling,
            origin=origin,
        ),
        data_dir,
        progress=progress,
    )


def work(
    claims: Claims,
    engine: Engine,
    keeper: Keeper,
    artifacts: Artifacts,
    *,
    wait: bool = False,
    before: Callable[[], None] | None = None,
) -> Generator[Event]:
    """Train one trial after another until the study has no more to give; closing it gives the trial in hand back.

    Args:
        claims: the study's.
        engine: what trains.
        keeper: keeps the leases; says when to leave.
        artifacts: where checkpoints and weights go.
        wait: whether to stay while others train what is left, to take over what they lose.
        before: called before each claim, while nothing is in training.
    """
    waited = 0.0
    while True:
        if keeper.leave.asked:
            yield _left(keeper)
            return
        if before is not None:
            before()
        claim = claims.claim()
        if isinstance(claim, SearchEnded):
            if not wait or claim.reason != EndReason.HELD_ELSEWHERE:
                for name in claims.release_trunks() if claim.reason in OVER else ():
                    artifacts.remove(name)
                yield claim
                return
            if not waited:
                yield Waiting(claim.message)
            # Soon at first: most often somebody else's last trial is nearly over.
            pause = min(max(LEAST_WAIT_SECONDS, waited / 4), WAIT_SECONDS, claims.lease_seconds / 4)
            keeper.leave.wait(pause)
            waited += pause
            continue
        waited = 0.0
        yield from _Attempt(claims, engine, keeper, artifacts, claim).events()


def _left(keeper: Keeper) -> SearchEnded:
    how = "interrupted" if keeper.leave.reason == Reason.INTERRUPTED else "asked to leave"
    return SearchEnded(EndReason.LEFT, f"this worker was {how}; what it had in hand is kept")


class _Attempt:
    """One attempt at one trial."""

    def __init__(self, claims: Claims, engine: Engine, keeper: Keeper, artifacts: Artifacts, claim: Claim) -> None:
        self._claims, self._engine, self._keeper, self._artifacts = claims, engine, keeper, artifacts
        self._claim = claim
        self._spec = claims.study.spec
        self._number = claim.trial.number
        self._last = claim.trial.metrics[-1] if claim.trial.metrics else None
        self._checkpoint = claim.checkpoint
        self._training: Training | None = None
        searches = claim.trial.role == Role.SEARCH
        self._trunk_epochs = branches.worth_keeping(self._spec, claim.trial.config) if searches else ()
        self._held = True

    def events(self) -> Generator[Event]:
        """Train the trial, from its last checkpoint if it has one, until it ends or is given back."""
        try:
            yield TrialStarted(self._claim.trial, self._claim.resumed, self._claim.why)
            with self._keeper.watching(self._claim):
                outcome = yield from self._train()
                if outcome is not None:
                    yield from self._end(outcome)
        finally:
            if self._held:
                # Closed from outside, or an error of the database, which then is the one to be told.
                with suppress(StorageError):
                    self._claims.release(self._claim, self._keeper.leave.reason or Reason.INTERRUPTED)

    def _train(self) -> Generator[Event, None, Outcome | None]:
        """Return the outcome, or None when the trial is no longer in hand."""
        if (decision := self._judged_again()) is not None:
            over, outcome = yield from self._done_with(decision)
            if over:
                return outcome
        epochs: Iterator[EpochMetrics | Divergence | Paused] | None = None
        while True:
            try:
                with self._keeper.training():
                    if epochs is None:
                        self._training = self._start()
                        epochs = None if self._training is None else self._training.epochs()
                    measured = None if epochs is None else next(epochs, None)
            except (StorageError, LoopError):
                raise
            except Exception as error:
                return _failure(error, self._last)
            if epochs is None:
                yield from self._drop()
                return None
            if measured is None:
                assert self._last is not None
                return _complete(self._spec, self._last)
            if isinstance(measured, Divergence):
                return _diverged(measured, self._last)
            if isinstance(measured, EpochMetrics):
                over, outcome = yield from self._reached(measured)
                if over:
                    return outcome
                if measured.epoch == self._spec.epochs:
                    continue
            step = measured.step
            due = self._keeper.due()
            if due == Due.TIMED_OUT:
                return self._timed_out()
            if due == Due.LOST:
                yield from self._drop()
                return None
            if due in (Due.CHECKPOINT, Due.RELEASE) and not self._keep_state(step):
                yield from self._drop()
                return None
            if due == Due.RELEASE:
                yield from self._release()
                return None

    def _judged_again(self) -> Decision | None:
        """Return the verdict on the last epoch of a trial that was interrupted: it may have been lost."""
        if self._claim.stood_still or self._claim.accepted <= self._claim.trial.shared_epochs:
            return None
        return self._claims.judge(self._claim)

    def _reached(self, measured: EpochMetrics) -> Generator[Event, None, tuple[bool, Outcome | None]]:
        """Report an epoch; return whether the attempt is over, and the outcome where the trial is."""
        if measured.epoch <= self._claim.accepted:
            # Trained again since the last checkpoint; the study has it.
            yield EpochDone(self._number, measured, again=True)
            self._keep_trunk(measured.epoch)
            return False, None
        self._last = measured
        decision = self._claims.accept(self._claim, measured)
        if decision.outcome is not None:
            yield from self._told_elsewhere(decision.outcome)
            return True, None
        if decision.kind != "lost":
            yield EpochDone(self._number, decision.epoch)
            self._keep_trunk(measured.epoch)
        return (yield from self._done_with(decision))

    def _done_with(self, decision: Decision) -> Generator[Event, None, tuple[bool, Outcome | None]]:
        """Do what was decided about an epoch; return whether the attempt is over, and the outcome if the trial is."""
        if decision.kind == "lost":
            yield from self._drop()
            return True, None
        if decision.kind == "pause":
            yield from self._pause(decision.epoch)
            return True, None
        outcome = self._ending(decision)
        return outcome is not None, outcome

    def _start(self) -> Training | None:
        """Return the training, from the last checkpoint if there is one; None when the trial is no longer ours."""
        config, attention = self._claim.trial.config, self._keeper
        checkpoint = self._checkpoint or self._claim.trunk
        if checkpoint is not None:
            stored = self._artifacts.get(checkpoint)
            if stored is None:
                if not self._claims.holds(self._claim):
                    # The worker that has taken it over went on from there, and removed it.
                    return None
                log.warning(
                    "trial %d: its checkpoint is not in %s; it starts again", self._number, self._artifacts.where
                )
            else:
                try:
                    return self._engine.start(config, stored, attention)
                except CheckpointError as error:
                    log.warning("trial %d: %s", self._number, error)
        if self._claim.resumed and self._spec.loop is not None and self._checkpoint is None:
            log.warning(
                "trial %d: nothing was kept of it, so it starts again; a loop that calls run.resume() goes on",
                self._number,
            )
        return self._engine.start(config, None, attention)

    def _keep_state(self, step: int) -> bool:
        """Keep the state of the training; False when the trial is no longer ours."""
        assert self._training is not None
        content = self._training.checkpoint()
        if content is None:
            return self._claims.holds(self._claim)
        name = self._artifacts.put(content, self._claims.study.id, "checkpoint")
        ours = self._claims.checkpointed(self._claim, name, step)
        unused = self._checkpoint if ours else name
        if ours:
            self._checkpoint = name
            self._keeper.checkpointed()
        if unused is not None:
            self._artifacts.remove(unused)
        return ours

    def _keep_trunk(self, epoch: int) -> None:
        """Keep the state of the training after an epoch that a trial with another schedule may have in common."""
        assert self._training is not None
        if epoch not in self._trunk_epochs or (content := self._training.checkpoint()) is None:
            return
        name = self._artifacts.put(content, self._claims.study.id, "trunk")
        if not self._claims.keep_trunk(self._claim, epoch, name):
            self._artifacts.remove(name)

    def _ending(self, decision: Decision) -> Outcome | None:
        reached = decision.epoch
        if decision.kind == "prune":
            message = f"pruned at epoch {reached.epoch}: {_against_the_cut(self._spec, reached)}"
            return Outcome(State.PRUNED, Reason.RUNG, reached.rung_score, reached.epoch, message=message)
        if decision.kind in ("out_of_budget", "out_of_epochs"):
            what = "hours" if decision.kind == "out_of_budget" else "epochs"
            message = f"ended at epoch {reached.epoch}: the {what} of the budget are used up"
            return Outcome(State.PRUNED, Reason.BUDGET, reached.rung_score, reached.epoch, message=message)
        return None

    def _timed_out(self) -> Outcome:
        message = f"trained for longer than workers.trial_seconds = {self._spec.workers.trial_seconds:g}"
        return Outcome(State.FAILED, Reason.TIMED_OUT, None, self._last.epoch if self._last else 0, message=message)

    def _drop(self) -> Generator[Event]:
        self._held = False
        yield TrialInterrupted(self._number, Reason.LOST, "it is no longer in this worker's hands")

    def _told_elsewhere(self, outcome: Outcome) -> Generator[Event]:
        self._held = False
        if self._checkpoint is not None:
            self._artifacts.remove(self._checkpoint)
        yield TrialEnded(self._number, outcome)

    def _pause(self, reached: EpochMetrics) -> Generator[Event]:
        """Let the trial stand still, its state kept."""
        # Where nothing is loaded yet the state that is kept is that of before, from which it goes on likewise.
        kept = self._training is None or self._keep_state(reached.step)
        if not (kept and self._claims.pause(self._claim, reached.epoch)):
            yield from self._drop()
            return
        self._held = False
        yield TrialInterrupted(self._number, Reason.PAUSED, f"at epoch {reached.epoch}")

    def _release(self) -> Generator[Event]:
        reason = self._keeper.leave.reason or Reason.PREEMPTED
        message = "the study was stopped" if self._keeper.stopped else "its worker was asked to leave"
        self._claims.release(self._claim, reason, message)
        self._held = False
        yield TrialInterrupted(self._number, reason, message)

    def _end(self, outcome: Outcome) -> Generator[Event]:
        weights, digest, right = None, None, None
        if outcome.state == State.COMPLETE and self._training is not None:
            content, right = self._training.weights(), self._training.validation_right()
            digest = None if content is None else hashlib.sha256(content).hexdigest()
            if content is not None and self._claims.would_be_best(self._claim, outcome):
                weights = self._artifacts.put(content, self._claims.study.id, "safetensors")
        claim = replace(self._claim, checkpoint=self._checkpoint)
        told = self._claims.end(claim, outcome, weights, digest, right)
        self._held = False
        for name in told.unused if told.accepted else (weights,):
            if name is not None:
                self._artifacts.remove(name)
        if not told.accepted:
            yield from self._drop()
        elif told.outcome is not None:
            yield TrialEnded(self._number, told.outcome)
        elif told.starts_again:
            yield TrialInterrupted(self._number, outcome.reason, outcome.message)
        else:
            yield TrialEnded(self._number, outcome)


def _against_the_cut(spec: StudySpec, reached: EpochMetrics) -> str:
    score = math.nan if reached.rung_score is None else reached.rung_score
    if reached.cut is None or not math.isfinite(score):
        return f"its score is {score:.4g}"
    side = "below" if spec.metric.direction == "maximize" else "above"
    return f"{score:.4g} {side} rung cut {reached.cut:.4g}"


def _complete(spec: StudySpec, last: EpochMetrics) -> Outcome:
    value = spec.metric.of(last)
    # A person's own loop need not tell its losses, and has been ended where it told one that is not finite.
    if spec.loop is None and not (math.isfinite(last.val_loss) and math.isfinite(last.train_loss)):
        message = f"diverged in epoch {last.epoch}, lr {last.lr:.3g}: loss not finite"
        return Outcome(State.DIVERGED, Reason.NOT_FINITE, None, last.epoch, last.step - 1, last.lr, message)
    return Outcome(State.COMPLETE, Reason.FINISHED, value, last.epoch, message=f"complete {value:.4g}")


def _diverged(found: Divergence, last: EpochMetrics | None) -> Outcome:
    how, loss = "diverged", f"loss {found.loss:.3g}"
    match found.reason:
        case Reason.OVERFLOWING:
            how = "overflowing"
            why = f"{found.left_out} of its updates were left out, because their gradients are not finite in fp16"
        case Reason.COLLAPSED:
            how, why = "collapsed", f"a guess for every image, {loss}"
        case Reason.NOT_FINITE:
            why = f"loss {found.loss}"
        case _:
            why = f"{loss}, initially {found.initial_loss:.3g}"
    message = f"{how} at step {found.step}, lr {found.lr:.3g}: {why}"
    done = last.epoch if last else 0
    return Outcome(State.DIVERGED, found.reason, None, done, found.step, found.lr, message)


def _failure(error: Exception, last: EpochMetrics | None) -> Outcome:
    reason = Reason.OUT_OF_MEMORY if device.is_out_of_memory(error) else Reason.CRASH
    first = str(error).strip().splitlines()[0] if str(error).strip() else ""
    message = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return Outcome(State.FAILED, reason, None, last.epoch if last else 0, message=message)


def kept_weights(study: Study, trial: Trial, artifacts: Artifacts) -> bytes | None:
    """Return the last weights of a trial as they were kept, or None where they were not, or are not what they were."""
    name, digest = study.weights_of(trial.number)
    content = None if name is None else artifacts.get(name)
    if content is None:
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        log.warning("the weights of trial %d in %s are damaged: not used", trial.number, artifacts.where)
        return None
    return content

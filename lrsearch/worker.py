"""The only file that sees both rooms: claim, train, report, tell."""

import math
from collections.abc import Generator, Iterator
from pathlib import Path

from lrsearch.events import EpochDone, Event, SearchEnded, TrialEnded, TrialStarted
from lrsearch.search.claims import Claim, Claims
from lrsearch.spec import StudySpec
from lrsearch.training import data, device
from lrsearch.training.engine import Engine
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, Outcome, Reason, State


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
        DataError: the images are missing or corrupt.
    """
    where = device.resolve(device_name)
    dataset = spec.dataset
    splits = data.load(
        data.DataConfig(
            name=dataset.name,
            limit=dataset.limit,
            validation_fraction=dataset.validation_fraction,
            split_seed=dataset.split_seed,
            scaling=dataset.scaling,
        ),
        data_dir,
        progress=progress,
    )
    device.prepare(where, threads or device.threads_for(spec.model.name))
    rules = Rules(spec.training.drop_last, spec.training.divergence_watch, spec.averaging)
    return SerialEngine(splits, ModelConfig(spec.model.name, spec.model.hidden), where, rules)


def work(claims: Claims, engine: Engine) -> Generator[Event]:
    """Train one trial after another until the study has no more to give; closing it gives the trial in hand back."""
    while True:
        claim = claims.claim()
        if isinstance(claim, SearchEnded):
            yield claim
            return
        held = True
        try:
            yield TrialStarted(claim.trial, claim.resumed)
            outcome = yield from _train(claims, engine, claim)
            told = outcome is not None and claims.end(claim, outcome)
            held = False
            if outcome is not None and told:
                yield TrialEnded(claim.trial.number, outcome)
        finally:
            if held:
                claims.release(claim)


def _train(claims: Claims, engine: Engine, claim: Claim) -> Generator[Event, None, Outcome | None]:
    """Train one trial; return its outcome, or None when it was lost to another worker."""
    spec = claims.study.spec
    last: EpochMetrics | None = None
    score: float | None = None
    epochs: Iterator[EpochMetrics | Divergence] | None = None
    while True:
        try:
            # The model is built, and memory may run out, before the first epoch.
            epochs = engine.train(claim.trial.config) if epochs is None else epochs
            measured = next(epochs, None)
        except Exception as error:
            return _failure(error, last)
        if measured is None:
            assert last is not None
            return _complete(spec, last)
        if isinstance(measured, Divergence):
            return _diverged(measured, last)
        last = measured
        answer = claims.accept(claim, measured)
        if answer.kind == "lost":
            return None
        score = answer.rung_score
        yield EpochDone(claim.trial.number, measured, score)
        if answer.kind == "prune":
            message = f"pruned at epoch {measured.epoch}: {_against_the_cut(spec, score, answer.verdict.cut)}"
            return Outcome(State.PRUNED, Reason.RUNG, score, measured.epoch, message=message)
        if answer.kind == "out_of_budget":
            message = f"ended at epoch {measured.epoch}: the hours of the budget are used up"
            return Outcome(State.PRUNED, Reason.BUDGET, score, measured.epoch, message=message)


def _against_the_cut(spec: StudySpec, score: float, cut: float | None) -> str:
    if cut is None or not math.isfinite(score):
        return f"its score is {score:.4g}"
    return f"{score:.4g} {'below' if spec.objective.direction == 'maximize' else 'above'} rung cut {cut:.4g}"


def _complete(spec: StudySpec, last: EpochMetrics) -> Outcome:
    value = last.val_accuracy if spec.objective.metric == "accuracy" else last.val_loss
    if not math.isfinite(last.val_loss) or not math.isfinite(last.train_loss):
        message = f"diverged in epoch {last.epoch}, lr {last.lr:.3g}: loss not finite"
        return Outcome(State.DIVERGED, Reason.NOT_FINITE, None, last.epoch, last.step - 1, last.lr, message)
    return Outcome(State.COMPLETE, Reason.FINISHED, value, last.epoch, message=f"complete {value:.4g}")


def _diverged(found: Divergence, last: EpochMetrics | None) -> Outcome:
    finite = math.isfinite(found.loss)
    what = f"loss {found.loss:.3g}, initially {found.initial_loss:.3g}" if finite else f"loss {found.loss}"
    return Outcome(
        State.DIVERGED,
        Reason.LOSS_ABOVE_INITIAL if finite else Reason.NOT_FINITE,
        None,
        last.epoch if last else 0,
        found.step,
        found.lr,
        f"diverged at step {found.step}, lr {found.lr:.3g}: {what}",
    )


def _failure(error: Exception, last: EpochMetrics | None) -> Outcome:
    reason = Reason.OUT_OF_MEMORY if device.is_out_of_memory(error) else Reason.CRASH
    first = str(error).strip().splitlines()[0] if str(error).strip() else ""
    message = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return Outcome(State.FAILED, reason, None, last.epoch if last else 0, message=message)

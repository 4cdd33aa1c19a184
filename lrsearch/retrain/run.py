"""Train the setting of a trial once more, for keeps: into a folder, resumable, judged once on the test images.

The study is read before and not needed any more. PyTorch is loaded by ``prepare``.
"""

import hashlib
import re
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lrsearch import families, layer_rates, loading, schedules
from lrsearch.analysis.precision import accuracy_error
from lrsearch.errors import DeviceError, LrsearchError, UsageError
from lrsearch.retrain import record
from lrsearch.retrain.folder import TrainingFolder
from lrsearch.retrain.record import (
    Brought,
    Built,
    Epoch,
    Judged,
    Normalization,
    On,
    Progress,
    Recipe,
    Repeated,
    Site,
    Trained,
    TrainedLevel,
)
from lrsearch.spec.study import StudySpec
from lrsearch.store.keeper import Leave
from lrsearch.store.study import Study
from lrsearch.trial import Arithmetic, Divergence, EpochMetrics, Reason, State, Trial
from lrsearch.version import __version__

if TYPE_CHECKING:
    from lrsearch.training.serial import Scores, SerialEngine, SerialTraining


@dataclass(frozen=True, slots=True)
class Job:
    """A recipe with what it was made from."""

    order: Recipe
    spec: StudySpec
    trial: Trial


def job(study: Study, trial: Trial, on: On, *, seed: int | None = None, epochs: int | None = None) -> Job:
    """Return what is to be trained, with another seed or another number of epochs where they are given.

    Raises:
        UsageError: on all images a schedule that follows the validation loss.
    """
    if on == "train+validation" and families.of(trial.config.schedule).feedback:
        raise UsageError(
            f"trial {trial.number} of '{study.name}' has the schedule plateau, which follows the validation loss and "
            f"needs images to validate on: add --on train"
        )
    config = trial.config
    config = replace(
        config, seed=config.seed if seed is None else seed, epochs=config.epochs if epochs is None else epochs
    )
    return Job(Recipe(study.name, study.id, trial.number, on, config), study.spec, trial)


@dataclass(frozen=True, slots=True)
class Begun:
    """The training begins, or goes on from ``step``."""

    n_images: int
    n_validation: int
    """0 where none is left."""
    step: int
    begun_at: Site | None
    """Where the part before ``step`` was trained, if elsewhere: the weights may then differ in their last bits."""
    training: "SerialTraining"
    """Its ``step``, ``n_steps`` and ``lr`` may be looked at while it is trained."""


def prepare(job: Job, *, device: str, threads: int | None, data_dir: Path | None, progress: bool) -> "SerialEngine":
    """Load PyTorch and the images; ``progress``: whether a download shows itself on stderr.

    As searched means with as many threads as well, if that was on a CPU: the last bits depend on it.

    Raises:
        DeviceError: no such device.
        DataError: the images are missing or corrupt.
    """
    loading.load_pytorch()
    from lrsearch import worker
    from lrsearch.training.serial import SerialEngine

    job.spec.check_has_images()
    if job.order.on == "train" and (as_then := re.fullmatch(r"cpu \((\d+) threads?\)", job.trial.device)):
        threads = threads or int(as_then[1])
    engine = worker.build_engine(job.spec, device_name=device, threads=threads, data_dir=data_dir, progress=progress)
    assert isinstance(engine, SerialEngine)
    return engine if job.order.on == "train" else engine.on_all_images()


def train(
    job: Job,
    engine: "SerialEngine",
    folder: TrainingFolder,
    leave: Leave,
    so_far: Progress,
    checkpoint: bytes | None,
) -> Generator[Begun | EpochMetrics, None, Trained | None]:
    """Train into the folder, which this process has for itself; None when it was asked to leave: the state is kept.

    Raises:
        LrsearchError: the training diverged, or the checkpoint is of no use.
        DeviceError: memory ran out.
        StorageError: the folder cannot be written.
    """
    from lrsearch.training.device import is_out_of_memory
    from lrsearch.training.engine import CheckpointError

    attention = _Attention(leave, job.spec.workers.checkpoint_seconds)
    try:
        training = engine.start(job.order.config, checkpoint, attention)
    except CheckpointError as error:
        raise LrsearchError(
            f"the training in {folder.path} cannot go on: {error} (train anew in its place with --force)"
        ) from None
    place = Site(engine.device, engine.versions)
    places = (*so_far.places, *(() if place in so_far.places else (place,)))
    so_far = replace(so_far, order=job.order, places=places)
    splits = engine.splits
    begun_at = next((one for one in so_far.places if one != place), None)
    yield Begun(len(splits.train), len(splits.validation), training.step, begun_at, training)
    stream = training.epochs()
    while True:
        try:
            told = next(stream, None)
        except Exception as error:
            if is_out_of_memory(error):
                raise DeviceError(
                    f"the memory of {engine.device} must hold the training and does not: free some, or name another "
                    f"--device; the same command goes on from the last checkpoint"
                ) from None
            raise
        if told is None:
            break
        if isinstance(told, Divergence):
            _diverged(job, folder, told, training.n_steps)
        if isinstance(told, EpochMetrics):
            so_far = replace(so_far, epochs=(*so_far.epochs, record.epoch_of(told)))
            yield told
        # At the end too: whatever ends the process while the test images are judged, nothing is trained twice.
        if attention.due or leave.asked or training.step == training.n_steps:
            record.keep(folder, so_far, training.checkpoint())
            attention.kept()
        if leave.asked and training.step < training.n_steps:
            return None
    return _finish(job, engine, training, folder, so_far)


class _Attention:
    """Asks the training to stand still when its state is to be kept; looked at before every update."""

    def __init__(self, leave: Leave, every_seconds: float) -> None:
        self._leave, self._every = leave, every_seconds
        self._at = time.monotonic() + every_seconds

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._at

    def ends(self) -> bool:
        return self._leave.asked

    def is_set(self) -> bool:
        # Zero is after every epoch, not before every update.
        return self._leave.asked or (self._every > 0 and self.due)

    def kept(self) -> None:
        self._at = time.monotonic() + self._every


def _finish(
    job: Job, engine: "SerialEngine", training: "SerialTraining", folder: TrainingFolder, so_far: Progress
) -> Trained:
    """Judge the weights and write what there is to keep."""
    from datetime import UTC, datetime

    import torch

    from lrsearch.training.checkpoint import with_metadata

    order, spec, splits, last = job.order, job.spec, engine.splits, so_far.epochs[-1]
    if last.train_loss is None:
        # Where the study does not watch for it.
        folder.clear()
        where = f"the loss of epoch {last.epoch}, lr {last.lr:.3g}, is not finite"
        raise LrsearchError(_sentence(job, where, Reason.NOT_FINITE))
    weights = training.weights()
    digest = hashlib.sha256(weights).hexdigest()
    about = {"study": order.study, "study_id": order.study_id, "trial": order.trial, "on": order.on}
    about |= {"model": spec.model.name, "lrsearch": __version__, "torch": torch.__version__, "sha256": digest}
    # What whoever starts from these weights must know of their images: it goes wherever the file goes.
    formula = record.OF_WEIGHTS if spec.scaling == "weights" else record.NORMALIZATION
    scale = Normalization(splits.mean, splits.std, formula)
    about |= {"input_shape": splits.shape, "normalization": {"mean": scale.mean, "std": scale.std}}
    file = with_metadata(weights, about)
    trained = Trained(
        schema=record.SCHEMA,
        order=order,
        schedule=schedules.describe(order.config.schedule),
        model=spec.model.name,
        hidden=spec.model.hidden_resolved,
        input_shape=splits.shape,
        classes=splits.classes,
        normalization=scale,
        n_images=len(splits.train),
        n_validation=len(splits.validation),
        n_steps=training.n_steps,
        test=_judged(training.evaluate(splits.test), len(splits.test)),
        epochs=so_far.epochs,
        places=so_far.places,
        seconds=sum(row.seconds for row in so_far.epochs),
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        weights_sha256=digest,
        file_sha256=hashlib.sha256(file).hexdigest(),
        spec=spec.to_plain(),
        search=_against_search(job, so_far.epochs, digest),
        network=_built(job),
        pictures=None if splits.how is None else Brought(**asdict(splits.how)),
        arithmetic=None if engine.arithmetic == Arithmetic() else engine.arithmetic,
    )
    folder.finish(file, record.to_json(trained))
    return trained


def _judged(test: "Scores", n_images: int) -> Judged | None:
    if not n_images:
        return None
    return Judged(test.accuracy, accuracy_error(test.accuracy, n_images), n_images, record.finite(test.loss))


def _built(job: Job) -> Built | None:
    """Return what builds the model again; None where its name says all."""
    model, network = job.spec.model, job.spec.facts.network
    if network is None:
        return None
    shares = layer_rates.shares(len(network.levels), job.order.config)
    return Built(
        n_parameters=network.n_parameters,
        args=model.args or {},
        code_sha256=network.code,
        weights=model.weights or model.init_from or "",
        weights_sha256=network.weights,
        stem=model.stem or "",
        freeze=model.freeze or (),
        frozen=network.frozen,
        levels=tuple(TrainedLevel(share, names) for share, names in zip(shares, network.levels, strict=True)),
        weight_decay_on="matrices" if job.spec.decay_matrices else "all",
        loss=model.loss or "",
    )


def _against_search(job: Job, epochs: Sequence[Epoch], digest: str) -> Repeated | None:
    trial = job.trial
    if job.order.on != "train" or job.order.config != trial.config or not trial.metrics:
        return None
    then = [replace(record.epoch_of(row), seconds=0.0) for row in trial.metrics]
    now = [replace(row, seconds=0.0) for row in epochs[: len(then)]]
    equal = then == now and trial.weights_sha256 in ("", digest)
    return Repeated(equal, len(then), Site(trial.device, trial.versions), trial.weights_sha256)


def _diverged(job: Job, folder: TrainingFolder, found: Divergence, n_steps: int) -> NoReturn:
    # What is kept would only diverge again.
    folder.clear()
    match found.reason:
        case Reason.COLLAPSED:
            why = f"the same answer for every image, loss {found.loss:.3g}"
        case Reason.OVERFLOWING:
            why = f"{found.left_out} updates were left out, because their gradients are not finite in fp16"
        case Reason.NOT_FINITE:
            why = f"loss {found.loss}"
        case _:
            why = f"loss {found.loss:.3g}, initially {found.initial_loss:.3g}"
    where = f"step {found.step} of {n_steps}, lr {found.lr:.3g}: {why}"
    raise LrsearchError(_sentence(job, where, found.reason))


def _sentence(job: Job, where: str, reason: Reason) -> str:
    as_then = ", as it did in the search" if job.trial.state == State.DIVERGED else ""
    advice = "take a trial with a lower learning rate (`lrsearch best` says what was too high) or another --seed"
    if not reason.blames_the_rate:
        advice = "take a trial of a study in bf16 or fp32 (--set training.precision=auto), or another --seed"
    return f"the training diverged at {where}{as_then}: nothing is kept; {advice}"

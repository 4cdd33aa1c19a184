"""Look at what the weights of a trial make of an image, layer by layer."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lrsearch.errors import LrsearchError, StorageError, UsageError
from lrsearch.pictures.found import SetName
from lrsearch.predict import layers, picture
from lrsearch.predict.traced import Picture, Prediction
from lrsearch.report import study_words
from lrsearch.store import filing
from lrsearch.store.study import Study
from lrsearch.training.checkpoint import load_weights
from lrsearch.training.data import ImageSplits
from lrsearch.training.engine import CheckpointError, Engine
from lrsearch.training.serial import SerialEngine, SerialTraining
from lrsearch.trial import Divergence, State, Trial

_DIGEST_DIGITS = 12
"""Of a SHA-256, where a person reads it."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """An image of the data set."""

    number: int
    """0-based."""
    of: SetName = "test"


@dataclass(frozen=True, slots=True)
class PictureFile:
    """An image from elsewhere."""

    path: Path
    invert: bool = False
    """Whether dark is turned into bright."""


@dataclass(frozen=True, eq=False)
class _Image:
    """The image that was asked for."""

    pixels: torch.Tensor
    """uint8 ``[c, h, w]``, on any device."""
    source: str
    true_class: int | None = None
    notes: tuple[str, ...] = ()


def kept_weights(study: Study, trial: Trial, artifacts: str | None, *, or_none: bool = False) -> bytes | None:
    """Return the last weights of a trial as they were kept; None where they were not, if ``or_none``.

    Raises:
        UsageError: the trial was not trained through, or its weights were not kept.
        StorageError: they were, and are not there any more, or are damaged.
    """
    if trial.state != State.COMPLETE:
        ended = trial.outcome.message or str(trial.state) if trial.outcome is not None else "it is not at its end yet"
        raise UsageError(
            f"predict needs a trial that was trained through, and trial {trial.number} was not: {ended}; "
            f"take another, such as --trial best"
        )
    found = _find(study, trial, artifacts)
    if isinstance(found, bytes):
        return found
    if or_none:
        return None
    raise found


def _find(study: Study, trial: Trial, artifacts: str | None) -> bytes | LrsearchError:
    """Return the weights, or what to say where there are none."""
    name, digest = study.weights_of(trial.number)
    again = "add --retrain to train it again"
    if name is None:
        seconds = sum(row.seconds for row in trial.metrics)
        return UsageError(
            f"the weights of trial {trial.number} of '{study.name}' were not kept, as only those of the best "
            f"are: {again} (it took {seconds:.1f} s), or take --trial best"
        )
    store = filing.artifacts_of(study, artifacts, to_read=True)
    content = store.get(name)
    if content is None:
        return StorageError(
            f"the weights of trial {trial.number} must lie in {store.where} as {name}, where they do not: "
            f"name the right folder with --artifacts, or {again}"
        )
    if hashlib.sha256(content).hexdigest() != digest:
        return StorageError(
            f"the weights of trial {trial.number} must be as they were kept, and {name} in {store.where} is damaged: "
            f"{again}"
        )
    return content


def predict(
    study: Study,
    trial: Trial,
    weights: bytes | None,
    asked: Numbered | PictureFile,
    engine: Engine,
) -> Prediction:
    """Send one image through the model of a complete trial; without ``weights`` the trial is trained again for them.

    Args:
        study: of the trial.
        trial: whose weights.
        weights: as they were kept.
        asked: which image.
        engine: of the study.

    Raises:
        UsageError: there is no such image.
        DataError: a picture file that cannot be read.
        StorageError: weights of another model.
        LrsearchError: the trial cannot be trained through again.
    """
    assert isinstance(engine, SerialEngine)  # the only one there is
    splits = engine.splits
    # First what can be wrong at once; then the training, if it must be.
    image = _image(splits, asked, study_words.source(study.spec.dataset.name))
    model, about = with_weights(study, trial, weights, engine)
    traced = layers.trace(model, splits.normalize(image.pixels.unsqueeze(0).to(splits.device)))
    channels, height, width = image.pixels.shape
    notes = image.notes
    if (precision := engine.arithmetic.precision) != "fp32":
        notes += (f"Its layers are computed in fp32 here, and were in {precision} when it was trained and judged.",)
    return Prediction(
        study=study.name,
        trial=trial.number,
        dataset=study_words.source(study.spec.dataset.name),
        model=study_words.source(study.spec.model.name),
        source=image.source,
        picture=Picture(channels, height, width, image.pixels.cpu().numpy().tobytes()),
        traced=traced,
        classes=splits.classes,
        probabilities=tuple(torch.tensor(traced.output, dtype=torch.float64).softmax(0).tolist()),
        true_class=image.true_class,
        weights=about,
        notes=notes,
    )


def with_weights(study: Study, trial: Trial, weights: bytes | None, engine: SerialEngine) -> tuple[nn.Module, str]:
    """Return the model of a complete trial with its last weights, and in words where they come from.

    Raises:
        StorageError: weights of another model.
        LrsearchError: the trial cannot be trained through again, for want of ``weights``.
    """
    training = engine.start(trial.config)
    if weights is None:
        return training.model, _train(training, trial)
    try:
        load_weights(training.model, weights)
    except CheckpointError as error:
        raise StorageError(f"trial {trial.number} of '{study.name}': {error}") from None
    digest = hashlib.sha256(weights).hexdigest()[:_DIGEST_DIGITS]
    return training.model, f"as the search kept them, sha256 {digest}"


def _train(training: SerialTraining, trial: Trial) -> str:
    """Train a trial through once more; return in words what came of it."""
    for told in training.epochs():
        if isinstance(told, Divergence):
            raise LrsearchError(
                f"trial {trial.number} was trained through and diverged at step {told.step} when it was trained again "
                f"here, where versions or device are others ({trial.device}, {trial.versions}): it has no weights"
            )
    digest = hashlib.sha256(training.weights()).hexdigest()
    same = "equal to the search's" if digest == trial.weights_sha256 else "not equal to the search's (other versions?)"
    return f"trained again, sha256 {digest[:_DIGEST_DIGITS]}, {same}"


def _image(splits: ImageSplits, asked: Numbered | PictureFile, dataset: str) -> _Image:
    if isinstance(asked, PictureFile):
        read = picture.read(asked.path, splits.shape, invert=asked.invert, how=splits.how)
        source = ", ".join([asked.path.name, *read.done])
        return _Image(read.image, source, notes=_doubts(read.image, splits, asked, dataset))
    images = {"test": splits.test, "validation": splits.validation, "train": splits.train}[asked.of]
    if not 0 <= asked.number < len(images):
        raise UsageError(
            f"--image must be from 0 to {len(images) - 1} in the {asked.of} set of {dataset}, got {asked.number}"
        )
    source = f"image {asked.number} of the {len(images):,} {asked.of} images of {dataset}"
    image, label = images.take(images.placed(torch.tensor([asked.number])))
    return _Image(image[0], source, int(label))


def _doubts(image: torch.Tensor, splits: ImageSplits, asked: PictureFile, dataset: str) -> tuple[str, ...]:
    """Return what may be wrong with a picture: grey sets are bright on dark, and pictures of paper are not."""
    usual, this = (some.float().mean().item() for some in (next(splits.train.batches(1000))[0], image))
    if splits.shape[0] > 1 or abs(255 - this - usual) >= abs(this - usual):
        return ()
    what = "without --invert" if asked.invert else "with --invert"
    doubt = (
        f"The images of {dataset} have a mean brightness of {usual:.0f} of 255 and this one has {this:.0f}: "
        f"{what} it would be nearer to what the model was trained on."
    )
    return (doubt,)

"""What a training for keeps is, how far it has come and what came of it: the values that stand in its folder.

What decides the weights is a ``Recipe``; it stands in the checkpoint and beside the weights, so that a folder is never
taken for that of another training. Nothing here needs torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from lrsearch.errors import UsageError
from lrsearch.retrain.folder import CHECKPOINT, MODEL, WEIGHTS, TrainingFolder
from lrsearch.trial import Arithmetic, EpochMetrics, TrialConfig

On = Literal["train+validation", "train"]

SCHEMA: Literal["lrsearch/model/1"] = "lrsearch/model/1"
NORMALIZATION = "(pixel / 255 - mean) / std of each channel; of the training images of the search"
"""What a model expects of an image of bytes."""
OF_WEIGHTS = "(pixel / 255 - mean) / std of each channel; of the weights that training started from"
"""Likewise, where it is normalised as those images were."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be trained: with the study, all that decides the weights."""

    study: str
    """Its name, which a person may change."""
    study_id: str
    trial: int
    on: On
    config: TrialConfig
    """The trial's; seed and epochs may be others."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch measured; None where it was not a number, or not measured."""

    epoch: int
    step: int
    lr: float
    train_loss: Finite | None = None
    val_loss: Finite | None = None
    val_accuracy: Finite | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where a part of a training ran; the same weights bit for bit are certain only from one place."""

    device: str
    versions: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of a training under way, beside its checkpoint."""

    order: Recipe
    places: tuple[Site, ...] = ()
    """Without repetition, the first first."""
    epochs: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True)
class Normalization:
    """How an image of bytes becomes what the model takes."""

    mean: tuple[float, ...]
    """Of each channel on the 0..1 scale; likewise ``std``."""
    std: tuple[float, ...]
    formula: str = NORMALIZATION


@dataclass(frozen=True, slots=True)
class Judged:
    """What the last weights scored on the untouched test images."""

    accuracy: float
    accuracy_error: float
    """One binomial standard error."""
    n_images: int
    loss: Finite | None = None


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same training in the search, beside this one."""

    equal: bool
    """Whether every epoch that the search recorded, and its last weights, are the same bit for bit."""
    n_epochs: int
    """Epochs that the search recorded."""
    place: Site
    weights_sha256: str = ""
    """Empty for a trial that was not trained through."""


@dataclass(frozen=True, slots=True)
class TrainedLevel:
    """Layers that are equally deep, and how they learned."""

    share: float
    """Part of the learning rate (0..1]."""
    parameters: tuple[str, ...]
    """By name."""


@dataclass(frozen=True, slots=True)
class Built:
    """What builds the model again, where it is none of lrsearch's own or was looked at before it was trained."""

    n_parameters: int
    """That were trained."""
    args: dict[str, Any] = field(default_factory=dict)
    """Keywords for the function that builds it."""
    code_sha256: str = ""
    """Of the file of a person's own function."""
    weights: str = ""
    """Where training started; empty: drawn at random."""
    weights_sha256: str = ""
    stem: str = ""
    """As the study file has it."""
    freeze: str | tuple[str, ...] = ()
    """As the study file has it."""
    frozen: tuple[str, ...] = ()
    """The names of the parameters that were not trained."""
    levels: tuple[TrainedLevel, ...] = ()
    """The stem first, the head last."""
    weight_decay_on: Literal["matrices", "all"] = "all"
    loss: str = ""
    """A person's own; empty: cross entropy."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What a picture is brought to before it is normalised."""

    height: int
    """[pixels]"""
    width: int
    """[pixels]"""
    channels: int
    resize: Literal["pad", "squash", "crop"]
    darkest: int
    """The number in pictures of 16 bits that becomes 0."""
    brightest: int
    """That which becomes 255."""
    background: str = "white"
    """Behind transparent parts."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: what stands in ``model.json`` beside the weights."""

    schema: Literal["lrsearch/model/1"]
    order: Recipe
    schedule: str
    """In words."""
    model: str
    hidden: tuple[int, ...]
    """Sizes of the hidden dense layers."""
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: tuple[str, ...]
    normalization: Normalization
    n_images: int
    """Trained on [examples]."""
    n_validation: int
    """Validated on [examples]; 0 where all images were trained on."""
    n_steps: int
    test: Judged | None
    """None where there is no test set."""
    epochs: tuple[Epoch, ...]
    places: tuple[Site, ...]
    seconds: float
    """Of all epochs."""
    ended_at: str
    """UTC, ISO 8601."""
    weights_sha256: str
    """Of the tensors alone, as the study records it."""
    file_sha256: str
    spec: dict[str, Any] = field(default_factory=dict)
    """The study's."""
    search: Repeated | None = None
    """None where the search trained something else."""
    network: Built | None = None
    """None where ``model`` and ``hidden`` say all."""
    pictures: Brought | None = None
    """None where the data are published."""
    arithmetic: Arithmetic | None = None
    """How it computed; None: whole batches in fp32."""


_PROGRESS = TypeAdapter(Progress)
_TRAINED = TypeAdapter(Trained)


def to_json(trained: Trained) -> dict[str, Any]:
    """Return what ``model.json`` holds; what is None is left out."""
    found: dict[str, Any] = _TRAINED.dump_python(trained, mode="json", exclude_none=True)
    return found


def finished(folder: TrainingFolder, order: Recipe) -> Trained | None:
    """Return what the folder holds if its training is this one and has finished; None where none has.

    Raises:
        UsageError: it is another training.
        LrsearchError: a file is damaged or missing.
    """
    content = folder.model()
    if content is None:
        return None
    try:
        trained = _TRAINED.validate_python(content)
    except ValidationError:
        raise folder.damaged(MODEL) from None
    _check_same(folder, trained.order, order)
    if folder.weights_sha256() != trained.file_sha256:
        raise folder.damaged(WEIGHTS)
    return trained


def under_way(folder: TrainingFolder, order: Recipe) -> tuple[Progress, bytes | None]:
    """Return how far the training in the folder is, and its checkpoint; None at its start.

    Raises:
        UsageError: it is another training, or holds weights of which nothing is known.
        LrsearchError: the checkpoint is damaged.
    """
    kept = folder.checkpoint()
    if kept is None:
        if folder.weights_sha256() is not None:
            raise UsageError(
                f"{folder.path / WEIGHTS} is there already and nothing beside it says what it is: name another folder "
                f"with -o, or write over it with --force"
            )
        return Progress(order), None
    about, checkpoint = kept
    try:
        so_far = _PROGRESS.validate_python(about)
    except ValidationError:
        raise folder.damaged(CHECKPOINT) from None
    _check_same(folder, so_far.order, order)
    return so_far, checkpoint


def keep(folder: TrainingFolder, so_far: Progress, checkpoint: bytes) -> None:
    """Write down how far the training is; ``under_way`` returns it.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder.keep_checkpoint(_PROGRESS.dump_python(so_far, mode="json", exclude_none=True), checkpoint)


def epoch_of(row: EpochMetrics) -> Epoch:
    """Return what an epoch measured as it is written down."""
    losses = finite(row.train_loss), finite(row.val_loss), finite(row.val_accuracy)
    return Epoch(row.epoch, row.step, row.lr, *losses, seconds=row.seconds)


def finite(value: float) -> float | None:
    """Return a number, or None for what is infinite or not one."""
    return value if math.isfinite(value) else None


def _check_same(folder: TrainingFolder, there: Recipe, here: Recipe) -> None:
    a, b = dict(_leaves(there)), dict(_leaves(here))
    # A study that was renamed is the same one; the name says more than the id where both differ.
    unsaid = "study" if there.study_id == here.study_id else "study_id" if there.study != here.study else ""
    changed = [key for key in {**a, **b} if key != unsaid and a.get(key) != b.get(key)]
    if changed:
        said = "; ".join(
            f"{key} is {a.get(key, 'absent')} there and {b.get(key, 'absent')} here" for key in changed[:4]
        )
        more = f"; and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise UsageError(
            f"{folder.path} holds another training: {said}{more}. Name another folder with -o, or train anew in its "
            f"place with --force"
        )


def _leaves(order: Recipe) -> Iterator[tuple[str, object]]:
    def walk(value: object, name: str) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict):
            for key, one in value.items():
                yield from walk(one, f"{name}.{key}" if name else str(key))
        else:
            yield name, value

    return walk(TypeAdapter(Recipe).dump_python(order, mode="json", exclude_none=True), "")

"""How every trial is trained: the tables [training] and [augment] of a study file."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lrsearch.spec.space import Strict
from lrsearch.trial import Arithmetic, Precision

COLOURS = 3
"""Channels of a colour picture."""
LEAST_WITH_BATCH_NORM = 2
"""Images of a part of a batch that is normalised by itself."""
FRAME = 8
"""A side over the frame that ``augment = "auto"`` crops from: 4 pixels at 32, as is usual for CIFAR."""


class TrainingSpec(Strict):
    """How every trial is trained."""

    class_weights: Annotated[float, Field(ge=0, le=1)] | None = None
    """Power of the inverse frequency by which classes weigh in the training loss: 0, the default, all alike; 1, every
    class as much as every other."""
    weight_decay_on: Literal["matrices", "all"] | None = None
    """What weight decay acts upon: ``matrices`` leaves biases and norms alone, the default of all but mlp and cnn."""
    precision: Literal["auto", Precision] | None = None
    """Of matrix products and convolutions, fp32 by default; auto: bf16 on a GPU that has it. Weights, optimizer,
    average and loss are fp32."""
    tf32: Literal["on", "off"] | None = None
    """Whether a GPU may compute fp32 with 10 bits of mantissa; by default in convolutions, as PyTorch has it."""
    channels_last: Literal["auto", "on", "off"] | None = None
    """Whether the channels of a pixel lie side by side in memory, off by default; auto: where that is measured to be
    faster, before the first trial."""
    micro_batch: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] | None = None
    """Images whose gradients are computed at once [examples]: a larger batch is computed in parts. As many as memory
    holds by default; auto: these are counted before the first trial."""

    drop_last: bool = False
    """Whether the last, smaller batch of an epoch is left out."""
    divergence_watch: bool = True
    """Whether a trial that diverges ends at once."""
    averaging: Literal["auto", "on", "off"] = "auto"
    """Moving average of the weights for the rung score; auto: when a pruner uses it."""

    UNSAID: ClassVar[dict[str, str]] = {"precision": "fp32", "channels_last": "off"}
    """What keys come to that are not given: to say it makes no other study."""

    @property
    def arithmetic(self) -> Arithmetic | None:
        """How trainings compute, as far as it is said; None: nothing of it is."""
        precision = self.precision
        found = Arithmetic(
            "fp32" if precision is None or precision == "auto" else precision,
            self.channels_last == "on",
            None if self.micro_batch == "auto" else self.micro_batch,
        )
        return None if found == Arithmetic() else found

    @property
    def leaves_open(self) -> bool:
        """Whether something of it is left to the device of the first worker."""
        return "auto" in (self.precision, self.channels_last, self.micro_batch)


Part = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Alpha = Annotated[float, Field(ge=0, le=100)]


class AugmentSpec(Strict):
    """How training images are changed at random, each by itself and anew at every update; nothing by default.

    What is off (``false``, 0) is None: it makes no other study. Parameters are fixed, none is searched.
    """

    auto: bool | None = None
    """What ``augment = "auto"`` says: for colour pictures flip, and crop by an eighth of a side; nothing for grey ones,
    and for classes that are called by numbers, as digits are. A study is filed with what it comes to."""
    flip: bool | None = None
    """Whether half of the images are mirrored, left to right."""
    crop: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Frame that is put around an image, out of which one of its size is cut anywhere [pixels]."""
    affine: Degrees | None = None
    """Largest rotation to either side [degrees]."""
    translate: Part | None = None
    """Largest shift to any side, in parts of it."""
    scale: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Largest change of the size: factors from ``1 - scale`` to ``1 + scale``."""
    shear: Annotated[float, Field(ge=0, lt=90)] | None = None
    """Largest shear along the rows, to either side [degrees]."""
    resized_crop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Smallest part of the area that is cut out and brought to the whole size; sides from 3:4 to 4:3."""
    brightness: Part | None = None
    """Largest change: factors from ``1 - brightness`` to ``1 + brightness``."""
    contrast: Part | None = None
    saturation: Part | None = None
    trivial: bool | None = None
    """TrivialAugmentWide: one of fourteen changes, of a strength drawn anew. Source: Mueller and Hutter, 2021."""
    erase: Part | None = None
    """Probability that a rectangle of 2 to 33 % of the area is erased."""
    mixup: Alpha | None = None
    """Alpha of the Beta distribution by which an image is blended with another of its batch, and its label."""
    cutmix: Alpha | None = None
    """That of the area in which it shows the other one; with ``mixup`` too, half of the images each."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Part of every label that is spread evenly over all classes."""

    COLOUR: ClassVar[tuple[str, ...]] = ("brightness", "contrast", "saturation", "trivial")
    """Keys that take an image for a picture: grey, or red, green and blue."""
    OF_THE_LOSS: ClassVar[tuple[str, ...]] = ("mixup", "cutmix", "label_smoothing")
    """Keys by which an image has more than one class."""

    @property
    def given(self) -> dict[str, bool | int | float]:
        """The keys that are on."""
        return self.model_dump(exclude_none=True)

    @property
    def words(self) -> str:
        """The keys that are on, as they may be typed: ``flip, crop=4``."""
        return ", ".join(self.said(self.given))

    def said(self, keys: Iterable[str]) -> list[str]:
        """Return some of the keys that are on, each as it may be typed."""
        values = self.given
        return [key if values[key] is True else f"{key}={values[key]:g}" for key in keys]

    @property
    def mixes(self) -> bool:
        """Whether images are blended with others."""
        return self.mixup is not None or self.cutmix is not None

    @property
    def of_the_loss(self) -> tuple[str, ...]:
        """The keys that are on by which an image has more than one class."""
        return tuple(key for key in self.OF_THE_LOSS if getattr(self, key) is not None)

    def resolved(self, shape: tuple[int, int, int], classes: Sequence[str]) -> "AugmentSpec | None":
        """Return what this comes to for images of that shape and these classes; None: nothing.

        Raises:
            ValueError: it cannot be done to them.
        """
        channels, *sides = shape
        if self.auto:
            if channels != COLOURS or all(name.isdecimal() for name in classes):
                return None
            return AugmentSpec(flip=True, crop=max(1, min(sides) // FRAME))
        if self.crop is not None and self.crop >= min(sides):
            raise ValueError(f"crop must be below the shorter side, {min(sides)} pixels, got {self.crop}")
        if self.saturation is not None and channels == 1:
            raise ValueError("saturation is for colours, and these images are grey: leave it out")
        if channels not in (1, COLOURS) and (given := [key for key in self.COLOUR if getattr(self, key) is not None]):
            raise ValueError(f"{given[0]} is for images of 1 or 3 channels, and these have {channels}: leave it out")
        return self if self.given else None

    @field_validator("*")
    @classmethod
    def _off_is_none(cls, value: object) -> object:
        return value or None

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, raw: object) -> object:
        """Take ``"flip, crop=4"`` for a table."""
        if isinstance(raw, dict) and raw.get("auto") == {}:
            return {**raw, "auto": True}  # of "auto" with a key of the table set beside it
        if not isinstance(raw, str):
            return raw
        table: dict[str, object] = {}
        for word in raw.split(","):
            key, equals, value = (part.strip() for part in word.partition("="))
            if not key or key in table or bool(equals) != bool(value):
                raise ValueError(f"must be 'auto', or keys such as 'flip, crop=4', each once, got {raw!r}")
            table[key] = _value(value) if equals else True
        return table

    @model_validator(mode="after")
    def _auto_stands_alone(self) -> Self:
        if self.auto and len(self.given) > 1:
            raise ValueError(f"'auto' says by itself what is done, got it with {', '.join(list(self.given)[1:])}")
        return self


def _value(text: str) -> object:
    """Return what was typed as a truth value or a number, or as text where it is neither."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text

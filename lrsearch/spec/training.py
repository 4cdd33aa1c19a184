"""How every trial is trained: the tables [training] and [augment] of a study file."""

from typing import Annotated, Literal

from pydantic import Field

from lrsearch.spec.space import Strict


class TrainingSpec(Strict):
    """How every trial is trained."""

    class_weights: Annotated[float, Field(ge=0, le=1)] | None = None
    """Power of the inverse frequency by which classes weigh in the training loss: 0, the default, all alike; 1, every
    class as much as every other."""
    weight_decay_on: Literal["matrices", "all"] | None = None
    """What weight decay acts upon: ``matrices`` leaves biases and norms alone, the default of all but mlp and cnn."""

    drop_last: bool = False
    """Whether the last, smaller batch of an epoch is left out."""
    divergence_watch: bool = True
    """Whether a trial that diverges ends at once."""
    averaging: Literal["auto", "on", "off"] = "auto"
    """Moving average of the weights for the rung score; auto: when a pruner uses it."""


class AugmentSpec(Strict):
    """How training images are changed at random, each by itself and anew at every update."""

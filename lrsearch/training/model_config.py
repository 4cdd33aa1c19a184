"""What decides which model is built."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model by name, and all that decides what is built; a field that is None is as its absence."""

    name: str = "mlp"
    """Of a record, ``torchvision/NAME``, ``timm/NAME``, ``FILE.py:FUNCTION`` or ``package.module:function``."""
    hidden: tuple[int, ...] | None = None
    """Units of each hidden dense layer, in order, each >= 1; of the models that have a record. It may be empty: then
    the output layer stands alone (with ``mlp``, softmax regression). None is the default of the record."""
    weights: str | None = None
    """Weights of a package by name (``DEFAULT``, a tag), or a file of them; excludes ``init_from``."""
    init_from: str | None = None
    """A file of weights, or a folder of `lrsearch train`."""
    stem: str | None = None
    """``small`` or ``full``: how a package's model begins; ``auto`` and None: small below 64 pixels without weights."""
    freeze: str | tuple[str, ...] | None = None
    """What is not trained: ``backbone``, or how the names of parameters begin."""
    args: Mapping[str, object] | None = None
    """More keywords for the function that builds it."""
    loss: str | None = None
    """A function of a person's own; see ``outputs.loss_of``."""

"""What a prediction went through, layer by layer: frozen values that flow from the torch room to the report."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerTraced:
    """What one layer did to the batch of one image that passed through it."""

    name: str
    """Its name in the model: ``dense1``, ``features.0``."""
    kind: str
    """Its class: ``Linear``."""
    shape_in: tuple[int, ...]
    """Without the batch."""
    shape_out: tuple[int, ...]
    n_parameters: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image through a model."""

    layers: tuple[LayerTraced, ...]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    """[0..1], one for each class."""
    true_class: int | None
    """None for an image that came without a label."""

"""What a prediction went through, layer by layer: frozen values that flow from the torch room to the report."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Values:
    """What stands in a tensor, in a few numbers."""

    low: float
    high: float
    mean: float
    zero_share: float
    """[0..1]; after a ReLU the share of units that are silent."""


@dataclass(frozen=True, slots=True)
class LayerTraced:
    """What one layer did to the one image that passed through it: one call of a module that calls no other."""

    name: str
    """Its name in the model: ``dense1``, ``features.0``; empty for a model that is one layer."""
    kind: str
    """Its class: ``Linear``."""
    noun: str
    """What that is in words: ``dense layer``; the class where no words are known."""
    detail: str
    """What sets it apart from others of its kind: ``5x5, stride 2``; may be empty."""
    activates: bool
    """Whether it only bends each value, or normalises a vector, as ReLU and softmax do."""
    shape_in: tuple[int, ...]
    """Without the batch, if its first dimension is that; of the first tensor, where there are several."""
    shape_out: tuple[int, ...]
    n_parameters: int
    values: Values | None
    """Of its output (the first tensor of it); None where that is no numbers."""
    n_outputs: int = 1
    """Tensors it returned."""
    call: int = 1
    """1-based: 2 where the same module is called for the second time, with the same parameters."""
    source: int | None = None
    """Index of the layer whose output it took; -1 the image; None for what was computed between the layers."""
    between: tuple[str, ...] = ()
    """Functions that the model called since the layer before: ``flatten``, ``add``."""


@dataclass(frozen=True, slots=True)
class ModelTraced:
    """One image through a model."""

    layers: tuple[LayerTraced, ...]
    """In the order of execution."""
    output: tuple[float, ...]
    """The model's output, flattened; of the first tensor, where there are several."""
    shape_out: tuple[int, ...]
    n_parameters: int
    """Of the whole model, also those that belong to no layer above."""
    after: tuple[str, ...] = ()
    """Functions that the model called after the last layer."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The image as the model was given it, before scaling."""

    channels: int
    """1 (grey) or 3 (red, green, blue)."""
    height: int
    width: int
    pixels: bytes
    """Channel by channel, row by row, 0..255."""

    def at(self, row: int, column: int) -> tuple[int, ...]:
        """Return the pixel's value in each channel."""
        area = self.height * self.width
        return tuple(self.pixels[c * area + row * self.width + column] for c in range(self.channels))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the weights of a trial make of one image."""

    study: str
    trial: int
    dataset: str
    model: str
    source: str
    """Where the image came from and what was done to it, in words."""
    picture: Picture
    traced: ModelTraced
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    """[0..1], one for each class; the softmax of the model's output."""
    true_class: int | None
    """None for an image that came without a label."""
    weights: str
    """Which weights these are, in words."""
    notes: tuple[str, ...] = field(default=())
    """What a person should know before trusting the result."""

    @property
    def predicted(self) -> int:
        """The class with the largest probability; of equal ones, the first."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

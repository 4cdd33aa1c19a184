"""Where the weights of a network come from, if they are not drawn: a package, or a file; and what comes with them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from lrsearch.errors import StudyFileError
from lrsearch.spec.sources import Zoo, model_of
from lrsearch.training import published, states, zoo
from lrsearch.training.fitting import Fitting, Loaded, some
from lrsearch.training.model_config import ModelConfig
from lrsearch.training.states import StateFile


@dataclass(frozen=True, slots=True)
class Origin:
    """What comes with weights."""

    sha256: str
    """Of their file; of the tensors, where a package has them."""
    mean: tuple[float, ...] | None = None
    """Of each channel on the 0..1 scale, with which their images were normalised; None where nobody knows."""
    std: tuple[float, ...] | None = None
    """Likewise."""
    size: int | None = None
    """Height and width of the images that they were trained on [pixels]; None where nobody knows."""
    colour: bool = False
    """Whether they want images of three channels."""
    assumed: bool = False
    """Whether mean and standard deviation are what the package says of the architecture, and not what the file does."""


def origin(config: ModelConfig) -> Origin | None:
    """Return what comes with the weights that a model starts from; None where they are drawn.

    Of a file that does not say how its images were normalised, that is what the package says of the architecture.

    Raises:
        StudyFileError: there are no such weights, or they cannot be read or downloaded.
    """
    state = file_of(config)
    if state is not None:
        return _of_file(state, config)
    if config.weights is None:
        return None
    package = _package(config)
    mean, std, size = published.statistics(package, config.weights)
    return Origin(_sha256(published.tensors(package, config.weights, None)), mean, std, size, colour=True)


def load(model: nn.Module, config: ModelConfig, shape: tuple[int, int, int], n_classes: int) -> Loaded:
    """Put the weights that a model starts from into it; a head for other classes stays as it was drawn.

    Args:
        model: as it was built, on the CPU.
        config: says which weights.
        shape: channels, height and width of an image.
        n_classes: of the head.

    Raises:
        StudyFileError: they are of another network, with the first tensor that does not fit.
    """
    state = file_of(config)
    by_order = False
    if state is not None:
        key, where, tensors = _key(config), str(state.path), state.tensors
        by_order = config.weights is None and state.is_ordered
    else:
        assert config.weights is not None
        package = _package(config)
        key, where = "model.weights", f"'{config.weights}' of {config.name}"
        if shape[0] != zoo.COLOURS:
            raise StudyFileError(
                f"{key}: {where} wants images of {zoo.COLOURS} channels, and these have {shape[0]}: set "
                f"dataset.channels = {zoo.COLOURS}, or leave the weights out"
            )
        tensors = published.tensors(package, config.weights, shape)
    fitting = Fitting(model, tensors, f"{key}: {where}", shape, n_classes)
    found, loaded = fitting.by_name() if fitting.has_common_names else fitting.by_order(allowed=by_order)
    model.load_state_dict(found, strict=False)
    return loaded


def remarks(config: ModelConfig, loaded: Loaded, came: Origin, n_classes: int) -> Iterator[str]:
    """Yield what a person should know of the weights that a model starts from, a sentence each."""
    key = _key(config)
    if loaded.by_order:
        yield (
            f"{key}: no tensor in the file has a name that the network knows, so that they were told apart by their "
            f"order, in which all shapes agree: that they fit does not prove that they belong to it"
        )
    if loaded.anew:
        yield f"{key}: the head ({some(loaded.anew)}) is one for other classes, and drawn anew for {n_classes}"
    if came.mean is None:
        yield (
            f"{key}: the file does not say how its images were normalised, so that yours are normalised by their own "
            f"mean and standard deviation"
        )
    elif came.assumed:
        mean, std = (", ".join(f"{one:.3g}" for one in ones or ()) for ones in (came.mean, came.std))
        yield (
            f"{key}: the file does not say how its images were normalised; taken are mean {mean} and standard "
            f"deviation {std}, as {config.name} has them"
        )


def _key(config: ModelConfig) -> str:
    return "model.weights" if config.weights is not None else "model.init_from"


def file_of(config: ModelConfig) -> StateFile | None:
    """Return what is in the file that a model starts from; None where it starts from none.

    Raises:
        StudyFileError: no such file, or no weights in it.
    """
    text = config.weights if config.weights is not None else config.init_from
    is_named = config.weights is not None and not states.is_file_name(config.weights)
    return None if text is None or is_named else states.read(text, _key(config))


def _package(config: ModelConfig) -> Zoo:
    package = model_of(config.name)
    if isinstance(package, Zoo):
        return package
    raise StudyFileError(
        f"model.weights: '{config.weights}' names weights of a package, and {config.name} is of none (torchvision/NAME "
        f"or timm/NAME): give a file of weights (.safetensors, .pth, .pt)"
    )


def _of_file(state: StateFile, config: ModelConfig) -> Origin:
    about = state.about.get("normalization", state.about)
    shape = state.about.get("input_shape")
    first = next((t for t in state.tensors.values() if t.ndim == states.KERNEL_DIMS), None)
    channels = shape[0] if shape else 0 if first is None else first.shape[1]
    colour, size = channels == zoo.COLOURS, shape[1] if shape else None
    if "mean" in about and "std" in about:
        return Origin(state.sha256, tuple(about["mean"]), tuple(about["std"]), size, colour)
    package = model_of(config.name)
    if isinstance(package, Zoo):
        mean, std, published_size = published.statistics(package, None)
        if mean is not None and len(mean) == channels:
            return Origin(state.sha256, mean, std, size or published_size, colour, assumed=True)
    return Origin(state.sha256, size=size, colour=colour)


def _sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of tensors and their names."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""What kinds of layers there are, in words; one that is not known is called by its class."""

from collections.abc import Sequence

from torch import nn


def activates(module: nn.Module) -> bool:
    """Whether a layer only bends each value, or normalises a vector: torch's activations, attention apart.

    >>> [activates(m) for m in (nn.ReLU(), nn.GELU(), nn.Softmax(1), nn.Linear(2, 2), nn.Dropout())]
    [True, True, True, False, False]
    """
    # They have no class in common, but a file.
    return type(module).__module__ == nn.ReLU.__module__ and not isinstance(module, nn.MultiheadAttention)


def describe(module: nn.Module) -> tuple[str, str]:
    """Return a layer's kind and what sets it apart.

    >>> describe(nn.Conv2d(1, 10, 5, stride=2)), describe(nn.Linear(784, 128)), describe(nn.Bilinear(2, 2, 2))
    (('convolution', '5x5, stride 2'), ('dense layer', ''), ('Bilinear', ''))
    """
    if activates(module):
        return _activation(module), ""
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return "convolution", _convolution(module)
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() | nn.ConvTranspose3d():
            return "transposed convolution", _convolution(module)
        case nn.Linear():
            return "dense layer", ""
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d() | nn.SyncBatchNorm():
            return "batch normalisation", ""
        case nn.InstanceNorm1d() | nn.InstanceNorm2d() | nn.InstanceNorm3d():
            return "instance normalisation", ""
        case nn.LayerNorm() | nn.RMSNorm():
            return "layer normalisation" if isinstance(module, nn.LayerNorm) else "RMS normalisation", ""
        case nn.GroupNorm():
            return "group normalisation", f"{module.num_groups} groups"
        case nn.Flatten():
            return "flattening", ""
        case nn.Embedding():
            return "embedding", f"{module.num_embeddings} entries"
        case nn.MultiheadAttention():
            return "attention", f"{module.num_heads} heads"
        case nn.RNNBase():
            return f"{module.mode.split('_')[0]}", f"{module.num_layers} deep" if module.num_layers > 1 else ""
        case nn.Identity():
            return "nothing", "hands its input on"
        case _:
            return _pool(module) or _dropout(module) or (type(module).__name__, "")


def _activation(module: nn.Module) -> str:
    name = type(module).__name__
    return {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid", "Tanh": "tanh"}.get(name, name)


def _dropout(module: nn.Module) -> tuple[str, str] | None:
    known = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    # torchvision's StochasticDepth is one in all but its class.
    if isinstance(module, known) or type(module).__name__ in ("StochasticDepth", "DropPath"):
        return "dropout", "does nothing when predicting"
    return None


def _pool(module: nn.Module) -> tuple[str, str] | None:
    match module:
        case nn.MaxPool1d() | nn.MaxPool2d() | nn.MaxPool3d():
            return "max-pool", _window(module.kernel_size, module.stride, _dimensions(module))
        case nn.AvgPool1d() | nn.AvgPool2d() | nn.AvgPool3d():
            return "average-pool", _window(module.kernel_size, module.stride, _dimensions(module))
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveAvgPool2d() | nn.AdaptiveAvgPool3d():
            return "average-pool", f"to {_by(module.output_size, _dimensions(module))}"
        case nn.AdaptiveMaxPool1d() | nn.AdaptiveMaxPool2d() | nn.AdaptiveMaxPool3d():
            return "max-pool", f"to {_by(module.output_size, _dimensions(module))}"
        case _:
            return None


def _dimensions(module: nn.Module) -> int:
    """Return the 2 of ``MaxPool2d``, or of a class made of it."""
    return next(int(c.__name__[-2]) for c in type(module).__mro__ if c.__name__[-2:] in ("1d", "2d", "3d"))


def _convolution(module: "nn.modules.conv._ConvNd") -> str:
    words = [_by(module.kernel_size)]
    if any(s != 1 for s in module.stride):
        words.append(f"stride {_short(module.stride)}")
    if any(d != 1 for d in module.dilation):
        words.append(f"dilation {_short(module.dilation)}")
    if module.groups > 1:
        words.append(f"{module.groups} groups")
    return ", ".join(words)


def _window(size: int | Sequence[int], stride: int | Sequence[int], n: int) -> str:
    """Return ``2x2``, and the stride where the windows do not just touch."""
    return _by(size, n) if _by(stride, n) == _by(size, n) else f"{_by(size, n)}, stride {_short(stride)}"


def _by(size: int | Sequence[int | None] | None, n: int = 1) -> str:
    """Return ``5x5``; a single number stands for all of ``n`` dimensions, None for one that is left as it is."""
    parts = list(size) if isinstance(size, Sequence) else [size] * n
    return "x".join("as it is" if part is None else str(part) for part in parts)


def _short(size: int | Sequence[int]) -> str:
    """Return ``2`` for ``(2, 2)``."""
    parts = list(size) if isinstance(size, Sequence) else [size]
    return str(parts[0]) if len(set(parts)) == 1 else _by(parts)

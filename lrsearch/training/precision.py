"""How numbers are computed: in fp32, or matrix products and convolutions in bf16 or fp16, and all the rest in fp32."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from lrsearch.errors import DeviceError
from lrsearch.training import outputs
from lrsearch.trial import Precision

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolved(asked: Literal["auto"] | Precision | None, device: torch.device) -> Precision:
    """Return the precision that is asked for; ``auto``: bf16 on a CUDA device that has it, else fp32."""
    if asked == "auto":
        return "bf16" if device.type == "cuda" and _has_bf16() else "fp32"
    return asked or "fp32"


def check(precision: Precision, device: torch.device) -> None:
    """Make sure that a device can compute so: a small convolution is tried.

    Raises:
        DeviceError: it cannot.
    """
    if precision == "fp32":
        return
    if precision == "bf16" and device.type == "cuda" and not _has_bf16():
        raise _cannot(precision, device, "it would be emulated")
    try:
        ones = torch.ones(1, 1, 3, 3, device=device, requires_grad=True)
        with torch.autocast(device.type, _TYPES[precision]):
            made = functional.conv2d(ones, ones)
        made.float().sum().backward()
    except RuntimeError as error:
        raise _cannot(precision, device, str(error).strip().splitlines()[0].rstrip(".")) from None
    if made.dtype != _TYPES[precision]:
        raise _cannot(precision, device, f"PyTorch computes in {made.dtype} there")


def _has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _cannot(precision: Precision, device: torch.device, why: str) -> DeviceError:
    return DeviceError(
        f"training.precision of the study is {precision}, and the device '{device}' must compute in it and cannot "
        f"({why}): trials in another precision could not be compared with these, so name another --device, or add a "
        f"--name to start a study of its own in fp32"
    )


def set_tf32(asked: Literal["on", "off"] | None) -> None:
    """Have this process compute fp32 in TF32, or not, where a CUDA device has it; None: in convolutions alone.

    That is PyTorch's own default. TF32 has the range of fp32 and 10 bits of mantissa instead of 23.
    """
    torch.backends.cudnn.allow_tf32 = asked != "off"
    torch.backends.cuda.matmul.allow_tf32 = asked == "on"


def forward_of(model: nn.Module, precision: Precision, device: torch.device) -> Callable[[torch.Tensor], Any]:
    """Return what computes the output of a model for images, its logits in fp32; in fp32 that is the model itself."""
    if precision == "fp32":
        return model
    kind, dtype = device.type, _TYPES[precision]

    def forward(images: torch.Tensor) -> object:
        with torch.autocast(kind, dtype):
            output = model(images)
        return in_fp32(output)

    return forward


def in_fp32(output: object) -> object:
    """Return what a network returned with its logits in fp32, for a loss in fp32; see ``outputs.logits_of``."""
    if isinstance(output, torch.Tensor):
        return output.float()
    heads = {name: getattr(output, name, None) for name in outputs.AUXILIARY}
    auxiliary = {name: one.float() for name, one in heads.items() if isinstance(one, torch.Tensor)}
    return SimpleNamespace(logits=outputs.logits_of(output).float(), **auxiliary)

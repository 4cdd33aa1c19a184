"""How a program computes what the search computed: its precision, a layout of memory, an update in parts."""

from dataclasses import dataclass
from typing import Literal

from lrsearch.errors import UsageError
from lrsearch.spec.study import StudySpec
from lrsearch.spec.training import LEAST_WITH_BATCH_NORM
from lrsearch.trial import Arithmetic, Trial

_TYPES = {"fp32": "", "bf16": "torch.bfloat16", "fp16": "torch.float16"}


@dataclass(frozen=True, slots=True)
class ArithmeticCode:
    """What the templates of programs need to know of it."""

    dtype: str = ""
    """Of matrix products and convolutions, as code; empty: fp32."""
    is_scaled: bool = False
    """Whether the loss is scaled, so that no gradient is lost to fp16."""
    channels_last: bool = False
    micro_batch: int = 0
    """Images whose gradients are computed at once, at most; 0: those of a whole batch."""
    least: int = 1
    """Images of a part."""
    tf32: Literal["", "on", "off"] = ""
    """Whether a GPU computes fp32 in TF32; empty: as PyTorch does."""

    @property
    def call(self) -> str:
        """How the model is called in a program, up to its images."""
        return "forward(model, " if self.dtype else "model("

    @property
    def in_fp32(self) -> str:
        """What stands behind logits for a loss in fp32."""
        return ".float()" if self.dtype else ""


def arithmetic_code(trial: Trial, spec: StudySpec, framework: str) -> ArithmeticCode:
    """Return how a program computes.

    Raises:
        UsageError: a program for Lightning does not compute so.
    """
    how = spec.facts.arithmetic or spec.training.arithmetic or Arithmetic()
    in_parts = how.micro_batch is not None and how.micro_batch < trial.config.batch_size
    network = spec.facts.network
    if framework == "lightning" and (in_parts or how.precision == "fp16"):
        does = (
            "scales the loss of fp16 and leaves updates out in its own way"
            if how.precision == "fp16"
            else "adds gradients up as if all parts of a batch had one size"
        )
        raise UsageError(f"a program for Lightning cannot be the training of the search, because it {does}: --to torch")
    return ArithmeticCode(
        dtype=_TYPES[how.precision],
        is_scaled=how.precision == "fp16",
        channels_last=how.channels_last,
        micro_batch=how.micro_batch or 0 if in_parts else 0,
        least=LEAST_WITH_BATCH_NORM if network is not None and network.batch_norm else 1,
        tf32=spec.training.tf32 or "",
    )

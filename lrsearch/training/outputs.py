"""What a network returned: its logits, and the loss that it is trained by, auxiliary heads included."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch.nn import functional

from lrsearch.errors import StudyFileError

AUXILIARY = {"aux_logits": 0.4, "aux_logits1": 0.3, "aux_logits2": 0.3}
"""What the losses of auxiliary heads count in training, by the field that holds their logits.

Source: Szegedy et al., Going Deeper with Convolutions, 2014, section 5 (GoogLeNet: .3 each), and torchvision's
references/classification (Inception v3: .4).
"""

FORMS = "logits [images, classes] as a tensor, as the attribute .logits, or under the key 'logits'"

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits ``[b, C]`` and labels ``[b]`` to the mean loss."""


def logits_of(output: object) -> torch.Tensor:
    """Return the logits in what a network returned.

    It may be a tensor, an object with ``.logits`` (as those of transformers, of torchvision's Inception v3 and
    GoogLeNet), or a mapping with ``"logits"``.

    Raises:
        StudyFileError: it is none of these.
    """
    if isinstance(output, torch.Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(found, torch.Tensor):
        return found
    raise StudyFileError(f"model.name: the network must return {FORMS}, and it returned {_said(output)}")


def loss_of(
    output: object, labels: torch.Tensor, loss: Loss = functional.cross_entropy
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss that a network is trained by, and its logits.

    Args:
        output: what it returned, see ``logits_of``.
        labels: int64 ``[b]``.
        loss: of the logits, and of those of auxiliary heads.

    Raises:
        StudyFileError: see ``logits_of``.
    """
    logits = logits_of(output)
    total = loss(logits, labels)
    if not isinstance(output, torch.Tensor):
        for weight, auxiliary in _auxiliary(output):
            total = total + weight * loss(auxiliary, labels)
    return total, logits


def _auxiliary(output: object) -> Iterator[tuple[float, torch.Tensor]]:
    """Yield what each auxiliary head counts, and its logits."""
    for name, weight in AUXILIARY.items():
        found = getattr(output, name, None)
        if isinstance(found, torch.Tensor):
            yield weight, found


def _said(output: object) -> str:
    """Return in words what a network returned."""
    kind = type(output).__name__
    if output is None:
        return "nothing"
    if isinstance(output, Mapping):
        return f"a {kind} with the keys {', '.join(map(repr, output))}" if output else f"an empty {kind}"
    return f"a {kind} of {len(output)}" if isinstance(output, tuple | list) else f"a {kind}"

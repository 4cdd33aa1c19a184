"""A residual branch, as the record of ``resnet9`` has it."""

import torch
from torch import nn


class Residual(nn.Sequential):
    """Layers one after another whose output is added to what came in; they keep its shape."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``images`` plus what the layers make of them."""
        out = images
        for layer in self:
            out = layer(out)
        return images + out

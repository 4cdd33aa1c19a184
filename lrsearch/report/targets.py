"""What a trial can be written as: a program, what another package's own training script is given, learning rates."""

from typing import Literal

Framework = Literal["torch", "lightning"]
Script = Literal["timm", "transformers", "torchvision"]
Rates = Literal["json", "csv"]
Target = Literal[Framework, Script, Rates]

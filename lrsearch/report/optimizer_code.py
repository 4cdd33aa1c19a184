"""An optimizer as PyTorch code."""

from lrsearch.report import words
from lrsearch.report.scheduler_code import num
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.trial import OptimizerConfig


def optimizer_code(config: OptimizerConfig, parameters: str, lr: str) -> str:
    """Return the call that makes the optimizer, without what torch takes anyway.

    >>> optimizer_code(OptimizerConfig("adamw", 1e-3, 0.1, beta1=0.9, beta2=0.95), "model.parameters()", "peak_lr")
    'torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.95), weight_decay=0.1)'
    """
    settings = words.optimizer_settings(config)
    arguments = [parameters, f"lr={lr}"]
    if "beta1" in settings or "beta2" in settings:
        arguments.append(f"betas=({num(config.beta1 or 0.0)}, {num(config.beta2 or 0.0)})")
    arguments += [f"{name}={num(value)}" for name, value in settings.items() if name not in ("beta1", "beta2")]
    return f"torch.optim.{OPTIMIZERS[config.name].class_name}({', '.join(arguments)})"

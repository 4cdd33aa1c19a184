"""A setting as a PyTorch program, ready to be pasted: optimizer, schedule and the loop that steps both."""

from lrsearch import schedules
from lrsearch.report import words
from lrsearch.report.scheduler_code import num, scheduler_code
from lrsearch.trial import OptimizerConfig, TrialConfig

WIDTH = 80
"""Characters beyond which a call is broken."""

CLASSES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}


def snippet(config: TrialConfig, steps_per_epoch: int) -> str:
    """Return a program that trains ``model`` on the batches of ``loader`` with this setting.

    The program uses the names ``model``, ``loader`` and, with the schedule plateau, ``validation_loss``, a function of
    the model; everything else it defines. ``steps_per_epoch`` is the number of updates of one pass.
    """
    code = scheduler_code(config.schedule, steps_per_epoch * config.epochs)
    lines = [
        f"# {words.optimizer(config.optimizer)}; batch size {config.batch_size}",
        f"# {schedules.describe(config.schedule)}",
        *(["import math", ""] if code.needs_math else []),
        "import torch",
    ]
    if code.imports:
        lines.append(f"from torch.optim.lr_scheduler import {', '.join(code.imports)}")
    lines += ["", f"epochs, steps_per_epoch = {config.epochs}, {steps_per_epoch}  # the second: len(loader)"]
    if any("n_steps" in text for text in code.setup):
        lines.append("n_steps = epochs * steps_per_epoch")
    lines += [f"peak_lr = {num(config.optimizer.peak_lr)}", f"optimizer = {_optimizer(config.optimizer)}"]
    lines += [
        *code.setup,
        "",
        "for epoch in range(epochs):",
        "    model.train()",
        f"    for images, labels in loader:  # batches of {config.batch_size}; a fresh order every epoch",
        "        optimizer.zero_grad()",
        "        loss = torch.nn.functional.cross_entropy(model(images), labels)",
        "        loss.backward()",
        "        optimizer.step()",
        *(f"        {text}" for text in code.per_step),
        *(f"    {text}" for text in code.per_epoch),
    ]
    return "\n".join(part for text in lines for part in _folded(text)) + "\n"


def _folded(line: str) -> list[str]:
    """Return a call that is too long for a line as three lines."""
    if len(line) <= WIDTH or "#" in line or "\n" in line or "(" not in line:
        return [line]
    begin, end = line.index("(") + 1, line.rindex(")")
    indent = " " * (len(line) - len(line.lstrip()))
    return [line[:begin], f"{indent}    {line[begin:end]}", indent + line[end:]]


def _optimizer(config: OptimizerConfig) -> str:
    settings = words.optimizer_settings(config)
    arguments = ["model.parameters()", "lr=peak_lr"]
    if "beta1" in settings or "beta2" in settings:
        arguments.append(f"betas=({num(config.beta1 or 0.0)}, {num(config.beta2 or 0.0)})")
    for name, value in settings.items():
        if name not in ("beta1", "beta2"):
            arguments.append(f"{name}={value if isinstance(value, bool) else num(value)}")
    return f"torch.optim.{CLASSES[config.name]}({', '.join(arguments)})"

"""A setting as a PyTorch program, ready to be pasted: optimizer, schedule and the loop that steps both."""

from lrsearch import schedules
from lrsearch.report import words
from lrsearch.report.code_lines import folded
from lrsearch.report.optimizer_code import optimizer_code
from lrsearch.report.scheduler_code import num, scheduler_code
from lrsearch.trial import TrialConfig

WIDTH = 80
"""Characters beyond which a call is broken."""


def snippet(config: TrialConfig, steps_per_epoch: int) -> str:
    """Return a program that trains ``model`` on the batches of ``loader`` with this setting.

    The program uses the names ``model``, ``loader`` and, with the schedule plateau, ``validation_loss``, a function of
    the model; everything else it defines. ``steps_per_epoch`` is the number of updates of one pass.
    """
    code = scheduler_code(config.schedule, steps_per_epoch * config.epochs)
    optimizer = optimizer_code(config.optimizer, "model.parameters()", "peak_lr")
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
    lines += [f"peak_lr = {num(config.optimizer.peak_lr)}", f"optimizer = {optimizer}"]
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
        *(f"    {text}" for text in code.per_epoch("validation_loss(model)")),
    ]
    return "\n".join(part for text in lines for part in folded(text, WIDTH)) + "\n"

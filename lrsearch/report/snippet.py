"""A setting as a PyTorch program, ready to be pasted: optimizer, schedule and the loop that steps both."""

from dataclasses import replace

from lrsearch import schedules
from lrsearch.report import words
from lrsearch.report.code_lines import folded
from lrsearch.report.group_code import ONE_GROUP, GroupCode
from lrsearch.report.optimizer_code import optimizer_code
from lrsearch.report.scheduler_code import num, scheduler_code
from lrsearch.trial import TrialConfig

WIDTH = 80
"""Characters beyond which a call is broken."""


def snippet(
    config: TrialConfig,
    steps_per_epoch: int,
    groups: GroupCode = ONE_GROUP,
    *,
    plain_loss: bool = True,
    own_loop: bool = False,
) -> str:
    """Return a program that trains ``model`` on the batches of ``loader`` with this setting.

    The program uses the names ``model``, ``loader`` and, with the schedule plateau, ``validation_loss``, a function of
    the model; everything else it defines.

    Args:
        config: the setting.
        steps_per_epoch: the number of updates of one pass.
        groups: how the parameters of the model are divided.
        plain_loss: whether the loss is cross entropy of logits; else the program uses the name ``loss_of`` too.
        own_loop: whether the loop is a person's own, and with it the loss.
    """
    if not config.optimizer.weight_decay:
        groups = replace(groups, decay_all=True)
    code = scheduler_code(config.schedule, steps_per_epoch * config.epochs, groups.kind)
    parameters = "model.parameters()" if groups.kind == "one" else "groups"
    optimizer = optimizer_code(config.optimizer, parameters, "peak_lr")
    loss = "torch.nn.functional.cross_entropy(model(images), labels)"
    if not plain_loss:
        whose = "your own" if own_loop else "as in the program of lrsearch export"
        loss = f"loss_of(model(images), labels)  # {whose}"
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
    lines += [f"peak_lr = {num(config.optimizer.peak_lr)}", *_groups(groups), f"optimizer = {optimizer}"]
    lines += [
        *code.setup,
        "",
        "for epoch in range(epochs):",
        "    model.train()",
        f"    for images, labels in loader:  # batches of {config.batch_size}; a fresh order every epoch",
        "        optimizer.zero_grad()",
        f"        loss = {loss}",
        "        loss.backward()",
        "        optimizer.step()",
        *(f"        {text}" for text in code.per_step),
        *(f"    {text}" for text in code.per_epoch("validation_loss(model)")),
    ]
    return "\n".join(part for text in lines for part in folded(text, WIDTH)) + "\n"


def _groups(groups: GroupCode) -> list[str]:
    """Return the lines that divide the parameters; none where they are one group."""
    if groups.kind == "one":
        return []
    lines, indent, lr = [""], "", ""
    inside = ["inside = {n: p for n, p in model.named_parameters() if p.requires_grad}"]
    if groups.levels:
        lines += ["levels = [  # from the stem to the head: part of the peak, modules", *groups.table(WIDTH), "]"]
    if not groups.decay_all and groups.spares:
        lines.append('spared = getattr(model, "no_weight_decay", set)()')
    lines.append("groups = []")
    if groups.levels:
        lines.append("for share, parts in levels:")
        indent, lr = "    ", ', "lr": share * peak_lr'
        inside = [
            "inside = {",
            "    n: p for n, p in model.named_parameters() if p.requires_grad",
            '    and any(f"{n}.".startswith(f"{part}.") for part in parts)',
            "}",
        ]
    lines += [f"{indent}{line}" for line in inside]
    if groups.decay_all:
        return [*lines, f'{indent}groups.append({{"params": list(inside.values()){lr}}})']
    acts = "p.ndim > 1 and n not in spared" if groups.spares else "p.ndim > 1"
    return [
        *lines,
        f"{indent}# Weight decay acts on matrices, not on biases and norms.",
        f"{indent}decayed = [p for n, p in inside.items() if {acts}]",
        f"{indent}others = [p for n, p in inside.items() if not ({acts})]",
        f'{indent}groups.append({{"params": decayed{lr}}})',
        f'{indent}groups.append({{"params": others, "weight_decay": 0.0{lr}}})',
    ]

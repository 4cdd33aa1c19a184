"""A schedule as PyTorch code: torch's own scheduler where it has one, a function of the step where it has none."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lrsearch.schedules import warmup_steps
from lrsearch.shapes import round_half_up
from lrsearch.trial import ScheduleConfig


@dataclass(frozen=True, slots=True)
class SchedulerCode:
    """The pieces of a program that set the learning rate; ``optimizer``, ``peak_lr`` and ``n_steps`` are in scope."""

    imports: tuple[str, ...]
    """Names from torch.optim.lr_scheduler."""
    setup: tuple[str, ...]
    """Lines before the loop."""
    per_step: tuple[str, ...] = ()
    """Lines after ``optimizer.step()``."""
    per_epoch: tuple[str, ...] = ()
    """Lines after each epoch."""
    needs_math: bool = False
    """Whether the lines use the module ``math``."""


@dataclass(frozen=True, slots=True)
class _Main:
    """The schedule after warm-up: scheduler expressions, and at which update of it each after the first begins."""

    expressions: tuple[str, ...]
    starts: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


STEP: Final = "scheduler.step()  # once per update, after optimizer.step()"

SHAPES: Final[dict[str, tuple[str, ...]]] = {
    "polynomial": ("shape = {final} + (1 - {final}) * (1 - s / main_steps) ** {power}",),
    "inverse_sqrt": ("shape = {final} / math.sqrt({final} ** 2 + s / main_steps * (1 - {final} ** 2))",),
    "one_cycle": (
        "peak = {rise} * main_steps - 1",
        "rising = s <= peak and peak > 0",
        "low, span = ({initial}, peak) if rising else ({final}, main_steps - 1 - peak)",
        "shape = low + (1 - low) * (1 + math.cos(math.pi * abs(s - peak) / span)) / 2",
    ),
    "triangular": (
        "a = s * {cycles} % main_steps / main_steps",
        "shape = {final} + (1 - {final}) * (1 - abs(2 * a - 1))",
    ),
}
"""The body of ``factor(step)`` for what torch has no scheduler for, or none that starts after a warm-up."""


def scheduler_code(schedule: ScheduleConfig, n_steps: int) -> SchedulerCode:
    """Return the code that sets the learning rate of ``n_steps`` updates as ``lrsearch.schedules`` does."""
    warm = warmup_steps(schedule, n_steps)
    if schedule.family == "plateau":
        return _plateau(schedule, warm, n_steps)
    main = _native(schedule, n_steps - warm, n_steps, warm)
    if main is None:
        return _function(schedule, warm, n_steps)
    setup = [*_warmup_lines(schedule, warm, n_steps, main.expressions), *main.setup]
    expressions, starts = list(main.expressions), list(main.starts)
    if warm:
        ramp = "LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)"
        # After its last step LinearLR leaves the learning rate alone: a constant needs nothing more.
        starts = ["warmup_steps", *starts] if expressions else []
        expressions.insert(0, ramp)
    if not expressions:
        return SchedulerCode((), ())
    if len(expressions) == 1:
        setup.append(f"scheduler = {expressions[0]}")
        return SchedulerCode(_names(expressions), tuple(setup), (STEP,))
    setup += ["schedulers = [", *(f"    {expression}," for expression in expressions), "]"]
    setup.append(f"scheduler = SequentialLR(optimizer, schedulers, milestones=[{', '.join(starts)}])")
    return SchedulerCode(_names([*expressions, "SequentialLR("]), tuple(setup), (STEP,))


def _native(schedule: ScheduleConfig, main_steps: int, n_steps: int, warm: int) -> _Main | None:
    """Return torch's schedulers for the part after warm-up; None where torch has none that does the same."""
    final = num(schedule.final_fraction or 0.0)
    steps = "main_steps" if warm else "n_steps"
    match schedule.family:
        case "constant":
            return _Main(())
        case "step":
            drops = schedule.drops or 1
            # Rounded up, as StepLR does where the treads are of equal length.
            at = [-(-main_steps * j // (drops + 1)) for j in range(1, drops + 1)]
            return _multistep(at, final, main_steps, warm)
        case "multistep":
            at = [max(round_half_up(milestone * main_steps), 1) for milestone in schedule.milestones or ()]
            return _multistep(at, final, main_steps, warm)
        case "exponential":
            return _Main((f"ExponentialLR(optimizer, gamma={final} ** (1 / {steps}))",))
        case "linear":
            return _Main((f"LinearLR(optimizer, start_factor=1.0, end_factor={final}, total_iters={steps})",))
        case "cosine":
            return _Main((f"CosineAnnealingLR(optimizer, T_max={steps}, eta_min={final} * peak_lr)",))
        case "polynomial" if not schedule.final_fraction:
            return _Main((f"PolynomialLR(optimizer, total_iters={steps}, power={num(schedule.power or 1.0)})",))
        case "one_cycle" if not warm and (schedule.rise_fraction or 0.0) * main_steps > 1 + 1e-6:
            rise, initial = num(schedule.rise_fraction or 0.0), num(schedule.initial_fraction or 0.0)
            # Broken into lines by hand: it never stands in a list of schedulers.
            lines = (
                "OneCycleLR(",
                f"    optimizer, peak_lr, total_steps=n_steps, pct_start={rise},",
                f"    div_factor=1 / {initial}, final_div_factor={initial} / {final}, cycle_momentum=False,",
                ")",
            )
            return _Main(("\n".join(lines),))
        case "triangular" if not warm:
            half = f"n_steps / {2 * (schedule.cycles or 1)}"
            return _Main(
                (f"CyclicLR(optimizer, {final} * peak_lr, peak_lr, step_size_up={half}, cycle_momentum=False)",)
            )
        case "warm_restarts":
            mult = schedule.cycle_mult or 1
            first = -(-main_steps // sum(mult**i for i in range(schedule.cycles or 1)))
            cycle = (
                f"cycle_steps = {first}  # the first of {schedule.cycles}; {mult} times as long from one to the next"
            )
            restart = (
                f"CosineAnnealingWarmRestarts(optimizer, T_0=cycle_steps, T_mult={mult}, eta_min={final} * peak_lr)"
            )
            return _Main((restart,), setup=(cycle,))
        case "wsd":
            decay = min(max(round_half_up((schedule.decay_fraction or 0.0) * n_steps), 1), main_steps)
            fall = f"LinearLR(optimizer, start_factor=1.0, end_factor={final}, total_iters=decay_steps)"
            line = _share("decay_steps", schedule.decay_fraction or 0.0, decay, n_steps)
            if decay == main_steps:
                return _Main((fall,), setup=(line,))
            return _Main(("ConstantLR(optimizer, factor=1.0)", fall), ("n_steps - decay_steps",), (line,))
        case _:
            return None


def _multistep(at: list[int], final: str, main_steps: int, warm: int) -> _Main:
    # Several drops at one update count as often as they are named.
    line = f"milestones = {at}  # of the {main_steps} updates{' after warm-up' if warm else ''}"
    return _Main((f"MultiStepLR(optimizer, milestones=milestones, gamma={final} ** (1 / {len(at)}))",), setup=(line,))


def _function(schedule: ScheduleConfig, warm: int, n_steps: int) -> SchedulerCode:
    """Return a LambdaLR over the formula of ``lrsearch.shapes``."""
    values = {
        "final": num(schedule.final_fraction or 0.0),
        "power": num(schedule.power or 1.0),
        "rise": num(schedule.rise_fraction or 0.0),
        "initial": num(schedule.initial_fraction or 0.0),
        "cycles": str(schedule.cycles),
    }
    body = [text.format(**values) for text in SHAPES[schedule.family]]
    begin, ramp = ("max(step - warmup_steps, 0)", " * min((step + 1) / warmup_steps, 1)") if warm else ("step", "")
    setup = [
        *(_warmup_lines(schedule, warm, n_steps, body) or ["main_steps = n_steps"]),
        "",
        "",
        "def factor(step):",
        '    """Return the learning rate of an update as a fraction of the peak."""',
        f"    s = {begin}",
        *(f"    {text}" for text in body),
        f"    return shape{ramp}",
        "",
        "",
        "scheduler = LambdaLR(optimizer, factor)",
    ]
    return SchedulerCode(("LambdaLR",), tuple(setup), (STEP,), needs_math=any("math." in text for text in body))


def _plateau(schedule: ScheduleConfig, warm: int, n_steps: int) -> SchedulerCode:
    """Return torch's ReduceLROnPlateau, with the warm-up as a scheduler of its own."""
    expression = (
        f"ReduceLROnPlateau(optimizer, factor={num(schedule.drop_factor or 0.0)}, patience={schedule.patience_epochs}, "
        f"min_lr={num(schedule.final_fraction or 0.0)} * peak_lr, eps=1e-8 * peak_lr)"
    )
    setup, imports = [f"plateau = {expression}"], ["ReduceLROnPlateau"]
    per_step: tuple[str, ...] = ()
    if warm:
        ramp = "warmup = LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)"
        setup = [*_warmup_lines(schedule, warm, n_steps, ()), ramp, *setup]
        imports.insert(0, "LinearLR")
        per_step = ("warmup.step()  # once per update, after optimizer.step()",)
    after = ("plateau.step(validation_loss(model))  # once per epoch, on held-out images",)
    return SchedulerCode(tuple(imports), tuple(setup), per_step, after)


def _warmup_lines(schedule: ScheduleConfig, warm: int, n_steps: int, used_by: Iterable[str]) -> list[str]:
    if not warm:
        return []
    lines = [_share("warmup_steps", schedule.warmup_fraction, warm, n_steps)]
    if any("main_steps" in text for text in used_by):
        lines.append("main_steps = n_steps - warmup_steps")
    return lines


def _share(name: str, fraction: float, steps: int, n_steps: int) -> str:
    """Return an assignment of a part of all updates: an expression that follows a changed ``n_steps`` where it can."""
    if round(float(num(fraction)) * n_steps) == steps:
        return f"{name} = round({num(fraction)} * n_steps)  # {steps}"
    return f"{name} = {steps}  # {100 * fraction:.3g} % of n_steps"


def _names(expressions: list[str]) -> tuple[str, ...]:
    return tuple(sorted({expression.partition("(")[0] for expression in expressions}))


def num(value: float) -> str:
    """Return a number as code, to ten digits: the learning rates stay the same to a part in a thousand million."""
    return f"{value:.10g}"

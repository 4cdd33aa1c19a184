"""A schedule as PyTorch code: torch's own scheduler where it has one, a function of the step where it has none.

All numbers follow ``n_steps``, so that the code stays right where somebody trains for longer, or on more images; those
that it has now stand beside it in comments.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from lrsearch import families
from lrsearch.domain import round_half_up
from lrsearch.schedules import warmup_steps
from lrsearch.trial import ScheduleConfig

Grouping = Literal["one", "alike", "unlike"]
"""Whether an optimizer has one group of parameters, several at one learning rate, or several at different ones."""

PLATEAU_EPS: Final = 1e-8
"""torch's default for ReduceLROnPlateau, which the search has applied to a peak of 1."""


@dataclass(frozen=True, slots=True)
class SchedulerCode:
    """The pieces of a program that set the learning rate; ``optimizer``, ``peak_lr`` and ``n_steps`` are in scope."""

    imports: tuple[str, ...] = ()
    """Names from torch.optim.lr_scheduler."""
    setup: tuple[str, ...] = ()
    """Lines before the loop."""
    schedulers: tuple[str, ...] = ()
    """Names that the setup gives: ``scheduler``, or ``plateau`` with a ``warmup`` before it, or none."""
    plateau_floor: tuple[str, ...] = ()
    """Lines before each step of ``plateau``, where its floor depends on ``warmup``."""

    @property
    def needs_math(self) -> bool:
        """Whether the lines use the module ``math``."""
        return any("math." in text for text in self.setup)

    @property
    def per_step(self) -> tuple[str, ...]:
        """Lines after ``optimizer.step()``."""
        names = [name for name in self.schedulers if name != "plateau"]
        return tuple(f"{name}.step()  # once per update, after optimizer.step()" for name in names)

    def per_epoch(self, validation_loss: str) -> tuple[str, ...]:
        """Return lines after each epoch; ``validation_loss`` is an expression."""
        if "plateau" not in self.schedulers:
            return ()
        return (*self.plateau_floor, f"plateau.step({validation_loss})  # once per epoch, on held-out images")


@dataclass(frozen=True, slots=True)
class _Main:
    """The schedule after warm-up: scheduler expressions, and at which update of it each after the first begins."""

    expressions: tuple[str, ...]
    starts: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


WARMUP: Final = "LinearLR(optimizer, start_factor=1 / ramp_steps, total_iters=ramp_steps - 1)"


class Formula(NamedTuple):
    """A schedule as a function of the update: the body of ``factor(step)``, which sets ``shape`` from ``s``."""

    body: tuple[str, ...]
    """``s`` counts the updates after warm-up, of which there are ``main_steps``."""
    numbers: Mapping[str, str]
    """The names in it, and the fields of the schedule that they stand for."""


FORMULAS: Final[dict[str, Formula]] = {
    "polynomial": Formula(
        ("shape = final + (1 - final) * (1 - s / main_steps) ** power",),
        {"final": "final_fraction", "power": "power"},
    ),
    "inverse_sqrt": Formula(
        ("shape = final / math.sqrt(final**2 + s / main_steps * (1 - final**2))",), {"final": "final_fraction"}
    ),
    "one_cycle": Formula(
        (
            "peak = rise * main_steps - 1",
            "rising = s <= peak and peak > 0",
            "low, span = (initial, peak) if rising else (final, main_steps - 1 - peak)",
            "shape = low + (1 - low) * (1 + math.cos(math.pi * abs(s - peak) / span)) / 2",
        ),
        {"final": "final_fraction", "rise": "rise_fraction", "initial": "initial_fraction"},
    ),
    "triangular": Formula(
        ("a = s * cycles % main_steps / main_steps", "shape = final + (1 - final) * (1 - abs(2 * a - 1))"),
        {"final": "final_fraction", "cycles": "cycles"},
    ),
}
"""What torch has no scheduler for, or none that starts after a warm-up; the others are written in ``_native``."""

TWINS: Final[dict[str, Formula]] = {
    "step": Formula(
        ("shape = final ** (s * (drops + 1) // main_steps / drops)",), {"final": "final_fraction", "drops": "drops"}
    ),
    "multistep": Formula(
        (
            "done = sum(s >= max(1, int(part * main_steps + 0.5)) for part in parts)",
            "shape = final ** (done / len(parts))",
        ),
        {"final": "final_fraction", "parts": "milestones"},
    ),
    "exponential": Formula(("shape = final ** (s / main_steps)",), {"final": "final_fraction"}),
    "linear": Formula(("shape = final + (1 - final) * (1 - s / main_steps)",), {"final": "final_fraction"}),
    "cosine": Formula(
        ("shape = final + (1 - final) * (1 + math.cos(math.pi * (s / main_steps))) / 2",), {"final": "final_fraction"}
    ),
    "warm_restarts": Formula(
        (
            "start, length = 0, -(-main_steps // sum(mult**i for i in range(cycles)))",
            "while s >= start + length:",
            "    start, length = start + length, length * mult",
            "done = (s - start) / length",
            "shape = final + (1 - final) * (1 + math.cos(math.pi * done)) / 2",
        ),
        {"final": "final_fraction", "cycles": "cycles", "mult": "cycle_mult"},
    ),
    "wsd": Formula(
        (
            "decay_steps = min(max(1, int(decay * n_steps + 0.5)), main_steps)",
            "shape = final + (1 - final) * min(1, (main_steps - s) / decay_steps)",
        ),
        {"final": "final_fraction", "decay": "decay_fraction"},
    ),
    "wsd_cosine": Formula(
        (
            "decay_steps = min(max(1, int(decay * n_steps + 0.5)), main_steps)",
            "fallen = max(0, (s - main_steps + decay_steps) / decay_steps)",
            "shape = final + (1 - final) * (1 + math.cos(math.pi * fallen)) / 2",
        ),
        {"final": "final_fraction", "decay": "decay_fraction"},
    ),
}
"""The others: for groups that learn with different rates, because torch's own schedulers have one floor for all."""


def scheduler_code(schedule: ScheduleConfig, n_steps: int, groups: Grouping = "one") -> SchedulerCode:
    """Return the code that sets the learning rate of ``n_steps`` updates as ``lrsearch.schedules`` does."""
    # Whether there is a warm-up is the schedule's word, not that of its length now: it may come to no update at all.
    warms = schedule.warmup_fraction > 0
    if families.of(schedule).feedback:
        return _plateau(schedule, n_steps, groups)
    if groups == "unlike" and schedule.family in FORMULAS | TWINS:
        return _function(schedule, n_steps)
    if schedule.family == "one_cycle" and not warms:
        return _one_cycle(schedule)
    main = _native(schedule, n_steps, warms=warms)
    if main is None:
        return _function(schedule, n_steps)
    setup = [*_warmup_lines(schedule, n_steps, (*main.setup, *main.expressions, *main.starts)), *main.setup]
    expressions, starts = list(main.expressions), list(main.starts)
    if warms:
        # After its last step LinearLR leaves the learning rate alone: a constant needs nothing more.
        starts = ["warmup_steps", *starts] if expressions else []
        expressions.insert(0, WARMUP)
    if not expressions:
        return SchedulerCode()
    if len(expressions) == 1:
        setup.append(f"scheduler = {expressions[0]}")
        return SchedulerCode(_names(expressions), tuple(setup), ("scheduler",))
    setup += ["schedulers = [", *(f"    {expression}," for expression in expressions), "]"]
    # torch 2.8's SequentialLR gives the first learning rate twice where its first scheduler has no update.
    setup.append(f"starts = [{', '.join(starts)}]")
    setup.append("skipped = starts.count(0)  # schedulers that have no update")
    setup.append("scheduler = SequentialLR(optimizer, schedulers[skipped:], starts[skipped:])")
    return SchedulerCode(_names([*expressions, "SequentialLR("]), tuple(setup), ("scheduler",))


def plateau_arguments(schedule: ScheduleConfig, peak_lr: float) -> dict[str, Any]:
    """Return what torch's ReduceLROnPlateau takes, the optimizer apart, for an optimizer at ``peak_lr``."""
    return {
        "factor": schedule.drop_factor,
        "patience": schedule.patience_epochs,
        "min_lr": (schedule.final_fraction or 0.0) * peak_lr,
        "eps": PLATEAU_EPS * peak_lr,
    }


def _native(schedule: ScheduleConfig, n_steps: int, *, warms: bool) -> _Main | None:
    """Return torch's schedulers for the part after warm-up; None where torch has none that does the same."""
    final = num(schedule.final_fraction or 0.0)
    steps = "main_steps" if warms else "n_steps"
    main_steps = n_steps - warmup_steps(schedule, n_steps)
    match schedule.family:
        case "constant":
            return _Main(())
        case "step":
            drops = schedule.drops or 1
            # Rounded up, as StepLR does where the treads are of equal length.
            at = f"[-(-{steps} * i // {drops + 1}) for i in range(1, {drops + 1})]"
            return _multistep(at, final, drops)
        case "multistep":
            parts = ", ".join(num(milestone) for milestone in schedule.milestones or ())
            at = f"[max(1, int(part * {steps} + 0.5)) for part in parts]"
            return _multistep(at, final, len(schedule.milestones or ()), f"parts = [{parts}]")
        case "exponential":
            return _Main((f"ExponentialLR(optimizer, gamma={final} ** (1 / {steps}))",))
        case "linear":
            return _Main((f"LinearLR(optimizer, start_factor=1.0, end_factor={final}, total_iters={steps})",))
        case "cosine":
            return _Main((f"CosineAnnealingLR(optimizer, T_max={steps}, eta_min={final} * peak_lr)",))
        case "polynomial" if not schedule.final_fraction:
            return _Main((f"PolynomialLR(optimizer, total_iters={steps}, power={num(schedule.power or 1.0)})",))
        case "triangular" if not warms:
            half = f"n_steps / {2 * (schedule.cycles or 1)}"
            return _Main(
                (f"CyclicLR(optimizer, {final} * peak_lr, peak_lr, step_size_up={half}, cycle_momentum=False)",)
            )
        case "warm_restarts":
            cycles, mult = schedule.cycles or 1, schedule.cycle_mult or 1
            parts = sum(mult**i for i in range(cycles))
            longer = f", then {mult} times as long" if mult > 1 else ""
            cycle = f"cycle_steps = -(-{steps} // {parts})  # {-(-main_steps // parts)} of {n_steps}{longer}"
            restart = (
                f"CosineAnnealingWarmRestarts(optimizer, T_0=cycle_steps, T_mult={mult}, eta_min={final} * peak_lr)"
            )
            return _Main((restart,), setup=(cycle,))
        case "wsd" | "wsd_cosine":
            share = schedule.decay_fraction or 0.0
            decay = min(max(round_half_up(share * n_steps), 1), main_steps)
            count = f"max(1, int({num(share)} * n_steps + 0.5))"
            # Within one half of an update of each other they may round to more than there is.
            most = f"min({count}, {steps})" if share + schedule.warmup_fraction > 0.5 else count
            line = f"decay_steps = {most}  # {decay} of {n_steps}"
            fall = f"LinearLR(optimizer, start_factor=1.0, end_factor={final}, total_iters=decay_steps)"
            if schedule.family == "wsd_cosine":
                fall = f"CosineAnnealingLR(optimizer, T_max=decay_steps, eta_min={final} * peak_lr)"
            return _Main(("ConstantLR(optimizer, factor=1.0)", fall), ("n_steps - decay_steps",), (line,))
        case _:
            return None


def _multistep(at: str, final: str, drops: int, *setup: str) -> _Main:
    # Several drops at one update count as often as they are named.
    gamma = final if drops == 1 else f"{final} ** (1 / {drops})"
    fall = f"MultiStepLR(optimizer, milestones=milestones, gamma={gamma})"
    return _Main((fall,), setup=(*setup, f"milestones = {at}"))


def _one_cycle(schedule: ScheduleConfig) -> SchedulerCode:
    """Return torch's OneCycleLR, and the formula for so few updates that there is none to rise in."""
    rise, initial = num(schedule.rise_fraction or 0.0), num(schedule.initial_fraction or 0.0)
    final = num(schedule.final_fraction or 0.0)
    one_cycle = (
        f"OneCycleLR(optimizer, peak_lr, total_steps=n_steps, pct_start={rise}, div_factor=1 / {initial}, "
        f"final_div_factor={initial} / {final}, cycle_momentum=False)"
    )
    setup = (
        f"peak = {rise} * n_steps - 1  # the update of the peak, 0-based",
        "if peak > 1e-6:",
        f"    scheduler = {one_cycle}",
        "else:  # no update to rise in",
        f"    low, part = {final}, math.pi / (n_steps - 1 - peak)",
        "    wave = [1 + math.cos(part * (s - peak)) for s in range(n_steps + 1)]",
        "    scheduler = LambdaLR(optimizer, lambda s: low + (1 - low) * wave[s] / 2)",
    )
    return SchedulerCode(("LambdaLR", "OneCycleLR"), setup, ("scheduler",))


def _function(schedule: ScheduleConfig, n_steps: int) -> SchedulerCode:
    """Return a LambdaLR over the formula of ``lrsearch.shapes``."""
    body, numbers = (FORMULAS | TWINS)[schedule.family]
    values = ", ".join(num(getattr(schedule, field) or 0.0) for field in numbers.values())
    warms = schedule.warmup_fraction > 0
    begin, ramp = ("max(step - warmup_steps, 0)", " * min((step + 1) / ramp_steps, 1)") if warms else ("step", "")
    setup = [
        *(_warmup_lines(schedule, n_steps, body) or ["main_steps = n_steps"]),
        f"{', '.join(numbers)} = {values}",
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
    return SchedulerCode(("LambdaLR",), tuple(setup), ("scheduler",))


def _plateau(schedule: ScheduleConfig, n_steps: int, groups: Grouping) -> SchedulerCode:
    """Return torch's ReduceLROnPlateau, with the warm-up as a scheduler of its own."""
    final = num(schedule.final_fraction or 0.0)
    rates: tuple[str, ...] = ()
    floor_of, smallest = f"{final} * peak_lr", "peak_lr"
    if groups == "unlike":
        rates = ('peaks = [group["lr"] for group in optimizer.param_groups]',)
        floor_of, smallest = f"[{final} * peak for peak in peaks]", "min(peaks)"
    plateau = (
        f"plateau = ReduceLROnPlateau(optimizer, factor={num(schedule.drop_factor or 0.0)}, "
        f"patience={schedule.patience_epochs}, min_lr={floor_of}, eps={PLATEAU_EPS} * {smallest})"
    )
    if not schedule.warmup_fraction:
        return SchedulerCode(("ReduceLROnPlateau",), (*rates, plateau), ("plateau",))
    setup = (*_warmup_lines(schedule, n_steps, ()), *rates, f"warmup = {WARMUP}", plateau)
    floor: tuple[str, ...] = ()
    if schedule.final_fraction:
        # Or a drop during the warm-up would stop at the floor of the peak, not at that of the ramp.
        one = f"{final} * warm * warmup.base_lrs[0]"
        floor = (
            "# The floor warms up too.",
            "warm = min((warmup.last_epoch + 1) / (warmup.total_iters + 1), 1)",
            f"plateau.min_lrs = [{one if groups == 'one' else f'{final} * warm * peak for peak in warmup.base_lrs'}]",
        )
    return SchedulerCode(("LinearLR", "ReduceLROnPlateau"), setup, ("warmup", "plateau"), floor)


def _warmup_lines(schedule: ScheduleConfig, n_steps: int, used_by: Iterable[str]) -> list[str]:
    """Return the numbers of updates of the warm-up and after it, as ``lrsearch.schedules`` rounds them."""
    if not schedule.warmup_fraction:
        return []
    warm = warmup_steps(schedule, n_steps)
    # The last update is never one of the warm-up, and a half is rounded up.
    count = f"min(int({num(schedule.warmup_fraction)} * n_steps + 0.5), n_steps - 1)"
    lines = [f"warmup_steps = {count}  # {warm} of {n_steps}"]
    lines.append("ramp_steps = max(warmup_steps, 1)")
    if any("main_steps" in text for text in used_by):
        lines.append("main_steps = n_steps - warmup_steps")
    return lines


def _names(expressions: list[str]) -> tuple[str, ...]:
    return tuple(sorted({expression.partition("(")[0] for expression in expressions}))


def num(value: float) -> str:
    """Return a number as code, all its digits: the learning rates are those that were searched."""
    return repr(value)

"""A program that was exported follows the schedule for any number of updates, not for the one that it was made with."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsearch.families import FAMILIES as RECORDS
from lrsearch.report.scheduler_code import scheduler_code
from lrsearch.schedules import factors
from lrsearch.trial import ScheduleConfig

SHAPES = {
    "step": {"drops": st.integers(1, 6)},
    "multistep": {
        "milestones": st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True).map(
            lambda m: tuple(sorted(m))
        )
    },
    "polynomial": {"power": st.floats(0.3, 4)},
    "one_cycle": {"rise_fraction": st.floats(0.01, 0.95), "initial_fraction": st.floats(0.01, 1)},
    "triangular": {"cycles": st.integers(1, 5)},
    "warm_restarts": {"cycles": st.integers(1, 4), "cycle_mult": st.integers(1, 3)},
    "wsd": {"decay_fraction": st.floats(0.001, 1)},
    "wsd_cosine": {"decay_fraction": st.floats(0.001, 1)},
}
FAMILIES = [family for family in RECORDS if family != "plateau"]
STEPS = st.integers(1, 12) | st.integers(1, 400)
WARMUPS = st.just(0.0) | st.floats(1e-6, 0.02) | st.floats(0, 0.999)


@st.composite
def schedules(draw: st.DrawFn, family: str) -> ScheduleConfig:
    shape = {name: draw(values) for name, values in SHAPES.get(family, {}).items()}
    if family != "constant":
        shape["final_fraction"] = draw(st.floats(1e-3, 0.5))
    return ScheduleConfig(family, warmup_fraction=draw(WARMUPS), **shape)  # type: ignore[arg-type]


def rates(schedule: ScheduleConfig, made_for: int, n_steps: int, peak_lr: float = 0.5) -> list[float]:
    """Return the learning rates of the program that was made for some updates, run for others."""
    code = scheduler_code(schedule, made_for)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak_lr)
    scope: dict[str, object] = {"optimizer": optimizer, "peak_lr": peak_lr, "n_steps": n_steps, "math": math}
    scope |= {name: getattr(torch.optim.lr_scheduler, name) for name in code.imports}
    exec("\n".join(code.setup), scope)
    found = []
    for step in range(n_steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step < n_steps - 1:
            for name in code.schedulers:
                scope[name].step()  # type: ignore[attr-defined]
    return found


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*")
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60)
@given(data=st.data(), made_for=STEPS, n_steps=STEPS)
def test_the_program_has_the_learning_rates_of_any_number_of_updates(
    family: str, data: st.DataObject, made_for: int, n_steps: int
) -> None:
    schedule = data.draw(schedules(family))
    expected = [0.5 * float(factor) for factor in factors(schedule, n_steps)]
    assert rates(schedule, made_for, n_steps) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*")
def test_a_warm_up_of_less_than_half_an_update_is_there_when_the_training_is_longer() -> None:
    schedule = ScheduleConfig("cosine", warmup_fraction=0.015, final_fraction=0.01)
    assert rates(schedule, 26, 26, 0.1)[0] == pytest.approx(0.1)
    assert rates(schedule, 26, 260, 0.1)[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])


@pytest.mark.parametrize("n_steps", [1, 2, 3, 50])
def test_a_plateau_warms_up_as_long_as_the_search_would(n_steps: int) -> None:
    schedule = ScheduleConfig("plateau", warmup_fraction=0.1, final_fraction=0.0, drop_factor=0.1, patience_epochs=2)
    code = scheduler_code(schedule, 4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scope: dict[str, object] = {"optimizer": optimizer, "peak_lr": 0.5, "n_steps": n_steps}
    scope |= {name: getattr(torch.optim.lr_scheduler, name) for name in code.imports}
    exec("\n".join(code.setup), scope)
    found = []
    for _ in range(n_steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scope["warmup"].step()  # type: ignore[attr-defined]
    assert found == pytest.approx([0.5 * float(factor) for factor in factors(schedule, n_steps)])

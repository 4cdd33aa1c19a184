"""`lrsearch show-schedule`: any schedule is drawn as it would be trained with, or refused in one sentence."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Finished, InProcess, one_line, run_python
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from trials_by_hand import config, epoch, trial

from lrsearch import schedules
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.cli.schedule import EPOCHS, STEPS_PER_EPOCH, parse
from lrsearch.families import FAMILIES, neutral
from lrsearch.report import schedule_drawing, words
from lrsearch.report.schedule_drawing import Drawn, Turn, turns
from lrsearch.spec.starts import NEUTRAL
from lrsearch.trial import ScheduleConfig, Trial

pytest_plugins = ["command_line"]

SAID: dict[str, tuple[str, Any]] = {
    "final_fraction": ("0.02", 0.02),
    "drops": ("3", 3),
    "milestones": ("0.3,0.8", (0.3, 0.8)),
    "power": ("2", 2),
    "rise_fraction": ("0.25", 0.25),
    "initial_fraction": ("0.1", 0.1),
    "cycles": ("2", 2),
    "cycle_mult": ("3", 3),
    "decay_fraction": ("0.4", 0.4),
    "drop_factor": ("0.5", 0.5),
    "patience_epochs": ("4", 4),
}
"""Of every field a value as it is typed and as it is meant."""

DRAWABLE = tuple(family for family in FAMILIES if family != "plateau")


def render(drawn: list[Drawn], width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(schedule_drawing.render(drawn, width))
    return captured.get()


def drawn_of(schedule: ScheduleConfig, peak_lr: float = 1.0, epochs: int = 10, steps: int = 100) -> Drawn:
    lrs = schedules.factors(schedule, epochs * steps) * peak_lr
    return Drawn("", schedule, peak_lr, lrs, steps, epochs)


@pytest.mark.parametrize("family", DRAWABLE)
def test_every_family_is_drawn_with_every_field(family: Any, lrsearch: InProcess) -> None:
    fields = FAMILIES[family].takes
    setting = " ".join([family, "warmup_fraction=0.1", "peak_lr=0.3", *(f"{name}={SAID[name][0]}" for name in fields)])
    argv = ("show-schedule", setting, "--epochs", "4", "--steps-per-epoch", "25")
    seen = lrsearch(*argv)
    assert (seen.code, seen.err) == (0, "")
    meant = ScheduleConfig(family, warmup_fraction=0.1, **{name: SAID[name][1] for name in fields})
    assert f"{schedules.describe(meant)}, peak lr 0.3" in seen.out
    (document,) = lrsearch(*argv, "--json").document["schedules"]
    expected = schedules.factors(meant, 100) * 0.3
    assert document["steps"] == list(range(100))
    assert document["lr"] == expected.tolist()
    assert document["words"] == schedules.describe(meant)
    ends = {turn["what"]: turn for turn in document["turns"]}
    assert ends["first"] == {"what": "first", "step": 0, "epoch": 1, "lr": expected[0]}
    assert ends["warm-up ends"]["step"] == 9
    assert ends["last"] == {"what": "last", "step": 99, "epoch": 4, "lr": expected[-1]}


@pytest.mark.parametrize("family", DRAWABLE)
def test_a_family_alone_is_drawn(family: Any, lrsearch: InProcess) -> None:
    (document,) = lrsearch("show-schedule", family, "--json").document["schedules"]
    assert (document["epochs"], document["steps_per_epoch"], document["peak_lr"]) == (EPOCHS, STEPS_PER_EPOCH, 1)
    assert document["schedule"]["warmup_fraction"] == 0


def test_what_a_setting_leaves_out_is_what_a_baseline_takes() -> None:
    for family, record in FAMILIES.items():
        assert neutral(family).items() <= NEUTRAL.items()
        assert tuple(neutral(family)) == record.takes
    assert {name for record in FAMILIES.values() for name in record.takes} == set(SAID)


def test_a_setting_as_it_is_typed_without_quotes_is_one_schedule(lrsearch: InProcess) -> None:
    quoted = lrsearch("show-schedule", "cosine warmup=0.1 final=0.01 lr=0.1")
    assert lrsearch("show-schedule", "cosine", "warmup=0.1", "final=0.01", "lr=0.1").out == quoted.out
    assert lrsearch("show-schedule", "lr=0.1", "cosine", "final=0.01", "warmup=0.1").out == quoted.out


def test_a_setting_of_a_trial_can_be_pasted(lrsearch: InProcess) -> None:
    made = config(0.24, schedule=ScheduleConfig("cosine", 0.05, 1e-3), batch_size=512)
    seen = lrsearch("show-schedule", words.setting(made))
    assert seen.code == 0
    assert one_line(seen) == "lrsearch: no part of a schedule, left out: sgd, batch=512\n"
    assert "cosine to 0.001 of the peak, warm-up 5 %, peak lr 0.24" in seen.out


@given(
    family=st.sampled_from(DRAWABLE),
    warmup=st.floats(0, 0.99),
    final=st.floats(1e-6, 1),
    lr=st.floats(1e-9, 1e3),
    epochs=st.integers(1, 40),
    steps=st.integers(1, 40),
)
def test_whatever_is_drawn_stays_within_its_width(
    family: Any, warmup: float, final: float, lr: float, epochs: int, steps: int
) -> None:
    floor = "" if family == "constant" else f"final={final!r}"
    schedule, peak_lr = parse(f"{family} warmup={warmup!r} {floor} lr={lr!r}")
    assert (schedule.warmup_fraction, peak_lr) == (warmup, lr)
    made = drawn_of(schedule, peak_lr, epochs, steps)
    for drawn in ([made], [made, made, made]):
        chart = [line for line in render(drawn, 70).splitlines() if "│" in line]
        assert len(chart) == schedule_drawing.ROWS
        assert max(len(line) for line in chart) <= 70
    steps_told = [turn.step for turn in turns(made)]
    assert steps_told == sorted(steps_told)
    assert (steps_told[0], steps_told[-1]) == (0, epochs * steps - 1)
    assert all(turn.lr == made.lrs[turn.step] for turn in turns(made))


# --- where it turns ---------------------------------------------------------------------------------------------------


def told(schedule: ScheduleConfig) -> list[tuple[str, int]]:
    return [(turn.what, turn.step) for turn in turns(drawn_of(schedule))]


def test_the_turning_points_are_named() -> None:
    assert told(ScheduleConfig("step", 0.1, 0.01, drops=2)) == [
        ("first", 0),
        ("warm-up ends", 99),
        ("drops to", 400),
        ("drops to", 700),
        ("last", 999),
    ]
    assert told(ScheduleConfig("multistep", 0.0, 0.01, milestones=(0.5, 0.75)))[1:3] == [
        ("drops to", 500),
        ("drops to", 750),
    ]
    one_cycle = ScheduleConfig("one_cycle", 0.0, 0.01, rise_fraction=0.3, initial_fraction=0.04)
    assert told(one_cycle) == [("first", 0), ("peak", 299), ("last", 999)]
    assert told(ScheduleConfig("warm_restarts", 0.0, 0.0, cycles=2, cycle_mult=1))[1] == ("restarts", 500)
    # At step 800 the straight line has not left the peak yet.
    assert told(ScheduleConfig("wsd", 0.0, 0.0, decay_fraction=0.2))[1] == ("decay begins", 801)
    assert told(ScheduleConfig("linear", 0.25, 0.0)) == [("first", 0), ("warm-up ends", 249), ("last", 999)]


def test_many_drops_are_counted_and_not_listed() -> None:
    text = render([drawn_of(ScheduleConfig("step", 0.0, 0.01, drops=20))])
    assert text.count("drops to ") == schedule_drawing.MOST_TURNS
    assert "drops to: 14 more" in text


def test_families_that_fall_by_factors_have_a_logarithmic_axis() -> None:
    assert "logarithmic axis" in render([drawn_of(ScheduleConfig("exponential", 0.0, 1e-3))])
    assert "logarithmic axis" not in render([drawn_of(ScheduleConfig("cosine", 0.0, 1e-3))])
    assert "logarithmic axis" not in render([drawn_of(ScheduleConfig("exponential", 0.0, 0.5))])


def test_a_rising_line_rises_and_a_falling_line_falls() -> None:
    def heights(text: str) -> list[int]:
        rows = [line.partition("│")[2] for line in text.splitlines() if "│" in line]
        width = max(len(row) for row in rows)
        return [next(i for i, row in enumerate(rows) if len(row) > c and row[c] != " ") for c in range(width)]

    falling = heights(render([drawn_of(ScheduleConfig("linear", 0.0, 0.0))]))
    assert falling == sorted(falling)
    assert (falling[0], falling[-1]) == (0, schedule_drawing.ROWS - 1)
    up_and_down = heights(render([drawn_of(ScheduleConfig("triangular", 0.0, 0.0, cycles=1))]))
    assert up_and_down.index(min(up_and_down)) == pytest.approx(len(up_and_down) / 2, abs=4)


def test_several_schedules_are_told_apart_without_colours(lrsearch: InProcess) -> None:
    seen = lrsearch("show-schedule", "step drops=3 lr=0.1", "linear lr=0.2", "wsd lr=0.05")
    chart = "".join(line for line in seen.out.splitlines() if "│" in line)
    for letter, title in (("A", "step"), ("B", "linear"), ("C", "wsd")):
        assert chart.count(letter) >= 4
        assert f"\n{letter}  {title} to " in seen.out
    assert len(lrsearch("show-schedule", "step", "linear", "wsd", "--json").document["schedules"]) == 3


def test_a_long_training_is_thinned_in_the_document(lrsearch: InProcess) -> None:
    argv = ("show-schedule", "cosine", "--epochs", "100", "--steps-per-epoch", "5000", "--json")
    (document,) = lrsearch(*argv).document["schedules"]
    assert len(document["lr"]) == len(document["steps"]) == schedule_drawing.MOST_STEPS_IN_JSON
    assert (document["steps"][0], document["steps"][-1], document["n_steps"]) == (0, 499_999, 500_000)
    lrs = schedules.factors(ScheduleConfig("cosine", 0.0, 1e-3), 500_000)
    assert document["lr"] == lrs[document["steps"]].tolist()


# --- of trials --------------------------------------------------------------------------------------------------------


def test_the_schedules_of_trials_are_those_that_they_were_trained_with(
    finished: Finished, tmp_path: Path, lrsearch: InProcess
) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    found = lrsearch("show-schedule", "--trial", "0", "--trial", "best", "digits", "--json").document["schedules"]
    assert len(found) == 2
    (first, _) = found
    shown = lrsearch("show", "0", "--json").document
    assert first["name"] == "trial 0"
    assert first["steps_per_epoch"] == shown["steps_per_epoch"]
    for row in shown["trial"]["metrics"]:
        assert first["lr"][row["step"] - 1] == pytest.approx(row["lr"], rel=1e-12)
    assert "trial 0: " in lrsearch("show-schedule", "--trial", "0").out


PLATEAU = ScheduleConfig("plateau", 0.0, 1e-3, drop_factor=0.1, patience_epochs=1)


def of_plateau(lrs: list[float], schedule: ScheduleConfig = PLATEAU) -> Drawn:
    rows = tuple(epoch(i, lr=lr) for i, lr in enumerate(lrs, start=1))
    made = trial(4, schedule=schedule)
    seen = Trial(4, made.config, made.state, made.outcome, rows)
    return Drawn("trial 4", schedule, 0.1, planned_lrs(seen, 25), 25, 10)


def test_plateau_is_drawn_as_far_as_it_is_known() -> None:
    made = of_plateau([0.1, 0.1, 0.01])
    assert turns(made) == [Turn("first", 0, 1, 0.1), Turn("drops to", 50, 3, pytest.approx(0.01)),
                           Turn("last", 74, 3, pytest.approx(0.01))]  # fmt: skip
    assert "what follows is not known" in render([made])
    # A warm-up that is longer than what is known has not ended.
    begun = of_plateau([0.05], ScheduleConfig("plateau", 0.5, 1e-3, drop_factor=0.1, patience_epochs=1))
    assert [turn.what for turn in turns(begun)] == ["first", "peak", "last"]


@pytest.mark.parametrize("more", [[], ["linear"]])
def test_plateau_cannot_be_drawn_ahead(more: list[str], lrsearch: InProcess) -> None:
    result = lrsearch("show-schedule", *more, "plateau patience_epochs=3")
    assert (result.code, result.out) == (2, "")
    assert "cannot be drawn ahead" in one_line(result)


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["cosin"], "did you mean 'cosine'?"),
        (["cosine warmpu=0.1"], "did you mean 'warmup'?"),
        (["cosine drops=2"], "schedule 'cosine' takes only warmup_fraction, final_fraction; got drops = 2"),
        (["cosine warmup=1"], "warmup_fraction of schedule 'cosine' must be at least 0 and below 1, got 1"),
        (["step final=0"], "final_fraction of schedule 'step' must be above 0 and at most 1, got 0"),
        (["step drops=2.5"], "drops of schedule 'step' must be a whole number from 1 to 1000, got 2.5"),
        (["plateau patience_epochs=-1"], "patience_epochs of schedule 'plateau' must be a whole number"),
        (["linear final=nan"], "final_fraction of schedule 'linear' must be"),
        (["linear final=lots"], "final_fraction must be a number, got 'lots'"),
        (["multistep milestones=0.5,x"], "milestones must be numbers such as 0.5,0.75"),
        (["multistep milestones=0.8,0.5"], "must be a tuple of rising fractions"),
        (["linear lr=0"], "lr must be above 0 and finite, got 0"),
        (["linear lr=inf"], "lr must be above 0 and finite, got inf"),
        (["linear lr=0.1 lr=0.2"], "given twice"),
        (["sgd lr=0.1"], "must name one schedule of"),
        (["linear cosine"], "must name one schedule of"),
        ([], "show-schedule must be given a setting"),
        ([""], "show-schedule must be given a setting"),
        (["linear"] * 9, "at most 8 schedules, got 9"),
        (["linear", "--epochs", "0"], "--epochs"),
        (["linear", "--epochs", "100000", "--steps-per-epoch", "101"], "at most 10,000,000, got 10,100,000"),
        (["--trial", "0", "--epochs", "3"], "a trial has its own"),
        (["--trial", "0", "digits", "mnist"], "at most one study"),
        (["--trial", "99", "digits"], "trials 0 to 5"),
        (["--trial", "0", "cosine"], "no study 'cosine'"),
        (["postgresql://me:secret@host/db"], "got a URL"),
    ],
)
def test_wrong_input_is_answered_in_one_sentence(
    argv: list[str], said: str, finished: Finished, tmp_path: Path, lrsearch: InProcess
) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    result = lrsearch("show-schedule", *argv)
    assert (result.code, result.out) == (2, "")
    assert said in one_line(result)
    assert "secret" not in result.err


def test_drawing_a_setting_loads_neither_torch_nor_optuna(tmp_path: Path) -> None:
    code = """
        import json, sys
        from lrsearch.cli.app import run
        code = run(["show-schedule", "cosine", "step"])
        print(json.dumps([code, [name for name in ("torch", "optuna", "sqlalchemy") if name in sys.modules]]))
    """
    result = run_python(code, tmp_path)
    assert json.loads(result.out.splitlines()[-1]) == [0, []]


def test_a_schedule_of_one_step_is_drawn(lrsearch: InProcess) -> None:
    seen = lrsearch("show-schedule", "linear", "--epochs", "1", "--steps-per-epoch", "1")
    assert seen.code == 0
    assert "1 step: 1 epoch of 1" in seen.out


def test_a_schedule_that_is_zero_all_the_way_is_drawn() -> None:
    made = drawn_of(ScheduleConfig("triangular", 0.0, 0.0, cycles=4), epochs=1, steps=4)
    assert not np.any(made.lrs)
    assert "triangular" in render([made])
    assert math.isfinite(turns(made)[-1].lr)

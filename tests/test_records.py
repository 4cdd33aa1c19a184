"""A schedule, an optimizer and a metric of one's own: one record each, and everything knows them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import clean_environment

from lrsearch.families import FAMILIES, Family
from lrsearch.records import Records
from lrsearch.spec.optimizers import OPTIMIZERS

OWN = '''
"""Records of one's own, and then the command line."""

import sys

import numpy as np

from lrsearch.domain import Field, Range, integer
from lrsearch.families import FAMILIES, Family
from lrsearch.report.scheduler_code import FORMULAS, Formula
from lrsearch.spec import metrics, optimizers

FAMILIES.add(
    Family(
        name="halves",
        shape=lambda s, n, _all: 0.5 ** (np.arange(n) * (s.drops + 1) // n),
        words=lambda s: f" by half, {s.drops} times",
        fields={"drops": Field(integer(1, 8), Range(1, 4, integer=True), 2)},
        by_factors=True,
        turn="drops to",
    )
)
FORMULAS["halves"] = Formula(("shape = 0.5 ** (s * (drops + 1) // main_steps)",), {"drops": "drops"})
adam = optimizers.OPTIMIZERS["adam"]
optimizers.OPTIMIZERS.add(
    optimizers.Optimizer(
        name="nadam",
        class_name="NAdam",
        fields=adam.fields,
        starts=(optimizers.Start(0, 2e-3, "halves"),),
        momentum=adam.momentum,
    )
)


def worst_class(confusion):
    return min(row[i] / sum(row) for i, row in enumerate(confusion) if sum(row))


metrics.METRICS.add(
    metrics.Metric(
        name="worst_recall",
        direction="maximize",
        is_share=True,
        best_words="best in its worst class",
        measure=worst_class,
        n_images=lambda counts: sum(counts) / len(counts),
    )
)

from lrsearch.__main__ import main

sys.argv[0] = "lrsearch"
sys.exit(main())
'''
STUDY = """
name = "own"
epochs = 3
dataset.limit = 300
objective.metric = "worst_recall"
budget.trials = 3
pruner.name = "none"
space.optimizer = "nadam"
space.schedule = ["halves", "cosine"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("own")
    (made / "own.py").write_text(OWN, "utf-8")
    (made / "own.toml").write_text(STUDY, "utf-8")
    run(made, "run", "own.toml", "--quiet", "--threads", "1")
    return made


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "own.py", *words],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_they_stand_in_the_space_and_the_dry_run(folder: Path) -> None:
    said = run(folder, "run", "own.toml", "--name", "another", "--dry-run")
    assert "drops_halves" in said
    assert "peak_lr_nadam" in said
    assert "worst recall" in said or "worst_recall" in said


def test_they_are_trained_and_stand_in_the_trials(folder: Path) -> None:
    document: dict[str, Any] = json.loads(run(folder, "trials", "--json"))
    trials = document["trials"]
    assert document["objective"] == {"metric": "worst_recall", "direction": "maximize"}
    assert {one["config"]["optimizer"]["name"] for one in trials} == {"nadam"}
    assert trials[0]["config"]["schedule"]["family"] == "halves"  # its start is the first of the portfolio
    assert trials[0]["config"]["schedule"]["drops"] == 2
    for one in trials:
        last = one["metrics"][-1]
        assert one["value"] == last["val_score"]
        assert 0 <= last["val_score"] < last["val_accuracy"]


def test_the_answer_is_given_in_the_metric_with_its_error(folder: Path) -> None:
    found = json.loads(run(folder, "best", "--json"))["winner"]
    assert found["val_score"] == found["value"]
    assert found["test_score"] is not None
    assert found["val_score_error"] > 0
    said = run(folder, "best")
    assert f"worst recall {found['value']:.3f} ±" in said


def test_the_words_of_the_schedule_are_its_own(folder: Path) -> None:
    assert "halves by half, 2 times" in run(folder, "show", "0")


@pytest.mark.slow
def test_the_report_and_the_status_know_the_metric(folder: Path) -> None:
    run(folder, "report", "-o", "own.html")
    page = (folder / "own.html").read_text("utf-8")
    assert "Worst recall against peak learning rate" in page
    assert "best in its worst class" in run(folder, "status")


@pytest.mark.slow
def test_the_exported_program_has_the_class_and_the_formula_and_trains_at_the_same_rates(folder: Path) -> None:
    text = run(folder, "export", "--trial", "0", "--to", "torch")
    assert "torch.optim.NAdam(" in text
    assert "shape = 0.5 ** (s * (drops + 1) // main_steps)" in text
    (folder / "program.py").write_text(text, "utf-8")
    program = [sys.executable, "program.py", "--lr-log", "lrs.csv"]
    subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    exported = json.loads(run(folder, "export", "--trial", "0", "--to", "json"))
    assert exported["optimizer"]["class"] == "torch.optim.NAdam"
    rows = (folder / "lrs.csv").read_text("utf-8").splitlines()[1:]
    assert [float(row.split(",")[-1]) for row in rows] == pytest.approx(exported["lr"], rel=1e-12)
    assert min(exported["lr"][exported["warmup_steps"] :]) == exported["lr"][-1] == pytest.approx(2e-3 / 4)


def test_a_name_is_taken_once_and_nothing_is_added_to_a_format_that_stands() -> None:
    with pytest.raises(ValueError, match=r"the name 'cosine' is taken; known: constant, step"):
        FAMILIES.add(FAMILIES["cosine"])
    import lrsearch.spec.space  # noqa: F401 - closes the records

    with pytest.raises(ValueError, match=r"'other' must be added before lrsearch\.spec is imported"):
        FAMILIES.add(Family(name="other", shape=FAMILIES["cosine"].shape, words=FAMILIES["cosine"].words))


def test_records_are_found_by_name_in_their_order() -> None:
    first, second = OPTIMIZERS["sgd"], OPTIMIZERS["adam"]
    records = Records(first)
    records.add(second)
    assert list(records) == ["sgd", "adam"]
    assert records["adam"] is second
    assert len(records) == 2
    assert "rmsprop" not in records

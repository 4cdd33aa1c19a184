"""What is printed fits where it goes: narrow terminals, pipes, letters only; one thing is not called many."""

import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import InProcess
from conftest import plain_optuna
from rich.console import Console, RenderableType
from test_report import Row
from trials_by_hand import interrupted, spec, trial

from lrsearch.report import answer, status, tables, trace
from lrsearch.spec import parameters
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store import study as studies
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database
from lrsearch.trial import Reason, Refused, State, Trial

pytest_plugins = ["command_line"]

WIDTHS = (20, 30, 40, 60, 79, 80, 100, 200)
TRIALS = [
    trial(0),
    trial(7, State.PRUNED),
    interrupted(trial(12, State.DIVERGED), Reason.LOST),
    trial(1234, State.FAILED),
    trial(99_999, accuracy=0.95),
]
REFUSED = Refused(4321, {"peak_lr_sgd": 50.0}, "enqueued outside the space: peak_lr_sgd must be at most 1, got 50.0")
NAMES = ["digits", "n" * 60, "a name of several words", "x"]


def printed(what: RenderableType, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(what, crop=False)
    return capture.get()


def rows_of_trials(width: int) -> tuple[list[str], str]:
    text = printed(tables.trials_table(TRIALS, spec(), [REFUSED]), width)
    return [str(one.number) for one in (*TRIALS, REFUSED)], text


def rows_of_studies(width: int) -> tuple[list[str], str]:
    made = datetime(2026, 1, 2, tzinfo=UTC)
    rows = [Row(name, "fashion-mnist", "cnn", BudgetSpec(trials=50), {State.COMPLETE: 3}, made) for name in NAMES]
    return NAMES, printed(tables.studies_table(rows), width)


def rows_of_space(width: int) -> tuple[list[str], str]:
    rows = list(parameters.rows(spec().space))
    return [name for name, *_ in rows], printed(tables.space_table(rows), width)


def rows_of_epochs(width: int) -> tuple[list[str], str]:
    one = trial(0)
    return [str(row.epoch) for row in one.metrics], printed(trace.render(one, spec(), width), width)


TABLES: dict[str, Callable[[int], tuple[list[str], str]]] = {
    "trials": rows_of_trials,
    "studies": rows_of_studies,
    "space": rows_of_space,
    "epochs": rows_of_epochs,
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", TABLES)
def test_what_a_row_is_called_never_gives_way(table: str, width: int) -> None:
    names, text = TABLES[table](width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    if table in ("studies", "space"):
        # Long names are folded: their parts stand under each other.
        columns = "".join(
            line[: width // 2 if width > 60 else width].split("  ")[0].strip() for line in text.splitlines()
        )
        assert all(name.replace(" ", "") in columns.replace(" ", "") for name in names), text
    else:
        found = set(re.findall(r"(?<![\w.])\d+(?![\w.])", text))
        assert set(names) <= found, text


@pytest.mark.parametrize("width", [40, 60])
def test_what_is_left_out_is_said_with_where_to_see_it(width: int) -> None:
    _, text = rows_of_trials(width)
    said = " ".join(text.split("too narrow for ")[1].split())
    assert said.endswith("--format csv has all")
    assert "val loss" in said
    assert "state" in text
    assert re.search(r"^ *7 *pruned\b", text, re.MULTILINE), text


# --- pipes -----------------------------------------------------------------------------------------------------------


SMALL = ("--epochs", "1", "--quiet", "--threads", "1", "--set", "pruner.name=none")


def searched(lrsearch: InProcess, trials: int, *more: str) -> None:
    assert lrsearch("run", "--trials", str(trials), "--name", "one", *SMALL, *more).code == 0


def test_nothing_that_is_piped_ends_in_blanks(lrsearch: InProcess) -> None:
    searched(lrsearch, 2)
    for command in (["best"], ["status"], ["show", "0"], ["trials"], ["list"], ["show-schedule", "cosine lr=0.1"]):
        out = lrsearch(*command).out
        assert out
        assert [line for line in out.splitlines() if line != line.rstrip()] == [], command


@pytest.mark.parametrize("width", [40, 120])
def test_the_options_that_widen_the_space_are_on_a_line_of_their_own(width: int) -> None:
    narrow = {"low": 1e-3, "high": 0.1, "log": True}
    searched = spec(space={"optimizer": {"sgd": {"peak_lr": narrow}}})
    rates = {0.001: 0.2, 0.002: 0.3, 0.005: 0.5, 0.01: 0.6, 0.02: 0.7, 0.05: 0.9, 0.08: 0.95, 0.1: 0.96}
    trials = [trial(i, accuracy=accuracy, lr=lr) for i, (lr, accuracy) in enumerate(rates.items())]
    text = printed(answer.build(trials, searched, "lrsearch.db").render(), width)
    (line,) = (line for line in text.splitlines() if "--name NEW" in line)
    assert re.fullmatch(r" +--name NEW --set '?space\.optimizer\.sgd\.peak_lr=\S.*\}'? *", line), line


def test_one_thing_is_not_called_many(lrsearch: InProcess) -> None:
    searched(lrsearch, 1)
    said = [lrsearch("run", "one", "--trials", "1", "--quiet").out]
    for command in (["best"], ["status"], ["show", "0"], ["trials"], ["list"], ["extend", "one", "--trials", "1"]):
        said.append(lrsearch(*command).out)
    said.append(lrsearch("show-schedule", "cosine lr=0.1", "--epochs", "1", "--steps-per-epoch", "1").out)
    said.append(lrsearch("delete", "one", "--yes").out)
    wrong = re.findall(r"(?<![\d.,])1 \w*(?:epochs|images|trials|updates|steps|settings|others?s)\b.*", "\n".join(said))
    assert wrong == []


# --- what a trial is called ------------------------------------------------------------------------------------------


@dataclass
class Shown:
    """What is said of the trials, everywhere."""

    table: str
    document: dict[str, Any]
    csv: str
    status: str
    status_document: dict[str, Any]


def everywhere(trials: Sequence[Trial], refused: Sequence[Refused] = ()) -> Shown:
    budget = BudgetSpec(trials=50)
    return Shown(
        printed(tables.trials_table(trials, spec(), refused), 120),
        tables.trials_json(trials, spec(), refused),
        tables.trials_csv(trials, refused),
        printed(status.status_table(trials, spec(), budget, refused=refused), 120),
        status.status_json(trials, spec(), budget, refused=refused),
    )


def test_a_trial_that_nobody_works_on_is_interrupted_wherever_it_is_shown() -> None:
    running = replace(trial(3), state=State.RUNNING, outcome=None)
    found = everywhere([trial(0), running, replace(running, number=4, interrupted=True)])
    assert re.search(r"^ *3 *running\b", found.table, re.MULTILINE)
    assert re.search(r"^ *4 *interrupted\b", found.table, re.MULTILINE)
    assert "1 complete, 0 pruned, 0 diverged, 1 running, 1 interrupted" in found.status
    assert [(row["state"], row["interrupted"]) for row in found.document["trials"]] == [
        ("complete", False),
        ("running", False),
        ("running", True),
    ]
    assert [line.split(",")[:3] for line in found.csv.splitlines()] == [
        ["number", "state", "interrupted"],
        ["0", "complete", "False"],
        ["3", "running", "False"],
        ["4", "running", "True"],
    ]
    assert (found.status_document["counts"]["running"], found.status_document["interrupted"]) == (2, 1)


def test_what_was_enqueued_outside_the_space_is_known_later(lrsearch: InProcess, tmp_path: Path) -> None:
    searched(lrsearch, 1)
    with (
        closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database,
        plain_optuna(studies.get(database, "one")) as plain,
    ):
        plain.enqueue_trial({"peak_lr_sgd": 50.0})
    assert lrsearch("run", "one", "--trials", "2", "--quiet").code == 0
    why = "enqueued outside the space: peak_lr_sgd must be"
    shown = lrsearch("show", "1")
    assert shown.code == 0
    assert shown.out.startswith(f"trial 1 of one was not trained: {why}")
    assert "enqueued: peak_lr_sgd=50.0" in shown.out
    document = lrsearch("show", "1", "--json").document
    assert (document["trial"]["state"], document["trial"]["reason"]) == ("failed", "not_in_space")
    assert re.search(r"^ *1 *refused\b", lrsearch("trials").out, re.MULTILINE)
    (refused,) = lrsearch("trials", "--json").document["refused"]
    assert (refused["number"], refused["params"]) == (1, {"peak_lr_sgd": 50.0})
    assert lrsearch("trials", "--format", "csv").out.splitlines()[2].startswith("1,failed,,")
    said = lrsearch("status").out
    assert "1 failed" in said
    assert f"refused    trial 1: {why}" in said
    assert lrsearch("status", "--json").document["counts"]["failed"] == 1
    assert lrsearch("list", "--json").document["studies"][0]["counts"]["failed"] == 1
    missing = lrsearch("show", "9")
    assert missing.code == 2
    assert "has trials 0 to 2" in missing.err

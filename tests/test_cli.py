"""The commands, what they print and where, and what they leave in the database."""

import csv
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import typer
from command_line import (
    ESCAPE,
    N_EPOCHS,
    N_TRIALS,
    SMALL,
    Finished,
    InProcess,
    Result,
    at_a_terminal,
    clean_environment,
    end_of,
    one_line,
)
from conftest import wait_until

from lrsearch import __version__
from lrsearch.cli import app, searching
from lrsearch.errors import EXIT_USAGE
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec

pytest_plugins = ["command_line"]

NUMBER = r"-?[\d.]+(?:e[+-]\d+)?"
EVENTS = {
    # D9's forms, with the seconds since the start before each.
    ">": rf"trial (\d+) (?:sgd|adamw) peak_lr={NUMBER} \w+(?: warmup={NUMBER})? batch=\d+(?: \((?:\w+(?:, )?)+\))?",
    ".": rf"(\d+) epoch \d+/\d+ val_acc=0\.\d{{3}} lr={NUMBER}",
    "<": r"(\d+) complete 0\.\d{3}",
    "x": rf"(\d+) pruned at epoch \d+: {NUMBER} below rung cut {NUMBER}",
    "!": rf"(\d+) (?:diverged at step \d+, lr {NUMBER}: loss|collapsed at step \d+, lr {NUMBER}: a guess) .+",
    "=": r"ended: ()(?:all \d+ trials of the budget are|the one trial of the budget is) finished",
}
EVENT = re.compile(rf"(\d+\.\d)s (?:{'|'.join(rf'(?P<m{i}>[{m}]) {f}' for i, (m, f) in enumerate(EVENTS.items()))})")

WIDE = "space.optimizer.sgd.peak_lr={low = 0.001, high = 1e6, log = true}"
TOO_HIGH = "sgd lr=1e6 constant"


@pytest.fixture
def study(finished: Finished, tmp_path: Path, lrsearch: InProcess) -> InProcess:
    """Runs commands beside a copy of the finished study."""
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    return lrsearch


def parsed(err: str) -> list[tuple[float, str, str]]:
    """Return the event lines as (seconds, mark, trial number); every line must be one."""
    found = []
    for line in err.splitlines():
        match = EVENT.fullmatch(line)
        assert match, line
        seconds, *rest = (group for group in match.groups() if group is not None)
        found.append((float(seconds), rest[0], rest[1]))
    return found


def results(run: InProcess, *argv: str) -> list[tuple[Any, ...]]:
    """Return what the trials of a study are and came to, without their times."""
    document = run("trials", *argv, "--json").document
    same = ("number", "state", "value", "message", "params")
    return [
        (*(row[key] for key in same), *((m["train_loss"], m["val_loss"]) for m in row["metrics"]))
        for row in document["trials"]
    ]


# --- run -------------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_answer_to_stdout_and_one_line_an_event_to_stderr(finished: Finished) -> None:
    out, events = finished.run.out, parsed(finished.run.err)
    assert out.startswith("The best of 6 trials of digits (")
    for words in ("optimizer", "peak lr", "schedule", "batch size", "validation", "test", "How sure", "In PyTorch"):
        assert words in out, out
    assert "lrsearch run --epochs 3 --trials 56" in out, "the command that goes on is the one that was typed"
    seconds = [event[0] for event in events]
    assert seconds == sorted(seconds)
    assert events[-1][1:] == ("=", "")
    told = "".join(mark for _, mark, _ in events)
    assert re.fullmatch(r"(?:>\.{0,3}[<x!])*=", told), told
    for k in range(N_TRIALS):
        mine = "".join(mark for _, mark, number in events if number == str(k))
        assert re.fullmatch(r">(?:\.{3}<|\.{1,2}x|\.{0,2}!)", mine), mine


def test_the_snippet_of_the_answer_is_a_program(finished: Finished) -> None:
    program = finished.run.out.partition("In PyTorch\n")[2].partition("\nNext\n")[0]
    compile(program, "the answer", "exec")
    assert "torch.optim." in program


def test_quiet_leaves_nothing_but_the_answer(lrsearch: InProcess, finished: Finished) -> None:
    result = lrsearch(*SMALL, "--quiet")
    assert result.code == 0
    assert result.err == ""
    assert result.out.partition("Next")[0] == finished.run.out.partition("Next")[0], "the same study, the same answer"


def test_json_is_one_document_with_the_winner_that_best_names(lrsearch: InProcess) -> None:
    run = lrsearch(*SMALL, "--json")
    assert run.code == 0
    assert parsed(run.err), "progress stays on stderr"
    document = run.document
    assert document["schema"] == "lrsearch/answer/1"
    best = lrsearch("best", "--json").document
    for key in ("number", "config", "value", "params"):
        assert document["winner"][key] == best["winner"][key]
    assert 0.5 < document["winner"]["test_accuracy"] <= 1


def test_a_message_with_square_brackets_stays_whole_in_an_event_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from lrsearch.cli.options import stderr
    from lrsearch.events import Event, TrialEnded
    from lrsearch.store.filing import create
    from lrsearch.store.places import SqliteFile
    from lrsearch.store.storage import Database
    from lrsearch.trial import Outcome, Reason, State

    message = "RuntimeError: [enforce fail at x.cpp:12] :fire: [red] /path"

    def events() -> Iterator[Event]:
        yield TrialEnded(0, Outcome(State.FAILED, Reason.CRASH, None, 0, message=message))

    database = Database(SqliteFile(tmp_path / "a.db"))
    filed = create(database, StudySpec(name="probe"))
    going = (event for event in events())
    searching.follow(going, filed, stderr(), 0.0, live=False, quiet=False)
    database.close()
    assert message in capsys.readouterr().err


def test_without_a_complete_trial_the_exit_code_is_3(lrsearch: InProcess) -> None:
    result = lrsearch("run", "--trials", "1", "--baseline", TOO_HIGH, "--set", WIDE)
    assert result.code == 3, result.err
    assert "! 0 diverged at step" in result.err
    assert result.out.startswith("No answer: none of 1 trial was trained through")
    again = lrsearch("best", "--json")
    assert again.code == 3
    assert again.document["winner"] is None


# --- resuming --------------------------------------------------------------------------------------------------------


def test_running_the_name_again_trains_nothing_and_answers_the_same(study: InProcess, finished: Finished) -> None:
    result = study(*SMALL)
    assert result.code == 0
    assert [mark for _, mark, _ in parsed(result.err)] == ["="]
    assert result.out == finished.run.out


def test_more_trials_are_trained_on_top(study: InProcess, tmp_path: Path) -> None:
    before = results(study)
    result = study("run", "--trials", "9", "--epochs", "3")
    assert result.code == 0
    assert [number for _, mark, number in parsed(result.err) if mark == ">"] == ["6", "7", "8"]
    assert results(study)[:N_TRIALS] == before
    assert len(results(study)) == 9
    assert study("status", "--json").document["budget"]["trials"] == 9


def test_fewer_trials_end_the_run_at_once(study: InProcess) -> None:
    before = results(study)
    result = study("run", "--trials", "2", "--epochs", "3")
    assert result.code == 0
    assert [mark for _, mark, _ in parsed(result.err)] == ["="]
    assert results(study) == before


def test_a_study_of_the_database_is_resumed_by_its_name(lrsearch: InProcess) -> None:
    small = ("--trials", "1", "--epochs", "1", "--set", "space.batch_size=200")
    assert lrsearch("run", *small, "--name", "mine").code == 0
    result = lrsearch("run", "mine", "--trials", "2")
    assert result.code == 0, result.err
    assert [number for _, mark, number in parsed(result.err) if mark == ">"] == ["1"]
    assert "batch=200" in result.err


def test_the_command_that_goes_on_forgets_the_old_number_of_trials(lrsearch: InProcess) -> None:
    result = lrsearch("run", "--set", "budget.trials=1", "--set=seed=3", "--epochs=1", "--name", "a", "--quiet")
    assert result.code == 0, result.err
    again = next(line.strip() for line in result.out.splitlines() if "go on, to" in line)
    assert again.startswith("lrsearch run --set seed=3 --epochs=1 --name a --quiet --trials 51 ")


def test_the_same_study_into_two_databases_gives_the_same_trials(lrsearch: InProcess, finished: Finished) -> None:
    assert lrsearch(*SMALL, "--quiet", "--storage", "other.db").code == 0
    one = results(lrsearch, "--storage", str(finished.database))
    other = results(lrsearch, "--storage", "other.db")
    assert len(one) == N_TRIALS
    assert one == other, "a process of its own and this one, a day or a minute apart"


def test_another_seed_gives_other_trials(lrsearch: InProcess, finished: Finished) -> None:
    assert lrsearch(*SMALL, "--quiet", "--seed", "1").code == 0
    one = results(lrsearch, "--storage", str(finished.database))
    assert [row[1:] for row in results(lrsearch)] != [row[1:] for row in one]


# --- what a run resolves to ------------------------------------------------------------------------------------------


def dry(run: InProcess, *argv: str) -> dict[str, Any]:
    result = run("run", *argv, "--dry-run", "--json")
    assert result.code == 0, result.err
    document: dict[str, Any] = result.document
    assert document["schema"] == "lrsearch/spec/1"
    return document


@pytest.mark.parametrize("shipped", sorted(study_file.shipped().keys() - {"pictures", "fine-tune"}))
def test_a_dry_run_prints_a_study_file_of_the_same_identity(shipped: str, lrsearch: InProcess, tmp_path: Path) -> None:
    result = lrsearch("run", shipped, "--dry-run", "--set", "space.optimizer=sgd")
    assert result.code == 0
    assert result.err == ""
    toml, _, table = result.out.partition("\nparameter ")
    saved = tmp_path / "saved.toml"
    saved.write_text(toml, "utf-8")
    assert tomllib.loads(toml)["name"] == shipped
    document = dry(lrsearch, "saved.toml")
    assert document == dry(lrsearch, shipped, "--set", "space.optimizer=sgd")
    assert "peak_lr_sgd " in table
    assert "peak_lr_adamw" not in table
    assert not (tmp_path / "lrsearch.db").exists()


def test_naming_one_optimizer_narrows_the_search(lrsearch: InProcess) -> None:
    spec = dry(lrsearch, "--set", "space.optimizer=adamw")["spec"]
    assert list(spec["space"]["optimizer"]) == ["adamw"]
    assert spec["space"]["optimizer"]["adamw"]["weight_decay"] == {"low": 0.01, "high": 1.0, "log": True}
    result = lrsearch("run", "--trials", "3", "--epochs", "1", "--set", "space.optimizer=adam")
    assert result.code == 0
    assert [" adam " in line for line in result.err.splitlines() if " > " in line] == [True] * 3


def test_an_option_beats_the_environment_beats_the_study_file_beats_the_default(
    lrsearch: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(*argv: str) -> list[int]:
        spec = dry(lrsearch, *argv)["spec"]
        return [spec["epochs"], spec["seed"], spec["budget"]["trials"]]

    (tmp_path / "file.toml").write_text("epochs = 4\nseed = 14\nbudget = { trials = 24 }\n", "utf-8")
    (tmp_path / "empty.toml").touch()
    assert seen("empty.toml") == [10, 0, 50]
    assert seen("file.toml") == [4, 14, 24]
    for key, value in (("EPOCHS", "5"), ("SEED", "15"), ("TRIALS", "25")):
        monkeypatch.setenv(f"LRSEARCH_{key}", value)
    assert seen("file.toml") == [5, 15, 25]
    assert seen("file.toml", "--epochs", "6", "--seed", "16", "--trials", "26") == [6, 16, 26]
    monkeypatch.setenv("LRSEARCH_EPOCHS", "")
    assert seen("file.toml")[0] == 4, "an empty variable is none"


def test_the_database_comes_from_the_option_or_the_environment_or_lies_here(
    study: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lrsearch.db").rename(tmp_path / "mine.db")
    assert study("status").code == 4
    monkeypatch.setenv("LRSEARCH_STORAGE", "mine.db")
    assert study("status").code == 0
    assert study("status", "--storage", "other.db").code == 4
    monkeypatch.setenv("LRSEARCH_STORAGE", "other.db")
    assert study("status", "--storage", f"sqlite:///{tmp_path}/mine.db").code == 0


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), "digits"),
        (("--model", "cnn"), "digits"),
        (("--dataset", "digits"), "digits"),
        (("--dataset", "mnist"), "mnist-mlp"),
        (("digits", "--set", "dataset.name=cifar10", "--model", "cnn"), "cifar10-cnn"),
        (("mnist-cnn", "--dataset", "digits"), "digits-cnn"),
        (("--dataset", "mnist", "--name", "mine"), "mine"),
    ],
)
def test_a_study_of_another_data_set_than_the_files_says_so_in_its_name(
    lrsearch: InProcess, words: tuple[str, ...], name: str
) -> None:
    assert lrsearch("run", *words, "--dry-run", "--json").document["spec"]["name"] == name


def test_the_data_folder_and_the_device_come_from_the_environment(
    lrsearch: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRSEARCH_DATA_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert str(tmp_path / "elsewhere") in one_line(lrsearch("run", "--dataset", "mnist"))
    monkeypatch.setenv("LRSEARCH_DEVICE", "nowhere")
    assert lrsearch("run").code == 5


def test_init_writes_a_study_file_whose_values_are_the_defaults(lrsearch: InProcess, tmp_path: Path) -> None:
    result = lrsearch("init")
    assert (result.code, result.err) == (0, "")
    assert result.out == "wrote study.toml; run it with: lrsearch run study.toml\n"
    document = dry(lrsearch, "study.toml")
    assert document["identity"] == StudySpec(name="x").identity_hash()
    text = (tmp_path / "study.toml").read_text("utf-8")
    assert text.count("#") > 20, "it is commented"


def test_init_overwrites_only_when_told_to(lrsearch: InProcess, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("epochs = 3\n", "utf-8")
    result = lrsearch("init", "mine.toml")
    assert result.code == 2
    assert "--force" in one_line(result)
    assert mine.read_text("utf-8") == "epochs = 3\n"
    assert lrsearch("init", "mine.toml", "--force").code == 0
    assert "[space]" in mine.read_text("utf-8")


@pytest.mark.parametrize(
    "line", ["# limit = 1000", "# hidden = [128]", "# hours = 1.5", "# min_resource = 1", "# power = 1.4"]
)
def test_what_init_leaves_commented_out_can_be_commented_in(line: str, lrsearch: InProcess, tmp_path: Path) -> None:
    assert lrsearch("init").code == 0
    path = tmp_path / "study.toml"
    text = path.read_text("utf-8")
    assert line in text
    path.write_text(text.replace(line, line.removeprefix("# ")), "utf-8")
    dry(lrsearch, "study.toml")


# --- looking at a study ----------------------------------------------------------------------------------------------


def test_trials_are_a_table_with_a_star_at_the_best(study: InProcess) -> None:
    result = study("trials")
    assert (result.code, result.err) == (0, "")
    head, *rows = [line for line in result.out.splitlines() if line.strip() and "─" not in line]
    assert head.split()[:4] == ["#", "state", "accuracy", "val"]
    assert [row.replace("*", " ").split()[0] for row in rows] == [str(k) for k in range(N_TRIALS)]
    best = study("best", "--json").document["winner"]["number"]
    assert [row.strip().startswith("*") for row in rows] == [k == best for k in range(N_TRIALS)]


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"], ["-f", "json"]])
def test_trials_are_json(option: list[str], study: InProcess) -> None:
    document = study("trials", "digits", *option).document
    assert document["schema"] == "lrsearch/trials/1"
    assert [row["number"] for row in document["trials"]] == list(range(N_TRIALS))
    assert document["best"] == study("best", "--json").document["winner"]["number"]
    for row in document["trials"]:
        assert row["state"] in ("complete", "pruned", "diverged")
        assert len(row["metrics"]) == row["epoch"]
        assert row["config"]["epochs"] == N_EPOCHS


def test_trials_are_csv_with_a_row_a_trial(study: InProcess) -> None:
    result = study("trials", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.out), strict=True))
    assert [row["number"] for row in rows] == [str(k) for k in range(N_TRIALS)]
    known = {str(row["number"]): row for row in study("trials", "--json").document["trials"]}
    for row in rows:
        assert None not in row
        assert None not in row.values()
        assert float(row["peak_lr"]) == known[row["number"]]["config"]["optimizer"]["peak_lr"]
        assert row["state"] == known[row["number"]]["state"]


def test_best_says_what_the_run_said(study: InProcess, finished: Finished) -> None:
    result = study("best")
    assert (result.code, result.err) == (0, "")
    assert result.out.partition("Next")[0] == finished.run.out.partition("Next")[0]


def test_status_says_how_far_a_study_is(study: InProcess) -> None:
    text = study("status").out
    assert "6 of 6 trials finished" in text
    assert "mlp on digits" in text
    document = study("status", "digits", "--json").document
    assert document["schema"] == "lrsearch/status/1"
    assert document["finished"] == N_TRIALS
    assert sum(document["counts"].values()) == N_TRIALS
    assert document["running"] == []


def test_list_names_the_studies_with_their_counts(study: InProcess) -> None:
    assert study("run", "seed-pipeline", "--trials", "1", "--epochs", "1", "--quiet").code == 0
    text = study("list").out
    assert re.search(r"^digits +digits +mlp +6/6 ", text, re.MULTILINE), text
    assert re.search(r"^seed-pipeline +digits +mlp +1/1 ", text, re.MULTILINE), text
    document = study("list", "--json").document
    assert document["schema"] == "lrsearch/studies/1"
    assert [row["name"] for row in document["studies"]] == ["digits", "seed-pipeline"]
    assert one_line(study("status")), "of two studies one must be named"
    assert study("status", "digits").code == 0


def test_show_draws_every_trial(study: InProcess) -> None:
    for row in study("trials", "--json").document["trials"]:
        result = study("show", str(row["number"]), "digits")
        assert (result.code, result.err) == (0, "")
        assert f"{row['number']} of digits" in result.out
        assert "Loss [nats]" in result.out
        assert "Learning rate over" in result.out
        numbered = re.findall(r"^\| +(\d+) \|", result.out, re.MULTILINE)
        assert numbered == [str(epoch + 1) for epoch in range(row["epoch"])]
        document = study("show", str(row["number"]), "--json").document
        assert document["schema"] == "lrsearch/trial/1"
        assert document["trial"]["number"] == row["number"]
        assert all(metric["observation"] for metric in document["trial"]["metrics"])


def test_show_draws_a_trial_that_diverged_within_its_first_epoch(lrsearch: InProcess) -> None:
    lrsearch("run", "--trials", "1", "--baseline", TOO_HIGH, "--set", WIDE, "--quiet")
    result = lrsearch("show", "0")
    assert (result.code, result.err) == (0, "")
    assert "diverged at step" in result.out
    assert "No epoch was completed" in result.out
    assert "Learning rate over" in result.out
    document = lrsearch("show", "0", "--json").document
    assert document["trial"]["state"] == "diverged"
    assert document["trial"]["metrics"] == []
    for command in (["trials"], ["trials", "--json"], ["trials", "-f", "csv"], ["best"], ["status"], ["list"]):
        said = lrsearch(*command)
        assert (said.code, said.err) == (3 if command == ["best"] else 0, ""), command


def test_an_empty_study_can_be_looked_at(lrsearch: InProcess, tmp_path: Path) -> None:
    from lrsearch.store import filing
    from lrsearch.store.places import SqliteFile
    from lrsearch.store.storage import Database

    database = Database(SqliteFile(tmp_path / "lrsearch.db"))
    filing.create(database, StudySpec(name="empty"))
    database.close()
    for command in (["trials"], ["trials", "--json"], ["trials", "-f", "csv"], ["status"], ["list"]):
        assert lrsearch(*command).code == 0
    assert lrsearch("best").code == 3
    assert "has no trial yet" in one_line(lrsearch("show", "0"))


def test_reading_changes_nothing_in_the_database(study: InProcess, tmp_path: Path) -> None:
    before = (tmp_path / "lrsearch.db").read_bytes()
    for command in (["trials"], ["best"], ["status"], ["list"], ["show", "0"], ["run", "--epochs", "3", "--dry-run"]):
        assert study(*command).code == 0
    assert (tmp_path / "lrsearch.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["lrsearch.db"]


# --- deleting --------------------------------------------------------------------------------------------------------


def test_delete_without_a_terminal_wants_a_yes(study: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    result = study("delete", "digits")
    assert result.code == 2
    assert "--yes" in one_line(result)
    assert len(results(study)) == N_TRIALS


def test_delete_with_yes_deletes_one_study_and_no_other(study: InProcess, tmp_path: Path) -> None:
    assert study("run", "--trials", "1", "--epochs", "1", "--name", "other", "--quiet").code == 0
    result = study("delete", "digits", "--yes")
    assert (result.code, result.out, result.err) == (0, "deleted 'digits' with its 6 trials\n", "")
    assert [row["name"] for row in study("list", "--json").document["studies"]] == ["other"]
    assert len(results(study, "other")) == 1
    url = f"sqlite:///{tmp_path}/lrsearch.db"
    assert optuna.get_all_study_names(url) == ["other"]
    again = study("run", "--trials", "2", "--epochs", "3", "--quiet")
    assert again.code == 0, "the name is free"


@pytest.mark.slow
def test_delete_asks_at_a_terminal(finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    for answer, code, names in (("n", 1, ["digits"]), ("y", 0, [])):
        child = at_a_terminal(["delete", "digits"], tmp_path)
        child.expect_exact("Delete 'digits' with its 6 trials from lrsearch.db?")
        child.sendline(answer)
        assert end_of(child).code == code
        assert optuna.get_all_study_names(f"sqlite:///{tmp_path}/lrsearch.db") == names


# --- terminals, pipes and encodings ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_terminal_gets_colours_unless_there_is_no_color(finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    coloured = end_of(at_a_terminal(["trials"], tmp_path)).out
    plain = end_of(at_a_terminal(["trials"], tmp_path, NO_COLOR="1")).out
    assert ESCAPE in coloured
    assert ESCAPE not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_there_are_no_escapes_off_a_terminal(study: InProcess, finished: Finished) -> None:
    assert ESCAPE not in finished.run.out + finished.run.err
    for command in (["trials"], ["best"], ["status"], ["list"], ["show", "0"], ["run", "--epochs", "3", "--dry-run"]):
        assert ESCAPE not in study(*command).out


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_a_dumb_terminal_gets_event_lines(lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    assert lrsearch("run", "--trials", "1", "--epochs", "2").code == 0
    assert [mark for _, mark, _ in parsed(terminal.getvalue())] == [">", ".", ".", "<", "="]


class Gone(io.StringIO):
    """A pipe whose reader has ended."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_run_that_nobody_watches_any_more_is_interrupted_and_resumable(
    lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Gone())
        assert lrsearch("run", "--trials", "2", "--epochs", "1").code == 130
    result = lrsearch("run", "--trials", "2", "--epochs", "1")
    assert result.code == 0
    assert [number for _, mark, number in parsed(result.err) if mark == ">"] == ["0", "1"]


def in_a_shell(line: str, folder: Path, **environment: str) -> Result:
    """Run a line of bash in which `lrsearch` is ours and a pipe fails where its first command does."""
    program = f'set -o pipefail\nlrsearch() {{ {sys.executable} -m lrsearch "$@"; }}\n{line}\n'
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env=clean_environment(folder, **environment),
        capture_output=True,
        text=True,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_pipe_that_closes_early_is_no_error(form: str, finished: Finished, tmp_path: Path) -> None:
    # `true` reads nothing: the pipe is closed by the time that anything is written.
    for reader in ("head -1", "true"):
        result = in_a_shell(f"lrsearch trials --format {form} --storage {finished.database} | {reader}", tmp_path)
        assert (result.code, result.err) == (0, ""), reader


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["table", "csv"])
def test_output_that_cannot_be_written_is_said_so(form: str, finished: Finished, tmp_path: Path) -> None:
    result = in_a_shell(f"lrsearch trials --format {form} --storage {finished.database} > /dev/full", tmp_path)
    assert result.code == 1
    assert "the output cannot be written: No space left on device" in one_line(result)


def test_an_output_that_knows_only_ascii_gets_other_signs(finished: Finished, tmp_path: Path) -> None:
    line = f"lrsearch show 0 --storage {finished.database}"
    result = in_a_shell(line, tmp_path, PYTHONIOENCODING="ascii")
    assert (result.code, result.err) == (0, "")
    assert "Learning rate over" in result.out
    assert "?" not in result.out
    assert result.out.count("*") > 50  # the curves
    assert re.search(r"^ +[+]-{40,}$", result.out, re.MULTILINE)  # their frames


# --- help ------------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app.app)
    return dict(group.commands)


def test_the_commands_are_those_of_the_design() -> None:
    assert set(commands()) >= {"run", "status", "trials", "show", "best", "list", "delete", "init"}


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_help_of_a_command_lists_every_option(name: str, lrsearch: InProcess) -> None:
    result = lrsearch(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: lrsearch {name} ")
    for parameter in commands()[name].params:
        for flag in (*parameter.opts, *parameter.secondary_opts):
            if flag.startswith("-"):
                assert re.search(rf"(?<![\w-]){flag}(?![\w-])", result.out), flag
        if parameter.envvar:
            assert parameter.envvar in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert lrsearch(name, "-h").out == result.out


def test_the_root_helps_and_tells_its_version(lrsearch: InProcess) -> None:
    text = lrsearch("--help").out
    for name in commands():
        assert re.search(rf"^  {name} ", text, re.MULTILINE), name
    assert lrsearch("--version") == Result(0, f"lrsearch {__version__}\n", "")
    nothing = lrsearch()
    assert nothing.code == 2
    assert nothing.out == ""
    assert nothing.err == text, "the help, where nothing was asked"


# --- the database is Optuna's ----------------------------------------------------------------------------------------


def test_plain_optuna_reads_the_study(study: InProcess, tmp_path: Path) -> None:
    loaded = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path}/lrsearch.db")
    assert [trial.number for trial in loaded.trials] == list(range(N_TRIALS))
    assert all(
        trial.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED) for trial in loaded.trials
    )
    document = study("trials", "--json").document
    for trial, row in zip(loaded.trials, document["trials"], strict=True):
        assert trial.params == row["params"]
        assert sorted(trial.intermediate_values) == [metric["epoch"] for metric in row["metrics"]]
    assert loaded.best_value == study("best", "--json").document["winner"]["value"]
    assert loaded.direction == optuna.study.StudyDirection.MAXIMIZE


@contextmanager
def dashboard(database: Path) -> Iterator[str]:
    """Start the real optuna-dashboard on a free port; yields its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = Path(sys.executable).parent / "optuna-dashboard"
    argv = [str(server), f"sqlite:///{database}", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_optuna_dashboard_shows_the_study(finished: Finished, tmp_path: Path) -> None:
    import json

    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    found: dict[str, Any] = {}

    with dashboard(tmp_path / "lrsearch.db") as address:

        def answers() -> bool:
            try:
                with opener.open(f"{address}/api/studies", timeout=5) as reply:
                    found["studies"] = json.load(reply)["study_summaries"]
            except (urllib.error.URLError, ConnectionError):
                return False
            return True

        wait_until(answers)
        (summary,) = found["studies"]
        assert summary["study_name"] == "digits"
        with opener.open(f"{address}/api/studies/{summary['study_id']}", timeout=30) as reply:
            detail = json.load(reply)
    assert len(detail["trials"]) == N_TRIALS
    assert {trial["state"] for trial in detail["trials"]} <= {"Complete", "Pruned"}


OUTPUTS: dict[tuple[str, ...], str | None] = {
    ("export", "digits"): None,
    ("report", "digits", "--format", "json"): None,
    ("train", "digits"): "-o takes the name of a file or folder here, got '-'",
    ("log", "digits", "--to", "csv"): "-o takes the name of a file or folder here, got '-'",
    ("compare", "digits#best", "0"): "-o takes a file whose name ends in .png, .svg, .html, got '-'",
}
"""Commands that write, and why they do not write to stdout; None: they do."""


@pytest.mark.parametrize("words", OUTPUTS, ids=lambda words: words[0])
def test_a_dash_is_stdout_and_never_a_file(words: tuple[str, ...], study: InProcess, tmp_path: Path) -> None:
    done = study(*words, "-o", "-")
    if OUTPUTS[words] is None:
        assert done.code == 0, done.err
        assert done.out.splitlines()[:2] == study(*words).out.splitlines()[:2] != []
    else:
        assert (done.code, done.out) == (EXIT_USAGE, "")
        assert OUTPUTS[words] in one_line(done)
    assert not (tmp_path / "-").exists()

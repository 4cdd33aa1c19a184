"""A command line that cannot be meant: one sentence with the option, what must hold and what came; exit code 2."""

import os
import shlex

import pytest
import typer

from lrsearch.cli import app, usage
from lrsearch.errors import EXIT_USAGE

CASES: list[tuple[str, str]] = [
    # A value that is none.
    ("run --trials many", "--trials must be a whole number, got 'many' (see `lrsearch run --help`)"),
    ("run --trials=", "--trials must be a whole number, got '' "),
    ("run --seed 3.5", "--seed must be a whole number, got 3.5 "),
    ("run --threads 0", "--threads must be a whole number of at least 1, got 0 "),
    ("run --threads=-3", "--threads must be a whole number of at least 1, got -3 "),
    ("trials --format xml", "--format must be one of table, json, csv, got 'xml' (see `lrsearch trials --help`)"),
    ("show best", "N must be a whole number of at least 0, got 'best' "),
    ("show -- -1", "N must be a whole number of at least 0, got -1 "),
    # A value that is missing, or one too many.
    ("run --threads", "--threads must have a value (a whole number of at least 1), got none (see `lrsearch run"),
    ("run --set", "--set must have a value (KEY=VALUE), got none "),
    ("run --name", "--name must have a value (name of the study, if not the file's), got none "),
    ("trials -f", "-f must have a value (one of table, json, csv), got none (see `lrsearch trials --help`)"),
    ("run --dry-run=yes", "--dry-run must stand alone, got the value 'yes' "),
    ("--version=2", "--version must stand alone, got the value 2 (see `lrsearch --help`)"),
    ("show", "show must be given N (number of the trial), got none "),
    ("run a b", "run must have no more arguments than [NAME|FILE], got 'b' "),
    ("list a b", "list must have no arguments, got 'a b' "),
    # Names that nobody knows.
    ("run --trails 3", "there is no option '--trails' (did you mean '--trials'?) (see `lrsearch run --help`)"),
    ("run --zzzzzzzz", "there is no option '--zzzzzzzz' (see "),
    ("run -qz", "there is no option '-z' (see "),
    (
        "statu",
        "there is no command 'statu' (did you mean 'status'?); it must be one of run, worker, init, data, model",
    ),
]


def said(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the sentence of a command line that must be refused, after checking that it is all that is printed."""
    assert app.run(shlex.split(line)) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("lrsearch: "), err
    return err.removeprefix("lrsearch: ")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LRSEARCH_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("line", "words"), CASES, ids=[line for line, _ in CASES])
def test_a_usage_error_names_the_option_what_must_hold_and_what_came(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(line, capsys).startswith(words)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LRSEARCH_TRIALS", "many", "LRSEARCH_TRIALS (for --trials) must be a whole number, got 'many' "),
        ("LRSEARCH_THREADS", "0", "LRSEARCH_THREADS (for --threads) must be a whole number of at least 1, got 0 "),
    ],
)
def test_a_value_from_the_environment_is_said_to_come_from_there(
    variable: str, value: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert said("run", capsys).startswith(words)


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "run digits {}",
        "run --trials {}",
        "run --{}",
        "run --dry-run={}",
        "trials --format {}",
        "list {}",
        "show {}",
    ],
)
def test_a_url_that_may_hold_a_password_is_not_repeated(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "hunter2" not in said(line.format("postgresql://me:hunter2@host/db"), capsys)


def test_every_value_of_every_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    group = typer.main.get_command(app.app)
    told = 0
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for param in command.params:
            if param.param_type_name == "option" and not param.is_flag:
                told += 1
                assert said(f"{name} {param.opts[0]}", capsys).startswith(f"{param.opts[0]} must have a value (")
    assert told > 10


def test_what_is_not_known_is_told_in_typers_words() -> None:
    error = typer.BadParameter("all is lost")
    group = typer.main.get_command(app.app)
    assert usage.sentence(error, group, ["run"]) == "Invalid value: all is lost (see `lrsearch run --help`)"

"""`--log-format json`: one object a line on stderr, whatever happens; and text as it always was."""

import io
import json
import logging
import math
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import Any, get_args

import pytest
from command_line import ESCAPE, InProcess, Running, at_a_terminal, clean_environment, end_of, run_process
from conftest import CRASHED, complete, make_spec, measured
from trials_by_hand import trial

from lrsearch.cli import log
from lrsearch.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_STORAGE, EXIT_TERMINATED, EXIT_USAGE
from lrsearch.events import (
    EndReason,
    EpochDone,
    Event,
    SearchEnded,
    TrialEnded,
    TrialInterrupted,
    TrialStarted,
    Waiting,
    WorkerReplaced,
)
from lrsearch.report import event_fields
from lrsearch.store import patience
from lrsearch.trial import Reason, State
from lrsearch.workers import json_log

pytest_plugins = ["command_line"]

SECRET = "hunter2hunter2"
SMALL = ("run", "--trials", "3", "--epochs", "2")
ALWAYS = ["schema", "time", "level", "logger", "message"]


def parsed(text: str) -> list[dict[str, Any]]:
    """Return the objects of a log, after checking that it holds nothing else."""
    assert ESCAPE not in text
    assert text == "" or text.endswith("\n")
    out = []
    for line in text.splitlines():
        found = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert list(found)[:5] == ALWAYS
        assert found["schema"] == "lrsearch/log/1"
        moment = datetime.fromisoformat(found["time"])
        assert moment.utcoffset() == UTC.utcoffset(None)
        assert found["level"] in ("info", "warning", "error")
        out.append(found)
    return out


def check_events(lines: list[dict[str, Any]], trials: list[dict[str, Any]]) -> None:
    """Compare the events of a search with the trials that it left."""
    events = [line for line in lines if "event" in line]
    assert {event["study"] for event in events} == {"digits"}
    for row in trials:
        mine = [event for event in events if event.get("trial") == row["number"]]
        kinds = [event["event"] for event in mine]
        assert kinds == ["trial_started", *["epoch_done"] * len(row["metrics"]), "trial_ended"]
        started, *epochs, ended = mine
        assert (started["params"], started["origin"]) == (row["params"], row["origin"])
        assert [event["metrics"] for event in epochs] == row["metrics"]
        assert [event["epoch"] for event in epochs] == [m["epoch"] for m in row["metrics"]]
        for key in ("state", "reason", "value", "epoch", "step", "lr"):
            assert ended[key] == row[key], key
        assert ended["why"] == row["message"]
        assert {event["worker"] for event in mine} == {row["worker"]}
        seconds = [event["elapsed_seconds"] for event in mine]
        assert seconds == sorted(seconds)
    assert events[-1]["event"] == "search_ended"
    assert events[-1]["reason"] == "budget_trials"


# --- real commands ---------------------------------------------------------------------------------------------------


def test_a_worker_tells_every_event_as_an_object_of_typed_fields(tmp_path: Path, lrsearch: InProcess) -> None:
    assert lrsearch(*SMALL, "--detach").code == EXIT_OK
    done = run_process(["worker", "--study", "digits", "--log-format", "json"], tmp_path)
    assert (done.code, done.out) == (EXIT_OK, "")
    lines = parsed(done.err)
    trials = lrsearch("trials", "-f", "json").document["trials"]
    assert len(trials) == 3
    check_events(lines, trials)
    assert len(lines) == sum(len(t["metrics"]) + 2 for t in trials) + 1
    assert lines[-1]["worker"] == trials[0]["worker"]
    # The next one has nothing to do and says where it looks for work.
    idle = lrsearch("worker", "--exit-when-idle", "--log-format", "json")
    assert (idle.code, [line["message"] for line in parsed(idle.err)]) == (
        EXIT_OK,
        ["serving every open study in lrsearch.db"],
    )
    assert lrsearch("worker", "--exit-when-idle").err == "0.0s = serving every open study in lrsearch.db\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_tells_the_same_with_one_worker_and_with_several(
    tmp_path: Path, lrsearch: InProcess, workers: str
) -> None:
    done = run_process([*SMALL, "--workers", workers, "--json"], tmp_path, LRSEARCH_LOG_FORMAT="json")
    assert done.code == EXIT_OK
    assert done.document["schema"].startswith("lrsearch/")
    lines = parsed(done.err)
    check_events(lines, lrsearch("trials", "-f", "json").document["trials"])


def test_a_worker_that_is_asked_to_leave_says_so_and_exits_143(tmp_path: Path, lrsearch: InProcess) -> None:
    assert lrsearch("run", "--trials", "1", "--epochs", "100000", "--detach").code == EXIT_OK
    running = Running(["--log-format=json", "worker", "--study", "digits"], tmp_path)
    assert running.wait_for(lambda p: '"epoch_done"' in p.read("stderr"))
    running.send(SIGTERM)
    result = running.result()
    assert result.code == EXIT_TERMINATED
    lines = parsed(result.err)
    *_, given_back, ended = lines
    assert (given_back["event"], given_back["trial"], given_back["reason"]) == ("trial_interrupted", 0, "preempted")
    assert (ended["event"], ended["reason"]) == ("search_ended", "left")


def test_on_a_terminal_there_is_neither_a_live_view_nor_a_colour(tmp_path: Path) -> None:
    argv = ["run", "--trials", "2", "--epochs", "2", "--json", "--log-format", "json"]
    result = end_of(at_a_terminal(argv, tmp_path, FORCE_COLOR="1"))
    assert result.code == EXIT_OK
    log_lines, brace, _ = result.out.replace("\r\n", "\n").partition("{\n")
    assert brace
    assert len(parsed(log_lines)) >= 5


# --- where it is asked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "variable"),
    [
        (["--log-format", "json", "list"], None),
        (["--log-format=json", "list"], None),
        (["list", "--log-format", "json"], None),
        (["list", "--log-format=json", "--json"], None),
        (["--log-format", "text", "list", "--log-format", "json"], "text"),
        (["list"], "json"),
    ],
)
def test_it_may_stand_anywhere_and_in_the_environment(
    lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch, argv: list[str], variable: str | None
) -> None:
    if variable is not None:
        monkeypatch.setenv(log.VARIABLE, variable)
    result = lrsearch(*argv)
    (line,) = parsed(result.err)
    assert (line["level"], line["logger"]) == ("error", "lrsearch")
    assert (line["error"], line["exit_code"], result.code) == ("StorageError", EXIT_STORAGE, EXIT_STORAGE)


@pytest.mark.parametrize(
    ("argv", "variable", "says"),
    [
        (["--log-format", "xml", "list"], None, "--log-format must be one of text, json, got 'xml'"),
        (["list", "--log-format="], None, "--log-format must be one of text, json, got ''"),
        (["list", "--log-format"], None, "--log-format must have a value (one of text, json), got none"),
        (["list"], "JSON5", "LRSEARCH_LOG_FORMAT (for --log-format) must be one of text, json, got 'JSON5'"),
        (["list", "--", "--log-format", "json"], None, "list must have no arguments, got '--log-format json'"),
    ],
)
def test_what_it_cannot_be_is_said_in_one_sentence(
    lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch, argv: list[str], variable: str | None, says: str
) -> None:
    if variable is not None:
        monkeypatch.setenv(log.VARIABLE, variable)
    result = lrsearch(*argv)
    assert (result.code, result.out) == (EXIT_USAGE, "")
    assert result.err.startswith(f"lrsearch: {says} (see `lrsearch")
    assert result.err.count("\n") == 1


def test_an_empty_variable_is_none(lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    text = lrsearch("list").err
    monkeypatch.setenv(log.VARIABLE, "")
    assert lrsearch("list").err == text


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["worker", "--storage", "nothing.db"],
        ["run", "--trials", "0"],
        ["run", "--trails", "3"],
        ["run", "two\nlines.toml"],
        ["statu"],
        ["best"],
        ["run", "--storage", f"postgresql://me:{SECRET}@host/db"],
        ["run", "--device", "cuda:99"],
    ],
    ids=" ".join,
)
def test_an_error_has_the_same_words_and_code_as_in_text(lrsearch: InProcess, argv: list[str]) -> None:
    text = lrsearch(*argv)
    assert text.code != 0
    result = lrsearch(*argv, "--log-format", "json")
    (line,) = parsed(result.err)
    assert f"lrsearch: {line['message']}\n" == text.err
    assert (result.code, line["exit_code"], result.out) == (text.code, text.code, text.out)
    assert "traceback" not in line
    assert SECRET not in result.err


def test_without_a_command_it_says_so(lrsearch: InProcess) -> None:
    (line,) = parsed(lrsearch("--log-format", "json").err)
    assert (line["exit_code"], line["error"]) == (EXIT_USAGE, "UsageError")
    assert "a command must be given" in line["message"]
    assert lrsearch().err.startswith("Usage: lrsearch")


def test_a_traceback_is_a_field_where_it_is_asked_for_and_holds_no_password(
    lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens on port 1.
    monkeypatch.setenv("LRSEARCH_STORAGE", f"postgresql://me:{SECRET}@127.0.0.1:1/db")
    monkeypatch.setattr(patience, "REFUSED_SECONDS", 2.0)  # a worker waits a minute for its server
    quick = [[name, *debug] for name in ("run", "dashboard") for debug in ([], ["--debug"])]
    for command in (*quick, ["worker", "--debug"]):
        result = lrsearch(*command, "--log-format", "json")
        assert result.code == EXIT_STORAGE
        line = parsed(result.err)[-1]
        assert "postgresql://me:***@127.0.0.1:1/db cannot be reached" in line["message"]
        assert ("traceback" in line) == ("--debug" in command)
        assert SECRET not in result.err


def test_a_reader_that_goes_away_ends_a_run_as_it_does_in_text(tmp_path: Path) -> None:
    run = f"{sys.executable} -m lrsearch run --trials 30 --log-format json"
    command = f'{run} 2>&1 >/dev/null | head -n 1; exit "${{PIPESTATUS[0]}}"'
    environment = clean_environment(tmp_path)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, "")
    assert len(parsed(done.stdout)) == 1


# --- the log itself --------------------------------------------------------------------------------------------------


@contextmanager
def logging_json() -> Iterator[io.StringIO]:
    """Have this process log as JSON, into memory."""
    stream, shown = io.StringIO(), sys.stderr
    ours = logging.getLogger("lrsearch")
    before = ours.propagate, ours.level
    sys.stderr = stream
    try:
        json_log.install()
        yield stream
        json_log.uninstall()
        assert sys.stderr is stream
    finally:
        json_log.uninstall()
        sys.stderr = shown
        ours.propagate, ours.level = before
    assert json_log.installed() is None


def test_whatever_reaches_stderr_becomes_a_line() -> None:
    with logging_json() as written:
        print("lrsearch: a sentence", file=sys.stderr)
        sys.stderr.write("begun, ")
        print("and ended\n\n\x1b[31mred\x1b[0m\r 7%\r 100%", file=sys.stderr)
        logging.getLogger("lrsearch.somewhere").warning("%d of %s", 3, 'a "b"\nc')
        logging.getLogger("lrsearch.somewhere").info("nothing")
        warnings.showwarning(UserWarning("old"), UserWarning, "x.py", 1)
        assert not sys.stderr.isatty()
        sys.stderr.write("no end")
    lines = parsed(written.getvalue())
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("info", "lrsearch.progress", "a sentence"),
        ("info", "lrsearch.progress", "begun, and ended"),
        ("info", "lrsearch.progress", "100%"),
        ("warning", "lrsearch.somewhere", '3 of a "b"\nc'),
        ("warning", "py.warnings", "x.py:1: UserWarning: old\n"),
        ("info", "lrsearch.progress", "no end"),
    ]


def test_threads_that_print_at_once_lose_no_line_and_none_is_within_another() -> None:
    def say(n: int) -> None:
        for i in range(100):
            print("of", n, i, file=sys.stderr)

    interval = sys.getswitchinterval()
    with logging_json() as written:
        threads = [threading.Thread(target=say, args=(n,)) for n in range(4)]
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
    said = [line["message"] for line in parsed(written.getvalue())]
    assert sorted(said) == sorted(f"of {n} {i}" for n in range(4) for i in range(100))


def test_a_library_whose_words_do_not_fit_its_values_goes_on_and_is_heard() -> None:
    with logging_json() as written:
        handler = json_log.installed()
        assert handler is not None
        # Not by its logger: pytest's own handler would not bear with it.
        handler.handle(logging.LogRecord("somebody", logging.WARNING, "", 0, "%d trials of %s", ("three",), None))
    (line,) = parsed(written.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("warning", "somebody", "%d trials of %s")


def test_what_another_library_says_of_an_error_is_its_kind_alone() -> None:
    with logging_json() as written:
        for name, error in (("sqlalchemy.pool", ValueError(f"//me:{SECRET}@host")), ("lrsearch.x", ValueError("ours"))):
            logging.getLogger(name).error("it failed", exc_info=error)
    theirs, ours = parsed(written.getvalue())
    assert theirs["message"] == "it failed: ValueError"
    assert ours["message"] == "it failed: ValueError: ours"
    assert "traceback" not in ours


def test_a_stream_that_is_gone_ends_no_warning_and_is_heard_of_by_whoever_tells() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with logging_json() as written:
        handler = json_log.installed()
        assert handler is not None
        handler.stream = Gone()
        logging.getLogger("lrsearch.somewhere").warning("nobody reads it")
        for tell in (lambda: print("nobody", file=sys.stderr), lambda: log.Events(0.0).tell(Waiting(""), make_spec())):
            with pytest.raises(BrokenPipeError):
                tell()
        handler.stream = written


EPOCH = {"trial", "epoch", "epochs", "metrics"}
EVENTS: list[tuple[Event, dict[str, Any], set[str]]] = [
    (
        TrialStarted(trial(7, State.RUNNING, [0.5]), resumed=True),
        {"event": "trial_started", "trial": 7, "resumed": True, "epochs": 4, "epochs_accepted": 1},
        {"origin", "params", "device", "versions"},
    ),
    (
        EpochDone(7, measured(2, math.nan, math.inf)),
        {"event": "epoch_done", "trial": 7, "epoch": 2, "epochs": 4, "again": False, "rung_score": None},
        {"metrics"},
    ),
    (EpochDone(7, measured(2), again=True), {"event": "epoch_done", "again": True, "rung_score": None}, EPOCH),
    (
        TrialEnded(7, complete(0.5)),
        {"event": "trial_ended", "state": "complete", "reason": "finished", "value": 0.5, "level": "info"},
        {"trial", "epoch", "step", "lr", "why"},
    ),
    (
        TrialEnded(7, CRASHED),
        {"event": "trial_ended", "state": "failed", "reason": "crash", "value": None, "level": "warning"},
        {"trial", "epoch", "step", "lr", "why"},
    ),
    (
        TrialInterrupted(7, Reason.LOST, "gone"),
        {"event": "trial_interrupted", "trial": 7, "reason": "lost", "why": "gone"},
        set(),
    ),
    (Waiting("for others"), {"event": "waiting", "why": "for others"}, set()),
    (WorkerReplaced("one died"), {"event": "worker_replaced", "why": "one died", "level": "warning"}, set()),
    (
        SearchEnded(EndReason.STOPPED, "stopped"),
        {"event": "search_ended", "reason": "stopped", "why": "stopped"},
        set(),
    ),
]


def test_every_kind_of_event_is_among_them() -> None:
    assert {type(event) for event, _, _ in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize(("event", "has", "more"), EVENTS)
def test_an_event_has_its_fields_and_null_for_what_is_no_number(
    event: Event, has: dict[str, Any], more: set[str]
) -> None:
    with logging_json() as written:
        log.Events(0.0, named=True).tell(event, make_spec())
    (line,) = parsed(written.getvalue())
    assert {key: line[key] for key in has} == has
    assert set(line) == {*ALWAYS, "study", "worker", "elapsed_seconds", *has, *more}
    assert line["study"] == "probe"
    assert isinstance(line["elapsed_seconds"], float)
    if "metrics" in line:
        assert set(line["metrics"]) >= {"train_loss", "val_loss", "val_accuracy", "lr", "seconds", "step"}
    assert event_fields.trial_of(event) == line.get("trial")


def test_the_page_on_monitoring_names_the_keys_of_every_event() -> None:
    text = (Path(__file__).parents[1] / "docs" / "monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z]+_?[a-z]+)` \| (`.*?)(?: \||;)", text, re.MULTILINE)
    told = {event: set(re.findall(r"`(\w+)`", keys)) for event, keys in rows if not event.startswith("lrsearch_")}
    common = {"event", "study", "worker", "elapsed_seconds", "message"}
    assert told == {
        str(found["event"]): set(found) - common
        for found in (event_fields.fields(event, 0.0, make_spec(), None) for event, _, _ in EVENTS)
    }


def test_the_events_of_a_trial_name_the_worker_that_started_it() -> None:
    with logging_json() as written:
        events = log.Events(0.0, worker="here:1")
        for number, worker in ((1, "here:2"), (2, "there:3")):
            made = replace(trial(number, State.RUNNING, [0.5]), worker=worker)
            events.tell(TrialStarted(made, resumed=False), make_spec())
        for number in (1, 2, 3):
            events.tell(TrialEnded(number, complete()), make_spec())
        events.tell(Waiting("for others"), make_spec())
    workers = [line["worker"] for line in parsed(written.getvalue())]
    assert workers == ["here:2", "there:3", "here:2", "there:3", "here:1", "here:1"]

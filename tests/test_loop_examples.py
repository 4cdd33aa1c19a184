"""The examples of loops of one's own: each is run as a person runs it, and searched, killed and resumed."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Result, Running, run_process, run_python

from lrsearch.report import plain
from lrsearch.schedules import factors
from lrsearch.store import study as studies
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database
from lrsearch.trial import ScheduleConfig

pytest_plugins = ["command_line"]
pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "loops"
NEEDS = {"pytorch": "torch", "lightning": "lightning", "transformers": "transformers", "timm": "timm", "keras": "keras"}
"""The library of each example."""
EVERY = pytest.mark.parametrize("name", NEEDS, indirect=True)
FILES = {name: EXAMPLES / f"{name}_loop.py" for name in NEEDS}


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of an example, if its library is installed."""
    found = str(request.param)
    if importlib.util.find_spec(NEEDS[found]) is None:
        pytest.skip(f"needs {found}: pip install 'lrsearch[loops]'")
    return found


def asked(name: str, n_trials: int, n_epochs: int, *more: str) -> list[str]:
    """Return the command that stands at the head of an example, for so many trials and epochs."""
    (command,) = re.findall(r"`lrsearch (run --train \w+\.py:loop .*?)`", FILES[name].read_text("utf-8"), re.DOTALL)
    words = command.replace(FILES[name].name, str(FILES[name])).split()
    return [*words, "--trials", str(n_trials), "--epochs", str(n_epochs), "--threads", "1", *more]


def trials_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """Return the trials of an example's study, without the seconds that they took."""
    with closing(Database(SqliteFile(folder / "lrsearch.db"))) as database:
        found = [plain.nested(trial) for trial in studies.get(database, f"{name}_loop").trials()]
    for trial in found:
        for row in trial["metrics"]:
            del row["seconds"]
    return found


def test_every_example_there_is_is_tested() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py"} == {path.name for path in FILES.values()}
    for path in FILES.values():
        assert path.read_text("utf-8").count("\n") <= 75


# --- every update has the searched learning rate ----------------------------------------------------------------------

WATCHED = """
    import atexit, json, pathlib, sys
    seen = []

    def look(optimizer, groups):
        if not seen or seen[-1][0] is not optimizer:
            seen.append((optimizer, []))
        seen[-1][1].append(groups)

    from torch.optim.optimizer import register_optimizer_step_pre_hook
    register_optimizer_step_pre_hook(
        lambda optimizer, *_: look(optimizer, [[g["lr"], g.get("lr_scale", 1.0)] for g in optimizer.param_groups])
    )
    if {keras}:
        import os
        os.environ["KERAS_BACKEND"] = "torch"
        from keras.src.optimizers.base_optimizer import BaseOptimizer
        applied = BaseOptimizer.apply

        def apply(optimizer, *args, **more):
            look(optimizer, [[float(optimizer.learning_rate), 1.0]])
            return applied(optimizer, *args, **more)

        BaseOptimizer.apply = apply
    atexit.register(lambda: pathlib.Path("rates.json").write_text(json.dumps([rates for _, rates in seen])))
    from lrsearch.__main__ import main
    sys.argv = {argv!r}
    main()
"""
"""Runs the command as it stands, and writes down what each optimizer's learning rates were as it made an update."""


def watched(name: str, folder: Path, words: list[str]) -> tuple[Result, list[Any]]:
    """Run a command; return what it said, and ``[updates, groups, (lr, lr_scale)]`` of each optimizer, in order."""
    done = run_python(WATCHED.format(keras=name == "keras", argv=["lrsearch", *words]), folder)
    assert done.code == 0, done.err
    return done, [np.array(one) for one in json.loads((folder / "rates.json").read_text())]


LINE = re.compile(r"\d+\.\ds [>.<x=~!] ")


N_TRIALS, N_EPOCHS = 3, 6
KEPT = ("--set", "workers.checkpoint_seconds=0", "--set", "workers.lease_seconds=1")
ALIKE = ("--set", "pruner=none", "--set", "sampler=random")
"""So that what is trained does not depend on what has ended before."""


@dataclass(frozen=True)
class Whole:
    """A search with an example that nobody has interrupted, watched at every update."""

    said: Result
    left: set[str]
    """What it left in its folder."""
    rates: list[Any]
    """``[updates, groups, (lr, lr_scale)]`` of each optimizer, in order."""
    trials: list[dict[str, Any]]


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """Return the whole search of an example, made once."""

    @cache
    def searched(name: str) -> Whole:
        folder = tmp_path_factory.mktemp(name)
        done, rates = watched(name, folder, asked(name, N_TRIALS, N_EPOCHS, *ALIKE))
        left = {path.name for path in folder.iterdir()} - {".keras"}  # what Keras keeps of a person in their home
        return Whole(done, left, rates, trials_of(name, folder))

    return searched


@EVERY
def test_an_example_trains_with_the_searched_rate_at_every_update(name: str, whole_of: Callable[[str], Whole]) -> None:
    whole = whole_of(name)
    looked_at, *seen = whole.rates
    assert whole.left == {"lrsearch.db", "lrsearch.artifacts", "rates.json"}
    assert len(whole.trials) == len(seen) == N_TRIALS
    assert max(trial["value"] or 0.0 for trial in whole.trials) > 0.3
    assert {3, 4} >= {len(looked_at)}, "before anything is filed, a few updates are tried"
    for trial, rates in zip(whole.trials, seen, strict=True):
        config = trial["config"]
        n_examples, size = 1437, config["batch_size"]
        n_steps = n_examples // size if name == "timm" else -(-n_examples // size)
        assert [row["step"] for row in trial["metrics"]] == [n_steps * row["epoch"] for row in trial["metrics"]]
        assert len(rates) == n_steps * len(trial["metrics"])
        schedule = {key: tuple(v) if isinstance(v, list) else v for key, v in config["schedule"].items()}
        wanted = factors(ScheduleConfig(**schedule), N_EPOCHS * n_steps)[: len(rates)] * config["optimizer"]["peak_lr"]
        lrs, scales = rates[..., 0], rates[..., 1]
        if name == "keras":
            # Its own optimizers keep the rate as a number of 32 bits.
            np.testing.assert_array_equal(lrs, np.float32(wanted)[:, None])
        else:
            np.testing.assert_allclose(lrs, wanted[:, None] * scales, rtol=0, atol=1e-12)
        assert (scales.min() < 0.9) == (name == "timm"), "its layers learn at rates of their own"
    said = [line for line in whole.said.err.splitlines() if not LINE.match(line)]
    assert said == [], "the framework is quiet"
    assert whole.said.out.startswith(f"The best of {N_TRIALS} trials of ")


# --- kills ------------------------------------------------------------------------------------------------------------


HOLDERS = "SELECT pid FROM lrsearch_workers JOIN lrsearch_leases ON worker_id = lrsearch_workers.id"
BEHIND = "(SELECT max(epoch) FROM lrsearch_epochs e WHERE e.slot_id = lrsearch_leases.slot_id)"


def trainers_in(database: Path, n_epochs: int = 0) -> list[int]:
    """Return the processes of the workers that hold a trial of which so many epochs, and not all, are behind."""
    query = f"{HOLDERS} WHERE coalesce({BEHIND}, 0) BETWEEN ? AND ?"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [int(pid) for (pid,) in connection.execute(query, (n_epochs, N_EPOCHS - 1))]


def alike(trials: list[dict[str, Any]]) -> list[tuple[str, Any, str, str]]:
    """Return what is the same of trials whoever trained them: setting, epochs, end and weights."""
    found = [(json.dumps(one["config"]), one["metrics"], one["state"], one["weights_sha256"]) for one in trials]
    return sorted(found, key=lambda one: one[0])


@pytest.mark.parametrize("name", ["pytorch", "transformers"], indirect=True)
def test_an_example_whose_worker_is_killed_ends_with_the_exact_budget_and_the_same_weights(
    name: str, tmp_path: Path, whole_of: Callable[[str], Whole]
) -> None:
    process = Running(asked(name, N_TRIALS, N_EPOCHS, *ALIKE, *KEPT, "--workers", "2"), tmp_path)
    database = tmp_path / "lrsearch.db"
    # An epoch is accepted, then the state is kept: of the second accepted one the first is kept for sure.
    assert process.wait_for(lambda one: " epoch 2/" in one.read("stderr") and trainers_in(database, 2) != [])
    victim = trainers_in(database, 2)[0]
    os.kill(victim, signal.SIGKILL)
    done = process.result()
    assert done.code == 0, done.err
    assert f"worker process {victim} was killed by SIGKILL; process " in done.err
    assert "Traceback" not in done.err
    assert len(re.findall(r"[( ]resumed\)", done.err)) == 1, done.err
    found, whole = trials_of(name, tmp_path), whole_of(name).trials
    assert sorted(trial["number"] for trial in found) == list(range(N_TRIALS))
    assert alike(found) == alike(whole)
    assert {trial["state"] for trial in found} <= {"complete", "diverged"}
    assert trainers_in(database) == []


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("lightning", signal.SIGINT),  # it listens to both itself
        ("lightning", signal.SIGTERM),
        ("lightning", signal.SIGKILL),
        ("timm", signal.SIGKILL),
        ("keras", signal.SIGKILL),
    ],
    indirect=["name"],
    ids=lambda given: getattr(given, "name", given),
)
def test_a_framework_that_is_ended_and_goes_on_equals_one_that_was_not(
    name: str, sent: signal.Signals, tmp_path: Path, whole_of: Callable[[str], Whole]
) -> None:
    words = asked(name, 1, N_EPOCHS, *ALIKE, *KEPT)
    first = Running(words, tmp_path)
    assert first.wait_for(lambda one: f". 0 epoch 3/{N_EPOCHS}" in one.read("stderr"))
    first.send(sent)
    ended = first.result()
    assert ended.code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[sent], ended.err
    assert "Traceback" not in ended.err
    again = run_process(words, tmp_path)
    assert again.code == 0, again.err
    assert "resumed" in again.err
    assert "epoch 1/" not in again.err
    (resumed,), (whole, *_) = trials_of(name, tmp_path), whole_of(name).trials
    assert len(whole["metrics"]) == N_EPOCHS
    assert alike([resumed]) == alike([whole])
    assert resumed["weights_sha256"] != ""


# --- the page ---------------------------------------------------------------------------------------------------------

PAGE = (EXAMPLES.parent / "own-loop.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_run_in_their_order(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="needs Lightning: pip install 'lrsearch[loops]'")
    for path in (*FILES.values(), EXAMPLES.parent.parent / "README.md"):
        shutil.copy(path, tmp_path)
    for text in blocks("py"):
        if (named := re.match(r"# (\w+\.py)\n", text)) is not None:
            (tmp_path / named.group(1)).write_text(text)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "lrsearch"
        done = run_process(words, tmp_path)
        assert done.code == 0, (line, done.err)
    assert len(json.loads((tmp_path / "mine.json").read_text())["lr"]) >= 3
    (best,) = (run_process(["best", "letters", "--json"], tmp_path).document,)
    assert 1 < best["winner"]["val_score"] < 256, "the perplexity of a byte"


def test_the_pages_intersection_over_union_is_one() -> None:
    import torch

    (text,) = (block for block in blocks("py") if block.startswith("def iou"))
    found: dict[str, Any] = {}
    exec(text, found)
    masks = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert found["iou"](torch.tensor([1.0, 2.0, -1.0, -1.0]), masks) == 1
    assert found["iou"](torch.tensor([1.0, -1.0, -1.0, -1.0]), masks) == 0.5


def test_what_the_page_says_is_said_is_said() -> None:
    package = EXAMPLES.parent.parent / "lrsearch" / "training" / "loop"
    source = "".join(path.read_text("utf-8") for path in package.glob("*.py"))
    table = PAGE.split("| what the loop does | what is said |")[1].split("\n\n")[0]
    said = [span for row in table.splitlines()[2:] for span in re.findall(r"`([^`]+)`", row.split("|")[2])]
    assert len(said) >= 11
    assert [span for span in said if span not in source] == []

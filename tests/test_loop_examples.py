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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Result, Running, run_process, run_python
from conftest import wait_until

from lrsearch.schedules import factors
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
    done = run_process(["trials", f"{name}_loop", "--json"], folder)
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = done.document["trials"]
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


@EVERY
def test_an_example_trains_with_the_searched_rate_at_every_update(name: str, tmp_path: Path) -> None:
    done, (looked_at, *seen) = watched(name, tmp_path, asked(name, 4, 2))
    left = {path.name for path in tmp_path.iterdir()} - {".keras"}  # what Keras keeps of a person in their home
    assert left == {"lrsearch.db", "lrsearch.artifacts", "rates.json"}
    trials = trials_of(name, tmp_path)
    assert len(trials) == len(seen) == 4
    assert max(trial["value"] or 0.0 for trial in trials) > 0.3
    assert {3, 4} >= {len(looked_at)}, "before anything is filed, a few updates are tried"
    for trial, rates in zip(trials, seen, strict=True):
        config = trial["config"]
        n_examples, size = 1437, config["batch_size"]
        n_steps = n_examples // size if name == "timm" else -(-n_examples // size)
        assert [row["step"] for row in trial["metrics"]] == [n_steps * row["epoch"] for row in trial["metrics"]]
        assert len(rates) == n_steps * len(trial["metrics"])
        schedule = {key: tuple(v) if isinstance(v, list) else v for key, v in config["schedule"].items()}
        wanted = factors(ScheduleConfig(**schedule), 2 * n_steps)[: len(rates)] * config["optimizer"]["peak_lr"]
        lrs, scales = rates[..., 0], rates[..., 1]
        if name == "keras":
            # Its own optimizers keep the rate as a number of 32 bits.
            np.testing.assert_array_equal(lrs, np.float32(wanted)[:, None])
        else:
            np.testing.assert_allclose(lrs, wanted[:, None] * scales, rtol=0, atol=1e-12)
        assert (scales.min() < 0.9) == (name == "timm"), "its layers learn at rates of their own"
    said = [line for line in done.err.splitlines() if not LINE.match(line)]
    assert said == [], "the framework is quiet"
    assert done.out.startswith("The best of 4 trials of ")


# --- kills ------------------------------------------------------------------------------------------------------------


def trainers_in(database: Path) -> list[int]:
    """Return the processes of the workers that hold a trial."""
    query = "SELECT pid FROM lrsearch_workers JOIN lrsearch_leases ON worker_id = lrsearch_workers.id"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [int(pid) for (pid,) in connection.execute(query)]


@EVERY
def test_an_example_ends_with_the_exact_budget_though_a_worker_is_killed(name: str, tmp_path: Path) -> None:
    often = ("--set", "workers.checkpoint_seconds=0", "--workers", "2")
    process = Running(asked(name, 5, 4, *often), tmp_path)
    assert process.wait_for(lambda one: re.search(r"\. \d epoch 2/4", one.read("stderr")) is not None)
    wait_until(lambda: trainers_in(tmp_path / "lrsearch.db") != [])
    victim = trainers_in(tmp_path / "lrsearch.db")[0]
    os.kill(victim, signal.SIGKILL)
    done = process.result()
    assert done.code == 0, done.err
    assert f"worker process {victim} was killed by SIGKILL; process " in done.err
    assert "Traceback" not in done.err
    trials = trials_of(name, tmp_path)
    assert [trial["number"] for trial in trials] == list(range(5))
    assert {trial["state"] for trial in trials} <= {"complete", "pruned", "diverged"}
    assert trainers_in(tmp_path / "lrsearch.db") == []


SENT = [(name, signal.SIGKILL) for name in NEEDS]
SENT += [("lightning", sent) for sent in (signal.SIGINT, signal.SIGTERM)]
EPOCHS = 6
ALONE = ("--set", "workers.checkpoint_seconds=0", "--set", "workers.lease_seconds=1", "--set", "pruner=none")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Return the one trial of an example that nobody has interrupted."""

    @cache
    def trained(name: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(name)
        done = run_process(asked(name, 1, EPOCHS, *ALONE), folder)
        assert done.code == 0, done.err
        (trial,) = trials_of(name, folder)
        return trial

    return trained


@pytest.mark.parametrize(("name", "sent"), SENT, indirect=["name"], ids=lambda one: getattr(one, "name", one))
def test_an_example_that_is_killed_and_resumed_equals_the_uninterrupted_one(
    name: str, sent: signal.Signals, tmp_path: Path, uninterrupted: Callable[[str], dict[str, Any]]
) -> None:
    words = asked(name, 1, EPOCHS, *ALONE)
    first = Running(words, tmp_path)
    assert first.wait_for(lambda one: f". 0 epoch 3/{EPOCHS}" in one.read("stderr"))
    first.send(sent)
    ended = first.result()
    assert ended.code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[sent], ended.err
    assert "Traceback" not in ended.err
    again = run_process(words, tmp_path)
    assert again.code == 0, again.err
    assert "resumed" in again.err
    assert "epoch 1/" not in again.err
    (resumed,), whole = trials_of(name, tmp_path), uninterrupted(name)
    assert len(whole["metrics"]) == EPOCHS
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["weights_sha256"] == whole["weights_sha256"] != ""


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

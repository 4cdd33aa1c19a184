"""A training loop of one's own: its learning rates, what it may do wrong, and how it goes on."""

import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import InProcess, Running, cut_and_resumed, run_process, whole_and_resumed
from conftest import wait_until
from torch import nn

from lrsearch import own_code
from lrsearch.errors import IdentityError, LrsearchError, StudyFileError
from lrsearch.layer_rates import shares
from lrsearch.schedules import factors
from lrsearch.spec import file as study_file
from lrsearch.spec.metrics import METRICS, told_metric
from lrsearch.spec.sources import Code
from lrsearch.spec.study import StudySpec
from lrsearch.training.engine import CheckpointError, Paused
from lrsearch.training.levels import levels_on
from lrsearch.training.loop.engine import LoopEngine, LoopTraining
from lrsearch.training.loop.faults import LoopError
from lrsearch.training.loop.run import LoopRules, Run
from lrsearch.trial import Divergence, EpochMetrics, Facts, OptimizerConfig, ScheduleConfig, TrialConfig

pytest_plugins = ["command_line", "own_loops"]

CPU = torch.device("cpu")
COSINE = ScheduleConfig("cosine", 0.1, 0.01)
SGD = OptimizerConfig("sgd", 0.1, 5e-4, momentum=0.9, dampening=0.0, nesterov=False)
RULES = LoopRules(METRICS["accuracy"], averaging=True, divergence_watch=True, decay_matrices=True)
CONFIG = TrialConfig(SGD, COSINE, 50, 4, 7)
N_TRAIN = 500


def engine(path: Path, function: str = "loop", rules: LoopRules = RULES, **args: Any) -> LoopEngine:
    found = own_code.find(Code(str(path), function), "loop.name")
    return LoopEngine(found, args, lambda batch: -(-N_TRAIN // batch), CPU, rules, Facts(N_TRAIN, 0, 0, (0, 0, 0), ()))


def told(training: LoopTraining) -> list[EpochMetrics]:
    """Return what a training tells, its seconds left out: they are never the same."""
    found = [replace(one, seconds=0.0) for one in training.epochs() if isinstance(one, EpochMetrics)]
    assert [one.epoch for one in found] == list(range(found[0].epoch, CONFIG.epochs + 1))
    return found


# --- learning rates ---------------------------------------------------------------------------------------------------


def rates_of(loop: Callable[[Run, list[list[float]]], Iterator[EpochMetrics]], config: TrialConfig, n: int) -> Any:
    """Return the learning rates of all groups at every update of a loop, ``[updates, groups]``."""
    run, seen = Run(config, n, replace(RULES, averaging=False), CPU), list[list[float]]()
    for _ in loop(run, seen):
        pass
    return np.array(seen)


SCHEDULES = [
    COSINE,
    ScheduleConfig("constant", 0.2),
    ScheduleConfig("step", 0.0, 0.01, drops=2),
    ScheduleConfig("one_cycle", 0.0, 0.001, rise_fraction=0.3, initial_fraction=0.04),
    ScheduleConfig("wsd", 0.05, 0.01, decay_fraction=0.3),
    ScheduleConfig("warm_restarts", 0.0, 0.01, cycles=2, cycle_mult=2),
]


@pytest.mark.parametrize("by_scheduler", [False, True], ids=["step", "scheduler"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: one.family)
def test_every_update_is_made_with_the_searched_rate(schedule: ScheduleConfig, *, by_scheduler: bool) -> None:
    def loop(run: Run, seen: list[list[float]]) -> Iterator[EpochMetrics]:
        model = nn.Linear(3, 2)
        optimizer = run.optimizer(model)
        scheduler = run.scheduler(optimizer)
        for _ in range(run.config.epochs):
            for _ in range(run.steps_per_epoch):
                model(torch.ones(1, 3)).sum().backward()
                assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
                optimizer.step()
                seen.append([group["lr"] for group in optimizer.param_groups])
                scheduler.step() if by_scheduler else run.step()
            yield run.epoch(val_accuracy=0.5)

    config = replace(CONFIG, schedule=schedule)
    seen = rates_of(loop, config, 13)
    wanted = factors(schedule, 13 * config.epochs) * config.optimizer.peak_lr
    assert seen.shape == (13 * config.epochs, 2)  # the matrix, and the bias without weight decay
    np.testing.assert_array_equal(seen, np.stack([wanted, wanted], axis=1))


def test_layers_learn_at_rates_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

    def loop(run: Run, seen: list[list[float]]) -> Iterator[EpochMetrics]:
        optimizer = run.optimizer(model, inputs=torch.zeros(2, 6))
        for _ in range(run.config.epochs):
            for _ in range(run.steps_per_epoch):
                model(torch.ones(1, 6)).sum().backward()
                optimizer.step()
                seen.append([group["lr"] for group in optimizer.param_groups])
                run.step()
            yield run.epoch(val_accuracy=0.5)

    config = replace(CONFIG, stem_ratio=0.01, epochs=2)
    assert len(levels_on(model, torch.zeros(2, 6))) == 3
    of_level = np.repeat(shares(3, config), 2)  # matrices and biases
    wanted = factors(COSINE, 20)[:, None] * config.optimizer.peak_lr * of_level
    np.testing.assert_allclose(rates_of(loop, config, 10), wanted, rtol=1e-12)


def test_groups_of_ones_own_keep_their_part_of_the_rate() -> None:
    run = Run(CONFIG, 10, RULES, CPU)
    model = nn.Linear(3, 2)
    groups = [{"params": [model.weight], "lr_scale": 0.1}, {"params": [model.bias], "weight_decay": 0.0}]
    optimizer = run.optimizer(groups)
    first = factors(COSINE, 40)[0] * 0.1
    assert [group["lr"] for group in optimizer.param_groups] == [first * 0.1, first]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0]


def test_an_optimizer_of_ones_own_gets_the_rate_too() -> None:
    run = Run(CONFIG, 10, RULES, CPU)
    optimizer = torch.optim.Adagrad(nn.Linear(3, 2).parameters(), lr=123.0)
    scheduler = run.scheduler(optimizer)
    assert scheduler.get_last_lr() == [factors(COSINE, 40)[0] * 0.1]
    assert scheduler.last_epoch == 0


def test_a_plateau_follows_the_loss_that_is_told() -> None:
    def loop(run: Run, seen: list[list[float]]) -> Iterator[EpochMetrics]:
        optimizer = run.optimizer(nn.Linear(3, 2))
        for _ in range(run.config.epochs):
            for _ in range(run.steps_per_epoch):
                optimizer.step()
                seen.append([optimizer.param_groups[0]["lr"]])
                run.step()
            yield run.epoch(val_accuracy=0.5, val_loss=1.0)

    plateau = ScheduleConfig("plateau", 0.0, 0.001, drop_factor=0.5, patience_epochs=0)
    seen = rates_of(loop, replace(CONFIG, schedule=plateau), 5)
    np.testing.assert_allclose(seen[:, 0], 0.1 * np.repeat([1, 1, 0.5, 0.25], 5))

    def silent(run: Run, seen: list[list[float]]) -> Iterator[EpochMetrics]:
        optimizer = run.optimizer(nn.Linear(3, 2))
        for _ in range(5):
            optimizer.step()
            run.step()
        yield run.epoch(val_accuracy=0.5)

    with pytest.raises(LoopError, match="follows the validation loss: tell run"):
        rates_of(silent, replace(CONFIG, schedule=plateau), 5)


# --- what it may do wrong ---------------------------------------------------------------------------------------------

WRONG = """

def base(run, *, calls=1, before=False, sets=False, told=None, epochs=None, n=None):
    train, validation = data()
    loader = list(DataLoader(train, batch_size=run.config.batch_size, shuffle=True))[:n]
    model = build()
    optimizer = run.optimizer(model)
    for epoch in range(epochs or run.config.epochs):
        for images, labels in loader:
            F.cross_entropy(model(images), labels).backward()
            if before:
                run.step()
            optimizer.step()
            for _ in range(0 if before else calls):
                run.step()
            if sets:
                optimizer.param_groups[0]["lr"] *= 0.9
        yield told if told == 3 else run.epoch(**(told or {"val_accuracy": 0.5}))

def once_an_epoch(run):
    for one in base(run, calls=0):
        yield one

def per_epoch(run):
    train, validation = data()
    model = build()
    optimizer = run.optimizer(model)
    for images, labels in DataLoader(train, batch_size=run.config.batch_size):
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    run.step()
    yield run.epoch(val_accuracy=0.5)

def raises(run):
    yield from base(run, epochs=1)
    raise ValueError("after an epoch")

def returns(run):
    return 3

def reports(run):
    for one in base(run):
        run.report(val_accuracy=0.5)
        yield one

def other_groups(run):
    run.optimizer(list(build().parameters()))
    yield
"""

FAULTS = {
    "base calls=0": "the loop never calls run.step(), and its optimizer made 10 updates: call it after each",
    "base calls=2": "the loop calls run.step() 20 times in its first epoch for 10 updates: call it once after each",
    "base before=1": "calls run.step() before optimizer.step(), which would use the next learning rate",
    "base sets=1": "sets the learning rate itself: at update 1 (0-based) it was 0.045 instead of 0.05; leave out",
    "base n=7": "made 7 updates in its first epoch, and loop.n_train or loop.steps_per_epoch says 10 for this batch",
    "base epochs=1": "ended after 1 of the 4 epochs of the study: go on to run.config.epochs",
    "base epochs=5": "trains on after the 4 epochs of the study: end at run.config.epochs",
    "base told=3": "must yield what run.epoch(...) returns, and yielded 3",
    "per_epoch": "calls run.step() 1 times in its first epoch for 10 updates",
    "raises": "raised ValueError: after an epoch (",
    "returns": "ended after 0 of the 4 epochs of the study",
    "reports": "run.report() is for a plain function; a generator yields run.epoch(...)",
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_a_loop_does_wrong_is_said_in_its_first_epoch(what: str, loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + WRONG)
    function, *words = what.split()
    args = {name: int(value) for name, value in (word.split("=") for word in words)}
    training = engine(loop_file, function, **args).start(CONFIG)
    with pytest.raises(own_code.OwnCodeError) as caught:
        list(training.epochs())
    sentence = str(caught.value)
    assert FAULTS[what] in sentence
    assert sentence.startswith("loop.name: ")
    if what not in ("returns", "base epochs=1", "base epochs=5", "base told=3"):
        assert f"({loop_file}, line " in sentence


TOLD = {
    "val_acuracy": "does not know 'val_acuracy' (did you mean 'val_accuracy'?)",
    "val_loss": "the study's metric is 'accuracy', and run.epoch() was told val_loss: tell it val_accuracy=",
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told_under_a_wrong_name_is_refused(name: str, loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + WRONG)
    with pytest.raises(LoopError) as caught:
        list(engine(loop_file, "base", told={name: 0.5}).start(CONFIG).epochs())
    assert TOLD[name] in str(caught.value)


def test_layers_need_a_look_at_what_the_model_makes_of_something(loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + WRONG)
    config = replace(CONFIG, stem_ratio=0.1)
    with pytest.raises(LoopError, match="and a look at the model needs some inputs"):
        list(engine(loop_file).start(config).epochs())
    with pytest.raises(LoopError, match="parameters alone do not say how deep they lie"):
        list(engine(loop_file, "other_groups").start(config).epochs())


def test_an_update_that_a_scaler_skips_is_one_of_the_schedule() -> None:
    run = Run(CONFIG, 4, replace(RULES, averaging=False), CPU)
    optimizer = run.optimizer(nn.Linear(3, 2))
    for step in range(4):
        if step != 1:
            optimizer.step()
        run.step()
    assert run.epoch(val_accuracy=0.5).step == 4


# --- epochs -----------------------------------------------------------------------------------------------------------


def test_losses_and_averaged_scores_are_those_that_were_told(loop_file: Path) -> None:
    first, *_ = rows = told(engine(loop_file).start(CONFIG))
    assert [row.step for row in rows] == [10, 20, 30, 40]
    lrs = factors(COSINE, 40) * 0.1
    assert [row.lr for row in rows] == [lrs[9], lrs[19], lrs[29], lrs[39]]
    assert 0 < rows[-1].train_loss < first.train_loss
    assert rows[-1].val_accuracy > 0.7
    assert first.averaged_val_accuracy is not None
    assert first.averaged_val_accuracy != first.val_accuracy
    off = told(engine(loop_file, rules=replace(RULES, averaging=False)).start(CONFIG))
    assert [row.averaged_val_accuracy for row in off] == [None] * 4
    assert [row.val_loss for row in off] == [row.val_loss for row in rows]


@pytest.mark.parametrize("function", ["forgetful", "by_callback"])
def test_a_framework_that_calls_back_trains_the_same(function: str, loop_file: Path) -> None:
    rules = replace(RULES, averaging=False)
    rows = told(engine(loop_file, rules=rules).start(CONFIG))
    assert [row.val_accuracy for row in told(engine(loop_file, function, rules).start(CONFIG))] == [
        row.val_accuracy for row in rows
    ]


UNWINDS = """

def tidy(run):
    import contextlib
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: open({path!r}, "w").close())
        for told in forgetful(run):
            run.report(val_accuracy=told.val_accuracy)

def tidy_generator(run):
    try:
        yield from forgetful(run)
    finally:
        open({path!r}, "w").close()
"""


@pytest.mark.parametrize("function", ["tidy", "tidy_generator"])
def test_a_training_that_is_ended_unwinds(function: str, loop_file: Path, tmp_path: Path) -> None:
    mark = tmp_path / "unwound"
    loop_file.write_text(loop_file.read_text() + UNWINDS.format(path=str(mark)))
    epochs = engine(loop_file, function).start(CONFIG).epochs()
    assert isinstance(next(epochs), EpochMetrics)
    assert not mark.exists()
    epochs.close()
    assert mark.exists()


class Ends:
    """Asks a training to end at a call."""

    def __init__(self, at: int, *, ends: bool = True) -> None:
        self.n, self.at, self._ends = 0, at, ends

    def is_set(self) -> bool:
        self.n += 1
        return self.n >= self.at

    def ends(self) -> bool:
        return self._ends


@pytest.mark.parametrize("function", ["loop", "by_callback"])
def test_a_training_that_must_leave_does_so_at_the_next_update(function: str, loop_file: Path) -> None:
    training = engine(loop_file, function, replace(RULES, averaging=False)).start(CONFIG, None, Ends(14))
    first, left = list(training.epochs())
    assert isinstance(first, EpochMetrics)
    assert left == Paused(2, 13)
    assert training.checkpoint() is None  # within an epoch there is none: the last one stands


def test_a_training_that_is_asked_to_pause_goes_on_to_the_end_of_its_epoch(loop_file: Path) -> None:
    asks = Ends(1, ends=False)
    assert len(told(engine(loop_file).start(CONFIG, None, asks))) == 4
    assert asks.n == 40


def test_a_loss_that_explodes_ends_the_training(loop_file: Path) -> None:
    config = replace(CONFIG, optimizer=replace(SGD, peak_lr=1e4), epochs=20)
    rows = list(engine(loop_file, rules=replace(RULES, averaging=False)).start(config).epochs())
    end = rows[-1]
    assert isinstance(end, Divergence)
    assert end.step < 100
    assert not end.loss < 3 * end.initial_loss


def test_a_score_that_is_no_number_ends_the_training(loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + WRONG)
    (end,) = engine(loop_file, "base", told={"val_accuracy": math.nan}).start(CONFIG).epochs()
    assert isinstance(end, Divergence)
    assert (end.epoch, end.step) == (1, 9)


def test_a_metric_of_ones_own_is_told_by_its_name() -> None:
    rules = replace(RULES, metric=told_metric("perplexity", "minimize"))
    run = Run(CONFIG, 2, rules, CPU)
    optimizer = run.optimizer(nn.Linear(3, 2))
    for _ in range(2):
        optimizer.step()
        run.step()
    row = run.epoch(perplexity=12.5, averaged_perplexity=11.0, val_loss=2.5)
    assert (row.val_score, row.averaged_val_score, row.val_loss) == (12.5, 11.0, 2.5)
    assert math.isnan(row.val_accuracy)
    assert (rules.metric.of(row), rules.metric.rung_score(row)) == (12.5, 11.0)


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [COSINE, ScheduleConfig("plateau", 0.0, 0.01, drop_factor=0.5, patience_epochs=0)])
def test_a_training_that_goes_on_is_the_one_that_never_stopped(schedule: ScheduleConfig, loop_file: Path) -> None:
    config = replace(CONFIG, schedule=schedule)
    whole = engine(loop_file).start(config)
    rows = told(whole)
    cut = engine(loop_file).start(config)
    epochs = cut.epochs()
    next(epochs), next(epochs)
    kept = cut.checkpoint()
    assert kept is not None
    epochs.close()
    torch.manual_seed(99)  # whatever happens meanwhile
    again = engine(loop_file).start(config, kept)
    assert told(again) == rows[2:]
    assert again.weights() == whole.weights()


def test_a_loop_that_keeps_nothing_has_no_checkpoint(loop_file: Path) -> None:
    training = engine(loop_file, "forgetful").start(CONFIG)
    epochs = training.epochs()
    next(epochs)
    assert training.checkpoint() is None
    epochs.close()


KEEPS = """

def keeps(run):
    count = {"n": 0}
    optimizer = run.optimizer(build())
    def load(state):
        count.update(state)
    for epoch in range(run.resume(save=lambda: dict(count), load=load, optimizer=optimizer), run.config.epochs):
        for _ in range(run.steps_per_epoch):
            optimizer.step()
            run.step()
        count["n"] += 1
        yield run.epoch(val_accuracy=count["n"] / 10)

def keeps_less(run):
    run.resume()
    yield

def keeps_code(run):
    optimizer = run.optimizer(build())
    run.resume(save=lambda: {"f": print}, load=print)
    for _ in range(run.steps_per_epoch):
        optimizer.step()
        run.step()
    yield run.epoch(val_accuracy=.5)

def half(run):
    run.resume(save=dict)
    yield
"""


def test_what_a_loop_saves_it_is_given_back(loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + KEEPS)
    rules = replace(RULES, averaging=False)
    cut = engine(loop_file, "keeps", rules).start(CONFIG)
    epochs = cut.epochs()
    next(epochs)
    kept = cut.checkpoint()
    assert kept is not None
    epochs.close()
    rest = told(engine(loop_file, "keeps", rules).start(CONFIG, kept))
    assert [row.val_accuracy for row in rest] == [0.2, 0.3, 0.4]
    with pytest.raises(LoopError, match="with what the trial was kept by, and optimizer differs"):
        next(iter(engine(loop_file, "keeps_less", rules).start(CONFIG, kept).epochs()))
    with pytest.raises(CheckpointError, match="of another loop"):
        engine(loop_file, "keeps", rules, other=1).start(CONFIG, kept)
    with pytest.raises(CheckpointError, match="damaged"):
        engine(loop_file, "keeps", rules).start(CONFIG, kept[:-20])


def test_what_cannot_be_kept_is_said(loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + KEEPS)
    training = engine(loop_file, "keeps_code").start(CONFIG)
    epochs = training.epochs()
    next(epochs)
    with pytest.raises(LoopError, match="must be tensors and plain values"):
        training.checkpoint()
    epochs.close()
    with pytest.raises(LoopError, match="needs both save and load, or neither"):
        list(engine(loop_file, "half").start(CONFIG).epochs())


# --- the study --------------------------------------------------------------------------------------------------------


def spec_of(path: Path, *more: tuple[str, object]) -> StudySpec:
    overrides = [("loop.name", f"{path}:loop"), *more]
    tables, source = study_file.base(None, [key for key, _ in overrides])
    return study_file.resolved(tables, source, overrides)


def test_a_study_of_a_loop_names_neither_data_nor_model(loop_file: Path) -> None:
    spec = spec_of(loop_file, ("loop.n_train", 500), ("epochs", 3))
    assert spec.name == "mine"
    assert not {"dataset", "model"} & spec.to_plain().keys()
    assert not [key for key in spec.identity() if key.startswith(("dataset", "model"))]
    assert StudySpec.from_json(spec.to_json()) == spec
    assert [spec.steps_per_epoch(size) for size in (32, 64)] == [16, 8]


SPECS: list[tuple[tuple[tuple[str, object], ...], str]] = [
    ((), "give n_train, the training examples of an epoch, or steps_per_epoch, its updates; got neither"),
    ((("loop.n_train", 9), ("loop.steps_per_epoch", 3)), "got both"),
    ((("loop.n_train", 9),), "space.batch_size must be at most the 9 training examples of loop.n_train, got 128"),
    ((("loop.steps_per_epoch", 0),), "loop.steps_per_epoch: must be a whole number from 1, or 'FILE.py:FUNCTION'"),
    ((("loop.steps_per_epoch", "many"),), "got 'many'"),
    ((("loop.n_train", 500), ("dataset.name", "mnist")), "mine.py:loop trains by itself: leave [dataset] out"),
    ((("loop.n_train", 500), ("model.name", "cnn")), "leave [model] out"),
    ((("loop.n_train", 500), ("training.class_weights", 0.5)), "training.class_weights is for trainings by lrsearch"),
    ((("loop.n_train", 500), ("objective.metric", "iou")), "with objective.direction"),
    ((("loop.n_train", 500), ("loop.size", 3)), "unknown key 'loop.size'"),
    (
        (("loop.steps_per_epoch", "f.py:steps"), ("space.batch_size", {"low": 8, "high": 64})),
        "is asked once for each batch size, and space.batch_size is a range: name the sizes, or give loop.n_train",
    ),
]


@pytest.mark.parametrize(("more", "sentence"), SPECS, ids=lambda one: one if isinstance(one, str) else "")
def test_what_a_study_file_says_wrong_of_a_loop(
    more: tuple[tuple[str, object], ...], sentence: str, loop_file: Path
) -> None:
    with pytest.raises(StudyFileError) as caught:
        spec_of(loop_file, *more)
    assert sentence in str(caught.value)


def test_a_metric_that_only_a_loop_knows_needs_one() -> None:
    with pytest.raises(StudyFileError, match="is none that lrsearch measures"):
        study_file.load("digits", [("objective.direction", "maximize"), ("objective.metric", "iou")])
    with pytest.raises(StudyFileError, match="accuracy is there to maximize, got direction = 'minimize'"):
        study_file.load("digits", [("objective.direction", "minimize")])


RUN = ("--trials", "2", "--epochs", "2", "--threads", "1", "--set", "space.batch_size=50")


def test_a_search_by_a_loop_ends_with_an_answer(loop_file: Path, tmp_path: Path, lrsearch: InProcess) -> None:
    done = lrsearch("run", "--train", f"{loop_file}:loop", "--n-train", "500", *RUN, "--json")
    assert done.code == 0, done.err
    winner = done.document["winner"]
    assert winner["val_accuracy"] > 0.5
    assert (done.document["n_validation"], winner["test_accuracy"]) == (0, None)
    shown = lrsearch("show", str(winner["number"]), "mine")
    assert shown.code == 0, shown.err
    assert "loop of " in shown.out
    for words in (
        ["best", "mine"],
        ["status"],
        ["trials"],
        ["list"],
        ["report", "mine"],
        ["show-schedule", "--trial", "best"],
    ):
        again = lrsearch(*words)
        assert again.code == 0, (words, again.err)
    setting = lrsearch("export", "mine", "--to", "json")
    assert len(setting.document["lr"]) == 20
    assert setting.document["loop"]["n_train"] == 500
    for words in (["train", "mine"], ["predict", "mine"], ["export", "mine", "--to", "torch"]):
        refused = lrsearch(*words)
        assert (refused.code, refused.err.count("\n")) == (2, 1), words
        assert "is trained by a loop of your own" in refused.err


def test_a_loop_that_is_wrong_leaves_nothing_behind(loop_file: Path, tmp_path: Path, lrsearch: InProcess) -> None:
    loop_file.write_text(loop_file.read_text() + WRONG)
    for function in ("per_epoch", "returns"):
        done = lrsearch("run", "--train", f"{loop_file}:{function}", "--n-train", "500", *RUN)
        assert (done.code, done.err.count("lrsearch: ")) == (2, 1), done.err
    assert sorted(path.name for path in Path.cwd().iterdir() if path.suffix == ".db") == []


LENGTHS = {"--n-train": ("600", "500"), "--steps-per-epoch": ("12", "10")}
"""Wrong ones, and what is right of batches of 50."""


@pytest.mark.parametrize("option", LENGTHS)
def test_a_corrected_length_of_an_epoch_takes_the_place_of_a_wrong_one(
    option: str, loop_file: Path, lrsearch: InProcess
) -> None:
    wrong, right = LENGTHS[option]
    words = ("run", "--train", f"{loop_file}:loop", *RUN)
    refused = lrsearch(*words, option, wrong)
    assert refused.code == 2
    assert "made 10 updates in its first epoch" in refused.err
    (filed,) = lrsearch("list", "--json").document["studies"]
    assert filed["name"] == "mine"
    done = lrsearch(*words, option, right, "--json")
    assert done.code == 0, done.err
    said = f"loop.{option[2:].replace('-', '_')} is {wrong} there and {right} here), and no trial of it came as far as "
    assert done.err.count(said) == 1, done.err
    assert done.document["counts"]["complete"] + done.document["counts"]["pruned"] == 2
    assert len(lrsearch("trials", "mine", "--json").document["trials"]) == 2
    again = lrsearch(*words, option, wrong)
    assert again.code == IdentityError.exit_code, "now there is something to be lost"


def test_the_file_of_a_loop_is_known_by_its_content(loop_file: Path, lrsearch: InProcess) -> None:
    words = ("run", "--train", f"{loop_file}:loop", "--n-train", "500", *RUN)
    assert lrsearch(*words).code == 0
    loop_file.write_text(loop_file.read_text() + "\n# changed\n")
    done = lrsearch(*words)
    assert done.code == IdentityError.exit_code
    assert "loop.name (SHA-256) is" in done.err


def test_a_function_says_how_many_updates_an_epoch_has(loop_file: Path, lrsearch: InProcess) -> None:
    loop_file.write_text(loop_file.read_text() + "\ndef steps(batch_size):\n    return -(-500 // batch_size)\n")
    words = ["run", "--train", f"{loop_file}:loop", "--steps-per-epoch", f"{loop_file}:steps", *RUN[:-1]]
    done = lrsearch(*words, "space.batch_size=[25, 50]", "--json")
    assert done.code == 0, done.err
    study = lrsearch("report", "mine", "-f", "json").out
    assert "20 updates an epoch of batches of 25, 10 updates an epoch of batches of 50" in study


def test_the_metric_of_a_loop_orders_its_trials(loop_file: Path, lrsearch: InProcess) -> None:
    loop_file.write_text(
        loop_file.read_text()
        + """

def ppl(run):
    train, validation = data()
    model = build()
    optimizer = run.optimizer(model)
    loader = DataLoader(train, batch_size=run.config.batch_size)
    for _ in range(run.config.epochs):
        train_epoch(run, loader, model, optimizer)
        yield run.epoch(perplexity=2.718 ** evaluate(model, *validation)[1])
"""
    )
    own = ("--set", "objective.metric=perplexity", "--set", "objective.direction=minimize")
    done = lrsearch("run", "--train", f"{loop_file}:ppl", "--n-train", "500", *RUN, *own, "--set", "pruner=none")
    assert done.code == 0, done.err
    found = lrsearch("trials", "mine", "--json").document["trials"]
    best = lrsearch("best", "mine", "--json").document
    assert best["objective"] == {"metric": "perplexity", "direction": "minimize"}
    assert best["winner"]["val_score"] == min(one["value"] for one in found)


ASKED = (signal.SIGINT, signal.SIGTERM)
KILLED = ("--trials", "1", "--epochs", "40", "--threads", "1", "--set", "space.batch_size=50", "--set", "pruner=none")


@pytest.mark.slow
def test_a_killed_loop_goes_on_and_ends_as_if_it_had_not_been(loop_file: Path, tmp_path: Path) -> None:
    often = ("--set", "workers.checkpoint_seconds=0", "--set", "workers.lease_seconds=1")
    words = ["run", "--train", f"{loop_file}:loop", "--n-train", "500", *KILLED, *often]
    whole, *others = whole_and_resumed(words, tmp_path, signal.SIGKILL, "epoch 5/40")
    others += [cut_and_resumed(words, tmp_path / sent.name, sent, "epoch 5/40") for sent in ASKED]
    (wanted, *found) = [
        run_process(["trials", "mine", "--json"], folder).document["trials"][0]["weights_sha256"]
        for folder in (whole, *others)
    ]
    assert wanted != ""
    assert found == [wanted] * 3


@pytest.mark.slow
def test_a_loop_that_keeps_nothing_starts_again_and_says_so(loop_file: Path, tmp_path: Path) -> None:
    words = ["run", "--train", f"{loop_file}:forgetful", "--n-train", "500", *KILLED]
    words += ["--set", "workers.lease_seconds=1"]
    first = Running(words, tmp_path)
    wait_until(lambda: "epoch 5/40" in first.read("stderr"))
    first.send(signal.SIGKILL)
    first.result()
    again = run_process(words, tmp_path)
    assert again.code == 0, again.err
    assert "trial 0: nothing was kept of it, so it starts again; a loop that calls run.resume() goes on" in again.err
    assert "epoch 1/40 again" in again.err
    trial = run_process(["trials", "mine", "--json"], tmp_path).document["trials"][0]
    assert (trial["state"], trial["epoch"]) == ("complete", 40)


@pytest.mark.slow
def test_two_workers_share_the_budget_of_a_loop(loop_file: Path, tmp_path: Path) -> None:
    words = ["run", "--train", f"{loop_file}:loop", "--n-train", "500", "--trials", "7", "--epochs", "3"]
    done = run_process([*words, "--workers", "2", "--threads", "1"], tmp_path)
    assert done.code == 0, done.err
    trials = run_process(["trials", "mine", "--json"], tmp_path).document["trials"]
    assert len(trials) == 7
    assert {one["state"] for one in trials} <= {"complete", "pruned", "diverged"}


def test_errors_of_a_loop_are_of_the_family() -> None:
    assert issubclass(LoopError, LrsearchError)

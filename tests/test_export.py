"""What `lrsearch export` prints: programs that are run here, and lists of learning rates."""

import csv
import io
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Finished, InProcess, clean_environment, one_line, run_process, run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from test_download import expect_cifar10, put, small_cifar10, small_cifar100, small_mnist, small_svhn
from test_schedules import schedules_of
from trials_by_hand import spec, trial

from lrsearch.errors import UsageError
from lrsearch.families import FAMILIES
from lrsearch.report import export
from lrsearch.report.export_program import Framework, program
from lrsearch.report.model_code import model_code
from lrsearch.report.scheduler_code import scheduler_code
from lrsearch.schedules import factors
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import open_existing
from lrsearch.training import data, download, models, optimizers
from lrsearch.training.plateau import plateau_of
from lrsearch.trial import OptimizerConfig, OptimizerName, ScheduleConfig, Trial

pytest_plugins = ["command_line"]

SHAPES = (
    ScheduleConfig("constant"),
    ScheduleConfig("step", final_fraction=0.01, drops=3),
    ScheduleConfig("multistep", final_fraction=0.01, milestones=(0.3, 0.6, 0.9)),
    ScheduleConfig("exponential", final_fraction=0.001),
    ScheduleConfig("linear", final_fraction=0.0123456789012345),
    ScheduleConfig("cosine", final_fraction=0.0123456789012345),
    ScheduleConfig("polynomial", final_fraction=0.0, power=2.5),
    ScheduleConfig("polynomial", final_fraction=0.0212345678912345, power=0.5),
    ScheduleConfig("inverse_sqrt", final_fraction=0.05),
    ScheduleConfig("one_cycle", final_fraction=0.001, rise_fraction=0.3123456789, initial_fraction=0.04),
    ScheduleConfig("triangular", final_fraction=0.1, cycles=3),
    ScheduleConfig("warm_restarts", final_fraction=0.0123456789012345, cycles=3, cycle_mult=2),
    ScheduleConfig("wsd", final_fraction=0.01, decay_fraction=0.2),
    ScheduleConfig("wsd_cosine", final_fraction=0.0123456789012345, decay_fraction=0.2),
)
PLATEAU = ScheduleConfig("plateau", final_fraction=0.1, drop_factor=0.2, patience_epochs=0)
WARMUPS = (0.0, 0.1234, 0.6)
PEAK = 7.012345678912345
"""So large that eleven right digits would not be enough."""
EPOCHS = 5

# 51 images to train on: seven batches of 8, the last of 3 images.
SMALL: dict[str, Any] = {
    "epochs": EPOCHS,
    "dataset": {"limit": 64},
    "model": {"hidden": [4]},
    "space": {"batch_size": [8, 16]},
}
TINY = OptimizerConfig("sgd", PEAK)
BATCH = 8


def study(**tables: Any) -> StudySpec:
    return spec(**{**SMALL, **tables})


def of(schedule: ScheduleConfig, optimizer: OptimizerConfig = TINY, **settings: Any) -> Trial:
    """Return a trial with a setting; batches of 8, five epochs."""
    made = trial(3)
    config = {"batch_size": BATCH, "epochs": EPOCHS, **settings}
    return replace(made, config=replace(made.config, optimizer=optimizer, schedule=schedule, **config))


def wanted(made: Trial, steps_per_epoch: int) -> np.ndarray[Any, Any]:
    schedule, epochs = made.config.schedule, made.config.epochs
    return factors(schedule, steps_per_epoch * epochs) * made.config.optimizer.peak_lr


def assert_equal(lrs: Sequence[float], searched: Sequence[float] | np.ndarray[Any, Any], what: object = "") -> None:
    """Equal to 1e-9, absolutely and relatively."""
    found, asked = np.array(lrs), np.array(searched)
    assert found.shape == asked.shape, what
    off = np.abs(found - asked)
    assert (off <= 1e-9 * np.minimum(asked, 1)).all(), (what, off.max())


def log_of(path: Path) -> list[float]:
    """Return the learning rates of a log, whose steps count from 0 and whose epochs from 1."""
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    assert [int(row["step"]) for row in rows] == list(range(len(rows)))
    epochs = [int(row["epoch"]) for row in rows]
    assert epochs == sorted(epochs)
    assert set(epochs) == set(range(1, epochs[-1] + 1))
    return [float(row["lr"]) for row in rows]


def loaded(text: str) -> dict[str, Any]:
    """Return the names of a program, whose ``main`` has not been called."""
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(text, "program.py", "exec"), names)
    return names


class Program:
    """Runs a program in this process, warnings as errors."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log, self._monkeypatch = folder / "lr.csv", monkeypatch

    def __call__(self, names: dict[str, Any], *arguments: str) -> list[float]:
        self._monkeypatch.setattr(sys, "argv", ["program.py", "--lr-log", str(self._log), *arguments])
        names["main"]()
        return log_of(self._log)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with torch.random.fork_rng(devices=[]):
        yield Program(tmp_path, monkeypatch)


# The learning rate at every update


def test_every_family_is_exported_in_the_tests() -> None:
    assert {shape.family for shape in (*SHAPES, PLATEAU)} == set(FAMILIES)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.family)
def test_the_torch_program_has_the_learning_rate_that_was_searched_at_every_update(
    shape: ScheduleConfig, run: Program
) -> None:
    for warmup, drop_last in zip(WARMUPS, (False, True, False), strict=True):
        made = of(replace(shape, warmup_fraction=warmup))
        lrs = run(loaded(program(made, study(training={"drop_last": drop_last}), "torch")))
        assert_equal(lrs, wanted(made, 6 if drop_last else 7), warmup)


@pytest.mark.parametrize(("epochs", "batch_size", "steps"), [(1, 51, 1), (2, 50, 2), (3, 13, 4), (1, 16, 4)])
def test_a_program_of_few_updates_has_them_right(epochs: int, batch_size: int, steps: int, run: Program) -> None:
    for shape, warmup in product(SHAPES, (0.0, 0.5)):
        made = of(replace(shape, warmup_fraction=warmup), epochs=epochs, batch_size=batch_size)
        code = scheduler_code(made.config.schedule, epochs * steps)
        names = loaded(program(made, study(epochs=epochs), "torch"))
        assert_equal(
            stepped(names, epochs * steps)[0] if code.schedulers else [PEAK] * epochs * steps, wanted(made, steps)
        )


def stepped(names: dict[str, Any], n_steps: int) -> tuple[list[float], torch.optim.Optimizer]:
    """Go through the learning rates of a program without training; return them and its optimizer."""
    optimizer: torch.optim.Optimizer = names["build_optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    scheduler, lrs = names["build_scheduler"](optimizer, n_steps), []
    for _ in range(n_steps):
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return lrs, optimizer


SCHEDULED = tuple(family for family in FAMILIES if family not in ("plateau", "constant"))


@settings(deadline=None, max_examples=100)
@given(schedules_of(*SCHEDULED) | schedules_of(*SCHEDULED, warm=False), st.integers(1, 6), st.integers(1, 51))
@pytest.mark.slow
def test_any_schedule_is_exported_with_its_learning_rates(schedule: ScheduleConfig, epochs: int, steps: int) -> None:
    batch_size = -(-51 // steps)
    steps = -(-51 // batch_size)
    made = of(schedule, epochs=epochs, batch_size=batch_size)
    names = loaded(program(made, study(epochs=epochs), "torch"))
    off = np.abs(np.array(stepped(names, epochs * steps)[0]) - wanted(made, steps))
    # Not of each value: after a fall to zero what is left is the rounding of the peak.
    assert off.max() <= 1e-9


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.family != "constant"], ids=lambda shape: shape.family)
@pytest.mark.parametrize("warmup", [0.0, 0.1234])
def test_a_program_follows_another_number_of_updates(shape: ScheduleConfig, warmup: float) -> None:
    made = of(replace(shape, warmup_fraction=warmup))
    names = loaded(program(made, study(), "torch"))
    for n_steps in (9, 35, 137, 10_560):
        assert_equal(stepped(names, n_steps)[0], factors(made.config.schedule, n_steps) * PEAK, n_steps)


@pytest.mark.parametrize("family", ["one_cycle", "triangular"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_no_schedule_touches_the_momentum(family: str, name: OptimizerName) -> None:
    shape = next(shape for shape in SHAPES if shape.family == family)
    momentum: dict[str, Any] = {"momentum": 0.9} if name == "sgd" else {"beta1": 0.9, "beta2": 0.999}
    names = loaded(program(of(shape, OptimizerConfig(name, PEAK, **momentum)), study(), "torch"))
    _, optimizer = stepped(names, 20)
    (group,) = optimizer.param_groups
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.9


def dropping(made: Trial, losses: Sequence[float], steps_per_epoch: int) -> np.ndarray[Any, Any]:
    """Return the learning rates of a search that has seen these validation losses."""
    plateau = plateau_of(made.config.schedule)
    assert plateau is not None
    scales = []
    for loss in losses:
        scales.append(plateau.scale)
        plateau.step(loss)
    assert len(set(scales)) >= 3, "the losses make it drop"
    return wanted(made, steps_per_epoch) * np.repeat(scales, steps_per_epoch)


LOSSES = (1.0, 1.5, 1.6, 0.5, 0.6, 0.7)


@pytest.mark.parametrize("warmup", [*WARMUPS, 0.02])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_the_plateau_drops_when_the_search_would(warmup: float, final: float, run: Program) -> None:
    # With .6 it drops in the warm-up, to the floor.
    made = of(replace(PLATEAU, warmup_fraction=warmup, final_fraction=final), epochs=len(LOSSES))
    names = loaded(program(made, study(epochs=len(LOSSES)), "torch"))
    scores = iter([*((loss, 0.5) for loss in LOSSES), (0.4, 0.5)])
    names["evaluate"] = lambda *_: next(scores)
    assert_equal(run(names), dropping(made, LOSSES, 7))


def test_the_plateau_has_the_settings_that_were_searched() -> None:
    made = of(replace(PLATEAU, patience_epochs=2))
    names = loaded(program(made, study(), "torch"))
    optimizer = names["build_optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    state = names["build_scheduler"](optimizer, 35).state_dict()
    searched = plateau_of(made.config.schedule)
    assert searched is not None
    settings = searched.scheduler.state_dict()
    for name in ("factor", "patience", "mode", "threshold", "threshold_mode", "cooldown", "best"):
        assert state[name] == settings[name], name
    assert [state["eps"], *state["min_lrs"]] == [settings["eps"] * PEAK, settings["min_lrs"][0] * PEAK]


DRIVER = """
    import json, shutil, sys, torch
    torch.set_num_threads(1)  # beside other tests
    which = shutil.which
    shutil.which = lambda name, *rest: None if name == "srun" else which(name, *rest)  # Lightning's advice on Slurm
    for path, log, losses in json.load(open("programs.json")):
        names = {"__name__": "program"}
        exec(compile(open(path).read(), path, "exec"), names)
        if losses:
            def score(self, batch, which, losses=losses):
                self.log(f"{which}_loss", losses[min(self.current_epoch, len(losses) - 1)])
            names["Classifier"]._score = score
        sys.argv = [path, "--lr-log", log]
        names["main"]()
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lightning") is None, reason="lightning comes with the extra 'dev'")
def test_the_lightning_program_has_the_learning_rate_that_was_searched_at_every_update(tmp_path: Path) -> None:
    # One process for all: it takes seconds to import Lightning.
    cases: list[tuple[Trial, StudySpec, Sequence[float]]] = []
    for shape, warmup in product(SHAPES, (0.0, 0.1234)):
        drop_last = bool(warmup)
        cases.append((of(replace(shape, warmup_fraction=warmup)), study(training={"drop_last": drop_last}), ()))
    for warmup, final in product((0.0, 0.6), (0.0, 0.1)):
        made = of(replace(PLATEAU, warmup_fraction=warmup, final_fraction=final), epochs=len(LOSSES))
        cases.append((made, study(epochs=len(LOSSES)), LOSSES))
    paths = []
    for i, (made, about, losses) in enumerate(cases):
        (tmp_path / f"{i}.py").write_text(program(made, about, "lightning"), "utf-8")
        paths.append((f"{i}.py", f"{i}.csv", losses))
    (tmp_path / "programs.json").write_text(json.dumps(paths), "utf-8")
    result = run_python(DRIVER, tmp_path)
    assert result.code == 0, result.err
    assert result.err == "", "it is quiet"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["programs.json", *(name for path in paths for name in path[:2])]
    ), "no file of its own"
    for (made, about, losses), (_, log, _) in zip(cases, paths, strict=True):
        steps = about.steps_per_epoch(BATCH)
        lrs = dropping(made, losses, steps) if losses else wanted(made, steps)
        assert_equal(log_of(tmp_path / log), lrs, made.config.schedule)


# The rest of the training


OPTIMIZERS = (
    OptimizerConfig("sgd", 0.1),
    OptimizerConfig("sgd", 0.1, 5e-4, momentum=0.9, dampening=0.0, nesterov=True),
    OptimizerConfig("adam", 1e-3, 1e-4, beta1=0.8, beta2=0.999, eps=1e-7),
    OptimizerConfig("adamw", 0.0012345678912345678, 0.0, beta1=0.9, beta2=0.999, eps=1e-8),
    OptimizerConfig("rmsprop", 1e-3, 0.0, momentum=0.5, alpha=0.9, eps=1e-6),
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.name)
def test_the_optimizer_is_that_of_the_search_in_programs_and_in_json(optimizer: OptimizerConfig) -> None:
    made = of(ScheduleConfig("constant"), optimizer)
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    searched = optimizers.build(optimizer, parameters, torch.device("cpu"))
    document = export.to_json(made, study())["optimizer"]
    from_json = getattr(torch.optim, document["class"].rpartition(".")[2])(parameters, **document["arguments"])
    for built in (loaded(program(made, study(), "torch"))["build_optimizer"](parameters), from_json):
        assert type(built) is type(searched)
        (group,), (asked,) = built.param_groups, searched.param_groups
        for name in asked.keys() - {"params", "fused"}:
            found = tuple(group[name]) if name == "betas" else group[name]
            assert found == asked[name], name


OF_PUBLISHED_DATA = sorted(study_file.shipped().keys() - {"pictures", "fine-tune"})


@pytest.mark.parametrize("name", OF_PUBLISHED_DATA)
def test_the_model_of_every_shipped_study_starts_from_the_weights_of_the_search(name: str) -> None:
    about = study_file.load(name)
    names = loaded(program(of(ScheduleConfig("constant")), about, "torch"))
    shape = (3, 32, 32) if name == "cifar10" else (1, 28, 28)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        searched = models.build(models.ModelConfig(about.model.name, about.model.hidden), shape, 10)
        torch.manual_seed(5)
        exported = names["build_model"]()
    assert [str(layer) for layer in exported] == [str(layer) for layer in searched]
    for found, asked in zip(exported.parameters(), searched.parameters(), strict=True):
        assert torch.equal(found, asked)


def test_the_layers_are_those_of_a_model_with_several_hidden_sizes_and_with_none() -> None:
    several, none = (model_code(study(model={"hidden": sizes})).layers for sizes in ([7, 5], []))
    assert several[1:] == ("nn.Linear(784, 7)", "nn.ReLU()", "nn.Linear(7, 5)", "nn.ReLU()", "nn.Linear(5, 10)")
    assert none[1:] == ("nn.Linear(784, 10)",)


def same_images(names: dict[str, Any], splits: data.ImageSplits, *folder: Path) -> None:
    """Check that a program loads the three sets that were searched, in their order."""
    searched = (
        (splits.train.images, splits.train.labels),
        (splits.validation.images, splits.validation.labels),
        (splits.test.images, splits.test.labels),
    )
    for found, (images, labels) in zip(names["load_data"](*folder), searched, strict=True):
        assert torch.equal(found.tensors[1], labels)
        assert found.tensors[0].dtype == torch.float32
        assert found.tensors[0].shape == images.shape
        assert torch.allclose(found.tensors[0], splits.normalize(images), atol=1e-5)


@pytest.mark.parametrize("scaling", ["standard", "unit"])
@pytest.mark.parametrize("limit", [None, 200])
def test_the_digits_of_a_program_are_those_of_the_search(scaling: data.Scaling, limit: int | None) -> None:
    about = spec(dataset={"limit": limit, "scaling": scaling, "split_seed": 7, "validation_fraction": 0.3})
    names = loaded(program(of(ScheduleConfig("constant")), about, "torch"))
    same_images(names, data.load(data.DataConfig("digits", limit, 0.3, 7, scaling)))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "svhn"])
def test_the_downloaded_images_of_a_program_are_those_of_the_search(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Program
) -> None:
    if name == "cifar10":
        files = small_cifar10()
        expect_cifar10(files, monkeypatch)
        put(tmp_path / "cifar-10-batches-py", files)
    elif name == "cifar100":
        put(tmp_path / "cifar-100-python", small_cifar100(monkeypatch))
    elif name == "svhn":
        put(tmp_path, small_svhn(monkeypatch))
    else:
        put(tmp_path / download.layout_of(name).folder, small_mnist())
    limited: dict[str, Any] = {"name": name, "limit": 50, "validation_fraction": 0.2}
    about = study(dataset=limited, model={"name": "cnn", "hidden": [4]}, space={"batch_size": 8})
    made = of(ScheduleConfig("cosine", 0.1, 0.01), OptimizerConfig("adamw", 1e-3, 0.1))
    names = loaded(program(made, about, "torch"))
    splits = data.load(data.DataConfig(name, 50, 0.2), tmp_path, download=False)
    same_images(names, splits, tmp_path)
    assert_equal(run(names, "--data-dir", str(tmp_path), "--device", "cpu"), wanted(made, 5))


@pytest.mark.slow
def test_the_program_of_a_real_search_repeats_its_epochs(
    lrsearch: InProcess, finished: Finished, run: Program, capfd: pytest.CaptureFixture[str]
) -> None:
    text = lrsearch("export", "--storage", str(finished.database)).out
    run(loaded(text), "--device", "cpu")
    printed = [line for line in capfd.readouterr().out.splitlines() if "accuracy" in line]
    best = winner(finished)
    found = [float(line.partition("accuracy ")[2].split(",")[0]) for line in printed]
    recorded = [*(row.val_accuracy for row in best.metrics), best.test_accuracy]
    # The same weights, images and order: only the last bits differ, which one of 200 images may see.
    assert found == pytest.approx(recorded, abs=0.0101)
    assert found[-2] > 0.8


def winner(finished: Finished) -> Trial:
    database = open_existing(parse_place(str(finished.database)))
    try:
        trials = studies.get(database, None).trials()
    finally:
        database.close()
    return max(
        (t for t in trials if t.state == "complete"),
        key=lambda t: (t.metrics[-1].val_accuracy, -t.metrics[-1].val_loss),
    )


@pytest.mark.slow
def test_a_program_runs_in_a_folder_of_its_own(tmp_path: Path, finished: Finished) -> None:
    written = run_process(["export", "--storage", str(finished.database), "-o", "train.py"], tmp_path)
    assert written.out == "wrote train.py; run it with: python train.py\n"
    environment = clean_environment(tmp_path)
    command = [sys.executable, "-I", "-W", "error", "train.py", "--lr-log", "lr.csv"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("test: loss ")
    planned = run_process(["export", "--storage", str(finished.database), "--to", "csv"], tmp_path)
    assert_equal(log_of(tmp_path / "lr.csv"), [float(row["lr"]) for row in csv.DictReader(io.StringIO(planned.out))])


@pytest.mark.parametrize("framework", ["torch", "lightning"])
def test_every_program_is_what_a_linter_and_a_formatter_want(framework: Framework, tmp_path: Path) -> None:
    long = 0.12345678912345678
    cases = [(of(replace(shape, warmup_fraction=w)), study()) for shape, w in product((*SHAPES, PLATEAU), (0.0, long))]
    cases += [(of(SHAPES[5], optimizer), study()) for optimizer in OPTIMIZERS]
    many = ScheduleConfig("multistep", long, 0.01, milestones=tuple(long + i / 9 for i in range(7)))
    cases += [(of(many), study()), (of(replace(many, milestones=many.milestones and many.milestones[:3])), study())]
    cases += [(of(SHAPES[5]), study_file.load(name)) for name in OF_PUBLISHED_DATA]
    restarts = ScheduleConfig("warm_restarts", long, 0.0012345678912345678, cycles=3, cycle_mult=2)
    sgd = OptimizerConfig("sgd", long, 0.0012345678912345678, momentum=0.91234567891234, dampening=0.1, nesterov=False)
    cases.append((of(restarts, sgd), study(training={"drop_last": True}, dataset={"limit": 64, "scaling": "unit"})))
    for i, (made, about) in enumerate(cases):
        text = program(made, about, framework)
        assert "lrsearch" not in text.partition('"""\n\n')[2], "it needs none"
        compile(text, "program.py", "exec")
        (tmp_path / f"{i}.py").write_text(text, "utf-8")
    if find_spec("ruff") is None:
        pytest.skip("ruff comes with the extra 'dev'")
    for command in (["check", "--select", "E,W,F,I,B,UP,SIM,C4", "--line-length", "100"], ["format", "--diff"]):
        argv = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# Data


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.family)
def test_json_and_csv_have_every_learning_rate_to_its_last_bit(shape: ScheduleConfig) -> None:
    made = of(replace(shape, warmup_fraction=0.1234))
    document = json.loads(json.dumps(export.to_json(made, study()), allow_nan=False))
    assert document["lr"] == wanted(made, 7).tolist()
    assert (document["schema"], document["n_steps"], document["steps_per_epoch"]) == ("lrsearch/export/1", 35, 7)
    assert document["plateau"] is None
    rows = list(csv.DictReader(io.StringIO(export.to_csv(made, study()))))
    assert [float(row["lr"]) for row in rows] == document["lr"]
    assert [(int(row["step"]), int(row["epoch"])) for row in rows] == [(t, t // 7 + 1) for t in range(35)]


def test_the_plateau_as_json_has_its_settings_and_what_was_recorded() -> None:
    made = of(PLATEAU)
    document = json.loads(json.dumps(export.to_json(made, study()), allow_nan=False))
    assert document["lr"] is None
    assert document["plateau"]["arguments"] == {"factor": 0.2, "patience": 0, "min_lr": 0.1 * PEAK, "eps": 1e-8 * PEAK}
    assert [row["lr"] for row in document["plateau"]["epochs"]] == [row.lr for row in made.metrics]
    assert document["schedule"]["drop_factor"] == 0.2
    with pytest.raises(UsageError, match="trial 3 has the schedule plateau, whose learning rate depends on validation"):
        export.to_csv(made, study())


def test_json_names_the_setting() -> None:
    about = study(training={"drop_last": True})
    document = export.to_json(of(SHAPES[2], OPTIMIZERS[2], seed=11), about)
    assert document["optimizer"]["arguments"]["betas"] == [0.8, 0.999]
    assert document["schedule"]["milestones"] == [0.3, 0.6, 0.9]
    for key, value in {
        "study": "by-hand",
        "trial": 3,
        "batch_size": 8,
        "drop_last": True,
        "epochs": 5,
        "seed": 11,
    }.items():
        assert document[key] == value
    assert (document["n_train"], document["n_steps"], len(document["lr"])) == (51, 30, 30)


# The command


def test_the_head_says_where_a_program_comes_from_and_nothing_secret(lrsearch: InProcess, finished: Finished) -> None:
    best = winner(finished)
    result = lrsearch("export", "--to", "lightning", "--storage", str(finished.database))
    assert result.code == 0
    head = result.out.split('"""')[1]
    assert f"Trial {best.number} of the study digits" in head
    assert f"lrsearch export digits --trial {best.number} --to lightning" in head
    assert f"validation accuracy {best.metrics[-1].val_accuracy:.3f}" in head
    assert str(finished.database.parent) not in result.out


def test_a_trial_that_was_not_trained_through_is_exported_and_says_so(lrsearch: InProcess, finished: Finished) -> None:
    for number in range(6):
        result = lrsearch("export", "digits", "--trial", str(number), "--storage", str(finished.database))
        assert result.code == 0
        assert f"Trial {number} of" in result.out
        compile(result.out, "program.py", "exec")


def test_a_file_is_written_once_and_overwritten_only_when_asked(
    lrsearch: InProcess, finished: Finished, tmp_path: Path
) -> None:
    storage = ("--storage", str(finished.database))
    assert lrsearch("export", "--to", "csv", "-o", "lr.csv", *storage).out == "wrote lr.csv\n"
    first = (tmp_path / "lr.csv").read_text("utf-8")
    assert first == lrsearch("export", "--to", "csv", *storage).out
    again = lrsearch("export", "--to", "json", "-o", "lr.csv", *storage)
    assert again.code == 2
    assert "lr.csv exists already" in one_line(again)
    assert (tmp_path / "lr.csv").read_text("utf-8") == first
    assert lrsearch("export", "--to", "json", "-o", "lr.csv", "--force", *storage).code == 0
    assert json.loads((tmp_path / "lr.csv").read_text("utf-8"))["schema"] == "lrsearch/export/1"
    assert [path.name for path in tmp_path.iterdir()] == ["lr.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "keras"], 2, "timm, transformers, torchvision, json, csv, got 'keras'"),
        (["-o", "nowhere/x.py"], 2, "nowhere/x.py cannot be written: there is no folder nowhere"),
        (["-o", ".", "--force"], 2, ". is a folder; name a file in it"),
        (["--trial", "last"], 2, "--trial takes best or the number of a trial, got 'last'"),
        (["--trial", "99"], 2, "there is no trial 99"),
        (["other"], 2, "other"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    arguments: list[str], code: int, said: str, lrsearch: InProcess, finished: Finished, tmp_path: Path
) -> None:
    result = lrsearch("export", *arguments, "--storage", str(finished.database))
    assert result.code == code
    assert said in one_line(result)
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_exporting_loads_neither_torch_nor_lightning(tmp_path: Path, finished: Finished) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    code = """
        import contextlib, io, sys
        from lrsearch.cli.app import run
        for target in ("torch", "lightning", "json", "csv"):
            with contextlib.redirect_stdout(io.StringIO()):
                assert run(["export", "--to", target]) == 0
        print(sorted({"torch", "torchvision", "lightning", "sklearn", "pandas", "plotly"} & set(sys.modules)))
    """
    assert run_python(textwrap.dedent(code), tmp_path).out == "[]\n"

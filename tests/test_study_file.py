"""Study files: every way to get one wrong is one sentence, every way to override one does what it says."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import merged, sentence

from lrsearch.domain import Choice, Fixed, Range
from lrsearch.errors import EXIT_USAGE, StudyFileError
from lrsearch.spec import file as study_file
from lrsearch.spec.deciding import LrSpec
from lrsearch.spec.study import StudySpec

ONE = {"optimizer": "sgd", "schedule": "cosine"}

# (what the file says, words of the sentence); the first word is the key in question.
BAD: list[tuple[dict[str, Any], list[str]]] = [
    # An unknown key, with the nearest name, at each level.
    ({"epochz": 3}, ["'epochz'", "did you mean 'epochs'?", "known here: name, epochs, seed"]),
    ({"dataset": {"nmae": "mnist"}}, ["'dataset.nmae'", "did you mean 'name'?", "limit"]),
    ({"model": {"hiden": [3]}}, ["'model.hiden'", "did you mean 'hidden'?"]),
    ({"objective": {"metrics": "loss"}}, ["'objective.metrics'", "did you mean 'metric'?"]),
    ({"budget": {"trails": 9}}, ["'budget.trails'", "did you mean 'trials'?", "hours"]),
    ({"sampler": {"n_startup": 9}}, ["'sampler.n_startup'", "did you mean 'n_startup_trials'?"]),
    ({"pruner": {"min_resources": 1}}, ["'pruner.min_resources'", "did you mean 'min_resource'?"]),
    ({"training": {"averging": "on"}}, ["'training.averging'", "did you mean 'averaging'?"]),
    ({"workers": {"leases_seconds": 9}}, ["'workers.leases_seconds'", "did you mean 'lease_seconds'?", "retries"]),
    ({"workers": {"retries": {"crashes": 9}}}, ["'workers.retries.crashes'", "did you mean 'crash'?", "stalled"]),
    ({"worker": {}}, ["'worker'", "did you mean 'workers'?"]),
    ({"space": {"batchsize": 32}}, ["'space.batchsize'", "did you mean 'batch_size'?", "warmup_fraction"]),
    ({"space": {"optimizer": {"sdg": {}}}}, ["'space.optimizer.sdg'", "did you mean 'sgd'?", "rmsprop"]),
    ({"space": {"optimizer": {"sgd": {"momentun": 0.9}}}}, ["'space.optimizer.sgd.momentun'", "'momentum'?"]),
    ({"space": {"optimizer": {"sgd": {"beta1": 0.9}}}}, ["'space.optimizer.sgd.beta1'", "known here: peak_lr"]),
    ({"space": {"schedule": {"cosin": {}}}}, ["'space.schedule.cosin'", "did you mean 'cosine'?", "plateau"]),
    ({"space": {"schedule": {"step": {"drop": 3}}}}, ["'space.schedule.step.drop'", "did you mean 'drops'?"]),
    ({"space": {"batch_size": {"low": 1, "hgih": 9}}}, ["space.batch_size", "'hgih'", "'high'?", "low, high, log"]),
    # An unknown name.
    ({"dataset": {"name": "mnits"}}, ["dataset.name", "'mnits'", "did you mean 'mnist'?", "cifar10"]),
    ({"dataset": {"name": "imagenet"}}, ["dataset.name", "'imagenet'", "known: digits, mnist"]),
    ({"dataset": {"scaling": "units"}}, ["dataset.scaling", "'units'", "did you mean 'unit'?"]),
    ({"model": {"name": "ccn"}}, ["model.name", "'ccn'", "did you mean 'cnn'?", "mlp"]),
    ({"objective": {"metric": "acuracy"}}, ["objective.metric", "'acuracy'", "did you mean 'accuracy'?"]),
    ({"sampler": {"name": "tpee"}}, ["sampler.name", "'tpee'", "did you mean 'tpe'?", "qmc"]),
    ({"pruner": {"name": "patient"}}, ["pruner.name", "'patient'", "known: asha, gradual, hyperband, median, none"]),
    (
        {"training": {"precision": "fp15"}},
        ["training.precision", "'fp15'", "did you mean 'fp16'?", "known: auto, fp32, bf16, fp16"],
    ),
    ({"training": {"averaging": "of"}}, ["training.averaging", "'of'", "did you mean 'off'?"]),
    ({"space": {"optimizer": "sdg"}}, ["space.optimizer", "'sdg'", "did you mean 'sgd'?"]),
    ({"space": {"optimizer": ["sgd", "lion"]}}, ["space.optimizer", "'lion'", "known: sgd, adam"]),
    ({"space": {"schedule": ["cosin"]}}, ["space.schedule", "'cosin'", "did you mean 'cosine'?"]),
    # A wrong type.
    ({"epochs": "ten"}, ["epochs", "a whole number", "'ten'"]),
    ({"epochs": 2.5}, ["epochs", "a whole number", "2.5"]),
    ({"epochs": True}, ["epochs", "a whole number", "True"]),
    ({"seed": 1.5}, ["seed", "a whole number", "1.5"]),
    ({"baseline": 3}, ["baseline", "a string", "3"]),
    ({"dataset": "mnist"}, ["dataset", "must be a table ([dataset])", "'mnist'"]),
    ({"dataset": {"name": 3}}, ["dataset.name", "3", "known: digits"]),
    ({"dataset": {"limit": "all"}}, ["dataset.limit", "a whole number", "'all'"]),
    ({"model": {"hidden": 128}}, ["model.hidden", "a list", "128"]),
    ({"model": {"hidden": [64, "a"]}}, ["model.hidden.1", "a whole number", "'a'"]),
    ({"training": {"drop_last": 1}}, ["training.drop_last", "true or false", "1"]),
    ({"workers": {"lease_seconds": "1m"}}, ["workers.lease_seconds", "a number", "'1m'"]),
    ({"workers": {"lease_seconds": True}}, ["workers.lease_seconds", "a number", "True"]),
    ({"workers": {"retries": 3}}, ["workers.retries", "must be a table ([workers.retries])", "3"]),
    ({"workers": {"retries": {"lost": 1.5}}}, ["workers.retries.lost", "a whole number", "1.5"]),
    ({"space": 3}, ["space", "must be a table", "3"]),
    ({"space": {"optimizer": 3}}, ["space.optimizer", "must be a table", "3"]),
    ({"space": {"optimizer": {"sgd": 0.1}}}, ["space.optimizer.sgd", "must be a table", "0.1"]),
    ({"space": {"optimizer": [["sgd"]]}}, ["space.optimizer", "unknown optimizer", "['sgd']"]),
    ({"space": {"batch_size": "32"}}, ["space.batch_size", "a whole number", "'32'"]),
    ({"space": {"batch_size": 32.5}}, ["space.batch_size", "a whole number", "32.5"]),
    ({"space": {"batch_size": True}}, ["space.batch_size", "a whole number", "True"]),
    ({"space": {"batch_size": [32, True]}}, ["space.batch_size", "a whole number", "True"]),
    ({"space": {"warmup_fraction": True}}, ["space.warmup_fraction", "a number", "True"]),
    ({"space": {"optimizer": {"sgd": {"nesterov": 1}}}}, ["space.optimizer.sgd.nesterov", "true or false", "1"]),
    ({"space": {"optimizer": {"sgd": {"nesterov": {"low": 0, "high": 1}}}}}, ["nesterov", "got a range"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "log": 1}}}, ["space.batch_size", "log must be true or false"]),
    ({"space": {"schedule": {"multistep": {"milestones": 0.5}}}}, ["milestones", "a list of fractions", "0.5"]),
    ({"space": {"schedule": {"multistep": {"milestones": "half"}}}}, ["milestones", "fractions", "'half'"]),
    ({"space": {"schedule": {"multistep": {"milestones": [0.5, "a"]}}}}, ["milestones", "a number", "'a'"]),
    ({"space": {"schedule": {"multistep": {"milestones": [[0.5], 0.7]}}}}, ["milestones", "a list", "0.7"]),
    ({"space": {"schedule": {"multistep": {"milestones": [[[0.3], [0.4]], [0.7]]}}}}, ["milestones", "[0.3]"]),
    # Numbers that are none.
    ({"budget": {"hours": float("nan")}}, ["budget.hours", "finite", "nan"]),
    ({"workers": {"trial_seconds": float("inf")}}, ["workers.trial_seconds", "finite", "inf"]),
    ({"budget": {"hours": float("inf")}}, ["budget.hours", "finite", "inf"]),
    ({"dataset": {"validation_fraction": float("nan")}}, ["dataset.validation_fraction", "nan"]),
    ({"space": {"batch_size": float("inf")}}, ["space.batch_size", "a whole number", "inf"]),
    ({"space": {"batch_size": float("nan")}}, ["space.batch_size", "a whole number", "nan"]),
    ({"space": {"batch_size": 10**400}}, ["space.batch_size", "inf"]),
    ({"space": {"optimizer": {"sgd": {"peak_lr": 10**400}}}}, ["peak_lr", "inf"]),
    ({"space": {"optimizer": {"sgd": {"peak_lr": float("inf")}}}}, ["space.optimizer.sgd.peak_lr", "inf"]),
    ({"space": {"optimizer": {"sgd": {"peak_lr": {"low": float("nan"), "high": 1}}}}}, ["peak_lr", "nan"]),
    ({"space": {"warmup_fraction": {"low": 0, "high": 0.5, "step": float("nan")}}}, ["warmup_fraction", "step", "nan"]),
    # Out of bounds.
    ({"epochs": 0}, ["epochs", "greater than or equal to 1", "0"]),
    ({"seed": -1}, ["seed", "greater than or equal to 0", "-1"]),
    ({"seed": 2**31}, ["seed", "less than 2147483648"]),
    ({"budget": {"trials": 0}}, ["budget.trials", "greater than or equal to 1", "0"]),
    ({"budget": {"trials": -5}}, ["budget.trials", "-5"]),
    ({"budget": {"hours": 0}}, ["budget.hours", "greater than 0", "0"]),
    ({"budget": {"max_failures": -1}}, ["budget.max_failures", "-1"]),
    ({"workers": {"lease_seconds": 0}}, ["workers.lease_seconds", "greater than 0", "0"]),
    ({"workers": {"checkpoint_seconds": -1}}, ["workers.checkpoint_seconds", "greater than or equal to 0", "-1"]),
    ({"workers": {"trial_seconds": 0}}, ["workers.trial_seconds", "greater than 0", "0"]),
    ({"workers": {"no_progress_seconds": 0}}, ["workers.no_progress_seconds", "greater than 0", "0"]),
    ({"workers": {"retries": {"crash": -1}}}, ["workers.retries.crash", "greater than or equal to 0", "-1"]),
    ({"model": {"hidden": [128, 0]}}, ["model.hidden.1", "greater than or equal to 1", "0"]),
    ({"dataset": {"limit": 2}}, ["dataset.limit", "3", "2"]),
    ({"dataset": {"limit": 1001}}, ["dataset", "limit", "at most 1000 for digits", "1001"]),
    ({"dataset": {"validation_fraction": 1.0}}, ["dataset.validation_fraction", "less than 1", "1.0"]),
    ({"dataset": {"limit": 3, "validation_fraction": 0.9}}, ["dataset", "validation_fraction", "leaves 0"]),
    ({"space": {"optimizer": {"sgd": {"peak_lr": -0.1}}}}, ["peak_lr", "-0.1", "a learning rate is positive"]),
    ({"space": {"optimizer": {"adam": {"peak_lr": 0}}}}, ["adam.peak_lr", "got 0", "positive"]),
    ({"space": {"optimizer": {"adam": {"peak_lr": {"low": -1, "high": 1}}}}}, ["adam.peak_lr", "-1", "positive"]),
    ({"space": {"optimizer": {"adam": {"peak_lr": [0.1, -0.1]}}}}, ["adam.peak_lr", "-0.1", "positive"]),
    ({"space": {"optimizer": {"adam": {"beta1": 1}}}}, ["space.optimizer.adam.beta1", "below 1", "got 1"]),
    ({"space": {"optimizer": {"sgd": {"weight_decay": -1e-4}}}}, ["weight_decay", "-0.0001"]),
    ({"space": {"warmup_fraction": 1}}, ["space.warmup_fraction", "below 1", "cannot be longer than the training"]),
    ({"space": {"warmup_fraction": {"low": 0, "high": 1.5}}}, ["warmup_fraction", "1.5", "longer than the training"]),
    ({"space": {"final_fraction": 1.5}}, ["space.final_fraction", "from 0 to 1", "1.5"]),
    ({"space": {"batch_size": 0}}, ["space.batch_size", ">= 1", "got 0"]),
    ({"space": {"batch_size": 801}}, ["space.batch_size", "at most the 800 training images of digits", "801"]),
    ({"space": {"batch_size": [32, 1024]}}, ["space.batch_size", "at most the 800", "1024"]),
    ({"space": {"batch_size": {"low": 8, "high": 900}}}, ["space.batch_size", "at most the 800", "900"]),
    ({"dataset": {"limit": 100}, "space": {"batch_size": 81}}, ["space.batch_size", "the 80 training images", "81"]),
    ({"space": {"schedule": {"step": {"drops": 0}}}}, ["space.schedule.step.drops", "from 1 to 20", "0"]),
    ({"space": {"schedule": {"one_cycle": {"rise_fraction": 1}}}}, ["rise_fraction", "below 1", "got 1"]),
    ({"space": {"schedule": {"multistep": {"milestones": [0.5, 1.0]}}}}, ["milestones", "below 1", "got 1"]),
    # Ranges and choices that are none.
    ({"space": {"batch_size": {"low": 9, "high": 1}}}, ["space.batch_size", "low must be below high", "low = 9"]),
    ({"space": {"batch_size": {"low": 9, "high": 9}}}, ["space.batch_size", "low must be below high"]),
    ({"space": {"batch_size": {"low": 9}}}, ["space.batch_size", "must have low and high", "only low"]),
    ({"space": {"batch_size": {}}}, ["space.batch_size", "must have low and high", "nothing"]),
    ({"space": {"batch_size": []}}, ["space.batch_size", "at least one value", "empty"]),
    ({"space": {"batch_size": [32, 64, 32.0]}}, ["space.batch_size", "not repeat a value", "32 twice"]),
    ({"space": {"warmup_fraction": {"low": 0, "high": 0.2, "log": True}}}, ["warmup_fraction", "low > 0", "low = 0"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "log": True, "step": 2}}}, ["batch_size", "log or step, not both"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "step": 0}}}, ["batch_size", "step must be", "above 0", "0"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "step": -2}}}, ["batch_size", "step must be", "above 0", "-2"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "step": 9}}}, ["batch_size", "at most high - low = 8", "got 9"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "step": 1.5}}}, ["batch_size", "step", "whole number", "1.5"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "step": True}}}, ["batch_size", "step must be a number", "True"]),
    ({"space": {"batch_size": {"low": 1, "high": 9, "step": "2"}}}, ["batch_size", "step must be a number", "'2'"]),
    ({"space": {"batch_size": {"low": 1, "high": 8, "step": 3}}}, ["batch_size", "steps of 3", "high = 7"]),
    ({"space": {"warmup_fraction": {"low": 0, "high": 0.9, "step": 0.4}}}, ["steps of 0.4", "high = 0.8"]),
    ({"space": {"warmup_fraction": {"low": 0, "high": 0.9, "step": 1e-300}}}, ["warmup_fraction", "step", "1e-300"]),
    ({"space": {"optimizer": []}}, ["space.optimizer", "at least one optimizer", "known: sgd"]),
    ({"space": {"optimizer": {}}}, ["space.optimizer", "at least one optimizer"]),
    ({"space": {"schedule": []}}, ["space.schedule", "at least one schedule", "known: constant"]),
    ({"space": {"optimizer": ["sgd", "adam", "sgd"]}}, ["space.optimizer", "not repeat", "'sgd' twice"]),
    ({"space": {"schedule": ["cosine", "cosine"]}}, ["space.schedule", "not repeat", "'cosine' twice"]),
    ({"space": {"schedule": {"multistep": {"milestones": []}}}}, ["milestones", "a list of fractions", "[]"]),
    ({"space": {"schedule": {"multistep": {"milestones": [[0.5], []]}}}}, ["milestones", "a list of fractions", "[]"]),
    ({"space": {"schedule": {"multistep": {"milestones": [0.7, 0.5]}}}}, ["milestones", "must increase", "0.7"]),
    ({"space": {"schedule": {"multistep": {"milestones": [0.5, 0.5]}}}}, ["milestones", "must increase"]),
    ({"space": {"schedule": {"multistep": {"milestones": [[0.5], [0.5]]}}}}, ["milestones", "repeat", "0.5 twice"]),
    # Settings that do not go together.
    ({"sampler": {"name": "gp"}}, ["sampler.name = 'gp'", "2 optimizers (sgd, adamw)", "6 schedules", "'tpe'"]),
    ({"sampler": {"name": "qmc"}}, ["sampler.name = 'qmc'", "without conditions", "narrow"]),
    ({"sampler": {"name": "gp"}, "space": {"optimizer": "sgd"}}, ["'gp'", "6 schedules"]),
    ({"sampler": {"name": "qmc"}, "space": {"schedule": "cosine"}}, ["'qmc'", "2 optimizers"]),
    ({"space": {"final_fraction": 0, "schedule": "step"}}, ["final_fraction", "above 0", "'step'"]),
    ({"space": {"final_fraction": 0, "schedule": "multistep"}}, ["final_fraction", "above 0", "'multistep'"]),
    ({"space": {"final_fraction": [0.1, 0], "schedule": "exponential"}}, ["final_fraction", "'exponential'"]),
    ({"space": {"final_fraction": {"low": 0, "high": 0.1}, "schedule": "inverse_sqrt"}}, ["'inverse_sqrt'"]),
    ({"space": {"final_fraction": 0, "schedule": ["cosine", "one_cycle"]}}, ["final_fraction", "'one_cycle'"]),
    ({"space": {"optimizer": {"sgd": {"nesterov": True, "momentum": 0}}}}, ["sgd", "nesterov", "momentum above 0"]),
    ({"space": {"optimizer": {"sgd": {"nesterov": [True, False], "momentum": [0, 0.9]}}}}, ["nesterov", "momentum"]),
    ({"space": {"optimizer": {"sgd": {"nesterov": True, "dampening": 0.1}}}}, ["nesterov", "dampening = 0"]),
    ({"pruner": {"name": "asha", "n_warmup_steps": 1}}, ["pruner", "n_warmup_steps", "'asha'", "takes min_resource"]),
    ({"pruner": {"name": "median", "min_resource": 1}}, ["pruner", "min_resource", "'median'", "n_startup_trials"]),
    ({"pruner": {"name": "none", "interval_steps": 1}}, ["pruner", "interval_steps", "'none'", "no settings"]),
    ({"sampler": {"name": "random", "n_startup_trials": 1}}, ["'sampler.n_startup_trials'", "'random'", "portfolio"]),
    ({"pruner": "patient"}, ["pruner.name", "'patient'", "known: asha, gradual, hyperband, median, none"]),
    ({"pruner": 3}, ["pruner", "must be a table ([pruner])", "3"]),
    ({"pruner": {"reduction_factor": 1}}, ["pruner.reduction_factor", "2", "1"]),
    # Names that a file or a database would choke on.
    ({"name": "two words"}, ["name", "letters", "'two words'"]),
    ({"name": "../up"}, ["name", "letters", "'../up'"]),
    ({"name": ""}, ["name", "letters", "''"]),
    ({"name": "x" * 101}, ["name", "at most 100 characters", "101"]),
    ({"name": "line\n"}, ["name", "letters"]),
    ({"name": 3}, ["name", "a string", "3"]),
]


@pytest.mark.parametrize(("tables", "words"), BAD, ids=lambda value: str(value)[:60])
def test_a_bad_study_file_is_one_sentence_with_the_place_the_key_and_what_came(
    tables: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(StudyFileError) as error:
        study_file.build(merged({"name": "x"}, tables), "my.toml")
    assert error.value.exit_code == EXIT_USAGE
    said = sentence(error)
    assert said.startswith("my.toml: ")
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(
    "tables",
    [
        # The other side of the boundaries above.
        {"epochs": 1, "seed": 2**31 - 1, "budget": {"trials": 1, "max_failures": 0}},
        {"budget": {"hours": 1e-9}},
        {"dataset": {"limit": 3, "validation_fraction": 1e-9}, "space": {"batch_size": 2}},
        {"dataset": {"limit": 1000}, "space": {"batch_size": 800}},
        {"space": {"warmup_fraction": 0}},
        {"space": {"warmup_fraction": {"low": 0, "high": 0.999}}},
        {"space": {"warmup_fraction": {"low": 0.01, "high": 0.03, "step": 0.02}}},
        {"space": {"warmup_fraction": {"low": 0, "high": 0.3, "step": 0.1}}},
        {"space": {"batch_size": {"low": 1, "high": 7, "step": 3}}},
        {"space": {"batch_size": {"low": 1, "high": 800, "log": True}}},
        {"space": {"final_fraction": 0, "schedule": ["linear", "cosine", "polynomial", "triangular", "wsd"]}},
        {"space": {"final_fraction": 0, "schedule": ["constant", "warm_restarts", "plateau"]}},
        {"space": {"final_fraction": 1, "schedule": "step"}},
        {"space": {"optimizer": {"sgd": {"nesterov": True, "momentum": {"low": 0.1, "high": 0.9}}}}},
        {"space": {"optimizer": {"sgd": {"nesterov": False, "momentum": 0}}}},
        {"space": ONE, "sampler": {"name": "gp"}},
        {"space": ONE, "sampler": {"name": "qmc"}},
        {"workers": {"checkpoint_seconds": 0, "lease_seconds": 1e-3, "trial_seconds": 1}},
        {"workers": {"retries": {"out_of_memory": 0, "crash": 0, "lost": 0, "stalled": 0, "timed_out": 9}}},
        {"model": {"hidden": []}},
        {"name": "x" * 100},
        {"name": "a.b_c-1"},
    ],
    ids=str,
)
def test_what_lies_just_inside_is_read(tables: dict[str, Any]) -> None:
    assert study_file.build(merged({"name": "x"}, tables), "my.toml")


@pytest.mark.parametrize(
    ("tables", "said_of"),
    [
        ({"budget": {"trials": 0}}, "--trials: budget.trials: must be greater than or equal to 1, got 0"),
        ({"dataset": {"name": "minst"}}, "--dataset: dataset.name: unknown name 'minst' (did you mean 'mnist'?)"),
        ({"space": {"optimizer": {"sgd": {"peak_lr": -1}}}}, "--set: space.optimizer.sgd.peak_lr: must be"),
        ({"budget": {"hours": 0}}, "my.toml: budget.hours: must be greater than 0"),
        ({"epochs": 0}, "my.toml: epochs: must be"),
    ],
)
def test_what_is_wrong_with_a_key_that_an_option_set_is_said_of_the_option(
    tables: dict[str, Any], said_of: str
) -> None:
    options = {"budget.trials": "--trials", "dataset.name": "--dataset", "space.optimizer": "--set", "epoch": "--no"}
    with pytest.raises(StudyFileError) as error:
        study_file.build(merged({"name": "x"}, tables), "my.toml", options)
    assert sentence(error).startswith(said_of)


def test_of_several_errors_the_first_is_told_and_the_others_counted() -> None:
    with pytest.raises(StudyFileError) as error:
        study_file.build({"name": "x", "epochs": 0, "sead": 1, "space": {"batch_size": -1}}, "my.toml")
    assert "epochs" in sentence(error)
    assert "(and 2 more)" in sentence(error)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_study_file_is_named_after_itself_unless_it_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 3\n")
    assert study_file.load(str(file)).name == "mine"
    file.write_text('name = "other"\n')
    assert study_file.load(str(file)).name == "other"


def test_a_study_file_needs_no_suffix(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("epochs = 3\n")
    assert study_file.load(str(file)).epochs == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epochs = \n", ["not a TOML file", "line 1"]),
        (b"epochs = 3\n[space\n", ["not a TOML file", "line 2"]),
        (b"epochs = 3\nseed = 0\nepochs = 4\n", ["not a TOML file", "line 3"]),
        (b"epochs = 3\n[budget]\ntrials = 09\n", ["not a TOML file", "line 3"]),
        (b"\xff\xfe", ["cannot be read", "utf-8"]),
        (b"name = '\x00'", ["not a TOML file", "line 1"]),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_the_line(tmp_path: Path, content: bytes, words: list[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(StudyFileError) as error:
        study_file.load(str(file))
    said = sentence(error)
    assert said.startswith(f"{file}: ")
    assert [word for word in words if word not in said] == [], said
    assert error.value.exit_code == EXIT_USAGE


def test_a_file_that_is_not_there_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError) as error:
        study_file.load(str(tmp_path / "mine.toml"))
    assert "no such study file" in sentence(error)
    assert "lrsearch init" in sentence(error)


def test_a_folder_is_no_study_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine.toml"
    folder.mkdir()
    with pytest.raises(StudyFileError) as error:
        study_file.load(str(folder))
    assert str(folder) in sentence(error)


@pytest.mark.parametrize(("name", "hint"), [("digit", "did you mean 'digits'?"), ("zzz", "digits, fashion-mnist-cnn")])
def test_an_unknown_study_is_refused_with_those_that_ship(name: str, hint: str) -> None:
    with pytest.raises(StudyFileError) as error:
        study_file.load(name)
    assert f"'{name}'" in sentence(error)
    assert hint in sentence(error)


# --- the studies that ship -------------------------------------------------------------------------------------------


def test_the_studies_that_ship_are_those_of_the_folder() -> None:
    published = {"digits", "mnist-cnn", "fashion-mnist-cnn", "cifar10", "seed-pipeline"}
    assert set(study_file.shipped()) == published | {"pictures", "fine-tune"}
    assert study_file.DEFAULT_STUDY in study_file.shipped()


@pytest.mark.parametrize("name", sorted(study_file.shipped()))
def test_every_study_that_ships_is_read_and_has_its_own_name(name: str) -> None:
    spec = study_file.load(name)
    assert spec.name == name
    assert StudySpec.model_validate_json(spec.to_json()) == spec


def test_the_seed_pipeline_is_the_seeds_to_the_letter() -> None:
    spec = study_file.load("seed-pipeline")
    assert (spec.dataset.pool, spec.dataset.n_train, spec.dataset.scaling) == (1000, 800, "unit")
    assert (spec.model.name, spec.model.hidden, spec.epochs) == ("mlp", (128,), 5)
    assert list(spec.space.optimizers) == ["sgd"]
    assert spec.space.optimizers["sgd"]["momentum"] == Fixed(0.0)


# --- overrides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("budget.hours=1.5", "budget.hours", 1.5),
        ("training.drop_last=true", "training.drop_last", True),
        ("space.optimizer=adam", "space.optimizer", "adam"),
        ("space.optimizer='adam'", "space.optimizer", "adam"),
        ('space.optimizer=["sgd", "adam"]', "space.optimizer", ["sgd", "adam"]),
        ("space.batch_size=[32,64]", "space.batch_size", [32, 64]),
        ("space.warmup_fraction={low=0.0, high=0.2}", "space.warmup_fraction", {"low": 0.0, "high": 0.2}),
        ("baseline=sgd lr=0.1 cosine", "baseline", "sgd lr=0.1 cosine"),
        (" epochs = 3 ", "epochs", 3),
        ("dataset.name=fashion-mnist", "dataset.name", "fashion-mnist"),
        ("name=", "name", ""),
        ("space.optimizer.sgd.peak_lr=1e-3", "space.optimizer.sgd.peak_lr", 1e-3),
    ],
)
def test_a_set_value_is_toml_and_a_bare_word_a_string(text: str, key: str, value: object) -> None:
    parsed = study_file.parse_override(text)
    assert parsed == (key, value)
    assert type(parsed[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("space..optimizer=adam", "KEY=VALUE"),
        (".epochs=3", "KEY=VALUE"),
        ("space.batch_size=[32,", "[32, is not a TOML value"),
        ("space.batch_size={low=1", "{low=1 is not a TOML value"),
        ("name='x", "'x is not a TOML value"),
        ('name="x', '"x is not a TOML value'),
    ],
)
def test_a_set_without_key_or_with_half_a_value_is_refused(text: str, words: str) -> None:
    with pytest.raises(StudyFileError) as error:
        study_file.parse_override(text)
    assert words in sentence(error)
    assert f"--set {text}" in sentence(error)


FILE = """
name = "mine"
epochs = 5
[space]
batch_size = 32
[space.optimizer.sgd]
peak_lr = { low = 0.01, high = 1.0, log = true }
[space.optimizer.adam]
peak_lr = 0.003
[space.schedule]
cosine = {}
step = { drops = 2 }
"""


def overridden(*sets: str, file: str = FILE) -> StudySpec:
    tables: dict[str, Any] = tomllib.loads(file)
    before = str(tables)
    for text in sets:
        tables_after = study_file.override(tables, *study_file.parse_override(text))
        assert str(tables) == before, "override changed the tables that it was given"
        tables, before = tables_after, str(tables_after)
    return study_file.build(tables, "the test")


def test_narrowing_keeps_the_ranges_of_the_file() -> None:
    space = overridden("space.optimizer=sgd", 'space.schedule=["step"]').space
    assert list(space.optimizers) == ["sgd"]
    assert space.optimizers["sgd"]["peak_lr"] == Range(0.01, 1.0, log=True)
    assert list(space.schedules) == ["step"]
    assert space.schedules["step"]["drops"] == Fixed(2)
    assert space.batch_size == Fixed(32)


def test_a_key_of_a_table_that_the_file_has_not_is_set() -> None:
    workers = overridden("workers.lease_seconds=5", "workers.retries.crash=0").workers
    assert (workers.lease_seconds, workers.retries.crash, workers.retries.lost) == (5, 0, 3)


def test_naming_what_the_file_has_not_adds_it_with_its_defaults() -> None:
    space = overridden('space.optimizer=["adam", "rmsprop"]').space
    assert list(space.optimizers) == ["adam", "rmsprop"]
    assert space.optimizers["adam"]["peak_lr"] == Fixed(0.003)
    assert space.optimizers["rmsprop"]["peak_lr"] == Range(1e-5, 1e-1, log=True)


def test_a_parameter_is_set_beside_those_of_the_file() -> None:
    space = overridden("space.optimizer.sgd.momentum=0.5", "space.schedule.step.drops=[1,3]").space
    assert list(space.optimizers) == ["sgd", "adam"]
    assert space.optimizers["sgd"]["momentum"] == Fixed(0.5)
    assert space.optimizers["sgd"]["peak_lr"] == Range(0.01, 1.0, log=True)
    assert space.schedules["step"]["drops"] == Choice((1, 3))


@pytest.mark.parametrize("names", ['"sgd"', '["sgd", "adam"]'])
def test_a_dotted_key_leads_through_a_list_of_names(names: str) -> None:
    file = f"name = 'mine'\n[space]\noptimizer = {names}\n"
    space = overridden("space.optimizer.sgd.momentum=0.5", file=file).space
    assert list(space.optimizers) == [name for name in ("sgd", "adam") if name in names]
    assert space.optimizers["sgd"]["momentum"] == Fixed(0.5)


def test_a_parameter_set_where_the_file_leaves_all_to_the_defaults_keeps_them() -> None:
    defaults = overridden(file="name = 'mine'\n").space
    space = overridden(
        "space.optimizer.sgd.momentum=0.5", "space.schedule.plateau.drop_factor=0.5", file="name = 'mine'\n"
    ).space
    assert list(space.optimizers) == list(defaults.optimizers)
    assert space.optimizers["sgd"]["momentum"] == Fixed(0.5)
    assert list(space.schedules) == [*defaults.schedules, "plateau"]


@pytest.mark.parametrize(
    "keys",
    [
        [("strategy", "lr"), ("strategy.branching", False)],
        [("strategy.branching", False), ("strategy", "lr")],
        [("strategy.name", "lr"), ("strategy.branching", False)],
    ],
)
def test_a_strategy_is_named_and_set_in_any_order(keys: list[tuple[str, object]]) -> None:
    assert study_file.load("digits", keys).strategy == LrSpec(branching=False)
    assert study_file.load("digits", [*keys, ("strategy", "sampler")]).strategy is None


def test_a_later_set_wins() -> None:
    assert overridden("epochs=3", "epochs=4").epochs == 4


def test_a_set_makes_the_table_that_the_file_has_not() -> None:
    assert overridden("dataset.limit=500").dataset.limit == 500


@pytest.mark.parametrize("text", ["epochs.more=3", "space.batch_size.low=3", "name.x=1"])
def test_a_key_that_leads_through_a_value_is_refused(text: str) -> None:
    with pytest.raises(StudyFileError) as error:
        overridden(text)
    assert text.split(".", maxsplit=1)[0] in sentence(error)


def test_a_misspelt_set_is_refused_as_in_a_file() -> None:
    with pytest.raises(StudyFileError) as error:
        overridden("space.optimiser=adam")
    assert "'space.optimiser'" in sentence(error)
    assert "did you mean 'optimizer'?" in sentence(error)

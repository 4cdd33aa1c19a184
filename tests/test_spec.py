"""The spec: what makes two studies the same one, what is written and read back, and the names that training offers."""

import json
import math
import os
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest import FIELDS, make_spec, merged, search_spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsearch import domain, schedules
from lrsearch.domain import Bounds, Choice, Domain, Fixed, Range, closest, contains, describe, high_end, low_end
from lrsearch.errors import StudyFileError
from lrsearch.families import ABOVE_ZERO, FAMILIES
from lrsearch.spec import deciding
from lrsearch.spec import file as study_file
from lrsearch.spec import space as search_space
from lrsearch.spec import study as spec
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import StudySpec, differences
from lrsearch.training import data, optimizers
from lrsearch.trial import OptimizerConfig, ScheduleConfig, ScheduleFamily

EVERYTHING: dict[str, Any] = {"optimizer": list(OPTIMIZERS), "schedule": list(FAMILIES)}

# --- written and read back -------------------------------------------------------------------------------------------


@given(search_spaces(), st.sampled_from(["accuracy", "loss"]), st.none() | st.lists(st.integers(1, 999), max_size=3))
def test_a_spec_reads_back_from_its_json_as_it_was(
    space: dict[str, Any], metric: str, hidden: list[int] | None
) -> None:
    model = {} if hidden is None else {"hidden": hidden}
    written = make_spec(space=space, objective={"metric": metric}, model=model)
    read = StudySpec.from_json(written.to_json())
    assert read == written
    assert read.identity_hash() == written.identity_hash()


@given(search_spaces())
def test_the_tables_of_a_spec_are_a_study_file_of_the_same_study(space: dict[str, Any]) -> None:
    written = make_spec(space=space)
    read = study_file.build(written.to_plain(), "the test")
    assert read == written


@given(search_spaces())
def test_no_value_of_a_study_file_is_changed_by_reading_it(space: dict[str, Any]) -> None:
    # Compared as numbers: 1 and 1.0 are one value, and a list of one is that one.
    def plain(value: object) -> object:
        while isinstance(value, list) and len(value) == 1 and not isinstance(value[0], float):
            value = value[0]
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    written = make_spec(space=space).to_plain()["space"]
    for key, table in space.items():
        pairs = (
            [(table[name][field], written[key][name][field]) for name in table for field in table[name]]
            if key in ("optimizer", "schedule")
            else [(table, written[key])]
        )
        for there, here in pairs:
            assert plain(here) == plain(there)


# --- identity --------------------------------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "baseline": "sgd lr=0.1 cosine",
    "dataset": {"limit": 900},
    "model": {"hidden": [64]},
    "sampler": {"name": "tpe"},
    "pruner": {"name": "asha", "min_resource": 1, "reduction_factor": 3, "min_early_stopping_rate": 0},
    "space": EVERYTHING,
}

CHANGES: list[dict[str, Any]] = [
    {"epochs": 5},
    {"seed": 1},
    {"baseline": "sgd lr=0.2 cosine"},
    {"dataset": {"name": "mnist"}},
    {"dataset": {"limit": 901}},
    {"dataset": {"validation_fraction": 0.25}},
    {"dataset": {"scaling": "unit"}},
    {"dataset": {"split_seed": 1}},
    {"model": {"name": "cnn"}},
    {"model": {"hidden": [65]}},
    {"objective": {"metric": "loss"}},
    {"sampler": {"name": "random"}},
    {"sampler": {"n_startup_trials": 11}},
    {"sampler": {"portfolio": True}},
    {"pruner": {"min_resource": 2}},
    {"pruner": {"reduction_factor": 2}},
    {"pruner": {"min_early_stopping_rate": 1}},
    {"training": {"drop_last": True}},
    {"training": {"divergence_watch": False}},
    {"training": {"averaging": "off"}},
    {"space": {"batch_size": 32}},
    {"space": {"warmup_fraction": 0.1}},
    {"space": {"final_fraction": {"low": 1e-3, "high": 0.1}}},
    {"space": {"optimizer": ["sgd"]}},
    {"space": {"schedule": ["cosine"]}},
    *({"space": {"optimizer": {o: {f: True if f == "nesterov" else 0.5}}}} for o in OPTIMIZERS for f in FIELDS[o]),
    *(
        {"space": {"schedule": {s: {f: [0.5] if f == "milestones" else 1 if how[0] == "int" else 0.5}}}}
        for s in FAMILIES
        for f, how in FIELDS[s].items()
    ),
]


def path(change: dict[str, Any]) -> str:
    key, value = next(iter(change.items()))
    return f"{key}.{path(value)}" if isinstance(value, dict) and not value.keys() & {"low"} else key


def named(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the tables with lists of optimizers and schedules as tables, so that others can be laid over them."""
    space = {k: {n: {} for n in v} if isinstance(v, list) else v for k, v in tables.get("space", {}).items()}
    return {**tables, "space": space} if space else tables


@pytest.mark.parametrize("change", CHANGES, ids=path)
def test_every_key_but_name_budget_and_workers_makes_another_study(change: dict[str, Any]) -> None:
    old = make_spec(**named(FULL))
    replaced = isinstance(change.get("space", {}).get("optimizer", change.get("space", {}).get("schedule")), list)
    new = make_spec(**(merged(FULL, change) if replaced else merged(named(FULL), change)))
    assert new.identity_hash() != old.identity_hash()
    assert differences(old, new)
    if not replaced:
        assert [key for key, _, _ in differences(old, new)] == [path(change)]


def test_the_table_of_changes_holds_every_key_of_the_spec() -> None:
    shapeless = {f"space.schedule.{name}" for name in FAMILIES if not FIELDS[name]}
    known = set(make_spec(**named(FULL)).identity()) - shapeless
    others = {"pruner.power"}
    others |= {"pruner.n_startup_trials", "pruner.n_warmup_steps", "pruner.interval_steps", "pruner.n_min_trials"}
    assert known - {path(change) for change in CHANGES} == {"pruner.name"}
    assert {
        f"pruner.{name}" for kind in deciding.KINDS["pruner"].values() for name in kind.model_fields
    } - known == others


@pytest.mark.parametrize(
    "same",
    [
        {"name": "another"},
        {"budget": {"trials": 7}},
        {"budget": {"hours": 1.5}},
        {"budget": {"max_failures": 0}},
        {"workers": {"lease_seconds": 5, "retries": {"crash": 0}}},
        # What is said and what is left out:
        {"space": {"schedule": {"step": {"drops": {"low": 1, "high": 4}}}}},
        {"space": {"optimizer": {"sgd": {"momentum": 0.9, "dampening": 0, "nesterov": False}}}},
        {"space": {"warmup_fraction": {"low": 0, "high": 0.2}}},
        {"space": {"batch_size": [32, 64, 128]}},
        {"space": {"schedule": {"multistep": {"milestones": [[0.5, 0.75], [0.6, 0.9], [0.3, 0.6, 0.9]]}}}},
        {"dataset": {"name": "digits", "validation_fraction": 0.2, "scaling": "standard", "split_seed": 0}},
        {"training": {"drop_last": False, "divergence_watch": True, "averaging": "auto"}},
        # How a number is spelled:
        {"space": {"schedule": {"step": {"drops": {"low": 1.0, "high": 4.0}}}}},
        {"space": {"batch_size": [32.0, 64.0, 128.0]}},
        {"space": {"optimizer": {"sgd": {"dampening": 0.0}}}},
        {"space": {"final_fraction": {"low": 0.001, "high": 0.1, "log": True}}},
        {"space": {"schedule": {"step": {"drops": {"low": 1, "high": 4, "log": False}}}}},
    ],
    ids=str,
)
def test_saying_a_default_or_spelling_a_number_otherwise_is_the_same_study(same: dict[str, Any]) -> None:
    old, new = make_spec(**named(FULL)), make_spec(**merged({"name": "probe"}, named(FULL), same))
    assert new.identity_hash() == old.identity_hash()
    assert differences(old, new) == []


def test_the_order_in_which_optimizers_and_schedules_are_named_is_no_difference() -> None:
    one = make_spec(space={"optimizer": ["sgd", "adam"], "schedule": ["cosine", "linear"]})
    other = make_spec(space={"optimizer": ["adam", "sgd"], "schedule": {"linear": {}, "cosine": {}}})
    assert one.identity_hash() == other.identity_hash()
    assert list(one.space.optimizers) == list(other.space.optimizers)


def test_differences_name_the_key_and_both_values() -> None:
    old = make_spec(space={"optimizer": ["sgd"]})
    new = make_spec(epochs=5, space={"optimizer": {"sgd": {"momentum": 0.5}}}, baseline="sgd lr=0.1 cosine")
    assert differences(old, new) == [
        ("baseline", None, "sgd lr=0.1 cosine"),
        ("epochs", 4, 5),
        ("space.optimizer.sgd.momentum", 0.9, 0.5),
    ]


MEDIAN = {"n_startup_trials": 5, "n_warmup_steps": 0, "interval_steps": 1, "n_min_trials": 1}


@pytest.mark.parametrize(
    ("left_out", "stated"),
    [
        ({}, {"dataset": {"limit": 1000}}),
        ({"dataset": {"name": "mnist"}}, {"dataset": {"limit": 60_000}}),
        ({}, {"model": {"hidden": [128]}}),
        ({"model": {"name": "cnn"}}, {"model": {"hidden": [50]}}),
        ({"epochs": 10, "pruner": {"name": "asha"}}, {"pruner": {"min_resource": 2}}),
        ({"epochs": 3, "pruner": {"name": "asha"}}, {"pruner": {"min_resource": 1}}),
        ({"pruner": {"name": "asha"}}, {"training": {"averaging": "on"}}),
        ({}, {"training": {"averaging": "off"}}),
        ({"pruner": {"name": "asha"}, "objective": {"metric": "loss"}}, {"training": {"averaging": "off"}}),
        # Nothing is compared before the end, whatever the settings say.
        ({"pruner": {"name": "asha", "min_resource": 4}}, {"pruner": {"min_resource": 9, "reduction_factor": 2}}),
        ({"pruner": {"name": "gradual"}}, {"pruner": {"min_resource": 1}}),
        ({"pruner": {"name": "gradual", "min_resource": 4}}, {"pruner": {"power": 2}}),
        ({"pruner": {"name": "asha", "min_early_stopping_rate": 2}}, {"pruner": {"min_early_stopping_rate": 10**6}}),
        ({"pruner": {"name": "median", "n_warmup_steps": 4}}, {"pruner": {"n_startup_trials": 1}}),
        ({"epochs": 1, "pruner": {"name": "median"}}, {"pruner": {"interval_steps": 3}}),
    ],
    ids=str,
)
def test_what_comes_to_the_same_is_the_same_study(left_out: dict[str, Any], stated: dict[str, Any]) -> None:
    old, new = make_spec(**left_out), make_spec(**merged(left_out, stated))
    assert old != new
    assert new.identity_hash() == old.identity_hash()
    assert differences(old, new) == differences(new, old) == []


@pytest.mark.parametrize(
    ("there", "here", "told"),
    [
        ({}, {"dataset": {"limit": 999}}, [("dataset.limit", 1000, 999)]),
        ({}, {"model": {"hidden": []}}, [("model.hidden", [128], [])]),
        ({"pruner": {"name": "asha"}}, {"pruner": {"reduction_factor": 2}}, [("pruner.reduction_factor", 3, 2)]),
        ({"pruner": {"name": "asha"}}, {"training": {"averaging": "off"}}, [("training.averaging", "on", "off")]),
        # A rung there, none here: the value that makes it so is told.
        ({"pruner": {"name": "asha"}}, {"pruner": {"min_resource": 9}}, [("pruner.min_resource", 1, 9)]),
        # What merely follows is left out.
        ({"pruner": {"name": "asha"}}, {"epochs": 20}, [("epochs", 4, 20)]),
        ({}, {"dataset": {"name": "mnist"}}, [("dataset.name", "digits", "mnist")]),
        ({}, {"model": {"name": "cnn"}}, [("model.name", "mlp", "cnn")]),
        ({}, {"pruner": {"name": "asha"}}, [("pruner.name", "none", "asha")]),
        ({}, {"sampler": {"name": "tpe"}}, [("sampler.name", "random", "tpe")]),
        ({"pruner": {"name": "asha"}}, {"objective": {"metric": "loss"}}, [("objective.metric", "accuracy", "loss")]),
    ],
    ids=str,
)
def test_a_difference_is_told_by_the_key_that_was_set_and_what_it_comes_to(
    there: dict[str, Any], here: dict[str, Any], told: list[tuple[str, Any, Any]]
) -> None:
    old, new = make_spec(**there), make_spec(**merged(there, here))
    assert old.identity_hash() != new.identity_hash()
    assert differences(old, new) == told


SETTINGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 12),
        "dataset": st.sampled_from([{}, {"limit": 1000}, {"limit": 900}, {"name": "mnist"}]),
        "model": st.sampled_from([{}, {"hidden": [128]}, {"name": "cnn"}, {"name": "cnn", "hidden": [50]}]),
        "objective": st.sampled_from([{}, {"metric": "loss"}]),
        "pruner": st.sampled_from(
            [{"name": "asha"}, {"name": "asha", "min_resource": 2}, {"name": "median"}, {"name": "median", **MEDIAN}]
        ),
        "training": st.sampled_from([{}, {"averaging": "on"}, {"averaging": "off"}]),
    },
)


@given(SETTINGS, SETTINGS)
def test_two_specs_differ_in_something_exactly_if_they_are_two_studies(one: Any, other: Any) -> None:
    there, here = make_spec(**one), make_spec(**other)
    assert bool(differences(there, here)) == (there.identity_hash() != here.identity_hash())


@given(st.sampled_from(["asha", "gradual", "median", "none"]), st.integers(1, 30), st.data())
def test_a_pruner_compares_first_where_the_spec_says(name: Any, epochs: int, data: st.DataObject) -> None:
    own = {
        "asha": {"min_early_stopping_rate": 3, "min_resource": 9},
        "gradual": {"min_resource": 9},
        "median": {"n_warmup_steps": 31},
        "none": {},
    }
    drawn = {key: data.draw(st.integers(1, most)) for key, most in own[name].items()}
    study = make_spec(epochs=epochs, pruner={"name": name, **drawn})
    compared = [epoch for epoch in range(1, epochs + 1) if study.pruner.compares_at(epoch, epochs)]
    assert study.pruner.compares_from(epochs) == (compared[0] if compared else None)


def test_a_spec_that_an_earlier_version_filed_is_read() -> None:
    """Every sampler had ``n_startup_trials`` written down, those too that do not take it."""
    for name in ("random", "qmc"):
        written = make_spec(sampler={"name": name}, space={"optimizer": "sgd", "schedule": "cosine"})
        earlier = json.loads(written.to_json())
        earlier["sampler"]["n_startup_trials"] = 10
        assert StudySpec.from_json(json.dumps(earlier)) == written


def test_a_name_stands_for_a_table_and_keeps_of_another_what_both_take() -> None:
    tables = make_spec(sampler={"name": "tpe", "n_startup_trials": 4}, pruner={"name": "asha"}).to_plain()
    named = study_file.build(study_file.override(tables, "sampler", "random"), "the test")
    assert named.sampler == deciding.RandomSpec(portfolio=False)
    assert study_file.build(study_file.override(tables, "pruner", "median"), "the test").pruner == deciding.MedianSpec()
    assert study_file.build({"name": "x", "pruner": "none"}, "the test").pruner == deciding.NoPrunerSpec()
    # A setting may follow the name, and a name a name.
    median = study_file.override(study_file.override({"name": "x"}, "pruner", "median"), "pruner.n_min_trials", 3)
    assert study_file.build(median, "the test").pruner == deciding.MedianSpec(n_min_trials=3)
    short = study_file.override({"name": "x", "pruner": "median"}, "pruner.n_min_trials", 3)
    assert study_file.build(short, "the test").pruner == deciding.MedianSpec(n_min_trials=3)
    wrong = study_file.override(study_file.override({"name": "x"}, "sampler", "random"), "sampler.n_startup_trials", 3)
    with pytest.raises(StudyFileError, match=r"'sampler\.n_startup_trials' is not a setting of the sampler 'random'"):
        study_file.build(wrong, "the test")


def test_a_study_that_names_no_pruner_keeps_the_one_that_was_the_default_when_it_was_filed() -> None:
    unsaid, said = study_file.build({"name": "x"}, "the test"), study_file.build({"name": "x", "pruner": "gradual"}, "")
    assert unsaid.pruner == deciding.GradualSpec()
    once = StudySpec.from_json(study_file.build({"name": "x", "pruner": "asha"}, "the test").to_json())
    assert differences(once, unsaid.like(once)) == []
    assert [key for key, *_ in differences(once, said.like(once))] == ["pruner.name"]
    for other in ("median", "none", {"name": "asha", "reduction_factor": 2}):
        filed = study_file.build({"name": "x", "pruner": other}, "the test")
        assert [key for key, *_ in differences(filed, unsaid.like(filed))] == ["pruner.name"], other
    # As in files that were written before there was another default.
    unnamed = study_file.build({"name": "x", "pruner": {"reduction_factor": 2}}, "the test")
    assert unnamed.pruner == deciding.AshaSpec(reduction_factor=2)


# --- workers ---------------------------------------------------------------------------------------------------------


def test_workers_have_defaults_and_take_whole_numbers_of_seconds() -> None:
    assert make_spec().workers.model_dump() == {
        "lease_seconds": 60,
        "checkpoint_seconds": 60,
        "trial_seconds": None,
        "no_progress_seconds": 600,
        "retries": {"out_of_memory": 1, "crash": 1, "lost": 3, "stalled": 1, "timed_out": 0},
    }
    set_ = make_spec(workers={"lease_seconds": 3, "trial_seconds": 1, "retries": {"lost": 0}}).workers
    assert (set_.lease_seconds, set_.heartbeat_seconds, set_.trial_seconds) == (3, 0.5, 1)
    assert (set_.retries.lost, set_.retries.crash) == (0, 1)
    assert StudySpec.from_json(make_spec(workers=set_.model_dump(exclude_none=True)).to_json()).workers == set_


def test_a_spec_that_was_filed_before_there_were_workers_is_read() -> None:
    written = make_spec()
    old = {key: value for key, value in written.to_plain().items() if key != "workers"}
    assert StudySpec.from_json(json.dumps(old)) == written


# --- the names that training offers ----------------------------------------------------------------------------------


def test_the_spec_knows_the_scalings_that_training_has() -> None:
    assert get_args(get_args(spec.DatasetSpec.model_fields["scaling"].annotation)[0]) == data.SCALINGS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_the_spec_can_be_built_with_its_own_parameters(name: Any) -> None:
    space = make_spec(space={"optimizer": [name]}).space
    values: dict[str, Any] = {field: closest(known, 0.1) for field, known in space.optimizers[name].items()}
    assert values.keys() <= {f.name for f in fields(OptimizerConfig)}
    built = optimizers.build(
        OptimizerConfig(name=name, **values), [torch.nn.Parameter(torch.zeros(1))], torch.device("cpu")
    )
    assert type(built).__name__.lower() == name
    group = built.param_groups[0]
    known = {"peak_lr": "lr", "beta1": "betas", "beta2": "betas"}
    for field, value in values.items():
        in_torch = group[known.get(field, field)]
        assert value in (in_torch if isinstance(in_torch, tuple) else (in_torch,)), field


def test_the_schedules_of_the_spec_are_those_of_schedules_with_the_same_shapes() -> None:
    assert set(FAMILIES) == set(search_space.ScheduleSpace.model_fields)
    space = make_spec(space=EVERYTHING).space
    for family, record in FAMILIES.items():
        assert set(space.schedules[family]) == set(record.takes) - {"final_fraction"}, family


def test_the_optimizers_of_the_spec_are_the_fields_of_its_table() -> None:
    assert set(OPTIMIZERS) == set(search_space.OptimizerSpace.model_fields)


def test_the_tests_draw_every_parameter_there_is() -> None:
    space = make_spec(space=EVERYTHING).space
    tables = [*space.optimizers.items(), *space.schedules.items()]
    assert {name: set(table) for name, table in tables} == {name: set(table) for name, table in FIELDS.items()}


def shaped(family: ScheduleFamily, final: float) -> ScheduleConfig:
    """Return a schedule of the family, its shape somewhere in the default space."""
    own = make_spec(space={"schedule": [family]}).space.schedules[family]
    shape: dict[str, Any] = {field: closest(known, 0.5) for field, known in own.items()}
    if "milestones" in shape:
        shape["milestones"] = domain.parse_fractions(shape["milestones"])
    return ScheduleConfig(family, final_fraction=None if family == "constant" else final, **shape)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_that_need_a_floor_above_zero_are_those_that_schedules_refuse(family: ScheduleFamily) -> None:
    schedules.validate(shaped(family, final=1e-6))
    if FAMILIES[family].floor is ABOVE_ZERO:
        with pytest.raises(StudyFileError, match="final_fraction"):
            schedules.validate(shaped(family, final=0.0))
    else:
        schedules.validate(shaped(family, final=0.0))


@pytest.mark.parametrize("limit", [None, 3, 10, 999])
@pytest.mark.parametrize("validation_fraction", [0.2, 0.25, 1 / 3])
def test_the_spec_counts_the_training_images_that_are_drawn(limit: int | None, validation_fraction: float) -> None:
    table = {"validation_fraction": validation_fraction} | ({} if limit is None else {"limit": limit})
    dataset = make_spec(dataset=table, space={"batch_size": 1}).dataset
    splits = data.load(data.DataConfig("digits", limit=limit, validation_fraction=validation_fraction))
    assert dataset.n_train == len(splits.train.labels)
    assert dataset.pool == len(splits.train.labels) + len(splits.validation.labels)


@given(st.integers(3, 60_000), st.floats(0.001, 0.999))
def test_the_spec_refuses_the_splits_that_the_data_refuse(limit: int, validation_fraction: float) -> None:
    table = {"name": "mnist", "limit": limit, "validation_fraction": validation_fraction}
    try:
        train, _ = data.draw(data.DataConfig("mnist", limit=limit, validation_fraction=validation_fraction), 60_000)
    except StudyFileError:
        with pytest.raises(StudyFileError, match="validation_fraction"):
            make_spec(dataset=table, space={"batch_size": 1})
    else:
        assert make_spec(dataset=table, space={"batch_size": 1}).dataset.n_train == len(train)


def test_the_pool_of_mnist_is_its_training_set() -> None:
    root = Path(os.environ.get("LRSEARCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    labels = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    if not labels.is_file():
        pytest.skip(f"the real MNIST is not in {root}")
    assert labels.stat().st_size - 8 == DATASETS["mnist"].n_pool


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "steps"),
    [(800, False, 1), (799, False, 2), (799, True, 1), (64, False, 13), (64, True, 12)],
)
def test_steps_of_an_epoch_count_the_smaller_last_batch_unless_it_is_dropped(
    batch_size: int, drop_last: bool, steps: int
) -> None:
    study = make_spec(training={"drop_last": drop_last})
    assert study.steps_per_epoch(batch_size) == steps


@pytest.mark.parametrize(
    ("metric", "pruner", "averaging", "averages"),
    [
        ("accuracy", "asha", "auto", True),
        ("accuracy", "median", "auto", True),
        ("accuracy", "none", "auto", False),
        ("loss", "asha", "auto", False),
        ("loss", "none", "on", True),
        ("accuracy", "asha", "off", False),
    ],
)
def test_weights_are_averaged_when_a_pruner_compares_accuracies(
    metric: str, pruner: str, averaging: str, averages: bool
) -> None:
    study = make_spec(objective={"metric": metric}, pruner={"name": pruner}, training={"averaging": averaging})
    assert study.averaging is averages


@pytest.mark.parametrize(
    ("budget", "trials", "hours"),
    [({}, 50, None), ({"hours": 2}, None, 2.0), ({"trials": 3}, 3, None), ({"trials": 3, "hours": 2}, 3, 2.0)],
)
def test_a_budget_is_fifty_trials_unless_something_is_said(
    budget: dict[str, Any], trials: int | None, hours: float | None
) -> None:
    read = study_file.build({"name": "x", "budget": budget}, "the test").budget
    assert (read.trials, read.hours) == (trials, hours)


# --- domains ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "inside", "outside"),
    [
        (Fixed(0.9), [0.9], [0.8, "0.9", None]),
        (Fixed(value=True), [True], [1, False]),
        (Choice((32, 64)), [32, 64, 64.0], [48, True, "32"]),
        (Choice((True, False)), [True, False], [0, 1]),
        (Choice(("0.5,0.75", "0.6")), ["0.6"], [0.6]),
        (Range(1e-3, 1.0, log=True), [1e-3, 0.5, 1, 1.0], [0.0009, 1.0001, True, "1", math.nan, math.inf]),
        (Range(1, 4, integer=True), [1, 4, 2.0], [0, 5, 2.5, True]),
        (Range(0.1, 0.7, step=0.2), [0.1, 0.3, 0.5, 0.7, 0.1 + 0.2 * 2], [0.2, 0.6]),
    ],
)
def test_a_domain_holds_its_values_and_no_others(known: Domain, inside: list[object], outside: list[object]) -> None:
    assert [v for v in inside if not contains(known, v)] == []
    assert [v for v in outside if contains(known, v)] == []


@pytest.mark.parametrize(
    ("known", "value", "nearest"),
    [
        (Fixed(0.9), 0.1, 0.9),
        (Choice((32, 64, 128)), 90, 64),
        (Choice((32, 64, 128)), 1e9, 128),
        (Range(1e-3, 1.0, log=True), 0.0, 1e-3),
        (Range(1e-3, 1.0, log=True), 7.0, 1.0),
        (Range(1e-3, 1.0, log=True), 0.2, 0.2),
        (Range(1, 4, integer=True), 2.6, 3),
        (Range(1, 9, step=4, integer=True), 6.9, 5),
        (Range(0.0, 1.0, step=0.25), 0.6, 0.5),
        (Range(0.0, 1.0, step=0.25), 0.99, 1.0),
    ],
)
def test_the_closest_value_of_a_domain_lies_in_it(known: Domain, value: float, nearest: float) -> None:
    found = closest(known, value)
    assert found == nearest
    assert type(found) is type(nearest)
    assert contains(known, found)


@settings(max_examples=60)
@given(search_spaces(), st.floats(-10, 1000))
def test_whatever_is_asked_for_the_closest_value_lies_in_the_domain(space: dict[str, Any], value: float) -> None:
    built = make_spec(space=space).space
    for table in (*built.optimizers.values(), *built.schedules.values()):
        for known in table.values():
            assert contains(known, closest(known, value)), known


@pytest.mark.parametrize(
    ("known", "low", "high", "words"),
    [
        (Fixed(0.9), 0.9, 0.9, "0.9"),
        (Fixed(value=True), 1, 1, "true"),
        (Choice((64, 32)), 32, 64, "64 | 32"),
        (Range(1e-5, 1, log=True), 1e-5, 1, "1e-05 to 1 (log)"),
        (Range(1, 9, step=4, integer=True), 1, 9, "1 to 9 (step 4)"),
    ],
)
def test_a_domain_has_ends_and_words(known: Domain, low: float, high: float, words: str) -> None:
    assert (low_end(known), high_end(known), describe(known)) == (low, high, words)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds(0, math.inf, low_open=True), "> 0"),
        (Bounds(1, math.inf), ">= 1"),
        (Bounds(0, 1, high_open=True), "from 0 to below 1"),
        (Bounds(0, 1, low_open=True), "from above 0 to 1"),
    ],
)
def test_bounds_say_what_they_leave_out(bounds: Bounds, words: str) -> None:
    assert str(bounds) == words
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=f"must be {words}"):
            bounds.check(value)


def test_a_spec_goes_from_process_to_process() -> None:
    spec = make_spec(space=EVERYTHING, objective={"metric": "balanced_accuracy"})
    assert pickle.loads(pickle.dumps(spec)).to_json() == spec.to_json()

"""The search space in Optuna's terms: whatever is drawn can be trained, and says what it was drawn from."""

import json
from typing import Any

import optuna
import pytest
from conftest import FIELDS, make_spec, search_spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from lrsearch import domain, schedules
from lrsearch.domain import Choice, Domain, Fixed, Range, contains
from lrsearch.families import FAMILIES
from lrsearch.spec import parameters
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import StudySpec
from lrsearch.store import space as spaces
from lrsearch.trial import TrialConfig

EVERYTHING = {"optimizer": list(OPTIMIZERS), "schedule": list(FAMILIES)}


def asked(spec: StudySpec, seed: int, n: int = 1) -> list[dict[str, Any]]:
    """Return the parameters of ``n`` trials, drawn by Optuna's random sampler."""
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    out = []
    for _ in range(n):
        trial = study.ask()
        spaces.suggest(trial, spec.space)
        out.append(dict(trial.params))
    return out


def parameters_of(spec: StudySpec, config: TrialConfig) -> dict[str, tuple[Domain, Any]]:
    """Return, from the spec alone, every parameter that this configuration has: name -> domain and value."""
    space, optimizer, schedule = spec.space, config.optimizer, config.schedule
    out: dict[str, tuple[Domain, Any]] = {"batch_size": (space.batch_size, config.batch_size)}
    if schedule.family not in ("one_cycle", "triangular"):
        out["warmup_fraction"] = (space.warmup_fraction, schedule.warmup_fraction)
    if schedule.family != "constant":
        out["final_fraction"] = (space.final_fraction, schedule.final_fraction)
    for field, known in space.optimizers[optimizer.name].items():
        out[f"{field}_{optimizer.name}"] = (known, getattr(optimizer, field))
    for field, known in space.schedules[schedule.family].items():
        value = getattr(schedule, field)
        if field == "milestones":
            value = ",".join(repr(v) for v in value)
        out[f"{field}_{schedule.family}"] = (known, value)
    return out


@given(search_spaces(), st.integers(0, 2**31 - 1))
def test_whatever_is_drawn_is_a_configuration_that_can_be_trained(space: dict[str, Any], seed: int) -> None:
    spec = make_spec(seed=7, space=space)
    for params in asked(spec, seed, 3):
        config = parameters.config(spec, params)
        schedules.validate(config.schedule)
        assert config.optimizer.peak_lr > 0
        assert (config.epochs, config.seed) == (spec.epochs, 7)
        for name, (known, value) in parameters_of(spec, config).items():
            assert contains(known, value), (name, known, value)


@given(search_spaces(), st.integers(0, 2**31 - 1))
def test_a_trial_has_the_parameters_of_its_optimizer_and_schedule_and_no_others(
    space: dict[str, Any], seed: int
) -> None:
    spec = make_spec(space=space)
    (params,) = asked(spec, seed)
    config = parameters.config(spec, params)
    searched = {
        name: value for name, (known, value) in parameters_of(spec, config).items() if not isinstance(known, Fixed)
    }
    if len(spec.space.optimizers) > 1:
        searched["optimizer"] = config.optimizer.name
    if len(spec.space.schedules) > 1:
        searched["schedule"] = config.schedule.family
    assert params == searched


@given(search_spaces(), st.integers(0, 2**31 - 1))
def test_the_same_parameters_are_the_same_configuration_also_after_a_journey_through_json(
    space: dict[str, Any], seed: int
) -> None:
    spec = make_spec(space=space)
    (params,) = asked(spec, seed)
    again = json.loads(json.dumps(params))
    assert parameters.config(spec, again) == parameters.config(spec, params)
    assert parameters.config(StudySpec.model_validate_json(spec.to_json()), params) == parameters.config(spec, params)


@settings(max_examples=50)
@given(search_spaces(), st.integers(0, 2**31 - 1))
def test_the_distributions_of_the_whole_space_are_those_that_trials_are_drawn_from(
    space: dict[str, Any], seed: int
) -> None:
    spec = make_spec(space=space)
    known = spaces.unconditional_distributions(spec.space)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(3):
        trial = study.ask()
        spaces.suggest(trial, spec.space)
        for name, distribution in trial.distributions.items():
            assert known[name] == distribution


def test_drawing_long_enough_meets_every_parameter_of_the_space() -> None:
    spec = make_spec(space=EVERYTHING)
    met = {name for params in asked(spec, 1, 300) for name in params}
    assert met == set(spaces.unconditional_distributions(spec.space))


@pytest.mark.parametrize(
    ("known", "distribution"),
    [
        (Fixed(0.9), None),
        (Fixed(value=True), None),
        (Choice((32, 64)), CategoricalDistribution((32, 64))),
        (Choice((True, False)), CategoricalDistribution((True, False))),
        (Range(1e-3, 1.0, log=True), FloatDistribution(1e-3, 1.0, log=True)),
        (Range(0.1, 0.7, step=0.2), FloatDistribution(0.1, 0.7, step=0.2)),
        (Range(1, 9, step=4, integer=True), IntDistribution(1, 9, step=4)),
        (Range(1, 800, log=True, integer=True), IntDistribution(1, 800, log=True)),
    ],
)
def test_a_domain_is_the_distribution_of_its_kind(known: Domain, distribution: object) -> None:
    assert spaces.distribution(known) == distribution


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_pair_of_optimizer_and_schedule_can_be_searched(optimizer: str, family: str) -> None:
    spec = make_spec(space={"optimizer": optimizer, "schedule": family})
    (params,) = asked(spec, 3)
    assert "optimizer" not in params
    assert "schedule" not in params
    assert f"peak_lr_{optimizer}" in params
    assert ("warmup_fraction" in params) == (FAMILIES[family].rise is None)
    assert ("final_fraction" in params) == (family != "constant")
    config = parameters.config(spec, params)
    assert (config.optimizer.name, config.schedule.family) == (optimizer, family)
    schedules.validate(config.schedule)


def test_a_space_with_nothing_to_search_has_no_parameters_and_one_configuration() -> None:
    space = {
        "batch_size": 64,
        "warmup_fraction": 0.1,
        "final_fraction": 0.01,
        "optimizer": {"sgd": {"peak_lr": 0.1, "nesterov": True}},
        "schedule": {"multistep": {"milestones": [0.5, 0.75]}},
    }
    spec = make_spec(space=space)
    assert asked(spec, 1) == [{}]
    config = parameters.config(spec, {})
    assert (config.optimizer.peak_lr, config.optimizer.momentum, config.optimizer.nesterov) == (0.1, 0.9, True)
    assert (config.schedule.milestones, config.schedule.warmup_fraction) == ((0.5, 0.75), 0.1)
    assert config.schedule.final_fraction == 0.01
    assert config.batch_size == 64


@pytest.mark.parametrize("milestones", [[0.1234567890123, 0.1234567890124], [1e-7, 0.5], [1 / 3, 2 / 3]])
def test_milestones_keep_every_digit(milestones: list[float]) -> None:
    spec = make_spec(space={"schedule": {"multistep": {"milestones": milestones}}, "optimizer": "sgd"})
    (params,) = asked(spec, 1)
    assert parameters.config(spec, params).schedule.milestones == tuple(milestones)


def test_the_table_of_the_space_has_a_row_for_every_parameter_and_says_when_it_applies() -> None:
    space = make_spec(space=EVERYTHING).space
    rows = {name: (known, when) for name, known, when in parameters.rows(space)}
    assert set(rows) == set(parameters.everything(space))
    assert {name: known for name, (known, _) in rows.items()} == parameters.everything(space)
    assert rows["peak_lr_sgd"][1] == "optimizer = sgd"
    assert rows["drops_step"][1] == "schedule = step"
    assert rows["warmup_fraction"][1] == "not for one_cycle, triangular"
    assert rows["final_fraction"][1] == "not for constant"
    assert rows["batch_size"][1] == "always"


def test_no_two_parameters_of_the_space_share_a_name() -> None:
    names = [f"{field}_{owner}" for owner, fields in FIELDS.items() for field in fields]
    assert len(set(names)) == len(names)
    assert len({*names, "optimizer", "schedule", "batch_size", "warmup_fraction", "final_fraction"}) == len(names) + 5


def test_fractions_read_back_from_their_text() -> None:
    assert domain.parse_fractions("0.5,0.75") == (0.5, 0.75)
    assert domain.parse_fractions("1e-07,0.5") == (1e-7, 0.5)

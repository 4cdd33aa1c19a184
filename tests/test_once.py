"""A setting is trained once and counts once: a finite space is used up, and a repetition is no evidence."""

import threading
from contextlib import closing

import pytest
from command_line import InProcess
from conftest import claims_of, complete, make_spec, measured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrsearch.analysis.diagnosis import diagnose, sentences
from lrsearch.analysis.ranking import once
from lrsearch.events import EndReason, SearchEnded
from lrsearch.report import answer
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, study
from lrsearch.store.claims import Claims
from lrsearch.store.storage import Database
from lrsearch.trial import EpochMetrics, OptimizerConfig, Outcome, Reason, ScheduleConfig, State, Trial, TrialConfig

pytest_plugins = ["command_line"]


REPEATS = "and a training repeats bit for bit; space.seed = [0, 1, 2] in a new study tries other seeds"


def grid(**tables: object) -> StudySpec:
    small = {"optimizer": {"sgd": {"peak_lr": [0.01, 0.1]}}, "schedule": ["cosine", "linear"], "batch_size": [32, 64]}
    small |= {"warmup_fraction": 0.05, "final_fraction": 0.01}
    return make_spec(space=small | tables.pop("space", {}), budget={"trials": 50}, **tables)  # type: ignore[operator]


def trained(claims: Claims) -> SearchEnded:
    while not isinstance(claim := claims.claim(), SearchEnded):
        for epoch in range(1, 5):
            claims.accept(claim, measured(epoch))
        claims.end(claim, complete(0.5))
    return claim


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_each_setting_of_a_finite_space_is_trained_once_and_the_search_ends(
    sampler: str, database: Database, backend: str
) -> None:
    spec = grid(sampler={"name": sampler, "portfolio": True})
    filed = filing.create(database, spec)
    assert parameters.size(spec.space) == 8
    ended = trained(claims_of(filed))
    assert ended.reason == EndReason.SPACE_USED_UP
    assert ended.message == f"all 8 settings of the search space are trained, {REPEATS}"
    configs = [trial.config for trial in filed.trials()]
    assert len(configs) == len(set(configs)) == 8
    assert trained(claims_of(filed)).reason == EndReason.SPACE_USED_UP


def test_asked_to_a_finite_space_tries_other_seeds(database: Database) -> None:
    spec = grid(space={"seed": [0, 1, 2]})
    assert parameters.size(spec.space) == 24
    filed = filing.create(database, spec)
    ended = trained(claims_of(filed))
    assert ended.message == "all 24 settings of the search space are trained, and a training repeats bit for bit"
    trials = filed.trials()
    assert sorted(trial.config.seed for trial in trials) == [0] * 8 + [1] * 8 + [2] * 8
    assert len({trial.config for trial in trials}) == 24
    # Each is evidence of its own.
    assert len(once(trials)) == 24


def test_the_seed_is_that_of_the_study_where_the_space_has_none() -> None:
    spec = grid(seed=7)
    assert parameters.config(spec, {"peak_lr_sgd": 0.01, "schedule": "cosine", "batch_size": 32}).seed == 7
    seeded = grid(seed=7, space={"seed": 3})
    assert parameters.config(seeded, {"peak_lr_sgd": 0.01, "schedule": "cosine", "batch_size": 32}).seed == 3


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_several_workers_never_train_one_setting_at_once(database: Database, backend: str) -> None:
    filing.create(database, grid())
    ends: list[SearchEnded] = []

    def work() -> None:
        with closing(Database(database.place)) as own:
            ends.append(trained(claims_of(study.get(own, "probe"))))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 4
    assert {end.reason for end in ends} <= {EndReason.SPACE_USED_UP, EndReason.HELD_ELSEWHERE}
    configs = [trial.config for trial in study.get(database, "probe").trials()]
    assert len(configs) == len(set(configs)) == 8


def test_a_setting_whose_trial_failed_is_drawn_again(database: Database) -> None:
    filed = filing.create(
        database,
        make_spec(
            space={
                "optimizer": {"sgd": {"peak_lr": 0.1}},
                "schedule": "constant",
                "batch_size": 32,
                "warmup_fraction": 0.0,
            }
        ),
    )
    claims = claims_of(filed)
    assert parameters.size(filed.spec.space) == 1
    for _ in range(2):  # a crash starts again once
        claim = claims.claim()
        assert not isinstance(claim, SearchEnded)
        claims.end(claim, Outcome(State.FAILED, Reason.CRASH, None, 0, message="no"))
    ended = trained(claims)
    assert ended.reason == EndReason.SPACE_USED_UP
    assert ended.message == f"the one setting of the search space is trained, {REPEATS}"
    assert [trial.state for trial in filed.trials()] == [State.FAILED, State.COMPLETE]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rates=st.lists(st.sampled_from([1e-3, 1e-2, 0.1, 0.5]), min_size=1, max_size=3, unique=True),
    families=st.lists(
        st.sampled_from(["constant", "cosine", "one_cycle", "step"]), min_size=1, max_size=3, unique=True
    ),
    batches=st.lists(st.sampled_from([16, 32, 64]), min_size=1, max_size=2, unique=True),
    drops=st.integers(1, 3),
)
def test_the_size_of_a_space_is_the_number_of_its_settings(
    rates: list[float], families: list[str], batches: list[int], drops: int
) -> None:
    def domain(values: list[float] | list[int]) -> object:
        return values[0] if len(values) == 1 else values

    schedule = {name: {} for name in families}
    if "step" in schedule:
        schedule["step"] = {"drops": {"low": 1, "high": drops}} if drops > 1 else {"drops": 1}  # type: ignore[dict-item]
    if "one_cycle" in schedule:
        schedule["one_cycle"] = {"rise_fraction": 0.3}  # type: ignore[dict-item]
    spec = make_spec(
        space={
            "optimizer": {"sgd": {"peak_lr": domain(rates)}, "adam": {"peak_lr": 0.01}},
            "schedule": schedule,
            "batch_size": domain(batches),
            "warmup_fraction": 0.1,
            "final_fraction": 0.01,
        }
    )
    every = [parameters.config(spec, one) for one in parameters.settings(spec.space)]
    assert len(every) == len(set(every)) == parameters.size(spec.space)


# --- the evidence ----------------------------------------------------------------------------------------------------


def ended(number: int, peak_lr: float, value: float, state: State = State.COMPLETE) -> Trial:
    config = TrialConfig(OptimizerConfig("sgd", peak_lr), ScheduleConfig("constant"), 32, 4, 0)
    rows = (EpochMetrics(1, 10, peak_lr, 1.0, 1.0, value, None, None, 0.1),)
    return Trial(number, config, state, Outcome(state, Reason.FINISHED, value, 4), rows)


def test_a_repetition_is_no_evidence() -> None:
    trials = [ended(0, 0.1, 0.9), *(ended(n, 0.1, 0.9) for n in range(1, 20)), ended(20, 0.01, 0.5)]
    assert [trial.number for trial in once(trials)] == [0, 20]
    found = answer.build(trials, make_spec(space={"optimizer": "sgd"}), "lrsearch.db")
    assert found.found.close == ()
    assert found.how_sure()[0].startswith("The one other complete trial does not lie within")
    (diagnosis,) = diagnose(trials, make_spec(space={"optimizer": "sgd"}))
    assert diagnosis.counts[State.COMPLETE] == 2


def test_a_pruned_trial_does_not_hide_its_complete_repetition() -> None:
    trials = [
        ended(0, 0.1, 0.2, State.PRUNED),
        ended(1, 0.1, 0.9),
        ended(2, 0.1, 0.9),
        ended(3, 0.01, 0.5, State.PRUNED),
    ]
    assert [trial.number for trial in once(trials)] == [1, 3]
    assert answer.build(trials, make_spec(space={"optimizer": "sgd"}), "lrsearch.db").found.winner is trials[1]


def test_trials_that_run_or_failed_are_all_kept() -> None:
    trials = [ended(n, 0.1, 0.5, state) for n, state in enumerate([State.RUNNING, State.FAILED, State.RUNNING])]
    assert once(trials) == trials


def test_an_optimizer_that_learned_nothing_has_no_good_range() -> None:
    trials = [ended(n, lr, 0.125) for n, lr in enumerate([1e-300, 1e-305, 1e-310, 1e-308, 2.7e-311])]
    spec = make_spec(space={"optimizer": {"sgd": {"peak_lr": {"low": 1e-311, "high": 1e-300, "log": True}}}})
    (diagnosis,) = diagnose(trials, spec)
    said = " ".join(sentences(diagnosis))
    assert "Safe from lr" not in said
    assert "no better than a guess, so no learning rate that was tried is good" in said


def test_advice_for_a_fixed_value_proposes_another() -> None:
    trials = [ended(n, 1e5, 0.0, State.DIVERGED) for n in range(1)]
    trials += [ended(1, 1e5 * (1 + 1e-9), 0.0, State.DIVERGED)]
    spec = make_spec(space={"optimizer": {"sgd": {"peak_lr": 1e5}}})
    (diagnosis,) = diagnose(trials, spec)
    assert [edge.overrides for edge in diagnosis.edges] == [
        ("space.optimizer.sgd.peak_lr={low=1e+04,high=1e+05,log=true}",)
    ]


def test_it_is_said_before_and_after(lrsearch: InProcess) -> None:
    fixed = (
        "optimizer=sgd",
        "optimizer.sgd.peak_lr=[0.01, 0.1]",
        "schedule=constant",
        "batch_size=64",
        "warmup_fraction=0.1",
        "optimizer.sgd.weight_decay=0.0",
    )
    argv = (
        "--trials",
        "50",
        "--epochs",
        "1",
        "--threads",
        "1",
        *(w for one in fixed for w in ("--set", f"space.{one}")),
    )
    said = "2 settings, 50 trials: each setting is trained once, and the search ends when all are"
    assert said in lrsearch("run", "--dry-run", *argv).out
    assert lrsearch("run", "--dry-run", "--json", *argv).document["settings"] == 2
    done = lrsearch("run", *argv)
    assert done.code == 0, done.err
    assert said in done.err
    assert "all 2 settings of the search space are trained" in done.err

"""Sampling: a proposal depends on the seed, the slot and the history, and on nothing else."""

import math
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import (
    BEST_LR,
    ONE_SHAPE,
    TOO_HIGH_LR,
    FakeEngine,
    Kill,
    Script,
    claimed,
    claims_of,
    finished,
    learning,
    make_spec,
    plain_optuna,
    quality,
    started,
    work_in_child,
    working,
)
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState

from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.places import SqliteFile
from lrsearch.store.proposals import Mirror, sampler_of
from lrsearch.store.storage import Database
from lrsearch.store.tables import OUTCOME_ATTR, SLOT_ATTR
from lrsearch.trial import Divergence, EpochMetrics, State, Trial, TrialConfig

SGD_COSINE: dict[str, Any] = {
    "batch_size": [16, 32, 64, 128],
    "warmup_fraction": {"low": 0.0, "high": 0.2},
    "optimizer": "sgd",
    "schedule": "cosine",
}


def searched(path: Path, spec: StudySpec, script: Script = learning) -> list[Trial]:
    """Search in one go, in this process; return the trials."""
    with closing(Database(SqliteFile(path))) as database:
        study = filing.create(database, spec)
        for _ in working(claims_of(study), FakeEngine(script)):
            pass
        return study.trials()


def searched_with_kills(path: Path, spec: StudySpec, kills: list[Kill]) -> list[Trial]:
    """Search in one process after another, each killed at its point, the last one not; return the trials."""
    for kill in kills:
        assert finished(started(work_in_child, str(path), spec.to_json(), kill)) == -9, kill
    assert finished(started(work_in_child, str(path), spec.to_json())) == 0
    with closing(Database(SqliteFile(path))) as database:
        return studies.get(database, spec.name).trials()


def settings_of(trials: list[Trial]) -> list[dict[str, object]]:
    assert [t.number for t in trials] == list(range(len(trials)))
    return [t.params for t in trials]


# --- interrupted and resumed -----------------------------------------------------------------------------------------

KILLS = [
    Kill("accept", "after", 7),
    Kill("draw", "after", 4),
    Kill("end", "before", 6),
    Kill("rows in end", "after", 7),
]


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "grid"])
def test_a_search_that_is_killed_and_resumed_proposes_what_an_uninterrupted_one_does(
    tmp_path: Path, sampler: str
) -> None:
    # This process and its children have different hash seeds, so that an order by hash would show too.
    space = SGD_COSINE if sampler == "cmaes" else {}
    asha = {"name": "asha"}
    spec = make_spec(budget={"trials": 30}, sampler={"name": sampler}, pruner=asha, epochs=6, space=space)
    once = searched(tmp_path / "once.db", spec)
    killed = searched_with_kills(tmp_path / "killed.db", spec, KILLS)
    assert settings_of(killed) == settings_of(once)
    assert [t.outcome for t in killed] == [t.outcome for t in once]
    assert len({str(t.params) for t in once}) == 30


def test_another_seed_proposes_other_settings(tmp_path: Path) -> None:
    one, other = (searched(tmp_path / f"{seed}.db", make_spec(seed=seed, budget={"trials": 12})) for seed in (0, 1))
    assert not any(a == b for a, b in zip(settings_of(one), settings_of(other), strict=True))


def test_another_history_leads_tpe_elsewhere(tmp_path: Path) -> None:
    def otherwise(config: TrialConfig) -> Iterator[EpochMetrics | Divergence]:
        return learning(config) if config.optimizer.name == "adamw" else iter(list(learning(config))[::-1])

    spec = make_spec(budget={"trials": 20}, sampler={"name": "tpe"})
    one = settings_of(searched(tmp_path / "one.db", spec))
    other = settings_of(searched(tmp_path / "other.db", spec, otherwise))
    assert one[:10] == other[:10], "the startup trials look at no history"
    assert one[10:] != other[10:]


# --- gp and qmc ------------------------------------------------------------------------------------------------------


def test_gp_searches_a_space_without_conditions_and_resumes(tmp_path: Path) -> None:
    spec = make_spec(space=SGD_COSINE, budget={"trials": 5}, sampler={"name": "gp", "n_startup_trials": 4})
    once = searched(tmp_path / "once.db", spec)
    resumed = searched_with_kills(tmp_path / "resumed.db", spec, [Kill("end", "after", 4)])
    assert len({str(p) for p in settings_of(once)}) == 5
    for a, b in zip(once, resumed, strict=True):
        # The startup trials are drawn; then another number of threads may round otherwise.
        assert a.config.optimizer.peak_lr == pytest.approx(b.config.optimizer.peak_lr, rel=1e-6)


QMC = make_spec(space=SGD_COSINE, budget={"trials": 17}, sampler={"name": "qmc"}, objective={"metric": "accuracy"})


@pytest.mark.parametrize(
    "kills",
    [
        [Kill("accept", "after", 9), Kill("end", "before", 3), Kill("start", "after", 4)],
        [Kill("draw", "after", 1), Kill("draw", "after", 3), Kill("reserve", "after", 4), Kill("draw", "after", 2)],
    ],
    ids=["while training", "while sampling"],
)
def test_qmc_goes_on_with_its_sequence_in_another_process(tmp_path: Path, kills: list[Kill]) -> None:
    once = settings_of(searched(tmp_path / "once.db", QMC))
    assert settings_of(searched_with_kills(tmp_path / "killed.db", QMC, kills)) == once
    assert len({p["peak_lr_sgd"] for p in once}) == 17
    assert len({p["batch_size"] for p in once}) == 4


def test_qmc_repeats_nothing_when_several_processes_draw_at_once(tmp_path: Path) -> None:
    path, gate = tmp_path / "many.db", tmp_path / "gate"
    with closing(Database(SqliteFile(path))) as database:
        filing.create(database, QMC)
    workers = [started(work_in_child, str(path), QMC.to_json(), None, str(gate)) for _ in range(3)]
    gate.touch()
    assert [finished(process) for process in workers] == [0, 0, 0]
    with closing(Database(SqliteFile(path))) as database:
        trials = settings_of(studies.get(database, QMC.name).trials())
    # All but those that started before any parameter was known come from the sequence: as many as there are workers.
    assert len({p["peak_lr_sgd"] for p in trials}) == 17


def test_qmc_fills_the_space_evenly(tmp_path: Path) -> None:
    trials = searched(tmp_path / "qmc.db", QMC)
    logs = [math.log(t.config.optimizer.peak_lr) for t in trials[1:]]
    low, high = math.log(1e-3), math.log(3.0)
    eighths = {int(8 * (x - low) / (high - low)) for x in logs}
    assert eighths == set(range(8)), "sixteen points of a Sobol sequence meet every eighth of its range"


@pytest.mark.parametrize("sampler", ["qmc", "gp", "cmaes", "tpe", "random"])
def test_a_first_trial_that_fails_is_not_proposed_again(tmp_path: Path, sampler: str) -> None:
    crashed: list[TrialConfig] = []

    def crash_twice(config: TrialConfig) -> Iterator[EpochMetrics | Divergence | BaseException]:
        if len(crashed) < 2:
            crashed.append(config)
            yield RuntimeError("broken")
        yield from learning(config)

    never_again = {"retries": {"crash": 0}}
    spec = make_spec(space=SGD_COSINE, budget={"trials": 2}, sampler={"name": sampler}, workers=never_again)
    trials = searched(tmp_path / "x.db", spec, crash_twice)
    assert [t.state for t in trials] == [State.FAILED, State.FAILED, State.COMPLETE, State.COMPLETE]
    assert len({t.config.optimizer.peak_lr for t in trials}) == 4


# --- divergence ------------------------------------------------------------------------------------------------------


def count_too_high(path: Path, spec: StudySpec, *, diverge: bool) -> int:
    """Search sixty settings, those above ``TOO_HIGH_LR`` diverging or crashing; count them among the last forty."""

    def script(config: TrialConfig) -> Iterator[EpochMetrics | Divergence | BaseException]:
        lr = config.optimizer.peak_lr
        if lr <= TOO_HIGH_LR:
            # The higher the better: a search that learns nothing from divergence runs into it again and again.
            yield EpochMetrics(1, 10, lr, 1 / lr, 1 / lr, 0.5 + 0.1 * math.log10(lr), None, None, 0.1)
        elif diverge:
            yield Divergence(epoch=1, step=3, lr=lr, loss=math.inf, initial_loss=2.3)
        else:
            yield RuntimeError("broken")

    with closing(Database(SqliteFile(path))) as database:
        study = filing.create(database, spec)
        claims = claims_of(study)
        events = working(claims, FakeEngine(script))
        with closing(events):
            for event in events:
                if getattr(event, "number", -1) == 59:
                    break
        trials = study.trials()[:60]
    return sum(t.config.optimizer.peak_lr > TOO_HIGH_LR for t in trials[20:])


def test_tpe_learns_to_avoid_learning_rates_that_diverge_which_it_does_not_from_failures(tmp_path: Path) -> None:
    space = {**ONE_SHAPE, "optimizer": {"sgd": {"peak_lr": {"low": 1e-3, "high": 1e3, "log": True}}}}
    budget = {"trials": 100, "max_failures": 100}
    never_again = {"retries": {"crash": 0}}
    spec = make_spec(epochs=1, space=space, budget=budget, sampler={"name": "tpe"}, workers=never_again)
    diverged = count_too_high(tmp_path / "diverged.db", spec, diverge=True)
    failed = count_too_high(tmp_path / "failed.db", spec, diverge=False)
    # Measured over four seeds: 16 to 18 of the last 40 against 39 to 40.
    assert diverged < 26
    assert failed > 34


# --- the mirror and the database -------------------------------------------------------------------------------------


LR: dict[str, BaseDistribution] = {"lr": FloatDistribution(1e-3, 1.0, log=True)}


def source() -> optuna.Study:
    """Return a study that stands for the database."""
    return optuna.create_study(direction="maximize")


def seen(mirror: Mirror) -> list[tuple[Any, ...]]:
    """Return what a sampler sees, without what a mirror keeps of trials that the database does not know."""
    states = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
    return sorted(
        (t.state.name, sorted(t.params.items()), t.value, sorted(t.intermediate_values.items()))
        for t in mirror._study.get_trials(states=states)
    )


def expected(study: optuna.Study) -> list[tuple[Any, ...]]:
    """Return what a sampler should see of the trials of the database."""
    out: list[tuple[Any, ...]] = []
    for t in study.get_trials(states=(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)):
        if t.user_attrs.get(OUTCOME_ATTR) == State.DIVERGED:
            out.append((t.state.name, sorted(t.params.items()), None, []))
            continue
        scores = sorted(t.intermediate_values.items()) if t.state.is_finished() else []
        out.append((t.state.name, sorted(t.params.items()), t.value, scores))
    return sorted(out)


@pytest.mark.parametrize("seed", range(8))
def test_the_mirror_stays_in_step_while_others_add_trials(seed: int) -> None:
    order = random.Random(seed)
    study, mirror = source(), Mirror("maximize")
    running: list[optuna.Trial] = []
    for n in range(40):
        if not running or order.random() < 0.5:
            # Half of them ours, with a slot; the others from somebody's plain Optuna script.
            trial = study.ask(LR)
            if order.random() < 0.5:
                trial.set_user_attr(SLOT_ATTR, f"slot {n}")
            running.append(trial)
        else:
            trial = running.pop(order.randrange(len(running)))
            ending = order.choice(["complete", "pruned", "diverged", "failed"])
            if ending != "failed":
                trial.report(order.random(), 1)
            if ending == "diverged":
                trial.set_user_attr(OUTCOME_ATTR, State.DIVERGED.value)
            match ending:
                case "complete":
                    study.tell(trial, order.random())
                case "failed":
                    study.tell(trial, state=TrialState.FAIL)
                case _:
                    study.tell(trial, state=TrialState.PRUNED)
        if order.random() < 0.4:
            mirror.sync(study.get_trials())
            assert [row[:2] for row in seen(mirror)] == [row[:2] for row in expected(study)]
    for trial in running:
        study.tell(trial, 0.5)
    mirror.sync(study.get_trials())
    assert seen(mirror) == expected(study)
    mirror.sync(study.get_trials())
    assert seen(mirror) == expected(study), "reading the same again changes nothing"


def test_the_mirror_sees_the_parameters_that_a_plain_script_asked_for_after_it_had_looked() -> None:
    study, mirror = source(), Mirror("maximize")
    trial = study.ask()
    mirror.sync(study.get_trials())
    trial.suggest_float("lr", 1e-3, 1.0, log=True)
    trial.suggest_int("batch", 1, 9)
    mirror.sync(study.get_trials())
    study.tell(trial, 0.5)
    mirror.sync(study.get_trials())
    assert seen(mirror) == expected(study)


def test_the_mirror_sees_what_another_process_drew_for_a_slot_that_this_one_had_drawn_for() -> None:
    study, mirror = source(), Mirror("maximize")
    space = make_spec(space={**SGD_COSINE, "batch_size": 32}).space
    sampler = sampler_of(make_spec(sampler={"name": "random"}).sampler, 0, 0)
    ours = mirror.ask("slot", sampler, space, None)
    theirs = study.ask({name: ours.distributions[name] for name in ours.params})
    theirs.set_user_attr(SLOT_ATTR, "slot")
    assert theirs.params != ours.params
    mirror.sync(study.get_trials())
    study.tell(theirs, 0.5)
    mirror.sync(study.get_trials())
    assert seen(mirror) == expected(study)


def test_a_slot_asked_for_again_does_not_count_as_two_trials_under_way() -> None:
    mirror = Mirror("maximize")
    spec = make_spec(sampler={"name": "random"})
    for _ in range(3):
        mirror.ask("slot", sampler_of(spec.sampler, 0, 0), spec.space, None)
    assert len(seen(mirror)) == 1


def test_the_mirror_leaves_out_trials_that_wait() -> None:
    study, mirror = source(), Mirror("maximize")
    study.enqueue_trial({"peak_lr_sgd": 0.125})
    mirror.sync(study.get_trials())
    assert seen(mirror) == []
    spec = make_spec(space=SGD_COSINE)
    drawn = mirror.ask("slot", sampler_of(spec.sampler, 0, 0), spec.space, None)
    assert drawn.params["peak_lr_sgd"] != 0.125


def test_a_setting_given_is_drawn_as_given() -> None:
    mirror, spec = Mirror("maximize"), make_spec(space=SGD_COSINE)
    given = {"batch_size": 64, "peak_lr_sgd": 0.125, "warmup_fraction": 0.05, "final_fraction": 0.01}
    drawn = mirror.ask("slot", sampler_of(spec.sampler, 0, 0), spec.space, given)
    assert drawn.params == given


def test_trials_of_a_plain_optuna_script_teach_the_sampler(tmp_path: Path) -> None:
    # A hundred trials that say the best learning rate is far from where our own would look first.
    spec = make_spec(space={**ONE_SHAPE, "optimizer": "sgd"}, budget={"trials": 12}, sampler={"name": "tpe"})
    path = tmp_path / "x.db"
    with closing(Database(SqliteFile(path))) as database:
        study = filing.create(database, spec)
        claim = claimed(claims_of(study))
        claims_of(study).release(claim)
        (known,) = study.frozen_trials()
        with plain_optuna(study) as plain:
            for i in range(100):
                lr = 1e-3 * 3000 ** (i / 99)
                value = 1 - abs(math.log10(lr / 2.0)) / 5
                params, kinds = {"peak_lr_sgd": lr}, known.distributions
                plain.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=value))
        for _ in working(claims_of(study), FakeEngine(learning)):
            pass
        trials = study.trials()
    ours = [t.config.optimizer.peak_lr for t in trials[1:]]
    assert len(ours) == 11
    assert sum(lr > 0.5 for lr in ours) >= 8


def test_the_made_up_objective_is_best_where_the_tests_say() -> None:
    spec = make_spec(space={**ONE_SHAPE, "optimizer": "sgd"})
    scores = {lr: quality(parameters.config(spec, {"peak_lr_sgd": lr})) for lr in (0.01, BEST_LR, 0.9)}
    assert max(scores, key=scores.__getitem__) == BEST_LR

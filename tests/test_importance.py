"""Which parameters matter: on trials of which it is known, and where reading complete trials only would hide it."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from conftest import make_spec
from trials_by_hand import trial

from lrsearch.analysis.ranking import ranked
from lrsearch.spec.study import StudySpec
from lrsearch.store.importance import LEAST_TRIALS, Importance, Importances, importances
from lrsearch.trial import State, Trial


def spec_of(**space: Any) -> StudySpec:
    return make_spec(space={"batch_size": [16, 32, 64], "schedule": ["cosine", "linear"], **space})


def made(spec: StudySpec, number: int, state: State, accuracy: float, **params: Any) -> Trial:
    del spec
    return replace(trial(number, state, accuracy), params=params)


def judged(spec: StudySpec, trials: list[Trial]) -> tuple[Importances, Importances]:
    complete = ranked(trials, "maximize")
    early = [t for t in trials if t.state in (State.PRUNED, State.DIVERGED)]
    return importances(complete, early, spec), importances(complete, (), spec)


def by_name(found: Importances) -> dict[str, Importance]:
    return {row.parameter: row for row in found.parameters}


def clear(found: Importances) -> set[str]:
    """Return the parameters that matter more than by chance."""
    return {row.parameter for row in found.parameters if row.share > row.by_chance}


def drawn(spec: StudySpec, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return settings drawn evenly from the space, with the parameters that their optimizer and schedule have."""
    rng, out = random.Random(seed), []
    for _ in range(n):
        optimizer = rng.choice(list(spec.space.optimizers))
        low, high = (1e-3, 3.0) if optimizer == "sgd" else (1e-5, 1e-1)
        lr = math.exp(rng.uniform(math.log(low), math.log(high)))
        params = {"schedule": rng.choice(["cosine", "linear"]), "batch_size": rng.choice([16, 32, 64])}
        params |= {"warmup_fraction": rng.uniform(0, 0.2), f"peak_lr_{optimizer}": lr}
        params |= {"final_fraction": math.exp(rng.uniform(math.log(1e-3), math.log(1e-1)))}
        if len(spec.space.optimizers) > 1:
            params["optimizer"] = optimizer
        out.append(params)
    return out


def test_the_parameter_that_decides_has_the_largest_share_and_the_others_do_not_beat_chance_by_much() -> None:
    spec = spec_of(optimizer="sgd")
    trials = [
        made(spec, i, State.COMPLETE, 1 - abs(math.log10(p["peak_lr_sgd"] / 0.05)) / 3, **p)
        for i, p in enumerate(drawn(spec, 100))
    ]
    ended, complete = judged(spec, trials)
    assert ended == complete
    assert (ended.n_trials, ended.n_top) == (100, 10)
    first, *others = ended.parameters
    assert first.parameter == "peak_lr_sgd"
    assert first.share > 0.8
    assert first.share > 5 * first.by_chance
    assert first.n_trials == 100
    assert sum(row.share for row in ended.parameters) == pytest.approx(1)
    assert all(row.share < 0.1 for row in others)


def test_a_parameter_that_only_one_optimizer_has_is_judged_by_the_trials_that_have_it() -> None:
    spec = spec_of(optimizer=["sgd", "adam"])
    trials = []
    for i, p in enumerate(drawn(spec, 120)):
        # With adam nothing matters; with sgd its learning rate does, and only there are the best.
        score = 0.5 if p["optimizer"] == "adam" else 1 - abs(math.log10(p["peak_lr_sgd"] / 0.05)) / 3
        trials.append(made(spec, i, State.COMPLETE, score, **p))
    found = by_name(judged(spec, trials)[0])
    assert found["peak_lr_sgd"].share > found["peak_lr_sgd"].by_chance
    assert found["peak_lr_sgd"].share > 3 * found["peak_lr_adam"].share
    assert found["peak_lr_sgd"].n_trials == sum("peak_lr_sgd" in t.params for t in trials)
    assert found["peak_lr_sgd"].n_trials + found["peak_lr_adam"].n_trials == 120


def test_what_makes_trials_end_early_is_seen_though_no_complete_trial_shows_it() -> None:
    spec = spec_of(optimizer="sgd")
    rng, trials = random.Random(1), []
    for i, p in enumerate(drawn(spec, 400, seed=1)):
        # Above 0.1 all diverge, below 0.01 all are pruned; of those between the batch size alone decides.
        lr = p["peak_lr_sgd"]
        state = State.DIVERGED if lr > 0.1 else State.PRUNED if lr < 0.01 else State.COMPLETE
        score = (0.9 if p["batch_size"] == 16 else 0.5) + 0.01 * rng.random()
        trials.append(made(spec, i, state, score, **p))
    ended, complete = judged(spec, trials)
    assert complete.n_trials == sum(t.state == State.COMPLETE for t in trials) >= LEAST_TRIALS
    assert ended.n_trials == 400
    assert clear(ended) == {"peak_lr_sgd", "batch_size"}
    assert ended.parameters[0].parameter == "peak_lr_sgd"
    assert clear(complete) == {"batch_size"}, "complete trials alone hide it"


def test_a_pruned_trial_is_never_among_the_best_however_good_it_looked() -> None:
    spec = spec_of(optimizer="sgd")
    settings = drawn(spec, 60)
    # Pruned at high scores; six complete ones are the best all the same, because a tenth of 60 is.
    trials = [
        made(spec, i, State.COMPLETE if i < 6 else State.PRUNED, 0.5 if i < 6 else 0.99, **p)
        for i, p in enumerate(settings)
    ]
    assert judged(spec, trials)[0].n_top == 6
    assert judged(spec, trials[1:])[0].n_top == 5


def test_nothing_is_said_of_too_few_trials() -> None:
    spec = spec_of(optimizer="sgd")
    settings = drawn(spec, 40)
    complete = [made(spec, i, State.COMPLETE, 0.5 + i / 100, **p) for i, p in enumerate(settings)]
    assert judged(spec, complete[: LEAST_TRIALS - 1])[0].parameters == ()
    assert judged(spec, complete[:LEAST_TRIALS])[0].parameters != ()
    diverged = [replace(t, state=State.DIVERGED) for t in complete]
    assert judged(spec, diverged) == (Importances(40, 0, ()), Importances(0, 0, ()))
    assert judged(spec, [*complete[:4], *diverged[4:]])[0] == Importances(40, 0, ())
    assert judged(spec, []) == (Importances(0, 0, ()), Importances(0, 0, ()))


@pytest.mark.slow
def test_chance_alone_seldom_looks_like_importance() -> None:
    spec = spec_of(optimizer="sgd")
    beaten = n = 0
    for seed in range(8):
        rng = random.Random(seed)
        trials = [made(spec, i, State.COMPLETE, rng.random(), **p) for i, p in enumerate(drawn(spec, 50, seed))]
        rows = judged(spec, trials)[0].parameters
        beaten += sum(row.share > row.by_chance for row in rows)
        n += len(rows)
    assert n == 40
    assert beaten <= 6, "a share beats 19 random drawings in one of twenty cases"


def test_the_same_trials_give_the_same_shares_again() -> None:
    spec = spec_of(optimizer="sgd")
    trials = [made(spec, i, State.COMPLETE, i / 50, **p) for i, p in enumerate(drawn(spec, 50))]
    assert judged(spec, trials) == judged(spec, trials)


def test_a_space_with_nothing_to_search_has_no_importance() -> None:
    spec = make_spec(
        space={"batch_size": 32, "schedule": "constant", "optimizer": {"sgd": {"peak_lr": 0.1}}, "warmup_fraction": 0.0}
    )
    trials = [made(spec, i, State.COMPLETE, i / 50) for i in range(50)]
    assert judged(spec, trials)[0].parameters == ()

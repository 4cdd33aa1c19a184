"""CMA-ES and the grid: by name, each without a state of its own, and the grid to its end."""

import doctest
import math
import statistics
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import DIVERGED, FakeEngine, claimed, claims_of, complete, learning, make_spec, measured, quality, working
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.cli import app as cli
from lrsearch.domain import Choice, Range, contains
from lrsearch.errors import StudyFileError, UsageError
from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec import deciding, parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database
from lrsearch.trial import Outcome, Reason, State, Trial

SGD_COSINE: dict[str, Any] = {"optimizer": "sgd", "schedule": "cosine"}


def searched(path: Path, spec: StudySpec) -> list[Trial]:
    """Search in this process, by the engine of the tests; return the trials."""
    with closing(Database(SqliteFile(path))) as database:
        study = filing.create(database, spec)
        for _ in working(claims_of(study), FakeEngine(learning)):
            pass
        return study.trials()


# --- CMA-ES ----------------------------------------------------------------------------------------------------------


def cmaes_spec(**more: Any) -> StudySpec:
    return make_spec(**({"space": SGD_COSINE, "budget": {"trials": 40}, "sampler": {"name": "cmaes"}} | more))


def late_quality(path: Path, sampler: str, seed: int) -> float:
    """Return the mean made-up accuracy of the last ten of forty trials."""
    spec = cmaes_spec(sampler={"name": sampler, "portfolio": False}, seed=seed, pruner={"name": "asha"})
    trials = searched(path / f"{sampler}-{seed}.db", spec)
    return statistics.fmean(quality(trial.config) for trial in trials[-10:])


@pytest.mark.slow
def test_cmaes_moves_towards_better_settings_although_most_trials_are_pruned(tmp_path: Path) -> None:
    cmaes, chance = ([late_quality(tmp_path, name, seed) for seed in range(3)] for name in ("cmaes", "random"))
    assert statistics.fmean(cmaes) > statistics.fmean(chance) + 0.1
    assert min(cmaes) > statistics.fmean(chance)


def test_cmaes_goes_away_from_where_trials_diverge(database: Database) -> None:
    """All that is above a rate diverges, and nothing else tells one setting from another."""
    study = filing.create(database, cmaes_spec(budget={"trials": 60}, space={**SGD_COSINE, "batch_size": 32}))
    claims = claims_of(study)
    rates = []
    while not isinstance(claim := claims.claim(), SearchEnded):
        rates.append(claim.trial.config.optimizer.peak_lr)
        claims.accept(claim, measured(1))
        claims.end(claim, DIVERGED if rates[-1] > 0.03 else complete(0.5))
    high = [rate > 0.03 for rate in rates]
    assert sum(high[:20]) > 2 * sum(high[-20:])


def test_cmaes_keeps_no_state_that_anybody_could_write(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    searched(path, cmaes_spec())
    with closing(Database(SqliteFile(path))) as database, database.reading() as connection:
        keys = {row[0] for row in connection.exec_driver_sql("SELECT DISTINCT key FROM trial_system_attributes")}
    assert keys <= {"cma:generation", "fixed_params"}


def test_cmaes_searches_one_parameter_and_draws_choices_at_random(tmp_path: Path) -> None:
    fixed = {"warmup_fraction": 0.0, "final_fraction": 0.01, "batch_size": [16, 32, 64]}
    trials = searched(tmp_path / "a.db", cmaes_spec(space={**SGD_COSINE, **fixed}, budget={"trials": 20}))
    assert len({trial.config.optimizer.peak_lr for trial in trials}) == 20
    assert {trial.config.batch_size for trial in trials} == {16, 32, 64}


def test_cmaes_needs_a_space_without_conditions() -> None:
    with pytest.raises(StudyFileError, match="'cmaes' needs a space without conditions"):
        make_spec(sampler={"name": "cmaes"})


# --- the grid --------------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "optimizer": {"sgd": {"peak_lr": {"low": 0.001, "high": 1.0, "log": True}}},
    "schedule": ["cosine", "one_cycle"],
    "batch_size": 32,
    "warmup_fraction": 0.05,
    "final_fraction": 0.01,
}


def grid_spec(points: int = 4, **more: Any) -> StudySpec:
    return make_spec(
        **({"space": SMALL, "budget": {"trials": 50}, "sampler": {"name": "grid", "points": points}} | more)
    )


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_grid_is_trained_once_and_then_the_search_ends(database: Database, backend: str) -> None:
    study = filing.create(database, grid_spec())
    one, other = claims_of(study), claims_of(study)
    held, ended = [], None
    while not isinstance(ended, SearchEnded):
        for claims in (one, other):
            ended = claims.claim()
            if not isinstance(ended, SearchEnded):
                held.append((claims, ended))
        for claims, claim in held:
            claims.accept(claim, measured(1))
            claims.end(claim, complete(0.5))
        held.clear()
    assert ended.reason == EndReason.SPACE_USED_UP
    # Of four rates each; one_cycle has four values of its rise too.
    assert ended.message.startswith("all 20 settings of the grid are trained")
    configs = [trial.config for trial in study.trials()]
    assert len(configs) == len(set(configs)) == 20
    rates = sorted({config.optimizer.peak_lr for config in configs})
    assert rates == [0.001, 0.01, 0.1, 1.0]


def test_a_grid_is_gone_through_in_an_order_that_the_seed_shuffles(tmp_path: Path) -> None:
    def order(name: str, seed: int) -> list[dict[str, Any]]:
        trials = searched(tmp_path / f"{name}.db", grid_spec(seed=seed, budget={"trials": 8}))
        return [dict(trial.params) for trial in trials]

    assert order("a", 0) == order("b", 0)
    assert order("c", 1) != order("a2", 0)
    assert {one["schedule"] for one in order("d", 0)} == {"cosine", "one_cycle"}


def test_what_failed_is_on_the_grid_again(database: Database) -> None:
    study = filing.create(database, grid_spec(1, workers={"retries": {"crash": 0}}))
    claims = claims_of(study)
    claim = claimed(claims)
    claims.end(claim, Outcome(State.FAILED, Reason.CRASH, None, 0, message="broken"))
    again = [claimed(claims).trial.config for _ in range(2)]
    assert claim.trial.config in again
    assert isinstance(claims.claim(), SearchEnded)


def test_a_setting_off_the_grid_is_tried_where_a_person_asks_for_it(database: Database) -> None:
    study = filing.create(database, grid_spec(2, baseline="sgd lr=0.05 cosine"))
    study.enqueue({"peak_lr_sgd": 0.3, "schedule": "cosine"})
    from lrsearch.store import portfolio

    claims = claims_of(study, portfolio.initial(study.spec))
    rates = [claimed(claims).trial.config.optimizer.peak_lr for _ in range(4)]
    assert rates[:2] == [0.3, 0.05]
    assert set(rates[2:]) <= {0.001, 1.0}


def test_a_grid_without_end_is_refused(database: Database) -> None:
    with pytest.raises(UsageError, match="points = 1000 makes a grid of more than 1,000,000 settings"):
        filing.check(make_spec(sampler={"name": "grid", "points": 1000}), database.place)


def test_run_says_how_many_settings_a_grid_has(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "digits", "--sampler", "grid", "--set", "sampler.points=2", "--dry-run"]
    assert cli.run([*words, "--trials", "1000"]) == 0
    assert "720 settings, 1,000 trials: each setting is trained once" in capsys.readouterr().out


RANGES = st.tuples(st.floats(1e-6, 10), st.floats(1.01, 1e4), st.booleans(), st.booleans()).map(
    lambda one: (
        Range(math.ceil(one[0]), math.ceil(one[0]) + math.ceil(one[1]), one[2], None, integer=True)
        if one[3]
        else Range(one[0], one[0] * one[1], one[2])
    )
)


@given(RANGES, st.integers(1, 12))
def test_the_points_of_a_range_lie_in_it_with_both_ends_and_at_equal_distances(domain: Range, points: int) -> None:
    cut = parameters._grid(domain, points)
    assert isinstance(cut, Choice)
    values = cut.values
    assert all(contains(domain, value) for value in values)
    numbers = [float(value) for value in values]
    assert numbers == sorted(numbers)
    if points > 1:
        assert (numbers[0], numbers[-1]) == pytest.approx((domain.low, domain.high))
    if not domain.integer:
        assert len(values) == points
        placed = [math.log(n) if domain.log else n for n in numbers]
        steps = [b - a for a, b in pairwise(placed)]
        assert steps == pytest.approx([statistics.fmean(steps)] * len(steps), rel=1e-6) if steps else True


def test_the_examples_in_the_docstrings_are_right() -> None:
    for module in (deciding, parameters):
        assert doctest.testmod(module).failed == 0

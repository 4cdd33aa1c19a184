"""The edges of the search space: when they are open, how they move, and that every worker finds the same."""

from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command_line import InProcess
from conftest import BEST_LR, ONE_SHAPE, FakeEngine, claims_of, learning, make_spec, plain_optuna, working
from hypothesis import given
from hypothesis import strategies as st
from trials_by_hand import trial

from lrsearch.analysis.diagnosis import diagnose, sentences
from lrsearch.domain import Choice, Domain, Fixed, Range
from lrsearch.errors import StudyFileError
from lrsearch.spec import bounds
from lrsearch.spec.bounds import HIGHEST, LOWEST, Tried, extended, open_sides, widened
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store.importance import importances
from lrsearch.store.places import SqliteFile
from lrsearch.store.proposals import Proposals
from lrsearch.store.storage import Database
from lrsearch.trial import State, Trial

pytest_plugins = ["command_line"]

SPACE = Range(1e-3, 1.0, log=True)


def ended(*rows: tuple[float, float | None]) -> list[Tried]:
    """Return trials as (lr, value); without a value it diverged."""
    return [Tried(lr, value, diverged=value is None) for lr, value in rows]


RISING = ended((0.01, 0.1), (0.05, 0.3), (0.1, 0.5), (0.3, 0.7), (0.9, 0.9))


@pytest.mark.parametrize(
    ("tried", "sides"),
    [
        (RISING, ("upper",)),
        (RISING[1:], ()),  # four trials
        ([*RISING, *ended((0.95, None))], ()),  # it gets worse beyond
        ([*RISING, *ended((0.5, 0.9))], ("upper",)),  # as good elsewhere
        ([*RISING, *ended((0.5, 0.91))], ()),
        (ended((0.0011, 0.9), (0.01, 0.8), (0.1, None), (0.2, None), (0.3, None)), ("lower",)),
        (ended((0.0011, 0.9), (0.01, None), (0.1, None), (0.2, None), (0.3, None)), ()),  # one complete
        (ended((0.5, None), (0.9, None)), ("lower",)),
        (ended((0.5, None)), ()),
        ([], ()),
    ],
)
def test_an_edge_is_open_where_the_best_lies_and_nothing_diverged_beyond(tried: list[Tried], sides: Any) -> None:
    assert open_sides(SPACE, tried, maximize=True) == sides


def test_of_a_loss_the_lowest_is_the_best() -> None:
    assert open_sides(SPACE, RISING, maximize=False) == ()
    falling = [Tried(one.lr, 1 - (one.value or 0), diverged=False) for one in RISING]
    assert open_sides(SPACE, falling, maximize=False) == ("upper",)


@pytest.mark.parametrize("domain", [Fixed(0.9), Choice((0.1, 0.9)), Range(0.1, 0.9, step=0.1)])
def test_only_a_range_that_is_no_grid_moves(domain: Domain) -> None:
    assert extended(domain, RISING, maximize=True) == domain


@pytest.mark.parametrize("rates", [[0.01, 0.1, 1.0], {"low": 0.1, "high": 1.0, "step": 0.1}])
def test_a_list_or_a_grid_is_not_said_to_be_widened_by_the_next_trials(rates: Any) -> None:
    spec = make_spec(space={"optimizer": {"sgd": {"peak_lr": rates}}, "auto_extend": True})
    rising = ((0.1, 0.5), (0.2, 0.6), (0.3, 0.7), (0.4, 0.8), (1.0, 0.9))
    (found,) = diagnose([trial(i, lr=lr, accuracy=value) for i, (lr, value) in enumerate(rising)], spec)
    assert "widen it, as a study of its own" in sentences(found)[-1]
    assert not found.widens


def test_a_list_moves_no_further_than_a_learning_rate_may_be() -> None:
    assert widened(Choice((1e5, 9e5)), "upper") == Choice((1e5, 9e5, HIGHEST))


@given(
    st.lists(
        st.tuples(st.floats(-34, 7), st.sampled_from(["complete", "pruned", "diverged"]), st.floats(0, 1)), max_size=40
    ),
    st.booleans(),
)
def test_an_edge_never_moves_back_nor_beyond_what_a_learning_rate_may_be(
    rows: list[tuple[float, str, float]], maximize: bool
) -> None:
    tried = [Tried(10.0**lr, value if how == "complete" else None, how == "diverged") for lr, how, value in rows]
    wide = [extended(SPACE, tried[:n], maximize=maximize) for n in range(len(tried) + 1)]
    assert wide[0] == SPACE
    for before, after in pairwise(wide):
        assert isinstance(before, Range)
        assert isinstance(after, Range)
        assert LOWEST <= after.low <= before.low < before.high <= after.high <= HIGHEST


def test_a_range_that_lies_far_too_high_comes_down_a_decade_every_five_trials() -> None:
    found = extended(SPACE, ended(*[(0.5, None)] * 12), maximize=True)
    assert isinstance(found, Range)
    assert found.low == pytest.approx(1e-5)


# In a study


def narrow(**space: Any) -> StudySpec:
    """Return a study whose range ends a decade below the best learning rate."""
    rate = {"low": BEST_LR / 1000, "high": BEST_LR / 10, "log": True}
    space = {"optimizer": {"sgd": {"peak_lr": rate}}, **ONE_SHAPE, **space}
    return make_spec(space=space, sampler={"name": "tpe", "portfolio": False}, budget={"trials": 25})


def searched(path: Path, spec: StudySpec, stops: tuple[int, ...] = ()) -> list[Trial]:
    """Search; with ``stops`` by a process that knows nothing yet after so many trials each."""
    with closing(Database(SqliteFile(path))) as database:
        study = filing.create(database, spec)
        for n in (*stops, None):
            for i, _ in enumerate(working(claims_of(study), FakeEngine(learning))):
                if n is not None and i >= n:
                    break
        return study.trials()


def test_the_search_goes_on_beyond_the_edge_within_its_budget(tmp_path: Path) -> None:
    plain, wide = (searched(tmp_path / f"{extend}.db", narrow(auto_extend=extend)) for extend in (False, True))
    assert len(plain) == len(wide) == 25
    assert max(t.config.optimizer.peak_lr for t in plain) <= BEST_LR / 10
    best = max(wide, key=lambda t: t.outcome.value or 0 if t.outcome else 0)
    assert BEST_LR / 3 < best.config.optimizer.peak_lr < 3 * BEST_LR
    # Until the edge was reached both searches are the same.
    first = next(i for i, t in enumerate(wide) if t.config != plain[i].config)
    assert first > 0
    (found,) = diagnose(wide, narrow(auto_extend=True))
    assert found.widened
    assert any("widened its range by itself" in text for text in sentences(found))
    # What matters in such a study is computed over what was tried.
    ranked = sorted(wide, key=lambda t: -(t.outcome.value or 0 if t.outcome else 0))
    assert importances([t for t in ranked if t.state == State.COMPLETE], [], narrow(auto_extend=True)).parameters


def test_a_worker_that_comes_later_draws_as_one_that_saw_it_all(tmp_path: Path) -> None:
    spec = narrow(auto_extend=True)
    whole, parts = searched(tmp_path / "a.db", spec), searched(tmp_path / "b.db", spec, stops=(20, 40))
    assert [t.config for t in whole] == [t.config for t in parts if t.outcome is not None]


def test_a_person_may_enqueue_what_the_search_has_widened_to_and_another_program_stands_in_nobodys_way(
    lrsearch: InProcess, tmp_path: Path
) -> None:
    spec = narrow(auto_extend=True)
    with closing(Database(SqliteFile(tmp_path / "a.db"))) as database:
        study = filing.create(database, spec)
        with plain_optuna(study) as plain:
            plain.ask()  # a trial without parameters
            plain.enqueue_trial({"peak_lr_sgd": BEST_LR})
            list(working(claims_of(study), FakeEngine(learning)))
            assert [one.params for one in study.refused()] == [{"peak_lr_sgd": BEST_LR}], "it was not in the space yet"
            study.set_budget(study.budget().model_copy(update={"trials": 27}))
            plain.enqueue_trial({"peak_lr_sgd": BEST_LR})
        told = lrsearch("enqueue", f"sgd lr={1.25 * BEST_LR} constant batch=32", "--storage", str(tmp_path / "a.db"))
        assert told.code == 0, told.err
        list(working(claims_of(study), FakeEngine(learning)))
        asked = [t.config.optimizer.peak_lr for t in study.trials() if t.origin == "enqueued"]
        assert asked == [BEST_LR, 1.25 * BEST_LR]
        assert len(study.refused()) == 1


def test_what_a_worker_draws_from_is_a_function_of_what_has_ended(tmp_path: Path) -> None:
    spec = narrow(auto_extend=True)
    with closing(Database(SqliteFile(tmp_path / "a.db"))) as database:
        study = filing.create(database, spec)
        list(working(claims_of(study), FakeEngine(learning)))
        found = [Proposals(study) for _ in range(2)]
        for one in found:
            one.read_news()
        reach = [one.space.optimizers["sgd"]["peak_lr"] for one in found]
        by_analysis = bounds.extended_space(spec.space, {"sgd": _tried(study.trials())}, maximize=True)
    assert reach == [by_analysis.optimizers["sgd"]["peak_lr"]] * 2
    assert reach[0] != spec.space.optimizers["sgd"]["peak_lr"]


def _tried(trials: list[Trial]) -> list[Tried]:
    from lrsearch.analysis.edges import tried

    return list(tried(trials))


def test_a_study_that_does_not_extend_is_the_one_that_it_was() -> None:
    assert narrow(auto_extend=False).identity_hash() == narrow().identity_hash()
    assert "auto_extend" not in narrow(auto_extend=False).to_plain()["space"]
    assert narrow(auto_extend=True).identity_hash() != narrow().identity_hash()
    with pytest.raises(StudyFileError, match=r"space\.auto_extend"):
        narrow(auto_extend="yes")

"""When to stop: a pure rule over the values of finished trials, and a study that ends by it."""

import random
from collections.abc import Iterator
from contextlib import closing

import pytest
from command_line import InProcess
from conftest import FakeEngine, claims_of, make_spec, measured, on_both, url_of, working
from test_strategy import view as bare_view

from lrsearch.events import EndReason, SearchEnded
from lrsearch.spec import file as study_file
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store import at_work, filing
from lrsearch.store import study as studies
from lrsearch.store.storage import Database
from lrsearch.strategy.stop import LEAST_FINISHED, Outlook, enough, left_of, outlook, said
from lrsearch.strategy.strategy import what_next
from lrsearch.strategy.view import ENOUGH, Begin, FreeSlot, Settle, SlotState, Standing, View
from lrsearch.trial import EpochMetrics, TrialConfig

pytest_plugins = ["command_line"]

SPEC = make_spec()
"""The digits: 200 validation images."""
LOSS = make_spec(objective={"metric": "loss"})


def drawn(n: int, seed: int = 0, scale: float = 0.01) -> list[float | None]:
    """Return values whose tail is exponential, below .97 but for it, in steps of one image of 200."""
    rng = random.Random(seed)
    return [round(min(1.0, 0.95 + rng.expovariate(1 / scale)) * 200) / 200 for _ in range(n)]


def found(values: list[float | None], left: int = 100) -> Outlook:
    out = outlook(values, left, SPEC)
    assert out is not None
    return out


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (drawn(LEAST_FINISHED - 1), False),
        (drawn(LEAST_FINISHED), True),
        ([*drawn(30), *([None] * 30)], False),
        ([None] * 50, False),
        ([], False),
    ],
)
def test_nothing_is_said_of_too_few_trials(values: list[float | None], says: bool) -> None:
    assert (outlook(values, 50, SPEC) is not None) == says


def test_the_gain_foretold_is_what_more_trials_of_the_same_kind_bring() -> None:
    foretold, came = [], []
    for seed in range(300):
        values = drawn(160, seed)
        now = found(values[:60])
        foretold.append(now.gain)
        came.append(max(v for v in values if v is not None) - now.best)
    mean = sum(foretold) / len(foretold)
    assert mean == pytest.approx(sum(came) / len(came), rel=0.2), "on average over 300 studies"


def test_fewer_trials_left_and_a_better_best_promise_less() -> None:
    values = drawn(60)
    assert found(values, 0).gain == 0
    assert 0 < found(values, 10).gain < found(values, 100).gain
    assert found([0.995, *values[1:]]).gain < found(values).gain


def test_a_pruned_trial_counts_as_one_that_does_not_come_near() -> None:
    values = drawn(40)
    halved = [value for pair in zip(values, [None] * 40, strict=True) for value in pair]
    assert found(halved).n_records == pytest.approx(found(values).n_records / 2, rel=0.01)


def test_equal_values_do_not_end_the_arithmetic() -> None:
    flat = found([0.98] * 40)
    assert flat.best == 0.98
    assert flat.scatter == pytest.approx(0.0025), "half a step of 200 images"
    assert outlook([0.5] * 40, 60, LOSS) == Outlook(40, 60, 0.5, 0.0, 0.0, 0.0, None)


def test_a_loss_is_better_where_it_is_lower_and_has_no_error_of_images() -> None:
    values = [0.2 + 0.01 * i for i in range(40, 0, -1)]
    out = outlook(values, 40, LOSS)
    assert out is not None
    assert out.best == pytest.approx(0.21)
    assert out.image_error is None
    assert out.noise == out.scatter
    assert "0.21" in said(out, LOSS)
    assert "validation images" not in said(out, LOSS)


def test_noise_is_images_and_scatter_together() -> None:
    out = found(drawn(60))
    assert out.image_error is not None
    assert out.noise**2 == pytest.approx(out.image_error**2 + out.scatter**2)
    assert out.converged == (out.gain < out.noise / 2)


@pytest.mark.parametrize(
    ("budget", "hours_left", "left"),
    [
        (BudgetSpec(trials=100), None, 78),
        (BudgetSpec(trials=22), None, 0),
        (BudgetSpec(hours=4.0), 3.0, 66),
        (BudgetSpec(trials=50, hours=4.0), 3.0, 28),
        (BudgetSpec(hours=4.0), 4.0, 22),
    ],
)
def test_what_is_left_is_counted_in_trials(budget: BudgetSpec, hours_left: float | None, left: int) -> None:
    assert left_of(Standing(budget, None, hours_left, 22, 2, 20, 0)) == left


def converged_view(
    *free: FreeSlot, running: int = 0, stop: str | None = "converged", stopped: str | None = None, **more: object
) -> View:
    values = (*drawn(20), *([0.98] * 40))
    paused = sum(slot.state == SlotState.PAUSED for slot in free)
    budget = BudgetSpec.model_validate({"trials": 70, "stop": stop})
    n_open = len(free) + running
    standing = Standing(budget, stopped, None, 60 + n_open, n_open, 60, 0, paused)
    return View(SPEC, standing, free, results=values, **more)  # type: ignore[arg-type]


def test_a_study_that_does_not_ask_goes_on() -> None:
    assert enough(converged_view(stop=None)) is None
    assert what_next(converged_view(stop=None)) == Begin("sampler")
    assert what_next(bare_view()) == Begin("sampler")


def test_it_ends_with_the_numbers() -> None:
    end = what_next(converged_view())
    assert isinstance(end, SearchEnded)
    assert end.reason == EndReason.CONVERGED
    for words in ("converged after 60 trials", "10 trials that are left", "200 validation images", "by seeds"):
        assert words in end.message


def test_what_is_under_way_is_waited_for_and_what_is_paused_is_settled() -> None:
    end = what_next(converged_view(running=1))
    assert isinstance(end, SearchEnded)
    assert (end.reason, "1 trial is under way elsewhere" in end.message) == (EndReason.HELD_ELSEWHERE, True)
    paused = FreeSlot("a", SlotState.PAUSED, epoch=2)
    first = what_next(converged_view(paused))
    assert isinstance(first, SearchEnded), "is written down first"
    assert first.reason == EndReason.CONVERGED
    assert what_next(converged_view(paused, stopped=ENOUGH)) == Settle("a")


def test_what_a_person_enqueued_is_tried_all_the_same() -> None:
    assert what_next(converged_view(enqueued=(61,))) == Begin("enqueued", number=61)


def plateau(config: TrialConfig) -> Iterator[EpochMetrics]:
    """Learn to nearly the same accuracy, whatever the setting."""
    value = 0.9 + 0.005 * (config.batch_size % 2)
    for epoch in range(1, config.epochs + 1):
        yield measured(epoch, value, 1 - value)


@on_both
def test_a_study_ends_when_it_has_converged_and_goes_on_when_it_is_extended(database: Database) -> None:
    spec = make_spec(budget={"trials": 60, "stop": "converged"})
    study = filing.create(database, spec)
    assert study.budget() == spec.budget
    *_, end = working(claims_of(study), FakeEngine(plateau))
    assert isinstance(end, SearchEnded)
    assert end.reason == EndReason.CONVERGED
    n = len(study.trials())
    assert LEAST_FINISHED <= n < 60
    assert not study.is_open(), "a worker that serves all studies leaves it alone"
    *_, again = working(claims_of(study), FakeEngine(plateau))
    assert isinstance(again, SearchEnded)
    assert again.reason == EndReason.CONVERGED
    assert len(study.trials()) == n
    study.set_budget(BudgetSpec(trials=n + 2))
    study.stop(None)
    *_, last = working(claims_of(study), FakeEngine(plateau))
    assert isinstance(last, SearchEnded)
    assert last.reason == EndReason.BUDGET_TRIALS
    assert len(studies.get(database, "probe").trials()) == n + 2


ASKED = make_spec(budget={"trials": 60, "stop": "converged"})


def ended(database: Database) -> SearchEnded:
    """Work on the study until it ends."""
    *_, end = working(claims_of(studies.get(database, "probe")), FakeEngine(plateau))
    assert isinstance(end, SearchEnded)
    return end


@on_both
def test_the_same_numbers_are_said_afterwards_until_the_search_goes_on(database: Database) -> None:
    study = filing.create(database, ASKED)
    assert at_work.converged(study) == ""
    end = ended(database)
    assert end.message == at_work.converged(study)
    study.stop(None)
    assert at_work.converged(study) == "", "it may go on"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("converged", EndReason.CONVERGED),
        (None, EndReason.BUDGET_TRIALS),  # who leaves it out wants the rest
    ],
)
def test_filed_again_a_converged_search_goes_on_unless_it_is_asked_to_end(
    stop: str | None, reason: EndReason, database: Database
) -> None:
    filing.create(database, ASKED)
    ended(database)
    again = make_spec(budget={"trials": 60, "stop": stop})
    filing.file_study(again, database.place, explicit_budget=False).database.close()
    assert ended(database).reason == reason


def test_to_confirm_it_a_search_that_converged_stays_over(database: Database) -> None:
    study = filing.create(database, ASKED)
    ended(database)
    with closing(filing.file_study(ASKED, database.place, explicit_budget=False, only_confirm=True).database):
        assert not study.is_open()
        assert at_work.converged(study)


def test_the_answer_and_the_status_repeat_why_and_extend_uses_all_that_is_left(
    database: Database, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRSEARCH_STORAGE", url_of(database.place))
    filing.create(database, ASKED)
    said = ended(database).message
    assert f"The search {said}." in lrsearch("best", "--json").document["how_sure"]
    assert lrsearch("status", "--json").document["converged"] == said
    assert "the search converged after" in lrsearch("status").out
    assert "is now 61 trials, and is used up although the search converged" in lrsearch("extend", "--trials", "+1").out
    assert "although" not in lrsearch("extend", "--trials", "+1").out, "it goes on already"
    assert ended(database).reason == EndReason.BUDGET_TRIALS
    assert lrsearch("status", "--json").document["converged"] is None


def test_a_study_that_says_nothing_is_filed_as_before() -> None:
    plain = make_spec().to_plain()
    assert "stop" not in plain["budget"]
    asked = study_file.load("digits", [("budget.stop", "converged")])
    assert asked.budget.stop == "converged"
    assert asked.identity_hash() == study_file.load("digits").identity_hash()


def test_it_stands_in_the_database_as_its_own_word() -> None:
    standing = Standing(BudgetSpec(trials=70), ENOUGH, None, 60, 0, 60, 0)
    end = standing.ended(interrupted=False)
    assert end is not None
    assert end.reason == EndReason.CONVERGED
    assert not standing.asked_to_stop

"""The winner is judged on the test images once per study, by the last worker that has something in hand."""

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from conftest import FakeEngine, claimed, claims_of, complete, learning, leases_held, make_spec, on_both, sweep
from test_claims import answers_lost

from lrsearch import run
from lrsearch.events import EndReason, SearchEnded
from lrsearch.store import filing, judging
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.storage import Database
from lrsearch.training import engine as engines
from lrsearch.trial import Divergence, TrialConfig


class Counting(FakeEngine):
    """Says when it is asked to judge."""

    judged: list[TrialConfig]
    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def test(self, config: TrialConfig, *more: object) -> engines.TestResult | Divergence:
        del more
        self.judged.append(config)
        self.meanwhile()
        return super().test(config)


def counting() -> Counting:
    engine = Counting(learning)
    engine.judged = []
    return engine


@on_both
def test_however_many_workers_see_the_end_one_judges(database: Database, tmp_path: Path) -> None:
    filing.create(database, make_spec(budget={"trials": 6}))
    engines = [counting() for _ in range(4)]
    begun = threading.Barrier(len(engines))

    def work(engine: Counting) -> None:
        begun.wait()
        with closing(Database(database.place)) as own:
            session = run.Session(studies.get(own, None), engine, Artifacts(str(tmp_path / "kept")))
            ends = [event for event in session.attend(wait=True) if isinstance(event, SearchEnded)]
        assert [end.reason for end in ends] == [EndReason.BUDGET_TRIALS]

    threads = [threading.Thread(target=work, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(engine.judged) for engine in engines) == 1
    assert sum(trial.test_accuracy is not None for trial in studies.get(database, None).trials()) == 1


@on_both
def test_who_has_a_trial_in_hand_when_the_others_end_judges_later(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    first, second = claims_of(study), claims_of(study)
    held = claimed(first)
    second.end(claimed(second), complete(0.5, 3))
    assert judging.take_turn(study, "") is None
    first.end(held, complete(0.9, 3))
    turn = judging.take_turn(study, "")
    assert turn is not None
    assert turn.number == held.trial.number
    assert judging.take_turn(study, "") is None, "one at a time"
    judging.end_turn(study, turn, (0.1, 0.95, None))
    assert judging.take_turn(study, "") is None, "and once"
    assert study.trials()[turn.number].test_accuracy == 0.95


@on_both
def test_a_turn_whose_worker_is_gone_is_somebody_elses_and_what_it_says_late_is_not_heard(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}))
    claims = claims_of(study)
    claims.end(claimed(claims), complete(0.5, 3))
    late = judging.take_turn(study, "")
    assert late is not None
    sweep(database)
    turn = judging.take_turn(study, "")
    assert turn is not None
    judging.end_turn(study, late, (0.1, 0.1, None))
    judging.end_turn(study, turn, (0.1, 0.95, None))
    assert study.trials()[0].test_accuracy == 0.95


@on_both
def test_a_better_trial_after_an_extension_is_judged_and_nothing_else(database: Database, tmp_path: Path) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    engine = counting()
    session = run.Session(study, engine, Artifacts(str(tmp_path / "kept")))
    list(session.attend())
    list(session.attend())
    assert len(engine.judged) == 1
    study.set_budget(study.budget().model_copy(update={"trials": 8}))
    before = max(trial.outcome.value for trial in study.trials() if trial.outcome and trial.outcome.value is not None)
    list(session.attend())
    after = max(trial.outcome.value for trial in study.trials() if trial.outcome and trial.outcome.value is not None)
    assert len(engine.judged) == 1 + (after > before)


@on_both
def test_a_turn_whose_commit_was_not_heard_of_is_taken_all_the_same(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}))
    claims = claims_of(study)
    claims.end(claimed(claims), complete(0.5, 3))
    with answers_lost(database) as lost:
        turn = judging.take_turn(study, claims.worker)
        assert turn is not None
        judging.end_turn(study, turn, (0.1, 0.95, None))
    assert lost == [2]
    assert study.trials()[0].test_accuracy == 0.95
    assert leases_held(database) == 0

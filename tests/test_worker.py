"""The worker: what it says while it works, and what it leaves behind, however a training ends."""

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import (
    ONE_SHAPE,
    FakeEngine,
    FakeTraining,
    Script,
    Step,
    claimed,
    claims_of,
    complete,
    learning,
    leases_held,
    make_spec,
    measured,
    sweep,
    working,
)

from lrsearch import worker
from lrsearch.errors import EXIT_DEVICE, DeviceError
from lrsearch.events import EndReason, EpochDone, Event, SearchEnded, TrialEnded, TrialInterrupted, TrialStarted
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.claims import Claim, Claims, Told
from lrsearch.store.places import Place
from lrsearch.store.slots import Initial, Reserved
from lrsearch.store.storage import Database
from lrsearch.store.study import Study
from lrsearch.training.engine import Attention
from lrsearch.trial import Divergence, EpochMetrics, Outcome, Reason, State, TrialConfig

NO_RETRIES: dict[str, Any] = {"retries": {"crash": 0, "out_of_memory": 0}}


def always(*steps: Step) -> Script:
    """Return the script of an engine that does the same for every configuration."""
    return lambda config: steps


def in_turn(*curves: list[Step]) -> Script:
    """Return the script of an engine that takes the curves one after the other."""
    waiting = iter(curves)
    return lambda config: next(waiting)


def told(events: Iterable[Event]) -> list[str]:
    """Return the events in short."""
    out = []
    for event in events:
        match event:
            case TrialStarted(trial, resumed):
                out.append(f"> {trial.number}{' again' if resumed else ''}")
            case EpochDone(number, metrics, again):
                out.append(f". {number} {metrics.epoch} {'again' if again else f'{metrics.rung_score:g}'}")
            case TrialEnded(number, outcome):
                out.append(f"< {number} {outcome.state}")
            case TrialInterrupted(number, reason, _):
                out.append(f"| {number} {reason}")
            case SearchEnded(why, _):
                out.append(f"= {why}")
    return out


def only_outcome(database: Database, script: Script, **tables: Any) -> Outcome:
    """Train one trial; return how it ended, after checking that the study remembers it so."""
    budget = {"trials": 1, "max_failures": 0}
    study = filing.create(database, make_spec(budget=budget, epochs=3, workers=NO_RETRIES, **tables))
    engine = FakeEngine(script)
    events = list(working(claims_of(study), engine))
    (ended,) = (event.outcome for event in events if isinstance(event, TrialEnded))
    (trial,) = study.trials()
    assert trial.outcome == ended
    assert engine.closed == 1
    assert leases_held(database) == 0
    return ended


# --- the stream of events --------------------------------------------------------------------------------------------


def test_a_search_says_what_it_does_in_order(database: Database) -> None:
    pruner = {"name": "asha", "min_resource": 1, "reduction_factor": 2}
    study = filing.create(database, make_spec(budget={"trials": 4}, epochs=2, pruner=pruner, workers=NO_RETRIES))
    script = in_turn(
        [measured(1, 0.5), measured(2, 0.75)],
        [measured(1, 0.25)],
        [Divergence(epoch=1, step=3, lr=0.9, loss=math.nan, initial_loss=2.3)],
        [RuntimeError("broken")],
        [measured(1, 0.625), Divergence(epoch=2, step=13, lr=0.9, loss=99.0, initial_loss=2.3)],
    )
    assert told(list(working(claims_of(study), FakeEngine(script)))) == [
        "> 0",
        ". 0 1 0.5",
        ". 0 2 0.75",
        "< 0 complete",
        "> 1",
        ". 1 1 0.25",
        "< 1 pruned",
        "> 2",
        "< 2 diverged",
        "> 3",
        "< 3 failed",
        "> 4",
        ". 4 1 0.625",
        "< 4 diverged",
        "= budget_trials",
    ]


def test_a_trial_is_announced_with_its_configuration_before_it_is_trained(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}))
    engine = FakeEngine(learning)
    with closing(working(claims_of(study, [Initial("baseline", {})]), engine)) as events:
        event = next(events)
        assert engine.trained == []
        assert isinstance(event, TrialStarted)
        assert (event.trial.number, event.trial.state, event.trial.outcome) == (0, State.RUNNING, None)
        assert event.trial.origin == "baseline"
        next(events)
        assert engine.trained == [event.trial.config]


def test_every_event_is_said_after_the_study_has_it(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 3}, epochs=3))
    for event in working(claims_of(study), FakeEngine(learning)):
        trials = {t.number: t for t in study.trials()}
        match event:
            case TrialStarted(trial):
                assert trials[trial.number].config == trial.config
            case EpochDone(number, metrics):
                assert trials[number].metrics[-1] == metrics
            case TrialEnded(number, outcome):
                assert trials[number].outcome == outcome
            case SearchEnded():
                assert len(trials) == 3


# --- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "value"), [("accuracy", 0.75), ("loss", 0.5)])
def test_a_complete_trial_has_the_raw_value_of_its_last_epoch(database: Database, metric: str, value: float) -> None:
    curve = [measured(1, 0.9, 0.1), measured(2, 0.8, 0.2), measured(3, 0.75, 0.5, averaged=0.95)]
    outcome = only_outcome(database, always(*curve), objective={"metric": metric})
    assert outcome == Outcome(State.COMPLETE, Reason.FINISHED, value, 3, message=f"complete {value:g}")


@pytest.mark.parametrize(
    ("metric", "good", "bad", "words"),
    [
        ("accuracy", measured(1, 0.5), measured(1, 0.25), "0.25 below rung cut 0.5"),
        ("accuracy", measured(1, 0.1, averaged=0.5), measured(1, 0.9, averaged=0.25), "0.25 below rung cut 0.5"),
        ("loss", measured(1, 0.5, 1.0), measured(1, 0.9, 2.0), "2 above rung cut 1"),
        ("accuracy", measured(1, 0.5), measured(1, math.nan), "nan"),
    ],
)
def test_a_pruned_trial_says_its_score_and_the_cut(
    database: Database, metric: str, good: EpochMetrics, bad: EpochMetrics, words: str
) -> None:
    pruner = {"name": "asha", "min_resource": 1, "reduction_factor": 2}
    study = filing.create(
        database, make_spec(epochs=2, budget={"trials": 2}, pruner=pruner, objective={"metric": metric})
    )
    engine = FakeEngine(in_turn([good, replace(good, epoch=2)], [bad, replace(bad, epoch=2)]))
    list(working(claims_of(study), engine))
    outcome = study.trials()[1].outcome
    assert outcome is not None
    assert (outcome.state, outcome.reason, outcome.epoch) == (State.PRUNED, Reason.RUNG, 1)
    assert outcome.message.startswith("pruned at epoch 1: ")
    assert words in outcome.message
    assert engine.closed == 2, "the training of a pruned trial is ended"


@pytest.mark.parametrize(
    ("loss", "reason", "words"),
    [
        (math.nan, Reason.NOT_FINITE, "loss nan"),
        (math.inf, Reason.NOT_FINITE, "loss inf"),
        (99.0, Reason.LOSS_ABOVE_INITIAL, "loss 99, initially 2.3"),
    ],
)
@pytest.mark.parametrize("n_epochs", [0, 2])
def test_a_diverged_trial_says_where_and_at_which_learning_rate(
    database: Database, loss: float, reason: Reason, words: str, n_epochs: int
) -> None:
    found = Divergence(epoch=n_epochs + 1, step=41, lr=0.9, loss=loss, initial_loss=2.3)
    outcome = only_outcome(database, always(*(measured(e + 1) for e in range(n_epochs)), found))
    assert outcome == Outcome(State.DIVERGED, reason, None, n_epochs, 41, 0.9, f"diverged at step 41, lr 0.9: {words}")


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("which", ["train_loss", "val_loss"])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_a_trial_whose_last_loss_is_no_number_has_diverged(
    database: Database, loss: float, which: str, metric: str
) -> None:
    changed: dict[str, Any] = {which: loss}
    last = replace(measured(3, 0.9), **changed)
    outcome = only_outcome(database, always(measured(1), measured(2), last), objective={"metric": metric})
    assert (outcome.state, outcome.reason, outcome.value) == (State.DIVERGED, Reason.NOT_FINITE, None)
    assert (outcome.epoch, outcome.step, outcome.lr) == (3, 29, 0.1)
    assert "epoch 3" in outcome.message


def test_a_loss_that_is_no_number_on_the_way_is_no_ending(database: Database) -> None:
    outcome = only_outcome(database, always(measured(1), measured(2, 0.5, math.nan), measured(3, 0.75)))
    assert outcome.state == State.COMPLETE


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (RuntimeError("broken"), Reason.CRASH, "RuntimeError: broken"),
        (ValueError("first line\nsecond line"), Reason.CRASH, "ValueError: first line"),
        (KeyError(), Reason.CRASH, "KeyError"),
        (AssertionError("  \n "), Reason.CRASH, "AssertionError"),
        (MemoryError("no room"), Reason.OUT_OF_MEMORY, "MemoryError: no room"),
        (torch.OutOfMemoryError("CUDA out of memory"), Reason.OUT_OF_MEMORY, "OutOfMemoryError: CUDA out of memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            Reason.OUT_OF_MEMORY,
            "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        ),
    ],
    ids=repr,
)
@pytest.mark.parametrize("n_epochs", [0, 2])
def test_whatever_a_training_dies_of_is_an_outcome(
    database: Database, error: Exception, reason: Reason, message: str, n_epochs: int
) -> None:
    outcome = only_outcome(database, always(*(measured(e + 1) for e in range(n_epochs)), error))
    assert outcome == Outcome(State.FAILED, reason, None, n_epochs, message=message)


def test_an_engine_that_cannot_even_begin_fails_the_trial(database: Database) -> None:
    class NoRoom(FakeEngine):
        def start(
            self, config: TrialConfig, checkpoint: bytes | None = None, attention: Attention | None = None
        ) -> FakeTraining:
            raise MemoryError("no room for the model")

    budget = {"trials": 1, "max_failures": 1}
    study = filing.create(database, make_spec(budget=budget, workers=NO_RETRIES))
    events = list(working(claims_of(study), NoRoom(learning)))
    assert told(events) == ["> 0", "< 0 failed", "> 1", "< 1 failed", "= max_failures"]
    assert {t.outcome.reason for t in study.trials() if t.outcome} == {Reason.OUT_OF_MEMORY}


# --- lost ------------------------------------------------------------------------------------------------------------


def lose(study: Study) -> Claim:
    """Give every trial under way to another worker."""
    sweep(study.database)
    return claimed(claims_of(study))


@pytest.mark.parametrize("after", [TrialStarted, EpochDone])
def test_a_worker_that_lost_its_trial_drops_it_and_takes_another(database: Database, after: type) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}, epochs=3, space={**ONE_SHAPE, "optimizer": "sgd"}))
    engine = FakeEngine(always(measured(1), measured(2), measured(3)))
    events: list[Event] = []
    taken = None
    for event in working(claims_of(study), engine):
        events.append(event)
        if taken is None and isinstance(event, after):
            taken = lose(study)
    assert taken is not None
    assert taken.trial.number == 0
    lost = ["> 0", *([] if after is TrialStarted else [". 0 1 0.5"]), "| 0 lost"]
    second = ["> 1", ". 1 1 0.5", ". 1 2 0.5", ". 1 3 0.5", "< 1 complete"]
    assert told(events) == [*lost, *second, "= held_elsewhere"]
    assert engine.closed == 2
    assert leases_held(database) == 1, "the other worker's"
    assert [m.epoch for m in study.trials()[0].metrics] == ([] if after is TrialStarted else [1])


def test_a_trial_lost_while_its_last_epoch_was_shown_is_not_told(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}, epochs=1))
    events = []
    for event in working(claims_of(study), FakeEngine(always(measured(1, 0.5)))):
        events.append(event)
        if isinstance(event, EpochDone):
            taken = lose(study)
    assert told(events) == ["> 0", ". 0 1 0.5", "| 0 lost", "= held_elsewhere"]
    assert study.trials()[0].outcome is None
    claims = claims_of(study)
    assert taken.accepted == 1
    assert claims.end(taken, complete(0.5, 1)).accepted
    assert study.trials()[0].outcome == complete(0.5, 1)


# --- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_events", range(1, 9))
@pytest.mark.parametrize("how", ["closed", "interrupted"])
def test_a_worker_stopped_at_any_event_holds_nothing_and_is_resumed(
    database: Database, n_events: int, how: str
) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}, epochs=2))
    engine = FakeEngine(always(measured(1), measured(2)))
    events = working(claims_of(study), engine)
    for _ in range(n_events):
        next(events)
    if how == "closed":
        events.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt())
    assert leases_held(database) == 0
    assert engine.closed == len(engine.trained)
    assert list(events) == []
    left = study.trials()
    again = list(working(claims_of(study), engine))
    assert isinstance(again[-1], SearchEnded)
    assert again[-1].reason == EndReason.BUDGET_TRIALS
    trials = study.trials()
    assert [t.number for t in trials] == [0, 1]
    assert [t.params for t in trials[: len(left)]] == [t.params for t in left]
    assert {t.state for t in trials} == {State.COMPLETE}
    assert [m.epoch for t in trials for m in t.metrics] == [1, 2] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_an_interrupt_in_the_middle_of_training_holds_nothing_and_is_no_outcome(
    database: Database, error: BaseException
) -> None:
    study = filing.create(database, make_spec(budget={"trials": 1}, epochs=2))
    with pytest.raises(type(error)):
        list(working(claims_of(study), FakeEngine(always(measured(1), error))))
    assert leases_held(database) == 0
    assert study.trials()[0].outcome is None
    events = list(working(claims_of(study), FakeEngine(always(measured(1), measured(2)))))
    assert told(events)[0] == "> 0 again"
    assert study.trials()[0].state == State.COMPLETE


class Interrupted(Claims):
    """A worker that Ctrl-C meets between two lines of the protocol."""

    at = ""

    def _begin(self, reserved: Reserved) -> Claim | SearchEnded | None:
        if self.at == "draw":
            raise KeyboardInterrupt
        return super()._begin(reserved)

    def end(self, claim: Claim, outcome: Outcome, *weights: str | None) -> Told:
        if self.at == "before end":
            raise KeyboardInterrupt
        ended = super().end(claim, outcome, *weights)
        if self.at == "after end":
            raise KeyboardInterrupt
        return ended


@pytest.mark.parametrize(("at", "finished"), [("draw", 0), ("before end", 0), ("after end", 1)])
def test_an_interrupt_while_the_study_is_spoken_to_holds_nothing(database: Database, at: str, finished: int) -> None:
    study = filing.create(database, make_spec(budget={"trials": 2}))
    claims = Interrupted(study, [], "fake device", "fake 1.0")
    claims.at = at
    with pytest.raises(KeyboardInterrupt):
        list(working(claims, FakeEngine(learning)))
    assert leases_held(database) == 0
    assert sum(t.outcome is not None for t in study.trials()) == finished
    claims.at = ""
    list(working(claims, FakeEngine(learning)))
    assert [t.number for t in study.trials()] == [0, 1]
    assert all(t.outcome is not None for t in study.trials())


# --- the engine of a study -------------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[None]:
    """Put the number of threads back, which an engine sets for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_the_engine_of_a_study_has_its_images_and_rules() -> None:
    spec = make_spec(
        dataset={"limit": 50, "validation_fraction": 0.3, "scaling": "unit", "split_seed": 3},
        training={"drop_last": True, "divergence_watch": False, "averaging": "on"},
        model={"hidden": [7]},
        space={"batch_size": 16},
    )
    engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=None, progress=False)
    splits = engine.splits  # type: ignore[attr-defined]
    assert (len(splits.train.labels), len(splits.validation.labels)) == (35, 15)
    assert splits.mean == (0.0,)
    rules = engine.rules  # type: ignore[attr-defined]
    assert (rules.drop_last, rules.divergence_watch, rules.averaging) == (True, False, True)
    assert engine.device == "cpu (1 thread)"
    assert torch.get_num_threads() == 1


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError) as error:
        worker.build_engine(make_spec(), device_name="abacus", threads=1, data_dir=None, progress=False)
    assert error.value.exit_code == EXIT_DEVICE
    assert "'abacus'" in str(error.value)


@pytest.mark.usefixtures("threads")
def test_a_real_engine_searches_and_two_searches_are_alike(place: Place) -> None:
    outcomes: list[list[Outcome | None]] = []
    spec = make_spec(
        epochs=2, budget={"trials": 2}, dataset={"limit": 60}, space={**ONE_SHAPE, "batch_size": 16, "optimizer": "sgd"}
    )
    for _ in range(2):
        engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=None, progress=False)
        with closing(Database(place)) as database:
            study = filing.create(database, spec)
            list(working(claims_of(study), engine))
            outcomes.append([t.outcome for t in study.trials()])
            studies.delete(database, study.name)
    assert outcomes[0] == outcomes[1]

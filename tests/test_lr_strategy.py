"""The strategy that pauses trials: exact budgets, the same step for the same view, and what it finds on real curves."""

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_process
from conftest import FakeEngine, claims_of, learning, make_spec, rows, working

from lrsearch import worker
from lrsearch.events import EndReason, EpochDone, SearchEnded, TrialEnded, TrialInterrupted, TrialStarted
from lrsearch.spec.study import StudySpec
from lrsearch.store import at_work, filing
from lrsearch.store.storage import Database
from lrsearch.strategy.lr.choice import Chooser, Forward, Means, Promise
from lrsearch.strategy.lr.constants import NARROW, WIDE
from lrsearch.strategy.lr.edge import chance_to_live, edges, inside
from lrsearch.strategy.lr.enough import LEAST_COMPLETE, enough
from lrsearch.strategy.lr.features import factor_so_far, relative_rate
from lrsearch.strategy.lr.looks import Rungs, looks
from lrsearch.strategy.lr.strategy import LrStrategy
from lrsearch.strategy.view import (
    ENOUGH,
    Begin,
    FreeSlot,
    Reached,
    Resume,
    ScoreCurve,
    Settle,
    SlotState,
    Standing,
    View,
    standing_still,
)
from lrsearch.training.serial import SerialEngine
from lrsearch.trial import EpochMetrics, Reason, ScheduleConfig, State, TrialConfig

ONE_RATE = {"optimizer": "sgd", "schedule": "constant", "batch_size": 64, "warmup_fraction": 0.0}
Curve = Callable[[TrialConfig], Sequence[float]]


def spec_of(space: dict[str, Any], epochs: int = 10, **budget: Any) -> StudySpec:
    return make_spec(space=space, epochs=epochs, strategy={"name": "lr", "branching": False}, budget=budget)


def hill(config: TrialConfig) -> list[float]:
    """Return the scores of a made-up training, best at a usual rate; far above it the training diverges at once."""
    off = relative_rate(config)
    end = 0.9 - 0.1 * off**2
    epochs = 0 if off > 0.8 else config.epochs
    return [max(0.1, end * (1 - 0.5 ** (epoch + 1))) for epoch in range(epochs)]


class Simulated:
    """A study in memory with several workers: each epoch takes the same time, and all train in step."""

    def __init__(self, spec: StudySpec, curve: Curve = hill, n_workers: int = 1) -> None:
        self.spec, self._curve, self._n_workers = spec, curve, n_workers
        self.curves: list[ScoreCurve] = []
        self.epochs_trained = 0
        self.reasons: list[str] = []
        self.end: SearchEnded | None = None
        """Why nothing was begun any more, as it was said first."""

    @property
    def _has_converged(self) -> bool:
        return self.end is not None and self.end.reason == EndReason.CONVERGED

    @property
    def ended(self) -> list[ScoreCurve]:
        return [one for one in self.curves if one.state != State.RUNNING]

    def view(self) -> View:
        paused = [i for i, one in enumerate(self.curves) if one.paused]
        running = sum(one.state == State.RUNNING and not one.paused for one in self.curves)
        standing = Standing(
            budget=self.spec.budget,
            stopped=ENOUGH if self._has_converged else None,
            hours_left=None,
            total=len(self.curves),
            open=len(paused) + running,
            finished=len(self.ended),
            failed=0,
            paused=len(paused),
        )
        free = tuple(FreeSlot(str(i), SlotState.PAUSED, self.curves[i].epochs) for i in paused)
        return View(self.spec, standing, free, curves=tuple(self.curves), space=self.spec.space)

    def run(self) -> "Simulated":
        strategy, in_hand = LrStrategy(), list[int]()
        while True:
            while len(in_hand) < self._n_workers:
                step = LrStrategy().what_next(self.view())
                assert step == strategy.what_next(self.view())
                if isinstance(step, Settle):
                    self._change(int(step.slot), state=State.PRUNED, paused=False)
                    continue
                if isinstance(step, Resume):
                    self._change(int(step.slot), paused=False)
                    in_hand.append(int(step.slot))
                elif isinstance(step, Begin):
                    assert step.params is not None
                    config = Chooser(self.spec).settings.setting(dict(step.params)).config
                    in_hand.append(len(self.curves))
                    self.curves.append(ScoreCurve(str(len(self.curves)), config, State.RUNNING))
                else:
                    assert isinstance(step, SearchEnded)
                    had_converged, self.end = self._has_converged, self.end if self._has_converged else step
                    if self._has_converged and not had_converged:
                        continue
                    break
                self.reasons.append(step.why)
            if not in_hand:
                return self
            for i in list(in_hand):
                if not self._train(i, strategy):
                    in_hand.remove(i)

    def _train(self, i: int, strategy: LrStrategy) -> bool:
        """Train an epoch; return whether the trial is still in hand."""
        one, scores = self.curves[i], self._curve(self.curves[i].config)
        if one.epochs == len(scores):
            self._change(i, state=State.DIVERGED)
            return False
        self.epochs_trained += 1
        self._change(i, scores=(*one.scores, scores[one.epochs]))
        one = self.curves[i]
        if one.epochs == self.spec.epochs:
            self._change(i, state=State.COMPLETE, value=one.scores[-1])
            return False
        if strategy.stops_at(self.spec, one.config, one.epochs):
            view = standing_still(self.view(), str(i))
            judged = strategy.judge(Reached(self.spec, one.epochs, True, None, slot=str(i), view=view))
            assert judged.fate in ("keep", "pause")
            self.reasons.append(judged.why)
            if judged.fate == "pause":
                self._change(i, paused=True)
                return False
        return True

    def _change(self, i: int, **changes: Any) -> None:
        self.curves[i] = replace(self.curves[i], **changes)


@pytest.mark.parametrize("space", [ONE_RATE, {}], ids=["one rate", "the whole space"])
@pytest.mark.parametrize(
    ("trainings", "epochs", "n_workers"),
    [(1.0, 10, 1), (1.3, 5, 1), (2.5, 3, 1), (2.5, 10, 4), (6.0, 10, 1), (6.04, 25, 3), (4.0, 1, 2), (0.5, 10, 1)],
)
def test_a_budget_of_trainings_is_kept_to_an_epoch_and_used_for_one_that_is_complete(
    space: dict[str, Any], trainings: float, epochs: int, n_workers: int
) -> None:
    search = Simulated(spec_of(space, epochs, trainings=trainings), n_workers=n_workers).run()
    assert search.epochs_trained <= math.floor(trainings * epochs + 1e-9)
    assert all(one.state != State.RUNNING for one in search.curves)
    if trainings >= 1:
        assert any(one.state == State.COMPLETE for one in search.curves)
        # Nothing is left over but what no step has room for.
        assert search.epochs_trained > (trainings - 1) * epochs


@pytest.mark.parametrize("space", [ONE_RATE, {}], ids=["one rate", "the whole space"])
@pytest.mark.parametrize(("trials", "epochs", "n_workers"), [(1, 5, 1), (2, 10, 2), (5, 3, 1), (20, 10, 4), (12, 1, 3)])
def test_of_a_budget_of_trials_exactly_so_many_settings_end(
    space: dict[str, Any], trials: int, epochs: int, n_workers: int
) -> None:
    search = Simulated(spec_of(space, epochs, trials=trials), n_workers=n_workers).run()
    assert len(search.ended) == len(search.curves) == trials
    assert any(one.state == State.COMPLETE for one in search.curves)


def test_a_budget_of_trainings_is_used_though_one_of_trials_would_plan_for_less() -> None:
    planned = Simulated(spec_of({}, trials=12)).run()
    said = Simulated(spec_of({}, trials=12, trainings=10)).run()
    assert planned.epochs_trained <= 10 * (1 + 0.35 * 12) + 10
    assert 95 <= said.epochs_trained <= 100
    assert len(said.curves) == 12


def test_every_step_says_why() -> None:
    search = Simulated(spec_of({}, trials=12)).run()
    assert all(search.reasons)
    assert search.reasons[0] == "1 of the 6 settings of the first sweep, known to work elsewhere"
    assert "the best so far, to have one trial complete" in search.reasons
    assert any(why.startswith("expected to gain") for why in search.reasons)


def test_where_more_than_rates_is_searched_the_sweep_begins_with_what_works_elsewhere_and_rises_soon() -> None:
    spec = spec_of({})
    settings = Chooser(spec).settings
    configs = [one.config for one in settings.sweep(np.random.default_rng(0), 6)]
    wanted = [("sgd", 0.1, "cosine"), ("adamw", 3e-3, "cosine"), ("sgd", 0.05, "linear"), ("adamw", 1e-3, "linear")]
    begun = [(one.optimizer.name, one.optimizer.peak_lr, one.schedule.family) for one in configs]
    assert begun[:4] == wanted  # and not one_cycle, whose rise takes three epochs of ten
    assert all(relative_rate(one) > 0 for one in configs[4:])
    # At most two of three, the first by their rank.
    assert [one.config for one in settings.sweep(np.random.default_rng(0), 3)[:2]] == configs[:2]
    assert not Chooser(spec_of(ONE_RATE)).settings.portfolio
    baseline = ScoreCurve("0", configs[1], State.RUNNING, (0.5,), paused=True)
    after_it = Chooser(spec).choose([baseline], Means())
    assert after_it is not None
    assert after_it.setting is not None
    assert after_it.setting.config == configs[2]  # a baseline that is one of them is not begun again


@pytest.mark.parametrize(("warmup", "n_begun"), [(0.05, 6), (0.3, 3)])
def test_a_sweep_of_settings_that_rise_late_is_cut_short(warmup: float, n_begun: int) -> None:
    space = {"schedule": ["cosine", "linear"], "warmup_fraction": warmup}
    search = Simulated(spec_of(space, trainings=6)).run()
    assert sum("of the first sweep" in why for why in search.reasons) == n_begun


def test_the_best_of_a_hill_is_found_in_four_trainings() -> None:
    search = Simulated(spec_of(ONE_RATE, epochs=50, trainings=4)).run()
    best = max((one for one in search.curves if one.value is not None), key=lambda one: one.value or 0.0)
    assert best.value is not None
    assert best.value > 0.89 * (1 - 0.5**50)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_asked_to_it_ends_when_no_step_promises_more_than_noise_hides(n_workers: int) -> None:
    to_the_end = Simulated(spec_of(ONE_RATE, epochs=20, trials=50), n_workers=n_workers).run()
    search = Simulated(spec_of(ONE_RATE, epochs=20, trials=50, stop="converged"), n_workers=n_workers).run()
    assert search.end is not None
    assert search.end.reason == EndReason.CONVERGED
    complete = [one.value for one in search.curves if one.value is not None]
    said = (
        f"converged after {len(search.curves)} settings, {len(complete)} of them complete: no step is expected to gain"
    )
    assert search.end.message.startswith(said)
    assert "by 200 validation images" in search.end.message
    assert search.epochs_trained < to_the_end.epochs_trained / 2
    assert max(complete) > max(one.value or 0.0 for one in to_the_end.curves) - 0.005
    assert all(one.state != State.RUNNING for one in search.curves), "what stood still is settled"


@pytest.mark.parametrize(
    ("n_complete", "gain", "ends"), [(2, 0.0, False), (3, 0.0, True), (3, 0.0064, True), (3, 0.0066, False)]
)
def test_it_takes_three_complete_trials_and_half_of_the_noise(n_complete: int, gain: float, ends: bool) -> None:
    search = Simulated(spec_of(ONE_RATE, epochs=20, trials=50, stop="converged"))
    config = Chooser(search.spec).settings.sweep(np.random.default_rng(0), 1)[0].config
    done = ScoreCurve("0", config, State.COMPLETE, (0.97,) * 20, value=0.97)
    search.curves = [replace(done, slot=str(i)) for i in range(n_complete)]
    # Seeds: .35 points, the part of .5 that is luck. 200 images: 1.25 points, with Agresti and Coull's correction.
    end = enough(search.view(), Forward(None, None, 1, "", promise=Promise(gain, 0.005)))
    assert (end is not None) == ends


def test_of_a_loss_the_noise_is_that_of_trainings() -> None:
    spec = make_spec(
        space=ONE_RATE,
        epochs=20,
        objective={"metric": "loss"},
        strategy={"name": "lr", "branching": False},
        budget={"trials": 50, "stop": "converged"},
    )
    search = Simulated(spec, lambda config: [1 - score for score in hill(config)]).run()
    assert search.end is not None
    assert search.end.reason == EndReason.CONVERGED
    assert "% of its scale by seeds" in search.end.message


def test_where_the_best_rate_is_the_last_that_lives_it_is_found_all_the_same() -> None:
    edge = 0.5

    def cliff(config: TrialConfig) -> list[float]:
        off = relative_rate(config)
        epochs = 0 if off > edge else config.epochs
        return [(0.9 - 0.1 * (edge - off)) * (1 - 0.5 ** (epoch + 1)) for epoch in range(epochs)]

    search = Simulated(spec_of(ONE_RATE, epochs=50, trainings=4), cliff).run()
    best = max((one for one in search.curves if one.value is not None), key=lambda one: one.value or 0.0)
    assert edge - 0.25 < relative_rate(best.config) <= edge
    assert sum(one.state == State.DIVERGED for one in search.curves) <= 4


def test_a_setting_counts_early_by_the_rates_of_its_updates_so_far() -> None:
    constant = ScheduleConfig("constant")
    cosine, warm = (ScheduleConfig("cosine", warmup_fraction=w, final_fraction=0.0) for w in (0.0, 0.2))
    assert [factor_so_far(constant, part) for part in (0.02, 0.5, 1.0)] == pytest.approx([0, 0, 0], abs=1e-9)
    assert factor_so_far(cosine, 0.05) == pytest.approx(0, abs=0.01)
    assert factor_so_far(cosine) == pytest.approx(math.log10(math.sqrt(3 / 8)), abs=0.01)
    # Half of a rise from 0 to 1: the root mean square of what rises from 0 to .5.
    assert factor_so_far(warm, 0.1) == pytest.approx(math.log10(0.5 / math.sqrt(3)), abs=0.03)


def test_early_scores_of_a_rising_schedule_do_not_count_against_it() -> None:
    def curve(config: TrialConfig) -> list[float]:
        """Return scores to which only the rates so far matter: a rise takes from the first epochs alone."""
        at = [
            relative_rate(config) + factor_so_far(config.schedule, (e + 1) / 10) - factor_so_far(config.schedule)
            for e in range(10)
        ]
        return [0.9 - 0.1 * min(abs(off), 2) ** 2 - 0.02 * (9 - e) for e, off in enumerate(at)]

    space = {"optimizer": "sgd", "schedule": ["cosine", "constant"], "batch_size": 64, "warmup_fraction": [0.0, 0.1]}
    search = Simulated(spec_of(space, trainings=5), curve).run()
    best = max(one.value for one in search.curves if one.value is not None)
    assert best > 0.9 - 0.004


def test_where_more_than_rates_is_searched_the_first_trial_is_complete_in_time() -> None:
    spec = spec_of({})
    assert Chooser(spec).rungs.at == (1, 6, 10)
    configs = [one.config for one in Chooser(spec).settings.sweep(np.random.default_rng(0), 8)]
    came_far, leader = (0.5, 0.6, 0.7, 0.7, 0.75, 0.75), (0.9,)
    scores = [came_far] * 3 + [leader] + [(0.5,)] * 4
    curves = [
        ScoreCurve(str(i), config, State.RUNNING, some, paused=True)
        for i, (config, some) in enumerate(zip(configs, scores, strict=True))
    ]
    by = {"at any time": replace(WIDE, first_at_latest=math.inf), "in time": WIDE}
    slots = {name: getattr(Chooser(spec, constants=c).choose(curves, Means()), "slot", None) for name, c in by.items()}
    assert slots["at any time"] == "3"
    assert slots["in time"] in {"0", "1", "2"}


def test_a_rate_between_what_lives_and_what_diverged_counts_by_its_chance_to_live() -> None:
    config = Chooser(spec_of(ONE_RATE)).settings.sweep(np.random.default_rng(0), 1)[0].config

    def at(decades: float) -> TrialConfig:
        return replace(config, optimizer=replace(config.optimizer, peak_lr=0.01 * 10**decades))

    def curve(decades: float, *scores: float, diverged: bool = False) -> ScoreCurve:
        return ScoreCurve(str(decades), at(decades), State.DIVERGED if diverged else State.RUNNING, scores)

    spec = spec_of(ONE_RATE)
    curves = [curve(0, 0.5), curve(2, diverged=True), curve(-1, 0.1, diverged=True), curve(3, 0.6, diverged=True)]
    seen = looks(curves, Rungs.of(spec.epochs, NARROW), spec.metric, NARROW)
    found = edges(curves, seen, spec.metric, NARROW)
    assert list(found) == ["sgd"]
    assert found["sgd"].beyond == {1, 3}
    assert {int(i) for i in inside(seen, found).trial} == {0, 2}
    chances = chance_to_live([at(decades) for decades in (-1, 0, 0.5, 1, 1.99, 2, 3)], found, NARROW)
    assert list(np.round(chances, 6)) == [1, 1, 0.75, 0.5, NARROW.near_edge, NARROW.beyond_edge, NARROW.beyond_edge]


def test_what_was_begun_is_not_begun_again() -> None:
    search = Simulated(spec_of(ONE_RATE, trainings=8)).run()
    rates = sorted(math.log10(one.config.optimizer.peak_lr) for one in search.curves)
    assert min(b - a for a, b in pairwise(rates)) > 0.04


def test_where_trials_diverge_no_more_are_begun_than_it_takes_to_know() -> None:
    search = Simulated(spec_of(ONE_RATE, trainings=6)).run()
    diverged = [one for one in search.curves if one.state == State.DIVERGED]
    assert 1 <= len(diverged) <= 3


def test_a_loss_is_searched_as_an_accuracy_is() -> None:
    spec = spec_of(ONE_RATE, trainings=4).model_copy(
        update={"objective": make_spec(objective={"metric": "loss"}).objective}
    )
    search = Simulated(spec, lambda config: [0.1 + 2 * (1 - score) for score in hill(config)]).run()
    best = min((one for one in search.curves if one.value is not None), key=lambda one: one.value or 0.0)
    assert abs(relative_rate(best.config)) < 0.3


def test_two_workers_that_ask_of_one_view_get_one_answer_and_of_the_next_view_another() -> None:
    spec = spec_of({}, trials=20)
    search = Simulated(spec)
    first = LrStrategy().what_next(search.view())
    assert isinstance(first, Begin)
    assert LrStrategy().what_next(search.view()) == first
    config = Chooser(spec).settings.setting(dict(first.params or {})).config
    search.curves.append(ScoreCurve("0", config, State.RUNNING))
    second = LrStrategy().what_next(search.view())
    assert isinstance(second, Begin)
    assert second.params != first.params


def test_nothing_is_chosen_where_nothing_fits() -> None:
    assert Chooser(spec_of(ONE_RATE)).choose([], Means(epochs_left=0)) is None


# --- through the database ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_a_search_ends_all_its_trials_and_writes_down_why_each_moved(database: Database, tmp_path: Path) -> None:
    study = filing.create(database, spec_of({}, trials=12), str(tmp_path / "kept"))
    events = list(working(claims_of(study), FakeEngine(learning)))
    trials = study.trials()
    assert len(trials) == 12
    assert all(trial.outcome is not None for trial in trials)
    paused = [trial for trial in trials if trial.outcome is not None and trial.outcome.reason == Reason.PAUSED]
    assert paused
    assert all(trial.state == State.PRUNED for trial in paused)
    moves = rows(database, "SELECT kind, why FROM lrsearch_moves")
    assert {kind for kind, _ in moves} == {"start", "pause", "resume"}
    assert all(why for _, why in moves)
    started = [event for event in events if isinstance(event, TrialStarted)]
    assert all(event.why for event in started)
    # Every epoch once: one that was paused goes on where it stood.
    epochs = [(event.number, event.metrics.epoch) for event in events if isinstance(event, EpochDone)]
    assert len(epochs) == len(set(epochs)) == sum(len(trial.metrics) for trial in trials)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_a_search_that_converges_settles_what_stands_still_and_says_why_afterwards(
    database: Database, tmp_path: Path
) -> None:
    study = filing.create(database, spec_of({}, trials=50, stop="converged"), str(tmp_path / "kept"))
    *_, end = working(claims_of(study), FakeEngine(learning))
    assert isinstance(end, SearchEnded)
    assert end.reason == EndReason.CONVERGED
    trials = study.trials()
    assert LEAST_COMPLETE <= len(trials) < 50
    assert all(trial.outcome is not None for trial in trials)
    assert any(trial.outcome is not None and trial.outcome.reason == Reason.PAUSED for trial in trials)
    assert at_work.converged(study) == end.message
    assert not study.is_open()
    *_, again = working(claims_of(study), FakeEngine(learning))
    assert isinstance(again, SearchEnded)
    assert again.reason == EndReason.CONVERGED
    assert len(study.trials()) == len(trials)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("strategy", ["lr", "sampler"])
def test_a_budget_of_trainings_is_exact_through_the_database(database: Database, tmp_path: Path, strategy: str) -> None:
    # The fake engine cannot go on from another trial's state.
    decides = {"name": "lr", "branching": False} if strategy == "lr" else strategy
    spec = make_spec(epochs=6, strategy=decides, budget={"trainings": 4.5})
    study = filing.create(database, spec, str(tmp_path / "kept"))
    events = list(working(claims_of(study), FakeEngine(learning)))
    n = sum(isinstance(event, EpochDone) for event in events)
    assert 24 <= n <= 27
    if strategy == "sampler":
        assert n == 27
    assert all(trial.outcome is not None for trial in study.trials())


def test_a_search_whose_worker_leaves_and_comes_back_is_the_one_that_never_left(
    database: Database, tmp_path: Path
) -> None:
    spec = spec_of({}, trials=8).model_copy(update={"prior": "none"})
    one = filing.create(database, spec, str(tmp_path / "one"))
    list(working(claims_of(one), FakeEngine(learning)))
    other = filing.create(database, spec.model_copy(update={"name": "other"}), str(tmp_path / "other"))
    for _ in range(100):
        events = working(claims_of(other), FakeEngine(learning))
        # A worker that goes after each of its trials, and a new one in its place.
        if not any(isinstance(event, TrialEnded | TrialInterrupted) for event in events):
            break
        events.close()
    assert [trial.config for trial in other.trials()] == [trial.config for trial in one.trials()]
    assert [len(trial.metrics) for trial in other.trials()] == [len(trial.metrics) for trial in one.trials()]


def engine_of(spec: StudySpec) -> SerialEngine:
    engine = worker.build_engine(spec, device_name="cpu", threads=1, data_dir=None, progress=False)
    assert isinstance(engine, SerialEngine)
    return engine


def test_a_trial_that_was_paused_is_bit_for_bit_the_one_that_was_not(database: Database, tmp_path: Path) -> None:
    spec = make_spec(epochs=5, strategy="lr", budget={"trials": 8}, dataset={"limit": 200}, space={"batch_size": 32})
    study = filing.create(database, spec, str(tmp_path / "kept"))
    engine = engine_of(spec)
    events = list(working(claims_of(study), engine))
    paused = {event.number for event in events if isinstance(event, TrialInterrupted)}
    gone_on = [t for t in study.trials() if t.state == State.COMPLETE and t.number in paused]
    assert gone_on, "no trial was paused and trained through"
    for trial in gone_on:
        training = engine.start(trial.config)
        last = [row for row in training.epochs() if isinstance(row, EpochMetrics)][-1]
        assert last.val_accuracy == trial.metrics[-1].val_accuracy
        content = training.weights()
        assert content is not None
        assert hashlib.sha256(content).hexdigest() == trial.weights_sha256


# --- on recorded curves -----------------------------------------------------------------------------------------------


def recorded() -> Iterator[Path]:
    folder = os.environ.get("LRSEARCH_TEST_DATA")
    file = Path(folder) / "lr-curves" / "deepobs.jsonl.gz" if folder else None
    if file is not None and file.exists():
        yield file


@pytest.mark.slow
def test_on_recorded_curves_two_trainings_or_so_come_within_a_point(tmp_path: Path) -> None:
    files = list(recorded())
    if not files:
        pytest.skip("LRSEARCH_TEST_DATA names no folder with lr-curves/deepobs.jsonl.gz")
    script = Path(__file__).parent.parent / "benchmarks" / "replay.py"
    out = tmp_path / "out.json"
    words = ["--curves", str(files[0]), "--methods", "lr", "--seeds", "2", "--limit", "8", "--json", str(out)]
    subprocess.run([sys.executable, str(script), *words], check=True, capture_output=True)
    found = json.loads(out.read_text())["methods"]["lr"]
    assert found["median"] <= 2.5
    assert found["reached"] >= 0.95
    assert found["regret"]["5"] <= 0.5


def test_show_and_the_events_say_why_a_trial_was_begun_paused_and_gone_on_with(tmp_path: Path) -> None:
    words = ["run", "--strategy", "lr", "--trials", "6", "--epochs", "4", "--device", "cpu"]
    ran = run_process([*words, "--set", "dataset.limit=200"], tmp_path)
    assert ran.code == 0, ran.err
    assert "1 of the 5 settings of the first sweep" in ran.err
    said = run_process(["show", "0"], tmp_path).out
    assert "Why it was trained so far" in said
    assert "settings of the first sweep" in said
    shown = json.loads(run_process(["show", "0", "--json"], tmp_path).out)
    assert shown["trial"]["moves"][0]["kind"] == "start"
    assert all(move["why"] for move in shown["trial"]["moves"])


def test_a_study_file_that_counts_trainings_is_shown_and_listed_so(tmp_path: Path) -> None:
    tables = 'epochs = 4\nstrategy = "lr"\n[budget]\ntrainings = 2\n[dataset]\nlimit = 200\n'
    (tmp_path / "short.toml").write_text(tables)
    for trained in (2, 3):
        ran = run_process(["run", "short.toml", "--device", "cpu"], tmp_path)
        assert ran.code == 0, ran.err
        listed = run_process(["list"], tmp_path)
        assert listed.code == 0, listed.err
        assert f", {trained} trainings" in listed.out
        status = run_process(["status"], tmp_path).out
        assert f"of {trained} trainings' epochs" in status
        extended = run_process(["extend", "--trainings", "+1"], tmp_path)
        assert "3 trainings" in extended.out or trained == 3

"""`lrsearch confirm`: the best settings with fresh seeds, by the same workers, judged fairly and only once."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import InProcess, Running, one_line, run_process
from conftest import (
    FakeEngine,
    claims_of,
    complete,
    learning,
    make_spec,
    measured,
    on_both,
    plain_optuna,
    rows,
    working,
)

from lrsearch import open_study
from lrsearch.analysis.confirmation import ConfirmVerdict, confirmation
from lrsearch.errors import UsageError
from lrsearch.paired import Strata
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.store import confirmations, endings, filing, judging, portfolio
from lrsearch.store import study as studies
from lrsearch.store.claims import Claims
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database, open_existing
from lrsearch.store.study import Study
from lrsearch.strategy.confirming import (
    LEAST_SEEDS,
    Confirm,
    ConfirmRun,
    Entrant,
    Part,
    Plan,
    Race,
    fresh_seeds,
    next_run,
)
from lrsearch.strategy.strategy import ConfirmOnly
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, Role, ScheduleConfig, State, TrialConfig

pytest_plugins = ["command_line"]


def config(rate: float) -> TrialConfig:
    return TrialConfig(OptimizerConfig("sgd", rate), ScheduleConfig("constant"), 32, 4, 0)


def entered(n: int, *, own: bool = False, most: int = 8) -> Race:
    """Return a race of ``n`` settings that has not begun; with ``own`` the last is a person's."""
    entrants = [Entrant(config(0.1 * (i + 1)), Part.FOUND, i) for i in range(n)]
    if own:
        entrants[-1] = replace(entrants[-1], part=Part.AGAINST, parent=None)
    return Race(Plan(n, tuple(range(100, 100 + most)), entrants=tuple(entrants)), (), True, Strata((200,)), 0.1)


def run_race(race: Race, shares: list[float], seed: int = 0) -> Race:
    """Return the race at its end, in which each setting gets that share of the images right; images differ in ease."""
    rng = np.random.default_rng(seed)
    ease = rng.permutation(np.linspace(0, 1, 200))
    while (step := next_run(race)) is not None:
        assert isinstance(step, Confirm)
        hits = ease + rng.normal(0, 0.05, 200) < shares[step.entrant]
        value = float(hits.mean())
        one = ConfirmRun(step.entrant, step.seed, State.COMPLETE, len(race.runs), value, np.packbits(hits).tobytes())
        race = replace(race, runs=(*race.runs, one))
    return race


def seeds_of(race: Race) -> list[int]:
    return [len(race.scores(one)) for one in range(len(race.plan.entrants))]


def test_seeds_go_to_those_that_may_still_be_the_best() -> None:
    race = run_race(entered(4), [0.95, 0.94, 0.6, 0.3])
    n = seeds_of(race)
    assert n[2] < n[1]
    assert n[3] < n[1]
    assert min(n) >= LEAST_SEEDS
    assert race.standing().leader in (0, 1)
    assert set(race.standing().left) <= {0, 1}


def test_it_ends_early_where_it_is_decided_and_else_when_the_seeds_are_used_up() -> None:
    assert sum(seeds_of(run_race(entered(2), [0.95, 0.5]))) <= 2 * 5
    assert seeds_of(run_race(entered(2), [0.9, 0.9])) == [8, 8]
    assert seeds_of(run_race(entered(1), [0.9])) == [8], "there is nothing to decide, so all seeds go into its mean"


@pytest.mark.parametrize(
    ("shares", "own", "verdict"),
    [
        ([0.95, 0.7], True, ConfirmVerdict.BETTER),
        ([0.7, 0.95], True, ConfirmVerdict.WORSE),
        ([0.9, 0.9], True, ConfirmVerdict.NOT_DISTINGUISHABLE),
        ([0.7, 0.95, 0.75], True, ConfirmVerdict.BETTER),
        ([0.95, 0.7, 0.6], False, ConfirmVerdict.BETTER),
    ],
)
def test_the_best_setting_found_is_compared_with_ones_own_or_with_the_next_best(
    shares: list[float], own: bool, verdict: ConfirmVerdict
) -> None:
    found = confirmation(run_race(entered(len(shares), own=own), shares), ())
    assert found.verdict == verdict
    assert found.is_decided
    assert found.winner == int(np.argmax(shares)) or verdict == ConfirmVerdict.NOT_DISTINGUISHABLE
    if own:
        assert found.reference == len(shares) - 1


def test_a_training_that_diverges_is_worth_a_guess_and_a_failed_one_says_nothing() -> None:
    race = run_race(entered(2, own=True), [0.9, 0.9])
    runs = [replace(run, state=State.DIVERGED, value=None, right=b"") if run.entrant else run for run in race.runs]
    found = confirmation(replace(race, runs=tuple(runs)), ())
    assert found.verdict == ConfirmVerdict.BETTER
    assert (found.settings[1].n_diverged, found.settings[1].mean) == (8, pytest.approx(0.1))
    runs = [replace(run, state=State.FAILED, value=None, right=b"") if run.entrant else run for run in race.runs]
    found = confirmation(replace(race, runs=tuple(runs)), ())
    assert found.verdict is None, "nothing is known of the other"
    assert found.settings[1].n_seeds == 0
    assert next_run(replace(race, runs=tuple(runs))) is None, "and it is not tried for ever"


def test_what_is_under_way_is_waited_for_and_not_begun_twice() -> None:
    race = entered(2)
    begun = []
    while isinstance(step := next_run(race), Confirm):
        begun.append(step)
        race = replace(race, runs=(*race.runs, ConfirmRun(step.entrant, step.seed, State.RUNNING)))
    assert step == len(begun) == 16
    assert len(set(begun)) == 16


def test_fresh_seeds_are_none_of_the_search_and_always_the_same() -> None:
    first = fresh_seeds(7, 5)
    assert fresh_seeds(7, 10)[:5] == first
    assert len({*first, *fresh_seeds(8, 5)}) == 10
    assert first[0] not in fresh_seeds(7, 5, frozenset({first[0]}))
    assert all(0 <= seed < 2**31 for seed in first)


# --- in a database ---------------------------------------------------------------------------------------------------


def by_seed(config: TrialConfig) -> Iterator[EpochMetrics | Divergence]:
    """Learn as ``learning`` says, a little more or less by the seed."""
    luck = 0.05 * np.random.default_rng(config.seed + int(1e6 * config.optimizer.peak_lr)).normal()
    for told in learning(config):
        better = isinstance(told, EpochMetrics)
        yield replace(told, val_accuracy=told.val_accuracy + luck) if better else told  # type: ignore[union-attr]


def search(study: Study) -> Study:
    for _ in working(claims_of(study), FakeEngine(by_seed)):
        pass
    return study


def searched(database: Database) -> Study:
    return search(filing.create(database, make_spec(budget={"trials": 8}, pruner="none")))


def confirming(study: Study) -> FakeEngine:
    engine = FakeEngine(by_seed)
    claims = Claims(study, (), "fake device", "fake 1.0", ConfirmOnly())
    for _ in working(claims, engine):
        pass
    return engine


def plan(study: Study, top: int = 2, seeds: int = 4, against: str = "") -> Plan:
    other = portfolio.any_setting("--against", against, study.spec) if against else None
    return Plan(top, fresh_seeds(study.spec.seed, seeds), None if other is None else replace(other, seed=0))


@on_both
def test_trainings_of_a_confirmation_are_trials_beside_the_search_and_no_units_of_its_budget(
    database: Database,
) -> None:
    study = searched(database)
    before = study.trials()
    filed = confirmations.file(study, plan(study))
    confirming(study)
    assert study.trials() == before
    again = study.trials(Role.CONFIRM)
    race = confirmations.race_of_study(study)
    assert race is not None
    assert Counter(t.parent for t in again) == {entrant.parent: 4 for entrant in race.plan.entrants}
    best = sorted(before, key=lambda t: -(t.outcome.value if t.outcome and t.outcome.value else 0))
    assert [entrant.parent for entrant in race.plan.entrants] == [t.number for t in best[:2]]
    for trial in again:
        assert trial.parent is not None
        assert trial.config == replace(before[trial.parent].config, seed=trial.config.seed)
        assert trial.config.seed in filed.seeds
    assert judging.take_turn(study, "") is not None, "the winner is judged once it is decided"
    # Optuna has them too, each with what it is for; the search goes on as if they were not there.
    with plain_optuna(study) as plain:
        roles = [trial.user_attrs.get("lrsearch:role") for trial in plain.trials]
    assert roles == [None] * 8 + ["confirm"] * 8


@on_both
def test_a_search_goes_on_as_if_nothing_had_been_confirmed_meanwhile(database: Database) -> None:
    def settings(*, confirmed: bool) -> list[Any]:
        study = searched(database)
        if confirmed:
            confirmations.file(study, plan(study))
            confirming(study)
        study.set_budget(BudgetSpec(trials=12))
        found = [(t.params, t.outcome) for t in search(study).trials()]
        studies.delete(database, study.name)
        return found

    assert settings(confirmed=True) == settings(confirmed=False)


@on_both
def test_asked_twice_it_goes_on_and_what_was_trained_is_not_trained_again(database: Database) -> None:
    study = searched(database)
    first = confirmations.file(study, plan(study))
    assert confirmations.file(study, plan(study)).id == first.id
    assert len(confirming(study).trained) == 8
    assert confirming(study).trained == []
    # One more setting and more seeds: only what is new is trained.
    confirmations.file(study, plan(study, seeds=5, against="sgd lr=0.05 constant"))
    trained = confirming(study).trained
    assert len(trained) == 2 + 5
    assert len({(t.optimizer.peak_lr, t.seed) for t in trained}) == 7
    assert {t.parent for t in study.trials(Role.CONFIRM)} >= {None}


@on_both
def test_asked_again_after_a_search_has_found_more_it_is_about_what_it_has_found(database: Database) -> None:
    study = searched(database)
    first = confirmations.file(study, plan(study))
    confirming(study)
    study.set_budget(BudgetSpec(trials=40))
    later = confirmations.file(study, plan(study), of_now=False)
    assert later.entrants == (), "of what it will have found"
    search(study)
    race = confirmations.race_of_study(study)
    assert race is not None
    order = endings_in_order(study)
    assert [one.parent for one in race.plan.entrants] == order[:2]
    assert next_run(race) is None
    # And by hand: the settings are those of now, or the plan is the one that was.
    assert confirmations.file(study, plan(study)).id == later.id != first.id


def endings_in_order(study: Study) -> list[int]:
    return study.database.read(lambda c: endings.best_numbers(c, study.id, maximize=study.maximize))


@on_both
def test_a_trial_under_way_whose_worker_is_gone_goes_on_under_its_number(database: Database) -> None:
    study = searched(database)
    confirmations.file(study, plan(study))
    claims = Claims(study, (), "fake device", "fake 1.0", ConfirmOnly())
    claim = claims.claim()
    assert claim.trial.role == Role.CONFIRM  # type: ignore[union-attr]
    rows_before = rows(database, "SELECT count(*) FROM lrsearch_slots")
    claims.release(claim)  # type: ignore[arg-type]
    again = claims.claim()
    assert again.trial.number == claim.trial.number  # type: ignore[union-attr]
    assert again.trial.config == claim.trial.config  # type: ignore[union-attr]
    assert rows(database, "SELECT count(*) FROM lrsearch_slots") == rows_before
    claims.end(again, complete(0.5))  # type: ignore[arg-type]
    confirming(study)
    assert len(study.trials(Role.CONFIRM)) == 8


def test_a_search_that_is_to_be_confirmed_is_when_it_is_over_and_is_judged_after_that(database: Database) -> None:
    study = filing.create(database, make_spec(budget={"trials": 8}, pruner="none"))
    confirmations.file(study, plan(study))
    claims = claims_of(study)
    for _ in range(8):
        claim = claims.claim()
        assert claim.trial.role == Role.SEARCH  # type: ignore[union-attr]
        assert judging.take_turn(study, "") is None
        claims.end(claim, complete(0.5))  # type: ignore[arg-type]
    assert judging.take_turn(study, "") is None, "what is to be confirmed is not judged before"
    assert confirmations.is_open(study)
    search(study)
    assert not confirmations.is_open(study)
    assert len(study.trials(Role.CONFIRM)) == 8
    assert judging.take_turn(study, "") is not None


# --- the command -----------------------------------------------------------------------------------------------------


def document(lrsearch: InProcess, *words: str) -> dict[str, Any]:
    done = lrsearch(*words, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.slow
def test_the_command_from_a_search_to_a_verdict(lrsearch: InProcess) -> None:
    assert lrsearch("run", "--trials", "6", "--epochs", "3", "--quiet").code == 0
    words = ("confirm", "--top", "2", "--seeds", "4", "--against", "sgd lr=1e-4 constant batch=48")
    found = document(lrsearch, *words)
    assert found["schema"] == "lrsearch/confirmation/1"
    assert found["verdict"] == "better"
    assert found["is_decided"]
    assert [one["part"] for one in found["settings"]] == ["found", "found", "against"]
    assert found["settings"][2]["mean"] < 0.6 < found["settings"][0]["mean"]
    low, high = found["settings"][0]["interval"]
    assert low < found["settings"][0]["mean"] < high
    assert found["difference"]["low"] > 0
    assert found["difference"]["n_images"] == 200
    assert found["test_accuracy"] > 0.8
    # The same once more trains nothing; the answer names the winner; the trials are listed with what they are for.
    assert document(lrsearch, *words) == found
    best = document(lrsearch, "best")
    assert best["winner"]["number"] == found["winner"]
    assert best["confirmation"]["difference"] == found["difference"]
    listed = json.loads(lrsearch("trials", "--json").out)["trials"]
    assert Counter(one["role"] for one in listed)["search"] == 6
    said = lrsearch(*words, "--quiet")
    assert "is better than yours" in " ".join(said.out.split())
    tested = [one["number"] for one in listed if one["test_accuracy"] is not None]
    assert sorted(tested) == sorted({found["winner"], *found["judged_before"]})
    assert len(found["judged_before"]) <= 1, "for the winner of the search, as it was said"


def test_what_goes_on_with_the_best_trial_goes_on_with_the_confirmed_one(
    lrsearch: InProcess, finished: Any, tmp_path: Path
) -> None:
    """The search's best trial did not repeat: what is trained, exported and starred is what the answer names."""
    (tmp_path / "lrsearch.db").write_bytes(finished.database.read_bytes())
    with closing(open_existing(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        study = studies.get(database, None)
        first, second, *_ = endings_in_order(study)

        def swapped(config: TrialConfig) -> Iterator[EpochMetrics | Divergence]:
            is_first = replace(config, seed=0) == replace(study.trials()[first].config, seed=0)
            luck = 1e-4 * (config.seed % 7)
            for epoch in range(1, config.epochs + 1):
                yield measured(epoch, (0.5 if is_first else 0.9) + luck, 0.3)

        confirmations.file(study, plan(study, seeds=3))
        for _ in working(Claims(study, (), "fake device", "fake 1.0", ConfirmOnly()), FakeEngine(swapped)):
            pass
    assert document(lrsearch, "best")["winner"]["number"] == second
    assert document(lrsearch, "trials")["best"] == second
    assert f"trial {second}" in lrsearch("status").out
    exported = json.loads(lrsearch("export", "--to", "json").out)
    assert exported["trial"] == second
    study_in_python = open_study("digits")
    assert study_in_python.best is not None
    assert study_in_python.best.trial.number == second
    path = study_in_python.export("json")
    assert json.loads(path.read_text("utf-8"))["trial"] == second


@pytest.mark.slow
def test_run_confirm_names_the_confirmed_winner_and_reads_the_test_images_once(lrsearch: InProcess) -> None:
    found = document(lrsearch, "run", "--trials", "6", "--epochs", "3", "--confirm")
    again = found["confirmation"]
    assert again["is_decided"]
    assert found["winner"]["number"] == again["winner"]
    listed = json.loads(lrsearch("trials", "--json").out)["trials"]
    tested = [one["number"] for one in listed if one["test_accuracy"] is not None]
    assert tested == [again["winner"]]
    assert "Confirmed with fresh seeds" in lrsearch("best").out
    assert lrsearch("report", "-o", "report.html").code == 0
    assert "Confirmed with fresh seeds" in Path("report.html").read_text("utf-8")
    # In Python: what was trained is there already.
    study = open_study("digits")
    same = study.confirm()
    assert same is not None
    assert same.n_trainings == again["n_trainings"]
    assert same.verdict is not None
    assert same.verdict.value == again["verdict"]
    assert "Confirmed with fresh seeds" in study._repr_html_()
    with pytest.raises(UsageError, match="seeds must be a whole number from 3 to 100, got 1"):
        study.confirm(seeds=1)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_training_and_none_is_made_twice(tmp_path: Path) -> None:
    assert run_process(["run", "--trials", "5", "--epochs", "3", "--quiet"], tmp_path).code == 0
    words = ["confirm", "--top", "2", "--seeds", "6", "--workers", "2"]
    running = Running(words, tmp_path)

    def under_way(process: Running) -> bool:
        return process.read("stderr").count("trial") > 6

    assert running.wait_for(under_way)
    running.send(signal.SIGKILL)
    running.result()
    done = run_process([*words, "--json"], tmp_path)
    assert done.code == 0, done.err
    with closing(open_existing(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        study = studies.get(database, None)
        again = study.trials(Role.CONFIRM)
    counts = Counter((t.parent, t.config.seed) for t in again)
    assert set(counts.values()) == {1}
    assert all(t.state == State.COMPLETE for t in again)
    assert json.loads(done.out)["n_trainings"] == len(again)


@pytest.mark.slow
def test_bits_are_those_of_the_kept_weights_class_by_class(lrsearch: InProcess, tmp_path: Path) -> None:
    import torch

    from lrsearch import run

    assert lrsearch("run", "--trials", "3", "--epochs", "2", "--quiet").code == 0
    with closing(open_existing(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        study = studies.get(database, None)
        trial = max(study.trials(), key=lambda t: t.outcome.value if t.outcome and t.outcome.value else 0)
        engine = run.prepare_images(study.spec, run.Here("cpu", 1))
    training = engine.start(trial.config)
    for _ in training.epochs():
        pass
    validation = engine.splits.validation
    with torch.no_grad():
        logits = training.model.eval()(engine.splits.normalize(validation.images))
    hits = logits.argmax(1) == validation.labels
    order = validation.labels.argsort(stable=True)
    assert np.unpackbits(np.frombuffer(trial.val_right, np.uint8), count=200).tolist() == hits[order].int().tolist()
    assert hits.float().mean() == pytest.approx(trial.metrics[-1].val_accuracy)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--against", "sgd lr=banana"], "lr must be a number, got 'banana'"),
        (["--against", "sgdd lr=1"], "did you mean 'sgd'?"),
        (["--against", "cosine sgd"], "must give the learning rate"),
        (["--against", "sgd lr=0.1 cosine momentum=7"], "space.optimizer.sgd.momentum: must be from 0 to below 1"),
        (["--against", "sgd lr=0.1 cosine colour=7"], "colour"),
        (["--seeds", "2"], "seeds"),
        (["--workers", "many"], "--workers must be a whole number"),
        (["nobody"], "there is no study 'nobody'"),
    ],
)
def test_wrong_words_are_refused_in_a_sentence(
    words: list[str], said: str, lrsearch: InProcess, finished: Any, tmp_path: Path
) -> None:
    (tmp_path / "lrsearch.db").write_bytes(finished.database.read_bytes())
    done = lrsearch("confirm", *words)
    assert done.code != 0
    assert said in one_line(done)


def test_a_study_without_a_complete_trial_has_nothing_to_confirm(lrsearch: InProcess) -> None:
    assert lrsearch("run", "--trials", "2", "--detach").code == 0
    done = lrsearch("confirm")
    assert done.code == 3
    assert "there is nothing to confirm" in one_line(done)

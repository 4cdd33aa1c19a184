"""What a new study takes over from others of its database: of which, which trials, and what is said of it."""

import doctest
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeEngine, learning, make_spec, merged
from ones_own import make_pictures
from torch import nn

from lrsearch import run
from lrsearch.cli import app as cli
from lrsearch.errors import UnknownNameError, UsageError
from lrsearch.report import known_words
from lrsearch.spec import file as study_file
from lrsearch.spec import models
from lrsearch.spec.models import MODELS, n_parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import confirmations, filing, known, to_confirm
from lrsearch.store import study as studies
from lrsearch.store.places import Place
from lrsearch.store.study import Study
from lrsearch.strategy import prior
from lrsearch.strategy.view import KnownTraining
from lrsearch.training.model_config import ModelConfig
from lrsearch.training.models import build
from lrsearch.trial import Role, State


def new_spec(name: str = "new", **tables: Any) -> StudySpec:
    """Return a study of digits by strategy lr."""
    return study_file.build(merged({"name": name, "epochs": 4, "strategy": "lr"}, tables), "the test")


@pytest.fixture
def emoji(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudySpec:
    """A study of colour pictures of one's own, as it is filed."""
    make_pictures(tmp_path / "pets")
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))
    return run.known(new_spec("pets", dataset={"name": f"folder:{tmp_path / 'pets'}"}), run.Here(threads=1))


DIGITS: dict[str, Any] = {}
MNIST = {"dataset": {"name": "mnist", "limit": 2000}}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (DIGITS, DIGITS, True),
        (DIGITS, {"dataset": {"limit": 500}}, True),
        (DIGITS, {"dataset": {"limit": 100}, "space": {"batch_size": 16}}, False),  # a fifteenth of the images
        (DIGITS, {"epochs": 30}, True),
        (DIGITS, {"epochs": 40}, False),
        (DIGITS, {"model": {"hidden": [256]}}, True),
        (DIGITS, {"model": {"hidden": [1024]}}, False),
        (DIGITS, {"model": {"name": "cnn"}}, False),
        (DIGITS, {"objective": {"metric": "loss"}}, False),
        (DIGITS, MNIST, True),
        (DIGITS, {"dataset": {"name": "mnist"}}, False),  # sixty times the images
        (MNIST, {"dataset": {"name": "fashion-mnist", "limit": 2000}}, True),
        (MNIST, {"dataset": {"name": "cifar10", "limit": 2000}}, False),  # grey and colour
        (DIGITS, {"space": {"optimizer": "adam"}, "seed": 3, "augment": {"translate": 0.1}}, True),
    ],
)
def test_studies_are_similar_whose_best_rates_may_be_expected_to_lie_within_an_octave(
    one: dict[str, Any], other: dict[str, Any], alike: bool
) -> None:
    a, b = new_spec(**one), new_spec(**other)
    assert (prior.distance(a, b) is not None) == alike
    assert prior.distance(a, b) == prior.distance(b, a)
    assert prior.distance(a, a) == 0


def test_pictures_of_ones_own_are_not_like_digits(emoji: StudySpec) -> None:
    assert emoji.facts.shape[0] == 3
    assert prior.distance(emoji, new_spec()) is None
    assert prior.distance(emoji, emoji) == 0


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"name": "torchvision/resnet18"}, {"name": "timm/resnet34.a1_in1k"}, True),
        ({"name": "torchvision/resnet18"}, {"name": "torchvision/vgg11"}, False),
        ({"name": "torchvision/resnet18"}, {"name": "torchvision/resnet18", "weights": "DEFAULT"}, False),
        ({"name": "torchvision/resnet18"}, {"name": "torchvision/resnet18", "freeze": "backbone"}, False),
    ],
)
def test_models_are_of_one_family_whatever_package_they_are_of(
    one: dict[str, Any], other: dict[str, Any], alike: bool
) -> None:
    space = {"stem_ratio": 1.0}
    a, b = (new_spec(model=model, space=space) for model in (one, other))
    assert (prior.distance(a, b) is not None) == alike


def test_loops_are_alike_of_the_same_name_and_about_as_many_images() -> None:
    def loop(name: str, n_train: int) -> StudySpec:
        metric = {"metric": "f1", "direction": "maximize"}
        return new_spec(loop={"name": name, "n_train": n_train}, objective=metric)

    assert prior.distance(loop("/a/loop.py:train", 1000), loop("/b/loop.py:train", 2000)) is not None
    assert prior.distance(loop("loop.py:train", 1000), loop("other.py:train", 1000)) is None
    assert prior.distance(loop("loop.py:train", 1000), loop("loop.py:train", 20_000)) is None
    assert prior.distance(loop("loop.py:train", 1000), new_spec()) is None


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_the_numbers_of_a_model_are_counted_as_torch_counts_them(name: str, shape: tuple[int, int, int]) -> None:
    model: nn.Module = build(ModelConfig(name), shape, 10)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert n_parameters(MODELS[name].layers(MODELS[name].hidden, shape, 10)) == counted


def test_the_examples_in_the_docstrings_are_right() -> None:
    for module in (prior, known_words, models):
        assert doctest.testmod(module).failed == 0


# --- what is taken over ----------------------------------------------------------------------------------------------


def searched(place: Place, name: str, **tables: Any) -> Study:
    """Return a study that was searched by random settings, by the engine of the tests."""
    asha = {"name": "asha", "min_resource": 1}
    spec = make_spec(name, **merged({"budget": {"trials": 12}, "pruner": asha}, tables))
    study = filing.file_study(spec, place, explicit_budget=True)
    for _ in run.Session(study, FakeEngine(learning, facts=spec.facts), filing.artifacts_of(study)).attend():
        pass
    return study


def filed(place: Place, spec: StudySpec) -> tuple[tuple[KnownTraining, ...], tuple[known.KnownSource, ...]]:
    """File a study; return what it takes for known, and whence."""
    filing.check(spec, place)
    study = filing.file_study(spec, place, explicit_budget=True)
    with closing(study.database) as database:
        return database.read(lambda connection: known.of(connection, study)), known.sources(study)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_new_study_takes_the_trials_of_a_similar_one_for_known(place: Place, backend: str) -> None:
    old = searched(place, "old")
    with closing(old.database):
        trials = old.trials()
    assert {trial.state for trial in trials} >= {State.COMPLETE, State.PRUNED}
    taken, sources = filed(place, new_spec())
    assert sources == (known.KnownSource("prior", "old", 12),)
    for one, trial in zip(taken, trials, strict=True):
        assert (one.config, one.state, one.source) == (trial.config, trial.state, "old")
        assert one.scores == tuple(row.rung_score for row in trial.metrics)
        assert one.value == (trial.outcome.value if trial.outcome and trial.state == State.COMPLETE else None)


def test_what_is_taken_over_is_settled_when_the_study_is_filed(place: Place) -> None:
    with closing(searched(place, "old").database):
        first = filed(place, new_spec())
    with closing(searched(place, "older").database):
        assert filed(place, new_spec()) == first
        assert [one.name for one in filed(place, new_spec("newer"))[1]] == ["old", "older"]


def test_the_nearest_study_comes_first(place: Place) -> None:
    for name, epochs in (("a", 12), ("b", 4), ("c", 6)):
        searched(place, name, epochs=epochs, budget={"trials": 2}).database.close()
    assert [one.name for one in filed(place, new_spec())[1]] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("tables", "names"),
    [
        ({}, ["old"]),
        ({"prior": "auto"}, ["old"]),
        ({"prior": "none"}, []),
        ({"prior": "wide"}, ["wide"]),  # the one that is named, whatever it is of
        ({"strategy": "sampler"}, []),
    ],
)
def test_prior_says_of_whom_trials_are_taken_over(tables: dict[str, Any], names: list[str], place: Place) -> None:
    searched(place, "old").database.close()
    searched(place, "wide", model={"hidden": [2048]}).database.close()
    assert [one.name for one in filed(place, new_spec(**tables))[1]] == names


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("oldd", UnknownNameError, "prior = 'oldd': there is no such study in .* .did you mean 'old'"),
        ("lossy", UsageError, "was searched for loss .minimize., and its scores say nothing of accuracy .maximize."),
        ("new", UsageError, "is the study itself"),
    ],
)
def test_a_prior_that_is_none_is_refused_before_anything_is_filed(
    name: str, error: type[Exception], why: str, place: Place
) -> None:
    searched(place, "old", budget={"trials": 1}).database.close()
    searched(place, "lossy", budget={"trials": 1}, objective={"metric": "loss"}).database.close()
    with pytest.raises(error, match=why):
        filing.check(new_spec(prior=name), place)
    with pytest.raises(error, match=why):
        filing.file_study(new_spec(prior=name), place, explicit_budget=True)


def test_a_prior_is_named_where_there_is_no_database_yet(place: Place) -> None:
    with pytest.raises(UnknownNameError, match="holds none yet"):
        filing.check(new_spec(prior="old"), place)


def test_trainings_of_a_confirmation_are_no_prior(place: Place) -> None:
    old = searched(place, "old", budget={"trials": 4})
    confirmations.file(old, to_confirm.plan_of(old, 2, 2, None))
    engine = FakeEngine(learning, facts=old.spec.facts)
    for _ in run.Session(old, engine, filing.artifacts_of(old)).attend(only_confirm=True):
        pass
    with closing(old.database):
        assert [trial for trial in old.trials(*Role) if trial.role == Role.CONFIRM]
    assert filed(place, new_spec())[1] == (known.KnownSource("prior", "old", 4),)


def test_of_too_many_trials_those_that_say_most_are_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(searched(place, "old", budget={"trials": 30}).database) as database:
        trials = studies.get(database, "old").trials()
    monkeypatch.setattr(prior, "MOST", 9)
    complete = [trial for trial in trials if trial.state == State.COMPLETE]
    taken, _ = filed(place, new_spec())
    assert len(taken) == 9
    assert sum(one.state == State.COMPLETE for one in taken) == min(9, len(complete))
    chosen = prior.informing(new_spec(), new_spec("old"), trials, len(complete) + 2)
    assert [number for number, _ in chosen] == sorted(number for number, _ in chosen)
    pruned = [len(one.scores) for _, one in chosen if one.state == State.PRUNED]
    longest = sorted((len(trial.metrics) for trial in trials if trial.state == State.PRUNED), reverse=True)
    assert sorted(pruned, reverse=True) == longest[: len(pruned)]


def test_of_an_optimizer_that_is_not_searched_nothing_is_taken_over(place: Place) -> None:
    searched(place, "old").database.close()
    taken, _ = filed(place, new_spec(space={"optimizer": "adamw"}))
    assert {one.config.optimizer.name for one in taken} == {"adamw"}


def test_a_study_that_says_what_holds_anyhow_is_the_same() -> None:
    assert new_spec(prior="auto").identity() == new_spec().identity()
    assert new_spec(prior="none").identity() != new_spec().identity()


def test_a_prior_is_for_the_strategy_that_looks_at_it() -> None:
    with pytest.raises(UsageError, match="prior is for strategy = 'lr'"):
        make_spec(prior="old")


def test_status_says_whence_a_study_knows_something(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    searched(place, "old").database.close()
    filed(place, new_spec())
    storage = ["--storage", str(place)]
    assert cli.run(["status", "new", "--json", *storage]) == 0
    assert json.loads(capsys.readouterr().out)["known"] == [{"kind": "prior", "name": "old", "n": 12}]
    assert cli.run(["status", "new", *storage]) == 0
    assert "12 trials of the study 'old'" in capsys.readouterr().out
    assert cli.run(["status", "old", *storage]) == 0
    assert "known" not in capsys.readouterr().out

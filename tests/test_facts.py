"""What a study's images are is measured once, filed with it, and read there; other images are refused."""

from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import FACTS, FakeEngine, learning, make_spec, on_both

from lrsearch import run
from lrsearch.errors import DataError
from lrsearch.spec.datasets import DATASETS
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts
from lrsearch.store.storage import Database
from lrsearch.training import data
from lrsearch.training.data import DataConfig


def test_the_facts_of_images_are_counted_from_the_images() -> None:
    splits = data.load(DataConfig("digits", limit=300, validation_fraction=0.3))
    facts = splits.facts()
    assert (facts.n_train, facts.n_validation, facts.n_test) == (210, 90, 797)
    assert (facts.shape, facts.classes) == ((1, 28, 28), tuple("0123456789"))
    assert facts.validation_counts == tuple(torch.bincount(splits.validation.labels, minlength=10).tolist())
    assert facts.test_counts == tuple(torch.bincount(splits.test.labels, minlength=10).tolist())
    assert (facts.mean, facts.std) == (splits.mean, splits.std)


def test_the_fingerprint_tells_any_change_of_any_image_or_label() -> None:
    splits = data.load(DataConfig("digits", limit=300))
    again = data.load(DataConfig("digits", limit=300))
    assert splits.facts().fingerprint == again.facts().fingerprint
    for name, part in product(("train", "validation", "test"), ("images", "labels")):
        of = getattr(again, name)
        changed = getattr(of, part).clone()
        changed.view(-1)[-1] += 1
        other = replace(again, **{name: replace(of, **{part: changed})})
        assert other.facts().fingerprint != splits.facts().fingerprint, (name, part)


@pytest.mark.parametrize("name", ["digits"])
def test_what_is_expected_of_a_data_set_is_what_it_is(name: str) -> None:
    spec, facts = make_spec(dataset={"name": name}), data.load(DataConfig(name)).facts()
    expected = spec.facts
    assert not expected.fingerprint
    assert (expected.n_train, expected.n_validation, expected.n_test) == (
        facts.n_train,
        facts.n_validation,
        facts.n_test,
    )
    assert (expected.shape, expected.classes) == (facts.shape, facts.classes)
    assert DATASETS[name].n_pool == facts.n_train + facts.n_validation


@on_both
def test_the_first_worker_files_the_facts_and_everybody_reads_them(database: Database, tmp_path: Path) -> None:
    spec = make_spec(budget={"trials": 1})
    filed = filing.create(database, spec)
    assert filed.spec.facts == spec.dataset.expected
    engine = FakeEngine(learning)
    engine.facts = replace(FACTS, n_validation=150, validation_counts=(15,) * 10)
    list(run.Session(filed, engine, Artifacts(str(tmp_path / "kept"))).attend())
    read = studies.get(database, spec.name)
    assert read.spec.facts == engine.facts
    assert read.spec.identity_hash() == spec.identity_hash()
    assert read.spec.to_json() == spec.to_json(), "facts are no setting"


@on_both
def test_other_images_under_the_same_name_are_refused_in_a_sentence(database: Database, tmp_path: Path) -> None:
    filed = filing.create(database, make_spec(budget={"trials": 2}))
    filed.measured(FACTS)
    other = FakeEngine(learning)
    other.facts = replace(FACTS, n_train=700, fingerprint="f0e1d2c3b4")
    sentence = r"not those that the study .* was filed with \(700 to train on, .* SHA-256 f0e1d2c3 here, 800 to train"
    with (
        pytest.raises(DataError, match=sentence),
        closing(run.Session(studies.get(database, None), other, Artifacts(str(tmp_path / "kept"))).attend()) as events,
    ):
        next(events)
    assert filed.trials() == []


@on_both
def test_of_two_workers_that_measure_at_once_one_files(database: Database) -> None:
    filed = filing.create(database, make_spec())
    first, second = (filed.measured(FACTS) for _ in range(2))
    assert first.spec.facts == second.spec.facts == FACTS


def test_whoever_loads_other_images_for_a_filed_study_is_refused_before_anything_is_trained() -> None:
    spec = make_spec(dataset={"limit": 300})
    measured = data.load(DataConfig("digits", limit=300)).facts()
    here = run.Here("cpu", threads=1, progress=False)
    assert run.prepare(spec.measured(measured), here).facts == measured
    with pytest.raises(DataError, match="not those that the study 'probe' was filed with"):
        run.prepare(spec.measured(replace(measured, fingerprint="another")), here)

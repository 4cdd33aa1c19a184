"""The Python API: keywords, and a study that is searched, found again and gone on with."""

from pathlib import Path
from typing import Any

import pytest
from handed_over import IMAGES, LABELS, PAIR, QUICK
from torch import nn

import lrsearch
from lrsearch import given
from lrsearch.errors import LrsearchError, StudyFileError, UsageError
from lrsearch.trial import State

pytest_plugins = ["handed_over"]


def test_a_study_is_searched_reported_and_found_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = lrsearch.search("digits", **QUICK, storage=tmp_path / "mine.db")
    assert [t.number for t in found.trials] == [0, 1, 2]
    assert found.best is not None
    assert found.best.trial in found.trials
    assert found.best.test_accuracy is not None, "the winner is judged by the test images"
    page = found.report(tmp_path / "report.html")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    again = lrsearch.open_study(storage=tmp_path / "mine.db")
    assert (again.name, again.spec, again.trials) == ("digits", found.spec, found.trials)
    first = found.trials
    more = lrsearch.search("digits", **QUICK | {"trials": 4}, storage=tmp_path / "mine.db")
    assert more.trials[:3] == first
    assert len(more.trials) == 4
    assert capfd.readouterr() == ("", "")
    assert repr(again) == f"lrsearch.open_study('digits', storage='{tmp_path / 'mine.db'}')"


def test_keywords_are_keys_of_the_study_file_or_options_of_run(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("epochs = 5\n[dataset]\nlimit = 200\n")
    found = lrsearch.search(
        tmp_path / "own.toml",
        storage=tmp_path / "mine.db",
        epochs=1,
        trials=1,
        model="cnn",
        pruner="none",
        space={"optimizer": {"sgd": {"peak_lr": lrsearch.log(0.01, 0.1)}}, "batch_size": 32},
        workers={"lease_seconds": 30.0},
        **{"space.warmup_fraction": lrsearch.uniform(0, 0.1)},
        progress=False,
    )
    spec = found.spec
    assert (found.name, spec.epochs, spec.dataset.limit, spec.budget.trials) == ("own", 1, 200, 1)
    assert (spec.model.name, spec.pruner.name, list(spec.space.optimizers)) == ("cnn", "none", ["sgd"])
    assert spec.to_plain()["space"]["optimizer"]["sgd"]["peak_lr"] == {"low": 0.01, "high": 0.1, "log": True}
    assert spec.to_plain()["space"]["warmup_fraction"] == {"low": 0.0, "high": 0.1}
    assert spec.workers.lease_seconds == 30
    assert [t.state for t in found.trials] == [State.COMPLETE]


def test_a_study_goes_on_by_its_name(tmp_path: Path) -> None:
    lrsearch.search("digits", **QUICK, name="mine")
    assert len(lrsearch.search("mine", trials=4, progress=False).trials) == 4


@pytest.mark.parametrize(
    ("study", "settings", "kind", "words"),
    [
        ("digit", {}, StudyFileError, "did you mean 'digits'"),
        ("digits", {"epoch": 3}, StudyFileError, "unknown keyword 'epoch' .did you mean 'epochs'"),
        ("digits", {"trails": 3}, StudyFileError, "did you mean 'trials'"),
        ("digits", {"progres": True}, StudyFileError, "did you mean 'progress'"),
        ("digits", {"trials": 0}, StudyFileError, r"lrsearch.search\(trials=...\): budget.trials: must be .* 1, got 0"),
        ("digits", {"space": {"batch": 3}}, StudyFileError, r"\(space=...\): unknown key .*did you mean 'batch_size'"),
        ("digits", {"model": "mpl"}, StudyFileError, "did you mean 'mlp'"),
        ("digits", {"model": 3}, StudyFileError, "model.name: must be a function or a string that names one, got int"),
        ("digits", {"model": nn.Linear(3, 3)}, StudyFileError, "a function that builds a network, anew for every"),
        (
            "digits",
            {"data": "mnist", "dataset": "digits"},
            StudyFileError,
            "data= and by dataset=|dataset= and by data=",
        ),
        ("digits", {"data": Path("nowhere")}, StudyFileError, "a folder of pictures or a table .*, got nowhere"),
        ("digits", {"data": IMAGES}, StudyFileError, "item 0 of train must be .picture, label., got ndarray"),
        (
            "digits",
            {"data": (IMAGES, LABELS[:3])},
            StudyFileError,
            r"^dataset.name: data: train: labels must be \[60\]",
        ),
        ("digits", {"data": {"train": PAIR, "valid": PAIR}}, StudyFileError, "'valid' .did you mean 'validation'"),
        ("digits", {"validation": PAIR}, StudyFileError, "^validation: .* and data is None"),
        (
            "digits",
            {"data": "folder:x", "test": PAIR},
            StudyFileError,
            "^test: .* and data is 'folder:x': name one place",
        ),
        (
            "digits",
            {"data": {"train": PAIR, "test": PAIR}, "test": PAIR},
            StudyFileError,
            "^test: is given by test= and by 'test' in data",
        ),
        ("digits", {"train": PAIR}, StudyFileError, "^train: must be a training loop .* images to train on are data="),
        ("digits", {"device": "tpu"}, LrsearchError, "tpu"),
        ("digits", {"threads": 0}, UsageError, "^threads must be a whole number from 1, got 0"),
        ("digits", {"storage": 3}, UsageError, "^storage must be a name or a path, got int"),
        (3, {}, UsageError, "^study must be a name or a path, got int"),
        ("digits", {"workers": 0}, UsageError, "^workers must be a whole number from 1, or 'auto', got 0"),
        ("digits", {"workers": "many"}, UsageError, "or 'auto', got 'many'"),
        ("digits", {"workers": 9999}, UsageError, "workers must be at most .*, got 9999"),
    ],
)
def test_what_is_wrong_is_said_as_on_the_command_line(
    study: Any, settings: dict[str, Any], kind: type[LrsearchError], words: str
) -> None:
    with pytest.raises(kind, match=words) as raised:
        lrsearch.search(study, **{"progress": False} | settings)
    assert given.MODULE not in str(raised.value)
    assert [path for path in Path().iterdir() if path.name != "cache"] == []


def test_an_error_names_keywords_and_no_options(tmp_path: Path) -> None:
    lrsearch.search("digits", **QUICK)
    with pytest.raises(LrsearchError, match=r"add name='digits-2' to start a study of its own$"):
        lrsearch.search("digits", **QUICK | {"epochs": 3})
    with pytest.raises(LrsearchError, match="search it with data='mnist'"):
        lrsearch.search("mnist")


def test_schedules_and_ranges_have_names() -> None:
    rates = lrsearch.schedules.curve("cosine", n_steps=1000, peak_lr=0.1, warmup_fraction=0.05)
    assert (rates.shape, rates.max()) == ((1000,), 0.1)
    assert rates[0] == pytest.approx(0.1 / 50)
    for words, family, settings in (
        ("did you mean 'cosine'", "cosin", {}),
        ("has no power", "cosine", {"power": 2.0}),
        ("validation results", "plateau", {}),
        ("must be", "cosine", {"warmup_fraction": 2.0}),
    ):
        with pytest.raises(StudyFileError, match=words):
            lrsearch.schedules.curve(family, 10, **settings)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = lrsearch.serch
    assert {"log", "open_study", "schedules", "search", "uniform"} <= set(lrsearch.__all__)

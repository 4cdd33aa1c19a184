"""The Python API: what a script or a notebook calls."""

from pathlib import Path
from typing import Any

import pytest
from command_line import TORCH_METHODS, run_python

import lrsearch
from lrsearch.errors import LrsearchError, StudyFileError
from lrsearch.trial import State

pytest_plugins = ["command_line"]

QUICK: dict[str, Any] = {"trials": 3, "epochs": 2, "dataset": {"limit": 200}}


def test_a_study_is_searched_reported_and_found_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = lrsearch.search("digits", **QUICK, storage=tmp_path / "mine.db")
    assert [t.number for t in found.trials] == [0, 1, 2]
    assert found.best in found.trials
    assert found.best is not None
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


def test_keywords_are_keys_of_the_study_file_or_options_of_run(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("epochs = 5\n[dataset]\nlimit = 200\n")
    found = lrsearch.search(
        tmp_path / "own.toml",
        storage=tmp_path / "mine.db",
        epochs=1,
        trials=1,
        model="cnn",
        pruner="none",
        space={"optimizer": "sgd", "batch_size": 32},
    )
    spec = found.spec
    assert (found.name, spec.epochs, spec.dataset.limit, spec.budget.trials) == ("own", 1, 200, 1)
    assert (spec.model.name, spec.pruner.name, list(spec.space.optimizers)) == ("cnn", "none", ["sgd"])
    assert [t.state for t in found.trials] == [State.COMPLETE]


@pytest.mark.parametrize(
    ("study", "settings", "kind", "words"),
    [
        ("digit", {}, StudyFileError, "did you mean 'digits'"),
        ("digits", {"epoch": 3}, StudyFileError, "did you mean 'epochs'"),
        ("digits", {"trials": 0}, StudyFileError, "budget.trials"),
        ("digits", {"device": "tpu"}, LrsearchError, "tpu"),
    ],
)
def test_what_is_wrong_is_said_as_on_the_command_line(
    study: str, settings: dict[str, Any], kind: type[LrsearchError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        lrsearch.search(study, **settings)
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_it_works_after_every_module_was_imported_and_leaves_pytorchs_optimizers_alone(tmp_path: Path) -> None:
    code = (
        TORCH_METHODS
        + """
    import importlib, pkgutil
    import lrsearch
    before = methods()
    for module in pkgutil.walk_packages(lrsearch.__path__, "lrsearch."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = lrsearch.search("digits", trials=5, epochs=2)
    print(len(found.trials), len(before) > 3, methods() == before)
    """
    )
    result = run_python(code, tmp_path)
    assert result.out == "5 True True\n", result.err

"""The answer of a study in Python: the best trial, its network, tables, files."""

import logging
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from handed_over import IMAGES, LABELS, ONE, PAIR, QUICK, linear
from ones_own import NET, make_pictures
from PIL import Image

import lrsearch
from lrsearch.cli import app
from lrsearch.errors import DataError, LrsearchError, UsageError
from lrsearch.trial import State

pytest_plugins = ["handed_over", "ones_own"]


def test_the_best_trial_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lrsearch.search("digits", **QUICK)
    best = found.best
    assert best is not None
    assert best.answer.winner == best.trial
    assert (best.score, best.number, best.config) == (best.trial.outcome.value, best.trial.number, best.trial.config)  # type: ignore[union-attr]
    assert best.error == pytest.approx(best.answer.found.validation[0].error)
    said, page = repr(best), best._repr_html_()
    assert said.splitlines()[0] == best.answer.headline
    for name, text in best.answer.facts.items():
        assert f"{name} " in said
        assert text in said
        assert f">{name}<" in page
        assert text in page
    assert "<script" not in page
    assert best.answer.snippet.splitlines()[0] in page
    assert found._repr_html_() == page


def test_a_study_without_a_complete_trial_has_no_best_one_and_says_why() -> None:
    found = lrsearch.search("digits", **QUICK | {"space": {"optimizer": {"sgd": {"peak_lr": 1e6}}}})
    assert {trial.state for trial in found.trials} == {State.DIVERGED}
    assert found.best is None
    assert "every learning rate was too high" in found._repr_html_()
    with pytest.raises(LrsearchError, match="was trained through: there is no best one"):
        found.export("json")


def test_the_network_of_the_best_trial_has_its_weights_and_takes_pictures(pictures: Path) -> None:
    found = lrsearch.search(data=pictures, model="cnn", trials=2, epochs=4, space={"batch_size": 8}, progress=False)
    best = found.best
    assert best is not None
    network = best.model()
    assert not network.training
    assert {p.device.type for p in network.parameters()} == {"cpu"}
    paths = sorted(pictures.glob("*/*.png"))
    inputs = best.inputs(paths)
    assert (inputs.shape, inputs.dtype) == (torch.Size([72, 3, 12, 12]), torch.float32)
    labels = [best.classes[row] for row in network(inputs).argmax(1)]
    right = sum(label == path.parent.name for label, path in zip(labels, paths, strict=True))
    assert right / 72 >= min(best.score, best.test_accuracy or 0) - 0.1
    opened = [Image.open(path) for path in paths[:2]]
    assert torch.equal(best.inputs(opened), inputs[:2])
    assert torch.equal(best.inputs([np.asarray(one) for one in opened]), inputs[:2])
    assert torch.equal(best.inputs(str(paths[0])), inputs[:1])
    with pytest.raises(UsageError, match="inputs: must be a path"):
        best.inputs(np.zeros((3, 3)))
    with pytest.raises(LrsearchError, match=r"cannot be read|no such"):
        best.inputs("nowhere.png")


def test_weights_that_were_not_kept_are_trained_once_more_to_the_same(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("lrsearch"), "propagate", True)  # which the command line switches off
    found = lrsearch.search("digits", **QUICK)
    assert found.best is not None
    kept = found.best.model().state_dict()
    for path in Path("lrsearch.artifacts").rglob("*.safetensors"):
        path.unlink()
    again = lrsearch.open_study().best
    assert again is not None
    trained = again.model().state_dict()
    assert "is trained once more" in caplog.text
    assert kept.keys() == trained.keys()
    assert all(torch.equal(kept[name], trained[name]) for name in kept)


def test_weights_need_the_pictures_and_the_network_of_the_search() -> None:
    first = lrsearch.search(data=PAIR, model=lambda num_classes: linear(num_classes, 1), name="first", **ONE)
    other = (255 - IMAGES, LABELS)
    second = lrsearch.search(data=other, model=lambda num_classes: linear(num_classes, 1), name="second", **ONE)
    for found in (first, second):
        assert found.best is not None
        found.best.model()  # each by what it was handed, though both have the same name
    opened = lrsearch.open_study("first").best
    assert opened is not None
    second.best.model()  # type: ignore[union-attr]
    with pytest.raises(DataError, match="not those that the study 'first' was filed with"):
        opened.model()


def test_trials_are_a_table_of_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lrsearch.search("digits", **QUICK)
    table = found.table()
    assert [*table.index] == [0, 1, 2]
    assert [*table["peak_lr"]] == [trial.config.optimizer.peak_lr for trial in found.trials]
    assert "power" not in table.columns, "no trial has any"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LrsearchError, match=r"needs pandas.*pip install pandas, or take study.trials"):
        found.table()


def test_exports_are_those_of_the_command_line_and_overwrite_nothing_else(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = lrsearch.search("digits", **QUICK)
    capfd.readouterr()
    for to in ("torch", "lightning", "json", "csv"):
        path = found.export(to, tmp_path / f"mine.{to}")  # type: ignore[arg-type]
        assert path.read_text("utf-8") == (app.run(["export", "digits", "--to", to]), capfd.readouterr().out)[1]
    assert found.export("torch") == Path("train-digits.py")
    assert found.export("csv", trial=0) == Path("digits.csv")
    found.export("csv", trial=0)  # the same again
    Path("digits.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"exists and holds something else: .* force=True"):
        found.export("csv")
    found.export("csv", force=True)
    with pytest.raises(LrsearchError, match="there is no trial 9 in the study 'digits', which has trials 0 to 2"):
        found.export("csv", trial=9)
    with pytest.raises(UsageError, match=r"got 'lighting' \(did you mean 'lightning'"):
        found.export("lighting")  # type: ignore[arg-type]
    own = lrsearch.search(data=pictures, **ONE)
    assert own.export() == Path("train-pics-mlp.py")
    assert Path("train-pics-mlp.split.json").is_file()


@pytest.mark.slow
def test_what_the_page_shows_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "notebook.md").read_text("utf-8")
    (block,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    small, n = re.subn("trials=30, epochs=10", "trials=2, epochs=1, progress=False", block)
    assert n == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    make_pictures(tmp_path / "pets")
    (tmp_path / "new").mkdir()
    shutil.copy(tmp_path / "pets" / "red" / "0.png", tmp_path / "new" / "1.png")
    (tmp_path / "net.py").write_text(NET)
    seen: dict[str, object] = {}
    exec(f"from net import build\nimport lrsearch\n{small}", seen)
    assert isinstance(seen["scores"], torch.Tensor)
    assert seen["scores"].shape == (1, 3)
    assert {"pets.html", "train-pets-net.py"} <= {path.name for path in tmp_path.iterdir()}

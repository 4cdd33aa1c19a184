"""A search of one's own pictures with one's own network, by the command line: from a folder to an answer."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import InProcess, one_line
from ones_own import NET

pytest_plugins = ["command_line", "ones_own"]

QUICK = ("--epochs", "2", "--threads", "1", "--set", "space.batch_size=[8,16]", "--set", "pruner=none")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_and_a_network_come_to_an_answer(lrsearch: InProcess, pictures: Path, net: Path) -> None:
    asked = ("run", "--dataset", f"folder:{pictures}", "--model", f"{net}:build", *QUICK)
    done = lrsearch(*asked, "--trials", "3", "--json")
    assert done.code == 0, done.err
    assert "lrsearch: " not in done.err, "there is nothing to mind about these pictures"
    answer = json.loads(done.out)
    assert answer["study"] == "pics-net"
    assert answer["n_validation"] == 12
    assert answer["n_test"] == 15
    more = lrsearch(*asked, "--trials", "4")  # the same command goes on
    assert more.code == 0, more.err
    trials = json.loads(lrsearch("trials", "--json").out)
    assert len(trials["trials"]) == 4


def test_where_pictures_lie_is_no_part_of_a_study_and_what_they_are_is(
    lrsearch: InProcess, pictures: Path, net: Path, tmp_path: Path
) -> None:
    asked = ("run", "--model", f"{net}:build", *QUICK, "--name", "pics")
    assert lrsearch(*asked, "--dataset", f"folder:{pictures}", "--trials", "1").code == 0
    elsewhere = shutil.copytree(pictures, tmp_path / "mounted" / "here")
    moved = lrsearch(*asked, "--dataset", f"folder:{elsewhere}", "--trials", "2")
    assert moved.code == 0, moved.err
    shutil.rmtree(pictures)
    missing = lrsearch("worker", "--study", "pics", "--exit-when-idle")
    assert missing.code != 0
    assert str(pictures) in missing.err
    assert "--data-dir" in missing.err
    found = lrsearch("worker", "--study", "pics", "--exit-when-idle", "--data-dir", str(elsewhere))
    assert found.code == 0, found.err
    (elsewhere / "red" / "0.png").unlink()
    other = lrsearch(*asked, "--dataset", f"folder:{elsewhere}", "--trials", "3")
    assert other.code == 2
    assert "is another one" in other.err
    assert "SHA-256" in other.err
    other = lrsearch("worker", "--study", "pics", "--data-dir", str(elsewhere))
    assert other.code == 1
    assert "not those that the study 'pics' was filed with" in other.err


def test_a_folder_for_published_sets_does_not_hide_ones_own(
    lrsearch: InProcess, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv("LRSEARCH_DATA_DIR", str(tmp_path / "sets"))
    done = lrsearch("run", "--dataset", f"folder:{pictures}", "--model", "mlp", "--trials", "1", *QUICK)
    assert done.code == 0, done.err
    (pictures / "red" / "0.png").write_bytes(b"none")
    done = lrsearch("data", f"folder:{pictures}")
    assert "red/0.png" in done.err
    done = lrsearch("data", "folder:/not/mounted/here")
    assert done.code == 2
    assert "sets must hold a folder for each class" in one_line(done)
    assert "because /not/mounted/here, which the study names, is not on this machine" in done.err


def test_another_file_of_the_network_is_refused(lrsearch: InProcess, pictures: Path, net: Path) -> None:
    asked = ("run", "--dataset", f"folder:{pictures}", "--model", f"{net}:build", *QUICK)
    assert lrsearch(*asked, "--trials", "1").code == 0
    net.write_text(NET.replace("width=6", "width=7"))
    other = lrsearch(*asked, "--trials", "2")
    assert other.code == 2
    assert "model.name (SHA-256)" in other.err
    worker = lrsearch("worker", "--study", "pics-net")
    assert worker.code == 2
    assert "the file of the model" in worker.err


def test_other_weights_to_start_from_are_refused(lrsearch: InProcess, tmp_path: Path) -> None:
    """Of a model that lrsearch brings too."""
    small = ("--model", "cnn", "--epochs", "1", "--threads", "1", "--set", "dataset.limit=200", "--trials", "1")
    assert lrsearch("run", "--name", "first", *small).code == 0
    assert lrsearch("train", "first", "-o", "kept").code == 0
    started = lrsearch("run", "--name", "second", *small, "--set", "model.init_from=kept")
    assert started.code == 0, started.err
    assert lrsearch("train", "first", "-o", "kept", "--force", "--seed", "5").code == 0
    again = lrsearch("run", "--name", "second", *small, "--set", "model.init_from=kept")
    assert again.code == 2
    assert "model.weights (SHA-256)" in again.err
    worker = lrsearch("worker", "--study", "second")
    assert worker.code == 2
    assert "the file of the model's weights here is not that" in worker.err


def test_layer_wise_rates_are_searched_where_they_are_asked_for(lrsearch: InProcess, pictures: Path, net: Path) -> None:
    done = lrsearch(
        *("run", "--dataset", f"folder:{pictures}", "--model", f"{net}:build", *QUICK, "--trials", "2"),
        *("--set", "space.stem_ratio={low=0.01, high=1.0, log=true}", "--json"),
    )
    assert done.code == 0, done.err
    trials = json.loads(lrsearch("trials", "--json").out)["trials"]
    assert all(0.01 <= trial["params"]["stem_ratio"] <= 1 for trial in trials)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("space.stem_ratio=0.1", "space.layer_decay=0.9"), "stem_ratio and layer_decay both"),
        (("model.weights=a.pth", "model.init_from=b.pth"), "weights and init_from both"),
        (("model.hidden=[3]",), "hidden is for mlp, cnn"),
        (("dataset.scaling=weights",), "normalises as those did that made the model's weights, and none are named"),
        (("model.loss=loss",), "loss must be 'FILE.py:FUNCTION'"),
        (("space.stem_ratio=0",), "must be from above 0 to 1, got 0"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_picture_is_read(
    lrsearch: InProcess, cache: Path, net: Path, settings: tuple[str, ...], words: str
) -> None:
    sets = [word for one in settings for word in ("--set", one)]
    done = lrsearch("run", "--dataset", "folder:pics", "--model", f"{net}:build", *sets)
    assert done.code == 2
    assert words in done.err
    assert not cache.exists()


def test_keys_of_ones_own_pictures_are_refused_for_a_published_set(lrsearch: InProcess) -> None:
    done = lrsearch("run", "--set", "dataset.group=parent")
    assert done.code == 2
    assert "group is for pictures of your own" in done.err


def test_a_batch_that_fits_is_chosen_and_one_that_was_asked_for_is_refused(
    lrsearch: InProcess, pictures: Path, net: Path
) -> None:
    asked = ("run", "--dataset", f"folder:{pictures}", "--model", f"{net}:build", "--epochs", "1", "--threads", "1")
    dry = lrsearch(*asked, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert json.loads(dry.out)["spec"]["space"]["batch_size"] == [16, 32]
    assert "at most the 45 training images" in dry.err
    assert "goes on with 16, 32" in dry.err
    refused = lrsearch(*asked, "--set", "space.batch_size=[64, 128]", "--trials", "1")
    assert refused.code == 2
    assert "at most the 45 training images" in refused.err
    assert "--set space.batch_size=11" in refused.err


def test_nothing_is_written_when_the_network_is_refused(lrsearch: InProcess, pictures: Path, net: Path) -> None:
    net.write_text("def build(num_classes):\n    return [][1]\n")
    done = lrsearch("run", "--dataset", f"folder:{pictures}", "--model", f"{net}:build", "--trials", "1")
    assert done.code == 2
    assert f"IndexError: list index out of range ({net}, line 2)" in done.err
    assert not Path("lrsearch.db").exists()

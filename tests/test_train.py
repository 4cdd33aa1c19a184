"""`lrsearch train`: the right weights, whatever happened on the way, and never two trainings in one folder."""

import json
import os
import re
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from command_line import InProcess, Result, Running, at_a_terminal, contents, end_of, one_line, run_process, run_python

from lrsearch.retrain import run as retrain
from lrsearch.retrain.folder import TrainingFolder
from lrsearch.retrain.record import Progress
from lrsearch.spec.study import WorkersSpec
from lrsearch.store import study as studies
from lrsearch.store.keeper import Leave
from lrsearch.store.places import parse_place
from lrsearch.store.storage import open_existing
from lrsearch.training import data
from lrsearch.trial import Reason

pytest_plugins = ["command_line"]

ROOT = Path(__file__).parents[1]
N_EPOCHS = 2
RUN = ("run", "--trials", "4", "--epochs", str(N_EPOCHS), "--set", "workers.checkpoint_seconds=0.05", "--quiet")
LONG = ("train", "--trial", "0", "--epochs", "60")
ALL_IMAGES = 1000


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real study, which nobody writes to; its workers keep their state every .05 s."""
    folder = tmp_path_factory.mktemp("study")
    result = run_process(RUN, folder)
    assert result.code == 0, result.err
    return folder


@pytest.fixture
def here(study: Path, tmp_path: Path) -> Path:
    """The folder that commands run in, with a copy of that study."""
    shutil.copy(study / "lrsearch.db", tmp_path)
    return tmp_path


def trained(lrsearch: InProcess, *argv: str) -> dict[str, Any]:
    """Train and return what ``model.json`` holds."""
    result = lrsearch("train", *argv, "--quiet", "--json")
    assert result.code == 0, result.err
    assert result.document["schema"] == "lrsearch/train/1"
    model: dict[str, Any] = result.document["model"]
    return model


def blocked(lrsearch: InProcess, folder: Path, *argv: str) -> Result:
    """Train up to the last update, as far as the checkpoint there, and fail to write the weights."""
    blocker = folder / "weights.safetensors.part"
    blocker.mkdir(parents=True)
    failed = lrsearch("train", *argv, "--trial", "0", "-o", folder.name, "--quiet")
    assert failed.code == 4
    blocker.rmdir()
    assert names(folder) == {"checkpoint"}
    return failed


def model_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what is trained -------------------------------------------------------------------------------------------------


def test_as_searched_every_trial_ends_with_the_weights_of_the_search(lrsearch: InProcess, here: Path) -> None:
    before = contents(here)
    trials = lrsearch("trials", "--json").document["trials"]
    assert {trial["state"] for trial in trials} == {"complete", "pruned"}
    # A trial that was pruned may be one that dies later.
    dies = [
        t["number"]
        for t in trials
        if "same answer"
        in lrsearch("train", "--trial", str(t["number"]), "--on", "train", "-o", f"out/d{t['number']}", "--quiet").err
    ]
    assert len(dies) == 1
    for trial in trials:
        if trial["number"] in dies:
            assert trial["state"] == "pruned"
            continue
        model = trained(lrsearch, "--trial", str(trial["number"]), "--on", "train", "-o", f"out/{trial['number']}")
        assert model["search"]["equal"]
        assert (model["n_images"], model["n_validation"]) == (800, 200)
        assert len(model["epochs"]) == N_EPOCHS
        if trial["state"] == "complete":
            assert model["weights_sha256"] == model["search"]["weights_sha256"] == trial["weights_sha256"]
            last = trial["metrics"][-1]
            assert {key: model["epochs"][-1][key] for key in ("val_accuracy", "val_loss")} == {
                key: last[key] for key in ("val_accuracy", "val_loss")
            }
        if trial["test_accuracy"] is not None:
            assert (model["test"]["accuracy"], model["test"]["loss"]) == (trial["test_accuracy"], trial["test_loss"])
    assert any(trial["test_accuracy"] for trial in trials)
    shutil.rmtree(here / "out")
    assert contents(here) == before, "the study is only read"


def test_another_seed_is_not_compared_with_the_search_and_other_weights_are_said_to_be_others(
    lrsearch: InProcess, here: Path
) -> None:
    assert "search" not in trained(lrsearch, "--trial", "0", "--on", "train", "--seed", "5", "-o", "a")
    other = "UPDATE lrsearch_slots SET weights_sha256 = 'another' WHERE number = 0"
    run_python(f"import sqlite3; c = sqlite3.connect('lrsearch.db'); c.execute({other!r}); c.commit()", here)
    result = lrsearch("train", "--trial", "0", "--on", "train", "-o", "b")
    assert result.code == 0
    assert "not equal to the search in its 2 epochs and its weights, which ran on cpu (1 thread)" in result.out


def test_by_default_all_images_are_trained_on_and_nothing_is_said_of_validation(
    lrsearch: InProcess, here: Path
) -> None:
    result = lrsearch("train", "--trial", "0")
    assert result.code == 0, result.err
    model = model_in(here / "digits-trial-0")
    batch = model["order"]["config"]["batch_size"]
    assert (model["n_images"], model["n_validation"]) == (ALL_IMAGES, 0)
    assert model["n_steps"] == model["epochs"][-1]["step"] == N_EPOCHS * -(-ALL_IMAGES // batch)
    assert set(model["epochs"][0]) == {"epoch", "step", "lr", "train_loss", "seconds"}
    said = (result.err + result.out).replace("training and validation images", "")
    assert not re.search(r"\bval|nan", said)
    assert len(re.findall(r"^\S+s \. epoch \d/2 train_loss=\S+ lr=\S+$", result.err, re.MULTILINE)) == N_EPOCHS
    assert re.search(r"test +accuracy 0\.\d{3} ± 0\.\d+, loss \S+ on 797 untouched images", result.out)
    assert result.out.count("\n") <= 8


def test_together_are_all_images_once_scaled_as_in_the_search() -> None:
    splits = data.load(data.DataConfig("digits"))
    both = splits.together()
    n = len(splits.train.labels)
    assert len(both.train.labels) == ALL_IMAGES
    assert torch.equal(both.train.images[:n], splits.train.images)
    assert torch.equal(both.train.images[n:], splits.validation.images)
    assert torch.equal(both.train.labels[n:], splits.validation.labels)
    assert len(both.validation.images) == len(both.validation.labels) == 0
    assert (both.mean, both.std) == (splits.mean, splits.std)


def test_the_example_of_the_page_loads_the_weights(lrsearch: InProcess, here: Path) -> None:
    page = (ROOT / "docs" / "train.md").read_text("utf-8")
    (example,) = re.findall(r"^```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    trained(lrsearch, "--trial", "0")
    space: dict[str, Any] = {}
    exec(example, space)
    model, about = space["model"], space["about"]
    splits = data.load(data.DataConfig("digits"))
    mean, std = (torch.tensor(about["normalization"][key]).view(-1, 1, 1) for key in ("mean", "std"))
    right = model((splits.test.images / 255 - mean) / std).argmax(1) == splits.test.labels
    assert right.double().mean().item() == about["test"]["accuracy"]


def test_the_files_say_what_they_are(lrsearch: InProcess, here: Path) -> None:
    model = trained(lrsearch, "--trial", "best", "-o", "out")
    best = lrsearch("best", "--json").document["winner"]
    assert (model["schema"], model["order"]["trial"]) == ("lrsearch/model/1", best["number"])
    assert model["order"]["config"] == best["config"]
    assert model["schedule"] == best["schedule"]
    assert (model["model"], model["hidden"], model["input_shape"]) == ("mlp", [128], [1, 28, 28])
    assert model["classes"] == list("0123456789")
    with safetensors.safe_open(here / "out" / "weights.safetensors", "pt") as file:
        about = json.loads(file.metadata()["lrsearch"])
    assert about["sha256"] == model["weights_sha256"]
    expected = {"study": "digits", "trial": best["number"], "model": "mlp", "on": "train+validation"}
    assert about.items() >= (expected | {"torch": torch.__version__}).items()
    assert names(here / "out") == {"weights.safetensors", "model.json"}


# --- interrupted -----------------------------------------------------------------------------------------------------


def test_interrupted_and_killed_it_ends_with_the_weights_of_a_training_that_was_not(
    lrsearch: InProcess, here: Path
) -> None:
    folder, begun = here / "digits-trial-0", 0
    for epoch, number, code in ((8, signal.SIGINT, 130), (20, signal.SIGTERM, 143), (40, signal.SIGKILL, -9)):
        process = Running(LONG, here)
        assert process.wait_for(
            lambda p, at=epoch: int((re.findall(r"epoch (\d+)/", p.read("stderr")) or [0])[-1]) >= at
        )
        process.send(number)
        result = process.result()
        assert result.code == code, result.err
        assert "Traceback" not in result.err
        if number != signal.SIGKILL:
            assert re.search(
                r"^lrsearch: interrupted at step \d+ of \d+; the same command goes on from there\n\Z",
                result.err,
                re.MULTILINE,
            )
        assert "checkpoint" in names(folder)
        assert not names(folder) & {"model.json", "weights.safetensors"}
        came_from = re.search(r"goes on from step (\d+)", result.err)
        assert int(came_from[1] if came_from else 0) >= begun
        begun += came_from is not None
    assert begun == 2, "the second and the third went on"
    result = lrsearch(*LONG)
    assert result.code == 0, result.err
    came_from = re.search(r"goes on from step (\d+)", result.err)
    assert came_from is not None
    model = model_in(folder)
    assert int(came_from[1]) > model["n_steps"] / 3
    assert names(folder) == {"weights.safetensors", "model.json"}
    assert [row["epoch"] for row in model["epochs"]] == list(range(1, 61))

    straight = trained(lrsearch, *LONG[1:], "-o", "straight")
    assert straight["weights_sha256"] == model["weights_sha256"]
    assert straight["file_sha256"] == model["file_sha256"]
    assert straight["test"] == model["test"]


def test_asked_to_leave_it_stands_still_before_the_next_update(lrsearch: InProcess, here: Path) -> None:
    found = open_existing(parse_place("lrsearch.db"))
    with closing(found):
        study = studies.get(found, None)
        job = retrain.job(study, study.trials()[0], "train")
    # The state is due in a minute: nothing but the request lets it stand still.
    patient = job.spec.model_copy(update={"workers": WorkersSpec()})
    engine = retrain.prepare(job, device="cpu", threads=1, data_dir=None, progress=False)
    leave, folder = Leave(), TrainingFolder(here / "out")
    with folder.locked():
        events = retrain.train(replace(job, spec=patient), engine, folder, leave, Progress(job.order), None)
        begun = next(events)
        leave.ask(Reason.INTERRUPTED)
        with pytest.raises(StopIteration) as end:
            next(events)
    assert isinstance(begun, retrain.Begun)
    assert end.value.value is None
    assert begun.training.step == 0
    assert names(here / "out") == {"checkpoint"}


def test_two_processes_do_not_train_into_one_folder(lrsearch: InProcess, here: Path) -> None:
    process = Running(("train", "--trial", "0", "--epochs", "100000", "-o", "out"), here)
    assert process.wait_for(lambda p: "epoch 2/" in p.read("stderr"))
    refused = lrsearch("train", "--trial", "0", "--epochs", "100000", "-o", "out")
    forced = lrsearch("train", "--trial", "0", "--epochs", "100000", "-o", "out", "--force")
    process.send(signal.SIGINT)
    assert process.result().code == 130
    assert (refused.code, forced.code) == (2, 2)
    assert "another process trains into out: wait for it" in one_line(refused)
    assert names(here / "out") == {"checkpoint"}


def test_what_cannot_be_written_at_the_end_is_not_trained_again(lrsearch: InProcess, here: Path) -> None:
    failed = blocked(lrsearch, here / "out")
    assert "out must be a folder that can be written, and it cannot: Is a directory" in one_line(failed)
    result = lrsearch("train", "--trial", "0", "-o", "out")
    assert result.code == 0
    n_steps = model_in(here / "out")["n_steps"]
    assert f"goes on from step {n_steps}\n" in result.err
    assert ". epoch" not in result.err


def test_a_bar_is_shown_on_a_terminal_and_ctrl_c_restores_it(here: Path) -> None:
    child = at_a_terminal(["train", "--epochs", "100000"], here)
    child.expect(r"epoch \d+/100000")
    child.expect(r"\d+/\d+\S* train_loss \S+  lr \S+")
    child.sendintr()
    result = end_of(child)
    assert result.code == 130
    assert "Traceback" not in result.out
    assert result.out.rfind("\x1b[?25h") > result.out.rfind("\x1b[?25l"), "the cursor is shown again"
    number = re.search(r"with --trial (\d)", result.out)
    assert number is not None, "best may be another one by then"
    assert names(here / f"digits-trial-{number[1]}") == {"checkpoint"}


def test_ctrl_c_while_pytorch_is_loaded_leaves_nothing(here: Path) -> None:
    process = Running(("train",), here, cold=True)
    assert process.wait_for(lambda p: p.has_loaded("libtorch_cpu"))
    process.send(signal.SIGINT)
    result = process.result()
    assert result.code == 130
    assert one_line(result) == "lrsearch: interrupted before anything was trained; the same command goes on\n"
    assert not list(here.glob("digits-*"))


# --- what is in the folder already -----------------------------------------------------------------------------------


def test_a_finished_folder_prints_its_result_again_and_is_trained_anew_by_force(
    lrsearch: InProcess, here: Path
) -> None:
    first = lrsearch("train", "--trial", "0")
    kept = contents(here)
    again = lrsearch("train", "--trial", "0")
    assert (again.code, again.out) == (0, first.out)
    assert one_line(again) == "lrsearch: the training in digits-trial-0 is finished; --force trains anew in its place\n"
    assert contents(here) == kept
    assert lrsearch("train", "--trial", "0", "--json").document["already_finished"]
    forced = lrsearch("train", "--trial", "0", "--seed", "3", "--force")
    assert forced.code == 0
    assert model_in(here / "digits-trial-0")["order"]["config"]["seed"] == 3


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--trial", "1"), "trial is 0 there and 1 here"),
        (("--seed", "7"), "config.seed is 0 there and 7 here"),
        (("--epochs", "5"), "config.epochs is 2 there and 5 here"),
        (("--on", "train"), "on is train+validation there and train here"),
        (("other",), "study is digits there and other here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_folder_with_another_training_is_refused_with_the_difference(
    lrsearch: InProcess, here: Path, argv: tuple[str, ...], said: str
) -> None:
    trained(lrsearch, "digits", "--trial", "0", "-o", "finished")
    if "other" in argv:
        assert lrsearch("run", "--name", "other", *RUN[1:]).code == 0
    blocked(lrsearch, here / "begun", "digits")
    for folder in ("finished", "begun"):
        kept = contents(here / folder)
        study = () if "other" in argv else ("digits",)
        refused = lrsearch("train", *study, *(("--trial", "0") if "--trial" not in argv else ()), *argv, "-o", folder)
        assert refused.code == 2
        assert f"{folder} holds another training: " in one_line(refused)
        assert said in refused.err
        assert contents(here / folder) == kept


def test_a_study_that_was_renamed_is_the_same_one(lrsearch: InProcess, here: Path) -> None:
    trained(lrsearch, "--trial", "0", "-o", "out")
    rename = "UPDATE studies SET study_name = 'renamed'"
    run_python(f"import sqlite3; c = sqlite3.connect('lrsearch.db'); c.execute({rename!r}); c.commit()", here)
    assert lrsearch("train", "renamed", "--trial", "0", "-o", "out", "--json").document["already_finished"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "nonsense", "another schema"])
def test_a_damaged_file_is_refused_in_one_sentence_and_mended_by_force(
    lrsearch: InProcess, here: Path, how: str
) -> None:
    folder = here / "out"
    trained(lrsearch, "--trial", "0", "-o", "out")
    blocked(lrsearch, here / "begun")
    whole = {path.name: path.read_bytes() for path in (*folder.iterdir(), here / "begun" / "checkpoint")}
    for name, content in whole.items():
        shutil.rmtree(folder)
        folder.mkdir()
        for other in (name,) if name == "checkpoint" else ("weights.safetensors", "model.json"):
            (folder / other).write_bytes(whole[other])
        broken = folder / name
        match how:
            case "flipped" if name != "model.json":  # there it may be a digit of a number
                flip(broken)
            case "cut":
                broken.write_bytes(content[: len(content) // 2])
            case "empty":
                broken.write_bytes(b"")
            case _:
                broken.write_bytes(b'{"schema": "another/1"}')
        refused = lrsearch("train", "--trial", "0", "-o", "out")
        assert refused.code == 1, name
        assert f"{name} must be a whole file that lrsearch wrote, and it is damaged" in one_line(refused)
    assert lrsearch("train", "--trial", "0", "-o", "out", "--force").code == 0
    assert names(folder) == {"weights.safetensors", "model.json"}


def test_weights_of_which_nothing_is_known_are_not_written_over(lrsearch: InProcess, here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "weights.safetensors").write_bytes(b"precious")
    refused = lrsearch("train", "--trial", "0", "-o", "out")
    assert refused.code == 2
    assert "nothing beside it says what it is" in one_line(refused)
    assert contents(here / "out")["weights.safetensors"][0] == len(b"precious")
    assert names(here / "out") == {"weights.safetensors"}


# --- what cannot be trained ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("--trial", "99"), 2, "there is no trial 99"),
        (("--trial", "worst"), 2, "--trial takes best or the number"),
        (("nosuch",), 2, "there is no study 'nosuch'"),
        (("-o", "lrsearch.db"), 4, "lrsearch.db must be a folder that can be written, and it cannot: it is a file"),
        (("-o", "lrsearch.db/x"), 4, "lrsearch.db/x must be a folder that can be written"),
        (("--on", "test"), 2, "--on must be one of train+validation, train"),
        (("--seed", "-1"), 2, "--seed must be a whole number"),
        (("--epochs", "0"), 2, "--epochs must be a whole number of at least 1"),
        (("--device", "abacus"), 5, "the device 'abacus'"),
        (("--storage", "none.db"), 4, "none.db"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    lrsearch: InProcess, here: Path, argv: tuple[str, ...], code: int, said: str
) -> None:
    before = contents(here)
    result = lrsearch("train", *argv)
    assert result.code == code, result.err
    assert said in one_line(result)
    assert contents(here) == before


def test_without_a_complete_trial_there_is_no_best_one(lrsearch: InProcess, tmp_path: Path) -> None:
    assert lrsearch("run", "--detach").code == 0
    result = lrsearch("train")
    assert result.code == 3
    assert "was trained through: there is no best one" in one_line(result)


def test_plateau_needs_images_to_validate_on(lrsearch: InProcess, tmp_path: Path) -> None:
    small = ("run", "--trials", "1", "--epochs", "3", "--set", "sampler.portfolio=false", "--quiet")
    assert lrsearch(*small, "--set", "space.schedule=plateau").code == 0
    refused = lrsearch("train")
    assert refused.code == 2
    assert one_line(refused).endswith("follows the validation loss and needs images to validate on: add --on train\n")
    assert not list(tmp_path.glob("digits-*"))
    assert trained(lrsearch, "--on", "train")["search"]["equal"]


@pytest.mark.parametrize("watch", ["true", "false"])
def test_a_training_that_diverges_says_so_and_keeps_nothing(lrsearch: InProcess, tmp_path: Path, watch: str) -> None:
    wide = ("--set", "space.optimizer.sgd.peak_lr={low = 0.001, high = 1e6, log = true}", "--trials", "1", "--quiet")
    asked = ("--set", f"training.divergence_watch={watch}", "--baseline", "sgd lr=1e5 constant")
    assert lrsearch("run", "--epochs", "2", *wide, *asked).code == 3
    for argv in ((), ("--on", "train")):
        result = lrsearch("train", "--trial", "0", "--quiet", *argv)
        assert result.code == 1
        assert re.match(r"lrsearch: the training diverged at .*, as it did in the search: nothing is kept", result.err)
        one_line(result)
        assert not list(tmp_path.glob("digits-*"))
    said = lrsearch("train", "--trial", "0").err.splitlines()
    assert re.search(r"> trial 0 of digits \(diverged (at|in) ", said[0])


def test_what_can_be_said_without_pytorch_does_not_wait_for_it(lrsearch: InProcess, here: Path) -> None:
    trained(lrsearch, "--trial", "0")
    commands = [["--trial", "0"], ["--trial", "0", "--seed", "1"], ["--trial", "9"], ["-o", "lrsearch.db"]]
    code = f"""
        import sys
        from lrsearch.cli.app import run
        codes = [run(["train", *argv]) for argv in {commands!r}]
        print(codes, "torch" in sys.modules)
    """
    result: Result = run_python(code, here)
    assert result.out.splitlines()[-1] == "[0, 2, 2, 4] False", result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(lrsearch: InProcess, here: Path) -> None:
    (here / "closed").mkdir(mode=0o500)
    result = lrsearch("train", "-o", "closed/out")
    assert result.code == 4
    assert "closed/out must be a folder that can be written" in one_line(result)

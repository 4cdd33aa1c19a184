"""`lrsearch log --to ...`: every trial as a run of another tracker, read back with that tracker's own readers."""

import csv
import io
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Finished, InProcess, one_line, run_process, run_python
from trials_by_hand import spec, trial

from lrsearch.errors import UsageError
from lrsearch.report.plain import SCORES
from lrsearch.report.records_csv import epochs_csv
from lrsearch.report.records_mlflow import tracking_uri, write_mlflow
from lrsearch.report.records_tensorboard import write_tensorboard
from lrsearch.report.run_record import RunRecord, run_record
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import open_existing
from lrsearch.trial import ScheduleConfig, State, Trial

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
tracking = pytest.importorskip("mlflow.tracking")

pytest_plugins = ["command_line"]

COSINE = ScheduleConfig("cosine", 0.1, 0.01)
STUDY = spec()


def some() -> list[Trial]:
    judged = replace(trial(0, accuracy=[0.5, 0.8, 0.9], schedule=COSINE), test_accuracy=0.89, test_loss=0.4)
    return [
        judged,
        trial(1, State.PRUNED, [0.3, 0.4]),
        trial(2, State.DIVERGED, 0.1, lr=3.0),
        trial(3, State.FAILED, []),
    ]


def records(trials: Sequence[Trial]) -> list[RunRecord]:
    return [run_record(one, STUDY) for one in trials]


def searched(finished: Finished) -> list[Trial]:
    database = open_existing(parse_place(str(finished.database)), to_read=True)
    try:
        return studies.get(database, "digits").trials()
    finally:
        database.close()


def tags(folder: Path) -> Any:
    found = accumulators.EventAccumulator(str(folder))
    found.Reload()
    return found


# A trial as a run


def test_a_run_has_the_setting_every_epoch_and_the_outcome() -> None:
    first, pruned, diverged, failed = records(some())
    assert (first.name, first.parameters["peak_lr"], first.parameters["schedule"]) == ("trial 0", 0.1, "cosine")
    assert (first.parameters["dataset"], first.parameters["model"], first.parameters["epochs"]) == ("digits", "mlp", 10)
    assert [row.values["val/accuracy"] for row in first.epochs] == [0.5, 0.8, 0.9]
    assert {"lr", "train/loss", "val/loss", "val/accuracy", "seconds"} <= set(first.epochs[0].values)
    assert first.results == {"objective": 0.9, "test/accuracy": 0.89, "test/loss": 0.4}
    assert (pruned.about["state"], pruned.about["reason"]) == ("pruned", "rung")
    assert diverged.about["message"] == "diverged by hand"
    assert failed.results == {}
    assert failed.epochs == ()


def test_the_time_of_an_epoch_is_the_start_and_what_was_trained() -> None:
    (first, *_) = records(some())
    assert [row.at - first.started for row in first.epochs] == pytest.approx([0.1, 0.2, 0.3])


def test_milestones_are_a_parameter_that_can_be_read() -> None:
    schedule = ScheduleConfig("multistep", final_fraction=0.01, milestones=(0.5, 0.75))
    assert run_record(trial(0, schedule=schedule), STUDY).parameters["milestones"] == "0.5, 0.75"


# CSV


def test_the_file_of_epochs_has_a_row_for_every_epoch_with_all_digits() -> None:
    trials = some()
    rows = list(csv.DictReader(io.StringIO(epochs_csv(trials))))
    wanted = [(t.number, row) for t in trials for row in t.metrics]
    assert [(int(r["trial"]), int(r["epoch"]), int(r["step"]), float(r["lr"])) for r in rows] == [
        (n, m.epoch, m.step, m.lr) for n, m in wanted
    ]
    for read, (_, measured) in zip(rows, wanted, strict=True):
        for name in SCORES:
            value = getattr(measured, name)
            assert read[name] == ("" if value is None else repr(value))


def test_csv_is_two_files_that_are_written_anew(lrsearch: InProcess, finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    for _ in range(2):
        result = lrsearch("log", "digits", "--to", "csv")
        assert result.code == 0, result.err
        assert result.err == "wrote 6 trials to digits-csv/trials.csv and digits-csv/epochs.csv\n"
    trials = searched(finished)
    with (tmp_path / "digits-csv" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["peak_lr"]) for row in rows] == [t.config.optimizer.peak_lr for t in trials]
    with (tmp_path / "digits-csv" / "epochs.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(len(t.metrics) for t in trials)
    (tmp_path / "digits-csv" / "epochs.csv").write_text("mine\n1\n")
    refused = lrsearch("log", "digits", "--to", "csv")
    assert "digits-csv/epochs.csv exists and has other columns" in one_line(refused)
    assert lrsearch("log", "digits", "--to", "csv", "--force").code == 0


# TensorBoard


def test_tensorboard_reads_every_number_back(finished: Finished, tmp_path: Path) -> None:
    trials = searched(finished)
    study = spec()
    write_tensorboard(tmp_path, [run_record(one, study) for one in trials])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [f"trial-{i:04d}" for i in range(6)]
    for one in trials:
        found = tags(tmp_path / f"trial-{one.number:04d}")
        for tag, read in (("lr", "lr"), ("val/accuracy", "val_accuracy"), ("train/loss", "train_loss")):
            if not one.metrics:
                continue
            scalars = found.Scalars(tag)
            assert [s.step for s in scalars] == [row.epoch for row in one.metrics]
            wanted = [getattr(row, read) for row in one.metrics]
            assert [s.value for s in scalars] == pytest.approx(wanted, rel=1e-6, nan_ok=True)  # it keeps 32 bits
        if one.state == State.COMPLETE:
            assert one.outcome is not None
            assert found.Scalars("objective")[0].value == pytest.approx(one.outcome.value, rel=1e-6)


def test_tensorboard_has_the_hyperparameters_and_the_outcome(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    write_tensorboard(tmp_path, records(some()))
    found = tags(tmp_path / "trial-0000")
    content = found.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    session = metadata.parse_session_start_info_plugin_data(content)
    assert session.hparams["peak_lr"].number_value == 0.1
    assert session.hparams["optimizer"].string_value == "sgd"
    (text,) = found.Tensors("outcome")
    assert b"state: complete" in text.tensor_proto.string_val[0]
    ends = {}
    for number in range(4):
        about = tags(tmp_path / f"trial-{number:04d}").summary_metadata[metadata.SESSION_END_INFO_TAG]
        ends[number] = metadata.parse_session_end_info_plugin_data(about.plugin_data.content).status
    assert ends == {0: 1, 1: 1, 2: 1, 3: 2}, "pruned and diverged are results, a crash is a failure"
    columns = tags(tmp_path).summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    names = {info.name for info in metadata.parse_experiment_plugin_data(columns).hparam_infos}
    assert {"peak_lr", "schedule", "batch_size"} <= names


def test_what_tensorboard_has_is_written_anew_and_other_files_stay(tmp_path: Path) -> None:
    write_tensorboard(tmp_path, records(some()))
    theirs = tmp_path / "trial-0000" / "events.out.tfevents.1.elsewhere"
    theirs.write_bytes(b"")
    write_tensorboard(tmp_path, records(some()))
    ours = [path for path in (tmp_path / "trial-0000").iterdir() if path.name.endswith(".lrsearch")]
    assert len(ours) == 1
    assert theirs.exists()
    theirs.unlink()
    assert len(tags(tmp_path / "trial-0000").Scalars("lr")) == 3


def test_the_command_says_where_and_how_to_look(lrsearch: InProcess, finished: Finished, tmp_path: Path) -> None:
    result = lrsearch("log", "--to", "tensorboard", "--storage", str(finished.database))
    assert result.code == 0, result.err
    assert result.err == "wrote 6 trials to runs/digits; look at them with: tensorboard --logdir runs/digits\n"
    assert (tmp_path / "runs" / "digits" / "trial-0005").is_dir()


# MLflow


def client(path: Path) -> Any:
    return tracking.MlflowClient(tracking_uri=f"sqlite:///{path}")


def runs(path: Path, study: str = "by-hand") -> dict[int, Any]:
    found = client(path)
    experiment = found.get_experiment_by_name(study)
    return {int(run.data.tags["lrsearch.trial"]): run for run in found.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow with the four trials by hand."""
    path = tmp_path_factory.mktemp("mlflow") / "runs.db"
    assert write_mlflow(str(path), "by-hand", records(some())) == 4
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true", "nobody is told"
    return path


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # MLflow's own


@pytest.mark.slow
def test_mlflow_reads_every_run_back(logged: Path) -> None:
    found = runs(logged)
    assert {n: run.info.status for n, run in found.items()} == {
        0: "FINISHED",
        1: "FINISHED",
        2: "FINISHED",
        3: "FAILED",
    }
    assert {n: run.data.tags["state"] for n, run in found.items()} == {
        0: "complete",
        1: "pruned",
        2: "diverged",
        3: "failed",
    }
    assert found[0].data.params["peak_lr"] == "0.1"
    assert found[0].data.params["schedule"] == "cosine"
    assert found[0].info.run_name == "trial 0"
    history = client(logged).get_metric_history(found[0].info.run_id, "val/accuracy")
    assert sorted((m.step, m.value) for m in history) == [(1, 0.5), (2, 0.8), (3, 0.9)]
    rates = client(logged).get_metric_history(found[0].info.run_id, "lr")
    assert [m.value for m in rates] == [0.1] * 3
    assert found[0].data.metrics["test/accuracy"] == 0.89
    assert found[0].data.tags["message"] == "complete by hand"


@pytest.mark.slow
def test_runs_that_are_there_stay_and_those_that_changed_are_replaced(logged: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    shutil.copy(logged, path)
    assert write_mlflow(str(path), "by-hand", records(some())) == 0
    kept = runs(path)
    longer = [trial(0, accuracy=[0.5, 0.8, 0.9, 0.95], schedule=COSINE), *some()[1:], trial(4)]
    assert write_mlflow(str(path), "by-hand", records(longer)) == 2
    now = runs(path)
    assert sorted(now) == [0, 1, 2, 3, 4]
    assert {n for n in kept if kept[n].info.run_id == now[n].info.run_id} == {1, 2, 3}
    assert now[0].data.metrics["val/accuracy"] == 0.95


def broken() -> Trial:
    made = trial(0, State.DIVERGED, [0.3])
    return replace(made, metrics=(replace(made.metrics[0], train_loss=math.nan, val_loss=math.inf),))


@pytest.mark.slow
def test_mlflow_keeps_a_loss_that_is_no_number(logged: Path, tmp_path: Path) -> None:
    shutil.copy(logged, tmp_path / "m.db")
    write_mlflow(str(tmp_path / "m.db"), "broken", records([broken()]))
    (run,) = runs(tmp_path / "m.db", "broken").values()
    (loss,) = client(tmp_path / "m.db").get_metric_history(run.info.run_id, "train/loss")
    assert math.isnan(loss.value)


def test_tensorboard_keeps_a_loss_that_is_no_number(tmp_path: Path) -> None:
    write_tensorboard(tmp_path / "tb", records([broken()]))
    assert math.isnan(tags(tmp_path / "tb" / "trial-0000").Scalars("train/loss")[0].value)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (".", ". is a folder, in which MLflow keeps runs no longer: name a file, such as mlflow.db"),
        ("nowhere/m.db", "nowhere/m.db cannot be written: there is no folder nowhere"),
        ("http://me:secret@host:5000", "a password on the command line can be read by everybody"),
    ],
)
def test_a_place_that_mlflow_cannot_have_is_refused(where: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        tracking_uri(where)
    assert "secret" not in str(error.value)


def test_an_address_is_taken_as_it_is_and_a_file_is_a_database(tmp_path: Path) -> None:
    assert tracking_uri("http://host:5000") == "http://host:5000"
    assert tracking_uri(str(tmp_path / "m.db")) == f"sqlite:///{tmp_path / 'm.db'}"


@pytest.mark.slow
def test_the_command_fills_a_database_of_mlflow(finished: Finished, tmp_path: Path) -> None:
    for said in ("wrote 6 trials to mlflow.db;", "wrote 0 trials to mlflow.db (6 others there already);"):
        result = run_process(["log", "digits", "--to", "mlflow", "--storage", str(finished.database)], tmp_path)
        assert result.code == 0, result.err
        assert result.err.startswith(said), result.err
        assert result.err.count("\n") == 1, "MLflow's own log is left out"
    found = runs(tmp_path / "mlflow.db", "digits")
    assert {n: float(run.data.params["peak_lr"]) for n, run in found.items()} == {
        t.number: t.config.optimizer.peak_lr for t in searched(finished)
    }


# What is refused, and what is not written


@pytest.mark.parametrize("package", ["tensorboard", "mlflow"])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(
    package: str, finished: Finished, tmp_path: Path
) -> None:
    code = f"""
        import sys
        sys.modules[{package!r}] = None
        from lrsearch.cli.app import run
        sys.exit(run(["log", "--to", {package!r}, "--storage", {str(finished.database)!r}]))
    """
    result = run_python(code, tmp_path)
    assert result.code == 2
    assert f"is not installed: pip install 'lrsearch[{package}]'" in one_line(result)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_the_tracker_must_be_named(lrsearch: InProcess, finished: Finished) -> None:
    said = one_line(lrsearch("log", "digits", "--storage", str(finished.database)))
    assert "log needs the tracker: --to tensorboard, --to mlflow or --to csv" in said
    wrong = one_line(lrsearch("log", "digits", "--to", "wandb", "--storage", str(finished.database)))
    assert "--to must be one of tensorboard, mlflow, csv, got 'wandb'" in wrong


@pytest.mark.slow
def test_nothing_that_is_written_says_where_the_database_is(
    lrsearch: InProcess, finished: Finished, logged: Path, tmp_path: Path
) -> None:
    shutil.copy(logged, tmp_path / "mlflow.db")
    place = tmp_path / "s3cr3t-place"
    place.mkdir()
    shutil.copy(finished.database, place / "lrsearch.db")
    for arguments in (["--to", "tensorboard"], ["--to", "csv"], ["--to", "mlflow"]):
        assert lrsearch("log", "digits", *arguments, "--storage", str(place / "lrsearch.db")).code == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file() and place not in path.parents]
    assert len(written) > 8
    for path in written:
        assert b"s3cr3t" not in path.read_bytes(), path

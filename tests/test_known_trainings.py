"""Trainings made elsewhere: what a table of them comes to, and what a study knows of them."""

import doctest
import json
import math
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import FakeEngine, learning, make_spec
from hypothesis import given
from hypothesis import strategies as st

import lrsearch
from lrsearch import run
from lrsearch.cli import app as cli
from lrsearch.errors import DataError, LrsearchError, UsageError
from lrsearch.imports import columns, scores, table
from lrsearch.imports.trainings import Imported, read
from lrsearch.report import tables
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing, known, places
from lrsearch.store import study as studies
from lrsearch.store.storage import open_existing
from lrsearch.strategy.view import KnownTraining
from lrsearch.trial import State

WANDB = """\
"Name","State","Notes","User","Created","Runtime","batch_size","config.learning_rate","epochs","optimizer","scheduler",\
"val/accuracy","val/loss","best_val_accuracy"
"fresh-sun-1","finished","-","me","2025-01-03T10:00:00.000Z","120","64","0.1","10","sgd","CosineAnnealingLR","0.953",\
"0.21","0.96"
"dry-hill-2","crashed","-","me","2025-01-03T10:20:00.000Z","20","64","3","10","sgd","CosineAnnealingLR","","",""
"dry-hill-3","finished","-","me","2025-01-03T10:20:00.000Z","20","64","3","10","sgd","CosineAnnealingLR","NaN","NaN",""
"dry-hill-4","running","-","me","2025-01-03T10:20:00.000Z","20","64","3","10","sgd","CosineAnnealingLR","0.3","NaN",""
"dry-hill-5","finished","-","me","2025-01-03T10:20:00.000Z","90","32","0.003","10","torch.optim.AdamW","OneCycleLR",\
"0.931","0.3","0.94"
"""
"""As Weights & Biases writes the table of a project's runs."""


def spec_of(**tables: Any) -> StudySpec:
    """Return a study of strategy lr; of one optimizer, one schedule and one batch size where nothing else is said."""
    from lrsearch.spec import file as study_file

    one = {"optimizer": "sgd", "schedule": "cosine", "batch_size": 64}
    made = {"name": "digits", "epochs": 10, "strategy": "lr"} | tables
    return study_file.build(made | {"space": made.get("space", one)}, "the test")


WIDE: dict[str, Any] = {}
"""The default space: two optimizers, six schedules, three batch sizes."""


def trainings(text: str, spec: StudySpec | None = None, **more: Any) -> list[KnownTraining]:
    return [one for _, one in read(text, "past.csv", spec or spec_of(), **more).trainings]


def reasons(found: Imported) -> dict[int, str]:
    return dict(found.unusable)


def test_the_runs_of_weights_and_biases_are_read_as_they_are_exported() -> None:
    found = read(WANDB, "wandb.csv", spec_of(space=WIDE))
    first, diverged, last = (one for _, one in found.trainings)
    assert [row for row, _ in found.trainings] == [2, 4, 6]
    assert (first.state, first.value, first.config.optimizer.peak_lr) == (State.COMPLETE, 0.953, 0.1)
    assert (first.config.schedule.family, first.config.batch_size, first.config.epochs) == ("cosine", 64, 10)
    assert (diverged.state, diverged.value) == (State.DIVERGED, None)
    assert (last.config.optimizer.name, last.config.schedule.family) == ("adamw", "one_cycle")
    assert reasons(found) == {
        3: "failed, and neither an epoch nor scores by epoch say how far it came",
        5: "has not ended (running)",
    }
    assert found.columns["peak_lr"] == "config.learning_rate"
    assert found.columns["value"] == "val/accuracy"  # the last epoch's, and not the best one's
    assert "Runtime" in found.ignored


OF_THE_API = """\
,summary,config,name,state
0,"{'val_acc': 0.953, 'lr': 1e-06, '_runtime': 120.5, 'epoch': 10}",\
"{'lr': 0.1, 'batch_size': 64, 'epochs': 10, 'optimizer': 'sgd', 'scheduler': 'cosine'}",fresh-sun-1,finished
1,"{'val_acc': nan, 'lr': 1e-05, 'best_val_acc': inf}",\
"{'lr': 3, 'batch_size': 64, 'epochs': 10, 'optimizer': 'sgd', 'scheduler': 'cosine'}",dry-hill-2,finished
2,"{""val_acc"": 0.9, ""note"": null}",\
"{""lr"": {""desc"": null, ""value"": 0.01}, ""batch_size"": {""desc"": null, ""value"": 64}, \
""optim"": {""name"": ""sgd""}, ""scheduler"": {""desc"": null, ""value"": ""cosine""}, \
""optimizer"": ""sgd""}",deep-sea-3,finished
"""
"""As the documentation of Weights & Biases' API has runs written into a file."""


def test_runs_are_read_whose_configuration_is_one_cell() -> None:
    found = read(OF_THE_API, "project.csv", spec_of(space=WIDE))
    assert not found.unusable
    told = [(one.state, one.value, one.config.optimizer.peak_lr) for _, one in found.trainings]
    assert told == [(State.COMPLETE, 0.953, 0.1), (State.DIVERGED, None, 3), (State.COMPLETE, 0.9, 0.01)]
    # Not the learning rate of the last update, which the summary has.
    assert found.columns["peak_lr"] == "config.lr, summary.lr"


def test_the_metric_of_the_study_says_which_column_is_read() -> None:
    found = read(WANDB, "wandb.csv", spec_of(space=WIDE, objective={"metric": "loss"}))
    assert [one.value for _, one in found.trainings] == [0.21, None, 0.3]


def optuna_study(tmp_path: Path) -> optuna.Study:
    """Return a study of plain Optuna, as a person may have one: complete, pruned and failed trials."""
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-3, 1.0, log=True)
        trial.suggest_categorical("optimizer", ["SGD", "AdamW"])
        trial.suggest_categorical("batch_size", [32, 64])
        for epoch in range(10):
            trial.report(0.09 * epoch + lr / 100, epoch)
            if trial.number == 3 and epoch == 4:
                raise optuna.TrialPruned
        if trial.number == 4:
            raise ValueError
        return 0.81 + lr / 100

    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optimize(objective, n_trials=8, catch=ValueError)
    return study


def test_the_trials_of_optuna_are_read_as_they_are_exported(tmp_path: Path) -> None:
    study = optuna_study(tmp_path)
    found = read(study.trials_dataframe().to_csv(), "optuna.csv", spec_of(space=WIDE), setting="cosine epochs=10")
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert [one.value for _, one in found.trainings] == [trial.value for trial in complete]
    for (_, one), trial in zip(found.trainings, complete, strict=True):
        assert one.config.optimizer.peak_lr == pytest.approx(trial.params["lr"])
        assert one.config.optimizer.name == trial.params["optimizer"].lower()
        assert one.config.batch_size == trial.params["batch_size"]
    assert reasons(found) == {
        5: "was ended early, and neither an epoch nor scores by epoch say how far it came",
        6: "failed, and neither an epoch nor scores by epoch say how far it came",
    }


def test_scores_by_epoch_are_read_where_optuna_was_asked_for_them(tmp_path: Path) -> None:
    study = optuna_study(tmp_path)
    frame = study.trials_dataframe(("number", "value", "params", "state", "intermediate_values"))
    found = read(frame.to_csv(index=False), "optuna.csv", spec_of(space=WIDE), setting="cosine epochs=10")
    by_row = dict(found.trainings)
    for trial in study.trials:
        expected = list(trial.intermediate_values.values())
        assert list(by_row[trial.number + 2].scores) == pytest.approx(expected)
    assert by_row[5].state == State.PRUNED
    assert len(by_row[5].scores) == 5
    assert by_row[6].state == State.PRUNED  # it failed after ten epochs, which say something all the same


def searched(path: Path, spec: StudySpec) -> studies.Study:
    """Return a study that was searched by the engine of the tests."""
    study = filing.file_study(spec, places.parse_place(str(path)), explicit_budget=True)
    engine = FakeEngine(learning)
    for _ in run.Session(study, engine, filing.artifacts_of(study)).attend():
        pass
    return study


def test_a_table_of_lrsearchs_own_trials_comes_back_as_it_was(tmp_path: Path) -> None:
    high = {"sgd": {"peak_lr": {"low": 0.01, "high": 3.0, "log": True}}, "adamw": {}}
    asha = {"name": "asha", "min_resource": 2}
    spec = make_spec("other", epochs=6, budget={"trials": 30}, pruner=asha, space={"optimizer": high})
    with closing(searched(tmp_path / "a.db", spec).database) as database:
        trials = studies.get(database, "other").trials()
    found = read(tables.trials_csv(trials, []), "other.csv", spec_of(space=WIDE))
    assert not found.unusable
    states = {trial.number: trial for trial in trials}
    assert {trial.state for trial in trials} == {State.COMPLETE, State.PRUNED, State.DIVERGED}
    for row, one in found.trainings:
        trial = states[row - 2]
        assert (one.config, one.state) == (trial.config, trial.state)
        if trial.state == State.COMPLETE:
            assert one.value == trial.outcome.value  # type: ignore[union-attr]
        if trial.state == State.PRUNED:
            assert len(one.scores) == len(trial.metrics)
            assert one.scores[-1] == trial.metrics[-1].rung_score


def test_optunas_table_of_a_study_of_lrsearch_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(searched(path, make_spec("other", budget={"trials": 12})).database) as database:
        trials = studies.get(database, "other").trials()
    theirs = optuna.load_study(study_name="other", storage=f"sqlite:///{path}")
    found = read(theirs.trials_dataframe().to_csv(), "optuna.csv", spec_of(space=WIDE, epochs=4))
    complete = [trial for trial in trials if trial.state == State.COMPLETE]
    told = [one for _, one in found.trainings if one.state == State.COMPLETE]
    assert [(one.config, one.value) for one in told] == [(t.config, t.outcome.value) for t in complete if t.outcome]


LONG = """\
run,lr,epoch,val_acc,status
a,0.1,1,0.5,
a,0.1,2,0.6,finished
b,0.3,1,0.7,
b,0.3,2,,
b,0.3,3,0.9,killed
"""


def test_a_row_for_each_epoch_is_put_together() -> None:
    found = read(LONG, "past.csv", spec_of(), setting="epochs=4")
    ((_, pruned),) = found.trainings
    assert pruned.state == State.PRUNED
    assert [round(score, 3) for score in pruned.scores if not math.isnan(score)] == [0.7, 0.9]
    assert math.isnan(pruned.scores[1])
    assert reasons(found) == {2: "is complete with the scores of 2 of 4 epochs"}


@pytest.mark.parametrize(
    ("text", "states", "scores"),
    [
        # Without a name of the run: an epoch that comes again begins another training, also of the same setting.
        ("lr,epoch,accuracy\n.1,1,.5\n.1,2,.6\n.1,1,.4\n.1,2,.3\n", ["complete"] * 2, [(0.5, 0.6), (0.4, 0.3)]),
        # Two trainings whose rows lie among each other.
        ("lr,epoch,accuracy\n.1,1,.5\n.2,1,.4\n.1,2,.6\n.2,2,.3\n", ["complete"] * 2, [(0.5, 0.6), (0.4, 0.3)]),
        # Counted from 0, as Python does.
        ("lr,epoch,accuracy\n.1,0,.5\n.1,1,.6\n", ["complete"], [(0.5, 0.6)]),
        # Epoch 0 is before the training where the last one is that of its end.
        ("lr,epoch,epochs,accuracy\n.1,0,2,.1\n.1,1,2,.5\n.1,2,2,.6\n", ["complete"], [(0.5, 0.6)]),
        # The longest says how long a training is; a shorter one was ended early.
        ("run,lr,epoch,accuracy\na,.1,1,.5\na,.1,2,.6\nb,.2,1,.4\n", ["complete", "pruned"], [(0.5, 0.6), (0.4,)]),
        # A list in a cell.
        ('lr,val_acc\n.1,"[0.5, 0.6]"\n.2,.4;.3\n', ["complete"] * 2, [(0.5, 0.6), (0.4, 0.3)]),
        # Its loss was none at the end.
        ("lr,accuracy\n.1,.5;nan\n", ["diverged"], [(0.5,)]),
        # One row a training: epoch is how far it came.
        (
            "name,lr,epoch,epochs,accuracy,state\na,.1,2,4,.5,pruned\nb,.1,4,4,.6,finished\n",
            ["pruned", "complete"],
            None,
        ),
    ],
)
def test_scores_by_epoch_are_found_in_rows_and_in_lists(
    text: str, states: list[str], scores: list[tuple[float, ...]] | None
) -> None:
    found = trainings(text)
    assert [one.state.value for one in found] == states
    if scores is not None:
        assert [one.scores for one in found] == scores
    else:
        assert math.isnan(found[0].scores[0])
        assert found[0].scores[1:] == (0.5,)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lr,accuracy\n.1,93.2\n.2,50\n", [0.932, 0.5]),
        ("lr,accuracy\n.1,93.2%\n.2,50 %\n", [0.932, 0.5]),
        ("lr,accuracy\n.1,0.7%\n", [0.007]),
        ("lr;accuracy\n0,1;93,2\n", [0.932]),
        ("lr,accuracy\n.1,.932\n.2,1\n", [0.932, 1.0]),
    ],
)
def test_percent_are_told_from_fractions_and_it_is_said(text: str, values: list[float]) -> None:
    found = read(text, "past.csv", spec_of())
    assert [one.value for _, one in found.trainings] == pytest.approx(values)
    assert any("percent" in note for note in found.notes) == (values != [0.932, 1.0])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (".1,adamw,.9,", "has the optimizer 'adamw', and the study searches sgd"),
        ("high,sgd,.9,", "has lr = high, which is no number"),
        ("-1,sgd,.9,", "has lr = -1, which must be from above 0 to 1e+06, got -1 (a learning rate is positive)"),
        (",sgd,.9,", "has no learning rate"),
        (".1,sgd,,", "has no accuracy"),
        (".1,sgd,good,", "has val_acc = good, which is no number"),
        (".1,sgd,.9,cosyne", "has the schedule 'cosyne' (did you mean 'cosine'?); known: constant, step,"),
        (".1,sgd,-0.9,", "has accuracy = -0.9, below 0"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_with_its_number_and_the_reason(row: str, why: str) -> None:
    found = read(f"lr,optimizer,val_acc,schedule\n.1,sgd,.8,cosine\n{row}\n.2,sgd,.9,cosine\n", "past.csv", spec_of())
    assert [row for row, _ in found.trainings] == [2, 4]
    ((number, said),) = found.unusable
    assert number == 3
    assert said.startswith(why)


@pytest.mark.parametrize(
    ("text", "space", "why"),
    [
        ("lr,val_acc\n.1,.9\n", WIDE, "names no optimizer, and the study has sgd, adamw"),
        ("lr,val_acc,optimizer\n.1,.9,sgd\n", WIDE, "names no schedule"),
        ("lr,val_acc,optimizer,scheduler\n.1,.9,sgd,cosine\n", WIDE, "names no batch size"),
    ],
)
def test_what_the_study_leaves_open_is_not_guessed(text: str, space: dict[str, Any], why: str) -> None:
    spec = spec_of(space=space)
    with pytest.raises(DataError, match=why):
        read(text, "past.csv", spec)
    (one,) = trainings(text, spec, setting="sgd cosine batch=32")
    assert (one.config.optimizer.name, one.config.schedule.family, one.config.batch_size) == ("sgd", "cosine", 32)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must begin with a row of column names"),
        ("lr,val_acc\n", "no trainings below it"),
        ("lr,lr\n1,2\n", "two columns of the name 'lr'"),
        ("lr,f1\n.1,.9\n", "no column of the study's metric, accuracy: name it with --column NAME=accuracy"),
        ("lr,val_acc\n.1,932\n", "accuracy must be a fraction or percent, got 932"),
        ("lr,test_acc\n.1,.9\n", "no column of the study's metric"),  # the test set chooses nothing
        ("lr,val_acc\n,.9\n", "none of the 1 training in past.csv can be used; the first, row 2, has no learning rate"),
        ('lr,val_acc\n"' + "x" * 11_000_000 + '",1\n', "cannot be read as a CSV file"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_an_error_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(DataError, match=why) as error:
        read(text, "past.csv", spec_of())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ({"Lr": "peak_lr"}, "has no column 'Lr' .did you mean 'rate'|has no column 'Lr'; it has rate, f1"),
        ({"rate": "peek_lr"}, "unknown key 'peek_lr' .did you mean 'peak_lr'"),
    ],
)
def test_a_column_that_is_named_wrongly_is_refused(column: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read("rate,f1\n.1,.9\n", "past.csv", spec_of(), column)


def test_columns_of_other_names_are_mapped_and_ignored_ones_are_not_read() -> None:
    mapped = {"rate": "peak_lr", "f1": "accuracy", "momentum": "ignore"}
    (one,) = trainings("rate,f1,momentum\n.1,.9,.5\n", mapped=mapped)
    assert (one.config.optimizer.peak_lr, one.config.optimizer.momentum, one.value) == (0.1, 0.9, 0.9)


@given(st.lists(st.tuples(st.floats(1e-4, 10), st.floats(0, 1)), min_size=1, max_size=20))
def test_what_is_written_as_a_table_is_read_as_it_was(rows: list[tuple[float, float]]) -> None:
    text = "peak_lr,accuracy\n" + "".join(f"{lr!r},{value!r}\n" for lr, value in rows)
    assert [(one.config.optimizer.peak_lr, one.value) for one in trainings(text)] == rows


def test_the_examples_in_the_docstrings_are_right() -> None:
    for module in (columns, scores, table):
        assert doctest.testmod(module).failed == 0


@given(st.text(max_size=200))
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_sentence(text: str) -> None:
    with suppress(LrsearchError):  # anything else fails
        read("lr,val_acc,epoch,state\n" + text, "past.csv", spec_of())


# --- what a study knows ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table in it, in which commands run."""
    (tmp_path / "past.csv").write_text("lr,val_acc\n.1,.9\n.2,.8\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ONE = ("--set", "strategy=lr", "--set", "space.optimizer=sgd", "--set", "space.schedule=cosine")
BATCH = ("--set", "space.batch_size=64")


def known_of(name: str = "digits") -> tuple[KnownTraining, ...]:
    with closing(open_existing(places.parse_place("lrsearch.db"))) as database:
        study = studies.get(database, name)
        return database.read(lambda connection: known.of(connection, study))


@pytest.mark.usefixtures("folder")
def test_what_is_imported_is_known_to_the_study_and_no_trial_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", "digits", "past.csv", *ONE, *BATCH]) == 0
    assert "2 trainings of past.csv (2 complete) are known to the study 'digits'" in capsys.readouterr().out
    found = known_of()
    assert found == tuple(trainings(Path("past.csv").read_text("utf-8")))
    assert cli.run(["trials", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == []
    assert cli.run(["status", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] == 0


def test_a_file_that_is_imported_again_replaces_what_it_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", "digits", "past.csv", *ONE, *BATCH]) == 0
    (folder / "more.csv").write_text("lr,val_acc\n.3,.7\n", "utf-8")
    (folder / "past.csv").write_text("lr,val_acc\n.1,.95\n", "utf-8")
    # The name of the study may stand behind, or be left out where there is one study.
    assert cli.run(["import", "more.csv", "digits"]) == 0
    capsys.readouterr()
    assert cli.run(["import", "past.csv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["n"], document["replaced"]) == ("lrsearch/import/1", 1, 2)
    assert sorted((one.source, one.value) for one in known_of()) == [("more.csv", 0.7), ("past.csv", 0.95)]


def test_a_dry_run_and_a_file_of_no_use_file_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", "digits", "past.csv", *ONE, *BATCH, "--dry-run"]) == 0
    assert "would be known to the study 'digits'" in capsys.readouterr().out
    (folder / "past.csv").write_text("lr,f1\n.1,.95\n", "utf-8")
    assert cli.run(["import", "digits", "past.csv", *ONE, *BATCH]) == 1
    assert "no column of the study's metric" in capsys.readouterr().err
    assert not (folder / "lrsearch.db").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["no.csv", "--set", "strategy=lr"], "there is no file no.csv"),
        (["digitz", "past.csv"], "there is no study 'digitz' (did you mean 'digits'?)"),
        (["a", "b", "past.csv"], "takes the name of a study and one file, got 3 words"),
        (["past.csv", "--column", "lr"], "--column lr: must be NAME=KEY"),
        (["digits", "past.csv", "--setting", "sgd cosin"], "'cosin' is no optimizer, no schedule and no KEY=VALUE"),
        (["digits", "utf16.csv"], "utf16.csv must be a CSV file in UTF-8"),
        (["digits", "folder.csv"], "folder.csv cannot be read: Is a directory"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    words: list[str], why: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "utf16.csv").write_text("lr,val_acc\n.1,.9\n", "utf-16")
    (folder / "folder.csv").mkdir()
    assert cli.run(["import", *words]) in (1, 2)
    assert why in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_study_in_python_imports_a_file() -> None:
    assert cli.run(["import", "digits", "past.csv", *ONE, *BATCH]) == 0
    Path("past.csv").write_text("rate,val_acc\n.1,.9\nhigh,.8\n", "utf-8")
    study = lrsearch.open_study("digits")
    found = study.import_csv("past.csv", columns={"rate": "peak_lr"})
    assert dict(found.unusable) == {3: "has rate = high, which is no number"}
    assert known_of() == tuple(one for _, one in found.trainings)
    with pytest.raises(DataError, match="there is no file none"):
        study.import_csv("none.csv")


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_what_is_known_comes_back_as_it_was_written_wherever_it_lies(place: places.Place, backend: str) -> None:
    study = filing.file_study(spec_of(), place, explicit_budget=True)
    text = "lr,accuracy,state\n.1,.5;nan;.7,finished\n.2,.4;nan,\n.3,.2;.3,killed\n.4,.9,finished\n"
    found = read(text, "past.csv", study.spec).trainings
    with closing(study.database) as database:
        assert known.import_into(study, "past.csv", found) == 0
        assert known.import_into(study, "past.csv", found) == len(found) == 4
        back = database.read(lambda connection: known.of(connection, study))
        assert repr(back) == repr(tuple(one for _, one in found))  # repr, because nan is not equal to itself
        assert known.sources(study) == (known.KnownSource("imported", "past.csv", 4),)
        studies.delete(database, study.name)
        with pytest.raises(LrsearchError, match="has been deleted"):
            known.import_into(study, "past.csv", found)

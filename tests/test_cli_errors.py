"""Bad input: one sentence on stderr that names the place and the remedy, the exit code, and nothing changed on disk."""

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from command_line import (
    SMALL,
    Finished,
    InProcess,
    clean_environment,
    contents,
    one_line,
    run_process,
)

pytest_plugins = ["command_line"]

SECRET = "hunter2"

Setup = Callable[[Path, Finished], None]


@dataclass(frozen=True)
class Case:
    """A command, what lies in its folder, and how it must end."""

    argv: tuple[str, ...]
    code: int
    words: tuple[str, ...]
    """What the one line on stderr must hold."""
    files: Setup | None = None
    environment: tuple[tuple[str, str], ...] = ()
    out: str = ""
    """What stdout must hold; nothing, if not given."""


def file(text: str, name: str = "bad.toml") -> Setup:
    """Write a study file."""

    def put(folder: Path, _: Finished) -> None:
        (folder / name).write_text(textwrap.dedent(text), "utf-8")

    return put


def raw(content: bytes, name: str = "lrsearch.db") -> Setup:
    """Write any file."""

    def put(folder: Path, _: Finished) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return put


def folder_named(name: str) -> Setup:
    def put(folder: Path, _: Finished) -> None:
        (folder / name).mkdir()

    return put


def the_study(folder: Path, finished: Finished) -> None:
    """Lay a copy of the finished study there."""
    shutil.copy(finished.database, folder / "lrsearch.db")


def two_studies(folder: Path, finished: Finished) -> None:
    """Lay a database there that holds the finished study and a second one without trials."""
    from lrsearch.spec.study import StudySpec
    from lrsearch.store import filing
    from lrsearch.store.places import SqliteFile
    from lrsearch.store.storage import Database

    the_study(folder, finished)
    database = Database(SqliteFile(folder / "lrsearch.db"))
    filing.create(database, StudySpec(name="other"))
    database.close()


def damaged(folder: Path, finished: Finished) -> None:
    """Lay a copy of the study there whose pages, but the first, are noise."""
    content = finished.database.read_bytes()
    (folder / "lrsearch.db").write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def of_plain_optuna(folder: Path, _: Finished) -> None:
    """Lay a database there in which an Optuna script keeps a study named digits."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/lrsearch.db")
    optuna.create_study(storage=storage, study_name="digits").add_trial(optuna.trial.create_trial(value=1.0))
    storage.remove_session()
    storage.engine.dispose()


IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def mnist(spoilt: str, spoil: Callable[[bytes], bytes]) -> Setup:
    """Lay a small data set in MNIST's format there, one of its files spoilt."""

    def header(*sizes: int) -> bytes:
        return bytes((0, 0, 8, len(sizes))) + b"".join(size.to_bytes(4, "big") for size in sizes)

    def put(folder: Path, _: Finished) -> None:
        where = folder / "data" / "MNIST" / "raw"
        where.mkdir(parents=True)
        for name, n in zip(IDX_NAMES, (60, 60, 20, 20), strict=True):
            images = header(n, 28, 28) + bytes(i % 256 for i in range(n * 784))
            whole = images if "images" in name else header(n) + bytes(i % 10 for i in range(n))
            (where / name).write_bytes(spoil(whole) if name == spoilt else whole)

    return put


MNIST = ("run", "--dataset", "mnist", "--data-dir", "data", "--set", "dataset.limit=50", "--set", "space.batch_size=8")
NO_NETWORK = tuple((f"{scheme}_proxy", "http://127.0.0.1:9") for scheme in ("http", "https"))
BAD = ("run", "bad.toml")
REMEDY_OF_DATA = "delete it and let it download again, or put a good copy in its place"

CASES: dict[str, Case] = {
    # --- study files
    "unknown key": Case(BAD, 2, ("bad.toml", "'epoch'", "did you mean 'epochs'", "seed"), file("epoch = 3")),
    "unknown key of a table": Case(
        BAD, 2, ("bad.toml", "'budget.trial'", "did you mean 'trials'"), file("[budget]\ntrial = 3")
    ),
    "wrong type": Case(BAD, 2, ("bad.toml", "epochs", "a whole number", "'ten'"), file("epochs = 'ten'")),
    "a value where a table must be": Case(BAD, 2, ("bad.toml", "budget", "table", "50"), file("budget = 50")),
    "low above high": Case(
        BAD,
        2,
        ("bad.toml", "space.optimizer.sgd.peak_lr", "low", "high", "0.1", "0.01"),
        file("[space.optimizer.sgd]\npeak_lr = { low = 0.1, high = 0.01 }"),
    ),
    "negative lr": Case(
        BAD,
        2,
        ("bad.toml", "space.optimizer.sgd.peak_lr", "-0.1", "a learning rate is positive"),
        file("[space.optimizer.sgd]\npeak_lr = -0.1"),
    ),
    "negative lr in a range": Case(
        BAD,
        2,
        ("bad.toml", "space.optimizer.adamw.peak_lr", "-0.1"),
        file("[space.optimizer.adamw]\npeak_lr = { low = -0.1, high = 0.1 }"),
    ),
    "warm-up longer than training": Case(
        BAD,
        2,
        ("bad.toml", "space.warmup_fraction", "1.5", "warm-up cannot be longer than the training"),
        file("[space]\nwarmup_fraction = 1.5"),
    ),
    "unknown optimizer": Case(
        BAD,
        2,
        ("bad.toml", "space.optimizer", "'adamm'", "did you mean 'adam'"),
        file("[space]\noptimizer = ['adamm']"),
    ),
    "unknown schedule": Case(
        BAD, 2, ("bad.toml", "space.schedule", "'cosin'", "did you mean 'cosine'"), file("[space]\nschedule = 'cosin'")
    ),
    "unknown table of an optimizer": Case(
        BAD, 2, ("bad.toml", "space.optimizer.sdg", "did you mean 'sgd'"), file("[space.optimizer.sdg]\n")
    ),
    "unknown data set": Case(
        BAD, 2, ("bad.toml", "dataset.name", "'minst'", "did you mean 'mnist'"), file("[dataset]\nname = 'minst'")
    ),
    "unknown model": Case(BAD, 2, ("bad.toml", "model.name", "'cnnn'", "'cnn'"), file("[model]\nname = 'cnnn'")),
    "batch larger than the data": Case(
        BAD, 2, ("bad.toml", "space.batch_size", "801", "800 training images"), file("[space]\nbatch_size = 801")
    ),
    "no trials": Case(BAD, 2, ("bad.toml", "budget.trials", "1", "got 0"), file("[budget]\ntrials = 0")),
    "a sampler that cannot have conditions": Case(
        BAD, 2, ("bad.toml", "sampler.name", "'gp'", "narrow the space", "'tpe'"), file("[sampler]\nname = 'gp'")
    ),
    "not TOML": Case(BAD, 2, ("bad.toml", "not a TOML file", "line 2"), file("epochs = 3\nseed 4\n")),
    "not UTF-8": Case(BAD, 2, ("bad.toml", "cannot be read"), raw(b"name = '\xff'", "bad.toml")),
    "no such file": Case(("run", "none.toml"), 2, ("none.toml", "no such study file", "lrsearch init")),
    "a folder for a file": Case(BAD, 2, ("bad.toml", "cannot be read"), folder_named("bad.toml")),
    "no such study": Case(("run", "digitz"), 2, ("'digitz'", "did you mean 'digits'", "seed-pipeline")),
    "a data set for a study": Case(("run", "svhn"), 2, ("'svhn', which is a data set", "--dataset svhn")),
    "a name with a line break": Case(("run", "a\nb"), 2, ("there is no study 'a\\nb'",)),
    # --- options
    "--trials 0": Case(("run", "--trials", "0"), 2, ("--trials: budget.trials", "greater than or equal to 1", "got 0")),
    "--trials of no number": Case(("run", "--trials", "many"), 2, ("--trials", "a whole number", "'many'")),
    "LRSEARCH_TRIALS of no number": Case(
        ("run",), 2, ("LRSEARCH_TRIALS", "--trials", "a whole number"), environment=(("LRSEARCH_TRIALS", "many"),)
    ),
    "--epochs 0": Case(("run", "--epochs", "0"), 2, ("--epochs: must", "got 0")),
    "--seed below zero": Case(("run", "--seed", "-1"), 2, ("--seed: must", "got -1")),
    "--threads 0": Case(("run", "--threads", "0"), 2, ("--threads", "at least 1", "got 0")),
    "--name with a slash": Case(("run", "--name", "a/b"), 2, ("--name: must", "'a/b'", "letters")),
    "--dataset unknown": Case(("run", "--dataset", "minst"), 2, ("--dataset: dataset.name", "did you mean 'mnist'")),
    "--model unknown": Case(("run", "--model", "cnnn"), 2, ("--model: model.name", "'cnn'")),
    "--set without a value": Case(("run", "--set", "epochs"), 2, ("--set epochs", "KEY=VALUE")),
    "--set of an unknown key": Case(("run", "--set", "epoch=3"), 2, ("--set: ", "'epoch'", "did you mean 'epochs'")),
    "--set of half a list": Case(("run", "--set", "space.batch_size=[1"), 2, ("--set", "is not a TOML value")),
    "--baseline unknown": Case(("run", "--baseline", "sgd lr=0.1 cosin"), 2, ("baseline", "did you mean 'cosine'")),
    "--baseline outside the space": Case(("run", "--baseline", "sgd lr=100 cosine"), 2, ("baseline", "100", "3")),
    "--baseline of another optimizer": Case(
        ("run", "--baseline", "adam lr=0.1 cosine"), 2, ("baseline", "'adam'", "--set")
    ),
    "unknown option": Case(("run", "--trails", "3"), 2, ("--trails", "--trials", "lrsearch run --help")),
    "unknown command": Case(("statu",), 2, ("'statu'", "status")),
    "too many arguments": Case(("run", "digits", "mnist-cnn"), 2, ("mnist-cnn", "lrsearch run --help")),
    "an unknown format": Case(("trials", "--format", "xml"), 2, ("--format", "xml", "csv")),
    "an option without its value": Case(("run", "--set"), 2, ("--set", "KEY=VALUE")),
    "init of no .toml": Case(("init", "study.yaml"), 2, ("study.yaml", ".toml")),
    "init where a file lies": Case(("init", "bad.toml"), 2, ("bad.toml", "exists", "--force"), file("seed = 1")),
    "init in no folder": Case(("init", "none/study.toml"), 2, ("none/study.toml", "there is no folder none")),
    "LRSEARCH_TRIALS of no trials": Case(
        ("run",), 2, ("LRSEARCH_TRIALS (for --trials): budget.trials", "got 0"), environment=(("LRSEARCH_TRIALS", "0"),)
    ),
    "a URL with a password for an argument": Case(
        ("run", "digits", f"postgresql://me:{SECRET}@host/db"), 2, ("got a URL", "lrsearch run --help")
    ),
    "unknown device": Case(("run", "--device", "tpu"), 5, ("'tpu'", "'cpu'", "'auto'")),
    "a device that is not here": Case(("run", "--device", "cuda:99"), 5, ("'cuda:99'", "'cpu'")),
    # --- studies
    **{
        f"{' '.join(command[:2])} without a database": Case(
            command, 4, ("lrsearch.db", "no such study database", "--storage")
        )
        for command in (
            ("trials",),
            ("best",),
            ("show", "0"),
            ("status",),
            ("status", "--watch"),
            ("list",),
            ("delete", "digits", "--yes"),
            ("extend", "--trials", "+1"),
            ("stop",),
            ("enqueue", "sgd lr=0.1"),
            ("worker", "--exit-when-idle"),
        )
    },
    "a study that is not there": Case(
        ("status", "digit"), 2, ("'digit'", "lrsearch.db", "did you mean 'digits'"), the_study
    ),
    "one of two studies": Case(("trials",), 2, ("2 studies", "digits, other"), two_studies),
    "a trial that is not there": Case(("show", "6"), 2, ("no trial 6", "'digits'", "0 to 5"), the_study),
    "a trial of no number": Case(("show", "best"), 2, ("N must be", "a whole number", "'best'"), the_study),
    "a trial below zero": Case(("show", "--", "-1"), 2, ("N must be", "at least 0", "-1"), the_study),
    "delete of no study": Case(("delete", "digit", "--yes"), 2, ("'digit'", "did you mean 'digits'"), the_study),
    "another identity": Case(
        ("run", "--epochs", "4"), 2, ("'digits'", "lrsearch.db", "epochs is 3 there and 4 here", "--name"), the_study
    ),
    "another identity, dry": Case(
        ("run", "--epochs", "4", "--dry-run"),
        2,
        ("epochs is 3 there and 4 here", "--name"),
        the_study,
        out="epochs = 4",
    ),
    "many differences": Case(
        ("run", "--seed", "7", "--model", "cnn", "--set", "pruner.name=none", "--baseline", "sgd lr=0.1 cosine"),
        2,
        ("'digits'", "baseline is absent there", "model.name is mlp there and cnn here", "and 1 more", "--name"),
        the_study,
    ),
    # --- databases
    "a text file for a database": Case(
        ("run",), 4, ("lrsearch.db", "not a SQLite database", "--storage"), raw(b"name,value\na,1\n" * 400)
    ),
    "a text file to look at": Case(
        ("status",), 4, ("lrsearch.db", "not a SQLite database", "--storage"), raw(b"name,value\na,1\n" * 400)
    ),
    "a study file for a database": Case(
        ("run", "--storage", "bad.toml"), 4, ("bad.toml", "not a SQLite database"), file("epochs = 3\n" * 100)
    ),
    "a damaged database": Case(("run", "--epochs", "3"), 4, ("lrsearch.db", "damaged"), damaged),
    "a damaged database to look at": Case(("trials",), 4, ("lrsearch.db", "damaged"), damaged),
    "a folder for a database": Case(("run",), 4, ("lrsearch.db", "folder", "--storage"), folder_named("lrsearch.db")),
    "an empty file to look at": Case(("status",), 4, ("lrsearch.db", "no lrsearch studies", "--storage"), raw(b"")),
    "a database in no folder": Case(("run", "--storage", "none/a.db"), 4, ("none/a.db", "does not exist", "--storage")),
    "a database in memory": Case(("run", "--storage", "sqlite:///:memory:"), 2, ("--storage", "file", "resumed")),
    "Optuna's database": Case(("status",), 4, ("lrsearch.db", "no lrsearch studies"), of_plain_optuna),
    "a URL with a password": Case(
        ("run", "--storage", f"postgresql://me:{SECRET}@host/db"), 2, ("--storage", "LRSEARCH_STORAGE", "@FILE")
    ),
    "a URL with a password to look at": Case(
        ("best", f"--storage=postgresql+psycopg://me:{SECRET}@host/db"), 2, ("--storage", "LRSEARCH_STORAGE")
    ),
    "a URL with a password in the environment": Case(
        ("run",),
        2,
        ("--storage", "'mysql'"),
        environment=(("LRSEARCH_STORAGE", f"mysql+pymysql://me:{SECRET}@host/db"),),
    ),
    **{
        f"a password where {command} has a study": Case(
            (command, f"postgresql://me:{SECRET}@host/db"), 2, ("URL", "--storage"), the_study
        )
        for command in ("run", "status", "delete")
    },
    "a server that is not there": Case(
        ("status",),
        4,
        ("postgresql://me:***@127.0.0.1:1/db", "nothing listens there"),
        environment=(("LRSEARCH_STORAGE", f"postgresql://me:{SECRET}@127.0.0.1:1/db"),),
    ),
    "a file without a URL": Case(("status", "--storage", "@url"), 4, ("@url", "cannot be read", "No such file")),
    # --- operation
    "extend by nothing": Case(("extend",), 2, ("--trials +50",), the_study),
    **{
        f"extend by {option} {text}": Case(("extend", f"{option}={text}"), 2, (option, kind, f"'{text}'"), the_study)
        for option, text, kind in (
            ("--trials", "many", "a whole number"),
            ("--trials", "-3", "above 0"),
            ("--trials", "+0", "above 0"),
            ("--trials", "1.5", "a whole number"),
            ("--hours", "nan", "a number above 0"),
            ("--hours", "+inf", "a number above 0"),
        )
    },
    "enqueue of nonsense": Case(("enqueue", "sgd lr=0.1 cosin"), 2, ("setting", "did you mean 'cosine'"), the_study),
    "enqueue outside the space": Case(("enqueue", "sgd lr=100 cosine"), 2, ("setting", "100", "3"), the_study),
    "a worker for a study that is not there": Case(
        ("worker", "--study", "digit"), 2, ("'digit'", "did you mean 'digits'"), the_study
    ),
    "a worker for no trials": Case(("worker", "--max-trials", "0"), 2, ("--max-trials", "at least 1"), the_study),
    "no workers": Case(("run", "--workers", "0"), 2, ("--workers", "a whole number from 1, or auto", "'0'")),
    "workers by name": Case(("run", "--workers", "many"), 2, ("--workers", "'many'")),
    "so many workers a GPU": Case(("run", "--workers", "2", "--workers-per-gpu", "2"), 2, ("--workers auto",)),
    "watching ever faster": Case(("status", "--watch", "--every", "0"), 2, ("--every", "at least 0.1"), the_study),
    # --- images
    "truncated images": Case(
        MNIST,
        1,
        (f"data/MNIST/raw/{IDX_NAMES[0]} is corrupt", "holds", REMEDY_OF_DATA),
        mnist(IDX_NAMES[0], lambda whole: whole[:-100]),
    ),
    "truncated labels": Case(
        MNIST,
        1,
        (f"data/MNIST/raw/{IDX_NAMES[3]} is corrupt", REMEDY_OF_DATA),
        mnist(IDX_NAMES[3], lambda whole: whole[:5]),
    ),
    "a web page for images": Case(
        MNIST,
        1,
        (f"data/MNIST/raw/{IDX_NAMES[2]} is corrupt", REMEDY_OF_DATA),
        mnist(IDX_NAMES[2], lambda _: b"<!DOCTYPE html><html>not found</html>"),
    ),
    "fewer images than asked for": Case(
        (*MNIST, "--set", "dataset.limit=100"), 2, ("dataset.limit", "60", "100"), mnist("", bytes)
    ),
    "neither files nor a network": Case(
        ("run", "--dataset", "fashion-mnist"),
        1,
        ("fashion-mnist", "could not be downloaded", "--data-dir", "connect to the network"),
        environment=NO_NETWORK,
    ),
    "neither files nor a network for colours": Case(
        ("run", "cifar10", "--data-dir", "data"),
        1,
        ("cifar10", "data", "could not be downloaded", "connect to the network"),
        folder_named("data"),
        environment=NO_NETWORK,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_and_changes_nothing(
    name: str, tmp_path: Path, finished: Finished, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    if case.files is not None:
        case.files(tmp_path, finished)
    for key, value in case.environment:
        monkeypatch.setenv(key, value)
    before = contents(tmp_path)
    result = lrsearch(*case.argv)
    line = one_line(result)
    for words in case.words:
        assert words in line
    assert SECRET not in line
    assert result.code == case.code, line
    assert case.out in result.out if case.out else result.out == ""
    assert contents(tmp_path) == before


ONE_OF_EACH = ("low above high", "a text file to look at", "unknown option")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_process_ends_with_the_code_and_debug_shows_the_traceback(
    name: str, tmp_path: Path, finished: Finished
) -> None:
    case = CASES[name]
    if case.files is not None:
        case.files(tmp_path, finished)
    before = contents(tmp_path)
    result = run_process([*case.argv, "--debug"], tmp_path, cold=True)
    assert result.code == case.code
    assert result.out == ""
    assert result.err.startswith("Traceback (most recent call last):\n")
    line = result.err.splitlines()[-1]
    assert line.startswith("lrsearch: ")
    assert all(words in line for words in case.words)
    after = contents(tmp_path)
    assert {path: after[path] for path in after if not path.startswith("std")} == before


@pytest.mark.slow
def test_debug_may_come_from_the_environment_and_a_process_without_it_shows_no_traceback(tmp_path: Path) -> None:
    argv = ["run", "--trials", "0"]
    assert "Traceback" in run_process(argv, tmp_path, LRSEARCH_DEBUG="1").err
    assert one_line(run_process(argv, tmp_path, LRSEARCH_DEBUG="0"))


def test_a_password_is_not_shown_with_debug_either(lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens on port 1.
    monkeypatch.setenv("LRSEARCH_STORAGE", f"postgresql://me:{SECRET}@127.0.0.1:1/db")
    result = lrsearch("run", "--debug")
    assert result.code == 4
    assert "Traceback" in result.err
    assert "postgresql://me:***@127.0.0.1:1/db cannot be reached" in result.err
    assert SECRET not in result.err + result.out


def test_a_study_that_an_optuna_script_made_is_refused_and_left_alone(
    tmp_path: Path, finished: Finished, lrsearch: InProcess
) -> None:
    of_plain_optuna(tmp_path, finished)
    result = lrsearch("run")
    assert result.code == 2
    line = one_line(result)
    assert "lrsearch did not make" in line
    assert "--name digits-2" in line
    loaded = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path}/lrsearch.db")
    assert [trial.value for trial in loaded.trials] == [1.0]
    assert loaded.user_attrs == {}


def test_what_nobody_foresaw_is_one_sentence_too(lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    from lrsearch.spec import file as study_file

    def broken(_: object) -> None:
        raise RuntimeError("wires\ncrossed")

    monkeypatch.setattr(study_file, "read", broken)
    result = lrsearch("run", "--dry-run")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert result.err.startswith("lrsearch: a defect of lrsearch: RuntimeError: wires; run it again with --debug")


# --- file systems that say no ----------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount a file system on the folder; skips, saying why, where that is not allowed."""
    if shutil.which("mount") is None:
        pytest.skip("needs the command mount")
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"may not mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        # Lazy: this process may still hold a database open that could not be made.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path: Path, finished: Finished) -> Iterator[Path]:
    """The finished study in a folder that even root cannot write to."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    shutil.copy(finished.database, folder / "lrsearch.db")
    with mounted(folder, "--bind", str(folder)):
        done = subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"may not mount read-only here: {done.stderr.strip()}")
        yield folder


@pytest.mark.parametrize(
    "argv", [SMALL, ("run", "--trials", "7", "--epochs", "3"), ("run", "--name", "new"), ("delete", "digits", "--yes")]
)
def test_a_database_in_a_read_only_folder_is_said_so(
    argv: tuple[str, ...], read_only: Path, lrsearch: InProcess
) -> None:
    before = contents(read_only)
    result = lrsearch(*argv, "--storage", str(read_only / "lrsearch.db"))
    line = one_line(result)
    assert result.code == 4, line
    assert f"{read_only}/lrsearch.db cannot be" in line
    assert "--storage" in line
    assert contents(read_only) == before


def test_a_new_database_in_a_read_only_folder_is_said_so(read_only: Path, lrsearch: InProcess) -> None:
    result = lrsearch("run", "--storage", str(read_only / "new.db"))
    assert result.code == 4
    assert f"{read_only}/new.db cannot be" in one_line(result)


@contextmanager
def unchangeable(path: Path) -> Iterator[None]:
    """Make a file read-only, for root too."""
    done = (
        subprocess.run(["chattr", "+i", str(path)], capture_output=True, text=True) if shutil.which("chattr") else None
    )
    if done is None or done.returncode != 0:
        pytest.skip(f"no read-only file for root here: {done.stderr.strip() if done else 'needs the command chattr'}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


def test_a_read_only_database_is_said_so(tmp_path: Path, finished: Finished, lrsearch: InProcess) -> None:
    the_study(tmp_path, finished)
    before = contents(tmp_path)
    with unchangeable(tmp_path / "lrsearch.db"):
        result = lrsearch("run", "--trials", "7", "--epochs", "3")
        line = one_line(result)
        assert result.code == 4, line
        assert "lrsearch.db cannot be written" in line
        assert "--storage" in line
    assert contents(tmp_path) == before


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Yield a folder that holds no more than ``size``."""
    folder.mkdir()
    with mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield folder


def fill(path: Path, spare: int = 0) -> None:
    """Write until no more than ``spare`` bytes are left on the disk."""
    with path.open("wb", buffering=0) as out:
        with suppress(OSError):
            while True:
                out.write(b"\0" * 4096)
        out.truncate(path.stat().st_size - spare)


def test_a_new_study_on_a_full_disk_is_said_so(tmp_path: Path, lrsearch: InProcess) -> None:
    with small_disk(tmp_path / "small", "64k") as disk:
        result = lrsearch("run", "--trials", "1", "--storage", str(disk / "lrsearch.db"))
        line = one_line(result)
        assert result.code == 4, line
        assert "full" in line
        assert "free some space" in line


@pytest.mark.slow
def test_a_study_whose_disk_fills_up_keeps_its_trials_and_goes_on_when_there_is_space(
    tmp_path: Path, finished: Finished, lrsearch: InProcess
) -> None:
    with small_disk(tmp_path / "small", "1m") as disk:
        database = disk / "lrsearch.db"
        shutil.copy(finished.database, database)
        fill(disk / "other", spare=96 * 1024)
        grow = ("run", "--trials", "9", "--epochs", "3", "--storage", str(database))
        result = run_process(grow, tmp_path)
        assert result.code == 4, result.err
        last = result.err.splitlines()[-1]
        assert last.startswith("lrsearch: ")
        assert "disk" in last
        assert "Traceback" not in result.err
        (disk / "other").unlink()
        assert lrsearch(*grow).code == 0
        with sqlite3.connect(database) as connection:
            states = connection.execute("SELECT number, state FROM trials ORDER BY number").fetchall()
        connection.close()
    assert [number for number, _ in states] == list(range(9))
    assert {state for _, state in states} <= {"COMPLETE", "PRUNED"}


def test_images_that_cannot_be_stored_on_a_full_disk_are_said_so(
    tmp_path: Path, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in NO_NETWORK:
        monkeypatch.setenv(key, value)
    with small_disk(tmp_path / "small", "16k") as disk:
        fill(disk / "other")
        before = contents(tmp_path)
        result = lrsearch("run", "--dataset", "mnist", "--data-dir", str(disk / "data"))
        assert result.code == 1
        assert str(disk / "data") in one_line(result)
        assert contents(tmp_path) == before


def test_init_on_a_full_disk_is_said_so_and_leaves_no_half_a_file(
    tmp_path: Path, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "small", "16k") as disk:
        fill(disk / "other")
        before = contents(disk)
        result = lrsearch("init", str(disk / "study.toml"))
        assert result.code == 2
        assert "No space left" in one_line(result)
        assert contents(disk) == before


@pytest.mark.slow
def test_a_folder_that_was_removed_is_no_traceback(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m lrsearch status"
    done = subprocess.run(
        ["bash", "-c", program], env=clean_environment(tmp_path), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("lrsearch: lrsearch.db")
    assert done.stderr.count("\n") == 1

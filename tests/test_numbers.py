"""Numbers too large, contradictions and other slips of the keys: a sentence each, and nothing filed."""

import math
import signal
import subprocess
import sys
import typing
from contextlib import closing
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Le, Lt
from command_line import InProcess, Running, clean_environment
from conftest import make_spec, rows, wait_until
from pydantic import BaseModel

from lrsearch import cores
from lrsearch.errors import StudyFileError
from lrsearch.spec import file as study_file
from lrsearch.spec.deciding import KINDS, MOST
from lrsearch.spec.study import StudySpec
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database

pytest_plugins = ["command_line"]


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, type]:
    """Return every key of the study file that holds one number, outside the space."""
    out: dict[str, type] = {}
    for name, field in model.model_fields.items():
        if name == "space":
            continue
        kinds = [field.annotation, *typing.get_args(field.annotation)]
        kinds += [arg for kind in kinds for arg in typing.get_args(kind)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            for one in inner:
                out |= keys(one, f"{prefix}{name}.")
        elif bool not in kinds and (int in kinds or float in kinds) and str not in kinds and tuple not in kinds:
            out[f"{prefix}{name}"] = int if int in kinds else float
    return out


KEYS = keys(StudySpec)


def test_the_keys_with_numbers_are_found() -> None:
    assert {"budget.trials", "epochs", "workers.lease_seconds", "workers.retries.crash", "pruner.min_resource"} <= set(
        KEYS
    )


@pytest.mark.parametrize("value", [-1, 10**20, 1e300, math.nan, math.inf])
@pytest.mark.parametrize("key", KEYS)
def test_a_number_that_finds_no_room_is_refused_with_its_key(key: str, value: float) -> None:
    table, _, name = key.rpartition(".")
    # A table whose keys depend on its name: of the kind that has this key.
    kind = next((kind for kind, model in KINDS.get(table, {}).items() if name in model.model_fields), None)
    tables = make_spec().to_plain() | ({} if kind is None else {table: {"name": kind}})
    if table == "loop":
        tables = {"name": "mine", "loop": {"name": "loop.py:train"}}  # it stands for data set and model
    tables = study_file.override(tables, key, value)
    with pytest.raises(StudyFileError, match=key.replace(".", r"\.")):
        study_file.build(tables, "the test")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("run", "--trials", str(10**20)), "--trials: budget.trials: must be"),
        (("run", "--set", f"budget.max_failures={10**20}"), "budget.max_failures: must be"),
        (("run", "--set", "workers.lease_seconds=1e300"), "workers.lease_seconds: must be"),
        (("run", "--epochs", str(10**20)), "epochs: must be"),
        (("run", "--name", "a" * 101), "name: must have at most 100 characters, got 101"),
        (("run", "--storage", ":memory:"), "what is not kept cannot be resumed"),
        (
            ("run", "--trials", "4", "--set", "budget.trials=3"),
            "budget.trials must be given once, got 4 by --trials and 3",
        ),
        (("run", "--epochs", "2", "--set", "epochs=3"), "epochs must be given once"),
        (("run", "--workers", "1000000"), "--workers must be at most"),
        (("extend", "--trials", str(10**20)), f"--trials must come to at most {MOST:,}"),
        (("extend", "--hours", "1e300"), "--hours must come to at most"),
        (("extend", "--trials", f"+{10**20}"), f"--trials must come to at most {MOST:,}"),
    ],
)
def test_a_slip_of_the_keys_is_said_and_nothing_is_filed(
    argv: tuple[str, ...], says: str, lrsearch: InProcess, tmp_path: Path
) -> None:
    if argv[0] == "extend":
        assert lrsearch("run", "--detach").code == 0
    done = lrsearch(*argv)
    assert done.code == 2, done.err
    assert says in " ".join(done.err.split()), done.err
    assert "defect" not in done.err
    if argv[0] == "run":
        assert not (tmp_path / "lrsearch.db").exists()


def test_the_same_value_twice_is_no_contradiction_and_of_several_set_the_last_holds(lrsearch: InProcess) -> None:
    assert (
        lrsearch("run", "--dry-run", "--json", "--set", "epochs=2", "--set", "epochs=3").document["spec"]["epochs"] == 3
    )
    assert lrsearch("run", "--detach", "--trials", "3", "--set", "budget.trials=3").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["folder", "files"])
def test_a_process_that_lacks_something_says_what(limit: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && " if limit == "folder" else "ulimit -n 8; "
    shell = f"{command}{sys.executable} -m lrsearch run --trials 1"
    environment = clean_environment(tmp_path, PYTHONPATH=str(Path(__file__).parent.parent))
    done = subprocess.run(["bash", "-c", shell], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "defect" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr or limit == "files", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGTERM"])
def test_the_end_of_a_terminal_and_a_batch_systems_warning_keep_what_is_in_hand(name: str, tmp_path: Path) -> None:
    running = Running(("run", "--trials", "1", "--epochs", "4000", "--quiet", "--threads", "1"), tmp_path)

    def trains() -> bool:
        if not (tmp_path / "lrsearch.db").exists():
            return False
        with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
            return bool(rows(database, "SELECT 1 FROM lrsearch_epochs"))

    wait_until(trains)
    running.send(getattr(signal, name))
    ended = running.result()
    assert ended.code == 143, ended.err
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        ((checkpoint, step),) = rows(database, "SELECT checkpoint, checkpoint_step FROM lrsearch_slots")
    assert checkpoint is not None
    assert step > 0


@pytest.mark.slow
def test_no_more_workers_are_started_than_there_are_trials(lrsearch: InProcess) -> None:
    n = 2 * cores.available()
    done = lrsearch("run", "--trials", "1", "--epochs", "1", "--workers", str(n))
    assert done.code in (0, 3), done.err
    assert f"1 of the {n} workers are started: no more trials are left" in done.err


def test_every_number_of_the_study_file_has_an_upper_bound() -> None:
    def bounded(field: object) -> bool:
        found = list(getattr(field, "metadata", ()))
        for arg in typing.get_args(getattr(field, "annotation", None)):
            found += list(getattr(arg, "__metadata__", ()))
        flat = [one for item in found for one in (getattr(item, "metadata", None) or [item])]
        return any(isinstance(one, Le | Lt) for one in flat) and any(isinstance(one, Ge | Gt) for one in flat)

    assert bounded(StudySpec.model_fields["epochs"])

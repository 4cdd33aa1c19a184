"""How many threads a worker has, how they wait, and who says that there are too many."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from command_line import InProcess, clean_environment
from conftest import claims_of, make_spec, wait_until

from lrsearch import cores
from lrsearch.events import EndReason, SearchEnded
from lrsearch.store import at_work, filing, health
from lrsearch.store.claims import Claim
from lrsearch.store.places import SqliteFile
from lrsearch.store.storage import Database
from lrsearch.training import device

pytest_plugins = ["command_line"]

LONG = (
    "--epochs",
    "400",
    "--set",
    "space.batch_size=32",
    "--set",
    "pruner.name=none",
    "--quiet",
    "--set",
    "model.name=cnn",
)


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment with which a process began."""
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(word.decode().split("=", 1) for word in words if b"=" in word)


def trains(folder: Path) -> bool:
    if not (folder / "lrsearch.db").exists():
        return False
    with closing(Database(SqliteFile(folder / "lrsearch.db"))) as database, database.reading() as connection:
        return bool(connection.exec_driver_sql("SELECT 1 FROM lrsearch_epochs").first())


def test_threads_wait_passively_unless_a_person_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cores.OF_WAITING:
        monkeypatch.delenv(name, raising=False)
    cores.wait_passively()
    assert os.environ.pop("OMP_WAIT_POLICY") == "PASSIVE"
    for name in cores.OF_WAITING:
        monkeypatch.setenv(name, "7")
        before = dict(os.environ)
        cores.wait_passively()
        assert dict(os.environ) == before
        monkeypatch.delenv(name)


PROBE = """
import sys
class Probe:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            import os
            print("torch with", os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr)
sys.meta_path.insert(0, Probe())
sys.argv = ["lrsearch", *sys.argv[1:]]
from lrsearch.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv",
    [
        ("run", "--trials", "1", "--epochs", "1", "--quiet"),
        ("worker", "--study", "digits", "--quiet"),
        ("train", "--epochs", "1", "--quiet"),
        ("predict",),
    ],
    ids=lambda argv: argv[0],
)
def test_every_command_that_trains_sets_it_before_pytorch_is_imported(
    argv: tuple[str, ...], finished_here: Path
) -> None:
    environment = clean_environment(finished_here)
    for name in cores.OF_WAITING:
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *argv], cwd=finished_here, env=environment, capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("torch with")]
    assert said, done.stderr
    assert set(said) == {"torch with PASSIVE"}


@pytest.fixture
def finished_here(tmp_path: Path, lrsearch: InProcess) -> Path:
    done = lrsearch("run", "--trials", "1", "--epochs", "1", "--quiet", "--threads", "1")
    assert done.code in (0, 3), done.err
    return tmp_path


@pytest.mark.slow
def test_local_workers_inherit_it(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path)
    for name in cores.OF_WAITING:
        environment.pop(name, None)
    command = [sys.executable, "-m", "lrsearch", "run", "--workers", "2", "--trials", "4", *LONG]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: trains(tmp_path))
        with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database, database.reading() as connection:
            pids = [pid for (pid,) in connection.exec_driver_sql("SELECT pid FROM lrsearch_workers")]
        assert pids
        for pid in pids:
            # What the forkserver began with is what its children have.
            assert environment_of(pid)["OMP_WAIT_POLICY"] == "PASSIVE"
    finally:
        process.terminate()
        process.wait(60)


def test_cores_are_shared_evenly_and_a_dense_network_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available", lambda: 8)
    assert [device.threads_for("cnn", n) for n in (1, 2, 3, 8, 9, 100)] == [8, 4, 2, 1, 1, 1]
    assert [device.threads_for("mlp", n) for n in (1, 8)] == [1, 1]


def test_the_mask_of_a_process_limits_its_cores() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from lrsearch import cores; print(cores.available())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_denormals_count_as_zero_where_a_training_begins_and_the_versions_say_so() -> None:
    device.prepare(torch.device("cpu"), torch.get_num_threads())
    assert torch.tensor(1e-40).mul(1.0).item() == 0
    assert device.versions().endswith(", denormals flushed")


@pytest.mark.slow
def test_numpy_says_nothing_of_denormals_after_a_training_began() -> None:
    # numpy 1.26 measures its types when first asked, and scipy, pandas and plotly ask.
    words = (
        "import torch, numpy; from lrsearch.training import device; device.prepare(torch.device('cpu'), 1); "
        "numpy.finfo(numpy.float32).tiny, numpy.finfo(numpy.float64).tiny"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", words], check=True, timeout=120)


def test_the_workers_of_this_machine_are_counted_and_too_many_threads_are_said(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "available", lambda: os.cpu_count() or 1)
    study = filing.create(database, make_spec())
    n = os.cpu_count() or 1
    all_claims = [claims_of(study) for _ in range(3)]
    assert at_work.on_this_machine(database) == []
    assert at_work.crowded(database) is None
    for claims, words in zip(all_claims, (f"cpu ({n} threads)", "cpu (1 thread)", "cuda:0 (a card)"), strict=True):
        claims.device = words
        assert isinstance(claims.claim(), Claim)
    here = at_work.on_this_machine(database)
    assert sorted(here) == sorted([f"cpu ({n} threads)", "cpu (1 thread)"])
    assert at_work.on_this_machine(database, without=all_claims[0].worker) == ["cpu (1 thread)"]
    said = f"2 workers of this machine have {n + 1} threads, and it has {n} cores"
    assert at_work.crowded(database) == said
    (check,) = [check for check in health.examine(database.place, None, fix=False) if check.subject == "cores"]
    assert check.said.startswith(said)
    assert "leave --threads out" in check.advice
    # A worker that has fewer threads from now on says so.
    all_claims[0].device = "cpu (1 thread)"
    for _ in range(3):
        assert isinstance(all_claims[0].claim(), Claim)
    assert at_work.on_this_machine(database) == ["cpu (1 thread)"] * 2
    ended = all_claims[0].claim()
    assert isinstance(ended, SearchEnded)
    assert ended.reason == EndReason.HELD_ELSEWHERE
    assert at_work.crowded(database) is None or n == 1


def test_status_says_that_a_machine_is_crowded(lrsearch: InProcess, tmp_path: Path) -> None:
    n = os.cpu_count() or 1
    assert lrsearch("run", "--detach", "--trials", "5", "--quiet").code == 0
    with closing(Database(SqliteFile(tmp_path / "lrsearch.db"))) as database:
        from lrsearch.store import study as studies

        claims = claims_of(studies.get(database, "digits"))
        claims.device = f"cpu ({4 * n} threads)"
        assert isinstance(claims.claim(), Claim)
        assert lrsearch("status", "--json").document["crowded"].startswith("1 worker of this machine has")
        assert f"{4 * n} threads, and it has" in " ".join(lrsearch("status").out.split())

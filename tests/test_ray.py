"""Workers on a real Ray cluster of three nodes: one node is lost, the driver is interrupted, and nothing is left."""

import http.server
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray_nodes
from command_line import InProcess, Result, Running, clean_environment, one_line
from conftest import forkserver, wait_until
from postgres import Account
from ray_nodes import Nodes
from test_secrets import traces

import lrsearch
from lrsearch.errors import EXIT_DEVICE, EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE
from lrsearch.store import at_work
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database
from lrsearch.trial import State
from lrsearch.workers import ray_cluster

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import chaos
import chaos_check

pytest_plugins = ["command_line"]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'lrsearch[ray]'"
)

N_TRIALS, N_EPOCHS = 24, 40
STUDY = f"""
name = "far"
epochs = {N_EPOCHS}
dataset.name = "digits"
budget.trials = {N_TRIALS}
pruner.name = "none"
sampler.portfolio = false
workers.checkpoint_seconds = 0
space.batch_size = 32
"""
ENDING = re.compile(r"^[\d.]+s [<!] (\d+) ", re.MULTILINE)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes.three_nodes() as made:
        yield made


def start(nodes: Nodes, url: str, folder: Path, *more: str, ray: str | None = None, package: str = "") -> Running:
    """Start a search on the cluster, the password of its database in the environment alone.

    Args:
        nodes: the cluster.
        url: of the database.
        folder: where the search is started, and where checkpoints go.
        more: further words of the command line.
        ray: another address of the cluster.
        package: a folder with another lrsearch in it.
    """
    (folder / "far.toml").write_text(STUDY)
    argv = ["run", "far.toml", "--ray", ray or nodes.address, "--artifacts", str(folder / "artifacts"), *more]
    return Running(argv, folder, LRSEARCH_STORAGE=url, PYTHONPATH=package or ray_nodes.environment()["PYTHONPATH"])


def under_way(url: str) -> set[int]:
    """Return the process ids of workers that have a trial in hand of which an epoch has been accepted."""
    with closing(Database(parse_place(url))) as database:
        study = studies.find(database, "far")
        if study is None:
            return set()
        begun = {t.number for t in study.trials() if t.metrics and t.outcome is None}
        return {int(w.name.rpartition(":")[2]) for w in at_work.living(study) if w.number in begun}


@contextmanager
def standing_still(pids: Sequence[int]) -> Iterator[None]:
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def check_no_password(nodes: Nodes, account: Account, result: Result, told: str) -> None:
    logs = [path for path in nodes.folder.rglob("*") if path.is_file()]
    assert any("worker-" in path.name for path in logs), "Ray's logs are looked at"
    found = {str(path): traces(account.password, path.read_bytes().decode("latin-1")) for path in logs}
    found |= {"stdout": traces(account.password, result.out), "stderr": traces(account.password, result.err)}
    found["state"] = traces(account.password, told)
    assert {where: forms for where, forms in found.items() if forms} == {}


def test_a_node_is_lost_and_the_budget_is_exact_and_each_trial_as_it_is_anywhere(
    nodes: Nodes, tmp_path: Path, postgres_server: Account, postgres_url: str
) -> None:
    process = start(nodes, postgres_url, tmp_path, "--workers", "4", "--json")
    place = parse_place(postgres_url)
    # Not the first: the driver is attached to it.
    last = len(nodes.raylets) - 1
    wait_until(lambda: process.process.poll() is not None or len(under_way(postgres_url)) == 4)
    assert process.process.poll() is None, process.read("stderr")
    on = [set(nodes.workers(k)) for k in range(last + 1)]
    assert sum(map(len, on)) == 4, "Ray has placed them"
    lost = last if on[last] else last - 1
    (left, *others) = sorted(under_way(postgres_url) - on[lost])
    # The others stand still until both places are taken, however fast the machine is.
    with standing_still(others):
        os.kill(left, signal.SIGTERM)
        nodes.remove(lost)
        n_replaced = 1 + len(on[lost])
        assert process.wait_for(lambda p: p.read("stderr").count("takes its place") == n_replaced)
    commands = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert traces(postgres_server.password, "\n".join(commands)) == []
    result = process.result()
    assert result.code == EXIT_OK, result.err
    with closing(Database(place)) as database:
        study = studies.get(database, "far")
        seen = chaos_check.read(study, tmp_path / "artifacts", [])
    assert [*chaos_check._budget(seen), *chaos_check._optuna(seen), *chaos_check._repeated_work(seen)] == []
    told = [int(number) for number in ENDING.findall(result.err)]
    assert len(told) == len(set(told)), "each trial ended once"
    tellers = {int(row["worker"].rpartition(":")[2]) for row in seen.slots}
    assert tellers - set.union(*on), "those in the place of the lost have finished trials"
    reasons = {row["reason"] for row in seen.interruptions}
    # One of them may have been between two trials.
    assert reasons, result.err
    assert reasons <= {"lost", "preempted"}
    assert re.search(
        rf"^[\d.]+s ~ worker process {left} on \S+ ended before its time; process \d+ on ", result.err, re.MULTILINE
    )
    for pid in on[lost]:
        assert re.search(rf"~ worker process {pid} on \S+ was lost with its node; process \d+ on \S+ takes", result.err)
    assert set(result.document["winner"]) >= {"number"}
    assert sum(t.test_accuracy is not None for t in seen.trials) == 1, "the winner was judged, once"
    # The same settings, trained here one after another.
    assert {t.state for t in seen.trials} <= {State.COMPLETE, State.DIVERGED}
    seen.repeated = chaos.repeated(seen.spec, {t.number: t.config for t in seen.trials}, forkserver())
    assert len(seen.repeated) == N_TRIALS
    assert [*chaos_check._uninterrupted(seen)] == []
    alive, groups, in_use, words = nodes.left()
    assert (alive, groups, in_use) == (0, 0, False)
    check_no_password(nodes, postgres_server, result, words)


def test_ctrl_c_leaves_the_cluster_clean_and_keeps_what_was_in_hand(
    nodes: Nodes, tmp_path: Path, postgres_server: Account, postgres_url: str
) -> None:
    process = start(nodes, postgres_url, tmp_path, "--workers", "3", "--set", "epochs=5000")
    assert process.wait_for(lambda p: len(under_way(postgres_url)) == 3), process.read("stderr")
    killed, slow, _ = under_way(postgres_url)
    with standing_still([slow]):
        psutil.Process(killed).suspend()
        process.send(signal.SIGINT)
        os.kill(killed, signal.SIGKILL)
        assert nodes.states(n_dead=2) == ["ALIVE", "DEAD", "DEAD"], "who dies now does not begin again"
    result = process.result()
    assert result.code == EXIT_INTERRUPTED, result.err
    assert result.err.splitlines()[-1].startswith("lrsearch: interrupted; 0 finished trials are kept")
    with closing(Database(parse_place(postgres_url))) as database:
        study = studies.get(database, "far")
        seen = chaos_check.read(study, tmp_path / "artifacts", [])
        assert at_work.living(study) == []
    assert seen.n_leases == 1, "but for the one that was killed, the trials were given back"
    assert [row["reason"] for row in seen.interruptions] == ["preempted"] * 2
    assert all(row["step"] > 0 for row in seen.interruptions), "from there they go on"
    alive, groups, in_use, words = nodes.left()
    assert (alive, groups, in_use) == (0, 0, False)
    assert not any(nodes.workers(k) for k in range(len(nodes.raylets)))
    check_no_password(nodes, postgres_server, result, words)


def n_epochs(url: str) -> int:
    with closing(Database(parse_place(url))) as database:
        return sum(len(t.metrics) for t in studies.get(database, "far").trials())


@pytest.mark.skipif(importlib.util.find_spec("grpc") is None, reason="needs Ray's client: pip install 'lrsearch[ray]'")
def test_through_rays_client_a_worker_that_dies_between_two_calls_is_replaced(
    nodes: Nodes, tmp_path: Path, postgres_url: str
) -> None:
    def begun() -> Running:
        return start(nodes, postgres_url, tmp_path, "--workers", "1", "--trials", "2", ray=nodes.client)

    process = begun()
    has_begun = process.wait_for(lambda p: len(under_way(postgres_url)) == 1)
    if not has_begun and "Starting Ray client server failed" in process.read("stderr"):
        process = begun()  # Ray waits half a minute for a process of its own; a busy machine takes longer at times
        has_begun = process.wait_for(lambda p: len(under_way(postgres_url)) == 1)
    assert has_begun, process.read("stderr")
    (killed,) = under_way(postgres_url)
    # While the driver stands still every call that it has made is answered, and it makes no other.
    with standing_still([process.process.pid]):
        n = n_epochs(postgres_url)
        wait_until(lambda: n_epochs(postgres_url) > n)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: any(set(nodes.workers(k)) - {killed} for k in range(len(nodes.raylets))))
    result = process.result()
    assert result.code == EXIT_OK, result.err
    assert re.search(rf"~ worker process {killed} on \S+ ended before its time; process \d+ on ", result.err), (
        result.err
    )
    with closing(Database(parse_place(postgres_url))) as database:
        seen = chaos_check.read(studies.get(database, "far"), tmp_path / "artifacts", [])
    assert [*chaos_check._budget(seen), *chaos_check._optuna(seen), *chaos_check._repeated_work(seen)] == []
    told = [int(number) for number in ENDING.findall(result.err)]
    assert len(told) == len(set(told)), "each trial ended once"
    assert nodes.left()[:3] == (0, 0, False)


def test_a_node_with_another_lrsearch_is_named(nodes: Nodes, tmp_path: Path, postgres_url: str) -> None:
    here = Path(lrsearch.__file__).parent
    shutil.copytree(here, tmp_path / "newer" / "lrsearch", ignore=shutil.ignore_patterns("__pycache__"))
    initial = tmp_path / "newer" / "lrsearch" / "version.py"
    initial.write_text(initial.read_text().replace(f'"{lrsearch.__version__}"', '"99.0.0"'))
    result = start(nodes, postgres_url, tmp_path, package=str(tmp_path / "newer")).result()
    assert result.code == EXIT_FAILURE, result.err
    last = result.err.splitlines()[-1]
    assert re.match(r"lrsearch: a worker cannot start .* every node needs lrsearch 99\.0\.0: ", last), result.err
    assert re.search(rf"the node [\d.]+ has lrsearch {re.escape(lrsearch.__version__)}$", last)
    assert "Traceback" not in result.err
    assert nodes.left()[:3] == (0, 0, False)


def test_more_than_any_node_has_is_said_and_sigterm_ends_it(nodes: Nodes, tmp_path: Path, postgres_url: str) -> None:
    process = start(nodes, postgres_url, tmp_path, "--workers", "3", "--gpus-per-worker", "2")
    assert process.wait_for(lambda p: "waiting" in p.read("stderr"))
    process.send(signal.SIGTERM)
    result = process.result()
    assert result.code == EXIT_TERMINATED, result.err
    assert result.err.splitlines()[-1].startswith("lrsearch: interrupted; ")
    assert "= waiting: no resources for 3 of 3 workers: each needs 1 CPU and 2 GPUs, and no node" in result.err
    assert "Traceback" not in result.err
    assert nodes.left()[:3] == (0, 0, False)


def test_a_worker_that_cannot_start_ends_the_search_in_one_sentence(
    nodes: Nodes, tmp_path: Path, postgres_url: str
) -> None:
    process = start(nodes, postgres_url, tmp_path, "--gpus-per-worker", "0", "--device", "cuda")
    result = process.result()
    assert result.code != EXIT_OK
    last = result.err.splitlines()[-1]
    assert re.match(r"lrsearch: worker \d+ on [\d.]+: ", last), result.err
    assert "Traceback" not in result.err
    assert nodes.left()[:3] == (0, 0, False)


IMPATIENT = """
import sys
from lrsearch.workers import ray as ray_workers
from lrsearch.__main__ import main
ray_workers.SILENT_SECONDS = 1.0
main()
"""


@dataclass
class Here:
    """A search on a cluster that it has started itself, a training under way."""

    process: subprocess.Popen[bytes]
    said: Path
    family: list[psutil.Process]

    @property
    def head(self) -> psutil.Process:
        (head,) = [child for child in self.family if child.name() == "gcs_server"]
        return head

    def ended(self) -> tuple[int, list[psutil.Process]]:
        """Wait for its end; return its exit code and what of Ray is left."""
        code = self.process.wait(60)
        _, alive = psutil.wait_procs(self.family, timeout=10)
        return code, [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def searching_here(tmp_path: Path, *program: str) -> Iterator[Here]:
    (tmp_path / "far.toml").write_text(STUDY)
    said = tmp_path / "stderr"
    with ray_nodes.short_folder() as folder, said.open("w") as err:
        environment = clean_environment(
            tmp_path, RAY_TMPDIR=str(folder), PYTHONPATH=ray_nodes.environment()["PYTHONPATH"]
        )
        argv = ["run", "far.toml", "--ray", "local", "--workers", "1", "--set", "epochs=5000"]
        process = subprocess.Popen(
            [sys.executable, *program, *argv], cwd=tmp_path, env=environment, stdout=err, stderr=err
        )
        wait_until(lambda: process.poll() is not None or ". 0 epoch 2/" in said.read_text())
        yield Here(process, said, psutil.Process(process.pid).children(recursive=True))


def test_a_head_that_freezes_as_the_search_ends_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with searching_here(tmp_path, "-m", "lrsearch") as here:
        here.head.suspend()
        here.process.send_signal(signal.SIGINT)
        code, left = here.ended()
    assert code == EXIT_INTERRUPTED, here.said.read_text()
    assert left == []


def test_a_gpu_that_this_machine_has_not_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "far.toml").write_text(STUDY)
    with ray_nodes.short_folder() as folder:
        argv = ["run", "far.toml", "--ray", "local", "--workers", "1", "--gpus-per-worker", "64"]
        result = Running(argv, tmp_path, RAY_TMPDIR=str(folder)).result()
    assert result.code == EXIT_DEVICE, result.err
    assert re.search(r"a worker needs 1 CPU and 64 GPUs, and this machine, .* has \d+ CPUs?", result.err)
    assert "RAY_BACKEND_LOG_LEVEL" not in result.err


def test_a_second_ctrl_c_ends_a_cluster_that_was_started_here_at_once(tmp_path: Path) -> None:
    with searching_here(tmp_path, "-m", "lrsearch") as here:
        (worker,) = filter(ray_nodes.is_worker, here.family)
        worker.suspend()  # it does not leave when it is asked to
        here.process.send_signal(signal.SIGINT)
        wait_until(lambda: "ended: interrupted" in here.said.read_text())
        here.process.send_signal(signal.SIGINT)
        code, left = here.ended()
    assert code == EXIT_INTERRUPTED, here.said.read_text()
    assert left == []


def test_a_cluster_that_is_started_here_takes_a_file_and_a_head_that_dies_ends_the_search(tmp_path: Path) -> None:
    with searching_here(tmp_path, "-c", IMPATIENT) as here:
        assert any(map(ray_nodes.is_worker, here.family))
        here.head.kill()
        code, left = here.ended()
    said = here.said.read_text()
    assert code == EXIT_FAILURE, said
    *lines, last = said.splitlines()
    assert re.match(r"lrsearch: the Ray cluster at \S+ has not answered for \d+ s \(.+\): the run ends, its ", last), (
        said
    )
    assert sum("= waiting: the Ray cluster at " in line for line in lines) == 1
    assert not any("Traceback" in line for line in lines), said
    assert left == [], "nothing of Ray's is left"
    assert "artifacts" not in said, "one machine sees its own folder"
    with closing(Database(parse_place(str(tmp_path / "lrsearch.db")))) as database:
        seen = chaos_check.read(studies.get(database, "far"), tmp_path / "lrsearch.artifacts", [])
        assert at_work.living(studies.get(database, "far")) == []
    assert seen.n_leases == 0, "the trial was given back"


def test_parts_of_a_gpu_are_counted_as_ray_counts_them() -> None:
    def room(gpus: float) -> int:
        return ray_cluster._room_in({"CPU": 64.0, "GPU": 2.0}, ray_cluster.Needs(1, gpus))

    assert [room(part) for part in (0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 1.0, 2.0)] == [20, 10, 8, 6, 4, 2, 2, 1]


# --- what cannot be meant, or reached --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "foo"], "got 'foo'"),
        (["--ray", "http://head:8265"], "got 'http://head:8265'"),
        (["--ray", "head:6379"], "PostgreSQL"),
        (["--ray", "local", "--detach"], "--detach"),
        (["--ray", "local", "--gpus-per-worker", "1.5"], "got 1.5"),
        (["--ray", "local", "--workers-per-gpu", "4", "--workers", "auto"], "--gpus-per-worker 0.25"),
        (["--ray", "local", "--device", "cuda:1"], "cuda:1"),
        (["--gpus-per-worker", "1"], "--ray"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(lrsearch: InProcess, words: list[str], said: str) -> None:
    result = lrsearch("run", "digits", *words)
    assert result.code == EXIT_USAGE
    assert said in one_line(result)
    assert not Path("lrsearch.db").exists()


def test_ray_that_is_not_installed_is_named(lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = lrsearch("run", "digits", "--ray", "local")
    assert result.code == EXIT_USAGE
    assert "pip install 'lrsearch[ray]'" in one_line(result)


class _Web(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web_port() -> Iterator[int]:
    """The port of a web server, as Ray's own dashboard is one."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_cluster_that_is_not_there_is_said_in_one_sentence(
    lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch, postgres_url: str, web_port: int, form: str
) -> None:
    monkeypatch.setenv("LRSEARCH_STORAGE", postgres_url)
    for address, said in (
        ("127.0.0.1:1", "Connection refused"),
        (f"127.0.0.1:{web_port}", "not Ray"),
        ("nobody.invalid:6379", "not known"),
    ):
        result = lrsearch("run", "digits", "--ray", form.format(address))
        assert result.code == EXIT_FAILURE
        assert f"the Ray cluster at {form.format(address)} cannot be joined: " in one_line(result)
        assert said in result.err


def test_no_name_of_a_cluster_is_auto(lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    assert "PostgreSQL" in one_line(lrsearch("run", "digits", "--ray", "auto"))

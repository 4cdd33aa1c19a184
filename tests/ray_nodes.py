"""A real Ray cluster of three nodes on this machine, which cannot outlive the tests.

It is run by a process of its own, so that Ray is not in that of the tests, and ends when whoever made it is gone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

N_NODES, CPUS = 3, 2
MEMORY = 80 * 2**20
"""[bytes] Of a node's object store; Ray wants 75 MiB at least."""

PROGRAM = f"""
import json, os, pathlib, socket, sys
from ray.cluster_utils import Cluster
# Ray writes its address there, wherever the cluster itself lies, and nobody may have started one on this machine.
pathlib.Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray").mkdir(parents=True, exist_ok=True)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    client = probe.getsockname()[1]
# A node that is gone is known to be so after a second, not after twenty.
soon = {{"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}}
every = {{"num_cpus": {CPUS}, "object_store_memory": {MEMORY}, "include_dashboard": False}}
head = {{**every, "temp_dir": sys.argv[1], "ray_client_server_port": client, "_system_config": soon}}
cluster = Cluster(initialize_head=True, head_node_args=head)
nodes = [cluster.head_node, *(cluster.add_node(**every) for _ in range({N_NODES} - 1))]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(json.dumps([cluster.address, f"ray://127.0.0.1:{{client}}", raylets]), flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes[int(line)], allow_graceful=False)
cluster.shutdown()
"""

LEFT = """
import json, sys, time
import ray
import ray._private.state as state
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
until = time.monotonic() + 15
while True:
    alive = [actor for actor in state.actors().values() if actor["State"] != "DEAD"]
    in_use = ray.cluster_resources().get("CPU") != ray.available_resources().get("CPU")
    if not (alive or in_use) or time.monotonic() > until:
        break
    time.sleep(0.1)
told = str([state.actors(), state.jobs(), ray.nodes()])
print(json.dumps([len(alive), len(ray.util.placement_group_table()), in_use, told]))
"""

DEAD = """
import json, sys, time
import ray
import ray._private.state as state
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
until = time.monotonic() + 15
while True:
    actors = list(state.actors().values())
    last = max(actor["JobID"] for actor in actors)
    states = sorted(actor["State"] for actor in actors if actor["JobID"] == last)
    if states.count("DEAD") >= int(sys.argv[2]) or time.monotonic() > until:
        break
    time.sleep(0.1)
print(json.dumps(states))
"""


def environment() -> dict[str, str]:
    """Return the environment of Ray's processes: they find the package that is tested, and tell nobody."""
    found = [str(Path(__file__).parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "LRSEARCH_"))}
    patient = {"RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120"}  # 30 s do not do on a busy machine
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, found)), "RAY_USAGE_STATS_ENABLED": "0"} | patient


@dataclass(frozen=True)
class Nodes:
    """The cluster while it runs."""

    address: str
    client: str
    """Of the head, for drivers that need not be on a node."""
    raylets: list[int]
    """Process ids; the first is the head's, which a driver of this machine joins."""
    folder: Path
    """What Ray's processes write: logs, above all."""
    _program: "subprocess.Popen[str]"

    def workers(self, node: int) -> list[int]:
        """Return the process ids of the workers that a node has."""
        try:
            children = psutil.Process(self.raylets[node]).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child.pid for child in children if is_worker(child)]

    def remove(self, node: int) -> None:
        """Have a node vanish, without a word."""
        assert self._program.stdin is not None
        self._program.stdin.write(f"{node}\n")
        self._program.stdin.flush()

    def left(self) -> tuple[int, int, bool, str]:
        """Return what the cluster, given a moment, still has: actors, placement groups, resources in use.

        And all that it tells of what it had.
        """
        alive, groups, in_use, told = self._ask(LEFT)
        return alive, groups, in_use, told

    def states(self, n_dead: int) -> list[str]:
        """Return the states of the actors of the last driver that had some, when so many are dead, or after a while."""
        return [str(state) for state in self._ask(DEAD, str(n_dead))]

    def _ask(self, program: str, *words: str) -> list[Any]:
        command = [sys.executable, "-c", program, self.address, *words]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        answer: list[Any] = json.loads(done.stdout)
        return answer


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is that of one of our actors; Ray writes what it does into its name."""
    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("ray::RayActor")
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder for what Ray writes: the paths of its sockets have a limit."""
    folder = Path(tempfile.mkdtemp(prefix="lr-ray-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def three_nodes() -> Iterator[Nodes]:
    """Start the cluster; end it at exit."""
    with short_folder() as folder, (folder / "program").open("w") as log:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            assert program.stdout is not None
            line = next((line for line in program.stdout if line.startswith("[")), None)
            assert line is not None, (folder / "program").read_text()
            yield Nodes(*json.loads(line), folder, program)
        finally:
            family = psutil.Process(program.pid).children(recursive=True)
            program.communicate(timeout=60)
            _, alive = psutil.wait_procs(family, timeout=10)
            for process in alive:
                process.kill()

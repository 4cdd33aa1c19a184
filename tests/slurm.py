"""A real Slurm of one node for the tests: its controller and its node daemon, in a folder, without munge.

Debian has both in slurm-wlm. Nothing of it survives the tests, however they end.
"""

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from postgres import _free_port as free_port

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue")
DEADLINE_SECONDS = 120.0
KILL_WAIT_SECONDS = 30
"""Slurm's own default for the time from SIGTERM to SIGKILL."""

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={controller_port}
SlurmdPort={node_port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait={kill_wait}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=spot Nodes=ALL Default=YES State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL State=UP PriorityTier=10
"""

# As that of PostgreSQL (postgres.py): ends the daemon when its standard input closes, when the tests are gone.
GUARD = """
import os, subprocess, sys, threading
with open(sys.argv[1], "ab") as out:
    daemon = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
def watch():
    os.read(0, 1)
    daemon.terminate()
threading.Thread(target=watch, daemon=True).start()
os._exit(daemon.wait() & 255)
"""


def missing() -> str | None:
    """Return why there can be no Slurm here, or None."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"needs Slurm (Debian: slurm-wlm); not found: {', '.join(absent)}"
    # A job's processes are started for its user by a daemon that may do so.
    return None if os.geteuid() == 0 else "a node of Slurm needs root"


class Cluster(AbstractContextManager["Cluster"]):
    """One node, partition ``spot``, and ``urgent`` whose jobs preempt those of ``spot``."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self._folder, self._configuration = folder, folder / "slurm.conf"
        self._guards: list[subprocess.Popen[bytes]] = []
        for name in ("state", "spool"):
            (folder / name).mkdir()
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            folder=folder,
            controller_port=free_port(),
            node_port=free_port(),
            kill_wait=KILL_WAIT_SECONDS,
            cpus=cpus,
        )
        self._configuration.write_text(text)

    def __enter__(self) -> Self:
        for daemon in ("slurmctld", "slurmd"):
            command = [sys.executable, "-I", "-S", "-c", GUARD, str(self._folder / daemon), daemon, "-D"]
            guard = subprocess.Popen(command, stdin=subprocess.PIPE, env=self.environment, start_new_session=True)
            self._guards.append(guard)
        self.wait_for(lambda: "idle" in self._said("sinfo", "--noheader", "--format=%T"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._said("scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}")
        self._said("scancel", f"--user={getpass.getuser()}")
        for guard in self._guards:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(DEADLINE_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's programs need."""
        return {**os.environ, "SLURM_CONF": str(self._configuration)}

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Look until it holds."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds():
            logs = {path.name: path.read_text(errors="replace")[-1000:] for path in self._folder.glob("slurm*[ld]")}
            assert time.monotonic() < deadline, f"waited in vain; {self._said('squeue')}; {logs}"
            time.sleep(0.1)

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """Run one of Slurm's programs; return what it printed."""
        done = subprocess.run(command, cwd=cwd, env={**self.environment, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """Return what Slurm knows about a job or a task of an array (``7_0``); nothing where it knows none."""
        return dict(re.findall(r"(\w+)=(\S*)", self._said("scontrol", "show", "job", number)))

    def _said(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path / "slurm"
    folder.mkdir()
    with Cluster(folder, cpus=4) as running:
        yield running

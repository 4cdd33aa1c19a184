"""Two machines work on one study, and the link of one is cut within a trial."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import two_hosts
from conftest import forkserver, wait_until
from ones_own import NET, make_pictures
from postgres import Server

from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import chaos
from chaos_check import Evidence, Worker, read, violations

LEASE_SECONDS = 3.0
IMPATIENT = "?tcp_user_timeout=3000&connect_timeout=2&options=-c%20idle_in_transaction_session_timeout%3D2s"
"""Give up on a silent link after 3 s instead of 20, so that the test is short."""


@pytest.fixture
def hosts() -> Iterator[two_hosts.Network]:
    with two_hosts.store_and_two() as made:
        yield made


def study_spec() -> StudySpec:
    return study_file.build(
        {
            "name": "joined",
            "epochs": 40,
            "dataset": {"name": "digits"},
            # More than the other one does while a host is cut off: on a busy machine that is longer.
            "budget": {"trials": 12},
            "pruner": {"name": "asha", "min_resource": 20},
            "workers": {"lease_seconds": LEASE_SECONDS, "checkpoint_seconds": 0},
            "space": {"batch_size": 16},
        },
        "the test",
    )


class Host:
    """A worker on a host of its own."""

    def __init__(self, hosts: two_hosts.Network, name: str, url: str, log: Path) -> None:
        self.name, self.log = name, log
        argv = [sys.executable, "-m", "lrsearch", "worker", "--study", "joined", "--device", "cpu", "--threads", "1"]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                hosts.command(name, argv), stderr=out, stdout=out, env={**os.environ, "LRSEARCH_STORAGE": url}
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def so_far(self) -> Worker:
        """The worker by its complete lines."""
        return Worker("", self.text.rpartition("\n")[0], 0)

    def over(self, *, cut_at: float | None = None) -> Worker:
        code = self.process.wait(60)
        paused = None if cut_at is None else "its link was cut"
        return Worker(f"{self.name}:{self.process.pid}", self.text, code, None, paused, cut_at)


def test_a_host_that_is_cut_off_loses_its_trial_to_the_other_and_comes_back(
    hosts: two_hosts.Network, tmp_path: Path
) -> None:
    spec, artifacts = study_spec(), tmp_path / "artifacts"

    with (
        Server.start(tmp_path / "postgres", listen=hosts.address("store"), netns=hosts.namespace("store")) as server,
        # What this thread opens is opened on the host of the database.
        ThreadPoolExecutor(1, initializer=two_hosts.enter, initargs=(hosts, "store")) as there,
    ):
        url = server.create_database()
        place = parse_place(url)
        filed = there.submit(filing.file_study, spec, place, explicit_budget=True, artifacts=str(artifacts))
        filed.result().database.close()
        alpha, beta = (Host(hosts, name, url + IMPATIENT, tmp_path / f"{name}.log") for name in ("alpha", "beta"))
        try:
            wait_until(running(alpha, lambda: under_way(alpha, 3) and under_way(beta, 1)))
            hosts.cut("alpha")
            cut_at = time.time()
            lost = alpha.so_far.attempts[-1].number
            # It has given up on its connection, and its trial has been taken over.
            wait_until(running(alpha, lambda: "trying again" in alpha.text))
            wait_until(running(beta, lambda: any(a.number == lost and a.resumed for a in beta.so_far.attempts)))
            hosts.heal("alpha")
            workers = [alpha.over(cut_at=cut_at), beta.over()]
        finally:
            for host in (alpha, beta):
                host.process.kill()
                host.process.wait()

        def seen() -> Evidence:
            with closing(Database(place)) as database:
                return read(studies.get(database, "joined"), artifacts, workers)

        evidence = there.submit(seen).result()
    evidence.repeated = chaos.repeated(spec, evidence.to_repeat(), forkserver())
    assert violations(evidence) == []
    assert [w.exit_code for w in workers] == [0, 0]
    heard = [a for a in workers[0].attempts if a.interrupted == "lost"]
    assert [a.number for a in heard] == [lost], workers[0].text
    assert workers[0].attempts[-1].number != lost, "it should have gone on with another trial"
    assert lost in evidence.repeated
    assert "answers again after" in workers[0].text
    assert "trying again" not in workers[1].text, "nothing was wrong with the other host's link"


def under_way(host: Host, epochs: int) -> bool:
    """Whether the host has a trial in hand of which so many epochs have been accepted."""
    attempts = host.so_far.attempts
    return bool(attempts) and len(attempts[-1].epochs) >= epochs and not attempts[-1].ended


def running(host: Host, holds: Callable[[], bool]) -> Callable[[], bool]:
    """Return a look that fails when the host's worker has ended before its time."""

    def look() -> bool:
        assert host.process.poll() is None, host.text
        return holds()

    return look


def test_two_hosts_have_a_persons_pictures_at_two_paths(hosts: two_hosts.Network, tmp_path: Path) -> None:
    """Filed on a third host, whose folder is gone by then; each has a cache of its own."""
    net = tmp_path / "net.py"
    net.write_text(NET)
    pictures = make_pictures(tmp_path / "filed" / "pics")
    mounts = {name: shutil.copytree(pictures, tmp_path / name / f"of {name}") for name in ("alpha", "beta")}
    with Server.start(tmp_path / "postgres", listen=hosts.address("store"), netns=hosts.namespace("store")) as server:
        environment = {**os.environ, "LRSEARCH_STORAGE": server.create_database()}

        def on(host: str, *words: str) -> "subprocess.Popen[str]":
            return subprocess.Popen(
                hosts.command(host, [sys.executable, "-m", "lrsearch", *words]),
                env=environment | {"LRSEARCH_CACHE": str(tmp_path / f"cache of {host}")},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        def done(process: "subprocess.Popen[str]") -> str:
            out, err = process.communicate(timeout=180)
            assert process.returncode == 0, err
            return out

        own = ["--dataset", f"folder:{pictures}", "--model", f"{net}:build", "--artifacts", str(tmp_path / "artifacts")]
        space = ["--set", "space.batch_size=8", "--set", "pruner=none", "--epochs", "20", "--trials", "6"]
        done(on("store", "run", "--detach", "--name", "own", *own, *space))
        shutil.rmtree(pictures)
        workers = [
            on(name, "worker", "--study", "own", "--threads", "1", "--data-dir", str(mount))
            for name, mount in mounts.items()
        ]
        for worker in workers:
            done(worker)
        trials = json.loads(done(on("store", "trials", "own", "--json")))["trials"]
    assert [trial["state"] for trial in trials].count("complete") + sum(t["state"] == "diverged" for t in trials) == 6
    assert len({trial["worker"] for trial in trials}) == 2, "both hosts had trials"

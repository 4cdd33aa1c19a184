"""One's own pictures and network where several processes, machines and kills are: workers, PostgreSQL, Ray, resume."""

import importlib.util
import shutil
import signal
from pathlib import Path

import pytest
from command_line import Running, run_process, whole_and_resumed

pytest_plugins = ["command_line", "ones_own"]
pytestmark = pytest.mark.slow

SPACE = ("--set", "space.batch_size=8", "--set", "pruner=none", "--set", "space.stem_ratio=[0.1, 1.0]")


def asked(pictures: Path, net: Path, *more: str) -> list[str]:
    return ["run", "--dataset", f"folder:{pictures}", "--model", f"{net}:build", "--name", "own", *SPACE, *more]


def weights_of(folder: Path, **environment: str) -> list[str]:
    """Return the SHA-256 of the last weights of each trial."""
    done = run_process(["trials", "own", "--json"], folder, **environment)
    assert done.code == 0, done.err
    return [trial["weights_sha256"] for trial in done.document["trials"]]


def test_two_workers_of_this_machine_train_what_one_does(pictures: Path, net: Path, tmp_path: Path) -> None:
    found = []
    for n in ("1", "2"):
        folder = tmp_path / f"by {n}"
        folder.mkdir()
        words = asked(pictures, net, "--epochs", "2", "--trials", "4", "--workers", n, "--threads", "1")
        done = run_process([*words, "--set", "sampler=random"], folder)
        assert done.code == 0, done.err
        found.append(sorted(weights_of(folder)))
    assert found[0] == found[1]


def test_workers_of_two_machines_have_the_folder_at_two_paths(
    pictures: Path, net: Path, tmp_path: Path, postgres_url: str
) -> None:
    there = {"LRSEARCH_STORAGE": postgres_url}
    words = asked(pictures, net, "--epochs", "3", "--trials", "6", "--detach")
    filed = run_process(words, tmp_path, **there)
    assert filed.code == 0, filed.err
    mounts = [shutil.copytree(pictures, tmp_path / f"host{n}" / "data") for n in (1, 2)]
    shutil.rmtree(pictures)
    workers = []
    for n, mount in enumerate(mounts):
        argv = [
            "worker",
            "--study",
            "own",
            "--threads",
            "1",
            "--data-dir",
            str(mount),
            "--artifacts",
            str(tmp_path / "a"),
        ]
        workers.append(Running(argv, mount.parent, **there, LRSEARCH_CACHE=str(tmp_path / f"cache{n}")))
    for worker in workers:
        done = worker.result()
        assert done.code == 0, done.err
    assert len(weights_of(tmp_path, **there)) == 6
    best = run_process(["best", "own", "--json"], tmp_path, **there)
    assert best.code == 0, best.err


@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGINT])
def test_a_trial_that_is_killed_and_resumed_ends_with_the_weights_of_one_that_was_not(
    pictures: Path, net: Path, tmp_path: Path, killed: signal.Signals
) -> None:
    """Dropout and batch norm, in another process, after a checkpoint."""
    words = [*asked(pictures, net, "--epochs", "40", "--trials", "1", "--threads", "1")]
    words += ["--set", "workers.checkpoint_seconds=0", "--set", "workers.lease_seconds=1"]
    whole, cut = whole_and_resumed(words, tmp_path, killed, "epoch 5/40")
    assert weights_of(cut) == weights_of(whole)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'lrsearch[ray]'")
def test_workers_on_ray_train_ones_own(pictures: Path, net: Path, tmp_path: Path) -> None:
    import ray_nodes

    with ray_nodes.short_folder() as folder:
        words = asked(pictures, net, "--epochs", "2", "--trials", "2", "--ray", "local", "--workers", "1")
        environment = ray_nodes.environment()
        done = run_process(words, tmp_path, RAY_TMPDIR=str(folder), PYTHONPATH=environment["PYTHONPATH"])
    assert done.code == 0, done.err
    assert len(weights_of(tmp_path)) == 2

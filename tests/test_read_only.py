"""What can be read can be read: files, folders and file systems that nobody may write."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mounts
import pytest
from command_line import Finished, Result, Running, clean_environment, contents
from conftest import finished as ended
from conftest import started

pytest_plugins = ["command_line"]

READING = {
    "best": ("best", "digits"),
    "list": ("list",),
    "status": ("status", "digits"),
    "trials": ("trials", "digits"),
    "show": ("show", "0", "digits"),
    "report": ("report", "digits", "-o", "OUT/r.html"),
    "export": ("export", "digits", "-o", "OUT/p.py"),
    "show-schedule": ("show-schedule", "digits", "--trial", "0"),
    "doctor": ("doctor",),
    "predict": ("predict", "digits", "--image", "0"),
    "train": ("train", "digits", "--epochs", "1", "-o", "OUT/model", "--quiet"),
}
WRITING = {
    "run": ("run", "digits", "--trials", "100"),
    "extend": ("extend", "digits", "--trials", "+1"),
    "stop": ("stop", "digits"),
    "delete": ("delete", "digits", "-y"),
}
NOBODY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
needs_setpriv = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write anywhere: needs setpriv (util-linux)"
)


def lrsearch(folder: Path, out: Path, *argv: str) -> Result:
    """Run a command on the database in ``folder``, as somebody who may not do what root may."""
    words = [word.replace("OUT", str(out)) for word in argv]
    return Running([*words, "--storage", str(folder / "lrsearch.db")], out, plain=os.geteuid() == 0).result()


@pytest.fixture(scope="module")
def source(finished: Finished) -> Path:
    return Path(finished.database)


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "ro"
    made.mkdir()
    shutil.copy(source, made / "lrsearch.db")
    artifacts = source.with_suffix(".artifacts")
    if artifacts.is_dir():
        shutil.copytree(artifacts, made / "lrsearch.artifacts")
    yield made
    for path in (made, *made.rglob("*")):
        path.chmod(0o755)


def lock(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o555)


@pytest.mark.parametrize("command", READING)
def test_a_read_only_folder_is_read(command: str, folder: Path, tmp_path: Path) -> None:
    lock(folder)
    before = contents(folder)
    done = lrsearch(folder, tmp_path, *READING[command])
    if command == "doctor":
        assert "Traceback" not in done.err
        assert "can be written, and it cannot" in done.out  # the artifacts, as it says
    elif command == "predict" and "--retrain" in done.err:
        assert done.code == 1, done.err  # the weights were not kept
    else:
        assert done.code == 0, done.err
    assert contents(folder) == before


@pytest.mark.parametrize("log", ["none", "empty"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_file_is_read_with_and_without_a_log_beside_it(
    what: str, log: str, folder: Path, tmp_path: Path
) -> None:
    if log == "empty":
        (folder / "lrsearch.db-wal").touch()
    if what == "folder":
        lock(folder)
    else:
        (folder / "lrsearch.db").chmod(0o444)
    done = lrsearch(folder, tmp_path, "best", "digits")
    assert done.code == 0, done.err


def test_changes_that_wait_in_the_log_of_a_read_only_folder_are_never_left_out(folder: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(folder / "lrsearch.db")) as held:
        held.execute("PRAGMA journal_mode=WAL")
        held.execute("UPDATE lrsearch_studies SET budget_trials = 77")
        held.commit()
        shutil.copy(folder / "lrsearch.db", tmp_path / "copy.db")
        for name in ("lrsearch.db-wal",):
            shutil.copy(folder / name, tmp_path / name)
    there = tmp_path / "there"
    there.mkdir()
    shutil.move(tmp_path / "copy.db", there / "lrsearch.db")
    shutil.move(tmp_path / "lrsearch.db-wal", there / "lrsearch.db-wal")
    lock(there)
    done = lrsearch(there, tmp_path, "status", "digits")
    there.chmod(0o755)
    assert done.code == 4, done.err
    assert "has changes that wait in lrsearch.db-wal" in done.err
    assert "copy the file and lrsearch.db-wal into another folder" in done.err


@pytest.mark.parametrize("command", WRITING)
def test_what_writes_says_that_it_cannot(command: str, folder: Path, tmp_path: Path) -> None:
    lock(folder)
    done = lrsearch(folder, tmp_path, *WRITING[command])
    assert done.code == 4, (done.out, done.err)
    assert "cannot be written" in done.err


def _on_a_mount(folder: str, out: str) -> None:
    mounts.alone()
    there = Path(folder)
    kept = {path.name: path.read_bytes() for path in there.iterdir() if path.is_file()}
    mounts.tmpfs(there, 64 << 20)
    for name, content in kept.items():
        (there / name).write_bytes(content)
    mounts.make_read_only(there)
    for argv in (READING["best"], READING["list"]):  # of one study, and of all; the others are tried in a folder
        command = [sys.executable, "-m", "lrsearch", *argv, "--storage", str(there / "lrsearch.db")]
        done = subprocess.run(command, cwd=out, env=clean_environment(Path(out)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_read_only_mount_is_read(folder: Path, tmp_path: Path) -> None:
    if (why := mounts.available()) is not None:
        pytest.skip(why)
    assert ended(started(_on_a_mount, str(folder), str(tmp_path))) == 0


@needs_setpriv
def test_the_dashboard_serves_a_read_only_folder_when_it_is_asked_to_only_read(folder: Path, tmp_path: Path) -> None:
    import json
    import urllib.request

    lock(folder)
    command = [sys.executable, "-m", "lrsearch", "dashboard", "--read-only", "--port", "0", "--json"]
    command = [*(NOBODY if os.geteuid() == 0 else ()), *command, "--storage", str(folder / "lrsearch.db")]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        document = ""
        for line in process.stdout:
            document += line
            if line.startswith("}"):
                break
        address = json.loads(document)["url"]
        proxyless = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with proxyless.open(f"{address}/lr") as page:
            assert "digits" in page.read().decode()
        with proxyless.open(f"{address}/lr?study=digits") as page:
            assert page.status == 200
        with proxyless.open(f"{address}/api/studies") as page:
            assert "digits" in page.read().decode()
    finally:
        process.terminate()
        process.communicate(timeout=60)

"""Decoded pictures on disk: made once, gone on with after an interruption, made again where a picture has changed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mounts
import numpy as np
import psutil
import pytest
from conftest import DEADLINE_SECONDS, wait_until
from painted import Made, paint, paint_classes, pixels, save
from PIL import Image

from lrsearch.errors import DataError
from lrsearch.pictures import decode, pieces, work
from lrsearch.pictures.own import read
from lrsearch.spec.study import DatasetSpec

pytest_plugins = ["painted"]


def inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in folder.glob("*/images.npy")}


def test_pictures_are_decoded_once(pics: Path, tmp_path: Path, images: Made) -> None:
    first = images()
    kept = inodes(tmp_path / "cache")
    assert images().fingerprint == first.fingerprint
    assert inodes(tmp_path / "cache") == kept
    # Another split is drawn from the same bytes; another size is not.
    assert images(split_seed=1).fingerprint != first.fingerprint
    assert inodes(tmp_path / "cache") == kept
    images(image_size=4)
    assert len(inodes(tmp_path / "cache")) == 2
    assert not [*tmp_path.glob("cache/*.part")]


def test_the_fingerprint_knows_no_path(pics: Path, tmp_path: Path, images: Made) -> None:
    expected = images().fingerprint
    pics.rename(tmp_path / "elsewhere")
    assert images(where=tmp_path / "elsewhere").fingerprint == expected
    other = read(DatasetSpec(name=f"folder:{tmp_path / 'elsewhere'}"), cache=tmp_path / "another cache")
    assert other.fingerprint == expected
    (tmp_path / "elsewhere" / "dog").rename(tmp_path / "elsewhere" / "fox")
    assert images(where=tmp_path / "elsewhere").fingerprint != expected  # a class is called otherwise


def test_a_changed_picture_is_noticed_even_if_its_time_is_set_back(pics: Path, images: Made) -> None:
    path = pics / "cat" / "0000.png"
    for one in pics.rglob("*.png"):
        os.utime(one, (1e9, 1e9))
    before, status = images(), path.stat()
    other = pixels(999)
    Image.fromarray(other).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = images()
    assert (after.images[0].transpose(1, 2, 0) == other).all()
    assert after.fingerprint != before.fingerprint


def test_only_what_is_new_is_read_again(pics: Path, images: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    read_files: list[str] = []
    truly = decode.read_file
    monkeypatch.setattr(decode, "read_file", lambda path: read_files.append(path.name) or truly(path))
    settled = time.time() - 10
    images()
    assert len(read_files) == 40  # once to look at it, once to decode it
    # What was changed a moment ago may change again within the same tick, and is not believed.
    read_files.clear()
    images()
    assert len(read_files) == 20
    assert settled < time.time()
    monkeypatch.setattr("lrsearch.pictures.survey.SETTLED_SECONDS", 0.0)
    images()
    read_files.clear()
    images()
    assert read_files == []
    paint(pics / "dog" / "new.png", 77)
    images()
    assert read_files.count("new.png") == 2
    assert len(read_files) == 1 + 21


def program(folder: Path, pictures: Path, more: str = "", size: int = 32) -> list[str]:
    """Return the command that reads pictures, in processes and in small pieces, and prints the fingerprint."""
    read_them = f'read(DatasetSpec(name="folder:{pictures}", image_size={size}), cache=Path({str(folder)!r}))'
    return [sys.executable, "-c", f"{PROGRAM}\n{more}\nprint({read_them}.fingerprint)"]


PROGRAM = """
from pathlib import Path
from lrsearch.pictures import decode, pieces, work
from lrsearch.pictures.own import read
from lrsearch.spec.study import DatasetSpec
work.WORTH_SECONDS = 0.0
pieces.AT_ONCE = 8
"""

COUNTED = """
import atexit
n, truly = [], decode.decode
decode.decode = lambda *how: n.append(1) or truly(*how)
pieces.spread = lambda work, tasks: map(work, tasks)  # here, where it can be counted
atexit.register(lambda: print(len(n)))
"""
"""Lines of that program that have it print how many pictures were decoded."""

LEFT_OVER = """
import psutil
running = [one.cmdline() for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
print([words for words in running if "resource_tracker" not in " ".join(words)])
"""
"""Lines that print what runs on."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred pictures that take a second or two to decode."""
    root = tmp_path_factory.mktemp("many")
    paint_classes(root, {"a": 1, "b": 1})
    whole = Image.fromarray(pixels(0, (600, 600, 3)))
    save(whole, root / "a.png", compress_level=1)
    content = (root / "a.png").read_bytes()
    for i in range(200):
        # Different files of one picture: what stands behind its end is nobody's.
        (root / "ab"[i % 2] / f"{i}.png").write_bytes(content + str(i).encode())
    (root / "a.png").unlink()
    return root


def lines_of(cache_folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in cache_folder.glob("*.part/index.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_was_decoded_before_an_interruption_is_kept(many: Path, tmp_path: Path, how: signal.Signals) -> None:
    place = tmp_path / "cache"
    process = subprocess.Popen(program(place, many), stderr=subprocess.PIPE, process_group=0)
    wait_until(lambda: lines_of(place) >= 5 or process.poll() is not None)
    children = psutil.Process(process.pid).children(recursive=True)
    # Ctrl-C reaches the whole group; of a process that is killed the others must take notice.
    (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
    process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == -how
    wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in children))
    kept = lines_of(place)
    assert 5 <= kept < 26, "it was not interrupted in the middle"
    (part,) = place.glob("*.part")
    with (part / "index.jsonl").open("a") as lines:
        lines.write("[12, 3")  # cut off in the middle of a line
    again = subprocess.run(program(place, many, COUNTED), capture_output=True, text=True, check=True)
    fingerprint, n_decoded = again.stdout.split()
    assert int(n_decoded) <= 202 - 8 * (kept - 1)
    fresh = subprocess.run(program(tmp_path / "fresh", many), capture_output=True, text=True, check=True)
    assert fresh.stdout.split() == [fingerprint]


def test_a_piece_that_is_not_as_the_index_says_is_decoded_again(pics: Path, tmp_path: Path, images: Made) -> None:
    whole = np.array(images().images)
    (made,) = (path for path in (tmp_path / "cache").iterdir() if (path / "images.npy").exists())
    document = json.loads((made / "pictures.json").read_text())
    (made / "pictures.json").unlink()
    part = made.rename(made.with_name(f"{made.name}.part"))
    rows = document["readings"]
    (part / "index.jsonl").write_text(json.dumps([0, 12345, rows]) + "\n")
    broken = np.load(part / "images.npy", mmap_mode="r+")
    broken[3] = 0
    del broken
    assert (images().images == whole).all()


@pytest.mark.slow
def test_two_processes_at_once_decode_once(many: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    both = [
        subprocess.Popen(program(place, many), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=DEADLINE_SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(inodes(place)) == 1
    assert not [*place.glob("*.part")]


@pytest.mark.slow
def test_no_process_is_left_over_and_none_runs_the_main_program_again(many: Path, tmp_path: Path) -> None:
    # A script without `if __name__ == "__main__"`, as people write them.
    script = tmp_path / "script.py"
    script.write_text(f"print('started')\n{program(tmp_path / 'cache', many)[2]}\n{LEFT_OVER}", "utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (len(lines), lines[0], lines[2]) == (3, "started", "[]")


@pytest.mark.slow
def test_the_processes_give_what_one_gives(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrsearch.cores.available", lambda: 1)
    alone = read(DatasetSpec(name=f"folder:{many}", image_size=32), cache=tmp_path / "alone")
    monkeypatch.undo()
    monkeypatch.setattr(work, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(pieces, "AT_ONCE", 16)
    together = read(DatasetSpec(name=f"folder:{many}", image_size=32), cache=tmp_path / "together")
    assert together.fingerprint == alone.fingerprint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            "size=64k",
            "whose disk is full: make room, or name another folder with LRSEARCH_CACHE",
            marks=pytest.mark.slow,
        ),
        ("ro", "which cannot be used: Read-only file system; name another folder with LRSEARCH_CACHE"),
    ],
)
def test_a_full_or_read_only_disk_is_said(pics: Path, tmp_path: Path, options: str, words: str) -> None:
    if reason := mounts.available():
        pytest.skip(reason)
    (tmp_path / "small").mkdir()
    # A file system that only this process sees.
    mount = f'mount -t tmpfs -o {options} none {tmp_path / "small"} && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", mount, "sh", *program(tmp_path / "small", pics, size=64)]
    done = subprocess.run(argv, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"lrsearch.errors.DataError: decoded pictures are kept in {tmp_path / 'small'}, ")
    assert words in last


def test_a_cache_that_was_damaged_is_said(pics: Path, tmp_path: Path, images: Made) -> None:
    images()
    for path in (tmp_path / "cache").glob("*/images.npy"):
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"are damaged .* delete that folder"):
        images()


def test_the_cache_lies_where_the_environment_says(pics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    read(DatasetSpec(name=f"folder:{pics}"))
    assert len(inodes(tmp_path / "home" / "lrsearch" / "pictures")) == 1
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "fast"))
    read(DatasetSpec(name=f"folder:{pics}"))
    assert len(inodes(tmp_path / "fast" / "pictures")) == 1


def test_nothing_is_written_but_the_cache(pics: Path, tmp_path: Path, images: Made) -> None:
    before = {path: path.stat().st_mtime_ns for path in pics.rglob("*")}
    images()
    assert {path: path.stat().st_mtime_ns for path in pics.rglob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"pics", "cache"}
    assert [*Path.cwd().iterdir()] == []

"""Decoded pictures on disk: one array of bytes that training maps into memory, under a name that its content decides.

A folder for each key holds ``images.npy`` and ``pictures.json``. While it is made it is called ``KEY.part`` and its
index grows by a line for each piece that is done, so that whoever comes next goes on from there; it gets its name when
it is whole. One process makes it and others wait for it.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lrsearch.errors import DataError
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding, Pixels
from lrsearch.pictures.pieces import Reading, Writer, fill, reading_of, row_of
from lrsearch.pictures.survey import Seen

VARIABLE: Final = "LRSEARCH_CACHE"
"""Of the environment: the folder in which ``pictures`` lies."""


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """Decoded pictures that lie in the cache."""

    folder: Path
    images: Pixels
    """uint8 ``[n, c, h, w]``, mapped into memory and not to be written; those that could be read, in their order."""
    readings: tuple[Reading, ...]
    """Of all pictures, in their order."""


def folder(cache: Path | None) -> Path:
    """Return the folder of the cache: the one that is given, that of ``LRSEARCH_CACHE``, or one in the user's cache."""
    if cache is not None:
        return cache
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser() / "pictures"
    import platformdirs

    return platformdirs.user_cache_path("lrsearch") / "pictures"


@contextmanager
def told(where: Path) -> Iterator[None]:
    """Turn what a disk refuses in the block into a sentence.

    Raises:
        DataError: naming ``where`` and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"decoded pictures are kept in {where}, whose disk is full: make room, or name another folder with "
                f"{VARIABLE}"
            ) from None
        raise DataError(
            f"decoded pictures are kept in {where}, which cannot be used: {error.strerror or error}; name another "
            f"folder with {VARIABLE}"
        ) from None


@contextmanager
def alone(where: Path, key: str, *, progress: bool) -> Iterator[None]:
    """Keep other processes from making the same thing meanwhile; wait for one that does.

    Raises:
        DataError: as ``told``, of the whole block.
    """
    from filelock import FileLock, Timeout

    with told(where):
        where.mkdir(parents=True, exist_ok=True)
        lock = FileLock(where / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                print("lrsearch: waiting for another process, which decodes these pictures", file=sys.stderr)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def key_of(seen: Sequence[Seen], how: Decoding, *, any_channels: bool) -> str:
    """Return the name of what this decoder makes of files with these contents, in their order."""
    return _key([decode.VERSION, asdict(how), any_channels, [one.sha256 for one in seen]])


def _key(what: list[object]) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def of_files(
    paths: Sequence[Path], seen: Sequence[Seen], how: Decoding, where: Path, *, any_channels: bool, progress: bool
) -> Stored:
    """Return the decoded pictures of files, decoding those that are not there yet.

    Args:
        paths: of the files.
        seen: what each of them is.
        how: what they are brought to.
        where: the folder of the cache.
        any_channels: whether one channel is kept where none of them has colours.
        progress: whether a bar is drawn.

    Raises:
        DataError: the cache cannot be written, or a file changes meanwhile.
    """
    key = key_of(seen, how, any_channels=any_channels)
    if (there := stored(where / key)) is not None:
        return there
    with alone(where, key, progress=progress):
        if (there := stored(where / key)) is not None:
            return there
        part = where / f"{key}.part"
        part.mkdir(exist_ok=True)
        readings = fill(paths, seen, how, part, progress=progress)
        _finish(part, readings, any_channels=any_channels)
        part.rename(where / key)
    there = stored(where / key)
    assert there is not None
    return there


def stored(folder: Path) -> Stored | None:
    """Return what lies there; None where nothing does.

    Raises:
        DataError: it is damaged.
    """
    try:
        document = json.loads((folder / "pictures.json").read_text("utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="r")
        return Stored(folder, images, tuple(reading_of(one) for one in document["readings"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the decoded pictures in {folder} are damaged ({error}): delete that folder") from None


def _finish(part: Path, readings: Sequence[Reading], *, any_channels: bool) -> None:
    """Leave out what cannot be read, and the channels that are all equal; then write down what there is."""
    grey = any_channels and not any(one.coloured for one in readings)
    images = part / "images.npy"
    good = np.flatnonzero([not one.reason for one in readings])
    if len(good) and (grey or len(good) < len(readings)):
        whole = np.load(images, mmap_mode="r")
        channels = 1 if grey else whole.shape[1]
        with Writer(part / "fewer.npy", (len(good), channels, *whole.shape[2:])) as out:
            for row in good:
                out.write(whole[row, :channels])
        (part / "fewer.npy").replace(images)
    document = {"readings": [row_of(one) for one in readings]}
    (part / "pictures.json").write_text(json.dumps(document), "utf-8")
    for path in (part / "images.npy", part / "pictures.json"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (part / "index.jsonl").unlink(missing_ok=True)


def of_pixels(
    pixels: Iterable[tuple[Pixels, Reading]], shape: tuple[int, int, int, int], where: Path, *, any_channels: bool
) -> Stored:
    """Return pictures that a person's own function gave, as they lie in the cache.

    Args:
        pixels: uint8 ``[c, h, w]`` of each, and what was done to it.
        shape: number, channels, height and width.
        where: the folder of the cache.
        any_channels: whether one channel is kept where none of them has colours.

    Raises:
        DataError: the cache cannot be written.
    """
    readings = []
    with told(where):
        where.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(suffix=".part", dir=where))
    try:
        with told(where), Writer(part / "images.npy", shape) as out:
            for one, reading in pixels:
                out.write(one)
                readings.append(reading)
        key = _key([shape, any_channels, [row_of(one) for one in readings]])
        with alone(where, key, progress=False):
            if stored(where / key) is None:
                _finish(part, readings, any_channels=any_channels)
                part.rename(where / key)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    there = stored(where / key)
    assert there is not None
    return there

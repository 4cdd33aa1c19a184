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
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from lrsearch.errors import DataError
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding, PictureError, Pixels
from lrsearch.pictures.meter import meter
from lrsearch.pictures.survey import Seen
from lrsearch.pictures.work import spread

VARIABLE: Final = "LRSEARCH_CACHE"
"""Of the environment: the folder in which ``pictures`` lies."""
AT_ONCE: Final = 64
"""Pictures of a piece: so many are decoded again after an interruption, for each process."""
AT_ONCE_BYTES: Final = 64 * 1024 * 1024
"""A piece is no larger."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of decoding one picture."""

    reason: str = ""
    """Why it cannot be read; empty where it can."""
    coloured: bool = False
    digest: str = ""
    """Of the decoded bytes: pictures with the same one are the same to a network."""
    done: tuple[str, ...] = ()
    """What was done to it, in words."""


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
    """Turn what a disk refuses in the block into a sentence."""
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
    """Keep other processes from making the same thing meanwhile."""
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


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some pictures, one after the other, and where their bytes go."""

    number: int
    paths: tuple[str, ...]
    seen: tuple[Seen, ...]
    how: Decoding
    file: str
    at: int
    """[bytes]"""


@dataclass(frozen=True, slots=True)
class _Done:
    number: int
    readings: tuple[Reading, ...]
    check: int
    """CRC-32 of the bytes."""


def key_of(seen: Sequence[Seen], how: Decoding, *, any_channels: bool) -> str:
    """Return the name of what this decoder makes of files with these contents, in their order."""
    said = json.dumps([decode.VERSION, asdict(how), any_channels, [one.sha256 for one in seen]])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


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
        readings = _decode(paths, seen, how, part, progress=progress)
        _finish(part, readings, grey=any_channels and not any(one.coloured for one in readings))
        part.rename(where / key)
    there = stored(where / key)
    assert there is not None
    return there


def stored(folder: Path) -> Stored | None:
    """Return what lies there; None where nothing does."""
    try:
        document = json.loads((folder / "pictures.json").read_text("utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="r")
        return Stored(folder, images, tuple(_reading(one) for one in document["readings"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the decoded pictures in {folder} are damaged ({error}): delete that folder") from None


def _reading(row: Any) -> Reading:
    reason, coloured, digest, done = row
    return Reading(reason, coloured, digest, tuple(done))


def _row(reading: Reading) -> list[object]:
    return [reading.reason, reading.coloured, reading.digest, list(reading.done)]


def _decode(paths: Sequence[Path], seen: Sequence[Seen], how: Decoding, part: Path, *, progress: bool) -> list[Reading]:
    """Fill ``images.npy`` of an unfinished folder; return what came of each picture."""
    shape = (len(paths), how.channels, how.height, how.width)
    images, index = part / "images.npy", part / "index.jsonl"
    n_bytes = int(np.prod(shape[1:]))
    at_once = max(1, min(AT_ONCE, AT_ONCE_BYTES // n_bytes))
    start = _prepared(images, shape)
    pieces = [
        _Piece(
            i,
            tuple(map(str, paths[at : at + at_once])),
            tuple(seen[at : at + at_once]),
            how,
            str(images),
            start + at * n_bytes,
        )
        for i, at in enumerate(range(0, len(paths), at_once))
    ]
    done = _kept(index, pieces, images, n_bytes)
    with meter("decoding pictures", len(paths), shown=progress) as advance, index.open("a", encoding="utf-8") as lines:
        advance(sum(len(piece.readings) for piece in done.values()))
        left = [piece for piece in pieces if piece.number not in done]
        for piece in spread(_decode_piece, left):
            done[piece.number] = piece
            lines.write(json.dumps([piece.number, piece.check, [_row(one) for one in piece.readings]]) + "\n")
            lines.flush()
            advance(len(piece.readings))
    return [reading for piece in pieces for reading in done[piece.number].readings]


def _prepared(images: Path, shape: tuple[int, ...]) -> int:
    """Make the file unless it is there; return where its first picture begins [bytes]."""
    # One of another shape was about to be finished when its process ended.
    if not images.exists() or np.load(images, mmap_mode="r").shape != shape:
        empty = images.with_name("empty.npy")
        with Writer(empty, shape):
            pass
        os.truncate(empty, empty.stat().st_size + int(np.prod(shape)))
        empty.replace(images)
    return int(np.load(images, mmap_mode="r").offset)


def _kept(index: Path, pieces: Sequence[_Piece], images: Path, n_bytes: int) -> dict[int, _Done]:
    """Return the pieces that are done; what is not on disk as the index says is done again."""
    kept: dict[int, _Done] = {}
    try:
        lines = index.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return kept
    with images.open("rb") as file:
        for line in lines:
            try:
                number, check, rows = json.loads(line)
            except ValueError:
                continue  # cut off
            if number >= len(pieces) or len(rows) != len(pieces[number].paths):
                continue  # another version's
            piece = pieces[number]
            file.seek(piece.at)
            if zlib.crc32(file.read(len(piece.paths) * n_bytes)) == check:
                kept[number] = _Done(number, tuple(_reading(row) for row in rows), check)
    return kept


def _decode_piece(piece: _Piece) -> _Done:
    how = piece.how
    out = np.zeros((len(piece.paths), how.channels, how.height, how.width), np.uint8)
    readings = tuple(
        _decode_one(path, seen, how, out[row])
        for row, (path, seen) in enumerate(zip(piece.paths, piece.seen, strict=True))
    )
    # Written, and not into mapped memory: there a full disk would end the process.
    with open(piece.file, "r+b", buffering=0) as file:  # noqa: PTH123 - of a path that is text
        file.seek(piece.at)
        rest = out.data.cast("B")
        while rest:
            rest = rest[file.write(rest) :]
    return _Done(piece.number, readings, zlib.crc32(out.data))


def _decode_one(path: str, seen: Seen, how: Decoding, out: Pixels) -> Reading:
    if seen.header is None:
        return Reading(seen.reason)
    try:
        content = decode.read_file(Path(path))
    except OSError as error:
        raise DataError(f"{path} was there and cannot be read any more: {error.strerror}; start again") from None
    if hashlib.sha256(content).hexdigest() != seen.sha256:
        raise DataError(f"{path} must not change while it is read, and it does; start again")
    try:
        decoded = decode.decode(content, how, path)
    except PictureError as error:
        return Reading(error.reason)
    out[:] = decoded.pixels
    return Reading("", decoded.coloured, digest_of(decoded.pixels), decoded.done)


def digest_of(pixels: Pixels) -> str:
    """Return the hash of one picture's bytes."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()


def _finish(part: Path, readings: Sequence[Reading], *, grey: bool) -> None:
    """Leave out what cannot be read, and the channels that are all equal; then write down what there is."""
    images = part / "images.npy"
    good = np.flatnonzero([not one.reason for one in readings])
    if 0 < len(good) < len(readings) or grey:
        whole = np.load(images, mmap_mode="r")
        channels = 1 if grey else whole.shape[1]
        with Writer(part / "fewer.npy", (len(good), channels, *whole.shape[2:])) as out:
            for row in good:
                out.write(whole[row, :channels])
        (part / "fewer.npy").replace(images)
    _conclude(part, readings)


def _conclude(part: Path, readings: Sequence[Reading]) -> None:
    document = {"readings": [_row(one) for one in readings]}
    (part / "pictures.json").write_text(json.dumps(document), "utf-8")
    for path in (part / "images.npy", part / "pictures.json"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (part / "index.jsonl").unlink(missing_ok=True)


class Writer:
    """Writes an array of bytes picture by picture; not into mapped memory, where a full disk would end the process.

    Args:
        path: of the file.
        shape: of the array.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def write(self, pixels: Pixels) -> None:
        """Write the next one, or several."""
        self._file.write(np.ascontiguousarray(pixels).data)


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
        key = hashlib.sha256(json.dumps([shape, any_channels, [_row(one) for one in readings]]).encode()).hexdigest()[
            :32
        ]
        with alone(where, key, progress=False):
            if stored(where / key) is None:
                _finish(part, readings, grey=any_channels and not any(one.coloured for one in readings))
                part.rename(where / key)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    there = stored(where / key)
    assert there is not None
    return there

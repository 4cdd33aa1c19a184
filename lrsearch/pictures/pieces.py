"""Pictures decoded piece by piece into one file: what is done is written down, and whoever comes next goes on there."""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from lrsearch.errors import DataError
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding, PictureError, Pixels
from lrsearch.pictures.meter import meter
from lrsearch.pictures.survey import Seen
from lrsearch.pictures.work import spread

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


def fill(paths: Sequence[Path], seen: Sequence[Seen], how: Decoding, part: Path, *, progress: bool) -> list[Reading]:
    """Fill ``images.npy`` of an unfinished folder; return what came of each picture.

    Args:
        paths: of the files.
        seen: what each of them is.
        how: what they are brought to.
        part: the folder, which may hold what another process has left.
        progress: whether a bar is drawn.

    Raises:
        DataError: a file changes meanwhile, or a process that decodes is killed.
        OSError: the folder cannot be written.
    """
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
            lines.write(json.dumps([piece.number, piece.check, [row_of(one) for one in piece.readings]]) + "\n")
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
                kept[number] = _Done(number, tuple(reading_of(row) for row in rows), check)
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


def reading_of(row: Any) -> Reading:
    """Return what ``row_of`` has written down."""
    reason, coloured, digest, done = row
    return Reading(reason, coloured, digest, tuple(done))


def row_of(reading: Reading) -> list[object]:
    """Return it as it stands in a JSON document."""
    return [reading.reason, reading.coloured, reading.digest, list(reading.done)]

"""What every picture file is, before any is decoded: its content by SHA-256, its size, its mode.

A file that has not changed since it was looked at is not read again: size, times of change and inode are compared, as
git does. Only what the system reports wrongly could pass unnoticed: the time of the last change of a file's data or
name (ctime) cannot be set by a program.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lrsearch.pictures import decode
from lrsearch.pictures.decode import Header, PictureError
from lrsearch.pictures.meter import meter
from lrsearch.pictures.work import spread

AT_ONCE: Final = 64
"""Files of a task."""
SETTLED_SECONDS: Final = 2.0
"""A file that changed later than so long before it was read may change again within the same tick of its clock."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file that somebody has looked at."""

    sha256: str
    """Of its content; of the reason where it cannot be read."""
    header: Header | None
    """None where it is no picture."""
    reason: str = ""
    """Why it is none."""


Stamp = tuple[int, ...]
"""Size, times of change and inode of a file."""


def survey(paths: Sequence[Path], memory: Path, *, progress: bool) -> list[Seen]:
    """Return what the files are, in their order.

    Args:
        paths: of the files.
        memory: a file that holds what is remembered of them; written where something is new.
        progress: whether a bar is drawn.
    """
    known = _remembered(memory)
    found: dict[str, tuple[Stamp, Seen]] = {}
    new: list[str] = []
    for path in map(str, paths):
        stamp = _stamp(path)
        if stamp and path in known and known[path][0] == stamp:
            found[path] = known[path]
        else:
            new.append(path)
    new = list(dict.fromkeys(new))
    tasks = [new[at : at + AT_ONCE] for at in range(0, len(new), AT_ONCE)]
    with meter("looking at pictures", len(new), shown=progress) as done:
        for results in spread(_look, tasks):
            found |= results
            done(len(results))
    if new:
        kept = {path: entry for path, entry in found.items() if entry[0]}
        with suppress(OSError):  # it is looked at again next time
            _remember(memory, kept)
    return [found[path][1] for path in map(str, paths)]


def _look(paths: Sequence[str]) -> dict[str, tuple[Stamp, Seen]]:
    return {path: _seen(path) for path in paths}


def _seen(path: str) -> tuple[Stamp, Seen]:
    stamp = _stamp(path)
    if stamp and time.time() - max(stamp[1:3]) / 1e9 < SETTLED_SECONDS:
        stamp = ()
    try:
        content = decode.read_file(Path(path))
    except PictureError as error:
        return stamp, Seen(hashlib.sha256(error.reason.encode()).hexdigest(), None, error.reason)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        return (), Seen(hashlib.sha256(reason.encode()).hexdigest(), None, reason)
    digest = hashlib.sha256(content).hexdigest()
    try:
        return stamp, Seen(digest, decode.header(content, path))
    except PictureError as error:
        return stamp, Seen(digest, None, "is empty" if not content else error.reason)


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 - of a path that is text
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _remembered(memory: Path) -> dict[str, tuple[Stamp, Seen]]:
    try:
        document: dict[str, Any] = json.loads(memory.read_text("utf-8"))
        if document.pop("version") != decode.VERSION:
            return {}
        return {
            path: (tuple(stamp), Seen(digest, None if header is None else Header(**header), reason))
            for path, (stamp, digest, header, reason) in document["files"].items()
        }
    # Nobody but us writes it: what is not as it should be was written by another version.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(memory: Path, found: dict[str, tuple[Stamp, Seen]]) -> None:
    files = {
        path: (stamp, seen.sha256, None if seen.header is None else asdict(seen.header), seen.reason)
        for path, (stamp, seen) in found.items()
    }
    part = memory.with_name(f"{memory.name}.{os.getpid()}.part")
    memory.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps({"version": decode.VERSION, "files": files}), "utf-8")
    part.replace(memory)

"""The folder of one training for keeps: a checkpoint while it is under way, afterwards the weights and what they are.

Every file is written whole under another name and then renamed, so that a kill leaves the old one or the new one. One
process at a time has the folder. Nothing here needs torch: what is wrong with a folder is said before it is loaded.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lrsearch.errors import LrsearchError, StorageError, UsageError

CHECKPOINT = "checkpoint"
WEIGHTS = "weights.safetensors"
MODEL = "model.json"
LOCK = ".lock"

_MAGIC = b"lrsearch training 1 "


class TrainingFolder:
    """A folder that may not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have the folder for this process alone, made if it is not there; one that stays empty is removed again.

        Raises:
            UsageError: another process has it.
            StorageError: it cannot be written.
        """
        from filelock import FileLock, Timeout

        made, lock = not self.path.exists(), FileLock(self.path / LOCK)
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise UsageError(
                    f"another process trains into {self.path}: wait for it, or name another folder with -o"
                ) from None
        try:
            yield
        finally:
            with suppress(OSError):
                (self.path / LOCK).unlink()
            lock.release()
            if made:
                with suppress(OSError):  # that there is something in it is as it should be
                    self.path.rmdir()

    def model(self) -> dict[str, Any] | None:
        """Return what is written about the finished weights, or None where no training has finished.

        Raises:
            LrsearchError: it cannot be read.
        """
        content = self._read(MODEL)
        if content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self.damaged(MODEL)
        return found

    def weights_sha256(self) -> str | None:
        """Return the hash of the file of weights, or None where there is none."""
        content = self._read(WEIGHTS)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def checkpoint(self) -> tuple[Any, bytes] | None:
        """Return what is written about the training under way, as JSON holds it, and its checkpoint; None without one.

        Raises:
            LrsearchError: it cannot be read, or is not whole.
        """
        content = self._read(CHECKPOINT)
        if content is None:
            return None
        digest, _, rest = content.removeprefix(_MAGIC).partition(b"\n")
        if not content.startswith(_MAGIC) or hashlib.sha256(rest).hexdigest().encode() != digest:
            raise self.damaged(CHECKPOINT)
        about, _, checkpoint = rest.partition(b"\n")
        return json.loads(about), checkpoint

    def keep_checkpoint(self, about: object, checkpoint: bytes) -> None:
        """Write a checkpoint, and what JSON can hold about the training, in one file: the two never disagree."""
        rest = json.dumps(about, allow_nan=False).encode() + b"\n" + checkpoint
        self._write(CHECKPOINT, _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)

    def finish(self, weights: bytes, about: object) -> None:
        """Write the weights and, last, what they are: a folder that has that is finished; its checkpoint goes."""
        self._write(WEIGHTS, weights)
        self._write(MODEL, (json.dumps(about, indent=2, allow_nan=False) + "\n").encode())
        self._remove(CHECKPOINT)

    def clear(self) -> None:
        """Remove all that an earlier training left."""
        for name in (MODEL, WEIGHTS, CHECKPOINT):
            self._remove(name)

    def damaged(self, name: str) -> LrsearchError:
        """Return the error for a file that is not what lrsearch wrote."""
        return LrsearchError(
            f"{self.path / name} must be a whole file that lrsearch wrote, and it is damaged or something else: "
            f"name another folder with -o, or train anew in its place with --force"
        )

    def _read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{self.path / name} must be a file that can be read: {error.strerror}") from None

    def _write(self, name: str, content: bytes) -> None:
        part = self.path / f"{name}.part"
        with self._writing():
            try:
                with part.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.path / name)
            except OSError:
                with suppress(OSError):
                    part.unlink()
                raise

    def _remove(self, name: str) -> None:
        with self._writing():
            (self.path / name).unlink(missing_ok=True)
            (self.path / f"{name}.part").unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Of something that stands where the folder should be.
            why = "it is a file" if error.errno == errno.EEXIST else error.strerror
            raise StorageError(
                f"{self.path} must be a folder that can be written, and it cannot: {why}; name another with -o"
            ) from None

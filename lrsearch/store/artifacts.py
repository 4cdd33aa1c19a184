"""Where checkpoints and weights lie: an artifact store of Optuna's, so that another machine can go on from them.

A folder (beside the SQLite file, or one that all machines mount), an S3 bucket or a Google Cloud Storage bucket. Names
are never used twice: a file that was being written when its writer was killed has no one who knows it.
"""

import io
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from lrsearch.errors import StorageError, UsageError
from lrsearch.store.places import Place, SqliteFile

PREFIX = "lrsearch-"


class Artifacts:
    """An artifact store that is there and can be written; with ``to_read`` it need not be."""

    def __init__(self, where: str, *, to_read: bool = False) -> None:
        self.where = where
        scheme, separator, rest = where.partition("://")
        if not separator:
            self._store: Any = FileSystemArtifactStore(where) if to_read else _folder(Path(where))
        elif scheme in ("s3", "gs"):
            bucket = urlsplit(where).netloc
            if "@" in bucket:
                raise UsageError(
                    f"--artifacts must be a folder, {scheme}://BUCKET without a user or a key, which belong into the "
                    f"settings of the cloud's own tools"
                )
            if not bucket or rest.strip("/") != bucket:
                raise UsageError(f"--artifacts must be a folder, s3://BUCKET or gs://BUCKET, got {where!r}")
            self._store = _bucket(scheme, bucket)
            if not to_read:
                # Seen now, not after an hour of training.
                self.remove(self.put(b"", "probe", "empty"))
        else:
            raise UsageError(f"--artifacts must be a folder, s3://BUCKET or gs://BUCKET, got a URL of '{scheme}'")

    @property
    def optunas(self) -> Any:
        """Optuna's artifact store itself."""
        return self._store

    def put(self, content: bytes, study: str, kind: str) -> str:
        """Keep ``content``; return its name.

        Raises:
            StorageError: it cannot be written.
        """
        name = f"{PREFIX}{study}-{uuid.uuid4()}.{kind}"
        try:
            self._store.write(name, io.BytesIO(content))
        except Exception as error:
            self.remove(name)
            raise _explained(self.where, "written", error) from None
        return name

    def get(self, name: str) -> bytes | None:
        """Return what was kept under a name, or None when it is not there.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            with self._store.open_reader(name) as reader:
                content: bytes = reader.read()
        except ArtifactNotFound:
            return None
        except Exception as error:
            raise _explained(self.where, "read", error) from None
        return content

    def remove(self, name: str) -> None:
        """Remove what nobody needs any more; what cannot be removed stays, and `lrsearch doctor` finds it."""
        # The store's own errors, of whichever kind.
        with suppress(Exception):
            self._store.remove(name)


def default_for(place: Place) -> str:
    """Return where artifacts lie if nobody says: beside the SQLite file, else in this user's folder."""
    if isinstance(place, SqliteFile):
        return str(place.path.with_suffix(".artifacts"))
    return str(Path(platformdirs.user_data_dir("lrsearch")) / "artifacts")


def _explained(where: str, done: str, error: Exception) -> StorageError:
    # Cloud libraries have errors of their own; a folder has OSError.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    why = error.strerror if isinstance(error, OSError) and error.strerror else lines[0]
    return StorageError(
        f"the artifact store {where} cannot be {done}: {why}; "
        f"mend it, or name another with --artifacts (or LRSEARCH_ARTIFACTS)"
    )


def _folder(folder: Path) -> FileSystemArtifactStore:
    probe = folder / f"{PREFIX}probe-{uuid.uuid4()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"the artifact folder {folder} must be a folder that can be written, and it cannot: {error.strerror}; "
            f"name another with --artifacts (or LRSEARCH_ARTIFACTS)"
        ) from None
    return FileSystemArtifactStore(str(folder))


def _bucket(scheme: str, bucket: str) -> Any:
    try:
        if scheme == "s3":
            from optuna.artifacts import Boto3ArtifactStore

            return Boto3ArtifactStore(bucket)
        from optuna.artifacts import GCSArtifactStore

        return GCSArtifactStore(bucket)
    # Optuna's stores ask for boto3 and google-cloud-storage when they are made.
    except ImportError:
        extra = {"s3": "s3", "gs": "gcs"}[scheme]
        raise StorageError(
            f"--artifacts {scheme}://{bucket} needs a package that is not installed: pip install 'lrsearch[{extra}]'"
        ) from None
    except Exception as error:
        # Each cloud's own kind: no credentials, as a rule.
        raise _explained(f"{scheme}://{bucket}", "reached", error) from None

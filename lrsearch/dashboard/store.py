"""Files that people upload beside a study or a trial, in the artifact store of the database."""

from typing import Any, BinaryIO

from optuna.artifacts import FileSystemArtifactStore

from lrsearch.store.artifacts import Artifacts


class Files:
    """An artifact store of Optuna's that is made when the first file is written: looking at studies makes no folder."""

    def __init__(self, where: str) -> None:
        self._where = where

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return a file.

        Raises:
            ArtifactNotFound: there is none.
            StorageError: the store cannot be reached.
        """
        found: BinaryIO = self._existing().open_reader(artifact_id)
        return found

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep a file.

        Raises:
            StorageError: the store cannot be written.
        """
        Artifacts(self._where).optunas.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove a file.

        Raises:
            ArtifactNotFound: there is none.
        """
        self._existing().remove(artifact_id)

    def _existing(self) -> Any:
        if "://" in self._where:
            return Artifacts(self._where).optunas
        return FileSystemArtifactStore(self._where)

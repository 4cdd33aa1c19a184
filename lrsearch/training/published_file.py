"""Files of weights that torchvision publishes, where torch keeps them: downloaded whole, and what their names say."""

import hashlib
import re
import sys
from pathlib import Path
from urllib.error import URLError

import torch

from lrsearch.errors import StudyFileError
from lrsearch.training import download

_HASH = re.compile(r"-([0-9a-f]{8,})\.[a-z]+$")
"""In the name of a file: the first digits of the SHA-256 of its content."""


def fetched(url: str, what: str) -> Path:
    """Return the file at ``url``, from ``hub/checkpoints`` of torch's folder; downloaded into it if it is not there.

    That folder is named by ``TORCH_HOME``. What is interrupted, or is not what its name says, is never left there.

    Args:
        url: its name holds the first digits of the SHA-256 of its content.
        what: the key of the study file and what it names, for the sentence.

    Raises:
        StudyFileError: it cannot be downloaded, or is another file.
    """
    folder = Path(torch.hub.get_dir()).expanduser() / "checkpoints"
    path = folder / url.rpartition("/")[2]
    named = _HASH.search(path.name)
    prefix = named.group(1) if named else ""
    try:
        if not path.is_file():
            _download(url, path, prefix, what)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StudyFileError(
            f"{what} cannot be had: {path} cannot be read or written ({error.strerror or error}); make its folder "
            f"writable, or name another one with TORCH_HOME"
        ) from error
    if not sha256.startswith(prefix):
        raise StudyFileError(
            f"{what} cannot be had: {path} is damaged, its SHA-256 begins with {sha256[: len(prefix)]} and not with "
            f"{prefix}; delete it, and it is downloaded anew"
        )
    return path


def _download(url: str, path: Path, prefix: str, what: str) -> None:
    """Download a file.

    Raises:
        StudyFileError: it does not arrive as it was published.
        OSError: it cannot be written.
    """
    is_watched = sys.stderr.isatty()
    if is_watched:
        sys.stderr.write(f"downloading {path.name} to {path.parent}\n")
    try:
        with download.made_folder(path.parent), download.timeout(download.NETWORK_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(url, str(path), prefix or None, progress=is_watched)
    except Exception as error:  # whatever torch and urllib let through
        if isinstance(error, OSError) and not isinstance(error, URLError) and error.errno in download.CANNOT_WRITE:
            raise
        changed = f"what arrived has not the SHA-256 {prefix}...: it was cut short, or changed on its way"
        why = changed if "invalid hash value" in str(error) else download.reason(error)
        raise StudyFileError(
            f"{what} cannot be had: {path.name} is not in {path.parent} and could not be downloaded ({why}); connect "
            f"to the network, or put the file there, or name another file of weights"
        ) from error

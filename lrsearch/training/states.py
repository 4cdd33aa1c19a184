"""Files of weights, read: safetensors, and what ``torch.save`` wrote of a state; cached for as long as they stay."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lrsearch.errors import StudyFileError
from lrsearch.own_code import said

SAFETENSORS = ".safetensors"
OF_TORCH = (".pth", ".pt", ".bin", ".ckpt", ".tar")
IN_FOLDER = "weights.safetensors"
"""What `lrsearch train` calls it in its folder ..."""
ABOUT = "model.json"
"""... and what it writes about it beside it."""
KERNEL_DIMS = 4
"""Dimensions of the kernels of a convolution of images."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Keys under which programs keep the state in what they save."""
MOST_KEYS = 4
"""In a sentence."""


@dataclass(frozen=True, slots=True)
class StateFile:
    """What is in a file of weights."""

    path: Path
    sha256: str
    tensors: Mapping[str, torch.Tensor]
    """On the CPU."""
    about: Mapping[str, Any]
    """What lrsearch wrote about them; empty if it did not write the file."""

    @property
    def is_ordered(self) -> bool:
        """Whether the tensors are in the order of the network that they are of; safetensors sorts them."""
        return self.path.suffix != SAFETENSORS

    def kernel(self, convolution: str) -> tuple[int, ...] | None:
        """Return the height and width of the kernels of a convolution at the beginning; None where it is not found."""
        name = f"{convolution}.weight"
        named = sorted((one for one in self.tensors if f".{one}".endswith(f".{name}")), key=len)
        kernels = [t for t in self.tensors.values() if t.ndim == KERNEL_DIMS] if self.is_ordered else []
        found = self.tensors[named[0]] if named else next(iter(kernels), None)
        return None if found is None else tuple(found.shape[2:])


def is_file_name(text: str) -> bool:
    """Whether what stands for weights is the name of a file, and not one of a package's names."""
    return text.endswith((SAFETENSORS, *OF_TORCH)) or "/" in text or "\\" in text


def read(text: str, key: str) -> StateFile:
    """Return the weights in a file, or in the folder of `lrsearch train`; ``key`` of the study file names it.

    Raises:
        StudyFileError: no such file, or no weights in it.
    """
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        path /= IN_FOLDER
    if not path.is_file():
        raise StudyFileError(f"{key}: there is no file of weights {path}")
    at = path.stat()
    return _read(path, key, at.st_mtime_ns, at.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, key: str, _changed: int, _size: int) -> StateFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if path.suffix == SAFETENSORS:
        tensors, about = _of_safetensors(path, key)
        return StateFile(path, sha256, tensors, about or _beside(path, sha256))
    return StateFile(path, sha256, _of_torch(path, key), {})


def _of_safetensors(path: Path, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            about = (file.metadata() or {}).get("lrsearch", "{}")
    except SafetensorError as error:
        raise StudyFileError(f"{key}: {path} must be a whole file in the safetensors format: {said(error)}") from error
    return tensors, json.loads(about)


def _beside(path: Path, sha256: str) -> dict[str, Any]:
    """Return what `lrsearch train` wrote about weights into the file beside them; empty where that is of others."""
    try:
        about = json.loads((path.parent / ABOUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) and about.get("file_sha256") == sha256 else {}


def _of_torch(path: Path, key: str) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyFileError(
            f"{key}: {path} must hold tensors alone, and holds code too, which is not run: write them with "
            f"torch.save(model.state_dict(), ...)"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise StudyFileError(f"{key}: {path} must be a whole file that torch.save wrote: {said(error)}") from error
    return _unwrapped(content, path, key)


def _unwrapped(content: object, path: Path, key: str) -> dict[str, torch.Tensor]:
    """Return the tensors by name, out of what programs put around them."""
    if isinstance(content, Mapping):
        if content and all(isinstance(one, torch.Tensor) for one in content.values()):
            return {str(name): one for name, one in content.items()}
        for wrapper in WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                return _unwrapped(content[wrapper], path, key)
    kind = f"a {type(content).__name__}"
    if isinstance(content, Mapping):
        kind = f"a mapping with the keys {', '.join(map(repr, [*content][:MOST_KEYS]))}"
    raise StudyFileError(f"{key}: {path} must hold a state (tensors by name), and holds {kind}")

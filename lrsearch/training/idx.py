"""Files in idx, the format of MNIST: a magic number, the sizes, the bytes.

Read here and not by torchvision, which takes one and a half seconds to import and tells no truncated file from a good
one in words that name it. A test holds the result equal to torchvision's.

Source: LeCun, Cortes, Burges: The MNIST database of handwritten digits, "File formats for the MNIST database".
"""

import math
from pathlib import Path

import numpy as np
import torch

from lrsearch.errors import DataError
from lrsearch.text import counted

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"

REMEDY = "delete it and let it download again, or put a good copy in its place"


def read_images(path: Path) -> torch.Tensor:
    """Return the images of an idx3 file, uint8 ``[n, 1, h, w]``.

    Raises:
        DataError: unreadable, or not a whole idx3 file of bytes.
    """
    return _read(path, n_dimensions=3).unsqueeze(1)


def read_labels(path: Path, n_images: int, n_classes: int) -> torch.Tensor:
    """Return the labels of an idx1 file, int64 ``[n]``, one for each of ``n_images``, each in 0..n_classes-1.

    Raises:
        DataError: unreadable, not a whole idx1 file of bytes, another number of labels, or an impossible label.
    """
    labels = _read(path, n_dimensions=1)
    if (fault := label_fault(labels, n_images, n_classes)) is not None:
        raise DataError(f"{path} is corrupt: {fault}; {REMEDY}")
    return labels.long()


def label_fault(labels: torch.Tensor, n_images: int, n_classes: int) -> str | None:
    """Say what is wrong with ``labels``, integers ``[n]``, for so many images; None when nothing is."""
    if len(labels) != n_images:
        return f"it holds {counted(len(labels), 'label')} for {counted(n_images, 'image')}"
    low, high = (int(end) for end in labels.aminmax())
    if low < 0 or high >= n_classes:
        return f"it holds the label {low if low < 0 else high}, known are 0..{n_classes - 1}"
    return None


def _read(path: Path, n_dimensions: int) -> torch.Tensor:
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; {REMEDY}") from error
    start = 4 * (1 + n_dimensions)
    header = content[:start].tobytes()
    if (fault := _fault(header, n_dimensions, len(content))) is not None:
        raise DataError(f"{path} is corrupt: {fault}; {REMEDY}")
    return torch.from_numpy(content[start:]).view(_sizes(header))


def _fault(header: bytes, n_dimensions: int, n_bytes: int) -> str | None:
    """Say what is wrong with a file of ``n_bytes`` that begins with ``header``; None when nothing is."""
    magic = bytes((0, 0, UNSIGNED_BYTE, n_dimensions))
    if header.startswith(GZIP_MAGIC):
        return "it is still compressed"
    if len(header) < 4 * (1 + n_dimensions):
        return f"it ends within its header, after {n_bytes} bytes"
    if header[:4] != magic:
        return f"it starts with 0x{header[:4].hex()} where 0x{magic.hex()} must stand"
    sizes = _sizes(header)
    promised = " x ".join(f"{size:,}" for size in sizes)
    if 0 in sizes:
        return f"its header promises {promised} bytes of data"
    expected = len(header) + math.prod(sizes)
    if n_bytes != expected:
        return f"its header promises {promised} bytes of data, {expected:,} in all, and it holds {n_bytes:,}"
    return None


def _sizes(header: bytes) -> list[int]:
    return [int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4)]

"""A picture file as an image of a data set: its channels, its size; nothing is done to it that is not said."""

from dataclasses import dataclass
from pathlib import Path

import torch

from lrsearch.errors import UsageError
from lrsearch.pictures import decode
from lrsearch.pictures.decode import BRIGHTEST, Decoding


@dataclass(frozen=True, eq=False)
class FilePicture:
    """A picture file as the model sees it."""

    image: torch.Tensor
    """uint8 ``[c, h, w]``, on the CPU."""
    done: tuple[str, ...]
    """What was done to it, in words, in that order; empty where it fitted as it was."""


def read(path: Path, shape: tuple[int, int, int], *, invert: bool = False, how: Decoding | None = None) -> FilePicture:
    """Return a picture file as an image of a data set.

    Args:
        path: of the file.
        shape: channels, height and width of the images [pixels].
        invert: whether dark is turned into bright.
        how: what a person's own pictures were brought to; None: the sides are made to fit.

    Raises:
        UsageError: there is no such file.
        DataError: it is no picture, is damaged, or has more pixels than a picture has.
    """
    channels, height, width = shape
    decoded = decode.decode(_content(path), how or Decoding(height, width, channels), path)
    pixels = torch.from_numpy(decoded.pixels)
    done = (*decoded.done, decoded.resized, "inverted" if invert else "")
    return FilePicture(BRIGHTEST - pixels if invert else pixels, tuple(filter(None, done)))


def _content(path: Path) -> bytes:
    try:
        if not path.exists():
            raise UsageError(f"--image must be the number of an image or a picture file, and there is no file {path}")
        if not path.is_file():
            raise UsageError(f"--image must be the number of an image or a picture file, and {path} is no file")
        return decode.read_file(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--image must name a file that can be read, and {str(path)!r} cannot: {why}") from None

"""A picture file as an image of a data set: its channels, its size; nothing is done to it that is not said."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from lrsearch.errors import DataError, UsageError

FORMATS: Final = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What Pillow may read here: pictures only, no format that starts another program (EPS starts Ghostscript)."""

LARGEST_FILE: Final = 200 * 1024 * 1024
"""[bytes]"""
BRIGHTEST: Final = 255


@dataclass(frozen=True, eq=False)
class FilePicture:
    """A picture file as the model sees it."""

    image: torch.Tensor
    """uint8 ``[c, h, w]``, on the CPU."""
    done: tuple[str, ...]
    """What was done to it, in words, in that order; empty where it fitted as it was."""


def read(path: Path, shape: tuple[int, int, int], *, invert: bool = False) -> FilePicture:
    """Return a picture file as an image of ``shape`` (channels, height, width); ``invert`` turns dark into bright.

    Raises:
        UsageError: there is no such file.
        DataError: it is no picture, is damaged, or has more pixels than a picture has.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of a picture from 89 million pixels on and refuses one of twice as many.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                n_frames = int(getattr(opened, "n_frames", 1))
                opened.load()
                upright = ImageOps.exif_transpose(opened)
                turned = bool(opened.getexif().get(0x0112, 1) != 1)
                return _fitted(upright, shape, invert=invert, turned=turned, n_frames=n_frames)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(
            f"the picture {path} must have at most {Image.MAX_IMAGE_PIXELS:,} pixels, and has more; make it smaller"
        ) from None
    except DataError:
        raise
    # A damaged file makes Pillow's readers raise nearly anything: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        why = "it is none of these" if isinstance(error, UnidentifiedImageError) else first
        raise DataError(f"{path} must be a whole picture file ({', '.join(FORMATS)}), and it is not: {why}") from None


def _check_file(path: Path) -> None:
    try:
        # Not a pipe and not a device, which might never end.
        if not path.exists():
            raise UsageError(f"--image must be the number of an image or a picture file, and there is no file {path}")
        if not path.is_file():
            raise UsageError(f"--image must be the number of an image or a picture file, and {path} is no file")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--image must name a file that can be read, and {str(path)!r} cannot: {why}") from None
    if size > LARGEST_FILE:
        raise DataError(f"the picture {path} must be a file of at most {LARGEST_FILE:,} bytes, got {size:,}")


def _fitted(
    opened: Image.Image, shape: tuple[int, int, int], *, invert: bool, turned: bool, n_frames: int
) -> FilePicture:
    channels, height, width = shape
    done = [f"first of its {n_frames} frames"] if n_frames > 1 else []
    done += ["turned as its EXIF data say"] if turned else []
    image, words = _of_bytes(opened)
    done += words
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        done.append("colours made grey" if mode == "L" else "grey as three equal channels")
        image = image.convert(mode)
    if image.size != (width, height):
        done.append(f"resized from {image.width}x{image.height} to {width}x{height} pixels")
        if image.width * height != image.height * width:
            done[-1] += ", its sides not kept in proportion"
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if invert:
        done.append("inverted")
        image = ImageOps.invert(image)
    # A copy: torch wants memory that it may write to.
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).reshape(height, width, channels)
    return FilePicture(pixels.permute(2, 0, 1).contiguous(), tuple(done))


def _of_bytes(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return the picture in grey (``L``) or ``RGB``, and what that took."""
    if image.mode == "F":
        raise DataError("a picture must have whole numbers for pixels, and this one has floating-point numbers")
    if image.mode.startswith("I"):
        # Pillow's own conversion has cut off all above 255.
        deep = np.asarray(image).astype(np.int64)
        return Image.fromarray((deep.clip(0, 65535) // 257).astype(np.uint8)), ["16 bits made 8"]
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema() != (BRIGHTEST, BRIGHTEST):
            white = Image.new("RGBA", layered.size, "white")
            return _grey_or_rgb(Image.alpha_composite(white, layered)), ["transparent parts made white"]
        return _grey_or_rgb(layered), []
    return _grey_or_rgb(image), []


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """Return the picture in ``L`` where its mode has no colours or its colours are all grey, else in ``RGB``."""
    if image.mode in ("L", "1", "LA"):
        return image.convert("L")
    coloured = image.convert("RGB")
    red, green, blue = (np.asarray(coloured.getchannel(c)) for c in "RGB")
    if (red == green).all() and (green == blue).all():
        return coloured.getchannel("R")
    return coloured

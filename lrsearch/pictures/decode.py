"""The decoder: a picture file as an image of a data set, for the cache and for `lrsearch predict` alike.

Nothing is done to a picture that is not said, and what cannot be read whole is refused. A picture is shrunk early, so
that a large one takes little memory, and its transparent parts and its frame are dealt with afterwards.
"""

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from lrsearch.errors import DataError

VERSION: Final = 1
"""Of what comes out; another one makes every cached picture a stale one."""

FORMATS: Final = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What Pillow may read here: pictures only, no format that starts another program (EPS starts Ghostscript)."""
LARGEST_FILE: Final = 200 * 1024 * 1024
"""[bytes]"""
MOST_PIXELS: Final = 89_478_485
"""Of a picture: Pillow's own bound, a quarter of a gigabyte in three bytes a pixel."""
BRIGHTEST: Final = 255
DEEPEST: Final = 65_535
"""The brightest of 16 bits."""
STRIP: Final = 64
"""Rows of deep pixels that are brought to bytes at once: their large numbers need no room for the whole picture."""
ENOUGH: Final = 2.0
"""A picture is shrunk by whole factors to so many times the size that is wanted before it is resampled: Pillow's own
choice for thumbnails."""

Resize = Literal["pad", "squash", "crop"]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

ORIENTATION: Final = 0x0112
"""The tag of EXIF."""
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
ON_ITS_SIDE: Final = (5, 6, 7, 8)
"""Orientations whose width is the height of the upright picture."""

GREY_MODES: Final = ("1", "L", "LA", "La")
"""Pillow's modes without colours that have a byte a pixel."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """What every picture of a data set is brought to."""

    height: int
    """[pixels]"""
    width: int
    """[pixels]"""
    channels: int
    """1 or 3."""
    resize: Resize = "squash"
    """``pad`` keeps all of the picture in proportion and frames it with the median of its own edge, ``squash`` keeps
    all of it and not the proportion, ``crop`` keeps the proportion and cuts to the middle."""
    darkest: int = 0
    """The number in pictures of 16 bits that becomes 0."""
    brightest: int = DEEPEST
    """The number in pictures of 16 bits that becomes 255."""


@dataclass(frozen=True, eq=False, slots=True)
class Decoded:
    """A picture as the model sees it."""

    pixels: Pixels
    """uint8 ``[c, h, w]``."""
    done: tuple[str, ...]
    """What was done to it, in words, in that order."""
    resized: str
    """How it was resized, in words; empty where it fitted as it was."""
    coloured: bool
    """Whether it has colours, which are gone where ``c`` is 1."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture file says of itself."""

    width: int
    """Of the upright picture [pixels]."""
    height: int
    """[pixels]"""
    mode: str
    """Pillow's."""
    darkest: int = 0
    """Of the pixels of a picture of more than 8 bits, which are read for it."""
    brightest: int = 0


class PictureError(DataError):
    """A picture that cannot be read.

    Args:
        sentence: what is said where it is the only one.
        reason: what is said behind its name in a list of several.
    """

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def is_deep(mode: str) -> bool:
    """Whether pixels of that mode are whole numbers of more than 8 bits."""
    return mode.startswith("I")


def read_file(path: Path) -> bytes:
    """Return the content of a picture file.

    Raises:
        PictureError: it is no file, or larger than a picture is.
        OSError: it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        # A pipe or a device, which might never end.
        raise PictureError(f"the picture {path} must be a file, and is none", "is no file")
    size = status.st_size
    if size > LARGEST_FILE:
        raise PictureError(
            f"the picture {path} must be a file of at most {LARGEST_FILE:,} bytes, got {size:,}",
            f"has {size:,} bytes, more than {LARGEST_FILE:,}",
        )
    return path.read_bytes()


def header(content: bytes, name: object) -> Header:
    """Return what a picture file says of itself; pictures of more than 8 bits are read whole for their range.

    Raises:
        PictureError: it is no picture, or is damaged where that can be seen so early.
    """
    with _opened(content, name) as opened:
        # Of a TIFF Pillow gives the upright size from the start.
        width, height = opened.size if opened.format == "TIFF" else _upright(opened.size, _orientation(opened))
        if not is_deep(opened.mode):
            return Header(width, height, opened.mode)
        opened.load()
        strips = [(int(strip.min()), int(strip.max())) for _, strip in _strips(opened)]
        return Header(width, height, opened.mode, min(low for low, _ in strips), max(high for _, high in strips))


def decode(content: bytes, how: Decoding, name: object) -> Decoded:
    """Return the picture in a file's content; ``name`` is what it is called where it cannot be read.

    Raises:
        PictureError: it is no picture, is damaged, or has more pixels than a picture has.
        DataError: there is too little memory for it.
    """
    with _opened(content, name) as opened:
        n_frames = int(getattr(opened, "n_frames", 1))
        stored = opened.size
        if opened.format == "JPEG":
            # Its reader can leave out what a smaller picture does not need.
            (width, height), box = _places(stored, _stored(how, _orientation(opened)), how.resize)
            scale = max(width / (box[2] - box[0]), height / (box[3] - box[1])) * ENOUGH
            opened.draft(None, (round(opened.width * scale), round(opened.height * scale)))
            opened.load()
        else:
            opened.load()
            stored = opened.size  # a reader of TIFF has turned it already
        done = [f"first of its {n_frames} frames"] if n_frames > 1 else []
        return _fitted(opened, how, stored, done)


def of_image(image: Image.Image, how: Decoding, name: object) -> Decoded:
    """Return a picture of Pillow's that somebody has opened.

    Raises:
        PictureError: as ``decode``.
    """
    with _named(name):
        image.load()
        return _fitted(image, how, image.size, [])


def as_image(pixels: Pixels) -> Image.Image:
    """Return bytes ``[h, w, 1]`` or ``[h, w, 3]`` as a picture of Pillow's, in grey or RGB."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


@contextmanager
def _opened(content: bytes, name: object) -> Iterator[Image.Image]:
    with _named(name), Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise Image.DecompressionBombError
        yield opened


@contextmanager
def _named(name: object) -> Iterator[None]:
    """Turn what Pillow raises into a sentence, and keep it from reading what is not whole."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which nobody needs
            # Pillow warns of a picture from MOST_PIXELS on and refuses one of twice as many.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(
            f"the picture {name} must have at most {MOST_PIXELS:,} pixels, and has more; make it smaller",
            f"has more than {MOST_PIXELS:,} pixels",
        ) from None
    except PictureError:
        raise
    except MemoryError:
        # Not the picture's fault, or not for certain: nobody must remember it as damaged.
        raise DataError(
            f"{name} takes more memory to decode than there is: make it smaller, or end other programs"
        ) from None
    # A damaged file makes Pillow's readers raise nearly anything: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        none = isinstance(error, UnidentifiedImageError)
        raise PictureError(
            f"{name} must be a whole picture file ({', '.join(FORMATS)}), and it is not: "
            f"{'it is none of these' if none else first}",
            f"is none of {', '.join(FORMATS)}" if none else f"is damaged: {first}",
        ) from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(ORIENTATION, 1))


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation in ON_ITS_SIDE else size


def _stored(how: Decoding, orientation: int) -> tuple[int, int]:
    """Return the width and height that are wanted of a picture that lies as ``orientation`` says."""
    return _upright((how.width, how.height), orientation)


Box = tuple[float, float, float, float]


def _places(size: tuple[int, int], wanted: tuple[int, int], resize: Resize) -> tuple[tuple[int, int], Box]:
    """Return the size to which a picture is resampled, and the part of it that is: left, upper, right, lower."""
    (width, height), (to_width, to_height) = size, wanted
    whole = (0.0, 0.0, float(width), float(height))
    match resize:
        case "squash":
            return wanted, whole
        case "pad":
            scale = min(to_width / width, to_height / height)
            return (max(1, round(width * scale)), max(1, round(height * scale))), whole
        case "crop":
            scale = max(to_width / width, to_height / height)
            left, upper = (width - to_width / scale) / 2, (height - to_height / scale) / 2
            return wanted, (left, upper, width - left, height - upper)


def _fitted(image: Image.Image, how: Decoding, stored: tuple[int, int], done: list[str]) -> Decoded:
    """Return the picture, of which a file says that it has the size ``stored``, in the size and channels wanted."""
    orientation = _orientation(image)
    upright = _upright(stored, orientation)
    done += ["turned as its EXIF data say"] if orientation in TURNS else []
    image, words = _of_bytes(image, how)
    done += words
    wanted, box = _places(image.size, _stored(how, orientation), how.resize)
    if wanted != image.size or box != (0, 0, *image.size):
        image = image.resize(wanted, Image.Resampling.BILINEAR, box, reducing_gap=ENOUGH)
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    image, words = _on_white(image)
    done += words
    coloured = image.mode == "RGB" and not _all_grey(image)
    mode = "L" if how.channels == 1 else "RGB"
    if coloured and mode == "L":
        done.append("colours made grey")
    elif not coloured and mode == "RGB":
        done.append("grey as three equal channels")
    if image.mode != mode:
        # Of equal channels one is taken as it is: Pillow's weighted sum of them rounds.
        image = image.getchannel("R") if mode == "L" and not coloured else image.convert(mode)
    resized = ""
    if upright != (how.width, how.height):
        resized = f"resized from {upright[0]}x{upright[1]} to {how.width}x{how.height} pixels"
        if upright[0] * how.height != how.width * upright[1]:
            resized += {
                "squash": ", its sides not kept in proportion",
                "pad": ", with a frame",
                "crop": ", cut to its middle",
            }[how.resize]
    pixels = np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, how.channels)
    # A copy: Pillow's memory is not to be written to, and torch wants memory that is.
    return Decoded(np.array(_framed(pixels, how).transpose(2, 0, 1), order="C"), tuple(done), resized, coloured)


def _framed(pixels: Pixels, how: Decoding) -> Pixels:
    """Return ``[h, w, c]`` in the middle of a frame that has the median colour of its edge.

    Such a frame goes on where the picture ends: white around what stood on white, black around digits. One colour for
    all would be the brightest or darkest thing in most pictures, at a place that tells nothing.
    """
    height, width, channels = pixels.shape
    if (height, width) == (how.height, how.width):
        return pixels
    edge = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    out = np.empty((how.height, how.width, channels), np.uint8)
    out[:] = np.median(edge, axis=0).astype(np.uint8)
    upper, left = (how.height - height) // 2, (how.width - width) // 2
    out[upper : upper + height, left : left + width] = pixels
    return out


def _of_bytes(image: Image.Image, how: Decoding) -> tuple[Image.Image, list[str]]:
    """Return the picture in ``L``, ``LA``, ``RGB`` or ``RGBA``, and what that took."""
    if image.mode == "F":
        raise PictureError(
            "a picture must have whole numbers for pixels, and this one has floating-point numbers",
            "has floating-point numbers for pixels",
        )
    if is_deep(image.mode):
        # Pillow's own conversion has cut off all above 255.
        out = np.empty((image.height, image.width), np.uint8)
        for row, strip in _strips(image):
            above = strip.clip(how.darkest, how.brightest) - how.darkest
            out[row : row + len(strip)] = above * BRIGHTEST // max(how.brightest - how.darkest, 1)
        return Image.fromarray(out), ["16 bits made 8"]
    if image.mode in ("LA", "RGBA"):
        return image, []
    if image.has_transparency_data:
        return image.convert("RGBA"), []
    mode = "L" if image.mode in GREY_MODES else "RGB"
    return image if image.mode == mode else image.convert(mode), []


def _strips(image: Image.Image) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.int64]]]]:
    for row in range(0, image.height, STRIP):
        strip = image.crop((0, row, image.width, min(row + STRIP, image.height)))
        yield row, np.asarray(strip).astype(np.int64)


def _on_white(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return the picture without transparency, and what that took."""
    if image.mode not in ("LA", "RGBA"):
        return image, []
    if image.getchannel("A").getextrema() == (BRIGHTEST, BRIGHTEST):
        return image.convert("L" if image.mode == "LA" else "RGB"), []
    layered = image.convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return on_white.convert("RGB"), ["transparent parts made white"]


def _all_grey(image: Image.Image) -> bool:
    red, green, blue = np.moveaxis(np.asarray(image), 2, 0)
    return bool((red == green).all() and (green == blue).all())

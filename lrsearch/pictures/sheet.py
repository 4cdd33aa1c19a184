"""A contact sheet: rows of pictures, each with a name; as they were decoded, or as training sees them."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from lrsearch.pictures import decode
from lrsearch.pictures.known import Known
from lrsearch.pictures.split import Indices
from lrsearch.text import shown

PER_CLASS: Final = 12
"""Pictures of a row."""
MOST_CLASSES: Final = 100
"""Rows of a sheet."""
LEAST_ROWS: Final = 8
"""Of a sheet of single pictures, where there are so many: several of a class where classes are few."""
CELL: Final = 64
"""Height that small pictures are enlarged to, by a whole factor [pixels]."""
GAP: Final = 4
"""[pixels]"""
NAME_WIDTH: Final = 180
"""[pixels]"""
TEXT_SIZE: Final = 13
"""[pixels]"""


def sheet(known: Known) -> Image.Image:
    """Return the first classes, each with its name and some of its pictures, evenly spaced among them all."""
    classes = known.listing.classes[:MOST_CLASSES]
    chosen = [_spread(np.flatnonzero(known.labels == label), PER_CLASS) for label in range(len(classes))]
    return drawn(classes, [known.stored.images[rows] for rows in chosen])


def some_of_each(labels: Indices, rows: Indices, n_classes: int) -> Indices:
    """Return some of these rows: one of each of the first classes, or several where classes are few; by class.

    Args:
        labels: of all pictures.
        rows: of those to choose from.
        n_classes: of all.
    """
    per_class = max(1, LEAST_ROWS // n_classes)
    chosen = [_spread(rows[labels[rows] == label], per_class) for label in range(min(n_classes, MOST_CLASSES))]
    return np.concatenate(chosen)


def drawn(names: Sequence[str], rows: Sequence[decode.Pixels]) -> Image.Image:
    """Return rows of pictures of one size, bytes ``[k, c, h, w]``, at most ``PER_CLASS``; each row with its name."""
    height, width = rows[0].shape[2:]
    factor = max(1, CELL // max(height, width))
    height, width = height * factor, width * factor
    out = Image.new(
        "RGB", (NAME_WIDTH + PER_CLASS * (width + GAP) + GAP, len(rows) * (height + GAP) + GAP), "lightgrey"
    )
    draw = ImageDraw.Draw(out)
    font = ImageFont.load_default(TEXT_SIZE)
    for row, (name, pictures) in enumerate(zip(names, rows, strict=True)):
        upper = GAP + row * (height + GAP)
        draw.text((GAP, upper), _writable(name), "black", font)
        for column, pixels in enumerate(pictures):
            picture = decode.as_image(np.moveaxis(pixels, 0, 2))
            if factor > 1:
                picture = picture.resize((width, height), Image.Resampling.NEAREST)
            out.paste(picture, (NAME_WIDTH + column * (width + GAP) + GAP, upper))
    return out


def _spread(rows: Indices, most: int) -> Indices:
    """Return at most so many of some rows, evenly spaced among them all."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _writable(name: str) -> str:
    """Return a name in letters that the font has, which without FreeType is a small one."""
    text = shown(name)
    return text if features.check("freetype2") else text.encode("latin-1", "replace").decode("latin-1")

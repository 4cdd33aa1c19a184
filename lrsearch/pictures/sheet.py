"""A contact sheet: a row of pictures for each class, as they were decoded."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from lrsearch.pictures import decode
from lrsearch.pictures.known import Known
from lrsearch.text import shown

PER_CLASS: Final = 12
"""Pictures of a row."""
MOST_CLASSES: Final = 100
"""Rows of a sheet."""
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
    images, labels, classes = known.stored.images, known.labels, known.listing.classes[:MOST_CLASSES]
    height, width = images.shape[2:]
    factor = max(1, CELL // max(height, width))
    height, width = height * factor, width * factor
    out = Image.new(
        "RGB", (NAME_WIDTH + PER_CLASS * (width + GAP) + GAP, len(classes) * (height + GAP) + GAP), "lightgrey"
    )
    draw = ImageDraw.Draw(out)
    font = ImageFont.load_default(TEXT_SIZE)
    for row, name in enumerate(classes):
        upper = GAP + row * (height + GAP)
        draw.text((GAP, upper), _writable(name), "black", font)
        rows = np.flatnonzero(labels == row)
        if len(rows) > PER_CLASS:
            rows = rows[np.linspace(0, len(rows) - 1, PER_CLASS).round().astype(int)]
        for column, number in enumerate(rows):
            picture = decode.as_image(np.moveaxis(images[number], 0, 2))
            if factor > 1:
                picture = picture.resize((width, height), Image.Resampling.NEAREST)
            out.paste(picture, (NAME_WIDTH + column * (width + GAP) + GAP, upper))
    return out


def _writable(name: str) -> str:
    """Return a name in letters that the font has, which without FreeType is a small one."""
    text = shown(name)
    return text if features.check("freetype2") else text.encode("latin-1", "replace").decode("latin-1")

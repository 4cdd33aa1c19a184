"""What is drawn where the terminal knows letters and digits only: other signs for the same strokes."""

import codecs
import unicodedata

NAME = "lrsearch_drawn"
"""Of the error handler: ``stream.reconfigure(errors=NAME)``."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_LEVELS = "_..-=+*#"
"""For the eight heights of a block, low to high."""
_SIGNS = {
    chr(0x2800): " ",
    "─": "-",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "│": "|",
    "┃": "|",
    "…": "...",
    "\N{EN DASH}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "·": ".",
}
_BRAILLE = range(0x2801, 0x2900)


def drawn(text: str) -> str:
    """Return what stands for a text that cannot be written.

    >>> drawn("▁▄█"), drawn("└──"), drawn("é…"), drawn(chr(0x2840))
    ('_-#', '+--', '?...', '*')
    """
    return "".join(_sign(one) for one in text)


def register() -> None:
    """Make the error handler known under its name."""
    codecs.register_error(NAME, _replace)


def _sign(one: str) -> str:
    if one in _BLOCKS:
        return _LEVELS[_BLOCKS.index(one)]
    if ord(one) in _BRAILLE:
        return "*"
    if one in _SIGNS:
        return _SIGNS[one]
    return "+" if unicodedata.name(one, "").startswith("BOX DRAWINGS") else "?"


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return drawn(error.object[error.start : error.end]), error.end

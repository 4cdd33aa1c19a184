r"""Counts in words, and the door for words from a database, which any program may have written: they are data.

``shown`` is what a person gets to see of them, on a terminal, in a page or in a file: nothing in it moves a cursor,
turns the direction of the line or ends it. Where it goes into code or the name of a file, the other two make it fit.
"""

import hashlib
import re
import unicodedata

LONGEST_FILE_NAME = 80
"""[characters]; of at most four bytes each, with room for what is added in front and behind."""

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of Unicode: controls, marks of direction and of joining, halves of characters, line ends."""
_JOINERS = frozenset("\u200c\u200d")
"""Make one picture, or one letter, of several: wanted between visible characters."""


def shown(text: str) -> str:
    r"""Return the text with what cannot be seen written out, as Python writes it; what can be seen stays.

    >>> shown("best run [old]"), shown("a\x1b[31mb\nc\u202e")
    ('best run [old]', 'a\\x1b[31mb\\nc\\u202e')
    """
    return "".join(_written_out(c) if unicodedata.category(c) in _UNSEEN and c not in _JOINERS else c for c in text)


def in_docstring(text: str) -> str:
    r"""Return the text as it may stand between triple quotes of a program: it stays text, whatever it is.

    >>> print(in_docstring('a'+3*'"'+'b'))
    a\"\"\"b
    """
    return shown(text).replace("\\", "\\\\").replace('"', '\\"')


def file_name(text: str) -> str:
    """Return a name for a file or a folder here; two texts whose names would be the same, or too long, are told apart.

    >>> file_name("digits"), file_name("../evil"), file_name("a/b")
    ('digits', 'evil-2d6afc71', 'a_b-c14cddc0')
    """
    name = re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).lstrip("._-")
    if name and name == text and len(name) <= LONGEST_FILE_NAME:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[:LONGEST_FILE_NAME]}-{digest}" if name else digest


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def counted(n: int, one: str, many: str = "") -> str:
    """Return a number of things in words.

    >>> counted(1, "epoch"), counted(0, "epoch"), counted(2, "study", "studies")
    ('1 epoch', '0 epochs', '2 studies')
    """
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"

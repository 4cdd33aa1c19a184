"""The import statements of a program, in the order that linters want."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence

WIDTH = 88
"""Of a line [characters]: what Black and Ruff take where nobody says otherwise."""


def import_lines(wanted: Iterable[str]) -> str:
    """Return import statements sorted, those of Python before those of packages.

    Args:
        wanted: each ``import a``, ``import a as b``, ``from a import b`` or ``from a import b as c``; any number of
            times.

    >>> print(import_lines(["from torch import nn", "import csv", "from torch import Tensor", "import torch"]))
    import csv
    <BLANKLINE>
    import torch
    from torch import Tensor, nn
    """
    plain: set[str] = set()
    names: defaultdict[str, set[str]] = defaultdict(set)
    for line in wanted:
        kind, rest = line.split(" ", 1)
        if kind == "import":
            plain.add(rest)
        else:
            module, _, name = rest.partition(" import ")
            names[module].add(name)
    sections = []
    for of_python in (True, False):
        lines = [f"import {one}" for one in sorted(plain, key=_order) if _is_of_python(one) == of_python]
        for module in sorted(names, key=_order):
            if _is_of_python(module) == of_python:
                # A name that is renamed has a line of its own.
                renamed = sorted(name for name in names[module] if " as " in name)
                same = sorted((name for name in names[module] if " as " not in name), key=_kind)
                lines += _broken(f"from {module} import", same) if same else []
                lines += [f"from {module} import {name}" for name in renamed]
        if lines:
            sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _broken(begin: str, names: Sequence[str]) -> list[str]:
    """Return an import as one line, or where that is too long with a line for each name, as a formatter would."""
    line = f"{begin} {', '.join(names)}"
    return [line] if len(line) <= WIDTH else [f"{begin} (", *(f"    {name}," for name in names), ")"]


def _is_of_python(line: str) -> bool:
    return line.split(" ", maxsplit=1)[0].partition(".")[0] in sys.stdlib_module_names


def _order(line: str) -> tuple[str, str]:
    return line.lower(), line


def _kind(name: str) -> tuple[int, str]:
    """Return by what names are sorted: constants, classes, then the others."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name

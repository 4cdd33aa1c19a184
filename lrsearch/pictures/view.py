"""What was seen of a person's own pictures, for a terminal and as JSON."""

from dataclasses import asdict
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lrsearch.pictures.found import FIRST
from lrsearch.pictures.look import Overview
from lrsearch.text import counted, shown

SCHEMA: Final = "lrsearch/data/1"
MOST_CLASSES: Final = 40
"""Rows of the table; JSON has all."""
FINGERPRINT_DIGITS: Final = 12


def to_json(seen: Overview) -> dict[str, Any]:
    """Return everything as a document."""
    how, known = seen.known.how, seen.known
    return {
        "schema": SCHEMA,
        "n_found": len(known.listing.pictures),
        "n_train": sum(row.train for row in seen.classes),
        "n_validation": sum(row.validation for row in seen.classes),
        "n_test": sum(row.test for row in seen.classes),
        "classes": [asdict(row) for row in seen.classes],
        "width": dict(zip(("least", "median", "most"), seen.widths, strict=True)),
        "height": dict(zip(("least", "median", "most"), seen.heights, strict=True)),
        "modes": dict(seen.modes),
        "image": {
            "channels": int(known.stored.images.shape[1]),
            "height": how.height,
            "width": how.width,
            "resize": how.resize,
        },
        "bad": [{"name": name, "reason": reason} for name, reason in known.bad],
        "equal": seen.n_equal,
        "of_two_classes": [list(pair) for pair in seen.of_two_classes],
        "without_validation": list(seen.without_validation),
        "majority": None if seen.majority is None else {"class": seen.majority[0], "score": seen.majority[1]},
        "fingerprint": seen.fingerprint or None,
        "cache": str(seen.place),
        "said": list(seen.said),
        "refused": None if seen.refused is None else str(seen.refused),
    }


def render(seen: Overview) -> RenderableType:
    """Return the same for a person."""
    known = seen.known
    # Of sets that a person made, equal pictures may be in two.
    together = bool(seen.n_equal) and all(one.of is None for one in known.good)
    parts: list[RenderableType] = [_classes(seen), Text()]
    lines = (
        f"sizes        width {_range(seen.widths)}, height {_range(seen.heights)} pixels",
        f"modes        {', '.join(f'{n:,} {mode}' for mode, n in seen.modes)}" if seen.modes else "",
        f"become       {known.how.width}x{known.how.height} pixels, {_channels(seen)}, {known.how.resize}",
        f"equal        {seen.n_equal:,} of {counted(len(known.good), 'picture')} to another one"
        + ", drawn for one side of the split" * together,
        f"majority     '{shown(seen.majority[0])}' for every picture is right in {seen.majority[1]:.3f} of validation"
        if seen.majority
        else "",
        f"fingerprint  {seen.fingerprint[:FINGERPRINT_DIGITS]}" if seen.fingerprint else "",
        f"cache        {shown(str(seen.place))}",
    )
    parts += [Text(words) for words in lines if words]
    for names, title in (
        ([f"{name} {reason}" for name, reason in known.bad], "cannot be read"),
        ([f"{one} = {other}" for one, other in seen.of_two_classes], "equal, in two classes"),
    ):
        if names:
            parts += [Text(), Text(f"{len(names):,} {title}:"), *(Text(f"  {shown(one)}") for one in names[:FIRST])]
            parts += [Text(f"  and {len(names) - FIRST:,} more (--json has all)")] if len(names) > FIRST else []
    if seen.said:
        parts += [Text(), *(Text(f"* {sentence}") for sentence in seen.said)]
    return Group(*parts)


def _classes(seen: Overview) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for name in ("pictures", "bad", "train", "validation", "test"):
        table.add_column(name, justify="right")
    for row in seen.classes[:MOST_CLASSES]:
        numbers = (row.found, row.bad, row.train, row.validation, row.test)
        table.add_row(Text(shown(row.name)), *(f"{n:,}" for n in numbers))
    if len(seen.classes) > MOST_CLASSES:
        table.add_row(Text(f"{len(seen.classes) - MOST_CLASSES:,} more (--json has all)"))
    table.add_section()
    totals = [
        sum(getattr(row, name) for row in seen.classes) for name in ("found", "bad", "train", "validation", "test")
    ]
    table.add_row(counted(len(seen.classes), "class", "classes"), *(f"{n:,}" for n in totals))
    return table


def _range(sizes: tuple[int, int, int]) -> str:
    least, median, most = sizes
    return f"{least:,}" if least == most else f"{least:,} to {most:,} (median {median:,})"


def _channels(seen: Overview) -> str:
    return "grey" if seen.known.stored.images.shape[1] == 1 else "3 channels"

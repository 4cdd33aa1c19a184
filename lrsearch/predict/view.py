"""`lrsearch predict`: one image through a model, layer by layer, and what came out of it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from PIL import Image
from rich import box
from rich.color import Color
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lrsearch.predict.traced import LayerTraced, Picture, Prediction
from lrsearch.report import words
from lrsearch.report.fitted import FittedTable
from lrsearch.report.plain import plain
from lrsearch.text import counted
from lrsearch.text import shown as shown_text

SCHEMA: Final = "lrsearch/prediction/1"

IMAGE: Final = -1
"""The source of a layer that takes the image."""
COUNTED: Final = ("dense layer", "convolution", "transposed convolution", "attention")
"""Kinds of which there is a first, a second and so on."""
ORDINALS: Final = ["First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Tenth"]
RESHAPING: Final = frozenset(
    {"flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze", "expand", "contiguous", "T", "mT"}
)
SILENCING: Final = ("ReLU", "ReLU6")
"""After these a unit that is zero is silent."""

MOST_COLUMNS: Final = 64
"""Of the image as it is drawn; a larger one is drawn smaller."""
MOST_CLASSES: Final = 20
"""Of more classes the likeliest are shown."""
BAR: Final = 40
"""[columns]"""
WIDE: Final = 110
"""From here on the names of the layers have room [columns]."""
SHADES: Final = " .:-=+*#%@"
LUMINANCE: Final = (0.299, 0.587, 0.114)
"""Source: ITU-R BT.601, as Pillow makes grey of colours."""


def to_json(prediction: Prediction) -> dict[str, Any]:
    """Return the prediction as JSON; its layers as they were called, none merged."""
    p, true = prediction, prediction.true_class
    picture = {"channels": p.picture.channels, "height": p.picture.height, "width": p.picture.width}
    return {
        "schema": SCHEMA,
        "study": p.study,
        "trial": p.trial,
        "dataset": p.dataset,
        "model": p.model,
        "n_parameters": p.traced.n_parameters,
        "weights": p.weights,
        "image": {"source": p.source, **picture},
        "layers": [plain(asdict(layer)) for layer in p.traced.layers],
        "after": list(p.traced.after),
        "output": plain(p.traced.output),
        "probabilities": [
            {"class": name, "probability": plain(value)} for name, value in zip(p.classes, p.probabilities, strict=True)
        ],
        "predicted": p.classes[p.predicted],
        "true": None if true is None else p.classes[true],
        "right": None if true is None else p.predicted == true,
        "notes": list(p.notes),
    }


def render(prediction: Prediction, width: int, *, colours: bool) -> RenderableType:
    """Return the prediction for people, ``width`` columns wide; without ``colours`` the image is drawn in ASCII."""
    parts: list[RenderableType] = [_header(prediction), ""]
    picture = _fitting(prediction.picture, min(width - len("||"), MOST_COLUMNS))
    parts += _in_colours(picture) if colours else _in_characters(picture)
    parts += ["", _table(prediction, width), "", Text("Probabilities", style="bold")]
    parts += [*_bars(prediction, "█" if colours else "#"), "", _verdict(prediction)]
    return Group(*parts, *(Text(note) for note in prediction.notes))


@dataclass(frozen=True, slots=True)
class Row:
    """A layer and the activations that directly follow it: what a person calls a layer."""

    title: str
    notes: tuple[str, ...]
    """What is not to be seen from its shapes: where else its input came from."""
    layers: tuple[LayerTraced, ...]
    ends_with_softmax: bool = False
    """Whether it is the output layer, whose values the softmax makes probabilities."""


def rows(layers: Sequence[LayerTraced], after: Sequence[str]) -> list[Row]:
    """Return what a person calls the layers, in order; the last of them ends with the softmax if it is its output."""
    groups = list(_merged(layers))
    row_of = {i: number for number, group in enumerate(groups, start=1) for i in group}
    out: list[Row] = []
    counts: dict[str, int] = {}
    for group in groups:
        first, rest = layers[group[0]], [layers[i] for i in group[1:]]
        is_output = group is groups[-1] and _is_output(first, rest, after)
        if is_output:
            title = "Output layer with softmax"
        elif first.noun == "flattening" and first.source == IMAGE:
            title = "Input image flattening"
        else:
            title = _title(first, rest, counts)
        out.append(Row(title, tuple(_notes(group[0], layers, row_of)), (first, *rest), is_output))
    return out


def _merged(layers: Sequence[LayerTraced]) -> Iterator[list[int]]:
    """Yield the indices of the layers that belong together."""
    group: list[int] = []
    for i, layer in enumerate(layers):
        if group and layer.activates and layer.source == i - 1:
            group.append(i)
            continue
        if group:
            yield group
        group = [i]
    if group:
        yield group


def _is_output(layer: LayerTraced, activations: Sequence[LayerTraced], after: Sequence[str]) -> bool:
    return layer.noun == "dense layer" and not activations and not after


def _title(layer: LayerTraced, activations: Sequence[LayerTraced], counts: dict[str, int]) -> str:
    words = layer.noun[:1].upper() + layer.noun[1:]
    if layer.noun in COUNTED:
        counts[layer.noun] = n = counts.get(layer.noun, 0) + 1
        words = f"{ORDINALS[n - 1]} {layer.noun}" if n <= len(ORDINALS) else f"{words} {n}"
    words += f" ({layer.detail})" if layer.detail else ""
    return words + "".join(f"{' and' if i else ' with'} {one.noun}" for i, one in enumerate(activations))


def _notes(i: int, layers: Sequence[LayerTraced], row_of: dict[int, int]) -> Iterator[str]:
    layer = layers[i]
    if layer.between:
        how = "reshaped in between" if set(layer.between) <= RESHAPING else "computed in between"
        yield f"{how}: {', '.join(layer.between)}"
    elif layer.source is None:
        yield "its input was made in between, outside of any layer"
    if layer.source == IMAGE and i > 0:
        yield "takes the image"
    elif layer.source not in (None, i - 1):
        yield f"takes the output of layer {row_of[layer.source]}"
    if layer.call > 1:
        yield "called again, with the same parameters"
    if layer.n_outputs > 1:
        yield f"the first of its {layer.n_outputs} outputs is shown"


def _header(prediction: Prediction) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    about = {
        "trial": f"{prediction.trial} of {prediction.study}",
        "model": f"{prediction.model} for {prediction.dataset}, {counted(prediction.traced.n_parameters, 'parameter')}",
        "weights": prediction.weights,
        "image": prediction.source,
    }
    for name, text in about.items():
        # As Text: the name of a file may hold square brackets, which a string would lose as markup.
        grid.add_row(name, Text(text))
    return grid


def _table(prediction: Prediction, width: int) -> FittedTable:
    wide = width >= WIDE
    table = FittedTable("--json has all", box=box.MARKDOWN, header_style="bold")
    table.add_column("Layer", justify="right", no_wrap=True)
    table.add_column("What it does", gives_way=1, overflow="fold", ratio=3)
    if wide:
        table.add_column("Name", gives_way=4, overflow="fold", ratio=2)
    table.add_column("In", gives_way=3, justify="right", no_wrap=True)
    table.add_column("Out", gives_way=2, justify="right", no_wrap=True)
    table.add_column("Parameters", gives_way=5, justify="right", no_wrap=True)
    if wide:
        table.add_column("Its values", gives_way=6, no_wrap=True)

    def add(number: int, title: Text, name: str, shapes: tuple[str, str], n_parameters: int, values: str) -> None:
        cells = [title, Text(name)] if wide else [title.append(f"\n{values}")]
        table.add_row(str(number), *cells, *shapes, f"{n_parameters:,}", *([values] if wide else []))

    traced = prediction.traced
    shown = rows(traced.layers, traced.after)
    for number, row in enumerate(shown, start=1):
        title = Text(row.title).append("".join(f"; {note}" for note in row.notes), "dim")
        name = " + ".join(layer.name for layer in row.layers)
        first, last = row.layers[0], row.layers[-1]
        shapes = _shape(first.shape_in), _shape(last.shape_out)
        add(number, title, name, shapes, sum(layer.n_parameters for layer in row.layers), _values(last, row))
    title = Text("Prediction" if shown and shown[-1].ends_with_softmax else "Softmax and prediction")
    if traced.after:
        title.append(f"; computed in between: {', '.join(traced.after)}", "dim")
    likeliest = prediction.probabilities[prediction.predicted]
    outcome = f"{shown_text(prediction.classes[prediction.predicted])}, with probability {likeliest:.3f}"
    add(len(shown) + 1, title, "", (_shape(traced.shape_out), "1 class"), 0, outcome)
    return table


def _values(layer: LayerTraced, row: Row) -> str:
    values = layer.values
    if values is None:
        return words.NOTHING
    text = f"{words.number(values.low)} to {words.number(values.high)}, mean {words.number(values.mean)}"
    if layer.kind in SILENCING:
        return f"{text}\n{100 * values.zero_share:.0f} % of them are zero"
    return f"{text}\nbefore the softmax" if row.ends_with_softmax else text


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape) or "1"


def _bars(prediction: Prediction, block: str) -> Iterator[Text]:
    p = prediction
    shown: Sequence[int] = range(len(p.classes))
    if len(shown) > MOST_CLASSES:
        shown = sorted(shown, key=lambda i: -p.probabilities[i])[:MOST_CLASSES]
        if p.true_class is not None and p.true_class not in shown:
            shown = [*shown, p.true_class]
    names = [shown_text(name) for name in p.classes]
    margin = max(len(names[i]) for i in shown)
    for i in shown:
        bar = block * round(BAR * p.probabilities[i]) or "."
        said = [w for w, holds in (("predicted", i == p.predicted), ("true", i == p.true_class)) if holds]
        style = "green" if i == p.true_class else "yellow" if i == p.predicted else "cyan"
        line = Text(f"  {names[i]:>{margin}} ", no_wrap=True).append(f"{bar:<{BAR}}", style)
        yield line.append(f" {100 * p.probabilities[i]:5.1f} %").append(f"  {', '.join(said)}" if said else "", "bold")
    if len(shown) < len(p.classes):
        yield Text(f"  and {len(p.classes) - len(shown)} less likely classes")


def _verdict(prediction: Prediction) -> Text:
    p, name = prediction, shown_text(prediction.classes[prediction.predicted])
    said = Text.assemble("Predicted: ", (name, "bold"), f" ({100 * p.probabilities[p.predicted]:.1f} %). ")
    if p.true_class is None:
        return said.append("The true class is not known.")
    true = f"True: {shown_text(p.classes[p.true_class])}"
    if p.true_class == p.predicted:
        return said.append(f"{true}. ").append("Right.", "bold green")
    return said.append(f"{true} ({100 * p.probabilities[p.true_class]:.1f} %). ").append("Wrong.", "bold red")


def _fitting(picture: Picture, columns: int) -> Picture:
    """Return the picture as wide as there are columns, where it is wider."""
    if picture.width <= columns:
        return picture
    height = max(1, round(picture.height * columns / picture.width))
    pixels = np.frombuffer(picture.pixels, np.uint8).reshape(picture.channels, picture.height, picture.width)
    small = [np.asarray(Image.fromarray(one).resize((columns, height), Image.Resampling.BOX)) for one in pixels]
    return Picture(picture.channels, height, columns, np.stack(small).tobytes())


def _in_characters(picture: Picture) -> Iterator[Text]:
    """Yield a line for every two rows of pixels: the brighter, the denser."""
    edge = Text("+" + "-" * picture.width + "+", no_wrap=True)
    yield edge
    for top in range(0, picture.height, 2):
        line = ""
        for column in range(picture.width):
            pair = [_brightness(picture.at(row, column)) for row in range(top, min(top + 2, picture.height))]
            line += SHADES[int(sum(pair) / len(pair) / 256 * len(SHADES))]
        yield Text(f"|{line}|", no_wrap=True)
    yield edge


def _in_colours(picture: Picture) -> Iterator[Text]:
    """Yield a line for every two rows of pixels: the upper half of a cell in its own colour, the lower in another."""
    for top in range(0, picture.height, 2):
        line = Text(no_wrap=True)
        for column in range(picture.width):
            below = _colour(picture.at(top + 1, column)) if top + 1 < picture.height else None
            line.append("▀", Style(color=_colour(picture.at(top, column)), bgcolor=below))
        yield line


def _brightness(pixel: tuple[int, ...]) -> float:
    return float(pixel[0]) if len(pixel) == 1 else sum(w * v for w, v in zip(LUMINANCE, pixel, strict=True))


def _colour(pixel: tuple[int, ...]) -> Color:
    return Color.from_rgb(*(pixel if len(pixel) == 3 else pixel * 3))

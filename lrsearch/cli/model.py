"""`lrsearch model`: a model, looked at before it is searched with: whether it can be trained, and its levels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrsearch import loading
from lrsearch.analysis.levels import module_of
from lrsearch.cli.options import DataDirOption, JsonOption, SetOption, WeightsOption, print_json, stderr, stdout
from lrsearch.errors import EXIT_OK
from lrsearch.spec import file as study_file
from lrsearch.text import counted, shown

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from lrsearch.spec.study import StudySpec
    from lrsearch.training.preflight import ModelLook
    from lrsearch.training.weights import Origin

SCHEMA = "lrsearch/network/1"
STEM_RATIO = 0.1
"""For the column that shows what a layer-wise training comes to."""


@dataclass(frozen=True, slots=True)
class LevelRow:
    """A level of the table."""

    names: tuple[str, ...]
    """Of its parameters."""
    n_parameters: int
    n_decayed: int
    """Weights upon which weight decay acts."""
    n_frozen: int
    share: float | None
    """Part of the learning rate with which it learns at ``STEM_RATIO``; None where all of it is frozen."""

    @property
    def modules(self) -> tuple[str, str]:
        """The modules of its first and its last parameter; a parameter of the whole stands for itself."""
        return module_of(self.names[0]), module_of(self.names[-1])


def model(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|torchvision/NAME|timm/NAME|FILE.py:FUNCTION",
            help="The model, as --model of lrsearch run has it.",
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME|folder:PATH|...", help="The images that decide its sizes."),
    ] = None,
    weights: WeightsOption = None,
    settings: SetOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> int:
    """Look at a model: whether it can be trained on these images, its levels, and what to mind; searches nothing."""
    given: dict[str, object] = {"model": what, "dataset": dataset, "weights": weights}
    overrides = [(study_file.OPTIONS[name], value) for name, value in given.items() if value is not None]
    overrides += [study_file.parse_override(text) for text in settings or ()]
    spec = study_file.resolved({"name": "model"}, "the model", overrides)
    loading.load_pytorch()
    from lrsearch.training import preflight
    from lrsearch.training import weights as origins
    from lrsearch.worker import model_config

    config = model_config(spec)
    shape, n_classes = _images(spec, origins.origin(config), data_dir)
    seen = preflight.examine(config, shape, n_classes)
    rows = _rows(seen, spec)
    if as_json:
        print_json(_to_json(seen, rows, spec, shape, n_classes))
    else:
        stdout().print(_rendered(seen, rows, spec, shape, n_classes))
    return EXIT_OK


def _images(spec: "StudySpec", origin: "Origin | None", data_dir: "Path | None") -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image and the number of classes."""
    if spec.dataset.own is None:
        expected = spec.dataset.expected
        return expected.shape, len(expected.classes)
    from lrsearch.pictures import own

    console = stderr()
    colour, size = (False, None) if origin is None else (origin.colour, origin.size)
    progress = console.is_terminal and not console.is_dumb_terminal
    found = own.read(spec.dataset, data_dir, colour=colour, size=size, progress=progress)
    _, channels, height, width = found.images.shape
    return (channels, height, width), len(found.classes)


def _rows(seen: "ModelLook", spec: "StudySpec") -> list[LevelRow]:
    from lrsearch import layer_rates
    from lrsearch.training import optimizers
    from lrsearch.trial import OptimizerConfig, ScheduleConfig, TrialConfig

    config = TrialConfig(OptimizerConfig("sgd", 1.0), ScheduleConfig("constant"), 1, 1, 0, stem_ratio=STEM_RATIO)
    groups = optimizers.groups_of(seen.model, seen.network, config, decay_all=not spec.decay_matrices)
    decayed = {n for names, acts in zip(groups.names, groups.decayed, strict=True) if acts for n in names}
    sizes = {name: parameter.numel() for name, parameter in seen.model.named_parameters()}
    shares = iter(layer_rates.shares(len(seen.network.levels), config))
    frozen = set(seen.network.frozen)
    return [
        LevelRow(
            names,
            sum(sizes[name] for name in names),
            sum(sizes[name] for name in names if name in decayed),
            sum(sizes[name] for name in names if name in frozen),
            None if frozen.issuperset(names) else next(shares),
        )
        for names in seen.levels
    ]


def _to_json(
    seen: "ModelLook", rows: list[LevelRow], spec: "StudySpec", shape: tuple[int, int, int], n_classes: int
) -> dict[str, Any]:
    """Return everything as a document."""
    network = seen.network
    return {
        "schema": SCHEMA,
        "model": spec.model.name,
        "shape": shape,
        "n_classes": n_classes,
        "parameters": network.n_parameters,
        "batch_norm": network.batch_norm,
        "draws": network.draws,
        "repeats": network.repeats,
        "code_sha256": network.code or None,
        "weights_sha256": network.weights or None,
        "stem_ratio": STEM_RATIO,
        "levels": [
            {
                "level": number,
                "parameters": row.n_parameters,
                "decayed": row.n_decayed,
                "frozen": row.n_frozen,
                "lr_share": row.share,
                "names": row.names,
            }
            for number, row in enumerate(rows)
        ],
        "tied": seen.ties,
        "said": seen.remarks,
    }


def _rendered(
    seen: "ModelLook", rows: list[LevelRow], spec: "StudySpec", shape: tuple[int, int, int], n_classes: int
) -> "RenderableType":
    """Return the same for a person."""
    from rich.console import Group, RenderableType
    from rich.text import Text

    network = seen.network
    n_frozen = sum(row.n_frozen for row in rows)
    channels, height, width = shape
    classes = counted(n_classes, "class", "classes")
    does = ["repeats exactly" if network.repeats else "does not repeat exactly"]
    if network.draws:
        does.insert(0, "draws random numbers in training")
    if network.batch_norm:
        does.insert(0, "normalises by batch")
    lines = [
        f"model       {shown(spec.model.name)}",
        f"images      {channels}x{height}x{width}, {classes} of {shown(spec.dataset.name)}",
        f"parameters  {network.n_parameters:,} trained" + (f", {n_frozen:,} frozen" if n_frozen else ""),
        f"training    {', '.join(does)}",
        *(f"tied        {' = '.join(names)}" for names in seen.ties),
    ]
    if network.code:
        lines.append(f"code        SHA-256 {network.code[:12]}")
    if network.weights:
        lines.append(f"weights     SHA-256 {network.weights[:12]}")
    parts: list[RenderableType] = [
        *(Text(line, no_wrap=True, overflow="ignore") for line in lines),
        Text(),
        _table(rows),
    ]
    if seen.remarks:
        parts += [Text(), *(Text(f"* {sentence}") for sentence in seen.remarks)]
    return Group(*parts)


def _table(rows: list[LevelRow]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("level", justify="right")
    table.add_column("modules", overflow="fold")
    for title in ("parameters", "decayed", f"lr at stem_ratio {STEM_RATIO:g}"):
        table.add_column(title, justify="right")
    for number, row in enumerate(rows):
        first, last = row.modules
        table.add_row(
            str(number),
            Text(shown(first if first == last else f"{first} .. {last}")),
            f"{row.n_parameters:,}",
            f"{row.n_decayed:,}",
            "frozen" if row.share is None else f"{row.share:.3g}",
        )
    return table

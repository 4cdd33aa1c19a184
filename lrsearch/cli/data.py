"""`lrsearch data`: pictures of one's own, looked at before they are searched with; no torch, and nothing is trained."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrsearch.cli.options import DataDirOption, JsonOption, print_json, stderr, stdout
from lrsearch.errors import EXIT_OK, StudyFileError, UsageError, nearest
from lrsearch.report.text_file import check_folder
from lrsearch.spec import file as study_file
from lrsearch.spec import sources
from lrsearch.spec.study import DatasetSpec

if TYPE_CHECKING:
    from PIL.Image import Image


def data(
    what: Annotated[
        str,
        typer.Argument(
            metavar="folder:PATH|csv:FILE|FILE.py:FUNCTION", help="The pictures, as --dataset of lrsearch run has them."
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="dataset.KEY=VALUE", help="Set a key of [dataset]; may be given again."),
    ] = None,
    data_dir: DataDirOption = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Write a contact sheet: a row for each class.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Look at your own pictures: counts, sizes, what cannot be read, what is there twice, and the split of a search."""
    dataset = _dataset(what, settings or [])
    if sheet is not None:
        if sheet.suffix.lower() != ".png":
            raise UsageError(f"--sheet must name a file that ends in .png, got {sheet}")
        check_folder(sheet)
    from lrsearch.pictures import view
    from lrsearch.pictures.look import look

    console = stderr()
    seen = look(dataset, data_dir, progress=console.is_terminal and not console.is_dumb_terminal)
    if as_json:
        print_json(view.to_json(seen))
    else:
        stdout().print(view.render(seen))
    if sheet is not None:
        from lrsearch.pictures.sheet import sheet as drawn

        _write(sheet, drawn(seen.known))
    if seen.refused is not None:
        raise seen.refused
    return EXIT_OK


def _dataset(what: str, settings: list[str]) -> DatasetSpec:
    """Return the table [dataset] that names these pictures."""
    if sources.data_of(what) is None:
        with suppress(OSError, ValueError):
            if Path(what).is_dir():
                raise UsageError(f"{what} is a folder: look at it as folder:{what}")
            if what.lower().endswith(".csv"):
                raise UsageError(f"{what} is a table: look at it as csv:{what}")
    tables: dict[str, Any] = {"name": "data", "dataset": {"name": what}}
    for text in settings:
        key, value = study_file.parse_override(text)
        table, _, inner = key.partition(".")
        if table != "dataset" or inner == "name":
            keys = [f"dataset.{name}" for name in DatasetSpec.model_fields if name != "name"]
            raise UsageError(f"--set {key}: must be a key of [dataset] besides its name{nearest(key, keys)}")
        tables = study_file.override(tables, key, value)
    dataset = study_file.build(tables, "lrsearch data").dataset
    if dataset.own is None:
        raise StudyFileError(
            f"lrsearch data looks at pictures of your own ({sources.FORMS_OF_DATA}), and '{what}' is a data set as it "
            f"was published"
        )
    return dataset


def _write(path: Path, picture: "Image") -> None:
    whole = path.resolve()
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        picture.save(part, "PNG")
        part.replace(whole)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None

"""`lrsearch data`: pictures of one's own, looked at before they are searched with; nothing is trained.

PyTorch is loaded only to change pictures as training does.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrsearch.cli.options import DataDirOption, JsonOption, print_json, stderr, stdout
from lrsearch.errors import EXIT_OK, StudyFileError, UsageError, nearest
from lrsearch.report.text_file import check_folder
from lrsearch.spec import file as study_file
from lrsearch.spec import sources
from lrsearch.spec.study import DatasetSpec, StudySpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from lrsearch.pictures.known import Known


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
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            metavar="auto|KEY[=VALUE],...",
            help="Show pictures as training would change them: a row for each, as it is and as eleven updates see it. "
            "The sheet goes to --sheet, or to a file named after the pictures.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Look at your own pictures: counts, sizes, what cannot be read, what is there twice, and the split of a search."""
    spec = _spec(what, settings or [], augment)
    dataset, own_name = spec.dataset, sheet is None and augment is not None
    if own_name:
        sheet = Path(f"{sources.title(dataset.name)}-augmented.png")
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
    if sheet is not None and augment is None:
        from lrsearch.pictures.sheet import sheet as drawn

        _write(sheet, drawn(seen.known))
    if seen.refused is not None:
        raise seen.refused
    if sheet is not None and augment is not None:
        changes, picture = _augmented(spec, seen.known)
        _write(sheet, picture)
        if own_name:
            print(f"wrote {sheet}: {changes}", file=sys.stderr)
    return EXIT_OK


def _augmented(spec: StudySpec, known: "Known") -> tuple[str, "Image"]:
    """Return in words how these pictures are changed, and some of them so.

    Raises:
        StudyFileError: they cannot be changed so.
        UsageError: nothing is changed.
    """
    from lrsearch.pictures import own, sheet
    from lrsearch.training.augment.shown import shown

    labels, classes, images = known.labels, known.listing.classes, known.stored.images
    channels, height, width = images.shape[1:]
    augment = spec.augmented((channels, height, width), classes)
    if augment is None:
        raise UsageError(
            "--augment comes to nothing for these pictures: 'auto' leaves grey ones alone, and those of classes that "
            "are called by numbers; name what is to be done, such as --augment flip,crop=4"
        )
    train = own.divide(known, spec.dataset).train
    some = sheet.some_of_each(labels, train, len(classes))
    unit = spec.scaling == "unit"
    pictures = shown(augment, images, labels, train, some, sheet.PER_CLASS - 1, unit=unit)
    return augment.words, sheet.drawn([classes[label] for label in labels[some]], list(pictures))


def _spec(what: str, settings: list[str], augment: str | None) -> StudySpec:
    """Return a study of these pictures."""
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
    if augment is not None:
        tables["augment"] = augment
    spec = study_file.build(tables, "lrsearch data", {"augment": "--augment"})
    if spec.dataset.own is None:
        raise StudyFileError(
            f"lrsearch data looks at pictures of your own ({sources.FORMS_OF_DATA}), and '{what}' is a data set as it "
            f"was published"
        )
    return spec


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

"""`lrsearch predict`."""

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    ThreadsOption,
    TrialOption,
    chosen,
    opened,
    print_json,
    stderr,
    stdout,
)
from lrsearch.errors import EXIT_FAILURE, EXIT_OK, UsageError
from lrsearch.report.text_file import check_free, file_or_stdout, write
from lrsearch.text import counted, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lrsearch.predict.run import Numbered, PictureFile
    from lrsearch.predict.unknown import Answered, Unread

ENOUGH_COLOURS = ("256", "truecolor", "windows")
"""Of a terminal that can show an image; it is drawn in characters elsewhere."""


def predict(
    study: StudyArgument = None,
    trial: TrialOption = "best",
    image: Annotated[
        str | None,
        typer.Option(
            "--image", "-i", metavar="K|FILE", help="Number of an image, from 0, or a picture file; 0 if not given."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="PICTURES", help="Folder of pictures: what each is taken for, as CSV."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the CSV goes, - for stdout; stdout if not given."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    image_set: Annotated[
        Literal["test", "validation", "train"] | None,
        typer.Option("--set", help="Where to look for image K: test (if not given), validation or train."),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Turn dark into bright in FILE: digits are bright on dark, ink is not.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the trial again if its weights were not kept.")
    ] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    artifacts: ArtifactsOption = None,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show layer by layer what the weights of a trial make of an image; or say what each picture of a folder is."""
    path = _check(image, image_set, folder, output, invert=invert, force=force, as_json=as_json)
    console = stderr()
    live = console.is_terminal and not console.is_dumb_terminal
    with opened(storage) as database:
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        wanted = chosen(found, trial)
        with console.status("loading PyTorch ...") if live else nullcontext():
            from lrsearch import run
            from lrsearch.predict import run as predicting
            from lrsearch.predict import unknown
            from lrsearch.predict import view as report
        asked = _asked(image or "0", image_set, invert=invert)
        pictures = unknown.pictures_in(folder) if folder is not None else []
        weights = predicting.kept_weights(found, wanted, artifacts, or_none=retrain)
        engine = run.prepare_images(found.spec, run.Here(device, threads, data_dir, progress=live))
        if weights is None:
            print(f"lrsearch: training trial {wanted.number} again, for its weights", file=sys.stderr, flush=True)
        with console.status("training ...") if live and weights is None else nullcontext():
            if folder is not None:
                model, _ = predicting.with_weights(found, wanted, weights, engine)
            else:
                seen = predicting.predict(found, wanted, weights, asked, engine)
        if folder is not None:
            judged = unknown.judged(model, engine.splits, folder, pictures, engine.arithmetic.precision)
            return _written(judged, engine.splits.n_classes, len(pictures), path)
        if as_json:
            print_json(report.to_json(seen))
        else:
            out = stdout()
            out.print(report.render(seen, out.width, colours=out.is_terminal and out.color_system in ENOUGH_COLOURS))
    return EXIT_OK


def _check(
    image: str | None,
    image_set: str | None,
    folder: Path | None,
    output: str | None,
    *,
    invert: bool,
    force: bool,
    as_json: bool,
) -> Path | None:
    """Refuse options that do not go together, and a file that is there already; return where the CSV goes."""
    given = {
        "--image": image is not None,
        "--set": image_set is not None,
        "--invert": invert,
        "--json": as_json,
    }
    if folder is not None and (wrong := [name for name, is_given in given.items() if is_given]):
        raise UsageError(f"--folder writes a line of CSV for each picture, and does not go with {wrong[0]}")
    if folder is None and (output is not None or force):
        name = "--output" if output is not None else "--force"
        raise UsageError(f"{name} goes with a folder of pictures (--folder)")
    path = file_or_stdout(output)
    if path is not None:
        check_free(path, force=force)
    return path


def _written(judged: "Iterator[Answered | Unread]", n_classes: int, n_pictures: int, output: Path | None) -> int:
    """Write what each picture is taken for; then say which could not be read."""
    import io

    from lrsearch.predict import unknown

    if output is None:
        unread = unknown.write(sys.stdout, judged, n_classes)
    else:
        text = io.StringIO()
        unread = unknown.write(text, judged, n_classes)
        write(output, text.getvalue())
        print(f"wrote {output}: {counted(n_pictures - len(unread), 'picture')}", file=sys.stderr)
    sys.stdout.flush()
    if not unread:
        return EXIT_OK
    print(f"lrsearch: {counted(len(unread), 'picture')} could not be read:", file=sys.stderr)
    for one in unread:
        print(f"  {shown(one.name)} {shown(one.reason)}", file=sys.stderr)
    return EXIT_FAILURE


def _asked(image: str, image_set: str | None, *, invert: bool) -> "Numbered | PictureFile":
    from lrsearch.predict.run import Numbered, PictureFile

    if re.fullmatch(r"[+-]?[0-9]{1,99}", image):
        if invert:
            raise UsageError(f"--invert goes with a picture file (--image FILE), got --image {image}")
        match image_set:
            case "train" | "validation":
                return Numbered(int(image), image_set)
            case _:
                return Numbered(int(image))
    if image_set is not None:
        raise UsageError(f"--set {image_set} goes with the number of an image (--image K), got --image {image}")
    return PictureFile(Path(image), invert)

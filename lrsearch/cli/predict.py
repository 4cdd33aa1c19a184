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
from lrsearch.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from lrsearch.predict.run import Numbered, PictureFile

ENOUGH_COLOURS = ("256", "truecolor", "windows")
"""Of a terminal that can show an image; it is drawn in characters elsewhere."""


def predict(
    study: StudyArgument = None,
    trial: TrialOption = "best",
    image: Annotated[
        str,
        typer.Option("--image", "-i", metavar="K|FILE", help="Number of an image, from 0, or a picture file."),
    ] = "0",
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
    """Show layer by layer what the weights of a trial make of an image, and what they take it for."""
    console = stderr()
    live = console.is_terminal and not console.is_dumb_terminal
    with opened(storage) as database:
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        wanted = chosen(found, trial)
        with console.status("loading PyTorch ...") if live else nullcontext():
            from lrsearch import run
            from lrsearch.predict import run as predicting
            from lrsearch.predict import view as report
        asked = _asked(image, image_set, invert=invert)
        weights = predicting.kept_weights(found, wanted, artifacts, or_none=retrain)
        engine = run.prepare(found.spec, run.Here(device, threads, data_dir, progress=live))
        if weights is None:
            print(f"lrsearch: training trial {wanted.number} again, for its weights", file=sys.stderr, flush=True)
        with console.status("training ...") if live and weights is None else nullcontext():
            seen = predicting.predict(found, wanted, weights, asked, engine)
        if as_json:
            print_json(report.to_json(seen))
        else:
            out = stdout()
            out.print(report.render(seen, out.width, colours=out.is_terminal and out.color_system in ENOUGH_COLOURS))
    return EXIT_OK


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

"""`lrsearch export`: a trial as a program or as data; torch is not loaded for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    DataDirOption,
    StorageOption,
    StudyArgument,
    TrialOption,
    chosen,
    opened,
    stderr,
)
from lrsearch.errors import EXIT_OK
from lrsearch.report.targets import Framework, Target
from lrsearch.report.text_file import check_free, file_or_stdout, write

if TYPE_CHECKING:
    from lrsearch.report.own_split import OwnSplit
    from lrsearch.spec.study import StudySpec


def export(
    study: StudyArgument = None,
    trial: TrialOption = "best",
    to: Annotated[
        Target,
        typer.Option(
            "--to",
            help="torch or lightning: a program; timm, transformers or torchvision: what its own training script is "
            "given; json or csv: the learning rates.",
        ),
    ] = "torch",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it, - for stdout; stdout if not given."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
) -> int:
    """Print a program that trains with the setting of a trial, the options of another's, or its learning rates."""
    path = file_or_stdout(output)
    if path is not None:
        check_free(path, force=force)
    with opened(storage) as database:
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        wanted, spec = chosen(found, trial), found.spec
    split_file = None
    is_program = to in get_args(Framework)
    if path is not None and is_program and spec.dataset.own is not None:
        split_file = path.with_suffix(".split.json")
        check_free(split_file, force=force)
    split = _split(spec, data_dir) if split_file is not None else None
    from lrsearch.gather import exported

    text = exported(wanted, spec, to, split, "" if split_file is None else split_file.name)
    if path is None:
        print(text, end="")
        return EXIT_OK
    if split is not None and split_file is not None:
        import json

        write(split_file, json.dumps(split.document(spec), ensure_ascii=False) + "\n")
    write(path, text)
    run = f"; run it with: python {path}" if is_program else ""
    beside = f" and {split_file}" if split_file is not None else ""
    print(f"wrote {path}{beside}{run}")
    return EXIT_OK


def _split(spec: "StudySpec", data_dir: Path | None) -> "OwnSplit":
    from lrsearch.report.own_split import own_split

    return own_split(spec, data_dir, progress=stderr().is_terminal)

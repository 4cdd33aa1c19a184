"""`lrsearch export`: a trial as a program or as data; torch is not loaded for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument, TrialOption, chosen, opened
from lrsearch.errors import EXIT_OK
from lrsearch.report.text_file import check_free, write

if TYPE_CHECKING:
    from lrsearch.spec.study import StudySpec
    from lrsearch.trial import Trial

Target = Literal["torch", "lightning", "json", "csv"]


def export(
    study: StudyArgument = None,
    trial: TrialOption = "best",
    to: Annotated[
        Target, typer.Option("--to", help="torch or lightning: a program; json or csv: the learning rates.")
    ] = "torch",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; stdout if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> int:
    """Print a program that trains with the setting of a trial, or its learning rate at every update."""
    if output is not None:
        check_free(output, force=force)
    with opened(storage) as database:
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        text = _text(chosen(found, trial), found.spec, to)
    if output is None:
        print(text, end="")
        return EXIT_OK
    write(output, text)
    run = f"; run it with: python {output}" if to in ("torch", "lightning") else ""
    print(f"wrote {output}{run}")
    return EXIT_OK


def _text(trial: "Trial", spec: "StudySpec", to: Target) -> str:
    match to:
        case "torch" | "lightning":
            from lrsearch.report.export_program import program

            return program(trial, spec, to)
        case "json":
            import json

            from lrsearch.report.export import to_json

            return json.dumps(to_json(trial, spec), indent=2, allow_nan=False) + "\n"
        case "csv":
            from lrsearch.report.export import to_csv

            return to_csv(trial, spec)

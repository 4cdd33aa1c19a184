"""`lrsearch log`: the trials of a study as runs of another tracker; torch is not loaded."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument, opened
from lrsearch.errors import EXIT_OK, UsageError
from lrsearch.report.text_file import named_path
from lrsearch.text import counted, file_name

Tracker = Literal["tensorboard", "mlflow", "csv"]


def log(
    study: StudyArgument = None,
    to: Annotated[
        Tracker | None, typer.Option("--to", help="tensorboard, mlflow, or csv: a file of trials, one of epochs.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER|FILE|URL",
            help="runs/STUDY for tensorboard, mlflow.db or a server's address for mlflow, STUDY-csv for csv.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of csv that are other ones.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> int:
    """Write every trial as a run of another tracker: its setting, its epochs with their learning rate, its outcome."""
    named = named_path(output)
    if to is None:
        raise UsageError("log needs the tracker: --to tensorboard, --to mlflow or --to csv")
    with opened(storage) as database:
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        trials, refused, spec = found.trials(), found.refused(), found.spec
    from lrsearch.report.run_record import run_record

    records, name = [run_record(trial, spec) for trial in trials], file_name(found.name)
    said = counted(len(records), "trial")
    match to:
        case "tensorboard":
            from lrsearch.report.records_tensorboard import write_tensorboard

            folder = named or Path("runs") / name
            write_tensorboard(folder, records)
            said += f" to {folder}; look at them with: tensorboard --logdir {folder}"
        case "mlflow":
            from lrsearch.report.records_mlflow import DEFAULT, tracking_uri, write_mlflow

            where = output or DEFAULT
            n = write_mlflow(where, found.name, records)
            there = f" ({counted(len(records) - n, 'other')} there already)" if n < len(records) else ""
            uri = tracking_uri(where)
            said = (
                f"{counted(n, 'trial')} to {where}{there}; look at them with: mlflow server --backend-store-uri {uri}"
            )
        case "csv":
            from lrsearch.report.records_csv import write_csv

            folder = named or Path(f"{name}-csv")
            write_csv(folder, trials, refused, force=force)
            said += f" to {folder / 'trials.csv'} and {folder / 'epochs.csv'}"
    print(f"wrote {said}", file=sys.stderr)
    return EXIT_OK

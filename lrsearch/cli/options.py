"""Options that several commands share, and what they mean."""

import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from lrsearch.cli import log
from lrsearch.errors import NothingFeasibleError, UnknownNameError, UsageError
from lrsearch.workers import number

if TYPE_CHECKING:
    from rich.console import Console

    from lrsearch.store.places import Place
    from lrsearch.store.storage import Database
    from lrsearch.store.study import Study
    from lrsearch.trial import Trial


def no_password_typed(context: typer.Context, parameter: typer.CallbackParam, storage: str) -> str:
    """Refuse a password on the command line, where every user of the machine can read it."""
    source = context.get_parameter_source(parameter.name or "")
    if "://" in storage and source is not None and source.name == "COMMANDLINE":
        from lrsearch.store.places import parse_place

        parse_place(storage, typed=True)
    return storage


StorageOption = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar="LRSEARCH_STORAGE",
        metavar="FILE|URL",
        callback=no_password_typed,
        help="Database that holds the studies: a file, postgresql://user@host/database, or @FILE that holds a URL.",
        show_default=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON (versioned schema) instead of text.")]


def no_url(study: str | None) -> str | None:
    """Refuse a URL where a study is named; it is not repeated, because it may hold a password."""
    if study is not None and "://" in study:
        raise UsageError("a study is named by a name or a file, got a URL: name a database with --storage")
    return study


StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]", callback=no_url, help="Name of the study; may be left out when there is only one."
    ),
]
TrialOption = Annotated[
    str,
    typer.Option("--trial", metavar="best|N", help="Which trial: its number, or the best that was trained through."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="LRSEARCH_DATA_DIR", metavar="FOLDER", help="Folder that holds the data sets."),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME|folder:PATH|csv:FILE|FILE.py:FUNCTION",
        help="Data set by name, or your own pictures: a folder for each class, a table, a function.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|torchvision/NAME|timm/NAME|FILE.py:FUNCTION",
        help="Model by name, or your own: a package's, or a function that builds it.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="DEFAULT|TAG|FILE", help="Where training starts; at random if not given."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key of the study file; may be given again."),
]

ArtifactsOption = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        envvar="LRSEARCH_ARTIFACTS",
        metavar="FOLDER|s3://BUCKET|gs://BUCKET",
        help="Where checkpoints and weights lie; beside the database file if not given.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", envvar="LRSEARCH_THREADS", min=1, help="CPU threads; by model if not given."),
]
WorkersOption = Annotated[
    str,
    typer.Option(
        "--workers",
        envvar="LRSEARCH_WORKERS",
        metavar="N|auto",
        help="Worker processes on this machine, or with --ray; auto: one per GPU, else one per core.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", envvar="LRSEARCH_DEVICE", help="auto, cpu, cuda, cuda:1, mps.")]

DEFAULT_STORAGE = "./lrsearch.db"

WIDTH_OFF_TERMINAL = 120
"""[columns]"""


def place(storage: str) -> "Place":
    """Return the place that ``--storage`` names."""
    from lrsearch.store.places import parse_place

    return parse_place(storage)


def storage_option(storage: str) -> str:
    """Return what a command that is typed next needs to find the same database: ``--storage ...``, or nothing."""
    if storage == (os.environ.get("LRSEARCH_STORAGE") or DEFAULT_STORAGE):
        return ""
    # A URL that was typed holds no password: it would have been refused.
    where = storage if storage.startswith("@") or "://" in storage else str(place(storage))
    return f"--storage {shlex.quote(where)}"


@contextmanager
def opened(storage: str, *, to_read: bool = True) -> "Iterator[Database]":
    """Open an existing database; one that cannot be written will do for a command that only reads."""
    quiet_optuna()
    from lrsearch.store.storage import open_existing

    database = open_existing(place(storage), to_read=to_read)
    try:
        yield database
    finally:
        database.close()


def chosen(study: "Study", trial: str) -> "Trial":
    """Return the trial that ``--trial`` names.

    Raises:
        UsageError: neither ``best`` nor a number.
        UnknownNameError: the study has no such trial.
        NothingFeasibleError: ``best``, and no trial was trained through.
    """
    trials = study.trials()
    if trial == "best":
        from lrsearch import gather

        winner = gather.winner(study)
        if winner is None:
            raise NothingFeasibleError(
                f"no trial of the study '{study.spec.name}' was trained through: there is no best one"
            )
        return winner
    if not trial.isdecimal():
        raise UsageError(f"--trial takes best or the number of a trial, got {trial!r}")
    known = {t.number: t for t in trials}
    if int(trial) not in known:
        has = f"has trials 0 to {max(known)}" if known else "has no trial yet"
        raise UnknownNameError(f"there is no trial {trial} in the study '{study.spec.name}', which {has}")
    return known[int(trial)]


def quiet_optuna() -> None:
    """Keep Optuna's own log lines off stderr, which is ours."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def stdout() -> "Console":
    """Return the console for data: no ANSI off a terminal, full width where there is none."""
    fixed = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_OFF_TERMINAL
    return _console(sys.stdout if sys.stdout.isatty() else cast(TextIO, _Trimmed(sys.stdout)), fixed)


class _Trimmed(io.TextIOBase):
    """A file without the blanks with which a table fills its lines up."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the file."""
        return self._file.encoding

    def write(self, text: str) -> int:
        """Write whole lines."""
        self._file.write(re.sub(r"[ \t]+(?=\n)", "", text))
        return len(text)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def fileno(self) -> int:
        """Of the file."""
        return self._file.fileno()


def stderr() -> "Console":
    """Return the console for progress."""
    return _console(sys.stderr, None)


def _console(file: TextIO, width: int | None) -> "Console":
    from rich.console import Console

    # With NO_COLOR rich would still write bold and dim.
    plain = os.environ.get("NO_COLOR", "") != ""
    # Nothing may make a terminal of a log that is JSON, not even FORCE_COLOR.
    terminal = False if file is sys.stderr and log.as_json() else None
    return Console(
        file=file, highlight=False, width=width, color_system=None if plain else "auto", force_terminal=terminal
    )


def tools() -> str:
    """Return what to type before ``lrsearch``: nothing, or the folder it was started from when not on the path."""
    folder, name = os.path.split(sys.argv[0])
    return f"{folder}/" if folder and name == "lrsearch" and not shutil.which("lrsearch") else ""


def print_json(document: object) -> None:
    """Print one JSON document; numbers that are none are null."""
    import json

    print(json.dumps(document, indent=2, allow_nan=False, default=str))


def workers_of(text: str, per_gpu: int = 1, ray: str | None = None) -> int | None:
    """Return the number of workers that is asked for; None: as many as suit the machine.

    Raises:
        UsageError: it is no number, or more than can be started.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--workers must be a whole number from 1, or auto, got '{text}'")
    if per_gpu > 1:
        raise UsageError(f"--workers-per-gpu goes with --workers auto, got --workers {text}")
    if ray is None:
        number.check_startable(int(text), "--workers")
    return int(text)

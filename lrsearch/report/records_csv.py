"""Trials for a spreadsheet or a data frame: one file of trials, one of their epochs."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lrsearch.errors import UsageError
from lrsearch.report.plain import SCORES, epoch
from lrsearch.report.tables import trials_csv
from lrsearch.report.text_file import check_folder, write
from lrsearch.trial import Refused, Trial

TRIALS: Final = "trials.csv"
EPOCHS: Final = "epochs.csv"
HEADER: Final = ("trial", "epoch", "step", "lr", *SCORES, "seconds")
"""Of the epochs."""


def write_csv(folder: Path, trials: Sequence[Trial], refused: Sequence[Refused], *, force: bool) -> None:
    """Write both files into a folder, which is made where there is none; files of the same kind are written anew.

    Raises:
        UsageError: they cannot be, or something else stands there and ``force`` was not given.
    """
    texts = {TRIALS: trials_csv(trials, refused), EPOCHS: epochs_csv(trials)}
    if not folder.exists():
        check_folder(folder)
        folder.mkdir()
    for name, text in texts.items():
        check_folder(folder / name)
        _check_ours(folder / name, text.partition("\n")[0], force=force)
    for name, text in texts.items():
        write(folder / name, text)


def epochs_csv(trials: Sequence[Trial]) -> str:
    """Return every epoch of every trial, a row each, all digits kept; what was not measured is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=HEADER, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for trial in trials:
        for row in trial.metrics:
            writer.writerow({"trial": trial.number, **epoch(row)})
    return out.getvalue()


def _check_ours(path: Path, header: str, *, force: bool) -> None:
    if force or not path.exists():
        return
    with path.open("rb") as file:
        first = file.readline(100_000).decode("utf-8", "replace").strip()
    if first and first != header:
        raise UsageError(f"{path} exists and has other columns: name another folder with -o, or add --force")

"""`lrsearch compare`: two studies, or two trials, side by side; torch is not loaded."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch.cli.options import DEFAULT_STORAGE, JsonOption, StorageOption, chosen, no_url, opened, print_json, stdout
from lrsearch.errors import EXIT_OK, UsageError
from lrsearch.report import words

if TYPE_CHECKING:
    from lrsearch.analysis.compare import Comparison, Side
    from lrsearch.store.storage import Database
    from lrsearch.store.study import Study

ENDINGS = (".png", ".svg", ".html", ".htm")
TRIAL = re.compile(r"(?P<study>.*)#(?P<trial>\d+|best)")
A_TRIAL = re.compile(r"#?(\d+|best)")


def compare(
    first: Annotated[
        str,
        typer.Argument(metavar="STUDY|STUDY#N|N", callback=no_url, help="A study, or a trial: digits, digits#7, 7."),
    ],
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY|STUDY#N|N]",
            callback=no_url,
            help="The other; the best trial of the same study if not given. A number is a trial of the first's study.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A picture (.png, .svg) or a page (.html), by its name."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that lrsearch has not written.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> int:
    """Print two studies or two trials side by side: settings that differ, scores with intervals, curves, cost."""
    if output is not None:
        from lrsearch.report import report_file

        if output.suffix.lower() not in ENDINGS:
            raise UsageError(f"-o takes a file whose name ends in {', '.join(ENDINGS[:3])}, got {str(output)!r}")
        report_file.check(output, force=force)
    with opened(storage) as database:
        found = _found(database, first, second)
    if as_json:
        from lrsearch.report.compare_table import to_json

        print_json(to_json(found))
    elif output is None:
        from lrsearch.report.compare_table import render

        console = stdout()
        console.print(render(found, console.width))
    if output is not None:
        _write(found, output)
    return EXIT_OK


def _found(database: "Database", first: str, second: str | None) -> "Comparison":
    from lrsearch.analysis.compare import compare as compared

    study, one = _side(database, first, None)
    if second is None and one.is_study:
        raise UsageError(
            f"compare takes two studies or two trials, got one: '{first}'; a trial is named as '{first}#7'"
        )
    _, other = _side(database, "best" if second is None else second, study)
    same = (one.spec.name, one.is_study, one.trial and one.trial.number)
    if same == (other.spec.name, other.is_study, other.trial and other.trial.number):
        raise UsageError(f"compare takes two that differ, and both are {other.label}")
    return compared(one, other)


def _side(database: "Database", text: str, beside: "Study | None") -> "tuple[Study, Side]":
    """Return what somebody names: a study by its name, a trial by ``STUDY#N``, or by a number of the study beside."""
    from lrsearch.analysis.compare import side
    from lrsearch.store import study as studies

    found = studies.find(database, text)  # a study may be called 7
    if found is not None:
        return found, side(found.name, found.spec, found.trials())
    if named := TRIAL.fullmatch(text):
        study = studies.get(database, named["study"]) if named["study"] else beside or studies.get(database, None)
        trial = named["trial"]
    elif number := A_TRIAL.fullmatch(text):
        study, trial = beside or studies.get(database, None), number[1]
    else:
        study = studies.get(database, text)  # which says what names there are
        return study, side(study.name, study.spec, study.trials())
    one = chosen(study, trial)
    return study, side(f"{study.name}#{one.number}", study.spec, (), one)


def _write(found: "Comparison", output: Path) -> None:
    form = output.suffix.lower()
    if form in (".png", ".svg"):
        from lrsearch.report.chart_file import write_pictures
        from lrsearch.report.compare_figure import comparison_picture

        write_pictures([(output, comparison_picture(found))], "png" if form == ".png" else "svg")
    else:
        from lrsearch.report import text_file
        from lrsearch.report.compare_page import compare_page

        text_file.write(output, compare_page(found))
    print(f"wrote {output} ({words.file_size(output.stat().st_size)})", file=sys.stderr)

"""`lrsearch report`: one file that can be sent; torch is not loaded."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument, opened
from lrsearch.errors import EXIT_OK, UsageError
from lrsearch.report import words
from lrsearch.text import file_name

if TYPE_CHECKING:
    from lrsearch.analysis.material import Material

Format = Literal["html", "markdown", "json"]

ENDINGS: dict[str, Format] = {
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".json": "json",
}


def report(
    study: StudyArgument = None,
    storage: StorageOption = DEFAULT_STORAGE,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to write it, - for stdout; STUDY.html if not given."
        ),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="html, markdown (stdout if no -o) or json (stdout); by the name of FILE, or html."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is no report of lrsearch.")] = False,
) -> int:
    """Write a report of a study that one can send: a page with charts that needs nothing but itself."""
    if output == "":
        raise UsageError("-o takes the name of a file, or - for stdout")
    as_what = form or ENDINGS.get(Path(output or "").suffix.lower(), "html")
    with opened(storage) as database:
        from lrsearch.gather import gather
        from lrsearch.report import report_file, text_file
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        if output is None and as_what == "html":
            output = f"{file_name(found.name)}.html"
        path = None if output in (None, "-") else Path(str(output))
        if path is not None:
            report_file.check(path, force=force)
        text = _written(gather(found), as_what)
    if path is None:
        sys.stdout.write(text)
    else:
        text_file.write(path, text)
        print(f"wrote {path} ({words.file_size(len(text.encode()))})", file=sys.stderr)
    return EXIT_OK


def _written(material: "Material", form: Format) -> str:
    if form == "html":
        from lrsearch.report import html_page

        return html_page.html(material)
    from lrsearch.report import document

    if form == "markdown":
        return document.markdown(material)
    import json

    return json.dumps(document.to_json(material), indent=2, allow_nan=False, default=str) + "\n"

"""`lrsearch report`: one file that can be sent; torch is not loaded."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrsearch.cli.options import DEFAULT_STORAGE, StorageOption, StudyArgument, opened
from lrsearch.errors import EXIT_OK, NothingFeasibleError, UsageError
from lrsearch.report import words
from lrsearch.report.text_file import STDOUT, file_or_stdout
from lrsearch.text import counted, file_name

if TYPE_CHECKING:
    from lrsearch.analysis.material import Material
    from lrsearch.report.chart_file import ImageForm

Format = Literal["html", "markdown", "json", "png", "svg"]

ENDINGS: dict[str, Format] = {
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".json": "json",
    ".png": "png",
    ".svg": "svg",
}


def report(
    study: StudyArgument = None,
    storage: StorageOption = DEFAULT_STORAGE,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|FOLDER",
            help="Where to write it, - for stdout; STUDY.html if not given. Of png and svg a folder; STUDY-charts.",
        ),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            help="html, markdown or json (stdout if no -o), by the name of FILE, or html; png or svg: a file a chart.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is no report of lrsearch.")] = False,
) -> int:
    """Write a report of a study that one can send: a page that needs nothing but itself, or its charts as pictures."""
    file_or_stdout(output)  # what is no name is refused before anything else
    as_what = form or ENDINGS.get(Path(output or "").suffix.lower(), "html")
    if as_what in ("png", "svg"):
        return _charts(study, storage, output, as_what, force=force)
    with opened(storage) as database:
        from lrsearch.gather import gather
        from lrsearch.report import report_file, text_file
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        if output is None and as_what == "html":
            output = f"{file_name(found.name)}.html"
        path = file_or_stdout(output)
        if path is not None:
            report_file.check(path, force=force)
        text = _written(gather(found), as_what)
    if path is None:
        sys.stdout.write(text)
    else:
        text_file.write(path, text)
        print(f"wrote {path} ({words.file_size(len(text.encode()))})", file=sys.stderr)
    return EXIT_OK


def _charts(study: str | None, storage: str, output: str | None, form: "ImageForm", *, force: bool) -> int:
    """Write every chart of the report into a folder, a file each."""
    if output == STDOUT or (output or "").lower().endswith((".png", ".svg")):
        raise UsageError(f"every chart is a file of its own: name a folder with -o, and add --format {form}")
    with opened(storage) as database:
        from lrsearch.gather import gather
        from lrsearch.report import report_file
        from lrsearch.report.chart_file import write_pictures
        from lrsearch.report.chart_picture import pictures
        from lrsearch.report.contents import contents
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        name = file_name(found.name)
        said = contents(gather(found))
    figures = (*said.of_optimizers, *said.others)
    drawn = pictures(figures, said.material.spec, said.material.trials)
    if not drawn:
        raise NothingFeasibleError(f"there is nothing to draw of the study '{name}' yet: {figures[0].empty}")
    folder = Path(output or f"{name}-charts")
    files = [(folder / f"{name}-{one.name}.{form}", one) for one in drawn]
    report_file.check_all(folder, [path.name for path, _ in files], force=force)
    write_pictures(files, form)
    size = words.file_size(sum(path.stat().st_size for path, _ in files))
    print(f"wrote {counted(len(files), 'chart')} to {folder} ({size})", file=sys.stderr)
    for figure in figures:
        if figure.empty:
            print(f"not drawn: {figure.title} ({figure.empty})", file=sys.stderr)
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

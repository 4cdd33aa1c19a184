"""`lrsearch init`."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from lrsearch.errors import EXIT_OK, UsageError
from lrsearch.report.text_file import check_free, write


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("study.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> int:
    """Write a commented study file to start from."""
    if file.suffix != ".toml":
        raise UsageError(f"a study file ends in .toml, got '{file}'")
    text = resources.files("lrsearch.cli").joinpath("study_template.toml").read_text("utf-8")
    check_free(file, force=force)
    write(file, text)
    print(f"wrote {file}; run it with: lrsearch run {file}")
    return EXIT_OK

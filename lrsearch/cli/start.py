"""`lrsearch init`."""

from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from lrsearch.errors import EXIT_OK, UsageError


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("study.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> int:
    """Write a commented study file to start from."""
    if file.suffix != ".toml":
        raise UsageError(f"a study file ends in .toml, got '{file}'")
    text = resources.files("lrsearch.cli").joinpath("study_template.toml").read_text("utf-8")
    if file.exists() and not force:
        raise UsageError(f"{file} exists already; name another file, or overwrite it with --force")
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
    print(f"wrote {file}; run it with: lrsearch run {file}")
    return EXIT_OK

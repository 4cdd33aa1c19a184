"""A trial written as a program or as its learning rates, into a file."""

import json
from pathlib import Path
from typing import Literal, cast, get_args

from lrsearch.errors import UsageError, nearest
from lrsearch.report.text_file import check_folder
from lrsearch.report.text_file import write as write_text
from lrsearch.spec.study import StudySpec
from lrsearch.text import file_name
from lrsearch.trial import Trial

Program = Literal["torch", "lightning"]
Rates = Literal["json", "csv"]
Script = Literal["timm", "transformers", "torchvision"]
Target = Program | Script | Rates


def write(trial: Trial, spec: StudySpec, to: Target, path: Path | None, data_dir: Path | None, *, force: bool) -> Path:
    """Write a trial and return where; see ``Search.export``.

    Raises:
        UsageError: it cannot be written so, or there.
    """
    known = [*get_args(Program), *get_args(Script), *get_args(Rates)]
    if to not in known:
        raise UsageError(f"export: must be to one of {', '.join(known)}, got {to!r}{nearest(str(to), known)}")
    name = file_name(spec.name)
    if to == "json" or to == "csv":  # noqa: PLR1714 - mypy narrows no tuple
        out = path or Path(f"{name}.{to}")
        _write({out: _rates(trial, spec, to)}, force=force)
        return out
    if to in get_args(Script):
        from lrsearch.gather import flags

        out = path or Path(f"{name}-{to}.txt")
        _write({out: flags(trial, spec, cast("Script", to))}, force=force)
        return out
    from lrsearch.report.export_program import program
    from lrsearch.report.own_split import own_split

    out = path or Path(f"train-{name}.py")
    files = {}
    split = None if spec.loop is not None or spec.dataset.own is None else own_split(spec, data_dir)
    beside = out.with_suffix(".split.json")
    if split is not None:
        files[beside] = json.dumps(split.document(spec), ensure_ascii=False) + "\n"
    files[out] = program(trial, spec, cast("Program", to), split, "" if split is None else beside.name)
    _write(files, force=force)
    return out


def _rates(trial: Trial, spec: StudySpec, to: Rates) -> str:
    from lrsearch.report import export

    if to == "csv":
        return export.to_csv(trial, spec)
    return json.dumps(export.to_json(trial, spec), indent=2, allow_nan=False) + "\n"


def _write(files: dict[Path, str], *, force: bool) -> None:
    """Write all files, or none where one of them holds something else."""
    for path, text in files.items():
        check_folder(path)
        if not force and path.exists() and path.read_bytes() != text.encode():
            raise UsageError(f"{path} exists and holds something else: name another file, or give force=True")
    for path, text in files.items():
        write_text(path, text)

"""`lrsearch import`: trainings made elsewhere become known to a study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    DataDirOption,
    JsonOption,
    SetOption,
    StorageOption,
    no_url,
    opened,
    place,
    print_json,
    quiet_optuna,
)
from lrsearch.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from lrsearch.imports.trainings import Imported
    from lrsearch.spec.study import StudySpec
    from lrsearch.store.places import Place


def _no_urls(words: list[str]) -> list[str]:
    for word in words:
        no_url(word)
    return words


def import_(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[STUDY] FILE.csv",
            callback=_no_urls,
            help="Name of the study, or of a study file, which is filed then; and the table of trainings.",
        ),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=KEY", help="What a column says, or ignore; may be given again."),
    ] = None,
    setting: Annotated[
        str, typer.Option("--setting", metavar="SETTING", help='What rows leave out: "sgd cosine batch=64".')
    ] = "",
    settings: SetOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the file comes to, and write nothing.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Have a study know trainings that were made elsewhere: a table of yours, W&B's export, Optuna's."""
    from lrsearch.imports import trainings
    from lrsearch.imports.table import text_of
    from lrsearch.report import known_words

    name, file = _words(words)
    text, mapped = text_of(file), dict(map(_mapping, column or ()))
    spec = _only(storage) if name is None else _asked(name, place(storage), settings or [], data_dir)
    # Before anything is filed: a table that cannot be used leaves nothing behind.
    found = trainings.read(text, file.name, spec, mapped, setting)
    replaced = None if dry_run else _write(spec, storage, file.name, found)
    if as_json:
        print_json(known_words.to_json(found, spec, file.name, replaced))
    else:
        print(known_words.render(found, spec, file.name, replaced))
    return EXIT_OK


def _words(words: list[str]) -> tuple[str | None, Path]:
    """Return the name of the study, if it is given, and the file; in whichever order they were typed."""
    match words:
        case [file]:
            return None, Path(file)
        case [first, second]:
            is_first = Path(first).suffix.lower() == ".csv" and Path(second).suffix.lower() != ".csv"
            return (second, Path(first)) if is_first else (first, Path(second))
        case _:
            raise UsageError(f"import takes the name of a study and one file, got {len(words)} words")


def _mapping(text: str) -> tuple[str, str]:
    name, equals, key = text.rpartition("=")
    if not (equals and name and key):
        raise UsageError(f"--column {text}: must be NAME=KEY, such as --column 'Learning rate=peak_lr'")
    return name, key


def _asked(name: str, where: "Place", settings: list[str], data_dir: Path | None) -> "StudySpec":
    """Return the spec of the study that is named: one that has been filed, or of a study file."""
    from lrsearch.cli import searching
    from lrsearch.spec import file as study_file
    from lrsearch.store import named

    quiet_optuna()
    overrides = [study_file.parse_override(text) for text in settings]
    filed = None if overrides else named.find_spec(name, where)
    if filed is not None:
        return filed
    return searching.known(named.resolved(name, overrides, {}, where), None, data_dir)


def _only(storage: str) -> "StudySpec":
    """Return the spec of the only study of a database."""
    with opened(storage) as database:
        from lrsearch.store import study as studies

        return studies.get(database, None).spec


def _write(spec: "StudySpec", storage: str, source: str, found: "Imported") -> int:
    """Write the trainings down, the study filed where it has not been; return how many they replace."""
    from lrsearch.store import filing, known, named
    from lrsearch.store import study as studies

    where = place(storage)
    if named.find_spec(spec.name, where) != spec:
        filing.check(spec, where)
        filing.file_study(spec, where, explicit_budget=False).database.close()
    with opened(storage, to_read=False) as database:
        return known.import_into(studies.get(database, spec.name), source, found.trainings)

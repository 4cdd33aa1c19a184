"""The Python API: a search in this process, and studies that were searched before."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from lrsearch import cores
from lrsearch.analysis import ranking
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial

if TYPE_CHECKING:
    from lrsearch.store.places import Place
    from lrsearch.store.study import Study

STORAGE = "lrsearch.db"


class Search:
    """A study in a database, read anew at every question.

    Args:
        place: the database.
        name: of the study.

    Raises:
        StorageError: in every member, where the database does not answer.
        UnknownNameError: likewise, where the study is gone.
    """

    def __init__(self, place: "Place", name: str) -> None:
        self._place = place
        self.name = name

    def __repr__(self) -> str:
        """Return what opens it."""
        return f"lrsearch.open_study({self.name!r}, storage={str(self._place)!r})"

    @property
    def spec(self) -> StudySpec:
        """What is searched."""
        with self._study() as study:
            return study.spec

    @property
    def trials(self) -> list[Trial]:
        """The trials that have been started, by number."""
        with self._study() as study:
            return study.trials()

    @property
    def best(self) -> Trial | None:
        """The best complete trial; None where none is complete yet."""
        with self._study() as study:
            return ranking.best(study.trials(), study.spec.objective.direction)

    def report(self, path: str | PathLike[str]) -> Path:
        """Write a page of what was found that needs nothing but itself; return its path.

        Raises:
            UsageError: the file cannot be written.
        """
        from lrsearch.gather import gather
        from lrsearch.report import html_page, text_file

        with self._study() as study:
            page = html_page.html(gather(study))
        out = Path(fspath(path))
        text_file.write(out, page)
        return out

    @contextmanager
    def _study(self) -> "Iterator[Study]":
        from lrsearch.store import study as studies
        from lrsearch.store.storage import open_existing

        with closing(open_existing(self._place, to_read=True)) as database:
            yield studies.get(database, self.name)


def open_study(name: str | None = None, storage: str | PathLike[str] = STORAGE) -> Search:
    """Return a study that was filed before, by this API or on the command line.

    Args:
        name: of the study; None where there is only one.
        storage: a SQLite file or the URL of a database.

    Raises:
        StorageError: there is no such database, or it does not answer.
        UnknownNameError: there is no such study in it.
    """
    from lrsearch.store import study as studies
    from lrsearch.store.places import parse_place
    from lrsearch.store.storage import open_existing

    place = parse_place(fspath(storage))
    with closing(open_existing(place, to_read=True)) as database:
        return Search(place, studies.get(database, name).name)


def search(
    study: str | PathLike[str] = study_file.DEFAULT_STUDY,
    *,
    storage: str | PathLike[str] = STORAGE,
    device: str = "auto",
    threads: int | None = None,
    data_dir: str | PathLike[str] | None = None,
    artifacts: str | PathLike[str] | None = None,
    **settings: object,
) -> Search:
    """File a study, or find it again, and train its trials in this process until its budget is used up.

    Args:
        study: the name of a study that ships with lrsearch, or the path of a study file.
        storage: a SQLite file or the URL of a database.
        device: as ``--device``: auto, cpu, cuda, cuda:1 or mps.
        threads: CPU threads; this process's share of the cores if not given.
        data_dir: where the images lie, or are downloaded to.
        artifacts: a folder or a URL, for checkpoints and weights.
        settings: keys of the study file (``epochs=10``, ``space={"optimizer": "sgd"}``), and those of ``lrsearch run``
            (``trials=30``, ``dataset="mnist"``, ``model="cnn"``, ``pruner="none"``).

    Returns:
        the study. A call that was interrupted (Ctrl-C) is resumed by the same call.

    Raises:
        LrsearchError: in the words of ``lrsearch run``.
    """
    cores.wait_passively()
    from lrsearch import run
    from lrsearch.store.places import parse_place

    overrides = [*_overrides(settings)]
    tables, source = study_file.read(fspath(study))
    spec, place = study_file.resolved(tables, source, overrides), parse_place(fspath(storage))
    here = run.Here(device, threads, None if data_dir is None else Path(data_dir), progress=False)
    changed = {key.partition(".")[0] for key, _ in overrides}
    with run.filed(
        spec,
        place,
        here,
        artifacts=None if artifacts is None else fspath(artifacts),
        explicit_budget="budget" in changed,
        explicit_workers="workers" in changed,
    ) as session:
        for _ in session.attend():
            pass
        return Search(place, session.study.name)


def _overrides(settings: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield what keywords set, by key of the study file; a table sets its keys one by one."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        elif value is not None:
            yield study_file.OPTIONS.get(name, name), value

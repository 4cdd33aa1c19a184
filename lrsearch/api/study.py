"""A study as a script or a notebook has it: its trials, its best one, what may be written of it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from lrsearch import given
from lrsearch.analysis.trial_diagnosis import TrialDiagnosis, diagnose_trial
from lrsearch.api import process
from lrsearch.api.best import Best
from lrsearch.api.words import in_python
from lrsearch.errors import LrsearchError, NothingFeasibleError, UnknownNameError, UsageError, nearest
from lrsearch.report.targets import Framework, Script, Target
from lrsearch.report.text_file import check_folder
from lrsearch.report.text_file import write as write_text
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.confirming import SEEDS, TOP
from lrsearch.text import file_name
from lrsearch.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

    from lrsearch.analysis.confirmation import Confirmation
    from lrsearch.api.settings import Wanted
    from lrsearch.api.weights import TrialNetwork
    from lrsearch.imports.trainings import Imported
    from lrsearch.report.answer import Answer
    from lrsearch.run import Here
    from lrsearch.store.places import Place
    from lrsearch.store.study import Study

STORAGE = "lrsearch.db"


class Search:
    """A study in a database, read anew at every question.

    Args:
        place: the database.
        name: of the study.
        here: what to compute with where weights are asked for.
        artifacts: where its weights lie; None: where the study says.
        wanted: what the call asked for that searched it; None for a study that was opened.

    Raises:
        StorageError: in every member, where the database does not answer.
        UnknownNameError: likewise, where the study is gone.
    """

    def __init__(
        self, place: "Place", name: str, here: "Here", artifacts: str | None = None, wanted: "Wanted | None" = None
    ) -> None:
        self._place, self._here, self._artifacts, self._wanted = place, here, artifacts, wanted
        self.name = name

    def __repr__(self) -> str:
        """Return what opens it."""
        return f"lrsearch.open_study({self.name!r}, storage={str(self._place)!r})"

    def _repr_html_(self) -> str:
        from lrsearch.report import notebook

        return notebook.answer(self._answer())

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
    def best(self) -> Best | None:
        """What the best complete trial says; None where none is complete yet."""
        found = self._answer()
        return None if found.winner is None else Best(found, found.winner, self._weights)

    @in_python
    def diagnosis(self, trial: int) -> TrialDiagnosis:
        """Return how a trial's training went: its ``condition``, a ``sentence``, and the ``next_lr`` to try.

        Args:
            trial: its number.

        Raises:
            UnknownNameError: there is no such trial.
        """
        return diagnose_trial(self._chosen(trial), self.spec)

    @in_python
    def table(self) -> "pd.DataFrame":
        """Return the trials as a table of pandas, one a row by number.

        It has the columns of ``lrsearch trials --format csv`` that say something of any of them.

        Raises:
            LrsearchError: pandas is not installed.
        """
        from lrsearch.report.plain import flat

        try:
            import pandas as pd
        except ImportError:
            raise LrsearchError(
                "study.table() needs pandas, which is not installed: pip install pandas, or take study.trials"
            ) from None
        rows = [flat(trial) for trial in self.trials]
        return pd.DataFrame(rows).set_index("number").dropna(axis=1, how="all") if rows else pd.DataFrame()

    @in_python
    def confirm(self, *, top: int = TOP, seeds: int = SEEDS, against: str | None = None) -> "Confirmation | None":
        """Train the best settings with fresh seeds in this process, and return which is best, and how surely.

        What was trained for it before is not trained again; an interrupt leaves it in order, and the same call goes on.

        Args:
            top: so many of the best settings.
            seeds: at most so many fresh seeds a setting; fewer where it is decided.
            against: a setting to compare with: ``"sgd lr=0.1 cosine"``; the baseline of the study if not given, else
                the next best.

        Returns:
            its ``verdict``, ``difference`` with its ``interval``, ``settings`` and ``winner``; None where an interrupt
            came before there was any.

        Raises:
            UsageError: the setting cannot be read, or a number is out of range.
            NothingFeasibleError: no trial is complete.
        """
        from lrsearch.api import confirming

        self._spec()  # what was handed over is found again
        return confirming.confirm(self._place, self.name, self._here, self._artifacts, (top, seeds, against))

    @in_python
    def import_csv(
        self, path: str | PathLike[str], *, columns: Mapping[str, str] | None = None, setting: str = ""
    ) -> "Imported":
        """Have the study know trainings that were made elsewhere, those of a file of this name before replaced.

        Args:
            path: a CSV file: a table of yours, the export of W&B or of Optuna.
            columns: what columns say that have other names: ``{"Learning rate": "peak_lr", "notes": "ignore"}``.
            setting: what rows leave out: ``"sgd cosine batch=64"``.

        Returns:
            its ``trainings`` with their rows, the rows that are ``unusable`` and why, and ``notes``.

        Raises:
            DataError: no row can be used, or the file is no such table.
            UsageError: ``columns`` or ``setting`` names what there is not.
        """
        from lrsearch.imports import table, trainings
        from lrsearch.store import known
        from lrsearch.store import study as studies
        from lrsearch.store.storage import open_existing

        file = Path(fspath(path))
        found = trainings.read(table.text_of(file), file.name, self.spec, columns, setting)
        with closing(open_existing(self._place)) as database:
            known.import_into(studies.get(database, self.name), file.name, found.trainings)
        return found

    @in_python
    def report(self, path: str | PathLike[str] | None = None) -> Path:
        """Write a page of what was found that needs nothing but itself; return its path.

        Args:
            path: of the file; one of the study's name in the working folder if not given.

        Raises:
            UsageError: the file cannot be written.
        """
        from lrsearch.gather import gather
        from lrsearch.report import html_page

        out = Path(f"{file_name(self.name)}.html") if path is None else Path(fspath(path))
        check_folder(out)
        with self._study() as study:
            page = html_page.html(gather(study))
        write_text(out, page)
        return out

    @in_python
    def export(
        self,
        to: Target = "torch",
        path: str | PathLike[str] | None = None,
        *,
        trial: int | None = None,
        force: bool = False,
    ) -> Path:
        """Write a trial as others' programs take it; return the path of the file.

        Args:
            to: ``torch`` or ``lightning``: a program that needs no lrsearch; ``timm``, ``transformers`` or
                ``torchvision``: what its own training script is given; ``json`` or ``csv``: the learning rate of each
                update.
            path: of the file; one of the study's name in the working folder if not given. A program of pictures of your
                own reads which of them train from a file beside it, with the ending ``.split.json``.
            trial: the number of a trial; the best one if not given.
            force: whether a file of other content may be overwritten.

        Raises:
            UsageError: the file cannot be written, or holds something else; or a program cannot find what was handed
                over in Python.
            UnknownNameError: there is no such trial.
            NothingFeasibleError: there is no best one.
        """
        from lrsearch.gather import exported
        from lrsearch.report.own_split import own_split

        if to not in get_args(Target):
            known = get_args(Target)
            raise UsageError(f"export: must be to one of {', '.join(known)}, got {to!r}{nearest(str(to), known)}")
        chosen, spec = self._chosen(trial), self._spec()
        name, is_program = file_name(self.name), to in get_args(Framework)
        default = f"train-{name}.py" if is_program else f"{name}-{to}.txt" if to in get_args(Script) else f"{name}.{to}"
        out = Path(default if path is None else fspath(path))
        beside = out.with_suffix(".split.json")
        has_split = is_program and spec.loop is None and spec.dataset.own is not None
        split = own_split(spec, self._here.data_dir) if has_split else None
        files = {} if split is None else {beside: json.dumps(split.document(spec), ensure_ascii=False) + "\n"}
        _write(files | {out: exported(chosen, spec, to, split, beside.name if has_split else "")}, force=force)
        return out

    def _chosen(self, number: int | None) -> Trial:
        trials = {trial.number: trial for trial in self.trials}
        if number is None:
            from lrsearch import gather

            with self._study() as study:
                winner = gather.winner(study)
            if winner is None:
                raise NothingFeasibleError(
                    f"no trial of the study '{self.name}' was trained through: there is no best one"
                )
            return winner
        if number not in trials:
            has = f"has trials 0 to {max(trials)}" if trials else "has no trial yet"
            raise UnknownNameError(f"there is no trial {number} in the study '{self.name}', which {has}")
        return trials[number]

    def _answer(self) -> "Answer":
        from lrsearch.gather import confirmed
        from lrsearch.report import answer
        from lrsearch.store import at_work

        with self._study() as study:
            return answer.build(
                study.trials(),
                study.spec,
                str(self._place),
                budget=study.budget(),
                confirmed=confirmed(study),
                converged=at_work.converged(study),
            )

    def _spec(self) -> StudySpec:
        """Return the spec with the names by which this process finds functions and pictures."""
        filed = self.spec
        if self._wanted is None:
            return filed
        for one in self._wanted.given:
            given.hand_over(one)
        asked = self._wanted.spec
        own = {"dataset": asked.dataset, "model": asked.model, "loop": asked.loop}
        return filed.model_copy(update=own)

    def _weights(self, trial: Trial) -> "TrialNetwork":
        """Read the weights of a complete trial, or train it once more for them."""
        from lrsearch.api import weights

        with self._study() as study:
            return weights.read(study, trial, self._spec(), self._here, self._artifacts)

    @contextmanager
    def _study(self) -> "Iterator[Study]":
        from lrsearch.store import study as studies
        from lrsearch.store.storage import open_existing

        with closing(open_existing(self._place, to_read=True)) as database:
            yield studies.get(database, self.name)


@in_python
def open_study(
    name: str | None = None,
    storage: str | PathLike[str] = STORAGE,
    *,
    device: str = "auto",
    data_dir: str | PathLike[str] | None = None,
    artifacts: str | PathLike[str] | None = None,
) -> Search:
    """Return a study that was filed before, by this API or on the command line.

    Args:
        name: of the study; None where there is only one.
        storage: a SQLite file or the URL of a database.
        device: what a trial is trained with whose weights are asked for and were not kept.
        data_dir: where the images lie.
        artifacts: where the weights lie; None: where the study says.

    Raises:
        StorageError: there is no such database, or it does not answer.
        UnknownNameError: there is no such study in it.
    """
    process.load()
    from lrsearch.run import Here
    from lrsearch.store import study as studies
    from lrsearch.store.places import parse_place
    from lrsearch.store.storage import open_existing

    place = parse_place(fspath(storage))
    here = Here(device, None, None if data_dir is None else Path(data_dir), progress=False)
    with closing(open_existing(place, to_read=True)) as database:
        found = studies.get(database, name).name
    return Search(place, found, here, None if artifacts is None else fspath(artifacts))


def _write(files: dict[Path, str], *, force: bool) -> None:
    """Write all files, or none where one of them holds something else."""
    for path, text in files.items():
        check_folder(path)
        if not force and path.exists() and path.read_bytes() != text.encode():
            raise UsageError(f"{path} exists and holds something else: name another file, or give force=True")
    for path, text in files.items():
        write_text(path, text)

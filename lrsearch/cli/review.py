"""`lrsearch trials`, `best`, `show`, `status`, `list`, `delete`: read a study; none of them loads torch."""

from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lrsearch.cli import interrupts
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    JsonOption,
    StorageOption,
    StudyArgument,
    no_url,
    opened,
    place,
    print_json,
    stdout,
    storage_option,
    tools,
)
from lrsearch.errors import EXIT_NOTHING_FEASIBLE, EXIT_OK, LrsearchError, UnknownNameError, UsageError
from lrsearch.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from lrsearch.analysis.confirmation import Confirmation
    from lrsearch.spec.deciding import BudgetSpec
    from lrsearch.spec.study import StudySpec
    from lrsearch.store.artifacts import Artifacts
    from lrsearch.store.at_work import LivingWorker
    from lrsearch.store.known import KnownSource
    from lrsearch.store.study import Study
    from lrsearch.trial import Refused, Trial


def trials(
    study: StudyArgument = None,
    storage: StorageOption = DEFAULT_STORAGE,
    output: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", "-f", help="table, json or csv.")
    ] = "table",
    as_json: JsonOption = False,
) -> int:
    """Print all trials of a study."""
    with opened(storage) as database:
        from lrsearch.analysis.range_test import findings
        from lrsearch.gather import confirmed
        from lrsearch.report import range_words, tables
        from lrsearch.store import range_tests
        from lrsearch.store import study as studies
        from lrsearch.trial import Role

        found = studies.get(database, study)
        rows, refused = found.trials(*Role), found.refused()
        if as_json or output == "json":
            print_json(tables.trials_json(rows, found.spec, refused, range_tests.of(found), confirmed(found)))
        elif output == "csv":
            print(tables.trials_csv(rows, refused), end="")
        else:
            console = stdout()
            console.print(tables.trials_table(rows, found.spec, refused, confirmed(found)))
            if swept := findings(range_tests.of(found)):
                console.print(*("", *map(range_words.line, swept)), sep="\n", markup=False)
    return EXIT_OK


def best(study: StudyArgument = None, storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> int:
    """Print the answer of a study as it stands: the winner, how sure, what was too high and too low."""
    with opened(storage) as database:
        from lrsearch.gather import confirmed
        from lrsearch.report import answer
        from lrsearch.store import at_work
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        result = answer.build(
            found.trials(),
            found.spec,
            str(place(storage)),
            budget=found.budget(),
            tools=tools(),
            storage_option=storage_option(storage),
            confirmed=confirmed(found),
            converged=at_work.converged(found),
        )
        if as_json:
            print_json(result.to_json())
        else:
            # Not cropped: its commands are there to be pasted.
            stdout().print(result.render(), crop=False)
        return EXIT_OK if result.winner is not None else EXIT_NOTHING_FEASIBLE


def show(
    number: Annotated[int, typer.Argument(metavar="N", min=0, help="Number of the trial.")],
    study: StudyArgument = None,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: JsonOption = False,
) -> int:
    """Print the training trace of one trial, epoch by epoch, with its loss and its schedule drawn."""
    with opened(storage) as database:
        from lrsearch.report import trace
        from lrsearch.store import study as studies
        from lrsearch.trial import Role

        found = studies.get(database, study)
        known = {t.number: t for t in found.trials(*Role)}
        refused = {one.number: one for one in found.refused()}
        if number in refused:
            if as_json:
                print_json(trace.refused_json(refused[number], found.spec))
            else:
                stdout().print(trace.refused(refused[number], found.spec))
            return EXIT_OK
        if number not in known:
            has = f"has trials 0 to {max([*known, *refused])}" if known or refused else "has no trial yet"
            raise UnknownNameError(f"there is no trial {number} in the study '{found.spec.name}', which {has}")
        trial = found.trial(number) or known[number]
        if as_json:
            print_json(trace.to_json(trial, found.spec))
        else:
            console = stdout()
            is_kept = found.weights_of(number)[0] is not None
            console.print(trace.render(trial, found.spec, console.width, weights_kept=is_kept))
    return EXIT_OK


def status(
    study: StudyArgument = None,
    storage: StorageOption = DEFAULT_STORAGE,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on showing it until the budget is used up, or Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks, with --watch.")] = 2.0,
    as_json: JsonOption = False,
) -> int:
    """Print how far a study is: its budget, its trials by state, the best so far, who works on it."""
    with opened(storage) as database:
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        if watch:
            return _watch(found, every, as_json=as_json)
        seen = _look(found)
        if as_json:
            print_json(seen.document())
        else:
            stdout().print(seen.table())
    return EXIT_OK


@dataclass(frozen=True)
class _Seen:
    """A study at a moment."""

    spec: "StudySpec"
    trials: "list[Trial]"
    budget: "BudgetSpec"
    workers: "list[LivingWorker]"
    stopped: str | None
    crowded: str | None
    refused: "list[Refused]"
    swept_seconds: float
    confirmation: "Confirmation | None"
    converged: str
    known: "Sequence[KnownSource]"

    def document(self) -> dict[str, Any]:
        from lrsearch.report import status as report

        return report.status_json(**self._said())

    def table(self) -> "Table":
        from lrsearch.report import status as report

        return report.status_table(**self._said())

    def _said(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def is_over(self) -> bool:
        from lrsearch.report import status as report

        confirming = self.confirmation is not None and not self.confirmation.is_decided and self.stopped is None
        return not confirming and report.is_over(
            self.trials, self.budget, self.workers, self.stopped, self.swept_seconds
        )


def _look(study: "Study") -> _Seen:
    from lrsearch.gather import confirmed
    from lrsearch.store import at_work, known, range_tests

    # The workers first: a trial that has ended meanwhile is then not missed.
    workers = at_work.living(study)
    seen = study.trials(), study.budget(), workers, at_work.stopped(study), at_work.crowded(study.database)
    swept, sources = range_tests.seconds(study), known.sources(study)
    return _Seen(study.spec, *seen, study.refused(), swept, confirmed(study), at_work.converged(study), sources)


def _watch(study: "Study", every: float, *, as_json: bool) -> int:
    """Show a study again and again: in place on a terminal, elsewhere a block, or a line of JSON, for every change."""
    import json
    import time

    from rich.live import Live

    from lrsearch.report.status import without_volatile

    console, before = stdout(), None
    live = console.is_terminal and not console.is_dumb_terminal and not as_json
    with interrupts.raised() as check, ExitStack() as shown:
        view = shown.enter_context(Live(console=console, auto_refresh=False)) if live else None
        while True:
            seen = _look(study)
            check()
            document = without_volatile(seen.document())
            if view is not None:
                view.update(seen.table(), refresh=True)
            elif document != before:
                if as_json:
                    print(json.dumps(seen.document(), allow_nan=False), flush=True)
                else:
                    console.print(seen.table(), "")
            before = document
            if seen.is_over:
                return EXIT_OK
            time.sleep(every)
            check()


def list_studies(storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> int:
    """Print the studies of a database."""
    with opened(storage) as database:
        from lrsearch.report import tables
        from lrsearch.store import study as studies

        rows = studies.summaries(database)
        if as_json:
            print_json(tables.studies_json(rows))
        else:
            stdout().print(tables.studies_table(rows))
    return EXIT_OK


def delete(
    study: Annotated[str, typer.Argument(metavar="STUDY", callback=no_url, help="Name of the study.")],
    storage: StorageOption = DEFAULT_STORAGE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Delete a study, all its trials, and the checkpoints and weights that were kept of them, for good."""
    with opened(storage, to_read=False) as database:
        from lrsearch.store import leftovers
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        n = len(found.trials())
        if not yes:
            import sys

            if not sys.stdin.isatty():
                raise UsageError(f"deleting '{study}' with its {counted(n, 'trial')} must be confirmed; add --yes")
            if not typer.confirm(f"Delete '{study}' with its {counted(n, 'trial')} from {place(storage)}?", err=True):
                raise LrsearchError("nothing was deleted")
        if found.copy_of is not None:
            # What lrsearch knows of it is the original's.
            n = studies.delete(database, study)
            print(f"deleted '{study}' with its {counted(n, 'trial')}, a copy of '{found.copy_of}', which is left whole")
            return EXIT_OK
        named, store = leftovers.named_artifacts(database, found.id), _store_of(found)
        studies.delete(database, study)
        if store is not None:
            for name in named:
                store.remove(name)
        print(f"deleted '{study}' with its {counted(n, 'trial')}")
    return EXIT_OK


def _store_of(study: "Study") -> "Artifacts | None":
    """Return where a study's checkpoints and weights lie, or None where that cannot be written from here."""
    from lrsearch.store import filing

    try:
        return filing.artifacts_of(study)
    except LrsearchError:
        return None

"""`lrsearch run`."""

import shlex
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch import study_file
from lrsearch.cli import interrupts
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    DataDirOption,
    JsonOption,
    StorageOption,
    no_url,
    place,
    print_json,
    quiet_optuna,
    stderr,
    stdout,
    tools,
)
from lrsearch.errors import EXIT_INTERRUPTED, EXIT_NOTHING_FEASIBLE, EXIT_OK, StudyFileError
from lrsearch.spec import StudySpec

if TYPE_CHECKING:
    from rich.console import Console

    from lrsearch.events import Event
    from lrsearch.search.storage import Place
    from lrsearch.search.study import Study


def run(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            callback=no_url,
            help="A study that ships with lrsearch, a study file, or a study to resume.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the study, if not the file's.")] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", envvar="LRSEARCH_TRIALS", help="Total of trials of the study; may grow later."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", envvar="LRSEARCH_EPOCHS", help="Epochs of every trial.")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Data set by name.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model by name.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", envvar="LRSEARCH_SEED", help="Initial weights, batch order, sampler.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="SETTING", help='Your current setting, tried first: "sgd lr=0.1 cosine".'),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set any key of the study file; may be given again."),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
    device: Annotated[
        str, typer.Option("--device", envvar="LRSEARCH_DEVICE", help="auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option("--threads", envvar="LRSEARCH_THREADS", min=1, help="CPU threads; by model if not given."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved study and its search space; do nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the answer.")] = False,
) -> int:
    """Search: file the study or resume it, train its trials here, and print the answer."""
    options: dict[str, object] = {
        "name": name,
        "budget.trials": trials,
        "epochs": epochs,
        "dataset.name": dataset,
        "model.name": model,
    }
    options |= {"seed": seed, "baseline": baseline}
    overrides = [(key, value) for key, value in options.items() if value is not None]
    overrides += [study_file.parse_override(text) for text in settings or ()]
    where = place(storage)
    spec = _resolve(study, overrides, where)
    if dry_run:
        return _dry_run(spec, where, as_json=as_json)
    explicit = any(key.startswith("budget") for key, _ in overrides)
    return _search(spec, where, data_dir, device, threads, explicit_budget=explicit, as_json=as_json, quiet=quiet)


def _resolve(study: str | None, overrides: list[tuple[str, object]], where: "Place") -> StudySpec:
    """Find the study file, or the study of that name in the database, and apply the overrides."""
    wanted = study or study_file.DEFAULT_STUDY
    try:
        tables, source = study_file.read(wanted)
    except StudyFileError:
        filed = _filed(wanted, where)
        if filed is None:
            raise
        tables, source = filed.to_plain(), f"study '{wanted}' in {where}"
    for key, value in overrides:
        tables = study_file.override(tables, key, value)
    return study_file.build(tables, source)


def _filed(name: str, where: "Place") -> StudySpec | None:
    from lrsearch.search import storage
    from lrsearch.search import study as studies

    if not storage.has_studies(where):
        return None
    with closing(storage.Database(where)) as database:
        found = studies.find(database, name)
        return found.spec if found else None


def _dry_run(spec: StudySpec, where: "Place", *, as_json: bool) -> int:
    quiet_optuna()
    from lrsearch.report import tables
    from lrsearch.search import portfolio, space
    from lrsearch.search import study as studies

    initial = portfolio.initial(spec)
    if as_json:
        document = {"schema": "lrsearch/spec/1", "spec": spec.to_plain(), "identity": spec.identity_hash()}
        print_json(document | {"initial": [{"origin": i.origin, **i.params} for i in initial]})
    else:
        import tomlkit

        print(tomlkit.dumps(spec.to_plain()))
        stdout().print(tables.space_table(space.rows(spec.space)))
    # Last, so that what was asked for is seen; and it ends as the run would.
    studies.check_free(where, spec)
    return EXIT_OK


def _search(
    spec: StudySpec,
    where: "Place",
    data_dir: Path | None,
    device: str,
    threads: int | None,
    *,
    explicit_budget: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    quiet_optuna()
    begun = time.monotonic()
    console = stderr()
    live = console.is_terminal and not console.is_dumb_terminal and not quiet
    with _doing(console, "loading PyTorch", live=live):
        from lrsearch import launch
        from lrsearch.report import answer

    with interrupts.raised() as check:
        launch.check(spec, where)
        with _doing(console, f"loading {spec.dataset.name}", live=live):
            engine = launch.prepare(spec, launch.Here(device, threads, data_dir, progress=live))
        check()
        study = launch.file_study(spec, where, explicit_budget=explicit_budget)
    with closing(study.database):
        try:
            with interrupts.raised() as check:
                _follow(launch.search(study, engine), study, console, begun, check, live=live, quiet=quiet)
                with _doing(console, "training the winner once more, for the test images", live=live):
                    launch.test_winner(study, engine)
        except KeyboardInterrupt:
            n = sum(t.state.counts for t in study.trials())
            finished = "1 finished trial is" if n == 1 else f"{n} finished trials are"
            print(
                f"lrsearch: interrupted; {finished} kept; the same command goes on from there",
                file=sys.stderr,
            )
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            # Whoever read the progress has gone (`lrsearch run 2>&1 | head`), and there is nobody to say it to.
            return EXIT_INTERRUPTED
        found = answer.build(
            study.trials(),
            study.spec,
            str(where),
            budget=study.budget(),
            run_command=_again(sys.argv[1:]),
            tools=tools(),
        )
        if as_json:
            print_json(found.to_json())
        else:
            stdout().print(found.render())
        return EXIT_OK if found.winner is not None else EXIT_NOTHING_FEASIBLE


def _doing(console: "Console", what: str, *, live: bool) -> "AbstractContextManager[object]":
    return console.status(f"{what} ...") if live else nullcontext()


def _follow(
    events: "Generator[Event]",
    study: "Study",
    console: "Console",
    begun: float,
    check: Callable[[], None],
    *,
    live: bool,
    quiet: bool,
) -> None:
    """Show what the worker says: a live view on a terminal, a line an event elsewhere."""
    from lrsearch.report.lines import line

    if live:
        from lrsearch.report.live import LiveView

    with closing(events):
        if live:
            with LiveView(console, study.spec, study.budget(), study.trials()) as view:
                for event in events:
                    view.on(event)
                    check()
            return
        for event in events:
            if not quiet:
                print(line(event, time.monotonic() - begun, study.spec), file=sys.stderr, flush=True)
            check()


def _again(words: list[str]) -> str:
    """Return the command that was typed, without ``--trials N`` and ``--set budget.trials=N``."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in ("--trials", "--set"):
            kept.append(word)
            continue
        if not equals:
            value = next(rest, "")
        if name == "--set" and value.partition("=")[0].strip() != "budget.trials":
            kept += ["--set", value]
    return f"{tools()}{shlex.join(['lrsearch', *kept])}"

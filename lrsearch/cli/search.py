"""`lrsearch run`."""

import shlex
import sys
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch import study_file
from lrsearch.cli import interrupts
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    StorageOption,
    ThreadsOption,
    no_url,
    place,
    print_json,
    quiet_optuna,
    stderr,
    stdout,
    storage_option,
    tools,
)
from lrsearch.cli.usage import option_in
from lrsearch.errors import (
    EXIT_INTERRUPTED,
    EXIT_NOTHING_FEASIBLE,
    EXIT_OK,
    EXIT_TERMINATED,
    StorageError,
    StudyFileError,
    UsageError,
)
from lrsearch.events import EndReason
from lrsearch.spec import StudySpec
from lrsearch.trial import Reason

if TYPE_CHECKING:
    from rich.console import Console

    from lrsearch.events import Event, SearchEnded
    from lrsearch.search.keeper import Leave
    from lrsearch.search.places import Place
    from lrsearch.search.study import Study


def run(
    context: typer.Context,
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
    artifacts: ArtifactsOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    workers: Annotated[
        str,
        typer.Option(
            "--workers",
            envvar="LRSEARCH_WORKERS",
            metavar="N|auto",
            help="Worker processes on this machine; auto: one per GPU, else one per core.",
        ),
    ] = "1",
    workers_per_gpu: Annotated[
        int, typer.Option("--workers-per-gpu", min=1, help="Workers that share a GPU, with --workers auto.")
    ] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", help="File the study for workers elsewhere, print its name and return.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved study and its search space; do nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the answer.")] = False,
) -> int:
    """Search: file the study or resume it, train its trials here, and print the answer."""
    options: dict[str, tuple[str, object]] = {
        "name": ("name", name),
        "budget.trials": ("trials", trials),
        "epochs": ("epochs", epochs),
        "dataset.name": ("dataset", dataset),
        "model.name": ("model", model),
        "seed": ("seed", seed),
        "baseline": ("baseline", baseline),
    }
    overrides = [
        (key, value, option_in(context, param)) for key, (param, value) in options.items() if value is not None
    ]
    overrides += [(*study_file.parse_override(text), "--set") for text in settings or ()]
    where = place(storage)
    spec = _resolve(study, overrides, where)
    if dry_run:
        return _dry_run(spec, where, as_json=as_json)
    n = _workers(workers, workers_per_gpu)
    asked = _Asked(
        spec=spec,
        where=where,
        storage_option=storage_option(storage),
        explicit_budget=any(key.startswith("budget") for key, *_ in overrides),
        explicit_workers=any(key.startswith("workers") for key, *_ in overrides),
        artifacts=artifacts,
        data_dir=data_dir,
        device=device,
        threads=threads,
        n_workers=n,
        workers_per_gpu=workers_per_gpu,
        as_json=as_json,
        quiet=quiet,
    )
    quiet_optuna()
    return _detach(asked) if detach else _search(asked)


@dataclass(frozen=True)
class _Asked:
    """What was asked for on the command line."""

    spec: StudySpec
    where: "Place"
    storage_option: str
    """``--storage`` for the commands to type next."""
    explicit_budget: bool
    explicit_workers: bool
    artifacts: str | None
    data_dir: Path | None
    device: str
    threads: int | None
    n_workers: int | None
    """None: chosen by the machine."""
    workers_per_gpu: int
    as_json: bool
    quiet: bool


def _workers(text: str, per_gpu: int) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--workers must be a whole number from 1, or auto, got '{text}'")
    if per_gpu > 1:
        raise UsageError(f"--workers-per-gpu goes with --workers auto, got --workers {text}")
    return int(text)


def _resolve(study: str | None, overrides: list[tuple[str, object, str]], where: "Place") -> StudySpec:
    """Find the study file, or the study of that name in the database, and apply the overrides."""
    wanted = study or study_file.DEFAULT_STUDY
    try:
        tables, source = study_file.read(wanted)
    except StudyFileError:
        filed = _filed(wanted, where)
        if filed is None:
            raise
        tables, source = filed.to_plain(), f"study '{wanted}' in {where}"
    for key, value, _ in overrides:
        tables = study_file.override(tables, key, value)
    return study_file.build(tables, source, {key: option for key, _, option in overrides})


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


def _detach(asked: _Asked) -> int:
    """File the study for workers elsewhere."""
    from lrsearch.search import filing

    filing.check(asked.spec, asked.where)
    study = _file(asked)
    study.database.close()
    if asked.as_json:
        print_json({"schema": "lrsearch/filed/1", "study": study.name, "storage": str(asked.where)})
    else:
        print(study.name)
    return EXIT_OK


def _file(asked: _Asked) -> "Study":
    from lrsearch.search import filing

    return filing.file_study(
        asked.spec,
        asked.where,
        explicit_budget=asked.explicit_budget,
        explicit_workers=asked.explicit_workers,
        artifacts=asked.artifacts,
    )


def _search(asked: _Asked) -> int:
    begun = time.monotonic()
    console = stderr()
    live = console.is_terminal and not console.is_dumb_terminal and not asked.quiet
    from lrsearch.search import filing
    from lrsearch.search.keeper import Leave

    leave, engine, spec = Leave(), None, asked.spec
    if asked.n_workers != 1:
        from lrsearch import local_workers

        local_workers.warm_up()
    with interrupts.raised() as check:
        filing.check(spec, asked.where)
        if asked.n_workers == 1:
            with _doing(console, "loading PyTorch", live=live):
                from lrsearch import launch
            with _doing(console, f"loading {spec.dataset.name}", live=live):
                here = launch.Here(asked.device, asked.threads, asked.data_dir, progress=live)
                engine = launch.prepare(spec, here)
        check()
        study = _file(asked)
    with closing(study.database):
        try:
            artifacts = filing.artifacts_of(study, asked.artifacts)
            events = _by_several(asked, leave) if engine is None else launch.search(study, engine, artifacts, leave)
            with interrupts.asked(leave):
                end = _follow(events, study, console, begun, live=live, quiet=asked.quiet)
            if end is not None and end.reason == EndReason.LEFT:
                return _left(study, leave)
            if engine is not None:
                with interrupts.raised(), _doing(console, "judging the winner by the test images", live=live):
                    launch.test_winner(study, engine, artifacts)
        except StorageError:
            if leave.asked:
                # Left while the database did not answer.
                return EXIT_TERMINATED if leave.reason == Reason.PREEMPTED else EXIT_INTERRUPTED
            raise
        except KeyboardInterrupt:
            return _left(study, leave)
        except BrokenPipeError:
            # Whoever read the progress has gone (`lrsearch run 2>&1 | head`), and there is nobody to say it to.
            return EXIT_INTERRUPTED
        return _answer(study, asked)


def _by_several(asked: _Asked, leave: "Leave") -> "Generator[Event]":
    from lrsearch import local_workers

    gpus = local_workers.count_gpus() if asked.device in ("auto", "cuda") else 0
    n = asked.n_workers or local_workers.how_many(gpus, asked.workers_per_gpu)
    orders = local_workers.orders(
        asked.where,
        asked.spec.name,
        n,
        device=asked.device,
        gpus=gpus,
        threads=asked.threads,
        data_dir=asked.data_dir,
        artifacts=asked.artifacts,
    )
    return local_workers.search(orders, leave)


def _left(study: "Study", leave: "Leave") -> int:
    n = sum(t.state.counts for t in study.trials())
    finished = "1 finished trial is" if n == 1 else f"{n} finished trials are"
    print(f"lrsearch: interrupted; {finished} kept; the same command goes on from there", file=sys.stderr)
    return EXIT_TERMINATED if leave.reason == Reason.PREEMPTED else EXIT_INTERRUPTED


def _answer(study: "Study", asked: _Asked) -> int:
    from lrsearch.report import answer

    found = answer.build(
        study.trials(),
        study.spec,
        str(asked.where),
        budget=study.budget(),
        run_command=_again(sys.argv[1:]),
        tools=tools(),
        storage_option=asked.storage_option,
    )
    if asked.as_json:
        print_json(found.to_json())
    else:
        # Not cropped: its commands are there to be pasted.
        stdout().print(found.render(), crop=False)
    return EXIT_OK if found.winner is not None else EXIT_NOTHING_FEASIBLE


def _doing(console: "Console", what: str, *, live: bool) -> "AbstractContextManager[object]":
    return console.status(f"{what} ...") if live else nullcontext()


def _follow(
    events: "Generator[Event]", study: "Study", console: "Console", begun: float, *, live: bool, quiet: bool
) -> "SearchEnded | None":
    """Show what the workers say: a live view on a terminal, a line an event elsewhere; return how it ended."""
    from lrsearch.events import SearchEnded
    from lrsearch.report.lines import line

    if live:
        from lrsearch.report.live import LiveView

    end = None
    with closing(events), ExitStack() as shown:
        view = shown.enter_context(LiveView(console, study.spec, study.budget(), study.trials())) if live else None
        for event in events:
            if view is not None:
                view.on(event)
            elif not quiet:
                print(line(event, time.monotonic() - begun, study.spec), file=sys.stderr, flush=True)
            if isinstance(event, SearchEnded):
                end = event
    return end


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

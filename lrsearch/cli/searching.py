"""What `lrsearch run` does once it knows what is wanted: search here, show it, print the answer."""

import logging
import shlex
import sys
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lrsearch import loading
from lrsearch.cli import interrupts
from lrsearch.cli.log import Events, remark
from lrsearch.cli.options import print_json, stderr, stdout, tools
from lrsearch.errors import (
    EXIT_INTERRUPTED,
    EXIT_NOTHING_FEASIBLE,
    EXIT_OK,
    EXIT_TERMINATED,
    DeviceError,
    StorageError,
    UsageError,
)
from lrsearch.events import EndReason
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rich.console import Console

    from lrsearch.events import Event, SearchEnded
    from lrsearch.store.keeper import Leave
    from lrsearch.store.places import Place
    from lrsearch.store.study import Study
    from lrsearch.workers.ray_cluster import Cluster

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
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
    ray: str | None
    """The cluster that the workers are to run on, or None for this machine."""
    gpus_per_worker: float | None
    as_json: bool
    quiet: bool
    confirm: bool = False
    """Whether the best settings are trained with fresh seeds when the search is over."""
    only_confirm: bool = False
    """Whether nothing else is done: what is to be confirmed is filed."""


def file(asked: Asked) -> "Study":
    """File the study, or find it again."""
    from lrsearch.store import filing

    return filing.file_study(
        asked.spec,
        asked.where,
        explicit_budget=asked.explicit_budget,
        explicit_workers=asked.explicit_workers,
        artifacts=asked.artifacts,
        only_confirm=asked.only_confirm,
    )


def known(spec: StudySpec, threads: int | None, data_dir: Path | None, *, quiet: bool = False) -> StudySpec:
    """Return the spec with what must be known of it; a person's own pictures and model are looked at."""
    if spec.is_known:
        return spec
    from lrsearch import run

    console = stderr()
    live = _is_live(console, quiet=quiet)
    with interrupts.raised():
        here = run.Here(threads=threads, data_dir=data_dir, progress=live)
        return run.known(spec, here, lambda what: _doing(console, what, live=live))


def _is_live(console: "Console", *, quiet: bool) -> bool:
    return console.is_terminal and not console.is_dumb_terminal and not quiet


def finite(spec: StudySpec) -> str | None:
    """Return in a sentence that the space has fewer settings than the budget has trials, or None."""
    from lrsearch.spec import parameters

    n, trials = parameters.size(parameters.finite_space(spec)), spec.budget.trials
    if n is None or trials is None or n >= trials:
        return None
    what = f"{counted(n, 'setting')}, {counted(trials, 'trial')}"
    return f"{what}: each setting is trained once, and the search ends when all are"


def search(asked: Asked) -> int:
    """Work on the study in this process, or by several, until its budget is used up or somebody asks to leave."""
    begun = time.monotonic()
    console = stderr()
    live = _is_live(console, quiet=asked.quiet)
    alone = asked.ray is None and asked.n_workers == 1
    if asked.ray is None and not alone:
        from lrsearch.workers import preloaded

        preloaded.context()  # it imports PyTorch while this process imports SQLAlchemy and opens the database
    with loading.uncollected():
        from lrsearch.store import filing
        from lrsearch.store.keeper import Leave

    leave, spec = Leave(), asked.spec
    if alone:
        with loading.uncollected():
            from lrsearch import run

        here = run.Here(asked.device, asked.threads, asked.data_dir, progress=live)
        with ExitStack() as open_now:
            with interrupts.raised() as check:

                @contextmanager
                def doing(what: str) -> "Iterator[None]":
                    with _doing(console, what, live=live):
                        yield
                    # An interrupt that came within an import is raised now, and not when the study has been filed.
                    check()

                session = open_now.enter_context(
                    run.filed(
                        spec,
                        asked.where,
                        here,
                        artifacts=asked.artifacts,
                        explicit_budget=asked.explicit_budget,
                        explicit_workers=asked.explicit_workers,
                        only_confirm=asked.only_confirm,
                        doing=doing,
                    )
                )
            if asked.confirm:
                _ask_to_confirm(session.study)

            def here_alone() -> "Generator[Event]":
                return session.attend(leave, only_confirm=asked.only_confirm)

            return _watch(asked, session.study, here_alone, leave, console, begun, live=live)
    spec = known(spec, asked.threads, asked.data_dir, quiet=asked.quiet)
    asked = replace(asked, spec=spec)
    # What is said goes to stderr until the cluster has been left, which keeps stdout from Ray.
    with ExitStack() as study_open, ExitStack() as joined:
        with interrupts.raised():
            filing.check(spec, asked.where)
        # An interrupt ends this process at once meanwhile: there is nothing to keep, and Ray does not expect one.
        cluster = (
            None if asked.ray is None else joined.enter_context(_cluster(asked.ray, asked.where, console, live=live))
        )
        with interrupts.raised():
            study = file(asked)
            study_open.callback(study.database.close)
            if asked.confirm:
                _ask_to_confirm(study)

        def events() -> "Generator[Event]":
            if cluster is None:
                return _by_several(asked, leave, study)
            return _by_ray(asked, cluster, filing.artifacts_of(study, asked.artifacts).where, leave)

        return _watch(asked, study, events, leave, console, begun, live=live, before_answer=joined.close)


def _ask_to_confirm(study: "Study") -> None:
    """File that the best settings are to be trained with fresh seeds when the search is over."""
    from lrsearch.store import confirmations, to_confirm
    from lrsearch.strategy.confirming import SEEDS, TOP

    confirmations.file(study, to_confirm.plan_of(study, TOP, SEEDS, None), of_now=False)


def _watch(
    asked: Asked,
    study: "Study",
    events: "Callable[[], Generator[Event]]",
    leave: "Leave",
    console: "Console",
    begun: float,
    *,
    live: bool,
    before_answer: "Callable[[], None]" = lambda: None,
) -> int:
    """Follow what the workers say to its end, and print the answer."""
    if not asked.quiet and (said := finite(asked.spec)) is not None:
        log.warning("%s", said)
    if not asked.quiet and (said := _taken(study)):
        remark(said, "lrsearch:")
    try:
        with interrupts.asked(leave):
            end = follow(events(), study, console, begun, live=live, quiet=asked.quiet)
        if end is not None and end.reason == EndReason.LEFT:
            return _left(study, leave)
    except StorageError:
        if leave.asked:
            # Left while the database did not answer.
            return EXIT_TERMINATED if leave.reason == Reason.PREEMPTED else EXIT_INTERRUPTED
        raise
    except KeyboardInterrupt:
        return _left(study, leave)
    except BrokenPipeError:
        # The reader of the progress has gone (`lrsearch run 2>&1 | head`); there is nobody to tell.
        return EXIT_INTERRUPTED
    before_answer()
    return _answer(study, asked)


def _taken(study: "Study") -> str:
    """Say what the study takes for known; nothing where nobody looks at it."""
    if study.spec.strategy is None:
        return ""
    from lrsearch.report import known_words
    from lrsearch.store import known

    return known_words.taken(known.sources(study))


def _cluster(address: str, where: "Place", console: "Console", *, live: bool) -> "AbstractContextManager[Cluster]":
    from lrsearch.workers import ray_cluster

    if live:
        # No moving one, which would have to put the cursor back.
        console.print("reaching the Ray cluster ...", style="dim")
    return ray_cluster.joined(address, where)


def _by_ray(asked: Asked, cluster: "Cluster", artifacts: str, leave: "Leave") -> "Generator[Event]":
    from lrsearch.workers import ray as ray_workers
    from lrsearch.workers import ray_cluster

    if not cluster.started_here and ray_cluster.is_private(artifacts):
        log.warning(
            "the checkpoints lie in %s, which each node has for itself: a trial whose node is lost starts again; "
            "with several nodes name a folder that all of them mount, or s3://BUCKET, with --artifacts",
            artifacts,
        )
    gpus = asked.gpus_per_worker
    if gpus is None:
        gpus = float(asked.device == "cuda" or (asked.device == "auto" and cluster.has_gpus()))
    needs = ray_cluster.Needs(asked.threads or 1, gpus)
    if cluster.started_here and not cluster.room(needs):
        raise DeviceError(f"a worker needs {needs}, and this machine, of which the Ray cluster is, has {cluster.has()}")
    order = ray_workers.order(
        asked.where,
        asked.spec.name,
        needs,
        device=asked.device,
        data_dir=asked.data_dir,
        artifacts=asked.artifacts,
    )
    return ray_workers.search(cluster, order, asked.n_workers or max(1, cluster.room(needs)), needs, leave)


def _by_several(asked: Asked, leave: "Leave", study: "Study") -> "Generator[Event]":
    from lrsearch.workers import local

    orders = local.orders(
        study,
        asked.n_workers,
        device=asked.device,
        threads=asked.threads,
        data_dir=asked.data_dir,
        artifacts=asked.artifacts,
        workers_per_gpu=asked.workers_per_gpu,
        only_confirm=asked.only_confirm,
    )
    return local.search(orders, leave)


def _left(study: "Study", leave: "Leave") -> int:
    n = sum(t.state.counts for t in study.trials())
    finished = "1 finished trial is" if n == 1 else f"{n} finished trials are"
    print(f"lrsearch: interrupted; {finished} kept; the same command goes on from there", file=sys.stderr)
    return EXIT_TERMINATED if leave.reason == Reason.PREEMPTED else EXIT_INTERRUPTED


def _confirmed(study: "Study", *, as_json: bool) -> int:
    """Print what was confirmed."""
    from lrsearch.gather import confirmed
    from lrsearch.report import confirmation

    found = confirmed(study)
    if found is None:
        # Another command has asked for another confirmation meanwhile, or the study was stopped before it began.
        raise UsageError(f"nothing of the study '{study.name}' was confirmed: `lrsearch confirm {study.name}` goes on")
    if as_json:
        print_json(confirmation.to_json(found, study.spec))
    else:
        stdout().print(confirmation.render(found, study.spec), crop=False)
    return EXIT_OK


def _answer(study: "Study", asked: Asked) -> int:
    from lrsearch.gather import confirmed
    from lrsearch.report import answer
    from lrsearch.store import at_work

    if asked.only_confirm:
        return _confirmed(study, as_json=asked.as_json)

    found = answer.build(
        study.trials(),
        study.spec,
        str(asked.where),
        budget=study.budget(),
        run_command=_again(sys.argv[1:]),
        tools=tools(),
        storage_option=asked.storage_option,
        confirmed=confirmed(study),
        converged=at_work.converged(study),
    )
    if asked.as_json:
        print_json(found.to_json())
    else:
        # Not cropped: its commands are there to be pasted.
        stdout().print(found.render(), crop=False)
    return EXIT_OK if found.winner is not None else EXIT_NOTHING_FEASIBLE


def _doing(console: "Console", what: str, *, live: bool) -> "AbstractContextManager[object]":
    return console.status(f"{what} ...") if live else nullcontext()


def follow(
    events: "Generator[Event]", study: "Study", console: "Console", begun: float, *, live: bool, quiet: bool
) -> "SearchEnded | None":
    """Show what the workers say: a live view on a terminal, a line an event elsewhere; return how it ended."""
    from lrsearch.events import SearchEnded

    if live:
        from lrsearch.report.live import LiveView
        from lrsearch.store import range_tests

    end, told = None, Events(begun)
    with closing(events), ExitStack() as shown:
        view = None
        if live:
            swept = range_tests.seconds(study)
            seen = LiveView(console, study.spec, study.budget(), study.trials(), swept_seconds=swept)
            view = shown.enter_context(seen)
        for event in events:
            if view is not None:
                view.on(event)
            elif not quiet:
                told.tell(event, study.spec)
            if isinstance(event, SearchEnded):
                end = event
    return end


def _again(words: list[str]) -> str:
    """Return the command that was typed, without what it said of trials and trainings."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in ("--trials", "--trainings", "--set"):
            kept.append(word)
            continue
        if not equals:
            value = next(rest, "")
        if name == "--set" and value.partition("=")[0].strip() not in ("budget.trials", "budget.trainings"):
            kept += ["--set", value]
    return f"{tools()}{shlex.join(['lrsearch', *kept])}"

"""`lrsearch transfer`: the learning rate at another batch size, number of epochs or of training images."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch.cli import interrupts
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    ThreadsOption,
    opened,
    place,
    print_json,
    stderr,
    stdout,
)
from lrsearch.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, NothingFeasibleError, UsageError

if TYPE_CHECKING:
    from lrsearch.analysis.transfer import Scaling
    from lrsearch.analysis.transfer_plan import Measuring
    from lrsearch.run import Here
    from lrsearch.spec.study import StudySpec
    from lrsearch.store.places import Place
    from lrsearch.store.storage import Database
    from lrsearch.store.study import Study
    from lrsearch.trial import Trial

    Evidence = list[tuple[StudySpec, Sequence[Trial]]]


def transfer(
    study: StudyArgument = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="The batch size there.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="The epochs of a training there.")] = None,
    images: Annotated[int | None, typer.Option("--images", min=2, help="The training images there.")] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Run the few trainings that settle it, as studies NAME-transfer-...; resumable."
        ),
    ] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
    artifacts: ArtifactsOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress of --measure, only the answer.")] = False,
) -> int:
    """Say what the trials of a study tell about the best learning rate elsewhere, or that they do not tell it."""
    scaling, target = _asked(batch_size, epochs, images)
    where = place(storage)
    with opened(storage, to_read=not measure) as database:
        from lrsearch.analysis.transfer import Scaling
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        if scaling == Scaling.IMAGES and not found.spec.facts.n_train:
            raise UsageError(
                f"--images compares numbers of training images, and the study '{found.name}' has loop.steps_per_epoch "
                f"instead of loop.n_train: give --batch-size or --epochs, or search with --n-train"
            )
        plan = _plan(database, found, scaling, target) if measure else None
    if plan is not None:
        from lrsearch.run import Here

        here = Here(device, threads, data_dir, progress=not quiet and stderr().is_terminal)
        code = _measure(plan, where, here, artifacts, quiet=quiet)
        if code != EXIT_OK:
            return code
    with opened(storage) as database:
        return _answer(database, found.name, scaling, target, as_json=as_json)


def _asked(batch_size: int | None, epochs: int | None, images: int | None) -> "tuple[Scaling, int]":
    from lrsearch.analysis.transfer import Scaling

    given = {Scaling.BATCH_SIZE: batch_size, Scaling.EPOCHS: epochs, Scaling.IMAGES: images}
    asked = [(scaling, value) for scaling, value in given.items() if value is not None]
    if len(asked) != 1:
        raise UsageError(
            f"transfer asks about one change: give one of --batch-size, --epochs, --images, got {len(asked) or 'none'}"
        )
    return asked[0]


def _plan(database: "Database", study: "Study", scaling: "Scaling", target: int) -> "tuple[Measuring, float | None]":
    """Return what is to be measured, and how long it will take [seconds]; what was begun before stays as it was."""
    from dataclasses import replace

    from lrsearch.analysis import transfer_plan
    from lrsearch.analysis.ranking import best
    from lrsearch.store import study as studies

    trials, spec = study.trials(), study.spec
    winner = best(trials, spec.metric.direction)
    if winner is None:
        raise _nothing(study)
    made = transfer_plan.measuring(spec, winner, scaling, target)
    begun = [studies.find(database, one.name) for one in made.specs]
    specs = tuple(one if there is None else there.spec for one, there in zip(made.specs, begun, strict=True))
    for one, there in zip(made.specs, begun, strict=True):
        if there is not None and None in begun and not transfer_plan.is_evidence(one, there.spec, scaling):
            raise UsageError(
                f"the study '{one.name}' was measured with another setting than the best trial of '{study.name}' has "
                f"now: delete it (`lrsearch delete {one.name}`), and it is measured anew"
            )
    plan = replace(made, specs=specs)
    return plan, transfer_plan.seconds(trials, spec.facts.n_train, plan)


def _nothing(study: "Study") -> NothingFeasibleError:
    return NothingFeasibleError(f"no trial of the study '{study.name}' was trained through: nothing is to transfer")


def _measure(
    planned: "tuple[Measuring, float | None]", where: "Place", here: "Here", artifacts: str | None, *, quiet: bool
) -> int:
    """Run the trainings, a study a scale; return the exit code."""
    from lrsearch import run
    from lrsearch.cli import searching
    from lrsearch.events import EndReason
    from lrsearch.report import transfer_words
    from lrsearch.store.keeper import Leave
    from lrsearch.trial import Reason

    plan, seconds = planned
    if not quiet:
        print(f"lrsearch: {transfer_words.budget(plan, seconds)}", file=sys.stderr, flush=True)
    console, leave, begun = stderr(), Leave(), time.monotonic()
    live = here.progress
    for spec in plan.specs:
        with ExitStack() as open_now:
            with interrupts.raised():
                doing = (lambda what: console.status(f"{what} ...")) if live else (lambda _: nullcontext())
                session = open_now.enter_context(run.filed(spec, where, here, artifacts=artifacts, doing=doing))
            with interrupts.asked(leave):
                events = session.attend(leave, wait=True)
                end = searching.follow(events, session.study, console, begun, live=live, quiet=quiet)
        if end is not None and end.reason == EndReason.LEFT:
            print("lrsearch: interrupted; what was measured is kept, and the same command goes on", file=sys.stderr)
            return EXIT_TERMINATED if leave.reason == Reason.PREEMPTED else EXIT_INTERRUPTED
    return EXIT_OK


def _answer(database: "Database", name: str, scaling: "Scaling", target: int, *, as_json: bool) -> int:
    from lrsearch.analysis.transfer import elsewhere
    from lrsearch.report import transfer_words
    from lrsearch.store import study as studies

    study = studies.get(database, name)
    measured = _measured(database, study, scaling)
    evidence = measured or _related(database, study, scaling)
    optimizers = dict.fromkeys(trial.config.optimizer.name for _, trials in evidence for trial in trials)
    told = (elsewhere(evidence, scaling, name, target, evenly=bool(measured)) for name in optimizers)
    found = [one for one in told if one is not None]
    if not found:
        raise _nothing(study)
    sources = [spec.name for spec, _ in evidence]
    if as_json:
        print_json(transfer_words.to_json(found, study.spec, sources))
    else:
        stdout().print(transfer_words.render(found, study.spec, sources), crop=False)
    return EXIT_OK


def _measured(database: "Database", study: "Study", scaling: "Scaling") -> "Evidence":
    """Return what was measured for the purpose, if that is more than one scale of one setting; else nothing."""
    from lrsearch.analysis import transfer_plan
    from lrsearch.store import study as studies

    stem = transfer_plan.study_name(study.spec.name, scaling, 0).removesuffix("0")
    names = [name for name in studies.names(database) if name.startswith(stem) and name.removeprefix(stem).isdecimal()]
    there = [one for name in names if (one := studies.find(database, name)) is not None]
    alike = [one for one in there if transfer_plan.is_evidence(there[0].spec, one.spec, scaling)]
    return [(one.spec, one.trials()) for one in alike] if len(alike) > 1 else []


def _related(database: "Database", study: "Study", scaling: "Scaling") -> "Evidence":
    """Return the trials of the study, and of those in the database that differ in nothing else."""
    from lrsearch.analysis import transfer_plan
    from lrsearch.store import study as studies

    others = [studies.find(database, name) for name in studies.names(database) if name != study.name]
    alike = [one for one in others if one is not None and transfer_plan.is_evidence(study.spec, one.spec, scaling)]
    return [(one.spec, one.trials()) for one in (study, *alike)]

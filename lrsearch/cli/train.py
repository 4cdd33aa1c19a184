"""`lrsearch train`: the setting of a trial once more, for keeps."""

import sys
import time
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrsearch.cli import interrupts
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    DataDirOption,
    DeviceOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    ThreadsOption,
    TrialOption,
    chosen,
    opened,
    print_json,
    stderr,
    stdout,
)
from lrsearch.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED
from lrsearch.report.text_file import named_path
from lrsearch.text import counted, file_name
from lrsearch.trial import EpochMetrics, Reason, State

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from lrsearch.retrain.folder import TrainingFolder
    from lrsearch.retrain.record import Progress, Repeated, Trained
    from lrsearch.retrain.run import Begun, Job
    from lrsearch.store.keeper import Leave
    from lrsearch.training.serial import SerialEngine

SCHEMA = "lrsearch/train/1"


def train(
    study: StudyArgument = None,
    trial: TrialOption = "best",
    on: Annotated[
        Literal["train+validation", "train"],
        typer.Option("--on", help="Images to train on: all of them, or as searched, to the same weights."),
    ] = "train+validation",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where the weights go; ./STUDY-trial-N if not given."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**31 - 1, help="Initial weights, batch order; the trial's if not given."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs; the trial's if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Train anew, over what is in the folder.")] = False,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
) -> int:
    """Train the setting of a trial for keeps: write the weights and judge them once on the test images."""
    named = named_path(output)
    with opened(storage) as database:
        from lrsearch.report.study_words import name
        from lrsearch.retrain import run as retrain
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        job = retrain.job(found, chosen(found, trial), on, seed=seed, epochs=epochs)
    from lrsearch.retrain import record
    from lrsearch.retrain.folder import TrainingFolder
    from lrsearch.store.keeper import Leave

    order = job.order
    folder = TrainingFolder(named or Path(f"{file_name(order.study)}-trial-{order.trial}"))
    before = None if force else record.finished(folder, order)
    if before is not None:
        return _result(before, folder.path, already=True, as_json=as_json)
    console, leave = stderr(), Leave()
    view = _View(console, job, folder, live=console.is_terminal and not console.is_dumb_terminal, quiet=quiet)
    with folder.locked():
        # Again, now that nobody else can end it.
        before = None if force else record.finished(folder, order)
        if before is not None:
            return _result(before, folder.path, already=True, as_json=as_json)
        so_far, checkpoint = (record.Progress(order), None) if force else record.under_way(folder, order)
        try:
            with interrupts.raised() as check, view.doing(f"loading PyTorch and {name(job.spec.dataset.name)}"):
                engine = retrain.prepare(job, device=device, threads=threads, data_dir=data_dir, progress=view.live)
                check()
        except KeyboardInterrupt:
            return _left(job, view, leave, trial, force=force)
        if force:
            folder.clear()
        with interrupts.asked(leave):
            trained = _follow(job, engine, folder, leave, so_far, checkpoint, view)
    if trained is None:
        return _left(job, view, leave, trial, force=force)
    return _result(trained, folder.path, already=False, as_json=as_json)


class _View:
    """What is said on stderr: a bar on a terminal, lines elsewhere, nothing if that was asked for."""

    def __init__(self, console: "Console", job: "Job", folder: "TrainingFolder", *, live: bool, quiet: bool) -> None:
        self.live = live and not quiet
        self._console, self._job, self._folder, self._quiet = console, job, folder, quiet
        self._begun_at = time.monotonic()
        self.begun: Begun | None = None

    def doing(self, what: str) -> "AbstractContextManager[object]":
        return self._console.status(f"{what} ...") if self.live else nullcontext()

    def begin(self, begun: "Begun") -> None:
        """Say what is trained, on what, and where it goes."""
        from lrsearch.report.words import setting

        self.begun = begun
        order, training = self._job.order, begun.training
        which = "training and validation" if order.on == "train+validation" else "training"
        said = (
            f"> trial {order.trial} of {order.study}{_was(self._job)}: {setting(order.config)} "
            f"epochs={order.config.epochs} on {counted(begun.n_images, f'{which} image')}, "
            f"{counted(training.n_steps, 'update')}, "
            f"into {self._folder.path}"
        )
        if begun.step:
            said += f"; goes on from step {begun.step}"
        if begun.begun_at is not None:
            place = begun.begun_at
            said += f", begun on {place.device} with {place.versions}: the last bits may differ from one training there"
        self._say(said)

    def epoch(self, row: EpochMetrics) -> None:
        from lrsearch.retrain.view import epoch_line

        assert self.begun is not None
        if not self.live:
            self._say(f". {epoch_line(row, self._job.order.config.epochs, self.begun.n_validation)}")

    def _say(self, line: str) -> None:
        if self.live:
            self._console.print(line.removeprefix("> "), markup=False)
        elif not self._quiet:
            print(f"{time.monotonic() - self._begun_at:.1f}s {line}", file=sys.stderr, flush=True)


def _was(job: "Job") -> str:
    """Return what became of a trial that was not trained through in the search, in brackets."""
    from lrsearch.report.lines import ending

    trial = job.trial
    if trial.state == State.COMPLETE:
        return ""
    return f" ({ending(trial.outcome, job.spec) if trial.outcome is not None else 'not ended yet'})"


def _follow(
    job: "Job",
    engine: "SerialEngine",
    folder: "TrainingFolder",
    leave: "Leave",
    so_far: "Progress",
    checkpoint: bytes | None,
    view: _View,
) -> "Trained | None":
    """Show how the training comes along; return what came of it."""
    from lrsearch.retrain import run as retrain
    from lrsearch.retrain.view import TrainingBar

    bar = None
    with closing(retrain.train(job, engine, folder, leave, so_far, checkpoint)) as events, ExitStack() as shown:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                trained: Trained | None = end.value
                return trained
            if isinstance(event, EpochMetrics):
                view.epoch(event)
                if bar is not None:
                    bar.on(event)
                continue
            view.begin(event)
            if view.live:
                made = TrainingBar(stderr(), event.training, job.order.config.epochs, event.n_validation)
                bar = shown.enter_context(made)


def _left(job: "Job", view: _View, leave: "Leave", named: str, *, force: bool) -> int:
    """Say how to go on."""
    if view.begun is None:
        said = "interrupted before anything was trained; the same command goes on"
    else:
        training = view.begun.training
        # Another trial may be the best by then, and what goes on must not begin anew.
        options = [f"with --trial {job.order.trial}"] if named == "best" else []
        options += ["without --force"] if force else []
        same = " ".join(["the same command", " and ".join(options)]).strip()
        said = f"interrupted at step {training.step} of {training.n_steps}; {same} goes on from there"
    print(f"lrsearch: {said}", file=sys.stderr)
    return EXIT_TERMINATED if leave.reason == Reason.PREEMPTED else EXIT_INTERRUPTED


def _result(trained: "Trained", folder: Path, *, already: bool, as_json: bool) -> int:
    from lrsearch.retrain import record

    if already:
        print(f"lrsearch: the training in {folder} is finished; --force trains anew in its place", file=sys.stderr)
    if as_json:
        document = {"schema": SCHEMA, "folder": str(folder.absolute()), "already_finished": already}
        print_json(document | {"model": record.to_json(trained)})
    else:
        stdout().print(_render(trained, folder), crop=False)
    return EXIT_OK


def _render(trained: "Trained", folder: Path) -> "RenderableType":
    """Return the result for people."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from lrsearch.report import words
    from lrsearch.retrain.folder import MODEL, WEIGHTS

    order, test = trained.order, trained.test
    config = order.config
    which = "training and validation" if order.on == "train+validation" else "training"
    head = f"Trained trial {order.trial} of {order.study} on its {counted(trained.n_images, f'{which} image')}"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    epochs = counted(config.epochs, "epoch")
    rows = {
        "setting": f"{words.optimizer(config.optimizer)}, peak lr {words.rate(config.optimizer.peak_lr)}; "
        f"{trained.schedule}; batch size {config.batch_size}, seed {config.seed}",
        "trained": f"{epochs}, {counted(trained.n_steps, 'update')} in {words.duration(trained.seconds)} on "
        f"{', then '.join(place.device for place in trained.places)}",
    }
    last = trained.epochs[-1]
    if trained.n_validation:
        val = words.accuracy(last.val_accuracy, trained.n_validation)
        rows["validation"] = (
            f"accuracy {val}, loss {words.number(last.val_loss)} on {counted(trained.n_validation, 'image')}"
        )
    if trained.search is not None:
        rows["search"] = _repeated(trained.search)
    if by_layer := words.layers(config, len(trained.network.levels) if trained.network is not None else 0):
        rows["layers"] = by_layer
    for name, text in rows.items():
        grid.add_row(name, Text(text))
    if test is not None:
        error = words.number(test.accuracy_error, 2)
        said = f"accuracy {words.accuracy(test.accuracy, test.n_images)} ± {error}, loss {words.number(test.loss)}"
        grid.add_row("test", Text(f"{said} on {counted(test.n_images, 'untouched image')}", style="bold"))
    grid.add_row("weights", Text(f"{folder / WEIGHTS}, described in {MODEL} beside it"))
    return Group(Text(head, style="bold"), Padding(grid, (0, 0, 0, 2), expand=False))


def _repeated(search: "Repeated") -> str:
    epochs = counted(search.n_epochs, "epoch")
    what = f"its {epochs} and its weights" if search.weights_sha256 else f"the {epochs} that it trained"
    if search.equal:
        return f"equal to the search bit for bit: {what}"
    return (
        f"not equal to the search in {what}, which ran on {search.place.device} with {search.place.versions}: bits "
        f"repeat on the same kind of machine, device, threads and versions only"
    )

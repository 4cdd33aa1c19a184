"""`lrsearch worker`: join a study on any machine, or serve every open study there is."""

import threading
import time
from contextlib import closing
from typing import Annotated

import typer

from lrsearch import loading
from lrsearch.cli import interrupts, log
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    DataDirOption,
    DeviceOption,
    StorageOption,
    ThreadsOption,
    no_url,
    place,
    quiet_optuna,
)
from lrsearch.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, StorageError
from lrsearch.trial import Reason


def worker(
    study: Annotated[
        str | None,
        typer.Option(
            "--study", metavar="NAME", callback=no_url, help="The study to work on; every open one if not given."
        ),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    artifacts: ArtifactsOption = None,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_trials: Annotated[int | None, typer.Option("--max-trials", min=1, help="Leave after so many trials.")] = None,
    max_hours: Annotated[
        float | None,
        typer.Option("--max-hours", min=0, help="Leave after so many hours; the trial in hand goes on elsewhere."),
    ] = None,
    exit_when_idle: Annotated[
        bool, typer.Option("--exit-when-idle", help="Leave when there is nothing to train now, instead of waiting.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for every event.")] = False,
) -> int:
    """Work: take trials of a study, or of every open study, until there is nothing more to do."""
    quiet_optuna()
    begun = time.monotonic()
    where = place(storage)
    from lrsearch.store import study as studies
    from lrsearch.store.keeper import Leave
    from lrsearch.store.storage import PATIENCE_SECONDS, open_early, open_existing

    leave, timer, time_is_up = Leave(), None, threading.Event()

    def leave_in_time() -> None:
        time_is_up.set()
        leave.ask(Reason.PREEMPTED)

    opened = (open_early if study is None else open_existing)(where, PATIENCE_SECONDS)
    with closing(opened) as database:
        if study is None and not quiet:
            log.remark(f"serving every open study in {where}", "0.0s =")
        if study is not None:
            # A slip of the keys is said before PyTorch is loaded.
            studies.get(database, study)
        # Loading takes seconds, and far more on a busy machine: who is asked to leave meanwhile ends at once, with
        # nothing in hand.
        from lrsearch import run
        from lrsearch.store import lease

        loading.load_pytorch()
        with interrupts.asked(leave):
            if max_hours is not None:
                timer = threading.Timer(3600 * max_hours, leave_in_time)
                timer.daemon = True
                timer.start()
            here = run.Here(device, threads, data_dir, progress=False)
            limits = run.Limits(max_trials, exit_when_idle=exit_when_idle)
            told = log.Events(begun, named=study is None, worker=str(lease.this_process()))
            try:
                with closing(run.serve(database, study, here, artifacts, leave, limits)) as stream:
                    for served, event in stream:
                        if not quiet:
                            told.tell(event, served.spec)
            except StorageError:
                # Asked to leave while the database did not answer.
                if not leave.asked:
                    raise
    if timer is not None:
        timer.cancel()
    if leave.reason is None or time_is_up.is_set():
        return EXIT_OK
    return EXIT_INTERRUPTED if leave.reason == Reason.INTERRUPTED else EXIT_TERMINATED

"""`lrsearch confirm`."""

from typing import Annotated

import typer

from lrsearch.cli import searching
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    ThreadsOption,
    WorkersOption,
    opened,
    place,
    storage_option,
    workers_of,
)
from lrsearch.cli.searching import Asked
from lrsearch.errors import EXIT_OK
from lrsearch.strategy.confirming import LEAST_SEEDS, MOST_SEEDS, SEEDS, TOP


def confirm(
    study: StudyArgument = None,
    top: Annotated[int, typer.Option("--top", min=1, max=20, help="So many of the best settings.")] = TOP,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            min=LEAST_SEEDS,
            max=MOST_SEEDS,
            help="At most so many fresh seeds a setting; fewer where it is decided.",
        ),
    ] = SEEDS,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="SETTING", help='What you have now: "sgd lr=0.1 cosine". Is it worse?'),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
    artifacts: ArtifactsOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    workers: WorkersOption = "1",
    detach: Annotated[
        bool, typer.Option("--detach", help="File what is to be confirmed for workers elsewhere, and return.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the verdict.")] = False,
) -> int:
    """Train the best settings with fresh seeds, and say which is best: better, worse or not distinguishable."""
    n = workers_of(workers)
    with opened(storage, to_read=False) as database:
        from lrsearch.store import study as studies
        from lrsearch.store import to_confirm

        found = studies.get(database, study)
        to_confirm.ask(found, top, seeds, against)
        spec = found.spec.model_copy(update={"budget": found.budget()})
    if detach:
        print(f"filed: workers of '{spec.name}' confirm it (lrsearch worker {spec.name})")
        return EXIT_OK
    asked = Asked(
        spec=spec,
        where=place(storage),
        storage_option=storage_option(storage),
        explicit_budget=False,
        explicit_workers=False,
        artifacts=artifacts,
        data_dir=data_dir,
        device=device,
        threads=threads,
        n_workers=n,
        workers_per_gpu=1,
        ray=None,
        gpus_per_worker=None,
        as_json=as_json,
        quiet=quiet,
        only_confirm=True,
    )
    return searching.search(asked)

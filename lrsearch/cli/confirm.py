"""`lrsearch confirm`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

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
    opened,
    place,
    print_json,
    stdout,
    storage_option,
)
from lrsearch.cli.search import WorkersOption, workers_of
from lrsearch.cli.searching import Asked
from lrsearch.errors import EXIT_OK, NothingFeasibleError, UsageError

if TYPE_CHECKING:
    from lrsearch.store.study import Study
    from lrsearch.strategy.confirming import Plan

TOP = 3
SEEDS = 10
MOST_SEEDS = 100


def confirm(
    study: StudyArgument = None,
    top: Annotated[int, typer.Option("--top", min=1, max=20, help="So many of the best settings.")] = TOP,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", min=3, max=MOST_SEEDS, help="At most so many fresh seeds a setting; fewer where it is decided."
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
        from lrsearch.store import confirmations
        from lrsearch.store import study as studies

        found = studies.get(database, study)
        plan = plan_of(found, top, seeds, against)
        if not any(trial.state == "complete" for trial in found.trials()):
            raise NothingFeasibleError(
                f"no trial of the study '{found.name}' was trained through: there is nothing to confirm"
            )
        confirmations.file(found, plan)
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


def plan_of(study: "Study", top: int, seeds: int, against: str | None) -> "Plan":
    """Return what is to be confirmed of a study.

    Raises:
        UsageError: the setting that is to be compared with cannot be read.
    """
    from lrsearch.store import portfolio
    from lrsearch.strategy.confirming import Plan, fresh_seeds

    spec = study.spec
    used = frozenset(trial.config.seed for trial in study.trials())
    other = None if against is None else replace(portfolio.any_setting("--against", against, spec), seed=0)
    return Plan(top, fresh_seeds(spec.seed, seeds, used), other)


def told(study: "Study", *, as_json: bool) -> int:
    """Print what was confirmed."""
    from lrsearch.gather import confirmed
    from lrsearch.report import confirmation

    found = confirmed(study)
    if found is None:
        raise UsageError(f"nothing of the study '{study.name}' was confirmed yet; `lrsearch confirm {study.name}` does")
    if as_json:
        print_json(confirmation.to_json(found, study.spec))
    else:
        stdout().print(confirmation.render(found, study.spec), crop=False)
    return EXIT_OK

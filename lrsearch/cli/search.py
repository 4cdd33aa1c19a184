"""`lrsearch run`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch.cli import ranging, searching
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    SetOption,
    StorageOption,
    ThreadsOption,
    WeightsOption,
    WorkersOption,
    no_url,
    place,
    print_json,
    quiet_optuna,
    stdout,
    storage_option,
    workers_of,
)
from lrsearch.cli.searching import Asked
from lrsearch.cli.usage import option_in
from lrsearch.errors import (
    EXIT_OK,
    UsageError,
)
from lrsearch.spec import file as study_file
from lrsearch.spec.deciding import KINDS
from lrsearch.spec.study import StudySpec
from lrsearch.store import named

if TYPE_CHECKING:
    from lrsearch.store.places import Place


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
    trainings: Annotated[
        float | None, typer.Option("--trainings", help="Total of epochs of the study, in whole trainings.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="Who decides: lr, or sampler (sampler and pruner).")
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option(
            "--stop",
            metavar="converged",
            help="End before the budget does, once the rest of it is expected to gain less than noise hides.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", envvar="LRSEARCH_EPOCHS", help="Epochs of every trial.")
    ] = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    train: Annotated[
        str | None,
        typer.Option(
            "--train",
            metavar="FILE.py:FUNCTION",
            help="Your own training loop in the place of data set and model; with --n-train or --steps-per-epoch.",
        ),
    ] = None,
    n_train: Annotated[
        int | None, typer.Option("--n-train", help="Training examples of an epoch of your own loop.")
    ] = None,
    steps_per_epoch: Annotated[
        str | None,
        typer.Option(
            "--steps-per-epoch",
            metavar="N|FILE.py:FUNCTION",
            help="Updates of an epoch of your own loop, or a function that returns them for a batch_size.",
        ),
    ] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="Who proposes settings, by name.")] = None,
    pruner: Annotated[str | None, typer.Option("--pruner", help="Who ends trials early, by name.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", envvar="LRSEARCH_SEED", help="Initial weights, batch order, sampler.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="SETTING", help='Your current setting, tried first: "sgd lr=0.1 cosine".'),
    ] = None,
    settings: SetOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
    artifacts: ArtifactsOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    workers: WorkersOption = "1",
    workers_per_gpu: Annotated[
        int, typer.Option("--workers-per-gpu", min=1, help="Workers that share a GPU, with --workers auto.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="auto|local|HOST:PORT|ray://HOST:PORT",
            help="Workers on a Ray cluster; auto: that of RAY_ADDRESS or this machine, else one that is started here.",
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-worker",
            min=0,
            help="GPUs of a worker, with --ray: 1 if the cluster has any; .5: two share one.",
        ),
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Then train the best settings with fresh seeds, and name the confirmed winner."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="File the study for workers elsewhere, print its name and return.")
    ] = False,
    range_test: Annotated[
        bool,
        typer.Option("--range-test", help="First bound the learning rates by sweeps, as lrsearch find does."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved study and its search space; do nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the answer.")] = False,
) -> int:
    """Search: file the study or resume it, train its trials here, and print the answer."""
    given: dict[str, object] = {
        "name": name,
        "trials": trials,
        "trainings": trainings,
        "strategy": strategy,
        "stop": stop,
        "epochs": epochs,
        "dataset": dataset,
        "model": model,
        "weights": weights,
        "train": train,
        "n_train": n_train,
        "steps_per_epoch": _number_or_name(steps_per_epoch),
        "sampler": sampler,
        "pruner": pruner,
        "seed": seed,
        "baseline": baseline,
    }
    overrides = [
        (study_file.OPTIONS.get(param, param), value, option_in(context, param))
        for param, value in given.items()
        if value is not None
    ]
    overrides += [(*study_file.parse_override(text), "--set") for text in settings or ()]
    _check_once(overrides)
    where = place(storage)
    options = {_key(path): option for path, _, option in overrides}
    spec = named.resolved(study, [(path, value) for path, value, _ in overrides], options, where)
    if dry_run:
        spec = ranging.untested(spec, where) if range_test else spec
        return _dry_run(searching.known(spec, threads, data_dir), where, as_json=as_json)
    n = workers_of(workers, workers_per_gpu, ray)
    _check_ray(ray, gpus_per_worker, workers_per_gpu, where, device, detach=detach)
    asked = Asked(
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
        ray=ray,
        gpus_per_worker=gpus_per_worker,
        as_json=as_json,
        quiet=quiet,
        confirm=confirm,
    )
    quiet_optuna()
    if range_test:
        asked = ranging.bounded(asked)
    return _detach(asked) if detach else searching.search(asked)


def _number_or_name(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def _check_once(overrides: list[tuple[str, object, str]]) -> None:
    """Refuse two values for one key by two options; of several ``--set`` the last holds, as everywhere."""
    seen: dict[str, tuple[object, str]] = {}
    for path, value, option in overrides:
        key = _key(path)
        before = seen.setdefault(key, (value, option))
        if before[0] != value and before[1] != option:
            raise UsageError(f"{key} must be given once, got {before[0]} by {before[1]} and {value} by {option}")


def _key(key: str) -> str:
    """Return the key for which another may stand: ``pruner`` is ``pruner.name``."""
    return f"{key}.name" if key in KINDS else key


def _check_ray(ray: str | None, gpus: float | None, per_gpu: int, where: "Place", device: str, *, detach: bool) -> None:
    if ray is None:
        if gpus is not None:
            raise UsageError("--gpus-per-worker goes with --ray; on this machine: --workers auto --workers-per-gpu N")
        return
    if detach:
        raise UsageError("--detach files the study for workers elsewhere, and --ray starts them: give one of the two")
    if per_gpu > 1:
        raise UsageError(f"with --ray a worker's part of a GPU is --gpus-per-worker {1 / per_gpu:.3g}")
    if gpus is not None and gpus > 1 and not gpus.is_integer():
        raise UsageError(f"--gpus-per-worker must be a whole number, or less than 1, got {gpus:g}")
    if ":" in device:
        raise UsageError(f"--device {device} names a device of one machine: with --ray give cuda, cpu or auto")
    from lrsearch.workers import ray_cluster

    ray_cluster.check(ray, where)


def _dry_run(spec: StudySpec, where: "Place", *, as_json: bool) -> int:
    quiet_optuna()
    from lrsearch.report import tables
    from lrsearch.spec import parameters
    from lrsearch.store import filing, portfolio

    initial = portfolio.initial(spec)
    if as_json:
        document = {"schema": "lrsearch/spec/1", "spec": spec.to_plain(), "identity": spec.identity_hash()}
        n = parameters.size(parameters.finite_space(spec))
        print_json(document | {"settings": n, "initial": [{"origin": i.origin, **i.params} for i in initial]})
    else:
        import tomlkit

        print(tomlkit.dumps(spec.to_plain()))
        stdout().print(tables.space_table(parameters.rows(spec.space)))
        if (said := searching.finite(spec)) is not None:
            print(said)
    # Last, so that what was asked for is seen; and it ends as the run would.
    filing.check_free(where, spec)
    return EXIT_OK


def _detach(asked: Asked) -> int:
    """File the study for workers elsewhere."""
    from lrsearch.store import filing

    asked = replace(asked, spec=searching.known(asked.spec, asked.threads, asked.data_dir))
    filing.check(asked.spec, asked.where)
    study = searching.file(asked)
    study.database.close()
    if asked.as_json:
        print_json({"schema": "lrsearch/filed/1", "study": study.name, "storage": str(asked.where)})
    else:
        print(study.name)
    return EXIT_OK

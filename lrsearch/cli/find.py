"""`lrsearch find`: a range test: sweeps of the learning rate that bound a search and leave nothing behind."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrsearch.cli import interrupts
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    SetOption,
    StorageOption,
    ThreadsOption,
    WeightsOption,
    no_url,
    place,
    print_json,
    quiet_optuna,
    stderr,
    stdout,
)
from lrsearch.errors import EXIT_OK, UsageError
from lrsearch.report.text_file import check_folder, write
from lrsearch.spec import file as study_file
from lrsearch.spec.study import StudySpec
from lrsearch.store import named

if TYPE_CHECKING:
    from lrsearch.analysis.range_bounds import Narrowing
    from lrsearch.analysis.range_test import Finding
    from lrsearch.find import SweepPlan
    from lrsearch.trial import RangeTest

CHARTS = (".png", ".svg")
"""How the name of a drawing ends."""


def find(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            callback=no_url,
            help="A study that ships with lrsearch, a study file, or a study of the database; the file of --apply.",
        ),
    ] = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    settings: SetOption = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=100, help="Sweeps of each optimizer; fewer than 3 suggest nothing.")
    ] = 5,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="[examples]; that of the study that is nearest to 64 if not given."),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option("--apply", metavar="FILE.toml", help="Write what is suggested into a study file, as its bounds."),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart",
            metavar="FILE.png|FILE.svg",
            help="Draw the sweeps into a file; of several optimizers one each, with its name.",
        ),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    data_dir: DataDirOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Range test: raise the learning rate in short trainings, and say between which a search is worth its trainings."""
    _check_files(apply, chart)
    given = {"dataset": dataset, "model": model, "weights": weights}
    keys = {study_file.OPTIONS[name]: value for name, value in given.items() if value is not None}
    options = {study_file.OPTIONS[name]: f"--{name}" for name in given}
    overrides: list[tuple[str, object]] = [*keys.items(), *map(study_file.parse_override, settings or ())]
    where = place(storage)
    named_study = str(apply) if study is None and apply is not None else study
    spec = named.resolved(named_study, overrides, options, where)
    quiet_optuna()
    from lrsearch import find as range_test

    spec, sweeps = made(spec, range_test.SweepPlan(seeds, batch_size), device, threads, data_dir)
    from lrsearch.analysis.range_test import findings

    found = findings(sweeps)
    narrowings = range_test.narrowings(spec, found)
    if as_json:
        from lrsearch.report import range_words

        print_json(range_words.to_json(_about(spec, sweeps), found, narrowings, sweeps))
    else:
        _print(spec, found, narrowings, sweeps)
    if chart is not None:
        _draw(chart, spec, sweeps)
    if apply is not None:
        _apply(apply, found)
    return EXIT_OK


def made(
    spec: StudySpec,
    plan: "SweepPlan",
    device: str,
    threads: int | None,
    data_dir: Path | None,
    *,
    quiet: bool = False,
) -> "tuple[StudySpec, list[RangeTest]]":
    """Make the sweeps of a study, and show how far they are; return the study with what is known of it by then."""
    from lrsearch import find as range_test

    range_test.check(spec)
    from lrsearch import run

    console, sweeps = stderr(), list["RangeTest"]()
    live = console.is_terminal and not console.is_dumb_terminal and not quiet
    n = len(spec.space.optimizers) * plan.n_seeds
    with interrupts.raised() as check:
        here = run.Here(device, threads, data_dir, progress=live)
        engine = run.prepare_images(spec, here, lambda what: console.status(f"{what} ...") if live else nullcontext())
        check()
        if not spec.is_known:
            spec = spec.fitted(engine.facts)
        with console.status("sweeping ...") if live else nullcontext() as status:
            for sweep in range_test.sweeps(spec, engine, plan):
                sweeps.append(sweep)
                if status is not None:
                    status.update(f"sweep {len(sweeps)} of {n}: {sweep.optimizer} ...")
    return spec, sweeps


def _check_files(apply: Path | None, chart: Path | None) -> None:
    if apply is not None and apply.suffix != ".toml":
        raise UsageError(f"--apply must name a study file, which ends in .toml, got '{apply}'")
    if apply is not None:
        study_file.load(str(apply))  # what is no study file is refused before anything is trained
    if chart is not None:
        if chart.suffix.lower() not in CHARTS:
            raise UsageError(f"--chart must name a file that ends in {' or '.join(CHARTS)}, got '{chart}'")
        check_folder(chart)


def _about(spec: StudySpec, sweeps: "Sequence[RangeTest]") -> dict[str, Any]:
    return {
        "study": spec.name,
        "dataset": spec.dataset.name,
        "model": spec.model.name,
        "batch_size": sweeps[0].batch_size,
        "device": sweeps[0].device,
        "versions": sweeps[0].versions,
        "seconds": sum(sweep.seconds for sweep in sweeps),
    }


def _print(
    spec: StudySpec,
    found: "Sequence[Finding]",
    narrowings: "Sequence[Narrowing]",
    sweeps: "Sequence[RangeTest]",
) -> None:
    from lrsearch.report import range_drawing, range_words, study_words
    from lrsearch.report.trace import WIDEST_CHART

    console = stdout()
    console.print(
        f"{study_words.trained(spec)}, batch size {sweeps[0].batch_size}: {range_words.cost(found)}",
        markup=False,
    )
    for finding in found:
        console.print()
        for drawn in range_drawing.drawing(finding, sweeps, min(console.width, WIDEST_CHART)):
            console.print(drawn)
    console.print(f"\n{range_drawing.KEY}\n", style="dim", markup=False)
    for line in range_words.lines(found, narrowings):
        console.print(line, markup=False)


def _draw(chart: Path, spec: StudySpec, sweeps: "Sequence[RangeTest]") -> None:
    from lrsearch.report.chart_file import write_pictures
    from lrsearch.report.chart_picture import pictures
    from lrsearch.report.range_figure import KEY, range_figures

    drawn = pictures(range_figures(sweeps), spec, ())
    alone = len(drawn) == 1
    files = [(chart if alone else chart.with_stem(f"{chart.stem}-{one.name.removeprefix(KEY)}"), one) for one in drawn]
    write_pictures(files, "svg" if chart.suffix.lower() == ".svg" else "png")
    print(f"wrote {', '.join(str(path) for path, _ in files)}", file=sys.stderr)


def _apply(path: Path, found: "Sequence[Finding]") -> None:
    """Write what is suggested into a study file, as far as it is within what that searches."""
    from lrsearch import find as range_test
    from lrsearch.report import range_words
    from lrsearch.spec.bounds_file import with_bounds

    narrowings = range_test.narrowings(study_file.load(str(path)), found)
    domains = {one.name: one.after for one in narrowings if one.changes}
    if domains:
        write(path, with_bounds(path, domains))
    print(f"{'wrote' if domains else 'nothing to write into'} {path}", file=sys.stderr)
    for one in narrowings:
        print(f"  {range_words.narrowing(one)}", file=sys.stderr)
    if not narrowings:
        print(
            f"  it searches with none of the optimizers swept: {', '.join(one.name for one in found)}", file=sys.stderr
        )

"""A range test of a study: sweeps with each of its optimizers, before anything is searched; and what they narrow."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lrsearch.analysis import range_bounds
from lrsearch.analysis.range_bounds import Narrowing
from lrsearch.analysis.range_test import Finding, findings, read
from lrsearch.domain import high_end, low_end
from lrsearch.errors import UsageError
from lrsearch.spec import parameters, starts
from lrsearch.spec.narrowing import as_filed
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import StudySpec
from lrsearch.store import lease, portfolio, range_tests
from lrsearch.store import study as studies
from lrsearch.store.opening import has_studies
from lrsearch.store.places import Place
from lrsearch.store.storage import Database
from lrsearch.trial import OptimizerName, RangeTest, ScheduleConfig, TrialConfig

if TYPE_CHECKING:
    from lrsearch.training.serial import SerialEngine

PER_DECADE = 20
"""Updates in which the learning rate becomes ten times as high. Slower sweeps see less of what a whole training can
bear, and faster ones are rougher: docs/decisions/0040-bound-a-search-by-sweeps.md."""
BEYOND = 10.0
"""Times the highest rate that an optimizer is searched with, up to which a sweep goes: an edge must be seen to be
believed, and where the loss has exploded the sweep ends anyway."""
LOWER = 2
"""How often the sweeps of an optimizer begin at a tenth of the rate, because the loss of the first fell at once:
networks that normalise by batch learn at very low rates. Elsewhere a longer way to the edge would find it lower."""
SEEDS = 5
"""Sweeps of each optimizer."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """How a range test is made."""

    n_seeds: int = SEEDS
    batch_size: int | None = None
    """[examples]; None: of those that the study searches, the one nearest to 64."""


def check(spec: StudySpec) -> None:
    """Make sure that lrsearch trains the study itself, so that it can raise its learning rate update by update.

    Raises:
        UsageError: a person's own loop does.
    """
    if spec.loop is not None:
        raise UsageError(
            f"a range test raises the learning rate at every update of trainings by lrsearch, and the study "
            f"'{spec.name}' is trained by a loop of your own, {spec.loop.name}: bound its search by --set "
            f"'space.optimizer.NAME.peak_lr={{ low = .., high = .., log = true }}'"
        )


def ends(spec: StudySpec, optimizer: OptimizerName) -> tuple[float, float]:
    """Return the first and the last learning rate of a sweep: beyond what is searched, and what it is by default."""
    asked, default = spec.space.optimizers[optimizer]["peak_lr"], OPTIMIZERS[optimizer].fields["peak_lr"].default
    return min(map(low_end, (asked, default))), BEYOND * max(map(high_end, (asked, default)))


def setting(spec: StudySpec, optimizer: OptimizerName, plan: SweepPlan) -> TrialConfig:
    """Return what is swept: a setting of the study with the optimizer, everything else at its neutral value.

    Raises:
        UsageError: a batch would be larger than all training images.
    """
    config = parameters.config(spec, starts.neutral(spec.space, optimizer))
    if plan.batch_size is not None:
        if plan.batch_size > spec.facts.n_train:
            raise UsageError(
                f"--batch-size must be at most the {spec.facts.n_train} training images, got {plan.batch_size}"
            )
        config = replace(config, batch_size=plan.batch_size)
    # The sweep brings its own rates; a schedule that waits for validation losses would only be in its way.
    return replace(config, schedule=ScheduleConfig("constant"), epochs=1, seed=spec.seed)


def sweeps(spec: StudySpec, engine: "SerialEngine", plan: SweepPlan) -> Iterator[RangeTest]:
    """Make the sweeps, of one optimizer after another.

    Raises:
        UsageError: a batch would be larger than all training images.
        DeviceError: the device cannot compute as the study asks.
    """
    from lrsearch.training import range_test, settling

    if spec.facts.arithmetic is None and spec.training.leaves_open:
        largest = int(high_end(spec.space.batch_size))
        settling.follow(engine, spec, settling.settle(engine, spec.training, largest), is_settled=False)
    worker = str(lease.this_process())
    for optimizer in spec.space.optimizers:
        config, (low, high) = setting(spec, optimizer, plan), ends(spec, optimizer)
        rates = range_test.rising(low, high, PER_DECADE)
        first = range_test.sweep(engine, config, rates)
        for _ in range(LOWER):
            if not read(first).falls_at_once:
                break
            low /= 10
            rates = range_test.rising(low, high, PER_DECADE)
            again = range_test.sweep(engine, config, rates)
            first = replace(again, seconds=first.seconds + again.seconds)  # what it took to find out counts too
        yield replace(first, worker=worker)
        for seed in range(spec.seed + 1, spec.seed + plan.n_seeds):
            yield replace(range_test.sweep(engine, replace(config, seed=seed), rates), worker=worker)


def narrowings(spec: StudySpec, found: Sequence[Finding]) -> tuple[Narrowing, ...]:
    """Return what a range test leaves of the study's learning rates; that of its baseline stays in.

    Raises:
        UsageError: the baseline cannot be read or lies outside the space.
    """
    kept: dict[OptimizerName, float] = {}
    if spec.baseline is not None:
        config = parameters.config(spec, portfolio.parse_baseline(spec.baseline, spec.space))
        kept[config.optimizer.name] = config.optimizer.peak_lr
    return range_bounds.narrowings(spec, found, kept)


def resumed(spec: StudySpec, place: Place) -> StudySpec | None:
    """Return a study that is filed with range tests between the learning rates that these left; None: it is not filed.

    Raises:
        UsageError: it is filed without any, so that its learning rates stay as they are.
    """
    if not has_studies(place):
        return None
    with closing(Database(place)) as database:
        study = studies.find(database, spec.name)
        if study is None:
            return None
        if not range_tests.of(study):
            raise UsageError(
                f"the study '{spec.name}' in {place} was filed without a range test, and a filed study keeps its "
                f"space: leave --range-test out to go on with it, or add a --name to start a study of its own"
            )
        return as_filed(spec, study.spec)


def narrowed(spec: StudySpec, made: Sequence[RangeTest]) -> tuple[StudySpec, tuple[Narrowing, ...]]:
    """Return the study between the learning rates that its sweeps leave, and what became of each optimizer's."""
    found = narrowings(spec, findings(made))
    return range_bounds.bounded(spec, found), found

"""File a study, or find it again and bring its budget up to date."""

import logging
import uuid
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from optuna.study import StudyDirection

from lrsearch.errors import IdentityError, UsageError
from lrsearch.spec import parameters
from lrsearch.spec.deciding import BudgetSpec, GridSpec
from lrsearch.spec.narrowing import as_filed
from lrsearch.spec.study import StudySpec, differences
from lrsearch.store import budget as budgets
from lrsearch.store import homes, known, lease, leftovers, optuna_rows, portfolio, priors, range_tests, tables
from lrsearch.store import study as studies
from lrsearch.store.artifacts import Artifacts, default_for
from lrsearch.store.homes import ID_ATTR, SPEC_ATTR
from lrsearch.store.opening import check_new, has_studies, study_names
from lrsearch.store.places import Place
from lrsearch.store.storage import PATIENCE_SECONDS, Database
from lrsearch.store.study import Study, find
from lrsearch.store.tables import now
from lrsearch.strategy.view import ENOUGH
from lrsearch.trial import RangeTest, State
from lrsearch.version import __version__

log = logging.getLogger(__name__)

METRIC_NAMES_ATTR = "study:metric_names"
"""Optuna's own: where ``Study.set_metric_names`` keeps them."""


def check_free(place: Place, spec: StudySpec) -> None:
    """Make sure that the spec could be filed or resumed at the place, without changing anything.

    Raises:
        IdentityError: another study has the name.
        UsageError: a study that is not lrsearch's has the name.
        StorageError: no studies can be kept there.
    """
    check_new(place)
    taken = study_names(place)
    if spec.name not in taken:
        return
    if not has_studies(place):
        raise _not_ours(place, spec.name, taken)
    with closing(Database(place)) as database:
        existing = find(database, spec.name)
        if existing is None:
            raise _not_ours(place, spec.name, taken)
        existing.check_original()
        check_identity(existing, spec)


def check_identity(study: Study, spec: StudySpec) -> None:
    """Make sure that a spec is that of the study, or that the study came to nothing, so that it may take its place.

    Raises:
        IdentityError: it is another one under the same name; with the differences and a free name.
    """
    changed = _changed(study, spec)
    if not changed or study.database.read(lambda connection: _came_to_nothing(connection, study)):
        return
    free = _free_name(study.name, study_names(study.database.place))
    why = "Its trials cannot be compared with these: add"
    if range_tests.of(study) and not _changed(study, as_filed(spec, study.spec)):
        why = "A range test has narrowed it: add --range-test to go on with it, or"
    raise IdentityError(
        f"the study '{study.spec.name}' in {study.database.place} is another one: {changed}. "
        f"{why} --name {free} to start a study of its own"
    )


def _changed(study: Study, spec: StudySpec) -> str:
    """Return in words what makes a spec another study; empty where it is the same."""
    changed = differences(study.spec, spec.like(study.spec))
    shown = "; ".join(f"{key} is {_show(there)} there and {_show(here)} here" for key, there, here in changed[:4])
    return shown + (f"; and {len(changed) - 4} more" if len(changed) > 4 else "")


def _came_to_nothing(connection: sa.Connection, study: Study) -> bool:
    """Whether trials of a study were begun, and nothing of any of them is kept, in work, or asked for.

    So stands what a training loop of one's own could not be trained with, for example as an epoch of it is longer than
    was said. A study for which nothing was begun waits for its workers.
    """
    slots, epochs = tables.slots, tables.epochs
    begun = connection.execute(sa.select(slots.c.outcome, slots.c.checkpoint).where(slots.c.study_id == study.id)).all()
    return (
        bool(begun)
        and not any(row.checkpoint or (row.outcome is not None and State(row.outcome).counts) for row in begun)
        and connection.execute(sa.select(epochs.c.epoch).where(epochs.c.study_id == study.id).limit(1)).first() is None
        and not lease.held(connection, study.id)
        and not optuna_rows.waiting(connection, study.optuna_id)
    )


def _make_room(found: Study, spec: StudySpec) -> bool:
    """Delete a study that came to nothing and is another one than the spec; return whether it was."""
    changed = _changed(found, spec)

    def work(connection: sa.Connection) -> bool:
        # First, for SQLite: a transaction begins with what writes.
        there = budgets.lock(connection, found.id) is not None
        if not (there and found.home.check(connection) and _came_to_nothing(connection, found)):
            return False
        homes.sweep(connection, found.id)
        optuna_rows.delete_study(connection, found.optuna_id)
        return True

    if not (changed and found.copy_of is None and found.database.write(work)):
        return False
    log.warning(
        "the study '%s' in %s was another one (%s), and no trial of it came as far as an epoch: this takes its place",
        found.spec.name,
        found.database.place,
        changed,
    )
    return True


def create(
    database: Database, spec: StudySpec, artifacts: str | None = None, sweeps: Sequence[RangeTest] = ()
) -> Study:
    """Return the study of the spec, made with its range tests if there is none of that name yet.

    Raises:
        IdentityError: another study has the name.
        UsageError: a study that is not lrsearch's has the name.
    """
    found = find(database, spec.name)
    if found is None or _make_room(found, spec):
        taken_over = priors.of_others(database, spec)
        # In one transaction: several processes may file the same study at once, and any of them may be killed.
        with database.writing() as connection:
            study_id = str(uuid.uuid4())
            made = optuna_rows.create_study(
                connection,
                spec.name,
                StudyDirection[spec.metric.direction.upper()],
                {SPEC_ATTR: spec.to_json(), ID_ATTR: study_id},
                {METRIC_NAMES_ATTR: [f"validation {spec.metric.label}"]},
            )
            if made:
                connection.execute(
                    tables.studies.insert().values(
                        id=study_id,
                        **budgets.columns(spec.budget),
                        revision=0,
                        created_at=now(),
                        version=__version__,
                        artifacts=artifacts,
                        facts=None if (facts := spec.measured_facts) is None else studies.facts_json(facts),
                        optuna_id=homes.carriers(connection, study_id)[0],
                    )
                )
                range_tests.file(connection, study_id, sweeps)
                known.add(connection, study_id, "prior", taken_over)
        found = find(database, spec.name)
    if found is None:
        raise _not_ours(database.place, spec.name, study_names(database.place))
    found.check_original()
    check_identity(found, spec)
    return found


def _free_name(name: str, taken: Collection[str]) -> str:
    n = 2
    while f"{name}-{n}" in taken:
        n += 1
    return f"{name}-{n}"


def _not_ours(place: Place, name: str, taken: Collection[str]) -> UsageError:
    return UsageError(
        f"{place} holds an Optuna study '{name}' that lrsearch did not make, or a copy without what lrsearch "
        f"knows of it: add --name {_free_name(name, taken)}"
    )


def _show(value: object) -> str:
    return "absent" if value is None else str(value)


N = TypeVar("N", int, float)


def check(spec: StudySpec, place: Place) -> None:
    """Refuse what cannot be run, before anything is loaded or written.

    Raises:
        UsageError: the baseline does not fit the space, another study has the name, the prior is none, or the grid
            is too large.
        StorageError: no database can be at the place.
    """
    portfolio.initial(spec)
    if isinstance(spec.sampler, GridSpec) and parameters.size(parameters.finite_space(spec)) is None:
        raise UsageError(
            f"sampler.points = {spec.sampler.points} makes a grid of more than {parameters.LARGEST_FINITE:,} settings: "
            f"name fewer points, optimizers or schedules, or another sampler"
        )
    check_free(place, spec)
    priors.check(place, spec)


def file_study(
    spec: StudySpec,
    place: Place,
    *,
    explicit_budget: bool,
    explicit_workers: bool = False,
    artifacts: str | None = None,
    sweeps: Sequence[RangeTest] = (),
    only_confirm: bool = False,
) -> Study:
    """Return the study, made if there is none of that name yet, its budget brought up to date; it may go on again.

    A budget that was asked for holds; otherwise the one that stands is kept, or raised to that of the study file.
    Settings of the workers that were asked for hold for those that start from now on. The range tests ``sweeps`` are
    kept with a study that is made. A search that has converged goes on unless its budget is asked once more to end so;
    with ``only_confirm`` nothing is searched, and it stays as it is.
    """
    with ExitStack() as on_error:
        database = on_error.enter_context(closing(Database(place, PATIENCE_SECONDS)))
        leftovers.sweep(database)
        study = create(database, spec, None if artifacts is None else _anywhere(artifacts), sweeps)
        studies.check_version(study)
        stands, asked = study.budget(), spec.budget
        has_converged = study.database.read(lambda c: budgets.stopped(c, study.id)) == ENOUGH
        if not explicit_budget:
            asked = BudgetSpec(
                trials=_larger(stands.trials, asked.trials),
                hours=_larger(stands.hours, asked.hours),
                trainings=_larger(stands.trainings, asked.trainings),
                max_failures=max(stands.max_failures, asked.max_failures),
                stop=asked.stop or (None if has_converged else stands.stop),
            )
        if asked != stands:
            study.set_budget(asked)
        if explicit_workers and study.spec.workers != spec.workers:
            study = study.with_workers(spec.workers)
        if not (only_confirm and has_converged):
            study.stop(None)
        on_error.pop_all()
    return study


def artifacts_of(study: Study, named: str | None = None, *, to_read: bool = False) -> Artifacts:
    """Return the artifact store: the one that is named here, that of the study, or the default of its database.

    With ``to_read`` it need not be writable, nor there.

    Raises:
        StorageError: it cannot be written.
        UsageError: it is none.
    """
    return Artifacts(named or study.artifacts_at() or default_for(study.database.place), to_read=to_read)


def _anywhere(artifacts: str) -> str:
    """Return a folder as it is named from any working directory."""
    return artifacts if "://" in artifacts else str(Path(artifacts).absolute())


def _larger(stands: N | None, asked: N | None) -> N | None:
    return stands if asked is None else asked if stands is None else max(stands, asked)
